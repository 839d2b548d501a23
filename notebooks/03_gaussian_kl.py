# ---
# jupyter:
#   jupytext:
#     text_representation: {extension: .py, format_name: percent}
# ---

# %% [markdown]
# # 3. The KL of two Gaussians
#
# The ELBO has two terms. The second one, $\mathrm{KL}(q(z \mid x) \Vert p(z))$, is a short formula
# when both are Gaussian: no draws, no noise, exact gradients. This notebook derives it term by
# term, looks at it, and asks why the encoder puts out $\log \sigma^2$ and not $\sigma$. It ends
# with what happens when the formula is there and a factor is wrong.
#
# ## Learning goals
#
# - Derive $\frac{1}{2}(\sigma^2 + \mu^2 - 1 - \log \sigma^2)$ and say what each term does.
# - Check a closed form in three ways: a library, quadrature, and Monte Carlo within its error.
# - See why the network puts out the log-variance: sign, range, gradients, digits.
# - See by number what a doubled KL and a mean in the place of a sum do to a model.

# %%
import os

import keras
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf
from scipy.integrate import quad
from scipy.optimize import minimize
from tensorflow_probability import distributions as tfd

import tfvae

plt.rcParams["figure.dpi"] = 72
rng = np.random.default_rng(0)
keras.utils.set_random_seed(0)

# %% [markdown]
# ## The formula, term by term
#
# Let $q(z) = N(\mu, \sigma^2)$ and $p(z) = N(0, 1)$. Every step below is checked by numerical
# integration, for some values of $\mu$ and $\sigma$.
#
# **Step 1.** The logarithm of a quotient is a difference, and the mean of a difference is a
# difference of means:
#
# $$\mathrm{KL}(q \Vert p) = \mathbb{E}_{q}\left[\log \frac{q(z)}{p(z)}\right]
# = \mathbb{E}_{q}[\log q(z)] - \mathbb{E}_{q}[\log p(z)] .$$

# %%
cases = [(0.0, 1.0), (1.5, 1.0), (0.0, 0.3), (-0.7, 2.0), (2.0, 0.1)]


def log_normal(z, mean, variance):
    return -0.5 * (np.log(2 * np.pi * variance) + (z - mean) ** 2 / variance)


def expectation(function, mu, sigma):
    """E[function(z)] with z from N(mu, sigma²), by integration over eps = (z − mu)/sigma."""
    value, _ = quad(
        lambda eps: function(mu + sigma * eps) * np.exp(log_normal(eps, 0, 1)),
        -12,
        12,
        epsabs=1e-12,
    )
    return value


def kl_by_quadrature(mu, sigma, m=0.0, s=1.0):
    return expectation(lambda z: log_normal(z, mu, sigma**2) - log_normal(z, m, s**2), mu, sigma)


for mu, sigma in cases:
    first = expectation(lambda z, mu=mu, sigma=sigma: log_normal(z, mu, sigma**2), mu, sigma)
    second = expectation(lambda z: log_normal(z, 0, 1), mu, sigma)
    assert abs(kl_by_quadrature(mu, sigma) - (first - second)) < 1e-10

# %% [markdown]
# **Step 2.** In the first term, the mean of $(z - \mu)^2$ under $q$ is $\sigma^2$ by definition:
#
# $$\mathbb{E}_{q}[\log q(z)] = -\frac{1}{2} \log 2 \pi \sigma^2
# - \frac{\mathbb{E}_{q}[(z - \mu)^2]}{2 \sigma^2}
# = -\frac{1}{2} \log 2 \pi \sigma^2 - \frac{1}{2} .$$

# %%
for mu, sigma in cases:
    first = expectation(lambda z, mu=mu, sigma=sigma: log_normal(z, mu, sigma**2), mu, sigma)
    assert abs(first - (-0.5 * np.log(2 * np.pi * sigma**2) - 0.5)) < 1e-10

# %% [markdown]
# **Step 3.** In the second, $\mathbb{E}_{q}[z^2]$ is the variance plus the squared mean:
#
# $$\mathbb{E}_{q}[\log p(z)] = -\frac{1}{2} \log 2 \pi - \frac{1}{2} \mathbb{E}_{q}[z^2]
# = -\frac{1}{2} \log 2 \pi - \frac{1}{2} (\mu^2 + \sigma^2) .$$

