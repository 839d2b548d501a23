# ---
# jupyter:
#   jupytext:
#     text_representation: {extension: .py, format_name: percent}
# ---

# %% [markdown]
# # 1. Autoencoders: they compress and reconstruct, and cannot generate
#
# An image of a digit has hundreds of numbers, but it takes far fewer to describe it. An autoencoder
# finds such a description by itself: it squeezes an image $x$ of $D$ numbers through a *code* $z$
# of $d$ numbers, with $d$ much smaller than $D$, and learns to make the image again from the code.
#
# This notebook trains some, and then asks one for what a generative model must do: make an image
# that was not there before. It fails, and we shall see why. The last part changes two things about
# it. What comes out is a variational autoencoder, a VAE, which does generate: here as a whole, in
# forty lines of Keras. The notebooks after this one derive each of those lines. A number in
# brackets, such as $(1.2)$, marks an equation; the cell that checks it has the same number.
#
# ## Learning goals
#
# - Say why 784 numbers are not needed for a digit: noise images, and the spectrum.
# - Name the three parts of an autoencoder, and read its loss as lost information.
# - Know PCA as the best linear autoencoder.
# - Say why an autoencoder cannot generate: nothing shapes its latent space, which has holes.
# - Read a VAE in forty lines.
# - Tell explicit from implicit generative models, and say where the VAE and the GAN stand.

# %%
import math

import keras
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf
from sklearn.neighbors import NearestNeighbors
from tensorflow_probability import distributions as tfd

import tfvae

keras.utils.set_random_seed(0)
rng = np.random.default_rng(0)

# %% [markdown]
# The images are 12,000 of MNIST's handwritten digits, which come with the package. The library
# loads them and draws them; apart from that this notebook does without it until its end.

# %%
data = tfvae.datasets.load("mnist-small", binarize="none")
x_train, labels_train = data.train.arrays()  # [N, 28, 28, 1], values from 0 to 1
x_test, labels_test = data.test.arrays()
D = math.prod(x_train.shape[1:])
print(f"{len(x_train)} training and {len(x_test)} test images; D = {D} pixels, from 0 to 1")
tfvae.plotting.image_grid(x_train[:24], columns=12)

# %% tags=["parameters"] capped="epochs = 5"
epochs = 12  # of each training

# %% [markdown]
# ## Do we need 784 numbers?
#
# A vector of 784 numbers can be any picture of $28 \times 28$ pixels at all. If digits needed all
# that freedom, a picture drawn at random would have a fair chance to be one. Look at three kinds of
# noise:
#
# - each pixel drawn from all grey values in the data, wherever they stood;
# - each pixel drawn from the grey values that *this* pixel has in the data, so that the mean image
#   is right;
# - a Gaussian with the mean *and the covariance* of the data, so that any two pixels go together as
#   they do in digits.


# %%
flat = x_train.reshape(-1, D).astype("float64")
mean = flat.mean(axis=0)
covariance = np.cov(flat.T, bias=True)
eigenvalues, U = np.linalg.eigh(covariance)  # in ascending order
eigenvalues, U = np.maximum(eigenvalues[::-1], 0), U[:, ::-1]

n = 500
noises = {
    "any grey value": rng.choice(flat.ravel(), (n, D)),
    "this pixel's grey values": flat[rng.integers(len(flat), size=(n, D)), np.arange(D)],
    "mean and covariance": mean + rng.normal(size=(n, D)) * np.sqrt(eigenvalues) @ U.T,
}
noises = {name: np.clip(images, 0, 1).reshape(n, 28, 28, 1) for name, images in noises.items()}
rows = [*(images[:12] for images in noises.values()), x_test[:12]]
tfvae.plotting.image_rows(np.stack(rows), [*noises, "real digits"])

# %% [markdown]
# None of them is a digit, not even in the third row. Two numbers measure "is a digit", and we shall
# use them again.
#
# - **Distance** to the nearest training image, as the root mean square over pixels.
# - **Among digits**: find the nearest of 4,000 training images. Is the picture as near to it as
#   that image's own third neighbour is? The share of pictures for which this is so.
#
# Real test images are the standard for both: a picture should be about as near to the data as
# *they* are, and as often among digits.


# %%
nearest = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(x_train.reshape(-1, D))
centres = x_train[:4000].reshape(-1, D)
around = NearestNeighbors(n_neighbors=4, algorithm="brute").fit(centres)
radii = around.kneighbors(centres)[0][:, 3]  # the nearest to each is itself


def measured(images):
    """The distance of each image, and whether it is among digits, 0 or 1."""
    flat_images = np.asarray(images).reshape(-1, D)
    distances, indices = around.kneighbors(flat_images, n_neighbors=1)
    within = distances[:, 0] <= radii[indices[:, 0]]
    return nearest.kneighbors(flat_images)[0][:, 0] / math.sqrt(D), within.astype(float)


def mean_and_error(values):
    return values.mean(), values.std(ddof=1) / math.sqrt(len(values))


def report(name, images):
    """Print both measures with their standard errors, and return the two arrays."""
    both = measured(images)
    (far, far_error), (among, its_error) = (mean_and_error(values) for values in both)
    print(f"{name:42} {far:8.3f} ± {far_error:.3f} {among:12.3f} ± {its_error:.3f}")
    return both


def clearly_above(a, b):
    """Whether the mean of `a` is above that of `b` by more than four standard errors."""
    (m_a, e_a), (m_b, e_b) = mean_and_error(a), mean_and_error(b)
    return m_a - m_b > 4 * math.hypot(e_a, e_b)


HEAD = f"{'':42} {'distance':>16} {'among digits':>20}"
print(HEAD)
real = report("real digits", x_test[:n])
for name, images in noises.items():
    noise_measures = report(f"noise: {name}", images)
    assert clearly_above(noise_measures[0], real[0]) and clearly_above(real[1], noise_measures[1])

