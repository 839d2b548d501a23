"""How good a model is, with the error of the figure."""

import dataclasses
import math
from typing import Any

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from tfvae.errors import InputError
from tfvae.model import VAE


@dataclasses.dataclass(frozen=True)
class ELBOEstimate:
    """The mean ELBO over images and its two terms, in nats per image.

    Attributes:
        elbo: mean of the ELBO.
        log_likelihood: mean of E_q[log p(x|z)].
        kl: mean of KL(q(z|x) ‖ p(z)).
        standard_error: of `elbo`, from the spread over images: how far the mean over as many other
            images of the kind may lie. NaN for a single image.
        images: how many.
    """

    elbo: float
    log_likelihood: float
    kl: float
    standard_error: float
    images: int


def elbo(
    vae: VAE, data: Any, *, num_samples: int = 1, seed: int = 0, progress: bool = False
) -> ELBOEstimate:
    """Estimate the mean ELBO over a data set.

    Args:
        vae: a built `VAE`.
        data: batches of ``x`` or ``(x, label)``.
        num_samples: draws of z for each image.
        seed: of the draws.
        progress: show a progress bar on standard error.

    Raises:
        InputError: if there are no images, or they do not fit.
    """

    @tf.function(reduce_retracing=True)
    def terms(x: tf.Tensor, seed: tf.Tensor) -> Any:
        return vae.elbo(x, num_samples=num_samples, seed=seed)

    found = []
    for number, batch in enumerate(tqdm(data, unit="batch", leave=False, disable=not progress)):
        x = vae.checked_images(batch[0] if isinstance(batch, tuple) else batch)
        found.append(np.stack(terms(x, tf.constant([seed, number])), axis=1))
    if not found:
        raise InputError("expected at least one image; the data set is empty")
    values = np.concatenate(found).astype("float64")
    count = len(values)
    spread = float(values[:, 0].std(ddof=1)) if count > 1 else math.nan
    mean_elbo, mean_log_likelihood, mean_kl = values.mean(axis=0)
    return ELBOEstimate(
        elbo=float(mean_elbo),
        log_likelihood=float(mean_log_likelihood),
        kl=float(mean_kl),
        standard_error=spread / math.sqrt(count),
        images=count,
    )
