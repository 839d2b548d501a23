# ---
# jupyter:
#   jupytext:
#     text_representation: {extension: .py, format_name: percent}
# ---

# %% [markdown]
# # 4. Gradients through random draws
#
# The ELBO is a mean over draws of $z$ from $q(z \mid x)$, and the encoder decides what is drawn.
# To train the encoder we need the gradient of a mean by the parameters of the distribution that
# the mean is taken over. Back-propagation stops at a random draw. There are two ways around it,
# and that a VAE can be trained at all hangs on the second: $z = \mu + \sigma \varepsilon$.
#
# ## Learning goals
#
# - See that there is no gradient through sampling, and why.
# - Derive the score-function and the pathwise estimator; check both against exact gradients.
# - Measure their variances, their growth with the dimension, and what a control variate saves.
# - Read TFP's `reparameterization_type`, and know what it does for distributions without a formula
#   such as the Gamma.
# - Recognise the gradient of one training step of `tfvae.VAE` as a mean of pathwise gradients.

# %%
import os

import keras
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf
from scipy.special import gammainc, gammaincinv, polygamma
from scipy.stats import norm
from tensorflow_probability import distributions as tfd

import tfvae

plt.rcParams["figure.dpi"] = 72
rng = np.random.default_rng(0)
keras.utils.set_random_seed(0)

# %% [markdown]
# ## The problem
#
# Let $q(z) = N(\mu, \sigma^2)$ and $f$ some function: in a VAE, $f(z) = \log p(x \mid z)$. We want
#
# $$\frac{\partial}{\partial \mu} \mathbb{E}_{q}[f(z)] \quad \text{and} \quad
# \frac{\partial}{\partial \sigma} \mathbb{E}_{q}[f(z)] .$$
#
# For three functions the expectation has a formula, and so have both derivatives:
#
# $$\mathbb{E}[z^2] = \mu^2 + \sigma^2, \qquad
# \mathbb{E}[\cos z] = \cos(\mu) e^{-\sigma^2 / 2}, \qquad
# \mathbb{E}[e^{z / 2}] = e^{\mu / 2 + \sigma^2 / 8} .$$

# %%
mu, sigma = 0.8, 0.6
functions = {"z²": np.square, "cos z": np.cos, "exp(z/2)": lambda z: np.exp(z / 2)}
slopes = {
    "z²": lambda z: 2 * z,
    "cos z": lambda z: -np.sin(z),
    "exp(z/2)": lambda z: np.exp(z / 2) / 2,
}


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


# %% [markdown]
# Expectations over $\varepsilon \sim N(0, 1)$ are sums over the nodes of Gauss-Hermite quadrature,
# which is exact to rounding for functions as smooth as these. It confirms the means, and
# differences of them confirm the gradients.

# %%
nodes, node_weights = np.polynomial.hermite_e.hermegauss(80)
node_weights = node_weights / np.sqrt(2 * np.pi)


def quadrature(values):
    """E[values(ε)] of values at the nodes, along the last axis."""
    return np.sum(values * node_weights, axis=-1)


step = 1e-5
for name, f in functions.items():
    assert abs(quadrature(f(mu + sigma * nodes)) - exact_mean(name, mu, sigma)) < 1e-10
    by_mu = exact_mean(name, mu + step, sigma) - exact_mean(name, mu - step, sigma)
    by_sigma = exact_mean(name, mu, sigma + step) - exact_mean(name, mu, sigma - step)
    differences = np.array([by_mu, by_sigma]) / (2 * step)
    np.testing.assert_allclose(exact_gradient(name), differences, atol=1e-8)

# %% [markdown]
# ## No gradient through sampling
#
# Draw $z$, compute the mean of $f$, ask the tape for the gradient. If the draws are just numbers,
# the tape has nothing to go back through. It says `None`; in a training loop, the encoder would
# never learn.

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
    print(f"{name}: mean {float(value):.3f}, gradient {gradient}")
    assert gradient is None

