"""Picture files: from PNG, JPEG, TIFF and others to bytes of one shape."""

import contextlib
import dataclasses
import io
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np

from tfvae.datasets.options import BACKGROUND
from tfvae.datasets.orientation import orientation_of, turned
from tfvae.datasets.source import Size
from tfvae.datasets.text import first_line
from tfvae.datasets.values import ValueRange, inferred_range, scaled_to_bytes, settled
from tfvae.errors import InputError

Content = Path | bytes

# The formats that are read, by the names of their files.
SUFFIXES = {
    "PNG": (".png",),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "TIFF": (".tif", ".tiff"),
    "BMP": (".bmp",),
    "WEBP": (".webp",),
    "GIF": (".gif",),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
}
_COLOURS = {"white": (255, 255, 255), "black": (0, 0, 0)}
_OF_SUFFIX = {suffix: kind for kind, suffixes in SUFFIXES.items() for suffix in suffixes}
# Pillow lets other threads run while it decodes. No thread starts before it is needed.
_DECODERS = ThreadPoolExecutor(min(8, os.cpu_count() or 1), "decoder")
_T = TypeVar("_T")


@dataclasses.dataclass(frozen=True)
class Header:
    """What is known of a picture before it is decoded.

    Attributes:
        size: height and width, upright.
        is_grey: whether one channel holds it.
        bits: of a channel, 8 or 16, where the range of its values can be in doubt; else None.
        is_deep_colour: whether several channels have 16 bits, of which the upper 8 are read.
        has_alpha: whether it may be transparent in places.
    """

    size: Size
    is_grey: bool
    bits: int | None
    is_deep_colour: bool = False
    has_alpha: bool = False


def is_picture(name: str) -> bool:
    """Return whether a file's name is that of a picture that can be read."""
    return os.path.splitext(name)[1].lower() in _OF_SUFFIX  # noqa: PTH122


def colour(background: str) -> tuple[int, int, int]:
    """Return the bytes of a colour: "white", "black" or "#rrggbb".

    Raises:
        InputError: if it is no such colour.
    """
    if background in _COLOURS:
        return _COLOURS[background]
    if not re.fullmatch("#[0-9a-fA-F]{6}", background):
        raise InputError(
            f"a background is white, black or a colour like #80c0ff; received {background!r}"
        )
    red, green, blue = bytes.fromhex(background[1:])
    return red, green, blue


def read_header(content: Content, described: str, background: str = BACKGROUND) -> Header:
    """Return what a picture's header tells.

    Raises:
        InputError: if it is damaged, or holds several pictures.
    """
    with _opened(content, described) as (image, file):
        frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
        if frames > 1:
            raise InputError(
                f"{described} holds {frames} pictures, as an animation does: save one, or each, "
                "as a file of its own"
            )
        height, width = image.height, image.width
        if orientation_of(image, file) >= 5:
            height, width = width, height
        red, green, blue = colour(background)
        has_alpha = image.mode in ("LA", "La") or _layout(image).startswith("LA;")
        is_grey = has_alpha or image.mode in ("1", "L") or image.mode.startswith(("I", "F"))
        if has_alpha or "transparency" in image.info:
            is_grey = is_grey and red == green == blue
        bits = {"L": 8, "RGB": 8}.get(image.mode, 16 if image.mode.startswith("I") else None)
        is_deep = _is_deep_colour(image)
        may_be_seen_through = (
            has_alpha or "transparency" in image.info or image.mode in ("RGBA", "RGBa", "PA")
        )
        bits = None if is_deep else bits
        return Header((height, width), is_grey, bits, is_deep, may_be_seen_through)


def check_pixels(content: Content, described: str) -> None:
    """Decode a picture to find out whether it can be.

    Raises:
        InputError: if it cannot.
    """
    with _opened(content, described) as (image, _):
        image.load()


def range_of(
    described: str,
    headers: Sequence[Header],
    content: Callable[[int], tuple[str, Content]],
) -> ValueRange | None:
    """Return the range of values that pictures tell; None where it is all that their types hold.

    Pictures are decoded until one settles it, mostly the first.

    Args:
        described: where they come from, for the message.
        headers: of all of them.
        content: returns what a picture is called and its file.

    Raises:
        InputError: if they may as well have fewer bits than their type, or do not agree.
    """

    def largest_of(rows: list[int], bits: int, step: int = 1) -> float:
        largest = 0.0
        for row in rows:
            name, data = content(row)
            with _opened(data, name) as (image, _):
                values = np.asarray(image)
                # All but alpha, which tells nothing of them.
                values = values[..., :3] if values.ndim == 3 else values
                largest = max(largest, float(values.max()) * step)
            if settled(largest, bits):
                break
        return largest

    deep = [row for row, header in enumerate(headers) if header.is_deep_colour]
    if deep and not settled(largest_of(deep, 16, 256), 16):
        raise InputError(
            f"{described}: expected colours of 16 bits a channel, but none reaches a quarter of "
            "65535: save them with 8 bits a channel, or give value_range=(0, 65535) if they are "
            "meant to be dark"
        )
    ranges = {}
    for bits in (8, 16):
        rows = [row for row, header in enumerate(headers) if header.bits == bits]
        if rows:
            largest = largest_of(rows, bits)
            where = f"{described} ({bits}-bit pictures)"
            found = inferred_range(where, min(largest, 2**bits - 1), bits)
            ranges[bits] = None if found == (0, 2**bits - 1) else found
    if len(set(ranges.values())) > 1:
        raise InputError(
            f"{described} holds 8-bit and 16-bit pictures whose values go to different numbers: "
            "give value_range=(LOWEST, HIGHEST)"
        )
    return next(iter(ranges.values()), None)


