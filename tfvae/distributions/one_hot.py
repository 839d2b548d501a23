"""Groups of classes as latent vectors: one of each group, or a relaxation that has gradients.

A vector of d = groups · classes numbers holds a one-hot vector for each group, one after the other.
Loading this module loads TensorFlow Probability: import it where a distribution is made.
"""

import math
from typing import Any

import tensorflow as tf
from tensorflow_probability import distributions as tfd
from tensorflow_probability import util as tfp_util

from tfvae.typing import Seed, Tensor

# Below that a share of a relaxed vector is 0 in float32, and its logarithm infinite.
_LEAST = 1e-34


class _OfGroups(tfd.Distribution):
    """Base class of distributions whose events are the vectors of all groups, `[groups · classes]`.

    Args:
        parameters: the arguments of the subclass, by name; `logits` `[..., groups, classes]` and
            `name` among them.
        reparameterization_type: whether gradients run through its draws.
    """

    def __init__(self, parameters: dict[str, Any], reparameterization_type: Any):
        self._logits = tf.convert_to_tensor(parameters["logits"], tf.float32)
        super().__init__(
            dtype=tf.float32,
            reparameterization_type=reparameterization_type,
            validate_args=False,
            allow_nan_stats=True,
            parameters=parameters,
            name=parameters["name"],
        )

    @property
    def logits(self) -> Tensor:
        """Unconstrained log-probabilities, `[..., groups, classes]`."""
        return self._logits

    @property
    def log_probs(self) -> Tensor:
        """Log-probabilities of the classes, `[..., groups, classes]`, nats."""
        return tf.nn.log_softmax(self._logits, axis=-1)

    def _event_shape(self) -> tf.TensorShape:
        groups, classes = self._logits.shape[-2:]
        return tf.TensorShape([groups * classes])

    def _event_shape_tensor(self) -> Tensor:
        return tf.constant(self._event_shape().as_list(), tf.int32)

    def _flat(self, values: Tensor) -> Tensor:
        """Return `[..., groups, classes]` as `[..., groups · classes]`."""
        return tf.reshape(
            values, tf.concat([tf.shape(values)[:-2], self._event_shape_tensor()], axis=0)
        )

    def _grouped(self, z: Tensor) -> Tensor:
        """Return `[..., groups · classes]` as `[..., groups, classes]`."""
        sizes = self._logits.shape[-2:].as_list()
        return tf.reshape(z, tf.concat([tf.shape(z)[:-1], sizes], axis=0))

    def _disturbed(self, n: Tensor, seed: Seed) -> Tensor:
        """Return logits with a draw of Gumbel noise on each, `[n, ..., groups, classes]`."""
        shape = tf.concat([[n], tf.shape(self._logits)], axis=0)
        return self._logits + tfd.Gumbel(0.0, 1.0).sample(shape, seed=seed)


class OneHots(_OfGroups):
    """One class of each group, as one-hot vectors side by side.

    Args:
        logits: unconstrained log-probabilities, `[..., groups, classes]`.
        name: name of the distribution's operations.
    """

    def __init__(self, logits: Tensor, name: str = "OneHots"):
        super().__init__({"logits": logits, "name": name}, tfd.NOT_REPARAMETERIZED)

    @classmethod
    def _parameter_properties(
        cls, dtype: tf.DType, num_classes: int | None = None
    ) -> dict[str, Any]:
        return {"logits": tfp_util.ParameterProperties(event_ndims=2)}

    def _one_hot(self, logits: Tensor) -> Tensor:
        return self._flat(tf.one_hot(tf.argmax(logits, axis=-1), self._logits.shape[-1]))

    def _sample_n(self, n: Tensor, seed: Seed = None) -> Tensor:
        # The class with the highest of log-probability and Gumbel noise is a draw (Gumbel 1954).
        return self._one_hot(self._disturbed(n, seed))

    def _log_prob(self, z: Tensor) -> Tensor:
        return tf.reduce_sum(z * self._flat(self.log_probs), axis=-1)

    def _mean(self) -> Tensor:
        return self._flat(tf.nn.softmax(self._logits, axis=-1))

    def _mode(self) -> Tensor:
        return self._one_hot(self._logits)

    def _variance(self) -> Tensor:
        mean = self._mean()
        return mean * (1 - mean)

    def _stddev(self) -> Tensor:
        return tf.sqrt(self._variance())

    def _entropy(self) -> Tensor:
        log_probs = self.log_probs
        return -tf.reduce_sum(tf.exp(log_probs) * log_probs, axis=(-2, -1))


class RelaxedOneHots(_OfGroups):
    """Vectors inside of the simplex of each group, near its corners at a low temperature τ.

    ``z = softmax((logits + g)/τ)`` with Gumbel noise g: Jang et al. (2017), arXiv:1611.01144, and
    Maddison et al. (2017), arXiv:1611.00712, whose definition 1 has its density. Gradients run
    through z; at τ → 0 it is a draw of `OneHots`, from the same seed the same one.

    Args:
        temperature: τ, positive, `[...]` or a number.
        logits: `[..., groups, classes]`.
        name: name of the distribution's operations.
    """

    def __init__(self, temperature: Tensor, logits: Tensor, name: str = "RelaxedOneHots"):
        self._temperature = tf.convert_to_tensor(temperature, tf.float32)
        parameters = {"temperature": temperature, "logits": logits, "name": name}
        super().__init__(parameters, tfd.FULLY_REPARAMETERIZED)

    @classmethod
    def _parameter_properties(
        cls, dtype: tf.DType, num_classes: int | None = None
    ) -> dict[str, Any]:
        return {
            "temperature": tfp_util.ParameterProperties(),
            "logits": tfp_util.ParameterProperties(event_ndims=2),
        }

    def _sample_n(self, n: Tensor, seed: Seed = None) -> Tensor:
        scaled = self._disturbed(n, seed) / self._temperature[..., None, None]
        return self._flat(tf.nn.softmax(scaled, axis=-1))

    def _log_prob(self, z: Tensor) -> Tensor:
        # ``log (K−1)! + (K−1) log τ + Σ_k [a_k − (τ+1) log z_k] − K log Σ_k exp(a_k − τ log z_k)``
        # of each group, with a its logits.
        log_z = tf.math.log(tf.maximum(self._grouped(z), _LEAST))
        classes = self._logits.shape[-1]
        temperature = self._temperature[..., None, None]
        tilted = self._logits - temperature * log_z
        of_group = tf.reduce_sum(tilted - log_z, axis=-1)
        of_group -= classes * tf.reduce_logsumexp(tilted, axis=-1)
        of_group += math.lgamma(classes) + (classes - 1) * tf.math.log(self._temperature)[..., None]
        return tf.reduce_sum(of_group, axis=-1)


def _kl_of_classes(q: _OfGroups, p: _OfGroups, name: str | None = None) -> Tensor:
    """KL of the classes, summed over the groups: ``Σ π_q (log π_q − log π_p)``, in closed form."""
    with tf.name_scope(name or "kl_of_classes"):
        log_q, log_p = q.log_probs, p.log_probs
        return tf.reduce_sum(tf.exp(log_q) * (log_q - log_p), axis=(-2, -1))


tfd.RegisterKL(OneHots, OneHots)(_kl_of_classes)
# Of the classes that are relaxed, as in Jang et al. (2017), section 3: it is that which a training
# is about, and has less noise than an estimate by the relaxed densities.
tfd.RegisterKL(RelaxedOneHots, RelaxedOneHots)(_kl_of_classes)
