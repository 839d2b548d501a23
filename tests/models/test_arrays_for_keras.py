"""What Keras is given in the place of arrays: the same batches, without a wait at their end."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfvae
from tfvae.models.sources import ArrayBatches, without_autotuning


def test_data_sets_are_not_tuned():
    # The end of one that is tuned is waited for, up to two seconds.
    x = np.zeros((10, 3), "float32")
    of_arrays = ArrayBatches(x, batch_size=4).get_tf_dataset()
    of_split = tfvae.datasets.load("digits").train.batches(4)
    of_both = without_autotuning(tf.data.Dataset.from_tensors(x))
    for data in (of_arrays, of_split, of_both):
        assert data.options().autotune.enabled is False
    assert tf.data.Dataset.from_tensors(x).options().autotune.enabled is None


def model():
    keras.utils.set_random_seed(3)
    vae = tfvae.VAE.for_events(
        (5,), latent_dim=2, network="dense:hidden=4", likelihood="normal", num_classes=3, seed=0
    )
    vae.compile(keras.optimizers.Adam(0.01))
    vae.adapted = True
    return vae


@pytest.mark.parametrize(
    "options",
    [
        {"validation_split": 0.25, "shuffle": True, "class_weight": {0: 1.0, 1: 2.0, 2: 0.5}},
        pytest.param({"steps_per_epoch": 4, "shuffle": False}, marks=pytest.mark.exhaustive),
    ],
)
def test_trainings_are_those_of_keras(options, rng):
    x = rng.normal(size=(40, 5)).astype("float32")
    label = rng.integers(0, 3, 40)
    ours, theirs = model(), model()
    if "class_weight" not in options:
        weight = rng.random(40).astype("float32")
        options = {
            **options,
            "sample_weight": weight,
            "validation_data": (x[:9], label[:9], weight[:9]),
            "validation_batch_size": 4,
        }
    keras.utils.set_random_seed(4)
    mine = ours.fit(x, label, epochs=2, verbose=0, **options)
    keras.utils.set_random_seed(4)
    plain = keras.Model.fit(theirs, x, label, epochs=2, verbose=0, **options)
    assert mine.history == plain.history
    for a, b in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)

    scores = ours.evaluate(x, label, batch_size=7, verbose=0, return_dict=True)
    plain_scores = keras.Model.evaluate(theirs, x, label, 7, verbose=0, return_dict=True)
    assert scores == plain_scores
    np.testing.assert_array_equal(
        ours.predict([x, label], steps=5, verbose=0),
        keras.Model.predict(theirs, [x, label], steps=5, verbose=0),
    )
