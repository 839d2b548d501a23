"""The way down a hierarchy: p(z_l|z_<l), q(z_l|z_<l, x) and the features of p(x|z), in one pass."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import keras
import tensorflow as tf

from tfvae.distributions.family import PACKAGE
from tfvae.distributions.kl import gaussian_kl
from tfvae.errors import InputError
from tfvae.models.building import check_network, run_symbolically
from tfvae.models.tracing import run
from tfvae.posteriors import bounded_log_var
from tfvae.typing import Config, Shape, Tensor

# log σ² of p(z_l|z_<l), and how far that of q may be from it, are as they are within the first two
# and bend towards limits as far again beyond. A KL is a squared distance over σ², so that an upper
# group that learns to be sure of the lower one makes its KL explode: NVAE has the same remedy.
_LOG_VAR = {"low": -6.0, "high": 4.0, "bend": 4.0}


class Descent(NamedTuple):
    """What one pass down gives, of N rows.

    Attributes:
        z: `[N, d]`.
        log_prior: log p(z_l|z_<l) summed over the groups below the first, `[N]`, nats.
        log_posterior: log q(z_l|z_<l, x) likewise; None where there was no x.
        kls: KL(q(z_l|z_<l, x) ‖ p(z_l|z_<l)) of each dimension of each group below the first, a
            list of `[N, d_l]`, nats; empty where there was no x.
        output: features of p(x|z); None where they were not asked for.
    """

    z: Tensor
    log_prior: Tensor
    log_posterior: Tensor | None
    kls: list[Tensor]
    output: Tensor | None


@keras.saving.register_keras_serializable(PACKAGE)
class TopDown(keras.layers.Layer):
    """The decoder of a `HierarchicalVAE` of L groups, topmost first.

    It has a state. From z_1 the first step makes s_2; p(z_2|z_1) and q(z_2|z_1, x) are made from
    that, and the second step makes s_3 of s_2 and z_2; and so on. What the last step puts out are
    the features of p(x|z).

    ``p(z_l|z_<l) = N(μ, diag σ²)`` with μ and log σ² by a linear layer from s_l, or from what a
    network of `priors` makes of it. ``q(z_l|z_<l, x) = N(μ + Δμ, diag exp(log σ² + Δ))``
    (Vahdat and Kautz 2020, arXiv:2007.03898, section 3.2) with Δμ and Δ by a linear layer from s_l
    and the encoder's features h_l side by side, or from what a network of `posteriors` makes of the
    two. These layers start at zero: p as N(0, I), q at p.

    Called on z `[N, d]`, or on a list of that and one-hot labels, it is a decoder as any other.

    Args:
        steps: L Keras models. The first from z_1 to s_2, of a conditional model from a list of z_1
            and a one-hot label; the others from a list ``[s_l, z_l]`` to s_(l+1). States may have
            any shape, one for each l.
        groups: the shape of each z_l; by default what the steps' inputs say.
        priors: L − 1 Keras models from s_l to features, or None.
        posteriors: L − 1 Keras models from a list ``[s_l, h_l]`` to features, or None.
        **kwargs: those of `keras.layers.Layer`.

    Attributes:
        groups: the shape of each z_l.
        sizes: how many numbers each has.
        latent_dim: d, their sum.

    Raises:
        InputError: if there are not as many networks and shapes as groups.
    """

    def __init__(
        self,
        steps: Sequence[keras.Model],
        groups: Sequence[Sequence[int]] | None = None,
        *,
        priors: Sequence[keras.Model] | None = None,
        posteriors: Sequence[keras.Model] | None = None,
        **kwargs: Any,
    ):
        # Densities stay in float32: each network and each layer here casts what it is given.
        super().__init__(autocast=False, **kwargs)
        self.steps = list(steps)
        for number, step in enumerate(self.steps):
            check_network(f"step {number + 1} of the way down", step)
        if not self.steps:
            raise InputError("the way down has a step for each group; received none")
        if groups is None:
            groups = [_latent_shape(step, number) for number, step in enumerate(self.steps)]
        self.groups = tuple(tuple(int(side) for side in shape) for shape in groups)
        self.sizes = tuple(math.prod(shape) for shape in self.groups)
        self.latent_dim = sum(self.sizes)
        below = len(self.steps) - 1
        for name, given, count in (
            ("groups", self.groups, below + 1),
            ("priors", priors, below),
            ("posteriors", posteriors, below),
        ):
            if given is not None and len(given) != count:
                raise InputError(
                    f"a way down of {below + 1} steps has {count} {name}; received {len(given)}"
                )
        self.priors: Any = None if priors is None else list(priors)
        self.posteriors: Any = None if posteriors is None else list(posteriors)
        self.prior_heads: list[Head] = []
        self.posterior_heads: list[Head] = []
        self.connected = False
        self._output_shape: tuple[int | None, ...] = ()

    def connect(self, features: Sequence[Any], num_classes: int | None, seed: int | None) -> None:
        """Make the layers between the networks; a model does so as it is built.

        Args:
            features: L symbolic tensors, those that the encoder puts out.
            num_classes: labels of a conditional model, or None.
            seed: seed of initial weights; the layers start at zero, and need none.

        Raises:
            InputError: if the networks do not fit each other.
        """
        if self.connected:
            return
        state = run_symbolically("first step", self.steps[0], self.groups[0], num_classes)
        prior_heads: list[Head] = []
        posterior_heads: list[Head] = []
        for number in range(1, len(self.steps)):
            group, h = self.groups[number], features[number]
            of_prior, of_posterior = state, [state, h]
            if self.priors is not None:
                of_prior = _applied(self.priors[number - 1], state, "prior", number)
            if self.posteriors is not None:
                of_posterior = _applied(
                    self.posteriors[number - 1], [state, h], "posterior", number
                )
            for heads, made in ((prior_heads, of_prior), (posterior_heads, of_posterior)):
                head = Head(group, dtype="float32")
                head(made)
                heads.append(head)
            z = keras.Input(group)
            state = _applied(self.steps[number], [state, z], "step", number)
        self.prior_heads, self.posterior_heads = prior_heads, posterior_heads
        self.connected = self.built = True
        self._output_shape = tuple(state.shape)

    def build(self, input_shape: Any) -> None:
        """Leave building to `connect`: what is called as a decoder needs no more."""
        self.built = True

    def get_build_config(self) -> None:
        """Return nothing: the model that it belongs to builds it."""

    def build_from_config(self, config: Any) -> None:
        """Leave building to the model."""

    def call(self, inputs: Any, training: bool = False) -> Tensor:
        """Compute the features of p(x|z) from z `[N, d]`, or a list of that and one-hot labels."""
        z, *condition = inputs if isinstance(inputs, (list, tuple)) else [inputs]
        start = self.sizes[0]
        state = self._step(0, None, z[:, :start], condition, training)
        for number, size in enumerate(self.sizes[1:], start=1):
            part = z[:, start : start + size]
            state = self._step(number, state, part, condition, training)
            start += size
        return state

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Return the shape of the features."""
        known = self._output_shape or self.steps[-1].output_shape
        return (None, *known[1:])

    # --- the pass ---------------------------------------------------------------------------------

    def descend(
        self,
        top: Tensor,
        *,
        rest: Tensor | None = None,
        noise: Tensor | None = None,
        features: Sequence[Tensor] | None = None,
        condition: Sequence[Tensor] = (),
        temperature: Sequence[Tensor | float] | None = None,
        kept: Tensor | None = None,
        finish: bool = True,
        training: bool = False,
    ) -> Descent:
        """Go down from z_1: along given groups, or along draws from q or p.

        Args:
            top: z_1, `[N, d_1]`.
            rest: z_2 … z_L, `[N, d − d_1]`; or None to draw them.
            noise: of those draws, standard normal `[N, d − d_1]`.
            features: h_2 … h_L of the encoder, each `[N, …]`; None to go by p alone.
            condition: one-hot labels `[N, num_classes]` of a conditional model, in a list.
            temperature: what the standard deviation of p(z_l|z_<l) is multiplied with in draws, for
                l = 2 … L; densities are those of temperature 1.
            kept: z_1 … z_l of some first groups, `[N, d_1 + … + d_l]`, in place of draws.
            finish: whether to take the last step, to the features of p(x|z).
            training: whether the networks run in training mode.
        """
        first = top[:, :0] if kept is None else kept
        held, random = first.shape[-1], tf.zeros_like(top[:, :0]) if noise is None else noise
        if held:
            top = first[:, : self.sizes[0]]
        found, kls, start = [top], [], 0
        log_prior = tf.zeros_like(top[:, 0])
        log_posterior = None if features is None else tf.zeros_like(log_prior)
        state = top
        if self._goes_on(0, finish):
            state = self._step(0, None, top, condition, training)
        for number in range(1, len(self.sizes)):
            stop = start + self.sizes[number]
            p = self._prior(number, state, training)
            q = p
            if features is not None:
                q = self._posterior(number, state, features[number - 1], p, training)
                kls.append(gaussian_kl(*q, *p))
            if self.sizes[0] + stop <= held:
                z = first[:, self.sizes[0] + start : self.sizes[0] + stop]
            elif rest is None:
                loc, log_var = q
                scale = tf.exp(0.5 * log_var)
                if temperature is not None:
                    scale *= temperature[number - 1]
                z = loc + scale * random[:, start:stop]
            else:
                z = rest[:, start:stop]
            log_prior += _log_density(z, *p)
            if log_posterior is not None:
                log_posterior += _log_density(z, *q)
            found.append(z)
            if self._goes_on(number, finish):
                state = self._step(number, state, z, condition, training)
            start = stop
        z = tf.concat(found, axis=-1) if rest is None else tf.concat([top, rest], axis=-1)
        return Descent(z, log_prior, log_posterior, kls, state if finish else None)

    def group(
        self,
        number: int,
        before: Tensor,
        features: Tensor | None = None,
        condition: Sequence[Tensor] = (),
    ) -> tuple[Tensor, Tensor]:
        """Compute one group's distribution given those before it, in inference.

        Args:
            number: l − 1, from 1 to L − 1.
            before: z_1 … z_(l−1), `[N, d_1 + … + d_(l−1)]`.
            features: h_l, for q; None for p.
            condition: one-hot labels `[N, num_classes]` of a conditional model, in a list.

        Returns:
            μ and log σ² of p(z_l|z_<l), or of q(z_l|z_<l, x), each `[N, d_l]`.
        """
        state = before
        for step, z in enumerate(tf.split(before, self.sizes[:number], axis=-1)):
            state = self._step(step, state, z, condition, False)
        p = self._prior(number, state, False)
        return p if features is None else self._posterior(number, state, features, p, False)

    def _goes_on(self, number: int, finish: bool) -> bool:
        return finish or number < len(self.sizes) - 1

    def _step(
        self,
        number: int,
        state: Tensor | None,
        z: Tensor,
        condition: Sequence[Tensor],
        training: bool,
    ) -> Tensor:
        z = _shaped(z, self.groups[number])
        if number:
            return run(self.steps[number], [state, z], training)
        return run(self.steps[0], [z, *condition] if condition else z, training)

    def _prior(self, number: int, state: Tensor, training: bool) -> tuple[Tensor, Tensor]:
        """Return μ and log σ² of p(z_l|z_<l), each `[N, d_l]`."""
        if self.priors is not None:
            state = run(self.priors[number - 1], state, training)
        loc, log_var = self.prior_heads[number - 1](state)
        return loc, bounded_log_var(log_var, **_LOG_VAR)

    def _posterior(
        self,
        number: int,
        state: Tensor,
        features: Tensor,
        p: tuple[Tensor, Tensor],
        training: bool,
    ) -> tuple[Tensor, Tensor]:
        """Return μ and log σ² of q(z_l|z_<l, x), each `[N, d_l]`."""
        made = [state, features]
        if self.posteriors is not None:
            made = run(self.posteriors[number - 1], made, training)
        delta, log_ratio = self.posterior_heads[number - 1](made)
        return p[0] + delta, p[1] + bounded_log_var(log_ratio, **_LOG_VAR)

    def get_config(self) -> Config:
        """Return the constructor's arguments."""

        def serialized(networks: Sequence[keras.Model] | None) -> Any:
            if networks is None:
                return None
            return [keras.saving.serialize_keras_object(one) for one in networks]

        return {
            **super().get_config(),
            "steps": serialized(self.steps),
            "groups": [list(shape) for shape in self.groups],
            "priors": serialized(self.priors),
            "posteriors": serialized(self.posteriors),
        }

    @classmethod
    def from_config(cls, config: Config) -> Self:
        """Build the layer from `get_config`'s dictionary."""
        config = dict(config)
        for name in ("steps", "priors", "posteriors"):
            if config.get(name) is not None:
                config[name] = [keras.saving.deserialize_keras_object(one) for one in config[name]]
        return cls(**config)


