"""The hierarchical VAE: several groups of latents, each given those above it."""

from collections.abc import Sequence
from typing import Any, Self, Unpack

import keras
import numpy as np
import tensorflow as tf

from tfvae import likelihoods, networks, objectives
from tfvae.checks import checked_count, is_number
from tfvae.distributions.family import PACKAGE
from tfvae.distributions.kl import factorizes
from tfvae.errors import InputError
from tfvae.lazy import tfd
from tfvae.likelihoods import Likelihood
from tfvae.models.base import KerasOptions
from tfvae.models.event_spec import number_tensor
from tfvae.models.grouped import TopDownCode, TopDownPosterior, TopDownPrior, kl_of_top
from tfvae.models.keras_layers import encoder_model
from tfvae.models.top_down import TopDown
from tfvae.models.vae import VAE, Draws
from tfvae.networks import ladder
from tfvae.objectives import Objective
from tfvae.posteriors import DiagonalNormal, Posterior
from tfvae.priors import Prior
from tfvae.share import Share
from tfvae.typing import ArrayLike, Distribution, Seed, Shape, Tensor


@keras.saving.register_keras_serializable(PACKAGE)
class HierarchicalVAE(VAE):
    """A VAE whose z has groups z_1 … z_L, vectors or maps, each given those before it.

    ``p(z) = p(z_1) ∏_l p(z_l|z_<l)`` and ``q(z|x) = q(z_1|x) ∏_l q(z_l|z_<l, x)``: the posterior
    runs from the top down as the prior does, and shares its networks, with features of x from an
    encoder that runs from the bottom up (Sønderby et al. 2016, arXiv:1602.02282; Kingma et al.
    2016, arXiv:1606.04934, section 4; Vahdat and Kautz 2020, arXiv:2007.03898; Child 2021,
    arXiv:2011.10650). ``KL(q ‖ p) = Σ_l E[KL(q(z_l|z_<l, x) ‖ p(z_l|z_<l))]``, each in closed form
    given the z_<l that was drawn.

    All else is `VAE`, whose methods it has: there z is one vector `[..., d]`, the groups flattened
    one after the other; `split_latent` and `join_latent` go from one to the other. With one group
    it is a `VAE`, number for number.

    Args:
        encoder: a `keras.Model` from events to a list of L features h_l, the topmost group's first,
            of any shapes; what it takes is as for `VAE`. With one group, an encoder of `VAE`.
        decoder: the way down, a `tfvae.models.TopDown`, which says what its networks take. With one
            group, a decoder of `VAE`.
        latent_dim: d, which a `TopDown` knows itself.
        posterior: q(z_1|x), a `tfvae.posteriors.Posterior` or a name; those of the other groups are
            normal, made by the decoder.
        prior: p(z_1), a `tfvae.priors.Prior`, a name or a fixed `tfd.Distribution`.
        likelihood: p(x|z), as for `VAE`, and so are the others.
        objective: what to minimise. ``"elbo:beta=1x0.5"`` weighs the KL of each group, and
            ``"free_bits"`` sets a floor under each.
        num_classes: labels of a conditional model.
        missing: whether events may have NaN where a value was not observed.
        seed: seed of the model's own noise and of the families' initial weights.
        **kwargs: those of `keras.Model`.

    Raises:
        InputError: if networks, families, objective and sizes do not fit each other.

    Example:
        >>> vae = tfvae.HierarchicalVAE.for_events((28, 28, 1), groups="16,7x7x4", seed=0)
        >>> top, below = vae.split_latent(vae.code(np.zeros((5, 28, 28, 1))))
        >>> tuple(top.shape), tuple(below.shape)
        ((5, 16), (5, 7, 7, 4))
    """

    def __init__(
        self,
        encoder: keras.Model,
        decoder: keras.Model,
        latent_dim: int | None = None,
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
        known = decoder.latent_dim if isinstance(decoder, TopDown) else latent_dim
        if known is None:
            raise InputError(
                "the decoder of a hierarchy is a tfvae.models.TopDown; received a "
                f"{type(decoder).__name__}: give latent_dim if there is one group alone"
            )
        if latent_dim not in (None, known):
            raise InputError(
                f"the groups have {known} dimensions; received latent_dim {latent_dim}"
            )
        super().__init__(
            encoder,
            decoder,
            known,
            posterior=posterior,
            prior=prior,
            likelihood=likelihood,
            objective=objective,
            num_classes=num_classes,
            missing=missing,
            seed=seed,
            **kwargs,
        )

    @classmethod
    def for_events(  # type: ignore[override]
        cls,
        event_shape: Shape,
        *,
        groups: ladder.Groups = 2,
        latent_dim: int = 16,
        network: "ladder.LadderNetwork | str | None" = None,
        posterior: Posterior | str = "normal",
        prior: Prior | Distribution | str = "standard_normal",
        likelihood: Likelihood | str = "bernoulli",
        objective: Objective | str = "elbo",
        num_classes: int | None = None,
        missing: bool = False,
        seed: int | None = None,
        **kwargs: Unpack[KerasOptions],
    ) -> Self:
        """Build the usual hierarchy for events of a shape.

        Args:
            event_shape: of one event: (D,), (T, C), (H, W, C) or (D, H, W, C).
            groups: how many groups, all of them vectors; or the shape of each, topmost first, as
                in ``(16, (7, 7, 4))`` or ``"16,7x7x4"``. A number is a vector's size; a map has the
                sides that one of the encoder's halvings leaves.
            latent_dim: size of the vectors, where `groups` is a number.
            network: "conv" or "dense", with options as in ``"conv:filters=16x64,blocks=2"``; see
                `tfvae.networks.ladder`. By default "dense" for vectors, "conv" for all others.
                With one group, a network of `VAE.for_events`.
            posterior: as for the constructor, and so are the others.
            prior: p(z_1).
            likelihood: p(x|z). One that is given as an object is copied.
            objective: what to minimise.
            num_classes: labels, for a model that is conditional on one.
            missing: whether events may have NaN where a value was not observed.
            seed: seed of all initial weights and of the model's own noise.
            **kwargs: those of `keras.Model`.

        Raises:
            InputError: if the shape, the groups, the network or another argument does not fit.
        """
        families: dict[str, Any] = {
            "posterior": posterior,
            "prior": prior,
            "objective": objective,
            "num_classes": num_classes,
            "missing": missing,
            "seed": seed,
        }
        if ladder.is_one(groups):
            single = ladder.single_size(groups, latent_dim)
            return super().for_events(
                event_shape,
                latent_dim=single,
                network=network,  # type: ignore[arg-type]
                likelihood=likelihood,
                **families,
                **kwargs,
            )
        family = likelihoods.of_features(likelihood)
        family.check_event_shape(networks.check_event_shape(event_shape))
        chosen = ladder.get(network, event_shape)
        shapes = chosen.groups(groups, event_shape, latent_dim)
        parts = ladder.ladder(
            chosen,
            event_shape,
            shapes,
            num_classes=num_classes,
            missing=missing,
            encoded_channels=None if family.encoding is None else family.encoding.channels,
            seed=seed,
        )
        decoder = TopDown(
            parts.steps, shapes, priors=parts.priors, posteriors=parts.posteriors, name="top_down"
        )
        return cls(parts.encoder, decoder, likelihood=family, **families, **kwargs)

    @classmethod
    def for_images(cls, image_shape: Shape, **kwargs: Any) -> Self:
        """Build the usual hierarchy for images `(H, W, C)`; see `for_events`."""
        return cls.for_events(networks.check_image_shape(image_shape), **kwargs)

    # --- groups -----------------------------------------------------------------------------------

    @property
    def groups(self) -> tuple[Shape, ...]:
        """The shape of each group of latents, topmost first."""
        if isinstance(self.decoder, TopDown):
            return self.decoder.groups
        return ((self.latent_dim,),)

    @property
    def group_sizes(self) -> tuple[int, ...]:
        """How many numbers each group has."""
        return tuple(int(np.prod(shape)) for shape in self.groups)

    @property
    def has_groups(self) -> bool:
        """Whether there are several groups."""
        return len(self.groups) > 1

    def split_latent(self, z: ArrayLike) -> list[Tensor]:
        """Return the groups of z `[..., d]`, a list of `[..., *group]`, topmost first.

        Raises:
            InputError: if the last axis is not d.
        """
        z = number_tensor(z, f"expected latent vectors [..., {self.latent_dim}] of numbers")
        if z.shape.rank is not None and (z.shape.rank < 1 or z.shape[-1] != self.latent_dim):
            raise InputError(
                f"expected latent vectors [..., {self.latent_dim}]; received shape {z.shape}"
            )
        parts = tf.split(z, self.group_sizes, axis=-1)
        return [
            tf.reshape(part, tf.concat([tf.shape(z)[:-1], shape], 0))
            for part, shape in zip(parts, self.groups, strict=True)
        ]

    def join_latent(self, groups: Sequence[ArrayLike]) -> Tensor:
        """Return z `[..., d]` of its groups, each `[..., *group]`.

        Raises:
            InputError: if they are others.
        """
        parts = [tf.convert_to_tensor(one) for one in groups]
        shapes = [tuple(one.shape) for one in parts]
        if len(parts) != len(self.groups) or any(
            given[len(given) - len(shape) :] != shape
            for given, shape in zip(shapes, self.groups, strict=True)
        ):
            raise InputError(f"expected groups [..., *shape] of {self.groups}; received {shapes}")
        flat = [
            tf.reshape(one, tf.concat([tf.shape(one)[: one.shape.rank - len(shape)], [-1]], 0))
            for one, shape in zip(parts, self.groups, strict=True)
        ]
        return tf.concat(flat, axis=-1)

    # --- building and saving ----------------------------------------------------------------------

    def _families(self, posterior: Posterior, prior: Prior) -> tuple[Posterior, Prior]:
        if not self.has_groups:
            return posterior, prior
        return TopDownPosterior(posterior, self.decoder), TopDownPrior(prior, self.decoder)

    def _build_latent(self, features: Any) -> None:
        if self.has_groups and isinstance(features, (list, tuple)):
            count = len(self.groups)
            if len(features) == count:
                self.decoder.connect(features, self.num_classes, self._derived_seed(5))
        family = self.posterior_family.of_top()
        is_new = not family.built
        super()._build_latent(features)
        if self.has_groups and is_new and isinstance(family, DiagonalNormal) and family.head:
            # q(z_1|x) starts at N(0, I), as those below start at p(z_l|z_<l).
            family.head.kernel.assign(tf.zeros_like(family.head.kernel))

    def keras_encoder(self) -> keras.Model:
        """Build the plain Keras model from x to its code; see `VAE.keras_encoder`.

        The code of a hierarchy has all groups at their means, each given those above it.
        """
        if not self.has_groups:
            return super().keras_encoder()
        spec = self._require_built("keras_encoder")
        code = TopDownCode(self.posterior_family.of_top(), self.decoder, name="code")
        return encoder_model(self.encoder, code, spec, code_takes_label=True)

    # --- the distributions ------------------------------------------------------------------------

    def encode_unchecked(self, x: Tensor) -> Distribution:
        """Compute q(z_1|x), of which the prior "vamp" of z_1 is made, as `VAE` does q(z|x)."""
        if not self.has_groups:
            return super().encode_unchecked(x)
        encoded = self._encoded(x, None, training=False)
        return self._grouped_posterior().top_distribution(encoded)

    def _grouped_posterior(self) -> TopDownPosterior:
        family = self.posterior_family
        if not isinstance(family, TopDownPosterior):
            raise InputError("the model has one group of latents alone")
        return family

    def _encoded(self, x: Tensor, label: ArrayLike | None, training: bool) -> dict[str, Tensor]:
        found = super()._encoded(x, label, training)
        if self.has_groups and self.num_classes is not None:
            (found["label"],) = self._condition(label, x, self.event_spec.rank)
        return found

    def _draws(
        self,
        x: Tensor,
        label: ArrayLike | None,
        num_samples: int,
        seed: Tensor,
        training: bool,
        share: Share | None,
    ) -> Draws:
        if not self.has_groups:
            return super()._draws(x, label, num_samples, seed, training, share)
        family = self._grouped_posterior()
        encoded = self.posterior_parameters(x, label, training)
        q_top = family.top_distribution(encoded)
        top, log_q_top, noise = family.starts(encoded, num_samples, seed, share)
        down = family.descend(encoded, top, noise=noise, training=training)
        log_posterior = log_q_top + down.log_posterior
        path = None
        if training and (self.objective.reweights_path or self.objective.detaches_posterior):
            # Gradients that come back to z are told from those of the networks: once more down,
            # along the z that was drawn.
            z = down.z
            if self.objective.reweights_path:
                path = objectives.PathWeight()
                z, log_posterior = path(z), path(log_posterior)
            size = self.group_sizes[0]

            def along(z: Tensor) -> Any:
                return family.descend(encoded, z[..., :size], rest=z[..., size:], training=training)

            down = along(z)
            if self.objective.detaches_posterior:
                log_posterior = objectives.gradient_through(
                    lambda z: q_top.log_prob(z[..., :size]) + along(z).log_posterior, z
                )
            top = z[..., :size]
        prior = self.prior_of(label)
        p_top = self.prior_family.of_top().distribution(
            None if label is None else tf.cast(self.event_spec.labels(label), tf.int32)
        )
        log_p_top = p_top.log_prob(top)
        kl_top, by_dimension = kl_of_top(q_top, p_top, log_q_top - log_p_top)
        kls = [tf.reduce_mean(kl, axis=0) for kl in down.kls]
        known = {
            "log_prior": log_p_top + down.log_prior,
            "kl_by_group": tf.stack([kl_top, *(tf.reduce_sum(kl, -1) for kl in kls)], axis=-1),
            "group_sizes": self.group_sizes,
        }
        if by_dimension is not None:
            known = {**known, "kl_per_dimension": tf.concat([by_dimension, *kls], axis=-1)}
        return Draws(
            down.z,
            log_posterior,
            family.distribution(encoded),
            prior,
            self._parameters_of(down.output, down.z),
            path,
            known,
        )

    # --- samples ----------------------------------------------------------------------------------

    def sample(
        self,
        n: int,
        *,
        label: ArrayLike | None = None,
        seed: Seed = None,
        mean: bool = True,
        temperature: float | Sequence[float] = 1.0,
    ) -> Tensor:
        """Generate events: draw z from p(z), from the top down, then decode.

        Args:
            n: how many.
            label: as for `VAE.sample`.
            seed: as for `VAE.sample`.
            mean: as for `VAE.sample`.
            temperature: what the standard deviations of p(z_l|z_<l) are multiplied with, from 0:
                one number for all groups, or one for each. Samples at less than 1 are the more
                likely ones, and vary less.

        Returns:
            `[n, *event_shape]`.

        Raises:
            InputError: as `VAE.sample` does, or if there is no such temperature.
        """
        scales = self._scales(temperature)
        z, label, x_seed = self._draw_latent(n, label, seed, temperature=scales)
        likelihood = self.decode(z, label)
        if mean:
            return self.likelihood_family.mean(likelihood)
        return likelihood.sample(seed=x_seed)

    def sample_below(
        self,
        z: ArrayLike,
        fixed: int,
        n: int,
        *,
        label: ArrayLike | None = None,
        seed: Seed = None,
        temperature: float | Sequence[float] = 1.0,
    ) -> Tensor:
        """Decode z with its first groups kept and the others drawn anew: what is left to these.

        Args:
            z: latent vectors `[B, d]`, such as ``vae.prior.sample(B)`` or ``vae.code(x)``.
            fixed: how many groups to keep, from 0 to L.
            n: how many draws of the others for each.
            label: of a conditional model, the labels `[B]`, or one for all.
            seed: a whole number, a pair of them, or None for the model's own next seed.
            temperature: as for `sample`.

        Returns:
            Means of p(x|z), `[B, n, *event_shape]`.

        Raises:
            InputError: if there are not as many groups, or something else does not fit.
        """
        checked_count("n", n)
        fixed = checked_count("fixed", fixed, least=0, most=len(self.groups))
        kept = self.join_latent(self.split_latent(z))
        if kept.shape.rank != 2:
            raise InputError(f"expected latent vectors [B, d]; received shape {kept.shape}")
        kept = tf.repeat(tf.cast(kept, tf.float32), n, axis=0)
        if label is not None:
            label = tf.broadcast_to(self.event_spec.labels(label), (kept.shape[0] // n,))
            label = tf.repeat(label, n, axis=0)
        size = sum(self.group_sizes[:fixed])
        drawn = kept
        if size < self.latent_dim:
            drawn = self._sample_prior(
                kept.shape[0],
                None if label is None else tf.cast(label, tf.int32),
                self._seed(seed),
                temperature=self._scales(temperature),
                kept=kept[:, :size],
            )
        events = self._mean(drawn, label)
        return tf.reshape(events, (-1, n, *self.event_shape))

    def group_effects(
        self,
        n: int = 10,
        *,
        label: ArrayLike | None = None,
        seed: Seed = None,
        temperature: float | Sequence[float] = 1.0,
    ) -> Tensor:
        """Show what each group adds: of one z, the first groups are kept and the others drawn anew.

        Args:
            n: draws of each row.
            label: of a conditional model, one label.
            seed: as for `sample_below`.
            temperature: as for `sample`.

        Returns:
            Means of p(x|z), `[L, n, *event_shape]`: row l keeps l groups, the first of all none.

        Raises:
            InputError: as for `sample_below`.
        """
        seeds = tf.random.experimental.stateless_split(self._seed(seed), len(self.groups) + 1)
        z, label, _ = self._draw_latent(1, label, seeds[0], temperature=self._scales(temperature))
        rows = [
            self.sample_below(
                z, kept, n, label=label, seed=seeds[kept + 1], temperature=temperature
            )
            for kept in range(len(self.groups))
        ]
        return tf.concat(rows, axis=0)

    def _scales(self, temperature: float | Sequence[float]) -> tuple[float, ...] | None:
        """Return the temperature of each group, None where all are 1."""
        given = [temperature] if is_number(temperature) else temperature
        scales = list(given) if isinstance(given, (list, tuple, np.ndarray)) else []
        count = len(self.groups)
        if len(scales) == 1:
            scales *= count
        if len(scales) != count or not all(
            is_number(one) and 0 <= one < float("inf") for one in scales
        ):
            raise InputError(
                f"temperature is a number from 0, or one for each of {count} groups; received "
                f"{temperature!r}"
            )
        return None if all(one == 1 for one in scales) else tuple(map(float, scales))

    def _sample_prior(
        self,
        n: Tensor,
        label: Tensor | None,
        seed: Tensor,
        temperature: tuple[float, ...] | None = None,
        kept: Tensor | None = None,
    ) -> Tensor:
        if temperature is None and kept is None:
            return super()._sample_prior(n, label, seed)
        top = self.prior_family.of_top().distribution(label)
        first = top.sample(() if top.batch_shape.rank else n, seed=seed)
        first = self._cooled(first, top, temperature)
        if not self.has_groups:
            return first
        from tfvae.distributions.joint import noise_below

        noise = noise_below((n, sum(self.group_sizes[1:])), seed)
        return self._down(first, noise, label, temperature, kept)

    def draw_latent(
        self,
        seeds: Tensor,
        label: Tensor | None = None,
        temperature: tuple[float, ...] | None = None,
    ) -> Tensor:
        """Draw z from p(z), each from a seed of its own; see `VAE.draw_latent`."""
        if not self.has_groups and temperature is None:
            return super().draw_latent(seeds, label)
        from tfvae.distributions.joint import noise_below

        sizes = self.group_sizes[0], sum(self.group_sizes[1:])

        def draw(row: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
            one_seed, *one_label = row
            prior = self.prior_family.of_top().distribution(
                one_label[0][None] if one_label else None
            )
            top = tf.reshape(prior.sample(seed=one_seed), (sizes[0],))
            return top, noise_below((sizes[1],), one_seed)

        top, noise = tf.map_fn(
            draw,
            (seeds,) if label is None else (seeds, label),
            fn_output_signature=tuple(tf.TensorSpec((size,), tf.float32) for size in sizes),
        )
        top = self._cooled(top, self.prior_family.of_top().distribution(label), temperature)
        return self._down(top, noise, label, temperature) if self.has_groups else top

    def _cooled(
        self, top: Tensor, prior: Distribution, temperature: tuple[float, ...] | None
    ) -> Tensor:
        """Return draws of z_1 moved towards the mean of p(z_1) by their temperature."""
        if temperature is None or temperature[0] == 1:
            return top
        if not (factorizes(prior) and isinstance(prior.distribution, tfd.Normal)):
            raise InputError(
                "the temperature of z_1 is for normal priors; this one is a "
                f"{type(prior).__name__}: give 1 for the first group"
            )
        return prior.mean() + temperature[0] * (top - prior.mean())

    def _down(
        self,
        top: Tensor,
        noise: Tensor,
        label: Tensor | None,
        temperature: tuple[float, ...] | None,
        kept: Tensor | None = None,
    ) -> Tensor:
        """Go down from z_1 `[N, d_1]` by p(z_l|z_<l), or along the first groups that are kept."""
        condition = []
        if label is not None:
            condition = [tf.one_hot(tf.cast(label, tf.int32), self.num_classes)]
        found = self.decoder.descend(
            top,
            noise=noise,
            condition=condition,
            temperature=None if temperature is None else temperature[1:],
            kept=kept,
            finish=False,
        )
        return found.z
