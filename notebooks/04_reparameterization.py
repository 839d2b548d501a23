# ---
# jupyter:
#   jupytext:
#     text_representation: {extension: .py, format_name: percent}
# ---

# %% [markdown]
# # 4. The reparameterisation trick
#
# The ELBO is a mean over draws of $z$ from $q(z \mid x)$, and the encoder decides what is drawn.
# Networks are trained by back-propagation, so we need the gradient of that mean by what the encoder
# puts out. But back-propagation stops at a random draw. This notebook shows the problem, then the
# trick that solves it, $z = \mu + \sigma \varepsilon$, and what else could have been done. Symbols
# are those of the table in notebook 2.
#
# ## Learning goals
#
# - See that there is no gradient through a plain draw, and why.
# - Undo a standardisation: $z = \mu + \Sigma^{\frac{1}{2}} \varepsilon$, with a Cholesky factor in
#   the place of the square root.
# - Derive the pathwise gradient from it, and the score-function gradient, which needs no trick;
#   check both against exact gradients.
# - Measure their variances, how they grow with the dimension, and what a control variate saves.
# - Read TFP's `reparameterization_type`, and see how distributions without a formula, such as the
#   Gamma, are reparameterised.
# - Recognise the gradient of one training step of `tfvae.VAE` as a mean of pathwise gradients.

# %%
import keras
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf
from scipy.linalg import sqrtm
from scipy.special import gammainc, gammaincinv, polygamma
from scipy.stats import norm
from tensorflow_probability import distributions as tfd

import tfvae

rng = np.random.default_rng(0)
keras.utils.set_random_seed(0)
tf.get_logger().setLevel("ERROR")  # it warns where one function is called with many shapes


def show(name, **values):
    """Print numbers side by side."""
    print(f"{name:32}", "   ".join(f"{key} {value:9.5f}" for key, value in values.items()))


# %% [markdown]
# ## The problem
#
# In each training step the encoder puts out $\mu(x)$ and $\Sigma(x)$, a $z$ is drawn from
# $N(\mu(x), \Sigma(x))$, and the decoder makes $\log p(x \mid z)$ of it. Written down naively, the
# draw is `z = np.random.normal(mu, sigma)`. Let $q(z) = N(\mu, \sigma^2)$ and $f$ some function; in
# a VAE, $f(z) = \log p(x \mid z)$. We want
#
# $$\frac{\partial}{\partial \mu} \mathbb{E}_{q}[f(z)] \quad \text{and} \quad
# \frac{\partial}{\partial \sigma} \mathbb{E}_{q}[f(z)] . \tag{4.1}$$
#
# For three functions the expectation has a formula, and so have both derivatives:
#
# $$\mathbb{E}[z^2] = \mu^2 + \sigma^2, \qquad
# \mathbb{E}[\cos z] = \cos(\mu) e^{-\sigma^2 / 2}, \qquad
# \mathbb{E}[e^{z / 2}] = e^{\mu / 2 + \sigma^2 / 8} . \tag{4.2}$$
#
# Expectations over $\varepsilon \sim N(0, 1)$ are sums over the nodes of Gauss-Hermite quadrature,
# which is exact to rounding for functions as smooth as these. It confirms the means, and
# differences of the means confirm the gradients.

# %%
mu, sigma = 0.8, 0.6
functions = {"z²": np.square, "cos z": np.cos, "exp(z/2)": lambda z: np.exp(z / 2)}
slopes = {
    "z²": lambda z: 2 * z,
    "cos z": lambda z: -np.sin(z),
    "exp(z/2)": lambda z: np.exp(z / 2) / 2,
}
nodes, node_weights = np.polynomial.hermite_e.hermegauss(80)
node_weights = node_weights / np.sqrt(2 * np.pi)


def quadrature(values):
    """E[values(ε)] of values at the nodes, along the last axis."""
    return np.sum(values * node_weights, axis=-1)


def exact_mean(name, mu, sigma):
    if name == "z²":
        return mu**2 + sigma**2
    if name == "cos z":
        return np.cos(mu) * np.exp(-(sigma**2) / 2)
    return np.exp(mu / 2 + sigma**2 / 8)


def exact_gradient(name):
    """By μ and by σ."""
    mean = exact_mean(name, mu, sigma)
    if name == "z²":
        return np.array([2 * mu, 2 * sigma])
    if name == "cos z":
        return np.array([-np.tan(mu) * mean, -sigma * mean])
    return np.array([mean / 2, sigma * mean / 4])


step = 1e-5
for name, f in functions.items():
    by_nodes = quadrature(f(mu + sigma * nodes))
    show(f"E[{name}]", formula=exact_mean(name, mu, sigma), quadrature=by_nodes)
    assert abs(by_nodes - exact_mean(name, mu, sigma)) < 1e-10  # (4.2)
    by_mu = exact_mean(name, mu + step, sigma) - exact_mean(name, mu - step, sigma)
    by_sigma = exact_mean(name, mu, sigma + step) - exact_mean(name, mu, sigma - step)
    differences = np.array([by_mu, by_sigma]) / (2 * step)
    for by, formula, difference in zip("μσ", exact_gradient(name), differences, strict=True):
        show(f"  its derivative by {by}", formula=formula, differences=difference)
    np.testing.assert_allclose(exact_gradient(name), differences, atol=1e-8)  # (4.1)

# %% [markdown]
# Now draw $z$, compute the mean of $f$, and ask the tape for the gradient. If the draws are just
# numbers, there is nothing to go back through: the tape says `None`. In a training loop the encoder
# would never learn from the reconstruction.

# %%
m = tf.Variable(mu)
with tf.GradientTape(persistent=True) as tape:
    numbers = tf.constant(rng.normal(m.numpy(), sigma, 1000), tf.float32)  # drawn by NumPy
    from_numpy = tf.reduce_mean(numbers**2)
    stopped = tf.reduce_mean(tf.stop_gradient(tfd.Normal(m, sigma).sample(1000, seed=1)) ** 2)
    bits = tfd.Bernoulli(logits=m, dtype=tf.float32).sample(1000, seed=1)
    from_bits = tf.reduce_mean(bits)
for name, value in (
    ("draws by NumPy", from_numpy),
    ("draws with tf.stop_gradient", stopped),
    ("tfd.Bernoulli", from_bits),
):
    gradient = tape.gradient(value, m)
    print(f"{name:28} mean {float(value):.3f}, gradient by its parameter: {gradient}")
    assert gradient is None

# %% [markdown]
# > **Loosely said.** "Sampling has no gradient, and the trick makes the network differentiable."
# > The networks are differentiable anyway, and the gradient $(4.1)$ that we want exists: the *mean*
# > of $f(z)$ depends smoothly on $\mu$, even for a bit, which jumps from 0 to 1. What has no
# > gradient is a *draw* that is handed on as a bare number. The trick is a way to draw that keeps
# > the connection. The cell shows that the means are smooth: it moves the parameter a little and
# > looks how the exact mean moves.

