import analytic
import keras
import numpy as np
import pytest
import tensorflow as tf
from likelihood_cases import CASES, bound, built
from scipy import special, stats
from tensorflow_probability import distributions as tfd

from tfvae.distributions.discrete import CategoricalLevels, Lattice, LogisticLevels
from tfvae.likelihoods import (
    BY_NAME,
    Bernoulli,
    Categorical,
    DiscretizedLogistic,
    DiscretizedLogisticMixture,
    NegativeBinomial,
    Poisson,
)

DISCRETE = [case for case in CASES if case.kind.is_discrete]


def one_pixel(likelihood, raw):
    """p(x|z) of an image of one value, from its raw parameters."""
    raw = np.reshape(raw, (1, 1, 1, likelihood.parameters_per_value)).astype(np.float32)
    return likelihood.distribution(likelihood(tf.constant(raw)))


def values(likelihood, most=20_000):
    """All values of a likelihood, or those of counts up to `most`."""
    if isinstance(likelihood, Bernoulli):
        return np.array([0.0, 1.0])
    support = likelihood.support
    count = (
        min(round((support.high - support.low) / support.step), most)
        if np.isfinite(support.high)
        else most
    )
    return support.step * np.arange(count + 1)


# --- the references -------------------------------------------------------------------------------


def test_references_are_scipys(rng):
    loc = rng.normal(size=50)
    n, mean, alpha = rng.poisson(5, 50), np.exp(rng.normal(size=50)), np.exp(rng.normal(size=50))
    bits, k = np.round(rng.random(50)), rng.integers(0, 7, 50)
    logits = rng.normal(size=(7, 50))
    scale, step = np.exp(rng.normal(size=50)), 1 / 6
    low = np.where(k == 0, -np.inf, (k - 0.5) * step)
    high = np.where(k == 6, np.inf, (k + 0.5) * step)
    logistic = stats.logistic(loc, scale)
    bins = np.log(logistic.cdf(high) - logistic.cdf(low))
    probabilities = special.softmax(logits, axis=0)
    for ours, scipys in (
        (analytic.bernoulli_log_prob(bits, loc), stats.bernoulli.logpmf(bits, special.expit(loc))),
        (analytic.poisson_log_prob(n / 255, mean, 1 / 255), stats.poisson.logpmf(n, mean)),
        (
            analytic.negative_binomial_log_prob(n / 4, mean, alpha, 1 / 4),
            stats.nbinom.logpmf(n, 1 / alpha, 1 / (1 + alpha * mean)),
        ),
        (analytic.discretized_logistic_log_prob(k * step, loc, scale, 7), bins),
        (
            analytic.discretized_logistic_mixture_log_prob(
                3 * k * step, 3 * loc[None], 3 * scale[None], logits[:1], 7, 3.0
            ),
            bins,
        ),
        (
            analytic.categorical_log_prob(k * step, logits),
            np.log([probabilities[level, i] for i, level in enumerate(k)]),
        ),
    ):
        np.testing.assert_allclose(ours, scipys, rtol=1e-9)


# --- probabilities sum to 1, and have the mean they say -------------------------------------------


@pytest.mark.few(7)
@pytest.mark.parametrize("case", DISCRETE, ids=str)
def test_probabilities_sum_to_one(case, rng):
    likelihood = case.make((1, 1, 1))
    assert likelihood.is_discrete
    for spread in (0.3, 1.0):
        p = one_pixel(likelihood, spread * rng.normal(size=likelihood.parameters_per_value))
        x = values(likelihood)
        log_prob = p.log_prob(x.reshape(-1, 1, 1, 1).astype(np.float32)).numpy().astype(float)
        assert log_prob.shape == x.shape
        assert log_prob.max() <= 0
        np.testing.assert_allclose(np.exp(log_prob).sum(), 1, rtol=2e-5)
        mean = np.exp(log_prob) @ x
        np.testing.assert_allclose(p.mean().numpy().item(), mean, rtol=1e-4, atol=1e-6)
        assert likelihood.mean(p).dtype == tf.float32


def test_only_these_are_discrete():
    assert {name for name, kind in BY_NAME.items() if kind().is_discrete} == {
        "bernoulli",
        "discretized_logistic",
        "discretized_logistic_mixture",
        "categorical",
        "poisson",
        "negative_binomial",
    }


