"""Likelihoods p(x|z)."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfvae.errors import InputError
from tfvae.families import PACKAGE, Family, is_number, resolve
from tfvae.lazy import tfd


@dataclasses.dataclass(frozen=True)
class Support:
    """The values that a likelihood gives a density to: finite, and in [low, high].

    TFP evaluates a density outside its support without complaint:
    ``tfd.Bernoulli(logits=1.).log_prob(255.)`` is +253.7.
    """

    low: float = -math.inf
    high: float = math.inf

    def __str__(self) -> str:
        if math.isinf(self.low) and math.isinf(self.high):
            return "finite values"
        return f"values in [{self.low:g}, {self.high:g}]"

    def admits(self, x: Any) -> tf.Tensor:
        """Whether every value of `x` is supported; NaN never is. A boolean scalar tensor."""
        x = tf.convert_to_tensor(x)
        if not x.dtype.is_floating:
            x = tf.cast(x, tf.float32)
        inside = tf.reduce_all((x >= self.low) & (x <= self.high))
        return inside & tf.reduce_all(tf.math.is_finite(x))

    def complaint(self, owner: str, low: Any, high: Any) -> str:
        """One line for values from `low` to `high` that are not all supported."""
        advice = "remove or replace NaN and infinite values"
        if np.isfinite(low) and np.isfinite(high):
            advice = "scale the images, for bytes x / 255.0"
        return f"{owner} expects {self}; received values from {low:g} to {high:g}: {advice}"


class Likelihood(Family):
    """Base class of likelihoods.

    ``call`` takes what the decoder puts out and gives a dictionary of float32 tensors with the
    batch first; ``distribution`` gives p(x|z) with the batch shape of the parameters and event
    shape `[H, W, C]`.

    The decoder may put out

    * features `[B, F]`, from which a dense layer makes the parameters;
    * features `[B, H, W, F]`, from which a 3 x 3 convolution makes them; or
    * the parameters themselves, `[B, H, W, maps · C]`, as hand-written decoders often do.

    Args:
        decoder_output: what a decoder means that puts out just as many channels as there are
            parameters: ``"features"``; ``"parameters"``, the unconstrained ones (the logits of a
            Bernoulli, the mean of a Normal); or ``"mean"``, the mean of p(x|z) (the probabilities
            of a Bernoulli). By default a last layer without activation means parameters, a last
            sigmoid means the mean, and any other is an error.
        **kwargs: those of `keras.layers.Layer`.

    Attributes:
        maps: parameters per channel of a pixel.
        support: the values p(x|z) is defined for.
    """

    maps = 1
    support = Support()

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
        if self.decoder_output == "mean" and self.maps > 1:
            raise InputError(
                f"{type(self).__name__} has {self.maps} parameters a value, which a mean does not "
                "tell: let the decoder put out 'features' or 'parameters'"
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
                keras.layers.Conv2D(outputs, 3, padding="same", **options)
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
        if self.last_activation is keras.activations.sigmoid and self.maps == 1:
            return "mean"
        raise InputError(
            f"the decoder puts out shape {shape}, just what {type(self).__name__} has as "
            "parameters, through an activation that does not tell what it is: give the likelihood "
            "decoder_output='features', 'parameters' or 'mean'"
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
        """The unconstrained parameters of a p(x|z) that has this mean."""
        return mean

    def _parameters(self, raw: Any) -> dict[str, Any]:
        """Name the unconstrained maps `[B, H, W, maps · C]`, and constrain them."""
        raise NotImplementedError

    def distribution(self, parameters: dict[str, tf.Tensor]) -> Any:
        """Make p(x|z) from its parameters."""
        raise NotImplementedError

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


@keras.saving.register_keras_serializable(PACKAGE)
class Bernoulli(Likelihood):
    """p(x|z) = ∏ p^x (1 − p)^(1 − x) over pixels and channels; −log p is binary cross-entropy.

    For grey values in (0, 1) this is the customary cross-entropy and no normalised density:
    binarize the images for a log-likelihood in the strict sense.
    """

    support = Support(0.0, 1.0)

    def _from_mean(self, mean: Any) -> Any:
        # The margin Keras uses for probabilities: a saturated sigmoid must not give an infinity.
        margin = keras.config.epsilon()
        mean = keras.ops.clip(mean, margin, 1 - margin)
        return keras.ops.log(mean) - keras.ops.log1p(-mean)

    def _parameters(self, raw: Any) -> dict[str, Any]:
        return {"logits": raw}

    def distribution(self, parameters: dict[str, tf.Tensor]) -> Any:
        """Give p(x|z), a `tfd.Independent` Bernoulli with event shape `[H, W, C]`."""
        return tfd.Independent(tfd.Bernoulli(logits=parameters["logits"], dtype=tf.float32), 3)


class LocationScale(Likelihood):
    """A likelihood with a location map and a scale.

    Args:
        scale: a positive number for a fixed scale; ``"learned"`` for one trainable scale that all
            pixels share, 1 at first; ``"per_pixel"`` for a scale map from the decoder.
        min_scale: lower bound of a scale that is not fixed. Without one the density of a pixel
            that never changes, such as a black border, grows without limit.
        **kwargs: those of `Likelihood`.

    Raises:
        InputError: if the scale is none of these.
    """

    def __init__(
        self,
        *,
        scale: float | str = 1.0,
        min_scale: float = 1e-3,
        decoder_output: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(decoder_output=decoder_output, **kwargs)
        if isinstance(scale, str):
            valid = scale in ("learned", "per_pixel")
        else:
            valid = is_number(scale) and 0 < scale < math.inf
        if not valid:
            raise InputError(
                f"scale is a positive number, 'learned' or 'per_pixel'; received {scale!r}"
            )
        if not (is_number(min_scale) and 0 < min_scale < 1):
            raise InputError(f"min_scale lies between 0 and 1; received {min_scale!r}")
        self.scale = scale
        self.min_scale = min_scale
        self.maps = 2 if scale == "per_pixel" else 1

    def build(self, input_shape: Any) -> None:
        """Create the head, and the shared scale where it is learned."""
        if self.scale == "learned":
            self.raw_scale = self.add_weight(
                shape=(),
                initializer=lambda *_, **__: self._raw(1.0),
                dtype="float32",
                name="raw_scale",
                autocast=False,  # a half-precision model must not round it when it reads it
            )
        super().build(input_shape)

    def _head_initializer(self) -> Callable[..., Any]:
        """Start a scale map flat at softplus(0): near its lower bound the density is steepest."""
        initializer = super()._head_initializer()
        if self.maps == 1:
            return initializer
        channels = self.event_shape[-1]

        def initialize(shape: Any, dtype: Any = None) -> Any:
            # Channels vary fastest in both heads: C of the location, then C of the scale.
            is_location = np.arange(shape[-1]) % (2 * channels) < channels
            return initializer(shape, dtype) * is_location.astype("float32")

        return initialize

    def _raw(self, scale: float) -> Any:
        return tf.constant(math.log(math.expm1(scale - self.min_scale)), tf.float32)

    def _constrain(self, raw: Any) -> Any:
        return self.min_scale + keras.ops.softplus(raw)

    def _parameters(self, raw: Any) -> dict[str, Any]:
        if self.maps == 1:
            return {"loc": raw}
        loc, raw_scale = keras.ops.split(raw, 2, axis=-1)
        return {"loc": loc, "scale": self._constrain(raw_scale)}

    def _scale_of(self, parameters: dict[str, tf.Tensor]) -> tf.Tensor:
        """The scale: a map where there is one, else a scalar."""
        if self.scale == "per_pixel":
            return parameters["scale"]
        if self.scale == "learned":
            return self._constrain(tf.convert_to_tensor(self.raw_scale))
        return tf.constant(self.scale, tf.float32)

    def get_config(self) -> dict[str, Any]:
        """Give the constructor's arguments."""
        return {**super().get_config(), "scale": self.scale, "min_scale": self.min_scale}