# %% [markdown]
# So digits are a tiny part of all pictures. How many numbers *do* they need? A first answer is the
# **spectrum** of the data: the eigenvalues $\lambda_1 \ge \lambda_2 \ge \dots$ of the covariance of
# the pixels. The $d$ directions with the largest eigenvalues hold the share
#
# $$r(d) = \frac{\sum_{i \le d} \lambda_i}{\sum_{i \le D} \lambda_i} \tag{1.1}$$
#
# of all variance. If all pixels were independent and alike, each direction would hold $1/D$ of it.

# %%
share = np.cumsum(eigenvalues) / eigenvalues.sum()
projected = (flat - mean) @ U[:, :50]
by_projection = projected.var(axis=0).sum() / flat.var(axis=0).sum()
print(f"50 directions: share by eigenvalues {share[49]:.6f}, measured {by_projection:.6f}")
np.testing.assert_allclose(share[49], by_projection, rtol=1e-6)  # (1.1)
for wanted in (0.5, 0.9, 0.95, 0.99):
    print(f"{wanted:.0%} of the variance: {np.searchsorted(share, wanted) + 1} of {D} directions")
white = rng.choice(flat.ravel(), flat.shape)  # as many noise images as digits
noise_values = np.linalg.eigvalsh(np.cov(white.T, bias=True))[::-1]

figure, axes = plt.subplots(1, 2, figsize=(9, 3), layout="constrained")
axes[0].plot(np.arange(1, D + 1), eigenvalues, label="digits")
axes[0].plot(np.arange(1, D + 1), noise_values, label="noise: any grey value")
axes[0].set(yscale="log", ylim=(1e-4, 10), xlabel="direction", ylabel="variance")
axes[0].set_title("spectrum")
axes[0].legend()
axes[1].plot(np.arange(1, D + 1), share, label="digits")
axes[1].plot(np.arange(1, D + 1), np.arange(1, D + 1) / D, "--", label="if all were alike")
axes[1].set(xscale="log", xlabel="directions kept, d", title="share of the variance, r(d)")
axes[1].legend()
plt.show()

# %% [markdown]
# > **Loosely said.** "A digit can be represented as a one-hot vector, so ten dimensions are
# > enough." A one-hot vector says *which* digit it is. It is a class, not a code of the image: from
# > the class alone one can make the mean image of that class, and no more. The slant, the
# > thickness, the writer are gone. Ten numbers *that describe the image* keep far more. The cell
# > compares how much of the variance is lost: by the one-hot vector, and by ten directions of the
# > spectrum.

# %%
class_means = np.stack([x_train[labels_train == digit].mean(axis=0) for digit in range(10)])


def lost_share(x, x_hat):
    """The squared error over the variance around the training mean."""
    around_mean = np.sum(np.square(x.reshape(-1, D) - mean))
    return np.sum(np.square(np.asarray(x) - np.asarray(x_hat))) / around_mean


def pca_reconstruct(x, d):
    centred = x.reshape(-1, D) - mean
    return (mean + centred @ U[:, :d] @ U[:, :d].T).reshape(x.shape)


by_class = lost_share(x_test, class_means[labels_test])
by_ten = lost_share(x_test, pca_reconstruct(x_test, 10))
print(f"lost of test images: by a one-hot vector {by_class:.1%}, by ten directions {by_ten:.1%}")
assert by_ten < by_class
shown = x_test[:10]
rows = [shown, class_means[labels_test[:10]], pca_reconstruct(shown, 10)]
tfvae.plotting.image_rows(np.stack(rows), ["original", "from one-hot", "from ten directions"])

# %% [markdown]
# ## The three parts of an autoencoder
#
# The idea of an autoencoder is to let the *reconstruction* decide what a good code is. It has three
# parts:
#
# 1. an **encoder** $f$, which makes of the image one single value for each dimension of the code,
#    $z = f(x) \in \mathbb{R}^d$;
# 2. a **decoder** $g$, which makes of the code an image again, $\hat x = g(z) \in \mathbb{R}^D$;
# 3. a **loss**, which compares $\hat x$ with $x$, here the mean of the squared error,
#
# $$\mathcal{L} = \frac{1}{N} \sum_{n=1}^{N} \Vert x_n - g(f(x_n)) \Vert^2 . \tag{1.2}$$
#
# ![Autoencoder: image, encoder, code, decoder, image](figures/autoencoder.svg)
#
# Encoder and decoder are networks, trained together, by the gradients of the loss. Nobody says what
# a dimension of the code should mean: it is whatever helps to reconstruct.

# %%
IMAGE = x_train.shape[1:]  # (28, 28, 1)


def networks(d, outputs=1):
    """An encoder with one output [B, d] or several, and a decoder; shapes [B, ...]."""
    keras.utils.set_random_seed(0)
    x = keras.Input(IMAGE)  # [B, 28, 28, 1]
    h = keras.layers.Flatten()(x)  # [B, 784]
    h = keras.layers.Dense(256, "relu")(h)  # [B, 256]
    h = keras.layers.Dense(128, "relu")(h)  # [B, 128]
    codes = [keras.layers.Dense(d)(h)]  # [B, d]
    encoder_ends = h
    z = keras.Input((d,))  # [B, d]
    h = keras.layers.Dense(128, "relu")(z)  # [B, 128]
    h = keras.layers.Dense(256, "relu")(h)  # [B, 256]
    pixels = keras.layers.Reshape(IMAGE)(keras.layers.Dense(D)(h))  # [B, 28, 28, 1]
    # Made last, so that the layers above start with the same weights with them or without.
    codes += [keras.layers.Dense(d)(encoder_ends) for _ in range(outputs - 1)]  # [B, d] each
    encoder = keras.Model(x, codes if outputs > 1 else codes[0])
    return encoder, keras.Model(z, pixels)