# %%
for name, mean_of in (
    ("E[z²], z from N(μ, σ²)", lambda m: m**2 + sigma**2),
    ("E[z], z a bit, logit μ", lambda m: 1 / (1 + np.exp(-m))),
):
    slope = (mean_of(mu + step) - mean_of(mu - step)) / (2 * step)
    show(name, at_mu=mean_of(mu), at_mu_plus_01=mean_of(mu + 0.1), gradient=slope)
    assert slope > 0.1

# %% [markdown]
# One could take differences: estimate the mean at $\mu$ and close by. With new draws for each, the
# noise of the two is larger than their difference. With the *same* noise for both, it cancels.

# %%
settings = np.linspace(0, 1.6, 81)
fixed = rng.standard_normal(100)
fresh = [np.mean(np.cos(value + sigma * rng.standard_normal(100))) for value in settings]
common = [np.mean(np.cos(value + sigma * fixed)) for value in settings]
figure, axis = plt.subplots(figsize=(6.5, 2.8), layout="constrained")
axis.plot(settings, fresh, "C1", lw=1, label="new draws at each μ")
axis.plot(settings, common, "C0", label="the same ε at each μ")
axis.plot(settings, exact_mean("cos z", settings, sigma), "k--", label="exact")
axis.set(title="E[cos z] from a hundred draws", xlabel="μ", ylabel="estimate")
axis.legend()
plt.show()
# The roughness of a curve: the spread of its steps.
show("spread of the steps", new_draws=np.std(np.diff(fresh)), same_noise=np.std(np.diff(common)))
assert np.std(np.diff(common)) < np.std(np.diff(fresh))

# %% [markdown]
# The blue curve is off by a little, but it is smooth: it has a slope, and the slope is nearly
# right. To hold the noise still and move the parameters: that is the trick.
#
# ## The trick: undo a standardisation
#
# You know how to **standardise**: subtract the mean, divide by the standard deviation, and any
# Gaussian number becomes one with mean 0 and variance 1,
#
# $$z_{\mathrm{std}} = \frac{z - \mu}{\sigma} \sim N(0, 1), \qquad \text{in $d$ dimensions} \qquad
# z_{\mathrm{std}} = \Sigma^{-\frac{1}{2}} (z - \mu) \sim N(0, I) . \tag{4.3}$$
#
# Read it backwards. Draw the standardised number first, call it $\varepsilon$, and undo the
# standardisation:
#
# $$z = \mu + \Sigma^{\frac{1}{2}} \varepsilon, \qquad \varepsilon \sim N(0, I) . \tag{4.4}$$
#
# This $z$ has the distribution $N(\mu, \Sigma)$, for
# $\mathbb{E}[z] = \mu + \Sigma^{\frac{1}{2}} \mathbb{E}[\varepsilon] = \mu$ and
# $\mathrm{Cov}[z] = \Sigma^{\frac{1}{2}} \mathrm{Cov}[\varepsilon] (\Sigma^{\frac{1}{2}})^\top
# = \Sigma$. For the last step any matrix will do whose product with its transpose is $\Sigma$. The
# cheapest to compute is the **Cholesky factor**, a lower triangular $L$:
#
# $$L L^\top = \Sigma, \qquad z = \mu + L \varepsilon . \tag{4.5}$$
#
# The cell draws with the Cholesky factor and with the symmetric root. Both give the right mean and
# covariance. They are not the same draws: one $\varepsilon$ leads to two different $z$.

# %%
mean = np.array([1.0, -0.5])
covariance = np.array([[1.0, 0.8], [0.8, 2.0]])
roots = {"Cholesky factor": np.linalg.cholesky(covariance), "symmetric root": sqrtm(covariance)}
K = 100_000
eps = rng.standard_normal((K, 2))
drawn = {}
for name, root in roots.items():
    drawn[name] = mean + eps @ root.T
    found = np.cov(drawn[name].T)
    back = np.linalg.solve(root, (drawn[name] - mean).T)  # standardised again
    print(f"{name}: product with its transpose {(root @ root.T).round(6).tolist()}")
    print(f"  draws: mean {drawn[name].mean(0).round(3)}, covariance {found.round(3).tolist()}")
    print(f"  the first ε {eps[0].round(3)} leads to z = {drawn[name][0].round(3)}")
    np.testing.assert_allclose(root @ root.T, covariance, atol=1e-12)  # (4.5)
    np.testing.assert_allclose(back.T, eps, atol=1e-9)  # (4.3)
    # (4.4): the error of a mean is √(Σ_ii / K); that of a covariance at most √2 Σ_ii / √K.
    assert np.all(np.abs(drawn[name].mean(0) - mean) < 4 * np.sqrt(np.diag(covariance) / K))
    assert np.all(np.abs(found - covariance) < 4 * np.sqrt(2) * 2 / np.sqrt(K))
assert np.abs(drawn["Cholesky factor"][0] - drawn["symmetric root"][0]).max() > 0.05

# %% [markdown]
# In most VAEs
# $\Sigma$ is diagonal. Its Cholesky factor is then the diagonal of standard deviations, and $(4.4)$
# is a product number by number. With the log-variance $\lambda = \log \sigma^2$ that the encoder
# puts out,
#
# $$z = \mu + \sigma \odot \varepsilon = \mu + e^{\lambda / 2} \odot \varepsilon . \tag{4.6}$$
#
# All randomness is in $\varepsilon$, and no parameter enters its distribution. $z$ is now a plain
# function of $\mu$, $\sigma$ and $\varepsilon$, and we can differentiate it:
#
# $$\frac{\partial z}{\partial \mu} = 1, \qquad \frac{\partial z}{\partial \sigma} = \varepsilon,
# \qquad \frac{\partial z}{\partial \lambda} = \frac{1}{2} \sigma \varepsilon . \tag{4.7}$$
#
# ![A draw blocks the gradient; the trick lets it pass](figures/reparameterisation.svg)

# %%
few = rng.standard_normal(4)
m = tf.Variable(np.full(4, mu))
s = tf.Variable(np.full(4, sigma))
log_var = tf.Variable(np.full(4, 2 * np.log(sigma)))
with tf.GradientTape(persistent=True) as tape:
    z = m + s * few
    same = m + tf.exp(0.5 * log_var) * few
print("ε                  ", few.round(4))
print("z by σ             ", z.numpy().round(4))
print("z by log σ²        ", same.numpy().round(4))
np.testing.assert_allclose(z, same, rtol=1e-12)  # (4.6)
for name, target, variable, formula in (
    ("∂z/∂μ", z, m, np.ones(4)),
    ("∂z/∂σ", z, s, few),
    ("∂z/∂log σ²", same, log_var, 0.5 * sigma * few),
):
    by_tape = tape.gradient(target, variable).numpy()
    print(f"{name:10} by tape ", by_tape.round(4), " formula", formula.round(4))
    np.testing.assert_allclose(by_tape, formula, rtol=1e-12)  # (4.7)

