"""The command line as a process, the way a user meets it; and within one, where that is slow."""

import json
import re
import subprocess
import sys
import tomllib

import keras
import numpy as np
import pytest
import tensorflow as tf
from command_files import snapshot, write_images
from command_line import DIGITS, QUICK, bare_trainings, refused, tfvae_command, within
from PIL import Image

import tfvae
from tfvae import datasets
from tfvae.cli.main import app
from tfvae.saving.config import TrainConfig

PICTURES = ("samples.png", "reconstructions.png", "latent.png", "curves.png")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run directory, from the main job with few epochs."""
    folder = tmp_path_factory.mktemp("cli") / "run"
    out, _ = within("train", *DIGITS, "--run-dir", folder, *QUICK, "--seed", "3", "--json")
    return folder, json.loads(out)


@pytest.mark.exhaustive
def test_the_main_job_with_no_option_but_a_short_training(tmp_path, monkeypatch):
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)
    done = tfvae_command("train", "--epochs", "1", cwd=tmp_path)
    (run,) = (tmp_path / "runs").iterdir()
    assert run.name.startswith("mnist-small-")
    for name in (*PICTURES, "model.keras", "saved_model", "metrics.csv", "config.toml"):
        assert (run / name).exists()
        assert name in done.stdout
    assert list((run / "tensorboard").rglob("events*"))
    for text in ("elbo=", "log_likelihood=", "kl=", "10800 training, 1200 validation"):
        assert text in done.stderr
    assert "likelihood bernoulli: all values are 0 or 1" in done.stderr
    # Nothing of TensorFlow's own.
    assert not re.search(r"^[IWE]\d{4} ", done.stderr, re.MULTILINE)
    assert f"tfvae sample runs/{run.name}" in done.stdout
    # What the best independent pixels reach on these images.
    data = datasets.load("mnist-small")
    mean = data.train.arrays()[0].mean(axis=0)
    images = data.test.arrays()[0]
    margin = np.clip(mean, 1e-3, 1 - 1e-3)
    independent = np.mean(
        np.sum(images * np.log(margin) + (1 - images) * np.log(1 - margin), axis=(1, 2, 3))
    )
    score = json.loads((run / "test.json").read_text())
    assert score["events"] == 1000
    assert score["elbo"] > independent + 40
    # The commands that it says to try next are such as there are.
    monkeypatch.chdir(tmp_path)
    said = [line.partition("tfvae ")[2] for line in done.stdout.splitlines() if "tfvae " in line]
    assert {line.split()[0] for line in said} >= {"sample", "traverse", "explore", "evaluate"}
    for line in said:
        app.parse_args(line.split(), exit_on_error=False, print_error=False)


@pytest.mark.exhaustive
def test_a_run_directory_repeats_and_describes_the_run(run, tmp_path):
    folder, score = run
    assert score["run_dir"] == str(folder)
    options = tomllib.loads((folder / "config.toml").read_text())
    assert options["seed"] == 3
    assert options["epochs"] == 2
    assert TrainConfig.read(folder / "config.toml").latent_dim == 2
    rows = (folder / "metrics.csv").read_text().splitlines()
    assert len(rows) == 3
    assert {"elbo", "log_likelihood", "kl", "val_elbo"} <= set(rows[0].split(","))
    for name in PICTURES:
        with Image.open(folder / name) as image:
            assert min(image.size) > 100
            assert len(image.convert("L").getcolors(256)) > 10
    # The same options give the same weights.
    again = ("--config", folder / "config.toml", "--run-dir", tmp_path / "again")
    with bare_trainings():
        out, _ = within("train", *again, "--json")
    assert json.loads(out)["elbo"] == pytest.approx(score["elbo"], abs=1e-3)


def test_model_and_export_of_a_run_agree(run):
    folder, score = run
    vae = keras.models.load_model(folder / "model.keras")
    x, _ = datasets.load("digits", seed=3).test.arrays()
    signatures = tf.saved_model.load(str(folder / "saved_model" / "1")).signatures
    np.testing.assert_allclose(
        signatures["reconstruct"](images=tf.constant(x))["images"], vae.reconstruct(x), atol=1e-5
    )
    np.testing.assert_allclose(np.mean(vae.elbo(x).kl), score["kl"], rtol=1e-4)


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("arguments", "facts"),
    [
        (["sample", "RUN", "--n", "5", "--seed", "1"], {"n": 5, "seed": 1}),
        (["sample", "RUN/model.keras", "--n", "2"], {"n": 2}),
        (["reconstruct", "RUN", "--n", "4"], {"n": 4}),
        (["interpolate", "RUN", "--pairs", "2", "--steps", "5"], {"pairs": 2, "steps": 5}),
        (["traverse", "RUN", "--dimensions", "1", "0"], {"dimensions": [1, 0]}),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_commands_write_pictures_where_told(run, tmp_path, monkeypatch, arguments, facts):
    arguments = [argument.replace("RUN", str(run[0])) for argument in arguments]
    monkeypatch.chdir(tmp_path)
    arguments += ["--out", "new/picture.png"]
    printed = json.loads(within(*arguments, "--json")[0])
    assert printed["out"] == "new/picture.png"
    assert facts.items() <= printed.items()
    with Image.open(tmp_path / "new" / "picture.png") as image:
        assert min(image.size) > 50
    before = snapshot(tmp_path)
    line = refused(*arguments)
    assert "picture.png exists: choose another --out or give --overwrite" in line
    assert snapshot(tmp_path) == before


@pytest.mark.exhaustive
def test_export_writes_the_next_version_of_a_model(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    out, _ = within("export", run[0], "--out", "served", "--num-samples", "7", "--json")
    facts = json.loads(out)
    assert facts["out"] == "served/1"
    signatures = tf.saved_model.load(str(tmp_path / "served" / "1")).signatures
    assert set(facts["signatures"]) == set(signatures) - {"serving_default"}
    assert "7 draws" in (tmp_path / "served" / "1" / "README.md").read_text()
    within("export", tmp_path / "served", "--out", tmp_path / "served", "--data-licence", "mine")
    card = json.loads((tmp_path / "served" / "2" / "card.json").read_text())
    assert card["data"]["licence"] == "mine"
    # A model is read from it as from the run.
    arguments = ["--n", "3", "--seed", "2", "--out"]
    within("sample", tmp_path / "served", *arguments, tmp_path / "a.png")
    within("sample", run[0], *arguments, tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    line = refused("export", run[0], "--out", run[0])
    assert "expected a directory of versions NAME/1, NAME/2" in line


def test_the_card_of_a_run_tells_all_but_where_it_was(run):
    folder, score = run
    text = (folder / "saved_model" / "1" / "card.json").read_text()
    card = json.loads(text)
    assert card["metrics"]["elbo"] == pytest.approx(score["elbo"])
    assert card["metrics"]["standard_error"] == pytest.approx(score["standard_error"])
    assert card["data"]["name"] == "digits"
    assert "CC BY 4.0" in card["data"]["licence"]
    assert sum(card["data"]["images"].values()) == 1797
    assert card["training"]["seed"] == 3
    assert card["preprocessing"]["binarize"] == "none"
    assert str(folder.parent) not in text
    # A threshold that is right for the validation images that it was made from.
    validation = datasets.load("digits", seed=3).validation
    signature = tf.saved_model.load(str(folder / "saved_model" / "1")).signatures["anomaly_score"]
    found = signature(images=tf.constant(validation.arrays()[0]))
    above = np.mean(found["is_anomaly"])
    assert above == pytest.approx(card["anomaly"]["rate"], abs=1 / len(validation))


@pytest.mark.exhaustive
def test_a_model_without_its_run_needs_to_be_told_the_images(run, tmp_path):
    lone = tmp_path / "lone.keras"
    lone.write_bytes((run[0] / "model.keras").read_bytes())
    line = refused("evaluate", lone)
    assert "no config.toml beside" in line
    assert "give --dataset" in line
    out, _ = within("evaluate", lone, "--dataset", "digits", "--num-samples", 2, "--json")
    assert json.loads(out)["events"] == 180


@pytest.mark.exhaustive
def test_help_answers_before_tensorflow_could_load():
    code = (
        "import sys, tfvae.cli.main\n"
        "try: tfvae.cli.main.main(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        "loaded = {'tensorflow', 'keras', 'numpy', 'matplotlib'} & set(sys.modules)\n"
        "assert not loaded, loaded"
    )
    for arguments in (["--help"], ["train", "--help"], ["sample", "--help"], ["--version"], []):
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert "sage" in done.stdout or tfvae.__version__ in done.stdout
    listed = tfvae_command("--help", cwd=".").stdout
    for command in ("train", "evaluate", "sample", "reconstruct", "interpolate", "traverse"):
        assert command in listed


@pytest.mark.exhaustive
def test_images_in_a_folder_train(tmp_path):
    write_images(tmp_path / "pictures" / "deep" / "er", count=20)
    with bare_trainings():
        within(
            "train", "--dataset", tmp_path / "pictures", "--image-size", "10x6", *QUICK,
            "--likelihood", "laplace:scale=learned", "--objective", "elbo:beta=0.5",
            "--precision", "mixed_bfloat16", "--run-dir", tmp_path / "run",
        )  # fmt: skip
    vae = keras.models.load_model(tmp_path / "run" / "model.keras")
    assert vae.event_shape == (10, 6, 1)
    assert vae.objective.beta(0) == 0.5
    assert vae.likelihood_family.scale == "learned"


@pytest.mark.exhaustive
def test_encode_writes_codes_and_goes_on(run, tmp_path, monkeypatch):
    import pyarrow.parquet

    monkeypatch.chdir(tmp_path)
    facts = json.loads(within("encode", run[0], "--limit", "300", "--json")[0])
    assert facts["events"] == 300 + 180 + 180
    table = pyarrow.parquet.read_table(tmp_path / "embeddings.parquet")
    vae = keras.models.load_model(run[0] / "model.keras")
    x, labels = datasets.load("digits", seed=3).test.arrays()
    of_test = table.filter(pyarrow.compute.equal(table["split"].cast("string"), "test"))
    np.testing.assert_allclose(of_test["code"].to_pylist(), vae.code(x), atol=1e-5)
    np.testing.assert_array_equal(of_test["label"], labels)
    before = snapshot(tmp_path)
    line = refused("encode", run[0])
    assert "embeddings.parquet exists: choose another --out or give --overwrite" in line
    assert snapshot(tmp_path) == before
    within("encode", run[0], "--split", "test", "--out", tmp_path / "t.parquet")
    assert len(pyarrow.parquet.read_table(tmp_path / "t.parquet")) == 180


def test_other_formats_are_checked_before_the_work(run, tmp_path):
    line = refused("export", run[0], "--out", tmp_path / "x", "--quantize")
    assert "--quantize goes with --format litert; received --format savedmodel" in line
    (tmp_path / "taken").mkdir()
    line = refused("export", run[0], "--out", tmp_path / "taken", "--format", "onnx")
    assert "taken exists: choose another --out" in line


def test_a_page_for_others_needs_a_password(run, tmp_path, monkeypatch):
    monkeypatch.delenv("TFVAE_PASSWORD", raising=False)
    line = refused("explore", run[0], "--host", "0.0.0.0")
    assert "needs a password" in line
    (tmp_path / "password").write_text("short\n")
    line = refused("explore", run[0], "--password-file", tmp_path / "password")
    assert "has 5 characters" in line
    assert "short" not in line
