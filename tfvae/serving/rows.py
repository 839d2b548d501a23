"""Rows of a table in a served graph: columns by their names, as the table has them.

What `tfvae.datasets.Schema` does with frames is done here with tensors, one for each column, so
that a client needs nothing but the names and values of the table.
"""

import abc
import functools
import keyword
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfvae.datasets.column import MOST_NAMES, Column, level_key
from tfvae.datasets.schema import Schema
from tfvae.models.vae import VAE
from tfvae.models.vq import VQVAE
from tfvae.serving.signatures import Outputs, Signature
from tfvae.typing import Tensor

# What comes for rows too; in each the events are the first input.
_OF_ROWS = ("reconstruct", "encode", "elbo", "bound", "log_prob", "anomaly_score", "impute")
# Outputs that are log p(x) or a part of it, which the table's own units change.
_DENSITIES = ("elbo", "bound", "log_likelihood", "log_prob")
# What other inputs are called.
_TAKEN = ("seed", "label")
_DATE = r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2})?)?"
_DAY = 86_400


def row_signatures(vae: VAE | VQVAE, plain: Sequence[Signature], schema: Schema) -> list[Signature]:
    """Return the signatures of a table's rows, ``NAME_rows`` for those that take events.

    Each column is an input `[B]` of its own: numbers are float64, NaN where one is missing;
    categories are text, and dates text such as ``2020-12-31`` or ``2020-12-31T23:59:00``, empty
    where they are missing. Inputs and outputs are called as the columns are, with ``_`` for what no
    name may hold. A column of labels is one more, as text. Densities are those of the table's own
    units, as `Schema.log_abs_det_jacobian` makes them, and ``sample_rows`` draws from p(x|z).

    Args:
        vae: the model.
        plain: its signatures of float32 events.
        schema: of the table that it was trained on.
    """
    by_name = {one.name: one for one in plain}
    rows = _Rows(schema, missing=vae.missing, conditional=vae.num_classes is not None)
    found = [
        rows.of_events(by_name[name], fills=name == "impute")
        for name in _OF_ROWS
        if name in by_name
    ]
    latent = by_name["sample_codes" if "sample_codes" in by_name else "sample_latent"]
    return [*found, rows.drawn(vae, latent)]


