import inspect
import json

import analytic
import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import special, stats

from tfvae import VAE, InputError, likelihoods, objectives, posteriors, priors
from tfvae.likelihoods import Bernoulli, Laplace, Likelihood, LocationScale, Normal, Support

EPS = float(np.finfo(np.float32).eps)

SHAPES = {"grey": (4, 3, 1), "rgb": (4, 3, 3)}

# Each likelihood with each kind of scale, and that scale: a number, or None for a map.
CASES = [
    (Bernoulli, {}, None),
    (Normal, {}, 1.0),
    (Normal, {"scale": 0.3}, 0.3),
    (Normal, {"scale": "learned"}, 1.0),
    (Normal, {"scale": "per_pixel"}, None),
    (Normal, {"scale": "per_pixel", "min_scale": 0.2}, None),
    (Laplace, {}, 1.0),
    (Laplace, {"scale": 0.3}, 0.3),
    (Laplace, {"scale": "learned"}, 1.0),
    (Laplace, {"scale": "per_pixel"}, None),
]
case = pytest.mark.parametrize(
    ("kind", "options", "scale"),
    CASES,
    ids=["-".join(map(str, (kind.__name__, *options.values()))) for kind, options, _ in CASES],
)
any_kind = pytest.mark.parametrize("kind", likelihoods.KNOWN.values(), ids=likelihoods.KNOWN.keys())
both_shapes = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())


def bound(likelihood, image_shape):
    """A likelihood as a model binds it, for a decoder whose last layer has no activation."""
    likelihood.bind(image_shape, seed=0)
    likelihood.last_activation = keras.activations.linear
    return likelihood


def images(rng, batch, shape):
    return rng.random((batch, *shape)).astype(np.float32)


def log_prob(likelihood, raw, x):
    return likelihood.distribution(likelihood(tf.constant(raw))).log_prob(x).numpy()


# --- every likelihood is known and has its cases --------------------------------------------------


def concrete(module, base):
    """The subclasses of `base` that `module` defines and that can make a distribution."""
    return {
        value
        for _, value in inspect.getmembers(module, inspect.isclass)
        if issubclass(value, base) and value.__module__ == module.__name__
    }


def test_every_likelihood_is_known_and_tested():
    defined = concrete(likelihoods, Likelihood) - {Likelihood, LocationScale}
    assert set(likelihoods.KNOWN.values()) == defined
    assert {kind for kind, _, _ in CASES} == defined, "add the new likelihood to CASES"
    assert set(analytic.LOG_PROBS) == {kind.__name__ for kind in defined}


@pytest.mark.parametrize(
    ("module", "base"),
    [
        (posteriors, posteriors.Posterior),
        (priors, priors.Prior),
        (objectives, objectives.Objective),
    ],
)
def test_every_posterior_prior_and_objective_is_known(module, base):
    assert set(module.KNOWN.values()) == concrete(module, base) - {base}


# --- log p(x|z) -----------------------------------------------------------------------------------


def test_references_are_scipys(rng):
    x, loc = rng.normal(size=(2, 50))
    scale = np.exp(rng.normal(size=50))
    bits, p = np.round(rng.random(50)), special.expit(loc)
    for ours, scipys in (
        (analytic.normal_log_prob(x, loc, scale), stats.norm.logpdf(x, loc, scale)),
        (analytic.laplace_log_prob(x, loc, scale), stats.laplace.logpdf(x, loc, scale)),
        (analytic.bernoulli_log_prob(bits, loc), stats.bernoulli.logpmf(bits, p)),
    ):
        np.testing.assert_allclose(ours, scipys, rtol=1e-12)


