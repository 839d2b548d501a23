"""Image sources: files and public data sets, each read by row number.

A source gives any of its rows in any order, so splits, shuffles and batches are arithmetic on row
numbers and never depend on what was read before.
"""

import contextlib
import dataclasses
import gzip
import io
import math
import os
import re
import shutil
import struct
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from tfvae.errors import InputError

Size = tuple[int, int]
Shape = tuple[int, int, int]
Batch = tuple[np.ndarray, np.ndarray | None]

SPLITS = ("train", "validation", "test")
# The words that name splits and contents in the files of the common data sets: x_train,
# train_images, t10k-labels, ...
_SPLITS = {"train": "train", "t10k": "test", "test": "test"}
_SPLITS |= dict.fromkeys(("valid", "validation", "val"), "validation")
_CONTENTS = dict.fromkeys(("x", "image", "images"), "images")
_CONTENTS |= dict.fromkeys(("y", "label", "labels"), "labels")
_IDX_NAME = re.compile(
    rf"(?:(?P<prefix>.+)-)?(?P<split>{'|'.join(_SPLITS)})-(?P<content>images|labels)"
    r"[.-]idx\d-ubyte(?:\.gz)?"
)
# Pillow lets other threads run while it decodes. No thread starts before it is needed.
_DECODERS = ThreadPoolExecutor(min(8, os.cpu_count() or 1), "decoder")


@dataclasses.dataclass(frozen=True, eq=False)
class Source:
    """Images that are read by row number.

    Attributes:
        name: what the source was opened by.
        image_shape: `(H, W, C)`.
        dtype: of the images: uint8, bool or float32.
        counts: how many rows there are of each split, in the order of the rows: of "train", then
            of "validation" and "test" where the source comes with such splits.
        num_classes: how many labels there are, whole numbers from 0; None where not every image
            has one.
        read: gives the images `[n, H, W, C]` and the labels `[n]`, int32 or None, of `n` rows.
            Safe to call from several threads.
        in_memory: whether `read` only copies from memory.
    """

    name: str
    image_shape: Shape
    dtype: np.dtype
    counts: dict[str, int]
    num_classes: int | None
    read: Callable[[np.ndarray], Batch]
    in_memory: bool = False

    @property
    def has_labels(self) -> bool:
        """Whether there is a label for every image."""
        return self.num_classes is not None

    @property
    def count(self) -> int:
        """The number of rows."""
        return sum(self.counts.values())

    @property
    def official(self) -> dict[str, np.ndarray]:
        """The rows of the splits that the source comes with; all are "train" if it has none."""
        ends = np.cumsum(list(self.counts.values()))
        return dict(zip(self.counts, np.split(np.arange(self.count), ends[:-1]), strict=True))


