"""The command that makes the trained models of the repository."""

import json

import numpy as np
import pytest
import scripts

import tfvae

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
    expected = {"config.toml", "model.keras", "saved_model", "test_images.npz", *make.KEPT}
    assert {one.name for one in place.iterdir()} == expected
    assert (place / "config.toml").read_text() == CONFIG
    assert len(np.load(place / "test_images.npz")["images"]) == make.CHECKED
    assert tfvae.load(place).latent_dim == 2
    metrics = json.loads((place / "saved_model/1/card.json").read_text())["metrics"]
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
