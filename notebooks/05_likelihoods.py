# ---
# jupyter:
#   jupytext:
#     text_representation: {extension: .py, format_name: percent}
# ---

# %% [markdown]
# # 5. Likelihoods
#
# The decoder of a VAE puts out a distribution $p(x|z)$, and training maximises its logarithm. The
# squared error (MSE), the absolute error (L1) and the binary cross-entropy (BCE) are such
# logarithms with their signs turned and with parts left out. The parts matter: they decide how much
# the KL weighs, which numbers may be compared, and what samples look like. This notebook starts at
# maximum likelihood, finds the usual losses in it one by one, and then trains the same small VAE
# with one likelihood after another. Symbols are those of the table in notebook 2.
#
# ## Learning goals
#
# - Derive MSE, L1 and BCE as negative log-likelihoods, with their full constants.
# - Say what a noise scale does: nothing to a regression's line, nearly everything to a VAE.
# - Let a model find its own noise scale, by gradient and in closed form.
# - Say why cross-entropy of grey values is no log-likelihood, and what the continuous Bernoulli
#   adds.
# - Tell densities from probabilities, and compare only what may be compared.

# %%
import math

import keras
import matplotlib.pyplot as plt
import numpy as np
import scipy.optimize
import scipy.stats
import tensorflow as tf

import tfvae

keras.utils.set_random_seed(0)
rng = np.random.default_rng(0)


def show(name, **values):
    """Print numbers side by side."""
    print(f"{name:30}", "   ".join(f"{key} {value:10.5f}" for key, value in values.items()))


# %% [markdown]
# ## 1. Maximum likelihood
#
# Independent values $x_1, \dots, x_N$ have under a model $p_\theta$ the log-likelihood
# $\sum_n \log p_\theta(x_n)$. **Maximum likelihood** takes the $\theta$ where it is largest.
#
# A coin that shows heads with probability $\theta$, thrown $n$ times with $k$ heads, has
#
# $$\log p_\theta(\text{throws}) = k \log\theta + (n - k)\log(1 - \theta) . \tag{5.1}$$
#
# The derivative $k/\theta - (n - k)/(1 - \theta)$ is zero at $\hat\theta = k/n$.

# %%
throws = rng.random(200) < 0.3
k, n = throws.sum(), throws.size
theta = np.linspace(0.02, 0.98, 97)
log_likelihood = k * np.log(theta) + (n - k) * np.log1p(-theta)

each = np.log(np.where(throws, 0.3, 0.7)).sum()  # throw by throw, at θ = 0.3
show("log p at θ = 0.3", throw_by_throw=each, formula=k * np.log(0.3) + (n - k) * np.log(0.7))
np.testing.assert_allclose(each, k * np.log(0.3) + (n - k) * np.log(0.7))  # (5.1)
show("maximum", on_the_grid=theta[log_likelihood.argmax()], heads_over_throws=k / n)
# The function is concave: its best grid point is a neighbour of the true maximum.
assert abs(theta[log_likelihood.argmax()] - k / n) <= theta[1] - theta[0]

# %% [markdown]
# Divided by $-n$, the log-likelihood splits in two. With the observed frequency $f = k/n$,
#
# $$-\frac1n \log p_\theta =
# \underbrace{-f\log f - (1 - f)\log(1 - f)}_{\text{entropy of the data}} +
# \underbrace{f\log\frac{f}{\theta} + (1 - f)\log\frac{1 - f}{1 - \theta}}_{\mathrm{KL}} .
# \tag{5.2}$$
#
# So to maximise the likelihood is to minimise the KL from the data to the model. The entropy of the
# data stays whatever $\theta$ is: no model needs fewer nats per throw.

# %%
f = k / n
entropy = -f * np.log(f) - (1 - f) * np.log(1 - f)
kl = f * np.log(f / theta) + (1 - f) * np.log((1 - f) / (1 - theta))
for i in (10, 28, 60):
    show(
        f"−log p / n at θ = {theta[i]:.2f}",
        itself=-log_likelihood[i] / n,
        entropy_and_KL=entropy + kl[i],
    )
np.testing.assert_allclose(-log_likelihood / n, entropy + kl, rtol=1e-12)  # (5.2)

# %%
figure, axes = plt.subplots(figsize=(5.5, 3), layout="constrained")
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
# Notebook 2 showed in $(2.22)$ that the squared error of a linear regression is a negative
# log-likelihood. Here again, for one point: if $y_n$ is a line plus noise,
# $y_n = w^\top x_n + \varepsilon_n$ with $\varepsilon_n \sim N(0, \sigma^2)$, then
#
# $$-\log p(y_n) = \frac{(y_n - w^\top x_n)^2}{2\sigma^2} + \frac12 \log 2\pi\sigma^2 . \tag{5.3}$$

# %%
N = 60
x = rng.uniform(-1, 1, N)
X = np.stack([x, np.ones(N)], axis=1)  # a column of ones: the intercept is a weight too
true_w, true_sigma = np.array([1.5, 0.5]), 0.4
y = X @ true_w + true_sigma * rng.standard_normal(N)


