"""Precision, recall, density, coverage and the Fréchet distance of samples."""

import dataclasses
import inspect
import json
import os
import re
import socket
import subprocess
import sys
import tracemalloc

import keras
import numpy as np
import pytest
import scipy.linalg
import sklearn.datasets
from keras.src.applications import inception_v3

import tfvae
from tfvae.evaluation import sample_quality as quality


def scores(real, generated, neighbours):
    """Precision, recall, density and coverage."""
    near = quality.precision_recall(real, generated, neighbours=neighbours)
    return (*near, *quality.density_coverage(real, generated, neighbours=neighbours))


def by_hand(real, generated, neighbours):
    """The same from the whole matrices of distances, as the papers define them."""

    def squared(a, b):
        return np.square(np.float64(a)[:, None] - np.float64(b)[None]).sum(axis=-1)

    # The first of a sorted row is the point itself.
    radii = [np.sort(squared(each, each), axis=1)[:, neighbours] for each in (real, generated)]
    in_real = squared(generated, real) <= radii[0]
    in_generated = squared(real, generated) <= radii[1]
    density = in_real.sum() / (neighbours * len(generated))
    found = in_real.any(axis=1), in_generated.any(axis=1), density, in_real.any(axis=0)
    return pytest.approx([np.mean(each) for each in found], rel=1e-14)


def with_moments(rng, mean, root, count):
    """Points whose mean is `mean`, and whose covariance over N − 1 is `root` `root`ᵀ, exactly."""
    draws = rng.normal(size=(count, len(root[0])))
    columns, _ = np.linalg.qr(draws - draws.mean(axis=0))
    return mean + np.sqrt(count - 1) * columns @ np.transpose(root)


# --- neighbourhoods -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("neighbours", "expected"),
    [
        # Real balls [−1, 1], [0, 2], [1, 5], [3, 11]; the generated points lie in 0, 2, 2, 2, 1, 0.
        # Generated balls [−4.5, .5], [−1, 2], [.5, 3.5], [2, 6], [10, 12], [11, 13], without 7.
        (1, (4 / 6, 3 / 4, 7 / 6, 1)),
        # Real balls [−3, 3], [−1, 3], [0, 6], [1, 13], with 1, 3, 4, 2, 1, 1; 7 is within 3.5 of 4.
        (2, (1, 1, 12 / (2 * 6), 1)),
    ],
)
def test_points_on_a_line(neighbours, expected):
    real = np.array([[0.0], [1], [3], [7]])
    generated = np.array([[-2], [0.5], [2], [4], [11], [12]])
    assert scores(real, generated, neighbours) == expected
    # Neither the order nor the kind of number matters.
    assert scores(np.float32(real[::-1]), generated[[3, 1, 5, 0, 2, 4]], neighbours) == expected


@pytest.mark.parametrize("neighbours", [1, 3, 5])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_set_and_itself(rng, neighbours, dtype):
    points = rng.normal(size=(200, 7)).astype(dtype)
    # Each point lies in its own ball and in as many others as have it for a near one.
    expected = (1, 1, (neighbours + 1) / neighbours, 1)
    assert scores(points, points[::-1], neighbours) == pytest.approx(expected, rel=1e-15)
    # What is far shares nothing with it.
    assert scores(points, points + 1000, neighbours) == (0, 0, 0, 0)


def test_dropped_modes_cost_recall_and_coverage(rng):
    # Four heaps far apart, 100 points each, twice.
    centres = 100 * np.array([[[0, 0]], [[0, 1]], [[1, 0]], [[1, 1]]])
    real, drawn = centres + rng.normal(size=(2, 4, 100, 2))
    points = real.reshape(-1, 2)
    for kept in (1, 2, 3):
        # The real points of the modes kept: they cover themselves and nothing else.
        found = scores(points, real[:kept].reshape(-1, 2), 5)
        assert found == pytest.approx((1, kept / 4, 6 / 5, kept / 4))
        # Draws of their own: not every point has one near.
        precision, recall, _, coverage = scores(points, drawn[:kept].reshape(-1, 2), 5)
        assert precision > 0.9
        assert 0.9 * kept / 4 < min(recall, coverage) <= max(recall, coverage) <= kept / 4
    # Invented ones cost precision and density.
    generated = np.concatenate([points, points + 1e4])
    assert scores(points, generated, 5) == pytest.approx((1 / 2, 1, 6 / 5 / 2, 1))


