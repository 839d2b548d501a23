"""Sample weights of single values: Σ w·log p(value|z) in the place of log p(x|z)."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfvae
from tfvae.errors import InputError
from tfvae.training import train

SHAPE = (6, 2)


def make(likelihood="normal", kind=tfvae.VAE, **options):
    vae = kind.for_events(SHAPE, latent_dim=2, network="dense", likelihood=likelihood, seed=0)
    # Its updates are linear in the gradients: Adam would make rounding errors of the smallest big.
    vae.compile(keras.optimizers.SGD(1e-3), **options)
    return vae


@pytest.fixture
def x(rng):
    return rng.normal(size=(20, *SHAPE)).astype("float32")


@pytest.fixture
def weight(rng):
    return (rng.uniform(0, 2, (20, *SHAPE)) * (rng.random((20, *SHAPE)) < 0.7)).astype("float32")


@pytest.mark.few(1)
@pytest.mark.parametrize("likelihood", ["normal", "laplace:scale=learned", "student_t"])
def test_terms_sum_the_weighted_log_probabilities_of_values(x, weight, likelihood):
    vae = make(likelihood)
    terms = vae.terms(x, value_weight=weight, num_samples=3, seed=1)
    expected = np.sum(weight * vae.log_likelihood_by_value(x, terms.z), axis=(-2, -1))
    np.testing.assert_allclose(terms.log_likelihood, expected, rtol=1e-5)
    report = vae.evaluate(x, sample_weight=weight, verbose=0, return_dict=True, batch_size=20)
    assert report["loss"] == pytest.approx(-report["log_likelihood"] + report["kl"], rel=1e-5)


def test_an_optimal_scale_is_that_of_the_values_that_count(x):
    counts = np.ones_like(x)
    counts[:, 3:] = 0
    wild = np.where(counts > 0, x, 1e3).astype("float32")
    vae = make("normal:scale=optimal")
    data = tfvae.models.batch.Batch(x, target=x, value_weight=counts)
    seed = vae.validation_seed(0)
    with tf.GradientTape() as tape:
        loss = vae.batch_losses(data, seed, training=True).loss
    gradients = tape.gradient(loss, vae.decoder.trainable_variables)
    with tf.GradientTape() as tape:
        other = vae.batch_losses(data._replace(target=wild), seed, training=True).loss
    np.testing.assert_array_equal(loss, other)
    for one, two in zip(
        gradients, tape.gradient(other, vae.decoder.trainable_variables), strict=True
    ):
        np.testing.assert_array_equal(one, two)


@pytest.mark.few(1)
@pytest.mark.parametrize("kind", [tfvae.VAE, tfvae.Autoencoder])
def test_fit_and_the_loop_train_alike_and_weights_of_one_change_nothing(x, weight, kind):
    models = {}
    for name, w in {"none": None, "ones": np.ones_like(x), "weights": weight}.items():
        models[name] = make(kind=kind, run_eagerly=True)
        # Of arrays and of data sets a start would take other events.
        models[name].adapted = True
        models[name].fit(x, sample_weight=w, batch_size=10, epochs=2, shuffle=False, verbose=0)
    models["loop"] = make(kind=kind)
    models["loop"].adapted = True
    data = tf.data.Dataset.from_tensor_slices((x, np.zeros(20), weight)).batch(10)
    train(models["loop"], data, epochs=2, progress=False)
    kernels = {
        name: [np.asarray(v) for v in model.trainable_variables] for name, model in models.items()
    }
    for one, two in (("none", "ones"), ("weights", "loop")):
        for a, b in zip(kernels[one], kernels[two], strict=True):
            np.testing.assert_allclose(a, b, atol=1e-6)
    assert not np.allclose(kernels["none"][0], kernels["weights"][0], atol=1e-6)


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (lambda w: -w, "sample weights are finite numbers from 0; received -"),
        (lambda w: np.where(w > 1, np.nan, w), "sample weights are finite numbers from 0"),
        (lambda w: w[:, :3], r"one for each of its values, \[batch, 6, 2\]; received shape"),
    ],
)
def test_weights_that_do_not_fit_are_refused_in_one_line(x, weight, bad, words):
    vae = make()
    before = [np.asarray(v) for v in vae.trainable_variables]
    with pytest.raises(InputError, match=words) as info:
        vae.fit(x, sample_weight=bad(weight), verbose=0)
    assert "\n" not in str(info.value)
    for old, new in zip(before, vae.trainable_variables, strict=True):
        np.testing.assert_array_equal(old, new)


def test_a_likelihood_of_whole_events_takes_none(x, weight):
    class Whole(tfvae.likelihoods.Normal):
        def distribution(self, parameters, observed=None):
            from tensorflow_probability import distributions as tfd

            loc = parameters["loc"]
            flat = tf.reshape(loc, (*loc.shape[:-2], 12))
            return tfd.TransformedDistribution(
                tfd.MultivariateNormalDiag(flat), tfvae.lazy.tfb.Reshape(SHAPE)
            )

    vae = make(Whole())
    with pytest.raises(InputError, match="has no distribution of single values"):
        vae.terms(x, value_weight=weight, seed=0)
