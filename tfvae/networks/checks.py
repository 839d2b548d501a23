"""Checks of what networks are made for: shapes, latent dimensions and numbers of classes."""

import operator
from collections.abc import Iterable
from typing import SupportsIndex

from tfvae.checks import MOST_UNITS, checked_count, checked_seed, is_whole
from tfvae.errors import InputError
from tfvae.typing import Shape


def check_event_shape(event_shape: Iterable[SupportsIndex]) -> Shape:
    """Return the shape of an event as one to four whole numbers of Python.

    Args:
        event_shape: (D,) of a vector, (T, C) of a series, (H, W, C) of an image or (D, H, W, C) of
            a volume.

    Raises:
        InputError: if it is anything else.
    """
    shape = _whole_numbers(event_shape)
    if not 1 <= len(shape) <= 4:
        raise InputError(
            "an event shape is (D,) of a vector, (T, C) of a series, (H, W, C) of an image or "
            f"(D, H, W, C) of a volume, each a whole number from 1; received {event_shape!r}"
        )
    return shape


def check_image_shape(image_shape: Iterable[SupportsIndex]) -> tuple[int, int, int]:
    """Return the shape of an image as three whole numbers of Python.

    Args:
        image_shape: (height, width, channels).

    Raises:
        InputError: if it is anything else.
    """
    shape = _whole_numbers(image_shape)
    if len(shape) != 3:
        raise InputError(
            f"an image shape is (height, width, channels), each from 1; received {image_shape!r}"
        )
    return shape


def _whole_numbers(shape: Iterable[SupportsIndex]) -> Shape:
    """Return the sides of a shape, or () where one of them is no whole number from 1."""
    try:
        given = list(shape)
        sides = tuple(operator.index(side) for side in given)
    except (TypeError, ValueError):
        return ()
    if any(isinstance(side, bool) for side in given) or min(sides, default=0) < 1:
        return ()
    return sides


def check_latent_dim(latent_dim: SupportsIndex) -> int:
    """Return the latent dimension d as a whole number of Python.

    Raises:
        InputError: if it is no whole number from 1.
    """
    return checked_count("latent_dim", latent_dim, most=MOST_UNITS)


def check_num_classes(num_classes: SupportsIndex | None) -> int | None:
    """Return the number of classes of a conditional model or network, None for one without labels.

    Raises:
        InputError: if it is neither None nor a whole number from 1.
    """
    if num_classes is None:
        return None
    if not is_whole(num_classes, least=1):
        raise InputError(f"num_classes is a whole number from 1, or None; received {num_classes!r}")
    return checked_count("num_classes", num_classes, most=MOST_UNITS)


def check_seed(seed: SupportsIndex | None) -> int | None:
    """Return a seed of initial weights as a whole number of Python, or None.

    Raises:
        InputError: if it is neither None nor a whole number from 0.
    """
    if seed is None:
        return None
    if not is_whole(seed, least=0):
        raise InputError(f"seed is a whole number from 0, or None; received {seed!r}")
    return checked_seed("seed", seed)
