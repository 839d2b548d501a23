import json
import math

import conditional_vae
import keras
import linear_vae
import numpy as np
import pytest
import tensorflow as tf

import tfvae
from tfvae import plotting
from tfvae.evaluation import diagnose

SHAPE = (6, 5, 1)


def batches(x, size=64):
    return tf.data.Dataset.from_tensor_slices(x).batch(size)


@pytest.fixture(scope="module")
def linear():
    """The linear-Gaussian model with its exact posterior, and images drawn from it."""
    rng = np.random.default_rng(0)
    model = linear_vae.linear_gaussian(rng, orthogonal=True)
    return model, linear_vae.exact_vae(model), linear_vae.points(model, rng, 300)


@pytest.fixture(scope="module")
def diagnosed(linear):
    """What is found of it."""
    _, vae, x = linear
    return diagnose(vae, batches(linear_vae.as_images(x)), num_samples=16, seed=3)


def constant_vae(loc, log_var, **kwargs):
    """A model whose q(z|x) is loc + slope · (first pixel), exp(log_var), whatever the weights."""

    image = keras.Input(SHAPE)
    first = keras.layers.Flatten()(image)[:, :1]
    heads = []
    for name, (slope, offset) in (("loc", loc), ("log_var", ([0.0] * len(log_var), log_var))):
        layer = keras.layers.Dense(len(log_var), name=name)
        heads.append(layer(first))
        layer.set_weights([np.array([slope]), np.array(offset)])
    _, decoder = tfvae.networks.pair("dense", SHAPE, len(log_var), seed=0)
    likelihood = tfvae.likelihoods.Normal(decoder_output="features")
    encoder = keras.Model(image, heads)
    return tfvae.VAE(encoder, decoder, len(log_var), likelihood=likelihood, seed=0, **kwargs)


def images(rng, count=400):
    return rng.standard_normal((count, *SHAPE)).astype("float32")


# --- the figures ------------------------------------------------------------------------------


def test_rate_and_distortion_of_the_linear_model(linear, diagnosed):
    model, vae, x = linear
    found = diagnosed
    mean, variance = model.posterior_mean(x), np.diag(model.posterior_covariance())
    kl = 0.5 * (variance - 1 - np.log(variance) + mean**2)
    assert found.events == 300
    np.testing.assert_allclose(found.kl_per_dimension, kl.mean(axis=0), rtol=1e-5)
    assert found.rate == pytest.approx(kl.sum(axis=1).mean(), rel=1e-5)
    assert found.rate_standard_error == pytest.approx(
        kl.sum(axis=1).std(ddof=1) / 300**0.5, rel=1e-4
    )
    # Var[log p(x|z)] over z bounds what 16 draws of each of 300 images leave to chance.
    expected = -model.expected_log_likelihood(x, mean, variance)
    draws = np.asarray(vae.terms(linear_vae.as_images(x), num_samples=200, seed=5).log_likelihood)
    error = np.sqrt(draws.var(axis=0).mean() / (16 * 300))
    assert abs(found.distortion - expected.mean()) < 4 * error
    np.testing.assert_allclose(found.activity, mean.var(axis=0, ddof=1), rtol=1e-4)
    np.testing.assert_allclose(found.code_mean, mean.mean(axis=0), atol=0.05)


def test_mutual_information_of_the_linear_model(linear, diagnosed):
    _, vae, x = linear
    found = diagnosed
    # log q(z_n|x_n) − log (1/N) Σ_m q(z_n|x_m) in float64, at other draws of every z_n.
    q = vae.encode(linear_vae.as_images(x))
    loc, scale = (np.asarray(value, "float64") for value in (q.mean(), q.stddev()))
    values = []
    for seed in range(20):
        z = loc + scale * np.random.default_rng(seed).standard_normal(loc.shape)
        pairs = -0.5 * np.square((z[:, None] - loc) / scale) - np.log(scale)
        pairs = pairs.sum(axis=-1)
        values.append(np.diag(pairs) - np.logaddexp.reduce(pairs, axis=1) + math.log(300))
    values = np.array(values)
    error = values.std() / 300**0.5
    assert abs(found.mutual_information - values.mean()) < 4 * error
    assert found.mutual_information + found.marginal_kl == pytest.approx(found.rate, rel=1e-5)
    assert (found.pair_events, found.is_saturated) == (300, False)


