"""ONNX Runtime and LiteRT compute what Keras computes, from noise that is an input."""

import functools
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfvae
from tfvae.lazy import tfd
from tfvae.posteriors import FlowPosterior
from tfvae.serving import runtimes

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("tf2onnx")
interpreter = pytest.importorskip("ai_edge_litert.interpreter")

D = 3
CASES = {
    "vectors": (
        (5,),
        {"network": "dense:hidden=16", "posterior": "full_normal", "missing": True},
    ),
    "images": (
        (9, 7, 1),
        {
            "network": "residual",
            "likelihood": "discretized_logistic:levels=8",
            "posterior": "coupling:flows=2,hidden=8",
            "prior": "class_normal",
            "num_classes": 4,
        },
    ),
    "volumes": (
        (4, 4, 4, 1),
        {
            "network": "conv",
            "likelihood": "normal:scale=learned",
            "posterior": "iaf:flows=2,hidden=8",
            "prior": "realnvp:flows=2,hidden=8",
            "missing": True,
        },
    ),
}
EXPORTS = {"onnx": runtimes.export_onnx, "litert": runtimes.export_litert}
BATCHES = (3, 17, 1)
# Sums in another order in float32; noise that is got back from a flow's draw has lost some more.
CLOSE = {"rtol": 1e-4, "atol": 1e-4}


def make(shape=(5,), **options):
    options = {"likelihood": "bernoulli", "network": "dense:hidden=8", **options}
    vae = tfvae.VAE.for_events(shape, latent_dim=D, seed=0, **options)
    # At their start flows are near the identity, and scales and classes all alike.
    rng = np.random.default_rng(1)
    vae.set_weights([w + 0.05 * rng.normal(size=w.shape) for w in vae.get_weights()])
    return vae


