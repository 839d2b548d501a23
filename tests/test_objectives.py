import analytic
import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import special

from tfvae import VAE, InputError, likelihoods
from tfvae.likelihoods import Normal
from tfvae.objectives import ELBO, Objective, Terms

EPS = float(np.finfo(np.float32).eps)

# --- the loss is made of the right two numbers ----------------------------------------------------

IMAGE = (5, 4, 3)

LIKELIHOODS = [
    "bernoulli",
    "normal",
    "normal:scale=0.3",
    "normal:scale=learned",
    "normal:scale=per_pixel",
    "laplace",
    "laplace:scale=0.3",
    "laplace:scale=learned",
    "laplace:scale=per_pixel",
]


def test_every_likelihood_is_in_the_list():
    assert {text.partition(":")[0] for text in LIKELIHOODS} == set(likelihoods.KNOWN)


def recomputed_log_likelihood(vae, x, z):
    """log p(x|z) `[K, B]` in float64, from what the decoder and the likelihood's layer put out."""
    flat = z.reshape(-1, z.shape[-1])
    family = vae.likelihood_family
    raw = {name: value.numpy() for name, value in family(vae.decoder(flat)).items()}
    if "logits" in raw:
        parameters = (raw["logits"],)
    elif family.scale == "learned":
        (raw_scale,) = (v.numpy() for v in family.trainable_variables if v.shape == ())
        parameters = (raw["loc"], family.min_scale + special.softplus(np.float64(raw_scale)))
    else:
        parameters = (raw["loc"], raw.get("scale", family.scale))
    images = np.tile(x.astype(np.float64), (len(z), 1, 1, 1))
    elements = analytic.LOG_PROBS[type(family).__name__](images, *parameters)
    return elements.sum((1, 2, 3)).reshape(z.shape[:2])


def recomputed_kl(vae, x):
    """KL(q(z|x) ‖ N(0, I)) `[B]` in float64, from what the encoder and the posterior put out."""
    parameters = vae.posterior_family(vae.encoder(x))
    return analytic.gaussian_kl(parameters["loc"], parameters["log_var"]).sum(-1)


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
    vae.compile("adam")
    vae.train_on_batch(rng.random((3, 4, 4, 1)).astype(np.float32))
    assert set(draws) == {6}


@pytest.mark.parametrize("beta", [-0.1, -1, np.nan, np.inf, "1", None])
def test_bad_betas_are_refused(beta):
    with pytest.raises(InputError, match="beta is a number of at least 0; received"):
        ELBO(beta=beta)


@pytest.mark.parametrize("num_samples", [0, -1, 1.5, 2.0, "2", None, True])
def test_bad_numbers_of_samples_are_refused(num_samples):
    with pytest.raises(InputError, match="num_samples is a whole number from 1; received"):
        ELBO(num_samples=num_samples)


# --- the references agree with each other ---------------------------------------------------------

D, LATENT = 4, 2
SIGMA = 0.6
BOX = (2, 2, 1)


def linear_gaussian(rng, orthogonal):
    weights = rng.normal(size=(D, LATENT))
    if orthogonal:
        # Columns of different lengths at right angles: the exact posterior is diagonal.
        weights = np.linalg.qr(weights)[0] * np.array([1.3, 0.5])
    # Numbers that float32 holds: the model's layers then compute with the very same.
    weights = weights.astype(np.float32).astype(np.float64)
    offset = rng.normal(size=D).astype(np.float32).astype(np.float64)
    return analytic.LinearGaussian(weights, offset, SIGMA)


def points(model, rng, count):
    """Draws of x from the model itself, `[count, D]`."""
    z = rng.standard_normal((count, LATENT))
    x = z @ model.weights.T + model.offset + SIGMA * rng.standard_normal((count, D))
    return x.astype(np.float32).astype(np.float64)


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


def linear_vae(model, mean_weights, mean_offset, variance, **kwargs):
    """The model as a `VAE` with q(z|x) = N(A x + a, diag v), written by hand in Keras."""
    image = keras.Input(BOX)
    x = keras.layers.Flatten()(image)
    loc = keras.layers.Dense(LATENT, name="loc")
    log_var = keras.layers.Dense(LATENT, kernel_initializer="zeros", name="log_var")
    encoder = keras.Model(image, [loc(x), log_var(x)])
    loc.set_weights([mean_weights.T, mean_offset])
    log_var.bias.assign(np.log(variance))

    z = keras.Input((LATENT,))
    linear = keras.layers.Dense(D)
    decoder = keras.Model(z, keras.layers.Reshape(BOX)(linear(z)))
    linear.set_weights([model.weights.T, model.offset])
    likelihood = Normal(scale=model.sigma, decoder_output="parameters")
    return VAE(encoder, decoder, LATENT, likelihood=likelihood, seed=0, **kwargs)


def exact_vae(model, **kwargs):
    """The model with its exact posterior; W must have orthogonal columns."""
    weights = model.posterior_weights()
    variance = np.diag(model.posterior_covariance())
    return linear_vae(model, weights, -weights @ model.offset, variance, **kwargs)


def as_images(x):
    return x.reshape(-1, *BOX).astype(np.float32)


def estimate(samples):
    """The mean over the first axis and its standard error."""
    return samples.mean(0), samples.std(0, ddof=1) / np.sqrt(len(samples))


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
