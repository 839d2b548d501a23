# ---
# jupyter:
#   jupytext:
#     text_representation: {extension: .py, format_name: percent}
# ---

# %% [markdown]
# # 2. The ELBO from scratch
#
# A latent-variable model explains data in two steps: first a hidden number $z$ is drawn, then the
# data $x$ is drawn given $z$. To train such a model we want $\log p(x)$ to be large for the data
# we have. But $p(x)$ is an integral over all $z$, and for images nobody can compute it. A
# variational autoencoder (VAE) maximises something else in its place: a lower bound of
# $\log p(x)$, the *evidence lower bound* or ELBO.
#
# This notebook derives that bound, one line at a time. Nearly everywhere $z$ and $x$ are single
# numbers. Then the integral *can* be computed, to ten digits, and every line is checked in numbers
# by the cell that follows it. A number in brackets, such as $(2.7)$, marks a line; the cell that
# checks it has the same number in a comment.
#
# ## Learning goals
#
# - Name prior, likelihood, joint, evidence and posterior, and say how each follows from the first
#   two.
# - Say what is *variational* in a variational autoencoder: the posterior is replaced by the $q$ of
#   a simple family with the smallest $\mathrm{KL}(q \Vert p(z \mid x))$.
# - Derive the ELBO from that KL by Bayes' rule, and say what the gap to $\log p(x)$ is.
# - Say what the two terms of the ELBO do, and see the squared error in the first of them.
# - See EM as the case in which the gap is closed, and what happens to a model when it cannot be.
# - Find all of it again in `tfvae.VAE`.

# %%
import keras
import matplotlib.pyplot as plt
import numpy as np
from scipy.integrate import quad, trapezoid
from scipy.optimize import minimize, minimize_scalar
from scipy.special import logsumexp
from scipy.stats import norm

import tfvae

rng = np.random.default_rng(0)
keras.utils.set_random_seed(0)


def show(name, **values):
    """Print numbers side by side."""
    print(f"{name:32}", "   ".join(f"{key} {value:10.6f}" for key, value in values.items()))


# %% [markdown]
# ## The words and the symbols
#
# Think of how a digit comes about. A writer decides which digit it will be, how slanted, how thick
# the pen: these decisions are $z$, and nobody sees them. Then the digit is written: the image $x$,
# which we see. The same decisions do not give the same image twice, since a hand shakes: given $z$
# there is still chance in $x$.
#
# | symbol | name | in words | shape in code |
# | --- | --- | --- | --- |
# | $x$ | data, observation | what we see, for example the pixels of one image | `[B, H, W, C]` |
# | $D$ | | how many numbers one $x$ has; 784 for MNIST | |
# | $z$ | latent variable, code | what we do not see | `[B, d]` |
# | $d$ | latent dimension | how many numbers one $z$ has | |
# | $p(z)$ | prior | how $z$ is drawn when nothing has been seen | event `[d]` |
# | $p(x \mid z)$ | likelihood, **decoder** | how $x$ is drawn once $z$ is known | batch `[B]` |
# | $p(x, z)$ | joint density | of both together, $p(x \mid z) p(z)$ | |
# | $p(x)$ | evidence, marginal likelihood | how likely $x$ is, whatever $z$ was | |
# | $p(z \mid x)$ | posterior | which $z$ may have made this $x$ | |
# | $q(z \mid x)$ | approximate posterior, **encoder** | a simple one in its place | batch `[B]` |
# | $\theta$, $\phi$ | parameters | weights of the decoder, weights of the encoder | |
# | $\mu(x)$, $\Sigma(x)$ | mean, covariance of $q(z \mid x)$ | the encoder's output | `[B, d]` |
# | $\sigma^2(x)$ | the diagonal of $\Sigma(x)$ | the encoder puts out its logarithm | `[B, d]` |
# | $\varepsilon$ | noise | a draw from $N(0, I)$ | `[B, d]` |
# | $\mathbb{E}_q[f(z)]$ | expectation | the mean of $f(z)$ over draws $z$ of $q$ | |
# | $\mathrm{KL}(q \Vert p)$ | Kullback-Leibler divergence | how far $q$ is from $p$ | `[B]`, nats |
# | $\mathrm{ELBO}(x)$ | evidence lower bound | goes up in training | `[B]`, nats |
# | $B$, $K$, $N$ | | images in a batch, draws of $z$, images in all | |
#
# Some books write capital letters, $P(X \mid z)$ and $Q(z \mid X)$, for the same things. Logarithms
# are natural, so the unit of $\log p$ and of the KL is the *nat*; a nat is $1 / \log 2$ bits.
#
# ![Plate model: z is drawn from the prior, x from the likelihood](figures/plate_model.svg)
#
# ## Two models of one number
#
# Both have the prior $p(z) = N(0, 1)$ and the likelihood $p(x \mid z) = N(f(z), s^2)$. They differ
# in the mean of $x$:
#
# - **linear**, $f(z) = w z$: everything about it is known in closed form;
# - **curved**, $f(z) = \frac{1}{2} z^2 + c z$: its $p(x)$ has no formula. Two values of $z$
#   explain nearly every $x$ equally well.
#
# The density of both together is the product of the two that we chose:
#
# $$p(x, z) = p(x \mid z) p(z) . \tag{2.1}$$
#
# Integrals over $z$ are sums over a fine grid (the trapezoidal rule). For a smooth function that
# vanishes at both ends this is right to rounding. The cell checks $(2.1)$ as a density has to be
# checked: it is nowhere negative, and its integral over both $x$ and $z$ is one.

# %%
w, c, s = 0.8, 0.3, 0.4  # slope, the curved model's parameter, standard deviation of x given z
z = np.linspace(-12, 12, 4801)


def log_normal(x, mean, variance):
    return -0.5 * (np.log(2 * np.pi * variance) + (x - mean) ** 2 / variance)


def linear(z):
    return w * z


def curved(z, c=c):
    return 0.5 * z**2 + c * z


def log_prior(z):
    return log_normal(z, 0, 1)


def log_joint(x, z, f):  # (2.1)
    return log_prior(z) + log_normal(x, f(z), s**2)


def integral(values):
    """The integral over z of values on the grid."""
    return trapezoid(values, z, axis=-1)


models = {"linear": linear, "curved": curved}
wide = np.linspace(-6, 30, 1801)
show("the prior", area=integral(np.exp(log_prior(z))))
for name, f in models.items():
    over_z = integral(np.exp(log_joint(wide[:, None], z, f)))
    volume = trapezoid(over_z, wide)
    show(f"joint of the {name} model", volume=volume)
    assert abs(volume - 1) < 1e-6

# %% [markdown]
# ## p(x), by the law of total probability
#
# Each $z$ could have made $x$. Add up all the ways, each with its probability, and what is left is
# the density of $x$ alone:
#
# $$p(x) = \int p(x, z) dz = \int p(x \mid z) p(z) dz . \tag{2.2}$$
#
# This is the **law of total probability** for densities. To integrate a variable out of a joint
# density is to **marginalise** it: $p(x)$ is the *marginal* density of $x$. You may have met this
# step in the EM algorithm, which has a section of its own below.
#
# For the linear model, $x = w z + s \varepsilon$ is a sum of two independent Gaussians, so
# $p(x) = N(0, w^2 + s^2)$ is known. For the curved model we compare with another method of
# integration, which chooses its own points.


# %%
def log_evidence(x, f):
    """log p(x), the logarithm of the integral of p(x, z) over z."""
    log_values = log_joint(np.asarray(x)[..., None], z, f)
    highest = log_values.max(axis=-1)  # taken out, lest far from all data every term be zero
    return highest + np.log(integral(np.exp(log_values - highest[..., None])))


x_seen = 1.2
for x in (-0.5, 0.0, x_seen, 3.0):  # (2.2)
    formula = log_normal(x, 0, w**2 + s**2)
    adaptive, _ = quad(
        lambda value, x=x: np.exp(log_joint(x, value, curved)), -12, 12, epsabs=1e-13, limit=200
    )
    show(f"linear, log p(x = {x})", grid=log_evidence(x, linear), formula=formula)
    show(f"curved, log p(x = {x})", grid=log_evidence(x, curved), quadrature=np.log(adaptive))
    assert abs(log_evidence(x, linear) - formula) < 1e-10
    assert abs(log_evidence(x, curved) - np.log(adaptive)) < 1e-9

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
x_axis = np.linspace(-2.5, 4, 200)
figure, axes = plt.subplots(2, 3, figsize=(9, 5), layout="constrained")
for row, (name, f) in zip(axes, models.items(), strict=True):
    joint = np.exp(log_joint(x_axis[:, None], z[::10], f))
    row[0].pcolormesh(z[::10], x_axis, joint, cmap="Greys", rasterized=True)
    row[0].plot(z, f(z), "C0--", label="f(z)")
    row[0].axhline(x_seen, color="C3", label="x seen")
    row[0].set(title=f"{name}: p(x, z)", xlabel="z", ylabel="x", xlim=(-4, 4), ylim=(-2.5, 4))
    row[0].legend(loc="lower right")
    row[1].plot(z, np.exp(log_prior(z)), label="prior p(z)")
    row[1].plot(z, np.exp(log_normal(x_seen, f(z), s**2)), label="likelihood p(x|z)")
    row[1].set(title="along the red line", xlabel="z", xlim=(-4, 4), ylim=(0, 1.6))
    row[1].legend(loc="upper left")
    slice_ = np.exp(log_joint(x_seen, z, f))
    row[2].fill_between(z, slice_, color="C3", alpha=0.3, label="joint p(x, z), area p(x)")
    row[2].plot(z, slice_ / integral(slice_), "C2", label="posterior p(z|x), area 1")
    row[2].set(title="joint and posterior", xlabel="z", xlim=(-4, 4), ylim=(0, 1.6))
    row[2].legend(loc="upper left")
