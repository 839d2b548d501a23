"""The public methods of a model as graphs, which are traced once and run at each further call.

Called eagerly, each layer of Keras and each distribution costs up to a millisecond of Python,
however few the events are. Methods look at their inputs outside of a graph, in their own words, and
the graph computes what follows, bit for bit what it is eagerly.
"""

import functools
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

from tfvae.models.tensorflow_internals import (
    borrow_gradients,
    call_function,
    take_apart,
)
from tfvae.typing import Tensor

# To trace a method takes as long as some ten calls, and most models are asked once or twice.
_EAGER_CALLS = 2
# A model has a dozen methods, and some options and ranks of each.
_MOST = 32
# TensorFlow's `RewriterConfig.Toggle` has no public name.
_OFF = 2


class _Graph:
    """A traced method.

    Args:
        function: what was traced. It has no reference to the method, and so none to the model.
        gradients: what is to be freed with it; see `borrow_gradients`.
    """

    def __init__(self, function: Any, gradients: list[Any]):
        self._function = function
        self._gradients = gradients
        self._captured = list(function.captured_inputs)
        weakref.finalize(self, take_apart, function.graph).atexit = False

    def __call__(self, values: list[Tensor]) -> Any:
        """Return what the method returns, and whether all of it is finite."""
        flat = call_function(self._function, [*values, *self._captured], _unfused())
        return tf.nest.pack_sequence_as(self._function.structured_outputs, flat)


class Graphs:
    """The graphs of one model's methods, the last ones used of them.

    It holds the graphs and not the model, so that a model is freed with its last reference.
    """

    def __init__(self) -> None:
        # Of what has not been traced yet, how often it was called; None of what cannot be traced.
        self._graphs: OrderedDict[Any, _Graph | int | None] = OrderedDict()
        # Those of the graphs that train and test the model, which somebody else holds.
        self._gradients: list[Any] = []
        self._lock = threading.RLock()

    def clear(self) -> None:
        """Forget all graphs, since what they were traced from has changed."""
        with self._lock:
            self._graphs.clear()
            self._gradients.clear()

    def hold_gradients(self) -> None:
        """Let the gradients of a graph that is being traced live as long as the model."""
        self._gradients += borrow_gradients()

    def run(
        self,
        method: Callable[..., Any],
        arguments: Mapping[str, Tensor | None],
        trailing: Mapping[str, int],
        options: Mapping[str, Any],
        parts: tuple[Any, ...],
    ) -> Any:
        """Call a method, by its graph if it has been called before.

        A method that cannot be traced, such as one with a network that needs eager tensors, is
        called as it is. So is one whose results are not all finite, or whose graph fails: whatever
        the method has to say of that, it says.

        Args:
            method: a bound method, a function of its arguments and the model's weights.
            arguments: tensors that have been checked, by the names of the parameters.
            trailing: how many of the last axes of each the graph knows the size of, 0 where it does
                not say. The sizes of the others may differ from call to call.
            options: further arguments, which are no tensors.
            parts: what the graph is made of besides, such as the networks: others get another one.

        Returns:
            What the method returns: tensors, or a structure of them.
        """
        given = {name: value for name, value in arguments.items() if value is not None}
        specs = tuple(
            (name, value.dtype, _relaxed(value, trailing.get(name, 0)))
            for name, value in given.items()
        )
        with self._lock:
            graph = self._graph((method.__name__, specs, tuple(options.items()), parts))
            if graph == _EAGER_CALLS:
                graph = _traced(method, arguments, specs, options)
                self._graphs[next(reversed(self._graphs))] = graph
        if isinstance(graph, _Graph):
            try:
                found, finite = graph(list(given.values()))
            except tf.errors.OpError:
                return method(**arguments, **options)
            if finite:
                return found
        return method(**arguments, **options)

    def _graph(self, key: Any) -> _Graph | int | None:
        """Return what is known of a method, the last one used now; and count the call."""
        known = self._graphs.pop(key, 0)
        self._graphs[key] = known + 1 if isinstance(known, int) else known
        if len(self._graphs) > _MOST:
            self._graphs.popitem(last=False)
        return known


def _relaxed(value: Tensor, trailing: int) -> tuple[int | None, ...]:
    """Return the shape that a graph knows of a tensor."""
    shape = value.shape
    leading = shape.rank - trailing
    return (*([None] * leading), *shape[leading:])


def _traced(
    method: Callable[..., Any],
    arguments: Mapping[str, Tensor | None],
    specs: tuple[tuple[str, tf.DType, tuple[int | None, ...]], ...],
    options: Mapping[str, Any],
) -> _Graph | None:
    """Return the graph of a method; None of one that cannot be traced."""
    absent = {name: None for name, value in arguments.items() if value is None}
    names = [name for name, *_ in specs]

    def compute(*values: Tensor) -> tuple[Any, Tensor]:
        found = method(**dict(zip(names, values, strict=True)), **absent, **options)
        finite = [
            tf.reduce_all(tf.math.is_finite(value))
            for value in tf.nest.flatten(found)
            if value.dtype.is_floating
        ]
        held.extend(borrow_gradients())
        return found, tf.reduce_all(tf.stack(finite))

    held: list[Any] = []
    signature = [tf.TensorSpec(shape, dtype, name) for name, dtype, shape in specs]
    graph = tf.function(compute, input_signature=signature, autograph=False)
    try:
        return _Graph(graph.get_concrete_function(), held)
    except Exception:  # whatever a network of the user's says to a symbolic tensor
        return None


@functools.cache
def _unfused() -> bytes:
    """Return how TensorFlow is to run a graph: with the kernels that run eagerly.

    It would put a product and the bias after it into one kernel, which rounds otherwise.
    """
    config = tf.compat.v1.ConfigProto(allow_soft_placement=True)
    config.graph_options.rewrite_options.remapping = _OFF
    return config.SerializeToString()
