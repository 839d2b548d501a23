"""Arrays and their files: .npy and .npz."""

import tempfile
import zipfile
import zlib
from pathlib import Path

import numpy as np

from tfvae.datasets.pictures import resized
from tfvae.datasets.source import SPLIT_WORDS, SPLITS, Batch, Size, Source, first_line, joined
from tfvae.errors import InputError

# The words that name contents in the files of the common data sets: x_train, test_labels, ...
_CONTENTS = dict.fromkeys(("x", "image", "images"), "images")
_CONTENTS |= dict.fromkeys(("y", "label", "labels"), "labels")


def array_file(path: Path, size: Size | None) -> Source:
    """Return the source of an .npy or .npz file."""
    if path.suffix == ".npy":
        return array_source(str(path), _map_npy(path, str(path)), None, size)
    arrays: dict[str, dict[str, np.ndarray]] = {"images": {}, "labels": {}}
    try:
        # Unpacked and mapped, an archive is read like any other file, whatever its size; the map
        # outlives the folder.
        with zipfile.ZipFile(path) as archive, tempfile.TemporaryDirectory() as folder:
            keys = [name[:-4] for name in archive.namelist() if name.endswith(".npy")]
            roles = {key: _role(key) if len(keys) > 1 else ("images", "train") for key in keys}
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
    return from_arrays(str(path), arrays["images"], arrays["labels"], size)


def _role(key: str) -> tuple[str, str] | None:
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
    name: str, images: dict[str, np.ndarray], labels: dict[str, np.ndarray], size: Size | None
) -> Source:
    """Give the source of the arrays of each split, in memory or mapped."""
    if "train" not in images:
        raise InputError(f"{name} has no training images")
    splits = {
        split: array_source(f"{name}: {split}", images[split], labels.get(split), size)
        for split in sorted(images, key=SPLITS.index)
    }
    return joined(name, splits)


def array_source(
    name: str, images: np.ndarray, labels: np.ndarray | None, size: Size | None
) -> Source:
    """Return the source of images `[N, H, W]` or `[N, H, W, C]`, in memory or mapped."""
    if images.ndim not in (3, 4) or not images.size:
        raise InputError(
            f"{name}: expected images [N, H, W] or [N, H, W, C], at least one; received shape "
            f"{list(images.shape)}"
        )
    if images.dtype not in (np.uint8, bool) and images.dtype.kind != "f":
        raise InputError(
            f"{name}: expected images of type uint8, bool or float; received {images.dtype}: "
            "convert them, for values from 0 to 255 with astype('uint8')"
        )
    if images.ndim == 3:
        images = images[..., np.newaxis]
    count, *image_shape = images.shape
    if labels is not None:
        if labels.dtype.kind not in "iub" or labels.shape not in ((count,), (count, 1)):
            raise InputError(
                f"{name}: expected {count} labels, one integer for each image; received shape "
                f"{list(labels.shape)} of type {labels.dtype}"
            )
        labels = labels.reshape(count).astype(np.int32)
    # Resized, bits are numbers: their mean is grey.
    keeps_type = images.dtype == np.uint8 or (images.dtype == bool and size is None)
    dtype = images.dtype if keeps_type else np.dtype(np.float32)

    def read(rows: np.ndarray) -> Batch:
        picked = np.asarray(images[rows], dtype)
        if size is not None:
            picked = np.stack([resized(image, size) for image in picked])
        return picked, None if labels is None else labels[rows]

    shape = (*(size or image_shape[:2]), image_shape[2])
    num_classes = None if labels is None else max(0, int(labels.max()) + 1)
    return Source(name, shape, dtype, {"train": count}, num_classes, read)
