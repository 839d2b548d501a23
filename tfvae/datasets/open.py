"""Data sets by their name or path."""

import dataclasses
import math
import os
from pathlib import Path

import numpy as np

from tfvae.datasets import shapes
from tfvae.datasets.arrays import array_file, array_source
from tfvae.datasets.folders import PictureOptions, image_folder
from tfvae.datasets.idx import idx_folder
from tfvae.datasets.pictures import resized
from tfvae.datasets.source import Batch, Size, Source, into_memory, parse_size
from tfvae.datasets.tfds import tfds_source
from tfvae.errors import InputError


def open_source(
    name: str | os.PathLike[str],
    *,
    image_size: int | str | Size | None = None,
    manual_dir: str | os.PathLike[str] | None = None,
    memory_limit: int = 2**30,
    pictures: PictureOptions | None = None,
) -> Source:
    """Open a data set by its name or path.

    Bytes stay bytes and floating-point images become float32, unscaled. A path that exists is
    never taken for a name. Labels are given where every split has them.

    Args:
        name: "digits" (scikit-learn's, scaled to [0, 1]); "shapes" (of `tfvae.datasets.shapes`,
            drawn from known factors); a folder of IDX files, gzipped or not; an .npy file
            `[N, H, W]` or `[N, H, W, C]`; an .npz file with one such array, or with names like
            x_train, y_train, x_test (or train, test; or images, labels); a folder of PNG and JPEG
            files, whose label is the first of the folders they lie in; or the name of a TFDS image
            set, such as mnist or emnist/letters.
        image_size: `H` (square), `(H, W)`, "28" or "28x20" to resize the images to; an image of
            another proportion is stretched.
        manual_dir: the folder where TFDS finds the files of its data set instead of downloading.
        memory_limit: images that need no more bytes are read into memory now; others are read
            when they are used, and so is shapes, which takes no memory, whatever the limit.
        pictures: how picture files are read.

    Raises:
        InputError: if there is no such data set, or it does not hold images of one size.
    """
    size = parse_size(image_size)
    path = Path(name)
    if path.is_dir():
        source = idx_folder(path, size) or image_folder(path, size, pictures)
    elif path.suffix in (".npy", ".npz"):
        if not path.is_file():
            raise InputError(f"no such file: {path}")
        source = array_file(path, size)
    elif path.exists():
        raise InputError(f"{path}: expected an .npy or .npz file, or a folder of images")
    elif str(name) == "digits":
        source = _digits(size)
    elif str(name) == "shapes":
        return _shapes(size)
    else:
        source = tfds_source(str(name), size, manual_dir)
    bytes_needed = source.count * math.prod(source.image_shape) * source.dtype.itemsize
    return into_memory(source) if bytes_needed <= memory_limit else source


def _digits(size: Size | None) -> Source:
    from sklearn.datasets import load_digits

    digits = load_digits()
    return array_source("digits", digits.images / 16, digits.target, size)


def _shapes(size: Size | None) -> Source:
    source = shapes.source()
    if size is None:
        return source

    def read(rows: np.ndarray) -> Batch:
        images, labels = source.read(rows)
        return np.stack([resized(image, size) for image in images]), labels

    return dataclasses.replace(source, image_shape=(*size, 1), read=read)
