"""Latents that are classes: relaxed while they train, exact in all that is reported."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tfvae import VAE, InputError, evaluation, posteriors, priors
from tfvae.compression import compress_events, decompress
from tfvae.distributions.one_hot import OneHots, RelaxedOneHots

GROUPS, CLASSES = 2, 3
LOGITS = np.random.default_rng(0).normal(size=(5, GROUPS, CLASSES)).astype("float32")


def made(**options):
    options = {
        "latent_dim": GROUPS * CLASSES,
        "network": "dense:hidden=8",
        "posterior": f"relaxed_categorical:classes={CLASSES}",
        "prior": "relaxed_categorical:learned=true",
        "seed": 0,
        **options,
    }
    vae = VAE.for_images((4, 4, 1), **options)
    rng = np.random.default_rng(3)
    # The heads start small, and q and p would hardly differ.
    for family in (vae.posterior_family, vae.prior_family):
        for weight in family.trainable_weights:
            weight.assign_add(rng.normal(0, 0.5, weight.shape))
    return vae


def bits(count=6):
    return np.random.default_rng(1).integers(0, 2, (count, 4, 4, 1)).astype("float32")


def all_z():
    """Return every z, `[classes ** groups, d]`."""
    eye = np.eye(CLASSES, dtype="float32")
    return np.stack([np.concatenate(row) for row in itertools.product(eye, repeat=GROUPS)])


def grouped(kind, *arguments):
    return tfd.Independent(kind(*arguments), 1)


# --- the distributions ----------------------------------------------------------------------------


def test_one_hots_are_those_of_tfp():
    one = OneHots(LOGITS)
    other = grouped(lambda logits: tfd.OneHotCategorical(logits=logits, dtype=tf.float32), LOGITS)
    assert one.batch_shape == (5,)
    assert one.event_shape == (6,)
    z = other.sample(7, seed=1)
    flat = tf.reshape(z, (7, 5, 6))
    np.testing.assert_allclose(one.log_prob(flat), other.log_prob(z), rtol=1e-5)
    np.testing.assert_allclose(one.entropy(), other.entropy(), rtol=1e-5)
    for name in ("mean", "variance", "mode"):
        expected = tf.reshape(getattr(other, name)(), (5, 6))
        np.testing.assert_allclose(getattr(one, name)(), expected, rtol=1e-5)
    np.testing.assert_allclose(one.stddev() ** 2, one.variance(), rtol=1e-5)
    np.testing.assert_allclose(one[2].log_prob(flat[:, 2]), one.log_prob(flat)[:, 2], rtol=1e-6)


def test_relaxed_densities_are_those_of_tfp():
    temperature = np.array([0.3, 0.5, 1.0, 2.0, 5.0], "float32")
    one = RelaxedOneHots(temperature, LOGITS)
    other = grouped(lambda t: tfd.RelaxedOneHotCategorical(t, logits=LOGITS), temperature[:, None])
    z = one.sample(50, seed=1)
    assert z.shape == (50, 5, 6)
    np.testing.assert_allclose(tf.reduce_sum(z, axis=-1), GROUPS, rtol=1e-5)
    expected = other.log_prob(tf.reshape(z, (50, 5, GROUPS, CLASSES)))
    np.testing.assert_allclose(one.log_prob(z), expected, rtol=1e-3, atol=1e-3)
    cold = RelaxedOneHots(0.001, LOGITS)
    with tf.GradientTape() as tape:
        z = cold.sample(50, seed=1)
        tape.watch(z)
        density = cold.log_prob(z)
    assert np.isfinite(density).all()
    assert np.isfinite(tape.gradient(density, z)).all()


def test_kl_is_that_of_tfp():
    other_logits = np.roll(LOGITS, 1, axis=0)
    expected = tfd.kl_divergence(
        *(grouped(lambda a: tfd.OneHotCategorical(logits=a), a) for a in (LOGITS, other_logits))
    )
    for q, p in (
        (OneHots(LOGITS), OneHots(other_logits)),
        (RelaxedOneHots(0.5, LOGITS), RelaxedOneHots(0.3, other_logits)),
    ):
        np.testing.assert_allclose(tfd.kl_divergence(q, p), expected, rtol=1e-4)
    np.testing.assert_allclose(tfd.kl_divergence(OneHots(LOGITS), OneHots(LOGITS)), 0, atol=1e-6)


def test_cold_draws_are_those_of_the_classes():
    hard = OneHots(LOGITS).sample(20_000, seed=(0, 2))
    distance = [
        np.abs(RelaxedOneHots(t, LOGITS).sample(20_000, seed=(0, 2)) - hard).mean()
        for t in (1.0, 0.1, 0.01, 0.001)
    ]
    assert all(one > 3 * other for one, other in itertools.pairwise(distance))
    assert distance[-1] < 1e-3
    probs = OneHots(LOGITS).mean()
    error = np.sqrt(probs * (1 - probs) / 20_000)
    assert np.all(np.abs(hard.numpy().mean(axis=0) - probs) < 4.5 * error)


# --- the model ------------------------------------------------------------------------------------


def enumerated(vae, x):
    """Return the exact ELBO of each event, and log p(x), by a sum over all z."""
    z = all_z()
    q, p = vae.encode(x), vae.prior
    log_q = np.stack([q.log_prob(np.tile(one, (len(x), 1))) for one in z])
    log_joint = vae.log_likelihood(x, np.tile(z[:, None], (1, len(x), 1))) + p.log_prob(z)[:, None]
    elbo = np.sum(np.exp(log_q) * (log_joint - log_q), axis=0)
    return elbo, tf.reduce_logsumexp(log_joint, axis=0).numpy()


def test_what_is_reported_is_the_elbo_of_the_classes():
    vae, x = made(), bits()
    assert vae.kl_is_exact
    exact, log_p = enumerated(vae, x)
    terms = vae.terms(x, num_samples=5000, seed=1)
    assert set(np.unique(terms.z)) == {0, 1}
    # In float32 a mean of so many would be off by as much as its error.
    drawn = terms.log_likelihood.numpy().astype("float64")
    error = drawn.std(axis=0) / np.sqrt(5000)
    assert np.all(np.abs(drawn.mean(axis=0) - terms.kl - exact) < 4.5 * error + 1e-5)
    assert np.all(terms.elbo < log_p)
    found = evaluation.log_prob(vae, x, num_samples=5000)
    np.testing.assert_allclose(found.log_probs, log_p, atol=0.03)


@pytest.mark.parametrize("temperature", [0.1, pytest.param(0.05, marks=pytest.mark.exhaustive)])
def test_gradients_of_cold_draws_are_those_of_the_sum_over_all_classes(temperature):
    """Of log-likelihoods that are linear in z the relaxation has the least bias."""
    weights = np.random.default_rng(5).normal(size=(GROUPS * CLASSES,)).astype("float32")
    logits = tf.Variable(LOGITS[:1])
    with tf.GradientTape() as tape:
        exact = tf.tensordot(OneHots(logits).mean()[0], weights, 1)
    expected = tape.gradient(exact, logits).numpy()
    count = 40_000
    tiled = tf.Variable(np.tile(LOGITS[:1], (count, 1, 1)))
    with tf.GradientTape() as tape:
        z = RelaxedOneHots(temperature, tiled).sample(seed=3)
        value = tf.reduce_sum(tf.linalg.matvec(z, weights))
    each = tape.gradient(value, tiled).numpy()
    error = each.std(axis=0) / np.sqrt(count)
    assert np.all(np.abs(each.mean(axis=0) - expected[0]) < 4.5 * error + 0.02 * temperature)
    # The score-function estimator of the same, without bias: draws and their log-probabilities.
    with tf.GradientTape() as tape:
        q = OneHots(tiled)
        z = tf.stop_gradient(q.sample(seed=4))
        score = tf.reduce_sum(q.log_prob(z) * tf.linalg.matvec(z, weights))
    score = tape.gradient(score, tiled).numpy()
    spread = np.hypot(error, score.std(axis=0) / np.sqrt(count))
    difference = np.abs(score.mean(axis=0) - each.mean(axis=0))
    assert np.all(difference < 4.5 * spread + 0.02 * temperature)


def test_gradients_of_a_model_come_near_the_exact_ones_as_it_cools():
    x, distances = bits(), []
    for temperature in (2.0, 0.3):
        vae = made(posterior=f"relaxed_categorical:classes={CLASSES},temperature={temperature}")
        variables = [vae.posterior_family.head.kernel, *vae.prior_family.trainable_weights]
        with tf.GradientTape() as tape:
            q = vae.encode(x)
            log_q = tf.stack([q.log_prob(np.tile(one, (len(x), 1))) for one in all_z()])
            z = np.tile(all_z()[:, None], (1, len(x), 1))
            log_joint = vae.log_likelihood(x, z) + vae.prior.log_prob(all_z())[:, None]
            exact = tf.reduce_sum(tf.exp(log_q) * (log_joint - log_q))
        exact = [tf.convert_to_tensor(g).numpy() for g in tape.gradient(exact, variables)]
        with tf.GradientTape() as tape:
            terms = vae.terms(x, num_samples=3000, seed=1, training=True)
            value = tf.reduce_sum(terms.elbo)
        found = [tf.convert_to_tensor(g).numpy() for g in tape.gradient(value, variables)]
        # The KL is in closed form at any temperature, and the prior has no other gradient.
        np.testing.assert_allclose(found[1], exact[1], rtol=1e-3, atol=1e-4)
        distances.append(np.linalg.norm(found[0] - exact[0]) / np.linalg.norm(exact[0]))
    assert distances[1] < 0.5 * distances[0]
    assert distances[1] < 0.1


def test_training_follows_the_schedule_and_validation_is_exact():
    vae = made(
        posterior=f"relaxed_categorical:classes={CLASSES},temperature=linear(steps=4,start=1,end=0)"
    )
    x = bits(16)
    vae.compile(keras.optimizers.Adam(0.01), run_eagerly=True)
    smooth = []
    for step in (0, 2, 4, 9):
        vae.optimizer.iterations.assign(step)
        z = vae.terms(x, seed=1, training=True).z.numpy()
        smooth.append(np.abs(z - np.round(z)).mean())
    assert smooth[0] > smooth[1] > smooth[2] == smooth[3]
    vae.optimizer.iterations.assign(0)
    with pytest.warns(UserWarning, match="warm-up of 4 steps"):
        history = vae.fit(x, epochs=2, batch_size=16, validation_data=x, verbose=0).history
    assert set(np.unique(vae.terms(x, seed=1).z)) == {0, 1}
    expected = vae.elbo(x, seed=vae.validation_seed(0)).elbo.numpy().mean()
    assert history["val_elbo"][-1] == pytest.approx(expected, rel=1e-5)


def test_codes_samples_and_walks():
    vae, x = made(), bits()
    code = vae.code(x).numpy()
    np.testing.assert_array_equal(code, vae.encode(x).mode())
    np.testing.assert_allclose(vae.keras_encoder()(x), code)
    _, z, _ = vae.sample_joint(9, seed=1)
    assert set(np.unique(z)) == {0, 1}
    shares = tf.reshape([0.0, 0.25, 1.0], (1, -1, 1))
    moved = vae.posterior_family.moved(tf.constant(code[:, None]), 4, shares)
    np.testing.assert_allclose(moved[..., :3], np.tile(code[:, None, :3], (1, 3, 1)))
    np.testing.assert_allclose(moved[..., 4], np.tile([[0, 0.25, 1]], (len(x), 1)))
    np.testing.assert_allclose(tf.reduce_sum(moved, axis=-1), GROUPS, rtol=1e-6)
    walk = vae.traverse(x, 4, [0.0, 1.0])
    one = np.tile([0, 1, 0], (len(x), 1))
    decoded = vae.likelihood_family.mean(vae.decode(np.concatenate([code[:, :3], one], axis=1)))
    np.testing.assert_allclose(walk[:, 1], decoded, rtol=1e-5)
    assert vae.interpolate(x[0], x[1], steps=3).shape == (3, 4, 4, 1)


def test_classes_are_compressed():
    vae, x = made(), bits(400)
    done = compress_events(vae, x)
    np.testing.assert_array_equal(decompress(vae, done.data), x)
    expected = -np.sum(vae.elbo(x, num_samples=20, seed=1).elbo) / np.log(2)
    assert done.bits - done.start_up_bits - done.header_bits == pytest.approx(expected, rel=0.02)


def test_what_needs_real_numbers_is_refused():
    vae, x = made(), bits()
    for function, message in (
        (lambda: evaluation.annealed_log_prob(vae, x), "moves z along gradients"),
        (lambda: evaluation.fit_prior(vae, x), "codes that are real numbers"),
        (lambda: posteriors.get("relaxed_categorical:classes=1"), "classes is a whole number"),
        (lambda: posteriors.get("relaxed_categorical:temperature=0"), "temperature is a positive"),
        (lambda: priors.get("relaxed_categorical:temperature=-1"), "temperature is a positive"),
        (
            lambda: made(posterior="relaxed_categorical:classes=3,temperature=warm"),
            "temperature is",
        ),
    ):
        with pytest.raises(InputError, match=message) as caught:
            function()
        assert "\n" not in str(caught.value)
