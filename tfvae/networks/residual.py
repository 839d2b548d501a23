"""Residual encoders and decoders."""

from collections.abc import Iterator, Sequence
from typing import Any

import keras
from keras import layers

from tfvae.networks.conv import default_filters, dense_head, doubled, mirrored_decoder
from tfvae.networks.initial import initializers
from tfvae.networks.labels import image_input


def residual_encoder(
    image_shape: Sequence[int],
    *,
    filters: Sequence[int] | None = None,
    blocks: int = 1,
    hidden: int = 256,
    activation: str = "silu",
    num_classes: int | None = None,
    seed: int | None = None,
) -> keras.Model:
    """Residual blocks (He 2016, arXiv:1603.05027, without normalisation) between the halvings.

    A block is two 3 x 3 convolutions with the activation before each; the second starts at zero,
    so that each block starts as the identity and depth costs no stability.

    Args:
        image_shape: (H, W, C).
        filters: channels of each halving; by default `default_filters`.
        blocks: residual blocks after each halving.
        hidden: features put out.
        activation: a Keras activation.
        num_classes: labels, for a network that takes one beside the image.
        seed: seed of the initial weights.

    Returns:
        A model from `[B, H, W, C]` to `[B, hidden]`.
    """
    weights = initializers(seed)
    inputs, x = image_input(image_shape, num_classes, weights)
    for channels in filters or default_filters(image_shape):
        x = layers.Conv2D(channels, 3, strides=2, padding="same", kernel_initializer=next(weights))(
            x
        )
        for _ in range(blocks):
            x = _residual_block(x, channels, activation, weights)
    x = layers.Activation(activation)(x)
    return dense_head(inputs, x, hidden, activation, weights, "residual_encoder")


def residual_decoder(
    image_shape: Sequence[int],
    latent_dim: int,
    *,
    filters: Sequence[int] | None = None,
    blocks: int = 1,
    hidden: int = 256,
    activation: str = "silu",
    num_classes: int | None = None,
    seed: int | None = None,
) -> keras.Model:
    """The mirror image of `residual_encoder`; blocks stand before each doubling.

    Args:
        image_shape: (H, W, C).
        latent_dim: d.
        filters: channels as given to the encoder.
        blocks: residual blocks before each doubling.
        hidden: width of each of the two dense layers after z.
        activation: a Keras activation.
        num_classes: labels, for a network that takes one beside z.
        seed: seed of the initial weights.

    Returns:
        A model from `[B, d]` to `[B, H, W, filters[0]]`.
    """
    weights = initializers(seed)

    def up(x: Any, channels: int, is_last: bool) -> Any:
        for _ in range(blocks):
            x = _residual_block(x, x.shape[-1], activation, weights)
        return doubled(x, channels, activation, weights)

    return mirrored_decoder(
        image_shape, latent_dim, num_classes, filters, hidden, activation, weights, up, "residual"
    )


def _residual_block(x: Any, channels: int, activation: str, weights: Iterator) -> Any:
    branch = layers.Activation(activation)(x)
    branch = layers.Conv2D(channels, 3, padding="same", kernel_initializer=next(weights))(branch)
    branch = layers.Activation(activation)(branch)
    branch = layers.Conv2D(channels, 3, padding="same", kernel_initializer="zeros")(branch)
    return layers.Add()([x, branch])
