"""Several devices and several processes: who takes which rows of a batch, and who writes files.

A batch is one of all devices together, its rows shared out in order; the update it gives is the
same on one device and on many, the last and smaller batch of an epoch included.
"""

import functools
import json
import os
import time
from typing import Any

import numpy as np
import tensorflow as tf

from tfvae.datasets.workers import Workers
from tfvae.errors import InputError, WorkerError

# Seconds that a process waits for others to read what it has sent.
_LINGER = 2.0


def strategy_of_environment() -> tf.distribute.Strategy:
    """Return the strategy for the devices that the environment names.

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
    """Return the number of this process, from 0 for the chief, and how many there are."""
    resolver = strategy.cluster_resolver
    tasks = {} if resolver is None else resolver.cluster_spec().as_dict()
    counts = [len(tasks.get(task, ())) for task in ("chief", "worker")]
    if sum(counts) < 2:
        return 0, 1
    index = int(resolver.task_id) + (counts[0] if resolver.task_type == "worker" else 0)
    return index, sum(counts)


def first(strategy: tf.distribute.Strategy, values: Any) -> Any:
    """Return what the first replica of this process gave, where all gave the same."""
    return tf.nest.map_structure(
        lambda value: strategy.experimental_local_results(value)[0], values
    )


def broadcast(strategy: tf.distribute.Strategy, data: bytes | None) -> bytes | None:
    """Send every process what the chief has.

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


def gather(strategy: tf.distribute.Strategy, data: bytes) -> list[bytes]:
    """Give every process what each of them has, in the order of their numbers; all must ask.

    Args:
        strategy: that of all the processes.
        data: of this process.
    """
    index, workers = worker_of(strategy)
    if workers == 1:
        return [data]
    lengths = np.zeros(workers, np.int32)
    lengths[index] = len(data)
    lengths = _sum(strategy, lengths)
    # Whole numbers of 32 bits, of which all but one process have zeros, are summed exactly.
    ends = np.cumsum(-(-lengths // 4))
    words = np.zeros(ends[-1], np.int32)
    padded = data + bytes(-len(data) % 4)
    words[ends[index] - len(padded) // 4 : ends[index]] = np.frombuffer(padded, np.int32)
    content = _sum(strategy, words).tobytes()
    starts = 4 * (ends - (-(-lengths // 4)))
    return [content[start : start + size] for start, size in zip(starts, lengths, strict=True)]


def readers(strategy: tf.distribute.Strategy) -> Workers:
    """Return the processes of a strategy as `tfvae.datasets.load` takes them, to share its files.

    Reading raises `WorkerError` where one of the others has ended.
    """

    def gathered(data: bytes) -> list[bytes]:
        try:
            return gather(strategy, data)
        except tf.errors.OpError as error:
            raise WorkerError(
                "another worker is gone, seen as the data were read: start all workers again"
            ) from error

    return Workers(*worker_of(strategy), gathered)


def any_of(strategy: tf.distribute.Strategy, flag: bool) -> bool:
    """Whether a flag is set in any of the processes; all of them must ask."""
    if worker_of(strategy)[1] == 1:
        return flag
    return bool(_sum(strategy, np.array(flag, np.int32)) > 0)


def wait_for_all(strategy: tf.distribute.Strategy) -> None:
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
