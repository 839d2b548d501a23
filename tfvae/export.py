"""SavedModels that load where nothing but TensorFlow is installed."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf

from tfvae.errors import InputError
from tfvae.files import new_directory

if TYPE_CHECKING:
    from tfvae.model import VAE


def export_saved_model(vae: "VAE", path: str | Path, *, replace: bool = False) -> None:
    """Write one SavedModel with a signature for each use of the model.

    Every input and output has the batch `[B]` as its first axis, of any size, so that a server may
    join requests into one batch. Signatures that draw take their seeds as an input, `[B, 2]` of
    int32, one an image: equal seeds give equal draws, whatever else is in the batch, after every
    reload.

    ================ ============================ ============================================
    signature        inputs                       outputs
    ================ ============================ ============================================
    ``reconstruct``  images `[B, H, W, C]`        images `[B, H, W, C]`, the mean of p(x|z)
    ``encode``       images                       loc (the code) `[B, d]`; and scale `[B, d]` of
                                                  q(z|x), where that has a closed form
    ``decode``       z `[B, d]`                   images, the mean of p(x|z)
    ``sample``       seed `[B, 2]`                images, the mean of p(x|z) at a z from p(z)
    ``elbo``         images, seed `[B, 2]`        elbo, log_likelihood, kl, each `[B]`, nats
    ================ ============================ ============================================

    ``reconstruct`` is ``serving_default`` too. Each signature of a conditional model has one input
    more, ``label [B]`` of int32.

    Args:
        vae: a built `VAE`.
        path: the directory to make; it appears complete or not at all.
        replace: whether a directory that is there may be replaced.

    Raises:
        InputError: if something is at `path`, or the model has not been built.
    """
    if vae.image_shape is None:
        raise InputError("the model does not know its image shape yet: call it on images first")
    images = tf.TensorSpec((None, *vae.image_shape), tf.float32, name="images")
    z = tf.TensorSpec((None, vae.latent_dim), tf.float32, name="z")
    seed = tf.TensorSpec((None, 2), tf.int32, name="seed")
    labels = [] if vae.num_classes is None else [tf.TensorSpec((None,), tf.int32, name="label")]

    def reconstruct(images: tf.Tensor, label: Any = None) -> dict[str, Any]:
        return {"images": vae.reconstruct(images, label)}

    def encode(images: tf.Tensor, label: Any = None) -> dict[str, Any]:
        q = vae.encode(images, label)
        code = {"loc": vae.posterior_family.code(q)}
        try:
            return {**code, "scale": q.stddev()}
        except NotImplementedError:  # a flow has none in closed form
            return code

    def decode(z: tf.Tensor, label: Any = None) -> dict[str, Any]:
        return {"images": vae.likelihood_family.mean(vae.decode(z, label))}

    def sample(seed: tf.Tensor, label: Any = None) -> dict[str, Any]:
        def draw(row: Any) -> tf.Tensor:
            one_seed, *one_label = row
            prior = vae.prior_of(one_label[0][None] if one_label else None)
            return tf.reshape(prior.sample(seed=one_seed), (vae.latent_dim,))

        rows = (seed,) if label is None else (seed, label)
        z = tf.map_fn(draw, rows, fn_output_signature=tf.TensorSpec((vae.latent_dim,), tf.float32))
        return decode(z, label)

    def elbo(images: tf.Tensor, seed: tf.Tensor, label: Any = None) -> dict[str, Any]:
        return vae.elbo(images, label, seed=seed)._asdict()

    archive = keras.export.ExportArchive()
    archive.track(vae)
    # The first one becomes serving_default.
    archive.add_endpoint("reconstruct", reconstruct, [images, *labels])
    archive.add_endpoint("encode", encode, [images, *labels])
    archive.add_endpoint("decode", decode, [z, *labels])
    archive.add_endpoint("sample", sample, [seed, *labels])
    archive.add_endpoint("elbo", elbo, [images, seed, *labels])
    with new_directory(path, replace=replace) as partial:
        archive.write_out(str(partial), verbose=False)
