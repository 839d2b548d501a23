"""What an encoder sees of an event whose columns are of several kinds."""

import dataclasses
from typing import Literal, TypeAlias

import numpy as np
import tensorflow as tf

from tfvae.typing import Tensor

# The kind of a column, how many numbers stand for it, and the distance of neighbouring values.
EncodedColumn: TypeAlias = tuple[Literal["value", "number", "count", "levels"], int, float]


@dataclasses.dataclass(frozen=True)
class Encoding:
    """The map from a row `[D]` to what an encoder sees of it, a longer vector.

    A category of k levels becomes k numbers, one-hot; a count n becomes log(1 + n), and a number
    without bounds asinh(x), which is x near 0 and a logarithm far out: a network that sees a value
    of hundreds puts out a variance of e to the power of hundreds. Other values stay as they are.
    The vector has the columns in their order.

    Between two levels, where only an input that is learned may lie (as in the prior "vamp"), the
    one-hot numbers go over from one level to the next linearly, so that they have a gradient.

    Args:
        columns: for each column its kind, how many numbers stand for it, and the distance of
            neighbouring values: of levels, of counts.
    """

    columns: tuple[EncodedColumn, ...]

    @property
    def channels(self) -> int:
        """How long the vector is."""
        return sum(size for _, size, _ in self.columns)

    def __call__(self, x: Tensor) -> Tensor:
        """Return `[..., channels]` for events `[..., D]` without holes."""
        source = np.repeat(np.arange(len(self.columns)), [size for _, size, _ in self.columns])
        kinds = np.array([kind for kind, _, _ in self.columns])[source]
        units = np.array([unit for _, _, unit in self.columns], np.float32)[source]
        numbers = np.concatenate([np.arange(size) for _, size, _ in self.columns])
        spread = tf.gather(x, source, axis=-1)
        steps = spread / tf.constant(units, spread.dtype)
        one_hot = tf.nn.relu(1 - tf.abs(steps - tf.constant(numbers, spread.dtype)))
        # A learned input may lie below 0, where the logarithm is not looked at but differentiated.
        logarithm = tf.math.log1p(tf.nn.relu(steps))
        seen = tf.where(kinds == "levels", one_hot, spread)
        seen = tf.where(kinds == "number", tf.math.asinh(spread), seen)
        return tf.where(kinds == "count", logarithm, seen)
