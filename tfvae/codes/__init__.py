"""Codes, the z of a `VQVAE`: quantizers make them, priors say how probable they are."""

from tfvae.codes import priors, quantizers
from tfvae.codes.priors import CodePrior, TransformerPrior
from tfvae.codes.quantizers import (
    FiniteScalarQuantizer,
    Quantizer,
    ResidualQuantizer,
    VectorQuantizer,
)

__all__ = [
    "CodePrior",
    "FiniteScalarQuantizer",
    "Quantizer",
    "ResidualQuantizer",
    "TransformerPrior",
    "VectorQuantizer",
    "priors",
    "quantizers",
]
