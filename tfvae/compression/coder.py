"""Events into bytes and back: the order in which all is pushed and popped."""

import dataclasses
import json
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from tfvae.compression import container
from tfvae.compression.container import Header, digest
from tfvae.compression.latents import families_of, latents_of
from tfvae.compression.levels import LevelCoder
from tfvae.compression.originals import checked_original, restored, way_back
from tfvae.compression.stack import Stack, entropy_coder, known_words
from tfvae.errors import InputError
from tfvae.models.vae import VAE
from tfvae.models.vq import VQVAE
from tfvae.typing import ArrayLike

# Events that go through the networks at a time, and values of them.
_MOST_EVENTS = 256
_MOST_VALUES = 2**20
# So many events come one by one at first; those tell how fast the batches may grow, in parts of
# 1/32 of what has been coded.
_SINGLES = 8
_GROWTH_UNIT = 32
# Cells of latents are between a 16th and an 8th of the smallest standard deviation wide.
_FINER = 4
_BITS = (4, 24)
# Events of the probe.
_PROBE = 24


@dataclasses.dataclass(frozen=True)
class Compressed:
    """Events in bytes.

    Attributes:
        data: the file.
        events: how many.
        values: how many values they have.
        start_up_bits: bits of the file that carry nothing: the first event's latents were popped
            from bits that both sides know, and these had to be kept.
        header_bits: bits of the file beside the stack.
    """

    data: bytes
    events: int
    values: int
    start_up_bits: int
    header_bits: int

    @property
    def bits(self) -> int:
        """Length of the file in bits."""
        return 8 * len(self.data)

    @property
    def bits_per_dimension(self) -> float:
        """Bits of the file for each value."""
        return self.bits / max(1, self.values)


@dataclasses.dataclass(frozen=True, eq=False)
class Decompressed:
    """What comes back.

    Attributes:
        x: the array that was given, of its shape and dtype.
        label: the labels `[N]` of a conditional model's events, else None.
        names: of the picture files that the events were, or None.
    """

    x: np.ndarray
    label: np.ndarray | None = None
    names: tuple[str, ...] | None = None


def compress(
    vae: VAE | VQVAE, x: ArrayLike, label: ArrayLike | None = None, *, progress: bool = False
) -> bytes:
    """Compress events without loss, into about as many bits as their negative ELBO.

    Args:
        vae: a built `VAE`, `HierarchicalVAE` or `VQVAE` whose likelihood is of finitely many
            values.
        x: events `[N, *event_shape]` in the likelihood's support, none of them missing.
        label: of a conditional model, the labels `[N]`, which are kept as well.
        progress: whether to show a bar.

    Returns:
        What `decompress` makes the same array from, with the same model on the same machine.

    Raises:
        InputError: if the model or the events do not fit, or constriction is missing.

    Example:
        >>> data = tfvae.compression.compress(vae, x)
        >>> np.array_equal(tfvae.compression.decompress(vae, data), x)
        True
    """
    return compress_events(vae, x, label, progress=progress).data


def decompress(vae: VAE | VQVAE, data: bytes, *, progress: bool = False) -> np.ndarray:
    """Return the array that `compress` was given, of its shape and dtype.

    Args:
        vae: the model that it was compressed with.
        data: what `compress` returned.
        progress: whether to show a bar.

    Raises:
        InputError: if the data are damaged, or of another model, or the networks compute other
            numbers here than where they were compressed.
    """
    return decompress_events(vae, data, progress=progress).x


