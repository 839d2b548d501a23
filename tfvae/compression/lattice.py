"""Flows as one-to-one maps of whole numbers of cells, which take bits and leave bits.

A step of a flow scales by s and shifts by t, where both depend on numbers that it leaves alone. On
the cells it is exact: s is rounded to a fraction R/2^10 and t to a cell, and of ``k R + r``, with r
popped from the stack as one of R, the quotient by 2^10 is the new cell and the remainder is pushed.
So a step makes the stack longer by −log2 s bits for each number, which is the log-determinant
that its density has. (Hoogeboom et al. 2019, arXiv:1905.07376, have flows of whole numbers that
shift; Zhang et al. 2021, arXiv:2111.00965, scale by a division with remainders, as here.)
"""

from typing import Any

import numpy as np
import tensorflow as tf

from tfvae.compression.grid import Part
from tfvae.compression.stack import Stack
from tfvae.distributions import flows

_DIGITS = 10
_SCALE = 2**_DIGITS


class FlowCells(Part):
    """The cells of what a flow makes of the cells of another distribution.

    Args:
        base: the distribution that the flow starts from.
        flow: the flow, whose forward direction takes one pass of each network.
        bits: the cells' width is 2^-bits.
        context: of the flow, `[B, c]`, or None.
        inverse: whether cells are the inverse of the flow at the base's: of a prior.
    """

    def __init__(
        self,
        base: Part,
        flow: flows.Flow,
        bits: int,
        *,
        context: np.ndarray | None = None,
        inverse: bool = False,
    ):
        self._base = base
        self._conditioners = flow.conditioners
        self._autoregressive = issubclass(flow.step, flows.Autoregressive)
        self._bits = bits
        self._context = None if context is None else tf.constant(context, tf.float32)
        self._inverse = inverse

    def pop(self, stack: Stack) -> np.ndarray:
        """Pop int64 `[B, n]`."""
        cells = self._base.pop(stack)
        return self._backward(stack, cells) if self._inverse else self._forward(stack, cells)

    def push(self, stack: Stack, cells: np.ndarray) -> None:
        """Push int64 `[B, n]`."""
        cells = self._forward(stack, cells) if self._inverse else self._backward(stack, cells)
        self._base.push(stack, cells)

    def _terms(self, conditioner: Any, cells: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return t in cells and R of a network, for the cells that it sees."""
        z = tf.constant(cells * 2.0**-self._bits, tf.float32)
        shift, log_scale = (np.asarray(one, np.float64) for one in conditioner(z, self._context))
        scale = np.rint(np.exp(log_scale) * _SCALE).astype(np.int64)
        return np.rint(shift * 2.0**self._bits).astype(np.int64), np.maximum(scale, 2)

    def _halves(self, conditioner: Any) -> tuple[slice, slice]:
        """Return what a coupling step leaves alone and what it moves."""
        kept, moved = conditioner.inputs, conditioner.outputs
        if conditioner.reverse:
            return slice(moved, None), slice(0, moved)
        return slice(0, kept), slice(kept, None)

    def _forward(self, stack: Stack, cells: np.ndarray) -> np.ndarray:
        for conditioner in self._conditioners:
            if self._autoregressive:
                seen, moved = slice(None), slice(None)
            else:
                seen, moved = self._halves(conditioner)
            shift, scale = self._terms(conditioner, cells[:, seen])
            cells = cells.copy()
            cells[:, moved] = _scaled(stack, cells[:, moved], scale) + shift
        return cells

    def _backward(self, stack: Stack, cells: np.ndarray) -> np.ndarray:
        for conditioner in reversed(self._conditioners):
            cells = cells.copy()
            if self._autoregressive:
                cells = self._undone(stack, conditioner, cells)
                continue
            seen, moved = self._halves(conditioner)
            shift, scale = self._terms(conditioner, cells[:, seen])
            cells[:, moved] = _unscaled(stack, cells[:, moved] - shift, scale)
        return cells

    def _undone(self, stack: Stack, conditioner: Any, cells: np.ndarray) -> np.ndarray:
        """Undo a step in which each number depends on those before, one after the other."""
        size = cells.shape[1]
        below = stack.pop_uniform(np.full(cells.size, _SCALE)).reshape(cells.shape)
        found, rest = np.zeros_like(cells), np.zeros_like(cells)
        scales = np.full_like(cells, _SCALE)
        for place in reversed(range(size)) if conditioner.reverse else range(size):
            shift, scale = self._terms(conditioner, found)
            scales[:, place] = scale[:, place]
            whole = ((cells[:, place] - shift[:, place]) << _DIGITS) | below[:, place]
            found[:, place], rest[:, place] = np.divmod(whole, scale[:, place])
        stack.push_uniform(rest.reshape(-1), scales.reshape(-1))
        return found


def _scaled(stack: Stack, cells: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Return cells times scale/2^10."""
    whole = cells * scale + stack.pop_uniform(scale.reshape(-1)).reshape(cells.shape)
    stack.push_uniform((whole & (_SCALE - 1)).reshape(-1), np.full(cells.size, _SCALE))
    return whole >> _DIGITS


def _unscaled(stack: Stack, cells: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Undo `_scaled`."""
    below = stack.pop_uniform(np.full(cells.size, _SCALE)).reshape(cells.shape)
    found, rest = np.divmod((cells << _DIGITS) | below, scale)
    stack.push_uniform(rest.reshape(-1), scale.reshape(-1))
    return found
