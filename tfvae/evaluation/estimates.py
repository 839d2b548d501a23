"""Means over events and their errors: what the estimators of this package return."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tfvae.checks import is_number
from tfvae.errors import InputError

# With fewer effective draws, the estimate of an event may be off by a third of a nat or more, and
# so few weights tell little of their own spread.
LEAST_EFFECTIVE = 10.0
# Largest fraction of events with fewer effective draws that brings no warning.
TOLERATED = 0.05


def mean_and_error(values: np.ndarray) -> tuple[float, float]:
    """Return the mean over events and its standard error, NaN for a single event."""
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
    return float(np.mean(values)), spread / math.sqrt(len(values))


def log_mean_and_effective(
    log_sum: np.ndarray, log_square_sum: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return log (1/K) Σ w and the effective sample size (Σ w)² / Σ w², each of any shape.

    Args:
        log_sum: log Σ w.
        log_square_sum: log Σ w².
        count: K.
    """
    return log_sum - math.log(count), np.exp(2 * log_sum - log_square_sum)


def bits_per_dimension(
    nll: float,
    event_shape: Sequence[int],
    levels: int | None = None,
    *,
    observed: float | None = None,
) -> float:
    """Return a negative log-likelihood as bits for each value of an event.

    Args:
        nll: −log p(x) of an event, nats. Only of a discrete p(x) is it a length in bits.
        event_shape: the shape of the event.
        levels: for the density of dequantised events, (level + u) / levels with u uniform on
            [0, 1): how many levels there were. A level has 1/levels of the range, so that
            ``log2(levels)`` bits a value are added; the mean is then an upper bound on the bits of
            the levels, Theis et al. (2016), arXiv:1511.01844, section 3.1.
        observed: where values are missing, how many were observed. Over several events whose holes
            differ, bits per dimension are their summed nll over their summed counts: the mean of
            one and the mean of the other give the same.
    """
    values = math.prod(event_shape) if observed is None else observed
    bits = nll / (values * math.log(2))
    return bits if levels is None else bits + math.log2(levels)


def measure_of(is_discrete: bool, is_probability: bool, levels: int | None) -> str:
    """Say what the p(x) of some events is; see `LogProbEstimate`.

    Args:
        is_discrete: whether the likelihood is one of discrete values.
        is_probability: whether all values are such as have a probability.
        levels: how many levels there were before noise was added, if it was.
    """
    if is_discrete:
        return "probability" if is_probability else "cross-entropy"
    return "density" if levels is None else "dequantized density"


def figure(value: float, error: float) -> str:
    """Return a value and its error for people."""
    return f"{value:.3f} ± {error:.3f}"


def counted(events: int) -> str:
    """Return how many events there are, in words."""
    return "1 event" if events == 1 else f"{events:,} events"


