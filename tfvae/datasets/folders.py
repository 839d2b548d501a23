"""Folders of image files."""

import contextlib
import io
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from tfvae.datasets.source import Batch, Size, Source, dimensions, first_line, progress_bar
from tfvae.errors import InputError

# Pillow lets other threads run while it decodes. No thread starts before it is needed.
_DECODERS = ThreadPoolExecutor(min(8, os.cpu_count() or 1), "decoder")


def image_folder(folder: Path, size: Size | None) -> Source:
    """Return the source of a folder of PNG and JPEG files."""
    suffixes = (".png", ".jpg", ".jpeg")
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in suffixes)
    if not files:
        raise InputError(f"{folder} holds no PNG, JPEG or IDX files")
    # Headers alone are read here, so that what does not fit is found before any image is decoded.
    modes, sizes = [], []
    with progress_bar(f"{folder}: headers", len(files)) as bar:
        for path in files:
            with opened(path, str(path)) as image:
                modes.append(image.mode)
                sizes.append((image.height, image.width))
            bar.update()
            if size is None and sizes[-1] != sizes[0]:
                raise InputError(
                    f"the images of {folder} differ in size: {files[0].relative_to(folder)} is "
                    f"{dimensions(sizes[0])} and {path.relative_to(folder)} is "
                    f"{dimensions(sizes[-1])} (height x width): give one with --image-size"
                )
    is_grey = all(mode in ("1", "L", "LA") or mode.startswith("I") for mode in modes)
    shape = (*(size or sizes[0]), 1 if is_grey else 3)
    tops = [path.relative_to(folder).parts[0] for path in files if path.parent != folder]
    num_classes = len(set(tops)) if len(tops) == len(files) and len(set(tops)) > 1 else None
    labels = np.unique(tops, return_inverse=True)[1].astype(np.int32)

    def read(rows: np.ndarray) -> Batch:
        contents = [(str(files[row]), files[row]) for row in rows]
        return decode_files(contents, shape[2], size), None if num_classes is None else labels[rows]

    return Source(str(folder), shape, np.dtype(np.uint8), {"train": len(files)}, num_classes, read)


@contextlib.contextmanager
def opened(content: Path | bytes, described: str) -> Iterator[Any]:
    """Open an encoded image; whatever goes wrong with it is an InputError that names it."""
    from PIL import Image

    file = io.BytesIO(content) if isinstance(content, bytes) else content
    try:
        # Pillow tells formats by their signature and reads dozens; we promise these two.
        with Image.open(file, formats=("PNG", "JPEG")) as image:
            yield image
    except Exception as error:  # Pillow raises many kinds for a damaged file.
        raise InputError(
            f"{described} is not a readable PNG or JPEG image: {first_line(error)}"
        ) from error


def decode_files(
    contents: list[tuple[str, Path | bytes]], channels: int, size: Size | None
) -> np.ndarray:
    """Decode images to bytes `[n, H, W, channels]`."""
    from PIL import Image

    def decode(described: str, content: Path | bytes) -> np.ndarray:
        with opened(content, described) as image:
            if image.mode.startswith("I"):
                # 16 bits, which Pillow's own conversion to 8 would clip.
                image = Image.fromarray((np.asarray(image) // 257).astype(np.uint8))  # noqa: PLW2901
            pixels = np.asarray(image.convert("L" if channels == 1 else "RGB"))
        return resized(pixels.reshape(*pixels.shape[:2], channels), size)

    # Handing a small image to another thread takes as long as to decode it: hand over several.
    parts = [contents[start : start + 16] for start in range(0, len(contents), 16)]
    decoded = _DECODERS.map(lambda part: [decode(*content) for content in part], parts)
    return np.stack([image for part in decoded for image in part])


def resized(pixels: np.ndarray, size: Size | None) -> np.ndarray:
    """Resize an image `[h, w, C]` of bytes or float32.

    Neither filter leaves the range of the values, as sharper ones do: intensities stay in [0, 1].
    Shrinking, the box averages just the area that a pixel covers.
    """
    if size is None or pixels.shape[:2] == size:
        return pixels
    from PIL import Image

    height, width = size
    shrinks = height <= pixels.shape[0] and width <= pixels.shape[1]
    sampling = Image.Resampling.BOX if shrinks else Image.Resampling.BILINEAR
    maps = [
        np.asarray(Image.fromarray(np.ascontiguousarray(plane)).resize((width, height), sampling))
        for plane in np.moveaxis(pixels, -1, 0)
    ]
    return np.stack(maps, axis=-1)
