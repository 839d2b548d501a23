import math

import conditional_vae
import linear_vae
import numpy as np
import pytest
import tensorflow as tf

import tfvae
from tfvae import evaluation

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
    estimate = evaluation.elbo(vae, batches(x, 50), num_samples=4, seed=3)
    elbo, log_likelihood, kl = vae.elbo(x, num_samples=4, seed=[3, 0])
    assert estimate.images == 50
    assert estimate.elbo == pytest.approx(np.mean(elbo), rel=1e-5)
    assert estimate.log_likelihood == pytest.approx(np.mean(log_likelihood), rel=1e-5)
    assert estimate.kl == pytest.approx(np.mean(kl), rel=1e-5)
    assert estimate.standard_error == pytest.approx(np.std(elbo, ddof=1) / 50**0.5, rel=1e-3)
    assert estimate.elbo == pytest.approx(estimate.log_likelihood - estimate.kl, rel=1e-5)


def test_batches_of_any_size_estimate_the_same(vae, x):
    whole = evaluation.elbo(vae, batches(x, 50), num_samples=200)
    parts = evaluation.elbo(vae, batches(x, 7), num_samples=200)
    assert parts.kl == pytest.approx(whole.kl, rel=1e-5)
    # The noise of 50 x 200 draws, from the spread between draws of one image.
    draws = np.asarray(vae.terms(x, num_samples=200, seed=1).log_likelihood)
    error = np.sqrt(2 * np.mean(draws.var(axis=0)) / (50 * 200))
    assert abs(parts.log_likelihood - whole.log_likelihood) < 4 * error


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
        assert estimate.log_prob == pytest.approx(log_p.mean(), abs=1e-4)
        assert estimate.standard_error == pytest.approx(log_p.std(ddof=1) / 5, rel=1e-4)
        assert (estimate.images, estimate.num_samples) == (25, num_samples)
    for index in (0, 11, 24):
        estimate = evaluation.log_prob(vae, batches(x[index : index + 1], 1), num_samples=1)
        assert estimate.log_prob == pytest.approx(log_p[index], abs=1e-4)
        assert math.isnan(estimate.standard_error)


def test_draws_of_another_posterior_come_to_log_p(inexact):
    vae, x, log_p = inexact
    # 512 // 25 = 20 draws at a time; 300 times the same images, each time with other draws.
    count, repeats = 50, 300
    found = evaluation.log_prob(vae, batches(x, 25).repeat(repeats), num_samples=count)
    assert found.images == 25 * repeats
    weights = np.exp(vae.terms(x, num_samples=20_000, seed=1).log_weight - log_p)
    spread = np.mean(np.var(weights, axis=0))
    # The logarithm of a mean of K is low by half its variance, to leading order, and scatters by
    # as much. Were the chunks' draws the same, it would be low by those of 20 draws.
    bias, error = -0.5 * spread / count, (spread / count / (25 * repeats)) ** 0.5
    assert abs(found.log_prob - log_p.mean() - bias) < 4 * error
    assert 0.5 * spread / 20 + bias > 6 * error


def test_more_draws_raise_the_bound(inexact):
    vae, x, log_p = inexact
    one, many = (evaluation.log_prob(vae, batches(x, 25), num_samples=k) for k in (1, 2000))
    assert one.log_prob < many.log_prob - 0.05
    elbo = evaluation.elbo(vae, batches(x, 25), num_samples=2000)
    assert elbo.elbo < many.log_prob - 0.05
    assert many.log_prob == pytest.approx(log_p.mean(), abs=0.02)


@pytest.mark.parametrize(
    ("size", "num_samples", "expected"),
    [
        (25, 20, [20]),  # one chunk
        (25, 21, [20, 1]),
        (25, 47, [20, 20, 7]),
        (10, 51, [51]),
        (10, 103, [51, 51, 1]),
    ],
)
def test_draws_are_counted_exactly(exact, monkeypatch, size, num_samples, expected):
    vae, x, log_p = exact
    terms, drawn = vae.terms, []

    def counted(*args, num_samples, seed):
        drawn.append(num_samples)
        return terms(*args, num_samples=num_samples, seed=seed)

    monkeypatch.setattr(vae, "terms", counted)
    monkeypatch.setattr(tf, "function", lambda **_: lambda function: function)
    estimate = evaluation.log_prob(vae, batches(x[:size], size), num_samples=num_samples)
    # 512 // size draws at a time, and what is left over at the end.
    assert drawn == expected
    # A draw more or less would show as log(K ± 1)/K.
    assert estimate.log_prob == pytest.approx(log_p[:size].mean(), abs=1e-4)


def test_seeds_decide_the_draws(inexact):
    vae, x, _ = inexact
    first, again, other = (
        evaluation.log_prob(vae, batches(x, 10), num_samples=60, seed=seed) for seed in (1, 1, 2)
    )
    assert first == again
    assert first.log_prob != other.log_prob


def test_log_p_given_labels(rng):
    prior_loc = rng.normal(size=(conditional_vae.CLASSES, conditional_vae.LATENT))
    base, offsets, marginals = conditional_vae.linear_models(rng, prior_loc)
    vae = conditional_vae.exact_conditional_vae(base, offsets, prior_loc, "class_normal")
    y = np.arange(12) % conditional_vae.CLASSES
    x = np.stack([linear_vae.points(marginals[label], rng, 1)[0] for label in y])
    pairs = zip(x, y, strict=True)
    log_p = np.mean([marginals[label].log_marginal(one) for one, label in pairs])
    x = linear_vae.as_images(x)
    for labels in (y, y[:, None], y.astype("uint8")):
        estimate = evaluation.log_prob(vae, labelled(x, labels, 5), num_samples=3)
        assert estimate.log_prob == pytest.approx(log_p, abs=1e-4)
    by_elbo = evaluation.elbo(vae, labelled(x, y, 5), num_samples=4)
    direct = [vae.elbo(x[i : i + 5], y[i : i + 5], num_samples=4, seed=[0, i // 5]).elbo
              for i in (0, 5, 10)]  # fmt: skip
    assert by_elbo.elbo == pytest.approx(np.mean(np.concatenate(direct)), rel=1e-5)
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
    assert estimate.bits_per_dimension == pytest.approx(expected)
    assert 0.5 < estimate.bits_per_dimension < 2


@pytest.mark.parametrize("num_samples", [0, -1, 2.5, True, "ten"])
def test_numbers_of_draws_that_cannot_be(vae, x, num_samples):
    message = f"num_samples is a whole number from 1; received {num_samples!r}"
    for estimator in (evaluation.log_prob, evaluation.elbo):
        with pytest.raises(tfvae.InputError, match=message):
            estimator(vae, batches(x, 10), num_samples=num_samples)


def test_log_p_of_what_cannot_be_evaluated_is_refused(vae, x):
    with pytest.raises(tfvae.InputError, match="the data set is empty"):
        evaluation.log_prob(vae, batches(x, 10).take(0))
    with pytest.raises(tfvae.InputError, match="Bernoulli expects values"):
        evaluation.log_prob(vae, batches(x * 255, 10))
    with pytest.raises(tfvae.InputError, match="expected images"):
        evaluation.log_prob(vae, batches(x[:, :4], 10))
