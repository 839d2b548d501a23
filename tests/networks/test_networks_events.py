"""Every network on events of every rank: vectors, series, images and volumes."""

import inspect
import itertools
import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfvae import InputError, networks

LATENT, CLASSES = 3, 4
# Small networks of the same layers as the default ones.
NETWORKS = {
    "dense": networks.Dense(hidden=(7, 5)),
    "conv": networks.Convolutional(filters=(4, 6), hidden=7),
    "residual": networks.Residual(filters=(4, 6), hidden=7),
}
# Odd sides and even ones, one channel and several, a side of 1, and sides that differ.
CASES = [
    ("dense", (5,)),
    ("conv", (7, 2)),
    ("residual", (5, 8, 2)),
    ("conv", (3, 5, 4, 2)),
    ("residual", (1, 1)),
    ("dense", (5, 8, 2)),
    ("residual", (1, 9, 4, 1)),
]
every_case = pytest.mark.parametrize(("name", "shape"), CASES, ids=str)


def inputs_of(shape, rng, count=5):
    return (
        rng.random((count, *shape), np.float32),
        rng.normal(size=(count, LATENT)).astype(np.float32),
        np.eye(CLASSES, dtype=np.float32)[np.arange(count) % CLASSES],
    )


def test_every_network_is_tested():
    assert {type(network) for network in NETWORKS.values()} == set(networks.BY_NAME.values())


@pytest.mark.few(4)
@every_case
def test_a_network(name, shape, rng, tmp_path):
    # By turns plain, and of labels and missing values.
    num_classes, missing = ((None, False), (CLASSES, True))[CASES.index((name, shape)) % 2]

    def make(seed):
        return NETWORKS[name].pair(
            shape, LATENT, num_classes=num_classes, missing=missing, seed=seed
        )

    seen = (*shape[:-1], 2 * shape[-1]) if missing else shape
    x, z, label = inputs_of(seen, rng)
    features = (7,) if name == "dense" else (*shape[:-1], 4)
    expected = ((seen, x, (5,) if name == "dense" else (7,)), ((LATENT,), z, features))
    for network, same, other, (shape_in, inputs, shape_out) in zip(
        make(1), make(1), make(2), expected, strict=True
    ):
        # Shape in, shape out.
        sole = num_classes is None
        taken = (None, *shape_in)
        assert network.input_shape == (taken if sole else [taken, (None, CLASSES)])
        assert network.output_shape == (None, *shape_out)
        given = inputs if sole else [inputs, label]
        with tf.GradientTape() as tape:
            out = network(given)
            loss = tf.reduce_sum(out**2)
        assert out.shape == (5, *shape_out)

        # The seed decides the weights, and no weight idles.
        for variable, again, another, gradient in zip(
            network.weights,
            same.weights,
            other.weights,
            tape.gradient(loss, network.weights),
            strict=True,
        ):
            np.testing.assert_array_equal(variable, again)
            start = np.asarray(variable)
            assert np.any(start != np.asarray(another)) or not np.any(start)
            assert gradient is not None and np.all(np.isfinite(gradient)), variable.path
            # The first convolution of a residual block waits for its second, which starts at zero.
            assert np.any(gradient) or name == "residual", variable.path

        # It comes back from its configuration and from its file.
        config = json.loads(json.dumps(keras.saving.serialize_keras_object(network)))
        restored = keras.saving.deserialize_keras_object(config)
        for variable, again in zip(network.weights, restored.weights, strict=True):
            np.testing.assert_array_equal(variable, again)
        network.weights[0].assign_add(tf.ones_like(network.weights[0]))
        network.save(tmp_path / "network.keras")
        loaded = keras.saving.load_model(tmp_path / "network.keras")
        np.testing.assert_array_equal(loaded(given), network(given))


@pytest.mark.parametrize("shape", [(7, 2), (5, 8, 2), (3, 5, 4, 2)], ids=str)
def test_gradient_reaches_residual_blocks_once_they_have_moved(shape, rng):
    x, z, label = inputs_of(shape, rng)
    for network, inputs in zip(
        NETWORKS["residual"].pair(shape, LATENT, num_classes=CLASSES, seed=0), (x, z), strict=True
    ):
        for weight in network.weights:
            weight.assign(rng.normal(size=weight.shape) * 0.3)
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(network([inputs, label]) ** 2)
        for weight, gradient in zip(
            network.weights, tape.gradient(loss, network.weights), strict=True
        ):
            assert np.all(np.isfinite(gradient)) and np.any(gradient), weight.path


@pytest.mark.few(5)
@every_case
def test_labels_matter_and_stay_with_their_event(name, shape, rng):
    # The default widths: so few numbers as above may all be cut off by an activation.
    encoder, decoder = networks.pair(name, shape, LATENT, num_classes=CLASSES, seed=0)
    x, z, label = inputs_of(shape, rng, CLASSES)
    order = rng.permutation(CLASSES)
    for network, inputs in ((encoder, x), (decoder, z)):
        same_event = np.repeat(inputs[:1], CLASSES, axis=0)
        features = np.asarray(network([same_event, label])).reshape(CLASSES, -1)
        for one, other in itertools.combinations(features, 2):
            assert np.abs(one - other).max() > 1e-3
        whole = np.asarray(network([inputs, label]))
        mixed = network([inputs[order], label[order]])
        np.testing.assert_allclose(mixed, whole[order], atol=1e-5)


