"""What a training takes where its options leave it open: what the data ask for."""

import dataclasses
import math

import numpy as np

from tfvae import datasets, likelihoods
from tfvae.saving.config import TrainConfig

# The likelihood of a table: what its columns are says which.
COLUMNS = "columns"
# Epochs that a training waits for a better one, at least; it ends with the weights of the best.
_LEAST_PATIENCE = 10
# The KL of a hierarchy divides by variances that networks put out. Once in some 20,000 steps its
# gradient, some 80 long for images of digits, is longer by far, and Adam does not recover from a
# step along it.
_HIERARCHY_NORM = 200.0
# Events that are looked at.
_LOOKED_AT = 4096


def completed(
    config: TrainConfig, data: datasets.Dataset
) -> tuple[TrainConfig, likelihoods.Choice | None]:
    """Return the options with all that was left open chosen, and why the likelihood was.

    Args:
        config: as the user gave it.
        data: to train on.

    Returns:
        The options, and the choice of the likelihood; None where the user chose it.
    """
    choice = None if config.likelihood is not None else _likelihood(data)
    size = config.batch_size or _batch_size(len(data.train))
    epochs, patience = config.epochs, config.patience
    if epochs is None:
        epochs = math.ceil(_steps(len(data.train)) / data.train.steps(size))
        patience = patience or max(_LEAST_PATIENCE, math.ceil(epochs / 4))
    return (
        dataclasses.replace(
            config,
            binarize=data.train.binarize,  # type: ignore[arg-type]
            likelihood=config.likelihood if choice is None else choice.likelihood,
            latent_dim=config.latent_dim or _default_dim(config, data),
            batch_size=size,
            epochs=epochs,
            patience=patience,
            objective=_objective(config, epochs * data.train.steps(size)),
            clip_norm=_clip_norm(config),
        ),
        choice,
    )


def _likelihood(data: datasets.Dataset) -> likelihoods.Choice:
    source = data.train.source
    if data.schema is not None:
        return likelihoods.Choice(COLUMNS, "a table has a distribution for each column")
    if source.dtype == np.uint8 and data.train.binarize == data.train.noise == "none":
        return likelihoods.Choice("discretized_logistic", "the values are bytes / 255")
    x, _ = data.train.subset(min(_LOOKED_AT, len(data.train))).arrays()
    if source.values is not None and source.value_range is None and data.levels is None:
        # The ends of all values, of which a few may be rare.
        x = np.append(x, source.values).astype(np.float32)
    return likelihoods.for_values(x)


def _batch_size(events: int) -> int:
    """Return a power of two: a small data set still has some steps an epoch."""
    return int(np.clip(2 ** int(math.log2(max(1, events / 8))), 8, 128))


def _default_dim(config: TrainConfig, data: datasets.Dataset) -> int | None:
    # A quantizer knows the width of its vectors.
    return None if config.model == "vq" else _latent_dim(data.event_shape)


def _objective(config: TrainConfig, steps: int) -> str | None:
    if config.objective is not None or config.model == "vq":  # which has none
        return config.objective
    warm_up = steps // config.accumulate // 4
    if config.model == "hierarchical" and warm_up:
        # Without it the groups below the first stay unused.
        return f"elbo:beta=linear(steps={warm_up})"
    return "elbo"


def _clip_norm(config: TrainConfig) -> float | None:
    if config.model == "hierarchical" and config.clip_norm is None and config.skip_norm is None:
        return _HIERARCHY_NORM
    return config.clip_norm


def _latent_dim(event_shape: tuple[int, ...]) -> int:
    return int(np.clip(math.ceil(math.prod(event_shape) / 2), 1, 16))


def _steps(events: int) -> int:
    """Return how many steps to train for: fewer where few events would be learned by heart."""
    return int(np.clip(4 * events, 600, 2000))
