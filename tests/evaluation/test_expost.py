"""Densities fitted to the codes after training, and the model that has one for its prior."""

import conditional_vae
import keras
import numpy as np
import pytest
import tensorflow as tf
from conditional_vae import CLASSES, LATENT, SHAPE, make
from scipy import stats

import tfvae
from tfvae.evaluation import expost


@pytest.fixture
def data(rng):
    return conditional_vae.images_and_labels(rng, count=200)


@pytest.fixture
def vae():
    return make(num_classes=None)


def slices(*arrays, size=64):
    return tf.data.Dataset.from_tensor_slices(arrays if len(arrays) > 1 else arrays[0]).batch(size)


def two_heaps(rng, count=2000):
    """Draws of ½ N(−3, ½² I) + ½ N(3, ½² I) in two dimensions, and its log-density."""
    codes = 3 * rng.choice([-1, 1], (count, 1)) + 0.5 * rng.normal(size=(count, LATENT))

    def log_density(z):
        each = [stats.norm(at, 0.5).logpdf(z).sum(-1) for at in (-3, 3)]
        return np.logaddexp(*each) - np.log(2)

    return codes.astype("float32"), log_density


def banana(rng, count=2000):
    """Draws on a bent ridge: no Gaussian has its shape."""
    first = rng.normal(size=count)
    second = first**2 + 0.3 * rng.normal(size=count) - 1
    return np.stack([first, second], axis=1).astype("float32")


def held_out_score(density, codes, seed=0):
    """Fit on the first half; give the mean log-density of the second."""
    half = len(codes) // 2
    prior = density.fit(codes[:half], seed, progress=False)
    prior.bind((codes.shape[1],), seed)
    return float(np.mean(prior.distribution().log_prob(codes[half:])))


# --- codes ----------------------------------------------------------------------------------------


@pytest.mark.exhaustive
def test_codes_are_draws_from_the_posterior_of_each_image(vae, data):
    x, y = data
    codes = expost.aggregate_posterior(vae, slices(x), seed=3)
    assert codes.shape == (200, LATENT)
    q = vae.encode(x)
    noise = (codes - q.mean()) / q.stddev()
    assert stats.kstest(np.ravel(noise), "norm").pvalue > 0.01
    # The noise of one batch is not that of another.
    assert np.abs(np.corrcoef(noise[:64, 0], noise[64:128, 0])[0, 1]) < 4 / 64**0.5
    np.testing.assert_array_equal(expost.aggregate_posterior(vae, slices(x, y), seed=3), codes)
    assert np.abs(expost.aggregate_posterior(vae, slices(x), seed=4) - codes).max() > 0.1


def test_codes_of_an_autoencoder_are_its_own(data):
    x, _ = data
    model = make(tfvae.Autoencoder, num_classes=None)
    codes = expost.aggregate_posterior(model, slices(x))
    np.testing.assert_allclose(codes, model.code(x), atol=1e-6)


def test_codes_of_a_conditional_model_heed_the_labels(data):
    x, y = data
    model = make(tfvae.Autoencoder)
    for labels in (y, y[:, None]):
        codes = expost.aggregate_posterior(model, slices(x, labels))
        np.testing.assert_allclose(codes, model.code(x, y), atol=1e-6)
    with pytest.raises(tfvae.InputError, match="a conditional model needs labels"):
        expost.aggregate_posterior(model, slices(x))


# --- densities ------------------------------------------------------------------------------------


def test_every_density_is_tested():
    assert set(expost.BY_NAME) == {"gaussian_mixture", "realnvp", "maf"}


def test_one_gaussian_has_the_moments_of_the_codes(rng):
    codes = (rng.normal(size=(500, 3)) @ rng.normal(size=(3, 3)) + [1, -2, 3]).astype("float32")
    p = expost.GaussianMixtureDensity(components=1).fit(codes, 0, progress=False).distribution()
    np.testing.assert_allclose(p.mean(), codes.mean(axis=0), rtol=1e-5)
    # scikit-learn adds 1e-6 to the diagonal.
    expected = np.cov(codes.astype("float64").T, ddof=0) + 1e-6 * np.eye(3)
    np.testing.assert_allclose(p.covariance(), expected, rtol=1e-4, atol=1e-5)
    reference = stats.multivariate_normal(codes.mean(axis=0), expected)
    np.testing.assert_allclose(p.log_prob(codes), reference.logpdf(codes), rtol=1e-4, atol=1e-4)


