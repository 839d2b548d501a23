# ---
# jupyter:
#   jupytext:
#     text_representation: {extension: .py, format_name: percent}
# ---

# %% [markdown]
# # 3. The KL of two Gaussians
#
# The ELBO has two terms. The second one, $\mathrm{KL}(q(z \mid x) \Vert p(z))$, is a short formula
# when both densities are Gaussian. Then no draws are needed, there is no noise, and the gradients
# are exact. This notebook derives the formula in $d$ dimensions, looks at what it does, and asks
# why the encoder puts out $\log \sigma^2$ and not $\sigma$. It ends with what becomes of a model
# when a factor in front of the KL is wrong. Symbols are those of the table in notebook 2.
#
# ## Learning goals
#
# - Derive $\frac{1}{2} \sum_i (\sigma_i^2 + \mu_i^2 - 1 - \log \sigma_i^2)$, from the determinant
#   and the quadratic forms of a Gaussian, and say what each term does.
# - Check a closed form in three ways: a library, quadrature, and draws within their error.
# - Say which independence is assumed of the latent variables, and which is not.
# - See why the network puts out the log-variance: sign, range, gradients, digits.
# - See in numbers what a doubled KL and a mean in the place of a sum do to a model.

# %%
import keras
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf
from scipy.integrate import quad
from scipy.optimize import minimize
from scipy.stats import multivariate_normal
from tensorflow_probability import distributions as tfd

import tfvae

rng = np.random.default_rng(0)
keras.utils.set_random_seed(0)


def show(name, **values):
    """Print numbers side by side."""
    print(f"{name:36}", "   ".join(f"{key} {value:11.6f}" for key, value in values.items()))


# %% [markdown]
# ### Exercise 1: derive it yourself
#
# Given are the prior $p(z) = N(0, I)$ and an encoder's $q(z \mid x) = N(\mu, \Sigma)$ with a
# diagonal $\Sigma$, both in $d$ dimensions. Write down
# $\mathrm{KL}(q \Vert p) = \mathbb{E}_q[\log q(z) - \log p(z)]$ and find a formula without an
# expectation in it. Two facts are enough: $\mathbb{E}[z_i^2] = \Sigma_{ii} + \mu_i^2$, and the
# determinant of a diagonal matrix is the product of its diagonal. The solution follows as text,
# line by line.

# %%
# Your answer: a function my_kl(mu, variances) of two arrays [d] that returns nats.
my_kl = None


# %%
def check_kl(kl):
    """Check an answer on random Gaussians, against TFP."""
    if kl is None:
        print("exercise 1: no answer yet")
        return
    draws = np.random.default_rng(1)
    for size in (1, 2, 7):
        mu, variances = draws.normal(size=size), np.exp(draws.normal(size=size))
        q = tfd.MultivariateNormalDiag(mu, np.sqrt(variances))
        p = tfd.MultivariateNormalDiag(np.zeros(size), np.ones(size))
        right = tfd.kl_divergence(q, p).numpy()
        found = kl(mu, variances)
        assert np.allclose(found, right), f"d = {size}: {found:.6f} in the place of {right:.6f}"
    print("exercise 1: right")


check_kl(my_kl)

# %% [markdown]
# <details><summary>Solution</summary>
#
# It is $(3.10)$ below: half the sum over the dimensions of variance plus squared mean, minus one,
# minus the logarithm of the variance. For $\mu = (1, 0)$ and variances $(1, 0.25)$ it is
# $\frac{1}{2} (1 + 0) + \frac{1}{2} (0.25 - 1 + 1.386) = 0.818$ nats.
#
# ```python
# def my_kl(mu, variances):
#     return 0.5 * np.sum(variances + mu**2 - 1 - np.log(variances))
#
#
# check_kl(my_kl)
# assert abs(my_kl(np.array([1.0, 0.0]), np.array([1.0, 0.25])) - 0.818) < 0.0005
# ```
# </details>
#
# ## The derivation in d dimensions
#
# Let $z \in \mathbb{R}^d$. The density of $N(\mu, \Sigma)$ is
# $(2 \pi)^{-d/2} |\Sigma|^{-1/2} e^{-\frac{1}{2} (z - \mu)^\top \Sigma^{-1} (z - \mu)}$: a
# constant, the determinant $|\Sigma|$, which says how much room the density takes, and a quadratic
# form, which says how far $z$ is from $\mu$ in units of $\Sigma$. For the prior, $\mu = 0$ and
# $\Sigma = I$. Put both into the KL:
#
# $$\mathrm{KL}(N(\mu, \Sigma) \Vert N(0, I)) = \mathbb{E}_{q}\left[\log
# \frac{(2 \pi)^{-\frac{d}{2}} |\Sigma|^{-\frac{1}{2}}
# e^{-\frac{1}{2} (z - \mu)^\top \Sigma^{-1} (z - \mu)}}
# {(2 \pi)^{-\frac{d}{2}} e^{-\frac{1}{2} z^\top z}}\right] . \tag{3.1}$$
#
# The factors $(2 \pi)^{-d/2}$ cancel, and the logarithm takes the exponents down:
#
# $$= \mathbb{E}_{q}\left[-\frac{1}{2} \log |\Sigma|
# - \frac{1}{2} (z - \mu)^\top \Sigma^{-1} (z - \mu) + \frac{1}{2} z^\top z\right] . \tag{3.2}$$
#
# $\log |\Sigma|$ does not depend on $z$. Multiply the first quadratic form out ($\Sigma^{-1}$ is
# symmetric, so its two mixed terms are equal):
#
# $$= -\frac{1}{2} \log |\Sigma| - \frac{1}{2} \mathbb{E}_{q}\left[z^\top \Sigma^{-1} z
# - 2 z^\top \Sigma^{-1} \mu + \mu^\top \Sigma^{-1} \mu - z^\top z\right] . \tag{3.3}$$
#
# The third term is a constant, and the second is linear in $z$, so only the mean of $z$ is needed:
#
# $$= -\frac{1}{2} \log |\Sigma| - \frac{1}{2} \mu^\top \Sigma^{-1} \mu
# + \mathbb{E}_{q}[z]^\top \Sigma^{-1} \mu
# - \frac{1}{2} \mathbb{E}_{q}\left[z^\top \Sigma^{-1} z - z^\top z\right] . \tag{3.4}$$
#
# Nothing has been said of $\Sigma$ so far; it may be any covariance. The cell takes a full one with
# $d = 3$. Expectations are computed by Gauss-Hermite quadrature, which is exact for polynomials in
# $z$, and nothing else is in the brackets.

