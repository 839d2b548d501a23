"""Models in which likelihoods, posteriors, priors, objectives, networks and ranks of events meet.

A posterior meets each prior and rank, a prior each rank, a network each rank that it is for. A
likelihood meets some of them: log p(x|z) and log p(z) know nothing of each other. Objectives go
round among those that fit. What is slow (a traced loop, an export) is done for some of the cases.
"""

import itertools
from typing import NamedTuple

import numpy as np
from tensorflow_probability import distributions as tfd

from tfvae import VAE

LATENT_DIM = 2
CLASSES = 3

# A vector, a series, an image and a volume.
SHAPES = [(7,), (4, 3), (3, 2, 2), (3, 2, 2, 1)]
# What each likelihood is, and which events it takes.
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
# Goes with the prior of that name alone.
CLASSES_POSTERIOR = "relaxed_categorical:classes=2"
CLASSES_PRIOR = "relaxed_categorical:learned=true"
OBJECTIVES = [
    "elbo:beta=2,num_samples=2",
    "stl:num_samples=2",
    "capacity:gamma=2,capacity=3",
    "iwae:num_samples=3",
    "dreg:num_samples=3",
    "miwae:num_bounds=2,num_inner=2",
    "piwae:num_bounds=2,num_inner=2",
    "ciwae:beta=0.25,num_samples=3",
    "factor:gamma=2,hidden=5,layers=2",
    "info:alpha=0.5,mmd_weight=4",
]
# These need a posterior that factorises, and the first a prior that does.
FREE_BITS, BETA_TC = "free_bits:nats=0.2,groups=2", "beta_tc:dataset_size=50,beta=2"
# Of models of codes, which tests/models/test_vq.py makes.
QUANTIZERS = ["vq:codes=5,decay=0.9", "fsq:levels=4x3", "residual:depth=2,codes=4"]
CODE_PRIORS = ["transformer:width=8,layers=1,heads=2,dropout=0.2"]
NETWORKS = ["dense:hidden=8", "conv:filters=4,hidden=8", "residual:filters=4,blocks=1,hidden=8"]


class Case(NamedTuple):
    """What a model is made of."""

    likelihood: str
    posterior: str
    prior: str
    objective: str = "elbo"
    network: str = "dense:hidden=8"
    shape: tuple = (3, 2, 2)


def _case(number, likelihood, posterior, prior, rank, network):
    shape = SHAPES[rank % len(SHAPES)]
    objective = OBJECTIVES[number % len(OBJECTIVES)]
    if posterior == "normal":
        # The only ones to take these. Below the floor of free bits a prior's weights learn nothing.
        objective = FREE_BITS if prior == "standard_normal" else BETA_TC
    networks = NETWORKS if len(shape) > 1 else NETWORKS[:1]
    return Case(likelihood, posterior, prior, objective, networks[network % len(networks)], shape)


_NAMES = list(LIKELIHOODS)
CASES = [
    _case(
        number=3 * row + column - 1,
        # One further in each round, so that a likelihood meets more than one posterior.
        likelihood=_NAMES[(place + place // len(_NAMES)) % len(_NAMES)],
        posterior=posterior,
        prior=prior,
        rank=row + column,
        network=row,
    )
    for place, ((row, prior), (column, posterior)) in enumerate(
        itertools.product(enumerate(PRIORS), enumerate(POSTERIORS))
    )
]
CASES += [
    _case(row, _NAMES[row], CLASSES_POSTERIOR, CLASSES_PRIOR, rank=2 + row // 3, network=row // 3)
    for row in range(0, len(_NAMES), 3)
]
# Of each network one that is no row of dense layers: the others take a second more.
SLOW_CASES = [
    _case(
        row,
        likelihood,
        POSTERIORS[row % len(POSTERIORS)],
        PRIORS[row % len(PRIORS)],
        rank=row + row // 4,
        network=row if row < len(NETWORKS) else 0,
    )
    for row, likelihood in enumerate(LIKELIHOODS)
]
SLOW_CASES += [Case("bernoulli", CLASSES_POSTERIOR, CLASSES_PRIOR, "iwae:num_samples=3")]


def met(cases):
    """Return all pairs of parts of different kinds that meet in some case."""
    return {
        ((one, case[one]), (two, case[two]))
        for case in cases
        for one, two in itertools.combinations(range(len(Case._fields)), 2)
    }


def events(kind, shape, count=6):
    rng = np.random.default_rng(1)
    shape = (count, *shape)
    drawn = {
        "bits": rng.integers(0, 2, shape),
        "grey": rng.random(shape),
        "real": rng.normal(size=shape),
        "levels": rng.integers(0, 4, shape) / 3,
        "counts": rng.poisson(2.0, shape),
    }
    return drawn[kind].astype("float32")


def model(case, seed=0, **kwargs):
    prior = case.prior
    if prior == "fixed":
        prior = tfd.MultivariateNormalTriL([0.1, -0.2], [[1.0, 0.0], [0.5, 0.8]])
    return VAE.for_events(
        case.shape,
        latent_dim=LATENT_DIM,
        network=case.network,
        likelihood=case.likelihood,
        posterior=case.posterior,
        prior=prior,
        objective=case.objective,
        num_classes=CLASSES if prior == "class_normal" else None,
        seed=seed,
        **kwargs,
    )


def batch(vae, case):
    x = events(LIKELIHOODS[case.likelihood], case.shape)
    return x, None if vae.num_classes is None else np.arange(len(x)) % CLASSES


def shaken(layer, seed=0, size=0.2):
    """A layer whose weights are far from where they start, as training leaves them."""
    rng = np.random.default_rng(seed)
    for weight in layer.trainable_weights:
        weight.assign_add(rng.normal(size=weight.shape).astype(np.float32) * size)
    return layer
