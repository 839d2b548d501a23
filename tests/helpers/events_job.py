"""Trains models of labelled events with holes on one device, on two and in two parts; prints JSON.

A process of its own, since devices are made before TensorFlow runs anything.
"""

import json
import sys
import tempfile

import keras
import numpy as np
import tensorflow as tf

import tfvae
from tfvae.training import train

FAMILIES = {
    1: {"posterior": "iaf", "likelihood": "student_t:scale=learned", "objective": "iwae"},
    2: {"posterior": "full_normal", "prior": "class_normal", "likelihood": "normal:scale=learned"},
    4: {"posterior": "coupling", "prior": "mixture", "likelihood": "laplace", "objective": "stl"},
}
SHAPES = {1: (5,), 2: (6, 2), 4: (4, 4, 4, 1)}


def main(rank):
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
    )
    tf.config.experimental.enable_op_determinism()
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(20, *SHAPES[rank])).astype("float32")
    x[rng.random(x.shape) < 0.2] = np.nan
    y = rng.integers(0, 3, 20)
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(8)  # the last batch is smaller

    def made(optimizer):
        vae = tfvae.VAE.for_events(
            SHAPES[rank],
            latent_dim=2,
            network="dense:hidden=16",
            missing=True,
            num_classes=3,
            seed=0,
            **FAMILIES[rank],
        )
        vae.compile(optimizer)
        return vae

    def trained(vae, epochs=2, **options):
        train(vae, data, epochs=epochs, progress=False, **options)
        return vae

    def difference(one, other):
        pairs = zip(one.trainable_variables, other.trainable_variables, strict=True)
        return max(float(np.abs(a.numpy() - b.numpy()).max()) for a, b in pairs)

    one = trained(made("sgd"))
    with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
        two = made("sgd")
    trained(two)
    folder = tempfile.mkdtemp()
    trained(made("adam"), epochs=1, checkpoint_dir=folder, checkpoint_seconds=0)
    resumed = trained(made("adam"), checkpoint_dir=folder)
    codes = np.asarray(one.code(x, y))
    found = {
        "devices": difference(one, two),
        "resumed": difference(trained(made("adam")), resumed),
        "log_prob": tfvae.evaluation.log_prob(one, (x, y), num_samples=20).log_prob,
        "elbo": tfvae.evaluation.elbo(one, (x, y), num_samples=20).elbo,
        "active_units": tfvae.evaluation.diagnose(one, (x, y)).active_units,
        "accuracy": tfvae.evaluation.linear_probe(codes[:10], y[:10], codes[10:], y[10:]).accuracy,
    }
    print(json.dumps({name: float(value) for name, value in found.items()}))


main(int(sys.argv[1]))
