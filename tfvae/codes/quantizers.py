"""Quantizers: from an encoder's map of vectors to codes, whole numbers, and back.

A code is one of K vectors, e_1 … e_K. The gradient passes a quantizer as if it were not there
(straight-through, Bengio et al. 2013, arXiv:1308.3432): what reaches the chosen vector goes to the
encoder's vector unchanged.

What a quantizer learns without a gradient (the codebook) it learns from `statistics`: sums over the
events of a batch, so that those of several devices add up. A training step applies them by `follow`
when it has updated the weights, and does not if it leaves these as they are.
"""

import abc
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from tfvae.checks import MOST_UNITS, checked_count, checked_weight, is_number, is_whole
from tfvae.distributions.family import PACKAGE, resolve
from tfvae.errors import InputError
from tfvae.share import Share
from tfvae.typing import Config, Shape, Tensor

# More would not fit into memory beside their embeddings.
_MOST_CODES = 2**16


class Quantized(NamedTuple):
    """Vectors `[..., C]` as a quantizer leaves them.

    Attributes:
        vectors: what the decoder sees, `[..., C]`, with the straight-through gradient.
        codes: int32 `[..., depth]`.
        commitment: what holds the encoder to its codes, `[...]`; times its weight.
        residuals: what each level of codebooks was given, `[..., C]`, without a gradient; none of a
            quantizer that learns nothing.
    """

    vectors: Tensor
    codes: Tensor
    commitment: Tensor
    residuals: tuple[Tensor, ...] = ()


@tf.custom_gradient
def straight_through(vectors: Tensor, quantized: Tensor) -> Any:
    """Return `quantized`, exactly, with the gradient of `vectors`."""

    def gradient(upstream: Tensor) -> tuple[Tensor, None]:
        return upstream, None

    return tf.identity(quantized), gradient


