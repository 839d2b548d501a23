# ---
# jupyter:
#   jupytext:
#     text_representation: {extension: .py, format_name: percent}
# ---

# %% [markdown]
# # 2. The ELBO from scratch
#
# A latent-variable model says: first a hidden $z$ was drawn from a prior $p(z)$, then the data $x$
# from $p(x \mid z)$. Its parameters are to make the data likely, so we want $\log p(x)$. That is
# an integral over all $z$, and for images nobody can compute it. The evidence lower bound, the
# ELBO, is what a variational autoencoder maximises in its place.
#
# Here $z$ and $x$ are single numbers. Then the integral can be computed as exactly as we like, and
# every line of the derivation can be checked right after it is written down.
#
# ## Learning goals
#
# - See prior, likelihood, joint and posterior, and $p(x)$ as an integral; see where plain Monte
#   Carlo fails at it.
# - Know the KL divergence, its sign, and what its asymmetry does to a fit.
# - Derive the ELBO twice, by Jensen's inequality and as an identity, and say what its gap is.
# - See EM as the case in which the gap is closed, and see what happens to a model when it cannot
#   be.
# - Find all of it again in `tfvae.VAE`.

# %%
import os

import keras
import matplotlib.pyplot as plt
import numpy as np
from scipy.integrate import quad, trapezoid
from scipy.optimize import minimize, minimize_scalar
from scipy.special import logsumexp

import tfvae

plt.rcParams["figure.dpi"] = 72
rng = np.random.default_rng(0)
keras.utils.set_random_seed(0)

# %% [markdown]
# ## Two models of one number
#
# Both have the prior $p(z) = N(0, 1)$ and the likelihood $p(x \mid z) = N(f(z), s^2)$. They differ
# in the mean:
#
# - **linear**, $f(z) = w z$: everything about it is known in closed form;
# - **curved**, $f(z) = \frac{1}{2} z^2 + c z$: its $p(x)$ has no formula. Two values of $z$
#   explain nearly every $x$ equally well.
#
# We work with logarithms of densities throughout, in nats.

# %%
w, c, s = 0.8, 0.3, 0.4  # slope, curved model's parameter, standard deviation of x given z


def log_normal(x, mean, variance):
    return -0.5 * (np.log(2 * np.pi * variance) + (x - mean) ** 2 / variance)


def linear(z):
    return w * z


def curved(z, c=c):
    return 0.5 * z**2 + c * z


def log_prior(z):
    return log_normal(z, 0, 1)


def log_joint(x, z, f):
    """log p(x, z) = log p(z) + log p(x|z)."""
    return log_prior(z) + log_normal(x, f(z), s**2)


# %% [markdown]
# Integrals over $z$ are sums over a fine grid. For a smooth function that vanishes at both ends,
# the trapezoidal rule is right to rounding as soon as the grid is finer than the function's
# features.

# %%
z = np.linspace(-12, 12, 4801)


def integral(values):
    return trapezoid(values, z, axis=-1)


def log_evidence(x, f):
    """log p(x), the logarithm of the integral of p(x, z) over z."""
    log_values = log_joint(np.asarray(x)[..., None], z, f)
    highest = log_values.max(axis=-1)  # taken out, lest far from all data every term be zero
    return highest + np.log(integral(np.exp(log_values - highest[..., None])))


assert abs(integral(np.exp(log_prior(z))) - 1) < 1e-12

# %% [markdown]
# Suppose we have seen $x = 1.2$. In the pictures, each row is a model.
#
# - Left, the joint density $p(x, z)$: dark where a pair is likely. The dashed line is the mean
#   $f(z)$, the red line our $x$.
# - Middle, along the red line: the prior, and the likelihood $p(x \mid z)$ as a function of $z$.
#   The likelihood is no density in $z$; it need not have area one.
# - Right: their product $p(x, z)$, and the same divided by its area, which is the posterior
#   $p(z \mid x)$. That area is $p(x)$.

# %%
x_seen = 1.2
models = {"linear": linear, "curved": curved}
x_axis = np.linspace(-2.5, 4, 200)

figure, axes = plt.subplots(2, 3, figsize=(11, 6), layout="constrained")
for row, (name, f) in zip(axes, models.items(), strict=True):
    joint = np.exp(log_joint(x_axis[:, None], z[::10], f))
    row[0].pcolormesh(z[::10], x_axis, joint, cmap="Greys", rasterized=True)
    row[0].plot(z, f(z), "C0--", label="f(z)")
    row[0].axhline(x_seen, color="C3", label="x seen")
    row[0].set(title=f"{name}: p(x, z)", xlabel="z", ylabel="x", xlim=(-4, 4), ylim=(-2.5, 4))
    row[0].legend(loc="lower right", fontsize=8)
    row[1].plot(z, np.exp(log_prior(z)), label="prior p(z)")
    row[1].plot(z, np.exp(log_normal(x_seen, f(z), s**2)), label="likelihood p(x|z)")
    row[1].set(title="prior and likelihood", xlabel="z", ylabel="density", xlim=(-4, 4))
    row[1].legend(fontsize=8)
    slice_ = np.exp(log_joint(x_seen, z, f))
    row[2].fill_between(z, slice_, color="C3", alpha=0.3, label="joint p(x, z), area p(x)")
    row[2].plot(z, slice_ / integral(slice_), "C2", label="posterior p(z|x), area 1")
    row[2].set(title="joint and posterior", xlabel="z", ylabel="density", xlim=(-4, 4))
    row[2].legend(fontsize=8)
plt.show()

# %% [markdown]
# The linear model's posterior is a single bump between prior and likelihood. The curved model's
# has two: $x$ came from a $z$ on the left or from one on the right, and nothing in $x$ tells
# which.
#
# ## p(x) is an integral
#
# The joint holds all $z$ that could have made $x$; summing them out gives the evidence, also
# called the marginal likelihood:
#
# $$p(x) = \int p(x, z) dz = \int p(x \mid z) p(z) dz .$$
#
# For the linear model, $x = w z + s \varepsilon$ is a sum of two independent Gaussians, so
# $p(x) = N(0, w^2 + s^2)$. For the curved model we compare with an adaptive quadrature.

# %%
exact = log_normal(x_axis, 0, w**2 + s**2)
np.testing.assert_allclose(log_evidence(x_axis, linear), exact, atol=1e-10)
for x in (-0.5, 0.0, x_seen, 3.0):
    adaptive, error = quad(
        lambda value, x=x: np.exp(log_joint(x, value, curved)), -12, 12, epsabs=1e-13, limit=200
    )
    assert abs(np.exp(log_evidence(x, curved)) - adaptive) < 1e-10
