# ---
# jupyter:
#   jupytext:
#     text_representation: {extension: .py, format_name: percent}
# ---

# %% [markdown]
# # 9. Tables: holes, made-up rows and odd rows
#
# Nothing in the ELBO says that $x$ is a picture. Here $x$ is a row of a table: some columns are
# numbers, one is a category, and some cells are empty. The model stays what it was, an encoder, a
# latent vector and a decoder. Only the likelihood changes.
#
# ## Learning goals
#
# - Write $\log p(x|z)$ of a row as a sum over its columns.
# - Train on rows with holes: a value that nobody measured adds nothing to the sum.
# - Fill holes by averaging over what $z$ may have been, and say how sure the filling is.
# - Draw new rows, also under a condition.
# - Find rows that do not fit, although each of their values is usual on its own.

# %%
import keras
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_wine
from sklearn.metrics import roc_auc_score

import tfvae

keras.utils.set_random_seed(0)  # of the order in which `fit` takes rows

# %% [markdown]
# ## The table
#
# It comes with scikit-learn: 178 bottles of wine from three growers, and thirteen measurements of
# each. The library looks at the values and decides what kind of column each one is.

# %%
table = load_wine(as_frame=True).frame
table["grower"] = table.pop("target").map({0: "A", 1: "B", 2: "C"})
data = tfvae.datasets.load(table, validation=0.1, test=0.25, seed=1)
print(data.summary())
print(data.schema)
assert data.kind == "table" and len(data.train) + len(data.validation) + len(data.test) == 178

# %% [markdown]
# ## One likelihood a column
#
# Given $z$, the columns are independent. So the density of a row is a product, and its logarithm a
# sum over the $D$ columns:
#
# $$\log p(x|z) = \sum_{j=1}^{D} \log p_j(x_j|z). \tag{9.1}$$
#
# Each $p_j$ is of its column's kind: a Student's t density for a number, a probability for each
# level of a category. The decoder puts out all their parameters side by side.

# %% tags=["parameters"] capped="epochs = 20"
epochs = 60  # passes over the training rows

# %%
likelihood = data.schema.likelihood()
for name, family in list(data.schema.likelihoods().items())[-3:]:
    print(f"{name:32} {family}")
vae = tfvae.VAE.for_events(
    data.event_shape,
    latent_dim=4,
    network="dense:hidden=64x64",
    likelihood=likelihood,
    missing=True,
    seed=0,
)
x_test, _ = data.test.arrays()
z = vae.encode(x_test).sample(seed=(0, 1))
by_column = vae.log_likelihood_by_value(x_test, z).numpy()  # [rows, columns], nats
whole = vae.decode(z).log_prob(x_test).numpy()
# (9.1): the row's log-likelihood is the sum over its columns.
np.testing.assert_allclose(by_column.sum(axis=1), whole, rtol=1e-4, atol=1e-3)
print(f"first row: {whole[0]:.3f} nats, the sum of {by_column.shape[1]} columns")

# %% [markdown]
# ## Holes
#
# Let $O$ be the columns that were observed. What was not observed is integrated out of the density,
# and since the columns are independent given $z$, its factors integrate to 1 and vanish:
#
# $$\log p(x_O|z) = \sum_{j \in O} \log p_j(x_j|z). \tag{9.2}$$
#
# The encoder cannot be shown an empty cell. It gets some number in its place, and beside the row a
# second row of ones and zeros that says which values are real.
#
# We know this table without holes. So we make some, and keep the truth to compare with: every
# measurement is lost with probability 0.3, whatever its value.

# %%
random = np.random.default_rng(0)


def with_holes(x, share=0.3):
    return np.where(random.random(x.shape) < share, np.nan, x).astype("float32")


holes = with_holes(x_test)
observed = ~np.isnan(holes)
by_column = vae.log_likelihood_by_value(holes, z).numpy()
masked = vae.log_likelihood_by_value(x_test, z).numpy() * observed
# (9.2): a hole adds nothing, and the other columns add what they did.
np.testing.assert_allclose(np.nan_to_num(by_column).sum(1), masked.sum(1), rtol=1e-4, atol=1e-3)
print(f"{1 - observed.mean():.1%} of the test cells are holes")
print(
    f"nats of a row, on average: {masked.sum(1).mean():.2f} without them, {whole.mean():.2f} with"
)