f, g = networks(2)
z = f(x_test[:5])
x_hat = g(z)
print("x    ", x_test[:5].shape)
print("z    ", z.shape)
print("x hat", x_hat.shape)
by_hand = np.mean(np.sum(np.square(x_test[:5] - x_hat), axis=(1, 2, 3)))
by_keras = D * float(np.mean(keras.losses.mean_squared_error(x_test[:5], x_hat)))
print(f"loss of the untrained networks: by hand {by_hand:.4f}, by Keras {by_keras:.4f}")
np.testing.assert_allclose(by_hand, by_keras, rtol=1e-5)  # (1.2); Keras takes the mean over pixels

# %% [markdown]
# ## The loss is lost information
#
# What the loss counts is what the code did not keep. For the *linear* autoencoder this is an
# equation. Let both $f$ and $g$ be linear. The best they can do is principal component analysis
# (PCA): subtract the mean, project on the $d$ eigenvectors $U_d$ with the largest eigenvalues,
#
# $$z = U_d^\top (x - \bar x), \qquad \hat x = \bar x + U_d z , \tag{1.3}$$
#
# and the loss is the sum of the eigenvalues that were left out. Kept and lost together are all the
# variance there is:
#
# $$\frac{1}{N} \sum_{n} \Vert x_n - \hat x_n \Vert^2 = \sum_{i > d} \lambda_i . \tag{1.4}$$

# %%
print("  d      kept      lost  eigenvalues left out    kept + lost")
for d in (2, 10, 50):
    x_hat = pca_reconstruct(x_train, d)  # (1.3)
    kept = ((flat - mean) @ U[:, :d]).var(axis=0).sum()
    lost = np.mean(np.sum(np.square(x_train - x_hat), axis=(1, 2, 3)))
    print(f"{d:3} {kept:9.4f} {lost:9.4f} {eigenvalues[d:].sum():21.4f} {kept + lost:14.4f}")
    np.testing.assert_allclose(lost, eigenvalues[d:].sum(), rtol=1e-5)  # (1.4)
    np.testing.assert_allclose(kept + lost, eigenvalues.sum(), rtol=1e-5)

# %% [markdown]
# Information is measured in nats (or bits). For that we need a density. With Gaussian noise of a
# fixed $\sigma$ around the reconstruction, the information in $x$ that is still missing once $z$ is
# known is
#
# $$-\log p(x \mid z) = \frac{1}{2 \sigma^2} \Vert x - g(z) \Vert^2
# + \frac{D}{2} \log 2 \pi \sigma^2 . \tag{1.5}$$
#
# To minimise it is to minimise the squared error: $\sigma$ scales it, and the second term is a
# constant. A VAE is trained with this form. (It is the information of a *density*, so it depends on
# the unit of the pixels and can be negative; its differences mean something.)

# %%
sigma = 0.4
squared = np.sum(np.square(x_test[:5] - g(z)), axis=(1, 2, 3))
by_hand = squared / (2 * sigma**2) + D / 2 * np.log(2 * np.pi * sigma**2)
by_tfp = -tfd.Independent(tfd.Normal(g(z), sigma), 3).log_prob(x_test[:5]).numpy()
print("by hand", by_hand.round(3), "nats")
print("by TFP ", by_tfp.round(3), "nats")
np.testing.assert_allclose(by_tfp, by_hand, rtol=1e-4)  # (1.5); rounding of D float32 terms

# %% [markdown]
# ## Training it, with codes of three sizes
#
# In each step a batch of 128 images goes through, and all the weights of $f$ and $g$ move a little
# against the gradient of the loss.


# %%
def squared_errors(x, x_hat):
    return np.mean(np.square(np.asarray(x) - np.asarray(x_hat)), axis=(1, 2, 3))


sizes = [2, 6, 16]
autoencoders, by_ae, by_pca = {}, {}, {}
for d in sizes:
    f, g = networks(d)
    model = keras.Sequential([f, g])
    model.compile(keras.optimizers.Adam(2e-3), "mse")
    model.fit(x_train, x_train, batch_size=128, epochs=epochs, verbose=0)
    autoencoders[d] = f, g
    by_ae[d] = squared_errors(x_test, g(f(x_test)))
    by_pca[d] = squared_errors(x_test, pca_reconstruct(x_test, d))
print("mean squared error a pixel, test images (± standard error over images)")
print(" d   numbers kept   autoencoder         PCA")
for d in sizes:
    (m_ae, e_ae), (m_pca, e_pca) = mean_and_error(by_ae[d]), mean_and_error(by_pca[d])
    print(f"{d:2}   1 of {D / d:5.1f}    {m_ae:.4f} ± {e_ae:.4f}   {m_pca:.4f} ± {e_pca:.4f}")
    assert d > 6 or m_ae < m_pca

shown = x_test[:10]
rows = {"original": shown}
for d in sizes:
    rows[f"autoencoder, d = {d}"] = autoencoders[d][1](autoencoders[d][0](shown))
    rows[f"PCA, d = {d}"] = pca_reconstruct(shown, d)
tfvae.plotting.image_rows(
    np.clip(np.stack([np.asarray(row) for row in rows.values()]), 0, 1), list(rows)
)

# %% [markdown]
# Look at the second and third row. With two numbers an image the autoencoder draws a clean digit,
# though at times the wrong one: it has learned what digits look like. PCA draws a blur. A flat
# plane through the middle of the images describes ten kinds of digits badly, and a surface that may
# bend follows them better. With sixteen numbers the autoencoder keeps most of what one sees.
#
# ## But what if we want to generate?
#
# If 16 numbers describe a digit, then other 16 numbers should describe another digit, one that
# nobody has written yet. A generative model is a recipe for new images: draw a $z$, decode it. We
# have a decoder. But which $z$? Nothing in the loss says. So let us draw from $N(0, I)$, the
# simplest distribution there is; and then, to be fair, from the Gaussian that has the mean and the
# covariance of the codes.

