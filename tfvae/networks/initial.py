"""The initial weights of networks."""

import itertools
from collections.abc import Iterator

import keras


def initializers(seed: int | None) -> Iterator[keras.initializers.Initializer]:
    """One initializer a layer: with the same seed, layers of equal shape would start equal."""
    for layer in itertools.count():
        yield keras.initializers.HeNormal(seed=None if seed is None else 1_000 * seed + layer)