plt.show()

# %% [markdown]
# The linear model's posterior is a single bump between prior and likelihood. The curved model's
# has two: $x$ came from a $z$ on the left or from one on the right, and nothing in $x$ tells
# which.
#
# As a function of $x$, $p(x)$ is the density of what the model generates. So if we draw $z$, then
# $x$ given $z$, and forget $z$, a histogram of the $x$ must follow it. To forget $z$ *is* to
# marginalise.

# %%
draws = rng.standard_normal(20_000)
figure, axes = plt.subplots(1, 2, figsize=(8, 2.6), layout="constrained")
for axis, (name, f) in zip(axes, models.items(), strict=True):
    p = np.exp(log_evidence(wide, f))
    x_drawn = f(draws) + s * rng.standard_normal(draws.size)
    # The share of draws below 1 is a binomial proportion.
    share = trapezoid(p[wide <= 1], wide[wide <= 1])
    error = np.sqrt(share * (1 - share) / draws.size)
    print(f"{name}: P(x < 1) = {share:.4f}, of the draws {np.mean(x_drawn < 1):.4f} ± {error:.4f}")
    assert abs(np.mean(x_drawn < 1) - share) < 4 * error
    axis.hist(x_drawn, bins=80, range=(-3, 5), density=True, alpha=0.4, label="generated x")
    axis.plot(wide, p, label="p(x) by integration")
    axis.set(title=f"{name} model", xlabel="x", ylabel="density", xlim=(-3, 5))
    axis.set_ylim(0, 1.4 * p.max())
    axis.legend()
plt.show()

# %% [markdown]
# > **Loosely said.** "The problem is that we know neither $p(x, z)$ nor $p(x \mid z)$ nor $p(z)$."
# > In a VAE we *choose* $p(z)$, usually $N(0, I)$, and we choose the family of $p(x \mid z)$. What
# > is not known is which weights of the decoder fit the data, and what the integral $(2.2)$ comes
# > to. Choosing $p(z)$ loses nothing: another prior with a decoder that undoes the difference
# > gives the same $p(x)$. The cell replaces $N(0, 1)$ by $N(3, 2^2)$ and $f(z)$ by
# > $f((z - 3) / 2)$.

# %%
shifted = np.linspace(3 - 24, 3 + 24, 4801)
for name, f in models.items():
    moved = log_normal(shifted, 3, 4) + log_normal(x_seen, f((shifted - 3) / 2), s**2)
    log_p = np.log(trapezoid(np.exp(moved), shifted))
    show(f"{name}, log p(x = {x_seen})", prior_N01=log_evidence(x_seen, f), prior_N34=log_p)
    assert abs(log_p - log_evidence(x_seen, f)) < 1e-9

# %% [markdown]
# ### Why the integral is hard
#
# $(2.2)$ is an expectation over the prior:
#
# $$p(x) = \mathbb{E}_{p(z)}[p(x \mid z)] \approx \frac{1}{K} \sum_{k=1}^{K} p(x \mid z_k),
# \qquad z_k \sim p(z) . \tag{2.3}$$
#
# The mean over $K$ draws is an unbiased estimate, in any dimension. Its standard error follows from
# $\mathbb{E}_{p(z)}[p(x \mid z)^2]$. In one dimension it works.


# %%
def relative_variance(x, f):
    """The variance of p(x|z) under the prior, in units of p(x)²."""
    second_moment = integral(np.exp(log_prior(z) + 2 * log_normal(x, f(z), s**2)))
    return second_moment / np.exp(2 * log_evidence(x, f)) - 1


K = 100_000
for name, f in models.items():  # (2.3)
    weights = np.exp(log_normal(x_seen, f(rng.standard_normal(K)), s**2))
    p = np.exp(log_evidence(x_seen, f))
    error = p * np.sqrt(relative_variance(x_seen, f) / K)
    print(f"{name}: p(x) = {p:.5f}, mean over {K} draws {weights.mean():.5f} ± {error:.5f}")
    assert abs(weights.mean() - p) < 4 * error

# %% [markdown]
# Now let $x$ have $d$ coordinates, each with a $z$ of its own from the linear model. Then
# $\log p(x)$ is a sum of $d$ known terms. But if one coordinate has the relative variance $v$, then
# $d$ of them have $(1 + v)^d - 1$. That grows exponentially, and as many draws are needed: the more
# coordinates have to be explained at once, the more rarely a draw from the prior explains them all.

# %% tags=["parameters"] capped="most = 10_000"
most = 100_000

# %%
dimensions, repeats = (1, 5, 20, 50), 8
counts = np.geomspace(10, most, 13).astype(int)
x_many = w * rng.standard_normal(50) + s * rng.standard_normal(50)
log_p_each = log_evidence(x_many, linear)
growth = np.cumsum([np.log1p(relative_variance(x, linear)) for x in x_many])

figure, axis = plt.subplots(figsize=(6.5, 3), layout="constrained")
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
axis.legend()
plt.show()
assert np.expm1(growth[-1]) > 1e6 > most > np.expm1(growth[0])

# %% [markdown]
# In one dimension ten draws are nearly enough. In fifty, a hundred thousand draws leave the
# estimate of $\log p(x)$ tens of nats too low, and an image's $p(x \mid z)$ is sharper still. What
# is missing is a very rare draw with a huge weight: one that happens to explain everything.
#
# So do not draw $z$ blindly. Draw it where it is **likely under the data**, from $p(z \mid x)$.
#
# ## The posterior, by Bayes' rule
#
# The joint density can be split either way, $p(x \mid z) p(z) = p(z \mid x) p(x)$, and so
#
# $$p(z \mid x) = \frac{p(x \mid z) p(z)}{p(x)} . \tag{2.4}$$
#
# The denominator is the very integral that we cannot compute. For the linear model,
# Gaussian times Gaussian is Gaussian. Collecting the terms in $z$ of
# $-\frac{1}{2} z^2 - (x - w z)^2 / 2 s^2$ gives the precision $1 + w^2 / s^2$, and so
# $p(z \mid x) = N(w x / (w^2 + s^2), s^2 / (w^2 + s^2))$.


# %%
def log_posterior(x, f):  # (2.4)
    """log p(z|x) on the grid."""
    return log_joint(x, z, f) - log_evidence(x, f)


by_hand = log_normal(z, w * x_seen / (w**2 + s**2), s**2 / (w**2 + s**2))
for at in (0.0, 1.0, 2.0):
    there = np.argmin(np.abs(z - at))
    show(
        f"linear, log p(z = {at} | x)",
        Bayes=log_posterior(x_seen, linear)[there],
        formula=by_hand[there],
    )
np.testing.assert_allclose(log_posterior(x_seen, linear), by_hand, atol=1e-9)
for name, f in models.items():
    area = integral(np.exp(log_posterior(x_seen, f)))
    show(f"{name}, posterior", area=area)
    assert abs(area - 1) < 1e-12

# %% [markdown]
# Posterior and prior belong together: averaged over all the data that the model generates, the
# posteriors are the prior,
#
# $$\int p(z \mid x) p(x) dx = \int p(x, z) dx = p(z) . \tag{2.5}$$
#
# This is why a model trained on images of dogs can be asked for new dogs by drawing from $p(z)$: if
# all goes well, the $z$ that dogs' images lead to fill the prior, and nothing else does.

# %%
for name, f in models.items():  # (2.5)
    p_x = np.exp(log_evidence(wide, f))
    for at in (-1.0, 0.5):
        there = np.argmin(np.abs(z - at))
        posteriors = np.exp(log_joint(wide, z[there], f) - log_evidence(wide, f))
        average = trapezoid(posteriors * p_x, wide)
        prior_there = np.exp(log_prior(z[there]))
        show(f"{name}, at z = {at}", average_posterior=average, prior=prior_there)
        assert abs(average - prior_there) < 1e-6

# %% [markdown]
# ## Variational inference: choose q near p(z|x)
#
# We cannot compute the posterior. So we take a family $\mathcal{Q}$ of densities that are easy to
# draw from and easy to evaluate, say all Gaussians, and look in it for the one that is nearest to
# the posterior:
#
# $$q^{\ast} = \arg\min_{q \in \mathcal{Q}} \mathrm{KL}(q(z \mid x) \Vert p(z \mid x)) . \tag{2.6}$$
#
# Inference has become minimisation. The unknown is not a number but a whole function, the density
# $q$; the mathematics of minimising over functions is the calculus of variations, and that is where
# the word **variational** in "variational inference" and "variational autoencoder" comes from.
# "Near" is measured by the Kullback-Leibler divergence
#
# $$\mathrm{KL}(q \Vert p) = \mathbb{E}_{q}\left[\log \frac{q(z)}{p(z)}\right]
# = \int q(z) \log \frac{q(z)}{p(z)} dz . \tag{2.7}$$
#
# > **Loosely said.** The expectation in $(2.7)$ is at times written as a sum,
# > $\sum_z q(z) \log q(z)/p(z)$. That is right where $z$ is one of a list, such as a class. Where
# > $z$ is a real number it is an integral, and a sum over a grid needs the spacing $\Delta z$ as a
# > factor. The cell computes both for finer and finer grids: with $\Delta z$ the sum settles at the
# > KL; without, it doubles each time the grid does.


# %%
def kl(log_q, log_p):  # (2.7)
    """KL(q ‖ p) of densities on the grid, nats."""
    return integral(np.exp(log_q) * (log_q - log_p))