@keras.saving.register_keras_serializable(PACKAGE)
class Head(keras.layers.Layer):
    """From features to two numbers for each of a group's latents, which start at zero.

    Where all features have the sides of the group, `[N, *sides, F]`, a linear map of the channels
    at each place; else one of all that there is.

    Args:
        group: shape of z_l.
        **kwargs: those of `keras.layers.Layer`.
    """

    def __init__(self, group: Shape, **kwargs: Any):
        super().__init__(**kwargs)
        self.group = tuple(group)

    def build(self, input_shape: Any) -> None:
        """Create the linear layer."""
        shapes = input_shape if isinstance(input_shape[0], (list, tuple)) else [input_shape]
        sides = self.group[:-1]
        self.by_place = bool(sides) and all(tuple(one[1:-1]) == sides for one in shapes)
        channels = self.group[-1] if self.by_place else math.prod(self.group)
        self.linear = keras.layers.Dense(
            2 * channels, kernel_initializer="zeros", dtype=self.dtype_policy
        )
        if self.by_place:
            taken: Shape = (*sides, sum(one[-1] for one in shapes))
        else:
            taken = (sum(math.prod(one[1:]) for one in shapes),)
        self.linear.build((None, *taken))
        self.built = True

    def call(self, features: Any) -> tuple[Tensor, Tensor]:
        """Return the two, each `[N, prod(group)]`, float32."""
        parts = features if isinstance(features, (list, tuple)) else [features]
        if not self.by_place:
            parts = [keras.ops.reshape(one, (-1, math.prod(one.shape[1:]))) for one in parts]
        joined = parts[0] if len(parts) == 1 else keras.ops.concatenate(parts, axis=-1)
        first, second = keras.ops.split(self.linear(joined), 2, axis=-1)
        size = math.prod(self.group)
        return keras.ops.reshape(first, (-1, size)), keras.ops.reshape(second, (-1, size))

    def get_config(self) -> Config:
        """Return the constructor's arguments."""
        return {**super().get_config(), "group": list(self.group)}