# %%
for mu, sigma in cases:
    second = expectation(lambda z: log_normal(z, 0, 1), mu, sigma)
    assert abs(second - (-0.5 * np.log(2 * np.pi) - 0.5 * (mu**2 + sigma**2))) < 1e-10

# %% [markdown]
# **Step 4.** Subtract. The constants $\log 2 \pi$ cancel:
#
# $$\mathrm{KL}(N(\mu, \sigma^2) \Vert N(0, 1))
# = \frac{1}{2} \left(\sigma^2 + \mu^2 - 1 - \log \sigma^2\right) .$$


# %%
def gaussian_kl(mu, sigma):
    return 0.5 * (sigma**2 + mu**2 - 1 - np.log(sigma**2))


for mu, sigma in cases:
    assert abs(gaussian_kl(mu, sigma) - kl_by_quadrature(mu, sigma)) < 1e-10
assert gaussian_kl(0.0, 1.0) == 0

# %% [markdown]
# It falls apart into a part for the mean, $\frac{1}{2} \mu^2$, and one for the width,
# $\frac{1}{2}(\sigma^2 - 1 - \log \sigma^2)$. Neither is negative, since $\log t \le t - 1$. The
# first draws the mean to zero like a spring. The second wants $\sigma = 1$: on its left the
# logarithm resists narrowness, and grows without limit; on its right the square resists width.
#
# A prior with another mean $m$ and scale $s$ is nothing new. Measure $z$ in units of the prior,
# $u = (z - m) / s$: the KL does not change, as both densities get the same factor, and
# $p(u) = N(0, 1)$, $q(u) = N((\mu - m) / s, \sigma^2 / s^2)$.

# %%
for mu, sigma in cases:
    for m, s in ((0.5, 2.0), (-1.0, 0.4)):
        direct = kl_by_quadrature(mu, sigma, m, s)
        assert abs(gaussian_kl((mu - m) / s, sigma / s) - direct) < 1e-9 * (1 + direct)

# %%
figure, axes = plt.subplots(1, 2, figsize=(10, 3.4), layout="constrained")
axis_values = np.linspace(0.02, 3, 300)
axes[0].plot(axis_values, 0.5 * axis_values**2, label="mean: ½ μ², over |μ|")
axes[0].plot(axis_values, gaussian_kl(0, axis_values), label="width: ½ (σ² − 1 − log σ²), over σ")
axes[0].set(title="the two parts of the KL", xlabel="|μ| or σ", ylabel="nats", ylim=(0, 4.5))
axes[0].legend(fontsize=8)
z = np.linspace(-4, 4, 400)
axes[1].fill_between(z, np.exp(log_normal(z, 0, 1)), color="0.85", label="prior N(0, 1)")
for mu, sigma in ((1.0, 1.0), (0.0, 0.3), (-1.5, 0.5)):
    label = f"N({mu:g}, {sigma:g}²): {gaussian_kl(mu, sigma):.2f} nats"
    axes[1].plot(z, np.exp(log_normal(z, mu, sigma**2)), label=label)
axes[1].set(title="some q, and what they cost", xlabel="z", ylabel="density")
axes[1].legend(fontsize=8, loc="upper right")
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
# $$\mathrm{Var}[\log q(z) - \log p(z)] = \frac{1}{2} (\sigma^2 - 1)^2 + \mu^2 \sigma^2 .$$

# %%
K = 100_000


def log_ratio(mu, sigma, eps):
    z = mu + sigma * eps
    return log_normal(z, mu, sigma**2) - log_normal(z, 0, 1)


print("   μ    σ     formula       TFP     tfvae   quadrature   Monte Carlo")
for mu, sigma in cases:
    formula = gaussian_kl(mu, sigma)
    q, p = tfd.Normal(tf.constant(mu, tf.float64), sigma), tfd.Normal(tf.zeros((), tf.float64), 1.0)
    by_tfp = tfd.kl_divergence(q, p).numpy()
    by_tfvae = tfvae.distributions.kl.gaussian_kl(np.float64(mu), 2 * np.log(sigma)).numpy()
    sample = log_ratio(mu, sigma, rng.standard_normal(K))
    error = np.sqrt((0.5 * (sigma**2 - 1) ** 2 + mu**2 * sigma**2) / K)
    print(f"{mu:4} {sigma:4}  {formula:10.6f} {by_tfp:9.6f} {by_tfvae:9.6f}", end="  ")
    print(f"{kl_by_quadrature(mu, sigma):10.6f}   {sample.mean():.4f} ± {error:.4f}")
    np.testing.assert_allclose([by_tfp, by_tfvae], formula, rtol=1e-12, atol=1e-12)
    assert abs(sample.mean() - formula) <= 4 * error + 1e-12