def normal_nll(w, log_sigma):
    """Return −log p(y), nats."""
    squared = (y - X @ w) ** 2
    return np.sum(squared / (2 * np.exp(2 * log_sigma)) + log_sigma + 0.5 * np.log(2 * np.pi))


by_scipy = -scipy.stats.norm.logpdf(y, X @ true_w, true_sigma).sum()
show("−log p(y) at the truth", formula=normal_nll(true_w, np.log(true_sigma)), scipy=by_scipy)
np.testing.assert_allclose(normal_nll(true_w, np.log(true_sigma)), by_scipy)  # (5.3)

# %% [markdown]
# The gradient by $w$ is $-X^\top (y - Xw)/\sigma^2$. It is zero where $X^\top(y - Xw) = 0$, and
# these are the equations of least squares: $\sigma$ has dropped out. The derivative by $\sigma$,
# $N/\sigma - \sum_n r_n^2/\sigma^3$ with residuals $r_n$, is zero at
#
# $$\hat\sigma = \sqrt{\tfrac1N \textstyle\sum_n r_n^2} , \tag{5.4}$$
#
# the root mean square (RMS) of the residuals. The cell gives $(5.3)$ to a general optimiser, which
# knows nothing of least squares, and gets the same line and the same $\sigma$.

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
np.testing.assert_allclose(np.exp(found[2]), rms, atol=1e-4)  # (5.4)


# %%
def mark(axes, values):
    """Label a logarithmic x axis at some values alone."""
    axes.set_xscale("log")
    axes.set_xticks(values, [f"{value:g}" for value in values])
    axes.minorticks_off()


figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3), layout="constrained")
line = np.array([[-1, 1], [1, 1]]).T
left.vlines(x, X @ least_squares, y, color="0.7", lw=1, label="residuals")
left.plot(x, y, ".", label="data")
middle = line @ least_squares
left.plot(line[:, 0], middle, color="C3", label="least squares")
left.fill_between(line[:, 0], middle - 2 * rms, middle + 2 * rms, color="C3", alpha=0.1)
left.set(xlabel="x", ylabel="y", title="A line, and ± 2σ̂ around it")
left.set_xticks([-1, -0.5, 0, 0.5, 1])
left.legend()
sigmas = np.geomspace(0.15, 2, 100)
right.plot(sigmas, [normal_nll(least_squares, np.log(s)) for s in sigmas])
right.axvline(rms, color="C3", ls="--", label="RMS residual")
mark(right, [0.2, 0.5, 1, 2])
right.set(xlabel="σ", ylabel="−log p(y), nats", title="The best σ")
right.legend()
plt.show()

# %% [markdown]
# Remember two things. For the *line* any $\sigma$ will do: the squared error alone finds it. And
# too small a $\sigma$ costs far more than one that is too large by the same factor: on the left of
# the right-hand picture the curve is steep.
#
# ## 3. L1 is a Laplace
#
# The Laplace density $\frac{1}{2b}\exp(-|r|/b)$ gives
#
# $$-\log p(r) = \frac{|r|}{b} + \log 2b . \tag{5.5}$$
#
# Its tails are heavier than a Normal's: a residual of ten scales costs 10 nats, not 50. For
# numbers that scatter around one location $m$, the sum of squares is smallest at the mean. The
# sum of absolute values has the derivative $-\sum_n \mathrm{sign}(x_n - m)$, and that is zero where
# as many values lie above as below: at the **median**.

# %%
for r in (0.5, 3.0):
    by_scipy = -scipy.stats.laplace.logpdf(r, scale=0.4)
    show(f"−log p({r}), b = 0.4", formula=r / 0.4 + np.log(0.8), scipy=by_scipy)
    np.testing.assert_allclose(r / 0.4 + np.log(0.8), by_scipy)  # (5.5)
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
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3), layout="constrained")
left.plot(m, squares / squares.min(), label="Σ (x − m)²")
left.plot(m, absolutes / absolutes.min(), label="Σ |x − m|")
left.vlines(values.mean(), 0.9, 1.8, color="C0", ls=":")
left.vlines(np.median(values), 0.9, 1.8, color="C1", ls=":")
left.plot(values[:25], np.full(25, 0.93), "|", color="k")
left.set(xlabel="m (ticks: the data, but for two at 9 and 10)", ylabel="over its minimum")
left.set(ylim=(0.9, 2.6), title="A location (dotted: mean, median)")
left.legend(loc="upper center")
right.plot(x, y_outliers, ".", color="0.6")
right.plot(x[wrong], y_outliers[wrong], "x", color="C3", label="outliers")
right.plot(line[:, 0], line @ true_w, color="k", ls=":", label="truth")
right.plot(line[:, 0], line @ by_squares, label="Normal (MSE)")
right.plot(line[:, 0], line @ by_absolutes, label="Laplace (L1)")
right.set(xlabel="x", ylabel="y", title="A line", ylim=(-2.8, 4.8))
right.set_xticks([-1, -0.5, 0, 0.5, 1])
right.legend(ncols=2, loc="upper left")
plt.show()

