"""Run directories: where `tfvae train` writes, and what the other commands read."""

import csv
import dataclasses
import datetime
import re
from pathlib import Path

import numpy as np

from tfvae import datasets
from tfvae.datasets.source import plural_of
from tfvae.errors import InputError
from tfvae.models.vae import VAE
from tfvae.saving.card import Card
from tfvae.saving.config import DataOptions, TrainConfig
from tfvae.saving.files import find_model, version_directories
from tfvae.saving.load import load


def default_run_dir(dataset: str) -> Path:
    """Return runs/DATASET-DATE-TIME."""
    name = re.sub(r"[^\w.-]+", "-", Path(dataset).name) or "data"
    return Path("runs") / f"{name}-{datetime.datetime.now():%Y%m%d-%H%M%S}"


def load_data(options: TrainConfig) -> datasets.Dataset:
    """Load the data set that options name."""
    return datasets.load(**options.data_options())


def check_data(vae: VAE, data: datasets.Dataset) -> None:
    """Check that a data set is such as a model takes.

    Raises:
        InputError: if its events have another shape or missing values, or it lacks labels.
    """
    if data.event_shape != vae.event_shape:
        has = f"{data.event_shape}"
        if len(data.event_shape) != vae.event_spec.rank:
            has = f"{plural_of(data.event_shape)} {has}"
        raise InputError(
            f"the model takes {vae.event_spec.noun} {vae.event_shape}; {data.name} has {has}"
        )
    if data.missing and not vae.missing:
        raise InputError(
            f"{data.name} has missing values, and the model takes none: fill them, or make the "
            "model with missing=True"
        )
    if vae.num_classes is not None and not data.has_labels:
        raise InputError(f"the model is conditional, and {data.name} has no labels")


def grid_labels(vae: VAE, n: int) -> np.ndarray | None:
    """Return the labels of a grid of samples of a conditional model: a row or so of each."""
    return None if vae.num_classes is None else np.arange(n) * vae.num_classes // n


def read_metrics(run_dir: Path) -> dict[str, list[float]]:
    """Return the columns of a run's metrics.csv, empty before the first epoch has ended."""
    path = run_dir / "metrics.csv"
    if not path.exists():
        return {}
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {name: [float(row[name]) for row in rows] for name in rows[0]} if rows else {}


@dataclasses.dataclass(frozen=True)
class TrainedModel:
    """A model read from a run directory or a file, and the run's options if they are beside it."""

    vae: VAE
    path: Path
    config: TrainConfig | None

    @classmethod
    def open(cls, path: Path) -> "TrainedModel":
        """Read what `tfvae.load` reads.

        Raises:
            InputError: if it holds no `VAE`.
        """
        vae, file = load(path), find_model(path)
        if not isinstance(vae, VAE):
            raise InputError(f"expected a tfvae.VAE in {file}; it holds a {type(vae).__name__}")
        beside = file.parent / "config.toml"
        return cls(vae, file, TrainConfig.read(beside) if beside.is_file() else None)

    def card(self) -> Card:
        """Return what is known of the model, of a run or a SavedModel; nothing of a lone file.

        Raises:
            InputError: if it is damaged.
        """
        folder = self.path if self.path.is_dir() else self.path.parent
        versions = version_directories(folder / "saved_model")
        for place in (*reversed(versions), folder):
            if (place / "card.json").is_file():
                return Card.read(place / "card.json")
        return Card()

    def data(self, options: DataOptions) -> datasets.Dataset:
        """Load the data set that `options` name, or else that of the run.

        Raises:
            InputError: if neither says which, or it does not fit the model.
        """
        given = {
            name: value for name, value in dataclasses.asdict(options).items() if value is not None
        }
        if self.config is None and "dataset" not in given:
            raise InputError(
                f"there is no config.toml beside {self.path} to say which data: give --dataset"
            )
        # Other data come without the options that the run's needed.
        base = TrainConfig() if self.config is None or "dataset" in given else self.config
        chosen = dataclasses.replace(base, **given)
        data = load_data(chosen)
        check_data(self.vae, data)
        return data

    def arrays(
        self, options: DataOptions, limit: int | None = None
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Return the first test events, and their labels where the model takes them."""
        events, labels = self.data(options).test.arrays(limit=limit)
        return events, None if self.vae.num_classes is None else labels
