# ---
# jupyter:
#   jupytext:
#     text_representation: {extension: .py, format_name: percent}
# ---

# %% [markdown]
# # 7. Experiments
#
# A template for experiments with VAEs, on networks so small that every row takes seconds. First
# what goes wrong most often, posterior collapse, and what helps. Then better posteriors, priors and
# bounds in one loop over a dictionary of configurations. Then the figure that all of them are
# compared by, $\log p(x)$, and how far it can be trusted. And last, how to read the difference of
# two rows of a table.
#
# ## Learning goals
#
# - recognise posterior collapse by the KL of each dimension, and tell its two causes apart;
# - swap posterior, prior and objective without touching networks or loop;
# - estimate $\log p(x)$ by importance sampling, and check it with annealed importance sampling
#   and bounds from both sides;
# - compare two models image by image, with the paired standard error;
# - keep apart what an error over images says and what only other seeds can say.

# %%
import math
import os

import keras
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf

import tfvae

# %% [markdown]
# ## The setting
#
# Binarized images: the 8 x 8 digits that come with scikit-learn, or MNIST where the environment
# variable `TFVAE_MNIST` names a folder of its four IDX files (or is `mnist`, to download them).
# Training images are drawn as bits anew each epoch; test images are drawn once, so that all models
# are measured on the very same bits. All models below have the same small dense networks, the same
# order of the data and the same number of steps.

# %% tags=["parameters"] capped="steps, images, draws = 30, 60, 20"
# Training steps; test images; draws of z an image for log p(x).
steps, images, draws = 500, 400, 200

# %%
data = tfvae.datasets.load(os.environ.get("TFVAE_MNIST", "digits"), binarize="dynamic")
batches = tfvae.datasets.Batches(data.train.subset(8000), 128, shuffle=True)
test = data.test.subset(images)
x_test, _ = test.arrays()
print(f"{len(batches.split)} training images {data.image_shape}, {len(test)} test images,")
print(f"{len(batches)} steps an epoch")


def trained(seed=0, network="dense:hidden=256x128", steps=steps, **families):
    """Train a model whose distributions and objective are given by name."""
    keras.utils.set_random_seed(seed)
    vae = tfvae.VAE.for_images(
        data.image_shape, network=network, latent_dim=10, seed=seed, **families
    )
    vae.compile(keras.optimizers.Adam(2e-3))
    if isinstance(vae.prior_family, tfvae.priors.VampPrior):
        vae.prior_family.adapt(batches.split.arrays(limit=vae.prior_family.pseudo_inputs)[0])
    tfvae.training.train(vae, batches, epochs=math.ceil(steps / len(batches)), progress=False)
    return vae


# %% [markdown]
# ## 1. Posterior collapse
#
# The ELBO has two ways to be good: to say much about $x$ in $z$, and pay for it with KL; or to pay
# nothing. In the second, $q(z|x) = p(z)$ for every $x$, the decoder never hears of $x$, and the
# model has **collapsed**. It can happen to single dimensions or to all. There are two causes, and
# they have different cures:
#
# - **The objective wants it.** With a large β, or a noise scale that is large (notebook 5:
#   $\sigma^2$ *is* a β), what $z$ could tell of $x$ is worth less than the KL it costs.
# - **The optimiser got stuck in it.** At the start the decoder does not know how to use $z$, so $z$
#   is worth nothing yet, and the KL pulls $q(z|x)$ to the prior before the decoder has learnt. Once
#   $z$ is noise, the decoder has nothing to learn from.
#
# ### The objective wants it

# %%
healthy, too_strong = trained(), trained(objective="elbo:beta=100")
found = {
    "β = 1": tfvae.evaluation.diagnose(healthy, test.batches(200)),
    "β = 100": tfvae.evaluation.diagnose(too_strong, test.batches(200)),
}
for name, one in found.items():
    print(f"{name:8} active units {one.active_units} of {one.latent_dim}, rate {one.rate:.2f} nats")
    for line in one.warnings:
        print("         warning:", line)
assert found["β = 1"].active_units > 0 == found["β = 100"].active_units

