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


def make(run_eagerly=False, jit_compile="auto", **options):
    options = {"latent_dim": 2, "network": "dense:hidden=32", "seed": 0, **options}
    model = tfvae.VAE.for_images(SHAPE, **options)
    model.compile("adam", run_eagerly=run_eagerly, jit_compile=jit_compile)
    return model


def weights(model):
    return [keras.ops.convert_to_numpy(weight) for weight in model.trainable_variables]


def assert_same_weights_as(model, expected, atol=0.0):
    for a, b in zip(weights(model), expected, strict=True):
        np.testing.assert_allclose(a, b, atol=atol, rtol=0)


def assert_same_weights(one, other, atol=0.0):
    assert_same_weights_as(one, weights(other), atol)


def slices(*parts):
    return tf.data.Dataset.from_tensor_slices(parts if len(parts) > 1 else parts[0]).batch(20)


# --- targets --------------------------------------------------------------------------------------


@pytest.mark.exhaustive
def test_fit_and_the_loop_train_alike_on_targets(x):
    noisy = np.where(np.random.default_rng(1).random(x.shape) < 0.2, 1 - x, x)
    by_fit, by_loop = make(run_eagerly=True), make()
    for model in (by_fit, by_loop):
        model.adapted = True  # else they start at what is at hand: all events, or a batch
    by_fit.fit(noisy, x, batch_size=20, shuffle=False, verbose=0)
    train(by_loop, slices(noisy, x), progress=False)
    assert_same_weights(by_fit, by_loop, atol=2e-4)


def test_with_a_target_the_elbo_is_that_of_the_target(x):
    """E_q(z|noisy)[log p(clean|z)] − KL(q(z|noisy) ‖ p), written out."""
    noisy = 1 - x
    vae = make(run_eagerly=True)
    terms = vae.terms(noisy, target=x, seed=4)
    q = vae.encode(noisy)
    np.testing.assert_allclose(terms.log_likelihood[0], vae.decode(terms.z[0]).log_prob(x))
    np.testing.assert_allclose(terms.log_posterior[0], q.log_prob(terms.z[0]), rtol=1e-5)
    report = vae.evaluate(noisy, x, batch_size=60, verbose=0, return_dict=True)
    np.testing.assert_allclose(report["elbo"], report["log_likelihood"] - report["kl"], rtol=1e-6)


def test_metrics_compare_the_target_with_the_reconstruction(x):
    vae = make()
    vae.compile("adam", metrics=["mse"], weighted_metrics=["mae"], run_eagerly=True)
    difference = vae.reconstruct(1 - x) - x
    report = vae.evaluate(1 - x, x, verbose=0, return_dict=True)
    np.testing.assert_allclose(report["mse"], np.mean(difference**2), rtol=1e-5)
    np.testing.assert_allclose(report["mae"], np.mean(np.abs(difference)), rtol=1e-5)
    assert "mse" in vae.fit(x, verbose=0).history


def test_a_target_that_does_not_fit_is_refused(x):
    vae = make()
    shape = r"the target is images .* or labels; received shape"
    values = r"values in \[0, 1\]; received values from 0 to 2"
    cases = [(np.zeros(one, "float32"), shape) for one in ((60, 8, 8, 3), (60, 4, 4, 1))]
    for y, message in (*cases, (2 * x, values)):
        for given in ((x, y), (slices(x, y),)):
            with pytest.raises(InputError, match=message):
                vae.fit(*given, verbose=0)


# --- dictionaries, pipelines ----------------------------------------------------------------------


@pytest.mark.exhaustive
def test_batches_may_be_dictionaries(x):
    plain = make(run_eagerly=True)
    plain.fit(slices(x), verbose=0)

    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return 3

        def __getitem__(self, index):
            return {"anything": x[20 * index : 20 * (index + 1)]}

    label = np.arange(60)
    for data in (*(slices({name: x, "label": label}) for name in ("image", "x")), Batches()):
        named = make(run_eagerly=True)
        named.fit(data, shuffle=False, verbose=0)
        assert_same_weights(named, plain)


def test_a_dictionary_that_does_not_say_what_it_holds_is_refused(x):
    with pytest.raises(InputError, match=r"which of 'left', 'right' are the events\? .*data\.map"):
        make().fit(slices({"left": x, "right": x}), verbose=0)


