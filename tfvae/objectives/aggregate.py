"""Objectives of the aggregate posterior q(z) = (1/N) Σ_n q(z|x_n).

    E[KL(q(z|x) ‖ p(z))] = I(x; z) + TC(z) + Σ_j KL(q(z_j) ‖ p(z_j))

The total correlation TC(z) = KL(q(z) ‖ ∏_j q(z_j)) is what makes latent dimensions depend on each
other.
"""

import math
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from tfvae.checks import checked_count, checked_weight, is_number
from tfvae.distributions.family import PACKAGE
from tfvae.errors import InputError
from tfvae.objectives.base import Objective, Terms, gradient_through


class KLParts(NamedTuple):
    """The three parts of the KL and their estimates for each draw, each `[K, B]`, in nats.

    Attributes:
        mutual_information: log q(z|x) − log q(z): the mean is I(x; z), the index-code mutual
            information.
        total_correlation: log q(z) − Σ_j log q(z_j).
        dimension_wise_kl: Σ_j log q(z_j) − log p(z).
    """

    mutual_information: tf.Tensor
    total_correlation: tf.Tensor
    dimension_wise_kl: tf.Tensor


def decompose_kl(
    posterior: Any, prior: Any, z: tf.Tensor, dataset_size: int | tf.Tensor
) -> KLParts:
    """Split log q(z|x) − log p(z) at draws z, Chen et al. (2018), arXiv:1802.04942, equation 2.

    q(z_i) of a draw from image i of a batch is estimated as
    ``(1/N) q(z_i|x_i) + (1 − 1/N) mean_{j≠i} q(z_i|x_j)``: without bias where the others are drawn
    from the N images without replacement, as a shuffled epoch does, and exact where the batch is
    the data set. (Chen's appendix C.2 stratifies the same way, with unequal weights.)

    Args:
        posterior: q(z|x) of a batch, a `tfd.Independent` with batch `[B]` and event `[d]`.
        prior: p(z), with event `[d]`.
        z: draws from it, `[K, B, d]`.
        dataset_size: N, the images of the data set, at least B.

    Returns:
        The parts; they sum to log q(z|x) − log p(z).
    """
    # log q(z_i,j | x_n): [K, B, N', d], N' = B images each draw is held against.
    pairwise = posterior.distribution.log_prob(z[:, :, None, :])
    count = tf.shape(z)[1]
    size = tf.cast(dataset_size, tf.float32)
    own = tf.eye(count, dtype=tf.bool)
    others = tf.math.log1p(-1 / size) - tf.math.log(tf.cast(count, tf.float32) - 1)
    log_share = tf.where(own, -tf.math.log(size), others)  # [B, N'], summing to 1 over N'
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
    α = β = γ = 1 it is the negative ELBO, with the KL in closed form where there is one.

    Args:
        dataset_size: N, the training images; ``tfvae train`` fills it in.
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

    def check(self, posterior: Any, prior: Any) -> None:
        """Check that the posterior factorises."""
        super().check(posterior, prior)
        self._require_factors(posterior=posterior)

    def __call__(self, terms: Terms) -> tf.Tensor:
        """Give the loss of each image, `[B]`, nats."""
        parts = decompose_kl(terms.posterior, terms.prior, terms.z, self.dataset_size)
        # The weights beyond 1, for the rest is the KL, which may be known without noise.
        surplus = (
            (self.alpha - 1) * parts.mutual_information
            + (self.beta - 1) * parts.total_correlation
            + (self.gamma - 1) * parts.dimension_wise_kl
        )
        return -terms.elbo + tf.reduce_mean(surplus, axis=0)

    def get_config(self) -> dict[str, Any]:
        """Give the constructor's arguments."""
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
    model's alone.

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
        self.hidden = checked_count("hidden", hidden)
        self.layers = checked_count("layers", layers)

    def build(self, latent_dim: int, seed: int | None) -> None:
        """Make D, from z `[..., d]` to the logit of "z is from q(z)"."""
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

    def _logit(self, z: tf.Tensor) -> tf.Tensor:
        return self.network(z)[..., 0]

    def __call__(self, terms: Terms) -> tf.Tensor:
        """Give the loss of each image, `[B]`, nats; its gradient trains D too."""
        z = terms.z[0]
        total_correlation = gradient_through(self._logit, z)
        training = self._discriminator_loss(tf.stop_gradient(z), terms.seed)
        loss = -terms.elbo + self.gamma * total_correlation
        return loss + (training - tf.stop_gradient(training))

    def _discriminator_loss(self, z: tf.Tensor, seed: Any) -> tf.Tensor:
        """Cross-entropy of D: one half of the batch as it is, the other half shuffled."""
        half = tf.shape(z)[0] // 2
        real, other = z[:half], z[half:]
        order = tf.argsort(tf.random.stateless_uniform(tf.shape(other), seed), axis=0)
        shuffled = tf.transpose(tf.gather(tf.transpose(other), tf.transpose(order), batch_dims=1))
        # −log D of the real ones and −log (1 − D) of the others; a batch of one has no real ones.
        surprise = (
            tf.math.softplus(-self._logit(real)),
            tf.math.softplus(self._logit(shuffled)),
        )
        return 0.5 * tf.add_n(
            [
                tf.math.divide_no_nan(tf.reduce_sum(s), tf.cast(tf.size(s), s.dtype))
                for s in surprise
            ]
        )

    def get_config(self) -> dict[str, Any]:
        """Give the constructor's arguments."""
        return {"gamma": self.gamma, "hidden": self.hidden, "layers": self.layers}


