"""Annealed importance sampling, on models whose log p(x) is known."""

import dataclasses
import math

import analytic
import conditional_vae
import keras
import linear_vae
import numpy as np
import pytest
import tensorflow as tf
from linear_vae import EPS, as_images, estimate
from scipy import special, stats
from without_density import Atom

import tfvae
from tfvae import evaluation
from tfvae.evaluation import annealed_log_prob, bidirectional_log_prob, chains
from tfvae.likelihoods import Normal

# So many chains side by side: all of a test's, in one call of the graph.
ALL = 10**6


def batches(*arrays, size=ALL):
    return tf.data.Dataset.from_tensor_slices(arrays if len(arrays) > 1 else arrays[0]).batch(size)


def near(values, expected, errors=4):
    """Whether the mean of independent values is what is expected, within standard errors."""
    mean, error = estimate(values)
    return abs(mean - expected) < errors * error


@dataclasses.dataclass(frozen=True)
class Case:
    """A model, images, and log p(x) of each."""

    vae: tfvae.VAE
    x: np.ndarray
    log_p: np.ndarray
    model: analytic.LinearGaussian | None = None

    def repeated(self, times):
        """The images so many times over, each time with other draws, and their log p(x)."""
        return batches(np.tile(self.x, (times, 1, 1, 1))), np.tile(self.log_p, times)


@pytest.fixture(scope="module")
def inexact():
    """A linear model whose q(z|x) is off by half its width, too wide in one dimension, too narrow
    in the other; by so little that weights have a variance, those of reverse chains as well.
    """
    rng = np.random.default_rng(0)
    model = linear_vae.linear_gaussian(rng, orthogonal=True)
    x = linear_vae.points(model, rng, 5)
    gain, variance = model.posterior_weights(), np.diag(model.posterior_covariance())
    shift = 0.5 * np.sqrt(variance) - gain @ model.offset
    vae = linear_vae.linear_vae(model, gain, shift, variance * [1.4, 0.7])
    return Case(vae, as_images(x), model.log_marginal(x), model)


@pytest.fixture
def exact(rng):
    model = linear_vae.linear_gaussian(rng, orthogonal=True)
    x = linear_vae.points(model, rng, 5)
    return Case(linear_vae.exact_vae(model), as_images(x), model.log_marginal(x), model)


# --- schedules ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["linear", "sigmoid"])
@pytest.mark.parametrize("num_steps", [1, 2, 7, 1000])
def test_schedules_rise_from_0_to_1(name, num_steps):
    betas = evaluation.SCHEDULES[name](num_steps)
    assert betas.shape == (num_steps + 1,)
    assert (betas[0], betas[-1]) == (0, 1)
    assert np.all(np.diff(betas) > 0)
    # Symmetric: the ends are walked alike.
    np.testing.assert_allclose(betas + betas[::-1], 1, rtol=1e-12)


def test_schedules_are_what_their_names_say():
    np.testing.assert_allclose(evaluation.SCHEDULES["linear"](4), [0, 0.25, 0.5, 0.75, 1])
    logistic = special.expit(np.linspace(-4, 4, 9))
    expected = (logistic - special.expit(-4)) / (special.expit(4) - special.expit(-4))
    np.testing.assert_allclose(evaluation.SCHEDULES["sigmoid"](8), expected, rtol=1e-12)