@case
@both_shapes
def test_log_prob_is_the_sum_over_pixels_and_channels(kind, options, scale, shape, rng):
    likelihood = bound(kind(**options), shape)
    channels = shape[-1]
    raw = rng.normal(size=(5, *shape[:2], likelihood.maps * channels)).astype(np.float32)
    x = images(rng, 5, shape)
    if options.get("scale") == "per_pixel":
        # First the locations of all channels, then their scales.
        scale = options.get("min_scale", 1e-3) + special.softplus(raw[..., channels:].astype(float))
    parameters = (raw[..., :channels],) if scale is None else (raw[..., :channels], scale)
    elements = analytic.LOG_PROBS[kind.__name__](x.astype(float), *parameters)
    # Each element is good to a few roundings, and so is their sum.
    error = np.abs(log_prob(likelihood, raw, x) - elements.sum((1, 2, 3)))
    assert error.shape == (5,)
    assert np.all(error <= 5 * EPS * (np.abs(elements) + 1).sum((1, 2, 3)))


@both_shapes
def test_normal_of_unit_scale_is_half_the_squared_error(shape, rng):
    raw, x = (rng.normal(size=(5, *shape)).astype(np.float32) for _ in range(2))
    dimensions = np.prod(shape)
    expected = np.square(x - raw).sum((1, 2, 3)) / 2 + dimensions / 2 * np.log(2 * np.pi)
    np.testing.assert_allclose(-log_prob(bound(Normal(), shape), raw, x), expected, rtol=1e-6)


@both_shapes
def test_laplace_of_unit_scale_is_the_absolute_error(shape, rng):
    raw, x = (rng.normal(size=(5, *shape)).astype(np.float32) for _ in range(2))
    expected = np.abs(x - raw).sum((1, 2, 3)) + np.prod(shape) * np.log(2)
    np.testing.assert_allclose(-log_prob(bound(Laplace(), shape), raw, x), expected, rtol=1e-6)


@both_shapes
@pytest.mark.parametrize("binary", [True, False])
def test_bernoulli_is_binary_cross_entropy(shape, binary, rng):
    logits = 3 * rng.normal(size=(5, *shape)).astype(np.float32)
    x = images(rng, 5, shape)
    x = np.round(x) if binary else x
    ours = -log_prob(bound(Bernoulli(), shape), logits, x)
    p = special.expit(logits.astype(float))
    numpys = -(x * np.log(p) + (1 - x) * np.log1p(-p)).sum((1, 2, 3))
    np.testing.assert_allclose(ours, numpys, rtol=2e-6)
    keras_loss = keras.losses.BinaryCrossentropy(from_logits=True, reduction=None)
    # Keras takes the mean over the last axis.
    keras_sum = shape[-1] * tf.reduce_sum(keras_loss(x, logits), (1, 2))
    np.testing.assert_allclose(ours, keras_sum, rtol=2e-6)
    if binary:
        scipys = -stats.bernoulli.logpmf(x, p).sum((1, 2, 3))
        np.testing.assert_allclose(ours, scipys, rtol=2e-6)


@case
def test_batches_of_draws_broadcast(kind, options, scale, rng):
    likelihood = bound(kind(**options), (4, 3, 2))
    parameters = likelihood(tf.constant(rng.normal(size=(6, 4, 3, 2 * likelihood.maps)), "float32"))
    x = images(rng, 3, (4, 3, 2))
    several = {name: tf.reshape(value, (2, 3, 4, 3, 2)) for name, value in parameters.items()}
    distribution = likelihood.distribution(several)
    assert distribution.batch_shape == (2, 3)
    assert distribution.event_shape == (4, 3, 2)
    flat = likelihood.distribution(parameters).log_prob(np.concatenate([x, x]))
    np.testing.assert_array_equal(tf.reshape(distribution.log_prob(x), (-1,)), flat)


@case
def test_moments_of_draws(kind, options, scale, rng):
    likelihood = bound(kind(**options), (2, 2, 1))
    raw = rng.normal(size=(1, 2, 2, likelihood.maps)).astype(np.float32)
    distribution = likelihood.distribution(likelihood(tf.constant(raw)))
    mean = special.expit(raw[..., :1]) if kind is Bernoulli else raw[..., :1]
    np.testing.assert_allclose(distribution.mean(), mean, rtol=5 * EPS)
    draws = distribution.sample(20_000, seed=(1, 2)).numpy()
    assert draws.dtype == np.float32
    assert np.all(np.abs(draws.mean(0) - mean) <= 4 * draws.std(0) / np.sqrt(len(draws)))
    if kind is Bernoulli:
        assert set(np.unique(draws)) == {0.0, 1.0}


