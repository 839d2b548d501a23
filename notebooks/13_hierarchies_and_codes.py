# ---
# jupyter:
#   jupytext:
#     text_representation: {extension: .py, format_name: percent}
# ---

# %% [markdown]
# # 13. Hierarchies, and codes in place of vectors
#
# One latent vector with a standard normal prior was a choice. Here are two others. A *hierarchy*
# has several latent vectors, and each is drawn after those above it. A *VQ-VAE* has no vector at
# all: its latent variable is a small map of whole numbers, each of which is an entry of a codebook.
#
# ## Learning goals
#
# - Split the KL of a hierarchy into one part for each group, and read what each group does.
# - Decode a latent map with its top group held still.
# - Quantise: to the nearest vector of a codebook, with a gradient that is passed on as if nothing
#   had happened.
# - Learn a prior over codes, and compare its bound with an ELBO, knowing what each leaves out.

# %%
import keras
import matplotlib.pyplot as plt
import numpy as np

import tfvae

keras.utils.set_random_seed(0)  # of the order in which `fit` takes events

# %% [markdown]
# ## The images
#
# The hierarchy takes the part of MNIST that comes with the library, with black and white pixels.
# The codes, further down, take the $8 \times 8$ digits of scikit-learn, which cost less time.

# %% tags=["parameters"] capped="epochs, vq_epochs, prior_epochs = 1, 1, 1"
epochs, vq_epochs, prior_epochs = 10, 30, 20  # passes over the training images

# %%
mnist = tfvae.datasets.load("mnist-small", binarize="static", seed=0)
m_train, _ = mnist.train.arrays()
m_test, labels = mnist.test.arrays()
print(f"{len(mnist.train)} training images {mnist.image_shape}, {len(mnist.test)} test images")


def fitted(model, x, epochs, batch_size):
    """Train a model on batches of images."""
    model.compile(keras.optimizers.Adam(2e-3))
    model.fit(x, batch_size=batch_size, epochs=epochs, verbose=0)
    return model


# %% [markdown]
# ## A ladder of two groups
#
# ![Features go up from x to h2 to h1; z1 is drawn first, then z2, then x](figures/ladder.svg)
#
# The model goes down: draw $z_1$ from $\mathcal{N}(0, I)$, then $z_2$ from a distribution that
# depends on $z_1$, then $x$. The encoder first goes up, and then $q$ goes down the same way as the
# model, and sees at each step what the model sees, and $x$ besides:
#
# $$p(x, z_1, z_2) = p(z_1)\,p(z_2|z_1)\,p(x|z_1, z_2), \qquad
# q(z_1, z_2|x) = q(z_1|x)\,q(z_2|z_1, x).$$
#
# Put both into the ELBO, and the logarithms of the products become sums:
#
# $$\mathrm{ELBO} = \mathbb{E}_q[\log p(x|z_1, z_2)]
# - \underbrace{\mathrm{KL}(q(z_1|x) \,\|\, p(z_1))}_{\mathrm{KL}_1}
# - \underbrace{\mathbb{E}_{q(z_1|x)}[
# \mathrm{KL}(q(z_2|z_1, x) \,\|\, p(z_2|z_1))]}_{\mathrm{KL}_2}. \tag{13.1}$$
#
# Here $z_1$ has 4 numbers, and $z_2$ has 12. A group can collapse as a whole (notebook 7): if $z_2$
# says everything from the start, $z_1$ is never needed, and the other way round. So the KL comes in
# along a warm-up, and as long as it lasts `balance=true` makes the group that says more pay more.

