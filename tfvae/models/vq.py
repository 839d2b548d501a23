"""The VAE whose z are codes: a map of vectors, each one of a codebook's, and a prior over them."""

import contextlib
import math
from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple, Self, Unpack

import keras
import numpy as np
import tensorflow as tf

from tfvae import likelihoods, networks
from tfvae.checks import checked_count, is_number
from tfvae.codes import CodePrior, Quantizer, priors, quantizers
from tfvae.codes.quantizers import Quantized
from tfvae.distributions.family import PACKAGE
from tfvae.errors import InputError
from tfvae.likelihoods import Likelihood
from tfvae.models.base import KerasOptions, LatentVariableModel
from tfvae.models.batch import Batch
from tfvae.models.event_spec import number_tensor
from tfvae.models.keras_layers import MapCode
from tfvae.models.sources import checked_source
from tfvae.models.step import Losses
from tfvae.models.vae import ELBOTerms
from tfvae.networks import Network
from tfvae.share import Share, summed
from tfvae.typing import ArrayLike, Config, Data, Distribution, Seed, Shape, Tensor

# Which of the two a step trains.
Stage = Literal["codes", "prior"]
# Events whose vectors the codebook starts at.
_START_EVENTS = 2048
# What `compile` says of how steps run, whatever they train.
_WAYS = ("run_eagerly", "jit_compile", "steps_per_execution")


class BoundTerms(NamedTuple):
    """The bound of each event and its two terms, each `[B]`, in nats."""

    bound: Tensor
    log_likelihood: Tensor
    log_prior: Tensor


