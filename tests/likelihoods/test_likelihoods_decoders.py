"""What a decoder may put out, and what a likelihood makes of it."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from likelihood_cases import EPS
from scipy import special

from tfvae import VAE, InputError, likelihoods
from tfvae.likelihoods import Bernoulli, DiscretizedLogistic, Normal

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

    output, p = decoded(vae_of(make_decoder(4), Normal(scale="per_value")), rng)
    np.testing.assert_array_equal(p.loc, output[..., :2])
    np.testing.assert_allclose(p.scale, 1e-3 + special.softplus(output[..., 2:]), rtol=5 * EPS)


TAKE_MEANS = [kind for kind in likelihoods.BY_NAME.values() if kind().takes_mean]
OTHERS = [kind for kind in likelihoods.BY_NAME.values() if not kind().takes_mean]


@pytest.mark.parametrize(
    ("make_decoder", "kind"),
    [(DECODERS[i % len(DECODERS)], kind) for i, kind in enumerate(TAKE_MEANS)],
)
def test_sigmoid_last_layer_gives_the_mean(make_decoder, kind, rng):
    vae = vae_of(make_decoder(2, "sigmoid"), kind())
    output, p = decoded(vae, rng)
    assert np.all((output > 0) & (output < 1))
    # Through the logits and back: a rounding of the logit, which is of the size of 1, is one of p.
    np.testing.assert_allclose(p.mean(), output, rtol=10 * EPS)
    assert not [v for v in vae.likelihood_family.variables if v.shape != ()]


def test_a_mean_that_does_not_tell_the_parameters_is_refused():
    assert DiscretizedLogistic in OTHERS and Bernoulli not in OTHERS
    for kind in OTHERS:
        count = kind().parameters_per_value
        with pytest.raises(InputError, match="which a mean does not tell"):
            vae_of(image_decoder(2 * count, "sigmoid"), kind(decoder_output="mean"))
        with pytest.raises(InputError, match="does not tell what it is"):
            vae_of(image_decoder(2 * count, "sigmoid"), kind())


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


@pytest.mark.few(3)
@any_decoder
def test_any_other_number_of_channels_means_features(make_decoder, rng):
    # Whatever the activation, one that would else mean parameters or the mean.
    vae_of(make_decoder(7), Bernoulli())
    vae_of(make_decoder(7, "sigmoid"), Bernoulli())
    vae = vae_of(make_decoder(7, "relu"), Normal(scale="per_value"))
    output, p = decoded(vae, rng)
    kernel, bias = vae.likelihood_family.head.trainable_variables
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


@pytest.mark.few(2)
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
    assert vae.likelihood_family.head is not None


@any_decoder
def test_an_override_that_does_not_fit_is_refused(make_decoder):
    for meaning in ("parameters", "mean"):
        with pytest.raises(InputError, match=f"that puts out its {meaning}; received shape"):
            vae_of(make_decoder(3), Bernoulli(decoder_output=meaning))


def test_an_unknown_override_is_refused():
    with pytest.raises(InputError, match="decoder_output is 'features', 'parameters' or 'mean'"):
        Normal(decoder_output="logits")


def test_a_mean_says_nothing_of_a_scale_per_value():
    # A sigmoid would hold every scale in [softplus(0), softplus(1)] = [0.69, 1.31].
    with pytest.raises(InputError, match="decoder_output"):
        vae_of(image_decoder(4, "sigmoid"), Normal(scale="per_value"))
    with pytest.raises(InputError, match="which a mean does not tell"):
        vae_of(image_decoder(4, "sigmoid"), Normal(scale="per_value", decoder_output="mean"))


def test_saturated_sigmoid_gives_no_infinity():
    vae = vae_of(image_decoder(2, "sigmoid"), Bernoulli())
    for bias, wrong in ((200.0, 0.0), (-200.0, 1.0)):
        vae.decoder.layers[-1].bias.assign([bias] * 2)
        p = vae.decode(np.zeros((1, 2), np.float32))
        assert np.all(np.abs(vae.decoder(np.zeros((1, 2))) - wrong) == 1)
        # The probability is held 1e-7, Keras' epsilon, from 0 and 1; in float32 1 − 1e-7 is
        # 1 − 1.2e-7, whose logarithm differs from that of 1e-7 by 0.18.
        per_value = p.log_prob(np.full((1, *IMAGE), wrong, np.float32)).numpy() / np.prod(IMAGE)
        assert abs(per_value[0] - np.log(1e-7)) < 0.2


@pytest.mark.parametrize("output_shape", [(4, 4, 2), (2, 3, 2), (12, 2)])
def test_images_of_another_size_are_refused(output_shape):
    decoder = keras.Sequential(
        [
            keras.Input((2,)),
            keras.layers.Dense(int(np.prod(output_shape))),
            keras.layers.Reshape(output_shape),
        ]
    )
    with pytest.raises(
        InputError, match=r"the decoder of events \[4, 3, 2\] must put out \[batch, 4, 3"
    ):
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
        ("conv", (8, 8, 16), "normal:scale=per_value"),
        ("conv", (8, 8, 8), "categorical:levels=4"),
    ],
)
def test_features_that_happen_to_fit_are_features(network, image_shape, likelihood):
    vae = VAE.for_images(image_shape, latent_dim=2, network=network, likelihood=likelihood)
    likelihood = vae.likelihood_family
    assert len(likelihood.head.trainable_variables) == 2
    if network == "dense":
        assert likelihood.offset is None
    else:  # a convolution has one bias for all places
        assert likelihood.offset.shape == (*image_shape[:2], likelihood.parameter_channels)
    assert vae.decode(tf.zeros((1, 2))).event_shape == image_shape
