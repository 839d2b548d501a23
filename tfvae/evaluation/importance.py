"""log p(x) by importance sampling with q(z|x), and the ELBO with the same draws."""

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from tfvae.checks import checked_count, checked_seed
from tfvae.distributions.kl import exact_kl
from tfvae.evaluation.batches import (
    BATCH_SIZE,
    EventData,
    Progress,
    check_vae,
    compiled,
    default_chunk,
    event_batches,
    rows_of,
    unconverted,
    until_interrupted,
)
from tfvae.evaluation.codes import bound
from tfvae.evaluation.estimates import (
    TOLERATED,
    ELBOEstimate,
    WeightedEstimate,
    bits_per_dimension,
    log_mean_and_effective,
    mean_and_error,
    measure_of,
)
from tfvae.evaluation.pareto import fitted_tail, largest_reliable, tail_correction, tail_length
from tfvae.models.vae import VAE
from tfvae.models.vq import VQVAE
from tfvae.typing import Shape, Tensor

# Above this fraction of events with a high Pareto k, nothing is said of how much higher the mean of
# log p(x) may be: `benchmarks/intervals.py` shows that what was fitted then falls short.
_UNTOLD = 0.5
# An event's draws are made in blocks of this size, whatever number of them is then decoded at a
# time. Each block has a seed of its own, so that its draws do not depend on what else is drawn.
_BLOCK = 4096


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class LogProbEstimate(WeightedEstimate):
    """log p(x) of events by importance sampling, and their ELBO with the same draws; nats.

    Where values are missing, x is what was observed: log p is that of the observed values.

    Attributes:
        log_probs: log (1/K) Σ_k p(x, z_k)/q(z_k|x) of each event, `[N]`.
        effective_sample_sizes: of each event, `[N]`, from 1 to K.
        num_samples: K.
        log_likelihoods: E_q[log p(x|z)] of each event, `[N]`.
        kls: KL(q(z|x) ‖ p(z)) of each event, `[N]`.
        event_shape: the shape of one event.
        observed_values: how many values of each event were observed, `[N]`.
        measure: what p(x) is: "probability" of discrete values; "density"; "dequantized density",
            of discrete values with uniform noise added; or "cross-entropy", which is what a
            Bernoulli gives for values between 0 and 1, and bounds no probability.
        levels: how many levels there were before noise was added, if it was.
        pareto_ks: the shape k of each event's largest weights, `[N]`, as `tfvae.evaluation.pareto`
            has it; NaN with too few draws to tell.
        tail_corrections: what to add to each of `log_probs` where the mean of the largest weights
            is that of the distribution fitted to them, `[N]`; NaN with too few draws to tell.
        complete: whether all events are in it; False for what an interrupt left.
    """

    log_likelihoods: np.ndarray
    kls: np.ndarray
    event_shape: Shape
    observed_values: np.ndarray
    measure: str
    levels: int | None = None
    pareto_ks: np.ndarray | None = None
    tail_corrections: np.ndarray | None = None

    @property
    def pareto_k(self) -> float:
        """Median over events of k, NaN where it cannot be told."""
        return math.nan if self.pareto_ks is None else float(np.median(self.pareto_ks))

    @property
    def largest_reliable_k(self) -> float:
        """The k up to which as many draws are enough, 0.7 at most."""
        return largest_reliable(self.num_samples)

    @property
    def high_pareto_k(self) -> float:
        """The fraction of events whose k is above that; NaN where it cannot be told."""
        if self.pareto_ks is None or np.isnan(self.pareto_ks).any():
            return math.nan
        return float(np.mean(self.pareto_ks > self.largest_reliable_k))

    @property
    def interval(self) -> tuple[float, float]:
        """What the mean log p(x) of these same events lies between, nats; for 95 %.

        Its lower end is `lower_bound`, which needs no assumption. No unbiased weights bound log
        p(x) from above; the upper end has what the draws tell: the mean with the tails of the
        weights as they were fitted, where the largest ones are often not among the draws; half the
        relative variance, by which the logarithm of a mean is too low; and two errors over draws.
        It is inf where k is above `largest_reliable_k` for more than half of the events, as then
        the draws do not tell, and NaN with too few draws to fit a tail. Of modes that q(z|x) misses
        altogether no draw tells.
        """
        if self.tail_corrections is None or np.isnan(self.tail_corrections).any():
            return self.lower_bound(), math.nan
        if self.high_pareto_k > _UNTOLD:
            return self.lower_bound(), math.inf
        bias = 0.5 * (1 / self.effective_sample_sizes - 1 / self.num_samples)
        missed = float((self.tail_corrections + bias).mean())
        return self.lower_bound(), self.log_prob + missed + 2 * self.monte_carlo_error

    @property
    def warnings(self) -> tuple[str, ...]:
        """A line where the figure is not to be trusted, and one where its errors are not."""
        found = super().warnings
        if not self.high_pareto_k > TOLERATED:
            return found
        return (
            *found,
            f"Pareto k of the weights above {self.largest_reliable_k:.2g} for "
            f"{self.high_pareto_k:.0%} of the events (median {self.pareto_k:.2f}): q(z|x) is "
            "narrower than the posterior, log p(x) comes out too low by more than the effective "
            "draws and the error over draws tell; take annealed importance sampling beside it",
        )

    @property
    def elbo(self) -> ELBOEstimate:
        """The ELBO of the same events with the same draws."""
        mean, error = mean_and_error(self.log_likelihoods - self.kls)
        return ELBOEstimate(
            elbo=mean,
            log_likelihood=float(self.log_likelihoods.mean()),
            kl=float(self.kls.mean()),
            standard_error=error,
            events=self.events,
        )

    @property
    def bits_per_dimension(self) -> float | None:
        """Bits for each observed value: −log p of all events over the number of their values.

        None where it is not the length of a code, because values are not discrete, and where not
        one value was observed. Of dequantised events it is an upper bound; see
        `bits_per_dimension` of this package.
        """
        values = float(self.observed_values.mean())
        if self.measure not in ("probability", "dequantized density") or not values:
            return None
        return bits_per_dimension(-self.log_prob, self.event_shape, self.levels, observed=values)

    def as_dict(self) -> dict[str, Any]:
        """Return the figures over all events, for JSON."""
        return {
            **super().as_dict(),
            "measure": self.measure,
            "pareto_k": self.pareto_k,
            "high_pareto_k": self.high_pareto_k,
            "interval": list(self.interval),
            "bits_per_dimension": self.bits_per_dimension,
        }