def compress_events(
    vae: VAE | VQVAE,
    x: ArrayLike,
    label: ArrayLike | None = None,
    *,
    original: np.ndarray | None = None,
    names: tuple[str, ...] | None = None,
    progress: bool = False,
) -> Compressed:
    """Compress events, and say what the file is made of.

    Args:
        vae: as for `compress`.
        x: as for `compress`.
        label: as for `compress`.
        original: the array to give back in place of `x`, such as the bytes that x / 255 was read
            from, with its values in the same order.
        names: names of files to keep.
        progress: whether to show a bar.

    Raises:
        InputError: as for `compress`; or if values of `original` differ that are the same to the
            model.
    """
    entropy_coder()
    levels, x, label = _checked(vae, x, label)
    original = checked_original(x if original is None else original)
    if original.size != x.size:
        raise InputError(f"the original has {original.size} values, and the events have {x.size}")
    numbers = levels.levels.numbers(x)
    # What the networks see is made of the levels, which is what the decoder knows.
    way = way_back(levels.levels, numbers, original)
    with tf.device("/CPU:0"):
        bits = _bits(vae, levels, numbers, label)
        work = Work(vae, levels, bits)
        probe = work.probe()
        stack, growth, batch = work.push_all(numbers, label, progress)
    words = stack.words()
    header = Header(
        model=model_digest(vae),
        probe=probe,
        content=_content(original, label),
        event_shape=tuple(vae.event_shape),
        shape=original.shape,
        dtype=original.dtype.str,
        values=way,
        bits=bits,
        growth=growth,
        batch=batch,
        low=stack.low,
        names=names,
    )
    data = container.write(header, words[stack.low :])
    return Compressed(
        data=data,
        events=len(x),
        values=int(x.size),
        start_up_bits=32 * (work.known - stack.low),
        header_bits=8 * len(data) - 32 * (len(words) - stack.low),
    )


def decompress_events(vae: VAE | VQVAE, data: bytes, *, progress: bool = False) -> Decompressed:
    """Return what `compress_events` was given; see `decompress`."""
    entropy_coder()
    levels = _coder(vae)
    header, words = container.read(data)
    if header.event_shape != tuple(vae.event_shape):
        raise InputError(
            f"the file holds {vae.event_spec.noun} {header.event_shape}, and the model takes "
            f"{tuple(vae.event_shape)}"
            if len(header.event_shape) == vae.event_spec.rank
            else f"the file holds events {header.event_shape}, and the model takes "
            f"{tuple(vae.event_shape)}: take the model that it was compressed with"
        )
    if header.model != model_digest(vae):
        raise InputError(
            "the file was compressed with another model: take the one that it was compressed with"
        )
    with tf.device("/CPU:0"):
        work = Work(vae, levels, header.bits)
        if header.probe != work.probe():
            raise InputError(
                "this machine computes the model's networks with other roundings than the one that "
                "the file was compressed on: decompress it there, or with the same version of "
                "TensorFlow on such a processor"
            )
        numbers, label, stack = work.pop_all(header, words, progress)
    x = restored(levels.levels, numbers, np.dtype(header.dtype), header.values)
    x = x.reshape(header.shape)
    rest = stack.words()
    if not np.array_equal(rest, known_words(work.known)) or _content(x, label) != header.content:
        raise InputError(
            "the networks computed other numbers than when the file was compressed, so that its "
            "events cannot be read: decompress it on the machine, and with as many threads, as it "
            "was compressed with"
        )
    return Decompressed(x, label, header.names)


def model_digest(vae: VAE | VQVAE) -> bytes:
    """Return 8 bytes that tell the model from others: of its weights and families."""
    families = families_of(vae)
    configs = [{**family.get_config(), "name": None} for family in families]
    kinds = [type(family).__name__ for family in families]
    text = json.dumps([kinds, configs], sort_keys=True, default=str)
    weights = (np.ascontiguousarray(weight) for weight in vae.get_weights())
    return digest(text.encode(), *(weight.tobytes() for weight in weights))


def _content(original: np.ndarray, label: np.ndarray | None) -> bytes:
    parts = [np.ascontiguousarray(original).tobytes()]
    if label is not None:
        parts.append(np.asarray(label, np.int32).tobytes())
    return digest(*parts)