# %% [markdown]
# Training has a trick of its own here. `fit(holes, x)` shows the encoder rows with holes and asks
# for the log-likelihood of the whole row, so that $z$ learns to say what is not there. (Where the
# training table has holes itself, `fit(x)` is all there is to do.)

# %%
x_train, _ = data.train.arrays()
copies = np.concatenate([x_train] * 4)  # each row with four patterns of holes
vae.compile(keras.optimizers.Adam(2e-3))
history = vae.fit(with_holes(copies), copies, epochs=epochs, batch_size=128, verbose=0).history
print(
    f"training ELBO, nats a row: {history['elbo'][0]:.2f} at first, {history['elbo'][-1]:.2f} now"
)
tfvae.plotting.curves(history)

# %% [markdown]
# ## Filling holes
#
# The best guess, in mean square, is the expectation of what is missing given what was observed.
# Many $z$ could have made this row. Draw $K$ of them from $q(z|x_O)$, give each the weight that
# corrects for $q$ not being the true posterior, and average what they say about the hole:
#
# $$\hat{x}_j = \sum_{k=1}^{K} w_k\, \mathbb{E}[x_j|z_k], \qquad
# w_k \propto \frac{p(x_O|z_k)\,p(z_k)}{q(z_k|x_O)}, \qquad \sum_k w_k = 1. \tag{9.3}$$

# %%
row = holes[:1]
terms = vae.terms(row, num_samples=20_000, seed=1)
weight = np.exp(terms.log_weight[:, 0] - np.max(terms.log_weight))
weight /= weight.sum()
means = vae.decode(terms.z[:, 0]).mean().numpy()  # [K, columns]
by_hand = weight @ means
filled = vae.impute(row, num_samples=20_000, seed=2).numpy()[0]
gone = np.flatnonzero(np.isnan(row[0]) & (np.arange(row.shape[1]) < 13))
for j in gone:
    name = list(data.schema.likelihoods())[j]
    print(f"{name:32} by hand {by_hand[j]:6.3f}, impute {filled[j]:6.3f}, was {x_test[0, j]:6.3f}")
# (9.3), up to the noise of two different sets of draws.
np.testing.assert_allclose(by_hand[gone], filled[gone], atol=0.3)
print(f"{1 / np.sum(weight**2):.0f} of 20,000 draws count")

# %% [markdown]
# Is it any good? Compare with the oldest remedy, the mean of the column, and measure errors in
# variances of the column: 1 is what the mean gets. And a filling should say how sure it is. With
# `draws=100` a hole gets a hundred values, and 90 of 100 times the truth should lie between the 5th
# and the 95th of them.

# %%
numbers = np.arange(13)
missing = np.isnan(holes[:, numbers])
truth, mean = x_test[:, numbers], x_train[:, numbers].mean(axis=0)
spread = x_train[:, numbers].std(axis=0)
guess = vae.impute(holes, num_samples=200, seed=3).numpy()[:, numbers]
error = ((guess - truth) / spread) ** 2
error_of_mean = ((mean - truth) / spread) ** 2
completions = vae.impute(holes, draws=100, seed=4).numpy()[..., numbers]
low, high = np.quantile(completions, [0.05, 0.95], axis=0)
inside = ((low <= truth) & (truth <= high))[missing].mean()
print(f"squared error of {missing.sum()} holes, in variances of their column:")
print(f"  column's mean {error_of_mean[missing].mean():.3f}")
print(f"  VAE           {error[missing].mean():.3f}")
print(f"the 90 % intervals hold {inside:.0%} of the true values")
assert error[missing].mean() < error_of_mean[missing].mean()

# %% [markdown]
# Less than 90 % says that the model is too sure of itself, which is no wonder after so few rows.
# Look at one column: where the truth lies outside of its bar, the rest of the row spoke for another
# value.

