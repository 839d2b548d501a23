"""Posteriors q(z|x).

There is no von Mises-Fisher posterior. `tfd.VonMisesFisher` of TFP 0.25 draws correctly (the first
two moments along the mean direction agree with theory within 2.5 standard errors for d = 2 to 50
and concentrations 0.1 to 10,000), but it cannot be trained by its draws in float32. Apart from
d = 3 it declares itself not reparameterised, and gradients pass through its rejection sampler
without the correction for what was rejected: ∂E[cos θ]/∂κ comes out 17 % too small at d = 5, κ = 3,
8 % at d = 10, κ = 10 and 3 % at d = 20, κ = 30, and NaN at d = 2. At d = 3 that gradient is right
up to κ = 10 and mostly NaN in batches of 200,000 draws from κ = 100. At a mean direction equal to
the first basis vector the gradient by the direction is 0.
"""

import abc
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import keras
import numpy as np
import tensorflow as tf

from tfvae.checks import MOST_UNITS, checked_count, is_number
from tfvae.distributions.family import PACKAGE, Family, resolve
from tfvae.errors import InputError
from tfvae.lazy import tfd
from tfvae.share import Share
from tfvae.typing import Config, Distribution, Shape, Tensor

if TYPE_CHECKING:
    from typing_extensions import TypeIs

    from tfvae.distributions.flows import Flow

# What an encoder puts out: features, or a list of tensors; and the shapes of that.
EncoderOutput: TypeAlias = "Tensor | list[Tensor]"
OutputShape: TypeAlias = "Shape | list[Shape]"


def bounded_log_var(raw: Any, low: float = -20.0, high: float = 10.0, bend: float = 10.0) -> Any:
    """Keep log σ² within (low − bend, high + bend), and what lies within [low, high] as it is.

    Untrained networks put out thousands where the events are not scaled, and exp of that is
    infinite. Beyond [low, high] it bends smoothly, so that gradients lead back; NVAE (Vahdat and
    Kautz 2020, arXiv:2007.03898) bounds it likewise, and nearer to 0.

    Args:
        raw: log σ² as a network puts it out, any shape.
        low: where it begins to bend below.
        high: where it begins to bend above.
        bend: how far beyond the limits are.
    """
    above = keras.ops.relu(raw - high)
    below = keras.ops.relu(low - raw)
    bent = bend * (keras.ops.tanh(above / bend) - keras.ops.tanh(below / bend))
    return keras.ops.clip(raw, low, high) + bent


