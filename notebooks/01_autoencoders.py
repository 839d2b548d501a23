# ---
# jupyter:
#   jupytext:
#     text_representation: {extension: .py, format_name: percent}
# ---

# %% [markdown]
# # 1. Autoencoders: they compress and reconstruct, and cannot generate
#
# An autoencoder squeezes an image $x$ of $D$ numbers through a code $z$ of $d \ll D$ numbers and
# back. This notebook trains some, holds them against PCA, and then asks of one what a generative
# model must do: make an image that was not there before. It fails, and the reason can be seen. The
# variational autoencoder of the next notebooks is what mends it.
#
# ## Learning goals
#
# - Encoder, code, decoder: what each is, with its shape, and what the training minimises.
# - PCA as the best linear autoencoder, and what the nonlinear one gains.
# - Why a plain autoencoder cannot generate: nothing shapes its latent space, which has holes.
# - Explicit and implicit models of a density, and where autoencoders, VAEs and GANs stand.

# %% [markdown]
# ## The images
#
# The digits of scikit-learn, $8 \times 8$ pixels, are in the package. The environment variable
# `TFVAE_MNIST` may name a folder of MNIST's four IDX files instead, or be `mnist` to download them.
# The cell tagged `parameters` decides how long the trainings below are.

# %%
import math
import os

import keras
import matplotlib.pyplot as plt
import numpy as np
from sklearn.neighbors import NearestNeighbors

import tfvae

plt.rcParams["figure.dpi"] = 72
plt.close(plt.figure())  # from its first figure on, Jupyter shows those of the library too
data = tfvae.datasets.load(os.environ.get("TFVAE_MNIST", "digits"), seed=0)
train = data.train.subset(20_000)
x_train, labels_train = train.arrays()
x_test, labels_test = data.test.arrays(limit=2000)
D = math.prod(data.image_shape)
print(f"{len(x_train)} training and {len(x_test)} test images; D = {D} pixels, from 0 to 1")

# %%
tfvae.plotting.image_grid(x_train[:24], columns=12)

# %% tags=["parameters"] capped="steps = 500"
steps = 2000  # optimiser steps of each training, 128 images a step

# %% [markdown]
# ## Encoder, code, decoder
#
# An *encoder* $f$ maps the image to its code $z = f(x) \in \mathbb{R}^d$, a *decoder* $g$ maps the
# code back to an image $\hat x = g(z) \in \mathbb{R}^D$. Both are networks, here of dense layers,
# and they are trained together so that $\hat x$ comes close to $x$. Nobody says what the code
# should be: it is whatever helps.
#
# ![Autoencoder: image, encoder, code, decoder, image](figures/autoencoder.svg)

# %%
sigma = 0.4


def new_autoencoder(d):
    return tfvae.Autoencoder.for_images(
        data.image_shape,
        latent_dim=d,
        network="dense:hidden=256x128",
        likelihood=f"normal:scale={sigma}",
        seed=0,
    )


ae = new_autoencoder(2)
z = ae.code(x_test[:5])
x_hat = ae.reconstruct(x_test[:5])
print("x    ", x_test[:5].shape)
print("z    ", z.shape)
print("x hat", x_hat.shape)
assert z.shape == (5, 2) and x_hat.shape == (5, *data.image_shape)

# %% [markdown]
# ## The loss is the squared error
#
# The library writes the loss as a log-likelihood, since the VAE will need one. With a Gaussian
# $p(x|z) = \mathcal{N}(x;\, g(z),\, \sigma^2 I)$ of fixed $\sigma$,
#
# $$-\log p(x|z) = \frac{1}{2\sigma^2}\,\lVert x - g(z)\rVert^2 + \frac{D}{2}\log 2\pi\sigma^2 ,$$
#
# and to minimise it is to minimise the squared error: $\sigma$ only scales it, and the second term
# is a constant. The next cell computes both sides.

