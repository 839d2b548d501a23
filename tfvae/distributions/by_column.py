"""One distribution of values of several kinds, side by side on the last axis.

Loading this module loads TensorFlow Probability: import it where a distribution is made.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow_probability import distributions as tfd
from tensorflow_probability import random as tfp_random
from tensorflow_probability import util as tfp_util

from tfvae.typing import Distribution, Seed, Tensor


class ByColumn(tfd.Distribution):
    """Scalar values `[..., D]`, of which each of several distributions has some columns.

    Args:
        distributions: of float32 scalars, with batch shapes `[..., n]` that differ in n alone.
        columns: the columns of each, all of 0, ..., D − 1 once.
        name: name of the distribution's operations.
    """

    def __init__(
        self,
        distributions: Sequence[Distribution],
        columns: Sequence[Sequence[int]],
        name: str = "ByColumn",
    ):
        parameters = {"distributions": distributions, "columns": columns, "name": name}
        self._distributions = list(distributions)
        self._columns = [list(one) for one in columns]
        # Where each column is in the distributions' values behind each other.
        self._places = np.argsort(np.concatenate(self._columns))
        is_reparameterized = all(
            one.reparameterization_type == tfd.FULLY_REPARAMETERIZED for one in distributions
        )
        super().__init__(
            dtype=tf.float32,
            reparameterization_type=tfd.FULLY_REPARAMETERIZED
            if is_reparameterized
            else tfd.NOT_REPARAMETERIZED,
            validate_args=False,
            allow_nan_stats=True,
            parameters=parameters,
            name=name,
        )

    @classmethod
    def _parameter_properties(
        cls, dtype: tf.DType, num_classes: int | None = None
    ) -> dict[str, Any]:
        return {
            "distributions": tfp_util.BatchedComponentProperties(
                event_ndims=lambda self: [1] * len(self.distributions)
            )
        }

    @property
    def distributions(self) -> list[Distribution]:
        """The distributions, each of some columns."""
        return self._distributions

    def _batch_shape(self) -> tf.TensorShape:
        leading = self._distributions[0].batch_shape[:-1]
        return leading.concatenate(len(self._places))

    def _batch_shape_tensor(self, **_: Any) -> Tensor:
        leading = self._distributions[0].batch_shape_tensor()[:-1]
        return tf.concat([leading, [len(self._places)]], axis=0)

    def _event_shape(self) -> tf.TensorShape:
        return tf.TensorShape([])

    def _event_shape_tensor(self) -> Tensor:
        return tf.constant([], tf.int32)

    def _join(self, parts: list[Tensor]) -> Tensor:
        """Return values of the distributions, behind each other, in the order of the columns."""
        return tf.gather(tf.concat(parts, axis=-1), self._places, axis=-1)

    def _log_prob(self, x: Tensor) -> Tensor:
        return self._join(
            [
                one.log_prob(tf.gather(x, columns, axis=-1))
                for one, columns in zip(self._distributions, self._columns, strict=True)
            ]
        )

    def _sample_n(self, n: Tensor, seed: Seed = None) -> Tensor:
        seeds = tfp_random.split_seed(seed, n=len(self._distributions), salt="by_column")
        draws = zip(self._distributions, seeds, strict=True)
        return self._join([one.sample(n, seed=its_seed) for one, its_seed in draws])

    def _each(self, statistic: Callable[[Distribution], Tensor]) -> Tensor:
        return self._join([statistic(one) for one in self._distributions])

    def _mean(self) -> Tensor:
        return self._each(lambda one: one.mean())

    def _mode(self) -> Tensor:
        return self._each(lambda one: one.mode())

    def _variance(self) -> Tensor:
        return self._each(lambda one: one.variance())

    def _stddev(self) -> Tensor:
        return self._each(lambda one: one.stddev())
