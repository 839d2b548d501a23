"""Encoders to maps of vectors, and the decoders that mirror them: what codes are made of.

A map is `[B, *sides, C]`: some places in a row, on a plane or in a volume, each with a vector.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import SupportsIndex

import keras
from keras import layers

from tfvae.networks.dense import dense_layers
from tfvae.networks.initial import initializers
from tfvae.networks.labels import Initializers, event_input
from tfvae.networks.residual import residual_block
from tfvae.networks.sides import convolved, default_filters, doubled, halvings, sides_of
from tfvae.typing import Shape

# What is done to features between halvings: given these, their channels and initial weights.
Between = Callable[[keras.KerasTensor, int, Initializers], keras.KerasTensor]


def residual_blocks(blocks: int, activation: str) -> Between:
    """Return what stands between the halvings of a residual network."""

    def between(x: keras.KerasTensor, channels: int, weights: Initializers) -> keras.KerasTensor:
        for _ in range(blocks):
            x = residual_block(x, channels, activation, weights)
        return x

    return between


def one_convolution(activation: str) -> Between:
    """Return what stands between the last halving of a convolutional network and its map."""

    def between(x: keras.KerasTensor, channels: int, weights: Initializers) -> keras.KerasTensor:
        return convolved(x, channels, next(weights), activation=activation)

    return between


def map_encoder(
    event_shape: Iterable[SupportsIndex],
    *,
    between: Between,
    filters: Sequence[int] | None = None,
    activation: str = "silu",
    num_classes: int | None = None,
    seed: int | None = None,
) -> keras.Model:
    """Build strided convolutions to a map.

    Args:
        event_shape: (T, C), (H, W, C) or (D, H, W, C).
        between: what is done to the features at the sides of the map.
        filters: channels of each halving; by default `default_filters`.
        activation: a Keras activation.
        num_classes: labels, for a network that takes one beside the event.
        seed: seed of the initial weights.

    Returns:
        A model from `[B, *event_shape]` to `[B, *smallest, filters[-1]]`.

    Raises:
        InputError: if the shape is none, or that of a vector.
    """
    sides = sides_of(event_shape, "conv")
    filters = tuple(filters or default_filters(event_shape))
    weights = initializers(seed)
    inputs, x = event_input(event_shape, num_classes, weights)
    for channels, halving in zip(filters, halvings(sides, len(filters)), strict=True):
        x = convolved(x, channels, next(weights), strides=halving.strides, activation=activation)
    return keras.Model(inputs, between(x, filters[-1], weights), name="map_encoder")


def map_decoder(
    event_shape: Iterable[SupportsIndex],
    code_dim: int,
    *,
    between: Between,
    filters: Sequence[int] | None = None,
    activation: str = "silu",
    last_activation: str = "leaky_relu",
    num_classes: int | None = None,
    seed: int | None = None,
) -> keras.Model:
    """Build transposed convolutions from a map: the mirror image of `map_encoder`.

    Args:
        event_shape: (T, C), (H, W, C) or (D, H, W, C).
        code_dim: C of the map.
        between: what is done to the features at the sides of the map.
        filters: channels as given to the encoder, from the event inwards.
        activation: a Keras activation.
        last_activation: that of the features put out.
        num_classes: labels, for a network that takes one beside the map.
        seed: seed of the initial weights.

    Returns:
        A model from `[B, *smallest, code_dim]` to `[B, *sides, filters[0]]`.

    Raises:
        InputError: if the shape is none, or that of a vector.
    """
    sides = sides_of(event_shape, "conv")
    filters = tuple(filters or default_filters(event_shape))
    weights = initializers(seed)
    stages = halvings(sides, len(filters))
    inputs, x = event_input((*stages[-1].after, code_dim), num_classes, weights)
    x = convolved(x, filters[-1], next(weights), activation=activation)
    x = between(x, filters[-1], weights)
    channels = (filters[0], *filters[:-1])
    for stage in reversed(range(len(filters))):
        chosen = activation if stage else last_activation
        x = doubled(x, channels[stage], chosen, weights, stages[stage])
    return keras.Model(inputs, x, name="map_decoder")


def dense_map_encoder(
    event_shape: Iterable[SupportsIndex],
    places: int,
    *,
    hidden: Sequence[int] = (512, 256),
    activation: str = "silu",
    num_classes: int | None = None,
    seed: int | None = None,
) -> keras.Model:
    """Build dense layers on the flattened event, the last one of several places.

    Args:
        event_shape: (D,), (T, C), (H, W, C) or (D, H, W, C).
        places: of the map.
        hidden: width of each layer.
        activation: a Keras activation.
        num_classes: labels, for a network that takes one beside the event.
        seed: seed of the initial weights.

    Returns:
        A model from `[B, *event_shape]` to `[B, places, F]`.

    Raises:
        InputError: if the shape is none.
    """
    weights = initializers(seed)
    inputs, x = event_input(event_shape, num_classes, weights)
    x = layers.Flatten()(x)
    x = dense_layers(x, hidden, activation, weights)
    width = max(8, math.ceil(hidden[-1] / places))
    x = layers.Dense(places * width, activation=activation, kernel_initializer=next(weights))(x)
    return keras.Model(inputs, layers.Reshape((places, width))(x), name="dense_map_encoder")


def dense_map_decoder(
    map_shape: Shape,
    *,
    hidden: Sequence[int] = (512, 256),
    activation: str = "silu",
    num_classes: int | None = None,
    seed: int | None = None,
) -> keras.Model:
    """Build dense layers on a flattened map.

    Args:
        map_shape: (places, C).
        hidden: widths as given to the encoder, from the event inwards.
        activation: a Keras activation.
        num_classes: labels, for a network that takes one beside the map.
        seed: seed of the initial weights.

    Returns:
        A model from `[B, places, C]` to `[B, hidden[0]]`.
    """
    weights = initializers(seed)
    inputs, x = event_input(map_shape, num_classes, weights)
    x = layers.Flatten()(x)
    x = dense_layers(x, reversed(hidden), activation, weights)
    return keras.Model(inputs, x, name="dense_map_decoder")
