"""The bar that shows how far a training is."""

import sys
import time
from typing import Any

import keras
from tqdm import tqdm


class ProgressBar(keras.callbacks.Callback):
    """One bar over all epochs on standard error: the terms of the ELBO, images/s, the time left."""

    def __init__(self) -> None:
        super().__init__()
        self._bar: Any = None
        self._done = 0
        self._validation: dict[str, float] = {}
        self._skipped = 0
        # Images seen since a moment, of this epoch.
        self._since: tuple[float, int] | None = None
        self._rate = 0.0

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
        self._since = None

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
        self._bar.initial = taken
        self._bar.update(taken - self._bar.n)
        self._done = step

    def count(self, images: int, skipped: int) -> None:
        """Tell how many images the epoch has seen, for their rate, and the batches left out."""
        now = time.perf_counter()
        if self._since is None:
            # The clock starts after an epoch's first steps: they may have traced a graph.
            self._since = now, images
        elif images > self._since[1]:
            self._rate = (images - self._since[1]) / (now - self._since[0])
        self._skipped = skipped

    def _show(self, logs: dict[str, float]) -> None:
        shown: dict[str, str] = {
            name: f"{logs[name]:.2f}" for name in ("elbo", "log_likelihood", "kl") if name in logs
        }
        shown |= {name: f"{value:.2f}" for name, value in self._validation.items()}
        if self._rate:
            shown["images/s"] = f"{self._rate:,.0f}"
        if self._skipped:
            shown["skipped"] = str(self._skipped)
        self._bar.set_postfix(shown, refresh=False)

    def close(self) -> None:
        """Close the bar; safe to call twice."""
        if self._bar is not None:
            self._bar.refresh()
            self._bar.close()
            self._bar = None