# %% [markdown]
# For the bits there is a reason in the thing itself: a bit does not move when its probability
# moves a little; now and then it jumps. The mean of the bits does depend on the probability,
# smoothly. The gradient of the mean exists; the gradient of the draw does not.
#
# One could take differences: estimate the mean at $\mu$ and close by. With new draws for each, the
# noise of the two drowns the difference. With the *same* $\varepsilon$ for both, it cancels.

# %%
settings = np.linspace(0, 1.6, 81)
fixed = rng.standard_normal(100)
fresh = [np.mean(np.cos(value + sigma * rng.standard_normal(100))) for value in settings]
common = [np.mean(np.cos(value + sigma * fixed)) for value in settings]
figure, axis = plt.subplots(figsize=(7, 3.2), layout="constrained")
axis.plot(settings, fresh, "C1", lw=1, label="new draws at each μ")
axis.plot(settings, common, "C0", label="the same ε at each μ")
axis.plot(settings, exact_mean("cos z", settings, sigma), "k--", label="exact")
axis.set(title="E[cos z] from a hundred draws", xlabel="μ", ylabel="estimate")
axis.legend(fontsize=8)
plt.show()
# The roughness of a curve: the spread of its steps.
assert np.std(np.diff(common)) < np.std(np.diff(fresh))

# %% [markdown]
# The blue curve is off by a little, and smooth: it has a slope, and the slope is nearly right.
# That is the second way. The first one comes first.
#
# ## The score function
#
# **Step 1.** Write the mean as an integral and move the derivative inside. It hits $q$ alone:
#
# $$\frac{\partial}{\partial \mu} \int q(z) f(z) dz
# = \int \frac{\partial q(z)}{\partial \mu} f(z) dz .$$
#
# This is no mean under any density. **Step 2** makes it one, with
# $\partial q = q \cdot \partial \log q$:
#
# $$\frac{\partial}{\partial \mu} \mathbb{E}_{q}[f(z)]
# = \mathbb{E}_{q}\left[f(z) \frac{\partial \log q(z)}{\partial \mu}\right] .$$
#
# The factor is called the score. For a Gaussian, with $\varepsilon = (z - \mu) / \sigma$,
#
# $$\frac{\partial \log q}{\partial \mu} = \frac{\varepsilon}{\sigma}, \qquad
# \frac{\partial \log q}{\partial \sigma} = \frac{\varepsilon^2 - 1}{\sigma} .$$
#
# $f$ need not be differentiable, nor even known beyond its values. The same estimator is called
# REINFORCE in reinforcement learning.


# %%
def score(eps):
    """The gradient of log q(z) by μ and by σ, [2, ...]."""
    return np.stack([eps, eps**2 - 1]) / sigma


def score_estimates(f, eps):
    return f(mu + sigma * eps) * score(eps)


np.testing.assert_allclose(quadrature(score(nodes)), 0, atol=1e-12)  # E[score] = ∂ ∫ q dz = 0
with tf.GradientTape() as tape:  # the score is what the tape says
    m, s = tf.Variable(np.float64(mu)), tf.Variable(np.float64(sigma))
    log_q = tfd.Normal(m, s).log_prob(mu + sigma * 1.7)
np.testing.assert_allclose(tape.gradient(log_q, [m, s]), score(1.7), rtol=1e-10)

for name, f in functions.items():
    np.testing.assert_allclose(
        quadrature(score_estimates(f, nodes)), exact_gradient(name), atol=1e-9
    )

# %% [markdown]
# ## The path of a draw
#
# **Step 1.** Say how $z$ is drawn: $z = \mu + \sigma \varepsilon$ with $\varepsilon \sim N(0, 1)$.
# The randomness is in $\varepsilon$, whose distribution no parameter enters; the parameters are in
# a function that can be differentiated. This is the reparameterisation.
#
# ![A draw blocks the gradient; the trick lets it pass](figures/reparameterisation.svg)
#
# **Step 2.** The mean is now over $\varepsilon$, and the derivative may go inside and act on $f$:
#
# $$\frac{\partial}{\partial \mu} \mathbb{E}_{\varepsilon}[f(\mu + \sigma \varepsilon)]
# = \mathbb{E}_{\varepsilon}[f'(z)], \qquad
# \frac{\partial}{\partial \sigma} \mathbb{E}_{\varepsilon}[f(\mu + \sigma \varepsilon)]
# = \mathbb{E}_{\varepsilon}[f'(z) \varepsilon] .$$


