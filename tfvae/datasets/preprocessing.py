"""From the bytes that a service is sent to the images that a model was trained on, in a graph.

What a data set does in Python and NumPy before training happens here in TensorFlow alone, so that a
SavedModel takes PNG and JPEG files, and images of bytes, without this package.
"""

import dataclasses
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from tfvae.datasets.image_files import MAX_BYTES, MAX_PIXELS, MAX_SIDE
from tfvae.datasets.options import BACKGROUND
from tfvae.datasets.pictures_in_graph import decode, sides_of
from tfvae.datasets.values import ValueRange
from tfvae.typing import ArrayLike, Tensor

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
        max_side: nor more of them in a row or a column.
        max_batch_pixels: the files of one batch may have no more pixels together.
        seed: of the noise of binarization.
        step: distance of the levels that the model takes, to which values are rounded; None where
            it takes all in between.
        background: of files: the colour under a transparent image.
        value_range: of files: the values that become 0 and 1, for those of fewer bits than their
            type; None for all that their type holds.
    """

    binarize: str = "none"
    dequantize: bool = False
    max_bytes: int = MAX_BYTES
    max_pixels: int = MAX_PIXELS
    max_side: int = MAX_SIDE
    max_batch_pixels: int = 4 * MAX_PIXELS
    seed: int = 0
    step: float | None = None
    background: str = BACKGROUND
    value_range: ValueRange | None = None

    def __post_init__(self) -> None:
        if self.value_range is not None:  # which comes as a list from a file
            low, high = self.value_range
            object.__setattr__(self, "value_range", (low, high))

    @classmethod
    def like(cls, split: "Split") -> "Preprocessing | None":
        """Return what makes bytes into images like those of a split.

        Returns:
            None if its images are no intensities between 0 and 1, which bytes could be.

        Raises:
            InputError: if a file cannot be read.
        """
        images, _ = split.arrays(limit=256)
        # NaN, for what is missing, is no intensity either.
        if images.ndim != 4 or not (images.min() >= 0 and images.max() <= 1):
            return None
        pictures = split.source.pictures
        return cls(
            split.binarize,
            split.noise != "none",
            seed=split.seed,
            background=BACKGROUND if pictures is None else pictures.background,
            value_range=None if pictures is None else pictures.value_range,
        )

    def of_bytes(self, images: ArrayLike) -> Tensor:
        """Return float32 images `[B, H, W, C]` of the model for bytes, uint8 of the same shape."""
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

    def of_files(self, files: ArrayLike, image_shape: tuple[int, int, int]) -> Tensor:
        """Return float32 images `[B, H, W, C]` of the model for PNG and JPEG files, strings `[B]`.

        Whatever is no such file, by its first bytes, or is larger than allowed, ends the call with
        a `tf.errors.InvalidArgumentError` before it is decoded.
        """

        def image(file: Tensor) -> Tensor:
            pixels = decode(
                file,
                image_shape[2],
                max_bytes=self.max_bytes,
                max_pixels=self.max_pixels,
                max_side=self.max_side,
                background=self.background,
                value_range=self.value_range,
            )
            return _resized(pixels, image_shape)

        def pixels(file: Tensor) -> Tensor:
            # Of a header that says more than there can be, a little more than there may be.
            sides = tf.clip_by_value(sides_of(file, self.max_bytes), 0, 2**20)
            return tf.minimum(tf.reduce_prod(sides), self.max_pixels + 1)

        counts = tf.map_fn(pixels, files, fn_output_signature=tf.int64)
        total = tf.reduce_sum(counts)
        says = ["expected a batch of at most", self.max_batch_pixels, "pixels; received", total]
        with tf.control_dependencies([tf.debugging.Assert(total <= self.max_batch_pixels, says)]):
            files = tf.identity(files)
        spec = tf.TensorSpec(image_shape, tf.uint8)
        # One after the other: each may take a GiB.
        return self.of_bytes(
            tf.map_fn(image, files, parallel_iterations=1, fn_output_signature=spec)
        )


def to_png(images: ArrayLike) -> Tensor:
    """Encode images `[B, H, W, C]` of values in [0, 1] as PNG files, strings `[B]`."""
    pixels = tf.saturate_cast(tf.round(255 * images), tf.uint8)
    return tf.map_fn(tf.io.encode_png, pixels, fn_output_signature=tf.TensorSpec((), tf.string))


def _resized(pixels: Tensor, image_shape: tuple[int, int, int]) -> Tensor:
    """Resize bytes `[h, w, C]` to `[H, W, C]` as the images of a data set are.

    Each side is a weighted mean of the pixels below it, along the rows first and then down the
    columns, each rounded to bytes: the box where both sides shrink, else bilinear.
    """
    height, width, _ = image_shape
    sides = tf.shape(pixels)[:2]
    shrinks = (height <= sides[0]) & (width <= sides[1])

    def filtered() -> Tensor:
        values = tf.cast(pixels, tf.float32)
        along = tf.einsum("hwc,ow->hoc", values, _weights(sides[1], width, shrinks))
        along = tf.floor(along + 0.5)
        down = tf.einsum("hwc,oh->owc", along, _weights(sides[0], height, shrinks))
        return tf.saturate_cast(tf.floor(down + 0.5), tf.uint8)

    same = tf.reduce_all(sides == [height, width])
    return tf.ensure_shape(tf.cond(same, lambda: pixels, filtered), image_shape)


def _weights(old: Tensor, new: int, shrinks: Tensor) -> Tensor:
    """Return the weights `[new, old]` of pixels in the new ones along one side."""
    scale = tf.cast(old, tf.float32) / new
    # A pixel's place, from the centre of the new one, in units of the filter's width.
    centres = (tf.range(new, dtype=tf.float32) + 0.5) * scale
    places = tf.range(tf.cast(old, tf.float32)) + 0.5
    offsets = (places - centres[:, None]) / tf.maximum(scale, 1.0)
    box = tf.cast((offsets > -0.5) & (offsets <= 0.5), tf.float32)
    weights = tf.where(shrinks, box, tf.maximum(0.0, 1 - tf.abs(offsets)))
    return weights / tf.reduce_sum(weights, axis=1, keepdims=True)
