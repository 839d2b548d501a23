"""The SavedModel: one directory that loads without the library, and all that lies in it."""

import json
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest
import tensorflow as tf
from exported_model import SHAPE, seeds, shared
from tensorflow.core.protobuf import saved_model_pb2

import tfvae
from tfvae.datasets.preprocessing import Preprocessing
from tfvae.models.tracing import networks_traced_once
from tfvae.saving.card import Anomaly, Card
from tfvae.saving.files import new_directory
from tfvae.serving.export import publish_saved_model


@pytest.fixture(scope="module")
def exported():
    return shared()


@pytest.fixture(scope="module")
def loaded(exported):
    return tf.saved_model.load(str(exported[1]))


@pytest.mark.exhaustive
def test_every_input_and_output_has_the_batch_first(loaded):
    for name, signature in loaded.signatures.items():
        inputs = signature.structured_input_signature[1]
        for spec in [*inputs.values(), *signature.structured_outputs.values()]:
            assert spec.shape.rank >= 1, name
            assert spec.shape[0] is None, name


def test_seeds_decide_the_draws_and_nothing_else_does(exported, loaded):
    sample = loaded.signatures["sample"]
    whole = sample(seed=tf.constant(seeds(6)))["images"].numpy()
    again = tf.saved_model.load(str(exported[1])).signatures["sample"]
    np.testing.assert_array_equal(again(seed=tf.constant(seeds(6)))["images"], whole)
    np.testing.assert_allclose(
        sample(seed=tf.constant(seeds(2, 3)))["images"], whole[3:5], atol=1e-6
    )
    for one in range(6):
        for other in range(one):
            assert np.abs(whole[one] - whole[other]).max() > 1e-4


def test_sampled_codes_have_the_priors_moments(exported, loaded):
    """Seeds that count up must give draws that are as good as independent."""
    vae, _ = exported
    x = tf.zeros((1, *SHAPE))
    loc, scale = vae.encode(x).mean(), vae.encode(x).stddev()
    count = 4000
    scores = loaded.signatures["elbo"](
        images=tf.repeat(x, count, axis=0), seed=tf.constant(seeds(count))
    )["log_likelihood"].numpy()
    z = vae.posterior_family.distribution({"loc": loc, "log_var": 2 * np.log(scale)}).sample(
        count, seed=1
    )
    reference = vae.decode(z[:, 0]).log_prob(x).numpy()
    error = np.sqrt(scores.var() / count + reference.var() / count)
    assert abs(scores.mean() - reference.mean()) < 4 * error
    assert scores.std() == pytest.approx(reference.std(), rel=0.1)


