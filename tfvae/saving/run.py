"""Run directories: where `tfvae train` writes, and what the other commands read."""

import csv
import dataclasses
import datetime
import json
import re
from pathlib import Path
from typing import cast

import numpy as np

from tfvae import datasets
from tfvae.datasets.parts import exists, is_pattern
from tfvae.datasets.source import plural_of
from tfvae.datasets.workers import ALONE, Workers
from tfvae.errors import InputError
from tfvae.models.vae import VAE
from tfvae.models.vq import VQVAE
from tfvae.saving import hub
from tfvae.saving.card import Card
from tfvae.saving.config import DataOptions, Kind, TrainConfig
from tfvae.saving.events import Events, all_events
from tfvae.saving.files import find_model, version_directories
from tfvae.saving.load import load
from tfvae.saving.validation import from_json
from tfvae.typing import Shape

# What the columns of a table were when the model was trained.
SCHEMA_FILE = "schema.json"
# What arrays hold for a model of events with so many axes.
_KIND: dict[int, Kind] = {1: "table", 2: "series", 3: "image", 4: "volume"}


def default_run_dir(dataset: str) -> Path:
    """Return runs/DATASET-DATE-TIME."""
    # Of the files x/*.npy the folder's name says more.
    path = Path(dataset).parent if is_pattern(dataset) else Path(dataset)
    name = re.sub(r"[^\w.-]+", "-", path.name) or "data"
    return Path("runs") / f"{name}-{datetime.datetime.now():%Y%m%d-%H%M%S}"


def load_data(
    options: TrainConfig,
    schema: datasets.Schema | None = None,
    *,
    unseen: str = "refuse",
    workers: Workers = ALONE,
) -> datasets.Dataset:
    """Load the data that options name.

    Args:
        options: of a training.
        schema: what the columns of a table were when a model was trained on it.
        unseen: what becomes of categories that the schema does not know.
        workers: processes that train together, and share the files of a pattern.

    Raises:
        InputError: if they cannot be read.
    """
    return datasets.load(**options.data_options(), schema=schema, unseen=unseen, workers=workers)


def check_place(options: TrainConfig, advice: str, *, is_table: bool = False) -> None:
    """Check that the data of a run are still where they were; runs remember absolute paths.

    Args:
        options: of the run.
        advice: what to do if they are not.
        is_table: whether they were a table, which is always a file, whatever its name: TensorFlow
            Datasets knows diamonds, too.

    Raises:
        InputError: if they are not.
    """
    place = Path(options.dataset)
    if (place.is_absolute() or is_table) and not exists(options.dataset):
        raise InputError(f"the run's data are no longer at {place}: {advice}")


def check_data(vae: VAE, data: datasets.Dataset) -> None:
    """Check that a data set is such as a model takes.

    Raises:
        InputError: if its events have another shape or missing values, or it lacks labels.
    """
    _check(vae, data.name, data.event_shape, data.has_labels)
    if data.missing and not vae.missing:
        raise InputError(
            f"{data.name} has missing values, and the model takes none: fill them, or make the "
            "model with missing=True"
        )


def _check(vae: VAE, name: str, event_shape: Shape, has_labels: bool) -> None:
    if event_shape != vae.event_shape:
        has = f"{event_shape}"
        if len(event_shape) != vae.event_spec.rank:
            has = f"{plural_of(event_shape)} {has}"
        raise InputError(
            f"the model takes {vae.event_spec.noun} {vae.event_shape}; {name} has {has}"
        )
    if vae.num_classes is not None and not has_labels:
        raise InputError(f"the model is conditional, and {name} has no labels")


def read_schema(folder: Path) -> datasets.Schema | None:
    """Return the schema of the table that a run was trained on, None where it was no table.

    Raises:
        InputError: if its file is damaged.
    """
    file = folder / SCHEMA_FILE
    if not file.is_file():
        return None
    try:
        facts = json.loads(file.read_text(encoding="utf-8"))
        return from_json(datasets.Schema, facts, "schema")
    except ValueError as error:
        raise InputError(f"{file} holds no schema of a table: {error}") from error


def read_metrics(run_dir: Path) -> dict[str, list[float]]:
    """Return the columns of a run's metrics.csv, empty before the first epoch has ended.

    Raises:
        InputError: if it is damaged.
    """
    path = run_dir / "metrics.csv"
    if not path.exists():
        return {}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        return {name: [float(row[name]) for row in rows] for name in rows[0]} if rows else {}
    except (ValueError, TypeError, csv.Error) as error:
        raise InputError(
            f"{path} is damaged ({error}): tfvae train --resume writes it anew"
        ) from error


