"""Hierarchies of latents: against a linear model that is known exactly, and as any other model."""

import keras
import ladders
import numpy as np
import pytest
import tensorflow as tf
from ladders import exact, linear_hierarchy, loose

import tfvae
from tfvae import VAE, HierarchicalVAE

CLOSE = {"rtol": 1e-5, "atol": 1e-5}


# --- the linear model, known exactly --------------------------------------------------------------


@pytest.fixture(scope="module")
def linear():
    return ladders.Linear(np.random.default_rng(0))


def test_the_exact_posterior_has_the_exact_log_prob_as_its_elbo(linear):
    x = linear.events(7)
    vae = linear_hierarchy(linear, exact(linear))
    terms = vae.terms(x, num_samples=5, seed=1)
    # At the exact posterior the weight is p(x), whatever z was drawn.
    log_prob = linear.log_marginal(x)
    np.testing.assert_allclose(terms.log_weight, np.tile(log_prob, (5, 1)), rtol=1e-4, atol=2e-4)


def test_the_gap_of_the_elbo_is_the_kl_from_the_exact_posterior(linear):
    x = linear.events(3)
    vae = linear_hierarchy(linear, loose(linear))
    terms = vae.terms(x, num_samples=20_000, seed=1)
    gap = linear.log_marginal(x) - terms.elbo.numpy()
    exact = linear.kl_of_joint(loose(linear), x)
    error = terms.log_weight.numpy().std(axis=0, ddof=1) / np.sqrt(20_000)
    assert np.all(np.abs(gap - exact) < 5 * error + 1e-4)


def test_densities_are_those_of_the_joint_gaussians(linear):
    x = linear.events(4)
    q = loose(linear)
    vae = linear_hierarchy(linear, q)
    terms = vae.terms(x, num_samples=3, seed=2)
    z = terms.z.numpy().astype("float64")
    np.testing.assert_allclose(terms.log_prior, linear.log_prior(z), **CLOSE)
    np.testing.assert_allclose(terms.log_posterior, linear.log_posterior(q, x, z), **CLOSE)
    np.testing.assert_allclose(vae.prior.log_prob(terms.z), terms.log_prior, **CLOSE)
    np.testing.assert_allclose(vae.encode(x).log_prob(terms.z), terms.log_posterior, **CLOSE)
    drawn, log_prob = vae.encode(x).experimental_sample_and_log_prob(3, seed=(2, 0))
    np.testing.assert_array_equal(drawn, terms.z)
    np.testing.assert_allclose(log_prob, terms.log_posterior, **CLOSE)


def test_the_kl_of_each_group_is_the_exact_one_in_expectation(linear):
    x, q = linear.events(3), loose(linear)
    terms = linear_hierarchy(linear, q).terms(x, num_samples=20_000, seed=3)
    np.testing.assert_allclose(tf.reduce_sum(terms.kl_by_group, -1), terms.kl, **CLOSE)
    np.testing.assert_allclose(tf.reduce_sum(terms.kl_per_dimension, -1), terms.kl, **CLOSE)
    exact = linear.kl_by_group(q, x)
    np.testing.assert_allclose(terms.kl_by_group[:, 0], exact[:, 0], rtol=1e-5)
    # That of the second group is averaged over the z_1 that were drawn.
    np.testing.assert_allclose(terms.kl_by_group[:, 1], exact[:, 1], rtol=0.03, atol=0.01)
    ratio = tf.reduce_mean(terms.log_posterior - terms.log_prior, axis=0)
    np.testing.assert_allclose(terms.kl, ratio, rtol=0.03, atol=0.03)


def test_gradients_are_those_of_the_exact_elbo(linear):
    x, q = linear.events(2), loose(linear)
    vae = linear_hierarchy(linear, q)
    weights = ladders.posterior_weights(vae)
    with tf.GradientTape() as tape:
        elbo = tf.reduce_mean(vae.terms(x, num_samples=50_000, seed=4, training=True).elbo)
    found = tape.gradient(elbo, weights)
    exact = linear.elbo_gradient(q, x)
    assert len(found) == len(exact)
    for one, other in zip(found, exact, strict=True):
        np.testing.assert_allclose(one, other, rtol=0.05, atol=0.02)


def test_importance_sampling_finds_the_exact_log_prob(linear):
    x = linear.events(40)
    vae = linear_hierarchy(linear, loose(linear))
    found = tfvae.evaluation.log_prob(vae, x, num_samples=500, seed=1)
    off = found.log_probs - linear.log_marginal(x)
    assert abs(off.mean()) < 5 * found.monte_carlo_error + 1e-3
    assert found.elbo.elbo < found.log_prob


@pytest.mark.exhaustive
def test_annealed_importance_sampling_finds_the_exact_log_prob(linear):
    x = linear.events(6)
    vae = linear_hierarchy(linear, loose(linear))
    found = tfvae.evaluation.annealed_log_prob(vae, x, num_steps=30, num_chains=8, seed=1)
    np.testing.assert_allclose(found.log_probs, linear.log_marginal(x), atol=0.2)


def test_samples_have_the_moments_of_the_model(linear):
    vae = linear_hierarchy(linear, exact(linear))
    x = vae.sample(20_000, seed=1, mean=False).numpy()
    np.testing.assert_allclose(np.cov(x.T), linear.covariance(), atol=0.15)
    narrow = vae.sample(20_000, seed=1, temperature=(1.0, 0.0)).numpy()
    np.testing.assert_allclose(np.cov(narrow.T), linear.covariance_of_means_given_first(), atol=0.1)
    still = vae.sample(3, seed=1, temperature=0.0).numpy()
    np.testing.assert_allclose(still, np.tile(still[:1], (3, 1)), atol=1e-6)


