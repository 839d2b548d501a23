"""Estimates from weighted draws of z in a served graph.

A server joins requests of any size. So that memory does not grow with the number of draws, they are
decoded some at a time, and what is estimated goes on from one lot to the next.
"""

from collections.abc import Callable

import tensorflow as tf

from tfvae.evaluation.batches import default_chunk
from tfvae.models.vae import VAE
from tfvae.typing import Tensor


def log_mean_weight(
    vae: VAE,
    log_joint: Callable[[Tensor], Tensor],
    z: Tensor,
    log_posterior: Tensor,
) -> tuple[Tensor, Tensor]:
    """Estimate log p(x) by importance sampling.

    Args:
        vae: a built `VAE`.
        log_joint: computes log p(x, z) `[n, B]` of z `[n, B, d]`, nats.
        z: `[K, B, d]`, from q(z|x).
        log_posterior: log q(z|x), `[K, B]`, nats.

    Returns:
        ``log (1/K) Σ w``, nats, and the effective sample size ``(Σ w)² / Σ w²``, each `[B]`, with
        ``w = p(x, z)/q(z|x)``.
    """

    def more(total: Tensor, log_values: Tensor) -> Tensor:
        return tf.reduce_logsumexp(tf.concat([total[None], log_values], 0), axis=0)

    def add(lot: slice, log_sum: Tensor, log_sum_of_squares: Tensor) -> tuple[Tensor, ...]:
        log_weight = log_joint(z[lot]) - log_posterior[lot]
        return more(log_sum, log_weight), more(log_sum_of_squares, 2 * log_weight)

    nothing = tf.zeros_like(log_posterior[0]) - float("inf")
    log_sum, log_sum_of_squares = _in_lots(vae, z, add, (nothing, nothing))
    draws = tf.cast(tf.shape(z)[0], tf.float32)
    return log_sum - tf.math.log(draws), tf.exp(2 * log_sum - log_sum_of_squares)


def imputed(vae: VAE, x: Tensor, label: Tensor | None, z: Tensor, log_posterior: Tensor) -> Tensor:
    """Estimate E[x_missing|x_observed] by self-normalised importance sampling, as `VAE.impute`.

    With m the largest log-weight so far, the sums are kept divided by exp(m).

    Args:
        vae: a built `VAE` that takes missing values.
        x: events `[B, *event_shape]`, NaN where a value was not observed.
        label: of a conditional model, `[B]`.
        z: `[K, B, d]`, from q(z|x).
        log_posterior: log q(z|x), `[K, B]`, nats.

    Returns:
        `[B, *event_shape]` without holes.
    """
    spec, family = vae.event_spec, vae.likelihood_family
    filled, observed = spec.observed(x)
    prior = vae.prior_of(label)

    def per_event(values: Tensor) -> Tensor:
        return tf.reshape(values, tf.concat([tf.shape(values), tf.ones(spec.rank, tf.int32)], 0))

    def add(lot: slice, largest: Tensor, total: Tensor, sum_of_means: Tensor) -> tuple[Tensor, ...]:
        parameters = vae.likelihood_parameters(z[lot], label)
        log_likelihood = family.distribution(parameters, observed).log_prob(filled)
        log_weight = log_likelihood + prior.log_prob(z[lot]) - log_posterior[lot]
        highest = tf.maximum(largest, tf.reduce_max(log_weight, axis=0))
        weight, shrink = tf.exp(log_weight - highest), tf.exp(largest - highest)
        mean = family.mean(family.distribution(parameters))
        mean = tf.reduce_sum(per_event(weight) * mean, axis=0)
        total = shrink * total + tf.reduce_sum(weight, axis=0)
        return highest, total, per_event(shrink) * sum_of_means + mean

    nothing = tf.zeros_like(log_posterior[0])
    begin = (nothing - float("inf"), nothing, tf.zeros_like(filled))
    _, total, sum_of_means = _in_lots(vae, z, add, begin)
    return tf.where(observed, filled, sum_of_means / per_event(total))


def _in_lots(
    vae: VAE, z: Tensor, add: Callable[..., tuple[Tensor, ...]], begin: tuple[Tensor, ...]
) -> tuple[Tensor, ...]:
    """Go through draws `[K, B, d]`, as many at a time as are best decoded together.

    Args:
        vae: whose decoder it is.
        z: the draws.
        add: makes new results of the slice of draws that are next, and the results so far.
        begin: the results before the first, with the batch `[B]` as their first axis.
    """
    draws, batch = tf.shape(z)[0], tf.shape(z)[1]
    together = tf.maximum(1, default_chunk(vae) // tf.maximum(1, batch))
    _, *results = tf.while_loop(
        lambda start, *_: start < draws,
        lambda start, *results: (
            start + together,
            *add(slice(start, start + together), *results),
        ),
        (tf.constant(0), *begin),
        shape_invariants=(
            tf.TensorShape([]),
            *(tf.TensorShape([None, *result.shape[1:]]) for result in begin),
        ),
        parallel_iterations=1,
    )
    return tuple(results)