# %% [markdown]
# The mean in $(4.1)$ is now over $\varepsilon$. The derivative may go inside of it, and acts on
# $f$:
#
# $$\frac{\partial}{\partial \mu} \mathbb{E}_{\varepsilon}[f(\mu + \sigma \varepsilon)]
# = \mathbb{E}_{\varepsilon}[f'(z)], \qquad
# \frac{\partial}{\partial \sigma} \mathbb{E}_{\varepsilon}[f(\mu + \sigma \varepsilon)]
# = \mathbb{E}_{\varepsilon}[f'(z) \varepsilon] . \tag{4.8}$$
#
# What stands in the brackets is the **pathwise** gradient of one draw: it follows the path from the
# parameters through $z$ to $f$. TFP draws normals in this way, so the tape goes through `sample`.
# Gradients of single draws must be those of the formula, and their mean the exact gradient, within
# its standard error.


# %%
def path_estimates(slope, eps):
    return slope(mu + sigma * eps) * np.stack([np.ones_like(eps), eps])


tf_functions = {"z²": tf.square, "cos z": tf.cos, "exp(z/2)": lambda z: tf.exp(z / 2)}
print("gradients by μ and by σ")
for name, slope in slopes.items():
    m, s = (tf.Variable(np.full(K, value)) for value in (mu, sigma))  # one of each a draw
    with tf.GradientTape() as tape:
        z = tfd.Normal(m, s).sample(seed=1)
        total = tf.reduce_sum(tf_functions[name](z))
    path = np.stack(tape.gradient(total, [m, s]))
    eps = (z.numpy() - mu) / sigma
    by_nodes = quadrature(path_estimates(slope, nodes))
    error = path.std(axis=1, ddof=1) / np.sqrt(K)
    print(f"{name:9} exact {exact_gradient(name).round(4)}, (4.8) {by_nodes.round(4)}", end="")
    print(f", TFP's draws {path.mean(axis=1).round(4)} ± {error.round(4)}")
    np.testing.assert_allclose(by_nodes, exact_gradient(name), atol=1e-9)  # (4.8)
    np.testing.assert_allclose(path, path_estimates(slope, eps), atol=1e-9)
    assert np.all(np.abs(path.mean(axis=1) - exact_gradient(name)) < 4 * error)

# %% [markdown]
# The picture shows how the path works: each $\varepsilon$ on the lower line is carried to its $z$
# on the upper one. When $\mu$ and $\sigma$ change, the same $\varepsilon$ arrive elsewhere, and how
# far each has moved is its derivative.

# %%
figure, axes = plt.subplots(1, 2, figsize=(9, 2.8), layout="constrained", sharey=True)
few = norm.ppf((np.arange(15) + 0.5) / 15)
line = np.linspace(-3.5, 3.5, 300)
for axis, (location, scale) in zip(axes, ((0.8, 0.6), (-0.5, 1.0)), strict=True):
    for eps in few:
        axis.plot([eps, location + scale * eps], [0, 1], color="C0", lw=0.8, alpha=0.7)
    axis.plot(few, np.zeros(15), "k.", ms=5)
    axis.plot(location + scale * few, np.ones(15), "C3.", ms=5)
    axis.fill_between(line, -norm.pdf(line), color="0.8")
    axis.fill_between(line, 1, 1 + norm.pdf(line, location, scale), color="C3", alpha=0.25)
    axis.set(
        title=f"μ = {location:g}, σ = {scale:g}: z = μ + σ ε",
        xlabel="ε (below), z (above)",
        xlim=(-3, 3),
    )
    axis.set_yticks([0, 1], ["ε", "z"])
    axis.grid(False)
plt.show()

# %% [markdown]
# With this, the lecture on VAEs is complete. Go back to the forty lines of plain Keras in
# notebook 1: $(4.6)$ is the line with `eps`. What follows asks what else could have been done, and
# why it is not.
#
# ## Another way: the score function
#
# Write the mean as an integral and move the derivative inside. It acts on $q$ alone:
#
# $$\frac{\partial}{\partial \mu} \int q(z) f(z) dz
# = \int \frac{\partial q(z)}{\partial \mu} f(z) dz . \tag{4.9}$$
#
# This is no mean under any density. The rule $\partial q = q \cdot \partial \log q$ makes it one:
#
# $$\frac{\partial}{\partial \mu} \mathbb{E}_{q}[f(z)]
# = \mathbb{E}_{q}\left[f(z) \frac{\partial \log q(z)}{\partial \mu}\right] . \tag{4.10}$$
#
# The factor is called the *score*. For a Gaussian, with $\varepsilon = (z - \mu) / \sigma$,
#
# $$\frac{\partial \log q}{\partial \mu} = \frac{\varepsilon}{\sigma}, \qquad
# \frac{\partial \log q}{\partial \sigma} = \frac{\varepsilon^2 - 1}{\sigma} . \tag{4.11}$$
#
# $f$ need not be differentiable; only its values are used. In reinforcement learning the same
# estimator is called REINFORCE.


# %%
def score(eps):
    """The gradient of log q(z) by μ and by σ, [2, ...]."""
    return np.stack([eps, eps**2 - 1]) / sigma


def score_estimates(f, eps):
    return f(mu + sigma * eps) * score(eps)


with tf.GradientTape() as tape:
    m, s = tf.Variable(np.float64(mu)), tf.Variable(np.float64(sigma))
    log_q = tfd.Normal(m, s).log_prob(mu + sigma * 1.7)
by_tape = np.array(tape.gradient(log_q, [m, s]))
print("score at ε = 1.7: tape", by_tape.round(5), " formula", score(1.7).round(5))
print("mean of the score:", quadrature(score(nodes)).round(12))
np.testing.assert_allclose(by_tape, score(1.7), rtol=1e-10)  # (4.11)
np.testing.assert_allclose(quadrature(score(nodes)), 0, atol=1e-12)  # ∂ ∫ q dz = 0

grid = np.linspace(mu - 8 * sigma, mu + 8 * sigma, 4001)
moved = norm.pdf(grid, mu + step, sigma) - norm.pdf(grid, mu - step, sigma)
for name, f in functions.items():
    inside = np.trapezoid(moved / (2 * step) * f(grid), grid)
    by_nodes = quadrature(score_estimates(f, nodes))
    sample = score_estimates(f, rng.standard_normal(K))
    error = sample.std(axis=1, ddof=1) / np.sqrt(K)
    print(f"{name:9} exact {exact_gradient(name).round(4)}, (4.9) by μ {inside:.4f}", end="")
    print(f", (4.10) {by_nodes.round(4)}, draws {sample.mean(1).round(4)} ± {error.round(4)}")
    np.testing.assert_allclose(inside, exact_gradient(name)[0], atol=1e-6)  # (4.9)
    np.testing.assert_allclose(by_nodes, exact_gradient(name), atol=1e-9)  # (4.10)
    assert np.all(np.abs(sample.mean(axis=1) - exact_gradient(name)) < 4 * error)

