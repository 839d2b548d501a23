"""A prior fitted after training: ex-post density estimation of the codes.

The codes of the training events follow the aggregate posterior q(z) and not p(z), and samples from
p(z) may decode to nothing. Fitting a density to the codes and sampling from that one mends it,
Ghosh et al. (2020), arXiv:1903.12436, section 4. The result is a prior like any other:
``vae.with_prior(fit_prior(vae, data))``. An autoencoder, which has no prior, samples with it too.
"""

import abc
import math
import sys
from collections.abc import Mapping

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from tfvae import priors
from tfvae.checks import MOST_UNITS, checked_count, is_number
from tfvae.distributions.family import resolve
from tfvae.errors import InputError
from tfvae.evaluation.batches import BATCH_SIZE, EventData, event_batches
from tfvae.lazy import tfd
from tfvae.models import FusedAdam, LatentVariableModel
from tfvae.models.vae import VAE
from tfvae.typing import Tensor


class Density(abc.ABC):
    """Base class of densities: ``fit`` makes a prior of codes `[N, d]`."""

    @abc.abstractmethod
    def fit(self, codes: np.ndarray, seed: int, progress: bool) -> priors.Prior:
        """Fit the density to codes `[N, d]`, and return it as a prior."""


class GaussianMixtureDensity(Density):
    """A mixture of Gaussians with full covariances, fitted by EM (scikit-learn's).

    Args:
        components: how many.

    Raises:
        InputError: if there is not one.
    """

    def __init__(self, components: int = 10):
        self.components = checked_count("components", components, most=MOST_UNITS)

    def fit(self, codes: np.ndarray, seed: int, progress: bool) -> priors.Prior:
        """Fit the mixture to codes `[N, d]`, N at least the number of components."""
        from sklearn.mixture import GaussianMixture

        if len(codes) < self.components:
            raise InputError(
                f"{self.components} components need as many codes; received {len(codes)}"
            )
        # scikit-learn takes seeds below 2^32; without one it would use NumPy's global generator.
        found = GaussianMixture(self.components, random_state=seed % 2**32).fit(
            codes.astype("float64")
        )
        scale = np.linalg.cholesky(found.covariances_).astype("float32")
        return priors.Fixed(
            tfd.MixtureSameFamily(
                tfd.Categorical(probs=found.weights_.astype("float32")),
                tfd.MultivariateNormalTriL(found.means_.astype("float32"), scale),
            )
        )


class FlowDensity(Density):
    """A flow, fitted by maximum likelihood with Adam.

    Args:
        flows: steps of the flow.
        hidden: width of its networks.
        steps: optimiser steps, of 256 codes each.
        learning_rate: Adam's at the start; it falls to 0 along a cosine.

    Raises:
        InputError: if a number does not fit.
    """

    family: type[priors.FlowPrior]

    def __init__(
        self, flows: int = 4, hidden: int = 64, steps: int = 2000, learning_rate: float = 2e-3
    ):
        self.options = {
            "flows": checked_count("flows", flows, most=MOST_UNITS),
            "hidden": checked_count("hidden", hidden, most=MOST_UNITS),
        }
        self.steps = checked_count("steps", steps)
        if not is_number(learning_rate) or not 0 < learning_rate < math.inf:
            raise InputError(f"learning_rate is a positive number; received {learning_rate!r}")
        self.learning_rate = float(learning_rate)

    def fit(self, codes: np.ndarray, seed: int, progress: bool) -> priors.Prior:
        """Fit the flow to codes `[N, d]`."""
        prior = self.family(**self.options)
        prior.bind(codes.shape[1:], seed)
        prior.build(codes.shape[1:])
        optimizer = FusedAdam(
            keras.optimizers.schedules.CosineDecay(self.learning_rate, self.steps)
        )
        optimizer.build(prior.trainable_variables)

        @tf.function
        def step(batch: Tensor) -> Tensor:
            with tf.GradientTape() as tape:
                loss = -tf.reduce_mean(prior.distribution().log_prob(batch))
            optimizer.apply(tape.gradient(loss, prior.trainable_variables))
            return loss

        batches = (
            tf.data.Dataset.from_tensor_slices(codes.astype("float32"))
            .shuffle(len(codes), seed=seed)
            .repeat()
            .batch(256)
            .take(self.steps)
        )
        for batch in tqdm(batches, "flow", self.steps, leave=False, disable=not progress):
            step(batch)
        return prior


