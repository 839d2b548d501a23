"""``tfvae train`` through signals and crashes, with several workers, and what it refuses."""

import json
import signal
import time
import tomllib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from command_line import DIGITS, cluster, refused, within
from forked_commands import Command, forked_command

from tfvae.training.precision import best_precision

# Long enough to be stopped on the way, with a checkpoint after every call.
LONG = [*DIGITS, "--network", "dense", "--latent-dim", "2", "--epochs", "40", "--deterministic"]
LONG += ["--checkpoint-seconds", "0", "--average", "0.99", "--clip-norm", "50", "--warm-up", "30"]
LONG += ["--patience", "35", "--precision", "float32"]


def begun(folder, name, *options, env=None):
    return Command("train", "--run-dir", name, *options, cwd=folder, env=env)


def wait_for_checkpoint(run, steps):
    """Wait until so many steps have been saved."""
    for _ in range(1200):
        found = [int(path.name.split("-")[1]) for path in (run / "checkpoints").glob("step-*.npz")]
        if found and max(found) >= steps:
            return
        time.sleep(0.05)
    pytest.fail("no checkpoint came")


def figures(run):
    """What a training leaves that has to be the same, to the last bit."""
    (newest,) = sorted((run / "checkpoints").glob("step-*.npz"))[-1:]
    return (
        newest.name,
        (run / "metrics.csv").read_text(),
        json.loads((run / "test.json").read_text()),
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nobody stopped."""
    folder = tmp_path_factory.mktemp("whole")
    forked_command("train", "--run-dir", "run", *LONG, cwd=folder)
    return folder / "run"


@pytest.mark.exhaustive
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_stopped_training_goes_on_to_the_same_end(whole, tmp_path, number):
    process = begun(tmp_path, "run", *LONG)
    wait_for_checkpoint(tmp_path / "run", 60)
    process.send_signal(number)
    out, err = process.communicate(timeout=300)
    assert "Traceback" not in err
    kept = (tmp_path / "run" / "model.keras").exists()
    if number == signal.SIGKILL:
        assert process.returncode == -signal.SIGKILL
    else:
        assert "stopped: tfvae train --resume run goes on from here" in err
    if number == signal.SIGTERM:
        assert (process.returncode, kept, out) == (128 + signal.SIGTERM, False, "")
    if number == signal.SIGINT:
        assert (process.returncode, kept) == (0, True)
        assert "interrupted: keeping the model as it is now" in err
        assert "test ELBO" in out
    forked_command("train", "--resume", "run", cwd=tmp_path)
    assert figures(tmp_path / "run") == figures(whole)


@pytest.mark.exhaustive
def test_resuming_a_finished_training_changes_nothing(whole):
    before = figures(whole)
    done = forked_command("train", "--resume", "run", "--json", cwd=whole.parent)
    assert figures(whole) == before
    assert json.loads(done.stdout)["elbo"] == before[2]["elbo"]
    rows = before[1].splitlines()
    assert len(rows) == 41
    for folder in ("saved_model", "checkpoints", "tensorboard/pictures"):
        assert any((whole / folder).iterdir())
    assert not [path for path in whole.iterdir() if path.name.startswith(".")]


@pytest.mark.exhaustive
def test_two_workers_train_one_model(whole, tmp_path):
    options = [*LONG[:8], "--epochs", "3", "--precision", "float32"]
    alone = forked_command("train", "--run-dir", "alone", *options, "--json", cwd=tmp_path)
    workers = [begun(tmp_path, "run", *options, "--json", env=env) for env in cluster(2)]
    outputs = [worker.communicate(timeout=300) for worker in workers]
    for worker, (_, err) in zip(workers, outputs, strict=True):
        assert worker.returncode == 0, err
    expected, found = json.loads(alone.stdout), json.loads(outputs[0][0])
    # Sums in another order, through three epochs of Adam.
    assert found["elbo"] == pytest.approx(expected["elbo"], abs=1e-3)
    assert outputs[1][0] == ""
    assert "2 CPUs" in outputs[0][1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["alone", "run"]


@pytest.mark.exhaustive
def test_two_workers_share_the_files_of_a_table(tmp_path):
    rng = np.random.default_rng(0)
    folder = tmp_path / "people"
    folder.mkdir()
    for part in range(4):
        age = rng.normal(30 + 5 * part, 3, 150).round(1)
        colour = np.where(rng.random(150) < 0.3, "red", f"blue {part}")
        pd.DataFrame({"age": age, "colour": colour}).to_csv(folder / f"{part}.csv", index=False)
    options = ["--dataset", "people/*.csv", "--latent-dim", "2", "--precision", "float32"]
    alone = forked_command(
        "train", "--run-dir", "alone", *options, "--epochs", "3", "--json", cwd=tmp_path
    )
    workers = [
        begun(tmp_path, "run", *options, "--epochs", "3", "--json", env=env) for env in cluster(2)
    ]
    outputs = [worker.communicate(timeout=300) for worker in workers]
    for worker, (_, err) in zip(workers, outputs, strict=True):
        assert worker.returncode == 0, err
    assert "each of 2 workers reads its own of 4 files" in outputs[0][1]
    # The same splits and start, in another order: of all 60 test rows.
    expected, found = json.loads(alone.stdout), json.loads(outputs[0][0])
    assert found["events"] == expected["events"] == 60
    assert found["elbo"] == pytest.approx(expected["elbo"], abs=0.5)
    schemas = [(tmp_path / run / "schema.json").read_text() for run in ("alone", "run")]
    assert schemas[0] == schemas[1]
    again = [
        Command("train", "--resume", "run", "--json", cwd=tmp_path, env=env) for env in cluster(2)
    ]
    outputs = [worker.communicate(timeout=300) for worker in again]
    assert [worker.returncode for worker in again] == [0, 0], outputs
    assert json.loads(outputs[0][0])["elbo"] == found["elbo"]
    # One process reads all files by the same pattern, from anywhere.
    done = forked_command("score", tmp_path / "run", "--out", "scores.csv", cwd=folder)
    assert "60" in done.stdout


@pytest.mark.exhaustive
def test_the_options_of_a_run_are_those_it_had(whole):
    options = tomllib.loads((whole / "config.toml").read_text())
    assert options["average"] == 0.99
    assert options["warm_up"] == 30
    assert options["epochs"] == 40


@pytest.mark.exhaustive
def test_auto_precision_is_what_the_processor_multiplies(tmp_path):
    if tf.config.list_physical_devices("GPU"):
        pytest.skip("this machine has a GPU")
    flags = Path("/proc/cpuinfo").read_text().split()
    has_bfloat16 = "avx512_bf16" in flags or "amx_bf16" in flags
    assert best_precision() == ("mixed_bfloat16" if has_bfloat16 else "float32")
    within("train", "--run-dir", tmp_path / "run", *LONG[:8], "--epochs", "1", "--json")
    options = tomllib.loads((tmp_path / "run" / "config.toml").read_text())
    assert options["precision"] == best_precision()


def test_a_training_that_diverges_says_where_in_one_line(tmp_path):
    run = tmp_path / "run"
    options = ["--learning-rate", "1e30", "--decay", "none", "--precision", "float32"]
    _, err = within("train", "--run-dir", run, *LONG[:8], "--epochs", "2", *options, status=1)
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
