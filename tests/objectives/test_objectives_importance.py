"""Importance-weighted bounds and their gradients, on the linear-Gaussian model.

There log p(x), every log-weight and every gradient are known in closed form.
"""

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
    decoder_of,
    estimate,
    exact_vae,
    linear_gaussian,
    linear_vae,
    points,
)
from scipy import special
from tensorflow_probability import distributions as tfd

from tfvae import VAE, objectives
from tfvae.likelihoods import Normal
from tfvae.objectives import (
    CIWAE,
    ELBO,
    IWAE,
    MIWAE,
    PIWAE,
    DReG,
    StickingTheLanding,
    importance_weighted_bound,
)
from tfvae.priors import Prior

# --- the same in NumPy ----------------------------------------------------------------------------

SHIFT = np.array([0.3, -0.2])


class ShiftedNormal(Prior):
    """p(z) = N(m, I) with m learned, so that the prior too has a gradient."""

    def build(self, input_shape):
        self.loc = self.add_weight(shape=self.event_shape, initializer="zeros")
        self.loc.assign(SHIFT)
        self.built = True

    def distribution(self, label=None):
        return tfd.Independent(tfd.Normal(tf.convert_to_tensor(self.loc), 1.0), 1)


def log_weights(model, x, z, loc, log_var, shift=SHIFT):
    """log p(x|z) + log p(z) − log q(z|x), `[K, B]`, in float64."""
    likelihood = analytic.normal_log_prob(x, z @ model.weights.T + model.offset, model.sigma)
    prior = analytic.normal_log_prob(z, shift, 1.0)
    posterior = analytic.normal_log_prob(z, loc, np.exp(0.5 * log_var))
    return likelihood.sum(-1) + prior.sum(-1) - posterior.sum(-1)


def softmax(log_weight):
    return special.softmax(log_weight, axis=0)


def grouped(log_weight, bounds):
    """Each bound's own softmax, over the number of bounds: `[K, B]`."""
    groups = log_weight.reshape(-1, bounds, log_weight.shape[1])
    return softmax(groups).reshape(log_weight.shape) / bounds


def uniform(log_weight):
    return np.full_like(log_weight, 1 / len(log_weight))


# For each objective: its value, and what weighs each draw's gradient of log w, once for the encoder
# and once for decoder and prior; and whether log q(z|x) is differentiated through z alone.


def bound(log_weight):
    return special.logsumexp(log_weight, axis=0) - np.log(len(log_weight))


def mean_of_bounds(log_weight, bounds):
    return bound(log_weight.reshape(-1, bounds, log_weight.shape[1])).mean(0)


CASES = {
    "stl": (StickingTheLanding(6), lambda w: w.mean(0), uniform, uniform, True),
    "iwae": (IWAE(6), bound, softmax, softmax, False),
    "dreg": (DReG(6), bound, lambda w: softmax(w) ** 2, softmax, True),
    "miwae": (
        MIWAE(2, 3),
        lambda w: mean_of_bounds(w, 2),
        lambda w: grouped(w, 2),
        lambda w: grouped(w, 2),
        False,
    ),
    "piwae": (PIWAE(2, 3), bound, lambda w: grouped(w, 2), softmax, False),
    **{
        f"ciwae-{beta}": (
            CIWAE(beta, 6),
            lambda w, beta=beta: beta * w.mean(0) + (1 - beta) * bound(w),
            lambda w, beta=beta: beta * uniform(w) + (1 - beta) * softmax(w),
            lambda w, beta=beta: beta * uniform(w) + (1 - beta) * softmax(w),
            False,
        )
        for beta in (0, 0.3, 1)
    },
}


def slopes(model, x, z, loc, log_var, path, shift=SHIFT):
    """∂log w by each draw's μ and λ, with z = μ + exp(½ λ) ε: two of `[K, B, d]`.

    By z it is g = Wᵀ (x − W z − b)/σ² − (z − m), and −∂log q/∂z = ε/σ_q. Where log q depends on
    μ and λ through z alone, both count; else log q = −½ ε² − ½ λ + …, which z does not enter.
    """
    epsilon = (z - loc) * np.exp(-0.5 * log_var)
    by_z = (x - z @ model.weights.T - model.offset) @ model.weights / model.sigma**2 - (z - shift)
    if path:
        by_z = by_z + epsilon * np.exp(-0.5 * log_var)
    by_log_var = by_z * 0.5 * (z - loc) + (0 if path else 0.5)
    return by_z, by_log_var


