"""The private members of Keras that the models rest on, in one place, each with its reason.

They are those of Keras 3.15, to which pyproject.toml pins the package; with each new version of
Keras look at these.
"""

from typing import Any

import keras
from keras.src.trainers.data_adapters import array_data_adapter, array_slicing

from tfvae.typing import Tensor

# Keras takes an adapter of data in the place of x; its own one of arrays, and what is done with
# arrays before, have no public names.
ArrayDataAdapter: Any = array_data_adapter.ArrayDataAdapter
can_convert_arrays = array_data_adapter.can_convert_arrays
train_validation_split = array_slicing.train_validation_split


def loss_tracker(model: keras.Model) -> keras.metrics.Mean:
    """Return the metric that Keras makes for the loss at `compile`, and lists first."""
    return model._loss_tracker


def compiled_metrics(model: keras.Model) -> Any:
    """Return the metrics that the user gave to `compile`, None without any.

    Keras' own `compute_metrics` needs a reconstruction for them, which costs a pass of the decoder
    where there are none.
    """
    return model._compile_metrics


def update_loss(model: keras.Model, loss: Tensor, weight: Tensor) -> None:
    """Count a batch's mean loss into the epoch's, with the batch's weight."""
    loss_tracker(model).update_state(loss, sample_weight=weight)


def adam_slots(
    optimizer: keras.optimizers.Adam, variable: Any
) -> tuple[keras.Variable, keras.Variable]:
    """Return the variables in which Adam keeps the two moments of a weight's gradient.

    ``optimizer.variables`` has them without saying which weight they belong to.
    """
    index = optimizer._get_variable_index(variable)
    return optimizer._momentums[index], optimizer._velocities[index]


def all_layers(model: keras.Model) -> list[keras.layers.Layer]:
    """Return every layer of a model, those inside of layers included.

    ``model.layers`` has those of the model itself alone, and a layer has no public list of the
    layers that it holds.
    """
    return list(model._flatten_layers())
