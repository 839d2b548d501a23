"""Anomalies in tables: `tfvae.sklearn.VAEDetector` beside scikit-learn's ways, all by default.

    python benchmarks/tables.py FOLDER [--tables 14 18] [--seeds 5] [--peers PYTHON]

FOLDER holds tables of ADBench (npz files with X and y, y = 1 for an anomaly). Every way is fitted
to all rows without their labels, and scores these; of a table with more than 10,000 rows to as many
of them, drawn by the seed. With the interpreter of an environment that has pyod and torch, PyOD's
detectors stand beside. What has been measured is in the output file, and is not measured again.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler
from table_results import kept, run_peer

from tfvae.sklearn import VAEDetector

_MOST_ROWS = 10_000


def vae(x: np.ndarray, seed: int) -> np.ndarray:
    """Compute −log p(x) by the detector."""
    return -VAEDetector(random_state=seed).fit(x).score_samples(x)


def isolation_forest(x: np.ndarray, seed: int) -> np.ndarray:
    """Compute the score of an isolation forest."""
    return -IsolationForest(random_state=seed).fit(x).score_samples(x)


def pca(x: np.ndarray, seed: int) -> np.ndarray:
    """Compute the squared error of a reconstruction from 90 % of the variance."""
    z = StandardScaler().fit_transform(x)
    fitted = PCA(0.9, random_state=seed).fit(z)
    return np.square(z - fitted.inverse_transform(fitted.transform(z))).sum(axis=1)


def nearest_neighbours(x: np.ndarray, seed: int) -> np.ndarray:
    """Compute the distance to the fifth nearest other row."""
    del seed
    z = StandardScaler().fit_transform(x)
    return NearestNeighbors(n_neighbors=6).fit(z).kneighbors(z)[0][:, -1]


WAYS: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {
    "vae": vae,
    "isolation forest": isolation_forest,
    "pca": pca,
    "k-nn": nearest_neighbours,
}
# Of PyOD, which needs PyTorch beside: see `table_peers`.
PEERS = ("ecod", "pyod vae", "pyod autoencoder")


def peer(name: str, python: str) -> Callable[[np.ndarray, int], np.ndarray]:
    """Return the way that another package has, run by the interpreter that has the package."""

    def score(x: np.ndarray, seed: int) -> np.ndarray:
        with tempfile.TemporaryDirectory() as folder:
            source, out = Path(folder) / "x.npy", Path(folder) / "scores.npy"
            np.save(source, x)
            run_peer(python, "detect", name, seed, source, out)
            return np.load(out)

    return score


def read(path: Path, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of a table and which are anomalies."""
    with np.load(path) as file:
        x, y = file["X"].astype(np.float64), file["y"].astype(int)
    rows = np.random.default_rng(seed).permutation(len(x))[:_MOST_ROWS]
    return x[rows], y[rows]


def measure(
    path: Path, way: Callable[[np.ndarray, int], np.ndarray], seed: int
) -> dict[str, float]:
    """Return the figures of one way on one table."""
    x, y = read(path, seed)
    begun = time.perf_counter()
    score = way(x, seed)
    return {
        "auroc": float(roc_auc_score(y, score)),
        "average_precision": float(average_precision_score(y, score)),
        "seconds": time.perf_counter() - begun,
    }


def report(found: dict[str, dict[str, float]]) -> str:
    """Return a table of AUROC by data set and way, and the mean where all ways have one."""
    ways = [*WAYS, *PEERS]
    figures: dict[str, dict[str, list[float]]] = {}
    for key, figure in found.items():
        table, way, _ = key.split("|")
        figures.setdefault(table, {}).setdefault(way, []).append(figure["auroc"])
    ways = [way for way in ways if any(way in by_way for by_way in figures.values())]
    lines = [f"{'AUROC':20}" + "".join(f"{way:>18}" for way in ways)]
    complete = []
    for table, by_way in sorted(figures.items()):
        means = [float(np.mean(by_way.get(way, [np.nan]))) for way in ways]
        complete += [means] if not np.isnan(means).any() else []
        lines.append(f"{table:20}" + "".join(f"{mean:18.3f}" for mean in means))
    if complete:
        mean = np.mean(complete, axis=0)
        name = f"mean of {len(complete)}"
        lines.append(f"{name:20}" + "".join(f"{one:18.3f}" for one in mean))
    return "\n".join(lines)


def main() -> None:
    """Measure what has not been measured, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tables", nargs="*", help="numbers of tables; by default all")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--peers", help="interpreter of an environment with pyod and torch")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/tables.json"))
    options = parser.parse_args()
    ways = dict(WAYS)
    if options.peers:
        ways |= {name: peer(name, options.peers) for name in PEERS}
    with kept(options.out, "anomalies") as found:
        paths = sorted(options.folder.glob("*.npz"), key=lambda path: path.stat().st_size)
        for seed in range(options.seeds):
            for path in paths:
                if options.tables and path.stem.split("_")[0] not in options.tables:
                    continue
                for name, way in ways.items():
                    found.add(f"{path.stem}|{name}|{seed}", partial(measure, path, way, seed))
        print(report(found.figures))


if __name__ == "__main__":
    main()
