"""Tables that are larger than memory, or in parts: read twice in chunks, into a file of events.

The first time some rows are kept, which tell what the columns are: a sample, and each row in which
a column has a new category or a new lowest or highest value. The second time each chunk becomes
events, which are appended to a temporary file. Where several workers read the parts, each tells
the others the rows that it has kept.
"""

import dataclasses
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from tfvae.datasets.cells import HOLES
from tfvae.datasets.column import LeftOut
from tfvae.datasets.columns import is_row_name
from tfvae.datasets.schema import Schema
from tfvae.datasets.table_files import BINARY, Kinds, chunks, typed_table
from tfvae.datasets.workers import ALONE, Workers
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
    paths: Sequence[Path],
    schema_of: "Callable[[pd.DataFrame], Schema]",
    columns: Kinds,
    *,
    schema: Schema | None,
    unseen: str,
    memory_limit: int,
    workers: Workers = ALONE,
) -> tuple[Schema, np.ndarray, np.ndarray | None, int, list[int]]:
    """Read a table in memory that does not grow with it.

    Args:
        paths: a text, Parquet or Feather file, or the parts of one table.
        schema_of: tells what the columns of a frame are.
        columns: the kinds of columns that look like another.
        schema: what the columns are, if that is known.
        unseen: as for `Schema.to_events`.
        memory_limit: events that need no more bytes are held in memory.
        workers: who reads the parts; `paths` are those of this worker.

    Returns:
        The schema, of the parts of all workers; the events `[N, D]`, mapped from a temporary file
        if they are many; the labels `[N]`, or None; how many cells of the schema's columns are
        empty; and how many rows each file has.

    Raises:
        InputError: if a file cannot be read, or a column does not fit its kind.
    """
    if schema is None:
        kept = _Kept(columns, workers, has_words_for_holes=not _is_binary(paths[0]))
        for path in paths:
            kept.begin(path)
            for table in chunks(path, columns):
                kept.add(table)
        schema = kept.schema(schema_of)
    kinds: dict[str, Any] = {column.name: column.kind for column in schema.columns}
    if schema.label is not None:
        kinds[schema.label.name] = schema.label.kind
    empty = 0
    counts = dict.fromkeys(paths, 0)
    with tempfile.TemporaryFile() as events, tempfile.TemporaryFile() as labels:
        for path in paths:
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
                counts[path] += len(frame)
        count = sum(counts.values())
        if not count:
            raise InputError(f"{paths[0]} has no rows: expected one at least")
        shape = (count, len(schema.columns))
        found = _array(events, shape, np.float32, memory_limit)
        numbers = None if schema.label is None else _array(labels, (count,), np.int32, 2**62)
    return schema, found, numbers, empty, list(counts.values())