# %%
figure, panels = plt.subplots(1, 2, figsize=(8, 2.8), sharey=True, layout="constrained")
for panel, (name, one) in zip(panels, found.items(), strict=True):
    kl = np.sort(one.kl_per_dimension)[::-1]
    panel.bar(range(len(kl)), kl)
    panel.set(title=f"{name}: {kl.sum():.2f} nats in all", xlabel="dimension, sorted")
panels[0].set_ylabel("KL of the dimension, nats")
plt.show()

# %% [markdown]
# `tfvae.evaluation.diagnose` looks at every dimension. A dimension is an *active unit* if the mean
# of $q(z|x)$ in it varies over the images. Both panels have one axis, so that nothing looks like
# something: with $\beta = 100$ there are no bars, and the warning says the same in words.
#
# The warning also names two cures, a warm-up and free bits. It looks at the model alone and cannot
# know why nothing is in $z$; these are cures of the *other* cause. Here the objective itself is the
# matter. A warm-up lets the KL rise for a while, and when β is back at its end the optimum is the
# collapsed one again:

# %%
warmed = trained(objective=f"elbo:beta=linear(steps={steps // 2},end=100)")
kl = np.array(warmed.history.history["kl"])
print(f"warm-up to β = 100: KL {kl.max():.2f} nats at its highest, {kl[-1]:.2f} at the end")

# %% [markdown]
# What cures it is another objective: a smaller β, or the noise scale that the data have.
#
# ### The optimiser got stuck in it
#
# Now β is 1, and the objective wants $z$ to be used. But the networks are of an old kind, with
# sigmoids between their layers. A sigmoid makes differences smaller, and with two of them in a row
# the decoder hardly notices $z$ at first. So it is slow to learn what $z$ is good for, and
# meanwhile the KL pulls every $q(z|x)$ to the prior.
#
# This takes images that have more to tell than those of 64 pixels: the part of MNIST that comes
# with the library, $28 \times 28$ pixels (or what `TFVAE_MNIST` names).
#
# - **Warm-up** (Bowman et al. 2016; Sønderby et al. 2016): the KL weighs nothing at first, and then
#   its weight β rises in a line to 1, here over the first half of the training. The decoder learns
#   to use $z$ while that is free.
# - **Cyclical** (Fu et al. 2019): the same three times over. Each cycle starts from the codes that
#   the one before it has left.
# - **Free bits** (Kingma et al. 2016): $\sum_j \max(\lambda, \mathrm{KL}_j)$ in the place of the
#   KL. Below the floor $\lambda$, here half a nat, the KL of a dimension costs nothing, so that
#   nothing pushes it down.

# %% tags=["parameters"] capped="cure_steps, least_gain = 30, -math.inf"
cure_steps = 960  # of 128 images each
least_gain = 3  # nats of ELBO that a cure has to bring

# %% capped="from functools import cache; one = with_cure; with_cure = cache(lambda n, *_: one(n))"
digits = tfvae.datasets.load(os.environ.get("TFVAE_MNIST", "mnist-small"), binarize="dynamic")
digit_batches = tfvae.datasets.Batches(digits.train.subset(4000), 128, shuffle=True)
digit_test = digits.test.subset(images).batches(200)
cures = {
    "no cure": "elbo",
    "warm-up": f"elbo:beta=linear(steps={cure_steps // 2})",
    "cyclical": f"elbo:beta=cyclical(period={cure_steps // 3})",
    "free bits": "free_bits:nats=0.5",
}


def with_cure(name, layers="128x128", activation="sigmoid"):
    """Train a model of digits, print its row of the table, and look at its latent space."""
    keras.utils.set_random_seed(0)
    vae = tfvae.VAE.for_images(
        digits.image_shape,
        network=f"dense:hidden={layers},activation={activation}",
        latent_dim=10,
        objective=cures[name],
        seed=0,
    )
    vae.compile(keras.optimizers.Adam(5e-3))
    epochs = math.ceil(cure_steps / len(digit_batches))
    tfvae.training.train(vae, digit_batches, epochs=epochs, progress=False)
    diagnosis = tfvae.evaluation.diagnose(vae, digit_test)
    elbo = tfvae.evaluation.elbo(vae, digit_test)
    units = f"{diagnosis.active_units} of {vae.latent_dim}"
    print(f"{name:<12}{units:>13}{elbo.kl:>10.2f}{elbo.log_likelihood:>16.2f}", end="")
    print(f"{elbo.elbo:>10.2f} ± {elbo.standard_error:.2f}")
    return vae, diagnosis, elbo


