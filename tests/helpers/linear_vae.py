"""The linear-Gaussian model of `analytic` as a `VAE`, its weights known, written by hand in Keras.

Its events have four values, in an image or in another shape, and it has two latent dimensions. For
objectives that need no networks there are the terms of a posterior alone.
"""

import analytic
import keras
import numpy as np
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tfvae import VAE
from tfvae.likelihoods import Normal
from tfvae.objectives import Terms
from tfvae.posteriors import DiagonalNormal

EPS = float(np.finfo(np.float32).eps)

D, LATENT = 4, 2
SIGMA = 0.6
BOX = (2, 2, 1)
# Four values in events of each rank.
SHAPES = ((4,), (2, 2), BOX, (2, 1, 2, 1))


def linear_gaussian(rng, orthogonal, sigma=SIGMA):
    weights = rng.normal(size=(D, LATENT))
    if orthogonal:
        # Columns of different lengths at right angles: the exact posterior is diagonal.
        weights = np.linalg.qr(weights)[0] * np.array([1.3, 0.5])
    # Numbers that float32 holds: the model's layers then compute with the very same.
    weights = weights.astype(np.float32).astype(np.float64)
    offset = rng.normal(size=D).astype(np.float32).astype(np.float64)
    return analytic.LinearGaussian(weights, offset, sigma)


def points(model, rng, count):
    """Draws of x from the model itself, `[count, D]`."""
    z = rng.standard_normal((count, LATENT))
    x = z @ model.weights.T + model.offset + model.sigma * rng.standard_normal((count, D))
    return x.astype(np.float32).astype(np.float64)


def decoder_of(model, shape=BOX):
    z = keras.Input((LATENT,))
    linear = keras.layers.Dense(D, name="linear")
    decoder = keras.Model(z, keras.layers.Reshape(shape)(linear(z)))
    linear.set_weights([model.weights.T, model.offset])
    return decoder


def linear_vae(model, mean_weights, mean_offset, variance, shape=BOX, **kwargs):
    """The model as a `VAE` with q(z|x) = N(A x + a, diag v)."""
    image = keras.Input(shape)
    x = keras.layers.Flatten()(image)
    loc = keras.layers.Dense(LATENT, name="loc")
    log_var = keras.layers.Dense(LATENT, kernel_initializer="zeros", name="log_var")
    encoder = keras.Model(image, [loc(x), log_var(x)])
    loc.set_weights([mean_weights.T, mean_offset])
    log_var.bias.assign(np.log(variance))
    likelihood = Normal(scale=model.sigma, decoder_output="parameters")
    return VAE(encoder, decoder_of(model, shape), LATENT, likelihood=likelihood, seed=0, **kwargs)


def with_missing(model, shape, variance=1.0):
    """The model as a `VAE` for missing values, with q(z|x) = N(A (x − b) ⊙ m, v I), m the mask.

    A is that of the exact posterior of whole events; v = 1, as wide as p(z), is wide enough for
    importance sampling whatever is missing.
    """
    gain, channels = model.posterior_weights(), shape[-1]
    inputs = keras.Input((*shape[:-1], 2 * channels))
    x = keras.layers.Flatten()(inputs[..., :channels])
    mask = keras.layers.Flatten()(inputs[..., channels:])
    loc = keras.layers.Dense(LATENT, name="loc")
    log_var = keras.layers.Dense(LATENT, kernel_initializer="zeros", name="log_var")
    both = keras.layers.Concatenate()([x, mask])
    encoder = keras.Model(inputs, [loc(both), log_var(both)])
    loc.set_weights([np.concatenate([gain, -gain * model.offset], axis=1).T, np.zeros(LATENT)])
    log_var.bias.assign(np.full(LATENT, np.log(variance)))
    likelihood = Normal(scale=model.sigma, decoder_output="parameters")
    return VAE(
        encoder, decoder_of(model, shape), LATENT, likelihood=likelihood, missing=True, seed=0
    )


def exact_vae(model, **kwargs):
    """The model with its exact posterior; W must have orthogonal columns."""
    weights = model.posterior_weights()
    variance = np.diag(model.posterior_covariance())
    return linear_vae(model, weights, -weights @ model.offset, variance, **kwargs)


def as_images(x):
    return x.reshape(-1, *BOX).astype(np.float32)


def estimate(samples):
    """The mean over the first axis and its standard error."""
    samples = np.asarray(samples, np.float64)
    return samples.mean(0), samples.std(0, ddof=1) / np.sqrt(len(samples))


def terms_of(loc, log_var, num_samples=1, seed=(1, 2), **kwargs):
    """Terms of q(z|x) = N(μ, diag exp λ), `[B, d]`, before N(0, I).

    The likelihood is the same whatever z is: what gradient there is, is not its.
    """
    posterior = DiagonalNormal().distribution(
        {"loc": tf.cast(loc, tf.float32), "log_var": tf.cast(log_var, tf.float32)}
    )
    count, d = loc.shape
    z = posterior.sample(num_samples, seed=seed)
    prior = tfd.Independent(tfd.Normal(tf.zeros(d), 1.0), 1)
    likelihood = tfd.Independent(tfd.Normal(tf.zeros((num_samples, count, 1, 1, 1)), 1.0), 3)
    return Terms.of(
        tf.ones((count, 1, 1, 1)), z, posterior, prior, likelihood, seed=(3, 4), **kwargs
    )
