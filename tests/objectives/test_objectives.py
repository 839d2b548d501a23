import json

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
    exact_vae,
    linear_gaussian,
    linear_vae,
    points,
    terms_of,
)
from tensorflow_probability import distributions as tfd

from tfvae import VAE, InputError, objectives, posteriors, priors
from tfvae.evaluation import expost
from tfvae.objectives import ELBO, Capacity, FreeBits, Objective, Terms
from tfvae.posteriors import DiagonalNormal
from tfvae.training import train

# --- the loss is made of the right two numbers ----------------------------------------------------

IMAGE = (5, 4, 3)

LIKELIHOODS = [
    "bernoulli",
    "normal",
    "normal:scale=0.3",
    "normal:scale=learned",
    "normal:scale=per_value",
    "laplace",
    "laplace:scale=0.3",
    "laplace:scale=learned",
    "laplace:scale=per_value",
]


def recomputed_log_likelihood(vae, x, z):
    """log p(x|z) `[K, B]` in float64, from what the decoder and the likelihood's layer put out."""
    flat = z.reshape(-1, z.shape[-1])
    family = vae.likelihood_family
    raw = {name: value.numpy() for name, value in family(vae.decoder(flat)).items()}
    if "logits" in raw:
        parameters = (raw["logits"],)
    elif family.scale == "learned":
        (raw_scale,) = (v.numpy() for v in family.trainable_variables if v.shape == ())
        floor = family.min_scale
        parameters = (raw["loc"], floor + (1 - floor) * np.exp(5 * np.float64(raw_scale)))
    else:
        parameters = (raw["loc"], raw.get("scale", family.scale))
    images = np.tile(x.astype(np.float64), (len(z), 1, 1, 1))
    elements = analytic.LOG_PROBS[type(family).__name__](images, *parameters)
    return elements.sum((1, 2, 3)).reshape(z.shape[:2])


def recomputed_kl(vae, x):
    """KL(q(z|x) ‖ N(0, I)) `[B]` in float64, from what the encoder and the posterior put out."""
    parameters = vae.posterior_family(vae.encoder(x))
    return analytic.gaussian_kl(parameters["loc"], parameters["log_var"]).sum(-1)


@pytest.mark.few(6)
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_loss_is_minus_log_likelihood_plus_beta_kl(likelihood, rng):
    vae = VAE.for_images(IMAGE, latent_dim=3, network="dense", likelihood=likelihood, seed=0)
    # Parameters of moderate size, so that the two terms are of the same order.
    kernel = next(v for v in vae.likelihood_family.trainable_variables if len(v.shape) == 2)
    kernel.assign(0.1 * kernel)
    x = rng.random((4, *IMAGE)).astype(np.float32)
    terms = vae.terms(x, num_samples=3, seed=7)
    log_likelihood = recomputed_log_likelihood(vae, x, terms.z.numpy()).mean(0)
    kl = recomputed_kl(vae, x)
    np.testing.assert_allclose(terms.mean_log_likelihood, log_likelihood, rtol=1e-5)
    np.testing.assert_allclose(terms.kl, kl, rtol=1e-5)
    np.testing.assert_allclose(terms.elbo, log_likelihood - kl, rtol=1e-5)
    for beta in (0, 0.5, 1, 4):
        loss = ELBO(beta=beta)(terms)
        assert loss.shape == (4,)
        np.testing.assert_allclose(loss, -(log_likelihood - beta * kl), rtol=1e-5)
    # Neither drowns the other: an error in one of them is an error of the loss.
    assert np.all((kl > 0.01 * np.abs(log_likelihood)) & (np.abs(log_likelihood) > kl))


def test_terms_have_their_shapes(rng):
    vae = VAE.for_images(IMAGE, latent_dim=3, network="dense", seed=0)
    x = rng.random((4, *IMAGE)).astype(np.float32)
    terms = vae.terms(x, num_samples=6, seed=7)
    assert terms.x.shape == (4, *IMAGE)
    assert terms.z.shape == (6, 4, 3)
    assert terms.log_likelihood.shape == (6, 4)
    assert terms.kl.shape == terms.elbo.shape == terms.mean_log_likelihood.shape == (4,)
    assert (terms.posterior.batch_shape, terms.posterior.event_shape) == ((4,), (3,))
    assert (terms.prior.batch_shape, terms.prior.event_shape) == ((), (3,))
    assert (terms.likelihood.batch_shape, terms.likelihood.event_shape) == ((6, 4), IMAGE)


