"""``tfvae train``."""

import dataclasses
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from tfvae.cli.options import AsJson
from tfvae.cli.outputs import show
from tfvae.cli.reading import read_only
from tfvae.errors import InputError
from tfvae.quiet import load_for_command
from tfvae.saving.config import TrainConfig

if TYPE_CHECKING:
    from tfvae.cli.job import Done
    from tfvae.evaluation import ELBOEstimate


def train(
    *,
    config: Annotated[
        Path | None, Parameter(help="TOML file with any of the options below.")
    ] = None,
    resume: Annotated[
        Path | None,
        Parameter(
            help="Go on with the training of this run directory, which was stopped or has crashed; "
            "its own options hold."
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        Parameter(
            help="Read the data as for a training and say what was read, but train nothing: what "
            "tfvae data does, but for its picture.",
            negative=(),
        ),
    ] = False,
    options: TrainConfig = TrainConfig(),  # noqa: B008 - frozen
    as_json: AsJson = False,
) -> None:
    """Train a VAE on images, series, volumes, vectors or a table; fill a run directory.

    It holds config.toml, metrics.csv, model.keras, saved_model/, test.json,
    checkpoints/, tensorboard/ and pictures: samples.png, reconstructions.png,
    latent.png (of --model vq codes.png), curves.png.

    Ctrl-C ends the training and keeps the model as it is; SIGTERM only writes a
    checkpoint. Either can be gone on from with --resume, as can a crash.

    Where TF_CONFIG names several workers, run the same command in each. They share
    out the files of a pattern: --dataset 'parts/*.parquet'.
    """
    from tfvae.saving.files import refuse_existing

    if dry_run:
        if resume is not None:
            raise InputError("--dry-run shows the data of a new training: leave out --resume")
        read_only(options, as_json)
        return
    if resume is not None and (config is not None or options != TrainConfig()):
        raise InputError("--resume goes on with the options of the run: leave the others out")
    if options.run_dir is not None and "TF_CONFIG" not in os.environ:
        refuse_existing(options.run_dir, "choose another --run-dir or remove it first")
    # Workers have to find each other before a device starts.
    load_for_command(devices="TF_CONFIG" not in os.environ)
    from tfvae.cli import job

    done = job.start(options) if resume is None else job.resume(resume)
    run_dir, score = done.run_dir, done.score
    if score is not None:
        facts = {
            "run_dir": str(run_dir),
            **dataclasses.asdict(score),
            "active_units": done.active and done.active[0],
            "warnings": list(done.warnings),
        }
        if done.usage is not None:
            facts |= {"perplexity": done.usage.perplexity, "codes_used": done.usage.used}
        show(facts, as_json, _summary(done, score))
    for warning in done.warnings:
        print(f"tfvae: warning: {warning}", file=sys.stderr)
    if done.stopped is not None:
        print(f"stopped: tfvae train --resume {run_dir} goes on from here", file=sys.stderr)
        # As a shell sees a program that a signal ended; a model that was kept is a success.
        sys.exit(0 if score is not None else 128 + done.stopped)


def _summary(done: "Done", score: "ELBOEstimate") -> str:
    """Return what to say at the end of a training."""
    run_dir, usage = done.run_dir, done.usage
    # Models of codes have other pictures, and fewer commands.
    if usage is None:
        name, kl, picture = "ELBO", f"KL {score.kl:.2f}", "latent"
        used = "; {} of {} latent dimensions in use".format(*done.active) if done.active else ""
        more = [
            f"tfvae traverse {run_dir} --out walk.png",
            f"tfvae explore {run_dir}",
        ]
    else:
        name, kl, picture = "bound", f"log p(codes) {-score.kl:.2f}", "codes"
        used = f"; perplexity {usage.perplexity:.1f} of {usage.counts.shape[1]} codes"
        more = [f"tfvae sample {run_dir} --temperature 0.8 --out likelier.png"]
    return "\n".join(
        [
            "",
            f"test {name:6} {score.elbo:.2f} ± {score.standard_error:.2f} nats per event "
            f"({score.events} events):",
            f"            log-likelihood {score.log_likelihood:.2f}, {kl}{used}",
            f"run         {run_dir}: model.keras, saved_model/, metrics.csv, config.toml, "
            "tensorboard/",
            f"pictures    samples.png, reconstructions.png, {picture}.png, curves.png in the same "
            "place",
            f"try next    tfvae sample {run_dir} --out samples.png",
            *(f"            {line}" for line in more),
            f"            tfvae evaluate {run_dir}",
            f"            tfvae export {run_dir} --out my_model",
        ]
    )