@pytest.mark.parametrize("binary", [True, False])
def test_bernoulli_is_binary_cross_entropy(binary, rng):
    shape = (4, 3, 3)
    logits = 3 * rng.normal(size=(5, *shape)).astype(np.float32)
    x = rng.random((5, *shape)).astype(np.float32)
    x = np.round(x) if binary else x
    likelihood = bound(Bernoulli(), shape)
    ours = -likelihood.distribution(likelihood(tf.constant(logits))).log_prob(x).numpy()
    p = special.expit(logits.astype(float))
    numpys = -(x * np.log(p) + (1 - x) * np.log1p(-p)).sum((1, 2, 3))
    np.testing.assert_allclose(ours, numpys, rtol=2e-6)
    keras_loss = keras.losses.BinaryCrossentropy(from_logits=True, reduction=None)
    # Keras takes the mean over the last axis.
    keras_sum = shape[-1] * tf.reduce_sum(keras_loss(x, logits), (1, 2))
    np.testing.assert_allclose(ours, keras_sum, rtol=2e-6)


# --- channels -------------------------------------------------------------------------------------


@pytest.mark.few(9)
@pytest.mark.parametrize("case", DISCRETE, ids=str)
def test_each_channel_has_its_own_parameters(case, rng):
    """A parameter of one channel does not reach the probability of another."""
    likelihood = case.make((1, 1, 3))
    raw = rng.normal(size=(1, 1, 1, likelihood.parameters_per_value, 3)).astype(np.float32)
    x = case.images(rng, 1, (1, 1, 3))

    def log_prob(raw):
        p = likelihood.distribution(likelihood(tf.reshape(tf.constant(raw), (1, 1, 1, -1))))
        return p.distribution.log_prob(x)[0, 0, 0].numpy()

    before = log_prob(raw)
    for channel in range(3):
        moved = raw.copy()
        moved[..., channel] += rng.normal(size=likelihood.parameters_per_value)
        changed = log_prob(moved) != before
        assert list(changed) == [other == channel for other in range(3)]
        # And a colour image is its channels one by one.
        grey = case.make((1, 1, 1))
        alone = one_pixel(grey, raw[..., channel]).log_prob(x[..., channel : channel + 1])
        np.testing.assert_allclose(alone.numpy().item(), before[channel], rtol=1e-5, atol=1e-5)


# --- discretised logistics ------------------------------------------------------------------------


@pytest.mark.few(19)
@pytest.mark.parametrize("scale", [5e-4, 0.01, 1.0, 1e4])
@pytest.mark.parametrize("loc", [-30.0, -1.0, 0.0, 0.3, 0.5, 1.0, 30.0])
def test_logistic_levels_in_the_extremes(loc, scale):
    # In float32 against float64, for scales of a hundredth of a step to 10,000 times the range,
    # and locations thirty ranges off.
    k = np.array([0, 1, 76, 127, 254, 255], np.float32)
    parameters = tf.repeat(tf.constant([[255 * loc], [255 * scale]], tf.float32), len(k), axis=1)
    with tf.GradientTape() as tape:
        tape.watch(parameters)
        log_prob = LogisticLevels(parameters[0], parameters[1], 256).log_prob(k)
    gradient = tape.gradient(log_prob, parameters).numpy()
    loc, scale = parameters.numpy().astype(float)[:, 0]

    def reference(loc, scale):
        return analytic.discretized_logistic_log_prob(k.astype(float), loc, scale, 256, 255.0)

    expected = reference(loc, scale)
    assert np.all(np.isfinite(log_prob)) and np.all(np.isfinite(gradient))
    np.testing.assert_allclose(log_prob, expected, rtol=1e-5, atol=1e-5)
    for number, h in ((0, 1e-5 * max(scale, 0.1)), (1, 1e-5 * scale)):
        moves = (h, 0) if number == 0 else (0, h)
        up, down = (reference(loc + s * moves[0], scale + s * moves[1]) for s in (1, -1))
        numeric = (up - down) / (2 * h)
        size = np.abs(numeric).max()
        np.testing.assert_allclose(gradient[number], numeric, rtol=1e-3, atol=1e-4 * size + 1e-9)