def test_several_draws_are_averaged(rng):
    vae = VAE.for_images(IMAGE, latent_dim=3, network="dense", seed=0)
    x = rng.random((4, *IMAGE)).astype(np.float32)
    terms = vae.terms(x, num_samples=5, seed=7)
    # The draws differ, each is right, and the loss is their mean.
    each = recomputed_log_likelihood(vae, x, terms.z.numpy())
    assert np.all(each.std(0) > 1e-3)
    np.testing.assert_allclose(terms.log_likelihood, each, rtol=1e-5)
    losses = -(each - recomputed_kl(vae, x))
    np.testing.assert_allclose(ELBO(num_samples=5)(terms), losses.mean(0), rtol=1e-5)
    estimate = vae.elbo(x, num_samples=5, seed=7)
    np.testing.assert_array_equal(estimate.elbo, terms.elbo)
    np.testing.assert_array_equal(estimate.log_likelihood, terms.mean_log_likelihood)
    np.testing.assert_array_equal(estimate.kl, terms.kl)


def test_training_draws_as_many_samples_as_the_objective_wants(rng):
    draws = []

    class Recording(ELBO):
        def __call__(self, terms):
            draws.append(terms.z.shape[0])
            return super().__call__(terms)

    vae = VAE.for_images(
        (4, 4, 1), latent_dim=2, network="dense", seed=0, objective=Recording(num_samples=6)
    )
    vae.compile("adam", run_eagerly=True)
    vae.train_on_batch(rng.random((3, 4, 4, 1)).astype(np.float32))
    assert set(draws) == {6}


@pytest.mark.parametrize("beta", [-0.1, -1, np.nan, np.inf, "1", None])
def test_bad_betas_are_refused(beta):
    with pytest.raises(InputError, match=r"beta is a number of at least 0.*; received"):
        ELBO(beta=beta)


@pytest.mark.parametrize("num_samples", [0, -1, 1.5, 2.0, "2", None, True])
def test_bad_numbers_of_samples_are_refused(num_samples):
    with pytest.raises(InputError, match="num_samples is a whole number from 1; received"):
        ELBO(num_samples=num_samples)


# --- the references agree with each other ---------------------------------------------------------


@pytest.mark.parametrize("orthogonal", [True, False])
def test_references_agree(orthogonal, rng):
    model = linear_gaussian(rng, orthogonal)
    x = points(model, rng, 6)
    covariance = model.posterior_covariance()
    mean = model.posterior_mean(x)

    # Bayes' rule at any z: log p(x) = log p(x|z) + log p(z) − log p(z|x).
    z = rng.normal(size=LATENT)
    zero = np.zeros(LATENT)
    log_joint = model.expected_log_likelihood(x, z, zero) - 0.5 * (
        z @ z + LATENT * np.log(2 * np.pi)
    )
    distance = np.einsum("bi,ij,bj->b", z - mean, np.linalg.inv(covariance), z - mean)
    log_posterior = -0.5 * (
        distance + np.linalg.slogdet(covariance)[1] + LATENT * np.log(2 * np.pi)
    )
    np.testing.assert_allclose(model.log_marginal(x), log_joint - log_posterior, rtol=1e-12)

    # log p(x) − ELBO = KL(q ‖ p(z|x)) for any q.
    for _ in range(5):
        m, v = rng.normal(size=LATENT), rng.uniform(0.05, 2, LATENT)
        gaps = model.log_marginal(x) - [model.elbo(row, m, v) for row in x]
        kls = [analytic.full_gaussian_kl(m, np.diag(v), row_mean, covariance) for row_mean in mean]
        np.testing.assert_allclose(gaps, kls, rtol=1e-10)
        assert np.all(gaps > 0)

    # The gradient, by central differences: an error of about h², and of rounding over h.
    h = 1e-5
    by_mean, by_log_variance = model.elbo_gradient(x[0], m, v)
    for i, step in enumerate(h * np.eye(LATENT)):
        slope = (model.elbo(x[0], m + step, v) - model.elbo(x[0], m - step, v)) / (2 * h)
        np.testing.assert_allclose(by_mean[i], slope, rtol=1e-7, atol=1e-8)
        up, down = v * np.exp(step), v * np.exp(-step)
        slope = (model.elbo(x[0], m, up) - model.elbo(x[0], m, down)) / (2 * h)
        np.testing.assert_allclose(by_log_variance[i], slope, rtol=1e-7, atol=1e-8)


def test_exact_posterior_attains_the_bound_in_the_reference(rng):
    model = linear_gaussian(rng, orthogonal=True)
    x = points(model, rng, 6)
    covariance = model.posterior_covariance()
    variance = np.diag(covariance)
    # Diagonal up to the rounding of W to float32.
    assert np.all(np.abs(covariance - np.diag(variance)) < 1e-7)
    elbo = model.elbo(x, model.posterior_mean(x), variance)
    np.testing.assert_allclose(elbo, model.log_marginal(x), rtol=1e-12)


