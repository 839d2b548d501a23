"""What posteriors, priors and likelihoods share: a name, options, and their place in a model.

A family is one Keras layer. Its ``call`` maps what a network puts out to parameter tensors in
float32; its ``distribution`` turns those into a `tfd.Distribution`. The split is there because a
layer may not return a distribution from a symbolic call.
"""

import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any

import keras

from tfvae.errors import InputError

PACKAGE = "tfvae"


class Family(keras.layers.Layer):
    """A posterior, prior or likelihood as a layer."""

    def __init__(self, **kwargs: Any):
        # Networks hand over float32 or a half precision; each head decides what it computes in.
        super().__init__(autocast=False, **kwargs)
        self._event_shape: tuple[int, ...] | None = None
        self._head_seed: int | None = None

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Shape of one draw: `(d,)` for a posterior or prior, that of x for a likelihood.

        Raises:
            InputError: if the family belongs to no model yet.
        """
        if self._event_shape is None:
            raise InputError(
                f"{type(self).__name__} does not know its event shape yet: give it to a model, "
                "or call bind(event_shape, seed=None) first"
            )
        return self._event_shape

    @property
    def is_bound(self) -> bool:
        """Whether the family belongs to a model, or `bind` has been called."""
        return self._event_shape is not None

    def bind(self, event_shape: tuple[int, ...], seed: int | None) -> None:
        """Say which event the family describes; a model does so before it builds the family.

        Args:
            event_shape: shape of one draw.
            seed: seed of the initial weights of the family's own layers.

        Raises:
            InputError: if the family already belongs to a model with another event shape.
        """
        if self._event_shape not in (None, tuple(event_shape)):
            raise InputError(
                f"{type(self).__name__} already describes events of shape {self._event_shape}, "
                f"expected none or {tuple(event_shape)}: give each model a family of its own"
            )
        self._event_shape = tuple(event_shape)
        self._head_seed = seed

    def get_build_config(self) -> None:
        """Return nothing: the model that binds the family builds it."""

    def build_from_config(self, config: Any) -> None:
        """Leave building to the model."""

    def _head_initializer(self) -> Callable[..., Any]:
        return keras.initializers.GlorotUniform(seed=self._head_seed)


def resolve(
    identifier: Any,
    base: type,
    known: Mapping[str, Any],
    kind: str,
    defaults: Mapping[str, Any] | None = None,
) -> Any:
    """Make a family, an objective or a schedule from what a user may give for one.

    Args:
        identifier: an instance of `base`, its Keras configuration, or a text: ``"name"``,
            ``"name:option=value,option=value"`` or ``"name(option=value,option=value)"``. A value
            is read as a whole number, a decimal number, true, false or a text, which may be a name
            with options in parentheses again.
        base: class that an instance must have.
        known: classes by name.
        kind: what to call it in a message, such as "likelihood".
        defaults: values for options that the text leaves open, where the class has such options.

    Raises:
        InputError: if the name or an option is unknown or missing, or the value does not fit.
    """
    if isinstance(identifier, Mapping):
        identifier = keras.saving.deserialize_keras_object(identifier)
    if isinstance(identifier, base):
        return identifier
    if not isinstance(identifier, str):
        article = "an" if kind[0] in "aeiou" else "a"
        raise InputError(
            f"{article} {kind} is a name or a tfvae {base.__name__}; received {identifier!r}; "
            f"known names: {', '.join(known)}"
        )
    name, options = _parse(identifier)
    if name not in known:
        raise InputError(f"unknown {kind} {name!r}: expected one of {', '.join(known)}")
    accepted = {
        parameter.name: parameter.default is parameter.empty
        for parameter in inspect.signature(known[name].__init__).parameters.values()
        if parameter.name != "self"
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    }
    for option in options:
        if option not in accepted:
            raise InputError(
                f"unknown option {option!r} of {kind} {name!r}: "
                f"expected {' or '.join(accepted) if accepted else 'no option'}"
            )
    given = {key: value for key, value in (defaults or {}).items() if key in accepted}
    options = given | options
    for option, required in accepted.items():
        if required and option not in options:
            raise InputError(f"{kind} {name!r} needs {option}=: write {name}:{option}=VALUE")
    return known[name](**options)


def _parse(identifier: str) -> tuple[str, dict[str, Any]]:
    """Return the name and the options of ``name:options`` or ``name(options)``."""
    found = re.fullmatch(r"\s*([^:(]*?)\s*(?::(.*)|\((.*)\)\s*)?", identifier)
    if found is None:
        raise InputError(f"expected 'name:option=value,option=value', received {identifier!r}")
    options: dict[str, Any] = {}
    # Commas inside parentheses belong to a value.
    for item in re.findall(r"(?:[^,(]|\([^)]*\)?)+", found[2] or found[3] or ""):
        key, equals, value = item.partition("=")
        if not equals or not value.strip():
            raise InputError(
                f"expected 'name:option=value,option=value', received {identifier!r}: "
                f"{item!r} is no option=value"
            )
        options[key.strip()] = _read_value(value.strip())
    return found[1], options


def _read_value(text: str) -> int | float | bool | str:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    return text
