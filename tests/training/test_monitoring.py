"""What a training writes to be looked at: metrics as CSV, pictures for TensorBoard."""

import csv

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfvae
from tfvae.training import monitoring, train
from tfvae.training.monitoring import MetricsFile, Pictures

SHAPE = (8, 8, 1)


@pytest.fixture
def x(rng):
    return (rng.random((40, *SHAPE)) < 0.3).astype("float32")


def trained(x, epochs, *callbacks, labels=None):
    vae = tfvae.VAE.for_images(
        SHAPE, latent_dim=2, network="dense", seed=0, num_classes=None if labels is None else 3
    )
    vae.compile(keras.optimizers.Adam(1e-3))
    rows = x if labels is None else (x, labels)
    data = tf.data.Dataset.from_tensor_slices(rows).batch(20)
    return train(vae, data, epochs=epochs, callbacks=callbacks, progress=False)


def events(folder):
    """Give what TensorBoard would read: values by tag and step."""
    found = {}
    for path in folder.glob("events*"):
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            for value in event.summary.value:
                found[value.tag, event.step] = tf.make_ndarray(value.tensor)
    return found


@pytest.mark.exhaustive
def test_pictures_and_codes_are_written_for_tensorboard(x, tmp_path):
    labels = [0, 1, 2, 1] * 10
    trained(x, 2, Pictures(tmp_path, x[:12], labels[:12], seed=0), labels=labels)
    found = events(tmp_path)
    tags = {"samples", "reconstructions", "code/0", "code/1"}
    assert found.keys() == {(tag, epoch) for tag in tags for epoch in range(2)}
    for name in ("samples", "reconstructions"):
        width, height, png = found[name, 1]
        picture = tf.io.decode_png(png)
        assert picture.shape[:2] == (int(height), int(width))
        assert tf.math.reduce_std(tf.cast(picture, tf.float32)) > 10
    # [buckets, 3]: from, to, count.
    assert found["code/0", 1][:, 2].sum() == 12


def drawn(x, folder, epochs):
    """Draw what an untrained model makes of events, as in so many epochs; give what was written."""
    vae = tfvae.VAE.for_events(
        x.shape[1:], latent_dim=2, network="dense", likelihood="normal", seed=0
    )
    pictures = Pictures(folder, x, None, seed=0)
    pictures.set_model(vae)
    pictures.set_params({"epochs": epochs})
    for epoch in range(epochs):
        pictures.on_epoch_end(epoch)
    pictures.on_train_end()
    return events(folder)


@pytest.mark.exhaustive
def test_pictures_of_a_long_training_are_some_twenty(x, tmp_path, monkeypatch):
    monkeypatch.setattr(monitoring, "_pixels", lambda figure: np.zeros((2, 2, 3), np.uint8))
    found = drawn(x, tmp_path, 101)
    assert sorted(epoch for tag, epoch in found if tag == "samples") == [*range(0, 101, 5)]


def test_metrics_are_a_row_an_epoch_and_replaced_from_where_a_training_goes_on(x, tmp_path):
    path = tmp_path / "metrics.csv"
    done = trained(x, 4, MetricsFile(path))
    history, model = done.history, done.model

    def rows():
        with path.open(newline="") as file:
            return list(csv.DictReader(file))

    assert [row["epoch"] for row in rows()] == ["0", "1", "2", "3"]
    for name, values in history.items():
        assert [float(row[name]) for row in rows()] == values
    before = rows()
    again = MetricsFile(path)
    again.set_model(model)
    model.history.history = {name: values[:2] for name, values in history.items()}
    again.on_epoch_end(2, dict.fromkeys(history, -1.0))
    assert rows()[:2] == before[:2]
    assert [float(row["loss"]) for row in rows()[2:]] == [-1.0]
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.csv"]
    # What became of the file in between is of no account.
    for damage in (b"", b"epoch,loss\n0", b"\xff\x00"):
        path.write_bytes(damage)
        again.on_epoch_end(2, dict.fromkeys(history, -1.0))
        assert rows()[:2] == before[:2]
        assert len(rows()) == 3


@pytest.mark.exhaustive
@pytest.mark.parametrize("shape", [(5,), (12, 2), (4, 4, 4, 1)])
def test_pictures_of_other_events(rng, tmp_path, shape):
    x = rng.normal(size=(40, *shape)).astype("float32")
    assert {tag for tag, _ in drawn(x, tmp_path, 1)} == {
        "samples", "reconstructions", "code/0", "code/1"
    }  # fmt: skip
