"""Chains through the densities between f_0 and p(x, z), by Hamiltonian Monte Carlo.

What the densities f_β are, and what the weights of the chains are for, is in `annealed`.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfvae.checks import checked_count, checked_seed
from tfvae.errors import InputError
from tfvae.evaluation.batches import Progress, check_vae, compiled, unconverted
from tfvae.models.vae import VAE
from tfvae.typing import Distribution, Tensor

# Temperatures in one call of a graph: an interrupt comes through between two calls.
_STEPS_A_CALL = 8
# Chains of the run that finds the step sizes.
_PILOT_CHAINS = 4
# What draws are for: each purpose has seeds of its own. The first is `sample_joint`'s.
EVENTS, _STARTS, _PILOT_STARTS, _FORWARD, _REVERSE, _PILOT = range(1, 7)
# Transitions at the first temperature before the pilot's step sizes count.
_PILOT_WARM_UP = 16
# Fraction of proposals to accept. Beskos et al. (2013) find 0.65 the best in high dimensions;
# fewer rejections suit the few dimensions of a latent space.
_TARGET_ACCEPTANCE = 0.8
# How far a step size moves, in logarithms, for an acceptance off by one.
_ADAPTATION_RATE = 0.3


@dataclasses.dataclass(frozen=True)
class Group:
    """Events whose chains run side by side.

    Attributes:
        x: `[B, *event_shape]`.
        label: `[B]`, or None.
        encoded: the parameters of q(z|x).
        number: which group it is, for seeds of its own.
    """

    x: Tensor
    label: Tensor | None
    encoded: dict[str, Tensor]
    number: int

    @classmethod
    def of(cls, vae: VAE, x: Tensor, label: Tensor | None, rows: slice, number: int) -> "Group":
        """Encode some rows of events and their labels."""
        x = x[rows]
        label = None if label is None else label[rows]
        return cls(x, label, vae.posterior_parameters(x, label), number)


class Chains:
    """Annealed chains over z, `[M, B, d]`, of a group of events."""

    def __init__(self, vae: VAE, num_chains: int, initial: str, leapfrog_steps: int, seed: int):
        check_vae(vae)
        if vae.posterior_family.classes is not None:
            raise InputError(
                "annealed importance sampling moves z along gradients, and the z of this model "
                "are classes: estimate log p(x) by tfvae.evaluation.log_prob"
            )
        if initial not in ("posterior", "prior"):
            raise InputError(f"initial is 'posterior' or 'prior'; received {initial!r}")
        self._vae = vae
        self._num_chains = checked_count("num_chains", num_chains)
        self._from_prior = initial == "prior"
        self._leapfrog_steps = checked_count("leapfrog_steps", leapfrog_steps)
        self._seed = checked_seed("seed", seed)
        self._walk = compiled(self._walked)

    def start(self, group: Group) -> Tensor:
        """Draw the starts of chains from f_0, `[M, B, d]`."""
        return self._start(group, self._num_chains, _STARTS)

    def _start(self, group: Group, chains: int, purpose: int) -> Tensor:
        *_, initial = self._ends(group.encoded, group.label)
        shape = (chains, len(group.x)) if initial.batch_shape.rank == 0 else (chains,)
        return initial.sample(shape, seed=self._key(group, purpose))

    def pilot(self, group: Group, betas: np.ndarray, bar: Progress, part: float) -> np.ndarray:
        """Return the step sizes that a few adapting chains had at each temperature.

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
        group: Group,
        z: Tensor,
        betas: np.ndarray,
        log_steps: np.ndarray,
        bar: Progress,
        part: float,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Walk along `betas` from `z` with fixed step sizes.

        Args:
            group: the events.
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

    def _key(self, group: Group, purpose: int) -> Tensor:
        return tf.random.experimental.stateless_fold_in([self._seed, purpose], group.number)

    def _walk_along(
        self,
        group: Group,
        z: Tensor,
        betas: np.ndarray,
        log_steps: np.ndarray | None,
        purpose: int,
        bar: Progress,
        part: float,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Walk with these step sizes, or adapting: log w, acceptance, and the step sizes used."""
        events, last = len(group.x), len(betas) - 1
        # The last weight is taken before the transition at the last temperature, which changes
        # nothing that counts: the step size of that transition stays 0.
        sizes = np.zeros((last, events))
        if log_steps is not None:
            sizes[:-1] = log_steps
        # The graph walks at temperatures in float32: the weights are for those, to the last digit.
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
            # log f_β'(z) − log f_β(z) is (β' − β) log f_1(z)/f_0(z), and the rises β' − β sum to 1.
            # So the weight has the mean of the ratios' rounding errors, where subtracting two
            # densities of thousands of nats at each step would add up theirs.
            log_weights += np.tensordot(rises[start:stop], ratios.numpy().astype("float64"), 1)
            rates.append(rate.numpy())
            used.append(log_step.numpy())
            bar.advance(part * (stop - start) / last)
        accepted = np.concatenate(rates)[:-1]
        means = accepted.mean(axis=0) if last > 1 else np.full(events, math.nan)
        return log_weights, means, np.concatenate(used)[:-1]

    # --- inside the graph -------------------------------------------------------------------------

    def _ends(
        self, encoded: dict[str, Tensor], label: Tensor | None
    ) -> tuple[Distribution, Distribution, Distribution]:
        """Return q(z|x), p(z), and that of the two which is f_0."""
        posterior = self._vae.posterior_family.distribution(encoded)
        prior = self._vae.prior_of(label)
        return posterior, prior, prior if self._from_prior else posterior

    def _walked(
        self,
        x: Tensor,
        encoded: dict[str, Tensor],
        label: Tensor | None,
        z: Tensor,
        betas: Tensor,
        log_steps: Tensor,
        current: Tensor,
        adapt: Tensor,
        seed: Tensor,
    ) -> tuple[Tensor, ...]:
        """Walk through n temperatures.

        Args:
            x: `[B, *event_shape]`.
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
        posterior, prior, initial = unconverted(self._ends)(encoded, label)
        widths = _Widths(posterior, initial, tf.shape(x)[0], self._vae.latent_dim)

        @unconverted
        def point(z: Tensor) -> Point:
            with tf.GradientTape(persistent=True) as tape:
                tape.watch(z)
                start = initial.log_prob(z)
                end = self._vae.log_likelihood(x, z, label) + prior.log_prob(z)
                # A loop in a graph wants the same static shapes before and after each step.
                start, end = (tf.ensure_shape(value, z.shape[:-1]) for value in (start, end))
            return Point(z, start, end, tape.gradient(start, z), tape.gradient(end, z))

        count = tf.shape(betas)[0]
        ratios = tf.TensorArray(tf.float32, count)
        rates = tf.TensorArray(tf.float32, count)
        used = tf.TensorArray(tf.float32, count)
        here = point(z)
        for step in tf.range(count):
            ratios = ratios.write(step, here.end - here.start)
            log_step = current if adapt else log_steps[step]
            here, probability = transition(
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


class Point(NamedTuple):
    """Where chains are.

    Attributes:
        z: `[M, B, d]`.
        start: log f_0(z), `[M, B]`.
        end: log p(x, z), `[M, B]`.
        start_gradient: of `start` by z, `[M, B, d]`.
        end_gradient: of `end`.
    """

    z: Tensor
    start: Tensor
    end: Tensor
    start_gradient: Tensor
    end_gradient: Tensor

    def density(self, beta: Tensor) -> Tensor:
        """Return log f_β, `[M, B]`."""
        return (1 - beta) * self.start + beta * self.end

    def gradient(self, beta: Tensor) -> Tensor:
        """Return its gradient by z, `[M, B, d]`."""
        return (1 - beta) * self.start_gradient + beta * self.end_gradient


def transition(
    point: Callable[[Tensor], Point],
    here: Point,
    beta: Tensor,
    step_sizes: Tensor,
    leapfrog_steps: int,
    seed: Tensor,
) -> tuple[Point, Tensor]:
    """Make a Hamiltonian Monte Carlo transition that leaves f_β invariant.

    Neal (2011), arXiv:1206.1901, section 5.3.2. `tfp.mcmc.HamiltonianMonteCarlo` would cost more:
    it keeps the value and gradient of f_β alone, and would evaluate the densities once more at each
    temperature; `Point` keeps those of f_0 and p(x, z), which do for every β.

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
    return Point(*chosen), probability


class _Widths:
    """How wide f_β is about in each dimension: step sizes are in these units.

    As if both ends were Gaussian: precisions add in the proportion of β.

    Args:
        posterior: q(z|x), which stands for p(z|x).
        initial: f_0.
        events: B.
        latent_dim: d.
    """

    def __init__(
        self, posterior: Distribution, initial: Distribution, events: Tensor, latent_dim: int
    ):
        draws = 64

        def precision(distribution: Distribution) -> Tensor:
            # From draws, as a flow has no variance in closed form.
            sample = distribution.sample(draws, seed=(5, 7))
            variance = tf.math.reduce_variance(sample, axis=0)
            variance = tf.broadcast_to(variance, (events, latent_dim))
            return 1 / tf.maximum(tf.stop_gradient(variance), 1e-12)

        self._end = precision(posterior)
        self._start = self._end if initial is posterior else precision(initial)

    def __call__(self, beta: Tensor) -> Tensor:
        """Return the widths at β, `[B, d]`."""
        return tf.math.rsqrt((1 - beta) * self._start + beta * self._end)