# --- the weights ----------------------------------------------------------------------------------


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("initial", "schedule"),
    [
        ("posterior", list(np.linspace(0, 1, 13) ** 1.5)),
        ("prior", "sigmoid"),
    ],
)
def test_weights_have_the_expectation_p_and_the_interval_covers_log_p(inexact, initial, schedule):
    repeats, images = 300, len(inexact.x)
    data, log_p = inexact.repeated(repeats)
    found = annealed_log_prob(
        inexact.vae,
        data,
        num_steps=12,
        num_chains=64,
        initial=initial,
        schedule=schedule,
        chunk_size=ALL,
        seed=3,
    )
    # True of any number of steps, and not only in the limit.
    assert near(np.exp(found.log_probs - log_p), 1)
    assert found.events == len(log_p) and found.num_samples == 64 and found.complete
    scores = []
    for run in range(repeats):
        rows = slice(run * images, (run + 1) * images)
        one = dataclasses.replace(
            found,
            log_probs=found.log_probs[rows],
            effective_sample_sizes=found.effective_sample_sizes[rows],
        )
        scores.append((one.log_prob - log_p[rows].mean()) / one.monte_carlo_error)
    covered = np.mean(np.abs(scores) < 1.96)
    assert abs(covered - 0.95) < 4 * math.sqrt(0.95 * 0.05 / repeats)
    # Nor is the error too large: the square of a standard normal has the variance 2.
    assert abs(np.mean(np.square(scores)) - 1) < 4 * math.sqrt(2 / repeats)


@pytest.mark.exhaustive
def test_one_step_is_importance_sampling(inexact):
    data, log_p = inexact.repeated(400)
    many = annealed_log_prob(inexact.vae, data, num_steps=1, num_chains=20, chunk_size=ALL)
    assert math.isnan(many.acceptance)
    drawn = evaluation.log_prob(inexact.vae, data, num_samples=20, seed=1)
    for name in ("log_probs", "effective_sample_sizes"):
        assert near(getattr(many, name) - getattr(drawn, name), 0), name
    # The comparison is fine enough to see the bias of 20 draws.
    assert not near(many.log_probs - log_p, 0)


@pytest.mark.exhaustive
def test_rounding_does_not_add_up_over_the_steps():
    # With the exact q(z|x) every weight is p(x), here thousands of nats, and what differs is
    # rounding: as much as in one log p(x, z), whatever the number of steps.
    side, sigma, rng = 28, 0.01, np.random.default_rng(0)
    pixels = side * side
    weights = np.linalg.qr(rng.normal(size=(pixels, 2)))[0].astype("float32").astype("float64")
    offset = rng.normal(size=pixels).astype("float32").astype("float64")
    model = analytic.LinearGaussian(weights, offset, float(np.float32(sigma)))
    image, z = keras.Input((side, side, 1)), keras.Input((2,))
    loc, log_var = (keras.layers.Dense(2, kernel_initializer="zeros") for _ in range(2))
    linear = keras.layers.Dense(pixels)
    x = keras.layers.Flatten()(image)
    encoder = keras.Model(image, [loc(x), log_var(x)])
    decoder = keras.Model(z, keras.layers.Reshape((side, side, 1))(linear(z)))
    gain = model.posterior_weights()
    loc.set_weights([gain.T, -gain @ offset])
    log_var.bias.assign(np.log(np.diag(model.posterior_covariance())))
    linear.set_weights([weights.T, offset])
    likelihood = Normal(scale=sigma, decoder_output="parameters")
    vae = tfvae.VAE(encoder, decoder, 2, likelihood=likelihood, seed=0)
    x = rng.standard_normal((3, 2)) @ weights.T + offset + sigma * rng.normal(size=(3, pixels))
    x = x.astype("float32")
    log_p = model.log_marginal(x.astype("float64"))
    assert np.all(log_p > 2000)
    data = batches(x.reshape(3, side, side, 1))
    found = annealed_log_prob(vae, data, num_steps=150, num_chains=8)
    np.testing.assert_allclose(found.log_probs, log_p, rtol=4 * EPS)


# --- bidirectional --------------------------------------------------------------------------------


@pytest.fixture
def joint_samples(monkeypatch):
    """What `sample_joint` gave."""
    given, sample_joint = [], tfvae.VAE.sample_joint

    def recorded(*args, **kwargs):
        given.append(sample_joint(*args, **kwargs))
        return given[-1]

    monkeypatch.setattr(tfvae.VAE, "sample_joint", recorded)
    return given