def test_one_outlier_misleads_precision_and_recall_only(rng):
    # The point of Naeem et al. (2020): the ball about an outlier takes in everything.
    heap, elsewhere = rng.normal(size=(2, 100, 2)) + np.array([[[0, 0]], [[1000, 0]]])
    assert scores(heap, elsewhere, 5) == (0, 0, 0, 0)
    with_outlier = np.concatenate([heap, [[2500, 0]]])
    # One ball of 101 is not empty, and every sample lies in that one where 5 are expected.
    assert scores(with_outlier, elsewhere, 5) == pytest.approx((1, 0, 1 / 5, 1 / 101))
    # An outlier among the samples does the same to recall.
    assert scores(elsewhere, with_outlier, 5) == (0, 1, 0, 0)


def test_expected_density_and_coverage_of_samples_like_the_real_ones():
    rng = np.random.default_rng(5)
    count, generated, neighbours = 40, 30, 3
    found = []
    for draws in rng.normal(size=(400, count + generated, 2)):
        found.append(quality.density_coverage(draws[:count], draws[count:], neighbours=neighbours))
    i = np.arange(1, neighbours + 1)
    expected = 1, 1 - np.prod((count - i) / (generated + count - i))
    error = np.std(found, axis=0, ddof=1) / len(found) ** 0.5
    assert np.all(np.abs(np.mean(found, axis=0) - expected) < 4 * error)


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("count", "generated", "width", "neighbours"),
    [(2, 2, 1, 1), (4, 9, 1, 3), (61, 150, 64, 5), (150, 61, 2, 40), (40, 40, 800, 7)],
)
def test_the_same_as_from_whole_matrices(rng, count, generated, width, neighbours):
    # Among few levels points coincide, and nearly every comparison is of equal distances.
    for levels, place in ((1, 0), (2, 0), (4, 0.5), (10**9, 0), (10**9, 10**13)):
        real, samples = (place + rng.integers(0, levels, (n, width)) for n in (count, generated))
        assert scores(real, samples, neighbours) == by_hand(real, samples, neighbours)
        real, samples = real.astype("float32"), samples.astype("float32")
        assert scores(real, samples, neighbours) == by_hand(real, samples, neighbours)


def test_collapsed_samples(rng):
    real = rng.normal(size=(100, 6)).astype("float32")
    # One point, many times: its balls have no extent, and hold that point alone.
    generated = np.repeat(real[:1], 50, axis=0)
    assert quality.precision_recall(real, generated) == (1, 1 / 100)
    # Nearly one point: by eye the same, and the differences count.
    generated += 1e-6 * rng.normal(size=generated.shape).astype("float32")
    assert scores(real, generated, 3) == by_hand(real, generated, 3)


@pytest.mark.parametrize("levels", [2, 3, 10**6])
def test_nothing_depends_on_the_size_of_the_blocks(rng, levels):
    real, generated = (rng.integers(0, levels, (n, 33)) / np.float32(7) for n in (120, 75))
    radii = quality._squared_radii(real, 4)
    counts = np.concatenate(quality._membership(generated, real, radii))
    for block in (1, 500, 7 * 120, 10**6):
        np.testing.assert_array_equal(quality._squared_radii(real, 4, block), radii)
        found = quality._membership(generated, real, radii, block)
        np.testing.assert_array_equal(np.concatenate(found), counts)


@pytest.mark.exhaustive
def test_memory_stays_below_the_matrix_of_distances(rng):
    real, generated = rng.normal(size=(2, 5000, 3))
    tracemalloc.start()
    quality.precision_recall(real, generated)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # 16 MiB of distances a block, and a few arrays of the same size.
    assert peak < 6 * 2**24 < 8 * 5000 * 5000


# --- Fréchet distance -----------------------------------------------------------------------------


@pytest.mark.parametrize("count", [2, 3, 50])
def test_one_dimension(rng, count):
    real = with_moments(rng, [1.5], [[2.0]], count)
    generated = with_moments(rng, [-0.5], [[0.5]], count + 4)
    # (μ1 − μ2)² + (σ1 − σ2)²
    assert quality.frechet_distance(real, generated) == pytest.approx(2**2 + 1.5**2, rel=1e-12)


