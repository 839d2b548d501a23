"""Conditional models for the tests: small networks, and one whose p(x|y) is known exactly."""

import analytic
import keras
import linear_vae
import numpy as np
import tensorflow as tf

import tfvae
from tfvae.likelihoods import Normal

SHAPE = (6, 4, 1)
CLASSES = 3
LATENT = 2


def images_and_labels(rng, count=60):
    """Binary images whose row of bright pixels is the label's, and noise."""
    labels = rng.integers(0, CLASSES, count)
    bright = np.zeros((count, *SHAPE))
    for row in range(2):
        bright[np.arange(count), 2 * labels + row] = 0.8
    return (rng.random(bright.shape) < 0.1 + bright).astype("float32"), labels


def make(cls=tfvae.VAE, num_classes=CLASSES, **kwargs):
    """A model on dense networks of one small layer; `num_classes=None` for one without labels."""
    options = {"hidden": (16,), "num_classes": num_classes}
    encoder = tfvae.networks.dense_encoder(SHAPE, **options, seed=0)
    decoder = tfvae.networks.dense_decoder(SHAPE, LATENT, **options, seed=1)
    return cls(encoder, decoder, LATENT, num_classes=num_classes, seed=0, **kwargs)


def compiled(cls=tfvae.VAE, optimizer="adam", compile_options=None, **kwargs):
    model = make(cls, **kwargs)
    # As it is made: of arrays a start would take other events than of a data set.
    model.adapted = True
    model.compile(optimizer, **(compile_options or {}))
    return model


def slices(*arrays, size=20):
    """Arrays as a data set of batches."""
    return tf.data.Dataset.from_tensor_slices(arrays).batch(size)


def largest_difference(weights, others):
    """Between the weights of two models."""
    return max(np.abs(a - b).max() for a, b in zip(weights, others, strict=True))


def linear_models(rng, prior_loc):
    """For each label, the linear-Gaussian model of p(x|y): x = W (m_y + ε) + b_y + noise.

    W has orthogonal columns, so that the exact posterior is diagonal.

    Args:
        rng: for W and b.
        prior_loc: m, the mean of p(z|y), `[CLASSES, LATENT]`.
    """
    base = linear_vae.linear_gaussian(rng, orthogonal=True)
    offsets = rng.normal(size=(CLASSES, linear_vae.D)).astype("float32").astype("float64")
    marginals = [
        analytic.LinearGaussian(base.weights, b + base.weights @ m, base.sigma)
        for b, m in zip(offsets, prior_loc, strict=True)
    ]
    return base, offsets, marginals


def exact_conditional_vae(base, offsets, prior_loc, prior):
    """That model as a `VAE` with its exact q(z|x, y) = N(A (x − b_y − W m_y) + m_y, S)."""
    gain, variance = base.posterior_weights(), np.diag(base.posterior_covariance())
    shifts = prior_loc - (offsets + prior_loc @ base.weights.T) @ gain.T

    image, label = keras.Input(linear_vae.BOX), keras.Input((CLASSES,))
    of_image = keras.layers.Dense(LATENT, use_bias=False)
    of_label = keras.layers.Dense(LATENT, use_bias=False)
    log_var = keras.layers.Dense(LATENT, kernel_initializer="zeros")
    x = keras.layers.Flatten()(image)
    encoder = keras.Model([image, label], [of_image(x) + of_label(label), log_var(x)])
    of_image.set_weights([gain.T])
    of_label.set_weights([shifts])
    log_var.bias.assign(np.log(variance))

    z, label = keras.Input((LATENT,)), keras.Input((CLASSES,))
    linear = keras.layers.Dense(linear_vae.D, use_bias=False)
    offset = keras.layers.Dense(linear_vae.D, use_bias=False)
    pixels = keras.layers.Reshape(linear_vae.BOX)(linear(z) + offset(label))
    decoder = keras.Model([z, label], pixels)
    linear.set_weights([base.weights.T])
    offset.set_weights([offsets])

    likelihood = Normal(scale=base.sigma, decoder_output="parameters")
    vae = tfvae.VAE(
        encoder, decoder, LATENT, prior=prior, likelihood=likelihood, num_classes=CLASSES, seed=0
    )
    if prior == "class_normal":
        vae.prior_family.loc.assign(prior_loc)
    return vae
