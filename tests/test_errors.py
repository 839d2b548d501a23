"""An InputError keeps its one line, wherever it is raised."""

import keras
import pytest
import tensorflow as tf

from tfvae import InputError


@keras.saving.register_keras_serializable("tests")
class Refusing(keras.layers.Layer):
    def call(self, x):
        raise InputError("expected nothing; received something")


def refuse(x):
    if tf.reduce_sum(x) > 0:  # for AutoGraph to rewrite
        x += 1
    return Refusing()(x)


@pytest.mark.parametrize(
    "call",
    [
        Refusing(),
        tf.function(refuse),
        lambda x: tf.data.Dataset.from_tensors(x).map(refuse),
    ],
    ids=["layer", "function", "data set"],
)
def test_an_input_error_comes_out_as_it_is(call):
    with pytest.raises(InputError) as caught:
        call(tf.ones(3))
    assert str(caught.value) == "expected nothing; received something"
