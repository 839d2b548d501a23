"""What the pixels of picture files become: turned upright, on a background, scaled."""

import struct
import zlib
from types import SimpleNamespace

import numpy as np
import pytest
from picture_files import chunk, encoded, everything, message, write_images
from PIL import Image

from tfvae.datasets import load
from tfvae.datasets.open import open_source
from tfvae.datasets.options import PictureOptions
from tfvae.saving.config import DataOptions, TrainConfig
from tfvae.saving.run import TrainedModel


@pytest.fixture
def images(rng):
    return rng.integers(0, 256, (12, 6, 5), np.uint8)


class TestPixels:
    @pytest.mark.parametrize("orientation", range(1, 9))
    @pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
    def test_orientation(self, tmp_path, orientation, kind):
        """Stored so that the viewer's turn, the inverse of each, brings the picture back."""
        upright = np.zeros((16, 24), np.uint8)
        upright[:8, :8], upright[8:, :8], upright[:8, 8:] = 250, 160, 80
        stored = {
            1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1],
            5: upright.T, 6: np.rot90(upright), 7: upright[::-1, ::-1].T,
            8: np.rot90(upright, -1),
        }[orientation]  # fmt: skip
        exif = Image.Exif()
        exif[274] = orientation
        options = {"lossless": True} if kind == "WEBP" else {}
        path = tmp_path / f"x.{kind.lower()}"
        Image.fromarray(np.ascontiguousarray(stored)).save(path, kind, exif=exif, **options)
        source = open_source(tmp_path)
        assert source.image_shape[:2] == (16, 24)
        read, _ = everything(source)
        np.testing.assert_allclose(read[0, ..., 0].astype(int), upright, atol=3)

    @pytest.mark.parametrize("background", ["white", "black", "#10a0f0"])
    @pytest.mark.parametrize("mode", ["LA", "RGBA", "P"])
    def test_transparency_shows_the_background(self, tmp_path, rng, background, mode):
        under = {"white": [255] * 3, "black": [0] * 3}.get(background, [16, 160, 240])
        colours = rng.integers(0, 256, (6, 5, 1 if mode == "LA" else 3), np.uint8)
        alpha = rng.integers(0, 256, (6, 5, 1), np.uint8)
        alpha[0] = 0
        if mode == "P":
            image = Image.fromarray(colours).quantize(16)
            table = rng.integers(0, 256, 16).astype(np.uint8)
            image.save(tmp_path / "x.png", transparency=bytes(table))
            colours = np.asarray(image.convert("RGB"))
            alpha = table[np.asarray(image)][..., None]
        else:
            image = Image.fromarray(np.concatenate([colours, alpha], axis=-1))
            assert image.mode == mode
            image.save(tmp_path / "x.png")
        weight = alpha / 255
        expected = weight * colours + (1 - weight) * np.array(under)
        source = open_source(tmp_path, pictures=PictureOptions(background=background))
        grey = mode == "LA" and background[0] != "#"
        assert source.image_shape == (6, 5, 1 if grey else 3)
        expected = expected[..., :1] if grey else expected
        np.testing.assert_allclose(everything(source)[0][0], expected, atol=0.51)
        assert source.pictures.background == background

    @pytest.mark.parametrize("mode", ["L", "RGB"])
    def test_a_transparent_colour(self, tmp_path, mode):
        pixels = np.full((4, 4) if mode == "L" else (4, 4, 3), 90, np.uint8)
        pixels[:2] = 7
        key = 7 if mode == "L" else (7, 7, 7)
        Image.fromarray(pixels).save(tmp_path / "x.png", transparency=key)
        read, _ = everything(open_source(tmp_path))
        assert read[0, ..., 0].tolist() == [[255] * 4] * 2 + [[90] * 4] * 2

    def test_black_on_transparent_is_seen(self, tmp_path, images):
        for row, alpha in enumerate(images):
            shape = np.stack([np.zeros_like(alpha)] * 3 + [alpha], axis=-1)
            Image.fromarray(shape).save(tmp_path / f"{row}.png")
        read, _ = everything(open_source(tmp_path))
        np.testing.assert_array_equal(read[0, ..., 0], 255 - images[0])
        text = message(tmp_path, pictures=PictureOptions(background="black"))
        assert "0.png is of the colour of its background, #000000" in text

    @pytest.mark.parametrize("background", ["blue", "#12", "", "#gggggg"])
    def test_no_such_background(self, tmp_path, images, background):
        write_images(tmp_path, images)
        text = message(tmp_path, pictures=PictureOptions(background=background))
        assert "a background is white, black or a colour like #80c0ff" in text

    def test_twelve_bits_in_sixteen(self, tmp_path, rng):
        deep = rng.integers(0, 4096, (9, 6, 5)).astype(np.uint16)
        deep[0, 0, :2] = 0, 4095
        write_images(tmp_path, deep)
        text = message(tmp_path)
        assert "the largest is 4095: give value_range=(0, 4095)" in text
        assert "(0, 65535)" in text
        source = open_source(tmp_path, value_range=(0, 4095))
        np.testing.assert_allclose(everything(source)[0][..., 0], deep / 4095 * 255, atol=0.51)
        assert source.pictures.value_range == (0, 4095)
        dark = everything(open_source(tmp_path, value_range=(0, 65535)))[0][..., 0]
        np.testing.assert_allclose(dark, deep / 257, atol=0.51)

    def test_sixteen_bits(self, tmp_path, rng):
        deep = rng.integers(0, 65_536, (9, 6, 5)).astype(np.uint16)
        write_images(tmp_path, deep)
        read, _ = everything(open_source(tmp_path))
        np.testing.assert_allclose(read[..., 0], deep / 257, atol=0.51)

    @pytest.mark.parametrize("top", [4095, 65_535])
    def test_colours_of_sixteen_bits(self, tmp_path, rng, top):
        deep = rng.integers(0, top + 1, (6, 5, 3)).astype(np.uint16)
        deep[0, 0] = top
        rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in deep)
        head = struct.pack(">IIBBBBB", 5, 6, 16, 2, 0, 0, 0)
        body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
        (tmp_path / "x.png").write_bytes(b"\x89PNG\r\n\x1a\n" + body)
        if top == 4095:
            assert "none reaches a quarter of 65535: save them with 8 bits" in message(tmp_path)
        read, _ = everything(open_source(tmp_path, value_range=(0, 65_535)))
        np.testing.assert_array_equal(read[0], deep // 256)
        assert "a value range is for pictures of 8 bits" in message(tmp_path, value_range=(0, 4095))

    def test_masks_of_zero_and_one(self, tmp_path, rng):
        masks = rng.integers(0, 2, (9, 6, 5), np.uint8)
        write_images(tmp_path, masks)
        source = open_source(tmp_path)
        np.testing.assert_array_equal(everything(source)[0][..., 0], 255 * masks)
        assert "values 0 and 1 of the files became 0 and 255" in source.notes

    def test_few_levels_are_in_doubt(self, tmp_path, rng):
        write_images(tmp_path, np.minimum(16, rng.integers(0, 40, (9, 6, 5))).astype(np.uint8))
        assert "give value_range=(0, 16) to scale these, or value_range=(0, 255)" in message(
            tmp_path
        )
        read, _ = everything(open_source(tmp_path, value_range="0,16"))
        assert read.max() == 255

    def test_floating_point(self, tmp_path, rng):
        values = rng.normal(size=(6, 5)).astype(np.float32)
        Image.fromarray(values).save(tmp_path / "x.tif")
        assert "holds numbers from -" in message(tmp_path)
        read, _ = everything(open_source(tmp_path, value_range=(-3, 3)))
        np.testing.assert_allclose(read[0, ..., 0], (values + 3) / 6 * 255, atol=0.51)

    def test_a_range_for_pictures_that_have_none(self, tmp_path, rng):
        Image.fromarray(rng.random((6, 5)) < 0.5).save(tmp_path / "x.png")
        assert "a value range is for pictures of 8 bits" in message(tmp_path, value_range=(0, 9))

    def test_grey_palettes_and_inks(self, tmp_path, rng):
        colours = np.kron(rng.integers(0, 256, (2, 2, 3), np.uint8), np.ones((8, 8, 1), np.uint8))
        (tmp_path / "1.png").write_bytes(encoded(colours, mode="P"))
        (tmp_path / "2.jpg").write_bytes(encoded(colours, "JPEG", "CMYK", quality=100))
        (tmp_path / "3.gif").write_bytes(encoded(colours, "GIF", "P"))
        (tmp_path / "4.png").write_bytes(encoded(colours[..., 0] > 99))
        read, _ = everything(open_source(tmp_path))
        expected = np.asarray(Image.fromarray(colours).convert("P").convert("RGB"))
        np.testing.assert_array_equal(read[0], expected)
        np.testing.assert_allclose(read[1].astype(int), colours, atol=4)
        np.testing.assert_array_equal(read[2], expected)
        np.testing.assert_array_equal(read[3][..., 1], 255 * (colours[..., 0] > 99))


class TestOptions:
    @pytest.fixture
    def config(self, tmp_path, rng):
        write_images(tmp_path, rng.integers(0, 4096, (20, 6, 5)).astype(np.uint16))
        (tmp_path / "3.png").write_bytes(b"x")
        options = {"value_range": "0,4095", "background": "black", "skip_damaged": True}
        return TrainConfig(dataset=str(tmp_path), **options)

    def test_those_of_a_run_are_passed_on(self, tmp_path, config):
        file = tmp_path / "config.toml"
        file.write_text(config.to_toml())
        data = load(**TrainConfig.read(file).data_options())
        assert data.test.source.pictures == PictureOptions("black", (0, 4095), True)
        assert data.test.source.skipped == {"damaged": 1, ".toml": 1}

    def test_other_pictures_have_the_background_of_the_run(self, tmp_path, config, images):
        write_images(tmp_path / "other", images)
        vae = SimpleNamespace(
            image_shape=(6, 5, 1), event_shape=(6, 5, 1), num_classes=None, missing=False
        )
        trained = TrainedModel(vae, tmp_path, config)
        for given, background in (({}, "black"), ({"background": "#102030"}, "#102030")):
            options = DataOptions(dataset=str(tmp_path / "other"), **given)
            assert trained.data(options).test.source.pictures == PictureOptions(background)