def gradients_by_hand(model, x, z, loc, log_var, encoder_weights, decoder_weights, path):
    """Gradients of the loss by the variables of `variables_of`, and the size of what they sum."""
    by_loc, by_log_var = slopes(model, x, z, loc, log_var, path)
    residual = (x - z @ model.weights.T - model.offset) / model.sigma**2
    count = len(x)
    results = []
    for sized in (lambda v: -v, np.abs):
        e, d = sized(encoder_weights)[..., None] / count, sized(decoder_weights)[..., None] / count
        if sized is np.abs:
            by_loc, by_log_var, residual = np.abs(by_loc), np.abs(by_log_var), np.abs(residual)
            x, z, offset = np.abs(x), np.abs(z), np.abs(SHIFT)
            by_shift = z + offset
        else:
            by_shift = z - SHIFT
        mean, log_variance = (e * by_loc).sum(0), (e * by_log_var).sum(0)
        results.append(
            [
                x.T @ mean,
                mean.sum(0),
                x.T @ log_variance,
                log_variance.sum(0),
                np.einsum("kbi,kbj->ij", d * z, residual),
                (d * residual).sum((0, 1)),
                (d * by_shift).sum((0, 1)),
            ]
        )
    return results


def variables_of(vae):
    """Those of the encoder, four, and those of decoder and prior, three."""
    variables = []
    for layer in (vae.encoder.get_layer("loc"), vae.encoder.get_layer("log_var")):
        variables += [layer.kernel, layer.bias]
    linear = vae.decoder.get_layer("linear")
    variables += [linear.kernel, linear.bias]
    if isinstance(vae.prior_family, ShiftedNormal):
        variables.append(vae.prior_family.loc)
    return [variable.value for variable in variables]


def tensors_of(vae, x, seed=1):
    """Loss of each image, the terms, and the gradients of the mean loss."""
    with tf.GradientTape() as tape:
        terms = vae.terms(
            as_images(x), num_samples=vae.objective.num_samples, seed=seed, training=True
        )
        losses = vae.objective(terms)
        loss = tf.reduce_mean(losses)
    return losses, terms, tape.gradient(loss, variables_of(vae))


def gradients(vae, x):
    losses, terms, found = tensors_of(vae, x)
    return losses.numpy(), terms, [gradient.numpy() for gradient in found]


@pytest.fixture
def model(rng):
    return linear_gaussian(rng, orthogonal=False)


def rough_vae(model, **kwargs):
    """A posterior that is neither exact nor hopeless: wide, so that the weights vary moderately."""
    weights = 0.7 * model.posterior_weights() + 0.05
    return linear_vae(model, weights, -weights @ model.offset, np.array([0.4, 0.6]), **kwargs)


def drawn(terms):
    """z, μ and λ in float64."""
    q = terms.posterior.distribution
    return (value.numpy().astype(np.float64) for value in (terms.z, q.loc, q.log_var))


# --- values and gradients for given draws ---------------------------------------------------------


def assert_as_by_hand(case, model, x, numbers, losses, computed, tolerance):
    """Compare losses and gradients with the formulas of a case; return the formulas' gradients.

    Args:
        numbers: z, μ and λ.
    """
    _, value, encoder_weights, decoder_weights, path = case
    log_weight = log_weights(model, x, *numbers)
    np.testing.assert_allclose(losses, -value(log_weight), rtol=0, atol=tolerance)
    expected, sizes = gradients_by_hand(
        model, x, *numbers, encoder_weights(log_weight), decoder_weights(log_weight), path
    )
    for one, other, size in zip(computed, expected, sizes, strict=True):
        assert np.all(np.abs(one - other) <= 2 * tolerance * size)
    return expected


@pytest.mark.few(6)
@pytest.mark.parametrize("name", CASES)
def test_value_and_gradient_are_those_of_the_formula(model, name, rng):
    x = points(model, rng, 5)
    vae = rough_vae(model, objective=CASES[name][0], prior=ShiftedNormal())
    losses, terms, computed = gradients(vae, x)
    z, loc, log_var = drawn(terms)
    log_weight = log_weights(model, x, z, loc, log_var)
    # Weights that matter: neither all equal nor one alone.
    assert np.all(np.ptp(log_weight, axis=0) > 0.5)
    assert np.median(softmax(log_weight).max(0)) < 0.9
    # A rounding of log p(x|z) is one of log w, and a relative one of w.
    tolerance = 30 * EPS * np.abs(terms.log_likelihood).max()
    np.testing.assert_allclose(terms.log_weight, log_weight, rtol=0, atol=tolerance)
    assert_as_by_hand(CASES[name], model, x, (z, loc, log_var), losses, computed, tolerance)


