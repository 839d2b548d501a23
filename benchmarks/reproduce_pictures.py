"""Pictures of the rows of `reproduce.py`: how their ELBO rose, and what their models draw."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from tfvae import plotting

_COLUMNS = 4
# The steep first epochs would leave no height for the last.
_LEFT_OUT = 0.25


def gain(curve: Sequence[float]) -> float:
    """Give by how much the last tenth of the epochs raised the validation ELBO, nats."""
    tenth = max(1, len(curve) // 10)
    return curve[-1] - curve[-1 - tenth] if len(curve) > tenth else 0.0


def curves(rows: Mapping[str, Sequence[float]]) -> Figure:
    """Draw one panel a row: the validation ELBO over the epochs.

    Args:
        rows: the ELBO after each epoch, nats, by the row's name.
    """
    lines = -(-len(rows) // _COLUMNS)
    figure = Figure(figsize=(2.6 * _COLUMNS, 2.3 * lines), layout="constrained")
    panels = figure.subplots(lines, _COLUMNS, squeeze=False).flat
    # The rows first, so that no panel is taken for a row that is not there.
    for (name, curve), panel in zip(rows.items(), panels, strict=False):
        epochs = range(1, len(curve) + 1)
        panel.plot(epochs, curve, color="tab:blue")
        shown = curve[int(_LEFT_OUT * len(curve)) :]
        margin = 0.08 * (max(shown) - min(shown)) or 1.0
        panel.set_ylim(min(shown) - margin, max(shown) + margin)
        panel.set_title(name, fontsize=9)
        panel.set_xlabel("epoch", fontsize=8)
        panel.tick_params(labelsize=8)
        panel.grid(alpha=0.3)
        words = f"{curve[-1]:.2f}\nlast tenth {gain(curve):+.2f}"
        panel.text(0.96, 0.06, words, transform=panel.transAxes, ha="right", fontsize=8)
    for panel in panels:
        panel.set_axis_off()
    for line in range(lines):
        figure.axes[line * _COLUMNS].set_ylabel("validation ELBO, nats", fontsize=8)
    return figure


def samples(vae: Any, seed: int) -> Figure:
    """Draw 36 means of p(x|z), z from the prior."""
    return plotting.image_grid(vae.sample(36, seed=seed), columns=12)