# %%
d = 3
mu = np.array([0.5, -1.0, 0.2])
factor = np.array([[0.9, 0.0, 0.0], [0.4, 0.6, 0.0], [-0.3, 0.5, 1.2]])
full = factor @ factor.T  # a covariance that is not diagonal
nodes, weights = np.polynomial.hermite_e.hermegauss(5)
eps = np.stack(np.meshgrid(nodes, nodes, nodes, indexing="ij"), -1).reshape(-1, d)
mass = np.prod(np.meshgrid(weights, weights, weights, indexing="ij"), axis=0).ravel()
mass /= mass.sum()


def mean_over(sigma, function):
    """E[function(z)] with z from N(mu, sigma), by quadrature; function takes [K, d]."""
    return mass @ function(mu + eps @ np.linalg.cholesky(sigma).T)


def form(a, z, b):
    """The quadratic form zᵀ a b of every row."""
    return np.einsum("ki,ij,kj->k", z, a, np.broadcast_to(b, z.shape))


def lines(sigma):
    """The right-hand sides of (3.1) to (3.4)."""
    inverse, log_det = np.linalg.inv(sigma), np.linalg.slogdet(sigma)[1]
    q, p = multivariate_normal(mu, sigma), multivariate_normal(np.zeros(d), np.eye(d))
    one = mean_over(sigma, lambda z: np.log(q.pdf(z) / p.pdf(z)))
    two = mean_over(
        sigma,
        lambda z: -0.5 * log_det - 0.5 * form(inverse, z - mu, z - mu) + 0.5 * np.sum(z**2, 1),
    )
    three = -0.5 * log_det - 0.5 * mean_over(
        sigma,
        lambda z: (
            form(inverse, z, z) - 2 * form(inverse, z, mu) + mu @ inverse @ mu - np.sum(z**2, 1)
        ),
    )
    mean = np.array([mean_over(sigma, lambda z, i=i: z[:, i]) for i in range(d)])
    quadratic = mean_over(sigma, lambda z: form(inverse, z, z) - np.sum(z**2, 1))
    four = -0.5 * log_det - 0.5 * mu @ inverse @ mu + mean @ inverse @ mu - 0.5 * quadratic
    return one, two, three, four


def by_tfp(sigma):
    q = tfd.MultivariateNormalTriL(mu, np.linalg.cholesky(sigma))
    return tfd.kl_divergence(q, tfd.MultivariateNormalTriL(np.zeros(d), np.eye(d))).numpy()


for number, value in enumerate(lines(full), start=1):
    show(f"full covariance, line (3.{number})", KL=value, by_TFP=by_tfp(full))
np.testing.assert_allclose(lines(full), by_tfp(full), rtol=1e-9)  # (3.1), (3.2), (3.3), (3.4)

# %% [markdown]
# For any matrix $A$, $\mathbb{E}[z^\top A z] = \mathrm{tr}(A \Sigma) + \mu^\top A \mu$. With
# $A = \Sigma^{-1}$ and with $A = I$, and $\mathbb{E}[z] = \mu$, $(3.4)$ becomes the formula for a
# full covariance:
#
# $$\mathrm{KL}(N(\mu, \Sigma) \Vert N(0, I))
# = \frac{1}{2} \left[\mathrm{tr} \Sigma + \mu^\top \mu - d - \log |\Sigma|\right] . \tag{3.5}$$

# %%
for name, a in (("the inverse of Σ", np.linalg.inv(full)), ("I", np.eye(d))):
    by_nodes = mean_over(full, lambda z, a=a: form(a, z, z))
    formula = np.trace(a @ full) + mu @ a @ mu
    show(f"E[zᵀAz], A = {name}", quadrature=by_nodes, formula=formula)
    np.testing.assert_allclose(by_nodes, formula, rtol=1e-9)
closed = 0.5 * (np.trace(full) + mu @ mu - d - np.linalg.slogdet(full)[1])
show("full covariance", formula=closed, by_TFP=by_tfp(full))
np.testing.assert_allclose(closed, by_tfp(full), rtol=1e-9)  # (3.5)

# %% [markdown]
# ## Independent coordinates: the sum
#
# The encoder of a VAE usually puts out a *diagonal* $\Sigma$: given $x$, the coordinates of $z$ are
# taken as independent. Then $\Sigma$ is as good as a vector, $\Sigma_{ii} = \sigma_i^2$. Two
# reminders. The variance is the mean square minus the squared mean, and so
#
# $$\mathbb{E}_{q}[z_i^2] = \Sigma_{ii} + \mu_i^2 , \tag{3.6}$$
#
# and the determinant of a diagonal matrix is a product, so that its logarithm is a sum:
#
# $$|\Sigma| = \prod_{i=1}^{d} \Sigma_{ii} . \tag{3.7}$$
#
# With these, and $\mathbb{E}[z] = \mu$ (which makes $-\frac{1}{2} + 1 = +\frac{1}{2}$ of the two
# middle terms), $(3.4)$ is a sum over coordinates:
#
# $$-\frac{1}{2} \sum_{i=1}^{d} \log \Sigma_{ii} + \frac{1}{2} \sum_{i=1}^{d}
# \frac{\mu_i^2}{\Sigma_{ii}} - \frac{1}{2} \mathbb{E}_{q}\left[\sum_{i=1}^{d}
# \frac{z_i^2}{\Sigma_{ii}} - \sum_{i=1}^{d} z_i^2\right] . \tag{3.8}$$
#
# Take the expectation by $(3.6)$:
#
# $$-\frac{1}{2} \sum_{i=1}^{d} \log \Sigma_{ii} + \frac{1}{2} \sum_{i=1}^{d}
# \frac{\mu_i^2}{\Sigma_{ii}} - \frac{1}{2} \sum_{i=1}^{d} \left[1
# + \frac{\mu_i^2}{\Sigma_{ii}} - \mu_i^2 - \Sigma_{ii}\right] . \tag{3.9}$$
#
# The terms $\mu_i^2 / \Sigma_{ii}$ cancel, and what is left is the formula of every VAE:
#
# $$\mathrm{KL}(q(z \mid x) \Vert p(z))
# = \frac{1}{2} \sum_{i=1}^{d} \left[\Sigma_{ii} + \mu_i^2 - 1 - \log \Sigma_{ii}\right] .
# \tag{3.10}$$

# %%
v = np.array([0.8, 0.05, 1.7])  # Σ_ii
diagonal = np.diag(v)
for i in range(d):
    by_nodes = mean_over(diagonal, lambda z, i=i: z[:, i] ** 2)
    show(f"E[z_{i + 1}²]", quadrature=by_nodes, formula=v[i] + mu[i] ** 2)
    np.testing.assert_allclose(by_nodes, v[i] + mu[i] ** 2)  # (3.6)
show("determinant", by_numpy=np.linalg.det(diagonal), product=np.prod(v))
np.testing.assert_allclose(np.linalg.det(diagonal), np.prod(v))  # (3.7)