def test_the_formula_is_the_slope_of_the_bound(model, rng):
    # The reference itself, by central differences in float64: an error of about h².
    x, loc, log_var = points(model, rng, 3), rng.normal(size=(3, 2)), rng.normal(size=(3, 2))
    epsilon = rng.normal(size=(6, 3, 2))
    h = 1e-5

    def loss(loc, log_var, model=model):
        z = loc + np.exp(0.5 * log_var) * epsilon
        return -bound(log_weights(model, x, z, loc, log_var)).mean()

    z = loc + np.exp(0.5 * log_var) * epsilon
    weights = softmax(log_weights(model, x, z, loc, log_var))
    expected, _ = gradients_by_hand(model, x, z, loc, log_var, weights, weights, path=False)
    for i, step in enumerate(h * np.eye(LATENT)):
        by_loc = (loss(loc + step, log_var) - loss(loc - step, log_var)) / (2 * h)
        by_log_var = (loss(loc, log_var + step) - loss(loc, log_var - step)) / (2 * h)
        np.testing.assert_allclose(expected[1][i], by_loc, rtol=1e-6, atol=1e-8)
        np.testing.assert_allclose(expected[3][i], by_log_var, rtol=1e-6, atol=1e-8)
    for i, j in np.ndindex(D, LATENT):
        step = np.zeros((D, LATENT))
        step[i, j] = h
        moved = [
            analytic.LinearGaussian(model.weights + s, model.offset, model.sigma)
            for s in (step, -step)
        ]
        slope = (loss(loc, log_var, moved[0]) - loss(loc, log_var, moved[1])) / (2 * h)
        np.testing.assert_allclose(expected[4][j, i], slope, rtol=1e-6, atol=1e-8)


def test_iwae_is_no_weighted_sum_of_losses(model, rng):
    # Σ w̃ log w has another value and, the weights not being held fixed, another gradient.
    x = points(model, rng, 5)
    vae = rough_vae(model, objective=IWAE(6), prior=ShiftedNormal())
    losses, terms, computed = gradients(vae, x)
    z, loc, log_var = drawn(terms)
    log_weight = log_weights(model, x, z, loc, log_var)
    weights = softmax(log_weight)
    weighted = (weights * log_weight).sum(0)
    assert np.all(np.abs(-losses - weighted) > 0.05)
    wrong = weights * (1 + log_weight - weighted)
    by_decoder = gradients_by_hand(model, x, z, loc, log_var, wrong, wrong, path=False)[0][4:]
    for one, other in zip(computed[4:], by_decoder, strict=True):
        assert np.linalg.norm(one - other) > 0.1 * np.linalg.norm(other)


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", ["dreg", "piwae"])
def test_the_weighing_of_gradients_is_right_under_xla(model, name, rng):
    x = points(model, rng, 5)
    vae = rough_vae(model, objective=CASES[name][0], prior=ShiftedNormal())

    @tf.function(jit_compile=True)
    def compiled():
        losses, terms, found = tensors_of(vae, x)
        q = terms.posterior.distribution
        return losses, (terms.z, q.loc, q.log_var), found

    losses, numbers, computed = compiled()
    # XLA has draws of its own.
    z, loc, log_var = (number.numpy().astype(np.float64) for number in numbers)
    log_weight = log_weights(model, x, z, loc, log_var)
    tolerance = 30 * EPS * np.abs(log_weight).max()
    assert_as_by_hand(CASES[name], model, x, (z, loc, log_var), losses, computed, tolerance)


# --- the bound ------------------------------------------------------------------------------------


def copies(x, count):
    return np.tile(x, (count, 1))


