"""The events of one split where several workers read them, each those of its own files.

A batch is one of all workers. Each takes of it in proportion to how many events of the split its
files have, so that all come to their last ones in the same step, and an epoch has each event once.
"""

import dataclasses
from typing import Any

import numpy as np
import tensorflow as tf

from tfvae.datasets.batches import Split, digest_of, witnesses
from tfvae.datasets.source import Batch, Source
from tfvae.datasets.workers import FileShares
from tfvae.errors import InputError
from tfvae.models.starting import count_at_hand
from tfvae.share import Share


class SharedSplit(Split):
    """A split of which this worker reads the events of its own files; all workers must make it.

    Its length is that of the whole, and so are the steps of an epoch; `Batches` give this worker's
    rows of each. What is looked at beside the training, by `arrays`, `subset` and `batches`, is
    `common`.

    Attributes:
        counts: how many events of the split each worker's files have, `[workers]`.
        common: some thousand events of the whole split, drawn at random, which all workers hold;
            all events where these are no more.
    """

    def __init__(self, source: Source, rows: np.ndarray, *, binarize: str, noise: str, seed: int):
        shares: Any = source.shares
        self._workers = workers = shares.workers
        owner = shares.owner(rows)
        self.counts = np.bincount(owner, minlength=workers.count)
        draws: Any = {"binarize": binarize, "noise": noise, "seed": seed}
        own = rows[owner == workers.index]
        # Without an event of the split a worker holds one of another, which never counts.
        super().__init__(source, own if len(own) else shares.first_row(), **draws)
        count = count_at_hand(len(rows), source.event_shape)
        # As `subset` draws them.
        sample = np.sort(np.random.default_rng(0).permutation(rows)[:count])
        seen = rows[witnesses(len(rows))]
        known = _known(source, shares, np.union1d(sample, seen))
        self.common = Split(known, sample, **draws)
        self._digest = digest_of(rows, Split(known, seen, **draws))

    def __len__(self) -> int:
        return int(self.counts.sum())

    def digest(self) -> str:
        """Return the digest of the whole split, that of one process that reads all files."""
        return self._digest

    def subset(self, count: int, *, seed: int = 0) -> Split:
        """Return some of the common events, drawn at random; the arguments are those of `Split`."""
        return self.common.subset(count, seed=seed)

    def redrawn(self, seed: int) -> Split:
        """Return the common events with other draws."""
        return self.common.redrawn(seed)

    def batches(self, batch_size: int, *, shuffle: bool = False, **options: Any) -> tf.data.Dataset:
        """Return batches of the common events; the arguments are those of `Split`.

        Raises:
            InputError: if they are to be shuffled, as for a training, which takes `Batches`.
        """
        if shuffle:
            raise InputError(
                "several workers that share files train on tfvae.datasets.Batches(data.train, "
                "batch_size, shuffle=True)"
            )
        return self.common.batches(batch_size, **options)

    def arrays(self, limit: int | None = None) -> tuple[np.ndarray, np.ndarray | None]:
        """Return the first of the common events; the arguments are those of `Split`."""
        return self.common.arrays(limit)

    def shuffled(self, positions: Any, key: Any) -> Any:
        """Return the order of this worker's own events, unlike those of the others."""
        own = tf.random.experimental.stateless_fold_in(key, self._workers.index)
        return super().shuffled(positions, own)

    def taken(self, begin: Any, end: Any, worker: int, workers: int) -> tuple[Any, Share]:
        """Return which of its own events this worker takes for a batch; as for `Split`.

        Raises:
            InputError: if the batch is not one of the workers that share the files.
        """
        if (worker, workers) != (self._workers.index, self._workers.count):
            raise InputError(
                f"the data are those of worker {self._workers.index} of {self._workers.count}, and "
                f"the model trains as worker {worker} of {workers}: make it in the scope of the "
                "strategy that the data were loaded for"
            )
        # How many events the batches up to one have of each worker: of those that the workers
        # before have left, in proportion and rounded, so that the sum is exact.
        left, events = tf.stack([begin, end]), len(self)
        offset: Any = tf.constant(0, left.dtype)
        for number, count in enumerate(map(int, self.counts)):
            own = (2 * left * count + events) // max(2 * events, 1)
            size = own[1] - own[0]
            if number == worker:
                break
            offset += size
            left, events = left - own, events - count
        total = end - begin
        start = tf.minimum(offset, total - 1)
        # No network runs on no rows at all; see `Share`.
        rows = Share(start, start + tf.maximum(size, 1), total, tf.cast(size > 0, tf.float32))
        return tf.minimum(own[0], max(count, 1) - 1), rows


def _known(source: Source, shares: FileShares, rows: np.ndarray) -> Source:
    """Return a source of some rows, ascending, which all workers hold; each reads its own."""
    workers = shares.workers
    owner = shares.owner(rows)
    own_rows = rows[owner == workers.index]
    found = workers.together(lambda: workers.agree(source.read(own_rows)))
    events = np.empty((len(rows), *source.event_shape), source.dtype)
    labels = np.empty(len(rows), np.int32)
    for number, (own, own_labels) in enumerate(found):
        events[owner == number] = own
        if own_labels is not None:
            labels[owner == number] = own_labels

    def read(wanted: np.ndarray) -> Batch:
        places = np.searchsorted(rows, wanted)
        return events[places], labels[places] if source.has_labels else None

    return dataclasses.replace(source, read=read, in_memory=True, shares=None)
