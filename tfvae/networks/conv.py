"""Convolutional encoders and decoders."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
from keras import layers

from tfvae.networks.checks import check_image_shape
from tfvae.networks.initial import initializers
from tfvae.networks.labels import image_input, latent_input

# Halve no further than to this many pixels on the shorter side.
_SMALLEST_SIDE = 5
# Few channels first: those layers see the most pixels, and the decoder's last one all of them.
_FILTERS = (16, 64, 128)


def default_filters(image_shape: Sequence[int]) -> tuple[int, ...]:
    """Give the channels of each halving: 16, 64, 128, 128 …, until 5 to 8 pixels are left.

    A smaller image is halved once all the same.
    """
    height, width, _ = check_image_shape(image_shape)
    side, filters = -(-min(height, width) // 2), [_FILTERS[0]]
    while (side := -(-side // 2)) >= _SMALLEST_SIDE:
        filters.append(_FILTERS[min(len(filters), len(_FILTERS) - 1)])
    return tuple(filters)


def conv_encoder(
    image_shape: Sequence[int],
    *,
    filters: Sequence[int] | None = None,
    hidden: int = 256,
    activation: str = "silu",
    num_classes: int | None = None,
    seed: int | None = None,
) -> keras.Model:
    """Strided 3 x 3 convolutions, then a dense layer.

    Args:
        image_shape: (H, W, C).
        filters: channels of each convolution; each halves height and width. By default
            `default_filters`.
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
        x = layers.Conv2D(
            channels,
            3,
            strides=2,
            padding="same",
            activation=activation,
            kernel_initializer=next(weights),
        )(x)
    return dense_head(inputs, x, hidden, activation, weights, "conv_encoder")


def conv_decoder(
    image_shape: Sequence[int],
    latent_dim: int,
    *,
    filters: Sequence[int] | None = None,
    hidden: int = 256,
    activation: str = "silu",
    last_activation: str = "leaky_relu",
    num_classes: int | None = None,
    seed: int | None = None,
) -> keras.Model:
    """Dense layers, then transposed 3 x 3 convolutions: the mirror image of `conv_encoder`.

    Per nat, width after z is the cheapest thing a processor can buy: on MNIST the second of the
    dense layers costs no time and gains about half a nat. At full size an activation costs as much
    as a convolution: a silu's gradient alone is six passes over the features, a leaky ReLU's one,
    and the ELBO is the same.

    Args:
        image_shape: (H, W, C).
        latent_dim: d.
        filters: channels as given to the encoder, from the image inwards; the features put out
            have as many channels as the first.
        hidden: width of each of the two dense layers after z.
        activation: a Keras activation.
        last_activation: that of the features put out.
        num_classes: labels, for a network that takes one beside z.
        seed: seed of the initial weights.

    Returns:
        A model from `[B, d]` to `[B, H, W, filters[0]]`.
    """
    weights = initializers(seed)

    def up(x: Any, channels: int, is_last: bool) -> Any:
        return doubled(x, channels, last_activation if is_last else activation, weights)

    return mirrored_decoder(
        image_shape, latent_dim, num_classes, filters, hidden, activation, weights, up, "conv"
    )


def dense_head(
    inputs: Any, x: Any, hidden: int, activation: str, weights: Iterator, name: str
) -> keras.Model:
    """Build an encoder whose last layer is dense."""
    x = layers.Flatten()(x)
    x = layers.Dense(hidden, activation=activation, kernel_initializer=next(weights))(x)
    return keras.Model(inputs, x, name=name)


def mirrored_decoder(
    image_shape: Sequence[int],
    latent_dim: int,
    num_classes: int | None,
    filters: Sequence[int] | None,
    hidden: int,
    activation: str,
    weights: Iterator,
    up: Callable[[Any, int, bool], Any],
    name: str,
) -> keras.Model:
    """Dense layers to the smallest image, then `up` and a crop for each doubling."""
    height, width, _ = check_image_shape(image_shape)
    filters = tuple(filters or default_filters(image_shape))
    sizes = [(height, width)]
    for _ in filters:
        height, width = -(-height // 2), -(-width // 2)
        sizes.append((height, width))

    inputs, x = latent_input(latent_dim, num_classes)
    for _ in range(2):
        x = layers.Dense(hidden, activation=activation, kernel_initializer=next(weights))(x)
    x = layers.Dense(
        height * width * filters[-1],
        activation=activation,
        kernel_initializer=next(weights),
    )(x)
    x = layers.Reshape((height, width, filters[-1]))(x)
    # The mirror image: each doubling goes to the channels of the stage above it.
    channels = (filters[0], *filters[:-1])
    for stage in reversed(range(len(filters))):
        x = up(x, channels[stage], stage == 0)
        (full_height, full_width), (half_height, half_width) = sizes[stage : stage + 2]
        surplus = 2 * half_height - full_height, 2 * half_width - full_width
        if any(surplus):
            x = layers.Cropping2D(((0, surplus[0]), (0, surplus[1])))(x)
    return keras.Model(inputs, x, name=f"{name}_decoder")


def doubled(x: Any, channels: int, activation: str, weights: Iterator) -> Any:
    """Apply a transposed convolution that doubles height and width."""
    return layers.Conv2DTranspose(
        channels,
        3,
        strides=2,
        padding="same",
        activation=activation,
        kernel_initializer=next(weights),
    )(x)
