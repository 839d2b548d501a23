"""Means over images and their errors: what the estimators of this package put out."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

# Below so many effective draws an image's estimate is off by a third of a nat or more, and so few
# weights tell little of their own spread.
LEAST_EFFECTIVE = 10.0
# So many images may be below before a warning.
_TOLERATED = 0.05


def mean_and_error(values: np.ndarray) -> tuple[float, float]:
    """Give the mean over images and its standard error, NaN for a single image."""
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
    return float(np.mean(values)), spread / math.sqrt(len(values))


def log_mean_and_effective(
    log_sum: np.ndarray, log_square_sum: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Give log (1/K) Σ w and the effective sample size (Σ w)² / Σ w², each of any shape.

    Args:
        log_sum: log Σ w.
        log_square_sum: log Σ w².
        count: K.
    """
    return log_sum - math.log(count), np.exp(2 * log_sum - log_square_sum)


def bits_per_dimension(nll: float, image_shape: Sequence[int], levels: int | None = None) -> float:
    """Give a negative log-likelihood as bits for each value of an image.

    Args:
        nll: −log p(x) of an image, nats. Only of a discrete p(x) is it a length in bits.
        image_shape: (H, W, C).
        levels: for the density of dequantised images, (level + u) / levels with u uniform on
            [0, 1): how many levels there were. A level has 1/levels of the range, so that
            ``log2(levels)`` bits a value are added; the mean is then an upper bound on the bits of
            the levels, Theis et al. (2016), arXiv:1511.01844, section 3.1.
    """
    bits = nll / (math.prod(image_shape) * math.log(2))
    return bits if levels is None else bits + math.log2(levels)


@dataclasses.dataclass(frozen=True)
class ELBOEstimate:
    """The mean ELBO over images and its two terms, in nats per image.

    Attributes:
        elbo: mean of the ELBO.
        log_likelihood: mean of E_q[log p(x|z)].
        kl: mean of KL(q(z|x) ‖ p(z)).
        standard_error: of `elbo`, from the spread over images: how far the mean over as many other
            images of the kind may lie. NaN for a single image.
        images: how many.
    """

    elbo: float
    log_likelihood: float
    kl: float
    standard_error: float
    images: int


@dataclasses.dataclass(frozen=True, eq=False)
class WeightedEstimate:
    """log p(x) of images, each from the mean of weights w with expectation p(x).

    The logarithm of a mean is below log p(x) on average: by about half its relative variance, which
    is ``1/ESS − 1/K``.

    Attributes:
        log_probs: log (1/K) Σ_k w_k of each image, `[N]`, nats.
        effective_sample_sizes: (Σ_k w_k)² / Σ_k w_k² of each image, `[N]`, from 1 to K.
        num_samples: K, weights an image.
        complete: whether all images are in it; False for what an interrupt left.
    """

    log_probs: np.ndarray
    effective_sample_sizes: np.ndarray
    num_samples: int
    complete: bool = dataclasses.field(default=True, kw_only=True)

    @property
    def images(self) -> int:
        """How many images."""
        return len(self.log_probs)

    @property
    def log_prob(self) -> float:
        """Mean over images, nats."""
        return mean_and_error(self.log_probs)[0]

    @property
    def standard_error(self) -> float:
        """How far the mean over as many other images of the kind may lie; NaN for one image.

        From the spread over images, which the scatter of the draws is part of.
        """
        return mean_and_error(self.log_probs)[1]

    @property
    def monte_carlo_error(self) -> float:
        """How far the mean over these same images may lie with other draws; NaN for K = 1.

        By the delta method: an image's log-mean has the variance ``(K/ESS − 1)/(K − 1)``, the
        squared relative standard error of the mean weight.
        """
        if self.num_samples == 1:
            return math.nan
        excess = self.num_samples / self.effective_sample_sizes - 1
        variances = np.maximum(excess, 0) / (self.num_samples - 1)
        return math.sqrt(variances.sum()) / self.images

    @property
    def effective_sample_size(self) -> float:
        """Median over images of the effective number of draws."""
        return float(np.median(self.effective_sample_sizes))

    @property
    def low_effective(self) -> float:
        """The fraction of images with fewer than 10 effective draws."""
        return float(np.mean(self.effective_sample_sizes < LEAST_EFFECTIVE))

    @property
    def warnings(self) -> tuple[str, ...]:
        """One line where the figure is not to be trusted."""
        if self.low_effective <= _TOLERATED:
            return ()
        return (
            f"fewer than {LEAST_EFFECTIVE:g} effective draws for {self.low_effective:.0%} of the "
            f"images (median {self.effective_sample_size:.1f} of {self.num_samples}): log p(x) "
            f"comes out too low; {self._remedy}",
        )

    _remedy = "take more draws, or annealed importance sampling"

    def as_dict(self) -> dict[str, Any]:
        """Give the figures over all images, for JSON."""
        return {
            "log_prob": self.log_prob,
            "standard_error": self.standard_error,
            "monte_carlo_error": self.monte_carlo_error,
            "effective_sample_size": self.effective_sample_size,
            "low_effective": self.low_effective,
            "images": self.images,
            "num_samples": self.num_samples,
            "complete": self.complete,
            "warnings": list(self.warnings),
        }
