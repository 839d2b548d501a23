"""The codes of a whole data set, in one Parquet file.

The work goes in parts of some thousand events. Each is on the disk before the next begins, and all
are joined in the end: memory does not grow with the data set, and what a crash leaves is gone on
from.
"""

import contextlib
import dataclasses
import functools
import hashlib
import itertools
import json
import re
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from tfvae import __version__
from tfvae.checks import checked_count
from tfvae.datasets import Batches, Dataset, Split, input_errors
from tfvae.datasets.preprocessing import Preprocessing
from tfvae.datasets.source import SPLITS, plural_of
from tfvae.distributions.kl import exact_kl
from tfvae.errors import InputError, missing_extra
from tfvae.evaluation.batches import Progress
from tfvae.models.sources import without_autotuning
from tfvae.models.vae import VAE
from tfvae.saving.files import new_file, refuse_existing
from tfvae.saving.locks import locked
from tfvae.saving.run import TrainedModel, check_data
from tfvae.serving.parts import Parts
from tfvae.typing import ArrayLike, Shape, Tensor

# What a kill loses at most; fewer would make a file of every few batches.
_PART_EVENTS = 4096
_PART_BYTES = 2**24
# What is read at once by those who read the file in pieces.
_GROUP_EVENTS = 2**17
_GROUP_BYTES = 2**25
_SUPPORTED = "supported"


class Encoder:
    """q(z|x) of batches of events, by one graph: what files and pipelines of codes are made with.

    Args:
        vae: a built `VAE`.
        preprocessing: how bytes become the model's values, where events are images; by default
            they are divided by 255.

    Attributes:
        vae: the same.
        preprocessing: the same, with the levels that the model takes.
        columns: what a batch gives: ``code``; ``scale``, where q has standard deviations in closed
            form; ``kl``, where KL(q(z|x) ‖ p(z)) has one.

    Raises:
        InputError: if it is no `VAE`, or has not been built.
    """

    def __init__(self, vae: VAE, preprocessing: Preprocessing | None = None):
        if not isinstance(vae, VAE):
            raise InputError(f"expected a VAE, which has a q(z|x); received {type(vae).__name__}")
        spec = vae.event_spec
        self.vae = vae
        self.preprocessing = dataclasses.replace(
            preprocessing or Preprocessing(), step=spec.support.step
        )
        signature = [tf.TensorSpec((None, *spec.shape), tf.float32)]
        if vae.num_classes is not None:
            signature.append(tf.TensorSpec((None,), tf.int32))
        function = functools.partial(_describe, vae)
        self._graph = tf.function(function, input_signature=signature, autograph=False)
        found = self._graph.get_concrete_function().structured_outputs
        self.columns = tuple(name for name in ("code", "scale", "kl") if name in found)

    @classmethod
    def open(cls, path: Path) -> "Encoder":
        """Read the model of a run directory or a `.keras` file.

        Raises:
            InputError: if it is neither, or holds no `VAE`.
        """
        trained = TrainedModel.open(path)
        return cls(trained.vae, trained.card().preprocessing)

    def of_bytes(self, images: np.ndarray) -> np.ndarray:
        """Return the model's float32 images `[B, H, W, C]` for images of bytes of that shape."""
        return self.preprocessing.of_bytes(images).numpy()

    def __call__(self, x: ArrayLike, labels: ArrayLike | None = None) -> dict[str, np.ndarray]:
        """Describe q(z|x) of some events.

        Args:
            x: `[B, *event_shape]`, in the support of the likelihood; NaN where a value is missing,
                if the model takes that.
            labels: of a conditional model, the labels of the events `[B]`.

        Returns:
            ``code`` `[B, d]` (`Posterior.code`), ``scale`` `[B, d]` and ``kl`` `[B]`, nats, in
            float32; only `columns`.

        Raises:
            InputError: if events or labels do not fit.
        """
        spec = self.vae.event_spec
        x = spec.tensor(x)
        label = [] if spec.num_classes is None else [spec.label_vector(labels)]
        found = self._graph(x, *label)
        if not found[_SUPPORTED]:
            spec.check(x, labels)  # says what is wrong
        return {name: found[name].numpy() for name in self.columns}


