"""What the columns of a table are, and the way from its rows to events and back."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tfvae.datasets.cells import to_pandas, typed
from tfvae.datasets.column import COLUMN_KINDS, MOST_NAMES, Column, LeftOut, Level
from tfvae.datasets.columns import columns_of
from tfvae.datasets.text import in_a_line
from tfvae.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from tfvae.likelihoods import Columns


@dataclasses.dataclass(frozen=True)
class Schema:
    """The columns of a table.

    An event is a row: a float32 number for each column, NaN where the value is missing. Numbers
    and dates are standardised, counts are as they are, and categories are the numbers of their
    levels.

    Attributes:
        columns: those that are modelled, in the order of an event's values.
        left_out: those that are not, and why.
        label: the column that labels come from.
    """

    columns: tuple[Column, ...]
    left_out: tuple[LeftOut, ...] = ()
    label: Column | None = None

    @classmethod
    def from_frame(
        cls,
        frame: Any,
        *,
        columns: Mapping[str, str | Sequence[Level]] | None = None,
        label: str | None = None,
        drop: Sequence[str] = (),
    ) -> "Schema":
        """Tell what the columns of a table are.

        Args:
            frame: of pandas, polars or Arrow.
            columns: the kinds of columns that look like another: one of `COLUMN_KINDS`, "text" to
                leave a column out, or a list of levels in ascending order.
            label: the column to take labels from.
            drop: columns to leave out.

        Raises:
            InputError: if a column does not fit its kind, or none is left.
        """
        table = to_pandas(frame)
        return cls(*columns_of(table, columns=columns or {}, label=label, drop=drop))

    def to_events(self, frame: Any, *, unseen: str = "refuse") -> np.ndarray:
        """Return the rows of a table as events, float32 `[N, D]`.

        Columns are found by their names, whatever their order; others are left aside.

        Args:
            frame: of pandas, polars or Arrow.
            unseen: what becomes of categories that the schema does not know: "refuse", or
                "missing" to count them as holes.

        Raises:
            InputError: if a column is missing, or a value does not belong to it.
        """
        from tfvae.datasets.cells import to_pandas

        if unseen not in ("refuse", "missing"):
            raise InputError(f"unseen is 'refuse' or 'missing'; received {unseen!r}")
        table = to_pandas(frame)
        absent = [column.name for column in self.columns if column.name not in table.columns]
        if absent:
            raise InputError(
                f"expected the columns {', '.join(map(repr, absent))}, which the table lacks; it "
                f"has {', '.join(map(repr, map(str, table.columns)))}"
            )
        events = [column.to_events(table[column.name], unseen=unseen) for column in self.columns]
        return np.stack(events, axis=1)

    def event_given(self, values: Mapping[str, Any]) -> np.ndarray:
        """Return an event with the values of some columns, NaN in all others.

        Args:
            values: by the name of the column, as text or as the table has it.

        Returns:
            float32 `[D]`.

        Raises:
            InputError: if there is no such column, or a value does not belong to it.
        """
        import pandas as pd

        event = np.full(len(self.columns), np.nan, np.float32)
        names = [column.name for column in self.columns]
        for name, value in values.items():
            if name not in names:
                raise InputError(
                    f"there is no column {name!r} to give a value; the model has "
                    f"{', '.join(map(repr, names))}"
                )
            column = self.columns[names.index(name)]
            cell = pd.Series([value], dtype=object)
            if isinstance(value, str):
                cell = typed(name, cell, column.kind, commas=False)
            if cell.isna().all():
                raise InputError(f"expected a value of the column {name!r}; received {value!r}")
            event[names.index(name)] = column.to_events(cell)[0]
        return event

    def to_labels(self, frame: Any) -> np.ndarray:
        """Return the numbers of the labels of a table's rows, int32 `[N]`.

        Raises:
            InputError: if there is no column of labels, or a row without one.
        """
        from tfvae.datasets.cells import to_pandas

        table = to_pandas(frame)
        if self.label is None or self.label.name not in table.columns:
            name = "none" if self.label is None else repr(self.label.name)
            raise InputError(f"expected a table with a column of labels; the schema names {name}")
        numbers = self.label.to_events(table[self.label.name], is_label=True)
        if np.isnan(numbers).any():
            raise InputError(f"the column of labels {self.label.name!r} has rows without a label")
        return numbers.astype(np.int32)

    def to_frame(
        self, events: Any, labels: Any = None, *, within_range: bool = False
    ) -> "pd.DataFrame":
        """Return a pandas frame for events: the inverse of `to_events`.

        Columns that were left out are not in it, but for those whose values are all the same.

        Args:
            events: `[N, D]`; NaN becomes a missing value.
            labels: `[N]`, for a table with a column of labels.
            within_range: whether numbers and dates outside the range that the table had are moved
                to its ends, as suits rows that a model has made up.

        Raises:
            InputError: if the shape does not fit.
        """
        import pandas as pd

        events = np.asarray(events)
        if events.ndim != 2 or events.shape[1] != len(self.columns):
            raise InputError(
                f"expected events [N, {len(self.columns)}]; received shape {list(events.shape)}"
            )
        values = {
            column.name: column.to_values(events[:, index], within_range=within_range)
            for index, column in enumerate(self.columns)
        }
        for column in self.left_out:
            if column.value is not None:
                values[column.name] = pd.Series([column.value] * len(events))
        if labels is not None and self.label is not None:
            values[self.label.name] = self.label.to_values(np.asarray(labels))
        return pd.DataFrame(values)

    def likelihood(self) -> "Columns":
        """Build p(x|z) of the rows, each column's chosen by its kind.

        Numbers and dates have a Student's t distribution with learned scale and degrees of freedom,
        which comes down to a normal one where no value lies far off; counts a negative binomial;
        categories, ordered or not, a probability for each level.

        Returns:
            A likelihood for ``VAE.for_events((D,), likelihood=schema.likelihood(), ...)``; another
            choice is ``Columns({**schema.likelihoods(), NAME: ...})``.
        """
        from tfvae.likelihoods import Columns

        return Columns(self.likelihoods())

    def likelihoods(self) -> dict[str, str]:
        """Return the name of the likelihood of each column."""
        return {column.name: column.likelihood for column in self.columns}

    def log_abs_det_jacobian(self, events: np.ndarray) -> np.ndarray:
        """Compute log |det ∂(event)/∂(row)| of rows, over what was observed of them.

        A model's log p is that of events, whose numbers are standardised. That of the table's own
        numbers is larger by this: ``log p(row) = log p(event) + log |det ∂(event)/∂(row)|``, where
        a number or date that became ``(value − center) / scale`` adds ``−log scale``, one that
        became ``(log value − center) / scale`` adds ``−log scale − log value``, and counts and
        categories, which have probabilities, nothing. So to report log p of a table as it is, add
        this to what `tfvae.evaluation.log_prob` finds for its events.

        Args:
            events: `[N, D]`, as `to_events` returns them, NaN where a value is missing.

        Returns:
            float64 `[N]`, in nats.
        """
        return np.sum(
            [
                column.log_abs_det_jacobian(events[:, place])
                for place, column in enumerate(self.columns)
            ],
            axis=0,
        )

    def remarks(self, events: np.ndarray) -> tuple[str, ...]:
        """Say of which columns most values lie outside the range that the schema's table had.

        So numbers in other units are noticed, such as metres where there were centimetres.

        Args:
            events: `[N, D]`, as `to_events` returns them.

        Returns:
            A phrase for each such column, none where there is nothing to say.
        """
        events = np.asarray(events)
        found = (column.remark(events[:, place]) for place, column in enumerate(self.columns))
        return tuple(phrase for phrase in found if phrase)

    def to_config(self) -> dict[str, Any]:
        """Return what `from_config` makes the same schema of, in types that JSON knows."""
        return dataclasses.asdict(self)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "Schema":
        """Make the schema that `to_config` was called on."""

        def column(entry: Mapping[str, Any]) -> Column:
            return Column(**{**entry, "levels": tuple(entry["levels"])})

        return cls(
            tuple(column(entry) for entry in config["columns"]),
            tuple(LeftOut(**entry) for entry in config["left_out"]),
            None if config["label"] is None else column(config["label"]),
        )

    def summary(self) -> str:
        """Return in one line how many columns of each kind there are, and which were left out."""
        kinds = [column.kind for column in self.columns]
        plural = {"category": "categories", "ordered": "ordered categories"}
        singular = {"ordered": "ordered category"}
        counted = ", ".join(
            f"{count} {singular.get(kind, kind) if count == 1 else plural.get(kind, kind + 's')}"
            for kind in COLUMN_KINDS
            if (count := kinds.count(kind))
        )
        shown = [f"{in_a_line(column.name)} ({column.reason})" for column in self.left_out]
        more = f" and {len(shown) - MOST_NAMES} more" if len(shown) > MOST_NAMES else ""
        out = f"; left out: {', '.join(shown[:MOST_NAMES])}{more}" if shown else ""
        return f"columns: {counted}{out}"

    def __str__(self) -> str:
        """Return a line for each column."""
        lines = [(in_a_line(column.name), str(column)) for column in self.columns]
        if self.label is not None:
            lines.append((in_a_line(self.label.name), f"label, {self.label}"))
        lines += [(in_a_line(entry.name), f"left out: {entry.reason}") for entry in self.left_out]
        width = max(len(name) for name, _ in lines)
        return "\n".join(f"{name:{width}}  {words}" for name, words in lines)
