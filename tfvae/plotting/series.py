"""Series as lines."""

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from tfvae.plotting.figure import Shown
from tfvae.typing import ArrayLike

# More would be too small to read.
_MOST_PANELS = 16
_MOST_CHANNELS = 8
_MOST_COLUMNS = 10
# As many colours tell lines apart.
_COLOURS = 10


def series_grid(series: ArrayLike) -> Figure:
    """Draw each series in axes of its own, all on one scale, a colour for each channel.

    Args:
        series: `[N, T, C]`; the first 16 are drawn, and NaN leaves a gap.
    """
    series = np.asarray(series)
    shown = series[:_MOST_PANELS]
    columns = min(4, len(shown))
    figure, panels = _panels(-(-len(shown) // columns), columns, 2.4, 1.6)
    channels = series.shape[2]
    for panel, one in zip(panels.flat, shown, strict=False):
        draw_lines(panel, one)
    _hide(panels, len(shown))
    if 1 < channels <= _COLOURS:
        names = [f"channel {channel}" for channel in range(channels)]
        figure.legend(
            panels.flat[0].lines, names, loc="outside lower center", fontsize=8, frameon=False,
            ncols=min(channels, 3 * columns),
        )  # fmt: skip
    elif channels > _COLOURS:
        figure.supxlabel(f"{channels} channels, from dark to light", fontsize=8)
    if len(series) > len(shown):
        figure.suptitle(f"the first {len(shown)} of {len(series)} series", fontsize=9)
    return figure


def series_reconstructions(originals: ArrayLike, reconstructed: ArrayLike) -> Figure:
    """Draw originals and reconstructions in the same axes.

    A column for each series and a row for each channel; of one channel, the series go on in the
    next row.

    Args:
        originals: `[N, T, C]`; the first 10 are drawn, and of each the first 8 channels.
        reconstructed: `[N, T, C]`.
    """
    originals, reconstructed = np.asarray(originals), np.asarray(reconstructed)
    count, channels = min(len(originals), _MOST_COLUMNS), originals.shape[2]
    rows = min(channels, _MOST_CHANNELS)
    columns = count
    if channels == 1:
        columns = min(count, 5)
        rows = -(-count // columns)
    figure, panels = _panels(rows, columns, max(1.5, min(2.4, 12 / columns)), 1.3, sharey="row")
    for index, panel in enumerate(panels.flat):
        event, channel = (index, 0) if channels == 1 else (index % columns, index // columns)
        if event >= count:
            panel.set_axis_off()
            continue
        panel.plot(originals[event, :, channel], color="C0", linewidth=1)
        panel.plot(reconstructed[event, :, channel], color="C1", linewidth=1)
        if channels > 1 and event == 0:
            panel.set_ylabel(f"channel {channel}", fontsize=8)
    note = f"; the first {rows} of {channels} channels" if rows < channels else ""
    if count < len(originals):
        note += f"; the first {count} of {len(originals)} series"
    figure.legend(
        panels.flat[0].lines, ["original", f"reconstruction{note}"],
        loc="outside upper center", ncols=2, fontsize=9, frameon=False,
    )  # fmt: skip
    return figure


def series_rows(rows: ArrayLike, labels: Sequence[str] = ()) -> Figure:
    """Draw walks through the latent space, the series of one walk over each other.

    A row for each walk and a column for each channel; the series of a walk go from dark to light.

    Args:
        rows: `[R, V, T, C]`; the first 8 channels are drawn.
        labels: what to write before each row.
    """
    rows = np.asarray(rows)
    count, steps, _, channels = rows.shape
    columns = min(channels, _MOST_CHANNELS)
    figure, panels = _panels(count, columns, max(1.5, min(3.2, 12 / columns)), 1.3, sharey="col")
    colours = gradient(steps)
    for row in range(count):
        for channel in range(columns):
            panel = panels[row, channel]
            for step in range(steps):
                panel.plot(rows[row, step, :, channel], color=colours[step], linewidth=0.9)
            if row == 0 and channels > 1:
                panel.set_title(f"channel {channel}", fontsize=8)
        if labels:
            panels[row, 0].set_ylabel(labels[row], fontsize=8)
    note = f"; the first {columns} of {channels} channels" if columns < channels else ""
    figure.supxlabel(f"each walk from dark to light{note}", fontsize=8)
    return figure


def draw_lines(axes: Any, one: np.ndarray) -> None:
    """Draw one series `[T, C]`, a colour for each channel."""
    for channel, colour in enumerate(_colours(one.shape[1])):
        axes.plot(one[:, channel], color=colour, linewidth=1)


def gradient(steps: int) -> np.ndarray:
    """Return the colours of a walk, `[V, 4]`, from dark to light."""
    return mpl.colormaps["viridis"](np.linspace(0, 0.92, steps))


def _colours(channels: int) -> Any:
    if channels <= _COLOURS:
        return [f"C{channel}" for channel in range(channels)]
    return gradient(channels)


def _panels(
    rows: int, columns: int, width: float, height: float, sharey: Any = True
) -> tuple[Figure, np.ndarray]:
    """Return a figure and its axes `[rows, columns]`, all with the same steps."""
    figure = Shown(figsize=(columns * width + 0.5, rows * height + 0.6), layout="constrained")
    panels = figure.subplots(rows, columns, sharex=True, sharey=sharey, squeeze=False)
    for panel in panels.flat:
        panel.tick_params(labelsize=7)
        panel.grid(alpha=0.25)
    return figure, panels


def _hide(panels: np.ndarray, used: int) -> None:
    for panel in panels.flat[used:]:
        panel.set_axis_off()
