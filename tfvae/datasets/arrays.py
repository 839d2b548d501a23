"""Arrays and their files, .npy and .npz: images, series, volumes and rows of numbers.

What an array holds is told by its rank, and where that leaves a choice by its type and values:

- `[N, D]` of floats or whole numbers: rows of a table;
- `[N, A, B]` of bytes, 16-bit numbers or bits: images `[A, B, 1]`;
- `[N, A, B]` of floats: images `[A, B, 1]` if A = B; or if A and B are more than 16, neither is
  more than four times the other, nothing is missing, and all values are in [0, 1] or are whole
  numbers from 0 to 255; else series of A steps and B channels;
- `[N, H, W, C]`: images;
- `[N, D, H, W, C]`: volumes.

The option `kind` says otherwise.
"""

import dataclasses
import math
import tempfile
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tfvae.datasets.pictures import resized
from tfvae.datasets.source import (
    KINDS,
    PLURALS,
    SPLIT_WORDS,
    SPLITS,
    Batch,
    Size,
    Source,
    joined,
    range_of,
    scaled,
)
from tfvae.datasets.text import first_line, natural_key
from tfvae.datasets.values import ValueRange, inferred_range
from tfvae.datasets.workers import ALONE, Workers
from tfvae.errors import InputError

# The words that name contents in the files of the common data sets: x_train, test_labels, ...
_CONTENTS = dict.fromkeys(("x", "image", "images"), "images")
_CONTENTS |= dict.fromkeys(("y", "label", "labels"), "labels")
# The shapes that each kind's arrays may have; the first of two is without channels.
_SHAPES = {
    "table": ("[N, D]",),
    "series": ("[N, T]", "[N, T, C]"),
    "image": ("[N, H, W]", "[N, H, W, C]"),
    "volume": ("[N, D, H, W]", "[N, D, H, W, C]"),
}
_ANY_SHAPE = "[N, D], [N, T, C], [N, H, W], [N, H, W, C] or [N, D, H, W, C]"
_CHANNELS = (1, 3, 4)
# Up to so many classes none is too many, however few of them occur.
_MANY_CLASSES = 1000


def array_file(
    path: Path,
    *,
    size: Size | None = None,
    kind: str | None = None,
    value_range: ValueRange | None = None,
) -> Source:
    """Return the source of an .npy or .npz file.

    Args:
        path: the file.
        size: the size to resize images to.
        kind: what the arrays hold, one of `KINDS`; by default what they look like.
        value_range: the values that become 0 and 1; by default floats are left as they are, and
            whole numbers in images and volumes are scaled by what their type and values say.

    Raises:
        InputError: if the file cannot be read or its arrays do not fit.
    """
    events, labels = read_arrays(path)
    return from_arrays(str(path), events, labels, size=size, kind=kind, value_range=value_range)


def read_arrays(path: Path) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return the events and the labels of each split of an .npy or .npz file, mapped.

    Raises:
        InputError: if it cannot be read.
    """
    arrays: dict[str, dict[str, np.ndarray]] = {"images": {}, "labels": {}}
    if path.suffix == ".npy":
        arrays["images"]["train"] = _map_npy(path, str(path))
    else:
        _read_archive(path, arrays)
    return arrays["images"], arrays["labels"]


def _read_archive(path: Path, arrays: dict[str, dict[str, np.ndarray]]) -> None:
    try:
        # Unpacked and mapped, an archive is read like any other file, whatever its size; the map
        # outlives the folder.
        with zipfile.ZipFile(path) as archive, tempfile.TemporaryDirectory() as folder:
            keys = [name[:-4] for name in archive.namelist() if name.endswith(".npy")]
            roles = {key: role_of(key) if len(keys) > 1 else ("images", "train") for key in keys}
            known = [role for role in roles.values() if role]
            if ("images", "train") not in known or len(set(known)) < len(known):
                raise InputError(
                    f"{path}: expected one array, or arrays named like x_train, y_train, x_test "
                    f"(or train, valid, test; or images, labels); received {keys}"
                )
            for key, role in roles.items():
                if role:
                    content, split = role
                    unpacked = Path(archive.extract(f"{key}.npy", folder))
                    arrays[content][split] = _map_npy(unpacked, f"{path} ({key})")
    except (zipfile.BadZipFile, zlib.error, OSError) as error:
        raise InputError(f"{path} is not a readable .npz file: {first_line(error)}") from error


def role_of(key: str) -> tuple[str, str] | None:
    """Tell from an array's name its content and split, if all words of the name are known."""
    content, split = "images", "train"
    for word in key.lower().split("_"):
        if word not in _CONTENTS and word not in SPLIT_WORDS:
            return None
        content = _CONTENTS.get(word, content)
        split = SPLIT_WORDS.get(word, split)
    return content, split


