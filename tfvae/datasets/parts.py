"""Data in many files of one kind, named by a pattern: their rows, one file after the other.

Several workers deal the files out among them, and each reads its own alone. Rows are numbered
through all files, so that splits and draws are what they are for one process.
"""

import dataclasses
import glob
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tfvae.datasets.arrays import from_parts, read_arrays
from tfvae.datasets.idx import idx_file, is_idx_of_images
from tfvae.datasets.names import natural_order
from tfvae.datasets.records import TFRECORDS, holds_pictures
from tfvae.datasets.source import Batch, Size, Source, dimensions, into_memory, plural_of
from tfvae.datasets.tables import is_table
from tfvae.datasets.values import ValueRange
from tfvae.datasets.workers import ALONE, FileShares, Workers
from tfvae.errors import InputError

ARRAYS = (".npy", ".npz")
_EXCEL = (".xlsx", ".xlsm")


def is_pattern(name: Any) -> bool:
    """Whether a name is a pattern of files, with `*`, `?` or `[`, and no path that exists."""
    is_path = isinstance(name, str | os.PathLike)
    return is_path and bool(set("*?[") & set(str(name))) and not Path(name).exists()


def exists(name: str) -> bool:
    """Whether a path exists, or a file matches the pattern."""
    return Path(name).exists() or (is_pattern(name) and bool(_files(name)))


def _files(pattern: str) -> list[Path]:
    found = map(Path, glob.glob(pattern, recursive=True))  # noqa: PTH207 - of any path
    files = [path for path in found if path.is_file()]
    return sorted(files, key=lambda path: natural_order(path.as_posix()))


@dataclasses.dataclass(frozen=True, eq=False)
class Parts:
    """The files of a pattern, dealt out.

    Attributes:
        name: the pattern.
        own: the files that this process reads.
        readers: who reads the files: all workers, or where there are fewer files than workers this
            one alone, all of them.
        are_tables: whether they are parts of a table.
        are_pictures: whether their rows hold pictures, in Parquet or TFRecord.
        notes: what a user should hear of who reads which.
    """

    name: str
    own: list[Path]
    readers: Workers
    are_tables: bool
    are_pictures: bool
    notes: tuple[str, ...] = ()

    def source(self, read: Callable[[], Source], memory_limit: int) -> Source:
        """Return the source of the rows of all files.

        Args:
            read: gives the source of this worker's rows, whose `counts` are those of its files.
            memory_limit: events that need no more bytes are held in memory, on each worker its own.

        Returns:
            Where several workers read the files a source that gives this worker's rows alone, and
            says so by its `shares`.

        Raises:
            InputError: if a worker cannot read its files, or they are not alike.
        """
        found = self.readers.together(lambda: _joined(read(), self, memory_limit))
        return dataclasses.replace(found, notes=(*found.notes, *self.notes))


def parts_of(pattern: str | os.PathLike[str], workers: Workers = ALONE) -> Parts:
    """Return the files of a pattern, sorted by their names, 2 before 10, and dealt out in turn.

    Args:
        pattern: with `*`, `?` or `[`; `**` stands for any folders.
        workers: who reads them.

    Raises:
        InputError: if no file matches, the workers see others, or they are not of one kind.
    """
    paths = workers.together(lambda: _agreed_paths(str(pattern), workers))
    readers = workers if workers.count <= len(paths) else ALONE
    own = readers.deal(paths)
    are_pictures = own[0].name.lower().endswith(TFRECORDS) or holds_pictures(own[0])
    are_tables = is_table(own[0]) and not are_pictures
    if len(set(readers.agree(are_pictures))) > 1:
        raise InputError(f"{pattern}: expected tables or pictures; received both")
    notes: tuple[str, ...] = ()
    if workers.count > 1:
        notes = (
            f"{len(paths)} files for {workers.count} workers: each reads all of them"
            if readers is ALONE
            else f"each of {workers.count} workers reads its own of {len(paths)} files",
        )
    return Parts(str(pattern), own, readers, are_tables, are_pictures, notes)


def _agreed_paths(pattern: str, workers: Workers) -> list[Path]:
    """Return the files of a pattern, which all workers see alike and which are of one kind."""
    paths = _files(pattern)
    if not paths:
        raise InputError(f"no such file: nothing matches {pattern}")
    names = [path.name for path in paths]
    for index, others in enumerate(workers.agree(names)):
        if others != names:
            odd = sorted(set(names) ^ set(others)) or names
            raise InputError(
                f"{pattern}: worker {index} of {workers.count} sees other files than worker "
                f"{workers.index} does, such as {odd[0]}: let all see the same names"
            )
    endings = sorted({path.suffixes[-1].lower() if path.suffixes else "" for path in paths})
    if len(endings) > 1:
        raise InputError(f"{pattern}: expected files of one kind; received {', '.join(endings)}")
    if endings[0] in _EXCEL:
        raise InputError(f"{pattern}: Excel files are read one at a time: save the parts as CSV")
    return paths