def decode_files(
    contents: Sequence[tuple[str, Content]],
    channels: int,
    size: Size | None,
    *,
    background: str = BACKGROUND,
    value_range: ValueRange | None = None,
) -> np.ndarray:
    """Decode pictures to bytes `[n, H, W, channels]`.

    Args:
        contents: what each is called, and its file.
        channels: 1 for luminance, 3 for colours.
        size: to resize them to.
        background: the colour that shows where a picture is transparent.
        value_range: what becomes 0 and 255 of pictures of whole numbers or floating point; by
            default all that the type of a whole number holds.

    Raises:
        InputError: if one is damaged or cannot be shown as bytes.
    """
    under = colour(background)

    def decode(described: str, content: Content) -> np.ndarray:
        with _opened(content, described) as (image, file):
            orientation = orientation_of(image, file)
            pixels = _bytes_of(image, described, under, value_range)
        pixels = turned(pixels, orientation)
        if channels == 1 and pixels.shape[2] == 3:
            pixels = _luminance(pixels)
        elif channels == 3 and pixels.shape[2] == 1:
            pixels = np.repeat(pixels, 3, axis=2)
        return resized(pixels, size)

    return np.stack(in_threads(lambda content: decode(*content), contents))


def in_threads(function: Callable[[Any], _T], items: Iterable[Any]) -> list[_T]:
    """Return what a function returns for each item, called in the threads that decode."""
    # Handing a small image to another thread takes as long as to decode it: hand over several.
    listed = list(items)
    parts = [listed[start : start + 16] for start in range(0, len(listed), 16)]
    done = _DECODERS.map(lambda part: [function(item) for item in part], parts)
    return [result for part in done for result in part]


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


@contextlib.contextmanager
def _opened(content: Content, described: str) -> Iterator[tuple[Any, BinaryIO]]:
    """Open a picture; whatever goes wrong with it is an InputError that names it."""
    from PIL import Image

    try:
        with contextlib.ExitStack() as stack:
            file: BinaryIO
            if isinstance(content, bytes):
                file = io.BytesIO(content)
            else:
                file = stack.enter_context(content.open("rb"))
            prefix = file.read(16)
            Image.preinit()
            for kind in SUFFIXES:
                if kind not in Image.OPEN:
                    Image.init()  # of the rarer formats too
                # Not Image.open, which refuses large pictures: whoever is not to send them is
                # refused before, and these are the user's own. Each plugin tells its format by
                # the first bytes, whatever the file is called.
                factory, accepts = Image.OPEN[kind]
                if accepts is not None and accepts(prefix) is True:
                    file.seek(0)
                    yield stack.enter_context(factory(file, "")), file
                    return
            raise ValueError(f"it begins with {prefix[:4].hex(' ') or 'nothing'}")
    except InputError:
        raise
    except Exception as error:  # Pillow raises many kinds for a damaged file.
        raise InputError(f"{described} is not a readable image: {first_line(error)}") from error


