"""Vectors by their columns: distributions, reconstructions, and walks."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from tfvae.plotting.figure import Shown
from tfvae.plotting.series import gradient
from tfvae.typing import ArrayLike

# More would be too small to read.
_MOST_COLUMNS = 48
_BINS = 30
# A column of no more distinct values has a bar for each.
_MOST_LEVELS = 12


def marginals(x: ArrayLike, names: Sequence[str] = (), *, other: ArrayLike | None = None) -> Figure:
    """Draw how the values of each column are distributed.

    Args:
        x: `[N, D]`, NaN where a value is missing; the first 48 columns are drawn.
        names: of the columns.
        other: `[M, D]` to compare with, drawn as a line.
    """
    x = np.asarray(x, float)
    figure, panels = _panels(x.shape[1])
    for column, panel in enumerate(panels):
        values = x[:, column][np.isfinite(x[:, column])]
        beside = None
        if other is not None:
            beside = np.asarray(other, float)[:, column]
            beside = beside[np.isfinite(beside)]
        edges = _edges(values if beside is None else np.concatenate([values, beside]))
        if len(values):
            weights = np.full(len(values), 1 / len(values))
            panel.hist(values, edges, weights=weights, color="C0", alpha=0.6, rwidth=0.95)
        if beside is not None and len(beside):
            weights = np.full(len(beside), 1 / len(beside))
            panel.hist(beside, edges, weights=weights, histtype="step", color="C1")
        panel.set_title(_name(names, column), fontsize=8)
        panel.set_yticks([])
    _note(figure, x.shape[1], len(panels), f"distribution of each column over {len(x):,} vectors")
    return figure


def vector_reconstructions(
    originals: ArrayLike, reconstructed: ArrayLike, names: Sequence[str] = ()
) -> Figure:
    """Draw the reconstructed value against the original one, axes for each column.

    Args:
        originals: `[N, D]`; the first 48 columns are drawn, and values that are missing left out.
        reconstructed: `[N, D]`.
        names: of the columns.
    """
    originals, reconstructed = np.asarray(originals, float), np.asarray(reconstructed, float)
    figure, panels = _panels(originals.shape[1], square=True)
    for column, panel in enumerate(panels):
        pairs = np.stack([originals[:, column], reconstructed[:, column]])
        pairs = pairs[:, np.isfinite(pairs).all(axis=0)]
        low, high = (pairs.min(), pairs.max()) if pairs.size else (0.0, 1.0)
        margin = 0.05 * (high - low) or 1.0
        ends = (low - margin, high + margin)
        panel.plot(ends, ends, color="0.8", linewidth=1)
        panel.plot(*pairs, "o", markersize=2.5, alpha=0.6)
        panel.set(xlim=ends, ylim=ends)
        panel.set_title(_name(names, column), fontsize=8)
    _note(figure, originals.shape[1], len(panels), "original →, reconstruction ↑")
    return figure


def vector_rows(rows: ArrayLike, labels: Sequence[str] = (), names: Sequence[str] = ()) -> Figure:
    """Draw walks through the latent space: each vector a line over its columns.

    Args:
        rows: `[R, V, D]`.
        labels: what to write before each walk.
        names: of the columns.
    """
    rows = np.asarray(rows, float)
    count, steps, columns = rows.shape
    width = float(np.clip(0.35 * columns, 5, 14))
    height = 1.1 * count + (1.4 if names else 0.7)
    figure = Shown(figsize=(width, height), layout="constrained")
    panels = figure.subplots(count, 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    colours = gradient(steps)
    marker = "o" if columns <= 40 else None
    for row, panel in enumerate(panels):
        for step in range(steps):
            panel.plot(rows[row, step], color=colours[step], lw=0.9, marker=marker, markersize=2)
        panel.grid(alpha=0.25)
        panel.tick_params(labelsize=7)
        if labels:
            panel.set_ylabel(labels[row], fontsize=8)
    panels[-1].xaxis.get_major_locator().set_params(integer=True)
    if names and columns <= 60:
        shown = [_name(names, column) for column in range(columns)]
        panels[-1].set_xticks(range(columns), shown, rotation=60, ha="right", fontsize=7)
    figure.supxlabel("column; each walk from dark to light", fontsize=8)
    return figure


def _edges(values: np.ndarray) -> np.ndarray:
    """Return the edges of the bins of a histogram: one for each of few values, else 30."""
    distinct = np.unique(values)
    if not len(distinct):
        return np.array([0.0, 1.0])
    if len(distinct) == 1:
        return distinct[0] + max(1.0, abs(distinct[0])) * np.array([-0.5, 0.5])
    if len(distinct) <= _MOST_LEVELS and len(values) > 2 * len(distinct):
        half = np.diff(distinct).min() / 2
        return np.unique(np.concatenate([distinct - half, distinct + half]))
    # A few far values would leave all others in one bin.
    low, high = np.quantile(values, [0.005, 0.995]) if len(values) > 400 else distinct[[0, -1]]
    return np.linspace(low, high if high > low else distinct[-1], _BINS + 1)


def _panels(count: int, *, square: bool = False) -> tuple[Figure, list[Any]]:
    shown = min(count, _MOST_COLUMNS)
    columns = min(shown, 6 if shown <= 36 else 8)
    rows = -(-shown // columns)
    size = (columns * 1.7 + 0.3, rows * (1.75 if square else 1.35) + 0.4)
    figure = Shown(figsize=size, layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for panel in panels:
        panel.tick_params(labelsize=6)
        panel.locator_params(nbins=3)
    for panel in panels[shown:]:
        panel.set_axis_off()
    return figure, panels[:shown]


def _name(names: Sequence[str], column: int) -> str:
    name = str(names[column]) if names else f"x[{column}]"
    return name if len(name) <= 20 else f"{name[:18]}…"


def _note(figure: Figure, columns: int, shown: int, text: str) -> None:
    if shown < columns:
        text += f"; the first {shown} of {columns} columns"
    figure.supxlabel(text, fontsize=8)