# --- the scale ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Normal, Laplace])
@pytest.mark.parametrize("min_scale", [1e-3, 0.2, 0.9])
def test_learned_scale(kind, min_scale, rng):
    shape = (4, 3, 1)
    likelihood = bound(kind(scale="learned", min_scale=min_scale), shape)
    raw, x = (rng.normal(size=(2, *shape)).astype(np.float32) for _ in range(2))
    reference = analytic.LOG_PROBS[kind.__name__]
    np.testing.assert_allclose(
        log_prob(likelihood, raw, x), reference(x, raw, 1).sum((1, 2, 3)), 1e-5
    )
    (variable,) = likelihood.trainable_variables
    assert variable.shape == ()

    variable.assign(-0.7)
    expected = reference(x, raw, min_scale + np.log1p(np.exp(-0.7))).sum((1, 2, 3))
    np.testing.assert_allclose(log_prob(likelihood, raw, x), expected, rtol=1e-5)
    with tf.GradientTape() as tape:
        likelihood_of_x = likelihood.distribution(likelihood(tf.constant(raw))).log_prob(x)
    assert abs(tape.gradient(likelihood_of_x, variable.value).numpy()) > 1e-3

    variable.assign(-200.0)
    expected = reference(x, x, min_scale).sum((1, 2, 3))
    np.testing.assert_allclose(log_prob(likelihood, x, x), expected, rtol=1e-5)


@pytest.mark.parametrize("kind", [Normal, Laplace])
@pytest.mark.parametrize("min_scale", [1e-3, 0.2])
def test_per_pixel_scale_has_a_floor(kind, min_scale, rng):
    # A pixel that never changes would otherwise have a density without limit.
    shape = (4, 3, 2)
    likelihood = bound(kind(scale="per_pixel", min_scale=min_scale), shape)
    x = rng.normal(size=(2, *shape)).astype(np.float32)
    raw = np.concatenate([x, np.full_like(x, -200.0)], axis=-1)
    parameters = likelihood(tf.constant(raw))
    np.testing.assert_array_equal(parameters["scale"], np.full_like(x, min_scale))
    expected = analytic.LOG_PROBS[kind.__name__](x, x, min_scale).sum((1, 2, 3))
    np.testing.assert_allclose(log_prob(likelihood, raw, x), expected, rtol=1e-5)


@pytest.mark.parametrize("scale", [0, -1.0, np.inf, np.nan, True, None, "other", [1.0]], ids=str)
def test_bad_scales_are_refused(scale):
    for kind in (Normal, Laplace):
        with pytest.raises(InputError, match="scale is a positive number, 'learned' or 'per_pix"):
            kind(scale=scale)


@pytest.mark.parametrize("scale", [np.float32(0.5), np.float64(0.5), np.int64(2), 2])
def test_a_scale_may_be_any_number(scale):
    # Such as the standard deviation of an array of images.
    assert Normal(scale=scale).scale == scale


def test_bad_floors_are_refused():
    for min_scale in (0, 1, -0.1, 2.0, np.nan):
        with pytest.raises(InputError, match="min_scale lies between 0 and 1"):
            Normal(scale="learned", min_scale=min_scale)


# --- what a decoder puts out ----------------------------------------------------------------------

IMAGE = (4, 3, 2)


def image_decoder(channels, activation=None):
    """A decoder whose last layer puts out an image."""
    return keras.Sequential(
        [
            keras.Input((2,)),
            keras.layers.Dense(12),
            keras.layers.Reshape((4, 3, 1)),
            keras.layers.Conv2D(channels, 3, padding="same", activation=activation),
        ]
    )


