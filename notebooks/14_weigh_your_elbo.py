# ---
# jupyter:
#   jupytext:
#     text_representation: {extension: .py, format_name: percent}
# ---

# %% [markdown]
# # 14. Weigh your ELBO
#
# An ELBO is a number that one has to believe: a constant forgotten, a sum that should have been a
# mean, and it is wrong by hundreds of nats without anybody noticing. There is a scale to put it on.
# A model that says how probable an image is can store the image in a file, and the size of the file
# is the negative ELBO. `ls -l` cannot be argued with.
#
# ## Learning goals
#
# - Why a probability $p$ is worth $-\log_2 p$ bits, and what happens with the wrong model.
# - Why a latent variable seems to cost too much, and how bits-back coding gets the bits back.
# - Compress images without loss, weigh the file, and compare it with the ELBO and with PNG.
#
# This notebook needs the extra `compress` of the library (`pip install "tfvae[compress]"`).

# %%
import gzip
import io
import lzma

import keras
import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

import tfvae

keras.utils.set_random_seed(0)  # of the order in which `fit` takes images

# %% [markdown]
# ## A probability is a length
#
# If a message $x$ has the probability $p(x)$, the best code spends
#
# $$\ell(x) = -\log_2 p(x) \tag{14.1}$$
#
# bits on it: frequent messages get short words, rare ones long words. On average that is the
# entropy. Who codes with a wrong model $q$ in the place of $p$ pays more, and the surplus is an old
# friend, $\mathrm{KL}(p \,\|\, q)/\log 2$ bits.

# %%
p = np.array([0.5, 0.25, 0.125, 0.125])
words = ["0", "10", "110", "111"]  # no word begins another, so that no comma is needed
lengths = np.array([len(word) for word in words])
# (14.1): these words have just the lengths that their probabilities ask for.
np.testing.assert_allclose(lengths, -np.log2(p))
entropy = -np.sum(p * np.log2(p))
q = np.full(4, 0.25)  # a model that takes all four for equally frequent
surplus = np.sum(p * -np.log2(q)) - entropy
np.testing.assert_allclose(surplus, np.sum(p * np.log2(p / q)))
print(f"entropy {entropy} bits a message; with the wrong model {entropy + surplus} bits")

# %% [markdown]
# ## Latent variables, and the bits that come back
#
# A VAE does not know $p(x)$, only $p(z)$ and $p(x|z)$. So write down two things: a $z$, in
# $-\log_2 p(z)$ bits, and then $x$, in $-\log_2 p(x|z)$ bits. That is a lot, and wasteful: many $z$
# would do for the same $x$, and we paid for saying *which*.
#
# The way out: let the choice of $z$ carry a message. Take bits that have to be stored anyway, and
# read them *as if* they were a code word under $q(z|x)$. Whatever comes out is our $z$. The
# receiver decodes $z$ and $x$, knows $q(z|x)$, and turns $z$ back into those bits: there are
# $-\log_2 q(z|x)$ of them. The price of an image is then
#
# $$-\log_2 p(x|z) - \log_2 p(z) + \log_2 q(z|x), \tag{14.2}$$
#
# and its mean over $z \sim q(z|x)$ is $-\mathrm{ELBO}(x)/\log 2$. The bits that an image takes come
# from the file as it has been written so far, that is, from the images before it.
#
# ## A model to weigh
#
# MNIST's digits, each pixel drawn black or white once and for all: an image has 784 bits to begin
# with.

# %% tags=["parameters"] capped="epochs, count = 1, 50"
epochs, count = 10, 500  # passes over the training images; test images to compress

# %%
data = tfvae.datasets.load("mnist-small", binarize="static", seed=0)
x_train, _ = data.train.arrays()
x_test, _ = data.test.arrays(limit=count)
vae = tfvae.VAE.for_images(
    data.image_shape, network="dense:hidden=256x128", latent_dim=12, likelihood="bernoulli", seed=0
)
vae.compile(keras.optimizers.Adam(3e-3))
vae.fit(x_train, batch_size=256, epochs=epochs, verbose=0)