def _describe(vae: VAE, x: Tensor, label: Tensor | None = None) -> dict[str, Tensor]:
    q = vae.encode(x, label)
    # In the graph it is checked at the same time, which takes a tenth of it by itself.
    supported = vae.event_spec.admits(x)
    found = {"code": vae.posterior_family.code(q), _SUPPORTED: supported}
    with contextlib.suppress(NotImplementedError):  # a flow has none in closed form
        found["scale"] = q.stddev()
    kl = exact_kl(q, vae.prior_of(label))
    return found if kl is None else {**found, "kl": kl}


@dataclasses.dataclass(frozen=True)
class Embeddings:
    """What `encode` has written.

    Attributes:
        path: the file.
        columns: its columns.
        latent_dim: d.
        event_shape: of one event.
        splits: events of each split.
        resumed: events of them that an earlier run had encoded.
        seconds: that this run took to encode the others, and to write the file.
    """

    path: Path
    columns: tuple[str, ...]
    latent_dim: int
    event_shape: Shape
    splits: dict[str, int]
    resumed: int
    seconds: float

    @property
    def events(self) -> int:
        """Events of all splits."""
        return sum(self.splits.values())

    @property
    def events_per_second(self) -> float:
        """Events that this run has encoded, by its time."""
        return (self.events - self.resumed) / self.seconds

    def as_dict(self) -> dict[str, Any]:
        """Return all figures, for JSON."""
        return {
            "out": str(self.path),
            "events": self.events,
            **{
                field.name: getattr(self, field.name)
                for field in dataclasses.fields(self)
                if field.name != "path"
            },
            "events_per_second": self.events_per_second,
        }

    def __str__(self) -> str:
        counts = ", ".join(f"{split} {count:,}" for split, count in self.splits.items())
        called = plural_of(self.event_shape)
        before = f", {self.resumed:,} of them before" if self.resumed else ""
        return (
            f"wrote {self.path}: {', '.join(self.columns)}\n"
            f"{called:7} {self.events:,} ({counts}){before}; "
            f"{self.events_per_second:,.0f} {called}/s\n"
            f"codes   {self.latent_dim} numbers each"
        )


