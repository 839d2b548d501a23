"""Adam as one operation of TensorFlow for each weight."""

from typing import Any

import keras
import tensorflow as tf

from tfvae.distributions.family import PACKAGE
from tfvae.models import keras_internals
from tfvae.typing import Tensor

# The types of weights that TensorFlow's operation takes.
_DTYPES = (tf.float16, tf.bfloat16, tf.float32, tf.float64)

# Keras names variables by their optimizer's class, and this one's are to be Adam's.
_ARGUMENTS_BEFORE_NAME = 15


class _Powers:
    """Adam's two powers β₁ᵗ and β₂ᵗ, computed once for all weights of an update."""

    def __init__(self) -> None:
        self.of_update: tuple[Tensor, Tensor] | None = None


@keras.saving.register_keras_serializable(PACKAGE)
class FusedAdam(keras.optimizers.Adam):
    """`keras.optimizers.Adam`, whose update of a weight is one operation and one pass.

    Keras computes the same formula in twelve operations, each a pass over the weights:
    ``m += (g − m)(1 − β₁)``, ``v += (g² − v)(1 − β₂)`` and ``w −= η √(1 − β₂ᵗ)/(1 − β₁ᵗ) · m /
    (√v + ε)``. Options, clipping, weight decay, averages, variables and their names are those of
    Keras, and either goes on from what the other has saved. AMSGrad, sparse gradients and weights
    that a `tf.distribute.Strategy` keeps on several devices are updated by Keras.

    Args:
        *args: those of `keras.optimizers.Adam`.
        **kwargs: those of `keras.optimizers.Adam`.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        if len(args) < _ARGUMENTS_BEFORE_NAME:
            kwargs.setdefault("name", "adam")
        super().__init__(*args, **kwargs)
        self._powers = _Powers()

    def apply(self, grads: Any, trainable_variables: Any = None) -> None:
        """Update weights by their gradients, as `keras.optimizers.Optimizer.apply` does."""
        self._powers.of_update = None
        try:
            super().apply(grads, trainable_variables)
        finally:
            self._powers.of_update = None

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Update one weight; see `keras.optimizers.Optimizer.update_step`."""
        slots = [slot.value for slot in keras_internals.adam_slots(self, variable)]
        weight = variable.value if isinstance(variable, keras.Variable) else variable
        if (
            self.amsgrad
            or isinstance(gradient, tf.IndexedSlices)
            or weight.dtype not in _DTYPES
            or any(isinstance(one, tf.distribute.DistributedValues) for one in (weight, *slots))
        ):
            super().update_step(gradient, variable, learning_rate)
            return
        dtype = weight.dtype
        if self._powers.of_update is None:
            step = tf.cast(self.iterations + 1, tf.float32)
            self._powers.of_update = (tf.pow(self.beta_1, step), tf.pow(self.beta_2, step))
        beta_1_power, beta_2_power = (tf.cast(power, dtype) for power in self._powers.of_update)
        tf.raw_ops.ResourceApplyAdam(
            var=weight.handle,
            m=slots[0].handle,
            v=slots[1].handle,
            beta1_power=beta_1_power,
            beta2_power=beta_2_power,
            lr=tf.cast(learning_rate, dtype),
            beta1=tf.cast(self.beta_1, dtype),
            beta2=tf.cast(self.beta_2, dtype),
            epsilon=tf.cast(self.epsilon, dtype),
            grad=tf.cast(gradient, dtype),
        )
