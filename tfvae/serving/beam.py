"""Codes of events inside of an Apache Beam pipeline.

Loading this module loads Beam::

    with beam.Pipeline() as pipeline:
        (
            pipeline
            | fileio.MatchFiles("photos/*.png")
            | fileio.ReadMatches()
            | beam.Map(lambda file: (file.metadata.path, file.read()))
            | Encode("runs/mnist")
            | ...  # (path, {"code": [d], "scale": [d], "kl": number})
        )
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tfvae.checks import checked_count
from tfvae.errors import InputError, missing_extra
from tfvae.saving.files import find_model

if TYPE_CHECKING:
    pass

try:
    import apache_beam as beam
    from apache_beam.utils.shared import Shared
except ImportError:
    raise missing_extra("tfvae.serving.beam needs", "apache-beam", "beam") from None

Codes = dict[str, Any]
# What one event is called, by the number of its axes.
_NAMES = {1: "vector", 2: "series", 3: "image", 4: "volume"}
_Key = beam.typehints.TypeVariable("Key")
# Beam looks at these when a pipeline is made: it keeps the type of the keys.
_Element = beam.typehints.Tuple[_Key, Any]
_Described = beam.typehints.Tuple[_Key, Codes]


@beam.typehints.with_input_types(_Element)
@beam.typehints.with_output_types(_Described)
class Encode(beam.PTransform):
    """From elements ``(key, event)`` to ``(key, {"code": …, "scale": …, "kl": …})``.

    An event is an array `[*event_shape]` of numbers in the support of the model's likelihood, NaN
    where a value is missing if the model takes that. An image may also be an array of bytes, or the
    content of a PNG or JPEG file of any size, which is resized; bytes are scaled, and binarized
    where the training images were, as by the signatures ``encode_uint8`` and ``encode_png`` of the
    model's SavedModel. A conditional model takes ``(key, (event, label))``.

    ``code`` and ``scale`` are float32 `[d]`, ``kl`` is a number, nats; `scale` and `kl` only where
    they have a closed form. They are what `tfvae.serving.embedding.encode` writes of the same
    event.

    Events are encoded in batches, each of one window, which leave with the time of its end. Every
    process of a worker reads the model once.

    Args:
        model: a run directory of ``tfvae train``, a SavedModel, or a `.keras` file, which does not
            know of preprocessing: bytes are divided by 255; all workers find it at the same path.
        batch_size: the most events encoded at a time; Beam finds the best number up to there.

    Raises:
        InputError: if there is no such model; and, as the pipeline runs, with the key of an event
            that does not fit.
    """

    def __init__(self, model: str | Path, *, batch_size: int = 256):
        super().__init__()
        self._model = find_model(Path(model)).resolve()
        self._batch_size = checked_count("batch_size", batch_size)

    def expand(self, elements: Any) -> Any:
        """Batch the elements, and encode the batches."""
        return (
            elements
            | "Batch" >> beam.BatchElements(min_batch_size=1, max_batch_size=self._batch_size)
            | "Encode" >> beam.ParDo(_EncodeBatch(self._model))
        )


@beam.typehints.with_input_types(beam.typehints.List[_Element])
@beam.typehints.with_output_types(_Described)
class _EncodeBatch(beam.DoFn):
    """Encodes lists of elements."""

    def __init__(self, model: Path):
        super().__init__()
        self._model = model
        self._shared = Shared()

    def setup(self) -> None:
        """Take the model of this process; the first of its threads reads it."""
        from tfvae.serving.embedding import Encoder

        self._encoder = self._shared.acquire(lambda: Encoder.open(self._model))

    def process(self, batch: list[tuple[Any, Any]]) -> Iterator[tuple[Any, Codes]]:
        """Encode a list of elements."""
        vae = self._encoder.vae
        keys, events, labels = [], [], []
        for key, value in batch:
            if vae.num_classes is None:
                event, label = value, None
            elif isinstance(value, tuple) and len(value) == 2:
                event, label = value
            else:
                raise InputError(
                    f"a conditional model takes elements (key, (event, label)); that of key "
                    f"{key!r} has no label"
                )
            keys.append(key)
            events.append(self._array(key, event))
            labels.append(label)
        found = self._encoded(keys, self._values(events), labels)
        for index, key in enumerate(keys):
            # Copies: rows that are kept would keep all others of their batch.
            yield key, {name: values[index].copy() for name, values in found.items()}

    def _values(self, events: list[np.ndarray]) -> np.ndarray:
        """Return the model's values for events of bytes and of floats, `[B, *event_shape]`."""
        values = np.empty((len(events), *events[0].shape), np.float32)
        in_bytes = np.array([event.dtype == np.uint8 for event in events])
        for index in np.flatnonzero(~in_bytes):
            values[index] = events[index]
        if in_bytes.any():
            bytes_ = np.stack([events[index] for index in np.flatnonzero(in_bytes)])
            values[in_bytes] = self._encoder.of_bytes(bytes_)
        return values

    def _encoded(self, keys: list[Any], events: np.ndarray, labels: list[Any]) -> Codes:
        def encode(rows: slice) -> Codes:
            conditional = self._encoder.vae.num_classes is not None
            return self._encoder(events[rows], np.array(labels[rows]) if conditional else None)

        try:
            return encode(slice(None))
        except InputError:
            for index, key in enumerate(keys):
                try:
                    encode(slice(index, index + 1))
                except InputError as error:
                    raise self._refusal(key, error) from None
            raise

    def _array(self, key: Any, event: Any) -> np.ndarray:
        """Return an element's event: of images in bytes or floats, of others in floats."""
        spec = self._encoder.vae.event_spec
        is_image = spec.rank == 3
        if isinstance(event, bytes):
            if not is_image:
                raise self._refusal(
                    key, f"files are for images, and the model takes {spec.noun}: give an array"
                )
            from tfvae.datasets.image_files import decode_image

            try:
                preprocessing = self._encoder.preprocessing
                pixels = decode_image(
                    event,
                    spec.shape,
                    background=preprocessing.background,
                    value_range=preprocessing.value_range,
                )
                return np.round(255 * pixels).astype(np.uint8)
            except InputError as error:
                raise self._refusal(key, error) from None
        array = np.asarray(event)
        if array.shape != spec.shape or array.dtype.kind not in "fiub":
            raise self._refusal(
                key,
                f"expected numbers {list(spec.shape)}; received shape {list(array.shape)} of type "
                f"{array.dtype}",
            )
        return array if is_image and array.dtype == np.uint8 else array.astype(np.float32)

    def _refusal(self, key: Any, reason: Any) -> InputError:
        return InputError(f"{_NAMES[self._encoder.vae.event_spec.rank]} of key {key!r}: {reason}")
