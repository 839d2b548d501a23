"""What the page shows of a table's model: made-up rows, a row filled in, the map by a column."""

import dataclasses
import html
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from tfvae.app import views
from tfvae.checks import is_number
from tfvae.datasets.column import Column, level_key
from tfvae.datasets.schema import Schema
from tfvae.errors import InputError
from tfvae.evaluation.given import sample_given
from tfvae.saving.config import DataOptions

if TYPE_CHECKING:
    import pandas as pd

    from tfvae.models.vae import VAE
    from tfvae.saving.run import TrainedModel

# Completions of a row, and draws of z that are weighed for them.
DRAWS = 200
_MOST_ROWS = 1000
_MOST_NAMED = 12
_MOST_SHARES = 3
# From low to high: the ends and the middle of a colour map that is read in print, too.
_LOW, _MIDDLE, _HIGH = ((68, 1, 84), (33, 145, 140), (253, 231, 37))
_UNKNOWN = "#999999"


class RowModel:
    """A model of a table's rows, and what its columns are.

    Args:
        vae: a built `VAE` of vectors.
        schema: of the table.

    Attributes:
        schema: of the table.
        num_classes: labels of a conditional model, or None.
        latent_dim: d.
    """

    def __init__(self, vae: "VAE", schema: Schema):
        self.schema = schema
        self.num_classes: int | None = vae.num_classes
        self.latent_dim: int = vae.latent_dim
        self._vae = vae
        self._lock = threading.Lock()
        self._complete: Any = None
        if vae.missing:
            labels = [] if vae.num_classes is None else [tf.TensorSpec((1,), tf.int32)]

            def complete(x: tf.Tensor, label: Any = None) -> tf.Tensor:
                return vae.impute(x, label, num_samples=DRAWS, draws=DRAWS, seed=0)

            events = tf.TensorSpec((1, len(schema.columns)), tf.float32)
            # Traced here: requests come in several threads, and the first must not wait for it.
            self._complete = tf.function(complete, [events, *labels]).get_concrete_function()

    def codes(self, x: np.ndarray, labels: np.ndarray | None) -> np.ndarray:
        """Return the latent vectors `[N, d]` that stand for rows `[N, D]`."""
        return np.asarray(self._vae.code(x, labels))

    def drawn(
        self, n: int, label: int | None, seed: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Draw z `[n, d]` from the prior and rows `[n, D]` from p(x|z), and return the labels."""
        labels = None if self.num_classes is None else np.full(n, label or 0)
        with self._lock:
            x, z, _ = self._vae.sample_joint(n, label=labels, seed=seed)
        return np.asarray(z), np.asarray(x), labels

    def completions(self, x: np.ndarray, label: int | None) -> np.ndarray:
        """Return `DRAWS` completions `[DRAWS, D]` of a row `[D]` with holes, always the same ones.

        A model that takes missing values weighs draws from q(z|x), as `VAE.impute` does; another
        draws from the prior, as `tfvae.evaluation.sample_given` does.

        Raises:
            InputError: if the model gives the row no probability.
        """
        if np.isnan(x).all():
            return self.drawn(DRAWS, label, 0)[1]
        if not np.isnan(x).any():
            return np.repeat(x[None], DRAWS, axis=0)
        if self._complete is None:
            number = None if self.num_classes is None else label or 0
            with self._lock:
                return sample_given(self._vae, x, DRAWS, label=number).x
        labels = [] if self.num_classes is None else [tf.constant([label or 0], tf.int32)]
        return np.asarray(self._complete(tf.constant(x[None], tf.float32), *labels))[:, 0]


@dataclasses.dataclass(frozen=True, eq=False)
class Rows:
    """Rows that the page shows the model at work on.

    Attributes:
        name: what they are, in the plural.
        x: `[N, D]`, at least one, NaN where a value is missing.
        labels: `[N]`, or None.
        codes: latent vectors `[N, d]` that stand for them.
    """

    name: str
    x: np.ndarray
    labels: np.ndarray | None
    codes: np.ndarray

    @classmethod
    def of_run(
        cls, trained: "TrainedModel", model: RowModel, data: DataOptions | None = None
    ) -> "Rows":
        """Take validation rows of a run; or the model's own samples where there is no run.

        Raises:
            InputError: if the rows cannot be read, or do not fit the model.
        """
        options = DataOptions() if data is None else data
        if trained.config is None and options.dataset is None:
            codes, x, labels = model.drawn(_MOST_ROWS, 0, 0)
            return cls("samples of the model", x, labels, codes)
        found = trained.data(options)
        x, labels = found.validation.subset(_MOST_ROWS).arrays()
        codes = model.codes(x, None if model.num_classes is None else labels)
        return cls(f"validation rows of {Path(found.name).name}", x, labels, codes)

    def row(self, number: Any) -> int:
        """Check the number of a row.

        Raises:
            InputError: if there is none.
        """
        last = len(self.x) - 1
        if not (is_number(number) and 0 <= number <= last and number == int(number)):
            received = "none" if number is None else number
            raise InputError(f"the {self.name} have numbers from 0 to {last}; received {received}")
        return int(number)


# --- as text --------------------------------------------------------------------------------------


def choices(column: Column) -> list[str] | None:
    """Return the levels of a column as text, None of a column of numbers."""
    return [level_key(level) for level in column.levels] or None


def texts(model: RowModel, x: np.ndarray) -> list[str]:
    """Return the values of a row `[D]` as text, nothing where one is missing."""
    frame = model.schema.to_frame(x[None])
    return [
        "" if np.isnan(value) else _text(frame[column.name].iloc[0])
        for column, value in zip(model.schema.columns, x, strict=True)
    ]


def event(model: RowModel, given: Mapping[str, str | None]) -> np.ndarray:
    """Return a row `[D]` of the values that are given as text, NaN for the others.

    Raises:
        InputError: if a value does not belong to its column.
    """
    known = {name: text for name, text in given.items() if text is not None and text.strip()}
    return model.schema.event_given(known)


def _text(value: Any) -> str:
    import pandas as pd

    if isinstance(value, pd.Timestamp):
        return str(value.date() if value == value.normalize() else value)
    return f"{value:.6g}" if isinstance(value, float | np.floating) else level_key(value)


# --- as HTML --------------------------------------------------------------------------------------


def made_up(model: RowModel, seed: int, label: int | None, n: int = 12) -> str:
    """Show rows drawn from the prior, in the table's own units."""
    _, x, labels = model.drawn(n, label, seed)
    frame = model.schema.to_frame(x, labels, within_range=True)
    head = "".join(f"<th>{html.escape(str(name))}</th>" for name in frame.columns)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(_text(cell))}</td>" for cell in cells) + "</tr>"
        for cells in frame.itertuples(index=False, name=None)
    )
    return f'<div class="scroll"><table class="rows"><tr>{head}</tr>{body}</table></div>'


