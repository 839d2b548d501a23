"""Names for what functions take and return. Nothing is loaded here but Python and NumPy."""

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    import tensorflow as tf
    from tensorflow_probability import distributions as tfd

    Tensor: TypeAlias = tf.Tensor
    Distribution: TypeAlias = tfd.Distribution
else:
    # Annotations alone use them, and TensorFlow takes seconds to load.
    Tensor = Any
    Distribution = Any

# What NumPy and TensorFlow turn into a tensor.
ArrayLike: TypeAlias = "np.ndarray | Tensor | list[Any] | tuple[Any, ...] | float"
Shape: TypeAlias = tuple[int, ...]
# A whole number, a pair of them, or a pair for each event.
Seed: TypeAlias = "int | ArrayLike | None"