# %%
j = 6  # flavanoids, which tell the growers apart
figure, axes = plt.subplots(figsize=(7, 3.4), layout="constrained")
order = np.argsort(truth[:, j])
order = order[missing[order, j]]
place = np.arange(len(order))
axes.vlines(place, low[order, j], high[order, j], color="C0", alpha=0.35, lw=6, label="90 %")
axes.plot(place, guess[order, j], "o", color="C0", ms=5, label="filled")
axes.plot(place, truth[order, j], "x", color="C3", ms=7, mew=2, label="truth")
axes.axhline(mean[j], color="0.4", ls="--", lw=1, label="column's mean")
axes.set(xlabel="test rows where the value was taken away, sorted", ylabel="flavanoids, scaled")
axes.legend(ncols=4, loc="upper center", bbox_to_anchor=(0.5, 1.15))
plt.show()

# %% [markdown]
# ## Made-up rows
#
# Draw $z$ from the prior, decode, and draw each column from its $p_j(x_j|z)$. `to_frame` turns the
# model's numbers back into the table's own units and categories. In the picture, the columns and
# pairs of made-up rows lie beside those of the real ones.

# %%
made_up = data.schema.to_frame(vae.sample(500, mean=False, seed=5), within_range=True)
print(made_up.iloc[:5, [0, 6, 9, 12, 13]].round(2).to_string(index=False))
pair = ["flavanoids", "color_intensity"]
correlation = [frame[pair].corr(method="spearman").iloc[0, 1] for frame in (table, made_up)]
print("rank correlation of the two: real {:.2f}, made up {:.2f}".format(*correlation))

# %%
figure, panels = plt.subplots(
    1, 2, figsize=(8, 3.6), sharex=True, sharey=True, layout="constrained"
)
for panel, (title, frame) in zip(panels, {"real": table, "made up": made_up}.items(), strict=True):
    for colour, grower in enumerate("ABC"):
        rows = frame[frame["grower"] == grower]
        panel.plot(rows[pair[0]], rows[pair[1]], ".", color=f"C{colour}", ms=5, label=grower)
    panel.set(title=f"{title}: {len(frame)} rows", xlabel=pair[0])
panels[0].set_ylabel(pair[1])
panels[0].legend(title="grower")
plt.show()

# %% [markdown]
# *Rows of grower B only?* Nothing new has to be trained: draw many $z$ from the prior, and weigh
# each by how probable it makes the condition. It is equation (9.3) with the prior in the place of
# $q$.

# %%
given = tfvae.evaluation.sample_given(vae, data.schema.event_given({"grower": "B"}), 200, seed=6)
of_b = data.schema.to_frame(given.x, within_range=True)
print(f"mean alcohol, made-up rows of B {of_b['alcohol'].mean():.2f}, of all growers ", end="")
print(f"{made_up['alcohol'].mean():.2f}; real rows of B ", end="")
print(f"{table.loc[table['grower'] == 'B', 'alcohol'].mean():.2f}")
assert set(of_b["grower"]) == {"B"}

# %% [markdown]
# ## Odd rows
#
# A row is suspicious if the model finds it improbable: the score is $-\mathrm{ELBO}(x)$. Easy prey
# are values far outside. Here is a harder case: a row whose left half is from one bottle and whose
# right half from another, of a different grower. **Each of its values is usual.** Only together
# they never occur.
#
# To see that it takes a joint model, let a rival look at one column at a time: fit a normal density
# to each column, and add up the logarithms.

# %%
of = {grower: x_test[data.schema.to_frame(x_test)["grower"] == grower] for grower in "ABC"}
odd = []
for left, right in (("A", "B"), ("B", "C"), ("C", "A")):
    for one, other in zip(of[left], of[right][::-1], strict=False):
        odd.append(np.concatenate([one[:6], other[6:]]))
odd = np.array(odd)


def score(x):
    return -vae.elbo(x, num_samples=50, seed=7).elbo.numpy()


def column_score(x):
    return 0.5 * (((x[:, numbers] - mean) / spread) ** 2).sum(axis=1)


is_odd = np.r_[np.zeros(len(x_test)), np.ones(len(odd))]
both = np.concatenate([x_test, odd])
area = roc_auc_score(is_odd, score(both))
area_of_columns = roc_auc_score(is_odd, column_score(both))
print(f"{len(odd)} mixed rows among {len(x_test)} true ones; chance of ranking a mixed row higher:")
print(f"  one column at a time {area_of_columns:.3f}")
print(f"  VAE, -ELBO           {area:.3f}")