for name, f in models.items():
    print(f"{name}: log p(x = {x_seen}) = {log_evidence(x_seen, f):.4f} nats")

# %% [markdown]
# As a function of $x$, $p(x)$ is the density of what the model generates. Draws of $z$, and of $x$
# given $z$, with $z$ forgotten, must follow it.

# %%
draws = rng.standard_normal(20_000)
wide = np.linspace(-6, 25, 1241)
figure, axes = plt.subplots(1, 2, figsize=(9, 3), layout="constrained")
for axis, (name, f) in zip(axes, models.items(), strict=True):
    p = np.exp(log_evidence(wide, f))
    assert abs(trapezoid(p, wide) - 1) < 1e-6
    x_drawn = f(draws) + s * rng.standard_normal(draws.size)
    # The share of draws below 1 is a binomial proportion.
    share = trapezoid(p[wide <= 1], wide[wide <= 1])
    error = np.sqrt(share * (1 - share) / draws.size)
    assert abs(np.mean(x_drawn < 1) - share) < 4 * error
    axis.hist(x_drawn, bins=80, range=(-3, 5), density=True, alpha=0.4, label="generated x")
    axis.plot(wide, p, label="p(x) by integration")
    axis.set(title=f"{name} model", xlabel="x", ylabel="density", xlim=(-3, 5))
    axis.legend(fontsize=8)
plt.show()

# %% [markdown]
# ## Bayes' rule
#
# The joint can be factored either way, $p(x, z) = p(x \mid z) p(z) = p(z \mid x) p(x)$, and so
#
# $$p(z \mid x) = \frac{p(x \mid z) p(z)}{p(x)} .$$
#
# The hard part of the posterior is its denominator: the very integral. For the linear model,
# Gaussian times Gaussian is Gaussian. Collecting the terms in $z$ of
# $-\frac{1}{2} z^2 - (x - w z)^2 / 2 s^2$ gives the precision $1 + w^2 / s^2$, and so
#
# $$p(z \mid x) = N\left(\frac{w x}{w^2 + s^2}, \frac{s^2}{w^2 + s^2}\right) .$$


# %%
def log_posterior(x, f):
    """log p(z|x) on the grid."""
    return log_joint(x, z, f) - log_evidence(x, f)


by_hand = log_normal(z, w * x_seen / (w**2 + s**2), s**2 / (w**2 + s**2))
np.testing.assert_allclose(log_posterior(x_seen, linear), by_hand, atol=1e-9)
for f in models.values():
    assert abs(integral(np.exp(log_posterior(x_seen, f))) - 1) < 1e-12

# %% [markdown]
# ## Why not plain Monte Carlo?
#
# The integral is an expectation, $p(x) = \mathbb{E}_{p(z)}[p(x \mid z)]$, so the mean of
# $p(x \mid z_k)$ over draws $z_k$ of the prior is an unbiased estimate, in any dimension. In one
# dimension it works: the estimate is right within its standard error, which we know too, from
# $\mathbb{E}_{p(z)}[p(x \mid z)^2]$.


# %%
def relative_variance(x, f):
    """The variance of p(x|z) under the prior, in units of p(x)²."""
    second_moment = integral(np.exp(log_prior(z) + 2 * log_normal(x, f(z), s**2)))
    return second_moment / np.exp(2 * log_evidence(x, f)) - 1


K = 100_000
for name, f in models.items():
    weights = np.exp(log_normal(x_seen, f(rng.standard_normal(K)), s**2))
    p = np.exp(log_evidence(x_seen, f))
    error = p * np.sqrt(relative_variance(x_seen, f) / K)
    print(f"{name}: p(x) = {p:.5f}, Monte Carlo {weights.mean():.5f} ± {error:.5f}")
    assert abs(weights.mean() - p) < 4 * error

# %% [markdown]
# Now let $x$ have $d$ coordinates, each with a $z$ of its own from the linear model. Then
# $\log p(x)$ is a sum of $d$ known terms. But the relative variance $v$ of one coordinate becomes
# $(1 + v)^d - 1$: it grows exponentially, and as many draws are needed. A draw from the prior hits
# the few $z$ that explain all coordinates at once less and less often.

# %% tags=["parameters"] capped="most = 10_000"
most = 100_000

# %%
dimensions, repeats = (1, 5, 20, 50), 8
counts = np.geomspace(10, most, 13).astype(int)
x_many = w * rng.standard_normal(50) + s * rng.standard_normal(50)
log_p_each = log_evidence(x_many, linear)
growth = np.cumsum([np.log1p(relative_variance(x, linear)) for x in x_many])

figure, axis = plt.subplots(figsize=(7, 3.6), layout="constrained")
log_weights = np.zeros((repeats, most))
for index, x in enumerate(x_many):
    log_weights += log_normal(x, w * rng.standard_normal((repeats, most)), s**2)
    if index + 1 in dimensions:
        error = [logsumexp(log_weights[:, :k], axis=1) - np.log(k) for k in counts]
        error = np.array(error) - log_p_each[: index + 1].sum()
        colour = f"C{dimensions.index(index + 1)}"
        axis.plot(counts, error.mean(1), colour, label=f"d = {index + 1}")
        axis.fill_between(counts, error.min(1), error.max(1), color=colour, alpha=0.2)
        draws_needed = np.expm1(growth[index])
        print(f"d = {index + 1:2}: draws needed for a relative error of 1: {draws_needed:.3g}")
axis.axhline(0, color="k", lw=0.8)
axis.set(xscale="log", xlabel="draws K from the prior", ylabel="error of log p(x), nats")
axis.set_title("plain Monte Carlo: mean and range of eight runs")
axis.legend(fontsize=8)
plt.show()
assert np.expm1(growth[-1]) > 1e6 > most > np.expm1(growth[0])

# %% [markdown]
# In one dimension ten draws are nearly enough. In fifty, as many as the picture goes leave the
# estimate of $\log p(x)$ tens of nats too low, and an image's $p(x \mid z)$ is sharper still. The
# estimate of $p(x)$ is unbiased all the same: what is missing is a very rare draw with a gigantic
# weight.
#
# The remedy is to draw $z$ where it explains $x$, from some $q(z)$, and to divide by $q$:
#
# $$p(x) = \int q(z) \frac{p(x, z)}{q(z)} dz = \mathbb{E}_{q}\left[\frac{p(x, z)}{q(z)}\right] .$$
#
# It holds for every $q$ that is positive where the joint is. The best $q$ is the posterior: by
# Bayes' rule the weight is then $p(x, z) / p(z \mid x) = p(x)$, a constant. One draw would do.


# %%
def log_weight(x, f, log_q):
    """log p(x, z) − log q(z) on the grid."""
    return log_joint(x, z, f) - log_q


