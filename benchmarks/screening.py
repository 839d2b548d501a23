"""What makes a training better for its time: many short trainings that differ in one thing each.

    python benchmarks/screening.py dense --data FOLDER

runs the cases of a study of benchmarks/screening.toml one after the other, each with its seeds,
and writes what came of them into benchmarks/screening.json after each; stopped in whatever way, the
same command goes on with the next one. `FOLDER` holds MNIST's IDX files. --table prints the tables
of docs/results.md.

A study has a base: options of a training whose step size has fallen to its end when the few epochs
are over. A case changes some of them. All are scored on the same images, which were not trained on
and are not MNIST's test images: log p(x) by importance sampling, and what it is more than the
base's by, image by image. As some cases take longer than others, the base is also trained for more
epochs, and a case is compared with what the base reaches in the same processor time: that decides.
"""

import argparse
import dataclasses
import json
import os
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

# One thread: seconds of processor time are seconds of work then.
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")

import numpy as np
from machine import machine

_HERE = Path(__file__)
STUDIES = _HERE.with_suffix(".toml")
RESULTS = _HERE.with_suffix(".json")
BASE = "base"
# Images that are scored, and draws of z for each; a smaller share for what is said of training.
SCORED, DRAWS = 1000, 100


@dataclasses.dataclass(frozen=True)
class Setting:
    """Options of a training: those of `tfvae train`, and some that it does not have.

    Attributes:
        network: encoder and decoder.
        decoder: network that the decoder is taken from, where it is another.
        latent_dim: d.
        groups: those of a hierarchy, as `tfvae train` takes them; none for a flat model.
        posterior: q(z|x).
        prior: p(z).
        objective: what is maximised.
        epochs: passes over 58,000 images.
        batch_size: images in a step.
        optimizer: "adam", or the name of another class of `keras.optimizers`.
        optimizer_options: what it is made with beside step size and average.
        learning_rate: the highest step size.
        warm_up: steps in which it rises.
        decay: how it falls: "cosine", "stages" or "none", as in `tfvae train`.
        average: momentum of the average of weights, 0 for none.
        binarize: "dynamic" for a draw each epoch, "static" for one.
        initial: "as made", or "glorot_uniform" for all kernels of encoder and decoder.
        start: whether the training starts at the mean of the data.
        dropout: share of the encoder's features that are left out.
        precision: what the networks compute in.
    """

    network: str
    latent_dim: int
    epochs: int
    batch_size: int
    learning_rate: float
    decoder: str = ""
    groups: str = ""
    posterior: str = "normal"
    prior: str = "standard_normal"
    objective: str = "elbo"
    optimizer: str = "adam"
    optimizer_options: dict[str, Any] = dataclasses.field(default_factory=dict)
    warm_up: int = 0
    decay: str = "cosine"
    average: float = 0.0
    binarize: str = "dynamic"
    initial: str = "as made"
    start: bool = True
    dropout: float = 0.0
    precision: str = "float32"


def studies() -> dict[str, dict[str, Any]]:
    """Read the studies: of each its title, the options of its base, and its cases by name."""
    return tomllib.loads(STUDIES.read_text("utf-8"))


def results() -> list[dict[str, Any]]:
    """Read what has been run so far."""
    return json.loads(RESULTS.read_text("utf-8")) if RESULTS.exists() else []


# --- one training ---------------------------------------------------------------------------------


def _flat_model(setting: Setting, event_shape: tuple[int, ...], seed: int) -> Any:
    import keras

    import tfvae
    from tfvae import networks

    make = networks.pair
    encoder, decoder = make(setting.network, event_shape, setting.latent_dim, seed=seed)
    if setting.decoder:
        _, decoder = make(setting.decoder, event_shape, setting.latent_dim, seed=seed)
    if setting.initial != "as made":
        kernels = [one for one in [*encoder.weights, *decoder.weights] if one.name == "kernel"]
        for number, kernel in enumerate(kernels):
            chosen = keras.initializers.GlorotUniform(seed=1_000 * seed + number)
            kernel.assign(chosen(kernel.shape))
    if setting.dropout:
        features = keras.layers.Dropout(setting.dropout, seed=seed)(encoder.output)
        encoder = keras.Model(encoder.input, features)
    return tfvae.VAE(
        encoder,
        decoder,
        setting.latent_dim,
        likelihood=tfvae.likelihoods.of_features("bernoulli"),
        posterior=setting.posterior,
        prior=setting.prior,
        objective=setting.objective,
        seed=seed,
    )