# %% [markdown]
# The first row is the prior itself: there the estimate has no noise at all. Elsewhere one draw
# says little. The picture shows estimates with one, ten and a hundred draws: their mean is right,
# their width falls with the square root of the number of draws, and many are negative, which no KL
# is. Closed forms have none of this, and so the library uses them wherever there is one.

# %%
mu, sigma = -0.7, 2.0
figure, axis = plt.subplots(figsize=(7, 3.2), layout="constrained")
for draws, colour in ((1, "C0"), (10, "C1"), (100, "C2")):
    estimates = log_ratio(mu, sigma, rng.standard_normal((20_000, draws))).mean(axis=1)
    error = np.sqrt((0.5 * (sigma**2 - 1) ** 2 + mu**2 * sigma**2) / draws)
    # The standard error of a standard deviation is below std · sqrt(κ / 4n), κ the kurtosis.
    kurtosis = np.mean(((estimates - estimates.mean()) / estimates.std()) ** 4)
    assert abs(estimates.std() - error) < 4 * error * np.sqrt(kurtosis / (4 * 20_000))
    negative = np.mean(estimates < 0)
    label = f"K = {draws}: {negative:.0%} negative"
    axis.hist(
        estimates, bins=np.linspace(-2, 6, 121), density=True, alpha=0.5, color=colour, label=label
    )
axis.axvline(gaussian_kl(mu, sigma), color="k", label="closed form")
axis.set(title=f"estimates of KL(N({mu}, {sigma}²) ‖ N(0, 1))", xlabel="nats", ylabel="density")
axis.legend(fontsize=8)
plt.show()

# %% [markdown]
# ## Many dimensions: the sum
#
# With a diagonal covariance the density of a vector is a product over its $d$ coordinates, its
# logarithm is a sum, and so is the KL:
#
# $$\mathrm{KL}(N(\mu, \mathrm{diag} \sigma^2) \Vert N(0, I))
# = \frac{1}{2} \sum_{i=1}^{d} \left(\sigma_i^2 + \mu_i^2 - 1 - \log \sigma_i^2\right) .$$
#
# A sum, not a mean: two independent coordinates carry twice the information of one.
# `tfvae.distributions.kl.kl_divergence` gives one value an image, `kl_per_dimension` the summands.

# %%
B, d = 3, 5
loc = rng.normal(size=(B, d))
log_var = rng.normal(size=(B, d))
summands = gaussian_kl(loc, np.exp(0.5 * log_var))
q = tfd.Independent(tfd.Normal(loc, np.exp(0.5 * log_var)), 1)
p = tfd.Independent(tfd.Normal(np.zeros(d), 1.0), 1)
z = q.sample(2, seed=1)

np.testing.assert_allclose(
    tfvae.distributions.kl.kl_divergence(q, p, z), summands.sum(-1), rtol=1e-12
)
np.testing.assert_allclose(tfvae.distributions.kl.kl_per_dimension(q, p), summands, rtol=1e-12)
mvn = tfd.MultivariateNormalDiag
np.testing.assert_allclose(
    tfd.kl_divergence(mvn(loc, np.exp(0.5 * log_var)), mvn(np.zeros(d), np.ones(d))),
    summands.sum(-1),
    rtol=1e-12,
)
print("KL of each image, nats:", summands.sum(-1).round(4))

# %% [markdown]
# ## Its gradients
#
# Let the network put out $\mu$ and $\lambda = \log \sigma^2$. Then
# $\mathrm{KL} = \frac{1}{2}(e^{\lambda} + \mu^2 - 1 - \lambda)$, and
#
# $$\frac{\partial \mathrm{KL}}{\partial \mu} = \mu, \qquad
# \frac{\partial \mathrm{KL}}{\partial \lambda} = \frac{1}{2} (\sigma^2 - 1) .$$
#
# The gradient in $\lambda$ never falls below minus one half, however narrow $q$ is.

