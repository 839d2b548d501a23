"""The SavedModel: every signature, without the library, the same as in Keras."""

import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfvae

SHAPE = (9, 7, 1)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    keras.utils.set_random_seed(0)
    vae = tfvae.VAE.for_images(SHAPE, latent_dim=3, likelihood="normal:scale=learned", seed=0)
    vae.compile(keras.optimizers.Adam(1e-2))
    x = np.random.default_rng(0).random((40, *SHAPE)).astype("float32")
    vae.fit(x, epochs=2, verbose=0)
    path = tmp_path_factory.mktemp("export") / "saved_model"
    vae.export(path)
    return vae, path


def seeds(count, first=0):
    return np.stack([np.full(count, 5), np.arange(first, first + count)], axis=1).astype("int32")


@pytest.mark.parametrize("batch", [1, 3, 257])
def test_every_signature_equals_keras_at_any_batch_size(exported, batch):
    vae, path = exported
    signatures = tf.saved_model.load(str(path)).signatures
    assert set(signatures) == {
        "reconstruct", "encode", "decode", "sample", "elbo", "serving_default",
    }  # fmt: skip
    rng = np.random.default_rng(batch)
    x = tf.constant(rng.random((batch, *SHAPE)), tf.float32)
    z = tf.constant(rng.normal(size=(batch, 3)), tf.float32)

    for name in ("reconstruct", "serving_default"):
        np.testing.assert_allclose(signatures[name](images=x)["images"], vae(x), atol=1e-5)
    q = vae.encode(x)
    encoded = signatures["encode"](images=x)
    np.testing.assert_allclose(encoded["loc"], q.mean(), atol=1e-5)
    np.testing.assert_allclose(encoded["scale"], q.stddev(), rtol=1e-5)
    decoded = signatures["decode"](z=z)["images"]
    np.testing.assert_allclose(decoded, vae.decode(z).mean(), atol=1e-5)
    scored = signatures["elbo"](images=x, seed=tf.constant(seeds(batch)))
    for name, expected in vae.elbo(x, seed=seeds(batch))._asdict().items():
        assert scored[name].shape == (batch,)
        np.testing.assert_allclose(scored[name], expected, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(
        scored["elbo"], scored["log_likelihood"] - scored["kl"], rtol=1e-5, atol=1e-4
    )
    assert signatures["sample"](seed=tf.constant(seeds(batch)))["images"].shape == (batch, *SHAPE)


def test_every_input_and_output_has_the_batch_first(exported):
    for name, signature in tf.saved_model.load(str(exported[1])).signatures.items():
        inputs = signature.structured_input_signature[1]
        for spec in [*inputs.values(), *signature.structured_outputs.values()]:
            assert spec.shape.rank >= 1, name
            assert spec.shape[0] is None, name


def test_seeds_decide_the_draws_and_nothing_else_does(exported):
    sample = tf.saved_model.load(str(exported[1])).signatures["sample"]
    whole = sample(seed=tf.constant(seeds(6)))["images"].numpy()
    again = tf.saved_model.load(str(exported[1])).signatures["sample"]
    np.testing.assert_array_equal(again(seed=tf.constant(seeds(6)))["images"], whole)
    np.testing.assert_allclose(
        sample(seed=tf.constant(seeds(2, 3)))["images"], whole[3:5], atol=1e-6
    )
    for one in range(6):
        for other in range(one):
            assert np.abs(whole[one] - whole[other]).max() > 1e-4


def test_sampled_codes_have_the_priors_moments(exported):
    """Seeds that count up must give draws that are as good as independent."""
    vae, path = exported
    model = tf.saved_model.load(str(path))
    x = tf.zeros((1, *SHAPE))
    loc, scale = vae.encode(x).mean(), vae.encode(x).stddev()
    count = 4000
    scores = model.signatures["elbo"](
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


def test_what_exists_is_not_overwritten(exported):
    vae, path = exported
    before = sorted((one.name, one.stat().st_mtime_ns) for one in path.iterdir())
    with pytest.raises(tfvae.InputError, match="exists: choose another name"):
        vae.export(path)
    assert before == sorted((one.name, one.stat().st_mtime_ns) for one in path.iterdir())


def test_half_precision_exports_float32_ends(tmp_path):
    keras.config.set_dtype_policy("mixed_bfloat16")
    vae = tfvae.VAE.for_images((8, 8, 1), latent_dim=2, seed=0)
    vae.export(tmp_path / "half")
    signatures = tf.saved_model.load(str(tmp_path / "half")).signatures
    x = tf.ones((2, 8, 8, 1))
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
    with pytest.raises(tfvae.InputError, match="does not know its image shape yet"):
        vae.export(tmp_path / "nothing")
    assert list(tmp_path.iterdir()) == []
