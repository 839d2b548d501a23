"""Weights that change while a model trains, as functions of the optimiser's step.

A schedule here is a Keras learning-rate schedule, and any of Keras' own will do. It reads the
optimiser's count of steps, which is saved with the optimiser: a training that resumes goes on
where the schedule was.
"""

import math
import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import keras
import tensorflow as tf

from tfvae.checks import checked_count, checked_weight, is_number
from tfvae.distributions.family import PACKAGE, resolve
from tfvae.errors import InputError
from tfvae.typing import ArrayLike, Config, Tensor

Schedule: Any = keras.optimizers.schedules.LearningRateSchedule
# What `get` takes for a weight.
Weight: TypeAlias = (
    "float | str | Mapping[str, Any] | Sequence[Any] "
    "| keras.optimizers.schedules.LearningRateSchedule"
)


@keras.saving.register_keras_serializable(PACKAGE)
class Constant(Schedule):
    """The same weight at every step.

    Args:
        value: the weight, at least 0.

    Raises:
        InputError: if it is negative or not finite.
    """

    def __init__(self, value: float):
        self.value = checked_weight("a weight", value)

    def __call__(self, step: ArrayLike) -> Tensor:
        """Compute the weight, a scalar."""
        return tf.constant(self.value, tf.float32)

    def get_config(self) -> Config:
        """Return the constructor's arguments."""
        return {"value": self.value}


@keras.saving.register_keras_serializable(PACKAGE)
class Linear(Schedule):
    """A straight line from `start` at step 0 to `end` at step `steps`, then constant.

    As the weight of the KL it is the warm-up of Bowman et al. (2016), arXiv:1511.06349, section
    3.1, and Sønderby et al. (2016), arXiv:1602.02282, section 2.3.

    Args:
        steps: length of the line, from 1.
        start: the weight at first.
        end: the weight at last.

    Attributes:
        warm_up_steps: steps before the last weight is reached.

    Raises:
        InputError: if `steps` is below 1, or a weight negative or not finite.
    """

    def __init__(self, steps: int, start: float = 0.0, end: float = 1.0):
        self.steps = checked_count("steps", steps)
        self.start = checked_weight("start", start)
        self.end = checked_weight("end", end)
        self.warm_up_steps = self.steps

    def __call__(self, step: ArrayLike) -> Tensor:
        """Compute the weight at a step, a scalar."""
        done = tf.minimum(tf.cast(step, tf.float32) / self.steps, 1.0)
        return self.start + (self.end - self.start) * done

    def get_config(self) -> Config:
        """Return the constructor's arguments."""
        return {"steps": self.steps, "start": self.start, "end": self.end}


@keras.saving.register_keras_serializable(PACKAGE)
class Cyclical(Schedule):
    """A line from `start` to `end` and a rest at `end`, again and again.

    Fu et al. (2019), arXiv:1903.10145, equations 6 and 7.

    Args:
        period: steps of one cycle, from 1.
        ratio: R, the part of a cycle that the line takes; above 0, at most 1.
        start: the weight as a cycle begins.
        end: the weight as it ends.

    Attributes:
        warm_up_steps: steps before the last weight is reached for the first time.

    Raises:
        InputError: if `period` is below 1, `ratio` outside (0, 1], or a weight negative or not
            finite.
    """

    def __init__(self, period: int, ratio: float = 0.5, start: float = 0.0, end: float = 1.0):
        self.period = checked_count("period", period)
        if not (is_number(ratio) and 0 < ratio <= 1):
            raise InputError(f"ratio lies above 0 and is at most 1; received {ratio!r}")
        self.ratio = float(ratio)
        self.start = checked_weight("start", start)
        self.end = checked_weight("end", end)
        self.warm_up_steps = math.ceil(self.period * self.ratio)

    def __call__(self, step: ArrayLike) -> Tensor:
        """Compute the weight at a step, a scalar."""
        # The place in the cycle is found in whole numbers: float32 holds those up to 2^24 alone.
        position = tf.cast(tf.cast(step, tf.int64) % self.period, tf.float32) / self.period
        done = tf.minimum(position / self.ratio, 1.0)
        return self.start + (self.end - self.start) * done

    def get_config(self) -> Config:
        """Return the constructor's arguments."""
        return {
            "period": self.period,
            "ratio": self.ratio,
            "start": self.start,
            "end": self.end,
        }