def reshaping_decoder(channels, activation=None):
    """A decoder whose dense layer is only reshaped to an image."""
    return keras.Sequential(
        [
            keras.Input((2,)),
            keras.layers.Dense(12 * channels, activation=activation),
            keras.layers.Reshape((4, 3, channels)),
        ]
    )


def flat_decoder(channels, activation=None):
    """A decoder that puts out one row an image."""
    return keras.Sequential(
        [keras.Input((2,)), keras.layers.Dense(12 * channels, activation=activation)]
    )


def activation_layer_decoder(channels, activation=None):
    """A functional decoder, its activation a layer of its own, its last layer a crop."""
    inputs = keras.Input((2,))
    x = keras.layers.Dense(20 * channels)(inputs)
    x = keras.layers.Reshape((5, 4, channels))(x)
    x = keras.layers.Activation(activation or "linear")(x)
    return keras.Model(inputs, keras.layers.Cropping2D(((0, 1), (0, 1)))(x))


class OpaqueDecoder(keras.Model):
    """A decoder that does not show its layers' order."""

    def __init__(self, channels, activation=None):
        super().__init__()
        self.dense = keras.layers.Dense(12 * channels, activation=activation)
        self.reshape = keras.layers.Reshape((4, 3, channels))

    def call(self, z):
        return self.reshape(self.dense(z))


DECODERS = (image_decoder, reshaping_decoder, flat_decoder, activation_layer_decoder)
any_decoder = pytest.mark.parametrize("make_decoder", DECODERS)


def vae_of(decoder, likelihood, image_shape=IMAGE):
    encoder = keras.Sequential([keras.Input(image_shape), keras.layers.Flatten()])
    return VAE(encoder, decoder, 2, likelihood=likelihood, seed=0)


def decoded(vae, rng):
    """z, what the decoder puts out for it reshaped to images, and p(x|z)."""
    z = rng.normal(size=(5, 2)).astype(np.float32)
    output = vae.decoder(z).numpy()
    if output.ndim == 2:
        output = output.reshape((5, 4, 3, -1))
    return output, vae.decode(z).distribution


@any_decoder
def test_linear_last_layer_gives_the_parameters(make_decoder, rng):
    vae = vae_of(make_decoder(2), Bernoulli())
    output, p = decoded(vae, rng)
    np.testing.assert_array_equal(p.logits, output)
    assert not vae.likelihood_family.variables

    output, p = decoded(vae_of(make_decoder(4), Normal(scale="per_pixel")), rng)
    np.testing.assert_array_equal(p.loc, output[..., :2])
    np.testing.assert_allclose(p.scale, 1e-3 + special.softplus(output[..., 2:]), rtol=5 * EPS)


@any_decoder
@any_kind
def test_sigmoid_last_layer_gives_the_mean(make_decoder, kind, rng):
    vae = vae_of(make_decoder(2, "sigmoid"), kind())
    output, p = decoded(vae, rng)
    assert np.all((output > 0) & (output < 1))
    # Through the logits and back: a rounding of the logit, which is of the size of 1, is one of p.
    np.testing.assert_allclose(p.mean(), output, rtol=10 * EPS)
    assert not vae.likelihood_family.variables


@any_decoder
def test_another_activation_must_be_explained(make_decoder):
    for activation in ("relu", "tanh", "softplus"):
        with pytest.raises(InputError, match=r"does not tell what.*decoder_output='features'"):
            vae_of(make_decoder(2, activation), Bernoulli())


def test_a_decoder_that_hides_its_activation_must_be_explained(rng):
    with pytest.raises(InputError, match="decoder_output"):
        vae_of(OpaqueDecoder(2), Bernoulli())
    output, p = decoded(vae_of(OpaqueDecoder(2), Bernoulli(decoder_output="parameters")), rng)
    np.testing.assert_array_equal(p.logits, output)


