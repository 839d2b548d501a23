"""Data sets: what they are read from, their splits, and batches of them."""

from tfvae.datasets.batches import Batches, Split, input_errors
from tfvae.datasets.dataset import BINARIZATIONS, Dataset, load
from tfvae.datasets.open import open_source
from tfvae.datasets.source import SPLITS, Source
from tfvae.lazy import submodules

__all__ = [
    "BINARIZATIONS",
    "SPLITS",
    "Batches",
    "Dataset",
    "Source",
    "Split",
    "input_errors",
    "load",
    "open_source",
]

__getattr__, __dir__ = submodules(__name__)
