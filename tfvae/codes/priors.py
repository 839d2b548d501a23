"""Priors p(c) of the codes of an event, whole numbers in an order: the second stage of a VQ-VAE.

A prior is autoregressive, ``p(c) = Π_t p(c_t | c_1 … c_(t−1))``, over all codes of an event in the
order of its places, row by row, and of the levels of a place. So it serves codes of any shape.
"""

import abc
import math
from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from tfvae.checks import MOST_UNITS, checked_count, is_number
from tfvae.distributions.family import PACKAGE, resolve
from tfvae.errors import InputError
from tfvae.share import Share
from tfvae.typing import Config, Shape, Tensor


class CodePrior(keras.layers.Layer, abc.ABC):
    """Base class of priors of codes.

    ``call`` takes codes `[B, T]` and returns the logits of each given those before it, `[B, T, K]`.
    All of it is in float32, whatever the networks compute in: log p(c) is a sum of hundreds of
    terms.

    Args:
        **kwargs: those of `keras.layers.Layer`.
    """

    def __init__(self, **kwargs: Any):
        super().__init__(**{"dtype": "float32", **kwargs}, autocast=False)
        self.places, self.depth, self.num_codes = 0, 1, 0

    def describe(
        self, places: int, depth: int, num_codes: int, num_classes: int | None, seed: int | None
    ) -> None:
        """Build the prior for the codes of a model.

        Args:
            places: P, places of a code map.
            depth: codes of a place; T = P · depth.
            num_codes: K.
            num_classes: labels y, of p(c|y); None for p(c).
            seed: of the initial weights.

        Raises:
            InputError: if the prior belongs to a model with other codes.
        """
        new = (places, depth, num_codes)
        old = (self.places, self.depth, self.num_codes)
        if old == new:
            return
        if self.places:
            raise InputError(
                f"{type(self).__name__} already describes {self.places} places of {self.depth} "
                f"codes below {self.num_codes}: give each model a prior of its own"
            )
        self.places, self.depth, self.num_codes = new
        self.make(num_classes, seed)
        self.built = True

    @property
    def length(self) -> int:
        """T, how many codes an event has."""
        return self.places * self.depth

    @abc.abstractmethod
    def make(self, num_classes: int | None, seed: int | None) -> None:
        """Create the weights."""

    @abc.abstractmethod
    def call(
        self,
        codes: Tensor,
        label: Tensor | None = None,
        seed: Tensor | None = None,
        share: Share | None = None,
    ) -> Tensor:
        """Compute the logits `[B, T, K]` of each code given those before it.

        Args:
            codes: int32 `[B, T]`.
            label: one-hot `[B, num_classes]`, of a conditional prior.
            seed: `[2]`, of what a training draws; None outside of training.
            share: which rows of a batch they are, where several devices have it.
        """

    @abc.abstractmethod
    def draw(
        self, uniforms: Tensor, label: Tensor | None = None, temperature: float = 1.0
    ) -> Tensor:
        """Draw codes, one after another, int32 `[B, T]`.

        Args:
            uniforms: numbers from [0, 1), `[B, T]`: code t is the one at which the cumulative
                probability passes the t-th.
            label: as for `call`.
            temperature: τ; draws are from the p(c_t | …)^(1/τ), normalised.
        """

    def log_prob(
        self,
        codes: Tensor,
        label: Tensor | None = None,
        seed: Tensor | None = None,
        share: Share | None = None,
    ) -> Tensor:
        """Compute log p(c), `[B]`, nats; the arguments are those of `call`."""
        # Not by Keras' own call, which takes no numbers beside tensors: a share has both.
        logits = self.call(codes, label, seed, share)
        return -tf.reduce_sum(
            tf.nn.sparse_softmax_cross_entropy_with_logits(codes, logits), axis=-1
        )

    def get_build_config(self) -> None:
        """Return nothing: the model builds its prior."""

    def build_from_config(self, config: Any) -> None:
        """Leave building to the model."""


