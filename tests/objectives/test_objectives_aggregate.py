"""Objectives of the aggregate posterior, against quadrature, closed forms and double loops."""

import dataclasses
import itertools

import analytic
import keras
import numpy as np
import pytest
import tensorflow as tf
from linear_vae import (
    EPS,
    LATENT,
    D,
    as_images,
    estimate,
    linear_gaussian,
    linear_vae,
    points,
    terms_of,
)
from scipy import special

from tfvae import VAE, InputError, objectives
from tfvae.objectives import (
    ELBO,
    BetaTC,
    FactorVAE,
    InfoVAE,
    Terms,
    decompose_kl,
    maximum_mean_discrepancy,
)

# Four images in two dimensions, their posteriors correlated over the data set.
LOC = np.array([[-1.0, -0.8], [0.1, -0.3], [0.4, 0.9], [1.2, 1.1]])
LOG_VAR = np.array([[-1.2, -0.5], [-2.0, -1.0], [-0.7, -1.6], [-1.0, -2.2]])


# --- the three parts of the KL --------------------------------------------------------------------


def log_densities(z, loc, log_var):
    """log q(z_j|x_n) for `z` `[..., d]` and N images: `[..., N, d]`."""
    return analytic.normal_log_prob(z[..., None, :], loc, np.exp(0.5 * log_var))


def decompose(z, loc, log_var, size):
    """The parts in float64, each `[K, B]`: a draw's own image counts 1/N, the others the rest."""
    count = len(loc)
    share = np.where(np.eye(count) == 1, 1 / size, (1 - 1 / size) / max(count - 1, 1))
    pairwise = log_densities(z, loc, log_var)  # [K, B, B, d]
    joint = special.logsumexp(pairwise.sum(-1), axis=-1, b=share)
    product = special.logsumexp(pairwise, axis=-2, b=share[..., None]).sum(-1)
    own = analytic.normal_log_prob(z, loc, np.exp(0.5 * log_var)).sum(-1)
    prior = analytic.normal_log_prob(z, 0, 1.0).sum(-1)
    return own - joint, joint - product, product - prior


def quadrature(loc, log_var):
    """I(x; z), TC(z) and Σ_j KL(q(z_j) ‖ p(z_j)) of two dimensions, on a grid.

    The densities are smooth and vanish at its ends: the trapezoidal rule is good to many digits.
    """
    grid, h = np.linspace(-8, 8, 641, retstep=True)
    z = np.stack(np.meshgrid(grid, grid, indexing="ij"), axis=-1)
    each = log_densities(z, loc, log_var)
    joint = special.logsumexp(each.sum(-1), axis=-1) - np.log(len(loc))
    marginals = special.logsumexp(each, axis=-2) - np.log(len(loc))
    density = np.exp(joint) * h**2
    information = (np.exp(each.sum(-1)) * (each.sum(-1) - joint[..., None])).sum((0, 1)) * h**2
    correlation = (density * (joint - marginals.sum(-1))).sum()
    dimensions = (density[..., None] * (marginals - analytic.normal_log_prob(z, 0, 1.0))).sum()
    return information.mean(), correlation, dimensions


def test_the_parts_sum_to_the_log_ratio(rng):
    terms = terms_of(LOC, LOG_VAR, num_samples=50)
    for size in (4, 1000, 10**6):
        parts = decompose_kl(terms.posterior, terms.prior, terms.z, size)
        total = tf.add_n(list(parts))
        assert total.shape == (50, 4)
        np.testing.assert_allclose(
            total, terms.log_posterior - terms.log_prior, rtol=0, atol=100 * EPS
        )


@pytest.mark.parametrize("size", [4, 50, 60_000])
def test_each_part_is_the_formulas(size):
    terms = terms_of(LOC, LOG_VAR, num_samples=50)
    parts = decompose_kl(terms.posterior, terms.prior, terms.z, size)
    expected = decompose(terms.z.numpy().astype(np.float64), LOC, LOG_VAR, size)
    for part, other in zip(parts, expected, strict=True):
        np.testing.assert_allclose(part, other, rtol=1e-5, atol=1e-5)


