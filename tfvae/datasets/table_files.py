"""Files of tables as they are read: CSV and TSV, Excel, Parquet and Feather."""

import contextlib
import csv
import gzip
import itertools
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tfvae.datasets.cells import HOLES, to_pandas, typed
from tfvae.datasets.column import Level
from tfvae.datasets.columns import check_kinds
from tfvae.datasets.text import first_line
from tfvae.errors import InputError, missing_extra

if TYPE_CHECKING:
    import pandas as pd

_TEXT = (".csv", ".tsv", ".tab")
_EXCEL = (".xlsx", ".xlsm")
BINARY = (".parquet", ".feather", ".arrow")
SUFFIXES = (*_TEXT, *(f"{suffix}.gz" for suffix in _TEXT), *_EXCEL, *BINARY)
_SEPARATORS = ",;\t|"
# How pandas gives all cells of text, the first line and empty cells among them.
_AS_THEY_STAND: dict[str, Any] = {
    "header": None,
    "dtype": str,
    "keep_default_na": False,
    "na_filter": False,
    "encoding": "utf-8-sig",
}
# Cells of text take several times their bytes, and so do columns that are unpacked.
_GROWTH = 8
_UNPACKED = 5
_CHUNK_BYTES = 2**24
_BATCH_ROWS = 2**15
# Of wide tables fewer rows.
_BATCH_VALUES = 2**22
_EMPTY = "expected a line of column names; the file is empty"
_NO_UTF8 = "expected text in UTF-8: save the file in this encoding"

Kinds = Mapping[str, str | Sequence[Level]]


def is_table(name: Any) -> bool:
    """Whether a name is that of a file of a table."""
    return isinstance(name, str | os.PathLike) and str(name).lower().endswith(SUFFIXES)


def memory_needed(path: Path) -> int:
    """Estimate the bytes that reading a file at once takes; 0 of one that is not read in chunks."""
    name = path.name.lower()
    if name.endswith(_EXCEL) or not path.is_file():
        return 0
    factor = _GROWTH * (_UNPACKED if name.endswith((".gz", *BINARY)) else 1)
    return factor * path.stat().st_size


def read_table(path: Path, columns: Kinds | None = None) -> "pd.DataFrame":
    """Return the table of a file, each column of the type that its values have.

    Args:
        path: a CSV, TSV, Excel, Parquet or Feather file; text is UTF-8, its first line or row names
            the columns.
        columns: the kinds of columns that look like another, as for `Schema.from_frame`.

    Raises:
        InputError: if it cannot be read.
    """
    if not path.is_file():
        raise InputError(f"no such file: {path}")
    check_kinds(columns or {})
    if path.suffix.lower() in BINARY:
        return to_pandas(_read_binary(path))
    read = _read_excel if path.suffix.lower() in _EXCEL else _read_text
    try:
        return read(path, columns or {})
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _read_binary(path: Path) -> "pd.DataFrame":
    import pandas as pd

    read = pd.read_parquet if path.suffix.lower() == ".parquet" else pd.read_feather
    try:
        return read(path)
    except ImportError as error:
        raise missing_extra(f"{path} is read by", "pyarrow", "parquet") from error
    except Exception as error:  # Arrow raises many kinds for a damaged file.
        raise InputError(f"{path} is not a readable table: {first_line(error)}") from error


def chunks(path: Path, columns: Kinds | None = None) -> "Iterator[pd.DataFrame]":
    """Yield the rows of a text, Parquet or Feather file, some at a time, with one name a column.

    Cells of text stay text, which `typed_table` gives a meaning to.

    Args:
        path: as for `read_table`.
        columns: as for `read_table`.

    Raises:
        InputError: if it cannot be read.
    """
    check_kinds(columns or {})
    if path.suffix.lower() in BINARY:
        yield from _giving_back(map(to_pandas, _binary_chunks(path)))
        return
    try:
        yield from _giving_back(_chunks_of_text(path))
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _giving_back(tables: "Iterator[pd.DataFrame]") -> "Iterator[pd.DataFrame]":
    """Yield tables; give memory back that Arrow frees and keeps, ten times that of the numbers."""
    for table in tables:
        yield table
        del table
        _give_back()
    # What it was read from is closed now.
    _give_back()


