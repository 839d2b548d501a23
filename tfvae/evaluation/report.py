"""The report of ``tfvae evaluate``: every figure about a model and some events, with its error."""

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from tfvae import datasets
from tfvae.datasets import shapes
from tfvae.errors import InputError
from tfvae.evaluation.annealed import (
    AnnealedEstimate,
    Sandwich,
    annealed_log_prob,
    bidirectional_log_prob,
)
from tfvae.evaluation.codes import BoundEstimate, bound
from tfvae.evaluation.diagnostics import Diagnosis, diagnose
from tfvae.evaluation.disentanglement import Disentanglement, disentanglement_scores
from tfvae.evaluation.estimates import WeightedEstimate, figure
from tfvae.evaluation.importance import LogProbEstimate, log_prob
from tfvae.evaluation.probes import Accuracy, linear_probe, nearest_neighbours
from tfvae.models.event_spec import NOUNS
from tfvae.models.vae import VAE
from tfvae.models.vq import VQVAE

# Events whose codes a probe learns from, and is tried on.
_PROBE_EVENTS = 10_000


@dataclasses.dataclass(frozen=True)
class Annealing:
    """log p(x) by annealed importance sampling, beside importance sampling of the same events.

    Attributes:
        annealed: of events of the split.
        importance: of the same events.
        sandwich: bounds for as many samples from the model; None if an interrupt came before.
        settings: in words.
    """

    annealed: AnnealedEstimate
    importance: LogProbEstimate
    sandwich: Sandwich | None
    settings: str


@dataclasses.dataclass(frozen=True)
class LatentScores:
    """What the codes tell of labels and factors.

    Attributes:
        linear_probe: accuracy of a linear classifier of the codes; None of a conditional model,
            whose encoder is given the label, so that the codes tell nothing that it has found out.
        nearest_neighbours: accuracy of the vote of the ten nearest codes; None in the same case.
        disentanglement: scores of the data set's known factors; None where it has none.
    """

    linear_probe: Accuracy | None
    nearest_neighbours: Accuracy | None
    disentanglement: Disentanglement | None


