"""A mistake on the command line ends in one line, and overwrites nothing."""

import re
import subprocess
import sys

import keras
import numpy as np
import pytest
from command_files import snapshot, write_images
from command_line import DIGITS, QUICK, refused, within

from tfvae import likelihoods, objectives, posteriors, priors
from tfvae.evaluation import expost


@pytest.mark.parametrize(
    ("option", "known"),
    [
        ("likelihood", likelihoods.BY_NAME),
        ("posterior", posteriors.BY_NAME),
        ("prior", priors.BY_NAME),
        ("objective", objectives.BY_NAME),
        ("ex-post", expost.BY_NAME),
    ],
)
def test_help_names_every_choice(option, known):
    command = "sample" if option == "ex-post" else "train"
    text = " ".join(within(command, "--help")[0].split())
    assert "--conditional" in text or command == "sample"
    assert "--label" in text or command == "train"
    described = text[text.index(f"--{option} ") :]
    names = re.split(r", with options|\. ", described)[0]
    assert set(re.findall(r"\w+", names)) >= set(known)


@pytest.mark.few(4)
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--epochs", "many"], "Invalid value for --epochs"),
        (["train", "--latent-dim", "2.5"], "expected a whole number, received 2.5"),
        (["train", "--latent-dim", "0"], "Must be >= 1"),
        (["train", "--beta", "4"], "Unknown option: --beta"),
        (["sample", "taken", "--n", "0"], "Must be >= 1"),
        (["train", "--binarize", "fully"], "Choose from"),
        (["train", "--dimension", "3"], "Unknown option"),
        (["train", "--config", "missing.toml"], "missing.toml: No such file"),
        (["train", "--config", "broken.toml"], "TOML"),
        (["train", "--config", "unknown.toml"], 'Unknown option: "[latent]"'),
        (["train", "--config", "fraction.toml"], "expected a whole number, received 3.5"),
        (["train", "--run-dir", "taken"], "taken exists: choose another --run-dir"),
        (["sample"], "requires an argument"),
        (["sample", "nothing"], "there is nothing at nothing"),
        (["sample", "taken"], "taken is a directory that holds none"),
        (["sample", "broken.toml"], "expected a run directory of tfvae train"),
        (["sample", "foreign.keras", "--out", "x.bmp"], "--out is a .png"),
        (["explain"], "Unknown command"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else "",
)
def test_mistakes_show_at_once_in_one_line(tmp_path, arguments, message):
    (tmp_path / "broken.toml").write_text("latent_dim = [")
    (tmp_path / "unknown.toml").write_text("latent = 3")
    (tmp_path / "fraction.toml").write_text("latent_dim = 3.5")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "mine").write_text("keep")
    before = snapshot(tmp_path)
    # Loading TensorFlow takes seconds.
    program = (
        "import sys, tfvae.cli.main\n"
        "try: tfvae.cli.main.main(sys.argv[1:])\n"
        "finally: sys.stderr.write('slow\\n' * ('tensorflow' in sys.modules))\n"
    )
    command = [sys.executable, "-c", program, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("tfvae: error: ")
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert snapshot(tmp_path) == before


@pytest.mark.few(2)
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--dataset", "minst"], "unknown data set 'minst': expected mnist-small, "),
        (
            ["train", "--dataset", "bytes.npy", "--likelihood", "bernoulli"],
            "Bernoulli expects values in [0, 1]; received",
        ),
        (["train", "--dataset", "nan.npy"], "fill or leave out what is missing, or give --missing"),
        (["train", "--dataset", "flat.npy"], "flat.npy"),
        (["train", "--dataset", "empty.npy"], "empty.npy"),
        (["train", "--dataset", "corrupt"], "7.png"),
        (["train", "--likelihood", "poison"], "unknown likelihood 'poison': expected one of"),
        (
            ["train", "--run-dir", "file.txt/run", *DIGITS, *QUICK],
            "cannot use file.txt/run: Not a dir",
        ),
        (["sample", "foreign.keras"], "expected a tfvae.VAE in foreign.keras; it holds a Func"),
        (["sample", "damaged.keras"], "damaged.keras holds no model that can be read"),
    ],
    ids=lambda value: "-".join(value[:3]) if isinstance(value, list) else "",
)
def test_what_does_not_fit_ends_in_one_line_and_leaves_nothing(
    tmp_path, monkeypatch, arguments, message
):
    rng = np.random.default_rng(0)
    images = rng.random((30, 8, 8)).astype("float32")
    np.save(tmp_path / "bytes.npy", images * 255)
    np.save(tmp_path / "nan.npy", np.where(images > 0.9, np.nan, images))
    np.save(tmp_path / "flat.npy", images.reshape(-1))
    np.save(tmp_path / "empty.npy", images[:0])
    (tmp_path / "file.txt").write_text("keep")
    (tmp_path / "damaged.keras").write_bytes(b"PK\x03\x04 but no more")
    keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]).save(tmp_path / "s.keras")
    inputs = keras.Input((2,))
    keras.Model(inputs, keras.layers.Dense(1)(inputs)).save(tmp_path / "foreign.keras")
    write_images(tmp_path / "corrupt", corrupt=7)
    before = snapshot(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert message in refused(*arguments)
    assert snapshot(tmp_path) == before
    assert not (tmp_path / "runs").exists()
