"""Batches as `fit`, data sets and people give them, and the parts of them that a step takes."""

from collections.abc import Mapping
from typing import Any, NamedTuple, NoReturn

import keras
import tensorflow as tf

from tfvae.errors import InputError
from tfvae.graph_errors import refuse_unless
from tfvae.models.event_spec import NOUN, EventSpec
from tfvae.typing import ArrayLike, Tensor

# The names under which data sets of dictionaries hold events and labels.
EVENT_KEYS = ("x", "image", "images", "event", "events", "features", "series", "volume", "input")
LABEL_KEYS = ("y", "label", "labels")


class Batch(NamedTuple):
    """One batch, its parts told apart.

    Attributes:
        x: events `[B, *event_shape]`, which the encoder sees.
        label: of a conditional model `[B]`, else None.
        target: the events that log p(x|z) is evaluated at, where they are others than `x`; else
            None.
        weight: sample weights `[B]`, else None.
        value_weight: weights of the values that p(x|z) is evaluated at, `[B, *event_shape]`, else
            None.
    """

    x: Any
    label: Any = None
    target: Any = None
    weight: Any = None
    value_weight: Any = None


def unpack(data: Any, spec: EventSpec) -> Batch:
    """Tell apart what a batch holds.

    A batch is ``x``, ``(x, y)`` or ``(x, y, sample_weight)``. For x it may hold a list
    ``[x, label]``, or a dictionary such as ``{"image": x, "label": label}``. y is

    * the labels, of a conditional model whose x brings none;
    * a target of the event's own shape, at which p(x|z) is evaluated in place of x, as in
      denoising;
    * labels that a model without them leaves aside.

    Sample weights are one for each event, or one for each value: then Σ w·log p(value|z) takes the
    place of log p(x|z).

    Args:
        data: as Keras or a data set gives it.
        spec: what the model takes in.

    Raises:
        InputError: if a part is missing, or y is none of these.
    """
    x, y, weight = keras.utils.unpack_x_y_sample_weight(data)
    x, label = events_and_labels(x, spec.num_classes)
    if isinstance(y, (Mapping, list, tuple)):
        y = _only(y)
    target = None
    if y is not None and _has_event_shape(y, spec):
        target = y
    elif spec.num_classes is not None and label is None:
        label = y
    elif y is not None and not _may_be_labels(y, spec):
        raise InputError(
            f"the target is {_described(spec)}, at which p(x|z) is evaluated, or labels; "
            f"received shape {tuple(y.shape)}"
        )
    # A column of weights of single values is one for each event too: what is reported is the same.
    if weight is not None and _has_event_shape(weight, spec) and spec.shape != (1,):
        return Batch(x, label, target, value_weight=weight)
    return Batch(x, label, target, weight)


def events_and_labels(x: Any, num_classes: int | None) -> tuple[Any, Any]:
    """Return the events and labels of what stands for x in a batch; None without labels.

    Args:
        x: events; a list or tuple of events and labels; or a dictionary with names among
            `EVENT_KEYS` and `LABEL_KEYS`.
        num_classes: that of the model; the labels of a model without are left aside.

    Raises:
        InputError: if a dictionary does not say which of its parts are the events.
    """
    if isinstance(x, Mapping):
        events = [key for key in x if str(key).lower() in EVENT_KEYS]
        labels = [key for key in x if str(key).lower() in LABEL_KEYS]
        others = [key for key in x if key not in labels]
        if not events and len(others) == 1:
            events = others
        if len(events) != 1 or len(labels) > 1:
            raise InputError(
                f"which of {', '.join(map(repr, x))} are the events? Expected one named x or "
                "image: write data.map(lambda batch: (batch['NAME'], batch['LABEL']))"
            )
        return x[events[0]], x[labels[0]] if labels and num_classes is not None else None
    if isinstance(x, (tuple, list)) and len(x) == 2 and hasattr(x[0], "shape"):
        return x[0], x[1] if num_classes is not None else None
    if isinstance(x, (tuple, list)) and len(x) == 1 and hasattr(x[0], "shape"):
        return x[0], None
    return x, None


