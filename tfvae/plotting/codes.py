"""Pictures of codes: how often each is used, and the code maps of events."""

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure

from tfvae.errors import InputError
from tfvae.plotting.figure import Shown, some
from tfvae.typing import ArrayLike

if TYPE_CHECKING:
    from tfvae.evaluation.codes import CodeUsage

# A picture of more maps could not be read.
_MOST_MAPS = 10


def code_use(
    usage: "CodeUsage", codes: ArrayLike | None = None, images: ArrayLike | None = None
) -> Figure:
    """Draw how often each code is used, the most frequent first, and the code maps of events.

    Args:
        usage: what `tfvae.evaluation.code_usage` counted.
        codes: of some events, `[N, *map]`, or `[N, *map, depth]` with several levels; the first ten
            are shown, a row a level.
        images: the events, `[N, H, W, C]`, to show above their maps.

    Raises:
        InputError: if there are no codes, or fewer images.
    """
    depth, size = usage.counts.shape
    maps = None if codes is None else _planes(some("codes", codes), depth)[:_MOST_MAPS]
    shown: np.ndarray | None = None
    if images is not None and maps is not None:
        shown = some("images", images, rank=4)[: len(maps)]
        if len(shown) < len(maps):
            raise InputError(f"expected an image for each of {len(maps)} code maps")
    rows = 0 if maps is None else depth + (shown is not None)
    figure = Shown(figsize=(8, 2.6 + 0.9 * rows), layout="constrained")
    if maps is None:
        _draw_use(figure.subplots(), usage)
        return figure
    parts: Any = figure.subfigures(2, 1, height_ratios=(2.6, 0.9 * rows))
    _draw_use(parts[0].subplots(), usage)
    _draw_maps(parts[1], maps, shown, size)
    return figure


def _draw_use(axes: Any, usage: "CodeUsage") -> None:
    depth, size = usage.counts.shape
    for level, counts in enumerate(usage.counts):
        share = np.sort(counts / max(counts.sum(), 1))[::-1]
        name = f"level {level + 1}: " if depth > 1 else ""
        axes.step(
            np.arange(1, size + 1),
            share,
            where="mid",
            label=f"{name}perplexity {usage.perplexities[level]:.1f} of {size}",
        )
    axes.axhline(1 / size, color="0.6", lw=0.8, ls="--", label="all alike")
    axes.set(xlabel="code, the most frequent first", ylabel="share of places", xlim=(0.5, size + 1))
    axes.set_title(f"{usage.used:.1%} of {size} codes in use", fontsize=10)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)


def _draw_maps(figure: Any, maps: np.ndarray, images: np.ndarray | None, size: int) -> None:
    depth = maps.shape[1]
    first = int(images is not None)
    axes = figure.subplots(depth + first, len(maps), squeeze=False)
    for column, levels in enumerate(maps):
        if images is not None:
            image = np.clip(images[column], 0, 1)
            shape = image if image.shape[-1] == 3 else image[..., 0]
            axes[0, column].imshow(shape, cmap="gray", vmin=0, vmax=1)
        for level, plane in enumerate(levels):
            axes[first + level, column].imshow(
                plane, cmap="nipy_spectral", vmin=0, vmax=size - 1, interpolation="nearest"
            )
    for one in axes.flat:
        one.set_xticks([])
        one.set_yticks([])
        one.grid(visible=False)
    if images is not None:
        axes[0, 0].set_ylabel("x", fontsize=9)
    for level in range(depth):
        name = "codes" if depth == 1 else f"level {level + 1}"
        axes[first + level, 0].set_ylabel(name, fontsize=9)


def _planes(codes: np.ndarray, depth: int) -> np.ndarray:
    """Return code maps as planes, `[N, depth, rows, columns]`; of a volume its slices in a row."""
    maps = np.moveaxis(codes, -1, 1) if depth > 1 else codes[:, None]
    sides = maps.shape[2:]
    if len(sides) == 1:
        maps = maps[:, :, None]
    elif len(sides) == 3:
        maps = np.concatenate(np.moveaxis(maps, 2, 0), axis=-1)
    return maps