# --- the linear-Gaussian model as a VAE -----------------------------------------------------------


DRAWS = 20_000


def test_at_the_exact_posterior_every_draw_gives_the_log_marginal(rng):
    model = linear_gaussian(rng, orthogonal=True)
    x = points(model, rng, 5)
    terms = exact_vae(model).terms(as_images(x), num_samples=50, seed=1)
    # log p(x|z) + log p(z) − log q(z|x) = log p(x), whatever z is.
    each = terms.log_likelihood + terms.prior.log_prob(terms.z) - terms.posterior.log_prob(terms.z)
    # Some thirty terms of the size of ten, each good to a rounding.
    error = np.abs(each.numpy() - model.log_marginal(x))
    assert np.all(error <= 300 * EPS)


def test_at_the_exact_posterior_the_elbo_is_the_log_marginal(rng):
    model = linear_gaussian(rng, orthogonal=True)
    x = points(model, rng, 5)
    vae = exact_vae(model)
    terms = vae.terms(as_images(x), num_samples=DRAWS, seed=1)
    assert vae.kl_is_exact
    elbos = (terms.log_likelihood - terms.kl).numpy().astype(np.float64)
    mean, error = estimate(elbos)
    assert np.all(np.abs(mean - model.log_marginal(x)) <= 4 * error)
    np.testing.assert_allclose(terms.elbo, mean, rtol=1e-5)
    # Wrong constants, such as a lost ½ log 2π, would be far outside.
    assert np.all(error < 0.02)


@pytest.mark.parametrize("orthogonal", [True, False])
def test_elbo_of_any_posterior_is_the_analytic_one_and_below_the_log_marginal(orthogonal, rng):
    model = linear_gaussian(rng, orthogonal)
    x = points(model, rng, 5)
    posterior_mean, covariance = model.posterior_mean(x), model.posterior_covariance()
    for _ in range(3):
        weights, offset = rng.normal(size=(LATENT, D)) / 2, rng.normal(size=LATENT)
        variance = rng.uniform(0.05, 2, LATENT)
        mean = x @ weights.T + offset
        analytic_elbo = model.elbo(x, mean, variance)
        gap = [
            analytic.full_gaussian_kl(m, np.diag(variance), p, covariance)
            for m, p in zip(mean, posterior_mean, strict=True)
        ]
        vae = linear_vae(model, weights, offset, variance)
        terms = vae.terms(as_images(x), num_samples=DRAWS, seed=1)
        np.testing.assert_allclose(
            terms.kl, analytic.gaussian_kl(mean, np.log(variance)).sum(-1), rtol=1e-5
        )
        elbo, error = estimate((terms.log_likelihood - terms.kl).numpy().astype(np.float64))
        assert np.all(np.abs(elbo - analytic_elbo) <= 4 * error)
        assert np.all(np.abs(model.log_marginal(x) - elbo - gap) <= 4 * error)
        assert np.all(analytic_elbo < model.log_marginal(x))
        # The gap is seen, and not only allowed for.
        assert np.all(elbo + 4 * error < model.log_marginal(x))


def test_beta_weighs_the_kl_alone(rng):
    model = linear_gaussian(rng, orthogonal=True)
    x = points(model, rng, 5)
    mean, variance = model.posterior_mean(x), np.diag(model.posterior_covariance())
    terms = exact_vae(model).terms(as_images(x), num_samples=DRAWS, seed=1)
    error = estimate(terms.log_likelihood.numpy())[1]
    kl = analytic.gaussian_kl(mean, np.log(variance)).sum(-1)
    for beta in (0, 0.5, 1, 4):
        expected = -(model.expected_log_likelihood(x, mean, variance) - beta * kl)
        assert np.all(np.abs(ELBO(beta=beta)(terms) - expected) <= 4 * error)


def test_evaluation_reports_the_negative_elbo_whatever_beta_is(rng):
    model = linear_gaussian(rng, orthogonal=True)
    # Many images with one draw each, as the evaluation takes them.
    x = points(model, rng, 5_000)
    vae = exact_vae(model, objective=ELBO(beta=4))
    vae.compile("adam")
    loss = vae.evaluate(as_images(x), batch_size=1_000, verbose=0, return_dict=True)["loss"]
    mean, variance = model.posterior_mean(x), np.diag(model.posterior_covariance())
    z = mean + np.sqrt(variance) * rng.standard_normal(mean.shape)
    noise = model.expected_log_likelihood(x, z, np.zeros(LATENT)) - model.expected_log_likelihood(
        x, mean, variance
    )
    # What one draw for each of these images scatters about the exact mean.
    assert abs(-loss - model.log_marginal(x).mean()) <= 4 * noise.std() / np.sqrt(len(x))