def test_it_loads_where_there_is_tensorflow_alone(exported, tmp_path):
    vae, path = exported
    x = np.random.default_rng(1).random((4, *SHAPE)).astype("float32")
    np.save(tmp_path / "x.npy", x)
    code = """
import sys
for name in ("tfvae", "tensorflow_probability", "keras", "tf_keras"):
    sys.modules[name] = None  # an import of it fails
import numpy as np, tensorflow as tf
model = tf.saved_model.load(sys.argv[1])
seed = tf.constant([[5, i] for i in range(4)])
out = model.signatures["elbo"](images=tf.constant(np.load(sys.argv[2])), seed=seed)
np.save(sys.argv[3], out["elbo"])
"""
    done = subprocess.run(
        [sys.executable, "-c", code, path, tmp_path / "x.npy", tmp_path / "elbo.npy"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    expected = vae.elbo(x, seed=seeds(4)).elbo
    np.testing.assert_allclose(np.load(tmp_path / "elbo.npy"), expected, rtol=1e-5)


def test_it_holds_each_network_once(exported):
    saved = saved_model_pb2.SavedModel()
    saved.ParseFromString((exported[1] / "saved_model.pb").read_bytes())
    functions = saved.meta_graphs[0].graph_def.library.function
    for layer, operation in (("conv_encoder", "Conv2D"), ("conv_decoder", "Conv2DBackpropInput")):
        holding = {
            function.signature.name
            for function in functions
            for node in function.node_def
            if layer in node.name and node.op == operation
        }
        assert len(holding) == 1


def test_networks_run_as_functions_within_alone(exported):
    vae, _ = exported
    x = np.random.default_rng(2).random((3, *SHAPE)).astype("float32")
    code = vae.code(x)

    def traced():
        @tf.function
        def code_of(images):
            return vae.code(images)

        graph = code_of.get_concrete_function(tf.TensorSpec((None, *SHAPE)))
        return graph, {one.type for one in graph.graph.get_operations()}

    with networks_traced_once():
        graph, operations = traced()
        np.testing.assert_allclose(vae.code(x), code, rtol=1e-5, atol=1e-6)
    assert "Conv2D" not in operations
    np.testing.assert_allclose(graph(x), code, rtol=1e-5, atol=1e-6)
    assert "Conv2D" in traced()[1]


def test_what_exists_is_not_overwritten(exported):
    vae, path = exported
    before = sorted((one.name, one.stat().st_mtime_ns) for one in path.iterdir())
    with pytest.raises(tfvae.InputError, match="exists: choose another name"):
        vae.export(path)
    assert before == sorted((one.name, one.stat().st_mtime_ns) for one in path.iterdir())


@pytest.mark.exhaustive
def test_half_precision_exports_float32_ends(tmp_path):
    keras.config.set_dtype_policy("mixed_bfloat16")
    vae = tfvae.VAE.for_images((4, 4, 1), latent_dim=2, network="dense:hidden=8", seed=0)
    vae.export(tmp_path / "half")
    signatures = tf.saved_model.load(str(tmp_path / "half")).signatures
    x = tf.ones((2, 4, 4, 1))
    out = signatures["reconstruct"](images=x)["images"]
    assert out.dtype == tf.float32
    # A graph too: where a processor has bfloat16 kernels, a graph joins operations and rounds
    # between them less often than they do one by one.
    np.testing.assert_allclose(out, tf.function(vae.reconstruct)(x), atol=1e-5)


def test_a_model_without_images_yet_cannot_be_exported(tmp_path):
    class Encoder(keras.Model):
        def call(self, x):
            return keras.ops.reshape(x, (-1, 64))

    vae = tfvae.VAE(Encoder(), tfvae.networks.dense_decoder((8, 8, 1), 2), 2)
    with pytest.raises(tfvae.InputError, match=r"does not know its .* shape yet"):
        vae.export(tmp_path / "nothing")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def small():
    return tfvae.VAE.for_events((3,), latent_dim=2, network="dense:hidden=8", seed=0)


@pytest.mark.exhaustive
def test_versions_count_up_and_are_whole(small, tmp_path):
    vae = small
    assert publish_saved_model(vae, tmp_path / "vae")[0] == tmp_path / "vae" / "1"
    (tmp_path / "vae" / ".2-half").mkdir()  # what a crash leaves; servers want a number
    (tmp_path / "vae" / "notes.txt").write_text("mine")
    version, names = publish_saved_model(vae, tmp_path / "vae")
    assert version == tmp_path / "vae" / "2"
    assert "anomaly_score" in names
    assert sorted(one.name for one in (tmp_path / "vae").iterdir()) == [
        ".2-half", "1", "2", "notes.txt",
    ]  # fmt: skip
    for one in ("1", "2"):
        again = tfvae.load(tmp_path / "vae" / one)
        np.testing.assert_array_equal(again.code(np.ones((1, 3))), vae.code(np.ones((1, 3))))


def test_exports_at_once_make_a_version_each(exported, tmp_path, monkeypatch):
    """Of threads as of processes: what they wait for is the same lock."""
    made = []

    def export(vae, path, **options):
        with new_directory(path) as partial:
            (partial / "saved_model.pb").write_bytes(b"")
            time.sleep(0.05)
        made.append(path.name)
        return []

    monkeypatch.setattr("tfvae.serving.export.export_saved_model", export)
    with ThreadPoolExecutor(4) as pool:
        versions = list(
            pool.map(lambda _: publish_saved_model(exported[0], tmp_path / "served"), range(4))
        )
    assert sorted(version.name for version, _ in versions) == ["1", "2", "3", "4"]
    assert made == ["1", "2", "3", "4"]


def test_versions_do_not_mix_with_anything_else(exported, tmp_path):
    vae, path = exported
    (tmp_path / "file").write_text("mine")
    for place in (path, tmp_path / "file", tmp_path):
        before = sorted(place.rglob("*"))
        with pytest.raises(tfvae.InputError, match="expected a directory of versions"):
            publish_saved_model(vae, place)
        assert sorted(place.rglob("*")) == before


@pytest.mark.exhaustive
def test_a_version_that_fails_leaves_the_ones_before(small, tmp_path, monkeypatch):
    (tmp_path / "vae" / "1").mkdir(parents=True)
    (tmp_path / "vae" / "1" / "saved_model.pb").write_bytes(b"")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tfvae.serving.export.write_warmup_requests", full)
    with pytest.raises(OSError):
        publish_saved_model(small, tmp_path / "vae")
    assert [one.name for one in (tmp_path / "vae").iterdir()] == ["1"]


@pytest.mark.exhaustive
def test_the_card_says_what_the_model_is_and_how_to_call_it(exported, loaded):
    vae, path = exported
    card = json.loads((path / "card.json").read_text())
    assert card["data"] == {"name": "noise", "licence": "none", "rows": {"train": 40}}
    assert card["model"]["latent_dim"] == 3
    assert (card["model"]["kind"], card["model"]["event_shape"]) == ("image", [9, 7, 1])
    assert card["model"]["parameters"] == vae.count_params()
    assert card["model"]["likelihood"] == "Normal"
    assert card["anomaly"] == {"threshold": 30.0, "rate": 0.01, "events": 100}
    signatures = loaded.signatures
    assert set(card["signatures"]) == set(signatures) - {"serving_default"}
    for name, told in card["signatures"].items():
        specs = signatures[name].structured_input_signature[1]
        assert told["inputs"] == {key: described(one) for key, one in specs.items()}
        outputs = signatures[name].structured_outputs
        assert told["outputs"] == {key: described(one) for key, one in outputs.items()}
    readme = (path / "README.md").read_text()
    (example,) = re.findall(r"```python\n(.*?)```", readme, flags=re.DOTALL)
    exec(example.replace("PATH", str(path)), {})
    for name in signatures:
        assert name == "serving_default" or f"| `{name}` |" in readme


def described(spec):
    return {"shape": spec.shape.as_list(), "dtype": spec.dtype.name}


def test_a_card_is_read_as_it_was_written(exported, tmp_path):
    _, path = exported
    card = Card.read(path / "card.json")
    assert card.preprocessing == Preprocessing()
    assert card.anomaly == Anomaly(30.0, 0.01, 100)
    assert card.with_licence("mine").data["licence"] == "mine"
    for text in ("no json", "[]", '{"anomaly": {"limit": 1}}'):
        (tmp_path / "card.json").write_text(text)
        with pytest.raises(tfvae.InputError, match="is no model card"):
            Card.read(tmp_path / "card.json")
