"""All that decides how a training goes on, as bytes and back."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from tfvae.checks import is_whole
from tfvae.errors import InputError
from tfvae.models import LatentVariableModel, keras_internals
from tfvae.training.checkpoints import pack, unpack
from tfvae.training.identity import compare

# What Keras' own callbacks remember, which Keras itself saves nowhere.
_REMEMBERED: dict[type, tuple[str, ...]] = {
    keras.callbacks.EarlyStopping: (
        "wait", "best", "best_epoch", "best_weights", "stopped_epoch",
    ),
    keras.callbacks.ReduceLROnPlateau: ("wait", "best", "cooldown_counter"),
    keras.callbacks.ModelCheckpoint: ("best", "epochs_since_last_save"),
}  # fmt: skip


@dataclasses.dataclass
class Position:
    """How far a training has come.

    Attributes:
        epoch: epochs that are over.
        step: steps taken in the epoch under way.
        totals: sums of the epoch under way, float64, empty at its start.
        history: one value an epoch of each metric.
        stopped: whether a callback has ended the training.
        skipped: batches left out since their loss or gradient was not finite, or the latter too
            long.
        taken: steps taken in all.
    """

    epoch: int = 0
    step: int = 0
    totals: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0))
    history: dict[str, list[float]] = dataclasses.field(default_factory=dict)
    stopped: bool = False
    skipped: int = 0
    taken: int = 0


def capture(
    model: LatentVariableModel,
    position: Position,
    callbacks: Sequence[keras.callbacks.Callback],
    identity: Mapping[str, str],
) -> bytes:
    """Put the state of a training into the content of a checkpoint.

    That is: all variables of model, optimiser and metrics, the states of random generators among
    them; the position; what callbacks remember. A callback of the user's is asked for it by
    ``get_state()``, a dictionary of what JSON can hold, if it has such a method. `identity` is what
    the training is of; see `tfvae.training.identity.identity_of`.
    """
    arrays = {f"variable/{i}": _plain(v) for i, v in enumerate(_variables(model))}
    arrays["totals"] = position.totals
    memories = []
    for i, callback in enumerate(_with_memory(callbacks)):
        memory: dict[str, Any] = {}
        for name in _remembered(callback):
            value: Any = getattr(callback, name, None)
            if isinstance(value, list):
                memory[name] = {"arrays": len(value)}
                arrays |= {f"callback/{i}/{name}/{j}": np.asarray(a) for j, a in enumerate(value)}
            else:
                memory[name] = value
        if hasattr(callback, "get_state"):
            memory["state"] = callback.get_state()
        memories.append(memory)
    facts = {
        field.name: getattr(position, field.name)
        for field in dataclasses.fields(position)
        if field.name != "totals"
    }
    return pack({"of": dict(identity), "position": facts, "callbacks": memories}, arrays)


def restore(
    model: LatentVariableModel,
    state: bytes,
    callbacks: Sequence[keras.callbacks.Callback],
    identity: Mapping[str, str],
) -> Position:
    """Put a training back into the state that `capture` saw.

    Raises:
        InputError: if the state is that of another model, optimiser, choice of callbacks or data,
            or is none.
    """
    meta, arrays = unpack(state)
    try:
        return _restored(model, meta, arrays, callbacks, identity)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"a checkpoint holds what no training wrote: {error!r}") from error


def _restored(
    model: LatentVariableModel,
    meta: dict[str, Any],
    arrays: dict[str, np.ndarray],
    callbacks: Sequence[keras.callbacks.Callback],
    identity: Mapping[str, str],
) -> Position:
    variables = _variables(model)
    saved = [name for name in arrays if name.startswith("variable/")]
    # The chief of several workers has callbacks beside those of the others, which write files and
    # remember nothing.
    callbacks = _with_memory(callbacks)
    fits = len(saved) == len(variables) and all(
        arrays[f"variable/{i}"].shape == tuple(v.shape) for i, v in enumerate(variables)
    )
    if not fits or len(meta["callbacks"]) != len(callbacks):
        raise InputError(
            "the checkpoint is of another training: expected the same model, optimizer and "
            "callbacks; start anew with another directory for the checkpoints"
        )
    compare(meta["of"], identity)
    for i, variable in enumerate(variables):
        array = arrays[f"variable/{i}"]
        if array.dtype.kind == "u" and variable.dtype == "bfloat16":
            array = array.view(keras.ops.convert_to_numpy(variable).dtype)
        variable.assign(array)
    for i, (callback, memory) in enumerate(zip(callbacks, meta["callbacks"], strict=True)):
        remembered = _remembered(callback)
        for name, value in memory.items():
            if name == "state" and hasattr(callback, "set_state"):
                callback.set_state(value)
            elif name not in remembered:
                # A file of somebody else's would set what it likes.
                raise InputError(
                    f"the checkpoint sets {name!r} of {type(callback).__name__}, which no training "
                    "wrote"
                )
            elif isinstance(value, dict):
                values = [arrays[f"callback/{i}/{name}/{j}"] for j in range(value["arrays"])]
                setattr(callback, name, values)
            else:
                setattr(callback, name, value)
    return _position(meta["position"], arrays["totals"])


def _position(facts: dict[str, Any], totals: np.ndarray) -> Position:
    counts = [facts[name] for name in ("epoch", "step", "skipped", "taken")]
    if not all(is_whole(count, 0) for count in counts) or not isinstance(facts["stopped"], bool):
        raise ValueError("its position is no place of a training")
    history = {
        str(name): [float(value) for value in values] for name, values in facts["history"].items()
    }
    return Position(totals=totals, **{**facts, "history": history})


def _variables(model: LatentVariableModel) -> list[Any]:
    # The loop has sums of its own in place of Keras' metrics. Those belong to all workers together,
    # so that one alone cannot even read them; the user's are there on one device only.
    metrics = model.metrics_variables if keras_internals.compiled_metrics(model) is not None else []
    return [*model.variables, *metrics, *model.optimizer.variables]


def _with_memory(
    callbacks: Sequence[keras.callbacks.Callback],
) -> list[keras.callbacks.Callback]:
    """Return the callbacks that remember something."""
    return [one for one in callbacks if _remembered(one) or hasattr(one, "get_state")]


def _remembered(callback: keras.callbacks.Callback) -> tuple[str, ...]:
    return next((names for of, names in _REMEMBERED.items() if isinstance(callback, of)), ())


def _plain(variable: Any) -> np.ndarray:
    """Return a variable's value in a type that NumPy can write: bfloat16 as its bits."""
    array = keras.ops.convert_to_numpy(variable)
    return array.view(np.uint16) if variable.dtype == "bfloat16" else array
