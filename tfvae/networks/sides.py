"""How convolutional networks halve the sides of an event, and convolve over one to three of them.

A side is any axis but the last, which holds the channels: the T of a series `[T, C]`, H and W of
an image, D, H and W of a volume.
"""

from collections.abc import Iterable
from typing import NamedTuple, SupportsIndex

import keras
from keras import layers

from tfvae.errors import InputError
from tfvae.networks.checks import check_event_shape
from tfvae.networks.labels import Initializers
from tfvae.typing import Shape


class _Defaults(NamedTuple):
    """What `default_filters` halves to."""

    # Channels of the first halvings; later ones have as many as the last.
    filters: tuple[int, ...]
    # Halve no further than to this length.
    smallest: int


# By the number of sides. Few channels first: those layers see the most values, and the decoder's
# last one all of them. What is left after the last halving goes through a dense layer: 4³ places of
# a volume are as many as 8² of an image.
_DEFAULTS = {
    1: _Defaults((32, 64, 128), smallest=5),
    2: _Defaults((16, 64, 128), smallest=5),
    3: _Defaults((16, 32, 64), smallest=3),
}
_CONVOLUTIONS = {1: layers.Conv1D, 2: layers.Conv2D, 3: layers.Conv3D}
_TRANSPOSES = {1: layers.Conv1DTranspose, 2: layers.Conv2DTranspose, 3: layers.Conv3DTranspose}


class Halving(NamedTuple):
    """One halving: the sides before, the strides, and the sides after."""

    before: Shape
    strides: Shape
    after: Shape

    @property
    def surplus(self) -> Shape:
        """What doubling the sides after adds beyond those before, where they were odd."""
        return tuple(
            after * stride - before
            for before, stride, after in zip(self.before, self.strides, self.after, strict=True)
        )


def sides_of(event_shape: Iterable[SupportsIndex], network: str) -> Shape:
    """Return all axes of an event but the last.

    Args:
        event_shape: (T, C), (H, W, C) or (D, H, W, C).
        network: name of the network that convolves over them, for the message.

    Raises:
        InputError: if the shape is none, or that of a vector.
    """
    shape = check_event_shape(event_shape)
    if len(shape) == 1:
        raise InputError(
            f'network "{network}" convolves over the sides of a series, an image or a volume, '
            f'and a vector of shape {shape} has none: use network "dense"'
        )
    return shape[:-1]


def default_filters(event_shape: Iterable[SupportsIndex]) -> tuple[int, ...]:
    """Return the channels of each halving.

    * of a series 32, 64, 128, 128 …, until 5 to 8 steps are left;
    * of an image 16, 64, 128, 128 …, until 5 to 8 pixels of the shorter side are left;
    * of a volume 16, 32, 64, 64 …, until 3 to 4 of the longest side are left.

    A smaller event is halved once all the same.

    Args:
        event_shape: (T, C), (H, W, C) or (D, H, W, C).

    Raises:
        InputError: if the shape is none, or that of a vector.
    """
    sides = sides_of(event_shape, "conv")
    channels, smallest = _DEFAULTS[len(sides)]
    side = -(-(max(sides) if len(sides) == 3 else min(sides)) // 2)
    filters = [channels[0]]
    while (side := -(-side // 2)) >= smallest:
        filters.append(channels[min(len(filters), len(channels) - 1)])
    return tuple(filters)


def halvings(sides: Shape, count: int) -> list[Halving]:
    """Return `count` halvings one after another, each rounding up.

    Those of a series or an image halve every side. Those of a volume spare a side of at most half
    the longest, so that a flat volume such as 4 x 64 x 64 becomes a cube and keeps its depth.
    """
    found = []
    for _ in range(count):
        spared = max(sides) // 2 if len(sides) == 3 else 0
        strides = tuple(2 if side > spared else 1 for side in sides)
        after = tuple(-(-side // stride) for side, stride in zip(sides, strides, strict=True))
        found.append(Halving(sides, strides, after))
        sides = after
    return found


def convolved(
    x: keras.KerasTensor,
    channels: int,
    initializer: keras.initializers.Initializer | str,
    *,
    strides: Shape | int = 1,
    activation: str | None = None,
) -> keras.KerasTensor:
    """Convolve over all sides with a kernel of 3 along each.

    Args:
        x: `[B, *sides, C]`.
        channels: channels put out.
        initializer: that of the kernel.
        strides: one for all sides, or one for each.
        activation: a Keras activation, or None.

    Returns:
        `[B, *sides, channels]`, each side divided by its stride, rounded up.
    """
    return _CONVOLUTIONS[len(x.shape) - 2](
        channels,
        3,
        strides=strides,
        padding="same",
        activation=activation,
        kernel_initializer=initializer,
    )(x)


def doubled(
    x: keras.KerasTensor,
    channels: int,
    activation: str,
    weights: Initializers,
    halving: Halving,
) -> keras.KerasTensor:
    """Undo a halving by a transposed convolution with a kernel of 3 along each side.

    Args:
        x: `[B, *halving.after, C]`.
        channels: channels put out.
        activation: a Keras activation.
        weights: initial weights of the layers.
        halving: what is undone.

    Returns:
        `[B, *halving.before, channels]`.
    """
    rank = len(halving.before)
    x = _TRANSPOSES[rank](
        channels,
        3,
        strides=halving.strides,
        padding="same",
        activation=activation,
        kernel_initializer=next(weights),
    )(x)
    if any(halving.surplus):
        crops = tuple((0, surplus) for surplus in halving.surplus)
        crop = {1: layers.Cropping1D, 2: layers.Cropping2D, 3: layers.Cropping3D}[rank]
        x = crop(crops if rank > 1 else crops[0])(x)
    return x