# %%
def path_estimates(slope, eps):
    return slope(mu + sigma * eps) * np.stack([np.ones_like(eps), eps])


for name, slope in slopes.items():
    np.testing.assert_allclose(
        quadrature(path_estimates(slope, nodes)), exact_gradient(name), atol=1e-9
    )

# %% [markdown]
# TFP draws normals in this way, so the tape goes through `sample`. Gradients of single draws must
# be those of the formula, and their mean the exact gradient, within its standard error.

# %%
K = 100_000
tf_functions = {"z²": tf.square, "cos z": tf.cos, "exp(z/2)": lambda z: tf.exp(z / 2)}
print("gradient by μ and σ")
for name, slope in slopes.items():
    m, s = (tf.Variable(np.full(K, value)) for value in (mu, sigma))  # one of each a draw
    with tf.GradientTape() as tape:
        z = tfd.Normal(m, s).sample(seed=1)
        total = tf.reduce_sum(tf_functions[name](z))
    path = np.stack(tape.gradient(total, [m, s]))
    eps = (z.numpy() - mu) / sigma
    np.testing.assert_allclose(path, path_estimates(slope, eps), atol=1e-9)
    by_score = score_estimates(functions[name], rng.standard_normal(K))
    print(f"{name:9} exact {exact_gradient(name).round(4)}")
    for kind, estimates in (("score", by_score), ("path", path)):
        error = estimates.std(axis=1, ddof=1) / np.sqrt(K)
        print(f"{'':9} {kind:5} {estimates.mean(axis=1).round(4)} ± {error.round(4)}")
        assert np.all(np.abs(estimates.mean(axis=1) - exact_gradient(name)) < 4 * error)

# %% [markdown]
# Both are right; the errors are not alike. The picture shows how the path works: each
# $\varepsilon$ on the lower line is carried to its $z$ on the upper one. When $\mu$ and $\sigma$
# change, the same $\varepsilon$ arrive elsewhere, and how far each has moved is its derivative.

# %%
figure, axes = plt.subplots(1, 2, figsize=(10, 3.2), layout="constrained", sharey=True)
few = norm.ppf((np.arange(15) + 0.5) / 15)
line = np.linspace(-3.5, 3.5, 300)
for axis, (location, scale) in zip(axes, ((0.8, 0.6), (-0.5, 1.0)), strict=True):
    for eps in few:
        axis.plot([eps, location + scale * eps], [0, 1], color="C0", lw=0.8, alpha=0.7)
    axis.plot(few, np.zeros(15), "k.", ms=5)
    axis.plot(location + scale * few, np.ones(15), "C3.", ms=5)
    axis.fill_between(line, -norm.pdf(line), color="0.8")
    axis.fill_between(line, 1, 1 + norm.pdf(line, location, scale), color="C3", alpha=0.25)
    axis.set(title=f"z = {location} + {scale} ε", xlabel="ε (below), z (above)", xlim=(-3, 3))
    axis.set_yticks([0, 1], ["ε", "z"])
plt.show()

# %% [markdown]
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
# Why is the score's so much larger? It multiplies the *value* of $f$ by the random score. Add a
# constant to $f$ and nothing changes about the gradient, but every estimate does. The path uses
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
# + 2 \mathbb{E}[A \varepsilon_1^2] \mathbb{E}[B] + \mathbb{E}[B^2] ,$$
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
# $$b^{\ast} = \frac{\mathbb{E}[f(z) \mathrm{score}^2]}{\mathbb{E}[\mathrm{score}^2]} .$$

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
    assert np.all(variances[:, 1] < variances[:, 0]) and np.all(variances[:, 1] < variances[:, 2])
    without = quadrature(score_estimates(f, nodes) ** 2) - exact_gradient(name) ** 2
    print(f"{name:9} variance by μ and σ: {without.round(4)}, with b* {variances[:, 1].round(4)}")

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

