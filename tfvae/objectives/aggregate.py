"""Objectives of the aggregate posterior q(z) = (1/N) Σ_n q(z|x_n).

    E[KL(q(z|x) ‖ p(z))] = I(x; z) + TC(z) + Σ_j KL(q(z_j) ‖ p(z_j))

The total correlation TC(z) = KL(q(z) ‖ ∏_j q(z_j)) is what makes latent dimensions depend on each
other.

What these estimate of q(z) from a batch takes a second event of it. Of a last batch of one event
nothing can be said of q(z), and its loss is the rest of the objective.
"""

import math
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from tfvae.checks import MOST_UNITS, checked_count, checked_weight, is_number
from tfvae.distributions.family import PACKAGE
from tfvae.errors import InputError
from tfvae.objectives.base import Objective, Terms, gradient_through
from tfvae.typing import Config, Distribution, Seed, Tensor


class KLParts(NamedTuple):
    """The three parts of the KL and their estimates for each draw, each `[K, B]`, in nats.

    Attributes:
        mutual_information: log q(z|x) − log q(z): the mean is I(x; z), the index-code mutual
            information.
        total_correlation: log q(z) − Σ_j log q(z_j).
        dimension_wise_kl: Σ_j log q(z_j) − log p(z).
    """

    mutual_information: Tensor
    total_correlation: Tensor
    dimension_wise_kl: Tensor


def decompose_kl(
    posterior: Distribution, prior: Distribution, z: Tensor, dataset_size: int | Tensor
) -> KLParts:
    """Split log q(z|x) − log p(z) at draws z, Chen et al. (2018), arXiv:1802.04942, equation 2.

    q(z_i) of a draw from event i of a batch is estimated as
    ``(1/N) q(z_i|x_i) + (1 − 1/N) mean_{j≠i} q(z_i|x_j)``: without bias where the others are drawn
    from the N events without replacement, as a shuffled epoch does, and exact where the batch is
    the data set. (Chen's appendix C.2 stratifies the same way, with unequal weights.)

    In a batch of one there is no other j, and no estimate of q(z_i): q(z_i|x_i) stands for it, so
    that mutual information and total correlation come out as 0.

    Args:
        posterior: q(z|x) of a batch, a `tfd.Independent` with batch `[B]` and event `[d]`.
        prior: p(z), with event `[d]`.
        z: draws from it, `[K, B, d]`.
        dataset_size: N, the events of the data set, at least B.

    Returns:
        The parts; they sum to log q(z|x) − log p(z).
    """
    # log q(z_i,j | x_n): [K, B, N', d], N' = B events each draw is held against.
    pairwise = posterior.distribution.log_prob(z[:, :, None, :])
    count = tf.shape(z)[1]
    size = tf.cast(dataset_size, tf.float32)
    own = tf.eye(count, dtype=tf.bool)
    # The shares sum to 1 over N': 1/N for the event itself, the rest for the others alike.
    others = tf.math.log1p(-1 / size) - tf.math.log(tf.maximum(tf.cast(count, tf.float32) - 1, 1))
    log_share = tf.where(own, -tf.math.log(size), others) * tf.cast(count > 1, tf.float32)
    joint = tf.reduce_logsumexp(tf.reduce_sum(pairwise, axis=-1) + log_share, axis=-1)
    marginals = tf.reduce_logsumexp(pairwise + log_share[..., None], axis=-2)
    product = tf.reduce_sum(marginals, axis=-1)
    return KLParts(
        mutual_information=posterior.log_prob(z) - joint,
        total_correlation=joint - product,
        dimension_wise_kl=product - prior.log_prob(z),
    )


