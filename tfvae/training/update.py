"""From a batch to one update of the weights, on one device or on many."""

from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tfvae.errors import InputError
from tfvae.models import LatentVariableModel, keras_internals
from tfvae.models.batch import Batch
from tfvae.models.step import Losses, is_short, scales_loss, weighed
from tfvae.models.tensorflow_internals import borrow_gradients
from tfvae.share import Share, share, share_of_device, summed
from tfvae.training.replicas import first, worker_of
from tfvae.typing import Tensor


class Sums(NamedTuple):
    """What is added up over the events of batches, float64.

    Attributes:
        loss: the loss of each event times its weight, and regularisation times that weight.
        events: how many.
        weight: their sample weights, 1 each without any.
        terms: the model's terms times the weight, by name.
    """

    loss: Any
    events: Any
    weight: Any
    terms: dict[str, Any]

    @classmethod
    def none(cls, term_names: tuple[str, ...]) -> "Sums":
        """Return the sums of no batch, as NumPy has them."""
        return cls.of_vector(np.zeros(3 + len(term_names)), term_names)

    def vector(self) -> Any:
        """Return the sums as one vector, for graphs and checkpoints."""
        return [self.loss, self.events, self.weight, *self.terms.values()]

    @classmethod
    def of_vector(cls, vector: Any, term_names: tuple[str, ...]) -> "Sums":
        """Return what `vector` made a vector of."""
        loss, events, weight, *terms = vector
        return cls(loss, events, weight, dict(zip(term_names, terms, strict=True)))


class Outcome(NamedTuple):
    """What came of one batch.

    Attributes:
        sums: the vector of its `Sums`.
        problem: 0, or one more than the place in `Updates.problems` of what is not finite.
        extremes: the lowest and the highest finite value of the events, `[2]`, where there is a
            problem.
        skipped: 1 where the gradient was too long for an update, else 0.
    """

    sums: Tensor
    problem: Tensor
    extremes: Tensor
    skipped: Tensor | int = 0