def maximum_mean_discrepancy(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """Squared MMD of two samples with inverse multiquadratic kernels of several widths.

    ``mean_{i≠j} k(a_i, a_j) + mean_{i≠j} k(b_i, b_j) − 2 mean k(a_i, b_j)``, the unbiased estimate
    of Gretton et al. (2012), equation 3, with ``k(x, y) = Σ_s C/(C + ‖x − y‖²)``, C = 2 d s, of
    Tolstikhin et al. (2018), arXiv:1711.01558, section 4.

    Args:
        a: `[n, d]`, n at least 2.
        b: `[m, d]`, m at least 2.

    Returns:
        A scalar; it may be slightly negative, and is 0 on average where both are of one
        distribution.
    """

    def kernel(x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        distance = tf.reduce_sum(tf.square(x[:, None] - y), axis=-1)
        widths = 2.0 * x.shape[-1] * tf.constant([0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0])
        return tf.reduce_sum(widths / (widths + distance[..., None]), axis=-1)

    def mean_of_pairs(x: tf.Tensor) -> tf.Tensor:
        count = tf.cast(tf.shape(x)[0], x.dtype)
        values = kernel(x, x)
        total = tf.reduce_sum(values) - tf.linalg.trace(values)
        return tf.math.divide_no_nan(total, count * (count - 1))

    return mean_of_pairs(a) + mean_of_pairs(b) - 2 * tf.reduce_mean(kernel(a, b))


@keras.saving.register_keras_serializable(PACKAGE)
class InfoVAE(Objective):
    """loss(x) = −E_q[log p(x|z)] + (1 − α) KL(q(z|x) ‖ p(z)) + (α + λ − 1) MMD(q(z), p(z)).

    Zhao et al. (2019), arXiv:1706.02262, with the MMD for the divergence of the aggregate
    posterior; α = 1 is MMD-VAE. See `maximum_mean_discrepancy`.

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

    def __call__(self, terms: Terms) -> tf.Tensor:
        """Give the loss of each image, `[B]`, nats; the MMD of the batch is in each."""
        z = terms.z[0]
        # p(z|y) has the batch already, a draw for each image's label.
        count = () if terms.prior.batch_shape.rank else tf.shape(z)[:1]
        drawn = terms.prior.sample(count, seed=terms.seed)
        discrepancy = maximum_mean_discrepancy(z, drawn)
        kl = (1 - self.alpha) * terms.kl
        return -terms.mean_log_likelihood + kl + (self.alpha + self.mmd_weight - 1) * discrepancy

    def get_config(self) -> dict[str, Any]:
        """Give the constructor's arguments."""
        return {"alpha": self.alpha, "mmd_weight": self.mmd_weight}