@pytest.mark.exhaustive
@pytest.mark.parametrize("how", [{"run_eagerly": True}, {}, {"jit_compile": True}], ids=str)
def test_pipelines_that_have_lost_their_shape_are_checked_when_they_run(x, how):
    def of(*batches):
        return tf.data.Dataset.from_generator(lambda: iter(batches), output_types=tf.float32)

    model = make(**how)
    good, nan = x[:20], np.where(x[20:40] > 0, np.nan, 0)
    model.fit(of(good), verbose=0)
    before = weights(model)
    for bad, message in (
        (np.zeros((20, 9, 9, 1)), r"\[batch, 8, 8, 1\]; received shape \[20, 9, 9, 1\]"),
        (255 * good, r"values in \[0, 1\]; received values from 0 to 255"),
        (nan, "Bernoulli expects values in"),
    ):
        for run in (model.fit, model.evaluate):
            with pytest.raises(InputError, match=message) as caught:
                run(of(bad), verbose=0)
            assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match=message):
        train(model, of(bad), progress=False)
    assert_same_weights_as(model, before)
    # After a batch that fits, too.
    with pytest.raises(InputError, match="Bernoulli expects values in"):
        model.fit(of(good, nan), verbose=0)
    assert all(np.isfinite(weight).all() for weight in weights(model))


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
    vae = make(likelihood="normal", run_eagerly=True)
    with pytest.warns(UserWarning, match="values from 0 to 255: .* give fit x / 255.0"):
        history = vae.fit(255 * x, epochs=2, verbose=0).history
    assert np.isfinite(history["elbo"]).all()
    assert all(np.isfinite(weight).all() for weight in weights(vae))


# --- Keras' conventions ---------------------------------------------------------------------------


@pytest.mark.exhaustive
def test_callbacks_know_that_these_go_up(x, tmp_path):
    vae = make()
    # So far from the optimum each epoch is better than the last.
    vae.compile(keras.optimizers.Adam(1e-2), run_eagerly=True)
    monitors = ("val_elbo", "val_log_likelihood", "elbo")
    stops = [
        keras.callbacks.EarlyStopping(name, patience=1, restore_best_weights=True)
        for name in monitors
    ]
    best = keras.callbacks.ModelCheckpoint(
        tmp_path / "best.keras", monitor="val_elbo", save_best_only=True
    )
    slower = keras.callbacks.ReduceLROnPlateau("elbo", patience=1)
    callbacks = [*stops, best, slower]
    history = vae.fit(x, epochs=3, validation_data=x, verbose=0, callbacks=callbacks).history
    for name, stop in zip(monitors, stops, strict=True):
        assert len(history[name]) == 3  # it improved all the time, and so nothing stopped it
        assert stop.best == max(history[name])
    assert best.best == max(history["val_elbo"])
    assert isinstance(keras.models.load_model(tmp_path / "best.keras"), tfvae.VAE)


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


LOAD = """
import sys
import {imports}
model = keras.models.load_model(sys.argv[1])
import numpy as np
np.save(sys.argv[3], model.encode(np.load(sys.argv[2])).mean())
print(type(model).__name__, int(model.optimizer.iterations))
"""


@pytest.mark.exhaustive
@pytest.mark.parametrize("imports", ["tfvae, tensorflow, keras", "keras, tfvae"])
def test_a_saved_model_encodes_bit_for_bit_in_a_new_process_whatever_was_imported_first(
    x, imports, tmp_path
):
    vae = make(likelihood="normal:scale=learned", objective="elbo:beta=2", run_eagerly=True)
    vae.fit(x, verbose=0)
    vae.save(tmp_path / "model.keras")
    np.save(tmp_path / "x.npy", x)
    paths = [str(tmp_path / name) for name in ("model.keras", "x.npy", "codes.npy")]
    command = [sys.executable, "-c", LOAD.format(imports=imports), *paths]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split() == ["VAE", "2"]
    np.testing.assert_array_equal(np.load(paths[2]), vae.encode(x).mean())


def test_one_weight_an_event_or_a_value(x):
    for weight in (np.ones((*x.shape[:3], 2)), np.ones((60, 2))):
        with pytest.raises(InputError, match=r"one sample weight for each image, \[batch\]"):
            make().fit(slices(x, np.zeros(60), weight.astype("float32")), verbose=0)


def test_a_split_is_no_batches():
    with pytest.raises(InputError, match=r"received a Split: give it data\.train\.batches"):
        make().fit(tfvae.datasets.load("digits").train, verbose=0)