@keras.saving.register_keras_serializable(PACKAGE)
class VQVAE(LatentVariableModel):
    """A VAE with codes for z (van den Oord et al. 2017, arXiv:1711.00937).

    The encoder makes a map of P vectors; each is quantised to one of K, or to several that add up;
    the decoder sees the map of these. c = c(x), whole numbers, are the codes, and z = z(c) the
    vectors that they stand for, P · C values.

    It is trained in two stages. `compile` and `fit` train encoder, codes and decoder, on

    ``loss(x) = −log p(x|z(c(x))) + β Σ ‖z_e(x) − z(c(x))‖²``

    with the first term in nats, summed over the values of x, and the second summed over the values
    of the map; see `tfvae.codes.VectorQuantizer`. Then `fit_prior` trains p(c), with all else
    held, on −log p(c(x)) in nats. After that the model has samples, and a bound:

    ``log p(x) = log Σ_c p(c) p(x|c) ≥ log p(x|c(x)) + log p(c(x))``

    since a sum is at least as large as one of its terms. It is the ELBO of a q(c|x) that puts all
    its mass on c(x), with KL(q ‖ p) = −log p(c(x)), and is reported under these names. Before
    `fit_prior` the prior is uniform, and log p(c) = −P · depth · log K.

    Args:
        encoder: a `keras.Model` from events `[B, *event_shape]` to a map of features
            `[B, *code_shape, F]`, with one to three axes of places; of each a dense layer makes a
            vector. It takes labels and masks as that of a `VAE` does.
        decoder: a `keras.Model` from maps `[B, *code_shape, C]` to features or events; see
            `tfvae.likelihoods.Likelihood`. That of a conditional model takes a list of maps and
            labels.
        code_dim: C, the width of the vectors; None for what the quantizer usually has.
        quantizer: a `tfvae.codes.Quantizer` or a name: ``"vq:codes=256"``,
            ``"fsq:levels=8x6x5"``, ``"residual:depth=4"``.
        code_prior: p(c), a `tfvae.codes.CodePrior` or a name such as
            ``"transformer:width=64,layers=3"``.
        likelihood: p(x|z), a `tfvae.likelihoods.Likelihood` or a name.
        num_classes: labels of a conditional model, which encoder, decoder and p(c|y) take.
        missing: whether events may have NaN where a value was not observed; see `VAE`.
        seed: seed of the model's own noise and of the initial weights of its own layers.
        **kwargs: those of `keras.Model`.

    Attributes:
        quantizer: from vectors to codes and back.
        code_prior: p(c).
        code_dim: C.
        stage: what a step trains: "codes", or within `training_prior` "prior".

    Raises:
        InputError: if networks, quantizer, prior, likelihood and sizes do not fit each other.

    Example:
        >>> vq = tfvae.VQVAE.for_events((24, 1), quantizer="vq:codes=8", likelihood="normal")
        >>> vq.codes(np.zeros((5, 24, 1))).shape
        TensorShape([5, 6])
    """

    term_names = (
        "elbo", "log_likelihood", "kl", "commitment", "perplexity", "codes_used",
    )  # fmt: skip

    def __init__(
        self,
        encoder: keras.Model,
        decoder: keras.Model,
        code_dim: int | None = None,
        *,
        quantizer: Quantizer | str = "vq",
        code_prior: CodePrior | str = "transformer",
        likelihood: Likelihood | str = "bernoulli",
        num_classes: int | None = None,
        missing: bool = False,
        seed: int | None = None,
        **kwargs: Unpack[KerasOptions],
    ):
        family = quantizers.get(quantizer)
        width = family.code_dim(code_dim)
        super().__init__(
            encoder,
            decoder,
            width,  # until the encoder tells how many there are
            likelihood=likelihood,
            num_classes=num_classes,
            missing=missing,
            seed=seed,
            **kwargs,
        )
        self.code_dim = width
        self.quantizer = family
        self.code_prior = priors.get(code_prior)
        self.stage: Stage = "codes"
        self._code_shape: Shape = ()
        self.to_vectors = keras.layers.Dense(
            width,
            kernel_initializer=keras.initializers.GlorotUniform(seed=self._derived_seed(1)),
            dtype="float32",
            name="to_vectors",
        )
        self._build_if_known()

    @classmethod
    def for_events(
        cls,
        event_shape: Shape,
        *,
        code_dim: int | None = None,
        network: Network | str | None = None,
        quantizer: Quantizer | str = "vq",
        code_prior: CodePrior | str = "transformer",
        likelihood: Likelihood | str = "bernoulli",
        num_classes: int | None = None,
        missing: bool = False,
        seed: int | None = None,
        **kwargs: Unpack[KerasOptions],
    ) -> Self:
        """Build the usual model for events of a shape.

        Args:
            event_shape: of one event: (D,), (T, C), (H, W, C) or (D, H, W, C).
            code_dim: C, the width of the vectors; None for what the quantizer usually has.
            network: "conv", "residual" or "dense", with options; see `tfvae.networks`. Convolutions
                halve the sides to those of the code map as often as there are `filters`; of "dense"
                the map has `places`, by default 8. By default "dense" for vectors, "conv" for all
                others.
            quantizer: as for the constructor, and so are the others.
            code_prior: p(c).
            likelihood: p(x|z). One that is given as an object is copied.
            num_classes: labels, for a model that is conditional on one.
            missing: whether events may have NaN where a value was not observed.
            seed: seed of all initial weights and of the model's own noise.
            **kwargs: those of `keras.Model`.

        Raises:
            InputError: if the shape, the network or another argument does not fit.
        """
        family = likelihoods.of_features(likelihood)
        family.check_event_shape(networks.check_event_shape(event_shape))
        found = quantizers.get(quantizer)
        width = found.code_dim(code_dim)
        encoder, decoder = networks.pair(
            network,
            event_shape,
            width,
            num_classes=num_classes,
            missing=missing,
            encoded_channels=None if family.encoding is None else family.encoding.channels,
            seed=seed,
            maps=True,
        )
        return cls(
            encoder,
            decoder,
            width,
            quantizer=found,
            code_prior=code_prior,
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
        code_dim: int | None = None,
        network: Network | str = "conv",
        quantizer: Quantizer | str = "vq",
        code_prior: CodePrior | str = "transformer",
        likelihood: Likelihood | str = "bernoulli",
        num_classes: int | None = None,
        missing: bool = False,
        seed: int | None = None,
        **kwargs: Unpack[KerasOptions],
    ) -> Self:
        """Build the usual model for images `(H, W, C)`; see `for_events`."""
        return cls.for_events(
            networks.check_image_shape(image_shape),
            code_dim=code_dim,
            network=network,
            quantizer=quantizer,
            code_prior=code_prior,
            likelihood=likelihood,
            num_classes=num_classes,
            missing=missing,
            seed=seed,
            **kwargs,
        )

    # --- building -------------------------------------------------------------------------------

    def _build_latent(self, features: Any) -> None:
        shape = tuple(getattr(features, "shape", ()))
        if not 3 <= len(shape) <= 5 or None in shape[1:]:
            raise InputError(
                "the encoder of a VQVAE puts out a map of features [batch, places, F], or with two "
                f"or three axes of places; received {shape or 'several tensors'}: end it with a "
                "convolution, or with keras.layers.Reshape((PLACES, F))"
            )
        self._code_shape = shape[1:-1]
        places = math.prod(self._code_shape)
        self.latent_dim = places * self.code_dim
        if not self.quantizer.built:
            self.quantizer.build((None, *self._code_shape, self.code_dim))
        self.to_vectors(features)
        self.code_prior.describe(
            places,
            self.quantizer.depth,
            self.quantizer.num_codes,
            self.num_classes,
            self._derived_seed(5),
        )

    @property
    def _z_shape(self) -> Shape:
        return (*self._code_shape, self.code_dim)

    @property
    def code_shape(self) -> Shape:
        """Shape of the codes of one event: that of the map, and behind it the depth if above 1.

        Raises:
            InputError: if the model has not been built.
        """
        self._require_built("asking for its code_shape")
        depth = self.quantizer.depth
        return self._code_shape if depth == 1 else (*self._code_shape, depth)

    @property
    def num_codes(self) -> int:
        """K, how many values a code has."""
        return self.quantizer.num_codes

    @property
    def trainable_variables(self) -> list[keras.Variable]:
        """What a step of the stage trains: p(c) alone, or all but that."""
        own = {id(variable) for variable in self.code_prior.trainable_variables}
        of_prior = self.stage == "prior"
        return [one for one in super().trainable_variables if (id(one) in own) == of_prior]

    @property
    def prior_is_trained(self) -> bool:
        """Whether p(c) is another than the uniform one that it starts as."""
        self._require_built("prior_is_trained")
        return any(
            bool(np.any(keras.ops.convert_to_numpy(weight) != 0))
            for weight in (self.code_prior.head, self.code_prior.bias)
        )

    def get_config(self) -> Config:
        """Return the constructor's arguments."""
        serialize = keras.saving.serialize_keras_object
        config = {
            **super().get_config(),
            "code_dim": self.code_dim,
            "quantizer": serialize(self.quantizer),
            "code_prior": serialize(self.code_prior),
        }
        del config["latent_dim"]
        return config

    # --- codes ------------------------------------------------------------------------------------

    def _vectors(self, x: Tensor, label: ArrayLike | None, training: bool) -> Tensor:
        """Compute what the quantizer is given, `[B, *map, C]`, float32."""
        return self.to_vectors(self._features_of(x, label, training))

    def _quantized(self, x: Tensor, label: ArrayLike | None, training: bool) -> Quantized:
        return self.quantizer.quantized(self._vectors(x, label, training))

    def _code(self, x: Tensor, label: ArrayLike | None, training: bool) -> Tensor:
        return self._flat(self._quantized(x, label, training).vectors)

    def _flat(self, vectors: Tensor) -> Tensor:
        return tf.reshape(vectors, (-1, self.latent_dim))

    def _code_layer(self) -> keras.layers.Layer:
        return MapCode(self.to_vectors, self.quantizer, name="code")

    def codes(self, x: ArrayLike, label: ArrayLike | None = None) -> Tensor:
        """Compute the codes of events.

        Args:
            x: events `[B, *event_shape]`.
            label: of a conditional model, the labels of the events `[B]`.

        Returns:
            Whole numbers below K, int32 `[B, *code_shape]`.

        Raises:
            InputError: if events or labels do not fit.
        """
        x, label = self.checked(x, label)
        return self._shown(self._quantized(x, label, training=False).codes)

    encode = codes

    def _shown(self, codes: Tensor) -> Tensor:
        """Return codes, in any shape, as `[B, *code_shape]`."""
        return tf.reshape(codes, (-1, *self.code_shape))

    def _checked_codes(self, codes: ArrayLike) -> Tensor:
        """Return codes `[B, *code_shape]` as `[B, *map, depth]`."""
        shape = self.code_shape
        named = ", ".join(map(str, shape))
        expected = f"codes are whole numbers [batch, {named}] from 0 to {self.num_codes - 1}"
        codes = number_tensor(codes, expected)
        if not codes.dtype.is_integer:
            raise InputError(f"{expected}; received {codes.dtype.name}")
        if not codes.shape.is_compatible_with((None, *shape)):
            raise InputError(f"{expected}; received shape {codes.shape}")
        codes = tf.cast(codes, tf.int32)
        if tf.executing_eagerly() and not bool(self.admits_codes(codes)):
            raise InputError(
                f"{expected}; received {int(tf.reduce_min(codes))} to {int(tf.reduce_max(codes))}"
            )
        return tf.reshape(codes, (-1, *self._code_shape, self.quantizer.depth))

    def admits_codes(self, codes: Tensor) -> Tensor:
        """Return whether all codes, int32 of any shape, are from 0 and below K."""
        return tf.reduce_all((codes >= 0) & (codes < self.num_codes))

    def code_vectors(self, codes: ArrayLike) -> Tensor:
        """Return z of codes, `[B, d]`: the vectors of the map, one after another.

        Args:
            codes: whole numbers below K, `[B, *code_shape]`.

        Raises:
            InputError: if they are none.
        """
        return self._flat(self.quantizer.lookup(self._checked_codes(codes)))

    def decode_codes(self, codes: ArrayLike, label: ArrayLike | None = None) -> Distribution:
        """Compute p(x|z) of codes.

        Args:
            codes: whole numbers below K, `[B, *code_shape]`.
            label: of a conditional model, the labels `[B]`, or one for all.

        Returns:
            A `tfd.Distribution` with batch shape `[B]` and the event shape of x.

        Raises:
            InputError: if codes or labels do not fit.
        """
        return self.decode(self.code_vectors(codes), label)

    def log_prior(self, codes: ArrayLike, label: ArrayLike | None = None) -> Tensor:
        """Compute log p(c) of codes, or log p(c|y) of a conditional model.

        Args:
            codes: whole numbers below K, `[B, *code_shape]`.
            label: of a conditional model, the labels `[B]`, or one for all.

        Returns:
            `[B]`, in nats.

        Raises:
            InputError: if codes or labels do not fit.
        """
        codes = self._checked_codes(codes)
        return self._log_prior(codes, label)

    def _log_prior(
        self,
        codes: Tensor,
        label: ArrayLike | None,
        seed: Tensor | None = None,
        share: Share | None = None,
    ) -> Tensor:
        flat = tf.reshape(codes, (-1, self.code_prior.length))
        condition = self._condition(label, flat, 1)
        one_hot = condition[0] if condition else None
        return self.code_prior.log_prob(flat, one_hot, seed, share)

    # --- the bound --------------------------------------------------------------------------------

    def bound(self, x: ArrayLike, label: ArrayLike | None = None) -> BoundTerms:
        """Compute the bound log p(x|c(x)) + log p(c(x)) ≤ log p(x) of each event.

        Args:
            x: events `[B, *event_shape]`.
            label: of a conditional model, the labels of the events `[B]`.

        Returns:
            ``(bound, log_likelihood, log_prior)``, each `[B]`, in nats. Where values are missing,
            all of it is about the observed ones.

        Raises:
            InputError: if events or labels do not fit.
        """
        x, label = self.checked(x, label)
        found = self._quantized(x, label, training=False)
        parameters = self.likelihood_parameters(self._flat(found.vectors), label)
        likelihood, target = self._likelihood(parameters, x, False)
        log_likelihood = likelihood.log_prob(target)
        log_prior = self._log_prior(found.codes, label)
        return BoundTerms(log_likelihood + log_prior, log_likelihood, log_prior)

    def elbo(
        self,
        x: ArrayLike,
        label: ArrayLike | None = None,
        *,
        num_samples: int = 1,
        seed: Seed = None,
    ) -> ELBOTerms:
        """Compute the bound under the names that a `VAE` has for it.

        Args:
            x: events `[B, *event_shape]`.
            label: of a conditional model, the labels of the events `[B]`.
            num_samples: left aside: nothing is drawn.
            seed: left aside too.

        Returns:
            ``(elbo, log_likelihood, kl)``, each `[B]`, in nats, with kl = −log p(c(x)).

        Raises:
            InputError: if events or labels do not fit.
        """
        checked_count("num_samples", num_samples)
        bound, log_likelihood, log_prior = self.bound(x, label)
        return ELBOTerms(bound, log_likelihood, -log_prior)

    # --- training ---------------------------------------------------------------------------------

    def batch_losses(
        self, batch: Batch, seed: Tensor, training: bool, share: Share | None = None
    ) -> Losses:
        """Compute what a batch gives; see `LatentVariableModel.batch_losses`.

        In training the codes, −log p(c) is that of the uniform prior: p(c) has not been trained
        then, or was for other codes.
        """
        of_prior = self.stage == "prior"
        trains_codes = training and not of_prior
        found = self._quantized(batch.x, batch.label, trains_codes)
        z = self._flat(found.vectors)
        parameters = self.likelihood_parameters(z, batch.label, trains_codes)
        target = batch.x if batch.target is None else batch.target
        likelihood, evaluated = self._likelihood(
            parameters, target, trains_codes, batch.value_weight
        )
        log_likelihood = likelihood.log_prob(evaluated)
        commitment = _by_event(found.commitment)
        if trains_codes:
            uniform = self.code_prior.length * math.log(self.num_codes)
            kl = tf.fill(tf.shape(log_likelihood), uniform)
            loss = commitment - log_likelihood
        else:
            draws = None
            if training:
                draws = tf.random.experimental.stateless_fold_in(seed, 1)
            kl = -self._log_prior(found.codes, batch.label, draws, share)
            loss = kl
        perplexity, used = self._usage(found.codes, share)
        ones = tf.ones_like(kl)
        statistics: tuple[Tensor, ...] = ()
        if trains_codes:
            draws = tf.random.experimental.stateless_fold_in(seed, 2)
            statistics = self.quantizer.statistics(found, batch.weight, draws, share)
        return Losses(
            loss=loss,
            validation_loss=kl - log_likelihood,
            terms={
                "elbo": log_likelihood - kl,
                "log_likelihood": log_likelihood,
                "kl": kl,
                "commitment": commitment,
                "perplexity": perplexity * ones,
                "codes_used": used * ones,
            },
            reconstruction=lambda: self.likelihood_family.mean(likelihood),
            statistics=statistics,
        )

    def _usage(self, codes: Tensor, share: Share | None) -> tuple[Tensor, Tensor]:
        """Return the perplexity of a batch's codes, and the share of codes that it uses."""
        counts = self.count_codes(codes)
        counts = counts if share is None else summed(share.counts * counts)
        return perplexity_of(counts), tf.reduce_mean(tf.cast(counts > 0, tf.float32))

    def count_codes(self, codes: Tensor) -> Tensor:
        """Count codes `[B, *code_shape]` in graphs and outside, float32 `[depth, K]`."""
        depth, size = self.quantizer.depth, self.num_codes
        flat = tf.reshape(codes, (-1, depth)) + tf.range(depth) * size
        flat = tf.reshape(flat, (-1,))
        ones = tf.ones_like(flat, tf.float32)
        return tf.reshape(tf.math.unsorted_segment_sum(ones, flat, depth * size), (depth, size))

    def follow(self, statistics: Sequence[Tensor]) -> None:
        """Move the codebook, when a step has updated the weights."""
        if statistics:
            self.quantizer.follow(statistics)

    def _start(self, x: np.ndarray, target: np.ndarray) -> None:
        super()._start(x, target)
        rows = np.unique(np.linspace(0, len(x) - 1, _START_EVENTS).round().astype(np.int64))
        few, label = x[rows], None
        if self.num_classes is not None:
            # Labels are not at hand here: some of each.
            label = np.arange(len(few)) % self.num_classes
        found = self._vectors_of_all(few, label)
        # Of about unit length, whatever the encoder's scale: what a commitment weighs, and how many
        # levels of a scalar are in use, would depend on it else.
        center, scale = found.mean(axis=0), found.std(axis=0) + 1e-6
        unit = 1 / (scale * math.sqrt(self.code_dim))
        kernel, bias = (keras.ops.convert_to_numpy(one) for one in self.to_vectors.weights)
        self.to_vectors.kernel.assign(kernel * unit)
        self.to_vectors.bias.assign((bias - center) * unit)
        self.quantizer.start((found - center) * unit, self._derived_seed(6) or 0)

    def _vectors_of_all(self, x: np.ndarray, label: np.ndarray | None) -> np.ndarray:
        """Compute the vectors of events, some at a time, `[N · P, C]`."""
        found = []
        for start in range(0, len(x), 256):
            rows = slice(start, start + 256)
            part = None if label is None else label[rows]
            found.append(self._vectors(tf.constant(x[rows]), part, False).numpy())
        return np.concatenate(found).reshape(-1, self.code_dim)

    @contextlib.contextmanager
    def training_prior(self, optimizer: Any = "adam", **kwargs: Any) -> Iterator[Self]:
        """Let steps train p(c), with all else held, within; the codes again afterwards.

        Within, `fit`, `tfvae.training.train` and `evaluate` take the model as any other: its loss
        is −log p(c(x)), and its validation loss the negative bound.

        Args:
            optimizer: as for `compile`.
            **kwargs: those of `compile`. How steps run (`run_eagerly`, `jit_compile`,
                `steps_per_execution`) is by default as the model was compiled.

        Raises:
            InputError: if the model has not been built.
        """
        self._require_built("training_prior")
        was_compiled = bool(self.compiled)  # type: ignore[has-type]
        before = (self.optimizer, self.get_compile_config()) if was_compiled else None
        if was_compiled:
            kwargs = {name: getattr(self, name) for name in _WAYS} | kwargs
        self.stage = "prior"
        self.compile(optimizer, **kwargs)
        try:
            yield self
        finally:
            self.stage = "codes"
            if before is None:
                self.compile(None)
                self.compiled = False
            else:
                kept, config = before
                config = keras.saving.deserialize_keras_object(config or {})
                named = {
                    name: value
                    for name, value in config.items()
                    if not name.startswith(("loss", "optimizer"))
                }
                self.compile(kept, **named)

    def fit_prior(
        self, x: Data = None, y: Data = None, *, optimizer: Any = None, **kwargs: Any
    ) -> keras.callbacks.History:
        """Train p(c) on the codes of events, with all else held: the second stage.

        Args:
            x: as for `fit`.
            y: labels of a conditional model, as for `fit`.
            optimizer: as for `compile`; by default Adam with a step size of 0.001. How steps run is
                as the model was compiled.
            **kwargs: those of `fit`, such as `epochs`, `validation_data` and `callbacks`.

        Returns:
            What `fit` returns; ``elbo`` is the bound.

        Raises:
            InputError: as `fit` does.
        """
        if not self.built:
            checked_source(self, x, y)
        if not self.adapted:
            # What the decoder starts at is a matter of the first stage.
            self.adapted = True
        chosen = (
            keras.optimizers.Adam(1e-3, global_clipnorm=1.0) if optimizer is None else optimizer
        )
        with self.training_prior(chosen):
            return self.fit(x, y, **kwargs)

    # --- samples ----------------------------------------------------------------------------------

    def sample_codes(
        self,
        n: int,
        *,
        label: ArrayLike | None = None,
        seed: Seed = None,
        temperature: float = 1.0,
    ) -> Tensor:
        """Draw codes from p(c), or p(c|y) of a conditional model.

        Args:
            n: how many events.
            label: of a conditional model, one label or `[n]`.
            seed: a whole number, a pair `[2]`, a pair for each event `[n, 2]`, or None for the
                model's own next seed.
            temperature: τ: each code is drawn from its p(c_t | …)^(1/τ), normalised; below 1 the
                more probable codes come more often than p(c) has them.

        Returns:
            int32 `[n, *code_shape]`.

        Raises:
            InputError: if a number or the label does not fit.
        """
        checked_count("n", n)
        seed = self._seed(seed)
        if seed.shape.rank == 2 and seed.shape[0] != n:
            raise InputError(f"expected a seed for each of {n} events; received {seed.shape[0]}")
        if seed.shape.rank == 1:
            seed = tf.transpose(tf.stack([tf.fill((n,), seed[0]), seed[1] + tf.range(n)]))
        return self.draw_codes(seed, self._label_of_each(n, label), temperature)

    def draw_codes(
        self, seeds: Tensor, label: Tensor | None = None, temperature: float = 1.0
    ) -> Tensor:
        """Draw codes, each event's from a seed of its own, whatever else is in the batch.

        Args:
            seeds: int32 `[B, 2]`.
            label: of a conditional model, `[B]`.
            temperature: as for `sample_codes`.

        Returns:
            int32 `[B, *code_shape]`.

        Raises:
            InputError: if the temperature is not above 0.
        """
        if not (is_number(temperature) and 0 < temperature < math.inf):
            raise InputError(f"temperature is a number above 0; received {temperature!r}")
        self._require_built("sampling")
        length = self.code_prior.length

        def numbers(seed: Tensor) -> Tensor:
            return tf.random.stateless_uniform((length,), seed)

        uniforms = tf.map_fn(
            numbers, seeds, fn_output_signature=tf.TensorSpec((length,), tf.float32)
        )
        condition = self._condition(label, uniforms, 1)
        one_hot = condition[0] if condition else None
        return self._shown(self.code_prior.draw(uniforms, one_hot, temperature))

    def _label_of_each(self, n: int, label: ArrayLike | None) -> Tensor | None:
        return self._require_built("sampling").labels_of_each(n, label)

    def sample(
        self,
        n: int = 1,
        *,
        label: ArrayLike | None = None,
        seed: Seed = None,
        temperature: float = 1.0,
        mean: bool = True,
    ) -> Tensor:
        """Draw events: codes from p(c), and the mean of p(x|c) or a draw from it.

        Args:
            n: how many.
            label: of a conditional model, one label or `[n]`.
            seed: as for `sample_codes`.
            temperature: as for `sample_codes`.
            mean: whether to return the mean of p(x|c), or a draw.

        Returns:
            `[n, *event_shape]`.

        Raises:
            InputError: if a number or the label does not fit.
        """
        checked_count("n", n)
        seed = self._seed(seed)
        first = seed if seed.shape.rank == 1 else seed[0]
        codes = self.sample_codes(n, label=label, seed=seed, temperature=temperature)
        decoded = self.decode_codes(codes, self._label_of_each(n, label))
        if mean:
            return self.likelihood_family.mean(decoded)
        return decoded.sample(seed=tf.random.experimental.stateless_fold_in(first, 1))


def perplexity_of(counts: Tensor) -> Tensor:
    """Compute exp of the entropy of how often each code occurs: from 1 to K.

    Args:
        counts: `[depth, K]`.

    Returns:
        A scalar, the mean over levels.
    """
    share = counts / tf.maximum(tf.reduce_sum(counts, axis=-1, keepdims=True), 1.0)
    return tf.reduce_mean(tf.exp(-tf.reduce_sum(tf.math.xlogy(share, share), axis=-1)))


def _by_event(values: Tensor) -> Tensor:
    """Sum `[B, *map]` over the map."""
    return tf.reduce_sum(values, axis=list(range(1, values.shape.rank)))