def test_two_gaussians_find_two_heaps(rng):
    codes, log_density = two_heaps(rng)
    one, two = (held_out_score(expost.GaussianMixtureDensity(count), codes) for count in (1, 2))
    best = np.mean(log_density(codes[1000:]))
    # Five numbers a component from 1000 codes: the loss is about 11 / (2 · 1000).
    assert best - 0.03 < two < best + 0.01
    assert one < two - 1
    p = expost.GaussianMixtureDensity(2).fit(codes, 0, progress=False).distribution()
    means = np.sort(np.asarray(p.components_distribution.mean())[:, 0])
    np.testing.assert_allclose(means, [-3, 3], atol=4 * 0.5 / 1000**0.5)


@pytest.mark.exhaustive
def test_flows_fit_what_no_gaussian_does(rng, capsys):
    codes = banana(rng)
    flow = expost.RealNVPDensity(flows=3, hidden=32, steps=300, learning_rate=1e-2)
    score = held_out_score(flow, codes)
    assert capsys.readouterr().err == ""
    standard = np.mean(stats.norm.logpdf(codes[1000:]).sum(-1))
    gaussian = held_out_score(expost.GaussianMixtureDensity(1), codes)
    # −½ log 2πe of the first dimension, and of 0.3 of it for the second.
    entropy = 2 * 0.5 * np.log(2 * np.pi * np.e) + np.log(0.3)
    assert -entropy - 0.2 < score < -entropy + 0.1
    assert score > max(standard, gaussian) + 0.5


@pytest.mark.few(1)
@pytest.mark.parametrize(
    "density",
    [
        "gaussian_mixture:components=3",
        "realnvp:flows=2,hidden=8,steps=5",
        "maf:flows=1,hidden=8,steps=5",
    ],
)
def test_seeds_decide_the_fit(vae, data, density):
    x, _ = data
    z = np.linspace(-1, 1, 10, dtype="float32").reshape(5, 2)

    def score(seed, given=density):
        np.random.seed(seed + 7)  # noqa: NPY002 - what scikit-learn would fall back to
        prior = expost.fit_prior(vae, slices(x), given, seed=seed, progress=False)
        return np.asarray(prior.distribution().log_prob(z))

    first = score(0)
    # An object fits anew each time, and leaves what it gave before alone.
    fitter = expost.resolve(density, expost.Density, expost.BY_NAME, "density")
    prior = expost.fit_prior(vae, slices(x), fitter, seed=0, progress=False)
    assert np.abs(score(1, fitter) - first).max() > 1e-4
    np.testing.assert_array_equal(prior.distribution().log_prob(z), first)


# --- models with another prior --------------------------------------------------------------------


@pytest.mark.exhaustive
def test_a_model_with_the_fitted_prior(vae, data, tmp_path, capsys):
    x, _ = data
    # Codes around (2, 2), where p(z) has little.
    head = vae.posterior_family.head
    head.bias.assign([2.0] * LATENT + [-1.0] * LATENT)
    prior = expost.fit_prior(vae, slices(x), "maf:flows=1,hidden=8,steps=300", progress=True)
    assert "flow" in capsys.readouterr().err
    model = vae.with_prior(prior)
    assert model.prior_family is prior
    # It fits the codes of the training images, p(z) does not.
    codes = expost.aggregate_posterior(vae, slices(x), seed=9)
    assert np.mean(model.prior.log_prob(codes)) > np.mean(vae.prior.log_prob(codes)) + 1

    assert vae.kl_is_exact
    assert not model.kl_is_exact
    terms = model.terms(x, num_samples=5, seed=1)
    elbo, log_likelihood, kl = model.elbo(x, num_samples=5, seed=1)
    np.testing.assert_allclose(elbo, log_likelihood - kl, rtol=1e-5)
    estimate = vae.encode(x).log_prob(terms.z) - prior.distribution().log_prob(terms.z)
    np.testing.assert_allclose(kl, np.mean(estimate, axis=0), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(
        log_likelihood, vae.elbo(x, num_samples=5, seed=1).log_likelihood, rtol=1e-5
    )

    samples = model.sample(4, seed=1)
    assert np.abs(samples - vae.sample(4, seed=1)).max() > 1e-3
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.sample(4, seed=1), samples)
    np.testing.assert_array_equal(loaded.elbo(x, seed=1).elbo, model.elbo(x, seed=1).elbo)
    model.export(tmp_path / "saved_model")
    signatures = tf.saved_model.load(str(tmp_path / "saved_model")).signatures
    seeds = np.stack([np.full(3, 5), np.arange(3)], axis=1).astype("int32")
    z = tf.stack([model.prior.sample(seed=tf.constant(seed)) for seed in seeds])
    np.testing.assert_allclose(
        signatures["sample"](seed=tf.constant(seeds))["images"], model.decode(z).mean(), atol=1e-5
    )


