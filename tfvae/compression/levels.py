"""The finite values that p(x|z) gives probabilities to, as whole numbers, and back."""

import dataclasses
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from tfvae.compression.stack import Stack
from tfvae.errors import InputError
from tfvae.lazy import tfd
from tfvae.likelihoods import Bernoulli, Columns, Likelihood

if TYPE_CHECKING:
    from tfvae.models.vae import VAE
    from tfvae.models.vq import VQVAE

# Above that the coder's probabilities, of 24 bits, would leave too little for the others.
_MOST_LEVELS = 2**16
# Probabilities that are in memory at a time: 32 MiB in float32.
_MOST_NUMBERS = 2**23


@dataclasses.dataclass(frozen=True, eq=False)
class Levels:
    """The values low, low + step, ... of each place on an event's last axis, or of all places.

    Attributes:
        low: `[]`, or `[C]` of a table's columns.
        step: the same shape.
        count: how many there are, the same shape.
    """

    low: np.ndarray
    step: np.ndarray
    count: np.ndarray

    @classmethod
    def of(cls, likelihood: Likelihood) -> "Levels":
        """Return the levels of a likelihood.

        Raises:
            InputError: if its values are not finitely many.
        """
        if not isinstance(likelihood, Columns):
            low, step, count = _levels_of(likelihood, "the model has the likelihood")
            return cls(np.array(low), np.array(step), np.array(count))
        if likelihood.library is not None:
            raise InputError(
                "compression codes columns that do not depend on each other given z; the model's "
                f"counts depend on the column {likelihood.library!r}"
            )
        found = [
            _levels_of(likelihood.likelihood_of(name), f"the column {name!r} has the likelihood")
            for name in likelihood.names
        ]
        return cls(*(np.array(part) for part in zip(*found, strict=True)))

    @property
    def most(self) -> int:
        """The most levels of any place."""
        return int(self.count.max())

    def numbers(self, x: np.ndarray) -> np.ndarray:
        """Return which level each value is on, int32, the same shape."""
        found = np.rint((np.asarray(x, np.float64) - self.low) / self.step)
        return np.clip(found, 0, self.count - 1).astype(np.int32)

    def values(self, numbers: np.ndarray) -> np.ndarray:
        """Return the values of levels, float64, the same shape."""
        return self.low + numbers * self.step

    def table(self) -> np.ndarray:
        """Return all levels, float32 `[K]` or `[K, C]`; the last where there are fewer than K."""
        numbers = np.arange(self.most).reshape(-1, *[1] * self.low.ndim)
        return self.values(np.minimum(numbers, self.count - 1)).astype(np.float32)

    def exist(self) -> np.ndarray:
        """Return which entries of `table` are levels of their own, booleans of the same shape."""
        return np.arange(self.most).reshape(-1, *[1] * self.low.ndim) < self.count


def _levels_of(likelihood: Likelihood, owner: str) -> tuple[float, float, int]:
    support: Any = likelihood.support
    if isinstance(likelihood, Bernoulli):
        return 0.0, 1.0, 2
    if support.step is None or not likelihood.is_discrete or math.isinf(support.high):
        raise InputError(
            "compression needs a likelihood of finitely many values: bernoulli, categorical, "
            f"discretized_logistic or discretized_logistic_mixture; {owner} "
            f"{type(likelihood).__name__}"
        )
    count = round((support.high - support.low) / support.step) + 1
    if count > _MOST_LEVELS:
        raise InputError(f"compression codes up to {_MOST_LEVELS} levels; {owner} {count}")
    return float(support.low), float(support.step), count


class LevelCoder:
    """p(x|z), as what pushes levels of events and pops them.

    Args:
        vae: a built model.

    Raises:
        InputError: if the values of its events are not finitely many.
    """

    def __init__(self, vae: "VAE | VQVAE"):
        self._family = vae.likelihood_family
        self.levels = Levels.of(self._family)
        self._event_shape = tuple(vae.event_shape)
        self._table = self.levels.table()
        self._exist = None if self.levels.exist().all() else self.levels.exist()
        self._probabilities_of = tf.function(self._compute, autograph=False, reduce_retracing=True)
        self._values = int(np.prod(self._event_shape))

    @property
    def rows(self) -> int:
        """How many events' probabilities are computed at a time."""
        return max(1, _MOST_NUMBERS // (self._values * self.levels.most))

    def _compute(self, parameters: dict[str, tf.Tensor]) -> tf.Tensor:
        """Compute the probability of each level of each value, float32 `[B · values, K]`."""
        from tfvae.distributions.discrete import LogisticLevels

        values = self._family.value_distribution(parameters)
        inner = getattr(values, "distribution", None)
        if self._exist is None and isinstance(inner, tfd.Categorical):
            # Its probabilities stand there already.
            return tf.reshape(inner.probs_parameter(), (-1, self.levels.most))
        if self._exist is None and isinstance(inner, LogisticLevels):
            return tf.reshape(inner.level_probs(), (-1, self.levels.most))
        axes = len(self._event_shape) - (self._table.ndim - 1)
        shape = (self.levels.most, *[1] * (1 + axes), *self._table.shape[1:])
        table = np.broadcast_to(
            self._table.reshape(shape), (self.levels.most, 1, *self._event_shape)
        )
        probabilities = tf.exp(values.log_prob(tf.constant(table)))
        if self._exist is not None:
            probabilities *= self._exist.reshape(shape).astype(np.float32)
        probabilities = tf.reshape(probabilities, (self.levels.most, -1))
        return tf.transpose(probabilities)

    def _slices(self, count: int) -> list[slice]:
        return [slice(start, start + self.rows) for start in range(0, count, self.rows)]

    def _of(self, parameters: dict[str, tf.Tensor], rows: slice) -> np.ndarray:
        found = self._probabilities_of({name: one[rows] for name, one in parameters.items()})
        probabilities = np.asarray(found)
        if not np.isfinite(probabilities).all():
            raise InputError("the model's decoder puts out NaN or infinite values for these events")
        return probabilities

    def push(self, stack: Stack, parameters: dict[str, tf.Tensor], numbers: np.ndarray) -> None:
        """Push the levels `[B, *event_shape]` of events, whose p(x|z) has these parameters."""
        for rows in reversed(self._slices(len(numbers))):
            stack.push_choice(numbers[rows].reshape(-1), self._of(parameters, rows))

    def pop(self, stack: Stack, parameters: dict[str, tf.Tensor], count: int) -> np.ndarray:
        """Pop the levels of `count` events, int64 `[B, *event_shape]`."""
        parts = [stack.pop_choice(self._of(parameters, rows)) for rows in self._slices(count)]
        return np.concatenate(parts).reshape(count, *self._event_shape)
