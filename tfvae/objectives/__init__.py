"""Objectives: what training minimises, from the terms of the ELBO.

    ELBO(x) = E_q(z|x)[log p(x|z)] − KL(q(z|x) ‖ p(z)) ≤ log p(x)

An objective is a pure function of the terms. It returns one loss for each event; the mean over the
batch is taken once, in the training step. Whatever the objective is, validation reports the ELBO.
"""

from collections.abc import Mapping
from typing import Any

from tfvae.distributions.family import resolve
from tfvae.objectives.aggregate import (
    BetaTC,
    FactorVAE,
    InfoVAE,
    KLParts,
    decompose_kl,
    maximum_mean_discrepancy,
)
from tfvae.objectives.base import Objective, PathWeight, Terms, gradient_through
from tfvae.objectives.elbo import ELBO, Capacity, FreeBits, StickingTheLanding
from tfvae.objectives.importance import (
    CIWAE,
    IWAE,
    MIWAE,
    PIWAE,
    DReG,
    importance_weighted_bound,
)

__all__ = [
    "BY_NAME",
    "CIWAE",
    "ELBO",
    "IWAE",
    "MIWAE",
    "PIWAE",
    "BetaTC",
    "Capacity",
    "DReG",
    "FactorVAE",
    "FreeBits",
    "InfoVAE",
    "KLParts",
    "Objective",
    "PathWeight",
    "StickingTheLanding",
    "Terms",
    "decompose_kl",
    "get",
    "gradient_through",
    "importance_weighted_bound",
    "maximum_mean_discrepancy",
]

BY_NAME: dict[str, type[Objective]] = {
    "elbo": ELBO,
    "stl": StickingTheLanding,
    "free_bits": FreeBits,
    "capacity": Capacity,
    "iwae": IWAE,
    "dreg": DReG,
    "miwae": MIWAE,
    "piwae": PIWAE,
    "ciwae": CIWAE,
    "beta_tc": BetaTC,
    "factor": FactorVAE,
    "info": InfoVAE,
}


def get(
    identifier: Objective | Mapping[str, Any] | str, defaults: Mapping[str, object] | None = None
) -> Objective:
    """Return the objective that a name, a configuration or an instance stands for.

    Args:
        identifier: an `Objective`, its configuration, or a text such as ``"elbo:beta=4"``,
            ``"elbo:beta=linear(steps=1000)"`` or ``"iwae:num_samples=5"``.
        defaults: values for options that the text leaves open, such as ``dataset_size``.

    Raises:
        InputError: if the name or an option is unknown, missing or does not fit.
    """
    return resolve(identifier, Objective, BY_NAME, "objective", defaults)