# %%
f, g = autoencoders[16]
codes = f.predict(x_train, verbose=0)
noise = rng.normal(size=(n, 16)).astype("float32")  # kept: the VAE below gets the same
fitted = codes.mean(axis=0) + noise @ np.linalg.cholesky(np.cov(codes.T)).T


def decoded(g, z):
    return np.clip(g(np.asarray(z, "float32")), 0, 1)


ae_draws = {
    "reconstructions of test digits": decoded(g, f(x_test[:n])),
    "z from N(0, I)": decoded(g, noise),
    "z from the fitted Gaussian": decoded(g, fitted),
}
print(HEAD)
report("real digits", x_test[:n])
ae_measures = {name: report(name, images) for name, images in ae_draws.items()}
assert clearly_above(real[1], ae_measures["z from N(0, I)"][1])
print(
    "\ncodes, dimensions 1 to 8: mean", codes.mean(0)[:8].round(1), "std", codes.std(0)[:8].round(1)
)
tfvae.plotting.image_rows(np.stack([images[:12] for images in ae_draws.values()]), list(ae_draws))

# %% [markdown]
# It cannot do it. Reconstructions are fine, and draws are scribbles, far fewer of them among digits
# than real ones are. The fault is not only that $N(0, I)$ has the wrong mean and width: the fitted
# Gaussian has the right ones, and in its row there still are scribbles.
#
# ## Nothing shapes the latent space
#
# The loss does not care where the codes lie. Let $T$ be any invertible map. The encoder $T \circ f$
# with the decoder $g \circ T^{-1}$ gives the same reconstructions,
#
# $$(g \circ T^{-1})\big((T \circ f)(x)\big) = g(f(x)) , \tag{1.6}$$
#
# and so the same loss. Take $T(z) = 10 z$: multiply the last weights of the encoder by ten and
# divide the first ones of the decoder by ten. All codes are ten times as far out, and the loss does
# not change.

# %%
last, first = f.layers[-1], g.layers[1]
kept = last.kernel.numpy(), last.bias.numpy(), first.kernel.numpy()
loss_before, near = squared_errors(x_test, g(f(x_test))).mean(), f(x_test).numpy()
last.kernel.assign(10 * kept[0])
last.bias.assign(10 * kept[1])
first.kernel.assign(kept[2] / 10)
loss_after, farther = squared_errors(x_test, g(f(x_test))).mean(), f(x_test).numpy()
for variable, value in zip((last.kernel, last.bias, first.kernel), kept, strict=True):
    variable.assign(value)  # and back

print(f"mean distance of codes from zero {np.linalg.norm(near, axis=1).mean():.2f}, ", end="")
print(f"then {np.linalg.norm(farther, axis=1).mean():.2f}")
print(f"squared error {loss_before:.6f}, then {loss_after:.6f}")
np.testing.assert_allclose(loss_after, loss_before, rtol=1e-4)  # (1.6)

# %% [markdown]
# ## Holes
#
# With $d = 2$ all the codes can be seen in one picture: a point for each training image, in the
# colour of its digit. (The network never saw the labels.) The codes lie in arms and islands, with
# empty land between them. Call a place a **hole** if it lies *among* the codes and yet farther from
# every training code than the codes of 99 of 100 test images are. It lies among the codes if,
# however a straight line is drawn through it, at least one code of a hundred is on either side.
# Hardly any image leads to a hole, so in training nobody told the decoder what to draw there. The
# crosses are the deepest holes; below them is what the decoder makes of them.

# %%
f2, g2 = autoencoders[2]
codes2, codes2_test = f2.predict(x_train, verbose=0), f2.predict(x_test, verbose=0)
low, high = codes2.min(axis=0), codes2.max(axis=0)
side = 120
lines = [np.linspace(low[i], high[i], side) for i in range(2)]
box = np.stack(np.meshgrid(*lines), axis=-1).reshape(-1, 2)
on_either_side = np.ones(len(box))  # the smaller share of codes, of all lines through a place
for angle in np.linspace(0, np.pi, 60, endpoint=False):
    across = np.array([np.cos(angle), np.sin(angle)])
    below = np.searchsorted(np.sort(codes2 @ across), box @ across) / len(codes2)
    on_either_side = np.minimum(on_either_side, np.minimum(below, 1 - below))
among = on_either_side >= 0.01
nearest_code = NearestNeighbors(n_neighbors=1).fit(codes2)
depth = nearest_code.kneighbors(box)[0][:, 0]
of_test = nearest_code.kneighbors(codes2_test)[0][:, 0]
usual = np.quantile(of_test, 0.99)
holes = []
for i in np.argsort(-depth * among):
    apart = [np.linalg.norm(box[i] - other) > 0.06 * np.linalg.norm(high - low) for other in holes]
    if len(holes) < 8 and among[i] and depth[i] > usual and all(apart):
        holes.append(box[i])
holes = np.array(holes)
hole_share = np.mean(depth[among] > usual)
print("distance of a test image's code to the nearest training code: ", end="")
print(f"median {np.median(of_test):.3f}, 99 of 100 are below {usual:.3f}")
print(
    f"deepest hole {depth[among].max():.3f}; {hole_share:.0%} of the area among the codes is holes"
)
assert len(holes) > 1

figure, axes = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained", sharex=True, sharey=True)
for digit in range(10):
    chosen = codes2[labels_train == digit][:150]
    axes[0].scatter(*chosen.T, s=5, linewidths=0, color=f"C{digit}", label=str(digit))
axes[0].legend(markerscale=4, title="digit", loc="upper left", bbox_to_anchor=(1, 1))
axes[0].set_title("codes of the autoencoder, d = 2")
shading = np.where(among, depth, np.nan).reshape(side, side)
drawn = axes[1].pcolormesh(*lines, shading, cmap="viridis", rasterized=True)
axes[1].plot(*holes.T, "x", color="red", ms=8, mew=2)
axes[1].set_title("distance to the nearest code; holes (x)")
figure.colorbar(drawn, ax=axes[1])
for axis in axes:
    axis.set(xlabel="z[0]", ylabel="z[1]")
    axis.grid(False)
