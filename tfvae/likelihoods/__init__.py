"""Likelihoods p(x|z).

- of 0 or 1: ``bernoulli``, `Bernoulli`;
- of [0, 1]: ``continuous_bernoulli``, ``beta``: `ContinuousBernoulli`, `Beta`;
- of any finite values: ``normal``, ``laplace``, ``logistic``, ``student_t``: `Normal`, `Laplace`,
  `Logistic`, `StudentT`;
- of evenly spaced levels, such as bytes / 255: ``discretized_logistic``,
  ``discretized_logistic_mixture``, ``categorical``: `DiscretizedLogistic`,
  `DiscretizedLogisticMixture`, `Categorical`;
- of counts 0, 1, 2, ...: ``poisson``, ``negative_binomial``: `Poisson`, `NegativeBinomial`;
- of a table's rows: `Columns`, made of the others.

Log-densities of one line compare with each other; those of different lines do not. Only the
discrete ones (`Likelihood.is_discrete`) have bits per dimension.
"""

from collections.abc import Mapping
from typing import Any

from tfvae.distributions.family import resolve
from tfvae.likelihoods.base import Likelihood
from tfvae.likelihoods.choice import Choice, for_values
from tfvae.likelihoods.columns import Columns
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
from tfvae.likelihoods.encoding import Encoding
from tfvae.likelihoods.names import BY_NAME
from tfvae.likelihoods.support import ColumnsSupport, Support

__all__ = [
    "BY_NAME",
    "Bernoulli",
    "Beta",
    "Categorical",
    "Choice",
    "Columns",
    "ColumnsSupport",
    "ContinuousBernoulli",
    "Count",
    "DiscretizedLogistic",
    "DiscretizedLogisticMixture",
    "Encoding",
    "Laplace",
    "Likelihood",
    "LocationScale",
    "Logistic",
    "NegativeBinomial",
    "Normal",
    "Poisson",
    "StudentT",
    "Support",
    "for_values",
    "get",
    "of_features",
]


def get(identifier: Likelihood | Mapping[str, Any] | str) -> Likelihood:
    """Return the likelihood that a name, a configuration or an instance stands for."""
    return resolve(identifier, Likelihood, BY_NAME, "likelihood")


def of_features(identifier: Likelihood | Mapping[str, Any] | str) -> Likelihood:
    """Return the likelihood for a decoder that puts out features, however many.

    One that leaves `decoder_output` open is copied, so that the caller's own stays as it is.
    """
    likelihood = get(identifier)
    if likelihood.decoder_output is not None:
        return likelihood
    return type(likelihood).from_config({**likelihood.get_config(), "decoder_output": "features"})