def open_source(
    name: str | os.PathLike[str],
    *,
    image_size: int | str | Size | None = None,
    manual_dir: str | os.PathLike[str] | None = None,
    memory_limit: int = 2**30,
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

    Raises:
        InputError: if there is no such data set, or it does not hold images of one size.
    """
    size = _parse_size(image_size)
    path = Path(name)
    if path.is_dir():
        source = _idx_folder(path, size) or _image_folder(path, size)
    elif path.suffix in (".npy", ".npz"):
        if not path.is_file():
            raise InputError(f"no such file: {path}")
        source = _array_file(path, size)
    elif path.exists():
        raise InputError(f"{path}: expected an .npy or .npz file, or a folder of images")
    elif str(name) == "digits":
        source = _digits(size)
    elif str(name) == "shapes":
        return _shapes(size)
    else:
        source = _tfds(str(name), size, manual_dir)
    bytes_needed = source.count * math.prod(source.image_shape) * source.dtype.itemsize
    return _into_memory(source) if bytes_needed <= memory_limit else source


def _parse_size(image_size: int | str | Size | None) -> Size | None:
    if image_size is None:
        return None
    words = image_size.lower().split("x") if isinstance(image_size, str) else image_size
    try:
        sides = [int(side) for side in ([words] if isinstance(words, int) else words)]
    except (TypeError, ValueError):
        sides = []
    if len(sides) not in (1, 2) or min(sides) < 1:
        raise InputError(f"an image size is like 28 or 28x20 (height x width); got {image_size!r}")
    return sides[0], sides[-1]


def _into_memory(source: Source) -> Source:
    images = np.empty((source.count, *source.image_shape), source.dtype)
    labels = np.empty(source.count, np.int32)
    with _bar(source.name, source.count) as bar:
        for start in range(0, source.count, 256):
            rows = np.arange(start, min(start + 256, source.count))
            images[rows], read_labels = source.read(rows)
            if read_labels is not None:
                labels[rows] = read_labels
            bar.update(len(rows))

    def read(rows: np.ndarray) -> Batch:
        return images[rows], labels[rows] if source.has_labels else None

    return dataclasses.replace(source, read=read, in_memory=True)


def _bar(title: str, total: int) -> Any:
    # Only for what takes more than a second, and none (disable=None) where no terminal shows it.
    return tqdm(desc=title, total=total, unit=" images", leave=False, delay=1, disable=None)


def _joined(name: str, splits: dict[str, Source]) -> Source:
    """Give the source of these splits, one after the other."""
    first = splits["train"]
    for split, source in splits.items():
        if (source.image_shape, source.dtype) != (first.image_shape, first.dtype):
            raise InputError(
                f"{name}: the train images are {_size(first.image_shape)} {first.dtype}, but the "
                f"{split} images are {_size(source.image_shape)} {source.dtype}"
            )
    classes = [source.num_classes for source in splits.values()]
    known = [count for count in classes if count is not None]
    num_classes = max(known) if len(known) == len(classes) else None
    counts = {split: source.count for split, source in splits.items()}
    starts = np.cumsum([0, *counts.values()])

    def read(rows: np.ndarray) -> Batch:
        images = np.empty((len(rows), *first.image_shape), first.dtype)
        labels = np.empty(len(rows), np.int32)
        split_of = np.searchsorted(starts, rows, side="right") - 1
        for index, source in enumerate(splits.values()):
            here = split_of == index
            if here.any():
                images[here], read_labels = source.read(rows[here] - starts[index])
                if read_labels is not None:
                    labels[here] = read_labels
        return images, None if num_classes is None else labels

    return Source(name, first.image_shape, first.dtype, counts, num_classes, read)


def _size(shape: Iterable[int]) -> str:
    return " x ".join(map(str, shape))


def _digits(size: Size | None) -> Source:
    from sklearn.datasets import load_digits

    digits = load_digits()
    return _array("digits", digits.images / 16, digits.target, size)


def _shapes(size: Size | None) -> Source:
    from tfvae.datasets import shapes  # which takes the names above

    source = shapes.source()
    if size is None:
        return source

    def read(rows: np.ndarray) -> Batch:
        images, labels = source.read(rows)
        return np.stack([_resized(image, size) for image in images]), labels

    return dataclasses.replace(source, image_shape=(*size, 1), read=read)


def _array_file(path: Path, size: Size | None) -> Source:
    if path.suffix == ".npy":
        return _array(str(path), _map_npy(path, str(path)), None, size)
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
        raise InputError(f"{path} is not a readable .npz file: {_first_line(error)}") from error
    return _from_arrays(str(path), arrays["images"], arrays["labels"], size)


def _role(key: str) -> tuple[str, str] | None:
    """Tell from an array's name its content and split, if all words of the name are known."""
    content, split = "images", "train"
    for word in key.lower().split("_"):
        if word not in _CONTENTS and word not in _SPLITS:
            return None
        content = _CONTENTS.get(word, content)
        split = _SPLITS.get(word, split)
    return content, split


def _map_npy(path: Path, described: str) -> np.ndarray:
    try:
        return np.lib.format.open_memmap(path, mode="r")
    except (ValueError, OSError, EOFError) as error:
        raise InputError(f"{described} is not a readable array: {_first_line(error)}") from error


def _idx_folder(folder: Path, size: Size | None) -> Source | None:
    """Give the source of a folder's IDX files, or None if it has none."""
    files: dict[str, dict[str, Path]] = {"images": {}, "labels": {}}
    prefixes = set()
    # Sorted, an unpacked file comes before its .gz and is taken.
    for path in sorted(folder.iterdir()):
        if match := _IDX_NAME.fullmatch(path.name):
            prefixes.add(match["prefix"] or "")
            files[match["content"]].setdefault(_SPLITS[match["split"]], path)
    if not prefixes:
        return None
    if len(prefixes) > 1:
        listed = ", ".join(sorted(prefixes))
        raise InputError(f"{folder} holds several data sets ({listed}): give each its own folder")
    arrays = {
        content: {split: _map_idx(path) for split, path in paths.items()}
        for content, paths in files.items()
    }
    return _from_arrays(str(folder), arrays["images"], arrays["labels"], size)


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
                    f"{_size(shape)}, received {length}"
                )
            # Nothing cannot be mapped.
            return np.memmap(stream, np.uint8, "r", offset, shape) if length else np.empty(shape)
    except (OSError, EOFError, zlib.error, struct.error) as error:
        raise InputError(f"{path} is not a readable IDX file: {_first_line(error)}") from error


