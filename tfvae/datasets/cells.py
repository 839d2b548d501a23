"""The values of a table's columns: from text, pandas, polars or Arrow to what they mean."""

import re
from typing import TYPE_CHECKING, Any

import numpy as np

from tfvae.errors import InputError, missing_extra

if TYPE_CHECKING:
    import pandas as pd

# What stands for a missing value in files.
HOLES = frozenset(
    ["", "?", "-", "NA", "N/A", "n/a", "#N/A", "<NA>", "NaN", "nan", "NULL", "null", "None"]
)
_WHOLE = r"[+-]?\d+"
_COMMA = r"[+-]?(\d+|\d{1,3}(\.\d{3})+),\d+"
_ZEROS = r"[+-]?0\d+"
_ISO_DATE = (
    r"\d{4}[-/]\d{1,2}[-/]\d{1,2}([T ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?)?\s?(Z|UTC|[+-]\d{2}:?\d{2})?"
)
_OTHER_DATE = r"\d{1,2}([./-])\d{1,2}\1(\d{4}|\d{2})"


def to_pandas(frame: Any) -> "pd.DataFrame":
    """Return a table as a pandas frame whose columns have text as names.

    Raises:
        InputError: if it is no table, or two columns have one name.
    """
    import pandas as pd

    if not isinstance(frame, pd.DataFrame):
        try:
            if hasattr(frame, "to_pandas"):
                frame = frame.to_pandas()
            elif hasattr(frame, "__arrow_c_stream__"):
                frame = pd.DataFrame.from_arrow(frame)
        except ImportError as error:
            what = "frames that are not of pandas are read by"
            raise missing_extra(what, "pyarrow", "parquet") from error
    if not isinstance(frame, pd.DataFrame):
        raise InputError(
            f"expected a table of pandas, polars or Arrow; received {type(frame).__name__}"
        )
    names = [str(name).strip() for name in frame.columns]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise InputError(
            f"expected columns of different names; {repeated[0]!r} occurs "
            f"{names.count(repeated[0])} times: rename them"
        )
    return frame.set_axis(names, axis=1).reset_index(drop=True)


def typed(name: str, text: "pd.Series", wanted: str | None, *, commas: bool) -> "pd.Series":
    """Return what the text of a file's column means: numbers, booleans, dates or text.

    Each different cell is looked at once, however often it occurs.

    Args:
        name: of the column.
        text: its cells.
        wanted: the kind that the user gives it.
        commas: whether a comma in a number is its decimal point, as in files that separate
            columns otherwise.

    Raises:
        InputError: if most different cells are numbers and some are not.
    """
    import pandas as pd

    places, different = pd.factorize(text.to_numpy(object))
    values = _typed(name, pd.Series(different, dtype=object), wanted, commas=commas)
    return values.take(places).set_axis(text.index)


def _typed(name: str, text: "pd.Series", wanted: str | None, *, commas: bool) -> "pd.Series":
    """Return what different cells mean."""
    import pandas as pd

    text = text.str.strip()
    text = text.mask(text.isin(HOLES))
    present = text.dropna()
    # Not by methods of pandas, which go through all cells before the first has told enough.
    is_whole = bool(len(present)) and all(map(re.compile(_WHOLE).fullmatch, present))
    # Codes such as 00501 are no numbers.
    is_code = any(map(re.compile(_ZEROS).fullmatch, present))
    if not len(present) or wanted == "text" or is_code:
        return text
    if is_whole:
        numbers = pd.to_numeric(text, errors="coerce")
        return numbers.astype("float64") if len(present) < len(text) else numbers
    if wanted in ("category", "ordered"):
        return text
    text = _with_points(name, text, commas=commas)
    numbers = pd.to_numeric(text, errors="coerce")
    if numbers.notna().sum() == len(present):
        return numbers.astype("float64")
    return _worded(name, text, numbers)


def _with_points(name: str, text: "pd.Series", *, commas: bool) -> "pd.Series":
    """Return numbers with decimal commas with points; other text as it is."""
    present = text.dropna()
    if not any("," in cell for cell in present):
        return text
    is_comma = present.str.fullmatch(_COMMA)
    if not is_comma.any() or not (is_comma | present.str.fullmatch(_WHOLE)).all():
        return text
    if not commas:
        raise InputError(
            f"the column {name!r} holds numbers with commas ({present[is_comma].iloc[0]!r}): write "
            "a decimal point, or separate the columns by semicolons"
        )
    return text.str.replace(".", "", regex=False).str.replace(",", ".", regex=False)


