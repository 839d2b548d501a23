import json
import math
import os
import signal
import threading

import components
import conditional_vae
import linear_vae
import numpy as np
import pytest
import tensorflow as tf
from components import POSTERIORS, SLOW_CASES, batch, model
from scipy import special
from without_density import Atom

import tfvae
from tfvae import evaluation
from tfvae.evaluation.batches import Progress

SHAPE = (6, 5, 1)


@pytest.fixture
def vae():
    return tfvae.VAE.for_images(SHAPE, latent_dim=2, network="dense", seed=0)


@pytest.fixture
def x(rng):
    return (rng.random((50, *SHAPE)) < 0.3).astype("float32")


def batches(x, size):
    return tf.data.Dataset.from_tensor_slices((x, np.zeros(len(x)))).batch(size)


def test_the_mean_and_its_standard_error_are_over_images(vae, x):
    found = evaluation.log_prob(vae, batches(x, 50), num_samples=4, seed=3)
    estimate = evaluation.elbo(vae, batches(x, 50), num_samples=4, seed=3)
    assert estimate == found.elbo
    elbos = found.log_likelihoods - found.kls
    assert (estimate.events, len(elbos)) == (50, 50)
    assert estimate.elbo == pytest.approx(elbos.mean())
    assert estimate.log_likelihood == pytest.approx(found.log_likelihoods.mean())
    assert estimate.kl == pytest.approx(found.kls.mean())
    assert estimate.standard_error == pytest.approx(np.std(elbos, ddof=1) / 50**0.5)
    np.testing.assert_allclose(found.kls, vae.elbo(x, seed=1).kl, rtol=1e-5)


def test_the_log_likelihood_is_that_of_other_draws_within_their_noise(vae, x):
    found = evaluation.log_prob(vae, batches(x, 50), num_samples=300)
    draws = np.asarray(vae.terms(x, num_samples=300, seed=1).log_likelihood, "float64")
    difference = found.log_likelihoods - draws.mean(axis=0)
    error = np.sqrt(2 * draws.var(axis=0) / 300)
    assert abs(np.mean(difference / error)) < 4 / 50**0.5
    assert np.max(np.abs(difference / error)) < 5


def test_a_single_image_has_no_standard_error(vae, x):
    assert np.isnan(evaluation.elbo(vae, batches(x[:1], 1)).standard_error)


def test_what_cannot_be_evaluated_is_refused(vae, x):
    with pytest.raises(tfvae.InputError, match="the data set is empty"):
        evaluation.elbo(vae, batches(x, 10).take(0))
    with pytest.raises(tfvae.InputError, match="Bernoulli expects values"):
        evaluation.elbo(vae, batches(x * 255, 10))
    with pytest.raises(tfvae.InputError, match="expected images"):
        evaluation.elbo(vae, batches(x[:, :4], 10))


# --- log p(x) -------------------------------------------------------------------------------------


def labelled(x, y, size):
    return tf.data.Dataset.from_tensor_slices((x, y)).batch(size)


@pytest.fixture
def exact(rng):
    """A model with its exact posterior, images, and log p(x) of each."""
    model = linear_vae.linear_gaussian(rng, orthogonal=True)
    x = linear_vae.points(model, rng, 25)
    return linear_vae.exact_vae(model), linear_vae.as_images(x), model.log_marginal(x)


@pytest.fixture
def inexact(rng):
    """A model whose q(z|x) is a little wide and off, images, and log p(x) of each."""
    model = linear_vae.linear_gaussian(rng, orthogonal=True)
    x = linear_vae.points(model, rng, 25)
    gain, variance = model.posterior_weights(), np.diag(model.posterior_covariance())
    shift = 0.3 - gain @ model.offset
    vae = linear_vae.linear_vae(model, gain, shift, 1.5 * variance)
    return vae, linear_vae.as_images(x), model.log_marginal(x)


def test_the_exact_posterior_gives_log_p_with_any_draws(exact):
    vae, x, log_p = exact
    for num_samples in (1, 700):
        estimate = evaluation.log_prob(vae, batches(x, 10), num_samples=num_samples)
        # No variance over draws: only the rounding of terms of this size.
        np.testing.assert_allclose(estimate.log_probs, log_p, rtol=0, atol=1e-4)
        assert estimate.standard_error == pytest.approx(log_p.std(ddof=1) / 5, rel=1e-4)
        assert (estimate.events, estimate.num_samples) == (25, num_samples)
    estimate = evaluation.log_prob(vae, batches(x[11:12], 1), num_samples=1)
    assert estimate.log_prob == pytest.approx(log_p[11], abs=1e-4)
    assert math.isnan(estimate.standard_error)
    assert math.isnan(estimate.monte_carlo_error)


