"""Events of any kind: images as images, series as lines, volumes by slices, vectors by columns."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from tfvae.errors import InputError
from tfvae.plotting.figure import some
from tfvae.plotting.images import (
    channels_shown,
    grey_range,
    image_grid,
    image_reconstructions,
    image_rows,
    slices,
)
from tfvae.plotting.series import series_grid, series_reconstructions, series_rows
from tfvae.plotting.vectors import marginals, vector_reconstructions, vector_rows
from tfvae.typing import ArrayLike, Shape


def event_grid(x: ArrayLike, names: Sequence[str] = ()) -> Figure:
    """Draw events, such as samples of a model.

    Args:
        x: `[N, D]`, `[N, T, C]`, `[N, H, W, C]` or `[N, D, H, W, C]`.
        names: of the columns of vectors.

    Raises:
        InputError: if the shape is none of these.
    """
    x = some("events", x)
    rank = _rank_of(x.shape[1:])
    if rank == 1:
        return marginals(x, names)
    if rank == 2:
        return series_grid(x)
    scaled, note = _as_images(x, x)
    # Volumes are three times as high as wide.
    columns = min(len(x), int(np.ceil(np.sqrt(3 * len(x))))) if rank == 4 else None
    return _noted(image_grid(scaled, columns), note)


def reconstructions(
    originals: ArrayLike, reconstructed: ArrayLike, names: Sequence[str] = ()
) -> Figure:
    """Draw originals and their reconstructions.

    Args:
        originals: events, as for `event_grid`.
        reconstructed: of the same shape.
        names: of the columns of vectors.

    Raises:
        InputError: if the shape is that of no events.
    """
    originals, reconstructed = some("events", originals), some("events", reconstructed)
    if originals.shape != reconstructed.shape:
        raise InputError(
            f"expected a reconstruction of each event, {originals.shape}; received shape "
            f"{reconstructed.shape}"
        )
    rank = _rank_of(originals.shape[1:])
    if rank == 1:
        return vector_reconstructions(originals, reconstructed, names)
    if rank == 2:
        return series_reconstructions(originals, reconstructed)
    above, note = _as_images(originals, originals)
    below, _ = _as_images(reconstructed, originals)
    return _noted(image_reconstructions(above, below), note)


def event_rows(rows: ArrayLike, labels: Sequence[str] = (), names: Sequence[str] = ()) -> Figure:
    """Draw walks through the latent space.

    Args:
        rows: `[R, V, *event_shape]`, R walks of V events.
        labels: what to write before each walk.
        names: of the columns of vectors.

    Raises:
        InputError: if the shape is that of no events.
    """
    rows = some("walks", rows)
    rank = _rank_of(rows.shape[2:])
    if rank == 1:
        return vector_rows(rows, labels, names)
    if rank == 2:
        return series_rows(rows, labels)
    scaled, note = _as_images(rows.reshape((-1, *rows.shape[2:])), rows)
    return _noted(image_rows(scaled.reshape((*rows.shape[:2], *scaled.shape[1:])), labels), note)


def group_rows(rows: ArrayLike, names: Sequence[str] = ()) -> Figure:
    """Draw what each group of latents of a hierarchy adds.

    Args:
        rows: as `tfvae.HierarchicalVAE.group_effects` returns them, `[L, V, *event_shape]`: in a
            row the groups before it are kept and the others drawn anew.
        names: of the columns of vectors.

    Raises:
        InputError: if the shape is that of no events.
    """
    rows = some("rows", rows)
    kept = ["none kept", "z1 kept", *(f"z1-z{last} kept" for last in range(2, len(rows)))]
    return event_rows(rows, kept[: len(rows)], names)


def grid_labels(num_classes: int | None, n: int) -> np.ndarray | None:
    """Return the labels of n samples of a conditional model: about as many of each, in order.

    Args:
        num_classes: how many labels there are; None of a model that takes none.
        n: how many samples.

    Returns:
        `[n]`, or None of a model that takes none.
    """
    return None if num_classes is None else np.arange(n) * num_classes // n


def _as_images(x: np.ndarray, scale: np.ndarray) -> tuple[np.ndarray, str]:
    """Return images or volumes as images in [0, 1], and what has to be said of them.

    Args:
        x: what to draw.
        scale: values that tell what is black and what is white.
    """
    low, high = grey_range(scale)
    notes = [channels_shown(x.shape[-1])]
    if (low, high) != (0, 1):
        x = (x - low) / (high - low)
        notes.append(f"black is {low:.3g}, white is {high:.3g}")
    if x.ndim == 5:
        notes.append("middle slices across depth, height and width")
        x = slices(x)
    return x, "; ".join(filter(None, notes))


def _noted(figure: Figure, note: str) -> Figure:
    if note:
        width, height = figure.get_size_inches()
        figure.set_size_inches(max(width, 4.0), height + 0.6)
        figure.supxlabel(note, fontsize=8)
    return figure


def _rank_of(event_shape: Shape) -> int:
    if not 1 <= len(event_shape) <= 4:
        raise InputError(
            "expected events [N, D], [N, T, C], [N, H, W, C] or [N, D, H, W, C]; received events "
            f"of shape {list(event_shape)}"
        )
    return len(event_shape)
