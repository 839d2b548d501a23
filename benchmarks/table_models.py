"""Holes, made-up rows and log p(x) of tables, beside other packages.

    python benchmarks/table_models.py holes TABLES [--seeds 5] [--tables iris wine]
    python benchmarks/table_models.py rows TABLES [--seeds 5] [--peers PYTHON]

TABLES is a folder with diamonds.csv and flchain.csv; the others are scikit-learn's. PYTHON is an
interpreter that has ctgan. The second measures log p(x) too, of the same models. What has been
measured is in the output file, and is not measured again; `table_pages.py` prints it.
"""

import argparse
import functools
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
from sklearn import datasets as bundled
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestRegressor,
)
from sklearn.experimental import enable_iterative_imputer  # noqa: F401 - makes the next one known
from sklearn.impute import IterativeImputer, KNNImputer, SimpleImputer
from sklearn.metrics import r2_score, roc_auc_score
from sklearn.model_selection import cross_val_predict
from table_results import Kept, Peer

import tfvae
from tfvae.sklearn import VAEImputer

_MOST_ROWS = 5_000
HOLES = ("iris", "wine", "breast_cancer", "diabetes", "diamonds")
# What a model of made-up rows foretells of real ones.
TARGETS: dict[str, str] = {"diamonds": "price", "flchain": "death"}


# --- holes ----------------------------------------------------------------------------------------


def numbers(name: str, folder: Path, seed: int) -> np.ndarray:
    """Return the numbers of a table, standardised."""
    if name == "diamonds":
        x = (
            pd.read_csv(folder / "diamonds.csv", index_col=0)
            .select_dtypes("number")
            .to_numpy(float)
        )
    else:
        x = getattr(bundled, f"load_{name}")().data.astype(float)
    x = x[np.random.default_rng(seed).permutation(len(x))[:_MOST_ROWS]]
    return (x - x.mean(axis=0)) / x.std(axis=0)


def imputers(seed: int) -> dict[str, Any]:
    """Return the ways to fill holes."""
    forest = RandomForestRegressor(30, max_features="sqrt", random_state=seed)
    return {
        "vae": VAEImputer(random_state=seed),
        "mean": SimpleImputer(),
        "k-nn": KNNImputer(),
        "iterative": IterativeImputer(random_state=seed),
        "missforest": IterativeImputer(forest, max_iter=5, random_state=seed),
    }


def fill(name: str, folder: Path, share: float, way: str, seed: int) -> dict[str, float]:
    """Return the squared error of filled values, in variances of their column."""
    x = numbers(name, folder, seed)
    missing = np.random.default_rng(seed + 1).random(x.shape) < share
    holes = np.where(missing, np.nan, x)
    begun = time.perf_counter()
    imputer = imputers(seed)[way]
    filled = imputer.fit_transform(holes)
    figures = {
        "squared_error": float(np.square(filled - x)[missing].mean()),
        "seconds": time.perf_counter() - begun,
    }
    if way == "vae":
        figures["coverage"] = coverage(imputer, holes, x, missing, seed)
    return figures


def coverage(
    imputer: VAEImputer, holes: np.ndarray, x: np.ndarray, missing: np.ndarray, seed: int
) -> float:
    """Return how often the 90 % interval of 100 completions holds the true value, of 500 rows."""
    some = slice(0, 500)
    z = ((holes[some] - imputer.mean_) / imputer.scale_).astype("float32")
    vae = imputer.vae_
    draws = np.concatenate(
        [
            np.asarray(vae.impute(z[start : start + 50], draws=100, seed=seed))
            for start in range(0, len(z), 50)
        ],
        axis=1,
    )
    low, high = np.quantile(draws * imputer.scale_ + imputer.mean_, [0.05, 0.95], axis=0)
    inside = (low <= x[some]) & (x[some] <= high)
    return float(inside[missing[some]].mean())


# --- made-up rows ---------------------------------------------------------------------------------


