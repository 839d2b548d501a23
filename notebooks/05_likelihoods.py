# ---
# jupyter:
#   jupytext:
#     text_representation: {extension: .py, format_name: percent}
# ---

# %% [markdown]
# # 5. Likelihoods
#
# The decoder of a VAE puts out a distribution $p(x|z)$, and training maximises its logarithm. MSE,
# L1 and BCE are such logarithms, with parts left out. What is left out is not harmless: it decides
# how much the KL weighs, which numbers may be compared, and what samples look like. This notebook
# starts at maximum likelihood, finds the usual losses in it one by one, and then trains the same
# small VAE with one likelihood after another.
#
# ## Learning goals
#
# - derive MSE, L1 and BCE as negative log-likelihoods, with their full constants;
# - say what a noise scale does: nothing to a regression's line, nearly everything to a VAE;
# - let a model find its own noise scale, by gradient and in closed form;
# - know what cross-entropy of grey values is not, and what the continuous Bernoulli mends;
# - tell densities from probabilities, and compare only what may be compared.

# %%
import math
import os

import keras
import matplotlib.pyplot as plt
import numpy as np
import scipy.optimize
import tensorflow as tf

import tfvae

keras.utils.set_random_seed(0)
plt.rcParams["figure.dpi"] = 70
rng = np.random.default_rng(0)

# %% [markdown]
# ## 1. Maximum likelihood
#
# Independent values $x_1, \dots, x_N$ have under a model $p_\theta$ the log-likelihood
# $\sum_n \log p_\theta(x_n)$. **Maximum likelihood** takes the $\theta$ where it is largest.
#
# A coin that shows heads with probability $\theta$, thrown $n$ times with $k$ heads, has
#
# $$\log p_\theta(\text{throws}) = k \log\theta + (n - k)\log(1 - \theta).$$
#
# The derivative $k/\theta - (n - k)/(1 - \theta)$ is zero at $\hat\theta = k/n$.

# %%
throws = rng.random(200) < 0.3
k, n = throws.sum(), throws.size
theta = np.linspace(0.02, 0.98, 97)
log_likelihood = k * np.log(theta) + (n - k) * np.log1p(-theta)

# The function is concave: its best grid point is a neighbour of the true maximum.
assert abs(theta[log_likelihood.argmax()] - k / n) <= theta[1] - theta[0]

# %% [markdown]
# Divided by $-n$, the log-likelihood splits in two. With the observed frequency $f = k/n$,
#
# $$-\frac1n \log p_\theta =
# \underbrace{-f\log f - (1 - f)\log(1 - f)}_{\text{entropy of the data}} +
# \underbrace{f\log\frac{f}{\theta} + (1 - f)\log\frac{1 - f}{1 - \theta}}_{\mathrm{KL}}.$$
#
# So maximum likelihood makes the KL from the data to the model small. The entropy is a floor
# that no model can go below.

# %%
f = k / n
entropy = -f * np.log(f) - (1 - f) * np.log(1 - f)
kl = f * np.log(f / theta) + (1 - f) * np.log((1 - f) / (1 - theta))
np.testing.assert_allclose(-log_likelihood / n, entropy + kl, rtol=1e-12)

# %%
figure, axes = plt.subplots(figsize=(5.5, 3.2), layout="constrained")
axes.plot(theta, -log_likelihood / n, label="−log p / n")
axes.axhline(entropy, color="C1", ls="--", label="entropy of the data")
axes.fill_between(theta, entropy, -log_likelihood / n, color="C0", alpha=0.15, label="KL")
axes.plot(f, entropy, "o", color="C3", label="θ = k/n")
axes.set(xlabel="θ", ylabel="nats per throw", ylim=(0.5, 1.5), title="Maximum likelihood of a coin")
axes.legend()
plt.show()

# %% [markdown]
# ## 2. Linear regression: MSE is a Normal
#
# Say that $y_n$ is a line plus noise, $y_n = w^\top x_n + \varepsilon_n$ with
# $\varepsilon_n \sim N(0, \sigma^2)$. Then
#
# $$-\log p(y_n) = \frac{(y_n - w^\top x_n)^2}{2\sigma^2} + \frac12 \log 2\pi\sigma^2 .$$

# %%
N = 60
x = rng.uniform(-1, 1, N)
X = np.stack([x, np.ones(N)], axis=1)  # a column of ones: the intercept is a weight too
true_w, true_sigma = np.array([1.5, 0.5]), 0.4
y = X @ true_w + true_sigma * rng.standard_normal(N)


def normal_nll(w, log_sigma):
    """Give −log p(y), nats."""
    squared = (y - X @ w) ** 2
    return np.sum(squared / (2 * np.exp(2 * log_sigma)) + log_sigma + 0.5 * np.log(2 * np.pi))


# %% [markdown]
# The gradient by $w$ is $-X^\top (y - Xw)/\sigma^2$. It is zero where $X^\top(y - Xw) = 0$, and
# these are the equations of least squares: $\sigma$ has dropped out. The derivative by $\sigma$,
# $N/\sigma - \sum_n r_n^2/\sigma^3$ with residuals $r_n$, is zero at
#
# $$\hat\sigma = \sqrt{\tfrac1N \textstyle\sum_n r_n^2},$$
#
# the root mean square (RMS) of the residuals. An optimiser that knows neither fact finds both.

