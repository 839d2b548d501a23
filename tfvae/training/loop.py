"""The GradientTape loop: many steps a call, on any number of devices, through any crash.

`fit` returns to Python after each step. Here one `tf.function` runs a chunk of them, so that a
small model does not wait for Python, and `tfvae.datasets.Batches` are made inside of it. From one
seed and one order of the data, `fit`, this loop, and this loop on several devices end in the same
weights.
"""

import contextlib
import dataclasses
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfvae.checks import checked_count, checked_weight
from tfvae.datasets import Batches
from tfvae.errors import DivergenceError, InputError, WorkerError
from tfvae.graph_errors import own_error
from tfvae.models import LatentVariableModel
from tfvae.models.batch import events_and_labels
from tfvae.models.callbacks import say_directions
from tfvae.models.step import check_optimizer, divergence_message
from tfvae.training.checkpoints import Checkpoints
from tfvae.training.identity import identity_of
from tfvae.training.progress import ProgressBar
from tfvae.training.replicas import any_of, broadcast
from tfvae.training.resuming import Position, capture, restore
from tfvae.training.update import Outcome, Updates


def train(
    model: LatentVariableModel,
    data: tf.data.Dataset | Batches,
    *,
    epochs: int = 1,
    validation_data: tf.data.Dataset | Batches | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    steps_per_call: int | None = None,
    checkpoint_dir: str | Path | None = None,
    checkpoint_seconds: float = 60.0,
    skip_non_finite: bool = False,
    should_stop: Callable[[], bool] = lambda: False,
    progress: bool = True,
) -> keras.callbacks.History:
    """Train a compiled model.

    On several devices, make and compile the model in the scope of a `tf.distribute.Strategy`, such
    as `tfvae.training.replicas.strategy_of_environment()`, and call this outside of it. A batch is
    one of all devices together, each of which takes its share of the rows.

    With `checkpoint_dir` the training can be stopped at any moment, by a crash too, and goes on
    from there when it is called again with the same arguments; with deterministic operations
    (``tf.config.experimental.enable_op_determinism()``) to the same weights, bit for bit. Data that
    are not `Batches` are then iterated anew and skipped to the place, and must give the same
    batches each time for that. Checkpoints of another model or other data are refused, and one
    training at a time has the directory.

    Args:
        model: a `VAE`, `VQVAE` or `Autoencoder` that has been compiled; an optimiser that has taken
            steps goes on from there.
        data: `tfvae.datasets.Batches`; or a data set of batches ``x`` or ``(x, label)`` or
            ``(x, label, sample_weight)``, iterated anew each epoch.
        epochs: passes over the data.
        validation_data: batches to evaluate on after each epoch.
        callbacks: Keras callbacks. Their batch methods are called once a chunk of steps, as Keras
            does with `steps_per_execution`. Where the optimiser keeps averages of the weights
            (`use_ema`), validation and the ends of epochs see a model with those.
        steps_per_call: steps that run before control returns to Python; by default about as many as
            take half a second.
        checkpoint_dir: directory for checkpoints. If it holds some, the training goes on from the
            newest that is whole.
        checkpoint_seconds: write one when so much time has passed since the last, and at the end of
            the training.
        skip_non_finite: leave out a batch whose loss or gradient is not finite, instead of ending
            with an error.
        should_stop: asked after each chunk of steps; when it says so a checkpoint is written, and
            the training is over. ``model.stop_training`` tells callbacks' wish from that.
        progress: show a progress bar on standard error.

    Returns:
        Keras' `History`: `history.history["elbo"]` and so on, one value an epoch.

    Raises:
        InputError: if the model has not been compiled, the data are empty, events do not fit, or
            several devices cannot train the model, or `checkpoint_dir` is in use or of another
            training.
        DivergenceError: if a loss or a gradient is not finite; the weights are those of before.
        WorkerError: if another process of the training has ended.
        OSError: if a checkpoint cannot be written.
    """
    if not isinstance(model, LatentVariableModel):
        raise InputError(
            f"expected a tfvae.VAE, VQVAE or Autoencoder; received {type(model).__name__}"
        )
    for name, source in (("data", data), ("validation_data", validation_data)):
        if source is not None or name == "data":
            _check_batches(name, source)
    for callback in callbacks:
        if not isinstance(callback, keras.callbacks.Callback):
            raise InputError(f"callbacks are those of Keras; received {callback!r}")
    if not model.compiled or model.optimizer is None:
        raise InputError("expected a compiled model: call model.compile('adam') first")
    checked_count("epochs", epochs)
    if steps_per_call is not None:
        checked_count("steps_per_call", steps_per_call)
    checked_weight("checkpoint_seconds", checkpoint_seconds)
    updates = Updates(_built(model, data))
    check_optimizer(model.optimizer)
    batches = _source(updates, data, updates.train)
    validation = None
    if validation_data is not None:
        validation = _source(updates, validation_data, updates.test)
    checkpoints = None if checkpoint_dir is None else Checkpoints(checkpoint_dir)
    training = _Training(
        updates,
        batches,
        validation,
        epochs=epochs,
        callbacks=callbacks,
        steps_per_call=steps_per_call,
        checkpoints=checkpoints,
        checkpoint_seconds=checkpoint_seconds,
        skip_non_finite=skip_non_finite,
        should_stop=should_stop,
        progress=progress,
        identity={} if checkpoints is None else identity_of(model, data),
    )
    with contextlib.ExitStack() as stack:
        if checkpoints is not None and updates.worker == 0:
            stack.enter_context(checkpoints.held())
        return training.run()