HEADER = f"{'':<12}{'active units':>13}{'KL, nats':>10}{'E[log p(x|z)]':>16}{'ELBO':>17}"

# %% [markdown]
# Networks, data, steps, learning rate and seed are the same in all four. Whatever the training has
# minimised, the table has the plain ELBO of test images, with β = 1, and its two terms.

# %%
print(HEADER)
cured = {name: with_cure(name) for name in cures}
for name in ("warm-up", "cyclical", "free bits"):
    gain = cured[name][2].elbo - cured["no cure"][2].elbo
    print(f"{name} gains {gain:.2f} nats")
    assert gain > least_gain

# %%
figure, panels = plt.subplots(
    3, 4, figsize=(11, 6), layout="constrained", sharey="row", height_ratios=[1, 3, 3]
)
every = np.arange(cure_steps)
for column, (name, (vae, diagnosis, _)) in enumerate(cured.items()):
    top, middle, bottom = panels[:, column]
    weight = getattr(vae.objective, "beta", None)  # free bits have none
    top.plot(every, [float(weight(step)) if weight else 1.0 for step in every], color="C1")
    top.set(title=name, ylim=(-0.2, 1.2), yticks=[0, 1])
    kl = vae.history.history["kl"]
    middle.plot(np.arange(1, len(kl) + 1) * len(digit_batches), kl)
    middle.set_xlabel("step")
    middle.sharex(top)
    bottom.bar(range(10), np.sort(diagnosis.kl_per_dimension)[::-1])
    bottom.set(xlabel="dimension, sorted", xticks=range(0, 10, 3))
for panel, label in zip(panels[:, 0], ("β", "KL, nats", "KL of a dimension"), strict=True):
    panel.set_ylabel(label)
panels[1, 0].set_ylim(0, None)
plt.show()
for name, (_, diagnosis, _) in cured.items():
    print(f"{name}:", "; ".join(diagnosis.warnings) or "no warning")

# %% [markdown]
# Top to bottom: the weight β, the KL while the training goes on, and the KL of each dimension at
# its end, on test images. All panels of a row share one axis, and for the KL it starts at 0.
#
# Without a cure the KL is 0 for more than a hundred steps, and then one dimension after another is
# found. At the end eight of ten are still dead, and the ELBO is about thirty nats below the others:
# much more than any error. Each cure works, and each in its own way. With the warm-up nearly all
# dimensions take part. The cycles show well in the middle row: where β falls to 0 the KL shoots
# up, and where β comes back the KL is squeezed, and five dimensions are left in use. With free bits
# all ten have about half a nat or more, the floor; those that stop there have been kept alive, and
# tell little.
#
# Read the warnings with care. Of the model without a cure it says that a smaller latent space would
# do as well, or free bits. `diagnose` sees that eight dimensions are unused, but not why: *this*
# training did not find a use for them, and the other columns show that there is one. Of the
# cyclical model it says the same of five dimensions. There, too, the warm-up has found more.
#
# ### Where the cures end
#
# A cure gives the decoder time. It does not help a decoder that can learn nothing in that time.
# With a third layer of sigmoids nothing of $z$ gets through to the pixels any more:

# %%
print(HEADER)
deeper = {name: with_cure(name, "128x128x128") for name in ("warm-up", "free bits")}
print("the same three layers with leaky ReLUs in the place of sigmoids:")
mended = with_cure("no cure", "128x128x128", "leaky_relu")
assert mended[2].elbo - deeper["warm-up"][2].elbo > least_gain

# %% [markdown]
# The warm-up ends where β rises: everything collapses. The free bits are worse than useless: KL is
# there, since it costs nothing, but no unit is active and $E[\log p(x|z)]$ is what it is without
# $z$. So **a KL above zero does not show that a model uses $z$**. Look at the active units, and at
# what the likelihood gains. And the best of all the rows has no cure: with the activation that the
# library takes by default, there is nothing to be cured. So first look for what makes the decoder
# slow, and only then for a schedule.

