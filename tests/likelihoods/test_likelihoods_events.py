"""Likelihoods of events of any rank, and of events of which some values were not observed."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from likelihood_cases import EACH, EPS, bound, built, each, learned
from scipy import stats
from tensorflow_probability import distributions as tfd

from tfvae import InputError, likelihoods
from tfvae.likelihoods import Bernoulli, Beta, Likelihood, Normal, Support

# A vector [D], a series [T, C], an image [H, W, C] and a volume [D, H, W, C].
SHAPES = [(5,), (4, 3), (4, 3, 2), (3, 2, 4, 2)]
any_rank = pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: f"rank{len(shape)}")
# The number of axes is the base class's matter, and the values are each likelihood's.
each_at_a_rank = pytest.mark.parametrize(
    ("case", "shape"),
    [(one, SHAPES[place % len(SHAPES)]) for place, one in enumerate(EACH)],
    ids=str,
)


def raw_parameters(rng, likelihood, batch, shape):
    shape = (*batch, *shape[:-1], likelihood.parameters_per_value * shape[-1])
    return rng.normal(size=shape).astype(np.float32)


def holes(rng, shape):
    """Which values are observed: some of each event but the first, of which none is."""
    observed = rng.random(shape) < 0.6
    observed[0] = False
    return observed


# --- log p(x|z) -----------------------------------------------------------------------------------


@each_at_a_rank
def test_log_prob_is_the_sum_over_the_events_values(case, shape, rng):
    likelihood = case.make(shape)
    raw, x = raw_parameters(rng, likelihood, (3,), shape), case.images(rng, 3, shape)
    distribution = likelihood.distribution(likelihood(tf.constant(raw)))
    assert distribution.batch_shape == (3,) and distribution.event_shape == shape
    elements = case.elements(x, raw, learned(likelihood))
    axes = tuple(range(1, x.ndim))
    terms = np.abs(elements) + (100 if likelihood.is_discrete else 10)
    error = np.abs(distribution.log_prob(x) - elements.sum(axes))
    assert np.all(error <= 5 * EPS * terms.sum(axes))


@each_at_a_rank
def test_values_not_observed_count_for_nothing(case, shape, rng):
    likelihood = case.make(shape)
    raw, x = raw_parameters(rng, likelihood, (2, 3), shape), case.images(rng, 3, shape)
    observed = holes(rng, x.shape)
    elements = np.where(observed, case.elements(x, raw, learned(likelihood)), 0)
    axes = tuple(range(2, raw.ndim))
    terms = np.where(observed, np.abs(elements) + (100 if likelihood.is_discrete else 10), 0)

    weights = [v for v in likelihood.trainable_variables if v.shape == ()]
    parameters = likelihood(tf.constant(raw.reshape((6, *raw.shape[2:]))))
    parameters = {n: tf.reshape(p, (2, 3, *p.shape[1:])) for n, p in parameters.items()}

    def log_prob_and_gradients(x, observed):
        with tf.GradientTape() as tape:
            tape.watch(parameters)
            p = likelihood.training_distribution(parameters, x, observed)
            log_prob = p.log_prob(x)
        return log_prob, tape.gradient(log_prob, [parameters, [v.value for v in weights]])

    _, (by_all, _) = log_prob_and_gradients(x, None)
    for stand_in in (likelihood.support.fill, np.nan):
        filled = np.where(observed, x, np.float32(stand_in))
        log_prob, (by_parameters, by_weights) = log_prob_and_gradients(filled, observed)
        assert np.all(np.abs(log_prob - elements.sum(axes)) <= 5 * EPS * terms.sum(axes))
        np.testing.assert_array_equal(log_prob[:, 0], 0)
        for name, flat in by_parameters.items():
            # Parameter by parameter, the last axis is the event's again.
            gradient = np.stack(np.split(flat, flat.shape[-1] // shape[-1], axis=-1))
            full = np.stack(np.split(by_all[name], len(gradient), axis=-1))
            expected = np.where(observed, full, 0)
            np.testing.assert_array_equal(gradient[:, :, ~observed], 0)
            np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-6)
        assert np.all(np.isfinite(by_weights))


@each
def test_the_fill_is_supported_and_has_finite_gradients(case, rng):
    # An infinite derivative at the fill would be NaN where its weight is zero.
    likelihood = case.make((4, 3))
    fill = np.float32(likelihood.support.fill)
    assert bool(likelihood.support.admits(fill)) and fill == 0
    raw = rng.choice([-60.0, 0.0, 60.0], (40, 4, 3 * likelihood.parameters_per_value))
    raw = tf.constant(raw.astype(np.float32))
    with tf.GradientTape() as tape:
        tape.watch(raw)
        p = likelihood.distribution(likelihood(raw), np.zeros((40, 4, 3), bool))
        log_prob = p.log_prob(np.full((40, 4, 3), fill))
    np.testing.assert_array_equal(log_prob, 0)
    np.testing.assert_array_equal(tape.gradient(log_prob, raw), 0)


@pytest.mark.few(7)
@each
def test_draws_and_means_are_of_all_values(case, rng):
    likelihood = case.make((4, 3))
    parameters = likelihood(tf.constant(raw_parameters(rng, likelihood, (3,), (4, 3))))
    full = likelihood.distribution(parameters)
    # One mask for all events, too.
    for observed in (holes(rng, (3, 4, 3)), np.array([True, False, True])):
        masked = likelihood.distribution(parameters, observed)
        assert masked.batch_shape == (3,) and masked.event_shape == (4, 3)
        assert masked.dtype == tf.float32
        np.testing.assert_array_equal(likelihood.mean(masked), likelihood.mean(full))
        draw = masked.sample(2, seed=(1, 2))
        np.testing.assert_array_equal(draw, full.sample(2, seed=(1, 2)))
    spread = likelihood.distribution(parameters, observed)
    if case.kind in (Bernoulli, Normal, Beta):
        np.testing.assert_array_equal(spread.stddev(), full.stddev())
        np.testing.assert_array_equal(spread.variance(), full.variance())
    if case.kind in (Bernoulli, Normal):
        np.testing.assert_array_equal(spread.mode(), full.mode())


@pytest.mark.few(3)
@each
def test_graphs_need_not_know_batch_nor_mask(case, rng):
    likelihood = case.make((4, 3))
    raw, x = raw_parameters(rng, likelihood, (3,), (4, 3)), case.images(rng, 3, (4, 3))
    observed = holes(rng, x.shape)
    likelihood(tf.constant(raw))

    def evaluate(raw, x, observed):
        p = likelihood.distribution(likelihood(raw), observed)
        assert p.event_shape == (4, 3)
        return p.log_prob(x), p.mean(), p.sample(seed=(1, 2))

    signature = [tf.TensorSpec((None, *a.shape[1:]), a.dtype) for a in (raw, x, observed)]
    graphs = tf.function(evaluate, input_signature=signature)(raw, x, observed)
    for ours, eager in zip(graphs, evaluate(tf.constant(raw), x, observed), strict=True):
        np.testing.assert_allclose(ours, eager, rtol=1e-4, atol=1e-5)


# --- the optimal scale ----------------------------------------------------------------------------


@any_rank
def test_optimal_scale_is_that_of_the_observed_values(shape, rng):
    likelihood = built(Normal(scale="optimal"), shape)
    loc = rng.normal(size=(2, 5, *shape)).astype(np.float32)
    x = rng.normal(size=(5, *shape)).astype(np.float32)
    observed = holes(rng, x.shape)
    scale = np.sqrt(np.mean(np.square((x - loc.astype(float))[:, observed])))
    filled = np.where(observed, x, np.float32(1e4))
    p = likelihood.training_distribution({"loc": tf.constant(loc)}, filled, observed)
    expected = np.where(observed, stats.norm.logpdf(x, loc, scale), 0).sum(
        tuple(range(2, loc.ndim))
    )
    np.testing.assert_allclose(p.log_prob(filled), expected, rtol=1e-5)
    evaluated = likelihood.distribution({"loc": tf.constant(loc)})
    np.testing.assert_allclose(evaluated.distribution.scale, scale, rtol=1e-5)
    # A mask for all events alike: the values are still counted once each.
    p = likelihood.training_distribution({"loc": tf.constant(loc)}, x, observed[1])
    scale = np.sqrt(np.mean(np.square((x - loc.astype(float))[..., observed[1]])))
    np.testing.assert_allclose(p.distribution.distribution.scale, scale, rtol=1e-5)


def test_a_batch_without_a_value_leaves_the_average_alone():
    likelihood = built(Normal(scale="optimal"), (4, 3))
    x = np.ones((2, 4, 3), np.float32)
    observed = np.zeros(x.shape, bool)
    p = likelihood.training_distribution({"loc": tf.constant(0 * x)}, x, observed)
    np.testing.assert_array_equal(p.log_prob(x), 0)
    assert likelihood.average_weight.numpy() == 0
    assert likelihood.distribution({"loc": tf.constant(x)}).distribution.scale.numpy() == 1


# --- heads ----------------------------------------------------------------------------------------


@any_rank
@pytest.mark.parametrize("text", ["normal:scale=per_value", "bernoulli", "categorical:levels=4"])
def test_heads_make_the_parameters_of_features(text, shape, rng):
    *sides, channels = shape
    count = likelihoods.get(text).parameters_per_value * channels
    inputs = {"rows": (7,)} | ({"sides": (*sides, 7)} if sides else {})
    for name, input_shape in inputs.items():
        likelihood = bound(likelihoods.get(text), shape)
        features = rng.normal(size=(2, *input_shape)).astype(np.float32)
        p = likelihood.distribution(likelihood(tf.constant(features)))
        assert p.batch_shape == (2,) and p.event_shape == shape
        # Of a convolution, whose channels have one bias, each place has an offset besides.
        *offset, kernel, bias = likelihood.trainable_variables
        assert [one.shape for one in offset] == ([(*sides, count)] if name == "sides" else [])
        if name == "rows":
            assert kernel.shape == (7, np.prod(sides, dtype=int) * count)
            continue
        # Three wide along each side.
        assert kernel.shape == (*[3] * len(sides), 7, count)
        bias.assign(rng.normal(size=count))
        expected = tf.nn.convolution(features, kernel.value, padding="SAME") + bias.value
        ours = likelihood.head(features)
        np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-5)


@any_rank
@pytest.mark.parametrize("case", EACH[:3], ids=str)
def test_decoders_may_put_out_the_parameters(case, shape, rng):
    raw = raw_parameters(rng, case.kind(**case.options), (2,), shape)
    for output in (raw, raw.reshape(2, -1)):
        likelihood = bound(case.kind(**case.options), shape)
        parameters = likelihood(tf.constant(output))
        assert likelihood.head is None
        for name, value in likelihood._parameters(tf.constant(raw)).items():
            np.testing.assert_array_equal(parameters[name], value)


@any_rank
def test_a_decoders_sigmoid_is_the_mean(shape, rng):
    likelihood = bound(Bernoulli(), shape)
    likelihood.last_activation = keras.activations.sigmoid
    mean = rng.random((2, *shape)).astype(np.float32)
    p = likelihood.distribution(likelihood(tf.constant(mean)))
    np.testing.assert_allclose(likelihood.mean(p), mean, rtol=10 * EPS, atol=1e-6)


@pytest.mark.parametrize(
    ("event_shape", "output_shape", "message"),
    [
        ((12,), (12, 1), "the decoder of events [12] must put out [batch, features]; "),
        (
            (29, 12),
            (28, 12),
            "the decoder of events [29, 12] must put out [batch, 29, features] or "
            "[batch, features]; received shape (None, 28, 12)",
        ),
        ((29, 12), (29, 12, 1), "must put out [batch, 29, features] or [batch, features]; "),
        ((4, 3, 2), (12, 2), "events [4, 3, 2] must put out [batch, 4, 3, features] or [batch, "),
        ((5, 4, 3, 2), (5, 4, 2, 2), "must put out [batch, 5, 4, 3, features] or [batch, feat"),
    ],
)
def test_outputs_of_another_shape_are_refused(event_shape, output_shape, message):
    with pytest.raises(InputError) as error:
        bound(Bernoulli(), event_shape)(keras.Input(output_shape))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


# --- likelihoods of one's own ---------------------------------------------------------------------


def test_a_likelihood_without_a_distribution_is_abstract():
    class Empty(Likelihood):
        pass

    for kind in (Likelihood, Empty):
        with pytest.raises(TypeError, match="abstract"):
            kind()


class SwitchedOn(Likelihood):
    """One event of whole numbers: TFP's own dtype is int32."""

    support = Support(0, 1, 1)

    def value_distribution(self, parameters):
        return tfd.Bernoulli(logits=parameters["raw"])


