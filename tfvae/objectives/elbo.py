"""Objectives of one event at a time: the ELBO, and weights, floors and targets for its KL."""

import keras
import tensorflow as tf

from tfvae.checks import checked_count, checked_flag, checked_weight
from tfvae.distributions.family import PACKAGE
from tfvae.distributions.kl import kl_per_dimension
from tfvae.errors import InputError
from tfvae.objectives import schedules
from tfvae.objectives.base import Objective, Terms, group_sizes_of
from tfvae.share import batch_mean
from tfvae.typing import Config, Distribution, Tensor


@keras.saving.register_keras_serializable(PACKAGE)
class ELBO(Objective):
    """loss(x) = −(E_q[log p(x|z)] − β KL(q(z|x) ‖ p(z))).

    With β = 1 it is the negative ELBO, Kingma and Welling (2014), arXiv:1312.6114, equation 3;
    with another β the objective of Higgins et al. (2017), equation 4.

    Of a hierarchy of L groups the KL is the sum of theirs, KL_l. With `balance`, as long as β is
    below 1, it is Σ_l γ_l KL_l with ``γ_l = L a_l / Σ a``, ``a_l = mean_B KL_l / s_l`` and s_l the
    size of the group: a group that says much for its size pays more, so that the warm-up ends with
    all groups in use (Vahdat and Kautz 2020, arXiv:2007.03898, appendix A, whose text has γ grow
    with s_l, which its authors call a misprint). No gradient runs through γ.

    Args:
        beta: weight of the KL: a number of at least 0, or a schedule; or a list of them, one for
            each group of a hierarchy, as text ``"1x0.5"``; see `tfvae.objectives.schedules.get`.
        num_samples: K, draws of z for each event.
        balance: whether to balance the groups of a hierarchy during a warm-up of `beta`.

    Raises:
        InputError: if `beta` is negative, not finite or no schedule, `num_samples` below 1, or
            `balance` is asked for beside a weight for each group.
    """

    def __init__(self, beta: schedules.Weight = 1.0, num_samples: int = 1, balance: bool = False):
        self.beta = schedules.get(beta, "beta")
        self.num_samples = checked_count("num_samples", num_samples)
        self.balance = checked_flag("balance", balance)
        if self.balance and isinstance(self.beta, schedules.ByGroup):
            raise InputError("balance weighs the groups itself: give it one beta for all of them")

    def check(self, posterior: Distribution, prior: Distribution) -> None:
        """Check that there is a beta for each group, where there are several."""
        super().check(posterior, prior)
        groups = len(group_sizes_of(posterior))
        if isinstance(self.beta, schedules.ByGroup) and len(self.beta.weights) != groups:
            raise InputError(
                f"beta has {len(self.beta.weights)} weights, and the model {groups} "
                f"group{'' if groups == 1 else 's'} of latents: give one for each, or one for all"
            )

    def __call__(self, terms: Terms) -> Tensor:
        """Compute −(log_likelihood − beta · kl), `[B]`, nats."""
        beta = self.beta(terms.step)
        if isinstance(self.beta, schedules.ByGroup):
            return -(terms.mean_log_likelihood - tf.reduce_sum(beta * terms.kl_by_group, axis=-1))
        if self.balance and len(terms.group_sizes) > 1:
            weights = tf.where(beta < 1, _balanced(terms), 1.0)
            kl = tf.reduce_sum(weights * terms.kl_by_group, axis=-1)
            return -(terms.mean_log_likelihood - beta * kl)
        return -(terms.mean_log_likelihood - beta * terms.kl)

    def get_config(self) -> Config:
        """Return the constructor's arguments."""
        return {
            "beta": schedules.serialize(self.beta),
            "num_samples": self.num_samples,
            "balance": self.balance,
        }


# Nats that are added to the KL of each group before they are balanced, as NVAE does: at the start,
# where all are 0, they are weighed by their sizes alone, and never by 0/0.
_LEAST_KL = 0.01


def _balanced(terms: Terms) -> Tensor:
    """Compute γ `[L]`, whose mean is 1."""
    kl = batch_mean(tf.stop_gradient(tf.abs(terms.kl_by_group)), terms.share) + _LEAST_KL
    by_size = kl / tf.constant(terms.group_sizes, tf.float32)
    return by_size / tf.reduce_mean(by_size)


@keras.saving.register_keras_serializable(PACKAGE)
class StickingTheLanding(Objective):
    """The negative ELBO with the path derivative of Roeder et al. (2017), arXiv:1703.09194.

    ``loss(x) = −mean_k[log p(x|z_k) + log p(z_k) − log q(z_k|x)]``, where the gradient of
    log q(z|x) runs through z alone. What is left out, the score of q, is zero in
    expectation; without it the gradient's variance falls to zero as q reaches p(z|x).

    Args:
        num_samples: K, draws of z for each event.

    Raises:
        InputError: if `num_samples` is below 1.
    """

    detaches_posterior = True

    def __init__(self, num_samples: int = 1):
        self.num_samples = checked_count("num_samples", num_samples)

    def __call__(self, terms: Terms) -> Tensor:
        """Compute the negative ELBO, all of it estimated with the draws, `[B]`, nats."""
        return -tf.reduce_mean(terms.log_weight, axis=0)

    def get_config(self) -> Config:
        """Return the constructor's arguments."""
        return {"num_samples": self.num_samples}


