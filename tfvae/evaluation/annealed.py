"""log p(x) by annealed importance sampling, and from both sides by bidirectional Monte Carlo.

A chain walks from a density f_0 that can be drawn from, q(z|x) or p(z), to p(x, z), through

    f_β(z) = f_0(z)^(1 − β) p(x, z)^β,   0 = β_0 < β_1 < ... < β_T = 1

with Hamiltonian transitions T_t that leave f_{β_t} as it is. Its weight

    w = ∏_t f_{β_t}(z_{t−1}) / f_{β_{t−1}}(z_{t−1})

has the expectation p(x), Neal (2001), arXiv:physics/9803008, equations 7 to 11; so the mean of
log w is below log p(x), the less the more steps. The same chain backwards, from an exact draw of
p(z|x), has a weight whose expectation is 1/p(x), and gives an upper bound. There is such a draw for
an x that was sampled from the model: the z it was decoded from. Grosse et al. (2015),
arXiv:1511.02543; for decoders Wu et al. (2017), arXiv:1611.04273.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tfvae.checks import checked_count
from tfvae.errors import InputError
from tfvae.evaluation.batches import Progress, check_vae, default_chunk, image_batches
from tfvae.evaluation.estimates import WeightedEstimate, mean_and_error
from tfvae.model import VAE

# Temperatures in one call of a graph: an interrupt comes through between two calls.
_STEPS_A_CALL = 8
# Chains of the run that finds the step sizes.
_PILOT_CHAINS = 4
# What draws are for: each has seeds of its own. Those of images and their z are `sample_joint`'s.
_IMAGES, _STARTS, _PILOT_STARTS, _FORWARD, _REVERSE, _PILOT = range(1, 7)
# Transitions at the first temperature before the pilot's step sizes count.
_PILOT_WARM_UP = 16
# Fraction of proposals to accept. Beskos et al. (2013) find 0.65 the best in high dimensions;
# fewer rejections suit the few dimensions of a latent space.
_TARGET_ACCEPTANCE = 0.8
# How far a step size moves, in logarithms, for an acceptance off by one.
_ADAPTATION_RATE = 0.3


def linear_schedule(num_steps: int) -> np.ndarray:
    """Give equal steps from 0 to 1, `[T + 1]`."""
    return np.linspace(0, 1, num_steps + 1)


def sigmoid_schedule(num_steps: int, delta: float = 4.0) -> np.ndarray:
    """Give steps that are small at both ends, `[T + 1]`.

    The logistic function at equal steps from −delta to delta, rescaled to [0, 1]; Wu et al. (2017)
    take delta = 4.
    """
    values = 1 / (1 + np.exp(-np.linspace(-delta, delta, num_steps + 1)))
    return (values - values[0]) / (values[-1] - values[0])


SCHEDULES: dict[str, Callable[[int], np.ndarray]] = {
    "linear": linear_schedule,
    "sigmoid": sigmoid_schedule,
}


@dataclasses.dataclass(frozen=True, eq=False)
class AnnealedEstimate(WeightedEstimate):
    """log p(x) of images by annealed importance sampling, nats.

    Attributes:
        log_probs: log (1/M) Σ w of each image, `[N]`; of a reverse run −log (1/M) Σ w, w with the
            expectation 1/p(x).
        effective_sample_sizes: of the M weights of each image, `[N]`.
        num_samples: M, chains an image.
        acceptance: the fraction of proposals that are accepted, over all chains and temperatures.
        reverse: whether the chains walk from p(x, z) to f_0.
        complete: whether all images are in it; False for what an interrupt left.
    """

    acceptance: float
    reverse: bool = dataclasses.field(default=False, kw_only=True)

    @property
    def monte_carlo_error(self) -> float:
        """How far the mean over these same images may lie with other draws.

        NaN for one chain. NaN of a reverse run as well: all chains of an image start from the one
        exact draw there is, and the spread of their weights tells nothing of that draw's chance.
        """
        return math.nan if self.reverse else super().monte_carlo_error

    @property
    def warnings(self) -> tuple[str, ...]:
        """One line where the figure is not to be trusted."""
        # Few chains are no fault; but one that outweighs all the others is.
        if self.num_samples < 4 or self.effective_sample_size >= 1.5:
            return ()
        return (
            f"one of the {self.num_samples} chains has nearly all the weight for half of the "
            "images: log p(x) is not tight; take more steps",
        )

    def as_dict(self) -> dict[str, Any]:
        """Give the figures over all images, for JSON."""
        return {**super().as_dict(), "acceptance": self.acceptance}


@dataclasses.dataclass(frozen=True, eq=False)
class Sandwich:
    """Log p(x) of a model's own samples between two bounds, nats.

    Attributes:
        lower: below log p(x) in expectation.
        upper: above it in expectation; of the same images.
    """

    lower: AnnealedEstimate
    upper: AnnealedEstimate

    @property
    def gap(self) -> float:
        """Mean over images of the upper bound less the lower one."""
        return mean_and_error(self.upper.log_probs - self.lower.log_probs)[0]

    @property
    def gap_standard_error(self) -> float:
        """Its standard error over images; NaN for one image."""
        return mean_and_error(self.upper.log_probs - self.lower.log_probs)[1]

    def as_dict(self) -> dict[str, Any]:
        """Give the figures over all images, for JSON."""
        return {
            "lower": self.lower.as_dict(),
            "upper": self.upper.as_dict(),
            "gap": self.gap,
            "gap_standard_error": self.gap_standard_error,
        }


def annealed_log_prob(
    vae: VAE,
    data: Any,
    *,
    num_steps: int = 200,
    num_chains: int = 8,
    initial: str = "posterior",
    schedule: str | Sequence[float] = "sigmoid",
    leapfrog_steps: int = 5,
    seed: int = 0,
    chunk_size: int | None = None,
    progress: bool = False,
    keep_partial: bool = False,
) -> AnnealedEstimate:
    """Estimate log p(x), or log p(x|y), by annealed importance sampling.

    The transitions are Hamiltonian Monte Carlo. Their step sizes, one for each temperature
    and image, are adapted in a run of a few chains before, and fixed in the run that counts: chains
    that adapt as they go would not leave f_β as it is. Within an image they are longer in the
    dimensions where q(z|x) is wide.

    Args:
        vae: a built `VAE`.
        data: batches of ``x`` or ``(x, label)``.
        num_steps: T, temperatures from f_0 to p(x, z).
        num_chains: M, chains for each image.
        initial: f_0, ``"posterior"`` for q(z|x) or ``"prior"`` for p(z). From q far fewer steps
            do, unless it misses a part of p(z|x).
        schedule: ``"linear"``, ``"sigmoid"``, or the T + 1 values β_0 = 0 < ... < β_T = 1
            themselves, which `num_steps` then yields to.
        leapfrog_steps: of each transition.
        seed: of all draws, below 2^31. They depend on how the images come in batches, too.
        chunk_size: chains that run at a time; by default as many as suit the device.
        progress: show a progress bar on standard error.
        keep_partial: give what there is, its `complete` False, when interrupted by Ctrl-C after the
            first images.

    Raises:
        InputError: if an argument does not fit, there are no images, they do not fit, or q(z|x)
            has no density.
    """
    chains = _Chains(vae, num_chains, initial, leapfrog_steps, seed)
    betas = _betas(schedule, num_steps)
    together = _images_together(vae, num_chains, chunk_size)
    found: list[np.ndarray] = []
    complete = True
    with Progress(data, progress) as bar:
        try:
            for x, label in image_batches(vae, data):
                for start in range(0, len(x), together):
                    group = _Group.of(vae, x, label, slice(start, start + together), len(found))
                    part = len(group.x) / len(x) / 2
                    steps = chains.pilot(group, betas, bar, part)
                    forward = chains.run(group, chains.start(group), betas, steps, bar, part)
                    found.append(_summed(*forward))
                    bar.advance(0, log_prob=np.concatenate(found, axis=1)[0])
        except KeyboardInterrupt:
            if not (keep_partial and found):
                raise
            complete = False
    if not found:
        raise InputError("expected at least one image; the data set is empty")
    return _estimate(found, num_chains, complete)


def bidirectional_log_prob(
    vae: VAE,
    num_images: int,
    *,
    label: Any = None,
    num_steps: int = 200,
    num_chains: int = 8,
    initial: str = "posterior",
    schedule: str | Sequence[float] = "sigmoid",
    leapfrog_steps: int = 5,
    seed: int = 0,
    chunk_size: int | None = None,
    progress: bool = False,
    keep_partial: bool = False,
) -> Sandwich:
    """Enclose log p(x) of samples from the model between two bounds.

    The images are drawn from the model, every pixel from p(x|z), so that the z of each is an exact
    draw of p(z|x): the start of the chain that gives the upper bound. The lower bound is
    `annealed_log_prob`'s. If the two meet, annealed importance sampling with these settings is
    accurate for such images, and about as accurate for real ones where the model fits them.

    Args:
        vae: a built `VAE`.
        num_images: how many samples.
        label: of a conditional model, one label for all, or one for each, `[num_images]`.
        num_steps: as for `annealed_log_prob`, like the others.
        num_chains: chains for each image, up and down.
        initial: f_0, ``"posterior"`` or ``"prior"``.
        schedule: ``"linear"``, ``"sigmoid"`` or values.
        leapfrog_steps: of each transition.
        seed: of all draws, of the images as well.
        chunk_size: chains that run at a time.
        progress: show a progress bar on standard error.
        keep_partial: give what there is when interrupted by Ctrl-C after the first images.

    Raises:
        InputError: if an argument does not fit, or q(z|x) has no density.
    """
    checked_count("num_images", num_images)
    chains = _Chains(vae, num_chains, initial, leapfrog_steps, seed)
    betas = _betas(schedule, num_steps)
    x, z, label = vae.sample_joint(num_images, label=label, seed=[seed, _IMAGES])
    together = _images_together(vae, num_chains, chunk_size)
    found: list[np.ndarray] = []
    complete = True
    with Progress([None], progress) as bar:
        try:
            for start in range(0, num_images, together):
                rows = slice(start, start + together)
                group = _Group.of(vae, x, label, rows, len(found))
                part = len(group.x) / num_images / 3
                steps = chains.pilot(group, betas, bar, part)
                forward = chains.run(group, chains.start(group), betas, steps, bar, part)
                exact = tf.repeat(z[rows][None], num_chains, axis=0)
                backward = chains.run(group, exact, betas[::-1], steps[::-1], bar, part)
                below, above = _summed(*forward), _summed(*backward)
                above[0] *= -1
                found.append(np.concatenate([below, above]))
        except KeyboardInterrupt:
            if not (keep_partial and found):
                raise
            complete = False
    return Sandwich(
        _estimate([part[:3] for part in found], num_chains, complete),
        _estimate([part[3:] for part in found], num_chains, complete, reverse=True),
    )


def _betas(schedule: Any, num_steps: int) -> np.ndarray:
    """Give β_0 = 0 < ... < β_T = 1."""
    if isinstance(schedule, str):
        if schedule not in SCHEDULES:
            raise InputError(
                f"schedule is {', '.join(SCHEDULES)} or a list of numbers; received {schedule!r}"
            )
        return SCHEDULES[schedule](checked_count("num_steps", num_steps))
    try:
        betas = np.asarray(schedule, dtype="float64")
    except (TypeError, ValueError):
        betas = np.empty(0)
    if betas.ndim != 1 or len(betas) < 2 or betas[0] != 0 or betas[-1] != 1:
        raise InputError("a schedule is a list of numbers from 0 to 1, both included")
    if not (np.diff(betas) > 0).all():
        raise InputError("the numbers of a schedule rise from each to the next")
    return betas


def _images_together(vae: VAE, num_chains: int, chunk_size: int | None) -> int:
    if chunk_size is None:
        # A gradient needs the layers' outputs as well, two or three times what a decoding needs.
        chunk_size = max(1, default_chunk(vae) // 2)
    return max(1, checked_count("chunk_size", chunk_size) // num_chains)


def _summed(log_weights: np.ndarray, accepted: np.ndarray) -> np.ndarray:
    """Give log-mean weight, effective sample size and acceptance of each image, `[3, B]`.

    Args:
        log_weights: `[M, B]`.
        accepted: `[B]`.
    """
    log_sum = np.logaddexp.reduce(log_weights, axis=0)
    effective = np.exp(2 * log_sum - np.logaddexp.reduce(2 * log_weights, axis=0))
    return np.stack([log_sum - math.log(len(log_weights)), effective, accepted])


def _estimate(
    found: list[np.ndarray], num_chains: int, complete: bool, *, reverse: bool = False
) -> AnnealedEstimate:
    log_probs, effective, accepted = np.concatenate(found, axis=1)
    acceptance = float(np.mean(accepted))
    return AnnealedEstimate(
        log_probs, effective, num_chains, acceptance, reverse=reverse, complete=complete
    )


@dataclasses.dataclass(frozen=True)
class _Group:
    """Images whose chains run side by side.

    Attributes:
        x: `[B, H, W, C]`.
        label: `[B]`, or None.
        encoded: the parameters of q(z|x).
        number: which group it is, for seeds of its own.
    """

    x: tf.Tensor
    label: tf.Tensor | None
    encoded: Any
    number: int

    @classmethod
    def of(cls, vae: VAE, x: tf.Tensor, label: Any, rows: slice, number: int) -> "_Group":
        x = x[rows]
        label = None if label is None else label[rows]
        return cls(x, label, vae.posterior_parameters(x, label), number)


class _Chains:
    """Annealed chains over z, `[M, B, d]`, of a group of images."""

    def __init__(self, vae: VAE, num_chains: int, initial: str, leapfrog_steps: int, seed: int):
        check_vae(vae)
        if initial not in ("posterior", "prior"):
            raise InputError(f"initial is 'posterior' or 'prior'; received {initial!r}")
        self._vae = vae
        self._num_chains = checked_count("num_chains", num_chains)
        self._from_prior = initial == "prior"
        self._leapfrog_steps = checked_count("leapfrog_steps", leapfrog_steps)
        self._seed = checked_count("seed", seed, least=0)
        self._walk = tf.function(self._walked, reduce_retracing=True)

    def start(self, group: _Group) -> tf.Tensor:
        """Draw the starts of chains from f_0, `[M, B, d]`."""
        return self._start(group, self._num_chains, _STARTS)

    def _start(self, group: _Group, chains: int, purpose: int) -> tf.Tensor:
        key = self._key(group, purpose)
        return self._drawn(group.encoded, group.label, len(group.x), chains, key)

    def pilot(self, group: _Group, betas: np.ndarray, bar: Progress, part: float) -> np.ndarray:
        """Give the step sizes that a few adapting chains had at each temperature.

        Returns:
            Their logarithms, `[T − 1, B]`.
        """
        # The first temperature is walked at several times, until its step size has settled.
        path = np.concatenate([betas[:2], np.full(_PILOT_WARM_UP, betas[1]), betas[2:]])
        z = self._start(group, _PILOT_CHAINS, _PILOT_STARTS)
        *_, log_steps = self._walk_along(group, z, path, None, _PILOT, bar, part)
        return log_steps[_PILOT_WARM_UP:]

    def run(
        self,
        group: _Group,
        z: tf.Tensor,
        betas: np.ndarray,
        log_steps: np.ndarray,
        bar: Progress,
        part: float,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Walk along `betas` from `z` with fixed step sizes.

        Args:
            group: the images.
            z: starts `[M, B, d]`.
            betas: β of the start, and of each step: rising or falling, `[T + 1]`.
            log_steps: logarithms of the step sizes between, `[T − 1, B]`.
            bar: to advance.
            part: by how much of it.

        Returns:
            log w `[M, B]`, and the acceptance `[B]`.
        """
        purpose = _FORWARD if betas[0] == 0 else _REVERSE
        return self._walk_along(group, z, betas, log_steps, purpose, bar, part)[:2]

    def _key(self, group: _Group, purpose: int) -> tf.Tensor:
        return tf.random.experimental.stateless_fold_in([self._seed, purpose], group.number)

    def _walk_along(
        self,
        group: _Group,
        z: tf.Tensor,
        betas: np.ndarray,
        log_steps: np.ndarray | None,
        purpose: int,
        bar: Progress,
        part: float,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Walk with these step sizes, or adapting: log w, acceptance, and the step sizes used."""
        images, last = len(group.x), len(betas) - 1
        # The weight needs no walk at the last temperature: its step size is any.
        sizes = np.zeros((last, images))
        if log_steps is not None:
            sizes[:-1] = log_steps
        # The weights are for the very temperatures that the graph walks at.
        betas = betas.astype("float32")
        rises = np.diff(betas.astype("float64"))
        log_weights, key, current = np.zeros(z.shape[:2]), self._key(group, purpose), sizes[0]
        rates, used = [], []
        for start in range(0, last, _STEPS_A_CALL):
            stop = min(start + _STEPS_A_CALL, last)
            z, ratios, rate, log_step, current = self._walk(
                group.x,
                group.encoded,
                group.label,
                z,
                tf.constant(betas[start + 1 : stop + 1]),
                tf.constant(sizes[start:stop], tf.float32),
                tf.cast(current, tf.float32),
                tf.constant(log_steps is None),
                tf.random.experimental.stateless_fold_in(key, start),
            )
            # log f_β'(z) − log f_β(z) is (β' − β) log f_1(z)/f_0(z). So the rounding errors of the
            # ratio, which may be thousands of nats, come to the weight as their average; those of
            # two densities subtracted at each step would add up.
            log_weights += np.tensordot(rises[start:stop], ratios.numpy().astype("float64"), 1)
            rates.append(rate.numpy())
            used.append(log_step.numpy())
            bar.advance(part * (stop - start) / last)
        accepted = np.concatenate(rates)[:-1]
        means = accepted.mean(axis=0) if last > 1 else np.full(images, math.nan)
        return log_weights, means, np.concatenate(used)[:-1]

    # --- inside the graph -------------------------------------------------------------------------

    def _ends(self, encoded: Any, label: Any) -> tuple[Any, Any, Any]:
        """Give q(z|x), p(z), and that of the two which is f_0."""
        posterior = self._vae.posterior_family.distribution(encoded)
        prior = self._vae.prior_of(label)
        return posterior, prior, prior if self._from_prior else posterior

    def _drawn(
        self, encoded: Any, label: Any, images: int, chains: int, seed: tf.Tensor
    ) -> tf.Tensor:
        *_, initial = self._ends(encoded, label)
        shape = (chains, images) if initial.batch_shape.rank == 0 else (chains,)
        return initial.sample(shape, seed=seed)

    def _walked(
        self,
        x: tf.Tensor,
        encoded: Any,
        label: Any,
        z: tf.Tensor,
        betas: tf.Tensor,
        log_steps: tf.Tensor,
        current: tf.Tensor,
        adapt: tf.Tensor,
        seed: tf.Tensor,
    ) -> tuple[tf.Tensor, ...]:
        """Walk through n temperatures.

        Args:
            x: `[B, H, W, C]`.
            encoded: parameters of q(z|x).
            label: `[B]`, or None.
            z: `[M, B, d]`.
            betas: those to walk at, `[n]`.
            log_steps: of each of these, `[n, B]`; not looked at while adapting.
            current: the step size to adapt from, `[B]`.
            adapt: whether to adapt the step size after each transition.
            seed: `[2]`.

        Returns:
            z; log p(x, z)/f_0(z) before each transition `[n, M, B]`; acceptance `[n, B]`;
            logarithms of the step sizes used `[n, B]`, and of the next one `[B]`.
        """
        posterior, prior, initial = self._ends(encoded, label)
        widths = _Widths(posterior, initial, tf.shape(x)[0], self._vae.latent_dim)

        def point(z: tf.Tensor) -> _Point:
            with tf.GradientTape(persistent=True) as tape:
                tape.watch(z)
                start = initial.log_prob(z)
                end = self._vae.decode(z, label).log_prob(x) + prior.log_prob(z)
                # What is known of a shape must be the same before and after a step of the loop.
                start, end = (tf.ensure_shape(value, z.shape[:-1]) for value in (start, end))
            return _Point(z, start, end, tape.gradient(start, z), tape.gradient(end, z))

        count = tf.shape(betas)[0]
        ratios = tf.TensorArray(tf.float32, count)
        rates = tf.TensorArray(tf.float32, count)
        used = tf.TensorArray(tf.float32, count)
        here = point(z)
        for step in tf.range(count):
            ratios = ratios.write(step, here.end - here.start)
            log_step = current if adapt else log_steps[step]
            here, probability = _transition(
                point,
                here,
                betas[step],
                tf.exp(log_step)[:, None] * widths(betas[step]),
                self._leapfrog_steps,
                tf.random.experimental.stateless_fold_in(seed, step),
            )
            rate = tf.reduce_mean(probability, axis=0)
            rates = rates.write(step, rate)
            used = used.write(step, log_step)
            current = log_step + _ADAPTATION_RATE * (rate - _TARGET_ACCEPTANCE)
        return here.z, ratios.stack(), rates.stack(), used.stack(), current


class _Point(NamedTuple):
    """Where chains are.

    Attributes:
        z: `[M, B, d]`.
        start: log f_0(z), `[M, B]`.
        end: log p(x, z), `[M, B]`.
        start_gradient: of `start` by z, `[M, B, d]`.
        end_gradient: of `end`.
    """

    z: tf.Tensor
    start: tf.Tensor
    end: tf.Tensor
    start_gradient: tf.Tensor
    end_gradient: tf.Tensor

    def density(self, beta: tf.Tensor) -> tf.Tensor:
        """Give log f_β, `[M, B]`."""
        return (1 - beta) * self.start + beta * self.end

    def gradient(self, beta: tf.Tensor) -> tf.Tensor:
        """Give its gradient by z, `[M, B, d]`."""
        return (1 - beta) * self.start_gradient + beta * self.end_gradient


def _transition(
    point: Callable[[tf.Tensor], _Point],
    here: _Point,
    beta: tf.Tensor,
    step_sizes: tf.Tensor,
    leapfrog_steps: int,
    seed: tf.Tensor,
) -> tuple[_Point, tf.Tensor]:
    """Make a Hamiltonian Monte Carlo transition that leaves f_β as it is.

    Neal (2011), arXiv:1206.1901, section 5.3.2. Not `tfp.mcmc.HamiltonianMonteCarlo`, which would
    evaluate the density anew where the last temperature's transition ended, as it holds the values
    and gradients of f_β alone, not of its two ends.

    Args:
        point: evaluates the densities.
        here: where the chains are.
        beta: β.
        step_sizes: in each dimension, `[B, d]`.
        leapfrog_steps: to the proposal.
        seed: `[2]`.

    Returns:
        Where they go; and the probability of going where was proposed, `[M, B]`.
    """
    seeds = tf.random.experimental.stateless_split(seed, 2)
    momentum = tf.random.stateless_normal(tf.shape(here.z), seeds[0])
    there, energy = here, 0.5 * tf.reduce_sum(momentum**2, axis=-1)
    momentum += 0.5 * step_sizes * here.gradient(beta)
    for _ in tf.range(leapfrog_steps):
        there = point(there.z + step_sizes * momentum)
        momentum += step_sizes * there.gradient(beta)
    momentum -= 0.5 * step_sizes * there.gradient(beta)
    energy -= 0.5 * tf.reduce_sum(momentum**2, axis=-1)
    probability = tf.exp(tf.minimum(there.density(beta) - here.density(beta) + energy, 0.0))
    # A path that left the numbers, or the support, is rejected.
    probability = tf.where(tf.math.is_finite(probability), probability, 0.0)
    accepted = tf.random.stateless_uniform(tf.shape(probability), seeds[1]) < probability
    chosen = (
        tf.where(accepted[..., None] if new.shape.rank == 3 else accepted, new, old)
        for new, old in zip(there, here, strict=True)
    )
    return _Point(*chosen), probability


class _Widths:
    """How wide f_β is about in each dimension: step sizes are in these units.

    As if both ends were Gaussian: precisions add in the proportion of β.

    Args:
        posterior: q(z|x), which stands for p(z|x).
        initial: f_0.
        images: B.
        latent_dim: d.
    """

    def __init__(self, posterior: Any, initial: Any, images: Any, latent_dim: int):
        draws = 64

        def precision(distribution: Any) -> tf.Tensor:
            # From draws, as a flow has no variance in closed form.
            sample = distribution.sample(draws, seed=(5, 7))
            variance = tf.math.reduce_variance(sample, axis=0)
            variance = tf.broadcast_to(variance, (images, latent_dim))
            return 1 / tf.maximum(tf.stop_gradient(variance), 1e-12)

        self._end = precision(posterior)
        self._start = self._end if initial is posterior else precision(initial)

    def __call__(self, beta: tf.Tensor) -> tf.Tensor:
        """Give the widths at β, `[B, d]`."""
        return tf.math.rsqrt((1 - beta) * self._start + beta * self._end)