log_q, target = log_normal(z, 1.0, 0.5), log_posterior(x_seen, curved)
for stride in (40, 20, 10, 1):
    values = (np.exp(log_q) * (log_q - target))[::stride]
    spacing = z[stride] - z[0]
    show(f"spacing {spacing:.3f}", with_spacing=values.sum() * spacing, without=values.sum())
np.testing.assert_allclose(values.sum() * spacing, kl(log_q, target), rtol=1e-10)

# %% [markdown]
# The logarithm of a quotient is a difference, which is the form that we go on with:
#
# $$\mathrm{KL}(q(z \mid x) \Vert p(z \mid x))
# = \mathbb{E}_{q}[\log q(z \mid x) - \log p(z \mid x)] . \tag{2.8}$$
#
# The KL is never negative. The logarithm lies below its tangent, $\log t \le t - 1$, hence
#
# $$-\mathrm{KL}(q \Vert p) = \mathbb{E}_{q}\left[\log \frac{p(z)}{q(z)}\right]
# \le \mathbb{E}_{q}\left[\frac{p(z)}{q(z)} - 1\right] = 1 - 1 = 0 , \tag{2.9}$$
#
# with equality only where $p = q$. And it is no distance: exchanging the two changes it.

# %%
# (2.8): by draws of q, which is all that an expectation needs
eps = rng.standard_normal(K)
drawn = 1.0 + np.sqrt(0.5) * eps
difference = log_normal(drawn, 1.0, 0.5) - (
    log_joint(x_seen, drawn, curved) - log_evidence(x_seen, curved)
)
error = difference.std(ddof=1) / np.sqrt(K)
show("KL(q ‖ p(z|x))", integral=kl(log_q, target), mean_of_draws=difference.mean(), error=error)
assert abs(difference.mean() - kl(log_q, target)) < 4 * error

# (2.9): never negative
pairs = []
for _ in range(200):
    m1, m2 = rng.uniform(-1, 1, 2)
    v1, v2 = np.exp(rng.uniform(-1, 1, 2))
    pairs.append(kl(log_normal(z, m1, v1), log_normal(z, m2, v2)))
show("200 pairs of Gaussians", smallest=min(pairs), largest=max(pairs))
show("of one with itself", KL=kl(log_prior(z), log_prior(z)))
assert min(pairs) > 0 and kl(log_prior(z), log_prior(z)) == 0

narrow, broad = log_normal(z, 0, 0.25), log_normal(z, 0, 1)
show("two ways round", narrow_from_broad=kl(narrow, broad), broad_from_narrow=kl(broad, narrow))

# %% [markdown]
# To be narrow where the other is broad costs little. To put mass where the other has next to none
# costs much, for there $\log q/p$ is large. So it matters which way round the KL is taken. We fit a
# Gaussian $q$ to the curved model's posterior with its two bumps, both ways:
#
# - **forward**, $\mathrm{KL}(p \Vert q)$ averages over $p$: $q$ must have mass wherever $p$ has.
#   Its minimum is known: $q$ takes over the mean and the variance of $p$.
# - **reverse**, $\mathrm{KL}(q \Vert p)$, the one of $(2.6)$, averages over $q$: $q$ must keep out
#   of the places where $p$ has no mass. It settles on one bump, and each bump is a local minimum.


# %%
def gaussian(parameters):
    mean, log_sigma = parameters
    return log_normal(z, mean, np.exp(2 * log_sigma))


def forward(parameters):
    return kl(target, gaussian(parameters))


def reverse(parameters):
    return kl(gaussian(parameters), target)


# (2.6) where the family holds the posterior: the linear model
exact = log_posterior(x_seen, linear)
fit = minimize(lambda p: kl(gaussian(p), exact), (0.0, 0.0), tol=1e-10)
show("linear: q*", mean=fit.x[0], variance=np.exp(2 * fit.x[1]), KL=fit.fun)
show("linear: posterior", mean=w * x_seen / (w**2 + s**2), variance=s**2 / (w**2 + s**2))
np.testing.assert_allclose(fit.x[0], w * x_seen / (w**2 + s**2), atol=1e-4)
assert fit.fun < 1e-8

# and where it does not: the curved model
moment_fit = minimize(forward, (0.5, 0.0), tol=1e-10).x
right, left = (minimize(reverse, (start, -1.0), tol=1e-10) for start in (1.3, -1.9))
mean = integral(np.exp(target) * z)
variance = integral(np.exp(target) * (z - mean) ** 2)
np.testing.assert_allclose(moment_fit, (mean, 0.5 * np.log(variance)), atol=1e-4)
assert left.x[0] < -1 < 1 < right.x[0] and right.fun < left.fun < reverse(moment_fit)

print("\nbump    reverse KL   mass of the bump   −log mass kept   −log mass given up")
for name, fit, chosen in (("left", left, z < -c), ("right", right, z > -c)):
    mass = integral(np.exp(target) * chosen)
    print(f"{name:6} {fit.fun:11.3f} {mass:17.3f} {-np.log(mass):16.3f} {-np.log1p(-mass):20.3f}")
    assert 0 < fit.fun + np.log(mass) < 0.1
print(f"the forward fit, measured by the reverse KL: {reverse(moment_fit):.3f}")

# %%
means, log_sigmas = np.linspace(-3, 3, 91), np.linspace(-2.2, 1, 65)
log_qs = log_normal(z[::8], means[:, None, None], np.exp(2 * log_sigmas)[None, :, None])
coarse = target[::8]
surfaces = {
    "forward KL(p ‖ q)": trapezoid(np.exp(coarse) * (coarse - log_qs), z[::8]),
    "reverse KL(q ‖ p)": trapezoid(np.exp(log_qs) * (log_qs - coarse), z[::8]),
}

figure, axes = plt.subplots(1, 3, figsize=(10, 3.2), layout="constrained")
axes[0].fill_between(z, np.exp(target), color="0.85", label="p(z|x)")
axes[0].plot(z, np.exp(gaussian(moment_fit)), "C0", label="forward fit")
axes[0].plot(z, np.exp(gaussian(right.x)), "C3", label="reverse fit")
axes[0].plot(z, np.exp(gaussian(left.x)), "C3--", label="reverse, other minimum")
axes[0].set(title="fits to two bumps", xlabel="z", ylabel="density", xlim=(-4, 4), ylim=(0, 2.6))
axes[0].legend(loc="upper left")
marks = {"forward KL(p ‖ q)": [(moment_fit, "C0")]}
marks["reverse KL(q ‖ p)"] = [(right.x, "C3"), (left.x, "C3")]
for axis, (name, values) in zip(axes[1:], surfaces.items(), strict=True):
    levels = [0.1, 0.3, 0.5, 1, 1.5, 2, 3, 5, 8, 13, 21]
    drawn = axis.contour(means, np.exp(log_sigmas), values.T, levels=levels, cmap="viridis_r")
    axis.clabel(drawn, fontsize=8, fmt="%g", colors="0.2")
    for point, colour in marks[name]:
        axis.plot(point[0], np.exp(point[1]), "*", color=colour, ms=12)
    axis.set(title=f"{name}, nats", xlabel="mean of q", ylabel="standard deviation of q")
    axis.set_yscale("log")
    axis.set_yticks([0.125, 0.25, 0.5, 1, 2], ["1/8", "1/4", "1/2", "1", "2"])
    axis.minorticks_off()
plt.show()

# %% [markdown]
# The forward KL has one minimum, over the valley between the bumps, where $p$ has nearly no mass.
# The reverse KL has two. What does it cost to keep one bump only? If $q$ were exactly that bump,
# cut out of $p$ and scaled up to area one, then $q / p$ would be one over the bump's mass
# everywhere, and the KL would be **minus the logarithm of the mass that $q$ keeps**. A Gaussian is
# not exactly the bump, so its KL is a little larger: in the table, 1.236 nats for the left bump
# where minus the logarithm of its mass is 1.184. The mass that is given up is not what counts.
#
# A VAE uses the reverse KL. It needs draws from $q$ only, which we can make; the forward KL needs
# draws from the posterior, which we cannot.
#
# ## The derivation
#
# So far nothing is gained: $(2.8)$ holds $p(z \mid x)$, and that holds the unknown $p(x)$. Now
# **Bayes' rule** $(2.4)$ goes inside of it:
#
# $$\mathrm{KL}(q(z \mid x) \Vert p(z \mid x))
# = \mathbb{E}_{q}\left[\log q(z \mid x) - \log \frac{p(x \mid z) p(z)}{p(x)}\right] . \tag{2.10}$$
#
# The logarithm of the fraction falls into three pieces; mind the sign of the last one:
#
# $$= \mathbb{E}_{q}[\log q(z \mid x) - \log p(x \mid z) - \log p(z) + \log p(x)] . \tag{2.11}$$
#
# The expectation is over $z$. $\log p(x)$ does not depend on $z$, so it is its own mean and may be
# taken out:
#
# $$\mathrm{KL}(q(z \mid x) \Vert p(z \mid x))
# = \mathbb{E}_{q}[\log q(z \mid x) - \log p(x \mid z) - \log p(z)] + \log p(x) . \tag{2.12}$$
#
# The cell computes each right-hand side on its own, for five different $q$ in either model.

# %%
gaussians = [(0.0, 1.0), (1.2, 0.2), (1.0, 0.5), (-1.9, 0.1), (-0.5, 0.8)]


def expectation(log_q, values):
    """E_q[values], by integration over the grid."""
    return integral(np.exp(log_q) * values)