# %%
least_squares = np.linalg.lstsq(X, y, rcond=None)[0]
residuals = y - X @ least_squares
rms = np.sqrt(np.mean(residuals**2))
np.testing.assert_allclose(X.T @ residuals, 0, atol=1e-10)

found = scipy.optimize.minimize(lambda v: normal_nll(v[:2], v[2]), np.zeros(3), tol=1e-8).x
print("least squares      w =", least_squares.round(5), " RMS residual =", rms.round(5))
print("maximum likelihood w =", found[:2].round(5), " σ            =", np.exp(found[2]).round(5))
# The optimiser takes differences for derivatives, which leaves it some 1e-6 from the optimum.
np.testing.assert_allclose(found[:2], least_squares, atol=1e-4)
np.testing.assert_allclose(np.exp(found[2]), rms, atol=1e-4)


# %%
def mark(axes, values):
    """Label a logarithmic x axis at some values alone."""
    axes.set_xscale("log")
    axes.set_xticks(values, [f"{value:g}" for value in values])
    axes.minorticks_off()


figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
line = np.array([[-1, 1], [1, 1]]).T
left.vlines(x, X @ least_squares, y, color="0.7", lw=1, label="residuals")
left.plot(x, y, ".", label="data")
middle = line @ least_squares
left.plot(line[:, 0], middle, color="C3", label="least squares")
left.fill_between(line[:, 0], middle - 2 * rms, middle + 2 * rms, color="C3", alpha=0.1)
left.set(xlabel="x", ylabel="y", title="A line, and ± 2σ̂ around it")
left.legend()
sigmas = np.geomspace(0.15, 2, 100)
right.plot(sigmas, [normal_nll(least_squares, np.log(s)) for s in sigmas])
right.axvline(rms, color="C3", ls="--", label="RMS residual")
mark(right, [0.2, 0.5, 1, 2])
right.set(xlabel="σ", ylabel="−log p(y), nats", title="The best σ")
right.legend()
plt.show()

# %% [markdown]
# Remember two things. For the *line* any $\sigma$ will do: MSE alone finds it. And too small a
# $\sigma$ costs far more than one as much too large: on the left of the right-hand picture the
# curve is steep.
#
# ## 3. L1 is a Laplace
#
# The Laplace density $\frac{1}{2b}\exp(-|r|/b)$ gives
#
# $$-\log p(r) = \frac{|r|}{b} + \log 2b .$$
#
# Its tails are heavier than a Normal's: a residual of ten scales costs 10 nats, not 50. For
# numbers that scatter around one location $m$, the sum of squares is smallest at the mean. The
# sum of absolute values has the derivative $-\sum_n \mathrm{sign}(x_n - m)$, and that is zero where
# as many values lie above as below: at the **median**.

# %%
values = np.concatenate([rng.standard_normal(25), [9.0, 10.0]])  # two outliers
m = np.linspace(-2, 4, 601)
squares = np.sum((values - m[:, None]) ** 2, axis=1)
absolutes = np.sum(np.abs(values - m[:, None]), axis=1)

# Both are convex: the best grid point is a neighbour of the true minimum.
assert abs(m[squares.argmin()] - values.mean()) <= 0.01
assert abs(m[absolutes.argmin()] - np.median(values)) <= 0.01
print(f"with outliers: mean {values.mean():.2f}, median {np.median(values):.2f}")
print(f"without:       mean {values[:25].mean():.2f}, median {np.median(values[:25]):.2f}")

# %% [markdown]
# The same happens to a regression. Six points get a wrong $y$; the line of least squares follows
# them, the line of least absolute values hardly moves.

# %%
wrong = np.argsort(x)[-6:]
y_outliers = y.copy()
y_outliers[wrong] -= 4

by_squares = np.linalg.lstsq(X, y_outliers, rcond=None)[0]
by_absolutes = scipy.optimize.minimize(
    lambda w: np.sum(np.abs(y_outliers - X @ w)), by_squares, method="Nelder-Mead", tol=1e-8
).x
print("true slope 1.5; Normal", by_squares[0].round(2), "; Laplace", by_absolutes[0].round(2))
assert abs(by_absolutes[0] - true_w[0]) < abs(by_squares[0] - true_w[0])

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
left.plot(m, squares / squares.min(), label="Σ (x − m)², least at the mean")
left.plot(m, absolutes / absolutes.min(), label="Σ |x − m|, least at the median")
left.axvline(values.mean(), color="C0", ls=":")
left.axvline(np.median(values), color="C1", ls=":")
left.plot(values[:25], np.full(25, 0.93), "|", color="k")
left.set(xlabel="m (ticks: the data, but for two at 9 and 10)", ylabel="over its minimum")
left.set(ylim=(0.9, 2), title="A location")
left.legend()
right.plot(x, y_outliers, ".", color="0.6")
right.plot(x[wrong], y_outliers[wrong], "x", color="C3", label="outliers")
right.plot(line[:, 0], line @ true_w, color="k", ls=":", label="truth")
right.plot(line[:, 0], line @ by_squares, label="Normal (MSE)")
right.plot(line[:, 0], line @ by_absolutes, label="Laplace (L1)")
right.set(xlabel="x", ylabel="y", title="A line")
right.legend()
plt.show()

