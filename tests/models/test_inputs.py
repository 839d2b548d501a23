"""What a model is given, as people have it: taken for what it is, or refused in one line."""

import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfvae
from tfvae import InputError
from tfvae.training import train

SHAPE = (8, 8, 1)


@pytest.fixture
def x(rng):
    bright = rng.integers(0, 2, (60, 1, 1, 1))
    return (rng.random((60, *SHAPE)) < 0.1 + 0.8 * bright).astype("float32")


def make(cls=tfvae.VAE, **options):
    model = cls.for_images(SHAPE, **{"latent_dim": 2, "network": "dense", "seed": 0, **options})
    model.compile("adam", **({"jit_compile": True} if options.pop("xla", False) else {}))
    return model


def weights(model):
    return [keras.ops.convert_to_numpy(weight) for weight in model.trainable_variables]


def assert_same_weights(one, other, atol=0.0):
    for a, b in zip(weights(one), weights(other), strict=True):
        np.testing.assert_allclose(a, b, atol=atol, rtol=0)


def slices(*parts):
    return tf.data.Dataset.from_tensor_slices(parts if len(parts) > 1 else parts[0]).batch(20)


# --- targets --------------------------------------------------------------------------------------


@pytest.mark.exhaustive
@pytest.mark.parametrize("cls", [tfvae.VAE, tfvae.Autoencoder])
def test_a_target_is_what_the_likelihood_is_evaluated_at(x, cls):
    noisy = np.where(np.random.default_rng(1).random(x.shape) < 0.2, 1 - x, x)
    by_fit, by_data, by_loop, plain = models = [make(cls) for _ in range(4)]
    for model in models:
        model.adapted = True  # else they start at what is at hand: all events, or a batch
    by_fit.fit(noisy, x, batch_size=20, shuffle=False, verbose=0)
    by_data.fit(slices(noisy, x), verbose=0)
    train(by_loop, slices(noisy, x), progress=False)
    plain.fit(noisy, batch_size=20, shuffle=False, verbose=0)
    assert_same_weights(by_fit, by_data)
    assert_same_weights(by_fit, by_loop, atol=2e-4)
    assert (
        max(np.abs(a - b).max() for a, b in zip(weights(by_fit), weights(plain), strict=True)) > 0
    )


def test_with_a_target_the_elbo_is_that_of_the_target(x):
    """E_q(z|noisy)[log p(clean|z)] − KL(q(z|noisy) ‖ p), written out."""
    noisy = 1 - x
    vae = make()
    terms = vae.terms(noisy, target=x, seed=4)
    q = vae.encode(noisy)
    np.testing.assert_allclose(terms.log_likelihood[0], vae.decode(terms.z[0]).log_prob(x))
    np.testing.assert_allclose(terms.log_posterior[0], q.log_prob(terms.z[0]), rtol=1e-5)
    report = vae.evaluate(noisy, x, batch_size=60, verbose=0, return_dict=True)
    np.testing.assert_allclose(report["elbo"], report["log_likelihood"] - report["kl"], rtol=1e-6)


def test_metrics_compare_the_target_with_the_reconstruction(x):
    vae = tfvae.VAE.for_images(SHAPE, latent_dim=2, network="dense", seed=0)
    vae.compile("adam", metrics=["mse"])
    report = vae.evaluate(1 - x, x, verbose=0, return_dict=True)
    expected = np.mean((vae.predict(1 - x, verbose=0) - x) ** 2)
    np.testing.assert_allclose(report["mse"], expected, rtol=1e-5)


@pytest.mark.few(2)
@pytest.mark.parametrize("target", [(60, 8, 8, 3), (60, 4, 4, 1), (60, 2, 2)], ids=str)
def test_a_target_of_another_shape_is_refused(x, target):
    y = np.zeros(target, "float32")
    for attempt in (lambda: make().fit(x, y, verbose=0), lambda: make().fit(slices(x, y))):
        with pytest.raises(InputError, match=r"the target is images .* or labels; received shape"):
            attempt()


@pytest.mark.exhaustive
def test_a_target_is_checked_as_events_are(x):
    with pytest.raises(InputError, match=r"values in \[0, 1\]; received values from 0 to 2"):
        make().fit(x, 2 * x, verbose=0)
    with pytest.raises(InputError, match=r"values in \[0, 1\]; received values from 0 to 2"):
        make().fit(slices(x, 2 * x), verbose=0)


