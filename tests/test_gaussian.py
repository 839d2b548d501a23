import numpy as np
import pytest
import tensorflow as tf
from scipy import stats
from tensorflow_probability import distributions as tfd

from tfvae.gaussian import LogVarianceNormal

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
