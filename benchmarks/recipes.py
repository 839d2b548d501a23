"""One small VAE, trained as three recipes would have it; run by training.py, a process each.

    python benchmarks/recipes.py NAME DATA IMAGES EPOCHS [--straight]

The recipes are the Keras documentation's VAE (a `train_step`, and `fit`), the TensorFlow
tutorial's convolutional VAE (one `tf.function` a batch) and this package, in words of our own.
All have the same networks and optimiser, the same images, and batches of 128.
"""

import sys
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers
from turns import Straight, Turns, say

import tfvae

IMAGE_SHAPE = (28, 28, 1)
LATENT_DIM = 2
BATCH_SIZE = 128
LEARNING_RATE = 1e-3


# --- the networks ---------------------------------------------------------------------------------


def encoder_features(image: Any) -> Any:
    """Give 16 features of an image."""
    x = layers.Conv2D(32, 3, strides=2, padding="same", activation="relu")(image)
    x = layers.Conv2D(64, 3, strides=2, padding="same", activation="relu")(x)
    return layers.Dense(16, activation="relu")(layers.Flatten()(x))


def decoder_features(z: Any) -> Any:
    """Give the decoder's features, all but its last layer."""
    y = layers.Reshape((7, 7, 64))(layers.Dense(7 * 7 * 64, activation="relu")(z))
    y = layers.Conv2DTranspose(64, 3, strides=2, padding="same", activation="relu")(y)
    return layers.Conv2DTranspose(32, 3, strides=2, padding="same", activation="relu")(y)


def decoder_network(activation: str | None) -> keras.Model:
    """Give the whole decoder."""
    z = keras.Input((LATENT_DIM,))
    last = layers.Conv2DTranspose(1, 3, padding="same", activation=activation)
    return keras.Model(z, last(decoder_features(z)))


# --- the Keras example ----------------------------------------------------------------------------


class Sampling(layers.Layer):
    """Draws z from N(loc, exp log_var)."""

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self.seeds = keras.random.SeedGenerator(0)

    def call(self, inputs: Any) -> Any:
        """Give z = loc + scale * epsilon."""
        loc, log_var = inputs
        epsilon = keras.random.normal(keras.ops.shape(loc), seed=self.seeds)
        return loc + keras.ops.exp(0.5 * log_var) * epsilon


class KerasExample(keras.Model):
    """A model with a `train_step` of its own, for `fit`."""

    def __init__(self) -> None:
        super().__init__()
        image = keras.Input(IMAGE_SHAPE)
        features = encoder_features(image)
        moments = layers.Dense(LATENT_DIM)(features), layers.Dense(LATENT_DIM)(features)
        self.encoder = keras.Model(image, [*moments, Sampling()(moments)])
        self.decoder = decoder_network("sigmoid")
        names = ("loss", "reconstruction_loss", "kl_loss")
        self.means = [keras.metrics.Mean(name=name) for name in names]

    @property
    def metrics(self) -> list[Any]:
        """Give what Keras resets each epoch."""
        return self.means

    def train_step(self, x: Any) -> dict[str, Any]:
        """Take one step."""
        with tf.GradientTape() as tape:
            loc, log_var, z = self.encoder(x)
            cross_entropy = keras.losses.binary_crossentropy(x, self.decoder(z))
            reconstruction = tf.reduce_mean(tf.reduce_sum(cross_entropy, axis=(1, 2)))
            kl = 0.5 * (tf.square(loc) + tf.exp(log_var) - 1 - log_var)
            kl = tf.reduce_mean(tf.reduce_sum(kl, axis=1))
            loss = reconstruction + kl
        gradients = tape.gradient(loss, self.trainable_weights)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_weights, strict=True))
        for mean, value in zip(self.means, (loss, reconstruction, kl), strict=True):
            mean.update_state(value)
        return {mean.name: mean.result() for mean in self.means}


def keras_example(data: tfvae.datasets.Dataset, images: int, epochs: int, hooks: Any) -> Any:
    """Train by `fit` on an array."""
    x, _ = data.train.arrays(limit=images)
    model = KerasExample()
    model.compile(optimizer=keras.optimizers.Adam(LEARNING_RATE))
    for _ in range(epochs):
        hooks.begin()
        # Keras lets go of an epoch's iterator in the next, and waits long for one that has idled.
        model.fit(x, batch_size=BATCH_SIZE, verbose=0)
        hooks.end()

    def decode(z: Any) -> Any:
        p = tf.clip_by_value(model.decoder(z), 1e-7, 1 - 1e-7)
        return tf.math.log(p) - tf.math.log1p(-p)

    return lambda x: model.encoder(x)[:2], decode


# --- the tutorial's loop --------------------------------------------------------------------------


def log_normal(z: Any, loc: Any, log_var: Any) -> Any:
    """Give log N(z; loc, exp log_var), `[B]`."""
    terms = tf.square(z - loc) * tf.exp(-log_var) + log_var + np.log(2 * np.pi)
    return -0.5 * tf.reduce_sum(terms, axis=1)