# %% [markdown]
# ## 4. The same in the decoder of a VAE
#
# A decoder gives each pixel's distribution, and given $z$ pixels are independent: their
# log-densities add up. `tfvae.likelihoods` has them with all their constants. Per value,
#
# | likelihood | $-\log p(x\mid z)$ |
# | --- | --- |
# | Normal | $(x - \mu)^2/2\sigma^2 + \frac12\log 2\pi\sigma^2$, the squared error |
# | Laplace | $\lvert x - \mu\rvert/b + \log 2b$, the absolute error |
# | Bernoulli | $-x\log \pi - (1 - x)\log(1 - \pi)$, the binary cross-entropy |
#
# The images are the MNIST digits that come with the package.

# %%
source = "mnist-small"
data = tfvae.datasets.load(source, binarize="none")
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
for name, by_hand, p in (("Normal", full_mse, normal), ("Laplace", full_l1, laplace)):
    by_tfvae = -p.log_prob(x).numpy()[:4]
    print(f"{name:8} −log p by hand {by_hand[:4].round(3)}, tfvae {by_tfvae.round(3)}")

# %% [markdown]
# The Bernoulli takes logits; Keras' cross-entropy takes probabilities. Keras *averages* over the
# last axis, a log-likelihood *sums*. The difference is a factor, the number of values, and to
# forget it is the commonest mistake in programs for VAEs. What it does to the model is exercise 1.

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
# > **Loosely said.** "Take MSE for continuous data and BCE for images." Which likelihood is right
# > follows from what the pixels *are*. If they are black or white, BCE is their log-probability. If
# > they are grey values, $e^{-\mathrm{BCE}}$ is not even a density: it does not integrate to one
# > (section 7). The Normal behind MSE is a density of real numbers, which gives some of its mass to
# > grey values below 0 and above 1; and it needs a $\sigma$, which MSE hides (section 5). Grey
# > values of a file are levels, and there are probabilities of levels (section 8). All of them
# > train; they are different models. The cell measures the first two claims.

# %%
grey = np.linspace(0, 1, 2001)
for lam in (0.02, 0.2, 0.5):
    area = np.trapezoid(lam**grey * (1 - lam) ** (1 - grey), grey)
    bits_sum = lam + (1 - lam)
    show(f"exp(−BCE), λ = {lam}", sum_over_0_and_1=bits_sum, integral_over_greys=area)
    assert abs(bits_sum - 1) < 1e-12 and area < 0.9
for location in (0.0, 0.5):
    outside = scipy.stats.norm.cdf(0, location, 0.3) + scipy.stats.norm.sf(1, location, 0.3)
    show(f"Normal, μ = {location}, σ = 0.3", mass_outside_0_to_1=outside)
    assert outside > 0.05

# %% [markdown]
# ## 5. The noise scale is the weight of the KL
#
# With a Normal of fixed $\sigma$ the negative ELBO of an image is
#
# $$-\mathrm{ELBO}_\sigma = \frac{1}{2\sigma^2} E_q\Vert x - \mu(z)\Vert^2 +
# \frac D2\log 2\pi\sigma^2 + \mathrm{KL} . \tag{5.6}$$
#
# Take the constant away and multiply by $\sigma^2$, which moves no minimum:
#
# $$\tfrac12 E_q\Vert x - \mu(z)\Vert^2 + \sigma^2 \mathrm{KL} . \tag{5.7}$$
#
# So $\sigma^2$ **is** the $\beta$ of a β-VAE. For a line any $\sigma$ would do; here it decides how
# many nats of KL an improvement of the squared error may cost. The check is on a model that has not
# been trained, as the equation holds for any weights.

# %% tags=["parameters"] capped="steps, scales = 20, [0.1, 3.0]"
steps, scales = 350, [0.03, 0.1, 0.3, 1.0, 3.0]

# %% capped="batches = tfvae.datasets.Batches(train.subset(1280), 128, shuffle=True)"
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
by_hand = half_squares / sigma**2 + D / 2 * np.log(2 * np.pi * sigma**2) + kl
print("−ELBO by tfvae", (-elbo).numpy()[:4].round(3))
print("      by (5.6)", by_hand.numpy()[:4].round(3))
np.testing.assert_allclose(-elbo, by_hand, rtol=1e-4, atol=1e-2)  # (5.6)
without_constant = sigma**2 * (-elbo - D / 2 * np.log(2 * np.pi * sigma**2))
print("times σ², without its constant", without_constant.numpy()[:4].round(4))
print("                      by (5.7)", (half_squares + sigma**2 * kl).numpy()[:4].round(4))
np.testing.assert_allclose(
    without_constant, half_squares + sigma**2 * kl, rtol=1e-4, atol=1e-3
)  # (5.7)

