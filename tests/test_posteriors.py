import re

import components
import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import stats
from tensorflow_probability import distributions as tfd

from tfvae import VAE, InputError, posteriors, priors
from tfvae.posteriors import CouplingFlow, DiagonalNormal, FullNormal, InverseAutoregressive

NAMES = list(posteriors.BY_NAME)
FLOWS = ["iaf:flows=3,hidden=8", "coupling:flows=3,hidden=8"]
every = pytest.mark.parametrize("name", ["normal", "full_normal", *FLOWS])
every_flow = pytest.mark.parametrize("name", FLOWS)
FEATURES = 7


def features(*shape, seed=0):
    return tf.constant(np.random.default_rng(seed).normal(size=shape), tf.float32)


def built(name, d=4, seed=0, shaken=0.0):
    """A posterior for z of d dimensions, with its weights `shaken` away from their start."""
    family = posteriors.get(name)
    family.bind((d,), seed)
    family(features(2, FEATURES))
    return components.shaken(family, seed=1, size=shaken)


def test_names_and_defaults():
    assert {
        "normal": DiagonalNormal,
        "full_normal": FullNormal,
        "iaf": InverseAutoregressive,
        "coupling": CouplingFlow,
        "relaxed_categorical": posteriors.RelaxedCategorical,
    } == posteriors.BY_NAME
    family = posteriors.get("relaxed_categorical")
    assert (family.classes, family.temperature) == (10, 0.5)
    for name in ("iaf", "coupling"):
        family = posteriors.get(name)
        assert (family.flows, family.hidden) == (4, 64)
    family = posteriors.get("iaf:flows=2,hidden=16")
    assert (family.flows, family.hidden) == (2, 16)


# --- shapes ---------------------------------------------------------------------------------------


@every
@pytest.mark.parametrize("d", [1, 5])
def test_shapes(name, d):
    if d == 1 and name.startswith("coupling"):
        with pytest.raises(InputError, match="needs a latent dimension from 2; received 1"):
            built(name, d)
        return
    family = built(name, d)
    parameters = family(features(3, FEATURES))
    assert {value.dtype for value in parameters.values()} == {tf.float32}
    assert all(value.shape[0] == 3 for value in parameters.values())
    q = family.distribution(parameters)
    assert q.batch_shape == (3,) and q.event_shape == (d,) and q.dtype == tf.float32
    z, log_prob = q.experimental_sample_and_log_prob(6, seed=(1, 2))
    assert z.shape == (6, 3, d) and log_prob.shape == (6, 3)
    np.testing.assert_allclose(q.log_prob(tf.identity(z)), log_prob, rtol=1e-5, atol=1e-5)
    assert family.code(q).shape == (3, d)
    assert q.log_prob(tf.zeros((2, 1, d))).shape == (2, 3)


