"""log p(x) by importance sampling with q(z|x), and the ELBO with the same draws."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from tfvae.checks import checked_count
from tfvae.distributions.kl import exact_kl
from tfvae.evaluation.batches import (
    Progress,
    check_vae,
    compiled,
    default_chunk,
    image_batches,
    rows_of,
    until_interrupted,
)
from tfvae.evaluation.estimates import (
    ELBOEstimate,
    WeightedEstimate,
    bits_per_dimension,
    log_mean_and_effective,
    mean_and_error,
)
from tfvae.models.vae import VAE

# Draws are made so many at a time, for one image or for several, whatever number is then decoded at
# a time. Each block of an image's draws has a seed of its own, whatever else is drawn beside it.
_BLOCK = 4096


@dataclasses.dataclass(frozen=True, eq=False)
class LogProbEstimate(WeightedEstimate):
    """log p(x) of images by importance sampling, and their ELBO with the same draws; nats.

    Attributes:
        log_probs: log (1/K) Σ_k p(x, z_k)/q(z_k|x) of each image, `[N]`.
        effective_sample_sizes: of each image, `[N]`, from 1 to K.
        num_samples: K.
        log_likelihoods: E_q[log p(x|z)] of each image, `[N]`.
        kls: KL(q(z|x) ‖ p(z)) of each image, `[N]`.
        image_shape: (H, W, C).
        measure: what p(x) is: "probability" of discrete values; "density"; "dequantized density",
            of discrete values with uniform noise added; or "cross-entropy", which is what a
            Bernoulli gives for values between 0 and 1, and bounds no probability.
        levels: how many levels there were before noise was added, if it was.
        complete: whether all images are in it; False for what an interrupt left.
    """

    log_likelihoods: np.ndarray
    kls: np.ndarray
    image_shape: tuple[int, int, int]
    measure: str
    levels: int | None = None

    @property
    def elbo(self) -> ELBOEstimate:
        """The ELBO of the same images with the same draws."""
        mean, error = mean_and_error(self.log_likelihoods - self.kls)
        return ELBOEstimate(
            elbo=mean,
            log_likelihood=float(self.log_likelihoods.mean()),
            kl=float(self.kls.mean()),
            standard_error=error,
            images=self.images,
        )

    @property
    def bits_per_dimension(self) -> float | None:
        """−log_prob in bits a value, where it is the length of a code; else None.

        Of dequantised images it is an upper bound; see `bits_per_dimension` of this package.
        """
        if self.measure not in ("probability", "dequantized density"):
            return None
        return bits_per_dimension(-self.log_prob, self.image_shape, self.levels)

    def as_dict(self) -> dict[str, Any]:
        """Give the figures over all images, for JSON."""
        return {
            **super().as_dict(),
            "measure": self.measure,
            "bits_per_dimension": self.bits_per_dimension,
        }


def elbo(
    vae: VAE, data: Any, *, num_samples: int = 1, seed: int = 0, progress: bool = False
) -> ELBOEstimate:
    """Estimate the mean ELBO over a data set.

    It is the `LogProbEstimate.elbo` of `log_prob` with as many draws.

    Args:
        vae: a built `VAE`.
        data: batches of ``x`` or ``(x, label)``.
        num_samples: draws of z for each image.
        seed: of the draws.
        progress: show a progress bar on standard error.

    Raises:
        InputError: if `num_samples` is below 1, there are no images, or they do not fit.
    """
    return log_prob(vae, data, num_samples=num_samples, seed=seed, progress=progress).elbo


def log_prob(
    vae: VAE,
    data: Any,
    *,
    num_samples: int = 1000,
    seed: int = 0,
    levels: int | None = None,
    chunk_size: int | None = None,
    progress: bool = False,
    keep_partial: bool = False,
) -> LogProbEstimate:
    """Estimate log p(x), or log p(x|y) of a conditional model, by importance sampling.

    ``log (1/K) Σ_k p(x, z_k)/q(z_k|x)`` with z_k from q(z|x): Burda et al. (2016),
    arXiv:1509.00519, equation 8, with as many draws as make the bound tight. Each image is encoded
    once, and its draws are decoded in chunks, so that memory grows neither with K nor with the
    number of images. The draws of an image depend on the seed and its place in the data set alone,
    and those for a smaller K are the first of those for a larger one, in blocks of 4,096.

    Args:
        vae: a built `VAE`.
        data: batches of ``x`` or ``(x, label)``.
        num_samples: K, draws of z for each image.
        seed: of the draws, below 2^31.
        levels: how many levels the values had before uniform noise was added, if it was (256 for
            ``datasets.load(..., dequantize=True)``): for bits per dimension.
        chunk_size: draws decoded at a time; by default as many as suit the device. It changes the
            result by rounding alone.
        progress: show a progress bar on standard error.
        keep_partial: give what there is, its `complete` False, when interrupted by Ctrl-C after the
            first images.

    Raises:
        InputError: if a number does not fit, there are no images, they do not fit, or q(z|x) has no
            density.
    """
    checked_count("num_samples", num_samples)
    if levels is not None:
        checked_count("levels", levels, least=2)
    sampler = _Sampler(vae, num_samples, seed, chunk_size)
    family, is_probability = vae.likelihood_family, True

    def parts() -> Iterator[np.ndarray]:
        nonlocal is_probability
        first = 0
        with Progress(data, progress) as bar:
            for x, label in image_batches(vae, data):
                is_probability = is_probability and bool(family.gives_probabilities(x))
                for values in sampler(x, label, first, bar):
                    bar.advance(values.shape[1] / len(x), values[0])
                    yield values
                first += len(x)

    found, complete = until_interrupted(parts(), keep_partial)
    log_probs, effective, log_likelihoods, kls = found
    if family.is_discrete:
        measure = "probability" if is_probability else "cross-entropy"
    else:
        measure = "density" if levels is None else "dequantized density"
    return LogProbEstimate(
        log_probs,
        effective,
        num_samples,
        log_likelihoods,
        kls,
        vae.event_shape,
        measure,
        levels,
        complete=complete,
    )


class _Sampler:
    """Draws, decodes and weighs: the sums over K draws for each image of a batch."""

    def __init__(self, vae: VAE, num_samples: int, seed: int, chunk_size: int | None):
        check_vae(vae)
        self._vae = vae
        self._num_samples = num_samples
        self._seed = checked_count("seed", seed, least=0)
        self._chunk = (
            default_chunk(vae) if chunk_size is None else checked_count("chunk_size", chunk_size)
        )
        # Folding a number in puts it second; only what is folded again depends on it first.
        fold_in = tf.random.experimental.stateless_fold_in
        blocks = range(-(-num_samples // _BLOCK))
        self._keys = [fold_in(fold_in([self._seed, 0], number), 0)[0] for number in blocks]
        # One for blocks of any size: tracing takes as long as decoding thousands of z.
        self._sums = compiled(self._block_sums)

    def __call__(
        self, x: tf.Tensor, label: tf.Tensor | None, first: int, bar: Progress
    ) -> Iterator[np.ndarray]:
        """Give the figures of a few images after another.

        Args:
            x: images `[B, H, W, C]`.
            label: `[B]`, or None.
            first: the place of the first of them in the data set.
            bar: where an interrupt may come through.

        Yields:
            log p(x), effective sample size, log-likelihood and KL, float64 `[4, n]`.
        """
        encoded = self._vae.posterior_parameters(x, label)
        posterior = self._vae.posterior_family.distribution(encoded)
        exact = exact_kl(posterior, self._vae.prior_of(label))
        # Few draws of many images are as much work at a time as many of one.
        together = max(1, max(self._chunk, _BLOCK) // min(self._num_samples, _BLOCK))
        for start in range(0, len(x), together):
            rows = slice(start, start + together)
            figures = self._figures(
                rows_of(encoded, rows),
                x[rows],
                None if label is None else label[rows],
                np.arange(first + start, first + min(start + together, len(x))),
                bar,
            )
            if exact is not None:
                figures[3] = exact[rows]
            yield figures

    def _figures(
        self, encoded: Any, x: tf.Tensor, label: Any, places: np.ndarray, bar: Progress
    ) -> np.ndarray:
        blocks = []
        for number, key in enumerate(self._keys):
            bar.advance(0)
            seeds = tf.stack([tf.fill(len(places), key), tf.constant(places, tf.int32)], axis=1)
            draws = tf.constant(min(_BLOCK, self._num_samples - number * _BLOCK))
            blocks.append(self._sums(encoded, x, label, draws, seeds).numpy())
        log_sum, log_square_sum, log_likelihood, log_ratio = np.stack(blocks, axis=1).astype(
            "float64"
        )
        log_sum = np.logaddexp.reduce(log_sum, axis=0)
        log_square_sum = np.logaddexp.reduce(log_square_sum, axis=0)
        return np.stack(
            [
                *log_mean_and_effective(log_sum, log_square_sum, self._num_samples),
                log_likelihood.sum(axis=0) / self._num_samples,
                log_ratio.sum(axis=0) / self._num_samples,
            ]
        )

    def _block_sums(
        self, encoded: Any, x: tf.Tensor, label: Any, draws: tf.Tensor, seeds: tf.Tensor
    ) -> tf.Tensor:
        """Give sums over the first so many draws of a block; see `weight_sums`."""
        z, log_posterior = self._vae.posterior_family.sample_each(
            encoded, min(_BLOCK, self._num_samples), seeds
        )
        return weight_sums(self._vae, x, label, z[:draws], log_posterior[:draws], chunk=self._chunk)


def weight_sums(
    vae: VAE, x: tf.Tensor, label: Any, z: tf.Tensor, log_posterior: tf.Tensor, *, chunk: int
) -> tf.Tensor:
    """Sum over draws of z for each image, in a graph.

    Args:
        vae: a built `VAE`.
        x: images `[B, H, W, C]`.
        label: `[B]`, or None.
        z: `[K, B, d]`, from q(z|x).
        log_posterior: log q(z|x), `[K, B]`.
        chunk: how many z to decode at a time.

    Returns:
        ``log Σ w``, ``log Σ w²``, ``Σ log p(x|z)`` and ``Σ log q(z|x)/p(z)`` with
        ``w = p(x, z)/q(z|x)``: `[4, B]`.
    """
    draws, images = tf.shape(z)[0], tf.shape(x)[0]
    flat = tf.reshape(z, (-1, vae.latent_dim))
    owner = tf.tile(tf.range(images), [draws])
    # One that does not depend on labels is made once: it may run networks of its own.
    prior = vae.prior_of(None) if label is None else None
    parts = tf.TensorArray(tf.float32, 0, dynamic_size=True, infer_shape=False)
    for part in tf.range(-(-draws * images // chunk)):
        # One is prepared while another is decoded; ten, as by default, would take more memory.
        tf.autograph.experimental.set_loop_options(parallel_iterations=2)
        rows = owner[part * chunk : (part + 1) * chunk]
        some = flat[part * chunk : (part + 1) * chunk]
        its_label = None if label is None else tf.gather(label, rows)
        its_prior = vae.prior_of(its_label) if prior is None else prior
        log_likelihood = vae.log_likelihood(tf.gather(x, rows), some, its_label)
        log_prior = its_prior.log_prob(some)
        parts = parts.write(part, tf.stack([log_likelihood, log_prior], axis=1))
    terms = tf.reshape(tf.ensure_shape(parts.concat(), (None, 2)), (draws, -1, 2))
    log_likelihood, log_prior = tf.unstack(terms, axis=-1)
    log_ratio = log_posterior - log_prior
    log_weight = log_likelihood - log_ratio
    return tf.stack(
        [
            tf.reduce_logsumexp(log_weight, axis=0),
            tf.reduce_logsumexp(2 * log_weight, axis=0),
            tf.reduce_sum(log_likelihood, axis=0),
            tf.reduce_sum(log_ratio, axis=0),
        ]
    )
