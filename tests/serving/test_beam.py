"""Codes inside of Beam pipelines, on the runner that comes with Beam."""

import importlib
import io
import pickle
import sys

import apache_beam as beam
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import tfvae
from tfvae.datasets.preprocessing import Preprocessing
from tfvae.distributions.kl import exact_kl
from tfvae.saving.card import Card
from tfvae.serving.beam import Encode
from tfvae.serving.embedding import Encoder
from tfvae.serving.export import export_saved_model

SHAPE = (8, 8, 1)


def saved(folder, name, **kwargs):
    vae = tfvae.VAE.for_images(SHAPE, latent_dim=3, network="dense", seed=0, **kwargs)
    vae.save(folder / name)
    return vae, folder / name


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return saved(tmp_path_factory.mktemp("plain"), "model.keras")


@pytest.fixture(scope="module")
def conditional(tmp_path_factory):
    folder = tmp_path_factory.mktemp("conditional")
    return saved(folder, "model.keras", num_classes=10, prior="class_normal")


@pytest.fixture(scope="module")
def images():
    return tfvae.datasets.load("digits").test.arrays(limit=40)


FOUND = []


def keep(output):
    # A function of a module reaches the runner by its name, and what it fills is this list.
    FOUND.append(output)


def run(elements, transform):
    """Give what a transform makes of elements, by their keys."""
    FOUND.clear()
    with beam.Pipeline("DirectRunner") as pipeline:
        pipeline | beam.Create(elements) | transform | beam.Map(keep)
    assert len(dict(FOUND)) == len(FOUND) == len(elements)
    return dict(FOUND)


@pytest.mark.parametrize("batch_size", [7, pytest.param(256, marks=pytest.mark.exhaustive)])
def test_codes_are_those_of_the_model_whatever_the_batch(batch_size, plain, images):
    vae, path = plain
    x, _ = images
    q = vae.encode(x)
    kl = exact_kl(q, vae.prior)
    # In another order, by keys of two kinds.
    keys = [f"image {i}" if i % 2 else (i, "even") for i in range(len(x))]
    elements = list(zip(keys, x, strict=True))[::-1]
    found = run(elements, Encode(path, batch_size=batch_size))
    for i, key in enumerate(keys):
        assert list(found[key]) == ["code", "scale", "kl"]
        np.testing.assert_allclose(found[key]["code"], q.mean()[i], atol=1e-6)
        np.testing.assert_allclose(found[key]["scale"], q.stddev()[i], atol=1e-6)
        np.testing.assert_allclose(found[key]["kl"], kl[i], rtol=1e-5)


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def test_bytes_and_files_are_scaled_as_those_of_a_data_set(plain, rng):
    vae, path = plain
    pixels = rng.integers(0, 256, SHAPE, np.uint8)
    larger = np.repeat(np.repeat(pixels[..., 0], 3, axis=0), 3, axis=1)
    elements = [
        ("float32", pixels.astype("float32") / 255),
        ("float64", pixels / 255),
        ("uint8", pixels),
        ("png", png(pixels[..., 0])),
        ("larger", png(larger)),
    ]
    (expected,) = vae.code(pixels[None].astype("float32") / 255).numpy()
    found = run(elements, Encode(path))
    for key, _ in elements:
        np.testing.assert_allclose(found[key]["code"], expected, atol=1e-6)


@pytest.mark.exhaustive
def test_bytes_are_binarized_where_the_training_images_were(plain, tmp_path, rng):
    vae, _ = plain
    card = Card(preprocessing=Preprocessing("dynamic", seed=3))
    export_saved_model(vae, tmp_path / "1", card=card)
    encode = tf.saved_model.load(str(tmp_path / "1")).signatures["encode_uint8"]
    pixels = rng.integers(0, 256, (3, *SHAPE), np.uint8)
    expected = encode(images=tf.constant(pixels))["loc"]
    found = run([*enumerate(pixels[:2]), (2, png(pixels[2, ..., 0]))], Encode(tmp_path / "1"))
    for i in range(3):
        np.testing.assert_allclose(found[i]["code"], expected[i], atol=1e-6)
        assert np.abs(found[i]["code"] - vae.code(pixels[i : i + 1] / 255)[0]).max() > 1e-3


