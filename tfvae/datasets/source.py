"""What a data set is read from, row by row.

A source gives any of its rows in any order, so splits, shuffles and batches are arithmetic on row
numbers and never depend on what was read before.
"""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from tqdm import tqdm

from tfvae.datasets.options import PictureOptions
from tfvae.datasets.schema import Schema
from tfvae.datasets.values import ValueRange
from tfvae.datasets.workers import FileShares
from tfvae.errors import InputError
from tfvae.typing import Shape

Size = tuple[int, int]
Batch = tuple[np.ndarray, np.ndarray | None]

# What an event of each rank, from 1, is called.
KINDS = ("table", "series", "image", "volume")
PLURALS = {"table": "rows", "series": "series", "image": "images", "volume": "volumes"}
SPLITS = ("train", "validation", "test")
# The words that name splits in the files and folders of the common data sets.
SPLIT_WORDS = {"train": "train", "t10k": "test", "test": "test"}
SPLIT_WORDS |= dict.fromkeys(("valid", "validation", "val"), "validation")


@dataclasses.dataclass(frozen=True, eq=False)
class Source:
    """Events that are read by row number.

    Attributes:
        name: what the source was opened by.
        event_shape: of one event, of rank 1 to 4: `[D]`, `[T, C]`, `[H, W, C]` or `[D, H, W, C]`.
        dtype: of the events: uint8, which stands for values from 0 to 1 in steps of 1/255, bool or
            float32.
        counts: how many rows there are of each split, in the order of the rows: of "train", then
            of "validation" and "test" where the source comes with such splits.
        num_classes: how many labels there are, whole numbers from 0; None where not every event
            has one.
        read: gives the events `[n, *event_shape]` and the labels `[n]`, int32 or None, of `n`
            rows. Safe to call from several threads.
        in_memory: whether `read` only copies from memory.
        class_names: the name of each label, where they have names.
        missing: whether NaN stands for values that were not observed.
        values: the lowest and the highest value of the file, where known before all is read.
        value_range: the values of the file that become 0 and 1; None where they are left as
            they are. By default 0 and 255 for uint8.
        notes: what a user should hear of how the data were read, each a phrase.
        schema: what the columns of a table are.
        names: of the file of each row, where rows are files; they decide its split.
        skipped: how many files were left out of each kind, by suffix or as "hidden" or "damaged".
        pictures: how picture files were read, with the range of values that they told.
        binarize: how values between 0 and 1 become 0 or 1 where the user does not say; see
            `tfvae.datasets.load`.
        shares: where several workers read the files of one source, whose its rows are; `read` then
            gives those of this worker alone.
    """

    name: str
    event_shape: Shape
    dtype: np.dtype
    counts: dict[str, int]
    num_classes: int | None
    read: Callable[[np.ndarray], Batch]
    in_memory: bool = False
    class_names: tuple[str, ...] | None = None
    missing: bool = False
    values: ValueRange | None = None
    value_range: ValueRange | None = None
    notes: tuple[str, ...] = ()
    schema: "Schema | None" = None
    names: tuple[str, ...] | None = None
    skipped: dict[str, int] = dataclasses.field(default_factory=dict)
    pictures: "PictureOptions | None" = None
    binarize: str = "none"
    shares: "FileShares | None" = None

    def __post_init__(self) -> None:
        if self.value_range is None and self.dtype == np.uint8:
            object.__setattr__(self, "value_range", (0.0, 255.0))

    @property
    def kind(self) -> str:
        """What an event is: "table" (one row of it), "series", "image" or "volume"."""
        return KINDS[len(self.event_shape) - 1]

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """The shape of an image, `(H, W, C)`.

        Raises:
            InputError: if the events are no images.
        """
        return image_shape_of(self.event_shape, self.name)

    @property
    def has_labels(self) -> bool:
        """Whether there is a label for every event."""
        return self.num_classes is not None

    @property
    def count(self) -> int:
        """The number of rows."""
        return sum(self.counts.values())

    @property
    def official(self) -> dict[str, np.ndarray]:
        """The rows of the splits that the source comes with; all are "train" if it has none."""
        ends = np.cumsum(list(self.counts.values()))
        return dict(zip(self.counts, np.split(np.arange(self.count), ends[:-1]), strict=True))


def image_shape_of(event_shape: Shape, name: str) -> tuple[int, int, int]:
    """Return the shape of an image.

    Raises:
        InputError: if the events are no images.
    """
    if len(event_shape) != 3:
        raise InputError(
            f"{name} holds {plural_of(event_shape)} of shape {list(event_shape)}, no images: use "
            "event_shape"
        )
    height, width, channels = event_shape
    return height, width, channels


def plural_of(event_shape: Shape) -> str:
    """Return what events of a shape are called: rows, series, images or volumes."""
    return PLURALS[KINDS[len(event_shape) - 1]]


def parse_size(image_size: int | str | Size | None) -> Size | None:
    """Return height and width of a size as users write it."""
    if image_size is None:
        return None
    words = image_size.lower().split("x") if isinstance(image_size, str) else image_size
    try:
        sides = [int(side) for side in ([words] if isinstance(words, int) else words)]
    except (TypeError, ValueError):
        sides = []
    if len(sides) not in (1, 2) or min(sides) < 1:
        raise InputError(f"an image size is like 28 or 28x20 (height x width); got {image_size!r}")
    return sides[0], sides[-1]