def test_the_bounds_enclose_log_p(inexact, joint_samples):
    gaps = []
    for num_steps in (1, 16):
        found = bidirectional_log_prob(
            inexact.vae,
            2000,
            num_steps=num_steps,
            num_chains=4,
            schedule="linear",
            chunk_size=ALL,
            seed=num_steps,
        )
        x = joint_samples[-1][0].numpy().reshape(-1, linear_vae.D)
        log_p = inexact.model.log_marginal(x.astype("float64"))
        below, above = log_p - found.lower.log_probs, found.upper.log_probs - log_p
        for difference in (below, above):
            mean, error = estimate(difference)
            assert mean > -4 * error
        # The weights of the reverse chains have the expectation 1/p(x), whatever their number.
        assert near(np.exp(-below), 1) and near(np.exp(-above), 1)
        assert found.gap == pytest.approx(np.mean(below + above))
        assert found.gap_standard_error == pytest.approx(estimate(below + above)[1])
        gaps.append((found.gap, found.gap_standard_error))
        assert found.lower.events == found.upper.events == 2000
        # Chains from one exact draw are not independent, and their spread tells no error.
        assert math.isnan(found.upper.monte_carlo_error) and found.lower.monte_carlo_error > 0
        assert found.as_dict()["gap"] == found.gap
    (wide, error), (narrow, its_error) = gaps
    assert wide - narrow > 4 * math.hypot(error, its_error)
    assert narrow < wide / 5


@pytest.mark.exhaustive
def test_the_exact_posterior_leaves_no_gap_and_progress_is_shown_when_asked_for(exact, capsys):
    found = bidirectional_log_prob(exact.vae, 50, num_steps=7, num_chains=1)
    # Each is a difference of terms of some 10 nats.
    np.testing.assert_allclose(found.lower.log_probs, found.upper.log_probs, atol=100 * EPS)
    assert capsys.readouterr().err == ""
    data = batches(exact.x)
    found = annealed_log_prob(exact.vae, data, num_steps=7, num_chains=1, progress=True)
    np.testing.assert_allclose(found.log_probs, exact.log_p, atol=100 * EPS)
    written = capsys.readouterr()
    assert written.out == "" and "100%" in written.err


# --- models that are not linear -------------------------------------------------------------------


def bernoulli_vae(encoder_outputs, decoder):
    """A model of images of `decoder` of one z, with one q(z|x) for all: its mean, log-variance."""
    image = keras.Input(decoder.output_shape[1:])
    flat = keras.layers.Flatten()(image)
    heads = [keras.layers.Dense(1, kernel_initializer="zeros") for _ in encoder_outputs]
    encoder = keras.Model(image, [head(flat) for head in heads])
    for head, value in zip(heads, encoder_outputs, strict=True):
        head.bias.assign([value])
    likelihood = tfvae.likelihoods.Bernoulli(decoder_output="parameters")
    return tfvae.VAE(encoder, decoder, 1, likelihood=likelihood, seed=0)


def by_quadrature(vae, x, points):
    """log p(x) in float64 by the trapezoidal rule, whose error here falls as a Gaussian's tails."""
    z, width = np.linspace(-9, 9, points, retstep=True)
    hidden = z[:, None]
    for layer in vae.decoder.layers:
        if layer.weights:
            kernel, bias = (value.astype("float64") for value in layer.get_weights())
            hidden = hidden @ kernel + bias
            hidden = np.tanh(hidden) if layer.activation is keras.activations.tanh else hidden
        elif layer.name == "square":
            hidden = hidden**2
    log_prior = stats.norm.logpdf(z) + np.log(width)
    flat = x.reshape(len(x), -1)
    log_likelihoods = (analytic.bernoulli_log_prob(one, hidden).sum(axis=-1) for one in flat)
    return np.array([special.logsumexp(log_prior + value) for value in log_likelihoods])


