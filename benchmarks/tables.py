"""Anomalies in tables: `tfvae.sklearn.VAEDetector` beside scikit-learn's ways, all by default.

    python benchmarks/tables.py FOLDER [--tables 14 18] [--rows 10000] [--seeds 5]
        [--peers PYTHON]

FOLDER holds tables of ADBench (npz files with X and y, y = 1 for an anomaly). Every way is fitted
to all rows without their labels, and scores these; of a table with more than --rows to as many of
them, drawn by the seed. With the interpreter of an environment that has pyod and torch, PyOD's
detectors stand beside. What has been measured is in the output file, and is not measured again;
`table_pages.py` prints it.
"""

import argparse
import itertools
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from sklearn.ensemble import IsolationForest
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler
from table_results import Kept, Peer

from tfvae.sklearn import VAEDetector


def vae(x: np.ndarray, seed: int) -> np.ndarray:
    """Compute −log p(x) by the detector."""
    return -VAEDetector(random_state=seed).fit(x).score_samples(x)


def isolation_forest(x: np.ndarray, seed: int) -> np.ndarray:
    """Compute the score of an isolation forest."""
    return -IsolationForest(random_state=seed).fit(x).score_samples(x)


def nearest_neighbours(x: np.ndarray, seed: int) -> np.ndarray:
    """Compute the distance to the fifth nearest other row."""
    del seed
    z = StandardScaler().fit_transform(x)
    return NearestNeighbors(n_neighbors=6).fit(z).kneighbors(z)[0][:, -1]


WAYS: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {
    "vae": vae,
    "isolation forest": isolation_forest,
    "k-nn": nearest_neighbours,
}
# Of PyOD, which needs PyTorch beside: see `table_peers`.
PEERS = ("ecod", "pyod pca", "pyod vae", "pyod autoencoder")


# They compute the same with every seed, from the same rows.
EXACT = ("k-nn", "ecod", "pyod pca")


def by_peer(peer: Peer, name: str, x: np.ndarray, seed: int) -> tuple[np.ndarray, float]:
    """Return the scores by a way of PyOD, and the processor time."""
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder) / "x.npy", Path(folder) / "scores.npy"
        np.save(source, x)
        seconds = peer.ask("detect", name, seed, source, out)
        return np.load(out), seconds


def read(path: Path, most: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of a table and which are anomalies."""
    with np.load(path) as file:
        x, y = file["X"].astype(np.float64), file["y"].astype(int)
    rows = np.random.default_rng(seed).permutation(len(x))[:most]
    return x[rows], y[rows]


def rows_of(path: Path) -> int:
    """Return how many rows a table has."""
    with np.load(path) as file:
        return len(file["y"])


def timed(
    way: Callable[[np.ndarray, int], np.ndarray], x: np.ndarray, seed: int
) -> tuple[np.ndarray, float]:
    """Return the scores by a way of this process, and the processor time."""
    begun = time.process_time()
    return way(x, seed), time.process_time() - begun


def measure(
    path: Path, most: int, way: Callable[[np.ndarray, int], tuple[np.ndarray, float]], seed: int
) -> dict[str, float]:
    """Return the figures of one way on one table; `seconds` are those of the processor."""
    x, y = read(path, most, seed)
    score, seconds = way(x, seed)
    score = np.clip(score, -1e300, 1e300)  # some are infinite
    return {
        "auroc": float(roc_auc_score(y, score)),
        "average_precision": float(average_precision_score(y, score)),
        "seconds": seconds,
    }


def main() -> None:
    """Measure what has not been measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tables", nargs="*", help="numbers of tables; by default all")
    parser.add_argument("--ways", nargs="*", help="names of ways; by default all")
    parser.add_argument("--rows", type=int, default=10_000, help="of a table at most")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--peers", help="interpreter of an environment with pyod and torch")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/tables.json"))
    options = parser.parse_args()
    ways = {name: partial(timed, way) for name, way in WAYS.items()}
    if options.peers:
        peer = Peer(options.peers)
        ways |= {name: partial(by_peer, peer, name) for name in PEERS}
    found = Kept(options.out, "anomalies")
    paths = sorted(options.folder.glob("*.npz"), key=rows_of)
    paths = [one for one in paths if not options.tables or one.stem.split("_")[0] in options.tables]
    for seed, name in itertools.product(range(options.seeds), options.ways or ways):
        for path in paths:
            if seed and name in EXACT and rows_of(path) <= options.rows:
                continue
            key = f"{path.stem}|{name}|{seed}"
            found.add(key, partial(measure, path, options.rows, ways[name], seed))


if __name__ == "__main__":
    main()
