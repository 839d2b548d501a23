"""Evaluation of events of every rank, with values missing, against the linear-Gaussian model."""

import math

import analytic
import linear_vae
import numpy as np
import pytest
from linear_vae import SHAPES, D

import tfvae
from tfvae import evaluation
from tfvae.evaluation import report

NAN = np.nan
# What is missing of four values: nothing, some, all.
HOLES = np.array(
    [[0, 0, 0, 0], [1, 0, 0, 0], [0, 1, 1, 0], [1, 1, 0, 1], [0, 0, 1, 1], [1, 1, 1, 1]], bool
)


def linear_gaussian(rng):
    return linear_vae.linear_gaussian(rng, orthogonal=True)


def with_holes(model, rng, repeats=2):
    """Draws of x `[N, D]`, and the same with NaN where `HOLES` says so."""
    whole = linear_vae.points(model, rng, len(HOLES) * repeats)
    return whole, np.where(np.tile(HOLES, (repeats, 1)), NAN, whole)


def events(x, shape):
    return x.reshape(-1, *shape).astype("float32")


# --- log p(x) and the ELBO ------------------------------------------------------------------------


# One rank and another: they differ in their axes alone.
@pytest.mark.few(1)
@pytest.mark.parametrize("shape", [SHAPES[0], SHAPES[3]])
def test_log_p_of_the_observed_values_is_a_marginal_gaussian(shape, rng):
    model = linear_gaussian(rng)
    vae = linear_vae.with_missing(model, shape)
    _, x = with_holes(model, rng)
    log_p = np.array([model.observed_log_marginal(row) for row in x])
    found = evaluation.log_prob(vae, events(x, shape), num_samples=20_000)
    # The standard error of each by the delta method; where all is missing there is none.
    errors = np.sqrt(np.maximum(20_000 / found.effective_sample_sizes - 1, 0) / 19_999)
    assert np.all(np.abs(found.log_probs - log_p) <= 5 * errors + 2e-5)
    assert np.max(errors) < 0.02
    np.testing.assert_array_equal(found.observed_values, D - np.isnan(x).sum(axis=1))
    assert (found.event_shape, found.measure) == (shape, "density")
    # The gap of the ELBO is KL(q(z|x) ‖ p(z|x)), about the observed values alone.
    q = vae.encode(events(x, shape))
    gaps = [
        analytic.full_gaussian_kl(loc, np.diag(scale**2), *model.observed_posterior(row))
        for loc, scale, row in zip(q.mean().numpy(), q.stddev().numpy(), x, strict=True)
    ]
    draws = vae.terms(events(x, shape), num_samples=2000, seed=3).log_likelihood.numpy()
    elbos = found.log_likelihoods - found.kls
    noise = draws.std(axis=0, ddof=1) / math.sqrt(20_000)
    assert np.all(np.abs(elbos - (log_p - gaps)) <= 5 * noise + 2e-5)
    # Where nothing was observed q(z|x) here is p(z), which is p(z|x) then.
    assert np.all((np.array(gaps) > 0.1) == (found.observed_values > 0))
    assert found.elbo.elbo == pytest.approx(elbos.mean())


def test_where_nothing_is_missing_the_same_model_says_the_same(rng):
    model = linear_gaussian(rng)
    x = events(linear_vae.points(model, rng, 6), (D,))
    gain = model.posterior_weights()
    whole = linear_vae.linear_vae(model, gain, -gain @ model.offset, np.ones(2), (D,))
    one, other = (
        evaluation.log_prob(vae, x, num_samples=50)
        for vae in (whole, linear_vae.with_missing(model, (D,)))
    )
    np.testing.assert_allclose(one.log_probs, other.log_probs, rtol=1e-5, atol=1e-5)