# %%
squared = np.sum(np.square(x_test[:5] - x_hat), axis=(1, 2, 3))
by_hand = squared / (2 * sigma**2) + D / 2 * np.log(2 * np.pi * sigma**2)
by_model = -ae.decode(z).log_prob(x_test[:5]).numpy()
print("by hand ", by_hand.round(3), "nats")
print("by model", by_model.round(3), "nats")
np.testing.assert_allclose(by_model, by_hand, rtol=1e-4)  # rounding of D float32 terms

# %% [markdown]
# ## PCA, the linear autoencoder
#
# Let both $f$ and $g$ be linear. The best they can do is known in closed form: subtract the mean,
# and project on the $d$ eigenvectors of the covariance with the largest eigenvalues. That is
# principal component analysis,
#
# $$z = U_d^\top (x - \bar x), \qquad \hat x = \bar x + U_d\, z ,$$
#
# and on the data it was made from its mean squared error is the sum of the eigenvalues that were
# left out,
#
# $$\frac{1}{N}\sum_n \lVert x_n - \hat x_n\rVert^2 = \sum_{i > d} \lambda_i .$$

# %%
flat = x_train.reshape(-1, D).astype("float64")
mean = flat.mean(axis=0)
eigenvalues, U = np.linalg.eigh(np.cov(flat.T, bias=True))  # in ascending order
eigenvalues, U = eigenvalues[::-1], U[:, ::-1]


def pca_reconstruct(x, d):
    centred = x.reshape(-1, D) - mean
    return (mean + centred @ U[:, :d] @ U[:, :d].T).reshape(x.shape)


for d in (2, 8, 32):
    error = np.mean(np.sum(np.square(x_train - pca_reconstruct(x_train, d)), axis=(1, 2, 3)))
    print(f"d = {d:2}: squared error {error:.4f}, eigenvalues left out {eigenvalues[d:].sum():.4f}")
    np.testing.assert_allclose(error, eigenvalues[d:].sum(), rtol=1e-6)

# %% [markdown]
# ## Three sizes of the code
#
# The same networks with $d = 2$, $8$ and $32$. Each training step takes a batch of images,
# computes the loss, and moves all the weights of $f$ and $g$ a little against its gradient.


# %%
def trained(model):
    model.compile(keras.optimizers.Adam(2e-3))
    batches = tfvae.datasets.Batches(train, 128, shuffle=True)
    epochs = math.ceil(steps / len(batches))
    tfvae.training.train(model, batches, epochs=epochs, progress=False)
    return model


def squared_errors(x, x_hat):
    return np.mean(np.square(x - np.asarray(x_hat)), axis=(1, 2, 3))


def mean_and_error(values):
    return values.mean(), values.std(ddof=1) / math.sqrt(len(values))


before = squared_errors(x_test, ae.reconstruct(x_test))
sizes = [2, 8, 32]
autoencoders = {d: trained(new_autoencoder(d)) for d in sizes}
by_ae = {d: squared_errors(x_test, autoencoders[d].reconstruct(x_test)) for d in sizes}
by_pca = {d: squared_errors(x_test, pca_reconstruct(x_test, d)) for d in sizes}

print("mean squared error a pixel, test images (± standard error over images)")
print(f"untrained, d = 2: {before.mean():.4f}\n")
print(" d   numbers kept   autoencoder         PCA")
for d in sizes:
    (m_ae, e_ae), (m_pca, e_pca) = mean_and_error(by_ae[d]), mean_and_error(by_pca[d])
    print(f"{d:2}   1 of {D / d:5.1f}    {m_ae:.4f} ± {e_ae:.4f}   {m_pca:.4f} ± {e_pca:.4f}")
assert by_ae[2].mean() < before.mean()
assert by_ae[2].mean() < by_pca[2].mean()

# %% [markdown]
# At $d = 2$ the autoencoder is far ahead: a plane through the middle of the images is a poor
# summary of ten kinds of digits, and a surface that may bend follows them better. With $d$ close to
# $D$ there is little left to gain: PCA's error falls to zero at $d = D$, and well before that it
# may be ahead of a network that has to learn even to copy.
#
# The *bottleneck* is what makes this compression. With $d = D$ the identity would do, and nothing
# would be learned. (To count bits one would have to round the codes as well; each is a float here.)