@pytest.mark.few(2)
@every
def test_one_image_without_a_batch(name):
    family = built(name, shaken=0.1)
    parameters = family(features(3, FEATURES))
    q = family.distribution(parameters)
    z = q.sample(5, seed=(1, 2))
    one = family.distribution({key: value[1] for key, value in parameters.items()})
    assert one.batch_shape == () and one.sample(5, seed=(1, 2)).shape == (5, 4)
    np.testing.assert_allclose(one.log_prob(z[:, 1]), q.log_prob(z)[:, 1], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(family.code(one), family.code(q)[1], rtol=1e-5, atol=1e-6)

    @tf.function
    def draw_each(parameters, seeds):
        return tf.map_fn(
            lambda row: family.distribution(row[0]).sample(5, seed=row[1]),
            (parameters, seeds),
            fn_output_signature=tf.float32,
        )

    drawn = draw_each(parameters, tf.constant([(1, 2)] * 3))
    np.testing.assert_allclose(drawn[1], one.sample(5, seed=(1, 2)), rtol=1e-5, atol=1e-6)


@every
def test_features_of_any_shape(name):
    family = posteriors.get(name)
    family.bind((3,), 0)
    x = features(2, 3, 4, 5)
    flat = posteriors.get(name)
    flat.bind((3,), 0)
    for key, value in family(x).items():
        np.testing.assert_array_equal(value, flat(tf.reshape(x, (2, 60)))[key])


@every
def test_float32_from_half_precision(name):
    keras.config.set_dtype_policy("mixed_bfloat16")
    family = built(name)
    assert {weight.dtype for weight in family.weights} == {"float32"}
    parameters = family(tf.cast(features(2, FEATURES), tf.bfloat16))
    assert {value.dtype for value in parameters.values()} == {tf.float32}
    assert family.distribution(parameters).sample(seed=(1, 2)).dtype == tf.float32


# --- what they are --------------------------------------------------------------------------------


def test_full_normal_is_scipys():
    family = built("full_normal", 3, shaken=0.3)
    parameters = family(features(2, FEATURES))
    q = family.distribution(parameters)
    assert parameters["lower"].shape == (2, 3)
    z = features(5, 2, 3, seed=1)
    for i in range(2):
        loc, log_var, lower = (
            parameters[key][i].numpy().astype(np.float64) for key in ("loc", "log_var", "lower")
        )
        mixing = np.array([[1, 0, 0], [lower[0], 1, 0], [lower[1], lower[2], 1]])
        factor = np.exp(0.5 * log_var)[:, None] * mixing
        expected = stats.multivariate_normal(loc, factor @ factor.T).logpdf(z[:, i])
        np.testing.assert_allclose(q.log_prob(z)[:, i], expected, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(q.covariance()[i], factor @ factor.T, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(family.code(q), parameters["loc"])


def test_full_normal_starts_with_moderate_correlations():
    family = built("full_normal", 32)
    lower = family.distribution(family(features(50, FEATURES))).lower
    norms = np.linalg.norm(lower, axis=-1)
    assert 0.05 < norms[:, 1:].mean() < 1.5


def test_kl_of_normals_is_exact():
    prior = priors.StandardNormal()
    prior.bind((4,), 0)
    for name in ("normal", "full_normal"):
        family = built(name)
        q = family.distribution(family(features(3, FEATURES)))
        z = q.sample(20_000, seed=(1, 2))
        difference = (q.log_prob(z) - prior.distribution().log_prob(z)).numpy()
        error = np.abs(difference.mean(0) - tfd.kl_divergence(q, prior.distribution()))
        assert np.all(error <= 4 * difference.std(0) / np.sqrt(20_000))


@every_flow
def test_flows_change_variables(name):
    """log q(z) = log N(z_0; μ, σ²) − log |det ∂z/∂z_0|, the determinant by autodiff."""
    family = built(name, 3, shaken=0.2)
    q = family.distribution(family(features(1, FEATURES)))
    start = features(1, 3, seed=2)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(start)
        z = q.bijector.forward(start)
    jacobian = tape.jacobian(z, start, experimental_use_pfor=False).numpy()[0, :, 0]
    expected = q.distribution.log_prob(start) - np.linalg.slogdet(jacobian)[1]
    np.testing.assert_allclose(q.log_prob(tf.identity(z)), expected, atol=1e-5)


def grid(d, half_width, points):
    axis = np.linspace(-half_width, half_width, points)
    cells = np.stack(np.meshgrid(*d * [axis], indexing="ij"), axis=-1).reshape(-1, d)
    return cells.astype(np.float32), (axis[1] - axis[0]) ** d


@pytest.mark.parametrize(("name", "d"), [("iaf:hidden=8", 1), *((name, 2) for name in FLOWS)])
def test_flows_integrate_to_one_and_their_draws_fit(name, d):
    family = built(name, d, shaken=0.1)
    parameters = family(features(1, FEATURES) * 0.5)
    q = family.distribution({key: value[0] for key, value in parameters.items()})
    z, cell = grid(d, 12.0, 2401 if d == 1 else 481)
    mass = np.exp(q.log_prob(z).numpy().astype(np.float64)) * cell
    np.testing.assert_allclose(mass.sum(), 1, atol=1e-4)
    n = 50_000
    draws = q.sample(n, seed=(1, 2)).numpy().astype(np.float64)
    for power in (1, 2):
        expected = mass @ z.astype(np.float64) ** power
        error = np.abs((draws**power).mean(0) - expected)
        assert np.all(error <= 4 * (draws**power).std(0) / np.sqrt(n) + 1e-4)


@every_flow
def test_code_of_a_flow_is_the_image_of_the_mean(name):
    family = built(name, shaken=0.1)
    parameters = family(features(3, FEATURES))
    q = family.distribution(parameters)
    expected = family.flow.bijector(parameters["context"]).forward(parameters["loc"])
    np.testing.assert_array_equal(family.code(q), expected)


def test_flows_start_near_their_base():
    for name, scale in (("iaf:flows=1", 0.90), ("coupling", 1.0)):
        family = built(name, 8)
        parameters = family(features(50, FEATURES))
        change = family.code(family.distribution(parameters)) - scale * parameters["loc"]
        assert np.sqrt(np.mean(np.square(change))) < 0.15


def test_the_head_starts_as_keras_dense_does():
    for name in NAMES:
        kernel = built(name, 10).head.kernel.numpy()
        bound = np.sqrt(6 / sum(kernel.shape))
        assert 0.9 * bound < np.abs(kernel).max() <= bound


# --- gradients, seeds, saving ---------------------------------------------------------------------


@pytest.mark.few(3)
@every
@pytest.mark.parametrize("way", ["draws", "elsewhere"])
def test_every_weight_has_a_gradient(name, way):
    family = built(name, shaken=0.05)
    with tf.GradientTape() as tape:
        q = family.distribution(family(features(3, FEATURES)))
        if way == "draws":
            z, log_prob = q.experimental_sample_and_log_prob(2, seed=(1, 2))
            loss = tf.reduce_mean(log_prob) + tf.reduce_mean(z**2)
        else:
            loss = tf.reduce_mean(q.log_prob(features(2, 3, 4)))
    gradients = tape.gradient(loss, [weight.value for weight in family.trainable_weights])
    assert len(gradients) >= 2
    for gradient in gradients:
        assert gradient is not None and np.any(gradient != 0) and np.all(np.isfinite(gradient))


@every
def test_draws_and_seeds(name):
    family = built(name)
    parameters = family(features(3, FEATURES))
    draw = [
        family.distribution(parameters).sample(2, seed=seed) for seed in ((1, 2), (1, 2), (1, 3))
    ]
    np.testing.assert_array_equal(draw[0], draw[1])
    assert np.all(draw[0] != draw[2])
    same, other = built(name), built(name, seed=1)
    for weights in zip(family.weights, same.weights, other.weights, strict=True):
        a, b, c = (weight.numpy() for weight in weights)
        np.testing.assert_array_equal(a, b)
        assert not np.any(a) or np.all(a != c)


@pytest.mark.few(2)
@every
def test_each_event_may_have_a_seed_of_its_own(name, rng):
    x = rng.random((3, 4, 3, 1)).astype(np.float32)
    vae = VAE.for_images((4, 3, 1), latent_dim=2, network="dense", posterior=name, seed=0)
    # It goes through tf.map_fn.
    each = vae.terms(x, num_samples=2, seed=tf.constant([(1, 2)] * 3)).elbo
    assert np.all(np.isfinite(each))


# --- a posterior of one's own, and errors ---------------------------------------------------------


def test_a_posterior_of_ones_own_has_the_mean_as_code():
    class Laplace(posteriors.Posterior):
        def call(self, encoder_output):
            return {"loc": encoder_output}

        def distribution(self, parameters):
            return tfd.Independent(tfd.Laplace(parameters["loc"], 1.0), 1)

    loc = features(3, 2)
    family = Laplace()
    np.testing.assert_array_equal(family.code(family.distribution(family(loc))), loc)


@pytest.mark.parametrize("kind", [InverseAutoregressive, CouplingFlow])
@pytest.mark.parametrize("option", ["flows", "hidden"])
@pytest.mark.parametrize("value", [0, -1, 1.5, True, "many", None])
def test_bad_options(kind, option, value):
    with pytest.raises(InputError, match=f"^{option} is a whole number from 1; received "):
        kind(**{option: value})


def test_coupling_needs_two_dimensions():
    message = 'needs a latent dimension from 2; received 1: choose the posterior "iaf"'
    with pytest.raises(InputError, match=re.escape(message)):
        posteriors.get("coupling").bind((1,), 0)


@pytest.mark.parametrize("name", NAMES[1:])
def test_several_outputs_are_for_the_diagonal_normal(name):
    family = posteriors.get(name)
    family.bind((10,), 0)
    with pytest.raises(InputError, match=r'choose the posterior "normal"$') as error:
        family([features(2, 4), features(2, 4)])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", NAMES)
def test_features_of_unknown_size_are_refused(name):
    family = posteriors.get(name)
    family.bind((10,), 0)
    with pytest.raises(InputError, match="features of a known size"):
        family.build((None, None))