class Updates:
    """Takes steps with a model, in a graph, on all replicas of a strategy.

    Each replica differentiates its share of the batch. Gradients and terms are summed over the
    replicas, and one update follows: clipping and accumulation see the gradient of the whole batch.
    An update that would make the weights NaN is not made.

    Args:
        model: compiled and built, in the scope of a `tf.distribute.Strategy` where there is one.

    Attributes:
        strategy: the one that the model was made under.
        problems: what may not be finite, in the order in which it is looked for.

    Raises:
        InputError: if several replicas cannot train the model, or this is such a scope.
    """

    def __init__(self, model: LatentVariableModel):
        if tf.distribute.has_strategy():
            raise InputError(
                "the model is made and compiled in the scope of a strategy, and trained outside "
                "of it: call train after the with block"
            )
        self.model = model
        self._gradients: list[Any] = []  # of the graphs that take steps
        self.strategy = strategy = model.distribute_strategy
        self.replicas = strategy.num_replicas_in_sync
        self.worker, self.workers = worker_of(strategy)
        # The ELBO is the sum of the others.
        parts = [name for name in model.term_names if name != "elbo"]
        self.problems = [*parts, "loss", "learning rate", "gradient"]
        if type(model).train_step is not LatentVariableModel.train_step:
            raise InputError(
                f"{type(model).__name__} has a train_step of its own, which fit calls and this "
                "training does not: override differentiate, which both call"
            )
        if self.replicas > 1:
            _check_shareable(model, self.replicas)
        metrics = keras_internals.compiled_metrics(model)
        if metrics is not None and not metrics.built:
            # Keras would make their variables in the first step; a checkpoint brings them before.
            blank = tf.zeros((1, *model.event_shape))
            metrics.build(blank, blank)

    def train(self, batch: Any, index: Any = 0, held: Share | None = None) -> Outcome:
        """Update the weights from one batch, unless it has a problem.

        Args:
            batch: as of a data set, its values checked; of several workers it may be the rows of
                this one.
            index: which batch of the data; left aside.
            held: which rows of the whole batch these are; None where `batch` is all of it.
        """
        del index
        seed = self.model.next_training_seed()

        def differentiate(batch: Any, seed: Tensor) -> Any:
            own, rows = self._share_of(batch, held)
            taken = self.model.differentiate(own, seed, rows)
            sums = self._sums(own, rows, taken.losses, taken.losses.loss, True)
            return summed([taken.gradients, list(taken.losses.statistics), sums])

        gradients, statistics, sums = first(
            self.strategy, self.strategy.run(differentiate, args=(batch, seed))
        )
        problem = self._problem(sums, gradients)

        def update() -> Tensor:
            # Outside of replicas Keras neither sums the gradients again nor clips each's by itself.
            self.model.optimizer.apply(gradients, self.model.trainable_variables)
            self._gradients += borrow_gradients()  # the optimizer's, of its sums over replicas
            self.model.follow(statistics)
            return problem

        fine = tf.equal(problem, 0)
        if self.model.skip_norm is None:
            problem = tf.cond(fine, update, lambda: problem)
            return Outcome(sums, problem, self._extremes(batch, problem))
        short = is_short(self.model, gradients)
        problem = tf.cond(fine & short, update, lambda: problem)
        skipped = tf.cast(fine & tf.logical_not(short), tf.int32)
        return Outcome(sums, problem, self._extremes(batch, problem), skipped)

    def test(self, batch: Any, index: Any, held: Share | None = None) -> Outcome:
        """Evaluate one batch; its loss is the negative ELBO, whatever the training objective is.

        Args:
            batch: as for `train`.
            index: which batch of the data, for the noise.
            held: as for `train`.
        """
        seed = self.model.validation_seed(index)

        def evaluate(batch: Any, seed: Tensor) -> Tensor:
            own, rows = self._share_of(batch, held)
            share = rows if self.replicas > 1 else None
            losses = self.model.batch_losses(own, seed, False, share)
            return summed(self._sums(own, rows, losses, losses.validation_loss, False))

        sums = first(self.strategy, self.strategy.run(evaluate, args=(batch, seed)))
        # A model that has diverged shows it in the figures.
        return Outcome(sums, tf.constant(0), tf.zeros(2))

    def no_sums(self) -> np.ndarray:
        """Return the sums of no batch."""
        return np.asarray(Sums.none(self.model.term_names).vector())

    def logs(self, sums: np.ndarray) -> dict[str, float]:
        """Return means over events, by name, of the sums of some batches: as `fit` reports them."""
        named = Sums.of_vector(sums, self.model.term_names)
        with np.errstate(divide="ignore", invalid="ignore"):
            # As in `fit`, whose metric of the loss is 0 where nothing counts.
            logs = {"loss": named.loss / named.weight if named.weight else 0.0}
            logs |= {name: term / named.weight for name, term in named.terms.items()}
        metrics = keras_internals.compiled_metrics(self.model)
        if metrics is not None:
            logs |= metrics.result()
        return {name: float(value) for name, value in logs.items()}

    def events(self, sums: np.ndarray) -> int:
        """Return how many events the sums are of."""
        return int(Sums.of_vector(sums, self.model.term_names).events)

    def _share_of(self, batch: Any, held: Share | None) -> tuple[Batch, Share]:
        """Return what this replica takes of a batch, and which rows of the whole it is."""
        whole = self.model.tensors(batch, guard=False)
        count = tf.shape(whole.x)[0]
        if self.replicas == 1:
            return whole, Share(0, count, count, 1.0)
        index = tf.distribute.get_replica_context().replica_id_in_sync_group
        if held is None:
            rows = share(count, index, self.replicas)
            begin = rows.start
        else:
            devices = self.replicas // self.workers
            begin, rows = share_of_device(held, index % devices, devices)
        own = slice(begin, begin + rows.stop - rows.start)
        return Batch(*(None if tensor is None else tensor[own] for tensor in whole)), rows

    def _sums(
        self, own: Batch, rows: Share, losses: Losses, loss: Tensor, regularised: bool
    ) -> Tensor:
        """Compute the `Sums` of a share, one vector, float64."""
        metrics = keras_internals.compiled_metrics(self.model)
        if metrics is not None:
            metrics.update_state(*self.model.compared(own, losses), own.weight)
        ones = tf.ones(tf.shape(own.x)[:1])
        weight = tf.reduce_sum(weighed(ones, own.weight))
        total = tf.reduce_sum(weighed(loss, own.weight))
        if regularised and self.model.losses:
            total += weight * self.model.regularisation()
        sums = Sums(
            total,
            tf.reduce_sum(ones),
            weight,
            {
                name: tf.reduce_sum(weighed(losses.terms[name], own.weight))
                for name in self.model.term_names
            },
        )
        # A replica without rows of its own holds a row that does not count.
        return tf.cast(rows.counts * tf.stack(sums.vector()), tf.float64)

    def _problem(self, sums: Tensor, gradients: list[Tensor]) -> Tensor:
        """Return 0, or the number of the first thing that is not finite."""
        named = Sums.of_vector(tf.unstack(sums), self.model.term_names)
        values = [term for name, term in named.terms.items() if name != "elbo"]
        values.append(named.loss)
        values.append(tf.cast(self.model.optimizer.learning_rate, tf.float64))
        # A loss scale is found by gradients that overflow.
        if not scales_loss(self.model.optimizer):
            values.append(tf.linalg.global_norm(gradients))
        wrong = tf.stack([tf.logical_not(tf.math.is_finite(value)) for value in values])
        first_wrong = tf.argmax(tf.cast(wrong, tf.int32), output_type=tf.int32)
        return tf.where(tf.reduce_any(wrong), first_wrong + 1, 0)

    def _extremes(self, batch: Any, problem: Tensor) -> Tensor:
        def extremes() -> Tensor:
            x = self.model.tensors(batch, guard=False).x
            x = tf.where(tf.math.is_finite(x), x, 0.0)
            return tf.stack([tf.reduce_min(x), tf.reduce_max(x)])

        return tf.cond(problem > 0, extremes, lambda: tf.zeros(2))


def _check_shareable(model: LatentVariableModel, replicas: int) -> None:
    """Check that a batch may be shared out.

    Raises:
        InputError: if it may not.
    """
    for part in (getattr(model, "objective", None), model.likelihood_family):
        if getattr(part, "couples_batch", False):
            raise InputError(
                f"{type(part).__name__} looks at all events of a batch together, and each of "
                f"{replicas} devices would see only some: train it on one device"
            )
    if keras_internals.compiled_metrics(model) is not None:
        raise InputError(
            f"metrics given to compile are not summed over {replicas} devices: leave them out, or "
            "train on one device"
        )
