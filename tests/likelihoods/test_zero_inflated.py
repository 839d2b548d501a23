"""Counts of which more are zero than their mean explains."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

import tfvae
from tfvae import likelihoods
from tfvae.errors import InputError
from tfvae.likelihoods import Columns, NegativeBinomial, Poisson


def value_distribution(family, raw):
    """Return the distribution of two values whose raw parameters are given, `[P · 2]`."""
    family.bind((2,), None)
    family.build((None, len(raw)))
    return family.value_distribution(family(tf.constant([raw], tf.float32)))


@pytest.mark.parametrize("kind", ["poisson", "negative_binomial"])
def test_probabilities_are_those_of_the_mixture(kind):
    n = np.array([[0, 0], [1, 3], [7, 0], [40, 12]])
    share = 1 / (1 + np.exp(-(np.array([0.5, -2.0]) - np.log(9))))
    if kind == "poisson":
        family = Poisson(zero_inflated=True, decoder_output="parameters")
        count = stats.poisson(np.exp([1.0, 2.0]))
    else:
        family = NegativeBinomial(dispersion=0.5, zero_inflated=True, decoder_output="parameters")
        count = stats.nbinom(2, 2 / (2 + np.exp([1.0, 2.0])))
    p = value_distribution(family, [1.0, 2.0, 0.5, -2.0])
    expected = np.where(n == 0, share, 0) + (1 - share) * count.pmf(n)
    np.testing.assert_allclose(p.log_prob(n.astype("float32")), np.log(expected), rtol=2e-4)
    np.testing.assert_allclose(p.mean()[0], (1 - share) * count.mean(), rtol=1e-5)
    drawn = p.sample(20_000, seed=1).numpy()[:, 0]
    np.testing.assert_allclose(drawn.mean(axis=0), p.mean()[0], rtol=0.05)
    np.testing.assert_allclose(
        (drawn == 0).mean(axis=0), share + (1 - share) * count.pmf(0), atol=0.02
    )
    grid = tf.range(400.0)[:, None, None] + tf.zeros((1, 1, 2))
    np.testing.assert_allclose(tf.reduce_sum(tf.exp(p.log_prob(grid)), axis=0), 1, rtol=1e-4)


@pytest.mark.exhaustive
def test_a_column_of_them_learns_its_share_of_zeros(rng):
    n = rng.poisson(6, 1000) * (rng.random(1000) > 0.4)
    x = np.stack([n, rng.normal(size=1000)], axis=1).astype("float32")
    columns = {"n": "negative_binomial:zero_inflated=true", "x": "normal:scale=learned"}
    vae = tfvae.VAE.for_events(
        (2,), latent_dim=1, likelihood=Columns(columns), network="dense:hidden=16", seed=0
    )
    vae.compile(keras.optimizers.Adam(0.02))
    vae.fit(x, epochs=25, verbose=0)
    drawn = vae.sample(4000, mean=False, seed=1).numpy()[:, 0]
    assert (drawn == 0).mean() == pytest.approx((n == 0).mean(), abs=0.05)
    assert drawn.mean() == pytest.approx(n.mean(), rel=0.2)


def test_options_come_back_and_are_checked():
    family = likelihoods.get("poisson:zero_inflated=true")
    again = type(family).from_config(family.get_config())
    assert again.zero_inflated
    assert (again.parameters_per_value, again.takes_mean) == (2, False)
    per_value = likelihoods.get("negative_binomial:dispersion=per_value,zero_inflated=true")
    assert per_value.parameters_per_value == 3
    with pytest.raises(InputError, match="zero_inflated is True or False; received 2"):
        likelihoods.get("poisson:zero_inflated=2")
