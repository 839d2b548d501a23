"""What becomes of values before a model sees them: scaling, binarization and dequantisation."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from tfvae.typing import Shape, Tensor


def intensities(events: Tensor) -> Tensor:
    """Cast values to float32, and bytes to [0, 1]."""
    scale = 255.0 if events.dtype == tf.uint8 else 1.0
    return tf.cast(events, tf.float32) / scale


def binarized(events: Tensor, threshold: Tensor | float) -> Tensor:
    """Return 1 for values above a threshold and 0 for others, float32; NaN stays NaN."""
    bits = tf.cast(threshold < events, tf.float32)
    return tf.where(tf.math.is_nan(events), events, bits)


def dequantized(values: Tensor, uniform: Tensor) -> Tensor:
    """Return (b + u) / 256, for bytes b and uniform draws of u, both float32 of one shape.

    With all its bits, u would at times round b + u to the next whole number, and 255 + u to 256.
    A float32 has 24 bits: 8 are for b, 15 for u, which is cut to as many, and one for the half of
    such a step that keeps the mean of u at 1/2. So nothing is rounded: x lies within the cell of
    its byte, above 0 and below 1.
    """
    return (values + (uniform * 2**15 // 1 + 0.5) / 2**15) / 256


def static_draw(
    events: np.ndarray, rows: np.ndarray, seed: int, *, missing: bool = False
) -> np.ndarray:
    """Draw Bernoulli(x) for each event x, from the seed and its row alone.

    Args:
        events: `[n, *event_shape]`, bytes or values in [0, 1].
        rows: of the events, `[n]`.
        seed: decides the draws.
        missing: whether NaN stands for what is missing.

    Returns:
        Bits; float32 of 0, 1 and NaN if values may be missing.
    """
    scale = np.float32(255 if events.dtype == np.uint8 else 1)
    drawn = np.empty(events.shape, np.float32 if missing else bool)
    for index, uniform in enumerate(_uniforms(events.shape[1:], rows, seed)):
        drawn[index] = uniform < events[index].astype(np.float32) / scale
    if missing and events.dtype == np.float32:
        drawn[np.isnan(events)] = np.nan
    return drawn


def static_noise(events: np.ndarray, rows: np.ndarray, seed: int) -> np.ndarray:
    """Dequantize bytes `[n, *event_shape]`, each event from the seed and its row alone."""
    noisy = np.empty(events.shape, np.float32)
    for index, uniform in enumerate(_uniforms(events.shape[1:], rows, seed)):
        noisy[index] = dequantized(events[index].astype(np.float32), uniform)
    return noisy


def _uniforms(shape: Shape, rows: np.ndarray, seed: int) -> Iterator[np.ndarray]:
    """Draw float32 of a shape, uniform on [0, 1), for each row from the seed and itself alone."""
    # Philox counts in 256 bits: each row has the 2^128 blocks that begin at row · 2^128.
    bits = np.random.Philox(key=seed)
    generator = np.random.Generator(bits)
    state: Any = bits.state
    for row in rows:
        state["state"]["counter"][2] = row
        bits.state = state
        yield generator.random(shape, np.float32)