# %% [markdown]
# ## 2. One loop over configurations
#
# Posterior, prior and objective are names here, so a table is a dictionary and a loop. To add a row
# of your own, add a line.
#
# - `iaf`: the posterior is a Normal that is pushed through an inverse autoregressive flow, which
#   bends it towards the true posterior (Kingma et al. 2016).
# - `realnvp`: the prior is a flow, fitted to where the codes are (Dinh et al. 2017).
# - `vamp`: the prior is a mixture of the posteriors of learned pseudo-images (Tomczak and Welling
#   2018). They start at training images here.
# - `iwae`: the objective is the importance-weighted bound, with K draws of $z$. With K = 1 it is
#   the ELBO again, with a KL that is estimated from the draw and not computed in closed form.

# %% capped="configurations = {name: configurations[name] for name in list(configurations)[:3:2]}"
configurations = {
    "baseline": {},
    "IAF posterior": {"posterior": "iaf:flows=2"},
    "RealNVP prior": {"prior": "realnvp"},
    "VampPrior": {"prior": "vamp:pseudo_inputs=50"},
    "IWAE, K = 1": {"objective": "iwae:num_samples=1"},
    "IWAE, K = 5": {"objective": "iwae:num_samples=5"},
}


# %%
def scored(vae):
    """Estimate log p(x) of the test images."""
    return tfvae.evaluation.log_prob(vae, test.batches(200), num_samples=draws)


models = {
    name: trained(**families) if families else healthy for name, families in configurations.items()
}
scores = {name: scored(vae) for name, vae in models.items()}

# %%
print(
    f"{'nats an image':<16}{'ELBO':>18}{'log p(x)':>18}{'gap':>7}{'KL':>7}{'ESS':>7}{'weights':>9}"
)
for name, score in scores.items():
    elbo = f"{score.elbo.elbo:.2f} ± {score.elbo.standard_error:.2f}"
    log_p = f"{score.log_prob:.2f} ± {score.standard_error:.2f}"
    gap, ess = score.log_prob - score.elbo.elbo, score.effective_sample_size
    weights = models[name].count_params()
    line = f"{name:<16}{elbo:>18}{log_p:>18}{gap:>7.2f}{score.elbo.kl:>7.2f}"
    print(line + f"{ess:>7.1f}{weights:>9}")
for line in scores["baseline"].warnings:
    print("warning, baseline:", line)

# %% [markdown]
# The columns: the ELBO; $\log p(x)$ by importance sampling (section 3), both with standard errors
# over the images; the gap between them, an estimate of $\mathrm{KL}(q(z|x) \Vert p(z|x))$, and too
# small where $\log p(x)$ is; the KL to the prior; the median effective sample size of the draws;
# and how many weights the model has.
#
# - The **gap** says how good the posterior is. A flow makes it smaller. IWAE does not want it
#   small: its bound asks for a $q$ that covers $p(z|x)$, and takes the best of K draws. With K = 5
#   it decodes five times as often in each step.
# - A learned **prior** is fitted to the codes, so that the KL to it costs less.
# - **Weights** differ from row to row, and so do seconds. A fair comparison says what it keeps
#   equal: here networks, data, steps and seed.
#
# Samples from three priors, with the same networks otherwise, and in the last row some of the
# VampPrior's pseudo-images. Those need not look like digits: what counts is where the encoder puts
# them.

# %%
priors = [name for name in ("baseline", "RealNVP prior", "VampPrior") if name in models]
rows = [models[name].sample(12, seed=1) for name in priors]
if "VampPrior" in models:
    rows.append(models["VampPrior"].prior_family.inputs[:12])
tfvae.plotting.image_rows(rows, [*priors, "pseudo-images"][: len(rows)])

# %% [markdown]
# ## 3. log p(x) by importance sampling
#
# $p(x) = E_q[w]$ with the weight $w = p(x, z)/q(z|x)$, and the mean of K weights estimates it. The
# logarithm of that mean is too low on average,
#
# $$L_K = E\Big[\log\frac1K\sum_{k=1}^K w_k\Big] \le \log p(x), \tag{7.1}$$
#
# but the less the larger K is (Burda et al. 2016, theorem 1). $L_1$ is the ELBO. The proof is
# Jensen's inequality, and holds draw by draw: the logarithm of the mean of two blocks of draws is
# at least the mean of the two logarithms. So if the same draws are cut into blocks of K, the mean
# over blocks rises with each doubling of K, in every image.

