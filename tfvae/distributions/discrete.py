"""The distributions of levels and counts that TensorFlow Probability lacks, or has slower.

Loading this module loads TensorFlow Probability: import it where a distribution is made.
"""

from typing import Any

import tensorflow as tf
from tensorflow_probability import distributions as tfd
from tensorflow_probability import random as tfp_random
from tensorflow_probability import util as tfp_util

from tfvae.distributions.scalar import ScalarDistribution
from tfvae.typing import Distribution, Seed, Tensor


class Lattice(ScalarDistribution):
    """x = step · k, for a distribution of whole numbers k; the probability of x is that of k.

    Args:
        distribution: of whole numbers, in any dtype, with scalar events.
        step: distance of neighbouring values of x.
        name: name of the distribution's operations.
    """

    def __init__(self, distribution: Distribution, step: float, name: str = "Lattice"):
        parameters = {"distribution": distribution, "step": step, "name": name}
        self._distribution = distribution
        self._step = step
        super().__init__(parameters)

    @classmethod
    def _parameter_properties(
        cls, dtype: tf.DType, num_classes: int | None = None
    ) -> dict[str, Any]:
        return {"distribution": tfp_util.BatchedComponentProperties()}

    @property
    def distribution(self) -> Distribution:
        """The distribution of k."""
        return self._distribution

    def _log_prob(self, x: Tensor) -> Tensor:
        # x is a level up to its rounding.
        k = tf.round(x / self._step)
        return self._distribution.log_prob(tf.cast(k, self._distribution.dtype))

    def _sample_n(self, n: Tensor, seed: Seed = None) -> Tensor:
        return self._step * tf.cast(self._distribution.sample(n, seed=seed), tf.float32)

    def _mean(self) -> Tensor:
        return self._step * self._distribution.mean()


class ZeroInflated(ScalarDistribution):
    """Counts that are 0 with probability π, and else as a distribution says, which may be 0 too.

    ``P(0) = π + (1 − π) p(0)`` and ``P(n) = (1 − π) p(n)`` for n above 0.

    Args:
        distribution: p, of counts, with scalar events.
        logits: of π, of a shape that broadcasts with the batch of p.
        name: name of the distribution's operations.
    """

    def __init__(self, distribution: Distribution, logits: Tensor, name: str = "ZeroInflated"):
        parameters = {"distribution": distribution, "logits": logits, "name": name}
        self._distribution = distribution
        self._logits = tf.convert_to_tensor(logits)
        super().__init__(parameters, dtype=distribution.dtype)

    @classmethod
    def _parameter_properties(
        cls, dtype: tf.DType, num_classes: int | None = None
    ) -> dict[str, Any]:
        return {
            "distribution": tfp_util.BatchedComponentProperties(),
            "logits": tfp_util.ParameterProperties(),
        }

    @property
    def distribution(self) -> Distribution:
        """The distribution of counts that are not 0 for another reason."""
        return self._distribution

    def _log_prob(self, n: Tensor) -> Tensor:
        other = tf.math.log_sigmoid(-self._logits) + self._distribution.log_prob(n)
        zero = tf.math.log_sigmoid(self._logits)
        # Where n is above 0 the first would be looked at by the gradient alone.
        is_zero = n < 0.5
        both = tf.where(is_zero, other, tf.zeros_like(other))
        return tf.where(is_zero, tf.reduce_logsumexp(tf.stack([both, zero + 0 * both]), 0), other)

    def _sample_n(self, n: Tensor, seed: Seed = None) -> Tensor:
        counts_seed, zero_seed = tfp_random.split_seed(seed, salt="zero_inflated")
        counts = self._distribution.sample(n, seed=counts_seed)
        zeros = tfd.Bernoulli(logits=self._logits + tf.zeros_like(counts)).sample(seed=zero_seed)
        return tf.where(zeros == 1, tf.zeros_like(counts), counts)

    def _mean(self) -> Tensor:
        return tf.sigmoid(-self._logits) * self._distribution.mean()


class FastBernoulli(tfd.Bernoulli):
    """A Bernoulli distribution of given logits whose log-probability takes half the time.

    TFP's evaluates the logarithms of both outcomes and adds the products, where one will do.
    """

    def _log_prob(self, event: Tensor) -> Tensor:
        logits = tf.convert_to_tensor(self.logits)
        event = tf.cast(event, logits.dtype)
        if event.shape != logits.shape:
            shape = tf.broadcast_dynamic_shape(tf.shape(event), tf.shape(logits))
            event, logits = tf.broadcast_to(event, shape), tf.broadcast_to(logits, shape)
        return -tf.nn.sigmoid_cross_entropy_with_logits(labels=event, logits=logits)


