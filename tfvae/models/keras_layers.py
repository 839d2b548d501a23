"""Plain Keras models out of a trained one: x → code, and z → mean of p(x|z).

A Keras layer may not return a distribution. The two layers here go from a network's features to
the mean of the distribution that a family makes of them, and so close a functional `keras.Model`.
"""

import math
from collections.abc import Sequence
from typing import Any, Self

import keras
import numpy as np
import tensorflow as tf

from tfvae.distributions.family import PACKAGE, Family
from tfvae.likelihoods import Encoding, Likelihood
from tfvae.models.event_spec import EventSpec
from tfvae.typing import Config, Shape, Tensor


class _MeanOfFamily(keras.layers.Layer):
    """Base class: a family, bound to the events that it describes.

    Args:
        family: a `tfvae.posteriors.Posterior` or `tfvae.likelihoods.Likelihood`.
        event_shape: of one draw.
        **kwargs: those of `keras.layers.Layer`.
    """

    def __init__(self, family: Family, event_shape: Shape, **kwargs: Any):
        super().__init__(autocast=False, **kwargs)
        self.family = family
        self.family_event_shape = tuple(event_shape)

    def build(self, input_shape: Any) -> None:
        """Bind and build the family, where no model has done so before."""
        self.family.bind(self.family_event_shape, None)
        if not self.family.built:
            self.family.build(input_shape)
        self.built = True

    def get_config(self) -> Config:
        """Return the constructor's arguments."""
        family = keras.saving.serialize_keras_object(self.family)
        return {**super().get_config(), "family": family, "event_shape": self.family_event_shape}

    @classmethod
    def from_config(cls, config: Config) -> Self:
        """Build the layer from `get_config`'s dictionary."""
        family = keras.saving.deserialize_keras_object(config["family"])
        return cls(**{**config, "family": family})


@keras.saving.register_keras_serializable(PACKAGE)
class PosteriorCode(_MeanOfFamily):
    """From an encoder's features to the code `[B, d]`; see `tfvae.posteriors.Posterior.code`."""

    def call(self, features: Any) -> Tensor:
        """Compute the code of each event."""
        return self.family.code(self.family.distribution(self.family(features)))


@keras.saving.register_keras_serializable(PACKAGE)
class MapCode(keras.layers.Layer):
    """From an encoder's map of features to the quantised vectors, one after another, `[B, d]`.

    Args:
        to_vectors: from features to the vectors of the map.
        quantizer: quantises them.
        **kwargs: those of `keras.layers.Layer`.
    """

    def __init__(
        self, to_vectors: keras.layers.Layer, quantizer: keras.layers.Layer, **kwargs: Any
    ):
        super().__init__(autocast=False, **kwargs)
        self.to_vectors = to_vectors
        self.quantizer = quantizer

    def build(self, input_shape: Shape) -> None:
        """Build both layers, where no model has done so before."""
        if not self.to_vectors.built:
            self.to_vectors.build(input_shape)
        if not self.quantizer.built:
            self.quantizer.build((*input_shape[:-1], self.to_vectors.units))
        self.built = True

    def call(self, features: Tensor) -> Tensor:
        """Compute the code of each event."""
        vectors = self.quantizer(self.to_vectors(features))
        return keras.ops.reshape(vectors, (-1, math.prod(vectors.shape[1:])))

    def get_config(self) -> Config:
        """Return the constructor's arguments."""
        serialize = keras.saving.serialize_keras_object
        return {
            **super().get_config(),
            "to_vectors": serialize(self.to_vectors),
            "quantizer": serialize(self.quantizer),
        }

    @classmethod
    def from_config(cls, config: Config) -> Self:
        """Build the layer from `get_config`'s dictionary."""
        parts = ("to_vectors", "quantizer")
        read = {name: keras.saving.deserialize_keras_object(config[name]) for name in parts}
        return cls(**{**config, **read})


@keras.saving.register_keras_serializable(PACKAGE)
class LikelihoodMean(_MeanOfFamily):
    """From a decoder's features to the mean of p(x|z), `[B, *event_shape]`."""

    def call(self, features: Any) -> Tensor:
        """Compute the mean of p(x|z)."""
        return self.family.mean(self.family.distribution(self.family(features)))

    def get_config(self) -> Config:
        """Return the constructor's arguments."""
        config = super().get_config()
        # What the features mean was told from the decoder's last layer, which is not at hand when
        # the layer is read again.
        if self.family.built:
            config["family"]["config"]["decoder_output"] = self.family.meaning
        return config


