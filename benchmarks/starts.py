"""What starting at the data's mean and spread is worth: short trainings with it and without.

    python benchmarks/starts.py [--mnist FOLDER] [--faces FILE.npy] [--table FILE.csv]
                                [--series FILE.npz] [--steps 100 300 1000] [--seeds 1]

prints a table: the test ELBO after so many steps of a default training, nats an event, of a model
that `fit` starts at the data and of one that starts with zeros as biases, a head of full size and
a scale of 1; and the seconds of processor time. `digits` needs no file. Files that are not named
are left out.
"""

import argparse
import dataclasses
import time

import keras
import numpy as np
from machine import machine

import tfvae
from tfvae.likelihoods.base import HEAD_SCALE

RATE = 2e-3
BATCH = 128


@dataclasses.dataclass(frozen=True)
class Case:
    """A data set, how it is read, and the likelihood of its events."""

    name: str
    source: str
    likelihood: str
    options: dict = dataclasses.field(default_factory=dict)


def cases(given: argparse.Namespace) -> list[Case]:
    """Return the data sets whose files were given."""
    named = [
        Case("MNIST, binarized", given.mnist, "bernoulli", {"binarize": "dynamic"}),
        Case("MNIST, bytes", given.mnist, "discretized_logistic"),
        Case("digits, 17 levels", "digits", "discretized_logistic:levels=17"),
        Case("digits, grey as a density", "digits", "normal:scale=learned"),
        Case("faces", given.faces, "normal:scale=learned", {"kind": "image"}),
        Case("table", given.table, "columns"),
        Case("series", given.series, "normal:scale=learned"),
    ]
    return [case for case in named if case.source]


def trained(case: Case, adapted: bool, steps: list[int], seed: int) -> tuple[list[float], float]:
    """Train once; return the test ELBO after each number of steps, and seconds of processor."""
    data = tfvae.datasets.load(case.source, seed=seed, **case.options)
    likelihood = data.schema.likelihood() if case.likelihood == "columns" else case.likelihood
    vae = tfvae.VAE.for_events(
        data.event_shape, likelihood=likelihood, missing=data.missing, seed=seed
    )
    if not adapted:
        head = vae.likelihood_family.head
        head.kernel.assign(head.kernel / HEAD_SCALE)
        vae.adapted = True
    vae.compile(keras.optimizers.Adam(RATE))
    # Epochs of so many steps that each stop is the end of one.
    every = int(np.gcd.reduce(steps))
    train = data.train.batches(min(BATCH, len(data.train)), shuffle=True).repeat()
    if adapted:
        vae.adapt(data.train)
    x = data.test.subset(min(1000, len(data.test))).arrays()[0]
    elbos, begun = [], time.process_time()
    for step in range(every, max(steps) + 1, every):
        vae.fit(train, epochs=1, steps_per_epoch=every, verbose=0)
        if step in steps:
            elbos.append(float(np.mean(vae.elbo(x, num_samples=4, seed=1).elbo)))
    return elbos, time.process_time() - begun


def main() -> None:
    """Train what the command line names, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("mnist", "faces", "table", "series"):
        parser.add_argument(f"--{name}")
    parser.add_argument("--steps", type=int, nargs="+", default=[100, 300, 1000])
    parser.add_argument("--seeds", type=int, default=1)
    given = parser.parse_args()
    columns = [f"{step:,} steps" for step in given.steps]
    print(f"On {machine()}; seeds 0 to {given.seeds - 1}.\n")
    print(f"| data | start | {' | '.join(columns)} | CPU seconds |")
    print(f"| --- | --- |{' ---: |' * (len(columns) + 1)}")
    for case in cases(given):
        for adapted in (False, True):
            runs = [trained(case, adapted, given.steps, seed) for seed in range(given.seeds)]
            elbos = np.mean([elbo for elbo, _ in runs], axis=0)
            shown = " | ".join(f"{elbo:.2f}" for elbo in elbos)
            seconds = np.mean([seconds for _, seconds in runs])
            start = "at the data" if adapted else "as made"
            print(f"| {case.name} | {start} | {shown} | {seconds:.0f} |", flush=True)


if __name__ == "__main__":
    main()
