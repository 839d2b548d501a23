"""Tables: CSV, TSV, Parquet and Feather files, and frames of pandas, polars and Arrow."""

import csv
import dataclasses
import gzip
import itertools
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tfvae.datasets.cells import HOLES, to_pandas, typed
from tfvae.datasets.columns import check_kinds
from tfvae.datasets.schema import Level, Schema
from tfvae.datasets.source import Batch, Source
from tfvae.datasets.text import first_line
from tfvae.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

_TEXT = (".csv", ".tsv", ".tab")
_BINARY = (".parquet", ".feather", ".arrow")
SUFFIXES = (*_TEXT, *(f"{suffix}.gz" for suffix in _TEXT), *_BINARY)
_SEPARATORS = ",;\t|"

Kinds = Mapping[str, str | Sequence[Level]]


def is_table(name: Any) -> bool:
    """Whether a name is that of a file of a table."""
    return isinstance(name, str | os.PathLike) and str(name).lower().endswith(SUFFIXES)


def table_source(
    table: Any,
    *,
    columns: Kinds | None = None,
    label: str | None = None,
    drop: Sequence[str] = (),
    schema: Schema | None = None,
) -> Source:
    """Return the source of the rows of a table.

    Args:
        table: a file or a frame.
        columns: as for `Schema.from_frame`.
        label: as for `Schema.from_frame`.
        drop: as for `Schema.from_frame`.
        schema: what the columns are, as another table told, instead of telling it from this one.
            A table without the column of labels has no labels then.

    Raises:
        InputError: if the file cannot be read, or a column does not fit its kind.
    """
    is_file = isinstance(table, str | os.PathLike)
    name = str(table) if is_file else "the table"
    if schema is not None:
        columns = {column.name: column.kind for column in schema.columns}
        if schema.label is not None:
            columns[schema.label.name] = schema.label.kind
    frame = read_table(Path(table), columns) if is_file else to_pandas(table)
    if not len(frame):
        raise InputError(f"{name} has no rows: expected one at least")
    try:
        if schema is None:
            schema = Schema.from_frame(frame, columns=columns, label=label, drop=drop)
        elif schema.label is not None and schema.label.name not in frame.columns:
            schema = dataclasses.replace(schema, label=None)
        events = schema.to_events(frame)
    except InputError as error:
        raise InputError(f"{name}: {error}") from error
    labels = None if schema.label is None else schema.to_labels(frame)
    holes = int(np.isnan(events).sum())
    notes = (f"{holes / events.size:.2%} of the values are missing",) if holes else ()

    def read(rows: np.ndarray) -> Batch:
        return events[rows], None if labels is None else labels[rows]

    return Source(
        name,
        (events.shape[1],),
        np.dtype(np.float32),
        {"train": len(events)},
        None if schema.label is None else len(schema.label.levels),
        read,
        in_memory=True,
        class_names=None if schema.label is None else tuple(map(str, schema.label.levels)),
        missing=holes > 0,
        notes=notes,
        schema=schema,
    )


def read_table(path: Path, columns: Kinds | None = None) -> "pd.DataFrame":
    """Return the table of a file, each column of the type that its values have.

    Args:
        path: a CSV, TSV, Parquet or Feather file; text is UTF-8, its first line names the columns.
        columns: the kinds of columns that look like another, as for `Schema.from_frame`.

    Raises:
        InputError: if it cannot be read.
    """
    if not path.is_file():
        raise InputError(f"no such file: {path}")
    check_kinds(columns or {})
    if path.suffix.lower() in _BINARY:
        return to_pandas(_read_binary(path))
    try:
        return _read_text(path, columns or {})
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _read_binary(path: Path) -> "pd.DataFrame":
    import pandas as pd

    read = pd.read_parquet if path.suffix.lower() == ".parquet" else pd.read_feather
    try:
        return read(path)
    except ImportError as error:
        raise InputError(f"{path} is read through Arrow: install tfvae[parquet]") from error
    except Exception as error:  # Arrow raises many kinds for a damaged file.
        raise InputError(f"{path} is not a readable table: {first_line(error)}") from error