for f in models.values():
    for mean, variance in ((0.0, 1.0), (1.0, 0.5), (-1.0, 2.0)):
        log_q = log_normal(z, mean, variance)
        expectation = integral(np.exp(log_q + log_weight(x_seen, f, log_q)))
        assert abs(np.log(expectation) - log_evidence(x_seen, f)) < 1e-10
    constant = log_weight(x_seen, f, log_posterior(x_seen, f))
    np.testing.assert_allclose(constant, log_evidence(x_seen, f), atol=1e-9)

# %% [markdown]
# So we want a $q$ near the posterior, and a measure of "near".
#
# ## The KL divergence
#
# $$\mathrm{KL}(q \Vert p) = \mathbb{E}_{q}\left[\log \frac{q(z)}{p(z)}\right] .$$
#
# It is never negative. The logarithm lies below its tangent, $\log t \le t - 1$, hence
#
# $$-\mathrm{KL}(q \Vert p) = \mathbb{E}_{q}\left[\log \frac{p(z)}{q(z)}\right]
# \le \mathbb{E}_{q}\left[\frac{p(z)}{q(z)} - 1\right] = 1 - 1 = 0 ,$$
#
# with equality only where $p = q$. And it is no distance: exchanging the two changes it.


# %%
def kl(log_q, log_p):
    """KL(q ‖ p) of densities on the grid, nats."""
    return integral(np.exp(log_q) * (log_q - log_p))


for _ in range(200):
    m1, m2 = rng.uniform(-1, 1, 2)
    v1, v2 = np.exp(rng.uniform(-1, 1, 2))
    assert kl(log_normal(z, m1, v1), log_normal(z, m2, v2)) > 0
assert kl(log_prior(z), log_prior(z)) == 0

narrow, broad = log_normal(z, 0, 0.25), log_normal(z, 0, 1)
print(f"KL(narrow ‖ broad) = {kl(narrow, broad):.4f} nats")
print(f"KL(broad ‖ narrow) = {kl(broad, narrow):.4f} nats")

# %% [markdown]
# Being narrow where the other is broad costs little; putting mass where the other has next to none
# costs much. What that does to a fit is seen on the curved model's posterior with its two bumps,
# to which we fit a Gaussian $q$:
#
# - **forward**, $\mathrm{KL}(p \Vert q)$ averages over $p$: $q$ must have mass wherever $p$ has.
#   Its minimum is known: $q$ takes over the mean and the variance of $p$.
# - **reverse**, $\mathrm{KL}(q \Vert p)$ averages over $q$: $q$ must keep out of the places where
#   $p$ has none. It settles on a bump, and there is a local minimum for each.

# %%
target = log_posterior(x_seen, curved)


def gaussian(parameters):
    mean, log_sigma = parameters
    return log_normal(z, mean, np.exp(2 * log_sigma))


def forward(parameters):
    return kl(target, gaussian(parameters))


def reverse(parameters):
    return kl(gaussian(parameters), target)


moment_fit = minimize(forward, (0.5, 0.0), tol=1e-10).x
right, left = (minimize(reverse, (start, -1.0), tol=1e-10) for start in (1.3, -1.9))

mean = integral(np.exp(target) * z)
variance = integral(np.exp(target) * (z - mean) ** 2)
np.testing.assert_allclose(moment_fit, (mean, 0.5 * np.log(variance)), atol=1e-4)
assert left.x[0] < -1 < 1 < right.x[0] and right.fun < left.fun < reverse(moment_fit)
for name, fit, negative in (("left", left, z < -0.3), ("right", right, z > -0.3)):
    mass = integral(np.exp(target) * negative)
    print(
        f"{name} bump: reverse KL {fit.fun:.3f} nats; −log of the bump's mass {-np.log(mass):.3f}"
    )

# %%
means, log_sigmas = np.linspace(-3, 3, 91), np.linspace(-2.2, 1, 65)
log_q = log_normal(z[::8], means[:, None, None], np.exp(2 * log_sigmas)[None, :, None])
coarse = target[::8]
surfaces = {
    "forward KL(p ‖ q)": trapezoid(np.exp(coarse) * (coarse - log_q), z[::8]),
    "reverse KL(q ‖ p)": trapezoid(np.exp(log_q) * (log_q - coarse), z[::8]),
}

figure, axes = plt.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
axes[0].fill_between(z, np.exp(target), color="0.85", label="p(z|x)")
axes[0].plot(z, np.exp(gaussian(moment_fit)), "C0", label="forward fit")
axes[0].plot(z, np.exp(gaussian(right.x)), "C3", label="reverse fit")
axes[0].plot(z, np.exp(gaussian(left.x)), "C3--", label="reverse, local minimum")
axes[0].set(title="fits to two bumps", xlabel="z", ylabel="density", xlim=(-4, 4), ylim=(0, 2.4))
axes[0].legend(fontsize=8, loc="upper left")
marks = {"forward KL(p ‖ q)": [(moment_fit, "C0")]}
marks["reverse KL(q ‖ p)"] = [(right.x, "C3"), (left.x, "C3")]
for axis, (name, values) in zip(axes[1:], surfaces.items(), strict=True):
    levels = [0.1, 0.3, 0.5, 1, 1.5, 2, 3, 5, 8, 13, 21]
    drawn = axis.contour(means, np.exp(log_sigmas), values.T, levels=levels, cmap="viridis_r")
    axis.clabel(drawn, fontsize=7, fmt="%g")
    for point, colour in marks[name]:
        axis.plot(point[0], np.exp(point[1]), "*", color=colour, ms=12)
    axis.set(title=f"{name}, nats", xlabel="mean of q", ylabel="standard deviation of q")
    axis.set_yscale("log")
    axis.set_yticks([0.125, 0.25, 0.5, 1, 2], ["1/8", "1/4", "1/2", "1", "2"])
    axis.minorticks_off()
plt.show()

# %% [markdown]
# The forward KL has one minimum, and it lies over the valley between the bumps, where $p$ has
# nearly nothing. The reverse KL has two minima, each nearly as costly as the logarithm of the mass
# it forsakes. A VAE minimises the reverse one, for the reason that comes now: it needs draws from
# $q$ only, and the other needs draws from the posterior.
#
# ## The ELBO, by Jensen's inequality
#
# **Step 1.** Bring any $q$ in. We did that above:
#
# $$\log p(x) = \log \mathbb{E}_{q}\left[\frac{p(x, z)}{q(z)}\right] .$$
#
# **Step 2.** The logarithm is concave, so the logarithm of a mean is at least the mean of the
# logarithms (Jensen):
#
# $$\log p(x) \ge \mathbb{E}_{q}\left[\log \frac{p(x, z)}{q(z)}\right] = \mathrm{ELBO}(q, x) .$$
#
# The right side can be estimated with draws of $q$: the logarithm is inside the expectation now.

