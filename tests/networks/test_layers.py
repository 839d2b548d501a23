"""The convolution to few channels is Keras' own, in another order of computation."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfvae
from tfvae.networks.conv_to_pixels import ConvToPixels

# Unit roundoff: half the distance from 1 to the next number.
ROUNDOFF = {"float64": 2**-53, "float32": 2**-24, "bfloat16": 2**-8, "float16": 2**-11}
PRECISIONS = ["float64", "float32", "mixed_bfloat16", "mixed_float16"]
any_precision = pytest.mark.parametrize("dtype", PRECISIONS)
# Features and filters: sums of shifted products with one filter to 16 features; a convolution with
# a kernel gradient of its own; and Keras' convolution for as many filters as features.
CHANNELS = [(16, 1), (33, 2), (48, 3), (16, 3), (5, 1), (4, 4), (16, 16)]


def pair(features, filters, dtype="float64", seed=0, **kwargs):
    """The layer, and Keras' with the same weights."""
    kwargs = {
        "dtype": dtype,
        "kernel_initializer": keras.initializers.HeNormal(seed=seed),
        "bias_initializer": keras.initializers.RandomNormal(seed=seed + 1),
        **kwargs,
    }
    layers = (
        ConvToPixels(filters, **kwargs),
        keras.layers.Conv2D(filters, 3, padding="same", **kwargs),
    )
    for layer in layers:
        layer.build((None, 5, 7, features))
    return layers


def values_and_gradients(convolve, x, upstream, *weights):
    with tf.GradientTape() as tape:
        tape.watch([x, *weights])
        y = convolve(x, *weights)
    return y, *tape.gradient(y, [x, *weights], upstream)


@any_precision
@pytest.mark.parametrize(("features", "filters"), CHANNELS)
def test_values_and_gradients_are_those_of_a_convolution(dtype, features, filters, rng):
    # Not the product of all: channels meet each size, eager and in a graph.
    row, column = PRECISIONS.index(dtype), CHANNELS.index((features, filters))
    size = [(5, 7), (4, 1), (1, 1)][(row + column) % 3]
    graph = (row // 2 + column) % 2 == 0
    layer, _ = pair(features, filters, dtype)
    kind = layer.compute_dtype
    kernel = tf.cast(layer.kernel, kind)
    x = tf.cast(rng.normal(size=(3, *size, features)), kind)
    upstream = tf.cast(rng.normal(size=(3, *size, filters)), kind)

    def ours(x, kernel):
        return layer.convolution_op(x, kernel)

    def exact(x, kernel):
        return tf.nn.conv2d(x, kernel, 1, "SAME")

    run = tf.function(values_and_gradients) if graph else values_and_gradients
    received = run(ours, x, upstream, kernel)
    in_double = [tf.cast(tensor, tf.float64) for tensor in (x, upstream, kernel)]
    expected = values_and_gradients(exact, *in_double)
    # Each sum, of the absolute values: n roundings of parts of it err by at most n roundoffs.
    magnitude = values_and_gradients(exact, *map(tf.abs, in_double))
    # TensorFlow's own convolutions may sum float16 in float16, and sum bfloat16 in float32.
    summed = "float32" if kind == "bfloat16" else kind
    terms = 9 * features, 9 * filters, 3 * np.prod(size)
    for a, b, size_of_sum, n in zip(received, expected, magnitude, terms, strict=True):
        assert a.dtype == kind and a.shape == b.shape
        # And in half precision one rounding of each product, and one of what is put out.
        bound = (n * ROUNDOFF[summed] + 2 * ROUNDOFF[kind] * (kind != summed)) * size_of_sum
        assert np.all(np.abs(tf.cast(a, tf.float64) - b) <= bound)


@pytest.mark.parametrize(("features", "filters"), CHANNELS)
def test_the_layer_is_keras_layer(features, filters, rng):
    ours, keras_own = pair(features, filters, "float32", activation="tanh")
    assert [w.path.split("/")[-1] for w in ours.weights] == ["kernel", "bias"]
    for a, b in zip(ours.get_weights(), keras_own.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    x = rng.normal(size=(2, 5, 7, features)).astype(np.float32)
    results = []
    for layer in (ours, keras_own):
        with tf.GradientTape() as tape:
            y = layer(x)
        results.append([y, *tape.gradient(y, layer.trainable_weights)])
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
    assert {**keras_own.get_config(), "name": ""} == {**ours.get_config(), "name": ""}


@pytest.mark.parametrize(("features", "filters"), CHANNELS)
def test_second_derivatives(features, filters, rng):
    ours, keras_own = pair(features, filters)
    x, direction = rng.normal(size=(2, 2, 5, 7, features))
    results = []
    for layer in (ours, keras_own):
        with tf.GradientTape() as outer:
            outer.watch(x := tf.convert_to_tensor(x))
            with tf.GradientTape() as inner:
                inner.watch(x)
                y = tf.reduce_sum(tf.sin(layer(x)))
            slope = tf.reduce_sum(inner.gradient(y, x) * direction)
        results.append(outer.gradient(slope, [x, *layer.trainable_weights]))
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10)


def operations(layer, features):
    graph = tf.function(layer.call).get_concrete_function(
        tf.TensorSpec((None, 5, 7, features), layer.compute_dtype)
    )
    return {operation.type for operation in graph.graph.get_operations()}


@pytest.mark.parametrize(("features", "filters"), CHANNELS)
def test_which_way_is_taken(features, filters, monkeypatch):
    layer, _ = pair(features, filters, "float32")
    found = operations(layer, features)
    assert ("MatMul" in found) == (features >= 16 * filters)
    assert ("Conv2D" in found) == (features < 16 * filters)
    assert ("IdentityN" in found) == (filters < min(features, 16))  # a gradient of its own
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [kind])
    found = operations(layer, features)
    assert "Conv2D" in found and not {"MatMul", "IdentityN"} & found


