"""A hierarchy of two groups that is linear and Gaussian throughout, and so is known exactly.

z_1 ~ N(0, 1); z_2|z_1 ~ N(A z_1 + a, diag s) in two dimensions; x|z ~ N(W (z_1, z_2) + b, σ² I) in
four. The columns of W that z_2 has are at right angles, so that p(z_2|z_1, x) is diagonal.
"""

import dataclasses

import analytic
import keras
import numpy as np
import tensorflow as tf
from scipy import stats

from tfvae import HierarchicalVAE
from tfvae.likelihoods import Normal
from tfvae.models import TopDown

D, FIRST, SECOND = 4, 1, 2
SIGMA = 0.6


def rounded(values):
    # Numbers that float32 holds: the model's layers then compute with the very same.
    return np.asarray(values, np.float32).astype(np.float64)


@dataclasses.dataclass(frozen=True)
class Q:
    """q(z_1|x) = N(M x + m, v), and q(z_2|z_1, x) = N(A z_1 + a + C (z_1, x) + c, s exp r)."""

    gain: np.ndarray  # M, [1, 4]
    offset: np.ndarray  # m, [1]
    log_var: np.ndarray  # log v, [1]
    delta: np.ndarray  # C, [2, 5]
    shift: np.ndarray  # c, [2]
    log_ratio: np.ndarray  # r, [2]


class Linear:
    def __init__(self, rng):
        self.slope = rounded(rng.normal(size=(SECOND, FIRST)))  # A
        self.start = rounded(rng.normal(size=SECOND))  # a
        self.log_var = rounded(rng.normal(size=SECOND) * 0.5)  # log s
        columns = np.linalg.qr(rng.normal(size=(D, SECOND)))[0] * np.array([1.1, 0.7])
        self.weights = rounded(np.concatenate([rng.normal(size=(D, FIRST)), columns], axis=1))
        self.offset = rounded(rng.normal(size=D))  # b
        self.rng = rng

    # --- p ----------------------------------------------------------------------------------------

    def prior(self):
        """Mean and covariance of p(z)."""
        below = self.slope @ self.slope.T + np.diag(np.exp(self.log_var))
        covariance = np.block([[np.eye(FIRST), self.slope.T], [self.slope, below]])
        return np.concatenate([np.zeros(FIRST), self.start]), covariance

    def covariance(self):
        """That of p(x)."""
        return self.weights @ self.prior()[1] @ self.weights.T + SIGMA**2 * np.eye(D)

    def covariance_of_means_given_first(self):
        """That of W (z_1, A z_1 + a) + b."""
        column = self.weights[:, :FIRST] + self.weights[:, FIRST:] @ self.slope
        return column @ column.T

    def events(self, count):
        mean, covariance = self.prior()
        z = self.rng.multivariate_normal(mean, covariance, count)
        x = z @ self.weights.T + self.offset + SIGMA * self.rng.standard_normal((count, D))
        return x.astype(np.float32)

    def log_marginal(self, x):
        mean = self.weights @ self.prior()[0] + self.offset
        return stats.multivariate_normal(mean, self.covariance()).logpdf(x)

    def log_prior(self, z):
        return stats.multivariate_normal(*self.prior()).logpdf(z)

    def posterior(self, x):
        """Means `[N, 3]` and the covariance of p(z|x)."""
        mean, covariance = self.prior()
        precision = np.linalg.inv(covariance)
        found = np.linalg.inv(precision + self.weights.T @ self.weights / SIGMA**2)
        pull = precision @ mean + (x - self.offset) @ self.weights / SIGMA**2
        return pull @ found, found

    # --- q ----------------------------------------------------------------------------------------

    def joint(self, q, x):
        """Means `[N, 3]` and the covariance of q(z|x)."""
        first = x @ q.gain.T + q.offset
        slope = self.slope + q.delta[:, :FIRST]
        second = first @ slope.T + self.start + x @ q.delta[:, FIRST:].T + q.shift
        v = np.diag(np.exp(q.log_var))
        below = slope @ v @ slope.T + np.diag(np.exp(self.log_var + q.log_ratio))
        covariance = np.block([[v, v @ slope.T], [slope @ v, below]])
        return np.concatenate([first, second], axis=1), covariance

    def log_posterior(self, q, x, z):
        means, covariance = self.joint(q, x)
        return stats.multivariate_normal(np.zeros(3), covariance).logpdf(z - means)

    def kl_of_joint(self, q, x):
        """KL(q(z|x) ‖ p(z|x)) of each event."""
        means, covariance = self.joint(q, x)
        others, other = self.posterior(x)
        return np.array(
            [
                analytic.full_gaussian_kl(one, covariance, two, other)
                for one, two in zip(means, others, strict=True)
            ]
        )

    def kl_by_group(self, q, x):
        """KL of each group, that of the second in expectation over q(z_1|x): `[N, 2]`."""
        first = x @ q.gain.T + q.offset
        top = analytic.gaussian_kl(first, q.log_var).sum(-1)
        delta = first @ q.delta[:, :FIRST].T + x @ q.delta[:, FIRST:].T + q.shift
        squared = delta**2 + np.exp(q.log_var) * q.delta[:, 0] ** 2
        below = analytic.gaussian_kl(0.0, q.log_ratio) + 0.5 * squared * np.exp(-self.log_var)
        return np.stack([top, below.sum(-1)], axis=1)

    def elbo_gradient(self, q, x):
        """By the kernels and biases of `posterior_weights`, the mean over events."""
        weights = [tf.Variable(one, dtype=tf.float64) for one in matrices(q)]
        nodes, mass = np.polynomial.hermite_e.hermegauss(40)
        x = tf.constant(x, tf.float64)
        with tf.GradientTape() as tape:
            loc, log_var = tf.split(x @ weights[0] + weights[1], 2, axis=1)
            kl = 0.5 * tf.reduce_sum(tf.exp(log_var) - 1 - log_var + loc**2, axis=1)
            total = tf.zeros(len(x), tf.float64)
            for node, share in zip(nodes, mass / mass.sum(), strict=True):
                z1 = loc + tf.exp(0.5 * log_var) * node
                raw = tf.concat([z1, x], axis=1) @ weights[2] + weights[3]
                delta, ratio = tf.split(raw, 2, axis=1)
                z2 = z1 @ self.slope.T + self.start + delta
                variance = np.exp(self.log_var) * tf.exp(ratio)
                mean = tf.concat([z1, z2], axis=1) @ self.weights.T + self.offset
                spread = variance @ np.square(self.weights[:, FIRST:]).sum(0)[:, None]
                error = tf.reduce_sum((x - mean) ** 2, axis=1) + spread[:, 0]
                below = tf.exp(ratio) - 1 - ratio + delta**2 * np.exp(-self.log_var)
                value = -0.5 * error / SIGMA**2 - 0.5 * tf.reduce_sum(below, axis=1)
                total += share * value
            elbo = tf.reduce_mean(total - kl)
        return tape.gradient(elbo, weights)