# %% [markdown]
# Now train one model for each $\sigma$, with all else equal. The *rate* is the mean KL: how many
# nats the codes say about an image. The RMS error of reconstructions is in units of the pixels, so
# it can be compared between different $\sigma$. Errors are standard errors over the test images.


# %%
def trained(likelihood, source=batches, callbacks=()):
    """Train for some hundred steps."""
    vae = untrained(likelihood)
    vae.adapt(source)  # starts p(x|z) at the mean image and at the spread of the pixels
    vae.compile(keras.optimizers.Adam(2e-3))
    epochs = math.ceil(steps / len(source))
    tfvae.training.train(vae, source, epochs=epochs, callbacks=callbacks, progress=False)
    return vae


def mean_and_error(values):
    """Return the mean over images and its standard error."""
    return np.mean(values), np.std(values, ddof=1) / math.sqrt(len(values))


def measured(vae, images=test):
    """Return the terms of the ELBO and the RMS error, each with its standard error."""
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
# Reconstructions: originals in the top row, then one row for each $\sigma$. Read the rows from the
# bottom up. As $\sigma$ falls they get better, until the networks and this short training can do no
# more; below that a smaller $\sigma$ raises the rate and improves nothing. The largest $\sigma$ has
# **collapsed**: its rate is about zero, and every image comes back as the same mean image. This is
# no failure of the training. With so much noise assumed, to say anything about $x$ costs more KL
# than it saves.

# %%
few, _ = test.arrays(limit=8)
labels = [f"σ = {s}" for s in scales]
rows = [few, *(vae.reconstruct(few) for vae in by_scale.values())]
tfvae.plotting.image_rows(rows, ["original", *labels])

# %% [markdown]
# Now samples: $z$ from the prior, and the mean of $p(x|z)$. At small $\sigma$ the KL weighs little,
# and the codes need not fill the prior. Some draws then fall between the codes, and come out as two
# digits in one, or with broken strokes. At $\sigma = 1$ strokes are smoother and some samples are a
# blur. At the largest $\sigma$ all samples are the mean image.

# %%
tfvae.plotting.image_rows([vae.sample(8, seed=1) for vae in by_scale.values()], labels)

# %% [markdown]
# ## 6. Let the model find σ
#
# $\sigma$ is a parameter of $p(x|z)$ like any other, and the constant $\frac D2\log 2\pi\sigma^2$
# keeps it from growing. Two ways:
#
# - **learned**: one more weight, trained by gradient (`normal:scale=learned`);
# - **optimal**, the σ-VAE: as in $(5.4)$ the best $\sigma^2$ has a closed form, the mean squared
#   error of the batch (`normal:scale=optimal`). Put it in, and a batch's reconstruction term is
#   $D \log\hat\sigma$ plus a constant.
#
# The picture follows $\sigma$ through the training.


# %%
class Follower(keras.callbacks.Callback):
    """Keeps σ, the standard deviation of p(x|z), before the training and after each epoch."""

    def on_train_begin(self, logs=None):
        """Start the path."""
        self.path = []
        self.on_epoch_end(0)

    def on_epoch_end(self, epoch, logs=None):
        """Append σ to the path."""
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
    first, last = followers[name].path[0], followers[name].path[-1]
    print(f"{name:>8}: σ {first:.3f}, then {last:.3f}, ELBO {shown(found['elbo'], 1)} nats,")
    print(f"{'':>10}rate {shown(found['rate'])} nats, RMS error {shown(found['rms'], 4)}")

# %% [markdown]
# Is the optimal $\sigma$ optimal? Keep the networks, and move $\sigma$ alone: by $(5.4)$ the ELBO
# as a function of $\sigma$ has its maximum at the RMS residual,
#
# $$\hat\sigma = \sqrt{E_q\Vert x - \mu(z)\Vert^2 / D} . \tag{5.8}$$

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
show("maximum of the ELBO", at_sigma=sigmas[np.argmax(elbo_at(sigmas))], rms_residual=best)
assert np.all(elbo_at(best) >= elbo_at(sigmas))  # (5.8)
# A model that found its σ is far better, as a density, than the same with a σ far off.
gain = figures["optimal"]["elbo"][0] - figures[scales[-1]]["elbo"][0]
assert gain > 5 * math.hypot(figures["optimal"]["elbo"][1], figures[scales[-1]]["elbo"][1])

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
for name, follower in followers.items():
    left.plot(np.arange(len(follower.path)) * len(batches), follower.path, ".-", label=name)
left.axhline(best, color="0.5", ls="--", label="RMS residual, test")
left.set(xlabel="step", ylabel="σ", ylim=(0, None), title="σ while training")
left.legend()
right.plot(sigmas, elbo_at(sigmas), color="C1", label="networks of the σ-VAE, σ moved")
right.axvline(best, color="0.5", ls="--")
right.plot(scales, [figures[s]["elbo"][0] for s in scales], "o", color="C2", label="trained at σ")
top = elbo_at(best)
mark(right, [0.1, 0.3, 1, 3])
right.set(xlim=(0.05, 4), ylim=(top - 3 * D, top + 1.2 * D))
right.set(xlabel="σ", ylabel="ELBO, nats an image", title="The ELBO knows the best σ")
right.legend(loc="upper right")
plt.show()

