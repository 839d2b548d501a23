"""Codes of images inside of an Apache Beam pipeline.

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
from tfvae.errors import InputError
from tfvae.saving.files import find_model

if TYPE_CHECKING:
    from tfvae.datasets.preprocessing import Preprocessing

try:
    import apache_beam as beam
    from apache_beam.utils.shared import Shared
except ImportError:
    raise InputError("tfvae.serving.beam needs apache-beam: pip install 'tfvae[beam]'") from None

Codes = dict[str, Any]
_Key = beam.typehints.TypeVariable("Key")
# Beam looks at these when a pipeline is made: it keeps the type of the keys.
_Element = beam.typehints.Tuple[_Key, Any]
_Described = beam.typehints.Tuple[_Key, Codes]


@beam.typehints.with_input_types(_Element)
@beam.typehints.with_output_types(_Described)
class Encode(beam.PTransform):
    """From elements ``(key, image)`` to ``(key, {"code": …, "scale": …, "kl": …})``.

    An image is an array `[H, W, C]`, or the content of a PNG or JPEG file of any size, which is
    resized. Bytes are scaled, and binarized where the training images were, as by the signatures
    ``encode_uint8`` and ``encode_png`` of the model's SavedModel; other numbers have to lie in the
    support of its likelihood. A conditional model takes ``(key, (image, label))``.

    ``code`` and ``scale`` are float32 `[d]`, ``kl`` is a number, nats; `scale` and `kl` only where
    they have a closed form. They are what `tfvae.serving.embedding.encode` writes of the same
    image.

    Images are encoded in batches, each of one window, which leave with the time of its end. Every
    process of a worker reads the model once.

    Args:
        model: a run directory of ``tfvae train``, a SavedModel, or a `.keras` file, which does not
            know of preprocessing: bytes are divided by 255; all workers find it at the same path.
        batch_size: the most images encoded at a time; Beam finds the best number up to there.

    Raises:
        InputError: if there is no such model; and, as the pipeline runs, with the key of an image
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
        keys, images, labels = [], [], []
        for key, value in batch:
            if vae.num_classes is None:
                image, label = value, None
            elif isinstance(value, tuple) and len(value) == 2:
                image, label = value
            else:
                raise InputError(
                    f"a conditional model takes elements (key, (image, label)); that of key "
                    f"{key!r} has no label"
                )
            keys.append(key)
            images.append(_pixels(key, image, vae.event_shape, self._encoder.preprocessing))
            labels.append(label)
        found = self._encoded(keys, self._values(images), labels)
        for index, key in enumerate(keys):
            # Copies: rows that are kept would keep all others of their batch.
            yield key, {name: values[index].copy() for name, values in found.items()}

    def _values(self, images: list[np.ndarray]) -> np.ndarray:
        """Give the model's values for images of bytes and of floats, float32 `[B, H, W, C]`."""
        values = np.empty((len(images), *images[0].shape), np.float32)
        in_bytes = np.array([image.dtype == np.uint8 for image in images])
        for index in np.flatnonzero(~in_bytes):
            values[index] = images[index]
        if in_bytes.any():
            bytes_ = np.stack([images[index] for index in np.flatnonzero(in_bytes)])
            values[in_bytes] = self._encoder.of_bytes(bytes_)
        return values

    def _encoded(self, keys: list[Any], images: np.ndarray, labels: list[Any]) -> Codes:
        def encode(rows: slice) -> Codes:
            conditional = self._encoder.vae.num_classes is not None
            return self._encoder(images[rows], np.array(labels[rows]) if conditional else None)

        try:
            return encode(slice(None))
        except InputError:
            for index, key in enumerate(keys):
                try:
                    encode(slice(index, index + 1))
                except InputError as error:
                    raise InputError(f"image of key {key!r}: {error}") from None
            raise


def _pixels(
    key: Any, image: Any, shape: tuple[int, int, int], preprocessing: "Preprocessing"
) -> np.ndarray:
    """Return an element's image `[H, W, C]`, of bytes or of floats."""
    if isinstance(image, bytes):
        from tfvae.datasets.image_files import decode_image

        try:
            pixels = decode_image(
                image,
                shape,
                background=preprocessing.background,
                value_range=preprocessing.value_range,
            )
            return np.round(255 * pixels).astype(np.uint8)
        except InputError as error:
            raise InputError(f"image of key {key!r}: {error}") from None
    pixels = np.asarray(image)
    if pixels.shape != tuple(shape) or pixels.dtype.kind not in "fiub":
        raise InputError(
            f"image of key {key!r}: expected numbers {list(shape)}; received shape "
            f"{list(pixels.shape)} of type {pixels.dtype}"
        )
    return pixels if pixels.dtype == np.uint8 else pixels.astype(np.float32)
