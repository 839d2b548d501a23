"""Priors p(z)."""

import abc
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import keras
import numpy as np
import tensorflow as tf

from tfvae.checks import MOST_UNITS, checked_count, checked_flag
from tfvae.distributions.family import PACKAGE, Family, resolve
from tfvae.errors import InputError
from tfvae.lazy import tfb, tfd
from tfvae.posteriors import (
    Posterior,
    check_groups,
    check_halves,
    checked_temperature,
    config_of_temperature,
    in_groups,
    least_temperature,
)
from tfvae.typing import ArrayLike, Config, Distribution, Shape, Tensor

if TYPE_CHECKING:
    from tfvae.distributions.flows import Autoregressive, Coupling
    from tfvae.likelihoods import Likelihood


class Host(Protocol):
    """What a prior may take from the model that it belongs to."""

    num_classes: int | None
    missing: bool
    likelihood_family: "Likelihood"
    posterior_family: Posterior

    @property
    def event_shape(self) -> Shape:
        """Shape of one event x."""

    def encode_unchecked(self, x: Tensor) -> Distribution:
        """Compute q(z|x) of events `[B, *event_shape]` whose values are not looked at."""


class Prior(Family, abc.ABC):
    """Base class of priors: ``distribution`` returns p(z) with event shape `[d]`.

    A prior of your own is a subclass; weights that ``build`` adds train with the model:

        @keras.saving.register_keras_serializable("mine")
        class ShiftedNormal(Prior):
            def build(self, input_shape):
                self.loc = self.add_weight(shape=self.event_shape, initializer="zeros")
                self.built = True

            def distribution(self, label=None):
                return tfd.MultivariateNormalDiag(loc=tf.convert_to_tensor(self.loc))

    `Fixed` wraps a distribution that has nothing to train.

    Attributes:
        takes_classes: whether z holds one-hot vectors; see `tfvae.posteriors.Posterior.classes`.
        temperature: of a prior that is relaxed while it trains, what
            `tfvae.objectives.schedules.get` takes; else None.
    """

    takes_classes = False
    temperature: Any = None

    def relaxed(self, temperature: Tensor, label: Tensor | None = None) -> Distribution:
        """Build the p(z) that a training step evaluates, if there is a `temperature`.

        Args:
            temperature: at this step, a scalar.
            label: as for `distribution`.
        """
        return self.distribution(label)

    def of_top(self) -> "Prior":
        """The prior of a model's first group of latents: of all but a hierarchy, this one."""
        return self

    def attach(self, vae: Host) -> None:
        """Take from the model what the prior needs of it, after `bind` and before `build`.

        Args:
            vae: the model, which knows its event shape by then.
        """

    @abc.abstractmethod
    def distribution(self, label: Tensor | None = None) -> Distribution:
        """Build p(z), or p(z|y).

        Args:
            label: y, whole numbers `[B]`; only a class-conditional prior heeds it, and then returns
                a distribution with batch shape `[B]`.
        """

    def _weight(
        self, name: str, shape: Shape, initializer: keras.initializers.Initializer | str = "zeros"
    ) -> keras.Variable:
        return self.add_weight(
            name=name, shape=shape, initializer=initializer, dtype="float32", autocast=False
        )

    def _normal_initializer(self, stddev: float) -> keras.initializers.Initializer:
        return keras.initializers.RandomNormal(stddev=stddev, seed=self._head_seed)


@keras.saving.register_keras_serializable(PACKAGE)
class StandardNormal(Prior):
    """p(z) = N(0, I)."""

    def distribution(self, label: Tensor | None = None) -> Distribution:
        """Return p(z), a `tfd.Independent` normal with event shape `[d]`."""
        return _standard_normal(self.event_shape)


@keras.saving.register_keras_serializable(PACKAGE)
class Mixture(Prior):
    """p(z) = Σ_k w_k N(μ_k, diag σ_k²) with w, μ and σ learned.

    At the start the weights are equal, each μ_k is a draw from N(0, ½ I), and each σ_k² is ½: the
    components lie apart, and together have about the variance of N(0, I).

    Args:
        components: number of Gaussians.
        **kwargs: those of `keras.layers.Layer`.

    Raises:
        InputError: if `components` is no whole number from 1.
    """

    def __init__(self, components: int = 10, **kwargs: Any):
        super().__init__(**kwargs)
        self.components = checked_count("components", components, most=MOST_UNITS)

    def build(self, input_shape: Shape) -> None:
        """Create the logits of w `[K]`, μ `[K, d]` and log σ² `[K, d]`."""
        shape = (self.components, *self.event_shape)
        self.logits = self._weight("logits", (self.components,))
        self.loc = self._weight("loc", shape, self._normal_initializer(0.5**0.5))
        self.log_var = self._weight("log_var", shape, keras.initializers.Constant(math.log(0.5)))
        self.built = True

    def distribution(self, label: Tensor | None = None) -> Distribution:
        """Return p(z), a `tfd.MixtureSameFamily` with event shape `[d]`."""
        from tfvae.distributions.normal import diagonal_normal

        return tfd.MixtureSameFamily(
            tfd.Categorical(logits=tf.convert_to_tensor(self.logits)),
            diagonal_normal(self.loc, self.log_var),
        )

    def get_config(self) -> Config:
        """Return the constructor's arguments."""
        return {**super().get_config(), "components": self.components}


