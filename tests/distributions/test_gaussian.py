import analytic
import numpy as np
import pytest
import tensorflow as tf
from scipy import stats
from tensorflow_probability import distributions as tfd

from tfvae.distributions.kl import kl_divergence
from tfvae.distributions.normal import FullCovarianceNormal, LogVarianceNormal

EPS = float(np.finfo(np.float32).eps)

LOC = np.array([[-3.0, 0.0, 0.7], [5.0, -0.2, 1.0]])
LOG_VAR = np.array([[-4.0, 0.0, 1.3], [2.0, -0.6, -1.0]])


def gaussian(dtype=tf.float64):
    return LogVarianceNormal(tf.constant(LOC, dtype), tf.constant(LOG_VAR, dtype))


def reference():
    return stats.norm(LOC, np.exp(0.5 * LOG_VAR))


# --- against SciPy --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ours", "scipys"),
    [
        ("log_prob", "logpdf"),
        ("prob", "pdf"),
        ("cdf", "cdf"),
        ("log_cdf", "logcdf"),
        ("survival_function", "sf"),
        ("log_survival_function", "logsf"),
    ],
)
def test_densities(ours, scipys):
    for x in (-2.0, 0.0, 0.4, 3.0):
        np.testing.assert_allclose(
            getattr(gaussian(), ours)(tf.constant(x, tf.float64)),
            getattr(reference(), scipys)(x),
            rtol=1e-10,
            # The logarithm of a probability near 1 is rounded at the size of 1.
            atol=1e-15,
        )


def test_quantiles():
    for level in (0.01, 0.5, 0.9):
        np.testing.assert_allclose(
            gaussian().quantile(tf.constant(level, tf.float64)), reference().ppf(level), rtol=1e-10
        )


def test_statistics():
    distribution = gaussian()
    np.testing.assert_allclose(distribution.entropy(), reference().entropy(), rtol=1e-13)
    np.testing.assert_allclose(distribution.mean(), LOC)
    np.testing.assert_allclose(distribution.mode(), LOC)
    np.testing.assert_allclose(distribution.stddev(), reference().std(), rtol=1e-13)
    np.testing.assert_allclose(distribution.variance(), reference().var(), rtol=1e-13)
    np.testing.assert_array_equal(distribution.log_var, LOG_VAR)
    assert distribution.batch_shape == LOC.shape
    assert distribution.event_shape == ()


def test_log_prob_in_float32():
    for x in (-2.0, 0.4, 3.0):
        expected = reference().logpdf(x)
        # Each of three terms is good to a few roundings; they partly cancel.
        size = np.abs(expected) + np.abs(LOG_VAR) + 1
        error = np.abs(gaussian(tf.float32).log_prob(x).numpy() - expected)
        assert np.all(error <= 4 * EPS * size)


# --- log-variances beyond what a standard deviation in float32 can hold ---------------------------

EXTREMES = (-160.0, -120.0, -100.0, -90.0, -80.0, 60.0, 80.0)


@pytest.mark.parametrize("log_var", EXTREMES)
def test_log_prob_of_draws_at_extreme_log_variances(log_var):
    z = (np.exp(0.5 * log_var) * np.linspace(-3, 3, 7)).astype(np.float32)
    distribution = LogVarianceNormal(tf.zeros(7), tf.fill((7,), log_var))
    expected = stats.norm.logpdf(z.astype(np.float64), 0, np.exp(0.5 * log_var))
    np.testing.assert_allclose(distribution.log_prob(z), expected, rtol=10 * EPS)


