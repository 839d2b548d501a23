# ---
# jupyter:
#   jupytext:
#     text_representation: {extension: .py, format_name: percent}
# ---

# %% [markdown]
# # 10. Series: gaps, forecasts and a ring of codes
#
# A series is an event of shape $[T, C]$: $T$ moments, $C$ numbers at each. The encoder now
# convolves along one axis instead of two, and that is all that changes. To know what a model
# *should* find, we measure something that we understand: a pendulum.
#
# ## Learning goals
#
# - Write $\log p(x|z)$ of a series as a sum over moments and channels.
# - See a model find out the noise of an instrument that nobody told it.
# - Find the physics in the codes: a phase is a point on a ring.
# - Fill a gap, and see that a forecast is a gap at the end.

# %%
import keras
import matplotlib.pyplot as plt
import numpy as np

import tfvae

keras.utils.set_random_seed(0)  # of the order in which `fit` takes events

# %% [markdown]
# ## A pendulum, measured with noise
#
# A pendulum that swings a little moves as $\cos(\omega t + \varphi)$, and its speed, in suitable
# units, as $-\sin(\omega t + \varphi)$. We measure both, the two channels, at 48 moments, each time
# with an error of standard deviation 0.1. Every recording is of another pendulum, with a frequency
# $\omega$ of its own, and starts at another phase $\varphi$. So behind the $48 \times 2$ numbers of
# a recording are just two.

# %%
random = np.random.default_rng(0)
T, noise = 48, 0.1


def swing(count):
    """Record pendulums: series `[count, T, 2]`, and what is behind them, `[count]` each."""
    omega = random.uniform(0.15, 0.35, count)
    phase = random.uniform(0, 2 * np.pi, count)
    angle = omega[:, None] * np.arange(T) + phase[:, None]
    clean = np.stack([np.cos(angle), -np.sin(angle)], axis=-1)
    return (clean + noise * random.normal(size=clean.shape)).astype("float32"), omega, phase


x_train, _, _ = swing(4000)
x_test, omega, phase = swing(500)
print("x_train", x_train.shape, "x_test", x_test.shape, "noise", noise)

# %%
figure, panels = plt.subplots(1, 3, figsize=(10, 2.6), sharey=True, layout="constrained")
for panel, x, w in zip(panels, x_test, omega, strict=False):
    panel.plot(x[:, 0], ".-", label="position")
    panel.plot(x[:, 1], ".-", label="speed")
    panel.set(title=f"ω = {w:.2f}", xlabel="moment t")
panels[0].set_ylabel("measured")
figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
plt.show()

# %% [markdown]
# ## The model
#
# Given $z$, what is left is the error of the instrument, which is independent from moment to
# moment. With the decoder's curve $g(z)$ of shape $[T, C]$,
#
# $$\log p(x|z) = \sum_{t=1}^{T} \sum_{c=1}^{C} \log \mathcal{N}(x_{tc};\, g_{tc}(z),\, \sigma^2).
# \tag{10.1}$$
#
# The scale $\sigma$ is learnt, one number for the whole model. Some stretches of the training
# series are hidden from the encoder, so that it gets used to gaps.

# %% tags=["parameters"] capped="epochs = 1"
epochs = 15

# %%
vae = tfvae.VAE.for_events(
    (T, 2),
    latent_dim=4,
    network="conv:filters=16x32,hidden=64",
    likelihood="normal:scale=learned",
    missing=True,
    seed=0,
)
z = vae.encode(x_test[:8]).sample(seed=1)
p = vae.decode(z)
curve, scale = p.mean().numpy(), p.stddev().numpy()
terms = -0.5 * ((x_test[:8] - curve) / scale) ** 2 - np.log(scale) - 0.5 * np.log(2 * np.pi)
# (10.1): a sum over moments and channels.
np.testing.assert_allclose(p.log_prob(x_test[:8]), terms.sum(axis=(1, 2)), rtol=1e-4)
print("g(z)", curve.shape, "log p(x|z)", p.log_prob(x_test[:8]).shape)

# %%
hidden = x_train.copy()
start, length = random.integers(0, T, len(hidden)), random.integers(0, 30, len(hidden))
moments = np.arange(T)
hidden[(moments >= start[:, None]) & (moments < (start + length)[:, None])] = np.nan
vae.compile(keras.optimizers.Adam(2e-3))
history = vae.fit(hidden, x_train, epochs=epochs, batch_size=128, verbose=0).history
found = vae.decode(np.zeros((1, 4), "float32")).stddev().numpy().mean()
print(f"ELBO, nats a series: {history['elbo'][0]:.1f} at first, {history['elbo'][-1]:.1f} now")
print(f"noise of the instrument {noise}, learnt {found:.3f}")