@keras.saving.register_keras_serializable(PACKAGE)
class VampPrior(Prior):
    """p(z) = 1/K Σ_k q(z|u_k), q the model's own posterior and u_k learned pseudo-inputs.

    Tomczak and Welling (2018), arXiv:1705.07120, equation 10. Where the likelihood's support is an
    interval, a sigmoid keeps the pseudo-inputs inside. They are made as noise around its middle;
    a training starts them at events (see `tfvae.models.starting`), or `adapt` before it. The
    encoder sees them as in inference, and where a model takes missing values as fully observed.

    With the posterior "iaf", each density takes d + 1 passes of each of its networks.

    Args:
        pseudo_inputs: K.
        **kwargs: those of `keras.layers.Layer`.

    Attributes:
        adapted: whether the pseudo-inputs have been set at events.

    Raises:
        InputError: if `pseudo_inputs` is no whole number from 1.
    """

    def __init__(self, pseudo_inputs: int = 50, **kwargs: Any):
        super().__init__(**kwargs)
        self.pseudo_inputs = checked_count("pseudo_inputs", pseudo_inputs, most=MOST_UNITS)
        self.adapted = False
        self._encode: Callable[[Tensor], Distribution] | None = None

    def attach(self, vae: Host) -> None:
        """Take the model's encoder, event shape and support.

        Raises:
            InputError: if the model is conditional.
        """
        if vae.num_classes is not None:
            raise InputError(
                'the prior "vamp" encodes events alone, and a conditional model\'s encoder takes '
                'a label too: choose the prior "class_normal" or "mixture"'
            )
        # A bound method, not the model: Keras would track that as a part of this layer.
        self._encode = vae.encode_unchecked
        self._input_shape = tuple(vae.event_shape)
        self._support = vae.likelihood_family.support
        self._missing = vae.missing

    def build(self, input_shape: Shape) -> None:
        """Create the pseudo-inputs `[K, *event_shape]`, before the sigmoid."""
        self._require_model()
        shape = (self.pseudo_inputs, *self._input_shape)
        self.raw_inputs = self._weight("raw_inputs", shape, self._normal_initializer(1.0))
        self.built = True

    def _require_model(self) -> Callable[[Tensor], Distribution]:
        """Return the model's encoder."""
        if self._encode is None:
            raise InputError(
                'the prior "vamp" encodes its pseudo-inputs with the model\'s encoder: give it '
                "to a tfvae.VAE"
            )
        return self._encode

    def _interval(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return which values lie in an interval, and its ends; 0 and 1 for the others."""
        low, high = (np.asarray(end, np.float32) for end in (self._support.low, self._support.high))
        bounded = np.isfinite(low) & np.isfinite(high)
        return bounded, np.where(bounded, low, 0), np.where(bounded, high, 1)

    @property
    def inputs(self) -> Tensor:
        """The pseudo-inputs u, `[K, *event_shape]`."""
        self._require_model()
        raw = tf.convert_to_tensor(self.raw_inputs)
        bounded, low, high = self._interval()
        if not bounded.any():
            return raw
        return tf.where(bounded, low + (high - low) * tf.sigmoid(raw), raw)

    def adapt(self, events: ArrayLike) -> None:
        """Set the pseudo-inputs at the first K events.

        Values come as near to the ends of an interval as 1 % of its length, where the sigmoid
        still has a gradient. A missing value becomes the mean of what was observed in its place.

        Args:
            events: `[N, *event_shape]` with N ≥ K, in the likelihood's support.

        Raises:
            InputError: if the prior belongs to no built model, there are fewer events than
                pseudo-inputs, or the events do not fit the model.
        """
        if not self.built:
            raise InputError('adapt the prior "vamp" once its model is built')
        events = np.asarray(events, np.float32)
        if events.shape[1:] != self._input_shape or len(events) < self.pseudo_inputs:
            raise InputError(
                f"expected {self.pseudo_inputs} events or more of shape {self._input_shape}; "
                f"received shape {events.shape}"
            )
        values = events[: self.pseudo_inputs]
        if self._missing:
            values = np.where(np.isnan(values), self._observed_mean(events), values)
        if not bool(self._support.admits(values)):
            raise InputError(self._support.complaint_about('adapt of the prior "vamp"', values))
        bounded, low, high = self._interval()
        share = np.clip((values - low) / (high - low), 0.01, 0.99)
        values = np.where(bounded, np.log(share) - np.log1p(-share), values)
        self.raw_inputs.assign(values)
        self.adapted = True

    def _observed_mean(self, events: np.ndarray) -> np.ndarray:
        """Compute the mean of the observed values at each place, `[*event_shape]`."""
        observed = ~np.isnan(events)
        total = np.where(observed, events, 0).sum(axis=0, dtype="float64")
        count = observed.sum(axis=0)
        mean = np.where(count > 0, total / np.maximum(count, 1), self._support.fill)
        return mean.astype("float32")

    def distribution(self, label: Tensor | None = None) -> Distribution:
        """Return p(z), a `tfd.MixtureSameFamily` with event shape `[d]`."""
        return _uniform_mixture(self.pseudo_inputs, self._require_model()(self.inputs))

    def get_config(self) -> Config:
        """Return the constructor's arguments."""
        return {**super().get_config(), "pseudo_inputs": self.pseudo_inputs}


class FlowPrior(Prior):
    """Base class of priors that push N(0, I) through a flow.

    Its networks run from z to the noise, so that a density takes one pass of each.

    Args:
        flows: number of steps.
        hidden: width of the flow's hidden layers.
        **kwargs: those of `keras.layers.Layer`.

    Raises:
        InputError: if `flows` or `hidden` is no whole number from 1.
    """

    def __init__(self, flows: int = 4, hidden: int = 64, **kwargs: Any):
        super().__init__(**kwargs)
        self.flows = checked_count("flows", flows, most=MOST_UNITS)
        self.hidden = checked_count("hidden", hidden, most=MOST_UNITS)

    @abc.abstractmethod
    def _step(self) -> "type[Autoregressive] | type[Coupling]":
        """Return the class of the steps, from `tfvae.distributions.flows`."""

    def build(self, input_shape: Shape) -> None:
        """Create the flow's networks."""
        from tfvae.distributions.flows import Flow

        self.flow = Flow(
            self._step(),
            self.event_shape[0],
            flows=self.flows,
            hidden=self.hidden,
            seed=self._head_seed,
        )
        self.built = True

    def distribution(self, label: Tensor | None = None) -> Distribution:
        """Return p(z), a `tfd.TransformedDistribution` with event shape `[d]`."""
        return tfd.TransformedDistribution(
            _standard_normal(self.event_shape), tfb.Invert(self.flow.bijector()), name="flow_prior"
        )

    def get_config(self) -> Config:
        """Return the constructor's arguments."""
        return {**super().get_config(), "flows": self.flows, "hidden": self.hidden}


@keras.saving.register_keras_serializable(PACKAGE)
class RealNVP(FlowPrior):
    """p(z) by affine coupling layers: Dinh et al. (2017), arXiv:1605.08803.

    A draw takes one pass of each network, as a density does.
    """

    def bind(self, event_shape: Shape, seed: int | None) -> None:
        """Say which event the family describes; see `Family.bind`."""
        check_halves(event_shape, 'the prior "maf"')
        super().bind(event_shape, seed)

    def _step(self) -> "type[Autoregressive] | type[Coupling]":
        from tfvae.distributions.flows import Coupling

        return Coupling


@keras.saving.register_keras_serializable(PACKAGE)
class MaskedAutoregressive(FlowPrior):
    """p(z) by masked autoregressive flow: Papamakarios et al. (2017), arXiv:1705.07057.

    A draw takes d passes of each network.
    """

    def _step(self) -> "type[Autoregressive] | type[Coupling]":
        from tfvae.distributions.flows import Autoregressive

        return Autoregressive


@keras.saving.register_keras_serializable(PACKAGE)
class ClassNormal(Prior):
    """p(z|y) = N(μ_y, diag σ_y²) with μ and σ learned for each class y of a conditional model.

    All classes start at N(0, I). Without a label, p(z) is the mixture of all classes with equal
    weights.
    """

    def attach(self, vae: Host) -> None:
        """Take the model's number of classes.

        Raises:
            InputError: if the model is not conditional.
        """
        num_classes = vae.num_classes
        if num_classes is None:
            raise InputError(
                'the prior "class_normal" needs a conditional model, with num_classes; this one '
                'has none: choose the prior "mixture"'
            )
        self._num_classes = int(num_classes)

    def build(self, input_shape: Shape) -> None:
        """Create μ and log σ², each `[classes, d]`."""
        shape = (self._num_classes, *self.event_shape)
        self.loc = self._weight("loc", shape)
        self.log_var = self._weight("log_var", shape)
        self.built = True

    def distribution(self, label: Tensor | None = None) -> Distribution:
        """Return p(z|y) with batch `[B]`, or p(z) without a label; event shape `[d]`."""
        from tfvae.distributions.normal import diagonal_normal

        if label is None:
            return _uniform_mixture(self._num_classes, diagonal_normal(self.loc, self.log_var))
        return diagonal_normal(*(tf.gather(table, label) for table in (self.loc, self.log_var)))


@keras.saving.register_keras_serializable(PACKAGE)
class RelaxedCategoricalPrior(Prior):
    """p(z) = ∏ Categorical(π_g) over groups g of classes, with π uniform or learned.

    It goes with the posterior of the same name, which says how many classes there are. While it
    trains both are relaxed; see `tfvae.posteriors.RelaxedCategorical`. Its own temperature matters
    to objectives that look at densities, such as IWAE; of the ELBO the KL is in closed form.

    Args:
        learned: whether π is learned; it starts uniform.
        temperature: as for the posterior.
        **kwargs: those of `keras.layers.Layer`.

    Raises:
        InputError: if a temperature is not positive.
    """

    takes_classes = True

    def __init__(self, learned: bool = False, temperature: Any = 0.5, **kwargs: Any):
        super().__init__(**kwargs)
        self.learned = checked_flag("learned", learned)
        self.temperature = checked_temperature(temperature)

    def attach(self, vae: Host) -> None:
        """Take the number of classes from the posterior.

        Raises:
            InputError: if that has none.
        """
        classes = vae.posterior_family.classes
        if classes is None:
            raise InputError(
                'the prior "relaxed_categorical" goes with the posterior "relaxed_categorical"; '
                f"received {type(vae.posterior_family).__name__}"
            )
        check_groups(self.event_shape, classes)
        self._groups = in_groups(self.event_shape, classes)

    def build(self, input_shape: Shape) -> None:
        """Create the logits `[groups, classes]`, if they are learned."""
        if self.learned:
            self.logits = self._weight("logits", self._groups)
        self.built = True

    def _logits(self) -> Tensor:
        return tf.convert_to_tensor(self.logits) if self.learned else tf.zeros(self._groups)

    def distribution(self, label: Tensor | None = None) -> Distribution:
        """Return p(z), a `OneHots` with event shape `[d]`."""
        from tfvae.distributions.one_hot import OneHots

        return OneHots(self._logits())

    def relaxed(self, temperature: Tensor, label: Tensor | None = None) -> Distribution:
        """Return the relaxed p(z), a `RelaxedOneHots`."""
        from tfvae.distributions.one_hot import RelaxedOneHots

        return RelaxedOneHots(least_temperature(temperature), self._logits())

    def get_config(self) -> Config:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "learned": self.learned,
            "temperature": config_of_temperature(self.temperature),
        }


