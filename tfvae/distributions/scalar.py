"""What the distributions of scalar values that are written here share.

Loading this module loads TensorFlow Probability: import it where a distribution is made.
"""

from typing import Any

import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tfvae.typing import Tensor


class ScalarDistribution(tfd.Distribution):
    """Base class of distributions whose events are scalars, without checks of their arguments.

    Args:
        parameters: the arguments of the subclass, by name, `name` among them.
        dtype: of its values.
        reparameterization_type: whether gradients run through its draws; by default they do not.
    """

    def __init__(
        self,
        parameters: dict[str, Any],
        *,
        dtype: tf.DType = tf.float32,
        reparameterization_type: Any = tfd.NOT_REPARAMETERIZED,
    ):
        super().__init__(
            dtype=dtype,
            reparameterization_type=reparameterization_type,
            validate_args=False,
            allow_nan_stats=True,
            parameters=parameters,
            name=parameters["name"],
        )

    def _event_shape(self) -> tf.TensorShape:
        return tf.TensorShape([])

    def _event_shape_tensor(self) -> Tensor:
        return tf.constant([], tf.int32)