@pytest.fixture(scope="module")
def nonlinear():
    rng = np.random.default_rng(5)
    z = keras.Input((1,))
    hidden, logits = keras.layers.Dense(6, activation="tanh"), keras.layers.Dense(6)
    decoder = keras.Model(z, keras.layers.Reshape((3, 2, 1))(logits(hidden(z))))
    for layer in (hidden, logits):
        layer.set_weights([rng.normal(size=weight.shape) for weight in layer.weights])
    # Wider than the prior: weights are bounded, and their spread tells their error.
    vae = bernoulli_vae((0.2, np.log(1.2)), decoder)
    every = np.array(np.meshgrid(*[[0, 1]] * 6)).reshape(6, -1).T.reshape(-1, 3, 2, 1)
    log_p = by_quadrature(vae, every, 2001)
    # The quadrature itself: all images together have the probability 1, and half the points do.
    np.testing.assert_allclose(special.logsumexp(log_p), 0, atol=1e-8)
    np.testing.assert_allclose(by_quadrature(vae, every, 1000), log_p, atol=1e-6)
    chosen = rng.choice(len(every), 4, replace=False, p=np.exp(log_p))
    return Case(vae, every[chosen].astype("float32"), log_p[chosen])


def test_annealing_agrees_with_quadrature(nonlinear):
    found = annealed_log_prob(
        nonlinear.vae, batches(nonlinear.x), num_steps=40, num_chains=500, chunk_size=ALL
    )
    assert abs(found.log_prob - nonlinear.log_p.mean()) < 4 * found.monte_carlo_error
    assert found.monte_carlo_error < 0.02
    assert found.warnings == ()


def test_importance_sampling_agrees_with_quadrature(nonlinear):
    found = evaluation.log_prob(
        nonlinear.vae, batches(nonlinear.x), num_samples=100_000, chunk_size=2**16
    )
    # As many draws as an error of 1.5e-3 takes, and within four of the error that there is.
    assert found.monte_carlo_error < 1.5e-3
    assert abs(found.log_prob - nonlinear.log_p.mean()) < 4 * found.monte_carlo_error


@pytest.mark.exhaustive
def test_annealing_finds_the_mode_that_q_misses():
    z = keras.Input((1,))
    square = keras.layers.Lambda(keras.ops.square, name="square")
    logits = keras.layers.Dense(16)
    decoder = keras.Model(z, keras.layers.Reshape((4, 4, 1))(logits(square(z))))
    # Pixels come on one after the other as |z| grows.
    logits.set_weights([np.full((1, 16), 2.0), -2 * np.linspace(0.2, 3, 16) ** 2])
    x = np.zeros((1, 16), "float32")
    x[:, :8] = 1
    x = x.reshape(1, 4, 4, 1)
    # p(z|x) has modes at −1.57 and 1.57, 0.17 wide. q sits on one of them.
    vae = bernoulli_vae((1.57, np.log(0.2**2)), decoder)
    (log_p,) = by_quadrature(vae, x, 4001)

    low = evaluation.log_prob(vae, batches(x), num_samples=5000)
    assert abs(low.log_prob - (log_p - math.log(2))) < 4 * low.monte_carlo_error
    assert low.monte_carlo_error < 0.02 and low.warnings == ()
    assert low.effective_sample_size > 0.5 * low.num_samples
    from_prior = annealed_log_prob(
        vae, batches(x), initial="prior", num_steps=50, num_chains=1000, chunk_size=ALL
    )
    assert abs(from_prior.log_prob - log_p) < 4 * from_prior.monte_carlo_error
    assert from_prior.monte_carlo_error < 0.05


# --- transitions ----------------------------------------------------------------------------------


