"""What the models rest on of TensorFlow that has no public name, in one place, with the reasons.

They are those of TensorFlow 2.21, to which pyproject.toml pins the package; with each new version
of TensorFlow look at these.
"""

import weakref
from collections.abc import Callable
from typing import Any

import tensorflow as tf
from tensorflow.python.eager import context, execute, record
from tensorflow.python.framework import func_graph, ops

# How a function with a gradient of its own stands in a graph.
_OPERATION, _ATTRIBUTE = "IdentityN", "_gradient_op_type"


def may_be_recorded() -> bool:
    """Whether a tape or a forward accumulator may be recording eager operations.

    A tape has no public way to tell that it is there.
    """
    return bool(record.could_possibly_record())


def take_apart(graph: Any) -> None:
    """Free a graph that nobody runs any more, and what it captured.

    A graph's operations and the graph hold each other, in a way that Python's garbage collector
    does not see; TensorFlow frees those of its own functions like this.

    Args:
        graph: of a `tf.types.experimental.ConcreteFunction`.
    """
    func_graph.dismantle_func_graph(graph)
    # These are left: tensors, which hold their graph too, and with it the memory of the weights.
    for name in ("inputs", "outputs", "control_outputs"):
        getattr(graph, name).clear()
    graph._unfeedable_tensors.clear()
    graph._function_captures = graph.structured_outputs = None


def borrow_gradients() -> list[Callable[..., Any]]:
    """Let the gradients of the graph that is being traced be freed; eagerly there are none.

    For each call of a function with a gradient of its own, as silu is one, TensorFlow notes a
    function that holds the graph, megabytes, and never forgets it.

    Returns:
        These functions: TensorFlow forgets each of them when nobody holds it any more. Whoever
        runs the graph holds them.
    """
    graph = tf.compat.v1.get_default_graph()
    if tf.executing_eagerly() or not isinstance(graph, func_graph.FuncGraph):
        return []
    noted = ops.gradient_registry._registry
    functions = []
    for operation in graph.get_operations():
        if operation.type != _OPERATION:
            continue
        try:
            name = operation.get_attr(_ATTRIBUTE).decode()
        except ValueError:  # an identity, and no more
            continue
        function = noted[name]["type"] if name in noted else None
        if function is not None and not isinstance(function, _Borrowed):
            functions.append(function)
            noted[name]["type"] = _Borrowed(function, name)
    return functions


class _Borrowed:
    """A function that somebody else holds, with whom it is forgotten."""

    def __init__(self, function: Callable[..., Any], name: str):
        noted = ops.gradient_registry._registry
        self._function = weakref.ref(function, lambda _: noted.pop(name, None))

    def __call__(self, *args: Any) -> Any:
        function = self._function()
        if function is None:
            raise LookupError("the graph of this gradient has been freed")
        return function(*args)


def call_function(function: Any, inputs: list[Any], config: bytes) -> list[Any]:
    """Call a function as TensorFlow does, with a configuration of this call alone.

    `tf.raw_ops.StatefulPartitionedCall` takes a configuration too, but keeps what it has compiled
    after the function is gone.

    Args:
        function: a `tf.types.experimental.ConcreteFunction`.
        inputs: tensors, and what it has captured.
        config: a serialised `tf.compat.v1.ConfigProto`.
    """
    return execute.execute(
        function.name.decode(),
        num_outputs=len(function.outputs),
        inputs=inputs,
        attrs=("executor_type", "", "config_proto", config),
        ctx=context.context(),
    )
