"""Several devices and several processes: who takes which rows of a batch, and who writes files.

A batch is one of all devices together, its rows shared out in order; the update it gives is the
same on one device and on many, the last and smaller batch of an epoch included.
"""

import functools
import json
import os
import time
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tfvae.errors import InputError

# Seconds that a process waits for others to read what it has sent.
_LINGER = 2.0


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
    """Give the rows of the taker `index` of `of`; sizes differ by one at most.

    Args:
        total: rows of the batch, from 1, a scalar tensor.
        index: from 0, a number or a scalar tensor.
        of: how many takers.
    """
    start, end = total * index // of, total * (index + 1) // of
    return Share(start, tf.maximum(end, start + 1), total, tf.cast(end > start, tf.float32))


def share_of_worker(
    total: Any, index: Any, of: int, worker: int = 0, workers: int = 1
) -> tuple[Any, Share]:
    """Give the rows of a taker, and the place of the first among those that its worker holds.

    Args:
        total: as for `share`.
        index: as for `share`.
        of: as for `share`.
        worker: the number of the process, which holds its share of the rows.
        workers: how many processes.
    """
    held, rows = share(total, worker, workers), share(total, index, of)
    # A row that does not count may be one that this worker does not hold.
    return tf.minimum(rows.start, held.stop - 1) - held.start, rows


def strategy_of_environment() -> tf.distribute.Strategy:
    """Give the strategy for the devices that the environment names.

    With several workers in ``TF_CONFIG``, as launchers of TensorFlow jobs set it, all of them; else
    all GPUs of this machine; else the one device that there is. Call it before TensorFlow has run
    anything.

    Raises:
        InputError: if ``TF_CONFIG`` cannot be read, or a worker cannot be reached.
    """
    if workers_of_environment() > 1:
        try:
            return tf.distribute.MultiWorkerMirroredStrategy()
        except (ValueError, KeyError, TypeError, tf.errors.OpError) as error:
            reason = " ".join(str(error).split())[:200]
            raise InputError(f"the workers of TF_CONFIG cannot train together: {reason}") from error
    if len(tf.config.list_physical_devices("GPU")) > 1:
        return tf.distribute.MirroredStrategy()
    return tf.distribute.get_strategy()


def workers_of_environment() -> int:
    """Count the processes that ``TF_CONFIG`` names, one without it.

    Raises:
        InputError: if it is no JSON of the form that TensorFlow reads, or names other tasks than
            workers and a chief.
    """
    text = os.environ.get("TF_CONFIG")
    if not text:
        return 1
    try:
        cluster = json.loads(text).get("cluster", {})
        counts = {task: len(addresses) for task, addresses in cluster.items()}
    except (ValueError, AttributeError, TypeError) as error:
        raise InputError(
            'TF_CONFIG is JSON such as {"cluster": {"worker": ["host:port", "host:port"]}, '
            f'"task": {{"type": "worker", "index": 0}}}}; received {text[:100]!r}: {error}'
        ) from None
    others = counts.keys() - {"worker", "chief", "evaluator"}
    if others:
        raise InputError(
            f"TF_CONFIG names tasks {', '.join(sorted(others))}; expected workers alone, "
            "which all train and hold the weights"
        )
    return max(1, counts.get("worker", 0) + counts.get("chief", 0))


def worker_of(strategy: tf.distribute.Strategy) -> tuple[int, int]:
    """Give the number of this process, from 0 for the chief, and how many there are."""
    resolver = strategy.cluster_resolver
    tasks = {} if resolver is None else resolver.cluster_spec().as_dict()
    counts = [len(tasks.get(task, ())) for task in ("chief", "worker")]
    if sum(counts) < 2:
        return 0, 1
    index = int(resolver.task_id) + (counts[0] if resolver.task_type == "worker" else 0)
    return index, sum(counts)


def first(strategy: tf.distribute.Strategy, values: Any) -> Any:
    """Give what the first replica of this process gave, where all gave the same."""
    return tf.nest.map_structure(
        lambda value: strategy.experimental_local_results(value)[0], values
    )


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
    """Give the mean over a batch of values `[B, ...]`, of all of it or of a replica's share."""
    if rows is None:
        return tf.reduce_mean(values, axis=0)
    return summed(rows.counts * tf.reduce_sum(values, axis=0)) / tf.cast(rows.total, values.dtype)


def broadcast(strategy: tf.distribute.Strategy, data: bytes | None) -> bytes | None:
    """Give every process what the chief has.

    Args:
        strategy: that of all the processes.
        data: of the chief; that of the others is left aside.
    """
    index, workers = worker_of(strategy)
    if workers == 1:
        return data
    content = np.frombuffer(data or b"", np.uint8).astype(np.int32) if index == 0 else None
    length = -1 if data is None else len(data)
    length = int(_sum(strategy, np.array(length if index == 0 else 0, np.int32)))
    if length < 0:
        return None
    content = np.zeros(length, np.int32) if content is None else content
    return _sum(strategy, content).astype(np.uint8).tobytes()


def any_of(strategy: tf.distribute.Strategy, flag: bool) -> bool:
    """Whether a flag is set in any of the processes; all of them must ask."""
    if worker_of(strategy)[1] == 1:
        return flag
    return bool(_sum(strategy, np.array(flag, np.int32)) > 0)


def part(strategy: tf.distribute.Strategy) -> None:
    """Wait until all processes are here, before any of them ends."""
    if worker_of(strategy)[1] == 1:
        return
    any_of(strategy, False)
    # One that has heard from all may be what another still reads from: gone, it looks like one that
    # has died.
    time.sleep(_LINGER)


def _sum(strategy: tf.distribute.Strategy, value: np.ndarray) -> np.ndarray:
    """Sum what each process has; a process counts once, by its first replica."""
    return _summer(strategy)(tf.constant(value)).numpy()


@functools.cache
def _summer(strategy: tf.distribute.Strategy) -> Any:
    """Make the graph of `_sum`, once a strategy."""
    workers = worker_of(strategy)[1]

    @tf.function(reduce_retracing=True)
    def run(value: Any) -> Any:
        def of_replica(value: Any) -> Any:
            context = tf.distribute.get_replica_context()
            local = context.num_replicas_in_sync // workers
            counts = tf.equal(context.replica_id_in_sync_group % local, 0)
            summand = value * tf.cast(counts, value.dtype)
            return context.all_reduce(tf.distribute.ReduceOp.SUM, summand)

        return first(strategy, strategy.run(of_replica, args=(value,)))

    return run