@pytest.mark.exhaustive
def test_annealing_finds_log_p_of_the_observed_values(rng):
    model = linear_gaussian(rng)
    vae = linear_vae.with_missing(model, SHAPES[1])
    _, x = with_holes(model, rng, repeats=1)
    log_p = np.array([model.observed_log_marginal(row) for row in x])
    found = evaluation.annealed_log_prob(vae, events(x, SHAPES[1]), num_steps=60, num_chains=64)
    errors = np.sqrt(np.maximum(64 / found.effective_sample_sizes - 1, 0) / 63)
    assert np.all(np.abs(found.log_probs - log_p) <= 5 * errors + 1e-4)
    assert np.max(errors) < 0.1


# --- bits per dimension ---------------------------------------------------------------------------


def test_bits_are_those_of_all_observed_values_together(rng):
    vae = tfvae.VAE.for_events((6,), latent_dim=2, missing=True, seed=0)
    x = (rng.random((40, 6)) < 0.4).astype("float32")
    x[rng.random(x.shape) < 0.3] = NAN
    found = evaluation.log_prob(vae, x, num_samples=20)
    values = np.count_nonzero(~np.isnan(x))
    assert found.measure == "probability"
    assert found.bits_per_dimension == pytest.approx(
        -found.log_probs.sum() / (values * math.log(2))
    )
    # Untrained, and each value nearly a fair coin; over all six of each it would be 0.7.
    assert 0.9 < found.bits_per_dimension < 1.3
    assert evaluation.log_prob(vae, np.full((3, 6), NAN)).bits_per_dimension is None


# --- imputation -----------------------------------------------------------------------------------


@pytest.mark.few(1)
@pytest.mark.parametrize("shape", [SHAPES[0], SHAPES[2]])
def test_the_imputed_mean_is_the_conditional_one(shape, rng):
    model = linear_gaussian(rng)
    vae = linear_vae.with_missing(model, shape)
    _, x = with_holes(model, rng, repeats=1)
    seeds, count = 40, 1000
    each = np.stack(
        [
            np.asarray(vae.impute(events(x, shape), num_samples=count, seed=seed))
            for seed in range(seeds)
        ]
    ).reshape(seeds, -1, D)
    mean, error = linear_vae.estimate(each)
    for row, found, its_error in zip(x, mean, error, strict=True):
        hidden = np.isnan(row)
        np.testing.assert_allclose(found[~hidden], row[~hidden], rtol=1e-6)
        expected, _ = model.missing_given_observed(row)
        # Self-normalised weights have a bias of the order of 1/K, of the size of the spread.
        assert np.all(np.abs(found[hidden] - expected) <= 4 * its_error[hidden] + 3 / count)


def test_completions_have_the_conditional_spread_and_cover_the_truth(rng):
    model = linear_gaussian(rng)
    vae = linear_vae.with_missing(model, (D,))
    truth, x = with_holes(model, rng, repeats=80)
    draws = np.asarray(vae.impute(x, num_samples=400, draws=199, seed=1))
    assert draws.shape == (199, *x.shape)
    hidden = np.isnan(x)
    np.testing.assert_array_equal(
        draws[:, ~hidden], np.broadcast_to(x[~hidden].astype("float32"), (199, (~hidden).sum()))
    )
    # The truth is one draw more: its rank among 199 is uniform, and 180 of 200 lie inside.
    ranks = (draws < truth).sum(axis=0)
    inside = ((ranks >= 10) & (ranks < 190)) & hidden
    rows = hidden.any(axis=1)
    shares = inside.sum(axis=1)[rows] / hidden.sum(axis=1)[rows]
    mean, error = linear_vae.estimate(shares)
    assert abs(mean - 0.9) < 4 * error
    # Closed-form variances, pattern by pattern: the same for every x with the same holes.
    for number, pattern in enumerate(HOLES[1:], start=1):
        _, covariance = model.missing_given_observed(np.where(pattern, NAN, 0.0))
        mine = draws[:, number :: len(HOLES)][..., pattern].astype("float64")
        variances, its_error = linear_vae.estimate(mine.var(axis=0, ddof=1))
        # Draws by weight from 400 are too close together by a share of about 1/ESS.
        assert np.all(np.abs(variances - np.diag(covariance)) <= 4 * its_error + 0.02)


