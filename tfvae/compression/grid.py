"""Latent vectors as whole numbers of cells, and distributions that push and pop them.

A latent number is coded as the cell k that it lies in, of width 2^-bits: z = k · 2^-bits. Cells
have the mass that a distribution gives them, so that a posterior's and a prior's share of a cell's
width cancels, and the code of z is as long as log q(z|x) − log p(z) says.
"""

import abc

import numpy as np

from tfvae.compression.stack import Stack
from tfvae.errors import InputError

# A normal variable is pushed in steps of an 8th to a 16th of its standard deviation, and where it
# lies within a step as a uniform number, which costs about 3e-4 nats.
_STEPS = 3
# Symbols reach so many steps from the mean, 32 standard deviations or more; and of a posterior 6 or
# more. The coder gives each symbol a probability of 2^-24 at least: of 4,000 steps too many would
# be drawn from where the posterior has no mass, each at the price of hundreds of nats.
_MOST = 2**9
_MOST_BOUNDED = 96
# Beyond, a number of cells is pushed as it is, in parts of 16 bits.
_PART = 2**16
_OFFSET = 2**47
_LEAST_STD = 2.0**-6


class Part(abc.ABC):
    """A distribution of whole numbers `[B, n]` that are pushed on a stack and popped from it."""

    @abc.abstractmethod
    def pop(self, stack: Stack) -> np.ndarray:
        """Pop int64 `[B, n]`."""

    @abc.abstractmethod
    def push(self, stack: Stack, cells: np.ndarray) -> None:
        """Push what `pop` pops, so that a pop and a push leave the stack as it was.

        Raises:
            InputError: if the numbers are too large to be coded.
        """


class DiagonalCells(Part):
    """The cells of independent normal variables.

    Args:
        loc: means, float `[B, n]`.
        scale: standard deviations, float `[B, n]`.
        bits: the cells' width is 2^-bits.
        bounded: whether cells far from the mean never occur: of a posterior, which pushes no
            other cells than it has popped.
    """

    def __init__(self, loc: np.ndarray, scale: np.ndarray, bits: int, *, bounded: bool = False):
        unit = 2.0**bits
        mean = np.asarray(loc, np.float64) * unit
        std = np.asarray(scale, np.float64) * unit
        exponent = np.frexp(std)[1] - 1 - _STEPS
        self._shape = mean.shape
        self._shift = np.clip(exponent, 0, 22).astype(np.int64).reshape(-1)
        width = np.exp2(self._shift.astype(np.float64))
        # Of the steps, each of which is `width` cells around its middle.
        mean = (mean.reshape(-1) - (width - 1) / 2) / width
        self._base = np.rint(mean).astype(np.int64)
        self._mean = mean - self._base
        self._std = np.maximum(std.reshape(-1) / width, _LEAST_STD)
        self._bounded = bounded
        self._most = _MOST_BOUNDED if bounded else _MOST

    def pop(self, stack: Stack) -> np.ndarray:
        """Pop int64 `[B, n]`."""
        step = stack.pop_gaussian(self._mean, self._std, self._most)
        inside = self._inside(step)
        cells = (step + self._base) << self._shift
        fine = inside & (self._shift > 0)
        cells[fine] += stack.pop_uniform(1 << self._shift[fine])
        cells[~inside] = _pop_plain(stack, int((~inside).sum()))
        return cells.reshape(self._shape)

    def push(self, stack: Stack, cells: np.ndarray) -> None:
        """Push int64 `[B, n]`."""
        cells = cells.reshape(-1)
        step = np.clip((cells >> self._shift) - self._base, -self._most, self._most)
        inside = self._inside(step)
        fine = inside & (self._shift > 0)
        _push_plain(stack, cells[~inside])
        size = 1 << self._shift[fine]
        stack.push_uniform(cells[fine] & (size - 1), size)
        stack.push_gaussian(step, self._mean, self._std, self._most)

    def _inside(self, step: np.ndarray) -> np.ndarray:
        if self._bounded:
            return np.ones(len(step), bool)
        return np.abs(step) < self._most


def _push_plain(stack: Stack, cells: np.ndarray) -> None:
    if len(cells) and np.abs(cells).max() >= _OFFSET:
        raise InputError(
            "the model's codes of these events lie so far from its prior that they cannot be "
            "coded: train it on such events"
        )
    values = cells + _OFFSET
    sizes = np.full(len(cells), _PART)
    for place in range(3):
        stack.push_uniform(values >> (16 * place) & (_PART - 1), sizes)


def _pop_plain(stack: Stack, count: int) -> np.ndarray:
    values = np.zeros(count, np.int64)
    for place in reversed(range(3)):
        values |= stack.pop_uniform(np.full(count, _PART)) << (16 * place)
    return values - _OFFSET


