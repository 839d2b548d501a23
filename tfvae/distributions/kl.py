"""KL(q(z|x) ‖ p(z)): in closed form where there is one, else by Monte Carlo.

All values are in nats. Nothing is averaged here: one value an image.
"""

from typing import Any

import tensorflow as tf

from tfvae.errors import InputError
from tfvae.lazy import tfd


def gaussian_kl(
    loc: Any, log_var: Any, prior_loc: Any = 0.0, prior_log_var: Any = 0.0
) -> tf.Tensor:
    """KL(N(loc, exp log_var) ‖ N(prior_loc, exp prior_log_var)), element by element.

    ``½ [exp(λ) − 1 − λ + (μ − m)² exp(−λ_p)]`` with ``λ = log_var − λ_p``. For the standard normal
    prior this is appendix B of Kingma and Welling (2014), arXiv:1312.6114.

    Args:
        loc: μ, any shape.
        log_var: log σ², the same shape.
        prior_loc: m, broadcast against `loc`.
        prior_log_var: λ_p, broadcast against `log_var`.

    Returns:
        A tensor of the broadcast shape, in nats. The KL of a product of Gaussians is its sum over
        the latent axis.
    """
    loc, log_var = tf.convert_to_tensor(loc), tf.convert_to_tensor(log_var)
    log_ratio = log_var - prior_log_var
    # exp(−¼ λ_p) twice: exp(−λ_p) is infinite in float32 below −88, and 0 · ∞ no number.
    root = tf.exp(-0.25 * tf.cast(prior_log_var, loc.dtype))
    squared_distance = tf.square((loc - prior_loc) * root * root)
    # expm1(λ) − λ, not exp(λ) − 1 − λ: near λ = 0 the latter has lost its digits.
    return 0.5 * (tf.math.expm1(log_ratio) - log_ratio + squared_distance)


def exact_kl(q: Any, p: Any) -> tf.Tensor | None:
    """KL(q ‖ p) in the closed form that TFP has registered for the pair, or None."""
    try:
        return tfd.kl_divergence(q, p)
    except NotImplementedError:
        return None


def kl_is_exact(q: Any, p: Any) -> bool:
    """Whether TFP has a closed form for KL(q ‖ p).

    Args:
        q: posterior, a `tfd.Distribution`.
        p: prior, a `tfd.Distribution`.
    """
    return exact_kl(q, p) is not None


def kl_divergence(q: Any, p: Any, z: tf.Tensor) -> tf.Tensor:
    """KL(q ‖ p) for each image.

    Args:
        q: posterior, a `tfd.Distribution` with batch shape `[B]` and event shape `[d]`.
        p: prior, a `tfd.Distribution` with event shape `[d]`.
        z: samples of `q`, `[K, B, d]`, for the Monte Carlo estimate
            ``mean_k[log q(z_k|x) − log p(z_k)]`` where no closed form is registered.

    Returns:
        `[B]`, in nats. The closed form is never negative; the estimate may be.
    """
    kl = exact_kl(q, p)
    return tf.reduce_mean(q.log_prob(z) - p.log_prob(z), axis=0) if kl is None else kl


def factorizes(distribution: Any) -> bool:
    """Whether a distribution over `[d]` is a product over the d dimensions, and says so.

    A `tfd.Independent` does, of a distribution whose events are numbers.
    """
    return isinstance(distribution, tfd.Independent) and (
        distribution.distribution.event_shape.rank == 0
    )


def kl_per_dimension(q: Any, p: Any, z: tf.Tensor | None = None) -> tf.Tensor:
    """KL of each latent dimension, for a posterior and a prior that factorise.

    Args:
        q: posterior, a `tfd.Independent` with batch shape `[B]` and event shape `[d]`.
        p: prior, a `tfd.Independent` with event shape `[d]`.
        z: samples of `q`, `[K, B, d]`, for a Monte Carlo estimate where no closed form is
            registered.

    Returns:
        `[B, d]`, in nats; its sum over the last axis is `kl_divergence(q, p, z)`.

    Raises:
        InputError: if one of the two does not factorise over dimensions, or there is no closed
            form and no sample either.
    """
    for distribution in (q, p):
        if not factorizes(distribution):
            raise InputError(
                "the KL per dimension needs a posterior and a prior that factorise "
                f"(tfd.Independent); received {type(distribution).__name__}"
            )
    q, p = q.distribution, p.distribution
    if z is None and not kl_is_exact(q, p):
        raise InputError(
            f"TFP has no closed form for the KL of {type(q).__name__} and {type(p).__name__}: "
            "give samples z to estimate it with"
        )
    return kl_divergence(q, p, z)