def _check_batches(name: str, data: Any) -> None:
    """Refuse what is no source of batches.

    Raises:
        InputError: if it is none.
    """
    if isinstance(data, (Batches, tf.data.Dataset, tf.distribute.DistributedDataset)):
        return
    advice = "tfvae.datasets.Batches(data.train, 128, shuffle=True)"
    if hasattr(data, "shape"):
        advice = "tf.data.Dataset.from_tensor_slices(x).batch(128), or train arrays with fit"
    raise InputError(
        f"{name} is a source of batches; received {type(data).__name__}: give it {advice}"
    )


def _built(model: LatentVariableModel, data: Any) -> LatentVariableModel:
    """Return the model, built for the data's events, whose shape is checked."""
    if isinstance(data, Batches):
        shape: tuple[int | None, ...] = (None, *data.split.event_shape)
    else:
        spec = keras.utils.unpack_x_y_sample_weight(data.element_spec)[0]
        events, _ = events_and_labels(spec, model.num_classes)
        if events.shape.rank is None:
            if not model.built:
                raise InputError(
                    "the data do not say the shape of their events: call the model on some first"
                )
            return model
        shape = tuple(events.shape)
    if not model.built:
        model.build(shape)
    else:
        model.event_spec.check_shape(shape)
    return model


# --- where batches come from ----------------------------------------------------------------------


# AutoGraph reads the source of all that a graph calls, which takes longer than to trace it. `fit`
# does without for a step, and so does this; the loop of steps alone needs it.
_unconverted = tf.autograph.experimental.do_not_convert


class _Source:
    """Batches, and a graph that takes many of them.

    Args:
        updates: knows the model and the workers.
        take: what to do with a batch, its number, and which rows of the whole it holds.
        given: the data.
    """

    # Batches of an epoch, where that is known.
    length: int | None = None

    def __init__(self, updates: Updates, take: Callable[..., Outcome], given: Any):
        self._updates, self._given = updates, given
        self._model = model = updates.model
        self._workers = {"worker": updates.worker, "workers": updates.workers}
        if model.jit_compile and updates.replicas == 1 and not model.run_eagerly:
            take = tf.function(take, jit_compile=True, reduce_retracing=True)
        self._take = _unconverted(take)
        self._guard = _unconverted(self._guarded)
        self._run = self._chunk if model.run_eagerly else tf.function(self._chunk)

    def open(self, epoch: int, step: int) -> Any:
        """Return the epoch from a step on, as `run` takes it."""
        raise NotImplementedError

    def run(
        self, opened: Any, step: int, limit: int, sums: np.ndarray, skip_non_finite: bool
    ) -> tuple[int, np.ndarray, int, int, np.ndarray]:
        """Take up to `limit` batches, from the one of number `step`, and add their sums up.

        Returns:
            How many were taken; the sums; how many of them were skipped; the problem that ended
            it, 0 if none did; and the extremes of the batch that had it.
        """
        arguments = map(tf.constant, (step, limit, sums, skip_non_finite))
        taken, sums, skipped, problem, extremes = (
            value.numpy() for value in self._run(opened, *arguments)
        )
        return int(taken), sums, int(skipped), int(problem), extremes

    def _chunk(self, opened: Any, step: Any, limit: Any, sums: Any, skip_non_finite: Any) -> Any:
        raise NotImplementedError

    def adapt(self) -> None:
        """Start the model at the data, if it has not been trained or adapted."""
        # Each worker is to set the same: of a pipeline each may see other rows first.
        if self._updates.workers == 1 or isinstance(self._given, Batches):
            self._model.adapt_once(self._given)

    def _guarded(self, batch: Any) -> Any:
        """Check a batch's values; outside of the function that XLA compiles, which cannot."""
        checked = self._model.tensors(batch, guard=True)
        with tf.control_dependencies([part for part in checked if part is not None]):
            return tf.nest.map_structure(tf.identity, batch)