# %%
some = x_test[:50]
block_sizes = [2**power for power in range(9)]


def bounds(vae):
    """L_K of each image for each K, from the same 256 draws: `[sizes, images]`."""
    log_weight = vae.terms(some, num_samples=256, seed=0).log_weight  # [256, images]
    cut = [tf.reshape(log_weight, (size, -1, len(some))) for size in block_sizes]
    bound = tfvae.objectives.importance_weighted_bound  # over the first axis
    return np.stack([np.mean(bound(blocks), axis=0) for blocks in cut])


compared = [name for name in ("baseline", "IAF posterior", "IWAE, K = 5") if name in models]
by_size = {name: bounds(models[name]) for name in compared}
for values in by_size.values():
    # (7.1): L_K rises with K, up to the rounding of float32 numbers of some hundreds.
    assert np.all(np.diff(values, axis=0) >= -1e-3)

# %%
figure, axes = plt.subplots(figsize=(6.5, 3.6), layout="constrained")
for name, values in by_size.items():
    axes.plot(block_sizes, values.mean(axis=1), "o-", label=name)
axes.set(xscale="log", xlabel="K, draws of z", ylabel="L_K, nats an image")
axes.set_title(f"The bound rises with K ({len(some)} test images)")
axes.grid(alpha=0.3)
axes.legend()
plt.show()

# %% [markdown]
# A curve that is flat at its right end has had draws enough. One that still rises there has not,
# and its $\log p(x)$ in the table is too low; a small effective sample size (ESS) says the same. A
# model trained by IWAE starts low, as its $q$ is wide, and gains most. So compare models at the
# same and the largest K that you can pay, never the ELBO of one with the IWAE bound of the other.
#
# ## 4. Is it accurate? Annealed importance sampling
#
# Importance sampling fails silently where $q(z|x)$ misses a part of $p(z|x)$: all draws are then
# where the weights are small. **Annealed importance sampling** (AIS) walks chains from $q(z|x)$ to
# the true $p(x, z)$ through densities in between. It is a lower bound on average too, and tighter
# the more steps the walk has. It is slow: take few images.

# %% tags=["parameters"] capped="few, walks = 6, [4]"
few, walks = 24, [4, 16, 64]  # images; steps from q(z|x) to p(x, z)

# %%
vae = models["baseline"]
by_ais = tfvae.evaluation.annealed_log_prob(vae, [x_test[:few]], num_steps=walks[-1], num_chains=4)
by_is = tfvae.evaluation.log_prob(vae, [x_test[:few]], num_samples=4 * draws)
ais_less_is = by_ais.log_probs - by_is.log_probs
print(f"importance sampling {by_is.log_prob:.2f}, Monte Carlo error {by_is.monte_carlo_error:.3f}")
print(
    f"AIS                 {by_ais.log_prob:.2f}, Monte Carlo error {by_ais.monte_carlo_error:.3f}"
)
print(f"difference          {ais_less_is.mean():.3f} ± ", end="")
print(f"{ais_less_is.std(ddof=1) / math.sqrt(few):.3f} over the same {few} images")

# %% [markdown]
# If the two agree within their errors, both are likely right. If AIS is higher by more, then
# importance sampling was too low: the Monte Carlo error that comes with it cannot see what its
# draws have missed. But both are lower bounds, and could be too low together.
#
# For images that were *sampled from the model* there is an upper bound as well: the $z$ that such
# an image was decoded from is an exact draw from $p(z|x)$, and a chain that walks backwards from it
# has weights with the expectation $1/p(x)$. That is **bidirectional Monte Carlo** (Grosse et al.
# 2015; Wu et al. 2017): the truth lies between.

