"""Models: `VAE` and `Autoencoder`, and what an input of theirs is."""

from tfvae.models.autoencoder import Autoencoder
from tfvae.models.base import LatentVariableModel
from tfvae.models.event_spec import EventSpec
from tfvae.models.vae import VAE

__all__ = ["VAE", "Autoencoder", "EventSpec", "LatentVariableModel"]