def _from_arrays(
    name: str, images: dict[str, np.ndarray], labels: dict[str, np.ndarray], size: Size | None
) -> Source:
    """Give the source of the arrays of each split, in memory or mapped."""
    if "train" not in images:
        raise InputError(f"{name} has no training images")
    splits = {
        split: _array(f"{name}: {split}", images[split], labels.get(split), size)
        for split in sorted(images, key=SPLITS.index)
    }
    return _joined(name, splits)


def _array(name: str, images: np.ndarray, labels: np.ndarray | None, size: Size | None) -> Source:
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
            picked = np.stack([_resized(image, size) for image in picked])
        return picked, None if labels is None else labels[rows]

    shape = (*(size or image_shape[:2]), image_shape[2])
    num_classes = None if labels is None else max(0, int(labels.max()) + 1)
    return Source(name, shape, dtype, {"train": count}, num_classes, read)


def _image_folder(folder: Path, size: Size | None) -> Source:
    suffixes = (".png", ".jpg", ".jpeg")
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in suffixes)
    if not files:
        raise InputError(f"{folder} holds no PNG, JPEG or IDX files")
    # Headers alone are read here, so that what does not fit is found before any image is decoded.
    modes, sizes = [], []
    with _bar(f"{folder}: headers", len(files)) as bar:
        for path in files:
            with _opened(path, str(path)) as image:
                modes.append(image.mode)
                sizes.append((image.height, image.width))
            bar.update()
            if size is None and sizes[-1] != sizes[0]:
                raise InputError(
                    f"the images of {folder} differ in size: {files[0].relative_to(folder)} is "
                    f"{_size(sizes[0])} and {path.relative_to(folder)} is {_size(sizes[-1])} "
                    "(height x width): give one with --image-size"
                )
    is_grey = all(mode in ("1", "L", "LA") or mode.startswith("I") for mode in modes)
    shape = (*(size or sizes[0]), 1 if is_grey else 3)
    tops = [path.relative_to(folder).parts[0] for path in files if path.parent != folder]
    num_classes = len(set(tops)) if len(tops) == len(files) and len(set(tops)) > 1 else None
    labels = np.unique(tops, return_inverse=True)[1].astype(np.int32)

    def read(rows: np.ndarray) -> Batch:
        contents = [(str(files[row]), files[row]) for row in rows]
        return _decode(contents, shape[2], size), None if num_classes is None else labels[rows]

    return Source(str(folder), shape, np.dtype(np.uint8), {"train": len(files)}, num_classes, read)