# %% [markdown]
# Nobody told the model how well the instrument measures. The learnt $\sigma$ is near the truth, and
# a little above it: what the decoder's curve misses counts as noise too.
#
# ## What is in the codes
#
# Look at the two latent numbers that carry the most nats, one point a recording. A phase of $2\pi$
# is the same as a phase of 0, so a code for it must come back to where it started: going round the
# middle of the left picture, the phase goes once through all of its colours. A straight line of
# codes could not do that. The frequency, on the right, is folded into the numbers that are left.

# %%
codes = vae.code(x_test).numpy()
kl = np.mean(tfvae.distributions.kl.kl_per_dimension(vae.encode(x_test), vae.prior), axis=0)
order = np.argsort(-kl)
print("nats of each latent number:", kl.round(2))
target = np.stack([np.cos(phase + omega * T / 2), np.sin(phase + omega * T / 2), omega], axis=1)
features = np.concatenate([np.ones((len(codes), 1)), codes, codes**2], axis=1)
residual = target - features @ np.linalg.lstsq(features, target, rcond=None)[0]
explained = 1 - residual.var(axis=0) / target.var(axis=0)
print("explained by the codes: cos {:.2f}, sin {:.2f}, frequency {:.2f}".format(*explained))

# %%
figure, panels = plt.subplots(1, 2, figsize=(9.5, 4), layout="constrained")
shown = {"phase in the middle": (phase + omega * T / 2) % (2 * np.pi), "frequency ω": omega}
pairs = (order[:2], order[[2, 0]])
for panel, (title, values), (a, b) in zip(panels, shown.items(), pairs, strict=True):
    colours = "twilight" if "phase" in title else "viridis"
    points = panel.scatter(codes[:, a], codes[:, b], c=values, cmap=colours, s=16)
    panel.set(title=f"coloured by the {title}", xlabel=f"z[{a}]", ylabel=f"z[{b}]")
    panel.set_aspect("equal")
    figure.colorbar(points, ax=panel)
plt.show()

# %% [markdown]
# ## Filling a gap, and forecasting
#
# Take away what lies between two moments: a gap. Take away what lies after a moment: the same thing
# is called a forecast. The weights are those of notebook 9: draws $z_k$ from $q(z|x_O)$, where $O$
# are the moments observed, and $w_k \propto p(x_O|z_k)\,p(z_k)/q(z_k|x_O)$,
#
# $$\mathbb{E}[x_{tc}|x_O] \approx \sum_k w_k\, g_{tc}(z_k), \qquad t \notin O. \tag{10.2}$$


# %%
def without(x, first, last):
    holes = x.copy()
    holes[:, first:last] = np.nan
    return holes


gap, future = without(x_test, 14, 34), without(x_test, 20, T)
terms = vae.terms(gap[:1], num_samples=10_000, seed=2)
weight = np.exp(terms.log_weight[:, 0] - np.max(terms.log_weight))
by_hand = np.tensordot(weight / weight.sum(), vae.decode(terms.z[:, 0]).mean().numpy(), axes=1)
filled = vae.impute(gap[:1], num_samples=10_000, seed=3).numpy()[0]
# (10.2), up to the noise of two sets of draws; what was observed stays as it was.
np.testing.assert_allclose(filled[14:34], by_hand[14:34], atol=0.15)
np.testing.assert_array_equal(filled[:14], x_test[0, :14])
print(f"by hand and by impute: at most {np.abs(filled - by_hand)[14:34].max():.3f} apart")

# %%
figure, panels = plt.subplots(2, 2, figsize=(10, 5), sharex=True, sharey=True, layout="constrained")
for row, (title, holes) in zip(panels, {"gap": gap, "forecast": future}.items(), strict=True):
    for panel, i in zip(row, (1, 4), strict=True):
        draws = vae.impute(holes[i : i + 1], draws=200, seed=4).numpy()[:, 0, :, 0]
        low, high = np.quantile(draws, [0.05, 0.95], axis=0)
        missing = np.isnan(holes[i, :, 0])
        panel.fill_between(
            moments, low, high, where=missing, color="C0", alpha=0.25, lw=0, label="90 % of draws"
        )
        mean = vae.impute(holes[i : i + 1], num_samples=200, seed=5).numpy()[0, :, 0]
        panel.plot(moments[missing], mean[missing], color="C0", label="expected")
        panel.plot(moments[~missing], x_test[i, ~missing, 0], "k.", label="observed")
        panel.plot(moments[missing], x_test[i, missing, 0], "x", color="C3", label="hidden")
        panel.set(title=title)
