"""Priors p(z)."""

from typing import Any

import keras
import tensorflow as tf

from tfvae.families import PACKAGE, Family, resolve
from tfvae.lazy import tfd


class Prior(Family):
    """Base class of priors: ``distribution`` gives p(z) with event shape `[d]`."""

    def distribution(self) -> Any:
        """Make p(z)."""
        raise NotImplementedError


@keras.saving.register_keras_serializable(PACKAGE)
class StandardNormal(Prior):
    """p(z) = N(0, I)."""

    def distribution(self) -> Any:
        """Give p(z), a `tfd.Independent` normal with event shape `[d]`."""
        loc = tf.zeros(self.event_shape)
        return tfd.Independent(tfd.Normal(loc, tf.ones_like(loc)), reinterpreted_batch_ndims=1)


KNOWN: dict[str, type[Prior]] = {"standard_normal": StandardNormal}


def get(identifier: Any) -> Prior:
    """Give the prior that a name, a configuration or an instance stands for."""
    return resolve(identifier, Prior, KNOWN, "prior")