@_unconverted
def _added(outcome: Outcome, sums: Any, skipped: Any, skip_non_finite: Any) -> tuple[Any, Any, Any]:
    """Return the sums, the count of skipped batches, and the problem that ends it, 0 if none."""
    forgiven = tf.logical_and(skip_non_finite, outcome.problem > 0)
    fine = tf.equal(outcome.problem, 0)
    return (
        sums + tf.where(fine, outcome.sums, tf.zeros_like(outcome.sums)),
        skipped + tf.cast(forgiven, tf.int32) + outcome.skipped,
        tf.where(forgiven, 0, outcome.problem),
    )


class _InGraph(_Source):
    """Batches of images that are in memory, each made in the graph that takes it."""

    def __init__(self, updates: Updates, take: Callable[..., Outcome], batches: Batches):
        super().__init__(updates, take, batches)
        if tf.config.list_logical_devices("GPU"):
            # They came into the host's memory within a limit that a GPU's memory is far above.
            batches = dataclasses.replace(batches, split=batches.split.on("GPU:0"))
        self._batches = batches
        self._at = _unconverted(batches.at)
        self.length = len(batches)

    def open(self, epoch: int, step: int) -> Any:
        return tf.constant(epoch, tf.int64)

    def run(
        self, opened: Any, step: int, limit: int, sums: np.ndarray, skip_non_finite: bool
    ) -> tuple[int, np.ndarray, int, int, np.ndarray]:
        limit = min(limit, len(self._batches) - step)
        return super().run(opened, step, limit, sums, skip_non_finite)

    def _chunk(self, opened: Any, step: Any, limit: Any, sums: Any, skip_non_finite: Any) -> Any:
        taken, skipped, problem = tf.constant(0), tf.constant(0), tf.constant(0)
        extremes = tf.zeros(2)
        while taken < limit and problem == 0:
            index = step + taken
            batch = self._at(opened, index, **self._workers)
            held = self._batches.held(index, **self._workers)
            outcome = self._take(self._guard(batch), index, held)
            sums, skipped, problem = _added(outcome, sums, skipped, skip_non_finite)
            extremes = outcome.extremes
            taken += 1
        return taken, sums, skipped, problem, extremes


class _Iterated(_Source):
    """Batches of a `tf.data` pipeline."""

    def __init__(self, updates: Updates, take: Callable[..., Outcome], data: Any):
        super().__init__(updates, take, data)
        self._data = data
        if isinstance(data, Batches):
            self.length = len(data)
        else:
            length = int(data.cardinality())
            self.length = length if length >= 0 else None

    def open(self, epoch: int, step: int) -> Any:
        if isinstance(self._data, Batches):
            return iter(self._data.dataset(epoch, step, **self._workers))
        return iter(self._data.skip(step) if step else self._data)

    def _chunk(self, opened: Any, step: Any, limit: Any, sums: Any, skip_non_finite: Any) -> Any:
        taken, skipped, problem = tf.constant(0), tf.constant(0), tf.constant(0)
        extremes = tf.zeros(2)
        while taken < limit and problem == 0:
            batch = opened.get_next_as_optional()
            if not batch.has_value():
                break
            index = step + taken
            held = None
            if isinstance(self._data, Batches):
                held = self._data.held(index, **self._workers)
            outcome = self._take(self._guard(batch.get_value()), index, held)
            sums, skipped, problem = _added(outcome, sums, skipped, skip_non_finite)
            extremes = outcome.extremes
            taken += 1
        return taken, sums, skipped, problem, extremes


def _source(updates: Updates, data: Any, take: Callable[..., Outcome]) -> _Source:
    if isinstance(data, Batches) and data.split.in_memory:
        return _InGraph(updates, take, data)
    return _Iterated(updates, take, data)


# --- the epochs -----------------------------------------------------------------------------------