def _is_binary(path: Path) -> bool:
    return path.name.lower().endswith(BINARY)


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
        workers: who reads the parts of the table.
        has_words_for_holes: whether text such as "NA" stands for a missing value.
    """

    def __init__(self, columns: Kinds, workers: Workers, *, has_words_for_holes: bool):
        self._columns = columns
        self._workers = workers
        self._holes = HOLES if has_words_for_holes else frozenset[str]()
        self._random = np.random.default_rng(workers.index)
        self._share = 1.0
        self._parts: list[tuple[np.ndarray, pd.DataFrame]] = []
        self._seen: dict[str, _Values] = {}
        self._count = 0
        self._paths: list[Path] = []

    def begin(self, path: Path) -> None:
        """Begin with a file."""
        self._paths.append(path)
        for values in self._seen.values():
            values.begin()

    def add(self, table: "pd.DataFrame") -> None:
        """Look at the next rows.

        Raises:
            InputError: if their columns are not those of the files before.
        """
        if self._seen:
            _check_columns(self._paths[-1], table.columns, self._paths[0], self._seen)
        new = np.zeros(len(table), bool)
        for place, name in enumerate(table.columns):
            if name not in self._seen:
                is_row = name not in self._columns and is_row_name(name, place)
                self._seen[name] = _Values(is_row, self._holes)
            new |= self._seen[name].look(table[name])
        # A row stays in the sample while its number is below the share, and for ever if it is new,
        # which is told by a number less by 1.
        number = self._random.random(len(table)) - new
        taken = number < self._share
        self._parts.append((number[taken], table[taken]))
        self._count += len(table)
        while (sampled := sum(int((one >= 0).sum()) for one, _ in self._parts)) > self._most:
            self._thin(self._share * min(0.9, self._most / sampled))

    @property
    def _most(self) -> int:
        """How many rows the sample has at most."""
        return min(_SAMPLE, max(1, _SAMPLE_CELLS // max(1, len(self._seen))))

    def _thin(self, share: float) -> None:
        self._share = share
        self._parts = [(one[one < share], part[one < share]) for one, part in self._parts]

    def schema(self, schema_of: "Callable[[pd.DataFrame], Schema]") -> Schema:
        """Tell what the columns are.

        Raises:
            InputError: if there are no rows, or a column does not fit its kind.
        """
        path = self._paths[0]
        if not self._count:
            raise InputError(f"{path} has no rows: expected one at least")
        table, holes, numbers = self._by_all() if self._workers.count > 1 else self._own()
        frame = typed_table(path, table.drop(columns=numbers), self._columns)
        try:
            found = schema_of(frame)
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
        kept = [dataclasses.replace(column, holes=holes[column.name]) for column in found.columns]
        left_out = [LeftOut(name, "row number") for name in numbers]
        return dataclasses.replace(
            found, columns=tuple(kept), left_out=(*left_out, *found.left_out)
        )

    def _own(self) -> "tuple[pd.DataFrame, dict[str, int], list[str]]":
        """Return the kept rows, how many holes each column has, and which are row numbers."""
        import pandas as pd

        table = pd.concat([part for _, part in self._parts], ignore_index=True)
        numbers = [
            name for name, seen in self._seen.items() if seen.is_row_number and self._count > 1
        ]
        return table, {name: seen.holes for name, seen in self._seen.items()}, numbers

    def _by_all(self) -> "tuple[pd.DataFrame, dict[str, int], list[str]]":
        """Return what `_own` does, of the rows of all workers."""
        import pandas as pd

        # A sample of all rows has the same share of each worker's.
        shares, counts = zip(*self._workers.agree((self._share, self._count)), strict=True)
        self._thin(min(*shares, self._most / sum(counts)))
        table, holes, numbers = self._own()
        told = self._workers.agree(
            (
                self._paths[0],
                table,
                np.concatenate([one for one, _ in self._parts]),
                holes,
                numbers,
                {name for name, seen in self._seen.items() if seen.may_have_levels},
            )
        )
        paths, tables, number, all_holes, all_numbers, with_levels = zip(*told, strict=True)
        for other, others in zip(paths, tables, strict=True):
            _check_columns(other, others.columns, paths[0], tables[0].columns)
        table = pd.concat(tables, ignore_index=True)
        # What is new to one worker need not be so to all. The first values of a column are kept
        # while it may have categories: of many workers these would be more than the sample.
        of_sample = np.concatenate(number) % 1 < self._share
        new = np.zeros(len(table), bool)
        for name in table.columns:
            may_have_levels = all(name in names for names in with_levels)
            new |= _Values(False, self._holes, may_have_levels).look(table[name])
        return (
            table[new | of_sample].reset_index(drop=True),
            {name: sum(one[name] for one in all_holes) for name in table.columns},
            [name for name in table.columns if all(name in names for names in all_numbers)],
        )


def _check_columns(path: Path, columns: Iterable[str], first: Path, known: Iterable[str]) -> None:
    """Refuse a part of a table that has other columns than the first part has."""
    lacking, strange = sorted(set(known) - set(columns)), sorted(set(columns) - set(known))
    if lacking or strange:
        words = [f"lacks {lacking[0]!r}"] if lacking else []
        words += [f"has {strange[0]!r} beside them"] if strange else []
        raise InputError(f"{path}: expected the columns of {first}; it {' and '.join(words)}")


class _Values:
    """What has been seen of a column.

    Args:
        may_be_row_number: whether the column is named as row numbers are.
        words: text that stands for a missing value.
        may_have_levels: whether each different value is new, until they are too many.
    """

    def __init__(
        self, may_be_row_number: bool, words: frozenset[str], may_have_levels: bool = True
    ):
        self.holes = 0
        self._words = words
        self.is_row_number = may_be_row_number
        self._last: float | None = None
        self._distinct: set[Any] | None = set() if may_have_levels else None
        self._odd: set[Any] = set()
        self._low, self._high = np.inf, -np.inf
        self._has_fractions = False

    @property
    def may_have_levels(self) -> bool:
        """Whether its different values are few."""
        return self._distinct is not None

    def begin(self) -> None:
        """Begin with another file, whose row numbers may begin anew."""
        self._last = None

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