@keras.saving.register_keras_serializable(PACKAGE)
class WithMask(keras.layers.Layer):
    """Events with NaN in their holes to events without, beside their mask.

    Args:
        fill: what stands in the holes, one number or one for each channel.
        **kwargs: those of `keras.layers.Layer`.
    """

    def __init__(self, fill: float | Sequence[float] = 0.0, **kwargs: Any):
        super().__init__(autocast=False, **kwargs)
        self.fill = fill

    def call(self, x: Any) -> Tensor:
        """Return `[B, ..., 2C]` of events `[B, ..., C]`."""
        mask = tf.logical_not(tf.math.is_nan(x))
        return tf.concat([tf.where(mask, x, self.fill), tf.cast(mask, x.dtype)], axis=-1)

    def get_config(self) -> Config:
        """Return the constructor's arguments."""
        return {**super().get_config(), "fill": self.fill}


@keras.saving.register_keras_serializable(PACKAGE)
class EncodedEvents(keras.layers.Layer):
    """Events, or these beside their mask, to what an encoder takes in their place.

    Args:
        columns: those of the `tfvae.likelihoods.Encoding`.
        **kwargs: those of `keras.layers.Layer`.
    """

    def __init__(self, columns: Sequence[Sequence[Any]], **kwargs: Any):
        super().__init__(autocast=False, **kwargs)
        self.encoding = Encoding(tuple((str(kind), *rest) for kind, *rest in columns))

    def call(self, x: Any) -> Tensor:
        """Return `[B, channels]` of events `[B, D]`, the mask behind both."""
        size = len(self.encoding.columns)
        return tf.concat([self.encoding(x[..., :size]), x[..., size:]], axis=-1)

    def get_config(self) -> Config:
        """Return the constructor's arguments."""
        return {**super().get_config(), "columns": [list(one) for one in self.encoding.columns]}


def encoder_model(
    encoder: keras.Model,
    code: keras.layers.Layer,
    spec: EventSpec,
    *,
    code_takes_label: bool = False,
) -> keras.Model:
    """Build the model from x to its code.

    Args:
        encoder: from events to features.
        code: from features to codes.
        spec: what an event is.
        code_takes_label: whether `code` takes the label, if there is one, behind a list of
            features.
    """
    x = keras.Input(spec.shape, name="x")
    events = x
    if spec.missing:
        events = WithMask(np.asarray(spec.support.fill).tolist(), name="with_mask")(x)
    if spec.encoding is not None:
        events = EncodedEvents(spec.encoding.columns, name="encoded_events")(events)
    inputs, arguments = _with_label(x, events, spec)
    features = encoder(arguments)
    if code_takes_label and spec.num_classes is not None:
        features = [*features, arguments[1]]
    return keras.Model(inputs, code(features), name="encoder")


def decoder_model(
    decoder: keras.Model,
    likelihood: Likelihood,
    latent_dim: int,
    spec: EventSpec,
    z_shape: Shape,
) -> keras.Model:
    """Build the model from z to the mean of p(x|z).

    Args:
        decoder: from z to features.
        likelihood: p(x|z).
        latent_dim: d.
        spec: what an event is.
        z_shape: how the decoder takes the d values of z.
    """
    z = keras.Input((latent_dim,), name="z")
    in_shape = z if len(z_shape) == 1 else keras.layers.Reshape(z_shape, name="map")(z)
    inputs, arguments = _with_label(z, in_shape, spec)
    mean = LikelihoodMean(likelihood, spec.shape, name="mean")
    return keras.Model(inputs, mean(decoder(arguments)), name="decoder")


def _with_label(tensor: Any, argument: Any, spec: EventSpec) -> tuple[Any, Any]:
    """Return a model's inputs and a network's arguments, with one-hot labels if it takes some."""
    if spec.num_classes is None:
        return tensor, argument
    label = keras.Input((spec.num_classes,), name="label")
    return [tensor, label], [argument, label]
