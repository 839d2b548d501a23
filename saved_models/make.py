"""Make the trained models of this folder anew.

    python saved_models/make.py mnist --data.mnist FOLDER

trains as saved_models/mnist/config.toml says, in runs/saved_models/mnist, which is a run directory
of `tfvae train`, and puts what others need of it beside the configuration: model.keras, its card,
metrics and pictures. Stopped in whatever way, the same command goes on where it was.
test_events.npz are the first test events, as the model takes them; their ELBO is in the card, so
that whoever loads the model can see that it computes the same. The table of docs/results.md is what
--table prints.

So that a repository does not grow by much with each training, model.keras is the only file of
weights: without its optimiser, the weights rounded to 11 significant bits, which is the precision
of float16 and a hundredth of a nat, and packed by LZMA. What is scored is the rounded model. A
SavedModel is made of it when it is needed, by `tfvae export saved_models/mnist --out served`.
"""

import dataclasses
import json
import os
import shutil
import sys
import zipfile
from pathlib import Path
from typing import Annotated, Any

import cyclopts
import numpy as np
from cyclopts import Parameter

from tfvae.errors import DivergenceError, InputError
from tfvae.saving.config import TrainConfig

FOLDER = Path(__file__).parent
CHECKED = 100  # test events whose ELBO is in the card
CHECKED_FILE = "test_events.npz"
SEED = 0  # of its draws
SIGNIFICANT_BITS = 11
KEPT = (
    "metrics.csv",
    "samples.png",
    "reconstructions.png",
    "latent.png",
    "curves.png",
)


def names() -> list[str]:
    """List the models that have a configuration."""
    return sorted(path.parent.name for path in FOLDER.glob("*/config.toml"))


def kept(config: TrainConfig) -> tuple[str, ...]:
    """List the files of a run that are put beside its model."""
    return (*KEPT, "groups.png") if config.model == "hierarchical" else KEPT


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
    from tfvae.saving.finite import without_nan
    from tfvae.saving.run import TrainedModel, load_data

    place = FOLDER / name
    dataset = TrainConfig.read(place / "config.toml").dataset
    trained = TrainedModel.open(run_dir)
    card = trained.card()
    vae = keras.models.load_model(run_dir / "model.keras", compile=False)  # without its optimiser
    round_weights(vae)
    test = load_data(trained.config, trained.schema).test
    score = dataclasses.asdict(elbo(vae, test, seed=trained.config.seed))
    x, _ = test.arrays(limit=CHECKED)
    checked = dataclasses.asdict(elbo(vae, [x], seed=SEED))
    # A folder's name says less of the events than the data set's.
    card = dataclasses.replace(
        card,
        data={**card.data, "name": dataset, "licence": licence_of(dataset)},
        metrics=without_nan({**score, CHECKED_FILE: {**checked, "seed": SEED}}),
    )
    with new_directory(place, replace=True) as partial:
        shutil.copy(place / "config.toml", partial)
        for file in kept(trained.config):
            shutil.copy(run_dir / file, partial)
        (partial / "test.json").write_text(json.dumps(without_nan(score), indent=2) + "\n")
        vae.save(partial / "model.keras")
        pack(partial / "model.keras")
        card.write(partial, vae, {})
        np.savez_compressed(partial / CHECKED_FILE, x=x)


def round_weights(vae: Any) -> None:
    """Round a model's weights to their first `SIGNIFICANT_BITS`, so that they pack well."""
    import keras

    for weight in vae.weights:
        value = keras.ops.convert_to_numpy(weight)
        if np.issubdtype(value.dtype, np.floating):
            fraction, exponent = np.frexp(value)
            digits = np.round(np.ldexp(fraction, SIGNIFICANT_BITS))
            weight.assign(np.ldexp(digits, exponent - SIGNIFICANT_BITS).astype(value.dtype))


def pack(file: Path) -> None:
    """Write a `.keras` file again, its members packed by LZMA, which Keras reads as it is."""
    with zipfile.ZipFile(file) as archive:
        members = {one: archive.read(one) for one in archive.namelist()}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_LZMA) as archive:
        for name, content in members.items():
            # Without the time, equal models are equal files.
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_LZMA)


def table() -> str:
    """Give what the cards say as Markdown."""
    lines = [
        "| directory | data | network, prior, groups | likelihood | d | parameters | ELBO, nats |",
        "| --- | --- | --- | --- | ---: | ---: | ---: |",
    ]
    for name in names():
        card = json.loads((FOLDER / name / "card.json").read_text("utf-8"))
        data, model, training, metrics = (
            card[part] for part in ("data", "model", "training", "metrics")
        )
        named = (training.get("network", "default"), training["prior"], training.get("groups"))
        cells = [
            f"[`{name}`](../saved_models/{name})",
            f"{data['name']}{', binarized' * (training.get('binarize', 'none') != 'none')}",
            ", ".join(f"`{one}`" for one in named if one),
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
            help="Where events are: --data.mnist FOLDER and --data.fashion_mnist FOLDER of IDX "
            "files, which TensorFlow Datasets downloads otherwise; --data.diamonds FILE and "
            "--data.japanese_vowels FILE."
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