def _map_npy(path: Path, described: str) -> np.ndarray:
    try:
        return np.lib.format.open_memmap(path, mode="r")
    except (ValueError, OSError, EOFError) as error:
        raise InputError(f"{described} is not a readable array: {first_line(error)}") from error


def from_arrays(
    name: str,
    events: Mapping[str, np.ndarray],
    labels: Mapping[str, np.ndarray],
    *,
    size: Size | None = None,
    kind: str | None = None,
    value_range: ValueRange | None = None,
) -> Source:
    """Return the source of the arrays of each split, in memory or mapped.

    Args:
        name: what to call it.
        events: the array of each split, of one shape but for the number of events.
        labels: a label for each event, of the splits that have some: whole numbers from 0, or
            names or other numbers, which are numbered in their order.
        size: as for `array_file`.
        kind: as for `array_file`.
        value_range: as for `array_file`.

    Raises:
        InputError: if the arrays do not fit, or there are none to train on.
    """
    if "train" not in events:
        raise InputError(f"{name} has no training images")
    sources = _sources(name, events, labels, size, kind, value_range, ALONE)
    return joined(name, {split: sources[split] for split in sorted(events, key=SPLITS.index)})


def from_parts(
    name: str,
    events: Mapping[str, np.ndarray],
    labels: Mapping[str, np.ndarray],
    *,
    size: Size | None = None,
    kind: str | None = None,
    value_range: ValueRange | None = None,
    workers: Workers = ALONE,
) -> Source:
    """Return the source of the arrays of several files, one after the other.

    What they hold is told from all of them together, also from those that other workers read.

    Args:
        name: what to call all of them.
        events: the array of each file of this worker, by the file's name.
        labels: those of the files that have some.
        size: as for `array_file`.
        kind: as for `array_file`.
        value_range: as for `array_file`.
        workers: who reads the files.

    Returns:
        A source of this worker's rows, whose `counts` are those of its files.

    Raises:
        InputError: if the arrays do not fit.
    """
    counts = np.sum(workers.agree(np.array([len(labels), len(events)])), axis=0)
    notes = []
    if 0 < counts[0] < counts[1]:
        labels = {}
        notes.append(f"no labels: {counts[1] - counts[0]} of {counts[1]} files have none")
    sources = _sources(name, events, labels, size, kind, value_range, workers)
    source = joined(name, sources)
    return dataclasses.replace(source, notes=(*source.notes, *notes))


class _Seen(NamedTuple):
    """What is told from the values of arrays.

    Attributes:
        low: the lowest.
        high: the highest.
        holes: how many are NaN.
        size: how many there are.
        are_whole: whether those of the first events are whole numbers, where that tells something.
    """

    low: float
    high: float
    holes: int
    size: int
    are_whole: bool

    @classmethod
    def of(
        cls, arrays: Sequence[np.ndarray], ranges: Iterable[tuple[float, float, int]]
    ) -> "_Seen":
        """Return what is seen of arrays with these lowest and highest values and holes."""
        lows, highs, holes = zip(*ranges, strict=True)
        some = np.asarray(arrays[0][:1000] if arrays[0].ndim == 3 else [])
        are_whole = bool((some == np.floor(some)).all())
        return cls(min(lows), max(highs), sum(holes), sum(one.size for one in arrays), are_whole)

    @classmethod
    def by_all(cls, seen: Sequence["_Seen"]) -> "_Seen":
        """Return what several workers have seen together; the first files are the first one's."""
        return cls(
            min(one.low for one in seen),
            max(one.high for one in seen),
            sum(one.holes for one in seen),
            sum(one.size for one in seen),
            seen[0].are_whole,
        )


