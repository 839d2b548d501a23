"""Bytes become what they became in training, in a graph; and bad ones an error, no crash."""

import dataclasses
import io
import json
import random
import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
from exported_model import png
from PIL import Image

import tfvae
from tfvae.datasets.image_files import decode_image
from tfvae.datasets.pictures import decode_files
from tfvae.datasets.preprocessing import Preprocessing, to_png
from tfvae.errors import InputError

SIDES = [(28, 20), (56, 40), (31, 90), (10, 7), (3, 500), (1, 1)]


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


@pytest.mark.exhaustive
@pytest.mark.parametrize(("mode", "kind"), [("L", "PNG"), ("RGB", "JPEG")])
def test_files_become_what_a_folder_of_them_becomes(grey, colour, rng, tmp_path, mode, kind):
    """Where an image grows, Pillow rounds its weights, and a value may be one level off."""
    for sides in SIDES:
        content = encoded(mode, sides, kind, rng)
        folder = tmp_path / f"{sides[0]}x{sides[1]}"
        folder.mkdir()
        for index in range(3):
            (folder / f"{index}.{kind.lower()}").write_bytes(content)
        source = tfvae.datasets.load(folder, image_size=(28, 20), validation=0.3, test=0.3)
        expected, _ = source.train.arrays()
        read = grey if mode == "L" else colour
        found = read(tf.constant([content])).numpy()
        shrinks = sides[0] >= 28 and sides[1] >= 20
        levels = np.abs(found[0] - expected[0]) * 255
        assert levels.max() < (1e-3 if shrinks else 1.001), sides


def chunk(kind, data):
    crc = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)


def raw_png(kind, depth, channels, rng, *chunks, sides=(28, 20)):
    """A PNG of any bit depth and colour type, as Pillow does not write them all."""
    height, width = sides
    line = -(-width * channels * depth // 8)
    rows = b"".join(b"\0" + rng.bytes(line) for _ in range(height))
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0))
    body = b"".join(chunks) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + head + body


def exif(orientation, order="<", *, other=b""):
    """An EXIF block with the orientation after another entry."""
    mark = b"II" if order == "<" else b"MM"
    tags = struct.pack(f"{order}HHIHH", 0x0100, 3, 1, 9, 0)
    tags += struct.pack(f"{order}HHIHH", 0x0112, 3, 1, orientation, 0)
    block = mark + struct.pack(f"{order}HI", 42, 8) + struct.pack(f"{order}H", 2) + tags
    return block + bytes(4) + other


def kinds_of_files(rng):
    """Files of every kind that a service takes, by what they are."""
    files = {}
    for depth in (1, 2, 4, 8):
        table = chunk(b"PLTE", rng.bytes(3 * 2**depth))
        files[f"grey {depth}"] = raw_png(0, depth, 1, rng)
        files[f"grey {depth}, key"] = raw_png(0, depth, 1, rng, chunk(b"tRNS", b"\0\1"))
        files[f"palette {depth}"] = raw_png(3, depth, 1, rng, table)
        see_through = chunk(b"tRNS", rng.bytes(2 ** (depth - 1)))
        files[f"palette {depth}, alpha"] = raw_png(3, depth, 1, rng, table, see_through)
    for depth in (8, 16):
        files[f"colour {depth}"] = raw_png(2, depth, 3, rng)
        files[f"grey and alpha {depth}"] = raw_png(4, depth, 2, rng)
        files[f"colour and alpha {depth}"] = raw_png(6, depth, 4, rng)
    files["grey 16"] = raw_png(0, 16, 1, rng)
    files["grey 16, key"] = raw_png(0, 16, 1, rng, chunk(b"tRNS", b"\1\1"))
    sides = (20, 28)
    for orientation in range(1, 9):
        shape = sides if orientation >= 5 else (28, 20)
        order = "<>"[orientation % 2]
        block = exif(orientation, order, other=rng.bytes(50))
        files[f"PNG turned {orientation}"] = raw_png(
            2, 8, 3, rng, chunk(b"eXIf", block), sides=shape
        )
        photo = Image.fromarray(rng.integers(0, 256, (*shape, 3), np.uint8))
        for name, options in (("", {}), (", profile", {"icc_profile": rng.bytes(70_000)})):
            file = io.BytesIO()
            photo.save(file, "JPEG", exif=b"Exif\0\0" + block, **options)
            files[f"JPEG turned {orientation}{name}"] = file.getvalue()
    whole = raw_png(2, 8, 3, rng, sides=sides)
    files["PNG turned at its end"] = whole[:-12] + chunk(b"eXIf", exif(6)) + whole[-12:]
    files["PNG that names eXIf"] = raw_png(0, 8, 1, rng, chunk(b"tEXt", b"eXIf\0eXIf"))
    for odd in (0, 9, 65_535):
        files[f"orientation {odd}"] = raw_png(0, 8, 1, rng, chunk(b"eXIf", exif(odd)))
    for length in range(0, len(exif(6)), 5):
        cut = chunk(b"eXIf", exif(6)[:length])
        sides = (20, 28) if length >= 34 else (28, 20)
        files[f"EXIF of {length} bytes"] = raw_png(0, 8, 1, rng, cut, sides=sides)
    inks = Image.fromarray(rng.integers(0, 256, (28, 20, 3), np.uint8)).convert("CMYK")
    file = io.BytesIO()
    inks.save(file, "JPEG")
    files["JPEG of inks"] = file.getvalue()
    return files