# %%
figure, panels = plt.subplots(1, 2, figsize=(8, 3.2), sharey=True, layout="constrained")
for panel, (title, of_rows) in zip(
    panels, {"one column at a time": column_score, "VAE": score}.items(), strict=True
):
    values = [of_rows(x_test), of_rows(odd)]
    bins = np.linspace(np.min(values[0]), np.quantile(np.concatenate(values), 0.98), 25)
    panel.hist(values[0], bins, alpha=0.6, label="true rows")
    panel.hist(values[1], bins, alpha=0.6, label="mixed rows", color="C3")
    panel.set(title=title, xlabel="score, nats")
panels[0].set_ylabel("rows")
panels[0].legend()
plt.show()

# %% [markdown]
# ## Exercises
#
# ### Exercise 1: the price of a hole
#
# Test rows lose a share of their cells. How does the error of the
# filled values grow with that share? Write a list `answer_1` of the mean squared errors, in
# variances, for shares of 10, 50 and 90 %. What value must it come close to at the end, and why?

# %%
# Your answer to exercise 1.
answer_1 = None


# %%
def check_1(answer):
    assert len(answer) == 3, "one error for each share"
    assert answer[0] < answer[2], "fewer holes are easier to fill"
    return "right"


print("exercise 1:", "no answer yet" if answer_1 is None else check_1(answer_1))

# %% [markdown]
# <details><summary>Solution</summary>
#
# With nothing observed the best guess is the mean of the model, about that of the column, whose
# error is 1 variance. At 90 % one or two of the columns are left to tell what the others were.
#
# ```python
# answer_1 = []
# for share in (0.1, 0.5, 0.9):
#     some = with_holes(x_test, share)
#     gone = np.isnan(some[:, numbers])
#     found = vae.impute(some, num_samples=100, seed=8).numpy()[:, numbers]
#     answer_1.append((((found - truth) / spread) ** 2)[gone].mean())
# assert check_1(answer_1) == "right"
# ```
# </details>
#
# ### Exercise 2: which half is wrong?
#
# `log_likelihood_by_value` says what each column adds to
# $\log p(x|z)$. Which column of the mixed rows loses the most nats against the true test rows, on
# average? `answer_2` is its name.

# %%
# Your answer to exercise 2.
answer_2 = None


# %%
def mean_by_column(x):
    z = vae.encode(x).sample(seed=(0, 9))
    return vae.log_likelihood_by_value(x, z).numpy().mean(axis=0)


def check_2(answer):
    names = list(data.schema.likelihoods())
    assert answer == names[np.argmin(mean_by_column(odd) - mean_by_column(x_test))]
    return "right"


print("exercise 2:", "no answer yet" if answer_2 is None else check_2(answer_2))

# %% [markdown]
# <details><summary>Solution</summary>
#
# Subtract the two means and take the most negative. The encoder has to choose one $z$ for two
# halves that contradict each other, and the columns that $z$ knows best suffer most.
#
# ```python
# loss = mean_by_column(odd) - mean_by_column(x_test)
# answer_2 = list(data.schema.likelihoods())[int(np.argmin(loss))]
# assert check_2(answer_2) == "right"
# ```
# </details>

# %% [markdown]
# ## References
#
# - P.-A. Mattei and J. Frellsen (2019), *MIWAE: Deep generative modelling and imputation of
#   incomplete data sets*, [arXiv:1812.02633](https://arxiv.org/abs/1812.02633): equation (9.3).
# - A. Nazábal et al. (2020), *Handling incomplete heterogeneous data using VAEs*,
#   [arXiv:1807.03653](https://arxiv.org/abs/1807.03653): a likelihood for each kind of column.
# - S. Aeberhard and M. Forina (1992), *Wine*,
#   [UCI Machine Learning Repository](https://doi.org/10.24432/C5PC7J): the table.
# - In this repository: [tables](../docs/tables.md), [holes](../docs/missing.md),
#   [anomalies](../docs/anomalies.md).
