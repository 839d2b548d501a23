"""What is in a file of compressed events besides the stack of bits."""

import dataclasses
import hashlib
import json
import math
import zlib

import numpy as np

from tfvae.errors import InputError

_MAGIC = b"\x93tfvae"
VERSION = 1
_DIGEST = 8
_NOT_ONE = "it is no file of tfvae compress"
_MOST_NAMES = 2**30


def digest(*parts: bytes | memoryview) -> bytes:
    """Return 8 bytes that tell one content from another."""
    found = hashlib.sha256()
    for part in parts:
        found.update(part)
    return found.digest()[:_DIGEST]


@dataclasses.dataclass(frozen=True)
class Header:
    """What a decoder must know.

    Attributes:
        model: digest of the model's weights.
        probe: digest of what the model computes of some numbers, on the machine that wrote.
        content: digest of the events as they were given.
        event_shape: of one event.
        shape: of the array that was given.
        dtype: of that array, as NumPy writes it.
        values: how levels become its values; see `tfvae.compression.originals`.
        bits: cells of latents are 2^-bits wide.
        growth: how the batches grow; see `tfvae.compression.coder`.
        batch: events in the largest batch.
        low: how many of the known words at the bottom of the stack were never touched.
        names: of the picture files that the events were, or None.
    """

    model: bytes
    probe: bytes
    content: bytes
    event_shape: tuple[int, ...]
    shape: tuple[int, ...]
    dtype: str
    values: bytes
    bits: int
    growth: int
    batch: int
    low: int
    names: tuple[str, ...] | None = None

    @property
    def count(self) -> int:
        """How many events there are."""
        return math.prod(self.shape) // max(1, math.prod(self.event_shape))


def write(header: Header, words: np.ndarray) -> bytes:
    """Return the file.

    Args:
        header: what a decoder must know.
        words: the stack above its untouched words, uint32.
    """
    names = b""
    if header.names is not None:
        text = json.dumps(list(header.names), ensure_ascii=False, separators=(",", ":"))
        names = zlib.compress(text.encode(), 9)
    body = b"".join(
        [
            header.model,
            header.probe,
            header.content,
            *(_number(one) for one in (header.bits, header.growth, header.batch, header.low)),
            _numbers(header.event_shape),
            _numbers(header.shape),
            *(_text(one) for one in (header.dtype.encode(), header.values, names)),
            np.ascontiguousarray(words, "<u4").tobytes(),
        ]
    )
    start = _MAGIC + bytes([VERSION])
    return start + digest(start, body) + body


def read(data: bytes) -> tuple[Header, np.ndarray]:
    """Return what `write` was given.

    Raises:
        InputError: if the bytes are no such file, of another version, or damaged.
    """
    start = len(_MAGIC) + 1
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise InputError(f"expected the bytes of a file; received {type(data).__name__}")
    data = bytes(data)
    if data[: len(_MAGIC)] != _MAGIC or len(data) < start + _DIGEST:
        raise InputError(f"{_NOT_ONE}, or its beginning is damaged")
    body = data[start + _DIGEST :]
    if data[start : start + _DIGEST] != digest(data[:start], body):
        raise InputError("the file is damaged, or was cut off: take another copy of it")
    if data[start - 1] != VERSION:
        raise InputError(
            f"the file has the format {data[start - 1]}, and this tfvae reads {VERSION}: take the "
            "version that wrote it"
        )
    return _parsed(_Reader(body))


def _parsed(reader: "_Reader") -> tuple[Header, np.ndarray]:
    model, probe, content = (reader.take(_DIGEST) for _ in range(3))
    bits, growth, batch, low = (reader.number() for _ in range(4))
    event_shape, shape = reader.numbers(), reader.numbers()
    dtype, values, names = (reader.take(reader.number()) for _ in range(3))
    header = Header(
        model=model,
        probe=probe,
        content=content,
        event_shape=event_shape,
        shape=shape,
        dtype=dtype.decode("ascii"),
        values=values,
        bits=bits,
        growth=growth,
        batch=batch,
        low=low,
        names=tuple(json.loads(_unpacked(names))) if names else None,
    )
    return header, np.frombuffer(reader.rest(), "<u4").astype(np.uint32)


def _unpacked(names: bytes) -> bytes:
    # A few bytes could be made to unpack to gigabytes.
    packer = zlib.decompressobj()
    found = packer.decompress(names, _MOST_NAMES)
    if packer.unconsumed_tail:
        raise InputError("the file names more pictures than fit into memory")
    return found


class _Reader:
    """Reads what the functions below wrote, from the beginning on."""

    def __init__(self, data: bytes):
        self._data = data
        self._place = 0

    def take(self, count: int) -> bytes:
        """Return the next bytes.

        Raises:
            InputError: if there are fewer.
        """
        found = self._data[self._place : self._place + count]
        if len(found) != count:
            raise InputError(_NOT_ONE)
        self._place += count
        return found

    def number(self) -> int:
        """Return the next whole number."""
        value = shift = 0
        while True:
            (byte,) = self.take(1)
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128 or shift > 63:
                return value

    def numbers(self) -> tuple[int, ...]:
        """Return the next whole numbers."""
        return tuple(self.number() for _ in range(self.number()))

    def rest(self) -> bytes:
        """Return what is left, whole words of it."""
        left = self._data[self._place :]
        if len(left) % 4:
            raise InputError(_NOT_ONE)
        return left


def _number(value: int) -> bytes:
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    found.append(value)
    return bytes(found)


def _numbers(values: tuple[int, ...]) -> bytes:
    return _number(len(values)) + b"".join(map(_number, values))


def _text(text: bytes) -> bytes:
    return _number(len(text)) + text
