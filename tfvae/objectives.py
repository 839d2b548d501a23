"""Objectives: what training minimises, from the terms of the ELBO.

    ELBO(x) = E_q(z|x)[log p(x|z)] − KL(q(z|x) ‖ p(z)) ≤ log p(x)

An objective is a pure function of the terms. It gives one loss an image; the mean over the batch
is taken once, in the training step.
"""

import dataclasses
import math
from typing import Any

import keras
import tensorflow as tf

from tfvae.divergences import kl_divergence
from tfvae.errors import InputError
from tfvae.families import PACKAGE, is_number, resolve


@dataclasses.dataclass(frozen=True)
class Terms:
    """One batch seen through the three distributions, with K draws of z for each image.

    Attributes:
        x: images, `[B, H, W, C]`.
        z: draws from q(z|x), `[K, B, d]`.
        posterior: q(z|x), a `tfd.Distribution` with batch `[B]` and event `[d]`.
        prior: p(z), a `tfd.Distribution` with event `[d]`.
        likelihood: p(x|z), a `tfd.Distribution` with batch `[K, B]` and event `[H, W, C]`.
        log_likelihood: log p(x|z_k), `[K, B]`, nats.
        kl: KL(q(z|x) ‖ p(z)), `[B]`, nats; see `tfvae.divergences.kl_divergence`.
    """

    x: tf.Tensor
    z: tf.Tensor
    posterior: Any
    prior: Any
    likelihood: Any
    log_likelihood: tf.Tensor
    kl: tf.Tensor

    @classmethod
    def of(cls, x: tf.Tensor, z: tf.Tensor, posterior: Any, prior: Any, likelihood: Any) -> "Terms":
        """Evaluate the terms at the images `x` and the draws `z`."""
        return cls(
            x=x,
            z=z,
            posterior=posterior,
            prior=prior,
            likelihood=likelihood,
            log_likelihood=likelihood.log_prob(x),
            kl=kl_divergence(posterior, prior, z),
        )

    @property
    def mean_log_likelihood(self) -> tf.Tensor:
        """E_q[log p(x|z)], estimated with the K draws: `[B]`, nats."""
        return tf.reduce_mean(self.log_likelihood, axis=0)

    @property
    def elbo(self) -> tf.Tensor:
        """E_q[log p(x|z)] − KL(q ‖ p): `[B]`, nats."""
        return self.mean_log_likelihood - self.kl


class Objective:
    """Base class of objectives.

    Attributes:
        num_samples: K, the draws of z for each image that the objective wants.
    """

    num_samples: int = 1

    def __call__(self, terms: Terms) -> tf.Tensor:
        """Give the loss of each image, `[B]`, in nats; it is minimised."""
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        """Give the constructor's arguments."""
        return {}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Objective":
        """Make the objective from `get_config`'s dictionary."""
        return cls(**config)


@keras.saving.register_keras_serializable(PACKAGE)
class ELBO(Objective):
    """loss(x) = −(E_q[log p(x|z)] − β KL(q ‖ p)).

    With β = 1 it is the negative ELBO, Kingma and Welling (2014), arXiv:1312.6114, equation 3;
    with another β the objective of Higgins et al. (2017), equation 4.

    Args:
        beta: weight of the KL, at least 0.
        num_samples: K, draws of z for each image.

    Raises:
        InputError: if `beta` is negative or not finite, or `num_samples` below 1.
    """

    def __init__(self, beta: float = 1.0, num_samples: int = 1):
        if not (is_number(beta) and 0 <= beta < math.inf):
            raise InputError(f"beta is a number of at least 0; received {beta!r}")
        if isinstance(num_samples, bool) or not isinstance(num_samples, int) or num_samples < 1:
            raise InputError(f"num_samples is a whole number from 1; received {num_samples!r}")
        self.beta = float(beta)
        self.num_samples = num_samples

    def __call__(self, terms: Terms) -> tf.Tensor:
        """Give −(log_likelihood − beta · kl), `[B]`, nats."""
        return -(terms.mean_log_likelihood - self.beta * terms.kl)

    def get_config(self) -> dict[str, Any]:
        """Give the constructor's arguments."""
        return {"beta": self.beta, "num_samples": self.num_samples}


KNOWN: dict[str, type[Objective]] = {"elbo": ELBO}


def get(identifier: Any) -> Objective:
    """Give the objective that a name, a configuration or an instance stands for."""
    return resolve(identifier, Objective, KNOWN, "objective")
