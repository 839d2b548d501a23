"""Folders of IDX files, the format of MNIST."""

import contextlib
import gzip
import math
import os
import re
import shutil
import struct
import tempfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from tfvae.datasets.arrays import from_arrays
from tfvae.datasets.source import SPLIT_WORDS, Size, Source, dimensions
from tfvae.datasets.text import first_line
from tfvae.datasets.values import ValueRange
from tfvae.errors import InputError

_IDX_NAME = re.compile(
    rf"(?:(?P<prefix>.+)-)?(?P<split>{'|'.join(SPLIT_WORDS)})-(?P<content>images|labels)"
    r"[.-]idx\d-ubyte(?:\.gz)?"
)


def idx_folder(
    folder: Path, *, size: Size | None = None, value_range: ValueRange | None = None
) -> Source | None:
    """Return the source of a folder's IDX files, or None if it has none."""
    files: dict[str, dict[str, Path]] = {"images": {}, "labels": {}}
    prefixes = set()
    # Sorted, an unpacked file comes before its .gz and is taken.
    for path in _idx_files(folder):
        if match := _IDX_NAME.fullmatch(path.name):
            prefixes.add(match["prefix"] or "")
            files[match["content"]].setdefault(SPLIT_WORDS[match["split"]], path)
    if not prefixes:
        return None
    if len(prefixes) > 1:
        listed = ", ".join(sorted(prefixes))
        raise InputError(f"{folder} holds several data sets ({listed}): give each its own folder")
    arrays = {
        content: {split: _map_idx(path) for split, path in paths.items()}
        for content, paths in files.items()
    }
    return from_arrays(
        str(folder),
        arrays["images"],
        arrays["labels"],
        size=size,
        kind="image",
        value_range=value_range,
    )


def is_idx_of_images(path: Path) -> bool:
    """Whether a file is named as an IDX file of images."""
    match = _IDX_NAME.fullmatch(path.name)
    return match is not None and match["content"] == "images"


def idx_file(path: Path) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return an IDX file of images, and the labels of the file that is named as theirs, if any.

    Raises:
        InputError: if one of them cannot be read.
    """
    head, _, tail = path.name.rpartition("images")
    labels = path.with_name(f"{head}labels{re.sub('idx[0-9]', 'idx1', tail)}")
    found = {"train": _map_idx(labels)} if labels.is_file() else {}
    return {"train": _map_idx(path)}, found


def _idx_files(folder: Path) -> list[Path]:
    """Return the IDX files of a folder, sorted.

    Beside files in the folder itself, those of Kaggle are found, each in a folder of its own name,
    and those of torchvision, in MNIST/raw or, given MNIST or the folder above it, below that.

    Raises:
        InputError: if there are several such folders.
    """
    found = [path for path in folder.iterdir() if _IDX_NAME.fullmatch(path.name)]
    files = [path for path in found if path.is_file()]
    for place in found:
        if place.is_dir():
            files += (path for path in place.iterdir() if _IDX_NAME.fullmatch(path.name))
    if files:
        # A file of the folder itself goes before one that lies deeper.
        return sorted(files, key=lambda path: (len(path.parts), path.name))
    raw = [place for place in (folder / "raw", *folder.glob("*/raw")) if place.is_dir()]
    raw = [
        place for place in raw if any(_IDX_NAME.fullmatch(path.name) for path in place.iterdir())
    ]
    if len(raw) > 1:
        listed = ", ".join(sorted(place.parent.name for place in raw))
        raise InputError(f"{folder} holds several data sets ({listed}): give the path of one")
    return _idx_files(raw[0]) if raw else []


def _map_idx(path: Path) -> np.ndarray:
    """Map an IDX file of bytes: 00 00 08, the rank, the dimensions as big-endian int32, data."""
    try:
        with contextlib.ExitStack() as stack:
            stream: Any = stack.enter_context(path.open("rb"))
            if path.suffix == ".gz":
                packed = stack.enter_context(gzip.open(stream))
                stream = stack.enter_context(tempfile.TemporaryFile())
                shutil.copyfileobj(packed, stream)
                stream.seek(0)
            head = stream.read(4)
            if head[:3] != b"\0\0\x08" or len(head) < 4:
                raise InputError(
                    f"{path} is not an IDX file of bytes: expected it to begin with 00 00 08, "
                    f"it begins with {head[:3].hex(' ') or 'nothing'}"
                )
            shape = struct.unpack(f">{head[3]}I", stream.read(4 * head[3]))
            offset = stream.tell()
            length = stream.seek(0, os.SEEK_END) - offset
            if length != math.prod(shape):
                raise InputError(
                    f"{path} is damaged: expected {math.prod(shape)} bytes of data for "
                    f"{dimensions(shape)}, received {length}"
                )
            # np.memmap rejects empty files.
            return np.memmap(stream, np.uint8, "r", offset, shape) if length else np.empty(shape)
    except (OSError, EOFError, zlib.error, struct.error) as error:
        raise InputError(f"{path} is not a readable IDX file: {first_line(error)}") from error
