"""Bytes become what they became in training, in a graph; and bad ones an error, no crash."""

import io
import random

import numpy as np
import pytest
import tensorflow as tf
from exported_model import png
from PIL import Image

import tfvae
from tfvae.datasets.preprocessing import Preprocessing, to_png

SIDES = [(28, 20), (56, 40), (31, 90), (10, 7), (100, 100), (20, 30), (3, 500), (1, 1)]


def reader(image_shape, **options):
    preprocessing = Preprocessing(**options)
    spec = tf.TensorSpec((None,), tf.string)
    return tf.function(
        lambda files: preprocessing.of_files(files, image_shape), input_signature=[spec]
    )


@pytest.fixture(scope="module")
def grey():
    return reader((28, 20, 1))


@pytest.fixture(scope="module")
def colour():
    return reader((28, 20, 3))


def encoded(mode, sides, kind, rng):
    channels = len(Image.new(mode, (1, 1)).getbands())
    pixels = rng.integers(0, 256, (*sides, channels)).astype(np.uint8)
    image = Image.fromarray(
        pixels[..., 0] if channels == 1 else pixels, "L" if mode == "P" else mode
    )
    file = io.BytesIO()
    (image.convert("P") if mode == "P" else image).save(file, kind)
    return file.getvalue()


@pytest.mark.parametrize(
    ("mode", "kind"),
    [(mode, "PNG") for mode in ("L", "RGB", "RGBA", "LA", "P", "1")]
    + [(mode, "JPEG") for mode in ("L", "RGB")],
)
def test_files_become_what_a_folder_of_them_becomes(grey, colour, rng, tmp_path, mode, kind):
    """Where an image grows, Pillow rounds its weights, and a value may be one level off."""
    for sides in SIDES:
        if mode == "1":
            file = io.BytesIO()
            Image.fromarray(rng.random(sides) < 0.5).save(file, kind)
            content = file.getvalue()
        else:
            content = encoded(mode, sides, kind, rng)
        folder = tmp_path / f"{sides[0]}x{sides[1]}"
        folder.mkdir()
        for index in range(3):
            (folder / f"{index}.{kind.lower()}").write_bytes(content)
        source = tfvae.datasets.load(folder, image_size=(28, 20), validation=0.3, test=0.3)
        expected, _ = source.train.arrays()
        for read, channels in ((grey, 1), (colour, 3)):
            found = read(tf.constant([content])).numpy()
            if channels != expected.shape[-1]:
                continue
            shrinks = sides[0] >= 28 and sides[1] >= 20
            levels = np.abs(found[0] - expected[0]) * 255
            assert levels.max() < (1e-3 if shrinks else 1.001), (sides, channels)


def test_a_grey_file_is_grey_in_colour(colour, rng):
    found = colour(tf.constant([encoded("L", (28, 20), "PNG", rng)])).numpy()
    np.testing.assert_array_equal(found[..., 0], found[..., 2])


def test_batches_of_files_of_any_size(grey, rng):
    files = [encoded("RGB", sides, "PNG", rng) for sides in SIDES]
    whole = grey(tf.constant(files)).numpy()
    for index, file in enumerate(files):
        np.testing.assert_array_equal(grey(tf.constant([file]))[0], whole[index])
    assert grey(tf.constant([], tf.string)).shape == (0, 28, 20, 1)


def test_bytes_are_scaled_thresholded_and_drawn():
    ramp = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    np.testing.assert_allclose(Preprocessing().of_bytes(ramp), ramp / 255, rtol=1e-6)
    middle = Preprocessing(dequantize=True).of_bytes(ramp).numpy()
    np.testing.assert_array_equal(middle, (ramp + np.float32(0.5)) / 256)
    cut = Preprocessing(binarize="threshold").of_bytes(ramp).numpy()
    np.testing.assert_array_equal(cut, ramp > 127)
    levels = Preprocessing(step=1 / 16).of_bytes(ramp).numpy()
    np.testing.assert_allclose(levels * 16, np.round(ramp / 255 * 16), atol=1e-6)


@pytest.mark.parametrize("binarize", ["static", "dynamic"])
def test_drawn_pixels_have_their_value_as_their_probability(binarize):
    drawn = [
        Preprocessing(binarize=binarize, seed=seed)
        .of_bytes(np.full((1, 100, 100, 1), 64, np.uint8))
        .numpy()
        for seed in range(4)
    ]
    share, p = np.mean(drawn), 64 / 255
    assert abs(share - p) < 4 * np.sqrt(p * (1 - p) / 40_000)
    assert set(np.unique(drawn)) == {0, 1}
    # Equal images are treated alike, in any place.
    twice = Preprocessing(binarize=binarize).of_bytes(np.full((2, 9, 9, 1), 64, np.uint8)).numpy()
    np.testing.assert_array_equal(twice[0], twice[1])
    again = Preprocessing(binarize=binarize).of_bytes(np.full((1, 9, 9, 1), 64, np.uint8))
    np.testing.assert_array_equal(twice[:1], again)


