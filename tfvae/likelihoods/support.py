"""Which values a likelihood is defined for, and what to say of others."""

import dataclasses
import math

import numpy as np
import tensorflow as tf

from tfvae.typing import ArrayLike, Tensor

# How far outside [low, high] a value may lie, relative to the range: antialiased resizing gives
# values up to 1.000004.
_SLACK = 1e-5
# Up to which part of the range a value outside was probably meant to be at the edge.
_LITTLE = 0.05


@dataclasses.dataclass(frozen=True)
class Support:
    """The values that a likelihood gives a density to: finite, and in [low, high].

    Values up to 1e-5 of the range outside are admitted, and for `clip` to bring back.

    TFP evaluates a density outside its support without complaint:
    ``tfd.Bernoulli(logits=1.).log_prob(255.)`` is +253.7.

    Args:
        low: the lowest value.
        high: the highest value.
        step: distance of neighbouring values on the lattice low, low + step, ..., high that alone
            is supported; None where all values between are.
    """

    low: float = -math.inf
    high: float = math.inf
    step: float | None = None

    def __str__(self) -> str:
        if self.step is not None:
            count = (self.high - self.low) / self.step + 1
            first = [_short(self.low + i * self.step) for i in range(3)]
            if count < 3.5:
                return f"values {', '.join(first[: round(count)])}"
            if math.isinf(count):
                return f"values {', '.join(first)}, ..."
            return f"values {first[0]}, {first[1]}, ..., {self.high:g}"
        if math.isinf(self.low) and math.isinf(self.high):
            return "finite values"
        return f"values in [{self.low:g}, {self.high:g}]"

    @property
    def fill(self) -> float:
        """The supported value nearest to 0, to stand where nothing was observed."""
        nearest = min(max(0.0, self.low), self.high)
        if self.step is not None:
            nearest = self.low + round((nearest - self.low) / self.step) * self.step
        return nearest

    @property
    def width(self) -> float:
        """Width of [low, high]; 0 where it is infinite, so that no part of it is slack."""
        return self.high - self.low if math.isfinite(self.high - self.low) else 0.0

    @property
    def is_unbounded(self) -> bool:
        """Whether it is the whole real line."""
        return self.step is None and math.isinf(self.low) and math.isinf(self.high)

    def clip(self, x: ArrayLike) -> Tensor:
        """Return x with values at most 1e-5 of the range outside moved to the nearest end.

        All other values, NaN and those that are not supported included, stay as they are. Whole
        numbers and booleans become float32.
        """
        x, slack = _floating(x), _SLACK * self.width
        if slack == 0:
            return x
        is_near = (x >= self.low - slack) & (x <= self.high + slack)
        return tf.where(is_near, tf.clip_by_value(x, self.low, self.high), x)

    def admits(self, x: ArrayLike) -> Tensor:
        """Return whether every value of `x` is supported, or will be once `clip` has moved it.

        Returns:
            A boolean scalar tensor; False if there is a NaN.
        """
        x = _floating(x)
        if self.step is None:
            slack = _SLACK * self.width
            inside = (x >= self.low - slack) & (x <= self.high + slack)
        else:
            level = (self.clip(x) - self.low) / self.step
            last = (self.high - self.low) / self.step
            # k/255 is rounded in float32; the error of a level grows with its number.
            slack = 1e-3 + 4 * float(np.finfo(np.float32).eps) * tf.abs(level)
            inside = (level >= -slack) & (level <= last + slack)
            inside &= tf.abs(level - tf.round(level)) <= slack
        return tf.reduce_all(inside & tf.math.is_finite(x))

    def complaint(self, owner: str, low: float, high: float) -> str:
        """Return one line for values from `low` to `high` that are not all supported.

        Args:
            owner: who expects other values.
            low: the lowest value received.
            high: the highest.
        """
        received = f"values from {_unlike(low, self.low)} to {_unlike(high, self.high)}"
        slack = _SLACK * self.width + 1e-3 * (self.step or 0)
        is_below, is_above = low < self.low - slack, high > self.high + slack
        outside = max(self.low - low, high - self.high)
        little = min(_LITTLE * self.width, math.inf if self.step is None else self.step / 2)
        if not (np.isfinite(low) and np.isfinite(high)):
            advice = "remove or replace NaN and infinite values"
        elif (is_below or is_above) and outside <= little:
            advice = f"clip the values, np.clip(x, {self.low:g}, {self.high:g})"
        elif is_below:
            advice = self._advice_for_low_values(low, high)
        elif is_above:
            advice = "scale the values, for bytes x / 255.0"
            if self.step is not None:
                advice += f", or give the likelihood the values' own range, such as high={high:g}"
        elif self.step is None:
            advice = f"bring them into [{self.low:g}, {self.high:g}]"
        else:
            received = f"values between the levels, from {low:g} to {high:g}"
            advice = "round the values, or give the likelihood " + (
                "the value of one count, step=0.0039216 for bytes / 255.0"
                if math.isinf(self.high)
                else "the values' own levels and high, such as levels=256,high=255 for bytes"
            )
        return f"{owner} expects {self}; received {received}: {advice}"

    def complaint_about(self, owner: str, x: ArrayLike, *, missing: bool = False) -> str:
        """Return one line for events that are not all supported.

        Args:
            owner: who expects other values.
            x: the events, any shape.
            missing: whether NaN is a value that was not observed, and nothing to complain about.
        """
        values = np.asarray(x)
        if missing:
            values = values[~np.isnan(values)]
        return self.complaint(owner, *_range(values))

    def _advice_for_low_values(self, low: float, high: float) -> str:
        if math.isinf(self.high):
            return f"shift the values, so that they start at {self.low:g}"
        bound = 1 + _LITTLE
        if (self.low, self.high) == (0, 1) and low >= -bound and high <= bound:
            return "shift the values, for values in [-1, 1] (x + 1) / 2"
        advice = f"shift and scale the values into [{self.low:g}, {self.high:g}]"
        if self.step is None:
            advice += ", or take a likelihood of all finite values, such as normal"
        return advice


