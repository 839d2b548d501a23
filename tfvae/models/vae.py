"""The variational autoencoder: two networks and three distributions."""

import types
from collections.abc import Mapping
from typing import Any, NamedTuple, Self, Unpack

import keras
import numpy as np
import tensorflow as tf

from tfvae import likelihoods, networks, objectives, posteriors, priors
from tfvae.checks import checked_count
from tfvae.distributions.family import PACKAGE
from tfvae.distributions.kl import kl_is_exact
from tfvae.errors import InputError
from tfvae.likelihoods import Likelihood
from tfvae.models.base import KerasOptions, LatentVariableModel
from tfvae.models.batch import Batch
from tfvae.models.keras_layers import PosteriorCode
from tfvae.models.step import Losses
from tfvae.networks import Network
from tfvae.objectives import Objective
from tfvae.objectives.schedules import WarmUpWatch
from tfvae.objectives.schedules import get as get_schedule
from tfvae.posteriors import Posterior
from tfvae.priors import Prior, VampPrior
from tfvae.share import Share
from tfvae.typing import ArrayLike, Config, Distribution, Seed, Shape, Tensor


class ELBOTerms(NamedTuple):
    """The ELBO of each event and its two terms, each `[B]`, in nats."""

    elbo: Tensor
    log_likelihood: Tensor
    kl: Tensor


class Draws(NamedTuple):
    """Draws of z from q(z|x) and what they go with.

    Attributes:
        z: `[K, B, d]`.
        log_posterior: log q(z|x), `[K, B]`, nats.
        posterior: q(z|x).
        prior: p(z).
        parameters: what p(x|z) is made from, `[K, B, …]`.
        path: what weighs the gradients that run through the draws, or None.
        known: further attributes of `tfvae.objectives.Terms` that are known already.
    """

    z: Tensor
    log_posterior: Tensor
    posterior: Distribution
    prior: Distribution
    parameters: dict[str, Tensor]
    path: objectives.PathWeight | None = None
    known: Mapping[str, Any] = types.MappingProxyType({})