@dataclasses.dataclass(frozen=True)
class Report:
    """What `evaluate` found; nats per event.

    Attributes:
        split: which events.
        log_prob: ELBO and log p(x) by importance sampling.
        diagnosis: the latent space; None if an interrupt came before.
        annealing: None if it was not asked for, or an interrupt came before.
        latent: the same.
        complete: whether no interrupt came.
    """

    split: str
    log_prob: LogProbEstimate
    diagnosis: Diagnosis | None = None
    annealing: Annealing | None = None
    latent: LatentScores | None = None
    complete: bool = True

    @property
    def warnings(self) -> tuple[str, ...]:
        """A line for each figure that is not to be trusted, and each thing that is wrong."""
        found = list(self.log_prob.warnings)
        if self.log_prob.measure == "cross-entropy":
            found.append(
                "a Bernoulli of values between 0 and 1 gives their cross-entropy, no probability: "
                "binarize the values, or take another likelihood, for a log p(x) to quote"
            )
        if self.annealing is not None:
            found += self.annealing.annealed.warnings
        if self.diagnosis is not None:
            found += self.diagnosis.warnings
        return tuple(found)

    def as_dict(self) -> dict[str, Any]:
        """Return all figures, for JSON."""
        facts: dict[str, Any] = {
            "split": self.split,
            "num_samples": self.log_prob.num_samples,
            **dataclasses.asdict(self.log_prob.elbo),
            "importance_sampling": self.log_prob.as_dict(),
            "complete": self.complete,
            "warnings": list(self.warnings),
        }
        if self.diagnosis is not None:
            facts["diagnosis"] = self.diagnosis.as_dict()
        if self.annealing is not None:
            bounds = self.annealing.sandwich
            facts["annealing"] = {
                "settings": self.annealing.settings,
                "annealed": self.annealing.annealed.as_dict(),
                "importance_sampling": self.annealing.importance.as_dict(),
                "sandwich": None if bounds is None else bounds.as_dict(),
            }
        if self.latent is not None:
            facts["latent"] = dataclasses.asdict(self.latent)
        return facts

    def __str__(self) -> str:
        return "\n".join(self._lines())

    @property
    def _nouns(self) -> tuple[str, str]:
        """What several events are called, and one."""
        noun = NOUNS[len(self.log_prob.event_shape)]
        return noun, noun if noun == "series" else noun[:-1]

    def _lines(self) -> Iterator[str]:
        found = self.log_prob
        elbo = found.elbo
        partial = "" if found.complete else ", interrupted"
        noun, one = self._nouns
        yield f"{self.split} {noun}  {found.events}{partial}; nats per {one}"
        yield (
            f"ELBO         {elbo.elbo:.3f} ± {elbo.standard_error:.3f}: log-likelihood "
            f"{elbo.log_likelihood:.3f}, KL {elbo.kl:.3f}"
        )
        name = "log p(x)" if found.measure != "cross-entropy" else "log 'p(x)'"
        draws = found.num_samples
        yield f"{name:12} {_figure(found, noun)}, importance sampling with {draws} draws"
        yield (
            f"             effective draws {found.effective_sample_size:.1f} (median), below 10 "
            f"for {found.low_effective:.1%} of the {noun}"
        )
        if not math.isnan(found.high_pareto_k):
            yield (
                f"             Pareto k {found.pareto_k:.2f} (median), above "
                f"{found.largest_reliable_k:.2g} for {found.high_pareto_k:.1%} of the {noun}"
            )
            low, high = found.interval
            above = f"to {high:.3f}" if math.isfinite(high) else "up: the draws do not tell how far"
            yield f"             of these {noun} themselves from {low:.3f} {above}, for 95 %"
        if found.bits_per_dimension is not None:
            kind = "" if found.levels is None else ", an upper bound: dequantised density"
            yield f"bits/dim     {found.bits_per_dimension:.4f}{kind}"
        elif found.measure == "density":
            yield "bits/dim     none: p(x) is a density of values that are not discrete"
        if self.annealing is not None:
            yield from self._annealing_lines(self.annealing)
        if self.diagnosis is not None:
            yield from self._diagnosis_lines(self.diagnosis)
        if self.latent is not None:
            yield from self._latent_lines(self.latent)
        for warning in self.warnings:
            yield f"warning      {warning}"

    def _annealing_lines(self, found: Annealing) -> Iterator[str]:
        noun, _ = self._nouns
        annealed, plain, bounds = found.annealed, found.importance, found.sandwich
        yield (
            f"AIS          {_figure(annealed, noun)} on {annealed.events} of the {noun} "
            f"(importance sampling: {plain.log_prob:.3f}); {found.settings}"
        )
        if bounds is not None:
            lower, upper = bounds.lower, bounds.upper
            yield (
                f"sandwich     {lower.log_prob:.3f} <= log p(x) <= {upper.log_prob:.3f} on "
                f"{lower.events} samples from the model: gap {bounds.gap:.3f} ± "
                f"{bounds.gap_standard_error:.3f}"
            )

    def _diagnosis_lines(self, found: Diagnosis) -> Iterator[str]:
        noun, _ = self._nouns
        ceiling = f" (its ceiling, log of the {noun} compared)" if found.is_saturated else ""
        yield (
            f"latent       {found.active_units} of {found.latent_dim} units active; rate "
            f"{found.rate:.2f}, distortion {found.distortion:.2f}"
        )
        if len(found.group_sizes) > 1:
            of_each = zip(found.kl_by_group, found.active_by_group, found.group_sizes, strict=True)
            yield "groups       " + "; ".join(
                f"z{number}: KL {kl:.2f}, {active} of {size} units active"
                for number, (kl, active, size) in enumerate(of_each, start=1)
            )
        yield f"             I(x; z) {found.mutual_information:.2f}{ceiling}" + (
            "" if ceiling else f", KL(q(z) || p(z)) {found.marginal_kl:.2f}"
        )

    def _latent_lines(self, found: LatentScores) -> Iterator[str]:
        noun, _ = self._nouns
        probe, neighbours = found.linear_probe, found.nearest_neighbours
        if probe is None or neighbours is None:
            yield "labels       not probed: the encoder of a conditional model is given the label"
        else:
            yield (
                f"labels       linear probe {probe.accuracy:.3f} ± {probe.standard_error:.3f}, 10 "
                f"nearest neighbours {neighbours.accuracy:.3f} ± {neighbours.standard_error:.3f} "
                f"(chance {probe.chance:.3f}, {probe.events} {noun})"
            )
        scores = found.disentanglement
        if scores is not None:
            yield "factors      " + ", ".join(
                f"{name} {value:.3f}"
                for name, value in (
                    ("MIG", scores.mig),
                    ("SAP", scores.sap),
                    ("DCI disentanglement", scores.disentanglement),
                    ("completeness", scores.completeness),
                    ("informativeness", scores.informativeness),
                    ("FactorVAE score", scores.factor_vae_score),
                )
            )