@dataclasses.dataclass(frozen=True)
class ColumnsSupport:
    """The values of a row's columns, each with a `Support` of its own.

    It answers what a `Support` does; where that has a number, this has one for each column.

    Args:
        names: of the columns.
        supports: of the columns.
    """

    names: tuple[str, ...]
    supports: tuple[Support, ...]

    # Columns have no lattice in common.
    step = None

    def __str__(self) -> str:
        return f"rows of the {len(self.names)} columns {', '.join(map(repr, self.names))}"

    @property
    def is_unbounded(self) -> bool:
        """Whether every value has a density: rows are scaled by their schema, and not warned of."""
        return False

    @property
    def low(self) -> np.ndarray:
        """The lowest value of each column, float32 `[D]`."""
        return np.array([support.low for support in self.supports], np.float32)

    @property
    def high(self) -> np.ndarray:
        """The highest value of each column, float32 `[D]`."""
        return np.array([support.high for support in self.supports], np.float32)

    @property
    def fill(self) -> np.ndarray:
        """What stands in each column where nothing was observed, float32 `[D]`."""
        return np.array([support.fill for support in self.supports], np.float32)

    def clip(self, x: ArrayLike) -> Tensor:
        """Return x `[..., D]` with values a hair outside moved to the nearest end."""
        x = _floating(x)
        slack = _SLACK * np.array([support.width for support in self.supports], np.float32)
        if not slack.any():
            return x
        is_near = (slack > 0) & (x >= self.low - slack) & (x <= self.high + slack)
        return tf.where(is_near, tf.clip_by_value(x, self.low, self.high), x)

    def admits(self, x: ArrayLike) -> Tensor:
        """Return whether every value of `x` `[..., D]` is supported, as a boolean scalar tensor."""
        x = _floating(x)
        return tf.reduce_all(
            [support.admits(tf.gather(x, places, axis=-1)) for support, places in self._alike()]
        )

    def _alike(self) -> list[tuple[Support, list[int]]]:
        """Return the different supports, and the columns that have each."""
        places: dict[Support, list[int]] = {}
        for place, support in enumerate(self.supports):
            places.setdefault(support, []).append(place)
        return list(places.items())

    def complaint_about(self, owner: str, x: ArrayLike, *, missing: bool = False) -> str:
        """Return one line for events that are not all supported: of the first column that is not.

        Args:
            owner: who expects other values.
            x: the events `[..., D]`.
            missing: whether NaN is a value that was not observed, and nothing to complain about.
        """
        columns = np.asarray(x, np.float32).reshape(-1, len(self.names)).T
        for name, support, values in zip(self.names, self.supports, columns, strict=True):
            present = values[~np.isnan(values)] if missing else values
            if len(present) and not bool(support.admits(present)):
                return support.complaint(f"{owner}, in the column {name!r},", *_range(present))
        raise AssertionError("all columns are supported")


def _range(values: np.ndarray) -> tuple[float, float]:
    return float(values.min()), float(values.max())


def _floating(x: ArrayLike) -> Tensor:
    x = tf.convert_to_tensor(x)
    return x if x.dtype.is_floating else tf.cast(x, tf.float32)


def _short(value: float) -> str:
    """Return a value for a message, as a fraction where that is what was meant."""
    for denominator in (255, 65535):
        numerator = value * denominator
        if 0 < numerator < denominator and abs(numerator - round(numerator)) < 1e-6:
            return f"{round(numerator)}/{denominator}"
    return f"{value:g}"


def _unlike(value: float, bound: float) -> str:
    """Return a value for a message, with as many digits as tell it from a bound that it is not."""
    for digits in range(6, 17):
        text = f"{value:.{digits}g}"
        if value == bound or text != f"{bound:.{digits}g}":
            return text
    return repr(value)
