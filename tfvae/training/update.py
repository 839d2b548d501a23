"""From a batch to one update of the weights, on one device or on many."""

from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from tfvae.errors import InputError
from tfvae.models.step import ImageTrainer, Step, weighed
from tfvae.share import Share, share_of_worker, summed
from tfvae.training.replicas import first, worker_of


class Outcome(NamedTuple):
    """What came of one batch.

    Attributes:
        sums: over its images, float64; `Updates.logs` reads them.
        problem: 0, or one more than the place in `Updates.problems` of what is wrong.
        extremes: the lowest and the highest value of images and of labels, `[4]`, where there is a
            problem.
    """

    sums: tf.Tensor
    problem: tf.Tensor
    extremes: tf.Tensor


class Updates:
    """Takes steps with a model, in a graph, on all replicas of a strategy.

    Each replica differentiates its share of the batch. Gradients and terms are summed over the
    replicas, and one update follows: clipping and accumulation see the gradient of the whole batch.
    An update that would make the weights NaN is not made.

    Args:
        model: compiled and built, in the scope of a `tf.distribute.Strategy` where there is one.

    Attributes:
        strategy: the one that the model was made under.
        problems: what may be wrong with a batch, in the order in which it is looked for.

    Raises:
        InputError: if several replicas cannot train the model, or this is such a scope.
    """

    def __init__(self, model: ImageTrainer):
        if tf.distribute.has_strategy():
            raise InputError(
                "the model is made and compiled in the scope of a strategy, and trained outside "
                "of it: call train after the with block"
            )
        self.model = model
        self.strategy = strategy = model.distribute_strategy
        self.replicas = strategy.num_replicas_in_sync
        self.worker, self.workers = worker_of(strategy)
        # The ELBO is the sum of the others.
        parts = [name for name in model.term_names if name != "elbo"]
        self.problems = ["images", "labels", *parts, "loss", "gradient"]
        if type(model).train_step is not ImageTrainer.train_step:
            raise InputError(
                f"{type(model).__name__} has a train_step of its own, which fit calls and this "
                "training does not: override differentiate, which both call"
            )
        if self.replicas > 1:
            _check_shareable(model, self.replicas)
        metrics = model._compile_metrics
        if metrics is not None and not metrics.built:
            # Keras would make their variables in the first step; a checkpoint brings them before.
            blank = tf.zeros((1, *model.image_shape))
            metrics.build(blank, blank)

    def train(self, batch: Any, index: Any = 0, total: Any = None) -> Outcome:
        """Update the weights from one batch, unless it has a problem.

        Args:
            batch: as of a data set; of several workers it may be the rows of this one.
            index: which batch of the data; left aside.
            total: rows of the whole batch; None where `batch` is all of it.
        """
        del index
        seed = self.model.next_training_seed()

        def differentiate(batch: Any, seed: tf.Tensor) -> Any:
            own, rows = self._share_of(batch, total)
            gradients, loss, step = self.model.differentiate(own, seed, rows)
            return summed([*gradients, self._sums(own, rows, step, loss)])

        *gradients, sums = first(
            self.strategy, self.strategy.run(differentiate, args=(batch, seed))
        )
        problem = self._problem(sums, gradients)

        def update() -> tf.Tensor:
            # Outside of replicas Keras neither sums the gradients again nor clips each's by itself.
            self.model.optimizer.apply(gradients, self.model.trainable_variables)
            return problem

        problem = tf.cond(tf.equal(problem, 0), update, lambda: problem)
        return Outcome(sums, problem, self._extremes(batch, problem))

    def test(self, batch: Any, index: Any, total: Any = None) -> Outcome:
        """Evaluate one batch; its loss is the negative ELBO, whatever the training objective is.

        Args:
            batch: as for `train`.
            index: which batch of the data, for the noise.
            total: as for `train`.
        """
        seed = self.model.validation_seed(index)

        def evaluate(batch: Any, seed: tf.Tensor) -> tf.Tensor:
            own, rows = self._share_of(batch, total)
            x, label, sample_weight = own
            step = self.model._step(x, label, seed, False, rows if self.replicas > 1 else None)
            loss = tf.reduce_sum(weighed(step.validation_loss, sample_weight))
            loss *= rows.counts / tf.cast(rows.total, tf.float32)
            return summed(self._sums(own, rows, step, loss))

        sums = first(self.strategy, self.strategy.run(evaluate, args=(batch, seed)))
        # A model that has diverged shows it in the figures; foreign images end an evaluation.
        problem = self._problem(sums)
        problem = tf.where(problem > 2, 0, problem)
        return Outcome(sums, problem, self._extremes(batch, problem))

    def no_sums(self) -> np.ndarray:
        """Give the sums of no batch."""
        return np.zeros(len(self.model.term_names) + 5)

    def logs(self, sums: np.ndarray) -> dict[str, float]:
        """Give means over images, by name, of the sums of some batches: as `fit` reports them."""
        loss, count, *terms, weight, _, _ = sums
        with np.errstate(divide="ignore", invalid="ignore"):
            logs = {"loss": loss / count}
            logs |= {n: t / weight for n, t in zip(self.model.term_names, terms, strict=True)}
        if self.model._compile_metrics is not None:
            logs |= self.model._compile_metrics.result()
        return {name: float(value) for name, value in logs.items()}

    @staticmethod
    def images(sums: np.ndarray) -> int:
        """Give how many images the sums are of."""
        return int(sums[1])

    def complaint(self, problem: int, extremes: np.ndarray) -> str:
        """Say in one line what is wrong with the images or labels of a batch."""
        model, (low, high, first_label, last_label) = self.model, extremes
        if self.problems[problem - 1] == "labels":
            complaint = model.label_complaint(first_label, last_label)
            fits = first_label >= 0 and last_label < (model.num_classes or 0)
        else:
            family = model.likelihood_family
            complaint = family.support.complaint(type(family).__name__, low, high)
            fits = bool(family.support.admits([low, high]))
        return f"another process: {complaint}" if fits and self.workers > 1 else complaint

    def _share_of(self, batch: Any, total: Any) -> tuple[Any, Share]:
        """Give what this replica takes of images, labels and weights, and which rows they are."""
        x, label, sample_weight = self.model.unpack(batch)
        held = tf.shape(x)[0]
        if self.replicas == 1:
            return (x, label, sample_weight), Share(0, held, held, 1.0)
        index = tf.distribute.get_replica_context().replica_id_in_sync_group
        if total is None:
            begin, rows = share_of_worker(held, index, self.replicas)
        else:
            begin, rows = share_of_worker(total, index, self.replicas, self.worker, self.workers)
        own = slice(begin, begin + rows.stop - rows.start)
        x, label, sample_weight = (
            None if tensor is None else tensor[own] for tensor in (x, label, sample_weight)
        )
        return (x, label, sample_weight), rows

    def _sums(self, own: Any, rows: Share, step: Step, loss: tf.Tensor) -> tf.Tensor:
        """Give sums over the images of a share, float64.

        They are of the loss; of 1; of each term times the sample weight; of that weight; and of 1
        for images, and for labels, that the model is not made for.
        """
        x, label, sample_weight = own
        if self.model._compile_metrics is not None:
            self.model._compile_metrics.update_state(x, step.reconstruction(), sample_weight)
        ones = tf.ones(tf.shape(x)[:1])
        terms = [weighed(step.terms[name], sample_weight) for name in self.model.term_names]
        foreign = tf.logical_not(self.model.likelihood_family.support.admits(x))
        unknown = False if label is None else tf.logical_not(self.model.are_labels(label))
        sums = [tf.reduce_sum(values) for values in (ones, *terms, weighed(ones, sample_weight))]
        # `loss` is this share's part of a mean over the whole batch, and knows what counts.
        sums = [loss * tf.cast(rows.total, tf.float32), *(rows.counts * one for one in sums)]
        sums += [tf.cast(flag, tf.float32) for flag in (foreign, unknown)]
        return tf.cast(tf.stack(sums), tf.float64)

    def _problem(self, sums: tf.Tensor, gradients: list[tf.Tensor] | None = None) -> tf.Tensor:
        """Give 0, or the number of the first problem."""
        loss, terms = sums[0], sums[2:-3]
        parts = [
            term
            for name, term in zip(self.model.term_names, tf.unstack(terms), strict=True)
            if name != "elbo"
        ]
        wrong = [sums[-2] > 0, sums[-1] > 0]
        wrong += [tf.logical_not(tf.math.is_finite(value)) for value in (*parts, loss)]
        # A loss scale is found by gradients that overflow.
        if gradients is not None and not _is_scaled(self.model.optimizer):
            wrong.append(tf.logical_not(tf.math.is_finite(tf.linalg.global_norm(gradients))))
        numbers = tf.range(1, len(wrong) + 1)
        least = tf.reduce_min(tf.where(tf.stack(wrong), numbers, len(wrong) + 1))
        return tf.where(least > len(wrong), 0, least)

    def _extremes(self, batch: Any, problem: tf.Tensor) -> tf.Tensor:
        def extremes() -> tf.Tensor:
            x, label, _ = self.model.unpack(batch)
            label = tf.zeros(1) if label is None else tf.cast(label, tf.float32)
            return tf.stack([f(t) for t in (x, label) for f in (tf.reduce_min, tf.reduce_max)])

        return tf.cond(problem > 0, extremes, lambda: tf.zeros(4))


def _is_scaled(optimizer: Any) -> bool:
    return isinstance(optimizer, keras.optimizers.LossScaleOptimizer)


def _check_shareable(model: ImageTrainer, replicas: int) -> None:
    """Check that a batch may be shared out.

    Raises:
        InputError: if it may not.
    """
    for part in (getattr(model, "objective", None), model.likelihood_family):
        if getattr(part, "couples_batch", False):
            raise InputError(
                f"{type(part).__name__} looks at all images of a batch together, and each of "
                f"{replicas} devices would see only some: train it on one device"
            )
    if model._compile_metrics is not None:
        raise InputError(
            f"metrics given to compile are not summed over {replicas} devices: leave them out, or "
            "train on one device"
        )