class TriangularCells(Part):
    """The cells of N(loc, L Lᵀ), one dimension after the other: each is normal given those before.

    Args:
        loc: float `[B, n]`.
        factor: L, float `[B, n, n]`.
        bits: the cells' width is 2^-bits.
        bounded: see `DiagonalCells`.
    """

    def __init__(self, loc: np.ndarray, factor: np.ndarray, bits: int, *, bounded: bool = False):
        self._loc = np.asarray(loc, np.float64)
        self._factor = np.asarray(factor, np.float64)
        self._bits = bits
        self._bounded = bounded

    def _column(self, noise: np.ndarray, place: int) -> tuple[DiagonalCells, np.ndarray]:
        """Return one dimension given the noise of those before: its cells, and its mean."""
        known = (self._factor[:, place, :place] * noise[:, :place]).sum(axis=1)
        mean = self._loc[:, place] + known
        scale = self._factor[:, place, place]
        cells = DiagonalCells(mean[:, None], scale[:, None], self._bits, bounded=self._bounded)
        return cells, mean

    def _noise(self, cells: np.ndarray, mean: np.ndarray, place: int) -> np.ndarray:
        return (cells * 2.0**-self._bits - mean) / self._factor[:, place, place]

    def pop(self, stack: Stack) -> np.ndarray:
        """Pop int64 `[B, n]`."""
        cells, noise = np.zeros(self._loc.shape, np.int64), np.zeros(self._loc.shape)
        for place in range(self._loc.shape[-1]):
            column, mean = self._column(noise, place)
            cells[:, place] = column.pop(stack)[:, 0]
            noise[:, place] = self._noise(cells[:, place], mean, place)
        return cells

    def push(self, stack: Stack, cells: np.ndarray) -> None:
        """Push int64 `[B, n]`."""
        noise, columns = np.zeros(self._loc.shape), []
        for place in range(cells.shape[1]):
            column, mean = self._column(noise, place)
            columns.append(column)
            noise[:, place] = self._noise(cells[:, place], mean, place)
        for place in reversed(range(cells.shape[1])):
            columns[place].push(stack, cells[:, place : place + 1])


class MixtureCells(Part):
    """The cells of a mixture of normal distributions, whose component is coded by bits-back.

    A push pops the component k from p(k|z), pushes z under that component, and k under the
    weights: together −log p(z), whatever k was.

    Args:
        log_weights: float `[B, K]`.
        loc: float `[B, K, n]`.
        factor: standard deviations `[B, K, n]`, or L `[B, K, n, n]`.
        bits: the cells' width is 2^-bits.
    """

    def __init__(self, log_weights: np.ndarray, loc: np.ndarray, factor: np.ndarray, bits: int):
        self._log_weights = np.asarray(log_weights, np.float64)
        self._loc = np.asarray(loc, np.float64)
        self._factor = np.asarray(factor, np.float64)
        self._bits = bits

    def _component(self, chosen: np.ndarray) -> Part:
        rows = np.arange(len(chosen))
        loc, factor = self._loc[rows, chosen], self._factor[rows, chosen]
        kind = DiagonalCells if factor.ndim == 2 else TriangularCells
        return kind(loc, factor, self._bits)

    def _posterior(self, cells: np.ndarray) -> np.ndarray:
        """Compute p(k|z) `[B, K]`."""
        offset = cells[:, None] * 2.0**-self._bits - self._loc
        if self._factor.ndim == 3:
            scale, noise = self._factor, offset / self._factor
        else:
            scale = np.diagonal(self._factor, axis1=-2, axis2=-1)
            noise = np.zeros_like(offset)
            for place in range(offset.shape[-1]):
                known = (self._factor[..., place, :place] * noise[..., :place]).sum(axis=-1)
                noise[..., place] = (offset[..., place] - known) / scale[..., place]
        log_density = -(0.5 * noise**2 + np.log(scale)).sum(axis=-1)
        return _softmax(self._log_weights + log_density)

    def pop(self, stack: Stack) -> np.ndarray:
        """Pop int64 `[B, n]`."""
        if self._log_weights.shape[1] == 1:
            return self._component(np.zeros(len(self._loc), np.int64)).pop(stack)
        chosen = stack.pop_choice(_softmax(self._log_weights))
        cells = self._component(chosen).pop(stack)
        stack.push_choice(chosen, self._posterior(cells))
        return cells

    def push(self, stack: Stack, cells: np.ndarray) -> None:
        """Push int64 `[B, n]`."""
        if self._log_weights.shape[1] == 1:
            self._component(np.zeros(len(cells), np.int64)).push(stack, cells)
            return
        chosen = stack.pop_choice(self._posterior(cells))
        self._component(chosen).push(stack, cells)
        stack.push_choice(chosen, _softmax(self._log_weights))


class ClassCells(Part):
    """Classes of groups: cells are their numbers.

    Args:
        logits: float `[B, groups, classes]`.
    """

    def __init__(self, logits: np.ndarray):
        self._shape = logits.shape[:-1]
        probabilities = _softmax(np.asarray(logits, np.float64))
        self._probabilities = probabilities.reshape(-1, logits.shape[-1])

    def pop(self, stack: Stack) -> np.ndarray:
        """Pop int64 `[B, groups]`."""
        return stack.pop_choice(self._probabilities).reshape(self._shape)

    def push(self, stack: Stack, cells: np.ndarray) -> None:
        """Push int64 `[B, groups]`."""
        stack.push_choice(cells.reshape(-1), self._probabilities)


class KnownCells(Part):
    """Whole numbers that both sides know, and that nothing is pushed for.

    Args:
        cells: int64 `[B, n]`.
    """

    def __init__(self, cells: np.ndarray):
        self._cells = cells

    def pop(self, stack: Stack) -> np.ndarray:
        """Return the numbers."""
        return self._cells

    def push(self, stack: Stack, cells: np.ndarray) -> None:
        """Leave the stack as it is."""


def _softmax(logits: np.ndarray) -> np.ndarray:
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return (weights / weights.sum(axis=-1, keepdims=True)).astype(np.float32)
