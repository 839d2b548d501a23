"""``tfvae impute``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from tfvae.cli.measuring import named_by
from tfvae.cli.options import AsJson, Model, Overwrite, Seed
from tfvae.cli.outputs import (
    NUMBERS,
    check_out,
    check_vectors,
    frame_of,
    save_events,
    save_table,
    show,
    tell,
)
from tfvae.cli.start import open_model
from tfvae.errors import InputError
from tfvae.saving.config import DataOptions, whole

if TYPE_CHECKING:
    import numpy as np

    from tfvae.saving.run import TrainedModel

# Values that are decoded at a time: 64 MiB in float32.
_MOST_VALUES = 2**24


def impute(
    model: Model,
    /,
    *,
    data: Annotated[
        str | None,
        Parameter(
            help="Events with holes: a file or a data set; by default the run's test events."
        ),
    ] = None,
    out: Annotated[
        Path, Parameter(help="File to write: .npy or .npz, and .csv for vectors and tables.")
    ],
    draws: Annotated[
        int | None,
        whole(
            "Fill each event so often, by draws from p(missing|observed); by default once, by the "
            "expected values.",
            least=1,
        ),
    ] = None,
    num_samples: Annotated[
        int, whole("Draws of z for each event, which importance sampling weighs.", least=1)
    ] = 100,
    seed: Seed = 0,
    reading: DataOptions = DataOptions(),  # noqa: B008 - frozen
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Fill the holes of events; what was observed stays as it is.

    A .csv file has the columns of the table, and with --draws a first column that numbers
    the draws. An .npy file holds the events, with --draws an array of M x the events; an
    .npz file holds it as x, with the mask of what was observed.
    """
    check_out(out, overwrite, endings=NUMBERS)
    reading = named_by(data, reading)
    trained = open_model(model)
    vae = trained.vae
    if not vae.missing:
        raise InputError(
            "the model takes no missing values, so that there is nothing to impute: train it with "
            "--missing"
        )
    if out.suffix.lower() == ".csv":
        check_vectors(len(vae.event_shape))
    import numpy as np

    found = trained.events(reading)
    tell(found.notes)
    labels = None if vae.num_classes is None else found.labels
    filled = _filled(trained, found.x, labels, draws, num_samples, seed)
    observed = ~np.isnan(found.x)
    holes = int((~observed).sum())
    if out.suffix.lower() == ".csv":
        save_table(out, overwrite, _table(trained, reading, filled, observed))
    else:
        save_events(out, overwrite, {"x": filled, "observed": observed}, _no_picture)
    facts = {"out": str(out), "events": len(found.x), "holes": holes, "draws": draws}
    show(facts, as_json, f"wrote {out}: {holes:,} holes of {len(found.x):,} events filled")


def _filled(
    trained: "TrainedModel",
    x: "np.ndarray",
    labels: "np.ndarray | None",
    draws: int | None,
    num_samples: int,
    seed: int,
) -> "np.ndarray":
    """Fill events some at a time: `[N, *event_shape]`, with `draws` `[m, N, *event_shape]`."""
    import numpy as np

    vae = trained.vae
    vae.event_spec.check_array(x, labels)
    values = num_samples * x[0].size * vae.likelihood_family.parameters_per_value
    rows = int(np.clip(_MOST_VALUES // values, 1, 256))
    parts = [
        np.asarray(
            vae.impute(
                x[start : start + rows],
                None if labels is None else labels[start : start + rows],
                num_samples=num_samples,
                draws=draws,
                seed=(seed, start),
            )
        )
        for start in range(0, len(x), rows)
    ]
    return np.concatenate(parts, axis=0 if draws is None else 1)


def _table(
    trained: "TrainedModel", reading: DataOptions, filled: "np.ndarray", observed: "np.ndarray"
) -> Any:
    """Return a frame of filled vectors, in which the cells that were there are as they were."""
    import pandas as pd

    from tfvae.datasets.tables import is_table, read_table

    several = filled if filled.ndim == 3 else filled[None]
    frames = [frame_of(x, trained.schema) for x in several]
    schema = trained.schema
    if schema is not None and reading.dataset is not None and is_table(reading.dataset):
        kinds = {column.name: column.kind for column in schema.columns}
        original = read_table(Path(reading.dataset), kinds)
        for place, made in enumerate(frames):
            whole = original.copy()
            for index, column in enumerate(schema.columns):
                there = observed[:, index]
                values = original[column.name].astype(object)
                whole[column.name] = values.where(there, made[column.name].astype(object))
            frames[place] = whole
    if filled.ndim == 3:
        for number, frame in enumerate(frames):
            frame.insert(0, "draw", number)
    return pd.concat(frames, ignore_index=True)


def _no_picture() -> Any:
    raise InputError("imputed events are written as numbers")