# %%
sandwiches = {
    count: tfvae.evaluation.bidirectional_log_prob(vae, few, num_steps=count, num_chains=4)
    for count in walks
}
for count, sandwich in sandwiches.items():
    print(
        f"{count:>3} steps: {sandwich.lower.log_prob:.3f} to {sandwich.upper.log_prob:.3f}, ",
        end="",
    )
    print(f"gap {sandwich.gap:.3f} ± {sandwich.gap_standard_error:.3f}")
    # A lower and an upper bound in expectation: the gap is negative by chance alone.
    assert sandwich.gap > -4 * sandwich.gap_standard_error

# %%
figure, axes = plt.subplots(figsize=(6, 3.4), layout="constrained")
lower = np.array([s.lower.log_prob for s in sandwiches.values()])
upper = np.array([s.upper.log_prob for s in sandwiches.values()])
axes.fill_between(walks, lower, upper, alpha=0.2, label="log p(x) is in between")
axes.plot(walks, upper, "v-", label="upper bound")
axes.plot(walks, lower, "^-", label="lower bound: AIS")
axes.set(xscale="log", xlabel="steps", ylabel="nats an image")
axes.set_xticks(walks, walks)
axes.minorticks_off()
axes.set_title(f"The sandwich of {few} samples of the model")
axes.legend()
plt.show()

# %% [markdown]
# The bounds come together as the walk gets longer. With the longest, AIS is off by less than the
# gap on such images, and about as good on test images where the model fits them. So the comparison
# above can be read: what AIS has over importance sampling is for the most part what importance
# sampling lacks.
#
# ## 5. Reading a difference of two rows
#
# The standard errors in the table of section 2 are large: images differ. A 1 is easy for every
# model, and an 8 is hard for every model. But the table compares models *on the same images*, and
# for that the spread over images hardly matters. With $a_n$ and $b_n$ the $\log p(x_n)$ of two
# models, the mean difference has the variance
#
# $$\frac{\mathrm{Var}(a - b)}{N} = \frac{\mathrm{Var}(a) + \mathrm{Var}(b) -
# 2 \mathrm{Cov}(a, b)}{N}, \tag{7.2}$$
#
# and as easy images are easy for both, the covariance takes away nearly all. `log_probs` of an
# estimate has one value an image, in the order of the data, so that the **paired** error is a line
# of code.


# %%
def difference(a, b):
    """Return the mean difference of two estimates, its paired and its unpaired standard error."""
    values = a.log_probs - b.log_probs
    paired = values.std(ddof=1) / math.sqrt(len(values))
    return values.mean(), paired, math.hypot(a.standard_error, b.standard_error)


print(f"{'over the baseline':<18}{'difference':>11}{'paired ±':>10}{'unpaired ±':>12}")
for name, score in scores.items():
    if name != "baseline":
        mean, paired, unpaired = difference(score, scores["baseline"])
        print(f"{name:<18}{mean:>11.2f}{paired:>10.2f}{unpaired:>12.2f}")
        assert paired < unpaired  # (7.2): the models agree on what is easy, the covariance is large

# %%
a, b = scores["RealNVP prior"].log_probs, scores["baseline"].log_probs
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
left.plot(b, a, ".", ms=4, alpha=0.6)
ends = [min(a.min(), b.min()), max(a.max(), b.max())]
left.plot(ends, ends, color="0.5", lw=1)
left.set(xlabel="log p(x), baseline, nats", ylabel="log p(x), RealNVP prior, nats")
left.set_title("Every image, in two models")
bins = np.linspace(-1, 1, 61) * np.abs(b - b.mean()).max()
right.hist(b - b.mean(), bins, alpha=0.6, label="log p(x) of the\nbaseline, less\nits mean")
right.hist(a - b, bins, alpha=0.6, label="difference of\nthe two models")
right.set(xlabel="nats", ylabel="images", title="What spreads, and what does not")
right.legend(fontsize=9, loc="upper left")
plt.show()

# %% [markdown]
# On the left the points lie along the diagonal: what differs is the image, not the model. On the
# right the same in numbers: the difference has a small part of the spread. In words, for a row with
# difference $\delta$ and paired error $s$: *on images of this kind, this trained model is better
# than that trained model by $\delta \pm s$ nats*. If $\delta$ is less than about $2s$, the test
# images cannot tell which of the two is better.
#
# ## 6. What one seed does not say
#
# The sentence above is about *two trained models*. It does not say that the **method** is better.
# Another seed gives other initial weights and other noise, and the same method ends elsewhere. The
# pair "baseline" and "IWAE, K = 1" shows it: both train the same bound, and their gradients are
# equal in expectation. Any difference between them is luck, or noise of a gradient. Three seeds:

