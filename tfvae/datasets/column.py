"""What one column of a table is, and its way to numbers and back."""

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from tfvae.datasets.text import in_a_line
from tfvae.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

Level = str | int | float | bool

COLUMN_KINDS = ("number", "fraction", "count", "category", "ordered", "boolean", "date")
_WITH_LEVELS = ("category", "ordered", "boolean")
_DAY = 86_400
MOST_NAMES = 6
# Of fewer values it is no wonder where they lie.
_FEW = 5


@dataclasses.dataclass(frozen=True)
class Column:
    """One column that is modelled.

    Attributes:
        name: of the column.
        kind: one of `COLUMN_KINDS`.
        levels: the values of a category, in the order of their numbers in events: ascending for
            "ordered", and the false one first for "boolean".
        log: whether events have the logarithm of a number: where all are above 0, and few are far
            larger than the others.
        center: what becomes 0 in events: the median of a number or its logarithm, or of a date in
            seconds since 1970.
        scale: the distance that becomes 1: of a number or date the interquartile range, over that
            of the standard normal distribution; the standard deviation where half of the values
            are equal; of a fraction 1, or 100 for per cents.
        low: the lowest value of a number or count, or date in seconds since 1970.
        high: the highest.
        decimals: how many digits the values have after the point, 0 for whole numbers; of dates
            0 for whole days. None where they are too many to be kept.
        holes: how many values are missing.
    """

    name: str
    kind: str
    levels: tuple[Level, ...] = ()
    center: float = 0.0
    scale: float = 1.0
    low: float = 0.0
    high: float = 0.0
    decimals: int | None = None
    holes: int = 0
    log: bool = False

    def to_events(
        self, values: "pd.Series", *, unseen: str = "refuse", is_label: bool = False
    ) -> np.ndarray:
        """Return values as they are in events, float32 `[N]`, NaN where they are missing.

        Args:
            values: of this column, of the type that the reader of tables gives it.
            unseen: what becomes of a category that the schema does not know: "refuse", or
                "missing" to count it as a hole.
            is_label: whether the column is that of labels, which may have no holes.

        Raises:
            InputError: if a value does not belong to the column.
        """
        from tfvae.datasets.cells import numbers_of

        if self.kind not in _WITH_LEVELS:
            numbers = numbers_of(self.name, values, is_date=self.kind == "date")
            if self.kind == "count":
                self._check_counts(numbers)
            if self.kind == "fraction":
                self._check_fractions(numbers)
            if self.log:
                self._check_positive(numbers)
                numbers = np.log(numbers)
            return ((numbers - self.center) / self.scale).astype(np.float32)
        number_of = {level_key(level): number for number, level in enumerate(self.levels)}
        events = np.full(len(values), np.nan, np.float32)
        present = values.notna().to_numpy()
        distinct, places = np.unique(
            np.array([level_key(value) for value in values[present]], object), return_inverse=True
        )
        unknown = [key for key in distinct if key not in number_of]
        if unknown and unseen == "refuse":
            shown = ", ".join(map(repr, unknown[:MOST_NAMES]))
            raise InputError(
                f"the column {self.name!r} holds values that the schema does not know: {shown}: "
                + (
                    "correct them, or leave these rows out"
                    if is_label
                    else "correct them, or give unseen='missing' to count them as missing"
                )
            )
        if len(distinct):
            numbers = np.array([number_of.get(key, np.nan) for key in distinct], np.float32)
            events[present] = numbers[places]
        return events

    def _check_fractions(self, numbers: np.ndarray) -> None:
        low, high = np.nanmin(numbers, initial=0.0), np.nanmax(numbers, initial=0.0)
        if low < 0 or high > self.scale:
            raise InputError(
                f"the column {self.name!r} is a fraction: expected numbers from 0 to "
                f"{self.scale:g}; received some from {low:g} to {high:g}"
            )

    def _check_positive(self, numbers: np.ndarray) -> None:
        if (numbers <= 0).any():
            raise InputError(
                f"the column {self.name!r} goes from {self.low:g} to {self.high:g} in the table of "
                f"the schema: expected numbers above 0; received {np.nanmin(numbers):g}"
            )

    def log_abs_det_jacobian(self, events: np.ndarray) -> np.ndarray:
        """Compute log |∂(event)/∂(value)| for events `[N]`, 0 where one is missing."""
        logs = np.full(len(events), -np.log(self.scale))
        if self.log:
            logs -= self.center + self.scale * np.asarray(events, np.float64)
        return np.where(np.isnan(events), 0.0, logs)

    def remark(self, events: np.ndarray) -> str:
        """Say that most values lie outside the range that the table of the schema had, or nothing.

        Args:
            events: `[N]`, NaN where a value is missing.
        """
        present = np.asarray(events, np.float64)[~np.isnan(events)]
        if self.kind in _WITH_LEVELS or len(present) < _FEW:
            return ""
        with np.errstate(over="ignore"):
            numbers, center = self.center + self.scale * present, self.center
            if self.log:
                numbers, center = np.exp(numbers), np.exp(center)
        slack = 1e-5 * max(abs(self.low), abs(self.high))  # float32
        outside = (numbers < self.low - slack) | (numbers > self.high + slack)
        if outside.mean() <= 0.5:
            return ""
        words = (
            f"{outside.mean():.0%} of {in_a_line(self.name)!r} lie outside the range of training"
        )
        if self.kind == "date":
            return words
        words += f", {self.low:g} to {self.high:g}"
        middle = float(np.median(numbers))
        factor = middle / center if center else 0.0
        if factor > 0 and not 0.5 < factor < 2:
            times = f"{factor:,.0f}" if factor >= 10 else f"{factor:.2g}"
            words += f", and are about {times} times as large as those"
        return f"{words}: are the units the same?"

    def _check_counts(self, numbers: np.ndarray) -> None:
        present = numbers[~np.isnan(numbers)]
        if (present < 0).any() or (present != np.floor(present)).any():
            raise InputError(
                f"the column {self.name!r} is a count: expected whole numbers from 0; received "
                f"{present[(present < 0) | (present != np.floor(present))][0]:g}"
            )

    def to_values(self, events: np.ndarray, *, within_range: bool = False) -> "pd.Series":
        """Return the column's values for events `[N]`: the inverse of `to_events`.

        Numbers are rounded to as many digits as the table had, and categories to the next level.

        Args:
            events: `[N]`, NaN where a value is missing.
            within_range: whether numbers and dates below `low` and above `high` become these.
        """
        import pandas as pd

        events = np.asarray(events, np.float64)
        missing = np.isnan(events)
        if self.kind in _WITH_LEVELS:
            numbers = np.clip(np.rint(np.where(missing, 0, events)), 0, len(self.levels) - 1)
            levels = np.array(self.levels, object)
            values = pd.Series(levels[numbers.astype(int)], dtype=object).mask(missing)
            if not missing.any():
                return pd.Series(values.tolist())
            are_whole = all(type(level) is int for level in self.levels)
            return values.astype("Int64") if are_whole else values.infer_objects()
        numbers = self.center + self.scale * events
        if self.log:
            numbers = np.exp(numbers)
        if self.kind == "fraction":
            numbers = np.clip(numbers, 0.0, self.scale)
        if within_range:
            numbers = np.clip(numbers, self.low, self.high)
        if self.kind == "date":
            unit = _DAY if self.decimals == 0 else 1
            seconds = pd.Series(np.rint(numbers / unit) * unit)
            return pd.to_datetime(seconds, unit="s")
        if self.decimals is not None:
            numbers = np.round(numbers, self.decimals)
        if self.kind == "count":
            numbers = np.maximum(np.rint(numbers), 0)
        values = pd.Series(numbers)
        is_whole = self.decimals == 0 or self.kind == "count"
        if not is_whole or abs(values).max() >= 2**53:
            return values
        return values.astype("Int64") if missing.any() else values.astype("int64")

    @property
    def likelihood(self) -> str:
        """The name of the likelihood that suits the column, as `tfvae.likelihoods.get` takes it."""
        if self.kind in _WITH_LEVELS:
            # The softmax of two levels is the sigmoid of a Bernoulli.
            few = len(self.levels) <= 2
            return "bernoulli" if few else f"categorical:levels={len(self.levels)}"
        others = {"count": "negative_binomial", "fraction": "beta"}
        return others.get(self.kind, "student_t:scale=learned,df=learned")

    def __str__(self) -> str:
        """Return kind, range or levels, and holes in a few words."""
        words = self.kind
        if self.kind in _WITH_LEVELS:
            shown = (" < " if self.kind == "ordered" else ", ").join(
                map(in_a_line, self.levels[:MOST_NAMES])
            )
            more = ", ..." if len(self.levels) > MOST_NAMES else ""
            words += f" of {len(self.levels)}: {shown}{more}"
        elif self.kind == "date":
            first, last = (np.datetime64(int(end), "s") for end in (self.low, self.high))
            cut = 10 if self.decimals == 0 else 19
            words += f" from {str(first)[:cut]} to {str(last)[:cut]}"
        else:
            words += f" from {self.low:g} to {self.high:g}"
        return words + (f" ({self.holes:,} missing)" if self.holes else "")


@dataclasses.dataclass(frozen=True)
class LeftOut:
    """One column that is not modelled.

    Attributes:
        name: of the column.
        reason: why.
        value: of a column whose values are all the same.
    """

    name: str
    reason: str
    value: Level | None = None


def level_key(value: Any) -> str:
    """Return what a level is told by: 1, 1.0 and "1" are the same."""
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value)
