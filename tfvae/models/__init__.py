"""Models: `VAE`, `HierarchicalVAE`, `VQVAE` and `Autoencoder`, and what an input of theirs is."""

from tfvae.models.autoencoder import Autoencoder
from tfvae.models.base import LatentVariableModel
from tfvae.models.event_spec import EventSpec
from tfvae.models.hierarchical import HierarchicalVAE
from tfvae.models.top_down import TopDown
from tfvae.models.vae import VAE
from tfvae.models.vq import VQVAE

# The models that the command line trains, by their names there.
BY_NAME: dict[str, type[LatentVariableModel]] = {
    "vae": VAE,
    "hierarchical": HierarchicalVAE,
    "vq": VQVAE,
}

__all__ = [
    "BY_NAME",
    "VAE",
    "VQVAE",
    "Autoencoder",
    "EventSpec",
    "HierarchicalVAE",
    "LatentVariableModel",
    "TopDown",
]