# %% [markdown]
# Both ways are right. Their errors, from equally many draws, are not alike.
#
# ## Variances
#
# An estimator that is right in the mean may still need many draws. Its variance with one draw can
# be computed by quadrature, and measured. The error of a variance measured with $n$ draws is
# $\sqrt{(m_4 - v^2) / n}$, with $v$ the variance and $m_4$ the fourth central moment.


# %%
def variance_with_error(estimates):
    centred = estimates - estimates.mean(axis=-1, keepdims=True)
    v = np.mean(centred**2, axis=-1)
    return v, np.sqrt((np.mean(centred**4, axis=-1) - v**2) / estimates.shape[-1])


eps = rng.standard_normal(K)
print("variance of one draw's gradient: exact, measured")
for name, f in functions.items():
    for kind, estimate, what in (
        ("score", score_estimates, f),
        ("path", path_estimates, slopes[name]),
    ):
        exact = quadrature(estimate(what, nodes) ** 2) - exact_gradient(name) ** 2
        measured, error = variance_with_error(estimate(what, eps))
        print(f"{name:9} {kind:5}", end="  ")
        for by, *figures in zip("μσ", exact, measured, error, strict=True):
            print("by {}: {:8.4f}  {:8.4f} ± {:.4f}".format(by, *figures), end="   ")
        print()
        assert np.all(np.abs(measured - exact) < 4 * error + 1e-12)

# %% [markdown]
# Why is the score's so much larger? It multiplies the *value* of $f$ by the random score. If a
# constant is added to $f$, the gradient does not change, but every estimate does. The path uses
# the slope of $f$, which knows in which direction $f$ grows at $z$.
#
# ### With the dimension
#
# Let $f(z) = \sum_{i=1}^{d} z_i^2$ with $d$ independent coordinates, and look at the gradient by
# $\mu_1$ alone. The path's estimate is $2 z_1$, whatever $d$. The score's is
# $f(z) \varepsilon_1 / \sigma$: the other coordinates add to $f$, have nothing to do with $\mu_1$,
# and are multiplied by the noise $\varepsilon_1$. With $A = z_1^2$ and $B$ the sum of the others,
# which is independent of $\varepsilon_1$,
#
# $$\mathbb{E}[f^2 \varepsilon_1^2] = \mathbb{E}[A^2 \varepsilon_1^2]
# + 2 \mathbb{E}[A \varepsilon_1^2] \mathbb{E}[B] + \mathbb{E}[B^2] , \tag{4.12}$$
#
# and $\mathbb{E}[B^2]$ grows like $d^2$.
#
# ### A control variate
#
# As the score has mean zero, any constant $b$ may be subtracted from $f$:
# $\mathbb{E}[(f(z) - b) \cdot \mathrm{score}]$ is the same for every $b$, and $b$ can be chosen so
# that the variance is least. The variance is a parabola in $b$; setting its derivative to zero
# gives
#
# $$b^{\ast} = \frac{\mathbb{E}[f(z) \mathrm{score}^2]}{\mathbb{E}[\mathrm{score}^2]} . \tag{4.13}$$

# %%
for name, f in functions.items():
    squares = score(nodes) ** 2
    best = quadrature(f(mu + sigma * nodes) * squares) / quadrature(squares)
    around = best[:, None] + np.array([-0.1, 0, 0.1])
    centred = (f(mu + sigma * nodes) - around[..., None]) * score(nodes)[:, None]
    np.testing.assert_allclose(
        quadrature(centred), exact_gradient(name)[:, None] * np.ones(3), atol=1e-9
    )
    variances = quadrature(centred**2) - exact_gradient(name)[:, None] ** 2
    without = quadrature(score_estimates(f, nodes) ** 2) - exact_gradient(name) ** 2
    print(f"{name:9} b* {best.round(4)}; variance by μ and σ {without.round(4)}", end="")
    print(f", with b* {variances[:, 1].round(4)}, with b* + 0.1 {variances[:, 2].round(4)}")
    # (4.13): to either side of b* the variance is larger
    assert np.all(variances[:, 1] < variances[:, 0]) and np.all(variances[:, 1] < variances[:, 2])

# %% [markdown]
# With $b = \mathbb{E}[f]$, which is nearly the best for many dimensions, the large common part of
# $\mathbb{E}[B^2]$ is gone, and the growth is that of the variance of $B$, linear in $d$.
# Measured:

# %% tags=["parameters"] capped="draws = 4000"
draws = 40_000

# %%
dimensions = np.array([1, 2, 5, 10, 20, 50, 100])
m2 = mu**2 + sigma**2  # E[z²]
v2 = 2 * sigma**4 + 4 * mu**2 * sigma**2  # Var[z²]
first = (mu + sigma * nodes) ** 2  # A at the nodes
others = dimensions - 1
second_moments = {
    "score": quadrature(first**2 * nodes**2)
    + 2 * quadrature(first * nodes**2) * others * m2
    + others * v2
    + (others * m2) ** 2,
    "score, b = E[f]": quadrature((first - m2) ** 2 * nodes**2) + others * v2,
}
exact = {name: value / sigma**2 - (2 * mu) ** 2 for name, value in second_moments.items()}
exact["path"] = np.full(len(dimensions), 4 * sigma**2)
measured = {name: [] for name in exact}
for d in dimensions:
    eps = rng.standard_normal((draws, d))
    z = mu + sigma * eps
    f = np.sum(z**2, axis=1)
    estimates = {
        "score": f * eps[:, 0] / sigma,
        "score, b = E[f]": (f - d * m2) * eps[:, 0] / sigma,
        "path": 2 * z[:, 0],
    }
    for name, values in estimates.items():
        measured[name].append(variance_with_error(values))

figure, axis = plt.subplots(figsize=(6.5, 3.4), layout="constrained")
for name, pairs in measured.items():
    v, error = np.array(pairs).T
    line = axis.plot(dimensions, exact[name], lw=1, label=name)[0]
    axis.errorbar(dimensions, v, 2 * error, fmt="o", ms=4, color=line.get_color())
    assert np.all(np.abs(v - exact[name]) < 4.5 * error)  # (4.12)
    print(f"{name:16} variance at d = 1, exact and measured: ", end="")
    print(f"{exact[name][0]:8.3f} {v[0]:8.3f}, at d = 100: {exact[name][-1]:10.3f} {v[-1]:10.3f}")