# %% [markdown]
# On the left: both come down to about the RMS residual within the first epochs, one by the gradient
# and one by the formula. The learned $\sigma$ starts at the spread of the pixels; the optimal one
# has no value before the first batch, and the picture shows 1. They end a little below the dashed
# line, which is of test images: training images are fitted better.
#
# On the right: with the networks held fixed the ELBO has one maximum, at the RMS residual. Models
# that were trained at another $\sigma$ have about the ELBO that these networks have there. Too
# small a $\sigma$ is on the steep side, as in section 2; the smallest one is far below the picture.
#
# ## 7. Grey values: cross-entropy and the continuous Bernoulli
#
# BCE is the negative log-likelihood of *bits*. It is often used for grey values $x\in[0,1]$ as
# well, and then $\lambda^x(1 - \lambda)^{1 - x}$ is no density: its integral over $x$ is not 1, but
#
# $$\int_0^1 \lambda^x (1 - \lambda)^{1 - x}~dx = \frac{2\lambda - 1}{\ell} =
# \frac{1}{C(\lambda)}, \qquad \ell = \log\frac{\lambda}{1 - \lambda} . \tag{5.9}$$
#
# The **continuous Bernoulli** is the same with the factor: $C(\lambda)\lambda^x(1-\lambda)^{1-x}$.

# %%
lam = np.linspace(0.005, 0.995, 100)  # an even number: not ½, where C = 2 is a limit 0/0
logit = np.log(lam / (1 - lam))
log_C = np.log(logit / (2 * lam - 1))

grid = np.linspace(0, 1, 2001)
unnormalised = lam[:, None] ** grid * (1 - lam[:, None]) ** (1 - grid)
integral = np.trapezoid(unnormalised, grid, axis=1)
for i in (0, 35, 64):
    show(f"1 / C at λ = {lam[i]:.3f}", integral=integral[i], formula=np.exp(-log_C[i]))
# The trapezoidal rule is off by about h²ℓ²/12 of the integral.
np.testing.assert_allclose(log_C, -np.log(integral), atol=1e-5)  # (5.9)

# One image of one pixel for each λ; its log-density at x = 0.3 against the formula.
logits = logit.astype("float32").reshape(-1, 1, 1, 1)
continuous = tfvae.likelihoods.ContinuousBernoulli().distribution({"logits": logits})
expected = log_C + 0.3 * np.log(lam) + 0.7 * np.log1p(-lam)
np.testing.assert_allclose(
    continuous.log_prob(np.full((1, 1, 1), 0.3, "float32")), expected, atol=1e-4
)

# %%
mean = continuous.mean().numpy().ravel()
figure, (left, middle, right) = plt.subplots(1, 3, figsize=(10, 3), layout="constrained")
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
# If $C(\lambda)$ is left out, three things change:
#
# - **Black and white pixels count less.** $C$ is smallest at grey and grows without limit towards
#   $\lambda = 0$ and 1. So the density rewards a decoder for being sure. BCE does not, and the KL
#   weighs more beside it. Compare the rates of the two in section 9.
# - **The "ELBO" is a bound of nothing.** BCE of a grey value is smallest at $\lambda = x$, but
#   there it is not zero: it is the entropy of a coin with $\lambda = x$. Even a perfect decoder
#   pays that for each grey pixel, the same in every model.
# - **The decoder's $\lambda$ is not the mean of the density.** To show a sigmoid output as a
#   picture is right for BCE. For a continuous Bernoulli that picture has too much contrast: with a
#   large logit $\ell$ the mean is still about $1/|\ell|$ away from black or white, where $\lambda$
#   is only $e^{-|\ell|}$ away.

# %%
x, _ = test.arrays()
inner = np.clip(x, 1e-7, 1 - 1e-7)
floor = summed(-inner * np.log(inner) - (1 - inner) * np.log(1 - inner))
perfect = tfvae.likelihoods.Bernoulli().distribution({"logits": np.log(inner / (1 - inner))})
np.testing.assert_allclose(-perfect.log_prob(x), floor, rtol=1e-3, atol=1e-2)
print(f"cross-entropy of a perfect reconstruction: {shown(mean_and_error(floor), 1)} nats an image")
for logit_ in (3.0, 10.0, 30.0):
    p = tfvae.likelihoods.ContinuousBernoulli().distribution(
        {"logits": np.full((1, 1, 1, 1), logit_, "float32")}
    )
    below = 1 - float(p.mean().numpy().item())
    show(
        f"logit {logit_:g}: below white", mean=below, one_over_logit=1 / logit_, lam=np.exp(-logit_)
    )

