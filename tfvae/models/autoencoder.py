"""The deterministic autoencoder, for comparison."""

import math
from typing import Any, NoReturn, Self, Unpack

import keras

from tfvae import likelihoods, networks
from tfvae.distributions.family import PACKAGE
from tfvae.errors import InputError
from tfvae.likelihoods import Likelihood
from tfvae.models.base import KerasOptions, LatentVariableModel
from tfvae.models.batch import Batch
from tfvae.models.step import Losses
from tfvae.networks import Network
from tfvae.share import Share
from tfvae.typing import ArrayLike, Shape, Tensor


@keras.saving.register_keras_serializable(PACKAGE)
class Autoencoder(LatentVariableModel):
    """A deterministic autoencoder on the networks and likelihoods of a `VAE`.

    ``loss(x) = −log p(x|z)`` at ``z = code(x)``. Nothing shapes the latent space, so there is no
    distribution to draw z from: it reconstructs, and cannot generate.

    Args:
        encoder: a `keras.Model` from events `[B, *event_shape]` to features, from which a dense
            layer makes the code.
        decoder: a `keras.Model` from z `[B, d]` to features or events; see
            `tfvae.likelihoods.Likelihood`.
        latent_dim: d.
        likelihood: p(x|z), a `tfvae.likelihoods.Likelihood` or a name.
        num_classes: labels, where both networks take one as a second, one-hot input.
        missing: whether events may have NaN where a value was not observed; see `VAE`.
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
        likelihood: Likelihood | str = "bernoulli",
        num_classes: int | None = None,
        missing: bool = False,
        seed: int | None = None,
        **kwargs: Unpack[KerasOptions],
    ):
        super().__init__(
            encoder,
            decoder,
            latent_dim,
            likelihood=likelihood,
            num_classes=num_classes,
            missing=missing,
            seed=seed,
            **kwargs,
        )
        self.bottleneck = Bottleneck(
            self.latent_dim,
            kernel_initializer=keras.initializers.GlorotUniform(seed=self._derived_seed(1)),
            dtype="float32",
            name="code",
        )
        self._build_if_known()

    @classmethod
    def for_events(
        cls,
        event_shape: Shape,
        *,
        latent_dim: int = 16,
        network: Network | str | None = None,
        likelihood: Likelihood | str = "bernoulli",
        num_classes: int | None = None,
        missing: bool = False,
        seed: int | None = None,
        **kwargs: Unpack[KerasOptions],
    ) -> Self:
        """Build the usual model for events of a shape; see `VAE.for_events`."""
        family = likelihoods.of_features(likelihood)
        family.check_event_shape(networks.check_event_shape(event_shape))
        encoder, decoder = networks.pair(
            network,
            event_shape,
            latent_dim,
            num_classes=num_classes,
            missing=missing,
            encoded_channels=None if family.encoding is None else family.encoding.channels,
            seed=seed,
        )
        return cls(
            encoder,
            decoder,
            latent_dim,
            likelihood=family,
            num_classes=num_classes,
            missing=missing,
            seed=seed,
            **kwargs,
        )

    @classmethod
    def for_images(
        cls,
        image_shape: Shape,
        *,
        latent_dim: int = 16,
        network: Network | str = "conv",
        likelihood: Likelihood | str = "bernoulli",
        num_classes: int | None = None,
        missing: bool = False,
        seed: int | None = None,
        **kwargs: Unpack[KerasOptions],
    ) -> Self:
        """Build the usual model for images `(H, W, C)`; see `VAE.for_events`."""
        return cls.for_events(
            networks.check_image_shape(image_shape),
            latent_dim=latent_dim,
            network=network,
            likelihood=likelihood,
            num_classes=num_classes,
            missing=missing,
            seed=seed,
            **kwargs,
        )

    def _build_latent(self, features: Any) -> None:
        if isinstance(features, (list, tuple)):
            raise InputError(
                "the encoder of an Autoencoder must put out one tensor of features; "
                "received several"
            )
        self.bottleneck(features)

    def encode(
        self, x: ArrayLike, label: ArrayLike | None = None, training: bool = False
    ) -> Tensor:
        """Compute the code of each event, `[B, d]`: a tensor, where a VAE has a distribution."""
        x, label = self.checked(x, label)
        return self._run(self._code, {"x": x, "label": label}, training=training)

    def _code(self, x: Tensor, label: ArrayLike | None, training: bool) -> Tensor:
        return self.bottleneck(self._features_of(x, label, training))

    def _code_layer(self) -> keras.layers.Layer:
        return self.bottleneck

    def batch_losses(
        self, batch: Batch, seed: Tensor, training: bool, share: Share | None = None
    ) -> Losses:
        """Compute −log p(x|z) of each event; see `LatentVariableModel.batch_losses`."""
        x, label = self.checked(batch.x, batch.label)
        z = self._code(x, label, training)
        parameters = self._decoded_parameters(self._checked_latent(z), label, training)
        target = batch.x if batch.target is None else batch.target
        likelihood, evaluated = self._likelihood(parameters, target, training, batch.value_weight)
        log_likelihood = likelihood.log_prob(evaluated)
        return Losses(
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


@keras.saving.register_keras_serializable(PACKAGE)
class Bottleneck(keras.layers.Dense):
    """Features of any shape to a code `[B, d]`, in float32: a dense layer on all of them.

    Args:
        units: d.
        **kwargs: those of `keras.layers.Dense`.
    """

    def build(self, input_shape: Shape) -> None:
        """Create the weights for flattened features."""
        super().build((None, math.prod(input_shape[1:])))

    def call(self, features: Tensor) -> Tensor:
        """Compute the code."""
        return super().call(keras.ops.reshape(features, (-1, self.kernel.shape[0])))