@keras.saving.register_keras_serializable(PACKAGE)
class TransformerPrior(CodePrior):
    """A causal transformer: ``"transformer:width=64,layers=3,heads=4"``.

    Blocks of attention and two dense layers, each normalised before it and added to what came in
    (Vaswani et al. 2017; Radford et al. 2019). Position t sees an embedding of c_(t−1), one of its
    level and one of its place, and attends to the positions up to t. The last layer starts at 0, so
    that an untrained prior is uniform: log p(c) = −T log K.

    Args:
        width: of the embeddings; a multiple of `heads`.
        layers: blocks.
        heads: of attention.
        dropout: share of a branch's values that a training sets to 0.
        **kwargs: those of `keras.layers.Layer`.

    Raises:
        InputError: if a number does not fit.
    """

    def __init__(
        self,
        width: int = 64,
        layers: int = 3,
        heads: int = 4,
        dropout: float = 0.1,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.width = checked_count("width", width, most=MOST_UNITS)
        self.layers = checked_count("layers", layers, most=1000)
        self.heads = checked_count("heads", heads, most=MOST_UNITS)
        if self.width % self.heads:
            raise InputError(
                f"width is a multiple of heads; received width={width} and heads={heads}"
            )
        if not (is_number(dropout) and 0 <= dropout < 1):
            raise InputError(f"dropout is a number from 0 and below 1; received {dropout!r}")
        self.dropout = float(dropout)

    def make(self, num_classes: int | None, seed: int | None) -> None:
        """Create the weights."""
        first = None if seed is None else 100_000 * seed

        def weight(name: str, shape: Shape, number: int) -> keras.Variable:
            start = keras.initializers.RandomNormal(
                stddev=0.02, seed=None if first is None else first + number
            )
            return self.add_weight(shape=shape, initializer=start, name=name)

        width, depth, size = self.width, self.depth, self.num_codes
        self.tokens = weight("tokens", (depth * size, width), 0)
        self.positions = weight("positions", (self.length, width), 1)
        # What stands before the first code: of a conditional prior one for each label.
        self.starts = weight("starts", (num_classes or 1, width), 2)
        self.blocks = [
            _Block(
                width,
                self.heads,
                seed=None if first is None else first + 10 * (number + 1),
                dtype="float32",
                name=f"block_{number}",
            )
            for number in range(self.layers)
        ]
        for block in self.blocks:
            block.build((1, self.length, width))
        self.norm = keras.layers.LayerNormalization(epsilon=1e-5, dtype="float32", name="norm")
        self.norm.build((1, self.length, width))
        # A head for each level: the codes of levels have nothing to do with each other.
        self.head = self.add_weight(shape=(depth, width, size), initializer="zeros", name="head")
        self.bias = self.add_weight(shape=(depth, size), initializer="zeros", name="bias")

    def call(
        self,
        codes: Tensor,
        label: Tensor | None = None,
        seed: Tensor | None = None,
        share: Share | None = None,
    ) -> Tensor:
        """Compute the logits `[B, T, K]`; see `CodePrior.call`."""
        levels = tf.range(self.length) % self.depth * self.num_codes
        embedded = tf.gather(tf.convert_to_tensor(self.tokens), codes + levels)
        before = tf.concat([self._start(codes, label)[:, None], embedded[:, :-1]], axis=1)
        x = before + self.positions
        for number, block in enumerate(self.blocks):
            drop = None if seed is None else _Dropout(self.dropout, seed, 2 * number, share)
            x = block(x, dropout=drop)
        x = tf.reshape(self.norm(x), (-1, self.places, self.depth, self.width))
        logits = tf.einsum("bpdw,dwk->bpdk", x, self.head) + self.bias
        return tf.reshape(logits, (-1, self.length, self.num_codes))

    def _start(self, like: Tensor, label: Tensor | None) -> Tensor:
        """Return what stands before the first code of each event, `[B, width]`."""
        if label is None:
            return tf.tile(tf.convert_to_tensor(self.starts), (tf.shape(like)[0], 1))
        return tf.matmul(tf.cast(label, tf.float32), self.starts)

    def draw(
        self, uniforms: Tensor, label: Tensor | None = None, temperature: float = 1.0
    ) -> Tensor:
        """Draw codes, one after another, and keep what attention needs of those before."""
        length, width, size = self.length, self.width, self.num_codes
        batch = tf.shape(uniforms)[0]
        positions, tokens = (tf.convert_to_tensor(w) for w in (self.positions, self.tokens))
        head, bias = tf.convert_to_tensor(self.head), tf.convert_to_tensor(self.bias)
        empty = tf.zeros((self.layers, batch, length, width))

        def body(
            t: Tensor, before: Tensor, keys: Tensor, values: Tensor, codes: Tensor
        ) -> tuple[Tensor, ...]:
            x = before + positions[t]
            all_keys, all_values = [], []
            for number, block in enumerate(self.blocks):
                x, new_keys, new_values = block.step(x, keys[number], values[number], t)
                all_keys.append(new_keys)
                all_values.append(new_values)
            level = t % self.depth
            logits = (tf.matmul(self.norm(x), head[level]) + bias[level]) / temperature
            passed = tf.cumsum(tf.nn.softmax(logits), axis=-1)
            # The last one is 1 but for rounding.
            limit = uniforms[:, t, None] * passed[:, -1:]
            code = tf.reduce_sum(tf.cast(passed <= limit, tf.int32), axis=-1)
            code = tf.minimum(code, size - 1)
            here = tf.one_hot(t, length, dtype=tf.int32)
            return (
                t + 1,
                tf.gather(tokens, code + level * size),
                tf.stack(all_keys),
                tf.stack(all_values),
                codes + code[:, None] * here,
            )

        start = self._start(uniforms, label)
        codes = tf.zeros((batch, length), tf.int32)
        *_, codes = tf.while_loop(
            lambda t, *_: t < length,
            body,
            (tf.constant(0), start, empty, empty, codes),
            shape_invariants=(
                tf.TensorShape(()),
                tf.TensorShape((None, width)),
                tf.TensorShape((self.layers, None, length, width)),
                tf.TensorShape((self.layers, None, length, width)),
                tf.TensorShape((None, length)),
            ),
            maximum_iterations=length,
        )
        return codes

    def get_config(self) -> Config:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "width": self.width,
            "layers": self.layers,
            "heads": self.heads,
            "dropout": self.dropout,
        }


