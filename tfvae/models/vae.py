"""The variational autoencoder: two networks and three distributions."""

from pathlib import Path
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from tfvae import objectives, posteriors, priors
from tfvae.distributions.family import PACKAGE
from tfvae.distributions.kl import kl_is_exact
from tfvae.errors import InputError
from tfvae.models.base import LatentImageModel
from tfvae.models.step import Step
from tfvae.objectives.schedules import WarmUpWatch
from tfvae.share import Share


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

    With `num_classes` it is conditional (Sohn et al. 2015): encoder and decoder take a label too,
    and all of the above holds for log p(x|y).

    Args:
        encoder: a `keras.Model` from images `[B, H, W, C]` to features, or to a list
            ``[loc, log_var]``; see `tfvae.posteriors.DiagonalNormal`. That of a conditional model
            takes a list of images and labels, one-hot `[B, num_classes]`.
        decoder: a `keras.Model` from z `[B, d]` to features or images; see
            `tfvae.likelihoods.Likelihood`. That of a conditional model takes a list of z and
            labels.
        latent_dim: d.
        posterior: q(z|x), a `tfvae.posteriors.Posterior` or a name.
        prior: p(z), a `tfvae.priors.Prior`, a name or a fixed `tfd.Distribution`.
        likelihood: p(x|z), a `tfvae.likelihoods.Likelihood` or a name such as ``"bernoulli"``,
            ``"normal:scale=learned"``, ``"laplace:scale=0.1"``.
        objective: what to minimise, a `tfvae.objectives.Objective` or a name such as ``"elbo"``,
            ``"elbo:beta=4"``, ``"iwae:num_samples=5"``.
        num_classes: labels of a conditional model, which are whole numbers from 0; None for a
            model without.
        seed: seed of the model's own noise and of the families' initial weights. The networks'
            initial weights are the networks' own affair.
        **kwargs: those of `keras.Model`, such as `name` and `dtype`.

    Raises:
        InputError: if networks, families, objective and sizes do not fit each other.
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
        self.posterior_family = posteriors.get(posterior)
        self.prior_family = priors.get(prior)
        self.objective = objectives.get(objective)
        self._build_if_known()

    def _build_latent(self, features: Any) -> None:
        self.posterior_family.bind((self.latent_dim,), self._derived_seed(1))
        self.prior_family.bind((self.latent_dim,), self._derived_seed(2))
        self.posterior_family(features)
        self.prior_family.attach(self)
        if not self.prior_family.built:
            self.prior_family.build((self.latent_dim,))
        self.objective.build(self.latent_dim, self._derived_seed(4))
        # An attribute of the model, so that its weights are trained and saved.
        self.objective_network = self.objective.network

    def _check_latent(self) -> None:
        # In a graph these operations lead nowhere, and are dropped.
        self.objective.check(*self._example())

    def _example(self) -> tuple[Any, Any]:
        """Give q(z|x) of a blank image, and p(z)."""
        label = None if self.num_classes is None else [0]
        features = self._features(tf.zeros((1, *self.image_shape)), label, training=False)
        q = self.posterior_family.distribution(self.posterior_family(features))
        return q, self.prior_family.distribution(label)

    def get_config(self) -> dict[str, Any]:
        """Give the constructor's arguments."""
        serialize = keras.saving.serialize_keras_object
        return {
            **super().get_config(),
            "posterior": serialize(self.posterior_family),
            "prior": serialize(self.prior_family),
            "objective": serialize(self.objective),
        }

    def own_callbacks(self) -> list[keras.callbacks.Callback]:
        """Give the callback that warns of a warm-up longer than the training."""
        return [WarmUpWatch(self.objective.schedules)]

    # --- the three distributions ------------------------------------------------------------------

    @property
    def prior(self) -> Any:
        """p(z), a `tfd.Distribution` with event shape `[d]`."""
        return self.prior_of(None)

    def prior_of(self, label: Any) -> Any:
        """Give p(z|y) of a conditional model whose prior depends on the label, else p(z).

        Args:
            label: whole numbers `[B]`, or None.

        Returns:
            A `tfd.Distribution` with event shape `[d]`, and batch `[B]` if the prior depends on the
            label.
        """
        self._require_built("prior")
        return self.prior_family.distribution(None if label is None else self.checked_labels(label))

    def encode(self, x: Any, label: Any = None, training: bool = False) -> Any:
        """Give q(z|x), or q(z|x, y) of a conditional model.

        Args:
            x: images `[B, H, W, C]`.
            label: of a conditional model, the labels of the images `[B]`.
            training: whether the encoder runs in training mode.

        Returns:
            A `tfd.Distribution` with batch shape `[B]` and event shape `[d]`.

        Raises:
            InputError: if the images have another shape, or the labels do not fit.
        """
        return self.posterior_family.distribution(self.posterior_parameters(x, label, training))

    def posterior_parameters(
        self, x: Any, label: Any = None, training: bool = False
    ) -> dict[str, tf.Tensor]:
        """Give what `posterior_family` makes q(z|x) from, tensors with the batch `[B]` first.

        Args:
            x: images `[B, H, W, C]`.
            label: of a conditional model, the labels of the images `[B]`.
            training: whether the encoder runs in training mode.
        """
        return self.posterior_family(self._features(x, label, training))

    @property
    def kl_is_exact(self) -> bool:
        """Whether the KL of posterior and prior is in closed form, not a Monte Carlo estimate."""
        self._require_built("kl_is_exact")
        return kl_is_exact(*self._example())

    # --- the ELBO -------------------------------------------------------------------------------

    def terms(
        self,
        x: Any,
        label: Any = None,
        *,
        num_samples: int = 1,
        seed: Any = None,
        training: bool = False,
        share: Share | None = None,
    ) -> objectives.Terms:
        """Draw z from q(z|x), and evaluate what objectives are made of.

        Args:
            x: images `[B, H, W, C]`.
            label: of a conditional model, the labels of the images `[B]`.
            num_samples: K, draws of z for each image.
            seed: a whole number, a pair `[2]`, or None for the model's own next seed; or a pair
                for each image, `[B, 2]`, which makes a draw independent of the rest of the batch.
            training: whether to train: the networks run in training mode, and gradients run as the
                objective wants them.
            share: which rows of a batch `x` is, to draw for them as in the whole batch, whose
                one seed `seed` is.

        Returns:
            `tfvae.objectives.Terms` of the K draws.
        """
        x, seed = self._images(x), self._seed(seed)
        encoded = self.posterior_parameters(x, label, training)
        posterior = self.posterior_family.distribution(encoded)
        if share is not None:
            z, log_posterior = self.posterior_family.sample_share(encoded, num_samples, seed, share)
        elif seed.shape.rank == 1:
            z, log_posterior = posterior.experimental_sample_and_log_prob(num_samples, seed=seed)
        else:
            z, log_posterior = self.posterior_family.sample_each(encoded, num_samples, seed)
        path = None
        if training and self.objective.weighs_path:
            path = objectives.PathWeight()
            z, log_posterior = path(z), path(log_posterior)
        if training and self.objective.detaches_posterior:
            log_posterior = objectives.gradient_through(posterior.log_prob, z)
        likelihood = self._likelihood(self._decoded(z, label, training), x, training)
        return objectives.Terms.of(
            x,
            z,
            posterior,
            self.prior_of(label),
            likelihood,
            log_posterior=log_posterior,
            path=path,
            step=self.optimizer.iterations if training and self.compiled else 0,
            # The draws of z have used the seed itself.
            seed=tf.random.experimental.stateless_fold_in(tf.reshape(seed, (-1, 2))[0], 1),
            share=share,
        )

    def elbo(
        self, x: Any, label: Any = None, *, num_samples: int = 1, seed: Any = None
    ) -> ELBOTerms:
        """Estimate the ELBO of each image.

        Args:
            x: images `[B, H, W, C]`.
            label: of a conditional model, the labels of the images `[B]`.
            num_samples: draws of z for each image, averaged over.
            seed: as for `terms`.

        Returns:
            ``(elbo, log_likelihood, kl)``, each `[B]`, in nats, with
            ``elbo == log_likelihood − kl``.

        Raises:
            InputError: if the images have another shape, or values outside the support, or the
                labels do not fit.
        """
        terms = self.terms(self.checked_images(x), label, num_samples=num_samples, seed=seed)
        return ELBOTerms(terms.elbo, terms.mean_log_likelihood, terms.kl)

    def _step(
        self, x: tf.Tensor, label: Any, seed: Any, training: bool, share: Share | None = None
    ) -> Step:
        num_samples = self.objective.num_samples if training else 1
        terms = self.terms(
            x, label, num_samples=num_samples, seed=seed, training=training, share=share
        )
        return Step(
            loss=self.objective(terms) if training else -terms.elbo,
            validation_loss=-terms.elbo,
            terms={
                "elbo": terms.elbo,
                "log_likelihood": terms.mean_log_likelihood,
                "kl": terms.kl,
            },
            # In training the draw of the step serves; a second pass would cost as much again.
            reconstruction=(
                (lambda: self.likelihood_family.mean(terms.likelihood)[0])
                if training
                else (lambda: self(x, label))
            ),
        )

    # --- images -----------------------------------------------------------------------------------

    def _code(self, x: tf.Tensor, label: Any, training: bool) -> tf.Tensor:
        return self.posterior_family.code(self.encode(x, label, training))

    def sample(
        self, n: int, *, label: Any = None, seed: Any = None, mean: bool = True
    ) -> tf.Tensor:
        """Generate images: draw z from p(z), then decode.

        Args:
            n: how many.
            label: of a conditional model, one label for all images, or one for each, `[n]`.
            seed: a whole number, a pair of them, or None for the model's own next seed; or a pair
                for each image, `[n, 2]`, as for the signature ``sample`` of a SavedModel, whose
                draws they are.
            mean: give the mean of p(x|z), the usual picture; False draws each pixel from p(x|z).

        Returns:
            Images `[n, H, W, C]`.

        Raises:
            InputError: if `n` is below 1, or seed or label do not fit.
        """
        z, label, pixel_seed = self._draw_latent(n, label, seed)
        likelihood = self.decode(z, label)
        if mean:
            return self.likelihood_family.mean(likelihood)
        return likelihood.sample(seed=pixel_seed)

    def sample_joint(
        self, n: int, *, label: Any = None, seed: Any = None
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor | None]:
        """Draw z from p(z) and x from p(x|z): a z that comes with an x is a draw from p(z|x).

        Args:
            n: how many.
            label: as for `sample`.
            seed: as for `sample`.

        Returns:
            x `[n, H, W, C]`; z `[n, d]`; and the labels `[n]`, None without.

        Raises:
            InputError: if `n` is below 1, or the label does not fit.
        """
        z, label, pixel_seed = self._draw_latent(n, label, seed)
        return self.decode(z, label).sample(seed=pixel_seed), z, label

    def _draw_latent(
        self, n: int, label: Any, seed: Any
    ) -> tuple[tf.Tensor, tf.Tensor | None, tf.Tensor]:
        """Draw z `[n, d]` from the prior; give the labels `[n]` as well, and a seed for x."""
        if n < 1:
            raise InputError(f"n is a whole number from 1; received {n!r}")
        self._require_built("sample")
        seed = self._seed(seed)
        if seed.shape.rank == 2 and seed.shape[0] != n:
            raise InputError(f"expected a seed for each of {n} images; received {seed.shape[0]}")
        if self.num_classes is not None:
            label = self.checked_labels(label)
            if label.shape.rank > 1 or (label.shape.rank == 1 and label.shape[0] not in (1, n)):
                raise InputError(
                    f"expected one label, or one for each of {n} images; "
                    f"received shape {label.shape}"
                )
            label = tf.broadcast_to(label, (n,))
        if seed.shape.rank == 2:
            pixel_seed = tf.random.experimental.stateless_fold_in(seed[0], 1)
            return self.draw_latent(seed, label), label, pixel_seed
        latent_seed, pixel_seed = tf.unstack(tf.random.experimental.stateless_split(seed, 2))
        prior = self.prior_of(label)
        z = prior.sample(() if prior.batch_shape.rank else n, seed=latent_seed)
        return z, label, pixel_seed

    def draw_latent(self, seeds: tf.Tensor, label: tf.Tensor | None = None) -> tf.Tensor:
        """Draw z from p(z), each from a seed of its own, whatever else is in the batch.

        Args:
            seeds: int32 `[B, 2]`.
            label: of a conditional model, `[B]`.

        Returns:
            z `[B, d]`.
        """

        def draw(row: Any) -> tf.Tensor:
            one_seed, *one_label = row
            prior = self.prior_of(one_label[0][None] if one_label else None)
            return tf.reshape(prior.sample(seed=one_seed), (self.latent_dim,))

        rows = (seeds,) if label is None else (seeds, label)
        spec = tf.TensorSpec((self.latent_dim,), tf.float32)
        return tf.map_fn(draw, rows, fn_output_signature=spec)

    def with_prior(self, prior: Any) -> "VAE":
        """Give a model of the same networks, posterior and likelihood with another p(z).

        The two share their weights. It is how a density that was fitted to the codes of a trained
        model takes the place of its prior; see `tfvae.evaluation.expost`.

        Args:
            prior: as for the constructor.

        Raises:
            InputError: if the prior does not fit.
        """
        self._require_built("with_prior")
        model = type(self)(
            self.encoder,
            self.decoder,
            self.latent_dim,
            posterior=self.posterior_family,
            prior=prior,
            likelihood=self.likelihood_family,
            num_classes=self.num_classes,
            seed=self.seed,
        )
        if model.image_shape is None:
            model.build((None, *self.image_shape))
        return model

    def export(self, filepath: str | Path, **kwargs: Any) -> None:
        """Write a SavedModel; see `tfvae.serving.export.export_saved_model`.

        Args:
            filepath: the directory to make.
            **kwargs: `card` and `num_samples` of `export_saved_model`; or another `format` than
                ``"tf_saved_model"``, with what else `keras.Model.export` takes: the export is
                Keras' own then, of the reconstruction.

        Raises:
            InputError: if `filepath` exists, or the model has not been built.
        """
        if kwargs.get("format", "tf_saved_model") != "tf_saved_model":
            super().export(filepath, **kwargs)
            return
        from tfvae.serving.export import export_saved_model

        kwargs.pop("format", None)
        export_saved_model(self, filepath, **kwargs)
