"""What is suspicious of a data set: the same event in two splits, constant events, holes."""

import hashlib

import numpy as np

from tfvae import datasets
from tfvae.datasets.source import SPLITS, plural_of


def inspect(data: datasets.Dataset, limit: int) -> dict[str, str]:
    """Look at the first events of each split.

    Args:
        data: the data set.
        limit: how many events of each split.

    Returns:
        By the kind of suspicion, a phrase for the user, empty where there is nothing to say:
        "holes", "shared" (the same event in two splits), "repeated" (in one), "constant".
    """
    called = plural_of(data.event_shape)
    digests: dict[str, list[bytes]] = {}
    holes = constant = with_holes = 0
    for name in SPLITS:
        digests[name] = []
        for x in _events(getattr(data, name), limit):
            flat = x.reshape(len(x), -1)
            missing = np.isnan(flat)
            holes += int(missing.sum())
            with_holes += int(missing.any(axis=1).sum())
            if flat.shape[1] > 1:
                low, high = np.where(missing, np.inf, flat), np.where(missing, -np.inf, flat)
                constant += int((low.min(axis=1) >= high.max(axis=1)).sum())
            digests[name] += [hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in x]
    train, others = set(digests["train"]), [*digests["validation"], *digests["test"]]
    shared = sum(digest in train for digest in others)
    repeated = len(digests["train"]) - len(train)
    total = sum(map(len, digests.values()))
    partial = (
        ""
        if total == sum(len(getattr(data, name)) for name in SPLITS)
        else (f" (of the first {limit:,} of each split)")
    )
    return {
        "holes": f"{holes:,} values are NaN, in {with_holes:,} of {total:,} {called}" * bool(holes),
        "shared": (
            f"{shared:,} validation and test {called} are training {called} too{partial}"
            * bool(shared)
        ),
        "repeated": f"{repeated:,} training {called} are repetitions{partial}" * bool(repeated),
        "constant": f"{constant:,} {called} are constant{partial}" * bool(constant),
    }


def _events(split: datasets.Split, limit: int) -> "list[np.ndarray]":
    """Return the batches of the first events."""
    found = []
    with datasets.input_errors():
        for batch in split.batches(256, epoch=0).take(-(-min(limit, len(split)) // 256)):
            events = batch[0] if isinstance(batch, tuple) else batch
            found.append(events.numpy())
    return found