@pytest.mark.parametrize("beta", [0.2, 1.0])
def test_a_transition_leaves_its_density_as_it_is(inexact, beta):
    model, (x, *_) = inexact.model, inexact.x.reshape(-1, linear_vae.D).astype("float64")
    precision = np.eye(2) + beta * model.weights.T @ model.weights / model.sigma**2
    covariance = np.linalg.inv(precision)
    mean = covariance @ model.weights.T @ (x - model.offset) * beta / model.sigma**2
    rng = np.random.default_rng(1)
    z = rng.multivariate_normal(mean, covariance, 50_000)[:, None]

    def point(z):
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(z)
            start = inexact.vae.prior.log_prob(z)
            end = start + inexact.vae.decode(z).log_prob(inexact.x[0])
        return chains.Point(z, start, end, tape.gradient(start, z), tape.gradient(end, z))

    before = point(tf.constant(z, tf.float32))
    # So long steps that many proposals are rejected; they must be, in the right places.
    steps = tf.constant(1.7 * np.sqrt(np.diag(covariance))[None], tf.float32)
    after, probability = chains.transition(point, before, beta, steps, 3, [1, 2])
    assert 0.3 < np.mean(probability) < 0.95
    moved = np.any(after.z != before.z, axis=-1)
    assert near(moved - np.asarray(probability, np.float64), 0)
    ends = after.z.numpy()[:, 0].astype("float64") - mean
    for i, j in [(0, 0), (0, 1), (1, 1)]:
        assert near(ends[:, i], 0) and near(ends[:, i] * ends[:, j], covariance[i, j])
    # What it carries along belongs to where it is now.
    for carried, evaluated in zip(after, point(after.z), strict=True):
        np.testing.assert_allclose(carried, evaluated, rtol=1e-5, atol=1e-5)


@pytest.fixture
def walks(monkeypatch):
    """Of each walk the starts, the step sizes given (None for a pilot's), and those used."""
    found, walk_along = [], chains.Chains._walk_along

    def recorded(self, group, z, betas, log_steps, purpose, *rest):
        result = walk_along(self, group, z, betas, log_steps, purpose, *rest)
        found.append((z.numpy(), log_steps, result[2], purpose))
        return result

    monkeypatch.setattr(chains.Chains, "_walk_along", recorded)
    return found


@pytest.mark.exhaustive
def test_the_pilot_adapts_and_the_run_does_not(inexact, walks):
    data, _ = inexact.repeated(20)
    options = {"num_steps": 60, "num_chains": 4, "chunk_size": ALL, "initial": "prior"}
    first, again = (annealed_log_prob(inexact.vae, data, seed=1, **options) for _ in range(2))
    np.testing.assert_array_equal(first.log_probs, again.log_probs)
    other = annealed_log_prob(inexact.vae, data, seed=2, **options)
    assert not np.any(first.log_probs == other.log_probs)

    (starts, given, adapted, purpose), (its_starts, its_given, used, its_purpose) = walks[:2]
    assert given is None and its_given.shape == (59, 100)
    np.testing.assert_allclose(its_given, adapted[-59:])
    np.testing.assert_allclose(used, its_given)
    assert np.all(np.std(used, axis=0) > 0) and np.all(np.std(used, axis=1) > 0)
    # Step sizes must not depend on the draws that they are used with, also where there are as many
    # chains in the run as in the pilot.
    assert purpose != its_purpose and starts.shape == its_starts.shape
    assert not np.any(starts == its_starts)
    # The pilot follows the best step size with a delay, so that it is not met exactly.
    assert first.acceptance == pytest.approx(chains._TARGET_ACCEPTANCE, abs=0.03)


def test_the_way_back_has_the_way_there_reversed(inexact, walks):
    bidirectional_log_prob(inexact.vae, 6, num_steps=9, num_chains=2)
    (_, _, adapted, pilot), (_, up, _, forward), (starts, down, _, reverse) = walks
    np.testing.assert_array_equal(up, adapted[-8:])
    np.testing.assert_array_equal(down, up[::-1])
    np.testing.assert_array_equal(starts[0], starts[1])
    assert len({pilot, forward, reverse}) == 3


# --- conditional models, and other families -------------------------------------------------------