class Posterior(Family, abc.ABC):
    """Base class of posteriors.

    ``call`` takes what the encoder puts out and returns a dictionary of float32 tensors with the
    batch first; ``distribution`` makes of them q(z|x) with batch shape `[B]` and event shape `[d]`.
    Of the parameters of one event, without the batch axis, it makes that event's q(z|x).

    Attributes:
        classes: of z that holds one-hot vectors, how many classes each is of; else None.
        temperature: of a posterior that is relaxed while it trains, what
            `tfvae.objectives.schedules.get` takes; else None.
        pairs_at_a_time: densities q(z|x) of pairs of a z and an event that are best computed at a
            time.
        pair_limit: as many events as `tfvae.evaluation.diagnose` compares the z of all of them
            with; None for as many as it is told.
    """

    classes: int | None = None
    temperature: Any = None
    pairs_at_a_time = 2**18
    pair_limit: int | None = None

    def relaxed(self, parameters: dict[str, Tensor], temperature: Tensor) -> dict[str, Tensor]:
        """Return the parameters of the q(z|x) that trains, if there is a `temperature`.

        Args:
            parameters: what `call` returned.
            temperature: at this step, a scalar.
        """
        return parameters

    def moved(self, code: Tensor, dimension: int, values: Tensor) -> Tensor:
        """Return codes with one dimension set to each of some values.

        Args:
            code: `[B, 1, d]`.
            dimension: which.
            values: `[1, V, 1]`.

        Returns:
            `[B, V, d]`.
        """
        chosen = tf.one_hot(dimension, code.shape[-1])
        return code * (1 - chosen) + values * chosen

    def of_top(self) -> "Posterior":
        """The posterior of a model's first group of latents: of all but a hierarchy, this one."""
        return self

    @abc.abstractmethod
    def call(self, encoder_output: EncoderOutput) -> dict[str, Tensor]:
        """Map the encoder's output to the parameters of q(z|x)."""

    @abc.abstractmethod
    def distribution(self, parameters: dict[str, Tensor]) -> Distribution:
        """Build q(z|x) from its parameters."""

    def code(self, distribution: Distribution) -> Tensor:
        """Return the vector that stands for each event, `[B, d]`: the mean of q(z|x).

        Args:
            distribution: what `distribution` returned.
        """
        return distribution.mean()

    def sample_each(
        self, parameters: dict[str, Tensor], num_samples: int, seeds: Tensor
    ) -> tuple[tf.Tensor, Tensor]:
        """Draw z for each event from a seed of its own, whatever else is in the batch.

        Args:
            parameters: of B events.
            num_samples: K, draws for each.
            seeds: int32 `[B, 2]`.

        Returns:
            z `[K, B, d]`, and log q(z|x) `[K, B]`, nats.
        """

        def sample_one(row: tuple[dict[str, Tensor], Tensor]) -> tuple[tf.Tensor, Tensor]:
            parameters, seed = row
            posterior = self.distribution(parameters)
            return posterior.experimental_sample_and_log_prob(num_samples, seed=seed)

        z, log_prob = tf.map_fn(
            sample_one,
            (parameters, seeds),
            fn_output_signature=(
                tf.TensorSpec((num_samples, *self.event_shape), tf.float32),
                tf.TensorSpec((num_samples,), tf.float32),
            ),
        )
        return tf.transpose(z, (1, 0, 2)), tf.transpose(log_prob)

    def sample_share(
        self, parameters: dict[str, Tensor], num_samples: int, seed: Tensor, share: Share
    ) -> tuple[tf.Tensor, Tensor]:
        """Draw z for some events of a batch, the same draws as those of the whole batch have.

        A draw depends on the event's place in the batch and on the size of the batch. So each
        device draws for a batch of the whole size, with its own events in their places, and keeps
        theirs; next to running a network this costs nothing.

        Args:
            parameters: of the events of the share.
            num_samples: K, draws for each.
            seed: int32 `[2]`, of the whole batch.
            share: which rows of the batch they are.

        Returns:
            z `[K, B, d]`, and log q(z|x) `[K, B]`, nats.
        """
        size = tf.cast(share.stop - share.start, tf.int32)
        start, total = tf.cast(share.start, tf.int32), tf.cast(share.total, tf.int32)
        rows = tf.clip_by_value(tf.range(total) - start, 0, size - 1)
        batch = {name: tf.gather(value, rows) for name, value in parameters.items()}
        posterior = self.distribution(batch)
        z, log_prob = posterior.experimental_sample_and_log_prob(num_samples, seed=seed)
        return z[:, start : start + size], log_prob[:, start : start + size]

    def _build_head(self, input_shape: OutputShape, size: int, name: str | None = None) -> None:
        """Create the dense layer that makes `size` numbers of the encoder's features."""
        if _is_list_of_shapes(input_shape):
            raise InputError(
                f"{type(self).__name__} makes its parameters from features, and the encoder has "
                f"several outputs of shapes {[tuple(s) for s in input_shape]}: give it one output, "
                'or choose the posterior "normal"'
            )
        shape = input_shape
        if len(shape) < 2 or None in shape[1:]:
            raise InputError(
                "the encoder must put out features of a known size, [batch, features]; "
                f"received shape {tuple(shape)}"
            )
        self.flatten = keras.layers.Flatten(dtype="float32")
        self.head = keras.layers.Dense(
            size, kernel_initializer=self._head_initializer(), dtype="float32", name=name
        )
        self.head.build((None, int(np.prod(shape[1:]))))

    def _head_outputs(self, encoder_output: EncoderOutput, sizes: list[int]) -> list[Tensor]:
        """Split what the head makes of the features into parts `[B, size]`, in float32."""
        raw = self.head(self.flatten(encoder_output))
        return keras.ops.split(raw, np.cumsum(sizes)[:-1].tolist(), axis=-1)