# %% [markdown]
# ## 8. Levels: the discretised logistic
#
# The pixels of a file are levels: 256 for bytes. A *density* of levels can be made as large as one
# likes: the border is black in every image, and a model with $\mu = 0$ and $\sigma \to 0$ there has
# an infinite log-density without having learned anything. A **probability** is at most one. The
# discretised logistic takes a logistic density with location $\mu$ and scale $s$, whose
# distribution function is $F(x) = 1/(1 + e^{-(x - \mu)/s})$, and gives each level the mass of its
# bin. The first and the last level take all that lies beyond:
#
# $$P(x_i) = F(x_i + \tfrac12\Delta) - F(x_i - \tfrac12\Delta), \qquad
# F(x_0 - \tfrac12\Delta) := 0, \quad F(x_{\text{last}} + \tfrac12\Delta) := 1 .
# \tag{5.10}$$
#
# In the sum over all levels each $F$ appears once with plus and once with minus, but for the last
# and the first: the sum is 1, whatever $\mu$ and $s$ are.

# %%
bars = {}
for levels in (17, 256):
    lattice = (np.arange(levels, dtype="float32") / (levels - 1)).reshape(-1, 1, 1, 1)
    for mu, scale in ((0.4, 0.05), (0.95, 0.1), (0.0, 0.02)):
        likelihood = tfvae.likelihoods.DiscretizedLogistic(levels=levels, scale=scale)
        p = likelihood.distribution({"loc": np.full((1, 1, 1, 1), mu, "float32")})
        bars[levels, mu, scale] = np.exp(p.log_prob(lattice))
        ends = (lattice.ravel()[:-1] + lattice.ravel()[1:]) / 2  # where bins meet
        F = np.r_[0, 1 / (1 + np.exp(-(ends.astype("float64") - mu) / scale)), 1]
        found = bars[levels, mu, scale].ravel()
        show(
            f"{levels} levels, μ = {mu}, s = {scale}",
            sum=found.sum(),
            largest=found.max(),
            formula=np.diff(F).max(),
        )
        np.testing.assert_allclose(found, np.diff(F), rtol=1e-2, atol=1e-6)  # (5.10)
        np.testing.assert_allclose(found.sum(), 1, rtol=1e-4)

# %%
figure, panels = plt.subplots(1, 3, figsize=(9, 2.6), layout="constrained", sharey=True)
shapes = [(mu, scale) for levels, mu, scale in bars if levels == 17]
for panel, (mu, scale) in zip(panels, shapes, strict=True):
    panel.bar(np.arange(17), bars[17, mu, scale])
    panel.set(xlabel="level of 17", title=f"μ = {mu}, s = {scale}")
panels[0].set_ylabel("probability")
plt.show()

# %% [markdown]
# In the middle and on the right the last or the first level gets the whole tail. So the model can
# say "white" or "black" with near certainty.
#
# As $P$ is a probability, $-\log_2 P(x)/D$ is the length of a code in **bits per dimension**.
# If all 256 levels are equally likely, it is $\log_2 256 = 8$ bits. A density has no such number,
# since it depends on the unit of measurement. In units in which pixels are 255 times as large, the
# same model of the same images has a log-density that is lower by
#
# $$D \log 255 , \tag{5.11}$$
#
# but its probabilities are what they were.

# %%
x, _ = data.test.arrays(limit=8)
mu = np.clip(x + 0.1 * rng.standard_normal(x.shape), 0.01, 0.99).astype("float32")
small = tfvae.likelihoods.Normal(scale=0.1).distribution({"loc": mu}).log_prob(x)
large = tfvae.likelihoods.Normal(scale=25.5).distribution({"loc": 255 * mu}).log_prob(255 * x)
difference = float(np.mean(small - large))
show("log-density, pixels to 1 and to 255", difference=difference, formula=D * np.log(255))
np.testing.assert_allclose(small - large, D * np.log(255), rtol=1e-3)  # (5.11)

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
# steps. Only "Bernoulli, bits" sees other images: in each epoch every pixel is drawn anew, black or
# white, with its grey value as the probability of white.

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
print(f"all {levels} levels equally likely: {die:.3f} bits per dimension")
# A model that has learnt anything about the levels needs fewer bits.
assert results["discretised logistic"]["bits"] < die

# Where does the density of the continuous Bernoulli come from?
vae, images = models["continuous Bernoulli"], test.arrays()[0]
z = vae.encode(images).sample(seed=(0, 4))
by_pixel = vae.log_likelihood_by_value(images, z).numpy().mean(axis=0)
black = np.mean(train.arrays()[0] == 0, axis=0) > 0.95  # in 95 of 100 training images
print(f"continuous Bernoulli, log p(x|z): {by_pixel.sum():.0f} nats, ", end="")
print(f"{by_pixel[black].sum():.0f} of them from {black.sum()} pixels that are nearly always black")
assert by_pixel[black].mean() > by_pixel[~black].mean()

