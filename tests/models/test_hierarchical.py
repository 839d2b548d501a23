"""Hierarchies of latents: against a linear model that is known exactly, and as any other model."""

import components
import keras
import ladders
import numpy as np
import pytest
import tensorflow as tf
from ladders import exact, linear_hierarchy, loose

import tfvae
from tfvae import VAE, HierarchicalVAE, InputError
from tfvae.training import train

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


def test_draws_of_each_event_from_a_seed_of_its_own(linear):
    x = linear.events(4)
    vae = linear_hierarchy(linear, loose(linear))
    encoded = vae.posterior_parameters(x)
    seeds = tf.stack([tf.range(4), tf.ones(4, tf.int32)], axis=1)
    # More rows than go down at a time.
    z, log_prob = vae.posterior_family.sample_each(encoded, 200, seeds)
    assert z.shape == (200, 4, 3)
    np.testing.assert_allclose(log_prob, vae.encode(x).log_prob(z), **CLOSE)
    some = {name: value[2:3] for name, value in encoded.items()}
    alone, _ = vae.posterior_family.sample_each(some, 200, seeds[2:3])
    np.testing.assert_allclose(alone[:, 0], z[:, 2], **CLOSE)


@pytest.mark.exhaustive
def test_importance_sampling_finds_the_exact_log_prob(linear):
    x = linear.events(20)
    vae = linear_hierarchy(linear, loose(linear))
    found = tfvae.evaluation.log_prob(vae, x, num_samples=300, seed=1)
    off = found.log_probs - linear.log_marginal(x)
    assert abs(off.mean()) < 5 * found.monte_carlo_error + 1e-3
    assert found.elbo.elbo < found.log_prob


@pytest.mark.exhaustive
def test_annealed_importance_sampling_finds_the_exact_log_prob(linear):
    x = linear.events(6)
    vae = linear_hierarchy(linear, loose(linear))
    found = tfvae.evaluation.annealed_log_prob(vae, x, num_steps=30, num_chains=64, seed=1)
    exact_mean = linear.log_marginal(x).mean()
    # The logarithm of a mean is low by half its relative variance.
    bias = np.mean(0.5 * (1 / found.effective_sample_sizes - 1 / 64))
    assert found.monte_carlo_error < 0.05
    assert abs(found.log_prob + bias - exact_mean) < 4 * found.monte_carlo_error


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
        vae.compile(keras.optimizers.Adam(0.01), run_eagerly=True)
        vae.fit(x, epochs=1, batch_size=8, verbose=0)
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
    (6, 5, 1): ("conv:filters=4,hidden=8,blocks=1", "2,3,3x3x2"),
    (4, 4, 4, 1): ("conv:filters=4,hidden=8", "2x2x2x1,2x2x2x2"),
}
IMAGE = (6, 5, 1)


def shapes(quick, other):
    """One shape of the quick suite and another: each of the tests of any event has its own."""
    cases = [quick, pytest.param(other, marks=pytest.mark.exhaustive)]
    return pytest.mark.parametrize("shape", cases, ids=str)


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


def test_a_number_of_groups_is_of_so_many_vectors():
    for shape in ((7,), IMAGE):
        vae = HierarchicalVAE.for_events(shape, groups=3, latent_dim=2, seed=0)
        assert vae.groups == ((2,), (2,), (2,))


@shapes((7,), IMAGE)
def test_q_starts_at_p_and_all_weights_learn(shape):
    vae, x = small(shape), events(shape, 2)
    np.testing.assert_array_equal(vae.terms(x, seed=1).kl_by_group, 0)
    variables = vae.trainable_variables
    optimizer, reached, losses = keras.optimizers.Adam(0.01), np.zeros(len(variables), bool), []
    for _ in range(3):
        with tf.GradientTape() as tape:
            loss = -tf.reduce_mean(vae.terms(x, seed=5, training=True).elbo)
        gradients = tape.gradient(loss, variables)
        reached |= [bool(np.any(gradient)) for gradient in gradients]
        optimizer.apply_gradients(zip(gradients, variables, strict=True))
        losses.append(float(loss))
    assert losses[-1] < losses[0]
    assert all(reached), [v.path for v, r in zip(variables, reached, strict=True) if not r]


@pytest.mark.exhaustive
def test_densities_of_the_one_pass_are_those_of_the_distributions():
    shape = (4, 4, 4, 1)
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


@shapes((7,), (6, 2))
def test_saved_models_come_back_bit_for_bit(shape, tmp_path):
    vae, x = stirred(small(shape)), events(shape)
    vae.save(tmp_path / "model.keras")
    loaded = tfvae.load(tmp_path / "model.keras")
    assert type(loaded) is HierarchicalVAE
    assert loaded.groups == vae.groups
    for one, two in zip(vae.elbo(x, seed=3), loaded.elbo(x, seed=3), strict=True):
        np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(vae.sample(3, seed=1), loaded.sample(3, seed=1))


