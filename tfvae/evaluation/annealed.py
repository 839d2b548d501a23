"""log p(x) by annealed importance sampling, and from both sides by bidirectional Monte Carlo.

A chain walks from a density f_0 that can be drawn from, q(z|x) or p(z), to p(x, z), through

    f_β(z) = f_0(z)^(1 − β) p(x, z)^β,   0 = β_0 < β_1 < ... < β_T = 1

with Hamiltonian transitions T_t that leave f_{β_t} as it is. Its weight

    w = ∏_t f_{β_t}(z_{t−1}) / f_{β_{t−1}}(z_{t−1})

has the expectation p(x), Neal (2001), arXiv:physics/9803008, equations 7 to 11; so the mean of
log w is below log p(x), the less the more steps. The same chain backwards, from an exact draw of
p(z|x), has a weight whose expectation is 1/p(x), and gives an upper bound. There is such a draw for
an x that was sampled from the model: the z it was decoded from. Grosse et al. (2015),
arXiv:1511.02543; for decoders Wu et al. (2017), arXiv:1611.04273.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfvae.checks import checked_count
from tfvae.errors import InputError
from tfvae.evaluation.batches import (
    BATCH_SIZE,
    EventData,
    Progress,
    default_chunk,
    event_batches,
    until_interrupted,
)
from tfvae.evaluation.chains import EVENTS, Chains, Group
from tfvae.evaluation.estimates import (
    WeightedEstimate,
    counted,
    figure,
    log_mean_and_effective,
    mean_and_error,
)
from tfvae.models.vae import VAE
from tfvae.typing import ArrayLike


def linear_schedule(num_steps: int) -> np.ndarray:
    """Return equal steps from 0 to 1, `[T + 1]`."""
    return np.linspace(0, 1, num_steps + 1)


def sigmoid_schedule(num_steps: int, delta: float = 4.0) -> np.ndarray:
    """Return steps that are small at both ends, `[T + 1]`.

    The logistic function at equal steps from −delta to delta, rescaled to [0, 1]; Wu et al. (2017)
    take delta = 4.
    """
    values = 1 / (1 + np.exp(-np.linspace(-delta, delta, num_steps + 1)))
    return (values - values[0]) / (values[-1] - values[0])


SCHEDULES: dict[str, Callable[[int], np.ndarray]] = {
    "linear": linear_schedule,
    "sigmoid": sigmoid_schedule,
}


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class AnnealedEstimate(WeightedEstimate):
    """log p(x) of events by annealed importance sampling, nats.

    Attributes:
        log_probs: log (1/M) Σ w of each event, `[N]`; of a reverse run −log (1/M) Σ w, w with the
            expectation 1/p(x).
        effective_sample_sizes: of the M weights of each event, `[N]`.
        num_samples: M, chains an event.
        acceptance: the fraction of proposals that are accepted, over all chains and temperatures.
        reverse: whether the chains walk from p(x, z) to f_0.
        complete: whether all events are in it; False for what an interrupt left.
    """

    acceptance: float
    reverse: bool = dataclasses.field(default=False, kw_only=True)

    _draws_are = "chains"

    @property
    def monte_carlo_error(self) -> float:
        """How far the mean over these same events may lie with other draws.

        NaN for one chain. NaN of a reverse run as well: all chains of an event start from the one
        exact draw there is, and the spread of their weights tells nothing of that draw's chance.
        """
        return math.nan if self.reverse else super().monte_carlo_error

    def lower_bound(self, confidence: float = 0.975) -> float:
        """Return the bound of the base class; NaN of a reverse run, which estimates from above."""
        bound = super().lower_bound(confidence)
        return math.nan if self.reverse else bound

    @property
    def warnings(self) -> tuple[str, ...]:
        """One line where the figure is not to be trusted."""
        # Few chains are no fault; but one that outweighs all the others is.
        if self.num_samples < 4 or self.effective_sample_size >= 1.5:
            return ()
        return (
            f"one of the {self.num_samples} chains has nearly all the weight for half of the "
            "events: log p(x) is not tight; take more steps",
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the figures over all events, for JSON."""
        return {**super().as_dict(), "acceptance": self.acceptance}


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Sandwich:
    """Log p(x) of a model's own samples between two bounds, nats.

    Attributes:
        lower: below log p(x) in expectation.
        upper: above it in expectation; of the same events.
    """

    lower: AnnealedEstimate
    upper: AnnealedEstimate

    def __repr__(self) -> str:
        return (
            f"Sandwich({self.lower.log_prob:.3f} <= log p(x) <= {self.upper.log_prob:.3f} nats, "
            f"gap {figure(self.gap, self.gap_standard_error)}; {counted(self.lower.events)})"
        )

    @property
    def gap(self) -> float:
        """Mean over events of the upper bound less the lower one."""
        return mean_and_error(self.upper.log_probs - self.lower.log_probs)[0]

    @property
    def gap_standard_error(self) -> float:
        """Its standard error over events; NaN for one event."""
        return mean_and_error(self.upper.log_probs - self.lower.log_probs)[1]

    def as_dict(self) -> dict[str, Any]:
        """Return the figures over all events, for JSON."""
        return {
            "lower": self.lower.as_dict(),
            "upper": self.upper.as_dict(),
            "gap": self.gap,
            "gap_standard_error": self.gap_standard_error,
        }


