"""Encoded pictures in the rows of other files: Parquet of Hugging Face, and TFRecord."""

import collections
import dataclasses
import json
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfvae.datasets.arrays import warn_of_sparse_labels
from tfvae.datasets.folders import Files, Layout, laid_out
from tfvae.datasets.options import PictureOptions
from tfvae.datasets.source import SPLIT_WORDS, SPLITS, Size, Source
from tfvae.datasets.text import first_line
from tfvae.datasets.workers import ALONE, Workers
from tfvae.errors import InputError, missing_extra

TFRECORDS = (".tfrecord", ".tfrecords")

_IMAGES = ("image", "img", "image/encoded", "image_raw", "picture")
_LABELS = ("label", "labels", "image/class/label", "fine_label", "class")
_MOST_CLASSES = 1_000_000
_Labels = dict[str, list[int | str | None]]
_SIGNATURES = (b"\x89PNG", b"\xff\xd8\xff", b"RIFF", b"BM", b"GIF8", b"II*\0", b"MM\0*")


def holds_pictures(path: Path) -> bool:
    """Return whether a file is Parquet with a column of pictures."""
    if path.suffix.lower() != ".parquet" or not path.is_file():
        return False
    try:
        import pyarrow.parquet as pq

        return _image_column(pq.read_schema(path)) is not None
    except (ImportError, OSError, ValueError):
        # What cannot be read is the concern of whoever reads tables.
        return False


def parquet_of_pictures(path: Path, size: Size | None, options: PictureOptions) -> Source | None:
    """Return the source of a Parquet file, or a folder of them, with a column of pictures.

    A folder's files are named by their split, as train-00000-of-00002.parquet; they may lie in the
    folder data of it.

    Returns:
        None if there is no such column, or no such file.

    Raises:
        InputError: if a file cannot be read, or pyarrow is missing.
    """
    files = {"train": [path]} if path.is_file() else _parquet_files(path)
    if not files:
        return None
    found = _parquet_rows(str(path), files)
    if found is None:
        return None
    cells, labels, class_names = found
    source = _rows_source(str(path), cells, _content_of, labels, class_names, size, options)
    # A row's number is no name: rows are split by chance.
    return dataclasses.replace(source, names=None)


def _parquet_rows(
    name: str, files: dict[str, list[Path]]
) -> tuple[dict[str, list[Any]], _Labels | None, tuple[str, ...] | None] | None:
    """Return the cells of the pictures and the labels of files by their split, and the classes.

    Returns:
        None if there is no column of pictures.
    """
    try:
        import pyarrow.parquet as pq
    except ImportError as error:
        raise missing_extra(f"{name}: Parquet is read by", "pyarrow", "parquet") from error
    try:
        first = pq.read_schema(next(iter(files.values()))[0])
        image = _image_column(first)
        if image is None:
            return None
        label, class_names = _label_column(first)
        columns = [image, *([label] if label else [])]
        tables = {
            split: [pq.read_table(part, columns=columns) for part in parts]
            for split, parts in files.items()
        }
    except Exception as error:  # pyarrow raises many kinds for a damaged file
        raise InputError(f"{name} is not a readable Parquet file: {first_line(error)}") from error
    cells = {
        split: [cell for table in parts for cell in table.column(image)]
        for split, parts in tables.items()
    }
    if label is None:
        return cells, None, class_names
    labels = {
        split: [value for table in parts for value in table.column(label).to_pylist()]
        for split, parts in tables.items()
    }
    return cells, labels, class_names


def _content_of(cell: Any) -> bytes:
    """Return the file that a cell of Parquet holds."""
    value = cell.as_py()
    data = value.get("bytes") if isinstance(value, dict) else value
    return data or b""