axis.set(xscale="log", yscale="log", xlabel="latent dimension d", ylabel="variance")
axis.set_title("gradient by one μ from one draw: exact (lines), measured (dots ± 2 errors)")
axis.legend()
plt.show()

# %% [markdown]
# The variance of the path does not depend on the dimension; in a VAE's training step one draw is
# enough. The variance of the score grows with the square of the dimension, and with the control
# variate it grows with its first power.
#
# ### Where the path is not better
#
# The path uses the slope of $f$, so it is bad where $f$ is rough. For $f(z) = \sin(k z)$ the slope
# is of size $k$, while the score's estimate is never larger than the score. And a step function has
# the slope zero wherever it has one: the path's estimate is zero, and wrong, while the score's is
# right. The exact gradient is the density at the step, with $\varphi$ that of $N(0, 1)$:
#
# $$\frac{\partial}{\partial \mu} \mathbb{E}[1_{z > 0}]
# = \frac{1}{\sigma} \varphi\left(\frac{\mu}{\sigma}\right) . \tag{4.14}$$

# %%
frequencies = np.geomspace(0.3, 20, 60)
by_path, by_score = [], []
for k in frequencies:
    # E[cos² kz] and E[sin² kz ε²], from the moments of cos 2kz under a normal.
    damping = np.exp(-2 * (k * sigma) ** 2)
    slope = k * np.cos(k * mu) * np.exp(-0.5 * (k * sigma) ** 2)
    by_path.append(k**2 * (1 + np.cos(2 * k * mu) * damping) / 2 - slope**2)
    twisted = np.cos(2 * k * mu) * (1 - 4 * (k * sigma) ** 2) * damping
    by_score.append((1 - twisted) / (2 * sigma**2) - slope**2)
    if k < 5:  # smooth enough for the nodes
        z = mu + sigma * nodes
        again = (
            quadrature((k * np.cos(k * z)) ** 2),
            quadrature((np.sin(k * z) * nodes / sigma) ** 2),
        )
        np.testing.assert_allclose(
            np.array(again) - slope**2, [by_path[-1], by_score[-1]], atol=1e-6
        )
figure, axis = plt.subplots(figsize=(6.5, 2.8), layout="constrained")
axis.plot(frequencies, by_score, label="score")
axis.plot(frequencies, by_path, label="path")
axis.set(xscale="log", yscale="log", xlabel="k", ylabel="variance")
axis.set_title("gradient of E[sin(k z)] by μ, one draw")
axis.legend()
plt.show()
show(f"variance at k = {frequencies[0]:g}", score=by_score[0], path=by_path[0])
show(f"variance at k = {frequencies[-1]:g}", score=by_score[-1], path=by_path[-1])
assert by_path[0] < by_score[0] and by_path[-1] > by_score[-1]

z = mu + sigma * rng.standard_normal(K)
estimates = (z > 0) * (z - mu) / sigma**2
error = estimates.std(ddof=1) / np.sqrt(K)
exact_step = norm.pdf(mu / sigma) / sigma
print(f"step function: exact {exact_step:.4f}, score {estimates.mean():.4f} ± {error:.4f}, path 0")
assert abs(estimates.mean() - exact_step) < 4 * error  # (4.14)

# %% [markdown]
# A decoder is smooth, and the path is the better choice. For discrete latent variables there is no
# path. What remains is the score with good control variates, or a smooth variable in the place of
# the discrete one.
#
# ## What TFP says
#
# Every TFP distribution has a `reparameterization_type`: `FULLY_REPARAMETERIZED` if `sample` may
# be differentiated by all parameters, else `NOT_REPARAMETERIZED`. We ask the tape as well, for the
# first coordinate of a draw by a parameter.

# %%
families = {
    "Normal": lambda t: tfd.Normal(t, 1.0),
    "LogNormal": lambda t: tfd.LogNormal(t, 1.0),
    "Laplace": lambda t: tfd.Laplace(t, 1.0),
    "Logistic": lambda t: tfd.Logistic(t, 1.0),
    "MultivariateNormalTriL": lambda t: tfd.MultivariateNormalTriL([t, t], tf.eye(2)),
    "Independent(Normal)": lambda t: tfd.Independent(tfd.Normal([t, t], 1.0), 1),
    "StudentT": lambda t: tfd.StudentT(t + 3, 0.0, 1.0),
    "Gamma": lambda t: tfd.Gamma(t, 1.0),
    "Beta": lambda t: tfd.Beta(t, 2.0),
    "Dirichlet": lambda t: tfd.Dirichlet([t, 1.0, 2.0]),
    "VonMises": lambda t: tfd.VonMises(0.0, t),
    "RelaxedBernoulli": lambda t: tfd.RelaxedBernoulli(0.5, logits=t),
    "Bernoulli": lambda t: tfd.Bernoulli(logits=t),
    "Categorical": lambda t: tfd.Categorical(logits=[t, 0.0]),
    "Poisson": tfd.Poisson,
    "Geometric": lambda t: tfd.Geometric(logits=t),
    "MixtureSameFamily, weights": lambda t: tfd.MixtureSameFamily(
        tfd.Categorical(logits=[t, 0.0]), tfd.Normal([-1.0, 1.0], 1.0)
    ),
}
print(f"{'':27} {'reparameterization_type':24} gradient of a draw")
for name, make in families.items():
    t = tf.Variable(0.7)
    with tf.GradientTape() as tape:
        distribution = make(t)
        z = tf.cast(tf.reshape(distribution.sample(seed=3), [-1])[0], tf.float32)
    gradient = tape.gradient(z, t)
    fully = distribution.reparameterization_type == tfd.FULLY_REPARAMETERIZED
    said = "FULLY_REPARAMETERIZED" if fully else "NOT_REPARAMETERIZED"
    print(f"{name:27} {said:24} {gradient if gradient is None else f'{float(gradient):.4f}'}")
    assert fully == (gradient is not None)

# %% [markdown]
# The first ones have a formula like $\mu + \sigma \varepsilon$. All discrete ones have none, and a
# mixture chooses a component, which is discrete too. A model of the library raises an error when it
# is made with a posterior that is not reparameterised; otherwise its encoder would silently get no
# gradient.
#
# ## Without a formula: the Gamma
#
# Draws of a Gamma are made by rejection, which is no formula, and still TFP differentiates them.
# How? In principle any draw is $z = F_\alpha^{-1}(u)$ with $u$ uniform and $F_\alpha$ the
# distribution function. Hold $u$ and differentiate $F_\alpha(z) = u$ by $\alpha$; $z$ moves along:
#
# $$\frac{\partial F_\alpha(z)}{\partial \alpha} + p_\alpha(z) \frac{dz}{d\alpha} = 0
# \quad \Rightarrow \quad
# \frac{dz}{d\alpha} = -\frac{\partial F_\alpha(z) / \partial \alpha}{p_\alpha(z)} . \tag{4.15}$$
#
# The inverse has dropped out: this is implicit reparameterisation, and any sampler may make $z$.
# We compare TFP's gradient with the formula, and with differences of the inverse at the same $u$.

