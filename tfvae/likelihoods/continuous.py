"""Likelihoods with a density: of the real line, and of the unit interval."""

import math
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfvae.distributions.family import PACKAGE
from tfvae.lazy import tfd
from tfvae.likelihoods.base import FreeScale, Likelihood, Positive, check_floor, check_positive
from tfvae.likelihoods.moments import (
    logit,
    observed_mean,
    pooled_mean,
    smoothed_share,
    spread_of_channels,
)
from tfvae.likelihoods.support import Support
from tfvae.typing import Config, Distribution, Shape, Tensor


class LocationScale(Likelihood):
    """A likelihood with a location for each value, and a scale.

    Args:
        scale: a positive number for a fixed scale; ``"learned"`` for one trainable scale that all
            values share, `start` at first; ``"per_value"`` for one each, from the decoder.
        min_scale: lower bound of a scale that is not fixed. Without one the density of a value
            that never changes, such as a black border's, grows without limit.
        **kwargs: those of `Likelihood`.

    Attributes:
        scale_words: what `scale` may be besides a number.
        start: the learned scale before training; scales per value start at about 0.69 of it.

    Raises:
        InputError: if the scale is none of these.
    """

    takes_mean = True
    scale_words: tuple[str, ...] = ("learned", "per_value")
    start = 1.0

    def __init__(
        self,
        *,
        scale: float | str = 1.0,
        min_scale: float = 1e-3,
        decoder_output: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(decoder_output=decoder_output, **kwargs)
        check_positive("scale", scale, self.scale_words)
        check_floor(min_scale, self.start)
        self.scale = scale
        self.min_scale = min_scale
        self._positive = Positive(min_scale, self.start)
        self._shared = FreeScale(min_scale, self.start - min_scale)
        self.flat_parameters = 1 if scale == "per_value" else 0
        self.parameters_per_value = 1 + self.flat_parameters
        self.takes_mean = self.takes_mean and self.parameters_per_value == 1

    def build(self, input_shape: Shape) -> None:
        """Create the head, and the shared scale where it is learned."""
        if self.scale == "learned":
            self.raw_scale = self._add_scalar("raw_scale", 0.0)
        super().build(input_shape)

    def _parameters(self, raw: Tensor) -> dict[str, Tensor]:
        if self.parameters_per_value == 1:
            return {"loc": raw}
        loc, raw_scale = keras.ops.split(raw, 2, axis=-1)
        return {"loc": loc, "scale": self._positive(raw_scale)}

    def starting_parameters(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """Return the mean at each place; a learned scale at the spread about these means."""
        mean = observed_mean(x)
        loc = mean / self._unit
        # Just above the lower bound the way out would be long.
        least = 2 * self.min_scale
        to_scale = 1 / (self._unit * self._std_of_unit_scale)
        if self.scale == "learned":
            scale = to_scale * np.sqrt(pooled_mean(x, self.learns_by_channel, mean))
            raw_scale = self._shared.inverse(np.maximum(scale, least))
            return {"raw": loc, "raw_scale": raw_scale}
        if self.scale == "per_value":
            # A value that never changes in these events may change in the next.
            pooled = np.sqrt(pooled_mean(x, False, mean))
            scale = to_scale * np.maximum(np.sqrt(observed_mean(x, mean)), 0.1 * pooled)
            raw_scale = self._positive.inverse(np.maximum(scale, least))
            return {"raw": np.concatenate([loc, raw_scale], axis=-1)}
        return {"raw": loc}

    def starting_spread(self, x: np.ndarray) -> np.ndarray:
        """Return the spread of each channel about the means; that of scales per value is 1."""
        spread = spread_of_channels(x, observed_mean(x)) / self._unit
        ones = np.ones(len(spread) * self.flat_parameters)
        return np.concatenate([np.maximum(spread, 1.0), ones])

    @property
    def _unit(self) -> float:
        """What location and scale are in units of."""
        return 1.0

    @property
    def _std_of_unit_scale(self) -> float:
        """The standard deviation at a scale of 1."""
        return 1.0

    def _scale_of(self, parameters: dict[str, Tensor]) -> Tensor:
        """Return the scales, of the shape of the parameters if per value, else a scalar."""
        if self.scale == "per_value":
            return parameters["scale"]
        if self.scale == "learned":
            return self._shared(tf.convert_to_tensor(self.raw_scale))
        return tf.constant(self.scale, tf.float32)

    def get_config(self) -> Config:
        """Return the constructor's arguments."""
        return {**super().get_config(), "scale": self.scale, "min_scale": self.min_scale}


@keras.saving.register_keras_serializable(PACKAGE)
class Normal(LocationScale):
    """p(x|z) = ∏ N(x; μ, σ²) over the event's values; at σ = 1, −log p is MSE/2 + ½ log 2π.

    It is a sum, not a mean, and the constant is there: ``−log p = Σ ½ ((x − μ)/σ)² + log σ +
    ½ log 2π``. See `LocationScale` for the arguments.

    ``scale="optimal"`` is the σ-VAE of Rybkin, Daniilidis and Levine (2021, arXiv:2006.13202):
    in a training step σ² is what maximises the likelihood of the batch, its mean squared
    error over draws, events and their observed values, but at least min_scale². Its gradient is
    stopped: at an optimum in σ² the gradient through it is zero. Evaluation, sampling and export
    use a moving average of that σ² over some hundred steps, saved with the model; before any
    training σ is 1.
    """

    scale_words = ("learned", "per_value", "optimal")
    # Of the moving average; Keras' batch normalisation takes the same.
    _decay = 0.99

    @property
    def couples_batch(self) -> bool:  # type: ignore[override]
        """Whether the scale is that of a batch."""
        return self.scale == "optimal"

    def build(self, input_shape: Shape) -> None:
        """Create the head and the weights of the scale, those of the moving average included."""
        if self.scale == "optimal":
            options = {"trainable": False, "aggregation": "mean"}
            self.average_variance = self._add_scalar("average_variance", 0.0, **options)
            # The total weight of what the average has seen: dividing by it takes the bias of the
            # zero it started from out.
            self.average_weight = self._add_scalar("average_weight", 0.0, **options)
        super().build(input_shape)

    def _scale_of(self, parameters: dict[str, Tensor]) -> Tensor:
        if self.scale != "optimal":
            return super()._scale_of(parameters)
        weight = tf.convert_to_tensor(self.average_weight)
        is_trained = weight > 0
        variance = tf.convert_to_tensor(self.average_variance) / tf.where(is_trained, weight, 1.0)
        return tf.sqrt(tf.where(is_trained, variance, 1.0))

    def value_distribution(self, parameters: dict[str, Tensor]) -> Distribution:
        """Build the normal distribution of each value."""
        return tfd.Normal(parameters["loc"], self._scale_of(parameters))

    def training_distribution(
        self, parameters: dict[str, Tensor], x: Tensor, observed: Tensor | None = None
    ) -> Distribution:
        """Build p(x|z); with the optimal scale that of this batch, which joins the average."""
        if self.scale != "optimal":
            return super().training_distribution(parameters, x, observed)
        return self._joint(self.training_value_distribution(parameters, x, observed), observed)

    def training_value_distribution(
        self, parameters: dict[str, Tensor], x: Tensor, observed: Tensor | None = None
    ) -> Distribution:
        """Build the normal distribution of each value, with the optimal scale of this batch."""
        if self.scale != "optimal":
            return self.value_distribution(parameters)
        loc = parameters["loc"]
        squared = tf.math.squared_difference(x, loc)
        axes = list(range(squared.shape.rank - 1)) if self.learns_by_channel else None
        if observed is None:
            variance, is_empty = tf.reduce_mean(squared, axes), False
        else:
            is_observed = tf.broadcast_to(tf.cast(observed, tf.bool), tf.shape(squared))
            count = tf.math.count_nonzero(is_observed, axes, dtype=tf.float32)
            total = tf.reduce_sum(tf.where(is_observed, squared, 0.0), axes)
            variance, is_empty = tf.math.divide_no_nan(total, count), count == 0
        variance = tf.stop_gradient(tf.maximum(variance, self.min_scale**2))
        # A batch that is left out since it is not finite leaves the average alone too, and so
        # does one without a value.
        kept = tf.math.is_finite(variance) & tf.logical_not(is_empty)
        for average, new in ((self.average_variance, variance), (self.average_weight, 1.0)):
            old = tf.convert_to_tensor(average)
            average.assign(tf.where(kept, self._decay * old + (1 - self._decay) * new, old))
        return tfd.Normal(loc, tf.sqrt(variance))


@keras.saving.register_keras_serializable(PACKAGE)
class Laplace(LocationScale):
    """p(x|z) = ∏ Laplace(x; μ, b) over the event's values; at b = 1, −log p is L1 + log 2.

    See `LocationScale` for the arguments.
    """

    @property
    def _std_of_unit_scale(self) -> float:
        return math.sqrt(2)

    def value_distribution(self, parameters: dict[str, Tensor]) -> Distribution:
        """Build the Laplace distribution of each value."""
        return tfd.Laplace(parameters["loc"], self._scale_of(parameters))


@keras.saving.register_keras_serializable(PACKAGE)
class Logistic(LocationScale):
    """p(x|z) = ∏ Logistic(x; μ, s) over the event's values, of variance s² π²/3.

    ``−log p = Σ y + 2 log(1 + exp(−y)) + log s`` with y = (x − μ)/s. See `LocationScale` for the
    arguments.
    """

    @property
    def _std_of_unit_scale(self) -> float:
        return math.pi / math.sqrt(3)

    def value_distribution(self, parameters: dict[str, Tensor]) -> Distribution:
        """Build the logistic distribution of each value."""
        return tfd.Logistic(parameters["loc"], self._scale_of(parameters))


@keras.saving.register_keras_serializable(PACKAGE)
class StudentT(LocationScale):
    """p(x|z) = ∏ t(x; ν, μ, s) over the event's values, of which some may lie far off.

    Args:
        df: degrees of freedom ν, a number above 2, where the variance s² ν/(ν − 2) is finite; or
            ``"learned"`` for a trainable one that all values share, 5 at first.
        scale: s; see `LocationScale`.
        min_scale: see `LocationScale`.
        decoder_output: see `Likelihood`.
        **kwargs: those of `keras.layers.Layer`.

    Raises:
        InputError: if an option does not fit.
    """

    # Above 2 in float32 too, however small the softplus becomes.
    _positive_df = Positive(floor=2.001)
    _start_df = 5.0

    def __init__(
        self,
        *,
        df: float | str = 5.0,
        scale: float | str = 1.0,
        min_scale: float = 1e-3,
        decoder_output: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(scale=scale, min_scale=min_scale, decoder_output=decoder_output, **kwargs)
        check_positive("df", df, ("learned",), above=2)
        self.df = df

    def build(self, input_shape: Shape) -> None:
        """Create the head, and what is learned of scale and degrees of freedom."""
        if self.df == "learned":
            raw_df = self._positive_df.inverse(self._start_df)
            self.raw_df = self._add_scalar("raw_df", raw_df)
        super().build(input_shape)

    @property
    def _std_of_unit_scale(self) -> float:
        df = self.df if isinstance(self.df, (int, float)) else self._start_df
        return math.sqrt(df / (df - 2))

    def value_distribution(self, parameters: dict[str, Tensor]) -> Distribution:
        """Build the Student's t distribution of each value."""
        if self.df == "learned":
            df = self._positive_df(tf.convert_to_tensor(self.raw_df))
        else:
            df = tf.constant(self.df, tf.float32)
        return tfd.StudentT(df, parameters["loc"], self._scale_of(parameters))

    def get_config(self) -> Config:
        """Return the constructor's arguments."""
        return {**super().get_config(), "df": self.df}


@keras.saving.register_keras_serializable(PACKAGE)
class ContinuousBernoulli(Likelihood):
    """p(x|z) = ∏ C(λ) λ^x (1 − λ)^(1 − x) on [0, 1]: binary cross-entropy made a density.

    The normaliser is ``log C(λ) = log(l (1 + e^−l)/(1 − e^−l))`` with l the logit of λ, log 2 at
    l = 0 (Loaiza-Ganem and Cunningham 2019, arXiv:1907.06845). Its mean is not λ.
    """

    support = Support(0.0, 1.0)

    def _parameters(self, raw: Tensor) -> dict[str, Tensor]:
        return {"logits": raw}

    def starting_parameters(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """Return the logits of λ at which the mean is that at each place."""
        # At a logit l the mean is about 1/|l| from the nearer end: beyond 50 it hardly moves.
        mean = observed_mean(x)
        low, high = np.full_like(mean, -50.0), np.full_like(mean, 50.0)
        for _ in range(60):
            middle = (low + high) / 2
            is_below = _continuous_bernoulli_mean(middle) < mean
            low, high = np.where(is_below, middle, low), np.where(is_below, high, middle)
        return {"raw": (low + high) / 2}

    def value_distribution(self, parameters: dict[str, Tensor]) -> Distribution:
        """Build the continuous Bernoulli distribution of each value."""
        return tfd.ContinuousBernoulli(logits=parameters["logits"])


def _continuous_bernoulli_mean(logits: np.ndarray) -> np.ndarray:
    """Compute ``1/(1 − e^−l) − 1/l``, which is ½ + l/12 near l = 0."""
    far = np.where(np.abs(logits) < 1e-3, 1.0, logits)
    mean = -1 / np.expm1(-far) - 1 / far
    return np.where(np.abs(logits) < 1e-3, 0.5 + logits / 12, mean)


@keras.saving.register_keras_serializable(PACKAGE)
class Beta(Likelihood):
    """p(x|z) = ∏ Beta(u; a, b)/(1 + 2m) over the event's values, u = (x + m)/(1 + 2m).

    On [0, 1] itself values of 0 and 1 would have density 0 or infinity. The density is
    therefore one of x on the slightly larger interval (−m, 1 + m), where it integrates to 1; draws
    may lie up to m outside [0, 1].

    There are two parameters a value, raw r and t: ``a = ε + κ σ(r)`` and ``b = ε + κ σ(−r)``. The
    concentration κ rises with ``s = 2 softplus(t)/log 2`` from 0 to max_concentration, ``1/κ = 1/s
    + 1/max``; at r = t = 0 it is about 2, and the density flat. ε = 0.01 keeps the density
    normalisable.

    Args:
        margin: m, positive; the default is half a step of bytes / 255, about.
        max_concentration: bound of κ, above 2. Without one the density of a value that never
            changes grows without limit; the default lets the standard deviation of a value near
            the middle go down to 0.005.
        decoder_output: see `Likelihood`.
        **kwargs: those of `keras.layers.Layer`.

    Raises:
        InputError: if an option does not fit.
    """

    parameters_per_value = 2
    flat_parameters = 1
    support = Support(0.0, 1.0)
    _floor = 0.01

    def __init__(
        self,
        *,
        margin: float = 1 / 512,
        max_concentration: float = 1e4,
        decoder_output: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(decoder_output=decoder_output, **kwargs)
        check_positive("margin", margin)
        check_positive("max_concentration", max_concentration, above=2)
        self.margin = margin
        self.max_concentration = max_concentration

    def _parameters(self, raw: Tensor) -> dict[str, Tensor]:
        raw_mean, raw_concentration = keras.ops.split(raw, 2, axis=-1)
        free = 2 / math.log(2) * keras.ops.softplus(raw_concentration)
        concentration = free / (1 + free / self.max_concentration)
        return {
            "concentration1": self._floor + concentration * keras.ops.sigmoid(raw_mean),
            "concentration0": self._floor + concentration * keras.ops.sigmoid(-raw_mean),
        }

    def starting_parameters(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """Return r and t at which mean and variance are those at each place, about (ε is small)."""
        unit = (np.asarray(x, np.float64) + self.margin) / (1 + 2 * self.margin)
        mean = np.clip(smoothed_share(unit), 1e-3, 1 - 1e-3)
        variance = np.maximum(observed_mean(np.square(unit - mean)), 1e-12)
        most = min(100.0, 0.5 * self.max_concentration)
        concentration = np.clip(mean * (1 - mean) / variance - 1, 0.2, most)
        free = concentration / (1 - concentration / self.max_concentration)
        raw = Positive(0.0).inverse(free * math.log(2) / 2)
        return {"raw": np.concatenate([logit(mean), raw], axis=-1)}

    def value_distribution(self, parameters: dict[str, Tensor]) -> Distribution:
        """Build the stretched Beta distribution of each value."""
        from tensorflow_probability import bijectors as tfb

        beta = tfd.Beta(parameters["concentration1"], parameters["concentration0"])
        stretch = tfb.Chain([tfb.Shift(-self.margin), tfb.Scale(1 + 2 * self.margin)])
        return tfd.TransformedDistribution(beta, stretch)

    def get_config(self) -> Config:
        """Return the constructor's arguments."""
        options = {"margin": self.margin, "max_concentration": self.max_concentration}
        return {**super().get_config(), **options}
