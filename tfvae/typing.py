"""Names for what functions take and return. Nothing is loaded here but Python.

TensorFlow and TFP have no types that mypy could read, and so these names tell a reader more than
they tell mypy.
"""

from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import tensorflow as tf
    from tensorflow_probability import distributions as tfd

    Tensor: TypeAlias = tf.Tensor
    Distribution: TypeAlias = tfd.Distribution
else:
    # Annotations alone use them, and TensorFlow takes seconds to load.
    Tensor = Distribution = Any

# What NumPy and TensorFlow turn into a tensor: arrays, tensors, and nested lists of numbers.
ArrayLike: TypeAlias = Any
Shape: TypeAlias = tuple[int, ...]
# A whole number, a pair of them, a pair for each event, or None.
Seed: TypeAlias = Any
# What `fit` and its like take: arrays, data sets, dictionaries of them.
Data: TypeAlias = Any
# The arguments of a constructor, as Keras writes them to JSON.
Config: TypeAlias = dict[str, Any]
