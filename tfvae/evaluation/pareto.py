"""Whether a mean of weights may be trusted: the shape k of their largest ones.

Vehtari, Simpson, Gelman, Yao and Gabry (2024), Pareto smoothed importance sampling, JMLR 25(72).
The largest weights of an event are fitted by a generalised Pareto distribution, by the method of
Zhang and Stephens (2009). Weights have 1/k finite moments: from k = 1/2 their variance is not
finite, and the effective sample size and the error of the mean, which are made of it, come out
too good. So it is where q(z|x) is narrower than p(z|x), however many draws there are: of
Gaussians with standard deviations s_q < s_p, k is 1 − s_q²/s_p².
"""

import math
from typing import NamedTuple

import numpy as np

# Of fewer draws k tells nothing.
LEAST_DRAWS = 25
# A larger shape has its mean taken at this one: from 1 on there is none, and of few draws the shape
# is known to about 0.1.
_HEAVIEST = 0.9
# What the shape is drawn to, as by so many weights more.
_PRIOR_SHAPE, _PRIOR_COUNT = 0.5, 10


def tail_length(num_samples: int) -> int:
    """Return how many of the largest of K weights are fitted; 0 where there are too few.

    Args:
        num_samples: K.
    """
    if num_samples < LEAST_DRAWS:
        return 0
    return int(min(num_samples // 5, math.ceil(3 * math.sqrt(num_samples))))


def largest_reliable(num_samples: int) -> float:
    """Return the k up to which K draws are enough: min(1 − 1/log₁₀ K, 0.7).

    Args:
        num_samples: K, more than one.
    """
    return min(1 - 1 / math.log10(max(2, num_samples)), 0.7)


class Tail(NamedTuple):
    """The largest weights of several events, as they were drawn and as they were fitted.

    Attributes:
        shape: k, `[N]`; −inf where all of them are the same, as with the exact posterior.
        log_mean: the log of their mean as it was drawn, `[N]`.
        log_fitted_mean: the log of the mean of the distribution fitted to them, `[N]`: that of the
            weights that such draws are of, the larger ones too that were not drawn. Never below
            `log_mean`. From k = 1 on there is no mean, and a k above 0.9 counts as 0.9.
    """

    shape: np.ndarray
    log_mean: np.ndarray
    log_fitted_mean: np.ndarray


def fitted_tail(log_weights: np.ndarray) -> Tail:
    """Fit the largest weights of several events.

    Args:
        log_weights: the `tail_length` + 1 largest of each event, in any order, `[M + 1, N]`; the
            smallest of them is where the tail begins, and no part of it.
    """
    ordered = np.sort(np.asarray(log_weights, np.float64), axis=0)
    scaled = np.exp(ordered - ordered[-1])
    excesses = scaled[1:] - scaled[0]
    shapes, means = np.full(excesses.shape[1], -np.inf), excesses.mean(axis=0)
    fitted = means.copy()
    # Rounding of log p alone makes them differ by this much.
    differs = excesses[-1] > 1e-3
    if differs.any():
        shapes[differs], scales = _fitted(excesses[:, differs])
        theirs = scales / (1 - np.minimum(shapes[differs], _HEAVIEST))
        fitted[differs] = np.maximum(means[differs], theirs)
    return Tail(shapes, *(np.log(scaled[0] + mean) + ordered[-1] for mean in (means, fitted)))


def tail_correction(tail: Tail, log_sum: np.ndarray, count: int) -> np.ndarray:
    """Return what the log of a sum of weights grows by with the tail as it was fitted, `[N]`.

    Args:
        tail: of the `count` largest weights.
        log_sum: the log of the sum of all weights, `[N]`.
        count: how many weights are in the tail.
    """
    share = count * np.exp(tail.log_mean - log_sum)
    return np.log1p(share * np.expm1(tail.log_fitted_mean - tail.log_mean))


def _fitted(excesses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return shape and scale of generalised Pareto distributions, each `[N]`.

    Zhang and Stephens (2009): the mean of θ = −k/σ under a posterior on a grid.

    Args:
        excesses: above 0, ascending, `[M, N]`.
    """
    count = len(excesses)
    excesses = np.maximum(excesses, 1e-300)
    largest = excesses[-1]
    quartile = np.maximum(excesses[max(0, int(count / 4 + 0.5) - 1)], 1e-6 * largest)
    points = 30 + int(math.sqrt(count))
    grid = np.arange(1, points + 1)[:, None] - 0.5
    theta = 1 / largest + (1 - np.sqrt(points / grid)) / (3 * quartile)
    # A θ of 0 is an exponential distribution, whose likelihood is that of the ones beside it.
    theta = np.where(np.abs(theta) < 1e-12, 1e-12, theta)
    shapes = np.stack([np.log1p(-one * excesses).mean(axis=0) for one in theta])
    profile = count * (np.log(-theta / shapes) - shapes - 1)
    weight = np.exp(profile - profile.max(axis=0))
    mean = (theta * weight).sum(axis=0) / weight.sum(axis=0)
    found = np.log1p(-mean * excesses).mean(axis=0)
    shape = (count * found + _PRIOR_COUNT * _PRIOR_SHAPE) / (count + _PRIOR_COUNT)
    return shape, -found / mean
