"""A user's own events for a trained model: all of a file, however few, without splits."""

import dataclasses
from pathlib import Path

import numpy as np

from tfvae import datasets
from tfvae.datasets.pictures import decode_files, is_picture
from tfvae.datasets.values import parse_range
from tfvae.errors import InputError
from tfvae.saving.config import TrainConfig, reading_arguments
from tfvae.typing import Shape


@dataclasses.dataclass(frozen=True, eq=False)
class Events:
    """Some events, in memory.

    Attributes:
        x: `[N, *event_shape]`, float32.
        labels: `[N]`, or None.
        names: of the files that they come from, if each has its own.
        class_names: the name of each label, where they have names.
        notes: what a user should hear of them, each a phrase.
    """

    x: np.ndarray
    labels: np.ndarray | None = None
    names: tuple[str, ...] | None = None
    class_names: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()

    @classmethod
    def of_split(cls, split: datasets.Split, limit: int | None = None) -> "Events":
        """Read the events of a split, the first so many, or all.

        Raises:
            InputError: if `limit` is below 1 or a file cannot be read.
        """
        x, labels = split.arrays(limit=limit)
        names = split.source.names
        if names is not None:
            names = tuple(names[row] for row in split.rows[: len(x)])
        return cls(x, labels, names, split.source.class_names)

    def renumbered(self, known: tuple[str, ...], owner: str) -> "Events":
        """Return the same events with labels numbered as a model's classes are.

        Args:
            known: the model's classes by their numbers.
            owner: what the events are called in messages.

        Raises:
            InputError: if a label's name is none of them.
        """
        if self.labels is None or self.class_names is None or self.class_names == known:
            return self
        place_of = {name: place for place, name in enumerate(known)}
        found = [self.class_names[number] for number in np.unique(self.labels)]
        strange = [name for name in found if name not in place_of]
        if strange:
            raise InputError(
                f"{owner} has the class {strange[0]!r}, which the model does not know: it knows "
                f"{', '.join(known[:8])}{', ...' if len(known) > 8 else ''}"
            )
        places = np.array([place_of.get(name, -1) for name in self.class_names], np.int32)
        return dataclasses.replace(self, labels=places[self.labels], class_names=known)


def all_events(
    options: TrainConfig,
    event_shape: Shape,
    schema: datasets.Schema | None,
    limit: int | None = None,
    *,
    unseen: str = "refuse",
    whole: bool = False,
) -> Events:
    """Read all events of the data that options name, or the test events of data with a test split.

    Args:
        options: how the data are read, and which they are.
        event_shape: of the model. A file that holds one event of this shape, without an axis of
            events, is taken; so is a picture for a model of images.
        schema: what the columns of a table were when the model was trained.
        limit: take so many, the first.
        unseen: what becomes of a table's categories that the schema does not know.
        whole: take the events of all splits.

    Raises:
        InputError: if they cannot be read.
    """
    path = Path(options.dataset)
    if path.is_file() and is_picture(path.name) and len(event_shape) == 3:
        return _picture(path, options, event_shape)
    if path.suffix == ".npy" and path.is_file():
        single = _single(path, event_shape)
        if single is not None:
            return Events(single[None])
    arguments = reading_arguments(options)
    for name in ("validation", "test", "binarize", "dequantize"):
        del arguments[name]
    missing = arguments.pop("missing")
    pictures = datasets.PictureOptions(
        arguments.pop("background"),
        skip_damaged=arguments.pop("skip_damaged"),
        folder_labels=arguments.pop("folder_labels"),
    )
    source = datasets.open_source(
        options.dataset, **arguments, pictures=pictures, schema=schema, unseen=unseen
    )
    if source.missing and not missing:
        raise InputError(
            f"{source.name} holds NaN, and the model was not made for missing values: fill or "
            "leave out what is missing, or train with missing=True"
        )
    every = np.arange(source.count)
    rows = every if whole else source.official.get("test", every)
    noise = "static" if options.dequantize else "none"
    draws = "static" if options.binarize == "dynamic" else options.binarize or "none"
    split = datasets.Split(source, rows, binarize=draws, noise=noise, seed=options.seed)
    found = Events.of_split(split, limit)
    notes = source.notes if schema is None else (*source.notes, *schema.remarks(found.x))
    return dataclasses.replace(found, notes=notes)


def _picture(path: Path, options: TrainConfig, event_shape: Shape) -> Events:
    """Read one picture as an image of the model's size."""
    height, width, channels = event_shape
    if channels not in (1, 3):
        raise InputError(
            f"the model takes images of {channels} channels; a picture gives it 1 or 3"
        )
    size = (height, width)
    found = decode_files(
        [(str(path), path.read_bytes())],
        channels,
        size,
        background=options.background,
        value_range=parse_range(options.value_range),
    )
    x = found[0].astype(np.float32)[None] / 255
    return Events((x > 0.5).astype(np.float32) if options.binarize not in (None, "none") else x)


def _single(path: Path, event_shape: Shape) -> np.ndarray | None:
    """Return the array of a file that holds one event alone, else None."""
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError):
        return None  # the reader of data sets says what is wrong
    if found.dtype.kind != "f" or found.shape != tuple(event_shape):
        return None
    return np.array(found, np.float32)