def _tfds(name: str, size: Size | None, manual_dir: str | os.PathLike[str] | None) -> Source:
    import tensorflow_datasets as tfds

    # Asked for a name it does not know, TFDS would look for it on the network.
    if re.split("[:/]", name)[0] not in tfds.list_builders(with_community_datasets=False):
        raise InputError(
            f"no such file or folder: {name}"
            if "/" in name
            else f"unknown data set {name!r}: expected digits, shapes, the name of a TFDS image "
            "set (mnist, fashion_mnist, cifar10, ...), or the path of an .npy or .npz file or of a "
            "folder of IDX, PNG or JPEG files"
        )
    if manual_dir is not None and not Path(manual_dir).is_dir():
        raise InputError(f"no such folder: {manual_dir}")
    if not sys.stderr.isatty():
        tfds.disable_progress_bar()
    try:
        # TFDS announces what it does on the standard output, which belongs to our caller.
        with contextlib.redirect_stdout(sys.stderr):
            # The one format of TFDS that is read by row number.
            builder = tfds.builder(name, file_format="array_record")
            builder.download_and_prepare(
                download_config=tfds.download.DownloadConfig(manual_dir=manual_dir)
            )
    except Exception as error:
        raise InputError(
            f"TFDS could not prepare {name}: {_first_line(error)}: give the folder of its files "
            "with --manual-dir where they cannot be downloaded, or set TFDS_DATA_DIR to another "
            "folder where it was prepared in another format"
        ) from error
    features = dict(builder.info.features.items())
    image = features.get("image")
    if not isinstance(image, tfds.features.Image) or image.np_dtype != np.uint8:
        raise InputError(f"the TFDS data set {name} has no feature 'image' of 8 bits a channel")
    if size is None and None in image.shape[:2]:
        raise InputError(
            f"the images of the TFDS data set {name} differ in size: give one with --image-size"
        )
    shape = (*(size or image.shape[:2]), 1 if image.shape[2] == 1 else 3)
    label = features.get("label")
    num_classes = label.num_classes if isinstance(label, tfds.features.ClassLabel) else None
    # Images come encoded, to be decoded in threads, and masks not at all.
    skipped = [key for key, feature in features.items() if isinstance(feature, tfds.features.Image)]
    decoders = dict.fromkeys(skipped, tfds.decode.SkipDecoding())

    def open_split(split: str) -> Source:
        data = builder.as_data_source(split=split, decoders=decoders)

        def read(rows: np.ndarray) -> Batch:
            examples = data.__getitems__(rows.tolist())
            encoded = [(f"an image of {name} ({split})", example["image"]) for example in examples]
            images = _decode(encoded, shape[2], size)
            if num_classes is None:
                return images, None
            return images, np.array([example["label"] for example in examples], np.int32)

        return Source(name, shape, np.dtype(np.uint8), {"train": len(data)}, num_classes, read)

    splits = [split for split in SPLITS if split in builder.info.splits]
    if "train" not in splits:
        raise InputError(f"the TFDS data set {name} has no training images")
    return _joined(name, {split: open_split(split) for split in splits})


@contextlib.contextmanager
def _opened(content: Path | bytes, described: str) -> Iterator[Any]:
    """Open an encoded image; whatever goes wrong with it is an InputError that names it."""
    from PIL import Image

    file = io.BytesIO(content) if isinstance(content, bytes) else content
    try:
        # Pillow tells formats by their signature and reads dozens; we promise these two.
        with Image.open(file, formats=("PNG", "JPEG")) as image:
            yield image
    except Exception as error:  # Pillow raises many kinds for a damaged file.
        raise InputError(
            f"{described} is not a readable PNG or JPEG image: {_first_line(error)}"
        ) from error


def _decode(
    contents: list[tuple[str, Path | bytes]], channels: int, size: Size | None
) -> np.ndarray:
    """Decode images to bytes `[n, H, W, channels]`."""
    from PIL import Image

    def decode(described: str, content: Path | bytes) -> np.ndarray:
        with _opened(content, described) as image:
            if image.mode.startswith("I"):
                # 16 bits, which Pillow's own conversion to 8 would clip.
                image = Image.fromarray((np.asarray(image) // 257).astype(np.uint8))  # noqa: PLW2901
            pixels = np.asarray(image.convert("L" if channels == 1 else "RGB"))
        return _resized(pixels.reshape(*pixels.shape[:2], channels), size)

    # Handing a small image to another thread takes as long as to decode it: hand over several.
    parts = [contents[start : start + 16] for start in range(0, len(contents), 16)]
    decoded = _DECODERS.map(lambda part: [decode(*content) for content in part], parts)
    return np.stack([image for part in decoded for image in part])


def _resized(pixels: np.ndarray, size: Size | None) -> np.ndarray:
    """Resize an image `[h, w, C]` of bytes or float32.

    Neither filter leaves the range of the values, as sharper ones do: intensities stay in [0, 1].
    Shrinking, the box averages just the area that a pixel covers.
    """
    if size is None or pixels.shape[:2] == size:
        return pixels
    from PIL import Image

    height, width = size
    shrinks = height <= pixels.shape[0] and width <= pixels.shape[1]
    sampling = Image.Resampling.BOX if shrinks else Image.Resampling.BILINEAR
    maps = [
        np.asarray(Image.fromarray(np.ascontiguousarray(plane)).resize((width, height), sampling))
        for plane in np.moveaxis(pixels, -1, 0)
    ]
    return np.stack(maps, axis=-1)


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0] or type(error).__name__