def _read_text(path: Path, columns: Kinds) -> "pd.DataFrame":
    import pandas as pd

    separator = _separator(path)
    try:
        cells = _cells(path, separator)
    except pd.errors.EmptyDataError as error:
        raise InputError("expected a line of column names; the file is empty") from error
    except pd.errors.ParserError as error:
        found = re.search(r"Expected (\d+) fields in line (\d+), saw (\d+)", str(error))
        if found is None:
            raise InputError(f"not a readable table: {first_line(error)}") from error
        raise InputError(
            f"line {found[2]} has {found[3]} cells; expected {found[1]}, as in the lines before: "
            "quote cells that hold the separator"
        ) from error
    except UnicodeError as error:
        raise InputError("expected text in UTF-8: save the file in this encoding") from error
    except (OSError, EOFError) as error:
        raise InputError(f"not a readable file: {first_line(error)}") from error
    names = [cell.strip() for cell in cells.iloc[0]]
    if all(_is_number(name) for name in names):
        raise InputError(
            f"expected column names in the first line; received numbers ({', '.join(names[:3])}): "
            "add a line of names"
        )
    if (cells.iloc[1:, -1] == "").any():
        _refuse_short_rows(path, separator, len(names))
    named = [name or (f"column {place + 1}" if place else "") for place, name in enumerate(names)]
    table = to_pandas(cells.iloc[1:].set_axis(named, axis=1))
    commas = separator != ","
    typed_columns = {}
    for name in table.columns:
        wanted = columns.get(name)
        kind = wanted if isinstance(wanted, str) or wanted is None else "ordered"
        typed_columns[name] = typed(name, table[name].astype(object), kind, commas=commas)
    return pd.DataFrame(typed_columns)


def _cells(path: Path, separator: str) -> "pd.DataFrame":
    """Return all cells as they stand, so that what they mean is told here and in one way."""
    import pandas as pd

    def read(*, skip_blank_lines: bool) -> "pd.DataFrame":
        return pd.read_csv(
            path,
            sep=separator,
            header=None,
            dtype=str,
            keep_default_na=False,
            na_filter=False,
            skip_blank_lines=skip_blank_lines,
            encoding="utf-8-sig",
        ).astype(object)

    cells = read(skip_blank_lines=True)
    if cells.shape[1] > 1:
        return cells
    # In a file of one column an empty line between others is an empty cell.
    cells = read(skip_blank_lines=False)
    filled = np.flatnonzero(cells[0] != "")
    if not len(filled):
        raise InputError("expected a line of column names; all lines are empty")
    return cells.iloc[filled[0] : filled[-1] + 1].reset_index(drop=True)


def _refuse_short_rows(path: Path, separator: str, expected: int) -> None:
    """Refuse a file with rows that end early, which pandas fills with empty cells."""
    with _opened(path) as file:
        for number, row in enumerate(csv.reader(file, delimiter=separator)):
            if 0 < len(row) < expected:
                raise InputError(
                    f"row {number} has {len(row)} cells, fewer than the {expected} columns: write "
                    "empty cells with their separators"
                )


def _opened(path: Path) -> Any:
    if path.suffix.lower() == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


def _separator(path: Path) -> str:
    """Tell what separates columns: what parts the first rows into equally many, and most, cells."""
    if path.name.lower().removesuffix(".gz").endswith((".tsv", ".tab")):
        return "\t"
    try:
        with _opened(path) as file:
            lines = file.read(2**16).splitlines(keepends=True)
    except UnicodeError as error:
        raise InputError("expected text in UTF-8: save the file in this encoding") from error
    except (OSError, EOFError) as error:
        raise InputError(f"not a readable file: {first_line(error)}") from error

    def score(separator: str) -> tuple[bool, int]:
        rows = itertools.islice(csv.reader(lines, delimiter=separator), 21)
        # The last may be cut.
        widths = [len(row) for row in rows if row]
        widths = widths[:-1] if len(widths) > 2 else widths
        return len(set(widths)) == 1 and widths[0] > 1, widths[0] if widths else 0

    return max(_SEPARATORS, key=score)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return cell in HOLES
    return True