plt.show()

# %%
pictures = decoded(g2, holes)
nearest_images = x_train[nearest.kneighbors(pictures.reshape(-1, D))[1][:, 0]]
print(HEAD)
report("reconstructions of test digits, d = 2", decoded(g2, codes2_test[:n]))
report("decoded holes, d = 2", pictures)
report("z from N(0, I), d = 2", decoded(g2, noise[:, :2]))
tfvae.plotting.image_rows(np.stack([pictures, nearest_images]), ["decoded holes", "nearest image"])

# %% [markdown]
# What the decoder draws in a hole is a mixture of the digits around. But with two dimensions the
# holes are small, and few draws from $N(0, I)$ hit one: in the last row of the table they are among
# digits about as often as real digits are. So an autoencoder with $d = 2$ seems able to generate.
# (Its digits are poor, since two numbers are too few.)
#
# With sixteen dimensions there is far more room between the codes. Take the codes of test images,
# the middle between the codes of two training images, and draws of $z$ from the two Gaussians. How
# far is each from the nearest training code, in units of what it is for a test image? And does
# encoding undo decoding there, $f(g(z)) = z$? The last column says how far $f(g(z))$ is from $z$,
# in units of the spread of the codes.

# %%
codes_test = f.predict(x_test[:n], verbose=0)
pairs = rng.integers(len(codes), size=(2, n))
middles = codes[pairs].mean(axis=0)
nearest_16 = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(codes)
places = {
    "codes of test images": codes_test,
    "middles of two training codes": middles,
    "z from the fitted Gaussian": fitted,
    "z from N(0, I)": noise,
}
unit = nearest_16.kneighbors(codes_test)[0].mean()
spread = np.sqrt(np.mean(np.var(codes, axis=0)) * 16)
print("d = 16                            nearest code    |f(g(z)) − z| / spread of the codes")
apart = {}
for name, where in places.items():
    moved = np.linalg.norm(f(g(where.astype("float32"))) - where, axis=1) / spread
    apart[name] = nearest_16.kneighbors(where)[0][:, 0] / unit
    print(f"{name:32} {apart[name].mean():12.2f} {moved.mean():24.3f}")
assert clearly_above(apart["z from the fitted Gaussian"], apart["codes of test images"])
rows = [x_train[pairs[0, :10]], decoded(g, middles[:10]), x_train[pairs[1, :10]]]
tfvae.plotting.image_rows(np.stack(rows), ["one image", "decoded middle", "another image"])

# %% [markdown]
# Draws lie about twice as far from the training codes as test images do. There the encoder no
# longer undoes the decoder, least of all for draws from $N(0, I)$: what is drawn is not an image
# that would be encoded like this. The middles are nearer to the codes, and the decoder is not lost
# there; but what it draws is as often a mixture of two digits as it is a digit.
#
# ## A distribution in the place of a point
#
# A VAE changes two things.
#
# 1. **The encoder puts out a distribution.** For each dimension of the code there is not one value
#    but a range of values: a Gaussian $q(z \mid x)$ with mean $\mu(x)$ and standard deviation
#    $\sigma(x)$. The decoder gets a random draw of it and has to reconstruct $x$ from *any* of
#    those draws. So neighbours of a code must decode to much the same image: the latent space
#    becomes continuous and smooth.
# 2. **The loss says where the codes should lie.** A second term,
#    $\mathrm{KL}(q(z \mid x) \Vert p(z))$, pulls all these distributions towards one that we choose
#    and can draw from, $p(z) = N(0, I)$. So there is a distribution to draw new $z$ from, and the
#    codes fill it.
#
# ![A VAE and the shapes of its tensors](figures/vae.svg)
#
# Here is the whole of it in forty lines of Keras and TensorFlow Probability (TFP). The networks are
# those of the autoencoder, with a second output of the encoder. Notebook 2 derives the loss,
# notebook 3 the KL, notebook 4 the line with `eps`, notebook 5 what `sigma` decides.


# %%
class PlainVAE(keras.Model):
    """A VAE, with B images in a batch and d latent dimensions."""

    def __init__(self, encoder, decoder, d, sigma):
        super().__init__()
        self.encoder, self.decoder, self.d, self.sigma = encoder, decoder, d, sigma

    def prior(self):
        """p(z) = N(0, I); event [d]."""
        return tfd.MultivariateNormalDiag(tf.zeros(self.d), tf.ones(self.d))

    def encode(self, x):
        """q(z|x) of images [B, 28, 28, 1]; batch [B], event [d]."""
        mu, log_var = self.encoder(x)  # [B, d] each
        return tfd.MultivariateNormalDiag(mu, tf.exp(0.5 * log_var))

    def decode(self, z):
        """p(x|z) of codes [B, d]; batch [B], event [28, 28, 1]."""
        return tfd.Independent(tfd.Normal(self.decoder(z), self.sigma), 3)

    def terms(self, x, eps):
        """log p(x|z) and KL(q(z|x) ‖ p(z)) in nats, [B] each, for noise eps [B, d]."""
        q = self.encode(x)
        z = q.mean() + q.stddev() * eps  # [B, d], a draw of q(z|x)
        log_likelihood = self.decode(z).log_prob(x)  # [B]
        kl = tfd.kl_divergence(q, self.prior())  # [B], in closed form
        return log_likelihood, kl

    def train_step(self, x):
        """One step of the optimiser on a batch [B, 28, 28, 1]."""
        with tf.GradientTape() as tape:
            eps = tf.random.normal((tf.shape(x)[0], self.d))  # [B, d]
            log_likelihood, kl = self.terms(x, eps)
            elbo = log_likelihood - kl  # [B], at most log p(x)
            loss = -tf.reduce_mean(elbo)
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply(gradients, self.trainable_variables)
        return {"loss": loss, "kl": tf.reduce_mean(kl)}

    def sample(self, z):
        """The mean of p(x|z): images [B, 28, 28, 1] of codes [B, d]."""
        return self.decode(z).mean()


