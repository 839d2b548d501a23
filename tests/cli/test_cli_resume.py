"""``tfvae train`` through signals and crashes, with several workers, and what it refuses."""

import json
import signal
import tomllib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from command_line import DIGITS, bare_trainings, cluster, refused, within
from forked_commands import Command, signalled

from tfvae.cli import job
from tfvae.training.checkpoints import Checkpoints
from tfvae.training.precision import best_precision

SMALL = [*DIGITS, "--network", "dense:hidden=8", "--latent-dim", "2"]
# 6 epochs of 12 steps, with a checkpoint after every call of some of them.
OPTIONS = [*SMALL, "--epochs", "6", "--deterministic", "--checkpoint-seconds", "0"]
OPTIONS += ["--average", "0.99", "--clip-norm", "50", "--warm-up", "30", "--patience", "5"]
OPTIONS += ["--precision", "float32"]


@pytest.fixture
def bare():
    with bare_trainings():
        yield


def figures(run):
    """What a training leaves that has to be the same, to the last bit."""
    newest = max((run / "checkpoints").glob("step-*.npz"))
    return (
        newest.name,
        (run / "metrics.csv").read_text(),
        json.loads((run / "test.json").read_text()),
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nobody stopped."""
    run = tmp_path_factory.mktemp("whole") / "run"
    with bare_trainings():
        within("train", "--run-dir", run, *OPTIONS)
    return run


@pytest.mark.exhaustive
def test_a_stopped_training_goes_on_to_the_same_end(whole, bare, tmp_path, monkeypatch):
    run = tmp_path / "run"
    says = f"stopped: tfvae train --resume {run} goes on from here"
    with monkeypatch.context() as patched:
        patched.setattr(Checkpoints, "write", signalled(signal.SIGTERM, 4))
        out, err = within("train", "--run-dir", run, *OPTIONS, status=128 + signal.SIGTERM)
    assert out == ""
    assert says in err
    assert not (run / "model.keras").exists()
    killed = Command("train", "--resume", run, cwd=tmp_path, signal_at=(signal.SIGKILL, 25))
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    with monkeypatch.context() as patched:
        patched.setattr(Checkpoints, "write", signalled(signal.SIGINT, 37))
        out, err = within("train", "--resume", run)
    assert "test ELBO" in out
    assert "interrupted: keeping the model as it is now" in err
    assert says in err
    assert (run / "model.keras").exists()
    within("train", "--resume", run)
    assert figures(run) == figures(whole)


@pytest.mark.exhaustive
def test_resuming_a_finished_training_changes_nothing(whole, bare):
    before = figures(whole)
    out, _ = within("train", "--resume", whole, "--json")
    assert figures(whole) == before
    assert json.loads(out)["elbo"] == before[2]["elbo"]
    assert len(before[1].splitlines()) == 7
    assert not [path for path in whole.iterdir() if path.name.startswith(".")]


@pytest.mark.exhaustive
def test_the_options_of_a_run_are_those_it_had(whole):
    options = tomllib.loads((whole / "config.toml").read_text())
    assert options["average"] == 0.99
    assert options["warm_up"] == 30
    assert options["epochs"] == 6


@pytest.mark.exhaustive
def test_two_workers_share_the_files_of_a_table(bare, tmp_path):
    """A signal to one of them stops both, and both go on."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "people"
    folder.mkdir()
    for part in range(4):
        age = rng.normal(30 + 5 * part, 3, 150).round(1)
        colour = np.where(rng.random(150) < 0.3, "red", f"blue {part}")
        pd.DataFrame({"age": age, "colour": colour}).to_csv(folder / f"{part}.csv", index=False)
    options = ["--latent-dim", "2", "--network", "dense:hidden=8", "--precision", "float32"]
    options += ["--epochs", "4", "--checkpoint-seconds", "0"]
    out, _ = within(
        "train", "--dataset", folder / "*.csv", "--run-dir", tmp_path / "alone", *options, "--json"
    )

    def both(*arguments, **of_chief):
        """Run a command in both workers; give how they ended, and what they wrote."""
        running = [
            Command("train", *arguments, "--json", cwd=tmp_path, env=env, bare=True, **more)
            for env, more in zip(cluster(2), (of_chief, {}), strict=True)
        ]
        wrote = [one.communicate() for one in running]
        return [one.returncode for one in running], wrote

    ends, ((out_of_chief, said), (out_of_other, _)) = both(
        "--dataset", "people/*.csv", "--run-dir", "run", *options, signal_at=(signal.SIGTERM, 1)
    )
    assert ends == [128 + signal.SIGTERM] * 2, said
    assert out_of_chief == out_of_other == ""
    assert "2 CPUs" in said
    assert "each of 2 workers reads its own of 4 files" in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["alone", "people", "run"]
    ends, ((out_of_chief, said), (out_of_other, _)) = both("--resume", "run")
    assert ends == [0, 0], said
    assert out_of_other == ""
    # The same splits and start, in another order: of all 60 test rows.
    expected, found = json.loads(out), json.loads(out_of_chief)
    assert found["events"] == expected["events"] == 60
    assert found["elbo"] == pytest.approx(expected["elbo"], abs=0.5)
    schemas = [(tmp_path / run / "schema.json").read_text() for run in ("alone", "run")]
    assert schemas[0] == schemas[1]
    # One process reads all files by the same pattern.
    out, _ = within("score", tmp_path / "run", "--out", tmp_path / "scores.csv")
    assert "60" in out


def test_auto_precision_is_what_the_processor_multiplies(tmp_path, monkeypatch):
    if tf.config.list_physical_devices("GPU"):
        pytest.skip("this machine has a GPU")
    flags = Path("/proc/cpuinfo").read_text().split()
    has_bfloat16 = "avx512_bf16" in flags or "amx_bf16" in flags
    assert best_precision() == ("mixed_bfloat16" if has_bfloat16 else "float32")
    # The options are written before the first step.
    run = tmp_path / "run"
    monkeypatch.setattr(job._Job, "run", lambda *_: job.Done(run, None))
    within("train", "--run-dir", run, *SMALL)
    assert tomllib.loads((run / "config.toml").read_text())["precision"] == best_precision()


def test_a_training_that_diverges_says_where_in_one_line(tmp_path):
    run = tmp_path / "run"
    options = ["--learning-rate", "1e30", "--decay", "none", "--precision", "float32"]
    _, err = within("train", "--run-dir", run, *SMALL, "--epochs", "2", *options, status=1)
    line = err.splitlines()[-1]
    assert line.startswith("tfvae: error: the ")
    assert "is not finite at step" in line
    assert (run / "config.toml").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--resume", "nowhere"], "expected a run directory of tfvae train"),
        (["--resume", "nowhere", "--epochs", "3"], "leave the others out"),
        (
            ["--dataset", "digits", "--warm-up", "500", "--epochs", "2"],
            "--warm-up of 500 steps outlasts",
        ),
        (["--average", "1"], "average"),
        (["--clip-norm", "0"], "clip-norm"),
        (["--accumulate", "0"], "accumulate"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(tmp_path, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    assert said in refused("train", *arguments)
    assert not list(tmp_path.iterdir())


def test_a_cluster_that_cannot_be_read_is_refused_in_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for text, said in (
        ("nonsense", "TF_CONFIG is JSON such as"),
        ('{"cluster": {"ps": ["a:1"], "worker": ["b:1"]}}', "TF_CONFIG names tasks ps"),
    ):
        monkeypatch.setenv("TF_CONFIG", text)
        assert said in refused("train")