logs, ratio = -0.5 * np.sum(np.log(v)), mu**2 / v
squares = mean_over(diagonal, lambda z: np.sum(z**2 / v, 1) - np.sum(z**2, 1))
eight = logs + 0.5 * ratio.sum() - 0.5 * squares
nine = logs + 0.5 * ratio.sum() - 0.5 * np.sum(1 + ratio - mu**2 - v)
ten = 0.5 * np.sum(v + mu**2 - 1 - np.log(v))
for number, value in ((8, eight), (9, nine), (10, ten)):
    show(f"diagonal covariance, line (3.{number})", KL=value, by_TFP=by_tfp(diagonal))
np.testing.assert_allclose([eight, nine, ten], by_tfp(diagonal), rtol=1e-9)  # (3.8), (3.9), (3.10)

# %% [markdown]
# It is a sum and not a mean: two independent coordinates carry twice the information of one.
#
# > **Loosely said.** "The latent variables are independent." Under the *prior* they are, because we
# > chose it so. Under $q(z \mid x)$ they are too, by assumption, but only **given $x$**. The true
# > posterior has them dependent as a rule. Let $x = z_1 + z_2 + 0.5 \varepsilon$: having seen
# > $x = 1$, a larger $z_1$ means a smaller $z_2$. And over all images together the codes may be
# > correlated although each single $q(z \mid x)$ is not. The cell computes the correlations, and
# > what a diagonal $q$ loses: the best one is $\frac{1}{2} \log(1 / (1 - \rho^2))$ nats away from
# > the posterior.

# %%
a = np.array([1.0, 1.0])
precision = np.eye(2) + np.outer(a, a) / 0.5**2  # of the posterior p(z | x)
posterior = np.linalg.inv(precision)
rho = posterior[0, 1] / posterior[0, 0]
best_variances = 1 / np.diag(precision)  # of the diagonal q with the least KL(q ‖ posterior)
lost = 0.5 * (np.sum(np.diag(precision) * best_variances) - 2)
lost += 0.5 * (np.linalg.slogdet(posterior)[1] - np.sum(np.log(best_variances)))
gain = posterior @ a / 0.5**2  # the posterior's mean is gain · x
total = np.outer(gain, gain) * (a @ a + 0.5**2) + np.diag(best_variances)  # over all x
show("correlation of z_1 and z_2: prior", rho=0.0)
show("  diagonal q, given x", rho=0.0)
show("  true posterior, given x", rho=rho)
show("  draws of q over all x together", rho=total[0, 1] / total[0, 0])
show("KL(best diagonal q ‖ posterior)", KL=lost, formula=-0.5 * np.log(1 - rho**2))
assert rho < -0.5 and total[0, 1] > 0
np.testing.assert_allclose(lost, -0.5 * np.log(1 - rho**2), rtol=1e-9)

# %% [markdown]
# ## One coordinate: what each term does
#
# One summand of $(3.10)$ is $\frac{1}{2} (\sigma^2 + \mu^2 - 1 - \log \sigma^2)$. It falls into a
# part for the mean, $\frac{1}{2} \mu^2$, and one for the width,
# $\frac{1}{2}(\sigma^2 - 1 - \log \sigma^2)$. Neither is ever negative, since $\log t \le t - 1$.
# The first pulls the mean to zero like a spring. The second is least at $\sigma = 1$. For a smaller
# $\sigma$ the logarithm makes it large, without limit as $\sigma$ goes to zero; for a larger one
# the square does.
#
# A prior with another mean $m$ and scale $s$ needs no new formula. Measure $z$ in units of the
# prior, $u = (z - m) / s$. Both densities get the same factor $s$, so the KL does not change, and
# in the new unit the prior is $N(0, 1)$:
#
# $$\mathrm{KL}(N(\mu, \sigma^2) \Vert N(m, s^2))
# = \frac{1}{2} \left[\frac{\sigma^2}{s^2} + \frac{(\mu - m)^2}{s^2} - 1
# - \log \frac{\sigma^2}{s^2}\right] . \tag{3.11}$$

# %%
cases = [(0.0, 1.0), (1.5, 1.0), (0.0, 0.3), (-0.7, 2.0), (2.0, 0.1)]


def log_normal(z, mean, variance):
    return -0.5 * (np.log(2 * np.pi * variance) + (z - mean) ** 2 / variance)


def gaussian_kl(mu, sigma):
    return 0.5 * (sigma**2 + mu**2 - 1 - np.log(sigma**2))


def kl_by_quadrature(mu, sigma, m=0.0, s=1.0):
    """The integral of q · (log q − log p), over eps = (z − mu)/sigma."""

    def integrand(eps):
        z = mu + sigma * eps
        difference = log_normal(z, mu, sigma**2) - log_normal(z, m, s**2)
        return np.exp(log_normal(eps, 0, 1)) * difference

    return quad(integrand, -12, 12, epsabs=1e-12)[0]


for mu, sigma in cases:
    for m, s in ((0.0, 1.0), (0.5, 2.0), (-1.0, 0.4)):
        formula, direct = gaussian_kl((mu - m) / s, sigma / s), kl_by_quadrature(mu, sigma, m, s)
        show(f"N({mu}, {sigma}²) from N({m}, {s}²)", formula=formula, integral=direct)
        assert abs(formula - direct) < 1e-9 * (1 + direct)  # (3.11)

# %%
figure, axes = plt.subplots(1, 2, figsize=(9, 3), layout="constrained")
axis_values = np.linspace(0.02, 3, 300)
axes[0].plot(axis_values, 0.5 * axis_values**2, label="mean: ½ μ², over |μ|")
axes[0].plot(axis_values, gaussian_kl(0, axis_values), label="width: ½ (σ² − 1 − log σ²), over σ")
axes[0].set(title="the two parts of the KL", xlabel="|μ| or σ", ylabel="nats", ylim=(0, 4.5))
axes[0].legend()
z = np.linspace(-4, 4, 400)
axes[1].fill_between(z, np.exp(log_normal(z, 0, 1)), color="0.85", label="prior N(0, 1)")
for mu, sigma in ((1.0, 1.0), (0.0, 0.3), (-1.5, 0.5)):
    label = f"N({mu:g}, {sigma:g}²): {gaussian_kl(mu, sigma):.2f} nats"
    axes[1].plot(z, np.exp(log_normal(z, mu, sigma**2)), label=label)
axes[1].set(title="some q, and what they cost", xlabel="z", ylabel="density", ylim=(0, 2.7))
axes[1].legend(loc="upper left")
plt.show()

