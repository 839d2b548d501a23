"""Trainings are logged to MLflow and Weights & Biases, and gone on with there."""

import json
import math
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import processes
import pytest
from command_line import bare_trainings, refused, within

from tfvae.errors import InputError
from tfvae.saving.config import TrainConfig
from tfvae.training.loggers import RunLogger, logger, require


class Remembering(RunLogger):
    """Logs to a list."""

    name = "wandb"

    def __init__(self, *args):
        super().__init__(*args)
        self.rows, self.ended, self.away = [], None, False

    def _begin(self, state):
        return {"run": state.get("run", "first")}

    def _log(self, epoch, metrics):
        if self.away:
            raise ConnectionError("no route to\nhttps://me:secret@logs.example/runs")
        self.rows.append((epoch, metrics))

    def _end(self, figures, pictures, status):
        self.ended = (figures, pictures, status)


@pytest.fixture
def begun(tmp_path, monkeypatch):
    """What begins to log to a run directory, after so many epochs."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)

    def begin(epochs=0, **options):
        callback = Remembering(tmp_path, options)
        history = {"elbo": [-float(epoch) for epoch in range(epochs)]}
        callback.set_model(SimpleNamespace(history=SimpleNamespace(history=history)))
        callback.on_train_begin()
        return callback

    return begin


def end_epoch(callback, epoch, **more):
    logs = {"elbo": -float(epoch), **more}
    callback.on_epoch_end(epoch, logs)
    history = callback.model.history.history
    for name, value in logs.items():
        history.setdefault(name, []).append(value)


def test_each_epoch_is_logged_once_however_often_it_is_trained(begun, tmp_path):
    first = begun()
    for epoch in range(3):
        end_epoch(first, epoch)
    assert first.rows == [(epoch, {"elbo": -float(epoch)}) for epoch in range(3)]
    state = json.loads((tmp_path / "logger.json").read_text())
    assert state == {"logger": "wandb", "run": "first", "epochs": 3}
    # The checkpoint is of the second epoch: the third is trained again.
    second = begun(epochs=2)
    end_epoch(second, 2)
    end_epoch(second, 3, learning_rate=0.1)
    end_epoch(second, 4, learning_rate=0.1)
    assert [epoch for epoch, _ in second.rows] == [3, 4]
    assert second.rows[0][1] == {"elbo": -3.0, "learning_rate": 0.1}


def test_a_server_that_is_away_is_said_once_and_gets_the_epochs_later(begun, capsys):
    callback = begun()
    callback.away = True
    end_epoch(callback, 0)
    end_epoch(callback, 1, learning_rate=0.1)
    (line,) = capsys.readouterr().err.splitlines()
    assert "the logger wandb failed, and the training goes on: no route to https://logs" in line
    assert "secret" not in line
    callback.away = False
    end_epoch(callback, 2, learning_rate=0.1, kl=math.nan)
    assert [(epoch, sorted(row)) for epoch, row in callback.rows] == [
        (0, ["elbo"]),
        (1, ["elbo", "learning_rate"]),
        (2, ["elbo", "learning_rate"]),
    ]
    callback.finish({"elbo": -2.0, "standard_error": None}, [], "finished")
    assert callback.ended == ({"test_elbo": -2.0}, [], "finished")


def test_another_loggers_run_is_not_gone_on_with(begun, tmp_path):
    (tmp_path / "logger.json").write_text('{"logger": "mlflow", "run": "other", "epochs": 3}')
    with pytest.raises(InputError, match="is not that of wandb: remove it to log a new run"):
        begun()


@pytest.mark.parametrize("name", ["mlflow", "wandb"])
def test_a_missing_package_is_one_line_before_anything_is_done(name, monkeypatch, tmp_path):
    monkeypatch.setattr("importlib.util.find_spec", lambda module: None)
    with pytest.raises(InputError, match=rf"the logger {name} needs .*'tfvae\[{name}\]'"):
        require(name)
    monkeypatch.chdir(tmp_path)
    text = refused("train", "--dataset", "digits", "--logger", name, "--run-dir", "run")
    assert f"pip install 'tfvae[{name}]'" in text
    assert not (tmp_path / "run").exists()


# Real libraries, as a user runs them: each writes into its own folder, and sends nothing.


@pytest.fixture
def stopped(tmp_path, monkeypatch):
    """A function that trains one epoch of two, logged, as if the machine had gone then."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    np.save("mine.npy", rng.normal(size=(60, 4)).astype("float32"))

    def train(name):
        config = TrainConfig(
            dataset="mine.npy",
            network="dense:hidden=8",
            latent_dim=2,
            epochs=2,
            batch_size=16,
            checkpoint_seconds=0,
            run_dir=tmp_path / "run",
            logger=name,
        )
        from tfvae.cli import job

        job.start(config, until=1)

    with bare_trainings(pictures=True):
        yield train


