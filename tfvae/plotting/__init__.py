"""Figures of events, curves, latent spaces and diagnoses.

Arrays in, matplotlib figures out. Save one with `save`, or ``figure.savefig("name.png")``.
"""

from tfvae.plotting.curves import curves
from tfvae.plotting.diagnosis import diagnosis
from tfvae.plotting.figure import save
from tfvae.plotting.images import image_grid, image_rows, reconstructions
from tfvae.plotting.latent import latent_map, quantile_grid

__all__ = [
    "curves",
    "diagnosis",
    "image_grid",
    "image_rows",
    "latent_map",
    "quantile_grid",
    "reconstructions",
    "save",
]
