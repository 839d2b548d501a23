"""One of several processes that train together, run by `test_workers`."""

import json
import os
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from resuming_job import die

import tfvae
from tfvae.datasets import Batches, load
from tfvae.training import replicas, train

EPOCHS = 3


class DieAt(keras.callbacks.Callback):
    """Kills the process after a batch of an epoch."""

    def __init__(self, at=None):
        super().__init__()
        self._at = at
        self._epoch = 0

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if self._at == (self._epoch, batch):
            die()


def strategy_of(index, ports):
    """Become one of the workers at some ports, the only one without; give their strategy."""
    if ports:
        cluster = {"worker": [f"127.0.0.1:{port}" for port in ports]}
        task = {"type": "worker", "index": index}
        os.environ["TF_CONFIG"] = json.dumps({"cluster": cluster, "task": task})
    tf.config.experimental.enable_op_determinism()
    return replicas.strategy_of_environment()


def job(index, ports, directory, *, at=None, stop_at=None):
    """Train as one of the workers, alone without ports; write what came of it."""
    strategy = strategy_of(index, ports)
    assert replicas.worker_of(strategy) == (index, max(1, len(ports)))
    facts = {}
    if ports:
        # The longer one comes from the chief alone.
        told = replicas.broadcast(strategy, bytes(range(256)) * 3 if index == 0 else b"mine")
        facts["told"] = told == bytes(range(256)) * 3
        facts["nothing"] = replicas.broadcast(strategy, None if index == 0 else b"mine") is None
        all_of = replicas.gather(strategy, bytes([index]) * (5 * index))
        facts["gathered"] = all_of == [b"", b"\x01" * 5]
        facts["any"] = [replicas.any_of(strategy, index == one) for one in (0, 1, 2)]
    data = load("digits", binarize="dynamic", seed=3)
    with strategy.scope():
        networks = tfvae.networks.pair("dense", (8, 8, 1), 2, seed=0)
        vae = tfvae.VAE(*networks, 2, seed=0)
        vae.compile(keras.optimizers.SGD(1e-3, momentum=0.9, global_clipnorm=50.0))
    # Of 7 images: batches of 3, 3 and 1, the last one on the second worker alone.
    few = data.train.subset(7)
    steps = 0

    def should_stop():
        nonlocal steps
        steps += 1
        return steps == stop_at

    own = Path(directory) / f"worker-{index}"
    try:
        history = train(
            vae,
            Batches(few, 3, shuffle=True),
            epochs=EPOCHS,
            validation_data=Batches(few, 4),
            callbacks=[DieAt(at)],
            steps_per_call=1,
            checkpoint_dir=own,
            checkpoint_seconds=0,
            should_stop=should_stop,
            progress=False,
        )
        facts["steps"] = int(np.asarray(vae.optimizer.iterations.value))
        variables = [*vae.variables, *vae.optimizer.variables]
        result = {f"{i} {v.name}": np.asarray(v.value) for i, v in enumerate(variables)}
        result |= {f"history {name}": np.array(of) for name, of in history.history.items()}
        np.savez(Path(directory) / f"result-{index}.npz", **result)
        # One that ends before the other has is taken for one that has died.
        replicas.wait_for_all(strategy)
    except tfvae.WorkerError as error:
        facts["error"] = str(error)
    facts["files"] = sorted(path.name for path in own.glob("*"))
    (Path(directory) / f"facts-{index}.json").write_text(json.dumps(facts))
    if "error" in facts:
        # TensorFlow waits at its end for the worker that is gone.
        os._exit(0)