def _coder(vae: Any) -> LevelCoder:
    if not isinstance(vae, (VAE, VQVAE)):
        raise InputError(f"compression needs a tfvae.VAE or VQVAE; received a {type(vae).__name__}")
    if not vae.built:
        raise InputError("the model does not know its event shape yet: call it on events first")
    return LevelCoder(vae)


def _checked(
    vae: Any, x: ArrayLike, label: ArrayLike | None
) -> tuple[LevelCoder, np.ndarray, np.ndarray | None]:
    """Return what codes values, and events and labels as arrays.

    Raises:
        InputError: if they do not fit.
    """
    levels = _coder(vae)
    spec = vae.event_spec
    original = np.asarray(x)
    tensor, label = vae.checked(x, label)
    if spec.missing and bool(tf.reduce_any(tf.math.is_nan(tensor))):
        raise InputError(
            "compression takes events without missing values, and some of these are missing: "
            "fill them, tfvae impute"
        )
    tensor = spec.observed(tensor)[0]
    if not bool(vae.likelihood_family.gives_probabilities(tensor)):
        raise InputError(
            f"{type(vae.likelihood_family).__name__} gives probabilities to 0 and 1 alone, and "
            "these events have values between: binarize them"
        )
    if len(original) == 0:
        label = None if vae.num_classes is None else np.zeros(0, np.int32)
    # As it was given, and not as float32, where that is the same.
    kept = original if original.shape == tensor.shape else tensor.numpy()
    return levels, kept, None if label is None else np.asarray(label, np.int32)


def _bits(
    vae: VAE | VQVAE, levels: LevelCoder, numbers: np.ndarray, label: np.ndarray | None
) -> int:
    """Choose how fine the cells of latents are, by the posteriors of the first events."""
    few = slice(0, _batch(vae))
    x = levels.levels.values(numbers[few]).astype(np.float32)
    if len(x) == 0:
        return _BITS[0]
    latents = latents_of(vae, _BITS[0])
    log_vars = latents.log_vars(latents.encoded(x, None if label is None else label[few]))
    if log_vars is None:
        return _BITS[0]
    smallest = float(np.quantile(log_vars, 0.01)) / 2
    return int(np.clip(math.ceil(_FINER - smallest / math.log(2)), *_BITS))