# %%
figure, axes = plt.subplots(figsize=(6, 3.6), layout="constrained")
for name, errors, style in (("PCA", by_pca, "s--"), ("autoencoder", by_ae, "o-")):
    means, bars = zip(*(mean_and_error(errors[d]) for d in sizes), strict=True)
    axes.errorbar(sizes, means, 2 * np.array(bars), fmt=style, capsize=3, label=name)
axes.set(
    xscale="log",
    xlabel="size of the code, d",
    ylabel="mean squared error a pixel",
    title="test images (bars: two standard errors)",
)
axes.set_xticks(sizes, sizes)
axes.minorticks_off()
axes.grid(alpha=0.3)
axes.legend()
plt.show()

# %%
shown = x_test[:10]
rows = {"original": shown}
for d in sizes:
    rows[f"autoencoder, d = {d}"] = autoencoders[d].reconstruct(shown)
    rows[f"PCA, d = {d}"] = pca_reconstruct(shown, d)
tfvae.plotting.image_rows(np.stack([np.asarray(row) for row in rows.values()]), list(rows))

# %% [markdown]
# Look at the second row. With two numbers an image the autoencoder draws a clean digit, at times
# the wrong one: it has learned what digits look like. PCA's third row are smears of the mean.
#
# ## Can it make a new digit?
#
# A generative model is a recipe for new images: draw a $z$, decode it. The decoder is there. What
# is missing is a distribution to draw $z$ from, and the library says so.

# %%
ae = autoencoders[2]
try:
    ae.sample(8)
except tfvae.InputError as error:
    print(error)
else:
    raise AssertionError("an autoencoder gave samples")

# %% [markdown]
# So draw with a $z$ of our own. But where? With $d = 2$ all the codes can be seen in one picture:
# a point for each training image, in the colour of its digit. The network has never seen the
# labels. The dashed box is the smallest that holds all codes; the circles are where
# $\mathcal{N}(0, I)$ has its mass, out to one, two and three standard deviations.

# %%
codes = ae.code(x_train).numpy()
low, high = codes.min(axis=0), codes.max(axis=0)


def draw_codes(axes, codes, labels, title):
    for label in np.unique(labels):
        chosen = codes[labels == label][:250]
        axes.scatter(*chosen.T, s=4, linewidths=0, color=f"C{label}", label=str(label))
    for radius in (1, 2, 3):
        axes.add_patch(plt.Circle((0, 0), radius, fill=False, color="black", lw=1))
    axes.set(xlabel="z[0]", ylabel="z[1]", title=title)
    axes.legend(markerscale=4, fontsize=7, title="digit", loc="upper right")


figure, axes = plt.subplots(figsize=(6.5, 6), layout="constrained")
draw_codes(axes, codes, labels_train, "codes of the autoencoder")
axes.add_patch(plt.Rectangle(low, *(high - low), fill=False, ls="--", color="black"))
axes.set_aspect("equal")
plt.show()
for i in range(2):
    print(f"z[{i}]: mean {codes[:, i].mean():6.2f}, standard deviation {codes[:, i].std():5.2f}")

# %% [markdown]
# The codes lie where they like, in arms and islands with empty land between and around them. That
# they are of the order of one is the doing of the initial weights alone.
#
# ## Nothing shapes the latent space
#
# The loss has no say in it. Let $T$ be any invertible map. The encoder $T \circ f$ with the decoder
# $g \circ T^{-1}$ gives the same reconstructions, for
#
# $$(g \circ T^{-1})\big((T \circ f)(x)\big) = g(f(x)) ,$$
#
# and so the same loss. Take $T(z) = 10\,z$: multiply the last weights of the encoder by ten and
# divide the first ones of the decoder by ten. All the codes are ten times as far out, and the loss
# does not see it.

# %%
last, first = ae.bottleneck, ae.decoder.layers[1]
weights = last.kernel.numpy(), last.bias.numpy(), first.kernel.numpy()

