"""Folders of picture files: which files there are, their splits and their classes."""

import collections
import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from tfvae.datasets.names import natural_order
from tfvae.datasets.options import PictureOptions
from tfvae.datasets.pictures import (
    Content,
    Header,
    check_pixels,
    colour,
    decode_files,
    in_threads,
    is_picture,
    range_of,
    read_header,
)
from tfvae.datasets.source import SPLIT_WORDS, SPLITS, Batch, Size, Source, dimensions, progress_bar
from tfvae.datasets.workers import ALONE, Workers
from tfvae.errors import InputError

# Left behind by systems and programs.
_CLUTTER = {"__macosx", "thumbs.db", "desktop.ini", "@eadir", "$recycle.bin"}
# Many files of these kinds are read by a pattern; see `tfvae.datasets.parts`.
_OF_PATTERNS = (".csv", ".tsv", ".parquet", ".feather", ".npy", ".npz", ".tfrecord")


@dataclasses.dataclass
class Files:
    """The files that a folder or an archive holds.

    Attributes:
        name: what it was opened by.
        names: of the picture files, with the folders they lie in, parted by "/".
        content: returns a picture's file by its name.
        skipped: how many other files there are of each kind.
    """

    name: str
    names: list[str]
    content: Callable[[str], Content]
    skipped: dict[str, int]


@dataclasses.dataclass
class Layout:
    """What the rows of picture files are.

    Attributes:
        names: of the files, those of each split together.
        counts: how many rows each split has, in the order of the rows.
        labels: of the rows, int32, or None.
        class_names: the name of each label, None without labels.
        notes: what a user should hear of it.
    """

    names: list[str]
    counts: dict[str, int]
    labels: np.ndarray | None
    class_names: tuple[str, ...] | None
    notes: list[str]


def image_folder(folder: Path, size: Size | None, options: PictureOptions | None = None) -> Source:
    """Return the source of a folder of picture files.

    Folders named train, val (or valid, validation) and test are splits. The folders in them, or in
    the folder itself where it has no splits, are classes, in natural order of their names. A
    folder that holds everything is passed over. Hidden files are left out.

    Raises:
        InputError: if there are no pictures, they differ in size and `size` is None, or it is
            unclear what the folders mean.
    """
    found = sort_files(str(folder), _walk(folder), lambda name: folder / name)
    return pictures_source(found, size, options or PictureOptions())


def sort_files(
    name: str, names: Iterator[str] | Sequence[str], content: Callable[[str], Content]
) -> Files:
    """Return which of some files are pictures, and count the others by kind."""
    pictures = []
    skipped: collections.Counter[str] = collections.Counter()
    for file in names:
        parts = file.split("/")
        if any(part.startswith(".") or part.lower() in _CLUTTER for part in parts):
            skipped["hidden"] += 1
        elif is_picture(file):
            pictures.append(file)
        else:
            skipped[os.path.splitext(parts[-1])[1].lower() or "no suffix"] += 1  # noqa: PTH122
    return Files(name, sorted(pictures, key=natural_order), content, dict(skipped))


def pictures_source(files: Files, size: Size | None, options: PictureOptions) -> Source:
    """Return the source of picture files.

    Raises:
        InputError: as `image_folder` does.
    """
    colour(options.background)
    if not files.names:
        others = _counted(files.skipped)
        kinds = [kind for kind in files.skipped if kind in _OF_PATTERNS]
        raise InputError(
            f"{files.name} holds no PNG, JPEG or IDX files, nor TIFF, BMP, WebP or GIF"
            + (f"; it holds others: {others}" if others else "")
            + (f": the pattern '{files.name}/*{kinds[0]}' reads these" if kinds else "")
        )
    return laid_out(files, _layout(files, options), size, options)


