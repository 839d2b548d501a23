"""Models: `VAE`, `VQVAE` and `Autoencoder`, and what an input of theirs is."""

from tfvae.models.autoencoder import Autoencoder
from tfvae.models.base import LatentVariableModel
from tfvae.models.event_spec import EventSpec
from tfvae.models.vae import VAE
from tfvae.models.vq import VQVAE

# The models that the command line trains, by their names there.
BY_NAME: dict[str, type[LatentVariableModel]] = {"vae": VAE, "vq": VQVAE}

__all__ = ["BY_NAME", "VAE", "VQVAE", "Autoencoder", "EventSpec", "LatentVariableModel"]
