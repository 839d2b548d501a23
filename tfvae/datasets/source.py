"""What a data set is read from, row by row.

A source gives any of its rows in any order, so splits, shuffles and batches are arithmetic on row
numbers and never depend on what was read before.
"""

import dataclasses
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from tfvae.errors import InputError

if TYPE_CHECKING:
    from tfvae.datasets.folders import PictureOptions

Size = tuple[int, int]
Shape = tuple[int, int, int]
Batch = tuple[np.ndarray, np.ndarray | None]

SPLITS = ("train", "validation", "test")
# The words that name splits in the files and folders of the common data sets.
SPLIT_WORDS = {"train": "train", "t10k": "test", "test": "test"}
SPLIT_WORDS |= dict.fromkeys(("valid", "validation", "val"), "validation")


@dataclasses.dataclass(frozen=True, eq=False)
class Source:
    """Images that are read by row number.

    Attributes:
        name: what the source was opened by.
        image_shape: `(H, W, C)`.
        dtype: of the images: uint8, bool or float32.
        counts: how many rows there are of each split, in the order of the rows: of "train", then
            of "validation" and "test" where the source comes with such splits.
        num_classes: how many labels there are, whole numbers from 0; None where not every image
            has one.
        read: gives the images `[n, H, W, C]` and the labels `[n]`, int32 or None, of `n` rows.
            Safe to call from several threads.
        in_memory: whether `read` only copies from memory.
        class_names: the name of each label, where they have names.
        notes: what a user should hear of how the data were read, each a phrase.
        names: of the file of each row, where rows are files; they decide its split.
        skipped: how many files were left out of each kind, by suffix or as "hidden" or "damaged".
        pictures: how picture files were read, with the range of values that they told.
    """

    name: str
    image_shape: Shape
    dtype: np.dtype
    counts: dict[str, int]
    num_classes: int | None
    read: Callable[[np.ndarray], Batch]
    in_memory: bool = False
    class_names: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()
    names: tuple[str, ...] | None = None
    skipped: dict[str, int] = dataclasses.field(default_factory=dict)
    pictures: "PictureOptions | None" = None

    @property
    def has_labels(self) -> bool:
        """Whether there is a label for every image."""
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


def into_memory(source: Source) -> Source:
    """Return the same rows, all read now and kept in memory."""
    images = np.empty((source.count, *source.image_shape), source.dtype)
    labels = np.empty(source.count, np.int32)
    with progress_bar(source.name, source.count) as bar:
        for start in range(0, source.count, 256):
            rows = np.arange(start, min(start + 256, source.count))
            images[rows], read_labels = source.read(rows)
            if read_labels is not None:
                labels[rows] = read_labels
            bar.update(len(rows))

    def read(rows: np.ndarray) -> Batch:
        return images[rows], labels[rows] if source.has_labels else None

    return dataclasses.replace(source, read=read, in_memory=True)


def progress_bar(title: str, total: int) -> Any:
    """Return a progress bar for reading images."""
    # Only for what takes more than a second, and none (disable=None) where no terminal shows it.
    return tqdm(desc=title, total=total, unit=" images", leave=False, delay=1, disable=None)


def joined(name: str, splits: dict[str, Source]) -> Source:
    """Give the source of these splits, one after the other."""
    first = splits["train"]
    for split, source in splits.items():
        if (source.image_shape, source.dtype) != (first.image_shape, first.dtype):
            raise InputError(
                f"{name}: the train images are {dimensions(first.image_shape)} {first.dtype}, "
                f"but the {split} images are {dimensions(source.image_shape)} {source.dtype}"
            )
    classes = [source.num_classes for source in splits.values()]
    known = [count for count in classes if count is not None]
    num_classes = max(known) if len(known) == len(classes) else None
    counts = {split: source.count for split, source in splits.items()}
    starts = np.cumsum([0, *counts.values()])

    def read(rows: np.ndarray) -> Batch:
        images = np.empty((len(rows), *first.image_shape), first.dtype)
        labels = np.empty(len(rows), np.int32)
        split_of = np.searchsorted(starts, rows, side="right") - 1
        for index, source in enumerate(splits.values()):
            here = split_of == index
            if here.any():
                images[here], read_labels = source.read(rows[here] - starts[index])
                if read_labels is not None:
                    labels[here] = read_labels
        return images, None if num_classes is None else labels

    return Source(name, first.image_shape, first.dtype, counts, num_classes, read)


def dimensions(shape: Iterable[int]) -> str:
    """Return sides for a message: 28 x 28 x 1."""
    return " x ".join(map(str, shape))


def first_line(error: Exception) -> str:
    """Return the first line of what an error says."""
    return str(error).strip().split("\n")[0] or type(error).__name__