# %%
alpha = 2.0
a = tf.Variable(np.full(2000, alpha))
with tf.GradientTape() as tape:
    z = tfd.Gamma(a, tf.ones((), tf.float64)).sample(seed=4)
by_tape = tape.gradient(z, a).numpy()
z = z.numpy()

step = 1e-5
slope_of_cdf = (gammainc(alpha + step, z) - gammainc(alpha - step, z)) / (2 * step)
density = tfd.Gamma(np.float64(alpha), np.float64(1)).prob(z).numpy()
u = gammainc(alpha, z)
by_inverse = (gammaincinv(alpha + step, u) - gammaincinv(alpha - step, u)) / (2 * step)
# Far in the right tail 1 − u has few digits left, and differences divide their error by the step.
kept = (u > 1e-3) & (u < 0.999)
by_formula = -slope_of_cdf / density
print("draws z        ", z[kept][:5].round(5))
print("dz/dα, tape    ", by_tape[kept][:5].round(5))
print("dz/dα, (4.15)  ", by_formula[kept][:5].round(5))
print("dz/dα, inverse ", by_inverse[kept][:5].round(5))
np.testing.assert_allclose(by_tape[kept], by_formula[kept], rtol=1e-4)  # (4.15)
np.testing.assert_allclose(by_tape[kept], by_inverse[kept], rtol=1e-4)

# %% [markdown]
# The same for two means that are known: $\mathbb{E}[z] = \alpha$, with the derivative one, and
# $\mathbb{E}[\log z] = \psi(\alpha)$, the digamma function, whose derivative is the trigamma
# function.

# %%
a = tf.Variable(np.full(K, alpha))
with tf.GradientTape(persistent=True) as tape:
    z = tfd.Gamma(a, tf.ones((), tf.float64)).sample(seed=5)
    logs = tf.math.log(z)
for name, target, exact_slope in (("E[z]", z, 1.0), ("E[log z]", logs, polygamma(1, alpha))):
    each = tape.gradient(target, a).numpy()
    error = each.std(ddof=1) / np.sqrt(K)
    print(
        f"derivative of {name} by α: exact {exact_slope:.4f}, path {each.mean():.4f} ± {error:.4f}"
    )
    assert abs(each.mean() - exact_slope) < 4 * error

line = np.linspace(1e-3, 8, 300)
figure, axis = plt.subplots(figsize=(6.5, 2.8), layout="constrained")
axis.plot(line, gammainc(2, line), "C0", label="α = 2")
axis.plot(line, gammainc(3, line), "C3", label="α = 3")
for u in (0.1, 0.3, 0.5, 0.7, 0.9):
    ends = (gammaincinv(3, u), u), (gammaincinv(2, u), u)
    axis.annotate("", *ends, arrowprops={"arrowstyle": "->", "color": "0.4"})
axis.set(title="hold u: where z moves when α grows", xlabel="z", ylabel="u = F(z)")
axis.legend()
plt.show()

# %% [markdown]
# ## In the model
#
# `vae.encode(x)` is a distribution over $z$ whose `sample` is $\mu + \sigma \varepsilon$, with
# $\sigma = e^{\lambda / 2}$ from the log-variance $\lambda$. The chain rule gives
# $\partial z / \partial \lambda = \frac{1}{2} \sigma \varepsilon$. Every draw takes a seed, and
# equal seeds give equal $\varepsilon$, whatever the weights.
#
# Beware: TFP's own `sample` takes a whole number as the seed of a generator that has a state, so
# that two calls in a row differ. A pair of numbers is a seed without a state. The library's
# methods, such as `vae.elbo` and `vae.sample`, take either and make a pair of it.

# %%
data = tfvae.datasets.load("mnist-small", binarize="static")
x, labels = data.train.arrays(limit=16)


def make_vae(seed=0, **options):
    return tfvae.VAE.for_images(
        data.image_shape, latent_dim=4, network="dense:hidden=64x32", seed=seed, **options
    )


def moments(vae):
    parameters = vae.posterior_parameters(x)
    return parameters["loc"], tf.exp(0.5 * parameters["log_var"])


first, second = make_vae(seed=0), make_vae(seed=1)
assert first.encode(x).reparameterization_type == tfd.FULLY_REPARAMETERIZED
q = first.encode(x)
assert np.all(q.sample(seed=(0, 7)) == q.sample(seed=(0, 7)))
assert np.any(q.sample(seed=(0, 7)) != q.sample(seed=(0, 8)))
assert np.all(first.elbo(x, seed=7).elbo == first.elbo(x, seed=7).elbo)
same = np.all(q.sample(seed=7) == q.sample(seed=7))
print(f"TFP, the whole number 7 twice: {'equal' if same else 'different'} draws")
noises = []
for vae in (first, second):  # two sets of weights
    loc, scale = moments(vae)
    noises.append((vae.encode(x).sample(seed=(0, 7)) - loc) / scale)
print("ε of the first image under two sets of weights:")
print(np.array(noises)[:, 0].round(4))
# Rounding of z, measured in units of sigma.
np.testing.assert_allclose(noises[0], noises[1], atol=1e-5)

# %% [markdown]
# ### One training step against the exact gradient
#
# The ELBO of the linear model of notebook 2 is a formula, and so is its gradient. With
# $x = w z + s \varepsilon$ and $q(z \mid x) = N(\mu, e^{\lambda})$,
#
# $$\frac{\partial \mathrm{ELBO}}{\partial \mu} = \frac{w (x - w \mu)}{s^2} - \mu, \qquad
# \frac{\partial \mathrm{ELBO}}{\partial \lambda}
# = \frac{1}{2} \left(1 - e^{\lambda} \left(1 + \frac{w^2}{s^2}\right)\right) . \tag{4.16}$$
#
# We make it as a VAE whose event is one number and whose encoder is two biases,
# $\mu$ and $\lambda$. It takes one step of plain gradient descent with the rate one, on many copies
# of one
# $x$. The biases then move by the mean of as many pathwise gradients, each with a draw of its own.
# A single one is, by $\mu$, $w (x - w z) / s^2 - \mu$ and, by $\lambda$,
# $\frac{1}{2} \sigma \varepsilon w (x - w z) / s^2 - \frac{1}{2}(e^\lambda - 1)$.

