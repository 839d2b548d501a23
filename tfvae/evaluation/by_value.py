"""What each value of an event adds to its anomaly score: a pixel, a time step, a column."""

import numpy as np
import tensorflow as tf

from tfvae.checks import checked_count
from tfvae.models.vae import VAE
from tfvae.typing import ArrayLike

# Values that are decoded at a time: 64 MiB in float32.
_MOST_VALUES = 2**24


def score_by_value(
    vae: VAE, x: ArrayLike, label: ArrayLike | None = None, *, num_samples: int = 10, seed: int = 0
) -> np.ndarray:
    """Compute −E_q[log p(x_i|z)] of each value x_i, its share of −E_q[log p(x|z)].

    With the KL, which belongs to no value, the shares sum to −ELBO. They are −log densities where
    the likelihood is one, whose level is that of the unit: compare a value's share with what is
    usual at its place, such as the median over ordinary events.

    Args:
        vae: a built `VAE`.
        x: events `[N, *event_shape]`.
        label: of a conditional model, the labels of the events `[N]`.
        num_samples: K, draws of z for each event.
        seed: of the draws.

    Returns:
        float32 `[N, *event_shape]`, in nats, 0 where a value is missing.

    Raises:
        InputError: if events or labels do not fit, or the likelihood has no distribution of single
            values.
    """
    checked_count("num_samples", num_samples)
    x = np.asarray(x, np.float32)
    labels = None if label is None else np.asarray(label)
    vae.event_spec.check_array(x, labels)
    per_event = num_samples * max(1, x[0].size) * vae.likelihood_family.parameters_per_value
    size = int(np.clip(_MOST_VALUES // per_event, 1, 256))
    found = []
    for start in range(0, len(x), size):
        part = x[start : start + size]
        some = None if labels is None else labels[start : start + size]
        z = vae.encode(part, some).sample(num_samples, seed=(seed, start))
        shares = vae.log_likelihood_by_value(part, z, some)
        found.append(-tf.reduce_mean(shares, axis=0).numpy())
    return np.concatenate(found)