def parts_of_pictures(
    name: str,
    paths: Sequence[Path],
    size: Size | None,
    options: PictureOptions,
    workers: Workers = ALONE,
) -> Source:
    """Return the source of the pictures of several Parquet or TFRecord files, one after the other.

    Args:
        name: what to call all of them.
        paths: those of this worker.
        size: to resize the pictures to.
        options: how they are read.
        workers: who reads the files; the classes and whether all are grey they tell each other.

    Returns:
        A source of this worker's rows, whose `counts` are those of its files.

    Raises:
        InputError: if a file cannot be read, or the pictures do not fit.
    """
    cells: dict[str, list[Any]] = {}
    labels: _Labels = {}
    class_names = None
    read: Callable[[Any], bytes] = _content_of
    for path in paths:
        key = str(path)
        if path.name.lower().endswith(TFRECORDS):
            records = _Records(path)
            cells[key] = [(records, place) for place in records.places]
            found = records.labels()
            read = _picture_of
        else:
            rows = _parquet_rows(key, {key: [path]})
            if rows is None:
                raise InputError(f"{path}: expected a column of pictures, as in {paths[0]}")
            cells[key], class_names = rows[0][key], rows[2]
            found = None if rows[1] is None else rows[1][key]
        labels[key] = [None] * len(cells[key]) if found is None else found
    source = _rows_source(name, cells, read, labels, class_names, size, options, workers)
    # Without those that are damaged.
    counted = collections.Counter(row.rpartition(", row ")[0] for row in source.names or ())
    return dataclasses.replace(source, counts={key: counted[key] for key in cells}, names=None)


def tfrecord_file(path: Path, size: Size | None, options: PictureOptions) -> Source:
    """Return the source of a TFRecord file of Examples with one feature of encoded pictures.

    Raises:
        InputError: if it cannot be read, or no feature holds pictures.
    """
    records = _Records(path)
    labels = records.labels()
    source = _rows_source(
        str(path),
        {"train": records.places},
        records.picture,
        None if labels is None else {"train": labels},
        None,
        size,
        options,
    )
    return dataclasses.replace(source, names=None)


class _Records:
    """The Examples of a TFRecord file.

    Attributes:
        places: where each begins, and its length.

    Raises:
        InputError: if it cannot be read, or no feature holds pictures.
    """

    def __init__(self, path: Path):
        self.places = list(_record_places(path))
        if not self.places:
            raise InputError(f"{path} holds no records")
        self._path = path
        self._file, self._lock = path.open("rb"), threading.Lock()
        first = self._example(self.places[0])
        pictures = [
            name
            for name, feature in first.items()
            if len(feature.bytes_list.value) == 1
            and feature.bytes_list.value[0].startswith(_SIGNATURES)
        ]
        if len(pictures) != 1:
            listed = ", ".join(sorted(first)) or "none"
            raise InputError(
                f"{path}: expected one feature that holds an encoded picture, found "
                f"{len(pictures)}; the features are {listed}"
            )
        (self._picture,) = pictures
        self._label = next(
            (name for name in _LABELS if len(first[name].int64_list.value) == 1), None
        )

    def _example(self, place: tuple[int, int]) -> Any:
        import tensorflow as tf

        with self._lock:
            self._file.seek(place[0])
            data = self._file.read(place[1])
        try:
            return tf.train.Example.FromString(data).features.feature
        except Exception as error:  # protobuf's own, of either implementation
            raise InputError(
                f"{self._path}: expected Examples; the record at byte {place[0]} is none"
            ) from error

    def picture(self, place: tuple[int, int]) -> bytes:
        """Return the picture's file that a record holds."""
        values = self._example(place)[self._picture].bytes_list.value
        return values[0] if values else b""

    def labels(self) -> list[int | str | None] | None:
        """Return the labels of all records, None for one without; None if they have none."""
        if self._label is None:
            return None
        found = [list(self._example(place)[self._label].int64_list.value) for place in self.places]
        return [values[0] if len(values) == 1 else None for values in found]


def _picture_of(cell: tuple[_Records, tuple[int, int]]) -> bytes:
    records, place = cell
    return records.picture(place)


def _rows_source(
    name: str,
    cells: dict[str, list[Any]],
    content: Callable[[Any], bytes],
    labels: _Labels | None,
    class_names: tuple[str, ...] | None,
    size: Size | None,
    options: PictureOptions,
    workers: Workers = ALONE,
) -> Source:
    """Return the source of pictures that lie in rows, of each split or of each file."""
    are_splits = set(cells) <= set(SPLITS)
    splits = [split for split in (SPLITS if are_splits else cells) if cells.get(split)]
    if not splits or (are_splits and "train" not in splits):
        raise InputError(f"{name} has no training images")
    names = [f"{split}, row {row}" for split in splits for row in range(len(cells[split]))]
    of_name = dict(zip(names, (cell for split in splits for cell in cells[split]), strict=True))
    numbers, notes = None, []
    if options.folder_labels and labels is not None:
        given = [label for split in splits for label in labels[split]]
        if any(workers.agree(any(label is None or label == -1 for label in given))):
            notes.append("no labels: some rows have none")
        else:
            numbers, class_names = _numbers(name, given, class_names, workers)
    counts = {split: len(cells[split]) for split in splits}
    layout = Layout(
        names,
        counts if are_splits else {"train": sum(counts.values())},
        numbers,
        None if numbers is None else class_names,
        notes,
    )
    files = Files(name, names, lambda row: content(of_name[row]), {})
    return laid_out(files, layout, size, options, workers)


