"""Variational autoencoders for Keras 3, TensorFlow and TensorFlow Probability.

Names load on first use, so that ``import tfvae`` and ``tfvae --help`` do not load TensorFlow.
"""

import importlib
import importlib.abc
import importlib.util
import sys
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

__all__ = [
    "VAE",
    "Autoencoder",
    "DivergenceError",
    "InputError",
    "WorkerError",
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
    "training",
]
# Where the names are that are no modules.
_NAMES = {
    "VAE": "tfvae.models.vae",
    "Autoencoder": "tfvae.models.autoencoder",
    "DivergenceError": "tfvae.errors",
    "InputError": "tfvae.errors",
    "WorkerError": "tfvae.errors",
    "load": "tfvae.saving.load",
}

if TYPE_CHECKING:
    from tfvae import (
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
        training,
    )
    from tfvae.errors import DivergenceError, InputError, WorkerError
    from tfvae.models.autoencoder import Autoencoder
    from tfvae.models.vae import VAE
    from tfvae.saving.load import load


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        return getattr(importlib.import_module(_NAMES[name]), name)
    if name in __all__:
        return importlib.import_module(f"tfvae.{name}")
    raise AttributeError(f"module 'tfvae' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _register_with_keras() -> None:
    """Make `keras.models.load_model` know the classes here.

    Keras finds a class of a saved model only if the class has been registered before.
    """
    importlib.import_module("tfvae.models.autoencoder")
    importlib.import_module("tfvae.models.vae")


class _KerasWatcher(importlib.abc.MetaPathFinder):
    """Registers the classes right after Keras has been imported, should that come after tfvae.

    A library does the same (``wrapt.when_imported``), and takes a tenth of a second to load, which
    ``tfvae --help`` would pay.
    """

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        """Find Keras as Python would have, and add the registration to its execution."""
        if name != "keras":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        loader = spec.loader if spec is not None else None
        if loader is not None:
            execute = loader.exec_module

            def execute_and_register(module: Any) -> None:
                execute(module)
                _register_with_keras()

            loader.exec_module = execute_and_register  # type: ignore[method-assign]
        return spec


if "keras" in sys.modules:
    _register_with_keras()
else:
    sys.meta_path.insert(0, _KerasWatcher())