def completed(model: RowModel, given: Mapping[str, str | None], label: int | None) -> str:
    """Show a row of which some values are given, and what the others may be.

    Raises:
        InputError: if a value does not belong to its column.
    """
    x = event(model, given)
    frame = model.schema.to_frame(model.completions(x, label), within_range=True)
    lines = []
    for column, value in zip(model.schema.columns, x, strict=True):
        name = html.escape(column.name)
        if not np.isnan(value):
            shown, spread = html.escape(given[column.name] or ""), "given"
        else:
            shown, spread = _guess(column, frame[column.name])
        kind = "filled" if np.isnan(value) else "given"
        lines.append(
            f'<tr class="{kind}" data-column="{name}"><td>{name}</td><td>{shown}</td>'
            f"<td>{spread}</td></tr>"
        )
    body = "".join(lines)
    return f'<table class="rows">{body}</table>' + views.hint(
        f"medians and 90 % intervals, or shares, of {DRAWS} draws from p(missing|given)"
    )


def _guess(column: Column, values: "pd.Series") -> tuple[str, str]:
    """Return the middle and the spread of values that a hole may have."""
    if column.levels:
        shares = values.map(level_key).value_counts(normalize=True)
        words = ", ".join(
            f"{html.escape(str(level))} {share:.0%}"
            for level, share in shares[:_MOST_SHARES].items()
        )
        return html.escape(str(shares.index[0])), words
    ordered = values.sort_values(ignore_index=True)
    low, middle, high = (
        html.escape(_text(ordered[int(q * (len(ordered) - 1))])) for q in (0.05, 0.5, 0.95)
    )
    return middle, f"{low} to {high}"


def row_map(model: RowModel, rows: Rows, by: str) -> str:
    """Show where rows lie in latent space, coloured by a column."""
    columns = list(model.schema.columns)
    place = [column.name for column in columns].index(by)
    frame = model.schema.to_frame(rows.x)
    named = frame[[column.name for column in columns[:_MOST_NAMED]]]
    names = [
        "\n".join([f"no. {row}", *(f"{n}: {_cell(v)}" for n, v in zip(named, cells, strict=True))])
        for row, cells in enumerate(named.itertuples(index=False, name=None))
    ]
    colours, legend = _coloured(columns[place], rows.x[:, place], frame[by])
    points = views.scattered(rows.codes, colours, names)
    return f'<div class="map">{points}{legend}<div class="hover"><span></span></div></div>'


def _cell(value: Any) -> str:
    import pandas as pd

    return "missing" if pd.isna(value) else _text(value)


def _coloured(column: Column, values: np.ndarray, shown: "pd.Series") -> tuple[list[str], str]:
    """Return the colours of values `[N]`, and what they mean."""
    holes = np.isnan(values)
    missing = [(_UNKNOWN, "missing")] if holes.any() else []
    if column.levels and column.kind != "ordered":
        number = len(views.COLOURS)
        colours = [
            _UNKNOWN if hole else views.COLOURS[int(value) % number]
            for value, hole in zip(np.nan_to_num(values), holes, strict=True)
        ]
        entries = [
            (views.COLOURS[place % number], level_key(level))
            for place, level in enumerate(column.levels[: 2 * number])
        ]
        return colours, views.legend([*entries, *missing])
    # By rank, so that a few values far out leave the others their colours.
    present = np.sort(values[~holes])
    rank = np.searchsorted(present, values, side="left") + np.searchsorted(present, values, "right")
    share = np.where(holes, 0.0, rank / max(2 * len(present), 1))
    colours = [
        _UNKNOWN if hole else _between(part) for part, hole in zip(share, holes, strict=True)
    ]
    entries = []
    if len(present):
        order = np.argsort(values)[: len(present)]
        for part in (0.0, 0.25, 0.5, 0.75, 1.0):
            text = _text(shown.iloc[order[round(part * (len(present) - 1))]])
            entries.append((_between(part), text))
    return colours, views.legend([*entries, *missing])


def _between(share: float) -> str:
    """Return the colour at a place from 0 to 1 between low and high."""
    first, second = (_LOW, _MIDDLE) if share < 0.5 else (_MIDDLE, _HIGH)
    weight = 2 * share - (share >= 0.5)
    mixed = [
        round((1 - weight) * one + weight * two) for one, two in zip(first, second, strict=True)
    ]
    return "#{:02x}{:02x}{:02x}".format(*mixed)
