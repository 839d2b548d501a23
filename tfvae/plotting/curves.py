"""Curves of a training."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from tfvae.errors import InputError
from tfvae.plotting.figure import Shown


def curves(history: Mapping[str, Sequence[float]]) -> Figure:
    """Draw ELBO, log-likelihood and KL over the epochs, in training and validation.

    Args:
        history: values by name, one an epoch, such as ``keras.callbacks.History.history``.

    Raises:
        InputError: if there are none of these.
    """
    titles = {"elbo": "ELBO", "log_likelihood": "log-likelihood", "kl": "KL"}
    shown = [name for name in titles if name in history] if isinstance(history, Mapping) else []
    if not shown:
        raise InputError(
            f"expected the history of a training, with {', '.join(titles)}; received "
            f"{type(history).__name__} without them"
        )
    figure = Shown(figsize=(4 * len(shown), 3.2), layout="constrained")
    for position, name in enumerate(shown, start=1):
        axes = figure.add_subplot(1, len(shown), position)
        epochs = np.arange(1, len(history[name]) + 1)
        axes.plot(epochs, history[name], label="training")
        if f"val_{name}" in history:
            axes.plot(epochs, history[f"val_{name}"], label="validation")
        axes.set(title=titles[name], xlabel="epoch", ylabel="nats per event")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    return figure