@pytest.mark.few(4)
@every_case
def test_whether_a_value_was_observed_matters(name, shape, rng):
    encoder, decoder = networks.pair(name, shape, LATENT, missing=True, seed=0)
    x, z, _ = inputs_of(shape, rng)
    features = [
        np.asarray(encoder(np.concatenate([x, np.full_like(x, observed)], axis=-1)))
        for observed in (0, 1)
    ]
    assert np.abs(features[0] - features[1]).max() > 1e-3
    # The decoder knows nothing of it.
    _, same = networks.pair(name, shape, LATENT, seed=0)
    np.testing.assert_array_equal(decoder(z), same(z))


@pytest.mark.parametrize(
    ("shape", "name"), [((5,), "dense"), ((8, 1), "conv"), ((8, 8, 1), "conv"), ((4,) * 4, "conv")]
)
def test_the_rank_chooses_the_network(shape, name):
    chosen = networks.pair(None, shape, LATENT, seed=0)
    for network, same in zip(chosen, networks.pair(name, shape, LATENT, seed=0), strict=True):
        assert network.name == same.name and network.name.startswith(name)
        for weight, equal in zip(network.weights, same.weights, strict=True):
            np.testing.assert_array_equal(weight, equal)


@pytest.mark.few(7)
@pytest.mark.parametrize(
    ("shape", "filters", "smallest"),
    [
        ((1, 1), (32,), (1,)),
        ((24, 1), (32, 64), (6,)),
        ((29, 12), (32, 64), (8,)),
        ((100, 6), (32, 64, 128, 128), (7,)),
        ((150, 1), (32, 64, 128, 128, 128), (5,)),
        ((1000, 3), (32, 64, 128, 128, 128, 128, 128), (8,)),
        # All of an image's sides are halved.
        ((7, 64, 3), (16,), (4, 32)),
        ((1, 1, 1, 1), (16,), (1, 1, 1)),
        ((8, 8, 8, 1), (16,), (4, 4, 4)),
        ((16, 16, 16, 1), (16, 32), (4, 4, 4)),
        ((28, 28, 28, 1), (16, 32, 64), (4, 4, 4)),
        ((32, 32, 32, 3), (16, 32, 64), (4, 4, 4)),
        ((33, 30, 32, 1), (16, 32, 64, 64), (3, 2, 2)),
        # A volume's short sides wait for the long ones.
        ((4, 64, 64, 1), (16, 32, 64, 64), (4, 4, 4)),
        ((1, 40, 12, 1), (16, 32, 64, 64), (1, 3, 2)),
    ],
    ids=str,
)
def test_default_halvings(shape, filters, smallest):
    assert networks.default_filters(shape) == filters
    encoder, decoder = networks.pair("conv", shape, LATENT, seed=0)
    flatten = next(layer for layer in encoder.layers if isinstance(layer, keras.layers.Flatten))
    assert flatten.input.shape == (None, *smallest, filters[-1])
    assert decoder.output_shape == (None, *shape[:-1], filters[0])
    # What is left after the halvings is no more than a dense layer can take.
    assert max(network.count_params() for network in (encoder, decoder)) < 2_000_000


def test_the_input_of_an_image_keeps_its_name():
    names = {
        shape: networks.pair(None, shape, LATENT)[0].inputs[0].name
        for shape in [(4,), (4, 1), (4, 4, 1), (4, 4, 4, 1)]
    }
    assert names == {(4,): "x", (4, 1): "x", (4, 4, 1): "image", (4, 4, 4, 1): "x"}


@pytest.mark.parametrize("name", ["conv", "residual"])
def test_vectors_are_sent_to_dense_networks(name):
    message = f'network "{name}" convolves over .* a vector of shape .5,. has none: use .*"dense"$'
    for make in (
        lambda: networks.pair(name, (5,), LATENT),
        lambda: getattr(networks, f"{name}_encoder")((5,)),
        lambda: getattr(networks, f"{name}_decoder")((5,), LATENT),
    ):
        with pytest.raises(InputError, match=message):
            make()
    with pytest.raises(InputError, match='use network "dense"'):
        networks.default_filters((5,))


def test_numbers_of_numpy_are_taken():
    assert type(networks.check_latent_dim(np.int64(2))) is int
    encoder, decoder = networks.pair(
        "conv", np.array([7, 2]), np.int64(2), num_classes=np.int32(4), seed=np.int64(1)
    )
    assert encoder.input_shape == [(None, 7, 2), (None, 4)]
    assert decoder.input_shape == [(None, 2), (None, 4)]
    for latent_dim in (True, np.True_, np.float64(2), 0):
        with pytest.raises(InputError, match="latent_dim is a whole number from 1; received"):
            networks.check_latent_dim(latent_dim)


@pytest.mark.parametrize("seed", [-1, 1.5, "1", True])
def test_bad_seeds_are_refused(seed):
    with pytest.raises(InputError, match=r"seed is a whole number from 0, or None; received"):
        networks.pair("dense", (5,), LATENT, seed=seed)


def test_options_are_named():
    # So that a misspelt one is an error wherever types are checked, and here when it is run.
    for kind in networks.BY_NAME.values():
        parameters = inspect.signature(kind).parameters.values()
        assert all(parameter.kind is parameter.POSITIONAL_OR_KEYWORD for parameter in parameters)
        with pytest.raises(TypeError):
            kind(widths=3)