# %%
warm_up = epochs * len(m_train) // 128 // 2
ladder = fitted(
    tfvae.HierarchicalVAE.for_images(
        mnist.image_shape,
        groups="4,12",
        network="dense:hidden=256",
        likelihood="bernoulli",
        objective=f"elbo:beta=linear(steps={warm_up}),balance=true",
        seed=0,
    ),
    m_train,
    epochs,
    batch_size=128,
)
terms = ladder.terms(m_test, seed=1)
by_group = terms.kl_by_group.numpy()
parts = ladder.elbo(m_test, seed=1)
# (13.1): the KL is the sum over groups, and the ELBO what is left of the log-likelihood.
np.testing.assert_allclose(by_group.sum(axis=1), terms.kl, rtol=1e-4, atol=1e-3)
np.testing.assert_allclose(
    parts.elbo, np.mean(terms.log_likelihood, axis=0) - by_group.sum(axis=1), rtol=1e-3, atol=0.05
)
print(f"KL of the groups: {by_group.mean(axis=0).round(2)} nats")
print(f"ELBO {np.mean(parts.elbo):.2f} nats, log-likelihood {np.mean(terms.log_likelihood):.2f}")

# %% [markdown]
# Both groups are in use. Which says what? Keep $z_1$ of a test image and draw $z_2$ anew, several
# times. What stays is the work of $z_1$, and what changes is that of $z_2$.

# %%
rows = []
shown = (0, 3, 1, 5, 4)
for i in shown:
    z = ladder.code(m_test[i : i + 1])
    below = ladder.sample_below(z, 1, 10, seed=2).numpy()[0]
    rows.append(np.concatenate([m_test[i : i + 1], ladder.reconstruct(m_test[i : i + 1]), below]))
tfvae.plotting.image_rows(np.stack(rows), [f"a {labels[i]}" for i in shown])

# %% [markdown]
# Each row: a test image, its reconstruction, and ten images with the same $z_1$ and new draws of
# $z_2$. Of the 7, the 2 and the 1 the digit stays as it is in nearly all draws, while its width and
# its strokes change. With the $z_1$ of the 4 the draws are 4s and 9s, which are written much alike.
# And the $z_1$ of the 0 has settled little: even the digit is left to $z_2$. So $z_1$ is no label.
# Nobody told the model what its four numbers should mean; it keeps in them what is worth most.
#
# The same as a number: the variance of the images with $z_1$ kept (averaged over pixels), as a part
# of the variance of images that share nothing. And the other way round, with $z_2$ of an image
# kept and $z_1$ drawn anew? The model has no such draw: $z_2$ comes after $z_1$, and its
# distribution depends on it.

# %%
free = ladder.sample(300, seed=3).numpy().var(axis=0).mean()
kept = [
    ladder.sample_below(ladder.code(m_test[i : i + 1]), 1, 50, seed=4).numpy()[0].var(axis=0).mean()
    for i in range(20)
]
print(f"with z1 kept {np.mean(kept) / free:.0%} of the variance of free draws is left")
assert np.mean(kept) < free

# %% [markdown]
# ## A codebook
#
# In a VQ-VAE the encoder makes a map of vectors, and each is replaced by the nearest of $K$ vectors
# $e_1, \dots, e_K$. Only the number of that vector is kept:
#
# $$c_p = \operatorname*{argmin}_k \|z_p - e_k\|^2. \tag{13.2}$$
#
# To take the nearest is a step function of $z_p$; its derivative is zero almost everywhere. So the
# gradient at $e_{c_p}$ is handed to $z_p$ unchanged (*straight through*), and a term
# $\beta\|z_p - e_{c_p}\|^2$ keeps the two close, so that the lie is a small one.

# The $8 \times 8$ digits have grey values of 17 levels. Each level gets a probability, that of the
# real numbers which round to it under a logistic distribution (`discretized_logistic`). The map of
# codes has $4 \times 4$ places.

# %%
data = tfvae.datasets.load("digits", seed=0)
x_train, _ = data.train.arrays()
x_test, _ = data.test.arrays()
likelihood = "discretized_logistic:levels=17"
vq = fitted(
    tfvae.VQVAE.for_images(
        data.image_shape,
        quantizer="vq:codes=32",
        network="conv:filters=32",
        likelihood=likelihood,
        seed=0,
    ),
    x_train,
    vq_epochs,
    batch_size=64,
)
codes = vq.codes(x_test).numpy()
vectors = vq.to_vectors(vq.encoder(x_test)).numpy()  # [images, 4, 4, C]
book = vq.quantizer.lookup(np.arange(32)[:, None]).numpy()  # [32, C]
squares = np.sum((vectors[..., None, :] - book) ** 2, axis=-1)
# (13.2): the nearest, but for ties that rounding decides.
assert np.mean(squares.argmin(axis=-1) == codes) > 0.999
print("codes of one image:")
print(codes[0])
usage = tfvae.evaluation.code_usage(vq, data.test)
print(f"perplexity {usage.perplexity:.1f} of {32} codes")