figure, axis = plt.subplots(figsize=(7, 3.8), layout="constrained")
for name, pairs in measured.items():
    v, error = np.array(pairs).T
    line = axis.plot(dimensions, exact[name], lw=1, label=name)[0]
    axis.errorbar(dimensions, v, 2 * error, fmt="o", ms=4, color=line.get_color())
    assert np.all(np.abs(v - exact[name]) < 4.5 * error)
    print(
        f"{name:16} variance at d = 1: {exact[name][0]:8.3f}, at d = 100: {exact[name][-1]:10.3f}"
    )
axis.set(xscale="log", yscale="log", xlabel="latent dimension d", ylabel="variance")
axis.set_title("gradient by one μ from one draw: exact (lines), measured (dots ± 2 errors)")
axis.legend(fontsize=8)
plt.show()

# %% [markdown]
# The path needs the same number of draws in any dimension: one, in a VAE's training step. The
# score's variance grows with the square of the dimension, and the control variate saves one of the
# two powers.
#
# ### Where the path is not better
#
# The path uses the slope of $f$, so a rough $f$ hurts. For $f(z) = \sin(k z)$ the slope is of size
# $k$, while the score's estimate stays bounded by the score. And for a step function the slope is
# zero wherever it exists: the path's estimate is zero, and wrong, while the score's is right. The
# exact gradient of $\mathbb{E}[1_{z > 0}]$ by $\mu$ is the density at the step,
# $\frac{1}{\sigma} \varphi(\mu / \sigma)$.

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
figure, axis = plt.subplots(figsize=(7, 3.2), layout="constrained")
axis.plot(frequencies, by_score, label="score")
axis.plot(frequencies, by_path, label="path")
axis.set(xscale="log", yscale="log", xlabel="k", ylabel="variance")
axis.set_title("gradient of E[sin(k z)] by μ, one draw")
axis.legend(fontsize=8)
plt.show()
assert by_path[0] < by_score[0] and by_path[-1] > by_score[-1]

z = mu + sigma * rng.standard_normal(K)
estimates = (z > 0) * (z - mu) / sigma**2
error = estimates.std(ddof=1) / np.sqrt(K)
exact_step = norm.pdf(mu / sigma) / sigma
print(f"step function: exact {exact_step:.4f}, score {estimates.mean():.4f} ± {error:.4f}, path 0")
assert abs(estimates.mean() - exact_step) < 4 * error

# %% [markdown]
# A decoder is smooth, and the path is the better choice. For discrete latent variables there is no
# path, and one is left with the score and good control variates, or with relaxations.
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
# mixture chooses a component, which is discrete too. The library refuses a posterior that is not
# reparameterised when a model is made, and does not leave it to a `None` later.
#
# ## Without a formula: the Gamma
#
# Gammas are drawn by rejection, and still differentiable. How? In principle any draw is
# $z = F_\alpha^{-1}(u)$ with $u$ uniform and $F_\alpha$ the distribution function. Hold $u$ and
# differentiate $F_\alpha(z) = u$ by $\alpha$, $z$ moving along:
#
# $$\frac{\partial F_\alpha(z)}{\partial \alpha} + p_\alpha(z) \frac{dz}{d\alpha} = 0
# \quad \Rightarrow \quad
# \frac{dz}{d\alpha} = -\frac{\partial F_\alpha(z) / \partial \alpha}{p_\alpha(z)} .$$
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
np.testing.assert_allclose(by_tape[kept], -slope_of_cdf[kept] / density[kept], rtol=1e-4)
np.testing.assert_allclose(by_tape[kept], by_inverse[kept], rtol=1e-4)

# %% [markdown]
# And the means: $\mathbb{E}[z] = \alpha$ and $\mathbb{E}[\log z] = \psi(\alpha)$, the digamma
# function, whose derivative is the trigamma function.

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
figure, axis = plt.subplots(figsize=(7, 3.2), layout="constrained")
axis.plot(line, gammainc(2, line), "C0", label="α = 2")
axis.plot(line, gammainc(3, line), "C3", label="α = 3")
for u in (0.1, 0.3, 0.5, 0.7, 0.9):
    ends = (gammaincinv(3, u), u), (gammaincinv(2, u), u)
    axis.annotate("", *ends, arrowprops={"arrowstyle": "->", "color": "0.4"})
