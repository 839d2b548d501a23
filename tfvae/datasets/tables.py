"""Tables: files of them, and frames of pandas, polars and Arrow."""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfvae.datasets.cells import to_pandas
from tfvae.datasets.large_tables import read_in_chunks
from tfvae.datasets.schema import Schema
from tfvae.datasets.source import Batch, Source
from tfvae.datasets.table_files import SUFFIXES, Kinds, is_table, memory_needed, read_table
from tfvae.datasets.workers import ALONE, Workers
from tfvae.errors import InputError

__all__ = ["SUFFIXES", "Kinds", "is_table", "parts_of_table", "read_table", "table_source"]


def table_source(
    table: Any,
    *,
    columns: Kinds | None = None,
    label: str | None = None,
    drop: Sequence[str] = (),
    schema: Schema | None = None,
    unseen: str = "refuse",
    memory_limit: int = 2**30,
) -> Source:
    """Return the source of the rows of a table.

    A file that would take more memory than `memory_limit` to read is read in chunks, twice: once
    to tell what its columns are, and once to write its events into a temporary file, from which
    rows are read as they are used.

    Args:
        table: a file or a frame.
        columns: as for `Schema.from_frame`.
        label: as for `Schema.from_frame`.
        drop: as for `Schema.from_frame`.
        schema: what the columns are, as another table told, instead of telling it from this one.
            A table without the column of labels has no labels then.
        unseen: what becomes of categories that `schema` does not know: "refuse" or "missing".
        memory_limit: in bytes; events that need no more are held in memory.

    Raises:
        InputError: if the file cannot be read, or a column does not fit its kind.
    """
    is_file = isinstance(table, str | os.PathLike)
    name = str(table) if is_file else "the table"
    if is_file and memory_needed(Path(table)) > memory_limit:
        source, _ = _from_chunks(
            name, [Path(table)], columns, label, drop, schema, unseen, memory_limit
        )
        return source
    if schema is not None:
        columns = _kinds(schema)
    frame = read_table(Path(table), columns) if is_file else to_pandas(table)
    if not len(frame):
        raise InputError(f"{name} has no rows: expected one at least")
    try:
        if schema is None:
            schema = Schema.from_frame(frame, columns=columns, label=label, drop=drop)
        elif schema.label is not None and schema.label.name not in frame.columns:
            schema = dataclasses.replace(schema, label=None)
        events = schema.to_events(frame, unseen=unseen)
        labels = None if schema.label is None else schema.to_labels(frame)
    except InputError as error:
        raise InputError(f"{name}: {error}") from error
    empty = sum(int(frame[column.name].isna().sum()) for column in schema.columns)
    return _source(name, schema, events, labels, empty)


def parts_of_table(
    name: str,
    paths: Sequence[Path],
    *,
    columns: Kinds | None = None,
    label: str | None = None,
    drop: Sequence[str] = (),
    schema: Schema | None = None,
    unseen: str = "refuse",
    memory_limit: int = 2**30,
    workers: Workers = ALONE,
) -> Source:
    """Return the source of the rows of files that are parts of one table, one after the other.

    They are read in chunks, and what the columns are is told from all of them together, also from
    those that other workers read.

    Args:
        name: what to call all of them.
        paths: those of this worker, text, Parquet or Feather files.
        columns: as for `table_source`.
        label: as for `table_source`.
        drop: as for `table_source`.
        schema: as for `table_source`.
        unseen: as for `table_source`.
        memory_limit: as for `table_source`.
        workers: who reads the parts.

    Returns:
        A source of this worker's rows, whose `counts` are those of its files.

    Raises:
        InputError: if a file cannot be read, a column does not fit its kind, or the parts differ in
            their columns.
    """
    source, rows = _from_chunks(
        name, paths, columns, label, drop, schema, unseen, memory_limit, workers
    )
    return dataclasses.replace(source, counts=dict(zip(map(str, paths), rows, strict=True)))


def _from_chunks(
    name: str,
    paths: Sequence[Path],
    columns: Kinds | None,
    label: str | None,
    drop: Sequence[str],
    schema: Schema | None,
    unseen: str,
    memory_limit: int,
    workers: Workers = ALONE,
) -> tuple[Source, list[int]]:
    """Read files in chunks; return the source of their rows, and how many each has.

    The arguments are those of `parts_of_table`.
    """
    if schema is not None:
        columns = _kinds(schema)
    schema, events, labels, empty, rows = read_in_chunks(
        paths,
        lambda frame: Schema.from_frame(frame, columns=columns, label=label, drop=drop),
        columns or {},
        schema=schema,
        unseen=unseen,
        memory_limit=memory_limit,
        workers=workers,
    )
    return _source(name, schema, events, labels, empty, workers), rows


def _kinds(schema: Schema) -> dict[str, Any]:
    """Return the kinds of the columns of a schema."""
    columns = {column.name: column.kind for column in schema.columns}
    if schema.label is not None:
        columns[schema.label.name] = schema.label.kind
    return columns


def _source(
    name: str,
    schema: Schema,
    events: np.ndarray,
    labels: np.ndarray | None,
    empty: int,
    workers: Workers = ALONE,
) -> Source:
    """Return the source of the events of a table.

    Args:
        name: what to call it.
        schema: what its columns are.
        events: `[N, D]`, in memory or mapped.
        labels: `[N]`, or None.
        empty: how many cells of its columns are empty.
        workers: who reads the parts of the table, and counts what is missing in them.
    """
    is_mapped = isinstance(events, np.memmap)
    rows_at_a_time = max(1, 2**22 // events.shape[1])
    holes = sum(
        int(np.isnan(events[start : start + rows_at_a_time]).sum())
        for start in range(0, len(events), rows_at_a_time)
    )
    holes, empty, size = np.sum(workers.agree(np.array([holes, empty, events.size])), axis=0)
    notes = [f"{holes / size:.2%} of the values are missing"] if holes else []
    if holes > empty:
        notes.append(f"{holes - empty:,} of them of categories that the schema does not know")

    def read(rows: np.ndarray) -> Batch:
        return np.asarray(events[rows]), None if labels is None else labels[rows]

    return Source(
        name,
        (events.shape[1],),
        np.dtype(np.float32),
        {"train": len(events)},
        None if schema.label is None else len(schema.label.levels),
        read,
        in_memory=not is_mapped,
        class_names=None if schema.label is None else tuple(map(str, schema.label.levels)),
        missing=bool(holes > 0),
        notes=tuple(notes),
        schema=schema,
    )
