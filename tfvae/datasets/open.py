"""Data sets by their name or path."""

import dataclasses
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfvae.datasets import shapes
from tfvae.datasets.archives import ARCHIVES, archive_of_pictures
from tfvae.datasets.arrays import array_file, from_arrays
from tfvae.datasets.cifar import cifar_folder
from tfvae.datasets.folders import image_folder
from tfvae.datasets.idx import idx_folder
from tfvae.datasets.matrices import HDF5, hdf5_file, mat_file, svhn_folder
from tfvae.datasets.options import PictureOptions
from tfvae.datasets.parts import ARRAYS, arrays_of, is_pattern, parts_of
from tfvae.datasets.pictures import resized
from tfvae.datasets.records import (
    TFRECORDS,
    holds_pictures,
    parquet_of_pictures,
    parts_of_pictures,
    tfrecord_file,
)
from tfvae.datasets.schema import Schema
from tfvae.datasets.source import Batch, Size, Source, into_memory, parse_size, scaled
from tfvae.datasets.tables import Kinds, is_table, parts_of_table, table_source
from tfvae.datasets.tfds import tfds_source
from tfvae.datasets.values import ValueRange, parse_range
from tfvae.datasets.workers import ALONE, Workers
from tfvae.errors import InputError


def open_source(
    name: Any,
    *,
    image_size: int | str | Size | None = None,
    manual_dir: str | os.PathLike[str] | None = None,
    memory_limit: int = 2**30,
    kind: str | None = None,
    value_range: str | ValueRange | None = None,
    pictures: PictureOptions | None = None,
    columns: Kinds | None = None,
    label: str | None = None,
    drop: Sequence[str] = (),
    schema: Schema | None = None,
    unseen: str = "refuse",
    workers: Workers = ALONE,
) -> Source:
    """Open a data set by its name or path.

    Bytes stay bytes and floating-point values become float32, unscaled. A path that exists is
    never taken for a name. Labels are given where every split has them.

    Args:
        name: "mnist-small" (the first 12,000 training and 1,000 test images of MNIST, in the
            package); "digits" (scikit-learn's, scaled to [0, 1]); "shapes" (of
            `tfvae.datasets.shapes`, drawn from known factors); a folder of IDX files, gzipped or
            not; an .npy file of images, series, volumes or rows of numbers (see
            `tfvae.datasets.arrays`); an .npz file with one such array, or with names like x_train,
            y_train, x_test (or train, test; or images, labels), and HDF5 with the same; a folder,
            zip or tar of PNG, JPEG, TIFF, BMP, WebP or GIF files, with the folders train, val and
            test as its splits if it has them, and the folders below as classes; Parquet or TFRecord
            with one column of such files; the folder of CIFAR or SVHN as it is unpacked; a table: a
            CSV, TSV, Parquet or Feather file, or a frame of pandas, polars or Arrow; the name of
            a TFDS image set, such as mnist or emnist/letters; or a pattern of many files of one
            kind, such as "parts/*.parquet", whose rows follow one another.
        image_size: `H` (square), `(H, W)`, "28" or "28x20" to resize the images to; an image of
            another proportion is stretched.
        manual_dir: the folder where TFDS finds the files of its data set instead of downloading.
        memory_limit: events that need no more bytes are read into memory now; others are read
            when they are used, and so is shapes, which takes no memory, whatever the limit.
        kind: what the arrays of an .npy or .npz file hold: "image", "series", "volume" or "table";
            by default what they look like.
        value_range: the values that become 0 and 1, such as (0, 4095); by default those of the
            type of whole numbers in images and volumes, and other values are left as they are.
        pictures: how picture files are read.
        columns: the kinds of a table's columns that look like another; see `Schema.from_frame`.
        label: the column of a table to take labels from.
        drop: the columns of a table to leave out.
        schema: what the columns of a table are, as another table told.
        unseen: what becomes of categories that `schema` does not know: "refuse" or "missing".
        workers: processes that read the files of a pattern together, each its own; see
            `tfvae.training.replicas.readers`. All of them must call this.

    Raises:
        InputError: if there is no such data set, or it does not hold events of one shape.
    """
    is_path = isinstance(name, str | os.PathLike)
    parts = parts_of(name, workers) if is_pattern(name) else None
    is_of_table = not is_path or (is_table(name) and not holds_pictures(Path(name)))
    if parts.are_tables if parts is not None else is_of_table:
        for option, value in (
            ("image_size", image_size),
            ("kind", kind),
            ("value_range", value_range),
        ):
            if value is not None:
                raise InputError(f"{option} is for arrays and images: leave it out for a table")
        told: Any = {
            "columns": columns,
            "label": label,
            "drop": drop,
            "schema": schema,
            "unseen": unseen,
            "memory_limit": memory_limit,
        }
        if parts is None:
            return table_source(name, **told)
        return parts.source(
            lambda: parts_of_table(parts.name, parts.own, workers=parts.readers, **told),
            memory_limit,
        )
    if columns or label is not None or drop:
        raise InputError(f"columns, label and drop are for tables: leave them out for {name}")
    size = parse_size(image_size)
    scale = parse_range(value_range)
    options = dataclasses.replace(pictures or PictureOptions(), value_range=scale)
    path = Path(name) if parts is None else parts.own[0]
    if kind is not None and path.suffix not in (*ARRAYS, *HDF5):
        raise InputError(
            f"a kind is given for .npy, .npz and HDF5 files alone: leave it out for {name}"
        )
    if parts is not None:

        def read() -> Source:
            if parts.are_pictures:
                return parts_of_pictures(parts.name, parts.own, size, options, parts.readers)
            return arrays_of(parts, size=size, kind=kind, value_range=scale)

        return parts.source(read, memory_limit)
    if path.exists() or path.suffix in ARRAYS:
        source = _of_path(path, size, kind, scale, options)
    elif str(name) == "mnist-small":
        source = _scaled(_mnist_small(size), scale)
    elif str(name) == "digits":
        source = _scaled(_digits(size), scale)
    elif str(name) == "shapes":
        return _scaled(_shapes(size), scale)
    else:
        source = _scaled(tfds_source(str(name), size, manual_dir), scale)
    bytes_needed = source.count * math.prod(source.event_shape) * source.dtype.itemsize
    return into_memory(source) if bytes_needed <= memory_limit else source