@dataclasses.dataclass(frozen=True, repr=False)
class ELBOEstimate:
    """The mean ELBO over events and its two terms, in nats per event.

    Attributes:
        elbo: mean of the ELBO.
        log_likelihood: mean of E_q[log p(x|z)].
        kl: mean of KL(q(z|x) ‖ p(z)).
        standard_error: of `elbo`, from the spread over events: how far the mean over as many other
            events of the kind may lie. NaN for a single event.
        events: how many.
    """

    elbo: float
    log_likelihood: float
    kl: float
    standard_error: float
    events: int

    def __repr__(self) -> str:
        return (
            f"ELBOEstimate({figure(self.elbo, self.standard_error)} nats: log-likelihood "
            f"{self.log_likelihood:.3f}, KL {self.kl:.3f}; {counted(self.events)})"
        )


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class WeightedEstimate:
    """log p(x) of events, each from the mean of weights w with expectation p(x).

    The logarithm of a mean is below log p(x) on average: by about half its relative variance. Where
    that is finite, ``1/ESS − 1/K`` estimates it; where weights have heavy tails it does not, and
    the bias is larger than any figure made of the same draws can tell.

    Attributes:
        log_probs: log (1/K) Σ_k w_k of each event, `[N]`, nats.
        effective_sample_sizes: (Σ_k w_k)² / Σ_k w_k² of each event, `[N]`, from 1 to K.
        num_samples: K, weights an event.
        complete: whether all events are in it; False for what an interrupt left.
    """

    log_probs: np.ndarray
    effective_sample_sizes: np.ndarray
    num_samples: int
    complete: bool = dataclasses.field(default=True, kw_only=True)

    def __repr__(self) -> str:
        partial = "" if self.complete else ", interrupted"
        return (
            f"{type(self).__name__}({figure(self.log_prob, self.standard_error)} nats, "
            f"{self.num_samples} {self._draws_are}, median ESS {self.effective_sample_size:.1f}; "
            f"{counted(self.events)}{partial})"
        )

    # What the K weights of an event are of.
    _draws_are = "draws"

    @property
    def events(self) -> int:
        """How many events."""
        return len(self.log_probs)

    @property
    def log_prob(self) -> float:
        """Mean over events, nats."""
        return mean_and_error(self.log_probs)[0]

    @property
    def standard_error(self) -> float:
        """How far the mean over as many other events of the kind may lie; NaN for one event.

        From the spread over events, which the scatter of the draws is part of.
        """
        return mean_and_error(self.log_probs)[1]

    @property
    def monte_carlo_error(self) -> float:
        """How far the mean over these same events may lie with other draws; NaN for K = 1.

        By the delta method: an event's log-mean has the variance ``(K/ESS − 1)/(K − 1)``, the
        squared relative standard error of the mean weight. Of weights whose variance is not finite
        it is too small.
        """
        if self.num_samples == 1:
            return math.nan
        excess = self.num_samples / self.effective_sample_sizes - 1
        variances = np.maximum(excess, 0) / (self.num_samples - 1)
        return math.sqrt(variances.sum()) / self.events

    def lower_bound(self, confidence: float = 0.975) -> float:
        """Return what the mean log p(x) of these same events is above, with so much confidence.

        Weights are right on average and drawn for each event by itself, so the product of their
        means is right on average too, and by Markov's inequality above ∏ p(x)/α with a probability
        of α at most: ``log_prob − log(1/α)/N``. It holds for any weights, whatever their tails.

        Args:
            confidence: 1 − α, between 0 and 1.

        Raises:
            InputError: if `confidence` is not between 0 and 1.
        """
        if not (is_number(confidence) and 0 < confidence < 1):
            raise InputError(f"confidence must be between 0 and 1; received {confidence!r}")
        return self.log_prob + math.log1p(-confidence) / self.events

    @property
    def effective_sample_size(self) -> float:
        """Median over events of the effective number of draws."""
        return float(np.median(self.effective_sample_sizes))

    @property
    def low_effective(self) -> float:
        """The fraction of events with fewer than 10 effective draws."""
        return float(np.mean(self.effective_sample_sizes < LEAST_EFFECTIVE))

    @property
    def warnings(self) -> tuple[str, ...]:
        """One line where the figure is not to be trusted."""
        if self.low_effective <= TOLERATED:
            return ()
        return (
            f"fewer than {LEAST_EFFECTIVE:g} effective draws for {self.low_effective:.0%} of the "
            f"events (median {self.effective_sample_size:.1f} of {self.num_samples}): log p(x) "
            f"comes out too low; {self._remedy}",
        )

    _remedy = "take more draws, or annealed importance sampling"

    def as_dict(self) -> dict[str, Any]:
        """Return the figures over all events, for JSON."""
        return {
            "log_prob": self.log_prob,
            "standard_error": self.standard_error,
            "monte_carlo_error": self.monte_carlo_error,
            "effective_sample_size": self.effective_sample_size,
            "low_effective": self.low_effective,
            "events": self.events,
            "num_samples": self.num_samples,
            "complete": self.complete,
            "warnings": list(self.warnings),
        }
