"""Pictures of images: grids, reconstructions, and rows of them."""

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from tfvae.plotting.figure import Shown, some
from tfvae.typing import ArrayLike

_INCHES_PER_IMAGE = 0.8
# Where a value is missing.
_HOLE = (0.91, 0.63, 0.63)
# Decoders go a little beyond the range of images in [0, 1], which is no reason to scale them.
_SLACK = 0.25


def image_grid(images: ArrayLike, columns: int | None = None) -> Figure:
    """Draw images in rows.

    Args:
        images: `[N, H, W, C]`, with C 1 (grey) or 3 (RGB), else the first channel is shown;
            values are clipped to [0, 1], and where there is NaN they are red.
        columns: images in a row; by default as many as make a square.

    Raises:
        InputError: if there are none, or they are no images.
    """
    images = some("images", images, rank=4)
    columns = columns or int(np.ceil(np.sqrt(len(images))))
    rows = -(-len(images) // columns)
    # Wide images, such as the slices of a volume side by side, take as much of the page as others.
    height, width = images.shape[1:3]
    # Long images take as much room across as others.
    across = columns * _INCHES_PER_IMAGE * max(1, width / height)
    down = rows * _INCHES_PER_IMAGE * max(1, height / width)
    figure = Shown(figsize=(across, down), layout="constrained")
    draw(figure.add_subplot(), tiled(images, columns))
    return figure


def image_reconstructions(originals: ArrayLike, reconstructed: ArrayLike) -> Figure:
    """Draw originals, and below each its reconstruction.

    Args:
        originals: `[N, H, W, C]`.
        reconstructed: `[N, H, W, C]`.
    """
    originals, reconstructed = np.asarray(originals), np.asarray(reconstructed)
    figure = image_grid(np.concatenate([originals, reconstructed]), columns=len(originals))
    figure.suptitle("originals above, reconstructions below", fontsize=9)
    return figure


def image_rows(rows: ArrayLike, labels: Sequence[str] = ()) -> Figure:
    """Draw several rows of images, such as walks through the latent space.

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


def slices(volumes: ArrayLike) -> np.ndarray:
    """Return the middle slice across each axis of volumes, one below the other as one image each.

    Args:
        volumes: `[N, D, H, W, C]`.

    Returns:
        `[N, 3·S + 2, S, C]` with S the longest of D, H and W: depth, height and width are cut in
        this order; what is between the slices and beyond the shorter sides is 1, which is white.
    """
    volumes = np.asarray(volumes)
    count, *sides, channels = volumes.shape
    longest = max(sides)
    canvas = np.ones((count, 3 * longest + 2, longest, channels), volumes.dtype)
    for axis, length in enumerate(sides):
        middle = np.take(volumes, length // 2, axis=1 + axis)
        height, width = middle.shape[1:3]
        top = axis * (longest + 1) + (longest - height) // 2
        left = (longest - width) // 2
        canvas[:, top : top + height, left : left + width] = middle
    return canvas


def grey_range(values: ArrayLike) -> tuple[float, float]:
    """Return what is drawn black and what white: 0 and 1, unless values lie far beyond them."""
    values = np.asarray(values)
    values = values[np.isfinite(values)]
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 1.0)
    if low >= -_SLACK and high <= 1 + _SLACK:
        return 0.0, 1.0
    return low, high if high > low else low + 1


def channels_shown(channels: int) -> str:
    """Return which channels of images are drawn where it is not all of them, else nothing."""
    return "" if channels in (1, 3) else f"the first of {channels} channels"


def draw(axes: Any, picture: np.ndarray) -> None:
    """Draw one picture, `[H, W]` or `[H, W, 3]`, black at 0 and white at 1."""
    holes = np.isnan(picture)
    if picture.ndim == 3 and holes.any():
        picture = np.where(holes.any(-1, keepdims=True), _HOLE, picture)
    grey = mpl.colormaps["gray"].with_extremes(bad=_HOLE)
    axes.imshow(picture, cmap=grey, vmin=0, vmax=1, interpolation="nearest")
    axes.grid(visible=False)  # that of a style would be drawn over the picture
    axes.set_axis_off()


def tiled(images: np.ndarray, columns: int) -> np.ndarray:
    """Lay images `[N, H, W, C]` out in one array, a pixel of white between them."""
    count, height, width, channels = images.shape
    rows = -(-count // columns)
    kept = 3 if channels == 3 else 1
    canvas = np.ones((rows * (height + 1) - 1, columns * (width + 1) - 1, kept), "float32")
    for index, image in enumerate(images):
        top, left = index // columns * (height + 1), index % columns * (width + 1)
        canvas[top : top + height, left : left + width] = np.clip(image[..., :kept], 0, 1)
    return canvas if kept == 3 else canvas[..., 0]
