"""How good a model is: log p(x) from below and from above, with the error of every figure.

``log_prob`` estimates log p(x) of data by importance sampling, and the ELBO with the same draws;
``annealed_log_prob`` by annealed importance sampling, which is tighter where q(z|x) is poor; and
``bidirectional_log_prob`` encloses log p(x) of a model's own samples between two bounds. All values
are in nats, one an image, and a mean comes with its standard error.
"""

from tfvae.evaluation.annealed import (
    SCHEDULES,
    AnnealedEstimate,
    Sandwich,
    annealed_log_prob,
    bidirectional_log_prob,
)
from tfvae.evaluation.estimates import ELBOEstimate, WeightedEstimate, bits_per_dimension
from tfvae.evaluation.importance import LogProbEstimate, elbo, log_prob
from tfvae.lazy import submodules

__all__ = [
    "SCHEDULES",
    "AnnealedEstimate",
    "ELBOEstimate",
    "LogProbEstimate",
    "Sandwich",
    "WeightedEstimate",
    "annealed_log_prob",
    "bidirectional_log_prob",
    "bits_per_dimension",
    "elbo",
    "log_prob",
]

__getattr__, __dir__ = submodules(__name__)
