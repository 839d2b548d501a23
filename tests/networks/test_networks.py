import itertools
import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfvae import VAE, InputError, networks

any_network = pytest.mark.parametrize("name", ["conv", "residual", "dense"])


def test_every_network_is_tested():
    assert set(networks.BY_NAME) == {"conv", "residual", "dense"}


# --- shapes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("conv", (28, 20, 1)),
        ("conv", (1, 1, 1)),
        ("conv", (7, 64, 3)),
        ("residual", (64, 64, 3)),
        ("dense", (5, 3, 2)),
        pytest.param("residual", (105, 105, 1), marks=pytest.mark.exhaustive),
    ],
)
def test_shapes(name, shape):
    vae = VAE.for_images(shape, latent_dim=3, network=name, seed=0)
    x = np.full((2, *shape), 0.5, np.float32)
    encoder, decoder = networks.pair(name, shape, 3, seed=0)
    assert encoder.input_shape == (None, *shape)
    assert encoder(x).shape == (2, 256)
    assert decoder.input_shape == (None, 3)
    # Feature maps of the full height and width, or one row of features.
    expected = (2, 512) if name == "dense" else (2, *shape[:2], 16)
    assert decoder(np.zeros((2, 3), np.float32)).shape == expected
    # A model takes and gives images with them, and has the networks that `pair` makes.
    assert vae.reconstruct(x).shape == (2, *shape)
    assert np.all(np.isfinite(vae.elbo(x).elbo))
    np.testing.assert_array_equal(vae.encoder(x), encoder(x))


@pytest.mark.parametrize(
    ("shape", "filters"),
    [
        ((1, 1, 1), (16,)),
        ((7, 7, 1), (16,)),
        ((8, 8, 1), (16,)),
        ((28, 28, 1), (16, 64)),
        ((20, 28, 3), (16, 64)),
        ((64, 64, 3), (16, 64, 128)),
        ((105, 105, 1), (16, 64, 128, 128)),
        # The shorter side decides.
        ((7, 64, 3), (16,)),
    ],
)
def test_default_filters(shape, filters):
    assert networks.default_filters(shape) == filters
    if min(shape[:2]) >= 8:
        # Each stage halves; they stop at about four pixels.
        assert 3 <= min(shape[:2]) / 2 ** len(filters) <= 8