axis.set(title="hold u: where z moves when α grows", xlabel="z", ylabel="u = F(z)")
axis.legend(fontsize=8)
plt.show()

# %% [markdown]
# ## In the model
#
# `vae.encode(x)` is a distribution over $z$ whose `sample` is $\mu + \sigma \varepsilon$, with
# $\sigma = e^{\lambda / 2}$ from the log-variance $\lambda$. The chain rule gives
# $\partial z / \partial \lambda = \frac{1}{2} \sigma \varepsilon$. Every draw takes a seed, and
# equal seeds give equal $\varepsilon$, whatever the weights.
#
# One trap: TFP's own `sample` takes a whole number as the seed of a generator with a state, so
# that two calls in a row differ. A pair of numbers is a seed without a state. The library's
# methods, such as `vae.elbo` and `vae.sample`, take either and make a pair of it.
#
# The variable `TFVAE_MNIST` may name a folder of MNIST's IDX files, or be `mnist` to download it;
# without it the small digits that come with scikit-learn are used.

# %%
data = tfvae.datasets.load(os.environ.get("TFVAE_MNIST", "digits"), binarize="static")
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
# Rounding of z, measured in units of sigma.
np.testing.assert_allclose(noises[0], noises[1], atol=1e-5)

# %% [markdown]
# ### One training step against the exact gradient
#
# The linear model of notebook 2 has an exact ELBO. With $x = w z + s \varepsilon$ and
# $q(z \mid x) = N(\mu, e^{\lambda})$,
#
# $$\frac{\partial \mathrm{ELBO}}{\partial \mu} = \frac{w (x - w \mu)}{s^2} - \mu, \qquad
# \frac{\partial \mathrm{ELBO}}{\partial \lambda}
# = \frac{1}{2} \left(1 - e^{\lambda} \left(1 + \frac{w^2}{s^2}\right)\right) .$$
#
# We make it as a VAE on images of one pixel whose encoder is two biases, and give it one step of
# plain gradient descent with the rate one, on many copies of one image. The biases then move by
# the mean of as many pathwise gradients, each with a draw of its own. One of them is, by $\mu$,
# $w (x - w z) / s^2 - \mu$ and, by $\lambda$,
# $\frac{1}{2} \sigma \varepsilon w (x - w z) / s^2 - \frac{1}{2}(e^\lambda - 1)$.

# %%
w, s, x_seen, location, log_variance, copies = 0.8, 0.4, 1.2, 0.5, -0.3, 20_000
pixel = (1, 1, 1)
code, image = keras.Input((1,)), keras.Input(pixel)
linear, loc, log_var = (keras.layers.Dense(1) for _ in range(3))
decoder = keras.Model(code, keras.layers.Reshape(pixel)(linear(code)))
flat = keras.layers.Flatten()(image)
encoder = keras.Model(image, [loc(flat), log_var(flat)])
for layer, slope, bias in ((linear, w, 0.0), (loc, 0.0, location), (log_var, 0.0, log_variance)):
    layer.set_weights([np.array([[slope]]), np.array([bias])])
likelihood = tfvae.likelihoods.Normal(scale=s, decoder_output="parameters")
vae = tfvae.VAE(encoder, decoder, latent_dim=1, likelihood=likelihood, seed=0)
vae.compile(keras.optimizers.SGD(1.0))
vae.train_on_batch(np.full((copies, *pixel), x_seen, "float32"))
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
np.testing.assert_allclose(expected, by_formula, atol=1e-9)
error = np.sqrt((quadrature(single**2) - expected**2) / copies)
print(f"gradient of the ELBO by μ and log σ²: exact {expected.round(4)}")
print(f"one step on {copies} draws:              {moved.round(4)} ± {error.round(4)}")
assert np.all(np.abs(moved - expected) < 4 * error)

