"""What a training writes for people to look at while it runs."""

import csv
import errno
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfvae import plotting
from tfvae.models.vq import VQVAE
from tfvae.saving.files import new_file

_TIMES = 20


class MetricsFile(keras.callbacks.Callback):
    """Writes the metrics of all epochs to a CSV file, which is whole at any moment.

    They are those that the model's `History` has, which a checkpoint keeps: whatever became of the
    file, the next epoch writes it anew.

    Args:
        path: the file.
    """

    def __init__(self, path: Path):
        super().__init__()
        self._path = path

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Write all rows."""
        history = {name: values[:epoch] for name, values in self.model.history.history.items()}
        for name, value in (logs or {}).items():
            history.setdefault(name, []).append(value)
        write_metrics(self._path, history)


def write_metrics(path: Path, history: Mapping[str, Sequence[float]]) -> None:
    """Write metrics to a CSV file, a row an epoch.

    Args:
        path: the file; its directory must be there.
        history: one value an epoch of each metric, as `keras.callbacks.History` has them; none
            makes no file.
    """
    if not history:
        return
    rows = max(map(len, history.values()))
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["epoch", *history])
    for epoch in range(rows):
        # What a callback has added later has fewer values, which are the last.
        places = {name: epoch - rows + len(values) for name, values in history.items()}
        writer.writerow(
            [epoch, *(float(history[name][i]) if i >= 0 else "" for name, i in places.items())]
        )
    if not path.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    with new_file(path) as partial:
        partial.write_text(text.getvalue())


class Pictures(keras.callbacks.Callback):
    """Writes samples, reconstructions and the spread of the codes for TensorBoard.

    It does so after the first epoch, after the last, and some twenty times on the way, as drawing
    takes as long as an epoch of few small events.

    Args:
        directory: where its event files go.
        x: some events, `[N, *event_shape]`; the first ten are reconstructed, all are encoded.
        labels: theirs, for a conditional model.
        seed: of the samples, the same each epoch.
    """

    def __init__(self, directory: Path, x: np.ndarray, labels: np.ndarray | None, seed: int):
        super().__init__()
        self._directory = directory
        self._x = x
        self._labels = labels
        self._seed = seed
        self._writer: Any = None

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Write what the model makes of seed and events now."""
        vae, epochs = self.model, self.params.get("epochs") or 1
        if epoch % max(1, epochs // _TIMES) and epoch + 1 != epochs:
            return
        if self._writer is None:
            self._writer = tf.summary.create_file_writer(str(self._directory))
        few = slice(10 if self._x.ndim > 2 else 200)
        labels = None if self._labels is None else self._labels[few]
        # Vectors are drawn by how each column is distributed, which takes draws, and many.
        # A series has axes of its own, and they take long to draw.
        count, are_means = {2: (1000, False), 4: (64, True)}.get(self._x.ndim, (12, True))
        given = plotting.grid_labels(vae.num_classes, count)
        samples = vae.sample(count, label=given, seed=self._seed, mean=are_means)
        codes = vae.code(self._x, self._labels)
        figures = {
            "samples": plotting.event_grid(samples),
            "reconstructions": plotting.reconstructions(
                self._x[few], vae.reconstruct(self._x[few], labels)
            ),
        }
        with self._writer.as_default(epoch):
            for name, figure in figures.items():
                tf.summary.image(name, _pixels(figure)[None])
            if isinstance(vae, VQVAE):
                tf.summary.histogram("codes", vae.codes(self._x, self._labels))
                return
            for dimension in range(vae.latent_dim):
                tf.summary.histogram(f"code/{dimension}", codes[:, dimension])

    def on_train_end(self, logs: Any = None) -> None:
        """Close the file."""
        if self._writer is not None:
            self._writer.close()


def _pixels(figure: Any) -> np.ndarray:
    """Draw a figure, and return its pixels."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=80)
    return tf.io.decode_png(buffer.getvalue(), channels=3).numpy()
