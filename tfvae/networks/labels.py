"""The inputs of networks, and how labels enter.

An encoder sees a label as one more channel, a learned picture of the label with the event's sides.
A vector has no sides: there the label's one-hot vector is joined to it. A decoder sees the one-hot
vector as more dimensions of z.
"""

import math
from collections.abc import Iterable, Iterator
from typing import SupportsIndex, TypeAlias

import keras
from keras import layers

from tfvae.networks.checks import check_event_shape, check_latent_dim, check_num_classes

Initializers: TypeAlias = "Iterator[keras.initializers.Initializer]"
# What `keras.Model` takes as its inputs: one, or that and the label.
Inputs: TypeAlias = "keras.KerasTensor | list[keras.KerasTensor]"


def event_input(
    event_shape: Iterable[SupportsIndex], num_classes: int | None, weights: Initializers
) -> tuple[Inputs, keras.KerasTensor]:
    """Build the inputs of an encoder.

    Args:
        event_shape: (D,), (T, C), (H, W, C) or (D, H, W, C).
        num_classes: labels; None for an encoder that takes none.
        weights: initial weights of the layers.

    Returns:
        The inputs, and the event `[B, *sides, C]` with what the label adds to its last axis.

    Raises:
        InputError: if the shape or the number of classes is none.
    """
    shape = check_event_shape(event_shape)
    # Trained models of images have the name in their files.
    x = keras.Input(shape, name="image" if len(shape) == 3 else "x")
    num_classes = check_num_classes(num_classes)
    if num_classes is None:
        return x, x
    label = keras.Input((num_classes,), name="label")
    sides = shape[:-1]
    if not sides:
        return [x, label], layers.Concatenate()([x, label])
    channel = layers.Dense(math.prod(sides), use_bias=False, kernel_initializer=next(weights))(
        label
    )
    channel = layers.Reshape((*sides, 1))(channel)
    return [x, label], layers.Concatenate()([x, channel])


def latent_input(latent_dim: int, num_classes: int | None) -> tuple[Inputs, keras.KerasTensor]:
    """Build the inputs of a decoder.

    Args:
        latent_dim: d.
        num_classes: labels; None for a decoder that takes none.

    Returns:
        The inputs, and z with the one-hot label behind it, `[B, d + num_classes]`.

    Raises:
        InputError: if one of the numbers is no whole number from 1.
    """
    z = keras.Input((check_latent_dim(latent_dim),), name="z")
    num_classes = check_num_classes(num_classes)
    if num_classes is None:
        return z, z
    label = keras.Input((num_classes,), name="label")
    return [z, label], layers.Concatenate()([z, label])
