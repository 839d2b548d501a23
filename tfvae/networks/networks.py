"""Encoders and decoders: convolutional, residual and dense, for images of any size.

Each function gives a functional `keras.Model` from images `[B, H, W, C]` to features, or from z
`[B, d]` to features. What the features mean is the families' business: a posterior makes the
parameters of q(z|x) from an encoder's, a likelihood those of p(x|z) from a decoder's.

Height and width may be odd or differ. An encoder halves them, rounding up; the decoder doubles
them back and crops where the encoder had rounded.

With `num_classes` a network takes a second input, a label as a one-hot vector `[B, num_classes]`:
an encoder sees it as one more channel, a learned picture of the label, and a decoder as more
dimensions of z.
"""

import itertools
import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
from keras import layers

from tfvae.checks import checked_count, is_whole
from tfvae.distributions.family import resolve
from tfvae.errors import InputError

# Halve no further than to this many pixels on the shorter side.
_SMALLEST_SIDE = 5
# Few channels first: those layers see the most pixels, and the decoder's last one all of them.
_FILTERS = (16, 64, 128)


def check_image_shape(image_shape: Any) -> tuple[int, int, int]:
    """Give the shape as three whole numbers (height, width, channels).

    Raises:
        InputError: if it is anything else.
    """
    try:
        height, width, channels = (operator.index(side) for side in image_shape)
    except (TypeError, ValueError):
        height = width = channels = 0
    if min(height, width, channels) < 1:
        raise InputError(
            f"an image shape is (height, width, channels), each from 1; received {image_shape!r}"
        )
    return height, width, channels


def check_latent_dim(latent_dim: Any) -> int:
    """Give the latent dimension.

    Raises:
        InputError: if it is no whole number from 1.
    """
    if isinstance(latent_dim, bool) or not isinstance(latent_dim, int) or latent_dim < 1:
        raise InputError(f"latent_dim is a whole number from 1; received {latent_dim!r}")
    return latent_dim


def check_num_classes(num_classes: Any) -> int | None:
    """Give the number of classes of a conditional model or network, None for one without labels.

    Raises:
        InputError: if it is neither None nor a whole number from 1.
    """
    if num_classes is None:
        return None
    if not is_whole(num_classes, least=1):
        raise InputError(f"num_classes is a whole number from 1, or None; received {num_classes!r}")
    return int(num_classes)


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
    weights = _initializers(seed)
    inputs, x = _image_input(image_shape, num_classes, weights)
    for channels in filters or default_filters(image_shape):
        x = layers.Conv2D(
            channels,
            3,
            strides=2,
            padding="same",
            activation=activation,
            kernel_initializer=next(weights),
        )(x)
    return _dense_head(inputs, x, hidden, activation, weights, "conv_encoder")


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
    weights = _initializers(seed)

    def up(x: Any, channels: int, is_last: bool) -> Any:
        return _doubled(x, channels, last_activation if is_last else activation, weights)

    return _decoder(
        image_shape, latent_dim, num_classes, filters, hidden, activation, weights, up, "conv"
    )


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
    weights = _initializers(seed)
    inputs, x = _image_input(image_shape, num_classes, weights)
    for channels in filters or default_filters(image_shape):
        x = layers.Conv2D(channels, 3, strides=2, padding="same", kernel_initializer=next(weights))(
            x
        )
        for _ in range(blocks):
            x = _residual_block(x, channels, activation, weights)
    x = layers.Activation(activation)(x)
    return _dense_head(inputs, x, hidden, activation, weights, "residual_encoder")


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
    weights = _initializers(seed)

    def up(x: Any, channels: int, is_last: bool) -> Any:
        for _ in range(blocks):
            x = _residual_block(x, x.shape[-1], activation, weights)
        return _doubled(x, channels, activation, weights)

    return _decoder(
        image_shape, latent_dim, num_classes, filters, hidden, activation, weights, up, "residual"
    )


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
    weights = _initializers(seed)
    inputs, x = _image_input(image_shape, num_classes, weights)
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
    weights = _initializers(seed)
    inputs, x = _latent_input(latent_dim, num_classes)
    for width in reversed(hidden):
        x = layers.Dense(width, activation=activation, kernel_initializer=next(weights))(x)
    return keras.Model(inputs, x, name="dense_decoder")


class Network:
    """An encoder and the decoder that mirrors it, as a name with options means them.

    Args:
        **options: those of both functions.
    """

    make_encoder: Callable[..., keras.Model]
    make_decoder: Callable[..., keras.Model]

    def __init__(self, **options: Any):
        self.options = options

    def pair(
        self,
        image_shape: Sequence[int],
        latent_dim: int,
        *,
        num_classes: int | None = None,
        seed: int | None = None,
    ) -> tuple[keras.Model, keras.Model]:
        """Make both; see the function `pair`."""
        image_shape = check_image_shape(image_shape)
        decoder_seed = None if seed is None else seed + 1
        common = {"num_classes": num_classes, **self.options}
        return (
            self.make_encoder(image_shape, seed=seed, **common),
            self.make_decoder(image_shape, latent_dim, seed=decoder_seed, **common),
        )