def session(path, name):
    """Give a function from arrays to arrays, as a user of the runtime makes it."""
    file = next(Path(path).glob(f"{name}.*"))
    if file.suffix == ".tflite":
        return interpreter.Interpreter(str(file)).get_signature_runner()
    opened = onnxruntime.InferenceSession(file)
    names = [one.name for one in opened.get_outputs()]
    return lambda **inputs: dict(zip(names, opened.run(None, inputs), strict=True))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Give the model of a case and its exports, made once."""

    @functools.cache
    def make_case(name):
        shape, options = CASES[name]
        vae, folder = make(shape, **options), tmp_path_factory.mktemp(name)
        return vae, {kind: export(vae, folder / kind) for kind, export in EXPORTS.items()}

    return make_case


# The exports of convolutions take ten seconds each.
LONG = [pytest.param(name, marks=pytest.mark.exhaustive) for name in CASES if name != "vectors"]


@pytest.fixture(scope="module", params=["vectors", *LONG])
def case(request, made):
    return made(request.param)


@pytest.fixture
def model(case):
    return case[0]


@pytest.fixture(params=EXPORTS)
def exported(request, case):
    return case[1][request.param]


@pytest.fixture(scope="module")
def vectors(made):
    return made("vectors")


def batches_of(vae, batch):
    """Give events and codes, and the labels as the runtimes and as Keras take them."""
    rng = np.random.default_rng(batch)
    x, step = rng.random((batch, *vae.event_shape)), vae.likelihood_family.support.step
    x = x if step is None else step * np.round(x / step)
    if vae.missing:
        x[rng.random(x.shape) < 0.2] = np.nan
        x[1:2] = np.nan
    z = rng.normal(size=(batch, D))
    label = None if vae.num_classes is None else (np.arange(batch) % 4).astype(np.int32)
    return x.astype("f"), z.astype("f"), {} if label is None else {"label": label}, label


def name_of(vae):
    return "images" if len(vae.event_shape) == 3 else "x"


def noise_of(distribution, z):
    """Give the noise that a draw of a distribution was made from."""
    if isinstance(distribution, tfd.MultivariateNormalTriL):
        return distribution.scale.solvevec(z - distribution.loc).numpy()
    if hasattr(distribution, "bijector"):
        return noise_of(distribution.distribution, distribution.bijector.inverse(z))
    return ((z - distribution.mean()) / distribution.stddev()).numpy()


@pytest.mark.parametrize("name", ["encode", "decode", "reconstruct"])
def test_networks_compute_as_in_keras_at_any_batch_size(model, exported, name):
    function, event = session(exported.path, name), name_of(model)
    for batch in BATCHES:
        x, z, given, label = batches_of(model, batch)
        if name == "encode":
            q, received = model.encode(x, label), function(**{event: x}, **given)
            expected = {"loc": model.posterior_family.code(q)}
            if not isinstance(model.posterior_family, FlowPosterior):
                expected["scale"] = q.stddev()
        elif name == "decode":
            received = function(z=z, **given)
            expected = {event: model.likelihood_family.mean(model.decode(z, label))}
        else:
            received = function(**{event: x}, **given)
            one_name_space = exported.path.name == "onnx"
            output = "reconstructions" if one_name_space else event
            expected = {output: model.reconstruct(x, label)}
        assert set(received) == set(expected)
        for key, value in expected.items():
            assert received[key].dtype == np.float32
            np.testing.assert_allclose(received[key], value, **CLOSE)


def test_the_elbo_of_a_seeds_noise_is_keras_elbo_of_that_seed(model, exported):
    function = session(exported.path, "elbo")
    for batch in BATCHES:
        x, _, given, label = batches_of(model, batch)
        q = model.encode(x, label)
        z, _ = q.experimental_sample_and_log_prob(1, seed=(5, 6))
        received = function(**{name_of(model): x}, noise=noise_of(q, z[0]), **given)
        expected = model.elbo(x, label, seed=(5, 6))._asdict()
        assert set(received) == set(expected)
        for key, value in expected.items():
            assert received[key].shape == (batch,)
            np.testing.assert_allclose(received[key], value, **CLOSE)


def test_samples_of_a_seeds_noise_are_keras_samples_of_that_seed(model, exported):
    function = session(exported.path, "sample")
    for batch in BATCHES:
        _, _, given, label = batches_of(model, batch)
        # As VAE.sample does.
        seed = tf.random.experimental.stateless_split((7, 8), 2)[0]
        p = model.prior_of(label)
        noise = noise_of(p, p.sample(() if given else batch, seed=seed))
        received = function(noise=noise, **given)[name_of(model)]
        expected = model.sample(batch, label=label, seed=(7, 8))
        np.testing.assert_allclose(received, expected, **CLOSE)


def test_the_facts_tell_what_is_there(model, exported):
    suffix = ".onnx" if exported.path.name == "onnx" else ".tflite"
    assert set(exported.functions) == {"reconstruct", "encode", "decode", "sample", "elbo"}
    assert exported.left_out == {}
    files = list(exported.path.iterdir())
    assert {file.name for file in files} == {name + suffix for name in exported.functions}
    assert exported.bytes == sum(file.stat().st_size for file in files)
    assert set(exported.differences) == set(exported.functions)
    assert exported.differences["elbo"].keys() == {"elbo", "log_likelihood", "kl"}
    for differences in exported.differences.values():
        assert 0 <= max(differences.values()) <= 1e-4


def test_litert_needs_no_operators_of_tensorflow(case):
    for file in case[1]["litert"].path.iterdir():
        # Without a delegate, which would stand for many operators in one.
        opened = interpreter.Interpreter(
            str(file),
            experimental_op_resolver_type=(
                interpreter.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
            ),
        )
        used = {one["op_name"] for one in opened._get_ops_details()}
        assert len(used) > 3
        assert not {name for name in used if "flex" in name.lower() or "custom" in name.lower()}


def test_equal_noise_gives_equal_draws_whatever_else_is_in_the_batch(vectors):
    noise = np.random.default_rng(0).normal(size=(6, D)).astype("f")
    draws = []
    for name in EXPORTS:
        sample = session(vectors[1][name].path, "sample")
        whole = sample(noise=noise)["x"]
        np.testing.assert_array_equal(sample(noise=noise)["x"], whole)
        np.testing.assert_allclose(sample(noise=noise[2:4])["x"], whole[2:4], atol=1e-6)
        draws.append(whole)
    np.testing.assert_allclose(*draws, atol=1e-5)
    assert np.abs(draws[0][0] - draws[0][1]).max() > 1e-3


def test_an_event_without_a_density_has_no_elbo(vectors):
    x = np.zeros((3, 5), "f")
    x[1, 2] = 255.0
    for name in EXPORTS:
        elbo = session(vectors[1][name].path, "elbo")(x=x, noise=np.zeros((3, D), "f"))["elbo"]
        assert np.isnan(elbo).tolist() == [False, True, False]


@pytest.fixture(scope="module")
def counts(tmp_path_factory):
    """A model that neither runtime takes all of, and its exports; LiteRT's in weights of 8 bits."""
    folder = tmp_path_factory.mktemp("counts")
    vae = make(network="dense:hidden=256x256", likelihood="poisson", prior="mixture")
    litert = runtimes.export_litert(vae, folder / "litert", quantize=True)
    return vae, {"onnx": runtimes.export_onnx(vae, folder / "onnx"), "litert": litert}


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("name", "reason"),
    [("onnx", "ONNX has no operator for Lgamma"), ("litert", "it does not run: ")],
)
def test_what_a_runtime_cannot_do_is_left_out(counts, name, reason):
    found = counts[1][name]
    assert found.functions == ("reconstruct", "encode", "decode")
    assert {file.stem for file in found.path.iterdir()} == set(found.functions)
    assert found.left_out.keys() == {"sample", "elbo"}
    assert found.left_out["elbo"].startswith(reason)
    no_map = "a draw of a MixtureSameFamily is no map of normal noise"
    assert found.left_out["sample"] == no_map


