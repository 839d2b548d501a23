"""Splits and their batches: a batch is a function of (seed, epoch, step).

No pass over the data depends on those before it, and training resumes where it stopped.
"""

import atexit
import contextlib
import copy
import dataclasses
import functools
import hashlib
import re
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from tfvae.checks import checked_count
from tfvae.datasets.draws import binarized, dequantized, intensities, static_draw, static_noise
from tfvae.datasets.source import Source, plural_of
from tfvae.errors import InputError
from tfvae.likelihoods import Support
from tfvae.models.sources import without_autotuning
from tfvae.share import Share, share

# Events whose values tell those of one split from those of another of the same name and size.
_WITNESSES = 16


class Split:
    """The events of one split, in a fixed order.

    Attributes:
        rows: the rows of the source, `[N]`, ascending.
        event_shape: of one event.
        has_labels: whether the events have labels.
        in_memory: whether they are held in memory.
        binarize: "none", "threshold", "static" or "dynamic"; see `load`.
        noise: of dequantisation, "none", "static" or "dynamic".
        seed: decides order and draws.
        fetch: gives events `[B, *event_shape]` as they are held, and labels `[B]` where there
            are any, for positions `[B]` in the split.
    """

    def __init__(self, source: Source, rows: np.ndarray, *, binarize: str, noise: str, seed: int):
        self.rows = rows
        self.event_shape = source.event_shape
        self.has_labels = source.has_labels
        self.in_memory = source.in_memory
        self.binarize = binarize
        self.noise = noise
        self.seed = seed
        self.fetch: Any = _fetcher(source, rows, binarize, noise, seed)
        self._source = source

    @property
    def source(self) -> Source:
        """What the events are read from."""
        return self._source

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """The shape of an image, `(H, W, C)`.

        Raises:
            InputError: if the events are no images.
        """
        return self._source.image_shape

    @property
    def _called(self) -> str:
        return plural_of(self.event_shape)

    def subset(self, count: int, *, seed: int = 0) -> "Split":
        """Return some of the events, drawn at random.

        Args:
            count: how many; all where there are no more.
            seed: decides which.

        Raises:
            InputError: if `count` is below 1.
        """
        checked_count(f"the number of {self._called}", count)
        drawn = np.random.default_rng(seed).permutation(self.rows)[:count]
        return Split(
            self._source,
            np.sort(drawn),
            binarize=self.binarize,
            noise=self.noise,
            seed=self.seed,
        )

    def redrawn(self, seed: int) -> "Split":
        """Return the same events with other draws: in another order, binarized or dequantized anew.

        A protocol that binarizes the test images at each pass takes another seed for each.

        Args:
            seed: decides order and draws, as that of `load` does.
        """
        return Split(self._source, self.rows, binarize=self.binarize, noise=self.noise, seed=seed)

    def taken(self, begin: Any, end: Any, worker: int, workers: int) -> tuple[Any, Share]:
        """Return which of a batch's events a worker takes.

        Args:
            begin: how many events of the epoch the batches before have, a scalar tensor.
            end: how many with this batch.
            worker: the number of the process that takes them, from 0.
            workers: how many processes share each batch.

        Returns:
            The first of them, counted from the epoch's first, and which rows of the batch they are.
        """
        rows = share(end - begin, worker, workers)
        return begin + rows.start, rows

    def shuffled(self, positions: Any, key: Any) -> Any:
        """Return where events of the split come from in an epoch's order, which the key decides."""
        return tf.random.experimental.index_shuffle(positions, key, len(self.rows) - 1)

    def on(self, device: str) -> "Split":
        """Return the same events held in the memory of a device, for graphs that run there.

        Args:
            device: a name such as "GPU:0". Events that are not in memory stay where they are.
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

    def digest(self) -> str:
        """Compute a digest of which events the split has, and of the content of some."""
        return digest_of(self.rows, self, witnesses(len(self)))

    def steps(self, batch_size: int, *, drop_remainder: bool = False) -> int:
        """Count the batches of an epoch.

        Raises:
            InputError: if there is none.
        """
        checked_count("batch_size", batch_size, least=0)
        if batch_size < 1 or (drop_remainder and batch_size > len(self)):
            raise InputError(
                f"a batch of {batch_size} cannot be made of {len(self)} {self._called}"
            )
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
        """Return one epoch as a `tf.data.Dataset` of float32 `[B, *event_shape]`.

        Where there are labels, its elements are pairs of events and int32 labels `[B]`.

        Args:
            batch_size: events per batch.
            shuffle: whether to put the events in another order each epoch.
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
        """Return the first events as an array, with what is drawn each epoch as in epoch 0.

        Args:
            limit: how many; by default, and at most, all.

        Returns:
            The events, float32 `[N, *event_shape]`, and their labels, int32 `[N]` or None.

        Raises:
            InputError: if `limit` is below 1 or a file cannot be read.
        """
        count = len(self)
        if limit is not None:
            count = min(checked_count(f"the number of {self._called}", limit), count)
        taken = self.batches(256, epoch=0).take(-(-count // 256))
        with input_errors():
            batches = list(taken.as_numpy_iterator())
        if not self.has_labels:
            return np.concatenate(batches)[:count], None
        events, labels = zip(*batches, strict=True)
        return np.concatenate(events)[:count], np.concatenate(labels)[:count]


def witnesses(count: int) -> np.ndarray:
    """Return the positions of the events whose values are looked at, of so many."""
    return np.unique(np.linspace(0, count - 1, _WITNESSES).astype(np.int64))


def digest_of(rows: np.ndarray, split: Split, positions: np.ndarray | None = None) -> str:
    """Compute a digest of rows and of the content of events.

    Args:
        rows: of all events.
        split: gives the events whose content is looked at.
        positions: of these in the split; by default all that it has.
    """
    digest = hashlib.sha256(np.asarray(rows, np.int64).tobytes())
    for tensor in split.fetch(
        tf.constant(np.arange(len(split)) if positions is None else positions)
    ):
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


@dataclasses.dataclass(frozen=True, eq=False)
class Batches:
    """The batches of a split: each a function of its epoch and its step.

    `tfvae.training.train` takes them. Of events that are held in memory it makes each batch in the
    graph that trains on it, and any training goes on exactly where it was.

    Attributes:
        split: the events.
        batch_size: events of a batch.
        shuffle: whether the events come in another order each epoch.
        drop_remainder: whether to leave out a last batch that is not full.

    Raises:
        InputError: if not one batch can be made.
    """

    split: Split
    batch_size: int
    shuffle: bool = False
    drop_remainder: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.split, Split):
            raise InputError(
                f"expected a split, such as data.train; received {type(self.split).__name__}"
            )
        self.split.steps(self.batch_size, drop_remainder=self.drop_remainder)

    def __len__(self) -> int:
        return self.split.steps(self.batch_size, drop_remainder=self.drop_remainder)

    @property
    def images(self) -> int:
        """Events of an epoch."""
        count = len(self.split)
        return min(count, len(self) * self.batch_size)

    def total(self, step: Any) -> tf.Tensor:
        """Count the events of the batch `step`, a scalar tensor."""
        return tf.minimum(
            self.batch_size, len(self.split) - tf.cast(step, tf.int32) * self.batch_size
        )

    def held(self, step: Any, worker: int = 0, workers: int = 1) -> Share:
        """Return which rows of the batch `step` one worker's are, in int32; as for `at`."""
        _, rows = self._taken(step, worker, workers)
        start, stop, total = (tf.cast(value, tf.int32) for value in rows[:3])
        return Share(start, stop, total, rows.counts)

    def _taken(self, step: Any, worker: int, workers: int) -> tuple[Any, Share]:
        begin = tf.cast(step, tf.int64) * self.batch_size
        end = begin + tf.cast(self.total(step), tf.int64)
        return self.split.taken(begin, end, worker, workers)

    def at(self, epoch: Any, step: Any, worker: int = 0, workers: int = 1) -> Any:
        """Return one batch, or one worker's rows of it.

        Args:
            epoch: which order, and which of the draws that are made anew each epoch, a whole
                number or a scalar tensor.
            step: which batch.
            worker: the number of the process that takes it, from 0.
            workers: of how many.

        Returns:
            Events, float32 `[B, *event_shape]`; where there are labels, a pair of events and
            int32 labels `[B]`.
        """
        split = self.split
        epoch, step = tf.cast(epoch, tf.int64), tf.cast(step, tf.int64)
        start, rows = self._taken(step, worker, workers)
        total = rows.total
        positions = start + tf.range(rows.stop - rows.start)
        key = tf.stack([tf.constant(split.seed, tf.int64), epoch])
        if self.shuffle:
            positions = split.shuffled(positions, key)
        events, *labels = split.fetch(positions)
        key = tf.random.experimental.stateless_fold_in(key, step)

        def draw() -> tf.Tensor:
            # Of the whole batch, so that each worker's rows are as they would be for one alone.
            whole = tf.concat([total[None], tf.constant(split.event_shape, tf.int64)], 0)
            return tf.random.stateless_uniform(whole, key)[rows.start : rows.stop]

        if split.noise == "dynamic":
            events = dequantized(tf.cast(events, tf.float32), draw())
        events = intensities(events)
        if split.binarize == "threshold":
            events = binarized(events, 0.5)
        elif split.binarize == "dynamic":
            events = binarized(events, draw())
        size = self.batch_size if self.drop_remainder and workers == 1 else None
        events.set_shape((size, *split.event_shape))
        for label in labels:
            label.set_shape((size,))
        return (events, *labels) if labels else events

    def dataset(
        self,
        epoch: int | None = None,
        start: int = 0,
        *,
        worker: int = 0,
        workers: int = 1,
        prefetch: int = tf.data.AUTOTUNE,
    ) -> tf.data.Dataset:
        """Return one epoch as a `tf.data.Dataset`.

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
        batches = (
            epochs.flat_map(lambda e: tf.data.Dataset.range(start, steps).map(lambda s: (e, s)))
            .apply(tf.data.experimental.assert_cardinality(steps - start))
            .map(
                functools.partial(self.at, worker=worker, workers=workers),
                num_parallel_calls=tf.data.AUTOTUNE,
                deterministic=True,
            )
            .prefetch(prefetch)
            .apply(without_autotuning)
        )
        # A model starts at events of the split, without a pass over the batches.
        batches.split = self.split
        return batches


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
    """Return a data set of one number: how many times it was iterated before."""
    # On the CPU, where pipelines run.
    with tf.device("CPU:0"):
        count = tf.Variable(-1, dtype=tf.int64, trainable=False)
    return tf.data.Dataset.from_tensors(0).map(lambda _: count.assign_add(1))


def _fetcher(
    source: Source, rows: np.ndarray, binarize: str, noise: str, seed: int
) -> Callable[[tf.Tensor], tuple[tf.Tensor, ...]]:
    """Return the function from positions `[B]` to events, and labels if there are any."""

    def read(rows: np.ndarray) -> tuple[np.ndarray, ...]:
        events, labels = source.read(rows)
        if binarize != "none" and events.dtype == np.float32:
            # fmin and fmax leave NaN aside, which stand for what is missing.
            extremes = (np.fmin, np.fmax) if source.missing else (np.minimum, np.maximum)
            low, high = (extreme.reduce(events, axis=None) for extreme in extremes)
            if not (low >= 0 and high <= 1):
                owner = f"binarizing {source.name}"
                raise InputError(Support(0.0, 1.0).complaint(owner, low, high))
        if binarize == "static":
            events = static_draw(events, rows, seed, missing=source.missing)
        elif noise == "static":
            events = static_noise(events, rows, seed)
        return (events,) if labels is None else (events, labels)

    # Tensors and pipelines live in the host's memory, also where there is an accelerator.
    with tf.device("CPU:0"):
        if source.in_memory:
            return functools.partial(_gathered, [tf.constant(array) for array in read(rows)])
        row_of = tf.constant(rows, tf.int64)
    event_dtype = tf.as_dtype(source.dtype)
    if binarize == "static":
        event_dtype = tf.float32 if source.missing else tf.bool
    elif noise == "static":
        event_dtype = tf.float32
    dtypes = (event_dtype, tf.int32) if source.has_labels else (event_dtype,)
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
