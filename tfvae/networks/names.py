"""Names of networks: the pairs of encoder and decoder that a text stands for."""

from collections.abc import Callable, Sequence
from typing import Any

import keras

from tfvae.checks import checked_count, is_whole
from tfvae.distributions.family import resolve
from tfvae.errors import InputError
from tfvae.networks.checks import check_image_shape
from tfvae.networks.conv import conv_decoder, conv_encoder
from tfvae.networks.dense import dense_decoder, dense_encoder
from tfvae.networks.residual import residual_decoder, residual_encoder


class Network:
    """An encoder and the decoder that mirrors it, as a name with options means them.

    Args:
        **options: those of both functions.
    """

    make_encoder: Callable[..., keras.Model]
    make_decoder: Callable[..., keras.Model]

    def __init__(self, **options: Any):
        self.options = options

    def pair(
        self,
        image_shape: Sequence[int],
        latent_dim: int,
        *,
        num_classes: int | None = None,
        seed: int | None = None,
    ) -> tuple[keras.Model, keras.Model]:
        """Make both; see the function `pair`."""
        image_shape = check_image_shape(image_shape)
        decoder_seed = None if seed is None else seed + 1
        common = {"num_classes": num_classes, **self.options}
        return (
            self.make_encoder(image_shape, seed=seed, **common),
            self.make_decoder(image_shape, latent_dim, seed=decoder_seed, **common),
        )


class Convolutional(Network):
    """`conv_encoder` and `conv_decoder`, as in ``"conv:filters=16x64,hidden=256"``."""

    make_encoder = staticmethod(conv_encoder)
    make_decoder = staticmethod(conv_decoder)

    def __init__(self, filters: Any = None, hidden: int = 256, activation: str = "silu"):
        super().__init__(
            filters=None if filters is None else _checked_sizes("filters", filters),
            hidden=checked_count("hidden", hidden),
            activation=_checked_activation(activation),
        )


class Residual(Network):
    """`residual_encoder` and `residual_decoder`, as in ``"residual:filters=32x64,blocks=2"``."""

    make_encoder = staticmethod(residual_encoder)
    make_decoder = staticmethod(residual_decoder)

    def __init__(
        self, filters: Any = None, blocks: int = 1, hidden: int = 256, activation: str = "silu"
    ):
        super().__init__(
            filters=None if filters is None else _checked_sizes("filters", filters),
            blocks=checked_count("blocks", blocks, least=0),
            hidden=checked_count("hidden", hidden),
            activation=_checked_activation(activation),
        )


class Dense(Network):
    """`dense_encoder` and `dense_decoder`, as in ``"dense:hidden=200x200,activation=tanh"``."""

    make_encoder = staticmethod(dense_encoder)
    make_decoder = staticmethod(dense_decoder)

    def __init__(self, hidden: Any = (512, 256), activation: str = "silu"):
        super().__init__(
            hidden=_checked_sizes("hidden", hidden), activation=_checked_activation(activation)
        )


KNOWN: dict[str, type[Network]] = {
    "conv": Convolutional,
    "residual": Residual,
    "dense": Dense,
}


def pair(
    name: Any,
    image_shape: Sequence[int],
    latent_dim: int,
    *,
    num_classes: int | None = None,
    seed: int | None = None,
) -> tuple[keras.Model, keras.Model]:
    """Give an encoder and its decoder by name.

    Args:
        name: "conv", "residual" or "dense", with options of their functions where they are not to
            be the defaults: ``"residual:filters=32x64,blocks=2"``. Several numbers are written with
            an x between them. Or a `Network`.
        image_shape: (H, W, C).
        latent_dim: d.
        num_classes: labels, for networks that take one.
        seed: seed of the initial weights of both.

    Raises:
        InputError: if the name or an option is unknown, or an option or the shape does not fit.
    """
    network = resolve(name, Network, KNOWN, "network")
    return network.pair(image_shape, latent_dim, num_classes=num_classes, seed=seed)


def _checked_sizes(name: str, value: Any) -> tuple[int, ...]:
    """Read whole numbers from 1: one, several, or text such as "32x64"."""
    if isinstance(value, str):
        words = value.split("x")
        sizes = [int(word) if word.isdecimal() else 0 for word in words]
    else:
        sizes = list(value) if isinstance(value, Sequence) else [value]
    if not sizes or not all(is_whole(size, least=1) for size in sizes):
        raise InputError(
            f"{name} is a whole number from 1, or several as in 32x64; received {value!r}"
        )
    return tuple(sizes)


def _checked_activation(name: Any) -> Any:
    try:
        keras.activations.get(name)
    except ValueError:
        raise InputError(
            f"an activation is one of Keras, such as silu, relu or tanh; received {name!r}"
        ) from None
    return name