def _give_back() -> None:
    try:
        import pyarrow as pa
    except ImportError:
        return
    pa.default_memory_pool().release_unused()


def _chunks_of_text(path: Path) -> "Iterator[pd.DataFrame]":
    separator = _separator(path)
    names: list[str] | None = None
    has_short_rows = False
    with _text_errors():
        for cells in _text_chunks(path, separator):
            table = cells
            if names is None:
                names, table = _names(cells.iloc[0]), cells.iloc[1:]
            if not has_short_rows and (table.iloc[:, -1] == "").any():
                has_short_rows = True
                _refuse_short_rows(path, separator, len(names))
            yield to_pandas(table.set_axis(names, axis=1))


def typed_table(path: Path, table: "pd.DataFrame", columns: Kinds) -> "pd.DataFrame":
    """Return rows that `chunks` has read with the types that their values have."""
    if path.suffix.lower() in BINARY:
        return table
    try:
        return _typed_table(table, columns, commas=_separator(path) != ",")
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _binary_chunks(path: Path) -> Iterator[Any]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq

        if path.suffix.lower() == ".parquet":
            with pq.ParquetFile(path) as file:
                columns = max(1, len(file.schema_arrow))
                yield from file.iter_batches(min(_BATCH_ROWS, max(1, _BATCH_VALUES // columns)))
        else:
            with pa.memory_map(str(path)) as source, pa.ipc.open_file(source) as file:
                yield from (file.get_batch(number) for number in range(file.num_record_batches))
    except ImportError as error:
        raise missing_extra(f"{path} is read by", "pyarrow", "parquet") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is not a readable table: {first_line(error)}") from error


def _text_chunks(path: Path, separator: str) -> "Iterator[pd.DataFrame]":
    import pandas as pd

    with _opened(path) as file:
        lines = file.read(2**16).count("\n")
    rows = int(np.clip(_CHUNK_BYTES * max(1, lines) // 2**16, 256, 2**18))
    yield from pd.read_csv(path, sep=separator, chunksize=rows, **_AS_THEY_STAND)


@contextlib.contextmanager
def _text_errors() -> Iterator[None]:
    """Say in one line why a text file cannot be read."""
    import pandas as pd

    try:
        yield
    except pd.errors.EmptyDataError as error:
        raise InputError(_EMPTY) from error
    except pd.errors.ParserError as error:
        raise InputError(_not_parsed(error)) from error
    except UnicodeError as error:
        raise InputError(_NO_UTF8) from error
    except (OSError, EOFError) as error:
        raise InputError(f"not a readable file: {first_line(error)}") from error


def _not_parsed(error: Exception) -> str:
    found = re.search(r"Expected (\d+) fields in line (\d+), saw (\d+)", str(error))
    if found is None:
        return f"not a readable table: {first_line(error)}"
    return (
        f"line {found[2]} has {found[3]} cells; expected {found[1]}, as in the lines before: "
        "quote cells that hold the separator"
    )


def _read_text(path: Path, columns: Kinds) -> "pd.DataFrame":
    separator = _separator(path)
    with _text_errors():
        cells = _cells(path, separator)
    names = _names(cells.iloc[0])
    if (cells.iloc[1:, -1] == "").any():
        _refuse_short_rows(path, separator, len(names))
    table = to_pandas(cells.iloc[1:].set_axis(names, axis=1))
    return _typed_table(table, columns, commas=separator != ",")


def _names(cells: "pd.Series") -> list[str]:
    """Return the names of columns that the first line holds."""
    names = [cell.strip() for cell in cells]
    if all(_is_number(name) for name in names):
        raise InputError(
            f"expected column names in the first line; received numbers ({', '.join(names[:3])}): "
            "add a line of names"
        )
    return [name or (f"column {place + 1}" if place else "") for place, name in enumerate(names)]


def _typed_table(table: "pd.DataFrame", columns: Kinds, *, commas: bool) -> "pd.DataFrame":
    """Return text with the types that its values have."""
    import pandas as pd

    found = {}
    for name in table.columns:
        found[name] = typed(
            name, table[name].astype(object), _kind_of(name, columns), commas=commas
        )
    return pd.DataFrame(found)


def _kind_of(name: str, columns: Kinds) -> str | None:
    """Return the kind that a column was given; levels in their order make it "ordered"."""
    wanted = columns.get(name)
    return wanted if isinstance(wanted, str) or wanted is None else "ordered"


def _read_excel(path: Path, columns: Kinds) -> "pd.DataFrame":
    """Return the table of the only sheet that holds something."""
    import pandas as pd

    sheets = {name: rows for name, rows in _sheets(path).items() if rows}
    if len(sheets) != 1:
        found = ", ".join(map(repr, sheets)) or "none"
        raise InputError(
            f"expected one sheet with cells; it has {found}: save the one to read as a file of "
            "its own"
        )
    first, *others = next(iter(sheets.values()))
    names = _names(pd.Series(["" if cell is None else str(cell) for cell in first]))
    table = to_pandas(pd.DataFrame(others, columns=names, dtype=object))
    typed_columns = {}
    for name in table.columns:
        values = table[name].map(lambda cell: None if _is_hole(cell) else cell)
        if values.dropna().map(lambda cell: isinstance(cell, str)).all():
            text = values.map(lambda cell: "" if cell is None else cell).astype(object)
            values = typed(name, text, _kind_of(name, columns), commas=False)
        typed_columns[name] = values
    return pd.DataFrame(typed_columns)


def _sheets(path: Path) -> dict[str, list[list[Any]]]:
    """Return the cells of each sheet, without empty rows and columns around them."""
    try:
        import openpyxl
    except ImportError as error:
        raise missing_extra("Excel files are read by", "openpyxl", "excel") from error

    def cells(*, values: bool) -> dict[str, list[list[Any]]]:
        book = openpyxl.load_workbook(path, read_only=True, data_only=values)
        try:
            return {
                sheet.title: [list(row) for row in sheet.iter_rows(values_only=True)]
                for sheet in book.worksheets
            }
        finally:
            book.close()

    try:
        found, formulas = cells(values=True), cells(values=False)
    except Exception as error:  # openpyxl raises many kinds for a damaged file
        raise InputError(f"not a readable Excel file: {first_line(error)}") from error
    for name, rows in found.items():
        for row, written in zip(rows, formulas[name], strict=True):
            if any(
                value is None and isinstance(text, str) and text.startswith("=")
                for value, text in zip(row, written, strict=True)
            ):
                raise InputError(
                    f"the sheet {name!r} holds formulas without their results: open it in a "
                    "spreadsheet program and save it again"
                )
    return {name: _trimmed(rows) for name, rows in found.items()}


def _trimmed(rows: list[list[Any]]) -> list[list[Any]]:
    filled = [row for row in rows if any(cell is not None for cell in row)]
    width = max(
        (place + 1 for row in filled for place, cell in enumerate(row) if cell is not None),
        default=0,
    )
    return [(row + [None] * width)[:width] for row in filled]


def _is_hole(cell: Any) -> bool:
    return cell is None or (isinstance(cell, str) and cell.strip() in HOLES)


def _cells(path: Path, separator: str) -> "pd.DataFrame":
    """Return all cells as they stand, so that what they mean is told here and in one way."""
    import pandas as pd

    def read(*, skip_blank_lines: bool) -> "pd.DataFrame":
        return pd.read_csv(
            path, sep=separator, skip_blank_lines=skip_blank_lines, **_AS_THEY_STAND
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
    with _text_errors(), _opened(path) as file:
        lines = file.read(2**16).splitlines(keepends=True)

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
