"""PNG and JPEG files to bytes in a TensorFlow graph, bit for bit as `pictures` decodes them.

Nothing is decoded before the header has told the size, and each reading of a header is bounded by
the length of the file.
"""

import math
from typing import Any

import tensorflow as tf

from tfvae.datasets.image_files import JPEG_SIGNATURE, PNG_SIGNATURE
from tfvae.datasets.pictures import colour
from tfvae.datasets.values import ValueRange
from tfvae.typing import Tensor

_GREY, _COLOUR, _PALETTE = 0, 2, 3


def decode(
    file: Tensor,
    channels: int,
    *,
    max_bytes: int,
    max_pixels: int,
    max_side: int,
    background: str,
    value_range: ValueRange | None,
) -> Tensor:
    """Decode a PNG or JPEG file to bytes `[h, w, C]`, upright and on a background.

    Whatever is no such file, by its first bytes, or is larger than allowed, ends the call with a
    `tf.errors.InvalidArgumentError` before it is decoded.

    Args:
        file: a scalar string.
        channels: C, 1 for luminance or 3.
        max_bytes: the file may have no more.
        max_pixels: nor more pixels.
        max_side: nor more of them in a row or a column.
        background: as of `pictures.decode_files`.
        value_range: as of `pictures.decode_files`.
    """
    is_png = _is_png(file)
    sides = sides_of(file, max_bytes)
    fits = tf.reduce_all(sides > 0) & (tf.reduce_prod(sides) <= max_pixels)
    file = _checked(file, [(fits, _says(max_pixels, "", sides))])
    file = _checked(file, [(tf.reduce_max(sides) <= max_side, _says(max_side, " a side", sides))])
    rgb = tf.cond(
        is_png,
        lambda: _png(file, colour(background), value_range),
        lambda: _jpeg(file, value_range),
    )
    upright = _turned(rgb, tf.cond(is_png, lambda: _png_exif(file), lambda: _jpeg_exif(file)))
    return upright if channels == 3 else _luminance(upright)


def sides_of(file: Tensor, max_bytes: int) -> Tensor:
    """Return height and width that the header of a PNG or JPEG file tells, int64 `[2]`.

    Args:
        file: a scalar string; what is no such file, or has more than `max_bytes`, ends the call.
        max_bytes: the file may have no more.
    """
    is_png = _is_png(file)
    is_jpeg = _slice(file, 0, len(JPEG_SIGNATURE)) == JPEG_SIGNATURE
    size = tf.strings.length(file)
    checks = [
        (is_png | is_jpeg, ["expected PNG or JPEG files"]),
        (size <= max_bytes, ["expected files of at most", max_bytes, "bytes; received", size]),
    ]
    file = _checked(file, checks)
    return tf.cond(is_png, lambda: _png_sides(file), lambda: _jpeg_sides(file))


def _is_png(file: Tensor) -> Tensor:
    return _slice(file, 0, len(PNG_SIGNATURE)) == PNG_SIGNATURE


def _says(most: int, where: str, sides: Tensor) -> list[Any]:
    return ["expected images of 1 to", most, f"pixels{where}; the header says", sides]


def _checked(file: Tensor, checks: list[tuple[Tensor, list[Any]]]) -> Tensor:
    """Return the file once these conditions hold."""
    with tf.control_dependencies([tf.debugging.Assert(holds, says) for holds, says in checks]):
        return tf.identity(file)


def _png_sides(file: Tensor) -> Tensor:
    """Return height and width, int64 `[2]`, that a PNG file's first chunk tells; zeros without."""
    whole = (tf.strings.length(file) >= 29) & (_slice(file, 8, 8) == b"\0\0\0\rIHDR")
    width, height = _number(file, 16, 4), _number(file, 20, 4)
    # From 2^31 on they would be negative: no PNG has such sides.
    return tf.where(whole, tf.stack([height, width]), 0)


def _jpeg_sides(file: Tensor) -> Tensor:
    return tf.cast(tf.image.extract_jpeg_shape(file)[:2], tf.int64)