# %%
gaussians = [(0.0, 1.0), (1.2, 0.2), (1.0, 0.5), (-1.9, 0.1), (-0.5, 2.0)]


def elbo(x, f, log_q):
    """E_q[log p(x, z) − log q(z)], nats."""
    return integral(np.exp(log_q) * log_weight(x, f, log_q))


print("model   q                  ELBO    log p(x)")
for name, f in models.items():
    for mean, variance in gaussians:
        bound = elbo(x_seen, f, log_normal(z, mean, variance))
        evidence = log_evidence(x_seen, f)
        print(f"{name}  N({mean:4}, {variance:3})  {bound:10.4f}  {evidence:10.4f}")
        # Where q is the posterior the two are equal, to the rounding of the sum.
        assert bound <= evidence + 1e-10

# %% [markdown]
# One of the rows reaches $\log p(x)$: for the linear model $N(1.2, 0.2)$ is the posterior. No row
# does for the curved one.
#
# ## The ELBO, as an identity
#
# Jensen says that there is a gap. Bayes' rule says what it is.
#
# **Step 1.** $p(x, z) = p(z \mid x) p(x)$, so inside of the expectation
#
# $$\log \frac{p(x, z)}{q(z)} = \log p(x) + \log \frac{p(z \mid x)}{q(z)} .$$
#
# **Step 2.** Take the mean under $q$. The first term does not depend on $z$; the second is a KL
# with its sign turned:
#
# $$\mathrm{ELBO}(q, x) = \log p(x) - \mathrm{KL}(q(z) \Vert p(z \mid x)) .$$
#
# No inequality is left. That the KL is not negative *is* the bound; and since $\log p(x)$ does not
# depend on $q$, maximising the ELBO over $q$ is minimising the reverse KL to the posterior,
# although the posterior appears nowhere in the ELBO.

# %%
for f in models.values():
    for mean, variance in gaussians:
        log_q = log_normal(z, mean, variance)
        np.testing.assert_allclose(
            log_weight(x_seen, f, log_q),
            log_evidence(x_seen, f) + log_posterior(x_seen, f) - log_q,
            atol=1e-9,
        )
        gap = log_evidence(x_seen, f) - elbo(x_seen, f, log_q)
        assert abs(gap - kl(log_q, log_posterior(x_seen, f))) < 1e-9

# %% [markdown]
# The picture: for each mean of $q$ the ELBO, and the gap up to $\log p(x)$ filled in. For the
# linear model the variance is the posterior's own, and the ELBO touches $\log p(x)$ at the
# posterior's mean. In the curved model it has two tops, below the line both: a Gaussian cannot
# hold two bumps.

# %%
means = np.linspace(-3, 3, 241)
figure, axes = plt.subplots(1, 2, figsize=(9.5, 3.4), layout="constrained", sharey=True)
for axis, (name, f), variance in zip(axes, models.items(), (0.2, 0.08), strict=True):
    bound = np.array([elbo(x_seen, f, log_normal(z, mean, variance)) for mean in means])
    evidence = log_evidence(x_seen, f)
    axis.axhline(evidence, color="k", label="log p(x)")
    axis.plot(means, bound, "C0", label="ELBO")
    axis.fill_between(means, bound, evidence, color="C3", alpha=0.15, label="KL(q ‖ p(z|x))")
    axis.set(title=f"{name} model, q = N(mean, {variance})", xlabel="mean of q")
    axis.set(xlim=(-3, 3), ylim=(-12, -0.5))
    print(f"{name}: smallest gap in the picture {evidence - bound.max():.4f} nats")
axes[0].set_ylabel("nats")
axes[0].legend(fontsize=8, loc="lower left")
plt.show()

# %% [markdown]
# ## Two other ways to write it
#
# Split the joint as $p(x \mid z) p(z)$ and collect the terms with $q$ and the prior:
#
# $$\mathrm{ELBO}(q, x) = \mathbb{E}_{q}[\log p(x \mid z)] - \mathrm{KL}(q(z) \Vert p(z)) .$$
#
# This is the form of the VAE: how well draws of $q$ reconstruct $x$, minus how far $q$ has gone
# from the prior. Leave the joint together, and it is an energy and an entropy:
#
# $$\mathrm{ELBO}(q, x) = \mathbb{E}_{q}[\log p(x, z)] + \mathrm{H}(q), \qquad
# \mathrm{H}(q) = -\mathbb{E}_{q}[\log q(z)] .$$
#
# For Gaussians, KL and entropy are formulas,
# $\mathrm{KL} = \frac{1}{2}(\sigma^2 + \mu^2 - 1 - \log \sigma^2)$, derived in the next notebook,
# and $\mathrm{H} = \frac{1}{2} \log(2 \pi e \sigma^2)$.

# %%
for f in models.values():
    for mean, variance in gaussians:
        q = log_normal(z, mean, variance)
        reconstruction = integral(np.exp(q) * log_normal(x_seen, f(z), s**2))
        to_prior = 0.5 * (variance + mean**2 - 1 - np.log(variance))
        assert abs(kl(q, log_prior(z)) - to_prior) < 1e-9
        assert abs(elbo(x_seen, f, q) - (reconstruction - to_prior)) < 1e-9
        energy = integral(np.exp(q) * log_joint(x_seen, z, f))
        entropy = 0.5 * np.log(2 * np.pi * np.e * variance)
        assert abs(elbo(x_seen, f, q) - (energy + entropy)) < 1e-9

# %% [markdown]
# For the two models the expected log-likelihood is a formula too. With $g = \mu + c$ and
# $r = x - f(\mu)$, a draw $z = \mu + \sigma \varepsilon$ has
# $x - f(z) = r - g \sigma \varepsilon - \frac{1}{2} \sigma^2 \varepsilon^2$ in the curved model;
# the moments $\mathbb{E}[\varepsilon^2] = 1$, $\mathbb{E}[\varepsilon^3] = 0$ and
# $\mathbb{E}[\varepsilon^4] = 3$ give
#
# $$\mathbb{E}_{q}[(x - f(z))^2] = r^2 + (g^2 - r) \sigma^2 + \frac{3}{4} \sigma^4 .$$


# %%
def curved_elbo(x, mean, variance, c=c):
    """The ELBO of the curved model under q = N(mean, variance), in closed form."""
    g, r = mean + c, x - curved(mean, c)
    square = r**2 + (g**2 - r) * variance + 0.75 * variance**2
    to_prior = 0.5 * (variance + mean**2 - 1 - np.log(variance))
    return -0.5 * np.log(2 * np.pi * s**2) - 0.5 * square / s**2 - to_prior