def _sources(
    name: str,
    events: Mapping[str, np.ndarray],
    labels: Mapping[str, np.ndarray],
    size: Size | None,
    kind: str | None,
    value_range: ValueRange | None,
    workers: Workers,
) -> dict[str, Source]:
    """Return the source of each array; the arguments are those of `from_parts`."""
    if kind is not None and kind not in KINDS:
        raise InputError(f"a kind is one of {', '.join(KINDS)}; received {kind!r}")
    described = {split: f"{name}: {split}" if len(events) > 1 else name for split in events}
    for split, array in events.items():
        _check_array(described[split], array, kind)
    ranges = {split: range_of(array) for split, array in events.items()}
    seen = _Seen.by_all(workers.agree(_Seen.of(list(events.values()), ranges.values())))
    _check_finite(name, seen.low, seen.high)
    notes: list[str] = []
    if kind is None:
        kind = _kind_of(next(iter(events.values())), seen)
        for split, array in events.items():
            _check_layout(described[split], array, kind)
        first = events.get("train", next(iter(events.values())))
        if first.ndim == 3 and first.dtype.kind == "f":
            other = "series" if kind == "image" else "image"
            notes.append(f"taken for {PLURALS[kind]}; kind={other!r} says otherwise")
    if seen.holes:
        notes.append(f"{seen.holes / seen.size:.2%} of the values are missing (NaN)")
    _check_size(name, size, kind)
    for split, array in events.items():
        value_range = value_range or _range_of_type(described[split], array, kind, seen.high)
    numbers, class_names = _numbered(described, labels, workers)
    notes += _check_labels(name, list(events), numbers, class_names)
    sources = {}
    for split, array in events.items():
        source = _array_source(described[split], array, kind, numbers.get(split))
        low, high, _ = ranges[split]
        source = dataclasses.replace(
            source,
            values=(low, high) if low <= high else (seen.low, seen.high),
            missing=seen.holes > 0,
            class_names=class_names if split in numbers else None,
            notes=tuple(notes),
        )
        if value_range is not None:
            source = scaled(source, value_range)
        sources[split] = source if size is None else _resizing(source, size)
    return sources


def _check_finite(name: str, low: float, high: float) -> None:
    """Refuse arrays of nothing but NaN, and infinite values."""
    if low > high:
        raise InputError(f"{name}: expected numbers; all values are NaN")
    if np.isinf([low, high]).any():
        raise InputError(
            f"{name}: expected finite values; received some from {low:g} to {high:g}: leave these "
            "events out, or write NaN for what was not observed"
        )


def _check_size(name: str, size: Size | None, kind: str) -> None:
    """Refuse a size of images for what are none."""
    if size is not None and kind != "image":
        raise InputError(
            f"{name} holds {PLURALS[kind]}: leave out the image size, or give kind='image'"
        )


def _check_labels(
    name: str,
    splits: list[str],
    numbers: Mapping[str, np.ndarray],
    class_names: tuple[str, ...] | None,
) -> list[str]:
    """Return a note where labels are left aside, and warn of labels far apart."""
    without = [split for split in splits if split not in numbers]
    if numbers and without:
        return [f"no labels: the {' and '.join(without)} events have none"]
    if numbers and class_names is None:
        warn_of_sparse_labels(name, numbers.values())
    return []


