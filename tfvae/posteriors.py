"""Posteriors q(z|x)."""

from typing import Any

import keras
import tensorflow as tf

from tfvae.errors import InputError
from tfvae.families import PACKAGE, Family, resolve
from tfvae.lazy import tfd


class Posterior(Family):
    """Base class of posteriors.

    ``call`` takes what the encoder puts out and gives a dictionary of float32 tensors with the
    batch first; ``distribution`` gives q(z|x) with batch shape `[B]` and event shape `[d]`.
    """

    def call(self, encoder_output: Any) -> dict[str, Any]:
        """Map the encoder's output to the parameters of q(z|x)."""
        raise NotImplementedError

    def distribution(self, parameters: dict[str, tf.Tensor]) -> Any:
        """Make q(z|x) from its parameters."""
        raise NotImplementedError


@keras.saving.register_keras_serializable(PACKAGE)
class DiagonalNormal(Posterior):
    """q(z|x) = N(μ(x), diag σ²(x)), parametrised by μ and log σ².

    The encoder may put out

    * features of any shape, from which a dense layer makes μ and log σ²; or
    * a list ``[loc, log_var]`` or ``[loc, log_var, z]``, each `[B, d]`, as hand-written encoders
      often do: the first two are taken as they are, a third is ignored.
    """

    def build(self, input_shape: Any) -> None:
        """Create the dense layer, if the encoder puts out features."""
        (latent_dim,) = self.event_shape
        if _is_list_of_shapes(input_shape):
            if len(input_shape) not in (2, 3) or any(
                tuple(shape[1:]) != (latent_dim,) for shape in input_shape[:2]
            ):
                raise InputError(
                    f"an encoder with several outputs must give [loc, log_var], each "
                    f"[batch, {latent_dim}]; received shapes {[tuple(s) for s in input_shape]}"
                )
            self.head = None
        else:
            if len(input_shape) < 2 or None in input_shape[1:]:
                raise InputError(
                    "the encoder must put out features of a known size, [batch, features]; "
                    f"received shape {tuple(input_shape)}"
                )
            self.flatten = keras.layers.Flatten(dtype="float32")
            self.head = keras.layers.Dense(
                2 * latent_dim,
                kernel_initializer=self._head_initializer(),
                dtype="float32",
                name="loc_and_log_var",
            )
            self.head.build((None, _size(input_shape[1:])))
        self.built = True

    def call(self, encoder_output: Any) -> dict[str, Any]:
        """Give ``{"loc": [B, d], "log_var": [B, d]}`` in float32."""
        if self.head is None:
            loc, log_var = encoder_output[:2]
        else:
            loc, log_var = keras.ops.split(self.head(self.flatten(encoder_output)), 2, axis=-1)
        return {
            "loc": keras.ops.cast(loc, "float32"),
            "log_var": keras.ops.cast(log_var, "float32"),
        }

    def distribution(self, parameters: dict[str, tf.Tensor]) -> Any:
        """Give q(z|x), a `tfd.Independent` normal with batch `[B]` and event `[d]`."""
        from tfvae.gaussian import LogVarianceNormal

        return tfd.Independent(
            LogVarianceNormal(parameters["loc"], parameters["log_var"]),
            reinterpreted_batch_ndims=1,
        )


def _is_list_of_shapes(shape: Any) -> bool:
    return len(shape) > 0 and isinstance(shape[0], (list, tuple))


def _size(shape: Any) -> int:
    size = 1
    for side in shape:
        size *= side
    return size


KNOWN: dict[str, type[Posterior]] = {"normal": DiagonalNormal}


def get(identifier: Any) -> Posterior:
    """Give the posterior that a name, a configuration or an instance stands for."""
    return resolve(identifier, Posterior, KNOWN, "posterior")
