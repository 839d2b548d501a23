"""Figures of events, curves, latent spaces and diagnoses.

Arrays in, matplotlib figures out. Save one with `save`, or ``figure.savefig("name.png")``.
"""

from tfvae.plotting.codes import code_use
from tfvae.plotting.curves import curves
from tfvae.plotting.data import data_figure
from tfvae.plotting.diagnosis import diagnosis
from tfvae.plotting.events import event_grid, event_rows, grid_labels, group_rows, reconstructions
from tfvae.plotting.figure import save
from tfvae.plotting.images import image_grid, image_rows
from tfvae.plotting.latent import latent_map, quantile_grid
from tfvae.plotting.tables import table_figure
from tfvae.plotting.vectors import marginals

__all__ = [
    "code_use",
    "curves",
    "data_figure",
    "diagnosis",
    "event_grid",
    "event_rows",
    "grid_labels",
    "group_rows",
    "image_grid",
    "image_rows",
    "latent_map",
    "marginals",
    "quantile_grid",
    "reconstructions",
    "save",
    "table_figure",
]
