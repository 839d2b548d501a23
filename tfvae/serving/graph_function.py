"""One function of a model as a graph, which converters to other runtimes take.

Nothing of the models is loaded here: the converter to LiteRT runs in a process of its own.
"""

import dataclasses
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from tfvae.typing import Tensor


@dataclasses.dataclass(frozen=True)
class Function:
    """One function of a model, as a graph.

    Attributes:
        name: what the file is called.
        graph: a `tf.function` of the inputs, by position, that returns a dictionary of outputs.
        inputs: their names, shapes and types.
        example: a batch of each input, by name, to compare runtimes at.
    """

    name: str
    graph: Callable[..., dict[str, Tensor]]
    inputs: tuple[tf.TensorSpec, ...]
    example: dict[str, np.ndarray]

    def concrete(self) -> tf.types.experimental.ConcreteFunction:
        """Return the one graph that was traced for the inputs."""
        return self.graph.get_concrete_function()  # type: ignore[attr-defined]

    def __call__(self, **inputs: np.ndarray) -> dict[str, np.ndarray]:
        """Compute the outputs in TensorFlow."""
        tensors = [tf.constant(inputs[spec.name], spec.dtype) for spec in self.inputs]
        return {name: value.numpy() for name, value in self.graph(*tensors).items()}