@pytest.mark.exhaustive
def test_the_bias_is_half_the_relative_variance(inexact):
    vae, x, log_p = inexact
    # 100 times the same images, each time with other draws.
    count, repeats = 50, 100
    found = evaluation.log_prob(vae, batches(x, 25).repeat(repeats), num_samples=count)
    assert found.events == 25 * repeats
    weights = np.exp(vae.terms(x, num_samples=20_000, seed=1).log_weight - log_p)
    spread = np.mean(np.var(weights, axis=0))
    # The logarithm of a mean of K is low by half its variance, to leading order, and scatters by
    # as much. Were the draws of repetitions the same, it would scatter by more.
    bias, error = -0.5 * spread / count, (spread / count / (25 * repeats)) ** 0.5
    assert abs(found.log_prob - log_p.mean() - bias) < 4 * error
    assert found.monte_carlo_error == pytest.approx(error, rel=0.1)


def test_the_interval_of_the_draws_covers_log_p(inexact):
    vae, x, log_p = inexact
    repeats, images, count = 100, 5, 400
    # One pass over the same five images a hundred times: each time an estimate of its own.
    found = evaluation.log_prob(vae, batches(x[:images], images).repeat(repeats), num_samples=count)
    covered = 0
    for start in range(0, repeats * images, images):
        rows = slice(start, start + images)
        one = evaluation.WeightedEstimate(
            found.log_probs[rows], found.effective_sample_sizes[rows], count
        )
        distance = abs(one.log_prob - log_p[:images].mean())
        covered += distance < 1.96 * one.monte_carlo_error
    # 95 of 100, give or take 2.2; four times that.
    assert covered >= 86


def test_the_standard_error_covers_the_mean_over_all_images(rng):
    model = linear_vae.linear_gaussian(rng, orthogonal=True)
    vae = linear_vae.exact_vae(model)
    # E[log p(x)] over x from the model, the negative entropy of N(b, W Wᵀ + σ² I).
    covariance = model.weights @ model.weights.T + model.sigma**2 * np.eye(linear_vae.D)
    truth = -0.5 * np.linalg.slogdet(2 * np.pi * np.e * covariance)[1]
    repeats, images = 100, 60
    x = linear_vae.as_images(linear_vae.points(model, rng, repeats * images))
    values = evaluation.log_prob(vae, batches(x, 500), num_samples=1).log_probs
    estimates = [
        evaluation.WeightedEstimate(part, np.ones(images), 1)
        for part in values.reshape(repeats, images)
    ]
    covered = sum(abs(one.log_prob - truth) < 2.0 * one.standard_error for one in estimates)
    assert covered >= 86  # of 95, as before


def test_more_draws_raise_the_bound(inexact):
    vae, x, log_p = inexact
    one, many = (evaluation.log_prob(vae, batches(x, 25), num_samples=k) for k in (1, 2000))
    assert one.log_prob < many.log_prob - 0.05
    assert many.elbo.elbo < many.log_prob - 0.05
    assert abs(many.log_prob - log_p.mean()) < 4 * many.monte_carlo_error


@pytest.mark.parametrize("num_samples", [37, 4097])
def test_draws_are_counted_exactly(exact, num_samples):
    vae, x, log_p = exact
    estimate = evaluation.log_prob(vae, batches(x[:3], 3), num_samples=num_samples)
    # Every weight is p(x): a draw more or less would show as log((K ± 1)/K), 2.4e-4 of 4,097.
    np.testing.assert_allclose(estimate.log_probs, log_p[:3], rtol=0, atol=3e-5)
    np.testing.assert_allclose(estimate.effective_sample_sizes, num_samples, rtol=1e-4)


def test_chunks_and_batches_do_not_matter(inexact):
    vae, x, _ = inexact
    options = {"num_samples": 4100, "seed": 4}
    whole = evaluation.log_prob(vae, batches(x[:6], 6), **options)
    # A log-weight of |log p(x)| <= 20 nats is rounded to 2e-6; sums of weights to less.
    for size, chunk in ((4, 13), (1, 10**6)):
        other = evaluation.log_prob(vae, batches(x[:6], size), chunk_size=chunk, **options)
        for name in ("log_probs", "log_likelihoods", "kls"):
            np.testing.assert_allclose(
                getattr(other, name), getattr(whole, name), rtol=3e-6, atol=1e-5
            )
        np.testing.assert_allclose(
            other.effective_sample_sizes, whole.effective_sample_sizes, rtol=1e-4
        )