@any_precision
@pytest.mark.parametrize("batch", [0, 1, 3])
def test_any_batch(dtype, batch, rng):
    layer, _ = pair(16, 1, dtype)
    inputs = keras.Input((5, 7, 16), dtype=layer.compute_dtype)
    outputs = layer(inputs)
    assert outputs.shape == (None, 5, 7, 1) and outputs.dtype == layer.compute_dtype
    model = keras.Model(inputs, outputs)
    x = tf.cast(rng.normal(size=(batch, 5, 7, 16)), layer.compute_dtype)
    with tf.GradientTape() as tape:
        y = tf.function(model)(x)
    assert y.shape == (batch, 5, 7, 1) and y.dtype == layer.compute_dtype
    for gradient in tape.gradient(y, layer.trainable_weights):
        assert np.all(np.isfinite(tf.cast(gradient, tf.float32)))
        assert np.any(gradient) == (batch > 0)


def test_sizes_that_are_not_known_before(rng):
    ours, keras_own = pair(16, 1)
    spec = tf.TensorSpec((None, None, None, 16), tf.float64)
    for size in ((5, 7), (2, 3)):
        x = rng.normal(size=(2, *size, 16))
        y = tf.function(ours.call, input_signature=[spec])(x)
        np.testing.assert_allclose(y, keras_own(x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": 5},
        {"padding": "valid"},
        {"strides": 2},
        {"dilation_rate": 2},
        {"groups": 2},
        {"data_format": "channels_first"},
    ],
    ids=str,
)
def test_other_convolutions_are_refused(options):
    with pytest.raises(ValueError, match="ConvToPixels is a 3 x 3 convolution"):
        ConvToPixels(2, **options)


# --- in a model -----------------------------------------------------------------------------------


def test_a_model_with_the_layer_is_saved_and_loaded(tmp_path, rng):
    layer, _ = pair(16, 1, "float32")
    inputs = keras.Input((5, 7, 16))
    model = keras.Model(inputs, layer(inputs))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert type(loaded.layers[-1]) is ConvToPixels
    x = rng.normal(size=(2, 5, 7, 16)).astype(np.float32)
    np.testing.assert_array_equal(loaded(x), model(x))


@pytest.mark.exhaustive
def test_a_model_saved_with_keras_own_layer_loads(tmp_path, monkeypatch, rng):
    shape = (7, 9, 1)
    with monkeypatch.context() as patched:
        patched.setattr(
            "tfvae.likelihoods.heads.ConvToPixels",
            lambda filters, **options: keras.layers.Conv2D(filters, 3, padding="same", **options),
        )
        before = tfvae.VAE.for_images(shape, latent_dim=2, seed=0)
        assert type(before.likelihood_family.head) is keras.layers.Conv2D
        before.compile("adam", run_eagerly=True)
        x = (rng.random((4, *shape)) < 0.5).astype(np.float32)
        before.train_on_batch(x)  # so that the optimiser's state is saved with it
        before.save(tmp_path / "before.keras")
        expected = before.elbo(x, seed=1).elbo
    after = keras.models.load_model(tmp_path / "before.keras")
    assert type(after.likelihood_family.head) is ConvToPixels
    for a, b in zip(before.optimizer.variables, after.optimizer.variables, strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_allclose(after.elbo(x, seed=1).elbo, expected, rtol=1e-5)