@dataclasses.dataclass(frozen=True)
class CodeReport:
    """What `evaluate` found of a `VQVAE`; nats per event.

    Attributes:
        split: which events.
        bound: of log p(x), and how the codes are used.
    """

    split: str
    bound: BoundEstimate

    @property
    def complete(self) -> bool:
        """Whether no interrupt came."""
        return self.bound.complete

    @property
    def warnings(self) -> tuple[str, ...]:
        """A line for each figure that is not to be quoted as it stands."""
        return self.bound.warnings

    def as_dict(self) -> dict[str, Any]:
        """Return all figures, for JSON."""
        return {
            "split": self.split,
            **dataclasses.asdict(self.bound.elbo),
            **self.bound.as_dict(),
        }

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        found, usage = self.bound, self.bound.usage
        noun = NOUNS[len(found.event_shape)]
        one = noun if noun == "series" else noun[:-1]
        partial = "" if found.complete else ", interrupted"
        depth, size = usage.counts.shape
        yield f"{self.split} {noun}  {found.events}{partial}; nats per {one}"
        yield (
            f"bound        {figure(found.bound, found.standard_error)}: log-likelihood "
            f"{found.log_likelihoods.mean():.3f}, log p(codes) {found.log_priors.mean():.3f}; "
            "log p(x) is not below it"
        )
        if found.bits_per_dimension is not None:
            yield f"bits/dim     {found.bits_per_dimension:.4f}, an upper bound"
        elif found.measure == "density":
            yield "bits/dim     none: p(x) is a density of values that are not discrete"
        levels = f" (mean of {depth} levels)" if depth > 1 else ""
        yield (
            f"codes        perplexity {usage.perplexity:.1f} of {size}{levels}, "
            f"{usage.used:.1%} in use"
        )
        for warning in self.warnings:
            yield f"warning      {warning}"


def _figure(found: WeightedEstimate, noun: str) -> str:
    return (
        f"{figure(found.log_prob, found.standard_error)} (over {noun}; over draws "
        f"± {found.monte_carlo_error:.3f})"
    )


