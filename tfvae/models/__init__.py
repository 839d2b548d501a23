"""Models: `VAE` and `Autoencoder`."""

from tfvae.lazy import submodules

__getattr__, __dir__ = submodules(__name__)