@pytest.mark.exhaustive
def test_log_p_given_labels(rng, joint_samples):
    prior_loc = rng.normal(size=(conditional_vae.CLASSES, conditional_vae.LATENT))
    base, offsets, marginals = conditional_vae.linear_models(rng, prior_loc)
    vae = conditional_vae.exact_conditional_vae(base, offsets, prior_loc, "class_normal")

    def log_p_of(x, y):
        pairs = zip(np.reshape(x, (-1, linear_vae.D)).astype("float64"), y, strict=True)
        return np.array([marginals[label].log_marginal(one) for one, label in pairs])

    y = np.arange(12) % conditional_vae.CLASSES
    x = as_images(np.stack([linear_vae.points(marginals[label], rng, 1)[0] for label in y]))
    # In groups of 3 images and fewer, each with its labels.
    options = {"num_steps": 40, "initial": "prior", "num_chains": 100, "chunk_size": 300}
    found = annealed_log_prob(vae, batches(x, y, size=5), **options)
    assert found.events == 12
    assert abs(found.log_prob - log_p_of(x, y).mean()) < 4 * found.monte_carlo_error
    assert found.monte_carlo_error < 0.03

    labels = np.arange(300) % conditional_vae.CLASSES
    options = options | {"num_chains": 4, "chunk_size": ALL}
    found = bidirectional_log_prob(vae, 300, label=labels, **options)
    log_p = log_p_of(joint_samples[-1][0], labels)
    assert near(np.exp(found.lower.log_probs - log_p), 1)
    assert near(np.exp(log_p - found.upper.log_probs), 1)


@pytest.mark.exhaustive
def test_other_families(rng):
    vae = tfvae.VAE.for_events(
        (12,),
        latent_dim=2,
        network="dense:hidden=8",
        posterior="coupling:flows=1,hidden=8",
        prior="realnvp:flows=1,hidden=8",
        likelihood="discretized_logistic:levels=17",
        seed=0,
    )
    x = rng.integers(0, 17, (8, 12)).astype("float32") / 16
    drawn = evaluation.log_prob(vae, batches(x), num_samples=5000)
    found = annealed_log_prob(vae, batches(x), num_steps=20, num_chains=40)
    error = math.hypot(drawn.monte_carlo_error, found.monte_carlo_error)
    assert abs(found.log_prob - drawn.log_prob) < 4 * error
    assert error < 0.3


# --- progress, interrupts and mistakes ------------------------------------------------------------


def interrupted(x, after):
    """Batches of one image, and Ctrl-C after some of them."""
    for place, image in enumerate(x):
        if place == after:
            raise KeyboardInterrupt
        yield image[None]


@pytest.mark.exhaustive
def test_an_interrupt_leaves_what_there_is(exact):
    options = {"num_steps": 2, "num_chains": 2}
    found = annealed_log_prob(exact.vae, interrupted(exact.x, 2), keep_partial=True, **options)
    assert not found.complete and found.events == 2
    np.testing.assert_allclose(found.log_probs, exact.log_p[:2], atol=100 * EPS)
    assert found.as_dict()["complete"] is False
    with pytest.raises(KeyboardInterrupt):
        annealed_log_prob(exact.vae, interrupted(exact.x, 0), keep_partial=True, **options)


@pytest.mark.exhaustive
def test_an_interrupt_leaves_both_bounds(exact, monkeypatch):
    pilot = chains.Chains.pilot

    def interrupt(self, group, *args):
        if group.number == last:
            raise KeyboardInterrupt
        return pilot(self, group, *args)

    monkeypatch.setattr(chains.Chains, "pilot", interrupt)
    options = {"num_steps": 2, "num_chains": 2, "chunk_size": 4}
    last = 2
    found = bidirectional_log_prob(exact.vae, 9, keep_partial=True, **options)
    for bound in (found.lower, found.upper):
        assert not bound.complete and bound.events == 4
    last = 0
    with pytest.raises(KeyboardInterrupt):
        bidirectional_log_prob(exact.vae, 9, **options)


