"""Variational autoencoders for Keras 3, TensorFlow and TensorFlow Probability.

Names load on first use, so that ``import tfvae`` and ``tfvae --help`` do not load TensorFlow.
"""

import importlib
import importlib.abc
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import wrapt

from tfvae.quiet import keep_quiet

__version__ = "0.1.0"

__all__ = [
    "VAE",
    "VQVAE",
    "Autoencoder",
    "DivergenceError",
    "HierarchicalVAE",
    "InputError",
    "WorkerError",
    "codes",
    "compression",
    "datasets",
    "distributions",
    "evaluation",
    "likelihoods",
    "load",
    "models",
    "networks",
    "objectives",
    "plotting",
    "posteriors",
    "priors",
    "saving",
    "serving",
    "sklearn",
    "training",
]
# Where the names are that are no modules.
_NAMES = {
    "VAE": "tfvae.models",
    "VQVAE": "tfvae.models",
    "Autoencoder": "tfvae.models",
    "HierarchicalVAE": "tfvae.models",
    "DivergenceError": "tfvae.errors",
    "InputError": "tfvae.errors",
    "WorkerError": "tfvae.errors",
    "load": "tfvae.saving.load",
}

if TYPE_CHECKING:
    from tfvae import (
        codes,
        compression,
        datasets,
        distributions,
        evaluation,
        likelihoods,
        models,
        networks,
        objectives,
        plotting,
        posteriors,
        priors,
        saving,
        serving,
        sklearn,
        training,
    )
    from tfvae.errors import DivergenceError, InputError, WorkerError
    from tfvae.models import VAE, VQVAE, Autoencoder, HierarchicalVAE
    from tfvae.saving.load import load


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        return getattr(importlib.import_module(_NAMES[name]), name)
    if name in __all__:
        return importlib.import_module(f"tfvae.{name}")
    raise AttributeError(f"module 'tfvae' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _written_by(module: str, function: str) -> Callable[..., Any]:
    """Return a writer of exported models, which loads when it is needed."""

    def write(*args: Any, **kwargs: Any) -> Any:
        return getattr(importlib.import_module(module), function)(*args, **kwargs)

    return write


@wrapt.when_imported("tfvae.models")
def _add_export_formats(models: Any) -> None:
    """Tell the models which formats they are exported in: those modules build on theirs."""
    formats = models.base.EXPORT_FORMATS
    formats["tf_saved_model"] = _written_by("tfvae.serving.export", "export_saved_model")
    formats["onnx"] = _written_by("tfvae.serving.runtimes", "export_onnx")
    formats["litert"] = _written_by("tfvae.serving.runtimes", "export_litert")


@wrapt.when_imported("keras")
def _register_with_keras(_: Any) -> None:
    """Make `keras.models.load_model` know the classes here.

    Keras finds a class of a saved model only if the class has been registered before.
    """
    importlib.import_module("tfvae.models")


class _KerasFirst(importlib.abc.MetaPathFinder):
    """Finds no module, but loads Keras before those here that `tfvae.models` is built on.

    Keras loads `tfvae.models`, as above, and that cannot be loaded from within one of them.
    """

    rooms = (
        "distributions",
        "likelihoods",
        "networks",
        "objectives",
        "posteriors",
        "priors",
        "codes",
    )

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        """Find nothing, and load Keras if it is needed first."""
        if name in [f"tfvae.{room}" for room in self.rooms]:
            importlib.import_module("keras")


sys.meta_path.insert(0, _KerasFirst())
keep_quiet()