handles = panels[0, 0].get_legend_handles_labels()
figure.legend(*handles, loc="outside lower center", ncols=4)
for panel in panels[1]:
    panel.set_xlabel("moment t")
for panel in panels[:, 0]:
    panel.set_ylabel("position")
plt.show()

# %% [markdown]
# How wrong is it? At best the error is that of the instrument, 0.1, since nobody can foresee noise.
# The farther a forecast reaches, the more a small error of the frequency matters.

# %%
missing = slice(20, T)
forecast = vae.impute(future, num_samples=100, seed=6).numpy()
error = np.sqrt(np.mean((forecast - x_test)[:, missing] ** 2, axis=(0, 2)))
last = np.sqrt(np.mean((x_test[:, 19:20] - x_test[:, missing]) ** 2, axis=(0, 2)))
print("moments ahead: error of the forecast, and of repeating the last value seen")
for ahead in (1, 7, 14, 21, 28):
    print(f"{ahead:13}: {error[ahead - 1]:.2f}, {last[ahead - 1]:.2f}")
assert error.mean() < 0.5 * last.mean()

# %% [markdown]
# ## Exercises
#
# ### Exercise 1: a stranger
#
# A damped pendulum loses height: multiply the clean part of a series by
# $e^{-t/20}$. Does $-\mathrm{ELBO}$ tell such series from those of the kind the model knows? Make
# 500 of them, and write `answer_1`, the share of them whose score is above that of 95 % of
# `x_test`.

# %%
# Your answer to exercise 1.
answer_1 = None


# %%
def check_1(answer):
    assert 0.05 < answer <= 1, "more than chance, as a share"
    return "right"


print("exercise 1:", "no answer yet" if answer_1 is None else check_1(answer_1))

# %% [markdown]
# <details><summary>Solution</summary>
#
# No latent number of this model stands for damping. So the best curve that the decoder has misses
# the series by more than the noise, and in 96 numbers that adds up.
#
# ```python
# damped = x_test * np.exp(-moments / 20).astype("float32")[:, None]
# damped += (noise * random.normal(size=damped.shape)).astype("float32") * 0.5
# score_1 = -vae.elbo(x_test, num_samples=10, seed=7).elbo.numpy()
# score_2 = -vae.elbo(damped, num_samples=10, seed=7).elbo.numpy()
# answer_1 = float(np.mean(score_2 > np.quantile(score_1, 0.95)))
# print(f"caught {answer_1:.0%}")
# assert check_1(answer_1) == "right"
# ```
# </details>
#
# ### Exercise 2: how many numbers are behind it?
#
# The model has four latent numbers. How many of them carry
# at least 0.1 nats? And why are there more than the two of the physics? `answer_2` is their number.

# %%
# Your answer to exercise 2.
answer_2 = None


# %%
def check_2(answer):
    assert answer == int(np.sum(kl > 0.1))
    return "right"


print("exercise 2:", "no answer yet" if answer_2 is None else check_2(answer_2))

# %% [markdown]
# <details><summary>Solution</summary>
#
# All that the model has. A phase is one number, but a ring does not fit onto a line without being
# cut somewhere. In a plane it fits. So the phase takes two latent numbers, and the frequency at
# least one more; and since a code is not made to be tidy, the model spreads the two over everything
# it is given.
#
# ```python
# answer_2 = int(np.sum(kl > 0.1))
# assert check_2(answer_2) == "right" and answer_2 >= 3
# ```
# </details>

# %% [markdown]
# ## References
#
# - P.-A. Mattei and J. Frellsen (2019), *MIWAE: Deep generative modelling and imputation of
#   incomplete data sets*, [arXiv:1812.02633](https://arxiv.org/abs/1812.02633).
# - L. Girin et al. (2021), *Dynamical variational autoencoders*,
#   [arXiv:2008.12595](https://arxiv.org/abs/2008.12595): models in which $z$ moves with time too.
# - In this repository: [your own data](../docs/own_data.md), [holes](../docs/missing.md).