def test_the_bound_rises_with_the_draws_towards_the_log_marginal(model, rng):
    x = points(model, rng, 1)
    vae = rough_vae(model)
    log_weight = vae.terms(as_images(copies(x, 10_000)), num_samples=64, seed=3).log_weight
    counts = (1, 4, 16, 64)
    bounds = {k: importance_weighted_bound(log_weight[:k]).numpy() for k in counts}
    q = vae.encode(as_images(x)).distribution
    elbo = model.elbo(x[0], q.loc.numpy()[0], np.exp(q.log_var.numpy()[0]))
    mean, error = estimate(bounds[1])
    assert abs(mean - elbo) <= 4 * error
    log_marginal = model.log_marginal(x[0])
    for fewer, more in itertools.pairwise(counts):
        # From the same draws, so that their difference has little noise.
        rise, error = estimate(bounds[more].astype(np.float64) - bounds[fewer])
        assert rise > 4 * error
        mean, error = estimate(bounds[fewer])
        assert mean + 4 * error < log_marginal
    mean, error = estimate(bounds[64])
    assert log_marginal - 0.03 * (log_marginal - elbo) < mean <= log_marginal + 4 * error


def test_with_one_draw_it_is_the_elbo_of_that_draw(model, rng):
    x = points(model, rng, 5)
    terms = rough_vae(model).terms(as_images(x), seed=1)
    z, loc, log_var = drawn(terms)
    # The ELBO without the closed form of its KL.
    expected = log_weights(model, x, z, loc, log_var, shift=0)[0]
    tolerance = 30 * EPS * np.abs(terms.log_likelihood).max()
    for objective in (IWAE(1), DReG(1), MIWAE(1, 1), PIWAE(1, 1), CIWAE(0.3, 1)):
        np.testing.assert_allclose(-objective(terms), expected, rtol=0, atol=tolerance)


@pytest.mark.few(5)
@pytest.mark.parametrize(
    "objective",
    [
        StickingTheLanding(4),
        *(IWAE(k) for k in (1, 4, 64)),
        DReG(16),
        MIWAE(3, 4),
        PIWAE(3, 4),
        CIWAE(0.5, 8),
    ],
    ids=lambda o: f"{type(o).__name__}-{o.num_samples}",
)
def test_at_the_exact_posterior_every_bound_is_the_log_marginal(objective, rng):
    model = linear_gaussian(rng, orthogonal=True)
    x = points(model, rng, 5)
    terms = exact_vae(model).terms(as_images(x), num_samples=objective.num_samples, seed=1)
    # All weights are p(x). Some thirty terms of the size of ten, each good to a rounding.
    assert np.all(np.abs(-objective(terms) - model.log_marginal(x)) <= 300 * EPS)


def test_miwae_lies_between_the_elbo_and_iwae(model, rng):
    x = points(model, rng, 5)
    terms = rough_vae(model).terms(as_images(x), num_samples=12, seed=1)
    log_weight = terms.log_weight.numpy().astype(np.float64)
    tolerance = 30 * EPS * np.abs(log_weight).max()
    # One bound of all draws is IWAE; bounds of one draw each are the ELBO.
    np.testing.assert_allclose(MIWAE(1, 12)(terms), IWAE(12)(terms), rtol=0, atol=tolerance)
    np.testing.assert_allclose(-MIWAE(12, 1)(terms), log_weight.mean(0), rtol=0, atol=tolerance)
    # Each draw is in one bound: their mean is that of bounds of a third of the draws each.
    thirds = [bound(log_weight[m::3]) for m in range(3)]
    np.testing.assert_allclose(-MIWAE(3, 4)(terms), np.mean(thirds, 0), rtol=0, atol=tolerance)
    between = -MIWAE(3, 4)(terms).numpy()
    assert np.all((log_weight.mean(0) < between) & (between < bound(log_weight)))


def test_piwae_gives_the_decoder_iwae_and_the_encoder_miwae(model, rng):
    x = points(model, rng, 5)
    found = {}
    for objective in (IWAE(12), MIWAE(3, 4), PIWAE(3, 4)):
        vae = rough_vae(model, objective=objective, prior=ShiftedNormal())
        found[type(objective)] = gradients(vae, x)
    # The same draws.
    for cls in (IWAE, MIWAE):
        np.testing.assert_array_equal(found[cls][1].z, found[PIWAE][1].z)
    np.testing.assert_allclose(found[PIWAE][0], found[IWAE][0], rtol=1e-6)
    by_piwae, by_iwae, by_miwae = (found[cls][2] for cls in (PIWAE, IWAE, MIWAE))
    for one, other in zip(by_piwae, by_miwae[:4] + by_iwae[4:], strict=True):
        assert np.all(np.abs(one - other) <= 1e-4 * np.abs(other).max())
    for one, other in zip(by_piwae, by_iwae[:4] + by_miwae[4:], strict=True):
        assert np.abs(one - other).max() > 1e-2 * np.abs(other).max()