def assert_same(files, channels, **options):
    """What a folder decodes or refuses, the graph decodes to the same bits or refuses."""
    read = reader((28, 20, channels), **options)
    refused = 0
    for name, file in files.items():
        try:
            (expected,) = decode_files([(name, file)], channels, None, **options)
        except InputError:
            refused += 1
            with pytest.raises(tf.errors.InvalidArgumentError):
                read(tf.constant([file]))
        else:
            found = read(tf.constant([file])).numpy()[0] * 255
            np.testing.assert_array_equal(np.rint(found), expected, err_msg=name)
    return refused


@pytest.mark.exhaustive
@pytest.mark.parametrize(("background", "channels"), [("white", 1), ("black", 3), ("#1060c0", 3)])
def test_every_kind_of_file_is_decoded_as_by_a_folder(rng, background, channels):
    """Bit for bit, at the files' own size."""
    refused = assert_same(kinds_of_files(rng), channels, background=background)
    # On black, a bit that is black or transparent.
    assert refused == (background == "black")


@pytest.mark.exhaustive
def test_value_ranges_are_those_of_a_folder(rng):
    files = kinds_of_files(rng)
    assert 0 < assert_same(files, 1, value_range=(-100.5, 70_000.25)) < len(files) / 2
    # Values outside of the range are refused.
    assert len(files) / 4 < assert_same(files, 1, value_range=(0, 200))


@pytest.mark.exhaustive
def test_what_would_not_be_seen_is_refused(rng):
    shape = np.zeros((28, 20, 4), np.uint8)
    shape[..., 3] = rng.integers(0, 256, (28, 20))
    file = tf.constant([png(shape)])
    with pytest.raises(tf.errors.InvalidArgumentError, match="nothing would be seen"):
        reader((28, 20, 1), background="black")(file)


def test_a_grey_file_is_grey_in_colour(colour, rng):
    found = colour(tf.constant([encoded("L", (28, 20), "PNG", rng)])).numpy()
    np.testing.assert_array_equal(found[..., 0], found[..., 2])


@pytest.mark.exhaustive
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


def test_it_reads_files_as_the_folder_of_the_split(tmp_path, rng):
    for row, image in enumerate(rng.integers(0, 4096, (20, 8, 8))):
        Image.fromarray(image.astype(np.uint16)).save(tmp_path / f"{row}.png")
    data = tfvae.datasets.load(tmp_path, value_range="0,4095", background="black")
    expected = Preprocessing(background="black", value_range=(0, 4095))
    found = Preprocessing.like(data.test)
    assert found == expected
    # As a model's card holds it.
    assert Preprocessing(**json.loads(json.dumps(dataclasses.asdict(found)))) == expected


@pytest.mark.exhaustive
def test_long_pictures_and_large_batches_are_refused(grey):
    """A file of 2 kB may hold a million pixels in a row, which cost a GiB to resize."""
    long = io.BytesIO()
    Image.new("L", (2**14 + 1, 1)).save(long, "PNG")
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"pixels a side; the header says"):
        grey(tf.constant([long.getvalue()]))
    with pytest.raises(tfvae.InputError, match="at most 16,384 pixels a side"):
        decode_image(long.getvalue(), (8, 8, 1))
    small = png(np.zeros((10, 10, 1), np.uint8))
    few = reader((8, 8, 1), max_batch_pixels=350)
    assert few(tf.constant([small] * 3)).shape == (3, 8, 8, 1)
    says = "batch of at most.*350.*received.*400"
    with pytest.raises(tf.errors.InvalidArgumentError, match=says):
        few(tf.constant([small] * 4))


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


@pytest.mark.exhaustive
def test_only_png_and_jpeg_of_a_size():
    read = reader((8, 8, 1), max_bytes=1000)
    for content, says in [
        (b"GIF89a" + bytes(100), "expected PNG or JPEG"),
        (b"RIFF\0\0\0\0WEBP" + bytes(100), "expected PNG or JPEG"),
        (b"\xff\x0a" + bytes(100), "expected PNG or JPEG"),
        (b"BM" + bytes(100), "expected PNG or JPEG"),
        (b"PK\x03\x04" + bytes(100), "expected PNG or JPEG"),
        (png(np.zeros((1, 1, 1), np.uint8)) + bytes(2000), "files of at most"),
    ]:
        with pytest.raises(tf.errors.InvalidArgumentError, match=says):
            read(tf.constant([content]))


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
    grey(tf.constant([good]))  # traces the graph
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for content in (bomb, zeros.getvalue(), big_jpeg.getvalue()):
        with pytest.raises(tf.errors.InvalidArgumentError, match="pixels; the header says"):
            grey(tf.constant([content]))
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 20 * 1024  # KiB; 25 million pixels of three bytes are 73 MiB