def test_the_mutual_information_is_at_most_the_logarithm_of_the_images(rng):
    # So narrow that each code tells its image.
    vae = constant_vae(([1.0], [0.0]), [-14.0])
    found = diagnose(vae, batches(images(rng, 100)))
    assert found.mutual_information == pytest.approx(math.log(100), abs=0.1)
    assert found.is_saturated
    # And none where all codes are alike.
    vae = constant_vae(([0.0], [0.3]), [-1.0])
    found = diagnose(vae, batches(images(rng, 100)))
    assert found.mutual_information == pytest.approx(0, abs=1e-5)
    assert found.marginal_kl == pytest.approx(found.rate, abs=1e-5)


def test_pairs_are_limited(linear):
    _, vae, x = linear
    x = linear_vae.as_images(x)
    found = diagnose(vae, batches(x), pair_limit=50)
    alone = diagnose(vae, batches(x[:50]), pair_limit=10**6)
    assert (found.pair_events, alone.pair_events) == (50, 50)
    # The same draws of the same images, by way of other shapes.
    assert found.mutual_information == pytest.approx(alone.mutual_information, abs=0.3)
    assert found.rate != alone.rate


def test_units_are_active_from_a_hundredth(rng):
    # The first pixel has variance 1: the slopes are the standard deviations of E[z].
    vae = constant_vae(([1.0, 0.2, 0.05, 0.0], [0.0, 1.0, 2.0, 0.0]), [-2.0, -2.0, -2.0, 0.0])
    x = images(rng)
    found = diagnose(vae, batches(x))
    variance = x[:, 0, 0, 0].var(ddof=1)
    np.testing.assert_allclose(found.activity, variance * np.array([1, 0.04, 0.0025, 0]), rtol=1e-4)
    assert found.active.tolist() == [True, True, False, False]
    assert (found.active_units, found.latent_dim) == (2, 4)
    np.testing.assert_allclose(found.kl_per_dimension[3], 0, atol=1e-6)


@pytest.mark.exhaustive
def test_activity_without_a_mean_in_closed_form(rng):
    shape = (4, 4, 1)
    vae = tfvae.VAE.for_images(
        shape, latent_dim=3, network="dense", posterior="coupling:flows=2,hidden=8", seed=0
    )
    x = (rng.random((100, *shape)) < 0.4).astype("float32")
    found = diagnose(vae, batches(x), num_samples=64)
    assert found.kl_per_dimension is None
    z = np.asarray(vae.encode(x).sample(4000, seed=1), "float64")
    scatter = z.var(axis=0, ddof=1).mean(axis=0)
    expected = z.mean(axis=0).var(axis=0, ddof=1) - scatter / 4000
    # The variance over N images of means of 64 draws has about this relative error.
    error = np.sqrt(2 / 99) * (expected + scatter / 64) + scatter / 64 * 0.2
    assert (abs(found.activity - expected) < 3 * error).all()


def test_moments_of_priors(rng):
    x = (rng.random((20, 4, 4, 1)) < 0.4).astype("float32")
    for prior in ("mixture:components=3", "realnvp:flows=2"):
        vae = tfvae.VAE.for_images((4, 4, 1), latent_dim=2, network="dense", prior=prior, seed=0)
        found = diagnose(vae, batches(x))
        draws = np.asarray(vae.prior.sample(50_000, seed=3), "float64")
        error = draws.std(axis=0) / 20_000**0.5
        assert (abs(found.prior_mean - draws.mean(axis=0)) < 5 * error).all()
        np.testing.assert_allclose(found.prior_std, draws.std(axis=0), rtol=0.05)


def test_conditional_models(rng):
    prior_loc = rng.normal(size=(conditional_vae.CLASSES, conditional_vae.LATENT))
    base, offsets, marginals = conditional_vae.linear_models(rng, prior_loc)
    vae = conditional_vae.exact_conditional_vae(base, offsets, prior_loc, "class_normal")
    y = np.arange(30) % conditional_vae.CLASSES
    x = np.stack([linear_vae.points(marginals[label], rng, 1)[0] for label in y])
    data = tf.data.Dataset.from_tensor_slices((linear_vae.as_images(x), y)).batch(8)
    found = diagnose(vae, data)
    kl = vae.elbo(linear_vae.as_images(x), y, seed=1).kl
    assert found.rate == pytest.approx(np.mean(kl), rel=1e-5)


