"""The training step that `fit` and `tfvae.training.train` share: from a batch to its gradients.

Terms, losses and figures are of single events, `[B]`, until the last moment. The gradient is that
of ``Σ w·loss / B``, as of Keras' losses: events of weight 0 change nothing, and doubled weights
double the gradient. What is reported is always the weighted mean ``Σ w·value / Σ w``, of the loss
as of its terms, so that ``loss == −(log_likelihood − beta·kl)`` holds with weights too.
"""

import math
from collections.abc import Callable
from typing import NamedTuple, NoReturn

import keras
import numpy as np
import tensorflow as tf

from tfvae.checks import is_number
from tfvae.errors import DivergenceError, InputError
from tfvae.graph_errors import refuse_unless
from tfvae.models.batch import Batch
from tfvae.share import Share, summed
from tfvae.typing import Tensor


class Losses(NamedTuple):
    """What one batch gives, event by event.

    Attributes:
        loss: what training minimises, `[B]`.
        validation_loss: what `val_loss` reports, `[B]`: for a VAE the negative ELBO at beta = 1.
        terms: named terms to report, each `[B]`, in nats.
        reconstruction: computes `[B, *event_shape]` for the user's own metrics.
        statistics: sums over the events of a training batch from which the model learns what no
            gradient tells; see `LatentVariableModel.follow`.
    """

    loss: Tensor
    validation_loss: Tensor
    terms: dict[str, Tensor]
    reconstruction: Callable[[], Tensor]
    statistics: tuple[Tensor, ...] = ()


class Differentiated(NamedTuple):
    """A batch's gradients, and what they are of.

    Attributes:
        gradients: one for each trainable variable, times the optimiser's loss scale if it has one.
        loss: a scalar, without that scale: this share's part of the mean over the batch.
        losses: what it is made of.
    """

    gradients: list[Tensor]
    loss: Tensor
    losses: Losses


def weighed(values: Tensor, weight: Tensor | None) -> Tensor:
    """Return `values` `[B]`, each times its weight if there are any."""
    return values if weight is None else values * weight


def weighted_mean(values: Tensor, weight: Tensor | None) -> Tensor:
    """Return Σ w·values / Σ w; NaN where all weights are 0, since that is the mean of nothing."""
    if weight is None:
        return tf.reduce_mean(values)
    return tf.reduce_sum(values * weight) / tf.reduce_sum(weight)


def scales_loss(optimizer: keras.optimizers.Optimizer) -> bool:
    """Whether an optimiser finds its loss scale by gradients that overflow, which is no fault."""
    return isinstance(optimizer, keras.optimizers.LossScaleOptimizer)


def check_optimizer(optimizer: keras.optimizers.Optimizer) -> None:
    """Refuse a clipping that makes NaN of finite gradients.

    It multiplies with the length to clip to and divides by it: inf/inf arises after gradients have
    been looked at.

    Raises:
        InputError: if a length or value to clip to is not finite or not above 0.
    """
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    for name in ("clipnorm", "global_clipnorm", "clipvalue"):
        value = getattr(inner, name, None)
        if value is not None and not (is_number(value) and 0 < value < math.inf):
            raise InputError(
                f"{name} of the optimizer is a finite number above 0; received {value!r}: leave it "
                "out to clip nothing"
            )


def are_finite(differentiated: Differentiated, optimizer: keras.optimizers.Optimizer) -> Tensor:
    """Whether an update with these gradients leaves the weights finite; a scalar boolean."""
    loss, gradients = differentiated.loss, differentiated.gradients
    finite = tf.math.is_finite(loss) & tf.math.is_finite(optimizer.learning_rate)
    if scales_loss(optimizer):
        return finite
    return finite & tf.math.is_finite(tf.linalg.global_norm(gradients))


def is_short(model: keras.Model, gradients: list[Tensor]) -> Tensor:
    """Whether gradients are no longer than the model's ``skip_norm``; a scalar boolean.

    Those that are not finite are for others to look at, and count as short.
    """
    if model.skip_norm is None:
        return tf.constant(True)
    norm = tf.linalg.global_norm(gradients)
    if scales_loss(model.optimizer):
        norm /= tf.cast(model.optimizer.dynamic_scale, norm.dtype)
    return tf.logical_not(tf.math.is_finite(norm) & (norm > model.skip_norm))