def _numbers(
    name: str, labels: Sequence[Any], class_names: tuple[str, ...] | None, workers: Workers
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return the numbers of labels and the names of all classes."""
    if all(workers.agree(all(isinstance(label, int) for label in labels))):
        lows, highs = zip(*workers.agree((min(labels), max(labels))), strict=True)
        low, high = min(lows), max(highs)
        count = len(class_names or ()) or high + 1
        last = min(count, _MOST_CLASSES) - 1
        if not 0 <= low <= high <= last:
            raise InputError(
                f"{name}: expected labels from 0 to {last}; received some from {low} to {high}"
            )
        numbers = np.array(labels, np.int32)
        if class_names is None:
            warn_of_sparse_labels(name, [numbers])
        return numbers, class_names or tuple(map(str, range(count)))
    texts = [str(label) for label in labels]
    known = tuple(sorted(set().union(*workers.agree(set(texts)))))
    known = class_names or known
    number = {text: index for index, text in enumerate(known)}
    return np.array([number[text] for text in texts], np.int32), known


def _parquet_files(folder: Path) -> dict[str, list[Path]]:
    """Return the Parquet files of a folder that are named by their split."""
    found: dict[str, list[Path]] = {}
    for path in sorted([*folder.glob("*.parquet"), *folder.glob("data/*.parquet")]):
        split = SPLIT_WORDS.get(path.stem.split("-")[0].lower())
        if split is not None:
            found.setdefault(split, []).append(path)
    return found


def _image_column(schema: Any) -> str | None:
    """Return the name of the column that holds pictures, by its type and name."""
    import pyarrow as pa

    features = _features(schema)
    declared = [name for name, kind in features.items() if kind.get("_type") == "Image"]
    structs = [
        field.name
        for field in schema
        if pa.types.is_struct(field.type)
        and field.type.get_field_index("bytes") >= 0
        and pa.types.is_binary(field.type.field("bytes").type)
    ]
    binaries = [
        field.name
        for field in schema
        if field.name in _IMAGES
        and (pa.types.is_binary(field.type) or pa.types.is_large_binary(field.type))
    ]
    for names in (declared, structs, binaries):
        named = [name for name in _IMAGES if name in names]
        if named or len(names) == 1:
            return (named or names)[0]
        if names:
            raise InputError(f"expected one column of pictures; received {', '.join(names)}")
    return None


def _label_column(schema: Any) -> tuple[str | None, tuple[str, ...] | None]:
    """Return the column of labels and the names of the classes, None where there are none."""
    features = _features(schema)
    name = next((name for name in _LABELS if name in schema.names), None)
    names = features.get(name, {}).get("names") if name else None
    return name, None if names is None else tuple(map(str, names))


def _features(schema: Any) -> dict[str, Any]:
    """Return what Hugging Face's datasets writes of its columns."""
    try:
        text = (schema.metadata or {}).get(b"huggingface", b"{}")
        found = json.loads(text).get("info", {}).get("features", {})
        return {name: kind for name, kind in found.items() if isinstance(kind, dict)}
    except (ValueError, AttributeError):
        return {}


def _record_places(path: Path) -> Iterator[tuple[int, int]]:
    """Yield where each record of a TFRecord file begins, and its length."""
    size = path.stat().st_size
    with path.open("rb") as file:
        place = 0
        while place < size:
            file.seek(place)
            head = file.read(12)
            length = struct.unpack("<Q", head[:8])[0] if len(head) == 12 else size
            if place + length + 16 > size:
                raise InputError(
                    f"{path} is not a readable TFRecord file: it ends within a record; one that is "
                    "compressed has to be unpacked"
                )
            yield place + 12, length
            place += length + 16