@keras.saving.register_keras_serializable(PACKAGE)
class ByGroup(Schedule):
    """A weight for each group of latents of a hierarchy, topmost first.

    Args:
        weights: of each, whatever `get` takes for one.

    Attributes:
        warm_up_steps: steps before the last of them has reached its last weight.

    Raises:
        InputError: if there is none, or one does not fit.
    """

    def __init__(self, weights: Sequence[Weight]):
        self.weights = [get(one, "a weight of a group") for one in weights]
        if not self.weights:
            raise InputError("a weight for each group is needed; received none")
        self.warm_up_steps = max(getattr(one, "warm_up_steps", 0) for one in self.weights)

    def __call__(self, step: ArrayLike) -> Tensor:
        """Compute the weights, `[L]`."""
        return tf.stack([tf.cast(one(step), tf.float32) for one in self.weights])

    def get_config(self) -> Config:
        """Return the constructor's arguments."""
        return {"weights": [serialize(one) for one in self.weights]}


class WarmUpWatch(keras.callbacks.Callback):
    """Warns as training begins if it will end before a schedule has reached its last weight.

    Args:
        schedules: those to watch.
    """

    def __init__(self, schedules: tuple[keras.optimizers.schedules.LearningRateSchedule, ...]):
        super().__init__()
        self._schedules = schedules

    def on_train_begin(self, logs: Mapping[str, float] | None = None) -> None:
        """Compare the steps that are to come with the schedules."""
        steps, epochs = self.params.get("steps"), self.params.get("epochs")
        if not steps or not epochs:
            return
        optimizer = self.model.optimizer
        inner = getattr(optimizer, "inner_optimizer", optimizer)
        # With gradient accumulation, several batches make one step.
        gathered = inner.gradient_accumulation_steps or 1
        last = int(keras.ops.convert_to_numpy(optimizer.iterations)) + steps * epochs // gathered
        for schedule in self._schedules:
            if getattr(schedule, "warm_up_steps", 0) > last:
                warnings.warn(
                    f"the warm-up of {schedule.warm_up_steps} steps outlasts the training, which "
                    f"ends at step {last}: choose a shorter warm-up or train for more epochs",
                    stacklevel=2,
                )


BY_NAME: dict[str, Any] = {
    "constant": Constant,
    "linear": Linear,
    "cyclical": Cyclical,
}

# Weights of several groups as text, such as 1x0.5.
_SEVERAL = re.compile(r"\s*[\d.eE+-]+(x[\d.eE+-]+)+\s*")


def get(
    identifier: Weight, name: str = "a weight"
) -> keras.optimizers.schedules.LearningRateSchedule:
    """Return the schedule that a number, a name, a configuration or an instance stands for.

    Args:
        identifier: a number of at least 0, any Keras learning-rate schedule, its configuration, or
            a text such as ``"linear(steps=1000)"`` or ``"cyclical(period=2000,end=4)"``; or, for
            the groups of a hierarchy, a list of these, or text such as ``"1x0.5"``.
        name: what to call it in a message.

    Raises:
        InputError: if it is none of these, or the number negative or not finite.
    """
    if is_number(identifier):
        return Constant(checked_weight(name, identifier))
    if isinstance(identifier, str) and _SEVERAL.fullmatch(identifier):
        identifier = [_number(one) for one in identifier.split("x")]
    if isinstance(identifier, (list, tuple)) and len(identifier) > 1:
        return ByGroup(identifier)
    named = isinstance(identifier, str) and re.split("[:(]", identifier)[0].strip() in BY_NAME
    if named or isinstance(identifier, (dict, Schedule)):
        return resolve(identifier, Schedule, BY_NAME, "schedule")
    raise InputError(
        f"{name} is a number of at least 0, a Keras LearningRateSchedule, or one of "
        f"{', '.join(BY_NAME)} with options, as in 'linear(steps=1000)'; received {identifier!r}"
    )


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text  # which is refused in the words of a weight


def serialize(
    schedule: keras.optimizers.schedules.LearningRateSchedule,
) -> float | dict[str, Any]:
    """Return what `get` makes the same schedule from, and JSON can hold."""
    if isinstance(schedule, Constant):
        return schedule.value
    return keras.saving.serialize_keras_object(schedule)