class Quantizer(keras.layers.Layer, abc.ABC):
    """Base class of quantizers.

    ``call`` takes vectors `[..., C]` and returns their quantised ones. It computes in float32
    whatever the networks do: codes are found by differences of distances.

    Args:
        **kwargs: those of `keras.layers.Layer`.

    Attributes:
        num_codes: K, how many values a code has.
        depth: how many codes stand for one vector.
    """

    num_codes: int
    depth: int = 1

    def __init__(self, **kwargs: Any):
        super().__init__(**{"dtype": "float32", **kwargs}, autocast=False)

    def code_dim(self, wanted: int | None) -> int:
        """Return C, the width of vectors.

        Args:
            wanted: by the user; None for the usual width.

        Raises:
            InputError: if the quantizer has vectors of another width.
        """
        return checked_count("code_dim", 32 if wanted is None else wanted, most=MOST_UNITS)

    @abc.abstractmethod
    def quantized(self, vectors: Tensor) -> Quantized:
        """Quantise vectors `[..., C]`."""

    @abc.abstractmethod
    def lookup(self, codes: Tensor) -> Tensor:
        """Return the vectors `[..., C]` that codes `[..., depth]` stand for."""

    def call(self, vectors: Tensor) -> Tensor:
        """Quantise vectors `[..., C]`."""
        return self.quantized(vectors).vectors

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Return the shape of what `call` returns."""
        return input_shape

    def start(self, vectors: np.ndarray, seed: int) -> None:
        """Start at the vectors of some events, before the first step of a training.

        Args:
            vectors: `[N, C]`, as the encoder puts them out.
            seed: of the choice among them.
        """

    def statistics(
        self, found: Quantized, weight: Tensor | None, seed: Tensor, share: Share | None
    ) -> tuple[Tensor, ...]:
        """Return the sums over events from which `follow` learns.

        Args:
            found: of a batch, `[B, ..., C]`.
            weight: of the events `[B]`, or None.
            seed: `[2]`, of the batch.
            share: which rows of the batch they are, where several devices have it.
        """
        return ()

    def follow(self, statistics: Sequence[Tensor]) -> None:
        """Learn from the sums that `statistics` returned, over all devices."""


@keras.saving.register_keras_serializable(PACKAGE)
class VectorQuantizer(Quantizer):
    """A codebook, ``"vq:codes=256"``, learnt as moving averages of the vectors that it stands for.

    The code of z is the nearest of e_1 … e_K (van den Oord et al. 2017, arXiv:1711.00937). With n_k
    the number of vectors of a batch that have code k, and s_k their sum (appendix A.1 there)::

        N_k ← γ N_k + (1 − γ) n_k        m_k ← γ m_k + (1 − γ) s_k        e_k = m_k / Ñ_k
        Ñ_k = (N_k + ε) / (N + K ε) · N  with  N = Σ_k N_k

    the last with Laplace smoothing. A code that stands for next to nothing, N_k < restart · N / K,
    is put onto a vector drawn from the batch (Williams et al. 2020, arXiv:2002.08111), with
    N_k = N / K. A training starts the codebook at vectors of its events.

    The commitment is β ‖z − e‖² of each vector, summed over its C values. As log p(x|z) is in nats,
    it is in the nats of −log N(z; e, I / (2 β)), but for that density's constant.

    Args:
        codes: K.
        decay: γ.
        commitment: β.
        restart: share of an equal part below which a code is restarted; 0 for never.
        epsilon: ε.
        **kwargs: those of `keras.layers.Layer`.

    Raises:
        InputError: if a number does not fit.
    """

    def __init__(
        self,
        codes: int = 256,
        decay: float = 0.99,
        commitment: float = 0.25,
        restart: float = 0.05,
        epsilon: float = 1e-5,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.num_codes = checked_count("codes", codes, least=2, most=_MOST_CODES)
        if not (is_number(decay) and 0 <= decay < 1):
            raise InputError(f"decay is a number from 0 and below 1; received {decay!r}")
        self.decay = float(decay)
        self.commitment = checked_weight("commitment", commitment)
        self.restart = checked_weight("restart", restart)
        if not (is_number(epsilon) and 0 < epsilon < math.inf):
            raise InputError(f"epsilon is a number above 0; received {epsilon!r}")
        self.epsilon = float(epsilon)

    def build(self, input_shape: Shape) -> None:
        """Create the codebooks, for vectors of the last axis of `input_shape`."""
        shape = (self.depth, self.num_codes)
        width = int(input_shape[-1])

        def weight(name: str, shape: Shape, initializer: Any) -> keras.Variable:
            return self.add_weight(
                shape=shape,
                initializer=initializer,
                dtype="float32",
                trainable=False,
                autocast=False,
                # Each device has computed the same from sums over all of them.
                aggregation="only_first_replica",
                name=name,
            )

        # Some that differ: a training sets them.
        start = keras.initializers.RandomNormal(stddev=width**-0.5, seed=0)
        self.codebooks = weight("codebooks", (*shape, width), start)
        self.counts = weight("counts", shape, "ones")
        self.sums = weight("sums", (*shape, width), "zeros")
        self._set(self.codebooks * self._may_move())
        self.built = True

    def _may_move(self) -> np.ndarray:
        """Return 1 for each code that learns and 0 for one that stays, `[depth, K, 1]`."""
        return np.ones((self.depth, self.num_codes, 1), np.float32)

    def _set(self, codebooks: Any) -> None:
        self.codebooks.assign(codebooks)
        self.sums.assign(codebooks)
        self.counts.assign(keras.ops.ones_like(self.counts))

    def quantized(self, vectors: Tensor) -> Quantized:
        """Quantise vectors `[..., C]`, each level what those before it have left."""
        rest = tf.stop_gradient(vectors)
        total = tf.zeros_like(rest)
        commitment = tf.zeros(tf.shape(rest)[:-1])
        codes, residuals = [], []
        for level in range(self.depth):
            book = tf.convert_to_tensor(self.codebooks)[level]
            residuals.append(rest)
            codes.append(nearest(rest, book))
            total += tf.gather(book, codes[-1])
            rest = tf.stop_gradient(vectors) - total
            commitment += tf.reduce_sum(tf.square(vectors - total), axis=-1)
        return Quantized(
            straight_through(vectors, total),
            tf.stack(codes, axis=-1),
            self.commitment * commitment,
            tuple(residuals),
        )

    def lookup(self, codes: Tensor) -> Tensor:
        """Return the vectors `[..., C]` that codes `[..., depth]` stand for."""
        books = tf.convert_to_tensor(self.codebooks)
        total = tf.gather(books[0], codes[..., 0])
        for level in range(1, self.depth):
            total += tf.gather(books[level], codes[..., level])
        return total

    def start(self, vectors: np.ndarray, seed: int) -> None:
        """Put the codes onto vectors drawn from `[N, C]`, each level onto what is left."""
        rng = np.random.default_rng(seed)
        rest = np.asarray(vectors, np.float32)
        books = []
        for level in range(self.depth):
            few = len(rest) < self.num_codes
            rows = rng.choice(len(rest), self.num_codes, replace=few)
            book = rest[rows]
            if few:
                # Equal codes would have one of them chosen and the others never.
                book += 0.01 * (rest.std() + 1e-3) * rng.standard_normal(book.shape)
            book = (book * self._may_move()[level]).astype(np.float32)
            books.append(book)
            rest = rest - book[nearest(tf.constant(rest), tf.constant(book)).numpy()]
        self._set(np.stack(books))

    def statistics(
        self, found: Quantized, weight: Tensor | None, seed: Tensor, share: Share | None
    ) -> tuple[Tensor, ...]:
        """Return, for each level, a matrix `[K, 2 C + 2]`: n, s, and a vector to restart each at.

        The columns are n_k, s_k, how many vectors are put forward for k (1 or none), and these.
        """
        rows = tf.shape(found.codes)[0]
        places = tf.size(found.codes) // (rows * self.depth)
        weights = tf.ones((rows,)) if weight is None else weight
        if share is not None:
            weights *= share.counts
        weights = tf.repeat(weights, places)
        start, total = (0, rows) if share is None else (share.start, share.total)
        # One place in the whole batch for each code and level, which one device alone has.
        chosen = tf.random.stateless_uniform(
            (self.depth, self.num_codes), seed, maxval=total * places, dtype=tf.int32
        )
        chosen -= start * places
        is_here = (chosen >= 0) & (chosen < rows * places)
        matrices = []
        for level, rest in enumerate(found.residuals):
            flat = tf.reshape(rest, (-1, rest.shape[-1]))
            codes = tf.reshape(found.codes[..., level], (-1,))
            seen = tf.concat([weights[:, None], weights[:, None] * flat], axis=-1)
            sums = tf.math.unsorted_segment_sum(seen, codes, self.num_codes)
            row = tf.where(is_here[level], chosen[level], 0)
            forward = tf.cast(is_here[level] & (tf.gather(weights, row) > 0), tf.float32)[:, None]
            put = tf.concat([forward, forward * tf.gather(flat, row)], axis=-1)
            matrices.append(tf.concat([sums, put], axis=-1))
        return tuple(matrices)

    def follow(self, statistics: Sequence[Tensor]) -> None:
        """Move the codebooks' averages by a batch, and restart codes that stand for nothing."""
        if not self.trainable:
            return
        summed = tf.stack(statistics)
        width = self.sums.shape[-1]
        seen, total, put, vectors = tf.split(summed, [1, width, 1, width], axis=-1)
        old_counts = tf.convert_to_tensor(self.counts)[..., None]
        counts = self.decay * old_counts + (1 - self.decay) * seen
        sums = self.decay * tf.convert_to_tensor(self.sums) + (1 - self.decay) * total
        equal = tf.reduce_mean(counts, axis=1, keepdims=True)
        # Where several devices know nothing of each other, more than one may have put one forward.
        is_dead = (counts < self.restart * equal) & tf.equal(put, 1.0)
        counts = tf.where(is_dead, equal, counts)
        sums = tf.where(is_dead, equal * vectors, sums)
        whole = tf.reduce_sum(counts, axis=1, keepdims=True)
        smoothed = (counts + self.epsilon) / (whole + self.num_codes * self.epsilon) * whole
        self.counts.assign(counts[..., 0])
        self.sums.assign(sums * self._may_move())
        self.codebooks.assign(sums / smoothed * self._may_move())

    def get_config(self) -> Config:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "codes": self.num_codes,
            "decay": self.decay,
            "commitment": self.commitment,
            "restart": self.restart,
            "epsilon": self.epsilon,
        }


