"""The GradientTape loop: many steps a call, with the step that `fit` takes.

`fit` returns to Python after each step. Here one `tf.function` runs a chunk of them, so that a
small model does not wait for Python. From one seed and one order of the data, both end in the same
weights.
"""

import itertools
import sys
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf
from tqdm import tqdm

from tfvae.errors import InputError
from tfvae.step import ImageTrainer


def train(
    model: ImageTrainer,
    data: tf.data.Dataset,
    *,
    epochs: int = 1,
    validation_data: tf.data.Dataset | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    steps_per_call: int = 32,
    progress: bool = True,
) -> keras.callbacks.History:
    """Train a compiled model.

    Args:
        model: a `VAE` or `Autoencoder` that has been compiled; an optimiser that has taken steps
            goes on from there.
        data: batches of ``x`` or ``(x, label)`` or ``(x, label, sample_weight)``; iterated anew
            each epoch.
        epochs: passes over the data.
        validation_data: batches to evaluate on after each epoch.
        callbacks: Keras callbacks. Their batch methods are called once a chunk of steps, as Keras
            does with `steps_per_execution`.
        steps_per_call: steps that run before control returns to Python.
        progress: show a progress bar on standard error.

    Returns:
        Keras' `History`: `history.history["elbo"]` and so on, one value an epoch.

    Raises:
        InputError: if the model has not been compiled, the data are empty or images do not fit.
    """
    if not model.compiled or model.optimizer is None:
        raise InputError("expected a compiled model: call model.compile('adam') first")
    if steps_per_call < 1:
        raise InputError(f"steps_per_call is a whole number from 1; received {steps_per_call!r}")
    if model.image_shape is None:
        model.build(tf.nest.flatten(data.element_spec)[0].shape)
    data = model.checked_source(data)
    validation_data = model.checked_source(validation_data)
    run_training = _chunk_runner(model, model.train_step)
    run_validation = _chunk_runner(model, model.test_step)

    steps = int(data.cardinality())
    bar = [ProgressBar()] if progress else []
    container = keras.callbacks.CallbackList(
        [*bar, *model.own_callbacks(), *callbacks],
        add_history=True,
        add_progbar=False,
        model=model,
        epochs=epochs,
        steps=steps if steps > 0 else None,
        verbose=0,
    )
    model.stop_training = False
    with model.input_errors():
        container.on_train_begin()
        try:
            logs: dict[str, float] = {}
            for epoch in range(epochs):
                container.on_epoch_begin(epoch)
                logs = _epoch(
                    model,
                    run_training,
                    data,
                    steps_per_call,
                    container.on_train_batch_begin,
                    container.on_train_batch_end,
                    lambda: bool(model.stop_training),
                )
                if validation_data is not None:
                    container.on_test_begin()
                    results = _epoch(
                        model,
                        run_validation,
                        validation_data,
                        steps_per_call,
                        container.on_test_batch_begin,
                        container.on_test_batch_end,
                    )
                    container.on_test_end(results)
                    logs |= {f"val_{name}": value for name, value in results.items()}
                container.on_epoch_end(epoch, logs)
                if model.stop_training:
                    break
            container.on_train_end(logs)
        finally:
            for shown in bar:
                shown.close()
    return model.history


def _chunk_runner(
    model: ImageTrainer, step: Callable[[Any], Any]
) -> Callable[[tf.data.Iterator, int], tf.Tensor]:
    """Give a function that takes up to so many steps, and says how many the data had."""
    if model.jit_compile:
        step = tf.function(step, jit_compile=True, reduce_retracing=True)

    def run(iterator: tf.data.Iterator, limit: tf.Tensor) -> tf.Tensor:
        taken = tf.constant(0)
        for _ in tf.range(limit):
            batch = iterator.get_next_as_optional()
            if not batch.has_value():
                break
            step(batch.get_value())
            taken += 1
        return taken

    if model.run_eagerly:

        def run_eagerly(iterator: tf.data.Iterator, limit: int) -> int:
            return sum(1 for batch in itertools.islice(iterator, limit) if step(batch))

        return run_eagerly
    compiled = tf.function(run)
    return lambda iterator, limit: compiled(iterator, tf.constant(limit))


def _epoch(
    model: ImageTrainer,
    run: Callable[[tf.data.Iterator, int], Any],
    data: tf.data.Dataset,
    steps_per_call: int,
    on_begin: Callable[..., None],
    on_end: Callable[..., None],
    stop: Callable[[], bool] = lambda: False,
) -> dict[str, float]:
    """Run one pass over the data in chunks, and give the metrics' values."""
    model.reset_metrics()
    iterator = iter(data)
    done = 0
    logs: dict[str, float] = {}
    while not stop():
        on_begin(done)
        taken = int(run(iterator, steps_per_call))
        if taken:
            done += taken
            logs = {name: float(value) for name, value in model.get_metrics_result().items()}
            on_end(done - 1, logs)
        if taken < steps_per_call:
            break
    if not done:
        raise InputError("expected at least one batch of images; the data set is empty")
    return logs


class ProgressBar(keras.callbacks.Callback):
    """One bar over all epochs on standard error, with the terms of the ELBO and the time left."""

    def __init__(self) -> None:
        super().__init__()
        self._bar: Any = None
        self._done = 0
        self._validation: dict[str, float] = {}

    def on_train_begin(self, logs: Any = None) -> None:
        """Open the bar."""
        steps, epochs = self.params.get("steps"), self.params.get("epochs")
        terminal = sys.stderr.isatty()
        self._bar = tqdm(
            total=steps * epochs if steps else None,
            unit="step",
            dynamic_ncols=terminal,
            # In a log file each refresh is one more line.
            mininterval=0.1 if terminal else 10.0,
        )

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Name the epoch."""
        self._done = 0
        self._bar.set_description(f"epoch {epoch + 1}/{self.params.get('epochs')}", refresh=False)

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Move on by the steps of a chunk."""
        self._show(logs or {})
        self._bar.update(batch + 1 - self._done)
        self._done = batch + 1

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Show what validation gave."""
        self._validation = {
            name: value for name, value in (logs or {}).items() if name == "val_elbo"
        }
        self._show(logs or {})

    def _show(self, logs: dict[str, float]) -> None:
        shown: dict[str, str] = {
            name: f"{logs[name]:.2f}" for name in ("elbo", "log_likelihood", "kl") if name in logs
        }
        shown |= {name: f"{value:.2f}" for name, value in self._validation.items()}
        self._bar.set_postfix(shown, refresh=False)

    def close(self) -> None:
        """Close the bar; safe to call twice."""
        if self._bar is not None:
            self._bar.refresh()
            self._bar.close()
            self._bar = None