def _worded(name: str, text: "pd.Series", numbers: "pd.Series") -> "pd.Series":
    """Return text that is not all numbers as booleans, dates or text."""
    present = text.dropna()
    lower = present.str.lower()
    if lower.isin(["true", "false"]).all():
        return text.str.lower().map({"true": True, "false": False}).astype("boolean")
    if present.str.fullmatch(_ISO_DATE).all():
        return dates_of(name, text)
    if present.str.fullmatch(_OTHER_DATE).all():
        raise InputError(
            f"the column {name!r} holds dates such as {present.iloc[0]!r}, whose day and month may "
            f"be either: write them as 2020-12-31, or give columns={{{name!r}: 'text'}} to leave "
            "the column out"
        )
    others = text[text.notna() & numbers.isna()]
    if len(others) <= 0.1 * len(present):
        shown = ", ".join(map(repr, others.unique()[:3]))
        raise InputError(
            f"the column {name!r} holds numbers, and other values beside them ({shown}): leave "
            f"these cells empty, or give columns={{{name!r}: 'category'}}"
        )
    return text


def dates_of(name: str, values: "pd.Series") -> "pd.Series":
    """Return dates, of time zone UTC where they have one.

    Raises:
        InputError: if some are none.
    """
    import pandas as pd

    try:
        dates = pd.to_datetime(values, utc=True, format="ISO8601")
    except (ValueError, TypeError, OverflowError):
        try:
            dates = pd.to_datetime(values, utc=True, format="%Y/%m/%d")
        except (ValueError, TypeError, OverflowError) as error:
            raise InputError(
                f"the column {name!r} holds dates that cannot be read, such as "
                f"{str(values.dropna().iloc[0])!r}: write them as 2020-12-31"
            ) from error
    return dates.dt.tz_localize(None)


def settled(name: str, values: "pd.Series") -> "pd.Series":
    """Return a frame's column with one type for all its values.

    Raises:
        InputError: if the values are of several types.
    """
    import pandas as pd

    if isinstance(values.dtype, pd.DatetimeTZDtype):
        return values.dt.tz_convert("UTC").dt.tz_localize(None)
    if values.dtype != object:
        return values
    present = values.dropna()
    kinds = {_type_name(value) for value in present}
    if len(kinds) > 1:
        raise InputError(
            f"the column {name!r} holds values of several types ({', '.join(sorted(kinds))}): make "
            "them one"
        )
    if kinds == {"number"}:
        return pd.to_numeric(values.astype("float64"))
    if kinds == {"boolean"}:
        return values.astype("boolean")
    if kinds == {"date"}:
        return dates_of(name, pd.to_datetime(values))
    return values


def _type_name(value: Any) -> str:
    import datetime
    import decimal

    if isinstance(value, bool | np.bool_):
        return "boolean"
    if isinstance(value, int | float | np.number | decimal.Decimal):
        return "number"
    if isinstance(value, datetime.date | np.datetime64):
        return "date"
    return "text" if isinstance(value, str) else type(value).__name__


def numbers_of(name: str, values: "pd.Series", *, is_date: bool = False) -> np.ndarray:
    """Return numbers as float64, dates in seconds since 1970; NaN where they are missing.

    Raises:
        InputError: if some are none, or infinite.
    """
    import pandas as pd

    values = settled(name, values)
    if is_date:
        if not pd.api.types.is_datetime64_any_dtype(values.dtype):
            values = dates_of(name, values)
        seconds = (values - pd.Timestamp(0)).dt.total_seconds()
        return seconds.to_numpy(np.float64)
    try:
        numbers = values.to_numpy(np.float64, na_value=np.nan)
    except (ValueError, TypeError) as error:
        shown = next(value for value in values.dropna() if not _is_number(value))
        raise InputError(
            f"the column {name!r} holds numbers; received {shown!r}: correct it, or leave it empty"
        ) from error
    if np.isinf(numbers).any():
        raise InputError(
            f"the column {name!r} holds infinite values: leave them out, or write what they are"
        )
    return numbers


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (ValueError, TypeError):
        return False
    return True
