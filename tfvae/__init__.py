"""Variational autoencoders for Keras 3, TensorFlow and TensorFlow Probability.

Names load on first use, so that ``import tfvae`` and ``tfvae --help`` do not load TensorFlow.
"""

import importlib
from typing import TYPE_CHECKING, Any

import wrapt

__version__ = "0.1.0"

__all__ = [
    "VAE",
    "Autoencoder",
    "InputError",
    "datasets",
    "divergences",
    "evaluation",
    "likelihoods",
    "networks",
    "objectives",
    "plotting",
    "posteriors",
    "priors",
    "training",
]
# Where the names are that are no modules.
_NAMES = {"VAE": "tfvae.model", "Autoencoder": "tfvae.autoencoder", "InputError": "tfvae.errors"}

if TYPE_CHECKING:
    from tfvae import (
        datasets,
        divergences,
        evaluation,
        likelihoods,
        networks,
        objectives,
        plotting,
        posteriors,
        priors,
        training,
    )
    from tfvae.autoencoder import Autoencoder
    from tfvae.errors import InputError
    from tfvae.model import VAE


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        return getattr(importlib.import_module(_NAMES[name]), name)
    if name in __all__:
        return importlib.import_module(f"tfvae.{name}")
    raise AttributeError(f"module 'tfvae' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


@wrapt.when_imported("keras")
def _register_with_keras(_: Any) -> None:
    """Make `keras.models.load_model` know the classes here, whichever import came first.

    Keras finds a class of a saved model only if the class has been registered before.
    """
    importlib.import_module("tfvae.autoencoder")
    importlib.import_module("tfvae.model")