def laid_out(
    files: Files,
    layout: Layout,
    size: Size | None,
    options: PictureOptions,
    workers: Workers = ALONE,
) -> Source:
    """Return the source of picture files whose splits and labels are known.

    Args:
        files: the pictures.
        layout: what their rows are.
        size: to resize them to.
        options: how they are read.
        workers: who reads them; whether all are grey they tell each other.

    Raises:
        InputError: if they differ in size and `size` is None, or cannot be read.
    """
    headers, damaged = _headers(files, layout.names, options)
    facts = (
        damaged,
        all(header.is_grey for header in headers.values()),
        sum(header.has_alpha for header in headers.values()),
    )
    damaged_of, are_grey, are_transparent = zip(*workers.agree(facts), strict=True)
    damaged = [name for names in damaged_of for name in names]
    is_grey, transparent = all(are_grey), sum(are_transparent)
    skipped = dict(files.skipped)
    if damaged:
        skipped["damaged"] = len(damaged)
        layout = _without(layout, set(damaged))
        if not layout.counts.get("train"):
            raise InputError(f"{files.name}: every picture to train on is damaged: {damaged[0]}")
        layout.notes.append(f"damaged and left out: {', '.join(damaged)}")
    if others := _counted(files.skipped):
        layout.notes.append(f"files left out: {others}")
    sizes = [headers[name].size for name in layout.names]
    if size is None:
        for name, other in zip(layout.names, sizes, strict=True):
            if other != sizes[0]:
                raise InputError(
                    f"the images of {files.name} differ in size: {layout.names[0]} is "
                    f"{dimensions(sizes[0])} and {name} is {dimensions(other)} (height x width): "
                    "give image_size=64, or another"
                )

    def content(row: int) -> tuple[str, Content]:
        name = layout.names[row]
        return os.path.join(files.name, name), files.content(name)  # noqa: PTH118

    ordered = [headers[name] for name in layout.names]
    if transparent:
        layout.notes.append(
            f"{transparent:,} files may be transparent in places: laid over {options.background}"
        )
    value_range = options.value_range
    if value_range is None:
        value_range = range_of(files.name, ordered, content)
        if len(set(workers.agree(value_range))) > 1:
            raise InputError(
                f"{files.name}: the values of some files have another range than those of others: "
                "give the value range of all"
            )
    if value_range is not None:
        layout.notes.append(
            "values {:g} and {:g} of the files became 0 and 255".format(*value_range)
        )
    shape = (*(size or sizes[0]), 1 if is_grey else 3)
    labels = layout.labels

    def read(rows: np.ndarray) -> Batch:
        with _advice():
            images = decode_files(
                [content(row) for row in rows],
                shape[2],
                size,
                background=options.background,
                value_range=value_range,
            )
        return images, None if labels is None else labels[rows]

    return Source(
        files.name,
        shape,
        np.dtype(np.uint8),
        layout.counts,
        None if layout.class_names is None else len(layout.class_names),
        read,
        names=tuple(layout.names),
        class_names=layout.class_names,
        skipped=skipped,
        notes=tuple(layout.notes),
        pictures=dataclasses.replace(options, value_range=value_range),
    )


def _walk(folder: Path) -> Iterator[str]:
    """Yield the files of a folder and of those in it, links to folders followed but no circle."""

    def walk(path: str, prefix: str, above: frozenset[str]) -> Iterator[str]:
        real = os.path.realpath(path)
        if real in above:
            return
        try:
            entries = sorted(os.scandir(path), key=lambda entry: entry.name)
        except OSError as error:
            raise InputError(f"{path} cannot be read: {error.strerror}") from error
        for entry in entries:
            name = prefix + entry.name
            if entry.is_dir():
                # A folder that is left out counts as one file.
                if entry.name.startswith(".") or entry.name.lower() in _CLUTTER:
                    yield name
                else:
                    yield from walk(entry.path, f"{name}/", above | {real})
            else:
                yield name

    return walk(str(folder), "", frozenset())


def _layout(files: Files, options: PictureOptions) -> Layout:
    """Tell splits and classes from the folders of the files."""
    # The folder that holds everything, if there is one, as archives have it.
    paths = [name.split("/") for name in files.names]
    notes: list[str] = []
    base = 0
    while all(len(path) > base + 1 for path in paths) and _is_wrapper(paths, base):
        base += 1
    splits = _splits(files.name, [path[base:] for path in paths])
    if splits is not None:
        base += 1
    else:
        splits = ["train"] * len(paths)
    order = sorted(range(len(paths)), key=lambda row: SPLITS.index(splits[row]))
    names = [files.names[row] for row in order]
    counted = collections.Counter(splits)
    counts = {split: counted[split] for split in SPLITS if counted[split]}
    labels, class_names = None, None
    if options.folder_labels:
        tops = [path[base] if len(path) > base + 1 else None for path in paths]
        class_names = _classes(files, paths, splits, tops, base, notes)
    if class_names is not None:
        number = {name: index for index, name in enumerate(class_names)}
        labels = np.array([number[str(tops[row])] for row in order], np.int32)
    return Layout(names, counts, labels, class_names, notes)


def _is_wrapper(paths: list[list[str]], base: int) -> bool:
    """Return whether one folder holds everything and is neither a split nor all that there is."""
    tops = {path[base] for path in paths}
    (top, *others) = tops
    if others or top.lower() in SPLIT_WORDS:
        return False
    return any(len(path) > base + 2 for path in paths)


