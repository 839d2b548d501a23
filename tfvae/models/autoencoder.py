"""The deterministic autoencoder, for comparison."""

from typing import Any, NoReturn

import keras
import tensorflow as tf

from tfvae.distributions.family import PACKAGE
from tfvae.errors import InputError
from tfvae.models.base import LatentImageModel
from tfvae.models.step import Step
from tfvae.share import Share


@keras.saving.register_keras_serializable(PACKAGE)
class Autoencoder(LatentImageModel):
    """A deterministic autoencoder on the networks and likelihoods of a `VAE`.

    ``loss(x) = −log p(x|z)`` at ``z = code(x)``. Nothing shapes the latent space, so there is no
    distribution to draw z from: it reconstructs, and cannot generate.

    Args:
        encoder: a `keras.Model` from images `[B, H, W, C]` to features, from which a dense layer
            makes the code.
        decoder: a `keras.Model` from z `[B, d]` to features or images; see
            `tfvae.likelihoods.Likelihood`.
        latent_dim: d.
        likelihood: p(x|z), a `tfvae.likelihoods.Likelihood` or a name.
        num_classes: labels, where both networks take one as a second, one-hot input.
        seed: seed of the initial weights of the layers that the model adds.
        **kwargs: those of `keras.Model`.

    Raises:
        InputError: if networks, likelihood and sizes do not fit each other.
    """

    term_names = ("log_likelihood",)

    def __init__(
        self,
        encoder: keras.Model,
        decoder: keras.Model,
        latent_dim: int,
        *,
        likelihood: Any = "bernoulli",
        num_classes: int | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(
            encoder,
            decoder,
            latent_dim,
            likelihood=likelihood,
            num_classes=num_classes,
            seed=seed,
            **kwargs,
        )
        self.flatten = keras.layers.Flatten(dtype="float32")
        self.bottleneck = keras.layers.Dense(
            latent_dim,
            kernel_initializer=keras.initializers.GlorotUniform(seed=self._derived_seed(1)),
            dtype="float32",
            name="code",
        )
        self._build_if_known()

    def _build_latent(self, features: Any) -> None:
        if isinstance(features, (list, tuple, dict)):
            raise InputError(
                "the encoder of an Autoencoder must put out one tensor of features; "
                "received several"
            )
        self.bottleneck(self.flatten(features))

    def encode(self, x: Any, label: Any = None, training: bool = False) -> tf.Tensor:
        """Give the code of each image, `[B, d]`: a tensor, where a VAE gives a distribution."""
        return self._code(x, label, training)

    def _code(self, x: tf.Tensor, label: Any, training: bool) -> tf.Tensor:
        return self.bottleneck(self.flatten(self._features(x, label, training)))

    def _step(
        self, x: tf.Tensor, label: Any, seed: Any, training: bool, share: Share | None = None
    ) -> Step:
        decoded = self._decoded(self._code(x, label, training), label, training)
        likelihood = self._likelihood(decoded, x, training)
        log_likelihood = likelihood.log_prob(x)
        return Step(
            loss=-log_likelihood,
            validation_loss=-log_likelihood,
            terms={"log_likelihood": log_likelihood},
            reconstruction=lambda: self.likelihood_family.mean(likelihood),
        )

    def sample(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse: an autoencoder has no p(z).

        Raises:
            InputError: always.
        """
        raise InputError(
            "an Autoencoder cannot sample: it has no distribution p(z) to draw from; "
            "use tfvae.VAE, or decode(z) with a z of your own"
        )