# %%
loc, log_var = (tf.constant(value, tf.float64) for value in (loc, log_var))
with tf.GradientTape() as tape:
    tape.watch((loc, log_var))
    total = tf.reduce_sum(tfvae.distributions.kl.gaussian_kl(loc, log_var))
by_loc, by_log_var = tape.gradient(total, (loc, log_var))
np.testing.assert_allclose(by_loc, loc, rtol=1e-12)
np.testing.assert_allclose(by_log_var, 0.5 * (np.exp(log_var) - 1), rtol=1e-12)

# %% [markdown]
# The surface, with contours in nats. The arrows follow the negative gradient: where the KL alone
# would move what the encoder puts out. All lead to the star, the prior. For small variances
# (below) the arrows all have the same length upwards; for large ones (above) they grow
# exponentially.


# %%
def draw_surface(axis, mus, log_vars):
    surface = 0.5 * (np.exp(log_vars) + mus[:, None] ** 2 - 1 - log_vars)
    levels = [0.1, 0.5, 1, 2, 3, 4, 6, 8, 11]
    drawn = axis.contour(mus, log_vars, surface.T, levels=levels, cmap="viridis_r")
    axis.clabel(drawn, fontsize=8, fmt="%g")
    axis.plot(0, 0, "C3*", ms=12)
    axis.set(xlabel="μ", ylabel="log σ²")


figure, axis = plt.subplots(figsize=(7, 4.4), layout="constrained")
draw_surface(axis, np.linspace(-4, 4, 121), np.linspace(-8, 3, 121))
at_mu, at_log_var = np.meshgrid(np.linspace(-3.6, 3.6, 9), np.linspace(-7, 2, 10))
axis.quiver(at_mu, at_log_var, -at_mu, -0.5 * (np.exp(at_log_var) - 1), color="0.5", width=0.003)
axis.set_title("KL(N(μ, σ²) ‖ N(0, 1)), nats, and where it pulls")
plt.show()

# %% [markdown]
# ## Why the log-variance?
#
# A network's last layer puts out any real number $r$, and a standard deviation is positive. Four
# ways are in use:
#
# | parametrisation | $\sigma$ | $\partial \mathrm{KL} / \partial r$ |
# | --- | --- | --- |
# | raw | $r$ | $\sigma - 1 / \sigma$ |
# | softplus | $\log(1 + e^{r})$ | $(\sigma - 1 / \sigma) (1 - e^{-\sigma})$ |
# | log-scale | $e^{r}$ | $\sigma^2 - 1$ |
# | log-variance | $e^{r / 2}$ | $\frac{1}{2} (\sigma^2 - 1)$ |
#
# The last column is the chain rule, $(\sigma - 1 / \sigma) d\sigma / dr$.

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
for name, (scale, inverse) in scales.items():
    r = tf.constant(inverse(sigmas))
    with tf.GradientTape() as tape:
        tape.watch(r)
        sigma = scale(r)
        total = tf.reduce_sum(0.5 * (sigma**2 - 1) - tf.math.log(sigma))
    np.testing.assert_allclose(tape.gradient(total, r), slopes[name](sigmas), rtol=1e-9)

# %% [markdown]
# **A negative sigma.** Let a decoder want small scales: the loss is the KL plus
# $\frac{1}{2} a \sigma^2$, whose minimum is known, $\sigma^2 = 1 / (1 + a)$. Gradient descent
# starts at $\sigma = 1$, in each parametrisation with the same step size. The first raw step leads
# below zero, where the loss has no value.

# %%
a, rate, steps = 100.0, 0.02, 400
best = 1 / np.sqrt(1 + a)
figure, axes = plt.subplots(1, 2, figsize=(11, 3.6), layout="constrained")
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
axes[0].legend(fontsize=8)

wide = np.geomspace(1e-6, 1e3, 300)
for name, slope in slopes.items():
    axes[1].plot(wide, np.abs(slope(wide)), "--" if name == "softplus" else "-", label=name)
axes[1].set(xscale="log", yscale="log", xlabel="σ", ylabel="|∂KL/∂r|", ylim=(1e-3, 1e7))
axes[1].set_title("size of the KL's gradient")
axes[1].legend(fontsize=8, loc="upper center")
plt.show()