@pytest.mark.few(5)
@pytest.mark.parametrize("name", CASES)
def test_log_weights_hundreds_of_nats_apart_are_no_trouble(name, rng):
    model = linear_gaussian(rng, orthogonal=False, sigma=0.05)
    x = points(model, rng, 5)
    vae = rough_vae(model, objective=CASES[name][0], prior=ShiftedNormal())
    losses, terms, computed = gradients(vae, x)
    z, loc, log_var = drawn(terms)
    log_weight = log_weights(model, x, z, loc, log_var)
    # The least weights are 0 in float32.
    assert np.all(np.ptp(log_weight, axis=0) > 200)
    tolerance = 30 * EPS * np.abs(log_weight).max()
    expected = assert_as_by_hand(
        CASES[name], model, x, (z, loc, log_var), losses, computed, tolerance
    )
    assert all(np.any(one != 0) for one in expected)


# --- the noise of the encoder's gradient ----------------------------------------------------------


def encoder_gradients(vae, x, repeats, seed=1):
    """Gradients of the loss by μ and λ, each copy of x with draws of its own: `[repeats, 2 d]`."""
    with tf.GradientTape() as tape:
        terms = vae.terms(
            as_images(copies(x, repeats)),
            num_samples=vae.objective.num_samples,
            seed=seed,
            training=True,
        )
        loss = tf.reduce_sum(vae.objective(terms))
    q = terms.posterior.distribution
    return np.concatenate(tape.gradient(loss, [q.loc, q.log_var]), axis=1).astype(np.float64)


REPEATS = 20_000


def test_dreg_has_the_gradient_of_iwae_with_less_noise(model, rng):
    x = points(model, rng, 1)
    by_iwae, by_dreg = (
        encoder_gradients(rough_vae(model, objective=cls(16)), x, REPEATS) for cls in (IWAE, DReG)
    )
    # The same draws, so that the difference has the noise of both, less what they share.
    difference, error = estimate(by_dreg - by_iwae)
    assert np.all(np.abs(difference) <= 4 * error), (difference, error)
    mean, error = estimate(by_dreg)
    assert np.all(np.abs(mean) > 4 * error), "no signal to compare"
    ratio = by_iwae.var(0) / by_dreg.var(0)
    message = f"variances: IWAE {by_iwae.var(0)}, DReG {by_dreg.var(0)}, quotient {ratio}"
    assert np.all(ratio > 10), message
    # At its own draws the value, and what decoder and prior learn from it, are IWAE's.
    x = points(model, rng, 5)
    one, other = (
        gradients(rough_vae(model, objective=cls(16), prior=ShiftedNormal()), x)
        for cls in (IWAE, DReG)
    )
    np.testing.assert_array_equal(one[0], other[0])
    for by_iwae, by_dreg in zip(one[2][4:], other[2][4:], strict=True):
        np.testing.assert_array_equal(by_iwae, by_dreg)


def test_more_draws_drown_iwae_and_help_dreg(model, rng):
    x = points(model, rng, 1)

    def signal_to_noise(objective):
        found = encoder_gradients(rough_vae(model, objective=objective), x, REPEATS)
        return np.linalg.norm(found.mean(0)) / np.sqrt(found.var(0).sum())

    iwae, dreg = ([signal_to_noise(cls(k)) for k in (4, 64)] for cls in (IWAE, DReG))
    # In theory as 1/√K and as √K, a quotient of 4 either way.
    assert iwae[1] < 0.5 * iwae[0], (iwae, dreg)
    assert dreg[1] > 2 * dreg[0], (iwae, dreg)


def test_sticking_the_landing_has_the_gradient_of_the_elbo(model, rng):
    x = points(model, rng, 1)
    vae = rough_vae(model, objective=StickingTheLanding())
    mean, error = estimate(encoder_gradients(vae, x, REPEATS))
    q = vae.encode(as_images(x)).distribution
    exact = -np.concatenate(model.elbo_gradient(x[0], q.loc.numpy()[0], np.exp(q.log_var[0])))
    assert np.all(np.abs(mean - exact) <= 4 * error), (mean, exact, error)
    assert np.max(np.abs(exact) / error) > 50