@keras.saving.register_keras_serializable(PACKAGE)
class VAE(LatentVariableModel):
    """A variational autoencoder (Kingma and Welling 2014, arXiv:1312.6114).

    ``log p(x) ≥ ELBO(x) = E_q(z|x)[log p(x|z)] − KL(q(z|x) ‖ p(z))``

    It trains by `compile` and `fit`, without a loss, or by `tfvae.training.train`. An event x is a
    vector, a series, an image or a volume; the mathematics knows nothing of which.

    With `num_classes` it is conditional (Sohn et al. 2015): encoder and decoder take a label too,
    and all of the above holds for log p(x|y).

    With `missing`, NaN in x means that a value was not observed (Mattei and Frellsen 2019,
    arXiv:1812.02633, with their zero imputation and the mask beside it): the encoder sees x with
    its holes filled and where they are, log p(x|z) sums over the observed values, and the ELBO
    bounds log p of those.

    Args:
        encoder: a `keras.Model` from events `[B, *event_shape]` to features, or to a list
            ``[loc, log_var]``; see `tfvae.posteriors.DiagonalNormal`. That of a conditional model
            takes a list of events and labels, one-hot `[B, num_classes]`. With `missing` it takes
            events and their masks, 1 where observed, side by side on the last axis. A likelihood
            with an `encoding` says what it takes in place of events.
        decoder: a `keras.Model` from z `[B, d]` to features or events; see
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
        missing: whether events may have NaN where a value was not observed.
        seed: seed of the model's own noise and of the families' initial weights. The networks'
            initial weights are the networks' own affair.
        **kwargs: those of `keras.Model`, such as `name` and `dtype`.

    Raises:
        InputError: if networks, families, objective and sizes do not fit each other.

    Example:
        >>> vae = tfvae.VAE.for_events((24, 1), latent_dim=4, likelihood="normal", seed=0)
        >>> vae.encode(np.zeros((5, 24, 1))).event_shape
        TensorShape([4])
    """

    term_names = ("elbo", "log_likelihood", "kl")

    def __init__(
        self,
        encoder: keras.Model,
        decoder: keras.Model,
        latent_dim: int,
        *,
        posterior: Posterior | str = "normal",
        prior: Prior | Distribution | str = "standard_normal",
        likelihood: Likelihood | str = "bernoulli",
        objective: Objective | str = "elbo",
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
        self.posterior_family, self.prior_family = self._families(
            posteriors.get(posterior), priors.get(prior)
        )
        self.objective = objectives.get(objective)
        self._temperature_schedules = [
            None if family.temperature is None else get_schedule(family.temperature, "temperature")
            for family in (self.posterior_family, self.prior_family)
        ]
        self._build_if_known()

    @classmethod
    def for_events(
        cls,
        event_shape: Shape,
        *,
        latent_dim: int = 16,
        network: Network | str | None = None,
        posterior: Posterior | str = "normal",
        prior: Prior | Distribution | str = "standard_normal",
        likelihood: Likelihood | str = "bernoulli",
        objective: Objective | str = "elbo",
        num_classes: int | None = None,
        missing: bool = False,
        seed: int | None = None,
        **kwargs: Unpack[KerasOptions],
    ) -> Self:
        """Build the usual model for events of a shape.

        Args:
            event_shape: of one event: (D,), (T, C), (H, W, C) or (D, H, W, C).
            latent_dim: d.
            network: "conv", "residual" or "dense", with options as in
                ``"residual:filters=32x64,blocks=2"``; see `tfvae.networks`. By default "dense" for
                vectors, "conv" for all others.
            posterior: as for the constructor, and so are the others.
            prior: p(z).
            likelihood: p(x|z). One that is given as an object is copied.
            objective: what to minimise.
            num_classes: labels, for a model that is conditional on one.
            missing: whether events may have NaN where a value was not observed.
            seed: seed of all initial weights and of the model's own noise.
            **kwargs: those of `keras.Model`.

        Raises:
            InputError: if the shape, the network or another argument does not fit.
        """
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
            posterior=posterior,
            prior=prior,
            likelihood=family,
            objective=objective,
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
        posterior: Posterior | str = "normal",
        prior: Prior | Distribution | str = "standard_normal",
        likelihood: Likelihood | str = "bernoulli",
        objective: Objective | str = "elbo",
        num_classes: int | None = None,
        missing: bool = False,
        seed: int | None = None,
        **kwargs: Unpack[KerasOptions],
    ) -> Self:
        """Build the usual model for images `(H, W, C)`; see `for_events`."""
        return cls.for_events(
            networks.check_image_shape(image_shape),
            latent_dim=latent_dim,
            network=network,
            posterior=posterior,
            prior=prior,
            likelihood=likelihood,
            objective=objective,
            num_classes=num_classes,
            missing=missing,
            seed=seed,
            **kwargs,
        )

    def _families(self, posterior: Posterior, prior: Prior) -> tuple[Posterior, Prior]:
        """Return the families of q(z|x) and p(z), of those that were given."""
        return posterior, prior

    def _build_latent(self, features: Any) -> None:
        self.posterior_family.bind((self.latent_dim,), self._derived_seed(1))
        self.prior_family.bind((self.latent_dim,), self._derived_seed(2))
        self.posterior_family(features)
        if self.posterior_family.classes is not None and not self.prior_family.takes_classes:
            raise InputError(
                f"the posterior {type(self.posterior_family).__name__} draws classes, and goes "
                f'with the prior "relaxed_categorical"; received {type(self.prior_family).__name__}'
            )
        self.prior_family.attach(self)
        if not self.prior_family.built:
            self.prior_family.build((self.latent_dim,))
        self.objective.build(self.latent_dim, self._derived_seed(4))
        # An attribute of the model, so that its weights are trained and saved.
        self.objective_network = self.objective.network

    def _check_latent(self) -> None:
        # In a graph these operations lead nowhere, and are dropped.
        self.objective.check(*self._example(training=True))

    def _example(self, training: bool = False) -> tuple[Distribution, Distribution]:
        """Compute q(z|x) of a blank event, and p(z); those that train, or those of evaluation."""
        spec = self._require_built("an example")
        label = None if self.num_classes is None else [0]
        if not training or self._temperature_schedules[0] is None:
            return self.encode(spec.blank(1), label), self.prior_of(label)
        parameters = self._relaxed(self.posterior_parameters(spec.blank(1), label), 0)
        return self.posterior_family.distribution(parameters), self._relaxed_prior(label, 0)

    def get_config(self) -> Config:
        """Return the constructor's arguments."""
        serialize = keras.saving.serialize_keras_object
        return {
            **super().get_config(),
            "posterior": serialize(self.posterior_family.of_top()),
            "prior": serialize(self.prior_family.of_top()),
            "objective": serialize(self.objective),
        }

    def _start(self, x: np.ndarray, target: np.ndarray) -> None:
        super()._start(x, target)
        prior = self.prior_family.of_top()
        # Fewer events than pseudo-inputs leave these as they are.
        if isinstance(prior, VampPrior) and not prior.adapted and len(x) >= prior.pseudo_inputs:
            prior.adapt(self.event_spec.observed(tf.constant(x))[0])

    def own_callbacks(self) -> list[keras.callbacks.Callback]:
        """Return the callback that warns of a warm-up longer than the training."""
        own = [schedule for schedule in self._temperature_schedules if schedule is not None]
        return [WarmUpWatch((*self.objective.schedules, *own))]

    # --- the three distributions ------------------------------------------------------------------

    @property
    def prior(self) -> Distribution:
        """p(z), a `tfd.Distribution` with event shape `[d]`."""
        return self.prior_of(None)

    def prior_of(self, label: ArrayLike | None) -> Distribution:
        """Compute p(z|y) of a conditional model whose prior depends on the label, else p(z).

        Args:
            label: whole numbers `[B]`, or None.

        Returns:
            A `tfd.Distribution` with event shape `[d]`, and batch `[B]` if the prior depends on the
            label.
        """
        spec = self._require_built("prior")
        if label is None:
            return self.prior_family.distribution(None)
        return self.prior_family.distribution(tf.cast(spec.labels(label), tf.int32))

    def _step(self, training: bool) -> ArrayLike:
        """Return how many steps the optimiser has taken, for schedules; 0 without training."""
        return self.optimizer.iterations if training and self.compiled else 0

    def _relaxed(self, parameters: dict[str, Tensor], step: ArrayLike) -> dict[str, Tensor]:
        """Return the parameters of the q(z|x) that trains at a step of the optimiser."""
        schedule = self._temperature_schedules[0]
        if schedule is None:
            return parameters
        return self.posterior_family.relaxed(parameters, schedule(step))

    def _relaxed_prior(self, label: ArrayLike | None, step: ArrayLike) -> Distribution:
        """Return the p(z) that trains at a step of the optimiser."""
        schedule = self._temperature_schedules[1]
        if schedule is None:
            return self.prior_of(label)
        return self.prior_family.relaxed(schedule(step), label)

    def encode(
        self, x: ArrayLike, label: ArrayLike | None = None, training: bool = False
    ) -> Distribution:
        """Compute q(z|x), or q(z|x, y) of a conditional model.

        Args:
            x: events `[B, *event_shape]`.
            label: of a conditional model, the labels of the events `[B]`.
            training: whether the encoder runs in training mode.

        Returns:
            A `tfd.Distribution` with batch shape `[B]` and event shape `[d]`.

        Raises:
            InputError: if the events have another shape, or values outside the support, or the
                labels do not fit.
        """
        return self.posterior_family.distribution(self.posterior_parameters(x, label, training))

    def encode_unchecked(self, x: Tensor) -> Distribution:
        """Compute q(z|x) as `encode` does, of tensors whose values are not looked at.

        Pseudo-inputs that a prior learns need not lie where data of the likelihood lies, such as on
        the levels of a discrete one.

        Args:
            x: float32 `[B, *event_shape]`.
        """
        return self.posterior_family.distribution(self._encoded(x, None, training=False))

    def posterior_parameters(
        self, x: ArrayLike, label: ArrayLike | None = None, training: bool = False
    ) -> dict[str, Tensor]:
        """Compute what `posterior_family` makes q(z|x) from, tensors with the batch `[B]` first.

        Args:
            x: events `[B, *event_shape]`.
            label: of a conditional model, the labels of the events `[B]`.
            training: whether the encoder runs in training mode.
        """
        x, label = self.checked(x, label)
        return self._run(self._encoded, {"x": x, "label": label}, training=training)

    def _parts(self) -> tuple[Any, ...]:
        return (*super()._parts(), self.posterior_family, self.prior_family)

    def _encoded(self, x: Tensor, label: ArrayLike | None, training: bool) -> dict[str, Tensor]:
        """Compute the parameters of q(z|x) of events whose values are not looked at."""
        return self.posterior_family(self._features_of(x, label, training))

    @property
    def kl_is_exact(self) -> bool:
        """Whether the KL of posterior and prior is in closed form, not a Monte Carlo estimate."""
        self._require_built("kl_is_exact")
        return kl_is_exact(*self._example())

    # --- the ELBO -------------------------------------------------------------------------------

    def terms(
        self,
        x: ArrayLike,
        label: ArrayLike | None = None,
        *,
        target: ArrayLike | None = None,
        value_weight: ArrayLike | None = None,
        num_samples: int = 1,
        seed: Seed = None,
        training: bool = False,
        share: Share | None = None,
    ) -> objectives.Terms:
        """Draw z from q(z|x), and evaluate what objectives are made of.

        Args:
            x: events `[B, *event_shape]`.
            label: of a conditional model, the labels of the events `[B]`.
            target: events at which p(x|z) is evaluated, where they are others than `x`.
            value_weight: from 0, how much each value counts in log p(x|z), `[B, *event_shape]`.
            num_samples: K, draws of z for each event.
            seed: a whole number, a pair `[2]`, or None for the model's own next seed; or a pair
                for each event, `[B, 2]`, which makes a draw independent of the rest of the batch.
                Equal seeds give equal draws, but functions that XLA has compiled draw others than
                those that it has not: its generator is another.
            training: whether to train: the networks run in training mode, and gradients run as the
                objective wants them.
            share: which rows of a batch `x` is, to draw for them as in the whole batch, whose
                one seed `seed` is.

        Returns:
            `tfvae.objectives.Terms` of the K draws.
        """
        checked_count("num_samples", num_samples)
        x, _ = self.checked(x, label)
        seed = self._seed(seed)
        if target is None:
            target = x
        else:
            target, _ = self.checked(target, label)
        draws = self._draws(x, label, num_samples, seed, training, share)
        return self._terms_of(draws, target, value_weight, seed, training, share)

    def _terms_of(
        self,
        draws: "Draws",
        target: Tensor,
        value_weight: ArrayLike | None,
        seed: Tensor,
        training: bool,
        share: Share | None,
    ) -> objectives.Terms:
        """Evaluate `terms` of draws that have been made, with the seed that they were made by."""
        likelihood, evaluated = self._likelihood(draws.parameters, target, training, value_weight)
        return objectives.Terms.of(
            evaluated,
            draws.z,
            draws.posterior,
            draws.prior,
            likelihood,
            log_posterior=draws.log_posterior,
            **draws.known,
            path=draws.path,
            step=self._step(training),
            # The draws of z have used the seed itself.
            seed=tf.random.experimental.stateless_fold_in(tf.reshape(seed, (-1, 2))[0], 1),
            share=share,
        )

    def _draws(
        self,
        x: Tensor,
        label: ArrayLike | None,
        num_samples: int,
        seed: Tensor,
        training: bool,
        share: Share | None,
    ) -> "Draws":
        """Draw z from q(z|x) for `terms`, and compute what p(x|z) is made from."""
        step = self._step(training)
        encoded = self.posterior_parameters(x, label, training)
        if training:
            encoded = self._relaxed(encoded, step)
        posterior = self.posterior_family.distribution(encoded)
        if share is not None:
            z, log_posterior = self.posterior_family.sample_share(encoded, num_samples, seed, share)
        elif seed.shape.rank == 1:
            z, log_posterior = posterior.experimental_sample_and_log_prob(num_samples, seed=seed)
        else:
            z, log_posterior = self.posterior_family.sample_each(encoded, num_samples, seed)
        path = None
        if training and self.objective.reweights_path:
            path = objectives.PathWeight()
            z, log_posterior = path(z), path(log_posterior)
        if training and self.objective.detaches_posterior:
            log_posterior = objectives.gradient_through(posterior.log_prob, z)
        parameters = self.likelihood_parameters(z, label, training)
        prior = self._relaxed_prior(label, step) if training else self.prior_of(label)
        return Draws(z, log_posterior, posterior, prior, parameters, path)

    def elbo(
        self,
        x: ArrayLike,
        label: ArrayLike | None = None,
        *,
        num_samples: int = 1,
        seed: Seed = None,
    ) -> ELBOTerms:
        """Estimate the ELBO of each event.

        Args:
            x: events `[B, *event_shape]`.
            label: of a conditional model, the labels of the events `[B]`.
            num_samples: draws of z for each event, averaged over.
            seed: as for `terms`.

        Returns:
            ``(elbo, log_likelihood, kl)``, each `[B]`, in nats, with
            ``elbo == log_likelihood − kl``. Where values are missing, all of it is about the
            observed ones.

        Raises:
            InputError: if the events have another shape, or values outside the support, or the
                labels do not fit.
        """
        checked_count("num_samples", num_samples)
        x, label = self.checked(x, label)
        arguments = {"x": x, "label": label, "seed": self._seed(seed)}
        return ELBOTerms(*self._run(self._elbo_of, arguments, num_samples=num_samples))

    def _elbo_of(
        self, x: Tensor, label: Tensor | None, seed: Tensor, num_samples: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        terms = self.terms(x, label, num_samples=num_samples, seed=seed)
        return terms.elbo, terms.mean_log_likelihood, terms.kl

    def batch_losses(
        self, batch: Batch, seed: Tensor, training: bool, share: Share | None = None
    ) -> Losses:
        """Compute what a batch gives; see `LatentVariableModel.batch_losses`."""
        terms = self.terms(
            batch.x,
            batch.label,
            target=batch.target,
            value_weight=batch.value_weight,
            num_samples=self.objective.num_samples if training else 1,
            seed=seed,
            training=training,
            share=share,
        )

        def reconstruction() -> Tensor:
            # In training the draw of the step serves; a second pass would cost as much again.
            if training:
                return self.likelihood_family.mean(terms.likelihood)[0]
            return self(batch.x, label=batch.label)

        return Losses(
            loss=self.objective(terms) if training else -terms.elbo,
            validation_loss=-terms.elbo,
            terms={
                "elbo": terms.elbo,
                "log_likelihood": terms.mean_log_likelihood,
                "kl": terms.kl,
            },
            reconstruction=reconstruction,
        )

    # --- events -----------------------------------------------------------------------------------

    def _code(self, x: Tensor, label: ArrayLike | None, training: bool) -> Tensor:
        parameters = self._encoded(x, label, training)
        return self.posterior_family.code(self.posterior_family.distribution(parameters))

    def _moved(self, code: Tensor, dimension: int, values: Tensor) -> Tensor:
        return self.posterior_family.moved(code, dimension, values)

    def _code_layer(self) -> keras.layers.Layer:
        return PosteriorCode(self.posterior_family, (self.latent_dim,), name="code")

    def impute(
        self,
        x: ArrayLike,
        label: ArrayLike | None = None,
        *,
        num_samples: int = 100,
        draws: int | None = None,
        seed: Seed = None,
    ) -> Tensor:
        """Fill the holes of events by self-normalised importance sampling.

        With z_k ~ q(z|x) and weights ``w_k ∝ p(x_observed|z_k) p(z_k) / q(z_k|x)`` that sum to 1, a
        missing value becomes ``Σ_k w_k E[x_missing|z_k]``, an estimate of E[x_missing|x_observed]
        (Mattei and Frellsen 2019, arXiv:1812.02633, section 3.3). Observed values stay as they are.

        Args:
            x: events `[B, *event_shape]`, NaN where a value was not observed.
            label: of a conditional model, the labels of the events `[B]`.
            num_samples: K, draws of z for each event; it decodes B·K of them at once.
            draws: None for the mean; or m for m completions of each event, approximately draws from
                p(x_missing|x_observed): z_k drawn by its weight, then x from p(x|z_k).
            seed: as for `terms`; where each event has its own, completions are drawn by the first.

        Returns:
            `[B, *event_shape]` without holes; with `draws` `[m, B, *event_shape]`.

        Raises:
            InputError: if the model is not made for missing values, or events, labels or numbers do
                not fit.
        """
        spec = self._spec_of(x)
        if not spec.missing:
            raise InputError(
                "the model takes no missing values, so that there is nothing to impute: make it "
                "with missing=True"
            )
        checked_count("num_samples", num_samples)
        if draws is not None:
            checked_count("draws", draws)
        x, _ = self.checked(x, label)
        seed = self._seed(seed)
        seeds = tf.random.experimental.stateless_split(tf.reshape(seed, (-1, 2))[0], 3)
        of_z = seed if seed.shape.rank == 2 else seeds[0]
        drawn = self._draws(x, label, num_samples, of_z, training=False, share=None)
        terms = self._terms_of(drawn, x, None, of_z, training=False, share=None)
        filled, observed = spec.observed(x)
        if draws is None:
            weights = tf.nn.softmax(terms.log_weight, axis=0)  # [K, B]
            estimate = self.likelihood_family.mixture_mean(terms.likelihood, weights)
            return tf.where(observed, filled, estimate)
        # [B, m], which of the K draws each completion takes.
        chosen = tf.random.stateless_categorical(tf.transpose(terms.log_weight), draws, seeds[1])
        places = tf.stack(
            [
                tf.transpose(tf.cast(chosen, tf.int32)),
                tf.tile(tf.range(tf.shape(x)[0])[None], (draws, 1)),
            ],
            axis=-1,
        )
        # What each z has been decoded to already.
        parameters = {name: tf.gather_nd(of, places) for name, of in drawn.parameters.items()}
        completions = self.likelihood_family.distribution(parameters).sample(seed=seeds[2])
        return tf.where(observed, filled, completions)

    def sample(
        self, n: int, *, label: ArrayLike | None = None, seed: Seed = None, mean: bool = True
    ) -> Tensor:
        """Generate events: draw z from p(z), then decode.

        Args:
            n: how many.
            label: of a conditional model, one label for all events, or one for each, `[n]`.
            seed: a whole number, a pair of them, or None for the model's own next seed; or a pair
                for each event, `[n, 2]`, as for the signature ``sample`` of a SavedModel, whose
                draws they are.
            mean: return the mean of p(x|z), the usual picture; False draws x from p(x|z).

        Returns:
            `[n, *event_shape]`.

        Raises:
            InputError: if `n` is below 1, or seed or label do not fit.
        """
        arguments = self._checked_draw(n, label, seed)
        return self._run(self._events_drawn, arguments, mean=bool(mean))[0]

    def sample_joint(
        self, n: int, *, label: ArrayLike | None = None, seed: Seed = None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Draw z from p(z) and x from p(x|z): a z that comes with an x is a draw from p(z|x).

        Args:
            n: how many.
            label: as for `sample`.
            seed: as for `sample`.

        Returns:
            x `[n, *event_shape]`; z `[n, d]`; and the labels `[n]`, None without.

        Raises:
            InputError: if `n` is below 1, or the label does not fit.
        """
        arguments = self._checked_draw(n, label, seed)
        return *self._run(self._events_drawn, arguments, mean=False), arguments["label"]

    def _events_drawn(
        self, n: Tensor, label: Tensor | None, seed: Tensor, mean: bool
    ) -> tuple[Tensor, Tensor]:
        """Draw z `[n, d]` from the prior, and x or its mean from p(x|z); return x and z."""
        z, x_seed = self._latent_drawn(n, label, seed)
        likelihood = self.decode(z, label)
        family = self.likelihood_family
        return family.mean(likelihood) if mean else likelihood.sample(seed=x_seed), z

    def _draw_latent(
        self, n: int, label: ArrayLike | None, seed: Seed, **how: Any
    ) -> tuple[Tensor, Tensor | None, Tensor]:
        """Draw z `[n, d]` from the prior; return the labels `[n]` as well, and a seed for x.

        `how` is what `draw_latent` and `_sample_prior` of a subclass take beside.
        """
        arguments = self._checked_draw(n, label, seed)
        z, x_seed = self._latent_drawn(**arguments, **how)
        return z, arguments["label"], x_seed

    def _checked_draw(self, n: int, label: ArrayLike | None, seed: Seed) -> dict[str, Any]:
        """Return what `_events_drawn` takes: n, the labels `[n]` or None, and the seed."""
        checked_count("n", n)
        spec = self._require_built("sample")
        seed = self._seed(seed)
        if seed.shape.rank == 2 and seed.shape[0] != n:
            raise InputError(f"expected a seed for each of {n} events; received {seed.shape[0]}")
        label = spec.labels_of_each(n, label)
        return {"n": tf.constant(n, tf.int32), "label": label, "seed": seed}

    def _latent_drawn(
        self, n: Tensor, label: Tensor | None, seed: Tensor, **how: Any
    ) -> tuple[Tensor, Tensor]:
        """Draw z `[n, d]` from the prior; return a seed for x as well."""
        if seed.shape.rank == 2:
            x_seed = tf.random.experimental.stateless_fold_in(seed[0], 1)
            return self.draw_latent(seed, label, **how), x_seed
        latent_seed, x_seed = tf.unstack(tf.random.experimental.stateless_split(seed, 2))
        return self._sample_prior(n, label, latent_seed, **how), x_seed

    def _sample_prior(self, n: Tensor, label: Tensor | None, seed: Tensor) -> Tensor:
        """Draw z `[n, d]` from p(z), or p(z|y) at the labels `[n]`."""
        prior = self.prior_of(label)
        return prior.sample(() if prior.batch_shape.rank else n, seed=seed)

    def draw_latent(self, seeds: Tensor, label: Tensor | None = None) -> Tensor:
        """Draw z from p(z), each from a seed of its own, whatever else is in the batch.

        Args:
            seeds: int32 `[B, 2]`.
            label: of a conditional model, `[B]`.

        Returns:
            z `[B, d]`.
        """

        def draw(row: tuple[Tensor, ...]) -> Tensor:
            one_seed, *one_label = row
            prior = self.prior_of(one_label[0][None] if one_label else None)
            return tf.reshape(prior.sample(seed=one_seed), (self.latent_dim,))

        rows = (seeds,) if label is None else (seeds, label)
        spec = tf.TensorSpec((self.latent_dim,), tf.float32)
        return tf.map_fn(draw, rows, fn_output_signature=spec)

    def with_prior(self, prior: Prior | Distribution | str) -> Self:
        """Return a model that differs in p(z) alone.

        Networks, families and objective are those of this model, weights included; it has not been
        compiled. It is how a density that was fitted to the codes of a trained
        model takes the place of its prior; see `tfvae.evaluation.fit_prior`.

        Args:
            prior: as for the constructor.

        Raises:
            InputError: if the prior does not fit.
        """
        spec = self._require_built("with_prior")
        model = type(self)(
            self.encoder,
            self.decoder,
            self.latent_dim,
            posterior=self.posterior_family.of_top(),
            prior=prior,
            likelihood=self.likelihood_family,
            objective=self.objective,
            num_classes=self.num_classes,
            missing=self.missing,
            seed=self.seed,
            name=self.name,
            dtype=self.dtype_policy,
        )
        if not model.built:
            model.build((None, *spec.shape))
        model.adapted = self.adapted
        return model
