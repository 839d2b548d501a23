"""Events of a model that agree with values which are given, by self-normalised importance sampling.

With z_k ~ p(z) and weights ``w_k ∝ p(x_given|z_k)`` that sum to 1, a z_k drawn by its weight is
approximately a draw from p(z|x_given), and x ~ p(x|z_k) one from p(x|x_given). Draws from the prior
reach whatever the model does, which q(z|x) of an event with hardly a value may not.
"""

import dataclasses

import numpy as np
import tensorflow as tf

from tfvae.checks import checked_count
from tfvae.errors import InputError
from tfvae.models.vae import VAE
from tfvae.typing import ArrayLike

# Latent vectors that are decoded at a time.
_CHUNK = 2048


@dataclasses.dataclass(frozen=True)
class GivenSample:
    """Events in which some values are as given.

    Attributes:
        x: `[n, *event_shape]`, float32.
        effective_draws: ``1 / Σ w_k²``: how many of the K draws of z count. Many fewer than `x` has
            rows, and some of these share their z.
    """

    x: np.ndarray
    effective_draws: float


def sample_given(
    vae: VAE,
    given: ArrayLike,
    n: int,
    *,
    label: int | None = None,
    num_samples: int = 10_000,
    seed: int = 0,
) -> GivenSample:
    """Draw events from p(x|x_given).

    Args:
        vae: a built `VAE`, made for missing values or not.
        given: one event `[*event_shape]`, NaN where nothing is given.
        n: how many events.
        label: of a conditional model.
        num_samples: K, draws of z from the prior.
        seed: of all draws.

    Raises:
        InputError: if no value is given, one is outside the support, the likelihood has no
            distribution of single values, or the model gives them no probability.
    """
    checked_count("n", n)
    checked_count("num_samples", num_samples)
    family, spec = vae.likelihood_family, vae.event_spec
    if not family.takes_missing:
        raise InputError(
            f"{type(family).__name__} has no distribution of single values, so that none can be "
            "given"
        )
    x = np.asarray(given, np.float32)
    if x.shape != spec.shape or np.isnan(x).all():
        raise InputError(
            f"expected an event {list(spec.shape)} with a value at least; received shape "
            f"{list(x.shape)}{' of NaN' if x.shape == spec.shape else ''}"
        )
    observed = ~np.isnan(x)
    filled = np.where(observed, x, np.asarray(spec.support.fill, np.float32))
    if not bool(spec.support.admits(filled[None])):
        raise InputError(spec.support.complaint_about(spec.owner, filled[None]))
    seeds = tf.random.experimental.stateless_split((seed, 0), 3)
    labels = None
    if vae.num_classes is not None:
        labels = tf.broadcast_to(tf.cast(spec.labels(label), tf.int32), (num_samples,))
    prior = vae.prior_of(labels)
    z = prior.sample(() if prior.batch_shape.rank else num_samples, seed=seeds[0])
    log_weights = []
    for start in range(0, num_samples, _CHUNK):
        part = slice(start, start + _CHUNK)
        parameters = vae.likelihood_parameters(z[part], None if labels is None else labels[part])
        log_weights.append(family.distribution(parameters, observed).log_prob(filled))
    log_weight = tf.concat(log_weights, axis=0)
    if not bool(tf.reduce_any(tf.math.is_finite(log_weight))):
        raise InputError("the model gives the values that are given no probability")
    weights = tf.nn.softmax(log_weight)
    chosen = tf.random.stateless_categorical(log_weight[None], n, seeds[1])[0]
    drawn = []
    for number, start in enumerate(range(0, n, _CHUNK)):
        some = chosen[start : start + _CHUNK]
        parameters = vae.likelihood_parameters(
            tf.gather(z, some), None if labels is None else tf.gather(labels, some)
        )
        own = tf.random.experimental.stateless_fold_in(seeds[2], number)
        drawn.append(family.distribution(parameters).sample(seed=own).numpy())
    found = np.where(observed, x, np.concatenate(drawn))
    return GivenSample(found, float(1 / tf.reduce_sum(weights**2)))