# --- gradients of the ELBO ------------------------------------------------------------------------


def elbo_gradients(vae, x, repeats, num_samples):
    """Gradients of the training loss at one image by q's m and log v: `[repeats, 2 d]`."""
    biases = [vae.encoder.get_layer(name).bias for name in ("loc", "log_var")]

    @tf.function
    def gradient(seed):
        with tf.GradientTape() as tape:
            terms = vae.terms(x, num_samples=num_samples, seed=seed)
            loss = tf.reduce_mean(vae.objective(terms))
        return tf.concat(tape.gradient(loss, [bias.value for bias in biases]), 0)

    return np.array([gradient(tf.constant([seed, 0])) for seed in range(repeats)])


def test_gradient_is_zero_at_the_exact_posterior(rng):
    model = linear_gaussian(rng, orthogonal=True)
    x = points(model, rng, 1)
    mean, error = estimate(elbo_gradients(exact_vae(model), as_images(x), 200, 100))
    assert np.all(np.abs(mean) <= 4 * error)
    assert np.all(error < 0.02)


def test_gradient_is_the_analytic_one_elsewhere(rng):
    model = linear_gaussian(rng, orthogonal=False)
    x = points(model, rng, 1)
    m, variance = np.array([0.4, -0.9]), np.array([0.7, 0.15])
    vae = linear_vae(model, np.zeros((LATENT, D)), m, variance)
    mean, error = estimate(elbo_gradients(vae, as_images(x), 200, 100))
    exact = -np.concatenate(model.elbo_gradient(x[0], m, variance))
    assert np.all(np.abs(mean - exact) <= 4 * error)
    # Far from zero: a gradient of half the size, or of none, would be seen.
    assert np.all(np.abs(exact) > 10 * error)


@pytest.mark.exhaustive
def test_training_reaches_the_exact_posterior(rng):
    # Only the encoder learns; the optimum of the ELBO is the exact posterior, in closed form.
    model = linear_gaussian(rng, orthogonal=True)
    x = points(model, rng, 1_000)
    zeros, ones = np.zeros(LATENT), np.ones(LATENT)
    objective = ELBO(num_samples=16)
    vae = linear_vae(model, np.zeros((LATENT, D)), zeros, ones, objective=objective)
    vae.decoder.trainable = False
    decay = keras.optimizers.schedules.PolynomialDecay(0.1, 400, 0.0)
    vae.compile(keras.optimizers.Adam(decay))
    vae.fit(as_images(x), batch_size=100, epochs=40, verbose=0)

    q = vae.encode(as_images(x)).distribution
    loc, variance = (v.numpy().astype(np.float64) for v in (q.loc, tf.exp(q.log_var)))
    elbo = np.mean([model.elbo(*row) for row in zip(x, loc, variance, strict=True)])
    log_marginal = model.log_marginal(x).mean()
    # Next to nothing is left of the gap at the start.
    start = log_marginal - model.elbo(x, np.zeros_like(loc), ones).mean()
    assert 0 <= log_marginal - elbo < 1e-3 * start
    exact = np.diag(model.posterior_covariance())
    np.testing.assert_allclose(variance.mean(0), exact, rtol=0.05)


# --- traps ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("beta", [0, 0.5, 1, 4])
def test_the_kl_is_counted_once(beta):
    terms = terms_of(np.array([[1.0, -2.0], [0.5, 3.0]]), np.array([[-2.0, 1.0], [0.0, -1.0]]))
    kl = analytic.gaussian_kl([[1, -2], [0.5, 3]], [[-2, 1], [0, -1]]).sum(-1)
    weighed = ELBO(beta=beta)(terms) + terms.mean_log_likelihood
    np.testing.assert_allclose(weighed / kl, beta, rtol=1e-5)


@pytest.mark.parametrize("likelihood", ["bernoulli", "normal:scale=0.3"])
def test_channels_are_summed_and_not_averaged(likelihood, rng):
    # A decoder that says the same of every channel, and images that are the same in each.
    gray = rng.random((4, 3, 3, 1)).astype(np.float32)
    found = []
    for channels in (1, 3):
        image = keras.Input((3, 3, channels))
        encoder = keras.Model(image, keras.layers.Flatten()(image))
        z = keras.Input((2,))
        repeated = keras.layers.RepeatVector(9 * channels)(keras.layers.Dense(1)(z))
        decoder = keras.Model(z, keras.layers.Reshape((3, 3, channels))(repeated))
        decoder.set_weights([np.zeros((2, 1)), np.full(1, 0.4)])
        options = "," if ":" in likelihood else ":"
        vae = VAE(encoder, decoder, 2, likelihood=f"{likelihood}{options}decoder_output=parameters")
        found.append(vae.terms(np.tile(gray, channels)).mean_log_likelihood)
    np.testing.assert_allclose(found[1], 3 * found[0], rtol=1e-5)