def _png(file: Tensor, under: tuple[int, int, int], value_range: ValueRange | None) -> Tensor:
    """Decode a PNG file to bytes `[h, w, 3]`."""
    depth, kind = _number(file, 24, 1), _number(file, 25, 1)

    # To less than 8 bits the decoder adds an alpha that is wrong.
    adds_alpha = (depth < 8) & (_png_chunk(file, b"tRNS") == 0)

    def with_alpha() -> Tensor:
        rgb = tf.io.decode_png(file, 3)
        return tf.concat([rgb, tf.fill(tf.shape(rgb[..., :1]), tf.constant(255, tf.uint8))], -1)

    def of_16_bits() -> Tensor:
        deep = tf.cast(tf.io.decode_png(file, channels=4, dtype=tf.uint16), tf.int32)
        # Of colours of 16 bits Pillow gives the upper 8.
        upper = deep // 256
        grey = _scaled(deep[..., :3], value_range or (0, 65_535))
        return tf.where(kind == _GREY, tf.concat([grey, upper[..., 3:]], -1), upper)

    def of_8_bits() -> Tensor:
        # Never tf.io.decode_image, which takes formats that nobody asked for.
        rgba = tf.cast(tf.cond(adds_alpha, with_alpha, lambda: tf.io.decode_png(file, 4)), tf.int32)
        if value_range is None:
            return rgba
        return tf.concat([_scaled(rgba[..., :3], value_range), rgba[..., 3:]], -1)

    if value_range is not None:
        whole = value_range == (0, 65_535)
        plain = tf.where(depth == 16, (kind == _GREY) | whole, (kind != _PALETTE) & (depth > 1))
        file = _checked(file, [(plain, ["expected PNG files of 8 bits, or grey ones of 16"])])
    rgba = tf.cond(depth == 16, of_16_bits, of_8_bits)
    rgb, alpha = rgba[..., :3], rgba[..., 3:]

    def composited() -> Tensor:
        mixed = (rgb * alpha + tf.constant(under) * (255 - alpha) + 127) // 255
        hidden = tf.reduce_all(mixed == mixed[:1, :1]) & tf.reduce_any(alpha != alpha[:1, :1])
        says = ["expected an image of another colour than its background: nothing would be seen"]
        return _checked(mixed, [(~hidden, says)])

    is_opaque = tf.reduce_all(alpha == 255)
    return tf.cast(tf.cond(is_opaque, lambda: rgb, composited), tf.uint8)


def _jpeg(file: Tensor, value_range: ValueRange | None) -> Tensor:
    """Decode a JPEG file to bytes `[h, w, 3]`."""
    if value_range is not None:
        inks = tf.image.extract_jpeg_shape(file)[2] == 4
        file = _checked(file, [(~inks, ["expected JPEG files of grey or colours, not of inks"])])
    rgb = tf.io.decode_jpeg(file, channels=3, dct_method="INTEGER_ACCURATE")
    if value_range is None:
        return rgb
    return tf.cast(_scaled(tf.cast(rgb, tf.int32), value_range), tf.uint8)