# %% [markdown]
# **Which of these numbers may be compared?**
#
# - *Densities* with densities of the same images in the same unit: the two Normals, the Laplace and
#   the continuous Bernoulli. Even there be careful: where pixels are always black, a density gains
#   by being narrow, and this says little about the rest. The last line of the output says how much
#   of the continuous Bernoulli's large ELBO comes from such pixels: most of it.
# - *Probabilities* with probabilities of the same values: the discretised logistic with equally
#   likely levels, and with any model of the same levels. These are the bits per dimension of
#   papers.
# - *Bits* of binarized images are other data: "Bernoulli, bits" compares with no other row, nor do
#   its bits per dimension with those of grey levels.
# - *Cross-entropy* of grey values is neither. It compares with itself alone.
# - The RMS error compares between all rows of grey images, and the rates are nats of KL in every
#   row. But the RMS error is what the Normal is trained for, so it favours the Normal.
#
# The errors are over the test images, which are the same in all rows. How much the numbers change
# with another seed of the training, they do not say.
#
# Now samples. In the left half of each row are means of $p(x|z)$, as papers show them. In the right
# half, for the same $z$, are draws: every pixel drawn from $p(x|z)$, which is what the model says
# that images look like.


# %%
def means_and_draws(vae):
    """Five samples: the mean of p(x|z), then with each pixel drawn."""
    return np.concatenate([vae.sample(5, seed=3, mean=mean) for mean in (True, False)])


rows = [means_and_draws(vae) for vae in models.values()]
tfvae.plotting.image_rows(rows, list(models))

# %% [markdown]
# - **Normal, large σ**: means are smooth, draws are snow. A model trained by MSE alone *is* such a
#   model: its samples look good because the noise that it assumes is not shown.
# - **Normal, optimal σ**: less snow. The means are sharper and more often broken. The noise has one
#   $\sigma$ for all pixels, and so the black border is as noisy as the edge of a stroke.
# - **Laplace**: most pixels lie near their location, some far off.
# - **BCE of grey values** and **Bernoulli, bits**: draws are bits, salt and pepper where the model
#   is not sure.
# - **Continuous Bernoulli**: sure pixels have next to no noise, unsure ones are spread over the
#   whole of $[0, 1]$. Its rate is high, which leaves holes between the codes.
# - **Discretised logistic**: with one learned scale its noise is like a Normal's, but all that
#   would fall below black or above white is black or white: black stays black.
#
# No likelihood here makes neighbouring pixels err together, as all are independent given $z$. So
# what the code does not hold comes out as noise in draws and as blur in means.
#
# ## Exercises
#
# ### Exercise 1: the mean in the place of the sum
#
# A tutorial adds `keras.losses.MeanSquaredError()`, the *mean* over the $D$ values of an image, to
# the KL. Which $\sigma^2$ does it assume? A linear decoder uses a latent dimension only if the
# variance of the data along a principal axis is larger than $\sigma^2$ (Lucas et al. 2019). How
# many axes of these images have so much variance?

# %%
# Your answer: the variance that the tutorial assumes, and the number of axes.
my_variance, my_axes = None, None


# %%
def check_mean(variance, axes):
    """Check an answer: the two losses must be equal, up to the constant."""
    if variance is None:
        print("exercise 1: no answer yet")
        return
    mean_loss = np.mean((x - mu) ** 2, axis=(1, 2, 3))
    np.testing.assert_allclose(mean_loss, summed((x - mu) ** 2) / (2 * variance), rtol=1e-3)
    images = train.arrays()[0].reshape(-1, D)
    assert axes == np.sum(np.linalg.eigvalsh(np.cov(images.T)) > variance)
    print("exercise 1: right")


check_mean(my_variance, my_axes)

# %% [markdown]
# <details><summary>Solution</summary>
#
# $\Vert x - \mu\Vert^2/D$ in the place of $\Vert x - \mu\Vert^2/2\sigma^2$ means
# $\sigma^2 = D/2 = 392$, a $\sigma$ of $19.8$ for pixels from 0 to 1. The largest variance along
# any axis is about $5$. So no axis has so much variance, and the best such model has collapsed.
#
# ```python
# my_variance = D / 2
# images = train.arrays()[0].reshape(-1, D)
# axis_variances = np.linalg.eigvalsh(np.cov(images.T))
# my_axes = np.sum(axis_variances > my_variance)
# check_mean(my_variance, my_axes)
# assert my_variance == 392 and my_axes == 0 and 4 < axis_variances.max() < 6
# ```
# </details>
#
# ### Exercise 2: the best scale of a Laplace
#
# Find the $b$ under which the images `x` around the locations `mu` are most likely. Derive it by
# setting the derivative of $\sum_n (|r_n|/b + \log 2b)$ to zero.

# %%
# Your answer: b.
my_b = None


# %%
def laplace_log_prob(scale):
    p = tfvae.likelihoods.Laplace(scale=scale).distribution({"loc": mu})
    return float(np.sum(p.log_prob(x)))


