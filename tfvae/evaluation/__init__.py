"""How good a model is: log p(x) from below and from above, what its codes hold, how it samples.

``log_prob`` estimates log p(x) of data by importance sampling, and the ELBO with the same draws;
``annealed_log_prob`` by annealed importance sampling, which is tighter where q(z|x) is poor; and
``bidirectional_log_prob`` encloses log p(x) of a model's own samples between two bounds. All values
are in nats, one for each event, and a mean comes with its standard error. Where values are missing,
p(x) is that of the observed ones.

``diagnose`` looks at the latent space, ``linear_probe``, ``nearest_neighbours`` and
``disentanglement_scores`` at what the codes tell, ``compare_samples`` at samples; ``fit_prior``
fits a density to the codes of a trained model; ``sample_given`` draws events in which some values
are given. ``score_by_value`` says what each value adds to an anomaly score. ``bound`` is what is
known of the log p(x) of a `VQVAE`, and ``code_usage`` how it uses its codes.

Data is, for all of them, a split of a data set, an array of events, a pair ``(x, labels)`` or
batches; see `tfvae.evaluation.batches.event_batches`. Names load on first use.
"""

import importlib
from typing import TYPE_CHECKING, Any

from tfvae.lazy import submodules

_NAMES = {
    "SCHEDULES": "annealed",
    "AnnealedEstimate": "annealed",
    "Sandwich": "annealed",
    "annealed_log_prob": "annealed",
    "bidirectional_log_prob": "annealed",
    "BoundEstimate": "codes",
    "CodeUsage": "codes",
    "score_by_value": "by_value",
    "bound": "codes",
    "code_usage": "codes",
    "ELBOEstimate": "estimates",
    "WeightedEstimate": "estimates",
    "bits_per_dimension": "estimates",
    "LogProbEstimate": "importance",
    "elbo": "importance",
    "log_prob": "importance",
    "Diagnosis": "diagnostics",
    "diagnose": "diagnostics",
    "aggregate_posterior": "expost",
    "fit_prior": "expost",
    "GivenSample": "given",
    "sample_given": "given",
    "linear_probe": "probes",
    "nearest_neighbours": "probes",
    "disentanglement_scores": "disentanglement",
    "SampleQuality": "sample_quality",
    "compare_samples": "sample_quality",
}
__all__ = [
    "SCHEDULES",
    "AnnealedEstimate",
    "BoundEstimate",
    "CodeUsage",
    "Diagnosis",
    "ELBOEstimate",
    "GivenSample",
    "LogProbEstimate",
    "SampleQuality",
    "Sandwich",
    "WeightedEstimate",
    "aggregate_posterior",
    "annealed_log_prob",
    "bidirectional_log_prob",
    "bits_per_dimension",
    "bound",
    "code_usage",
    "compare_samples",
    "diagnose",
    "disentanglement_scores",
    "elbo",
    "fit_prior",
    "linear_probe",
    "log_prob",
    "nearest_neighbours",
    "sample_given",
    "score_by_value",
]

if TYPE_CHECKING:
    from tfvae.evaluation.annealed import (
        SCHEDULES,
        AnnealedEstimate,
        Sandwich,
        annealed_log_prob,
        bidirectional_log_prob,
    )
    from tfvae.evaluation.by_value import score_by_value
    from tfvae.evaluation.codes import BoundEstimate, CodeUsage, bound, code_usage
    from tfvae.evaluation.diagnostics import Diagnosis, diagnose
    from tfvae.evaluation.disentanglement import disentanglement_scores
    from tfvae.evaluation.estimates import ELBOEstimate, WeightedEstimate, bits_per_dimension
    from tfvae.evaluation.expost import aggregate_posterior, fit_prior
    from tfvae.evaluation.given import GivenSample, sample_given
    from tfvae.evaluation.importance import LogProbEstimate, elbo, log_prob
    from tfvae.evaluation.probes import linear_probe, nearest_neighbours
    from tfvae.evaluation.sample_quality import SampleQuality, compare_samples

_submodule, __dir__ = submodules(__name__)


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        return getattr(importlib.import_module(f"{__name__}.{_NAMES[name]}"), name)
    return _submodule(name)
