"""``tfvae train --model vq``, and the commands that take such a model."""

import json

import numpy as np
import pytest
from command_line import bare_trainings, refused, within

import tfvae
from tfvae.cli import job
from tfvae.saving.config import TrainConfig

SMALL = {
    "dataset": "digits",
    "binarize": "threshold",
    "model": "vq",
    "network": "conv:filters=8",
    "quantizer": "vq:codes=8",
    "code_prior": "transformer:width=8,layers=1,heads=2",
    "epochs": 2,
    "prior_epochs": 2,
    "precision": "float32",
    "deterministic": True,
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of a model of codes."""
    run_dir = tmp_path_factory.mktemp("codes") / "run"
    options = [
        f"--{name.replace('_', '-')}" if value is True else f"--{name.replace('_', '-')}={value}"
        for name, value in SMALL.items()
    ]
    out, err = within("train", *options, "--run-dir", run_dir)
    assert "prior of 16 codes below 8" in err
    assert "test bound" in out
    return run_dir


@pytest.mark.exhaustive
def test_both_stages_are_trained_and_shown(run, tmp_path):
    for name in ("samples.png", "codes.png", "metrics.csv", "prior_metrics.csv", "model.keras"):
        assert (run / name).exists()
    vq = tfvae.load(run)
    assert isinstance(vq, tfvae.VQVAE)
    assert vq.prior_is_trained
    assert isinstance(tfvae.load(run / "saved_model"), tfvae.VQVAE)
    facts = json.loads((run / "test.json").read_text())
    assert facts["elbo"] == pytest.approx(facts["log_likelihood"] - facts["kl"])
    card = json.loads((run / "saved_model" / "1" / "card.json").read_text())
    assert card["model"]["code_shape"] == [4, 4]
    out, _ = within("evaluate", run, "--picture", tmp_path / "codes.png")
    assert (tmp_path / "codes.png").exists()
    assert "bound        " in out
    assert "codes        perplexity" in out
    found = json.loads(within("evaluate", run, "--json")[0])
    assert found["bound"] == pytest.approx(facts["elbo"], abs=1e-3)


@pytest.mark.exhaustive
def test_other_commands_take_it_or_say_so_in_one_line(run, tmp_path):
    within("sample", run, "--temperature", "0.5", "--out", tmp_path / "cold.npy")
    within("sample", run, "--out", tmp_path / "warm.npy")
    cold, warm = (np.load(tmp_path / f"{name}.npy") for name in ("cold", "warm"))
    assert cold.shape == warm.shape == (64, 8, 8, 1)
    assert np.any(cold != warm)
    within("reconstruct", run, "--out", tmp_path / "r.png")
    within("score", run, "--out", tmp_path / "scores.csv")
    cold = np.round(cold).astype(np.uint8)
    np.save(tmp_path / "x.npy", cold)
    model = ("--model", run)
    out, _ = within("compress", tmp_path / "x.npy", tmp_path / "small", *model, "--json")
    facts = json.loads(out)
    carried = facts["bits"] - facts["start_up_bits"] - facts["header_bits"]
    assert carried == pytest.approx(facts["negative_elbo_bits"], rel=0.005)
    within("decompress", tmp_path / "small", tmp_path / "back.npy", *model)
    np.testing.assert_array_equal(np.load(tmp_path / "back.npy"), cold)
    for command in (
        ("traverse", run, "--out", tmp_path / "w.png"),
        ("interpolate", run, "--out", tmp_path / "w.png"),
        ("impute", run, "--out", tmp_path / "w.csv"),
        ("encode", run, "--out", tmp_path / "e.parquet"),
        ("export", run, "--format", "onnx", "--out", tmp_path / "o"),
    ):
        assert "holds a VQVAE, whose z are codes" in refused(*command)
    for options in (("--ex-post", "maf"), ("--where", "a=1")):
        assert "leave it out" in refused("sample", run, *options, "--out", tmp_path / "s.png")
    assert "leave out" in refused("evaluate", run, "--ais")


@pytest.mark.exhaustive
def test_a_run_stopped_in_both_stages_goes_on_to_the_same_weights(run, tmp_path, monkeypatch):
    directory = tmp_path / "run"
    config = TrainConfig(**SMALL, checkpoint_seconds=0, run_dir=directory)
    train, seen = job.train, []

    def stopping(*args, should_stop, **kwargs):
        def stop():
            seen.append(1)
            # In the first stage, and once the first has been gone on with in the second.
            return len(seen) in (1, 3)

        return train(*args, should_stop=stop, steps_per_call=20, **kwargs)

    with bare_trainings():
        monkeypatch.setattr(job, "train", stopping)
        assert job.start(config).score is None
        assert len(seen) == 1
        assert job.resume(directory).score is None
        assert len(seen) == 3
        assert any((directory / "checkpoints" / "prior").iterdir())
        assert job.resume(directory).score is not None
    for a, b in zip(tfvae.load(run).weights, tfvae.load(directory).weights, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--quantizer", "fsq"], "--quantizer is for --model vq, and the model is vae"),
        (["--code-prior", "transformer"], "--code-prior is for --model vq"),
        (["--model", "vq", "--posterior", "iaf"], "--posterior is for a VAE"),
        (["--model", "vq", "--groups", "2"], "--groups is for --model hierarchical"),
        (["--model", "vq", "--quantizer", "rvq"], "unknown quantizer 'rvq'"),
        (["--model", "vq", "--quantizer", "fsq", "--latent-dim", "9"], "received code_dim=9"),
    ],
)
def test_options_that_do_not_go_together(options, message, tmp_path):
    line = refused("train", "--dataset", "digits", *options, "--run-dir", tmp_path / "run")
    assert message in line
    assert not (tmp_path / "run").exists()