@any_decoder
def test_any_other_number_of_channels_means_features(make_decoder, rng):
    # Whatever the activation, one that would else mean parameters or the mean.
    vae_of(make_decoder(7), Bernoulli())
    vae_of(make_decoder(7, "sigmoid"), Bernoulli())
    vae = vae_of(make_decoder(7, "relu"), Normal(scale="per_pixel"))
    output, p = decoded(vae, rng)
    kernel, bias = vae.likelihood_family.trainable_variables
    if make_decoder is flat_decoder:
        assert kernel.shape == (12 * 7, 12 * 4)
        expected = (output.reshape(5, -1) @ kernel.numpy() + bias.numpy()).reshape(5, 4, 3, 4)
    else:
        assert kernel.shape == (3, 3, 7, 4)
        expected = tf.nn.conv2d(output, kernel.value, 1, "SAME").numpy() + bias.numpy()
    np.testing.assert_allclose(p.loc, expected[..., :2], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(
        p.scale, 1e-3 + special.softplus(expected[..., 2:]), rtol=1e-4, atol=1e-6
    )


@any_decoder
def test_decoder_output_overrides_the_guess(make_decoder, rng):
    output, p = decoded(vae_of(make_decoder(2, "relu"), Normal(decoder_output="parameters")), rng)
    np.testing.assert_array_equal(p.loc, output)

    output, p = decoded(
        vae_of(make_decoder(2, "sigmoid"), Bernoulli(decoder_output="parameters")), rng
    )
    np.testing.assert_array_equal(p.logits, output)

    output, p = decoded(
        vae_of(make_decoder(2, "hard_sigmoid"), Bernoulli(decoder_output="mean")), rng
    )
    np.testing.assert_allclose(p.mean(), output, rtol=10 * EPS)

    vae = vae_of(make_decoder(2), Bernoulli(decoder_output="features"))
    assert len(vae.likelihood_family.trainable_variables) == 2


@any_decoder
def test_an_override_that_does_not_fit_is_refused(make_decoder):
    for meaning in ("parameters", "mean"):
        with pytest.raises(InputError, match=f"that puts out its {meaning}; received shape"):
            vae_of(make_decoder(3), Bernoulli(decoder_output=meaning))


def test_an_unknown_override_is_refused():
    with pytest.raises(InputError, match="decoder_output is 'features', 'parameters' or 'mean'"):
        Normal(decoder_output="logits")


def test_a_mean_says_nothing_of_a_scale_per_pixel():
    # A sigmoid would hold every scale in [softplus(0), softplus(1)] = [0.69, 1.31].
    with pytest.raises(InputError, match="decoder_output"):
        vae_of(image_decoder(4, "sigmoid"), Normal(scale="per_pixel"))
    with pytest.raises(InputError, match="which a mean does not tell"):
        vae_of(image_decoder(4, "sigmoid"), Normal(scale="per_pixel", decoder_output="mean"))


def test_saturated_sigmoid_gives_no_infinity():
    vae = vae_of(image_decoder(2, "sigmoid"), Bernoulli())
    for bias, wrong in ((200.0, 0.0), (-200.0, 1.0)):
        vae.decoder.layers[-1].bias.assign([bias] * 2)
        p = vae.decode(np.zeros((1, 2), np.float32))
        assert np.all(np.abs(vae.decoder(np.zeros((1, 2))) - wrong) == 1)
        # The probability is held 1e-7, Keras' epsilon, from 0 and 1; in float32 1 − 1e-7 is
        # 1 − 1.2e-7, whose logarithm differs from that of 1e-7 by 0.18.
        per_pixel = p.log_prob(np.full((1, *IMAGE), wrong, np.float32)).numpy() / np.prod(IMAGE)
        assert abs(per_pixel[0] - np.log(1e-7)) < 0.2


@pytest.mark.parametrize("output_shape", [(4, 4, 2), (2, 3, 2), (12, 2)])
def test_images_of_another_size_are_refused(output_shape):
    decoder = keras.Sequential(
        [
            keras.Input((2,)),
            keras.layers.Dense(int(np.prod(output_shape))),
            keras.layers.Reshape(output_shape),
        ]
    )
    with pytest.raises(InputError, match=r"the decoder of 4 x 3 images must put out \[batch, 4, 3"):
        vae_of(decoder, Bernoulli())


def test_a_likelihood_belongs_to_one_model():
    likelihood = Bernoulli()
    vae_of(image_decoder(2), likelihood)
    with pytest.raises(InputError, match="give each model a family of its own"):
        vae_of(image_decoder(2), likelihood, image_shape=(4, 3, 1))


# --- the built-in networks give features, whatever their size -------------------------------------


@pytest.mark.parametrize(
    ("network", "image_shape", "likelihood"),
    [
        # 16 x 32 pixels are as many as the dense decoder's last layer has units, 512.
        ("dense", (16, 32, 1), "bernoulli"),
        # 32 channels are as many as the convolutional decoders' last layer has.
        ("conv", (8, 8, 32), "bernoulli"),
        ("residual", (8, 8, 32), "bernoulli"),
        ("conv", (8, 8, 16), "normal:scale=per_pixel"),
    ],
)
def test_features_that_happen_to_fit_are_features(network, image_shape, likelihood):
    vae = VAE.for_images(image_shape, latent_dim=2, network=network, likelihood=likelihood)
    assert len(vae.likelihood_family.trainable_variables) == 2
    assert vae.decode(tf.zeros((1, 2))).event_shape == image_shape


# --- mixed precision ------------------------------------------------------------------------------


@case
@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_parameters_and_densities_are_float32_under_mixed_precision(
    policy, kind, options, scale, rng
):
    keras.config.set_dtype_policy(policy)
    vae = VAE.for_images((4, 3, 3), latent_dim=2, network="dense", likelihood=kind(**options))
    x = images(rng, 2, (4, 3, 3))
    assert vae.encoder(x).dtype == policy.removeprefix("mixed_")
    assert vae.decoder(np.zeros((2, 2))).dtype == policy.removeprefix("mixed_")
    assert all(variable.dtype == "float32" for variable in vae.trainable_variables)

    terms = vae.terms(x, seed=1)
    q, p = terms.posterior.distribution, terms.likelihood.distribution
    parameters = (p.logits,) if kind is Bernoulli else (p.loc, p.scale)
    for tensor in (q.loc, q.log_var, *parameters, terms.z, terms.log_likelihood, terms.kl):
        assert tensor.dtype == tf.float32
    # The posterior's are computed in float32, and not only cast to it.
    for tensor in (q.loc, q.log_var):
        assert np.any(tf.cast(tf.cast(tensor, vae.encoder(x).dtype), tf.float32) != tensor)
    # The images have not been through half precision: that would be an error of 1e-3.
    values = [value.numpy()[0] if value.shape.rank else value.numpy() for value in parameters]
    elements = analytic.LOG_PROBS[kind.__name__](x.astype(float), *values)
    error = np.abs(terms.log_likelihood[0] - elements.sum((1, 2, 3)))
    assert np.all(error <= 5 * EPS * (np.abs(elements) + 1).sum((1, 2, 3)))


# --- the support ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("support", "values", "admitted"),
    [
        (Support(0, 1), [0.0, 0.5, 1.0], True),
        (Support(0, 1), [0.5, np.nextafter(np.float32(1), 2)], False),
        (Support(0, 1), [-1e-6, 0.5], False),
        (Support(0, 1), [0.5, np.nan], False),
        (Support(0, 1), [np.inf, 0.5], False),
        (Support(), [-1e30, 1e30], True),
        (Support(), [0.0, np.nan], False),
        (Support(), [0.0, np.inf], False),
        (Support(), [0.0, -np.inf], False),
        (Support(low=0), [0.0, 1e30], True),
        (Support(low=0), [-1e-6, 1e30], False),
    ],
)
def test_support_admits(support, values, admitted):
    values = np.array(values, np.float32)
    for function in (support.admits, tf.function(support.admits)):
        answer = function(tf.constant(values))
        assert answer.shape == () and answer.dtype == tf.bool
        assert bool(answer) is admitted