def _bytes_of(
    image: Any, described: str, under: tuple[int, int, int], value_range: ValueRange | None
) -> np.ndarray:
    """Return the bytes `[h, w, 1 or 3]` of a picture on a background."""
    mode, key = image.mode, _transparent_colour(image)
    if mode.startswith(("I", "F")):
        pixels = _numbers(image, described, value_range)
        return _composited(pixels, _seen(np.asarray(image), key), under, described)
    deep = _is_deep_colour(image)
    if deep and value_range == (0, 65_535):
        value_range = None  # as they are
    if value_range is not None and (mode not in ("L", "LA", "RGB", "RGBA") or deep):
        raise InputError(
            f"{described}: a value range is for pictures of 8 bits and grey ones of 16; this one "
            f"has mode {mode}{' of 16 bits a channel' if deep else ''}"
        )
    if mode == "CMYK":
        # Pillow holds inks; the product, cut, is what libjpeg's other users take of them.
        light = 255 - np.asarray(image).astype(np.int32)
        return (light[..., :3] * light[..., 3:] // 255).astype(np.uint8)
    alpha = None
    if mode in ("L", "RGB"):
        raw = np.asarray(image)
        alpha = _seen(raw, key)
    elif mode in ("LA", "La", "RGBA", "RGBa", "PA") or "transparency" in image.info:
        # Where colours come multiplied by alpha, Pillow divides them.
        raw = np.asarray(image.convert("LA" if mode in ("LA", "La") else "RGBA"))
        raw, alpha = raw[..., :-1], raw[..., -1]
    else:
        raw = np.asarray(image.convert("L" if mode == "1" else "RGB"))
    raw = raw.reshape(*raw.shape[:2], -1)
    if value_range is not None:
        _check_range(raw, described, value_range)
        raw = scaled_to_bytes(raw, value_range)
    return _composited(raw, alpha, under, described)


def _numbers(image: Any, described: str, value_range: ValueRange | None) -> np.ndarray:
    """Return the bytes `[h, w, 1]` of a picture of 16 or 32 bits."""
    values = np.asarray(image)[..., np.newaxis]
    low, high = values.min(), values.max()
    if not (np.isfinite(low) and np.isfinite(high)):
        raise InputError(f"{described}: expected finite values; it holds NaN or infinite ones")
    if value_range is not None:
        _check_range(values, described, value_range)
    elif image.mode == "F" or not 0 <= low <= high <= 65_535:
        raise InputError(
            f"{described} holds numbers from {low:g} to {high:g}: give value_range=(LOWEST, "
            "HIGHEST), which become black and white"
        )
    return scaled_to_bytes(values, value_range or (0, 65_535))


def _check_range(values: np.ndarray, described: str, value_range: ValueRange) -> None:
    """Refuse values that a range would cut off."""
    low, high = float(values.min()), float(values.max())
    # Whole numbers are not rounded.
    slack = 1e-5 * (value_range[1] - value_range[0]) if values.dtype.kind == "f" else 0
    if low < value_range[0] - slack or high > value_range[1] + slack:
        raise InputError(
            f"{described}: expected values in the range ({value_range[0]:g}, {value_range[1]:g}); "
            f"received values from {low:g} to {high:g}: give value_range=(LOWEST, HIGHEST) of all "
            "pictures"
        )


def _transparent_colour(image: Any) -> Any:
    """Return the values that mean transparent in a picture without alpha, None without such."""
    key = image.info.get("transparency")
    if key is None or image.mode not in ("L", "RGB", "I;16"):
        return None
    if _is_deep_colour(image):
        raise ValueError("16 bits a channel and a transparent colour")
    if depth := re.fullmatch(r"L;([24])", _layout(image)):
        # Pillow spreads fewer bits over the byte, but leaves the key as the file has it.
        key = key * 255 // (2 ** int(depth[1]) - 1)
    return key


def _seen(values: np.ndarray, key: Any) -> np.ndarray | None:
    """Return alpha `[h, w]` of a picture in which one colour means transparent."""
    if key is None:
        return None
    same = values == np.asarray(key, np.int64)
    seen = ~(same.all(axis=-1) if values.ndim == 3 else same)
    return seen.astype(np.uint8) * np.uint8(255)


def _composited(
    pixels: np.ndarray, alpha: np.ndarray | None, under: tuple[int, int, int], described: str
) -> np.ndarray:
    """Return bytes `[h, w, 1 or 3]` laid over a background; grey stays grey over grey."""
    if alpha is None or alpha.min() == 255:
        return pixels
    if pixels.shape[2] == 1 and len(set(under)) > 1:
        pixels = np.repeat(pixels, 3, axis=2)
    back = np.array(under[: pixels.shape[2]], np.int32)
    weight = alpha[..., np.newaxis].astype(np.int32)
    mixed = (pixels * weight + back * (255 - weight) + 127) // 255
    if alpha.max() != alpha.min() and (mixed == mixed[0, 0]).all():
        shown = "#" + bytes(under).hex()
        raise InputError(
            f"{described} is of the colour of its background, {shown}, and transparent elsewhere, "
            "so nothing of it would be seen: give another background, such as black or white"
        )
    return mixed.astype(np.uint8)


def _luminance(rgb: np.ndarray) -> np.ndarray:
    """Return grey bytes `[h, w, 1]` by ITU-R 601-2."""
    weights = np.array([19595, 38470, 7471], np.int32)
    return ((rgb.astype(np.int32) @ weights + 0x8000) >> 16).astype(np.uint8)[..., np.newaxis]


def _is_deep_colour(image: Any) -> bool:
    """Return whether a picture has 16 bits a channel, of which Pillow gives the upper 8."""
    return ";16" in _layout(image) and not image.mode.startswith("I")


def _layout(image: Any) -> str:
    """Return Pillow's word for the bits in the file; none once the pixels are loaded."""
    words = image.tile[0].args if image.tile else ""
    return words if isinstance(words, str) else str(words[0] if words else "")