# --- the warnings -----------------------------------------------------------------------------


def test_nothing_is_wrong_with_the_exact_posterior(diagnosed):
    assert diagnosed.warnings == ()


def test_collapse_is_told(rng):
    vae = constant_vae(([0.01, 0.0], [0.0, 0.0]), [0.0, 0.0])
    (warning,) = diagnose(vae, batches(images(rng))).warnings
    assert "the posterior has collapsed" in warning
    assert "0 active units" in warning


def test_unused_dimensions_are_told(rng):
    vae = constant_vae(([1.0, 0.0, 0.0], [0.0, 0.0, 0.0]), [-2.0, 0.0, 0.0])
    (warning,) = diagnose(vae, batches(images(rng))).warnings
    assert "2 of 3 latent dimensions are not used" in warning


def test_a_kl_that_does_nothing_is_told(rng):
    # Codes spread over ten standard deviations of the prior, and one dimension far from it.
    vae = constant_vae(([10.0, 1.0], [0.0, 5.0]), [-6.0, -6.0])
    found = diagnose(vae, batches(images(rng)))
    (warning,) = found.warnings
    assert "the KL term does nothing" in warning
    assert "2 of 2 dimensions (z[0]" in warning
    ratio = found.code_std**2
    expected = 0.5 * (ratio - 1 - np.log(ratio) + found.code_mean**2)
    np.testing.assert_allclose(found.mismatch, expected)


# --- as an object, as JSON, as a picture, and refused -----------------------------------------


def test_json_and_picture(rng, tmp_path):
    vae = constant_vae(([10.0, 1.0, 0.0], [0.0, 0.0, 0.0]), [-6.0, -1.0, 0.0])
    found = diagnose(vae, batches(images(rng)))
    facts = json.loads(found.to_json())
    assert facts["active"] == [True, True, False]
    assert facts["active_units"] == 2
    assert facts["warnings"] == list(found.warnings)
    assert facts["rate"] == found.rate
    figure = plotting.diagnosis(found)
    bars, intervals = figure.axes
    heights = [bar.get_height() for bar in bars.patches]
    np.testing.assert_allclose(heights, np.sort(found.kl_per_dimension)[::-1])
    assert [tick.get_text() for tick in intervals.get_xticklabels()] == ["0", "1", "2"]
    assert "2 of 3 units active" in bars.get_title()
    figure.savefig(tmp_path / "diagnosis.png")
    assert (tmp_path / "diagnosis.png").stat().st_size > 10_000


def test_seeds_decide_the_draws(linear, diagnosed):
    _, vae, x = linear
    x = linear_vae.as_images(x)
    again, other = (
        diagnose(vae, batches(x), num_samples=16, seed=seed).distortion for seed in (3, 4)
    )
    assert diagnosed.distortion == again != other


@pytest.mark.exhaustive
def test_many_diagnoses_are_no_cause_for_a_warning(linear, caplog):
    _, vae, x = linear
    for _ in range(6):
        diagnose(vae, [linear_vae.as_images(x[:5])])
    assert "retracing" not in caplog.text


def test_what_cannot_be_diagnosed_is_refused(rng):
    vae = constant_vae(([1.0], [0.0]), [0.0])
    x = images(rng, 4)
    for call, message in (
        (lambda: diagnose(vae, batches(x[:1])), "needs two events or more; received 1"),
        (lambda: diagnose(vae, batches(x).take(0)), "needs two events or more; received 0"),
        (lambda: diagnose(vae, batches(x), num_samples=1), "num_samples is a whole number from 2"),
        (lambda: diagnose(vae, batches(x), pair_limit=1), "pair_limit is a whole number from 2"),
        (lambda: diagnose(vae, batches(x), seed=-1), "seed is a whole number from 0"),
        (lambda: diagnose(vae, batches(x[:, :3])), "expected images"),
        (lambda: diagnose(vae.encoder, batches(x)), "expected a VAE"),
    ):
        with pytest.raises(tfvae.InputError, match=message) as e:
            call()
        assert "\n" not in str(e.value)
