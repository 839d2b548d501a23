"""Writes MNIST as Larochelle and Murray binarized it once and for all, as `datasets.load` takes it.

    python benchmarks/static_mnist.py SOURCE static_mnist.npz

SOURCE is a folder of the original text files, binarized_mnist_train.amat and so on, or an .npz file
with the keys train, valid and test, each `numpy.packbits` over the 784 pixels of an image.
"""

import sys
from pathlib import Path
from typing import Annotated

import cyclopts
import numpy as np
from cyclopts import Parameter

from tfvae.errors import InputError
from tfvae.saving.files import new_file

SPLITS = ("train", "valid", "test")
SIDE = 28


def read(source: Path) -> dict[str, np.ndarray]:
    """Give the images of each split, bool `[N, 28, 28]`.

    Raises:
        InputError: if the source is none, or its images are others.
    """
    if source.is_dir():
        return {split: _text(source / f"binarized_mnist_{split}.amat") for split in SPLITS}
    try:
        with np.load(source) as file:
            return {split: _unpacked(file[split]) for split in SPLITS}
    except (OSError, KeyError, ValueError) as error:
        raise InputError(
            f"expected a folder of .amat files, or an .npz file of packed bits with the keys "
            f"{', '.join(SPLITS)}; received {source}: {error}"
        ) from None


def _text(path: Path) -> np.ndarray:
    if not path.is_file():
        raise InputError(f"expected the file {path}, with a line of 784 zeros and ones an image")
    pixels = np.loadtxt(path, np.uint8, ndmin=2)
    if pixels.shape[1] != SIDE * SIDE or pixels.max() > 1:
        raise InputError(f"expected lines of 784 zeros and ones in {path}")
    return pixels.reshape(-1, SIDE, SIDE).astype(bool)


def _unpacked(packed: np.ndarray) -> np.ndarray:
    if packed.dtype != np.uint8 or packed.ndim != 2 or packed.shape[1] != SIDE * SIDE // 8:
        raise ValueError(f"an array of {packed.dtype} {list(packed.shape)}")
    return np.unpackbits(packed, axis=1).reshape(-1, SIDE, SIDE).astype(bool)


def main(
    source: Annotated[Path, Parameter(help="Folder of .amat files, or .npz file of packed bits.")],
    out: Annotated[Path, Parameter(help="The .npz file to write.")],
    /,
) -> None:
    """Write static MNIST as an .npz file of images."""
    try:
        images = read(source)
    except InputError as error:
        sys.exit(f"{error}")
    with new_file(out) as partial:
        np.savez_compressed(partial, **images)  # type: ignore[arg-type]
    print(f"wrote {out}:", ", ".join(f"{len(x)} {split}" for split, x in images.items()))


if __name__ == "__main__":
    cyclopts.run(main)
