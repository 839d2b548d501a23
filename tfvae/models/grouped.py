"""Posterior and prior of a hierarchy, families like all others: their z holds all groups."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from tfvae.distributions.family import PACKAGE
from tfvae.distributions.kl import exact_kl, factorizes, kl_per_dimension
from tfvae.errors import InputError
from tfvae.lazy import tfd
from tfvae.models.top_down import Descent, TopDown
from tfvae.posteriors import EncoderOutput, OutputShape, Posterior
from tfvae.priors import Host, Prior
from tfvae.share import Share
from tfvae.typing import Config, Distribution, Shape, Tensor

# Rows that go down at a time where a whole block of draws is made.
_CHUNK = 512
_FEATURES, _LABEL = "features_", "label"


class TopDownPosterior(Posterior):
    """q(z|x) = q(z_1|x) ∏_l q(z_l|z_<l, x).

    Its parameters are those of q(z_1|x); the encoder's features for the other groups,
    ``features_2`` to ``features_L``; and of a conditional model ``label``, one-hot.

    Args:
        top: q(z_1|x), a posterior as any.
        top_down: the way down.
    """

    pairs_at_a_time = 4096
    pair_limit = 200

    def __init__(self, top: Posterior, top_down: TopDown):
        super().__init__(name="top_down_posterior")
        self._top = top
        # In a function, or Keras would take it for a part of this layer.
        self._network: Callable[[], TopDown] = lambda: top_down

    def of_top(self) -> Posterior:
        """q(z_1|x)."""
        return self._top

    def bind(self, event_shape: Shape, seed: int | None) -> None:
        """Say which event the family describes; see `Family.bind`."""
        super().bind(event_shape, seed)
        self._top.bind((self._network().sizes[0],), seed)

    def build(self, input_shape: OutputShape) -> None:
        """Check that the encoder gives features for each group."""
        count = len(self._network().sizes)
        shapes: Any = input_shape
        several = isinstance(shapes[0], (list, tuple))
        if not several or len(shapes) != count:
            raise InputError(
                f"the encoder of a hierarchy of {count} groups puts out a list of as many "
                f"features, the topmost group's first; received {len(shapes) if several else 1}"
            )
        self.built = True

    def call(self, encoder_output: EncoderOutput) -> dict[str, Tensor]:
        """Return the parameters, in float32."""
        first, *others = encoder_output
        features = {
            f"{_FEATURES}{number}": tf.cast(one, tf.float32)
            for number, one in enumerate(others, start=2)
        }
        return {**self._top(first), **features}

    def top_distribution(self, parameters: dict[str, Tensor]) -> Distribution:
        """Build q(z_1|x)."""
        return self._top.distribution(_of_top(parameters))

    def distribution(self, parameters: dict[str, Tensor]) -> Distribution:
        """Return q(z|x), a `GroupedDistribution` with batch `[B]` and event `[d]`."""
        top = self.top_distribution(parameters)
        lower = _Lower(self._network(), parameters)
        return _grouped(top, lower, top.batch_shape, top.batch_shape_tensor(), "posterior")

    def code(self, distribution: Distribution) -> Tensor:
        """Return the z whose groups are at their means, each given those above it, `[B, d]`."""
        return distribution.center(self._top.code(distribution.top))

    def group(self, before: Tensor, number: int, parameters: dict[str, Tensor]) -> Any:
        """Compute μ and log σ² of q(z_l|z_<l, x), each `[B, d_l]`; see `TopDown.group`."""
        condition = [parameters[_LABEL]] if _LABEL in parameters else []
        features = parameters[f"{_FEATURES}{number + 1}"]
        return self._network().group(number, before, features, condition)

    def starts(
        self,
        parameters: dict[str, Tensor],
        num_samples: int,
        seed: Tensor,
        share: Share | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Draw z_1, and the noise of the other groups.

        Args:
            parameters: of B events.
            num_samples: K.
            seed: int32 `[2]`, or `[B, 2]` for draws that do not depend on the rest of the batch.
            share: which rows of a batch these are, whose one seed `seed` is.

        Returns:
            z_1 `[K, B, d_1]`, log q(z_1|x) `[K, B]`, and noise `[K, B, d − d_1]`.
        """
        from tfvae.distributions.joint import noise_below

        below = sum(self._network().sizes[1:])
        of_top = _of_top(parameters)
        if seed.shape.rank == 2:
            top, log_prob = self._top.sample_each(of_top, num_samples, seed)
            noise = tf.map_fn(
                lambda one: noise_below((num_samples, below), one),
                seed,
                fn_output_signature=tf.TensorSpec((num_samples, below), tf.float32),
            )
            return top, log_prob, tf.transpose(noise, (1, 0, 2))
        if share is not None:
            top, log_prob = self._top.sample_share(of_top, num_samples, seed, share)
            total, start = tf.cast(share.total, tf.int32), tf.cast(share.start, tf.int32)
            noise = noise_below((num_samples, total, below), seed)
            return top, log_prob, noise[:, start : start + tf.shape(top)[1]]
        posterior = self._top.distribution(of_top)
        top, log_prob = posterior.experimental_sample_and_log_prob(num_samples, seed=seed)
        return top, log_prob, noise_below((num_samples, tf.shape(top)[1], below), seed)

    def descend(
        self, parameters: dict[str, Tensor], top: Tensor, training: bool = False, **kwargs: Any
    ) -> Descent:
        """Go down from z_1 `[K, B, d_1]` with the features of B events; see `TopDown.descend`.

        What is `[K, B, …]` here has K·B rows there.
        """
        return _Lower(self._network(), parameters).descend(top, training=training, **kwargs)

    def sample_each(
        self, parameters: dict[str, Tensor], num_samples: int, seeds: Tensor
    ) -> tuple[tf.Tensor, Tensor]:
        """Draw z for each event from a seed of its own; some go down at a time."""
        top, log_prob, noise = self.starts(parameters, num_samples, seeds)
        count = tf.shape(top)[0] * tf.shape(top)[1]
        owner = tf.tile(tf.range(tf.shape(top)[1]), [tf.shape(top)[0]])
        rows = [tf.reshape(value, (-1, value.shape[-1])) for value in (top, noise)]
        latent_dim = self._network().latent_dim

        def go(start: Tensor, found: Any, more: Any) -> tuple[Tensor, Any, Any]:
            part = slice(start, start + _CHUNK)
            its = {name: tf.gather(value, owner[part]) for name, value in parameters.items()}
            lower = _Lower(self._network(), its)
            down = lower.descend(rows[0][part], noise=rows[1][part], finish=False)
            place = start // _CHUNK
            density = down.log_posterior
            return start + _CHUNK, found.write(place, down.z), more.write(place, density)

        pieces = -(-count // _CHUNK)
        arrays = [tf.TensorArray(tf.float32, pieces, infer_shape=False) for _ in range(2)]
        _, found, more = tf.while_loop(
            lambda start, *_: start < count, go, (tf.constant(0), *arrays), parallel_iterations=1
        )
        z = tf.reshape(
            tf.ensure_shape(found.concat(), (None, latent_dim)), (num_samples, -1, latent_dim)
        )
        density = tf.reshape(tf.ensure_shape(more.concat(), (None,)), (num_samples, -1))
        return z, log_prob + density

    def sample_share(
        self, parameters: dict[str, Tensor], num_samples: int, seed: Tensor, share: Share
    ) -> tuple[tf.Tensor, Tensor]:
        """Draw z for some events of a batch, the same draws as those of the whole batch have."""
        top, log_prob, noise = self.starts(parameters, num_samples, seed, share)
        down = self.descend(parameters, top, noise=noise, finish=False)
        return down.z, log_prob + down.log_posterior


class TopDownPrior(Prior):
    """p(z) = p(z_1) ∏_l p(z_l|z_<l).

    Args:
        top: p(z_1), a prior as any.
        top_down: the way down.
    """

    def __init__(self, top: Prior, top_down: TopDown):
        super().__init__(name="top_down_prior")
        self._top = top
        self._network: Callable[[], TopDown] = lambda: top_down
        self._num_classes: int | None = None

    def of_top(self) -> Prior:
        """p(z_1)."""
        return self._top

    def bind(self, event_shape: Shape, seed: int | None) -> None:
        """Say which event the family describes; see `Family.bind`."""
        super().bind(event_shape, seed)
        self._top.bind((self._network().sizes[0],), seed)

    def attach(self, vae: Host) -> None:
        """Take from the model what p(z_1) needs, and the number of classes."""
        self._num_classes = vae.num_classes
        self._top.attach(vae)

    def build(self, input_shape: Shape) -> None:
        """Build p(z_1)."""
        if not self._top.built:
            self._top.build((self._network().sizes[0],))
        self.built = True

    def distribution(self, label: Tensor | None = None) -> Distribution:
        """Return p(z); of a conditional model p(z|y), or its mean over all labels without one."""
        if self._num_classes is None:
            top = self._top.distribution(None)
            return _grouped(top, _Lower(self._network(), {}), tf.TensorShape([]), [], "prior")
        if label is None:
            of_all = self.distribution(tf.range(self._num_classes))
            return tfd.MixtureSameFamily(
                tfd.Categorical(logits=tf.zeros(self._num_classes)), of_all
            )
        lower = _Lower(self._network(), {_LABEL: tf.one_hot(label, self._num_classes)})
        top = self._top.distribution(label)
        return _grouped(top, lower, label.shape, tf.shape(label), "prior")

    def group(self, before: Tensor, number: int, label: Tensor | None = None) -> Any:
        """Compute μ and log σ² of p(z_l|z_<l), each `[B, d_l]`; see `TopDown.group`."""
        classes = self._num_classes
        condition = [] if classes is None else [tf.one_hot(label, classes)]
        return self._network().group(number, before, None, condition)


@keras.saving.register_keras_serializable(PACKAGE)
class TopDownCode(keras.layers.Layer):
    """From an encoder's features, and a label behind them, to the code `[B, d]` of a hierarchy.

    Args:
        top: q(z_1|x).
        top_down: the way down.
        **kwargs: those of `keras.layers.Layer`.
    """

    def __init__(self, top: Posterior, top_down: TopDown, **kwargs: Any):
        super().__init__(autocast=False, **kwargs)
        self.of_top, self.top_down = top, top_down
        self.family = TopDownPosterior(top, top_down)

    def build(self, input_shape: Any) -> None:
        """Connect the way down, where no model has done so before."""
        count = len(self.top_down.groups)
        features = [keras.Input(tuple(shape[1:])) for shape in input_shape[:count]]
        labels = [shape[-1] for shape in input_shape[count:]]
        self.top_down.connect(features, labels[0] if labels else None, None)
        self.family.bind((self.top_down.latent_dim,), None)
        self.built = True

    def call(self, features: Any) -> Tensor:
        """Compute the code of each event."""
        count = len(self.top_down.groups)
        parameters = self.family(features[:count])
        if len(features) > count:
            parameters[_LABEL] = tf.cast(features[count], tf.float32)
        return self.family.code(self.family.distribution(parameters))

    def get_config(self) -> Config:
        """Return the constructor's arguments."""
        serialize = keras.saving.serialize_keras_object
        return {
            **super().get_config(),
            "top": serialize(self.of_top),
            "top_down": serialize(self.top_down),
        }

    @classmethod
    def from_config(cls, config: Config) -> "TopDownCode":
        """Build the layer from `get_config`'s dictionary."""
        parts = {
            name: keras.saving.deserialize_keras_object(config[name])
            for name in ("top", "top_down")
        }
        return cls(**{**config, **parts})


class _Lower:
    """The groups below the first of some events, for z with any leading axes before the batch.

    Args:
        network: the way down.
        parameters: the features and the labels of the events, where there are some.
    """

    def __init__(self, network: TopDown, parameters: dict[str, Tensor]):
        self._network, self.sizes = network, network.sizes
        self._condition = [parameters[_LABEL]] if _LABEL in parameters else []
        names = [f"{_FEATURES}{number}" for number in range(2, len(network.sizes) + 1)]
        self._features = [parameters[name] for name in names] if names[0] in parameters else None

    def descend(
        self,
        top: Tensor,
        *,
        rest: Tensor | None = None,
        noise: Tensor | None = None,
        temperature: Sequence[Tensor | float] | None = None,
        finish: bool = True,
        training: bool = False,
    ) -> Descent:
        """Go down from z_1 `[..., B, d_1]`; see `TopDown.descend`. Results are `[..., B, …]`."""
        lead, known = tf.shape(top)[:-1], top.shape[:-1]

        def rows(value: Tensor) -> Tensor:
            return tf.reshape(value, (-1, value.shape[-1]))

        flat = rows(top)
        owned = [*self._condition, *(self._features or [])]
        repeated = [_repeated(value, tf.shape(flat)[0], known) for value in owned]
        count = len(self._condition)
        found = self._network.descend(
            flat,
            rest=None if rest is None else rows(rest),
            noise=None if noise is None else rows(noise),
            features=None if self._features is None else repeated[count:],
            condition=repeated[:count],
            temperature=temperature,
            finish=finish,
            training=training,
        )

        def shaped(value: Tensor) -> Tensor:
            value = tf.reshape(value, tf.concat([lead, tf.shape(value)[1:]], 0))
            return tf.ensure_shape(value, [*known, *value.shape[len(known) :]])

        if known.rank == 1:
            return found
        return Descent(
            shaped(found.z),
            shaped(found.log_prior),
            None if found.log_posterior is None else shaped(found.log_posterior),
            [shaped(kl) for kl in found.kls],
            found.output,
        )

    def draw(self, top: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        found = self.descend(top, noise=noise, finish=False)
        return found.z, self._density(found)

    def log_prob(self, z: Tensor) -> Tensor:
        size = self._network.sizes[0]
        owned = [*self._condition, *(self._features or [])]
        if owned:
            lead = tf.broadcast_dynamic_shape(tf.shape(z)[:-1], tf.shape(owned[0])[:1])
            known = tf.broadcast_static_shape(z.shape[:-1], owned[0].shape[:1])
            z = tf.broadcast_to(z, tf.concat([lead, tf.shape(z)[-1:]], 0))
            z = tf.ensure_shape(z, [*known, self._network.latent_dim])
        if z.shape.rank == 1:
            return self.log_prob(z[None])[0]
        return self._density(self.descend(z[..., :size], rest=z[..., size:], finish=False))

    def center(self, top: Tensor) -> Tensor:
        sizes = tf.concat([tf.shape(top)[:-1], [self._network.latent_dim - top.shape[-1]]], 0)
        return self.descend(top, noise=tf.zeros(sizes), finish=False).z

    def _density(self, found: Descent) -> Tensor:
        return found.log_prior if found.log_posterior is None else found.log_posterior


def kl_of_top(q: Distribution, p: Distribution, log_ratio: Tensor) -> tuple[Tensor, Tensor | None]:
    """Return KL(q(z_1|x) ‖ p(z_1)) `[B]`, and that of each dimension `[B, d_1]` or None; nats.

    Args:
        q: q(z_1|x).
        p: p(z_1).
        log_ratio: log q(z_1|x) − log p(z_1) of draws, `[K, B]`, where there is no closed form.
    """
    kl = exact_kl(q, p)
    if kl is None:
        return tf.reduce_mean(log_ratio, axis=0), None
    return kl, kl_per_dimension(q, p) if factorizes(q) and factorizes(p) else None


def _of_top(parameters: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        name: value
        for name, value in parameters.items()
        if name != _LABEL and not name.startswith(_FEATURES)
    }


def _grouped(
    top: Distribution, lower: _Lower, batch_shape: Any, batch_shape_tensor: Any, name: str
) -> Distribution:
    from tfvae.distributions.joint import GroupedDistribution

    return GroupedDistribution(
        top,
        lower.draw,
        lower.log_prob,
        lower.center,
        batch_shape=tf.TensorShape(batch_shape),
        batch_shape_tensor=tf.cast(batch_shape_tensor, tf.int32),
        sizes=lower.sizes,
        name=name,
    )


def _repeated(value: Tensor, count: Tensor, lead: tf.TensorShape) -> Tensor:
    """Return values `[B, …]` of events once for each draw, `[count, …]`, the events going round."""
    if lead.rank == 1 or (lead.rank == 2 and lead[0] == 1):
        return value
    times = count // tf.shape(value)[0]
    return tf.tile(value, [times] + [1] * (value.shape.rank - 1))
