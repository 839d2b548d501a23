"""Holes of events filled in a served graph, each event by draws of its own."""

import tensorflow as tf

from tfvae.evaluation.batches import default_chunk
from tfvae.models.vae import VAE
from tfvae.typing import Tensor


def imputed(vae: VAE, x: Tensor, seed: Tensor, label: Tensor | None, *, num_samples: int) -> Tensor:
    """Estimate E[x_missing|x_observed] by self-normalised importance sampling.

    It is the estimate of `VAE.impute`. A server joins requests of any size, so that draws are
    decoded some at a time, and the weighted sum of the means goes on from one lot to the next: with
    m the largest log-weight so far, it is kept divided by exp(m).

    Args:
        vae: a built `VAE` that takes missing values.
        x: events `[B, *event_shape]`, NaN where a value was not observed.
        seed: int32 `[B, 2]`.
        label: of a conditional model, `[B]`.
        num_samples: K, draws of z for each event.

    Returns:
        `[B, *event_shape]` without holes.
    """
    spec, family = vae.event_spec, vae.likelihood_family
    z, log_posterior = vae.posterior_family.sample_each(
        vae.posterior_parameters(x, label), num_samples, seed
    )
    filled, observed = spec.observed(x)
    prior = vae.prior_of(label)
    together = tf.maximum(1, default_chunk(vae) // tf.maximum(1, tf.shape(x)[0]))

    def per_event(values: Tensor) -> Tensor:
        return tf.reshape(values, tf.concat([tf.shape(values), tf.ones(spec.rank, tf.int32)], 0))

    def add(
        start: Tensor, largest: Tensor, total: Tensor, sum_of_means: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        some = z[start : start + together]
        parameters = vae.likelihood_parameters(some, label)
        log_weight = (
            family.distribution(parameters, observed).log_prob(filled)
            + prior.log_prob(some)
            - log_posterior[start : start + together]
        )
        highest = tf.maximum(largest, tf.reduce_max(log_weight, axis=0))
        weight, shrink = tf.exp(log_weight - highest), tf.exp(largest - highest)
        mean = family.mean(family.distribution(parameters))
        mean = tf.reduce_sum(per_event(weight) * mean, axis=0)
        return (
            start + together,
            highest,
            shrink * total + tf.reduce_sum(weight, axis=0),
            per_event(shrink) * sum_of_means + mean,
        )

    nothing = tf.zeros_like(log_posterior[0])
    begin = (tf.constant(0), nothing - float("inf"), nothing, tf.zeros_like(filled))
    _, _, total, sum_of_means = tf.while_loop(
        lambda start, *_: start < num_samples,
        add,
        begin,
        shape_invariants=(
            tf.TensorShape([]),
            tf.TensorShape([None]),
            tf.TensorShape([None]),
            tf.TensorShape([None, *spec.shape]),
        ),
        parallel_iterations=1,
    )
    return tf.where(observed, filled, sum_of_means / per_event(total))