@pytest.mark.exhaustive
def test_the_two_models_share_their_weights(vae, data):
    x, _ = data
    model = vae.with_prior(expost.fit_prior(vae, slices(x), "gaussian_mixture:components=2"))
    assert {id(variable) for variable in model.trainable_variables} == {
        id(variable) for variable in vae.trainable_variables
    }
    before = model.code(x)
    vae.compile(keras.optimizers.Adam(1e-2), run_eagerly=True)
    vae.fit(x, verbose=0)
    assert np.abs(model.code(x) - before).max() > 1e-3
    np.testing.assert_array_equal(model.code(x), vae.code(x))


def test_a_conditional_model_takes_a_fitted_prior(data):
    x, y = data
    vae = make(prior="class_normal")
    prior = expost.fit_prior(vae, slices(x, y), "gaussian_mixture:components=2")
    model = vae.with_prior(prior)
    assert model.num_classes == CLASSES
    images = model.sample(3, label=[0, 1, 2], seed=1)
    assert images.shape == (3, *SHAPE)
    assert np.abs(images - model.sample(3, label=[1, 2, 0], seed=1)).max() > 1e-4
    elbo, log_likelihood, kl = model.elbo(x, y, seed=1)
    np.testing.assert_allclose(elbo, log_likelihood - kl, rtol=1e-5)


def test_an_autoencoder_samples_with_a_density_of_its_codes(data):
    x, _ = data
    model = make(tfvae.Autoencoder, num_classes=None)
    prior = expost.fit_prior(model, slices(x), "gaussian_mixture:components=2")
    codes = np.asarray(prior.distribution().sample(4000, seed=1))
    expected = np.asarray(model.code(x))
    error = expected.std(axis=0) / 4000**0.5
    assert np.all(np.abs(codes.mean(axis=0) - expected.mean(axis=0)) < 4 * error)
    assert model.decode(codes[:5]).mean().shape == (5, *SHAPE)


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.few(4)
@pytest.mark.parametrize(
    ("density", "message"),
    [
        ("gaussian_mixture:components=0", "components is a whole number from 1; received 0"),
        ("gaussian_mixture:components=201", "201 components need as many codes; received 200"),
        ("gaussian_mixture:parts=3", "unknown option 'parts' of density 'gaussian_mixture'"),
        ("kde", "unknown density 'kde': expected one of gaussian_mixture, realnvp, maf"),
        (3, "a density is a name or a tfvae Density; received 3; known names: gaussian_mixture"),
        ("realnvp:flows=0", "flows is a whole number from 1; received 0"),
        ("maf:hidden=1.5", "hidden is a whole number from 1; received 1.5"),
        ("maf:steps=0", "steps is a whole number from 1; received 0"),
        ("maf:learning_rate=0", "learning_rate is a positive number; received 0"),
        ("maf:learning_rate=fast", "learning_rate is a positive number; received 'fast'"),
    ],
)
def test_densities_that_cannot_be_are_refused(vae, data, density, message):
    with pytest.raises(tfvae.InputError, match=message) as caught:
        expost.fit_prior(vae, slices(data[0]), density, progress=False)
    assert "\n" not in str(caught.value)


def test_images_that_do_not_fit_are_refused(vae, data):
    x, _ = data
    with pytest.raises(tfvae.InputError, match="the data set is empty"):
        expost.fit_prior(vae, slices(x).take(0))
    with pytest.raises(tfvae.InputError, match="Bernoulli expects values"):
        expost.fit_prior(vae, slices(255 * x))
    with pytest.raises(tfvae.InputError, match="expected images"):
        expost.fit_prior(vae, slices(x[:, :5]))


def test_priors_that_do_not_fit_are_refused(vae, data):
    other = expost.GaussianMixtureDensity(1).fit(
        np.random.default_rng(0).normal(size=(9, 3)), 0, False
    )
    with pytest.raises(tfvae.InputError, match="must have event shape"):
        vae.with_prior(other)
    with pytest.raises(tfvae.InputError, match="unknown prior 'mixtures'"):
        vae.with_prior("mixtures")
    with pytest.raises(tfvae.InputError, match="needs a conditional model"):
        vae.with_prior("class_normal")
