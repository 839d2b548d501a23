"""The bar that shows how far a training is."""

import sys
from typing import Any

import keras
from tqdm import tqdm


class ProgressBar(keras.callbacks.Callback):
    """One bar over all epochs on standard error: the terms of the ELBO, events/s, the time left."""

    def __init__(self) -> None:
        super().__init__()
        self._bar: Any = None
        self._done = 0
        self._validation: dict[str, float] = {}
        self._skipped = 0
        # Calls, their events and seconds; the first one has traced a graph, and is left out.
        self._calls, self._events, self._seconds = 0, 0, 0.0

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
        self._bar.set_description(f"epoch {epoch + 1}/{self.params.get('epochs')}", refresh=False)

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Move on by the steps of a call."""
        self._show(logs or {})
        self._bar.update(batch + 1 - self._done)
        self._done = batch + 1

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Show what validation gave."""
        self._done = 0
        self._validation = {
            name: value for name, value in (logs or {}).items() if name == "val_elbo"
        }
        self._show(logs or {})

    def go_on(self, taken: int, step: int) -> None:
        """Start from so many steps in all, and so many in the epoch, that were taken before."""
        # Not by `update`, which would take these steps for this process' own, at their speed.
        self._bar.initial = self._bar.n = self._bar.last_print_n = taken
        self._bar.refresh()
        self._done = step

    def count(self, events: int, seconds: float, skipped: int) -> None:
        """Tell how many events a call has trained on, how long it took, and the skipped batches."""
        self._calls += 1
        if self._calls > 1:
            self._events, self._seconds = self._events + events, self._seconds + seconds
        self._skipped = skipped

    def _show(self, logs: dict[str, float]) -> None:
        shown: dict[str, str] = {
            name: f"{logs[name]:.2f}" for name in ("elbo", "log_likelihood", "kl") if name in logs
        }
        shown |= {name: f"{value:.2f}" for name, value in self._validation.items()}
        if self._seconds:
            shown["events/s"] = f"{self._events / self._seconds:,.0f}"
        if self._skipped:
            shown["skipped"] = str(self._skipped)
        self._bar.set_postfix(shown, refresh=False)

    def close(self) -> None:
        """Close the bar; safe to call twice."""
        if self._bar is not None:
            self._bar.refresh()
            self._bar.close()
            self._bar = None
