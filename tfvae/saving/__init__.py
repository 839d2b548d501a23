"""Models and runs on disk: files, directories, cards and configurations."""

from tfvae.lazy import submodules

__getattr__, __dir__ = submodules(__name__)