# %% [markdown]
# ## Against TFP, quadrature and Monte Carlo
#
# TFP has a table of closed forms, `tfd.kl_divergence`. The library's own is
# `tfvae.distributions.kl.gaussian_kl`, which takes the log-variance. And the definition itself can
# be estimated: draw $z_k$ from $q$ and average $\log q(z_k) - \log p(z_k)$.
#
# How far may that mean be off? With $z = \mu + \sigma \varepsilon$ the summand is
# $\frac{1}{2} (\sigma^2 - 1) \varepsilon^2 + \mu \sigma \varepsilon$ plus a constant. The
# variances of $\varepsilon^2$ and $\varepsilon$ are 2 and 1, and they are uncorrelated:
#
# $$\mathrm{Var}[\log q(z) - \log p(z)] = \frac{1}{2} (\sigma^2 - 1)^2 + \mu^2 \sigma^2 .
# \tag{3.12}$$

# %%
K = 100_000


def log_ratio(mu, sigma, eps):
    z = mu + sigma * eps
    return log_normal(z, mu, sigma**2) - log_normal(z, 0, 1)


print("   μ    σ     formula       TFP     tfvae     Monte Carlo        variance (3.12)  measured")
for mu, sigma in cases:
    formula = gaussian_kl(mu, sigma)
    q, p = tfd.Normal(tf.constant(mu, tf.float64), sigma), tfd.Normal(tf.zeros((), tf.float64), 1.0)
    tabulated = tfd.kl_divergence(q, p).numpy()
    by_tfvae = tfvae.distributions.kl.gaussian_kl(np.float64(mu), 2 * np.log(sigma)).numpy()
    sample = log_ratio(mu, sigma, rng.standard_normal(K))
    variance = 0.5 * (sigma**2 - 1) ** 2 + mu**2 * sigma**2
    error = np.sqrt(variance / K)
    print(f"{mu:4} {sigma:4}  {formula:10.6f} {tabulated:9.6f} {by_tfvae:9.6f}", end="  ")
    print(f"{sample.mean():9.4f} ± {error:.4f}    {variance:10.4f} {sample.var():14.4f}")
    np.testing.assert_allclose([tabulated, by_tfvae], formula, rtol=1e-12, atol=1e-12)
    assert abs(sample.mean() - formula) <= 4 * error + 1e-12
    np.testing.assert_allclose(sample.var(), variance, rtol=0.05, atol=1e-12)  # (3.12)

# %% [markdown]
# In the first row $q$ is the prior: both logarithms are equal for every draw, and the estimate has
# no noise at all. Elsewhere a single draw says little. The picture shows estimates from one, ten
# and a hundred draws. Their mean is right. Their spread falls with the square root of the number of
# draws. Many of them are negative, which no KL is. A closed form has none of these troubles, so the
# library uses one wherever there is one.

# %%
mu, sigma = -0.7, 2.0
figure, axis = plt.subplots(figsize=(6.5, 2.8), layout="constrained")
for draws, colour in ((1, "C0"), (10, "C1"), (100, "C2")):
    estimates = log_ratio(mu, sigma, rng.standard_normal((20_000, draws))).mean(axis=1)
    error = np.sqrt((0.5 * (sigma**2 - 1) ** 2 + mu**2 * sigma**2) / draws)
    # The standard error of a standard deviation is below std · sqrt(κ / 4n), κ the kurtosis.
    kurtosis = np.mean(((estimates - estimates.mean()) / estimates.std()) ** 4)
    assert abs(estimates.std() - error) < 4 * error * np.sqrt(kurtosis / (4 * 20_000))
    negative = np.mean(estimates < 0)
    print(f"K = {draws:3}: spread {estimates.std():.3f}, by the formula {error:.3f}")
    axis.hist(
        estimates,
        bins=np.linspace(-2, 6, 121),
        density=True,
        alpha=0.5,
        color=colour,
        label=f"K = {draws}: {negative:.0%} negative",
    )
axis.axvline(gaussian_kl(mu, sigma), color="k", label="closed form")
axis.set(title=f"estimates of KL(N({mu}, {sigma}²) ‖ N(0, 1))", xlabel="nats", ylabel="density")
axis.legend()
plt.show()

# %% [markdown]
# In the library, `tfvae.distributions.kl.kl_divergence` gives $(3.10)$ for each image, and
# `kl_per_dimension` its summands.

# %%
B, d = 3, 5
loc = rng.normal(size=(B, d))
log_var = rng.normal(size=(B, d))
summands = gaussian_kl(loc, np.exp(0.5 * log_var))
q = tfd.Independent(tfd.Normal(loc, np.exp(0.5 * log_var)), 1)
p = tfd.Independent(tfd.Normal(np.zeros(d), 1.0), 1)
by_library = tfvae.distributions.kl.kl_divergence(q, p, q.sample(2, seed=1))
by_dimension = tfvae.distributions.kl.kl_per_dimension(q, p)
print("KL of each image by the formula:", summands.sum(-1).round(4), "nats")
print("                 by the library:", np.asarray(by_library).round(4))
print("of the first image, by dimension:", np.asarray(by_dimension)[0].round(4))
np.testing.assert_allclose(by_library, summands.sum(-1), rtol=1e-12)
np.testing.assert_allclose(by_dimension, summands, rtol=1e-12)

# %% [markdown]
# ## Its gradients
#
# Let the network put out $\mu$ and $\lambda = \log \sigma^2$. Then a summand is
# $\frac{1}{2}(e^{\lambda} + \mu^2 - 1 - \lambda)$, and
#
# $$\frac{\partial \mathrm{KL}}{\partial \mu} = \mu, \qquad
# \frac{\partial \mathrm{KL}}{\partial \lambda} = \frac{1}{2} (\sigma^2 - 1) . \tag{3.13}$$
#
# However narrow $q$ is, the gradient in $\lambda$ never falls below minus one half.

# %%
loc, log_var = (tf.constant(value, tf.float64) for value in (loc, log_var))
with tf.GradientTape() as tape:
    tape.watch((loc, log_var))
    total = tf.reduce_sum(tfvae.distributions.kl.gaussian_kl(loc, log_var))
by_loc, by_log_var = tape.gradient(total, (loc, log_var))
print("by μ:    tape", by_loc[0].numpy().round(4), " formula", loc[0].numpy().round(4))
formula = 0.5 * (np.exp(log_var) - 1)
print("by log σ²: tape", by_log_var[0].numpy().round(4), " formula", formula[0].round(4))
np.testing.assert_allclose(by_loc, loc, rtol=1e-12)  # (3.13)
np.testing.assert_allclose(by_log_var, formula, rtol=1e-12)

# %% [markdown]
# The lines of the next picture join points of equal KL. The arrows point where the KL alone would
# move what the encoder puts out: against its gradient. All of them lead to the red star, which is
# the prior. Below, where the variance is small, the arrows up all have the same length; above,
# where it is large, the arrows down grow exponentially.