# %%
w, s, x_seen, location, log_variance, copies = 0.8, 0.4, 1.2, 0.5, -0.3, 20_000
code, number = keras.Input((1,)), keras.Input((1,))
linear, loc, log_var = (keras.layers.Dense(1) for _ in range(3))
decoder = keras.Model(code, linear(code))
encoder = keras.Model(number, [loc(number), log_var(number)])
for layer, slope, bias in ((linear, w, 0.0), (loc, 0.0, location), (log_var, 0.0, log_variance)):
    layer.set_weights([np.array([[slope]]), np.array([bias])])
likelihood = tfvae.likelihoods.Normal(scale=s, decoder_output="parameters")
vae = tfvae.VAE(encoder, decoder, latent_dim=1, likelihood=likelihood, seed=0)
vae.compile(keras.optimizers.SGD(1.0))
vae.train_on_batch(np.full((copies, 1), x_seen, "float32"))
moved = np.array([loc.bias[0] - location, log_var.bias[0] - log_variance], dtype=np.float64)

scale = np.exp(log_variance / 2)
z = location + scale * nodes
by_z = w * (x_seen - w * z) / s**2
single = np.stack([by_z - location, 0.5 * scale * nodes * by_z - 0.5 * (scale**2 - 1)])
expected = quadrature(single)
by_formula = (
    w * (x_seen - w * location) / s**2 - location,
    0.5 * (1 - scale**2 * (1 + w**2 / s**2)),
)
np.testing.assert_allclose(expected, by_formula, atol=1e-9)  # (4.16)
error = np.sqrt((quadrature(single**2) - expected**2) / copies)
print(f"gradient of the ELBO by μ and log σ², formula: {np.round(by_formula, 4)}")
print(f"mean of single draws, by quadrature:           {expected.round(4)}")
print(f"one step of tfvae.VAE on {copies} draws:          {moved.round(4)} ± {error.round(4)}")
assert np.all(np.abs(moved - expected) < 4 * error)

# %% [markdown]
# ### One training step, draw by draw
#
# For real images there is no exact value, but the step can be taken apart. A model with eight draws
# an image takes one step. Its twin, made with the same seed, tells us which $\varepsilon$ it used.
# For each draw by itself we write out $z = \mu + \sigma \varepsilon$ and the loss, and let the tape
# find the gradient. The mean of the eight must be the step.

# %%
draws = 8
vae = make_vae(objective=f"elbo:num_samples={draws}")
twin = make_vae(objective=f"elbo:num_samples={draws}")
vae.compile(keras.optimizers.SGD(1.0))
before = [v.numpy() for v in vae.trainable_variables]
vae.train_on_batch(x)
stepped = [b - v.numpy() for b, v in zip(before, vae.trainable_variables, strict=True)]

z = twin.terms(x, num_samples=draws, seed=twin.next_training_seed(), training=True).z
loc, scale = moments(twin)
noise = (z - loc) / scale  # numbers: no gradient runs through them


def pathwise_gradient(eps):
    with tf.GradientTape() as tape:
        parameters = twin.posterior_parameters(x)
        loc, log_var = parameters["loc"], parameters["log_var"]
        z = loc + tf.exp(0.5 * log_var) * eps
        kl = tf.reduce_sum(tfvae.distributions.kl.gaussian_kl(loc, log_var), axis=-1)
        loss = tf.reduce_mean(-(twin.decode(z).log_prob(x) - kl))
    return tape.gradient(loss, twin.trainable_variables)


each = [pathwise_gradient(eps) for eps in noise]
averages = [np.mean([g.numpy() for g in values], axis=0) for values in zip(*each, strict=True)]
for average, change, start in zip(averages, stepped, before, strict=True):
    # before − after has the rounding of the weights themselves.
    slack = 1e-4 * np.abs(average).max() + 4e-7 * np.abs(start).max() + 1e-7
    assert np.all(np.abs(average - change) <= slack)
largest = max(np.abs(average).max() for average in averages)
worst = max(np.abs(a - b).max() for a, b in zip(averages, stepped, strict=True))
print(f"largest gradient {largest:.3f}; largest difference of step and mean {worst:.1e}")

# %% [markdown]
# ### What the score function would have cost
#
# Finally, both estimators on a decoder of digits. We train for a while, take one image, and
# estimate the gradient of $\mathbb{E}_q[\log p(x \mid z)]$ by each $\mu_i$, 4,000 times with one
# draw.

# %% tags=["parameters"] capped="epochs = 1"
epochs = 10

# %%
train = data.train.subset(min(len(data.train), 6000))
vae = make_vae()
vae.compile(keras.optimizers.Adam(2e-3))
vae.fit(train.batches(128, shuffle=True), epochs=epochs, verbose=0)

loc, scale = (value[0] for value in moments(vae))
eps = tf.random.stateless_normal((4000, 4), seed=(1, 2))
z = loc + scale * eps
with tf.GradientTape() as tape:
    tape.watch(z)
    log_likelihood = vae.decode(z).log_prob(x[0])
path = tape.gradient(log_likelihood, z).numpy().astype(np.float64)
by_score = (log_likelihood[:, None] * eps / scale).numpy().astype(np.float64)
baseline = log_likelihood - tf.reduce_mean(log_likelihood)
with_baseline = (baseline[:, None] * eps / scale).numpy().astype(np.float64)

ratio = by_score.var(axis=0) / path.var(axis=0)
ratio_with = with_baseline.var(axis=0) / path.var(axis=0)
print(f"log p(x|z) of the image: {float(tf.reduce_mean(log_likelihood)):.1f} nats")
print("gradient by μ, path: ", path.mean(0).round(3), "±", (path.std(0) / np.sqrt(4000)).round(3))
print("gradient by μ, score:", by_score.mean(0).round(3), end=" ± ")
print((by_score.std(0) / np.sqrt(4000)).round(3))
print("variance of the score's in units of the path's:", ratio.round(1))
print("the same with the mean as a baseline:          ", ratio_with.round(1))
difference = np.abs(path.mean(0) - by_score.mean(0))
assert np.all(difference < 4.5 * np.sqrt((path.var(0) + by_score.var(0)) / 4000))
assert np.all(by_score.var(0) > path.var(0))

# %% [markdown]
# The ratio is the number of draws that the score function would need for each of the path's. This
# is why a VAE can be trained with one draw an image.
#
# ## Exercises
#
# ### Exercise 1: reparameterise the Laplace distribution
#
# With $u$ uniform on $(-\frac{1}{2}, \frac{1}{2})$, the number
# $z = \mu - b \cdot \mathrm{sign}(u) \log(1 - 2 |u|)$ has a Laplace distribution. Write the
# pathwise gradients of $\mathbb{E}[z^2]$ by $\mu$ and by
# $b$, and estimate them from 100,000 draws at $\mu = 0.8$, $b = 0.7$.

# %%
# Your answer: two numbers.
my_by_mu, my_by_b = None, None