@pytest.mark.exhaustive
def test_a_network_of_convolutions_is_as_independent_of_chunks(rng):
    vae = tfvae.VAE.for_images(
        (8, 8, 1),
        latent_dim=3,
        network="conv:filters=4,hidden=8",
        posterior="coupling:flows=1,hidden=8",
        prior="maf:flows=1,hidden=8",
        seed=0,
    )
    x = (rng.random((5, 8, 8, 1)) < 0.5).astype("float32")
    whole, parts = (
        evaluation.log_prob(vae, batches(x, size), num_samples=30, chunk_size=chunk)
        for size, chunk in ((5, 512), (2, 7))
    )
    np.testing.assert_allclose(parts.log_probs, whole.log_probs, rtol=1e-5)
    np.testing.assert_allclose(parts.kls, whole.kls, rtol=1e-4)


# Each posterior once; of classes a sum over all is exact: tests/test_relaxed_categorical.py.
@pytest.mark.few(1)
@pytest.mark.parametrize("case", SLOW_CASES[: len(POSTERIORS)], ids=str)
def test_every_posterior_agrees_with_quadrature(case):
    case = components.Case(*case[:3])
    vae = model(case)
    x, label = batch(vae, case)
    # Untrained, q(z|x) misses a sharp p(z|x), and the spread of weights does not tell; less so
    # where z says little of x, and x little of z.
    for weight in vae.encoder.weights + vae.decoder.weights:
        weight.assign(0.1 * weight)
    axis, width = np.linspace(-8, 8, 161, dtype="float32", retstep=True)
    z = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 1, 2)
    cell = 2 * np.log(width)
    log_prior = cell + np.asarray(vae.prior_of(label).log_prob(z), "float64")
    np.testing.assert_allclose(special.logsumexp(log_prior, axis=0), 0, atol=1e-4)
    z = np.broadcast_to(z, (len(z), len(x), 2))
    log_joint = log_prior + np.asarray(vae.decode(z, label).log_prob(x), "float64")
    log_p = special.logsumexp(log_joint, axis=0)

    data = [x if label is None else (x, label)]
    found = evaluation.log_prob(vae, data, num_samples=20_000, chunk_size=4096)
    assert found.monte_carlo_error < 0.02
    assert abs(found.log_prob - log_p.mean()) < 4 * found.monte_carlo_error


def test_a_block_of_draws_stays_the_same_when_more_follow(inexact):
    vae, x, _ = inexact
    some, more = (evaluation.log_prob(vae, batches(x, 25), num_samples=k) for k in (4096, 4097))
    # One draw more moves a mean of 4,096 by a 64th of its standard error, as a rule.
    assert abs(more.log_prob - some.log_prob) < 0.2 * some.monte_carlo_error
    other = evaluation.log_prob(vae, batches(x, 25), num_samples=4097, seed=1)
    assert abs(other.log_prob - some.log_prob) > 0.2 * some.monte_carlo_error


@pytest.mark.exhaustive
def test_each_block_has_other_draws(inexact):
    vae, x, log_p = inexact
    x = x[:2]
    one, two = (evaluation.log_prob(vae, batches(x, 2), num_samples=k) for k in (4096, 8192))
    # The same 4,096 draws twice would have the same mean.
    assert (abs(one.log_probs - two.log_probs) > 1e-5).all()
    # Many blocks scatter as independent draws do.
    many = evaluation.log_prob(vae, batches(x, 2), num_samples=200_000, seed=5)
    assert abs(many.log_prob - log_p[:2].mean()) < 4 * many.monte_carlo_error


def test_one_graph_does_for_every_block(vae, x, monkeypatch):
    traced, log_likelihood = [], vae.log_likelihood
    monkeypatch.setattr(
        vae, "log_likelihood", lambda x, z, label: traced.append(z) or log_likelihood(x, z, label)
    )
    evaluation.log_prob(vae, batches(x[:3], 2), num_samples=4100)
    # Blocks of 4,096 and of 4, of each of three images.
    assert len(traced) == 1


def test_the_end_waits_for_no_autotuning(vae, x, monkeypatch):
    # Whether it does is a matter of luck and of seconds, so that only the option is looked at.
    enabled, iterate = [], tf.data.Dataset.__iter__
    monkeypatch.setattr(
        tf.data.Dataset,
        "__iter__",
        lambda data: enabled.append(data.options().autotune.enabled) or iterate(data),
    )
    evaluation.log_prob(vae, batches(x, 10), num_samples=1)
    assert enabled == [False]