for mean, variance in gaussians:
    by_quadrature = elbo(x_seen, curved, log_normal(z, mean, variance))
    assert abs(curved_elbo(x_seen, mean, variance) - by_quadrature) < 1e-9

# %% [markdown]
# Unlike $\log p(x)$, the ELBO can be estimated without bias from a single draw, and the estimate
# does not deteriorate with the dimension as above: a mean of logarithms has no gigantic terms.

# %%
mean, variance = 1.0, 0.5
z_drawn = mean + np.sqrt(variance) * rng.standard_normal(K)
one_draw_each = log_joint(x_seen, z_drawn, curved) - log_normal(z_drawn, mean, variance)
error = one_draw_each.std(ddof=1) / np.sqrt(K)
exact = curved_elbo(x_seen, mean, variance)
print(f"ELBO {exact:.4f}, mean of {K} draws {one_draw_each.mean():.4f} ± {error:.4f} nats")
assert abs(one_draw_each.mean() - exact) < 4 * error

# %% [markdown]
# ## EM: the gap closed in every step
#
# Now the model has parameters $\theta$ to learn from data $x_1, \dots, x_N$. The identity reads
#
# $$\log p_\theta(x) = \mathrm{ELBO}(q, \theta, x) + \mathrm{KL}(q(z) \Vert p_\theta(z \mid x)) .$$
#
# Expectation maximisation climbs by turns in $q$ and in $\theta$:
#
# - **E-step**: $q_n(z) = p_\theta(z \mid x_n)$. The gap closes: the ELBO is $\log p_\theta(x)$.
# - **M-step**: maximise the ELBO over $\theta$ with $q$ held. The bound rises, and
#   $\log p_\theta(x)$ rises at least as much: a new gap opens, since $q$ is the posterior of the
#   old $\theta$.
#
# So $\log p_\theta$ can never fall. We watch it on probabilistic PCA:
# $x = z \mathbf{w} + s \varepsilon$ with $\mathbf{w}$ and $x$ in the plane and one $z$. With
# $\tau = \mathbf{w}^\top \mathbf{w} + s^2$ its posterior is
# $N(\mathbf{w}^\top x / \tau, s^2 / \tau)$, and $p(x) = N(0, \mathbf{w} \mathbf{w}^\top + s^2 I)$.

# %%
N = 400
true_w, true_s = np.array([1.5, 0.8]), 0.4
points = rng.standard_normal((N, 1)) * true_w + true_s * rng.standard_normal((N, 2))
points -= points.mean(0)


def mean_log_p(weights, s2):
    """Mean over the data of log p(x)."""
    covariance = np.outer(weights, weights) + s2 * np.eye(2)
    solved = np.linalg.solve(covariance, points.T).T
    log_determinant = np.linalg.slogdet(2 * np.pi * covariance)[1]
    return -0.5 * (log_determinant + np.mean(np.sum(points * solved, axis=1)))


def mean_bound(means, variance, weights, s2):
    """Mean over the data of the ELBO under q_n = N(means[n], variance)."""
    square = np.sum((points - means[:, None] * weights) ** 2, axis=1) + variance * weights @ weights
    likelihood = -np.log(2 * np.pi * s2) - 0.5 * square / s2
    return np.mean(likelihood - 0.5 * (variance + means**2 - 1 - np.log(variance)))


def e_step(weights, s2):
    precision = weights @ weights + s2
    return points @ weights / precision, s2 / precision


def m_step(means, variance):
    weights = points.T @ means / np.sum(means**2 + variance)
    square = np.sum((points - means[:, None] * weights) ** 2) + N * variance * weights @ weights
    return weights, square / (2 * N)


# %%
weights, s2 = np.array([-0.1, 0.9]), 1.2
means, variance = np.zeros(N), 1.0  # q starts as the prior
bounds, evidences, path = [mean_bound(means, variance, weights, s2)], [], [weights]
for _ in range(600):
    before = mean_log_p(weights, s2)
    means, variance = e_step(weights, s2)
    bounds.append(mean_bound(means, variance, weights, s2))
    assert abs(bounds[-1] - before) < 1e-10  # the E-step closes the gap
    weights, s2 = m_step(means, variance)
    bounds.append(mean_bound(means, variance, weights, s2))
    after = mean_log_p(weights, s2)
    assert bounds[-1] >= bounds[-2] - 1e-12 and after >= bounds[-1] - 1e-12
    evidences.append(before)
    path.append(weights)

# %% [markdown]
# The picture counts an E-step and an M-step as half an iteration each. After every E-step the ELBO
# lies on $\log p(x)$; during the M-step it climbs, and $\log p(x)$ climbs further: the red bars
# are the new gaps. On the right, the arrow turns to the direction in which the data vary most.
#
# Where it ends is known. The maximum of the likelihood has the noise variance equal to the smaller
# eigenvalue of the data's covariance, and $\mathbf{w}$ along the first eigenvector with squared
# length the difference of the two (Tipping and Bishop 1999).

# %%
eigenvalues, vectors = np.linalg.eigh(points.T @ points / N)
best_w = vectors[:, 1] * np.sqrt(eigenvalues[1] - eigenvalues[0])
best_w *= np.sign(best_w @ weights)
np.testing.assert_allclose(weights, best_w, atol=1e-6)
np.testing.assert_allclose(s2, eigenvalues[0], atol=1e-6)

shown = 7
figure, axes = plt.subplots(1, 2, figsize=(10.5, 3.8), layout="constrained", width_ratios=(3, 2))
steps = np.arange(2 * shown + 1) / 2
axes[0].plot(steps, bounds[: 2 * shown + 1], "C0o-", ms=4, label="ELBO")
stairs = np.repeat(evidences[: shown + 1], 2)
ends = np.r_[0, np.repeat(np.arange(1, shown + 1), 2)][: len(stairs) - 1]
axes[0].plot(ends, stairs[: len(ends)], "k", lw=1.2, label="log p(x)")
whole = np.arange(1, shown + 1)
axes[0].vlines(
    whole, bounds[2 : 2 * shown + 1 : 2], evidences[1 : shown + 1], "C3", lw=3, label="gap"
)
for number, letter in enumerate("EMEM"):
    middle = np.mean(bounds[number : number + 2])
    axes[0].annotate(letter, (number / 2 + 0.15, middle - 0.12), color="C0")
axes[0].set(title="a staircase", xlabel="iteration of EM", ylabel="mean over the data, nats")
axes[0].legend(fontsize=8, loc="lower right")
axes[1].scatter(*points.T, s=5, color="0.7", linewidths=0)
for number, vector in enumerate(path[: shown + 1]):
    axes[1].annotate(
        "",
        vector * 2,
        (0, 0),
        arrowprops={"arrowstyle": "->", "color": plt.cm.viridis(number / shown)},
    )
