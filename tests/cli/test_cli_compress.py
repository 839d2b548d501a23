"""``tfvae compress`` and ``tfvae decompress``: arrays and folders, there and back, and mistakes."""

import json

import numpy as np
import pytest
from command_files import snapshot
from command_line import refused, within
from PIL import Image

import tfvae


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with models of grey and of colour pictures, and events for them."""
    folder = tmp_path_factory.mktemp("compress")
    options = {"latent_dim": 2, "network": "dense:hidden=8", "likelihood": "discretized_logistic"}
    for channels, name in ((1, "grey"), (3, "colour")):
        vae = tfvae.VAE.for_images((6, 5, channels), seed=0, **options)
        vae.save(folder / f"{name}.keras")
    rng = np.random.default_rng(0)
    np.save(folder / "bytes.npy", rng.integers(0, 256, (30, 6, 5, 1), dtype=np.uint8))
    np.save(folder / "floats.npy", (rng.integers(0, 256, (30, 6, 5, 1)) / 255).astype(np.float32))
    (folder / "pictures" / "a b").mkdir(parents=True)
    for number in range(12):
        image = rng.integers(0, 256, (6, 5), dtype=np.uint8)
        path = folder / "pictures" / ("a b" if number % 3 else "") / f"{number}.png"
        Image.fromarray(image).save(path)
    Image.fromarray(image).save(folder / "pictures" / "a b" / "é.bmp")
    return folder


def test_an_array_comes_back_bit_for_bit(place, tmp_path):
    model = ("--model", place / "grey.keras")
    for name in ("bytes.npy", "floats.npy"):
        small = tmp_path / name.replace(".npy", ".tfvae")
        out, err = within("compress", place / name, small, *model, "--json")
        facts = json.loads(out)
        assert facts["bytes"] == small.stat().st_size
        assert facts["events"] == 30
        assert facts["bits"] == 8 * facts["bytes"]
        assert facts["bytes_before"] == (place / name).stat().st_size
        assert facts["negative_elbo_bits"] == pytest.approx(facts["bits"], rel=0.1)
        assert facts["over_elbo"] == pytest.approx(facts["bits"] / facts["negative_elbo_bits"] - 1)
        within("decompress", small, tmp_path / name, *model)
        assert (tmp_path / name).read_bytes() == (place / name).read_bytes()
        assert "Traceback" not in err


@pytest.mark.exhaustive
def test_a_folder_comes_back_with_its_names_and_pixels(place, tmp_path):
    model = ("--model", place / "grey.keras")
    out, _ = within("compress", place / "pictures", tmp_path / "small", *model)
    assert "negative ELBO" in out
    assert "13 events" in out
    out, _ = within("decompress", tmp_path / "small", tmp_path / "back", *model)
    assert "13 pictures" in out
    before, after = snapshot(place / "pictures"), snapshot(tmp_path / "back")
    assert {f"{p}.png".replace(".png.png", ".png") for p in before} == {str(p) for p in after}
    for path in before:
        back = tmp_path / "back" / (path if path.suffix == ".png" else f"{path}.png")
        with Image.open(place / "pictures" / path) as one, Image.open(back) as other:
            np.testing.assert_array_equal(np.asarray(one), np.asarray(other))


def test_binarised_events_come_back_as_such(place, tmp_path):
    vae = tfvae.VAE.for_images((6, 5, 1), latent_dim=2, network="dense:hidden=8", seed=0)
    vae.save(tmp_path / "bits.keras")
    model = ("--model", tmp_path / "bits.keras")
    line = refused("compress", place / "bytes.npy", tmp_path / "small", *model)
    assert "0 and 1 alone" in line
    chosen = ("--binarize", "threshold", "--limit", 7)
    within("compress", place / "bytes.npy", tmp_path / "small", *model, *chosen)
    within("decompress", tmp_path / "small", tmp_path / "back.npy", *model)
    expected = np.load(place / "bytes.npy")[:7] > 127.5
    np.testing.assert_array_equal(np.load(tmp_path / "back.npy"), expected)


@pytest.mark.exhaustive
def test_mistakes_are_one_line(place, tmp_path):
    model, colour = (("--model", place / f"{name}.keras") for name in ("grey", "colour"))
    small, out = tmp_path / "small", tmp_path / "out.npy"
    within("compress", place / "bytes.npy", small, *model, "--limit", 3)
    before = small.read_bytes()
    assert "exists" in refused("compress", place / "bytes.npy", small, *model)
    assert "exists" in refused("decompress", small, place / "bytes.npy", *model)
    assert ".npy file" in refused("decompress", small, tmp_path / "out.png", *model)
    line = refused("decompress", small, out, *colour)
    assert "(6, 5, 1)" in line and "(6, 5, 3)" in line
    assert "nothing at" in refused("decompress", small, out, "--model", tmp_path / "no.keras")
    assert "there is none at" in refused("decompress", tmp_path / "no", out, *model)
    assert "no file of tfvae" in refused("decompress", place / "bytes.npy", out, *model)
    small.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
    assert "damaged" in refused("decompress", small, out, *model)
    assert not out.exists()
    within("compress", place / "bytes.npy", small, *model, "--limit", 3, "--overwrite")
    assert small.read_bytes() == before
    line = refused(
        "compress", place / "pictures", tmp_path / "x", "--model", place / "colour.keras"
    )
    assert "the model takes images (6, 5, 3)" in line or "another kind" in line
    assert not (tmp_path / "x").exists()


def test_pictures_that_the_model_cannot_keep_are_refused(place, tmp_path):
    model = ("--model", place / "grey.keras")
    wrong = {
        "size": Image.new("L", (5, 7)),
        "kind": Image.new("LA", (5, 6)),
        "depth": Image.fromarray(np.full((6, 5), 40_000, np.uint16)),
    }
    for name, picture in wrong.items():
        folder = tmp_path / name
        folder.mkdir()
        for number in range(3):
            picture.save(folder / f"{number}.png")
        size = ("--image-size", "6x5") if name == "size" else ()
        line = refused("compress", folder, tmp_path / "small", *model, *size)
        assert "come back" in line or "convert it" in line or "values" in line
        assert not (tmp_path / "small").exists()


def test_names_that_lead_out_of_the_folder_are_refused(tmp_path):
    from tfvae.compression.pictures import write_folder

    image = np.zeros((1, 2, 2, 1), np.uint8)
    for name in ("../a.png", "/a.png", "a/../../b.png", "C:\\a.png", ""):
        with pytest.raises(tfvae.InputError, match="no name in a folder"):
            write_folder(tmp_path / "out", image, [name])
    assert not list(tmp_path.iterdir())