def _only(y: Any) -> Any:
    """Return the only part of a structure, or the labels of a dictionary."""
    if isinstance(y, Mapping):
        named = [y[key] for key in y if str(key).lower() in LABEL_KEYS]
        parts = named or list(y.values())
    else:
        parts = list(y)
    if len(parts) != 1:
        raise InputError(
            f"expected one target or one array of labels; received {len(parts)}: name the one in "
            "data.map(lambda x, y: (x, y['NAME']))"
        )
    return parts[0]


def _has_event_shape(y: ArrayLike, spec: EventSpec) -> bool:
    shape = getattr(y, "shape", None)
    if shape is None or _rank(shape) is None:
        return False
    return len(shape) == spec.rank + 1 and all(
        side in (None, expected) for side, expected in zip(shape[1:], spec.shape, strict=True)
    )


def _may_be_labels(y: ArrayLike, spec: EventSpec) -> bool:
    """Whether y may be labels that a model without them leaves aside."""
    shape: Any = getattr(y, "shape", ())
    rank = _rank(shape)
    if rank is None or rank <= 1 or (rank == 2 and shape[1] == 1):
        return True
    # One-hot rows. Beside vectors, another width is more likely a mistake.
    return rank == 2 and spec.rank > 1


def _rank(shape: Any) -> int | None:
    """Return how many axes a shape has, None where TensorFlow has lost that."""
    return shape.rank if isinstance(shape, tf.TensorShape) else len(shape)


def _described(spec: EventSpec) -> str:
    return f"{spec.noun} [batch, {', '.join(map(str, spec.shape))}]"


def checked_weights(
    batch: Batch, spec: EventSpec, *, guard: bool = False
) -> tuple[Tensor | None, Tensor | None]:
    """Return the weights of events and of single values of a batch as float32; None without.

    Args:
        batch: as `unpack` returns it.
        spec: what the model takes in.
        guard: whether a graph checks their values as it runs, and not their shapes alone.

    Raises:
        InputError: if they do not fit, or one is negative or not finite; in graphs by way of
            TensorFlow.
    """
    of_events, of_values = batch.weight, batch.value_weight
    return (
        None if of_events is None else _weight_vector(of_events, spec, guard),
        None if of_values is None else _value_weights(of_values, spec, guard),
    )


def _weight_vector(weight: ArrayLike, spec: EventSpec, guard: bool) -> Tensor:
    """Return weights of events `[B]` or `[B, 1]` as `[B]`."""
    weight = tf.cast(tf.convert_to_tensor(weight), tf.float32)
    if weight.shape.rank not in (None, 0, 1) and tuple(weight.shape[1:]) != (1,):
        raise InputError(
            f"expected one sample weight for each {NOUN[spec.rank]}, [batch], or one for each of "
            f"its values, [batch, {', '.join(map(str, spec.shape))}]; received shape {weight.shape}"
        )
    return _finite_weights(tf.reshape(weight, (-1,)), guard)


def _value_weights(weight: ArrayLike, spec: EventSpec, guard: bool) -> Tensor:
    """Return weights of single values, `[B, *event_shape]`."""
    weight = tf.cast(tf.convert_to_tensor(weight), tf.float32)
    weight = tf.ensure_shape(weight, (None, *spec.shape))
    return _finite_weights(weight, guard)


def _finite_weights(weight: Tensor, guard: bool) -> Tensor:
    """Refuse weights below 0, NaN and infinity: one of these would reach all weights of a model."""

    def fits(weight: Tensor) -> Tensor:
        return tf.math.is_finite(weight) & (weight >= 0)

    def complain(weight: Tensor) -> NoReturn:
        flat = tf.reshape(weight, (-1,))
        wrong = flat[tf.argmin(tf.cast(fits(flat), tf.int32))]
        raise InputError(
            f"sample weights are finite numbers from 0; received {float(wrong):g}: give what is "
            "not to count the weight 0"
        )

    if not (guard or tf.executing_eagerly()):
        return weight
    all_fit = tf.reduce_all(fits(weight))
    if tf.executing_eagerly():
        if not bool(all_fit):
            complain(weight)
        return weight
    with tf.control_dependencies([refuse_unless(all_fit, complain, [weight])]):
        return tf.identity(weight)
