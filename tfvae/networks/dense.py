"""Dense encoders and decoders."""

from collections.abc import Sequence

import keras
from keras import layers

from tfvae.networks.checks import check_image_shape
from tfvae.networks.initial import initializers
from tfvae.networks.labels import image_input, latent_input


def dense_encoder(
    image_shape: Sequence[int],
    *,
    hidden: Sequence[int] = (512, 256),
    activation: str = "silu",
    num_classes: int | None = None,
    seed: int | None = None,
) -> keras.Model:
    """Dense layers on the flattened image.

    Args:
        image_shape: (H, W, C).
        hidden: width of each layer.
        activation: a Keras activation.
        num_classes: labels, for a network that takes one beside the image.
        seed: seed of the initial weights.

    Returns:
        A model from `[B, H, W, C]` to `[B, hidden[-1]]`.
    """
    weights = initializers(seed)
    inputs, x = image_input(image_shape, num_classes, weights)
    x = layers.Flatten()(x)
    for width in hidden:
        x = layers.Dense(width, activation=activation, kernel_initializer=next(weights))(x)
    return keras.Model(inputs, x, name="dense_encoder")


def dense_decoder(
    image_shape: Sequence[int],
    latent_dim: int,
    *,
    hidden: Sequence[int] = (512, 256),
    activation: str = "silu",
    num_classes: int | None = None,
    seed: int | None = None,
) -> keras.Model:
    """Dense layers on z: the mirror image of `dense_encoder`.

    Args:
        image_shape: (H, W, C); only checked, as the likelihood makes the pixels.
        latent_dim: d.
        hidden: widths as given to the encoder, from the image inwards.
        activation: a Keras activation.
        num_classes: labels, for a network that takes one beside z.
        seed: seed of the initial weights.

    Returns:
        A model from `[B, d]` to `[B, hidden[0]]`.
    """
    check_image_shape(image_shape)
    weights = initializers(seed)
    inputs, x = latent_input(latent_dim, num_classes)
    for width in reversed(hidden):
        x = layers.Dense(width, activation=activation, kernel_initializer=next(weights))(x)
    return keras.Model(inputs, x, name="dense_decoder")