def _model(setting: Setting, event_shape: tuple[int, ...], updates: int, seed: int) -> Any:
    import keras

    import tfvae
    from tfvae.cli import job
    from tfvae.models.adam import FusedAdam
    from tfvae.saving.config import TrainConfig

    keras.config.set_dtype_policy(setting.precision)
    if setting.groups:
        vae = tfvae.HierarchicalVAE.for_events(
            event_shape,
            groups=setting.groups,
            latent_dim=setting.latent_dim,
            network=setting.network,
            posterior=setting.posterior,
            prior=setting.prior,
            objective=setting.objective,
            seed=seed,
        )
    else:
        vae = _flat_model(setting, event_shape, seed)
    rate = job.learning_rate(
        TrainConfig(
            learning_rate=setting.learning_rate, warm_up=setting.warm_up, decay=setting.decay
        ),
        updates,
    )
    kind = (
        FusedAdam if setting.optimizer == "adam" else getattr(keras.optimizers, setting.optimizer)
    )
    average = {"use_ema": True, "ema_momentum": setting.average} if setting.average else {}
    vae.compile(kind(rate, **average, **setting.optimizer_options))
    vae.adapted = not setting.start
    return vae


def train_and_score(setting: Setting, folder: Path, seed: int) -> tuple[dict[str, Any], np.ndarray]:
    """Train once.

    Returns:
        Figures, and log p(x) of each image that was scored.
    """
    import keras

    import tfvae
    from tfvae.training import train

    class Clock(keras.callbacks.Callback):
        """Processor seconds at the end of each epoch."""

        def __init__(self) -> None:
            super().__init__()
            self.ends: list[float] = []

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            """Note the time."""
            self.ends.append(time.process_time())

    keras.utils.set_random_seed(seed)
    # The same images are kept from all trainings, and drawn once.
    data = tfvae.datasets.load(str(folder), binarize=setting.binarize, validation=2000, seed=0)
    batches = tfvae.datasets.Batches(data.train, setting.batch_size, shuffle=True)
    vae = _model(setting, data.event_shape, len(batches) * setting.epochs, seed)
    clock = Clock()
    begun = time.process_time()
    train(vae, batches, epochs=setting.epochs, callbacks=[clock], progress=False)
    # The first epoch builds the graph as well.
    paced = clock.ends[-1] - clock.ends[0]
    seconds = (
        paced * setting.epochs / (setting.epochs - 1)
        if setting.epochs > 1
        else clock.ends[0] - begun
    )
    held = data.validation.arrays(limit=SCORED)[0]
    seen = data.train.arrays(limit=SCORED)[0]
    marginal = tfvae.evaluation.log_prob(vae, [held], num_samples=DRAWS, seed=1)
    elbo = tfvae.evaluation.elbo(vae, [held], seed=1)
    fitted = tfvae.evaluation.elbo(vae, [seen], seed=1)
    return {
        "log_prob": round(marginal.log_prob, 3),
        "elbo": round(elbo.elbo, 3),
        "kl": round(elbo.kl, 3),
        "overfit": round(fitted.elbo - elbo.elbo, 3),
        "seconds": round(seconds, 3),
        "parameters": vae.count_params(),
        "hardware": machine(),
    }, marginal.log_probs


# --- a study --------------------------------------------------------------------------------------