def _batch(vae: VAE | VQVAE) -> int:
    return int(np.clip(_MOST_VALUES // int(np.prod(vae.event_shape)), 1, _MOST_EVENTS))


def _size(done: int, count: int, growth: int, batch: int) -> int:
    """Return the size of the batch that follows the first `done` events.

    A batch pops all of its latents before it pushes anything. So that there are bits to pop, the
    first events come one by one, and later ones in batches that are a part of what came before.
    """
    size = 1 if done < _SINGLES else max(1, done * growth // _GROWTH_UNIT)
    return min(size, batch, count - done)


def _sizes(count: int, growth: int, batch: int) -> Iterator[int]:
    """Yield the sizes of all batches."""
    done = 0
    while done < count:
        size = _size(done, count, growth, batch)
        yield size
        done += size


class Work:
    """A model at work on a stack.

    Args:
        vae: the model.
        levels: what codes values.
        bits: cells of latents are 2^-bits wide.

    Attributes:
        known: words that are on the stack at first.
    """

    def __init__(self, vae: VAE | VQVAE, levels: LevelCoder, bits: int):
        self._vae = vae
        self._levels = levels
        self._latents = latents_of(vae, bits)
        self.known = 1024 + 4 * vae.latent_dim

    def _values(self, numbers: np.ndarray) -> np.ndarray:
        return self._levels.levels.values(numbers).astype(np.float32)

    def push(self, stack: Stack, numbers: np.ndarray, label: np.ndarray | None) -> None:
        """Push events."""
        encoded = self._latents.encoded(self._values(numbers), label)
        cells: list[np.ndarray] = []
        for _ in range(self._latents.groups):
            cells.append(self._latents.posterior(encoded, cells).pop(stack))
        self._levels.push(stack, self._latents.decoded(cells, label), numbers)
        for group in reversed(range(self._latents.groups)):
            self._latents.prior(len(numbers), label, cells[:group]).push(stack, cells[group])
        if label is not None and (self._vae.num_classes or 0) > 1:
            stack.push_uniform(label, np.full(len(label), self._vae.num_classes))

    def pop(self, stack: Stack, count: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Pop what `push` pushed, and push what it popped."""
        label = None
        if self._vae.num_classes is not None:
            label = np.zeros(count, np.int32)
            if self._vae.num_classes > 1:
                label = stack.pop_uniform(np.full(count, self._vae.num_classes)).astype(np.int32)
        cells: list[np.ndarray] = []
        for _ in range(self._latents.groups):
            cells.append(self._latents.prior(count, label, cells).pop(stack))
        numbers = self._levels.pop(stack, self._latents.decoded(cells, label), count)
        encoded = self._latents.encoded(self._values(numbers), label)
        for group in reversed(range(self._latents.groups)):
            self._latents.posterior(encoded, cells[:group]).push(stack, cells[group])
        return numbers, label

    def push_all(
        self, numbers: np.ndarray, label: np.ndarray | None, progress: bool
    ) -> tuple[Stack, int, int]:
        """Push all events; return the stack, and the growth and bound of the batches."""
        stack, batch, count = Stack(known_words(self.known)), _batch(self._vae), len(numbers)
        started, taken, done, growth = stack.bits(), 0, 0, 1
        with tqdm(None, "compress", count, leave=False, disable=not progress) as bar:
            while done < count:
                size = _size(done, count, growth, batch)
                rows = slice(done, done + size)
                before = stack.dip = stack.bits()
                self.push(stack, numbers[rows], None if label is None else label[rows])
                taken += before - stack.dip
                done += size
                bar.update(size)
                if done == _SINGLES:
                    growth = _growth(stack.bits() - started, taken)
        return stack, growth, batch

    def pop_all(
        self, header: Header, words: np.ndarray, progress: bool
    ) -> tuple[np.ndarray, np.ndarray | None, Stack]:
        """Pop all events; return them, their labels, and what is left of the stack."""
        stack = Stack(np.concatenate([known_words(self.known)[: header.low], words]))
        numbers, labels = [], []
        count = header.count
        sizes = list(_sizes(count, header.growth, header.batch))
        with tqdm(None, "decompress", count, leave=False, disable=not progress) as bar:
            for size in reversed(sizes):
                found, label = self.pop(stack, size)
                numbers.append(found)
                if label is not None:
                    labels.append(label)
                bar.update(size)
        empty = np.zeros((0, *self._vae.event_shape), np.int64)
        label = None
        if self._vae.num_classes is not None:
            label = np.concatenate([np.zeros(0, np.int32), *reversed(labels)])
        return np.concatenate([empty, *reversed(numbers)]), label, stack

    def probe(self) -> bytes:
        """Return a digest of what the model computes of some events on this machine."""
        spec = self._vae.event_spec
        rng = np.random.default_rng(0)
        shape = (_PROBE, *spec.shape)
        numbers = np.minimum(rng.integers(0, 2**16, shape), self._levels.levels.count - 1)
        label = None
        if self._vae.num_classes is not None:
            label = np.arange(_PROBE, dtype=np.int32) % self._vae.num_classes
        stack = Stack(known_words(self.known + 64 * self._vae.latent_dim))
        self.push(stack, numbers, label)
        return digest(stack.words().tobytes())


def _growth(gained: int, taken: int) -> int:
    """Return how large a batch may be, in 32nds of what came before, with bits for its latents."""
    ratio = 0.8 * gained / max(1, taken)
    return int(np.clip(ratio * _GROWTH_UNIT, 1, 255))
