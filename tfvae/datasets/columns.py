"""Which kind each column of a table is, told from its values.

- booleans, and whole numbers that are 0 or 1: "boolean"; text that is "yes" or "no" too;
- other text: "category" up to 1,000 different values, unless more than half of the values differ
  from all others as those of names and identifiers do: such text is left out;
- whole numbers: "category" if there are just two of them, "count" if they start at 0 and at least
  half are no more than 20, "ordered" if there are 3 to 10 that follow one another, each in 5 rows
  or more, and the largest of those that start at 0 is no rare one;
- dates: "date";
- other numbers that fill the range from 0 to 1, with values below 0.1 and above 0.9: "fraction";
- all others: "number", those above 0 by their logarithms if they are skewed.

Left out are columns of one value, of none, and row numbers: a first column without a name, or one
called index or id, of whole numbers that go up by one.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from tfvae.datasets.cells import dates_of, numbers_of, settled
from tfvae.datasets.column import COLUMN_KINDS, Column, LeftOut, Level, level_key
from tfvae.datasets.text import in_a_line, natural_key
from tfvae.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

_MOST_LEVELS = 1000
_FEW = 10
# From which part of the distance of the outer quantiles the median lies off their middle.
_SKEWED = 0.3
# The interquartile range of the standard normal distribution.
_NORMAL_IQR = 1.3489795
_ROW_NAMES = ("", "index", "id", "row", "rownames", "row_names", "unnamed: 0", "__index_level_0__")
_NO_AND_YES = (("no", "yes"), ("n", "y"), ("f", "t"), ("false", "true"), ("off", "on"))


def columns_of(
    table: "pd.DataFrame",
    *,
    columns: Mapping[str, str | Sequence[Level]],
    label: str | None,
    drop: Sequence[str],
) -> tuple[tuple[Column, ...], tuple[LeftOut, ...], Column | None]:
    """Return the columns that are modelled, those that are not, and the label's.

    The arguments are those of `Schema.from_frame`.
    """
    drop = [drop] if isinstance(drop, str) else list(drop)
    for name in [*columns, *drop, *([] if label is None else [label])]:
        if name not in table.columns:
            known = ", ".join(map(repr, table.columns))
            raise InputError(f"there is no column {name!r}; the table has {known}")
    check_kinds(columns)
    kept: list[Column] = []
    left_out: list[LeftOut] = []
    labels = None
    for place, name in enumerate(table.columns):
        wanted = columns.get(name)
        if name in drop:
            left_out.append(LeftOut(name, "dropped"))
            continue
        values = settled(name, table[name])
        if name == label:
            labels = _label(name, values, wanted)
        elif wanted is None and _is_row_number(name, values, place):
            left_out.append(LeftOut(name, "row number"))
        else:
            found = column_of(name, values, wanted)
            (kept if isinstance(found, Column) else left_out).append(found)  # type: ignore[arg-type]
    if not kept:
        reasons = ", ".join(f"{entry.name!r} ({entry.reason})" for entry in left_out[:5])
        raise InputError(f"no column is left to model: {reasons or 'the table has none'}")
    return tuple(kept), tuple(left_out), labels


def check_kinds(columns: Mapping[str, str | Sequence[Level]]) -> None:
    """Refuse kinds that there are not."""
    for name, wanted in columns.items():
        if isinstance(wanted, str) and wanted not in (*COLUMN_KINDS, "text"):
            raise InputError(
                f"the kind of the column {name!r} is one of {', '.join((*COLUMN_KINDS, 'text'))}, "
                f"or a list of levels in ascending order; received {wanted!r}"
            )


def column_of(
    name: str, values: "pd.Series", wanted: str | Sequence[Level] | None = None
) -> Column | LeftOut:
    """Return what a column is.

    Args:
        name: of the column.
        values: all of one type.
        wanted: the kind that it is to be, or its levels; by default the one it looks like.

    Raises:
        InputError: if its values do not fit the kind.
    """
    import pandas as pd

    present = values.dropna()
    holes = len(values) - len(present)
    if wanted == "text" or not len(present):
        return LeftOut(name, "text" if wanted == "text" else "no values")
    if wanted is not None and not isinstance(wanted, str):
        return _listed(name, present, list(wanted), holes)
    types = pd.api.types
    if wanted == "date" or (wanted is None and types.is_datetime64_any_dtype(values.dtype)):
        return _date(name, dates_of(name, present), holes)
    if wanted in ("number", "count", "fraction") or (
        wanted is None
        and types.is_numeric_dtype(values.dtype)
        and not types.is_bool_dtype(values.dtype)
    ):
        return _numeric(name, numbers_of(name, present), holes, wanted)
    if not isinstance(values.dtype, pd.CategoricalDtype):
        hashable = all(isinstance(value, str | bool | np.bool_) for value in present[:100])
        if not (hashable or types.is_numeric_dtype(values.dtype)):
            return LeftOut(name, f"holds {type(present.iloc[0]).__name__} values")
    return _categories(name, values, present, holes, wanted)


def is_row_name(name: str, place: int) -> bool:
    """Whether a column at a place is named as those of row numbers are."""
    return name.lower() in _ROW_NAMES and (place == 0 or name != "")


def _is_row_number(name: str, values: "pd.Series", place: int) -> bool:
    import pandas as pd

    if (
        not is_row_name(name, place)
        or len(values) < 2
        or not pd.api.types.is_integer_dtype(values.dtype)
    ):
        return False
    steps = values.to_numpy(np.float64, na_value=np.nan)
    return bool((np.diff(steps) == 1).all())


def _numeric(name: str, numbers: np.ndarray, holes: int, wanted: str | None) -> Column | LeftOut:
    distinct, rows = np.unique(numbers, return_counts=True)
    is_whole = bool((distinct == np.floor(distinct)).all())
    if len(distinct) == 1 and wanted is None:
        value = _plain(distinct[0])
        return LeftOut(name, _one_value(value, holes), value)
    of_others = "fraction" if _fills_unit(distinct) else "number"
    kind = wanted or (_kind_of_whole(numbers, distinct, rows) if is_whole else of_others)
    if kind == "identifier":
        return LeftOut(name, "identifier")
    if kind in ("boolean", "category", "ordered"):
        return Column(name, kind, tuple(int(value) for value in distinct), holes=holes)
    low, high = float(distinct[0]), float(distinct[-1])
    decimals = 0 if is_whole else _decimals(distinct)
    if kind == "count":
        if low < 0 or not is_whole:
            raise InputError(
                f"the column {name!r} is no count: expected whole numbers from 0; received values "
                f"from {low:g} to {high:g}"
            )
        return Column(name, kind, low=low, high=high, decimals=0, holes=holes)
    if kind == "fraction":
        if low < 0 or high > 100:
            raise InputError(
                f"the column {name!r} is no fraction: expected numbers from 0 to 1 or from 0 to "
                f"100; received values from {low:g} to {high:g}"
            )
        whole = 1.0 if high <= 1 else 100.0
        return Column(name, kind, scale=whole, low=low, high=high, decimals=decimals, holes=holes)
    log = low > 0 and _is_skewed(numbers)
    center, scale = _robust(np.log(numbers) if log else numbers)
    return Column(
        name,
        kind,
        center=center,
        scale=scale,
        low=low,
        high=high,
        decimals=decimals,
        holes=holes,
        log=log,
    )


def _kind_of_whole(numbers: np.ndarray, distinct: np.ndarray, rows: np.ndarray) -> str:
    """Tell what whole numbers are; the docstring of this module says by which rule."""
    low, high = distinct[0], distinct[-1]
    if len(distinct) == 2:
        return "boolean" if (low, high) == (0, 1) else "category"
    if high >= 1e15 and len(distinct) == len(numbers):
        return "identifier"
    is_few = len(distinct) <= _FEW and high - low == len(distinct) - 1 and rows.min() >= 5
    if is_few and not (low == 0 and rows[-1] < 0.05 * len(numbers)):
        return "ordered"
    return "count" if low == 0 and np.median(numbers) <= 20 else "number"


def _fills_unit(distinct: np.ndarray) -> bool:
    """Whether values, ascending, are from 0 to 1 and come near to both."""
    return bool(0 <= distinct[0] < 0.1 and 0.9 < distinct[-1] <= 1)


def _is_skewed(numbers: np.ndarray) -> bool:
    """Whether positive numbers lie more evenly around the median of their logarithms."""

    def skewness(values: np.ndarray) -> float:
        low, center, high = np.quantile(values, [0.02, 0.5, 0.98])
        return float(high + low - 2 * center) / (float(high - low) or 1.0)

    given = skewness(numbers)
    return given > _SKEWED and abs(skewness(np.log(numbers))) < given


def _robust(numbers: np.ndarray) -> tuple[float, float]:
    """Return the median and a scale that outliers hardly move."""
    low, center, high = np.quantile(numbers, [0.25, 0.5, 0.75])
    scale = float(high - low) / _NORMAL_IQR or float(numbers.std()) or 1.0
    return float(center), scale


def _decimals(distinct: np.ndarray) -> int | None:
    """Return how many digits after the point tell the numbers exactly; None if more than 6."""
    for decimals in range(7):
        if np.allclose(distinct, np.round(distinct, decimals), rtol=1e-12, atol=0):
            return decimals
    return None


def _date(name: str, dates: "pd.Series", holes: int) -> Column | LeftOut:
    seconds = numbers_of(name, dates, is_date=True)
    if seconds.min() == seconds.max():
        return LeftOut(name, f"one value: {dates.iloc[0]}")
    center, scale = _robust(seconds)
    return Column(
        name,
        "date",
        center=center,
        scale=scale,
        low=float(seconds.min()),
        high=float(seconds.max()),
        decimals=0 if (seconds % 86_400 == 0).all() else None,
        holes=holes,
    )


def _categories(
    name: str, values: "pd.Series", present: "pd.Series", holes: int, wanted: str | None
) -> Column | LeftOut:
    import pandas as pd

    is_ordered = False
    if isinstance(values.dtype, pd.CategoricalDtype):
        levels = [_plain(level) for level in values.dtype.categories]
        used = {_plain(level) for level in present.unique()}
        is_ordered = bool(values.dtype.ordered)
        if not is_ordered:
            levels = [level for level in levels if level in used]
    else:
        levels = _in_order([_plain(level) for level in present.unique()])
    if wanted is None:
        if len(levels) == 1:
            return LeftOut(name, _one_value(levels[0], holes), levels[0])
        is_text = all(isinstance(level, str) for level in levels)
        if is_text and not is_ordered and len(levels) > max(_FEW, len(present) / 2):
            return LeftOut(name, f"text: {len(levels):,} different values in {len(present):,}")
        if len(levels) > _MOST_LEVELS:
            return LeftOut(name, f"text: {len(levels):,} different values, too many to model")
    kind = wanted or ("ordered" if is_ordered else _kind_of_levels(levels))
    if kind == "boolean":
        if len(levels) > 2:
            raise InputError(
                f"the column {name!r} is no boolean: it has {len(levels)} different values, such "
                f"as {levels[0]!r}, {levels[1]!r} and {levels[2]!r}"
            )
        pairs = [pair for pair in _NO_AND_YES if _lower(levels) == set(pair)]
        if pairs:
            levels = sorted(levels, key=lambda level: pairs[0].index(str(level).lower()))
    return Column(name, kind, tuple(levels), holes=holes)


def _one_value(value: Level, holes: int) -> str:
    return f"one value: {in_a_line(value)}" + (f", beside {holes:,} missing" if holes else "")


def _kind_of_levels(levels: list[Level]) -> str:
    if all(isinstance(level, bool) for level in levels):
        return "boolean"
    return "boolean" if any(_lower(levels) == set(pair) for pair in _NO_AND_YES[:1]) else "category"


def _lower(levels: list[Level]) -> set[str]:
    return {str(level).lower() for level in levels}


def _plain(level: object) -> Level:
    """Return a level as JSON knows it."""
    if isinstance(level, bool | np.bool_):
        return bool(level)
    if isinstance(level, int | np.integer):
        return int(level)
    if isinstance(level, float | np.floating):
        return int(level) if float(level).is_integer() else float(level)
    return str(level)


def _in_order(levels: list[Level]) -> list[Level]:
    if all(isinstance(level, bool | int | float) for level in levels):
        return sorted(levels)
    return sorted(levels, key=lambda level: natural_key(str(level)))


def _listed(name: str, present: "pd.Series", levels: list[Level], holes: int) -> Column:
    """Return a column of the levels that the user lists."""
    levels = [_plain(level) for level in levels]
    known = {level_key(level) for level in levels}
    if len(known) < len(levels) or not levels:
        raise InputError(f"the levels of the column {name!r} must differ; received {levels}")
    unknown = sorted({level_key(_plain(value)) for value in present.unique()} - known)
    if unknown:
        raise InputError(
            f"the column {name!r} holds {', '.join(map(repr, unknown[:5]))} beside the levels that "
            f"are listed: {levels}"
        )
    return Column(name, "ordered", tuple(levels), holes=holes)


def _label(name: str, values: "pd.Series", wanted: str | Sequence[Level] | None) -> Column:
    """Return the column of labels as one of levels."""
    holes = int(values.isna().sum())
    if holes:
        raise InputError(
            f"the column of labels {name!r} lacks {holes:,} of {len(values):,}: fill them, leave "
            "these rows out, or choose another column"
        )
    if wanted is None or wanted in ("number", "count", "fraction", "date", "text"):
        wanted = "category"
    found = column_of(name, values, wanted)
    is_class = isinstance(found, Column) and not any(isinstance(x, float) for x in found.levels)
    if not isinstance(found, Column) or not is_class or len(found.levels) > _MOST_LEVELS:
        count = values.nunique()
        raise InputError(
            f"the column of labels {name!r} has {count:,} different values: expected classes, at "
            f"most {_MOST_LEVELS}"
        )
    return found
