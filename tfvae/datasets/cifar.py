"""CIFAR-10 and CIFAR-100 as their authors give them: pickles for Python, or binary files."""

import codecs
import dataclasses
import io
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np

from tfvae.datasets.arrays import from_arrays
from tfvae.datasets.source import Size, Source
from tfvae.datasets.text import first_line
from tfvae.datasets.values import ValueRange
from tfvae.errors import InputError

_FOLDERS = ("cifar-10-batches-py", "cifar-10-batches-bin", "cifar-100-python", "cifar-100-binary")
_BYTES = 3 * 32 * 32


def cifar_folder(folder: Path, size: Size | None, value_range: ValueRange | None) -> Source | None:
    """Return the source of a folder of CIFAR's files, or None if it has none.

    The labels of CIFAR-100 are the fine ones.

    Raises:
        InputError: if a file is damaged or missing.
    """
    inner = [folder / name for name in _FOLDERS if (folder / name).is_dir()]
    place = inner[0] if len(inner) == 1 else folder
    for suffix, read in (("", _read_pickle), (".bin", _read_binary)):
        parts = sorted(path for path in place.glob(f"data_batch_*{suffix}") if path.is_file())
        parts = [path for path in parts if re.fullmatch(rf"data_batch_\d+{suffix}", path.name)]
        train, test = parts or [place / f"train{suffix}"], place / f"test_batch{suffix}"
        if not parts:
            test = place / f"test{suffix}"
            known = (place / "meta", place / "fine_label_names.txt")
            if not (train[0].is_file() and any(path.is_file() for path in known)):
                continue
        if not test.is_file():
            raise InputError(f"{place} has no file {test.name}: is CIFAR unpacked completely?")
        read_parts = [read(path) for path in train]
        images, labels = (np.concatenate(part) for part in zip(*read_parts, strict=True))
        test_images, test_labels = read(test)
        source = from_arrays(
            str(folder),
            {"train": images, "test": test_images},
            {"train": labels, "test": test_labels},
            size=size,
            kind="image",
            value_range=value_range,
        )
        names = _class_names(place)
        if names is not None and source.num_classes is not None:
            count = max(source.num_classes, len(names))
            names = names + tuple(str(label) for label in range(len(names), count))
            source = dataclasses.replace(source, num_classes=count, class_names=names)
        return source
    return None


def _images(data: np.ndarray) -> np.ndarray:
    """Return images `[N, 32, 32, 3]` of rows of 3,072 bytes, the channels one after the other."""
    return np.ascontiguousarray(data.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))


def _read_binary(path: Path) -> tuple[np.ndarray, np.ndarray]:
    # CIFAR-100 has a coarse label before the fine one.
    before = 1 if path.name.endswith("_batch.bin") or path.name.startswith("data_") else 2
    content: np.ndarray = np.fromfile(path, np.uint8)
    if not content.size or content.size % (before + _BYTES):
        raise InputError(
            f"{path} is damaged: expected a multiple of {before + _BYTES} bytes; received "
            f"{content.size}"
        )
    rows = np.reshape(content, (-1, before + _BYTES))
    return _images(rows[:, before:]), rows[:, before - 1].astype(np.int32)


def _read_pickle(path: Path) -> tuple[np.ndarray, np.ndarray]:
    found = _unpickled(path)
    data = found.get("data")
    labels = found.get("labels", found.get("fine_labels"))
    pixels = data.array if isinstance(data, _Array) else None
    if pixels is None or pixels.dtype != np.uint8 or pixels.ndim != 2 or pixels.shape[1] != _BYTES:
        raise InputError(f"{path}: expected data of CIFAR, uint8 [N, 3072]")
    if not (isinstance(labels, list) and len(labels) == len(pixels)):
        raise InputError(f"{path}: expected {len(pixels)} labels")
    return _images(pixels), np.array(labels, np.int32)


def _class_names(folder: Path) -> tuple[str, ...] | None:
    for name in ("batches.meta", "meta"):
        if (folder / name).is_file():
            found = _unpickled(folder / name)
            names = found.get("label_names", found.get("fine_label_names")) or []
            return tuple(n.decode() if isinstance(n, bytes) else str(n) for n in names) or None
    for name in ("batches.meta.txt", "fine_label_names.txt"):
        if (folder / name).is_file():
            return tuple((folder / name).read_text(encoding="utf-8").split()) or None
    return None


class _Kind:
    """What a pickle has for a NumPy type: numbers of a size and a byte order."""

    def __init__(self, name: bytes | str, *_: Any):
        name = name.decode("ascii") if isinstance(name, bytes) else name
        if not re.fullmatch("[iuf][1248]", name):
            raise pickle.UnpicklingError(f"numbers of type {name!r}")
        self.name, self.order = name, "|"

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        order = state[1].decode("ascii") if isinstance(state[1], bytes) else state[1]
        self.order = order if order in ("<", ">") else "="


class _Array:
    """What a pickle has for a NumPy array, made here of its bytes alone."""

    array: np.ndarray = np.zeros(0, np.uint8)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, kind, by_columns, content = state
        values = np.frombuffer(content, np.dtype(kind.name).newbyteorder(kind.order))
        self.array = values.reshape(shape, order="F" if by_columns else "C")


class _Unpickler(pickle.Unpickler):
    """Takes numbers, text, lists and arrays; any other class or function is refused unseen."""

    def find_class(self, module: str, name: str) -> Any:
        arrays = re.fullmatch(r"numpy\._?core\.multiarray", module)
        if arrays and name == "_reconstruct":
            return lambda *_: _Array()
        if module == "numpy" and name in ("ndarray", "dtype"):
            return _Kind if name == "dtype" else _Array
        if (module, name) == ("_codecs", "encode"):
            return lambda text, _: codecs.latin_1_encode(text)[0]
        raise pickle.UnpicklingError(f"it names {module}.{name}, which is not data")


def _unpickled(path: Path) -> dict[str, Any]:
    """Return the dictionary of a pickle that holds only data, by the names of its entries."""
    try:
        found = _Unpickler(io.BytesIO(path.read_bytes()), encoding="bytes").load()
    except Exception as error:  # a damaged pickle raises any
        raise InputError(f"{path} is not a readable file of CIFAR: {first_line(error)}") from error
    if not isinstance(found, dict):
        raise InputError(f"{path} is not a readable file of CIFAR: expected a dictionary")
    return {key.decode() if isinstance(key, bytes) else str(key): v for key, v in found.items()}
