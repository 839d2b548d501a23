import analytic
import keras
import numpy as np
import pytest
import tensorflow as tf
from likelihood_cases import CASES, bound, built
from scipy import integrate, special, stats

from tfvae import VAE, InputError
from tfvae.likelihoods import Beta, ContinuousBernoulli, Laplace, Logistic, Normal, StudentT

SHAPE = (4, 3, 2)
location_scale = pytest.mark.parametrize("kind", [Normal, Laplace, Logistic, StudentT])

REFERENCES = {
    Normal: analytic.normal_log_prob,
    Laplace: analytic.laplace_log_prob,
    Logistic: analytic.logistic_log_prob,
    StudentT: lambda x, loc, scale: analytic.student_t_log_prob(x, loc, scale, 5.0),
}


def one_pixel(likelihood, raw):
    """p(x|z) of an image of one value, from its raw parameters."""
    raw = np.reshape(raw, (1, 1, 1, likelihood.parameters_per_value)).astype(np.float32)
    return likelihood.distribution(likelihood(tf.constant(raw)))


def gradient_of(likelihood, raw, x):
    raw = tf.constant(raw, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(raw)
        log_prob = likelihood.distribution(likelihood(raw)).log_prob(x)
    return log_prob.numpy(), tape.gradient(log_prob, raw).numpy()


# --- the references -------------------------------------------------------------------------------


def test_references_are_scipys(rng):
    x, loc = rng.normal(size=(2, 50))
    scale, df = np.exp(rng.normal(size=50)), 2 + np.exp(rng.normal(size=50))
    u, (a, b) = rng.random(50), np.exp(rng.normal(size=(2, 50)))
    for ours, scipys in (
        (analytic.normal_log_prob(x, loc, scale), stats.norm.logpdf(x, loc, scale)),
        (analytic.laplace_log_prob(x, loc, scale), stats.laplace.logpdf(x, loc, scale)),
        (analytic.logistic_log_prob(x, loc, scale), stats.logistic.logpdf(x, loc, scale)),
        (analytic.student_t_log_prob(x, loc, scale, df), stats.t.logpdf(x, df, loc, scale)),
        (analytic.beta_log_prob(u, a, b, 0.1), stats.beta.logpdf(u, a, b, loc=-0.1, scale=1.2)),
    ):
        np.testing.assert_allclose(ours, scipys, rtol=1e-11)


def test_continuous_bernoulli_reference_is_normalised():
    for logit in (-30.0, -3.0, -2e-4, -5e-5, 0.0, 1e-4, 0.5, 20.0):
        total, _ = integrate.quad(
            lambda x: np.exp(analytic.continuous_bernoulli_log_prob(x, logit)),  # noqa: B023
            0,
            1,
            epsabs=1e-12,
        )
        assert abs(total - 1) < 1e-10


# --- densities integrate to 1, and have the mean they say -----------------------------------------


@pytest.mark.parametrize("case", [case for case in CASES if isinstance(case.values, str)], ids=str)
def test_densities_integrate_to_one(case, rng):
    likelihood = case.make((1, 1, 1))
    raw = rng.normal(size=likelihood.parameters_per_value)
    if case.kind is Beta:
        raw[1] = 4  # both concentrations above 1, where the density is bounded
    p = one_pixel(likelihood, raw)
    # The midpoint rule on (−1, 1).
    nodes = (np.arange(20_000) + 0.5) / 10_000 - 1
    weights = np.full(20_000, 1e-4)
    if case.values == "real":
        # x = μ + tan t covers the line; the tails of Student's t need all of it.
        t = nodes * np.pi / 2
        x, weights = raw[0] + np.tan(t), weights * np.pi / 2 / np.cos(t) ** 2
    else:
        margin = case.options.get("margin", 1 / 512) if case.kind is Beta else 0
        x, weights = 0.5 + nodes * (0.5 + margin), weights * (0.5 + margin)
    density = np.exp(p.log_prob(x.reshape(-1, 1, 1, 1).astype(np.float32)).numpy().astype(float))
    assert abs(density @ weights - 1) < 1e-4
    if case.kind is not StudentT:  # whose x p(x) decays too slowly for this rule
        assert abs((density * x) @ weights - p.mean().numpy().item()) < 2e-4


# --- what losses they stand for -------------------------------------------------------------------


def test_normal_of_unit_scale_is_half_the_squared_error(rng):
    raw, x = (rng.normal(size=(5, *SHAPE)).astype(np.float32) for _ in range(2))
    expected = np.square(x - raw).sum((1, 2, 3)) / 2 + np.prod(SHAPE) / 2 * np.log(2 * np.pi)
    ours, gradient = gradient_of(bound(Normal(), SHAPE), raw, x)
    np.testing.assert_allclose(-ours, expected, rtol=1e-6)
    np.testing.assert_allclose(gradient, x - raw, rtol=1e-6)


def test_laplace_of_unit_scale_is_the_absolute_error(rng):
    raw, x = (rng.normal(size=(5, *SHAPE)).astype(np.float32) for _ in range(2))
    expected = np.abs(x - raw).sum((1, 2, 3)) + np.prod(SHAPE) * np.log(2)
    ours, _ = gradient_of(bound(Laplace(), SHAPE), raw, x)
    np.testing.assert_allclose(-ours, expected, rtol=1e-6)


# --- the scale ------------------------------------------------------------------------------------


@location_scale
@pytest.mark.parametrize("min_scale", [1e-3, 0.2, 0.9])
def test_learned_scale(kind, min_scale, rng):
    likelihood = bound(kind(scale="learned", min_scale=min_scale), SHAPE)
    raw, x = (rng.normal(size=(2, *SHAPE)).astype(np.float32) for _ in range(2))
    reference = REFERENCES[kind]

    def log_prob(raw):
        return likelihood.distribution(likelihood(tf.constant(raw))).log_prob(x)

    np.testing.assert_allclose(log_prob(raw), reference(x, raw, 1).sum((1, 2, 3)), 1e-5)
    (variable,) = likelihood.trainable_variables
    assert variable.shape == ()
    variable.assign(-0.7)
    expected = reference(x, raw, min_scale + (1 - min_scale) * np.exp(-3.5)).sum((1, 2, 3))
    np.testing.assert_allclose(log_prob(raw), expected, rtol=1e-5)
    variable.assign(-200.0)
    expected = reference(x, x, min_scale).sum((1, 2, 3))
    np.testing.assert_allclose(log_prob(x), expected, rtol=1e-5)


@location_scale
@pytest.mark.parametrize("min_scale", [1e-3, 0.2])
def test_per_value_scale_has_a_floor(kind, min_scale, rng):
    # A pixel that never changes would otherwise have a density without limit.
    likelihood = bound(kind(scale="per_value", min_scale=min_scale), SHAPE)
    x = rng.normal(size=(2, *SHAPE)).astype(np.float32)
    raw = np.concatenate([x, np.full_like(x, -200.0)], axis=-1)
    parameters = likelihood(tf.constant(raw))
    np.testing.assert_array_equal(parameters["scale"], np.full_like(x, min_scale))
    ours, _ = gradient_of(likelihood, raw, x)
    np.testing.assert_allclose(ours, REFERENCES[kind](x, x, min_scale).sum((1, 2, 3)), rtol=1e-5)


@location_scale
@pytest.mark.parametrize("scale", [0, -1.0, np.inf, np.nan, True, None, "other", [1.0]], ids=str)
def test_bad_scales_are_refused(kind, scale):
    with pytest.raises(InputError, match=r"scale is a positive number, 'learned'.* or '"):
        kind(scale=scale)


def test_only_the_normal_has_an_optimal_scale():
    assert Normal(scale="optimal").scale == "optimal"
    for kind in (Laplace, Logistic, StudentT):
        with pytest.raises(InputError) as error:
            kind(scale="optimal")
        assert str(error.value) == (
            "scale is a positive number, 'learned' or 'per_value'; received 'optimal'"
        )


@pytest.mark.parametrize("scale", [np.float32(0.5), np.float64(0.5), np.int64(2), 2])
def test_a_scale_may_be_any_number(scale):
    # Such as the standard deviation of an array of images.
    assert Normal(scale=scale).scale == scale


def test_bad_floors_are_refused():
    for min_scale in (0, 1, -0.1, 2.0, np.nan, True):
        with pytest.raises(InputError, match="min_scale lies between 0 and 1"):
            Normal(scale="learned", min_scale=min_scale)


# --- the optimal scale ----------------------------------------------------------------------------


def optimal(**options):
    return built(Normal(scale="optimal", **options), SHAPE)


def training_log_prob(likelihood, raw, x):
    """log p(x|z) in training, and its gradient by the raw parameters `[K, B, H, W, C]`."""
    raw = tf.constant(raw)
    with tf.GradientTape() as tape:
        tape.watch(raw)
        log_prob = likelihood.training_distribution({"loc": raw}, x).log_prob(x)
    return log_prob.numpy(), tape.gradient(log_prob, raw).numpy()


def test_optimal_scale_is_where_the_learned_one_would_end(rng):
    raw = rng.normal(size=(2, 5, *SHAPE)).astype(np.float32)
    x = rng.normal(size=(5, *SHAPE)).astype(np.float32)
    variance = np.mean(np.square(x - raw.astype(float)))
    ours, gradient = training_log_prob(optimal(), raw, x)
    expected = stats.norm.logpdf(x, raw, np.sqrt(variance)).sum((2, 3, 4))
    np.testing.assert_allclose(ours, expected, rtol=1e-5)

    other = built(Normal(scale="learned"), SHAPE)
    other.raw_scale.assign(np.log((np.sqrt(variance) - 1e-3) / 0.999) / 5)
    location = tf.constant(raw)
    with tf.GradientTape() as tape:
        tape.watch(location)
        log_prob = other.distribution({"loc": location}).log_prob(x)
    by_location, by_scale = tape.gradient(log_prob, [location, other.raw_scale.value])
    np.testing.assert_allclose(log_prob, ours, rtol=1e-5)
    np.testing.assert_allclose(gradient, by_location, rtol=1e-5, atol=1e-6)
    # And there is the optimum: the two terms of the gradient, each near the number of values, meet.
    assert abs(by_scale) < 5e-4 * raw.size


def test_optimal_scale_gradient_is_that_of_the_minimised_loss(rng):
    # By finite differences of min_σ −log p, in which σ² moves along.
    raw = rng.normal(size=(5, *SHAPE)).astype(np.float32)
    x = rng.normal(size=(5, *SHAPE)).astype(np.float32)
    _, gradient = training_log_prob(optimal(), raw, x)

    def best(raw):
        squared = np.square(x - raw.astype(float))
        return -0.5 * squared.size * (np.log(2 * np.pi * squared.mean()) + 1)

    for index in ((0, 0, 0, 0), (3, 2, 1, 1)):
        step = np.zeros(raw.shape)
        step[index] = 1e-4
        expected = (best(raw + step) - best(raw - step)) / 2e-4
        np.testing.assert_allclose(gradient[index], expected, rtol=1e-4)


def test_optimal_scale_has_a_floor():
    x = np.zeros((2, *SHAPE), np.float32)
    likelihood = optimal(min_scale=0.1)
    ours, gradient = training_log_prob(likelihood, x, x)
    np.testing.assert_allclose(ours, np.prod(SHAPE) * stats.norm.logpdf(0, 0, 0.1), rtol=1e-6)
    np.testing.assert_array_equal(gradient, 0)
    p = likelihood.distribution({"loc": tf.constant(x)})
    np.testing.assert_allclose(p.distribution.scale, 0.1, rtol=1e-5)


def test_evaluation_takes_the_debiased_average_of_training(rng):
    likelihood = optimal()
    x = rng.normal(size=(3, *SHAPE)).astype(np.float32)

    def scale():
        return likelihood.distribution({"loc": tf.constant(x)}).distribution.scale.numpy()

    assert scale() == 1
    assert not likelihood.trainable_variables
    variances = []
    for size in (0.1, 0.5, 2.0):
        likelihood.training_distribution({"loc": tf.constant(x + np.float32(size))}, x)
        variances.append(size**2)
        weights = 0.99 ** np.arange(len(variances))[::-1]
        np.testing.assert_allclose(scale() ** 2, np.average(variances, weights=weights), rtol=1e-5)
        # Evaluating does not move it.
        np.testing.assert_array_equal(scale(), scale())


def test_a_model_trains_saves_and_reloads_its_optimal_scale(rng, tmp_path):
    vae = VAE.for_images(
        (4, 4, 1), latent_dim=2, network="dense", likelihood="normal:scale=optimal", seed=0
    )
    x = (0.1 * rng.normal(size=(32, 4, 4, 1))).astype(np.float32)
    z = np.zeros((1, 2), np.float32)
    assert vae.decode(z).distribution.scale.numpy() == 1
    vae.compile(keras.optimizers.Adam(1e-3))
    history = vae.fit(x, epochs=2, batch_size=8, verbose=0).history
    assert np.all(np.isfinite(history["loss"]))
    scale = vae.decode(z).distribution.scale.numpy()
    # Each of the eight steps has joined the average, once.
    family = vae.likelihood_family
    np.testing.assert_allclose(family.average_weight, 1 - 0.99**8, rtol=1e-5)
    np.testing.assert_allclose(scale**2, family.average_variance.numpy() / (1 - 0.99**8), rtol=1e-5)
    assert 0.09 < scale < 1
    vae.save(tmp_path / "vae.keras")
    again = keras.models.load_model(tmp_path / "vae.keras")
    assert again.decode(z).distribution.scale.numpy() == scale
    np.testing.assert_array_equal(again.elbo(x, seed=1).elbo, vae.elbo(x, seed=1).elbo)


# --- Student's t ----------------------------------------------------------------------------------


def test_learned_degrees_of_freedom_start_at_five_and_stay_above_two():
    likelihood = built(StudentT(df="learned"), (1, 1, 1))
    p = one_pixel(likelihood, [0.0])
    np.testing.assert_allclose(p.distribution.df, 5, rtol=1e-6)
    likelihood.raw_df.assign(-200.0)
    assert one_pixel(likelihood, [0.0]).distribution.df.numpy() > 2
    assert np.isfinite(one_pixel(likelihood, [0.0]).variance())


def test_degrees_of_freedom_have_a_gradient_of_use():
    # Against SciPy, also where the t is almost a normal.
    for df in (2.5, 5.0, 50.0):
        likelihood = built(StudentT(df="learned"), (1, 1, 1))
        raw = np.log(np.expm1(df - 2.001))
        likelihood.raw_df.assign(raw)
        with tf.GradientTape() as tape:
            log_prob = one_pixel(likelihood, [0.3]).log_prob(np.full((1, 1, 1, 1), 4.0, np.float32))
        ours = tape.gradient(log_prob, likelihood.raw_df.value)
        up, down = (
            stats.t.logpdf(4.0, 2.001 + special.softplus(raw + h), 0.3) for h in (1e-5, -1e-5)
        )
        np.testing.assert_allclose(ours, (up - down) / 2e-5, rtol=2e-3)


# --- the unit interval ----------------------------------------------------------------------------


@pytest.mark.parametrize("x", [0.0, 0.3, 0.5, 1.0])
def test_continuous_bernoulli_near_one_half_and_far_from_it(x):
    size = np.concatenate([[0], 10.0 ** np.arange(-8, 3.1, 0.125)])
    logits = np.concatenate([-size[::-1], size]).astype(np.float32)
    raw = logits.reshape(-1, 1, 1, 1)
    likelihood = bound(ContinuousBernoulli(), (1, 1, 1))
    ours, gradient = gradient_of(likelihood, raw, np.full(raw.shape, x, np.float32))
    expected = analytic.continuous_bernoulli_log_prob(np.float32(x), logits)
    np.testing.assert_allclose(ours, expected, rtol=1e-6, atol=1e-6)
    # x − E[x], and E[x] = 1/(1 − exp(−l)) − 1/l.
    safe = np.where(np.abs(logits) < 1e-2, 1, logits).astype(float)
    with np.errstate(over="ignore"):
        mean = 1 / -np.expm1(-safe) - 1 / safe
    mean = np.where(np.abs(logits) < 1e-2, 0.5 + logits / 12, mean)
    np.testing.assert_allclose(gradient.reshape(-1), x - mean, atol=3e-6)
    p = likelihood.distribution(likelihood(tf.constant(raw)))
    np.testing.assert_allclose(p.mean().numpy().reshape(-1), mean, atol=1e-6)


def test_beta_starts_flat():
    likelihood = bound(Beta(), (1, 1, 1))
    p = one_pixel(likelihood, [0.0, 0.0])
    x = np.linspace(0, 1, 11).reshape(-1, 1, 1, 1).astype(np.float32)
    np.testing.assert_allclose(np.exp(p.log_prob(x)), 1 / (1 + 2 / 512), rtol=0.06)
    assert abs(p.mean().numpy().item() - 0.5) < 1e-6


@pytest.mark.few(12)
@pytest.mark.parametrize("concentration", [-90.0, 0.0, 90.0, 1e6])
@pytest.mark.parametrize("mean", [-1e3, -20.0, 0.0, 20.0, 1e3])
def test_beta_is_finite_for_black_white_and_grey(mean, concentration):
    x = np.array([0, 1e-7, 0.25, 0.5, 1 - 1e-7, 1], np.float32).reshape(-1, 1, 1, 1)
    raw = np.tile(np.float32([mean, concentration]), (6, 1, 1, 1))
    likelihood = bound(Beta(), (1, 1, 1))
    log_prob, gradient = gradient_of(likelihood, raw, x)
    assert np.all(np.isfinite(log_prob)) and np.all(np.isfinite(gradient))
    # No density grows beyond what the bound allows: that of a grey value is at most about
    # sqrt(max/2π)/½, and that of an end max/(1 + 2m).
    assert log_prob.max() <= np.log(1e4) + 0.1
    total = (
        likelihood(tf.constant(raw))["concentration1"]
        + likelihood(tf.constant(raw))["concentration0"]
    )
    assert np.max(total) <= 1e4 + 0.03


def test_beta_takes_what_bytes_give(rng):
    x = (rng.integers(0, 256, (2, *SHAPE)) / 255).astype(np.float32)
    Beta().check(x)
    raw = rng.normal(size=(2, 4, 3, 4)).astype(np.float32)
    log_prob, _ = gradient_of(bound(Beta(), SHAPE), raw, x)
    assert log_prob.shape == (2,) and np.all(np.isfinite(log_prob))