class FlatCategorical(tfd.Categorical):
    """A categorical distribution whose logits may have any number of axes.

    On some processors TensorFlow takes oneDNN's softmax, which refuses more than five; draws of
    a batch of images with channels and levels have six. The softmax here is of two axes.
    """

    def _probs_parameter_no_checks(self) -> Tensor:
        logits = tf.convert_to_tensor(self._logits)
        flat = tf.reshape(logits, (-1, tf.shape(logits)[-1]))
        return tf.ensure_shape(tf.reshape(tf.nn.softmax(flat), tf.shape(logits)), logits.shape)


class CategoricalLevels(FlatCategorical):
    """A categorical distribution of k = 0, 1, ..., with the mean of k.

    Args:
        logits: unconstrained, the levels along the last axis.
        name: name of the distribution's operations.
    """

    def __init__(self, logits: Tensor, name: str = "CategoricalLevels"):
        # Without this a level that does not exist would fail in the loss's own words, before the
        # check of the data can say what is wrong.
        super().__init__(logits=logits, force_probs_to_zero_outside_support=True, name=name)
        self._parameters = {"logits": logits, "name": name}

    @classmethod
    def _parameter_properties(
        cls, dtype: tf.DType, num_classes: int | None = None
    ) -> dict[str, Any]:
        return {"logits": tfp_util.ParameterProperties(event_ndims=1)}

    def _mean(self) -> Tensor:
        probs = self.probs_parameter()
        return tf.tensordot(probs, tf.range(probs.shape[-1], dtype=probs.dtype), axes=1)


class LogisticLevels(ScalarDistribution):
    """A logistic variable rounded to the nearest of k = 0, 1, ..., levels − 1.

    ``P(k) = σ(b) − σ(a)`` with a = (k − ½ − μ)/s and b = (k + ½ − μ)/s; a = −∞ at the first level
    and b = ∞ at the last.

    Args:
        loc: μ, in levels, any shape.
        scale: s, in levels, of a shape that broadcasts with `loc`.
        levels: how many.
        name: name of the distribution's operations.
    """

    def __init__(self, loc: Tensor, scale: Tensor, levels: int, name: str = "LogisticLevels"):
        parameters = {"loc": loc, "scale": scale, "levels": levels, "name": name}
        self._loc = tf.convert_to_tensor(loc, tf.float32)
        self._scale = tf.convert_to_tensor(scale, tf.float32)
        self._levels = levels
        super().__init__(parameters)

    @classmethod
    def _parameter_properties(
        cls, dtype: tf.DType, num_classes: int | None = None
    ) -> dict[str, Any]:
        return {
            "loc": tfp_util.ParameterProperties(),
            "scale": tfp_util.ParameterProperties(),
        }

    def level_probs(self) -> Tensor:
        """Compute P(k) of all levels, `[..., levels]`, each within about 1e-7.

        It takes one sigmoid for each, where their logarithms take two and more.
        """
        edges = tf.range(0.5, self._levels - 1.0)
        below = tf.sigmoid((edges - self._loc[..., None]) / self._scale[..., None])
        ends = tf.zeros_like(below[..., :1])
        below = tf.concat([ends, below, ends + 1], axis=-1)
        return tf.maximum(below[..., 1:] - below[..., :-1], 0.0)

    def _log_prob(self, k: Tensor) -> Tensor:
        # σ(b) − σ(a) = σ(b) σ(−a) (1 − exp(a − b)), whose factors have logarithms that neither
        # cancel nor overflow. At an end one of the first two is all there is.
        is_first, is_last = k < 0.5, k > self._levels - 1.5
        below = tf.math.log_sigmoid((k + 0.5 - self._loc) / self._scale)
        above = tf.math.log_sigmoid((self._loc - k + 0.5) / self._scale)
        both = below + above + tf.math.log(-tf.math.expm1(-1 / self._scale))
        return tf.where(is_first, below, tf.where(is_last, above, both))

    def _sample_n(self, n: Tensor, seed: Seed = None) -> Tensor:
        draws = tfd.Logistic(self._loc, self._scale).sample(n, seed=seed)
        return tf.clip_by_value(tf.round(draws), 0.0, self._levels - 1.0)

    def _mean(self) -> Tensor:
        # E[k] = Σ_{j ≥ 1} P(k ≥ j): one term at a time, as all of them side by side would take
        # `levels` times the memory.
        def add(total: Tensor, level: Tensor) -> Tensor:
            return total + tf.sigmoid((self._loc - level + 0.5) / self._scale)

        zeros = tf.zeros_like(self._loc + self._scale)
        return tf.foldl(add, tf.range(1.0, self._levels), zeros)