# %% [markdown]
# On the right: for a narrow $q$ the raw gradient explodes like $1 / \sigma$. The other three are
# bounded there, by one or by one half. For a wide $q$ the softplus is the tamest, and the two
# exponentials grow like $\sigma^2$. In a VAE the narrow side is where the encoders are, as the
# decoder wants precise codes, and the log-variance's gradient there is close to a constant.
#
# **Range.** In float32, $e^{\lambda}$ is infinite above 88.7 and zero below about -104. A formula
# that goes through $\sigma$ and takes its logarithm again loses $\lambda$ on the way. One that
# keeps $\lambda$ needs no logarithm.


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


print(f"88.7 and -104: {np.log(np.finfo(np.float32).max):.1f}, ", end="")
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
# The upper end remains: a variance of $e^{90}$ is infinite in any form. But the gradient on the
# way there is gigantic and pushes back. At the lower end it is one half at most, and an encoder
# can drift there.
#
# **Digits.** Near the prior the KL is small:
# $\frac{1}{2} (e^{\lambda} - 1 - \lambda) \approx \frac{1}{4} \lambda^2$, the difference of
# numbers near one. Each form loses digits in its own way. The reference is the power series, in
# float64.

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
figure, axis = plt.subplots(figsize=(7, 3.4), layout="constrained")
for name, values in forms.items():
    assert values.dtype == np.float32
    relative = np.abs(0.5 * values.astype(np.float64) - exact) / exact
    axis.plot(offsets, np.maximum(relative, 1e-9), ".", ms=3, label=name)
    print(
        f"{name:16}: median relative error below 0.001: {np.median(relative[offsets < 1e-3]):.1e}"
    )
axis.set(xscale="log", yscale="log", xlabel="log σ²", ylabel="relative error of the KL")
axis.set_title("float32, near the prior")
axis.legend(fontsize=8)
plt.show()
# Error of expm1(λ) − λ: two roundings of numbers of size λ, over λ²/2.
careful = tfvae.distributions.kl.gaussian_kl(np.zeros_like(offsets), offsets).numpy()
eps = np.finfo(np.float32).eps
assert np.all(np.abs(careful - exact) <= 4 * eps * offsets)

# %% [markdown]
# The middle one is wrong by more than the whole where $\lambda$ is small, and can come out
# negative: $e^{\lambda}$ has been rounded next to one, and the $\lambda$ that is subtracted has
# not. The first one takes the logarithm of the rounded number, so that both parts have the same
# rounding; it is good here, and it was the one that failed at the ends of the range. The last is
# good in both places, and is what `tfvae.distributions.kl.gaussian_kl` computes. It matters little
# for the loss, and much for the question whether a latent dimension is used at all.
#
# ## In the model
#
# The default posterior, `tfvae.posteriors.DiagonalNormal`, makes $q(z \mid x)$ from $\mu$ and
# $\log \sigma^2$ and keeps the latter. Its KL to the standard normal prior is the formula above.
# We train a small VAE on digits and look at what its encoder puts out. The variable `TFVAE_MNIST`
# may name a folder of MNIST's IDX files, or be `mnist` to download it; without it the small digits
# that come with scikit-learn are used.

# %% tags=["parameters"] capped="epochs = 2"
epochs = 40

# %%
data = tfvae.datasets.load(os.environ.get("TFVAE_MNIST", "digits"), binarize="static")
train = data.train.subset(min(len(data.train), 6000))
vae = tfvae.VAE.for_images(data.image_shape, latent_dim=8, network="dense:hidden=128x64", seed=0)
vae.compile(keras.optimizers.Adam(2e-3))
vae.fit(train.batches(128, shuffle=True), epochs=epochs, verbose=0)

x, labels = data.test.arrays(limit=200)
parameters = vae.posterior_parameters(x)
loc, log_var = (parameters[name].numpy().astype(np.float64) for name in ("loc", "log_var"))
by_hand = gaussian_kl(loc, np.exp(0.5 * log_var))
found = vae.elbo(x, seed=1)
assert vae.kl_is_exact
np.testing.assert_allclose(found.kl, by_hand.sum(-1), rtol=1e-5, atol=1e-5)
per_dimension = tfvae.distributions.kl.kl_per_dimension(vae.encode(x), vae.prior)
np.testing.assert_allclose(per_dimension, by_hand, rtol=1e-4, atol=1e-5)
# The KL has no noise: another draw of z changes the likelihood only.
other = vae.elbo(x, seed=2)
assert np.all(other.kl == found.kl) and np.any(other.log_likelihood != found.log_likelihood)
print("KL of each dimension, mean over images, nats:", by_hand.mean(0).round(3))

