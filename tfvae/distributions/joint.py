"""Distributions over vectors of several groups, each given those before it: ∏_l p(z_l | z_<l).

Loading this module loads TensorFlow Probability: import it where a distribution is made.
"""

from collections.abc import Callable
from typing import Any

import tensorflow as tf
import tensorflow_probability as tfp
from tensorflow_probability import distributions as tfd

# What the seeds of the noise of all groups below the first are derived with.
_BELOW = 1_000
# Draws that go down at a time where their number is known: memory is for so many.
_TOGETHER = 1024


def noise_below(shape: Any, seed: Any) -> tf.Tensor:
    """Draw the standard normal noise of the groups below the first, `shape`, from a seed `[2]`.

    The first group's draws have used the seed itself.
    """
    seed = tf.random.experimental.stateless_fold_in(seed, _BELOW)
    return tf.random.stateless_normal(shape, seed)


class GroupedDistribution(tfd.Distribution):
    """p(z_1) ∏_l p(z_l | z_<l) over z `[..., d]`, the groups below the first by networks.

    Args:
        top: p(z_1), with event `[d_1]`.
        below: from z_1 `[..., *batch, d_1]` and standard normal noise `[..., *batch, d − d_1]` to z
            `[..., *batch, d]`, a draw, and log ∏_l p(z_l|z_<l), nats.
        log_prob_below: from z `[..., *batch, d]` to log ∏_l p(z_l|z_<l), nats.
        center: from z_1 to the z whose other groups are at their means, each given those above it.
        batch_shape: the shape of the batch, static.
        batch_shape_tensor: the same, a tensor.
        sizes: how many dimensions each group has.
        name: name of the distribution's operations.
    """

    def __init__(
        self,
        top: tfd.Distribution,
        below: Callable[[tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]],
        log_prob_below: Callable[[tf.Tensor], tf.Tensor],
        center: Callable[[tf.Tensor], tf.Tensor],
        *,
        batch_shape: tf.TensorShape,
        batch_shape_tensor: tf.Tensor,
        sizes: tuple[int, ...],
        name: str = "GroupedDistribution",
    ):
        parameters = {
            "top": top,
            "below": below,
            "log_prob_below": log_prob_below,
            "center": center,
            "batch_shape": batch_shape,
            "batch_shape_tensor": batch_shape_tensor,
            "sizes": sizes,
            "name": name,
        }
        self.top, self.below, self.sizes = top, below, tuple(sizes)
        self._log_prob_below, self._center = log_prob_below, center
        self._known_batch, self._batch = batch_shape, batch_shape_tensor
        super().__init__(
            dtype=tf.float32,
            reparameterization_type=top.reparameterization_type,
            validate_args=False,
            allow_nan_stats=True,
            parameters=parameters,
            name=name,
        )

    @classmethod
    def _parameter_properties(cls, dtype: Any, num_classes: Any = None) -> dict[str, Any]:
        return {}

    def center(self, top: tf.Tensor) -> tf.Tensor:
        """Return the z whose groups below z_1 are at their means, each given those above it."""
        return self._center(top)

    def _batch_shape(self) -> tf.TensorShape:
        return tf.TensorShape(self._known_batch)

    def _batch_shape_tensor(self, **_: Any) -> tf.Tensor:
        return self._batch

    def _event_shape(self) -> tf.TensorShape:
        return tf.TensorShape([sum(self.sizes)])

    def _event_shape_tensor(self) -> tf.Tensor:
        return tf.constant([sum(self.sizes)], tf.int32)

    def _sample_n(self, n: Any, seed: Any = None, **_: Any) -> tf.Tensor:
        return self._drawn([n], seed)[0]

    def _sample_and_log_prob(
        self, sample_shape: Any, seed: Any = None, **_: Any
    ) -> tuple[tf.Tensor, tf.Tensor]:
        shape = tf.reshape(tf.convert_to_tensor(sample_shape, tf.int32), (-1,))
        known = tf.get_static_value(shape)
        lead = tf.unstack(shape) if known is None else [int(side) for side in known]
        return self._drawn(lead, seed)

    def _drawn(self, lead: list[Any], seed: Any) -> tuple[tf.Tensor, tf.Tensor]:
        seed = tfp.random.sanitize_seed(seed)
        # p(z_1) may be the same for a batch that the others differ in.
        spread = self.top.batch_shape.rank == 0 and self._known_batch.rank == 1
        shape = [*lead, self._batch[0]] if spread else lead
        top, log_prob = self.top.experimental_sample_and_log_prob(shape, seed=seed)
        sizes = tf.concat([tf.shape(top)[:-1], [sum(self.sizes[1:])]], 0)
        noise = noise_below(sizes, seed)
        noise = tf.ensure_shape(noise, [*top.shape[:-1], sum(self.sizes[1:])])
        count = top.shape[0] if len(lead) == 1 else None
        if count is None or count <= _TOGETHER:
            z, more = self.below(top, noise)
            return z, log_prob + more
        parts = [
            self.below(top[start : start + _TOGETHER], noise[start : start + _TOGETHER])
            for start in range(0, count, _TOGETHER)
        ]
        z, more = (tf.concat(values, axis=0) for values in zip(*parts, strict=True))
        return z, log_prob + more

    def _log_prob(self, z: tf.Tensor) -> tf.Tensor:
        return self.top.log_prob(z[..., : self.sizes[0]]) + self._log_prob_below(z)
