"""Trained models at work: signatures, SavedModels, clients, other runtimes and bulk embedding.

The modules load on first use, as ``tfvae.serving.client``; some need an extra.
"""

from tfvae.lazy import submodules

__getattr__, __dir__ = submodules(__name__)
