"""What all likelihoods share: the way from a decoder to p(x|z), and from single values to events.

Likelihoods sum over the event's values, and are in nats.
"""

import abc
import inspect
import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfvae.checks import is_number
from tfvae.distributions.family import Family
from tfvae.errors import InputError
from tfvae.lazy import tfd
from tfvae.likelihoods.encoding import Encoding
from tfvae.likelihoods.heads import OutputShape
from tfvae.likelihoods.support import ColumnsSupport, Support
from tfvae.typing import ArrayLike, Config, Distribution, Shape, Tensor


class FreeScale:
    """The map from a raw number to a scale that all values share: ``floor + unit · exp(5 raw)``.

    An optimiser such as Adam moves every number by about its step size at a time. The scale of what
    a network cannot explain yet has to come down with the error, by factors of ten in some hundred
    steps of 0.002: so a step changes its logarithm by five times as much.

    Args:
        floor: lower bound, which keeps densities and their gradients finite.
        unit: what raw = 0 gives, less the floor.

    Attributes:
        SPEED: how much the logarithm moves for each unit of the raw number.
    """

    SPEED = 5.0

    def __init__(self, floor: float, unit: float = 1.0):
        self.floor = floor
        self.unit = unit

    def __call__(self, raw: Tensor) -> Tensor:
        """Map raw numbers, of any shape, to scales."""
        return self.floor + self.unit * keras.ops.exp(self.SPEED * raw)

    def inverse(self, value: ArrayLike) -> Any:
        """Return the raw number that a scale comes from."""
        return np.log((np.asarray(value, np.float64) - self.floor) / self.unit) / self.SPEED


class Positive:
    """The map from an unconstrained raw value to a positive one: ``floor + unit · softplus(raw)``.

    Args:
        floor: lower bound, which keeps densities and their gradients finite.
        unit: what the map gives about 0.69 of at raw = 0, less the floor.
    """

    def __init__(self, floor: float, unit: float = 1.0):
        self.floor = floor
        self.unit = unit

    def __call__(self, raw: Tensor) -> Tensor:
        """Map raw values, of any shape, to positive ones."""
        return self.floor + self.unit * keras.ops.softplus(raw)

    def inverse(self, value: ArrayLike) -> Any:
        """Return the raw value that a positive one comes from."""
        part = (np.asarray(value, np.float64) - self.floor) / self.unit
        # log(exp(part) − 1), which does not overflow.
        return part + np.log(-np.expm1(-part))


def check_positive(
    name: str, value: float | str, words: tuple[str, ...] = (), above: float = 0.0
) -> None:
    """Check an option that is a finite number above a bound, or one of some words.

    Raises:
        InputError: if it is neither.
    """
    if isinstance(value, str):
        valid = value in words
    else:
        valid = is_number(value) and above < value < math.inf
    if not valid:
        kinds = ["a positive number" if above == 0 else f"a number above {above:g}"]
        kinds += map(repr, words)
        text = " or ".join(filter(None, [", ".join(kinds[:-1]), kinds[-1]]))
        raise InputError(f"{name} is {text}; received {value!r}")


def check_floor(min_scale: float, start: float) -> None:
    """Check the lower bound of scales, which start above it.

    Raises:
        InputError: if it is no number between 0 and `start`.
    """
    if not (is_number(min_scale) and 0 < min_scale < start):
        raise InputError(f"min_scale lies between 0 and {start:g}; received {min_scale!r}")


# What a head's initial weights are of those that keep the variance of what comes in.
HEAD_SCALE = 0.3


def small_uniform(seed: int | None) -> keras.initializers.Initializer:
    """Return Glorot's uniform initializer, times `HEAD_SCALE`."""
    return keras.initializers.VarianceScaling(HEAD_SCALE**2, "fan_avg", "uniform", seed=seed)