@pytest.mark.parametrize("name", ["conv", "residual"])
@pytest.mark.parametrize("shape", [(10, 13, 2), (5, 3, 2), (16, 16, 1)])
def test_the_decoder_mirrors_the_encoder(name, shape):
    filters = (4, 6, 8)
    encoder, decoder = networks.BY_NAME[name](filters=filters, hidden=11).pair(shape, 3)
    assert encoder.output_shape == (None, 11)
    assert decoder.output_shape == (None, *shape[:2], 4)

    def image_sizes(model):
        sizes = []
        for layer in model.layers:
            size = tuple(layer.output.shape[1:3]) if len(layer.output.shape) == 4 else None
            if size and size not in sizes:
                sizes.append(size)
        return sizes

    down = [shape[:2]]
    for _ in filters:
        down.append(tuple(-(-side // 2) for side in down[-1]))
    assert image_sizes(encoder) == list(dict.fromkeys(down))
    # Besides these the decoder has the doubled sizes that it crops.
    assert [size for size in image_sizes(decoder) if size in down] == list(
        dict.fromkeys(reversed(down))
    )


def test_options_of_the_dense_networks():
    encoder = networks.dense_encoder((4, 4, 1), hidden=(7, 5), activation="tanh")
    decoder = networks.dense_decoder((4, 4, 1), 3, hidden=(7, 5), activation="tanh")
    assert [layer.units for layer in encoder.layers if hasattr(layer, "units")] == [7, 5]
    assert [layer.units for layer in decoder.layers if hasattr(layer, "units")] == [5, 7]
    assert encoder.layers[-1].activation is keras.activations.tanh
    assert decoder.layers[-1].activation is keras.activations.tanh


@pytest.mark.parametrize(
    ("text", "functions", "options"),
    [
        ("conv", "conv", {}),
        (
            "conv:filters=4x6,hidden=7,activation=tanh",
            "conv",
            {"filters": (4, 6), "hidden": 7, "activation": "tanh"},
        ),
        (
            "residual:filters=4,blocks=2,hidden=7",
            "residual",
            {"filters": (4,), "blocks": 2, "hidden": 7},
        ),
        (
            "dense:hidden=9x5,activation=tanh",
            "dense",
            {"hidden": (9, 5), "activation": "tanh"},
        ),
        (networks.Dense(hidden=9), "dense", {"hidden": (9,)}),
    ],
    ids=["no options", "conv", "residual", "dense", "an object"],
)
def test_a_name_with_options_stands_for_the_functions(text, functions, options):
    make_encoder = getattr(networks, f"{functions}_encoder")
    make_decoder = getattr(networks, f"{functions}_decoder")
    expected = (
        make_encoder((8, 8, 1), seed=3, **options),
        make_decoder((8, 8, 1), 3, seed=4, **options),
    )
    for model, same in zip(networks.pair(text, (8, 8, 1), 3, seed=3), expected, strict=True):
        kinds = [(type(layer), getattr(layer, "activation", None)) for layer in model.layers]
        assert kinds == [(type(x), getattr(x, "activation", None)) for x in same.layers]
        for a, b in zip(weights([model]), weights([same]), strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dense:width=5", "unknown option 'width' of network 'dense': expected hidden or activ"),
        ("dense:hidden=9x0", "hidden is a whole number from 1 to 65536, or several as in 32x64"),
        ("conv:filters=9x", "filters is a whole number from 1 to 65536, or several as in 32x64"),
        ("conv:filters=0.5", "filters is a whole number from 1 to 65536, or several as in 32x64"),
        ("conv:hidden=9x9", "hidden is a whole number from 1; received '9x9'"),
        ("residual:blocks=-1", "blocks is a whole number from 0; received -1"),
        ("conv:activation=loud", "an activation is one of Keras, such as silu, relu or tanh; rec"),
    ],
)
def test_bad_options_are_refused(text, message):
    with pytest.raises(InputError, match=message):
        networks.pair(text, (8, 8, 1), 3)


@pytest.mark.parametrize("name", ["conv", "residual"])
def test_layers_of_the_decoders(name):
    options = {"activation": "tanh", "filters": (4, 6), "hidden": 7}
    if name == "conv":
        options["last_activation"] = "relu"
    decoder = getattr(networks, f"{name}_decoder")((9, 8, 1), 3, **options)
    # Two dense layers after z, then as many units as the smallest image has features.
    dense = [layer for layer in decoder.layers if isinstance(layer, keras.layers.Dense)]
    assert [layer.units for layer in dense] == [7, 7, 3 * 2 * 6]
    doublings = [x for x in decoder.layers if isinstance(x, keras.layers.Conv2DTranspose)]
    activations = [layer.activation for layer in (*dense, *doublings)]
    last = keras.activations.relu if name == "conv" else keras.activations.tanh
    assert activations == [keras.activations.tanh] * 4 + [last]


def test_the_convolutional_decoder_ends_in_a_leaky_relu():
    decoder = networks.conv_decoder((9, 8, 1), 3, filters=(4, 6))
    doublings = [x for x in decoder.layers if isinstance(x, keras.layers.Conv2DTranspose)]
    assert [layer.activation.__name__ for layer in doublings] == ["silu", "leaky_relu"]


def test_residual_blocks_start_as_the_identity():
    # Whatever the number of blocks, the network is at first the one without blocks.
    shape = (8, 6, 2)
    x = np.random.default_rng(0).random((3, *shape)).astype(np.float32)
    plain = networks.residual_encoder(shape, filters=(4,), blocks=0)
    deep = networks.residual_encoder(shape, filters=(4,), blocks=3)
    assert len(deep.weights) == len(plain.weights) + 3 * 4
    outer = [*deep.weights[:2], *deep.weights[-2:]]
    for target, source in zip(plain.weights, outer, strict=True):
        target.assign(source)
    np.testing.assert_array_equal(deep(x), plain(x))
    assert np.std(plain(x)) > 0


@any_network
@pytest.mark.parametrize("num_classes", [0, -1, 2.5, True, "4"])
def test_bad_numbers_of_classes_are_refused(name, num_classes):
    message = f"num_classes is a whole number from 1, or None; received {num_classes!r}"
    with pytest.raises(InputError, match=message):
        networks.BY_NAME[name]().make_encoder((8, 8, 1), num_classes=num_classes)
    with pytest.raises(InputError, match=message):
        networks.BY_NAME[name]().make_decoder((8, 8, 1), 3, num_classes=num_classes)


# --- seeds ----------------------------------------------------------------------------------------


def weights(models):
    return [weight.numpy() for model in models for weight in model.weights]


@pytest.mark.few(2)
@any_network
def test_seeds_decide_the_weights(name):
    def make(seed):
        return weights(networks.pair(name, (8, 8, 1), 3, seed=seed))

    first, again, other, none, none_again = make(1), make(1), make(2), make(None), make(None)
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
    for others in (zip(first, other, strict=True), zip(none, none_again, strict=True)):
        # Biases, and the second kernel of a residual block, start at zero.
        assert all(np.any(a != b) for a, b in others if np.any(a))


@pytest.mark.parametrize(("name", "seed"), [("conv", None), ("residual", 0), ("dense", 3)])
def test_layers_of_one_shape_start_different(name, seed):
    shape = (16, 16, 32)
    same = {"hidden": (32, 32, 32, 32)} if name == "dense" else {"filters": (32, 32, 32)}
    if name == "residual":
        same["blocks"] = 2
    network = networks.BY_NAME[name](**same)
    models = (network.make_encoder(shape, seed=seed), network.make_decoder(shape, 32, seed=seed))
    for model in models:
        kernels = [w for w in weights([model]) if w.ndim > 1 and np.any(w)]
        by_shape = {}
        for kernel in kernels:
            by_shape.setdefault(kernel.shape, []).append(kernel)
        assert max(map(len, by_shape.values())) >= 3
        for group in by_shape.values():
            assert len({kernel.tobytes() for kernel in group}) == len(group)


@any_network
def test_no_two_layers_start_from_the_same_numbers(name):
    # One seed gives kernels of different shapes the same numbers in the same order.
    vae = VAE.for_images((16, 16, 4), latent_dim=16, network=name, seed=0)
    kernels = [w.ravel() for w in weights([vae]) if w.ndim > 1 and np.any(w)]
    assert len(kernels) >= 6
    for a, b in itertools.combinations(kernels, 2):
        n = min(len(a), len(b), 1_000)
        assert n >= 500
        assert abs(np.corrcoef(a[:n], b[:n])[0, 1]) <= 5 / np.sqrt(n)


@any_network
def test_initial_weights_have_hes_variance(name):
    # Var = 2 / fan-in, from a normal truncated at two standard deviations and widened again.
    for kernel in weights(networks.pair(name, (16, 16, 3), 16, seed=0)):
        if kernel.ndim > 1 and np.any(kernel) and kernel.size > 1000:
            # A transposed convolution's kernel has its channels in another order: its fan-in is
            # computed from the axes that Keras takes for a convolution's.
            fan_in = np.prod(kernel.shape[:-1])
            # The truncated normal's fourth moment is below a normal's, so its variance's relative
            # standard error is below √(2/n).
            assert abs(kernel.var() * fan_in / 2 - 1) <= 4 * np.sqrt(2 / kernel.size)


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "shape",
    [
        (),
        (1, 2, 28, 28, 1),
        (0,),
        (0, 28, 1),
        (28, -1, 1),
        (28, 28, 0),
        (None, None, 1),
        (28.5, 28, 1),
        (True, 28),
        ("28", "28", "1"),
        "281",
        28,
        None,
    ],
    ids=str,
)
def test_bad_shapes_are_refused(shape):
    message = re.escape(
        "an event shape is (D,) of a vector, (T, C) of a series, (H, W, C) of an image or "
        f"(D, H, W, C) of a volume, each a whole number from 1; received {shape!r}"
    )
    with pytest.raises(InputError, match=message):
        networks.check_event_shape(shape)
    for name in networks.BY_NAME:
        with pytest.raises(InputError, match=message):
            networks.pair(name, shape, 3)
        with pytest.raises(InputError, match=message):
            networks.BY_NAME[name]().make_encoder(shape)
        with pytest.raises(InputError, match=message):
            networks.BY_NAME[name]().make_decoder(shape, 3)
    with pytest.raises(
        InputError, match=r"an image shape is \(height, width, channels\), each from"
    ):
        networks.check_image_shape(shape)


@pytest.mark.parametrize("shape", [(28,), (28, 28), (1, 28, 28, 1)], ids=str)
def test_only_images_are_taken_for_images(shape):
    assert networks.check_event_shape(shape) == shape
    with pytest.raises(
        InputError, match=r"an image shape is \(height, width, channels\), each from"
    ):
        networks.check_image_shape(shape)


@pytest.mark.parametrize("check", [networks.check_event_shape, networks.check_image_shape])
def test_shapes_of_other_whole_numbers_are_taken(check):
    for shape in ([28, 20, 1], np.array([28, 20, 1]), tf.TensorShape((28, 20, 1))):
        checked = check(shape)
        assert checked == (28, 20, 1)
        assert all(type(side) is int for side in checked)


def test_unknown_networks_are_refused():
    with pytest.raises(InputError, match="unknown network 'unet': expected one of conv, residual"):
        networks.pair("unet", (8, 8, 1), 3)


@any_network
def test_bad_latent_dimensions_are_refused(name):
    for latent_dim in (0, -1, 2.5, "3", None, True):
        with pytest.raises(InputError, match="latent_dim"):
            VAE.for_images((8, 8, 1), latent_dim=latent_dim, network=name)
