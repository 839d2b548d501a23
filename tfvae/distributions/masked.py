"""Distributions of values of which some were not observed, or count more than others.

Loading this module loads TensorFlow Probability: import it where a distribution is made.
"""

from typing import Any

import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tfvae.typing import Seed, Tensor


class PartlyObserved(tfd.Masked):
    """A `tfd.Masked` that forgets the mask when it draws.

    The log-probability of a value that was not observed is 0, and so are its gradients: the mask
    says what evidence there is. Draws, mean, mode and variance remain those of the distribution
    below the mask, since the model says something about what was not observed as well; a
    `tfd.Masked` has its safe value there.

    The values may have another dtype than the distribution, such as float32 for a
    `tfd.Bernoulli` of int32. The mask has to broadcast to the distribution's batch shape.
    """

    def _log_prob(self, x: Tensor) -> Tensor:
        observed = self.validity_mask
        # Selected twice: an infinity times the outer selection's zero gradient would be NaN.
        safe = tf.cast(self.safe_sample_fn(self.distribution), x.dtype)
        log_prob = self.distribution.log_prob(tf.where(observed, x, safe))
        return tf.where(observed, log_prob, tf.zeros([], log_prob.dtype))

    def _sample_n(self, n: Tensor, seed: Seed = None, **kwargs: Any) -> Tensor:
        return self.distribution.sample(n, seed=seed, **kwargs)

    def _mean(self) -> Tensor:
        return self.distribution.mean()

    def _mode(self) -> Tensor:
        return self.distribution.mode()

    def _variance(self) -> Tensor:
        return self.distribution.variance()

    def _stddev(self) -> Tensor:
        return self.distribution.stddev()


class Weighted(PartlyObserved):
    """A distribution whose log-probabilities are multiplied by weights: Σ w·log p(x).

    A value of weight 0 was not observed. The result is no density unless all weights are 0 or 1;
    draws and means are those of the distribution below.

    Args:
        distribution: of scalar events.
        weight: float32, broadcasts to the batch shape of the distribution.
        safe_sample_fn: see `tfd.Masked`.
    """

    def __init__(self, distribution: tfd.Distribution, weight: Tensor, safe_sample_fn: Any):
        super().__init__(distribution, weight > 0, safe_sample_fn=safe_sample_fn, name="Weighted")
        self._weight = weight

    @classmethod
    def _parameter_properties(cls, dtype: Any, num_classes: Any = None) -> dict[str, Any]:
        properties = super()._parameter_properties(dtype, num_classes)
        return {"distribution": properties["distribution"], "weight": properties["validity_mask"]}

    def _log_prob(self, x: Tensor) -> Tensor:
        log_prob = super()._log_prob(x)
        return tf.cast(self._weight, log_prob.dtype) * log_prob
