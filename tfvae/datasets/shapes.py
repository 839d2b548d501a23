"""The data set "shapes": white shapes on black, made from five independent factors.

It is in the spirit of dSprites (Matthey et al. 2017,
https://github.com/google-deepmind/dsprites-dataset), for measuring whether a latent space takes the
factors apart. Nothing is stored: images are drawn when they are read. The square and the ellipse of
dSprites look the same after a quarter or a half turn; of the three kinds here none looks the same
before the turn is full, so that every image belongs to just one choice of the factors:

- kind: a heart, an isosceles triangle that is a third higher than wide, a crescent;
- scale: 0.5, 0.6, ... 1.0 of the full size, at which each kind has the area of a square of 14
  pixels a side;
- rotation: by 0, 9, ... 351 degrees, counterclockwise;
- x: the column of the centre of mass, 16, 17, ... 47;
- y: its row, from the top, 16, 17, ... 47.

With ``data = tfvae.datasets.load("shapes")``, the factors of the test images are
``tfvae.datasets.shapes.factors(data.test.rows)``, in the order of the images; of the other splits
likewise.
"""

import functools
import math
import threading
from typing import Any

import numpy as np

from tfvae.datasets.source import Batch, Source
from tfvae.errors import InputError

FACTORS = {"kind": 3, "scale": 6, "rotation": 40, "x": 32, "y": 32}
IMAGE_SHAPE = (64, 64, 1)
COUNT = math.prod(FACTORS.values())

_SIZES = tuple(FACTORS.values())
# Every shape is drawn once on a square of so many pixels, its centre of mass in the middle, and
# pasted where it belongs: 32 places and this square's side make the 64 pixels of an image.
_GLYPH = 33
_SIDE = 14.0
_SCALES = np.linspace(0.5, 1.0, FACTORS["scale"])
# Subpixels that a pixel's grey is the mean of, along each axis.
_FINE = 16
_LOCK = threading.Lock()


def factors(rows: Any) -> np.ndarray:
    """Return the factors of rows of the data set.

    Args:
        rows: `[n]` whole numbers from 0 to `COUNT` - 1. The kind changes most slowly with them,
            then scale, rotation and x; y changes with every row.

    Returns:
        int32 `[n, 5]`: the number of the value of each factor, in the order of `FACTORS`.

    Raises:
        InputError: if `rows` is not such an array.
    """
    rows = np.asarray(rows)
    if rows.ndim != 1 or not _are_whole(rows):
        raise InputError(
            f"expected rows [n], whole numbers; received shape {list(rows.shape)} of type "
            f"{rows.dtype}"
        )
    if rows.size and not (rows.min() >= 0 and rows.max() < COUNT):
        raise InputError(
            f"the rows of shapes go from 0 to {COUNT - 1}; received some from {rows.min()} to "
            f"{rows.max()}"
        )
    return np.stack(np.unravel_index(rows.astype(np.int64), _SIZES), axis=1).astype(np.int32)


def row_of(factors: Any) -> np.ndarray:
    """Return the rows that have these factors: the inverse of `factors`.

    Args:
        factors: `[n, 5]` whole numbers, each from 0 to the number of its factor's values - 1.

    Returns:
        int64 `[n]`.

    Raises:
        InputError: if `factors` is not such an array.
    """
    return np.ravel_multi_index(tuple(_checked(factors).T), _SIZES).astype(np.int64)


def render(factors: Any) -> np.ndarray:
    """Draw images.

    Args:
        factors: `[n, 5]` whole numbers, each from 0 to the number of its factor's values - 1.

    Returns:
        uint8 `[n, 64, 64, 1]`, 0 outside of the shape and 255 within; a pixel on its outline has
        the share of its area that the shape covers.

    Raises:
        InputError: if `factors` is not such an array.
    """
    kind, scale, rotation, x, y = _checked(factors).T
    images = np.zeros((len(kind), *IMAGE_SHAPE[:2]), np.uint8)
    # All squares of an image that a glyph can be pasted to, [n, 32, 32, 33, 33], in its own memory.
    places = np.lib.stride_tricks.sliding_window_view(
        images, (_GLYPH, _GLYPH), axis=(1, 2), writeable=True
    )
    with _LOCK:  # for threads that begin at the same time not to draw the same glyphs
        glyphs = _glyphs()
    places[np.arange(len(kind)), y, x] = glyphs[kind, scale, rotation]
    return images[..., np.newaxis]