# %% [markdown]
# ## 4. The same in the decoder of a VAE
#
# A decoder gives each pixel's distribution, and given $z$ pixels are independent: their
# log-densities add up. `tfvae.likelihoods` has them with all their constants. Per value,
#
# | likelihood | $-\log p(x\mid z)$ |
# | --- | --- |
# | Normal | $(x - \mu)^2/2\sigma^2 + \frac12\log 2\pi\sigma^2$ |
# | Laplace | $\lvert x - \mu\rvert/b + \log 2b$ |
# | Bernoulli | $-x\log p - (1 - x)\log(1 - p)$, the binary cross-entropy (BCE) |
#
# The images are the 8 x 8 digits that come with scikit-learn. The environment variable
# `TFVAE_MNIST` may name a folder with MNIST's four IDX files, or be `mnist` to download them; the
# notebook then takes those.

# %%
source = os.environ.get("TFVAE_MNIST", "digits")
data = tfvae.datasets.load(source)
x, _ = data.test.arrays(limit=8)
D = x[0].size  # values of an image
mu = np.clip(x + 0.1 * rng.standard_normal(x.shape), 0.01, 0.99).astype("float32")
print(f"images {data.image_shape}, D = {D} values")


def summed(per_value):
    """Sum over height, width and channels."""
    return np.sum(per_value, axis=(1, 2, 3))


sigma = b = 0.3
normal = tfvae.likelihoods.Normal(scale=sigma).distribution({"loc": mu})
laplace = tfvae.likelihoods.Laplace(scale=b).distribution({"loc": mu})
full_mse = summed((x - mu) ** 2 / (2 * sigma**2) + 0.5 * np.log(2 * np.pi * sigma**2))
full_l1 = summed(np.abs(x - mu) / b + np.log(2 * b))
# Sums of D float32 numbers agree to a few digits less than float32 has.
np.testing.assert_allclose(-normal.log_prob(x), full_mse, rtol=1e-4, atol=1e-3)
np.testing.assert_allclose(-laplace.log_prob(x), full_l1, rtol=1e-4, atol=1e-3)

# %% [markdown]
# The Bernoulli takes logits; Keras' cross-entropy takes probabilities. Keras *averages* over the
# last axis, a log-likelihood *sums*: the factor is the number of values, and it is the commonest
# mistake in VAE code. What it does to the model is exercise 1.

# %%
bits = (x > 0.5).astype("float32")
bernoulli = tfvae.likelihoods.Bernoulli().distribution({"logits": np.log(mu / (1 - mu))})
cross_entropy = keras.losses.binary_crossentropy(bits, mu)  # a mean over the channels
full_bce = np.sum(cross_entropy, axis=(1, 2)) * x.shape[-1]
np.testing.assert_allclose(-bernoulli.log_prob(bits), full_bce, rtol=1e-4)
print("−log p of the first image, nats:")
print(
    f"Normal {full_mse[0]:.2f}, Laplace {full_l1[0]:.2f}, Bernoulli of its bits {full_bce[0]:.2f}"
)

# %% [markdown]
# ## 5. The noise scale is the weight of the KL
#
# With a Normal of fixed $\sigma$ the negative ELBO of an image is
#
# $$-\mathrm{ELBO}_\sigma = \frac{1}{2\sigma^2} E_q\Vert x - \mu(z)\Vert^2 +
# \frac D2\log 2\pi\sigma^2 + \mathrm{KL}.$$
#
# Take the constant away and multiply by $\sigma^2$, which moves no minimum:
#
# $$\tfrac12 E_q\Vert x - \mu(z)\Vert^2 + \sigma^2 \mathrm{KL}.$$
#
# So $\sigma^2$ **is** the $\beta$ of a β-VAE. For a line any $\sigma$ would do; here the noise
# scale is the exchange rate between reconstruction and KL. The check is on a model that has not
# been trained, as the identity asks nothing of the weights.

# %% tags=["parameters"] capped="steps, scales = 40, [0.1, 3.0]"
steps, scales = 700, [0.03, 0.1, 0.3, 1.0, 3.0]

# %%
train, test = data.train.subset(8000), data.test.subset(500)
batches = tfvae.datasets.Batches(train, 128, shuffle=True)


def untrained(likelihood):
    """The same networks from the same seed, with another p(x|z)."""
    return tfvae.VAE.for_images(
        data.image_shape,
        network="dense:hidden=256x128",
        latent_dim=8,
        likelihood=likelihood,
        seed=0,
    )


vae = untrained(tfvae.likelihoods.Normal(scale=sigma))
elbo, _, kl = vae.elbo(x, seed=0)
half_squares = summed((x - vae.terms(x, seed=0).likelihood.mean()[0]) ** 2) / 2
without_constant = -elbo - D / 2 * np.log(2 * np.pi * sigma**2)
np.testing.assert_allclose(
    sigma**2 * without_constant, half_squares + sigma**2 * kl, rtol=1e-4, atol=1e-3
)

# %% [markdown]
# Now train one model for each $\sigma$, with all else equal. The *rate* is the mean KL; the RMS
# error of reconstructions is a distortion that does not depend on $\sigma$ itself. Errors are
# standard errors over the test images.


# %%
def trained(likelihood, source=batches, callbacks=()):
    """Train for some hundred steps."""
    vae = untrained(likelihood)
    vae.compile(keras.optimizers.Adam(2e-3))
    epochs = math.ceil(steps / len(source))
    tfvae.training.train(vae, source, epochs=epochs, callbacks=callbacks, progress=False)
    return vae


