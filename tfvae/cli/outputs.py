"""Where the results of a command go: standard output, pictures, and files of numbers."""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfvae.errors import InputError
from tfvae.saving.finite import without_nan

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure

    from tfvae.datasets import Schema

PICTURES = (".png", ".jpg", ".pdf", ".svg")
NUMBERS = (".npy", ".npz", ".csv")


def show(facts: Mapping[str, Any], as_json: bool, text: str) -> None:
    """Print what a command has done, as JSON or in words."""
    print(json.dumps(without_nan(dict(facts))) if as_json else text)


def tell(notes: Sequence[str]) -> None:
    """Print what a user should hear of the data, on standard error."""
    for note in notes:
        print(f"tfvae: {note}", file=sys.stderr)


def check_out(
    out: Path, overwrite: bool, option: str = "--out", endings: tuple[str, ...] = PICTURES
) -> None:
    """Refuse before the work, not after it, what cannot be written.

    Raises:
        InputError: if the file's ending is not one of `endings`, or something is there.
    """
    if out.suffix.lower() not in endings:
        *others, last = endings
        listed = f"{', '.join(others)} or {last}" if others else last
        raise InputError(f"{option} is a {listed} file; received {out}")
    if not overwrite:
        from tfvae.saving.files import refuse_existing

        refuse_existing(out, f"choose another {option} or give --overwrite")


def save_picture(figure: "Figure", out: Path, overwrite: bool, option: str = "--out") -> None:
    """Write a picture.

    Raises:
        InputError: as `check_out`, which is asked again: the work may have taken hours.
    """
    from tfvae import plotting

    check_out(out, overwrite, option)
    plotting.save(figure, out)


def save_events(
    out: Path,
    overwrite: bool,
    arrays: "Mapping[str, np.ndarray]",
    draw: "Callable[[], Figure]",
    schema: "Schema | None" = None,
    event_axes: int = 1,
) -> None:
    """Write events as a picture or as numbers, by the ending of the file.

    Args:
        out: a picture; .npy for the first of the arrays; .npz for all of them; .csv for the first
            one, a line for each vector.
        overwrite: whether what is there may be replaced.
        arrays: by their names in an .npz file, `[N, *event_shape]`, or `[R, V, *event_shape]`.
        draw: draws the picture.
        schema: what the columns of vectors are, to write them as the table had them.
        event_axes: how many axes an event has.

    Raises:
        InputError: if the file cannot be written, or the events are no vectors and it is .csv.
    """
    ending = out.suffix.lower()
    if ending in PICTURES:
        save_picture(draw(), out, overwrite)
        return
    check_out(out, overwrite, endings=(*PICTURES, *NUMBERS))
    first = next(iter(arrays.values()))
    if ending == ".csv":
        check_vectors(event_axes)
        save_table(out, overwrite, frame_of(first, schema))
        return
    import numpy as np

    from tfvae.saving.files import new_file

    with new_file(out) as partial, partial.open("wb") as file:
        if ending == ".npy":
            np.save(file, first)
        else:
            np.savez_compressed(file, allow_pickle=False, **arrays)


def check_vectors(event_axes: int) -> None:
    """Refuse to write events of several axes into a table.

    Raises:
        InputError: if they are no vectors.
    """
    if event_axes != 1:
        raise InputError(
            "a .csv file takes vectors, a line each; these events have more axes: write .npy or "
            ".npz"
        )


def frame_of(x: "np.ndarray", schema: "Schema | None") -> Any:
    """Return vectors as a frame of pandas, as the table had them that the model was trained on.

    Args:
        x: `[N, D]`, or walks `[R, V, D]`, whose numbers and steps become columns.
        schema: of that table; without one the columns are x0, x1 and so on.
    """
    import numpy as np
    import pandas as pd

    rows = x.reshape((-1, x.shape[-1]))
    if schema is not None:
        frame = schema.to_frame(rows)
    else:
        frame = pd.DataFrame(rows, columns=[f"x{column}" for column in range(rows.shape[1])])
    if x.ndim == 3:
        walk, step = np.divmod(np.arange(len(rows)), x.shape[1])
        frame.insert(0, "step", step)
        frame.insert(0, "walk", walk)
    return frame


def save_table(out: Path, overwrite: bool, frame: Any) -> None:
    """Write a frame of pandas as CSV.

    Raises:
        InputError: as `check_out`.
    """
    from tfvae.saving.files import new_file

    check_out(out, overwrite, endings=NUMBERS)
    with new_file(out) as partial:
        frame.to_csv(partial, index=False)