@keras.saving.register_keras_serializable(PACKAGE)
class Fixed(Prior):
    """p(z) that is given and not trained.

    Args:
        distribution: a `tfd.Distribution` in float32 with batch shape `[]` and event shape `[d]`,
            made of numbers, arrays and other distributions of `tfd` alone, which is what a saved
            model can hold.
        **kwargs: those of `keras.layers.Layer`.

    Raises:
        InputError: if the distribution is another one.
    """

    def __init__(self, distribution: Distribution, **kwargs: Any):
        super().__init__(**kwargs)
        if not isinstance(distribution, tfd.Distribution):
            raise InputError(f"a fixed prior is a tfd.Distribution; received {distribution!r}")
        if distribution.dtype != tf.float32 or distribution.batch_shape != ():
            raise InputError(
                "a fixed prior is in float32 and has batch shape (); received "
                f"{getattr(distribution.dtype, 'name', distribution.dtype)} and "
                f"{distribution.batch_shape}"
            )
        if distribution.trainable_variables:
            raise InputError(f"a fixed prior has no variables to train; {SUBCLASS}")
        self._encoded = _encode_distribution(distribution)
        # In a function, where neither Keras nor TensorFlow tracks it.
        self._give = lambda: distribution

    def bind(self, event_shape: Shape, seed: int | None) -> None:
        """Say which event the family describes; see `Family.bind`.

        Raises:
            InputError: if the distribution describes another.
        """
        received = tuple(self._give().event_shape)
        if received != tuple(event_shape):
            raise InputError(
                f"the prior must have event shape {tuple(event_shape)}, that of z; received a "
                f"{type(self._give()).__name__} with event shape {received}"
            )
        super().bind(event_shape, seed)

    def distribution(self, label: Tensor | None = None) -> Distribution:
        """Return p(z), the distribution that was given."""
        return self._give()

    def get_config(self) -> Config:
        """Return the constructor's arguments, the distribution as numbers and names."""
        return {**super().get_config(), "distribution": self._encoded}

    @classmethod
    def from_config(cls, config: Config) -> "Fixed":
        """Build the prior from `get_config`'s dictionary.

        Raises:
            InputError: if it names anything but distributions of `tfd`.
        """
        return cls(**{**config, "distribution": _decode(config["distribution"])})