# %%
tfvae.plotting.code_use(usage, codes[:6], x_test[:6])

# %% [markdown]
# What is one code worth to the picture? Change the code at one place of the map, given by row and
# column, and see how much each pixel changes. It is the pixels around that place: a place in
# the map is a place in the picture.

# %%
before = vq.decode_codes(codes[:1]).mean().numpy()[0]
changed = []
for place in ((0, 0), (1, 2), (3, 3)):
    other = codes[:1].copy()
    other[0][place] = (other[0][place] + 7) % 32
    changed.append(vq.decode_codes(other).mean().numpy()[0])
difference = np.abs(np.array(changed) - before)
figure, panels = plt.subplots(1, 4, figsize=(10, 2.6), layout="constrained")
panels[0].imshow(before[..., 0])
panels[0].set_title("as coded")
for panel, values, place in zip(panels[1:], difference, ((0, 0), (1, 2), (3, 3)), strict=True):
    panel.imshow(values[..., 0], cmap="magma", vmin=0, vmax=0.6)
    panel.set_title(f"change by {place}")
for panel in panels:
    panel.set_axis_off()
plt.show()
print("largest change of a pixel:", difference.max(axis=(1, 2, 3)).round(2))

# %% [markdown]
# ## The second stage: a prior over codes
#
# Nothing so far says which maps of codes are likely. Drawn at random from the codebook they decode
# to rubble. So a second model, a transformer, learns $p(c)$, one code after another:
#
# $$p(c) = \prod_{t=1}^{16} p(c_t|c_1, \dots, c_{t-1}). \tag{13.3}$$
#
# Then for the codes $c(x)$ that the encoder chooses
#
# $$\log p(x) = \log \sum_c p(c)\,p(x|c) \ge \log p(x|c(x)) + \log p(c(x)), \tag{13.4}$$
#
# since a sum of positive numbers is at least one of them.

# %%
uniform = -codes[0].size * np.log(32)
untrained = vq.bound(x_test)
# (13.3): before its training the prior is uniform over 32 codes at each of 16 places.
np.testing.assert_allclose(untrained.log_prior, uniform, rtol=1e-4)
vq.fit_prior(
    x_train,
    optimizer=keras.optimizers.Adam(2e-3),
    batch_size=64,
    epochs=prior_epochs,
    verbose=0,
)
found = vq.bound(x_test)
# (13.4): the bound is the sum of the two logarithms.
np.testing.assert_allclose(found.bound, found.log_likelihood + found.log_prior, rtol=1e-4)
print(f"log p(c(x)): uniform {uniform:.2f}, learnt {np.mean(found.log_prior):.2f} nats")
print(f"bound {np.mean(found.bound):.2f} = {np.mean(found.log_likelihood):.2f} ", end="")
print(f"+ ({np.mean(found.log_prior):.2f}) nats")

# %%
random = np.random.default_rng(0).integers(0, 32, (12, *codes.shape[1:]))
flat = fitted(
    tfvae.VAE.for_images(
        data.image_shape,
        latent_dim=16,
        network="conv:filters=16,hidden=64",
        likelihood=likelihood,
        seed=0,
    ),
    x_train,
    vq_epochs,
    batch_size=64,
)
rows = [
    vq.decode_codes(random).mean(),
    vq.sample(12, seed=5),
    flat.sample(12, seed=5),
    x_test[:12],
]
names = ["random codes", "codes of the prior", "VAE, one vector", "test images"]
tfvae.plotting.image_rows(np.stack([np.asarray(row) for row in rows]), names)

