"""Run directories: where `tfvae train` writes, and what the other commands read."""

import csv
import dataclasses
import datetime
import re
from pathlib import Path

import numpy as np

from tfvae import datasets
from tfvae.errors import InputError
from tfvae.models.vae import VAE
from tfvae.saving.card import Card
from tfvae.saving.config import DataOptions, TrainConfig
from tfvae.saving.files import find_model, version_directories
from tfvae.saving.load import load


def default_run_dir(dataset: str) -> Path:
    """Give runs/DATASET-DATE-TIME."""
    name = re.sub(r"[^\w.-]+", "-", Path(dataset).name) or "data"
    return Path("runs") / f"{name}-{datetime.datetime.now():%Y%m%d-%H%M%S}"


def load_data(options: TrainConfig) -> datasets.Dataset:
    """Load the images that options name."""
    return datasets.load(**options.data_options())


def grid_labels(vae: VAE, n: int) -> np.ndarray | None:
    """Give the labels of a grid of samples of a conditional model: a row or so of each."""
    return None if vae.num_classes is None else np.arange(n) * vae.num_classes // n


def read_metrics(run_dir: Path) -> dict[str, list[float]]:
    """Give the columns of a run's metrics.csv, empty before the first epoch has ended."""
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
        """Give what is known of the model, of a run or a SavedModel; nothing of a lone file.

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
        """Load the images that `options` name, or else those of the run.

        Raises:
            InputError: if neither says which, or their shape is not the model's.
        """
        given = {
            name: value for name, value in dataclasses.asdict(options).items() if value is not None
        }
        if self.config is None and "dataset" not in given:
            raise InputError(
                f"there is no config.toml beside {self.path} to say which images: give --dataset"
            )
        base = self.config or TrainConfig()
        if "dataset" in given:
            # Other images come without the options that the run's images needed, but for what the
            # model has seen under them.
            base = TrainConfig(background=base.background)
        chosen = dataclasses.replace(base, **given)
        data = load_data(chosen)
        if data.event_shape != self.vae.event_shape:
            raise InputError(
                f"the model takes images {self.vae.event_shape}; {chosen.dataset} has "
                f"{data.event_shape}"
            )
        if self.vae.num_classes is not None and not data.has_labels:
            raise InputError(f"the model is conditional, and {chosen.dataset} has no labels")
        return data

    def arrays(
        self, options: DataOptions, limit: int | None = None
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Give the first test images, and their labels where the model takes them."""
        images, labels = self.data(options).test.arrays(limit=limit)
        return images, None if self.vae.num_classes is None else labels