def test_a_conditional_model_takes_a_label_with_each_image(conditional, images):
    vae, path = conditional
    x, labels = images
    elements = [(i, (x[i], labels[i])) for i in range(len(x))]
    found = run(elements, Encode(path))
    code = vae.encode(x, labels).mean()
    kl = exact_kl(vae.encode(x, labels), vae.prior_of(labels))
    for i in range(len(x)):
        np.testing.assert_allclose(found[i]["code"], code[i], atol=1e-6)
        np.testing.assert_allclose(found[i]["kl"], kl[i], rtol=1e-5)


def test_a_flow_gives_its_codes_alone(tmp_path, images):
    vae, path = saved(tmp_path, "model.keras", posterior="iaf:flows=1,hidden=4")
    x = images[0][:3]
    found = run(list(enumerate(x)), Encode(path))
    code = vae.code(x)
    for i in range(3):
        assert list(found[i]) == ["code"]
        np.testing.assert_allclose(found[i]["code"], code[i], atol=1e-6)


def test_a_run_directory_is_a_model_and_is_read_once(plain, images, monkeypatch):
    _, path = plain
    opened = []
    true_open = Encoder.open
    monkeypatch.setattr(Encoder, "open", lambda file: opened.append(file) or true_open(file))
    run(list(enumerate(images[0])), Encode(path.parent, batch_size=2))
    assert opened == [path]


@pytest.mark.few(2)
@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((7, 8, 1)), r"expected numbers \[8, 8, 1\]; received shape \[7, 8, 1\]"),
        (np.full(SHAPE, 255.0), r"received values from 255 to 255: scale the values"),
        (b"no image", r"expected a PNG or JPEG file"),
    ],
)
def test_an_image_that_does_not_fit_is_named_by_its_key(image, message, plain, images):
    elements = [("first", images[0][0]), ("the bad one", image), ("last", images[0][1])]
    with pytest.raises(tfvae.InputError, match=f"image of key 'the bad one': .*{message}"):
        run(elements, Encode(plain[1]))


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("label", "message"),
    [
        (None, "'bad' has no label"),
        (0.5, "'bad': labels are whole numbers"),
    ],
)
def test_a_label_that_does_not_fit_is_named_by_its_key(label, message, conditional, images):
    x, labels = images
    bad = x[1] if label is None else (x[1], label)
    with pytest.raises(tfvae.InputError, match=message):
        run([("good", (x[0], labels[0])), ("bad", bad)], Encode(conditional[1]))


def test_the_keys_keep_their_type(plain):
    with beam.Pipeline("DirectRunner") as pipeline:
        codes = pipeline | beam.Create([("a", np.zeros(SHAPE))]) | Encode(plain[1])
    assert (
        codes.element_type
        == beam.typehints.Tuple[str, beam.typehints.Dict[str, beam.typehints.Any]]
    )


def test_the_transform_can_be_pickled(plain, images):
    transform = pickle.loads(pickle.dumps(Encode(plain[1], batch_size=3)))
    found = run(list(enumerate(images[0][:5])), transform)
    np.testing.assert_allclose(found[4]["code"], plain[0].code(images[0])[4], atol=1e-6)


def test_a_missing_model_shows_when_the_pipeline_is_made(tmp_path):
    with pytest.raises(tfvae.InputError, match="there is nothing at"):
        Encode(tmp_path / "nowhere")


def test_without_beam_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    monkeypatch.delitem(sys.modules, "tfvae.serving.beam")
    with pytest.raises(tfvae.InputError, match=r"pip install 'tfvae\[beam\]'"):
        importlib.import_module("tfvae.serving.beam")


def test_events_of_another_rank_with_holes(tmp_path, rng):
    shape = (5,)
    vae = tfvae.VAE.for_events(
        shape, latent_dim=3, network="dense", likelihood="normal", missing=True, seed=0
    )
    vae.save(tmp_path / "model.keras")
    x = rng.normal(size=(5, *shape)).astype("float32")
    x[1, 0], x[3] = np.nan, np.nan
    found = run(list(enumerate(x)), Encode(tmp_path))
    for key, code in enumerate(vae.code(x)):
        np.testing.assert_allclose(found[key]["code"], code, atol=1e-6)
    with pytest.raises(tfvae.InputError, match="vector of key 'file': files are for images"):
        run([("file", b"bytes")], Encode(tmp_path))