# --- floors and targets for the KL ----------------------------------------------------------------

# Two images. Of four dimensions the first is free, the second is not; of the last two one image is
# above the floor and the other below, and so is their mean.
LOC = np.array([[0.3, 2.0, 1.2, 2.0], [0.2, 1.5, 0.1, 0.3]])
LOG_VAR = np.array([[-0.2, 0.5, -0.1, -0.3], [0.1, -0.4, 0.2, 0.1]])
KL = analytic.gaussian_kl(LOC, LOG_VAR)
FLOOR = 0.5


def kl_gradients(objective, **kwargs):
    """Gradients by μ and λ of the mean over the batch, through all but the likelihood."""
    loc, log_var = (tf.constant(v, tf.float32) for v in (LOC, LOG_VAR))
    with tf.GradientTape() as tape:
        tape.watch((loc, log_var))
        loss = tf.reduce_mean(objective(terms_of(loc, log_var, **kwargs)))
    return np.stack(tape.gradient(loss, (loc, log_var)))


def test_the_floor_is_under_the_mean_of_the_batch():
    assert np.all(KL[:, 0] < FLOOR) and np.all(KL[:, 1] > FLOOR)
    assert KL[0, 2] > FLOOR > KL[:, 2].mean() and KL[1, 3] < FLOOR < KL[:, 3].mean()
    terms = terms_of(LOC, LOG_VAR)
    loss = tf.reduce_mean(FreeBits(FLOOR)(terms) + terms.mean_log_likelihood)
    np.testing.assert_allclose(loss, np.maximum(KL.mean(0), FLOOR).sum(), rtol=1e-5)
    # The maximum of each image's own KL, and of the sum, are others.
    assert abs(loss - np.maximum(KL, FLOOR).sum(1).mean()) > 0.01


def test_below_the_floor_there_is_no_gradient_and_above_it_all():
    found, whole = kl_gradients(FreeBits(FLOOR)), kl_gradients(ELBO())
    np.testing.assert_array_equal(found[..., [0, 2]], 0)
    np.testing.assert_allclose(found[..., [1, 3]], whole[..., [1, 3]], rtol=1e-6)
    assert np.all(whole != 0)


@pytest.mark.parametrize(("nats", "free"), [(1.0, []), (1.5, [1]), (2.0, [0, 1])])
def test_groups_share_a_floor(nats, free):
    # The first two dimensions have 1.66 nats together, the last two 1.40.
    pairs = KL.reshape(2, 2, 2).sum(-1).mean(0)
    terms = terms_of(LOC, LOG_VAR)
    objective = FreeBits(nats, groups=2)
    loss = tf.reduce_mean(objective(terms) + terms.mean_log_likelihood)
    np.testing.assert_allclose(loss, np.maximum(pairs, nats).sum(), rtol=1e-5)
    found, whole = kl_gradients(objective), kl_gradients(ELBO())
    for group in range(2):
        dimensions = slice(2 * group, 2 * group + 2)
        expected = 0 if group in free else whole[..., dimensions]
        np.testing.assert_allclose(found[..., dimensions], expected, rtol=1e-6)


def test_one_group_is_the_whole_kl():
    whole = kl_gradients(ELBO())
    total = KL.sum(1).mean()
    np.testing.assert_allclose(kl_gradients(FreeBits(0.9 * total, groups=1)), whole, rtol=1e-6)
    np.testing.assert_array_equal(kl_gradients(FreeBits(1.1 * total, groups=1)), 0)
    terms = terms_of(LOC, LOG_VAR)
    loss = FreeBits(1.1 * total, groups=1)(terms) + terms.mean_log_likelihood
    np.testing.assert_allclose(loss, 1.1 * total, rtol=1e-5)


def test_without_a_floor_free_bits_are_the_elbo():
    terms = terms_of(LOC, LOG_VAR)
    for groups in (None, 1, 2, 4):
        np.testing.assert_allclose(FreeBits(0, groups)(terms), -terms.elbo, rtol=1e-6)


