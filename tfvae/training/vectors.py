"""Models of vectors, trained in one call, whose graphs serve every model of the same sizes.

To trace a model takes seconds, and to train one on a small table less than one. A `VectorModel`
keeps the graphs of one shape of model: it trains and evaluates with whatever weights it is given.
"""

import collections
import dataclasses
import math
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from tfvae.likelihoods import Columns
from tfvae.models import VAE, FusedAdam
from tfvae.models.batch import Batch
from tfvae.share import Share
from tfvae.typing import Tensor

# Rows that are evaluated at a time. Always as many, so that what comes out for a row depends on
# nothing else in the data, the rounding of vectorised operations included.
CHUNK = 256
_KEPT = 8
_CLIP_NORM = 10.0

Weights = list[np.ndarray]


@dataclasses.dataclass(frozen=True)
class VectorConfig:
    """What tells the graphs of one model from those of another.

    Attributes:
        features: D.
        latent_dim: d.
        network: a name of `tfvae.networks`.
        likelihood: the name of the likelihood of each column.
        objective: a name of `tfvae.objectives`.
        missing: whether NaN means a value that was not observed.
        batch_size: rows in a step.
        num_samples: K, draws of z for log p(x) and for filled values.
        hidden_share: in training the encoder does not see a value with a probability up to this,
            drawn for each row, while p(x|z) is evaluated at it: so that filling holes is learned
            from tables that have few.
    """

    features: int
    latent_dim: int
    network: str
    likelihood: str
    objective: str
    missing: bool
    batch_size: int
    num_samples: int
    hidden_share: float = 0.0

    def build(self, seed: int = 0) -> VAE:
        """Build the model, with initial weights."""
        names = [str(place) for place in range(self.features)]
        return VAE.for_events(
            (self.features,),
            latent_dim=self.latent_dim,
            network=self.network,
            likelihood=Columns(dict.fromkeys(names, self.likelihood)),
            objective=self.objective,
            missing=self.missing,
            seed=seed,
            dtype="float32",
        )