@keras.saving.register_keras_serializable(PACKAGE)
class DiagonalNormal(Posterior):
    """q(z|x) = N(μ(x), diag σ²(x)), parametrised by μ and log σ².

    The encoder may put out

    * features of any shape, from which a dense layer makes μ and log σ²; or
    * a list ``[loc, log_var]`` or ``[loc, log_var, z]``, each `[B, d]`, as hand-written encoders
      often do: the first two are taken as they are (see `bounded_log_var`), a third is ignored.
    """

    def build(self, input_shape: OutputShape) -> None:
        """Create the dense layer, if the encoder puts out features."""
        (latent_dim,) = self.event_shape
        if not _is_list_of_shapes(input_shape):
            self._build_head(input_shape, 2 * latent_dim, "loc_and_log_var")
        elif len(input_shape) not in (2, 3) or any(
            tuple(shape[1:]) != (latent_dim,) for shape in input_shape[:2]
        ):
            raise InputError(
                f"an encoder with several outputs must give [loc, log_var], each "
                f"[batch, {latent_dim}]; received shapes {[tuple(s) for s in input_shape]}"
            )
        else:
            self.head = None
        self.built = True

    def call(self, encoder_output: EncoderOutput) -> dict[str, Tensor]:
        """Return ``{"loc": [B, d], "log_var": [B, d]}`` in float32."""
        if self.head is None:
            loc, log_var = encoder_output[:2]
        else:
            loc, log_var = self._head_outputs(encoder_output, 2 * list(self.event_shape))
        return {
            "loc": keras.ops.cast(loc, "float32"),
            "log_var": bounded_log_var(keras.ops.cast(log_var, "float32")),
        }

    def distribution(self, parameters: dict[str, Tensor]) -> Distribution:
        """Return q(z|x), a `tfd.Independent` normal with batch `[B]` and event `[d]`."""
        return _diagonal_normal(parameters)