def run(study: str, folder: Path, kept: Path, until: float) -> None:
    """Run the cases of a study that have no result yet.

    Args:
        study: its name.
        folder: MNIST's files.
        kept: directory that keeps log p(x) image by image, for the differences.
        until: seconds since the epoch after which no other case begins.
    """
    import keras

    described = studies()[study]
    kept.mkdir(parents=True, exist_ok=True)
    cases = {BASE: {}, **described["cases"]}
    for name, changes in cases.items():
        for seed in changes.get("seeds", [0]):
            done = results()
            if any((one["study"], one["case"], one["seed"]) == (study, name, seed) for one in done):
                continue
            if time.time() > until:
                return
            options = {key: value for key, value in changes.items() if key != "seeds"}
            setting = Setting(**{**described["base"], **options})
            print(f"{study}: {name}, seed {seed}", file=sys.stderr, flush=True)
            try:
                found, values = train_and_score(setting, folder, seed)
                np.save(kept / f"{study}-{name}-{seed}.npy".replace("/", "_"), values)
                base = kept / f"{study}-{BASE}-0.npy"
                if base.exists():
                    difference = values - np.load(base)
                    found["gain"] = round(float(difference.mean()), 3)
                    found["gain_error"] = round(float(difference.std() / len(difference) ** 0.5), 3)
            except Exception as error:  # a case that fails is a result
                found = {"failed": " ".join(str(error).split())[:200]}
            print(found, file=sys.stderr, flush=True)
            done = [*results(), {"study": study, "case": name, "seed": seed, **found}]
            RESULTS.write_text(json.dumps(done, indent=1) + "\n", "utf-8")
            keras.backend.clear_session()


# --- the tables -----------------------------------------------------------------------------------


def at_equal_time(base: list[tuple[float, float]], seconds: float) -> float:
    """Return log p(x) that the base reaches in so many seconds.

    Args:
        base: seconds and log p(x) of the base's trainings of several lengths.
        seconds: between them it is linear in the logarithm, and beyond them goes on like that.
    """
    times, values = (np.array(one) for one in zip(*sorted(base), strict=True))
    if len(times) == 1:
        return float(values[0])
    at = int(np.clip(np.searchsorted(times, seconds) - 1, 0, len(times) - 2))
    slope = (values[at + 1] - values[at]) / np.log(times[at + 1] / times[at])
    return float(values[at] + slope * np.log(seconds / times[at]))


def table() -> str:
    """Return all results as Markdown, a table a study."""
    lines: list[str] = []
    found = results()
    for study, described in studies().items():
        rows = [one for one in found if one["study"] == study]
        if not rows:
            continue
        base = [
            (one["seconds"], one["log_prob"])
            for one in rows
            if one["case"].startswith(BASE) and "failed" not in one
        ]
        lines += [
            *([""] if lines else []),
            f"**{described['title']}**",
            "",
            "| case | log p(x) | against the base | CPU seconds | at equal time | KL | overfit |",
            "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
        ]
        for one in rows:
            label = one["case"] if not one["seed"] else f"{one['case']}, seed {one['seed']}"
            if "failed" in one:
                lines.append(f"| {label} | failed: {one['failed']} | | | | | |")
                continue
            # Where the base ran on another machine its values image by image are not there.
            gain = f"{one['gain']:+.2f} ± {one['gain_error']:.2f}" if "gain" in one else ""
            equal = one["log_prob"] - at_equal_time(base, one["seconds"])
            lines.append(
                f"| {label} | {one['log_prob']:.2f} | {gain} "
                f"| {one['seconds']:.0f} | {equal:+.2f} | {one['kl']:.1f} | {one['overfit']:.2f} |"
            )
    return "\n".join(lines)


def main() -> None:
    """Run studies, or print their tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("studies", nargs="*", help=f"of {', '.join(studies())}")
    parser.add_argument("--data", type=Path, help="folder of MNIST's IDX files")
    parser.add_argument("--kept", type=Path, default=Path("runs/screening"))
    parser.add_argument("--hours", type=float, default=float("inf"), help="begin none after these")
    parser.add_argument("--table", action="store_true", help="print the tables")
    given = parser.parse_args()
    for name in given.studies:
        if name not in studies():
            parser.error(f"no study {name!r}: expected one of {', '.join(studies())}")
    if given.studies and given.data is None:
        parser.error("expected --data FOLDER")
    until = time.time() + 3600 * given.hours
    for name in given.studies:
        run(name, given.data, given.kept, until)
    if given.table:
        print(table())


if __name__ == "__main__":
    main()