class VectorModel:
    """The graphs of all models with one `VectorConfig`.

    One thread at a time is in it.

    Args:
        config: of the models.
    """

    def __init__(self, config: VectorConfig):
        self.config = config
        self._lock = threading.Lock()
        self._vae = config.build()
        self._optimizer = FusedAdam(1e-3, epsilon=1e-7)
        self._vae.compile(self._optimizer)
        self._initial = self._vae.get_weights()
        self._run: Any = None
        self._evaluators: dict[str, Any] = {}

    def train(self, x: np.ndarray, *, steps: int, learning_rate: float, seed: int) -> Weights:
        """Train on rows from new initial weights, and return the trained ones.

        The step size rises from 0 in the first twentieth of the steps, and falls to 0 along a
        cosine. A step whose gradient is not finite is left out.

        Args:
            x: float32 `[N, D]`.
            steps: how many.
            learning_rate: the highest step size of Adam.
            seed: of initial weights, order and noise.
        """
        with self._lock:
            self._vae.set_weights(self._new_weights(np.random.default_rng(seed)))
            for variable in self._optimizer.variables:
                variable.assign(tf.zeros_like(variable.value))
            if self._run is None:
                spec = tf.TensorSpec((None, self.config.features), tf.float32)
                scalars = [tf.TensorSpec((), dtype) for dtype in (tf.int32, tf.float32)]
                self._run = tf.function(
                    self._steps,
                    input_signature=[spec, *scalars, tf.TensorSpec((2,), tf.int32)],
                    autograph=False,
                ).get_concrete_function()
            self._run(
                tf.constant(x),
                tf.constant(steps),
                tf.constant(learning_rate),
                tf.constant([seed, 1]),
            )
            return self._vae.get_weights()

    def _new_weights(self, rng: np.random.Generator) -> Weights:
        """Draw the kernels anew, each from the uniform distribution that its values came from."""

        def new(value: np.ndarray) -> np.ndarray:
            if value.ndim < 2 or not value.any():
                return value
            # What starts at 0, such as the kernel of scales, still does.
            bound = math.sqrt(3) * value[value != 0].std()
            return (rng.uniform(-bound, bound, value.shape) * (value != 0)).astype(value.dtype)

        return [new(value) for value in self._initial]

    def _steps(self, x: Tensor, steps: Tensor, learning_rate: Tensor, seed: Tensor) -> Tensor:
        size, fold_in = self.config.batch_size, tf.random.experimental.stateless_fold_in
        share = Share(0, size, size, 1.0)

        def step(number: Tensor) -> tuple[Tensor]:
            seeds = tf.unstack(tf.random.experimental.stateless_split(fold_in(seed, number), 4))
            rows = tf.random.stateless_uniform((size,), seeds[0], 0, tf.shape(x)[0], tf.int32)
            target = tf.gather(x, rows)
            taken = self._vae.differentiate(
                Batch(self._with_holes(target, seeds[2:]), None, target, None), seeds[1], share
            )
            gradients, norm = tf.clip_by_global_norm(taken.gradients, _CLIP_NORM)
            finite = tf.math.is_finite(norm)
            done = tf.cast(number, tf.float32) / tf.cast(steps, tf.float32)
            rate = tf.minimum(done / 0.05, 0.5 * (1 + tf.cos(math.pi * done)))
            self._optimizer.learning_rate.assign(tf.where(finite, learning_rate * rate, 0.0))
            gradients = [tf.where(finite, gradient, 0.0) for gradient in gradients]
            self._optimizer.apply(gradients, self._vae.trainable_variables)
            return (number + 1,)

        return tf.while_loop(
            lambda number: number < steps, step, [tf.constant(0)], parallel_iterations=1
        )[0]

    def _with_holes(self, x: Tensor, seeds: list[Tensor]) -> Tensor:
        most = self.config.hidden_share
        if most == 0:
            return x
        shape = tf.shape(x)
        share = tf.random.stateless_uniform((shape[0], 1), seeds[0], 0.0, most)
        return tf.where(tf.random.stateless_uniform(shape, seeds[1]) < share, math.nan, x)

    # --- evaluation -------------------------------------------------------------------------------

    def codes(self, weights: Weights, x: np.ndarray) -> np.ndarray:
        """Return the mean of q(z|x) `[N, d]` of rows `[N, D]`."""
        return self._in_chunks("codes", self._vae.code, weights, x)

    def decoded(self, weights: Weights, z: np.ndarray) -> np.ndarray:
        """Return the mean of p(x|z) `[N, D]` of latent vectors `[N, d]`."""
        return self._in_chunks("decoded", self._decoded, weights, z)

    def log_probs(self, weights: Weights, x: np.ndarray) -> np.ndarray:
        """Return log p(x) `[N]` of rows, by importance sampling with noise equal for all rows."""
        return self._in_chunks("log_probs", self._log_probs, weights, x)

    def filled(self, weights: Weights, x: np.ndarray) -> np.ndarray:
        """Return rows `[N, D]` with their holes filled by an estimate of E[x|observed]."""
        return self._in_chunks("filled", self._filled, weights, x)

    def drawn(self, weights: Weights, n: int, seed: int) -> np.ndarray:
        """Return rows `[n, D]` drawn from the model."""
        starts = np.arange(0, n, CHUNK)
        seeds = np.stack([np.full(len(starts), seed), starts], axis=1).astype(np.int32)
        with self._lock:
            self._vae.set_weights(weights)
            draw = self._evaluator("drawn", self._drawn, (2,), tf.int32)
            return np.concatenate([draw(tf.constant(one)).numpy() for one in seeds])[:n]

    def _in_chunks(
        self, name: str, function: Callable[[Tensor], Tensor], weights: Weights, rows: np.ndarray
    ) -> np.ndarray:
        shape = (CHUNK, rows.shape[1])
        found = []
        with self._lock:
            self._vae.set_weights(weights)
            evaluate = self._evaluator(name, function, shape, tf.float32)
            for start in range(0, len(rows), CHUNK):
                chunk = np.zeros(shape, np.float32)
                some = rows[start : start + CHUNK]
                chunk[: len(some)] = some
                found.append(evaluate(tf.constant(chunk)).numpy()[: len(some)])
        return np.concatenate(found)

    def _evaluator(
        self, name: str, function: Callable[[Tensor], Tensor], shape: Any, dtype: Any
    ) -> Any:
        if name not in self._evaluators:
            signature = [tf.TensorSpec(shape, dtype)]
            graph = tf.function(function, input_signature=signature, autograph=False)
            self._evaluators[name] = graph.get_concrete_function()
        return self._evaluators[name]

    def _decoded(self, z: Tensor) -> Tensor:
        return self._vae.likelihood_family.mean(self._vae.decode(z))

    def _drawn(self, seed: Tensor) -> Tensor:
        seeds = tf.unstack(tf.random.experimental.stateless_split(seed, 2))
        z = self._vae.prior.sample(CHUNK, seed=seeds[0])
        return self._vae.decode(z).sample(seed=seeds[1])

    def _weighted(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return draws z `[K, B, d]` and their log weights `[K, B]`."""
        q = self._vae.encode(x)
        shape = (self.config.num_samples, 1, self.config.latent_dim)
        # Each half with the other's opposite: an estimate of a mean is off by less.
        half = tf.random.stateless_normal((-(-shape[0] // 2), *shape[1:]), (0, 7))
        noise = tf.concat([half, -half], axis=0)[: shape[0]]
        z = q.mean() + q.stddev() * noise
        log_weight = self._vae.log_likelihood(x, z) + self._vae.prior.log_prob(z) - q.log_prob(z)
        return z, log_weight

    def _log_probs(self, x: Tensor) -> Tensor:
        _, log_weight = self._weighted(x)
        return tf.reduce_logsumexp(log_weight, axis=0) - math.log(self.config.num_samples)

    def _filled(self, x: Tensor) -> Tensor:
        z, log_weight = self._weighted(x)
        family = self._vae.likelihood_family
        estimate = family.mixture_mean(self._vae.decode(z), tf.nn.softmax(log_weight, axis=0))
        return tf.where(tf.math.is_nan(x), estimate, x)


_models: "collections.OrderedDict[VectorConfig, VectorModel]" = collections.OrderedDict()
_models_lock = threading.Lock()


def vector_model(config: VectorConfig) -> VectorModel:
    """Return the graphs of a model: those that are there, if it is one of the last few."""
    with _models_lock:
        if config not in _models:
            _models[config] = VectorModel(config)
        _models.move_to_end(config)
        while len(_models) > _KEPT:
            _models.popitem(last=False)
        return _models[config]
