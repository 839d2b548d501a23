"""Run directories: what `tfvae train` makes and the other commands read."""

import csv
import dataclasses
import datetime
import json
import math
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfvae import datasets, objectives, plotting
from tfvae.config import DataOptions, TrainConfig
from tfvae.errors import InputError
from tfvae.evaluation import ELBOEstimate, elbo
from tfvae.files import find_model_file, new_file, refuse_existing
from tfvae.model import VAE
from tfvae.priors import VampPrior
from tfvae.training import train

_DEFAULT_STEPS = 1500
_MAP_IMAGES = 5000


def default_run_dir(dataset: str) -> Path:
    """Give runs/DATASET-DATE-TIME."""
    name = re.sub(r"[^\w.-]+", "-", Path(dataset).name) or "data"
    return Path("runs") / f"{name}-{datetime.datetime.now():%Y%m%d-%H%M%S}"


def load_data(options: TrainConfig) -> datasets.Dataset:
    """Load the images that options name."""
    return datasets.load(
        options.dataset,
        binarize=options.binarize,
        dequantize=options.dequantize,
        image_size=options.image_size,
        manual_dir=options.manual_dir,
        seed=options.seed,
    )


def train_run(config: TrainConfig) -> tuple[Path, ELBOEstimate]:
    """Train as `config` says, and fill a new run directory.

    Returns:
        The directory, and the ELBO of the test images.

    Raises:
        InputError: if an option or the images do not fit; nothing is left behind then.
    """
    run_dir = config.run_dir or default_run_dir(config.dataset)
    refuse_existing(run_dir, "choose another --run-dir or remove it first")
    keras.config.set_dtype_policy(config.precision)
    data = load_data(config)
    if config.conditional and not data.has_labels:
        raise InputError(f"{data.name} has no labels for a conditional model")
    vae = VAE.for_images(
        data.image_shape,
        latent_dim=config.latent_dim,
        network=config.network,
        likelihood=config.likelihood,
        posterior=config.posterior,
        prior=config.prior,
        objective=objectives.get(config.objective, {"dataset_size": len(data.train)}),
        num_classes=data.num_classes if config.conditional else None,
        seed=config.seed,
    )
    # Values outside the support show in the first images, before anything is written.
    images, _ = data.train.arrays(limit=256)
    vae.likelihood_family.check(images)
    if isinstance(vae.prior_family, VampPrior):
        images, _ = data.train.arrays(limit=vae.prior_family.pseudo_inputs)
        vae.prior_family.adapt(images)
    steps = data.train.steps(config.batch_size)
    epochs = config.epochs or math.ceil(_DEFAULT_STEPS / steps)
    vae.compile(
        keras.optimizers.Adam(
            keras.optimizers.schedules.CosineDecay(config.learning_rate, steps * epochs)
        )
    )
    device = "GPU" if tf.config.list_physical_devices("GPU") else "CPU"
    print(
        f"{data.name}: {len(data.train)} training, {len(data.validation)} validation and "
        f"{len(data.test)} test images of {' x '.join(map(str, data.image_shape))}; "
        f"{vae.count_params():,} parameters; {epochs} epochs on the {device}; KL "
        + ("in closed form" if vae.kl_is_exact else "estimated from the draws of z"),
        file=sys.stderr,
    )
    run_dir.mkdir(parents=True)
    try:
        options = dataclasses.replace(config, epochs=epochs, run_dir=run_dir)
        (run_dir / "config.toml").write_text(options.to_toml(), encoding="utf-8")
        _train(vae, data, run_dir, epochs, config)
    except InputError:
        shutil.rmtree(run_dir)
        raise
    return run_dir, _finish(vae, data, run_dir, config)


def _train(
    vae: VAE, data: datasets.Dataset, run_dir: Path, epochs: int, config: TrainConfig
) -> None:
    callbacks = [
        keras.callbacks.CSVLogger(str(run_dir / "metrics.csv")),
        keras.callbacks.TensorBoard(str(run_dir / "tensorboard"), write_graph=False),
    ]
    if config.patience is not None:
        callbacks.append(
            keras.callbacks.EarlyStopping(
                "val_elbo", mode="max", patience=config.patience, restore_best_weights=True
            )
        )
    try:
        with datasets.input_errors():
            train(
                vae,
                data.train.batches(config.batch_size, shuffle=True),
                epochs=epochs,
                validation_data=data.validation.batches(config.batch_size),
                callbacks=callbacks,
            )
    except KeyboardInterrupt:
        print("\ninterrupted: keeping the model as it is now", file=sys.stderr)


def _finish(vae: VAE, data: datasets.Dataset, run_dir: Path, config: TrainConfig) -> ELBOEstimate:
    """Save the model, score it on the test images and draw the pictures."""
    with new_file(run_dir / "model.keras") as partial:
        vae.save(partial)
    vae.export(run_dir / "saved_model")
    score = elbo(vae, data.test.batches(config.batch_size), seed=config.seed)
    with new_file(run_dir / "test.json") as partial:
        partial.write_text(json.dumps(dataclasses.asdict(score), indent=2) + "\n")

    images, labels = data.test.arrays(limit=_MAP_IMAGES)
    given = labels if vae.num_classes is not None else None
    samples = vae.sample(64, label=grid_labels(vae, 64), seed=config.seed)
    few = slice(10)
    pictures = {
        "samples": plotting.image_grid(samples),
        "reconstructions": plotting.reconstructions(
            images[few], vae.reconstruct(images[few], None if given is None else given[few])
        ),
        "latent": _latent_map(vae, images, labels),
    }
    history = read_metrics(run_dir)
    if history:
        pictures["curves"] = plotting.curves(history)
    for name, figure in pictures.items():
        with new_file(run_dir / f"{name}.png") as partial:
            figure.savefig(partial, dpi=120)
    return score


def grid_labels(vae: VAE, n: int) -> np.ndarray | None:
    """Give the labels of a grid of samples of a conditional model: a row or so of each."""
    return None if vae.num_classes is None else np.arange(n) * vae.num_classes // n


def _latent_map(vae: VAE, images: np.ndarray, labels: np.ndarray | None) -> Any:
    rows = (images,) if vae.num_classes is None else (images, labels)
    batches = tf.data.Dataset.from_tensor_slices(rows).batch(512)
    codes = np.concatenate([vae.code(*batch) for batch in batches])
    manifold = None
    if vae.latent_dim == 2 and vae.num_classes is None:
        manifold = vae.likelihood_family.mean(vae.decode(plotting.quantile_grid()))
    return plotting.latent_map(codes, labels, manifold)


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
        """Read a run directory or a `.keras` file.

        Raises:
            InputError: if it is neither, or holds no `VAE`.
        """
        file = find_model_file(path)
        try:
            model = keras.models.load_model(file)
        except Exception as error:
            # Keras raises errors of many kinds on a damaged or foreign file.
            reason = " ".join(str(error).split())[:200]
            raise InputError(f"{file} holds no model that can be read: {reason}") from error
        if not isinstance(model, VAE):
            raise InputError(f"expected a tfvae.VAE in {file}; it holds a {type(model).__name__}")
        beside = file.parent / "config.toml"
        return cls(model, file, TrainConfig.read(beside) if beside.is_file() else None)

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
        # Other images come without the options that the run's images needed.
        base = TrainConfig() if self.config is None or "dataset" in given else self.config
        chosen = dataclasses.replace(base, **given)
        data = load_data(chosen)
        if data.image_shape != self.vae.image_shape:
            raise InputError(
                f"the model takes images {self.vae.image_shape}; {chosen.dataset} has "
                f"{data.image_shape}"
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
