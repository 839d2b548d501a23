"""Hierarchies beside a flat model on MNIST, at equal processor time.

    python benchmarks/hierarchies.py MNIST [NAME ...] [--seconds 300] [--out hierarchies.json]

MNIST is the folder of its four IDX files. Each model trains for so many seconds of processor time
on one thread, dynamically binarized, with Adam, whose rate falls to 0 along a cosine of that time.
Then: the ELBO of all test images, and log p(x) of the first of them by importance sampling.
"""

import argparse
import json
import math
import multiprocessing
import os
import resource
import time
from concurrent.futures import ProcessPoolExecutor
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
# Steps of one call of the graph.
CHUNK = 10
SEED = 0

# Without a warm-up the lower groups stay unused; blocks cost a third of a step.
LADDER = {"network": "conv:blocks=0", "objective": "elbo:beta=linear(steps=1000)"}
# By name: the class, and what `for_images` is given.
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "flat": ("VAE", {}),
    "flat, RealNVP prior": ("VAE", {"prior": "realnvp"}),
    "2 groups": ("HierarchicalVAE", {"groups": "16,16", **LADDER}),
    "2 groups, RealNVP prior of the first": (
        "HierarchicalVAE",
        {"groups": "16,16", "prior": "realnvp", **LADDER},
    ),
    "2 groups, one a map": ("HierarchicalVAE", {"groups": "16,7x7x4", **LADDER}),
    "4 groups": ("HierarchicalVAE", {"groups": "16,16,16,16", **LADDER}),
    "6 groups": ("HierarchicalVAE", {"groups": "16,16,16,16,16,16", **LADDER}),
}


class Budget(keras.callbacks.Callback):
    """Ends a training after so many seconds of processor time, its rate falling to 0 by then.

    Args:
        seconds: of processor time, from the end of the first chunk, which traces the graph.
    """

    def __init__(self, seconds: float):
        super().__init__()
        self.seconds, self.start, self.spent, self.steps = seconds, 0.0, 0.0, 0

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Look at the time, and set the rate."""
        self.steps = int(self.model.optimizer.iterations.numpy())
        if self.steps <= CHUNK:
            self.start = time.process_time()
        self.spent = time.process_time() - self.start
        done = min(self.spent / self.seconds, 1.0)
        self.model.optimizer.learning_rate = LEARNING_RATE * 0.5 * (1 + math.cos(math.pi * done))
        if done == 1.0:
            self.model.stop_training = True


def measure(name: str, mnist: Path, seconds: float, draws: int, images: int) -> dict[str, Any]:
    """Train and score one model."""
    data = tfvae.datasets.load(str(mnist), binarize="dynamic")
    keras.utils.set_random_seed(SEED)
    kind, options = MODELS[name]
    vae = getattr(tfvae, kind).for_images((28, 28, 1), seed=SEED, **options)
    vae.compile(keras.optimizers.Adam(LEARNING_RATE))
    budget = Budget(seconds)
    batches = tfvae.datasets.Batches(data.train, BATCH_SIZE, shuffle=True)
    train(vae, batches, epochs=1000, callbacks=[budget], steps_per_call=CHUNK, progress=False)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    x, _ = data.test.arrays()
    found = [vae.terms(part, seed=1) for part in np.array_split(x, len(x) // 500)]
    elbo = np.concatenate([terms.elbo for terms in found])
    kl = np.concatenate([terms.kl_by_group for terms in found])
    weighed = tfvae.evaluation.log_prob(vae, x[:images], num_samples=draws, seed=1)
    return {
        "parameters": vae.count_params(),
        "groups": [list(shape) for shape in getattr(vae, "groups", [(vae.latent_dim,)])],
        "steps": budget.steps,
        "peak_megabytes": peak,
        "processor_seconds": budget.spent,
        "images_a_second": BATCH_SIZE * (budget.steps - CHUNK) / budget.spent,
        "test_images": len(x),
        "elbo": float(elbo.mean()),
        "elbo_error": float(elbo.std(ddof=1) / len(elbo) ** 0.5),
        "kl_by_group": kl.mean(axis=0).tolist(),
        "log_prob": weighed.log_prob,
        "log_prob_error": weighed.standard_error,
        "elbo_of_these": weighed.elbo.elbo,
        "log_prob_images": images,
        "log_prob_draws": draws,
        "effective_draws": weighed.effective_sample_size,
    }


def main() -> None:
    """Measure, and write the results after each model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("mnist", type=Path)
    parser.add_argument("names", nargs="*", default=[])
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--out", type=Path, default=Path("hierarchies.json"))
    given = parser.parse_args()
    results = json.loads(given.out.read_text()) if given.out.exists() else {}
    # A process for each, whose memory is its own.
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn, max_tasks_per_child=1) as processes:
        for name in given.names or MODELS:
            arguments = (name, given.mnist, given.seconds, given.draws, given.images)
            results[name] = processes.submit(measure, *arguments).result()
            print(name, json.dumps(results[name]), flush=True)
            text = json.dumps(results, indent=1)
            given.out.write_text(f"{text}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
