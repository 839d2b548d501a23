"""The command that makes the trained models of the repository."""

import json

import numpy as np
import pytest
import scripts

import tfvae
from tfvae.evaluation import elbo

FILE = scripts.ROOT / "saved_models" / "make.py"
CONFIG = 'dataset = "digits"\nlatent_dim = 2\nnetwork = "dense:hidden=8"\nepochs = 1\n'


@pytest.fixture
def make(tmp_path, monkeypatch):
    module = scripts.loaded(FILE)
    monkeypatch.setattr(module, "FOLDER", tmp_path / "models")
    (tmp_path / "models" / "tiny").mkdir(parents=True)
    (tmp_path / "models" / "tiny" / "config.toml").write_text(CONFIG)
    return module


@pytest.mark.exhaustive
def test_a_model_is_made_from_its_configuration(make, tmp_path, capsys):
    place, runs = tmp_path / "models" / "tiny", tmp_path / "runs"
    make.main("tiny", runs=runs)
    expected = {"config.toml", "model.keras", "card.json", "README.md", "test.json"}
    expected |= {make.CHECKED_FILE, *make.KEPT}
    assert {one.name for one in place.iterdir()} == expected
    assert (place / "config.toml").read_text() == CONFIG
    x = np.load(place / make.CHECKED_FILE)["x"]
    assert len(x) == make.CHECKED
    vae, unrounded = tfvae.load(place), tfvae.load(runs / "tiny")
    assert vae.latent_dim == 2
    for weight, before in zip(vae.weights, unrounded.weights, strict=True):
        # Half of the last of 11 bits.
        np.testing.assert_allclose(weight, before, rtol=2.0**-11)
    readme = (place / "README.md").read_text()
    assert "# A variational autoencoder of images" in readme
    assert "Signatures" not in readme  # of which there are none before it is exported
    card = json.loads((place / "card.json").read_text())
    metrics = card["metrics"]
    found = elbo(vae, [x], seed=make.SEED).elbo
    assert found == pytest.approx(metrics[make.CHECKED_FILE]["elbo"], abs=1e-3)
    assert metrics["elbo"] == json.loads((place / "test.json").read_text())["elbo"]

    make.main(show=True)
    (line,) = [x for x in capsys.readouterr().out.splitlines() if x.startswith("| [`tiny`]")]
    assert f"{metrics['elbo']:.2f} ± {metrics['standard_error']:.2f}" in line

    # A run directory of other options would give a model that its configuration does not describe.
    (place / "config.toml").write_text(CONFIG.replace("latent_dim = 2", "latent_dim = 3"))
    with pytest.raises(SystemExit, match="begun with latent_dim 2, and is to go on with 3: remove"):
        make.main("tiny", runs=runs)
    assert tfvae.load(place).latent_dim == 2


def test_a_model_that_is_none_is_refused(make, tmp_path):
    with pytest.raises(SystemExit, match="no model 'huge': expected one of tiny"):
        make.main("huge", runs=tmp_path / "runs")


def test_all_models_together_are_small():
    files = [file for file in FILE.parent.rglob("*") if file.is_file()]
    # A third of it is the hierarchy, which has a network for each group.
    assert sum(file.stat().st_size for file in files) < 14e6
    assert not [file for file in files if file.suffix == ".pb"]
