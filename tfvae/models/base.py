"""What all models share: two networks, a likelihood, and the way to train them."""

import abc
import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self, TypedDict, Unpack

import keras
import numpy as np
import tensorflow as tf

from tfvae import likelihoods, networks
from tfvae.checks import checked_count, checked_flag, checked_seed, is_number, is_whole
from tfvae.errors import InputError
from tfvae.graph_errors import one_line_errors
from tfvae.likelihoods import Likelihood
from tfvae.models import keras_internals
from tfvae.models.adam import FusedAdam
from tfvae.models.batch import Batch, checked_weights, events_and_labels, unpack
from tfvae.models.building import check_keras, check_network, last_activation, run_symbolically
from tfvae.models.callbacks import DivergenceWatch, say_directions
from tfvae.models.compiled import Graphs
from tfvae.models.event_spec import AXES, NOUNS, EventSpec, number_tensor
from tfvae.models.keras_layers import decoder_model, encoder_model
from tfvae.models.sources import (
    batches_of,
    check_arguments,
    checked_source,
    is_numeric_array,
    stand_in,
    warn_of_scale,
)
from tfvae.models.starting import (
    count_at_hand,
    first_batch,
    is_as_made,
    rows_at_hand,
    start,
)
from tfvae.models.step import (
    Differentiated,
    Losses,
    apply,
    check_optimizer,
    differentiate,
    weighted_mean,
)
from tfvae.models.tensorflow_internals import may_be_recorded
from tfvae.models.tracing import run
from tfvae.share import Share
from tfvae.typing import ArrayLike, Config, Data, Distribution, Seed, Shape, Tensor

# Writers of models in formats that need no Python of this library, by name: functions of a model
# and a path. `tfvae` adds those that it knows; see `LatentVariableModel.export`.
EXPORT_FORMATS: dict[str, Callable[..., Any]] = {}


class KerasOptions(TypedDict, total=False):
    """The options of every `keras.Model`."""

    name: str
    dtype: Any
    trainable: bool