@pytest.mark.parametrize("width", [1, 2, 5, 30])
def test_any_covariances(rng, width):
    means, roots = rng.normal(size=(2, width)), rng.normal(size=(2, width, width))
    first, second = (root @ root.T for root in roots)
    trace = np.trace(first + second - 2 * np.real(scipy.linalg.sqrtm(first @ second)))
    expected = pytest.approx(np.square(means[0] - means[1]).sum() + trace, rel=1e-8)
    # From the moments themselves, and from points that have these.
    assert quality._frechet((means[0], roots[0].T), (means[1], roots[1].T)) == expected
    sets = [with_moments(rng, m, root, 100) for m, root in zip(means, roots, strict=True)]
    assert quality.frechet_distance(*sets) == expected
    assert quality.frechet_distance(*sets[::-1]) == expected


@pytest.mark.parametrize(("count", "width"), [(100, 3), (20, 20), (10, 60)])
def test_covariances_of_rank_one(rng, count, width):
    u, v = (axis / np.linalg.norm(axis) for axis in rng.normal(size=(2, width)))
    real = with_moments(rng, np.zeros(width), 2 * u[:, None], count)
    generated = with_moments(rng, np.ones(width), 3 * v[:, None], count + 1)
    # (Σ1 Σ2)^½ of Σ1 = 4 u uᵀ and Σ2 = 9 v vᵀ has the trace 6 |u·v|. Rounding puts the other
    # variances at about 1e-16 of the largest, and their roots at 1e-8.
    expected = width + 4 + 9 - 2 * 6 * abs(u @ v)
    assert quality.frechet_distance(real, generated) == pytest.approx(expected, rel=1e-7)
    assert quality.frechet_distance(real, np.tile(v, (7, 1))) == pytest.approx(1 + 4, rel=1e-7)


