"""What an input of a model is: the shape and support of an event x, and the labels beside it."""

import dataclasses
import math
from collections.abc import Iterator
from typing import NoReturn

import numpy as np
import tensorflow as tf

from tfvae.errors import InputError
from tfvae.graph_errors import refuse_unless
from tfvae.likelihoods import ColumnsSupport, Encoding, Support
from tfvae.typing import ArrayLike, Shape, Tensor

# What several events and one are called, and their axes, by rank.
NOUNS = {1: "vectors", 2: "series", 3: "images", 4: "volumes"}
NOUN = {1: "vector", 2: "series", 3: "image", 4: "volume"}
AXES = {
    1: "features",
    2: "steps, channels",
    3: "height, width, channels",
    4: "depth, height, width, channels",
}


def number_tensor(value: ArrayLike, expected: str) -> Tensor:
    """Return numbers as a tensor, of the dtype that they come in.

    Args:
        value: of any shape.
        expected: what the message begins with.

    Raises:
        InputError: if they are no numbers.
    """
    try:
        tensor = tf.convert_to_tensor(value)
    except (ValueError, TypeError, OverflowError, tf.errors.OpError):
        raise InputError(f"{expected}; received {type(value).__name__}") from None
    dtype = tensor.dtype
    if not (dtype.is_floating or dtype.is_integer or dtype.is_bool):
        raise InputError(f"{expected}; received {dtype.name}")
    return tensor