@keras.saving.register_keras_serializable(PACKAGE)
class FreeBits(Objective):
    """The negative ELBO with a floor under the KL of each group of latent dimensions.

    ``loss(x) = −E_q[log p(x|z)] + Σ_g max(λ, mean_B KL_g)``, the mean being over the batch
    (Kingma et al. 2016, arXiv:1606.04934, appendix C.8). Below the floor a group's KL costs nothing
    and has no gradient.

    Args:
        nats: λ, the floor under each group's KL, at least 0.
        groups: into how many groups of consecutive dimensions to divide z; by default each
            dimension is a group, and of a hierarchy each of its groups. With one group the floor is
            under the whole KL, which any pair of posterior and prior has; several need a pair that
            factorises.
        num_samples: K, draws of z for each event.

    Raises:
        InputError: if `nats` is negative or not finite, or a count below 1.
    """

    def __init__(self, nats: float = 0.1, groups: int | None = None, num_samples: int = 1):
        self.nats = checked_weight("nats", nats)
        self.groups = None if groups is None else checked_count("groups", groups)
        self.num_samples = checked_count("num_samples", num_samples)

    def build(self, latent_dim: int, seed: int | None) -> None:
        """Check that the groups divide the latent dimensions."""
        if self.groups is not None and latent_dim % self.groups:
            raise InputError(
                f"FreeBits cannot divide {latent_dim} latent dimensions into {self.groups} equal "
                "groups"
            )

    def check(self, posterior: Distribution, prior: Distribution) -> None:
        """Check that posterior and prior have a KL for each group."""
        super().check(posterior, prior)
        if len(group_sizes_of(posterior)) > 1:
            if self.groups not in (None, 1):
                raise InputError(
                    "FreeBits of a hierarchy has a floor under each of its groups: leave groups "
                    f"out; received groups={self.groups}"
                )
        elif self.groups != 1:
            self._require_factors(posterior=posterior, prior=prior)

    def __call__(self, terms: Terms) -> Tensor:
        """Compute −log_likelihood plus the floored KL, `[B]`, nats."""
        if self.groups == 1:
            kl = terms.kl[:, None]
        elif len(terms.group_sizes) > 1:
            kl = terms.kl_by_group
        else:
            kl = kl_per_dimension(terms.posterior, terms.prior, terms.z)
            if self.groups is not None:
                kl = tf.reduce_sum(tf.reshape(kl, (tf.shape(kl)[0], self.groups, -1)), axis=-1)
        is_free = batch_mean(tf.stop_gradient(kl), terms.share) < self.nats
        # Each event carries its own KL, or the floor; the mean over the batch is the formula's.
        floored = tf.where(is_free, tf.fill(tf.shape(kl), self.nats), kl)
        return -terms.mean_log_likelihood + tf.reduce_sum(floored, axis=-1)

    def get_config(self) -> Config:
        """Return the constructor's arguments."""
        return {"nats": self.nats, "groups": self.groups, "num_samples": self.num_samples}


@keras.saving.register_keras_serializable(PACKAGE)
class Capacity(Objective):
    """loss(x) = −E_q[log p(x|z)] + γ |KL(q(z|x) ‖ p(z)) − C|.

    Burgess et al. (2018), arXiv:1804.03599, equation 8: C rises while the model trains, so that it
    takes up one latent factor after the other.

    Args:
        gamma: γ, at least 0.
        capacity: C in nats: a number or a schedule, such as ``"linear(steps=25000,end=25)"``.
        num_samples: K, draws of z for each event.

    Raises:
        InputError: if `gamma` or `capacity` is negative, not finite or no schedule, or
            `num_samples` below 1.
    """

    def __init__(
        self,
        gamma: float = 1000.0,
        capacity: schedules.Weight = "linear(steps=25000,end=25)",
        num_samples: int = 1,
    ):
        self.gamma = checked_weight("gamma", gamma)
        self.capacity = schedules.get(capacity, "capacity")
        self.num_samples = checked_count("num_samples", num_samples)

    def __call__(self, terms: Terms) -> Tensor:
        """Compute −log_likelihood + γ |kl − C|, `[B]`, nats."""
        distance = tf.abs(terms.kl - self.capacity(terms.step))
        return -terms.mean_log_likelihood + self.gamma * distance

    def get_config(self) -> Config:
        """Return the constructor's arguments."""
        return {
            "gamma": self.gamma,
            "capacity": schedules.serialize(self.capacity),
            "num_samples": self.num_samples,
        }