@keras.saving.register_keras_serializable(PACKAGE)
class FullNormal(Posterior):
    """q(z|x) = N(μ(x), Σ(x)) with a full covariance, Σ = L Lᵀ.

    The head makes μ, log L_ii² and, for each pair of dimensions, a number below the diagonal of N
    in L = diag(L_ii) (I + N); see `tfvae.distributions.normal.FullCovarianceNormal`. Each row
    of N is divided by √d, so that at the start correlations are as strong in many dimensions as in
    few.
    """

    def _sizes(self) -> list[int]:
        (d,) = self.event_shape
        return [d, d, d * (d - 1) // 2]

    def build(self, input_shape: OutputShape) -> None:
        """Create the dense layer."""
        self._build_head(input_shape, sum(self._sizes()))
        self.built = True

    def call(self, encoder_output: EncoderOutput) -> dict[str, Tensor]:
        """Return ``{"loc": [B, d], "log_var": [B, d], "lower": [B, d(d − 1)/2]}`` in float32."""
        loc, log_var, lower = self._head_outputs(encoder_output, self._sizes())
        lower = lower / self.event_shape[0] ** 0.5
        return {"loc": loc, "log_var": bounded_log_var(log_var), "lower": lower}

    def distribution(self, parameters: dict[str, Tensor]) -> Distribution:
        """Return q(z|x), a `FullCovarianceNormal` with batch `[B]` and event `[d]`."""
        from tfvae.distributions.normal import FullCovarianceNormal

        d, _, pairs = self._sizes()
        # Where each entry of the matrix comes from: on and above the diagonal from a zero.
        source = np.full((d, d), pairs)
        source[np.tril_indices(d, -1)] = np.arange(pairs)
        lower = parameters["lower"]
        padded = tf.concat([lower, tf.zeros_like(parameters["loc"][..., :1])], axis=-1)
        return FullCovarianceNormal(
            parameters["loc"], parameters["log_var"], tf.gather(padded, source, axis=-1)
        )


class FlowPosterior(Posterior):
    """Base class of posteriors that push N(μ(x), diag σ²(x)) through a flow.

    The encoder puts out features. One dense layer makes of them μ, log σ² and a context of
    `hidden` numbers, which every step of the flow sees.

    Args:
        flows: number of steps.
        hidden: width of the flow's hidden layers and size of the context.
        **kwargs: those of `keras.layers.Layer`.

    Raises:
        InputError: if `flows` or `hidden` is no whole number from 1.
    """

    def __init__(self, flows: int = 4, hidden: int = 64, **kwargs: Any):
        super().__init__(**kwargs)
        self.flows = checked_count("flows", flows, most=MOST_UNITS)
        self.hidden = checked_count("hidden", hidden, most=MOST_UNITS)

    @abc.abstractmethod
    def _flow(self, options: dict[str, Any]) -> "Flow":
        """Build the `tfvae.distributions.flows.Flow`."""

    def build(self, input_shape: OutputShape) -> None:
        """Create the dense layer and the flow's networks."""
        self._build_head(input_shape, sum(self._sizes()))
        self.flow = self._flow(
            {
                "size": self.event_shape[0],
                "flows": self.flows,
                "hidden": self.hidden,
                "context": self.hidden,
                "seed": self._head_seed,
            }
        )
        self.built = True

    def _sizes(self) -> list[int]:
        return [*self.event_shape, *self.event_shape, self.hidden]

    def call(self, encoder_output: EncoderOutput) -> dict[str, Tensor]:
        """Return ``{"loc": [B, d], "log_var": [B, d], "context": [B, hidden]}`` in float32."""
        loc, log_var, context = self._head_outputs(encoder_output, self._sizes())
        log_var = bounded_log_var(log_var)
        return {"loc": loc, "log_var": log_var, "context": keras.ops.elu(context)}

    def distribution(self, parameters: dict[str, Tensor]) -> Distribution:
        """Return q(z|x), a `tfd.TransformedDistribution` with batch `[B]` and event `[d]`."""
        return tfd.TransformedDistribution(
            _diagonal_normal(parameters),
            self.flow.bijector(parameters["context"]),
            name="flow_posterior",
        )

    def code(self, distribution: Distribution) -> Tensor:
        """Return where the flow takes the base's mean, `[B, d]`; the mean of q has no formula."""
        return distribution.bijector.forward(distribution.distribution.mean())

    def get_config(self) -> Config:
        """Return the constructor's arguments."""
        return {**super().get_config(), "flows": self.flows, "hidden": self.hidden}


@keras.saving.register_keras_serializable(PACKAGE)
class InverseAutoregressive(FlowPosterior):
    """q(z|x) by inverse autoregressive flow: Kingma et al. (2016), arXiv:1606.04934.

    ``z ← g ⊙ z + (1 − g) ⊙ r`` with g and r from a MADE of z and the context (equations 13 and 14,
    algorithm 1), g near 0.9 at the start. A draw and its log q take one pass of each network
    (`experimental_sample_and_log_prob`, or `log_prob` of the very tensor that `sample` gave);
    log q of any other z takes d + 1.
    """

    def _flow(self, options: dict[str, Any]) -> "Flow":
        from tfvae.distributions.flows import Autoregressive, Flow

        return Flow(Autoregressive, gated=True, **options)


@keras.saving.register_keras_serializable(PACKAGE)
class CouplingFlow(FlowPosterior):
    """q(z|x) by affine coupling layers with a context: Dinh et al. (2017), arXiv:1605.08803.

    A draw and its log q take one pass of each network, log q of any other z two.
    """

    def bind(self, event_shape: Shape, seed: int | None) -> None:
        """Say which event the family describes; see `Family.bind`."""
        check_halves(event_shape, 'the posterior "iaf"')
        super().bind(event_shape, seed)

    def _flow(self, options: dict[str, Any]) -> "Flow":
        from tfvae.distributions import flows

        return flows.Flow(flows.Coupling, **options)


@keras.saving.register_keras_serializable(PACKAGE)
class RelaxedCategorical(Posterior):
    """q(z|x) = ∏ Categorical(π_g(x)) over groups g of classes, whose draws are one-hot vectors.

    z is the vectors of all groups, one after the other: `latent_dim` is groups · classes. Training
    draws relaxed ones, ``softmax((log π + Gumbel noise)/τ)``, through which gradients run: Jang et
    al. (2017), arXiv:1611.01144, and Maddison et al. (2017), arXiv:1611.00712. Everything else,
    validation included, has exact one-hot draws, exact probabilities and the KL in closed form. It
    goes with the prior of the same name.

    The gradient is that of the relaxed model, and biased for the exact one by the less, the lower τ
    is; its variance grows as τ falls.

    Args:
        classes: of each group, from 2.
        temperature: τ, a positive number or a schedule as `tfvae.objectives.schedules.get` takes
            it, such as ``"linear(steps=5000,start=1,end=0.3)"``. A schedule that reaches 0 stays
            at 0.01.
        **kwargs: those of `keras.layers.Layer`.

    Raises:
        InputError: if `classes` is no whole number from 2, or a temperature not positive.
    """

    def __init__(self, classes: int = 10, temperature: Any = 0.5, **kwargs: Any):
        super().__init__(**kwargs)
        self.classes = checked_count("classes", classes, least=2, most=MOST_UNITS)
        self.temperature = checked_temperature(temperature)

    def bind(self, event_shape: Shape, seed: int | None) -> None:
        """Say which event the family describes; see `Family.bind`.

        Raises:
            InputError: if z is no whole number of groups.
        """
        check_groups(event_shape, self.classes or 1)
        super().bind(event_shape, seed)

    def build(self, input_shape: OutputShape) -> None:
        """Create the dense layer."""
        self._build_head(input_shape, self.event_shape[0], "logits")
        self.built = True

    def call(self, encoder_output: EncoderOutput) -> dict[str, Tensor]:
        """Return ``{"logits": [B, groups, classes]}`` in float32."""
        raw = self.head(self.flatten(encoder_output))
        return {"logits": keras.ops.reshape(raw, (-1, *in_groups(self.event_shape, self.classes)))}

    def relaxed(self, parameters: dict[str, Tensor], temperature: Tensor) -> dict[str, Tensor]:
        """Return the parameters with τ `[B]`."""
        batch = tf.shape(parameters["logits"])[:-2]
        return {**parameters, "temperature": tf.fill(batch, least_temperature(temperature))}

    def distribution(self, parameters: dict[str, Tensor]) -> Distribution:
        """Return q(z|x), a `OneHots`; a `RelaxedOneHots` of parameters that are relaxed."""
        from tfvae.distributions.one_hot import OneHots, RelaxedOneHots

        if "temperature" in parameters:
            return RelaxedOneHots(parameters["temperature"], parameters["logits"])
        return OneHots(parameters["logits"])

    def code(self, distribution: Distribution) -> Tensor:
        """Return the most probable class of each group, `[B, d]`: it is a z that the model has."""
        return distribution.mode()

    def moved(self, code: Tensor, dimension: int, values: Tensor) -> Tensor:
        """Return codes whose group gives a class each of some shares, from 0 to 1.

        The other classes of the group share the rest as they did, or alike where they had nothing.
        """
        groups, classes = in_groups(self.event_shape, self.classes)
        group, place = divmod(dimension, classes)
        chosen = tf.one_hot(place, classes)
        own = tf.reshape(code, (-1, 1, groups, classes))[..., group, :]
        others = own * (1 - chosen)
        total = tf.reduce_sum(others, axis=-1, keepdims=True)
        alike = (1 - chosen) / (classes - 1)
        others = tf.where(total > 0, tf.math.divide_no_nan(others, total), alike)
        share = tf.clip_by_value(values, 0.0, 1.0)
        moved = tf.tile(share * chosen + (1 - share) * others, (1, 1, groups))
        in_group = np.repeat(np.arange(groups) == group, classes)
        return tf.where(in_group, moved, code)

    def get_config(self) -> Config:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "classes": self.classes,
            "temperature": config_of_temperature(self.temperature),
        }


