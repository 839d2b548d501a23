"""The one training step, and what it takes in: images with their shape and support checked.

`fit` and `tfvae.training.train` both take the step of this module.
"""

import contextlib
import dataclasses
import re
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfvae.errors import InputError
from tfvae.likelihoods import Likelihood
from tfvae.share import Share

# Marks the message of an assertion inside a graph as one for the user.
_MARK = "input error: "
_LABEL = "label"


@dataclasses.dataclass(frozen=True)
class Step:
    """What one batch gives, before anything is averaged.

    Attributes:
        loss: what training minimises, `[B]`.
        validation_loss: what `val_loss` reports, `[B]`: for a VAE the negative ELBO at beta = 1.
        terms: named terms to report, each `[B]`, in nats.
        reconstruction: gives `[B, H, W, C]` for the user's own metrics, when there are any.
    """

    loss: tf.Tensor
    validation_loss: tf.Tensor
    terms: dict[str, tf.Tensor]
    reconstruction: Callable[[], tf.Tensor]


class ImageTrainer(keras.Model):
    """A `keras.Model` that trains on images by its own objective.

    A subclass says what a batch gives, in `_step`, and builds itself for a shape of images.

    Attributes:
        term_names: the terms that `_step` reports.
        likelihood_family: p(x|z), whose support the images must lie in.
        image_shape: (H, W, C), None until the model is built.
        num_classes: how many labels a conditional model knows, None for one without labels.
        seed: seed of the model's own noise, or None.
    """

    term_names: tuple[str, ...] = ()
    likelihood_family: Likelihood
    image_shape: Any
    num_classes: int | None
    seed: int | None

    def _make_training_state(self, seed: int | None) -> None:
        """Make the seeds and metrics; a subclass's constructor calls it."""
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        self._validation_seeds = keras.random.SeedGenerator(_validation_seed(seed))
        self._term_means = [keras.metrics.Mean(name=name) for name in self.term_names]

    # --- images in --------------------------------------------------------------------------------

    def _check_shape(self, shape: Any) -> None:
        shape = tuple(shape)
        if self.image_shape is None or (len(shape) == 4 and shape[1:] == self.image_shape):
            return
        advice = ""
        if len(shape) == 3 and self.image_shape in ((*shape[1:], 1), shape):
            advice = ": add the missing axis, " + (
                "x[None]" if shape == self.image_shape else "x[..., None]"
            )
        raise InputError(
            f"expected images [batch, {', '.join(map(str, self.image_shape))}]; "
            f"received shape [{', '.join(map(str, shape))}]{advice}"
        )

    def _images(self, x: Any) -> tf.Tensor:
        """Give `x` as a float32 tensor `[B, H, W, C]`, the model built for it."""
        x = tf.cast(tf.convert_to_tensor(x), tf.float32)
        if self.image_shape is None:
            self.build(x.shape)
        if x.shape.rank is None or None in x.shape[1:]:
            # A pipeline that has lost the static shape: what it promised is checked when it runs.
            x = tf.ensure_shape(x, (None, *self.image_shape))
        self._check_shape(x.shape)
        return x

    def checked_images(self, x: Any) -> tf.Tensor:
        """Give `x` as a float32 tensor; raise `InputError` where shape or values do not fit."""
        x = self._images(x)
        if tf.executing_eagerly():
            self.likelihood_family.check(x)
        return x

    def checked_labels(self, label: Any) -> tf.Tensor:
        """Give `label` as an int32 tensor; raise `InputError` where it is no label of the model."""
        if self.num_classes is None:
            raise InputError(
                "the model takes no labels; received some: make it with num_classes=..."
            )
        if label is None:
            raise InputError(
                "a conditional model needs labels, whole numbers from 0 to "
                f"{self.num_classes - 1}; received none"
            )
        label = tf.convert_to_tensor(label)
        if not label.dtype.is_integer:
            raise InputError(f"labels are whole numbers; received {label.dtype.name}")
        label = tf.cast(label, tf.int32)
        if tf.executing_eagerly() and not bool(self.are_labels(label)):
            raise InputError(self.label_complaint(tf.reduce_min(label), tf.reduce_max(label)))
        return label

    def checked_batch(self, batch: Any) -> tuple[tf.Tensor, tf.Tensor | None]:
        """Give images and labels, checked, of a batch ``x`` or ``(x, label)``.

        The labels are None where the model takes none.

        Raises:
            InputError: if they do not fit.
        """
        x, label = (*batch, None)[:2] if isinstance(batch, tuple) else (batch, None)
        x = self.checked_images(x)
        return x, None if self.num_classes is None else self.label_vector(label)

    def are_labels(self, label: tf.Tensor) -> tf.Tensor:
        """Whether whole numbers are all labels of the model, a boolean scalar tensor."""
        return tf.reduce_all((label >= 0) & (label < self.num_classes))

    def label_complaint(self, low: Any, high: Any) -> str:
        """One line for labels from `low` to `high` that are not all labels of the model."""
        return (
            f"expected labels below {self.num_classes}, from 0; "
            f"received labels from {int(low)} to {int(high)}"
        )

    # --- training ---------------------------------------------------------------------------------

    def _step(
        self, x: tf.Tensor, label: Any, seed: Any, training: bool, share: Share | None = None
    ) -> Step:
        """Say what a batch gives; of a share of a batch, the same as it does within the whole."""
        raise NotImplementedError

    def compile(self, optimizer: Any = "adam", loss: Any = None, **kwargs: Any) -> None:
        """Configure training, as `keras.Model.compile` does.

        Args:
            optimizer: a Keras optimizer or its name.
            loss: must stay None; the objective is part of the model.
            **kwargs: those of `keras.Model.compile`. Metrics compare images with their
                reconstructions.

        Raises:
            InputError: if a loss is given.
        """
        if loss is not None or kwargs.get("loss_weights") is not None:
            raise InputError(
                f"compile takes no loss; received {loss!r}: the objective is part of the model, "
                "VAE(..., likelihood=..., objective=...)"
            )
        super().compile(optimizer=optimizer, **kwargs)
        self._build_optimizer()

    def _build_optimizer(self) -> None:
        """Make the optimiser's variables as soon as there are weights, not in the first step.

        Saving finds them then, and a traced loop of steps may not make any.
        """
        if self.image_shape is not None and self.compiled and self.optimizer is not None:
            self.optimizer.build(self.trainable_variables)

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compile as the saved model was compiled."""
        config = keras.saving.deserialize_keras_object(config)
        config = {key: value for key, value in config.items() if not key.startswith("loss")}
        self.compile(**config)

    def train_step(self, data: Any) -> dict[str, Any]:
        """Take one optimiser step on a batch, for `fit`.

        The loss is the mean over the batch of the objective's loss per image, times the image's
        sample weight where there is one, plus the networks' own regularisation.
        """
        x, label, sample_weight = self._batch(data)
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        whole = Share(0, tf.shape(x)[0], tf.shape(x)[0] * replicas, 1.0)
        seed = self.next_training_seed()
        if replicas > 1:
            # All of them have the model's next seed, and none knows the others' rows.
            replica = tf.distribute.get_replica_context().replica_id_in_sync_group
            seed = tf.random.experimental.stateless_fold_in(seed, replica)
        gradients, loss, step = self.differentiate((x, label, sample_weight), seed, whole)
        # Keras sums the gradients of replicas.
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
        return self._report(x, replicas * loss, step, sample_weight)

    def differentiate(
        self, batch: tuple[Any, Any, Any], seed: tf.Tensor, share: Share
    ) -> tuple[list[tf.Tensor], tf.Tensor, Step]:
        """Differentiate the loss of a batch, or of one replica's share of it.

        `fit` and `tfvae.training.train` both take their steps from here. The shares' gradients sum
        to those of the whole batch.

        Args:
            batch: images, labels and sample weights as `unpack` gives them: the share's own.
            seed: `[2]`, of the whole batch.
            share: which rows of the batch they are.

        Returns:
            The gradients, one a trainable variable, times the optimiser's loss scale if it has one;
            the loss, a scalar, without it; and what gave it.
        """
        x, label, sample_weight = batch
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        with tf.GradientTape() as tape:
            step = self._step(x, label, seed, True, share if replicas > 1 else None)
            total = tf.cast(share.total, tf.float32)
            loss = share.counts * tf.reduce_sum(weighed(step.loss, sample_weight)) / total
            if self.losses:
                extra = tf.add_n([tf.cast(extra, loss.dtype) for extra in self.losses])
                loss += extra / replicas
            scaled = self.optimizer.scale_loss(loss)
        gradients = tape.gradient(
            scaled, self.trainable_variables, unconnected_gradients=tf.UnconnectedGradients.ZERO
        )
        return gradients, loss, step

    def test_step(self, data: Any) -> dict[str, Any]:
        """Evaluate a batch: ``loss`` is the negative ELBO, whatever the training objective is."""
        x, label, sample_weight = self._batch(data)
        step = self._step(x, label, self._next_seed(self._validation_seeds), training=False)
        loss = tf.reduce_mean(weighed(step.validation_loss, sample_weight))
        return self._report(x, loss, step, sample_weight)

    def predict_step(self, data: Any) -> tf.Tensor:
        """Reconstruct a batch."""
        if self.num_classes is None:
            return self(keras.utils.unpack_x_y_sample_weight(data)[0])
        x, label = self._labelled(data)
        self._assert_labels(label)
        return self(x, label)

    def _labelled(self, data: Any) -> tuple[Any, tf.Tensor]:
        """Give images and labels of a batch to predict: ``(x, label)``, or that as its first."""
        x, label, _ = keras.utils.unpack_x_y_sample_weight(data)
        if label is None and isinstance(x, (tuple, list)) and len(x) == 2:
            x, label = x
        return x, self.label_vector(label)

    def _batch(self, data: Any) -> tuple[tf.Tensor, tf.Tensor | None, tf.Tensor | None]:
        """Give images, labels and sample weights of a batch, their values checked."""
        x, label, sample_weight = self.unpack(data)
        # An assertion alone would run beside the update, which has to wait for it.
        with tf.control_dependencies(self._assert_supported(x, label)):
            x = tf.identity(x)
        return x, label, sample_weight

    def unpack(self, data: Any) -> tuple[tf.Tensor, tf.Tensor | None, tf.Tensor | None]:
        """Give images, labels and sample weights of a batch, None for those that there are not.

        Where the model is not conditional, a label or a target is left aside.

        Raises:
            InputError: if the images have another shape, or the labels do not fit.
        """
        x, label, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        x = self._images(x)
        label = None if self.num_classes is None else self.label_vector(label)
        return x, label, sample_weight

    def label_vector(self, label: Any) -> tf.Tensor:
        """Give the labels of a batch as `[B]`, checked; a column of them will do.

        Raises:
            InputError: if they are no labels of the model, or not one an image.
        """
        label = self.checked_labels(label)
        if label.shape.rank is None or (label.shape.rank == 2 and label.shape[1] == 1):
            # A graph that was traced for vectors and again for columns has lost the rank.
            label = tf.reshape(label, (-1,))
        if label.shape.rank != 1:
            raise InputError(f"expected one label an image, [batch]; received shape {label.shape}")
        return label

    def _assert_supported(self, x: tf.Tensor, label: tf.Tensor | None) -> list[Any]:
        """Assert inside a graph what `Likelihood.check` and `checked_labels` check outside.

        Returns:
            The assertions.
        """
        family = self.likelihood_family
        if tf.executing_eagerly():
            family.check(x)
            return []
        low, high = tf.reduce_min(x), tf.reduce_max(x)
        supported = tf.debugging.Assert(
            family.support.admits(x), [f"{_MARK}{type(family).__name__}", low, high]
        )
        return [supported, *([] if label is None else self._assert_labels(label))]

    def _assert_labels(self, label: tf.Tensor) -> list[Any]:
        """Assert inside a graph that labels are in range, and give the assertion."""
        if tf.executing_eagerly():
            return []
        low, high = tf.reduce_min(label), tf.reduce_max(label)
        return [tf.debugging.Assert(self.are_labels(label), [f"{_MARK}{_LABEL}", low, high])]

    def _report(
        self, x: tf.Tensor, loss: tf.Tensor, step: Step, sample_weight: tf.Tensor | None
    ) -> dict[str, Any]:
        # Keras makes this metric at `compile` and lists it first.
        self._loss_tracker.update_state(loss, sample_weight=tf.shape(x)[0])
        for mean in self._term_means:
            mean.update_state(step.terms[mean.name], sample_weight=sample_weight)
        reconstruction = step.reconstruction() if self._compile_metrics is not None else None
        return self.compute_metrics(x, x, reconstruction, sample_weight=sample_weight)

    def next_training_seed(self) -> tf.Tensor:
        """Give the seed `[2]` of the next training step, and go on to the one after."""
        return self._next_seed(self.seed_generator)

    def validation_seed(self, index: Any) -> tf.Tensor:
        """Give the seed `[2]` of a batch to evaluate: in every pass the same."""
        seed = tf.cast(tf.constant(_validation_seed(self.seed), tf.int64), tf.int32)
        return tf.stack([seed, tf.cast(index, tf.int32)])

    @staticmethod
    def _next_seed(generator: keras.random.SeedGenerator) -> tf.Tensor:
        return tf.cast(generator.next(), tf.int32)

    def _seed(self, seed: Any) -> tf.Tensor:
        """Give `[2]` or `[B, 2]` int32; for None the model's own next seed."""
        if seed is None:
            return self._next_seed(self.seed_generator)
        seed = tf.cast(tf.convert_to_tensor(seed), tf.int32)
        if seed.shape.rank == 0:
            seed = tf.stack([seed, 0])
        if seed.shape.rank not in (1, 2) or seed.shape[-1] != 2:
            raise InputError(
                "a seed is a whole number, a pair [2], or a pair for each image [batch, 2]; "
                f"received shape {seed.shape}"
            )
        return seed

    def reset_metrics(self) -> None:
        """Reset the metrics, and the noise that evaluation draws: every pass draws the same."""
        super().reset_metrics()
        self._validation_seeds.state.assign([_validation_seed(self.seed), 0])

    def own_callbacks(self) -> list[keras.callbacks.Callback]:
        """Give the callbacks that each training of the model has."""
        return []

    def fit(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: Any = "auto",
        callbacks: Any = None,
        *args: Any,
        validation_data: Any = None,
        sample_weight: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Train as `keras.Model.fit` does.

        A conditional model takes `y` for the labels; any other leaves it aside.

        Raises:
            InputError: if images have a wrong shape, or values outside the likelihood's support, or
                a conditional model's labels do not fit.
        """
        if isinstance(validation_data, (tuple, list)) and validation_data:
            images, *rest = validation_data
            images = self.checked_source(images, *rest[:1])
            if len(rest) == 2:
                rest[0] = _target(images, *rest)
            validation_data = (images, *rest)
        else:
            validation_data = self.checked_source(validation_data)
        if isinstance(x, tf.data.Dataset):
            # A data set has its own order; Keras warns where its default says otherwise.
            kwargs.setdefault("shuffle", False)
        if not isinstance(callbacks, keras.callbacks.CallbackList):
            callbacks = [*self.own_callbacks(), *tf.nest.flatten(callbacks or [])]
        with self.input_errors():
            return super().fit(
                self.checked_source(x, y),
                _target(x, y, sample_weight),
                batch_size,
                epochs,
                verbose,
                callbacks,
                *args,
                validation_data=validation_data,
                sample_weight=sample_weight,
                **kwargs,
            )

    def evaluate(
        self,
        x: Any = None,
        y: Any = None,
        *args: Any,
        sample_weight: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Evaluate as `keras.Model.evaluate` does; ``loss`` is the negative ELBO, in nats.

        Raises:
            InputError: if images have a wrong shape, or values outside the likelihood's support, or
                a conditional model's labels do not fit.
        """
        with self.input_errors():
            return super().evaluate(
                self.checked_source(x, y),
                _target(x, y, sample_weight),
                *args,
                sample_weight=sample_weight,
                **kwargs,
            )

    def predict(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        """Reconstruct as `keras.Model.predict` does.

        A conditional model takes a data set of ``(x, label)``, or a list of the two arrays.

        Raises:
            InputError: if images have a wrong shape, or a conditional model's labels do not fit.
        """
        if self.num_classes is not None:
            if isinstance(x, tf.data.Dataset):
                x = self._checked_before_xla(x, self._checked_labelled)
            elif isinstance(x, (tuple, list)) and len(x) == 2:
                self.label_vector(x[1])
        with self.input_errors():
            return super().predict(x, *args, **kwargs)

    def _checked_before_xla(self, data: tf.data.Dataset, check: Callable[..., Any]) -> Any:
        """Let a data set check its own batches, where XLA drops the assertions of a step."""
        return data.map(check) if self.compiled and self.jit_compile else data

    def checked_source(self, x: Any, label: Any = None) -> Any:
        """Check arrays at once; let XLA-compiled steps, which drop assertions, be checked before.

        A step that is not compiled by XLA checks its own batch.

        Args:
            x: arrays, a data set, or another source of batches.
            label: the array of labels beside an array of images; a conditional model needs it.
        """
        if isinstance(x, tf.data.Dataset):
            images = tf.nest.flatten(x.element_spec)[0]
            if None not in tuple(images.shape)[1:]:
                self._check_shape(images.shape)
            return self._checked_before_xla(x, self._checked_batch)
        if x is not None and hasattr(x, "shape") and hasattr(x, "dtype"):
            if x.shape[0] == 0:
                raise InputError("expected at least one image; received an empty array")
            if self.image_shape is not None:
                self._check_shape(x.shape)
            self.likelihood_family.check(x)
            if self.num_classes is not None:
                self.label_vector(label)
        return x

    def _checked_batch(self, *data: Any) -> Any:
        batch = data[0] if len(data) == 1 else data
        x, label, _ = keras.utils.unpack_x_y_sample_weight(batch)
        label = None if self.num_classes is None else self.label_vector(label)
        self._assert_supported(tf.cast(x, tf.float32), label)
        return batch

    def _checked_labelled(self, *data: Any) -> Any:
        self._assert_labels(self._labelled(data)[1])
        return data

    @contextlib.contextmanager
    def input_errors(self) -> Iterator[None]:
        """Turn the assertion of a step inside a graph into the `InputError` it stands for."""
        try:
            yield
        except tf.errors.InvalidArgumentError as error:
            found = re.search(
                rf"\[?{_MARK}(\w+)\]? \[?([^\]\s]+)\]? \[?([^\]\s]+?)\]?(?:\s|$)", str(error)
            )
            if found is None:
                raise
            owner, low, high = found.groups()
            if owner == _LABEL:
                raise InputError(self.label_complaint(low, high)) from None
            support = self.likelihood_family.support
            raise InputError(support.complaint(owner, float(low), float(high))) from None


def _validation_seed(seed: int | None) -> int:
    return 1 if seed is None else seed + 1


def _target(x: Any, y: Any, sample_weight: Any) -> Any:
    """Stand in for the targets, without which Keras drops the sample weights of arrays."""
    return np.zeros(len(x), "float32") if y is None and sample_weight is not None else y


def weighed(values: tf.Tensor, sample_weight: tf.Tensor | None) -> tf.Tensor:
    """Give `values [B]`, each times its weight if there are any, as Keras' losses do."""
    if sample_weight is None:
        return values
    return values * tf.reshape(tf.cast(sample_weight, values.dtype), (-1,))