@dataclasses.dataclass
class _Training:
    """One call of `train`, whose arguments it has."""

    updates: Updates
    data: _Source
    validation: _Source | None
    epochs: int
    callbacks: Sequence[keras.callbacks.Callback]
    steps_per_call: int | None
    checkpoints: Checkpoints | None
    checkpoint_seconds: float
    skip_non_finite: bool
    should_stop: Callable[[], bool]
    progress: bool
    identity: Mapping[str, str]

    def run(self) -> keras.callbacks.History:
        """Train to the end, or to where it is to stop."""
        model = self.updates.model
        # A checkpoint holds what these remember, in this order.
        self._kept = [*model.own_callbacks(), *self.callbacks]
        say_directions(self._kept)
        self._at = Position()
        self._saved = time.monotonic()
        self._chunk = _Chunk(self.steps_per_call, self.updates.workers)
        self._shown = [ProgressBar()] if self.progress else []
        container = keras.callbacks.CallbackList(
            [*self._shown, *self._kept],
            add_history=True,
            add_progbar=False,
            model=model,
            epochs=self.epochs,
            steps=self.data.length,
            verbose=0,
        )
        model.stop_training = False
        container.on_train_begin()
        try:
            with self._named_errors():
                self._resume_or_adapt()
                self._train(container)
        finally:
            for bar in self._shown:
                bar.close()
        return model.history

    def _train(self, container: keras.callbacks.CallbackList) -> None:
        model, at = self.updates.model, self._at
        logs: dict[str, float] = {}
        while at.epoch < self.epochs and not at.stopped:
            container.on_epoch_begin(at.epoch)
            if not self._epoch(container):
                return
            logs = self.updates.logs(at.totals)
            with _averaged_weights(model):
                if self.validation is not None:
                    results = self._validate(self.validation, container)
                    logs |= {f"val_{name}": value for name, value in results.items()}
                container.on_epoch_end(at.epoch, logs)
            # With what callbacks have added to the logs, such as the learning rate.
            at.history = model.history.history
            at.epoch, at.step, at.totals = at.epoch + 1, 0, np.zeros(0)
            at.stopped = bool(model.stop_training)
            over = at.stopped or at.epoch == self.epochs
            if self._save(now=over) and not over:
                return
        model.optimizer.finalize_variable_values(model.trainable_variables)
        container.on_train_end(logs)

    def _epoch(self, container: keras.callbacks.CallbackList) -> bool:
        """Take the steps of an epoch that are left; say whether all of them were taken."""
        at, updates = self._at, self.updates
        if not at.totals.size:
            updates.model.reset_metrics()
            at.totals = updates.no_sums()
        opened = self.data.open(at.epoch, at.step)
        while at.step != self.data.length:
            container.on_train_batch_begin(at.step)
            limit, begun, seen = self._chunk.steps, time.perf_counter(), updates.events(at.totals)
            taken, at.totals, skipped, problem, extremes = self.data.run(
                opened, at.step, limit, at.totals, self.skip_non_finite
            )
            seconds = time.perf_counter() - begun
            self._chunk.took(taken, seconds)
            if problem:
                self._complain(at.step + taken, problem, extremes)
            at.step, at.taken, at.skipped = at.step + taken, at.taken + taken, at.skipped + skipped
            if taken:
                for bar in self._shown:
                    bar.count(updates.events(at.totals) - seen, seconds, at.skipped)
                container.on_train_batch_end(at.step - 1, updates.logs(at.totals))
            is_last = taken < limit or at.step == self.data.length
            # The end of an epoch is a place of its own, with validation before it.
            if is_last or updates.model.stop_training:
                break
            if self._save():
                return False
        if not at.step:
            raise InputError("expected at least one batch of events; the data set is empty")
        return True

    def _validate(
        self, source: _Source, container: keras.callbacks.CallbackList
    ) -> dict[str, float]:
        updates = self.updates
        container.on_test_begin()
        updates.model.reset_metrics()
        step, sums, opened = 0, updates.no_sums(), source.open(0, 0)
        while step != source.length:
            container.on_test_batch_begin(step)
            limit = self._chunk.steps
            try:
                taken, sums, *_ = source.run(opened, step, limit, sums, False)
            except tf.errors.OpError as error:
                if isinstance(found := own_error(error), InputError):
                    raise InputError(f"validation: {found}") from None
                raise
            step += taken
            if taken:
                container.on_test_batch_end(step - 1, updates.logs(sums))
            if taken < limit:
                break
        if not step:
            raise InputError("expected at least one batch of events; the data set is empty")
        logs = updates.logs(sums)
        container.on_test_end(logs)
        return logs

    def _complain(self, step: int, problem: int, extremes: np.ndarray) -> None:
        """Raise the error for the batch that was the `step`-th of its epoch."""
        name = self.updates.problems[problem - 1].replace("_", "-")
        place = f"at step {step} of epoch {self._at.epoch + 1}"
        message = divergence_message(name, place, (float(extremes[0]), float(extremes[1])))
        if self.checkpoints is not None and (files := self.checkpoints.files()):
            message += f"; the last checkpoint is {files[0]}"
        raise DivergenceError(message)

    @contextlib.contextmanager
    def _named_errors(self) -> Iterator[None]:
        """Say in one line what TensorFlow says in many, where it is known."""
        try:
            yield
        except tf.errors.OpError as error:
            named = self._named(error)
            if named is None:
                raise
            raise named from error

    def _named(self, error: tf.errors.OpError) -> Exception | None:
        found: Any
        place = f"step {self._at.step + 1} of epoch {self._at.epoch + 1}"
        lost = (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.InternalError)
        if self.updates.workers > 1 and (
            isinstance(error, lost) or "Collective ops is aborted" in error.message
        ):
            return WorkerError(
                f"another worker is gone, seen at {place}: start all workers again, and they go on "
                "from the last checkpoint"
            )
        if found := own_error(error):
            return found
        if found := re.search(r"expected to contain (\d+) .*contained only (\d+)", error.message):
            return InputError(
                f"the data end after {found[2]} batches; expected {found[1]}, as they say of "
                "themselves"
            )
        # What Python code of a pipeline has raised comes with its traceback.
        if found := re.search(r"^(\w+: .*)\nTraceback", error.message, re.MULTILINE):
            return InputError(f"the data cannot be read at {place}: {found[1]}")
        return None

    # --- checkpoints --------------------------------------------------------------------------

    def _resume_or_adapt(self) -> None:
        """Go on from the newest checkpoint, where there is one; else start at the data."""
        if self.checkpoints is None:
            self.data.adapt()
            return
        model, strategy = self.updates.model, self.updates.strategy
        # Workers share no disk, maybe: what the chief reads is what all of them go on from.
        found = self.checkpoints.read() if self.updates.worker == 0 else None
        state = broadcast(strategy, found)
        if state is None:
            self.data.adapt()
            return
        model.adapted = True
        self._at = restore(model, state, self._kept, self.identity)
        model.history.history = self._at.history
        model.history.epoch = list(range(self._at.epoch))
        for bar in self._shown:
            bar.go_on(self._at.taken, self._at.step)

    def _save(self, now: bool = False) -> bool:
        """Write a checkpoint if it is time for one; say whether the training is to stop here."""
        stops = any_of(self.updates.strategy, bool(self.should_stop()))
        due = time.monotonic() - self._saved >= self.checkpoint_seconds
        if self.checkpoints is not None and self.updates.worker == 0 and (due or now or stops):
            self.checkpoints.write(
                self._at.taken,
                capture(self.updates.model, self._at, self._kept, self.identity),
            )
            self._saved = time.monotonic()
        return stops


