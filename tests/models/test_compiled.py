"""The public methods as graphs: the same results and errors as called eagerly."""

import gc
import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.framework.func_graph import FuncGraph
from tensorflow.python.framework.ops import gradient_registry

import tfvae
from tfvae.training import train

CALLS = 4  # the first ones are eager


def make(missing=False, cls=tfvae.VAE, **kwargs):
    return cls.for_events(
        (6,), latent_dim=2, network="dense", likelihood="normal", missing=missing, seed=0, **kwargs
    )


def events(rows, classes=None):
    random = np.random.default_rng(rows)
    x = random.normal(size=(rows, 6)).astype("float32")
    return (x, random.integers(0, classes, rows)) if classes else (x,)


Z = np.random.default_rng(1).normal(size=(5, 3, 2)).astype("float32")
METHODS = {
    "encode": lambda vae, *given: vae.encode(*given).mean(),
    "code": lambda vae, *given: vae.code(*given),
    "elbo": lambda vae, *given: vae.elbo(*given, num_samples=2, seed=1),
    "reconstruct": lambda vae, *given: vae.reconstruct(*given),
    "decode": lambda vae, x, *y: vae.decode(Z[:, : len(x)], *y).mean(),
    "log_likelihood": lambda vae, x, *y: vae.log_likelihood(x, Z[:, : len(x)], *y),
    "sample": lambda vae, x, *y: vae.sample(len(x), label=y[0] if y else None, seed=3, mean=False),
    "samples by seed": lambda vae, x, *y: vae.sample(
        len(x), label=y[0] if y else None, seed=[[n, 1] for n in range(len(x))]
    ),
}


@pytest.mark.parametrize("classes", [None, 4])
def test_graphs_give_what_eager_calls_give_bit_for_bit(classes, monkeypatch):
    vae = make(num_classes=classes)
    eager = {}
    tf.config.run_functions_eagerly(True)
    for name, method in METHODS.items():
        eager[name] = [method(vae, *events(rows, classes)) for rows in (1, 3)]
    tf.config.run_functions_eagerly(False)
    for _ in range(CALLS):
        compiled = {
            name: [method(vae, *events(rows, classes)) for rows in (1, 3)]
            for name, method in METHODS.items()
        }
    # No network runs in Python any more.
    for network in (vae.encoder, vae.decoder):
        monkeypatch.setattr(network, "call", None)
    again = {
        name: [method(vae, *events(rows, classes)) for rows in (1, 3)]
        for name, method in METHODS.items()
    }
    for found in (compiled, again):
        tf.nest.map_structure(np.testing.assert_array_equal, found, eager)


def test_new_weights_and_other_parts_are_seen():
    vae, (x,) = make(), events(3)
    for _ in range(CALLS):
        before = vae.code(x)
    vae.set_weights([weight + 0.1 for weight in vae.get_weights()])
    changed = vae.code(x)
    assert np.abs(changed - before).max() > 1e-3
    np.testing.assert_array_equal(changed, make_like(vae).code(x))
    other = vae.with_prior("mixture")
    for _ in range(CALLS):
        assert vae.elbo(x, seed=0).kl.shape == other.elbo(x, seed=0).kl.shape
    assert np.abs(vae.elbo(x, seed=0).kl - other.elbo(x, seed=0).kl).max() > 1e-3
    copy = keras.models.clone_model(vae)
    copy.set_weights(vae.get_weights())
    np.testing.assert_array_equal(copy.code(x), vae.code(x))


def make_like(vae):
    new = make()
    new.set_weights(vae.get_weights())
    return new


def test_the_models_own_seeds_go_on():
    first, second = make(), make()
    tf.config.run_functions_eagerly(True)
    expected = [first.sample(2) for _ in range(CALLS)]
    tf.config.run_functions_eagerly(False)
    for draw in expected:
        np.testing.assert_array_equal(second.sample(2), draw)