# --- one group is a VAE ---------------------------------------------------------------------------

SINGLE = {
    "network": "dense:hidden=8",
    "latent_dim": 3,
    "likelihood": "normal:scale=learned",
    "seed": 0,
}


def test_one_group_is_a_vae_number_for_number(rng):
    x = rng.normal(size=(32, 5)).astype("float32")
    flat = VAE.for_events((5,), **SINGLE)
    one = HierarchicalVAE.for_events((5,), groups=1, **SINGLE)
    assert (one.groups, one.group_sizes, one.has_groups) == (((3,),), (3,), False)
    for vae in (flat, one):
        vae.compile(keras.optimizers.Adam(0.01))
        vae.fit(x, epochs=2, batch_size=8, verbose=0)
    for a, b in zip(flat.variables, one.variables, strict=True):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(flat.elbo(x, seed=1), one.elbo(x, seed=1), strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(flat.sample(4, seed=1), one.sample(4, seed=1))
    np.testing.assert_array_equal(flat.code(x), one.code(x))
    assert one.kl_is_exact


# --- any event ------------------------------------------------------------------------------------

NETWORKS = {
    (7,): ("dense:hidden=8", "2,3"),
    (6, 2): ("conv:filters=4x4,hidden=8", "2,2x3,3x2"),
    (6, 5, 1): ("conv:filters=4,hidden=8", "2,3,3x3x2"),
    (4, 4, 4, 1): ("conv:filters=4,hidden=8", "2x2x2x1,2x2x2x2"),
}
EVENTS = pytest.mark.parametrize("shape", NETWORKS, ids=str)


def small(shape=(7,), **kwargs):
    network, groups = NETWORKS[shape]
    options = {"network": network, "groups": groups, "likelihood": "normal", "seed": 0}
    return HierarchicalVAE.for_events(shape, **{**options, **kwargs})


def stirred(vae, size=0.2):
    """Move the weights away from where q is p."""
    rng = np.random.default_rng(7)
    vae.set_weights([w + size * rng.normal(size=w.shape) for w in vae.get_weights()])
    return vae


def events(shape, count=6):
    return np.random.default_rng(1).normal(size=(count, *shape)).astype("float32")


@pytest.mark.few(3)
@EVENTS
def test_q_starts_at_p_and_all_weights_learn(shape):
    vae, x = small(shape), events(shape)
    np.testing.assert_array_equal(vae.terms(x, seed=1).kl_by_group, 0)
    variables = vae.trainable_variables
    optimizer, reached, losses = keras.optimizers.Adam(0.01), np.zeros(len(variables), bool), []
    for _ in range(5):
        with tf.GradientTape() as tape:
            loss = -tf.reduce_mean(vae.terms(x, seed=5, training=True).elbo)
        gradients = tape.gradient(loss, variables)
        reached |= [bool(np.any(gradient)) for gradient in gradients]
        optimizer.apply_gradients(zip(gradients, variables, strict=True))
        losses.append(float(loss))
    assert losses[-1] < losses[0]
    assert all(reached), [v.path for v, r in zip(variables, reached, strict=True) if not r]


@pytest.mark.few(3)
@EVENTS
def test_densities_of_the_one_pass_are_those_of_the_distributions(shape):
    vae, x = stirred(small(shape)), events(shape)
    terms = vae.terms(x, num_samples=2, seed=1)
    assert terms.z.shape == (2, 6, vae.latent_dim)
    assert vae.latent_dim == sum(vae.group_sizes)
    np.testing.assert_allclose(terms.log_prior, vae.prior.log_prob(terms.z), **CLOSE)
    np.testing.assert_allclose(terms.log_posterior, vae.encode(x).log_prob(terms.z), **CLOSE)
    np.testing.assert_allclose(terms.log_likelihood, vae.log_likelihood(x, terms.z), **CLOSE)
    np.testing.assert_allclose(tf.reduce_sum(terms.kl_by_group, -1), terms.kl, **CLOSE)
    assert not vae.kl_is_exact
    seeds = tf.stack([tf.range(6), tf.ones(6, tf.int32)], axis=1)
    alone = vae.elbo(x[3:4], seed=seeds[3:4]).elbo
    np.testing.assert_allclose(vae.elbo(x, seed=seeds).elbo[3:4], alone, **CLOSE)
    groups = vae.split_latent(terms.z)
    assert [tuple(one.shape) for one in groups] == [(2, 6, *shape) for shape in vae.groups]
    np.testing.assert_array_equal(vae.join_latent(groups), terms.z)


@pytest.mark.few(2)
@EVENTS
def test_saved_models_come_back_bit_for_bit(shape, tmp_path):
    vae, x = stirred(small(shape)), events(shape)
    vae.save(tmp_path / "model.keras")
    loaded = tfvae.load(tmp_path / "model.keras")
    assert type(loaded) is HierarchicalVAE
    assert loaded.groups == vae.groups
    for one, two in zip(vae.elbo(x, seed=3), loaded.elbo(x, seed=3), strict=True):
        np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(vae.sample(3, seed=1), loaded.sample(3, seed=1))