def _latent_shape(step: keras.Model, number: int) -> Shape:
    """Return the shape of z that a step takes."""
    known: Any = getattr(step, "input_shape", None) if step.built else None
    place = 0 if number == 0 else 1
    shapes = known if isinstance(known, list) else [known]
    if known is None or len(shapes) <= place or None in shapes[place][1:]:
        raise InputError(
            f"step {number + 1} does not say which shape of z it takes: give groups=[SHAPE, ...]"
        )
    return tuple(shapes[place][1:])


def _applied(network: keras.Model, inputs: Any, kind: str, number: int) -> Any:
    """Return the symbolic output of a network, or say in one line why it takes no such input."""
    try:
        output = network(inputs)
    except InputError:
        raise
    except (ValueError, TypeError) as error:
        shapes = [
            tuple(one.shape[1:]) for one in (inputs if isinstance(inputs, list) else [inputs])
        ]
        reason = " ".join(str(error).split())[:300]
        raise InputError(
            f"the {kind} network of group {number + 1} must take {shapes}; it said: {reason}"
        ) from error
    if isinstance(output, (list, tuple, dict)):
        raise InputError(f"the {kind} network of group {number + 1} must put out one tensor")
    return output


def _shaped(z: Tensor, shape: Shape) -> Tensor:
    return z if len(shape) == 1 else tf.reshape(z, (-1, *shape))


def _log_density(z: Tensor, loc: Tensor, log_var: Tensor) -> Tensor:
    """Return log N(z; loc, diag exp log_var), `[N]`, nats."""
    squared = tf.square((z - loc) * tf.exp(-0.5 * log_var))
    return -0.5 * tf.reduce_sum(squared + log_var + math.log(2 * math.pi), axis=-1)
