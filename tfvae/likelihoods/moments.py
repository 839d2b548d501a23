"""Mean and spread of data, from which likelihoods say where they start.

All of it is of arrays `[N, ..., C]` over their first axis, in float64, and over what was observed:
NaN stands for a value that was not.
"""

import numpy as np

from tfvae.typing import ArrayLike


def observed_mean(x: ArrayLike) -> np.ndarray:
    """Compute the mean at each place, `[..., C]`.

    Where nothing was observed it is the mean of all that was, of the same index of the last axis
    if there is any; and 0 if nothing was observed at all.
    """
    values = np.asarray(x, np.float64)
    count, total = _sums(values, (0,))
    if count.all():
        return total / count
    axes = tuple(range(values.ndim - 1))
    pooled_count, pooled_total = _sums(values, axes)
    pooled = np.where(pooled_count > 0, pooled_total / np.maximum(pooled_count, 1), 0.0)
    return np.where(count > 0, total / np.maximum(count, 1), pooled)


def pooled_mean(x: ArrayLike, by_channel: bool) -> np.ndarray:
    """Compute the mean of all values, or of those of each index of the last axis, `[C]`."""
    values = np.asarray(x, np.float64)
    count, total = _sums(values, tuple(range(values.ndim - by_channel)))
    return np.where(count > 0, total / np.maximum(count, 1), 0.0)


def spread_of_channels(x: ArrayLike) -> np.ndarray:
    """Compute the standard deviation of the values of each index of the last axis, `[C]`."""
    values = np.asarray(x, np.float64)
    return np.sqrt(pooled_mean(np.square(values - pooled_mean(values, True)), True))


def smoothed_share(x: ArrayLike) -> np.ndarray:
    """Compute the mean at each place of values in [0, 1], moved by half a count from 0 and from 1.

    It is ``(Σ x + ½)/(N + 1)``: a pixel that was never on may be on in the next event.
    """
    values = np.asarray(x, np.float64)
    count = (~np.isnan(values)).sum(axis=0)
    return (observed_mean(values) * count + 0.5) / (count + 1)


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


def _sums(values: np.ndarray, axes: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return how many values were observed over some axes, and their sum."""
    observed = ~np.isnan(values)
    return observed.sum(axis=axes), np.where(observed, values, 0.0).sum(axis=axes)