def check_scale(b):
    """Check an answer: other scales are worse."""
    if b is None:
        print("exercise 2: no answer yet")
        return
    others = [laplace_log_prob(float(b) * factor) for factor in (0.5, 0.8, 0.95, 1.05, 1.25, 2)]
    assert all(laplace_log_prob(float(b)) > other for other in others), "another b is better"
    print("exercise 2: right")


check_scale(my_b)

# %% [markdown]
# <details><summary>Solution</summary>
#
# $-\sum_n |r_n|/b^2 + N/b = 0$ at $b = \frac1N \sum_n |r_n|$: the mean absolute residual, as the
# $\hat\sigma$ of a Normal is the root mean square.
#
# ```python
# my_b = float(np.mean(np.abs(x - mu)))
# check_scale(my_b)
# assert laplace_log_prob(my_b) > laplace_log_prob(1.1 * my_b)
# ```
# </details>
#
# ### Exercise 3: a grey pixel under the continuous Bernoulli
#
# A pixel is $0.25$ on average. Which $\lambda$ is the maximum-likelihood one of a continuous
# Bernoulli, and is it more or less extreme than $0.25$? (The likelihood is of an exponential
# family: at its maximum the model's mean is the mean of the data.)

# %%
# Your answer: λ.
my_lambda = None


# %%
def check_lambda(lam):
    """Check an answer: the mean of the density must be 0.25."""
    if lam is None:
        print("exercise 3: no answer yet")
        return
    logits = np.full((1, 1, 1, 1), np.log(lam / (1 - lam)), "float32")
    p = tfvae.likelihoods.ContinuousBernoulli().distribution({"logits": logits})
    mean = float(p.mean().numpy().item())
    assert abs(mean - 0.25) < 2e-3, f"the mean is {mean:.3f}"
    print("exercise 3: right")


check_lambda(my_lambda)

# %% [markdown]
# <details><summary>Solution</summary>
#
# $\lambda = 0.027$, with the log-odds $-3.59$: far more extreme than $0.25$, as the mean is always
# nearer to the middle than $\lambda$ is. For a Bernoulli it would be $\lambda = 0.25$.
#
# ```python
# def continuous_mean(log_odds):
#     density = np.exp(grid * log_odds)  # λ^x (1 − λ)^(1 − x), up to a factor
#     return np.trapezoid(grid * density, grid) / np.trapezoid(density, grid)
#
#
# log_odds = scipy.optimize.brentq(lambda value: continuous_mean(value) - 0.25, -30, 0)
# my_lambda = 1 / (1 + np.exp(-log_odds))
# check_lambda(my_lambda)
# assert abs(my_lambda - 0.027) < 0.0005 and abs(log_odds - -3.59) < 0.005
# ```
# </details>
#
# ### Exercise 4: dequantisation
#
# To make a density comparable with probabilities, add uniform noise to the levels,
# $x = (i + u)/L$. Show for one pixel that $E_u[\log p(x)] - \log L$ is a lower bound of the
# logarithm of the probability that $p$ gives to the whole bin. Compute both for a Normal with
# $\mu = 0.4$, $\sigma = 0.05$, $L = 17$ and all levels $i$.

# %%
# Your answer: two arrays of 17 numbers, in nats.
my_bound, my_log_mass = None, None


# %%
def check_dequantisation(bound, log_mass):
    """Check an answer against the distribution function of the Normal."""
    if bound is None:
        print("exercise 4: no answer yet")
        return
    edges = scipy.stats.norm.cdf(np.arange(18) / 17, 0.4, 0.05)
    np.testing.assert_allclose(np.exp(log_mass), np.diff(edges), atol=1e-4)
    assert np.all(np.asarray(bound) <= log_mass)
    print("exercise 4: right")


check_dequantisation(my_bound, my_log_mass)

# %% [markdown]
# <details><summary>Solution</summary>
#
# The bin of level $i$ has the mass $\int_0^1 p((i + u)/L) du/L = E_u[p(x)]/L$, and the logarithm of
# a mean is at least the mean of the logarithms (Jensen). At level 6, around the mean, the bound is
# within $0.1$ nats; in the tails it is several nats below.
#
# ```python
# u = (np.arange(1000) + 0.5) / 1000
# points = (np.arange(17)[:, None] + u) / 17
# log_p = -((points - 0.4) ** 2) / (2 * 0.05**2) - 0.5 * np.log(2 * np.pi * 0.05**2)
# my_bound = log_p.mean(axis=1) - np.log(17)
# my_log_mass = np.log(np.exp(log_p).mean(axis=1)) - np.log(17)
# check_dequantisation(my_bound, my_log_mass)
# assert 0 < my_log_mass[6] - my_bound[6] < 0.1 and my_log_mass[0] - my_bound[0] > 1
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
# - In the library: [continuous likelihoods](../tfvae/likelihoods/continuous.py),
#   [discrete ones](../tfvae/likelihoods/discrete.py),
#   [their distributions](../tfvae/distributions/discrete.py).