class _Dropout:
    """Sets values to 0 by a seed, on several devices as on one.

    Args:
        rate: the share of the values.
        seed: `[2]`.
        number: of the place in the network, whose draws are its own.
        share: which rows of the batch there are.
    """

    def __init__(self, rate: float, seed: Tensor, number: int, share: Share | None):
        self._rate, self._seed, self._number, self._share = rate, seed, number, share

    def __call__(self, x: Tensor, place: int) -> Tensor:
        """Drop of a branch `[B, T, W]`, the first or the second of a block."""
        if not self._rate:
            return x
        seed = tf.random.experimental.stateless_fold_in(self._seed, self._number + place)
        share = self._share
        total = tf.shape(x)[0] if share is None else share.total
        kept = tf.random.stateless_uniform((total, *x.shape[1:]), seed) >= self._rate
        if share is not None:
            kept = kept[share.start : share.stop]
        return tf.where(kept, x / (1 - self._rate), 0.0)


class _Block(keras.layers.Layer):
    """Attention to what came before, and two dense layers.

    Args:
        width: of the features.
        heads: of attention.
        seed: of the initial weights.
        **kwargs: those of `keras.layers.Layer`.
    """

    def __init__(self, width: int, heads: int, *, seed: int | None, **kwargs: Any):
        super().__init__(**kwargs, autocast=False)
        self._heads = heads
        self._size = width // heads

        def dense(units: int, number: int, name: str, **options: Any) -> keras.layers.Dense:
            start = keras.initializers.RandomNormal(
                stddev=0.02, seed=None if seed is None else seed + number
            )
            return keras.layers.Dense(
                units, kernel_initializer=start, dtype="float32", name=name, **options
            )

        def norm(name: str) -> keras.layers.LayerNormalization:
            return keras.layers.LayerNormalization(epsilon=1e-5, dtype="float32", name=name)

        self.first_norm, self.second_norm = norm("first_norm"), norm("second_norm")
        self.projections = dense(3 * width, 0, "projections", use_bias=False)
        self.joined = dense(width, 1, "joined")
        self.wide = dense(4 * width, 2, "wide", activation="gelu")
        self.narrow = dense(width, 3, "narrow")

    def build(self, input_shape: Shape) -> None:
        """Create the weights."""
        width = input_shape[-1]
        for layer in (
            self.first_norm, self.second_norm, self.projections, self.joined, self.wide,
        ):  # fmt: skip
            layer.build((None, None, width))
        self.narrow.build((None, None, 4 * width))
        self.built = True

    def call(self, x: Tensor, dropout: _Dropout | None = None) -> Tensor:
        """Compute features `[B, T, W]`, of which none depends on those after it."""
        length = x.shape[1]
        queries, keys, values = (
            self._in_heads(part)
            for part in tf.split(self.projections(self.first_norm(x)), 3, axis=-1)
        )
        scores = tf.einsum("bthc,bshc->bhts", queries, keys) / math.sqrt(self._size)
        causal = tf.linalg.band_part(tf.ones((length, length), tf.bool), -1, 0)
        shares = tf.nn.softmax(tf.where(causal, scores, -1e9))
        found = tf.einsum("bhts,bshc->bthc", shares, values)
        branch = self.joined(tf.reshape(found, (-1, length, x.shape[-1])))
        x += branch if dropout is None else dropout(branch, 0)
        branch = self.narrow(self.wide(self.second_norm(x)))
        return x + (branch if dropout is None else dropout(branch, 1))

    def step(
        self, x: Tensor, keys: Tensor, values: Tensor, t: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Compute the features of one position, given the keys and values of those before it.

        Args:
            x: `[B, W]`, of position t.
            keys: `[B, T, W]`, 0 from t on.
            values: the same.
            t: the position.

        Returns:
            The features `[B, W]`, and the keys and values with those of t.
        """
        length = keys.shape[1]
        query, key, value = tf.split(self.projections(self.first_norm(x)), 3, axis=-1)
        here = tf.one_hot(t, length)[:, None]
        keys += key[:, None] * here
        values += value[:, None] * here
        heads = tf.reshape(query, (-1, self._heads, self._size))
        scores = tf.einsum("bhc,bshc->bhs", heads, self._in_heads(keys)) / math.sqrt(self._size)
        shares = tf.nn.softmax(tf.where(tf.range(length) <= t, scores, -1e9))
        found = tf.einsum("bhs,bshc->bhc", shares, self._in_heads(values))
        x += self.joined(tf.reshape(found, (-1, self._heads * self._size)))
        return x + self.narrow(self.wide(self.second_norm(x))), keys, values

    def _in_heads(self, x: Tensor) -> Tensor:
        return tf.reshape(x, (-1, x.shape[1], self._heads, self._size))


BY_NAME: dict[str, type[CodePrior]] = {"transformer": TransformerPrior}


def get(identifier: CodePrior | Mapping[str, Any] | str) -> CodePrior:
    """Return a prior of codes.

    Args:
        identifier: a prior; its Keras configuration; or a name with options, such as
            ``"transformer"`` or ``"transformer:width=128,layers=4"``.

    Raises:
        InputError: if it is none of these.
    """
    found: CodePrior = resolve(identifier, CodePrior, BY_NAME, "prior of codes")
    return found
