"""Models of every likelihood, posterior and prior: each pair of families meets in one of them.

A likelihood meets each prior, and on the way each posterior; a posterior meets each prior. What is
slow (a traced loop, an export) is done once for each likelihood, posteriors and priors going round.
"""

import numpy as np
from tensorflow_probability import distributions as tfd

from tfvae import VAE, networks

SHAPE = (3, 2, 2)
LATENT_DIM = 2
CLASSES = 3

# What each likelihood is, and which images it takes.
LIKELIHOODS = {
    "bernoulli": "bits",
    "continuous_bernoulli": "grey",
    "normal:scale=optimal": "real",
    "laplace:scale=learned": "real",
    "logistic:scale=per_value": "real",
    "student_t:df=learned,scale=learned": "real",
    "beta": "grey",
    "discretized_logistic:levels=4": "levels",
    "discretized_logistic_mixture:levels=4,components=2": "levels",
    "categorical:levels=4": "levels",
    "poisson": "counts",
    "negative_binomial:dispersion=per_value": "counts",
}
POSTERIORS = ["normal", "full_normal", "iaf:flows=2,hidden=8", "coupling:flows=2,hidden=8"]
PRIORS = [
    "standard_normal",
    "mixture:components=2",
    "vamp:pseudo_inputs=2",
    "realnvp:flows=2,hidden=8",
    "maf:flows=2,hidden=8",
    "class_normal",
    "fixed",
]


CASES = [
    (likelihood, POSTERIORS[(row + column) % len(POSTERIORS)], prior)
    for row, likelihood in enumerate(LIKELIHOODS)
    for column, prior in enumerate(PRIORS)
]
SLOW_CASES = [
    (likelihood, POSTERIORS[row % len(POSTERIORS)], PRIORS[row % len(PRIORS)])
    for row, likelihood in enumerate(LIKELIHOODS)
]


def images(kind, count=6):
    rng = np.random.default_rng(1)
    shape = (count, *SHAPE)
    drawn = {
        "bits": rng.integers(0, 2, shape),
        "grey": rng.random(shape),
        "real": rng.normal(size=shape),
        "levels": rng.integers(0, 4, shape) / 3,
        "counts": rng.poisson(2.0, shape),
    }
    return drawn[kind].astype("float32")


def model(likelihood, posterior, prior, **kwargs):
    num_classes = CLASSES if prior == "class_normal" else None
    options = {"hidden": (8,), "num_classes": num_classes, "seed": 0}
    if prior == "fixed":
        prior = tfd.MultivariateNormalTriL([0.1, -0.2], [[1.0, 0.0], [0.5, 0.8]])
    return VAE(
        networks.dense_encoder(SHAPE, **options),
        networks.dense_decoder(SHAPE, LATENT_DIM, **options),
        LATENT_DIM,
        # As many features as parameters would be taken for these.
        likelihood=likelihood,
        posterior=posterior,
        prior=prior,
        num_classes=num_classes,
        seed=0,
        **kwargs,
    )


def batch(vae, likelihood):
    x = images(LIKELIHOODS[likelihood])
    return x, None if vae.num_classes is None else np.arange(len(x)) % CLASSES
