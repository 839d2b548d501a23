"""The trained models of the repository load, and compute what their cards say."""

import json
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import scripts
import tensorflow as tf
from command_line import within

import tfvae
from tfvae.evaluation import elbo, log_prob
from tfvae.networks import ladder
from tfvae.saving.card import licence_of
from tfvae.saving.config import TrainConfig

FOLDER = scripts.ROOT / "saved_models"
make = scripts.loaded(FOLDER / "make.py")

every = pytest.mark.parametrize("name", make.names(), scope="module")
# An export takes seconds, and knows nothing of how a model was trained: images, and a table.
some = pytest.mark.parametrize("name", ["digits", "diamonds"], scope="module")


@pytest.fixture(scope="module")
def folder(name):
    return FOLDER / name


@pytest.fixture(scope="module")
def vae(folder):
    return tfvae.load(folder)


@pytest.fixture(scope="module")
def events(folder):
    return np.load(folder / make.CHECKED_FILE)["x"]


@pytest.fixture(scope="module")
def card(folder):
    return json.loads((folder / "card.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def served(folder, tmp_path_factory):
    place = tmp_path_factory.mktemp("served")
    within("export", folder, "--out", place)
    return place / "1"


@pytest.mark.exhaustive
@every
def test_it_computes_the_elbo_of_its_card(vae, events, card):
    said = card["metrics"][make.CHECKED_FILE]
    found = elbo(vae, [events], seed=said["seed"])
    assert found.events == said["events"] == len(events) <= make.CHECKED
    assert found.elbo == pytest.approx(said["elbo"], abs=1e-3)
    # These events are among those of the whole test set.
    error = np.hypot(said["standard_error"], card["metrics"]["standard_error"])
    assert said["elbo"] == pytest.approx(card["metrics"]["elbo"], abs=4 * error)


@pytest.mark.exhaustive
@some
def test_the_served_model_computes_what_keras_does(served, vae, events):
    signatures = tf.saved_model.load(str(served)).signatures
    name = "images" if events.ndim == 4 else "x"
    encoded = signatures["encode"](**{name: tf.constant(events)})
    q = vae.encode(events)
    np.testing.assert_allclose(encoded["loc"], q.mean(), atol=1e-5)
    np.testing.assert_allclose(encoded["scale"], q.stddev(), atol=1e-5)
    np.testing.assert_allclose(
        signatures["decode"](z=encoded["loc"])[name],
        vae.likelihood_family.mean(vae.decode(q.mean())),
        rtol=1e-4,
        atol=1e-5,
    )
    z = q.sample(seed=(0, 1))
    joint = signatures["log_joint"](**{name: tf.constant(events), "z": z})["log_joint"]
    expected = vae.log_likelihood(events, z) + vae.prior.log_prob(z)
    # Of sums of up to 784 terms, each in float32.
    np.testing.assert_allclose(joint, expected, rtol=1e-5, atol=1e-3)
    for one, other in zip(vae.weights, tfvae.load(served).weights, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.exhaustive
@some
def test_an_estimator_of_the_signatures_alone_gives_its_log_prob(served, vae, events, tmp_path):
    few, draws = events[:20], 500
    np.savez(tmp_path / "few.npz", x=few)
    # In a process of its own, in which tfvae, Keras and TensorFlow Probability cannot be loaded.
    program = f"""
import sys
for name in ("tfvae", "keras", "tensorflow_probability"):
    sys.modules[name] = None
sys.argv = ["score.py", {str(served)!r}, {str(tmp_path / "few.npz")!r}, "--draws", "{draws}"]
sys.path.insert(0, {str(FOLDER)!r})
import numpy as np, score, tensorflow as tf
score.main()
signatures = tf.saved_model.load(sys.argv[1]).signatures
x = np.load(sys.argv[2])["x"]
np.savez({str(tmp_path / "found.npz")!r}, *score.log_prob(signatures, x, draws={draws}, seed=3))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "20 events, 500 draws" in done.stdout
    with np.load(tmp_path / "found.npz") as found:
        values, sizes = found["arr_0"], found["arr_1"]
    expected = log_prob(vae, [few], num_samples=draws, seed=1)
    # Of a mean of K weights the logarithm varies by about 1/ESS - 1/K.
    theirs = expected.effective_sample_sizes
    # That holds where several draws carry the mean: of bytes often one does, and no spread of
    # weights tells how far its logarithm is off. Their terms are compared in the test before.
    known = np.minimum(sizes, theirs) >= 10
    error = np.sqrt(1 / sizes + 1 / theirs)[known]
    difference = (values - expected.log_probs)[known]
    assert (np.abs(difference) < 5 * error).all()
    assert abs(difference.sum()) <= 4 * np.sqrt((error**2).sum())
    # In expectation it lies between the ELBO and log p(x).
    assert np.mean(values > vae.elbo(few, num_samples=100, seed=0).elbo.numpy()) > 0.7


@every
def test_its_weights_are_rounded_and_packed(folder, vae):
    for weight in vae.weights:
        value = weight.numpy()
        if np.issubdtype(value.dtype, np.floating):
            fraction, _ = np.frexp(value)
            digits = np.ldexp(fraction, make.SIGNIFICANT_BITS)
            np.testing.assert_array_equal(digits, np.round(digits))
    with zipfile.ZipFile(folder / "model.keras") as archive:
        assert {one.compress_type for one in archive.infolist()} == {zipfile.ZIP_LZMA}


@every
def test_it_is_that_of_its_configuration(folder, vae, card):
    config = TrainConfig.read(folder / "config.toml")
    said = {name: getattr(config, name) for name in card["training"] if name != "precision"}
    if said["objective"] is None:  # left to the training to choose
        said["objective"] = "elbo"
    assert said == {name: card["training"][name] for name in said}
    assert card["data"]["name"] == config.dataset
    assert card["data"]["licence"] == licence_of(config.dataset)
    assert card["model"]["parameters"] == vae.count_params()
    assert vae.latent_dim == card["model"]["latent_dim"]
    if config.model == "hierarchical":
        networks = ladder.get(config.network, vae.event_shape)
        groups = networks.groups(config.groups, vae.event_shape, config.latent_dim)
        assert vae.groups == groups
    else:
        assert vae.latent_dim == config.latent_dim


@every
def test_the_page_of_results_has_its_line(name):
    page = (FOLDER.parent / "docs" / "results.md").read_text("utf-8")
    assert make.table() in page
    assert f"[`{name}`](../saved_models/{name})" in make.table()


@every
def test_it_is_small_and_one_file_of_weights(folder, vae):
    files = [file for file in folder.rglob("*") if file.is_file()]
    config = TrainConfig.read(folder / "config.toml")
    # A hierarchy has a network for each group.
    most = 5e6 if config.model == "hierarchical" else 3e6
    assert sum(file.stat().st_size for file in files) < most
    assert {file.name for file in files} == {
        "config.toml",
        "model.keras",
        "card.json",
        "README.md",
        "test.json",
        make.CHECKED_FILE,
        *make.kept(config),
    }
    # At most 2.5 bytes a weight; a small model is its configuration above all.
    assert (folder / "model.keras").stat().st_size < 2.5 * vae.count_params() + 1e5


@pytest.mark.parametrize("name", ["digits", "diamonds"], scope="module")
def test_it_draws_pictures_at_once(folder, tmp_path):
    within("sample", folder, "--n", "4", "--out", tmp_path / "samples.png")
    assert (tmp_path / "samples.png").read_bytes().startswith(b"\x89PNG")
