"""The GradientTape loop, against `fit` and against Keras' contract for callbacks."""

import csv

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfvae
from tfvae.training import train

SHAPE = (8, 8, 1)


@pytest.fixture(scope="module")
def data():
    x = (np.random.default_rng(0).random((50, *SHAPE)) < 0.3).astype("float32")
    return tf.data.Dataset.from_tensor_slices((x, np.zeros(50))).batch(16)


def compiled(network="dense:hidden=8", optimizer=None, **kwargs):
    vae = tfvae.VAE.for_images(SHAPE, latent_dim=2, network=network, seed=0, **kwargs)
    vae.compile(optimizer or keras.optimizers.Adam(1e-3))
    return vae


@pytest.fixture(scope="module")
def by_fit(data):
    """A model that Keras' own loop has trained, and its history."""
    vae = compiled()
    history = vae.fit(data, epochs=3, validation_data=data, shuffle=False, verbose=0).history
    return vae, history


def assert_same_weights(vae, expected):
    assert vae.optimizer.iterations == expected.optimizer.iterations == 12
    for one, other in zip(vae.weights, expected.weights, strict=True):
        # The same operations in another order of threads: Adam turns the last bit of a gradient
        # near zero into a part of its step of 1e-3.
        np.testing.assert_allclose(one, other, atol=2e-5)


@pytest.mark.parametrize("steps_per_call", [3, pytest.param(1, marks=pytest.mark.exhaustive)])
def test_fit_and_the_loop_give_the_same_weights(data, by_fit, steps_per_call):
    vae = compiled()
    history = train(
        vae,
        data,
        epochs=3,
        validation_data=data,
        steps_per_call=steps_per_call,
        progress=False,
    ).history
    expected, of_fit = by_fit
    assert_same_weights(vae, expected)
    assert history.keys() == of_fit.keys()
    for name, values in of_fit.items():
        np.testing.assert_allclose(history[name], values, rtol=1e-5)


@pytest.mark.exhaustive
def test_the_loop_goes_on_where_an_optimiser_was(data, by_fit):
    vae = compiled()
    for epochs in (1, 2):
        train(vae, data, epochs=epochs, validation_data=data, progress=False)
    assert_same_weights(vae, by_fit[0])


def test_a_shuffled_data_set_is_iterated_anew_each_epoch():
    data = tf.data.Dataset.range(8).shuffle(8, seed=1).map(lambda i: tf.cast(i, tf.float32) / 8)
    data = data.map(lambda value: tf.fill(SHAPE, value)).batch(4)
    seen = []

    class Spy(tfvae.VAE):
        def differentiate(self, batch, seed, share):
            seen.append(batch[0][:, 0, 0, 0].numpy().tolist())
            return super().differentiate(batch, seed, share)

    networks = tfvae.networks.pair("dense", SHAPE, 2, seed=0)
    spy = Spy(*networks, 2)
    spy.compile("sgd", run_eagerly=True)
    train(spy, data, epochs=2, progress=False)
    first, second = seen[0] + seen[1], seen[2] + seen[3]
    assert sorted(first) == sorted(second) == [i / 8 for i in range(8)]
    assert first != second


