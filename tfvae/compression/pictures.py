"""Folders of pictures as arrays of bytes, and back."""

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from tfvae.errors import InputError
from tfvae.saving.files import new_directory
from tfvae.typing import Shape

# Which pictures have no more than so many channels of bytes.
_MODES = {1: ("1", "L"), 3: ("RGB",)}
# Names of Windows' devices and drives, and characters that it has no files with.
_NOT_A_NAME = re.compile(r'[\x00-\x1f<>:"\\|?*]')


def pixels(folder: Path, names: Sequence[str], event_shape: Shape) -> np.ndarray:
    """Read the pixels of picture files as they are, uint8 `[N, H, W, C]`.

    A picture that says how it is to be turned is turned.

    Args:
        folder: where they lie.
        names: of the files.
        event_shape: (H, W, C) of the model.

    Raises:
        InputError: if a picture has another size or more than bytes of so many channels, which a
            model of this shape cannot keep.
    """
    height, width, channels = event_shape
    modes = _MODES.get(channels, ())
    found = np.empty((len(names), height, width, channels), np.uint8)
    for row, name in enumerate(names):
        try:
            with Image.open(folder / name) as file:
                picture = ImageOps.exif_transpose(file)
                mode, size = picture.mode, (picture.height, picture.width)
                if mode not in modes or "transparency" in file.info:
                    raise InputError(
                        f"the model keeps pictures of {channels} channels of bytes, and {name} is "
                        f"of another kind ({mode}): convert it"
                    )
                if size != (height, width):
                    raise InputError(
                        f"the model keeps pictures of {height}x{width}, and {name} has "
                        f"{size[0]}x{size[1]}: resized ones would not come back"
                    )
                if mode == "1":
                    picture = picture.convert("L")
                found[row] = np.asarray(picture).reshape(event_shape)
        except (UnidentifiedImageError, OSError) as error:
            raise InputError(f"{folder / name} cannot be read as a picture: {error}") from error
    return found


def png_name(name: str) -> str:
    """Return the name of the PNG file that a picture comes back as."""
    return name if name.lower().endswith(".png") else f"{name}.png"


def write_folder(
    out: Path, images: np.ndarray, names: Sequence[str], *, replace: bool = False
) -> None:
    """Write pictures into a folder of PNG files.

    Args:
        out: the folder to make.
        images: uint8 `[N, H, W, C]` with 1 or 3 channels.
        names: of the files; those of no PNG files end in .png beside.
        replace: whether what is at `out` may be replaced.

    Raises:
        InputError: if a name leads out of the folder, or something is at `out`.
    """
    for name in names:
        parts = PurePosixPath(name).parts
        if not parts or name.startswith("/") or ".." in parts or _NOT_A_NAME.search(name):
            raise InputError(f"the file names a picture {name!r}, which is no name in a folder")
    with new_directory(out, replace=replace) as partial:
        for image, name in zip(images, names, strict=True):
            path = partial / png_name(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(path)