def test_support_in_words():
    assert str(Support(0, 1)) == "values in [0, 1]"
    assert str(Support()) == "finite values"
    assert str(Support(low=-1)) == "values in [-1, inf]"


@any_kind
def test_check_takes_what_is_supported(kind):
    x = np.array([[0.0, 0.25], [0.75, 1.0]], np.float32)
    for values in (x, x.astype(np.float64), tf.constant(x), x.tolist()):
        kind().check(values)


@any_kind
@pytest.mark.parametrize("dtype", [np.uint8, np.int64, bool])
def test_check_takes_whole_numbers(kind, dtype):
    kind().check(np.array([[0, 1], [1, 0]], dtype))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8, np.int32])
def test_check_refuses_bytes(dtype):
    with pytest.raises(InputError) as error:
        Bernoulli().check(np.arange(256, dtype=dtype))
    assert str(error.value) == (
        "Bernoulli expects values in [0, 1]; received values from 0 to 255: "
        "scale the images, for bytes x / 255.0"
    )


@any_kind
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_check_refuses_what_is_not_finite(kind, value):
    x = np.full((3, 4, 4, 1), 0.5, np.float32)
    x[1, 2, 3, 0] = value
    with pytest.raises(InputError) as error:
        kind().check(x)
    message = str(error.value)
    assert message.startswith(f"{kind.__name__} expects {kind.support}; received values from ")
    assert message.endswith(": remove or replace NaN and infinite values")
    assert "\n" not in message