def arrays_of(
    parts: Parts, *, size: Size | None, kind: str | None, value_range: ValueRange | None
) -> Source:
    """Return the source of this worker's rows of files of arrays.

    Args:
        parts: IDX, .npy or .npz files.
        size: the size to resize images to.
        kind: what the arrays hold; by default what they look like.
        value_range: the values that become 0 and 1.

    Raises:
        InputError: if a file cannot be read or the arrays do not fit.
    """
    events: dict[str, np.ndarray] = {}
    labels: dict[str, np.ndarray] = {}
    for path in parts.own:
        if is_idx_of_images(path):
            images, numbers = idx_file(path)
            kind = "image"
        elif path.suffix in ARRAYS:
            images, numbers = read_arrays(path)
        else:
            raise InputError(
                f"{path}: expected files of a pattern to be IDX files of images, .npy, .npz, "
                ".csv, .tsv, .parquet, .feather or .tfrecord"
            )
        if set(images) != {"train"}:
            raise InputError(
                f"{path}: expected events of one split in each of several files; received "
                f"{', '.join(images)}: name the array x, and its labels y"
            )
        events[str(path)] = images["train"]
        labels |= {str(path): array for array in numbers.values()}
    return from_parts(
        parts.name,
        events,
        labels,
        size=size,
        kind=kind,
        value_range=value_range,
        workers=parts.readers,
    )


@dataclasses.dataclass(frozen=True)
class _Facts:
    """What a worker tells of its files."""

    first: str
    counts: list[int]
    event_shape: tuple[int, ...]
    dtype: str
    num_classes: int | None
    class_names: tuple[str, ...] | None
    missing: bool
    values: ValueRange | None
    value_range: ValueRange | None
    in_memory: bool


def _joined(local: Source, parts: Parts, memory_limit: int) -> Source:
    """Return the source of the files of all workers, of which `local` has this one's."""
    workers = parts.readers
    counts = list(local.counts.values())
    local = dataclasses.replace(local, counts={"train": sum(counts)})
    needed = local.count * math.prod(local.event_shape) * local.dtype.itemsize
    facts = _Facts(
        str(parts.own[0]),
        counts,
        local.event_shape,
        str(local.dtype),
        local.num_classes,
        local.class_names,
        local.missing,
        local.values,
        local.value_range,
        local.in_memory or (local.schema is None and needed <= memory_limit),
    )
    found = workers.agree(facts)
    for other in found:
        _check_alike(local.name, found[0], other)
    # Of all workers or of none, so that all train in the same way.
    in_memory = all(one.in_memory for one in found)
    if in_memory and not local.in_memory:
        local = into_memory(local)
    local = dataclasses.replace(local, in_memory=in_memory)
    if workers.count == 1:
        return local
    classes = [one.num_classes for one in found if one.num_classes is not None]
    num_classes = max(classes) if len(classes) == len(found) else None
    names = max((one.class_names or () for one in found), key=len) or None
    ranges = [one.values for one in found if one.values is not None]
    values = None
    if len(ranges) == len(found):
        values = (min(low for low, _ in ranges), max(high for _, high in ranges))
    files = sum(len(one.counts) for one in found)
    of_file = [found[file % workers.count].counts[file // workers.count] for file in range(files)]
    shares = FileShares(workers, np.cumsum([0, *of_file]))
    own_starts = np.cumsum([0, *counts])

    def read(rows: np.ndarray) -> Batch:
        file = shares.file_of(rows)
        own = rows - shares.starts[file] + own_starts[file // workers.count]
        events, labels = local.read(own)
        return events, None if num_classes is None else labels

    return dataclasses.replace(
        local,
        counts={"train": sum(of_file)},
        num_classes=num_classes,
        class_names=None if num_classes is None else names,
        read=read,
        missing=any(one.missing for one in found),
        values=values,
        shares=shares,
    )


def _check_alike(name: str, first: _Facts, other: _Facts) -> None:
    """Refuse files whose events are not those of the first ones.

    Raises:
        InputError: if their shape, type or range differ.
    """
    if (first.event_shape, first.dtype) != (other.event_shape, other.dtype):
        called = plural_of(first.event_shape)
        raise InputError(
            f"{name}: the {called} of {first.first} are {dimensions(first.event_shape)} "
            f"{first.dtype}, but those of {other.first} are {dimensions(other.event_shape)} "
            f"{other.dtype}"
        )
    if first.value_range != other.value_range:
        raise InputError(
            f"{name}: the values of {first.first} are from the range {first.value_range}, but "
            f"those of {other.first} from {other.value_range}: give the value range of all"
        )