class Likelihood(Family, abc.ABC):
    """Base class of likelihoods.

    ``call`` takes what the decoder puts out and returns a dictionary of float32 tensors with the
    batch first; ``distribution`` makes p(x|z) of them, with the batch shape of the parameters and
    the event shape that the likelihood is bound to: `[D]`, `[T, C]`, `[H, W, C]` or
    `[D, H, W, C]`.

    The decoder may put out

    * features `[B, F]`, from which a dense layer makes the parameters;
    * features `[B, *event_shape[:-1], F]`, of events of rank 2 to 4, from which a convolution
      three wide makes them, with a bias for each value; or
    * the parameters themselves, `[B, *event_shape[:-1], parameters_per_value · C]` with C the
      event's last axis, as hand-written decoders often do: the first parameter of all channels,
      then the second of all channels, and so on.

    A likelihood of your own needs `parameters_per_value`, if it is not 1, a `support`, if not all
    values have a density, and a `value_distribution`: p of each value, a `tfd.Distribution` of
    scalar events. (Where values depend on each other it overrides ``distribution(parameters)``
    instead, and takes no missing values unless that has an argument `observed`.) Its parameters
    are ``{"raw": [..., *event_shape[:-1], parameters_per_value · C]}``, as the head puts them
    out::

        @keras.saving.register_keras_serializable("mine")
        class Gumbel(Likelihood):
            parameters_per_value, flat_parameters = 2, 1

            def value_distribution(self, parameters):
                loc, raw_scale = tf.split(parameters["raw"], 2, axis=-1)
                return tfd.Gumbel(loc, 1e-3 + tf.nn.softplus(raw_scale))

    With `starting_parameters` it may say which of them fit the mean and spread of data, where a
    training then starts.

    Args:
        decoder_output: what a decoder means that puts out just as many numbers as there are
            parameters: ``"features"``; ``"parameters"``, the unconstrained ones (the logits of a
            Bernoulli, the mean of a Normal); or ``"mean"``, the mean of p(x|z) (the probabilities
            of a Bernoulli). By default a last layer without activation means parameters, a last
            sigmoid means the mean, and any other is an error.
        **kwargs: those of `keras.layers.Layer`.

    Attributes:
        parameters_per_value: how many parameters the distribution of one value has.
        flat_parameters: how many of them, the last ones, start the same for every value and z:
            scales and the like, which may not start near their bounds.
        takes_mean: whether the mean of p(x|z) tells its parameters.
        support: the values p(x|z) is defined for.
        is_discrete: whether p(x|z) is a probability, not a density, and bits per dimension are
            defined.
        couples_batch: whether in training p(x|z) of an event depends on the rest of its batch.
        encoding: what an encoder sees of x, where it is not x itself.
        learns_by_channel: whether scales and the like that are learned are one number for each
            index of an event's last axis, and not one for all of its values.
    """

    parameters_per_value = 1
    flat_parameters = 0
    takes_mean = False
    support: Support | ColumnsSupport = Support()
    is_discrete = False
    couples_batch = False
    encoding: Encoding | None = None
    learns_by_channel = False
    # What makes the parameters, and a bias for each value where that layer has one for all places.
    head: keras.layers.Layer | None = None
    offset: keras.Variable | None = None

    def __init_subclass__(cls, **kwargs: Any):
        super().__init_subclass__(**kwargs)
        # A class with a p(x|z) of its own is not abstract.
        if "distribution" in vars(cls) and "value_distribution" not in vars(cls):
            inherited = cls.value_distribution
            if getattr(inherited, "__isabstractmethod__", False):
                cls.value_distribution = _no_value_distribution  # type: ignore[method-assign]

    def gives_probabilities(self, x: Tensor) -> bool | Tensor:
        """Return whether p(x|z) of these supported values is a probability, not a density.

        Args:
            x: values, any shape.

        Returns:
            A boolean, or a scalar boolean tensor where it depends on the values.
        """
        return self.is_discrete

    @property
    def takes_missing(self) -> bool:
        """Whether p(x|z) can leave out values that were not observed."""
        makers = (self.distribution, self.training_distribution)
        return all("observed" in inspect.signature(maker).parameters for maker in makers)

    @property
    def parameter_channels(self) -> int:
        """How long the last axis of the parameters is, those of all channels behind each other."""
        return self.parameters_per_value * self.event_shape[-1]

    def __init__(self, *, decoder_output: str | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        if decoder_output not in (None, "features", "parameters", "mean"):
            raise InputError(
                f"decoder_output is 'features', 'parameters' or 'mean'; received {decoder_output!r}"
            )
        self.decoder_output = decoder_output
        # The model that owns the decoder sets it, as far as it can tell.
        self.last_activation: Callable[[Tensor], Tensor] | None = None

    def check_event_shape(self, event_shape: Shape) -> None:
        """Check that the likelihood may describe events of a shape; here it may any.

        Raises:
            InputError: if it may not.
        """

    def bind(self, event_shape: Shape, seed: int | None) -> None:
        """Say which event the likelihood describes; see `Family.bind`.

        Raises:
            InputError: if it may not describe it, or describes another one already.
        """
        self.check_event_shape(event_shape)
        super().bind(event_shape, seed)

    def build(self, input_shape: Shape) -> None:
        """Create the layer that makes the parameters, if the decoder does not put them out.

        Args:
            input_shape: of the decoder's output, None for the batch.

        Raises:
            InputError: if the decoder's output fits neither the events nor `decoder_output`.
        """
        output = OutputShape(tuple(input_shape), self.event_shape, self.parameter_channels)
        if self.decoder_output in ("parameters", "mean") and output.features != output.needed:
            raise InputError(
                f"{type(self).__name__} needs a last axis of {output.needed} from a decoder that "
                f"puts out its {self.decoder_output}; received shape {output.shape}"
            )
        if self.decoder_output == "mean" and not self.takes_mean:
            raise InputError(
                f"{type(self).__name__} has parameters which a mean does not tell: "
                "let the decoder put out 'features' or 'parameters'"
            )
        self.meaning = self.decoder_output
        if self.meaning is None:
            fits = output.features == output.needed
            self.meaning = self._guess_meaning(output.shape) if fits else "features"
        self.head = None
        self.offset = None
        if self.meaning == "features":
            self.head = output.head(
                kernel_initializer=self._head_initializer(),
                dtype=self.dtype_policy,
                name="parameters",
            )
            if output.has_sides:
                # A convolution has one bias for all places.
                self.offset = self.add_weight(
                    shape=(*self.event_shape[:-1], self.parameter_channels),
                    initializer="zeros",
                    dtype="float32",
                    name="offset",
                    autocast=False,
                )
        self.built = True

    def _guess_meaning(self, shape: Shape) -> str:
        """Tell what an output of just the parameters' size is from the activation it comes from."""
        if self.last_activation is keras.activations.linear:
            return "parameters"
        if self.last_activation is keras.activations.sigmoid and self.takes_mean:
            return "mean"
        raise InputError(
            f"the decoder puts out shape {shape}, just what {type(self).__name__} has as "
            "parameters, through an activation that does not tell what it is: give the likelihood "
            "decoder_output='features', 'parameters' or 'mean'"
        )

    def _head_initializer(self) -> Callable[..., Tensor]:
        """Start small, so that p(x|z) hardly depends on a z that means nothing yet.

        The last `flat_parameters` start flat: near its lower bound a scale is steepest.
        """
        initializer = small_uniform(self._head_seed)
        if self.flat_parameters == 0:
            return initializer
        count, channels = self.parameters_per_value, self.event_shape[-1]

        def initialize(shape: Shape, dtype: str | None = None) -> Tensor:
            # In every head the channels vary fastest: C of the first parameter, C of the second.
            number = np.arange(shape[-1]) % (count * channels) // channels
            varies = number < count - self.flat_parameters
            return initializer(shape, dtype) * varies.astype("float32")

        return initialize

    def _add_scalar(self, name: str, value: float, **kwargs: Any) -> keras.Variable:
        """Add a weight that all values share, or all of a channel if it `learns_by_channel`."""
        return self.add_weight(
            shape=self.event_shape[-1:] if self.learns_by_channel else (),
            initializer=keras.initializers.Constant(value),
            dtype="float32",
            name=name,
            autocast=False,  # a half-precision model must not round it when it reads it
            **kwargs,
        )

    def call(self, decoder_output: Tensor) -> dict[str, Tensor]:
        """Map the decoder's output to the parameters of p(x|z), float32, batch first."""
        raw = decoder_output if self.head is None else self.head(decoder_output)
        raw = keras.ops.cast(raw, "float32")
        raw = keras.ops.reshape(raw, (-1, *self.event_shape[:-1], self.parameter_channels))
        if self.meaning == "mean":
            raw = self._from_mean(raw)
        if self.offset is not None:
            raw += self.offset
        return self._parameters(raw)

    def _from_mean(self, mean: Tensor) -> Tensor:
        """Return the unconstrained parameters of the p(x|z) of this mean, if it `takes_mean`."""
        return mean

    def _parameters(self, raw: Tensor) -> dict[str, Tensor]:
        """Name the unconstrained parameters `[B, *event_shape[:-1], parameters_per_value · C]`.

        Each keeps as many axes after the batch as an event has, and is constrained here.
        """
        return {"raw": raw}

    def starting_parameters(self, x: np.ndarray) -> dict[str, np.ndarray] | None:
        """Return the parameters at which p(x|z) has the mean and the spread of some events.

        A model starts there: what its decoder puts out then hardly depends on z; see
        `tfvae.models.starting`. A likelihood that does not say starts as it is made.

        Args:
            x: events, `[N, ..., C]`, NaN where a value is missing. What is told for one place is
                told from the values there alone: a layer that has one bias for each channel is
                given all places as events of their own, `[N · places, C]`.

        Returns:
            ``"raw"``, the unconstrained parameters `[..., parameters_per_value · C]` in the order
            of the head; and by their names the values of the likelihood's own weights that the
            data tell as well. None to leave all as it is.
        """
        return None

    def starting_spread(self, x: np.ndarray) -> np.ndarray | None:
        """Return how far from their mean the head's parameters range where that is more than 1.

        Args:
            x: as for `starting_parameters`.

        Returns:
            `[parameters_per_value · C]`, 1 for those that range over less; None for all 1.
        """
        return None

    def start_at(self, parameters: dict[str, np.ndarray]) -> None:
        """Set the likelihood's own weights to what `starting_parameters` returned."""
        for name, value in parameters.items():
            if name != "raw":
                getattr(self, name).assign(value)

    @abc.abstractmethod
    def value_distribution(self, parameters: dict[str, Tensor]) -> Distribution:
        """Build the distribution of each value given z.

        Args:
            parameters: what `call` returns, with any leading axes.

        Returns:
            A `tfd.Distribution` with scalar events and batch shape `[..., *event_shape]`.
        """

    def distribution(
        self, parameters: dict[str, Tensor], observed: Tensor | None = None
    ) -> Distribution:
        """Build p(x|z) from its parameters.

        While the likelihood belongs to no model, all axes but the first are those of an event.

        Args:
            parameters: what `call` returns, with any leading axes.
            observed: booleans that broadcast to `[..., *event_shape]`, False where a value is
                missing; None where none is.

        Returns:
            A `tfd.Independent` with the batch shape of the parameters and event shape
            `event_shape`. Its log-probability is the sum over the observed values alone, whatever
            finite values stand for the others, which get gradients of exactly zero. Its draws and
            its mean are of all values.
        """
        return self._joint(self.value_distribution(parameters), observed)

    def _joint(self, values: Distribution, observed: Tensor | None) -> Distribution:
        """Join the distributions of all values, `[..., *event_shape]`, to one of events."""
        if values.event_shape.rank != 0:
            raise InputError(
                f"value_distribution of {type(self).__name__} has event shape "
                f"{values.event_shape}, expected scalar events: override distribution instead"
            )
        # Of one that belongs to no model yet, all axes but the batch's are those of an event.
        rank = len(self.event_shape) if self.is_bound else values.batch_shape.rank - 1
        return tfd.Independent(self._masked(values, observed), rank)

    def _masked(self, values: Distribution, observed: Tensor | None) -> Distribution:
        """Leave out of the distributions of values those that were not observed."""
        if observed is None:
            return values
        from tfvae.distributions.masked import PartlyObserved

        return PartlyObserved(values, tf.cast(observed, tf.bool), safe_sample_fn=self._fill)

    def _fill(self, values: Distribution) -> Tensor:
        """Return what stands where a value was not observed."""
        return tf.cast(self.support.fill, values.dtype)

    def weighted(self, distribution: Distribution, weight: Tensor) -> Distribution:
        """Let each value count by a weight of its own: Σ w·log p(value|z) in place of log p(x|z).

        Args:
            distribution: as `distribution` returns it.
            weight: float32 `[B, *event_shape]`, from 0.

        Raises:
            InputError: if the likelihood has no distribution of single values.
        """
        from tfvae.distributions.masked import Weighted

        if not isinstance(distribution, tfd.Independent):
            raise InputError(
                f"{type(self).__name__} has no distribution of single values that a sample weight "
                "of each could belong to: give one for each event, [batch]"
            )
        return tfd.Independent(
            Weighted(distribution.distribution, weight, safe_sample_fn=self._fill),
            distribution.reinterpreted_batch_ndims,
        )

    def log_prob_by_value(
        self, parameters: dict[str, Tensor], x: Tensor, observed: Tensor | None = None
    ) -> Tensor:
        """Compute what each value adds to log p(x|z): the share of a column, pixel or time step.

        Args:
            parameters: what `call` returns, with any leading axes.
            x: `[B, *event_shape]`, with `support.fill` where a value is missing.
            observed: see `distribution`.

        Returns:
            `[..., B, *event_shape]`, in nats, whose sum over the event is
            ``distribution(parameters, observed).log_prob(x)``; 0 where a value is missing.

        Raises:
            InputError: if the likelihood has no distribution of single values.
        """
        return self._masked(self.value_distribution(parameters), observed).log_prob(x)

    def training_value_distribution(
        self, parameters: dict[str, Tensor], x: Tensor, observed: Tensor | None = None
    ) -> Distribution:
        """Build the distribution of each value that a training step evaluates at `x`.

        Args:
            parameters: see `training_distribution`.
            x: see `training_distribution`.
            observed: see `distribution`.
        """
        return self.value_distribution(parameters)

    def training_distribution(
        self, parameters: dict[str, Tensor], x: Tensor, observed: Tensor | None = None
    ) -> Distribution:
        """Build the p(x|z) that a training step evaluates at `x`.

        A likelihood that takes a parameter from the data does so here.

        Args:
            parameters: what `call` returns, with any leading axes.
            x: `[B, *event_shape]`, with `support.fill` where a value is missing.
            observed: see `distribution`.

        Raises:
            InputError: if a value is missing, and the likelihood takes no missing values.
        """
        if observed is None:
            return self.distribution(parameters)
        if not self.takes_missing:
            raise InputError(
                f"{type(self).__name__} takes no missing values, since its distribution has no "
                "argument observed: fill them, or override value_distribution instead"
            )
        return self.distribution(parameters, observed)

    def mean(self, distribution: Distribution) -> Tensor:
        """Return the mean of p(x|z), which stands for it where one x is shown.

        Args:
            distribution: p(x|z), with any batch shape.

        Returns:
            `[..., *event_shape]`.

        Raises:
            InputError: if the distribution knows no mean.
        """
        try:
            return distribution.mean()
        except NotImplementedError:
            raise InputError(
                f"{type(self).__name__} needs a picture of p(x|z), and its distribution has no "
                "mean: override mean(distribution) in the likelihood"
            ) from None

    def mixture_mean(self, distribution: Distribution, weights: Tensor) -> Tensor:
        """Return the mean of Σ_k w_k p(x|z_k).

        Args:
            distribution: p(x|z), with batch shape `[K, ...]`.
            weights: w, of that shape, which sum to 1 over K.

        Returns:
            `[..., *event_shape]`.

        Raises:
            InputError: if the distribution knows no mean.
        """
        mean = self.mean(distribution)
        ones = tf.ones(len(self.event_shape), tf.int32)
        return tf.reduce_sum(
            tf.reshape(weights, tf.concat([tf.shape(weights), ones], axis=0)) * mean, axis=0
        )

    def check(self, x: ArrayLike) -> None:
        """Check that an array or an eager tensor lies in the support.

        Raises:
            InputError: if a value does not, or is not finite.
        """
        if not bool(self.support.admits(x)):
            values = tf.cast(x, tf.float32).numpy()
            raise InputError(self.support.complaint_about(type(self).__name__, values))

    def get_config(self) -> Config:
        """Return the constructor's arguments."""
        return {**super().get_config(), "decoder_output": self.decoder_output}


def _no_value_distribution(self: Likelihood, parameters: dict[str, Tensor]) -> Distribution:
    """Say that there is no distribution of single values.

    Raises:
        InputError: always.
    """
    raise InputError(
        f"{type(self).__name__} has no value_distribution(parameters), only a distribution of "
        "whole events"
    )
