"""Names of networks: the pairs of encoder and decoder that a text stands for."""

import abc
from collections.abc import Iterable, Sequence
from typing import SupportsIndex, TypeAlias

import keras

from tfvae.checks import MOST_UNITS, checked_count, checked_flag, is_whole
from tfvae.distributions.family import resolve
from tfvae.errors import InputError
from tfvae.networks import maps
from tfvae.networks.checks import check_event_shape, check_seed
from tfvae.networks.conv import conv_decoder, conv_encoder
from tfvae.networks.dense import dense_decoder, dense_encoder
from tfvae.networks.residual import residual_decoder, residual_encoder
from tfvae.typing import Shape

# Whole numbers as an option of a name gives them: one, several, or text such as "32x64".
Sizes: TypeAlias = str | int | Sequence[int]


class Network(abc.ABC):
    """An encoder and the decoder that mirrors it, as a name with options means them."""

    @abc.abstractmethod
    def make_encoder(
        self, event_shape: Shape, *, num_classes: int | None = None, seed: int | None = None
    ) -> keras.Model:
        """Build a model from `[B, *event_shape]` to features."""

    @abc.abstractmethod
    def make_decoder(
        self,
        event_shape: Shape,
        latent_dim: int,
        *,
        num_classes: int | None = None,
        seed: int | None = None,
    ) -> keras.Model:
        """Build a model from `[B, d]` to features."""

    def make_map_encoder(
        self, event_shape: Shape, *, num_classes: int | None = None, seed: int | None = None
    ) -> keras.Model:
        """Build a model from `[B, *event_shape]` to a map of features `[B, *sides, F]`.

        Raises:
            InputError: if the network has none.
        """
        raise InputError(f"{type(self).__name__} has no encoder to a map: define make_map_encoder")

    def make_map_decoder(
        self,
        event_shape: Shape,
        code_dim: int,
        *,
        num_classes: int | None = None,
        seed: int | None = None,
    ) -> keras.Model:
        """Build a model from a map `[B, *sides, C]` to features.

        Raises:
            InputError: if the network has none.
        """
        raise InputError(f"{type(self).__name__} has no decoder of a map: define make_map_decoder")

    def pair(
        self,
        event_shape: Iterable[SupportsIndex],
        latent_dim: int,
        *,
        num_classes: int | None = None,
        missing: bool = False,
        encoded_channels: int | None = None,
        seed: int | None = None,
        maps: bool = False,
    ) -> tuple[keras.Model, keras.Model]:
        """Build both; see the function `pair`."""
        shape = check_event_shape(event_shape)
        channels = shape[-1] if encoded_channels is None else encoded_channels
        seen = (*shape[:-1], channels + shape[-1] if missing else channels)
        seed = check_seed(seed)
        decoder_seed = None if seed is None else seed + 1
        encoder = self.make_map_encoder if maps else self.make_encoder
        decoder = self.make_map_decoder if maps else self.make_decoder
        return (
            encoder(seen, num_classes=num_classes, seed=seed),
            decoder(shape, latent_dim, num_classes=num_classes, seed=decoder_seed),
        )


class Convolutional(Network):
    """`conv_encoder` and `conv_decoder`, as in ``"conv:filters=16x64,hidden=256"``.

    Args:
        filters: channels of each halving; None for `default_filters`.
        hidden: width of the dense layers.
        activation: a Keras activation.

    Raises:
        InputError: if an option is none of these.
    """

    def __init__(
        self, filters: Sizes | None = None, hidden: int = 256, activation: str = "silu"
    ) -> None:
        self.filters = None if filters is None else checked_sizes("filters", filters)
        self.hidden = checked_count("hidden", hidden, most=MOST_UNITS)
        self.activation = checked_activation(activation)

    def make_encoder(
        self, event_shape: Shape, *, num_classes: int | None = None, seed: int | None = None
    ) -> keras.Model:
        """Build a model from `[B, *event_shape]` to `[B, hidden]`."""
        return conv_encoder(
            event_shape,
            filters=self.filters,
            hidden=self.hidden,
            activation=self.activation,
            num_classes=num_classes,
            seed=seed,
        )

    def make_decoder(
        self,
        event_shape: Shape,
        latent_dim: int,
        *,
        num_classes: int | None = None,
        seed: int | None = None,
    ) -> keras.Model:
        """Build a model from `[B, d]` to `[B, *sides, filters[0]]`."""
        return conv_decoder(
            event_shape,
            latent_dim,
            filters=self.filters,
            hidden=self.hidden,
            activation=self.activation,
            num_classes=num_classes,
            seed=seed,
        )

    @property
    def _between(self) -> maps.Between:
        return maps.one_convolution(self.activation)

    def make_map_encoder(
        self, event_shape: Shape, *, num_classes: int | None = None, seed: int | None = None
    ) -> keras.Model:
        """Build a model from `[B, *event_shape]` to a map `[B, *smallest, filters[-1]]`."""
        return maps.map_encoder(
            event_shape,
            between=self._between,
            filters=self.filters,
            activation=self.activation,
            num_classes=num_classes,
            seed=seed,
        )

    def make_map_decoder(
        self,
        event_shape: Shape,
        code_dim: int,
        *,
        num_classes: int | None = None,
        seed: int | None = None,
    ) -> keras.Model:
        """Build a model from a map `[B, *smallest, C]` to `[B, *sides, filters[0]]`."""
        return maps.map_decoder(
            event_shape,
            code_dim,
            between=self._between,
            filters=self.filters,
            activation=self.activation,
            num_classes=num_classes,
            seed=seed,
        )


