"""This package's own training with its defaults; run by training.py, a process each.

    python benchmarks/default_run.py DATA IMAGES STEPS PRECISION [--seed SEED]

gives pairs of seconds and the test images' ELBO as training goes on, with two latent dimensions;
or with `--seed` the ELBO at the end, with the default of latent dimensions.
"""

import math
import sys
import time
from typing import Any

import keras
from recipes import functions_of, mean_elbo
from turns import say

import tfvae
from tfvae.saving.config import TrainConfig

EVERY = 50
# As `tfvae train` chooses them for MNIST.
BATCH_SIZE, LATENT_DIM = 128, 16
DEFAULTS = TrainConfig()


class Curve(keras.callbacks.Callback):
    """Notes the test images' ELBO every so many steps; the clock stands still meanwhile."""

    def __init__(self, x: Any, every: int):
        super().__init__()
        self.points: list[tuple[float, float]] = []
        self._x, self._every = x, every
        self._begun = time.perf_counter()
        self._steps = self._next = 0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Note how many steps there were before."""
        self._before = self._steps

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Measure when it is time to, which is after the first steps too."""
        self._steps = self._before + batch + 1
        if self._steps >= self._next:
            self._measure()

    def on_train_end(self, logs: Any = None) -> None:
        """Measure what training ends with."""
        self._measure()

    def _measure(self) -> None:
        paused = time.perf_counter()
        self.points.append((paused - self._begun, mean_elbo(*functions_of(self.model), self._x)))
        self._next = self._steps + self._every
        self._begun += time.perf_counter() - paused


def default_run(data: Any, images: int, steps: int, latent_dim: int, curve: bool) -> Any:
    """Train as many epochs as `tfvae train` would, and give the curve or the ELBO at the end."""
    x, _ = data.test.arrays()
    train = data.train.subset(images)
    batches = tfvae.datasets.Batches(train, BATCH_SIZE, shuffle=True)
    epochs = math.ceil(steps / len(batches))
    noted = Curve(x, EVERY)
    vae = tfvae.VAE.for_images(data.image_shape, latent_dim=latent_dim, seed=train.seed)
    steps = epochs * len(batches)
    schedule = keras.optimizers.schedules.CosineDecay(DEFAULTS.learning_rate, steps)
    vae.compile(tfvae.models.FusedAdam(schedule))
    callbacks = [noted] if curve else []
    tfvae.training.train(vae, batches, epochs=epochs, callbacks=callbacks, progress=False)
    return noted.points if curve else mean_elbo(*functions_of(vae), x)


def main() -> None:
    """Train as the command line says."""
    path, images, steps, policy, *seed = sys.argv[1:]
    keras.config.set_dtype_policy(policy)
    number = int(seed[1]) if seed else 0
    keras.utils.set_random_seed(number)
    data = tfvae.datasets.load(path, binarize="static", seed=number)
    latent_dim = LATENT_DIM if seed else 2
    say(default_run(data, int(images), int(steps), latent_dim, curve=not seed))


if __name__ == "__main__":
    main()
