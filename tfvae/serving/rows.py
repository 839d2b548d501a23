"""Rows of a table in a served graph: columns by their names, as the table has them.

What `tfvae.datasets.Schema` does with frames is done here with tensors, one for each column, so
that a client needs nothing but the names and values of the table.
"""

import keyword
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfvae.datasets.column import Column, level_key
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
        self._schema = schema
        names = _names(column.name for column in schema.columns)
        self._columns = [
            TensorColumn(column, name, missing)
            for column, name in zip(schema.columns, names, strict=True)
        ]
        self._label = None
        if conditional and schema.label is not None:
            name = _names([*(column.name for column in schema.columns), schema.label.name])[-1]
            self._label = TensorColumn(schema.label, name, missing=False)

    def of_events(self, signature: Signature, *, fills: bool = False) -> Signature:
        """Return the form of a signature whose first input are rows.

        Args:
            signature: of events.
            fills: whether what was given comes back as it was.
        """
        _, *others = signature.inputs
        count = len(self._columns)

        def of_rows(*given: Tensor) -> Outputs:
            columns, rest = given[:count], given[count:]
            x = self._events(columns)
            outputs = signature.function(x, *self._others(rest, others))
            shift = self._log_abs_det_jacobian(x)
            for name in _DENSITIES:
                if name in outputs:
                    outputs[name] = outputs[name] + tf.cast(shift, outputs[name].dtype)
            return self._shown(outputs, columns if fills else None)

        return self._signature(signature, of_rows, others)

    def drawn(self, vae: VAE | VQVAE, latent: Signature) -> Signature:
        """Return the signature that makes rows up.

        Args:
            vae: the model.
            latent: its signature of draws from the prior.
        """

        def draw(row: tuple[Tensor, ...]) -> Tensor:
            seed, given = row[-1], [one[None] for one in row[:-1]]
            codes, *label = given
            if isinstance(vae, VQVAE):
                codes = vae.code_vectors(codes)
            likelihood = vae.decode(codes, *label)
            return likelihood.sample(seed=tf.random.experimental.stateless_fold_in(seed, 1))[0]

        def of_seeds(seed: Tensor, *rest: Tensor) -> Outputs:
            label = self._others(rest, latent.inputs[1:])
            given = (*latent.function(seed, *label).values(), *label, seed)
            spec = tf.TensorSpec(vae.event_shape, tf.float32)
            x = tf.map_fn(draw, given, fn_output_signature=spec)
            return self._values(x, within_range=True)

        seed, *others = latent.inputs
        inputs = [seed, *self._taken(others)]
        says = "rows made up: draws from p(x|z) at a draw of z from p(z)"
        return Signature.of("sample_rows", of_seeds, inputs, says, examples=self._examples())

    def _signature(
        self, signature: Signature, function: Callable[..., Outputs], others: list[tf.TensorSpec]
    ) -> Signature:
        inputs = [*(column.spec for column in self._columns), *self._taken(others)]
        return Signature.of(
            f"{signature.name}_rows",
            function,
            inputs,
            f"{signature.says}; of a table's columns",
            examples=self._examples(),
        )

    def _taken(self, others: Iterable[tf.TensorSpec]) -> list[tf.TensorSpec]:
        """Return inputs beside the columns: a label by the name of its column."""
        return [
            self._label.spec if one.name == "label" and self._label is not None else one
            for one in others
        ]

    def _others(self, values: Sequence[Tensor], specs: Sequence[tf.TensorSpec]) -> list[Tensor]:
        """Return what the plain signature takes for inputs beside the columns."""
        return [
            tf.cast(self._label.events(value), tf.int32)
            if spec.name == "label" and self._label is not None
            else value
            for value, spec in zip(values, specs, strict=True)
        ]

    def _events(self, columns: Sequence[Tensor]) -> Tensor:
        """Return events `[B, D]`, float32."""
        found = [
            column.events(values) for column, values in zip(self._columns, columns, strict=True)
        ]
        return tf.cast(tf.stack(found, axis=1), tf.float32)

    def _shown(self, outputs: Outputs, given: Sequence[Tensor] | None) -> Outputs:
        """Return outputs with columns in the place of events."""
        if "x" not in outputs:
            return outputs
        values = self._values(outputs["x"])
        if given is not None:
            for column, one in zip(self._columns, given, strict=True):
                name = column.spec.name
                values[name] = tf.where(column.is_missing(one), values[name], one)
        return {name: one for name, one in outputs.items() if name != "x"} | values

    def _values(self, x: Tensor, *, within_range: bool = False) -> Outputs:
        return {
            column.spec.name: column.values(x[:, place], within_range=within_range)
            for place, column in enumerate(self._columns)
        }

    def _log_abs_det_jacobian(self, x: Tensor) -> Tensor:
        """Return `[B]`, float64; see `Schema.log_abs_det_jacobian`."""
        x = tf.cast(x, tf.float64)
        return tf.add_n(
            [column.log_abs_det_jacobian(x[:, n]) for n, column in enumerate(self._columns)]
        )

    def _examples(self) -> dict[str, Any]:
        """Return a batch of one for each column."""
        columns = [*self._columns, *([] if self._label is None else [self._label])]
        return {column.spec.name: column.example() for column in columns}