loss_before = ae.evaluate(x_test, verbose=0, return_dict=True)["loss"]
last.kernel.assign(10 * weights[0])
last.bias.assign(10 * weights[1])
first.kernel.assign(weights[2] / 10)
loss_after = ae.evaluate(x_test, verbose=0, return_dict=True)["loss"]
farther = ae.code(x_test).numpy()

last.kernel.assign(weights[0])  # and back
last.bias.assign(weights[1])
first.kernel.assign(weights[2])

print(f"loss before {loss_before:.3f}, after {loss_after:.3f} nats")
np.testing.assert_allclose(farther, 10 * ae.code(x_test).numpy(), rtol=1e-3, atol=1e-3)
np.testing.assert_allclose(loss_after, loss_before, rtol=1e-4)

# %% [markdown]
# ## Holes
#
# How far is it from a point of the box to the nearest code? Where it is far, no training image has
# ever asked the decoder for anything, and what it draws there is nobody's wish. The map shows that
# distance; the numbered points are the deepest holes, a little away from the border.

# %%
side = 80
lines = [np.linspace(low[i], high[i], side) for i in range(2)]
box = np.stack(np.meshgrid(*lines), axis=-1).reshape(-1, 2)
nearest_code = NearestNeighbors(n_neighbors=1).fit(codes)
depth = nearest_code.kneighbors(box)[0][:, 0]

inside = np.all(np.abs(box - (low + high) / 2) < 0.46 * (high - low), axis=1)
holes = []
for i in np.argsort(-depth * inside):
    # Not two of the same hole.
    if all(np.linalg.norm(box[i] - other) > 0.15 * np.linalg.norm(high - low) for other in holes):
        holes.append(box[i])
holes = np.array(holes[:8])

figure, axes = plt.subplots(figsize=(7, 5.6), layout="constrained")
extent = (low[0], high[0], low[1], high[1])
image = axes.imshow(depth.reshape(side, side), origin="lower", extent=extent, cmap="viridis")
axes.scatter(*codes[:2000].T, s=1, color="white", linewidths=0)
for number, (a, b) in enumerate(holes, start=1):
    axes.text(a, b, number, color="red", ha="center", va="center", weight="bold", clip_on=True)
axes.set(xlabel="z[0]", ylabel="z[1]", title="distance to the nearest code (white: codes)")
axes.set_aspect("auto")
figure.colorbar(image, ax=axes, label="distance in the latent space")
plt.show()

# %% [markdown]
# What does the decoder make of the holes? Below each decoded hole is the training image that is
# nearest to it, pixel by pixel.

# %%
nearest_image = NearestNeighbors(n_neighbors=1).fit(x_train.reshape(-1, D))


def decoded(model, z):
    """Images `[n, H, W, C]` of codes `[n, 2]`, clipped to what can be shown."""
    return np.clip(model.decode(z.astype("float32")).mean(), 0, 1)


pictures = decoded(ae, holes)
neighbours = nearest_image.kneighbors(pictures.reshape(-1, D))[1][:, 0]
tfvae.plotting.image_rows(
    np.stack([pictures, x_train[neighbours]]), ["decoded holes 1 to 8", "nearest training image"]
)

# %% [markdown]
# Walk over the whole box, from its lower left corner to the upper right one, and the picture is the
# same: where codes are there are digits, between the colours of the map the decoder mixes two of
# them, and out in the holes it goes on with whatever its weights happen to do.

# %%
side = 9
lines = [np.linspace(low[i], high[i], side) for i in range(2)]
grid = np.stack(np.meshgrid(*lines), axis=-1)[::-1]  # the highest z[1] is the top row
tfvae.plotting.image_grid(decoded(ae, grid.reshape(-1, 2)), columns=side)

# %% [markdown]
# The two obvious ways to draw a $z$ are evenly from the box, and from $\mathcal{N}(0, I)$ as a VAE
# would. In the row "codes times 10" the same noise goes into the autoencoder whose codes lie ten
# times as far out, which decodes $g(z / 10)$: of equal loss, with equal reconstructions, and every
# draw is much the same picture.

