"""What `VAE` and `Autoencoder` share: two networks, a likelihood, and the way back to images."""

from collections.abc import Sequence
from typing import Any, Self

import keras
import tensorflow as tf

from tfvae import likelihoods, networks
from tfvae.errors import InputError
from tfvae.step import ImageTrainer


class LatentImageModel(ImageTrainer):
    """Images to a latent vector and back: base class of `VAE` and `Autoencoder`."""

    def __init__(
        self,
        encoder: keras.Model,
        decoder: keras.Model,
        latent_dim: int,
        *,
        likelihood: Any = "bernoulli",
        seed: int | None = None,
        **kwargs: Any,
    ):
        # Images stay in float32: the networks cast what they are given, the likelihood must not.
        super().__init__(autocast=False, **kwargs)
        if keras.backend.backend() != "tensorflow":
            raise InputError(
                "tfvae needs Keras on TensorFlow; received backend "
                f"{keras.backend.backend()!r}: set KERAS_BACKEND=tensorflow"
            )
        networks.check_latent_dim(latent_dim)
        for role, network in (("encoder", encoder), ("decoder", decoder)):
            if not isinstance(network, keras.layers.Layer):
                raise InputError(f"the {role} must be a keras.Model; received {network!r}")
        if seed is not None and (not isinstance(seed, int) or seed < 0):
            raise InputError(f"seed is a whole number from 0, or None; received {seed!r}")
        self.encoder = encoder
        self.decoder = decoder
        self.latent_dim = latent_dim
        self.likelihood_family = likelihoods.get(likelihood)
        self._make_training_state(seed)
        # (height, width, channels), None until the model is built.
        self.image_shape: Any = None

    @classmethod
    def for_images(
        cls,
        image_shape: Sequence[int],
        *,
        latent_dim: int = 16,
        network: str = "conv",
        likelihood: Any = "bernoulli",
        seed: int | None = None,
        **kwargs: Any,
    ) -> Self:
        """Make the usual model for images of a shape.

        Args:
            image_shape: (H, W, C).
            latent_dim: d.
            network: "conv", "residual" or "dense"; see `tfvae.networks`.
            likelihood: p(x|z), a `tfvae.likelihoods.Likelihood` or a name.
            seed: seed of all initial weights and of the model's own noise.
            **kwargs: those of the constructor.

        Raises:
            InputError: if the shape, the network or another argument does not fit.
        """
        encoder, decoder = networks.pair(network, image_shape, latent_dim, seed=seed)
        likelihood = likelihoods.get(likelihood)
        # These decoders put out features, also where there are as many as parameters.
        if likelihood.decoder_output is None:
            likelihood.decoder_output = "features"
        return cls(encoder, decoder, latent_dim, likelihood=likelihood, seed=seed, **kwargs)

    # --- building -------------------------------------------------------------------------------

    def _build_if_known(self) -> None:
        """Build at construction where the encoder says which images it takes."""
        shape = getattr(self.encoder, "input_shape", None) if self.encoder.built else None
        if shape is not None and None not in tuple(shape)[1:]:
            self.build(shape)

    def build(self, input_shape: Any) -> None:
        """Build networks and families for images of `input_shape`, `[B, H, W, C]`.

        Raises:
            InputError: if the networks do not fit the images, the latent dimension or each other.
        """
        shape = tuple(input_shape)
        if len(shape) != 4 or None in shape[1:]:
            raise InputError(
                f"expected images [batch, height, width, channels]; received shape {shape}"
            )
        if self.image_shape is not None:
            self._check_shape(shape)
            return
        image_shape = networks.check_image_shape(shape[1:])
        features = _run_symbolically("encoder", self.encoder, image_shape)
        self._build_latent(features)
        features = _run_symbolically("decoder", self.decoder, (self.latent_dim,))
        if isinstance(features, (list, tuple, dict)):
            raise InputError("the decoder must put out one tensor; received several")
        likelihood = self.likelihood_family
        likelihood.bind(image_shape, self._derived_seed(3))
        likelihood.last_activation = _last_activation(self.decoder)
        likelihood(features)
        self.image_shape = image_shape
        self.built = True
        self._build_optimizer()

    def _build_latent(self, features: Any) -> None:
        """Build what lies between the encoder's output and z."""
        raise NotImplementedError

    def _derived_seed(self, number: int) -> int | None:
        return None if self.seed is None else 1_000 * self.seed + 900 + number

    def get_build_config(self) -> dict[str, Any] | None:
        """Give what `build_from_config` needs, once the model is built."""
        return {"image_shape": self.image_shape} if self.image_shape else None

    def build_from_config(self, config: dict[str, Any]) -> None:
        """Build as the saved model was built."""
        if config and config.get("image_shape") and self.image_shape is None:
            self.build((None, *config["image_shape"]))

    def get_config(self) -> dict[str, Any]:
        """Give the constructor's arguments."""
        serialize = keras.saving.serialize_keras_object
        return {
            **keras.layers.Layer.get_config(self),
            "encoder": serialize(self.encoder),
            "decoder": serialize(self.decoder),
            "latent_dim": self.latent_dim,
            "likelihood": serialize(self.likelihood_family),
            "seed": self.seed,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Any:
        """Make the model from `get_config`'s dictionary."""
        config = {
            key: keras.saving.deserialize_keras_object(value, custom_objects=custom_objects)
            if isinstance(value, dict) and "class_name" in value
            else value
            for key, value in config.items()
        }
        return cls(**config)

    # --- images in and out ----------------------------------------------------------------------

    def decode(self, z: Any, training: bool = False) -> Any:
        """Give p(x|z).

        Args:
            z: latent vectors `[..., d]`, any leading axes.
            training: whether the decoder runs in training mode.

        Returns:
            A `tfd.Distribution` with the batch shape of `z` and event shape `[H, W, C]`.

        Raises:
            InputError: if the last axis of `z` is not d.
        """
        self._require_built("decode")
        z = tf.cast(tf.convert_to_tensor(z), tf.float32)
        if z.shape.rank is not None and (z.shape.rank < 1 or z.shape[-1] != self.latent_dim):
            raise InputError(
                f"expected latent vectors [..., {self.latent_dim}]; received shape {z.shape}"
            )
        batch_shape = tf.shape(z)[:-1]
        features = self.decoder(tf.reshape(z, (-1, self.latent_dim)), training=training)
        parameters = self.likelihood_family(features)
        if z.shape.rank != 2:
            parameters = {
                name: tf.reshape(value, tf.concat([batch_shape, tf.shape(value)[1:]], 0))
                for name, value in parameters.items()
            }
            for value in parameters.values():
                value.set_shape((*z.shape[:-1], *value.shape[-3:]))
        return self.likelihood_family.distribution(parameters)

    def _require_built(self, method: str) -> None:
        if self.image_shape is None:
            raise InputError(
                f"the model does not know its image shape yet: call it on images before {method}"
            )

    def code(self, x: Any) -> tf.Tensor:
        """Give the latent vector that stands for each image, `[B, d]`: the mean of q(z|x)."""
        raise NotImplementedError

    def call(self, x: Any, training: bool = False) -> tf.Tensor:
        """Give reconstructions `[B, H, W, C]`: the mean of p(x|z) at the code of each image."""
        x = self._images(x)
        return self.decode(self._code(x, training), training).mean()

    def _code(self, x: tf.Tensor, training: bool) -> tf.Tensor:
        raise NotImplementedError

    def reconstruct(self, x: Any) -> tf.Tensor:
        """Give reconstructions of images, the mean of p(x|z) at the code of each.

        Args:
            x: images `[B, H, W, C]`.

        Returns:
            `[B, H, W, C]`.

        Raises:
            InputError: if the images have another shape, or values outside the support.
        """
        return self(self.checked_images(x))

    def interpolate(self, a: Any, b: Any, steps: int = 8) -> tf.Tensor:
        """Decode the straight line in latent space from the images `a` to the images `b`.

        Args:
            a: one image `[H, W, C]`, or several `[B, H, W, C]`.
            b: as many.
            steps: points on the line, both ends included; at least 2.

        Returns:
            Images `[steps, H, W, C]` for single images, `[B, steps, H, W, C]` for several.

        Raises:
            InputError: if the shapes differ or do not fit, or `steps` is below 2.
        """
        if steps < 2:
            raise InputError(f"steps is a whole number from 2; received {steps!r}")
        a, b = tf.convert_to_tensor(a), tf.convert_to_tensor(b)
        if a.shape != b.shape:
            raise InputError(
                f"expected two images, or two batches, of one shape; received {a.shape}, {b.shape}"
            )
        single = a.shape.rank == 3
        start, end = (self.code(image[None] if single else image) for image in (a, b))
        weights = tf.reshape(tf.linspace(0.0, 1.0, steps), (1, steps, 1))
        images = self.decode((1 - weights) * start[:, None] + weights * end[:, None]).mean()
        return images[0] if single else images

    def traverse(self, x: Any, dimension: int, values: Any) -> tf.Tensor:
        """Decode the codes of images with one latent dimension set to each of some values.

        Args:
            x: one image `[H, W, C]`, or several `[B, H, W, C]`.
            dimension: which latent dimension, 0 to d − 1.
            values: what to set it to, `[V]`.

        Returns:
            Images `[V, H, W, C]` for a single image, `[B, V, H, W, C]` for several.

        Raises:
            InputError: if there is no such dimension, or the images do not fit.
        """
        if not 0 <= dimension < self.latent_dim:
            raise InputError(
                f"dimension is a whole number from 0 to {self.latent_dim - 1}; "
                f"received {dimension!r}"
            )
        x = tf.convert_to_tensor(x)
        single = x.shape.rank == 3
        values = tf.reshape(tf.cast(tf.convert_to_tensor(values), tf.float32), (1, -1, 1))
        code = self.code(x[None] if single else x)[:, None]
        chosen = tf.one_hot(dimension, self.latent_dim)
        images = self.decode(code * (1 - chosen) + values * chosen).mean()
        return images[0] if single else images


def _run_symbolically(role: str, network: Any, input_shape: tuple[int, ...]) -> Any:
    """Give a network's symbolic output, or say in one line why it does not take the input."""
    known = getattr(network, "input_shape", None) if network.built else None
    if isinstance(known, tuple) and any(
        side is not None and side != expected
        for side, expected in zip(known[1:], input_shape, strict=False)
    ):
        raise InputError(
            f"the {role} takes {_shape(known[1:])}, but must take {_shape(input_shape)}"
        )
    try:
        return network(keras.Input(input_shape))
    except InputError:
        raise
    except (ValueError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"the {role} must take input of shape {_shape(input_shape)}; it said: {reason}"
        ) from error


def _shape(shape: Any) -> str:
    return f"[batch, {', '.join(map(str, shape))}]"


def _last_activation(decoder: Any) -> Any:
    """The activation that a decoder's output has been through, None where it cannot be told."""
    if not isinstance(decoder, keras.Sequential) and not hasattr(decoder, "outputs"):
        return None
    shape_only = (keras.layers.Reshape, keras.layers.Flatten, keras.layers.Cropping2D)
    for layer in reversed(decoder.layers):
        if not isinstance(layer, shape_only):
            return getattr(layer, "activation", None)
    return None