def mean_and_error(values):
    """Give the mean over images and its standard error."""
    return np.mean(values), np.std(values, ddof=1) / math.sqrt(len(values))


def measured(vae, images=test):
    """Give the terms of the ELBO and the RMS error, each with its standard error."""
    found = tfvae.evaluation.log_prob(vae, images.batches(250), num_samples=16)
    x, _ = images.arrays()
    mean, error = mean_and_error(np.mean((vae.reconstruct(x) - x) ** 2, axis=(1, 2, 3)))
    return {
        "elbo": mean_and_error(found.log_likelihoods - found.kls),
        "rate": mean_and_error(found.kls),
        "rms": (math.sqrt(mean), error / (2 * math.sqrt(mean))),  # the error by the delta method
        "bits": found.bits_per_dimension,
        "measure": found.measure,
    }


def shown(pair, digits=2):
    """Write a mean and its error."""
    return f"{pair[0]:.{digits}f} ± {pair[1]:.{digits}f}"


# %%
by_scale = {s: trained(f"normal:scale={s}") for s in scales}
figures = {s: measured(vae) for s, vae in by_scale.items()}
print(f"{'σ':>6}{'ELBO, nats':>22}{'rate, nats':>18}{'RMS error':>20}")
for s, found in figures.items():
    cells = shown(found["elbo"], 1), shown(found["rate"]), shown(found["rms"], 4)
    print(f"{s:>6}{cells[0]:>22}{cells[1]:>18}{cells[2]:>20}")

rate, rate_error = np.array([figures[s]["rate"] for s in scales]).T
# A larger σ buys fewer nats: between the ends of this range the difference is no accident.
assert rate[0] - rate[-1] > 5 * math.hypot(rate_error[0], rate_error[-1])

# %%
figure, axes = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
for panel, name, title in zip(axes, ("rate", "rms"), ("rate", "RMS error"), strict=True):
    mean, error = np.array([figures[s][name] for s in scales]).T
    panel.errorbar(scales, mean, 2 * error, marker="o", capsize=3)
    mark(panel, scales)
    panel.set(xlabel="σ", title=title)
    panel.grid(alpha=0.3)
axes[0].set_ylabel("nats an image")
axes[1].set_ylabel("units of the pixels")
plt.show()

# %% [markdown]
# Reconstructions first: originals in the top row, then one row for each $\sigma$. Coming up from
# below, they get better as $\sigma$ falls, until the networks and this short training have no more
# to give; from there on a smaller $\sigma$ buys rate and nothing else. The largest $\sigma$ has
# **collapsed**: its rate is about zero, and every image comes back as the same mean image. No error
# was made in training. For so large a noise scale, saying anything about $x$ costs more KL than it
# saves.

# %%
few, _ = test.arrays(limit=8)
labels = [f"σ = {s}" for s in scales]
rows = [few, *(vae.reconstruct(few) for vae in by_scale.values())]
tfvae.plotting.image_rows(rows, ["original", *labels])

# %% [markdown]
# Now samples: $z$ from the prior, and the mean of $p(x|z)$. At small $\sigma$ the KL weighs too
# little to make the codes fill the prior; a draw from the prior meets holes, where the decoder has
# learnt nothing, and puts out broken strokes and specks. The larger $\sigma$, the cleaner and the
# blurrier. At the largest all samples are that mean image.

# %%
tfvae.plotting.image_rows([vae.sample(8, seed=1) for vae in by_scale.values()], labels)

# %% [markdown]
# ## 6. Let the model find σ
#
# $\sigma$ is a parameter of $p(x|z)$ like any other, and the constant $\frac D2\log 2\pi\sigma^2$
# keeps it from growing. Two ways:
#
# - **learned**: one more weight, trained by gradient (`normal:scale=learned`);
# - **optimal**, the σ-VAE: as in section 2 the best $\sigma^2$ has a closed form, the mean squared
#   error of the batch (`normal:scale=optimal`). Put it in, and a batch's reconstruction term is
#   $D \log\hat\sigma$ plus a constant.
#
# The picture follows $\sigma$ through the training.


# %%
class Follower(keras.callbacks.Callback):
    """Notes σ, the standard deviation of p(x|z), after each epoch."""

    def __init__(self):
        super().__init__()
        self.path = [1.0]

    def on_epoch_end(self, epoch, logs=None):
        """Note it."""
        pixels = self.model.decode(tf.zeros((1, self.model.latent_dim))).stddev()
        self.path.append(float(tf.reduce_mean(pixels)))


followers = {name: Follower() for name in ("learned", "optimal")}
by_data = {
    name: trained(f"normal:scale={name}", callbacks=[follower])
    for name, follower in followers.items()
}
figures |= {name: measured(vae) for name, vae in by_data.items()}
for name in by_data:
    found = figures[name]
    print(f"{name:>8}: σ {followers[name].path[-1]:.3f}, ELBO {shown(found['elbo'], 1)} nats,")
    print(f"{'':>10}rate {shown(found['rate'])} nats, RMS error {shown(found['rms'], 4)}")

# %% [markdown]
# Is the optimal $\sigma$ optimal? Keep the networks, and move $\sigma$ alone: the ELBO as a
# function of $\sigma$ has its maximum at the RMS residual $\sqrt{E_q\Vert x - \mu(z)\Vert^2 / D}$,
# by the very derivation of section 2.