print("model   q = N(mean, variance)     KL       (2.10)     (2.11)     (2.12)")
for name, f in models.items():
    log_likelihood, log_p = log_normal(x_seen, f(z), s**2), log_evidence(x_seen, f)
    for mean, variance in gaussians:
        log_q = log_normal(z, mean, variance)
        left_side = kl(log_q, log_posterior(x_seen, f))
        fraction = np.exp(log_likelihood + log_prior(z) - log_p)
        safe = np.maximum(fraction, 1e-300)  # far out it underflows, where q has no mass either
        bayes = expectation(log_q, log_q - np.log(safe))  # (2.10)
        pieces = expectation(log_q, log_q - log_likelihood - log_prior(z) + log_p)  # (2.11)
        outside = expectation(log_q, log_q - log_likelihood - log_prior(z)) + log_p  # (2.12)
        print(f"{name}  N({mean:4}, {variance:3}) {left_side:18.6f} {bayes:10.6f}", end="")
        print(f" {pieces:10.6f} {outside:10.6f}")
        np.testing.assert_allclose([pieces, outside], left_side, atol=1e-9)
        np.testing.assert_allclose(bayes, left_side, atol=1e-4)  # the underflow

# %% [markdown]
# ### Exercise 1: the bound
#
# You have $(2.12)$, and you know that no KL is negative. Show that $\log p(x)$ is **at least**
# $\mathbb{E}_q[\log p(x \mid z)] - \mathrm{KL}(q(z \mid x) \Vert p(z))$. Then write that lower
# bound as a function, by sums over the grid: it may use `expectation`, `kl`, `log_normal` and
# `log_prior`, but not `log_evidence` and not `log_posterior`.

# %%
# Your answer: replace None by a function bound(log_q, x, f) that returns nats.
my_bound = None


# %%
def check_bound(bound):
    """Check an answer: below log p(x) for every q, and equal to it where q is the posterior."""
    if bound is None:
        print("exercise 1: no answer yet")
        return
    for name, f in models.items():
        for mean, variance in gaussians:
            gap = log_evidence(x_seen, f) - bound(log_normal(z, mean, variance), x_seen, f)
            assert gap > -1e-9, f"{name}, q = N({mean}, {variance}): above log p(x) by {-gap:.4f}"
        at_best = bound(log_posterior(x_seen, f), x_seen, f)
        assert abs(at_best - log_evidence(x_seen, f)) < 1e-6, f"{name}: {at_best:.4f} at best"
    print("exercise 1: right")


check_bound(my_bound)

# %% [markdown]
# <details><summary>Solution</summary>
#
# Subtract $\log p(x)$ from both sides of $(2.12)$ and turn all signs. Inside the expectation,
# $\log q - \log p(z)$ is what makes $\mathrm{KL}(q \Vert p(z))$, and $\log p(x \mid z)$ stands
# alone. On the left is $\log p(x)$ minus something that is not negative. The steps are written out
# below, as $(2.13)$ to $(2.16)$. For the linear model and $q = N(0, 1)$ the bound is $-6.50$ where
# $\log p(x)$ is $-1.71$; under its posterior, $N(1.2, 0.2)$, both are $-1.71$.
#
# ```python
# def my_bound(log_q, x, f):
#     return expectation(log_q, log_normal(x, f(z), s**2)) - kl(log_q, log_prior(z))
#
#
# check_bound(my_bound)
# assert abs(my_bound(log_prior(z), x_seen, linear) - -6.50) < 0.005
# assert abs(my_bound(log_normal(z, 1.2, 0.2), x_seen, linear) - -1.71) < 0.005
# ```
# </details>
#
# ### The solution, line by line
#
# Take $\log p(x)$ to the left of $(2.12)$, and multiply both sides by $-1$:
#
# $$\log p(x) - \mathrm{KL}(q(z \mid x) \Vert p(z \mid x))
# = \mathbb{E}_{q}[\log p(x \mid z) - (\log q(z \mid x) - \log p(z))] . \tag{2.13}$$
#
# The mean of a difference is the difference of the means:
#
# $$\log p(x) - \mathrm{KL}(q(z \mid x) \Vert p(z \mid x))
# = \mathbb{E}_{q}[\log p(x \mid z)] - \mathbb{E}_{q}[\log q(z \mid x) - \log p(z)] . \tag{2.14}$$
#
# The last expectation is a KL as well, this time to the *prior*:
#
# $$\mathbb{E}_{q}[\log q(z \mid x) - \log p(z)]
# = \mathbb{E}_{q}\left[\log \frac{q(z \mid x)}{p(z)}\right]
# = \mathrm{KL}(q(z \mid x) \Vert p(z)) . \tag{2.15}$$
#
# Put it in. This is an equation, with no inequality anywhere:
#
# $$\log p(x) - \mathrm{KL}(q(z \mid x) \Vert p(z \mid x))
# = \mathbb{E}_{q}[\log p(x \mid z)] - \mathrm{KL}(q(z \mid x) \Vert p(z)) . \tag{2.16}$$
#
# The KL on the left cannot be computed, but it is not negative. Leave it away, and the left side
# can only have become larger:
#
# $$\log p(x) \ge \mathbb{E}_{q}[\log p(x \mid z)] - \mathrm{KL}(q(z \mid x) \Vert p(z))
# = \mathrm{ELBO}(x) . \tag{2.17}$$
#
# Everything on the right is made of what we chose ourselves: $q$, $p(x \mid z)$ and $p(z)$.


# %%
def elbo(x, f, log_q):
    """E_q[log p(x|z)] − KL(q ‖ p(z)), nats."""
    return expectation(log_q, log_normal(x, f(z), s**2)) - kl(log_q, log_prior(z))


print("model   q = N(mean, variance)  log p − KL    (2.13)     (2.14)       ELBO    log p(x)")
for name, f in models.items():
    log_likelihood, log_p = log_normal(x_seen, f(z), s**2), log_evidence(x_seen, f)
    for mean, variance in gaussians:
        log_q = log_normal(z, mean, variance)
        left_side = log_p - kl(log_q, log_posterior(x_seen, f))
        together = expectation(log_q, log_likelihood - (log_q - log_prior(z)))  # (2.13)
        split = expectation(log_q, log_likelihood) - expectation(log_q, log_q - log_prior(z))
        bound = elbo(x_seen, f, log_q)
        print(f"{name}  N({mean:4}, {variance:3}) {left_side:20.6f}", end="")
        print(f" {together:10.6f} {split:10.6f} {bound:10.6f} {log_p:10.6f}")
        np.testing.assert_allclose([together, split], left_side, atol=1e-9)  # (2.14)
        formula = 0.5 * (variance + mean**2 - 1 - np.log(variance))
        np.testing.assert_allclose(kl(log_q, log_prior(z)), formula, atol=1e-9)  # (2.15)
        np.testing.assert_allclose(bound, left_side, atol=1e-9)  # (2.16)
        assert bound <= log_p + 1e-10  # (2.17)

# %% [markdown]
# One row reaches $\log p(x)$: for the linear model $N(1.2, 0.2)$ is the posterior. No row does for
# the curved one.
#
# The objective of a VAE is to **maximise the ELBO**. By $(2.16)$ its distance from $\log p(x)$ is
# $\mathrm{KL}(q(z \mid x) \Vert p(z \mid x))$: this is the **error** that we make by maximising the
# ELBO and not $\log p(x)$. And $\log p(x)$ does not depend on $q$. So to raise the ELBO by changing
# $q$ *is* to lower that KL, as $(2.6)$ asked for, although the posterior appears nowhere in the
# ELBO.
#
# The picture: for each mean of $q$ the ELBO, and the gap up to $\log p(x)$ filled in.

# %%
means = np.linspace(-3, 3, 241)
figure, axes = plt.subplots(1, 2, figsize=(9, 3), layout="constrained", sharey=True)
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
axes[0].legend(loc="lower left")
plt.show()

# %% [markdown]
# On the left the ELBO touches $\log p(x)$, at the posterior's mean. On the right it has two tops,
# both below the line: one Gaussian cannot hold two bumps.
#
# ## Why it is called an autoencoder
#
# - $q(z \mid x)$ is the **encoder**: it is given $x$ and says which $z$ may lie behind it. $z$ has
#   far fewer numbers than $x$.
# - $p(x \mid z)$ is the **decoder**: it is given $z$ and says which $x$ may come of it.
#
# One after the other they take $x$ to itself, like the autoencoder of notebook 1.
#
# ![A VAE and the shapes of its tensors](figures/vae.svg)
#
# > **Loosely said.** "The encoder finds the most likely $z$." It does not: it puts out a whole
# > density, its mean *and* its width. The most likely $z$ is not even well defined. Measure $z$ in
# > another unit, $u = \sinh z$, and the top of the density is at another place, since densities are
# > per unit; the model is the same, and so is every KL. The cell finds both tops and compares two
# > KLs. What is more, around the top of the curved model's posterior lies only a part of its mass.

# %%
u_grid = np.sinh(z)
stretch = np.log(np.cosh(z))  # log du/dz
for name, f in models.items():
    log_p = log_posterior(x_seen, f)
    log_p_u = log_p - stretch  # the density of u, at u = sinh z
    top, top_u = z[log_p.argmax()], z[log_p_u.argmax()]
    log_q = log_normal(z, 1.0, 0.5)
    log_q_u = log_q - stretch
    kl_u = trapezoid(np.exp(log_q_u) * (log_q_u - log_p_u), u_grid)
    near = integral(np.exp(log_p) * (np.abs(z - top) < 0.5))
    show(f"{name}: most likely z", by_z=top, by_u=top_u, mass_within_half=near)
    show(f"{name}: KL(q ‖ p(z|x))", by_z=kl(log_q, log_p), by_u=kl_u)
    assert abs(top - top_u) > 0.05
    np.testing.assert_allclose(kl_u, kl(log_q, log_p), rtol=1e-3)

