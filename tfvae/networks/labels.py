"""The inputs of networks, and how labels enter."""

from collections.abc import Iterator
from typing import Any

import keras
from keras import layers

from tfvae.networks.checks import check_image_shape, check_latent_dim, check_num_classes


def image_input(image_shape: Any, num_classes: int | None, weights: Iterator) -> tuple[Any, Any]:
    """Give an encoder's inputs, and the image with the label as one more channel."""
    height, width, channels = check_image_shape(image_shape)
    image = keras.Input((height, width, channels), name="image")
    num_classes = check_num_classes(num_classes)
    if num_classes is None:
        return image, image
    label = keras.Input((num_classes,), name="label")
    plane = layers.Dense(height * width, use_bias=False, kernel_initializer=next(weights))(label)
    plane = layers.Reshape((height, width, 1))(plane)
    return [image, label], layers.Concatenate()([image, plane])


def latent_input(latent_dim: int, num_classes: int | None) -> tuple[Any, Any]:
    """Give a decoder's inputs, and z with the label as more dimensions."""
    z = keras.Input((check_latent_dim(latent_dim),), name="z")
    num_classes = check_num_classes(num_classes)
    if num_classes is None:
        return z, z
    label = keras.Input((num_classes,), name="label")
    return [z, label], layers.Concatenate()([z, label])
