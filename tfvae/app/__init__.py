"""The page to explore a latent space: `tfvae explore`."""

from tfvae.lazy import submodules

__getattr__, __dir__ = submodules(__name__)