@dataclasses.dataclass(frozen=True)
class TrainedModel:
    """A model read from a run directory or a file, and the run's options if they are beside it.

    Attributes:
        vae: the model.
        path: its file, or the directory of a SavedModel.
        config: the options of its run, None of a lone model.
        schema: the columns of the table that it was trained on, None where it was no table.
    """

    vae: VAE
    path: Path
    config: TrainConfig | None
    schema: datasets.Schema | None = None

    @classmethod
    def open(cls, path: Path) -> "TrainedModel":
        """Read what `tfvae.load` reads.

        Raises:
            InputError: if it holds no `VAE` or `VQVAE`.
        """
        path = hub.download(path) if hub.is_address(path) else path
        vae, file = load(path), find_model(path)
        if not isinstance(vae, (VAE, VQVAE)):
            raise InputError(f"expected a tfvae.VAE in {file}; it holds a {type(vae).__name__}")
        beside = file.parent / "config.toml"
        config = TrainConfig.read(beside) if beside.is_file() else None
        # Of a VQVAE the commands that take it use what it has in common with a VAE.
        found = cls(cast("VAE", vae), file, config)
        return dataclasses.replace(found, schema=read_schema(file.parent) or found.card().schema)

    @property
    def has_codes(self) -> bool:
        """Whether the model is a `VQVAE`."""
        return isinstance(self.vae, VQVAE)

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

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """The name of each label of the training data, None where they have no names."""
        return self.card().class_names

    def data(self, options: DataOptions) -> datasets.Dataset:
        """Load the data that `options` name, or else those of the run, in their splits.

        Raises:
            InputError: if neither says which, they are no longer where they were, or they do not
                fit the model.
        """
        chosen = self._chosen(options)
        data = load_data(chosen, self.schema, unseen=options.unseen or "refuse")
        check_data(self.vae, data)
        names = self.class_names if self.vae.num_classes is not None else None
        if names and data.class_names and data.class_names != names:
            raise InputError(
                f"the model was trained with the classes {_some(names)}; {data.name} has "
                f"{_some(data.class_names)}, which would be numbered otherwise: take data with the "
                "same classes"
            )
        return data

    def events(
        self, options: DataOptions, limit: int | None = None, *, whole: bool = False
    ) -> Events:
        """Read events for the model to work on.

        Of the run's data, and of named data that have a test split of their own, these are test
        events. Of other files they are all events, however few: one will do.

        Args:
            options: which data, where they are not those of the run.
            limit: take so many, the first; by default all.
            whole: take all events of a file, those of all its splits.

        Raises:
            InputError: as for `data`.
        """
        chosen = self._chosen(options)
        if options.dataset is None or not exists(options.dataset):
            return Events.of_split(self.data(options).test, limit)
        found = all_events(
            chosen,
            self.vae.event_shape,
            self.schema,
            limit,
            unseen=options.unseen or "refuse",
            whole=whole,
        )
        name = chosen.dataset
        _check(self.vae, name, found.x.shape[1:], found.labels is not None)
        names = self.class_names if self.vae.num_classes is not None else None
        return found.renumbered(names, name) if names else found

    def arrays(
        self, options: DataOptions, limit: int | None = None
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Return what `events` reads as arrays, with labels where the model takes them."""
        found = self.events(options, limit)
        return found.x, None if self.vae.num_classes is None else found.labels

    def _chosen(self, options: DataOptions) -> TrainConfig:
        """Return the options to load data with."""
        given = {
            name: value for name, value in dataclasses.asdict(options).items() if value is not None
        }
        given.pop("unseen", None)
        if self.config is None and "dataset" not in given:
            raise InputError(
                f"there is no config.toml beside {self.path} to say which data: give dataset=PATH"
            )
        run = self.config or TrainConfig()
        if "dataset" not in given:
            check_place(
                run,
                "move them back, or name their new place with dataset=PATH",
                is_table=self.schema is not None,
            )
            return dataclasses.replace(run, **given)
        # Other data come without the options that the run's data needed, but for those that say
        # what a value means, and what the splits of the same data in another place depend on.
        is_array = Path(given["dataset"]).suffix in (".npy", ".npz")
        is_table = len(self.vae.event_shape) == 1
        base = TrainConfig(
            kind=_KIND[len(self.vae.event_shape)] if is_array else None,
            value_range=run.value_range if is_array else None,
            missing=self.vae.missing,
            column=run.column if is_table and not is_array else (),
            label=run.label if is_table and not is_array else None,
            drop=run.drop if is_table and not is_array else (),
            image_size=run.image_size,
            background=run.background,
            seed=run.seed,
            folder_labels=run.folder_labels,
            validation=run.validation,
            test=run.test,
        )
        return dataclasses.replace(base, **given)


def _some(names: tuple[str, ...]) -> str:
    return ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")