def test_errors_are_the_same_whichever_call_it_is():
    vae, (x,) = make(), events(3)
    bad = x.copy()
    bad[1, 2] = np.nan
    for call in range(CALLS + 2):
        for wrong in (
            lambda: vae.encode(bad),
            lambda: vae.code(x[:, :5]),
            lambda: vae.decode([[np.nan, 0.0]]),
            lambda: vae.log_likelihood(x, np.zeros((2, 2), "float32")),
            lambda: vae.sample(0),
            lambda: vae.elbo(x, num_samples=0),
            lambda: vae.elbo(x, [1, 2, 3]),
            lambda: vae.elbo(x, seed=[1, 2, 3]),
        ):
            with pytest.raises(tfvae.InputError):
                wrong()
        if call < CALLS:
            vae.encode(x), vae.code(x), vae.decode(Z), vae.log_likelihood(x, Z)
            vae.sample(1), vae.elbo(x)
    # What shows in the results alone, too.
    vae.set_weights([np.full_like(weight, np.nan) for weight in vae.get_weights()])
    with pytest.raises(tfvae.InputError, match="finite latent vectors"):
        vae.elbo(x)


def test_gradients_run_through_the_methods():
    vae, (x,) = make(), events(3)
    slopes = []
    for _ in range(CALLS):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(vae.elbo(x, seed=0).elbo)
        slopes.append(tape.gradient(loss, vae.encoder.trainable_variables[0]))
        vae.elbo(x, seed=0)
    for slope in slopes:
        np.testing.assert_array_equal(slope, slopes[0])
    assert np.abs(slopes[0]).max() > 0


def test_networks_that_cannot_be_traced_are_called():
    @keras.saving.register_keras_serializable("test_compiled")
    class Eager(keras.layers.Layer):
        def compute_output_spec(self, x):
            return keras.KerasTensor(x.shape, x.dtype)

        def call(self, x):
            return tf.constant(x.numpy() * 2)

    image = keras.Input((6,))
    encoder = keras.Model(image, Eager()(image))
    z = keras.Input((2,))
    decoder = keras.Model(z, keras.layers.Dense(6)(z))
    vae, (x,) = tfvae.VAE(encoder, decoder, 2, likelihood="normal", seed=0), events(3)
    codes = [vae.code(x) for _ in range(CALLS)]
    for code in codes:
        np.testing.assert_array_equal(code, codes[0])


def test_a_model_is_freed_with_its_last_reference_and_saved_without_its_graphs(tmp_path):
    vae, (x,) = make(), events(3)
    for _ in range(CALLS):
        expected = vae.code(x), vae.elbo(x, seed=0)
    vae.save(tmp_path / "vae.keras")
    loaded = tfvae.load(tmp_path / "vae.keras")
    np.testing.assert_array_equal(loaded.code(x), expected[0])
    weight, model = weakref.ref(vae.encoder.weights[0].value), weakref.ref(vae)
    del vae
    gc.collect()
    assert model() is None
    assert weight() is None


def graphs_alive():
    gc.collect()
    # Keras has graphs of its own for all models.
    return {
        one
        for one in gc.get_objects()
        if isinstance(one, FuncGraph) and not one.name.startswith("scratch")
    }


def test_neither_training_nor_calls_leave_graphs_or_gradients_behind():
    """TensorFlow notes each silu's gradient, which holds its graph, and forgets none by itself."""
    before, gradients = graphs_alive(), set(gradient_registry._registry)
    vae, (x,) = make(), events(8)
    vae.compile("adam")
    vae.fit(x, validation_data=(x, x), verbose=0)
    train(vae, tf.data.Dataset.from_tensors(x), progress=False)
    for _ in range(CALLS):
        vae.elbo(x, seed=0)
    assert graphs_alive() - before
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(vae.elbo(x, seed=0).elbo)
    assert all(one is not None for one in tape.gradient(loss, vae.encoder.trainable_variables))
    del vae, tape, loss
    # Those of tests before this one may have gone meanwhile.
    assert graphs_alive() <= before
    assert set(gradient_registry._registry) <= gradients
