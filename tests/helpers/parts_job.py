"""One of several workers that train on the files of their own share, run by `test_workers`."""

import json
import os
from pathlib import Path

import keras
import numpy as np
from workers_job import EPOCHS, DieAt, strategy_of

import tfvae
from tfvae.datasets import Batches, load
from tfvae.training import replicas, train


def job(index, ports, folder, directory, *, at=None):
    """Train on the files of a folder as one of the workers, alone without ports."""
    strategy = strategy_of(index, ports)
    pattern = str(folder / "*.npz")
    data = load(pattern, workers=replicas.readers(strategy), kind="image", seed=3)
    with strategy.scope():
        networks = tfvae.networks.pair("dense", (6, 5, 1), 2, seed=0)
        model = tfvae.Autoencoder(*networks, 2, seed=0)
        model.compile(keras.optimizers.SGD(1e-3, momentum=0.9))
    facts = {"summary": data.summary()}
    try:
        # All events in one batch and no draws: the update says whether each was used once.
        history = train(
            model,
            Batches(data.train, 100, shuffle=True),
            epochs=EPOCHS,
            validation_data=Batches(data.validation, 100),
            callbacks=[DieAt(at)],
            steps_per_call=1,
            checkpoint_dir=Path(directory) / f"worker-{index}",
            checkpoint_seconds=0,
            progress=False,
        )
        result = {f"{i} {v.name}": np.asarray(v.value) for i, v in enumerate(model.variables)}
        result |= {f"history {name}": np.array(of) for name, of in history.history.items()}
        np.savez(Path(directory) / f"result-{index}.npz", **result)
        replicas.wait_for_all(strategy)
    except tfvae.WorkerError as error:
        facts["error"] = str(error)
    (Path(directory) / f"facts-{index}.json").write_text(json.dumps(facts))
    if "error" in facts:
        # TensorFlow waits at its end for the worker that is gone.
        os._exit(0)