# %% [markdown]
# ## The loss
#
# Programs minimise, so the loss is the ELBO with its sign turned:
#
# $$\mathcal{L} = -\mathrm{ELBO}(x)
# = -\mathbb{E}_{q}[\log p(x \mid z)] + \mathrm{KL}(q(z \mid x) \Vert p(z)) . \tag{2.18}$$
#
# > **Loosely said.** $\mathbb{E}_q[\log p(x \mid z)]$ is often called "the reconstruction loss".
# > It is a log-*likelihood*: the better the reconstruction, the **larger** it is. The loss is
# > $-\mathbb{E}_q[\log p(x \mid z)]$, with a minus. The cell moves the mean of $q$ and looks where
# > each has its minimum: with the minus near the posterior, without it as far away as it can get.

# %%
means = np.linspace(-3, 3, 121)
variance = s**2 / (w**2 + s**2)
likelihoods = [
    expectation(log_normal(z, m, variance), log_normal(x_seen, w * z, s**2)) for m in means
]
likelihoods = np.array(likelihoods)
to_prior = np.array([kl(log_normal(z, m, variance), log_prior(z)) for m in means])
right_loss, wrong_loss = -likelihoods + to_prior, likelihoods + to_prior
show("posterior", mean=w * x_seen / (w**2 + s**2))
show("minimum of −E[log p(x|z)] + KL", mean=means[right_loss.argmin()], loss=right_loss.min())
show("minimum of +E[log p(x|z)] + KL", mean=means[wrong_loss.argmin()], loss=wrong_loss.min())
# (2.18)
np.testing.assert_allclose(
    right_loss, [-elbo(x_seen, linear, log_normal(z, m, variance)) for m in means], atol=1e-9
)
assert abs(means[right_loss.argmin()] - 1.2) < 1e-9 and abs(means[wrong_loss.argmin()]) == 3

# %% [markdown]
# ## The first term: maximum likelihood, and the squared error
#
# To maximise a likelihood is nothing new. **Maximum likelihood estimation** (MLE) takes the
# parameters under which the data are most likely. In regression, with inputs $x_i$ and targets
# $y_i$,
#
# $$\hat\theta = \arg\max_{\theta} \log p(\mathcal{D} \mid \theta) . \tag{2.19}$$
#
# If the data are independent and of one distribution (i.i.d.), probabilities multiply and
# logarithms add. The **negative log-likelihood** is
#
# $$\mathrm{NLL}(\theta) = -\log p(\mathcal{D} \mid \theta)
# = -\sum_{i=1}^{N} \log p(y_i \mid x_i, \theta) . \tag{2.20}$$
#
# Linear regression says that $y$ is a linear function of $x$ plus noise,
# $y = \theta^\top x + \epsilon$ with $\epsilon \sim N(0, \sigma^2)$, since no measurement comes
# out twice the same. In other words,
#
# $$p(y \mid x, \theta) = N(y;\ \theta^\top x, \sigma^2) . \tag{2.21}$$
#
# Put the Gaussian density into $(2.20)$:
#
# $$\mathrm{NLL}(\theta) = -\sum_{i=1}^{N} \log\left[(2 \pi \sigma^2)^{-\frac{1}{2}}
# e^{-(y_i - \theta^\top x_i)^2 / 2 \sigma^2}\right]
# = \frac{N}{2} \log 2 \pi \sigma^2
# + \frac{1}{2 \sigma^2} \sum_{i=1}^{N} (y_i - \theta^\top x_i)^2 . \tag{2.22}$$
#
# Neither $\sigma$ nor $N$ depends on $\theta$. A constant that is added, and a positive factor, do
# not move a minimum, so
#
# $$\arg\min_\theta \mathrm{NLL}(\theta) = \arg\min_\theta \sum_{i=1}^{N} (y_i - \theta^\top x_i)^2
# = \arg\min_\theta \frac{1}{N} \sum_{i=1}^{N} (y_i - \theta^\top x_i)^2
# = \arg\min_\theta \mathrm{MSE}(\theta) . \tag{2.23}$$

# %%
N = 50
inputs = np.stack([rng.uniform(-1, 1, N), np.ones(N)], axis=1)  # the intercept is a weight too
truth, noise = np.array([1.5, 0.5]), 0.4
targets = inputs @ truth + noise * rng.standard_normal(N)  # (2.21)


def squares(theta):
    return np.sum((targets - inputs @ theta) ** 2)


def nll(theta, sigma):
    return N / 2 * np.log(2 * np.pi * sigma**2) + squares(theta) / (2 * sigma**2)


for sigma in (0.2, 0.4, 1.0):
    by_scipy = -norm.logpdf(targets, inputs @ truth, sigma).sum()
    show(f"NLL at σ = {sigma}", sum_of_logs=by_scipy, formula=nll(truth, sigma))
    np.testing.assert_allclose(by_scipy, nll(truth, sigma), rtol=1e-12)  # (2.20), (2.22)

least_squares = np.linalg.lstsq(inputs, targets, rcond=None)[0]
show("least squares", slope=least_squares[0], intercept=least_squares[1])
for sigma in (0.2, 1.0):
    fit = minimize(nll, np.zeros(2), args=(sigma,), tol=1e-10)
    show(f"least NLL at σ = {sigma}", slope=fit.x[0], intercept=fit.x[1])
    np.testing.assert_allclose(fit.x, least_squares, atol=1e-4)  # (2.19), (2.23)

# %% [markdown]
# > **Loosely said.** The NLL is at times written with $-\frac{N}{2} \log 2 \pi \sigma^2$. The sign
# > of that term is **plus**, as in $(2.22)$: two minus signs meet, one before the sum and one in
# > the exponent $-\frac{1}{2}$. For $\theta$ alone it makes no difference. For $\sigma$ it does:
# > with the plus the NLL has its minimum at the root mean square of the residuals; with a minus it
# > falls without end as $\sigma$ grows, and a model that learns its noise would claim infinite
# > noise.

# %%
residual = np.sqrt(squares(least_squares) / N)
for sigma in (residual / 2, residual, 2 * residual, 10.0, 1000.0):
    plus = nll(least_squares, sigma)
    minus = plus - N * np.log(2 * np.pi * sigma**2)
    show(f"σ = {sigma:.4f}", plus_sign=plus, minus_sign=minus)
grid = residual * np.linspace(0.5, 2, 301)
best = grid[np.argmin([nll(least_squares, value) for value in grid])]
show("minimum with the plus", sigma=best, rms_residual=residual)
assert abs(best / residual - 1) < 0.005 and minus < -100

# %% [markdown]
# The decoder of a VAE is in the place of $\theta^\top x$. Call its output $\varphi(z)$, with as
# many numbers $D$ as $x$ has, and let the noise be Gaussian and independent in each:
#
# $$-\log p(x \mid z) = \frac{1}{2 \sigma^2} \Vert x - \varphi(z) \Vert^2
# + \frac{D}{2} \log 2 \pi \sigma^2 . \tag{2.24}$$
#
# So the first term of the loss *is* a squared error: the sum over pixels, times
# $1 / 2 \sigma^2$, plus a constant. In regression the factor did not matter. Here it does, because
# there is a second term, the KL, which it is weighed against: notebook 5 is about that. Another
# noise gives another loss: Laplace noise the absolute error ($L_1$), and a pixel that is black or
# white, a Bernoulli variable, the binary cross-entropy (BCE).

# %%
D, sigma = 784, 0.3
picture, output = rng.uniform(size=D), rng.uniform(size=D)
log_density = norm.logpdf(picture, output, sigma).sum()
formula = np.sum((picture - output) ** 2) / (2 * sigma**2) + D / 2 * np.log(2 * np.pi * sigma**2)
show("Normal: −log p(x|z)", densities=-log_density, formula=formula)  # (2.24)
np.testing.assert_allclose(-log_density, formula, rtol=1e-12)
bits = (picture < output).astype(float)
cross_entropy = -np.sum(bits * np.log(output) + (1 - bits) * np.log1p(-output))
products = -np.log(np.where(bits == 1, output, 1 - output)).sum()
show("Bernoulli: −log p(x|z)", probabilities=products, cross_entropy=cross_entropy)
np.testing.assert_allclose(products, cross_entropy, rtol=1e-12)

# %% [markdown]
# ## The second term: stay near the prior
#
# $\mathrm{KL}(q(z \mid x) \Vert p(z))$ is the price of saying something about $x$. It is zero if
# the encoder puts out the prior, whatever $x$ is. It grows as $q$ moves away and gets narrow. New
# images are made by drawing from $p(z)$, so $p(z)$ should be simple, and the decoder should have
# met the $z$ that it gives. Usually
#
# $$z \sim p(z) = N(0, I) , \tag{2.25}$$
#
# and minimising the KL draws every $q(z \mid x)$ towards $N(0, I)$. There is another benefit. If
# $q(z \mid x)$ is Gaussian too, with a mean $\mu(x)$ and a covariance $\Sigma(x)$ from a network,
# the KL has a **closed form**: no draws, no noise. Notebook 3 derives it. The cell minimises the KL
# alone and sees where that leads.

# %%
fit = minimize(lambda p: kl(gaussian(p), log_prior(z)), (1.5, -1.0), tol=1e-10)
show("KL alone leads to", mean=fit.x[0], standard_deviation=np.exp(fit.x[1]), KL=fit.fun)
np.testing.assert_allclose(fit.x, 0, atol=1e-4)  # (2.25)
for name, (mean, variance) in {"far away": (2.0, 1.0), "narrow": (0.0, 0.01)}.items():
    show(f"q {name}: N({mean}, {variance})", KL=kl(log_normal(z, mean, variance), log_prior(z)))

