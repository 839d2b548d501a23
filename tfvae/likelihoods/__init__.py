"""Likelihoods p(x|z).

=============================== ========================== =============================
name                            values                     p(x|z)
=============================== ========================== =============================
bernoulli                       0 or 1                     `Bernoulli`
continuous_bernoulli, beta      [0, 1]                     `ContinuousBernoulli`, `Beta`
normal, laplace, logistic,      finite values              `Normal`, `Laplace`,
student_t                                                  `Logistic`, `StudentT`
discretized_logistic,           evenly spaced levels,      `DiscretizedLogistic`,
discretized_logistic_mixture,   such as bytes / 255        `DiscretizedLogisticMixture`,
categorical                                                `Categorical`
poisson, negative_binomial      counts 0, 1, 2, ...        `Poisson`, `NegativeBinomial`
=============================== ========================== =============================

Log-densities of one row compare with each other; those of different rows do not. Only the
discrete ones (`Likelihood.is_discrete`) have bits per dimension.
"""

from collections.abc import Mapping
from typing import Any

from tfvae.distributions.family import resolve
from tfvae.likelihoods.base import Likelihood
from tfvae.likelihoods.continuous import (
    Beta,
    ContinuousBernoulli,
    Laplace,
    LocationScale,
    Logistic,
    Normal,
    StudentT,
)
from tfvae.likelihoods.discrete import (
    Bernoulli,
    Categorical,
    Count,
    DiscretizedLogistic,
    DiscretizedLogisticMixture,
    NegativeBinomial,
    Poisson,
)
from tfvae.likelihoods.support import Support

__all__ = [
    "BY_NAME",
    "Bernoulli",
    "Beta",
    "Categorical",
    "ContinuousBernoulli",
    "Count",
    "DiscretizedLogistic",
    "DiscretizedLogisticMixture",
    "Laplace",
    "Likelihood",
    "LocationScale",
    "Logistic",
    "NegativeBinomial",
    "Normal",
    "Poisson",
    "StudentT",
    "Support",
    "get",
]

BY_NAME: dict[str, type[Likelihood]] = {
    "bernoulli": Bernoulli,
    "continuous_bernoulli": ContinuousBernoulli,
    "normal": Normal,
    "laplace": Laplace,
    "logistic": Logistic,
    "student_t": StudentT,
    "beta": Beta,
    "discretized_logistic": DiscretizedLogistic,
    "discretized_logistic_mixture": DiscretizedLogisticMixture,
    "categorical": Categorical,
    "poisson": Poisson,
    "negative_binomial": NegativeBinomial,
}


def get(identifier: str | Mapping[str, Any] | Likelihood) -> Likelihood:
    """Return the likelihood that a name, a configuration or an instance stands for."""
    return resolve(identifier, Likelihood, BY_NAME, "likelihood")
