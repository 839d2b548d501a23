"""Data sets in three splits: which events a split holds is a function of the seed alone."""

import dataclasses
import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfvae.checks import checked_flag, checked_seed, is_number
from tfvae.datasets.batches import Split
from tfvae.datasets.names import empty_splits, split_by_name
from tfvae.datasets.open import open_source
from tfvae.datasets.options import BACKGROUND, PictureOptions
from tfvae.datasets.schema import Schema
from tfvae.datasets.shared import SharedSplit
from tfvae.datasets.source import KINDS, SPLITS, Source, image_shape_of, plural_of
from tfvae.datasets.summary import described
from tfvae.datasets.tables import Kinds
from tfvae.datasets.values import ValueRange
from tfvae.datasets.workers import ALONE, Workers
from tfvae.errors import InputError
from tfvae.typing import Shape

BINARIZATIONS = ("none", "threshold", "static", "dynamic")
_BINARIZED = {
    "threshold": "cut at one half, to 0 and 1",
    "static": "drawn as 0 or 1, once, with these values as the probabilities of 1",
    "dynamic": "drawn as 0 or 1 with these values as the probabilities of 1, for training anew "
    "each epoch",
}


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """A data set in three splits.

    Attributes:
        name: what it was loaded by.
        event_shape: of one event: `(D,)`, `(T, C)`, `(H, W, C)` or `(D, H, W, C)`.
        num_classes: how many labels its events have, whole numbers from 0; None without labels.
        train: the events to learn from.
        validation: those to choose a model by.
        test: those to report.
        levels: 256 where the events are dequantized bytes, so that their densities bound
            probabilities of bytes (see `load`); else None.
        missing: whether NaN stands for values that were not observed.
        class_names: the name of each label, where labels have names.
        schema: what the columns of a table are.
    """

    name: str
    event_shape: Shape
    num_classes: int | None
    train: "Split"
    validation: "Split"
    test: "Split"
    levels: int | None = None
    missing: bool = False
    class_names: tuple[str, ...] | None = None
    schema: Schema | None = None
    _summary: tuple[str, ...] = ()

    @property
    def has_labels(self) -> bool:
        """Whether its events have labels."""
        return self.num_classes is not None

    @property
    def kind(self) -> str:
        """What an event is: "image", "series", "volume" or "table" (a row of one)."""
        return KINDS[len(self.event_shape) - 1]

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """The shape of an image, `(H, W, C)`.

        Raises:
            InputError: if the events are no images.
        """
        return image_shape_of(self.event_shape, self.name)

    def summary(self) -> str:
        """Return what was read, in one to three lines.

        How many events of which shape there are in which splits, what their values were and have
        become, what was left out and why, and the classes by name.
        """
        return "\n".join(self._summary)


