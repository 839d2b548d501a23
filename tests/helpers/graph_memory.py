"""Graphs that TensorFlow itself would keep until the process ends.

For each call of a function with a gradient of its own, as silu is one, a graph puts an entry into
TensorFlow's registry of gradients, and so does each such function of a SavedModel that is loaded.
The entry holds the graph, tens of megabytes, and is never taken out.
"""

from tensorflow.python.framework import ops

_entries = ops.gradient_registry._registry
_before = set()


def remember():
    """Note which gradients there are; these stay."""
    _before.update(_entries)


def forget():
    """Take out the gradients of graphs that were made since, where nobody uses those any more."""
    for name in set(_entries) - _before:
        del _entries[name]