axes[1].plot(*np.stack([-2 * best_w, 2 * best_w]).T, "C3--", lw=1, label="first eigenvector")
axes[1].set(title="w (doubled), from dark to bright", xlabel="x[0]", ylabel="x[1]", aspect="equal")
axes[1].legend(fontsize=8)
plt.show()

# %% [markdown]
# A VAE does the same with two changes. Its posterior has no formula, so the E-step becomes a
# gradient step on a $q$ from some family, and the M-step a gradient step on $\theta$, both at
# once, as both maximise one function. And it does not keep a $q_n$ for every image: a network, the
# encoder, puts out $q(z \mid x)$ for any $x$. What is lost because the family cannot hold the
# posterior is called the approximation gap; what is lost on top because one network serves all $x$
# and does not give each its best $q$, the amortisation gap (Cremer et al. 2018). In the linear
# model both are zero: its posterior's mean is linear in $x$.
#
# ## When q is wrong
#
# If the family cannot hold the posterior, the gap depends on $\theta$, and maximising
# $\log p_\theta(x) - \mathrm{gap}(\theta, x)$ is not maximising $\log p_\theta(x)$. The model
# moves to where its posterior is easy for $q$.
#
# We see it in the curved model with the parameter $c$, which shifts the two bumps: for a large $c$
# one of them is so far from the prior that only the other counts. Data come from the model itself
# at $c = 0.3$, in unlimited supply: means over data are integrals over the true $p(x)$. So nothing
# below is due to chance, and $\mathbb{E}[\log p_c(x)]$ has its maximum exactly at the truth, as
# its distance from the maximum is a KL.
#
# Each $x$ gets its very best Gaussian. For a given mean the best variance has a formula: setting
# the derivative of `curved_elbo` by $\sigma^2$ to zero leaves
# $\frac{3}{2} \sigma^4 + A \sigma^2 - s^2 = 0$ with $A = g^2 - r + s^2$, whose positive root is


# %%
def best_variance(x, mean, c=c):
    a = (mean + c) ** 2 - (x - curved(mean, c)) + s**2
    root = np.sqrt(a**2 + 6 * s**2)
    # (root − a)/3, without subtracting two large numbers.
    return np.where(a > 0, 2 * s**2 / (root + np.abs(a)), (root - a) / 3)


for mean in (-1.5, 0.0, 2.0):
    found = minimize_scalar(
        lambda v, mean=mean: -curved_elbo(x_seen, mean, np.exp(v)), (-3, 0), tol=1e-12
    )
    np.testing.assert_allclose(np.exp(found.x), best_variance(x_seen, mean), rtol=1e-5)

# %% [markdown]
# The best mean is searched on a grid. Any $q$ gives a bound, so the search can err only on one
# side.

# %% tags=["parameters"] capped="settings = np.linspace(0, 1, 11)"
settings = np.linspace(0, 1, 41)

# %%
x_grid = np.linspace(-2.5, 18, 401)
p_true = np.exp(log_evidence(x_grid, curved))
means = np.linspace(-7, 6, 651)


def average(values):
    """The mean over data, x from the true p(x)."""
    return trapezoid(p_true * values, x_grid)


def best_elbo(x, c):
    """The ELBO of each x under its best Gaussian."""
    x = x[:, None]
    return curved_elbo(x, means, best_variance(x, means, c), c).max(axis=1)


evidence, bound = [], []
for value in settings:
    f = lambda z, value=value: curved(z, value)  # noqa: E731
    log_p, lower = log_evidence(x_grid, f), best_elbo(x_grid, value)
    assert np.all(lower <= log_p + 1e-9)
    evidence.append(average(log_p))
    bound.append(average(lower))
evidence, bound = np.array(evidence), np.array(bound)
gap = evidence - bound
by_evidence, by_bound = settings[evidence.argmax()], settings[bound.argmax()]
assert abs(by_evidence - c) < 1e-9  # the truth is one of the settings
assert by_bound > c and gap[bound.argmax()] < gap[evidence.argmax()]
print(f"true c {c}; maximum of E[log p(x)] at {by_evidence:.3f}, of the ELBO at {by_bound:.3f}")
print(f"gap at the truth {gap[evidence.argmax()]:.4f} nats, there {gap[bound.argmax()]:.4f} nats")
lost = evidence.max() - evidence[bound.argmax()]
print(f"E[log p(x)] lost by maximising the ELBO: {lost:.4f} nats")

# %%
figure, axes = plt.subplots(1, 3, figsize=(12, 3.4), layout="constrained")
axes[0].plot(settings, evidence, "k", label="E[log p(x)]")
axes[0].plot(settings, bound, "C0", label="E[best ELBO]")
axes[0].fill_between(settings, bound, evidence, color="C3", alpha=0.15, label="gap")
axes[0].plot(by_evidence, evidence.max(), "k*", ms=10)
axes[0].plot(by_bound, bound.max(), "C0*", ms=10)
axes[0].set(title="the bound's maximum is elsewhere", xlabel="parameter c", ylabel="nats")
axes[0].legend(fontsize=8)
for value, colour, name in ((c, "k", "truth"), (by_bound, "C0", "ELBO's choice")):
    f = lambda z, value=value: curved(z, value)  # noqa: E731
    axes[1].plot(z, np.exp(log_posterior(x_seen, f)), colour, label=f"{name}, c = {value:.2f}")
    axes[2].plot(wide, np.exp(log_evidence(wide, f)), colour, label=name)
axes[1].set(title=f"p(z | x = {x_seen})", xlabel="z", ylabel="density", xlim=(-4.5, 3))
axes[1].legend(fontsize=8, loc="upper left")
axes[2].set(title="p(x)", xlabel="x", ylabel="density", xlim=(-2, 5))
axes[2].legend(fontsize=8)
plt.show()

# %% [markdown]
# The stars are the maxima. The ELBO has chosen a model whose posterior is more nearly one bump,
# and it pays for that with a worse fit to the data. It stops where a further step would cost as
# much likelihood as it saves of the gap. Nothing warns of it: the ELBO itself is higher there than
# at the truth. Better families (flows, notebook 7) and tighter bounds (importance weighting,
# notebook 7) are the remedies.
#
# ## The same numbers in tfvae
#
# `tfvae.VAE` takes any two Keras networks. For images of one pixel, the curved model is a decoder
# without weights. The encoder here is as simple: $q(z \mid x) = N(0.2 x - 0.3, 1.2^2)$, wider than
# the prior, so that no weight $p(x, z) / q(z \mid x)$ can be large.

