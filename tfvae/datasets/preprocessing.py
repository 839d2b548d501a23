"""From the bytes that a service is sent to the images that a model was trained on, in a graph.

What a data set does in Python and NumPy before training happens here in TensorFlow alone, so that a
SavedModel takes PNG and JPEG files, and images of bytes, without this package.
"""

import dataclasses
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from tfvae.datasets.image_files import JPEG_SIGNATURE, MAX_BYTES, MAX_PIXELS, PNG_SIGNATURE

if TYPE_CHECKING:
    from tfvae.datasets import Split


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """How bytes become the values that a model takes.

    Attributes:
        binarize: as the training images were: "none", "threshold", "static" or "dynamic". The last
            two draw each pixel of an image x as Bernoulli(x) here too, with uniform noise that is
            the same for every image, so that equal images are treated alike.
        dequantize: whether the training images were dequantized; then a byte b becomes
            (b + 1/2) / 256, the middle of what it became in training.
        max_bytes: a PNG or JPEG file may have no more.
        max_pixels: nor more pixels, which its header tells before anything is decoded.
        seed: of the noise of binarization.
        step: distance of the levels that the model takes, to which values are rounded; None where
            it takes all in between.
    """

    binarize: str = "none"
    dequantize: bool = False
    max_bytes: int = MAX_BYTES
    max_pixels: int = MAX_PIXELS
    seed: int = 0
    step: float | None = None

    @classmethod
    def like(cls, split: "Split") -> "Preprocessing | None":
        """Give what makes bytes into images like those of a split.

        Returns:
            None if its images are no intensities between 0 and 1, which bytes could be.

        Raises:
            InputError: if a file cannot be read.
        """
        images, _ = split.arrays(limit=256)
        # NaN, for what is missing, is no intensity either.
        if images.ndim != 4 or not (images.min() >= 0 and images.max() <= 1):
            return None
        return cls(split.binarize, split.noise != "none", seed=split.seed)

    def of_bytes(self, images: Any) -> tf.Tensor:
        """Give float32 images `[B, H, W, C]` of the model for bytes, uint8 of the same shape."""
        values = tf.cast(images, tf.float32)
        if self.dequantize:
            return (values + 0.5) / 256
        values /= 255
        if self.binarize == "none":
            return values if self.step is None else tf.round(values / self.step) * self.step
        threshold: Any = 0.5
        if self.binarize != "threshold":
            threshold = tf.random.stateless_uniform(values.shape[1:], (self.seed, 0))
        return tf.cast(threshold < values, tf.float32)

    def of_files(self, files: Any, image_shape: tuple[int, int, int]) -> tf.Tensor:
        """Give float32 images `[B, H, W, C]` of the model for PNG and JPEG files, strings `[B]`.

        Whatever is no such file, by its first bytes, or is larger than allowed, ends the call with
        a `tf.errors.InvalidArgumentError` before it is decoded.
        """

        def image(file: Any) -> tf.Tensor:
            return _resized(self._pixels(file, image_shape[2]), image_shape)

        spec = tf.TensorSpec(image_shape, tf.uint8)
        return self.of_bytes(tf.map_fn(image, files, fn_output_signature=spec))

    def _pixels(self, file: Any, channels: int) -> tf.Tensor:
        """Decode one file to bytes `[h, w, C]`."""
        is_png = tf.strings.substr(file, 0, len(PNG_SIGNATURE)) == PNG_SIGNATURE
        is_jpeg = tf.strings.substr(file, 0, len(JPEG_SIGNATURE)) == JPEG_SIGNATURE
        size = tf.strings.length(file)
        with tf.control_dependencies(
            [
                tf.debugging.Assert(is_png | is_jpeg, ["expected PNG or JPEG files"]),
                tf.debugging.Assert(
                    size <= self.max_bytes,
                    ["expected files of at most", self.max_bytes, "bytes; received", size],
                ),
            ]
        ):
            file = tf.identity(file)
        sides = tf.cond(is_png, lambda: _png_sides(file), lambda: _jpeg_sides(file))
        fits = tf.reduce_all(sides > 0) & (tf.reduce_prod(sides) <= self.max_pixels)
        with tf.control_dependencies(
            [
                tf.debugging.Assert(
                    fits,
                    ["expected images of 1 to", self.max_pixels, "pixels; the header says", sides],
                )
            ]
        ):
            file = tf.identity(file)
        # Never tf.io.decode_image, which takes formats that nobody asked for.
        rgb = tf.cond(
            is_png,
            lambda: tf.io.decode_png(file, channels=3),
            lambda: tf.io.decode_jpeg(file, channels=3, dct_method="INTEGER_ACCURATE"),
        )
        return rgb if channels == 3 else _luma(rgb)