# %% [markdown]
# That is the whole objective. The rest of this notebook looks at it from other sides.
#
# ## The same bound by Jensen's inequality
#
# Bring any $q$ into the integral:
#
# $$p(x) = \int q(z) \frac{p(x, z)}{q(z)} dz
# = \mathbb{E}_{q}\left[\frac{p(x, z)}{q(z)}\right] . \tag{2.26}$$
#
# It holds for every $q$ that is positive where the joint is. The logarithm is concave, so the
# logarithm of a mean is at least the mean of the logarithms (Jensen):
#
# $$\log p(x) = \log \mathbb{E}_{q}\left[\frac{p(x, z)}{q(z)}\right]
# \ge \mathbb{E}_{q}\left[\log \frac{p(x, z)}{q(z)}\right] = \mathrm{ELBO}(x) . \tag{2.27}$$
#
# That is shorter, but it does not say what the gap is. If $q$ is the posterior, the fraction is
# $p(x)$ for every $z$: one draw would do.
#
# Leave the joint together, and the ELBO is an energy and an entropy,
#
# $$\mathrm{ELBO}(x) = \mathbb{E}_{q}[\log p(x, z)] + \mathrm{H}(q), \qquad
# \mathrm{H}(q) = -\mathbb{E}_{q}[\log q(z)] . \tag{2.28}$$


# %%
def log_weight(x, f, log_q):
    """log p(x, z) − log q(z) on the grid."""
    return log_joint(x, z, f) - log_q


print("model   q = N(mean, variance)  log p(x)     (2.26)       ELBO     (2.27)     (2.28)")
for name, f in models.items():
    for mean, variance in gaussians[:3]:
        log_q = log_normal(z, mean, variance)
        weighted = np.log(integral(np.exp(log_q + log_weight(x_seen, f, log_q))))
        jensen = expectation(log_q, log_weight(x_seen, f, log_q))
        entropy = 0.5 * np.log(2 * np.pi * np.e * variance)
        energy = expectation(log_q, log_joint(x_seen, z, f))
        print(f"{name}  N({mean:4}, {variance:3}) {log_evidence(x_seen, f):17.6f}", end="")
        print(f" {weighted:10.6f} {elbo(x_seen, f, log_q):10.6f}", end="")
        print(f" {jensen:10.6f} {energy + entropy:10.6f}")
        assert abs(weighted - log_evidence(x_seen, f)) < 1e-9  # (2.26)
        assert abs(jensen - elbo(x_seen, f, log_q)) < 1e-9 and jensen < weighted + 1e-9  # (2.27)
        assert abs(energy + entropy - elbo(x_seen, f, log_q)) < 1e-9  # (2.28)
    constant = log_weight(x_seen, f, log_posterior(x_seen, f))
    show(f"{name}, q the posterior", smallest_weight=constant.min(), largest=constant.max())
    np.testing.assert_allclose(constant, log_evidence(x_seen, f), atol=1e-9)

# %% [markdown]
# ## One draw is enough
#
# For the curved model the expected squared error is a formula too. With $g = \mu + c$ and
# $r = x - f(\mu)$, a draw $z = \mu + \sigma \varepsilon$ has
# $x - f(z) = r - g \sigma \varepsilon - \frac{1}{2} \sigma^2 \varepsilon^2$. The moments
# $\mathbb{E}[\varepsilon^2] = 1$, $\mathbb{E}[\varepsilon^3] = 0$ and
# $\mathbb{E}[\varepsilon^4] = 3$ give
#
# $$\mathbb{E}_{q}[(x - f(z))^2] = r^2 + (g^2 - r) \sigma^2 + \frac{3}{4} \sigma^4 . \tag{2.29}$$
#
# Unlike $\log p(x)$, the ELBO can be estimated without bias from a single draw of $q$, and the
# estimate does not get worse with the dimension as in the picture above: a mean of *logarithms* has
# no gigantic terms.


# %%
def curved_elbo(x, mean, variance, c=c):
    """The ELBO of the curved model under q = N(mean, variance), in closed form."""
    g, r = mean + c, x - curved(mean, c)
    square = r**2 + (g**2 - r) * variance + 0.75 * variance**2  # (2.29)
    to_prior = 0.5 * (variance + mean**2 - 1 - np.log(variance))
    return -0.5 * np.log(2 * np.pi * s**2) - 0.5 * square / s**2 - to_prior


for mean, variance in gaussians:
    by_grid = elbo(x_seen, curved, log_normal(z, mean, variance))
    drawn = mean + np.sqrt(variance) * rng.standard_normal(K)
    each = log_joint(x_seen, drawn, curved) - log_normal(drawn, mean, variance)
    error = each.std(ddof=1) / np.sqrt(K)
    exact = curved_elbo(x_seen, mean, variance)
    print(f"N({mean:4}, {variance:3}): formula {exact:9.4f}, grid {by_grid:9.4f}, ", end="")
    print(f"mean of single draws {each.mean():9.4f} ± {error:.4f}")
    assert abs(exact - by_grid) < 1e-9
    assert abs(each.mean() - exact) < 4 * error

# %% [markdown]
# ## EM: the gap closed in every step
#
# You may know marginalising over something hidden from the **EM algorithm**. It fits in here. Let
# the model have parameters $\theta$ to learn from data $x_1, \dots, x_N$, and write $(2.16)$ with
# them:
#
# $$\log p_\theta(x) = \mathrm{ELBO}(q, \theta, x)
# + \mathrm{KL}(q(z) \Vert p_\theta(z \mid x)) . \tag{2.30}$$
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


def mean_gap(means, variance, weights, s2):
    """Mean over the data of KL(q_n ‖ posterior), both Gaussian."""
    best, best_variance = e_step(weights, s2)
    ratio = variance / best_variance
    return 0.5 * np.mean(ratio + (means - best) ** 2 / best_variance - 1 - np.log(ratio))


def e_step(weights, s2):
    precision = weights @ weights + s2
    return points @ weights / precision, s2 / precision


def m_step(means, variance):
    weights = points.T @ means / np.sum(means**2 + variance)
    square = np.sum((points - means[:, None] * weights) ** 2) + N * variance * weights @ weights
    return weights, square / (2 * N)


weights, s2 = np.array([-0.1, 0.9]), 1.2
means, variance = np.zeros(N), 1.0  # q starts as the prior
bounds, evidences, path = [mean_bound(means, variance, weights, s2)], [], [weights]
print("iteration   log p(x)    ELBO after E    ELBO after M   gap after M   ELBO + gap")
for iteration in range(600):
    before = mean_log_p(weights, s2)
    means, variance = e_step(weights, s2)
    bounds.append(mean_bound(means, variance, weights, s2))
    assert abs(bounds[-1] - before) < 1e-10  # the E-step closes the gap
    weights, s2 = m_step(means, variance)
    bounds.append(mean_bound(means, variance, weights, s2))
    after, gap = mean_log_p(weights, s2), mean_gap(means, variance, weights, s2)
    assert bounds[-1] >= bounds[-2] - 1e-12 and after >= bounds[-1] - 1e-12
    np.testing.assert_allclose(bounds[-1] + gap, after, atol=1e-10)  # (2.30)
    if iteration in (0, 1, 2, 5, 20, 599):
        print(f"{iteration + 1:9} {before:10.5f} {bounds[-2]:15.5f} {bounds[-1]:15.5f}", end="")
        print(f" {gap:13.5f} {bounds[-1] + gap:12.5f}")
    evidences.append(before)
    path.append(weights)

eigenvalues, vectors = np.linalg.eigh(points.T @ points / N)
best_w = vectors[:, 1] * np.sqrt(eigenvalues[1] - eigenvalues[0])
best_w *= np.sign(best_w @ weights)
print("w  by EM", weights.round(6), " by eigenvectors", best_w.round(6))
print("s² by EM", round(s2, 6), " smaller eigenvalue", eigenvalues[0].round(6))
np.testing.assert_allclose(weights, best_w, atol=1e-6)
np.testing.assert_allclose(s2, eigenvalues[0], atol=1e-6)

# %% [markdown]
# After every E-step the ELBO lies on $\log p(x)$; during the M-step it climbs, and $\log p(x)$
# climbs further: the red bars are the new gaps. On the right, the arrow turns to the direction in
# which the data vary most. Where it ends is known: the noise variance is the smaller eigenvalue of
# the data's covariance, and $\mathbf{w}$ lies along the first eigenvector, with the difference of
# the two eigenvalues as its squared length (Tipping and Bishop 1999).

# %%
shown = 7
figure, axes = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained", width_ratios=(3, 2))
steps = np.arange(2 * shown + 1) / 2
axes[0].plot(steps, bounds[: 2 * shown + 1], "C0o-", ms=4, label="ELBO")
stairs = np.repeat(evidences[: shown + 1], 2)
ends = np.r_[0, np.repeat(np.arange(1, shown + 1), 2)][: len(stairs) - 1]
axes[0].plot(ends, stairs[: len(ends)], "k", lw=1.2, label="log p(x)")
whole = np.arange(1, shown + 1)
axes[0].vlines(
    whole, bounds[2 : 2 * shown + 1 : 2], evidences[1 : shown + 1], "C3", lw=3, label="gap"
)
for letter, at, height in (("E", 0.33, np.mean(bounds[:2]) - 0.075), ("M", 0.55, bounds[1] + 0.12)):
    axes[0].annotate(letter, (at, height), color="C0", fontsize=9)
