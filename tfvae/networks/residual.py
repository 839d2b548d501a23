"""Residual encoders and decoders, for series, images and volumes."""

from collections.abc import Iterable, Sequence
from typing import SupportsIndex

import keras
from keras import layers

from tfvae.networks.conv import dense_head, mirrored_decoder
from tfvae.networks.initial import initializers
from tfvae.networks.labels import Initializers, event_input
from tfvae.networks.sides import Halving, convolved, default_filters, doubled, halvings, sides_of


def residual_encoder(
    event_shape: Iterable[SupportsIndex],
    *,
    filters: Sequence[int] | None = None,
    blocks: int = 1,
    hidden: int = 256,
    activation: str = "silu",
    num_classes: int | None = None,
    seed: int | None = None,
) -> keras.Model:
    """Build residual blocks (He 2016, arXiv:1603.05027, without normalisation) between halvings.

    A block is two convolutions with kernels of 3 along each side, with the activation before each;
    the second starts at zero, so that each block starts as the identity and depth costs no
    stability.

    Args:
        event_shape: (T, C), (H, W, C) or (D, H, W, C).
        filters: channels of each halving; by default `default_filters`.
        blocks: residual blocks after each halving.
        hidden: features put out.
        activation: a Keras activation.
        num_classes: labels, for a network that takes one beside the event.
        seed: seed of the initial weights.

    Returns:
        A model from `[B, *event_shape]` to `[B, hidden]`.

    Raises:
        InputError: if the shape is none, or that of a vector.
    """
    sides = sides_of(event_shape, "residual")
    filters = tuple(filters or default_filters(event_shape))
    weights = initializers(seed)
    inputs, x = event_input(event_shape, num_classes, weights)
    for channels, halving in zip(filters, halvings(sides, len(filters)), strict=True):
        x = convolved(x, channels, next(weights), strides=halving.strides)
        for _ in range(blocks):
            x = residual_block(x, channels, activation, weights)
    x = layers.Activation(activation)(x)
    return dense_head(inputs, x, hidden, activation, weights, "residual_encoder")


def residual_decoder(
    event_shape: Iterable[SupportsIndex],
    latent_dim: int,
    *,
    filters: Sequence[int] | None = None,
    blocks: int = 1,
    hidden: int = 256,
    activation: str = "silu",
    num_classes: int | None = None,
    seed: int | None = None,
) -> keras.Model:
    """Build the mirror image of `residual_encoder`; blocks stand before each doubling.

    Args:
        event_shape: (T, C), (H, W, C) or (D, H, W, C).
        latent_dim: d.
        filters: channels as given to the encoder.
        blocks: residual blocks before each doubling.
        hidden: width of each of the two dense layers after z.
        activation: a Keras activation.
        num_classes: labels, for a network that takes one beside z.
        seed: seed of the initial weights.

    Returns:
        A model from `[B, d]` to `[B, *sides, filters[0]]`.

    Raises:
        InputError: if the shape is none, or that of a vector, or d is no whole number from 1.
    """
    weights = initializers(seed)

    def up(
        x: keras.KerasTensor, channels: int, halving: Halving, is_last: bool
    ) -> keras.KerasTensor:
        for _ in range(blocks):
            x = residual_block(x, x.shape[-1], activation, weights)
        return doubled(x, channels, activation, weights, halving)

    return mirrored_decoder(
        event_shape,
        latent_dim,
        num_classes=num_classes,
        filters=filters,
        hidden=hidden,
        activation=activation,
        weights=weights,
        up=up,
        name="residual",
    )


def residual_block(
    x: keras.KerasTensor, channels: int, activation: str, weights: Initializers
) -> keras.KerasTensor:
    """Add to `x`, `[B, *sides, channels]`, what two convolutions make of it."""
    branch = layers.Activation(activation)(x)
    branch = convolved(branch, channels, next(weights))
    branch = layers.Activation(activation)(branch)
    branch = convolved(branch, channels, "zeros")
    return layers.Add()([x, branch])