# --- distributions, as data that a saved model can hold -------------------------------------------

SUBCLASS = "subclass tfvae.priors.Prior for that"


def _encode_distribution(distribution: Distribution) -> dict[str, Any]:
    # Where parts are no composite tensors, TFP makes an instance of a twin with an underscore.
    name = type(distribution).__name__.lstrip("_")
    known = _distribution_class(name)
    if known is None or type(distribution) not in (known, known.__bases__[0]):
        raise InputError(
            f"a fixed prior is made of classes of tfd; received {type(distribution)}: {SUBCLASS}"
        )
    parameters = {key: _encode(value) for key, value in distribution.parameters.items()}
    return {"class": name, "parameters": parameters}


def _encode(value: object) -> Any:
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple, tf.TensorShape)):
        return [_encode(item) for item in value]
    if isinstance(value, tf.DType):
        return {"dtype": value.name}
    if isinstance(value, tfd.Distribution):
        return _encode_distribution(value)
    if isinstance(value, (np.ndarray, np.generic, tf.Tensor, tf.Variable, keras.Variable)):
        array = np.asarray(value)
        if array.dtype.kind in "biuf":
            return {"dtype": array.dtype.name, "array": array.tolist()}
    raise InputError(
        "a fixed prior is made of numbers, arrays and distributions of tfd; received "
        f"{type(value).__name__}: {SUBCLASS}"
    )