def test_check_of_bytes_leaves_the_real_line_alone():
    Normal().check(np.arange(256, dtype=np.float32) - 100)


# --- names, options, configurations ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "kind", "options"),
    [
        ("bernoulli", Bernoulli, {"decoder_output": None}),
        ("bernoulli:decoder_output=mean", Bernoulli, {"decoder_output": "mean"}),
        ("normal", Normal, {"scale": 1.0, "min_scale": 1e-3}),
        ("normal:scale=0.1", Normal, {"scale": 0.1}),
        ("normal:scale=2", Normal, {"scale": 2}),
        ("normal:scale=1e-1", Normal, {"scale": 0.1}),
        ("normal:scale=learned,min_scale=0.05", Normal, {"scale": "learned", "min_scale": 0.05}),
        ("normal: scale = per_pixel , min_scale = 0.05", Normal, {"scale": "per_pixel"}),
        ("normal:decoder_output=parameters", Normal, {"decoder_output": "parameters"}),
        (
            "laplace:scale=per_pixel,decoder_output=features",
            Laplace,
            {"scale": "per_pixel", "decoder_output": "features"},
        ),
    ],
)
def test_likelihoods_from_text(text, kind, options):
    likelihood = likelihoods.get(text)
    assert type(likelihood) is kind
    for name, value in options.items():
        assert getattr(likelihood, name) == value
        assert type(getattr(likelihood, name)) is type(value)


def test_others_from_text():
    assert type(posteriors.get("normal")) is posteriors.DiagonalNormal
    assert type(priors.get("standard_normal")) is priors.StandardNormal
    objective = objectives.get("elbo:beta=4,num_samples=3")
    assert type(objective) is objectives.ELBO
    assert objective.get_config() == {"beta": 4.0, "num_samples": 3}