def test_a_warning_where_one_chain_has_all_the_weight():
    log_probs, effective = np.zeros(3), np.array([1.0, 1.2, 4.0])
    poor = evaluation.AnnealedEstimate(log_probs, effective, 8, 0.8)
    assert "one of the 8 chains" in poor.warnings[0] and "\n" not in poor.warnings[0]
    assert evaluation.AnnealedEstimate(log_probs, effective + 1, 8, 0.8).warnings == ()
    alone = evaluation.AnnealedEstimate(log_probs, np.ones(3), 1, 0.8)
    assert alone.warnings == () and math.isnan(alone.monte_carlo_error)


def both(vae, data, **options):
    """Both estimators, as functions without arguments."""
    yield lambda: annealed_log_prob(vae, data, **options)
    yield lambda: bidirectional_log_prob(vae, 2, **options)


def refused(function, message):
    with pytest.raises(tfvae.InputError, match=message) as caught:
        function()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"schedule": "cosine"}, "schedule is linear, sigmoid or a list of numbers; .*'cosine'"),
        ({"schedule": [0, 0.5, 0.5, 1]}, "rise"),
        ({"schedule": [0, 0.7, 0.5, 1]}, "rise"),
        ({"schedule": [0, math.nan, 1]}, "rise"),
        ({"schedule": [0.1, 1]}, "from 0 to 1, both included"),
        ({"schedule": [0, 0.9]}, "from 0 to 1, both included"),
        ({"schedule": [0]}, "from 0 to 1, both included"),
        ({"schedule": []}, "from 0 to 1, both included"),
        ({"schedule": [[0, 1]]}, "from 0 to 1, both included"),
        ({"schedule": None}, "from 0 to 1, both included"),
        ({"schedule": ["low", "high"]}, "from 0 to 1, both included"),
        ({"schedule": [[0], [0, 1]]}, "from 0 to 1, both included"),
        ({"num_steps": 0}, "num_steps is a whole number from 1; received 0"),
        ({"num_steps": 2.5}, "num_steps is a whole number from 1"),
        ({"num_chains": 0}, "num_chains is a whole number from 1; received 0"),
        ({"leapfrog_steps": 0}, "leapfrog_steps is a whole number from 1; received 0"),
        ({"chunk_size": 0}, "chunk_size is a whole number from 1; received 0"),
        ({"seed": -1}, "seed is a whole number from 0; received -1"),
        ({"initial": "q"}, "initial is 'posterior' or 'prior'; received 'q'"),
    ],
)
def test_arguments_that_do_not_fit(inexact, options, message):
    for function in both(inexact.vae, batches(inexact.x), **options):
        refused(function, message)


def test_what_has_no_log_p_is_refused(inexact):
    autoencoder = tfvae.Autoencoder.for_images((4, 4, 1), latent_dim=2, network="dense")
    unbuilt = tfvae.VAE(keras.Sequential([keras.layers.Flatten()]), keras.Sequential(), 2)
    atoms = (
        tfvae.VAE(inexact.vae.encoder, inexact.vae.decoder, 2, posterior=Atom(silent))
        for silent in (True, False)
    )
    messages = ("received a Autoencoder", "event shape", *["NoDensity|VectorDeterministic"] * 2)
    for vae, message in zip((autoencoder, unbuilt, *atoms), messages, strict=True):
        for function in both(vae, batches(inexact.x)):
            refused(function, message)
    refused(
        lambda: evaluation.log_prob(vae, batches(inexact.x)), "needs a posterior with a density"
    )


def test_images_that_do_not_fit():
    vae = tfvae.VAE.for_images((4, 4, 1), latent_dim=2, network="dense", seed=0)
    x = np.zeros((3, 4, 4, 1), "float32")
    refused(lambda: annealed_log_prob(vae, batches(x).take(0)), "the data set is empty")
    refused(lambda: annealed_log_prob(vae, batches(x[:, :3])), "expected images")
    refused(lambda: annealed_log_prob(vae, batches(x + 7)), "Bernoulli expects values")
    refused(lambda: bidirectional_log_prob(vae, 0), "num_events is a whole number from 1")
