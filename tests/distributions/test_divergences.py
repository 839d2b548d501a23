import analytic
import numpy as np
import pytest
import tensorflow as tf
from scipy import integrate, stats
from tensorflow_probability import distributions as tfd

import tfvae
from tfvae.distributions.kl import gaussian_kl, kl_divergence, kl_is_exact, kl_per_dimension
from tfvae.distributions.normal import LogVarianceNormal

LOCS = (-30.0, -3.0, -0.5, 0.0, 1e-3, 2.0, 10.0)
LOG_VARS = (-20.0, -5.0, -1.0, -1e-3, 0.0, 1e-3, 0.5, 2.0, 5.0)
GRID = np.array([(loc, log_var) for loc in LOCS for log_var in LOG_VARS])
# exp(−½ 220) = 1.7e-48 is below every float32, subnormal ones included.
EXTREMES = np.array([-220.0, -200.0, -150.0, -100.0, -80.0, 60.0, 80.0])

EPS = float(np.finfo(np.float32).eps)


def standard_errors(samples):
    """The mean of `samples` over its first axis, and its standard error."""
    return samples.mean(axis=0), samples.std(axis=0, ddof=1) / np.sqrt(len(samples))


# --- the closed form against three independent ones -----------------------------------------------


def test_closed_form_is_numpys_in_float64():
    loc, log_var = GRID.T
    kl = gaussian_kl(tf.constant(loc), tf.constant(log_var)).numpy()
    # expm1(λ) − λ loses the digits that λ has more than λ²/2: an absolute error of eps · |λ|.
    np.testing.assert_allclose(kl, analytic.gaussian_kl(loc, log_var), rtol=1e-13, atol=2e-16 * 20)


def test_closed_form_is_tfps_of_plain_normals():
    # Of tfd.Normal, not of LogVarianceNormal: that one's KL is the function under test.
    loc, log_var = GRID.T
    q = tfd.Normal(tf.constant(loc), tf.exp(0.5 * tf.constant(log_var)))
    p = tfd.Normal(tf.constant(0.0, tf.float64), tf.constant(1.0, tf.float64))
    assert type(q) is tfd.Normal
    np.testing.assert_allclose(
        gaussian_kl(tf.constant(loc), tf.constant(log_var)),
        tfd.kl_divergence(q, p),
        rtol=1e-12,
        atol=1e-14,
    )