def to_png(images: Any) -> tf.Tensor:
    """Encode images `[B, H, W, C]` of values in [0, 1] as PNG files, strings `[B]`."""
    pixels = tf.saturate_cast(tf.round(255 * images), tf.uint8)
    return tf.map_fn(tf.io.encode_png, pixels, fn_output_signature=tf.TensorSpec((), tf.string))


def _png_sides(file: Any) -> tf.Tensor:
    """Give height and width, int64 `[2]`, that a PNG file's first chunk tells; zeros without."""
    header = tf.strings.substr(file, 0, 24)

    def read() -> tf.Tensor:
        words = tf.io.decode_raw(tf.strings.substr(header, 16, 8), tf.int32, little_endian=False)
        return tf.cast(tf.reverse(tf.ensure_shape(words, (2,)), (0,)), tf.int64)

    whole = tf.strings.length(header) >= 24
    whole &= tf.strings.substr(header, 8, 8) == b"\0\0\0\rIHDR"
    return tf.cond(whole, read, lambda: tf.zeros(2, tf.int64))


def _jpeg_sides(file: Any) -> tf.Tensor:
    return tf.cast(tf.image.extract_jpeg_shape(file)[:2], tf.int64)


def _luma(rgb: Any) -> tf.Tensor:
    """Give grey bytes `[h, w, 1]` by ITU-R 601-2, rounded as Pillow rounds them."""
    weights = tf.constant([19595, 38470, 7471], tf.int32)
    grey = tf.reduce_sum(tf.cast(rgb, tf.int32) * weights, axis=-1, keepdims=True)
    return tf.cast((grey + 0x8000) // 0x10000, tf.uint8)


def _resized(pixels: Any, image_shape: tuple[int, int, int]) -> tf.Tensor:
    """Resize bytes `[h, w, C]` to `[H, W, C]` as the images of a data set are.

    Each side is a weighted mean of the pixels below it, along the rows first and then down the
    columns, each rounded to bytes: the box where both sides shrink, else bilinear.
    """
    height, width, _ = image_shape
    sides = tf.shape(pixels)[:2]
    shrinks = (height <= sides[0]) & (width <= sides[1])

    def filtered() -> tf.Tensor:
        values = tf.cast(pixels, tf.float32)
        along = tf.einsum("hwc,ow->hoc", values, _weights(sides[1], width, shrinks))
        along = tf.floor(along + 0.5)
        down = tf.einsum("hwc,oh->owc", along, _weights(sides[0], height, shrinks))
        return tf.saturate_cast(tf.floor(down + 0.5), tf.uint8)

    same = tf.reduce_all(sides == [height, width])
    return tf.ensure_shape(tf.cond(same, lambda: pixels, filtered), image_shape)


def _weights(old: Any, new: int, shrinks: Any) -> tf.Tensor:
    """Give the weights `[new, old]` of pixels in the new ones along one side."""
    scale = tf.cast(old, tf.float32) / new
    # A pixel's place, from the centre of the new one, in units of the filter's width.
    centres = (tf.range(new, dtype=tf.float32) + 0.5) * scale
    places = tf.range(tf.cast(old, tf.float32)) + 0.5
    offsets = (places - centres[:, None]) / tf.maximum(scale, 1.0)
    box = tf.cast((offsets > -0.5) & (offsets <= 0.5), tf.float32)
    weights = tf.where(shrinks, box, tf.maximum(0.0, 1 - tf.abs(offsets)))
    return weights / tf.reduce_sum(weights, axis=1, keepdims=True)