# %% tags=["parameters"] capped="seeds, pair = [0, 0], ('RealNVP prior', 'baseline')"
seeds, pair = [0, 1, 2], ("IWAE, K = 1", "baseline")

# %%
by_seed = []
for seed in seeds:
    both = [
        scores[name] if seed == 0 else scored(trained(seed=seed, **configurations[name]))
        for name in pair
    ]
    mean, paired, _ = difference(*both)
    by_seed.append(mean)
    values = ", ".join(f"{score.log_prob:.2f}" for score in both)
    print(f"seed {seed}: log p(x) {values}; difference {mean:.2f} ± {paired:.2f} over images")
by_seed = np.array(by_seed)
error = by_seed.std(ddof=1) / math.sqrt(len(seeds))
print(f"over seeds: {by_seed.mean():.2f} ± {error:.2f}, from {len(seeds)} differences")

# %% [markdown]
# Compare two numbers: how far the differences lie apart from seed to seed, and the paired error
# over images that each of them came with. Where the first is larger, a paired error alone would
# have called luck a finding. For a claim about methods the unit of observation is the *training*:
# report the mean over seeds with the standard error over seeds, and note that one of three seeds is
# itself only roughly known. The rows of section 2 have one seed each. Differences there that are no
# larger than those between seeds here say nothing about the methods.
#
# ## Exercises
#
# ### Exercise 1: image by image
#
# Where the KL has no closed form, `log_prob` estimates ELBO and $\log p(x)$ from the same draws.
# Show that then $\log p(x) \ge \mathrm{ELBO}$ for *every image*, not just on average, and check it
# on the model with the RealNVP prior. Does it hold for the baseline? `answer_1` is the share of
# images for which it holds with the RealNVP prior.

# %%
# Your answer to exercise 1.
answer_1 = None


# %%
def check_1(answer):
    assert answer == 1, "it holds for each image, up to rounding"
    return "right"


print("exercise 1:", "no answer yet" if answer_1 is None else check_1(answer_1))

# %% [markdown]
# <details><summary>Solution</summary>
#
# With the same draws it is Jensen's inequality for the mean of K numbers,
# $\log \frac1K\sum_k w_k \ge \frac1K\sum_k \log w_k$, and that holds without any expectation. The
# baseline's KL is exact, and so its ELBO is not the mean of those $\log w_k$: it need not hold.
#
# ```python
# score = scores["RealNVP prior"]
# assert not models["RealNVP prior"].kl_is_exact and models["baseline"].kl_is_exact
# answer_1 = np.mean(score.log_probs >= score.log_likelihoods - score.kls - 1e-3)
# assert check_1(answer_1) == "right"
# ```
# </details>
#
# ### Exercise 2: how many images?
#
# How many test images would it take to see a difference of $0.2$ nats between the RealNVP prior and
# the baseline at two standard errors, paired and unpaired? `answer_2` is the pair of numbers.

# %%
# Your answer to exercise 2.
answer_2 = None


# %%
def check_2(answer):
    paired, unpaired = answer
    a, b = scores["RealNVP prior"].log_probs, scores["baseline"].log_probs
    np.testing.assert_allclose(paired, (10 * np.std(a - b, ddof=1)) ** 2, rtol=0.05, atol=2)
    assert unpaired > paired
    return "right"


print("exercise 2:", "no answer yet" if answer_2 is None else check_2(answer_2))

# %% [markdown]
# <details><summary>Solution</summary>
#
# Two standard errors are $2 s_1/\sqrt N$ with $s_1$ the standard deviation over images, so that
# $N = (2 s_1/0.2)^2$.
#
# ```python
# a, b = scores["RealNVP prior"].log_probs, scores["baseline"].log_probs
# paired_images = math.ceil((2 * np.std(a - b, ddof=1) / 0.2) ** 2)
# unpaired_images = math.ceil((2 * math.hypot(np.std(a, ddof=1), np.std(b, ddof=1)) / 0.2) ** 2)
# print(f"paired {paired_images}, unpaired {unpaired_images}")
# answer_2 = paired_images, unpaired_images
# assert check_2(answer_2) == "right"
# ```
#
# Pairing saves most of the images: what makes an image hard is the same in both models.
# </details>
#
# ### Exercise 3: a schedule of your own
#
# β is 0 for the first 100 steps, and then rises to 1 along half a cosine until step 300. Write it
# as `answer_3`, a function of the step, and use it in an objective.