def elbo(
    vae: VAE | VQVAE,
    data: EventData,
    *,
    num_samples: int = 1,
    seed: int = 0,
    batch_size: int = BATCH_SIZE,
    progress: bool = False,
) -> ELBOEstimate:
    """Estimate the mean ELBO over a data set.

    It is the `LogProbEstimate.elbo` of `log_prob` with as many draws; of a `VQVAE`, which draws
    nothing, the `BoundEstimate.elbo` of `bound`.

    Args:
        vae: a built `VAE` or `VQVAE`.
        data: a split, arrays or batches; see `tfvae.evaluation.batches.event_batches`.
        num_samples: draws of z for each event.
        seed: of the draws.
        batch_size: events encoded at a time, where data does not come in batches.
        progress: show a progress bar on standard error.

    Raises:
        InputError: if `num_samples` is below 1, there are no events, or they do not fit.
    """
    if isinstance(vae, VQVAE):
        return bound(vae, data, batch_size=batch_size, progress=progress).elbo
    return log_prob(
        vae, data, num_samples=num_samples, seed=seed, batch_size=batch_size, progress=progress
    ).elbo


def log_prob(
    vae: VAE,
    data: EventData,
    *,
    num_samples: int = 1000,
    seed: int = 0,
    levels: int | None = None,
    chunk_size: int | None = None,
    batch_size: int = BATCH_SIZE,
    progress: bool = False,
    keep_partial: bool = False,
) -> LogProbEstimate:
    """Estimate log p(x), or log p(x|y) of a conditional model, by importance sampling.

    ``log (1/K) Σ_k p(x, z_k)/q(z_k|x)`` with z_k from q(z|x): Burda et al. (2016),
    arXiv:1509.00519, equation 8, with as many draws as make the bound tight. Each event is encoded
    once, and its draws are decoded in chunks, so that memory grows neither with K nor with the
    number of events. The draws of an event depend on the seed and its place in the data alone,
    and those for a smaller K are the first of those for a larger one, in blocks of 4,096.

    Where values are missing, p(x) is the density of the observed ones.

    Args:
        vae: a built `VAE`.
        data: a split, arrays or batches; see `tfvae.evaluation.batches.event_batches`.
        num_samples: K, draws of z for each event.
        seed: of the draws, below 2^31.
        levels: how many levels the values had before uniform noise was added, if it was (256 for
            ``datasets.load(..., dequantize=True)``): for bits per dimension.
        chunk_size: draws decoded at a time; by default as many as suit the device. It changes the
            result by rounding alone.
        batch_size: events encoded at a time, where data does not come in batches.
        progress: show a progress bar on standard error.
        keep_partial: return what there is, its `complete` False, when interrupted by Ctrl-C after
            the first events.

    Raises:
        InputError: if a number does not fit, there are no events, they do not fit, or q(z|x) has no
            density.
    """
    checked_count("num_samples", num_samples)
    if levels is not None:
        checked_count("levels", levels, least=2)
    sampler = _Sampler(vae, num_samples, seed, chunk_size)
    family, is_probability = vae.likelihood_family, True
    batches = event_batches(vae, data, batch_size=batch_size)

    def parts() -> Iterator[np.ndarray]:
        nonlocal is_probability
        first = 0
        with Progress(batches, progress) as bar:
            for x, label in batches:
                filled, _ = vae.event_spec.observed(x)
                is_probability = is_probability and bool(family.gives_probabilities(filled))
                for values in sampler(x, label, first, bar):
                    bar.advance(values.shape[1] / len(x), values[0])
                    yield values
                first += len(x)

    found, complete = until_interrupted(parts(), keep_partial)
    log_probs, effective, log_likelihoods, kls, pareto_ks, corrections, observed = found
    return LogProbEstimate(
        log_probs,
        effective,
        num_samples,
        log_likelihoods,
        kls,
        vae.event_shape,
        observed,
        measure_of(family.is_discrete, is_probability, levels),
        levels,
        pareto_ks,
        corrections,
        complete=complete,
    )