@keras.saving.register_keras_serializable(PACKAGE)
class BetaTC(Objective):
    """loss(x) = −E_q[log p(x|z)] + α I(x; z) + β TC(z) + γ Σ_j KL(q(z_j) ‖ p(z_j)).

    β-TCVAE, Chen et al. (2018), arXiv:1802.04942, equation 4; see `decompose_kl`. At
    α = β = γ = 1 it is the negative ELBO, with the KL in closed form where there is one; and so it
    is for a batch of one event, which tells nothing of q(z).

    Args:
        dataset_size: N, the training events; ``tfvae train`` fills it in.
        beta: weight of the total correlation, at least 0.
        alpha: weight of the mutual information, at least 0.
        gamma: weight of the dimension-wise KL, at least 0.

    Raises:
        InputError: if a weight is negative or not finite, or `dataset_size` below 2.
    """

    couples_batch = True

    def __init__(
        self, dataset_size: int, beta: float = 6.0, alpha: float = 1.0, gamma: float = 1.0
    ):
        self.dataset_size = checked_count("dataset_size", dataset_size, least=2)
        self.beta = checked_weight("beta", beta)
        self.alpha = checked_weight("alpha", alpha)
        self.gamma = checked_weight("gamma", gamma)

    def check(self, posterior: Distribution, prior: Distribution) -> None:
        """Check that the posterior factorises."""
        super().check(posterior, prior)
        self._require_factors(posterior=posterior)

    def __call__(self, terms: Terms) -> Tensor:
        """Compute the loss of each event, `[B]`, nats."""
        parts = decompose_kl(terms.posterior, terms.prior, terms.z, self.dataset_size)
        # What the weights add to 1: the parts at weight 1 are the KL, known in closed form perhaps.
        surplus = (
            (self.alpha - 1) * parts.mutual_information
            + (self.beta - 1) * parts.total_correlation
            + (self.gamma - 1) * parts.dimension_wise_kl
        )
        has_others = tf.cast(tf.shape(terms.z)[1] > 1, tf.float32)
        return -terms.elbo + has_others * tf.reduce_mean(surplus, axis=0)

    def get_config(self) -> Config:
        """Return the constructor's arguments."""
        return {
            "dataset_size": self.dataset_size,
            "beta": self.beta,
            "alpha": self.alpha,
            "gamma": self.gamma,
        }


@keras.saving.register_keras_serializable(PACKAGE)
class FactorVAE(Objective):
    """loss(x) = −ELBO(x) + γ TC(z), with TC from a network that tells q(z) from ∏_j q(z_j).

    Kim and Mnih (2018), arXiv:1802.05983, equation 2 and algorithm 2. The network D is trained at
    the same time, by the same optimiser, to tell draws z from draws whose dimensions were shuffled
    over the batch, each on its own; log D(z)/(1 − D(z)) then estimates the log-ratio whose mean is
    TC. Neither the model's gradient reaches D nor D's the model. The loss that is reported is the
    model's alone. One half of a batch is shuffled: with fewer than two events in that half, a batch
    of one or two, nothing would be, and D is not trained.

    Args:
        gamma: γ, at least 0.
        hidden: width of D's layers.
        layers: how many.

    Raises:
        InputError: if `gamma` is negative or not finite, or a count below 1.
    """

    couples_batch = True

    def __init__(self, gamma: float = 10.0, hidden: int = 1000, layers: int = 6):
        self.gamma = checked_weight("gamma", gamma)
        self.hidden = checked_count("hidden", hidden, most=MOST_UNITS)
        self.layers = checked_count("layers", layers, most=MOST_UNITS)

    def build(self, latent_dim: int, seed: int | None) -> None:
        """Build D, from z `[..., d]` to the logit of "z is from q(z)"."""
        if self.network is not None:
            if self.network.input_shape != (None, latent_dim):
                raise InputError(
                    f"FactorVAE already tells draws of {self.network.input_shape[-1]} dimensions "
                    f"apart, expected none or {latent_dim}: give each model an objective of its own"
                )
            return
        inputs = keras.Input((latent_dim,), name="z")
        x = inputs
        for number in range(self.layers):
            x = keras.layers.Dense(
                self.hidden,
                kernel_initializer=keras.initializers.HeNormal(
                    None if seed is None else seed + number
                ),
                dtype="float32",
            )(x)
            x = keras.layers.LeakyReLU(0.2, dtype="float32")(x)
        logit = keras.layers.Dense(1, kernel_initializer="zeros", dtype="float32")(x)
        self.network = keras.Model(inputs, logit, name="discriminator")

    def _logit(self, z: Tensor) -> Tensor:
        network: Any = self.network
        return network(z)[..., 0]

    def __call__(self, terms: Terms) -> Tensor:
        """Compute the loss of each event, `[B]`, nats; its gradient trains D too."""
        z = terms.z[0]
        total_correlation = gradient_through(self._logit, z)
        training = self._discriminator_loss(tf.stop_gradient(z), terms.seed)
        loss = -terms.elbo + self.gamma * total_correlation
        return loss + (training - tf.stop_gradient(training))

    def _discriminator_loss(self, z: Tensor, seed: Seed) -> Tensor:
        """Compute D's cross-entropy: one half of the batch as it is, the other shuffled."""
        half = tf.shape(z)[0] // 2
        real, other = z[:half], z[half:]
        order = tf.argsort(tf.random.stateless_uniform(tf.shape(other), seed), axis=0)
        shuffled = tf.transpose(tf.gather(tf.transpose(other), tf.transpose(order), batch_dims=1))
        # −log D of the real draws, and −log (1 − D) of the shuffled ones.
        surprise = (
            tf.math.softplus(-self._logit(real)),
            tf.math.softplus(self._logit(shuffled)),
        )
        # One draw comes out of the shuffle as it is, still a draw from q(z).
        is_shuffled = tf.cast(tf.shape(other)[0] > 1, tf.float32)
        return is_shuffled * 0.5 * tf.add_n([_mean_or_zero(values) for values in surprise])

    def get_config(self) -> Config:
        """Return the constructor's arguments."""
        return {"gamma": self.gamma, "hidden": self.hidden, "layers": self.layers}


