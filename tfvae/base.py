"""What `VAE` and `Autoencoder` share: the networks, the likelihood and the training step."""

import contextlib
import dataclasses
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Self

import keras
import numpy as np
import tensorflow as tf

from tfvae import likelihoods, networks
from tfvae.errors import InputError

# Marks the message of an assertion inside a graph as one for the user.
_MARK = "input error: "


@dataclasses.dataclass(frozen=True)
class Step:
    """What one batch gives, before anything is averaged.

    Attributes:
        loss: what training minimises, `[B]`.
        validation_loss: what `val_loss` reports, `[B]`: for a VAE the negative ELBO at beta = 1.
        terms: named terms to report, each `[B]`, in nats.
        reconstruction: gives `[B, H, W, C]` for the user's own metrics, when there are any.
    """

    loss: tf.Tensor
    validation_loss: tf.Tensor
    terms: dict[str, tf.Tensor]
    reconstruction: Callable[[], tf.Tensor]


class LatentImageModel(keras.Model):
    """Images to a latent vector and back: base class of `VAE` and `Autoencoder`."""

    term_names: tuple[str, ...] = ()

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
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        self._validation_seeds = keras.random.SeedGenerator(1 if seed is None else seed + 1)
        self._term_means = [keras.metrics.Mean(name=name) for name in self.term_names]
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

    def _check_shape(self, shape: Any) -> None:
        shape = tuple(shape)
        if self.image_shape is None or (len(shape) == 4 and shape[1:] == self.image_shape):
            return
        advice = ""
        if len(shape) == 3 and self.image_shape in ((*shape[1:], 1), shape):
            advice = ": add the missing axis, " + (
                "x[None]" if shape == self.image_shape else "x[..., None]"
            )
        raise InputError(
            f"expected images [batch, {', '.join(map(str, self.image_shape))}]; "
            f"received shape [{', '.join(map(str, shape))}]{advice}"
        )

    def _images(self, x: Any) -> tf.Tensor:
        """Give `x` as a float32 tensor `[B, H, W, C]`, the model built for it."""
        x = tf.cast(tf.convert_to_tensor(x), tf.float32)
        if self.image_shape is None:
            self.build(x.shape)
        if None in x.shape[1:]:
            # A pipeline that has lost the static shape: what it promised is checked when it runs.
            x = tf.ensure_shape(x, (None, *self.image_shape))
        self._check_shape(x.shape)
        return x

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

    def checked_images(self, x: Any) -> tf.Tensor:
        """Give `x` as a float32 tensor; raise `InputError` where shape or values do not fit."""
        x = self._images(x)
        if tf.executing_eagerly():
            self.likelihood_family.check(x)
        return x

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

    # --- training -------------------------------------------------------------------------------

    def _step(self, x: tf.Tensor, seed: Any, training: bool) -> Step:
        raise NotImplementedError

    def compile(self, optimizer: Any = "adam", loss: Any = None, **kwargs: Any) -> None:
        """Configure training, as `keras.Model.compile` does.

        Args:
            optimizer: a Keras optimizer or its name.
            loss: must stay None; the objective is part of the model.
            **kwargs: those of `keras.Model.compile`. Metrics compare images with their
                reconstructions.

        Raises:
            InputError: if a loss is given.
        """
        if loss is not None or kwargs.get("loss_weights") is not None:
            raise InputError(
                f"compile takes no loss; received {loss!r}: the objective is part of the model, "
                "VAE(..., likelihood=..., objective=...)"
            )
        super().compile(optimizer=optimizer, **kwargs)
        self._build_optimizer()

    def _build_optimizer(self) -> None:
        """Make the optimiser's variables as soon as there are weights, not in the first step.

        Saving finds them then, and a traced loop of steps may not make any.
        """
        if self.image_shape is not None and self.compiled and self.optimizer is not None:
            self.optimizer.build(self.trainable_variables)

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compile as the saved model was compiled."""
        config = keras.saving.deserialize_keras_object(config)
        config = {key: value for key, value in config.items() if not key.startswith("loss")}
        self.compile(**config)

    def train_step(self, data: Any) -> dict[str, Any]:
        """Take one optimiser step on a batch; `fit` and `tfvae.training.train` share it.

        The loss is the mean over the batch of the objective's loss per image, times the image's
        sample weight where there is one, plus the networks' own regularisation.
        """
        x, sample_weight = self._batch(data)
        with tf.GradientTape() as tape:
            step = self._step(x, self._next_seed(self.seed_generator), training=True)
            loss = _batch_mean(step.loss, sample_weight)
            if self.losses:
                loss += tf.add_n([tf.cast(extra, loss.dtype) for extra in self.losses])
            # Replicas' gradients are summed.
            share = loss / tf.distribute.get_strategy().num_replicas_in_sync
            scaled = self.optimizer.scale_loss(share)
        gradients = tape.gradient(scaled, self.trainable_variables)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
        return self._report(x, loss, step, sample_weight)

    def test_step(self, data: Any) -> dict[str, Any]:
        """Evaluate a batch: ``loss`` is the negative ELBO, whatever the training objective is."""
        x, sample_weight = self._batch(data)
        step = self._step(x, self._next_seed(self._validation_seeds), training=False)
        loss = _batch_mean(step.validation_loss, sample_weight)
        return self._report(x, loss, step, sample_weight)

    def predict_step(self, data: Any) -> tf.Tensor:
        """Reconstruct a batch."""
        x, _, _ = keras.utils.unpack_x_y_sample_weight(data)
        return self(x)

    def _batch(self, data: Any) -> tuple[tf.Tensor, tf.Tensor | None]:
        """Give images and sample weights of a batch; a label or a target is left aside."""
        x, _, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        x = self._images(x)
        self._assert_supported(x)
        return x, sample_weight

    def _assert_supported(self, x: tf.Tensor) -> None:
        """Assert inside a graph what `Likelihood.check` checks outside."""
        family = self.likelihood_family
        if tf.executing_eagerly():
            family.check(x)
            return
        tf.debugging.Assert(
            family.support.admits(x),
            [f"{_MARK}{type(family).__name__}", tf.reduce_min(x), tf.reduce_max(x)],
        )

    def _report(
        self, x: tf.Tensor, loss: tf.Tensor, step: Step, sample_weight: tf.Tensor | None
    ) -> dict[str, Any]:
        # Keras makes this metric at `compile` and lists it first.
        self._loss_tracker.update_state(loss, sample_weight=tf.shape(x)[0])
        for mean in self._term_means:
            mean.update_state(step.terms[mean.name], sample_weight=sample_weight)
        reconstruction = step.reconstruction() if self._compile_metrics is not None else None
        return self.compute_metrics(x, x, reconstruction, sample_weight=sample_weight)

    @staticmethod
    def _next_seed(generator: keras.random.SeedGenerator) -> tf.Tensor:
        return tf.cast(generator.next(), tf.int32)

    def _seed(self, seed: Any) -> tf.Tensor:
        """Give `[2]` or `[B, 2]` int32; for None the model's own next seed."""
        if seed is None:
            return self._next_seed(self.seed_generator)
        seed = tf.cast(tf.convert_to_tensor(seed), tf.int32)
        if seed.shape.rank == 0:
            seed = tf.stack([seed, 0])
        if seed.shape.rank not in (1, 2) or seed.shape[-1] != 2:
            raise InputError(
                "a seed is a whole number, a pair [2], or a pair for each image [batch, 2]; "
                f"received shape {seed.shape}"
            )
        return seed

    def reset_metrics(self) -> None:
        """Reset the metrics, and the noise that evaluation draws: every pass draws the same."""
        super().reset_metrics()
        start = 1 if self.seed is None else self.seed + 1
        self._validation_seeds.state.assign([start, 0])

    def fit(
        self,
        x: Any = None,
        y: Any = None,
        *args: Any,
        validation_data: Any = None,
        sample_weight: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Train as `keras.Model.fit` does; labels and targets in the data are left aside.

        Raises:
            InputError: if images have a wrong shape, or values outside the likelihood's support.
        """
        if isinstance(validation_data, (tuple, list)) and validation_data:
            images, *rest = validation_data
            if len(rest) == 2:
                rest[0] = _target(images, *rest)
            validation_data = (self.checked_source(images), *rest)
        else:
            validation_data = self.checked_source(validation_data)
        if isinstance(x, tf.data.Dataset):
            # A data set has its own order; Keras warns where its default says otherwise.
            kwargs.setdefault("shuffle", False)
        with self.input_errors():
            return super().fit(
                self.checked_source(x),
                _target(x, y, sample_weight),
                *args,
                validation_data=validation_data,
                sample_weight=sample_weight,
                **kwargs,
            )

    def evaluate(
        self,
        x: Any = None,
        y: Any = None,
        *args: Any,
        sample_weight: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Evaluate as `keras.Model.evaluate` does; ``loss`` is the negative ELBO, in nats.

        Raises:
            InputError: if images have a wrong shape, or values outside the likelihood's support.
        """
        with self.input_errors():
            return super().evaluate(
                self.checked_source(x),
                _target(x, y, sample_weight),
                *args,
                sample_weight=sample_weight,
                **kwargs,
            )

    def checked_source(self, x: Any) -> Any:
        """Check arrays at once; let XLA-compiled steps, which drop assertions, be checked before.

        A step that is not compiled by XLA checks its own batch.
        """
        if isinstance(x, tf.data.Dataset):
            images = tf.nest.flatten(x.element_spec)[0]
            if None not in tuple(images.shape)[1:]:
                self._check_shape(images.shape)
            return x.map(self._checked_batch) if self.compiled and self.jit_compile else x
        if x is not None and hasattr(x, "shape") and hasattr(x, "dtype"):
            if x.shape[0] == 0:
                raise InputError("expected at least one image; received an empty array")
            if self.image_shape is not None:
                self._check_shape(x.shape)
            self.likelihood_family.check(x)
        return x

    def _checked_batch(self, *data: Any) -> Any:
        batch = data[0] if len(data) == 1 else data
        x, _, _ = keras.utils.unpack_x_y_sample_weight(batch)
        self._assert_supported(tf.cast(x, tf.float32))
        return batch

    @contextlib.contextmanager
    def input_errors(self) -> Iterator[None]:
        """Turn the assertion of a step inside a graph into the `InputError` it stands for."""
        try:
            yield
        except tf.errors.InvalidArgumentError as error:
            found = re.search(
                rf"\[?{_MARK}(\w+)\]? \[?([^\]\s]+)\]? \[?([^\]\s]+?)\]?(?:\s|$)", str(error)
            )
            if found is None:
                raise
            owner, low, high = found.groups()
            support = self.likelihood_family.support
            raise InputError(support.complaint(owner, float(low), float(high))) from None


def _target(x: Any, y: Any, sample_weight: Any) -> Any:
    """Stand in for the targets, without which Keras drops the sample weights of arrays."""
    return np.zeros(len(x), "float32") if y is None and sample_weight is not None else y


def _batch_mean(values: tf.Tensor, sample_weight: tf.Tensor | None) -> tf.Tensor:
    """The mean over the batch of `values [B]`, each times its weight, as Keras' losses do."""
    if sample_weight is not None:
        values *= tf.reshape(tf.cast(sample_weight, values.dtype), (-1,))
    return tf.reduce_mean(values)


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