# %%
n = 256
rng = np.random.default_rng(0)
deepest = box[np.argsort(-depth)[:n]]
draws = {
    "codes of test images": ae.code(x_test[:n]).numpy(),
    "evenly from the box": rng.uniform(low, high, (n, 2)),
    "from N(0, I)": rng.normal(size=(n, 2)),
}
draws["N(0, I), codes times 10"] = draws["from N(0, I)"] / 10
draws["the deepest holes"] = deepest
tfvae.plotting.image_rows(np.stack([decoded(ae, z[:12]) for z in draws.values()]), list(draws))

# %% [markdown]
# As numbers: the distance of a point to the nearest code of a training image; the distance of the
# decoded picture to the nearest training image (root mean square over pixels, each from 0 to 1);
# and how much the pictures of a row differ (standard deviation of a pixel, mean over pixels). A
# decoded hole is farther from every real digit than the reconstruction of a digit that the
# autoencoder has never seen.


# %%
def image_distances(images):
    return nearest_image.kneighbors(images.reshape(-1, D))[0][:, 0] / math.sqrt(D)


def clearly_above(a, b):
    """Whether the mean of `a` is above that of `b` by more than three standard errors."""
    (m_a, e_a), (m_b, e_b) = mean_and_error(a), mean_and_error(b)
    return m_a - m_b > 3 * math.hypot(e_a, e_b)


far, variety = {}, {}
print("z                         nearest code   nearest image     variety")
for name, z in draws.items():
    pictures = decoded(ae, z)
    far[name], variety[name] = image_distances(pictures), pictures.std(axis=0).mean()
    m, e = mean_and_error(far[name])
    latent = nearest_code.kneighbors(z)[0].mean()
    print(f"{name:25} {latent:12.3f}   {m:.4f} ± {e:.4f}   {variety[name]:.4f}")
assert clearly_above(far["the deepest holes"], far["codes of test images"])
assert variety["N(0, I), codes times 10"] < variety["codes of test images"]

# %% [markdown]
# ## Explicit and implicit models
#
# To generate is to draw from a distribution that is close to the one the data came from. Models
# differ in what they know of that distribution. An *explicit* model has a formula for the density
# $p(x)$, *tractable* where it can be computed and *approximate* where it has to be bounded; an
# *implicit* one only draws from it.
#
# ![Map of generative models](figures/generative_models.svg)
#
# | | model and its $p(x)$ | $\log p(x)$ | draws |
# | --- | --- | --- | --- |
# | tractable | autoregressive: $\prod_i p(x_i \mid x_{<i})$ | exact | pixel by pixel |
# | tractable | flow $x = g(z)$: $p(z)\,\lvert\det \partial z/\partial x\rvert$ | exact | one pass |
# | approximate | **VAE**: $\int p(x \mid z)\,p(z)\,dz$ | lower bound | one pass |
# | approximate | diffusion: the same with a chain of $z$ | lower bound | many passes |
# | implicit | GAN, $x = g(z)$, $g$ trained against a critic: no formula | none | one pass |
# | neither | plain autoencoder | none | none |
#
# A GAN's generator looks just like our decoder. The difference is in the training: the GAN draws
# $z$ from $p(z)$ all the time and is told when the picture is no good, so it has no holes where
# $p(z)$ has mass. It has no encoder, and no way to say how probable a given image is. The VAE keeps
# encoder and decoder and pays with an integral that it can only bound: the next notebook derives
# that bound.
#
# ## Outlook: the same networks as a VAE
#
# The VAE changes two things. The encoder gives a distribution $q(z|x) = \mathcal{N}(\mu, \sigma^2)$
# in place of a point, and a draw of it is decoded: so that neighbours of a code must decode to much
# the same image. And a second term of the loss, $\mathrm{KL}(q(z|x) \,\|\, p(z))$, pulls these
# distributions towards $p(z) = \mathcal{N}(0, I)$: so that the codes gather where the draws will
# come from. Networks, likelihood, data and number of steps are those of before.

