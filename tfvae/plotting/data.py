"""A look at data: some events with their labels, and how the values are distributed."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from tfvae.plotting.figure import Shown
from tfvae.plotting.images import channels_shown, draw, grey_range, slices, tiled
from tfvae.plotting.series import draw_lines
from tfvae.plotting.vectors import marginals
from tfvae.typing import ArrayLike

_COLUMNS = {2: 3, 3: 8, 4: 8}
_ROWS = {2: 4, 3: 4, 4: 2}
_BINS = 64


def data_figure(
    x: ArrayLike,
    labels: ArrayLike | None = None,
    class_names: Sequence[str] | None = None,
    names: Sequence[str] = (),
) -> Figure:
    """Draw some events of a data set with their labels, and the distribution of all values.

    Args:
        x: `[N, *event_shape]`; the first ones of as many labels as possible are shown. Of vectors
            the distribution of each column is drawn, and nothing else.
        labels: `[N]`, or None.
        class_names: the name of each label.
        names: of the columns of vectors.
    """
    x = np.asarray(x)
    rank = x.ndim - 1
    if rank == 1:
        return marginals(x, names)
    columns = min(_COLUMNS[rank], len(x))
    chosen = _in_turn(None if labels is None else np.asarray(labels), len(x))
    chosen = chosen[: columns * _ROWS[rank]]
    rows = -(-len(chosen) // columns)
    side = {2: (2.6, 1.3), 3: (1.0, 1.15), 4: (1.0, 2.9)}[rank]
    figure = Shown(
        figsize=(columns * side[0] + 3.6, max(3.0, rows * side[1] + 0.5)), layout="constrained"
    )
    left, right = figure.subfigures(1, 2, width_ratios=(columns * side[0], 3.4), squeeze=False)[0]
    panels = left.subplots(rows, columns, squeeze=False, sharex=rank == 2, sharey=rank == 2)
    low, high = grey_range(x)
    for panel, row in zip(panels.flat, chosen, strict=False):
        if rank == 2:
            draw_lines(panel, x[row])
            panel.tick_params(labelsize=7)
        else:
            image = (x[row] - low) / (high - low)
            image = slices(image[None])[0] if rank == 4 else image
            draw(panel, tiled(image[None], 1))
        if labels is not None:
            number = int(np.asarray(labels)[row])
            title = class_names[number] if class_names else str(number)
            panel.set_title(title if len(title) <= 16 else f"{title[:14]}…", fontsize=8)
    for panel in panels.flat[len(chosen) :]:
        panel.set_axis_off()
    notes = [channels_shown(x.shape[-1])] if rank > 2 else []
    if rank > 2 and (low, high) != (0, 1):
        notes.append(f"black is {low:.3g}, white is {high:.3g}")
    if any(notes):
        left.supxlabel("; ".join(filter(None, notes)), fontsize=8)
    _values(right.subplots(), x)
    return figure


def _values(axes: Any, x: np.ndarray) -> None:
    """Draw the distribution of all values, on a logarithmic scale, as most may be equal."""
    finite = x[np.isfinite(x)]
    axes.hist(finite, _BINS, color="C0", alpha=0.7)
    axes.set_yscale("log", nonpositive="clip")
    axes.set_title(f"values of {len(x):,} training events", fontsize=9)
    axes.tick_params(which="both", labelsize=7)
    missing = 1 - len(finite) / x.size
    text = f"from {finite.min():.4g} to {finite.max():.4g}" if len(finite) else "none"
    axes.set_xlabel(text + (f"; {missing:.1%} missing" if missing else ""), fontsize=8)
    axes.set_ylabel("count", fontsize=8)


def _in_turn(labels: np.ndarray | None, count: int) -> np.ndarray:
    """Return row numbers, one of each label, then the next of each, and so on."""
    if labels is None:
        return np.arange(count)
    order = np.argsort(labels, kind="stable")
    starts = np.concatenate([[0], np.flatnonzero(np.diff(labels[order])) + 1, [count]])
    turn = np.empty(count, int)
    for first, last in itertools.pairwise(starts):
        turn[order[first:last]] = np.arange(last - first)
    return np.lexsort((labels, turn))