def small_vae(**kwargs):
    return VAE.for_images((4, 4, 1), latent_dim=4, network="dense", seed=0, **kwargs)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"objective": "free_bits", "prior": "mixture"},
            "FreeBits needs a prior that factorises over the latent dimensions",
        ),
        (
            {"objective": "free_bits:groups=2", "posterior": "full_normal"},
            "FreeBits needs a posterior that factorises over the latent dimensions",
        ),
        (
            {"objective": "free_bits:groups=3"},
            "FreeBits cannot divide 4 latent dimensions into 3 equal groups",
        ),
    ],
)
def test_free_bits_say_what_they_cannot_divide(options, message):
    with pytest.raises(InputError, match=message) as e:
        small_vae(**options)
    assert "\n" not in str(e.value)


def test_one_group_suits_any_pair():
    small_vae(objective="free_bits:groups=1", prior="mixture", posterior="full_normal")


def test_capacity_draws_the_kl_to_its_target():
    kl = KL.sum(1)
    # Between the two: one is above, the other below.
    target = float(kl.mean())
    assert kl[0] > target > kl[1]
    objective = Capacity(gamma=7, capacity=target)
    terms = terms_of(LOC, LOG_VAR)
    loss = objective(terms) + terms.mean_log_likelihood
    np.testing.assert_allclose(loss, 7 * np.abs(kl - target), rtol=1e-5)
    sign = np.array([1, -1])[:, None]
    np.testing.assert_allclose(kl_gradients(objective), 7 * sign * kl_gradients(ELBO()), rtol=1e-5)


@pytest.mark.parametrize(("step", "target"), [(0, 0), (4, 2), (10, 5), (99, 5)])
def test_the_capacity_rises(step, target):
    objective = objectives.get("capacity:gamma=3,capacity=linear(steps=10,end=5)")
    terms = terms_of(LOC, LOG_VAR, step=step)
    loss = objective(terms) + terms.mean_log_likelihood
    np.testing.assert_allclose(loss, 3 * np.abs(KL.sum(1) - target), rtol=1e-5)


# --- every objective ------------------------------------------------------------------------------

# With options by text, none of them the default, and what they stand for.
TEXTS = {
    "elbo": (
        "elbo:beta=2,num_samples=2",
        {"beta": 2.0, "num_samples": 2, "balance": False},
    ),
    "stl": ("stl:num_samples=2", {"num_samples": 2}),
    "free_bits": (
        "free_bits:nats=0.2,groups=2,num_samples=2",
        {"nats": 0.2, "groups": 2, "num_samples": 2},
    ),
    "capacity": (
        "capacity:gamma=2,capacity=3,num_samples=2",
        {"gamma": 2.0, "capacity": 3.0, "num_samples": 2},
    ),
    "iwae": ("iwae:num_samples=3", {"num_samples": 3}),
    "dreg": ("dreg:num_samples=3", {"num_samples": 3}),
    "miwae": ("miwae:num_bounds=2,num_inner=3", {"num_bounds": 2, "num_inner": 3}),
    "piwae": ("piwae:num_bounds=2,num_inner=3", {"num_bounds": 2, "num_inner": 3}),
    "ciwae": ("ciwae:beta=0.25,num_samples=3", {"beta": 0.25, "num_samples": 3}),
    "beta_tc": (
        "beta_tc:dataset_size=50,beta=2,alpha=0.5,gamma=3",
        {"dataset_size": 50, "beta": 2.0, "alpha": 0.5, "gamma": 3.0},
    ),
    "factor": ("factor:gamma=2,hidden=5,layers=2", {"gamma": 2.0, "hidden": 5, "layers": 2}),
    "info": ("info:alpha=0.5,mmd_weight=4", {"alpha": 0.5, "mmd_weight": 4.0}),
}


def test_every_objective_is_walked():
    assert set(TEXTS) == set(objectives.BY_NAME)


@pytest.fixture(scope="module")
def rough():
    """A function that makes a model away from any optimum, and images for it."""
    rng = np.random.default_rng(0)
    model = linear_gaussian(rng, orthogonal=False)
    x = as_images(points(model, rng, 8))

    def made(name, optimizer="sgd", **kwargs):
        slope, offset = np.full((LATENT, D), 0.1), np.array([1.5, -1.0])
        objective = TEXTS[name][0]
        vae = linear_vae(model, slope, offset, np.array([0.2, 0.4]), objective=objective)
        vae.compile(optimizer, **kwargs)
        return vae

    return made, x


@pytest.mark.parametrize("name", TEXTS)
def test_options_by_text_and_by_configuration_are_the_same(name):
    text, config = TEXTS[name]
    objective = objectives.get(text)
    assert type(objective) is objectives.BY_NAME[name]
    assert objective.get_config() == config
    serialized = json.loads(json.dumps(keras.saving.serialize_keras_object(objective)))
    again = objectives.get(serialized)
    assert type(again) is type(objective)
    assert again.get_config() == config
    assert again.num_samples == objective.num_samples
    # The defaults are a configuration too.
    plain = objectives.get(name, {"dataset_size": 100})
    assert type(plain).from_config(plain.get_config()).get_config() == plain.get_config()
    assert {key: plain.get_config()[key] for key in config} != config


