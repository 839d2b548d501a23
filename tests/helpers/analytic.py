"""Exact references in float64 NumPy, for the tests to compare with.

The linear-Gaussian model is the one latent-variable model of images whose marginal likelihood,
posterior and ELBO are all known in closed form (probabilistic PCA, Tipping and Bishop 1999).
"""

import dataclasses

import numpy as np
from scipy import special, stats


def gaussian_kl(loc, log_var, prior_loc=0.0, prior_log_var=0.0):
    """KL(N(loc, exp log_var) ‖ N(prior_loc, exp prior_log_var)), element by element.

    ``½ [exp(λ) − 1 − λ + (μ − m)² exp(−λ_p)]`` with ``λ = log_var − λ_p``.
    """
    loc, log_var = np.asarray(loc, np.float64), np.asarray(log_var, np.float64)
    ratio = log_var - np.asarray(prior_log_var, np.float64)
    distance = np.square(loc - prior_loc) * np.exp(-np.asarray(prior_log_var, np.float64))
    return 0.5 * (_expm1_minus(ratio) + distance)


def _expm1_minus(x):
    """exp(x) − 1 − x, by its series where subtraction would cancel: ``Σ_{n≥2} xⁿ / n!``."""
    near = np.where(np.abs(x) < 1e-2, x, 0.0)
    series = near**2 * (1 / 2 + near * (1 / 6 + near * (1 / 24 + near * (1 / 120 + near / 720))))
    return np.where(np.abs(x) < 1e-2, series, np.expm1(x) - x)


def full_gaussian_kl(loc, covariance, other_loc, other_covariance):
    """KL(N(μ, S) ‖ N(m, T)) of d-dimensional Gaussians with full covariances.

    ``½ [tr(T⁻¹ S) + (m − μ)ᵀ T⁻¹ (m − μ) − d + log det T − log det S]``.
    """
    distance = np.asarray(other_loc) - np.asarray(loc)
    precision = np.linalg.inv(other_covariance)
    return 0.5 * (
        np.trace(precision @ covariance)
        + distance @ precision @ distance
        - len(distance)
        + np.linalg.slogdet(other_covariance)[1]
        - np.linalg.slogdet(covariance)[1]
    )


