"""Callbacks of `fit`: those that a model brings, and what it tells those of the user."""

from collections.abc import Iterable

import keras
import numpy as np

from tfvae.errors import DivergenceError
from tfvae.models.step import divergence_message

# The figures that are better when they are higher.
_UPWARD = ("elbo", "log_likelihood")


def say_directions(callbacks: Iterable[keras.callbacks.Callback]) -> None:
    """Tell callbacks that watch an ELBO or a likelihood that it is better when it is higher.

    Keras finds the direction of the metrics given to `compile` alone, and raises for others.
    """
    for callback in callbacks:
        monitor = getattr(callback, "monitor", None)
        is_open = getattr(callback, "mode", None) == "auto" and isinstance(monitor, str)
        if is_open and str(monitor).removeprefix("val_") in _UPWARD:
            callback.mode = "max"


class DivergenceWatch(keras.callbacks.Callback):
    """Ends a training that XLA has compiled at the end of the epoch whose loss is not finite."""

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Look at the mean loss of the epoch."""
        if not np.isfinite((logs or {}).get("loss", 0.0)):
            place = f"in epoch {epoch + 1}"
            raise DivergenceError(divergence_message("loss or its gradient", place, (0.0, 0.0)))
