"""What a `VQVAE` is measured by: a bound of log p(x), and how its codes are used."""

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from tfvae.checks import checked_count
from tfvae.errors import InputError
from tfvae.evaluation.batches import (
    BATCH_SIZE,
    EventData,
    Progress,
    compiled,
    event_batches,
    unconverted,
    until_interrupted,
)
from tfvae.evaluation.estimates import (
    ELBOEstimate,
    bits_per_dimension,
    counted,
    figure,
    mean_and_error,
    measure_of,
)
from tfvae.models.vq import VQVAE
from tfvae.typing import Shape


@dataclasses.dataclass(frozen=True, eq=False)
class CodeUsage:
    """How often each code stands for something.

    Attributes:
        counts: `[depth, K]`.
    """

    counts: np.ndarray

    @property
    def perplexities(self) -> np.ndarray:
        """Exp of the entropy of each level's codes, `[depth]`: of K equally frequent codes K."""
        total = self.counts.sum(axis=1, keepdims=True)
        share = self.counts / np.maximum(total, 1)
        logs = np.log(np.where(share > 0, share, 1.0))
        return np.exp(-(share * logs).sum(axis=1))

    @property
    def perplexity(self) -> float:
        """The mean over levels."""
        return float(self.perplexities.mean())

    @property
    def used(self) -> float:
        """The share of codes that occur."""
        return float((self.counts > 0).mean())


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class BoundEstimate:
    """The bound log p(x|c(x)) + log p(c(x)) ≤ log p(x) of events, nats; nothing in it is drawn.

    Where values are missing, x is what was observed.

    Attributes:
        log_likelihoods: log p(x|c(x)) of each event, `[N]`.
        log_priors: log p(c(x)) of each event, `[N]`.
        usage: how often each code stands for something in these events.
        event_shape: the shape of one event.
        observed_values: how many values of each event were observed, `[N]`.
        measure: what p(x) is; see `LogProbEstimate`.
        levels: how many levels there were before noise was added, if it was.
        prior_is_trained: whether p(c) is another than uniform.
        complete: whether all events are in it; False for what an interrupt left.
    """

    log_likelihoods: np.ndarray
    log_priors: np.ndarray
    usage: CodeUsage
    event_shape: Shape
    observed_values: np.ndarray
    measure: str
    levels: int | None = None
    prior_is_trained: bool = True
    complete: bool = True

    def __repr__(self) -> str:
        return (
            f"BoundEstimate({figure(self.bound, self.standard_error)} nats: log-likelihood "
            f"{self.log_likelihoods.mean():.3f}, log p(c) {self.log_priors.mean():.3f}; "
            f"{counted(self.events)})"
        )

    @property
    def events(self) -> int:
        """How many events."""
        return len(self.log_likelihoods)

    @property
    def bounds(self) -> np.ndarray:
        """The bound of each event, `[N]`, nats."""
        return self.log_likelihoods + self.log_priors

    @property
    def bound(self) -> float:
        """Mean over events, nats."""
        return mean_and_error(self.bounds)[0]

    @property
    def standard_error(self) -> float:
        """How far the mean over as many other events of the kind may lie; NaN for one event."""
        return mean_and_error(self.bounds)[1]

    @property
    def elbo(self) -> ELBOEstimate:
        """The bound as the ELBO of a q(c|x) that puts all mass on c(x): its KL is −log p(c(x))."""
        mean, error = mean_and_error(self.bounds)
        return ELBOEstimate(
            elbo=mean,
            log_likelihood=float(self.log_likelihoods.mean()),
            kl=-float(self.log_priors.mean()),
            standard_error=error,
            events=self.events,
        )

    @property
    def bits_per_dimension(self) -> float | None:
        """An upper bound of the bits for each observed value; see `LogProbEstimate`."""
        values = float(self.observed_values.mean())
        if self.measure not in ("probability", "dequantized density") or not values:
            return None
        return bits_per_dimension(-self.bound, self.event_shape, self.levels, observed=values)

    @property
    def warnings(self) -> tuple[str, ...]:
        """A line for each thing for which the figure is not to be quoted as it stands."""
        found = []
        if not self.prior_is_trained:
            found.append(
                "the prior of the codes has not been trained, and is uniform: the bound is looser "
                "than it need be (vq.fit_prior)"
            )
        if self.measure == "cross-entropy":
            found.append(
                "a Bernoulli of values between 0 and 1 gives their cross-entropy, no probability: "
                "binarize the values, or take another likelihood, for a log p(x) to quote"
            )
        return tuple(found)

    def as_dict(self) -> dict[str, Any]:
        """Return the figures over all events, for JSON."""
        return {
            "bound": self.bound,
            "standard_error": self.standard_error,
            "log_likelihood": float(self.log_likelihoods.mean()),
            "log_prior": float(self.log_priors.mean()),
            "perplexity": self.usage.perplexity,
            "codes_used": self.usage.used,
            "events": self.events,
            "measure": self.measure,
            "bits_per_dimension": self.bits_per_dimension,
            "complete": self.complete,
            "warnings": list(self.warnings),
        }