@pytest.mark.exhaustive
def test_mlflow_has_options_epochs_scores_and_pictures_of_one_run(stopped, tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    place = f"sqlite:///{tmp_path}/logged.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", place)
    stopped("mlflow")
    client = mlflow.MlflowClient(tracking_uri=place)
    (experiment,) = client.search_experiments(filter_string="name = 'tfvae'")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "KILLED"
    assert len(client.get_metric_history(run.info.run_id, "val_elbo")) == 1
    # From another place, without the variable: the run directory knows.
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    within("train", "--resume", "run")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "run"
    assert run.data.params["latent_dim"] == "2" and run.data.params["dataset"] == "mine.npy"
    assert str(tmp_path) not in str(run.data.params)
    history = client.get_metric_history(run.info.run_id, "val_elbo")
    assert [one.step for one in history] == [0, 1]
    score = json.loads((tmp_path / "run" / "test.json").read_text())
    assert run.data.metrics["test_elbo"] == pytest.approx(score["elbo"])
    kept = {one.path for one in client.list_artifacts(run.info.run_id)}
    assert kept == {"samples.png", "reconstructions.png", "latent.png", "curves.png"}


@pytest.mark.exhaustive
def test_wandb_writes_one_run_in_parts_without_a_network(stopped, tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    stopped("wandb")
    within("train", "--resume", "run")
    run = json.loads((tmp_path / "run" / "logger.json").read_text())
    assert run["epochs"] == 2
    files = sorted((tmp_path / "run" / "wandb").glob("offline-run-*/*.wandb"))
    assert [file.name for file in files] == [f"run-{run['run']}.wandb"] * 2
    first, second = (file.read_bytes() for file in files)
    for content in (first, second):
        assert b"val_elbo" in content and b"latent_dim" in content and b"test_elbo" in content
    pictures = {path.name.split("_")[0] for path in files[1].parent.glob("files/media/images/*")}
    assert pictures == {"samples", "reconstructions", "latent", "curves"}


def begin_without_login(folder):
    for name in ("WANDB_MODE", "WANDB_API_KEY"):
        os.environ.pop(name, None)
    os.environ |= {"HOME": str(folder), "NETRC": str(folder / "netrc")}
    os.chdir(folder)
    with Path("out").open("wb") as out:
        os.dup2(out.fileno(), 1)
    with pytest.raises(InputError) as info:
        logger("wandb", Path(), {}).on_train_begin()
    print(info.value)


@pytest.mark.exhaustive
def test_wandb_without_a_login_is_one_line(tmp_path):
    pytest.importorskip("wandb")
    assert processes.run(begin_without_login, tmp_path) == "done"
    (line,) = (tmp_path / "out").read_text().splitlines()
    assert "the logger wandb failed: No API key" in line
    assert "WANDB_MODE=offline" in line


def test_the_factory_gives_what_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    assert [logger(name, tmp_path, {}).name for name in ("mlflow", "wandb")] == ["mlflow", "wandb"]