def test_it_is_taken_from_a_split(tmp_path):
    digits = tfvae.datasets.load("digits", binarize="dynamic", seed=3)
    assert Preprocessing.like(digits.test) == Preprocessing(binarize="static", seed=3)
    np.save(tmp_path / "bytes.npy", np.arange(256, dtype=np.uint8).repeat(16).reshape(64, 8, 8))
    noisy = tfvae.datasets.load(tmp_path / "bytes.npy", dequantize=True)
    assert Preprocessing.like(noisy.test) == Preprocessing(dequantize=True)
    np.save(tmp_path / "normal.npy", np.random.default_rng(0).normal(size=(64, 8, 8)))
    assert Preprocessing.like(tfvae.datasets.load(tmp_path / "normal.npy").test) is None


def test_png_files_hold_the_values():
    x = np.array([-0.5, 0, 0.2, 0.5, 1, 7], np.float32).reshape(1, 2, 3, 1)
    (file,) = to_png(x).numpy()
    np.testing.assert_array_equal(tf.io.decode_png(file).numpy().ravel(), [0, 0, 51, 128, 255, 255])


def damaged(rng):
    """Files that look like images, and are not whole ones."""
    pixels = rng.integers(0, 256, (30, 30, 3)).astype(np.uint8)
    good = {"PNG": png(pixels), "JPEG": png(pixels, "JPEG")}
    for kind, content in good.items():
        for length in range(0, len(content) - 20, max(1, len(content) // 25)):
            yield f"{kind} cut at {length}", content[:length]
    chance = random.Random(0)
    for content in good.values():
        for _ in range(40):
            other = bytearray(content)
            for _ in range(chance.randrange(1, 20)):
                other[chance.randrange(len(other))] = chance.randrange(256)
            yield "flipped", bytes(other)
    for size in (0, 1, 8, 100, 10_000):
        yield "noise", rng.bytes(size)
        yield "noise after a signature", b"\x89PNG\r\n\x1a\n" + rng.bytes(size)
        yield "noise after a signature", b"\xff\xd8\xff" + rng.bytes(size)


def test_damaged_files_are_errors_and_leave_the_graph_alive(grey, rng):
    whole = encoded("RGB", (28, 20), "PNG", rng)
    expected = grey(tf.constant([whole])).numpy()
    refused = 0
    for what, content in damaged(rng):
        try:
            found = grey(tf.constant([content])).numpy()
        except tf.errors.InvalidArgumentError:
            refused += 1
        else:  # a pixel or so may differ where nothing checks it
            assert found.shape == expected.shape, what
    assert refused > 60
    np.testing.assert_array_equal(grey(tf.constant([whole])), expected)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"GIF89a" + bytes(100), "expected PNG or JPEG"),
        (b"RIFF\0\0\0\0WEBP" + bytes(100), "expected PNG or JPEG"),
        (b"\xff\x0a" + bytes(100), "expected PNG or JPEG"),
        (b"BM" + bytes(100), "expected PNG or JPEG"),
        (b"PK\x03\x04" + bytes(100), "expected PNG or JPEG"),
        (png(np.zeros((1, 1, 1), np.uint8)) + bytes(2000), "files of at most"),
    ],
)
def test_only_png_and_jpeg_of_a_size(content, says):
    with pytest.raises(tf.errors.InvalidArgumentError, match=says):
        reader((8, 8, 1), max_bytes=1000)(tf.constant([content]))


def test_bombs_are_refused_before_they_are_decoded(grey):
    """The header alone tells: a file of a few bytes that claims gigabytes takes none."""
    import resource

    good = png(np.zeros((9, 7, 1), np.uint8))
    sides = (60_000).to_bytes(4, "big") * 2
    bomb = good[:16] + sides + good[24:]
    zeros = io.BytesIO()
    Image.new("L", (5000, 5000)).save(zeros, "PNG")
    big_jpeg = io.BytesIO()
    Image.new("L", (5000, 5000)).save(big_jpeg, "JPEG")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for content in (bomb, zeros.getvalue(), big_jpeg.getvalue()):
        with pytest.raises(tf.errors.InvalidArgumentError, match="pixels; the header says"):
            grey(tf.constant([content]))
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 20 * 1024  # KiB; 25 million pixels of three bytes are 73 MiB
