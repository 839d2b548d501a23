"""How a picture was held when it was taken, which its EXIF block tells, and turning it upright."""

import struct
from typing import Any, BinaryIO

import numpy as np

_TAG = 0x0112
_SHORT = 3


def exif_orientation(block: bytes) -> int:
    """Return the orientation, 1 to 8, that an EXIF block tells; 1, upright, if it tells none.

    Args:
        block: from its byte order, "II" or "MM", on.
    """
    order = {b"II": "<", b"MM": ">"}.get(block[:2])
    if order is None or len(block) < 8:
        return 1
    (start,) = struct.unpack_from(f"{order}I", block, 4)
    if start + 2 > len(block):
        return 1
    (count,) = struct.unpack_from(f"{order}H", block, start)
    for place in range(start + 2, min(start + 2 + 12 * count, len(block) - 11), 12):
        tag, kind, _, value = struct.unpack_from(f"{order}HHIH", block, place)
        if (tag, kind) == (_TAG, _SHORT):
            return value if 1 <= value <= 8 else 1
    return 1


def orientation_of(image: Any, file: BinaryIO) -> int:
    """Return the orientation of an opened Pillow image that Pillow has not applied itself.

    Args:
        image: the image.
        file: what it was opened from.
    """
    if image.format == "PNG":
        return exif_orientation(_png_exif(file))
    # Pillow turns a TIFF upright as it reads it; the other formats have no such block.
    if image.format in ("JPEG", "MPO", "WEBP"):
        return exif_orientation(image.info.get("exif", b"").removeprefix(b"Exif\0\0"))
    return 1


def turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Return an image `[h, w, ...]` upright; its sides change places from orientation 5 on."""
    if orientation >= 5:
        pixels = np.swapaxes(pixels, 0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels


def _png_exif(file: BinaryIO) -> bytes:
    """Return the EXIF block of a PNG file, which may come after the pixels; empty without."""
    place = file.tell()
    try:
        file.seek(8)
        while len(head := file.read(8)) == 8:
            length, kind = struct.unpack(">I4s", head)
            if kind == b"eXIf":
                return file.read(length)
            file.seek(length + 4, 1)
        return b""
    finally:
        file.seek(place)