def _splits(name: str, paths: list[list[str]]) -> list[str] | None:
    """Return the split of each file by the first folder of its path, None if these are no splits.

    One folder named as a split among others that are not may be a class; two are splits.
    """
    folders = {path[0] for path in paths if len(path) > 1}
    named = {
        folder: SPLIT_WORDS[folder.lower()] for folder in folders if folder.lower() in SPLIT_WORDS
    }
    if not named or (len(named) == 1 and len(folders) > 1):
        return None
    listed = ", ".join(f"{folder}/" for folder in sorted(named))
    others = sorted({path[0] for path in paths if path[0] not in named})
    if others:
        raise InputError(
            f"{name} holds the splits {listed} and beside them {_some(others)}: move these away, "
            "or into a split"
        )
    if len(set(named.values())) < len(named):
        raise InputError(f"{name} holds several folders of one split: {listed}: keep one of each")
    if "train" not in named.values():
        raise InputError(
            f"{name} holds {listed} but no train/: give the path of one of these to read it as a "
            "data set of its own"
        )
    return [named[path[0]] for path in paths]


def _classes(
    files: Files,
    paths: list[list[str]],
    splits: list[str],
    tops: list[str | None],
    base: int,
    notes: list[str],
) -> tuple[str, ...] | None:
    """Return the names of the classes, None where pictures have no labels."""
    found: dict[str, set[str | None]] = {split: set() for split in SPLITS}
    for split, top in zip(splits, tops, strict=True):
        found[split].add(top)
    used = [split for split in SPLITS if found[split]]
    for split in used:
        folders = sorted((top for top in found[split] if top is not None), key=natural_order)
        if None in found[split] and len(folders) > 1:
            loose = [
                "/".join(path)
                for path, one, top in zip(paths, splits, tops, strict=True)
                if one == split and top is None
            ]
            raise InputError(
                f"{files.name} holds pictures beside the folders {_some(folders)}: "
                f"{_some(loose)}: move them into a folder, or give folder_labels=False to read all "
                "pictures without labels"
            )
    classes = {top for split in used for top in found[split] if top is not None}
    unlabelled = [split for split in used if None in found[split]]
    if unlabelled:
        if classes:
            where = f" of {', '.join(unlabelled)}" if len(used) > 1 else ""
            notes.append(f"no labels: pictures{where} lie in no folder of a class")
        return None
    if len(classes) < 2:
        notes.append(f"no labels: all pictures lie in one folder, {_some(sorted(classes))}")
        return None
    for split in used[1:]:
        only = sorted(classes & found[split] - found["train"], key=natural_order)
        if only:
            notes.append(f"classes of {split} that train lacks: {_some(only)}")
    return tuple(sorted(classes, key=natural_order))


@contextlib.contextmanager
def _advice() -> Iterator[None]:
    """Say of a damaged file among others what can be done."""
    try:
        yield
    except InputError as error:
        if "is not a readable image" not in str(error):
            raise
        raise InputError(f"{error}: give skip_damaged=True to leave such files out") from error


def _headers(
    files: Files, names: list[str], options: PictureOptions
) -> tuple[dict[str, Header], list[str]]:
    """Return the headers of pictures, and the names of those that are damaged and may be."""

    # Headers alone are read here, so that what does not fit is found before any image is decoded.
    def read(name: str) -> Header | None:
        described = os.path.join(files.name, name)  # noqa: PTH118
        if not options.skip_damaged:
            with _advice():
                return read_header(files.content(name), described, options.background)
        try:
            content = files.content(name)
            header = read_header(content, described, options.background)
            check_pixels(content, described)
        except InputError:
            return None
        return header

    headers: dict[str, Header] = {}
    damaged = []
    with progress_bar(f"{files.name}: headers", len(names)) as bar:
        for start in range(0, len(names), 256):
            part = names[start : start + 256]
            for name, header in zip(part, in_threads(read, part), strict=True):
                if header is None:
                    damaged.append(name)
                else:
                    headers[name] = header
            bar.update(len(part))
    return headers, damaged


def _without(layout: Layout, left_out: set[str]) -> Layout:
    """Return the layout without some of its names."""
    kept = [row for row, name in enumerate(layout.names) if name not in left_out]
    splits = np.repeat(list(layout.counts), list(layout.counts.values()))[kept]
    return dataclasses.replace(
        layout,
        names=[layout.names[row] for row in kept],
        counts={split: int((splits == split).sum()) for split in layout.counts if split in splits},
        labels=None if layout.labels is None else layout.labels[kept],
    )


def _counted(skipped: dict[str, int]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in skipped.items())


def _some(names: Sequence[str]) -> str:
    """Return the first names for a message, and how many more there are."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