axes[0].set(title="a staircase", xlabel="iteration of EM", ylabel="mean over the data, nats")
axes[0].legend(loc="lower right")
axes[1].scatter(*points.T, s=5, color="0.7", linewidths=0)
for number, vector in enumerate(path[: shown + 1]):
    colour = plt.cm.viridis(number / shown)
    axes[1].annotate("", vector * 2, (0, 0), arrowprops={"arrowstyle": "->", "color": colour})
axes[1].plot(*np.stack([-2 * best_w, 2 * best_w]).T, "C3--", lw=1, label="first eigenvector")
axes[1].set(title="2 w, from dark to bright", xlabel="x[0]", ylabel="x[1]", aspect="equal")
axes[1].legend(loc="upper left")
plt.show()

# %% [markdown]
# A VAE does the same with two changes. Its posterior has no formula, so the E-step becomes a
# gradient step on a $q$ from some family. The M-step becomes a gradient step on $\theta$, and both
# are taken at once, as both maximise one function. And it does not keep a $q_n$ for every image: a
# network, the encoder, puts out $q(z \mid x)$ for any $x$. What is lost because the family cannot
# hold the posterior is called the *approximation gap*. What is lost on top, because one network
# serves all $x$ and does not give each its best $q$, is the *amortisation gap* (Cremer et al.
# 2018). In the linear model both are zero: its posterior's mean is linear in $x$.
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
# below is due to chance, and $\mathbb{E}[\log p_c(x)]$ has its maximum exactly at the truth.
#
# Each $x$ gets its very best Gaussian. For a given mean the best variance has a formula. Setting
# the derivative of `curved_elbo` by $\sigma^2$ to zero leaves, with $A = g^2 - r + s^2$,
#
# $$\frac{3}{2} \sigma^4 + A \sigma^2 - s^2 = 0 , \tag{2.31}$$
#
# whose positive root is taken. The best mean is searched on a grid; any $q$ gives a bound, so the
# search can err on one side only.


# %%
def best_variance(x, mean, c=c):
    a = (mean + c) ** 2 - (x - curved(mean, c)) + s**2
    root = np.sqrt(a**2 + 6 * s**2)
    # (root − a)/3, without subtracting two large numbers.
    return np.where(a > 0, 2 * s**2 / (root + np.abs(a)), (root - a) / 3)


for mean in (-1.5, 0.0, 2.0):  # (2.31)
    found = minimize_scalar(
        lambda v, mean=mean: -curved_elbo(x_seen, mean, np.exp(v)), (-3, 0), tol=1e-12
    )
    formula = float(best_variance(x_seen, mean))
    show(f"mean {mean}: best variance", searched=np.exp(found.x), formula=formula)
    np.testing.assert_allclose(np.exp(found.x), formula, rtol=1e-5)

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
figure, axes = plt.subplots(1, 3, figsize=(10, 3), layout="constrained")
axes[0].plot(settings, evidence, "k", label="E[log p(x)]")
axes[0].plot(settings, bound, "C0", label="E[best ELBO]")
axes[0].fill_between(settings, bound, evidence, color="C3", alpha=0.15, label="gap")
axes[0].plot(by_evidence, evidence.max(), "k*", ms=10)
axes[0].plot(by_bound, bound.max(), "C0*", ms=10)
axes[0].set(title="the bound's maximum is elsewhere", xlabel="parameter c", ylabel="nats")
axes[0].legend()
for value, colour, name in ((c, "k", "truth"), (by_bound, "C0", "ELBO's choice")):
    f = lambda z, value=value: curved(z, value)  # noqa: E731
    axes[1].plot(z, np.exp(log_posterior(x_seen, f)), colour, label=f"{name}, c = {value:.2f}")
    axes[2].plot(wide, np.exp(log_evidence(wide, f)), colour, label=name)
axes[1].set(title=f"p(z | x = {x_seen})", xlabel="z", ylabel="density", xlim=(-4.5, 3))
axes[1].set_ylim(0, 1.7)
axes[1].legend(loc="upper left")
axes[2].set(title="p(x)", xlabel="x", ylabel="density", xlim=(-2, 5), ylim=(0, 0.95))
axes[2].legend()
plt.show()

# %% [markdown]
# The stars are the maxima. The ELBO has chosen a model whose posterior is more nearly one bump,
# and it pays for that with a worse fit to the data. It stops where a further step would cost as
# much likelihood as it saves of the gap. The ELBO itself does not warn of it: it is higher there
# than at the truth. Better families (flows) and tighter bounds (importance weighting) are the
# remedies; notebook 7 has both.
#
# ## The same numbers in tfvae
#
# `tfvae.VAE` takes any two Keras networks. The curved model is a VAE whose event is one number: a
# decoder without weights, and an encoder that is as simple, $q(z \mid x) = N(0.2 x - 0.3, 1.2^2)$,
# wider than the prior, so that no weight $p(x, z) / q(z \mid x)$ can be large.

# %%
code = keras.Input((1,))  # z [B, 1]
decoder = keras.Model(code, 0.5 * code**2 + c * code)  # the mean of x, [B, 1]
number = keras.Input((1,))  # x [B, 1]
loc, log_var = keras.layers.Dense(1), keras.layers.Dense(1)
encoder = keras.Model(number, [loc(number), log_var(number)])
loc.set_weights([np.array([[0.2]]), np.array([-0.3])])
log_var.set_weights([np.array([[0.0]]), np.array([2 * np.log(1.2)])])
likelihood = tfvae.likelihoods.Normal(scale=s, decoder_output="parameters")
vae = tfvae.VAE(encoder, decoder, latent_dim=1, likelihood=likelihood, seed=0)
q = vae.encode(np.array([[x_seen]], "float32"))  # batch [1], event [1]
p = vae.decode(np.array([[0.5]], "float32"))
show(f"q(z | x = {x_seen})", mean=q.mean().numpy().item(), deviation=q.stddev().numpy().item())
show("p(x | z = 0.5)", mean=p.mean().numpy().item(), deviation=p.stddev().numpy().item())
np.testing.assert_allclose(q.mean(), 0.2 * x_seen - 0.3, atol=1e-6)
np.testing.assert_allclose(p.mean(), curved(0.5), atol=1e-6)

# %% [markdown]
# `vae.elbo` draws $z$; with many draws it must be the closed form within its standard error.
# `tfvae.evaluation.log_prob` estimates $\log p(x)$ by $(2.26)$, with the mean of the weights
# $p(x, z_k) / q(z_k \mid x)$, and must give the integral. Both are float32; the standard errors are
# far above that rounding.

# %% tags=["parameters"] capped="num_samples = 20_000"
num_samples = 200_000

# %%
x_few = np.array([[-0.3], [0.5], [x_seen], [2.0], [3.0]], "float32")
log_likelihoods = vae.terms(x_few, num_samples=num_samples, seed=1).log_likelihood.numpy()
elbo_error = log_likelihoods.std(axis=0, ddof=1) / np.sqrt(num_samples)
estimated = vae.elbo(x_few, num_samples=num_samples, seed=1).elbo.numpy()
weighted = tfvae.evaluation.log_prob(vae, x_few, num_samples=num_samples, seed=2)
# The delta method: the error of a logarithm is the relative error.
excess = num_samples / weighted.effective_sample_sizes - 1
log_p_error = np.sqrt(excess / (num_samples - 1))

exact_elbo = curved_elbo(x_few[:, 0], 0.2 * x_few[:, 0] - 0.3, 1.2**2)
exact_log_p = log_evidence(x_few[:, 0], curved)
print("    x   vae.elbo              exact     log_prob             exact")
for i, value in enumerate(x_few[:, 0]):
    print(
        f"{value:5.1f}  {estimated[i]:9.4f} ± {elbo_error[i]:.4f}  {exact_elbo[i]:9.4f}", end="  "
    )
    print(f"{weighted.log_probs[i]:8.4f} ± {log_p_error[i]:.4f}  {exact_log_p[i]:8.4f}")
assert np.all(np.abs(estimated - exact_elbo) < 4 * elbo_error)
assert np.all(np.abs(weighted.log_probs - exact_log_p) < 4 * log_p_error)
assert np.all(exact_elbo < exact_log_p)

# %% [markdown]
# ## A real model, with the integral
#
# With one latent dimension the integral can be computed for images as well: $p(x \mid z)$ is a
# product over hundreds of pixels, but $z$ is still a number. We train such a VAE on the MNIST
# digits that come with the package, each pixel made black or white.

# %% tags=["parameters"] capped="epochs, images = 2, 1500"
epochs, images = 25, 6000

# %%
data = tfvae.datasets.load("mnist-small", binarize="static")
train = data.train.subset(images)
vae = tfvae.VAE.for_images(
    data.image_shape, latent_dim=1, network="dense:hidden=128x64", likelihood="bernoulli", seed=0
)
vae.compile(keras.optimizers.Adam(2e-3))
held_out = data.validation.subset(500)
before = tfvae.evaluation.elbo(vae, held_out.batches(250), seed=1)
vae.fit(train.batches(128, shuffle=True), epochs=epochs, verbose=0)
after = tfvae.evaluation.elbo(vae, held_out.batches(250), seed=1)
for name, found in (("before", before), ("after", after)):
    print(f"{name} training: validation ELBO {found.elbo:.2f} ± {found.standard_error:.2f} nats")
assert after.elbo - before.elbo > 4 * np.hypot(after.standard_error, before.standard_error)