terms = vae.terms(x_test, num_samples=20, seed=1)
price = -(terms.log_likelihood + terms.log_prior - terms.log_posterior) / np.log(2)
bits = -vae.elbo(x_test, num_samples=20, seed=2).elbo.numpy() / np.log(2)
# (14.2): its mean over draws of z is the negative ELBO in bits, up to the noise of the draws.
np.testing.assert_allclose(np.mean(price), bits.mean(), rtol=0.01)
two_part = np.mean(-(terms.log_likelihood + terms.log_prior)) / np.log(2)
print(f"z and x, nothing back (density of z): {two_part:7.1f} bits an image")
print(f"bits back (14.2)                    : {np.mean(price):7.1f}")
print(f"-ELBO / log 2                       : {bits.mean():7.1f}")
print(f"as it is                            : {x_test[0].size:7.1f}")

# %% [markdown]
# The first line is no number of bits yet, since real numbers have infinitely many digits: it is
# made with a density of $z$. A coder cuts each of the 12 numbers of $z$ into cells of a width $h$,
# and to say which cell costs $-\log_2 h$ bits more. With $h = \frac{1}{16}$ these are 4 bits a
# number, 48 an image, so that $z$ and $x$ cost about 206 bits. With bits back, the cells' 48 bits
# come back too: they stand in $q(z|x)$ as well. So $h$ may be as small as one likes, and the price
# stays at the second line.
#
# ## On the scale
#
# `compress` writes the file, `decompress` reads it.

# %%
file = tfvae.compression.compress_events(vae, x_test)
restored = tfvae.compression.decompress(vae, file.data)
np.testing.assert_array_equal(restored, x_test)  # every bit of every image
weight = 8 * len(file.data)
print(f"{count} images in {len(file.data):,} bytes, {weight / count:.1f} bits an image")
print(f"  of the file {file.start_up_bits:,} bits start it up, {file.header_bits:,} are its header")
print(f"-ELBO / log 2: {bits.mean():.1f} bits an image")
payload = weight - file.start_up_bits - file.header_bits
print(f"the file without start-up and header is {payload / bits.sum() - 1:+.2%} off the ELBO")
assert abs(payload / bits.sum() - 1) < 0.02

# %% [markdown]
# That is the whole test. Had we dropped a constant from $\log p(x|z)$, or divided the KL by the
# number of pixels, the ELBO would say one thing and the file another.
#
# ## Beside programs that everybody has

# %%
packed = np.packbits(x_test.astype(bool)).tobytes()


def png(pixels):
    """Count the bytes of a black-and-white PNG picture."""
    place = io.BytesIO()
    Image.fromarray(pixels.astype(bool)).save(place, "PNG", optimize=True)
    return len(place.getvalue())


sheet = x_test[..., 0].reshape(-1, 10, 28, 28).swapaxes(1, 2).reshape(-1, 280)
sizes = {
    "one bit a pixel": len(packed),
    "png, one sheet": png(sheet),
    "gzip": len(gzip.compress(packed, 9)),
    "xz": len(lzma.compress(packed, preset=9)),
    "VAE, bits back": len(file.data),
}
for name, size in sizes.items():
    print(f"{name:16} {size:8,} bytes {8 * size / count:8.1f} bits an image")

# %%
figure, axes = plt.subplots(figsize=(7.5, 2.8), layout="constrained")
per_image = [8 * size / count for size in sizes.values()]
bars = axes.barh(list(sizes), per_image, color=["0.75"] * 4 + ["C0"])
axes.bar_label(bars, fmt="%.0f", padding=4)
axes.axvline(bits.mean(), color="C3", ls="--", lw=1.2, label="−ELBO / log 2")
axes.invert_yaxis()
axes.set(xlabel="bits an image")
axes.grid(axis="y", visible=False)
axes.legend(loc="lower right")
plt.show()