def source() -> Source:
    """Return the source of all images, in the order of their rows; an image's label is its kind."""

    def read(rows: np.ndarray) -> Batch:
        chosen = factors(rows)
        return render(chosen), chosen[:, 0]

    return Source(
        "shapes", IMAGE_SHAPE, np.dtype(np.uint8), {"train": COUNT}, FACTORS["kind"], read
    )


def _are_whole(numbers: np.ndarray) -> bool:
    # An empty list is an array of floats.
    return numbers.dtype.kind in "iu" or not numbers.size


def _checked(factors: Any) -> np.ndarray:
    """Return factors as int64 `[n, 5]`, each in its range."""
    factors = np.asarray(factors)
    if factors.ndim != 2 or factors.shape[1] != len(FACTORS) or not _are_whole(factors):
        raise InputError(
            f"expected factors [n, {len(FACTORS)}], whole numbers: {', '.join(FACTORS)}; received "
            f"shape {list(factors.shape)} of type {factors.dtype}"
        )
    for (name, count), values in zip(FACTORS.items(), factors.T, strict=True):
        if values.size and not (values.min() >= 0 and values.max() < count):
            raise InputError(
                f"the factor {name} goes from 0 to {count - 1}; received some from "
                f"{values.min()} to {values.max()}"
            )
    return factors.astype(np.int64)


@functools.cache
def _glyphs() -> np.ndarray:
    """Draw every kind in every scale and rotation: uint8 `[3, 6, 40, 33, 33]`."""
    from PIL import Image, ImageDraw

    glyphs = np.empty((*_SIZES[:3], _GLYPH, _GLYPH), np.uint8)
    for kind, scale, rotation in np.ndindex(glyphs.shape[:3]):
        angle = 2 * np.pi * rotation / FACTORS["rotation"]
        x, y = _SIDE * _SCALES[scale] * _outlines()[kind].T
        turned_x = np.cos(angle) * x - np.sin(angle) * y
        turned_y = np.sin(angle) * x + np.cos(angle) * y
        # The rows of an image go down.
        corners = np.stack([turned_x, -turned_y], axis=1) + _GLYPH / 2
        fine = Image.new("L", (_FINE * _GLYPH, _FINE * _GLYPH))
        ImageDraw.Draw(fine).polygon((_FINE * corners).ravel().tolist(), fill=255)
        glyphs[kind, scale, rotation] = np.asarray(fine.reduce(_FINE))
    return glyphs


@functools.cache
def _outlines() -> tuple[np.ndarray, ...]:
    """Return the corners `[m, 2]` of each kind, y upwards, of area 1 about its centre of mass."""
    t = np.linspace(0, 2 * np.pi, 400, endpoint=False)
    heart = np.stack(
        [
            16 * np.sin(t) ** 3,
            13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t),
        ],
        axis=1,
    )
    triangle = np.array([[-1.5, 0.0], [1.5, 0.0], [0.0, 4.0]])
    # What one disc of radius 1 leaves of another, with each centre on the other's edge.
    outer = np.linspace(np.pi / 3, 5 * np.pi / 3, 200)
    inner = np.linspace(4 * np.pi / 3, 2 * np.pi / 3, 100)
    crescent = np.concatenate(
        [
            np.stack([np.cos(outer), np.sin(outer)], axis=1),
            np.stack([1 + np.cos(inner), np.sin(inner)], axis=1),
        ]
    )
    return tuple(_normalized(corners) for corners in (heart, triangle, crescent))


def _normalized(corners: np.ndarray) -> np.ndarray:
    """Move and scale a polygon `[m, 2]` to area 1 about its centre of mass."""
    following = np.roll(corners, -1, axis=0)
    # Twice the signed areas of the triangles that the sides make with the origin.
    areas = corners[:, 0] * following[:, 1] - following[:, 0] * corners[:, 1]
    centre = areas @ (corners + following) / (3 * areas.sum())
    return (corners - centre) / np.sqrt(abs(areas.sum()) / 2)
