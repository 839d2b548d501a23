"""The trained models of the repository load, and compute what their cards say."""

import json

import numpy as np
import pytest
import scripts
import tensorflow as tf
from command_line import within

import tfvae
from tfvae.evaluation import elbo
from tfvae.saving.card import licence_of
from tfvae.saving.config import TrainConfig

FOLDER = scripts.ROOT / "saved_models"
make = scripts.loaded(FOLDER / "make.py")

pytestmark = pytest.mark.parametrize("name", make.names(), scope="module")


@pytest.fixture(scope="module")
def folder(name):
    return FOLDER / name


@pytest.fixture(scope="module")
def vae(folder):
    return tfvae.load(folder)


@pytest.fixture(scope="module")
def images(folder):
    return np.load(folder / "test_images.npz")["images"]


@pytest.fixture(scope="module")
def card(folder):
    return json.loads((folder / "saved_model" / "1" / "card.json").read_text("utf-8"))


@pytest.mark.exhaustive
def test_it_computes_the_elbo_of_its_card(vae, images, card):
    said = card["metrics"]["test_images.npz"]
    found = elbo(vae, [images], seed=said["seed"])
    assert found.events == said["events"] == len(images) == make.CHECKED
    assert found.elbo == pytest.approx(said["elbo"], abs=1e-3)
    # These images are among those of the whole test set.
    error = np.hypot(said["standard_error"], card["metrics"]["standard_error"])
    assert said["elbo"] == pytest.approx(card["metrics"]["elbo"], abs=4 * error)


@pytest.mark.few(1)
def test_the_saved_model_computes_what_keras_does(folder, vae, images):
    signatures = tf.saved_model.load(str(folder / "saved_model" / "1")).signatures
    encoded = signatures["encode"](images=tf.constant(images))
    q = vae.encode(images)
    np.testing.assert_allclose(encoded["loc"], q.mean(), atol=1e-5)
    np.testing.assert_allclose(encoded["scale"], q.stddev(), atol=1e-5)
    np.testing.assert_allclose(
        signatures["decode"](z=encoded["loc"])["images"], vae.decode(q.mean()).mean(), atol=1e-5
    )


@pytest.mark.few(1)
def test_both_files_have_the_same_weights(folder, vae):
    exported = tfvae.load(folder / "saved_model")
    for one, other in zip(vae.weights, exported.weights, strict=True):
        np.testing.assert_array_equal(one, other)


def test_it_is_that_of_its_configuration(folder, vae, card):
    config = TrainConfig.read(folder / "config.toml")
    said = {name: getattr(config, name) for name in card["training"] if name != "precision"}
    assert said == {name: card["training"][name] for name in said}
    assert card["data"]["name"] == config.dataset
    assert card["data"]["licence"] == licence_of(config.dataset)
    assert card["model"]["parameters"] == vae.count_params()
    assert vae.latent_dim == config.latent_dim


def test_the_page_of_results_has_its_line(name):
    page = (FOLDER.parent / "docs" / "results.md").read_text("utf-8")
    assert make.table() in page
    assert f"[`{name}`](../saved_models/{name})" in make.table()


def test_it_is_small(folder):
    assert sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) < 9e6


@pytest.mark.few(1)
def test_it_draws_pictures_at_once(folder, tmp_path):
    within("sample", folder, "--n", "4", "--out", tmp_path / "samples.png")
    assert (tmp_path / "samples.png").read_bytes().startswith(b"\x89PNG")
