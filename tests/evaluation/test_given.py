"""Events in which some values are given: draws beside what can be computed exactly."""

import keras
import numpy as np
import pytest

import tfvae
from tfvae.errors import InputError
from tfvae.evaluation import sample_given


@pytest.fixture(scope="module")
def linear():
    """A linear-Gaussian model: x = W z + b + σ ε has a closed form given some of its values."""
    vae = tfvae.VAE.for_events(
        (3,), latent_dim=2, likelihood="normal:scale=0.5", network="dense:hidden=4", seed=0
    )
    weights = np.array([[1.0, 0.5, -1.0], [0.0, 1.0, 1.0]], "float32")
    offset = np.array([0.5, -1.0, 2.0], "float32")

    decoder = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    decoder.layers[-1].set_weights([weights, offset])
    vae = tfvae.VAE(vae.encoder, decoder, 2, likelihood="normal:scale=0.5", seed=0)
    return vae, weights, offset


def test_draws_have_the_moments_of_the_closed_form(linear):
    vae, weights, offset = linear
    covariance = weights.T @ weights + 0.25 * np.eye(3)
    value = 1.5
    found = sample_given(vae, [value, np.nan, np.nan], 20_000, num_samples=50_000, seed=1)
    assert (found.x[:, 0] == np.float32(value)).all()
    gain = covariance[1:, 0] / covariance[0, 0]
    mean = offset[1:] + gain * (value - offset[0])
    spread = covariance[1:, 1:] - np.outer(gain, covariance[0, 1:])
    np.testing.assert_allclose(found.x[:, 1:].mean(axis=0), mean, atol=0.05)
    np.testing.assert_allclose(np.cov(found.x[:, 1:].T), spread, atol=0.08)
    assert 5_000 < found.effective_draws < 50_000


def test_mistakes(linear):
    vae, *_ = linear
    with pytest.raises(InputError, match=r"with a value at least; received shape .* of NaN"):
        sample_given(vae, np.full(3, np.nan), 5)
    with pytest.raises(InputError, match=r"received shape \[2\]"):
        sample_given(vae, [1.0, np.nan], 5)
