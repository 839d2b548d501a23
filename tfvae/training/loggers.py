"""Runs in MLflow and Weights & Biases: what ``tfvae train --logger`` writes there.

A run directory has a file ``logger.json`` that says which run of the logger is its own, and how
many epochs that has. A training that goes on, or whose server did not answer for a while, logs the
epochs that are missing there, from the history that a checkpoint keeps, and none twice.
"""

import abc
import importlib
import importlib.util
import json
import math
import os
import re
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras

from tfvae.errors import InputError, missing_extra
from tfvae.saving.files import new_file

LOGGER_FILE = "logger.json"
# Where runs are put, in the words of either.
PROJECT = "tfvae"
_ADDRESS = re.compile(r"(\w+://)[^/@\s]*@")


def logger(name: str, run_dir: Path, options: Mapping[str, Any]) -> "RunLogger":
    """Return the callback that logs a training.

    Args:
        name: "mlflow" or "wandb".
        run_dir: the run directory, after which the logged run is called.
        options: of the training, which are logged with it.

    Raises:
        InputError: if the logger's package is not installed.
    """
    kind = {"mlflow": MLflowLogger, "wandb": WandbLogger}[name]
    return kind(run_dir, options)


def require(name: str) -> None:
    """Check that a logger's packages are installed, without loading them.

    Raises:
        InputError: if they are not.
    """
    packages = {"mlflow": ("mlflow", "sqlalchemy", "alembic"), "wandb": ("wandb",)}[name]
    missing = [one for one in packages if importlib.util.find_spec(one) is None]
    if missing:
        raise missing_extra(f"the logger {name} needs", " and ".join(missing), name)


class RunLogger(keras.callbacks.Callback, abc.ABC):
    """Logs each epoch's metrics to a run that goes on where it was.

    Args:
        run_dir: the run directory.
        options: of the training; what is None is left out.
    """

    name = ""

    def __init__(self, run_dir: Path, options: Mapping[str, Any]):
        super().__init__()
        require(self.name)
        self._file = run_dir / LOGGER_FILE
        self._options = {name: one for name, one in options.items() if one not in (None, ())}
        self._called = run_dir.resolve().name
        self._epochs = 0
        self._said = False
        self._open = False

    def on_train_begin(self, logs: Any = None) -> None:
        """Begin a run, or go on with that of the run directory.

        Raises:
            InputError: if the logger does not take it.
        """
        state = self._read()
        try:
            identity = self._begin(state)
        except InputError:
            raise
        except Exception as error:
            # Of many kinds: settings, rights, addresses.
            raise InputError(f"the logger {self.name} failed: {_line(error)}") from error
        self._open = True
        self._epochs = int(state.get("epochs", 0))
        self._state = {"logger": self.name, **identity}
        self._write()

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Log the epochs that the run does not have yet, this one with them."""
        rows: list[dict[str, float]] = [{} for _ in range(epoch)]
        for name, values in self.model.history.history.items():
            past = values[:epoch]
            # What a callback has added later has fewer values, which are the last.
            for row, value in zip(rows[epoch - len(past) :], past, strict=True):
                row[name] = value
        rows.append(dict(logs or {}))
        self._try(self._log_rows, rows)

    def finish(
        self, score: Mapping[str, float | None], pictures: Sequence[Path], status: str
    ) -> None:
        """Log what a training ends with, and end the run.

        Args:
            score: figures of the test events; none where the training was stopped before its end.
            pictures: files to keep beside the run.
            status: "finished" or "stopped".
        """
        if not self._open:
            return
        figures = {f"test_{name}": one for name, one in score.items() if one is not None}
        self._try(self._end, _finite(figures), pictures, status)
        self._open = False

    def _log_rows(self, rows: Sequence[Mapping[str, float]]) -> None:
        for epoch in range(self._epochs, len(rows)):
            self._log(epoch, _finite(rows[epoch]))
            self._epochs = epoch + 1
        self._write()

    def _try(self, call: Any, *args: Any) -> None:
        """Call, and say once if it fails: a server that is away must not end a training."""
        try:
            call(*args)
        except Exception as error:
            if not self._said:
                print(
                    f"tfvae: warning: the logger {self.name} failed, and the training goes on: "
                    f"{_line(error)}",
                    file=sys.stderr,
                )
            self._said = True

    def _read(self) -> dict[str, Any]:
        """Return what the run directory says of its run, nothing at the beginning."""
        if not self._file.is_file():
            return {}
        try:
            state = json.loads(self._file.read_text(encoding="utf-8"))
            if state["logger"] == self.name and isinstance(state["run"], str):
                return state
        except (ValueError, KeyError, TypeError):
            pass
        raise InputError(f"{self._file} is not that of {self.name}: remove it to log a new run")

    def _write(self) -> None:
        with new_file(self._file) as partial:
            text = json.dumps({**self._state, "epochs": self._epochs}, indent=1)
            partial.write_text(f"{text}\n", encoding="utf-8")

    @abc.abstractmethod
    def _begin(self, state: Mapping[str, Any]) -> dict[str, str]:
        """Begin or go on; return what names the run, its id as "run"."""

    @abc.abstractmethod
    def _log(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Log an epoch."""

    @abc.abstractmethod
    def _end(self, figures: Mapping[str, float], pictures: Sequence[Path], status: str) -> None:
        """Log figures and files, and end the run."""


