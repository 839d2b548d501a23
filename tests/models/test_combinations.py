"""Every likelihood, posterior and prior with every other: each pair of families meets here."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from combination_cases import (
    CASES,
    LIKELIHOODS,
    POSTERIORS,
    PRIORS,
    SLOW_CASES,
    batch,
    model,
)
from tensorflow_probability import distributions as tfd

from tfvae import VAE, InputError
from tfvae.likelihoods import BY_NAME as LIKELIHOOD_NAMES
from tfvae.posteriors import BY_NAME as POSTERIOR_NAMES
from tfvae.priors import BY_NAME as PRIOR_NAMES
from tfvae.training import train


def names(texts):
    return {text.partition(":")[0] for text in texts}


def test_every_family_is_here():
    assert names(LIKELIHOODS) == set(LIKELIHOOD_NAMES)
    assert names(POSTERIORS) == set(POSTERIOR_NAMES)
    assert names(PRIORS) == set(PRIOR_NAMES) | {"fixed"}


def test_every_pair_meets():
    pairs = {pair for a, b, c in CASES for pair in ((a, b), (a, c), (b, c))}
    wanted = {(a, b) for a in LIKELIHOODS for b in POSTERIORS}
    wanted |= {(a, c) for a in LIKELIHOODS for c in PRIORS}
    wanted |= {(b, c) for b in POSTERIORS for c in PRIORS}
    assert pairs == wanted


def same_values(vae, other, x, label):
    """Compare the ELBO, with the same draws, the code and samples of two models."""
    for one, two in zip(vae.elbo(x, label, seed=3), other.elbo(x, label, seed=3), strict=True):
        np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(vae.code(x, label), other.code(x, label))
    few = None if label is None else label[:2]
    np.testing.assert_array_equal(
        vae.sample(2, label=few, seed=1), other.sample(2, label=few, seed=1)
    )


@pytest.mark.parametrize(("likelihood", "posterior", "prior"), CASES)
def test_trains_and_saves(likelihood, posterior, prior, tmp_path):
    vae = model(likelihood, posterior, prior)
    x, label = batch(vae, likelihood)
    optimizer = keras.optimizers.Adam(0.01)
    variables = vae.trainable_variables
    losses, reached = [], np.zeros(len(variables), bool)
    for _ in range(4):
        with tf.GradientTape() as tape:
            # The same draws at each step: what falls is a function of the weights alone.
            terms = vae.terms(x, label, seed=5, training=True)
            loss = tf.reduce_mean(vae.objective(terms))
        gradients = tape.gradient(loss, variables)
        values = [np.zeros(()) if g is None else tf.convert_to_tensor(g).numpy() for g in gradients]
        reached |= [bool(np.any(value)) for value in values]
        assert all(np.all(np.isfinite(value)) for value in values)
        optimizer.apply_gradients(zip(gradients, variables, strict=True))
        losses.append(float(loss))
    assert losses[-1] < losses[0]
    assert all(reached), [v.path for v, r in zip(variables, reached, strict=True) if not r]

    terms = vae.terms(x, label, seed=5)
    log_p, log_q = terms.prior.log_prob(terms.z), terms.posterior.log_prob(terms.z)
    np.testing.assert_allclose(terms.log_prior, log_p, rtol=1e-5, atol=1e-5)
    # The one comes with the draw, the other from it.
    np.testing.assert_allclose(terms.log_posterior, log_q, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(terms.elbo, terms.log_likelihood[0] - terms.kl, rtol=1e-5)
    if not vae.kl_is_exact:
        estimate = terms.log_posterior[0] - terms.log_prior[0]
        np.testing.assert_allclose(terms.kl, estimate, rtol=1e-5, atol=1e-5)

    vae.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for part in ("likelihood", "posterior", "prior", "objective", "num_classes"):
        assert loaded.get_config()[part] == vae.get_config()[part]
    same_values(vae, loaded, x, label)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize(("likelihood", "posterior", "prior"), SLOW_CASES)
def test_half_precision_is_finite(likelihood, posterior, prior, policy):
    keras.config.set_dtype_policy(policy)
    vae = model(likelihood, posterior, prior)
    x, label = batch(vae, likelihood)
    vae.compile(keras.optimizers.Adam(0.01))
    logs = vae.train_on_batch(x, label, return_dict=True)
    assert all(np.isfinite(value) for value in logs.values())
    for term in vae.elbo(x, label, seed=1):
        assert term.dtype == tf.float32
        assert np.all(np.isfinite(term))
    assert all(np.all(np.isfinite(variable)) for variable in vae.variables)


@pytest.mark.parametrize(("likelihood", "posterior", "prior"), SLOW_CASES)
def test_loop_and_export(likelihood, posterior, prior, tmp_path):
    vae = model(likelihood, posterior, prior)
    x, label = batch(vae, likelihood)
    data = tf.data.Dataset.from_tensor_slices((x,) if label is None else (x, label)).batch(3)
    vae.compile(keras.optimizers.Adam(0.01))
    history = train(vae, data, epochs=3, progress=False).history
    assert np.all(np.isfinite(history["loss"]))

    vae.export(tmp_path / "exported")
    signatures = tf.saved_model.load(tmp_path / "exported").signatures
    given = {} if label is None else {"label": tf.constant(label, tf.int32)}
    seeds = tf.stack([tf.range(len(x)), tf.ones(len(x), tf.int32)], axis=1)
    close = {"rtol": 1e-4, "atol": 1e-4}  # another order of the same sums
    for name, value in vae.elbo(x, label, seed=seeds)._asdict().items():
        served = signatures["elbo"](images=tf.constant(x), seed=seeds, **given)[name]
        np.testing.assert_allclose(served, value, **close)
    encoded = signatures["encode"](images=tf.constant(x), **given)
    np.testing.assert_allclose(encoded["loc"], vae.code(x, label), **close)
    assert ("scale" in encoded) == (posterior in ("normal", "full_normal"))
    reconstructed = signatures["reconstruct"](images=tf.constant(x), **given)["images"]
    np.testing.assert_allclose(reconstructed, vae.reconstruct(x, label), **close)
    one, two = (signatures["sample"](seed=seeds, **given)["images"] for _ in range(2))
    np.testing.assert_array_equal(one, two)
    assert one.shape == x.shape
    assert np.all(np.isfinite(one))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prior": "class_normal"}, "class_normal.*needs a conditional model"),
        ({"prior": "vamp", "num_classes": 3}, "vamp.*conditional"),
        ({"posterior": "coupling", "latent_dim": 1}, "coupling.*2"),
        ({"prior": "realnvp", "latent_dim": 1}, "coupling flow.*2"),
        ({"prior": "mixture", "objective": "free_bits"}, "FreeBits needs a prior that factorises"),
        (
            {"posterior": "iaf", "objective": "beta_tc:dataset_size=9"},
            "BetaTC needs a posterior that factorises",
        ),
        ({"prior": tfd.MultivariateNormalDiag([0.0] * 3)}, "event.*3"),
    ],
)
def test_pairs_that_cannot_work_are_refused_by_name(options, message):
    with pytest.raises(InputError, match=message) as caught:
        VAE.for_images((4, 4, 1), **{"network": "dense", "latent_dim": 2, **options})
    assert "\n" not in str(caught.value)