def test_closed_form_for_another_prior_is_tfps_of_plain_normals(rng):
    loc, log_var, prior_loc, prior_log_var = rng.normal(size=(4, 200)) * 2
    q = tfd.Normal(tf.constant(loc), np.exp(0.5 * log_var))
    p = tfd.Normal(tf.constant(prior_loc), np.exp(0.5 * prior_log_var))
    ours = gaussian_kl(*map(tf.constant, (loc, log_var, prior_loc, prior_log_var)))
    np.testing.assert_allclose(ours, tfd.kl_divergence(q, p), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(
        ours, analytic.gaussian_kl(loc, log_var, prior_loc, prior_log_var), rtol=1e-12, atol=1e-14
    )


def test_closed_form_is_the_monte_carlo_mean(rng):
    loc, log_var = GRID.T
    z = loc + np.exp(0.5 * log_var) * rng.standard_normal((20_000, len(loc)))
    log_q = stats.norm.logpdf(z, loc, np.exp(0.5 * log_var))
    mean, error = standard_errors(log_q - stats.norm.logpdf(z))
    kl = gaussian_kl(tf.constant(loc), tf.constant(log_var)).numpy()
    # At loc = log_var = 0 every sample is 0 and so is the standard error; 1e-12 is rounding.
    assert np.all(np.abs(kl - mean) <= 4 * error + 1e-12)


def test_float32_is_as_good_as_float32_can_be():
    loc, log_var = GRID.astype(np.float32).T
    expected = analytic.gaussian_kl(loc, log_var)
    # A few roundings of the terms, of which the smaller two are no larger than |λ| near 0.
    bound = 4 * EPS * (expected + np.abs(log_var))
    assert np.all(np.abs(gaussian_kl(loc, log_var).numpy() - expected) <= bound)


# --- the extremes ---------------------------------------------------------------------------------


@pytest.mark.parametrize("loc", [0.0, 1.5])
def test_extreme_log_variances_stay_right(loc):
    log_var = EXTREMES.astype(np.float32)
    kl = gaussian_kl(tf.fill(log_var.shape, loc), tf.constant(log_var)).numpy()
    # exp in float32 is good to an ulp or two, and so are two additions.
    np.testing.assert_allclose(kl, analytic.gaussian_kl(loc, log_var), rtol=5 * EPS)


def test_extreme_log_variances_of_the_posteriors_own_distribution():
    log_var = tf.constant(EXTREMES, tf.float32)
    q = LogVarianceNormal(tf.fill(log_var.shape, 0.5), log_var)
    p = tfd.Normal(0.0, 1.0)
    np.testing.assert_allclose(
        tfd.kl_divergence(q, p), analytic.gaussian_kl(0.5, EXTREMES), rtol=5 * EPS
    )
    # What it guards against: the standard deviation is 0 in float32, and its logarithm infinite.
    plain = tfd.kl_divergence(tfd.Normal(0.5, tf.exp(0.5 * log_var)), p).numpy()
    assert not np.isfinite(plain[0])


def test_gradient_is_right_over_the_grid_and_at_the_extremes():
    pairs = np.concatenate([GRID, [(loc, v) for loc in (0.0, 1.5) for v in EXTREMES]])
    loc, log_var = tf.unstack(tf.constant(pairs, tf.float32), axis=1)
    with tf.GradientTape() as tape:
        tape.watch((loc, log_var))
        q = LogVarianceNormal(loc, log_var)
        kl = tf.reduce_sum(tfd.kl_divergence(q, tfd.Normal(0.0, 1.0)))
    by_loc, by_log_var = tape.gradient(kl, (loc, log_var))
    np.testing.assert_allclose(by_loc, pairs[:, 0], rtol=EPS)
    # exp(λ) − 1 is rounded at the size of 1.
    np.testing.assert_allclose(by_log_var, 0.5 * np.expm1(pairs[:, 1]), rtol=5 * EPS, atol=2 * EPS)


def test_gradient_reaches_the_prior():
    loc, log_var, prior_loc, prior_log_var = (tf.constant(v) for v in (0.7, -0.4, -0.3, 0.9))
    with tf.GradientTape() as tape:
        tape.watch((prior_loc, prior_log_var))
        kl = gaussian_kl(loc, log_var, prior_loc, prior_log_var)
    by_loc, by_log_var = tape.gradient(kl, (prior_loc, prior_log_var))
    precision, distance, ratio = np.exp(-0.9), 0.7 + 0.3, np.exp(-0.4 - 0.9)
    np.testing.assert_allclose(by_loc, -distance * precision, rtol=5 * EPS)
    np.testing.assert_allclose(
        by_log_var, 0.5 * (1 - ratio - distance**2 * precision), rtol=5 * EPS
    )


@pytest.mark.parametrize(
    "compiled",
    [
        pytest.param(lambda f: f, id="eager"),
        pytest.param(tf.function, id="graph"),
        pytest.param(lambda f: tf.function(f, jit_compile=True), id="xla"),
    ],
)
def test_never_negative_near_zero(compiled):
    # exp(λ) − 1 − λ, which is the same function, goes below zero at thousands of these points.
    sizes = np.logspace(-30, 1, 200_001)
    log_var = np.concatenate(
        [
            np.linspace(-1, 1, 400_001),
            np.linspace(-1e-3, 1e-3, 400_001),
            np.linspace(-1e-6, 1e-6, 100_001),
            sizes,
            -sizes,
        ]
    ).astype(np.float32)
    kl = compiled(gaussian_kl)(tf.zeros_like(log_var), tf.constant(log_var)).numpy()
    assert np.all(kl >= 0)
    assert np.all(kl[log_var == 0] == 0)
    # And not by being zero: TensorFlow's expm1 is good to five units in the last place, and the
    # difference of expm1(λ) and λ has their absolute error.
    expected = analytic.gaussian_kl(0.0, log_var)
    assert np.all(np.abs(kl - expected) <= 4 * EPS * (np.abs(log_var) + expected))


def test_never_negative_against_another_prior():
    log_var = np.linspace(-3, 3, 300_001).astype(np.float32)
    prior_log_var = np.nextafter(log_var, np.float32(10)) + np.float32(1e-4)
    kl = gaussian_kl(tf.zeros_like(log_var), log_var, 0.0, prior_log_var).numpy()
    assert np.all(kl >= 0)


# --- whole posteriors -----------------------------------------------------------------------------


def posterior(loc, log_var):
    return tfd.Independent(LogVarianceNormal(loc, log_var), 1)


def standard_normal(dimensions):
    return tfd.Independent(tfd.Normal(tf.zeros(dimensions), tf.ones(dimensions)), 1)


def test_dimensions_sum_to_the_kl(rng):
    loc, log_var = rng.normal(size=(2, 5, 3)).astype(np.float32)
    q, p = posterior(loc, log_var), standard_normal(3)
    expected = analytic.gaussian_kl(loc, log_var)
    by_dimension = kl_per_dimension(q, p)
    assert by_dimension.shape == (5, 3)
    np.testing.assert_allclose(by_dimension, expected, rtol=10 * EPS, atol=2 * EPS)
    # The samples do not matter where the KL is exact.
    total = kl_divergence(q, p, tf.fill((1, 5, 3), np.nan))
    assert total.shape == (5,)
    np.testing.assert_allclose(total, expected.sum(-1), rtol=10 * EPS)
    np.testing.assert_allclose(tf.reduce_sum(by_dimension, -1), total, rtol=5 * EPS)


def test_our_distributions_kl_is_registered_both_ways():
    loc, log_var, other_loc, other_log_var = (tf.constant([v]) for v in (0.3, -0.7, -1.1, 0.6))
    expected = analytic.gaussian_kl(0.3, -0.7, -1.1, 0.6)
    q = LogVarianceNormal(loc, log_var)
    for p in (
        LogVarianceNormal(other_loc, other_log_var),
        tfd.Normal(other_loc, tf.exp(0.5 * other_log_var)),
    ):
        np.testing.assert_allclose(tfd.kl_divergence(q, p), [expected], rtol=10 * EPS)


def test_kl_between_two_of_ours_survives_extremes_of_both():
    log_var = tf.constant([-220.0, -200.0])
    q, p = LogVarianceNormal(tf.zeros(2), log_var), LogVarianceNormal(tf.zeros(2), log_var - 1.0)
    np.testing.assert_allclose(
        tfd.kl_divergence(q, p), analytic.gaussian_kl(0.0, [1.0, 1.0]), rtol=10 * EPS
    )


# --- a prior without a closed form ----------------------------------------------------------------

WEIGHTS, CENTRES, SCALES = (0.3, 0.7), (-1.0, 1.5), (0.5, 0.8)


def mixture(dimensions):
    """The same mixture of two Gaussians in each dimension."""

    def tiled(values):
        return tf.tile(tf.constant(values)[None], (dimensions, 1))

    components = tfd.Normal(tiled(CENTRES), tiled(SCALES))
    weights = tfd.Categorical(probs=tiled(WEIGHTS))
    return tfd.Independent(tfd.MixtureSameFamily(weights, components), 1)


def mixture_kl(loc, log_var):
    """KL(N(loc, exp log_var) ‖ mixture) in one dimension, by quadrature."""
    scale = np.exp(0.5 * log_var)

    def integrand(z):
        density = stats.norm.logpdf(z, loc, scale)
        return np.exp(density) * (density - np.log(mixture_density(z)))

    return integrate.quad(integrand, loc - 12 * scale, loc + 12 * scale, epsabs=1e-10)[0]


def mixture_density(z):
    return sum(
        weight * stats.norm.pdf(z, centre, scale)
        for weight, centre, scale in zip(WEIGHTS, CENTRES, SCALES, strict=True)
    )


def test_exactness_is_known():
    q = posterior(tf.zeros((4, 2)), tf.zeros((4, 2)))
    assert kl_is_exact(q, standard_normal(2)) is True
    assert kl_is_exact(q, mixture(2)) is False


def test_monte_carlo_estimate_is_right(rng):
    loc, log_var = rng.normal(size=(2, 6, 2)).astype(np.float32)
    q, p = posterior(loc, log_var), mixture(2)
    z = q.sample(20_000, seed=(1, 2))
    expected = np.vectorize(mixture_kl)(loc, log_var).sum(-1)
    estimate = kl_divergence(q, p, z).numpy()
    assert estimate.shape == (6,)
    samples = q.log_prob(z).numpy() - np.log(mixture_density(z.numpy())).sum(-1)
    _, error = standard_errors(samples)
    assert np.all(np.abs(estimate - expected) <= 4 * error)
    # The error bars tell something: half the KL, or twice, would be far outside.
    assert np.all(expected > 20 * error)


def test_a_model_with_such_a_prior_knows_that_its_kl_is_an_estimate():
    class Mixture(tfvae.priors.Prior):
        def distribution(self, label=None):
            return mixture(self.event_shape[0])

    exact = tfvae.VAE.for_images((4, 4, 1), latent_dim=2, network="dense")
    estimated = tfvae.VAE.for_images((4, 4, 1), latent_dim=2, network="dense", prior=Mixture())
    assert exact.kl_is_exact is True
    assert estimated.kl_is_exact is False
    terms = estimated.terms(tf.fill((3, 4, 4, 1), 0.5), num_samples=7, seed=3)
    expected = terms.posterior.log_prob(terms.z) - terms.prior.log_prob(terms.z)
    np.testing.assert_allclose(terms.kl, tf.reduce_mean(expected, 0), rtol=10 * EPS)


def test_per_dimension_refuses_what_does_not_factorise():
    q = posterior(tf.zeros((4, 2)), tf.zeros((4, 2)))
    full = tfd.MultivariateNormalTriL(tf.zeros(2), tf.eye(2))
    for pair in ((full, standard_normal(2)), (q, full)):
        with pytest.raises(tfvae.InputError, match=r"factorise.*received MultivariateNormalTriL"):
            kl_per_dimension(*pair)
