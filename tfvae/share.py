"""The rows of a batch that each of several devices takes, and sums over all of them."""

from typing import Any, NamedTuple

import tensorflow as tf


class Share(NamedTuple):
    """The rows of a batch that one of several takes.

    No network runs on no rows at all: where there are fewer rows than takers, some hold a row of
    somebody else's that does not count.

    Attributes:
        start: the first row.
        stop: the row after the last, at least one after the first.
        total: rows of the whole batch.
        counts: whether the rows count, 1.0 or 0.0.
    """

    start: Any
    stop: Any
    total: Any
    counts: Any


def share(total: Any, index: Any, of: int) -> Share:
    """Return the rows of the taker `index` of `of`; sizes differ by one at most.

    Args:
        total: rows of the batch, from 1, a scalar tensor.
        index: from 0, a number or a scalar tensor.
        of: how many takers.
    """
    start, end = total * index // of, total * (index + 1) // of
    return Share(start, tf.maximum(end, start + 1), total, tf.cast(end > start, tf.float32))


def share_of_device(held: Share, device: Any, of: int) -> tuple[Any, Share]:
    """Return the rows of a device of a worker, and the place of the first among the worker's.

    Args:
        held: the rows of the whole batch that the worker holds.
        device: the number of the device among the worker's, from 0.
        of: how many devices the worker has.
    """
    own = share(held.stop - held.start, device, of)
    rows = Share(
        held.start + own.start, held.start + own.stop, held.total, held.counts * own.counts
    )
    return own.start, rows


def summed(values: Any) -> Any:
    """Sum tensors over all replicas; to be called within one."""
    context = tf.distribute.get_replica_context()
    if context.num_replicas_in_sync == 1:
        return values
    flat = tf.nest.flatten(values)
    # Tensors of one type travel together.
    for dtype in dict.fromkeys(value.dtype for value in flat):
        places = [i for i, value in enumerate(flat) if value.dtype == dtype]
        sums = context.all_reduce(tf.distribute.ReduceOp.SUM, [flat[i] for i in places])
        for i, value in zip(places, sums, strict=True):
            flat[i] = value
    return tf.nest.pack_sequence_as(values, flat)


def batch_mean(values: Any, rows: Share | None) -> Any:
    """Return the mean over a batch of values `[B, ...]`, of all of it or of a replica's share."""
    if rows is None:
        return tf.reduce_mean(values, axis=0)
    return summed(rows.counts * tf.reduce_sum(values, axis=0)) / tf.cast(rows.total, values.dtype)
