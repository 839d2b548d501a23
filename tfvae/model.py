"""The variational autoencoder: two networks and three distributions."""

from pathlib import Path
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from tfvae import objectives, posteriors, priors
from tfvae.base import LatentImageModel
from tfvae.divergences import kl_is_exact
from tfvae.errors import InputError
from tfvae.families import PACKAGE
from tfvae.step import Step


class ELBOTerms(NamedTuple):
    """The ELBO of each image and its two terms, each `[B]`, in nats."""

    elbo: tf.Tensor
    log_likelihood: tf.Tensor
    kl: tf.Tensor


@keras.saving.register_keras_serializable(PACKAGE)
class VAE(LatentImageModel):
    """A variational autoencoder (Kingma and Welling 2014, arXiv:1312.6114).

    ``log p(x) ≥ ELBO(x) = E_q(z|x)[log p(x|z)] − KL(q(z|x) ‖ p(z))``

    It trains by `compile` and `fit`, without a loss, or by `tfvae.training.train`.

    Args:
        encoder: a `keras.Model` from images `[B, H, W, C]` to features, or to a list
            ``[loc, log_var]``; see `tfvae.posteriors.DiagonalNormal`.
        decoder: a `keras.Model` from z `[B, d]` to features or images; see
            `tfvae.likelihoods.Likelihood`.
        latent_dim: d.
        posterior: q(z|x), a `tfvae.posteriors.Posterior` or a name.
        prior: p(z), a `tfvae.priors.Prior` or a name.
        likelihood: p(x|z), a `tfvae.likelihoods.Likelihood` or a name such as ``"bernoulli"``,
            ``"normal:scale=learned"``, ``"laplace:scale=0.1"``.
        objective: what to minimise, a `tfvae.objectives.Objective` or a name such as ``"elbo"``,
            ``"elbo:beta=4"``.
        seed: seed of the model's own noise and of the families' initial weights. The networks'
            initial weights are the networks' own affair.
        **kwargs: those of `keras.Model`, such as `name` and `dtype`.

    Raises:
        InputError: if networks, families and sizes do not fit each other.
    """

    term_names = ("elbo", "log_likelihood", "kl")

    def __init__(
        self,
        encoder: keras.Model,
        decoder: keras.Model,
        latent_dim: int,
        *,
        posterior: Any = "normal",
        prior: Any = "standard_normal",
        likelihood: Any = "bernoulli",
        objective: Any = "elbo",
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(encoder, decoder, latent_dim, likelihood=likelihood, seed=seed, **kwargs)
        self.posterior_family = posteriors.get(posterior)
        self.prior_family = priors.get(prior)
        self.objective = objectives.get(objective)
        self._build_if_known()

    def _build_latent(self, features: Any) -> None:
        self.posterior_family.bind((self.latent_dim,), self._derived_seed(1))
        self.prior_family.bind((self.latent_dim,), self._derived_seed(2))
        self.posterior_family(features)
        if not self.prior_family.built:
            self.prior_family.build((self.latent_dim,))

    def get_config(self) -> dict[str, Any]:
        """Give the constructor's arguments."""
        serialize = keras.saving.serialize_keras_object
        return {
            **super().get_config(),
            "posterior": serialize(self.posterior_family),
            "prior": serialize(self.prior_family),
            "objective": serialize(self.objective),
        }

    # --- the three distributions ------------------------------------------------------------------

    @property
    def prior(self) -> Any:
        """p(z), a `tfd.Distribution` with event shape `[d]`."""
        self._require_built("prior")
        return self.prior_family.distribution()

    def encode(self, x: Any, training: bool = False) -> Any:
        """Give q(z|x).

        Args:
            x: images `[B, H, W, C]`.
            training: whether the encoder runs in training mode.

        Returns:
            A `tfd.Distribution` with batch shape `[B]` and event shape `[d]`.

        Raises:
            InputError: if the images have another shape.
        """
        return self.posterior_family.distribution(self._posterior_parameters(x, training))

    def _posterior_parameters(self, x: Any, training: bool) -> dict[str, tf.Tensor]:
        return self.posterior_family(self.encoder(self._images(x), training=training))

    @property
    def kl_is_exact(self) -> bool:
        """Whether the KL of posterior and prior is in closed form, not a Monte Carlo estimate."""
        self._require_built("kl_is_exact")
        q = self.encode(tf.zeros((1, *self.image_shape)))
        return kl_is_exact(q, self.prior)

    # --- the ELBO -------------------------------------------------------------------------------

    def terms(
        self, x: Any, *, num_samples: int = 1, seed: Any = None, training: bool = False
    ) -> objectives.Terms:
        """Draw z from q(z|x), and evaluate what objectives are made of.

        Args:
            x: images `[B, H, W, C]`.
            num_samples: K, draws of z for each image.
            seed: a whole number, a pair `[2]`, or None for the model's own next seed; or a pair
                for each image, `[B, 2]`, which makes a draw independent of the rest of the batch.
            training: whether the networks run in training mode.

        Returns:
            `tfvae.objectives.Terms` of the K draws.
        """
        x, seed = self._images(x), self._seed(seed)
        parameters = self._posterior_parameters(x, training)
        posterior = self.posterior_family.distribution(parameters)
        if seed.shape.rank == 1:
            z = posterior.sample(num_samples, seed=seed)
        else:
            z = self._sample_each(parameters, num_samples, seed)
        likelihood = self.decode(z, training)
        return objectives.Terms.of(x, z, posterior, self.prior, likelihood)

    def _sample_each(
        self, parameters: dict[str, tf.Tensor], num_samples: int, seeds: tf.Tensor
    ) -> tf.Tensor:
        """Draw z `[K, B, d]`, each image with its own seed."""

        def sample_one(row: tuple[dict[str, tf.Tensor], tf.Tensor]) -> tf.Tensor:
            parameters, seed = row
            return self.posterior_family.distribution(parameters).sample(num_samples, seed=seed)

        z = tf.map_fn(
            sample_one,
            (parameters, seeds),
            fn_output_signature=tf.TensorSpec((num_samples, self.latent_dim), tf.float32),
        )
        return tf.transpose(z, (1, 0, 2))

    def elbo(self, x: Any, *, num_samples: int = 1, seed: Any = None) -> ELBOTerms:
        """Estimate the ELBO of each image.

        Args:
            x: images `[B, H, W, C]`.
            num_samples: draws of z for each image, averaged over.
            seed: as for `terms`.

        Returns:
            ``(elbo, log_likelihood, kl)``, each `[B]`, in nats, with
            ``elbo == log_likelihood − kl``.

        Raises:
            InputError: if the images have another shape, or values outside the support.
        """
        terms = self.terms(self.checked_images(x), num_samples=num_samples, seed=seed)
        return ELBOTerms(terms.elbo, terms.mean_log_likelihood, terms.kl)

    def _step(self, x: tf.Tensor, seed: Any, training: bool) -> Step:
        num_samples = self.objective.num_samples if training else 1
        terms = self.terms(x, num_samples=num_samples, seed=seed, training=training)
        return Step(
            loss=self.objective(terms),
            validation_loss=-terms.elbo,
            terms={
                "elbo": terms.elbo,
                "log_likelihood": terms.mean_log_likelihood,
                "kl": terms.kl,
            },
            # In training the draw of the step serves; a second pass would cost as much again.
            reconstruction=(lambda: terms.likelihood.mean()[0]) if training else (lambda: self(x)),
        )

    # --- images -----------------------------------------------------------------------------------

    def code(self, x: Any) -> tf.Tensor:
        """Give the mean of q(z|x), `[B, d]`."""
        return self._code(self.checked_images(x), training=False)

    def _code(self, x: tf.Tensor, training: bool) -> tf.Tensor:
        return self.encode(x, training).mean()

    def sample(self, n: int, *, seed: Any = None, mean: bool = True) -> tf.Tensor:
        """Generate images: draw z from p(z), then decode.

        Args:
            n: how many.
            seed: a whole number, a pair of them, or None for the model's own next seed.
            mean: give the mean of p(x|z), the usual picture; False draws each pixel from p(x|z).

        Returns:
            Images `[n, H, W, C]`.

        Raises:
            InputError: if `n` is below 1.
        """
        if n < 1:
            raise InputError(f"n is a whole number from 1; received {n!r}")
        self._require_built("sample")
        latent_seed, pixel_seed = tf.unstack(
            tf.random.experimental.stateless_split(self._seed(seed), 2)
        )
        likelihood = self.decode(self.prior.sample(n, seed=latent_seed))
        return likelihood.mean() if mean else likelihood.sample(seed=pixel_seed)

    def export(self, filepath: str | Path, **kwargs: Any) -> None:
        """Write a SavedModel with the signatures of `tfvae.export.export_saved_model`.

        Args:
            filepath: the directory to make.
            **kwargs: another `format` than ``"tf_saved_model"``, with what else
                `keras.Model.export` takes: the export is Keras' own, of the reconstruction.

        Raises:
            InputError: if `filepath` exists, or the model has not been built.
        """
        if kwargs.get("format", "tf_saved_model") != "tf_saved_model":
            super().export(filepath, **kwargs)
            return
        from tfvae.export import export_saved_model

        export_saved_model(self, filepath)
