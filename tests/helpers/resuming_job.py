"""A training that may be killed, run as a process by `test_resuming`."""

import io
import os
import signal
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

import tfvae
from tfvae.datasets import Batches, load
from tfvae.training import train
from tfvae.training.checkpoints import Checkpoints, pack

# Of 5 steps each. Early stopping ends the training in the last but one.
EPOCHS = 6


class Events(keras.callbacks.Callback):
    """Kills the process at ``(name of a callback's method, epoch, batch)``; says when it begins."""

    def __init__(self, at=None, begun=None):
        super().__init__()
        self._at = at
        self._begun = begun
        self._epoch = 0

    def _reached(self, event, batch=None):
        if self._at == (event, self._epoch, batch):
            die()

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch

    def on_train_batch_begin(self, batch, logs=None):
        self._reached("on_train_batch_begin", batch)

    def on_train_batch_end(self, batch, logs=None):
        if self._begun is not None:
            self._begun.set()
        self._reached("on_train_batch_end", batch)

    def on_test_batch_end(self, batch, logs=None):
        self._reached("on_test_batch_end", batch)

    def on_epoch_end(self, epoch, logs=None):
        self._reached("on_epoch_end")


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def die_while_writing(number, moment):
    """Let the process be killed at a moment of writing its checkpoint of a number, from 1."""
    written = 0

    class File(io.FileIO):
        def write(self, data):
            if written == number and moment == "half":
                super().write(data[: len(data) // 2])
                die()
            return super().write(data)

    def opened(path, mode="r", *args, **kwargs):
        nonlocal written
        if not path.name.startswith(".partial"):
            return true_open(path, mode, *args, **kwargs)
        written += 1
        if written == number and moment == "opened":
            true_open(path, mode).close()
            die()
        return File(path, mode)

    def around(function, before, after):
        def patched(*args, **kwargs):
            if written == number and moment == before:
                die()
            result = function(*args, **kwargs)
            if written == number and moment == after:
                die()
            return result

        return patched

    true_open = Path.open
    Path.open = opened
    os.fsync = around(os.fsync, "before fsync", "after fsync")
    Path.replace = around(Path.replace, None, "after rename")
    Path.unlink = around(Path.unlink, None, "after removal")


def state_of(step):
    """What a training of nothing but a few numbers would have to keep."""
    return pack({"step": step}, {"a": np.arange(1000.0) * step})


def write_three(directory, moment):
    """Write three checkpoints, of which two are kept; be killed at a moment of the third."""
    die_while_writing(3, moment)
    checkpoints = Checkpoints(directory)
    for step in (1, 2, 3):
        checkpoints.write(step, state_of(step))


def compiled_model():
    """A model with all kinds of state: noise, dropout, EMA, accumulated gradients, a metric."""
    initial = keras.initializers.HeNormal
    images = keras.Input((8, 8, 1))
    hidden = keras.layers.Flatten()(images)
    hidden = keras.layers.Dense(8, "relu", kernel_initializer=initial(1))(hidden)
    encoder = keras.Model(images, keras.layers.Dropout(0.1, seed=2)(hidden))
    z = keras.Input((2,))
    pixels = keras.layers.Dense(64, kernel_initializer=initial(3))(z)
    decoder = keras.Model(z, keras.layers.Reshape((8, 8, 1))(pixels))
    vae = tfvae.VAE(encoder, decoder, 2, seed=0, objective="elbo:beta=linear(steps=8)")
    optimizer = keras.optimizers.Adam(
        0.05, use_ema=True, ema_momentum=0.9, gradient_accumulation_steps=3, global_clipnorm=50.0
    )
    vae.compile(optimizer, metrics=["mse"])
    vae.adapted = True  # so that it takes all epochs
    return vae


def job(
    directory,
    *,
    epochs=EPOCHS,
    steps_per_call=1,
    checkpoint_seconds=0.0,
    at=None,
    writing=None,
    begun=None,
):
    """Train, in a directory of checkpoints, and write what came of it to ``result.npz`` there."""
    if writing:
        die_while_writing(*writing)
    tf.config.experimental.enable_op_determinism()
    data = load("digits", binarize="dynamic", seed=3)
    vae = compiled_model()
    stopping = keras.callbacks.EarlyStopping(
        "val_loss", min_delta=5.0, patience=2, restore_best_weights=True
    )
    reducing = keras.callbacks.ReduceLROnPlateau("val_loss", min_delta=5.0, patience=1, cooldown=1)
    history = train(
        vae,
        Batches(data.train, 300, shuffle=True),
        epochs=epochs,
        validation_data=Batches(data.validation, 100),
        callbacks=[Events(at, begun), stopping, reducing],
        steps_per_call=steps_per_call,
        checkpoint_dir=directory,
        checkpoint_seconds=checkpoint_seconds,
        progress=False,
    )
    variables = [*vae.variables, *vae.metrics_variables, *vae.optimizer.variables]
    result = {f"{i} {v.path}": np.asarray(v) for i, v in enumerate(variables)}
    result |= {f"history {name}": np.array(values) for name, values in history.history.items()}
    result["history epochs"] = np.array(history.epoch)
    for callback in (stopping, reducing):
        for name, value in vars(callback).items():
            # Keras changes the sign of this one when it first needs it.
            if isinstance(value, (int, float)) and name != "min_delta":
                result[f"{type(callback).__name__} {name}"] = np.array(value)
    result |= {f"best weight {i}": weight for i, weight in enumerate(stopping.best_weights)}
    np.savez(Path(directory) / "result.npz", **result)