# %%
vae = by_data["optimal"]
x, _ = test.arrays()
kl = np.mean(vae.elbo(x, seed=0).kl)
z = vae.encode(x).sample(4, seed=0)
squared_error = np.mean((vae.decode(z).mean() - x) ** 2)  # over draws, images and pixels
best = math.sqrt(squared_error)


def elbo_at(sigma):
    """The mean ELBO with the same networks and draws, and another σ."""
    return -D * (squared_error / (2 * sigma**2) + 0.5 * np.log(2 * np.pi * sigma**2)) - kl


sigmas = np.geomspace(0.05, 4, 400)
assert np.all(elbo_at(best) >= elbo_at(sigmas))
# A model that found its σ is far better, as a density, than the same with a σ far off.
gain = figures["optimal"]["elbo"][0] - figures[scales[-1]]["elbo"][0]
assert gain > 5 * math.hypot(figures["optimal"]["elbo"][1], figures[scales[-1]]["elbo"][1])

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 3.5), layout="constrained")
for name, follower in followers.items():
    left.plot(np.arange(len(follower.path)) * len(batches), follower.path, ".-", label=name)
left.axhline(best, color="0.5", ls="--", label="RMS residual, test")
left.set(xlabel="step", ylabel="σ", ylim=(0, 1.1), title="σ while training")
left.legend()
right.plot(sigmas, elbo_at(sigmas), color="C1", label="networks of the σ-VAE, σ moved")
right.axvline(best, color="0.5", ls="--")
right.plot(scales, [figures[s]["elbo"][0] for s in scales], "o", color="C2", label="trained at σ")
top = elbo_at(best)
mark(right, [0.1, 0.3, 1, 3])
right.set(xlim=(0.05, 4), ylim=(top - 4 * D, top + 0.5 * D))
right.set(xlabel="σ", ylabel="ELBO, nats an image", title="The ELBO knows the best σ")
right.legend(loc="lower right")
plt.show()

# %% [markdown]
# On the left: the optimal $\sigma$ is near its end after the first epoch; the learned one walks, a
# step of Adam at a time, and needs a longer training to get there. On the right: with the networks
# held fixed the ELBO has one maximum, at the RMS residual. Models that were trained at another
# $\sigma$ do about as well there as these networks would. A $\sigma$ that is too small falls off
# the steep side, as in section 2; the smallest one is far below the picture.
#
# ## 7. Grey values: cross-entropy and the continuous Bernoulli
#
# BCE is the negative log-likelihood of *bits*. It is often used for grey values $x\in[0,1]$ as
# well, and then $\lambda^x(1 - \lambda)^{1 - x}$ is no density: its integral over $x$ is not 1, but
#
# $$\int_0^1 \lambda^x (1 - \lambda)^{1 - x}~dx = \frac{2\lambda - 1}{\ell} =
# \frac{1}{C(\lambda)}, \qquad \ell = \log\frac{\lambda}{1 - \lambda}.$$
#
# The **continuous Bernoulli** is the same with the factor: $C(\lambda)\lambda^x(1-\lambda)^{1-x}$.

# %%
lam = np.linspace(0.005, 0.995, 100)  # an even number: not ½, where C = 2 is a limit 0/0
logit = np.log(lam / (1 - lam))
log_C = np.log(logit / (2 * lam - 1))

grid = np.linspace(0, 1, 2001)
unnormalised = lam[:, None] ** grid * (1 - lam[:, None]) ** (1 - grid)
integral = np.trapezoid(unnormalised, grid, axis=1)
# The trapezoidal rule is off by about h²ℓ²/12 of the integral.
np.testing.assert_allclose(log_C, -np.log(integral), atol=1e-5)

# One image of one pixel for each λ; its log-density at x = 0.3 against the formula.
logits = logit.astype("float32").reshape(-1, 1, 1, 1)
continuous = tfvae.likelihoods.ContinuousBernoulli().distribution({"logits": logits})
expected = log_C + 0.3 * np.log(lam) + 0.7 * np.log1p(-lam)
np.testing.assert_allclose(
    continuous.log_prob(np.full((1, 1, 1), 0.3, "float32")), expected, atol=1e-4
)

# %%
mean = continuous.mean().numpy().ravel()
figure, (left, middle, right) = plt.subplots(1, 3, figsize=(11, 3.3), layout="constrained")
for number, row in enumerate((15, 35, 64)):
    label = f"λ = {lam[row]:.2f}"
    left.plot(grid, unnormalised[row], color=f"C{number}", ls="--")
    left.plot(grid, unnormalised[row] * np.exp(log_C[row]), color=f"C{number}", label=label)
left.set(xlabel="x", ylim=(0, None), title="exp(−BCE) dashed, density solid")
left.legend()
middle.plot(lam, log_C)
middle.set(xlabel="λ", ylabel="log C(λ), nats a pixel", title="What BCE leaves out")
right.plot(lam, mean, label="continuous Bernoulli")
right.plot(lam, lam, color="0.6", ls=":", label="λ itself")
right.set(xlabel="λ", ylabel="mean of x", title="The mean is not λ")
right.legend()
plt.show()

