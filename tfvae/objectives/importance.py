"""Objectives of several draws: importance-weighted bounds, and better gradients for their encoders.

    log p(x) ≥ E[log (1/K) Σ_k w_k],   w_k = p(x, z_k) / q(z_k|x)

All are written in log w, `[K, B]`. What `IWAE` weighs is each draw's gradient, by the normalised
weight w_k / Σ w: the softmax of the log-weights is over gradients, never over the losses
themselves.
"""

import keras
import tensorflow as tf

from tfvae.checks import checked_count, is_number
from tfvae.distributions.family import PACKAGE
from tfvae.errors import InputError
from tfvae.objectives.base import Objective, Terms
from tfvae.typing import Config, Tensor


def importance_weighted_bound(log_weight: Tensor) -> Tensor:
    """Compute log (1/K) Σ_k w_k, Burda et al. (2016), arXiv:1509.00519, equation 8.

    Args:
        log_weight: log w, `[K, ...]`, nats.

    Returns:
        `[...]`, nats; its expectation is at most log p(x) and rises with K.
    """
    count = tf.cast(tf.shape(log_weight)[0], log_weight.dtype)
    return tf.reduce_logsumexp(log_weight, axis=0) - tf.math.log(count)


@keras.saving.register_keras_serializable(PACKAGE)
class IWAE(Objective):
    """loss(x) = −log (1/K) Σ_k w_k: the importance-weighted autoencoder of Burda et al. (2016).

    See `importance_weighted_bound`. With K = 1 it is the ELBO, estimated without the closed form of
    its KL.

    Args:
        num_samples: K, draws of z for each event.

    Raises:
        InputError: if `num_samples` is below 1.
    """

    def __init__(self, num_samples: int = 5):
        self.num_samples = checked_count("num_samples", num_samples)

    def __call__(self, terms: Terms) -> Tensor:
        """Compute the negative bound, `[B]`, nats."""
        return -importance_weighted_bound(terms.log_weight)

    def get_config(self) -> Config:
        """Return the constructor's arguments."""
        return {"num_samples": self.num_samples}


@keras.saving.register_keras_serializable(PACKAGE)
class DReG(IWAE):
    """The bound of `IWAE` with the doubly reparameterised gradient for the encoder.

    Tucker et al. (2019), arXiv:1810.04152: the encoder's gradient is
    ``Σ_k (w_k / Σ w)² ∂log w_k/∂z_k ∂z_k/∂φ``, log q(z|x) being differentiated through z alone. It
    equals IWAE's in expectation, and its signal does not drown in noise as K grows. Decoder and
    prior have IWAE's own gradient.

    Args:
        num_samples: K, draws of z for each event.

    Raises:
        InputError: if `num_samples` is below 1.
    """

    detaches_posterior = True
    reweights_path = True

    def __call__(self, terms: Terms) -> Tensor:
        """Compute the negative bound, `[B]`, nats."""
        log_weight = terms.log_weight
        # The gradient of the bound has w_k/Σw once; that through z_k is multiplied by it again.
        terms.weigh_path(tf.nn.softmax(log_weight, axis=0))
        return -importance_weighted_bound(log_weight)


@keras.saving.register_keras_serializable(PACKAGE)
class MIWAE(Objective):
    """loss(x) = −(1/M) Σ_m log (1/K) Σ_k w_mk: the mean of M bounds of K draws each.

    Rainforth et al. (2018), arXiv:1802.04537, section 5.

    Args:
        num_bounds: M.
        num_inner: K, draws of z in each bound.

    Raises:
        InputError: if one of the two is below 1.
    """

    def __init__(self, num_bounds: int = 8, num_inner: int = 8):
        self.num_bounds = checked_count("num_bounds", num_bounds)
        self.num_inner = checked_count("num_inner", num_inner)
        self.num_samples = self.num_bounds * self.num_inner

    def __call__(self, terms: Terms) -> Tensor:
        """Compute the negative mean of the bounds, `[B]`, nats."""
        return -tf.reduce_mean(importance_weighted_bound(self._grouped(terms.log_weight)), axis=0)

    def _grouped(self, log_weight: Tensor) -> Tensor:
        """Return the log-weights of each bound, `[K, M, B]`."""
        return tf.reshape(log_weight, (self.num_inner, self.num_bounds, tf.shape(log_weight)[1]))

    def get_config(self) -> Config:
        """Return the constructor's arguments."""
        return {"num_bounds": self.num_bounds, "num_inner": self.num_inner}


@keras.saving.register_keras_serializable(PACKAGE)
class PIWAE(MIWAE):
    """The decoder learns by IWAE with M·K draws, the encoder by MIWAE with the same draws.

    Rainforth et al. (2018), arXiv:1802.04537, section 5: more draws in one bound help the
    decoder and drown the encoder's gradient in noise, so each has its own target. The value of the
    loss is the decoder's bound.

    Args:
        num_bounds: M.
        num_inner: K, draws of z in each of the encoder's bounds.

    Raises:
        InputError: if one of the two is below 1.
    """

    reweights_path = True

    def __call__(self, terms: Terms) -> Tensor:
        """Compute the negative bound of all M·K draws, `[B]`, nats."""
        log_weight = terms.log_weight
        decoder_weight = tf.nn.softmax(log_weight, axis=0)
        encoder_weight = tf.nn.softmax(self._grouped(log_weight), axis=0) / self.num_bounds
        encoder_weight = tf.reshape(encoder_weight, tf.shape(log_weight))
        # The gradient of the bound weighs draw k by decoder_weight_k. What runs back through z_k is
        # multiplied by encoder_weight_k / decoder_weight_k, which leaves the encoder's weight.
        # Where decoder_weight_k is 0 in float32 no factor would do: weights are at least this.
        smallest = 1e-30
        terms.weigh_path(encoder_weight / tf.maximum(decoder_weight, smallest))
        weight = tf.stop_gradient(tf.maximum(decoder_weight, smallest))
        bound = importance_weighted_bound(log_weight)
        # The value is the bound's, and so is the gradient, Σ weight · ∂log w, save that weights
        # below the smallest count as that.
        surrogate = tf.reduce_sum(weight * log_weight, axis=0)
        return -(tf.stop_gradient(bound - surrogate) + surrogate)


@keras.saving.register_keras_serializable(PACKAGE)
class CIWAE(IWAE):
    """loss(x) = −(β ELBO + (1 − β) IWAE), from the same draws.

    Rainforth et al. (2018), arXiv:1802.04537, section 5.

    Args:
        beta: weight of the ELBO, from 0 to 1.
        num_samples: K, draws of z for each event.

    Raises:
        InputError: if `beta` lies outside [0, 1], or `num_samples` is below 1.
    """

    def __init__(self, beta: float = 0.5, num_samples: int = 64):
        super().__init__(num_samples)
        if not (is_number(beta) and 0 <= beta <= 1):
            raise InputError(f"beta lies from 0 to 1; received {beta!r}")
        self.beta = float(beta)

    def __call__(self, terms: Terms) -> Tensor:
        """Compute the negative combination, `[B]`, nats."""
        log_weight = terms.log_weight
        elbo = tf.reduce_mean(log_weight, axis=0)
        return -(self.beta * elbo + (1 - self.beta) * importance_weighted_bound(log_weight))

    def get_config(self) -> Config:
        """Return the constructor's arguments."""
        return {**super().get_config(), "beta": self.beta}