# %% [markdown]
# ### One training step, draw by draw
#
# On real images there is no exact value, but the step can be taken apart. A model with eight draws
# an image takes one step; its twin, with the same seed, gives us the same $\varepsilon$. For each
# draw by itself we write $z = \mu + \sigma \varepsilon$ out, the loss with it, and let the tape
# find the gradient. The mean of the eight is the step.

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
# Finally, both estimators on a real decoder. We train for a while, take one image, and estimate
# the gradient of $\mathbb{E}_q[\log p(x \mid z)]$ by each $\mu_i$, many times with one draw.

# %% tags=["parameters"] capped="epochs = 1"
epochs = 20

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
# is why the VAE could be trained in 2014 with one draw an image.
#
# ## Exercises
#
# **1.** Reparameterise the Laplace distribution: with $u$ uniform on
# $(-\frac{1}{2}, \frac{1}{2})$, $z = \mu - b \cdot \mathrm{sign}(u) \log(1 - 2 |u|)$. Check the
# pathwise gradients of $\mathbb{E}[z^2] = \mu^2 + 2 b^2$.
#
# <details><summary>Solution</summary>
#
# ```python
# b = 0.7
# u = rng.uniform(-0.5, 0.5, K)
# noise = -np.sign(u) * np.log1p(-2 * np.abs(u))
# z = mu + b * noise
# each = np.stack([2 * z, 2 * z * noise])
# error = each.std(axis=1, ddof=1) / np.sqrt(K)
# assert np.all(np.abs(each.mean(axis=1) - np.array([2 * mu, 4 * b])) < 4 * error)
# ```
# </details>
#
# **2.** A constant baseline must not depend on the draw it is subtracted from, or the estimate is
# biased. With $K$ draws, the mean of the *other* $K - 1$ serves. Check for $f(z) = z^2$ and
# $K = 5$ that it leaves the gradient by $\mu$ unbiased, with a smaller variance, and that the mean
# of *all* draws scales the gradient by $1 - 1/K$.
#
# <details><summary>Solution</summary>
#
# ```python
# eps = rng.standard_normal((40_000, 5))
# f = (mu + sigma * eps) ** 2
# total = f.sum(axis=1, keepdims=True)
# plain = (f * eps / sigma).mean(axis=1)
# leave_one_out = ((f - (total - f) / 4) * eps / sigma).mean(axis=1)
# of_all = ((f - total / 5) * eps / sigma).mean(axis=1)
# for estimates, expected in ((plain, 2 * mu), (leave_one_out, 2 * mu), (of_all, 0.8 * 2 * mu)):
#     error = estimates.std(ddof=1) / np.sqrt(len(estimates))
#     assert abs(estimates.mean() - expected) < 4 * error
# assert leave_one_out.var() < plain.var()
# ```
# </details>
#
# **3.** For a bit with $P(z = 1) = p$, the gradient of $\mathbb{E}[f(z)]$ by $p$ is $f(1) - f(0)$.
# Check the score function's estimate of it with `tfd.Bernoulli`, for $f(z) = (z - 0.4)^2$.
#
# <details><summary>Solution</summary>
#
# ```python
# p = tf.Variable(np.full(K, 0.3))
# bits = tfd.Bernoulli(probs=0.3, dtype=tf.float64).sample(K, seed=6)
# with tf.GradientTape() as tape:
#     log_q = tfd.Bernoulli(probs=p, dtype=tf.float64).log_prob(bits)
# each = ((bits - 0.4) ** 2 * tape.gradient(log_q, p)).numpy()
# error = each.std(ddof=1) / np.sqrt(K)
# assert abs(each.mean() - (0.6**2 - 0.4**2)) < 4 * error
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
# - In the library: draws from the log-variance [`gaussian.py`](../tfvae/distributions/normal.py),
#   the terms of
#   the ELBO [`model.py`](../tfvae/models/vae.py), the check of posteriors and gradients that run
#   through draws [`objectives/base.py`](../tfvae/objectives/base.py).