class Residual(Network):
    """`residual_encoder` and `residual_decoder`, as in ``"residual:filters=32x64,blocks=2"``.

    Args:
        filters: channels of each halving; None for `default_filters`.
        blocks: residual blocks a halving.
        hidden: width of the dense layers.
        activation: a Keras activation.

    Raises:
        InputError: if an option is none of these.
    """

    def __init__(
        self,
        filters: Sizes | None = None,
        blocks: int = 1,
        hidden: int = 256,
        activation: str = "silu",
    ) -> None:
        self.filters = None if filters is None else checked_sizes("filters", filters)
        self.blocks = checked_count("blocks", blocks, least=0, most=1000)
        self.hidden = checked_count("hidden", hidden, most=MOST_UNITS)
        self.activation = checked_activation(activation)

    def make_encoder(
        self, event_shape: Shape, *, num_classes: int | None = None, seed: int | None = None
    ) -> keras.Model:
        """Build a model from `[B, *event_shape]` to `[B, hidden]`."""
        return residual_encoder(
            event_shape,
            filters=self.filters,
            blocks=self.blocks,
            hidden=self.hidden,
            activation=self.activation,
            num_classes=num_classes,
            seed=seed,
        )

    def make_decoder(
        self,
        event_shape: Shape,
        latent_dim: int,
        *,
        num_classes: int | None = None,
        seed: int | None = None,
    ) -> keras.Model:
        """Build a model from `[B, d]` to `[B, *sides, filters[0]]`."""
        return residual_decoder(
            event_shape,
            latent_dim,
            filters=self.filters,
            blocks=self.blocks,
            hidden=self.hidden,
            activation=self.activation,
            num_classes=num_classes,
            seed=seed,
        )

    @property
    def _between(self) -> maps.Between:
        return maps.residual_blocks(self.blocks, self.activation)

    def make_map_encoder(
        self, event_shape: Shape, *, num_classes: int | None = None, seed: int | None = None
    ) -> keras.Model:
        """Build a model from `[B, *event_shape]` to a map `[B, *smallest, filters[-1]]`."""
        return maps.map_encoder(
            event_shape,
            between=self._between,
            filters=self.filters,
            activation=self.activation,
            num_classes=num_classes,
            seed=seed,
        )

    def make_map_decoder(
        self,
        event_shape: Shape,
        code_dim: int,
        *,
        num_classes: int | None = None,
        seed: int | None = None,
    ) -> keras.Model:
        """Build a model from a map `[B, *smallest, C]` to `[B, *sides, filters[0]]`."""
        return maps.map_decoder(
            event_shape,
            code_dim,
            between=self._between,
            filters=self.filters,
            activation=self.activation,
            num_classes=num_classes,
            seed=seed,
        )


