"""What other packages do with a table: PyOD's detectors and the TVAE of `ctgan`.

`table_results.Peer` runs this file with an interpreter that has them, as they need PyTorch. It
reads one line of JSON for each thing to do, and answers with a line that has the seconds of
processor time that it took:

    ["detect", NAME, SEED, "IN.npy", "OUT.npy"]
    ["rows", SEED, COUNT, "IN.csv", "OUT.csv", ["COLUMN", ...]]

The second makes rows up as those of a file are, of which the named columns are categories.
"""

import contextlib
import json
import sys
import time
from typing import Any

import numpy as np


def detect(name: str, seed: int, x: np.ndarray) -> np.ndarray:
    """Return the anomaly score of each row that one of PyOD's detectors is fitted to."""
    import torch

    torch.manual_seed(seed)
    detector: Any
    if name == "ecod":
        from pyod.models.ecod import ECOD

        detector = ECOD()
    elif name == "pyod pca":
        from pyod.models.pca import PCA

        detector = PCA(random_state=seed)
    elif name == "pyod vae":
        from pyod.models.vae import VAE

        detector = VAE(random_state=seed, verbose=0)
    else:
        from pyod.models.auto_encoder import AutoEncoder

        detector = AutoEncoder(random_state=seed, verbose=0)
    detector.fit(x)
    return np.asarray(detector.decision_scores_)


def rows(seed: int, count: int, source: str, categories: list[str]) -> Any:
    """Return rows that a TVAE makes up, a frame."""
    import pandas as pd
    import torch
    from ctgan import TVAE

    np.random.seed(seed)  # noqa: NPY002 - where ctgan draws from
    torch.manual_seed(seed)
    model = TVAE(enable_gpu=False)
    model.set_random_state(seed)
    model.fit(pd.read_csv(source), categories)
    return model.sample(count)


def do(request: list[Any]) -> None:
    """Do what a line asks for."""
    if request[0] == "detect":
        _, name, seed, source, out = request
        np.save(out, detect(name, seed, np.load(source)))
    else:
        _, seed, count, source, out, categories = request
        rows(seed, count, source, categories).to_csv(out, index=False)


def main() -> None:
    """Answer each line."""
    answers = sys.stdout
    for line in sys.stdin:
        begun = time.process_time()
        with contextlib.redirect_stdout(sys.stderr):  # what the packages print
            do(json.loads(line))
        print(json.dumps(time.process_time() - begun), file=answers, flush=True)


if __name__ == "__main__":
    main()