# %% [markdown]
# The codes in the first row were drawn at random, those in the second from the learnt prior. The
# third row is a VAE with one vector of 16 numbers, and the last has images of the test set. The
# images of the second row have the contrast of real ones, and those of the VAE are greyer.
#
# May the bounds of the two models be compared? Both are lower bounds of $\log p(x)$ of the same
# images. But (13.4) counts one single map of codes and drops all others, and the more likely the
# others are, the more it is too low. An ELBO averages over what $z$ may have been. So if the figure
# of the VQ-VAE is the lower one, that does not show that its *model* is worse.

# %%
print(f"{'':12}{'bound, nats':>14}{'bits per pixel':>17}")
for name, value in {
    "one vector": np.mean(flat.elbo(x_test, seed=1).elbo),
    "VQ-VAE": np.mean(found.bound),
}.items():
    print(f"{name:12}{value:14.2f}{-value / 64 / np.log(2):17.3f}")

# %% [markdown]
# ## Exercises
#
# ### Exercise 1: perplexity by hand
#
# If all 32 codes were equally frequent, the entropy of a code would be $\log 32$ nats, and its
# exponential, the perplexity, 32. Compute the perplexity of `codes`, all places of all test images
# together, as `answer_1`. What would it be if the encoder chose the same code everywhere?

# %%
# Your answer to exercise 1.
answer_1 = None


# %%
def check_1(answer):
    np.testing.assert_allclose(answer, usage.perplexity, rtol=1e-3)
    return "right"


print("exercise 1:", "no answer yet" if answer_1 is None else check_1(answer_1))

# %% [markdown]
# <details><summary>Solution</summary>
#
# One code everywhere has the entropy 0 and the perplexity 1. That is the collapse of a VQ-VAE: the
# codebook is there, and nobody reads it.
#
# ```python
# share = np.bincount(codes.ravel(), minlength=32) / codes.size
# share = share[share > 0]
# answer_1 = np.exp(-np.sum(share * np.log(share)))
# assert check_1(answer_1) == "right"
# ```
# </details>
#
# ### Exercise 2: cooler samples
#
# `ladder.sample(n, temperature=t)` multiplies the standard deviations of all groups by $t$. How
# does the variance of the samples (over samples, averaged over pixels) change from $t = 1$ to
# $t = \frac12$? `answer_2` is the variance at $\frac12$ divided by that at 1.

# %%
# Your answer to exercise 2.
answer_2 = None


# %%
def check_2(answer):
    warm, cool = (ladder.sample(300, seed=7, temperature=t).numpy() for t in (1.0, 0.5))
    ratio = cool.var(axis=0).mean() / warm.var(axis=0).mean()
    np.testing.assert_allclose(answer, ratio, rtol=0.15)  # the noise of other draws
    return "right"


print("exercise 2:", "no answer yet" if answer_2 is None else check_2(answer_2))

# %% [markdown]
# <details><summary>Solution</summary>
#
# They get more alike: cooling buys the typical at the price of the rare. The density that one
# samples from is no longer the model's, and no likelihood belongs to it.
#
# ```python
# warm, cool = (ladder.sample(300, seed=6, temperature=t).numpy() for t in (1.0, 0.5))
# answer_2 = cool.var(axis=0).mean() / warm.var(axis=0).mean()
# print(f"{answer_2:.2f}")
# assert check_2(answer_2) == "right" and answer_2 < 1
# ```
# </details>

# %% [markdown]
# ## References
#
# - C. K. Sønderby et al. (2016), *Ladder variational autoencoders*,
#   [arXiv:1602.02282](https://arxiv.org/abs/1602.02282).
# - R. Child (2021), *Very deep VAEs generalize autoregressive models and can outperform them on
#   images*, [arXiv:2011.10650](https://arxiv.org/abs/2011.10650).
# - A. van den Oord, O. Vinyals and K. Kavukcuoglu (2017), *Neural discrete representation
#   learning*, [arXiv:1711.00937](https://arxiv.org/abs/1711.00937): the VQ-VAE.
# - In this repository: [hierarchies](../docs/hierarchies.md), [codes](../docs/vq.md).