@pytest.mark.parametrize("log_var", [-220.0, -200.0, *EXTREMES])
def test_log_prob_and_its_gradient_at_the_mean(log_var):
    loc, log_variance = tf.constant([0.0, 0.25]), tf.fill((2,), log_var)
    with tf.GradientTape() as tape:
        tape.watch((loc, log_variance))
        log_prob = LogVarianceNormal(loc, log_variance).log_prob([0.0, 0.25])
    expected = -0.5 * (log_var + np.log(2 * np.pi))
    np.testing.assert_allclose(log_prob, [expected] * 2, rtol=2 * EPS)
    by_loc, by_log_var = tape.gradient(log_prob, (loc, log_variance))
    np.testing.assert_array_equal(by_loc, [0, 0])
    np.testing.assert_array_equal(by_log_var, [-0.5, -0.5])


def test_entropy_at_extreme_log_variances():
    log_var = tf.constant([-220.0, -200.0, *EXTREMES])
    expected = 0.5 * (log_var.numpy().astype(np.float64) + 1 + np.log(2 * np.pi))
    distribution = LogVarianceNormal(tf.zeros_like(log_var), log_var)
    np.testing.assert_allclose(distribution.entropy(), expected, rtol=2 * EPS)
    # What it guards against.
    assert np.isinf(tfd.Normal(0.0, tf.exp(0.5 * log_var)).entropy().numpy()[0])


# --- samples --------------------------------------------------------------------------------------


def test_moments_of_samples():
    n = 100_000
    z = gaussian().sample(n, seed=(3, 4)).numpy()
    assert z.shape == (n, *LOC.shape)
    variance = np.exp(LOG_VAR)
    assert np.all(np.abs(z.mean(0) - LOC) <= 4 * np.sqrt(variance / n))
    # Var[(z − μ)²] = 2 σ⁴, and that of the fourth power (105 − 9) σ⁸.
    assert np.all(np.abs(np.square(z - LOC).mean(0) - variance) <= 4 * variance * np.sqrt(2 / n))
    fourth = ((z - LOC) ** 4).mean(0)
    assert np.all(np.abs(fourth - 3 * variance**2) <= 4 * variance**2 * np.sqrt(96 / n))


def test_samples_of_different_elements_are_independent():
    n = 100_000
    z = gaussian().sample(n, seed=(3, 4)).numpy().reshape(n, -1)
    correlation = np.corrcoef(z.T) - np.eye(z.shape[1])
    assert np.all(np.abs(correlation) <= 4 / np.sqrt(n))
    # And one draw tells nothing of the next.
    serial = [np.corrcoef(column[:-1], column[1:])[0, 1] for column in z.T]
    assert np.all(np.abs(serial) <= 4 / np.sqrt(n))


def test_noise_does_not_depend_on_the_parameters():
    noise = LogVarianceNormal(tf.zeros((2, 3)), tf.zeros((2, 3))).sample(5, seed=(1, 2)).numpy()
    assert np.all(np.isfinite(noise)) and np.std(noise) > 0
    z = gaussian(tf.float32).sample(5, seed=(1, 2)).numpy()
    scale = np.exp(0.5 * LOG_VAR)
    # z is rounded at the size of the larger of μ and σ ε.
    bound = 4 * EPS * (np.abs(LOC) + np.abs(scale * noise))
    assert np.all(np.abs(z - (LOC + scale * noise)) <= bound)
    assert np.any(gaussian(tf.float32).sample(5, seed=(1, 3)).numpy() != z)


