"""How the array that was given comes back from the levels of its values, bit for bit."""

import zlib

import numpy as np

from tfvae.compression.levels import Levels
from tfvae.errors import InputError

# The first byte says how levels become values: by their formula, as their numbers, by a table.
_FORMULA, _NUMBERS, _TABLE = b"v", b"n", b"t"
# Kinds of numbers that NumPy has on every machine.
_KINDS = "biuf"


def checked_original(original: np.ndarray) -> np.ndarray:
    """Return an array in the order that it is restored in.

    Raises:
        InputError: if it holds no numbers.
    """
    original = np.ascontiguousarray(original)
    if original.dtype.kind not in _KINDS or original.dtype.itemsize > 8:
        raise InputError(f"compression takes arrays of numbers; received {original.dtype}")
    # With its sign a zero would be a value of its own.
    return original + original.dtype.type(0) if original.dtype.kind == "f" else original


def way_back(levels: Levels, numbers: np.ndarray, original: np.ndarray) -> bytes:
    """Return what `restored` makes the array from again.

    Args:
        levels: of the model.
        numbers: the level of each value, `[N, *event_shape]`.
        original: the array that was given, as many values in the same order.

    Raises:
        InputError: if different values are on the same level.
    """
    original = original.reshape(numbers.shape)
    for way in (_FORMULA, _NUMBERS):
        if _equal(restored(levels, numbers, original.dtype, way), original):
            return way
    table = np.zeros((levels.most, *levels.low.shape), original.dtype)
    table[_places(levels, numbers)] = original
    way = _TABLE + zlib.compress(table.astype(_little(table.dtype)).tobytes(), 9)
    if not _equal(restored(levels, numbers, original.dtype, way), original):
        raise InputError(
            "the model takes several of the values for one, so that they would not come back: "
            f"{levels.most} levels are what it knows"
        )
    return way


def restored(levels: Levels, numbers: np.ndarray, dtype: np.dtype, way: bytes) -> np.ndarray:
    """Return the array, `[N, *event_shape]`.

    Args:
        levels: of the model.
        numbers: the level of each value.
        dtype: of the array.
        way: what `way_back` returned.

    Raises:
        InputError: if that is of another model.
    """
    kind = way[:1]
    if kind == _FORMULA:
        return levels.values(numbers).astype(dtype)
    if kind == _NUMBERS:
        return numbers.astype(dtype)
    shape = (levels.most, *levels.low.shape)
    content = zlib.decompressobj().decompress(way[1:], 2**30)
    if kind != _TABLE or len(content) != int(np.prod(shape)) * dtype.itemsize:
        raise InputError("the file was written with a model of other levels")
    table = np.frombuffer(content, _little(dtype)).reshape(shape).astype(dtype)
    return table[_places(levels, numbers)]


def _places(levels: Levels, numbers: np.ndarray) -> tuple[np.ndarray, ...]:
    if levels.low.ndim == 0:
        return (numbers,)
    return numbers, np.broadcast_to(np.arange(numbers.shape[-1]), numbers.shape)


def _equal(one: np.ndarray, other: np.ndarray) -> bool:
    return bool(np.array_equal(one, other))


def _little(dtype: np.dtype) -> np.dtype:
    return dtype.newbyteorder("<") if dtype.itemsize > 1 else dtype
