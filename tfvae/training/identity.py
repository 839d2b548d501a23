"""What a training is of: a checkpoint goes on with the data and the model that it began with."""

import hashlib
import json
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tfvae.datasets import Batches, input_errors
from tfvae.datasets.shared import SharedSplit
from tfvae.errors import InputError
from tfvae.models import LatentVariableModel

# What may change without the training becoming another one; it is said.
_HARMLESS = ("precision", "optimizer", "shares")
# Where Keras writes a layer's name before the numbers of its node and tensor.
_LAYERS = ("keras_history", "input_layers", "output_layers")
_WORDS = {
    "model": "the model (network, likelihood, posterior, prior, objective or their options)",
    "events": "the events of the data",
    "order": "how batches are made (their size, order, seed or draws)",
    "precision": "the precision",
    "optimizer": "the options of the optimizer",
    "shares": "the number of workers that share the files, and so the order of the events,",
}


def identity_of(model: LatentVariableModel, data: Any) -> dict[str, str]:
    """Return digests of what a training is of, by its parts.

    Args:
        model: a built model that has been compiled.
        data: as `tfvae.training.train` takes it. Of `Batches` a sample of the events is looked at;
            of other data the shapes and types alone.
    """
    try:
        config = _without_policy(model.get_config())
    except NotImplementedError:  # networks of one's own, which need none to be trained
        config = [type(model).__name__]
    found = {
        "model": _digest(_nameless(config)),
        "precision": model.dtype_policy.name,
        "optimizer": _digest(_nameless(model.optimizer.get_config())),
    }
    if isinstance(data, Batches):
        split = data.split
        order = [data.batch_size, data.shuffle, data.drop_remainder, split.seed, split.binarize]
        with input_errors():
            found["events"] = split.digest()
        found["order"] = _digest([*order, split.noise])
        if isinstance(split, SharedSplit):
            found["shares"] = str(len(split.counts))
    else:
        specs = tf.nest.map_structure(str, data.element_spec)
        found["events"] = _digest(str(specs))
    return found


def compare(before: Mapping[str, str], now: Mapping[str, str]) -> None:
    """Refuse to go on with what is another training, and say what is merely other.

    Raises:
        InputError: if model or data are others than before.
    """
    other = [name for name in _WORDS if before.get(name) != now.get(name)]
    wrong = [_WORDS[name] for name in other if name not in _HARMLESS]
    if wrong:
        raise InputError(
            f"the checkpoint is of another training; what differs is {', and '.join(wrong)}: go on "
            "with what it began with, or begin anew with another directory for the checkpoints"
        )
    for name in other:
        print(
            f"tfvae: the training goes on with {_WORDS[name]} changed since its checkpoint",
            file=sys.stderr,
        )


def _digest(facts: Any) -> str:
    text = facts if isinstance(facts, str) else json.dumps(facts, sort_keys=True, default=_plain)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, (np.ndarray, np.generic)) else str(type(value))


def _nameless(config: Any) -> str:
    """Return a configuration as text; names, which Keras counts on in each process, by place.

    A layer may be named as an option is (`"activation"`), so a name is replaced only where Keras
    writes one.
    """
    places: dict[str, str] = {}

    def place(name: str) -> str:
        return places.setdefault(name, f"#{len(places)}")

    def named(config: Any, within: str) -> Any:
        if isinstance(config, str):
            return place(config) if within == "name" else config
        if isinstance(config, Mapping):
            return {key: named(config[key], key) for key in sorted(config)}
        if not isinstance(config, (list, tuple)):
            return config
        if within in _LAYERS and config and isinstance(config[0], str):
            return [place(config[0]), *config[1:]]
        return [named(value, within if within in _LAYERS else "") for value in config]

    return json.dumps(named(config, ""), default=_plain)


def _without_policy(config: Any) -> Any:
    """Return a configuration without the precision, which is looked at by itself."""
    if isinstance(config, Mapping):
        return {key: _without_policy(value) for key, value in config.items() if key != "dtype"}
    if isinstance(config, (list, tuple)):
        return [_without_policy(value) for value in config]
    return config