@pytest.mark.exhaustive
def test_seeds_decide_the_draws(inexact):
    vae, x, _ = inexact
    x = np.concatenate([x, x[:1]])
    first, again, other = (
        evaluation.log_prob(vae, batches(x, 10), num_samples=60, seed=seed) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first.log_probs, again.log_probs)
    assert (first.log_probs != other.log_probs).all()
    # Each image has draws of its own.
    assert first.log_probs[0] != first.log_probs[-1]


def test_few_effective_draws_are_told(exact):
    vae, x, _ = exact
    few = evaluation.log_prob(vae, batches(x, 25), num_samples=9)
    assert few.low_effective == 1
    (warning,) = few.warnings
    assert "fewer than 10 effective draws for 100% of the events (median 9.0 of 9)" in warning
    enough = evaluation.log_prob(vae, batches(x, 25), num_samples=11)
    assert (enough.low_effective, enough.warnings) == (0, ())
    facts = json.loads(json.dumps(enough.as_dict()))
    assert facts["log_prob"] == enough.log_prob
    assert facts["effective_sample_size"] == pytest.approx(11, rel=1e-4)


def interrupted(x, size, after):
    """Batches that are interrupted after so many, as Ctrl-C would."""
    for number, some in enumerate(batches(x, size)):
        if number == after:
            raise KeyboardInterrupt
        yield some


def test_ctrl_c_waits_for_a_safe_place():
    own = signal.getsignal(signal.SIGINT)
    after = []
    with pytest.raises(KeyboardInterrupt), Progress([1, 2], False) as bar:
        bar.advance(0)
        os.kill(os.getpid(), signal.SIGINT)
        after.append("held back")
        bar.advance(0)
        after.append("never")
    assert after == ["held back"]
    assert signal.getsignal(signal.SIGINT) is own
    # The end is such a place, too; and whoever presses twice means it.
    with pytest.raises(KeyboardInterrupt), Progress([], False):
        os.kill(os.getpid(), signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), Progress([], False):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        after.append("never")
    assert after == ["held back"]
    with Progress([], False) as bar:
        bar.advance(0)
    assert signal.getsignal(signal.SIGINT) is own


def test_a_handler_of_the_users_own_stays():
    own, seen = signal.getsignal(signal.SIGINT), []
    signal.signal(signal.SIGINT, lambda *_: seen.append("theirs"))
    try:
        with Progress([], False) as bar:
            os.kill(os.getpid(), signal.SIGINT)
            bar.advance(0)
    finally:
        signal.signal(signal.SIGINT, own)
    assert seen == ["theirs"]


def test_other_threads_have_bars_as_well():
    failures = []

    def work():
        try:
            with Progress([], False) as bar:
                bar.advance(0)
        except ValueError as error:  # what signal.signal raises there
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert not failures


def test_an_interrupt_may_leave_the_images_so_far(vae, x):
    whole = evaluation.log_prob(vae, batches(x, 10), num_samples=3)
    with pytest.raises(KeyboardInterrupt):
        evaluation.log_prob(vae, interrupted(x, 10, 2), num_samples=3)
    with pytest.raises(KeyboardInterrupt):
        evaluation.log_prob(vae, interrupted(x, 10, 0), num_samples=3, keep_partial=True)
    part = evaluation.log_prob(vae, interrupted(x, 10, 2), num_samples=3, keep_partial=True)
    assert (part.events, part.complete, whole.complete) == (20, False, True)
    np.testing.assert_array_equal(part.log_probs, whole.log_probs[:20])


@pytest.mark.exhaustive
def test_log_p_given_labels(rng):
    prior_loc = rng.normal(size=(conditional_vae.CLASSES, conditional_vae.LATENT))
    base, offsets, marginals = conditional_vae.linear_models(rng, prior_loc)
    vae = conditional_vae.exact_conditional_vae(base, offsets, prior_loc, "class_normal")
    y = np.arange(12) % conditional_vae.CLASSES
    x = np.stack([linear_vae.points(marginals[label], rng, 1)[0] for label in y])
    pairs = zip(x, y, strict=True)
    log_p = np.mean([marginals[label].log_marginal(one) for one, label in pairs])
    x = linear_vae.as_images(x)
    estimate = evaluation.log_prob(vae, labelled(x, y[:, None], 5), num_samples=3)
    assert estimate.log_prob == pytest.approx(log_p, abs=1e-4)
    np.testing.assert_allclose(estimate.kls, vae.elbo(x, y, seed=1).kl, rtol=1e-5)
    for estimator in (evaluation.elbo, evaluation.log_prob):
        with pytest.raises(tfvae.InputError, match="needs labels, whole numbers from 0 to 2"):
            estimator(vae, tf.data.Dataset.from_tensor_slices(x).batch(5))
        with pytest.raises(tfvae.InputError, match=r"expected labels below 3, .* from 1 to 3"):
            estimator(vae, labelled(x, y + 1, 12))