def _mean_or_zero(values: Tensor) -> Tensor:
    """Compute the mean, 0 of no values."""
    count = tf.cast(tf.size(values), values.dtype)
    return tf.math.divide_no_nan(tf.reduce_sum(values), count)


def maximum_mean_discrepancy(a: Tensor, b: Tensor) -> Tensor:
    """Estimate the squared MMD of two samples, kernels inverse multiquadratic of several widths.

    ``mean_{i≠j} k(a_i, a_j) + mean_{i≠j} k(b_i, b_j) − 2 mean k(a_i, b_j)``, the unbiased estimate
    of Gretton et al. (2012), equation 3, with ``k(x, y) = Σ_s C/(C + ‖x − y‖²)``, C = 2 d s, of
    Tolstikhin et al. (2018), arXiv:1711.01558, section 4.

    The first two means are over pairs of independent draws, and from a single draw nothing without
    bias can be said of them: a sample of one has no estimate of the MMD. Leaving out its mean of
    pairs would not do, as what is left only draws the samples together.

    Args:
        a: `[n, d]`.
        b: `[m, d]`.

    Returns:
        A scalar; it may be slightly negative, and is 0 on average where both are of one
        distribution. Where n or m is below 2 it is 0 and has no gradient.
    """

    def kernel(x: Tensor, y: Tensor) -> Tensor:
        distance = tf.reduce_sum(tf.square(x[:, None] - y), axis=-1)
        widths = 2.0 * x.shape[-1] * tf.constant([0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0])
        return tf.reduce_sum(widths / (widths + distance[..., None]), axis=-1)

    def mean_of_pairs(x: Tensor) -> Tensor:
        count = tf.cast(tf.shape(x)[0], x.dtype)
        values = kernel(x, x)
        total = tf.reduce_sum(values) - tf.linalg.trace(values)
        return tf.math.divide_no_nan(total, count * (count - 1))

    estimate = mean_of_pairs(a) + mean_of_pairs(b) - 2 * tf.reduce_mean(kernel(a, b))
    has_pairs = (tf.shape(a)[0] > 1) & (tf.shape(b)[0] > 1)
    return tf.where(has_pairs, estimate, tf.zeros_like(estimate))


@keras.saving.register_keras_serializable(PACKAGE)
class InfoVAE(Objective):
    """loss(x) = −E_q[log p(x|z)] + (1 − α) KL(q(z|x) ‖ p(z)) + (α + λ − 1) MMD(q(z), p(z)).

    Zhao et al. (2019), arXiv:1706.02262, with the MMD for the divergence of the aggregate
    posterior; α = 1 is MMD-VAE. See `maximum_mean_discrepancy`. The MMD of a batch of one event
    cannot be estimated, and its term is left out.

    Args:
        alpha: α, at most 1.
        mmd_weight: λ, at least 1 − α.

    Raises:
        InputError: if a weight of the loss would be negative.
    """

    couples_batch = True

    def __init__(self, alpha: float = 0.0, mmd_weight: float = 1000.0):
        if not (is_number(alpha) and -math.inf < alpha <= 1):
            raise InputError(f"alpha is a number of at most 1; received {alpha!r}")
        if not (is_number(mmd_weight) and 1 - alpha <= mmd_weight < math.inf):
            raise InputError(
                f"mmd_weight is a number of at least 1 - alpha = {1 - alpha:g}; "
                f"received {mmd_weight!r}"
            )
        self.alpha = float(alpha)
        self.mmd_weight = float(mmd_weight)

    def __call__(self, terms: Terms) -> Tensor:
        """Compute the loss of each event, `[B]`, nats; the MMD of the batch is in each."""
        z = terms.z[0]
        # p(z|y) has a batch of its own already, a distribution for each event's label.
        count = () if terms.prior.batch_shape.rank else tf.shape(z)[:1]
        drawn = terms.prior.sample(count, seed=terms.seed)
        discrepancy = maximum_mean_discrepancy(z, drawn)
        kl = (1 - self.alpha) * terms.kl
        return -terms.mean_log_likelihood + kl + (self.alpha + self.mmd_weight - 1) * discrepancy

    def get_config(self) -> Config:
        """Return the constructor's arguments."""
        return {"alpha": self.alpha, "mmd_weight": self.mmd_weight}
