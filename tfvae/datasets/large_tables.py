"""Tables that are larger than memory: read twice in chunks, into a file of their events.

The first time some rows are kept, which tell what the columns are: a sample, and each row in which
a column has a new category or a new lowest or highest value. The second time each chunk becomes
events, which are appended to a temporary file.
"""

import dataclasses
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from tfvae.datasets.cells import HOLES
from tfvae.datasets.column import LeftOut
from tfvae.datasets.columns import is_row_name
from tfvae.datasets.schema import Schema
from tfvae.datasets.table_files import BINARY, Kinds, chunks, typed_table
from tfvae.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

# As many rows tell quantiles to half a per cent of the rows; the cells of wide tables are limited,
# of which so many of text take some hundred MiB.
_SAMPLE = 50_000
_SAMPLE_CELLS = 5_000_000
# A column of more different values has no categories.
_MOST_DISTINCT = 1001
# Of a column whose other values are numbers, so many different texts are shown to who judges it.
_MOST_ODD = 20


def read_in_chunks(
    path: Path,
    schema_of: "Callable[[pd.DataFrame], Schema]",
    columns: Kinds,
    *,
    schema: Schema | None,
    unseen: str,
    memory_limit: int,
) -> tuple[Schema, np.ndarray, np.ndarray | None, int]:
    """Read a table in memory that does not grow with it.

    Args:
        path: a text, Parquet or Feather file.
        schema_of: tells what the columns of a frame are.
        columns: the kinds of columns that look like another.
        schema: what the columns are, if that is known.
        unseen: as for `Schema.to_events`.
        memory_limit: events that need no more bytes are held in memory.

    Returns:
        The schema; the events `[N, D]`, mapped from a temporary file if they are many; the labels
        `[N]`, or None; and how many cells of the schema's columns are empty.

    Raises:
        InputError: if the file cannot be read, or a column does not fit its kind.
    """
    kept = None
    if schema is None:
        kept = _Kept(columns, has_words_for_holes=not path.name.lower().endswith(BINARY))
        for table in chunks(path, columns):
            kept.add(table)
        schema = kept.schema(path, schema_of)
    kinds: dict[str, Any] = {column.name: column.kind for column in schema.columns}
    if schema.label is not None:
        kinds[schema.label.name] = schema.label.kind
    empty = count = 0
    with tempfile.TemporaryFile() as events, tempfile.TemporaryFile() as labels:
        for table in chunks(path, kinds):
            if schema.label is not None and schema.label.name not in table.columns:
                schema = dataclasses.replace(schema, label=None)
            wanted = [name for name in kinds if name in table.columns]
            frame = typed_table(path, table[wanted], kinds)
            try:
                events.write(schema.to_events(frame, unseen=unseen).tobytes())
                if schema.label is not None:
                    labels.write(schema.to_labels(frame).tobytes())
            except InputError as error:
                raise InputError(f"{path}: {error}") from error
            empty += sum(int(frame[column.name].isna().sum()) for column in schema.columns)
            count += len(frame)
        if not count:
            raise InputError(f"{path} has no rows: expected one at least")
        shape = (count, len(schema.columns))
        found = _array(events, shape, np.float32, memory_limit)
        numbers = None if schema.label is None else _array(labels, (count,), np.int32, 2**62)
    return schema, found, numbers, empty


def _array(file: BinaryIO, shape: tuple[int, ...], dtype: Any, memory_limit: int) -> np.ndarray:
    """Return what was written to a file, mapped if it is much; the map outlives the file."""
    file.flush()
    file.seek(0)
    if int(np.prod(shape)) * np.dtype(dtype).itemsize <= memory_limit:
        return np.fromfile(file, dtype).reshape(shape)
    return np.memmap(file, dtype, "r", shape=shape)