# %%
pixel = (1, 1, 1)
code = keras.Input((1,))
decoder = keras.Model(code, keras.layers.Reshape(pixel)(0.5 * code**2 + c * code))
image = keras.Input(pixel)
flat = keras.layers.Flatten()(image)
loc, log_var = keras.layers.Dense(1), keras.layers.Dense(1)
encoder = keras.Model(image, [loc(flat), log_var(flat)])
loc.set_weights([np.array([[0.2]]), np.array([-0.3])])
log_var.set_weights([np.array([[0.0]]), np.array([2 * np.log(1.2)])])
likelihood = tfvae.likelihoods.Normal(scale=s, decoder_output="parameters")
vae = tfvae.VAE(encoder, decoder, latent_dim=1, likelihood=likelihood, seed=0)

# %% [markdown]
# `vae.elbo` draws $z$; with many draws it must be the closed form within its standard error.
# `tfvae.evaluation.log_prob` estimates $\log p(x)$ with weights $p(x, z_k) / q(z_k \mid x)$, and
# must give the integral. Both are float32; the standard errors are far above that rounding.

# %% tags=["parameters"] capped="num_samples = 20_000"
num_samples = 200_000

# %%
x_few = np.array([-0.3, 0.5, x_seen, 2.0, 3.0], "float32")
images = x_few.reshape(-1, *pixel)
log_likelihoods = vae.terms(images, num_samples=num_samples, seed=1).log_likelihood.numpy()
elbo_error = log_likelihoods.std(axis=0, ddof=1) / np.sqrt(num_samples)
estimated, _, its_kl = (term.numpy() for term in vae.elbo(images, num_samples=num_samples, seed=1))
weighted = tfvae.evaluation.log_prob(vae, [images], num_samples=num_samples, seed=2)
# The delta method: the error of a logarithm is the relative error.
excess = num_samples / weighted.effective_sample_sizes - 1
log_p_error = np.sqrt(excess / (num_samples - 1))

exact_elbo = curved_elbo(x_few, 0.2 * x_few - 0.3, 1.2**2)
exact_log_p = log_evidence(x_few, curved)
print("    x   vae.elbo              exact     log_prob             exact")
for row in zip(x_few, estimated, elbo_error, exact_elbo, strict=True):
    place = np.flatnonzero(x_few == row[0])[0]
    print("{:5.1f}  {:9.4f} ± {:.4f}  {:9.4f}".format(*row), end="  ")
    print(f"{weighted.log_probs[place]:8.4f} ± {log_p_error[place]:.4f}  {exact_log_p[place]:8.4f}")
assert np.all(np.abs(estimated - exact_elbo) < 4 * elbo_error)
assert np.all(np.abs(weighted.log_probs - exact_log_p) < 4 * log_p_error)
assert np.all(exact_elbo < exact_log_p)

# %% [markdown]
# ## A real model, with the integral
#
# With one latent dimension the integral can be computed for images as well: $p(x \mid z)$ is a
# product over hundreds of pixels, but $z$ is still a number. We train such a VAE on binary digits.
# The variable `TFVAE_MNIST` may name a folder of MNIST's IDX files, or be `mnist` to download it;
# without it the small digits that come with scikit-learn are used.

# %% tags=["parameters"] capped="epochs = 3"
epochs = 40

# %%
data = tfvae.datasets.load(os.environ.get("TFVAE_MNIST", "digits"), binarize="static")
train = data.train.subset(min(len(data.train), 6000))
vae = tfvae.VAE.for_images(
    data.image_shape, latent_dim=1, network="dense:hidden=128x64", likelihood="bernoulli", seed=0
)
vae.compile(keras.optimizers.Adam(2e-3))
before = tfvae.evaluation.elbo(vae, data.validation.batches(128), seed=1)
vae.fit(train.batches(128, shuffle=True), epochs=epochs, verbose=0)
after = tfvae.evaluation.elbo(vae, data.validation.batches(128), seed=1)
for name, found in (("before", before), ("after", after)):
    print(f"{name} training: validation ELBO {found.elbo:.2f} ± {found.standard_error:.2f} nats")
assert after.elbo - before.elbo > 4 * np.hypot(after.standard_error, before.standard_error)

# %% [markdown]
# For each test image, $\log p(x, z)$ on a fine grid of $z$ gives $\log p(x)$, the posterior, and
# $\mathrm{KL}(q \Vert p(z \mid x))$. Half the grid's points must give the same integral. And the
# identity must hold here too: $\log p(x)$ minus the KL is the ELBO that the library estimates.

# %%
x, labels = data.test.arrays(limit=50)
fine = np.linspace(-7, 7, 8001, dtype="float32")
given_z = vae.decode(fine[:, None])  # p(x|z) for all z of the grid
log_p_z = vae.prior.log_prob(fine[:, None]).numpy().astype("float64")
log_joints = np.stack([given_z.log_prob(image).numpy() + log_p_z for image in x])
log_qs = vae.encode(x).log_prob(fine[:, None, None]).numpy().T.astype("float64")


def log_integral(log_values, points):
    """log ∫ exp(log_values), by a sum: the ends are zero."""
    return logsumexp(log_values, axis=-1) + np.log(points[1] - points[0])


log_p = log_integral(log_joints, fine.astype("float64"))
half = log_integral(log_joints[:, ::2], fine[::2].astype("float64"))
print(f"largest change of log p(x) with half the points: {np.abs(log_p - half).max():.2e} nats")
assert np.abs(log_p - half).max() < 1e-3
gaps = trapezoid(np.exp(log_qs) * (log_qs - log_joints + log_p[:, None]), fine, axis=-1)

# %% tags=["parameters"] capped="num_samples = 300"
num_samples = 1000

# %%
terms = vae.terms(x, num_samples=num_samples, seed=3)
each = terms.log_likelihood.numpy().astype("float64")
elbos = each.mean(0) - terms.kl.numpy()
error = np.sqrt(np.sum(each.var(axis=0, ddof=1) / num_samples)) / len(x)  # of the mean over images
weighted = tfvae.evaluation.log_prob(vae, [x], num_samples=num_samples, seed=4)

print("mean over the images, nats")
print(f"ELBO, from {num_samples} draws           {elbos.mean():9.3f} ± {error:.3f}")
print(f"log p(x) − KL(q ‖ p(z|x)), integrals  {np.mean(log_p - gaps):9.3f}")
print(f"log p(x), importance sampling         {weighted.log_prob:9.3f}", end=" ")
print(f"± {weighted.monte_carlo_error:.3f}")
print(f"log p(x), integral                    {log_p.mean():9.3f}")
assert abs(elbos.mean() - np.mean(log_p - gaps)) < 4 * error + 1e-3
assert gaps.min() > 0
# A logarithm of a mean is too low on average, never too high.
assert weighted.log_prob < log_p.mean() + 4 * weighted.monte_carlo_error + 1e-3