@dataclasses.dataclass(frozen=True)
class EventSpec:
    """What a model takes in. Everybody who checks an input asks it, and says its words.

    Attributes:
        shape: of one event x: `(D,)`, `(T, C)`, `(H, W, C)` or `(D, H, W, C)`.
        support: the values that p(x|z) is defined for.
        owner: what has that support, as messages call it.
        num_classes: labels y are whole numbers from 0 to one less; None for a model without.
        missing: whether NaN means a value that was not observed; else NaN is refused.
        encoding: what an encoder sees of x, where it is not x itself; see
            `tfvae.likelihoods.Likelihood.encoding`.
    """

    shape: Shape
    support: Support | ColumnsSupport = dataclasses.field(default_factory=Support)
    owner: str = "the likelihood"
    num_classes: int | None = None
    missing: bool = False
    encoding: Encoding | None = None

    @property
    def rank(self) -> int:
        """How many axes an event has."""
        return len(self.shape)

    @property
    def noun(self) -> str:
        """What several events are called."""
        return NOUNS[self.rank]

    @property
    def encoder_shape(self) -> Shape:
        """The shape that an encoder takes: x as it is encoded, and its mask if it has one."""
        *sides, channels = self.shape
        seen = channels if self.encoding is None else self.encoding.channels
        return (*sides, seen + channels) if self.missing else (*sides, seen)

    # --- events -----------------------------------------------------------------------------------

    def check_shape(self, shape: tuple[int | None, ...]) -> None:
        """Check the shape of a batch of events, as far as it is known.

        Raises:
            InputError: if it is not `[batch, *self.shape]`.
        """
        shape = tuple(shape)
        if len(shape) == self.rank + 1 and all(
            side in (None, expected) for side, expected in zip(shape[1:], self.shape, strict=True)
        ):
            return
        advice = ""
        if len(shape) == self.rank and self.shape in ((*shape[1:], 1), shape):
            axis = "x[None]" if shape == self.shape else "x[..., None]"
            advice = f": add the missing axis, {axis}"
        raise InputError(
            f"expected {self.noun} {_named_shape(self.shape)}; received shape "
            f"[{', '.join(map(str, shape))}]{advice}"
        )

    def tensor(self, x: ArrayLike, guard: bool = False) -> Tensor:
        """Return events as a float32 tensor `[B, *shape]` whose shape has been checked.

        The values are not looked at.

        Args:
            x: events.
            guard: whether a shape that is not known as a graph is traced is checked when it runs.

        Raises:
            InputError: if `x` is no array of numbers, or has another shape.
        """
        expected = f"expected {self.noun} {_named_shape(self.shape)} of numbers"
        x = tf.cast(number_tensor(x, expected), tf.float32)
        if x.shape.rank is None or None in x.shape[1:]:
            if x.shape.rank is not None:
                self.check_shape(x.shape)
            # A pipeline that has lost the static shape.
            if guard:
                x = self._refused_unless_shaped(x)
            x = tf.ensure_shape(x, (None, *self.shape))
        self.check_shape(x.shape)
        return x

    def _refused_unless_shaped(self, x: Tensor) -> Tensor:
        """Refuse in a graph a batch whose shape, unknown while it was traced, does not fit."""
        expected = tf.constant(self.shape, tf.int32)
        shape = tf.shape(x)
        fits = tf.equal(tf.size(shape), self.rank + 1)
        fits = tf.cond(fits, lambda: tf.reduce_all(shape[1:] == expected), lambda: fits)

        def complain(shape: Tensor) -> NoReturn:
            self.check_shape(tuple(shape.numpy().tolist()))
            raise AssertionError("the shape fits")

        with tf.control_dependencies([refuse_unless(fits, complain, [shape])]):
            return tf.identity(x)

    def observed(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return events without holes, and where they were observed.

        Values that rounding has brought out of the support by a hair are brought back.

        Args:
            x: `[..., *shape]`, NaN where nothing was observed.

        Returns:
            x with `support.fill` in its holes, and a boolean tensor of the same shape; None for
            that of a model without missing values.
        """
        if not self.missing:
            return self.support.clip(x), None
        mask = tf.logical_not(tf.math.is_nan(x))
        return self.support.clip(tf.where(mask, x, self.support.fill)), mask

    def encoder_input(self, x: Tensor, observed: Tensor | None) -> Tensor:
        """Return what the encoder takes of `observed(x)`: x as it is encoded, beside its mask."""
        seen = x if self.encoding is None else self.encoding(x)
        if observed is None:
            return seen
        return tf.concat([seen, tf.cast(observed, seen.dtype)], axis=-1)

    def blank(self, count: int) -> Tensor:
        """Return events of nothing but `support.fill`, `[count, *shape]`."""
        return tf.broadcast_to(tf.constant(self.support.fill, tf.float32), (count, *self.shape))

    # --- labels -----------------------------------------------------------------------------------

    def labels_of_each(self, n: int, label: ArrayLike | None) -> Tensor | None:
        """Return a label for each of n events to be drawn, int32 `[n]`; None for a model without.

        Args:
            n: how many events.
            label: one label for all of them, or `[n]`.

        Raises:
            InputError: if labels are missing, are no labels of the model, or are not one or n.
        """
        if self.num_classes is None and label is None:
            return None
        label = tf.cast(self.labels(label), tf.int32)
        if label.shape.rank > 1 or (label.shape.rank == 1 and label.shape[0] not in (1, n)):
            raise InputError(
                f"expected one label, or one for each of {n} events; received shape {label.shape}"
            )
        return tf.broadcast_to(label, (n,))

    def labels(self, label: ArrayLike | None) -> Tensor:
        """Return labels as a tensor of whole numbers, of any shape and of the dtype they came in.

        Raises:
            InputError: if the model takes none or they are missing; eagerly also if they are no
                labels of the model.
        """
        if self.num_classes is None:
            raise InputError(
                "the model takes no labels; received some: make it with num_classes=..."
            )
        if label is None:
            raise InputError(
                "a conditional model needs labels, whole numbers from 0 to "
                f"{self.num_classes - 1}; received none"
            )
        label = number_tensor(label, "labels are whole numbers")
        if not (label.dtype.is_integer or label.dtype.is_floating):
            raise InputError(f"labels are whole numbers; received {label.dtype.name}")
        if tf.executing_eagerly() and not bool(self._are_labels(label)):
            self._complain_of_labels(label)
        return label

    def label_vector(self, label: ArrayLike | None) -> Tensor:
        """Return the labels of a batch, `[B]`; a column of them or one-hot rows will do.

        Raises:
            InputError: if they are no labels of the model, or not one for each event.
        """
        label = self.labels(label)
        if label.shape.rank is None:
            # A graph that was traced for vectors and again for columns has lost the rank.
            is_one_hot = tf.logical_and(tf.rank(label) == 2, tf.shape(label)[-1] > 1)
            return tf.cond(
                is_one_hot,
                lambda: tf.argmax(label, axis=-1, output_type=tf.int64),
                lambda: tf.cast(tf.reshape(label, (-1,)), tf.int64),
            )
        if label.shape.rank == 2 and label.shape[1] == 1:
            label = tf.reshape(label, (-1,))
        if label.shape.rank == 2 and label.shape[1] == self.num_classes:
            return tf.argmax(label, axis=-1, output_type=tf.int64)
        if label.shape.rank != 1:
            raise InputError(
                f"expected one label for each {NOUN[self.rank]}, [batch], or one-hot rows [batch, "
                f"{self.num_classes}]; received shape {label.shape}"
            )
        return label

    def _are_labels(self, label: Tensor) -> Tensor:
        # In the labels' own dtype: 2**32 + 3 is not 3.
        last = (self.num_classes or 1) - 1
        fits = (label >= 0) & (label <= tf.cast(last, label.dtype))
        return tf.reduce_all(fits & (tf.round(label) == label if label.dtype.is_floating else True))

    def _complain_of_labels(self, label: Tensor) -> NoReturn:
        values = label.numpy()
        if not np.isfinite(values).all() or (values != np.round(values)).any():
            raise InputError(
                f"labels are whole numbers; received {values.min():g} to {values.max():g}"
            )
        raise InputError(
            f"expected labels below {self.num_classes}, from 0; received labels from "
            f"{int(values.min())} to {int(values.max())}"
        )

    # --- both -------------------------------------------------------------------------------------

    def admits(self, x: Tensor) -> Tensor:
        """Whether all values of events are in the support, or missing where they may be."""
        if self.missing:
            x = tf.where(tf.math.is_nan(x), self.support.fill, x)
        return self.support.admits(x)

    def check(self, x: ArrayLike, label: ArrayLike | None = None) -> tuple[Tensor, Tensor | None]:
        """Check events and labels outside of graphs; within one, their static shapes alone.

        Returns:
            The events, float32 `[B, *shape]`; and the labels `[B]`, None of a model without.

        Raises:
            InputError: if they do not fit, in one line.
        """
        x = self.tensor(x)
        if tf.executing_eagerly() and not bool(self.admits(x)):
            self._complain(x)
        if self.num_classes is None and label is None:
            return x, None
        return x, self.label_vector(label)

    def guard(self, x: ArrayLike, label: ArrayLike | None = None) -> tuple[Tensor, Tensor | None]:
        """Check events and labels inside a graph, when it runs; outside as `check` does.

        What depends on the returned tensors waits for the check.

        Raises:
            InputError: by way of TensorFlow; see `tfvae.graph_errors.one_line_errors`.
        """
        if tf.executing_eagerly():
            return self.check(x, label)
        x, label = self.check(self.tensor(x, guard=True), label)
        checks = [refuse_unless(self.admits(x), self._complain, [x])]
        if label is not None:
            fits = self._are_labels(label)
            checks.append(refuse_unless(fits, self._complain_of_labels, [label]))
        with tf.control_dependencies(checks):
            return tf.identity(x), None if label is None else tf.identity(label)

    def check_array(self, x: np.ndarray, label: ArrayLike | None = None) -> None:
        """Check a whole array before a training, some rows at a time.

        Raises:
            InputError: if it has no rows, or events or labels do not fit.
        """
        self.check_values(x)
        if self.num_classes is not None:
            self.label_vector(label)

    def check_values(self, x: np.ndarray) -> None:
        """Check the events of a whole array, whatever their labels are, some rows at a time.

        Raises:
            InputError: if it has no rows, or events do not fit.
        """
        if len(x) == 0:
            raise InputError(f"expected at least one {NOUN[self.rank]}; received an empty array")
        self.check_shape(x.shape)
        if not self.admits_array(x):
            self._complain(tf.cast(tf.convert_to_tensor(x), tf.float32))

    def admits_array(self, x: np.ndarray) -> bool:
        """Whether `admits` says so of a whole array, some rows at a time."""
        return all(bool(self.admits(part)) for part in self._parts(x))

    def clip_array(self, x: np.ndarray) -> np.ndarray:
        """Return what `support.clip` makes of a whole array, float32, some rows at a time."""
        clipped = [self.support.clip(part).numpy() for part in self._parts(x)]
        return clipped[0] if len(clipped) == 1 else np.concatenate(clipped)

    def _parts(self, x: np.ndarray) -> Iterator[Tensor]:
        """Yield an array as float32 tensors of some rows each."""
        rows = max(1, 2**22 // max(1, math.prod(self.shape)))
        for start in range(0, max(1, len(x)), rows):
            yield tf.cast(tf.convert_to_tensor(x[start : start + rows]), tf.float32)

    def _complain(self, x: Tensor) -> NoReturn:
        raise InputError(self.support.complaint_about(self.owner, x.numpy(), missing=self.missing))


def _named_shape(shape: Shape) -> str:
    return f"[batch, {', '.join(map(str, shape))}]"