# Of a schedule that ends at 0.
_LEAST_TEMPERATURE = 0.01


def checked_temperature(temperature: Any) -> Any:
    """Return a temperature that is a positive number, or no number.

    Raises:
        InputError: if it is another number.
    """
    if isinstance(temperature, (bool, int, float)) and not (
        is_number(temperature) and 0 < temperature < np.inf
    ):
        raise InputError(f"temperature is a positive number or a schedule; received {temperature}")
    return temperature


def config_of_temperature(temperature: Any) -> Any:
    """Return a temperature as JSON can hold it."""
    if isinstance(temperature, (int, float, str, dict)):
        return temperature
    return keras.saving.serialize_keras_object(temperature)


def least_temperature(temperature: Tensor) -> Tensor:
    """Return a temperature that is positive."""
    return tf.maximum(tf.cast(temperature, tf.float32), _LEAST_TEMPERATURE)


def check_groups(event_shape: Shape, classes: int) -> None:
    """Check that z consists of groups of so many classes.

    Raises:
        InputError: if it does not.
    """
    if event_shape[0] % classes:
        raise InputError(
            f"z holds a one-hot vector of {classes} classes for each group, and needs a latent "
            f"dimension that is a multiple of {classes}; received {event_shape[0]}"
        )


def in_groups(event_shape: Shape, classes: int | None) -> tuple[int, int]:
    """Return how many groups z holds, and of how many classes each is."""
    classes = classes or event_shape[0]
    return event_shape[0] // classes, classes


def check_halves(event_shape: Shape, instead: str) -> None:
    """Check that a latent vector can be split in two.

    Raises:
        InputError: if it has one dimension.
    """
    if tuple(event_shape) == (1,):
        raise InputError(
            "a coupling flow moves one half of z by the other and needs a latent dimension from 2; "
            f"received 1: choose {instead}"
        )


def _diagonal_normal(parameters: dict[str, Tensor]) -> Distribution:
    from tfvae.distributions.normal import diagonal_normal

    return diagonal_normal(parameters["loc"], parameters["log_var"])


def _is_list_of_shapes(shape: OutputShape) -> "TypeIs[list[Shape]]":
    return len(shape) > 0 and isinstance(shape[0], (list, tuple))


BY_NAME: dict[str, type[Posterior]] = {
    "normal": DiagonalNormal,
    "full_normal": FullNormal,
    "iaf": InverseAutoregressive,
    "coupling": CouplingFlow,
    "relaxed_categorical": RelaxedCategorical,
}


def get(identifier: Posterior | Mapping[str, Any] | str) -> Posterior:
    """Return the posterior that a name, a configuration or an instance stands for."""
    return resolve(identifier, Posterior, BY_NAME, "posterior")