# %% [markdown]
# Each dot is one image and one latent dimension; colours are dimensions. Training has moved the
# dots against the arrows of the KL, to where the decoder wants them: narrow, and spread out in
# $\mu$ so that images can be told apart. Dots at the star say nothing of their image.

# %%
figure, axis = plt.subplots(figsize=(7, 4.2), layout="constrained")
lowest = min(-1.0, log_var.min() - 0.5)
widest = max(3.0, np.abs(loc).max() + 0.3)
draw_surface(axis, np.linspace(-widest, widest, 121), np.linspace(lowest, 1, 121))
for dimension in range(loc.shape[1]):
    axis.plot(loc[:, dimension], log_var[:, dimension], ".", ms=2, color=f"C{dimension}")
axis.set_title("what the encoder puts out, over contours of the KL (nats)")
plt.show()

# %% [markdown]
# ## Two mistakes, by number
#
# Code for VAEs goes wrong at this term more than anywhere else, and quietly: the loss still falls.
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

# %% [markdown]
# What does a model learn under a wrong $\beta$? For a linear decoder,
# $x = W z + b + s \varepsilon$, the answer is exact. Take one direction in which the data have the
# variance $\ell$, a decoder with the slope $w$ and an encoder $q(z \mid x) = N(a x, v)$. The mean
# loss over the data, up to a constant, is
#
# $$\frac{\ell (1 - w a)^2 + w^2 v}{2 s^2}
# + \frac{\beta}{2} \left(v + a^2 \ell - 1 - \log v\right) .$$
#
# Divided by $\beta$, it is the loss at $\beta = 1$ of a model with the noise variance $\beta s^2$.
# Its minimum is therefore that of probabilistic PCA (notebook 2) with that noise:
#
# $$w^2 = \max(\ell - \beta s^2, 0), \qquad \mathrm{KL} = \frac{1}{2} \log \frac{\ell}{\beta s^2}
# \quad \text{if } \ell > \beta s^2, \text{ else } 0 .$$


# %%
def linear_loss(parameters, ell, s2, beta):
    w, a, log_v = parameters
    v = np.exp(log_v)
    misfit = (ell * (1 - w * a) ** 2 + w**2 * v) / (2 * s2)
    return misfit + 0.5 * beta * (v + a**2 * ell - 1 - log_v)