class TensorColumn:
    """One column: its way to a number of events and back; see `tfvae.datasets.column.Column`.

    Args:
        column: what it is.
        name: of the input.
        missing: whether values may be missing.

    Attributes:
        spec: of the input.
    """

    def __init__(self, column: Column, name: str, missing: bool):
        self._column, self._missing = column, missing
        self._is_text = bool(column.levels) or column.kind == "date"
        self.spec = tf.TensorSpec((None,), tf.string if self._is_text else tf.float64, name=name)
        self._levels = [level_key(level) for level in column.levels]

    def is_missing(self, values: Tensor) -> Tensor:
        """Tell which are missing, booleans `[B]`."""
        return tf.equal(values, "") if self._is_text else tf.math.is_nan(values)

    def events(self, values: Tensor) -> Tensor:
        """Return the numbers of values in events, float64 `[B]`, NaN where they are missing.

        The call ends with an error where a value does not belong to the column.
        """
        column, absent = self._column, self.is_missing(values)
        checked = [] if self._missing else [self._refusing(absent, values, "a value in each row")]
        with tf.control_dependencies(checked):
            values = tf.identity(values)
        if column.levels:
            return self._numbers_of_levels(values, absent)
        numbers = self._seconds(values, absent) if column.kind == "date" else values
        odd, expected = tf.math.is_inf(numbers), "finite numbers"
        if column.kind == "count":
            odd |= (numbers < 0) | (numbers != tf.floor(numbers))
            expected = "whole numbers from 0"
        elif column.kind == "fraction":
            odd |= (numbers < 0) | (numbers > column.scale)
            expected = f"numbers from 0 to {column.scale:g}"
        elif column.log:
            odd |= numbers <= 0
            expected = "numbers above 0"
        with tf.control_dependencies([self._refusing(odd & ~absent, values, expected)]):
            numbers = tf.math.log(numbers) if column.log else tf.identity(numbers)
        return (numbers - column.center) / column.scale

    def _refusing(self, odd: Tensor, values: Tensor, expected: str) -> Any:
        """Return the operation that ends the call where values are odd."""
        # TensorFlow would write a backslash before quotes.
        words = f"the column {self._column.name}: expected {expected}; received"
        return tf.debugging.Assert(
            ~tf.reduce_any(odd), [words, tf.boolean_mask(values, odd)], summarize=6
        )

    def _numbers_of_levels(self, values: Tensor, absent: Tensor) -> Tensor:
        is_level = tf.equal(values[:, None], tf.constant(self._levels))
        if all(isinstance(level, bool) for level in self._column.levels):
            # As JSON writes them, too.
            lower = tf.constant([level.lower() for level in self._levels])
            is_level |= tf.equal(values[:, None], lower)
        shown = ", ".join(self._levels[:6]) + (", ..." if len(self._levels) > 6 else "")
        unknown = ~tf.reduce_any(is_level, axis=1) & ~absent
        with tf.control_dependencies([self._refusing(unknown, values, f"one of {shown}")]):
            numbers = tf.cast(tf.argmax(tf.cast(is_level, tf.int32), axis=1), tf.float64)
        return tf.where(absent, tf.constant(np.nan, tf.float64), numbers)

    def _seconds(self, values: Tensor, absent: Tensor) -> Tensor:
        """Return dates in seconds since 1970, float64 `[B]`."""
        odd = ~tf.strings.regex_full_match(values, _DATE) & ~absent
        expected = "dates such as 2020-12-31 or 2020-12-31T23:59:00"
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
        return tf.where(absent, tf.constant(np.nan, tf.float64), tf.cast(seconds, tf.float64))

    def values(self, events: Tensor, *, within_range: bool = False) -> Tensor:
        """Return values `[B]` of numbers of events: the inverse of `events`."""
        column, events = self._column, tf.cast(events, tf.float64)
        if column.levels:
            numbers = tf.clip_by_value(tf.round(events), 0.0, len(self._levels) - 1.0)
            return tf.gather(tf.constant(self._levels), tf.cast(numbers, tf.int32))
        numbers = column.center + column.scale * events
        if column.log:
            numbers = tf.exp(numbers)
        if column.kind == "fraction":
            numbers = tf.clip_by_value(numbers, 0.0, column.scale)
        if within_range:
            numbers = tf.clip_by_value(numbers, column.low, column.high)
        if column.kind == "date":
            return self._text_of(numbers)
        if column.kind == "count":
            return tf.maximum(tf.round(numbers), 0.0)
        if column.decimals is not None:
            unit = 10.0**column.decimals
            numbers = tf.round(numbers * unit) / unit
        return numbers

    def _text_of(self, seconds: Tensor) -> Tensor:
        whole_days = self._column.decimals == 0
        unit = _DAY if whole_days else 1
        whole = tf.cast(tf.round(seconds / unit), tf.int64) * unit
        days = whole // _DAY

        def padded(numbers: Tensor, width: int = 2) -> Tensor:
            return tf.strings.as_string(numbers, width=width, fill="0")

        year, month, day = _date(days)
        text = padded(year, 4) + "-" + padded(month) + "-" + padded(day)
        if whole_days:
            return text
        rest = whole - days * _DAY
        hour, minute, second = rest // 3600, rest // 60 % 60, rest % 60
        return text + "T" + padded(hour) + ":" + padded(minute) + ":" + padded(second)

    def log_abs_det_jacobian(self, events: Tensor) -> Tensor:
        """Compute log |∂(event)/∂(value)| `[B]`, 0 where one is missing."""
        logs = tf.zeros_like(events) - float(np.log(self._column.scale))
        if self._column.log:
            logs -= self._column.center + self._column.scale * events
        return tf.where(tf.math.is_nan(events), tf.zeros_like(logs), logs)

    def example(self) -> Any:
        """Return a batch of one value."""
        column = self._column
        if column.levels:
            return np.array([self._levels[0]], object)
        if column.kind == "date":
            return np.array([str(np.datetime64(int(column.low), "s"))], object)
        return np.array([column.low], np.float64)


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
    of_year = (
        (
            153 * (month + tf.where(month > 2, tf.constant(-3, tf.int64), tf.constant(9, tf.int64)))
            + 2
        )
        // 5
        + day
        - 1
    )
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
