"""Image sets of TensorFlow Datasets."""

import contextlib
import importlib.util
import os
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np

from tfvae.datasets.pictures import decode_files
from tfvae.datasets.source import SPLITS, Batch, Size, Source, joined
from tfvae.datasets.text import first_line
from tfvae.errors import InputError, missing_extra


def tfds_source(name: str, size: Size | None, manual_dir: str | os.PathLike[str] | None) -> Source:
    """Return the source of an image set of TensorFlow Datasets.

    It is prepared in the one format that is read by row number, array_record, where the system has
    that package (Linux has); elsewhere as TFRecord, of which the encoded images are held in memory.

    Raises:
        InputError: if TensorFlow Datasets is not installed, or has no such images.
    """
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise missing_extra(
            f"no such file or folder: {name}; to take it for the name of an image set needs",
            "tensorflow-datasets",
            "tfds",
        ) from error

    # Asked for a name it does not know, TFDS would look for it on the network.
    if re.split("[:/]", name)[0] not in tfds.list_builders(with_community_datasets=False):
        raise InputError(
            f"no such file or folder: {name}"
            if "/" in name
            else f"unknown data set {name!r}: expected mnist-small, digits, shapes, the name of "
            "a TFDS image set (mnist, fashion_mnist, cifar10, ...), or the path of an .npy or .npz "
            "file or of a folder of IDX, PNG or JPEG files"
        )
    if manual_dir is not None and not Path(manual_dir).is_dir():
        raise InputError(f"no such folder: {manual_dir}")
    if not sys.stderr.isatty():
        tfds.disable_progress_bar()
    try:
        # TFDS announces what it does on the standard output, which belongs to our caller.
        with contextlib.redirect_stdout(sys.stderr):
            has_rows = importlib.util.find_spec("array_record") is not None
            builder = tfds.builder(name, file_format="array_record" if has_rows else "tfrecord")
            builder.download_and_prepare(
                download_config=tfds.download.DownloadConfig(manual_dir=manual_dir)
            )
    except Exception as error:
        raise InputError(
            f"TFDS could not prepare {name}: {first_line(error)}: where its files cannot be "
            "downloaded give manual_dir=FOLDER, where they are; or set TFDS_DATA_DIR to another "
            "folder where it was prepared in another format"
        ) from error
    features = dict(builder.info.features.items())
    image = features.get("image")
    if not isinstance(image, tfds.features.Image) or image.np_dtype != np.uint8:
        raise InputError(f"the TFDS data set {name} has no feature 'image' of 8 bits a channel")
    if size is None and None in image.shape[:2]:
        raise InputError(
            f"the images of the TFDS data set {name} differ in size: give image_size=64, or another"
        )
    shape = (*(size or image.shape[:2]), 1 if image.shape[2] == 1 else 3)
    label = features.get("label")
    num_classes = label.num_classes if isinstance(label, tfds.features.ClassLabel) else None
    # Images come encoded, to be decoded in threads, and masks not at all.
    skipped = [key for key, feature in features.items() if isinstance(feature, tfds.features.Image)]
    decoders = dict.fromkeys(skipped, tfds.decode.SkipDecoding())

    def open_split(split: str) -> Source:
        data: Any
        if has_rows:
            data = builder.as_data_source(split=split, decoders=decoders)
            examples_at = data.__getitems__
        else:
            config = tfds.ReadConfig(interleave_cycle_length=1)
            read_split = builder.as_dataset(split=split, decoders=decoders, read_config=config)
            data = list(read_split.as_numpy_iterator())

            def examples_at(rows: list[int]) -> list[dict[str, Any]]:
                return [data[row] for row in rows]

        def read(rows: np.ndarray) -> Batch:
            examples = examples_at(rows.tolist())
            encoded = [(f"an image of {name} ({split})", example["image"]) for example in examples]
            images = decode_files(encoded, shape[2], size)
            if num_classes is None:
                return images, None
            return images, np.array([example["label"] for example in examples], np.int32)

        return Source(name, shape, np.dtype(np.uint8), {"train": len(data)}, num_classes, read)

    splits = [split for split in SPLITS if split in builder.info.splits]
    if "train" not in splits:
        raise InputError(f"the TFDS data set {name} has no training images")
    return joined(name, {split: open_split(split) for split in splits})
