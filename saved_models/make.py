"""Make the trained models of this folder anew.

    python saved_models/make.py mnist --data.mnist FOLDER

trains as saved_models/mnist/config.toml says, in runs/saved_models/mnist, which is a run directory
of `tfvae train`, and puts what others need of it beside the configuration: model.keras without its
optimiser, the SavedModel with its card, metrics and pictures. Stopped in whatever way, the same
command goes on where it was. test_images.npz are the first test images, as the model takes them;
their ELBO is in the card, so that whoever loads the model can see that it computes the same. The
table of docs/results.md is what --table prints.
"""

import dataclasses
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Annotated

import cyclopts
import numpy as np
from cyclopts import Parameter

from tfvae.errors import DivergenceError, InputError
from tfvae.saving.config import TrainConfig

FOLDER = Path(__file__).parent
CHECKED = 100  # test images whose ELBO is in the card
SEED = 0  # of its draws
KEPT = (
    "metrics.csv",
    "test.json",
    "samples.png",
    "reconstructions.png",
    "latent.png",
    "curves.png",
)


def names() -> list[str]:
    """List the models that have a configuration."""
    return sorted(path.parent.name for path in FOLDER.glob("*/config.toml"))


def train(name: str, run_dir: Path, data: dict[str, Path]) -> int | None:
    """Train, or go on with what is in the run directory.

    Returns:
        The signal that stopped it, None if none did.

    Raises:
        InputError: if an option or the images do not fit, the checkpoints are damaged, or the
            directory is that of another training.
    """
    from tfvae.cli import job

    wanted = TrainConfig.read(FOLDER / name / "config.toml")
    place = str(data.get(wanted.dataset, wanted.dataset))
    return job.start_or_resume(dataclasses.replace(wanted, dataset=place, run_dir=run_dir)).stopped


def publish(name: str, run_dir: Path) -> None:
    """Put the model of a run into its place here, whole or not at all."""
    import keras

    from tfvae.evaluation import elbo
    from tfvae.saving.card import licence_of
    from tfvae.saving.files import new_directory
    from tfvae.saving.run import TrainedModel, load_data
    from tfvae.serving.export import export_saved_model

    place = FOLDER / name
    dataset = TrainConfig.read(place / "config.toml").dataset
    trained = TrainedModel.open(run_dir)
    card = trained.card()
    vae = keras.models.load_model(run_dir / "model.keras", compile=False)  # without its optimiser
    images, _ = load_data(trained.config).test.arrays(limit=CHECKED)
    score = elbo(vae, [images], seed=SEED)
    # A folder's name says less of the images than the data set's.
    card = dataclasses.replace(
        card,
        data={**card.data, "name": dataset, "licence": licence_of(dataset)},
        metrics={**card.metrics, "test_images.npz": {**dataclasses.asdict(score), "seed": SEED}},
    )
    with new_directory(place, replace=True) as partial:
        shutil.copy(place / "config.toml", partial)
        for file in KEPT:
            shutil.copy(run_dir / file, partial)
        vae.save(partial / "model.keras")
        export_saved_model(vae, partial / "saved_model" / "1", card=card)
        np.savez_compressed(partial / "test_images.npz", images=images)


def table() -> str:
    """Give what the cards say as Markdown."""
    lines = [
        "| directory | images | network, prior | likelihood | d | parameters | test ELBO, nats |",
        "| --- | --- | --- | --- | ---: | ---: | ---: |",
    ]
    for name in names():
        card = json.loads((FOLDER / name / "saved_model/1/card.json").read_text("utf-8"))
        data, model, training, metrics = (
            card[part] for part in ("data", "model", "training", "metrics")
        )
        cells = [
            f"[`{name}`](../saved_models/{name})",
            f"{data['name']}{', binarized' * (training['binarize'] != 'none')}",
            f"`{training['network']}`, `{training['prior']}`",
            f"`{training['likelihood']}`",
            f"{model['latent_dim']}",
            f"{model['parameters']:,}",
            f"{metrics['elbo']:.2f} ± {metrics['standard_error']:.2f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main(
    *chosen: Annotated[str, Parameter(help="Models by name; by default all.")],
    data: Annotated[
        dict[str, Path] | None,
        Parameter(
            help="Where images are: --data.mnist FOLDER and --data.fashion_mnist FOLDER of IDX "
            "files, which TensorFlow Datasets downloads otherwise."
        ),
    ] = None,
    runs: Annotated[Path, Parameter(help="Where run directories go.")] = Path("runs/saved_models"),
    show: Annotated[
        bool,
        Parameter(name="--table", help="Only print the table of results.md.", negative=()),
    ] = False,
) -> None:
    """Train models, and put them into this folder."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if show:
        print(table())
        return
    try:
        for name in chosen or names():
            if name not in names():
                raise InputError(f"no model {name!r}: expected one of {', '.join(names())}")
            run_dir = runs / name
            stopped = train(name, run_dir, data or {})
            if stopped is not None:
                print("stopped: the same command goes on from here", file=sys.stderr)
                sys.exit(128 + stopped)
            publish(name, run_dir)
    except (InputError, DivergenceError) as error:
        sys.exit(f"make: error: {error}")


if __name__ == "__main__":
    cyclopts.run(main)
