"""Data sets: splits, binarization and batches.

Which images a split holds is a function of the seed alone, and a batch is one of (seed, epoch,
step): no pass over the data depends on those before it, and training resumes where it stopped.
"""

import atexit
import contextlib
import copy
import dataclasses
import functools
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from tfvae.datasets.folders import PictureOptions
from tfvae.datasets.names import split_by_name
from tfvae.datasets.open import open_source
from tfvae.datasets.source import Source
from tfvae.datasets.values import ValueRange, parse_range
from tfvae.errors import InputError
from tfvae.likelihoods import Support
from tfvae.share import share

BINARIZATIONS = ("none", "threshold", "static", "dynamic")


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """A data set in three splits.

    Attributes:
        name: what it was loaded by.
        image_shape: `(H, W, C)`.
        num_classes: how many labels its images have, whole numbers from 0; None without labels.
        train: the images to learn from.
        validation: those to choose a model by.
        test: those to report.
        levels: 256 where the images are dequantized bytes, so that their densities bound
            probabilities of bytes (see `load`); else None.
    """

    name: str
    image_shape: tuple[int, int, int]
    num_classes: int | None
    train: "Split"
    validation: "Split"
    test: "Split"
    levels: int | None = None

    @property
    def has_labels(self) -> bool:
        """Whether its images have labels."""
        return self.num_classes is not None


def load(
    name: str | os.PathLike[str],
    *,
    binarize: str = "none",
    dequantize: bool = False,
    image_size: int | str | tuple[int, int] | None = None,
    manual_dir: str | os.PathLike[str] | None = None,
    seed: int = 0,
    validation: float = 0.1,
    test: float = 0.1,
    memory_limit: int = 2**30,
    background: str = "white",
    value_range: str | ValueRange | None = None,
    skip_damaged: bool = False,
    labels: bool = True,
) -> Dataset:
    """Load a data set by its name or path.

    Bytes are scaled to [0, 1]; floating-point images are left as they are.

    Dequantized, a byte b becomes x = (b + u) / 256 with u uniform on [0, 1) (Uria et al. 2013,
    https://arxiv.org/abs/1306.0186). A density p(x) on [0, 1)^D gives D bytes a probability, its
    integral over all x that they can become. The mean of log p(x) over u, less D log 256, is at
    most the logarithm of that (Theis et al. 2016, https://arxiv.org/abs/1511.01844, section 3.1).

    Args:
        name: a data set that `open_source` knows: "digits", "shapes", a path, or the name of a TFDS
            image set.
        binarize: ``"none"``; ``"threshold"`` for `x > 0.5`; ``"static"`` for one Bernoulli(x)
            draw of each image, made from the seed and its row, whatever the batch it comes in;
            ``"dynamic"`` for a new draw of the training images each epoch. Validation and test
            images keep the static draw then, so that figures of different epochs compare.
        dequantize: whether to add such noise to images of bytes: to the training images new noise
            each epoch, to validation and test images always the same, made from the seed and the
            row, whatever the batch it comes in. Not together with `binarize`.
        image_size: a size to resize the images to.
        manual_dir: the folder where TFDS finds the files of its data set instead of downloading.
        seed: decides the splits, the shuffles and the draws.
        validation: how many of the training images to hold out where the data set has no
            validation split of its own: below 1 a fraction, from 1 a number of images.
        test: the same, where it has no test split of its own.
        memory_limit: images that need no more bytes are held in memory; others are read when they
            are used, and shapes always is.
        background: of picture files: the colour under transparent ones, "white", "black" or
            "#rrggbb".
        value_range: of picture files: the values that become 0 and 1, "0,4095" or (0, 4095); by
            default what the data say.
        skip_damaged: of picture files: whether to leave out those that cannot be read.
        labels: of picture files: whether their folders are classes.

    Raises:
        InputError: if there is no such data set, it cannot be read, or an argument does not fit.
    """
    if binarize not in BINARIZATIONS:
        raise InputError(f"binarize is one of {', '.join(BINARIZATIONS)}; received {binarize!r}")
    if dequantize and binarize != "none":
        raise InputError(
            "images are dequantized or binarized, not both: leave out dequantize or "
            f"binarize={binarize!r}"
        )
    if not 0 <= seed < 2**63:
        raise InputError(f"a seed lies between 0 and 2^63 - 1; received {seed}")
    source = open_source(
        name,
        image_size=image_size,
        manual_dir=manual_dir,
        memory_limit=memory_limit,
        pictures=PictureOptions(background, parse_range(value_range), skip_damaged, labels),
    )
    if dequantize and source.dtype != np.uint8:
        raise InputError(
            f"dequantizing takes images of bytes (uint8); those of {source.name} are "
            f"{source.dtype}: leave out dequantize"
        )
    rows = _split(source, seed, {"validation": validation, "test": test})
    train_draws = {"binarize": binarize, "noise": "dynamic" if dequantize else "none"}
    held_out = {key: "static" if draw == "dynamic" else draw for key, draw in train_draws.items()}
    return Dataset(
        source.name,
        source.image_shape,
        source.num_classes,
        train=Split(source, rows["train"], seed=seed, **train_draws),
        validation=Split(source, rows["validation"], seed=seed, **held_out),
        test=Split(source, rows["test"], seed=seed, **held_out),
        levels=256 if dequantize else None,
    )