@pytest.fixture(scope="module")
def reported(rough):
    """What evaluation reports of it as its loss."""
    made, x = rough
    return made("elbo", run_eagerly=True).evaluate(x, verbose=0, return_dict=True)["loss"]


@pytest.mark.few(2)
@pytest.mark.parametrize("name", TEXTS)
def test_each_trains_every_weight(name, rough, reported):
    made, x = rough
    vae = made(name, run_eagerly=True)
    with tf.GradientTape() as tape:
        terms = vae.terms(x, num_samples=vae.objective.num_samples, seed=1, training=True)
        loss = vae.objective(terms)
    assert loss.shape == (8,)
    gradients = tape.gradient(loss, [variable.value for variable in vae.trainable_variables])
    # The last kernel of a fresh discriminator is zero: it alone has a gradient yet.
    network = vae.objective.network
    unmoved = {id(v) for v in network.trainable_variables} if network else set()
    unmoved -= {id(network.trainable_variables[-2])} if network else set()
    for variable, gradient in zip(vae.trainable_variables, gradients, strict=True):
        assert gradient is not None, variable.path
        assert np.all(np.isfinite(gradient))
        assert np.any(gradient != 0) or id(variable) in unmoved, variable.path
    # Whatever is trained, evaluation reports the same.
    found = vae.evaluate(x, verbose=0, return_dict=True)
    np.testing.assert_allclose(found["loss"], reported, rtol=1e-6)
    before = [variable.numpy() for variable in vae.trainable_variables]
    assert np.isfinite(vae.train_on_batch(x, return_dict=True)["loss"])
    for variable, old in zip(vae.trainable_variables, before, strict=True):
        assert np.any(variable.numpy() != old) or id(variable) in unmoved, variable.path


@pytest.mark.few(3)
@pytest.mark.parametrize("name", TEXTS)
def test_each_is_the_same_in_a_graph_that_does_not_know_the_batch(name, rough):
    made, x = rough
    vae = made(name)

    def loss(x):
        draws = vae.objective.num_samples
        return vae.objective(vae.terms(x, num_samples=draws, seed=1, training=True))

    in_graph = tf.function(loss, input_signature=[tf.TensorSpec((None, *x.shape[1:]))])
    np.testing.assert_allclose(in_graph(x), loss(x), rtol=1e-5)


@pytest.mark.exhaustive
def test_the_discriminator_is_trained_in_a_graph(rough):
    made, x = rough
    in_graph, eager = made("factor"), made("factor", run_eagerly=True)
    data = tf.data.Dataset.from_tensor_slices(x).batch(4)
    losses = [train(vae, data, progress=False).history["loss"] for vae in (in_graph, eager)]
    np.testing.assert_allclose(*losses, rtol=1e-5)


def test_validation_reports_the_negative_elbo_of_any_objective(rough):
    made, x = rough
    data = tf.data.Dataset.from_tensor_slices(x).batch(4)
    vae = made("info", run_eagerly=True)
    history = train(vae, data, epochs=2, validation_data=data, progress=False).history
    np.testing.assert_allclose(history["val_loss"], -np.array(history["val_elbo"]), rtol=1e-6)
    assert np.all(np.abs(np.array(history["loss"]) + history["elbo"]) > 0.1)


@pytest.mark.exhaustive
def test_the_discriminator_is_trained_under_xla(rough):
    made, x = rough
    vae = made("factor", "adam", jit_compile=True)
    before = [variable.numpy() for variable in vae.trainable_variables]
    losses = [vae.train_on_batch(x, return_dict=True)["loss"] for _ in range(3)]
    assert np.all(np.isfinite(losses))
    for variable, old in zip(vae.trainable_variables, before, strict=True):
        assert np.any(variable.numpy() != old), variable.path


@pytest.mark.few(3)
@pytest.mark.parametrize("name", ["dreg", "piwae", "beta_tc", "info"])
def test_in_half_precision_they_stay_finite(name, rough):
    keras.config.set_dtype_policy("mixed_float16")
    made, x = rough
    vae = made(name, run_eagerly=True)
    before = [variable.numpy() for variable in vae.trainable_variables]
    assert vae.terms(x, seed=1).log_weight.dtype == tf.float32
    # A scale at which no gradient overflows, so that the step is taken.
    vae.optimizer.dynamic_scale.assign(2.0**8)
    assert np.isfinite(vae.train_on_batch(x, return_dict=True)["loss"])
    for variable, old in zip(vae.trainable_variables, before, strict=True):
        assert np.all(np.isfinite(variable))
        assert np.any(variable.numpy() != old), variable.path


