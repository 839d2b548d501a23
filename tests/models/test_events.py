"""Models of vectors, series, images and volumes: one test for all that must hold of each."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfvae
from tfvae import InputError
from tfvae.training import train

SHAPES = {"vectors": (6,), "series": (9, 2), "images": (8, 8, 1), "volumes": (5, 4, 4, 2)}
RANKS = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())


def cases(names, quick, other):
    """Values of several parameters: of the quick suite, and others with a rank of their own."""
    values = [quick, pytest.param(*other, marks=pytest.mark.exhaustive)]
    return pytest.mark.parametrize(
        names, values, ids=lambda one: getattr(one, "__name__", str(one))
    )


def events(shape, n=40, seed=0, holes=0.0):
    """Return events with something to learn: their sign is common to all values."""
    rng = np.random.default_rng(seed)
    x = rng.choice([-1.0, 1.0], (n, *[1] * len(shape))) + 0.3 * rng.normal(size=(n, *shape))
    x[rng.random(x.shape) < holes] = np.nan
    return x.astype("float32")


def make(shape, cls=tfvae.VAE, **options):
    defaults = {"latent_dim": 2, "likelihood": "normal:scale=learned", "seed": 0}
    model = cls.for_events(shape, **{**defaults, **options})
    model.compile(keras.optimizers.Adam(1e-3))
    return model


@pytest.mark.exhaustive
def test_what_fit_and_the_loop_train_is_the_same_and_learns():
    x = events((8, 8, 1))
    data = tf.data.Dataset.from_tensor_slices(x).batch(16)
    one, other = (make((8, 8, 1), tfvae.Autoencoder) for _ in range(2))
    history = one.fit(data, epochs=3, verbose=0).history
    train(other, data, epochs=3, progress=False)
    for a, b in zip(one.trainable_variables, other.trainable_variables, strict=True):
        # Adam divides by the gradient's own size: rounding shows in its steps of 1e-3.
        np.testing.assert_allclose(a, b, atol=2e-4)
    assert history["loss"][-1] < history["loss"][0]


@cases("shape, cls", ((6,), tfvae.VAE), ((9, 2), tfvae.Autoencoder))
def test_a_saved_model_is_the_model(shape, cls, tmp_path):
    x = events(shape, holes=0.3)
    model = make(shape, cls, missing=True)
    model.compile(keras.optimizers.Adam(1e-3), run_eagerly=True)
    model.fit(x, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.event_spec == model.event_spec
    np.testing.assert_array_equal(loaded.code(x), model.code(x))
    np.testing.assert_array_equal(loaded(x), model(x))
    # The noise goes on where it was.
    np.testing.assert_array_equal(loaded.next_training_seed(), model.next_training_seed())


@cases("shape, cls", ((9, 2), tfvae.Autoencoder), ((5, 4, 4, 2), tfvae.VAE))
def test_walks_in_latent_space_have_the_shape_of_events(shape, cls):
    x = events(shape)
    model = make(shape, cls)
    assert model.interpolate(x[0], x[1], steps=3).shape == (3, *shape)
    assert model.interpolate(x[:4], x[4:8], steps=3).shape == (4, 3, *shape)
    assert model.traverse(x[0], 1, [-1.0, 1.0]).shape == (2, *shape)
    ends = model.interpolate(x[0], x[1], steps=2)
    np.testing.assert_allclose(ends, model.reconstruct(x[:2]), atol=1e-5)


@cases(
    "shape, missing, posterior",
    ((6,), False, "normal"),
    ((5, 4, 4, 2), True, "coupling:flows=2,hidden=8"),
)
def test_plain_keras_models_share_the_weights(shape, missing, posterior, tmp_path):
    x = events(shape, holes=0.3 if missing else 0.0)
    vae = make(shape, missing=missing, posterior=posterior)
    encoder, decoder = vae.keras_encoder(), vae.keras_decoder()
    vae.compile(keras.optimizers.Adam(1e-3), run_eagerly=True)
    vae.fit(x, verbose=0)
    codes = np.asarray(encoder(x))
    np.testing.assert_allclose(codes, vae.code(x), atol=1e-5)
    np.testing.assert_allclose(decoder(codes), vae(x), atol=1e-5)
    for name, plain, given in (("encoder", encoder, x), ("decoder", decoder, codes)):
        plain.save(tmp_path / f"{name}.keras")
        loaded = keras.models.load_model(tmp_path / f"{name}.keras")
        np.testing.assert_allclose(loaded(given), plain(given), atol=1e-6)


def test_plain_keras_models_go_into_others():
    vae = make((6,))
    inputs = keras.Input((6,))
    classifier = keras.Model(inputs, keras.layers.Dense(3)(vae.code(inputs)))
    assert classifier.predict(events((6,)), verbose=0).shape == (40, 3)
    whole = keras.Model(inputs, vae.keras_decoder()(vae.keras_encoder()(inputs)))
    x = events((6,))
    np.testing.assert_allclose(whole.predict(x, verbose=0), vae(x), atol=1e-5)


def test_plain_keras_models_of_a_conditional_model_take_one_hot_labels():
    x, y = events((6,)), np.arange(40) % 3
    vae = make((6,), num_classes=3)
    one_hot = keras.utils.to_categorical(y, 3)
    codes = vae.keras_encoder().predict([x, one_hot], verbose=0)
    np.testing.assert_allclose(codes, vae.code(x, y), atol=1e-6)
    np.testing.assert_allclose(vae.keras_decoder()([codes, one_hot]), vae(x, y), atol=1e-5)


@pytest.mark.exhaustive
def test_a_model_of_ones_own_lstm_and_convolutions():
    """What a user of Keras would write for series."""
    steps, channels, d = 9, 2, 3
    encoder = keras.Sequential([keras.Input((steps, 2 * channels)), keras.layers.LSTM(8)])
    decoder = keras.Sequential(
        [
            keras.Input((d,)),
            keras.layers.RepeatVector(steps),
            keras.layers.LSTM(8, return_sequences=True),
            keras.layers.Dense(channels),
        ]
    )
    vae = tfvae.VAE(encoder, decoder, d, likelihood="normal", missing=True, seed=0)
    assert vae.event_shape == (steps, channels)
    vae.compile("adam", run_eagerly=True)
    x = events((steps, channels), holes=0.3)
    assert np.isfinite(vae.fit(x, verbose=0).history["elbo"]).all()
    assert not np.isnan(vae.impute(x)).any()


# --- missing values -------------------------------------------------------------------------------


@RANKS
def test_only_observed_values_count(shape):
    """What stands in a hole changes nothing: neither terms nor gradients."""
    x = events(shape, holes=0.4)
    vae = make(shape, missing=True)
    elbo, log_likelihood, _ = vae.elbo(x, seed=1)
    z = vae.encode(x).sample(seed=(1, 0))
    likelihood = vae.likelihood_family.distribution(vae.likelihood_parameters(z))
    each = likelihood.distribution.log_prob(np.nan_to_num(x))
    axes = tuple(range(1, len(shape) + 1))
    expected = np.where(np.isnan(x), 0.0, each).sum(axis=axes)
    np.testing.assert_allclose(vae.log_likelihood(x, z), expected, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(log_likelihood, expected, rtol=1e-5, atol=1e-4)
    assert np.isfinite(elbo).all()


@RANKS
def test_a_decoder_gets_no_gradient_at_holes(shape):
    x = events(shape, holes=0.4)
    vae = make(shape, missing=True)
    z = vae.encode(x).sample(seed=(1, 0))
    parameters = vae.likelihood_parameters(z)
    target, observed = vae.event_spec.observed(tf.constant(x))
    with tf.GradientTape() as tape:
        tape.watch(parameters["loc"])
        likelihood = vae.likelihood_family.training_distribution(parameters, target, observed)
        total = tf.reduce_sum(likelihood.log_prob(target))
    gradient = tape.gradient(total, parameters["loc"]).numpy()
    np.testing.assert_array_equal(gradient[np.isnan(x)], 0.0)
    assert (gradient[~np.isnan(x)] != 0).all()


def test_events_without_a_hole_are_what_they_are_to_a_model_without_holes():
    """The mask is all ones: log p(x|z), KL and bound have the values of the plain formulas."""
    x = events((6,))
    vae = make((6,), missing=True)
    z = vae.encode(x).sample(seed=(3, 0))
    np.testing.assert_allclose(
        vae.log_likelihood(x, z), vae.decode(z).log_prob(x), rtol=1e-6, atol=1e-5
    )


def test_an_event_of_nothing_but_holes_has_log_probability_zero():
    vae = make((6,), missing=True)
    x = np.full((2, 6), np.nan, "float32")
    np.testing.assert_array_equal(vae.elbo(x).log_likelihood, 0.0)
    assert vae.impute(x).shape == (2, 6)


def test_holes_are_refused_without_missing():
    x = events((6,), holes=0.4)
    with pytest.raises(InputError, match="remove or replace NaN"):
        make((6,)).fit(x, verbose=0)
    with pytest.raises(InputError, match="missing=True"):
        make((6,)).impute(x)


def test_imputation_is_reproducible_and_keeps_what_was_observed():
    x = events((9, 2), holes=0.4)
    vae = make((9, 2), missing=True)
    one, again, other = (vae.impute(x, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert np.abs(one - other).max() > 0
    seen = ~np.isnan(x)
    np.testing.assert_array_equal(one.numpy()[seen], x[seen])
    draws = vae.impute(x, draws=5, seed=1).numpy()
    assert draws.shape == (5, *x.shape)
    np.testing.assert_array_equal(draws[:, seen], np.broadcast_to(x[seen], (5, seen.sum())))
    assert (draws.std(axis=0)[~seen] > 0).all()


class CountingDense(keras.layers.Dense):
    """A layer that counts the rows it takes."""

    rows = 0

    def call(self, inputs):
        self.rows += len(inputs)
        return super().call(inputs)


def test_completions_are_of_what_the_weighted_draws_were_decoded_to():
    inputs, z = keras.Input((12,)), keras.Input((2,))
    encoder = keras.Model(inputs, keras.layers.Dense(8, "relu")(inputs))
    counting = CountingDense(8, "relu")
    vae = tfvae.VAE(encoder, keras.Model(z, counting(z)), 2, likelihood="normal", missing=True)
    vae.compile(run_eagerly=True)
    x = events((6,), n=4, holes=0.4)
    vae.build(x.shape)
    counting.rows = 0
    vae.impute(x, num_samples=10, draws=7, seed=1)
    assert counting.rows == 10 * len(x)


# --- what does not fit ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "given", "words"),
    [
        ((6,), (4, 5), r"expected vectors \[batch, 6\]; received shape \[4, 5\]"),
        ((9, 2), (4, 9), r"expected series \[batch, 9, 2\]; received shape \[4, 9\]"),
        ((9, 1), (4, 9), r"add the missing axis, x\[..., None\]"),
        ((5, 4, 4, 2), (5, 4, 4, 2), r"volumes.*add the missing axis, x\[None\]"),
    ],
)
def test_a_shape_that_does_not_fit_is_refused_in_the_events_own_words(shape, given, words):
    with pytest.raises(InputError, match=words):
        make(shape).encode(np.zeros(given, "float32"))


def test_what_is_no_event_at_all_is_refused():
    with pytest.raises(
        InputError, match=r"vector, .* series, .* image .* volume, .*\(2, 2, 2, 2, 2\)"
    ):
        tfvae.VAE.for_events((2, 2, 2, 2, 2))
    with pytest.raises(InputError, match='use network "dense"'):
        tfvae.VAE.for_events((6,), network="conv")
    with pytest.raises(InputError, match="height, width, channels"):
        tfvae.VAE.for_images((6,))
    with pytest.raises(InputError, match="twice the channels"):
        tfvae.VAE(*tfvae.networks.pair("dense", (5,), 2), 2, missing=True)
