"""What all likelihoods share: the values they are defined for, and the way from a decoder to them.

Likelihoods sum over pixels and channels, and are in nats.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfvae.checks import is_number
from tfvae.distributions.family import Family
from tfvae.errors import InputError
from tfvae.networks.conv_to_pixels import ConvToPixels


@dataclasses.dataclass(frozen=True)
class Support:
    """The values that a likelihood gives a density to: finite, and in [low, high].

    TFP evaluates a density outside its support without complaint:
    ``tfd.Bernoulli(logits=1.).log_prob(255.)`` is +253.7.

    Args:
        low: the lowest value.
        high: the highest value.
        step: distance of neighbouring values on the lattice low, low + step, ..., high that alone
            is supported; None where all values between are.
    """

    low: float = -math.inf
    high: float = math.inf
    step: float | None = None

    def __str__(self) -> str:
        if self.step is not None:
            count = (self.high - self.low) / self.step + 1
            first = [_short(self.low + i * self.step) for i in range(3)]
            if count < 3.5:
                return f"values {', '.join(first[: round(count)])}"
            if math.isinf(count):
                return f"values {', '.join(first)}, ..."
            return f"values {first[0]}, {first[1]}, ..., {self.high:g}"
        if math.isinf(self.low) and math.isinf(self.high):
            return "finite values"
        return f"values in [{self.low:g}, {self.high:g}]"

    def admits(self, x: Any) -> tf.Tensor:
        """Whether every value of `x` is supported; NaN never is. A boolean scalar tensor."""
        x = tf.convert_to_tensor(x)
        if not x.dtype.is_floating:
            x = tf.cast(x, tf.float32)
        if self.step is None:
            inside = (x >= self.low) & (x <= self.high)
        else:
            level, last = (x - self.low) / self.step, (self.high - self.low) / self.step
            # k/255 is rounded in float32; the error of a level grows with its number.
            slack = 1e-3 + 4 * float(np.finfo(np.float32).eps) * tf.abs(level)
            inside = (level >= -slack) & (level <= last + slack)
            inside &= tf.abs(level - tf.round(level)) <= slack
        return tf.reduce_all(inside & tf.math.is_finite(x))

    def complaint(self, owner: str, low: Any, high: Any) -> str:
        """One line for values from `low` to `high` that are not all supported."""
        received = f"values from {low:g} to {high:g}"
        if not (np.isfinite(low) and np.isfinite(high)):
            advice = "remove or replace NaN and infinite values"
        elif self.step is None:
            advice = "scale the images, for bytes x / 255.0"
        elif low < self.low:
            advice = f"shift the images, so that they start at {self.low:g}"
        elif high > self.high:
            advice = (
                "scale the images, for bytes x / 255.0, "
                f"or give the likelihood the images' own range, such as high={high:g}"
            )
        else:
            received = f"values between the levels, from {low:g} to {high:g}"
            advice = "round the images, or give the likelihood " + (
                "the value of one count, step=0.0039216 for bytes / 255.0"
                if math.isinf(self.high)
                else "the images' own levels and high, such as levels=256,high=255 for bytes"
            )
        return f"{owner} expects {self}; received {received}: {advice}"


def _short(value: float) -> str:
    """A value in a message, as a fraction where that is what was meant."""
    for denominator in (255, 65535):
        numerator = value * denominator
        if 0 < numerator < denominator and abs(numerator - round(numerator)) < 1e-6:
            return f"{round(numerator)}/{denominator}"
    return f"{value:g}"


class Positive:
    """The map from an unconstrained raw value to a positive one: ``floor + unit · softplus(raw)``.

    Args:
        floor: lower bound, which keeps densities and their gradients finite.
        unit: what the map gives about 0.69 of at raw = 0, less the floor.
    """

    def __init__(self, floor: float, unit: float = 1.0):
        self.floor = floor
        self.unit = unit

    def __call__(self, raw: Any) -> Any:
        """Map raw values, of any shape, to positive ones."""
        return self.floor + self.unit * keras.ops.softplus(raw)

    def inverse(self, value: float) -> float:
        """Give the raw value that a positive one comes from."""
        return math.log(math.expm1((value - self.floor) / self.unit))


def check_positive(name: str, value: Any, words: tuple[str, ...] = (), above: float = 0.0) -> None:
    """Check an option that is a finite number above a bound, or one of some words.

    Raises:
        InputError: if it is neither.
    """
    if isinstance(value, str):
        valid = value in words
    else:
        valid = is_number(value) and above < value < math.inf
    if not valid:
        kinds = ["a positive number" if above == 0 else f"a number above {above:g}"]
        kinds += map(repr, words)
        text = " or ".join(filter(None, [", ".join(kinds[:-1]), kinds[-1]]))
        raise InputError(f"{name} is {text}; received {value!r}")


def check_floor(min_scale: Any, start: float) -> None:
    """Check the lower bound of scales, which start above it.

    Raises:
        InputError: if it is no number between 0 and `start`.
    """
    if not (is_number(min_scale) and 0 < min_scale < start):
        raise InputError(f"min_scale lies between 0 and {start:g}; received {min_scale!r}")


class Likelihood(Family):
    """Base class of likelihoods.

    ``call`` takes what the decoder puts out and gives a dictionary of float32 tensors with the
    batch first; ``distribution`` gives p(x|z) with the batch shape of the parameters and event
    shape `[H, W, C]`.

    The decoder may put out

    * features `[B, F]`, from which a dense layer makes the parameters;
    * features `[B, H, W, F]`, from which a 3 x 3 convolution makes them; or
    * the parameters themselves, `[B, H, W, maps · C]`, as hand-written decoders often do: the
      first parameter of all channels, then the second of all channels, and so on.

    A likelihood of your own needs `maps`, if it is not 1, a `support`, if not all values have a
    density, and a `distribution`. Its parameters are ``{"raw": [..., H, W, maps · C]}``, as the
    head puts them out::

        @keras.saving.register_keras_serializable("mine")
        class Gumbel(Likelihood):
            maps, flat_maps = 2, 1

            def distribution(self, parameters):
                loc, raw_scale = tf.split(parameters["raw"], 2, axis=-1)
                return tfd.Independent(tfd.Gumbel(loc, 1e-3 + tf.nn.softplus(raw_scale)), 3)

    Args:
        decoder_output: what a decoder means that puts out just as many channels as there are
            parameters: ``"features"``; ``"parameters"``, the unconstrained ones (the logits of a
            Bernoulli, the mean of a Normal); or ``"mean"``, the mean of p(x|z) (the probabilities
            of a Bernoulli). By default a last layer without activation means parameters, a last
            sigmoid means the mean, and any other is an error.
        **kwargs: those of `keras.layers.Layer`.

    Attributes:
        maps: parameters per channel of a pixel.
        flat_maps: how many of them, the last ones, start the same for every pixel and z: scales
            and the like, which may not start near their bounds.
        takes_mean: whether the mean of p(x|z) tells its parameters.
        support: the values p(x|z) is defined for.
        is_discrete: whether p(x|z) is a probability, not a density, and bits per dimension are
            defined.
        couples_images: whether in training p(x|z) of an image depends on the rest of its batch.
    """

    maps = 1
    flat_maps = 0
    takes_mean = False
    support = Support()
    is_discrete = False
    couples_images = False

    def gives_probabilities(self, x: Any) -> Any:
        """Whether p(x|z) of these supported values is a probability, not a density.

        Args:
            x: values, any shape.

        Returns:
            A boolean, or a scalar boolean tensor where it depends on the values.
        """
        return self.is_discrete

    def __init__(self, *, decoder_output: str | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        if decoder_output not in (None, "features", "parameters", "mean"):
            raise InputError(
                f"decoder_output is 'features', 'parameters' or 'mean'; received {decoder_output!r}"
            )
        self.decoder_output = decoder_output
        # The model that owns the decoder sets it, as far as it can tell.
        self.last_activation: Any = None

    def build(self, input_shape: Any) -> None:
        """Create the layer that makes the parameters, if the decoder does not put them out."""
        height, width, channels = self.event_shape
        outputs = channels * self.maps
        shape = tuple(input_shape)
        is_image = len(shape) == 4 and shape[1:3] == (height, width)
        if shape[-1] is None or not (is_image or len(shape) == 2):
            raise InputError(
                f"the decoder of {height} x {width} images must put out "
                f"[batch, {height}, {width}, features] or [batch, features]; "
                f"received shape {shape}"
            )
        needed = outputs if is_image else height * width * outputs
        if self.decoder_output in ("parameters", "mean") and shape[-1] != needed:
            raise InputError(
                f"{type(self).__name__} needs {needed} channels from a decoder that puts out "
                f"its {self.decoder_output}; received shape {shape}"
            )
        if self.decoder_output == "mean" and not self.takes_mean:
            raise InputError(
                f"{type(self).__name__} has parameters which a mean does not tell: "
                "let the decoder put out 'features' or 'parameters'"
            )
        self.meaning = self.decoder_output
        if self.meaning is None:
            self.meaning = "features" if shape[-1] != needed else self._guess_meaning(shape)
        self.head = None
        if self.meaning == "features":
            options = {
                "kernel_initializer": self._head_initializer(),
                "dtype": self.dtype_policy,
                "name": "parameters",
            }
            self.head = (
                ConvToPixels(outputs, **options)
                if is_image
                else keras.layers.Dense(needed, **options)
            )
        if self.head is not None:
            self.head.build(shape)
        self.built = True

    def _guess_meaning(self, shape: tuple[int, ...]) -> str:
        """Tell what an output of just the parameters' size is from the activation it comes from."""
        if self.last_activation is keras.activations.linear:
            return "parameters"
        if self.last_activation is keras.activations.sigmoid and self.takes_mean:
            return "mean"
        raise InputError(
            f"the decoder puts out shape {shape}, just what {type(self).__name__} has as "
            "parameters, through an activation that does not tell what it is: give the likelihood "
            "decoder_output='features', 'parameters' or 'mean'"
        )

    def _head_initializer(self) -> Callable[..., Any]:
        """Start the last `flat_maps` maps flat: near its lower bound a scale is steepest."""
        initializer = super()._head_initializer()
        if self.flat_maps == 0:
            return initializer
        maps, channels = self.maps, self.event_shape[-1]

        def initialize(shape: Any, dtype: Any = None) -> Any:
            # Channels vary fastest in both heads: C of the first map, then C of the second.
            number = np.arange(shape[-1]) % (maps * channels) // channels
            varies = number < maps - self.flat_maps
            return initializer(shape, dtype) * varies.astype("float32")

        return initialize

    def _add_scalar(self, name: str, value: float, **kwargs: Any) -> Any:
        """Add a weight that all pixels share."""
        return self.add_weight(
            shape=(),
            initializer=keras.initializers.Constant(value),
            dtype="float32",
            name=name,
            autocast=False,  # a half-precision model must not round it when it reads it
            **kwargs,
        )

    def call(self, decoder_output: Any) -> dict[str, Any]:
        """Map the decoder's output to the parameters of p(x|z), float32, batch first."""
        raw = decoder_output if self.head is None else self.head(decoder_output)
        height, width, channels = self.event_shape
        raw = keras.ops.cast(raw, "float32")
        raw = keras.ops.reshape(raw, (-1, height, width, self.maps * channels))
        if self.meaning == "mean":
            raw = self._from_mean(raw)
        return self._parameters(raw)

    def _from_mean(self, mean: Any) -> Any:
        """The unconstrained parameters of a p(x|z) that has this mean, if it `takes_mean`."""
        return mean

    def _parameters(self, raw: Any) -> dict[str, Any]:
        """Name the unconstrained maps `[B, H, W, maps · C]`, and constrain them.

        Each parameter keeps three axes after the batch, `[B, H, W, ...]`.
        """
        return {"raw": raw}

    def distribution(self, parameters: dict[str, tf.Tensor]) -> Any:
        """Make p(x|z) from its parameters, which may have any leading axes."""
        raise NotImplementedError

    def training_distribution(self, parameters: dict[str, tf.Tensor], x: tf.Tensor) -> Any:
        """Make the p(x|z) that a training step evaluates at `x` `[B, H, W, C]`.

        A likelihood that takes a parameter from the data does so here.
        """
        return self.distribution(parameters)

    def mean(self, distribution: Any) -> tf.Tensor:
        """Give the mean of p(x|z), the picture that stands for it, in the shape of a draw.

        Raises:
            InputError: if the distribution knows no mean.
        """
        try:
            return distribution.mean()
        except NotImplementedError:
            raise InputError(
                f"{type(self).__name__} needs a picture of p(x|z), and its distribution has no "
                "mean: override mean(distribution) in the likelihood"
            ) from None

    def check(self, x: Any) -> None:
        """Check that an array or an eager tensor lies in the support.

        Raises:
            InputError: if a value does not, or is not finite.
        """
        if not bool(self.support.admits(x)):
            values = tf.cast(x, tf.float32)
            low, high = float(tf.reduce_min(values)), float(tf.reduce_max(values))
            raise InputError(self.support.complaint(type(self).__name__, low, high))

    def get_config(self) -> dict[str, Any]:
        """Give the constructor's arguments."""
        return {**super().get_config(), "decoder_output": self.decoder_output}