def table(name: str, folder: Path, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the rows to learn from and the rows to compare with."""
    frame = pd.read_csv(folder / f"{name}.csv", index_col=0)
    if name == "flchain":
        frame = frame.drop(columns="chapter")  # known of the dead alone
    frame = frame.dropna().sample(frac=1, random_state=seed)[: 2 * _MOST_ROWS]
    frame = frame.reset_index(drop=True)
    half = len(frame) // 2
    return frame[:half], frame[half:]


@functools.lru_cache(maxsize=1)
def trained(name: str, folder: Path, seed: int) -> tuple[tfvae.VAE, tfvae.datasets.Dataset, float]:
    """Return a model of a table with the library's defaults, its data, and the processor time."""
    frame, _ = table(name, folder, seed)
    begun = time.process_time()
    data = tfvae.datasets.load(frame, seed=seed, validation=0.05, test=0.05)
    vae = tfvae.VAE.for_events(
        data.event_shape, likelihood=data.schema.likelihood(), missing=data.missing, seed=seed
    )
    batches = data.train.batches(128, shuffle=True, drop_remainder=True)
    epochs = -(-3000 // data.train.steps(128, drop_remainder=True))
    steps = epochs * data.train.steps(128, drop_remainder=True)
    vae.compile(
        keras.optimizers.Adam(
            keras.optimizers.schedules.CosineDecay(2e-3, steps), global_clipnorm=10.0
        )
    )
    vae.fit(batches, epochs=epochs, verbose=0)
    return vae, data, time.process_time() - begun


Made = tuple[pd.DataFrame, float]


def by_vae(name: str, folder: Path, seed: int, *, ex_post: bool) -> Made:
    """Return as many rows as there were to learn from, made up, and the processor time."""
    vae, data, seconds = trained(name, folder, seed)
    begun = time.process_time()
    if ex_post:
        prior = tfvae.evaluation.fit_prior(vae, data.train.batches(256), "gaussian_mixture")
        vae = vae.with_prior(prior)
    x = vae.sample(len(table(name, folder, seed)[0]), mean=False, seed=seed)
    return data.schema.to_frame(x, within_range=True), seconds + time.process_time() - begun


def by_tvae(name: str, folder: Path, seed: int, *, peer: Peer) -> Made:
    """Return as many rows as there were to learn from, made up by ctgan's TVAE.

    Numbers are rounded to the digits that the table has, and moved into its range, as SDV does
    with what this package makes up, and as this library's rows are.
    """
    frame, _ = table(name, folder, seed)
    categories = [column for column in frame if _is_few(frame[column])]
    with tempfile.TemporaryDirectory() as place:
        source, out = Path(place) / "x.csv", Path(place) / "y.csv"
        frame.to_csv(source, index=False)
        seconds = peer.ask("rows", seed, len(frame), source, out, categories)
        made_up = pd.read_csv(out, dtype={column: frame[column].dtype for column in categories})
    for column in frame.columns.difference(categories):
        values = frame[column]
        digits = next(n for n in range(17) if np.allclose(values, values.round(n)))
        made_up[column] = made_up[column].clip(values.min(), values.max()).round(digits)
    return made_up, seconds


def _is_few(values: pd.Series) -> bool:
    """Whether a column is one of categories: of text, or of few whole numbers."""
    kind = values.dtype.kind
    return kind != "f" and (kind not in "iu" or values.nunique() <= 10)


def compare(
    name: str, folder: Path, make: Callable[[str, Path, int], Made], seed: int
) -> dict[str, float]:
    """Return how like real rows made-up ones are: four figures, and the time to make them."""
    learnt, held_out = table(name, folder, seed)
    made_up, seconds = make(name, folder, seed)
    levels = {
        column: sorted(map(str, set(learnt[column]) | set(held_out[column])))
        for column in learnt
        if _is_few(learnt[column])
    }

    def coded(frame: pd.DataFrame) -> np.ndarray:
        values = [
            frame[column].astype(str).map({level: n for n, level in enumerate(levels[column])})
            if column in levels
            else frame[column]
            for column in learnt
        ]
        return np.stack([np.asarray(column, float) for column in values], axis=1)

    real, false, basis = coded(held_out), coded(made_up), coded(learnt)
    both = np.concatenate([real, false])
    is_false = np.repeat([0, 1], [len(real), len(false)])
    told = cross_val_predict(
        HistGradientBoostingClassifier(random_state=0), both, is_false, cv=3, method="predict_proba"
    )[:, 1]
    target = list(learnt).index(TARGETS[name])
    return {
        "columns": float(np.mean([_alike(real[:, i], false[:, i]) for i in range(real.shape[1])])),
        "pairs": _pairs_alike(real, false),
        "told_apart": float(roc_auc_score(is_false, told)),
        "foretold": _foretold(false, real, target, TARGETS[name] in levels),
        "foretold_by_real": _foretold(basis, real, target, TARGETS[name] in levels),
        "seconds": seconds,
    }


def _alike(one: np.ndarray, other: np.ndarray) -> float:
    """Return 1 less the largest difference of distribution functions, or of probabilities."""
    values = np.unique(np.concatenate([one, other]))
    if len(values) <= 10:
        shares = [np.mean(one == value) - np.mean(other == value) for value in values]
        return 1 - float(np.abs(shares).sum()) / 2
    below = [np.searchsorted(np.sort(x), values, side="right") / len(x) for x in (one, other)]
    return 1 - float(np.abs(below[0] - below[1]).max())


def _pairs_alike(one: np.ndarray, other: np.ndarray) -> float:
    """Return 1 less half of the mean difference of rank correlations."""
    places = np.triu_indices(one.shape[1], 1)
    found = [pd.DataFrame(x).rank().corr().to_numpy()[places] for x in (one, other)]
    return 1 - float(np.nanmean(np.abs(found[0] - np.nan_to_num(found[1])))) / 2


def _foretold(learnt: np.ndarray, real: np.ndarray, target: int, is_class: bool) -> float:
    """Return the R² or AUROC on real rows of a model that was trained on others."""
    x, y = np.delete(learnt, target, axis=1), learnt[:, target]
    z, truth = np.delete(real, target, axis=1), real[:, target]
    # A column that was made up as one value tells nothing.
    varies = np.array([len(np.unique(column[~np.isnan(column)])) > 1 for column in x.T])
    x, z = x[:, varies], z[:, varies]
    if not is_class:
        return float(
            r2_score(truth, HistGradientBoostingRegressor(random_state=0).fit(x, y).predict(z))
        )
    if len(np.unique(y)) < 2:
        return 0.5
    model = HistGradientBoostingClassifier(random_state=0).fit(x, y)
    return float(roc_auc_score(truth, model.predict_proba(z)[:, 1]))


# --- log p(x) -------------------------------------------------------------------------------------


def log_p(name: str, folder: Path, seed: int) -> dict[str, float]:
    """Return the mean of log p(x) of held-out rows, in the table's own units, and its error."""
    _, held_out = table(name, folder, seed)
    vae, data, _ = trained(name, folder, seed)
    x = data.schema.to_events(held_out[:2000], unseen="missing" if data.missing else "refuse")
    found = tfvae.evaluation.log_prob(vae, x, num_samples=500, seed=seed)
    values = np.asarray(found.log_probs, float) + data.schema.log_abs_det_jacobian(x)
    return {
        "log_p": float(values.mean()),
        "standard_error": float(values.std() / np.sqrt(len(values))),
        "columns": float(x.shape[1]),
    }


def main() -> None:
    """Measure what has not been measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["holes", "rows"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tables", nargs="*", help="names of tables; by default all")
    parser.add_argument("--ways", nargs="*", help="names of ways to make rows up; by default all")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--peers", help="interpreter of an environment with ctgan")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/tables.json"))
    options = parser.parse_args()
    folder = options.folder
    if options.what == "holes":
        holes = Kept(options.out, "holes")
        for seed in range(options.seeds):
            for name in options.tables or HOLES:
                for share in (0.2, 0.5):
                    for way in imputers(seed):
                        key = f"{name}|{share}|{way}|{seed}"
                        holes.add(key, partial(fill, name, folder, share, way, seed))
        return
    ways: dict[str, Callable[[str, Path, int], Made]] = {
        "vae": partial(by_vae, ex_post=False),
        "vae, ex-post mixture": partial(by_vae, ex_post=True),
    }
    if options.peers:
        ways["tvae"] = partial(by_tvae, peer=Peer(options.peers))
    ways = {way: make for way, make in ways.items() if way in (options.ways or ways)}
    rows, found = Kept(options.out, "rows"), Kept(options.out, "log-p")
    for seed in range(options.seeds):
        for name in options.tables or TARGETS:
            for way, make in ways.items():
                rows.add(f"{name}|{way}|{seed}", partial(compare, name, folder, make, seed))
            if "vae" in ways:
                found.add(f"{name}|{seed}", partial(log_p, name, folder, seed))


if __name__ == "__main__":
    main()