def test_callbacks_are_called_as_keras_calls_them(data, tmp_path):
    calls = []

    class Recorder(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            calls.append("train begin")

        def on_epoch_begin(self, epoch, logs=None):
            calls.append(f"epoch {epoch}")

        def on_train_batch_end(self, batch, logs=None):
            calls.append(f"batch {batch} {sorted(logs)}")

        def on_test_end(self, logs=None):
            calls.append("test")

        def on_epoch_end(self, epoch, logs=None):
            calls.append(f"end {epoch} {len(logs)}")

        def on_train_end(self, logs=None):
            calls.append("train end")

    train(
        compiled(),
        data,
        epochs=1,
        validation_data=data,
        callbacks=[Recorder()],
        steps_per_call=3,
        progress=False,
    )
    names = "['elbo', 'kl', 'log_likelihood', 'loss']"
    assert calls == [
        "train begin",
        "epoch 0",
        f"batch 2 {names}",
        f"batch 3 {names}",
        "test",
        "end 0 8",
        "train end",
    ]


def test_early_stopping_schedules_and_logs(data, tmp_path):
    vae = compiled()
    history = train(
        vae,
        data,
        epochs=9,
        validation_data=data,
        callbacks=[
            keras.callbacks.EarlyStopping("val_elbo", mode="max", min_delta=1e9, patience=1),
            keras.callbacks.LearningRateScheduler(lambda epoch: 10.0 ** -(3 + epoch)),
            keras.callbacks.CSVLogger(str(tmp_path / "metrics.csv")),
            keras.callbacks.TensorBoard(str(tmp_path / "logs"), write_graph=False),
        ],
        progress=False,
    )
    epochs = len(history.history["elbo"])
    assert epochs == 2
    assert float(vae.optimizer.learning_rate) == pytest.approx(10.0 ** -(3 + epochs - 1))
    with (tmp_path / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["val_elbo"]) for row in rows] == history.history["val_elbo"]
    written = {}
    for events in (tmp_path / "logs").rglob("events*"):
        for event in tf.compat.v1.train.summary_iterator(str(events)):
            for value in event.summary.value:
                written.setdefault((events.parent.name, value.tag), []).append(
                    float(tf.make_ndarray(value.tensor))
                )
    assert written["train", "epoch_elbo"] == pytest.approx(history.history["elbo"])
    assert written["validation", "epoch_elbo"] == pytest.approx(history.history["val_elbo"])


def test_the_progress_bar_shows_the_terms_of_the_elbo(data, capsys):
    train(compiled(), data, epochs=2, validation_data=data)
    shown = capsys.readouterr().err
    assert "epoch 2/2" in shown
    assert "8/8" in shown
    for name in ("elbo=-", "log_likelihood=-", "kl=", "val_elbo=-"):
        assert name in shown


def test_a_data_set_of_unknown_length_trains(rng):
    x = (rng.random((30, *SHAPE)) < 0.3).astype("float32")
    data = tf.data.Dataset.from_generator(
        lambda: iter([x[:16], x[16:]]), output_signature=tf.TensorSpec((None, *SHAPE))
    )
    assert int(data.cardinality()) == tf.data.UNKNOWN_CARDINALITY
    vae = compiled()
    train(vae, data, epochs=2, progress=False)
    assert vae.optimizer.iterations == 4


def test_what_cannot_train_is_refused(data):
    vae = tfvae.VAE.for_images(SHAPE, latent_dim=2, network="dense")
    with pytest.raises(tfvae.InputError, match=r"expected a compiled model"):
        train(vae, data)
    with pytest.raises(tfvae.InputError, match="expected at least one batch"):
        train(compiled(), data.take(0), progress=False)
    with pytest.raises(tfvae.InputError, match="steps_per_call is a whole number from 1"):
        train(compiled(), data, steps_per_call=0)
    with pytest.raises(tfvae.InputError, match=r"expected images \[batch, 8, 8, 1\]"):
        train(compiled(), data.map(lambda x, label: x[:, :4]), progress=False)

    class OwnStep(tfvae.VAE):
        def train_step(self, batch):
            return super().train_step(batch)

    own = OwnStep(*tfvae.networks.pair("dense", SHAPE, 2), 2)
    own.compile("sgd")
    with pytest.raises(tfvae.InputError, match="OwnStep has a train_step of its own"):
        train(own, data, progress=False)


def test_an_autoencoder_trains_by_the_loop(data):
    model = tfvae.Autoencoder.for_images(SHAPE, latent_dim=2, network="dense:hidden=8", seed=0)
    model.compile(keras.optimizers.Adam(1e-2))
    history = train(model, data, epochs=10, progress=False).history
    assert history["log_likelihood"][-1] > history["log_likelihood"][0]
    assert history.keys() == {"loss", "log_likelihood"}
