"""Values from outside against the types and limits that options are declared with.

The command line, its file, a run's `config.toml`, a card and Python say the same of a wrong value.
Pydantic compares types, strictly: "128" is no number. It is loaded with the first value that is no
default, so that a command's help does without it.
"""

import dataclasses
import functools
import json
import typing
from typing import Any

from cyclopts import Parameter

from tfvae.errors import InputError


class Validated:
    """A frozen dataclass of options whose values are compared with their declarations when made.

    Numbers are finite, and within the limits of the validators of their `cyclopts.Parameter`.

    Raises:
        InputError: if one does not fit.
    """

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            if value is not field.default:
                kind: Any = type(self)
                _check(field.name, _annotations(kind)[field.name], value)


def from_json(kind: Any, facts: Any, name: str) -> Any:
    """Return what facts from a JSON file describe.

    Args:
        kind: a type, such as a dataclass.
        facts: as `json` reads them.
        name: what they are called in a message.

    Raises:
        InputError: if their types are others, or some are unknown.
    """
    if dataclasses.is_dataclass(kind) and isinstance(facts, dict):
        known = {field.name for field in dataclasses.fields(kind)}
        for one in facts:
            if one not in known:
                raise InputError(f"{name} has an unknown entry {one!r}")
    return _validated(name, kind, json.dumps(facts), from_text=True)


def _check(name: str, annotation: Any, value: Any) -> None:
    _validated(name, annotation, value)
    kind, *described = typing.get_args(annotation)
    for parameter in described:
        if not isinstance(parameter, Parameter):
            continue
        validators: Any = parameter.validator
        for validator in validators:
            try:
                validator(kind, value)
            except ValueError as error:
                raise InputError(_line(name, str(error), value)) from None


def _validated(name: str, kind: Any, value: Any, from_text: bool = False) -> Any:
    from pydantic import ValidationError

    adapter = _adapter(kind)
    validate = adapter.validate_json if from_text else adapter.validate_python
    try:
        return validate(value, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, (name, *(part for part in first["loc"] if part))))
        raise InputError(_line(where, first["msg"], first["input"])) from None


def _line(name: str, says: str, value: Any) -> str:
    says = says.replace("Input should be", "expected").rstrip(".")
    says = says[:1].lower() + says[1:]
    return f"option {name}: {says}; received {' '.join(repr(value).split())[:80]}"


@functools.cache
def _adapter(kind: Any) -> Any:
    from pydantic import ConfigDict, TypeAdapter

    if dataclasses.is_dataclass(kind):
        return TypeAdapter(kind)
    return TypeAdapter(kind, config=ConfigDict(allow_inf_nan=False))


@functools.cache
def _annotations(cls: Any) -> dict[str, Any]:
    return typing.get_type_hints(cls, include_extras=True)