class _Sampler:
    """Draws, decodes and weighs: the sums over K draws for each event of a batch."""

    def __init__(self, vae: VAE, num_samples: int, seed: int, chunk_size: int | None):
        check_vae(vae)
        self._vae = vae
        self._num_samples = num_samples
        self._tail = tail_length(num_samples)
        self._seed = checked_seed("seed", seed)
        self._chunk = (
            default_chunk(vae) if chunk_size is None else checked_count("chunk_size", chunk_size)
        )
        # stateless_fold_in(seed, n) is the pair (hash of seed, n): the first number depends on n
        # once another is folded in. These are such first numbers, one a block; beside it in a seed
        # stands the event's place.
        fold_in = tf.random.experimental.stateless_fold_in
        blocks = range(-(-num_samples // _BLOCK))
        self._keys = [fold_in(fold_in([self._seed, 0], number), 0)[0] for number in blocks]
        # One graph for blocks of any size: tracing takes as long as decoding thousands of z.
        self._sums = compiled(self._block_sums)

    def __call__(
        self, x: Tensor, label: Tensor | None, first: int, bar: Progress
    ) -> Iterator[np.ndarray]:
        """Compute the figures of the events of a batch, some of them at a time.

        Args:
            x: events `[B, *event_shape]`.
            label: `[B]`, or None.
            first: the place of the first of them in the data.
            bar: where an interrupt may come through.

        Yields:
            Of the next n events log p(x), effective sample size, log-likelihood, KL, Pareto k, the
            correction for the tail and number of observed values, float64 `[7, n]`.
        """
        encoded = self._vae.posterior_parameters(x, label)
        posterior = self._vae.posterior_family.distribution(encoded)
        exact = exact_kl(posterior, self._vae.prior_of(label))
        observed = _count_observed(x)
        # With few draws an event, several events make a chunk.
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
            yield np.concatenate([figures, observed[None, rows]])

    def _figures(
        self,
        encoded: dict[str, Tensor],
        x: Tensor,
        label: Tensor | None,
        places: np.ndarray,
        bar: Progress,
    ) -> np.ndarray:
        """Return the figures of the events but for the last, float64 `[6, n]`."""
        blocks = []
        for number, key in enumerate(self._keys):
            bar.advance(0)
            seeds = tf.stack([tf.fill(len(places), key), tf.constant(places, tf.int32)], axis=1)
            draws = tf.constant(min(_BLOCK, self._num_samples - number * _BLOCK))
            blocks.append(self._sums(encoded, x, label, draws, seeds).numpy())
        figures = np.stack(blocks, axis=1).astype("float64")
        log_sum, log_square_sum, log_likelihood, log_ratio = figures[:4]
        largest = figures[4:].reshape(-1, len(places))
        log_sum = np.logaddexp.reduce(log_sum, axis=0)
        log_square_sum = np.logaddexp.reduce(log_square_sum, axis=0)
        return np.stack(
            [
                *log_mean_and_effective(log_sum, log_square_sum, self._num_samples),
                log_likelihood.sum(axis=0) / self._num_samples,
                log_ratio.sum(axis=0) / self._num_samples,
                *self._tail_of(largest, log_sum),
            ]
        )

    def _tail_of(self, largest: np.ndarray, log_sum: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return k and the correction of log p(x) for the tail, each `[n]`.

        Args:
            largest: the largest log-weights of each block, `[blocks · (M + 1), n]`.
            log_sum: the log of the sum of all weights, `[n]`.
        """
        if not self._tail:
            unknown = np.full(len(log_sum), np.nan)
            return unknown, unknown
        tail = fitted_tail(np.sort(largest, axis=0)[-self._tail - 1 :])
        return tail.shape, tail_correction(tail, log_sum, self._tail)

    def _block_sums(
        self,
        encoded: dict[str, Tensor],
        x: Tensor,
        label: Tensor | None,
        draws: Tensor,
        seeds: Tensor,
    ) -> Tensor:
        """Return the sums over the first `draws` draws of a block; see `weight_sums`."""
        sample_each = unconverted(self._vae.posterior_family.sample_each)
        z, log_posterior = sample_each(encoded, min(_BLOCK, self._num_samples), seeds)
        return weight_sums(
            self._vae,
            x,
            label,
            z[:draws],
            log_posterior[:draws],
            chunk=self._chunk,
            largest=self._tail + 1 if self._tail else 0,
        )


def _count_observed(x: Tensor) -> np.ndarray:
    """Count the values of each event `[B, *event_shape]` that are not missing, `[B]`."""
    present = ~np.isnan(x.numpy())
    return present.reshape(len(present), -1).sum(axis=1).astype("float64")


def weight_sums(
    vae: VAE,
    x: Tensor,
    label: Tensor | None,
    z: Tensor,
    log_posterior: Tensor,
    *,
    chunk: int,
    largest: int = 0,
) -> Tensor:
    """Sum over draws of z for each event, in a graph.

    Args:
        vae: a built `VAE`.
        x: events `[B, *event_shape]`.
        label: `[B]`, or None.
        z: `[K, B, d]`, from q(z|x).
        log_posterior: log q(z|x), `[K, B]`.
        chunk: how many z to decode at a time.
        largest: how many of the largest weights to return as well.

    Returns:
        ``log Σ w``, ``log Σ w²``, ``Σ log p(x|z)`` and ``Σ log q(z|x)/p(z)`` with
        ``w = p(x, z)/q(z|x)``, and the largest ``log w``, −inf beyond the K there are:
        `[4 + largest, B]`.
    """
    draws, events = tf.shape(z)[0], tf.shape(x)[0]
    flat = tf.reshape(z, (-1, vae.latent_dim))
    owner = tf.tile(tf.range(events), [draws])
    # A prior that does not depend on labels is made once: it may run networks of its own.
    prior = unconverted(vae.prior_of)(None) if label is None else None

    @unconverted
    def terms_of(rows: Tensor, some: Tensor) -> Tensor:
        its_label = None if label is None else tf.gather(label, rows)
        its_prior = vae.prior_of(its_label) if prior is None else prior
        log_likelihood = vae.log_likelihood(tf.gather(x, rows), some, its_label)
        return tf.stack([log_likelihood, its_prior.log_prob(some)], axis=1)

    parts = tf.TensorArray(tf.float32, 0, dynamic_size=True, infer_shape=False)
    for part in tf.range(-(-draws * events // chunk)):
        # One part is prepared while another is decoded; TensorFlow's default of ten at a time would
        # take more memory.
        tf.autograph.experimental.set_loop_options(parallel_iterations=2)
        held = slice(part * chunk, (part + 1) * chunk)
        parts = parts.write(part, terms_of(owner[held], flat[held]))
    terms = tf.reshape(tf.ensure_shape(parts.concat(), (None, 2)), (draws, -1, 2))
    log_likelihood, log_prior = tf.unstack(terms, axis=-1)
    log_ratio = log_posterior - log_prior
    log_weight = log_likelihood - log_ratio
    sums = tf.stack(
        [
            tf.reduce_logsumexp(log_weight, axis=0),
            tf.reduce_logsumexp(2 * log_weight, axis=0),
            tf.reduce_sum(log_likelihood, axis=0),
            tf.reduce_sum(log_ratio, axis=0),
        ]
    )
    if not largest:
        return sums
    enough = tf.pad(log_weight, [[0, largest], [0, 0]], constant_values=-math.inf)
    top = tf.math.top_k(tf.transpose(enough), largest, sorted=False).values
    return tf.concat([sums, tf.transpose(top)], axis=0)