class LatentVariableModel(keras.Model, abc.ABC):
    """Events to a latent vector and back: base class of `VAE`, `VQVAE` and `Autoencoder`.

    Attributes:
        encoder: the network from events to features.
        decoder: the network from z to features.
        latent_dim: d.
        likelihood_family: p(x|z), whose support the events must lie in.
        event_spec: what an event is; None until the model is built.
        num_classes: how many labels a conditional model knows, None for one without labels.
        missing: whether NaN in an event means that the value was not observed.
        adapted: whether the model stands where it is to start; a training adapts it else. See
            `adapt`.
        skip_norm: length of the gradient above which an update is left out; see `compile`.
        seed: seed of the model's own noise, or None.
        term_names: the terms that `batch_losses` reports.
    """

    term_names: tuple[str, ...] = ()

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
        # Events stay in float32: the networks cast what they are given, the likelihood must not.
        super().__init__(autocast=False, **kwargs)
        check_keras()
        for role, network in (("encoder", encoder), ("decoder", decoder)):
            check_network(role, network)
        if seed is not None and not is_whole(seed, least=0):
            raise InputError(f"seed is a whole number from 0, or None; received {seed!r}")
        self.num_classes = networks.check_num_classes(num_classes)
        self.missing = checked_flag("missing", missing)
        self.adapted = False
        self.skip_norm: float | None = None
        self.encoder = encoder
        self.decoder = decoder
        self.latent_dim = networks.check_latent_dim(latent_dim)
        self.likelihood_family = likelihoods.get(likelihood)
        self.seed = None if seed is None else checked_seed("seed", seed)
        self.seed_generator = keras.random.SeedGenerator(self.seed)
        self._validation_seeds = keras.random.SeedGenerator(_validation_seed(self.seed))
        self._term_means = [keras.metrics.Mean(name=name) for name in self.term_names]
        self._event_spec: EventSpec | None = None
        self._graphs = Graphs()

    # --- building -------------------------------------------------------------------------------

    @property
    def event_spec(self) -> EventSpec:
        """What an event is.

        Raises:
            InputError: if the model has not been built.
        """
        return self._require_built("asking for its event_spec")

    @property
    def event_shape(self) -> Shape:
        """Shape of one event, such as (H, W, C).

        Raises:
            InputError: if the model has not been built.
        """
        return self._require_built("asking for its event_shape").shape

    def _build_if_known(self) -> None:
        """Build at construction where the encoder says which events it takes."""
        shape = getattr(self.encoder, "input_shape", None) if self.encoder.built else None
        if isinstance(shape, list):  # of the event and the label
            shape = shape[0]
        if not isinstance(shape, tuple) or len(shape) < 2 or None in shape[1:]:
            return
        encoding = self.likelihood_family.encoding
        if encoding is not None:
            shape = (*shape[:-1], len(encoding.columns))
        elif self.missing:
            if shape[-1] % 2:
                raise InputError(
                    "an encoder for missing values takes the event beside its mask, twice the "
                    f"channels on the last axis; received one that takes [batch, "
                    f"{', '.join(map(str, shape[1:]))}]"
                )
            shape = (*shape[:-1], shape[-1] // 2)
        self.build(shape)

    def build(self, input_shape: Any) -> None:
        """Build networks and families for events of `input_shape`, `[B, *event_shape]`.

        Raises:
            InputError: if the networks do not fit the events, the latent dimension or each other.
        """
        if isinstance(input_shape, dict) or (
            isinstance(input_shape, (list, tuple))
            and input_shape
            and isinstance(input_shape[0], (list, tuple))
        ):  # of the event and the label
            input_shape, _ = events_and_labels(input_shape, self.num_classes)
            input_shape = input_shape[0] if isinstance(input_shape[0], tuple) else input_shape
        shape = tuple(input_shape)
        if not 2 <= len(shape) <= 5 or None in shape[1:]:
            kinds = "; ".join(f"{NOUNS[rank]} [batch, {AXES[rank]}]" for rank in NOUNS)
            raise InputError(f"expected {kinds}; received shape {shape}")
        if self._event_spec is not None:
            self._event_spec.check_shape(shape)
            return
        likelihood = self.likelihood_family
        spec = EventSpec(
            networks.check_event_shape(shape[1:]),
            likelihood.support,
            type(likelihood).__name__,
            self.num_classes,
            self.missing,
            likelihood.encoding,
        )
        features = run_symbolically("encoder", self.encoder, spec.encoder_shape, self.num_classes)
        if self.missing and not likelihood.takes_missing:
            raise InputError(
                f"{type(likelihood).__name__} takes no missing values: let it define "
                "value_distribution, or its distribution take observed"
            )
        likelihood.bind(spec.shape, self._derived_seed(3))
        self._event_spec = spec
        try:
            self._build_latent(features)
            features = run_symbolically("decoder", self.decoder, self._z_shape, self.num_classes)
            if isinstance(features, (list, tuple, dict)):
                raise InputError("the decoder must put out one tensor; received several")
            likelihood.last_activation = last_activation(self.decoder)
            likelihood(features)
            self._check_latent()
        except InputError:
            self._event_spec = None
            raise
        self.built = True
        self._build_optimizer()

    @abc.abstractmethod
    def _build_latent(self, features: Any) -> None:
        """Build what lies between the encoder's output and z."""

    @property
    def _z_shape(self) -> Shape:
        """How the decoder takes the d values of z: as a vector."""
        return (self.latent_dim,)

    def _check_latent(self) -> None:
        """Check that what has been built fits together."""

    def _derived_seed(self, number: int) -> int | None:
        return None if self.seed is None else 1_000 * self.seed + 900 + number

    def get_build_config(self) -> Config | None:
        """Return what `build_from_config` needs, once the model is built."""
        return {"event_shape": self._event_spec.shape} if self._event_spec else None

    def build_from_config(self, config: Config) -> None:
        """Build as the saved model was built."""
        if config and config.get("event_shape") and self._event_spec is None:
            self.build((None, *config["event_shape"]))

    def _require_built(self, method: str) -> EventSpec:
        if self._event_spec is None:
            raise InputError(
                f"the model does not know its event shape yet: call it on events before {method}"
            )
        return self._event_spec

    # --- saving -----------------------------------------------------------------------------------

    def get_config(self) -> Config:
        """Return the constructor's arguments."""
        serialize = keras.saving.serialize_keras_object
        return {
            **keras.layers.Layer.get_config(self),
            "encoder": serialize(self.encoder),
            "decoder": serialize(self.decoder),
            "latent_dim": self.latent_dim,
            "likelihood": serialize(self.likelihood_family),
            "num_classes": self.num_classes,
            "missing": self.missing,
            "seed": self.seed,
        }

    @classmethod
    def from_config(cls, config: Config, custom_objects: Any = None) -> Self:
        """Build the model from `get_config`'s dictionary."""
        config = {
            key: keras.saving.deserialize_keras_object(value, custom_objects=custom_objects)
            if isinstance(value, dict) and "class_name" in value
            else value
            for key, value in config.items()
        }
        return cls(**config)

    def save(self, filepath: str | Path, *args: Any, **kwargs: Any) -> None:
        """Write the whole model to a `.keras` file, as `keras.Model.save` does.

        Raises:
            InputError: if the file has another ending: Keras would write it, and not read it again.
        """
        if Path(filepath).suffix != ".keras":
            raise InputError(
                f"a model is saved to a file that ends in .keras; received {Path(filepath).name}: "
                "vae.save('model.keras'), or vae.export('FOLDER') for a SavedModel"
            )
        super().save(filepath, *args, **kwargs)

    def save_own_variables(self, store: Any) -> None:
        """Write the model's own weights, how far its noise has come, and whether it is adapted."""
        super().save_own_variables(store)
        store[_SEED_KEY] = np.asarray(self.seed_generator.state)
        store[_ADAPTED_KEY] = np.asarray(self.adapted)

    def load_own_variables(self, store: Any) -> None:
        """Read the model's own weights, how far its noise had come, and whether it was adapted."""
        # A store of Keras has keys, and is not iterable.
        own = {key: store[key] for key in list(store.keys())}
        self.adapted = bool(np.asarray(own.pop(_ADAPTED_KEY, True)))
        state = own.pop(_SEED_KEY, None)
        if state is not None:
            self.seed_generator.state.assign(np.asarray(state))
        super().load_own_variables(own)

    def export(self, filepath: str | Path, format: str = "tf_saved_model", **kwargs: Any) -> None:
        """Write the model for programs that do not have this library.

        Args:
            filepath: the directory or file to make.
            format: ``"tf_saved_model"``, with the options of
                `tfvae.serving.export.export_saved_model`, such as `card`; ``"onnx"`` or
                ``"litert"``, with those of `tfvae.serving.runtimes`, a directory with a file for
                each function; or another one of `keras.Model.export`, with its options: that export
                is Keras' own, of the reconstruction.
            **kwargs: options of the format.

        Raises:
            InputError: if `filepath` exists, or the model has not been built.
        """
        if format in EXPORT_FORMATS:
            EXPORT_FORMATS[format](self, filepath, **kwargs)
            return
        try:
            super().export(filepath, format=format, **kwargs)
        except ValueError as error:
            if "Unrecognized format" not in str(error):
                raise
            raise InputError(f"{error}; of this library {', '.join(EXPORT_FORMATS)}") from None

    @property
    def _default_save_signature(self) -> Any:
        # Keras traces a call of events alone as it saves, which a conditional model refuses.
        return None if self.num_classes is not None else super()._default_save_signature

    # --- inputs -----------------------------------------------------------------------------------

    def checked(self, x: ArrayLike, label: ArrayLike | None = None) -> tuple[Tensor, Tensor | None]:
        """Return events and labels as tensors, checked; the model is built for them if it is not.

        Args:
            x: events `[B, *event_shape]`, NaN where a value is missing if the model takes that.
            label: of a conditional model, the labels `[B]`, or one for all.

        Returns:
            x as float32; the labels `[B]`, None of a model without.

        Raises:
            InputError: in one line, if they do not fit. In a graph the static shapes alone are
                looked at.
        """
        spec = self._spec_of(x)
        if label is not None:
            label = number_tensor(label, "labels are whole numbers")
            if label.shape.rank == 0:
                label = tf.broadcast_to(label, tf.shape(spec.tensor(x))[:1])
        return spec.check(x, label)

    def checked_batch(self, batch: Data) -> tuple[Tensor, Tensor | None]:
        """Return events and labels, checked, of a batch ``x`` or ``(x, label)``.

        Raises:
            InputError: if they do not fit.
        """
        parts = self.unpack(batch)
        return self.checked(parts.x, parts.label)

    def _spec_of(self, x: ArrayLike) -> EventSpec:
        """Return the `EventSpec`, the model built for `x` if it has not been before."""
        if self._event_spec is None:
            shape = getattr(x, "shape", None)
            self.build(tf.convert_to_tensor(x).shape if shape is None else shape)
        return self.event_spec

    def unpack(self, data: Data) -> Batch:
        """Tell apart what a batch holds; see `tfvae.models.batch.unpack`.

        Raises:
            InputError: if a part is missing or not what it could be.
        """
        x, _ = events_and_labels(keras.utils.unpack_x_y_sample_weight(data)[0], self.num_classes)
        return unpack(data, self._spec_of(x))

    def tensors(self, data: Data, *, guard: bool) -> Batch:
        """Return the parts of a batch as tensors, for a step.

        Args:
            data: as for `unpack`.
            guard: whether values are checked when the graph runs, and not their shapes alone.

        Raises:
            InputError: if they do not fit; see `EventSpec.guard`.
        """
        batch = self.unpack(data)
        spec = self._spec_of(batch.x)
        check = spec.guard if guard else spec.check
        x, label = check(batch.x, batch.label)
        target = None
        if batch.target is not None:
            target, _ = check(batch.target, label)
        return Batch(x, label, target, *checked_weights(batch, spec, guard=guard))

    def _checked_labels(self, label: ArrayLike | None, owner: Tensor, axes: int) -> Tensor | None:
        """Return labels that broadcast to the leading axes of `owner`; None of a model without.

        Args:
            label: the labels.
            owner: what they belong to.
            axes: how many trailing axes of `owner` are those of one thing.
        """
        if self.num_classes is None and label is None:
            return None
        label = self._require_built("labels").labels(label)
        known = owner.shape[:-axes]
        try:
            fits = tf.broadcast_static_shape(label.shape, known).is_compatible_with(known)
        except ValueError:
            fits = False
        if not fits:
            raise InputError(
                f"expected one label, or labels of shape {known}; received shape {label.shape}"
            )
        return label

    def _condition(self, label: ArrayLike | None, owner: Tensor, axes: int) -> list[Tensor]:
        """Return labels as the networks take them: ``[one-hot [N, num_classes]]``, or ``[]``.

        Args:
            label: as for `_checked_labels`; N is the size of the leading axes of `owner`.
            owner: what the labels belong to.
            axes: how many trailing axes are those of one thing.
        """
        label = self._checked_labels(label, owner, axes)
        if label is None:
            return []
        label = tf.reshape(tf.broadcast_to(label, tf.shape(owner)[:-axes]), (-1,))
        return [tf.one_hot(tf.cast(label, tf.int32), self.num_classes)]

    # --- graphs of the methods --------------------------------------------------------------------

    def _run(
        self, method: Callable[..., Any], arguments: dict[str, Tensor | None], **options: Any
    ) -> Any:
        """Call a method of the model with checked tensors: by its graph, where it is for that.

        It is called as it is within a graph, in training mode, under a tape or a
        `tf.distribute.Strategy`, and where ``run_eagerly`` is set or
        `tf.config.run_functions_eagerly`.
        """
        plain = (
            not tf.executing_eagerly()
            or options.get("training")
            or self.run_eagerly
            or tf.config.functions_run_eagerly()
            or tf.distribute.has_strategy()
            or may_be_recorded()
        )
        if plain:
            return method(**arguments, **options)
        trailing = {"x": self.event_spec.rank, "z": 1, "seed": 1}
        return self._graphs.run(method, arguments, trailing, options, self._parts())

    def _parts(self) -> tuple[Any, ...]:
        """Return what a graph of a method is made of: one of other parts is another graph."""
        return self.encoder, self.decoder, self.likelihood_family

    # --- the networks -----------------------------------------------------------------------------

    def _features_of(self, x: Tensor, label: ArrayLike | None, training: bool) -> Any:
        """Compute what the encoder puts out for events whose values are not looked at."""
        spec = self.event_spec
        inputs = spec.encoder_input(*spec.observed(x))
        condition = self._condition(label, x, spec.rank)
        return run(self.encoder, [inputs, *condition] if condition else inputs, training)

    def decode(
        self, z: ArrayLike, label: ArrayLike | None = None, training: bool = False
    ) -> Distribution:
        """Compute p(x|z), or p(x|z, y) of a conditional model.

        Args:
            z: latent vectors `[..., d]`, any leading axes.
            label: of a conditional model, whole numbers that broadcast to the leading axes of `z`.
            training: whether the decoder runs in training mode.

        Returns:
            A `tfd.Distribution` with the batch shape of `z` and the event shape of x.

        Raises:
            InputError: if the last axis of `z` is not d, a value of it is not finite, or the label
                does not fit.
        """
        return self.likelihood_family.distribution(self.likelihood_parameters(z, label, training))

    def likelihood_parameters(
        self, z: ArrayLike, label: ArrayLike | None = None, training: bool = False
    ) -> dict[str, Tensor]:
        """Compute what `likelihood_family` makes p(x|z) from, tensors with the axes of `z` first.

        Args:
            z: as for `decode`.
            label: as for `decode`.
            training: as for `decode`.
        """
        z = self._checked_latent(z)
        if tf.executing_eagerly():
            label = self._checked_labels(label, z, 1)
        return self._run(self._decoded_parameters, {"z": z, "label": label}, training=training)

    def _checked_latent(self, z: ArrayLike) -> Tensor:
        """Return latent vectors `[..., d]` as float32; in a graph their shape alone is checked."""
        self._require_built("decode")
        expected = f"expected latent vectors [..., {self.latent_dim}] of numbers"
        z = tf.cast(number_tensor(z, expected), tf.float32)
        if z.shape.rank is not None and (z.shape.rank < 1 or z.shape[-1] != self.latent_dim):
            raise InputError(
                f"expected latent vectors [..., {self.latent_dim}]; received shape {z.shape}"
            )
        if tf.executing_eagerly() and not bool(tf.reduce_all(tf.math.is_finite(z))):
            raise InputError("expected finite latent vectors; received NaN or infinite values")
        return z

    def _decoded_parameters(
        self, z: Tensor, label: Tensor | None, training: bool = False
    ) -> dict[str, Tensor]:
        """Compute the parameters of p(x|z) of latent vectors that have been checked."""
        flat = tf.reshape(z, (-1, *self._z_shape))
        condition = self._condition(label, z, 1)
        features = run(self.decoder, [flat, *condition] if condition else flat, training)
        return self._parameters_of(features, z)

    def _parameters_of(self, features: Tensor, z: Tensor) -> dict[str, Tensor]:
        """Compute what p(x|z) is made from, of a decoder's features, with the axes of `z` first."""
        rank = self.event_spec.rank
        parameters = self.likelihood_family(features)
        if z.shape.rank != 2:
            batch_shape = tf.shape(z)[:-1]
            parameters = {
                name: tf.reshape(value, tf.concat([batch_shape, tf.shape(value)[1:]], 0))
                for name, value in parameters.items()
            }
            for value in parameters.values():
                value.set_shape((*z.shape[:-1], *value.shape[-rank:]))
        return parameters

    def _likelihood(
        self,
        parameters: dict[str, Tensor],
        target: Tensor,
        training: bool,
        value_weight: Tensor | None = None,
    ) -> tuple[Distribution, Tensor]:
        """Return p(x|z) to evaluate at a target `[B, *event_shape]`, and the target to evaluate at.

        Where values may be missing, it is the density of the observed ones; with a weight for each
        value, see `Likelihood.weighted`.
        """
        spec = self._require_built("log_prob")
        target, observed = spec.observed(target)
        family = self.likelihood_family
        if value_weight is not None and family.takes_missing:
            # What a likelihood takes from the data, it takes from the values that count.
            counts = value_weight > 0
            observed = counts if observed is None else observed & counts
        if training:
            likelihood = family.training_distribution(parameters, target, observed)
        elif observed is None:
            # Without a second argument, which a likelihood of the user's own need not have.
            likelihood = family.distribution(parameters)
        else:
            likelihood = family.distribution(parameters, observed)
        if value_weight is not None:
            likelihood = family.weighted(likelihood, value_weight)
        return likelihood, target

    def log_likelihood(self, x: ArrayLike, z: ArrayLike, label: ArrayLike | None = None) -> Tensor:
        """Compute log p(x|z), over the observed values of x where some may be missing.

        Args:
            x: events `[B, *event_shape]`.
            z: latent vectors `[..., B, d]`.
            label: of a conditional model, the labels `[B]`.

        Returns:
            `[..., B]`, in nats.

        Raises:
            InputError: if they do not fit.
        """
        x, checked_label = self.checked(x, label)
        z = number_tensor(z, f"expected latent vectors [..., {self.latent_dim}] of numbers")
        shapes = z.shape[:-1], x.shape[:1]
        try:
            tf.broadcast_static_shape(*shapes)
        except ValueError:
            raise InputError(
                f"expected a latent vector for each event, [..., {x.shape[0]}, "
                f"{self.latent_dim}]; received shape {z.shape}"
            ) from None
        arguments = {"x": x, "z": self._checked_latent(z), "label": checked_label}
        return self._run(self._log_likelihood_of, arguments)

    def _log_likelihood_of(self, x: Tensor, z: Tensor, label: Tensor | None) -> Tensor:
        likelihood, target = self._likelihood(self._decoded_parameters(z, label), x, False)
        return likelihood.log_prob(target)

    def log_likelihood_by_value(
        self, x: ArrayLike, z: ArrayLike, label: ArrayLike | None = None
    ) -> Tensor:
        """Compute what each value of x, such as a table's column, adds to log p(x|z).

        Args:
            x: as for `log_likelihood`.
            z: as for `log_likelihood`.
            label: as for `log_likelihood`.

        Returns:
            `[..., B, *event_shape]`, in nats, 0 where a value is missing.

        Raises:
            InputError: if they do not fit, or the likelihood has no distribution of single values.
        """
        x, _ = self.checked(x, label)
        target, observed = self._require_built("log_prob").observed(x)
        parameters = self.likelihood_parameters(z, label)
        return self.likelihood_family.log_prob_by_value(parameters, target, observed)

    def _mean(self, z: Tensor, label: ArrayLike | None = None, training: bool = False) -> Tensor:
        """Compute the mean of p(x|z), `[..., *event_shape]`."""
        return self.likelihood_family.mean(self.decode(z, label, training))

    def code(self, x: ArrayLike, label: ArrayLike | None = None) -> Tensor:
        """Compute the latent vector that stands for each event, `[B, d]`; see `Posterior.code`.

        Args:
            x: events `[B, *event_shape]`; or a `keras.Input` of them, for which it returns what
                `keras_encoder` does.
            label: of a conditional model, the labels of the events `[B]`.

        Raises:
            InputError: if events or labels do not fit.
        """
        if isinstance(x, keras.KerasTensor):
            return self.keras_encoder()(x if label is None else [x, label])
        x, label = self.checked(x, label)
        return self._run(self._code, {"x": x, "label": label}, training=False)

    @abc.abstractmethod
    def _code(self, x: Tensor, label: ArrayLike | None, training: bool) -> Tensor:
        """Compute the codes of events that have been checked."""

    def keras_encoder(self) -> keras.Model:
        """Build the plain Keras model from x to its code: of a VAE the mean μ(x) of q(z|x).

        It shares this model's weights, and is used as any other: predict with it, save it, export
        it, put it into other models. That of a conditional model takes a list of events and one-hot
        labels `[B, num_classes]`.

        Raises:
            InputError: if the model has not been built.
        """
        spec = self._require_built("keras_encoder")
        return encoder_model(self.encoder, self._code_layer(), spec)

    def keras_decoder(self) -> keras.Model:
        """Build the plain Keras model from z `[B, d]` to the mean of p(x|z) `[B, *event_shape]`.

        It shares this model's weights; that of a conditional model takes a list of z and one-hot
        labels `[B, num_classes]`.

        Raises:
            InputError: if the model has not been built.
        """
        spec = self._require_built("keras_decoder")
        return decoder_model(
            self.decoder, self.likelihood_family, self.latent_dim, spec, self._z_shape
        )

    @abc.abstractmethod
    def _code_layer(self) -> keras.layers.Layer:
        """Return a layer from the encoder's output to codes, for `keras_encoder`."""

    # --- events -----------------------------------------------------------------------------------

    def call(self, x: Data, label: ArrayLike | None = None, training: bool = False) -> Tensor:
        """Compute reconstructions `[B, *event_shape]`: the mean of p(x|z) at the code of each.

        A conditional model takes the labels as a second argument, or a pair of both as its first.
        """
        if label is None:
            x, label = events_and_labels(x, self.num_classes)
        x, label = self.checked(x, label)
        return self._mean(self._code(x, label, training), label, training)

    def reconstruct(self, x: ArrayLike, label: ArrayLike | None = None) -> Tensor:
        """Compute reconstructions of events, the mean of p(x|z) at the code of each.

        Args:
            x: events `[B, *event_shape]`.
            label: of a conditional model, the labels of the events `[B]`.

        Returns:
            `[B, *event_shape]`.

        Raises:
            InputError: if the events have another shape, or values outside the support, or the
                labels do not fit.
        """
        x, label = self.checked(x, label)
        return self._run(self._reconstruction_of, {"x": x, "label": label})

    def _reconstruction_of(self, x: Tensor, label: Tensor | None) -> Tensor:
        # By name: Keras takes tensors alone by position.
        return self(x, label=label)

    def interpolate(
        self, a: ArrayLike, b: ArrayLike, steps: int = 8, label: ArrayLike | None = None
    ) -> Tensor:
        """Decode the straight line in latent space from the events `a` to the events `b`.

        Args:
            a: one event `[*event_shape]`, or several `[B, *event_shape]`.
            b: as many.
            steps: points on the line, both ends included; at least 2.
            label: of a conditional model, the label that both ends of a line have: one for all, or
                `[B]`.

        Returns:
            Events `[steps, *event_shape]` for single ones, `[B, steps, *event_shape]` for several.

        Raises:
            InputError: if the shapes differ or do not fit, or `steps` is below 2.
        """
        checked_count("steps", steps, least=2)
        a, b = (number_tensor(one, "expected two events of numbers") for one in (a, b))
        if a.shape != b.shape:
            raise InputError(
                f"expected two events, or two batches, of one shape; received {a.shape}, {b.shape}"
            )
        single = self._is_single(a)
        start, end = (
            self.code(event[None] if single else event, self._repeated(label, single))
            for event in (a, b)
        )
        weights = tf.reshape(tf.linspace(0.0, 1.0, steps), (1, steps, 1))
        line = (1 - weights) * start[:, None] + weights * end[:, None]
        events = self._mean(line, _column(label))
        return events[0] if single else events

    def traverse(
        self, x: ArrayLike, dimension: int, values: ArrayLike, label: ArrayLike | None = None
    ) -> Tensor:
        """Decode the codes of events with one latent dimension set to each of some values.

        Args:
            x: one event `[*event_shape]`, or several `[B, *event_shape]`.
            dimension: which latent dimension, 0 to d − 1.
            values: what to set it to, `[V]`.
            label: of a conditional model, the label of the events: one for all, or `[B]`.

        Returns:
            Events `[V, *event_shape]` for a single one, `[B, V, *event_shape]` for several.

        Raises:
            InputError: if there is no such dimension, or the events do not fit.
        """
        if not is_whole(dimension, least=0) or dimension >= self.latent_dim:
            raise InputError(
                f"dimension is a whole number from 0 to {self.latent_dim - 1}; "
                f"received {dimension!r}"
            )
        x = tf.convert_to_tensor(x)
        single = self._is_single(x)
        values = tf.reshape(tf.cast(tf.convert_to_tensor(values), tf.float32), (1, -1, 1))
        code = self.code(x[None] if single else x, self._repeated(label, single))[:, None]
        events = self._mean(self._moved(code, dimension, values), _column(label))
        return events[0] if single else events

    def _moved(self, code: Tensor, dimension: int, values: Tensor) -> Tensor:
        """Return codes `[B, V, d]` with one dimension of `[B, 1, d]` set to values `[1, V, 1]`."""
        chosen = tf.one_hot(dimension, self.latent_dim)
        return code * (1 - chosen) + values * chosen

    def _is_single(self, x: Tensor) -> bool:
        """Whether `x` is one event, and no batch of them."""
        return self._event_spec is not None and x.shape.rank == self._event_spec.rank

    # --- seeds ------------------------------------------------------------------------------------

    def next_training_seed(self) -> Tensor:
        """Return the seed `[2]` of the next training step, and go on to the one after."""
        return _next_seed(self.seed_generator)

    def validation_seed(self, index: ArrayLike) -> Tensor:
        """Return the seed `[2]` of a batch to evaluate: in every pass the same."""
        seed = tf.cast(tf.constant(_validation_seed(self.seed), tf.int64), tf.int32)
        return tf.stack([seed, tf.cast(index, tf.int32)])

    def _seed(self, seed: Seed) -> Tensor:
        """Return `[2]` or `[B, 2]` int32; for None the model's own next seed."""
        if seed is None:
            return _next_seed(self.seed_generator)
        expected = "a seed is a whole number, a pair [2], or a pair for each event [batch, 2]"
        seed = number_tensor(seed, expected)
        if not seed.dtype.is_integer:
            raise InputError(f"{expected}; received {seed.dtype.name}")
        seed = tf.cast(seed, tf.int32)
        if seed.shape.rank == 0:
            seed = tf.stack([seed, 0])
        if seed.shape.rank not in (1, 2) or seed.shape[-1] != 2:
            raise InputError(
                "a seed is a whole number, a pair [2], or a pair for each event [batch, 2]; "
                f"received shape {seed.shape}"
            )
        return seed

    # --- training ---------------------------------------------------------------------------------

    def adapt(self, x: Data, y: Data = None) -> None:
        """Start p(x|z) at the mean and the spread of events; see `tfvae.models.starting`.

        `fit` and `tfvae.training.train` do so by themselves before the first step of a model that
        has not been adapted. To start it as it is, set ``vae.adapted = True``.

        Args:
            x: what `fit` takes: events, data sets of batches, or a split of
                `tfvae.datasets.Dataset`.
            y: targets of the event's shape, where they are what p(x|z) is of; labels are left
                aside.

        Raises:
            InputError: if the events do not fit.
        """
        batch, _ = self._at_hand(x, y)
        if batch is None:
            raise InputError(
                f"adapt takes events, a split or a data set of batches; received {type(x).__name__}"
            )
        x, target = batch
        self.event_spec.check_values(target)
        self._start(x, target)

    def adapt_once(self, x: Data, y: Data = None) -> Data:
        """Adapt a model that a training is to begin with, unless it has been trained or adapted.

        Args:
            x: what the training was given.
            y: the targets or labels beside arrays.

        Returns:
            x; of a generator, whose first batch has been taken, another with that batch as well.
        """
        taken_steps = self.compiled and self.optimizer is not None and self.optimizer.iterations > 0
        if self.adapted or taken_steps or (self.built and not is_as_made(self)):
            return x
        batch, x = self._at_hand(x, y)
        # What does not fit the training itself refuses, in its own words.
        if batch is not None and self.event_spec.admits_array(batch[1]):
            self._start(*batch)
        return x

    def _at_hand(self, x: Data, y: Data) -> tuple[tuple[np.ndarray, np.ndarray] | None, Data]:
        """Return events and targets, float32, to adapt to, and what the training goes on with."""
        split: Any = x if hasattr(x, "subset") else getattr(x, "split", None)
        if split is not None:
            if not self.built:
                self.build((None, *split.event_shape))
            events, _ = split.subset(count_at_hand(len(split), split.event_shape)).arrays()
            self.event_spec.check_shape(events.shape)
            return (events, events), x
        batch = None
        if is_numeric_array(events_and_labels(x, self.num_classes)[0] if x is not None else None):
            batch = x if y is None else (x, y)
        else:
            batch, x = first_batch(x)
        if batch is None:
            return None, x
        parts = self.unpack(batch)
        events = target = rows_at_hand(parts.x, self.event_shape)
        if parts.target is not None:
            target = rows_at_hand(parts.target, self.event_shape)
        return (events, target), x

    def _start(self, x: np.ndarray, target: np.ndarray) -> None:
        """Start at events, and at the targets that p(x|z) is of."""
        start(self, x, self.event_spec.clip_array(target))
        self.adapted = True

    @abc.abstractmethod
    def batch_losses(
        self, batch: Batch, seed: Tensor, training: bool, share: Share | None = None
    ) -> Losses:
        """Compute what a batch gives, event by event.

        Args:
            batch: tensors; see `tensors`.
            seed: `[2]`, of the batch's draws.
            training: whether to train.
            share: which rows of a batch these are, where several devices have it: the result is
                that of these rows within the whole batch.
        """

    def follow(self, statistics: Sequence[Tensor]) -> None:
        """Learn what no gradient tells, when a step has updated the weights; here nothing.

        Args:
            statistics: `Losses.statistics` of the batch, summed over all devices.
        """

    def compile(
        self,
        optimizer: Any = "adam",
        loss: Any = None,
        *,
        skip_norm: float | None = None,
        **kwargs: Any,
    ) -> None:
        """Configure training, as `keras.Model.compile` does.

        Args:
            optimizer: a Keras optimizer or its name; ``"adam"`` is `FusedAdam`.
            loss: must stay None; the objective is part of the model.
            skip_norm: leave out an update whose gradient of all weights is longer than this, before
                the optimizer clips it (Child 2021, arXiv:2011.10650, section 3.2); None leaves out
                none. Hierarchies have batches now and then whose gradient is a thousand times as
                long as others.
            **kwargs: those of `keras.Model.compile`. Metrics compare events with their
                reconstructions.

        Raises:
            InputError: if a loss or no optimizer is given, gradients are clipped to what is not
                finite, or `skip_norm` is not above 0.
        """
        if skip_norm is not None and not (is_number(skip_norm) and 0 < skip_norm < math.inf):
            raise InputError(
                f"skip_norm is a finite number above 0, or None; received {skip_norm!r}"
            )
        self.skip_norm = None if skip_norm is None else float(skip_norm)
        if loss is not None or kwargs.get("loss_weights") is not None:
            raise InputError(
                f"compile takes no loss; received {loss!r}: the objective is part of the model, "
                "VAE(..., likelihood=..., objective=...)"
            )
        try:
            if isinstance(optimizer, str) and optimizer.lower() == "adam":
                optimizer = FusedAdam()
            optimizer = None if optimizer is None else keras.optimizers.get(optimizer)
        except (ValueError, TypeError, KeyError):
            raise InputError(
                f"expected a Keras optimizer or its name, such as 'adam'; received {optimizer!r}"
            ) from None
        super().compile(optimizer=optimizer, **kwargs)
        # As Keras makes its own functions anew: layers may have been changed before.
        self._graphs.clear()
        if self.optimizer is not None:
            check_optimizer(self.optimizer)
        self._build_optimizer()

    def _build_optimizer(self) -> None:
        """Make the optimiser's variables as soon as there are weights, not in the first step.

        Saving finds them then, and a traced loop of steps may not make any.
        """
        if self._event_spec is not None and self.compiled and self.optimizer is not None:
            self.optimizer.build(self.trainable_variables)

    def get_compile_config(self) -> Config | None:
        """Return what `compile_from_config` needs."""
        config = super().get_compile_config()
        if config and self.skip_norm is not None:
            config = {**config, "skip_norm": self.skip_norm}
        return config

    def compile_from_config(self, config: Config) -> None:
        """Compile as the saved model was compiled."""
        config = keras.saving.deserialize_keras_object(config)
        config = {key: value for key, value in config.items() if not key.startswith("loss")}
        self.compile(**config)

    @property
    def runs_in_xla(self) -> bool:
        """Whether the steps of `fit` are compiled by XLA, which drops their checks."""
        return bool(self.compiled and self.jit_compile and not self.run_eagerly)

    def train_step(self, data: Data) -> dict[str, Any]:
        """Take one optimiser step on a batch, for `fit`; see `tfvae.models.step`.

        Raises:
            DivergenceError: by way of TensorFlow, if the loss or a gradient is not finite; the
                weights are those of before.
        """
        batch = self.tensors(data, guard=not self.runs_in_xla)
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        rows = tf.shape(batch.x)[0]
        whole = Share(0, rows, rows * replicas, 1.0)
        seed = self.next_training_seed()
        if replicas > 1:
            # All of them have the model's next seed, and none knows the others' rows.
            replica = tf.distribute.get_replica_context().replica_id_in_sync_group
            seed = tf.random.experimental.stateless_fold_in(seed, replica)
        taken = self.differentiate(batch, seed, whole)
        loss = apply(self, taken, batch)
        self._graphs.hold_gradients()
        return self._report(batch, loss, taken.losses)

    def differentiate(self, batch: Batch, seed: Tensor, share: Share) -> Differentiated:
        """Differentiate the loss of a batch, or of one replica's share of it.

        `fit` and `tfvae.training.train` both take their steps from here. The shares' gradients sum
        to those of the whole batch.

        Args:
            batch: as `tensors` returns it: the share's own rows.
            seed: `[2]`, of the whole batch.
            share: which rows of the batch they are.

        Raises:
            InputError: if there is nothing to train.
        """
        taken = differentiate(self, batch, seed, share)
        self._graphs.hold_gradients()
        return taken

    def regularisation(self) -> Tensor:
        """Sum what the networks' own layers add to the loss."""
        return tf.add_n([tf.cast(extra, tf.float32) for extra in self.losses])

    def test_step(self, data: Data) -> dict[str, Any]:
        """Evaluate a batch: ``loss`` is the negative ELBO, whatever the training objective is."""
        batch = self.tensors(data, guard=not self.runs_in_xla)
        losses = self.batch_losses(batch, _next_seed(self._validation_seeds), training=False)
        self._graphs.hold_gradients()
        return self._report(batch, losses.validation_loss, losses, regularised=False)

    def predict_step(self, data: Data) -> Tensor:
        """Reconstruct a batch."""
        batch = self.tensors(data, guard=not self.runs_in_xla)
        reconstruction = self(batch.x, label=batch.label)
        self._graphs.hold_gradients()
        return reconstruction

    def _report(
        self, batch: Batch, loss: Tensor, losses: Losses, regularised: bool = True
    ) -> dict[str, Any]:
        """Count a batch into the figures of the epoch, means over events by their weights."""
        mean = weighted_mean(loss, batch.weight)
        if regularised and self.losses:
            mean += self.regularisation()
        events = tf.cast(tf.shape(batch.x)[0], tf.float32)
        total = events if batch.weight is None else tf.reduce_sum(batch.weight)
        # Events of weight 0 have no mean, and count for nothing.
        mean = tf.where(total > 0, mean, 0.0)
        keras_internals.update_loss(self, mean, total)
        for metric in self._term_means:
            metric.update_state(losses.terms[metric.name], sample_weight=batch.weight)
        x, reconstruction = self.compared(batch, losses)
        return self.compute_metrics(x, x, reconstruction, sample_weight=batch.weight)

    def compared(self, batch: Batch, losses: Losses) -> tuple[Tensor, Tensor | None]:
        """Return the events and reconstructions that the user's own metrics compare.

        Where a value is missing, the two are equal. Without such metrics the second is None.
        """
        x = batch.x if batch.target is None else batch.target
        if keras_internals.compiled_metrics(self) is None:
            return x, None
        reconstruction = losses.reconstruction()
        if self.missing:
            x = tf.where(tf.math.is_nan(x), reconstruction, x)
        return x, reconstruction

    def reset_metrics(self) -> None:
        """Reset the metrics, and the noise that evaluation draws: every pass draws the same."""
        super().reset_metrics()
        self._validation_seeds.state.assign([_validation_seed(self.seed), 0])

    def own_callbacks(self) -> list[keras.callbacks.Callback]:
        """Return the callbacks that each training of the model has."""
        return []

    # --- Keras' methods, with checks and errors of one line ---------------------------------------

    def fit(
        self,
        x: Data = None,
        y: Data = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: Any = "auto",
        callbacks: Any = None,
        validation_split: float = 0.0,
        validation_data: Data = None,
        shuffle: Any = True,
        class_weight: Any = None,
        sample_weight: Data = None,
        *args: Any,
        steps_per_epoch: int | None = None,
        validation_batch_size: int | None = None,
        **kwargs: Any,
    ) -> keras.callbacks.History:
        """Train as `keras.Model.fit` does.

        `y` may be a target of the event's shape: then the encoder sees `x`, and p(·|z) is evaluated
        at `y`, as in denoising. A conditional model takes `y` for the labels, or a list
        ``[x, labels]`` for `x`. Labels of a model without them are left aside. Batches may be
        dictionaries; see `tfvae.models.batch.unpack`.

        `sample_weight` is one for each event `[N]`, or one for each value `[N, *event_shape]`: then
        Σ w·log p(value|z) stands for log p(x|z).

        Raises:
            InputError: if there are no events, they have a wrong shape or values outside the
                likelihood's support, or labels, targets, weights or numbers do not fit.
            DivergenceError: if a loss or a gradient is not finite; the weights are those of before.
        """
        check_arguments(x, y, sample_weight, batch_size, epochs)
        if not isinstance(validation_data, (tuple, list)):
            validation_data = (validation_data,)
        elif not 1 <= len(validation_data) <= 3:
            raise InputError(
                "validation_data is events, or a tuple of events, labels or targets, and weights; "
                f"received {len(validation_data)} parts"
            )
        else:
            check_arguments(*validation_data, *[None] * (3 - len(validation_data)))
        validation_data = (checked_source(self, *validation_data[:2]), *validation_data[1:])
        if isinstance(x, tf.data.Dataset):
            # A data set has its own order; Keras warns where its default says otherwise.
            shuffle = False
        if not isinstance(callbacks, keras.callbacks.CallbackList):
            callbacks = [*self.own_callbacks(), *tf.nest.flatten(callbacks or [])]
            say_directions(callbacks)
            if self.runs_in_xla:
                callbacks.append(DivergenceWatch())
        given = x
        x = checked_source(self, x, y, sample_weight)
        warn_of_scale(self, x)
        with one_line_errors():
            again = self.adapt_once(given, y)
            x = x if again is given else again
            if validation_split and validation_data[0] is None:
                y = stand_in(x, y, sample_weight)
                (x, y, sample_weight), validation_data = keras_internals.train_validation_split(
                    (x, y, sample_weight), validation_split
                )
            x, y, sample_weight = batches_of(
                x,
                y,
                sample_weight,
                batch_size=batch_size,
                steps=steps_per_epoch,
                shuffle=shuffle,
                class_weight=class_weight,
            )
            if validation_data[0] is not None:
                size = validation_batch_size or batch_size
                validation_data = batches_of(*validation_data, batch_size=size)
            else:
                validation_data = None
            return super().fit(
                x,
                y,
                batch_size,
                epochs,
                verbose,
                callbacks,
                0.0,
                validation_data,
                shuffle,
                class_weight,
                sample_weight,
                *args,
                steps_per_epoch=steps_per_epoch,
                validation_batch_size=validation_batch_size,
                **kwargs,
            )

    def evaluate(
        self,
        x: Data = None,
        y: Data = None,
        batch_size: int | None = None,
        verbose: Any = "auto",
        sample_weight: Data = None,
        steps: int | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        """Evaluate as `keras.Model.evaluate` does; ``loss`` is the negative ELBO, in nats.

        Raises:
            InputError: as `fit` does.
        """
        with one_line_errors():
            x = checked_source(self, x, y, sample_weight)
            x, y, sample_weight = batches_of(
                x, y, sample_weight, batch_size=batch_size, steps=steps
            )
            return super().evaluate(
                x, y, batch_size, verbose, sample_weight, steps, *args, **kwargs
            )

    def predict(
        self,
        x: Data,
        batch_size: int | None = None,
        verbose: Any = "auto",
        steps: int | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> np.ndarray:
        """Reconstruct as `keras.Model.predict` does.

        A conditional model takes a data set of ``(x, label)``, or a list of the two arrays.

        Raises:
            InputError: as `fit` does.
        """
        with one_line_errors():
            x = checked_source(self, x, only_x=True)
            x, _, _ = batches_of(x, batch_size=batch_size, steps=steps)
            return super().predict(x, batch_size, verbose, steps, *args, **kwargs)

    def train_on_batch(self, *args: Any, **kwargs: Any) -> Any:
        """Take one step, as `keras.Model.train_on_batch` does; it raises what `fit` does."""
        with self._checked_first(*args, **kwargs):
            return super().train_on_batch(*args, **kwargs)

    def test_on_batch(self, *args: Any, **kwargs: Any) -> Any:
        """Evaluate one batch, as `keras.Model.test_on_batch` does; it raises what `fit` does."""
        with self._checked_first(*args, **kwargs):
            return super().test_on_batch(*args, **kwargs)

    def predict_on_batch(self, x: Data) -> Any:
        """Reconstruct one batch, as `keras.Model.predict_on_batch` does."""
        with self._checked_first(x):
            return super().predict_on_batch(x)

    @contextlib.contextmanager
    def _checked_first(self, x: Data, y: Data = None, *_: Any, **__: Any) -> Iterator[None]:
        checked_source(self, x, y)
        with one_line_errors():
            yield

    def checked_elements(self, *data: Data) -> Any:
        """Check a batch in the data set that brings it; return it as it came."""
        batch = data[0] if len(data) == 1 else data
        checked = self.tensors(batch, guard=True)
        with tf.control_dependencies([tensor for tensor in checked if tensor is not None]):
            return tf.nest.map_structure(tf.identity, batch)

    @staticmethod
    def _repeated(label: ArrayLike | None, single: bool) -> Any:
        """Return the one label of a single event as `[1]`."""
        if label is None or not single:
            return label
        return tf.reshape(tf.convert_to_tensor(label), (-1,))


# Where a saved model keeps how far its noise has come.
_SEED_KEY = "seed_generator"
_ADAPTED_KEY = "adapted"


def _validation_seed(seed: int | None) -> int:
    return 1 if seed is None else seed + 1


def _next_seed(generator: keras.random.SeedGenerator) -> Tensor:
    return tf.cast(generator.next(), tf.int32)


def _column(label: ArrayLike | None) -> Any:
    """Return labels `[B]` as `[B, 1]`, for the events made of each; one label stays as it is."""
    label = None if label is None else tf.convert_to_tensor(label)
    return label if label is None or label.shape.rank == 0 else label[:, None]