def refuse_divergence(
    differentiated: Differentiated, optimizer: keras.optimizers.Optimizer, batch: Batch
) -> tf.Operation:
    """Build the operation that ends `fit` before gradients that are not finite reach the weights.

    Raises:
        DivergenceError: by way of TensorFlow, when it runs.
    """

    def complain(loss: Tensor, low: Tensor, high: Tensor, step: Tensor) -> NoReturn:
        raise DivergenceError(
            divergence_message(
                "gradient" if tf.math.is_finite(loss) else "loss",
                f"at step {int(step) + 1}",
                (float(low), float(high)),
            )
        )

    finite_x = tf.where(tf.math.is_finite(batch.x), batch.x, 0.0)
    tensors = [
        differentiated.loss,
        tf.reduce_min(finite_x),
        tf.reduce_max(finite_x),
        tf.convert_to_tensor(optimizer.iterations),
    ]
    return refuse_unless(are_finite(differentiated, optimizer), complain, tensors)


def divergence_message(what: str, place: str, extremes: tuple[float, float]) -> str:
    """Return the line for a loss, term or gradient that is not finite, with advice that fits.

    Args:
        what: what is not finite.
        place: where, such as "at step 3 of epoch 2".
        extremes: the lowest and the highest value of the batch.
    """
    low, high = extremes
    advice = (
        "take a smaller learning rate, clip the gradients (global_clipnorm=...), or leave such "
        "batches out (tfvae.training.train, skip_non_finite=True)"
    )
    if max(abs(low), abs(high)) > 20:
        advice = f"the values go from {low:g} to {high:g}: scale them to about [-1, 1], or {advice}"
    return f"the {what} is not finite {place}, and the weights are those before it: {advice}"


def differentiate(model: keras.Model, batch: Batch, seed: Tensor, share: Share) -> Differentiated:
    """Differentiate a model's loss; see `LatentVariableModel.differentiate`."""
    if not model.trainable_variables:
        raise InputError(
            "the model has no weights to train: set vae.trainable = True, and compile it again"
        )
    replicas = tf.distribute.get_strategy().num_replicas_in_sync
    with tf.GradientTape() as tape:
        losses = model.batch_losses(batch, seed, True, share if replicas > 1 else None)
        total = tf.cast(share.total, tf.float32)
        loss = share.counts * tf.reduce_sum(weighed(losses.loss, batch.weight)) / total
        if model.losses:
            loss += model.regularisation() / replicas
        scaled = model.optimizer.scale_loss(loss)
    gradients = tape.gradient(
        scaled, model.trainable_variables, unconnected_gradients=tf.UnconnectedGradients.ZERO
    )
    if replicas > 1:
        # Sparse ones, such as of an embedding's rows, have a length that differs with the share of
        # the batch, and devices sum what is of one shape.
        gradients = [tf.convert_to_tensor(gradient) for gradient in gradients]
    return Differentiated(gradients, loss, losses)


def apply(model: keras.Model, taken: Differentiated, batch: Batch) -> Tensor:
    """Update the weights, unless that would make them NaN, or the gradient is too long.

    Returns:
        The loss `[B]` to report: NaN where the weights would have become that.

    Raises:
        InputError: if gradients are to be skipped by their length on several devices, none of
            which knows it here.
    """
    variables = model.trainable_variables
    loss = taken.losses.loss
    statistics = summed(list(taken.losses.statistics))
    skips = model.skip_norm is not None
    if skips and tf.distribute.get_strategy().num_replicas_in_sync > 1:
        raise InputError(
            "skip_norm looks at the gradient of the whole batch, of which fit has a part on each "
            "device: train with tfvae.training.train, or leave it out"
        )
    if model.runs_in_xla:
        # XLA compiles no check that raises. `DivergenceWatch` sees the NaN.

        def update() -> Tensor:
            model.optimizer.apply_gradients(zip(taken.gradients, variables, strict=True))
            model.follow(statistics)
            return loss

        finite = are_finite(taken, model.optimizer)

        def leave() -> Tensor:
            return tf.where(finite, loss, tf.fill(tf.shape(loss), np.nan))

        return tf.cond(finite & is_short(model, taken.gradients), update, leave)
    with tf.control_dependencies([refuse_divergence(taken, model.optimizer, batch)]):
        gradients = [tf.identity(gradient) for gradient in taken.gradients]
        statistics = [tf.identity(statistic) for statistic in statistics]

        def step() -> Tensor:
            # Keras sums the gradients of replicas.
            model.optimizer.apply_gradients(zip(gradients, variables, strict=True))
            model.follow(statistics)
            return loss

        if not skips:
            return step()
        return tf.cond(is_short(model, gradients), step, lambda: tf.identity(loss))
