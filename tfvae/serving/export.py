"""SavedModels that load where nothing but TensorFlow is installed."""

import errno
import json
import re
from pathlib import Path

import keras
import tensorflow as tf

from tfvae.errors import InputError
from tfvae.models.tracing import networks_traced_once
from tfvae.models.vae import VAE
from tfvae.models.vq import VQVAE
from tfvae.saving.card import Card
from tfvae.saving.files import new_directory, remove_leftovers, unwritable, version_directories
from tfvae.saving.load import CONFIG_FILE
from tfvae.saving.locks import one_after_another
from tfvae.serving.rows import row_signatures
from tfvae.serving.signatures import signatures
from tfvae.serving.warmup import write_warmup_requests


def export_saved_model(
    vae: VAE | VQVAE,
    path: str | Path,
    *,
    card: Card | None = None,
    num_samples: int = 100,
    replace: bool = False,
) -> list[str]:
    """Write one SavedModel with a signature for each use of the model.

    They are those of `tfvae.serving.signatures.signatures`, and where the card has the schema of a
    table those of `tfvae.serving.rows.row_signatures`. Beside them lie ``card.json`` and
    ``README.md``, which say what the model is and how to call it; requests that warm a server up;
    and the configuration from which `tfvae.load` makes the `VAE` again.

    Args:
        vae: a built `VAE` or `VQVAE`.
        path: the directory to make; it appears complete or not at all.
        card: what is known of the model: how bytes become its values, for the signatures that take
            them, and the threshold of anomalies among it.
        num_samples: K, draws of the signatures ``log_prob`` and ``impute``.
        replace: whether a directory that is there may be replaced.

    Returns:
        The names of the signatures.

    Raises:
        InputError: if something is at `path`, the model has not been built, a number does not
            fit, or the card has a preprocessing of bytes and the events are no images.
        OSError: if it cannot be written.
    """
    card = card or Card()
    found = signatures(
        vae,
        preprocessing=card.preprocessing,
        num_samples=num_samples,
        threshold=None if card.anomaly is None else card.anomaly.threshold,
    )
    if card.schema is not None:
        found += row_signatures(vae, found, card.schema)
    module = tf.Module()
    # In this order `tfvae.load` finds them again.
    module.weights = [weight.value for weight in vae.weights]
    module.others = [variable.value for variable in vae.variables]
    with networks_traced_once():
        graphs = {one.name: one.concrete() for one in found}
    graphs["serving_default"] = graphs[found[0].name]
    with new_directory(path, replace=replace) as partial:
        try:
            tf.saved_model.save(module, str(partial), signatures=graphs)
        except tf.errors.OpError as error:
            reason = unwritable(error)
            if reason is None:
                raise
            raise OSError(errno.EIO, reason, str(path)) from error
        config = partial / CONFIG_FILE
        config.parent.mkdir(exist_ok=True)
        config.write_text(json.dumps(keras.saving.serialize_keras_object(vae)), encoding="utf-8")
        card.write(partial, vae, {one.name: one.described() for one in found})
        write_warmup_requests(partial, vae, found)
    return [signature.name for signature in found]


def publish_saved_model(
    vae: VAE | VQVAE, path: str | Path, *, card: Card | None = None, num_samples: int = 100
) -> tuple[Path, list[str]]:
    """Write a SavedModel as the next version of a model, as TensorFlow Serving expects them.

    The versions of the model NAME are the directories NAME/1, NAME/2 and so on. A new one appears
    complete or not at all, and a server that watches NAME then goes over to it.

    Args:
        vae: a built `VAE` or `VQVAE`.
        path: the directory of the versions, made if there is none.
        card: as for `export_saved_model`.
        num_samples: as for `export_saved_model`.

    Returns:
        The directory of the version, and the names of the signatures.

    Raises:
        InputError: if something else is at `path`, or as `export_saved_model` does.
    """
    path = Path(path)
    if path.exists() and not path.is_dir():
        raise InputError(_no_versions(path))
    # Of two at once each makes a version of its own.
    with one_after_another(path):
        return _publish(vae, path, card, num_samples)


def _no_versions(path: Path) -> str:
    return (
        f"expected a directory of versions NAME/1, NAME/2 ..., or none yet; received {path}, "
        "which is something else: choose another name"
    )


def _publish(
    vae: VAE | VQVAE, path: Path, card: Card | None, num_samples: int
) -> tuple[Path, list[str]]:
    for left in path.glob(".*-????????"):
        if re.fullmatch(r"\.\d+-.{8}", left.name):
            remove_leftovers(path, left.name[:-8], "")
    versions = version_directories(path)
    # Hidden names are of exports that were killed.
    if not versions and any(not one.name.startswith(".") for one in path.iterdir()):
        raise InputError(_no_versions(path))
    version = path / str(int(versions[-1].name) + 1 if versions else 1)
    return version, export_saved_model(vae, version, card=card, num_samples=num_samples)