def _scaled(values: Tensor, value_range: ValueRange) -> Tensor:
    """Return int32 from 0 to 255 for int32, as `values.scaled_to_bytes` does.

    Values outside the range are refused when the graph runs, as a folder's are.
    """
    low, high = value_range
    inside = tf.reduce_all((values >= math.ceil(low)) & (values <= math.floor(high)))
    says = f"expected an image of values from {low:g} to {high:g}"
    values = _checked(values, [(inside, [says])])
    if float(low).is_integer() and float(high).is_integer():
        whole = tf.clip_by_value(tf.cast(values, tf.int64), int(low), int(high)) - int(low)
        width = int(high) - int(low)
        return tf.cast((whole * 510 + width) // (2 * width), tf.int32)
    scaled = (tf.cast(values, tf.float64) - low) * (255 / (high - low))
    return tf.cast(tf.floor(tf.clip_by_value(scaled, 0.0, 255.0) + 0.5), tf.int32)


def _luminance(rgb: Tensor) -> Tensor:
    """Return grey bytes `[h, w, 1]` by ITU-R 601-2, rounded as Pillow rounds them."""
    weights = tf.constant([19595, 38470, 7471], tf.int32)
    grey = tf.reduce_sum(tf.cast(rgb, tf.int32) * weights, axis=-1, keepdims=True)
    return tf.cast((grey + 0x8000) // 0x10000, tf.uint8)


def _turned(pixels: Tensor, orientation: Tensor) -> Tensor:
    """Turn an image `[h, w, 3]` upright, as `orientation.turned` does."""

    def flipped(pixels: Tensor, orientations: list[int], axis: int) -> Tensor:
        flips = tf.reduce_any(orientation == orientations)
        return tf.cond(flips, lambda: tf.reverse(pixels, [axis]), lambda: pixels)

    def turned() -> Tensor:
        upright = tf.cond(orientation >= 5, lambda: tf.transpose(pixels, (1, 0, 2)), lambda: pixels)
        return flipped(flipped(upright, [2, 3, 6, 7], 1), [3, 4, 7, 8], 0)

    return tf.cond(orientation == 1, lambda: pixels, turned)


def _jpeg_exif(file: Tensor) -> Tensor:
    """Return the orientation that a JPEG file's EXIF segment tells, 1 without."""
    size = tf.cast(tf.strings.length(file), tf.int64)

    def more(place: Tensor, found: Tensor) -> Tensor:
        marker = _number(file, place + 1, 1)
        # Pixels begin after segment DA.
        return (
            (found == 0)
            & (place + 10 <= size)
            & (_number(file, place, 1) == 0xFF)
            & (marker != 0xDA)
        )

    def step(place: Tensor, found: Tensor) -> tuple[Tensor, Tensor]:
        is_exif = (_number(file, place + 1, 1) == 0xE1) & (
            _slice(file, place + 4, 6) == b"Exif\0\0"
        )
        # A marker may be preceded by more bytes FF.
        padded = _number(file, place + 1, 1) == 0xFF
        after = tf.where(padded, place + 1, place + 2 + _number(file, place + 2, 2))
        return tf.where(is_exif, place, after), tf.where(is_exif, place, found)

    start = tf.constant(2, tf.int64), tf.constant(0, tf.int64)
    _, found = tf.while_loop(more, step, start)
    return _orientation(file, found, found + 10, _number(file, found + 2, 2) - 8)


def _png_exif(file: Tensor) -> Tensor:
    """Return the orientation that a PNG file's EXIF chunk tells, 1 without."""
    found = _png_chunk(file, b"eXIf")
    return _orientation(file, found, found + 8, _number(file, found, 4))


def _png_chunk(file: Tensor, kind: bytes) -> Tensor:
    """Return where a chunk of a PNG file begins, 0 without such a chunk."""
    size = tf.cast(tf.strings.length(file), tf.int64)

    def search() -> Tensor:
        def more(place: Tensor, found: Tensor) -> Tensor:
            return (found == 0) & (place + 12 <= size)

        def step(place: Tensor, found: Tensor) -> tuple[Tensor, Tensor]:
            is_it = _slice(file, place + 4, 4) == kind
            return place + 12 + _number(file, place, 4), tf.where(is_it, place, found)

        start = tf.constant(8, tf.int64), tf.constant(0, tf.int64)
        return tf.while_loop(more, step, start)[1]

    # Most files have no such bytes anywhere, and need not be walked through.
    pieces = tf.size(tf.strings.split(file, kind))
    return tf.cond(pieces > 1, search, lambda: tf.constant(0, tf.int64))


def _orientation(file: Tensor, found: Tensor, start: Tensor, length: Tensor) -> Tensor:
    """Return the orientation that an EXIF block tells, as `orientation.exif_orientation` does."""

    def read() -> Tensor:
        block = _slice(file, start, length)
        size = tf.cast(tf.strings.length(block), tf.int64)
        is_little = _slice(block, 0, 2) == b"II"
        known = (is_little | (_slice(block, 0, 2) == b"MM")) & (size >= 8)
        data = tf.cast(tf.io.decode_raw(block, tf.uint8), tf.int64)

        def number(places: Tensor, count: int) -> Tensor:
            digits = [
                tf.gather(data, tf.clip_by_value(places + k, 0, size - 1)) for k in range(count)
            ]
            big = sum(digit * 256 ** (count - 1 - k) for k, digit in enumerate(digits))
            little = sum(digit * 256**k for k, digit in enumerate(digits))
            return tf.where(is_little, little, big)

        def tags() -> Tensor:
            first = number(tf.constant(4, tf.int64), 4)
            count = tf.minimum(number(first, 2), (size - first - 2) // 12)
            places = first + 2 + 12 * tf.range(tf.maximum(count, 0), dtype=tf.int64)
            fits = (number(places, 2) == 0x0112) & (number(places + 2, 2) == 3)
            values = tf.boolean_mask(number(places + 8, 2), fits)
            value = tf.concat([values, [1]], 0)[0]
            return tf.where((value >= 1) & (value <= 8), value, 1)

        return tf.cond(known, tags, lambda: tf.constant(1, tf.int64))

    return tf.cond(found > 0, read, lambda: tf.constant(1, tf.int64))


def _slice(text: Tensor, start: Any, length: Any) -> Tensor:
    """Return a part of a string, shorter where the string ends."""
    size = tf.cast(tf.strings.length(text), tf.int64)
    start = tf.clip_by_value(tf.cast(start, tf.int64), 0, size)
    return tf.strings.substr(text, start, tf.maximum(tf.cast(length, tf.int64), 0))


def _number(text: Tensor, start: Any, count: int) -> Tensor:
    """Return the big-endian number of `count` bytes in a string, int64; 0 beyond its end."""
    part = _slice(text, start, count)
    whole = tf.strings.length(part) == count
    part = tf.where(whole, part, b"\0" * count)
    data = tf.cast(tf.ensure_shape(tf.io.decode_raw(part, tf.uint8), (count,)), tf.int64)
    powers = [256 ** (count - 1 - index) for index in range(count)]
    return tf.reduce_sum(data * tf.constant(powers, tf.int64))
