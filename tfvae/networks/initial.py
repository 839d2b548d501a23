"""The initial weights of networks."""

import itertools
from collections.abc import Iterator

import keras

from tfvae.checks import is_whole
from tfvae.errors import InputError


def initializers(seed: int | None) -> Iterator[keras.initializers.Initializer]:
    """Yield one initializer a layer: with the same seed, layers of equal shape would start equal.

    Raises:
        InputError: if the seed is neither None nor a whole number from 0.
    """
    if seed is not None and not is_whole(seed, least=0):
        raise InputError(f"seed is a whole number from 0, or None; received {seed!r}")
    for layer in itertools.count():
        yield keras.initializers.HeNormal(seed=None if seed is None else 1_000 * int(seed) + layer)
