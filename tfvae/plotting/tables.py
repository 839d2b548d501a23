"""Tables in their own units: columns, pairs and correlations, beside made-up rows, and holes."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure

from tfvae.datasets.cells import numbers_of
from tfvae.datasets.column import Column, level_key
from tfvae.datasets.schema import Schema
from tfvae.plotting.figure import Shown

if TYPE_CHECKING:
    import pandas as pd

# More would be too small to read.
_MOST_COLUMNS = 48
_MOST_BARS = 8
_BINS = 30
_PAIRS = 4
_MOST_POINTS = 1500
_MOST_ROWS = 300
_COLOURS = ("C0", "C1")
_SIDE = 6


def table_figure(
    frame: "pd.DataFrame", schema: Schema, made_up: "pd.DataFrame | None" = None
) -> Figure:
    """Draw the columns of a table; beside made-up rows pairs and correlations; and its holes.

    Args:
        frame: rows of the table.
        schema: what its columns are.
        made_up: rows of a model, drawn in another colour.
    """
    columns = _shown(frame, schema)
    others = made_up is not None and len(columns) > 1
    holes = frame[[column.name for column in columns]].isna()
    rows = -(-len(columns) // _SIDE)
    heights = [1.45 * rows + 0.5]
    heights += [2.3, 3.4] if others else []
    heights += [3.0] if holes.to_numpy().any() else []
    figure = Shown(figsize=(11.0, sum(heights)), layout="constrained")
    parts = list(figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0])
    _draw_columns(parts.pop(0), columns, frame, made_up, rows)
    if others:
        _draw_pairs(parts.pop(0), columns, frame, made_up)
        _draw_correlations(parts.pop(0), columns, frame, made_up)
    if parts:
        _draw_holes(parts.pop(0), holes)
    return figure


def _shown(frame: "pd.DataFrame", schema: Schema) -> list[Column]:
    columns = [*schema.columns, *([] if schema.label is None else [schema.label])]
    return [column for column in columns if column.name in frame.columns][:_MOST_COLUMNS]


def _draw_columns(
    figure: Any,
    columns: Sequence[Column],
    frame: "pd.DataFrame",
    made_up: "pd.DataFrame | None",
    rows: int,
) -> None:
    """Draw how the values of each column are distributed."""
    panels = list(figure.subplots(rows, _SIDE, squeeze=False).flat)
    for column, panel in zip(columns, panels, strict=False):
        tables = [frame] if made_up is None or column.name not in made_up else [frame, made_up]
        values = [table[column.name].dropna() for table in tables]
        if column.levels:
            _bars(panel, column, values)
        else:
            _histogram(panel, column, values)
        panel.set_title(_short(column.name, 20), fontsize=8)
        panel.set_yticks([])
        panel.tick_params(labelsize=6)
    for panel in panels[len(columns) :]:
        panel.set_axis_off()
    text = f"share of the rows by value, of {len(frame):,} rows"
    if made_up is not None:
        text += f" (blue) and of {len(made_up):,} made up (orange)"
    figure.supxlabel(text, fontsize=8)


def _bars(panel: Any, column: Column, tables: Sequence["pd.Series"]) -> None:
    """Draw a bar for each level, the most frequent ones where they are many."""
    keys = [level_key(level) for level in column.levels]
    shares = np.array([_shares(values, keys) for values in tables])
    chosen = np.arange(len(keys))
    if len(keys) > _MOST_BARS:
        chosen = np.argsort(-shares[0], kind="stable")[: _MOST_BARS - 1]
        rest = 1 - shares[:, chosen].sum(axis=1, keepdims=True)
        shares = np.concatenate([shares[:, chosen], rest], axis=1)
    else:
        shares = shares[:, chosen]
    names = [_short(str(column.levels[place]), 10) for place in chosen]
    names += ["others"] * (shares.shape[1] - len(names))
    width = 0.85 / len(tables)
    for number, row in enumerate(shares):
        places = np.arange(len(row)) + (number - (len(tables) - 1) / 2) * width
        panel.bar(places, row, width, color=_COLOURS[number], alpha=0.75)
    turned = max(map(len, names)) * len(names) > 16
    panel.set_xticks(range(len(names)), names, rotation=60 if turned else 0, fontsize=6)


def _histogram(panel: Any, column: Column, tables: Sequence["pd.Series"]) -> None:
    numbers = [_numbers(column, values) for values in tables]
    edges = _edges(numbers[0], whole=column.decimals == 0 or column.kind == "count")
    for number, values in enumerate(numbers):
        if len(values):
            weights = np.full(len(values), 1 / len(values))
            panel.hist(
                np.clip(values, edges[0], edges[-1]),
                edges,
                weights=weights,
                color=_COLOURS[number],
                alpha=0.75 if number == 0 else 1.0,
                histtype="stepfilled" if number == 0 else "step",
            )
    if column.kind == "date":
        locator = AutoDateLocator(minticks=2, maxticks=4)
        panel.xaxis.set_major_locator(locator)
        panel.xaxis.set_major_formatter(ConciseDateFormatter(locator))
        panel.xaxis.get_offset_text().set_fontsize(6)
    else:
        panel.locator_params(axis="x", nbins=3)


def _edges(values: np.ndarray, *, whole: bool) -> np.ndarray:
    """Return the edges of bins; those of whole numbers hold equally many of them."""
    if not len(values):
        return np.array([0.0, 1.0])
    # A few far values would leave all others in one bin.
    low, high = np.quantile(values, [0.005, 0.995]) if len(values) > 400 else _ends(values)
    if whole:
        width = max(1, round((high - low) / _BINS))
        return np.arange(np.floor(low) - 0.5, np.ceil(high) + width + 0.5, width)
    if high <= low:
        low, high = low - 0.5, high + 0.5
    return np.linspace(low, high, _BINS + 1)


def _ends(values: np.ndarray) -> tuple[float, float]:
    return float(values.min()), float(values.max())


def _draw_pairs(
    figure: Any, columns: Sequence[Column], frame: "pd.DataFrame", made_up: "pd.DataFrame"
) -> None:
    """Draw the pairs of numbers that hang together most, real rows beside made-up ones."""
    chosen = [column for column in columns if not column.levels]
    pairs = _closest(chosen, frame)
    if not pairs:
        return
    panels = figure.subplots(1, 2 * len(pairs), squeeze=False)[0]
    for number, (first, second) in enumerate(pairs):
        real, other = panels[2 * number : 2 * number + 2]
        for panel, table, colour in ((real, frame, "C0"), (other, made_up, "C1")):
            some = table[[first.name, second.name]].dropna()[:_MOST_POINTS]
            x, y = (_numbers(column, some[column.name]) for column in (first, second))
            panel.plot(x, y, ".", markersize=2, alpha=0.4, color=colour)
            panel.set_xticks([])
            panel.set_yticks([])
        limits = [
            _limits(_numbers(column, frame[column.name].dropna())) for column in (first, second)
        ]
        for panel in (real, other):
            panel.set(xlim=limits[0], ylim=limits[1])
        real.set_xlabel(_short(first.name, 16), fontsize=7)
        real.set_ylabel(_short(second.name, 16), fontsize=7)
        other.set_xlabel("made up", fontsize=7)
    figure.supxlabel("pairs of columns that hang together most", fontsize=8)


def _closest(columns: Sequence[Column], frame: "pd.DataFrame") -> list[tuple[Column, Column]]:
    found = np.abs(_correlations(columns, frame))
    places = zip(*np.triu_indices(len(columns), 1), strict=True)
    ordered = sorted(places, key=lambda pair: -np.nan_to_num(found[pair]))
    return [(columns[int(one)], columns[int(other)]) for one, other in ordered[:_PAIRS]]


def _draw_correlations(
    figure: Any, columns: Sequence[Column], frame: "pd.DataFrame", made_up: "pd.DataFrame"
) -> None:
    """Draw the rank correlations of real rows, of made-up ones, and their difference."""
    both = [column for column in columns if column.name in made_up.columns]
    real, other = _correlations(both, frame), _correlations(both, made_up)
    panels = figure.subplots(1, 3)
    names = [_short(column.name, 12) for column in both]
    for panel, values, title in zip(
        panels, (real, other, other - real), ("table", "made up", "difference"), strict=True
    ):
        image = panel.imshow(values, cmap="RdBu_r", vmin=-1, vmax=1)
        panel.set_title(title, fontsize=8)
        if len(both) <= 24:
            panel.set_xticks(range(len(both)), names, rotation=90, fontsize=6)
            panel.set_yticks(range(len(both)), names if title == "table" else [], fontsize=6)
        else:
            panel.set_xticks([])
            panel.set_yticks([])
    bar = figure.colorbar(image, ax=list(panels), shrink=0.8)
    bar.ax.tick_params(labelsize=6)
    figure.supxlabel("rank correlations; of categories, of the numbers of their levels", fontsize=8)


def _correlations(columns: Sequence[Column], frame: "pd.DataFrame") -> np.ndarray:
    """Return rank correlations `[C, C]` over the rows in which neither value is missing."""
    import pandas as pd

    coded = pd.DataFrame(
        {column.name: column.to_events(frame[column.name], unseen="missing") for column in columns}
    )
    return coded.rank().corr().to_numpy()


def _draw_holes(figure: Any, holes: "pd.DataFrame") -> None:
    """Draw which values of some rows are missing, and how many of each column."""
    share = holes.mean()
    bars, rows = figure.subplots(1, 2, width_ratios=(1, 2))
    names = [_short(str(name), 14) for name in holes]
    bars.barh(range(len(names)), share, color="C3", alpha=0.75)
    bars.set_yticks(range(len(names)), names if len(names) <= 30 else [""] * len(names), fontsize=6)
    bars.invert_yaxis()
    bars.set_xlabel("share missing", fontsize=7)
    bars.tick_params(labelsize=6)
    some = holes[:: max(1, len(holes) // _MOST_ROWS)].to_numpy()
    # Rows in which the same is missing side by side.
    some = some[np.lexsort(some.T)]
    rows.imshow(some.T, cmap="Reds", vmin=0, vmax=1.4, aspect="auto", interpolation="nearest")
    rows.set_yticks([])
    rows.set_xticks([])
    rows.set_xlabel(f"{len(some):,} rows, in order of what is missing", fontsize=7)


def _shares(values: "pd.Series", keys: Sequence[str]) -> np.ndarray:
    counts = values.map(level_key).value_counts()
    found = np.array([counts.get(key, 0) for key in keys], float)
    return found / max(1.0, found.sum())


def _numbers(column: Column, values: "pd.Series") -> np.ndarray:
    """Return values as numbers that Matplotlib draws, dates in days."""
    is_date = column.kind == "date"
    numbers = numbers_of(column.name, values, is_date=is_date)
    return numbers / 86_400 if is_date else numbers


def _limits(values: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(values, [0.002, 0.998]) if len(values) else (0.0, 1.0)
    margin = 0.05 * (high - low) or 1.0
    return float(low - margin), float(high + margin)


def _short(name: str, most: int) -> str:
    name = " ".join(name.split()) or "(nameless)"
    return name if len(name) <= most else f"{name[: most - 1]}…"