@keras.saving.register_keras_serializable(PACKAGE)
class ResidualQuantizer(VectorQuantizer):
    """Several codebooks, each for what those before it have left: ``"residual:depth=4"``.

    The vector of z is Σ_d e^d, with e^1 nearest to z and e^d nearest to z − e^1 − … − e^(d−1)
    (Zeghidour et al. 2021, arXiv:2107.03312; Lee et al. 2022, arXiv:2203.01941). The first code of
    each codebook but the first one is 0 and stays so: no level can make the error larger. The
    commitment is summed over levels, as in Lee et al., equation 7.

    Args:
        depth: how many.
        codes: K of each.
        decay: see `VectorQuantizer`, and so for all others.
        commitment: β.
        restart: share of an equal part below which a code is restarted.
        epsilon: ε.
        **kwargs: those of `keras.layers.Layer`.

    Raises:
        InputError: if a number does not fit.
    """

    def __init__(
        self,
        depth: int = 4,
        codes: int = 256,
        decay: float = 0.99,
        commitment: float = 0.25,
        restart: float = 0.05,
        epsilon: float = 1e-5,
        **kwargs: Any,
    ):
        super().__init__(codes, decay, commitment, restart, epsilon, **kwargs)
        self.depth = checked_count("depth", depth, most=64)

    def _may_move(self) -> np.ndarray:
        moves = super()._may_move()
        moves[1:, 0] = 0
        return moves

    def get_config(self) -> Config:
        """Return the constructor's arguments."""
        return {**super().get_config(), "depth": self.depth}


