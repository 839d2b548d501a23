"""Likelihoods by their names."""

from tfvae.likelihoods.base import Likelihood
from tfvae.likelihoods.continuous import (
    Beta,
    ContinuousBernoulli,
    Laplace,
    Logistic,
    Normal,
    StudentT,
)
from tfvae.likelihoods.discrete import (
    Bernoulli,
    Categorical,
    DiscretizedLogistic,
    DiscretizedLogisticMixture,
    NegativeBinomial,
    Poisson,
)

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
