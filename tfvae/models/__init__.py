"""Models: `VAE` and `Autoencoder`, what an input of theirs is, and the optimiser of ``"adam"``."""

from tfvae.models.adam import FusedAdam
from tfvae.models.autoencoder import Autoencoder
from tfvae.models.base import LatentVariableModel
from tfvae.models.event_spec import EventSpec
from tfvae.models.vae import VAE

__all__ = ["VAE", "Autoencoder", "EventSpec", "FusedAdam", "LatentVariableModel"]
