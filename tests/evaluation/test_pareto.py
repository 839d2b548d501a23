"""The diagnosis of importance weights where k is known: Gaussian proposals for Gaussian targets."""

import math

import numpy as np
import pytest
from linear_vae import as_images, linear_gaussian, linear_vae, points

from tfvae.errors import InputError
from tfvae.evaluation import log_prob
from tfvae.evaluation.pareto import fitted_tail, largest_reliable, tail_length


def largest(log_weights):
    """The weights that k is fitted to, of `[K, N]`."""
    return np.sort(log_weights, axis=0)[-tail_length(len(log_weights)) - 1 :]


@pytest.mark.parametrize("k", [-0.5, 0.2, 0.5, 0.7, 1.0])
def test_k_of_pareto_weights_is_found(rng, k):
    # A generalised Pareto tail as such: by the inverse of its distribution.
    u = rng.random((20_000, 50))
    weights = ((1 - u) ** -k - 1) / k + 1
    found = fitted_tail(largest(np.log(weights))).shape
    assert found.shape == (50,)
    assert np.mean(found) == pytest.approx(k, abs=0.07)


@pytest.mark.parametrize("ratio", [0.3, 0.7])
def test_k_of_a_proposal_that_is_too_narrow_is_known(rng, ratio):
    """With variances s_q² = ratio s_p², P(w > t) falls as t^(-1/(1 - ratio))."""
    draws = math.sqrt(ratio) * rng.normal(size=(200_000, 40))
    log_weights = -(draws**2) / 2 + draws**2 / (2 * ratio)
    found = fitted_tail(largest(log_weights)).shape
    # The tail is a power times a slowly varying factor, at any finite number of draws.
    assert np.mean(found) == pytest.approx(1 - ratio, abs=0.12)


def test_weights_that_are_bounded_or_the_same_have_no_tail(rng):
    wide = 2 * rng.normal(size=(5000, 20))
    assert (fitted_tail(largest(-(wide**2) / 2 + wide**2 / 8)).shape < 0.3).all()
    same = fitted_tail(largest(np.full((100, 3), -1000.0)))
    assert (same.shape == -math.inf).all()
    np.testing.assert_allclose(same.log_mean, -1000)
    np.testing.assert_array_equal(same.log_fitted_mean, same.log_mean)


def test_the_mean_of_a_fitted_tail_is_that_of_its_distribution(rng):
    """Of weights w = ((1 - u)^(-k) - 1)/k, those above t have the mean t + (1 + k t)/(1 - k).

    Of drawn ones the mean is below it for most events.
    """
    k, draws = 0.6, 20_000
    weights = ((1 - rng.random((draws, 400))) ** -k - 1) / k
    found = fitted_tail(largest(np.log(weights)))
    threshold = ((tail_length(draws) / draws) ** -k - 1) / k
    exact = threshold + (1 + k * threshold) / (1 - k)
    assert np.median(np.exp(found.log_fitted_mean)) == pytest.approx(exact, rel=0.05)
    assert np.mean(np.exp(found.log_mean) < exact) > 0.6
    heavy = fitted_tail(largest(1.5 * np.log(1 / (1 - rng.random((draws, 20))))))
    # From k = 1 on there is no mean: it is said in the estimate's interval.
    assert (heavy.shape > 1).all() and np.isfinite(heavy.log_fitted_mean).all()


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
    low, high = found.interval
    truth = model.log_marginal(x).mean()
    assert low < truth < high
    assert low == found.lower_bound(0.975) > found.lower_bound(0.999)
    assert low == pytest.approx(found.log_prob - math.log(40) / 300)
    if share == 1:
        assert not told
        assert found.high_pareto_k == 0
        assert high - low < 0.02
        return
    assert told and high == math.inf
    # Two errors and half the relative variance do not reach so far.
    assert found.log_prob + 2 * found.monte_carlo_error < truth
    assert found.pareto_k == pytest.approx(1 - share, abs=0.15)
    assert found.as_dict()["high_pareto_k"] > 0.3
    # The old rule has nothing to say of it.
    assert found.low_effective < 0.05
    rule = np.mean(0.5 * (1 / found.effective_sample_sizes - 1 / 1000))
    bias = found.log_prob - truth
    assert bias < -2 * rule


def test_k_depends_on_no_chunk_and_few_draws_tell_none(rng):
    model = linear_gaussian(rng, orthogonal=True)
    vae = linear_vae(model, *exact_of(model), 0.5 * np.diag(model.posterior_covariance()))
    x = as_images(points(model, rng, 5))
    several = [log_prob(vae, x, num_samples=5000, seed=1, chunk_size=c) for c in (100, 4096)]
    np.testing.assert_allclose(several[0].pareto_ks, several[1].pareto_ks, atol=1e-3)
    few = log_prob(vae, x, num_samples=10)
    assert np.isnan(few.pareto_ks).all()
    assert np.isnan(few.high_pareto_k) and np.isnan(few.interval[1])
    assert few.as_dict()["interval"][0] == few.lower_bound()
    for wrong in (0, 1, math.nan, "0.9"):
        with pytest.raises(InputError, match="confidence must be between 0 and 1"):
            few.lower_bound(wrong)
    assert not any("Pareto" in warning for warning in few.warnings)


def exact_of(model):
    weights = model.posterior_weights()
    return weights, -weights @ model.offset