def check_vq(vq: Any) -> None:
    """Check that a model has codes.

    Raises:
        InputError: if it is no built `VQVAE`.
    """
    if not isinstance(vq, VQVAE):
        raise InputError(f"expected a VQVAE, which has codes; received a {type(vq).__name__}")
    if not vq.built:
        raise InputError("the model does not know its event shape yet: call it on events first")


def bound(
    vq: VQVAE,
    data: EventData,
    *,
    levels: int | None = None,
    batch_size: int = BATCH_SIZE,
    progress: bool = False,
    keep_partial: bool = False,
) -> BoundEstimate:
    """Compute the bound of log p(x), or log p(x|y) of a conditional model, over a data set.

    It is exact: nothing is drawn. How far it lies below log p(x), which sums over all codes, it
    does not tell.

    Args:
        vq: a built `VQVAE`.
        data: a split, arrays or batches; see `tfvae.evaluation.batches.event_batches`.
        levels: how many levels the values had before uniform noise was added, if it was.
        batch_size: events encoded at a time, where data does not come in batches.
        progress: show a progress bar on standard error.
        keep_partial: return what there is when interrupted by Ctrl-C after the first events.

    Raises:
        InputError: if there are no events, or they do not fit.
    """
    check_vq(vq)
    if levels is not None:
        checked_count("levels", levels, least=2)
    family, is_probability = vq.likelihood_family, True
    batches = event_batches(vq, data, batch_size=batch_size)
    counts = np.zeros((vq.quantizer.depth, vq.num_codes))

    def terms(x: Any, label: Any) -> tuple[Any, ...]:
        codes = vq.codes(x, label)
        return (*vq.bound(x, label), vq.count_codes(codes))

    run = compiled(unconverted(terms))

    def parts() -> Iterator[np.ndarray]:
        nonlocal is_probability, counts
        with Progress(batches, progress) as bar:
            for x, label in batches:
                filled, observed = vq.event_spec.observed(x)
                is_probability = is_probability and bool(family.gives_probabilities(filled))
                found, log_likelihood, log_prior, new = (one.numpy() for one in run(x, label))
                values = np.full(len(x), float(math.prod(vq.event_shape)))
                if observed is not None:
                    values = np.sum(observed.numpy(), axis=tuple(range(1, len(x.shape))))
                counts += new
                bar.advance(1, found)
                yield np.stack([log_likelihood, log_prior, values]).astype(np.float64)

    found, complete = until_interrupted(parts(), keep_partial)
    log_likelihoods, log_priors, observed_values = found
    return BoundEstimate(
        log_likelihoods,
        log_priors,
        CodeUsage(counts),
        vq.event_shape,
        observed_values,
        measure_of(family.is_discrete, is_probability, levels),
        levels,
        vq.prior_is_trained,
        complete,
    )


def code_usage(vq: VQVAE, data: EventData, *, batch_size: int = BATCH_SIZE) -> CodeUsage:
    """Count how often each code stands for something in events.

    Args:
        vq: a built `VQVAE`.
        data: as for `bound`.
        batch_size: events encoded at a time, where data does not come in batches.

    Raises:
        InputError: as `bound` does.
    """
    check_vq(vq)
    counts = np.zeros((vq.quantizer.depth, vq.num_codes))
    run = compiled(unconverted(lambda x, label: vq.count_codes(vq.codes(x, label))))
    for x, label in event_batches(vq, data, batch_size=batch_size):
        counts += run(x, label).numpy()
    if not counts.any():
        raise InputError("expected at least one event; the data set is empty")
    return CodeUsage(counts)
