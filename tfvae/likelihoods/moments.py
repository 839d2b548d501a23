"""Mean and spread of data, from which likelihoods say where they start.

All of it is of arrays `[N, ..., C]` over their first axis, in float64, and over what was observed:
NaN stands for a value that was not.
"""

import numpy as np

from tfvae.typing import ArrayLike

# So many at a time become float64: large events would take many times their memory.
_VALUES = 2**20


def observed_mean(x: ArrayLike, about: ArrayLike | None = None) -> np.ndarray:
    """Compute the mean at each place, `[..., C]`; with `about` that of (x − about)².

    Where nothing was observed it is the mean of all that was, of the same index of the last axis
    if there is any; and 0 if nothing was observed at all.
    """
    count, total = _sums(x, (0,), about)
    if count.all():
        return total / count
    pooled_count, pooled_total = _sums(x, tuple(range(np.ndim(x) - 1)), about)
    pooled = np.where(pooled_count > 0, pooled_total / np.maximum(pooled_count, 1), 0.0)
    return np.where(count > 0, total / np.maximum(count, 1), pooled)


def pooled_mean(x: ArrayLike, by_channel: bool, about: ArrayLike | None = None) -> np.ndarray:
    """Compute the mean of all values, or of those of each index of the last axis, `[C]`.

    With `about`, which broadcasts to an event, it is the mean of (x − about)².
    """
    count, total = _sums(x, tuple(range(np.ndim(x) - by_channel)), about)
    return np.where(count > 0, total / np.maximum(count, 1), 0.0)


def spread_of_channels(x: ArrayLike, about: ArrayLike | None = None) -> np.ndarray:
    """Compute the standard deviation of the values of each index of the last axis, `[C]`.

    Args:
        x: the values.
        about: what they are distances from; by default the mean of each index.
    """
    return np.sqrt(pooled_mean(x, True, pooled_mean(x, True) if about is None else about))


def smoothed_share(x: ArrayLike) -> np.ndarray:
    """Compute the mean at each place of values in [0, 1], moved by half a count from 0 and from 1.

    It is ``(Σ x + ½)/(N + 1)``: a pixel that was never on may be on in the next event.
    """
    count, total = _sums(x, (0,))
    return (total + 0.5) / (count + 1)


def level_shares(x: ArrayLike, step: float, levels: int) -> np.ndarray:
    """Compute how often each level occurs at each place, `[..., C, levels]`, with ½ added to each.

    Args:
        x: values 0, step, 2·step, ...
        step: the distance of the levels.
        levels: how many there are.
    """
    values = np.asarray(x, np.float64)
    places = values[0].size
    level = np.clip(np.rint(np.nan_to_num(values) / step), 0, levels - 1).astype(np.int64)
    cell = level.reshape(len(values), places) + levels * np.arange(places)
    observed = ~np.isnan(values).reshape(cell.shape)
    counts = np.bincount(cell[observed], minlength=places * levels).reshape(places, levels) + 0.5
    shares = counts / counts.sum(axis=1, keepdims=True)
    return shares.reshape(*values.shape[1:], levels)


def logit(share: np.ndarray) -> np.ndarray:
    """Return log(p/(1 − p))."""
    return np.log(share) - np.log1p(-share)


def _sums(
    x: ArrayLike, axes: tuple[int, ...], about: ArrayLike | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return how many values were observed over some axes, the first one among them, and their sum.

    With `about` it is the sum of (x − about)².
    """
    x = np.asarray(x)
    rows = max(1, _VALUES // max(1, x[:1].size))
    count, total = np.zeros((), np.int64), np.zeros(())
    for start in range(0, max(1, len(x)), rows):
        part = np.asarray(x[start : start + rows], np.float64)
        if about is not None:
            part = np.square(part - about)
        observed = ~np.isnan(part)
        count = count + observed.sum(axis=axes)
        total = total + np.where(observed, part, 0.0).sum(axis=axes)
    return count, total