def _split(source: Source, seed: int, sizes: dict[str, float]) -> dict[str, np.ndarray]:
    """Give the rows of the three splits, drawing those that are missing from the training rows."""
    missing = {split: size for split, size in sizes.items() if split not in source.official}
    total = len(source.official["train"])
    for split, size in missing.items():
        if not (0 < size < 1 or (size >= 1 and float(size).is_integer())):
            raise InputError(
                f"the {split} images are a fraction between 0 and 1, or a whole number of images; "
                f"received {size}"
            )
    counts = {
        split: int(size) if size >= 1 else max(1, round(size * total))
        for split, size in missing.items()
    }
    if sum(counts.values()) >= total:
        wanted = " and ".join(f"{count} for {split}" for split, count in counts.items())
        raise InputError(
            f"{source.name} has {total} images to split, too few to take {wanted} and leave some "
            "for training"
        )
    rows = dict(source.official)
    if source.names is not None:
        return rows | split_by_name(source.names[:total], seed, missing)
    pool = np.random.default_rng(seed).permutation(rows["train"])
    for split, count in counts.items():
        rows[split], pool = np.sort(pool[:count]), pool[count:]
    return rows | {"train": np.sort(pool)}


class Split:
    """The images of one split, in a fixed order.

    Attributes:
        rows: the rows of the source, `[N]`, ascending.
        image_shape: `(H, W, C)`.
        has_labels: whether the images have labels.
        in_memory: whether they are held in memory.
        binarize: "none", "threshold", "static" or "dynamic"; see `load`.
        noise: of dequantisation, "none", "static" or "dynamic".
        seed: decides order and draws.
        fetch: gives images `[B, H, W, C]` as they are held, and labels `[B]` where there are any,
            for positions `[B]` in the split.
    """

    def __init__(self, source: Source, rows: np.ndarray, *, binarize: str, noise: str, seed: int):
        self.rows = rows
        self.image_shape = source.image_shape
        self.has_labels = source.has_labels
        self.in_memory = source.in_memory
        self.binarize = binarize
        self.noise = noise
        self.seed = seed
        self.fetch: Any = _fetcher(source, rows, binarize, noise, seed)
        self._source = source

    @property
    def source(self) -> Source:
        """What the images are read from."""
        return self._source

    def subset(self, count: int, *, seed: int = 0) -> "Split":
        """Give some of the images, drawn at random.

        Args:
            count: how many; all where there are no more.
            seed: decides which.

        Raises:
            InputError: if `count` is below 1.
        """
        if count < 1:
            raise InputError(f"the number of images is 1 or more; received {count}")
        drawn = np.random.default_rng(seed).permutation(self.rows)[:count]
        return Split(
            self._source,
            np.sort(drawn),
            binarize=self.binarize,
            noise=self.noise,
            seed=self.seed,
        )

    def redrawn(self, seed: int) -> "Split":
        """Give the same images with other draws: in another order, binarized or dequantized anew.

        A protocol that binarizes the test images at each pass takes another seed for each.

        Args:
            seed: decides order and draws, as that of `load` does.
        """
        return Split(self._source, self.rows, binarize=self.binarize, noise=self.noise, seed=seed)

    def on(self, device: str) -> "Split":
        """Give the same images held in the memory of a device, for graphs that run there.

        Args:
            device: a name such as "GPU:0". Images that are not in memory stay where they are.
        """
        if not self.in_memory:
            return self
        other = copy.copy(self)
        with tf.device(device):
            memory = [tf.identity(tensor) for tensor in self.fetch.args[0]]
        other.fetch = functools.partial(_gathered, memory)
        return other

    def __len__(self) -> int:
        return len(self.rows)

    def steps(self, batch_size: int, *, drop_remainder: bool = False) -> int:
        """Count the batches of an epoch.

        Raises:
            InputError: if there is none.
        """
        if batch_size < 1 or (drop_remainder and batch_size > len(self)):
            raise InputError(f"a batch of {batch_size} cannot be made of {len(self)} images")
        return len(self) // batch_size if drop_remainder else -(-len(self) // batch_size)

    def batches(
        self,
        batch_size: int,
        *,
        shuffle: bool = False,
        epoch: int | None = None,
        drop_remainder: bool = False,
        prefetch: int = tf.data.AUTOTUNE,
    ) -> tf.data.Dataset:
        """Give one epoch as a `tf.data.Dataset` of float32 `[B, H, W, C]`.

        Where there are labels, its elements are pairs of images and int32 labels `[B]`.

        Args:
            batch_size: images per batch.
            shuffle: whether to put the images in another order each epoch.
            epoch: which order, and which of the draws that are made anew each epoch. By default
                epoch 0 at first, and the next one each time the data set is iterated again, as
                ``fit`` does.
            drop_remainder: whether to leave out a last batch that is not full.
            prefetch: batches to prepare ahead.

        Raises:
            InputError: if not one batch can be made. What is found while reading a file comes as
                an error of TensorFlow; see `input_errors`.
        """
        return Batches(self, batch_size, shuffle=shuffle, drop_remainder=drop_remainder).dataset(
            epoch, prefetch=prefetch
        )

    def arrays(self, limit: int | None = None) -> tuple[np.ndarray, np.ndarray | None]:
        """Give the first images as an array, with what is drawn each epoch as in epoch 0.

        Args:
            limit: how many; by default, and at most, all.

        Returns:
            The images, float32 `[N, H, W, C]`, and their labels, int32 `[N]` or None.

        Raises:
            InputError: if `limit` is below 1 or a file cannot be read.
        """
        count = len(self) if limit is None else min(limit, len(self))
        if count < 1:
            raise InputError(f"the number of images is 1 or more; received {limit}")
        taken = self.batches(256, epoch=0).take(-(-count // 256))
        with input_errors():
            batches = list(taken.as_numpy_iterator())
        if not self.has_labels:
            return np.concatenate(batches)[:count], None
        images, labels = zip(*batches, strict=True)
        return np.concatenate(images)[:count], np.concatenate(labels)[:count]


@dataclasses.dataclass(frozen=True, eq=False)
class Batches:
    """The batches of a split: each a function of its epoch and its step.

    `tfvae.training.train` takes them. Of images that are held in memory it makes each batch in the
    graph that trains on it, and any training goes on exactly where it was.

    Attributes:
        split: the images.
        batch_size: images of a batch.
        shuffle: whether the images come in another order each epoch.
        drop_remainder: whether to leave out a last batch that is not full.

    Raises:
        InputError: if not one batch can be made.
    """

    split: Split
    batch_size: int
    shuffle: bool = False
    drop_remainder: bool = False

    def __post_init__(self) -> None:
        self.split.steps(self.batch_size, drop_remainder=self.drop_remainder)

    def __len__(self) -> int:
        return self.split.steps(self.batch_size, drop_remainder=self.drop_remainder)

    @property
    def images(self) -> int:
        """Images of an epoch."""
        count = len(self.split)
        return min(count, len(self) * self.batch_size)

    def total(self, step: Any) -> tf.Tensor:
        """Count the images of the batch `step`, a scalar tensor."""
        return tf.minimum(
            self.batch_size, len(self.split) - tf.cast(step, tf.int32) * self.batch_size
        )

    def at(self, epoch: Any, step: Any, worker: int = 0, workers: int = 1) -> Any:
        """Give one batch, or one worker's rows of it.

        Args:
            epoch: which order, and which of the draws that are made anew each epoch, a whole
                number or a scalar tensor.
            step: which batch.
            worker: who takes it; see `tfvae.training.replicas.share`.
            workers: of how many.

        Returns:
            Images, float32 `[B, H, W, C]`; where there are labels, a pair of images and int32
            labels `[B]`.
        """
        split, count = self.split, len(self.split)
        epoch, step = tf.cast(epoch, tf.int64), tf.cast(step, tf.int64)
        total = tf.cast(self.total(step), tf.int64)
        rows = share(total, worker, workers)
        positions = step * self.batch_size + tf.range(rows.start, rows.stop)
        key = tf.stack([tf.constant(split.seed, tf.int64), epoch])
        if self.shuffle:
            positions = tf.random.experimental.index_shuffle(positions, key, count - 1)
        images, *labels = split.fetch(positions)
        key = tf.random.experimental.stateless_fold_in(key, step)

        def draw() -> tf.Tensor:
            # Of the whole batch, so that each worker's rows are as they would be for one alone.
            whole = tf.concat([total[None], tf.constant(split.image_shape, tf.int64)], 0)
            return tf.random.stateless_uniform(whole, key)[rows.start : rows.stop]

        if split.noise == "dynamic":
            images = _dequantized(tf.cast(images, tf.float32), draw())
        images = _intensities(images)
        if split.binarize == "threshold":
            images = tf.cast(images > 0.5, tf.float32)
        elif split.binarize == "dynamic":
            images = tf.cast(draw() < images, tf.float32)
        size = self.batch_size if self.drop_remainder and workers == 1 else None
        images.set_shape((size, *split.image_shape))
        for label in labels:
            label.set_shape((size,))
        return (images, *labels) if labels else images

    def dataset(
        self,
        epoch: int | None = None,
        start: int = 0,
        *,
        worker: int = 0,
        workers: int = 1,
        prefetch: int = tf.data.AUTOTUNE,
    ) -> tf.data.Dataset:
        """Give one epoch as a `tf.data.Dataset`.

        Args:
            epoch: which; by default epoch 0 at first, and the next one each time the data set is
                iterated again.
            start: the batch to begin with.
            worker: as for `at`.
            workers: as for `at`.
            prefetch: batches to prepare ahead.
        """
        steps = len(self)
        epochs = _epochs() if epoch is None else tf.data.Dataset.from_tensors(np.int64(epoch))
        return (
            epochs.flat_map(lambda e: tf.data.Dataset.range(start, steps).map(lambda s: (e, s)))
            .apply(tf.data.experimental.assert_cardinality(steps - start))
            .map(
                functools.partial(self.at, worker=worker, workers=workers),
                num_parallel_calls=tf.data.AUTOTUNE,
                deterministic=True,
            )
            .prefetch(prefetch)
        )


@contextlib.contextmanager
def input_errors() -> Iterator[None]:
    """Turn an InputError that TensorFlow wrapped back into itself.

    What a file's reader raises inside a `tf.data` pipeline comes out as a `tf.errors.OpError` of
    many lines; iterate batches in this context to get the one line instead.
    """
    try:
        yield
    except tf.errors.OpError as error:
        found = re.search("InputError: (.*)", error.message)
        if found is None:
            raise
        raise InputError(found[1]) from error


def _epochs() -> tf.data.Dataset:
    """Give a data set of one number: how many times it was iterated before."""
    # On the CPU, where pipelines run.
    with tf.device("CPU:0"):
        count = tf.Variable(-1, dtype=tf.int64, trainable=False)
    return tf.data.Dataset.from_tensors(0).map(lambda _: count.assign_add(1))


def _fetcher(
    source: Source, rows: np.ndarray, binarize: str, noise: str, seed: int
) -> Callable[[tf.Tensor], tuple[tf.Tensor, ...]]:
    """Give the function from positions `[B]` in a split to images, and labels if there are any."""

    def read(rows: np.ndarray) -> tuple[np.ndarray, ...]:
        images, labels = source.read(rows)
        if binarize != "none" and images.dtype == np.float32:
            low, high = images.min(), images.max()
            if not (low >= 0 and high <= 1):
                owner = f"binarizing {source.name}"
                raise InputError(Support(0.0, 1.0).complaint(owner, low, high))
        if binarize == "static":
            images = _static_draw(images, rows, seed)
        elif noise == "static":
            images = _static_noise(images, rows, seed)
        return (images,) if labels is None else (images, labels)

    # Tensors and pipelines live in the host's memory, also where there is an accelerator.
    with tf.device("CPU:0"):
        if source.in_memory:
            return functools.partial(_gathered, [tf.constant(array) for array in read(rows)])
        row_of = tf.constant(rows, tf.int64)
    image_dtype = tf.as_dtype(source.dtype)
    if binarize == "static":
        image_dtype = tf.bool
    elif noise == "static":
        image_dtype = tf.float32
    dtypes = (image_dtype, tf.int32) if source.has_labels else (image_dtype,)
    return lambda positions: tuple(
        tf.numpy_function(functools.partial(_READS, read), [tf.gather(row_of, positions)], dtypes)
    )


def _gathered(memory: list[tf.Tensor], positions: tf.Tensor) -> tuple[tf.Tensor, ...]:
    return tuple(tf.gather(tensor, positions) for tensor in memory)


class _Reads:
    """The reads that TensorFlow's threads do.

    As Python ends it stops such a thread for good, and TensorFlow then waits for that thread for
    ever if an iterator is still alive. So at its end, reads under way are waited for, and those
    that pipelines begin until their buffers are full fail at once.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._begun = self._ended = 0
        self._closed = False
        atexit.register(self._close)

    def __call__(self, read: Callable[[np.ndarray], Any], rows: np.ndarray) -> Any:
        with self._lock:
            self._begun += 1
        try:
            if self._closed:
                raise RuntimeError("Python is ending")
            return read(rows)
        finally:
            with self._lock:
                self._ended += 1

    def _close(self) -> None:
        self._closed = True
        seen = 0
        while not seen == self._begun == self._ended:
            seen = self._begun
            time.sleep(0.05)


_READS = _Reads()


def _intensities(images: Any) -> Any:
    """Cast images to float32, and bytes to [0, 1]."""
    scale = 255.0 if images.dtype == tf.uint8 else 1.0
    return tf.cast(images, tf.float32) / scale


def _dequantized(values: Any, uniform: Any) -> Any:
    """Give (b + u) / 256, for bytes b and uniform draws of u, both float32 of one shape.

    With all its bits, u would at times round b + u to the next whole number, and 255 + u to 256.
    A float32 has 24 bits: 8 are for b, 15 for u, which is cut to as many, and one for the half of
    such a step that keeps the mean of u at 1/2. So nothing is rounded: x lies within the cell of
    its byte, above 0 and below 1.
    """
    return (values + (uniform * 2**15 // 1 + 0.5) / 2**15) / 256


def _static_draw(images: np.ndarray, rows: np.ndarray, seed: int) -> np.ndarray:
    """Draw Bernoulli(x) for each image `[n, H, W, C]`, from the seed and its row alone."""
    scale = np.float32(255 if images.dtype == np.uint8 else 1)
    drawn = np.empty(images.shape, bool)
    for index, uniform in enumerate(_uniforms(images.shape[1:], rows, seed)):
        drawn[index] = uniform < images[index].astype(np.float32) / scale
    return drawn


def _static_noise(images: np.ndarray, rows: np.ndarray, seed: int) -> np.ndarray:
    """Dequantize images `[n, H, W, C]` of bytes, each from the seed and its row alone."""
    noisy = np.empty(images.shape, np.float32)
    for index, uniform in enumerate(_uniforms(images.shape[1:], rows, seed)):
        noisy[index] = _dequantized(images[index].astype(np.float32), uniform)
    return noisy


def _uniforms(shape: tuple[int, ...], rows: np.ndarray, seed: int) -> Iterator[np.ndarray]:
    """Draw float32 `[H, W, C]`, uniform on [0, 1), for each row from the seed and itself alone."""
    # Philox counts in 256 bits: each row has the 2^128 blocks that begin at row · 2^128.
    bits = np.random.Philox(key=seed)
    generator = np.random.Generator(bits)
    state: Any = bits.state
    for row in rows:
        state["state"]["counter"][2] = row
        bits.state = state
        yield generator.random(shape, np.float32)