class _Kept:
    """The rows of a table that tell what its columns are.

    Args:
        columns: the kinds of columns that look like another.
        has_words_for_holes: whether text such as "NA" stands for a missing value.
    """

    def __init__(self, columns: Kinds, *, has_words_for_holes: bool):
        self._columns = columns
        self._holes = HOLES if has_words_for_holes else frozenset[str]()
        self._random = np.random.default_rng(0)
        self._share = 1.0
        self._parts: list[tuple[np.ndarray, pd.DataFrame]] = []
        self._seen: dict[str, _Values] = {}
        self._count = 0

    def add(self, table: "pd.DataFrame") -> None:
        """Look at the next rows."""
        new = np.zeros(len(table), bool)
        for place, name in enumerate(table.columns):
            if name not in self._seen:
                is_row = name not in self._columns and is_row_name(name, place)
                self._seen[name] = _Values(is_row, self._holes)
            new |= self._seen[name].look(table[name])
        # A row stays in the sample while its number is below the share, and for ever if it is new.
        number = np.where(new, -1.0, self._random.random(len(table)))
        taken = number < self._share
        self._parts.append((number[taken], table[taken]))
        self._count += len(table)
        most = min(_SAMPLE, max(1, _SAMPLE_CELLS // max(1, table.shape[1])))
        while (sampled := sum(int((one >= 0).sum()) for one, _ in self._parts)) > most:
            self._share *= min(0.9, most / sampled)
            self._parts = [
                (one[one < self._share], part[one < self._share]) for one, part in self._parts
            ]

    def schema(self, path: Path, schema_of: "Callable[[pd.DataFrame], Schema]") -> Schema:
        """Tell what the columns are.

        Raises:
            InputError: if there are no rows, or a column does not fit its kind.
        """
        import pandas as pd

        if not self._count:
            raise InputError(f"{path} has no rows: expected one at least")
        table = pd.concat([part for _, part in self._parts], ignore_index=True)
        numbers = [
            name for name, seen in self._seen.items() if seen.is_row_number and self._count > 1
        ]
        frame = typed_table(path, table.drop(columns=numbers), self._columns)
        try:
            found = schema_of(frame)
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
        kept = [
            dataclasses.replace(column, holes=self._seen[column.name].holes)
            for column in found.columns
        ]
        left_out = [LeftOut(name, "row number") for name in numbers]
        return dataclasses.replace(
            found, columns=tuple(kept), left_out=(*left_out, *found.left_out)
        )


class _Values:
    """What has been seen of a column.

    Args:
        may_be_row_number: whether the column is named as row numbers are.
        words: text that stands for a missing value.
    """

    def __init__(self, may_be_row_number: bool, words: frozenset[str]):
        self.holes = 0
        self._words = words
        self.is_row_number = may_be_row_number
        self._last: float | None = None
        self._distinct: set[Any] | None = set()
        self._odd: set[Any] = set()
        self._low, self._high = np.inf, -np.inf
        self._has_fractions = False

    def look(self, values: "pd.Series") -> np.ndarray:
        """Return which rows hold something new, booleans `[N]`."""
        import pandas as pd

        if isinstance(values.dtype, pd.CategoricalDtype | pd.StringDtype):
            # To take cells out of Arrow's memory one by one is slow.
            values = values.astype(object)
        places, distinct = pd.factorize(values, use_na_sentinel=True)
        firsts = np.full(len(distinct), len(values))
        np.minimum.at(firsts, places[places >= 0], np.flatnonzero(places >= 0))
        is_text = is_hole = np.zeros(len(distinct), bool)
        if not pd.api.types.is_numeric_dtype(values.dtype):
            is_text = np.array([isinstance(value, str) for value in distinct], bool)
            is_word = np.array([str(value).strip() in self._words for value in distinct], bool)
            is_hole = is_text & is_word
        missing = (places < 0) | is_hole[places] if len(distinct) else places < 0
        chosen: list[int] = []
        if missing.any():
            if not self.holes:
                chosen.append(int(missing.argmax()))
            self.holes += int(missing.sum())
        numbers = _numbers(distinct, is_text)
        chosen += self._new_numbers(numbers, firsts)
        chosen += self._new_values(distinct, firsts, np.isnan(numbers) & ~is_hole)
        if self.is_row_number:
            self._check_steps(numbers[places] if not missing.any() else np.array([np.nan]))
        new = np.zeros(len(values), bool)
        new[chosen] = True
        return new

    def _new_numbers(self, numbers: np.ndarray, firsts: np.ndarray) -> list[int]:
        if np.isnan(numbers).all():
            return []
        chosen = []
        lowest, highest = int(np.nanargmin(numbers)), int(np.nanargmax(numbers))
        if numbers[lowest] < self._low:
            self._low = float(numbers[lowest])
            chosen.append(int(firsts[lowest]))
        if numbers[highest] > self._high:
            self._high = float(numbers[highest])
            chosen.append(int(firsts[highest]))
        fractions = np.flatnonzero(numbers != np.floor(numbers))
        fractions = fractions[~np.isnan(numbers[fractions])]
        if len(fractions) and not self._has_fractions:
            self._has_fractions = True
            chosen.append(int(firsts[fractions[0]]))
        return chosen

    def _new_values(self, distinct: Any, firsts: np.ndarray, odd: np.ndarray) -> list[int]:
        if self._distinct is not None:
            if len(distinct) <= _MOST_DISTINCT:
                new = [place for place, value in enumerate(distinct) if value not in self._distinct]
                self._distinct.update(distinct[place] for place in new)
                if len(self._distinct) <= _MOST_DISTINCT:
                    return [int(firsts[place]) for place in new]
            # Those that were kept until now stay in the sample.
            self._distinct = None
        chosen = []
        for place in np.flatnonzero(odd):
            if len(self._odd) >= _MOST_ODD:
                break
            if distinct[place] not in self._odd:
                self._odd.add(distinct[place])
                chosen.append(int(firsts[place]))
        return chosen

    def _check_steps(self, numbers: np.ndarray) -> None:
        steps = np.diff(numbers if self._last is None else [self._last, *numbers])
        self.is_row_number = bool((steps == 1).all()) and float(numbers[-1]).is_integer()
        self._last = float(numbers[-1])


def _numbers(distinct: Any, is_text: np.ndarray) -> np.ndarray:
    """Return different values as numbers, NaN where they are none."""
    import pandas as pd

    if not len(distinct):
        return np.zeros(0)
    if is_text.any():
        return pd.to_numeric(pd.Series(distinct, dtype=object), errors="coerce").to_numpy(float)
    if pd.api.types.is_numeric_dtype(getattr(distinct, "dtype", object)):
        return np.asarray(distinct, float)
    return np.full(len(distinct), np.nan)