# %%
def draw_surface(axis, mus, log_vars):
    surface = 0.5 * (np.exp(log_vars) + mus[:, None] ** 2 - 1 - log_vars)
    levels = [0.1, 0.5, 1, 2, 3, 4, 6, 8, 11]
    drawn = axis.contour(mus, log_vars, surface.T, levels=levels, cmap="viridis_r")
    axis.clabel(drawn, fontsize=8, fmt="%g", colors="0.2")
    axis.plot(0, 0, "C3*", ms=12)
    axis.set(xlabel="μ", ylabel="log σ²")


figure, axis = plt.subplots(figsize=(6.5, 3.8), layout="constrained")
draw_surface(axis, np.linspace(-4, 4, 121), np.linspace(-8, 3, 121))
at_mu, at_log_var = np.meshgrid(np.linspace(-3.6, 3.6, 9), np.linspace(-7, 2, 10))
axis.quiver(at_mu, at_log_var, -at_mu, -0.5 * (np.exp(at_log_var) - 1), color="0.4", width=0.003)
axis.set_title("KL(N(μ, σ²) ‖ N(0, 1)), nats, and where it pulls")
plt.show()

# %% [markdown]
# ## Why the log-variance?
#
# A network's last layer puts out any real number $r$, but a standard deviation is positive. For
# numerical stability the network puts out $\log \Sigma$, and the loss takes the exponential where
# it needs $\Sigma$; it never takes a logarithm. Four ways are in use:
#
# | parametrisation | $\sigma$ | $\partial \mathrm{KL} / \partial r$ |
# | --- | --- | --- |
# | raw | $r$ | $\sigma - 1 / \sigma$ |
# | softplus | $\log(1 + e^{r})$ | $(\sigma - 1 / \sigma) (1 - e^{-\sigma})$ |
# | log-scale | $e^{r}$ | $\sigma^2 - 1$ |
# | log-variance | $e^{r / 2}$ | $\frac{1}{2} (\sigma^2 - 1)$ |
#
# The last column is the chain rule,
#
# $$\frac{\partial \mathrm{KL}}{\partial r}
# = \left(\sigma - \frac{1}{\sigma}\right) \frac{d \sigma}{d r} . \tag{3.14}$$

# %%
scales = {
    "raw": (lambda r: r, lambda sigma: sigma),
    "softplus": (tf.nn.softplus, lambda sigma: np.log(np.expm1(sigma))),
    "log-scale": (tf.exp, np.log),
    "log-variance": (lambda r: tf.exp(0.5 * r), lambda sigma: 2 * np.log(sigma)),
}
slopes = {
    "raw": lambda sigma: sigma - 1 / sigma,
    "softplus": lambda sigma: (sigma - 1 / sigma) * -np.expm1(-sigma),
    "log-scale": lambda sigma: sigma**2 - 1,
    "log-variance": lambda sigma: 0.5 * (sigma**2 - 1),
}
sigmas = np.array([0.01, 0.1, 0.5, 2.0, 5.0])
print(f"{'∂KL/∂r at σ =':14}", "".join(f"{sigma:12g}" for sigma in sigmas))
for name, (scale, inverse) in scales.items():
    r = tf.constant(inverse(sigmas))
    with tf.GradientTape() as tape:
        tape.watch(r)
        sigma = scale(r)
        total = tf.reduce_sum(0.5 * (sigma**2 - 1) - tf.math.log(sigma))
    gradient = tape.gradient(total, r).numpy()
    print(f"{name:14}", "".join(f"{value:12.5f}" for value in gradient))
    np.testing.assert_allclose(gradient, slopes[name](sigmas), rtol=1e-9)  # (3.14)

# %% [markdown]
# **A negative sigma.** Let a decoder want small scales: the loss is the KL plus
# $\frac{1}{2} a \sigma^2$, whose minimum is known, $\sigma^2 = 1 / (1 + a)$. Gradient descent
# starts at $\sigma = 1$, in each parametrisation with the same step size. The first step of the raw
# one leads below zero, where the loss has no value.

# %%
a, rate, steps = 100.0, 0.02, 400
best = 1 / np.sqrt(1 + a)
figure, axes = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
for name, (scale, inverse) in scales.items():
    r, path = tf.Variable(inverse(np.float64(1.0))), []
    for _ in range(steps):
        with tf.GradientTape() as tape:
            sigma = scale(r)
            loss = 0.5 * (sigma**2 - 1) - tf.math.log(sigma) + 0.5 * a * sigma**2
        path.append(float(sigma))
        if not np.isfinite(loss):
            print(
                f"{name}: σ = {path[-1]:.2f} after {len(path) - 1} step: the loss is {float(loss)}"
            )
            break
        r.assign_sub(rate * tape.gradient(loss, r))
    else:
        print(f"{name}: σ = {path[-1]:.4f} after {steps} steps; the minimum is {best:.4f}")
    axes[0].plot(path[:120], "x-" if name == "raw" else "-", label=name)
    assert (path[-1] < 0) if name == "raw" else abs(path[-1] / best - 1) < 0.05
axes[0].axhline(best, color="k", lw=0.8, ls="--", label="minimum")
axes[0].axhline(0, color="k", lw=0.8)
axes[0].set(title="gradient descent from σ = 1", xlabel="step", ylabel="σ")
axes[0].legend(loc="lower right")

wide = np.geomspace(1e-6, 1e3, 300)
for name, slope in slopes.items():
    axes[1].plot(wide, np.abs(slope(wide)), "--" if name == "softplus" else "-", label=name)
axes[1].set(xscale="log", yscale="log", xlabel="σ", ylabel="|∂KL/∂r|", ylim=(1e-3, 1e7))
axes[1].set_title("size of the KL's gradient")
axes[1].legend(loc="upper center")
plt.show()

# %% [markdown]
# On the right: for a narrow $q$ the raw gradient explodes like $1 / \sigma$. The other three stay
# below one, or below one half. For a wide $q$ the softplus grows most slowly, and the two
# exponentials grow like $\sigma^2$. The encoders of trained VAEs are on the narrow side, as the
# decoder wants precise codes, and there the gradient of the log-variance is nearly constant.
#
# **Range.** In float32, $e^{\lambda}$ is infinite above 88.7 and zero below about -104. A formula
# that makes $\sigma$ of $\lambda$ and then takes the logarithm of $\sigma^2$ loses $\lambda$ on the
# way. A formula that keeps $\lambda$ needs no logarithm.


# %%
def through_sigma(loc, log_var):
    sigma = tf.exp(0.5 * log_var)
    return 0.5 * (tf.square(sigma) + tf.square(loc) - 1 - tf.math.log(tf.square(sigma)))