# %%
# Your answer to exercise 3.
answer_3 = None


# %%
def check_3(answer):
    weights = [float(answer(tf.constant(step))) for step in (0, 100, 200, 300, 1000)]
    np.testing.assert_allclose(weights, [0, 0, 0.5, 1, 1], atol=1e-6)
    return "right"


print("exercise 3:", "no answer yet" if answer_3 is None else check_3(answer_3))

# %% [markdown]
# <details><summary>Solution</summary>
#
# Any Keras learning-rate schedule serves as a weight. Between its ends a cosine is steepest in the
# middle, and flat where it starts and stops, so that the loss has no kink.
#
# ```python
# class Delayed(keras.optimizers.schedules.LearningRateSchedule):
#     def __call__(self, step):
#         done = tf.clip_by_value((tf.cast(step, tf.float32) - 100) / 200, 0.0, 1.0)
#         return 0.5 - 0.5 * tf.cos(math.pi * done)
#
#     def get_config(self):
#         return {}
#
#
# objective = tfvae.objectives.ELBO(beta=Delayed())
# answer_3 = objective.beta
# assert check_3(answer_3) == "right"
# ```
# </details>

# %% [markdown]
# ## References
#
# - S. R. Bowman et al. (2016), *Generating Sentences from a Continuous Space*,
#   [arXiv:1511.06349](https://arxiv.org/abs/1511.06349), section 3.1: collapse and warm-up.
# - C. K. Sønderby et al. (2016), *Ladder Variational Autoencoders*,
#   [arXiv:1602.02282](https://arxiv.org/abs/1602.02282), section 2.3.
# - H. Fu et al. (2019), *Cyclical Annealing Schedule*,
#   [arXiv:1903.10145](https://arxiv.org/abs/1903.10145).
# - D. P. Kingma et al. (2016), *Improving Variational Inference with Inverse Autoregressive Flow*,
#   [arXiv:1606.04934](https://arxiv.org/abs/1606.04934); free bits are in appendix C.8.
# - J. Lucas et al. (2019), *Don't Blame the ELBO!*,
#   [arXiv:1911.02469](https://arxiv.org/abs/1911.02469): collapse as the optimum.
# - L. Dinh, J. Sohl-Dickstein, S. Bengio (2017), *Density estimation using Real NVP*,
#   [arXiv:1605.08803](https://arxiv.org/abs/1605.08803).
# - J. M. Tomczak, M. Welling (2018), *VAE with a VampPrior*,
#   [arXiv:1705.07120](https://arxiv.org/abs/1705.07120).
# - Y. Burda, R. Grosse, R. Salakhutdinov (2016), *Importance Weighted Autoencoders*,
#   [arXiv:1509.00519](https://arxiv.org/abs/1509.00519).
# - R. M. Neal (2001), *Annealed Importance Sampling*,
#   [arXiv:physics/9803008](https://arxiv.org/abs/physics/9803008).
# - R. Grosse, Z. Ghahramani, R. P. Adams (2015), *Sandwiching the marginal likelihood using
#   bidirectional Monte Carlo*, [arXiv:1511.02543](https://arxiv.org/abs/1511.02543).
# - Y. Wu, Y. Burda, R. Salakhutdinov, R. Grosse (2017), *On the Quantitative Analysis of
#   Decoder-Based Generative Models*, [arXiv:1611.04273](https://arxiv.org/abs/1611.04273).
# - In this repository: [diagnostics](../tfvae/evaluation/diagnostics.py),
#   [schedules](../tfvae/objectives/schedules.py),
#   [objectives](../tfvae/objectives), [priors](../tfvae/priors.py),
#   [posteriors](../tfvae/posteriors.py), [evaluation](../tfvae/evaluation).