class Dense(Network):
    """`dense_encoder` and `dense_decoder`, as in ``"dense:hidden=200x200,activation=tanh"``.

    Args:
        hidden: widths, from the event inwards.
        activation: a Keras activation.
        places: of a map of codes; see `tfvae.VQVAE`.

    Raises:
        InputError: if an option is none of these.
    """

    def __init__(
        self, hidden: Sizes = (512, 256), activation: str = "silu", places: int = 8
    ) -> None:
        self.hidden = checked_sizes("hidden", hidden)
        self.activation = checked_activation(activation)
        self.places = checked_count("places", places, most=MOST_UNITS)

    def make_encoder(
        self, event_shape: Shape, *, num_classes: int | None = None, seed: int | None = None
    ) -> keras.Model:
        """Build a model from `[B, *event_shape]` to `[B, hidden[-1]]`."""
        return dense_encoder(
            event_shape,
            hidden=self.hidden,
            activation=self.activation,
            num_classes=num_classes,
            seed=seed,
        )

    def make_decoder(
        self,
        event_shape: Shape,
        latent_dim: int,
        *,
        num_classes: int | None = None,
        seed: int | None = None,
    ) -> keras.Model:
        """Build a model from `[B, d]` to `[B, hidden[0]]`."""
        return dense_decoder(
            event_shape,
            latent_dim,
            hidden=self.hidden,
            activation=self.activation,
            num_classes=num_classes,
            seed=seed,
        )

    def make_map_encoder(
        self, event_shape: Shape, *, num_classes: int | None = None, seed: int | None = None
    ) -> keras.Model:
        """Build a model from `[B, *event_shape]` to a map `[B, places, F]`."""
        return maps.dense_map_encoder(
            event_shape,
            self.places,
            hidden=self.hidden,
            activation=self.activation,
            num_classes=num_classes,
            seed=seed,
        )

    def make_map_decoder(
        self,
        event_shape: Shape,
        code_dim: int,
        *,
        num_classes: int | None = None,
        seed: int | None = None,
    ) -> keras.Model:
        """Build a model from a map `[B, places, C]` to `[B, hidden[0]]`."""
        return maps.dense_map_decoder(
            (self.places, code_dim),
            hidden=self.hidden,
            activation=self.activation,
            num_classes=num_classes,
            seed=seed,
        )


BY_NAME: dict[str, type[Network]] = {
    "conv": Convolutional,
    "residual": Residual,
    "dense": Dense,
}


def pair(
    name: str | Network | None,
    event_shape: Iterable[SupportsIndex],
    latent_dim: int,
    *,
    num_classes: int | None = None,
    missing: bool = False,
    encoded_channels: int | None = None,
    seed: int | None = None,
    maps: bool = False,
) -> tuple[keras.Model, keras.Model]:
    """Build an encoder and its decoder by name.

    Args:
        name: "conv", "residual" or "dense", with options of their functions where they are not to
            be the defaults: ``"residual:filters=32x64,blocks=2"``. Several numbers are written with
            an x between them. Or a `Network`. None for "dense" on vectors and "conv" on all else.
        event_shape: (D,), (T, C), (H, W, C) or (D, H, W, C). Vectors are for "dense" alone.
        latent_dim: d.
        num_classes: labels, for networks that take one.
        missing: whether values may be missing. The encoder then takes the last axis twice as long:
            the values, and behind them 1 where one was observed and 0 where not.
        encoded_channels: how long the last axis is of what the encoder takes in place of the
            values, where that is something else; see `tfvae.likelihoods.Likelihood.encoding`.
        seed: seed of the initial weights of both.
        maps: whether the encoder puts out a map of features `[B, *sides, F]`, and the decoder takes
            one, `[B, *sides, latent_dim]`, in place of vectors.

    Returns:
        The encoder, from `[B, *event_shape]`, or `[B, …, 2 C]` where values may be missing, and the
        decoder, from `[B, d]`. Both put out features. With `num_classes` each takes a list of that
        and a one-hot label `[B, num_classes]`.

    Raises:
        InputError: if the name or an option is unknown, or an option, the shape or another argument
            does not fit.
    """
    shape = check_event_shape(event_shape)
    checked_flag("missing", missing)
    if name is None:
        name = "dense" if len(shape) == 1 else "conv"
    network: Network = resolve(name, Network, BY_NAME, "network")
    return network.pair(
        shape,
        latent_dim,
        num_classes=num_classes,
        missing=missing,
        encoded_channels=encoded_channels,
        seed=seed,
        maps=maps,
    )


def checked_sizes(name: str, value: Sizes) -> tuple[int, ...]:
    """Read whole numbers from 1: one, several, or text such as "32x64"."""
    if isinstance(value, str):
        # A number of thousands of digits is none to Python.
        words = value.split("x")
        sizes = [int(word) if word.isdecimal() and len(word) < 20 else 0 for word in words]
    else:
        sizes = list(value) if isinstance(value, Iterable) else [value]
    if not sizes or not all(is_whole(size, least=1) and size <= MOST_UNITS for size in sizes):
        raise InputError(
            f"{name} is a whole number from 1 to {MOST_UNITS}, or several as in 32x64; received "
            f"{str(value)[:80]!r}"
        )
    return tuple(map(int, sizes))


def checked_activation(name: str) -> str:
    """Return the name of an activation of Keras.

    Raises:
        InputError: if it is none.
    """
    try:
        keras.activations.get(name)
    except ValueError:
        raise InputError(
            f"an activation is one of Keras, such as silu, relu or tanh; received {name!r}"
        ) from None
    return name