class _Chunk:
    """How many steps run in one call: so many that Python's part is nothing, and Ctrl-C is heard.

    Args:
        steps: a fixed number, or None.
        workers: several have to agree, and do on a fixed number.
    """

    _SECONDS = 0.5
    _MOST = 1000

    def __init__(self, steps: int | None, workers: int):
        self._fixed = steps is not None or workers > 1
        self.steps = steps or (32 if workers > 1 else 4)
        self._calls = 0

    def took(self, steps: int, seconds: float) -> None:
        """Learn from how long some steps took; the first call has traced a graph as well."""
        self._calls += 1
        if not self._fixed and self._calls > 1 and steps:
            wanted = round(self._SECONDS * steps / max(seconds, 1e-6))
            self.steps = max(1, min(wanted, 4 * self.steps, self._MOST))


@contextlib.contextmanager
def _averaged_weights(model: LatentVariableModel) -> Iterator[None]:
    """Exchange the weights for their averages, where the optimiser keeps some, for a while."""
    optimizer: Any = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    if not optimizer.use_ema:
        yield
        return
    variables = model.trainable_variables
    weights = [keras.ops.copy(variable.value) for variable in variables]
    optimizer.finalize_variable_values(variables)
    try:
        yield
    finally:
        for variable, weight in zip(variables, weights, strict=True):
            variable.assign(weight)