def annealed_log_prob(
    vae: VAE,
    data: EventData,
    *,
    num_steps: int = 200,
    num_chains: int = 8,
    initial: str = "posterior",
    schedule: str | Sequence[float] = "sigmoid",
    leapfrog_steps: int = 5,
    seed: int = 0,
    chunk_size: int | None = None,
    batch_size: int = BATCH_SIZE,
    progress: bool = False,
    keep_partial: bool = False,
) -> AnnealedEstimate:
    """Estimate log p(x), or log p(x|y), by annealed importance sampling.

    The transitions are Hamiltonian Monte Carlo. Their step sizes, one for each temperature
    and event, are adapted in a run of a few chains before, and fixed in the run that counts: chains
    that adapt as they go would not leave f_β as it is. For each event they are longer in the
    dimensions where q(z|x) is wide. Where values are missing, p(x) is the density of the observed
    ones.

    Args:
        vae: a built `VAE`.
        data: a split, arrays or batches; see `tfvae.evaluation.batches.event_batches`.
        num_steps: T, temperatures from f_0 to p(x, z).
        num_chains: M, chains for each event.
        initial: f_0, ``"posterior"`` for q(z|x) or ``"prior"`` for p(z). From q far fewer steps
            do, unless it misses a part of p(z|x).
        schedule: ``"linear"``, ``"sigmoid"``, or the T + 1 values β_0 = 0 < ... < β_T = 1
            themselves, which `num_steps` then yields to.
        leapfrog_steps: of each transition.
        seed: of all draws, below 2^31. They depend on how the events come in batches, too.
        chunk_size: chains that run at a time; by default as many as suit the device.
        batch_size: events encoded at a time, where data does not come in batches.
        progress: show a progress bar on standard error.
        keep_partial: return what there is, its `complete` False, when interrupted by Ctrl-C after
            the first events.

    Raises:
        InputError: if an argument does not fit, there are no events, they do not fit, or q(z|x)
            has no density.
    """
    chains = Chains(vae, num_chains, initial, leapfrog_steps, seed)
    betas = _betas(schedule, num_steps)
    together = _events_together(vae, num_chains, chunk_size)
    batches = event_batches(vae, data, batch_size=batch_size)

    def parts() -> Iterator[np.ndarray]:
        number = 0
        with Progress(batches, progress) as bar:
            for x, label in batches:
                for start in range(0, len(x), together):
                    group = Group.of(vae, x, label, slice(start, start + together), number)
                    part = len(group.x) / len(x) / 2
                    steps = chains.pilot(group, betas, bar, part)
                    found = _summed(
                        *chains.run(group, chains.start(group), betas, steps, bar, part)
                    )
                    bar.advance(0, found[0])
                    yield found
                    number += 1

    return _estimate(*until_interrupted(parts(), keep_partial), num_chains)