def evaluate(
    vae: VAE | VQVAE,
    data: datasets.Dataset,
    split: str = "test",
    *,
    num_samples: int = 100,
    limit: int | None = None,
    annealed_events: int = 0,
    annealing_steps: int = 200,
    latent: bool = False,
    batch_size: int = 256,
    seed: int = 0,
    progress: bool = False,
) -> Report | CodeReport:
    """Estimate log p(x), and say what the latent space does.

    Ctrl-C ends it early, with what there is: the events come in random order, so that the mean of
    the first of them has the expectation of all.

    Args:
        vae: a built `VAE`; or a `VQVAE`, of which it is the bound and the use of its codes.
        data: the data set.
        split: "train", "validation" or "test".
        num_samples: K of importance sampling.
        limit: take so many events of the split, drawn at random.
        annealed_events: how many of them annealed importance sampling takes, and how many samples
            from the model; none for 0.
        annealing_steps: its temperatures.
        latent: score the codes by labels and factors, too.
        batch_size: events encoded at a time.
        seed: of all draws.
        progress: show progress bars on standard error.

    Raises:
        InputError: if something does not fit.
    """
    events: datasets.Split = getattr(data, split)
    if latent and not data.has_labels:
        raise InputError(f"{data.name} has no labels to score the codes by")
    if limit is not None:
        events = events.subset(limit, seed=seed)
    batches = events.batches(batch_size, shuffle=True, epoch=0)
    if isinstance(vae, VQVAE):
        if latent or annealed_events:
            raise InputError(
                "annealed importance sampling and the scores of codes are for a VAE; received a "
                "VQVAE, whose codes are whole numbers: leave out ais and latent"
            )
        found_bound = bound(vae, batches, levels=data.levels, progress=progress, keep_partial=True)
        return CodeReport(split, found_bound)
    options: dict[str, Any] = {"seed": seed, "progress": progress, "keep_partial": True}
    report = Report(
        split,
        log_prob(vae, batches, num_samples=num_samples, levels=data.levels, **options),
    )
    if not report.log_prob.complete:
        return dataclasses.replace(report, complete=False)
    try:
        found = diagnose(vae, batches, seed=seed, progress=progress)
        report = dataclasses.replace(report, diagnosis=found)
        if latent:
            report = dataclasses.replace(report, latent=_latent_scores(vae, data, events, seed))
        if annealed_events:
            few = events.subset(annealed_events, seed=seed)
            batches = few.batches(batch_size, epoch=0)
            plain = log_prob(vae, batches, num_samples=num_samples, levels=data.levels, seed=seed)
            options["num_steps"] = annealing_steps
            annealed = annealed_log_prob(vae, batches, **options)
            settings = (
                f"{annealed.num_samples} chains, {annealing_steps} steps, acceptance "
                f"{annealed.acceptance:.2f}"
            )
            annealing = Annealing(annealed, plain, None, settings)
            report = dataclasses.replace(report, annealing=annealing, complete=annealed.complete)
            if annealed.complete:
                label = None if vae.num_classes is None else few.arrays()[1]
                bounds = bidirectional_log_prob(vae, len(few), label=label, **options)
                annealing = dataclasses.replace(annealing, sandwich=bounds)
                report = dataclasses.replace(
                    report, annealing=annealing, complete=bounds.lower.complete
                )
    except KeyboardInterrupt:
        report = dataclasses.replace(report, complete=False)
    return report


def _latent_scores(
    vae: VAE, data: datasets.Dataset, events: datasets.Split, seed: int
) -> LatentScores:
    learnt_from = data.train.subset(_PROBE_EVENTS, seed=seed)
    events = events.subset(_PROBE_EVENTS, seed=seed)
    train, test = _codes(vae, learnt_from), _codes(vae, events)
    scores = None
    if data.name == "shapes":
        scores = disentanglement_scores(test[0], shapes.factors(events.rows), seed=seed)
    if vae.num_classes is not None:
        return LatentScores(None, None, scores)
    return LatentScores(
        linear_probe(*train, *test, seed=seed), nearest_neighbours(*train, *test), scores
    )


def _codes(vae: VAE, events: datasets.Split) -> tuple[np.ndarray, np.ndarray]:
    """Compute codes `[N, d]` and labels `[N]`, in the order of the rows."""
    codes, labels = [], []
    for x, label in events.batches(256, epoch=0):
        codes.append(vae.code(x, None if vae.num_classes is None else label).numpy())
        labels.append(label.numpy())
    return np.concatenate(codes), np.concatenate(labels)
