"""`tfvae.load` takes what the package writes, and nothing that could run code."""

import json
import shutil
import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf
from exported_model import SHAPE, export, seeds

import tfvae


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("export")
    flows = {"posterior": "iaf:flows=1,hidden=8", "prior": "realnvp:flows=2,hidden=8"}
    vae, _ = export(folder, network="dense:hidden=16", **flows)
    vae.save(folder / "model.keras")
    # Of versions the newest is loaded, which the letters of their names do not tell.
    shutil.copytree(folder / "saved_model", folder / "versions" / "10")
    (folder / "versions" / "9").mkdir()
    (folder / "versions" / "9" / "saved_model.pb").write_bytes(b"")
    return vae, folder


@pytest.mark.parametrize("place", ["", "model.keras", "saved_model", "versions"])
def test_the_same_model_comes_from_everywhere(exported, place):
    vae, folder = exported
    again = tfvae.load(folder / place)
    assert type(again) is tfvae.VAE
    x = np.random.default_rng(1).random((3, *SHAPE)).astype("float32")
    for method in (
        lambda one: one.reconstruct(x),
        lambda one: one.code(x),
        lambda one: one.elbo(x, seed=1).elbo,
        lambda one: one.sample(3, seed=2),
        lambda one: one.encode(x).sample(seed=(1, 2)),
        lambda one: one.decode(np.zeros((1, 3), "float32")).log_prob(x),
        lambda one: one.interpolate(x[0], x[1], 3),
        lambda one: one.traverse(x[0], 1, [-1.0, 1.0]),
    ):
        np.testing.assert_array_equal(method(again), method(vae))


def test_what_is_loaded_draws_what_the_graph_draws(exported):
    _, folder = exported
    signature = tf.saved_model.load(str(folder / "saved_model")).signatures["sample"]
    again = tfvae.load(folder / "saved_model")
    np.testing.assert_allclose(
        again.sample(4, seed=seeds(4)), signature(seed=tf.constant(seeds(4)))["images"], atol=1e-5
    )


@pytest.mark.exhaustive
def test_what_is_loaded_trains_on(exported):
    again = tfvae.load(exported[1] / "saved_model")
    again.compile("adam")
    history = again.fit(np.zeros((8, *SHAPE), "float32"), verbose=0)
    assert np.isfinite(history.history["loss"]).all()


def test_an_autoencoder_is_loaded_too(tmp_path):
    model = tfvae.Autoencoder.for_images((4, 4, 1), latent_dim=2, network="dense", seed=0)
    model.save(tmp_path / "model.keras")
    assert type(tfvae.load(tmp_path)) is tfvae.Autoencoder


def test_what_is_no_model_is_told_in_a_line(exported, tmp_path):
    (tmp_path / "text.keras").write_text("no zip")
    (tmp_path / "picture.png").write_text("")
    (tmp_path / "empty").mkdir()
    keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]).save(tmp_path / "other.keras")
    module = tf.Module()
    module.weight = tf.Variable(1.0)
    tf.saved_model.save(module, str(tmp_path / "foreign"))
    for name, says in {
        "nothing": "there is nothing at",
        "picture.png": "expected a run directory .*, a model.keras file or a SavedModel",
        "empty": "is a directory that holds none",
        "text.keras": "holds no model that can be read",
        "other.keras": "expected a tfvae.VAE in .*; it holds a Sequential",
        "foreign": "is a SavedModel of another kind",
    }.items():
        with pytest.raises(tfvae.InputError, match=says) as caught:
            tfvae.load(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_damage_is_told_in_a_line(exported, tmp_path):
    for name in ("variables/variables.index", "assets.extra/keras.json"):
        copy = tmp_path / name.replace("/", "-")
        shutil.copytree(exported[1] / "saved_model", copy)
        (copy / name).write_bytes((copy / name).read_bytes()[:30])
        with pytest.raises(tfvae.InputError, match="holds no model that can be read"):
            tfvae.load(copy)


def test_no_code_comes_with_a_model(exported, tmp_path):
    """A lambda in a configuration, of a file or of a SavedModel, is refused and never run."""
    layer = keras.saving.serialize_keras_object(keras.layers.Lambda(lambda x: 1 / 0))
    assert "__lambda__" in json.dumps(layer)

    def with_lambda(config):
        config["config"]["encoder"]["config"]["layers"][1].update(
            {key: layer[key] for key in ("module", "class_name", "config", "registered_name")}
        )
        return json.dumps(config)

    copy = tmp_path / "saved_model"
    shutil.copytree(exported[1] / "saved_model", copy)
    file = copy / "assets.extra" / "keras.json"
    file.write_text(with_lambda(json.loads(file.read_text())))
    archive = tmp_path / "model.keras"
    with (
        zipfile.ZipFile(exported[1] / "model.keras") as old,
        zipfile.ZipFile(archive, "w") as new,
    ):
        for name in old.namelist():
            content = old.read(name)
            if name == "config.json":
                content = with_lambda(json.loads(content))
            new.writestr(name, content)
    for path in (copy, archive):
        with pytest.raises(tfvae.InputError, match=r"[Ll]ambda"):
            tfvae.load(path)