def encode(
    model: VAE | TrainedModel,
    data: Dataset,
    out: str | Path,
    *,
    splits: str | Sequence[str] = SPLITS,
    batch_size: int = 256,
    limit: int | None = None,
    part_events: int = _PART_EVENTS,
    overwrite: bool = False,
    progress: bool = False,
) -> Embeddings:
    """Write the codes of a data set into a Parquet file, a row for each event.

    - ``split``, dictionary of strings: train, validation or test
    - ``row``, int64: position in the split, from 0
    - ``name``, string: of the event's file, where a data set is made of files
    - ``label``, int32: where the events have labels
    - ``code``, fixed list of d float32: the vector that stands for the event (`Posterior.code`)
    - ``scale``, fixed list of d float32: standard deviations of q(z|x), where they have a closed
      form
    - ``kl``, float32: KL(q(z|x) ‖ p(z)), nats, where it has a closed form

    Each row group holds events of one split. The schema's metadata has one entry, ``tfvae``: JSON
    that names the version, the model, and the data set with its options.

    The events are those of ``split.batches(batch_size, epoch=0)``: a training split whose values
    are drawn anew each epoch has the draws of epoch 0. Codes of events with missing values are
    those of their observed ones.

    Stopped in whatever way, the work goes on where it was when it is started again with the same
    arguments: finished parts wait in a hidden directory beside `out`. A damaged part is made anew.
    Parts of another model, data set or options are refused, and removed only with `overwrite`.

    Args:
        model: a built `VAE`, or a `TrainedModel`, whose path the file then names.
        data: what `tfvae.datasets.load` gives.
        out: the .parquet file to write; it appears whole.
        splits: which, one or several.
        batch_size: events encoded at a time.
        limit: take so many events of each split, the first; by default all.
        part_events: events of a part, rounded up to whole batches.
        overwrite: whether what is at `out` may be replaced, and parts of other work removed.
        progress: show a progress bar on standard error.

    Raises:
        InputError: if an argument does not fit, the data set does not fit the model, there is
            something at `out` that may not be replaced, another process is at this file, or pyarrow
            is missing.
    """
    encoder = Encoder(model.vae if isinstance(model, TrainedModel) else model)
    vae = encoder.vae
    out = Path(out)
    _check_out(out, overwrite)
    check_data(vae, data)
    batch_size = checked_count("batch_size", batch_size)
    counts = _counts(data, splits, limit)
    row_bytes = 8 * vae.latent_dim
    # Whole batches, so that no code depends on where a run began.
    most = min(checked_count("part_events", part_events), _PART_BYTES // row_bytes)
    part_events = batch_size * max(1, -(-most // batch_size))
    facts = {
        "tfvae": __version__,
        "model": _model_facts(vae),
        "data": _data_facts(data),
        "options": {"splits": list(counts), "limit": limit, "batch_size": batch_size},
    }
    with input_errors():
        events = {split: _split(data, split).digest() for split in counts}
    path = str(model.path) if isinstance(model, TrainedModel) else None
    table = _Table(
        encoder, data.has_labels, data.train.source.names is not None, {**facts, "path": path}
    )
    job = {**facts, "events": events, "part_events": part_events}
    with locked(Parts.place(out)):
        parts = Parts(out, job, restart=overwrite)
        return _encode(
            encoder, data, out, counts, parts, table, part_events, batch_size, overwrite, progress
        )


def _encode(
    encoder: Encoder,
    data: Dataset,
    out: Path,
    counts: dict[str, int],
    parts: Parts,
    table: "_Table",
    part_events: int,
    batch_size: int,
    overwrite: bool,
    progress: bool,
) -> Embeddings:
    vae = encoder.vae
    row_bytes = 8 * vae.latent_dim
    begun = time.perf_counter()
    spans = _spans(counts, part_events)
    missing = [span for span in spans if not table.holds(span, parts.read(span.name))]
    resumed = sum(counts.values()) - sum(map(len, missing))
    whole = parts.directory / "whole.parquet"
    # `Progress` holds Ctrl-C back until a call of TensorFlow has ended.
    called = plural_of(data.event_shape)
    with (
        _bar(called, sum(counts.values()), resumed, progress) as bar,
        Progress((), False) as interrupts,
    ):

        def advance(count: int) -> None:
            bar.update(count)
            interrupts.advance(0)

        for span, columns in _encoded(encoder, data, missing, batch_size, advance):
            parts.write(span.name, table.pack(span, columns))
        bar.set_description("writing")
        with new_file(whole) as partial, table.writer(partial) as write:
            for group in _groups(spans, min(_GROUP_EVENTS, _GROUP_BYTES // row_bytes)):
                write([_checked_part(parts, table, span) for span in group])
                advance(0)
    _check_out(out, overwrite)  # again: the work may have taken hours
    whole.replace(out)
    parts.remove()
    seconds = time.perf_counter() - begun
    return Embeddings(out, table.columns, vae.latent_dim, vae.event_shape, counts, resumed, seconds)


# --- what to encode -------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _Span:
    """Some events of a split, one after the other: those of one part."""

    split: str
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    @property
    def name(self) -> str:
        return f"{self.split}-{self.start:012d}"


def _spans(counts: dict[str, int], part_events: int) -> list[_Span]:
    return [
        _Span(split, start, min(start + part_events, count))
        for split, count in counts.items()
        for start in range(0, count, part_events)
    ]


def _groups(spans: list[_Span], most: int) -> Iterator[list[_Span]]:
    """Make the parts of each row group, of up to so many events where a part has no more."""
    for _, of_split in itertools.groupby(spans, key=lambda span: span.split):
        group: list[_Span] = []
        for span in of_split:
            if group and span.stop - group[0].start > most:
                yield group
                group = []
            group.append(span)
        yield group


def _encoded(
    encoder: Encoder,
    data: Dataset,
    spans: list[_Span],
    batch_size: int,
    advance: Callable[[int], None],
) -> Iterator[tuple[_Span, dict[str, np.ndarray]]]:
    """Encode the events of spans, and tell `advance` of how many after each batch.

    Yields:
        Each span, and its columns: ``name`` and ``label``, where there are such, and those of the
        encoder.
    """
    for split, of_split in itertools.groupby(spans, key=lambda span: span.split):
        wanted = list(of_split)
        steps = [range(span.start // batch_size, -(-span.stop // batch_size)) for span in wanted]
        events = _split(data, split)
        names = None if events.source.names is None else np.array(events.source.names, object)
        batches = _batches(events, batch_size, np.concatenate(steps))
        for span, of_span in zip(wanted, steps, strict=True):
            found: list[dict[str, np.ndarray]] = []
            for step in of_span:
                with input_errors():
                    batch = next(batches)
                x, *labels = batch if isinstance(batch, tuple) else (batch,)
                columns = encoder(x, *labels)
                found.append({"label": labels[0].numpy(), **columns} if labels else columns)
                advance(min(batch_size, span.stop - step * batch_size))
            # The last batch goes beyond a limit.
            joined = {
                name: np.concatenate([columns[name] for columns in found])[: len(span)]
                for name in found[0]
            }
            if names is not None:
                joined = {"name": names[events.rows[span.start : span.stop]], **joined}
            yield span, joined


def _batches(split: Split, batch_size: int, steps: np.ndarray) -> Iterator[Any]:
    """Return some of the batches of a split, in epoch 0."""
    batches = Batches(split, batch_size)
    return iter(
        tf.data.Dataset.from_tensor_slices(steps)
        .map(
            functools.partial(batches.at, 0),
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )
        .prefetch(4)
        .apply(without_autotuning)
    )


def _split(data: Dataset, name: str) -> Split:
    return getattr(data, name)


def _counts(data: Dataset, splits: str | Sequence[str], limit: int | None) -> dict[str, int]:
    """Return how many events of each split are wanted."""
    wanted = (splits,) if isinstance(splits, str) else tuple(splits)
    if not wanted or set(wanted) - set(SPLITS):
        raise InputError(f"splits are some of {', '.join(SPLITS)}; received {splits!r}")
    counts = {split: len(_split(data, split)) for split in SPLITS if split in wanted}
    if limit is None:
        return counts
    limit = checked_count("limit", limit)
    return {split: min(limit, count) for split, count in counts.items()}


def _check_out(out: Path, overwrite: bool) -> None:
    if out.suffix.lower() != ".parquet":
        raise InputError(f"embeddings go to a .parquet file; received {out}")
    if out.is_dir() or not overwrite:
        refuse_existing(out, "choose another file, or overwrite it")


def _bar(called: str, total: int, initial: int, shown: bool) -> Any:
    return tqdm(
        desc="encoding",
        total=total,
        initial=initial,
        unit=f" {called}",
        leave=False,
        disable=not shown,
    )


# --- what tells one work from another -------------------------------------------------------------


def _model_facts(vae: VAE) -> dict[str, Any]:
    return {
        "latent_dim": vae.latent_dim,
        "posterior": type(vae.posterior_family).__name__,
        "prior": type(vae.prior_family).__name__,
        "digest": _digest_of_model(vae),
    }


def _data_facts(data: Dataset) -> dict[str, Any]:
    """Return the arguments of `tfvae.datasets.load`, as far as they decide the events."""
    facts = {
        "name": data.name,
        "binarize": data.train.binarize,
        "dequantize": data.train.noise != "none",
        "seed": data.train.seed,
    }
    if data.kind == "image":
        return {**facts, "image_size": list(data.event_shape[:2])}
    if data.schema is not None:
        kinds = {
            column.name: list(column.levels) if column.kind == "ordered" else column.kind
            for column in data.schema.columns
        }
        label = data.schema.label
        return {
            **facts,
            "columns": kinds,
            "label": None if label is None else label.name,
            "drop": [column.name for column in data.schema.left_out],
        }
    return facts


def _digest_of_model(vae: VAE) -> str:
    """Compute a digest of a model's configuration and weights.

    Keras counts names on in each process; here a name is the place where it comes first.
    """
    config = json.dumps(vae.get_config(), sort_keys=True, default=lambda other: str(type(other)))
    for index, name in enumerate(dict.fromkeys(re.findall(r'"name": ("[^"]+")', config))):
        config = config.replace(name, f'"#{index}"')
    digest = hashlib.sha256(config.encode())
    for weight in vae.weights:
        array = keras.ops.convert_to_numpy(weight)
        digest.update(f"{weight.dtype}{array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


# --- the file -------------------------------------------------------------------------------------


class _Table:
    """The table of a file: its schema, and its rows as parts and as Parquet.

    Args:
        encoder: whose columns it has.
        has_labels: whether there are labels.
        has_names: whether rows have names.
        facts: the metadata.

    Raises:
        InputError: if pyarrow is missing.
    """

    def __init__(self, encoder: Encoder, has_labels: bool, has_names: bool, facts: dict[str, Any]):
        try:
            import pyarrow
            import pyarrow.parquet
        except ImportError:
            raise missing_extra("embeddings need", "pyarrow", "parquet") from None
        self._arrow = pyarrow
        vector = pyarrow.list_(pyarrow.float32(), encoder.vae.latent_dim)
        types = {"code": vector, "scale": vector, "kl": pyarrow.float32()}
        self._schema = pyarrow.schema(
            {
                "split": pyarrow.dictionary(pyarrow.int32(), pyarrow.string()),
                "row": pyarrow.int64(),
                **({"name": pyarrow.string()} if has_names else {}),
                **({"label": pyarrow.int32()} if has_labels else {}),
                **{name: types[name] for name in encoder.columns},
            },
            {"tfvae": json.dumps(facts)},
        )

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of its columns."""
        return tuple(self._schema.names)

    def pack(self, span: _Span, columns: dict[str, np.ndarray]) -> Any:
        """Put the columns of a span's events into bytes."""
        arrow = self._arrow
        split = np.full(len(span), SPLITS.index(span.split), np.int32)
        arrays = {
            "split": arrow.DictionaryArray.from_arrays(split, arrow.array(SPLITS)),
            "row": arrow.array(np.arange(span.start, span.stop)),
        }
        for name, values in columns.items():
            flat = arrow.array(values.reshape(-1))
            arrays[name] = (
                flat
                if values.ndim == 1
                else arrow.FixedSizeListArray.from_arrays(flat, values.shape[1])
            )
        sink = arrow.BufferOutputStream()
        with arrow.ipc.new_stream(sink, self._schema) as stream:
            stream.write(arrow.record_batch(arrays, self._schema))
        return sink.getvalue()

    def holds(self, span: _Span, content: bytes | None) -> bool:
        """Whether a part has the rows of a span, all of them and in order.

        Its digest says that it is what was written, not by whom.
        """
        if content is None:
            return False
        arrow = self._arrow
        try:
            rows = arrow.ipc.open_stream(content).read_all()
        except (arrow.ArrowException, OSError, ValueError):
            return False
        if rows.num_rows != len(span) or not rows.schema.equals(self._schema):
            return False
        rows.validate(full=True)
        splits = set(rows.column("split").to_pylist())
        numbers = rows.column("row").to_numpy()
        return splits == {span.split} and np.array_equal(numbers, np.arange(span.start, span.stop))

    @contextlib.contextmanager
    def writer(self, path: Path) -> Iterator[Callable[[list[bytes]], None]]:
        """Return a function that writes what `pack` gave of some spans as one row group."""
        arrow = self._arrow
        named = [name for name in ("split", "label") if name in self.columns]
        numbers = [name for name in ("row", "kl") if name in self.columns]
        with arrow.parquet.ParquetWriter(
            path,
            self._schema,
            # Of other columns hardly two values are the same, and no range of them is asked for.
            use_dictionary=named,
            write_statistics=named + numbers,
        ) as parquet:

            def write(parts: list[bytes]) -> None:
                table = arrow.concat_tables(
                    arrow.ipc.open_stream(part).read_all() for part in parts
                )
                parquet.write_table(table, len(table))

            yield write


def _checked_part(parts: Parts, table: _Table, span: _Span) -> bytes:
    content = parts.read(span.name)
    if content is None or not table.holds(span, content):
        raise InputError(
            f"a part in {parts.directory} was damaged after it was written: start again, which "
            "makes it anew"
        )
    return content
