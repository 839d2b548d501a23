"""Two processes of one thread each, which train together, beside one process of two threads.

    python benchmarks/workers.py DATA IMAGES EPOCHS [WORKER PORT PORT]

is run by training.py. The batches are the same: what one process takes whole, two share.
"""

import json
import os
import socket
import statistics
import sys
from typing import Any

from comparison import HERE
from turns import Process, Turns


def train(path: str, images: int, epochs: int, hooks: Any) -> None:
    """Train the small VAE, of recipes.py, under the strategy that the environment names."""
    import keras
    from recipes import BATCH_SIZE, LEARNING_RATE, small_vae

    import tfvae
    from tfvae.training.replicas import strategy_of_environment

    strategy = strategy_of_environment()
    data = tfvae.datasets.load(path, binarize="static")
    with strategy.scope():
        vae = small_vae()
        vae.compile(tfvae.models.FusedAdam(LEARNING_RATE))
    tfvae.training.train(
        vae,
        tfvae.datasets.Batches(data.train.subset(images), BATCH_SIZE, shuffle=True),
        epochs=epochs,
        callbacks=[
            keras.callbacks.LambdaCallback(on_epoch_begin=hooks.begin, on_epoch_end=hooks.end)
        ],
        progress=False,
    )


def measure(mnist: str, images: int, rounds: int) -> dict[str, Any]:
    """Measure epochs in turns."""
    script = [sys.executable, str(HERE / "workers.py"), mnist, str(images), str(rounds + 1)]
    ports = _free_ports(2)
    sides = {
        "one": [Process(script)],
        "two": [Process([*script, str(worker), *map(str, ports)]) for worker in range(2)],
    }
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds + 1):
        for name, processes in sides.items():
            for process in processes:
                process.tell()
            taken = max(process.answer() for process in processes)
            if number:  # the first epoch builds the graph
                seconds[name].append(taken)
        print(
            f"round {number}: { ({name: all_[-1:] for name, all_ in seconds.items()}) }",
            file=sys.stderr,
        )
    for process in (process for processes in sides.values() for process in processes):
        process.close()
    return {
        "one": images / statistics.median(seconds["one"]),
        "two": images / statistics.median(seconds["two"]),
        "share": statistics.median(
            a / b for a, b in zip(seconds["one"], seconds["two"], strict=True)
        ),
    }


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def table(found: dict[str, Any]) -> str:
    """Give the rates as Markdown."""
    return "\n".join(
        [
            "| one process, two threads | two processes, one thread each | ratio |",
            "| ---: | ---: | ---: |",
            f"| {found['one']:,.0f}/s | {found['two']:,.0f}/s | {found['share']:.2f} |",
        ]
    )


def main() -> None:
    """Train one side's share."""
    path, images, epochs, *worker = sys.argv[1:]
    threads = 2
    if worker:
        index, *ports = map(int, worker)
        threads = 1
        cluster = {"worker": [f"127.0.0.1:{port}" for port in ports]}
        task = {"type": "worker", "index": index}
        os.environ["TF_CONFIG"] = json.dumps({"cluster": cluster, "task": task})
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[index % len(cores)]})
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    train(path, int(images), int(epochs), Turns())


if __name__ == "__main__":
    main()