# --- dictionaries, pipelines ----------------------------------------------------------------------


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", ["image", "x", "anything"])
def test_batches_may_be_dictionaries(x, name):
    named, plain = make(), make()
    plain.fit(slices(x), verbose=0)
    label = np.arange(60)
    named.fit(slices({name: x, "label": label}), verbose=0)
    assert_same_weights(named, plain)

    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return 3

        def __getitem__(self, index):
            return {name: x[20 * index : 20 * (index + 1)]}

    other = make()
    other.fit(Batches(), shuffle=False, verbose=0)
    assert_same_weights(other, plain)


def test_a_dictionary_that_does_not_say_what_it_holds_is_refused(x):
    with pytest.raises(InputError, match=r"which of 'left', 'right' are the events\? .*data\.map"):
        make().fit(slices({"left": x, "right": x}), verbose=0)


@pytest.mark.exhaustive
@pytest.mark.parametrize("xla", [False, True], ids=["graph", "XLA"])
def test_pipelines_that_have_lost_their_shape_are_checked_when_they_run(x, xla):
    def of(values):
        generator = lambda: iter([values[:20], values[20:40]])  # noqa: E731
        return tf.data.Dataset.from_generator(generator, output_types=tf.float32)

    model = tfvae.VAE.for_images(SHAPE, latent_dim=2, network="dense", seed=0)
    model.compile("adam", jit_compile=xla)
    model.fit(of(x), verbose=0)
    before = weights(model)
    for run in (
        lambda data: model.fit(data, verbose=0),
        lambda data: model.evaluate(data, verbose=0),
        lambda data: train(model, data, progress=False),
    ):
        with pytest.raises(InputError, match=r"\[batch, 8, 8, 1\]; received shape \[20, 9, 9, 1\]"):
            run(of(np.zeros((40, 9, 9, 1), "float32")))
        with pytest.raises(InputError, match=r"values in \[0, 1\]; received values from 0 to 255"):
            run(of(255 * x))
    for a, b in zip(weights(model), before, strict=True):
        np.testing.assert_array_equal(a, b)


def test_every_door_has_the_same_words(x):
    vae = make()
    expected = "Bernoulli expects values in [0, 1]; received values from 0 to 255: scale the values"
    for door in (
        vae.encode,
        vae.code,
        vae.elbo,
        vae.terms,
        vae.reconstruct,
        vae,
        vae.predict,
        vae.train_on_batch,
        vae.test_on_batch,
        vae.predict_on_batch,
        lambda bytes_: vae.log_likelihood(bytes_, np.zeros((60, 2), "float32")),
        lambda bytes_: vae.interpolate(bytes_, bytes_),
        lambda bytes_: tfvae.evaluation.log_prob(vae, slices(bytes_)),
    ):
        with pytest.raises(InputError) as info:
            door((255 * x).astype("uint8"))
        assert str(info.value).startswith(expected)
        assert "\n" not in str(info.value)
    with pytest.raises(InputError, match="finite latent vectors"):
        vae.decode(np.full((3, 2), np.nan))


def test_rounding_at_the_edge_of_the_support_is_no_mistake(x):
    np.testing.assert_array_equal(
        make().elbo(x, seed=1).elbo, make().elbo(1.000004 * x, seed=1).elbo
    )


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (None, "NoneType"),
        ("some text", "numbers|str"),
        (np.array([["a"]]), "numbers"),
        (np.zeros((0, 8, 8, 1)), "received an empty array"),
    ],
    ids=["None", "text", "array of text", "nothing"],
)
def test_what_is_no_array_of_events_is_refused(given, words):
    vae = make()
    with pytest.raises(InputError, match=words):
        vae.fit(given, verbose=0) if isinstance(given, np.ndarray) else vae.encode(given)


# --- weights that would become NaN ----------------------------------------------------------------


@pytest.mark.parametrize("bad", [np.nan, np.inf, -1.0])
def test_a_weight_that_cannot_be_is_refused_before_anything_is_trained(x, bad):
    sample_weight = np.ones(60)
    sample_weight[30] = bad
    model = make()
    model.compile("adam")
    before = weights(model)
    for method in (model.fit, model.evaluate):
        with pytest.raises(InputError, match="sample weights are finite numbers from 0") as info:
            method(x, sample_weight=sample_weight, batch_size=20, verbose=0)
        assert "\n" not in str(info.value)
    for old, new in zip(before, weights(model), strict=True):
        np.testing.assert_array_equal(old, new)


def test_unscaled_values_are_warned_of_and_train(x):
    vae = make(likelihood="normal")
    with pytest.warns(UserWarning, match="values from 0 to 255: .* give fit x / 255.0"):
        history = vae.fit(255 * x, epochs=2, verbose=0).history
    assert np.isfinite(history["elbo"]).all()
    assert all(np.isfinite(weight).all() for weight in weights(vae))


# --- Keras' conventions ---------------------------------------------------------------------------