@pytest.mark.parametrize(
    ("get", "text", "message"),
    [
        (likelihoods.get, "gaussian", "unknown likelihood 'gaussian': expected one of bernoulli, "),
        (likelihoods.get, "Normal", "unknown likelihood 'Normal': expected one of bernoulli, "),
        (likelihoods.get, "", "unknown likelihood '': expected one of"),
        (likelihoods.get, "normal:sigma=1", "unknown option 'sigma' of likelihood 'normal'"),
        (likelihoods.get, "normal:self=1", "unknown option 'self' of likelihood 'normal'"),
        (likelihoods.get, "normal:scale", "'scale' is no option=value"),
        (likelihoods.get, "normal:scale=", "'scale=' is no option=value"),
        (likelihoods.get, "normal:0.1", "'0.1' is no option=value"),
        (likelihoods.get, "normal:scale=-1", "scale is a positive number"),
        (likelihoods.get, "normal:scale=true", "scale is a positive number"),
        (likelihoods.get, "normal:scale=nan", "scale is a positive number"),
        (likelihoods.get, "normal:scale=wide", "scale is a positive number"),
        (likelihoods.get, "normal:scale=learned,min_scale=2", "min_scale lies between 0 and 1"),
        (likelihoods.get, "normal:scale=learned,min_scale=small", "min_scale lies between"),
        (likelihoods.get, "bernoulli:decoder_output=logits", "decoder_output is 'features'"),
        (posteriors.get, "flow", "unknown posterior 'flow': expected one of normal"),
        (posteriors.get, "normal:rank=2", "unknown option 'rank' of posterior 'normal'"),
        (priors.get, "normal", "unknown prior 'normal': expected one of standard_normal"),
        (objectives.get, "iwae", "unknown objective 'iwae': expected one of elbo"),
        (objectives.get, "elbo:gamma=1", "unknown option 'gamma' of objective 'elbo'"),
        (objectives.get, "elbo:beta=-1", "beta is a number of at least 0"),
        (objectives.get, "elbo:beta=high", "beta is a number of at least 0"),
        (objectives.get, "elbo:num_samples=1.5", "num_samples is a whole number from 1"),
    ],
)
def test_bad_texts_are_refused_in_one_line(get, text, message):
    with pytest.raises(InputError) as error:
        get(text)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("get", [likelihoods.get, posteriors.get, priors.get, objectives.get])
def test_what_is_no_family_is_refused(get):
    for identifier in (None, 3, ["normal"], Bernoulli, keras.layers.Flatten()):
        with pytest.raises(InputError, match="is a name or a tfvae"):
            get(identifier)


def test_a_configuration_of_another_kind_is_refused():
    with pytest.raises(InputError, match="likelihood"):
        likelihoods.get(keras.saving.serialize_keras_object(priors.StandardNormal()))


FAMILIES = [
    *((likelihoods.get, lambda k=kind, o=options: k(**o)) for kind, options, _ in CASES),
    (likelihoods.get, lambda: Bernoulli(decoder_output="mean")),
    (likelihoods.get, lambda: Normal(scale="learned", decoder_output="features", name="noise")),
    (posteriors.get, posteriors.DiagonalNormal),
    (priors.get, priors.StandardNormal),
    (objectives.get, objectives.ELBO),
    (objectives.get, lambda: objectives.ELBO(beta=0.5, num_samples=3)),
]


@pytest.mark.parametrize(("get", "make"), FAMILIES)
def test_configurations_come_back(get, make):
    family = make()
    # As a saved model carries it: through JSON.
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(family)))
    for restored in (keras.saving.deserialize_keras_object(config), get(config)):
        assert type(restored) is type(family)
        assert restored is not family
        assert restored.get_config() == family.get_config()
    assert get(family) is family


def test_configurations_hold_every_argument():
    config = Normal(
        scale="learned", min_scale=0.1, decoder_output="features", name="n"
    ).get_config()
    given = {"scale": "learned", "min_scale": 0.1, "decoder_output": "features", "name": "n"}
    assert given.items() <= config.items()
    assert objectives.ELBO(2, 3).get_config() == {"beta": 2.0, "num_samples": 3}


@pytest.mark.parametrize("network", ["conv", "dense"])
def test_a_scale_per_pixel_starts_flat(network, rng):
    likelihood = Normal(scale="per_pixel", min_scale=1e-3)
    vae = VAE.for_images((8, 6, 3), latent_dim=2, network=network, likelihood=likelihood, seed=0)
    z = rng.normal(size=(5, 2)) * 10
    scale = vae.decode(z).distribution.scale
    np.testing.assert_allclose(scale, 1e-3 + np.log(2), rtol=1e-6)
    assert np.std(vae.decode(z).mean()) > 1e-3