def _check_array(described: str, array: np.ndarray, kind: str | None) -> None:
    """Refuse an array of no known shape or type."""
    shapes = "events " + _ANY_SHAPE if kind is None else f"{PLURALS[kind]} {_text_of(kind)}"
    ranks = (2, 3, 4, 5) if kind is None else [shape.count(",") + 1 for shape in _SHAPES[kind]]
    if array.ndim not in ranks or not array.size:
        raise InputError(
            f"{described}: expected {shapes}, at least one; received shape {list(array.shape)}"
        )
    if array.dtype.kind not in "fiub":
        raise InputError(
            f"{described}: expected images of type uint8, uint16, bool or float, or other numbers; "
            f"received {array.dtype}: convert them, for values from 0 to 255 with astype('uint8')"
        )
    if array.ndim == 2 and kind is None and array.dtype == np.uint8:
        raise InputError(
            f"{described}: expected images [N, H, W]; received shape {list(array.shape)} of bytes: "
            f"{_as_pictures(array.shape[1])}; if they are rows of numbers, give kind='table'"
        )


def _as_pictures(values: int) -> str:
    """Return how rows of bytes are saved as the images that they may be, for a message."""
    for channels in (1, 3):
        side = math.isqrt(values // channels)
        if side > 1 and side * side * channels == values:
            shape = f"{side}, {side}" + (", 3" if channels == 3 else "")
            return f"if they are images, save x.reshape(-1, {shape}), in the order of their axes"
    return "if they are images, save x.reshape(-1, HEIGHT, WIDTH)"


def _text_of(kind: str) -> str:
    return " or ".join(_SHAPES[kind])


def _kind_of(first: np.ndarray, seen: _Seen) -> str:
    """Tell what arrays hold; the docstring of this module says by which rule."""
    if first.ndim != 3:
        return {2: "table", 4: "image", 5: "volume"}[first.ndim]
    if first.dtype.kind != "f":
        return "image"
    sides = first.shape[1:]
    if sides[0] == sides[1]:
        return "image"
    if seen.holes or seen.low < 0 or min(sides) <= 16 or max(sides) > 4 * min(sides):
        return "series"
    return "image" if seen.high <= 1 or (seen.high <= 255 and seen.are_whole) else "series"


def _check_layout(described: str, array: np.ndarray, kind: str) -> None:
    """Refuse images and volumes whose axes look as if they came in another order."""
    shape = array.shape
    order: tuple[int, ...] | None = None
    if kind == "image" and array.ndim == 4 and shape[3] not in _CHANNELS:
        if shape[1] in _CHANNELS and min(shape[2:]) > 4:
            order, found = (0, 2, 3, 1), "[N, C, H, W]"
        elif shape[2] in _CHANNELS[1:] and min(shape[0], shape[1], shape[3]) > 4:
            order, found = (3, 0, 1, 2), "[H, W, C, N]"
    elif kind == "image" and array.ndim == 3 and shape[0] == shape[1] and shape[2] >= 8 * shape[1]:
        order, found = (2, 0, 1), "[H, W, N]"
    elif kind == "volume" and shape[1] in _CHANNELS and shape[4] not in _CHANNELS:
        order, found = (0, 2, 3, 4, 1), "[N, C, D, H, W]"
    if order is not None:
        raise InputError(
            f"{described}: shape {list(shape)} looks like {found}; expected {_text_of(kind)}: save "
            f"x.transpose{order}, or give kind={kind!r} if the axes are in order"
        )


def _range_of_type(described: str, array: np.ndarray, kind: str, high: float) -> ValueRange | None:
    """Return the range that whole numbers are scaled from; None for what is left as it is."""
    if kind not in ("image", "volume") or array.dtype.kind not in "iu":
        return None
    if array.dtype not in (np.uint8, np.uint16):
        raise InputError(
            f"{described}: expected {PLURALS[kind]} of type uint8, uint16, bool or float; received "
            f"{array.dtype}: convert them, for values from 0 to 255 with astype('uint8'), or give "
            "their value_range=(low, high)"
        )
    return inferred_range(described, high, 8 * array.dtype.itemsize)


def _numbered(
    described: Mapping[str, str], labels: Mapping[str, np.ndarray], workers: Workers
) -> tuple[dict[str, np.ndarray], tuple[str, ...] | None]:
    """Return labels as whole numbers, and the names of those that were not."""
    labels = {
        split: array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array
        for split, array in labels.items()
    }
    are_plain = all(
        array.dtype.kind in "iub" and array.min(initial=0) >= -1 for array in labels.values()
    )
    if all(workers.agree(are_plain)):
        return dict(labels), None
    for split, array in labels.items():
        is_whole = array.dtype.kind == "f" and bool((array == np.floor(array)).all())
        if not (array.dtype.kind in "iubU" or is_whole):
            raise InputError(
                f"{described.get(split, split)}: expected labels that are whole numbers or names; "
                f"received shape {list(array.shape)} of type {array.dtype}"
            )
    texts = {
        split: array.astype(np.int64).astype(str) if array.dtype.kind != "U" else array
        for split, array in labels.items()
    }
    are_numbers = all(array.dtype.kind != "U" for array in labels.values())
    key: Callable[[str], Any] = int if all(workers.agree(are_numbers)) else natural_key
    own = {str(name) for array in texts.values() for name in np.unique(array)}
    names = sorted(set().union(*workers.agree(own)), key=key)
    number_of = {name: number for number, name in enumerate(names)}
    numbers = {
        split: np.array([number_of[str(name)] for name in array.flat], np.int32).reshape(
            array.shape
        )
        for split, array in texts.items()
    }
    return numbers, tuple(names)


def warn_of_sparse_labels(name: str, labels: Iterable[np.ndarray]) -> None:
    """Warn of classes most of which no event has.

    Args:
        name: of the data.
        labels: of the splits, whole numbers.
    """
    distinct = np.unique(np.concatenate([np.unique(array) for array in labels]))
    classes = int(distinct[-1]) + 1
    if max(_MANY_CLASSES, 10 * len(distinct)) < classes <= 2**31:
        warnings.warn(
            f"{name}: {len(distinct):,} distinct labels make {classes:,} classes, as the highest "
            f"is {classes - 1:,}: number them from 0",
            stacklevel=2,
        )


def _array_source(
    described: str, events: np.ndarray, kind: str, labels: np.ndarray | None
) -> Source:
    """Return the source of one array with the values that it holds."""
    if events.ndim == min(shape.count(",") + 1 for shape in _SHAPES[kind]) and kind != "table":
        events = events[..., np.newaxis]
    count, *event_shape = events.shape
    if labels is not None:
        if labels.shape != (count,):
            raise InputError(
                f"{described}: expected {count} labels, one integer for each "
                f"{'row' if kind == 'table' else kind}; received shape "
                f"{list(labels.shape)} of type {labels.dtype}"
            )
        if labels.size and not (labels.min() >= -(2**31) and labels.max() < 2**31):
            raise InputError(f"{described}: expected labels of 32 bits; received {labels.max()}")
        labels = labels.astype(np.int32)
    is_scaled = kind in ("image", "volume") and events.dtype in (np.uint8, np.uint16)
    dtype = events.dtype if is_scaled or events.dtype == bool else np.dtype(np.float32)

    def read(rows: np.ndarray) -> Batch:
        return np.asarray(events[rows], dtype), None if labels is None else labels[rows]

    num_classes = None if labels is None else max(0, int(labels.max()) + 1)
    return Source(described, tuple(event_shape), dtype, {"train": count}, num_classes, read)


def _resizing(source: Source, size: Size) -> Source:
    """Return a source of images resized."""
    # Resized, bits are numbers: their mean is grey.
    dtype = source.dtype if source.dtype == np.uint8 else np.dtype(np.float32)

    def read(rows: np.ndarray) -> Batch:
        images, labels = source.read(rows)
        return np.stack([resized(image, size) for image in images.astype(dtype)]), labels

    shape = (*size, source.event_shape[2])
    return dataclasses.replace(source, event_shape=shape, dtype=dtype, read=read)
