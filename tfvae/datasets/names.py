"""Names of files: their natural order, and the split that each belongs to."""

import hashlib
import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np

from tfvae.datasets.text import natural_key


def natural_order(path: str) -> tuple[tuple[Any, ...], str]:
    """Return a key that sorts paths as people do: folder by folder, and 2 before 10."""
    return tuple(natural_key(name) for name in path.split("/")), path


def split_by_name(
    names: Sequence[str], seed: int, sizes: dict[str, float]
) -> dict[str, np.ndarray]:
    """Return which names belong to "test", "validation" and "train", each by itself.

    A name and the seed give a number u, uniform on [0, 1). A fraction f for test takes the names
    with u below f, a fraction for validation those above 1 - f: whatever other names there are, so
    that files which are added or removed move no other file. The splits then have these shares on
    average; of n names a split has n·f, give or take its standard deviation √(n·f·(1 - f)).

    Two wishes cannot be had for a single name by itself, and are met by its rank among all:

    - A whole number for a split, exactly so many names, is that many with the lowest or highest u.
      Each name that is removed then brings at most one from training into the split.
    - A split that no name falls into, as happens with few names, takes the one nearest to it. It
      keeps that one until another name falls into the split.

    Args:
        names: distinct, `[N]`.
        seed: another one gives other splits.
        sizes: for "test" and "validation", either of which may be missing, a fraction below 1 or
            a whole number of names. Together they leave one at least for training.

    Returns:
        positions in `names`, ascending, of the splits in `sizes` and of "train".
    """
    places = _places(names, seed)
    ranked = np.argsort(places, kind="stable")
    held_out: dict[str, np.ndarray] = {}
    room = len(names) - 1
    # Whole numbers first: chance is given what they leave.
    for waiting, split in enumerate(sorted(sizes, key=lambda split: sizes[split] < 1), 1):
        size = sizes[split]
        count = int(size) if size >= 1 else max(1, _fallen(places, split, size))
        count = min(count, room - (len(sizes) - waiting))
        room -= count
        order = ranked if split == "test" else ranked[::-1]
        held_out[split] = np.sort(order[:count])
    rest = np.setdiff1d(np.arange(len(names)), np.concatenate([[], *held_out.values()]))
    return held_out | {"train": rest}


def empty_splits(names: Sequence[str], seed: int, sizes: dict[str, float]) -> list[str]:
    """Return the splits that no name falls into, which have one by its rank.

    Args:
        names: as for `split_by_name`.
        seed: as for `split_by_name`.
        sizes: as for `split_by_name`.
    """
    places = _places(names, seed)
    return [split for split, size in sizes.items() if size < 1 and not _fallen(places, split, size)]


def _fallen(places: np.ndarray, split: str, size: float) -> int:
    """Count the names that fall into a split by themselves."""
    return int(((places if split == "test" else 1 - places) < size).sum())


def _places(names: Sequence[str], seed: int) -> np.ndarray:
    return np.array([_place(name, seed) for name in names])


def _place(name: str, seed: int) -> float:
    """Return a number for a name, uniform on [0, 1)."""
    # File systems differ in how they write ü.
    text = unicodedata.normalize("NFC", name).encode("utf-8", "surrogatepass")
    digest = hashlib.blake2b(text, digest_size=8, key=seed.to_bytes(8, "big")).digest()
    return (int.from_bytes(digest, "big") >> 11) / 2**53