class MLflowLogger(RunLogger):
    """A run of MLflow, at MLFLOW_TRACKING_URI or in the working directory, in MLflow's own words.

    Its experiment is MLFLOW_EXPERIMENT_NAME, or "tfvae".

    Args:
        run_dir: the run directory.
        options: of the training.
    """

    name = "mlflow"

    def _begin(self, state: Mapping[str, Any]) -> dict[str, str]:
        # Its reports of how it is used to its makers.
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        self._mlflow = importlib.import_module("mlflow")
        self._entities = importlib.import_module("mlflow.entities")
        place = state.get("place") if "MLFLOW_TRACKING_URI" not in os.environ else None
        place = place or self._mlflow.get_tracking_uri()
        self._client = self._mlflow.MlflowClient(tracking_uri=place)
        if state:
            self._run = state["run"]
            self._client.update_run(self._run, status="RUNNING")
        else:
            title = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
            experiment = self._client.get_experiment_by_name(title)
            if experiment is None:
                number = self._client.create_experiment(title)
            else:
                number = experiment.experiment_id
            run = self._client.create_run(number, run_name=self._called)
            self._run = run.info.run_id
            parameters = [
                self._entities.Param(name, str(one)[:500]) for name, one in self._options.items()
            ]
            self._client.log_batch(self._run, params=parameters)
        # An address may hold a password, which is nobody's who reads the run directory.
        known = {} if _ADDRESS.search(place) else {"place": place}
        return {"run": self._run, **known}

    def _log(self, epoch: int, metrics: Mapping[str, float]) -> None:
        now = int(1000 * time.time())
        self._client.log_batch(
            self._run,
            [self._entities.Metric(name, value, now, epoch) for name, value in metrics.items()],
        )

    def _end(self, figures: Mapping[str, float], pictures: Sequence[Path], status: str) -> None:
        for name, value in figures.items():
            self._client.log_metric(self._run, name, value)
        for path in pictures:
            self._client.log_artifact(self._run, str(path))
        done = "FINISHED" if status == "finished" else "KILLED"
        self._client.set_terminated(self._run, done)


class WandbLogger(RunLogger):
    """A run of Weights & Biases, whose files lie in the run directory.

    With WANDB_MODE=offline nothing is sent, and ``wandb sync`` does so later; WANDB_PROJECT names
    the project, by default "tfvae".

    Args:
        run_dir: the run directory.
        options: of the training.
    """

    name = "wandb"

    def _begin(self, state: Mapping[str, Any]) -> dict[str, str]:
        wandb = importlib.import_module("wandb")
        self._wandb = wandb
        settings = wandb.Settings(console="off", silent=True, disable_git=True)
        number = state.get("run") or uuid.uuid4().hex[:8]
        try:
            self._run = wandb.init(
                project=os.environ.get("WANDB_PROJECT", PROJECT),
                name=self._called,
                id=number,
                resume="allow",
                dir=str(self._file.parent),
                config=self._options,
                settings=settings,
            )
        except wandb.errors.UsageError as error:
            raise InputError(
                f"the logger wandb failed: {_line(error)} Or set WANDB_MODE=offline, and send the "
                "run later by wandb sync"
            ) from error
        return {"run": number}

    def _log(self, epoch: int, metrics: Mapping[str, float]) -> None:
        self._run.log(dict(metrics), step=epoch)

    def _end(self, figures: Mapping[str, float], pictures: Sequence[Path], status: str) -> None:
        self._run.summary.update(dict(figures))
        if pictures:
            self._run.log({path.stem: self._wandb.Image(str(path)) for path in pictures})
        self._run.finish(exit_code=0 if status == "finished" else 1)


def _finite(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers that a logger takes: stores refuse what is not finite."""
    return {name: float(one) for name, one in metrics.items() if math.isfinite(float(one))}


def _line(error: Exception) -> str:
    """Return an error's message in one line, without passwords in addresses."""
    return _ADDRESS.sub(r"\1", " ".join(str(error).split())[:300]) or type(error).__name__