# %% [markdown]
# What leaving $C(\lambda)$ out does:
#
# - **It weighs black and white pixels less.** $C$ is smallest at grey and grows without limit
#   towards $\lambda = 0$ and 1. The density rewards a decoder for being sure; BCE does not, so the
#   KL weighs more beside it. Compare the rates of the two in section 9.
# - **The "ELBO" bounds nothing.** BCE of a grey value has its minimum at $\lambda = x$, as a
#   Bernoulli should, but the minimum is the entropy of a coin with $\lambda = x$ and not zero: even
#   a perfect decoder pays a fee for each grey pixel, the same in every model.
# - **The decoder's $\lambda$ is not the density's mean.** A sigmoid output shown as a picture is
#   right for BCE. For a continuous Bernoulli it is too stark: with large logits $\ell$ the mean is
#   still about $1/|\ell|$ away from black or white, where $\lambda$ is only $e^{-|\ell|}$ away. So
#   its mean images are greyer, and only very large logits give black.

# %%
x, _ = test.arrays()
inner = np.clip(x, 1e-7, 1 - 1e-7)
floor = summed(-inner * np.log(inner) - (1 - inner) * np.log(1 - inner))
perfect = tfvae.likelihoods.Bernoulli().distribution({"logits": np.log(inner / (1 - inner))})
np.testing.assert_allclose(-perfect.log_prob(x), floor, rtol=1e-3, atol=1e-2)
print(f"cross-entropy of a perfect reconstruction: {shown(mean_and_error(floor), 1)} nats an image")

# %% [markdown]
# ## 8. Levels: the discretised logistic
#
# The pixels of a file are levels: 256 for bytes, 17 in the small digits. A *density* of levels is a
# strange thing. Where all values sit on a few points, it may grow without limit: a border that is
# black in every image, met by $\mu = 0$ and $\sigma \to 0$, gives an infinite log-density. A
# **probability** of levels has no such hole. The discretised logistic takes a logistic density
# with location $\mu$ and scale $s$, whose distribution function is
# $F(x) = 1/(1 + e^{-(x - \mu)/s})$, and gives each level the mass of its bin; the first and the
# last level take all that lies beyond:
#
# $$P(x_i) = F(x_i + \tfrac12\Delta) - F(x_i - \tfrac12\Delta), \qquad
# F(x_0 - \tfrac12\Delta) := 0, \quad F(x_{\text{last}} + \tfrac12\Delta) := 1.$$
#
# The sum telescopes to 1, whatever $\mu$ and $s$ are.

# %%
bars = {}
for levels in (17, 256):
    lattice = (np.arange(levels, dtype="float32") / (levels - 1)).reshape(-1, 1, 1, 1)
    for mu, scale in ((0.4, 0.05), (0.95, 0.1), (0.0, 0.02)):
        likelihood = tfvae.likelihoods.DiscretizedLogistic(levels=levels, scale=scale)
        p = likelihood.distribution({"loc": np.full((1, 1, 1, 1), mu, "float32")})
        bars[levels, mu, scale] = np.exp(p.log_prob(lattice))
        np.testing.assert_allclose(np.sum(bars[levels, mu, scale]), 1, rtol=1e-4)

# %%
figure, panels = plt.subplots(1, 3, figsize=(10.5, 2.9), layout="constrained", sharey=True)
shapes = [(mu, scale) for levels, mu, scale in bars if levels == 17]
for panel, (mu, scale) in zip(panels, shapes, strict=True):
    panel.bar(np.arange(17), bars[17, mu, scale])
    panel.set(xlabel="level of 17", title=f"μ = {mu}, s = {scale}")
panels[0].set_ylabel("probability")
plt.show()

# %% [markdown]
# In the middle and on the right the last or first level takes the whole tail: that is how it says
# "white" and "black" with certainty.
#
# As $P$ is a probability, $-\log_2 P(x)/D$ is the length of a code in **bits per dimension**.
# Levels drawn by a fair die cost $\log_2 256 = 8$ bits, or $\log_2 17$. No density has such a
# number: it depends on the unit of measurement. In units in which pixels are 255 times as large,
# the same model of the same images has a log-density that is $D \log 255$ lower, and its
# probabilities are what they were.

# %%
x, _ = data.test.arrays(limit=8)
mu = np.clip(x + 0.1 * rng.standard_normal(x.shape), 0.01, 0.99).astype("float32")
small = tfvae.likelihoods.Normal(scale=0.1).distribution({"loc": mu}).log_prob(x)
large = tfvae.likelihoods.Normal(scale=25.5).distribution({"loc": 255 * mu}).log_prob(255 * x)
np.testing.assert_allclose(small - large, D * np.log(255), rtol=1e-3)

steps_of = np.diff(np.unique(train.arrays(limit=500)[0]))
levels = round(1 / float(steps_of.min())) + 1
for high in (1.0, 255.0):
    options = {"levels": levels, "scale": 0.05, "high": high}
    likelihood = tfvae.likelihoods.DiscretizedLogistic(**options)
    p = likelihood.distribution({"loc": mu}).log_prob(x * high)  # μ and s in units of `high`
    print(f"levels 0 to {high:g}: {np.mean(p):.2f} nats, ", end="")
    print(f"{tfvae.evaluation.bits_per_dimension(-np.mean(p), data.image_shape):.3f} bits/dim")

# %% [markdown]
# ## 9. Side by side
#
# One likelihood after another on the same networks, from the same seed, for the same number of
# steps. "Bernoulli, bits" alone sees other images: each epoch's grey values are drawn as bits anew.