def load(
    name: Any,
    *,
    binarize: str | None = None,
    dequantize: bool = False,
    image_size: int | str | tuple[int, int] | None = None,
    manual_dir: str | os.PathLike[str] | None = None,
    seed: int = 0,
    validation: float = 0.1,
    test: float = 0.1,
    memory_limit: int = 2**30,
    kind: str | None = None,
    value_range: str | ValueRange | None = None,
    missing: bool | None = None,
    background: str = BACKGROUND,
    skip_damaged: bool = False,
    folder_labels: bool = True,
    columns: Kinds | None = None,
    label: str | None = None,
    drop: Sequence[str] = (),
    schema: Schema | None = None,
    unseen: str = "refuse",
    workers: Workers = ALONE,
) -> Dataset:
    """Load a data set by its name or path.

    Whole numbers in images and volumes are scaled to [0, 1]; other values are left as they are.
    `Dataset.summary` tells what was read and how.

    Dequantized, a byte b becomes x = (b + u) / 256 with u uniform on [0, 1) (Uria et al. 2013,
    https://arxiv.org/abs/1306.0186). A density p(x) on [0, 1)^D gives D bytes a probability, its
    integral over all x that they can become. The mean of log p(x) over u, less D log 256, is at
    most the logarithm of that (Theis et al. 2016, https://arxiv.org/abs/1511.01844, section 3.1).

    Args:
        name: a data set that `open_source` knows: "mnist-small", "digits", "shapes", a path, a
            pattern of files, the name of a TFDS image set, or a frame of pandas, polars or Arrow.
        binarize: ``"none"``; ``"threshold"`` for `x > 0.5`; ``"static"`` for one Bernoulli(x)
            draw of each image, made from the seed and its row, whatever the batch it comes in;
            ``"dynamic"`` for a new draw of the training images each epoch. Validation and test
            images keep the static draw then, so that figures of different epochs compare. By
            default ``"none"``, and for mnist-small ``"dynamic"``.
        dequantize: whether to add such noise to images of bytes: to the training images new noise
            each epoch, to validation and test images always the same, made from the seed and the
            row, whatever the batch it comes in. Not together with `binarize`.
        image_size: a size to resize the images to.
        manual_dir: the folder where TFDS finds the files of its data set instead of downloading.
        seed: decides the splits, the shuffles and the draws.
        validation: how many of the training images to hold out where the data set has no
            validation split of its own: below 1 a fraction, from 1 a number of images. Files are
            drawn by their names, so that one which is added or removed moves no other, and a
            fraction is met on average (see `tfvae.datasets.names.split_by_name`).
        test: the same, where it has no test split of its own.
        memory_limit: events that need no more bytes are held in memory; others are read when they
            are used, and shapes always is.
        kind: what arrays hold: "image", "series", "volume" or "table"; by default what they look
            like (see `tfvae.datasets.arrays`).
        value_range: the values that become 0 and 1, such as (0, 4095); by default the range of the
            type of whole numbers in images and volumes.
        missing: whether NaN may stand for values that were not observed; by default, whether there
            is one. A model takes such data if it is made with `missing=True`.
        background: of picture files: the colour under transparent ones, "white", "black" or
            "#rrggbb".
        skip_damaged: of picture files: whether to leave out those that cannot be read.
        folder_labels: of picture files: whether their folders are classes.
        columns: the kinds of a table's columns that look like another: a dictionary of "number",
            "fraction", "count", "category", "ordered", "boolean", "date", "text" (to leave a column
            out), or lists of levels in ascending order.
        label: the column of a table to take labels from.
        drop: the columns of a table to leave out.
        schema: what the columns of a table are, as another table told, instead of telling it from
            this one. The three arguments above count for nothing then.
        unseen: what becomes of categories that `schema` does not know: "refuse", or "missing" to
            count them as holes, which `Dataset.summary` says.
        workers: processes that train together, as `tfvae.training.replicas.readers` returns them.
            The files of a pattern are dealt out to them, and each reads its own alone: the splits
            are `tfvae.datasets.shared.SharedSplit`s then. All of them must call this.

    Raises:
        InputError: if there is no such data set, it cannot be read, or an argument does not fit.
    """
    _check_flags(
        dequantize=dequantize,
        missing=False if missing is None else missing,
        skip_damaged=skip_damaged,
        folder_labels=folder_labels,
    )
    _check_names(kind, label, columns, drop)
    if not (is_number(memory_limit) and memory_limit >= 0):
        raise InputError(f"memory_limit is a number of bytes; received {memory_limit!r}")
    if binarize is not None and (not isinstance(binarize, str) or binarize not in BINARIZATIONS):
        raise InputError(f"binarize is one of {', '.join(BINARIZATIONS)}; received {binarize!r}")
    if dequantize and binarize not in (None, "none"):
        raise InputError(
            "images are dequantized or binarized, not both: leave out dequantize=True or "
            f"binarize={binarize!r}"
        )
    checked_seed("seed", seed)
    for called, size in (("validation", validation), ("test", test)):
        if not (is_number(size) and 0 < size < math.inf):
            raise InputError(
                f"{called} is a fraction below 1 or a number of events; received {size!r}"
            )
    source = open_source(
        name,
        image_size=image_size,
        manual_dir=manual_dir,
        memory_limit=memory_limit,
        kind=kind,
        value_range=value_range,
        pictures=PictureOptions(background, skip_damaged=skip_damaged, folder_labels=folder_labels),
        columns=columns,
        label=label,
        drop=drop,
        schema=schema,
        unseen=unseen,
        workers=workers,
    )
    if binarize is None:
        binarize = "none" if dequantize else source.binarize
    if missing is False and source.missing:
        raise InputError(
            f"{source.name} holds NaN: fill or leave out what is missing, or give missing=True"
        )
    if missing:
        source = dataclasses.replace(source, missing=True)
    if dequantize and source.dtype != np.uint8:
        raise InputError(
            f"dequantizing takes images of bytes (uint8); those of {source.name} are "
            f"{source.dtype}: leave out dequantize=True"
        )
    rows = _split(source, seed, {"validation": validation, "test": test})
    source = _with_notes(source, seed, {"validation": validation, "test": test})
    if binarize != "none":
        source = dataclasses.replace(source, notes=(*source.notes, _BINARIZED[binarize]))
    train_draws = {"binarize": binarize, "noise": "dynamic" if dequantize else "none"}
    held_out = {key: "static" if draw == "dynamic" else draw for key, draw in train_draws.items()}
    split = Split if source.shares is None else SharedSplit
    return Dataset(
        source.name,
        source.event_shape,
        source.num_classes,
        train=split(source, rows["train"], seed=seed, **train_draws),
        validation=split(source, rows["validation"], seed=seed, **held_out),
        test=split(source, rows["test"], seed=seed, **held_out),
        levels=256 if dequantize else None,
        missing=source.missing,
        class_names=source.class_names,
        schema=source.schema,
        _summary=described(source, {split: len(rows[split]) for split in SPLITS}),
    )