def _decode(value: object) -> Any:
    if isinstance(value, list):
        return [_decode(item) for item in value]
    if not isinstance(value, Mapping):
        return value
    if "array" in value:
        return np.asarray(value["array"], tf.as_dtype(value["dtype"]).as_numpy_dtype)
    if "dtype" in value:
        return tf.as_dtype(value["dtype"])
    known = _distribution_class(value.get("class"))
    if known is None:
        raise InputError(
            f"a fixed prior is made of classes of tfd; received {value.get('class')!r}"
        )
    return known(**{key: _decode(item) for key, item in value["parameters"].items()})


def _distribution_class(name: object) -> type[Distribution] | None:
    """Return the class of that name in `tfd`, or None; nothing else is ever looked up there."""
    known = getattr(tfd, name, None) if isinstance(name, str) else None
    return known if isinstance(known, type) and issubclass(known, tfd.Distribution) else None


# --- parts ----------------------------------------------------------------------------------------


def _standard_normal(event_shape: Shape) -> Distribution:
    loc = tf.zeros(event_shape)
    return tfd.Independent(tfd.Normal(loc, tf.ones_like(loc)), reinterpreted_batch_ndims=1)


def _uniform_mixture(components: int, distribution: Distribution) -> Distribution:
    return tfd.MixtureSameFamily(tfd.Categorical(logits=tf.zeros(components)), distribution)


BY_NAME: dict[str, type[Prior]] = {
    "standard_normal": StandardNormal,
    "mixture": Mixture,
    "vamp": VampPrior,
    "realnvp": RealNVP,
    "maf": MaskedAutoregressive,
    "class_normal": ClassNormal,
    "relaxed_categorical": RelaxedCategoricalPrior,
}


def get(identifier: Prior | Distribution | Mapping[str, Any] | str) -> Prior:
    """Return the prior that a name, a configuration, an instance or a `tfd.Distribution` means."""
    # The test needs TensorFlow Probability, which a name does without.
    if not isinstance(identifier, (str, Mapping, Prior)) and isinstance(
        identifier, tfd.Distribution
    ):
        return Fixed(identifier)
    return resolve(identifier, Prior, BY_NAME, "prior")