@dataclasses.dataclass(frozen=True)
class LinearGaussian:
    """x = W z + b + σ ε with z ~ N(0, I) in d dimensions and ε ~ N(0, I) in D.

    Attributes:
        weights: W, `[D, d]`.
        offset: b, `[D]`.
        sigma: σ, positive.
    """

    weights: np.ndarray
    offset: np.ndarray
    sigma: float

    def log_marginal(self, x):
        """log p(x) = log N(x; b, W Wᵀ + σ² I), for `x` `[..., D]`."""
        return stats.multivariate_normal(self.offset, self.covariance()).logpdf(x)

    def precision(self):
        """Λ = I + Wᵀ W / σ² of p(z|x), the same for every x: `[d, d]`."""
        return np.eye(self.weights.shape[1]) + self.weights.T @ self.weights / self.sigma**2

    def posterior_covariance(self):
        """S = Λ⁻¹ of p(z|x), the same for every x: `[d, d]`."""
        return np.linalg.inv(self.precision())

    def posterior_weights(self):
        """A = S Wᵀ / σ², `[d, D]`: the mean of p(z|x) is A (x − b)."""
        return self.posterior_covariance() @ self.weights.T / self.sigma**2

    def posterior_mean(self, x):
        """S Wᵀ (x − b) / σ², the mean of p(z|x), for `x` `[..., D]`."""
        return (x - self.offset) @ self.posterior_weights().T

    def covariance(self):
        """W Wᵀ + σ² I of p(x), `[D, D]`."""
        return self.weights @ self.weights.T + self.sigma**2 * np.eye(len(self.offset))

    def observed_log_marginal(self, x):
        """log p of the values of one `x` `[D]` that are not NaN."""
        seen = np.flatnonzero(~np.isnan(x))
        if not len(seen):
            return 0.0
        block = self.covariance()[np.ix_(seen, seen)]
        return stats.multivariate_normal(self.offset[seen], block).logpdf(x[seen])

    def observed_posterior(self, x):
        """Mean `[d]` and covariance `[d, d]` of z given the values of one `x` that are not NaN."""
        seen = np.flatnonzero(~np.isnan(x))
        weights = self.weights[seen]
        precision = np.eye(weights.shape[1]) + weights.T @ weights / self.sigma**2
        covariance = np.linalg.inv(precision)
        return covariance @ weights.T @ (x[seen] - self.offset[seen]) / self.sigma**2, covariance

    def missing_given_observed(self, x):
        """Mean and covariance of the NaN values of one `x` given the others.

        With z given x_o ~ N(m, S): b_m + W_m m, and W_m S W_mᵀ + σ² I.
        """
        hidden = np.flatnonzero(np.isnan(x))
        mean, covariance = self.observed_posterior(x)
        weights = self.weights[hidden]
        spread = weights @ covariance @ weights.T + self.sigma**2 * np.eye(len(hidden))
        return self.offset[hidden] + weights @ mean, spread

    def expected_log_likelihood(self, x, mean, variance):
        """E_q[log p(x|z)] under q = N(m, diag v).

        ``−½ D log(2πσ²) − [‖x − b − W m‖² + Σ_j v_j ‖w_j‖²] / (2σ²)``, w_j the columns of W.
        """
        residual = x - self.offset - mean @ self.weights.T
        spread = variance @ np.square(self.weights).sum(axis=0)
        constant = -0.5 * len(self.offset) * np.log(2 * np.pi * self.sigma**2)
        return constant - 0.5 * (np.square(residual).sum(-1) + spread) / self.sigma**2

    def elbo(self, x, mean, variance):
        """E_q[log p(x|z)] − KL(q ‖ N(0, I)) under q = N(m, diag v), for `x` `[..., D]`."""
        kl = gaussian_kl(mean, np.log(variance)).sum(-1)
        return self.expected_log_likelihood(x, mean, variance) - kl

    def elbo_gradient(self, x, mean, variance):
        """The gradient of `elbo` by m and by log v, for one `x` `[D]`.

        ``∂/∂m = Wᵀ (x − b − W m)/σ² − m`` and ``∂/∂log v_j = ½ (1 − v_j (1 + ‖w_j‖²/σ²))``.
        """
        residual = x - self.offset - self.weights @ mean
        precision = 1 + np.square(self.weights).sum(axis=0) / self.sigma**2
        return self.weights.T @ residual / self.sigma**2 - mean, 0.5 * (1 - variance * precision)


# --- likelihoods: log p(x|z) of each pixel and channel, by the name of the class ------------------


def bernoulli_log_prob(x, logits):
    """``x log p + (1 − x) log(1 − p)`` with p = 1/(1 + exp(−logits)), which never overflows here.

    ``log p = −log(1 + exp(−logits))``.
    """
    logits = np.asarray(logits, np.float64)
    return -x * np.logaddexp(0, -logits) - (1 - x) * np.logaddexp(0, logits)


def normal_log_prob(x, loc, scale):
    """``−½ ((x − μ)/σ)² − log σ − ½ log 2π``."""
    standardised = (x - np.asarray(loc, np.float64)) / scale
    return -0.5 * standardised**2 - np.log(scale) - 0.5 * np.log(2 * np.pi)


def laplace_log_prob(x, loc, scale):
    """``−|x − μ|/b − log 2b``."""
    # SciPy's takes the logarithm of the density, which is 0 far out.
    return -np.abs(x - np.asarray(loc, np.float64)) / scale - np.log(2 * scale)


def logistic_log_prob(x, loc, scale):
    """``−|y| − 2 log(1 + exp(−|y|)) − log s`` with y = (x − μ)/s, which is even in y."""
    distance = np.abs(x - np.asarray(loc, np.float64)) / scale
    return -distance - 2 * np.log1p(np.exp(-distance)) - np.log(scale)


def student_t_log_prob(x, loc, scale, df):
    """``log Γ((ν+1)/2) − log Γ(ν/2) − ½ log πν − log s − ½ (ν+1) log(1 + y²/ν)``."""
    squared = np.square((x - np.asarray(loc, np.float64)) / scale)
    constant = special.gammaln((df + 1) / 2) - special.gammaln(df / 2) - 0.5 * np.log(np.pi * df)
    return constant - np.log(scale) - 0.5 * (df + 1) * np.log1p(squared / df)


