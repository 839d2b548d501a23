"""A Gaussian that is computed from its log-variance.

Loading this module loads TensorFlow Probability: import it where a distribution is made.
"""

import math
from typing import Any

import tensorflow as tf
from tensorflow_probability import distributions as tfd
from tensorflow_probability import util as tfp_util

from tfvae.divergences import gaussian_kl


class LogVarianceNormal(tfd.Normal):
    """N(loc, exp(log_var)), element by element.

    A standard deviation that has been through ``exp`` is 0 in float32 for a log-variance below
    about -174; its logarithm, and with it log-density and KL, would be infinite there. Written in
    the log-variance, both stay finite and keep their gradients.

    Args:
        loc: mean, any shape.
        log_var: logarithm of the variance, the same shape.
        name: name of the distribution's operations.
    """

    def __init__(self, loc: Any, log_var: Any, name: str = "LogVarianceNormal"):
        parameters = {"loc": loc, "log_var": log_var, "name": name}
        self._log_var = tf.convert_to_tensor(log_var, name="log_var")
        super().__init__(loc, tf.exp(0.5 * self._log_var), name=name)
        self._parameters = parameters

    @classmethod
    def _parameter_properties(cls, dtype: Any, num_classes: Any = None) -> dict[str, Any]:
        return {
            "loc": tfp_util.ParameterProperties(),
            "log_var": tfp_util.ParameterProperties(),
        }

    @property
    def log_var(self) -> tf.Tensor:
        """Logarithm of the variance."""
        return self._log_var

    def _sample_n(self, n: Any, seed: Any = None) -> tf.Tensor:
        # The reparameterisation: z = μ + σ ε, with ε ~ N(0, 1) that no parameter enters.
        zeros = tf.zeros_like(self.loc)
        return self.loc + self.scale * tfd.Normal(zeros, 1.0).sample(n, seed=seed)

    def _log_prob(self, x: Any) -> tf.Tensor:
        # exp(−¼ λ) twice: the square of exp(−½ λ), which is infinite in float32 below −177,
        # and exp(−λ) itself, infinite below −88, would make of the mean 0 · ∞.
        root = tf.exp(-0.25 * self.log_var)
        squared = tf.square((x - self.loc) * root * root)
        return -0.5 * (squared + self.log_var + math.log(2 * math.pi))

    def _entropy(self) -> tf.Tensor:
        return 0.5 * (self.log_var + 1 + math.log(2 * math.pi)) + tf.zeros_like(self.loc)


@tfd.RegisterKL(LogVarianceNormal, tfd.Normal)
def _kl_log_variance_normal(
    q: LogVarianceNormal, p: tfd.Normal, name: str | None = None
) -> tf.Tensor:
    with tf.name_scope(name or "kl_log_variance_normal"):
        p_log_var = p.log_var if isinstance(p, LogVarianceNormal) else 2 * tf.math.log(p.scale)
        return gaussian_kl(q.loc, q.log_var, p.loc, p_log_var)