def _of_path(
    path: Path,
    size: Size | None,
    kind: str | None,
    value_range: ValueRange | None,
    options: PictureOptions,
) -> Source:
    """Return the source of a file or folder."""
    name = path.name.lower()
    if path.is_dir():
        return (
            idx_folder(path, size=size, value_range=value_range)
            or cifar_folder(path, size, value_range)
            or svhn_folder(path, size, value_range)
            or parquet_of_pictures(path, size, options)
            or image_folder(path, size, options)
        )
    if not path.is_file():
        raise InputError(f"no such file: {path}")
    if path.suffix in ARRAYS:
        return array_file(path, size=size, kind=kind, value_range=value_range)
    if name.endswith(ARCHIVES):
        return archive_of_pictures(path, size, options)
    if name.endswith(".mat"):
        return mat_file(path, size, value_range)
    if name.endswith(HDF5):
        return hdf5_file(path, size, kind, value_range)
    source = None
    if name.endswith(TFRECORDS):
        source = tfrecord_file(path, size, options)
    elif name.endswith(".parquet"):
        source = parquet_of_pictures(path, size, options)
    if source is None:
        raise InputError(
            f"{path}: expected an .npy or .npz file, a table (.csv, .tsv, .parquet, .feather), or "
            "a folder of images"
        )
    return source


def _scaled(source: Source, value_range: ValueRange | None) -> Source:
    return source if value_range is None else scaled(source, value_range)


def _mnist_small(size: Size | None) -> Source:
    source = idx_folder(Path(__file__).parent / "mnist_small", size=size)
    if source is None:
        raise InputError("the package is damaged: its images of mnist-small are missing")
    # Ink on paper: nearly all pixels are black or white, and the grey between tells how surely.
    return dataclasses.replace(source, name="mnist-small", binarize="dynamic")


def _digits(size: Size | None) -> Source:
    from sklearn.datasets import load_digits

    digits = load_digits()
    images, labels = {"train": digits.images / 16}, {"train": digits.target}
    return from_arrays("digits", images, labels, size=size, kind="image")


def _shapes(size: Size | None) -> Source:
    source = shapes.source()
    if size is None:
        return source

    def read(rows: np.ndarray) -> Batch:
        images, labels = source.read(rows)
        return np.stack([resized(image, size) for image in images]), labels

    return dataclasses.replace(source, event_shape=(*size, 1), read=read)
