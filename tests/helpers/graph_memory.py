"""Graphs that TensorFlow and TFP themselves would keep until the process ends.

For each call of a function with a gradient of its own, as silu is one, a graph puts an entry into
TensorFlow's registry of gradients, and so does each such function of a SavedModel that is loaded.
The entry holds the graph, tens of megabytes, and is never taken out. What TFP remembers of a
bijector's values holds the graph that they are in, and that the values.
"""

from tensorflow.python.framework import ops
from tensorflow_probability import bijectors as tfb

_gradients = ops.gradient_registry._registry
_before = set()


def remember():
    """Note which gradients there are; these stay."""
    _before.update(_gradients)


def forget():
    """Take out what has come since, where nobody uses those graphs any more."""
    for name in set(_gradients) - _before:
        del _gradients[name]
    vars(tfb.Bijector)["_cache"].storage.clear()
