"""Figures of images, curves, latent spaces and diagnoses."""

from tfvae.plotting.figures import (
    curves,
    diagnosis,
    image_grid,
    image_rows,
    latent_map,
    quantile_grid,
    reconstructions,
    save,
)

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
