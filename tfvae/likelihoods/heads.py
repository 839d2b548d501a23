"""The layer that makes a likelihood's parameters from what a decoder puts out."""

import math
from typing import Any

import keras

from tfvae.errors import InputError
from tfvae.networks.conv_to_pixels import ConvToPixels
from tfvae.typing import Shape


class OutputShape:
    """What a decoder may put out for events of a shape.

    Features `[B, F]`; or, for events of rank 2 or more, features `[B, *sides, F]`, where sides is
    the event shape but for its last axis, the channels.

    Args:
        shape: of the decoder's output, None for the batch.
        event_shape: shape of one event, of any rank from 1.
        parameters_per_value: how many parameters the likelihood has for each value.

    Attributes:
        has_sides: whether the output is `[B, *sides, F]`.
        needed: size of the last axis of an output that is the parameters.
        features: size of the last axis of this output.

    Raises:
        InputError: if the output has neither shape.
    """

    def __init__(self, shape: Shape, event_shape: Shape, parameter_channels: int):
        sides = event_shape[:-1]
        self.has_sides = bool(sides) and shape[1:-1] == tuple(sides)
        if shape[-1] is None or not (self.has_sides or len(shape) == 2):
            choices = ["[batch, features]"]
            if sides:
                choices.insert(0, f"[batch, {', '.join(map(str, sides))}, features]")
            raise InputError(
                f"the decoder of events {list(event_shape)} must put out "
                f"{' or '.join(choices)}; received shape {shape}"
            )
        self.shape = shape
        self.rank = len(event_shape)
        self.features = shape[-1]
        self.needed = parameter_channels
        if not self.has_sides:
            self.needed *= math.prod(sides)

    def head(self, **options: Any) -> keras.layers.Layer:
        """Build the layer that maps this output to as many numbers as there are parameters.

        Args:
            **options: those of `keras.layers.Layer`, and `kernel_initializer`.

        Returns:
            A dense layer, or a convolution three wide along each side, with its weights.
        """
        if not self.has_sides:
            head = keras.layers.Dense(self.needed, **options)
        elif self.rank == 2:
            head = keras.layers.Conv1D(self.needed, 3, padding="same", **options)
        elif self.rank == 3:
            head = ConvToPixels(self.needed, **options)
        else:
            head = keras.layers.Conv3D(self.needed, 3, padding="same", **options)
        head.build(self.shape)
        return head