@pytest.mark.parametrize("objective", [StickingTheLanding(), DReG(4)], ids=["stl", "dreg"])
def test_gradient_of_each_draw_is_zero_at_the_exact_posterior(objective, rng):
    model = linear_gaussian(rng, orthogonal=True)
    x = points(model, rng, 1)
    found = encoder_gradients(exact_vae(model, objective=objective), x, 1_000)
    # Wᵀ (x − W z − b)/σ² − z + ε/σ_q: a few terms, each of them below a hundred.
    assert np.all(np.abs(found) <= 300 * EPS)


@pytest.mark.parametrize("objective", [ELBO(), IWAE(1), IWAE(4)], ids=["elbo", "iwae1", "iwae4"])
def test_gradient_of_others_is_zero_there_in_expectation_alone(objective, rng):
    model = linear_gaussian(rng, orthogonal=True)
    x = points(model, rng, 1)
    found = encoder_gradients(exact_vae(model, objective=objective), x, 5_000)
    mean, error = estimate(found)
    assert np.all(np.abs(mean) <= 4 * error)
    assert np.all(found.std(0) > 0.1)


# --- a posterior with correlations ----------------------------------------------------------------


def exact_full_vae(model):
    """q(z|x) = N(S Wᵀ (x − b)/σ², S) with the full S, by a linear head alone."""
    image = keras.Input((2, 2, 1))
    encoder = keras.Model(image, keras.layers.Flatten()(image))
    likelihood = Normal(scale=model.sigma, decoder_output="parameters")
    vae = VAE(
        encoder,
        decoder_of(model),
        LATENT,
        posterior="full_normal",
        likelihood=likelihood,
        seed=0,
    )
    # S = L Lᵀ with L = diag(l) (I + N), of which the head makes log l² and √d N.
    factor = np.linalg.cholesky(model.posterior_covariance())
    weights = model.posterior_weights()
    kernel = np.zeros((D, 5))
    kernel[:, :LATENT] = weights.T
    lower = factor[1, 0] / factor[1, 1] * LATENT**0.5
    bias = np.concatenate([-weights @ model.offset, 2 * np.log(np.diag(factor)), [lower]])
    vae.posterior_family.head.set_weights([kernel, bias])
    return vae


def test_a_full_covariance_closes_the_gap_that_a_diagonal_leaves(model, rng):
    x = points(model, rng, 5)
    log_marginal = model.log_marginal(x)
    covariance, precision = model.posterior_covariance(), model.precision()

    # The best diagonal has the exact mean and the diagonal of the precision; KL(q ‖ p(z|x)) is
    # ½ (Σ log Λ_ii − log det Λ).
    variance = 1 / np.diag(precision)
    gap = 0.5 * (np.log(np.diag(precision)).sum() - np.linalg.slogdet(precision)[1])
    zero = np.zeros(LATENT)
    known = analytic.full_gaussian_kl(zero, np.diag(variance), zero, covariance)
    np.testing.assert_allclose(gap, known, rtol=1e-12)
    assert gap > 0.05

    full = exact_full_vae(model)
    terms = full.terms(as_images(x), num_samples=5_000, seed=1)
    assert full.kl_is_exact
    assert np.all(np.abs(terms.log_weight - log_marginal) <= 1_000 * EPS)
    mean, error = estimate((terms.log_likelihood - terms.kl).numpy())
    assert np.all(np.abs(mean - log_marginal) <= 4 * error)
    assert np.all(4 * error < gap)

    weights = model.posterior_weights()
    diagonal = linear_vae(model, weights, -weights @ model.offset, variance)
    terms = diagonal.terms(as_images(x), num_samples=5_000, seed=1)
    mean, error = estimate((terms.log_likelihood - terms.kl).numpy())
    assert np.all(np.abs(log_marginal - mean - gap) <= 4 * error)
    # And there is none better near it: its gradient is zero.
    for row in x:
        exact = model.elbo_gradient(row, weights @ (row - model.offset), variance)
        np.testing.assert_allclose(np.concatenate(exact), 0, atol=1e-10)


def test_the_text_forms_are_these_objectives():
    assert objectives.get("miwae:num_bounds=2,num_inner=3").num_samples == 6
    assert objectives.get("ciwae:beta=0.25").beta == 0.25
    assert isinstance(objectives.get("dreg:num_samples=3"), DReG)
