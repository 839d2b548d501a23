"""Which likelihood values ask for, where nobody has said."""

from typing import NamedTuple

import numpy as np

from tfvae.typing import ArrayLike

# More levels than these are taken for levels only if they are those of bytes / 255.
_FEW = 64
# So many values for each level at least, or a few different numbers are taken for chance.
_EVIDENCE = 20
_BYTES = 256


class Choice(NamedTuple):
    """A likelihood by its name, and why it was chosen."""

    likelihood: str
    reason: str


def for_values(x: ArrayLike) -> Choice:
    """Choose the likelihood of values by looking at some of them.

    * 0 and 1 alone: ``"bernoulli"``;
    * few evenly spaced levels from 0, or bytes / 255: ``"discretized_logistic"`` of them, which is
      a probability;
    * all others: ``"normal:scale=learned"``, a density.

    Args:
        x: values, any shape, NaN where one is missing. They are to be so many that all levels
            occur.

    Returns:
        The name and, for a user, the reason.
    """
    values = np.asarray(x, np.float32)
    values = values[~np.isnan(values)]
    found = np.unique(values)
    if not len(found) or np.isin(found, (0, 1)).all():
        return Choice("bernoulli", "all values are 0 or 1")
    levels = _levels(found, len(values))
    if levels is None:
        return Choice("normal:scale=learned", "the values are real numbers")
    count, high = levels
    options = [f"levels={count}"] * (count != _BYTES) + [f"high={high:g}"] * (high != 1)
    name = ":".join(["discretized_logistic", *([",".join(options)] if options else [])])
    spread = "bytes / 255" if (count, high) == (_BYTES, 1) else f"{count} levels from 0 to {high:g}"
    return Choice(name, f"the values are {spread}")


def _levels(found: np.ndarray, total: int) -> tuple[int, float] | None:
    """Return how many evenly spaced levels from 0 some different values are on, and the highest."""
    if found[0] < 0 or len(found) > _BYTES or total < _EVIDENCE * len(found):
        return None
    high = float(found[-1])
    step = min(float(np.diff(found).min()), float(found[found > 0][0]))
    count = round(high / step) + 1
    if count > _FEW:
        # In between a level may not occur among the values that are looked at.
        count, high = _BYTES, 255.0 if high > 1 else 1.0
    level = found.astype(np.float64) * ((count - 1) / high)
    is_lattice = np.abs(level - np.rint(level)).max() < 1e-3
    is_filled = len(found) > count / 2 or (count == _BYTES and len(found) > _FEW / 2)
    return (count, high) if is_lattice and is_filled and level[-1] < count else None
