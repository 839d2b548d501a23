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
    """Take out what has come since, where nobody uses those graphs any more.

    Some functions of TFP keep their graphs for whoever calls next, with the gradients in them.
    """
    for name in set(_gradients) - _before:
        if not any(module.startswith("tensorflow_probability") for module in _modules_of(name)):
            del _gradients[name]
    vars(tfb.Bijector)["_cache"].storage.clear()


def _modules_of(name):
    """Tell where the functions come from that a registered gradient is made of."""
    seen, left = [], [_gradients[name]["type"]]
    while left and len(seen) < 50:
        function = left.pop()
        seen.append(function)
        for cell in getattr(function, "__closure__", None) or ():
            try:
                inside = cell.cell_contents
            except ValueError:  # an empty cell
                continue
            if callable(inside) and hasattr(inside, "__module__") and inside not in seen:
                left.append(inside)
    return {str(function.__module__) for function in seen}