def tutorial_loop(data: tfvae.datasets.Dataset, images: int, epochs: int, hooks: Any) -> Any:
    """Train by a loop over a `tf.data` pipeline, with one `tf.function` a batch."""
    x, _ = data.train.arrays(limit=images)
    batches = tf.data.Dataset.from_tensor_slices(x).shuffle(len(x)).batch(BATCH_SIZE)
    image = keras.Input(IMAGE_SHAPE)
    encoder = keras.Model(image, layers.Dense(2 * LATENT_DIM)(encoder_features(image)))
    decoder = decoder_network(None)
    optimizer = keras.optimizers.Adam(LEARNING_RATE)
    weights = encoder.trainable_variables + decoder.trainable_variables

    def encode(x: Any) -> Any:
        return tf.split(encoder(x), 2, axis=1)

    def negative_elbo(x: Any) -> Any:
        loc, log_var = encode(x)
        z = loc + tf.exp(0.5 * log_var) * tf.random.normal(tf.shape(loc))
        cross_entropy = tf.nn.sigmoid_cross_entropy_with_logits(logits=decoder(z), labels=x)
        log_likelihood = -tf.reduce_sum(cross_entropy, axis=(1, 2, 3))
        log_ratio = log_normal(z, 0.0, 0.0) - log_normal(z, loc, log_var)
        return -tf.reduce_mean(log_likelihood + log_ratio)

    @tf.function
    def train_step(x):  # no annotation: AutoGraph would look for it outside
        with tf.GradientTape() as tape:
            loss = negative_elbo(x)
        gradients = tape.gradient(loss, weights)
        optimizer.apply_gradients(zip(gradients, weights, strict=True))

    for _ in range(epochs):
        hooks.begin()
        for batch in batches:
            train_step(batch)
        hooks.end()
    return encode, decoder


# --- this package ---------------------------------------------------------------------------------


def small_vae() -> tfvae.VAE:
    """Give the same architecture, the last layer being the likelihood's own."""
    image, z = keras.Input(IMAGE_SHAPE), keras.Input((LATENT_DIM,))
    encoder = keras.Model(image, encoder_features(image))
    decoder = keras.Model(z, decoder_features(z))
    return tfvae.VAE(encoder, decoder, LATENT_DIM, seed=0)


def own_loop(
    data: tfvae.datasets.Dataset, images: int, epochs: int, hooks: Any, precision: str
) -> Any:
    """Train by `tfvae.training.train`."""
    keras.config.set_dtype_policy(precision)
    vae = small_vae()
    vae.compile(tfvae.models.FusedAdam(LEARNING_RATE))
    callback = keras.callbacks.LambdaCallback(on_epoch_begin=hooks.begin, on_epoch_end=hooks.end)
    tfvae.training.train(
        vae,
        tfvae.datasets.Batches(data.train.subset(images), BATCH_SIZE, shuffle=True),
        epochs=epochs,
        callbacks=[callback],
        progress=False,
    )

    return functions_of(vae)


def own_fit(
    data: tfvae.datasets.Dataset, images: int, epochs: int, hooks: Any, precision: str
) -> Any:
    """Train by `fit` on an array, twenty steps between two looks from Python."""
    keras.config.set_dtype_policy(precision)
    x, _ = data.train.arrays(limit=images)
    vae = small_vae()
    vae.compile(tfvae.models.FusedAdam(LEARNING_RATE), steps_per_execution=20)
    for _ in range(epochs):
        hooks.begin()
        vae.fit(x, batch_size=BATCH_SIZE, verbose=0)
        hooks.end()
    return functions_of(vae)


def functions_of(vae: tfvae.VAE) -> Any:
    """Give what `mean_elbo` takes."""

    def encode(x: Any) -> Any:
        q = vae.encode(x)
        return q.mean(), 2 * tf.math.log(q.stddev())

    return encode, lambda z: vae.decode(z).distribution.logits


RECIPES = {
    "Keras example": keras_example,
    "TensorFlow tutorial": tutorial_loop,
    "tfvae float32": lambda *given: own_loop(*given, "float32"),
    "tfvae bfloat16": lambda *given: own_loop(*given, "mixed_bfloat16"),
    "tfvae fit float32": lambda *given: own_fit(*given, "float32"),
    "tfvae fit bfloat16": lambda *given: own_fit(*given, "mixed_bfloat16"),
}


def mean_elbo(encode: Any, decode: Any, x: Any, draws: int = 4) -> float:
    """Estimate the mean ELBO of binary images; the noise is the same for every model."""
    random = np.random.default_rng(0)
    total = 0.0
    for start in range(0, len(x), 500):
        batch = x[start : start + 500]
        loc, log_var = encode(batch)
        kl = 0.5 * (tf.square(loc) + tf.exp(log_var) - 1 - log_var)
        total -= float(tf.reduce_sum(kl))
        for _ in range(draws):
            epsilon = random.standard_normal(loc.shape).astype(np.float32)
            logits = decode(loc + tf.exp(0.5 * log_var) * epsilon)
            cross_entropy = tf.nn.sigmoid_cross_entropy_with_logits(logits=logits, labels=batch)
            total -= float(tf.reduce_sum(cross_entropy)) / draws
    return total / len(x)


def main() -> None:
    """Train in turns; or straight on, and give seconds and the test images' ELBO."""
    name, path, images, epochs, *straight = sys.argv[1:]
    keras.utils.set_random_seed(0)
    data = tfvae.datasets.load(path, binarize="static")
    hooks = Straight() if straight else Turns()
    trained = RECIPES[name](data, int(images), int(epochs), hooks)
    if straight:
        say({"seconds": hooks.seconds, "elbo": mean_elbo(*trained, data.test.arrays()[0])})


if __name__ == "__main__":
    main()
