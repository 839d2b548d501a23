"""Files of arrays that other packages read: SVHN's .mat by SciPy, and HDF5 by h5py."""

import importlib
from pathlib import Path
from typing import Any

import numpy as np

from tfvae.datasets.arrays import from_arrays, role_of
from tfvae.datasets.source import Size, Source
from tfvae.datasets.text import first_line
from tfvae.datasets.values import ValueRange
from tfvae.errors import InputError

HDF5 = (".h5", ".hdf5")

_SVHN = {"train": "train_32x32.mat", "test": "test_32x32.mat"}


def svhn_folder(folder: Path, size: Size | None, value_range: ValueRange | None) -> Source | None:
    """Return the source of a folder of SVHN's cropped digits, or None if it has none.

    Raises:
        InputError: if a file cannot be read, or SciPy is missing.
    """
    files = {split: folder / name for split, name in _SVHN.items() if (folder / name).is_file()}
    if not files:
        return None
    return _svhn(str(folder), files, size, value_range)


def mat_file(path: Path, size: Size | None, value_range: ValueRange | None) -> Source:
    """Return the source of one of SVHN's .mat files.

    Raises:
        InputError: as `svhn_folder` does.
    """
    return _svhn(str(path), {"train": path}, size, value_range)


def _svhn(
    name: str, files: dict[str, Path], size: Size | None, value_range: ValueRange | None
) -> Source:
    images, labels = {}, {}
    for split, path in files.items():
        io = _imported("scipy.io", "SciPy", f"{path}: .mat files are", "scipy")
        try:
            found = io.loadmat(path, variable_names=["X", "y"])
        except Exception as error:  # a damaged file raises many kinds
            raise InputError(f"{path} is not a readable .mat file: {first_line(error)}") from error
        x, y = found.get("X"), found.get("y")
        if x is None or y is None or x.ndim != 4 or x.shape[:3] != (32, 32, 3):
            raise InputError(
                f"{path}: expected SVHN's X [32, 32, 3, N] and y [N, 1]; save other arrays as .npz"
            )
        images[split] = np.ascontiguousarray(x.transpose(3, 0, 1, 2))
        # There the digit 0 is class 10.
        labels[split] = y.reshape(-1).astype(np.int64) % 10
    return from_arrays(name, images, labels, size=size, kind="image", value_range=value_range)


def hdf5_file(
    path: Path, size: Size | None, kind: str | None, value_range: ValueRange | None
) -> Source:
    """Return the source of the arrays of an HDF5 file, which are named as those of an .npz file.

    Raises:
        InputError: if it cannot be read, its arrays do not fit, or h5py is missing.
    """
    h5py = _imported("h5py", "h5py", f"{path}: HDF5 files are", "h5py")
    arrays: dict[str, dict[str, np.ndarray]] = {"images": {}, "labels": {}}
    try:
        with h5py.File(path, "r") as file:
            keys = [key for key, value in file.items() if isinstance(value, h5py.Dataset)]
            roles = {key: role_of(key) if len(keys) > 1 else ("images", "train") for key in keys}
            known = [role for role in roles.values() if role]
            if ("images", "train") not in known or len(set(known)) < len(known):
                raise InputError(
                    f"{path}: expected one array, or arrays named like x_train, y_train, x_test "
                    f"(or train, valid, test; or images, labels); received {list(file)}"
                )
            for key, role in roles.items():
                if role:
                    content, split = role
                    arrays[content][split] = np.asarray(file[key])
    except InputError:
        raise
    except Exception as error:  # a damaged file raises many kinds
        raise InputError(f"{path} is not a readable HDF5 file: {first_line(error)}") from error
    return from_arrays(
        str(path),
        arrays["images"],
        arrays["labels"],
        size=size,
        kind=kind,
        value_range=value_range,
    )


def _imported(module: str, called: str, what: str, package: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise InputError(
            f"{what} read by {called}, which is not installed: pip install {package}"
        ) from error