# %%
vae = trained(
    tfvae.VAE.for_images(
        data.image_shape,
        latent_dim=2,
        network="dense:hidden=256x128",
        likelihood=f"normal:scale={sigma}",
        seed=0,
    )
)
manifold = vae.decode(tfvae.plotting.quantile_grid(10)).mean()
tfvae.plotting.latent_map(vae.code(x_test[:1500]), labels_test[:1500], manifold)

# %% [markdown]
# The codes are gathered around zero now, and at equal steps of the quantiles of $p(z)$ there is a
# digit everywhere, or the turn of one into another. How well does a cloud of codes fit
# $\mathcal{N}(0, I)$? The KL of a Gaussian with the cloud's mean and variance in each dimension
# says so: it is zero where the mean is zero and the variance one.


# %%
def mismatch(codes):
    """KL(N(mean, variance of the codes) ‖ N(0, 1)) summed over dimensions, nats."""
    return (
        tfvae.distributions.kl.gaussian_kl(codes.mean(axis=0), np.log(codes.var(axis=0)))
        .numpy()
        .sum()
    )


vae_codes = vae.code(x_train).numpy()
print(f"autoencoder {mismatch(codes):.2f} nats, VAE {mismatch(vae_codes):.2f} nats")
assert mismatch(vae_codes) < mismatch(codes)

# %% [markdown]
# Now a draw from $p(z)$ lands among the codes, and decodes to a digit. The same noise went into
# both rows.

# %%
noise = draws["from N(0, I)"]
tfvae.plotting.image_rows(
    np.stack([decoded(ae, noise[:12]), decoded(vae, noise[:12])]), ["autoencoder", "VAE"]
)

# %%
vae_far = image_distances(decoded(vae, noise))
print("decoded picture to the nearest training image, z from N(0, I)")
for name, values in (("autoencoder", far["from N(0, I)"]), ("VAE", vae_far)):
    m, e = mean_and_error(values)
    print(f"  {name:12} {m:.4f} ± {e:.4f}")
assert clearly_above(far["the deepest holes"], vae_far)

# %% [markdown]
# And unlike the autoencoder it is a model of a density: it says how probable an image is, as a
# bound (ELBO) and, with more draws of $z$, closely (log p). Both are of the same test images, in
# nats. (It is a density over $D$ pixels: its size depends on $\sigma$ and means little by itself.)

# %%
some = data.test.subset(200).batches(100)
estimate = tfvae.evaluation.log_prob(vae, some, num_samples=100, seed=0)
print(f"ELBO  {estimate.elbo.elbo:8.2f} ± {estimate.elbo.standard_error:.2f}")
print(f"log p {estimate.log_prob:8.2f} ± {estimate.standard_error:.2f}")
assert estimate.elbo.elbo < estimate.log_prob

