"""What starting at the data's mean and spread is worth: short trainings with it and without.

    python benchmarks/starts.py [--mnist FOLDER] [--fashion FOLDER] [--faces FILE.npy]
                                [--table FILE.csv] [--series FILE.npz] [--steps 100 300 1000]
                                [--seeds 1] [--out FILE.json]

prints a table: the test ELBO after so many steps of Adam, nats an event, of a model that `fit`
starts at the data and of one as it was made before there were starts: zeros as biases, a head of
full size, a learned scale of 1 that moves by the step size; the best of every 100 steps, as small
sets are learned by heart; and the seconds of processor time. `digits` needs no file. Files that are
not named are left out. `orl_faces.py` makes faces.
"""

import argparse
import contextlib
import dataclasses
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
from machine import machine

import tfvae
from tfvae.likelihoods.base import HEAD_SCALE, FreeScale

RATE = 2e-3
BATCH = 128
EVERY = 100


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
        Case("BasicMotions", given.series, "normal:scale=learned"),
        Case("faces", given.faces, "normal:scale=learned", {"kind": "image"}),
        Case("diamonds", given.table, "columns"),
        Case("digits, 17 levels", "digits", "discretized_logistic:levels=17"),
        Case("digits, grey as a density", "digits", "normal:scale=learned"),
        Case("MNIST, binarized", given.mnist, "bernoulli", {"binarize": "dynamic"}),
        Case("Fashion-MNIST, bytes", given.fashion, "discretized_logistic"),
        Case("MNIST, bytes", given.mnist, "discretized_logistic"),
    ]
    return [case for case in named if case.source]


@contextlib.contextmanager
def scales_of_before(are: bool) -> Iterator[None]:
    """Let learned scales move as slowly as other weights do, if `are`."""
    speed = FreeScale.SPEED
    FreeScale.SPEED = 1.0 if are else speed
    try:
        yield
    finally:
        FreeScale.SPEED = speed


def trained(case: Case, adapted: bool, steps: int, seed: int) -> tuple[list[float], float]:
    """Train once; return the test ELBO after every 100 steps, and seconds of processor."""
    data = tfvae.datasets.load(case.source, seed=seed, **case.options)
    likelihood = data.schema.likelihood() if case.likelihood == "columns" else case.likelihood
    vae = tfvae.VAE.for_events(
        data.event_shape, likelihood=likelihood, missing=data.missing, seed=seed
    )
    vae.compile(keras.optimizers.Adam(RATE))
    if adapted:
        vae.adapt(data.train)
    else:
        head = vae.likelihood_family.head
        head.kernel.assign(head.kernel / HEAD_SCALE)
        vae.adapted = True
    train = data.train.batches(min(BATCH, len(data.train)), shuffle=True).repeat()
    x = data.test.subset(min(1000, len(data.test))).arrays()[0]
    elbos, begun = [], time.process_time()
    for _ in range(0, steps, EVERY):
        vae.fit(train, epochs=1, steps_per_epoch=EVERY, verbose=0)
        elbos.append(float(np.mean(vae.elbo(x, num_samples=4, seed=1).elbo)))
    return elbos, time.process_time() - begun


def measured(case: Case, adapted: bool, given: argparse.Namespace) -> dict[str, Any]:
    """Return what the table shows of a data set and a start."""
    with scales_of_before(not adapted):
        runs = [trained(case, adapted, max(given.steps), seed) for seed in range(given.seeds)]
    elbos = np.mean([elbos for elbos, _ in runs], axis=0)
    best = int(np.argmax(elbos))
    return {
        "data": case.name,
        "start": "at the data" if adapted else "as before",
        "elbo": {str(step): round(elbos[step // EVERY - 1], 2) for step in given.steps},
        "best": round(elbos[best], 2),
        "best_step": (best + 1) * EVERY,
        "seconds": round(float(np.mean([seconds for _, seconds in runs]))),
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Return the rows as a table of Markdown."""
    steps = [f"{int(step):,} steps" for step in rows[0]["elbo"]]
    lines = [["data", "start", *steps, "best (steps)", "CPU seconds"]]
    lines.append(["---", "---", *["---:"] * (len(steps) + 2)])
    for found in rows:
        cells = [f"{elbo:,.2f}" for elbo in found["elbo"].values()]
        best = f"{found['best']:,.2f} ({found['best_step']:,})"
        lines.append([found["data"], found["start"], *cells, best, str(found["seconds"])])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    """Train what the command line names, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("mnist", "fashion", "faces", "table", "series"):
        parser.add_argument(f"--{name}")
    parser.add_argument("--steps", type=int, nargs="+", default=[100, 300, 1000])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    if any(step < 1 or step % EVERY for step in given.steps):
        parser.error(f"--steps are multiples of {EVERY}")
    print(f"On {machine()}; seeds 0 to {given.seeds - 1}.\n")
    rows: list[dict[str, Any]] = []
    for case in cases(given):
        for adapted in (False, True):
            rows.append(measured(case, adapted, given))
            head, last = table(rows).splitlines()[:2], table(rows).splitlines()[-1]
            print("\n".join([*head, last] if len(rows) == 1 else [last]), flush=True)
            if given.out is not None:
                facts = {"machine": machine(), "seeds": given.seeds, "rows": rows}
                given.out.write_text(f"{json.dumps(facts, indent=1)}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
