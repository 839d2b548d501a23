"""The initial weights of networks."""

import itertools
from collections.abc import Iterator

import keras

from tfvae.networks.checks import check_seed


def initializers(seed: int | None) -> Iterator[keras.initializers.Initializer]:
    """Yield one initializer a layer: with the same seed, layers of equal shape would start equal.

    Raises:
        InputError: if the seed is neither None nor a whole number from 0.
    """
    seed = check_seed(seed)
    for layer in itertools.count():
        yield keras.initializers.HeNormal(seed=None if seed is None else 1_000 * seed + layer)
