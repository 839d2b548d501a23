"""Requests that a server plays through before it takes any, so that the first is not slow."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tfvae.datasets.preprocessing import to_png
from tfvae.models.vae import VAE
from tfvae.models.vq import VQVAE
from tfvae.serving.functions import likely_events
from tfvae.serving.signatures import Signature

# Where TensorFlow Serving looks for them.
WARMUP_FILE = Path("assets.extra") / "tf_serving_warmup_requests"


def write_warmup_requests(folder: Path, vae: VAE | VQVAE, signatures: Sequence[Signature]) -> None:
    """Write a request for each signature, of one event, as TFRecords of `PredictionLog`.

    Args:
        folder: of the SavedModel.
        vae: the model, which draws the event.
        signatures: of the SavedModel.
    """
    from tensorflow_serving.apis import prediction_log_pb2

    example = _Example(vae)
    with tf.io.TFRecordWriter(str(folder / WARMUP_FILE)) as file:
        for signature in signatures:
            log = prediction_log_pb2.PredictionLog()
            request = log.predict_log.request
            request.model_spec.signature_name = signature.name
            for spec in signature.inputs:
                value = signature.examples.get(spec.name)
                value = example.of(spec) if value is None else value
                request.inputs[spec.name].CopyFrom(tf.make_tensor_proto(value))
            file.write(log.SerializeToString())


class _Example:
    """One event that the model could have made, and what else signatures take."""

    def __init__(self, vae: VAE | VQVAE):
        self._event = likely_events(vae, 1, None if vae.num_classes is None else 0)
        self._latent_dim = vae.latent_dim

    def of(self, spec: tf.TensorSpec) -> Any:
        """Return a batch of one for an input."""
        if spec.dtype == tf.string:
            return to_png(np.zeros_like(self._event)).numpy()
        if spec.dtype == tf.uint8:
            return np.zeros(self._event.shape, np.uint8)
        others = {
            "z": np.zeros((1, self._latent_dim), np.float32),
            "seed": np.zeros((1, 2), np.int32),
            "weight": np.zeros(1, np.float32),
            "label": np.zeros(1, np.int32),
            "codes": np.zeros((1, *spec.shape[1:]), np.int32),
        }
        return others.get(spec.name, self._event)