def test_values_may_have_another_dtype_than_their_distribution(rng):
    likelihood, reference = built(SwitchedOn(), (4, 3)), built(Bernoulli(), (4, 3))
    assert likelihood.takes_missing
    raw = tf.constant(rng.normal(size=(2, 4, 3)).astype(np.float32))
    x, observed = np.round(rng.random((2, 4, 3))).astype(np.float32), holes(rng, (2, 4, 3))
    ours, expected = (f.distribution(f(raw), observed).log_prob(x) for f in (likelihood, reference))
    np.testing.assert_allclose(ours, expected, rtol=1e-5)


class Together(Likelihood):
    """One whose values depend on each other."""

    def distribution(self, parameters):
        return tfd.MultivariateNormalTriL(parameters["raw"], tf.eye(5) + 0.1)


def test_a_distribution_of_whole_events_takes_no_missing_values(rng):
    likelihood = built(Together(), (5,))
    x = rng.normal(size=(2, 5)).astype(np.float32)
    parameters = likelihood(tf.constant(x))
    for p in (
        likelihood.distribution(parameters),
        likelihood.training_distribution(parameters, x),
    ):
        assert p.event_shape == (5,)
        assert np.all(np.isfinite(p.log_prob(x)))
    assert not likelihood.takes_missing
    with pytest.raises(InputError, match="Together has no value_distribution"):
        likelihood.value_distribution(parameters)
    with pytest.raises(InputError, match=r"Together.* missing values"):
        likelihood.training_distribution(parameters, x, np.ones((2, 5), bool))


def test_values_with_events_of_their_own_are_refused():
    class Vectors(Likelihood):
        def value_distribution(self, parameters):
            return tfd.MultivariateNormalDiag(parameters["raw"])

    likelihood = built(Vectors(), (5,))
    with pytest.raises(InputError, match="value_distribution of Vectors has event shape"):
        likelihood.distribution(likelihood(tf.zeros((2, 5))))
