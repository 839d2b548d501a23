"""What `VAE` and `Autoencoder` share: two networks, a likelihood, and the way back to images."""

from collections.abc import Sequence
from typing import Any, Self

import keras
import tensorflow as tf

from tfvae import likelihoods, networks
from tfvae.errors import InputError
from tfvae.models.step import ImageTrainer
from tfvae.models.tracing import run


class LatentImageModel(ImageTrainer):
    """Images to a latent vector and back: base class of `VAE` and `Autoencoder`."""

    def __init__(
        self,
        encoder: keras.Model,
        decoder: keras.Model,
        latent_dim: int,
        *,
        likelihood: Any = "bernoulli",
        num_classes: int | None = None,
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
        self.num_classes = networks.check_num_classes(num_classes)
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
        num_classes: int | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> Self:
        """Make the usual model for images of a shape.

        Args:
            image_shape: (H, W, C).
            latent_dim: d.
            network: "conv", "residual" or "dense", with options as in
                ``"residual:filters=32x64,blocks=2"``; see `tfvae.networks`.
            likelihood: p(x|z), a `tfvae.likelihoods.Likelihood` or a name.
            num_classes: labels, for a model that is conditional on one.
            seed: seed of all initial weights and of the model's own noise.
            **kwargs: those of the constructor.

        Raises:
            InputError: if the shape, the network or another argument does not fit.
        """
        encoder, decoder = networks.pair(
            network, image_shape, latent_dim, num_classes=num_classes, seed=seed
        )
        likelihood = likelihoods.get(likelihood)
        # These decoders put out features, also where there are as many as parameters.
        if likelihood.decoder_output is None:
            likelihood.decoder_output = "features"
        return cls(
            encoder,
            decoder,
            latent_dim,
            likelihood=likelihood,
            num_classes=num_classes,
            seed=seed,
            **kwargs,
        )

    # --- building -------------------------------------------------------------------------------

    def _build_if_known(self) -> None:
        """Build at construction where the encoder says which images it takes."""
        shape = getattr(self.encoder, "input_shape", None) if self.encoder.built else None
        if isinstance(shape, list):  # of the image and the label
            shape = shape[0]
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
        features = self._run_symbolically("encoder", self.encoder, image_shape)
        likelihood = self.likelihood_family
        likelihood.bind(image_shape, self._derived_seed(3))
        self.image_shape = image_shape
        try:
            self._build_latent(features)
            features = self._run_symbolically("decoder", self.decoder, (self.latent_dim,))
            if isinstance(features, (list, tuple, dict)):
                raise InputError("the decoder must put out one tensor; received several")
            likelihood.last_activation = _last_activation(self.decoder)
            likelihood(features)
            self._check_latent()
        except InputError:
            self.image_shape = None
            raise
        self.built = True
        self._build_optimizer()

    def _run_symbolically(self, role: str, network: Any, input_shape: tuple[int, ...]) -> Any:
        """Give a network's symbolic output, or say in one line why it does not take the input."""
        shapes = [input_shape] if self.num_classes is None else [input_shape, (self.num_classes,)]
        expected = " and ".join(map(_shape, shapes))
        known = getattr(network, "input_shape", None) if network.built else None
        if isinstance(known, (tuple, list)):
            taken = known if isinstance(known, list) else [known]
            if len(taken) != len(shapes) or not all(map(_admits, taken, shapes)):
                raise InputError(
                    f"the {role} takes {' and '.join(_shape(shape[1:]) for shape in taken)}, "
                    f"but must take {expected}"
                )
        inputs = [keras.Input(shape) for shape in shapes]
        try:
            return network(inputs if len(inputs) > 1 else inputs[0])
        except InputError:
            raise
        except (ValueError, TypeError) as error:
            reason = " ".join(str(error).split())
            raise InputError(
                f"the {role} must take input of shape {expected}; it said: {reason}"
            ) from error

    def _build_latent(self, features: Any) -> None:
        """Build what lies between the encoder's output and z."""
        raise NotImplementedError

    def _check_latent(self) -> None:
        """Check that what has been built fits together."""

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
            "num_classes": self.num_classes,
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

    @property
    def _default_save_signature(self) -> Any:
        # Keras traces a call of images alone as it saves, which a conditional model refuses.
        return None if self.num_classes is not None else super()._default_save_signature

    # --- images in and out ----------------------------------------------------------------------

    def _condition(self, label: Any, owner: tf.Tensor, axes: int) -> list[tf.Tensor]:
        """Give labels as the networks take them: ``[one-hot [N, num_classes]]``, or ``[]``.

        Args:
            label: labels that broadcast to the leading axes of `owner`; None for a model without.
            owner: what the labels belong to; N is the size of its leading axes.
            axes: how many trailing axes are those of one thing.
        """
        if self.num_classes is None and label is None:
            return []
        label = self.checked_labels(label)
        known = owner.shape[:-axes]
        try:
            fits = tf.broadcast_static_shape(label.shape, known).is_compatible_with(known)
        except ValueError:
            fits = False
        if not fits:
            raise InputError(
                f"expected one label, or labels of shape {known}; received shape {label.shape}"
            )
        label = tf.reshape(tf.broadcast_to(label, tf.shape(owner)[:-axes]), (-1,))
        return [tf.one_hot(label, self.num_classes)]

    def _features(self, x: Any, label: Any, training: bool) -> Any:
        """Give what the encoder puts out for images `[B, H, W, C]` and their labels."""
        x = self._images(x)
        condition = self._condition(label, x, 3)
        return run(self.encoder, [x, *condition] if condition else x, training)

    def decode(self, z: Any, label: Any = None, training: bool = False) -> Any:
        """Give p(x|z), or p(x|z, y) of a conditional model.

        Args:
            z: latent vectors `[..., d]`, any leading axes.
            label: of a conditional model, whole numbers that broadcast to the leading axes of `z`.
            training: whether the decoder runs in training mode.

        Returns:
            A `tfd.Distribution` with the batch shape of `z` and event shape `[H, W, C]`.

        Raises:
            InputError: if the last axis of `z` is not d, or the label does not fit.
        """
        return self.likelihood_family.distribution(self._decoded(z, label, training))

    def _decoded(self, z: Any, label: Any, training: bool) -> dict[str, tf.Tensor]:
        """Give the parameters of p(x|z), each `[..., H, W, maps]` for z `[..., d]`."""
        self._require_built("decode")
        z = tf.cast(tf.convert_to_tensor(z), tf.float32)
        if z.shape.rank is not None and (z.shape.rank < 1 or z.shape[-1] != self.latent_dim):
            raise InputError(
                f"expected latent vectors [..., {self.latent_dim}]; received shape {z.shape}"
            )
        batch_shape = tf.shape(z)[:-1]
        flat = tf.reshape(z, (-1, self.latent_dim))
        condition = self._condition(label, z, 1)
        features = run(self.decoder, [flat, *condition] if condition else flat, training)
        parameters = self.likelihood_family(features)
        if z.shape.rank != 2:
            parameters = {
                name: tf.reshape(value, tf.concat([batch_shape, tf.shape(value)[1:]], 0))
                for name, value in parameters.items()
            }
            for value in parameters.values():
                value.set_shape((*z.shape[:-1], *value.shape[-3:]))
        return parameters

    def _likelihood(self, decoded: dict[str, tf.Tensor], x: tf.Tensor, training: bool) -> Any:
        """Give the p(x|z) to evaluate at `x`; see `Likelihood.training_distribution`."""
        if training:
            return self.likelihood_family.training_distribution(decoded, x)
        return self.likelihood_family.distribution(decoded)

    def _mean_image(self, z: Any, label: Any = None, training: bool = False) -> tf.Tensor:
        """Give the mean of p(x|z), `[..., H, W, C]`."""
        return self.likelihood_family.mean(self.decode(z, label, training))

    def _require_built(self, method: str) -> None:
        if self.image_shape is None:
            raise InputError(
                f"the model does not know its image shape yet: call it on images before {method}"
            )

    def code(self, x: Any, label: Any = None) -> tf.Tensor:
        """Give the latent vector that stands for each image, `[B, d]`; see `Posterior.code`.

        Args:
            x: images `[B, H, W, C]`.
            label: of a conditional model, the labels of the images `[B]`.

        Raises:
            InputError: if images or labels do not fit.
        """
        return self._code(self.checked_images(x), label, training=False)

    def call(self, x: Any, label: Any = None, training: bool = False) -> tf.Tensor:
        """Give reconstructions `[B, H, W, C]`: the mean of p(x|z) at the code of each image.

        A conditional model takes the labels as a second argument, or a pair of both as its first.
        """
        if label is None and isinstance(x, (tuple, list)) and len(x) == 2:
            x, label = x
        x = self._images(x)
        return self._mean_image(self._code(x, label, training), label, training)

    def _code(self, x: tf.Tensor, label: Any, training: bool) -> tf.Tensor:
        raise NotImplementedError

    def reconstruct(self, x: Any, label: Any = None) -> tf.Tensor:
        """Give reconstructions of images, the mean of p(x|z) at the code of each.

        Args:
            x: images `[B, H, W, C]`.
            label: of a conditional model, the labels of the images `[B]`.

        Returns:
            `[B, H, W, C]`.

        Raises:
            InputError: if the images have another shape, or values outside the support, or the
                labels do not fit.
        """
        # By name: Keras takes tensors alone by position.
        return self(self.checked_images(x), label=label)

    def interpolate(self, a: Any, b: Any, steps: int = 8, label: Any = None) -> tf.Tensor:
        """Decode the straight line in latent space from the images `a` to the images `b`.

        Args:
            a: one image `[H, W, C]`, or several `[B, H, W, C]`.
            b: as many.
            steps: points on the line, both ends included; at least 2.
            label: of a conditional model, the label that both ends of a line have: one for all, or
                `[B]`.

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
        start, end = (self.code(image[None] if single else image, label) for image in (a, b))
        weights = tf.reshape(tf.linspace(0.0, 1.0, steps), (1, steps, 1))
        line = (1 - weights) * start[:, None] + weights * end[:, None]
        images = self._mean_image(line, _column(label))
        return images[0] if single else images

    def traverse(self, x: Any, dimension: int, values: Any, label: Any = None) -> tf.Tensor:
        """Decode the codes of images with one latent dimension set to each of some values.

        Args:
            x: one image `[H, W, C]`, or several `[B, H, W, C]`.
            dimension: which latent dimension, 0 to d − 1.
            values: what to set it to, `[V]`.
            label: of a conditional model, the label of the images: one for all, or `[B]`.

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
        code = self.code(x[None] if single else x, label)[:, None]
        chosen = tf.one_hot(dimension, self.latent_dim)
        images = self._mean_image(code * (1 - chosen) + values * chosen, _column(label))
        return images[0] if single else images


def _column(label: Any) -> Any:
    """Give labels `[B]` as `[B, 1]`, for the images made of each; one label stays as it is."""
    label = None if label is None else tf.convert_to_tensor(label)
    return label if label is None or label.shape.rank == 0 else label[:, None]


def _admits(known: Any, shape: tuple[int, ...]) -> bool:
    """Whether a network that takes `known`, with its batch and open sides, takes `shape`."""
    return len(known) == len(shape) + 1 and all(
        side in (None, expected) for side, expected in zip(known[1:], shape, strict=True)
    )


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
