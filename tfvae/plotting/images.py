"""Pictures of images: grids, reconstructions, and rows of them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from tfvae.plotting.figure import Shown

_INCHES_PER_IMAGE = 0.8


def image_grid(images: Any, columns: int | None = None) -> Figure:
    """Show images in rows.

    Args:
        images: `[N, H, W, C]`, with C 1 (grey) or 3 (RGB), else the first channel is shown;
            values are clipped to [0, 1].
        columns: images in a row; by default as many as make a square.
    """
    images = np.asarray(images)
    columns = columns or int(np.ceil(np.sqrt(len(images))))
    rows = -(-len(images) // columns)
    figure = Shown(
        figsize=(columns * _INCHES_PER_IMAGE, rows * _INCHES_PER_IMAGE), layout="constrained"
    )
    draw(figure.add_subplot(), tiled(images, columns))
    return figure


def reconstructions(originals: Any, reconstructed: Any) -> Figure:
    """Show originals, and below each its reconstruction.

    Args:
        originals: `[N, H, W, C]`.
        reconstructed: `[N, H, W, C]`.
    """
    originals, reconstructed = np.asarray(originals), np.asarray(reconstructed)
    figure = image_grid(np.concatenate([originals, reconstructed]), columns=len(originals))
    figure.suptitle("originals above, reconstructions below", fontsize=9)
    return figure


def image_rows(rows: Any, labels: Sequence[str] = ()) -> Figure:
    """Show several rows of images, such as walks through the latent space.

    Args:
        rows: `[R, V, H, W, C]`.
        labels: what to write before each row.
    """
    rows = np.asarray(rows)
    count, length = rows.shape[:2]
    figure = image_grid(rows.reshape((-1, *rows.shape[2:])), columns=length)
    if labels:
        axes = figure.axes[0]
        side = rows.shape[2] + 1
        axes.set_axis_on()
        axes.set_xticks([])
        axes.set_yticks(np.arange(count) * side + side / 2 - 0.5, labels, fontsize=8)
        axes.tick_params(length=0)
        for spine in axes.spines.values():
            spine.set_visible(False)
    return figure


def draw(axes: Any, picture: np.ndarray) -> None:
    axes.imshow(picture, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.set_axis_off()


def tiled(images: np.ndarray, columns: int) -> np.ndarray:
    """Lay images out in one array, a pixel of white between them."""
    count, height, width, channels = images.shape
    rows = -(-count // columns)
    kept = 3 if channels == 3 else 1
    canvas = np.ones((rows * (height + 1) - 1, columns * (width + 1) - 1, kept), "float32")
    for index, image in enumerate(images):
        top, left = index // columns * (height + 1), index % columns * (width + 1)
        canvas[top : top + height, left : left + width] = np.clip(image[..., :kept], 0, 1)
    return canvas if kept == 3 else canvas[..., 0]
