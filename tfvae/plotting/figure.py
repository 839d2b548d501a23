"""A figure that notebooks show, and writing it into a file."""

import io
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from tfvae.errors import InputError
from tfvae.saving.files import new_file
from tfvae.typing import ArrayLike


class Shown(Figure):
    """A figure that notebooks show; others they show only once pyplot has been used."""

    def _repr_png_(self) -> bytes:
        file = io.BytesIO()
        self.savefig(file, format="png")
        return file.getvalue()


def some(name: str, values: ArrayLike, rank: int | None = None) -> np.ndarray:
    """Return an array that holds something to draw.

    Args:
        name: what it is called in a message.
        values: the array.
        rank: how many axes it has to have; by default one at least.

    Raises:
        InputError: if it is empty, or has another number of axes.
    """
    try:
        array = np.asarray(values)
    except ValueError:
        raise InputError(f"expected {name}, an array; received rows of several lengths") from None
    if array.ndim < 1 or (rank is not None and array.ndim != rank) or array.dtype == object:
        axes = "" if rank is None else f" with {rank} axes"
        raise InputError(f"expected {name}, an array{axes}; received shape {array.shape}")
    if not array.size:
        raise InputError(f"expected at least one of the {name}; received shape {array.shape}")
    return array


def save(figure: Figure, file: str | Path, *, dpi: float = 120) -> None:
    """Write a figure into a file, whole or not at all.

    Args:
        figure: any matplotlib figure.
        file: its ending says the format, as in .png, .pdf or .svg.
        dpi: pixels an inch.

    Raises:
        InputError: if matplotlib writes no such format, or no picture of that size.
    """
    known = figure.canvas.get_supported_filetypes()
    if Path(file).suffix[1:].lower() not in known:
        endings = ", ".join(f".{one}" for one in sorted(known))
        raise InputError(f"expected a picture named {endings}; received {file}")
    with new_file(file) as partial:
        try:
            figure.savefig(partial, dpi=dpi)
        except ValueError as error:
            if "too large" not in str(error):
                raise
            raise InputError(f"cannot draw {file}: {error} Take fewer events") from error