def test_bits_per_dimension_by_hand():
    # A uniform choice of 256 levels for each of 2 x 3 x 3 values: 8 bits each.
    assert evaluation.bits_per_dimension(18 * np.log(256), (2, 3, 3)) == pytest.approx(8)
    assert evaluation.bits_per_dimension(0.0, (28, 28, 1)) == 0
    assert evaluation.bits_per_dimension(-np.log(2), (1, 1, 1)) == pytest.approx(-1)


def test_an_estimate_tells_its_bits_per_dimension(vae, x):
    estimate = evaluation.log_prob(vae, batches(x, 50), num_samples=10)
    expected = -estimate.log_prob / 30 / np.log(2)
    assert estimate.measure == "probability"
    assert estimate.bits_per_dimension == pytest.approx(expected)
    assert 0.5 < estimate.bits_per_dimension < 2


@pytest.mark.exhaustive
def test_what_is_no_probability_has_no_bits(vae, x):
    # One grey value among the images of a later batch is enough.
    x[-1, 0, 0, 0] = 0.5
    grey = evaluation.log_prob(vae, batches(x, 20), num_samples=2)
    assert (grey.measure, grey.bits_per_dimension) == ("cross-entropy", None)


def test_bits_of_dequantised_images_bound_those_of_their_levels(rng):
    # Levels drawn evenly, noise added: the density is 1 on [0, 1), and the bound is met.
    assert evaluation.bits_per_dimension(0.0, (4, 4, 1), levels=256) == 8
    levels = rng.integers(0, 4, (40, 4, 4, 1))
    x = ((levels + rng.random(levels.shape)) / 4).astype("float32")
    vae = tfvae.VAE.for_images((4, 4, 1), likelihood="normal:scale=0.3", network="dense", seed=0)
    found = evaluation.log_prob(vae, batches(x, 40), num_samples=50, levels=4)
    assert found.measure == "dequantized density"
    assert found.bits_per_dimension == pytest.approx(-found.log_prob / 16 / np.log(2) + 2)
    # No code of evenly drawn levels is shorter than log2 of their number.
    assert found.bits_per_dimension > 2


@pytest.mark.parametrize("num_samples", [0, -1, 2.5, True, "ten"])
def test_numbers_of_draws_that_cannot_be(vae, x, num_samples):
    message = f"num_samples is a whole number from 1; received {num_samples!r}"
    for estimator in (evaluation.log_prob, evaluation.elbo):
        with pytest.raises(tfvae.InputError, match=message):
            estimator(vae, batches(x, 10), num_samples=num_samples)


@pytest.mark.parametrize("silent", [True, False])
def test_a_posterior_without_a_density_is_refused(exact, silent):
    vae, x, _ = exact
    vae = tfvae.VAE(vae.encoder, vae.decoder, 2, posterior=Atom(silent), seed=0)
    with pytest.raises(tfvae.InputError, match=r"needs a posterior with a density; \w+ has none"):
        evaluation.log_prob(vae, batches(x, 10))


def test_what_is_no_vae_is_refused(x):
    autoencoder = tfvae.Autoencoder.for_images(SHAPE, latent_dim=2, network="dense", seed=0)
    with pytest.raises(tfvae.InputError, match=r"expected a VAE, .* received a Autoencoder"):
        evaluation.log_prob(autoencoder, batches(x, 10))


def test_log_p_of_what_cannot_be_evaluated_is_refused(vae, x):
    with pytest.raises(tfvae.InputError, match="the data set is empty"):
        evaluation.log_prob(vae, batches(x, 10).take(0))
    with pytest.raises(tfvae.InputError, match="Bernoulli expects values"):
        evaluation.log_prob(vae, batches(x * 255, 10))
    with pytest.raises(tfvae.InputError, match="expected images"):
        evaluation.log_prob(vae, batches(x[:, :4], 10))
