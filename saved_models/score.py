"""Score a served model by its signatures alone; nothing but TensorFlow and NumPy is needed.

    tfvae export saved_models/mnist --out served
    python saved_models/score.py served/1 saved_models/mnist/test_events.npz

prints log p(x) of the events in the file, by an importance sampling that shares no code with
tfvae. z is drawn here, from a normal distribution that is somewhat wider than q(z|x), so that its
tails are heavier than those of the weights:

    log p(x) = log E[p(x, z) / r(z|x)],  r(z|x) = N(z; loc, (widen · scale)²),

with loc and scale from the signature ``encode`` and log p(x, z) from ``log_joint``, whatever
likelihood and prior are. Where q(z|x) has no scale in closed form, z comes from
``sample_posterior`` in place of that.
"""

import argparse
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

# Rows of z a call.
_ROWS = 4096


def log_prob(
    signatures: Any, x: np.ndarray, *, draws: int = 1000, widen: float = 1.1, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Estimate log p(x) of events.

    Args:
        signatures: of a SavedModel without labels, by their names.
        x: events `[N, ...]`.
        draws: K, of z for each event.
        widen: how much wider than q(z|x) the distribution is that z is drawn from.
        seed: of the draws.

    Returns:
        log p(x) in nats and the effective number of draws, each `[N]`.
    """
    name = "images" if x.ndim == 4 else "x"
    rng = np.random.default_rng(seed)
    size = max(1, _ROWS // len(x))
    encoded = signatures["encode"](**{name: tf.constant(x)})
    log_weights = []
    for first in range(0, draws, size):
        count = min(size, draws - first)
        rows = tf.repeat(tf.constant(x), count, axis=0)
        if "scale" in encoded:
            z, log_density = _normal(encoded, count, widen, rng)
        else:
            drawn = signatures["sample_posterior"](
                **{name: rows}, seed=tf.constant(rng.integers(2**31, size=(len(rows), 2)), tf.int32)
            )
            z, log_density = drawn["z"], drawn["log_posterior"].numpy().astype(float)
        joint = signatures["log_joint"](**{name: rows}, z=z)["log_joint"]
        log_weights.append((joint.numpy() - log_density).reshape(len(x), count))
    weights = np.concatenate(log_weights, axis=1)
    largest = weights.max(axis=1, keepdims=True)
    scaled = np.exp(weights - largest)
    total = scaled.sum(axis=1)
    return largest[:, 0] + np.log(total / draws), total**2 / (scaled**2).sum(axis=1)


def _normal(
    encoded: Any, count: int, widen: float, rng: np.random.Generator
) -> tuple[tf.Tensor, np.ndarray]:
    """Draw z of each event so many times, and compute the density that it was drawn with."""
    loc, scale = (encoded[key].numpy().astype(float) for key in ("loc", "scale"))
    scale = widen * np.repeat(scale, count, axis=0)
    noise = rng.normal(size=scale.shape)
    log_density = -0.5 * (noise**2 + math.log(2 * math.pi)) - np.log(scale)
    z = np.repeat(loc, count, axis=0) + scale * noise
    return tf.constant(z, tf.float32), log_density.sum(axis=1)


def main() -> None:
    """Score a SavedModel."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="directory of a SavedModel")
    parser.add_argument("events", help=".npz file with events x, as the model takes them")
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--limit", type=int, default=None, help="score so many, the first")
    given = parser.parse_args()
    loaded = tf.saved_model.load(given.model)
    with np.load(given.events) as content:
        x = content["x"][: given.limit]
    values: list[np.ndarray] = []
    sizes: list[np.ndarray] = []
    for few in _parts(x, 50):
        value, size = log_prob(loaded.signatures, few, draws=given.draws, seed=len(values))
        values.append(value)
        sizes.append(size)
    found, effective = np.concatenate(values), np.concatenate(sizes)
    error = found.std(ddof=1) / math.sqrt(len(found)) if len(found) > 1 else math.nan
    print(
        f"log p(x) {found.mean():.2f} ± {error:.2f} nats, {len(found)} events, {given.draws} "
        f"draws, median effective size {np.median(effective):.0f}"
    )


def _parts(x: np.ndarray, size: int) -> Iterator[np.ndarray]:
    for first in range(0, len(x), size):
        yield x[first : first + size]


if __name__ == "__main__":
    main()
