"""Hierarchies beside flat models on MNIST, at equal processor time.

    python benchmarks/hierarchies.py MNIST [--seconds 300] [--out hierarchies.json] [NAME ...]

MNIST is the folder of its four IDX files. Each model trains for so many seconds of processor time
on one thread, dynamically binarized, with Adam along a cosine to 0; how many steps that makes is
measured on the first steps. Then: the ELBO of all test images, and log p(x) of the first of them
by importance sampling.
"""

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

# One thread: seconds of processor time are seconds of work then.
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")

import keras
import numpy as np

import tfvae
from tfvae.training import train

BATCH_SIZE = 128
LEARNING_RATE = 2e-3
# Steps to warm up, and then to measure.
WARM, MEASURED = 20, 60
SEED = 0

# By name: the class, and what `for_images` is given.
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "flat": ("VAE", {}),
    "flat, RealNVP prior": ("VAE", {"prior": "realnvp:flows=6,hidden=128"}),
    "2 groups": ("HierarchicalVAE", {"groups": 2}),
    "4 groups": ("HierarchicalVAE", {"groups": 4}),
}


def make(name: str) -> Any:
    """Build a model."""
    kind, options = MODELS[name]
    return getattr(tfvae, kind).for_images((28, 28, 1), seed=SEED, **options)


def steps_for(name: str, batches: Any, seconds: float) -> tuple[int, float]:
    """Measure how many steps take so many seconds of processor time; and the seconds of one."""
    vae = make(name)
    vae.compile(keras.optimizers.Adam(LEARNING_RATE))
    few = batches.dataset(0).take(WARM + 2 * MEASURED)
    spent: list[float] = []

    class Watch(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            spent.append(time.process_time())

    train(vae, few, steps_per_call=WARM, callbacks=[Watch()], progress=False)
    per_step = (spent[-1] - spent[1]) / (WARM * (len(spent) - 2))
    return max(1, round(seconds / per_step)), per_step


def measure(name: str, data: Any, seconds: float, draws: int, images: int) -> dict[str, Any]:
    """Train and score one model."""
    keras.utils.set_random_seed(SEED)
    batches = tfvae.datasets.Batches(data.train, BATCH_SIZE, shuffle=True)
    steps, per_step = steps_for(name, batches, seconds)
    vae = make(name)
    rate = keras.optimizers.schedules.CosineDecay(LEARNING_RATE, steps)
    vae.compile(keras.optimizers.Adam(rate))
    before, clock = time.process_time(), time.monotonic()
    epochs, left = divmod(steps, len(batches))
    if epochs:
        train(vae, batches, epochs=epochs, progress=False)
    if left:
        train(vae, batches.dataset(epochs).take(left), progress=False)
    trained = time.process_time() - before
    clock = time.monotonic() - clock
    elbo = tfvae.evaluation.elbo(vae, data.test, seed=1)
    x, _ = data.test.arrays(limit=images)
    found = tfvae.evaluation.log_prob(vae, x, num_samples=draws, seed=1)
    terms = vae.terms(x, seed=1)
    return {
        "parameters": vae.count_params(),
        "groups": [list(shape) for shape in getattr(vae, "groups", [(vae.latent_dim,)])],
        "steps": steps,
        "milliseconds_a_step": 1000 * per_step,
        "images_a_second": BATCH_SIZE / per_step,
        "processor_seconds": trained,
        "seconds": clock,
        "test_elbo": elbo.elbo,
        "test_elbo_error": elbo.standard_error,
        "kl": elbo.kl,
        "kl_by_group": np.mean(terms.kl_by_group, axis=0).tolist(),
        "log_prob": found.log_prob,
        "log_prob_error": found.standard_error,
        "log_prob_images": images,
        "log_prob_draws": draws,
        "effective_sample_size": found.effective_sample_size,
    }


def main() -> None:
    """Measure, and write the results after each model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("mnist", type=Path)
    parser.add_argument("names", nargs="*", default=[])
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--draws", type=int, default=500)
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--out", type=Path, default=Path("hierarchies.json"))
    given = parser.parse_args()
    data = tfvae.datasets.load(str(given.mnist), binarize="dynamic")
    results = json.loads(given.out.read_text()) if given.out.exists() else {}
    for name in given.names or MODELS:
        results[name] = measure(name, data, given.seconds, given.draws, given.images)
        print(name, json.dumps(results[name]), flush=True)
        text = json.dumps(results, indent=1)
        given.out.write_text(f"{text}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