# %% [markdown]
# For each test image, $\log p(x, z)$ on a fine grid of $z$ gives $\log p(x)$, the posterior, and
# $\mathrm{KL}(q \Vert p(z \mid x))$. Half the grid's points must give the same integral. And
# $(2.16)$ must hold here too: $\log p(x)$ minus the KL is the ELBO that the library estimates.

# %%
x, labels = data.test.arrays(limit=40)
fine = np.linspace(-7, 7, 6001, dtype="float32")
given_z = vae.decode(fine[:, None])  # p(x|z) for all z of the grid
log_p_z = vae.prior.log_prob(fine[:, None]).numpy().astype("float64")
log_joints = np.stack([given_z.log_prob(image).numpy() + log_p_z for image in x])
log_qs = vae.encode(x).log_prob(fine[:, None, None]).numpy().T.astype("float64")


def log_integral(log_values, points):
    """log ∫ exp(log_values), by a sum: the ends are zero."""
    return logsumexp(log_values, axis=-1) + np.log(points[1] - points[0])


log_p = log_integral(log_joints, fine.astype("float64"))
half = log_integral(log_joints[:, ::2], fine[::2].astype("float64"))
print(f"largest change of log p(x) with half the points: {np.abs(log_p - half).max():.1e} nats")
assert np.abs(log_p - half).max() < 1e-2
gaps = trapezoid(np.exp(log_qs) * (log_qs - log_joints + log_p[:, None]), fine, axis=-1)

# %% tags=["parameters"] capped="num_samples = 100"
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
assert abs(elbos.mean() - np.mean(log_p - gaps)) < 4 * error + 1e-2
assert gaps.min() > 0
# A logarithm of a mean is too low on average, never too high.
assert weighted.log_prob < log_p.mean() + 4 * weighted.monte_carlo_error + 1e-2

# %% [markdown]
# The pictures show the posterior of some images and the encoder's $q$. The first image has the
# smallest gap of all, the last one the largest.

# %%
chosen = np.argsort(gaps)[[0, len(x) // 3, 2 * len(x) // 3, -1]]
figure, axes = plt.subplots(2, 4, figsize=(9, 3.6), layout="constrained", height_ratios=(1, 2))
for upper, lower, index in zip(*axes, chosen, strict=True):
    upper.imshow(x[index, ..., 0], cmap="gray")
    upper.set_axis_off()
    posterior, q = np.exp(log_joints[index] - log_p[index]), np.exp(log_qs[index])
    lower.fill_between(fine, posterior, color="C2", alpha=0.4, label="p(z|x)")
    lower.plot(fine, q, "C0", label="q(z|x)")
    inside = fine[np.maximum(posterior, q) > 0.01 * max(posterior.max(), q.max())]
    margin = 0.3 * (inside[-1] - inside[0])
    lower.set(xlim=(inside[0] - margin, inside[-1] + margin), xlabel="z")
    lower.set_title(f"gap {gaps[index]:.2f} nats")
axes[1, 0].set_ylabel("density")
figure.legend(*lower.get_legend_handles_labels(), loc="outside lower center", ncols=2)
plt.show()

# %% [markdown]
# Where $q$ has the posterior's place and width the gap is small. Where the posterior has another
# shape, or is not where the encoder guesses it, the gap is large: approximation and amortisation
# together. Where $q$ misses the posterior altogether, importance sampling with draws of $q$ is too
# low as well: none of them lands where $x$ is explained.
#
# ## Exercises
#
# Exercise 1 stands above, before the bound.
#
# ### Exercise 2: the best Gaussian of the linear model
#
# Find the mean and the variance of the $q$ that maximises the ELBO of the linear model at
# $x = 1.2$, by numerical optimisation with `elbo` alone. Which density is it, and how large is the
# ELBO there?

# %%
# Your answer
my_mean, my_variance = None, None


# %%
def check_best(mean, variance):
    """Check an answer: the ELBO there is log p(x)."""
    if mean is None:
        print("exercise 2: no answer yet")
        return
    at_best = elbo(x_seen, linear, log_normal(z, mean, variance))
    missing = log_evidence(x_seen, linear) - at_best
    assert missing < 1e-6, f"{missing:.6f} nats are missing"
    print("exercise 2: right")


check_best(my_mean, my_variance)

# %% [markdown]
# <details><summary>Solution</summary>
#
# It is the posterior, $N(1.2, 0.2)$: the family of Gaussians holds it, so the KL in $(2.16)$ can be
# made zero, and the ELBO there is $\log p(x) = -1.708$ nats.
#
# ```python
# fit = minimize(lambda p: -elbo(x_seen, linear, gaussian(p)), (0.0, 0.0), tol=1e-10)
# my_mean, my_variance = fit.x[0], np.exp(2 * fit.x[1])
# check_best(my_mean, my_variance)
# np.testing.assert_allclose([my_mean, my_variance], [1.2, 0.2], atol=1e-3)
# assert abs(-fit.fun - -1.708) < 0.001
# ```
# </details>
#
# ### Exercise 3: more draws, a tighter bound
#
# The bound with $K$ draws, $\mathbb{E}[\log \frac{1}{K} \sum_k p(x, z_k) / q(z_k)]$, is the ELBO
# for $K = 1$ and never falls as $K$ grows (Burda et al. 2016). Estimate it for $K = 1$ and
# $K = 10$ in the curved model with $q = N(0, 1)$, from 20,000 sets of draws.

# %%
# Your answer: two numbers, in nats.
my_one, my_ten = None, None


# %%
def check_more_draws(one, ten):
    """Check an answer, roughly: the estimates have errors."""
    if one is None:
        print("exercise 3: no answer yet")
        return
    assert abs(one - curved_elbo(x_seen, 0.0, 1.0)) < 0.3, "K = 1 should be the ELBO"
    assert one + 1 < ten < log_evidence(x_seen, curved), "K = 10 lies between ELBO and log p(x)"
    print("exercise 3: right")


check_more_draws(my_one, my_ten)

# %% [markdown]
# <details><summary>Solution</summary>
#
# With $q$ the prior, the weight is $p(x \mid z)$ alone. The ELBO is about $-3.38$ nats, ten draws
# give about $-1.80$, and $\log p(x)$ is $-1.66$. Of ten draws one is likely to hit a bump, and the
# mean inside the logarithm forgets the others.
#
# ```python
# log_weights = log_normal(x_seen, curved(rng.standard_normal((20_000, 10))), s**2)
# one, ten = log_weights[:, 0], logsumexp(log_weights, axis=1) - np.log(10)
# one_error, ten_error = (values.std(ddof=1) / np.sqrt(len(values)) for values in (one, ten))
# assert abs(one.mean() - curved_elbo(x_seen, 0.0, 1.0)) < 4 * one_error
# assert ten.mean() - one.mean() > 4 * np.hypot(one_error, ten_error)
# assert ten.mean() < log_evidence(x_seen, curved) + 4 * ten_error
# my_one, my_ten = one.mean(), ten.mean()
# check_more_draws(my_one, my_ten)
# assert abs(my_one - -3.38) < 0.2 and abs(my_ten - -1.80) < 0.05
# ```
# </details>
#
# ### Exercise 4: two gaps
#
# In the curved model at $c = 0.3$, let one encoder serve all $x$, with a mean $a x + b$ and one
# variance. Maximise its average ELBO over $a$, $b$ and the variance (start from several places).
# Split the total gap to the average $\log p(x)$ into the approximation gap, to each $x$'s best
# Gaussian, and the amortisation gap.

# %%
# Your answer: two numbers, in nats.
my_approximation, my_amortisation = None, None


# %%
def check_gaps(approximation, amortisation):
    """Check an answer."""
    if approximation is None:
        print("exercise 4: no answer yet")
        return
    gap = average(log_evidence(x_grid, curved) - best_elbo(x_grid, c))
    assert abs(approximation - gap) < 1e-3, "approximation: average of log p(x) − best_elbo"
    assert 0.3 < amortisation < 1.5, "amortisation: is it the best line? Try other starts"
    print("exercise 4: right")


check_gaps(my_approximation, my_amortisation)

# %% [markdown]
# <details><summary>Solution</summary>
#
# The approximation gap is $0.173$ nats, as printed above, and the amortisation gap $0.377$. A line
# and one variance for all $x$ cost more than the Gaussian shape does: for $x$ around the bottom of
# the curve one broad $q$ is best, for large $x$ a narrow one on either branch.
#
# ```python
# def amortised(parameters):
#     a, b, log_variance = parameters
#     return average(curved_elbo(x_grid, a * x_grid + b, np.exp(log_variance)))
#
#
# starts = [(0.5, 0.5, -1.0), (-0.5, -1.0, -1.0), (0.0, 0.0, 0.0)]
# best = max(-minimize(lambda p: -amortised(p), start).fun for start in starts)
# my_approximation = average(log_evidence(x_grid, curved) - best_elbo(x_grid, c))
# my_amortisation = average(best_elbo(x_grid, c)) - best
# total = average(log_evidence(x_grid, curved)) - best
# assert my_approximation > 0 and my_amortisation > 0
# assert abs(my_approximation + my_amortisation - total) < 1e-9
# check_gaps(my_approximation, my_amortisation)
# assert abs(my_approximation - 0.173) < 0.001 and abs(my_amortisation - 0.377) < 0.001
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
# - In the library: the model [`models/vae.py`](../tfvae/models/vae.py), the terms of the ELBO
#   [`objectives/base.py`](../tfvae/objectives/base.py), the KL
#   [`distributions/kl.py`](../tfvae/distributions/kl.py), log p(x)
#   [`evaluation/importance.py`](../tfvae/evaluation/importance.py). Next: `03_gaussian_kl`, the
#   second term in closed form.
