"""The diagnosis of importance weights where k is known: Gaussian proposals for Gaussian targets."""

import math

import numpy as np
import pytest
from linear_vae import as_images, linear_gaussian, linear_vae, points

from tfvae.evaluation import log_prob
from tfvae.evaluation.pareto import largest_reliable, pareto_shape, tail_length


def largest(log_weights):
    """The weights that k is fitted to, of `[K, N]`."""
    return np.sort(log_weights, axis=0)[-tail_length(len(log_weights)) - 1 :]


@pytest.mark.parametrize("k", [-0.5, 0.2, 0.5, 0.7, 1.0])
def test_k_of_pareto_weights_is_found(rng, k):
    # A generalised Pareto tail as such: by the inverse of its distribution.
    u = rng.random((20_000, 50))
    weights = ((1 - u) ** -k - 1) / k + 1
    found = pareto_shape(largest(np.log(weights)))
    assert found.shape == (50,)
    assert np.mean(found) == pytest.approx(k, abs=0.07)


@pytest.mark.parametrize("ratio", [0.3, 0.5, 0.7])
def test_k_of_a_proposal_that_is_too_narrow_is_known(rng, ratio):
    """With variances s_q² = ratio s_p², P(w > t) falls as t^(-1/(1 - ratio))."""
    draws = math.sqrt(ratio) * rng.normal(size=(200_000, 40))
    log_weights = -(draws**2) / 2 + draws**2 / (2 * ratio)
    found = pareto_shape(largest(log_weights))
    # The tail is a power times a slowly varying factor, at any finite number of draws.
    assert np.mean(found) == pytest.approx(1 - ratio, abs=0.12)


def test_weights_that_are_bounded_or_the_same_have_no_tail(rng):
    wide = 2 * rng.normal(size=(5000, 20))
    assert (pareto_shape(largest(-(wide**2) / 2 + wide**2 / 8)) < 0.3).all()
    assert (pareto_shape(largest(np.full((100, 3), -1000.0))) == -math.inf).all()


def test_how_many_draws_tell_how_much():
    assert [tail_length(k) for k in (1, 24, 25, 100, 1000, 5000)] == [0, 0, 5, 20, 95, 213]
    assert largest_reliable(100) == pytest.approx(0.5)
    assert largest_reliable(5000) == 0.7


@pytest.mark.parametrize("share", [1.0, 0.3])
def test_a_posterior_that_is_too_narrow_is_seen(rng, share):
    """Where neither the effective draws nor the stated error tell that log p(x) is too low.

    The posterior of the linear-Gaussian model is known; q(z|x) has a share of its variance.
    """
    model = linear_gaussian(rng, orthogonal=True)
    x = points(model, rng, 300)
    weights = model.posterior_weights()
    variance = share * np.diag(model.posterior_covariance())
    vae = linear_vae(model, weights, -weights @ model.offset, variance)
    found = log_prob(vae, as_images(x), num_samples=1000, seed=1)
    told = any("Pareto k" in warning for warning in found.warnings)
    if share == 1:
        assert not told
        assert found.high_pareto_k == 0
        return
    assert told
    assert found.pareto_k == pytest.approx(1 - share, abs=0.15)
    assert found.as_dict()["high_pareto_k"] > 0.3
    # The old rule has nothing to say of it.
    assert found.low_effective < 0.05
    rule = np.mean(0.5 * (1 / found.effective_sample_sizes - 1 / 1000))
    bias = found.log_prob - model.log_marginal(x).mean()
    assert bias < -2 * rule


def test_k_depends_on_no_chunk_and_few_draws_tell_none(rng):
    model = linear_gaussian(rng, orthogonal=True)
    vae = linear_vae(model, *exact_of(model), 0.5 * np.diag(model.posterior_covariance()))
    x = as_images(points(model, rng, 5))
    several = [log_prob(vae, x, num_samples=5000, seed=1, chunk_size=c) for c in (100, 4096)]
    np.testing.assert_allclose(several[0].pareto_ks, several[1].pareto_ks, atol=1e-3)
    few = log_prob(vae, x, num_samples=10)
    assert np.isnan(few.pareto_ks).all()
    assert np.isnan(few.high_pareto_k)
    assert not any("Pareto" in warning for warning in few.warnings)


def exact_of(model):
    weights = model.posterior_weights()
    return weights, -weights @ model.offset