def exact(linear):
    """The exact posterior."""
    _, covariance = linear.posterior(np.zeros((1, D)))
    zero = linear.posterior(np.zeros((1, D)))[0][0]
    gain = np.stack([linear.posterior(row[None])[0][0] - zero for row in np.eye(D)], axis=1)
    precision = np.linalg.inv(covariance)
    below = np.linalg.inv(precision[FIRST:, FIRST:])
    # E[z_2|z_1, x] = m_2 − Λ_22⁻¹ Λ_21 (z_1 − m_1)
    pull = -below @ precision[FIRST:, :FIRST]
    by_x = gain[FIRST:] - pull @ gain[:FIRST]
    return Q(
        gain=gain[:FIRST],
        offset=zero[:FIRST],
        log_var=np.log(np.diag(covariance)[:FIRST]),
        delta=np.concatenate([pull - linear.slope, by_x], axis=1),
        shift=zero[FIRST:] - pull @ zero[:FIRST] - linear.start,
        log_ratio=np.log(np.diag(below)) - linear.log_var,
    )


def loose(linear):
    """Another posterior, wider than the exact one and off it."""
    q = exact(linear)
    return Q(
        gain=rounded(0.8 * q.gain),
        offset=rounded(q.offset + 0.1),
        log_var=rounded(q.log_var + 0.4),
        delta=rounded(0.9 * q.delta),
        shift=rounded(q.shift - 0.1),
        log_ratio=rounded(q.log_ratio + 0.3),
    )


def matrices(q):
    """Kernel and bias that make q(z_1|x) of x, and those that make q(z_2|z_1, x) of (z_1, x)."""
    zeros = np.zeros_like
    return [
        np.concatenate([q.gain, zeros(q.gain)]).T,
        np.concatenate([q.offset, q.log_var]),
        np.concatenate([q.delta, zeros(q.delta)]).T,
        np.concatenate([q.shift, q.log_ratio]),
    ]


def posterior_weights(vae):
    top, below = vae.posterior_family.of_top().head, vae.decoder.posterior_heads[0].linear
    return [top.kernel, top.bias, below.kernel, below.bias]


def linear_hierarchy(linear, q, **kwargs):
    """The model with a posterior, on networks written by hand."""
    x = keras.Input((D,))
    encoder = keras.Model(x, [keras.layers.Identity()(x), keras.layers.Identity()(x)])
    z1, s2, z2 = keras.Input((FIRST,)), keras.Input((FIRST,)), keras.Input((SECOND,))
    first = keras.Model(z1, keras.layers.Identity()(z1))
    last = keras.layers.Dense(D)
    second = keras.Model([s2, z2], last(keras.layers.Concatenate()([s2, z2])))
    last.set_weights([linear.weights.T, linear.offset])
    likelihood = Normal(scale=SIGMA, decoder_output="parameters")
    vae = HierarchicalVAE(encoder, TopDown([first, second]), likelihood=likelihood, **kwargs)
    below = vae.decoder.prior_heads[0].linear
    slope = np.concatenate([linear.slope, np.zeros_like(linear.slope)]).T
    below.set_weights([slope, np.concatenate([linear.start, linear.log_var])])
    for weight, value in zip(posterior_weights(vae), matrices(q), strict=True):
        weight.assign(value)
    return vae