@pytest.mark.exhaustive
def test_fit_and_the_loop_end_in_the_same_weights_and_a_stopped_one_goes_on(tmp_path):
    data = tf.data.Dataset.from_tensor_slices(events((7,), 8)).batch(4)
    models = [small() for _ in range(3)]
    for vae in models:
        vae.compile(keras.optimizers.Adam(0.01), run_eagerly=True)
    fitted, stopped, resumed = models
    fitted.fit(data, epochs=2, verbose=0)
    options = {"checkpoint_dir": tmp_path, "progress": False}
    train(stopped, data, epochs=1, **options)
    train(resumed, data, epochs=2, **options)
    for a, b in zip(fitted.variables, resumed.variables, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_holes_and_labels():
    x, label = events(IMAGE), [0, 1, 2, 0, 1, 2]
    vae = stirred(small(IMAGE, num_classes=3, missing=True))
    x[:, 2] = np.nan
    terms = vae.terms(x, label, num_samples=2, seed=1)
    prior = vae.prior_of(label).log_prob(terms.z)
    np.testing.assert_allclose(terms.log_prior, prior, **CLOSE)
    np.testing.assert_allclose(terms.log_posterior, vae.encode(x, label).log_prob(terms.z), **CLOSE)
    assert np.isfinite(vae.impute(x, label, num_samples=3, seed=1)).all()
    # Without a label p(z) is the mean over all of them.
    each = tf.stack([vae.prior_of([one] * 6).log_prob(terms.z[0]) for one in range(3)])
    mean = tf.reduce_logsumexp(each, axis=0) - np.log(3)
    np.testing.assert_allclose(vae.prior.log_prob(terms.z[0]), mean, rtol=1e-4)
    seeds = tf.constant([[1, 0], [2, 0]])
    both = vae.sample(2, label=[0, 1], seed=seeds)
    np.testing.assert_allclose(vae.sample(1, label=1, seed=seeds[1:])[0], both[1], **CLOSE)
    plain = vae.keras_encoder()
    code = plain([x, np.eye(3)[label]])
    np.testing.assert_allclose(code, vae.code(x, label), **CLOSE)


@pytest.mark.few(1)
@pytest.mark.parametrize("prior", ["realnvp:flows=2,hidden=8", "vamp:pseudo_inputs=2"])
def test_any_prior_and_posterior_of_the_first_group(prior):
    vae, x = stirred(small(prior=prior, posterior="iaf:flows=2,hidden=8")), events((7,))
    terms = vae.terms(x, num_samples=2, seed=1)
    assert terms.kl_per_dimension is None
    np.testing.assert_allclose(terms.log_prior, vae.prior.log_prob(terms.z), rtol=1e-4, atol=1e-4)
    ratio = tf.reduce_sum(terms.kl_by_group, axis=-1)
    np.testing.assert_allclose(terms.kl, ratio, **CLOSE)
    again = HierarchicalVAE.from_config(vae.get_config())
    assert again.get_config()["prior"] == vae.get_config()["prior"]


@pytest.mark.parametrize(
    "likelihood", ["bernoulli", "normal:scale=optimal", "discretized_logistic:levels=4"]
)
def test_other_likelihoods(likelihood):
    vae = stirred(small(likelihood=likelihood))
    x = components.events(components.LIKELIHOODS[likelihood], (7,))
    terms = vae.terms(x, seed=1)
    assert np.isfinite(terms.elbo).all()
    np.testing.assert_allclose(terms.log_likelihood, vae.log_likelihood(x, terms.z), **CLOSE)


# --- objectives -----------------------------------------------------------------------------------


def loss_of(objective, terms):
    return tfvae.objectives.get(objective)(terms).numpy()


def test_weights_and_floors_are_of_groups():
    vae, x = stirred(small()), events((7,))
    terms = vae.terms(x, seed=1)
    kl, fit = terms.kl_by_group.numpy(), terms.mean_log_likelihood.numpy()
    np.testing.assert_allclose(loss_of("elbo:beta=2x0.5", terms), -fit + kl @ [2, 0.5], rtol=1e-5)
    floor = float(kl.mean(axis=0).min()) + 0.01
    held = np.where(kl.mean(axis=0) < floor, floor, kl)
    found = loss_of(f"free_bits:nats={floor}", terms)
    np.testing.assert_allclose(found, -fit + held.sum(-1), rtol=1e-5)
    assert np.any(held != kl)
    share = (kl.mean(axis=0) + 0.01) / vae.group_sizes
    balanced = -fit + 0.5 * kl @ (share / share.mean())
    found = loss_of("elbo:beta=0.5,balance=true", terms)
    np.testing.assert_allclose(found, balanced, rtol=1e-5)
    # When the warm-up is over, it is the ELBO.
    np.testing.assert_allclose(loss_of("elbo:balance=true", terms), -terms.elbo, rtol=1e-6)
    weights = tfvae.objectives.ELBO(beta=["linear(steps=4)", 1.0])
    assert weights.schedules[0].warm_up_steps == 4
    again = tfvae.objectives.ELBO.from_config(weights.get_config())
    np.testing.assert_allclose(again.beta(2), [0.5, 1.0])


def test_gradients_of_path_objectives_are_the_elbos_in_expectation(linear):
    x, q = linear.events(2), loose(linear)
    exact_gradient = linear.elbo_gradient(q, x)
    for objective in ("stl:num_samples=20000", "dreg:num_samples=1"):
        vae = linear_hierarchy(linear, q, objective=objective)
        draws = 20_000 if objective.startswith("stl") else 1
        rows = x if draws > 1 else np.repeat(x, 10_000, axis=0)
        with tf.GradientTape() as tape:
            terms = vae.terms(rows, num_samples=draws, seed=4, training=True)
            loss = tf.reduce_mean(vae.objective(terms))
        found = tape.gradient(loss, ladders.posterior_weights(vae))
        for one, other in zip(found, exact_gradient, strict=True):
            np.testing.assert_allclose(-one, other, rtol=0.05, atol=0.03)


# --- gradients that are too long ------------------------------------------------------------------


def assert_long_gradients_are_left_out(vae, **options):
    """Those of `fit` and of the loop, two updates each."""
    x = events((7,), 8)
    vae.adapted = True
    vae.compile(keras.optimizers.SGD(0.01), skip_norm=1e-6, **options)
    before = vae.get_weights()
    vae.fit(x, verbose=0, batch_size=4)
    data = tf.data.Dataset.from_tensor_slices(x).batch(4)
    train(vae, data, progress=False)
    for a, b in zip(before, vae.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_updates_with_long_gradients_are_left_out(tmp_path):
    vae = small()
    before = vae.get_weights()
    assert_long_gradients_are_left_out(vae, run_eagerly=True)
    vae.save(tmp_path / "model.keras")
    assert keras.models.load_model(tmp_path / "model.keras").skip_norm == 1e-6
    vae.compile(keras.optimizers.SGD(0.01), skip_norm=1e9, run_eagerly=True)
    vae.fit(events((7,), 8), verbose=0, batch_size=4)
    assert any(np.any(a != b) for a, b in zip(before, vae.get_weights(), strict=True))
    with pytest.raises(InputError, match="skip_norm is a finite number above 0"):
        vae.compile("adam", skip_norm=-1)


@pytest.mark.exhaustive
def test_updates_with_long_gradients_are_left_out_of_graphs_and_by_xla():
    """Of any model: a hierarchy's would take XLA long to compile."""
    assert_long_gradients_are_left_out(VAE.for_events((7,), **SINGLE), jit_compile=True)


def test_wild_networks_have_finite_terms():
    vae = stirred(small(), size=3.0)
    terms = vae.terms(events((7,)), seed=1)
    for values in (terms.kl_by_group, terms.log_prior, terms.log_posterior, terms.z):
        assert np.isfinite(values).all()


@pytest.mark.exhaustive
def test_a_long_training_in_bfloat16_stays_finite():
    keras.config.set_dtype_policy("mixed_bfloat16")
    vae, x = small(), events((7,), 64)
    vae.compile(keras.optimizers.Adam(0.01), skip_norm=1e5)
    data = tf.data.Dataset.from_tensor_slices(x).batch(16).repeat(75)
    history = vae.fit(data, epochs=2, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    assert history["elbo"][-1] > history["elbo"][0]


# --- evaluation, pictures, export -----------------------------------------------------------------


@pytest.mark.exhaustive
def test_a_diagnosis_knows_the_groups():
    vae = stirred(small())
    found = tfvae.evaluation.diagnose(vae, events((7,), 40), num_samples=2)
    assert found.group_sizes == (2, 3)
    np.testing.assert_allclose(found.kl_by_group.sum(), found.rate, rtol=1e-5)
    np.testing.assert_allclose(found.kl_per_dimension.sum(), found.rate, rtol=1e-5)
    assert sum(found.active_by_group) == found.active_units
    assert found.mutual_information <= np.log(40)
    tfvae.plotting.diagnosis(found)


def test_each_group_adds_to_a_picture():
    vae = stirred(small(IMAGE))
    rows = vae.group_effects(n=4, seed=1).numpy()
    assert rows.shape == (3, 4, *IMAGE)
    spread = rows.std(axis=1).mean(axis=(1, 2, 3))
    assert spread[0] > spread[2] > 0
    z = vae.prior.sample(2, seed=1)
    kept = vae.sample_below(z, 3, 2, seed=1)
    for one in (0, 1):
        np.testing.assert_allclose(kept[:, one], vae.decode(z).mean(), **CLOSE)
    tfvae.plotting.group_rows(rows)


def test_another_prior_changes_that_of_the_first_group_alone():
    vae, x = stirred(small()), events((7,))
    before = vae.terms(x, seed=1)
    other = vae.with_prior("mixture:components=2")
    for model in (vae, other):
        np.testing.assert_array_equal(model.terms(x, seed=1).z, before.z)
    after = other.terms(x, seed=1)
    np.testing.assert_allclose(after.kl_by_group[:, 1], before.kl_by_group[:, 1], rtol=1e-5)
    assert np.all(after.kl_by_group[:, 0] != before.kl_by_group[:, 0])


@pytest.mark.exhaustive
def test_a_density_of_the_codes_takes_the_place_of_the_first_prior():
    vae, x = stirred(small()), events((7,), 64)
    prior = tfvae.evaluation.fit_prior(vae, x, "gaussian_mixture:components=2")
    assert vae.with_prior(prior).sample(3, seed=1).shape == (3, 7)


@pytest.mark.exhaustive
def test_a_saved_model_for_servers_gives_the_same(tmp_path):
    vae, x = stirred(small()), events((7,))
    vae.export(tmp_path / "exported", num_samples=3)
    signatures = tf.saved_model.load(tmp_path / "exported").signatures
    seed = tf.stack([tf.range(6), tf.ones(6, tf.int32)], axis=1)
    close = {"rtol": 1e-4, "atol": 1e-4}
    served = signatures["elbo"](x=tf.constant(x), seed=seed)
    for name, value in vae.elbo(x, seed=seed)._asdict().items():
        np.testing.assert_allclose(served[name], value, **close)
    np.testing.assert_allclose(
        signatures["sample"](seed=seed)["x"], vae.sample(6, seed=seed), **close
    )
    code = signatures["encode"](x=tf.constant(x))["loc"]
    np.testing.assert_allclose(code, vae.code(x), **close)
    assert np.isfinite(signatures["log_prob"](x=tf.constant(x), seed=seed)["log_prob"]).all()
    again = tfvae.load(tmp_path / "exported")
    np.testing.assert_array_equal(again.elbo(x, seed=1).elbo, vae.elbo(x, seed=1).elbo)


# --- what does not fit ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"groups": "4,2x2x2"}, "groups of network .dense. are vectors"),
        ({"groups": 0}, "groups is a whole number"),
        ({"groups": "4,x"}, "a group is a whole number"),
        ({"shape": IMAGE, "groups": "4,5x5x1"}, "is a vector or a map of 3x3xC; received 5x5x1"),
        ({"shape": IMAGE, "groups": "3x3x1,4"}, "go from vectors and small maps to large ones"),
        ({"objective": "elbo:beta=1x2x3"}, "beta has 3 weights, and the model 2 groups"),
        ({"objective": "free_bits:groups=5"}, "leave groups out"),
        ({"objective": "beta_tc:dataset_size=9"}, "needs a posterior that factorises"),
        ({"network": "residual"}, "unknown network of a hierarchy 'residual'"),
        ({"latent_dim": 0, "groups": 2}, "latent_dim is a whole number"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(options, message):
    options = dict(options)
    with pytest.raises(InputError, match=message) as caught:
        small(options.pop("shape", (7,)), **options)
    assert "\n" not in str(caught.value)


def test_temperatures_and_groups_that_do_not_fit_are_refused():
    vae = small()
    for temperature in (-1.0, (1.0,) * 3, "hot", float("nan")):
        with pytest.raises(InputError, match="temperature is a number from 0"):
            vae.sample(2, temperature=temperature)
    with pytest.raises(InputError, match="temperature of z_1 is for normal priors"):
        small(prior="realnvp:flows=2,hidden=8").sample(2, temperature=0.5)
    with pytest.raises(InputError, match="fixed is a whole number up to 2"):
        vae.sample_below(np.zeros((1, 5)), 3, 2)
    with pytest.raises(InputError, match="expected groups"):
        vae.join_latent([np.zeros((1, 2))])
    with pytest.raises(InputError, match="balance weighs the groups itself"):
        tfvae.objectives.ELBO(beta=[1, 2], balance=True)
    x = keras.Input((3,))
    with pytest.raises(InputError, match="a list of as many features"):
        one = keras.Model(x, keras.layers.Dense(4)(x))
        HierarchicalVAE(one, vae.decoder, likelihood="normal")
