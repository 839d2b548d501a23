"""Uploaded images: decoded as a data set's are, or refused in one line."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from tfvae import datasets
from tfvae.datasets import image_files as uploads
from tfvae.datasets.image_files import decode_image
from tfvae.errors import InputError

GREY, COLOUR = (8, 8, 1), (8, 8, 3)


def encoded(pixels, kind="PNG", **options):
    file = io.BytesIO()
    Image.fromarray(np.asarray(pixels, np.uint8)).save(file, kind, **options)
    return file.getvalue()


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_header(width, height):
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head


OTHERS = {
    "nothing": b"",
    "GIF": encoded(np.eye(8) * 255, "GIF"),
    "WebP": encoded(np.zeros((8, 8, 3)), "WEBP"),
    "BMP": encoded(np.eye(8) * 255, "BMP"),
    "TIFF": encoded(np.eye(8) * 255, "TIFF"),
    "JPEG XL": b"\xff\x0a" + bytes(100),
    "JPEG XL container": b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(100),
    "JPEG 2000": encoded(np.eye(8) * 255, "JPEG2000"),
    "zip": b"PK\x03\x04" + bytes(100),
    "SVG": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "text before a PNG": b" " + encoded(np.eye(8)),
}


@pytest.fixture
def photo(rng):
    return rng.integers(0, 256, (24, 20, 3))


def test_a_png_of_the_models_size_keeps_its_bytes(rng):
    pixels = rng.integers(0, 256, (8, 8))
    image = decode_image(encoded(pixels), GREY)
    assert image.dtype == np.float32
    np.testing.assert_array_equal(image[..., 0], pixels.astype(np.float32) / 255)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.parametrize("shape", [GREY, COLOUR, (30, 40, 3)])
def test_an_upload_is_decoded_as_the_files_of_a_data_set(photo, tmp_path, kind, shape):
    data = encoded(photo if shape[2] == 3 else photo[..., 0], kind)
    for number in range(12):
        (tmp_path / f"{number}.{kind.lower()}").write_bytes(data)
    images, _ = datasets.load(str(tmp_path), image_size=shape[:2]).test.arrays()
    np.testing.assert_array_equal(decode_image(data, shape), images[0])


def test_colour_becomes_grey_and_grey_becomes_colour(photo):
    grey = decode_image(encoded(photo), (24, 20, 1))[..., 0] * 255
    np.testing.assert_allclose(grey, photo @ [0.299, 0.587, 0.114], atol=1)  # rounded
    colour = decode_image(encoded(photo[..., 0]), (24, 20, 3))
    assert np.ptp(colour, axis=-1).max() == 0


def test_other_kinds_of_png_are_read(rng):
    wide = rng.integers(0, 2**16, (8, 8)).astype(np.uint16)
    file = io.BytesIO()
    Image.fromarray(wide).save(file, "PNG")
    np.testing.assert_allclose(
        decode_image(file.getvalue(), GREY)[..., 0], wide / 65535, atol=1 / 255
    )
    for mode in ("1", "P", "LA", "RGBA"):
        file = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (9, 7)).astype(np.uint8)).convert(mode).save(
            file, "PNG"
        )
        assert decode_image(file.getvalue(), COLOUR).shape == COLOUR


def test_binarized_pixels_are_cut_at_one_half(rng):
    pixels = rng.integers(0, 256, (8, 8))
    image = decode_image(encoded(pixels), GREY, binarize=True)
    np.testing.assert_array_equal(image[..., 0], pixels > 127.5)


@pytest.mark.parametrize("data", OTHERS.values(), ids=OTHERS)
def test_what_is_no_png_or_jpeg_by_its_first_bytes_is_refused(data, monkeypatch):
    monkeypatch.setattr(Image, "open", lambda *_, **__: pytest.fail("decoded"))
    with pytest.raises(InputError, match="expected a PNG or JPEG file; received one that begins"):
        decode_image(data, GREY)


@pytest.mark.parametrize("size", [(2**31 - 1, 2**31 - 1), (5000, 5000), (1, 2**25), (2**25, 1)])
def test_an_image_of_too_many_pixels_is_refused_by_its_header(size, monkeypatch, recwarn):
    monkeypatch.setattr(Image, "open", lambda *_, **__: pytest.fail("decoded"))
    bomb = png_header(*size) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    with pytest.raises(InputError, match="expected an image of at most 16,777,216 pixels"):
        decode_image(bomb, GREY)
    assert not recwarn.list


def test_a_jpeg_of_too_many_pixels_is_refused_by_its_header(monkeypatch, recwarn):
    monkeypatch.setattr(Image, "open", lambda *_, **__: pytest.fail("decoded"))
    data = bytearray(encoded(np.zeros((8, 8)), "JPEG"))
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", 65535, 65535)
    with pytest.raises(InputError, match="received 65,535 x 65,535"):
        decode_image(bytes(data), GREY)
    assert not recwarn.list


def test_the_largest_image_that_is_taken():
    data = encoded(np.full((10, 12), 51))
    assert decode_image(data, GREY, max_pixels=120) == pytest.approx(0.2)
    with pytest.raises(InputError, match="received 12 x 10"):
        decode_image(data, GREY, max_pixels=119)


def test_too_many_bytes_are_refused():
    data = encoded(np.zeros((8, 8)))
    assert decode_image(data, GREY, max_bytes=len(data)).shape == GREY
    with pytest.raises(InputError, match="expected a file of at most 10 MiB; received"):
        decode_image(data + bytes(uploads.MAX_BYTES), GREY)


def test_a_model_of_other_channels_takes_no_upload():
    with pytest.raises(InputError, match="images of 2 channels"):
        decode_image(encoded(np.eye(8)), (8, 8, 2))


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_truncated_file_is_refused(kind, rng):
    data = encoded(rng.integers(0, 256, (40, 40, 3)), kind)
    assert len(data) > 1500
    for length in range(0, len(data) - 20, 50):
        with pytest.raises(InputError) as refused:
            decode_image(data[:length], COLOUR)
        assert "\n" not in str(refused.value)


def test_damaged_bytes_give_an_image_or_one_line(rng):
    """Whatever is changed in a file, nothing but an InputError comes of it."""
    refusals = 0
    for kind in ("PNG", "JPEG"):
        whole = encoded(rng.integers(0, 256, (16, 16, 3)), kind)
        for _ in range(300):
            data = bytearray(whole)
            for place in rng.integers(0, len(data), 3):
                data[place] = rng.integers(0, 256)
            try:
                image = decode_image(bytes(data), COLOUR)
            except InputError as error:
                refusals += 1
                assert "\n" not in str(error)
            else:
                assert image.shape == COLOUR
                assert 0 <= image.min() <= image.max() <= 1
    assert refusals > 100


@pytest.mark.parametrize("start", [b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", png_header(8, 8)])
def test_random_bytes_are_refused(start, rng):
    for length in rng.integers(0, 3000, 100):
        with pytest.raises(InputError):
            decode_image(start + rng.bytes(length), GREY)


def test_a_png_whose_text_inflates_without_end_is_refused():
    text = chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(2**27)))
    body = chunk(b"IDAT", zlib.compress(bytes(9 * 8))) + chunk(b"IEND", b"")
    with pytest.raises(InputError):
        decode_image(png_header(8, 8) + text + body, GREY)
