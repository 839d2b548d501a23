"""Trainings on some devices, run as a process by `test_replicas`: TensorFlow has one set a process.

The devices are parts of the processor.
"""

import json

import keras
import numpy as np
import tensorflow as tf

import tfvae
from tfvae.datasets import Batches, load
from tfvae.training import train

SHAPE = (8, 8, 1)
# Batches of 5, 5 and 3: on four devices one has none of the last.
IMAGES, BATCH = 13, 5


def images():
    rng = np.random.default_rng(0)
    # The first two are the same image: their noise differs.
    x = (rng.random((IMAGES, *SHAPE)) < 0.3).astype("float32")
    x[1] = x[0]
    return x, rng.integers(0, 3, IMAGES).astype("int32"), rng.random(IMAGES).astype("float32")


def model(optimizer=None, metrics=None, **options):
    networks = tfvae.networks.pair(
        "dense", SHAPE, 2, num_classes=options.get("num_classes"), seed=0
    )
    options = {"seed": 0} | options
    if options.get("likelihood", "").startswith("normal"):
        options["likelihood"] = tfvae.likelihoods.get(options["likelihood"])
        options["likelihood"].decoder_output = "features"
    vae = tfvae.VAE(*networks, 2, **options)
    # Its steps are in proportion to gradients, and small enough not to magnify what was rounded.
    vae.compile(optimizer or keras.optimizers.SGD(1e-3, momentum=0.9), metrics=metrics)
    return vae


def digits():
    """In-memory batches that are made in the graph, their binarization drawn anew each epoch."""
    data = load("digits", binarize="dynamic").train.subset(IMAGES)
    return model(), Batches(data, BATCH, shuffle=True), Batches(data, BATCH)


def all_of_the_optimiser():
    """What sees the gradient of the whole batch, or keeps something of it from step to step."""
    optimizer = keras.optimizers.Adam(
        1e-3, global_clipnorm=1.0, use_ema=True, ema_momentum=0.9, gradient_accumulation_steps=2
    )
    x, _, _ = images()
    data = tf.data.Dataset.from_tensor_slices(x).batch(BATCH)
    return model(optimizer), data, data


def of(weighted=False, **options):
    def case():
        x, label, weight = images()
        rows = (x, label, weight) if weighted else (x, label)
        data = tf.data.Dataset.from_tensor_slices(rows).batch(BATCH)
        return model(**options), data, data

    return case


def regularised():
    x, _, _ = images()
    data = tf.data.Dataset.from_tensor_slices(x).batch(BATCH)
    encoder = keras.Sequential(
        [
            keras.Input(SHAPE),
            keras.layers.Flatten(),
            keras.layers.Dense(8, "relu", kernel_regularizer=keras.regularizers.L2(1.0)),
        ]
    )
    _, decoder = tfvae.networks.pair("dense", SHAPE, 2, seed=0)
    vae = tfvae.VAE(encoder, decoder, 2, seed=0)
    vae.compile(keras.optimizers.SGD(1e-3))
    return vae, data, data


def codes():
    """Codebooks, whose averages are over all devices, and a code restarted at each step."""
    x, _, weight = images()
    data = tf.data.Dataset.from_tensor_slices((x, x, weight)).batch(BATCH)
    vq = tfvae.VQVAE.for_events(
        SHAPE,
        code_dim=3,
        network="conv:filters=4",
        quantizer="residual:depth=2,codes=4,restart=0.3,decay=0.5",
        code_prior="transformer:width=8,layers=1,heads=2",
        seed=0,
    )
    vq.compile(keras.optimizers.SGD(1e-3, momentum=0.9))
    return vq, data, data


CASES = {
    "digits": digits,
    "codes": codes,
    "optimiser": all_of_the_optimiser,
    "full_normal iwae": of(posterior="full_normal", objective="iwae:num_samples=5"),
    "iaf stl": of(posterior="iaf", objective="stl"),
    "labelled dreg": of(num_classes=3, objective="dreg:num_samples=5"),
    "weighted free_bits": of(weighted=True, objective="free_bits:nats=0.3"),
    "regularised": regularised,
}
# On four devices: one has no image of the last batch.
FEW = ("digits", "iaf stl")

REFUSED = {
    "beta_tc": lambda: model(objective="beta_tc:dataset_size=13"),
    "factor": lambda: model(objective="factor"),
    "info": lambda: model(objective="info"),
    "optimal scale": lambda: model(likelihood="normal:scale=optimal"),
    "metrics": lambda: model(metrics=["mse"]),
}


# The quick suite's: labels, and a gradient that each draw's weight changes.
QUICK = ("labelled dreg",)


def job(devices, directory, names, *asked):
    """Train cases on a number of devices; write what comes of it into a directory.

    So also what functions of the strategy that are asked for tell.
    """
    keras.utils.set_random_seed(0)
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0],
        [tf.config.LogicalDeviceConfiguration() for _ in range(devices)],
    )
    strategy = tf.distribute.get_strategy()
    if devices > 1:
        strategy = tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(devices)])
    for name in names:
        with strategy.scope():
            vae, data, validation = CASES[name]()
        assert vae.distribute_strategy.num_replicas_in_sync == devices
        history = train(vae, data, epochs=2, validation_data=validation, progress=False)
        variables = [*vae.variables, *vae.optimizer.variables]
        result = {f"{i} {v.name}": np.asarray(v.value) for i, v in enumerate(variables)}
        result |= {f"history {key}": np.array(of) for key, of in history.history.items()}
        np.savez(directory / f"{name} {devices}.npz", **result)
    for function in asked:
        (directory / f"{function.__name__}.json").write_text(json.dumps(function(strategy)))


def refusals(strategy):
    """Give the messages with which models are not trained on several devices."""
    return {name: refused(strategy, make) for name, make in REFUSED.items()}


def refused(strategy, make):
    """Give the message with which a model is not trained on several devices."""
    with strategy.scope():
        vae = make()
    try:
        train(vae, tf.data.Dataset.from_tensors(images()[0]), progress=False)
    except tfvae.InputError as error:
        return str(error)
    return "it trained"


def seeds_of_fit(strategy):
    """Give the seed of each device in each step of Keras' own loop."""
    seeds = []

    class Spy(tfvae.VAE):
        def differentiate(self, batch, seed, share):
            seeds.append(seed.numpy().tolist())
            return super().differentiate(batch, seed, share)

    with strategy.scope():
        spy = Spy(*tfvae.networks.pair("dense", SHAPE, 2, seed=0), 2, seed=0)
        spy.compile("sgd", run_eagerly=True)
    x, _, _ = images()
    spy.fit(tf.data.Dataset.from_tensor_slices(x[:8]).batch(4), verbose=0)
    return seeds