def scaled(source: Source, value_range: ValueRange) -> Source:
    """Return the same events with the values of the file scaled so that a range becomes [0, 1].

    Args:
        source: gives the values of the file; bytes too, though they stand for other values then.
        value_range: the values that become 0 and 1. Files are found to go beyond it when they are
            read, at the latest.

    Raises:
        InputError: if the source is known to have values outside.
    """
    if source.dtype == np.uint8 and value_range == (0, 255):
        return source
    low, high = value_range
    is_bits = source.dtype == np.uint8 and value_range == (0, 1)

    def check(values: ValueRange) -> None:
        slack = 1e-5 * (high - low)
        if values[0] < low - slack or values[1] > high + slack:
            raise InputError(
                f"{source.name}: expected values in the range ({low:g}, {high:g}); received values "
                f"from {values[0]:.9g} to {values[1]:.9g}: give their own value range"
            )

    if source.values is not None:
        check(source.values)

    def read(rows: np.ndarray) -> Batch:
        events, labels = source.read(rows)
        check(range_of(events)[:2])
        if is_bits:
            return events.astype(bool), labels
        # In float64, so that k of n levels is k/n to the last bit.
        unit = (events.astype(np.float64) - low) / (high - low)
        return np.clip(unit, 0, 1).astype(np.float32), labels

    dtype = np.dtype(bool if is_bits else np.float32)
    return dataclasses.replace(
        source, dtype=dtype, read=read, in_memory=False, value_range=value_range
    )


def range_of(values: np.ndarray) -> tuple[float, float, int]:
    """Return the lowest and the highest value and how many are NaN, in bounded memory."""
    low, high, holes = np.inf, -np.inf, 0
    flat_rows = max(1, 2**22 // max(1, values[:1].size))
    for start in range(0, len(values), flat_rows):
        part = np.asarray(values[start : start + flat_rows])
        if part.dtype.kind == "f":
            part_holes = int(np.isnan(part).sum())
            holes += part_holes
            if part_holes:
                part = part[~np.isnan(part)]
        if part.size:
            low, high = min(low, float(part.min())), max(high, float(part.max()))
    return low, high, holes


def into_memory(source: Source) -> Source:
    """Return the same rows, all read now and kept in memory."""
    events = np.empty((source.count, *source.event_shape), source.dtype)
    labels = np.empty(source.count, np.int32)
    with progress_bar(source.name, source.count, plural_of(source.event_shape)) as bar:
        for start in range(0, source.count, 256):
            rows = np.arange(start, min(start + 256, source.count))
            events[rows], read_labels = source.read(rows)
            if read_labels is not None:
                labels[rows] = read_labels
            bar.update(len(rows))

    def read(rows: np.ndarray) -> Batch:
        return events[rows], labels[rows] if source.has_labels else None

    values = source.values
    if values is None and (source.value_range is None or source.dtype == np.uint8):
        values = range_of(events)[:2]
    return dataclasses.replace(source, read=read, in_memory=True, values=values)


def progress_bar(title: str, total: int, unit: str = "images") -> Any:
    """Return a progress bar for reading."""
    # Only for what takes more than a second, and none (disable=None) where no terminal shows it.
    return tqdm(desc=title, total=total, unit=f" {unit}", leave=False, delay=1, disable=None)


def joined(name: str, splits: dict[str, Source]) -> Source:
    """Return the source of these splits, or of parts by their names, one after the other."""
    head = "train" if "train" in splits else next(iter(splits))
    first = splits[head]
    for split, source in splits.items():
        if (source.event_shape, source.dtype) != (first.event_shape, first.dtype):
            called = plural_of(first.event_shape)
            raise InputError(
                f"{name}: the {head} {called} are {dimensions(first.event_shape)} {first.dtype}, "
                f"but the {split} {called} are {dimensions(source.event_shape)} {source.dtype}"
            )
    classes = [source.num_classes for source in splits.values()]
    known = [count for count in classes if count is not None]
    num_classes = max(known) if len(known) == len(classes) else None
    counts = {split: source.count for split, source in splits.items()}
    starts = np.cumsum([0, *counts.values()])

    def read(rows: np.ndarray) -> Batch:
        events = np.empty((len(rows), *first.event_shape), first.dtype)
        labels = np.empty(len(rows), np.int32)
        split_of = np.searchsorted(starts, rows, side="right") - 1
        for index, source in enumerate(splits.values()):
            here = split_of == index
            if here.any():
                events[here], read_labels = source.read(rows[here] - starts[index])
                if read_labels is not None:
                    labels[here] = read_labels
        return events, None if num_classes is None else labels

    ranges = [source.values for source in splits.values() if source.values is not None]
    values = None
    if len(ranges) == len(splits):
        values = (min(low for low, _ in ranges), max(high for _, high in ranges))
    return dataclasses.replace(
        first,
        name=name,
        counts=counts,
        num_classes=num_classes,
        class_names=None if num_classes is None else first.class_names,
        read=read,
        in_memory=False,
        missing=any(source.missing for source in splits.values()),
        values=values,
        notes=tuple(dict.fromkeys(note for source in splits.values() for note in source.notes)),
    )


def dimensions(shape: Iterable[int]) -> str:
    """Return sides for a message: 28 x 28 x 1."""
    return " x ".join(map(str, shape))
