"""Normalizing flows: the networks and bijectors that posteriors and priors share.

Loading this module loads TensorFlow Probability: import it where a flow is made.

The bijectors are not TFP's own, whose conditioner runs once for the value and again for the
log-determinant, and whose events `[N, 1, d]` do not broadcast against a context `[K, c]`, as the
components of a mixture need. `tfb.Chain` and `tfb.Invert` do the rest. Instead of a `tfb.Permute`
between the steps every other step runs from the last dimension to the first: TFP takes the
permutation for a batch, so that slicing a distribution would fail.
"""

import weakref
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import util as tfp_util

# A step scales by exp(±2) at most. Four coupling steps with d = 32, their weights moved at random
# by 0.2, gave log q back within 0.005 nats (median) after float32 had undone them; with exp(±4)
# nothing was left of it.
BOUND = 2.0

# Logit of a gate that has learned nothing, sigmoid(2.2) = 0.90, and how far it may move: the gate
# stays between 0.31 and 0.99. IAF's steps, moved likewise, were undone to within 0.0001 nats.
GATE = 2.2
GATE_BOUND = 3.0


class Conditioner(keras.layers.Layer):
    """A network from z, and optionally a context, to the shift and log-scale of an affine map.

    Two hidden layers of ELUs and a linear layer, all in float32. The first hidden layer is
    ``elu(dense(z) + dense(context))``, so that a context `[B, c]` broadcasts against z
    `[K, B, n]`. The last layer starts small, and with it the map near the identity.

    Args:
        inputs: n, size of z.
        outputs: m, size of shift and of log-scale.
        hidden: width of the two hidden layers.
        context: c, size of the context; 0 for none.
        gated: give ``shift = (1 − g) r`` and ``scale = g`` with ``g = sigmoid(s + 2.2)``, Kingma et
            al. (2016), arXiv:1606.04934, equations 13 and 14; else ``shift = r`` and
            ``scale = exp s``. A scaled tanh bounds s, by 3 in the former and by 2 in the latter.
        reverse: whether the map runs from the last dimension to the first.
        seed: seed of the initial weights; None for Keras' own.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        hidden: int,
        context: int = 0,
        gated: bool = False,
        reverse: bool = False,
        seed: int | Sequence[int] | None = None,
    ):
        super().__init__(dtype="float32", autocast=False)
        self.inputs, self.outputs, self.hidden, self.context = inputs, outputs, hidden, context
        self.gated, self.reverse = gated, reverse
        # Without a seed Keras draws one for each kernel, as `keras.utils.set_random_seed` has it.
        self._seeds = None if seed is None else np.random.SeedSequence(seed)
        self.build()

    def masks(self) -> list[Any]:
        """Return what the three kernels are multiplied by, None where all units connect."""
        return [None, None, None]

    def build(self, input_shape: Any = None) -> None:
        """Create the weights; their shapes do not depend on the input."""
        glorot, small = keras.initializers.GlorotUniform, keras.initializers.RandomNormal
        self.kernels = [
            self._weight((self.inputs, self.hidden), glorot),
            self._weight((self.hidden, self.hidden), glorot),
            self._weight((self.hidden, 2 * self.outputs), small, stddev=0.01),
        ]
        self._masks = self.masks()
        self.biases = [self._weight(kernel.shape[1:]) for kernel in self.kernels]
        if self.context:
            self.context_kernel = self._weight((self.context, self.hidden), glorot)
        self.built = True

    def _weight(self, shape: Any, initializer: Any = None, **options: Any) -> Any:
        if initializer is None:
            initializer = keras.initializers.Zeros()
        else:
            seed = None
            if self._seeds is not None:
                # Layers of one shape must not start alike.
                seed = int(self._seeds.spawn(1)[0].generate_state(1)[0])
            initializer = initializer(seed=seed, **options)
        return self.add_weight(
            shape=shape, initializer=initializer, dtype="float32", autocast=False
        )

    def call(self, z: Any, context: Any = None) -> tuple[Any, Any]:
        """Return shift and log-scale, each `[..., m]`, for z `[..., n]` and context `[..., c]`."""
        first, second, third = (
            tf.convert_to_tensor(kernel) if mask is None else kernel * mask
            for kernel, mask in zip(self.kernels, self._masks, strict=True)
        )
        values = _product(z, first) + self.biases[0]
        if self.context:
            values += _product(context, tf.convert_to_tensor(self.context_kernel))
        # From here on the axes before the last stay as they are.
        rows = tf.nn.elu(tf.reshape(values, (-1, self.hidden)))
        rows = tf.nn.elu(tf.matmul(rows, second) + self.biases[1])
        values = _with_axes_of(values, tf.matmul(rows, third) + self.biases[2])
        shift, log_scale = tf.split(values, 2, axis=-1)
        bound = GATE_BOUND if self.gated else BOUND
        log_scale = bound * tf.tanh(log_scale / bound)
        if self.gated:
            # 1 − sigmoid(s) is sigmoid(−s), and log sigmoid(s) has a form that never rounds to 0.
            shift *= tf.sigmoid(-(log_scale + GATE))
            log_scale = tf.math.log_sigmoid(log_scale + GATE)
        return shift, log_scale


def _product(values: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """Return `[..., n]` times `[n, m]`, `[..., m]`.

    Not by `tf.tensordot`, which makes some twenty operations of it where a size is not known before
    the graph runs.
    """
    if values.shape.rank == 2:
        return tf.matmul(values, kernel)
    rows = tf.matmul(tf.reshape(values, (-1, kernel.shape[0])), kernel)
    return _with_axes_of(values, rows)


def _with_axes_of(values: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
    """Return rows `[N, m]` with the axes of values `[..., n]` before the last: `[..., m]`."""
    if values.shape.rank == 2:
        return rows
    restored = tf.reshape(rows, tf.concat([tf.shape(values)[:-1], rows.shape[1:]], axis=0))
    restored.set_shape(values.shape[:-1].concatenate(rows.shape[1:]))
    return restored


class MADE(Conditioner):
    """A masked autoencoder: outputs i depend on z_1 … z_{i−1} and on the context alone.

    Germain et al. (2015), arXiv:1502.03509, equations 12 and 13. Hidden units of degree 0 see no z:
    they carry the context to the first output. With d = 1 nothing is left of z, and the kernel
    that would see it stays as it is. In reverse, outputs i depend on z_{i+1} … z_d.

    Args:
        size: d, size of z, of shift and of log-scale.
        **kwargs: those of `Conditioner`.
    """

    def __init__(self, size: int, **kwargs: Any):
        super().__init__(size, size, **kwargs)

    def masks(self) -> list[Any]:
        """Return the three masks of zeros and ones."""
        inputs = np.arange(1, self.inputs + 1)[:: -1 if self.reverse else 1]
        # Spread evenly, so that few hidden units see the whole range of degrees as well.
        hidden = np.arange(self.hidden) * self.inputs // self.hidden
        outputs = np.tile(inputs, 2)
        pairs = [
            np.less_equal.outer(inputs, hidden),
            np.less_equal.outer(hidden, hidden),
            np.less.outer(hidden, outputs),
        ]
        return [pair.astype(np.float32) for pair in pairs]


class _Affine(tfb.Bijector):
    """Base class of one step: an affine map whose shift and scale a conditioner gives.

    Only the log-determinant of the forward map is defined: TFP has z at hand when it wants the
    inverse's, and the conditioner has just seen that z.

    Args:
        conditioner: a `Conditioner`.
        context: `[..., c]`, or None.
        name: name of the bijector's operations.
    """

    def __init__(self, conditioner: Conditioner, context: Any = None, name: str = "affine"):
        parameters = {"conditioner": conditioner, "context": context, "name": name}
        self._conditioner = conditioner
        self._context = context
        self._terms = _remember_last(self._compute_terms)
        super().__init__(forward_min_event_ndims=1, parameters=parameters, name=name)

    @classmethod
    def _parameter_properties(cls, dtype: Any) -> dict[str, Any]:
        return {"context": tfp_util.ParameterProperties(event_ndims=1)}

    # TFP keeps one memory of values for all bijectors that are equal, and those of one conditioner
    # would be after its weights have changed as well.
    def __eq__(self, other: Any) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)

    def _compute_terms(self, z: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return self._conditioner(z, self._context)

    def _forward_log_det_jacobian(self, z: tf.Tensor) -> tf.Tensor:
        return tf.reduce_sum(self._terms(z)[1], axis=-1)


class Autoregressive(_Affine):
    """``y_i = z_i exp s_i(z_1 … z_{i−1}) + t_i(z_1 … z_{i−1})`` with t and s from a `MADE`.

    Forward in one pass of the network; the inverse takes d. Forward it is a step of the inverse
    autoregressive flow (Kingma et al. 2016, arXiv:1606.04934); `tfb.Invert` of it one of the masked
    autoregressive flow (Papamakarios et al. 2017, arXiv:1705.07057).
    """

    def _forward(self, z: tf.Tensor) -> tf.Tensor:
        shift, log_scale = self._terms(z)
        return z * tf.exp(log_scale) + shift

    def _inverse(self, y: tf.Tensor) -> tf.Tensor:
        def refine(z: tf.Tensor) -> tuple[tf.Tensor]:
            shift, log_scale = self._compute_terms(z)
            return ((y - shift) * tf.exp(-log_scale),)

        # Pass i makes the i-th of z right, and leaves those before it as they are. The first also
        # broadcasts y against the context, which the loop's variable could not do.
        (z,) = refine(tf.zeros_like(y))
        passes = self._conditioner.inputs - 1
        (z,) = tf.while_loop(lambda _: True, refine, (z,), maximum_iterations=passes)
        return z


class Coupling(_Affine):
    """``y = (z_a, z_b exp s(z_a) + t(z_a))`` for the halves a and b of z.

    Dinh et al. (2017), arXiv:1605.08803, equations 4 and 5. One pass of the network either way.
    """

    def _halves(self, z: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        sizes = [self._conditioner.inputs, self._conditioner.outputs]
        if self._conditioner.reverse:
            moved, kept = tf.split(z, sizes[::-1], axis=-1)
        else:
            kept, moved = tf.split(z, sizes, axis=-1)
        return kept, moved

    def _join(self, kept: tf.Tensor, moved: tf.Tensor) -> tf.Tensor:
        if self._context is not None:
            # It may have given the moved half axes that the kept one lacks.
            kept += tf.zeros_like(moved[..., :1])
        halves = [kept, moved]
        return tf.concat(halves[:: -1 if self._conditioner.reverse else 1], axis=-1)

    def _compute_terms(self, z: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return super()._compute_terms(self._halves(z)[0])

    def _forward(self, z: tf.Tensor) -> tf.Tensor:
        kept, moved = self._halves(z)
        shift, log_scale = self._terms(z)
        return self._join(kept, moved * tf.exp(log_scale) + shift)

    def _inverse(self, y: tf.Tensor) -> tf.Tensor:
        kept, moved = self._halves(y)
        shift, log_scale = self._compute_terms(y)
        return self._join(kept, (moved - shift) * tf.exp(-log_scale))


def _remember_last(function: Callable[[tf.Tensor], Any]) -> Callable[[tf.Tensor], Any]:
    """Call once for a tensor that is asked for twice in a row, for value and log-determinant."""
    # By a weak reference: TFP's memory holds the bijector for as long as there is the tensor.
    seen: Any = None
    result: Any = None

    def call(z: tf.Tensor) -> Any:
        nonlocal seen, result
        if seen is None or z is not seen():
            seen, result = weakref.ref(z), function(z)
        return result

    return call


class Flow(keras.layers.Layer):
    """Several steps in a row, every other one in reverse.

    Up to the order of what comes out, that is a flow whose steps are alike, with the order of the
    dimensions reversed between them.

    Args:
        step: `Autoregressive` or `Coupling`; the latter needs d ≥ 2, and moves every dimension
            only with two steps or more.
        size: d.
        flows: number of steps.
        hidden: width of the hidden layers; see `Conditioner`.
        context: size of the context; 0 for none.
        gated: see `Conditioner`.
        seed: seed of the initial weights; None for Keras' own.
    """

    def __init__(
        self,
        step: type[Autoregressive] | type[Coupling],
        size: int,
        *,
        flows: int,
        hidden: int,
        context: int = 0,
        gated: bool = False,
        seed: int | None = None,
    ):
        super().__init__(dtype="float32", autocast=False)
        self.step = step

        def conditioner(number: int) -> Conditioner:
            options: dict[str, Any] = {
                "hidden": hidden,
                "context": context,
                "gated": gated,
                "reverse": number % 2 == 1,
                "seed": None if seed is None else (seed, number),
            }
            if step is Autoregressive:
                return MADE(size, **options)
            return Conditioner(size // 2, size - size // 2, **options)

        self.conditioners = [conditioner(number) for number in range(flows)]
        self.built = True

    def bijector(self, context: Any = None) -> tfb.Bijector:
        """Return the flow under a context `[..., c]`: a bijector of events `[d]`.

        Forward takes one pass of each network. After a change of weights, ask for a new one:
        bijectors of TFP remember what they have computed.
        """
        steps = [self.step(conditioner, context) for conditioner in self.conditioners]
        # Its own name would grow with each step, and it is in the names of all operations: most of
        # a SavedModel's graph.
        return tfb.Chain(steps[::-1], name="flow")