# %% [markdown]
# ## Exercises
#
# **1. No linear autoencoder beats PCA.** Make one: an encoder that only flattens (the model adds
# the dense layer of the code) and a decoder of one dense layer without activation. Train it with
# $d = 8$ and compare its squared error on the training images with PCA's. Which of the two must be
# smaller, and why?
#
# <details><summary>Solution</summary>
#
# ```python
# encoder = keras.Sequential([keras.Input(data.image_shape), keras.layers.Flatten()])
# decoder = keras.Sequential(
#     [keras.Input((8,)), keras.layers.Dense(D), keras.layers.Reshape(data.image_shape)]
# )
# linear = tfvae.Autoencoder(encoder, decoder, 8, likelihood=f"normal:scale={sigma}", seed=0)
# trained(linear)
# linear_error = squared_errors(x_train, linear.reconstruct(x_train)).mean()
# pca_error = squared_errors(x_train, pca_reconstruct(x_train, 8)).mean()
# # Its reconstructions lie in a plane of 8 dimensions, and of all such planes PCA's has the least
# # squared error (Eckart and Young). Training can come close to it, and not below.
# assert pca_error < linear_error * (1 + 1e-5)
# ```
#
# </details>
#
# **2. Mend it afterwards.** A plain autoencoder lacks a distribution of codes, so fit one: a
# mixture of Gaussians to the training codes, with `sklearn.mixture.GaussianMixture`. Draw from it
# and decode. Are the draws nearer to the codes, and the pictures nearer to digits, than those from
# the box? What does such a model still not have?
#
# <details><summary>Solution</summary>
#
# ```python
# from sklearn.mixture import GaussianMixture
#
# mixture = GaussianMixture(20, random_state=0).fit(codes)
# drawn, _ = mixture.sample(n)
# assert clearly_above(
#     nearest_code.kneighbors(draws["evenly from the box"])[0], nearest_code.kneighbors(drawn)[0]
# )
# assert clearly_above(far["evenly from the box"], image_distances(decoded(ae, drawn)))
# # It generates, and has no density of images: what it draws is a surface of two dimensions among
# # D. Ghosh et al. (2020) do this on purpose; `tfvae.evaluation.expost` fits such densities to a
# # VAE.
# ```
#
# </details>
#
# **3. How far is a code allowed to move?** Take the codes of the test images, move each by a tenth
# of the cloud's standard deviation, and measure how much the decoded pictures change, for the
# autoencoder and for the VAE. Then move the VAE's by the standard deviation of its own $q(z|x)$: by
# how much did the reconstruction error rise?
#
# <details><summary>Solution</summary>
#
# ```python
# step = np.random.default_rng(1).normal(size=(len(x_test), 2))
# for name, model, cloud in (("autoencoder", ae, codes), ("VAE", vae, vae_codes)):
#     z = model.code(x_test).numpy()
#     moved = decoded(model, z + 0.1 * cloud.std(axis=0) * step)
#     print(name, squared_errors(decoded(model, z), moved).mean())
# q = vae.encode(x_test)
# still = squared_errors(x_test, decoded(vae, q.mean().numpy()))
# moved = squared_errors(x_test, decoded(vae, (q.mean() + q.stddev() * step).numpy()))
# # It was trained on just such draws. They cost a little: the mean is the better code.
# assert still.mean() < moved.mean() < before.mean()
# ```
#
# </details>
#
# ## References
#
# - G. Hinton and R. Salakhutdinov (2006), *Reducing the dimensionality of data with neural
#   networks*, Science 313, https://doi.org/10.1126/science.1127647: autoencoders beside PCA.
# - P. Baldi and K. Hornik (1989), *Neural networks and principal component analysis*,
#   https://doi.org/10.1016/0893-6080(89)90014-2: the linear autoencoder finds PCA's subspace.
# - I. Goodfellow (2016), *NIPS 2016 tutorial: generative adversarial networks*,
#   https://arxiv.org/abs/1701.00160, section 2: the taxonomy of explicit and implicit models.
# - S. Mohamed and B. Lakshminarayanan (2016), *Learning in implicit generative models*,
#   https://arxiv.org/abs/1610.03483.
# - A. van den Oord et al. (2016), *Pixel recurrent neural networks*,
#   https://arxiv.org/abs/1601.06759; L. Dinh et al. (2017), *Density estimation using Real NVP*,
#   https://arxiv.org/abs/1605.08803; J. Ho et al. (2020), *Denoising diffusion probabilistic
#   models*, https://arxiv.org/abs/2006.11239; I. Goodfellow et al. (2014), *Generative adversarial
#   networks*, https://arxiv.org/abs/1406.2661: one model of each kind.
# - D. Kingma and M. Welling (2014), *Auto-encoding variational Bayes*,
#   https://arxiv.org/abs/1312.6114.
# - P. Ghosh et al. (2020), *From variational to deterministic autoencoders*,
#   https://arxiv.org/abs/1903.12436, section 4: a density fitted to the codes afterwards.
# - In the library: [`autoencoder.py`](../tfvae/models/autoencoder.py),
#   [`networks/`](../tfvae/networks), [`vae.py`](../tfvae/models/vae.py),
#   [`expost.py`](../tfvae/evaluation/expost.py). Next: `02_elbo_from_scratch`, where the bound is
#   derived.
