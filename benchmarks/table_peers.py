"""What other packages do with a table: PyOD's detectors and the TVAE of `ctgan`.

`benchmarks/tables.py` runs this file with an interpreter that has them, as they need PyTorch:

    python table_peers.py detect NAME SEED IN.npy OUT.npy
    python table_peers.py rows SEED COUNT IN.csv OUT.csv COLUMN,COLUMN

The second makes rows up as those of a file are, of which the named columns are categories.
"""

import sys

import numpy as np


def detect(name: str, seed: int, x: np.ndarray) -> np.ndarray:
    """Return the anomaly score of each row that one of PyOD's detectors is fitted to."""
    import torch

    torch.manual_seed(seed)
    if name == "ecod":
        from pyod.models.ecod import ECOD

        detector = ECOD()
    elif name == "pyod vae":
        from pyod.models.vae import VAE

        detector = VAE(random_state=seed, verbose=0)
    else:
        from pyod.models.auto_encoder import AutoEncoder

        detector = AutoEncoder(random_state=seed, verbose=0)
    detector.fit(x)
    return np.asarray(detector.decision_scores_)


def rows(seed: int, count: int, source: str, categories: list[str]) -> "object":
    """Return rows that a TVAE makes up, a frame."""
    import pandas as pd
    import torch
    from ctgan import TVAE

    np.random.seed(seed)  # noqa: NPY002 - where ctgan draws from
    torch.manual_seed(seed)
    model = TVAE(cuda=False) if "cuda" in TVAE.__init__.__code__.co_varnames else TVAE()
    model.fit(pd.read_csv(source), categories)
    return model.sample(count)


def main() -> None:
    """Do what the arguments say."""
    what, *arguments = sys.argv[1:]
    if what == "detect":
        name, seed, source, out = arguments
        np.save(out, detect(name, int(seed), np.load(source)))
    else:
        seed, count, source, out, categories = arguments
        made_up = rows(int(seed), int(count), source, [c for c in categories.split(",") if c])
        made_up.to_csv(out, index=False)


if __name__ == "__main__":
    main()
