"""Hierarchies on the command line."""

import json
import typing

import pytest
from command_line import bare_trainings, refused, within

import tfvae
from tfvae import models
from tfvae.saving import config

SMALL = ["--network", "dense:hidden=8x8", "--groups", "3,2", "--epochs", 1]


def test_the_option_has_all_models():
    assert set(typing.get_args(config.Model)) == set(models.BY_NAME)


def test_what_does_not_fit_is_one_line(tmp_path):
    out = ["--run-dir", tmp_path / "run"]
    said = refused("train", "--dataset", "digits", "--groups", "2", *out)
    assert "--groups is for --model hierarchical, and the model is vae" in said
    vae = tfvae.VAE.for_events((4,), latent_dim=2, network="dense:hidden=4", seed=0)
    vae.save(tmp_path / "model.keras")
    sample = ["sample", tmp_path / "model.keras", "--out", tmp_path / "x.npy"]
    assert "temperature is for hierarchies" in refused(*sample, "--temperature", "0.5")
    assert "--temperature is a number such as 0.7" in refused(*sample, "--temperature", "hot")


@pytest.mark.exhaustive
def test_a_hierarchy_trains_samples_and_is_scored(tmp_path):
    run = tmp_path / "run"
    with bare_trainings(pictures=True):
        out, _ = within(
            "train", "--dataset", "digits", "--model", "hierarchical", *SMALL, "--skip-norm", 1e5,
            "--run-dir", run, "--json",
        )  # fmt: skip
    assert json.loads(out)["events"] > 0
    for name in ("model.keras", "groups.png", "samples.png", "config.toml"):
        assert (run / name).exists()
    assert tfvae.load(run).groups == ((3,), (2,))
    within("sample", run, "--temperature", "0.7x1", "--out", tmp_path / "samples.png")
    out, _ = within("evaluate", run, "--num-samples", 3)
    assert "groups       z1: KL" in out