# %% [markdown]
# The pictures show the posterior of some images and the encoder's $q$. The first image has the
# smallest gap of all, the last one the largest.

# %%
chosen = np.argsort(gaps)[[0, len(x) // 3, 2 * len(x) // 3, -1]]
figure, axes = plt.subplots(2, 4, figsize=(11, 4), layout="constrained", height_ratios=(1, 2))
for upper, lower, index in zip(*axes, chosen, strict=True):
    upper.imshow(x[index, ..., 0], cmap="gray")
    upper.set_axis_off()
    posterior, q = np.exp(log_joints[index] - log_p[index]), np.exp(log_qs[index])
    lower.fill_between(fine, posterior, color="C2", alpha=0.4, label="p(z|x)")
    lower.plot(fine, q, "C0", label="q(z|x)")
    inside = fine[np.maximum(posterior, q) > 0.01 * max(posterior.max(), q.max())]
    margin = 0.3 * (inside[-1] - inside[0])
    lower.set(xlim=(inside[0] - margin, inside[-1] + margin), xlabel="z")
    lower.set_title(f"gap {gaps[index]:.2f} nats", fontsize=9)
axes[1, 0].set_ylabel("density")
axes[1, 0].legend(fontsize=8)
plt.show()

# %% [markdown]
# Where $q$ has the posterior's place and width the gap is small. Where the posterior has another
# shape, or is not where the encoder guesses it, the gap is large: approximation and amortisation
# together. Where $q$ misses the posterior altogether, importance sampling with draws of $q$ is too
# low as well: none of them lands where $x$ is explained.
#
# ## Exercises
#
# **1.** The linear model: find the $(\mu, \sigma^2)$ that maximises the ELBO at $x = 1.2$ by
# numerical optimisation, and check that it is the posterior and that the ELBO there is
# $\log p(x)$.
#
# <details><summary>Solution</summary>
#
# ```python
# fit = minimize(lambda p: -elbo(x_seen, linear, gaussian(p)), (0.0, 0.0), tol=1e-10)
# np.testing.assert_allclose(fit.x[0], w * x_seen / (w**2 + s**2), atol=1e-4)
# np.testing.assert_allclose(np.exp(2 * fit.x[1]), s**2 / (w**2 + s**2), atol=1e-4)
# assert abs(-fit.fun - log_evidence(x_seen, linear)) < 1e-6
# ```
# </details>
#
# **2.** The bound with $K$ draws, $\mathbb{E}[\log \frac{1}{K} \sum_k p(x, z_k) / q(z_k)]$, is the
# ELBO for $K = 1$ and never falls as $K$ grows (Burda et al. 2016). Estimate it for $K = 1$ and
# $K = 10$ in the curved model with $q = N(0, 1)$, each with its standard error, and place both
# below $\log p(x)$.
#
# <details><summary>Solution</summary>
#
# ```python
# log_weights = log_normal(x_seen, curved(rng.standard_normal((20_000, 10))), s**2)
# one, ten = log_weights[:, 0], logsumexp(log_weights, axis=1) - np.log(10)
# one_error, ten_error = (values.std(ddof=1) / np.sqrt(len(values)) for values in (one, ten))
# assert abs(one.mean() - curved_elbo(x_seen, 0.0, 1.0)) < 4 * one_error
# assert ten.mean() - one.mean() > 4 * np.hypot(one_error, ten_error)
# assert ten.mean() < log_evidence(x_seen, curved) + 4 * ten_error
# ```
# </details>
#
# **3.** Amortisation: in the curved model at $c = 0.3$, let one encoder serve all $x$, with a mean
# $a x + b$ and one variance. Maximise its average ELBO over $a$, $b$ and the variance, and split
# the total gap into the approximation gap (to each $x$'s best Gaussian) and the amortisation gap.
#
# <details><summary>Solution</summary>
#
# ```python
# def amortised(parameters):
#     a, b, log_variance = parameters
#     return average(curved_elbo(x_grid, a * x_grid + b, np.exp(log_variance)))
#
#
# starts = [(0.5, 0.5, -1.0), (-0.5, -1.0, -1.0), (0.0, 0.0, 0.0)]
# best = max(-minimize(lambda p: -amortised(p), start).fun for start in starts)
# approximation = average(log_evidence(x_grid, curved) - best_elbo(x_grid, c))
# amortisation = average(best_elbo(x_grid, c)) - best
# total = average(log_evidence(x_grid, curved)) - best
# assert approximation > 0 and amortisation > 0
# assert abs(approximation + amortisation - total) < 1e-9
# ```
# </details>
#
# ## References
#
# - D. P. Kingma, M. Welling. Auto-Encoding Variational Bayes. 2014.
#   [arXiv:1312.6114](https://arxiv.org/abs/1312.6114), section 2.2 for the bound.
# - D. J. Rezende, S. Mohamed, D. Wierstra. Stochastic Backpropagation and Approximate Inference in
#   Deep Generative Models. 2014. [arXiv:1401.4082](https://arxiv.org/abs/1401.4082).
# - R. M. Neal, G. E. Hinton. A View of the EM Algorithm that Justifies Incremental, Sparse, and
#   other Variants. In Learning in Graphical Models, 1998.
# - M. E. Tipping, C. M. Bishop. Probabilistic Principal Component Analysis. Journal of the Royal
#   Statistical Society B 61, 1999.
# - R. E. Turner, M. Sahani. Two problems with variational expectation maximisation for time-series
#   models. In Bayesian Time Series Models, 2011: models that move to where q fits.
# - Y. Burda, R. Grosse, R. Salakhutdinov. Importance Weighted Autoencoders. 2016.
#   [arXiv:1509.00519](https://arxiv.org/abs/1509.00519).
# - C. Cremer, X. Li, D. Duvenaud. Inference Suboptimality in Variational Autoencoders. 2018.
#   [arXiv:1801.03558](https://arxiv.org/abs/1801.03558).
# - D. M. Blei, A. Kucukelbir, J. D. McAuliffe. Variational Inference: A Review for Statisticians,
#   2017. [arXiv:1601.00670](https://arxiv.org/abs/1601.00670).
# - In the library: the model [`model.py`](../tfvae/models/vae.py), the terms of the ELBO
#   [`objectives/base.py`](../tfvae/objectives/base.py), the KL
#   [`divergences.py`](../tfvae/distributions/kl.py), log p(x)
#   [`evaluation/importance.py`](../tfvae/evaluation/importance.py).