# %% [markdown]
# Is it fair? The model itself is not in the file: its weights are far larger. It was trained once
# and can be used for any number of digits, as PNG's program is not in each PNG file. But it knows
# digits only. Of pictures of another kind it makes files longer than they were:

# %%
noise = (np.random.default_rng(0).random((100, 28, 28, 1)) < 0.5).astype("float32")
of_noise = 8 * len(tfvae.compression.compress(vae, noise)) / len(noise)
of_shifted = np.roll(x_test[:100], 6, axis=2)
of_shifted = 8 * len(tfvae.compression.compress(vae, of_shifted)) / 100
first = 8 * len(tfvae.compression.compress(vae, x_test[:100])) / 100
print(f"bits an image: digits {first:.0f}, digits moved by 6 pixels {of_shifted:.0f}, ", end="")
print(f"noise {of_noise:.0f} of {noise[0].size}")
assert of_noise > 784 > first

# %% [markdown]
# ## Exercises
#
# ### Exercise 1: weigh a wrong ELBO
#
# Somebody computes the "loss" as the *mean* of the binary cross-entropy
# over pixels plus the KL, and calls it the negative ELBO in nats. How many bits an image would that
# promise? `answer_1` is the ratio of the file's bits to the promised ones.

# %%
# Your answer to exercise 1.
answer_1 = None


# %%
def check_1(answer):
    assert answer > 2, "the promise is far below what the file weighs"
    return "right"


print("exercise 1:", "no answer yet" if answer_1 is None else check_1(answer_1))

# %% [markdown]
# <details><summary>Solution</summary>
#
# The mean over pixels is 784 times too small, so that the promise is the KL and next to nothing
# else. No file of that size can hold the images.
#
# ```python
# _, log_likelihood, kl = vae.elbo(x_test, seed=3)
# promised = np.mean(-log_likelihood / 784 + kl) / np.log(2)
# answer_1 = weight / count / promised
# print(f"promised {promised:.1f} bits, weighed {weight / count:.1f}")
# assert check_1(answer_1) == "right"
# ```
# </details>
#
# ### Exercise 2: is the label worth its bits?
#
# Suppose the digits' labels have to be stored too. How many
# bits a label at most, if they are equally frequent, and how much longer does the file get, in per
# cent? `answer_2` is the percentage.

# %%
# Your answer to exercise 2.
answer_2 = None


# %%
def check_2(answer):
    np.testing.assert_allclose(answer, 100 * np.log2(10) * count / weight, rtol=0.02)
    return "right"


print("exercise 2:", "no answer yet" if answer_2 is None else check_2(answer_2))

# %% [markdown]
# <details><summary>Solution</summary>
#
# One of ten takes $\log_2 10$ bits, between 3 and 4. A conditional model would win them back, as
# notebook 11 shows: told the digit, it needs fewer bits for the image.
#
# ```python
# answer_2 = 100 * np.log2(10) / (weight / count)
# print(f"{np.log2(10):.2f} bits a label, {answer_2:.1f} per cent")
# assert check_2(answer_2) == "right"
# ```
# </details>

# %% [markdown]
# ## References
#
# - C. E. Shannon (1948), *A mathematical theory of communication*,
#   [doi:10.1002/j.1538-7305.1948.tb01338.x](https://doi.org/10.1002/j.1538-7305.1948.tb01338.x).
# - G. E. Hinton and D. van Camp (1993), *Keeping the neural networks simple by minimizing the
#   description length of the weights*,
#   [doi:10.1145/168304.168306](https://doi.org/10.1145/168304.168306): bits back.
# - J. Townsend, T. Bird and D. Barber (2019), *Practical lossless compression with latent variables
#   using bits back coding*, [arXiv:1901.04866](https://arxiv.org/abs/1901.04866).
# - In this repository: [compress](../docs/compression.md).