@pytest.mark.exhaustive
def test_weights_of_8_bits_take_less_room_and_lose_little(counts):
    vae, file = counts[0], counts[1]["litert"].path / "decode.tflite"
    assert file.stat().st_size < 0.35 * 4 * vae.decoder.count_params()
    z = np.random.default_rng(0).normal(size=(64, D)).astype("f")
    expected = vae.decode(z).mean().numpy()
    decoded = session(file.parent, "decode")(z=z)["x"]
    assert decoded.dtype == np.float32
    error = np.sqrt(np.mean((decoded - expected) ** 2))
    assert 0 < error < 0.05 * expected.std()
    opened = interpreter.Interpreter(str(file))
    assert np.int8 in {one["dtype"] for one in opened.get_tensor_details()}


@pytest.mark.exhaustive
def test_half_precision_is_exported_in_float32_in_place_of_what_was_there(tmp_path):
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "mine").write_text("mine")
    keras.config.set_dtype_policy("mixed_bfloat16")
    vae = make()
    keras.config.set_dtype_policy("float32")
    vae.export(tmp_path / "half", format="onnx", replace=True)
    assert len(list((tmp_path / "half").glob("*.onnx"))) == 5
    assert len(list((tmp_path / "half").iterdir())) == 5
    plain = make()
    plain.set_weights(vae.get_weights())
    z = np.random.default_rng(0).normal(size=(5, D)).astype("f")
    received = session(tmp_path / "half", "decode")(z=z)["x"]
    np.testing.assert_allclose(received, plain.decode(z).mean(), atol=1e-5)
    assert vae.decoder.compute_dtype == "bfloat16"


@pytest.mark.parametrize("added", [0.5, np.nan])
def test_a_file_that_computes_something_else_is_not_published(tmp_path, monkeypatch, added):
    vae = make()
    monkeypatch.setattr(runtimes.onnx, "convert", lambda functions, directory: {})
    monkeypatch.setattr(
        runtimes.onnx, "run", lambda _, inputs: {"x": vae.reconstruct(inputs["x"]) + added}
    )
    with pytest.raises(RuntimeError, match=f"x of reconstruct.onnx differs from Keras by {added}"):
        runtimes.export_onnx(vae, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("export", EXPORTS.values())
def test_what_exists_is_not_overwritten(tmp_path, export):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("mine")
    with pytest.raises(tfvae.InputError, match="exists: choose another name"):
        export(make(), tmp_path / "out")
    assert (tmp_path / "out" / "mine").read_text() == "mine"


@pytest.mark.parametrize(
    ("name", "module", "extra"),
    [("onnx", "onnxruntime", "onnx"), ("litert", "ai_edge_litert", "litert")],
)
def test_a_missing_package_is_named_with_its_extra(tmp_path, monkeypatch, name, module, extra):
    monkeypatch.setitem(sys.modules, module, None)
    package = module.replace("_", "-")
    with pytest.raises(tfvae.InputError, match=rf"{package}: pip install 'tfvae\[{extra}\]'"):
        make().export(tmp_path / "out", format=name)


def test_a_model_without_images_yet_cannot_be_exported(tmp_path):
    class Encoder(keras.Model):
        def call(self, x):
            return keras.ops.reshape(x, (-1, 64))

    vae = tfvae.VAE(Encoder(), tfvae.networks.dense_decoder((8, 8, 1), 2), 2)
    for export in EXPORTS.values():
        with pytest.raises(tfvae.InputError, match="does not know its event shape yet"):
            export(vae, tmp_path / "nothing")
    assert list(tmp_path.iterdir()) == []