def test_gradients_of_samples_by_the_parameters():
    loc, log_var = tf.constant(LOC, tf.float32), tf.constant(LOG_VAR, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch((loc, log_var))
        distribution = LogVarianceNormal(loc, log_var)
        z = distribution.sample(seed=(1, 2))
    assert distribution.reparameterization_type == tfd.FULLY_REPARAMETERIZED
    by_loc, by_log_var = tape.gradient(z, (loc, log_var))
    np.testing.assert_array_equal(by_loc, np.ones_like(LOC))
    # ∂(μ + exp(½λ) ε)/∂λ = ½ σ ε, and z − μ is rounded at the size of z.
    size = np.abs(LOC) + np.abs(z)
    assert np.all(np.abs(by_log_var - 0.5 * (z - LOC)) <= 4 * EPS * size)


# --- what a distribution must do besides ----------------------------------------------------------


def same(a, b):
    assert type(a) is LogVarianceNormal and type(b) is LogVarianceNormal
    np.testing.assert_array_equal(a.loc, b.loc)
    np.testing.assert_array_equal(a.log_var, b.log_var)
    np.testing.assert_array_equal(a.log_prob(0.1), b.log_prob(0.1))


def test_slices():
    loc, log_var = tf.constant(LOC, tf.float32), tf.constant(LOG_VAR, tf.float32)
    distribution = LogVarianceNormal(loc, log_var)
    same(distribution[0], LogVarianceNormal(loc[0], log_var[0]))
    same(distribution[:, 1:], LogVarianceNormal(loc[:, 1:], log_var[:, 1:]))
    same(distribution[..., None], LogVarianceNormal(loc[..., None], log_var[..., None]))
    whole = tfd.Independent(distribution, 1)
    same(whole[1].distribution, LogVarianceNormal(loc[1], log_var[1]))


def test_copies():
    loc, log_var = tf.constant(LOC, tf.float32), tf.constant(LOG_VAR, tf.float32)
    distribution = LogVarianceNormal(loc, log_var)
    same(distribution.copy(), distribution)
    same(distribution.copy(loc=loc + 1), LogVarianceNormal(loc + 1, log_var))
    same(distribution.copy(log_var=log_var - 1), LogVarianceNormal(loc, log_var - 1))


@pytest.mark.parametrize("wrap", [lambda d: d, lambda d: tfd.Independent(d, 1)])
def test_crossing_the_boundary_of_a_function(wrap):
    # A log-variance that a standard deviation could not carry across.
    loc, log_var = tf.zeros((2, 3)), tf.fill((2, 3), -220.0)
    traces = []

    @tf.function
    def entropy(distribution):
        traces.append(distribution)
        return distribution.entropy()

    @tf.function
    def make(loc, log_var):
        return wrap(LogVarianceNormal(loc, log_var))

    distribution = wrap(LogVarianceNormal(loc, log_var))
    np.testing.assert_array_equal(entropy(distribution), distribution.entropy())
    entropy(wrap(LogVarianceNormal(loc + 1, log_var + 1)))
    assert len(traces) == 1

    returned = make(loc, log_var)
    assert type(returned) is type(distribution)
    np.testing.assert_array_equal(returned.entropy(), distribution.entropy())
    np.testing.assert_array_equal(
        returned.sample(4, seed=(1, 2)), distribution.sample(4, seed=(1, 2))
    )


# --- a full covariance ----------------------------------------------------------------------------

LOWER = np.random.default_rng(1).normal(size=(2, 3, 3))


def full(dtype=tf.float64):
    return FullCovarianceNormal(*(tf.constant(value, dtype) for value in (LOC, LOG_VAR, LOWER)))


def covariances():
    mixing = np.tril(LOWER, -1) + np.eye(3)
    factor = np.exp(0.5 * LOG_VAR)[..., None] * mixing
    return factor @ np.swapaxes(factor, -1, -2)


def test_full_log_prob_is_scipys(rng):
    x = rng.normal(size=(7, 2, 3))
    distribution = full()
    assert distribution.batch_shape == (2,) and distribution.event_shape == (3,)
    expected = [
        stats.multivariate_normal(LOC[i], covariances()[i]).logpdf(x[:, i]) for i in range(2)
    ]
    np.testing.assert_allclose(distribution.log_prob(x), np.transpose(expected), rtol=1e-10)
    in_float32 = full(tf.float32).log_prob(x.astype(np.float32))
    np.testing.assert_allclose(in_float32, np.transpose(expected), rtol=1e-5, atol=1e-5)


def test_full_statistics():
    distribution = full()
    np.testing.assert_allclose(distribution.mean(), LOC)
    np.testing.assert_allclose(distribution.covariance(), covariances(), rtol=1e-12)
    expected = [stats.multivariate_normal(LOC[i], covariances()[i]).entropy() for i in range(2)]
    np.testing.assert_allclose(distribution.entropy(), expected, rtol=1e-12)


def test_moments_of_full_samples():
    n = 100_000
    z = full(tf.float32).sample(n, seed=(3, 4)).numpy()
    covariance = covariances()
    variance = np.diagonal(covariance, axis1=-2, axis2=-1)
    assert np.all(np.abs(z.mean(0) - LOC) <= 4 * np.sqrt(variance / n))
    products = np.einsum("nbi,nbj->bij", z - LOC, z - LOC) / n
    # Var[(z_i − μ_i)(z_j − μ_j)] = Σ_ii Σ_jj + Σ_ij².
    spread = variance[:, :, None] * variance[:, None, :] + covariance**2
    assert np.all(np.abs(products - covariance) <= 4 * np.sqrt(spread / n))


def test_full_samples_and_their_log_prob():
    distribution = full(tf.float32)
    z, log_prob = distribution.experimental_sample_and_log_prob(5, seed=(1, 2))
    np.testing.assert_array_equal(z, distribution.sample(5, seed=(1, 2)))
    np.testing.assert_array_equal(log_prob, distribution.log_prob(z))


def independent(loc, scale, kind=tfd.Normal):
    loc, scale = tf.constant(loc, tf.float64), tf.constant(scale, tf.float64)
    second = scale if kind is tfd.Normal else 2 * tf.math.log(scale)
    return tfd.Independent(kind(loc, second), 1)


@pytest.mark.parametrize("kind", [tfd.Normal, LogVarianceNormal])
def test_full_kl_to_a_diagonal_normal(kind):
    loc, scale = [0.5, -1.0, 2.0], [1.0, 0.3, 2.5]
    expected = [
        analytic.full_gaussian_kl(LOC[i], covariances()[i], loc, np.diag(np.square(scale)))
        for i in range(2)
    ]
    kl = tfd.kl_divergence(full(), independent(loc, scale, kind))
    np.testing.assert_allclose(kl, expected, rtol=1e-12)
    # A prior with a batch, as a class-conditional one has.
    both = tfd.kl_divergence(full(), independent([loc, loc], [scale, scale], kind))
    np.testing.assert_allclose(both, expected, rtol=1e-12)


def test_full_kl_without_correlations_is_the_diagonal_one():
    loc, log_var = tf.constant(LOC), tf.constant(LOG_VAR)
    prior = independent([0.5, -1.0, 2.0], [1.0, 0.3, 2.5])
    diagonal = tfd.Independent(LogVarianceNormal(loc, log_var), 1)
    plain = FullCovarianceNormal(loc, log_var, tf.zeros((3, 3), tf.float64))
    np.testing.assert_allclose(
        tfd.kl_divergence(plain, prior), tfd.kl_divergence(diagonal, prior), rtol=1e-14
    )
    same = FullCovarianceNormal(tf.zeros(3), tf.zeros(3), tf.zeros((3, 3)))
    standard = tfd.Independent(tfd.Normal(tf.zeros(3), 1.0), 1)
    assert tfd.kl_divergence(same, standard) == 0


def test_full_kl_to_others():
    """TFP's own closed form where it has one, Monte Carlo where nobody has."""
    factor = np.array([[1.0, 0, 0], [0.5, 2, 0], [-1, 0.3, 0.7]])
    loc = np.array([0.5, -1.0, 2.0])
    for other, covariance in (
        (tfd.MultivariateNormalTriL(loc, factor), factor @ factor.T),
        (tfd.MultivariateNormalDiag(loc, np.diag(factor)), np.diag(np.diag(factor) ** 2)),
        (full()[1], covariances()[1]),
    ):
        expected = [
            analytic.full_gaussian_kl(LOC[i], covariances()[i], other.mean().numpy(), covariance)
            for i in range(2)
        ]
        np.testing.assert_allclose(tfd.kl_divergence(full(), other), expected, 1e-10, 1e-14)
    laplace = tfd.Independent(tfd.Laplace(tf.zeros(3, tf.float64), tf.ones((), tf.float64)), 1)
    with pytest.raises(NotImplementedError):
        tfd.kl_divergence(full(), laplace)
    z = full().sample(4, seed=(1, 2))
    np.testing.assert_allclose(
        kl_divergence(full(), laplace, z),
        tf.reduce_mean(full().log_prob(z) - laplace.log_prob(z), axis=0),
    )


@pytest.mark.parametrize("log_var", [-220.0, *EXTREMES])
def test_full_at_extreme_log_variances(log_var):
    values = (tf.constant([0.0, 0.25]), tf.fill((2,), log_var), tf.constant([[0, 0], [0.5, 0]]))
    standard = tfd.Independent(tfd.Normal(tf.zeros(2), 1.0), 1)
    with tf.GradientTape() as tape:
        tape.watch(values)
        distribution = FullCovarianceNormal(*values)
        log_prob, entropy = distribution.log_prob([0.0, 0.25]), distribution.entropy()
        _, of_sample = distribution.experimental_sample_and_log_prob(seed=(1, 2))
        kl = tfd.kl_divergence(distribution, standard)
        loss = log_prob + kl
    exact = np.log(2 * np.pi)
    np.testing.assert_allclose(log_prob, -log_var - exact, rtol=2 * EPS)
    np.testing.assert_allclose(entropy, log_var + 1 + exact, rtol=2 * EPS)
    assert np.isfinite(of_sample)
    variance = np.exp(log_var)
    np.testing.assert_allclose(
        kl, variance - 1 - log_var + 0.5 * (0.25**2 + 0.25 * variance), rtol=1e-5
    )
    for gradient in tape.gradient(loss, values):
        assert np.all(np.isfinite(gradient))


def test_full_in_one_dimension():
    values = (tf.constant([0.3]), tf.constant([-1.2]), tf.zeros((1, 1)))
    z = tf.constant([[0.0], [1.5]])
    np.testing.assert_allclose(
        FullCovarianceNormal(*values).log_prob(z),
        stats.norm(0.3, np.exp(-0.6)).logpdf(z)[:, 0],
        rtol=1e-6,
    )


def test_full_slices_and_copies():
    distribution = full()
    x = distribution.sample(4, seed=(1, 2))
    log_prob = distribution.log_prob(x)
    np.testing.assert_allclose(distribution[1].log_prob(x[:, 1]), log_prob[:, 1], rtol=1e-12)
    assert type(distribution[1]) is FullCovarianceNormal
    np.testing.assert_array_equal(distribution.copy().log_prob(x), log_prob)
    moved = distribution.copy(loc=distribution.loc + 1)
    np.testing.assert_allclose(moved.log_prob(x + 1), log_prob, rtol=1e-12)


def test_gradients_of_full_samples():
    values = tuple(tf.constant(value, tf.float32) for value in (LOC, LOG_VAR, LOWER))
    with tf.GradientTape() as tape:
        tape.watch(values)
        z = FullCovarianceNormal(*values).sample(seed=(1, 2))
        loss = tf.reduce_sum(z)
    by_loc, by_log_var, by_lower = tape.gradient(loss, values)
    np.testing.assert_array_equal(by_loc, np.ones_like(LOC))
    # ∂(μ + σ ⊙ M ε)/∂log σ² = ½ (z − μ).
    np.testing.assert_allclose(by_log_var, 0.5 * (z - LOC), rtol=1e-4, atol=1e-5)
    below = np.tril(np.ones((3, 3), bool), -1)
    assert np.all(by_lower.numpy()[:, below] != 0) and not np.any(by_lower.numpy()[:, ~below])
