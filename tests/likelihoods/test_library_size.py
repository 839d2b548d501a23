"""Counts whose means are shares of a library size."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

import tfvae
from tfvae.errors import InputError
from tfvae.likelihoods import Columns

COLUMNS = {
    "total": "poisson",
    "a": "poisson",
    "x": "normal:scale=2.0",
    "b": "negative_binomial:dispersion=0.5",
    "c": "poisson",
}


def family():
    """Return the likelihood of a decoder that puts its parameters out, and some of these."""
    found = Columns(COLUMNS, library="total", decoder_output="parameters")
    found.bind((5,), None)
    found.build((None, 5))
    raw = np.array([[3.0, 0.5, -1.0, 1.5, -0.5]], "float32")
    return found, found(tf.constant(raw)), raw[0]


def test_log_prob_takes_the_size_from_the_row():
    likelihood, parameters, raw = family()
    p = likelihood.distribution(parameters)
    shares = np.exp(raw[[1, 3, 4]]) / np.exp(raw[[1, 3, 4]]).sum()
    for total in (5, 60):
        x = np.array([[total, 4, 0.5, 9, 1]], "float32")
        mean = total * shares
        expected = (
            stats.poisson.logpmf(total, np.exp(3))
            + stats.poisson.logpmf([4, 1], mean[[0, 2]]).sum()
            + stats.nbinom.logpmf(9, 2, 2 / (2 + mean[1]))
            + stats.norm.logpdf(0.5, -1, 2)
        )
        np.testing.assert_allclose(p.log_prob(x), [expected], rtol=1e-4)
    np.testing.assert_allclose(p.mean().numpy()[0, [1, 3, 4]], np.exp(3) * shares, rtol=1e-4)


def test_draws_share_their_size_out_and_a_missing_one_is_the_mean():
    likelihood, parameters, _ = family()
    p = likelihood.distribution(parameters)
    drawn = p.sample(20_000, seed=1).numpy()[:, 0]
    np.testing.assert_allclose(drawn.mean(axis=0), p.mean()[0], rtol=0.05)
    together = drawn[:, [1, 3, 4]].sum(axis=1)
    slope = np.polyfit(drawn[:, 0], together, 1)[0]
    assert slope == pytest.approx(1, abs=0.1)
    observed = np.array([False, True, True, True, True])
    x = np.array([[0, 4, 0.5, 9, 1]], "float32")
    usual = np.array([[np.exp(3), 4, 0.5, 9, 1]], "float32")
    masked = likelihood.distribution(parameters, observed).log_prob(x)
    rest = likelihood.log_prob_by_value(parameters, usual).numpy()[0, 1:].sum()
    np.testing.assert_allclose(masked, [rest], rtol=1e-4)


@pytest.mark.exhaustive
def test_a_model_of_them_trains_saves_and_draws(rng, tmp_path):
    total = rng.poisson(50, 300)
    x = np.stack([total, *rng.multinomial(1, [0.5, 0.3, 0.2], 300).T * total], axis=1)
    likelihood = Columns(dict.fromkeys(["total", "a", "b", "c"], "poisson"), library="total")
    vae = tfvae.VAE.for_events(
        (4,), latent_dim=2, likelihood=likelihood, network="dense:hidden=16", missing=True, seed=0
    )
    vae.compile(keras.optimizers.Adam(0.02))
    history = vae.fit(x.astype("float32"), epochs=8, verbose=0).history["elbo"]
    assert history[-1] > history[0]
    vae.save(tmp_path / "x.keras")
    again = keras.models.load_model(tmp_path / "x.keras")
    np.testing.assert_array_equal(
        again.sample(5, mean=False, seed=1), vae.sample(5, mean=False, seed=1)
    )


def test_mistakes():
    with pytest.raises(InputError, match="library is a column of counts beside others; 'x' is non"):
        Columns(COLUMNS, library="x")
    with pytest.raises(InputError, match="'n' is the only one, the counts are 'n'"):
        Columns({"n": "poisson", "x": "normal"}, library="n")