def test_fewer_points_than_dimensions(rng):
    real, generated = rng.normal(size=(12, 40)), 2 * rng.normal(size=(9, 40)) + 1
    first, second = np.cov(real, rowvar=False), np.cov(generated, rowvar=False)
    values = np.sort(np.real(np.linalg.eigvals(first @ second)))[-8:]  # the others are 0
    expected = np.square(real.mean(axis=0) - generated.mean(axis=0)).sum()
    expected += np.trace(first + second) - 2 * np.sqrt(values).sum()
    assert quality.frechet_distance(real, generated) == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize(("count", "width"), [(2, 1), (30, 4), (30, 30), (8, 50), (400, 100)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_equal_sets_are_at_no_distance(rng, count, width, dtype):
    points = (100 + 10 * rng.normal(size=(count, width))).astype(dtype)
    points[:, width // 2 :] = points[:, :1]  # dimensions that are one and the same
    total = np.var(np.float64(points), axis=0).sum()
    for other in (points, points[::-1]):
        assert 0 <= quality.frechet_distance(points, other) < 1e-10 * total


def test_sampled_gaussians():
    rng = np.random.default_rng(3)
    root, mean, count = np.array([[1.0, 0], [0.8, 0.5]]), np.array([1.0, -1.0]), 5000
    expected = quality._frechet((np.zeros(2), np.eye(2)), (mean, root.T))
    found = []
    for real, draws in rng.normal(size=(40, 2, count, 2)):
        found.append(quality.frechet_distance(real, draws @ root.T + mean))
    # The bias, a few times 1/count, is far smaller.
    assert abs(np.mean(found) - expected) < 4 * np.std(found, ddof=1) / len(found) ** 0.5


# --- images ---------------------------------------------------------------------------------------


@pytest.fixture
def images(rng):
    return rng.random((40, 5, 4, 3), dtype="float32"), rng.random((30, 5, 4, 3)) ** 2


def test_pixels(images):
    found = quality.compare_samples(*images)
    a, b = (x.reshape(len(x), -1).astype("float32") for x in images)
    near, dense = quality.precision_recall(a, b), quality.density_coverage(a, b)
    expected = (*near, *dense, quality.frechet_distance(a, b), 40, 30, "pixels")
    assert dataclasses.astuple(found) == expected
    assert json.loads(json.dumps(dataclasses.asdict(found))) == dataclasses.asdict(found)
    assert quality.compare_samples(*images) == found
    # k is that of both pairs when it is given.
    found = quality.compare_samples(*images, neighbours=4)
    assert dataclasses.astuple(found)[:4] == scores(a, b, 4)


@pytest.mark.parametrize("shape", [(7,), (6, 2), (3, 2, 2, 2)])
def test_the_values_of_other_events_are_features_too(shape, rng):
    real, generated = rng.random((40, *shape)), rng.random((30, *shape)) ** 2
    found = quality.compare_samples(real, generated)
    a, b = (x.reshape(len(x), -1).astype("float32") for x in (real, generated))
    expected = (*scores(a, b, 3)[:2], *scores(a, b, 5)[2:], quality.frechet_distance(a, b))
    assert dataclasses.astuple(found) == (*expected, 40, 30, "values")
    real[3, 0] = np.nan
    with pytest.raises(tfvae.InputError, match=r"real ones with missing values \(NaN\): fill them"):
        quality.compare_samples(real, generated)
    message = rf"^Inception takes images .*; received events of shape {re.escape(str(shape))}$"
    with pytest.raises(tfvae.InputError, match=message):
        quality.compare_samples(generated, generated, "inception")


def test_features_of_a_function(images):
    taken = []

    def halves(x):
        taken.append((len(x), x.dtype.name))
        return np.stack([x[:, :2].mean(axis=1), x[:, 2:].mean(axis=1)], axis=1)

    # Bytes come as floating-point numbers, as they are.
    a, b = ((255 * x).astype("uint8") for x in images)
    found = quality.compare_samples(a, b, halves, batch_size=16)
    assert taken == [(count, "float32") for count in (16, 16, 8, 16, 14)]
    flat = (halves(x.astype("float32")).reshape(len(x), -1) for x in (a, b))
    assert found.frechet_distance == pytest.approx(quality.frechet_distance(*flat), rel=1e-6)
    assert found.features == "halves"


def test_features_of_a_model(images):
    layers = [keras.Input((5, 4, 3)), keras.layers.Conv2D(6, 3), keras.layers.Dropout(0.5)]
    network = keras.Sequential(layers, name="small")  # which drops nothing here
    found = quality.compare_samples(*images, network, batch_size=7)
    flat = (np.asarray(network(x)).reshape(len(x), -1) for x in images)
    assert found.frechet_distance == pytest.approx(quality.frechet_distance(*flat), rel=1e-5)
    assert found.features == "small"


def test_a_progress_bar_is_shown_when_asked_for(images, capsys):
    for progress, shown in ((True, True), (None, False)):
        quality.compare_samples(*images, progress=progress)
        assert ("features" in capsys.readouterr().err) == shown


def test_an_untrained_model_scores_worse_than_held_out_images():
    digits = sklearn.datasets.load_digits().images[..., None].astype("float32") / 16
    order = np.random.default_rng(0).permutation(len(digits))
    real, held_out = digits[order[::2]], digits[order[1::2]]
    vae = tfvae.VAE.for_images((8, 8, 1), network="dense", latent_dim=2, seed=0)
    good = quality.compare_samples(real, held_out)
    poor = quality.compare_samples(real, vae.sample(len(held_out), seed=1))
    assert min(good.precision, good.recall, good.density, good.coverage) > 0.75
    assert max(poor.precision, poor.recall, poor.density, poor.coverage) < 0.1
    assert poor.frechet_distance > 20 * good.frechet_distance


# --- Inception ------------------------------------------------------------------------------------


@pytest.mark.exhaustive
def test_the_features_of_inception(tmp_path, rng, monkeypatch):
    network = keras.applications.InceptionV3(include_top=False, pooling="avg", weights=None)
    network.save_weights(tmp_path / "random.weights.h5")
    # Features stay those of float32 when a model trains in less.
    keras.config.set_dtype_policy("mixed_bfloat16")
    features = quality._inception((12, 400, 1), str(tmp_path / "random.weights.h5"))
    assert keras.config.dtype_policy().name == "mixed_bfloat16"
    monkeypatch.setattr(quality, "_INCEPTION_BATCH", 2)
    x = rng.random((3, 12, 400, 1)).astype("float32")  # more than one batch of the network
    found = features(x)
    assert (found.shape, found.dtype) == ((3, 2048), np.float32)
    for at in (0, 2):
        x_rgb = 255 * np.repeat(x[at : at + 1], 3, axis=3)
        resized = np.array(keras.ops.image.resize(x_rgb, (299, 299), antialias=True))
        expected = np.asarray(network(inception_v3.preprocess_input(resized)))[0]
        np.testing.assert_allclose(found[at], expected, atol=1e-4 * np.abs(expected).max())
    assert np.abs(found[0] - found[2]).max() > 1e-2 * np.abs(found).max()
    for wrong, message in (
        (2 * x, "received .* to .*: scale or clip them"),
        (x[:, 1:], r"\*\(12, 400, 1\)\); received \(3, 11, 400, 1\)"),
    ):
        with pytest.raises(tfvae.InputError, match=message):
            features(wrong)
    with pytest.raises(tfvae.InputError, match=r"3\); received events of shape \(8, 8, 2\)"):
        quality.inception_features((8, 8, 2))


@pytest.mark.exhaustive
def test_weights_that_cannot_be_downloaded(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # Nobody listens there, so that no request leaves this machine, network or none.
    environment = {key: value for key, value in os.environ.items() if "proxy" not in key.lower()}
    environment |= {"https_proxy": f"http://127.0.0.1:{port}", "KERAS_HOME": str(tmp_path)}
    code = """
import sys
import numpy as np
from tfvae import InputError
from tfvae.evaluation import sample_quality
points = np.arange(9.0)[:, None]
sample_quality.precision_recall(points, points), sample_quality.frechet_distance(points, points)
assert "keras" not in sys.modules
try:
    sample_quality.compare_samples(*np.zeros((2, 9, 8, 8, 1)), "inception")
except InputError as error:
    print(error)
"""
    done = subprocess.check_output([sys.executable, "-c", code], env=environment, timeout=300)
    (line,) = done.decode().splitlines()
    address = inception_v3.WEIGHTS_PATH_NO_TOP
    assert line.startswith(f"the Inception weights could not be downloaded from {address} (")
    place = f"{tmp_path}/models/{quality._WEIGHTS_FILE}"
    assert line.endswith(f"refused): pass a feature function instead, or put the file at {place}")
    assert quality._WEIGHTS_MD5 in inspect.getsource(inception_v3)


@pytest.mark.parametrize(
    ("real", "generated", "message"),
    [
        (np.zeros((9, 2)), np.zeros((9, 3)), r"one width D; received shapes \(9, 2\) and \(9, 3\)"),
        (np.zeros((9, 0)), np.zeros((9, 0)), r"expected features \[N, D\]"),
        (np.full((9, 1), np.nan), np.zeros((9, 1)), "features must be finite; received real ones"),
        (np.zeros((9, 1)), np.full((9, 1), np.inf), "finite; received generated ones"),
        (np.zeros((1, 1)), np.zeros((9, 1)), "expected [462] real events or more; received 1"),
        (np.zeros((9, 1)), np.zeros((0, 1)), "[412] generated events or more; received 0"),
    ],
)
def test_features_that_do_not_fit_are_refused(real, generated, message):
    for function in (quality.precision_recall, quality.density_coverage, quality.frechet_distance):
        with pytest.raises(tfvae.InputError, match=message) as caught:
            function(real, generated)
        assert "\n" not in str(caught.value)


def widths(x):
    return x.reshape(len(x), -1)[:, : len(x)]


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (
            lambda x: x[:, 1:],
            {},
            r"expected events \[N, \*event_shape\] of one shape; received shapes",
        ),
        # Before any features are taken.
        (lambda x: x[:3], {"features": len}, "expected 4 generated events or more; received 3"),
        (lambda x: x[:7], {"neighbours": 7}, "expected 8 generated events or more; received 7"),
        (None, {"neighbours": 0}, "neighbours is a whole number from 1; received 0"),
        (None, {"neighbours": True}, "neighbours is a whole number from 1; received True"),
        (None, {"batch_size": 1.5}, "batch_size is a whole number from 1; received 1.5"),
        (None, {"features": "vgg"}, "are None, 'inception' or a function; received 'vgg'"),
        (None, {"features": np.mean}, r"expected features of shape \(40,\); received \(\)"),
        (None, {"features": lambda x: x[1:]}, r"shape \(40, 5, 4, 3\); received \(39, 5, 4, 3\)"),
        (None, {"features": widths}, r"of one width D; received shapes \(40, 40\) and \(30, 30\)"),
        (None, {"features": widths, "batch_size": 32}, r"shape \(8, 32\); received \(8, 8\)"),
        (None, {"features": np.log}, "features must be finite; received generated ones"),
    ],
)
def test_images_that_do_not_fit_are_refused(images, change, options, message):
    real, generated = images[0] + 0.1, images[1]
    generated[0] = 0
    with np.errstate(divide="ignore"), pytest.raises(tfvae.InputError, match=message) as caught:
        quality.compare_samples(real, change(generated) if change else generated, **options)
    assert "\n" not in str(caught.value)