@keras.saving.register_keras_serializable(PACKAGE)
class FiniteScalarQuantizer(Quantizer):
    """Each of a few values rounded to a level, without a codebook: ``"fsq:levels=8x6x5"``.

    Mentzer et al. (2023), arXiv:2309.15505. A value of L levels is bounded to
    ``b = tanh(z + s) · h − o`` with h = (L − 1)(1 + 10⁻³) / 2, o = ½ for an even L and 0 for an odd
    one, and s = artanh(o / h), so that 0 stays 0. It is rounded to −⌊L/2⌋ … ⌈L/2⌉ − 1, and divided
    by ⌊L/2⌋. All levels are within reach; nothing is learnt here, there is no commitment, and
    K = Π L codes.

    Args:
        levels: L of each value, as in ``(8, 6, 5)`` or ``"8x6x5"``.
        **kwargs: those of `keras.layers.Layer`.

    Raises:
        InputError: if they are no whole numbers from 2, or make too many codes.
    """

    def __init__(self, levels: str | int | Sequence[int] = (8, 6, 5), **kwargs: Any):
        super().__init__(**kwargs)
        self.levels = _checked_levels(levels)
        self.num_codes = math.prod(self.levels)
        sizes = np.asarray(self.levels)
        self._half = sizes // 2
        self._bound = (sizes - 1) * (1 + 1e-3) / 2
        self._offset = np.where(sizes % 2 == 0, 0.5, 0.0)
        self._shift = np.arctanh(self._offset / self._bound)
        self._basis = np.concatenate([[1], np.cumprod(sizes[:-1])]).astype(np.int32)

    def code_dim(self, wanted: int | None) -> int:
        """Return how many values a vector has: one for each of the levels.

        Raises:
            InputError: if another width is wanted.
        """
        if wanted not in (None, len(self.levels)):
            raise InputError(
                f"the quantizer fsq with {len(self.levels)} levels has vectors of as many values; "
                f"received code_dim={wanted!r}: leave it out"
            )
        return len(self.levels)

    def bounded(self, vectors: Tensor) -> Tensor:
        """Compute b, `[..., C]`, which is rounded."""
        return tf.tanh(vectors + _float(self._shift)) * _float(self._bound) - _float(self._offset)

    def quantized(self, vectors: Tensor) -> Quantized:
        """Round vectors `[..., C]`."""
        bounded = self.bounded(vectors)
        rounded = tf.round(bounded)
        half = _float(self._half)
        digits = tf.cast(rounded, tf.int32) + tf.constant(self._half, tf.int32)
        codes = tf.reduce_sum(digits * self._basis, axis=-1, keepdims=True)
        return Quantized(
            straight_through(bounded / half, rounded / half),
            codes,
            tf.zeros(tf.shape(vectors)[:-1]),
        )

    def lookup(self, codes: Tensor) -> Tensor:
        """Return the vectors `[..., C]` that codes `[..., 1]` stand for."""
        digits = codes // self._basis % np.asarray(self.levels, np.int32)
        half = _float(self._half)
        return (tf.cast(digits, tf.float32) - half) / half

    def get_config(self) -> Config:
        """Return the constructor's arguments."""
        return {**super().get_config(), "levels": list(self.levels)}


