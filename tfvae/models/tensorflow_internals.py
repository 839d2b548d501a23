"""What the models rest on of TensorFlow that has no public name, in one place, with the reasons.

They are those of TensorFlow 2.21, to which pyproject.toml pins the package; with each new version
of TensorFlow look at these.
"""

from typing import Any

from tensorflow.python.eager import context, execute, record
from tensorflow.python.framework import func_graph


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