# %%
vae = PlainVAE(*networks(16, outputs=2), 16, sigma)
vae.compile(keras.optimizers.Adam(2e-3))
history = vae.fit(x_train, batch_size=128, epochs=epochs, verbose=0).history
for epoch in (0, epochs // 2, epochs - 1):
    loss, kl = history["loss"][epoch], history["kl"][epoch]
    print(f"epoch {epoch + 1:2}: −ELBO {loss:8.2f} nats, of which KL {kl:6.2f}")
assert history["loss"][-1] < history["loss"][0]

# %% [markdown]
# Data, networks, initial weights of the shared layers, optimiser and number of steps are those of
# the autoencoder with $d = 16$. And both get **the same noise**.

# %%
vae_draws = decoded(vae.sample, noise)
print(HEAD)
report("real digits", x_test[:n])
for name in list(ae_draws)[1:]:
    report(f"autoencoder, {name}", ae_draws[name])
vae_measures = report("VAE, z from N(0, I)", vae_draws)
assert clearly_above(vae_measures[1], ae_measures["z from N(0, I)"][1])
assert clearly_above(ae_measures["z from N(0, I)"][0], vae_measures[0])
rows = [ae_draws[name][:12] for name in list(ae_draws)[1:]] + [vae_draws[:12]]
labels = ["autoencoder, N(0, I)", "autoencoder, fitted", "VAE, N(0, I)"]
tfvae.plotting.image_rows(np.stack(rows), labels)

# %% [markdown]
# The VAE's draws are digits, or nearly; the autoencoder's are scribbles. By both measures the VAE
# is better, with the same noise. (Its pictures are as near to the data as real digits are although
# they are blurred. Blurred pictures are near to everything: a small distance alone proves nothing.)
#
# Are its codes where the draws come from? If they were exactly $N(0, I)$ each dimension would have
# the mean 0 and the variance 1, and a draw would be as far from the nearest code as a test image's
# draw is. And is the space smooth? Move a code a little, by a tenth of the spread of all codes, and
# see how much the picture changes, in units of how much two different test images differ.

# %%
vae_codes = vae.encode(x_train).sample(seed=1).numpy()
vae_test = vae.encode(x_test[:n]).sample(seed=2).numpy()
vae_nearest = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(vae_codes)
vae_unit = vae_nearest.kneighbors(vae_test)[0].mean()
step = rng.normal(size=(n, 16))
differ = np.sqrt(squared_errors(x_test[:n], x_test[n : 2 * n])).mean()
print("d = 16       nearest code of a draw   mean and std of the codes   change by a small step")
ratios, changes = {}, {}
for name, decoder, found, at, draw, finder, one in (
    ("autoencoder", g, codes, codes_test, noise, nearest_16, unit),
    ("VAE", vae.sample, vae_codes, vae_test, noise, vae_nearest, vae_unit),
):
    ratios[name] = finder.kneighbors(draw)[0].mean() / one
    moved = decoded(decoder, at + 0.1 * found.std(axis=0) * step)
    changes[name] = np.sqrt(squared_errors(decoded(decoder, at), moved)).mean() / differ
    print(f"{name:12} {ratios[name]:22.2f} {np.abs(found.mean(0)).mean():15.2f}", end="")
    print(f" {found.std(0).mean():6.2f} {changes[name]:24.3f}")
assert abs(vae_codes.std(axis=0).mean() - 1) < 0.2
assert ratios["VAE"] < ratios["autoencoder"] and changes["VAE"] < changes["autoencoder"]

# %% [markdown]
# All codes of the VAE together have a mean near 0 and a spread near 1, and a draw from $N(0, I)$ is
# hardly farther from them than a test image's code. A small step changes the picture a little less
# than in the autoencoder.
#
# ### The same model in the library
#
# `tfvae.VAE` takes the very same networks. With the same noise it must give the same two terms, up
# to the rounding of float32.

# %%
likelihood = tfvae.likelihoods.Normal(scale=sigma, decoder_output="parameters")
library = tfvae.VAE(vae.encoder, vae.decoder, 16, likelihood=likelihood, seed=0)
found = library.terms(x_test[:5], seed=3)
q = library.encode(x_test[:5])
eps = (found.z[0] - q.mean()) / q.stddev()  # the noise that the library drew
log_likelihood, kl = vae.terms(x_test[:5], eps)
print("log p(x|z)  forty lines", log_likelihood.numpy().round(3))
print("            tfvae      ", found.log_likelihood[0].numpy().round(3))
print("KL          forty lines", kl.numpy().round(4))
print("            tfvae      ", np.asarray(found.kl).round(4))
np.testing.assert_allclose(log_likelihood, found.log_likelihood[0], rtol=1e-4, atol=1e-2)
np.testing.assert_allclose(kl, found.kl, rtol=1e-4)

gradients = []
for one in ("forty lines", "tfvae"):
    with tf.GradientTape() as tape:
        if one == "tfvae":
            again = library.terms(x_test[:5], seed=3)  # the same seed, the same noise
            log_likelihood, kl = again.log_likelihood[0], again.kl
        else:
            log_likelihood, kl = vae.terms(x_test[:5], eps)
        loss = -tf.reduce_mean(log_likelihood - kl)
    gradients.append(tape.gradient(loss, vae.trainable_variables))
largest = max(float(tf.reduce_max(tf.abs(one))) for one in gradients[0])
apart = max(float(tf.reduce_max(tf.abs(a - b))) for a, b in zip(*gradients, strict=True))
print(f"gradients: the largest {largest:.3f}, the largest difference {apart:.1e}")
assert apart < 1e-3 * largest

# %% [markdown]
# ## Explicit and implicit models
#
# A VAE is one of several ways to generate. To generate is to draw from a distribution close to the
# one that the data came from, and models differ in what they know of that distribution.
#
# ![Map of generative models](figures/generative_models.svg)
#
# - An **explicit** model defines a density $p(x)$. It is *tractable* if the density can be
#   computed, and *approximate* if it can only be bounded.
# - An **implicit** model has no formula for $p(x)$. It can draw from it, and that is all.
#
# | | model and its $p(x)$ | $\log p(x)$ | draws |
# | --- | --- | --- | --- |
# | tractable | autoregressive: $\prod_i p(x_i \mid x_{<i})$ | exact | pixel by pixel |
# | tractable | flow $x = g(z)$: $p(z) \lvert\det \partial z/\partial x\rvert$ | exact | one pass |
# | approximate | **VAE**: $\int p(x \mid z) p(z) dz$ | lower bound | one pass |
# | approximate | diffusion: the same with a chain of $z$ | lower bound | many passes |
# | implicit | GAN, $x = g(z)$, $g$ trained against a critic: no formula | none | one pass |
# | neither | plain autoencoder | none | none |
#
# The two that are met most often in papers are the GAN and the VAE.
#
# - A **generative adversarial network** (GAN) has a generator, which looks just like our decoder,
#   and a discriminator, which is to tell generated images from real ones. The two play a game, and
#   training looks for its Nash equilibrium, where neither can do better alone. The generator draws
#   $z$ from $p(z)$ all the time and is told when the picture is no good, so there are no holes
#   where $p(z)$ has mass. But there is no encoder, and no way to say how probable a given image is.
# - A **variational autoencoder** rests on Bayesian inference: it estimates the distribution of the
#   data by way of the posterior of $z$. It keeps the encoder and the decoder, has a density, and
#   pays for it with an integral that it can only bound.
#
# > **Loosely said.** "The VAE has an explicit density" and "it models the data by a Gaussian". The
# > density is explicit as an *integral*, and what comes out of the model is a lower **bound** of
# > $\log p(x)$ (the ELBO), or an estimate of it. And what is Gaussian is $p(x \mid z)$, for each
# > $z$. $p(x)$ itself is a mixture of infinitely many Gaussians, one for each $z$, and may have any
# > shape. The cell prints bound and estimate for test images, and compares the estimate with a
# > single Gaussian that has the mean and the covariance of the data, under the same noise.

# %%
some = x_test[:100]
estimate = tfvae.evaluation.log_prob(library, some, num_samples=200, seed=0)
variances = np.maximum(eigenvalues, sigma**2)  # no direction may be narrower than the noise
in_axes = (some.reshape(-1, D) - mean) @ U
single = -0.5 * np.sum(np.log(2 * np.pi * variances) + in_axes**2 / variances, axis=1)
print("mean over 100 test images, nats")
print(f"VAE: bound (ELBO)        {estimate.elbo.elbo:9.2f} ± {estimate.elbo.standard_error:.2f}")
print(f"VAE: estimate of log p   {estimate.log_prob:9.2f} ± {estimate.standard_error:.2f}")
print("one Gaussian: log p      {:9.2f} ± {:.2f}".format(*mean_and_error(single)))
assert estimate.elbo.elbo < estimate.log_prob
gain, gain_error = mean_and_error(np.asarray(estimate.log_probs) - single)  # image by image
print(f"the VAE's gain           {gain:9.2f} ± {gain_error:.2f}")
assert gain > 4 * gain_error

# %% [markdown]
# ## Exercises
#
# ### Exercise 1: no linear autoencoder beats PCA
#
# Make one: an encoder of `Flatten` and one `Dense(8)`, a decoder of one `Dense(D)` and a `Reshape`,
# both without activation. Train it as above and compare its mean squared error a pixel on the
# *training* images with PCA's for $d = 8$. Which of the two must be smaller, and why?

# %%
# Your answer: the mean squared error a pixel of your linear autoencoder on the training images.
my_linear_error = None


# %%
def check_linear(error):
    """Check an answer against PCA."""
    if error is None:
        print("exercise 1: no answer yet")
        return
    best = eigenvalues[8:].sum() / D
    assert error > best * (1 - 1e-4), "less than the best there is: is there an activation?"
    assert error < 1.3 * best, f"train longer: PCA has {best:.5f}"
    print("exercise 1: right")


check_linear(my_linear_error)

# %% [markdown]
# <details><summary>Solution</summary>
#
# PCA's must be smaller. The reconstructions of a linear autoencoder lie in a plane of 8 dimensions,
# and of all such planes PCA's has the least squared error (Eckart and Young 1936). Training comes
# within a few percent of it, and cannot get below.
#
# ```python
# encoder = keras.Sequential([keras.Input(IMAGE), keras.layers.Flatten(), keras.layers.Dense(8)])
# layers = [keras.Input((8,)), keras.layers.Dense(D), keras.layers.Reshape(IMAGE)]
# linear = keras.Sequential([encoder, keras.Sequential(layers)])
# linear.compile(keras.optimizers.Adam(2e-3), "mse")
# linear.fit(x_train, x_train, batch_size=128, epochs=max(epochs * 2 // 3, 8), verbose=0)
# my_linear_error = squared_errors(x_train, linear.predict(x_train, verbose=0)).mean()
# check_linear(my_linear_error)
# print(f"linear autoencoder {my_linear_error:.5f}, PCA {eigenvalues[8:].sum() / D:.5f}")
# assert my_linear_error > eigenvalues[8:].sum() / D * (1 - 1e-4)
# ```
#
# </details>
#
# ### Exercise 2: mend it afterwards
#
# A plain autoencoder lacks a distribution of codes. So fit a better one than a Gaussian to the
# training codes with $d = 16$: a mixture of 40 Gaussians, `sklearn.mixture.GaussianMixture`. Draw
# 256 codes from it and decode them. Are more of them among digits? What does such a model still
# lack?

# %%
# Your answer: images [256, 28, 28, 1] with values from 0 to 1.
my_images = None


# %%
def check_mended(images):
    """Check an answer: better than the single Gaussian."""
    if images is None:
        print("exercise 2: no answer yet")
        return
    print(HEAD)
    mine = report("your images", images)
    report("z from the fitted Gaussian", ae_draws["z from the fitted Gaussian"])
    assert clearly_above(mine[1], ae_measures["z from the fitted Gaussian"][1])
    print("exercise 2: right")


check_mended(my_images)

# %% [markdown]
# <details><summary>Solution</summary>
#
# Yes: with 40 Gaussians the draws keep to where the codes are, and far more of them are
# among digits. It generates now. But it has no density of *images*: its pictures lie on a surface
# of 16 dimensions among 784, and of an image off that surface it can only say that it is
# impossible. Ghosh et al. (2020) build generative models in this way on purpose.
#
# ```python
# from sklearn.mixture import GaussianMixture
#
# mixture = GaussianMixture(40, reg_covar=1e-3, random_state=0).fit(codes.astype("float64"))
# my_images = decoded(g, mixture.sample(256)[0])
# check_mended(my_images)
# assert my_images.shape == (256, 28, 28, 1)
# ```
#
# </details>
#
# ### Exercise 3: is the class in the code?
#
# A one-hot vector is no code of the image. But is the class in the code? Find for each of the first
# 1,000 test images the nearest training *code* (autoencoder with $d = 16$) and take its label.
# Which share is right, and which share is right if nearest *images* are taken instead?

# %%
# Your answer: two shares, from 0 to 1.
my_by_code, my_by_image = None, None


# %%
def check_shares(by_code, by_image):
    """Check an answer."""
    if by_code is None:
        print("exercise 3: no answer yet")
        return
    images = nearest.kneighbors(x_test.reshape(-1, D), n_neighbors=1)[1][:, 0]
    assert abs(by_image - np.mean(labels_train[images] == labels_test)) < 1e-6
    found = nearest_16.kneighbors(f.predict(x_test, verbose=0))[1][:, 0]
    assert abs(by_code - np.mean(labels_train[found] == labels_test)) < 5e-3
    print("exercise 3: right")


check_shares(my_by_code, my_by_image)

# %% [markdown]
# <details><summary>Solution</summary>
#
# By 16 numbers about as many are right as by 784, even a few more: 94 and 92 of 100. The class is
# in the code, although nobody asked for it; it helps to reconstruct.
#
# ```python
# by_code = nearest_16.kneighbors(f.predict(x_test, verbose=0))[1][:, 0]
# by_image = nearest.kneighbors(x_test.reshape(-1, D), n_neighbors=1)[1][:, 0]
# my_by_code, my_by_image = (
#     np.mean(labels_train[found] == labels_test) for found in (by_code, by_image)
# )
# print(f"right by the nearest code {my_by_code:.1%}, by the nearest image {my_by_image:.1%}")
# check_shares(my_by_code, my_by_image)
# assert abs(my_by_image - 0.92) < 0.01 and (epochs < 10 or abs(my_by_code - 0.94) < 0.02)
# ```
#
# </details>
#
# ## References
#
# - G. Hinton, R. Salakhutdinov. Reducing the Dimensionality of Data with Neural Networks. Science
#   313, 2006. [doi:10.1126/science.1127647](https://doi.org/10.1126/science.1127647): autoencoders
#   beside PCA.
# - P. Baldi, K. Hornik. Neural Networks and Principal Component Analysis. Neural Networks 2, 1989.
#   [doi:10.1016/0893-6080(89)90014-2](https://doi.org/10.1016/0893-6080%2889%2990014-2): the linear
#   autoencoder finds PCA's subspace.
# - C. Eckart, G. Young. The Approximation of One Matrix by Another of Lower Rank. Psychometrika 1,
#   1936. [doi:10.1007/BF02288367](https://doi.org/10.1007/BF02288367).
# - I. Goodfellow. NIPS 2016 Tutorial: Generative Adversarial Networks. 2016.
#   [arXiv:1701.00160](https://arxiv.org/abs/1701.00160), section 2: explicit and implicit models.
# - S. Mohamed, B. Lakshminarayanan. Learning in Implicit Generative Models. 2016.
#   [arXiv:1610.03483](https://arxiv.org/abs/1610.03483).
# - One model of each kind: A. van den Oord et al., Pixel Recurrent Neural Networks, 2016,
#   [arXiv:1601.06759](https://arxiv.org/abs/1601.06759); L. Dinh et al., Density Estimation Using
#   Real NVP, 2017, [arXiv:1605.08803](https://arxiv.org/abs/1605.08803); J. Ho et al., Denoising
#   Diffusion Probabilistic Models, 2020, [arXiv:2006.11239](https://arxiv.org/abs/2006.11239);
#   I. Goodfellow et al., Generative Adversarial Networks, 2014,
#   [arXiv:1406.2661](https://arxiv.org/abs/1406.2661).
# - D. P. Kingma, M. Welling. Auto-Encoding Variational Bayes. 2014.
#   [arXiv:1312.6114](https://arxiv.org/abs/1312.6114).
# - P. Ghosh et al. From Variational to Deterministic Autoencoders. 2020.
#   [arXiv:1903.12436](https://arxiv.org/abs/1903.12436), section 4: a density fitted to the codes
#   afterwards.
# - In the library: [`models/autoencoder.py`](../tfvae/models/autoencoder.py),
#   [`networks/`](../tfvae/networks), [`models/vae.py`](../tfvae/models/vae.py),
#   [`evaluation/expost.py`](../tfvae/evaluation/expost.py). Next: `02_elbo_from_scratch`, where the
#   bound is derived.
