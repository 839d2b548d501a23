"""What ``tfvae train --model vq`` does of its own: model, second stage, pictures of codes."""

from typing import Any

import keras
import numpy as np
from matplotlib.figure import Figure

from tfvae import datasets, plotting
from tfvae.errors import InputError
from tfvae.evaluation import CodeUsage, code_usage
from tfvae.likelihoods import Likelihood
from tfvae.models.vq import VQVAE
from tfvae.saving.config import TrainConfig

# Below this share of codes in use, a smaller codebook says as much.
_LEAST_USED = 0.25


def make(config: TrainConfig, data: datasets.Dataset, likelihood: Likelihood | str) -> VQVAE:
    """Build the model that options name.

    Raises:
        InputError: if an option is one of other models, or does not fit.
    """
    plain = TrainConfig()
    for name in ("posterior", "prior", "objective"):
        if getattr(config, name) != getattr(plain, name):
            raise InputError(
                f"--{name} is for a VAE, and --model vq has a --quantizer and a --code-prior: "
                "leave it out"
            )
    return VQVAE.for_events(
        data.event_shape,
        code_dim=config.latent_dim,
        network=config.network,
        quantizer=config.quantizer or "vq",
        code_prior=config.code_prior or "transformer",
        likelihood=likelihood,
        num_classes=data.num_classes if config.conditional else None,
        missing=config.missing,
        seed=config.seed,
    )


def prior_optimizer(rate: Any) -> keras.optimizers.Optimizer:
    """Return the optimiser of the second stage.

    Args:
        rate: its step size, or the schedule of that.
    """
    # Attention has steps now and then that are far too long.
    return keras.optimizers.Adam(rate, global_clipnorm=1.0)


def usage_of(vq: VQVAE, data: datasets.Split) -> CodeUsage:
    """Count the codes of events."""
    return code_usage(vq, data.batches(256, epoch=0))


def usage_warnings(usage: CodeUsage) -> tuple[str, ...]:
    """Return a line if most codes stand for nothing."""
    size = usage.counts.shape[1]
    if usage.used >= _LEAST_USED:
        return ()
    return (
        f"{usage.used:.0%} of {size} codes are in use: train with fewer, as in --quantizer "
        f"vq:codes={max(2, size // 4)}",
    )


def picture(vq: VQVAE, x: np.ndarray, labels: np.ndarray | None, usage: CodeUsage) -> Figure:
    """Draw the use of codes, and the code maps of the first of some events."""
    few = slice(10)
    codes = vq.codes(x[few], None if labels is None else labels[few]).numpy()
    return plotting.code_use(usage, codes, x[few] if x.ndim == 4 else None)
