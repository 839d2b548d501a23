"""What was read, in one to three lines."""

from collections.abc import Mapping

import numpy as np

from tfvae.datasets.source import Source, dimensions, plural_of
from tfvae.datasets.text import in_a_line

_MOST_NAMES = 12


def described(source: Source, counts: Mapping[str, int]) -> tuple[str, ...]:
    """Return what a source holds, a line each for its size, its values and its classes.

    Args:
        source: what was read.
        counts: how many events each split has.
    """
    shape = source.event_shape
    called = plural_of(shape)
    if len(shape) == 1:
        size = f"{shape[0]} values"
    elif len(shape) == 2:
        size = f"{_many(shape[0], 'step')} of {_many(shape[1], 'channel')}"
    else:
        size = dimensions(shape)
    splits = ", ".join(
        f"{split} {count:,}{'' if split in source.official else ' (drawn)'}"
        for split, count in counts.items()
    )
    lines = [f"{source.name}: {source.count:,} {called} of {size}: {splits}"]
    lines.append("; ".join([_values(source), *source.notes]))
    if source.num_classes is not None:
        lines.append(_classes(source.num_classes, source.class_names))
    return tuple(lines)


def _many(count: int, word: str) -> str:
    return f"{count:,} {word}{'' if count == 1 else 's'}"


def _values(source: Source) -> str:
    if source.schema is not None:
        return source.schema.summary()
    found = "values"
    if source.values is not None:
        found += f" from {source.values[0]:.6g} to {source.values[1]:.6g}"
    if source.value_range is None:
        return f"{found}, left as they are"
    low, high = source.value_range
    if source.dtype == np.uint8 and source.values is None:
        found = "bytes"
    if source.values is None:
        return f"{found}: {low:g} becomes 0 and {high:g} becomes 1"
    first, last = ((value - low) / (high - low) for value in source.values)
    return f"{found} → from {first:.4g} to {last:.4g} ({low:g} becomes 0 and {high:g} becomes 1)"


def _classes(num_classes: int, names: tuple[str, ...] | None) -> str:
    if names is None:
        return f"classes: {num_classes}, by their numbers"
    shown = ", ".join(map(in_a_line, names[:_MOST_NAMES]))
    return f"classes: {num_classes}: {shown}{', ...' if num_classes > _MOST_NAMES else ''}"