@keras.saving.register_keras_serializable(PACKAGE)
class Normal(LocationScale):
    """p(x|z) = ∏ N(x; μ, σ²) over pixels and channels; at σ = 1, −log p is MSE/2 + ½ log 2π.

    The sum runs over pixels, and the constant is there: ``−log p = Σ ½ ((x − μ)/σ)² + log σ +
    ½ log 2π``. See `LocationScale` for the arguments.
    """

    def distribution(self, parameters: dict[str, tf.Tensor]) -> Any:
        """Give p(x|z), a `tfd.Independent` normal with event shape `[H, W, C]`."""
        return tfd.Independent(tfd.Normal(parameters["loc"], self._scale_of(parameters)), 3)


@keras.saving.register_keras_serializable(PACKAGE)
class Laplace(LocationScale):
    """p(x|z) = ∏ Laplace(x; μ, b) over pixels and channels; at b = 1, −log p is L1 + log 2.

    See `LocationScale` for the arguments.
    """

    def distribution(self, parameters: dict[str, tf.Tensor]) -> Any:
        """Give p(x|z), a `tfd.Independent` Laplace with event shape `[H, W, C]`."""
        return tfd.Independent(tfd.Laplace(parameters["loc"], self._scale_of(parameters)), 3)


KNOWN: dict[str, type[Likelihood]] = {
    "bernoulli": Bernoulli,
    "normal": Normal,
    "laplace": Laplace,
}


def get(identifier: Any) -> Likelihood:
    """Give the likelihood that a name, a configuration or an instance stands for."""
    return resolve(identifier, Likelihood, KNOWN, "likelihood")