def test_of_the_whole_data_set_they_are_those_of_quadrature():
    known = quadrature(LOC, LOG_VAR)
    # The reference agrees with the closed form of their sum.
    kl = analytic.gaussian_kl(LOC, LOG_VAR).sum(-1).mean()
    np.testing.assert_allclose(sum(known), kl, rtol=1e-8)
    terms = terms_of(LOC, LOG_VAR, num_samples=20_000)
    parts = decompose_kl(terms.posterior, terms.prior, terms.z, len(LOC))
    for part, exact in zip(parts, known, strict=True):
        mean, error = estimate(part.numpy().mean(1))
        assert abs(mean - exact) <= 4 * error
        # None of them is near zero, and the bars are narrow.
        assert exact > 20 * error


def test_the_total_correlation_of_a_product_is_zero():
    # Means on a rectangular grid and one variance a dimension: q(z) = q(z_1) q(z_2) at every z.
    loc = np.array([[a, b] for a in (-1.5, 0.2, 1.0) for b in (-0.7, 2.0)])
    terms = terms_of(loc, np.tile([-1.0, 0.4], (6, 1)), num_samples=100)
    parts = decompose_kl(terms.posterior, terms.prior, terms.z, 6)
    assert np.abs(parts.total_correlation).max() <= 30 * EPS
    assert np.abs(parts.mutual_information).min() > 30 * EPS


def test_the_estimate_of_the_density_is_unbiased_over_batches(rng):
    # A draw of image 0 in every batch of three of six images that holds it.
    loc, log_var = rng.normal(size=(2, 6, 2))
    z = np.float32(loc[0] + rng.normal(size=(20, 2)))
    exact = np.exp(log_densities(z.astype(np.float64), loc, log_var).sum(-1)).mean(-1)
    marginals = np.exp(log_densities(z.astype(np.float64), loc, log_var)).mean(-2).prod(-1)
    estimates = []
    for others in itertools.combinations(range(1, 6), 2):
        batch = [0, *others]
        terms = terms_of(loc[batch], log_var[batch])
        draws = tf.tile(tf.constant(z)[:, None], (1, 3, 1))
        parts = decompose_kl(terms.posterior, terms.prior, draws, 6)
        own = terms.posterior.log_prob(draws)
        estimates.append(tf.exp(own - parts.mutual_information)[:, 0])
    np.testing.assert_allclose(np.mean(estimates, 0), exact, rtol=1e-5)
    # It does vary from batch to batch, and is no estimate of something else.
    assert np.all(np.std(estimates, 0) > 1e-2 * exact)
    assert not np.allclose(marginals, exact, rtol=0.1)


def test_one_event_tells_nothing_of_the_aggregate():
    terms = terms_of(LOC[:1], LOG_VAR[:1], num_samples=50)
    parts = decompose_kl(terms.posterior, terms.prior, terms.z, 1000)
    np.testing.assert_allclose(parts.mutual_information, np.zeros((50, 1)), atol=20 * EPS)
    np.testing.assert_allclose(parts.total_correlation, np.zeros((50, 1)), atol=20 * EPS)
    log_ratio = terms.log_posterior - terms.log_prior
    np.testing.assert_allclose(parts.dimension_wise_kl, log_ratio, atol=20 * EPS)


@pytest.mark.parametrize("dataset_size", [2, 100, 60_000])
def test_beta_tc_of_one_event_is_the_negative_elbo(dataset_size):
    terms = terms_of(LOC[:1], LOG_VAR[:1])
    for objective in (BetaTC(dataset_size), BetaTC(dataset_size, alpha=0, beta=4, gamma=3)):
        np.testing.assert_array_equal(objective(terms), -terms.elbo)


def test_a_batch_of_one_event_has_gradients():
    loc, log_var = tf.Variable(LOC[:1], dtype=tf.float32), tf.Variable(LOG_VAR[:1], tf.float32)
    with tf.GradientTape() as tape:
        loss = BetaTC(100)(terms_of(loc, tf.cast(log_var, tf.float32)))
    assert np.all(np.isfinite(loss))
    assert all(np.all(np.isfinite(g)) for g in tape.gradient(loss, [loc, log_var]))