# %% capped="chosen = dict(list(chosen.items())[2:4])"
chosen = {
    "Laplace, b = 0.1": "laplace:scale=0.1",
    "BCE of grey values": "bernoulli",
    "continuous Bernoulli": "continuous_bernoulli",
    "discretised logistic": f"discretized_logistic:levels={levels}",
    "Bernoulli, bits": "bernoulli",
}

# %%
bits = tfvae.datasets.load(source, binarize="dynamic")
bit_batches = tfvae.datasets.Batches(bits.train.subset(8000), 128, shuffle=True)
models = {
    f"Normal, σ = {scales[-2]}": by_scale[scales[-2]],
    "Normal, σ optimal": by_data["optimal"],
}
results = {
    f"Normal, σ = {scales[-2]}": figures[scales[-2]],
    "Normal, σ optimal": figures["optimal"],
}
for name, likelihood in chosen.items():
    on_bits = name.endswith("bits")
    models[name] = trained(likelihood, bit_batches if on_bits else batches)
    results[name] = measured(models[name], bits.test.subset(500) if on_bits else test)

# %%
print(
    f"{'':<22}{'what p(x) is':<15}{'ELBO, nats':>19}{'rate, nats':>16}{'RMS error':>18}  bits/dim"
)
for name, found in results.items():
    cells = shown(found["elbo"], 1), shown(found["rate"]), shown(found["rms"], 4)
    line = f"{name:<22}{found['measure']:<15}{cells[0]:>19}{cells[1]:>16}{cells[2]:>18}"
    print(line + ("" if found["bits"] is None else f"{found['bits']:10.3f}"))
die = math.log2(levels)
print(f"a fair die of {levels} levels: {die:.3f} bits per dimension")
# Whoever has learnt anything of the levels needs fewer bits than a fair die.
assert results["discretised logistic"]["bits"] < die

# %% [markdown]
# **Which of these numbers may be compared?**
#
# - *Densities* with densities of the same images in the same unit: the two Normals, the Laplace and
#   the continuous Bernoulli. Even there a warning holds: where pixels are always black, a density
#   gains by being narrow there and says little of the rest. The continuous Bernoulli's large ELBO
#   is for the most part such borders.
# - *Probabilities* with probabilities of the same values: the discretised logistic with a fair die,
#   and with any model of the same levels. These are the bits per dimension of papers.
# - *Bits* of binarized images are other data: "Bernoulli, bits" compares with no other row, nor do
#   its bits per dimension with those of grey levels.
# - *Cross-entropy* of grey values is neither. It compares with itself alone.
# - The RMS error compares between all rows of grey images, and the rates are nats of KL in every
#   row. But the RMS error is what the Normal trains for, and no judge of the others.
#
# The errors are over the test images, and the images are the same in all rows. They say nothing of
# another seed of the training.
#
# Now samples. On the left of each row means of $p(x|z)$, as papers show them. On the right, for
# the same $z$, what the model really says: draws of every pixel from $p(x|z)$.


# %%
def means_and_draws(vae):
    """Five samples: the mean of p(x|z), then with each pixel drawn."""
    return np.concatenate([vae.sample(5, seed=3, mean=mean) for mean in (True, False)])


rows = [means_and_draws(vae) for vae in models.values()]
tfvae.plotting.image_rows(rows, list(models))

