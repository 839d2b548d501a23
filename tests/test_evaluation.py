import numpy as np
import pytest
import tensorflow as tf

import tfvae
from tfvae import evaluation

SHAPE = (6, 5, 1)


@pytest.fixture
def vae():
    return tfvae.VAE.for_images(SHAPE, latent_dim=2, network="dense", seed=0)


@pytest.fixture
def x(rng):
    return (rng.random((50, *SHAPE)) < 0.3).astype("float32")


def batches(x, size):
    return tf.data.Dataset.from_tensor_slices((x, np.zeros(len(x)))).batch(size)


def test_the_mean_and_its_standard_error_are_over_images(vae, x):
    estimate = evaluation.elbo(vae, batches(x, 50), num_samples=4, seed=3)
    elbo, log_likelihood, kl = vae.elbo(x, num_samples=4, seed=[3, 0])
    assert estimate.images == 50
    assert estimate.elbo == pytest.approx(np.mean(elbo), rel=1e-5)
    assert estimate.log_likelihood == pytest.approx(np.mean(log_likelihood), rel=1e-5)
    assert estimate.kl == pytest.approx(np.mean(kl), rel=1e-5)
    assert estimate.standard_error == pytest.approx(np.std(elbo, ddof=1) / 50**0.5, rel=1e-3)
    assert estimate.elbo == pytest.approx(estimate.log_likelihood - estimate.kl, rel=1e-5)


def test_batches_of_any_size_estimate_the_same(vae, x):
    whole = evaluation.elbo(vae, batches(x, 50), num_samples=200)
    parts = evaluation.elbo(vae, batches(x, 7), num_samples=200)
    assert parts.kl == pytest.approx(whole.kl, rel=1e-5)
    # The noise of 50 x 200 draws, from the spread between draws of one image.
    draws = np.asarray(vae.terms(x, num_samples=200, seed=1).log_likelihood)
    error = np.sqrt(2 * np.mean(draws.var(axis=0)) / (50 * 200))
    assert abs(parts.log_likelihood - whole.log_likelihood) < 4 * error


def test_a_single_image_has_no_standard_error(vae, x):
    assert np.isnan(evaluation.elbo(vae, batches(x[:1], 1)).standard_error)


def test_what_cannot_be_evaluated_is_refused(vae, x):
    with pytest.raises(tfvae.InputError, match="the data set is empty"):
        evaluation.elbo(vae, batches(x, 10).take(0))
    with pytest.raises(tfvae.InputError, match="Bernoulli expects values"):
        evaluation.elbo(vae, batches(x * 255, 10))
    with pytest.raises(tfvae.InputError, match="expected images"):
        evaluation.elbo(vae, batches(x[:, :4], 10))