class RealNVPDensity(FlowDensity):
    """The coupling flow of `tfvae.priors.RealNVP`."""

    family = priors.RealNVP


class MaskedAutoregressiveDensity(FlowDensity):
    """The autoregressive flow of `tfvae.priors.MaskedAutoregressive`."""

    family = priors.MaskedAutoregressive


BY_NAME: Mapping[str, type[Density]] = {
    "gaussian_mixture": GaussianMixtureDensity,
    "realnvp": RealNVPDensity,
    "maf": MaskedAutoregressiveDensity,
}


def aggregate_posterior(
    model: LatentVariableModel, data: EventData, *, seed: int = 0, batch_size: int = BATCH_SIZE
) -> np.ndarray:
    """Draw one z from q(z|x) for each event; of an autoencoder take its code.

    Args:
        model: a built `VAE` or `Autoencoder`.
        data: a split, arrays or batches; see `tfvae.evaluation.batches.event_batches`.
        seed: of the draws. They depend on how the events come in batches, too.
        batch_size: events encoded at a time, where data does not come in batches.

    Returns:
        Codes `[N, d]`.

    Raises:
        InputError: if there are no events, or they do not fit.
    """

    @tf.function(reduce_retracing=True)
    def draw(x: Tensor, label: Tensor | None, seed: Tensor) -> Tensor:
        encoded = model.encode(x, label)
        return encoded.sample(seed=seed) if isinstance(model, VAE) else encoded

    found = []
    for number, (x, label) in enumerate(event_batches(model, data, batch_size=batch_size)):
        found.append(draw(x, label, tf.constant([seed, number])).numpy())
    if not found:
        raise InputError("expected at least one event; the data set is empty")
    return np.concatenate(found)


def fit_prior(
    model: LatentVariableModel,
    data: EventData,
    density: Density | str = "gaussian_mixture",
    *,
    seed: int = 0,
    batch_size: int = BATCH_SIZE,
    progress: bool | None = None,
) -> priors.Prior:
    """Fit a density to the codes of events, and return it as a prior.

    Args:
        model: a trained `VAE` or `Autoencoder`.
        data: the training events, usually: a split, arrays or batches; see
            `tfvae.evaluation.batches.event_batches`.
        density: a `Density`, or a name with options: ``"gaussian_mixture:components=10"``,
            ``"realnvp:flows=4"``, ``"maf:steps=5000"``.
        seed: of the draws of z and of the fit.
        batch_size: events encoded at a time, where data does not come in batches.
        progress: show a progress bar on standard error; by default where that is a terminal.

    Returns:
        A `tfvae.priors.Prior` for `VAE.with_prior`; its ``distribution()`` is a
        `tfd.Distribution` with event shape `[d]`, for ``decode(distribution.sample(n))``. Of a
        hierarchy it is p(z_1), of the codes' first group.

    Raises:
        InputError: if the events, the density or one of its options do not fit.
    """
    fitter = resolve(density, Density, BY_NAME, "density")
    if isinstance(model, VAE) and model.posterior_family.classes is not None:
        raise InputError(
            "a density is fitted to codes that are real numbers, and those of this model are "
            "classes: train it with prior='relaxed_categorical:learned=true'"
        )
    codes = aggregate_posterior(model, data, seed=seed, batch_size=batch_size)
    shown = sys.stderr.isatty() if progress is None else progress
    # The prior of a hierarchy that can be given is that of its first group.
    size = getattr(model, "group_sizes", (model.latent_dim,))[0]
    prior = fitter.fit(codes[:, :size], seed, shown)
    prior.bind((size,), seed)
    return prior