class Convolutional(Network):
    """`conv_encoder` and `conv_decoder`, as in ``"conv:filters=16x64,hidden=256"``."""

    make_encoder = staticmethod(conv_encoder)
    make_decoder = staticmethod(conv_decoder)

    def __init__(self, filters: Any = None, hidden: int = 256, activation: str = "silu"):
        super().__init__(
            filters=None if filters is None else _checked_sizes("filters", filters),
            hidden=checked_count("hidden", hidden),
            activation=_checked_activation(activation),
        )


class Residual(Network):
    """`residual_encoder` and `residual_decoder`, as in ``"residual:filters=32x64,blocks=2"``."""

    make_encoder = staticmethod(residual_encoder)
    make_decoder = staticmethod(residual_decoder)

    def __init__(
        self, filters: Any = None, blocks: int = 1, hidden: int = 256, activation: str = "silu"
    ):
        super().__init__(
            filters=None if filters is None else _checked_sizes("filters", filters),
            blocks=checked_count("blocks", blocks, least=0),
            hidden=checked_count("hidden", hidden),
            activation=_checked_activation(activation),
        )


class Dense(Network):
    """`dense_encoder` and `dense_decoder`, as in ``"dense:hidden=200x200,activation=tanh"``."""

    make_encoder = staticmethod(dense_encoder)
    make_decoder = staticmethod(dense_decoder)

    def __init__(self, hidden: Any = (512, 256), activation: str = "silu"):
        super().__init__(
            hidden=_checked_sizes("hidden", hidden), activation=_checked_activation(activation)
        )


KNOWN: dict[str, type[Network]] = {
    "conv": Convolutional,
    "residual": Residual,
    "dense": Dense,
}


def pair(
    name: Any,
    image_shape: Sequence[int],
    latent_dim: int,
    *,
    num_classes: int | None = None,
    seed: int | None = None,
) -> tuple[keras.Model, keras.Model]:
    """Give an encoder and its decoder by name.

    Args:
        name: "conv", "residual" or "dense", with options of their functions where they are not to
            be the defaults: ``"residual:filters=32x64,blocks=2"``. Several numbers are written with
            an x between them. Or a `Network`.
        image_shape: (H, W, C).
        latent_dim: d.
        num_classes: labels, for networks that take one.
        seed: seed of the initial weights of both.

    Raises:
        InputError: if the name or an option is unknown, or an option or the shape does not fit.
    """
    network = resolve(name, Network, KNOWN, "network")
    return network.pair(image_shape, latent_dim, num_classes=num_classes, seed=seed)


def _checked_sizes(name: str, value: Any) -> tuple[int, ...]:
    """Read whole numbers from 1: one, several, or text such as "32x64"."""
    if isinstance(value, str):
        words = value.split("x")
        sizes = [int(word) if word.isdecimal() else 0 for word in words]
    else:
        sizes = list(value) if isinstance(value, Sequence) else [value]
    if not sizes or not all(is_whole(size, least=1) for size in sizes):
        raise InputError(
            f"{name} is a whole number from 1, or several as in 32x64; received {value!r}"
        )
    return tuple(sizes)


def _checked_activation(name: Any) -> Any:
    try:
        keras.activations.get(name)
    except ValueError:
        raise InputError(
            f"an activation is one of Keras, such as silu, relu or tanh; received {name!r}"
        ) from None
    return name


def _initializers(seed: int | None) -> Iterator[keras.initializers.Initializer]:
    """One initializer a layer: with the same seed, layers of equal shape would start equal."""
    for layer in itertools.count():
        yield keras.initializers.HeNormal(seed=None if seed is None else 1_000 * seed + layer)


def _image_input(image_shape: Any, num_classes: int | None, weights: Iterator) -> tuple[Any, Any]:
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


def _latent_input(latent_dim: int, num_classes: int | None) -> tuple[Any, Any]:
    """Give a decoder's inputs, and z with the label as more dimensions."""
    z = keras.Input((check_latent_dim(latent_dim),), name="z")
    num_classes = check_num_classes(num_classes)
    if num_classes is None:
        return z, z
    label = keras.Input((num_classes,), name="label")
    return [z, label], layers.Concatenate()([z, label])


def _dense_head(
    inputs: Any, x: Any, hidden: int, activation: str, weights: Iterator, name: str
) -> keras.Model:
    x = layers.Flatten()(x)
    x = layers.Dense(hidden, activation=activation, kernel_initializer=next(weights))(x)
    return keras.Model(inputs, x, name=name)


def _decoder(
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

    inputs, x = _latent_input(latent_dim, num_classes)
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


def _doubled(x: Any, channels: int, activation: str, weights: Iterator) -> Any:
    return layers.Conv2DTranspose(
        channels,
        3,
        strides=2,
        padding="same",
        activation=activation,
        kernel_initializer=next(weights),
    )(x)


def _residual_block(x: Any, channels: int, activation: str, weights: Iterator) -> Any:
    branch = layers.Activation(activation)(x)
    branch = layers.Conv2D(channels, 3, padding="same", kernel_initializer=next(weights))(branch)
    branch = layers.Activation(activation)(branch)
    branch = layers.Conv2D(channels, 3, padding="same", kernel_initializer="zeros")(branch)
    return layers.Add()([x, branch])
