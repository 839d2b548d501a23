"""What `fit`, `evaluate` and `predict` are given, checked before the first step."""

import numbers
import warnings
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfvae.checks import checked_count
from tfvae.errors import InputError
from tfvae.models import keras_internals
from tfvae.models.batch import checked_weights, events_and_labels, unpack

# Standardised values lie within a few; beyond this an untrained network's outputs run away.
_UNSCALED = 20.0


def check_arguments(
    x: Any, y: Any, sample_weight: Any, batch_size: Any = None, epochs: Any = 1
) -> None:
    """Check what Keras has other words for, in many lines, or takes without a word.

    Raises:
        InputError: if there are no events, arrays differ in length, or a number does not fit.
    """
    is_empty = isinstance(x, (list, tuple, dict)) and not x
    if x is None or is_empty or isinstance(x, (str, bytes, numbers.Number)):
        raise InputError(
            "expected events to train on: an array, a tf.data.Dataset or another source of "
            f"batches; received {x!r}"
        )
    if batch_size is not None:
        checked_count("batch_size", batch_size)
    checked_count("epochs", epochs)
    for name, other in (("y", y), ("sample_weight", sample_weight)):
        arrays = [one for one in (x, other) if hasattr(one, "shape") and len(one.shape)]
        lengths = [int(one.shape[0]) for one in arrays]
        if len(lengths) == 2 and lengths[0] != lengths[1]:
            raise InputError(
                f"expected as many rows of {name} as events, {lengths[0]}; received {lengths[1]}"
            )


def checked_source(
    model: keras.Model,
    x: Any,
    y: Any = None,
    sample_weight: Any = None,
    *,
    only_x: bool = False,
) -> Any:
    """Check arrays before a training, and let batches that XLA takes be checked before.

    A step that is not compiled by XLA checks its own batch.

    Args:
        model: a `tfvae.models.LatentVariableModel`.
        x: arrays, a data set, or another source of batches.
        y: the labels or targets beside arrays.
        sample_weight: the weights beside arrays.
        only_x: whether there is no y, as in `predict`.

    Returns:
        x; a data set for XLA with a check in it.

    Raises:
        InputError: if the arrays do not fit, or the shapes that a data set has said.
    """
    if isinstance(x, tf.data.Dataset):
        if model.built or _shape_is_known(x.element_spec, model.num_classes):
            shape = model.unpack(x.element_spec).x.shape
            if shape.rank is not None:
                model.event_spec.check_shape(tuple(shape))
        return x.map(model.checked_elements) if model.runs_in_xla else x
    if hasattr(x, "batches") and hasattr(x, "arrays"):
        raise InputError(
            f"fit takes arrays or batches; received a {type(x).__name__}: give it "
            "data.train.batches(128, shuffle=True)"
        )
    events: Any = None
    label: Any = None
    if x is not None:
        events, label = events_and_labels(x, model.num_classes)
    if not is_numeric_array(events):
        if isinstance(events, np.ndarray):
            raise InputError(f"expected events of numbers; received an array of {events.dtype}")
        return x
    if not model.built:
        model.build(events.shape)
    spec = model.event_spec
    batch = unpack(x if only_x or y is None else (x, y), spec)
    spec.check_array(events, label if batch.label is None else batch.label)
    if batch.target is not None and batch.target is not events:
        spec.check_array(batch.target, batch.label)
    if is_numeric_array(sample_weight):
        checked_weights(unpack((events, None, sample_weight), spec), spec)
    return x


def without_autotuning(data: tf.data.Dataset) -> tf.data.Dataset:
    """Return a data set whose end is not waited for, with as many calls in parallel as threads.

    TensorFlow's autotuning looks at a running data set at ever longer intervals, and an iterator
    that is let go of waits for the next look: up to two seconds an epoch.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return data.with_options(options)


class ArrayBatches(keras_internals.ArrayDataAdapter):
    """The batches that Keras makes of arrays, the end of which is not waited for."""

    def get_tf_dataset(self) -> tf.data.Dataset:
        """Return the data set of an epoch."""
        return without_autotuning(super().get_tf_dataset())


def batches_of(x: Any, y: Any = None, sample_weight: Any = None, **options: Any) -> tuple[Any, ...]:
    """Return what Keras is given for x, y and weights: of arrays their batches, with all three.

    Args:
        x: checked, as are the others.
        y: labels or targets.
        sample_weight: weights.
        **options: those of `ArrayBatches`.
    """
    y = stand_in(x, y, sample_weight)
    if not keras_internals.can_convert_arrays((x, y, sample_weight)):
        return x, y, sample_weight
    return ArrayBatches(x, y, sample_weight, **options), None, None


def warn_of_scale(model: keras.Model, x: Any) -> None:
    """Warn before a training of values that want scaling: far from 0, with a free support.

    Args:
        model: built; its likelihood says which values are usual.
        x: what `fit` was given; nothing is said of what is no array.
    """
    events, _ = (None, None) if x is None else events_and_labels(x, model.num_classes)
    support = model.event_spec.support if model.built else None
    if support is None or not is_numeric_array(events) or not support.is_unbounded:
        return
    events = np.asarray(events)
    low, high = float(np.nanmin(events)), float(np.nanmax(events))
    if max(abs(low), abs(high)) > _UNSCALED:
        advice = "x / 255.0" if low >= 0 and 100 < high <= 255 else "(x - x.mean(0)) / x.std(0)"
        warnings.warn(
            f"values from {low:g} to {high:g}: networks train best on values of about unit scale; "
            f"give fit {advice}",
            stacklevel=3,
        )


def is_numeric_array(x: Any) -> bool:
    """Whether `x` is an array or tensor of numbers."""
    if not (hasattr(x, "shape") and hasattr(x, "dtype")):
        return False
    dtype = getattr(x.dtype, "as_numpy_dtype", x.dtype)
    return bool(np.issubdtype(dtype, np.number) or np.issubdtype(dtype, np.bool_))


def _shape_is_known(element_spec: Any, num_classes: int | None) -> bool:
    x, _ = events_and_labels(keras.utils.unpack_x_y_sample_weight(element_spec)[0], num_classes)
    shape = getattr(x, "shape", None)
    return shape is not None and shape.rank is not None and None not in shape[1:]


def stand_in(x: Any, y: Any, sample_weight: Any) -> Any:
    """Stand in for the targets, without which Keras drops the sample weights of arrays."""
    if y is not None or sample_weight is None:
        return y
    events, _ = events_and_labels(x, None)
    return np.zeros(len(events), "float32")