class _Rows:
    """The columns of a table as tensors.

    Args:
        schema: of the table.
        missing: whether the model takes missing values.
        conditional: whether the model takes labels.
    """

    def __init__(self, schema: Schema, *, missing: bool, conditional: bool):
        self._names = _names(column.name for column in schema.columns)
        self._groups = list(column_groups(schema.columns, missing=missing))
        self.specs: list[Any] = [None] * len(self._names)
        self._examples: dict[str, Any] = {}
        for group in self._groups:
            for place, example in zip(group.places, group.examples(), strict=True):
                name = self._names[place]
                self.specs[place] = tf.TensorSpec((None,), group.dtype, name=name)
                self._examples[name] = example
        self._label: Any = None
        if conditional and schema.label is not None:
            (self._label,) = column_groups([schema.label], missing=False)
            name = _names([*(column.name for column in schema.columns), schema.label.name])[-1]
            self._label_spec = tf.TensorSpec((None,), tf.string, name=name)
            self._examples[name] = self._label.examples()[0]

    def of_events(self, signature: Signature, *, fills: bool = False) -> Signature:
        """Return the form of a signature whose first input are rows.

        Args:
            signature: of events.
            fills: whether what was given comes back as it was.
        """
        _, *others = signature.inputs
        count = len(self.specs)

        def of_rows(*given: Tensor) -> Outputs:
            columns, rest = given[:count], given[count:]
            x, shift = self._events(columns)
            outputs = signature.function(x, *self._others(rest, others))
            for name in _DENSITIES:
                if name in outputs:
                    outputs[name] = outputs[name] + tf.cast(shift, outputs[name].dtype)
            if "x" in outputs:
                outputs |= self._values(outputs.pop("x"), False, columns if fills else None)
            return outputs

        inputs = [*self.specs, *self._taken(others)]
        says = f"{signature.says}; of a table's columns"
        return Signature.of(f"{signature.name}_rows", of_rows, inputs, says, self._examples)

    def drawn(self, vae: VAE | VQVAE, latent: Signature) -> Signature:
        """Return the signature that makes rows up.

        Args:
            vae: the model.
            latent: its signature of draws from the prior.
        """

        def draw(row: tuple[Tensor, ...]) -> Tensor:
            codes, *label = [one[None] for one in row[:-1]]
            if isinstance(vae, VQVAE):
                codes = vae.code_vectors(codes)
            likelihood = vae.decode(codes, *label)
            return likelihood.sample(seed=tf.random.experimental.stateless_fold_in(row[-1], 1))[0]

        def of_seeds(seed: Tensor, *rest: Tensor) -> Outputs:
            label = self._others(rest, latent.inputs[1:])
            given = (*latent.function(seed, *label).values(), *label, seed)
            spec = tf.TensorSpec(vae.event_shape, tf.float32)
            return self._values(tf.map_fn(draw, given, fn_output_signature=spec), True, None)

        seed, *others = latent.inputs
        inputs = [seed, *self._taken(others)]
        says = "rows made up: draws from p(x|z) at a draw of z from p(z)"
        return Signature.of("sample_rows", of_seeds, inputs, says, self._examples)

    def _taken(self, others: Iterable[tf.TensorSpec]) -> list[tf.TensorSpec]:
        """Return inputs beside the columns: a label by the name of its column."""
        named = {} if self._label is None else {"label": self._label_spec}
        return [named.get(one.name, one) for one in others]

    def _others(self, values: Sequence[Tensor], specs: Sequence[tf.TensorSpec]) -> list[Tensor]:
        """Return what the plain signature takes for inputs beside the columns."""
        return [
            tf.cast(self._label.events(value[:, None])[:, 0], tf.int32)
            if spec.name == "label" and self._label is not None
            else value
            for value, spec in zip(values, specs, strict=True)
        ]

    @functools.cached_property
    def _events(self) -> Callable[[Sequence[Tensor]], tuple[Tensor, Tensor]]:
        # One graph for all signatures, which makes files smaller.
        return tf.function(self._events_of, autograph=False)

    def _events_of(self, columns: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Return events `[B, D]`, float32, and their log |det ∂(event)/∂(row)| `[B]`, float64."""
        parts, shift = [], 0.0
        for group in self._groups:
            found = group.events(tf.stack([columns[place] for place in group.places], axis=1))
            # Of the events in float32, as the model has them.
            rounded = tf.cast(found, tf.float32)
            shift += group.log_abs_det_jacobian(tf.cast(rounded, tf.float64))
            parts.append(rounded)
        places = [place for group in self._groups for place in group.places]
        return tf.gather(tf.concat(parts, axis=1), np.argsort(places), axis=1), shift

    def _values(
        self, x: Tensor, within_range: bool, given: Sequence[Tensor] | None
    ) -> dict[str, Tensor]:
        """Return the columns of events, by their names, with what was given of them as it was."""
        found = {}
        for group in self._groups:
            values = group.values(tf.gather(x, group.places, axis=1), within_range=within_range)
            if given is not None:
                before = tf.stack([given[place] for place in group.places], axis=1)
                values = tf.where(group.is_missing(before), values, before)
            for place, column in zip(group.places, tf.unstack(values, axis=1), strict=True):
                found[self._names[place]] = column
        return {name: found[name] for name in self._names}


def column_groups(columns: Sequence[Column], *, missing: bool) -> "Iterator[ColumnGroup]":
    """Yield columns that go the same way to events together: a graph for each would be large.

    Args:
        columns: of a table.
        missing: whether values may be missing.
    """
    groups: dict[Any, list[int]] = {}
    for place, column in enumerate(columns):
        kind: type[ColumnGroup] = DateGroup if column.kind == "date" else NumberGroup
        kind = LevelGroup if column.levels else kind
        groups.setdefault((kind, len(column.levels)), []).append(place)
    for (kind, _), places in groups.items():
        yield kind([columns[place] for place in places], places, missing)


class ColumnGroup(abc.ABC):
    """Columns whose way to numbers of events and back is one; see `tfvae.datasets.column.Column`.

    Args:
        columns: what they are.
        places: of them in an event.
        missing: whether values may be missing.

    Attributes:
        dtype: of their values.
        places: as given.
    """

    dtype = tf.string

    def __init__(self, columns: Sequence[Column], places: Sequence[int], missing: bool):
        self._columns, self.places, self._missing = columns, list(places), missing

    def _each(self, what: Callable[[Column], Any]) -> np.ndarray:
        return np.array([what(column) for column in self._columns])

    def is_missing(self, values: Tensor) -> Tensor:
        """Tell which are missing, booleans `[B, n]`."""
        return tf.equal(values, "")

    def events(self, values: Tensor) -> Tensor:
        """Return the numbers of values `[B, n]` in events, float64, NaN where they are missing.

        The call ends with an error where a value does not belong to its column.
        """
        absent = self.is_missing(values)
        refused = absent & (not self._missing)
        expected = np.array(["a value in each row"] * len(self._columns))
        with tf.control_dependencies([self._refusing(refused, values, expected)]):
            numbers = self._numbers(tf.identity(values), absent)
        return tf.where(absent, _float64(np.nan), numbers)

    @abc.abstractmethod
    def _numbers(self, values: Tensor, absent: Tensor) -> Tensor:
        """Return what `events` returns, of values that are there."""

    @abc.abstractmethod
    def values(self, events: Tensor, *, within_range: bool = False) -> Tensor:
        """Return values of numbers of events `[B, n]`: the inverse of `events`."""

    def log_abs_det_jacobian(self, events: Tensor) -> Tensor:
        """Compute the sum of log |∂(event)/∂(value)| over what is not missing, float64 `[B]`."""
        return tf.zeros((tf.shape(events)[0],), tf.float64)

    @abc.abstractmethod
    def examples(self) -> list[np.ndarray]:
        """Return a batch of one value for each column."""

    def _refusing(self, odd: Tensor, values: Tensor, expected: np.ndarray) -> Any:
        """Return the operation that ends the call where values are odd.

        Args:
            odd: booleans `[B, n]`.
            values: `[B, n]`.
            expected: `[n]`, what is expected of each column.
        """
        # TensorFlow would write a backslash before quotes.
        words = [
            f"the column {column.name}: expected {one}; received"
            for column, one in zip(self._columns, expected, strict=True)
        ]
        first = tf.argmax(tf.reduce_any(odd, axis=0))  # the first column that has one
        # `tf.debugging.Assert` would make a branch of its own, which takes long to trace.
        return tf.raw_ops.Assert(
            condition=~tf.reduce_any(odd),
            data=[tf.constant(words)[first], values[:, first][odd[:, first]]],
            summarize=6,
        )


class _ScaledGroup(ColumnGroup):
    """Columns whose values, or their logarithms, are moved and scaled."""

    @functools.cached_property
    def _log(self) -> np.ndarray:
        return self._each(lambda column: column.log)

    @functools.cached_property
    def _line(self) -> tuple[np.ndarray, np.ndarray]:
        return self._each(lambda column: column.center), self._each(lambda column: column.scale)

    @functools.cached_property
    def _range(self) -> tuple[np.ndarray, np.ndarray]:
        return self._each(lambda column: column.low), self._each(lambda column: column.high)

    def log_abs_det_jacobian(self, events: Tensor) -> Tensor:
        """Compute the sum of log |∂(event)/∂(value)| over what is not missing, float64 `[B]`."""
        center, scale = self._line
        logs = -np.log(scale) - self._log * (center + scale * events)
        return tf.reduce_sum(tf.where(tf.math.is_nan(events), _float64(0.0), logs), axis=1)


class NumberGroup(_ScaledGroup):
    """Numbers, fractions and counts."""

    dtype = tf.float64

    def _is(self, kind: str) -> np.ndarray:
        return self._each(lambda column: column.kind == kind)

    @functools.cached_property
    def _bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """What values may be at least and at most, each `[n]`."""
        is_fraction = self._is("fraction")
        low = np.where(is_fraction | self._is("count"), 0.0, -np.inf)
        return low, np.where(is_fraction, self._line[1], np.inf)

    def is_missing(self, values: Tensor) -> Tensor:
        """Tell which are missing, booleans `[B, n]`."""
        return tf.math.is_nan(values)

    def _numbers(self, values: Tensor, absent: Tensor) -> Tensor:
        center, scale = self._line
        is_count, is_fraction = self._is("count"), self._is("fraction")
        expected = np.select(
            [is_count, is_fraction, self._log],
            [
                "whole numbers from 0",
                np.array([f"numbers from 0 to {one:g}" for one in scale]),
                "numbers above 0",
            ],
            "finite numbers",
        )
        low, high = self._bounds
        odd = tf.math.is_inf(values) | (values < low) | (values > high)
        odd |= is_count & (values != tf.floor(values)) | self._log & (values <= 0)
        with tf.control_dependencies([self._refusing(odd & ~absent, values, expected)]):
            values = tf.identity(values)
        values = tf.where(self._log, tf.math.log(tf.where(self._log, values, 1.0)), values)
        return (values - center) / scale

    def values(self, events: Tensor, *, within_range: bool = False) -> Tensor:
        """Return values of numbers of events `[B, n]`: the inverse of `events`."""
        center, scale = self._line
        numbers = center + scale * tf.cast(events, tf.float64)
        numbers = tf.where(self._log, tf.exp(tf.where(self._log, numbers, 0.0)), numbers)
        low, high = self._bounds
        if within_range:
            lowest, highest = self._range
            low, high = np.maximum(low, lowest), np.minimum(high, highest)
        numbers = tf.clip_by_value(numbers, low, high)
        # As many digits as the table had, of counts none.
        is_count = self._is("count")
        decimals = np.where(is_count, 0, self._each(lambda column: column.decimals or 0))
        rounds = is_count | self._each(lambda column: column.decimals is not None)
        unit = 10.0**decimals
        return tf.where(rounds, tf.round(numbers * unit) / unit, numbers)

    def examples(self) -> list[np.ndarray]:
        """Return a batch of one value for each column."""
        return [np.array([column.low], np.float64) for column in self._columns]


class LevelGroup(ColumnGroup):
    """Categories and booleans, of which all have as many levels."""

    @functools.cached_property
    def _levels(self) -> np.ndarray:
        """The levels as text, `[n, levels]`."""
        return self._each(lambda column: [level_key(level) for level in column.levels])

    def _numbers(self, values: Tensor, absent: Tensor) -> Tensor:
        is_level = tf.equal(values[..., None], tf.constant(self._levels))
        booleans = self._each(lambda column: all(isinstance(one, bool) for one in column.levels))
        if booleans.any():
            # As JSON writes them, too.
            lower = np.where(booleans[:, None], np.char.lower(self._levels), self._levels)
            is_level |= tf.equal(values[..., None], tf.constant(lower))
        more = ", ..." if self._levels.shape[1] > MOST_NAMES else ""
        shown = [", ".join(levels[:MOST_NAMES]) + more for levels in self._levels]
        expected = np.array([f"one of {one}" for one in shown])
        unknown = ~tf.reduce_any(is_level, axis=2) & ~absent
        with tf.control_dependencies([self._refusing(unknown, values, expected)]):
            return tf.cast(tf.argmax(tf.cast(is_level, tf.int32), axis=2), tf.float64)

    def values(self, events: Tensor, *, within_range: bool = False) -> Tensor:
        """Return values of numbers of events `[B, n]`: the inverse of `events`."""
        numbers = tf.clip_by_value(tf.round(events), 0.0, self._levels.shape[1] - 1.0)
        chosen = tf.cast(numbers, tf.int32)
        levels = tf.constant(self._levels)
        return tf.transpose(tf.gather(levels, tf.transpose(chosen), axis=1, batch_dims=1))

    def examples(self) -> list[np.ndarray]:
        """Return a batch of one value for each column."""
        return [np.array([levels[0]], object) for levels in self._levels]


class DateGroup(_ScaledGroup):
    """Dates, as text."""

    def _numbers(self, values: Tensor, absent: Tensor) -> Tensor:
        center, scale = self._line
        odd = ~tf.strings.regex_full_match(values, _DATE) & ~absent
        expected = np.array(
            ["dates such as 2020-12-31 or 2020-12-31T23:59:00"] * len(self._columns)
        )
        with tf.control_dependencies([self._refusing(odd, values, expected)]):
            text = tf.where(absent, "1970-01-01", values)
        # As much of the time as is not told is 0.
        length = tf.strings.length(text)
        text += tf.where(length == 10, "T00:00:00", tf.where(length == 16, ":00", ""))

        def number(start: int, size: int) -> Tensor:
            return tf.strings.to_number(tf.strings.substr(text, start, size), tf.int64)

        year, month, day = number(0, 4), number(5, 2), number(8, 2)
        hour, minute, second = number(11, 2), number(14, 2), number(17, 2)
        days = _days(year, month, day)
        # There is no 31st of February: another date comes back.
        same = [tf.equal(*pair) for pair in zip(_date(days), (year, month, day), strict=True)]
        odd = ~tf.reduce_all(tf.stack(same), axis=0) | (hour > 23) | (minute > 59) | (second > 59)
        with tf.control_dependencies([self._refusing(odd, values, expected)]):
            seconds = days * _DAY + hour * 3600 + minute * 60 + second
        return (tf.cast(seconds, tf.float64) - center) / scale

    def values(self, events: Tensor, *, within_range: bool = False) -> Tensor:
        """Return values of numbers of events `[B, n]`: the inverse of `events`."""
        center, scale = self._line
        seconds = center + scale * tf.cast(events, tf.float64)
        if within_range:
            seconds = tf.clip_by_value(seconds, *self._range)
        whole_days = self._each(lambda column: column.decimals == 0)
        unit = np.where(whole_days, _DAY, 1)
        whole = tf.cast(tf.round(seconds / unit), tf.int64) * unit
        days = whole // _DAY

        def padded(numbers: Tensor, width: int = 2) -> Tensor:
            return tf.strings.as_string(numbers, width=width, fill="0")

        year, month, day = _date(days)
        text = padded(year, 4) + "-" + padded(month) + "-" + padded(day)
        rest = whole - days * _DAY
        hour, minute, second = rest // 3600, rest // 60 % 60, rest % 60
        time = "T" + padded(hour) + ":" + padded(minute) + ":" + padded(second)
        return tf.where(whole_days, text, text + time)

    def examples(self) -> list[np.ndarray]:
        """Return a batch of one value for each column."""
        return [
            np.array([str(np.datetime64(int(column.low), "s"))], object) for column in self._columns
        ]


def _names(columns: Iterable[str]) -> list[str]:
    """Return names of inputs for columns, each another."""
    found: list[str] = []
    for name in columns:
        plain = re.sub(r"\W", "_", name, flags=re.ASCII)
        if not plain or not plain[0].isalpha() or keyword.iskeyword(plain) or plain in _TAKEN:
            plain = f"column_{plain}"
        start, number = plain, 2
        while plain in found:
            plain, number = f"{start}_{number}", number + 1
        found.append(plain)
    return found


def _days(year: Tensor, month: Tensor, day: Tensor) -> Tensor:
    """Return the days from 1970-01-01 to dates of the Gregorian calendar, int64.

    Years are counted from March, so that the day that not every year has is their last; 400 years
    have 146,097 days.
    """
    year = year - tf.cast(month <= 2, tf.int64)
    era = year // 400
    of_era = year - era * 400
    place = month + tf.where(month > 2, _int64(-3), _int64(9))
    of_year = (153 * place + 2) // 5 + day - 1
    return era * 146_097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719_468


def _date(days: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return year, month and day of days since 1970-01-01: the inverse of `_days`."""
    days = days + 719_468
    era = days // 146_097
    rest = days - era * 146_097
    of_era = (rest - rest // 1460 + rest // 36_524 - rest // 146_096) // 365
    of_year = rest - (365 * of_era + of_era // 4 - of_era // 100)
    place = (5 * of_year + 2) // 153
    day = of_year - (153 * place + 2) // 5 + 1
    month = place + tf.where(place < 10, _int64(3), _int64(-9))
    year = of_era + era * 400 + tf.cast(month <= 2, tf.int64)
    return year, month, day


def _int64(value: int) -> Tensor:
    return tf.constant(value, tf.int64)


def _float64(value: float) -> Tensor:
    return tf.constant(value, tf.float64)
