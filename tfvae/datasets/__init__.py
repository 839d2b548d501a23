"""Data sets: what they are read from, their splits, and batches of them.

Names load on first use: sources are read without TensorFlow.
"""

import importlib
from typing import TYPE_CHECKING, Any

from tfvae.lazy import submodules

__all__ = [
    "BINARIZATIONS",
    "SPLITS",
    "Batches",
    "Dataset",
    "PictureOptions",
    "Schema",
    "Source",
    "Split",
    "input_errors",
    "load",
    "open_source",
]
_NAMES = {
    "BINARIZATIONS": "dataset",
    "SPLITS": "source",
    "Batches": "batches",
    "Dataset": "dataset",
    "PictureOptions": "options",
    "Schema": "schema",
    "Source": "source",
    "Split": "batches",
    "input_errors": "batches",
    "load": "dataset",
    "open_source": "open",
}

if TYPE_CHECKING:
    from tfvae.datasets.batches import Batches, Split, input_errors
    from tfvae.datasets.dataset import BINARIZATIONS, Dataset, load
    from tfvae.datasets.open import open_source
    from tfvae.datasets.options import PictureOptions
    from tfvae.datasets.schema import Schema
    from tfvae.datasets.source import SPLITS, Source

_submodule, __dir__ = submodules(__name__)


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        return getattr(importlib.import_module(f"{__name__}.{_NAMES[name]}"), name)
    return _submodule(name)