def value_and_slope(function, log_var):
    log_var = tf.constant(log_var, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(log_var)
        value = function(tf.constant(0.5), log_var)
    return float(value), float(tape.gradient(value, log_var))


print(f"the limits of float32: {np.log(np.finfo(np.float32).max):.1f} and ", end="")
print(f"{np.log(np.finfo(np.float32).smallest_subnormal) - np.log(2):.0f}")
print("log σ²       through σ: KL, slope       tfvae: KL, slope")
for value in (-300.0, -120.0, -60.0, 0.0, 60.0, 88.0, 90.0):
    naive, careful = (
        value_and_slope(f, value) for f in (through_sigma, tfvae.distributions.kl.gaussian_kl)
    )
    print("{:6.0f}  {:12.5g} {:12.5g}  {:12.5g} {:12.5g}".format(value, *naive, *careful))
    if value < 88.5:
        exact = 0.5 * (np.exp(value) + 0.25 - 1 - value), 0.5 * (np.exp(value) - 1)
        np.testing.assert_allclose(careful, exact, rtol=1e-5, atol=1e-7)
    if value < -110:
        assert not np.isfinite(naive).any()

# %% [markdown]
# At the upper end nothing helps: a variance of $e^{90}$ is infinite in float32 in any form. But an
# encoder does not get there, since the gradient on the way is huge and pushes it back. At the lower
# end the gradient is one half at most, and an encoder can drift there.
#
# **Digits.** Near the prior the KL is small:
# $\frac{1}{2} (e^{\lambda} - 1 - \lambda) \approx \frac{1}{4} \lambda^2$ is the difference of
# numbers near one. Three ways to compute it lose digits differently. They are compared with the
# power series of the exponential, in float64.

# %%
offsets = np.geomspace(1e-5, 1, 400).astype(np.float32)
exact = (
    sum(offsets.astype(np.float64) ** n / np.prod(np.arange(1.0, n + 1)) for n in range(2, 25)) / 2
)
sigma = np.exp(np.float32(0.5) * offsets)
forms = {
    "σ² − 1 − log σ²": sigma**2 - np.float32(1) - np.log(sigma**2),
    "exp(λ) − 1 − λ": np.exp(offsets) - np.float32(1) - offsets,
    "expm1(λ) − λ": np.expm1(offsets) - offsets,
}
figure, axis = plt.subplots(figsize=(6.5, 3), layout="constrained")
for name, values in forms.items():
    assert values.dtype == np.float32
    relative = np.abs(0.5 * values.astype(np.float64) - exact) / exact
    axis.plot(offsets, np.maximum(relative, 1e-9), ".", ms=3, label=name)
    print(
        f"{name:16}: median relative error below 0.001: {np.median(relative[offsets < 1e-3]):.1e}"
    )
axis.set(xscale="log", yscale="log", xlabel="log σ²", ylabel="relative error of the KL")
axis.set_title("float32, near the prior")
axis.legend(markerscale=3)
plt.show()
# Error of expm1(λ) − λ: two roundings of numbers of size λ, over λ²/2.
careful = tfvae.distributions.kl.gaussian_kl(np.zeros_like(offsets), offsets).numpy()
eps = np.finfo(np.float32).eps
assert np.all(np.abs(careful - exact) <= 4 * eps * offsets)

# %% [markdown]
# The middle one is wrong by more than 100 percent where $\lambda$ is small, and can come out
# negative: $e^{\lambda}$ is rounded to a number next to one, but the $\lambda$ that is subtracted
# is not. The first one takes the logarithm of the *rounded* number, so that both parts have the
# same rounding error. It is good here, but it is the one that failed at the ends of the range. The
# last is good in both places, and `tfvae.distributions.kl.gaussian_kl` computes it so. For the loss
# this hardly matters. It matters where the question is whether a latent dimension is used at all.
#
# ## In the model
#
# The default posterior, `tfvae.posteriors.DiagonalNormal`, makes $q(z \mid x)$ from $\mu$ and
# $\log \sigma^2$ and keeps the latter. We train a small VAE on the MNIST digits that come with the
# package and look at what its encoder puts out.

# %% tags=["parameters"] capped="epochs, images = 6, 6000"
epochs, images = 20, 6000

# %%
data = tfvae.datasets.load("mnist-small", binarize="static")
train = data.train.subset(images)
vae = tfvae.VAE.for_images(data.image_shape, latent_dim=8, network="dense:hidden=128x64", seed=0)
vae.compile(keras.optimizers.Adam(2e-3))
vae.fit(train.batches(128, shuffle=True), epochs=epochs, verbose=0)

x, labels = data.test.arrays(limit=200)
parameters = vae.posterior_parameters(x)
loc, log_var = (parameters[name].numpy().astype(np.float64) for name in ("loc", "log_var"))
by_hand = gaussian_kl(loc, np.exp(0.5 * log_var))
found, other = vae.elbo(x, seed=1), vae.elbo(x, seed=2)
print("first image             KL by hand   KL of vae.elbo   log-likelihood")
for name, terms in (("one draw of z", found), ("another draw of z", other)):
    print(f"{name:20} {by_hand[0].sum():13.4f}", end="")
    print(f" {float(terms.kl[0]):16.4f} {float(terms.log_likelihood[0]):16.4f}")
print("KL of each dimension, mean over images, nats:", by_hand.mean(0).round(3))
assert vae.kl_is_exact
np.testing.assert_allclose(found.kl, by_hand.sum(-1), rtol=1e-5, atol=1e-5)
# The KL has no noise: another draw of z changes the likelihood only.
assert np.all(other.kl == found.kl) and np.any(other.log_likelihood != found.log_likelihood)

# %% [markdown]
# In the picture, each dot is one image in one latent dimension; colours are dimensions. Training
# has moved the dots against the pull of the KL, to where the decoder wants them: narrow, and spread
# out in $\mu$ so that images can be told apart. A dot at the star would say nothing about its
# image.

# %%
figure, axis = plt.subplots(figsize=(6.5, 3.8), layout="constrained")
lowest = min(-1.0, log_var.min() - 0.5)
widest = max(3.0, np.abs(loc).max() + 0.3)
draw_surface(axis, np.linspace(-widest, widest, 121), np.linspace(lowest, 1, 121))
for dimension in range(loc.shape[1]):
    axis.plot(loc[:, dimension], log_var[:, dimension], ".", ms=2.5, color=f"C{dimension}")
axis.set_title("what the encoder puts out, over contours of the KL (nats)")
plt.show()

# %% [markdown]
# ## Two mistakes, in numbers
#
# Programs for VAEs go wrong at this term more than anywhere else, and nothing looks wrong: the loss
# still falls.
#
# - **The KL is counted twice**, for example once by a layer that adds it to the model's losses and
#   once in the loss. The objective is then $\mathbb{E}_q[\log p(x \mid z)] - 2 \mathrm{KL}$.
# - **A mean stands where a sum belongs.** A mean over the $D$ pixels divides the log-likelihood by
#   $D$, which is the same as a KL with the weight $D$. A mean over the $d$ latent dimensions
#   divides the KL by $d$. Both together make a weight of $D / d$.
#
# All of them are the objective $\mathbb{E}_q[\log p(x \mid z)] - \beta \mathrm{KL}$ with a $\beta$
# that nobody chose. In the library a $\beta$ is always said:
# `loss == -(log_likelihood - beta * kl)`, and every reported `elbo` has $\beta = 1$.

# %%
terms = vae.terms(x, seed=1)
single, doubled = (tfvae.objectives.get(f"elbo:beta={beta}")(terms).numpy() for beta in (1, 2))
np.testing.assert_allclose(single, -found.elbo, rtol=1e-6)
np.testing.assert_allclose(doubled - single, found.kl, rtol=1e-4, atol=1e-3)
print(f"mean loss {single.mean():.3f}; with the KL counted twice {doubled.mean():.3f} nats")
print(f"their difference {np.mean(doubled - single):.3f}; mean KL {np.mean(found.kl):.3f} nats")

# %% [markdown]
# What does a model learn under a wrong $\beta$? For a linear decoder,
# $x = W z + b + s \varepsilon$, the answer is exact. Take one direction in which the data have the
# variance $\ell$, a decoder with the slope $w$ and an encoder $q(z \mid x) = N(a x, v)$. The mean
# loss over the data, up to a constant, is
#
# $$\frac{\ell (1 - w a)^2 + w^2 v}{2 s^2}
# + \frac{\beta}{2} \left(v + a^2 \ell - 1 - \log v\right) . \tag{3.15}$$
#
# Divided by $\beta$, it is the loss at $\beta = 1$ of a model with the noise variance $\beta s^2$.
# So its minimum is that of probabilistic PCA (notebook 2) with that noise:
#
# $$w^2 = \max(\ell - \beta s^2, 0), \qquad \mathrm{KL} = \frac{1}{2} \log \frac{\ell}{\beta s^2}
# \quad \text{if } \ell > \beta s^2, \text{ else } 0 . \tag{3.16}$$


# %%
def linear_loss(parameters, ell, s2, beta):  # (3.15)
    w, a, log_v = parameters
    v = np.exp(log_v)
    misfit = (ell * (1 - w * a) ** 2 + w**2 * v) / (2 * s2)
    return misfit + 0.5 * beta * (v + a**2 * ell - 1 - log_v)


# (3.15) by draws: the mean of (x − w z)² / 2 s², and the KL of each x
drawn_x = np.sqrt(2.0) * rng.standard_normal(K)
drawn_z = 0.5 * drawn_x + np.sqrt(0.3) * rng.standard_normal(K)
each = (drawn_x - 0.9 * drawn_z) ** 2 / 0.6 + gaussian_kl(0.5 * drawn_x, np.sqrt(0.3))
error = each.std() / np.sqrt(K)
formula = linear_loss((0.9, 0.5, np.log(0.3)), 2.0, 0.3, 1.0)
show("a linear VAE's loss", formula=formula, draws=each.mean(), error=error)
assert abs(each.mean() - formula) < 4 * error
for ell, s2, beta in ((2.0, 0.3, 1.0), (2.0, 0.3, 2.0), (2.0, 0.3, 0.2), (2.0, 0.3, 8.0)):
    fit = minimize(linear_loss, (1.0, 0.3, -0.5), args=(ell, s2, beta), tol=1e-12)
    w, a, log_v = fit.x
    kl = 0.5 * (np.exp(log_v) + a**2 * ell - 1 - log_v)
    used = max(ell - beta * s2, 0)
    expected = 0.5 * np.log(ell / (ell - used)) if used else 0.0
    show(f"β = {beta}", w2=w**2, formula=used, KL=kl, its_formula=expected)
    np.testing.assert_allclose((w**2, kl), (used, expected), atol=1e-4)  # (3.16)

# %% [markdown]
# So a doubled KL takes $\frac{1}{2} \log 2$ nats from every dimension that is still used, and
# drops those with $\ell < 2 s^2$. Now with the variances $\ell$ of real images, the eigenvalues of
# their covariance. The noise $s^2$ is the mean of those eigenvalues that $d$ dimensions leave
# over, which is its maximum-likelihood value at $\beta = 1$.

# %%
d = 8
pixels = train.arrays()[0].reshape(len(train), -1).astype(np.float64)
D = pixels.shape[1]
eigenvalues = np.linalg.eigvalsh(np.cov(pixels.T, bias=True))[::-1]
s2 = eigenvalues[d:].mean()
betas = {
    "KL averaged over the latent dimensions, β = 1/d": 1 / d,
    "as derived, β = 1": 1.0,
    "KL counted twice, β = 2": 2.0,
    "both averaged, β = D/d": D / d,
    "likelihood averaged over the pixels, β = D": float(D),
}


def linear_vae(beta):
    """How many dimensions are used, the KL, and the mean log p(x) of the model that is learned."""
    ell = eigenvalues[:d]
    used = ell > beta * s2
    variances = np.full(D, s2)
    variances[:d] += np.where(used, ell - beta * s2, 0)
    log_p = -0.5 * np.sum(np.log(2 * np.pi * variances) + eigenvalues / variances)
    return used.sum(), 0.5 * np.sum(np.log(ell[used] / (beta * s2))), log_p


print(f"{'objective':49} used   KL, nats   log p(x), nats")
results = {}
for name, beta in betas.items():
    results[name] = linear_vae(beta)
    print("{:49} {:2d}/{}  {:9.2f}  {:13.4f}".format(name, results[name][0], d, *results[name][1:]))
best = max(results, key=lambda name: results[name][2])
assert best == "as derived, β = 1"
kls = [kl for _, kl, _ in results.values()]
assert kls == sorted(kls, reverse=True)

# %%
figure, axis = plt.subplots(figsize=(8, 3.8), layout="constrained")
axis.bar(np.arange(1, 25), eigenvalues[:24], color=np.where(np.arange(24) < d, "C0", "0.8"))
for number, (name, beta) in enumerate(betas.items()):
    axis.axhline(beta * s2, color=f"C{number + 1}", label=name, lw=1.3)
axis.set(yscale="log", xlabel="principal direction", ylabel="variance of the data")
axis.set_title("a dimension is used if its variance is above the line, β s²")
axis.legend(loc="upper right", fontsize=8)
axis.set_ylim(top=max(D * s2, eigenvalues[0]) * 60)
plt.show()

# %% [markdown]
# Blue bars are the directions that $d$ latent dimensions could take; a line above a bar drops it.
# Averaging the likelihood over the pixels lifts the line so far that nothing is left: every
# $q(z \mid x)$ has become the prior, which is called posterior collapse. The doubled KL is harder
# to notice. Where a bar is far above the noise, $\log p(x)$ hardly falls; the codes only say less
# about their images. Too small a
# $\beta$ is no better: it pays for codes more precise than the noise allows, and $\log p(x)$ falls
# as well.
#
# ## Exercises
#
# Exercise 1 stands above, before the derivation.
#
# ### Exercise 2: what a diagonal q does not pay for
#
# Take the covariance `full` and the mean `(0.5, -1.0, 0.2)` of the derivation. By $(3.5)$ its KL to
# $N(0, I)$ is known. A diagonal Gaussian with the same mean and the same variances has another KL,
# by $(3.10)$. By how many nats do they differ, and which is larger?

# %%
# Your answer: KL of the full one minus KL of the diagonal one, in nats.
my_difference = None


# %%
def check_difference(difference):
    """Check an answer."""
    if difference is None:
        print("exercise 2: no answer yet")
        return
    shared = 0.5 * (np.log(np.diag(full)).sum() - np.linalg.slogdet(full)[1])
    assert abs(difference - shared) < 1e-3, "trace and mean are the same in both: what is left?"
    print("exercise 2: right")


check_difference(my_difference)

# %% [markdown]
# <details><summary>Solution</summary>
#
# Trace and mean agree, so the difference is that of the log-determinants,
# $\frac{1}{2} (\sum_i \log \Sigma_{ii} - \log |\Sigma|) = 0.290$ nats. It is never negative: it is
# the information that the coordinates have about each other. The full one is narrower, and so
# farther from the prior.
#
# ```python
# mean = np.array([0.5, -1.0, 0.2])
# of_full = 0.5 * (np.trace(full) + mean @ mean - 3 - np.linalg.slogdet(full)[1])
# of_diagonal = gaussian_kl(mean, np.sqrt(np.diag(full))).sum()
# my_difference = of_full - of_diagonal
# check_difference(my_difference)
# assert abs(my_difference - 0.290) < 0.0005
# ```
# </details>
#
# ### Exercise 3: the other way round
#
# Derive $\mathrm{KL}(N(0, 1) \Vert N(\mu, \sigma^2))$ with $(3.11)$, and compare its gradient in
# $\log \sigma^2$ at $\mu = 0$, $\sigma = 0.1$ with that of the VAE's KL,
# $\frac{1}{2} (\sigma^2 - 1)$.

# %%
# Your answer: a function of (mu, sigma) that returns nats.
my_other_way = None


# %%
def check_other_way(other_way):
    """Check an answer by quadrature."""
    if other_way is None:
        print("exercise 3: no answer yet")
        return
    for mu, sigma in cases:
        right = kl_by_quadrature(0.0, 1.0, mu, sigma)
        found = other_way(mu, sigma)
        assert abs(found - right) < 1e-6 * (1 + right), f"{found:.4f} in the place of {right:.4f}"
    print("exercise 3: right")


check_other_way(my_other_way)

# %% [markdown]
# <details><summary>Solution</summary>
#
# Measured in units of $q$ the prior is $N(-\mu / \sigma, 1 / \sigma^2)$, so the KL is
# $\frac{1}{2} [(1 + \mu^2) / \sigma^2 - 1 + \log \sigma^2]$. Its gradient in $\log \sigma^2$ at
# $\sigma = 0.1$ is $\frac{1}{2} (1 - 100) = -49.5$, a hundred times that of the VAE's KL, which is
# $-0.495$. This KL punishes narrowness without mercy; the VAE's does not.
#
# ```python
# def my_other_way(mu, sigma):
#     return 0.5 * ((1 + mu**2) / sigma**2 - 1 + np.log(sigma**2))
#
#
# check_other_way(my_other_way)
# step, at = 1e-5, 2 * np.log(0.1)
# above, below = (my_other_way(0, np.exp((at + by) / 2)) for by in (step, -step))
# assert abs((above - below) / (2 * step) - -49.5) < 1e-3
# assert abs(0.5 * (0.1**2 - 1) - -0.495) < 1e-12
# ```
# </details>
#
# ### Exercise 4: means or widths?
#
# If every $\sigma$ were one, the KL would be $\frac{1}{2} \Vert \mu \Vert^2$, the penalty on the
# codes of an autoencoder. Which part of the KL of the model trained above is due to its means, and
# which to its widths? The arrays `loc` and `log_var`, `[images, dimensions]`, hold both.

# %%
# Your answer: the share of the KL, summed over dimensions and images, that is due to the means.
my_share = None


# %%
def check_share(share):
    """Check an answer."""
    if share is None:
        print("exercise 4: no answer yet")
        return
    assert abs(share - 0.5 * np.sum(loc**2) / by_hand.sum()) < 1e-3
    print("exercise 4: right")


check_share(my_share)

# %% [markdown]
# <details><summary>Solution</summary>
#
# The part of the means is $\frac{1}{2} \mu^2$, summed; the part of the widths is the rest, and is
# positive for every image. The means have about $0.31$ of the KL. Most of it is paid for being
# narrow, that is for telling images apart.
#
# ```python
# from_means = 0.5 * np.sum(loc**2, axis=-1)
# from_widths = by_hand.sum(-1) - from_means
# my_share = from_means.sum() / by_hand.sum()
# check_share(my_share)
# assert np.all(from_widths >= -1e-9) and 0 < my_share < 0.5
# ```
# </details>
#
# ## References
#
# - D. P. Kingma, M. Welling. Auto-Encoding Variational Bayes. 2014.
#   [arXiv:1312.6114](https://arxiv.org/abs/1312.6114), appendix B for the formula.
# - S. Kullback, R. A. Leibler. On Information and Sufficiency. Annals of Mathematical Statistics
#   22, 1951.
# - I. Higgins et al. beta-VAE: Learning Basic Visual Concepts with a Constrained Variational
#   Framework. ICLR, 2017.
# - J. Lucas, G. Tucker, R. Grosse, M. Norouzi. Don't Blame the ELBO! A Linear VAE Perspective on
#   Posterior Collapse. 2019. [arXiv:1911.02469](https://arxiv.org/abs/1911.02469).
# - M. E. Tipping, C. M. Bishop. Probabilistic Principal Component Analysis. Journal of the Royal
#   Statistical Society B 61, 1999.
# - In the library: the KL [`distributions/kl.py`](../tfvae/distributions/kl.py), Gaussians that
#   keep their log-variance [`distributions/normal.py`](../tfvae/distributions/normal.py), the
#   posterior [`posteriors.py`](../tfvae/posteriors.py), and the objective
#   [`objectives/elbo.py`](../tfvae/objectives/elbo.py). Next: `04_reparameterization`, how
#   gradients get through a draw.
