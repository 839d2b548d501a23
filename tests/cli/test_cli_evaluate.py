"""``tfvae evaluate``: the report on a run, its warnings, its interruption and its refusals."""

import contextlib
import fcntl
import json
import os
import pty
import signal
import struct
import subprocess
import termios

import numpy as np
import pytest
from command_line import DIGITS, QUICK, TFVAE, bare_trainings, refused, within

import tfvae
from tfvae import datasets, evaluation
from tfvae.evaluation import report
from tfvae.saving import run as runs


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run directory of binarized digits, and its test score."""
    folder = tmp_path_factory.mktemp("evaluate") / "run"
    with bare_trainings():
        out, _ = within(
            "train", *DIGITS, "--run-dir", folder, *QUICK, "--binarize", "static", "--json"
        )
    return folder, json.loads(out)


def test_the_score_of_a_run(run):
    folder, score = run
    out, _ = within("evaluate", folder, "--num-samples", 10, "--json")
    found = json.loads(out)
    assert (found["split"], found["events"], found["num_samples"]) == ("test", 180, 10)
    # Another draw of z: the same within a few tenths of the error over images.
    assert abs(found["elbo"] - score["elbo"]) < score["standard_error"]
    assert found["importance_sampling"]["log_prob"] > found["elbo"]


@pytest.mark.exhaustive
def test_everything_about_a_run(run, tmp_path):
    folder, score = run
    out, _ = within(
        "evaluate", folder, "--num-samples", 30, "--latent",
        "--picture", tmp_path / "picture.png", "--json",
    )  # fmt: skip
    found = json.loads(out)
    assert (found["split"], found["events"], found["num_samples"]) == ("test", 180, 30)
    assert found["complete"] is True
    assert found["kl"] == pytest.approx(score["kl"], rel=1e-4)
    assert found["elbo"] == pytest.approx(found["log_likelihood"] - found["kl"], rel=1e-5)
    importance = found["importance_sampling"]
    assert importance["log_prob"] > found["elbo"]
    assert importance["measure"] == "probability"
    bits = -importance["log_prob"] / 64 / np.log(2)
    assert importance["bits_per_dimension"] == pytest.approx(bits)
    assert "annealing" not in found
    assert found["diagnosis"]["latent_dim"] == 2
    assert len(found["diagnosis"]["kl_per_dimension"]) == 2
    assert 0 < found["latent"]["linear_probe"]["accuracy"] < 1
    assert found["latent"]["disentanglement"] is None
    assert (tmp_path / "picture.png").stat().st_size > 10_000


@pytest.mark.exhaustive
def test_the_report_in_words(run):
    folder, _ = run
    out, err = within(
        "evaluate", folder, "--split", "validation", "--limit", 50, "--num-samples", 20, "--ais",
        "--ais-images", 4, "--ais-steps", 10, "--latent",
    )  # fmt: skip
    assert err == ""
    lines = out.splitlines()
    assert lines[0] == "validation images  50; nats per image"
    starts = [line.split("  ")[0] for line in lines]
    for name in ("ELBO", "log p(x)", "bits/dim", "AIS", "sandwich", "latent", "labels"):
        assert name in starts
    assert "importance sampling with 20 draws" in out
    assert "on 4 of the images" in out
    assert "8 chains, 10 steps" in out
    assert "2 of 2 units active" in out


@pytest.mark.exhaustive
def test_a_collapsed_model_is_told(tmp_path):
    folder = tmp_path / "run"
    options = ["--objective", "elbo:beta=1000", "--epochs", 8]
    with bare_trainings():
        _, err = within("train", *DIGITS, "--run-dir", folder, *QUICK[2:], *options)
    assert "the posterior has collapsed" in err
    assert "--objective elbo, as beta=1000" in err
    out, _ = within("evaluate", folder, "--num-samples", 2)
    assert "warning      the posterior has collapsed: z says nothing of x" in out
    # And grey values of a Bernoulli are no probability.
    assert "log 'p(x)'" in out
    assert "bits/dim" not in out
    assert "gives their cross-entropy, no probability" in out


@pytest.mark.exhaustive
def test_known_factors_are_scored(tmp_path):
    data = datasets.load("shapes", image_size=8)
    vae = tfvae.VAE.for_images(data.image_shape, latent_dim=3, network="dense", seed=0)
    found = report.evaluate(vae, data, num_samples=2, limit=400, latent=True)
    assert found.log_prob.events == 400
    scores = found.latent.disentanglement
    assert 0 <= scores.mig <= scores.informativeness <= 1
    assert "factors      MIG" in str(found)
    assert found.as_dict()["latent"]["disentanglement"]["mig"] == scores.mig


@pytest.mark.exhaustive
def test_dequantised_bytes_have_an_upper_bound_in_bits(rng, tmp_path):
    np.save(tmp_path / "bytes.npy", rng.integers(0, 256, (300, 4, 4), np.uint8))
    with bare_trainings():
        within(
            "train", "--run-dir", tmp_path / "run", "--dataset", tmp_path / "bytes.npy", *QUICK,
            "--likelihood", "normal:scale=0.3", "--dequantize",
        )  # fmt: skip
    few = ("--num-samples", 20)
    out, _ = within("evaluate", tmp_path / "run", *few, "--json")
    importance = json.loads(out)["importance_sampling"]
    assert importance["measure"] == "dequantized density"
    # Bytes drawn evenly take 8 bits, and a code for them no less.
    assert importance["bits_per_dimension"] > 8
    out, _ = within("evaluate", tmp_path / "run", *few)
    assert "an upper bound: dequantised density" in out
    out, _ = within("evaluate", tmp_path / "run", "--no-dequantize", *few)
    assert "bits/dim     none" in out


@pytest.mark.exhaustive
def test_an_interrupted_evaluation_reports_what_it_has(run, tmp_path):
    folder, _ = run
    # With a terminal for standard error, whose bar tells when the first images are done.
    terminal, stderr = pty.openpty()
    fcntl.ioctl(stderr, termios.TIOCSWINSZ, struct.pack("4H", 24, 100, 0, 0))
    process = subprocess.Popen(
        [TFVAE, "evaluate", str(folder), "--num-samples", "100000", "--json"],
        stdout=subprocess.PIPE, stderr=stderr, text=True, cwd=tmp_path,
    )  # fmt: skip
    os.close(stderr)
    shown = b""
    try:
        while b"log_prob=" not in shown:
            shown += os.read(terminal, 4096)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=300)
        with contextlib.suppress(OSError):  # what a terminal says at its end
            while more := os.read(terminal, 4096):
                shown += more
    finally:
        process.kill()
        os.close(terminal)
    assert process.returncode == 130
    found = json.loads(out)
    assert found["complete"] is False
    assert found["importance_sampling"]["complete"] is False
    assert 0 < found["events"] < 180
    assert b"interrupted: these are the figures of the events so far" in shown
    assert b"Traceback" not in shown


@pytest.mark.exhaustive
def test_an_interrupt_after_the_first_figures_keeps_them(run, monkeypatch):
    folder, _ = run
    trained = runs.TrainedModel.open(folder)
    data = runs.load_data(trained.config)

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    whole = report.evaluate(trained.vae, data, num_samples=2, limit=20)
    for name in ("diagnose", "annealed_log_prob", "bidirectional_log_prob"):
        with monkeypatch.context() as patch:
            patch.setattr(report, name, interrupt)
            found = report.evaluate(
                trained.vae, data, num_samples=2, limit=20, annealed_events=3, annealing_steps=3
            )
        assert not found.complete
        assert found.log_prob.log_prob == whole.log_prob.log_prob
        assert (found.diagnosis is None) == (name == "diagnose")
        assert (found.annealing is None) == (name != "bidirectional_log_prob")
        assert str(found)
        assert json.dumps(found.as_dict())


@pytest.mark.exhaustive
def test_the_images_come_in_random_order(run):
    # Sorted by class, as some files are, the first of them would tell little of the rest.
    folder, _ = run
    trained = runs.TrainedModel.open(folder)
    data = runs.load_data(trained.config)
    found = report.evaluate(trained.vae, data, num_samples=1).log_prob.kls
    in_order = evaluation.log_prob(trained.vae, data.test.batches(256), num_samples=1).kls
    np.testing.assert_allclose(np.sort(found), np.sort(in_order), rtol=1e-5)
    assert (found != in_order).any()


def test_what_cannot_be_evaluated_is_refused_in_one_line(run, tmp_path, rng):
    folder, _ = run
    np.save(tmp_path / "other.npy", rng.random((30, 9, 8)).astype("float32"))
    np.save(tmp_path / "high.npy", (2 + rng.random((30, 8, 8))).astype("float32"))
    (tmp_path / "taken.png").touch()
    before = sorted(path.name for path in folder.iterdir())
    for arguments, message in (
        (["--num-samples", 0], "--num-samples"),
        (["--limit", 0], "--limit"),
        (["--ais-images", 0], "--ais-images"),
        (["--split", "none"], "--split"),
        (["--dataset", tmp_path / "other.npy"], "the model takes images (8, 8, 1)"),
        (["--dataset", tmp_path / "high.npy"], "Bernoulli expects values in [0, 1]"),
        (["--dataset", tmp_path / "none.npy"], "no such file"),
        (["--dataset", tmp_path / "high.npy", "--latent"], "has no labels to score"),
        (["--dequantize"], "dequantized or binarized, not both"),
        (["--picture", "picture.txt"], "--picture is a .png"),
        (["--picture", tmp_path / "taken.png"], "choose another --picture or give --overwrite"),
    ):
        assert message in refused("evaluate", folder, *arguments)
    assert sorted(path.name for path in folder.iterdir()) == before
