"""SavedModels that load where nothing but TensorFlow is installed."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf

from tfvae.errors import InputError
from tfvae.files import new_directory

if TYPE_CHECKING:
    from tfvae.model import VAE


def export_saved_model(vae: "VAE", path: str | Path) -> None:
    """Write one SavedModel with a signature for each use of the model.

    Every input and output has the batch `[B]` as its first axis, of any size, so that a server may
    join requests into one batch. Signatures that draw take their seeds as an input, `[B, 2]` of
    int32, one an image: equal seeds give equal draws, whatever else is in the batch, after every
    reload.

    ================ ============================ ============================================
    signature        inputs                       outputs
    ================ ============================ ============================================
    ``reconstruct``  images `[B, H, W, C]`        images `[B, H, W, C]`, the mean of p(x|z)
    ``encode``       images                       loc, scale of q(z|x), each `[B, d]`
    ``decode``       z `[B, d]`                   images, the mean of p(x|z)
    ``sample``       seed `[B, 2]`                images, the mean of p(x|z) at a z from p(z)
    ``elbo``         images, seed `[B, 2]`        elbo, log_likelihood, kl, each `[B]`, nats
    ================ ============================ ============================================

    ``reconstruct`` is ``serving_default`` too.

    Args:
        vae: a built `VAE`.
        path: the directory to make; it appears complete or not at all.

    Raises:
        InputError: if something is at `path`, or the model has not been built.
    """
    if vae.image_shape is None:
        raise InputError("the model does not know its image shape yet: call it on images first")
    images = tf.TensorSpec((None, *vae.image_shape), tf.float32, name="images")
    z = tf.TensorSpec((None, vae.latent_dim), tf.float32, name="z")
    seed = tf.TensorSpec((None, 2), tf.int32, name="seed")

    def reconstruct(images: tf.Tensor) -> dict[str, Any]:
        return {"images": vae.reconstruct(images)}

    def encode(images: tf.Tensor) -> dict[str, Any]:
        q = vae.encode(images)
        return {"loc": q.mean(), "scale": q.stddev()}

    def decode(z: tf.Tensor) -> dict[str, Any]:
        return {"images": vae.decode(z).mean()}

    def sample(seed: tf.Tensor) -> dict[str, Any]:
        prior = vae.prior
        z = tf.map_fn(
            lambda one: prior.sample(seed=one),
            seed,
            fn_output_signature=tf.TensorSpec((vae.latent_dim,), tf.float32),
        )
        return {"images": vae.decode(z).mean()}

    def elbo(images: tf.Tensor, seed: tf.Tensor) -> dict[str, Any]:
        return vae.elbo(images, seed=seed)._asdict()

    archive = keras.export.ExportArchive()
    archive.track(vae)
    # The first one becomes serving_default.
    archive.add_endpoint("reconstruct", reconstruct, [images])
    archive.add_endpoint("encode", encode, [images])
    archive.add_endpoint("decode", decode, [z])
    archive.add_endpoint("sample", sample, [seed])
    archive.add_endpoint("elbo", elbo, [images, seed])
    with new_directory(path) as partial:
        archive.write_out(str(partial), verbose=False)