# %%
def check_laplace(by_mu, by_b):
    """Check an answer against E[z²] = μ² + 2 b²."""
    if by_mu is None:
        print("exercise 1: no answer yet")
        return
    assert abs(by_mu - 2 * 0.8) < 0.05, "by μ: 2 μ"
    assert abs(by_b - 4 * 0.7) < 0.15, "by b: 4 b"
    print("exercise 1: right")


check_laplace(my_by_mu, my_by_b)

# %% [markdown]
# <details><summary>Solution</summary>
#
# With the noise $\varepsilon = -\mathrm{sign}(u) \log(1 - 2 |u|)$, $z = \mu + b \varepsilon$ as for
# the Gaussian. So one draw's gradients are $2 z$ and $2 z \varepsilon$, with the means
# $2 \mu = 1.6$ and $4 b = 2.8$.
#
# ```python
# u = rng.uniform(-0.5, 0.5, K)
# noise = -np.sign(u) * np.log1p(-2 * np.abs(u))
# z = 0.8 + 0.7 * noise
# each = np.stack([2 * z, 2 * z * noise])
# error = each.std(axis=1, ddof=1) / np.sqrt(K)
# my_by_mu, my_by_b = each.mean(axis=1)
# check_laplace(my_by_mu, my_by_b)
# assert np.all(np.abs(each.mean(axis=1) - np.array([1.6, 2.8])) < 4 * error)
# ```
# </details>
#
# ### Exercise 2: the baseline must not know the draw
#
# A constant may be subtracted from $f$ in the score-function estimate; a number that depends on the
# same draw may not. Take $f(z) = z^2$ and $K = 5$ draws, 40,000 times over. Subtract from each $f$
# the mean of the *other* four, and then the mean of *all* five. What is the mean estimate of the
# gradient by $\mu$ either way, and what should it be?

# %%
# Your answer: two means.
my_leave_one_out, my_of_all = None, None


# %%
def check_baselines(leave_one_out, of_all):
    """Check an answer; the exact gradient is 2 μ."""
    if leave_one_out is None:
        print("exercise 2: no answer yet")
        return
    assert abs(leave_one_out - 2 * mu) < 0.05, "the others know nothing of the draw: no bias"
    assert abs(of_all - 0.8 * 2 * mu) < 0.05, "the mean of all holds a fifth of the draw itself"
    print("exercise 2: right")


check_baselines(my_leave_one_out, my_of_all)

# %% [markdown]
# <details><summary>Solution</summary>
#
# The exact gradient is $2 \mu = 1.6$, and the mean of the others gives it, with a smaller variance
# than no baseline. The mean of all gives $1.28$: one fifth of what is subtracted is the draw's own
# $f$, so that the estimate is too small by the factor $1 - 1/K = 0.8$.
#
# ```python
# eps = rng.standard_normal((40_000, 5))
# f = (mu + sigma * eps) ** 2
# total = f.sum(axis=1, keepdims=True)
# plain = (f * eps / sigma).mean(axis=1)
# leave_one_out = ((f - (total - f) / 4) * eps / sigma).mean(axis=1)
# of_all = ((f - total / 5) * eps / sigma).mean(axis=1)
# for estimates, expected in ((plain, 1.6), (leave_one_out, 1.6), (of_all, 1.28)):
#     error = estimates.std(ddof=1) / np.sqrt(len(estimates))
#     assert abs(estimates.mean() - expected) < 4 * error
# assert leave_one_out.var() < plain.var()
# my_leave_one_out, my_of_all = leave_one_out.mean(), of_all.mean()
# check_baselines(my_leave_one_out, my_of_all)
# ```
# </details>
#
# ### Exercise 3: a full covariance
#
# Let $z = L \varepsilon$ with the lower triangular $L$ having the rows $(1, 0)$ and $(a, 1)$, and
# let $f(z) = z_1 z_2$. Derive $\mathbb{E}[f(z)]$ and its derivative by $a$, and estimate that
# derivative with `tf.GradientTape` from 100,000 draws.

# %%
# Your answer: the estimate of the derivative at a = 0.5.
my_by_a = None


# %%
def check_by_a(by_a):
    """Check an answer."""
    if by_a is None:
        print("exercise 3: no answer yet")
        return
    assert abs(by_a - 1) < 0.03, "E[f] is the covariance of z_1 and z_2, the entry (1, 2) of L Lᵀ"
    print("exercise 3: right")


check_by_a(my_by_a)

# %% [markdown]
# <details><summary>Solution</summary>
#
# $z_1 = \varepsilon_1$ and $z_2 = a \varepsilon_1 + \varepsilon_2$, so $\mathbb{E}[z_1 z_2] = a$,
# which is the entry of $L L^\top$, and the derivative is $1$. A single draw's is $\varepsilon_1^2$,
# whose mean is $1$ and whose variance is $2$.
#
# ```python
# eps = tf.constant(rng.standard_normal((K, 2)))
# a = tf.Variable(np.float64(0.5))
# with tf.GradientTape() as tape:
#     z_1, z_2 = eps[:, 0], a * eps[:, 0] + eps[:, 1]
#     value = tf.reduce_mean(z_1 * z_2)
# my_by_a = float(tape.gradient(value, a))
# check_by_a(my_by_a)
# assert abs(my_by_a - 1) < 4 * np.sqrt(2 / K)
# ```
# </details>
#
# ## References
#
# - D. P. Kingma, M. Welling. Auto-Encoding Variational Bayes. 2014.
#   [arXiv:1312.6114](https://arxiv.org/abs/1312.6114), sections 2.3 and 2.4.
# - D. J. Rezende, S. Mohamed, D. Wierstra. Stochastic Backpropagation and Approximate Inference in
#   Deep Generative Models. 2014. [arXiv:1401.4082](https://arxiv.org/abs/1401.4082).
# - R. J. Williams. Simple Statistical Gradient-Following Algorithms for Connectionist
#   Reinforcement Learning. Machine Learning 8, 1992.
# - S. Mohamed, M. Rosca, M. Figurnov, A. Mnih. Monte Carlo Gradient Estimation in Machine
#   Learning. 2020. [arXiv:1906.10652](https://arxiv.org/abs/1906.10652).
# - M. Figurnov, S. Mohamed, A. Mnih. Implicit Reparameterization Gradients. 2018.
#   [arXiv:1805.08498](https://arxiv.org/abs/1805.08498).
# - C. J. Maddison, A. Mnih, Y. W. Teh. The Concrete Distribution. 2017.
#   [arXiv:1611.00712](https://arxiv.org/abs/1611.00712).
# - In the library: draws from the log-variance
#   [`distributions/normal.py`](../tfvae/distributions/normal.py), the terms of the ELBO
#   [`models/vae.py`](../tfvae/models/vae.py), the check of posteriors and gradients that run
#   through draws [`objectives/base.py`](../tfvae/objectives/base.py). Next: `05_likelihoods`, the
#   first term of the ELBO.
