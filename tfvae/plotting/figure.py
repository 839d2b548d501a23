"""A figure that notebooks show, and writing it into a file."""

import io
from pathlib import Path

from matplotlib.figure import Figure

from tfvae.errors import InputError
from tfvae.saving.files import new_file


class Shown(Figure):
    """A figure that notebooks show; others they show only once pyplot has been used."""

    def _repr_png_(self) -> bytes:
        file = io.BytesIO()
        self.savefig(file, format="png")
        return file.getvalue()


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
