"""Checks of what networks are made for: shapes, latent dimensions and numbers of classes."""

import operator
from typing import Any

from tfvae.checks import is_whole
from tfvae.errors import InputError


def check_image_shape(image_shape: Any) -> tuple[int, int, int]:
    """Give the shape as three whole numbers (height, width, channels).

    Raises:
        InputError: if it is anything else.
    """
    try:
        height, width, channels = (operator.index(side) for side in image_shape)
    except (TypeError, ValueError):
        height = width = channels = 0
    if min(height, width, channels) < 1:
        raise InputError(
            f"an image shape is (height, width, channels), each from 1; received {image_shape!r}"
        )
    return height, width, channels


def check_latent_dim(latent_dim: Any) -> int:
    """Give the latent dimension.

    Raises:
        InputError: if it is no whole number from 1.
    """
    if isinstance(latent_dim, bool) or not isinstance(latent_dim, int) or latent_dim < 1:
        raise InputError(f"latent_dim is a whole number from 1; received {latent_dim!r}")
    return latent_dim


def check_num_classes(num_classes: Any) -> int | None:
    """Give the number of classes of a conditional model or network, None for one without labels.

    Raises:
        InputError: if it is neither None nor a whole number from 1.
    """
    if num_classes is None:
        return None
    if not is_whole(num_classes, least=1):
        raise InputError(f"num_classes is a whole number from 1, or None; received {num_classes!r}")
    return int(num_classes)