for ell, s2, beta in ((2.0, 0.3, 1.0), (2.0, 0.3, 2.0), (2.0, 0.3, 0.2), (2.0, 0.3, 8.0)):
    fit = minimize(linear_loss, (1.0, 0.3, -0.5), args=(ell, s2, beta), tol=1e-12)
    w, a, log_v = fit.x
    kl = 0.5 * (np.exp(log_v) + a**2 * ell - 1 - log_v)
    used = max(ell - beta * s2, 0)
    np.testing.assert_allclose(
        (w**2, kl), (used, 0.5 * np.log(ell / (ell - used)) if used else 0), atol=1e-4
    )
    print(f"β = {beta}: w² = {w**2:.4f}, KL = {kl:.4f} nats")

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
weights = {
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
for name, beta in weights.items():
    results[name] = linear_vae(beta)
    print("{:49} {:2d}/{}  {:9.2f}  {:13.4f}".format(name, results[name][0], d, *results[name][1:]))
best = max(results, key=lambda name: results[name][2])
assert best == "as derived, β = 1"
kls = [kl for _, kl, _ in results.values()]
assert kls == sorted(kls, reverse=True)

# %%
figure, axis = plt.subplots(figsize=(8, 3.8), layout="constrained")
axis.bar(np.arange(1, 25), eigenvalues[:24], color=np.where(np.arange(24) < d, "C0", "0.8"))
for number, (name, beta) in enumerate(weights.items()):
    axis.axhline(beta * s2, color=f"C{number + 1}", label=name, lw=1.3)
axis.set(yscale="log", xlabel="principal direction", ylabel="variance of the data")
axis.set_title("a dimension is used if its variance is above the line, β s²")
axis.legend(fontsize=8, loc="upper right")
axis.set_ylim(top=max(D * s2, eigenvalues[0]) * 60)
plt.show()

# %% [markdown]
# Blue bars are the directions that $d$ latent dimensions could take; a line above a bar drops it.
# Averaging the likelihood over the pixels lifts the line by the number of pixels, and nothing is
# left: the posterior has collapsed onto the prior. The doubled KL is the insidious one. Where a
# bar is far above the noise, $\log p(x)$ hardly falls, only the codes know less of their images,
# and nobody notices. Too small a $\beta$ is no better: it pays for codes more precise than the
# noise allows, and $\log p(x)$ falls as well.
#
# ## Exercises
#
# **1.** With full covariances the KL is
# $\frac{1}{2} [\mathrm{tr} \Sigma + \mu^\top \mu - d - \log \det \Sigma]$ to the standard normal
# prior. Check it against `tfd.MultivariateNormalTriL`, and find the part that a diagonal $q$ with
# the same variances does not pay.
#
# <details><summary>Solution</summary>
#
# ```python
# factor = np.tril(rng.normal(size=(3, 3)) * 0.4) + np.eye(3)
# mean, cov = np.array([0.5, -1.0, 0.2]), factor @ factor.T
# by_formula = 0.5 * (np.trace(cov) + mean @ mean - 3 - np.linalg.slogdet(cov)[1])
# full = tfd.MultivariateNormalTriL(mean, np.linalg.cholesky(cov))
# prior = tfd.MultivariateNormalTriL(np.zeros(3), np.eye(3))
# np.testing.assert_allclose(tfd.kl_divergence(full, prior), by_formula, rtol=1e-10)
# diagonal = gaussian_kl(mean, np.sqrt(np.diag(cov))).sum()
# # What is left is the information that the coordinates have of each other.
# shared = 0.5 * (np.log(np.diag(cov)).sum() - np.linalg.slogdet(cov)[1])
# np.testing.assert_allclose(by_formula - diagonal, shared, rtol=1e-10)
# assert shared > 0
# ```
# </details>
#
# **2.** Derive the KL the other way round, $\mathrm{KL}(N(0, 1) \Vert N(\mu, \sigma^2))$, check it
# by quadrature, and compare its gradient in $\log \sigma^2$ with $\frac{1}{2} (\sigma^2 - 1)$ for
# a narrow $q$.
#
# <details><summary>Solution</summary>
#
# ```python
# # Measure in units of q: the prior is N(−mu/sigma, 1/sigma²) there.
# def other_way(mu, sigma):
#     return 0.5 * ((1 + mu**2) / sigma**2 - 1 + np.log(sigma**2))
#
#
# for mu, sigma in cases:
#     assert abs(other_way(mu, sigma) - kl_by_quadrature(0.0, 1.0, mu, sigma)) < 1e-8
# step = 1e-5
# at = 2 * np.log(0.1)
# above, below = (other_way(0, np.exp((at + by) / 2)) for by in (step, -step))
# slope = (above - below) / (2 * step)
# np.testing.assert_allclose(slope, 0.5 * (1 - 1 / 0.1**2), rtol=1e-6)
# assert abs(slope) > 49  # that of the VAE's KL is never below −½
# ```
# </details>
#
# **3.** If $\sigma$ is held at one, the KL is $\frac{1}{2} \Vert \mu \Vert^2$: the penalty on the
# codes of an autoencoder. With which $\sigma$ does $q$ pay the least at a given $\mu$, and how
# much of the KL of the trained model above is due to the means?
#
# <details><summary>Solution</summary>
#
# ```python
# from_means = 0.5 * np.sum(loc**2, axis=-1)
# from_widths = by_hand.sum(-1) - from_means
# assert np.all(from_widths >= -1e-9)
# grid = np.linspace(0.5, 2, 151)
# assert abs(grid[np.argmin(gaussian_kl(1.3, grid))] - 1) < 1e-9
# assert 0 < from_means.mean() / by_hand.sum(-1).mean() < 1
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
# - In the library: the KL [`divergences.py`](../tfvae/distributions/kl.py), Gaussians that keep
#   their
#   log-variance [`gaussian.py`](../tfvae/distributions/normal.py), the posterior
#   [`posteriors.py`](../tfvae/posteriors.py), and the objective
#   [`objectives/elbo.py`](../tfvae/objectives/elbo.py).
