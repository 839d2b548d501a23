"""What the commands draw and write of events: in the units that the user's data have."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure

from tfvae import datasets, plotting
from tfvae.errors import InputError
from tfvae.models.hierarchical import HierarchicalVAE
from tfvae.models.vae import VAE
from tfvae.models.vq import VQVAE
from tfvae.typing import ArrayLike

if TYPE_CHECKING:
    import pandas as pd

# A histogram needs many, a grid of pictures few.
DEFAULT_SAMPLES = {1: 1000, 2: 16, 3: 64, 4: 16}
# Vectors are points, of which a picture has room for many.
DEFAULT_RECONSTRUCTIONS = {1: 200, 2: 10, 3: 10, 4: 10}


class Units:
    """The units and names of a table's columns; of other events there are none.

    Args:
        schema: of the table that a model was trained on, or None.

    Attributes:
        names: of the columns, or none.
    """

    def __init__(self, schema: datasets.Schema | None):
        columns = () if schema is None else schema.columns
        self.names = tuple(column.name for column in columns)
        self._center = np.array([column.center for column in columns])
        self._scale = np.array([column.scale for column in columns])
        self._log = np.array([column.log for column in columns], bool)

    def of(self, x: ArrayLike) -> np.ndarray:
        """Return events `[..., D]` in the units of the table; categories are numbers still."""
        x = np.asarray(x)
        if not self.names:
            return x
        numbers = x * self._scale + self._center
        # Of columns that are no logarithms, none is taken: it may overflow.
        return np.where(self._log, np.exp(np.where(self._log, numbers, 0.0)), numbers)


def made_up_rows(
    vae: VAE, schema: datasets.Schema, x: np.ndarray, labels: np.ndarray | None = None
) -> "pd.DataFrame":
    """Return samples of a table's model as rows of the table, its numbers in their range.

    Args:
        vae: a built `VAE`.
        schema: of the table.
        x: the samples `[N, D]`.
        labels: `[N]`, of a conditional model; by default as `draw_samples` draws them.
    """
    if labels is None:
        labels = plotting.grid_labels(vae.num_classes, len(x))
    return schema.to_frame(x, labels, within_range=True)


def samples_figure(
    vae: VAE,
    units: Units,
    *,
    n: int | None = None,
    label: ArrayLike | None = None,
    seed: int = 0,
    mean: bool | None = None,
) -> Figure:
    """Draw samples of a model.

    Args:
        vae: a built `VAE`.
        units: of its events.
        n: how many; by default as many as the picture is made for.
        label: of a conditional model; by default some of each.
        seed: of the draws.
        mean: whether to draw the means of p(x|z); by default of all but vectors, whose means are
            distributed more narrowly than they are.
    """
    return plotting.event_grid(
        units.of(draw_samples(vae, n=n, label=label, seed=seed, mean=mean)), units.names
    )


def draw_samples(
    vae: VAE,
    *,
    n: int | None = None,
    label: ArrayLike | None = None,
    seed: int = 0,
    mean: bool | None = None,
    temperature: Sequence[float] | None = None,
) -> np.ndarray:
    """Return samples of a model, `[n, *event_shape]`; see `samples_figure`.

    `temperature` is one for each group of latents of a hierarchy, or one for all, and one for the
    codes of a `VQVAE`.

    Raises:
        InputError: if there is a temperature, and the model has none.
    """
    rank = len(vae.event_shape)
    n = n or DEFAULT_SAMPLES[rank]
    if label is None:
        label = plotting.grid_labels(vae.num_classes, n)
    options: dict[str, Any] = {}
    if temperature is not None:
        options["temperature"] = _temperature_of(vae, temperature)
    are_means = rank > 1 if mean is None else mean
    drawn = vae.sample(n, label=label, seed=seed, mean=are_means, **options)
    return np.asarray(drawn)


def _temperature_of(vae: Any, temperature: Sequence[float]) -> float | list[float]:
    """Return what `sample` of a model takes as its temperature.

    Raises:
        InputError: if it takes none, or not so many.
    """
    if isinstance(vae, HierarchicalVAE):
        return list(temperature)
    if not isinstance(vae, VQVAE):
        raise InputError(
            "temperature is for hierarchies of latents and for a VQVAE, and the model is a "
            f"{type(vae).__name__}: leave it out"
        )
    if len(temperature) != 1:
        raise InputError(f"a VQVAE has one temperature; received {len(temperature)}")
    return temperature[0]