# --- β-TCVAE --------------------------------------------------------------------------------------


def test_beta_tc_weighs_each_part():
    terms = terms_of(LOC, LOG_VAR)
    information, correlation, dimensions = decompose(
        terms.z.numpy().astype(np.float64), LOC, LOG_VAR, 4
    )
    kl = analytic.gaussian_kl(LOC, LOG_VAR).sum(-1)
    log_likelihood = terms.mean_log_likelihood.numpy()
    for alpha, beta, gamma in [(1, 6, 1), (0, 1, 1), (1, 1, 3), (0.5, 4, 2)]:
        loss = BetaTC(4, alpha=alpha, beta=beta, gamma=gamma)(terms)
        assert loss.shape == (4,)
        surplus = (alpha - 1) * information + (beta - 1) * correlation + (gamma - 1) * dimensions
        np.testing.assert_allclose(loss, kl + surplus[0] - log_likelihood, rtol=1e-5)


def test_beta_tc_with_all_weights_one_is_the_negative_elbo():
    terms = terms_of(LOC, LOG_VAR)
    np.testing.assert_array_equal(BetaTC(4, alpha=1, beta=1, gamma=1)(terms), -terms.elbo)


def test_the_gradient_of_beta_tc_is_its_slope(rng):
    # By central differences in float64, z moving with μ and λ.
    weights = {"alpha": 0.5, "beta": 4.0, "gamma": 2.0}
    loc, log_var = (tf.Variable(v, dtype=tf.float32) for v in (LOC, LOG_VAR))
    with tf.GradientTape() as tape:
        terms = terms_of(loc, tf.convert_to_tensor(log_var))
        loss = tf.reduce_mean(BetaTC(50, **weights)(terms))
    gradient = tape.gradient(loss, [loc, log_var])
    epsilon = (terms.z.numpy() - LOC) * np.exp(-0.5 * LOG_VAR)

    def value(loc, log_var):
        z = loc + np.exp(0.5 * log_var) * epsilon
        information, correlation, dimensions = decompose(z, loc, log_var, 50)
        kl = analytic.gaussian_kl(loc, log_var).sum(-1)
        return (kl - 0.5 * information + 3 * correlation + 1 * dimensions).mean()

    h = 1e-5
    for index in np.ndindex(4, 2):
        step = np.zeros((4, 2))
        step[index] = h
        by_loc = (value(LOC + step, LOG_VAR) - value(LOC - step, LOG_VAR)) / (2 * h)
        by_log_var = (value(LOC, LOG_VAR + step) - value(LOC, LOG_VAR - step)) / (2 * h)
        np.testing.assert_allclose(gradient[0].numpy()[index], by_loc, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(gradient[1].numpy()[index], by_log_var, rtol=1e-4, atol=1e-5)


def test_the_size_of_the_data_set_is_filled_in():
    assert objectives.get("beta_tc", {"dataset_size": 100}).dataset_size == 100
    assert objectives.get("beta_tc:dataset_size=7,beta=2", {"dataset_size": 100}).dataset_size == 7
    assert objectives.get("elbo", {"dataset_size": 100}).num_samples == 1
    with pytest.raises(InputError, match="objective 'beta_tc' needs dataset_size=: write") as e:
        objectives.get("beta_tc")
    assert "\n" not in str(e.value)


# --- FactorVAE ------------------------------------------------------------------------------------


@pytest.fixture
def images(rng):
    return as_images(points(linear_gaussian(rng, orthogonal=False), rng, 8))


def factor_vae(**options):
    """A model whose D knows something already: its last layer starts from zeros."""
    model = linear_gaussian(np.random.default_rng(0), orthogonal=False)
    weights = model.posterior_weights()
    objective = FactorVAE(**{"hidden": 8, "layers": 2} | options)
    vae = linear_vae(model, weights, np.zeros(LATENT), np.array([0.3, 0.5]), objective=objective)
    rng = np.random.default_rng(1)
    for weight in objective.network.trainable_variables:
        weight.assign(rng.normal(size=weight.shape).astype(np.float32))
    return vae


def gradients_of(vae, images, variables, loss=None):
    loss = loss or vae.objective
    with tf.GradientTape() as tape:
        value = tf.reduce_mean(loss(vae.terms(images, seed=1, training=True)))
    return tape.gradient(value, [variable.value for variable in variables])


def own_variables(vae):
    """Those of encoder and decoder, without D's."""
    return [*vae.encoder.trainable_variables, *vae.decoder.trainable_variables]


def test_the_discriminator_is_trained_and_saved_with_the_model(images, tmp_path):
    vae = factor_vae()
    network = vae.objective.network
    assert len(network.trainable_variables) == 6
    held = {id(variable) for variable in vae.trainable_variables}
    assert held == {id(v) for v in [*own_variables(vae), *network.trainable_variables]}
    vae.compile(keras.optimizers.Adam(1e-3), run_eagerly=True)
    before = [weight.numpy() for weight in network.trainable_variables]
    vae.train_on_batch(images)
    for one, other in zip(before, network.trainable_variables, strict=True):
        assert np.any(one != other.numpy())
    vae.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.objective.get_config() == vae.objective.get_config()
    for one, other in zip(network.weights, loaded.objective.network.weights, strict=True):
        np.testing.assert_array_equal(one, other)
    assert len(loaded.optimizer.variables) == len(vae.optimizer.variables)
    terms = vae.terms(images, seed=1)
    np.testing.assert_array_equal(vae.objective(terms), loaded.objective(terms))


def test_the_loss_is_the_models_alone(images):
    vae = factor_vae(gamma=3)
    terms = vae.terms(images, seed=1)
    logit = vae.objective.network(terms.z[0])[:, 0]
    np.testing.assert_allclose(vae.objective(terms), -terms.elbo + 3 * logit, rtol=1e-5)


def test_the_model_learns_from_the_discriminator_and_does_not_train_it(images):
    vae = factor_vae(gamma=3)
    variables = own_variables(vae)
    network = vae.objective.network
    found = gradients_of(vae, images, variables)
    expected = gradients_of(
        vae, images, variables, lambda terms: -terms.elbo + 3 * network(terms.z[0])[:, 0]
    )
    for one, other in zip(found, expected, strict=True):
        assert np.all(np.abs(one - other) <= 1e-5 * np.abs(other).max())
    # Without γ nothing of D is left: not of its own loss either.
    alone = factor_vae(gamma=0)
    without = gradients_of(alone, images, own_variables(alone))
    elbo = gradients_of(alone, images, own_variables(alone), ELBO())
    for one, other, with_gamma, name in zip(
        without, elbo, found, [v.path for v in variables], strict=True
    ):
        assert np.all(np.abs(one - other) <= 1e-5 * np.abs(other).max())
        if "loc" in name or "log_var" in name:
            assert np.abs(with_gamma - other).max() > 1e-3 * np.abs(other).max()


def test_the_discriminator_learns_its_own_task_whatever_gamma_is(images):
    found = {}
    for gamma in (0, 50):
        vae = factor_vae(gamma=gamma)
        network = vae.objective.network
        found[gamma] = gradients_of(vae, images, network.trainable_variables)
        # Cross-entropy of D, its inputs recorded on the way.
        seen = seen_by(vae.objective, vae.terms(images, seed=1, training=True))
        with tf.GradientTape() as tape:
            real, shuffled = (network(z)[:, 0] for z in seen)
            surprise = tf.reduce_mean(tf.math.softplus(-real)) + tf.reduce_mean(
                tf.math.softplus(shuffled)
            )
            loss = 0.5 * surprise
        expected = tape.gradient(loss, [v.value for v in network.trainable_variables])
        for one, other in zip(found[gamma], expected, strict=True):
            assert np.all(np.abs(one - other) <= 1e-5 * np.abs(other).max())
    for one, other in zip(found[0], found[50], strict=True):
        np.testing.assert_array_equal(one, other)


def seen_by(objective, terms):
    """What D is trained on: draws as they are, and shuffled ones."""
    network, seen = objective.network, []

    def recording(z):
        seen.append(z)
        return network(z)

    objective.network = recording
    objective(terms)
    objective.network = network
    return seen[-2:]


def test_shuffling_keeps_each_dimension_and_breaks_their_ties(rng):
    objective = FactorVAE(hidden=4, layers=1)
    objective.build(3, seed=0)
    # Rows of equal numbers: as tied as can be.
    z = np.repeat(rng.normal(size=(200, 1)), 3, axis=1).astype(np.float32)
    real, shuffled = (v.numpy() for v in seen_by(objective, terms_at(z)))
    np.testing.assert_array_equal(real, z[:100])
    for column in range(3):
        np.testing.assert_array_equal(np.sort(shuffled[:, column]), np.sort(z[100:, column]))
    # Of a random order some one number stays where it was, and each dimension has its own order.
    for one, other in itertools.combinations([*shuffled.T, z[100:, 0]], 2):
        assert np.mean(one == other) < 0.1


def terms_at(z):
    """Terms of draws alone: an ELBO of zero."""
    count = len(z)
    zeros = tf.zeros((1, count))
    return Terms(
        x=tf.zeros((count, 1, 1, 1)),
        z=tf.constant(z)[None],
        posterior=None,
        prior=None,
        likelihood=None,
        log_likelihood=zeros,
        log_posterior=zeros,
        log_prior=zeros,
        kl=zeros[0],
        seed=tf.constant([5, 6]),
    )


def test_the_discriminator_finds_the_total_correlation(rng):
    # Of N(0, [[1, ρ], [ρ, 1]]) it is −½ log(1 − ρ²).
    rho = 0.8
    factor = tf.constant(np.linalg.cholesky([[1, rho], [rho, 1]]).T, tf.float32)
    objective = FactorVAE(gamma=1, hidden=64, layers=2)
    objective.build(2, seed=0)
    variables = objective.network.trainable_variables
    optimizer = keras.optimizers.Adam(keras.optimizers.schedules.PolynomialDecay(5e-3, 400, 1e-4))
    optimizer.build(variables)

    def draws(count, seed):
        return tf.random.stateless_normal((count, 2), seed) @ factor

    blank = terms_at(np.zeros((1_000, 2), np.float32))

    @tf.function
    def step(number):
        seed = tf.stack([number, 0])
        terms = dataclasses.replace(blank, z=draws(1_000, seed)[None], seed=seed + 1)
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(objective(terms))
        optimizer.apply(tape.gradient(loss, [v.value for v in variables]), variables)

    for number in range(400):
        step(tf.constant(number))
    loss = objective(terms_at(draws(20_000, (1, 1)).numpy()))
    mean, error = estimate(loss.numpy())
    exact = -0.5 * np.log(1 - rho**2)
    # 400 batches leave D some percent from log q(z)/∏ q(z_j), the best there is. A D that took
    # the one for the other would find minus that, one that learned nothing zero.
    assert error < 0.02 * exact
    assert abs(mean - exact) < 0.1 * exact, (mean, exact)


def test_a_discriminator_is_for_one_number_of_dimensions():
    objective = FactorVAE(hidden=4, layers=1)
    objective.build(3, seed=0)
    network = objective.network
    objective.build(3, seed=1)
    assert objective.network is network
    with pytest.raises(InputError, match=r"3 dimensions.*give each model an objective of its own"):
        objective.build(2, seed=0)


@pytest.mark.parametrize("count", [1, 2])
def test_the_discriminator_learns_nothing_where_nothing_is_shuffled(count, rng):
    # One row shuffled by itself is that row, a draw from q(z) and not from the product.
    objective = FactorVAE(hidden=4, layers=1)
    objective.build(2, seed=0)
    weights = [v.value for v in objective.network.trainable_variables]
    for size, expected in ((count, False), (3, True)):
        terms = terms_at(rng.normal(size=(size, 2)).astype(np.float32))
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(objective(terms))
        gradients = tape.gradient(loss, weights)
        assert np.isfinite(loss)
        assert any(np.any(gradient != 0) for gradient in gradients) == expected


# --- InfoVAE --------------------------------------------------------------------------------------


def discrepancy(a, b):
    """The unbiased squared MMD in two loops."""
    scales = 2 * a.shape[1] * np.array([0.1, 0.2, 0.5, 1, 2, 5, 10])

    def kernel(x, y):
        return (scales / (scales + np.square(x - y).sum())).sum()

    def within(x):
        n = len(x)
        pairs = [kernel(x[i], x[j]) for i in range(n) for j in range(n) if i != j]
        return sum(pairs) / (n * (n - 1))

    across = np.mean([kernel(x, y) for x in a for y in b])
    return within(a) + within(b) - 2 * across


@pytest.mark.parametrize("shift", [0, 0.5, 3])
def test_mmd_is_the_double_loops(shift, rng):
    a, b = rng.normal(size=(9, 3)), rng.normal(size=(7, 3)) + shift
    found = maximum_mean_discrepancy(tf.constant(a, tf.float32), tf.constant(b, tf.float32))
    # A difference of numbers near 7.
    np.testing.assert_allclose(found, discrepancy(a, b), rtol=0, atol=50 * EPS)


def test_mmd_is_zero_for_one_distribution_and_positive_for_two(rng):
    a, b = rng.normal(size=(2, 300, 40, 3)).astype(np.float32)
    measure = tf.function(maximum_mean_discrepancy)
    same = [measure(*map(tf.constant, pair)) for pair in zip(a, b, strict=True)]
    mean, error = estimate(same)
    assert abs(mean) <= 4 * error
    assert np.min(same) < 0
    shifted = [measure(*map(tf.constant, pair)) for pair in zip(a, b + 0.5, strict=True)]
    mean, error = estimate(shifted)
    assert mean > 10 * error


@pytest.mark.parametrize(("n", "m"), [(1, 5), (5, 1), (1, 1)])
def test_mmd_of_one_draw_is_left_out(n, m, rng):
    a, b = (tf.constant(rng.normal(size=(size, 3)), tf.float32) for size in (n, m))
    with tf.GradientTape() as tape:
        tape.watch([a, b])
        found = tf.function(maximum_mean_discrepancy)(a, b)
    assert found.numpy() == 0
    assert not any(np.any(gradient) for gradient in tape.gradient(found, [a, b]))


def test_info_of_one_event_leaves_the_discrepancy_out():
    terms = terms_of(LOC[:1], LOG_VAR[:1])
    for alpha in (0, 0.5, 1):
        expected = -terms.mean_log_likelihood + (1 - alpha) * terms.kl
        np.testing.assert_allclose(InfoVAE(alpha=alpha)(terms), expected, rtol=1e-6)


def test_a_last_batch_of_one_does_not_stand_out(rng):
    model = linear_gaussian(rng, orthogonal=True)
    gain = model.posterior_weights()
    x = as_images(points(model, rng, 9))
    losses = {}
    for objective in (InfoVAE(), BetaTC(60_000)):
        vae = linear_vae(
            model, gain, -gain @ model.offset, 0.3 * np.ones(LATENT), objective=objective
        )
        for rows in (slice(0, 8), slice(8, 9)):
            terms = vae.terms(x[rows], seed=1)
            losses[type(objective), rows.stop] = (objective(terms) + terms.elbo).numpy().mean()
    # With one event neither adds anything to the negative ELBO.
    assert losses[InfoVAE, 9] == losses[BetaTC, 9] == 0
    assert losses[InfoVAE, 8] != 0 != losses[BetaTC, 8]


@pytest.mark.parametrize(("alpha", "weight"), [(0, 1000), (1, 10), (0.5, 2), (-1, 5)])
def test_info_weighs_kl_and_discrepancy(alpha, weight):
    terms = terms_of(LOC, LOG_VAR)
    loss = InfoVAE(alpha=alpha, mmd_weight=weight)(terms)
    drawn = terms.prior.sample(4, seed=terms.seed).numpy()
    expected = -terms.mean_log_likelihood + (1 - alpha) * terms.kl
    expected += (alpha + weight - 1) * discrepancy(terms.z[0].numpy(), drawn)
    assert loss.shape == (4,)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_info_draws_from_the_prior_anew_and_not_as_the_posterior():
    terms = terms_of(LOC, LOG_VAR)
    drawn = terms.prior.sample(4, seed=terms.seed)
    assert not np.allclose(drawn, (terms.z[0] - LOC) * np.exp(-0.5 * LOG_VAR))
    model = linear_gaussian(np.random.default_rng(0), orthogonal=False)
    vae = linear_vae(model, np.zeros((LATENT, D)), np.zeros(LATENT), np.ones(LATENT))
    terms = vae.terms(np.zeros((6, 2, 2, 1)), seed=1)
    # There q(z|x) = p(z): equal seeds would give equal draws, and a discrepancy of one sign.
    assert not np.allclose(terms.prior.sample(6, seed=terms.seed), terms.z[0])


def test_mmd_vae_has_no_kl_and_its_discrepancy_reaches_the_encoder(images):
    model = linear_gaussian(np.random.default_rng(0), orthogonal=False)
    weights = model.posterior_weights()

    vae = linear_vae(model, weights, np.ones(LATENT), np.array([0.3, 0.5]))
    variables = vae.encoder.trainable_variables

    def found(objective):
        return gradients_of(vae, images, variables, objective)

    # With λ = 1 − α = 0 the likelihood is all that is left.
    alone = found(InfoVAE(alpha=1, mmd_weight=0))
    expected = found(lambda terms: -terms.mean_log_likelihood)
    with_discrepancy = found(InfoVAE(alpha=1, mmd_weight=10))
    for one, other, third in zip(alone, expected, with_discrepancy, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)
        assert np.all(np.abs(third - other) > 1e-4 * np.abs(other).max())
    # The bias of μ moves all draws alike: the slope of the double loops, by central differences.
    (bias,) = (i for i, v in enumerate(variables) if v is vae.encoder.get_layer("loc").bias)
    terms = vae.terms(images, seed=1)
    z = terms.z[0].numpy().astype(np.float64)
    drawn = terms.prior.sample(len(z), seed=terms.seed).numpy()
    h = 1e-5
    slopes = [
        (discrepancy(z + step, drawn) - discrepancy(z - step, drawn)) / (2 * h)
        for step in h * np.eye(LATENT)
    ]
    found_slopes = with_discrepancy[bias] - expected[bias]
    np.testing.assert_allclose(found_slopes, 10 * np.array(slopes), rtol=1e-4)


# --- what they need -------------------------------------------------------------------------------


def test_beta_tc_needs_a_posterior_that_factorises():
    options = {"latent_dim": 2, "network": "dense", "seed": 0}
    with pytest.raises(InputError, match="BetaTC needs a posterior that factorises") as e:
        VAE.for_images((4, 4, 1), **options, posterior="full_normal", objective=BetaTC(10))
    assert "\n" not in str(e.value)
    # Any prior will do.
    VAE.for_images((4, 4, 1), **options, prior="mixture", objective=BetaTC(10))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BetaTC(1), "dataset_size is a whole number from 2; received 1"),
        (lambda: BetaTC(True), "dataset_size is a whole number from 2; received True"),
        (lambda: BetaTC(2.5), "dataset_size is a whole number from 2; received 2.5"),
        (lambda: BetaTC(9, beta=-1), "beta is a number of at least 0; received -1"),
        (lambda: BetaTC(9, alpha=np.nan), "alpha is a number of at least 0; received nan"),
        (lambda: BetaTC(9, gamma=True), "gamma is a number of at least 0; received True"),
        (lambda: FactorVAE(gamma=-1), "gamma is a number of at least 0; received -1"),
        (lambda: FactorVAE(hidden=0), "hidden is a whole number from 1; received 0"),
        (lambda: FactorVAE(layers=0), "layers is a whole number from 1; received 0"),
        (lambda: InfoVAE(alpha=1.5), "alpha is a number of at most 1; received 1.5"),
        (lambda: InfoVAE(mmd_weight=-1), "mmd_weight is a number of at least 1 - alpha = 1; rec"),
        (lambda: InfoVAE(-1, 1.5), "mmd_weight is a number of at least 1 - alpha = 2; received"),
        (lambda: InfoVAE(alpha=True), "alpha is a number of at most 1; received True"),
    ],
)
def test_bad_options_are_refused_in_one_line(make, message):
    with pytest.raises(InputError, match=message) as e:
        make()
    assert "\n" not in str(e.value)