# --- the other estimators, for every rank ---------------------------------------------------------


@pytest.mark.few(1)
@pytest.mark.parametrize("shape", [SHAPES[0], SHAPES[2]])
def test_diagnosis_and_priors_for_every_rank(shape, rng):
    model = linear_gaussian(rng)
    vae = linear_vae.with_missing(model, shape)
    _, x = with_holes(model, rng, repeats=30)
    x = events(x, shape)
    found = evaluation.diagnose(vae, x, num_samples=2)
    assert found.events == len(x)
    np.testing.assert_allclose(found.rate, np.mean(vae.elbo(x, seed=1).kl), rtol=1e-5)
    prior = evaluation.fit_prior(vae, x, "gaussian_mixture:components=1")
    codes = evaluation.aggregate_posterior(vae, x)
    np.testing.assert_allclose(prior.distribution().mean(), codes.mean(axis=0), atol=1e-4)
    fitted = vae.with_prior(prior)
    assert fitted.missing
    assert fitted.sample(3, seed=0).shape == (3, *shape)


@pytest.mark.few(1)
@pytest.mark.parametrize(
    ("array", "title", "unit"),
    [
        (np.random.default_rng(0).normal(size=(60, 5)), "test vectors", "vector"),
        (np.random.default_rng(0).normal(size=(60, 8, 2)), "test series", "series"),
    ],
)
def test_the_report_of_a_table_and_of_series(array, title, unit, tmp_path):
    array[np.random.default_rng(1).random(array.shape) < 0.3] = NAN
    np.save(tmp_path / "data.npy", array)
    data = tfvae.datasets.load(tmp_path / "data.npy", test=20)
    vae = tfvae.VAE.for_events(
        data.event_shape, latent_dim=2, network="dense", likelihood="normal", missing=True, seed=0
    )
    few = 2 if unit == "series" else 0
    found = report.evaluate(vae, data, num_samples=5, annealed_events=few, annealing_steps=2)
    lines = str(found).splitlines()
    assert lines[0] == f"{title}  20; nats per {unit}"
    assert "images" not in str(found)
    if few:
        assert found.annealing.sandwich.lower.events == few
    assert found.as_dict()["importance_sampling"]["events"] == 20


# --- what people read -----------------------------------------------------------------------------


@pytest.mark.exhaustive
def test_estimates_print_as_one_line(rng):
    model = linear_gaussian(rng)
    vae = linear_vae.with_missing(model, (D,))
    x = events(linear_vae.points(model, rng, 1200), (D,))
    found = evaluation.log_prob(vae, x, num_samples=20)
    few = evaluation.AnnealedEstimate(found.log_probs[:3], np.ones(3), 2, 0.8)
    error = found.standard_error
    assert repr(found) == (
        f"LogProbEstimate({found.log_prob:.3f} ± {error:.3f} nats, 20 draws, median ESS "
        f"{found.effective_sample_size:.1f}; 1,200 events)"
    )
    assert repr(found.elbo).startswith(f"ELBOEstimate({found.elbo.elbo:.3f} ± ")
    assert repr(few).startswith("AnnealedEstimate(") and "2 chains" in repr(few)
    both = evaluation.Sandwich(few, few)
    assert "<= log p(x) <=" in repr(both)
    diagnosis = evaluation.diagnose(vae, x)
    assert "2 of 2 units active" in repr(diagnosis)
    for one in (found, found.elbo, few, both, diagnosis):
        assert str(one) == repr(one)
        assert "\n" not in repr(one) and len(repr(one)) < 200


def test_an_interrupted_estimate_says_so():
    values = np.zeros(3), np.ones(3)
    assert "interrupted" in repr(evaluation.WeightedEstimate(*values, 1, complete=False))