def _with_notes(source: Source, seed: int, sizes: dict[str, float]) -> Source:
    """Return the source with a note of the splits whose files may change as others come and go."""
    if source.names is None:
        return source
    drawn = {split: size for split, size in sizes.items() if split not in source.official}
    names = source.names[: source.counts["train"]]
    notes = [
        f"{split} has one file, which may change with the others, as no name falls into its share"
        for split in empty_splits(names, seed, drawn)
    ]
    return dataclasses.replace(source, notes=(*source.notes, *notes))


def _split(source: Source, seed: int, sizes: dict[str, float]) -> dict[str, np.ndarray]:
    """Return the rows of the three splits, drawing what is missing from the training rows."""
    called = plural_of(source.event_shape)
    missing = {split: size for split, size in sizes.items() if split not in source.official}
    total = len(source.official["train"])
    for split, size in missing.items():
        if not (0 < size < 1 or (size >= 1 and float(size).is_integer())):
            raise InputError(
                f"the {split} {called} are a fraction between 0 and 1, or a whole number of "
                f"{called}; received {size}"
            )
    counts = {
        split: int(size) if size >= 1 else max(1, round(size * total))
        for split, size in missing.items()
    }
    if sum(counts.values()) >= total:
        wanted = " and ".join(f"{count} for {split}" for split, count in counts.items())
        raise InputError(
            f"{source.name} has {total} {called} to split, too few to take {wanted} and leave some "
            "for training"
        )
    rows = dict(source.official)
    if source.names is not None:
        return rows | split_by_name(source.names[:total], seed, missing)
    pool = np.random.default_rng(seed).permutation(rows["train"])
    for split, count in counts.items():
        rows[split], pool = np.sort(pool[:count]), pool[count:]
    return rows | {"train": np.sort(pool)}


def _check_flags(**options: Any) -> None:
    for option, value in options.items():
        checked_flag(option, value)


def _check_names(kind: Any, label: Any, columns: Any, drop: Any) -> None:
    """Check the types of what names columns and kinds."""
    for option, name in (("kind", kind), ("label", label)):
        if not (name is None or isinstance(name, str)):
            raise InputError(f"{option} is a name, or None; received {name!r}")
    if not (columns is None or isinstance(columns, Mapping)):
        raise InputError(f"columns are a dictionary of names and kinds; received {columns!r}")
    if not isinstance(drop, (list, tuple)) or not all(isinstance(one, str) for one in drop):
        raise InputError(f"drop is a list of names of columns; received {drop!r}")
