"""Whether a mean of weights may be trusted: the shape k of their largest ones.

Vehtari, Simpson, Gelman, Yao and Gabry (2024), Pareto smoothed importance sampling, JMLR 25(72).
The largest weights of an event are fitted by a generalised Pareto distribution, by the method of
Zhang and Stephens (2009). Weights have 1/k finite moments: from k = 1/2 their variance is not
finite, and the effective sample size and the error of the mean, which are made of it, come out
too good. So it is where q(z|x) is narrower than p(z|x), however many draws there are: of
Gaussians with standard deviations s_q < s_p, k is 1 − s_q²/s_p².
"""

import math

import numpy as np

# Of fewer draws k tells nothing.
LEAST_DRAWS = 25
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


def pareto_shape(log_weights: np.ndarray) -> np.ndarray:
    """Compute k of several events.

    Args:
        log_weights: the `tail_length` + 1 largest of each event, in any order, `[M + 1, N]`; the
            smallest of them is where the tail begins.

    Returns:
        `[N]`; −inf where all of them are the same, as with the exact posterior.
    """
    ordered = np.sort(np.asarray(log_weights, np.float64), axis=0)
    scaled = np.exp(ordered - ordered[-1])
    excesses = scaled[1:] - scaled[0]
    # Rounding of log p alone makes them differ by this much.
    differs = excesses[-1] > 1e-3
    shapes = np.full(excesses.shape[1], -np.inf)
    if differs.any():
        shapes[differs] = _fitted(excesses[:, differs])
    return shapes


def _fitted(excesses: np.ndarray) -> np.ndarray:
    """Fit generalised Pareto distributions to excesses above 0, ascending, `[M, N]`.

    Zhang and Stephens (2009): the mean of θ = −k/σ under a posterior on a grid.
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
    shape = np.stack([np.log1p(-one * excesses).mean(axis=0) for one in theta])
    profile = count * (np.log(-theta / shape) - shape - 1)
    weight = np.exp(profile - profile.max(axis=0))
    mean = (theta * weight).sum(axis=0) / weight.sum(axis=0)
    found = np.log1p(-mean * excesses).mean(axis=0)
    return (count * found + _PRIOR_COUNT * _PRIOR_SHAPE) / (count + _PRIOR_COUNT)
