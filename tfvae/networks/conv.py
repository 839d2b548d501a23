"""Convolutional encoders and decoders, for series, images and volumes."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import SupportsIndex

import keras
from keras import layers

from tfvae.networks.initial import initializers
from tfvae.networks.labels import Initializers, Inputs, event_input, latent_input
from tfvae.networks.sides import Halving, convolved, default_filters, doubled, halvings, sides_of


def conv_encoder(
    event_shape: Iterable[SupportsIndex],
    *,
    filters: Sequence[int] | None = None,
    hidden: int = 256,
    activation: str = "silu",
    num_classes: int | None = None,
    seed: int | None = None,
) -> keras.Model:
    """Build strided convolutions with kernels of 3 along each side, then a dense layer.

    Args:
        event_shape: (T, C), (H, W, C) or (D, H, W, C).
        filters: channels of each convolution; each halves the sides. By default `default_filters`.
        hidden: features put out.
        activation: a Keras activation.
        num_classes: labels, for a network that takes one beside the event.
        seed: seed of the initial weights.

    Returns:
        A model from `[B, *event_shape]` to `[B, hidden]`.

    Raises:
        InputError: if the shape is none, or that of a vector.
    """
    sides = sides_of(event_shape, "conv")
    filters = tuple(filters or default_filters(event_shape))
    weights = initializers(seed)
    inputs, x = event_input(event_shape, num_classes, weights)
    for channels, halving in zip(filters, halvings(sides, len(filters)), strict=True):
        x = convolved(x, channels, next(weights), strides=halving.strides, activation=activation)
    return dense_head(inputs, x, hidden, activation, weights, "conv_encoder")


def conv_decoder(
    event_shape: Iterable[SupportsIndex],
    latent_dim: int,
    *,
    filters: Sequence[int] | None = None,
    hidden: int = 256,
    activation: str = "silu",
    last_activation: str = "leaky_relu",
    num_classes: int | None = None,
    seed: int | None = None,
) -> keras.Model:
    """Build dense layers, then transposed convolutions: the mirror image of `conv_encoder`.

    Per nat, width after z is the cheapest thing a processor can buy: on MNIST the second of the
    dense layers costs no time and gains about half a nat. At full size an activation costs as much
    as a convolution: a silu's gradient alone is six passes over the features, a leaky ReLU's one,
    and the ELBO is the same.

    Args:
        event_shape: (T, C), (H, W, C) or (D, H, W, C).
        latent_dim: d.
        filters: channels as given to the encoder, from the event inwards; the features put out
            have as many channels as the first.
        hidden: width of each of the two dense layers after z.
        activation: a Keras activation.
        last_activation: that of the features put out.
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
        return doubled(x, channels, last_activation if is_last else activation, weights, halving)

    return mirrored_decoder(
        event_shape,
        latent_dim,
        num_classes=num_classes,
        filters=filters,
        hidden=hidden,
        activation=activation,
        weights=weights,
        up=up,
        name="conv",
    )


def dense_head(
    inputs: Inputs,
    x: keras.KerasTensor,
    hidden: int,
    activation: str,
    weights: Initializers,
    name: str,
) -> keras.Model:
    """Build an encoder of these inputs whose last layer, on the flattened `x`, is dense."""
    x = layers.Flatten()(x)
    x = layers.Dense(hidden, activation=activation, kernel_initializer=next(weights))(x)
    return keras.Model(inputs, x, name=name)


def mirrored_decoder(
    event_shape: Iterable[SupportsIndex],
    latent_dim: int,
    *,
    num_classes: int | None,
    filters: Sequence[int] | None,
    hidden: int,
    activation: str,
    weights: Initializers,
    up: Callable[[keras.KerasTensor, int, Halving, bool], keras.KerasTensor],
    name: str,
) -> keras.Model:
    """Build dense layers to the smallest sides, then `up` for each halving of the encoder.

    Args:
        event_shape: (T, C), (H, W, C) or (D, H, W, C).
        latent_dim: d.
        num_classes: labels, for a network that takes one beside z.
        filters: channels as given to the encoder; None for `default_filters`.
        hidden: width of each of the two dense layers after z.
        activation: a Keras activation, of the dense layers.
        weights: initial weights of the layers.
        up: undoes a halving, given the features, the channels to put out, the halving, and whether
            it is the last one to undo.
        name: name of the network.

    Returns:
        A model from `[B, d]` to `[B, *sides, filters[0]]`.
    """
    sides = sides_of(event_shape, name)
    filters = tuple(filters or default_filters(event_shape))
    stages = halvings(sides, len(filters))
    smallest = stages[-1].after

    inputs, x = latent_input(latent_dim, num_classes)
    for _ in range(2):
        x = layers.Dense(hidden, activation=activation, kernel_initializer=next(weights))(x)
    x = layers.Dense(
        math.prod(smallest) * filters[-1],
        activation=activation,
        kernel_initializer=next(weights),
    )(x)
    x = layers.Reshape((*smallest, filters[-1]))(x)
    # The mirror image: each doubling goes to the channels of the stage above it.
    channels = (filters[0], *filters[:-1])
    for stage in reversed(range(len(filters))):
        x = up(x, channels[stage], stages[stage], stage == 0)
    return keras.Model(inputs, x, name=f"{name}_decoder")
