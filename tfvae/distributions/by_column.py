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

from tfvae.distributions.scalar import ScalarDistribution
from tfvae.typing import Distribution, Seed, Tensor


class ByColumn(ScalarDistribution):
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
            parameters,
            reparameterization_type=tfd.FULLY_REPARAMETERIZED
            if is_reparameterized
            else tfd.NOT_REPARAMETERIZED,
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


class OfLibrary(ByColumn):
    """Columns of which one, the library size l, is a factor of the means of others, counts.

    ``p(x) = p(l) ∏ p(x_j|l)``: the log-probability takes l from the values, and draws draw it
    first. Mean, mode and variance are those at the mean of l.

    Args:
        distributions: of each group of columns at the mean of l.
        columns: the columns of each.
        library: the column of l, the only one of its group.
        at: returns the distributions of all groups for log l `[..., 1]`.
        name: name of the distribution's operations.
    """

    def __init__(
        self,
        distributions: Sequence[Distribution],
        columns: Sequence[Sequence[int]],
        library: int,
        at: Callable[[Tensor], list[Distribution]],
        name: str = "OfLibrary",
    ):
        super().__init__(distributions, columns, name=name)
        self._library = library
        self._at = at
        own = [number for number, places in enumerate(columns) if list(places) == [library]]
        self._own = own[0]

    def _log_size(self, sizes: Tensor) -> Tensor:
        # What stands where nothing was observed may be 0.
        usual = tf.maximum(self._distributions[self._own].mean(), 1e-6)
        return tf.math.log(tf.where(sizes > 0, sizes, usual + tf.zeros_like(sizes)))

    def _log_prob(self, x: Tensor) -> Tensor:
        distributions = self._at(self._log_size(x[..., self._library, tf.newaxis]))
        return self._join(
            [
                one.log_prob(tf.gather(x, columns, axis=-1))
                for one, columns in zip(distributions, self._columns, strict=True)
            ]
        )

    def _sample_n(self, n: Tensor, seed: Seed = None) -> Tensor:
        first, *seeds = tfp_random.split_seed(
            seed, n=1 + len(self._distributions), salt="of_library"
        )
        sizes = self._distributions[self._own].sample(n, seed=first)
        drawn = []
        for number, one in enumerate(self._at(self._log_size(sizes))):
            if number == self._own:
                drawn.append(sizes)
            elif one.batch_shape.rank == sizes.shape.rank:
                drawn.append(one.sample(seed=seeds[number]))
            else:
                drawn.append(one.sample(n, seed=seeds[number]))
        return self._join(drawn)