def bidirectional_log_prob(
    vae: VAE,
    num_events: int,
    *,
    label: ArrayLike | None = None,
    num_steps: int = 200,
    num_chains: int = 8,
    initial: str = "posterior",
    schedule: str | Sequence[float] = "sigmoid",
    leapfrog_steps: int = 5,
    seed: int = 0,
    chunk_size: int | None = None,
    progress: bool = False,
    keep_partial: bool = False,
) -> Sandwich:
    """Enclose log p(x) of samples from the model between two bounds.

    The events are drawn from the model, every value from p(x|z), so that the z of each is an exact
    draw of p(z|x): the start of the chain that gives the upper bound. The lower bound is
    `annealed_log_prob`'s. If the two meet, annealed importance sampling with these settings is
    accurate for such events, and about as accurate for real ones where the model fits them. The
    samples of a model that takes missing values have none missing.

    Args:
        vae: a built `VAE`.
        num_events: how many samples.
        label: of a conditional model, one label for all, or one for each, `[num_events]`.
        num_steps: as for `annealed_log_prob`, like the others.
        num_chains: chains for each event, up and down.
        initial: f_0, ``"posterior"`` or ``"prior"``.
        schedule: ``"linear"``, ``"sigmoid"`` or values.
        leapfrog_steps: of each transition.
        seed: of all draws, of the events as well.
        chunk_size: chains that run at a time.
        progress: show a progress bar on standard error.
        keep_partial: return what there is when interrupted by Ctrl-C after the first events.

    Raises:
        InputError: if an argument does not fit, or q(z|x) has no density.
    """
    checked_count("num_events", num_events)
    chains = Chains(vae, num_chains, initial, leapfrog_steps, seed)
    betas = _betas(schedule, num_steps)
    x, z, label = vae.sample_joint(num_events, label=label, seed=[seed, EVENTS])
    together = _events_together(vae, num_chains, chunk_size)

    def parts() -> Iterator[np.ndarray]:
        with Progress([None], progress) as bar:
            for number, start in enumerate(range(0, num_events, together)):
                rows = slice(start, start + together)
                group = Group.of(vae, x, label, rows, number)
                part = len(group.x) / num_events / 3
                steps = chains.pilot(group, betas, bar, part)
                forward = chains.run(group, chains.start(group), betas, steps, bar, part)
                exact = tf.repeat(z[rows][None], num_chains, axis=0)
                backward = chains.run(group, exact, betas[::-1], steps[::-1], bar, part)
                below, above = _summed(*forward), _summed(*backward)
                above[0] *= -1
                yield np.concatenate([below, above])

    found, complete = until_interrupted(parts(), keep_partial)
    return Sandwich(
        _estimate(found[:3], complete, num_chains),
        _estimate(found[3:], complete, num_chains, reverse=True),
    )


def _betas(schedule: str | Sequence[float], num_steps: int) -> np.ndarray:
    """Return β_0 = 0 < ... < β_T = 1."""
    if isinstance(schedule, str):
        if schedule not in SCHEDULES:
            raise InputError(
                f"schedule is {', '.join(SCHEDULES)} or a list of numbers; received {schedule!r}"
            )
        return SCHEDULES[schedule](checked_count("num_steps", num_steps))
    try:
        betas = np.asarray(schedule, dtype="float64")
    except (TypeError, ValueError):
        betas = np.empty(0)
    if betas.ndim != 1 or len(betas) < 2 or betas[0] != 0 or betas[-1] != 1:
        raise InputError("a schedule is a list of numbers from 0 to 1, both included")
    if not (np.diff(betas) > 0).all():
        raise InputError("the numbers of a schedule rise from each to the next")
    return betas


def _events_together(vae: VAE, num_chains: int, chunk_size: int | None) -> int:
    if chunk_size is None:
        # A gradient needs the layers' outputs as well, two or three times what a decoding needs.
        chunk_size = max(1, default_chunk(vae) // 2)
    return max(1, checked_count("chunk_size", chunk_size) // num_chains)


def _summed(log_weights: np.ndarray, accepted: np.ndarray) -> np.ndarray:
    """Return log-mean weight, effective sample size and acceptance of each event, `[3, B]`.

    Args:
        log_weights: `[M, B]`.
        accepted: `[B]`.
    """
    log_sum = np.logaddexp.reduce(log_weights, axis=0)
    log_square_sum = np.logaddexp.reduce(2 * log_weights, axis=0)
    figures = log_mean_and_effective(log_sum, log_square_sum, len(log_weights))
    return np.stack([*figures, accepted])


def _estimate(
    found: np.ndarray, complete: bool, num_chains: int, *, reverse: bool = False
) -> AnnealedEstimate:
    log_probs, effective, accepted = found
    acceptance = float(np.mean(accepted))
    return AnnealedEstimate(
        log_probs, effective, num_chains, acceptance, reverse=reverse, complete=complete
    )