def test_end_levels_take_the_tails():
    # A location far outside puts all its mass on an end.
    for loc, k in ((-1e4, 0.0), (1e4, 255.0)):
        levels = LogisticLevels(loc, 3.0, 256)
        assert levels.log_prob(k).numpy() == 0
        assert levels.mean().numpy() == k
        np.testing.assert_array_equal(levels.sample(100, seed=(1, 2)), k)


def test_two_levels_are_a_bernoulli(rng):
    logits = rng.normal(size=50).astype(np.float32)
    # P(1) = P(logistic > ½) = σ((μ − ½)/s)
    levels = LogisticLevels(0.5 + 0.7 * logits, 0.7, 2)
    for k in (0.0, 1.0):
        expected = tfd.Bernoulli(logits=logits).log_prob(k)
        np.testing.assert_allclose(levels.log_prob(k), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(levels.mean(), special.expit(logits), rtol=1e-5)


def test_mixture_same_family_takes_them(rng):
    loc, scale = 7 * rng.random((4, 3)), np.exp(rng.normal(size=(4, 3)))
    logits = rng.normal(size=(4, 3))
    tensors = (np.float32(array) for array in (loc, scale, logits))
    loc32, scale32, logits32 = tensors
    mixture = tfd.MixtureSameFamily(
        tfd.Categorical(logits=logits32), LogisticLevels(loc32, scale32, 8)
    )
    assert mixture.batch_shape == (4,) and mixture.event_shape == ()
    x = np.arange(8.0)[:, None]
    expected = analytic.discretized_logistic_mixture_log_prob(
        x, loc.T[:, None], scale.T[:, None], logits.T[:, None], 8, 7.0
    )
    np.testing.assert_allclose(mixture.log_prob(np.float32(x)), expected, rtol=1e-4, atol=1e-5)
    mean = (np.exp(expected) * x).sum(0)
    np.testing.assert_allclose(mixture.mean(), mean, rtol=1e-4)
    draws = mixture.sample(20_000, seed=(1, 2)).numpy()
    frequencies = np.stack([(draws == level).mean(0) for level in range(8)])
    errors = np.sqrt(np.exp(expected) / len(draws))
    assert np.all(np.abs(frequencies - np.exp(expected)) <= 4.5 * errors + 1 / len(draws))


def test_the_mean_takes_memory_for_one_level_at_a_time():
    # All 8,192 levels of 100,000 values side by side would be 3 GB.
    levels = LogisticLevels(tf.fill((100_000,), 3000.25), 7.0, 8192)
    graph = tf.function(levels.mean).get_concrete_function().graph
    sizes = [output.shape.num_elements() for op in graph.get_operations() for output in op.outputs]
    assert max(size for size in sizes if size is not None) == 100_000


def test_components_start_apart():
    likelihood = built(DiscretizedLogisticMixture(components=4, high=255), (1, 1, 2))
    parameters = likelihood(tf.zeros((1, 1, 1, 24)))
    np.testing.assert_allclose(
        parameters["loc"][0, 0, 0], np.repeat([0.125, 0.375, 0.625, 0.875], 2), rtol=1e-6
    )
    p = likelihood.distribution(parameters)
    np.testing.assert_allclose(p.mean(), 127.5, rtol=1e-4)


@pytest.mark.parametrize("kind", [DiscretizedLogistic, DiscretizedLogisticMixture, Categorical])
def test_options_and_probabilities_do_not_depend_on_the_unit(kind, rng):
    # Bytes, and bytes / 255, have the same bits per dimension.
    raw = rng.normal(size=(2, 4, 3, 2 * kind().parameters_per_value)).astype(np.float32)
    k = rng.integers(0, 256, (2, 4, 3, 2))
    results = []
    for high in (1.0, 255):
        likelihood = built(kind(high=high), (4, 3, 2))
        p = likelihood.distribution(likelihood(tf.constant(raw)))
        results.append((p.log_prob(np.float32(k * high / 255)), p.mean() / high))
    for small, large in zip(*results, strict=True):
        np.testing.assert_allclose(small, large, rtol=1e-5)


# --- counts ---------------------------------------------------------------------------------------


def test_counts_are_of_steps(rng):
    # log p(x) is that of n = x/step, with mean E[x]/step.
    n = rng.integers(0, 200, (2, 4, 3, 1))
    log_mean = rng.normal(size=(2, 4, 3, 1)).astype(np.float32)
    likelihood = built(Poisson(step=0.5), (4, 3, 1))
    p = likelihood.distribution(likelihood(tf.constant(log_mean)))
    expected = stats.poisson.logpmf(n, np.exp(log_mean.astype(float)) / 0.5).sum((1, 2, 3))
    np.testing.assert_allclose(p.log_prob(np.float32(0.5 * n)), expected, rtol=1e-5)
    np.testing.assert_allclose(p.mean(), np.exp(log_mean), rtol=1e-5)


@pytest.mark.parametrize("dispersion", [1e-4, 0.1, 10.0])
def test_negative_binomial_has_the_variance_it_says(dispersion):
    likelihood = built(NegativeBinomial(dispersion=dispersion), (1, 1, 1))
    p = one_pixel(likelihood, [np.log(7.0)])
    draws = p.sample(40_000, seed=(3, 4)).numpy().reshape(-1).astype(float)
    variance = 7 + dispersion * 49
    squares = np.square(draws - 7)
    assert abs(squares.mean() - variance) < 4.5 * squares.std() / np.sqrt(len(draws))
    # In float32 the density is good to the end of the range, against float64.
    n = np.arange(0, 300, dtype=np.float32).reshape(-1, 1, 1, 1)
    expected = analytic.negative_binomial_log_prob(n.reshape(-1), 7.0, dispersion)
    np.testing.assert_allclose(p.log_prob(n), expected, rtol=2e-5, atol=2e-5)


def test_negative_binomial_approaches_the_poisson():
    n = np.arange(20, dtype=np.float32).reshape(-1, 1, 1, 1)
    raw = [np.log(7.0)]
    narrow = one_pixel(built(NegativeBinomial(dispersion=1e-6), (1, 1, 1)), raw)
    poisson = one_pixel(built(Poisson(), (1, 1, 1)), raw)
    np.testing.assert_allclose(narrow.log_prob(n), poisson.log_prob(n), atol=2e-4)


def test_a_learned_dispersion_starts_at_one():
    likelihood = built(NegativeBinomial(), (1, 1, 1))
    n = np.arange(9, dtype=np.float32).reshape(-1, 1, 1, 1)
    # A geometric distribution.
    expected = stats.geom.logpmf(np.arange(1, 10), 1 / 8)
    log_prob = one_pixel(likelihood, [np.log(7.0)]).log_prob(n)
    np.testing.assert_allclose(log_prob, expected, rtol=1e-5)
    (variable,) = likelihood.trainable_variables
    assert variable.shape == ()


# --- the lattice ----------------------------------------------------------------------------------


def test_lattice_scales_what_it_wraps():
    lattice = Lattice(tfd.Poisson(tf.constant([2.0, 30.0])), 0.25)
    assert lattice.batch_shape == (2,) and lattice.event_shape == ()
    assert lattice.dtype == tf.float32
    np.testing.assert_allclose(lattice.mean(), [0.5, 7.5])
    x = np.float32([[0.25, 0.5], [0.0, 8.0]])
    expected = stats.poisson.logpmf(x / 0.25, [2, 30])
    np.testing.assert_allclose(lattice.log_prob(x), expected, rtol=1e-5)
    # Values that are a little off, as float32 and a rounded step make them, are levels.
    np.testing.assert_array_equal(lattice.log_prob(x * np.float32(1 + 1e-4)), lattice.log_prob(x))
    draws = lattice.sample(100, seed=(1, 2)).numpy()
    np.testing.assert_array_equal(draws, 0.25 * np.round(draws / 0.25))


def test_levels_that_do_not_exist_have_no_probability():
    # An error of TensorFlow's own would come before that of the images' check.
    levels = CategoricalLevels(tf.zeros((4,)))
    np.testing.assert_allclose(
        levels.log_prob([-1, 0, 3, 4]), [-np.inf, -np.log(4), -np.log(4), -np.inf]
    )
    assert levels.mean().numpy() == 1.5