def continuous_bernoulli_log_prob(x, logits):
    """``l x − log ∫₀¹ exp(l u) du``: the exponential family on [0, 1] with mean parameter x.

    ``∫₀¹ exp(l u) du = (exp(l) − 1)/l``.
    """
    logits = np.asarray(logits, np.float64)
    size = np.abs(logits)
    safe = np.where(size > 1e-4, size, 1.0)
    # log((1 − exp(−|l|))/|l|), by its series near 0; the rest of the integral is exp(max(l, 0)).
    log_integral = np.where(
        size > 1e-4, np.log(-np.expm1(-safe)) - np.log(safe), -size / 2 + size**2 / 24
    )
    return logits * x - np.maximum(logits, 0) - log_integral


def beta_log_prob(x, concentration1, concentration0, margin):
    """The density of x whose u = (x + m)/(1 + 2m) is Beta(a, b)."""
    u = (x + margin) / (1 + 2 * margin)
    density = (concentration1 - 1) * np.log(u) + (concentration0 - 1) * np.log1p(-u)
    return density - special.betaln(concentration1, concentration0) - np.log(1 + 2 * margin)


def discretized_logistic_log_prob(x, loc, scale, levels, high=1.0):
    """``log[F(x + ½ step) − F(x − ½ step)]``, F = −∞ or ∞ beyond the ends; all in units of x.

    The logistic is symmetric: the bin is reflected to the left, where F has relative precision.
    """
    step = high / (levels - 1)
    k = np.round(x / step)
    loc, scale = np.asarray(loc, np.float64), np.asarray(scale, np.float64)
    lower = np.where(k == 0, -np.inf, ((k - 0.5) * step - loc) / scale)
    upper = np.where(k == levels - 1, np.inf, ((k + 0.5) * step - loc) / scale)
    reflect = lower + upper > 0
    lower, upper = np.where(reflect, -upper, lower), np.where(reflect, -lower, upper)
    log_lower, log_upper = special.log_expit(lower), special.log_expit(upper)
    return log_upper + np.log1p(-np.exp(log_lower - log_upper))


def discretized_logistic_mixture_log_prob(x, loc, scale, logits, levels, high=1.0):
    """``log Σ_k π_k P_k(x)``, the components along the first axis of `loc`, `scale`, `logits`."""
    weights = special.log_softmax(np.asarray(logits, np.float64), axis=0)
    components = discretized_logistic_log_prob(x, loc, scale, levels, high)
    return special.logsumexp(weights + components, axis=0)


def categorical_log_prob(x, logits, high=1.0):
    """log of the softmax of the logits at the level of x, the levels along their first axis."""
    level = np.round(np.asarray(x) / high * (len(logits) - 1)).astype(int)
    log_probs = special.log_softmax(np.asarray(logits, np.float64), axis=0)
    level = np.broadcast_to(level, np.broadcast_shapes(level.shape, log_probs.shape[1:]))
    return np.take_along_axis(
        np.broadcast_to(log_probs, (len(logits), *level.shape)), level[None], 0
    )[0]


def poisson_log_prob(x, rate, step=1.0):
    """``n log λ − λ − log n!`` with n = x/step."""
    n = np.round(x / step)
    return special.xlogy(n, rate) - rate - special.gammaln(n + 1)


def negative_binomial_log_prob(x, mean, dispersion, step=1.0):
    """``log Γ(n+r)/(n! Γ(r)) + r log(r/(r+m)) + n log(m/(r+m))`` with r = 1/α and n = x/step."""
    n, r = np.round(x / step), 1 / np.asarray(dispersion, np.float64)
    choices = special.gammaln(n + r) - special.gammaln(n + 1) - special.gammaln(r)
    return choices - r * np.log1p(mean / r) + special.xlogy(n, mean / (r + mean))


LOG_PROBS = {
    "Bernoulli": bernoulli_log_prob,
    "Normal": normal_log_prob,
    "Laplace": laplace_log_prob,
    "Logistic": logistic_log_prob,
    "StudentT": student_t_log_prob,
    "ContinuousBernoulli": continuous_bernoulli_log_prob,
    "Beta": beta_log_prob,
    "DiscretizedLogistic": discretized_logistic_log_prob,
    "DiscretizedLogisticMixture": discretized_logistic_mixture_log_prob,
    "Categorical": categorical_log_prob,
    "Poisson": poisson_log_prob,
    "NegativeBinomial": negative_binomial_log_prob,
}
