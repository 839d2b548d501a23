"""Dense encoders and decoders, for events of any shape."""

from collections.abc import Iterable, Sequence
from typing import SupportsIndex

import keras
from keras import layers

from tfvae.networks.checks import check_event_shape
from tfvae.networks.initial import initializers
from tfvae.networks.labels import Initializers, event_input, latent_input


def dense_layers(
    x: keras.KerasTensor, widths: Iterable[int], activation: str, weights: Initializers
) -> keras.KerasTensor:
    """Put dense layers of these widths, one after the other, on a symbolic tensor."""
    for width in widths:
        x = layers.Dense(width, activation=activation, kernel_initializer=next(weights))(x)
    return x


def dense_encoder(
    event_shape: Iterable[SupportsIndex],
    *,
    hidden: Sequence[int] = (512, 256),
    activation: str = "silu",
    num_classes: int | None = None,
    seed: int | None = None,
) -> keras.Model:
    """Build dense layers on the flattened event.

    Args:
        event_shape: (D,), (T, C), (H, W, C) or (D, H, W, C).
        hidden: width of each layer.
        activation: a Keras activation.
        num_classes: labels, for a network that takes one beside the event.
        seed: seed of the initial weights.

    Returns:
        A model from `[B, *event_shape]` to `[B, hidden[-1]]`.

    Raises:
        InputError: if the shape is none.
    """
    weights = initializers(seed)
    inputs, x = event_input(event_shape, num_classes, weights)
    x = layers.Flatten()(x)
    x = dense_layers(x, hidden, activation, weights)
    return keras.Model(inputs, x, name="dense_encoder")


def dense_decoder(
    event_shape: Iterable[SupportsIndex],
    latent_dim: int,
    *,
    hidden: Sequence[int] = (512, 256),
    activation: str = "silu",
    num_classes: int | None = None,
    seed: int | None = None,
) -> keras.Model:
    """Build dense layers on z: the mirror image of `dense_encoder`.

    Args:
        event_shape: (D,), (T, C), (H, W, C) or (D, H, W, C); only checked, as the likelihood makes
            the values.
        latent_dim: d.
        hidden: widths as given to the encoder, from the event inwards.
        activation: a Keras activation.
        num_classes: labels, for a network that takes one beside z.
        seed: seed of the initial weights.

    Returns:
        A model from `[B, d]` to `[B, hidden[0]]`.

    Raises:
        InputError: if the shape is none, or d is no whole number from 1.
    """
    check_event_shape(event_shape)
    weights = initializers(seed)
    inputs, x = latent_input(latent_dim, num_classes)
    x = dense_layers(x, reversed(hidden), activation, weights)
    return keras.Model(inputs, x, name="dense_decoder")