class Two(DiagonalNormal):
    """Two normals of one weight: which of them a draw is from has no gradient."""

    def distribution(self, parameters):
        each = [
            super(Two, self).distribution({**parameters, "loc": sign * parameters["loc"]})
            for sign in (1, -1)
        ]
        loc, scale = (
            tf.stack([getattr(q.distribution, name) for q in each], axis=-2)
            for name in ("loc", "scale")
        )
        components = tfd.Independent(tfd.Normal(loc, scale), 1)
        equal = tfd.Categorical(logits=tf.zeros(loc.shape[:-1]))
        return tfd.MixtureSameFamily(equal, components)


@pytest.mark.few(6)
@pytest.mark.parametrize("name", TEXTS)
def test_draws_without_a_gradient_are_refused(name):
    objective = objectives.get(TEXTS[name][0])
    message = (
        f"^{type(objective).__name__} takes gradients through the draws of z, and a "
        "MixtureSameFamily has none to give: choose a reparameterised posterior$"
    )
    with pytest.raises(InputError, match=message):
        small_vae(objective=objective, posterior=Two())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: objectives.get("elbow"), "unknown objective 'elbow': expected one of elbo, stl, "),
        (
            lambda: objectives.get("iwae:k=5"),
            "unknown option 'k' of objective 'iwae': expected num_samples",
        ),
        (lambda: objectives.get("iwae:num_samples"), "'num_samples' is no option=value"),
        (lambda: objectives.get(7), "an objective is a name or a tfvae Objective; received 7"),
        *(
            (
                lambda name=name, option=option, bad=bad: objectives.get(f"{name}:{option}={bad}"),
                f"{option} is a whole number from 1; received {bad.capitalize()}",
            )
            for name, option in [
                ("elbo", "num_samples"),
                ("stl", "num_samples"),
                ("free_bits", "num_samples"),
                ("free_bits", "groups"),
                ("capacity", "num_samples"),
                ("iwae", "num_samples"),
                ("dreg", "num_samples"),
                ("ciwae", "num_samples"),
                ("miwae", "num_bounds"),
                ("piwae", "num_inner"),
            ]
            for bad in ("0", "-2", "1.5", "true")
        ),
        *(
            (
                lambda name=name, option=option, bad=bad: objectives.get(f"{name}:{option}={bad}"),
                f"{option} is a number of at least 0.*; received {shown}",
            )
            for name, option in [
                ("elbo", "beta"),
                ("free_bits", "nats"),
                ("capacity", "gamma"),
                ("capacity", "capacity"),
            ]
            for bad, shown in [("-1", "-1"), ("nan", "nan"), ("inf", "inf"), ("true", "True")]
        ),
        (lambda: objectives.get("ciwae:beta=1.5"), "beta lies from 0 to 1; received 1.5"),
        (lambda: objectives.get("ciwae:beta=-0.1"), "beta lies from 0 to 1; received -0.1"),
        (lambda: objectives.get("ciwae:beta=true"), "beta lies from 0 to 1; received True"),
    ],
)
def test_bad_options_are_refused_in_one_line(make, message):
    with pytest.raises(InputError, match=message) as e:
        make()
    assert "\n" not in str(e.value)


# --- objectives of one's own ----------------------------------------------------------------------


def test_terms_carry_what_other_objectives_need(rng):
    # The importance-weighted bound: at the exact posterior all weights are p(x), for any K.
    class ImportanceWeighted(Objective):
        num_samples = 8

        def __call__(self, terms: Terms):
            log_weights = (
                terms.log_likelihood
                + terms.prior.log_prob(terms.z)
                - terms.posterior.log_prob(terms.z)
            )
            return -(tf.reduce_logsumexp(log_weights, axis=0) - np.log(self.num_samples))

    model = linear_gaussian(rng, orthogonal=True)
    x = points(model, rng, 5)
    vae = exact_vae(model, objective=ImportanceWeighted())
    terms = vae.terms(as_images(x), num_samples=8, seed=1)
    loss = vae.objective(terms)
    assert loss.shape == (5,)
    assert np.all(np.abs(-loss - model.log_marginal(x)) <= 300 * EPS)


@pytest.mark.parametrize(
    "base",
    [
        objectives.Objective,
        posteriors.Posterior,
        posteriors.FlowPosterior,
        priors.Prior,
        priors.FlowPrior,
        expost.Density,
    ],
)
def test_base_classes_are_abstract(base):
    with pytest.raises(TypeError, match="abstract"):
        base()