@pytest.mark.exhaustive
@pytest.mark.parametrize("monitor", ["val_elbo", "val_log_likelihood", "elbo"])
def test_callbacks_know_that_these_go_up(x, monitor, tmp_path):
    vae = make()
    vae.compile(keras.optimizers.Adam(1e-4))  # slow, so that each epoch is better than the last
    stop = keras.callbacks.EarlyStopping(monitor, patience=1, restore_best_weights=True)
    best = keras.callbacks.ModelCheckpoint(
        tmp_path / "best.keras", monitor=monitor, save_best_only=True
    )
    slower = keras.callbacks.ReduceLROnPlateau(monitor, patience=1)
    callbacks = [stop, best, slower]
    history = vae.fit(x, epochs=4, validation_data=x, verbose=0, callbacks=callbacks).history
    values = history[monitor]
    assert len(values) == 4  # it improved all the time, and so nothing stopped it
    assert stop.best == best.best == max(values)


def test_a_model_with_another_prior_differs_in_nothing_else():
    vae = tfvae.VAE.for_images(
        SHAPE, latent_dim=2, network="dense", objective="iwae:num_samples=3", name="mine", seed=3
    )
    other = vae.with_prior("mixture")
    assert other.objective is vae.objective
    assert (other.name, other.dtype_policy, other.seed) == (vae.name, vae.dtype_policy, vae.seed)


def test_a_likelihood_stays_as_the_caller_made_it():
    likelihood = tfvae.likelihoods.Normal(scale="learned")
    before = likelihood.get_config()
    tfvae.VAE.for_images(SHAPE, likelihood=likelihood)
    assert likelihood.get_config() == before
    assert not likelihood.built


def test_whole_numbers_of_numpy_are_whole_numbers():
    vae = tfvae.VAE.for_events((np.int64(6),), latent_dim=np.int64(2), seed=np.int64(5))
    assert (vae.latent_dim, vae.seed) == (2, 5)
    assert vae.sample(np.int64(3)).shape == (3, 6)


def test_an_encoder_of_a_dictionary_is_refused():
    inputs = keras.Input(SHAPE)
    h = keras.layers.Flatten()(inputs)
    encoder = keras.Model(inputs, {"a": h, "b": h})
    with pytest.raises(InputError, match=r"a dictionary of 'a', 'b': let it return"):
        tfvae.VAE(encoder, tfvae.networks.dense_decoder(SHAPE, 2), 2)


def test_a_model_with_nothing_to_train_says_so(x):
    vae = make()
    vae.trainable = False
    vae.compile("adam")
    with pytest.raises(InputError, match=r"no weights to train: set vae\.trainable = True"):
        vae.fit(x, verbose=0)


def test_a_file_that_could_not_be_read_again_is_not_written(tmp_path):
    with pytest.raises(InputError, match=r"ends in \.keras; received m\.h5"):
        make().save(tmp_path / "m.h5")
    assert not list(tmp_path.iterdir())


def test_channels_come_last():
    keras.config.set_image_data_format("channels_first")
    try:
        with pytest.raises(InputError, match="set_image_data_format"):
            make()
    finally:
        keras.config.set_image_data_format("channels_last")


def test_a_network_of_keras_2_is_refused_by_name():
    import tf_keras

    encoder = tf_keras.Sequential([tf_keras.layers.Dense(2)])
    with pytest.raises(InputError, match="of tf_keras, which is Keras 2"):
        tfvae.VAE(encoder, tfvae.networks.dense_decoder(SHAPE, 2), 2)


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    "code",
    [
        "import tfvae, tensorflow, keras; keras.models.load_model(sys.argv[1])",
        "import tensorflow, tfvae, keras; keras.models.load_model(sys.argv[1])",
        "import keras, tfvae; keras.models.load_model(sys.argv[1])",
        "import tfvae; tfvae.datasets.load('digits'); tfvae.load(sys.argv[1])",
    ],
)
def test_models_load_whatever_was_imported_first(code, tmp_path):
    make().save(tmp_path / "model.keras")
    command = [sys.executable, "-c", f"import sys; {code}", str(tmp_path / "model.keras")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def test_one_weight_an_event_or_a_value(x):
    for weight in (np.ones((*x.shape[:3], 2)), np.ones((60, 2))):
        with pytest.raises(InputError, match=r"one sample weight for each image, \[batch\]"):
            make().fit(slices(x, np.zeros(60), weight.astype("float32")), verbose=0)


def test_a_split_is_no_batches():
    with pytest.raises(InputError, match=r"received a Split: give it data\.train\.batches"):
        make().fit(tfvae.datasets.load("digits").train, verbose=0)
