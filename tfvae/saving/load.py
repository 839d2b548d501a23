"""Trained models, from wherever they were written."""

import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfvae.errors import InputError
from tfvae.models import VAE, VQVAE, Autoencoder
from tfvae.saving.files import find_model

# Where a SavedModel keeps Keras' configuration of the model; servers leave the folder alone.
CONFIG_FILE = Path("assets.extra") / "keras.json"


def load(path: str | Path) -> VAE | VQVAE | Autoencoder:
    """Return the model of a run, a `.keras` file or a SavedModel, with all of its methods.

    Nothing of what is read is run: Keras' safe mode stays on, and of a SavedModel the weights are
    read, not the graphs.

    Args:
        path: a run directory of ``tfvae train``; a `.keras` file; what `VAE.export` or ``tfvae
            export`` wrote, of whose versions the newest is taken; or ``"hf://OWNER/NAME"``, what
            `tfvae.saving.publish.push` has put on a model hub, fetched unless it has been.

    Raises:
        InputError: if there is none of them, it is damaged, or the model is of another kind.
    """
    found = find_model(path)
    try:
        model = _of_saved_model(found) if found.is_dir() else keras.models.load_model(found)
    except InputError:
        raise
    except Exception as error:
        # Keras and TensorFlow raise errors of many kinds on a damaged or foreign file.
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{found} holds no model that can be read: {reason}") from error
    if not isinstance(model, (VAE, VQVAE, Autoencoder)):
        raise InputError(f"expected a tfvae.VAE in {found}; it holds a {type(model).__name__}")
    return model


def _of_saved_model(folder: Path) -> Any:
    """Build the model from its configuration, and give it the weights of the SavedModel."""
    file = folder / CONFIG_FILE
    if not file.is_file():
        raise InputError(
            f"{folder} is a SavedModel of another kind, without {CONFIG_FILE}: "
            "tf.saved_model.load reads it"
        )
    config = json.loads(file.read_text(encoding="utf-8"))
    model = keras.saving.deserialize_keras_object(config, safe_mode=True)
    reader = tf.train.load_checkpoint(str(folder / "variables" / "variables"))
    for index, weight in enumerate(model.weights):
        value: np.ndarray = reader.get_tensor(f"weights/{index}/.ATTRIBUTES/VARIABLE_VALUE")
        weight.assign(value)
    return model