# %% [markdown]
# - **Normal, large σ**: means are smooth, draws are snow. A model trained by MSE alone *is* this
#   model: its samples look good because the noise it claims is not shown.
# - **Normal, optimal σ**: less snow, and less blur for more broken samples. The noise has one
#   $\sigma$ for all pixels, and so the black border is as noisy as the edge of a stroke.
# - **Laplace**: most pixels lie near their location, some far off.
# - **BCE of grey values** and **Bernoulli, bits**: draws are bits, salt and pepper where the model
#   is not sure.
# - **Continuous Bernoulli**: the draws scatter by about as much as the mean is away from black or
#   white. Sure pixels have next to no noise, unsure ones are spread over the whole of $[0, 1]$. So
#   much rate leaves holes between the codes, and samples are broken more often.
# - **Discretised logistic**: with one learned scale its noise is like a Normal's, but the tails
#   pile up on the first and the last level: black stays black.
#
# No likelihood here makes neighbouring pixels err together, as all are independent given $z$. So
# what the code does not hold comes out as noise in draws and as blur in means.
#
# ## Exercises
#
# **1.** A tutorial adds `keras.losses.MeanSquaredError()`, the *mean* over the $D$ values of an
# image, to the KL. Which $\sigma$ is that? A linear decoder uses a latent dimension only if the
# variance of the data along a principal axis is larger than $\sigma^2$ (Lucas et al. 2019). How
# many axes of these images have so much variance?
#
# <details><summary>Solution</summary>
#
# $\Vert x - \mu\Vert^2/D$ in the place of $\Vert x - \mu\Vert^2/2\sigma^2$ means $\sigma^2 = D/2$:
# a noise scale larger than the whole range of the pixels. No axis has so much variance, and the
# best such model has collapsed.
#
# ```python
# implied_variance = D / 2
# images = train.arrays()[0].reshape(-1, D)
# axis_variances = np.linalg.eigvalsh(np.cov(images.T))
# mean_loss = np.mean((x - mu) ** 2, axis=(1, 2, 3))
# np.testing.assert_allclose(mean_loss, summed((x - mu) ** 2) / (2 * implied_variance), rtol=1e-4)
# assert np.sum(axis_variances > implied_variance) == 0
# ```
# </details>
#
# **2.** Show that the maximum-likelihood scale $b$ of a Laplace is the mean absolute residual, and
# check it with `tfvae.likelihoods.Laplace` on the images `x` and the locations `mu`.
#
# <details><summary>Solution</summary>
#
# $\frac{d}{db}\sum_n (|r_n|/b + \log 2b) = -\sum_n |r_n|/b^2 + N/b = 0$ at
# $b = \frac1N \sum_n |r_n|$.
#
# ```python
# def laplace_log_prob(scale):
#     p = tfvae.likelihoods.Laplace(scale=scale).distribution({"loc": mu})
#     return float(np.sum(p.log_prob(x)))
#
#
# best_b = float(np.mean(np.abs(x - mu)))
# others = [laplace_log_prob(best_b * factor) for factor in (0.5, 0.8, 0.9, 1.1, 1.25, 2)]
# assert all(laplace_log_prob(best_b) > other for other in others)
# ```
# </details>
#
# **3.** A pixel is $0.25$ on average. Which $\lambda$ is the maximum-likelihood one of a continuous
# Bernoulli, and is it more or less extreme than $0.25$? (The likelihood is of an exponential
# family: at its maximum the model's mean is the data's.)
#
# <details><summary>Solution</summary>
#
# ```python
# def continuous_mean(log_odds):
#     density = np.exp(grid * log_odds)  # λ^x (1 − λ)^(1 − x), up to a factor
#     return np.trapezoid(grid * density, grid) / np.trapezoid(density, grid)
#
#
# log_odds = scipy.optimize.brentq(lambda value: continuous_mean(value) - 0.25, -30, 0)
# found_lam = 1 / (1 + np.exp(-log_odds))
# assert found_lam < 0.25
# logits = np.full((1, 1, 1, 1), log_odds, "float32")
# p = tfvae.likelihoods.ContinuousBernoulli().distribution({"logits": logits})
# assert abs(p.mean().numpy().item() - 0.25) < 1e-3
# ```
# </details>
#
# **4.** *Dequantisation* makes a density comparable with probabilities: add uniform noise to the
# levels, $x = (i + u)/L$. Show for one pixel that $E_u[\log p(x)] - \log L$ is a lower bound of the
# logarithm of the probability that $p$ gives to the whole bin, and check it for a Normal with
# $\mu = 0.4$, $\sigma = 0.05$ and 17 levels.
#
# <details><summary>Solution</summary>
#
# The bin of level $i$ has the mass $\int_0^1 p((i + u)/L)~du/L = E_u[p(x)]/L$, and the logarithm
# of a mean is at least the mean of the logarithms (Jensen).
#
# ```python
# u = (np.arange(1000) + 0.5) / 1000
# points = (np.arange(17)[:, None] + u) / 17
# log_p = -((points - 0.4) ** 2) / (2 * 0.05**2) - 0.5 * np.log(2 * np.pi * 0.05**2)
# bound = log_p.mean(axis=1) - np.log(17)
# log_mass = np.log(np.exp(log_p).mean(axis=1)) - np.log(17)
# assert np.all(bound <= log_mass)
# assert np.exp(log_mass).sum() <= 1 + 1e-6  # a Normal has a little mass outside of [0, 1]
# ```
# </details>

# %% [markdown]
# ## References
#
# - D. P. Kingma, M. Welling (2014), *Auto-Encoding Variational Bayes*,
#   [arXiv:1312.6114](https://arxiv.org/abs/1312.6114); appendix C has the Bernoulli and the
#   Gaussian decoder.
# - I. Higgins et al. (2017), *beta-VAE*,
#   [openreview.net](https://openreview.net/forum?id=Sy2fzU9gl).
# - A. Alemi et al. (2018), *Fixing a Broken ELBO*,
#   [arXiv:1711.00464](https://arxiv.org/abs/1711.00464): rate and distortion.
# - O. Rybkin, K. Daniilidis, S. Levine (2021), *Simple and Effective VAE Training with Calibrated
#   Decoders*, [arXiv:2006.13202](https://arxiv.org/abs/2006.13202): the optimal σ.
# - J. Lucas, G. Tucker, R. Grosse, M. Norouzi (2019), *Don't Blame the ELBO!*,
#   [arXiv:1911.02469](https://arxiv.org/abs/1911.02469): σ decides which dimensions collapse.
# - G. Loaiza-Ganem, J. P. Cunningham (2019), *The continuous Bernoulli*,
#   [arXiv:1907.06845](https://arxiv.org/abs/1907.06845).
# - D. P. Kingma et al. (2016), *Improving Variational Inference with Inverse Autoregressive Flow*,
#   [arXiv:1606.04934](https://arxiv.org/abs/1606.04934): the discretised logistic.
# - L. Theis, A. van den Oord, M. Bethge (2016), *A note on the evaluation of generative models*,
#   [arXiv:1511.01844](https://arxiv.org/abs/1511.01844): section 3.1 on densities of levels.
# - In this repository: [continuous likelihoods](../tfvae/likelihoods/continuous.py),
#   [discrete ones](../tfvae/likelihoods/discrete.py),
#   [their distributions](../tfvae/distributions/discrete.py).
