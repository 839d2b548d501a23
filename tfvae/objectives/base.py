"""What objectives are made of: the terms of the ELBO, and how gradients run through them."""

import abc
import dataclasses
from collections.abc import Callable
from typing import Any, Self

import keras
import tensorflow as tf

from tfvae.distributions.kl import exact_kl, factorizes
from tfvae.errors import InputError
from tfvae.lazy import tfd
from tfvae.objectives.schedules import Schedule
from tfvae.share import Share
from tfvae.typing import ArrayLike, Config, Distribution, Seed, Tensor


class PathWeight:
    """The identity, whose gradient is multiplied by weights that are known only later.

    An importance weight is computed from z after z has been decoded; some estimators then want the
    gradient that comes back to z weighted by it.
    """

    def __init__(self) -> None:
        self.weights: Tensor | None = None

    def __call__(self, value: Tensor) -> Tensor:
        """Return `value`, `[K, B, …]`, unchanged."""

        @tf.custom_gradient
        def identity(value: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
            def gradient(upstream: Tensor) -> Tensor:
                if self.weights is None:
                    return upstream
                weights = self.weights  # [K, B], and upstream [K, B, ...]
                for _ in range(upstream.shape.rank - weights.shape.rank):
                    weights = weights[..., None]
                return upstream * weights

            return tf.identity(value), gradient

        return identity(value)


def gradient_through(function: Callable[[Tensor], Tensor], z: Tensor) -> Tensor:
    """Return ``function(z)`` with a gradient to `z` alone: its parameters are held constant.

    Args:
        function: from `z` to one value for each of its vectors.
        z: `[..., d]`.

    Returns:
        `[...]`, for one differentiation.
    """
    fixed = tf.stop_gradient(z)
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(fixed)
        value = function(fixed)
    slope = tf.stop_gradient(tape.gradient(value, fixed))
    return tf.stop_gradient(value) + tf.reduce_sum(slope * (z - fixed), axis=-1)


def group_sizes_of(posterior: Distribution) -> tuple[int, ...]:
    """Return how many dimensions each group of latents has; of all but a hierarchy there is one.

    Args:
        posterior: q(z|x), a `tfd.Distribution` with event `[d]`.
    """
    return getattr(posterior, "sizes", (posterior.event_shape[0],))


@dataclasses.dataclass(frozen=True)
class Terms:
    """One batch seen through the three distributions, with K draws of z for each event.

    Attributes:
        x: events, `[B, *event_shape]`; where a value is missing, one that counts for nothing.
        z: draws from q(z|x), `[K, B, d]`.
        posterior: q(z|x), a `tfd.Distribution` with batch `[B]` and event `[d]`.
        prior: p(z), a `tfd.Distribution` with event `[d]`.
        likelihood: p(x|z), a `tfd.Distribution` with batch `[K, B]` and event `event_shape`.
        log_likelihood: log p(x|z_k), `[K, B]`, nats, over the observed values.
        log_posterior: log q(z_k|x), `[K, B]`, nats.
        log_prior: log p(z_k), `[K, B]`, nats.
        kl: KL(q(z|x) ‖ p(z)), `[B]`, nats; in closed form where TFP has one, else the mean of
            ``log_posterior − log_prior`` over the draws.
        kl_by_group: of a hierarchy of L groups KL(q(z_l|z_<l, x) ‖ p(z_l|z_<l)) of each, `[B, L]`,
            nats, in closed form given the z_<l drawn and averaged over the draws; they sum to `kl`.
            Of other models `kl` alone, `[B, 1]`.
        kl_per_dimension: the KL of each dimension of a hierarchy, likewise, `[B, d]`; None of other
            models, and where that of z_1 is no sum over dimensions.
        group_sizes: how many dimensions each group has.
        path: what weighs the gradients that run through the draws, if the objective wants it.
        step: optimiser steps taken so far, for schedules.
        seed: `[2]`, of further draws that an objective makes.
        share: which rows of a batch these are, where several devices have it.
    """

    x: Tensor
    z: Tensor
    posterior: Distribution
    prior: Distribution
    likelihood: Distribution
    log_likelihood: Tensor
    log_posterior: Tensor
    log_prior: Tensor
    kl: Tensor
    kl_by_group: Tensor | None = None
    kl_per_dimension: Tensor | None = None
    group_sizes: tuple[int, ...] = ()
    path: PathWeight | None = None
    step: ArrayLike = 0
    seed: Seed = (0, 0)
    share: Share | None = None

    def __post_init__(self) -> None:
        if self.kl_by_group is None:
            object.__setattr__(self, "kl_by_group", self.kl[:, None])

    @classmethod
    def of(
        cls,
        x: Tensor,
        z: Tensor,
        posterior: Distribution,
        prior: Distribution,
        likelihood: Distribution,
        *,
        log_posterior: Tensor | None = None,
        log_prior: Tensor | None = None,
        kl_by_group: Tensor | None = None,
        **kwargs: Any,
    ) -> "Terms":
        """Evaluate the terms at the events `x` and the draws `z`.

        Args:
            x: events, `[B, *event_shape]`.
            z: draws, `[K, B, d]`.
            posterior: q(z|x).
            prior: p(z).
            likelihood: p(x|z).
            log_posterior: log q(z_k|x) where it is known already.
            log_prior: log p(z_k) likewise.
            kl_by_group: of a hierarchy.
            **kwargs: the other attributes.
        """
        if log_posterior is None:
            log_posterior = posterior.log_prob(z)
        if log_prior is None:
            log_prior = prior.log_prob(z)
        if kl_by_group is not None:
            kl = tf.reduce_sum(kl_by_group, axis=-1)
        else:
            exact = exact_kl(posterior, prior)
            kl = tf.reduce_mean(log_posterior - log_prior, axis=0) if exact is None else exact
        return cls(
            x=x,
            z=z,
            posterior=posterior,
            prior=prior,
            likelihood=likelihood,
            log_likelihood=likelihood.log_prob(x),
            log_posterior=log_posterior,
            log_prior=log_prior,
            kl=kl,
            kl_by_group=kl_by_group,
            **kwargs,
        )

    @property
    def mean_log_likelihood(self) -> Tensor:
        """E_q[log p(x|z)], estimated with the K draws: `[B]`, nats."""
        return tf.reduce_mean(self.log_likelihood, axis=0)

    @property
    def elbo(self) -> Tensor:
        """E_q[log p(x|z)] − KL(q ‖ p): `[B]`, nats."""
        return self.mean_log_likelihood - self.kl

    @property
    def log_weight(self) -> Tensor:
        """Log p(x, z_k) − log q(z_k|x), the logarithm of the importance weight: `[K, B]`, nats."""
        return self.log_likelihood + self.log_prior - self.log_posterior

    def weigh_path(self, weights: Tensor) -> None:
        """Multiply the gradients that come back to the draws by `weights`, `[K, B]`.

        Where nothing is trained there are no gradients, and nothing to do.
        """
        if self.path is not None:
            self.path.weights = tf.stop_gradient(weights)


class Objective(abc.ABC):
    """Base class of objectives: a pure function of `Terms`, one loss for each event.

    Attributes:
        num_samples: K, the draws of z for each event that the objective wants.
        detaches_posterior: whether the gradient of log q(z|x) is to run through z alone, and not
            through the parameters of q.
        reweights_path: whether the objective calls `Terms.weigh_path`.
        network: a Keras layer that the objective trains beside the model, or None.
        couples_batch: whether the loss of an event depends on the rest of its batch.
    """

    num_samples: int = 1
    detaches_posterior = False
    reweights_path = False
    network: keras.Model | None = None
    couples_batch = False

    @abc.abstractmethod
    def __call__(self, terms: Terms) -> Tensor:
        """Compute the loss of each event, `[B]`, in nats; it is minimised."""

    @property
    def schedules(self) -> tuple[keras.optimizers.schedules.LearningRateSchedule, ...]:
        """The weights of the objective that change from step to step."""
        return tuple(value for value in vars(self).values() if isinstance(value, Schedule))

    def build(self, latent_dim: int, seed: int | None) -> None:  # noqa: B027 - most have none
        """Build `network`, where the objective has one, for z `[..., d]`."""

    def check(self, posterior: Distribution, prior: Distribution) -> None:
        """Check that the objective can train with these; a model does so at its construction.

        Args:
            posterior: q(z|x) of some event, a `tfd.Distribution`.
            prior: p(z), a `tfd.Distribution`.

        Raises:
            InputError: if it cannot.
        """
        if posterior.reparameterization_type != tfd.FULLY_REPARAMETERIZED:
            raise InputError(
                f"{type(self).__name__} takes gradients through the draws of z, and a "
                f"{type(posterior).__name__} has none to give: choose a reparameterised posterior"
            )

    def _require_factors(self, **distributions: Distribution) -> None:
        """Raise an `InputError` if one of the distributions is no product over dimensions."""
        for role, distribution in distributions.items():
            if not factorizes(distribution):
                raise InputError(
                    f"{type(self).__name__} needs a {role} that factorises over the latent "
                    f"dimensions (tfd.Independent); received {type(distribution).__name__}"
                )

    def get_config(self) -> Config:
        """Return the constructor's arguments."""
        return {}

    @classmethod
    def from_config(cls, config: Config) -> Self:
        """Build the objective from `get_config`'s dictionary."""
        return cls(**config)
