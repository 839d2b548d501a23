"""Likelihoods that are probabilities: of bits, of evenly spaced levels, and of counts."""

import abc
import math
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfvae.checks import MOST_UNITS, checked_count, checked_flag
from tfvae.distributions.family import PACKAGE
from tfvae.lazy import tfd
from tfvae.likelihoods.base import Likelihood, Positive, check_floor, check_positive
from tfvae.likelihoods.continuous import LocationScale
from tfvae.likelihoods.moments import (
    level_shares,
    logit,
    observed_mean,
    pooled_mean,
    smoothed_share,
)
from tfvae.likelihoods.support import Support
from tfvae.typing import Config, Distribution, Shape, Tensor


@keras.saving.register_keras_serializable(PACKAGE)
class Bernoulli(Likelihood):
    """p(x|z) = ∏ p^x (1 − p)^(1 − x) over the event's values; −log p is binary cross-entropy.

    For values between 0 and 1 this is the customary cross-entropy and no normalised density:
    binarize the data for a log-likelihood in the strict sense.
    """

    support = Support(0.0, 1.0)
    takes_mean = True
    is_discrete = True  # on the binary data it is meant for

    def gives_probabilities(self, x: Tensor) -> bool | Tensor:
        """Return whether all values are 0 or 1: of a value between them it gives none."""
        return tf.reduce_all((x == 0) | (x == 1))

    def _from_mean(self, mean: Tensor) -> Tensor:
        # The margin Keras uses for probabilities: a saturated sigmoid must not give an infinity.
        margin = keras.config.epsilon()
        mean = keras.ops.clip(mean, margin, 1 - margin)
        return keras.ops.log(mean) - keras.ops.log1p(-mean)

    def _parameters(self, raw: Tensor) -> dict[str, Tensor]:
        return {"logits": raw}

    def starting_parameters(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """Return the logits of the mean at each place, which half a count keeps from 0 and 1."""
        return {"raw": logit(smoothed_share(x))}

    def value_distribution(self, parameters: dict[str, Tensor]) -> Distribution:
        """Build the Bernoulli distribution of each value."""
        from tfvae.distributions.discrete import FastBernoulli

        return FastBernoulli(logits=parameters["logits"], dtype=tf.float32)


# --- levels 0, high/(levels − 1), ..., high ------------------------------------------------------


def _level_support(levels: int, high: float) -> Support:
    """Return the lattice of `levels` values from 0 to `high`."""
    checked_count("levels", levels, least=2, most=MOST_UNITS)
    check_positive("high", high)
    return Support(0.0, float(high), high / (levels - 1))


def _components_last(raw: Tensor, count: int) -> Tensor:
    """Turn `[..., count · C]`, channels varying fastest, to `[..., C, count]`."""
    channels = raw.shape[-1] // count
    shape = tf.concat([tf.shape(raw)[:-1], [count, channels]], 0)
    return tf.linalg.matrix_transpose(tf.reshape(raw, shape))


@keras.saving.register_keras_serializable(PACKAGE)
class DiscretizedLogistic(LocationScale):
    """p(x|z) = ∏ of a logistic's mass in the bin of each level, over the event's values.

    The bin of a level reaches halfway to its neighbours, those of 0 and `high` to infinity:
    ``P(x) = F(x + ½ step) − F(x − ½ step)`` with F the distribution function of Logistic(μ, s)
    (Kingma et al. 2016, arXiv:1606.04934). The probabilities of all levels sum to 1:
    bits per dimension compare with those of papers.

    Location, scale and min_scale are in units of `high`, so that the same options serve values
    in [0, 1] and bytes.

    Args:
        levels: how many levels there are.
        high: the highest; the lowest is 0.
        scale: s: a positive number; ``"learned"``, one for all values, 0.1 at first; or
            ``"per_value"``, one each, 0.07 at first.
        min_scale: lower bound of a scale that is not fixed. The default, about an eighth of a
            step of 256 levels, is near PixelCNN++'s; it leaves a level up to 96 % of the mass.
        decoder_output: see `Likelihood`.
        **kwargs: those of `keras.layers.Layer`.

    Raises:
        InputError: if an option does not fit.
    """

    is_discrete = True
    takes_mean = False  # beyond the ends the mass piles up: the location is not the mean
    start = 0.1

    def __init__(
        self,
        *,
        levels: int = 256,
        high: float = 1.0,
        scale: float | str = "learned",
        min_scale: float = 5e-4,
        decoder_output: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(scale=scale, min_scale=min_scale, decoder_output=decoder_output, **kwargs)
        self.support = _level_support(levels, high)
        self.levels = int(levels)
        self.high = high

    @property
    def _unit(self) -> float:
        return self.high

    @property
    def _std_of_unit_scale(self) -> float:
        return math.pi / math.sqrt(3)

    def value_distribution(self, parameters: dict[str, Tensor]) -> Distribution:
        """Build the discretised logistic distribution of each value."""
        from tfvae.distributions.discrete import Lattice, LogisticLevels

        last = self.levels - 1
        level = LogisticLevels(
            last * parameters["loc"], last * self._scale_of(parameters), self.levels
        )
        return Lattice(level, self.high / last)

    def get_config(self) -> Config:
        """Return the constructor's arguments."""
        return {**super().get_config(), "levels": self.levels, "high": self.high}


@keras.saving.register_keras_serializable(PACKAGE)
class DiscretizedLogisticMixture(Likelihood):
    """p(x|z) = ∏ Σ_k π_k P_k(x): for each value a mixture of discretised logistics.

    The mixture is PixelCNN++'s (Salimans et al. 2017, arXiv:1701.05517, eq. 2), but the channels
    are independent given z: there red, green and blue share π, and green and blue depend on the
    channels before. See `DiscretizedLogistic` for the components and their units.

    For each value there are K locations, K logits of π and K scales. At first the
    locations are spread over the range, around (k + ½)/K, and π is uniform.

    Args:
        components: K.
        levels: how many levels there are.
        high: the highest; the lowest is 0.
        min_scale: lower bound of the scales, in units of `high`.
        decoder_output: see `Likelihood`.
        **kwargs: those of `keras.layers.Layer`.

    Raises:
        InputError: if an option does not fit.
    """

    is_discrete = True

    def __init__(
        self,
        *,
        components: int = 5,
        levels: int = 256,
        high: float = 1.0,
        min_scale: float = 5e-4,
        decoder_output: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(decoder_output=decoder_output, **kwargs)
        self.components = checked_count("components", components, most=MOST_UNITS)
        check_floor(min_scale, DiscretizedLogistic.start)
        self.support = _level_support(levels, high)
        self.levels = int(levels)
        self.high = high
        self.min_scale = min_scale
        self.parameters_per_value = 3 * self.components
        self.flat_parameters = 2 * self.components

    def _parameters(self, raw: Tensor) -> dict[str, Tensor]:
        loc, logits, raw_scale = keras.ops.split(raw, 3, axis=-1)
        centres = (keras.ops.arange(self.components, dtype="float32") + 0.5) / self.components
        loc += keras.ops.repeat(centres, self.event_shape[-1])
        scale = Positive(self.min_scale, DiscretizedLogistic.start)(raw_scale)
        return {"loc": loc, "logits": logits, "scale": scale}

    def starting_parameters(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """Return a component for each K-th of the range: its share, its mean and its spread.

        Each is told from the values there and one more that is spread over it.
        """
        unit = np.asarray(x, np.float64) / self.high
        width = 1 / self.components
        of = np.clip(np.floor(unit / width), 0, self.components - 1)
        found = []
        for component in range(self.components):
            chosen = np.where(of == component, unit, np.nan)
            count = (~np.isnan(chosen)).sum(axis=0)
            centre = (component + 0.5) * width
            offset = np.nansum(chosen - centre, axis=0) / (count + 1)
            squared = np.nansum(np.square(chosen - centre - offset), axis=0)
            std = np.sqrt((squared + width**2 / 12) / (count + 1))
            found.append((offset, np.log(count + 0.5), std * math.sqrt(3) / math.pi))
        loc, logits, scale = (np.concatenate(parts, axis=-1) for parts in zip(*found, strict=True))
        # A quarter of a step gives a level most of the mass.
        scale = np.maximum(scale, max(2 * self.min_scale, 0.25 / (self.levels - 1)))
        raw_scale = Positive(self.min_scale, DiscretizedLogistic.start).inverse(scale)
        return {"raw": np.concatenate([loc, logits, raw_scale], axis=-1)}

    def value_distribution(self, parameters: dict[str, Tensor]) -> Distribution:
        """Build the mixture of each value."""
        from tfvae.distributions.discrete import FlatCategorical, Lattice, LogisticLevels

        loc, logits, scale = (
            _components_last(parameters[name], self.components)
            for name in ("loc", "logits", "scale")
        )
        last = self.levels - 1
        mixture = tfd.MixtureSameFamily(
            FlatCategorical(logits=logits), LogisticLevels(last * loc, last * scale, self.levels)
        )
        return Lattice(mixture, self.high / last)

    def get_config(self) -> Config:
        """Return the constructor's arguments."""
        names = ("components", "levels", "high", "min_scale")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


@keras.saving.register_keras_serializable(PACKAGE)
class Categorical(Likelihood):
    """p(x|z) = ∏ π(x) over the event's values, with a probability of its own for each level.

    ``π = softmax(logits)``; −log p is the cross-entropy of a classifier with `levels` classes. It
    knows nothing of the levels' order, and has `levels` parameters a value.

    Args:
        levels: how many levels there are.
        high: the highest; the lowest is 0.
        decoder_output: see `Likelihood`.
        **kwargs: those of `keras.layers.Layer`.

    Raises:
        InputError: if an option does not fit.
    """

    is_discrete = True

    def __init__(
        self,
        *,
        levels: int = 256,
        high: float = 1.0,
        decoder_output: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(decoder_output=decoder_output, **kwargs)
        self.support = _level_support(levels, high)
        self.levels = self.parameters_per_value = int(levels)
        self.high = high

    def _parameters(self, raw: Tensor) -> dict[str, Tensor]:
        return {"logits": raw}

    def starting_parameters(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """Return the logarithms of how often each level occurs at each place."""
        logits = np.log(level_shares(x, self.high / (self.levels - 1), self.levels))
        logits -= logits.mean(axis=-1, keepdims=True)
        # As the head has them: the first level of all channels, then the second.
        return {"raw": np.swapaxes(logits, -1, -2).reshape(*logits.shape[:-2], -1)}

    def value_distribution(self, parameters: dict[str, Tensor]) -> Distribution:
        """Build the categorical distribution of each value."""
        from tfvae.distributions.discrete import CategoricalLevels, Lattice

        level = CategoricalLevels(_components_last(parameters["logits"], self.levels))
        return Lattice(level, self.high / (self.levels - 1))

    def get_config(self) -> Config:
        """Return the constructor's arguments."""
        return {**super().get_config(), "levels": self.levels, "high": self.high}


# --- counts --------------------------------------------------------------------------------------


def _exact_step(step: float) -> float:
    """Return the step that was meant: 0.0039216 stands for 1/255.

    Raises:
        InputError: if the step is not a positive number.
    """
    check_positive("step", step)
    per_unit = round(1 / step)
    return 1 / per_unit if abs(per_unit * step - 1) < 1e-4 else float(step)


# Of π = 0.1, where the probability of a zero starts.
_ZERO_LOGIT = -math.log(9)


class Count(Likelihood):
    """A likelihood of counts n = 0, 1, 2, ..., found in the data as x = step · n.

    What is called p(x|z) is the probability of n. The first parameter is log E[x|z], and starts at
    0 for every value and z: through the exponential a start of 3 instead costs thousands of nats.

    Zero-inflated, n is 0 with a probability π of its own, the last parameter, 0.1 at first, and
    else as the count says: for counts of which more are 0 than any mean explains.

    Args:
        step: the value of one count in the data: 1 for whole numbers, 1/255 for bytes / 255.
            The reciprocal of a whole number may be rounded to five digits.
        zero_inflated: whether it is.
        **kwargs: those of `Likelihood`.

    Raises:
        InputError: if the step is not a positive number.
    """

    is_discrete = True
    takes_mean = True
    # The name of log E[n|z] among the parameters.
    mean_parameter = "log_mean"

    def __init__(
        self,
        *,
        step: float = 1.0,
        zero_inflated: bool = False,
        decoder_output: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(decoder_output=decoder_output, **kwargs)
        self.step = step
        self._exact_step = _exact_step(step)
        self.support = Support(0.0, math.inf, self._exact_step)
        self.zero_inflated = checked_flag("zero_inflated", zero_inflated)
        self._have_parameters(1)

    def _have_parameters(self, of_count: int) -> None:
        """Say how many parameters a count has, besides that of a zero."""
        self.parameters_per_value = self.flat_parameters = of_count + self.zero_inflated
        self.takes_mean = self.parameters_per_value == 1

    def _parameters(self, raw: Tensor) -> dict[str, Tensor]:
        if not self.zero_inflated:
            return self._count_parameters(raw)
        count = self.parameters_per_value
        of_count = raw.shape[-1] // count * (count - 1)
        zero_logits = raw[..., of_count:] + _ZERO_LOGIT
        return {**self._count_parameters(raw[..., :of_count]), "zero_logits": zero_logits}

    @abc.abstractmethod
    def _count_parameters(self, raw: Tensor) -> dict[str, Tensor]:
        """Name the parameters of counts, those of zeros left out."""

    @abc.abstractmethod
    def _count_distribution(self, parameters: dict[str, Tensor]) -> Distribution:
        """Build the distribution of each count n, zeros of their own left out."""

    def value_distribution(self, parameters: dict[str, Tensor]) -> Distribution:
        """Build the distribution of each value, on the lattice."""
        from tfvae.distributions.discrete import Lattice, ZeroInflated

        count = self._count_distribution(parameters)
        if self.zero_inflated:
            count = ZeroInflated(count, parameters["zero_logits"])
        return Lattice(count, self._exact_step)

    def _from_mean(self, mean: Tensor) -> Tensor:
        return keras.ops.log(keras.ops.maximum(mean, keras.config.epsilon()))

    def starting_parameters(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """Return the logarithm of the mean at each place, of half a count where there is none."""
        return {"raw": self._starting_raw(x)}

    def _starting_raw(self, x: np.ndarray, *more: np.ndarray) -> np.ndarray:
        """Join log E[x|z] at the data's mean, other parameters of counts, and that of zeros."""
        log_mean = np.log(np.maximum(observed_mean(x), self._exact_step / (2 * len(x))))
        if not self.zero_inflated:
            return np.concatenate([log_mean, *more], axis=-1)
        # The mean of all is that of the counts times the probability of one.
        log_mean = log_mean + np.log1p(np.exp(_ZERO_LOGIT))
        return np.concatenate([log_mean, *more, np.zeros_like(log_mean)], axis=-1)

    def _log_mean_count(self, raw: Tensor) -> Tensor:
        """Return log E[n|z], from log E[x|z]."""
        return raw - math.log(self._exact_step)

    def get_config(self) -> Config:
        """Return the constructor's arguments."""
        options = {"step": self.step, "zero_inflated": self.zero_inflated}
        return {**super().get_config(), **options}


@keras.saving.register_keras_serializable(PACKAGE)
class Poisson(Count):
    """p(x|z) = ∏ λ^n e^−λ / n! over the event's values, with counts n = x/step and mean λ.

    The variance of a count is its mean: bytes, whose noise is smaller, fit badly. See `Count` for
    the arguments.
    """

    mean_parameter = "log_rate"

    def _count_parameters(self, raw: Tensor) -> dict[str, Tensor]:
        return {"log_rate": self._log_mean_count(raw)}

    def _count_distribution(self, parameters: dict[str, Tensor]) -> Distribution:
        return tfd.Poisson(log_rate=parameters["log_rate"])


@keras.saving.register_keras_serializable(PACKAGE)
class NegativeBinomial(Count):
    """p(x|z) = ∏ NB(n; m, α) over the event's values: counts n = x/step that vary more.

    A count with mean m has variance m + α m². With r = 1/α, ``NB(n) = Γ(n + r)/(n! Γ(r)) ·
    (r/(r + m))^r (m/(r + m))^n``; α → 0 is the Poisson.

    Args:
        dispersion: α, in terms of counts whatever the step: a positive number; ``"learned"`` for
            one that all values share, 1 at first; ``"per_value"`` for one each. What is not fixed
            is at least 1e-4.
        step: see `Count`.
        zero_inflated: see `Count`.
        decoder_output: see `Likelihood`.
        **kwargs: those of `keras.layers.Layer`.

    Raises:
        InputError: if an option does not fit.
    """

    _positive = Positive(floor=1e-4)

    def __init__(
        self,
        *,
        dispersion: float | str = "learned",
        step: float = 1.0,
        zero_inflated: bool = False,
        decoder_output: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(
            step=step, zero_inflated=zero_inflated, decoder_output=decoder_output, **kwargs
        )
        check_positive("dispersion", dispersion, ("learned", "per_value"))
        self.dispersion = dispersion
        self._have_parameters(2 if dispersion == "per_value" else 1)

    def build(self, input_shape: Shape) -> None:
        """Create the head, and the shared dispersion where it is learned."""
        if self.dispersion == "learned":
            self.raw_dispersion = self._add_scalar("raw_dispersion", self._positive.inverse(1.0))
        super().build(input_shape)

    def starting_parameters(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """Return also the dispersion at which the variance is that of the counts."""
        found = super().starting_parameters(x)
        if self.dispersion not in ("learned", "per_value"):
            return found
        mean = observed_mean(x) / self._exact_step
        excess = np.square(np.asarray(x, np.float64) / self._exact_step - mean) - mean
        squared_mean = np.square(mean)
        if self.dispersion == "per_value":
            excess = observed_mean(excess)
        else:
            excess = pooled_mean(excess, self.learns_by_channel)
            squared_mean = pooled_mean(squared_mean[None], self.learns_by_channel)
        dispersion = np.clip(excess / np.maximum(squared_mean, 1e-6), 0.01, 100.0)
        raw = self._positive.inverse(dispersion)
        if self.dispersion == "per_value":
            return {"raw": self._starting_raw(x, raw)}
        return {**found, "raw_dispersion": raw}

    def _count_parameters(self, raw: Tensor) -> dict[str, Tensor]:
        if self.dispersion != "per_value":
            return {"log_mean": self._log_mean_count(raw)}
        raw_mean, raw_dispersion = keras.ops.split(raw, 2, axis=-1)
        return {
            "log_mean": self._log_mean_count(raw_mean),
            "dispersion": self._positive(raw_dispersion),
        }

    def _count_distribution(self, parameters: dict[str, Tensor]) -> Distribution:
        log_mean = parameters["log_mean"]
        if self.dispersion == "per_value":
            dispersion = parameters["dispersion"]
        elif self.dispersion == "learned":
            dispersion = self._positive(tf.convert_to_tensor(self.raw_dispersion))
        else:
            dispersion = tf.constant(self.dispersion, tf.float32)
        return tfd.NegativeBinomial(
            tf.broadcast_to(1 / dispersion, tf.shape(log_mean)),
            logits=log_mean + tf.math.log(dispersion),
        )

    def get_config(self) -> Config:
        """Return the constructor's arguments."""
        return {**super().get_config(), "dispersion": self.dispersion}
