"""What the models rest on of TensorFlow that has no public name, in one place, with its reason.

It is that of TensorFlow 2.21, to which pyproject.toml pins the package; with each new version of
TensorFlow look at it.
"""

from typing import Any

from tensorflow.python.eager import record


def may_be_recorded() -> bool:
    """Whether a tape or a forward accumulator may be recording eager operations.

    A tape has no public way to tell that it is there.
    """
    return bool(record.could_possibly_record())


def forget_captures(graph: Any) -> None:
    """Let go of the weights that a graph reads, which whoever runs it gives it from now on.

    TensorFlow keeps a graph with a function of its own gradient in it, as silu is one, until the
    process ends: at least not with the weights.

    Args:
        graph: of a `tf.types.experimental.ConcreteFunction`.
    """
    graph.function_captures.clear()