BY_NAME: dict[str, type[Quantizer]] = {
    "vq": VectorQuantizer,
    "fsq": FiniteScalarQuantizer,
    "residual": ResidualQuantizer,
}


def get(identifier: Quantizer | Mapping[str, Any] | str) -> Quantizer:
    """Return a quantizer.

    Args:
        identifier: a quantizer; its Keras configuration; or a name with options, such as ``"vq"``,
            ``"fsq:levels=8x6x5"`` or ``"residual:depth=4,codes=64"``.

    Raises:
        InputError: if it is none of these.
    """
    found: Quantizer = resolve(identifier, Quantizer, BY_NAME, "quantizer")
    return found


def nearest(vectors: Tensor, codebook: Tensor) -> Tensor:
    """Return the number of the nearest row of a codebook, the first of several.

    Args:
        vectors: `[..., C]`.
        codebook: `[K, C]`.

    Returns:
        int32 `[...]`.
    """
    flat = tf.reshape(vectors, (-1, vectors.shape[-1]))
    # ‖z − e‖² = ‖z‖² − 2 z·e + ‖e‖², of which the first is the same for all codes.
    squares = tf.reduce_sum(tf.square(codebook), axis=-1)
    distances = squares - 2 * tf.matmul(flat, codebook, transpose_b=True)
    codes = tf.argmin(distances, axis=-1, output_type=tf.int32)
    return tf.reshape(codes, tf.shape(vectors)[:-1])


def _float(values: np.ndarray) -> Tensor:
    return tf.constant(values, tf.float32)


def _checked_levels(levels: str | int | Sequence[int]) -> tuple[int, ...]:
    if isinstance(levels, str):
        words = levels.split("x")
        given = [int(word) if word.isdecimal() and len(word) < 7 else 0 for word in words]
    else:
        given = [levels] if isinstance(levels, int) else list(levels)
    if not given or not all(is_whole(level, least=2) for level in given):
        raise InputError(
            f"levels are whole numbers from 2, as in 8x6x5; received {str(levels)[:80]!r}"
        )
    if math.prod(given) > _MOST_CODES:
        raise InputError(
            f"levels make {math.prod(given)} codes; expected up to {_MOST_CODES}: take fewer"
        )
    return tuple(map(int, given))
