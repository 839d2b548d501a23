"""How good a model is, with the error of the figure."""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from tfvae.errors import InputError
from tfvae.families import checked_count
from tfvae.model import VAE

# Images decoded at a time: on a CPU more are no faster.
_DECODES = 512


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
        InputError: if `num_samples` is below 1, there are no images, or they do not fit.
    """
    checked_count("num_samples", num_samples)

    @tf.function(reduce_retracing=True)
    def terms(x: tf.Tensor, label: Any, seed: tf.Tensor) -> Any:
        return vae.elbo(x, label, num_samples=num_samples, seed=seed)

    found = []
    for number, (x, label) in enumerate(_batches(vae, data, progress)):
        found.append(np.stack(terms(x, label, tf.constant([seed, number])), axis=1))
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


@dataclasses.dataclass(frozen=True)
class LogProbEstimate:
    """The mean of log p(x) over images, estimated by importance sampling, in nats per image.

    Attributes:
        log_prob: mean of ``log (1/K) Σ_k p(x, z_k)/q(z_k|x)``, which is below log p(x) on average.
        standard_error: of `log_prob`, from the spread over images. NaN for a single image.
        images: how many.
        num_samples: K.
        bits_per_dimension: −log_prob over the values of an image, in bits.
    """

    log_prob: float
    standard_error: float
    images: int
    num_samples: int
    bits_per_dimension: float


def log_prob(
    vae: VAE, data: Any, *, num_samples: int = 1000, seed: int = 0, progress: bool = False
) -> LogProbEstimate:
    """Estimate the mean of log p(x), or of log p(x|y), over a data set.

    Burda et al. (2016), arXiv:1509.00519, equation 8, with as many draws of z as make the bound
    tight; they are drawn and decoded in chunks.

    Args:
        vae: a built `VAE`.
        data: batches of ``x`` or ``(x, label)``.
        num_samples: K, draws of z for each image.
        seed: of the draws.
        progress: show a progress bar on standard error.

    Raises:
        InputError: if `num_samples` is below 1, there are no images, or they do not fit.
    """
    checked_count("num_samples", num_samples)

    @tf.function(reduce_retracing=True)
    def chunk(x: tf.Tensor, label: Any, draws: int, seed: tf.Tensor) -> tf.Tensor:
        terms = vae.terms(x, label, num_samples=draws, seed=seed)
        return tf.reduce_logsumexp(terms.log_weight, axis=0)

    found = []
    for number, (x, label) in enumerate(_batches(vae, data, progress)):
        draws = max(1, _DECODES // len(x))
        sums = []
        for start in range(0, num_samples, draws):
            key = tf.random.experimental.stateless_fold_in(tf.constant([seed, number]), start)
            sums.append(chunk(x, label, min(draws, num_samples - start), key).numpy())
        found.append(np.logaddexp.reduce(np.stack(sums).astype("float64"), axis=0))
    if not found:
        raise InputError("expected at least one image; the data set is empty")
    values = np.concatenate(found) - math.log(num_samples)
    mean = float(values.mean())
    spread = float(values.std(ddof=1)) if len(values) > 1 else math.nan
    return LogProbEstimate(
        log_prob=mean,
        standard_error=spread / math.sqrt(len(values)),
        images=len(values),
        num_samples=num_samples,
        bits_per_dimension=bits_per_dimension(-mean, vae.image_shape),
    )


def bits_per_dimension(nll: float, image_shape: Sequence[int]) -> float:
    """Give a negative log-likelihood as bits for each value of an image.

    Args:
        nll: −log p(x) of an image, nats. Only of a discrete p(x) is it a length in bits.
        image_shape: (H, W, C).
    """
    return nll / (math.prod(image_shape) * math.log(2))


def _batches(vae: VAE, data: Any, progress: bool) -> Iterator[tuple[tf.Tensor, tf.Tensor | None]]:
    """Give the images of batches, checked, and their labels where the model takes them."""
    for batch in tqdm(data, unit="batch", leave=False, disable=not progress):
        x, label = (*batch, None)[:2] if isinstance(batch, tuple) else (batch, None)
        x = vae.checked_images(x)
        yield x, None if vae.num_classes is None else vae.label_vector(label)
