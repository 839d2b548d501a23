"""Uploaded images: what is no PNG or JPEG, or is too large, is refused before it is decoded."""

import io
from typing import Any

import numpy as np

from tfvae.datasets.options import BACKGROUND
from tfvae.datasets.pictures import decode_files
from tfvae.datasets.values import ValueRange
from tfvae.errors import InputError

MAX_BYTES = 10 * 2**20
MAX_PIXELS = 2**24
# Of a picture; a million pixels in a row cost as much to resize as a whole photograph.
MAX_SIDE = 2**14

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
JPEG_SIGNATURE = b"\xff\xd8\xff"


def decode_image(
    data: bytes,
    image_shape: tuple[int, int, int],
    *,
    binarize: bool = False,
    max_bytes: int = MAX_BYTES,
    max_pixels: int = MAX_PIXELS,
    background: str = BACKGROUND,
    value_range: ValueRange | None = None,
) -> np.ndarray:
    """Decode an uploaded image as the images of a data set are decoded.

    The format is told by the first bytes, whatever the file's name; the size by the header. Of a
    colour image a model of grey ones takes the luminance. An image of another size is resized, and
    one of another proportion stretched.

    Args:
        data: the file's content.
        image_shape: `(H, W, C)` of the model's images.
        binarize: whether the model's images have pixels of 0 and 1 alone: then they are cut at
            one half.
        max_bytes: a file may have no more.
        max_pixels: an image may have no more.
        background: the colour under a transparent image, as in the data set.
        value_range: the values that become 0 and 1, as in the data set.

    Returns:
        float32 `[H, W, C]` in [0, 1].

    Raises:
        InputError: if it is no PNG or JPEG, too large or damaged, or the model's images have
            neither one channel nor three.
    """
    height, width, channels = image_shape
    if channels not in (1, 3):
        raise InputError(
            f"the model takes images of {channels} channels; a PNG or JPEG gives it 1 or 3"
        )
    if len(data) > max_bytes:
        raise InputError(
            f"expected a file of at most {max_bytes / 2**20:g} MiB; received "
            f"{len(data) / 2**20:.1f} MiB: make the image smaller"
        )
    columns, rows = _size(data)
    if not 0 < columns * rows <= max_pixels:
        raise InputError(
            f"expected an image of at most {max_pixels:,} pixels; received {columns:,} x "
            f"{rows:,}: make it smaller"
        )
    if max(columns, rows) > MAX_SIDE:
        raise InputError(
            f"expected an image of at most {MAX_SIDE:,} pixels a side; received {columns:,} x "
            f"{rows:,}: make it smaller"
        )
    (pixels,) = decode_files(
        [("the file", data)],
        channels,
        (height, width),
        background=background,
        value_range=value_range,
    )
    image = pixels.astype(np.float32) / 255
    return (image > 0.5).astype(np.float32) if binarize else image


def _size(data: bytes) -> tuple[int, int]:
    """Return width and height from the header alone."""
    from PIL import JpegImagePlugin, PngImagePlugin

    reader: Any
    if data.startswith(PNG_SIGNATURE):
        reader = PngImagePlugin.PngImageFile
    elif data.startswith(JPEG_SIGNATURE):
        reader = JpegImagePlugin.JpegImageFile
    else:
        begins = data[:4].hex(" ") or "nothing"
        raise InputError(f"expected a PNG or JPEG file; received one that begins with {begins}")
    try:
        # Not Image.open, which warns of large images in many lines before it can be asked.
        with reader(io.BytesIO(data)) as image:
            return image.size
    except Exception as error:  # Pillow raises many kinds for a damaged file.
        raise InputError("the file's header is damaged: choose another file") from error
