"""Gaussians that are computed from their log-variances.

Loading this module loads TensorFlow Probability: import it where a distribution is made.
"""

import math
from typing import Any

import tensorflow as tf
from tensorflow_probability import distributions as tfd
from tensorflow_probability import util as tfp_util

from tfvae.distributions.kl import gaussian_kl


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


class FullCovarianceNormal(tfd.MultivariateNormalTriL):
    """N(loc, L Lᵀ) with the Cholesky factor L = diag(exp ½ log_var) (I + lower).

    ``log det L = ½ Σ log_var`` needs no logarithm of a rounded diagonal, and ``L⁻¹ (x − loc)``
    divides by the scales before it solves a system with ones on the diagonal: log-density, KL and
    their gradients stay finite where ``exp(½ log_var)`` is 0 in float32.

    Args:
        loc: mean, `[..., d]`.
        log_var: logarithm of L's squared diagonal, `[..., d]`: the log-variance of each dimension
            given those before it.
        lower: matrix `[..., d, d]`, of which only what lies below the diagonal counts.
        name: name of the distribution's operations.
    """

    def __init__(self, loc: Any, log_var: Any, lower: Any, name: str = "FullCovarianceNormal"):
        parameters = {"loc": loc, "log_var": log_var, "lower": lower, "name": name}
        self._log_var = tf.convert_to_tensor(log_var, name="log_var")
        lower = tf.convert_to_tensor(lower, name="lower")
        self._lower = tf.linalg.band_part(lower, -1, 0) - tf.linalg.band_part(lower, 0, 0)
        mixing = self._lower + tf.eye(lower.shape[-1], dtype=lower.dtype)
        self._mixing = tf.linalg.LinearOperatorLowerTriangular(mixing, is_non_singular=True)
        super().__init__(loc, tf.exp(0.5 * self._log_var)[..., None] * mixing, name=name)
        self._parameters = parameters

    @classmethod
    def _parameter_properties(cls, dtype: Any, num_classes: Any = None) -> dict[str, Any]:
        return {
            "loc": tfp_util.ParameterProperties(event_ndims=1),
            "log_var": tfp_util.ParameterProperties(event_ndims=1),
            "lower": tfp_util.ParameterProperties(event_ndims=2),
        }

    @property
    def log_var(self) -> tf.Tensor:
        """Logarithm of the squared diagonal of the Cholesky factor, `[..., d]`."""
        return self._log_var

    @property
    def lower(self) -> tf.Tensor:
        """The strictly lower triangular matrix in L = diag(exp ½ log_var) (I + lower)."""
        return self._lower

    def _log_prob(self, x: Any) -> tf.Tensor:
        root = tf.exp(-0.25 * self.log_var)  # Twice, as in LogVarianceNormal.
        whitened = self._mixing.solvevec((x - self.loc) * root * root)
        return -0.5 * tf.reduce_sum(
            tf.square(whitened) + self.log_var + math.log(2 * math.pi), axis=-1
        )

    def _sample_and_log_prob(self, sample_shape: Any, seed: Any, **kwargs: Any) -> Any:
        # Not by the base class, whose log-determinant is that of the rounded diagonal.
        x = self.sample(sample_shape, seed=seed, **kwargs)
        return x, self.log_prob(x)

    def _entropy(self) -> tf.Tensor:
        return 0.5 * tf.reduce_sum(
            self.log_var + 1 + math.log(2 * math.pi) + tf.zeros_like(self.loc), axis=-1
        )


def diagonal_normal(loc: Any, log_var: Any) -> Any:
    """Return N(loc, diag exp(log_var)), a `tfd.Independent` with event shape `[d]`.

    Args:
        loc: `[..., d]`.
        log_var: the same shape.
    """
    normal = LogVarianceNormal(tf.convert_to_tensor(loc), tf.convert_to_tensor(log_var))
    return tfd.Independent(normal, reinterpreted_batch_ndims=1)


def _log_var_of(normal: tfd.Normal) -> tf.Tensor:
    if isinstance(normal, LogVarianceNormal):
        return normal.log_var
    return 2 * tf.math.log(normal.scale)


@tfd.RegisterKL(LogVarianceNormal, tfd.Normal)
def _kl_log_variance_normal(
    q: LogVarianceNormal, p: tfd.Normal, name: str | None = None
) -> tf.Tensor:
    with tf.name_scope(name or "kl_log_variance_normal"):
        return gaussian_kl(q.loc, q.log_var, p.loc, _log_var_of(p))


@tfd.RegisterKL(FullCovarianceNormal, tfd.Independent)
def _kl_full_normal(
    q: FullCovarianceNormal, p: tfd.Independent, name: str | None = None
) -> tf.Tensor:
    """``Σ_i [KL(N(μ_i, exp λ_i) ‖ p_i) + ½ exp(λ_i − λ_p,i) Σ_j lower_ij²]``."""
    if not isinstance(p.distribution, tfd.Normal) or p.event_shape.rank != 1:
        raise NotImplementedError(f"no closed form of the KL from a FullCovarianceNormal to {p}")
    with tf.name_scope(name or "kl_full_normal"):
        p_log_var = _log_var_of(p.distribution)
        diagonal = gaussian_kl(q.loc, q.log_var, p.distribution.loc, p_log_var)
        mixing = tf.exp(q.log_var - p_log_var) * tf.reduce_sum(tf.square(q.lower), axis=-1)
        return tf.reduce_sum(diagonal + 0.5 * mixing, axis=-1)
