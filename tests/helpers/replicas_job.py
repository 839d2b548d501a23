"""Trainings on one device and on two, run as a process by `test_replicas`.

TensorFlow has one set of devices a process; these are parts of the processor.
"""

import json

import keras
import numpy as np
import tensorflow as tf

import tfvae
from tfvae.datasets import Batches, load
from tfvae.training import train

SHAPE = (8, 8, 1)
# Batches of 5, 5 and 1: the devices have unequal shares, and one of them nothing of the last.
EVENTS, BATCH = 11, 5


def images():
    rng = np.random.default_rng(0)
    # The first two are the same image: their noise differs.
    x = (rng.random((EVENTS, *SHAPE)) < 0.3).astype("float32")
    x[1] = x[0]
    return x, rng.integers(0, 3, EVENTS).astype("int32"), rng.random(EVENTS).astype("float32")


def batches(*rows):
    return tf.data.Dataset.from_tensor_slices(rows).batch(BATCH)


def slow():
    """Steps in proportion to gradients, and small enough not to magnify what was rounded."""
    return keras.optimizers.SGD(1e-3, momentum=0.9)


def model(metrics=None, **options):
    networks = tfvae.networks.pair(
        "dense", SHAPE, 2, num_classes=options.get("num_classes"), seed=0
    )
    if options.get("likelihood", "").startswith("normal"):
        options["likelihood"] = tfvae.likelihoods.get(options["likelihood"])
        options["likelihood"].decoder_output = "features"
    vae = tfvae.VAE(*networks, 2, seed=0, **options)
    vae.compile(slow(), metrics=metrics)
    return vae


def digits():
    """In-memory batches that are made in the graph, their binarization drawn anew each epoch."""
    data = load("digits", binarize="dynamic").train.subset(EVENTS)
    vae = model(posterior="iaf:flows=1,hidden=8", objective="stl")
    return vae, Batches(data, BATCH, shuffle=True), Batches(data, BATCH)


def codes():
    """Codebooks, whose averages are over all devices, and a code restarted at each step."""
    x, _, weight = images()
    data = batches(x, x, weight)
    vq = tfvae.VQVAE.for_events(
        SHAPE,
        code_dim=3,
        network="conv:filters=4",
        quantizer="residual:depth=2,codes=4,restart=0.3,decay=0.5",
        code_prior="transformer:width=8,layers=1,heads=2",
        seed=0,
    )
    vq.compile(slow())
    return vq, data, data


def whole_batch():
    """What sees the gradient of the whole batch, or keeps something of it from step to step.

    Weights of events and a floor under the KL are of the whole batch as well, and what the networks
    add to the loss counts once.
    """
    x, _, weight = images()
    data = batches(x, x, weight)
    encoder = keras.Sequential(
        [
            keras.Input(SHAPE),
            keras.layers.Flatten(),
            keras.layers.Dense(8, "relu", kernel_regularizer=keras.regularizers.L2(0.1)),
        ]
    )
    _, decoder = tfvae.networks.pair("dense", SHAPE, 2, seed=0)
    vae = tfvae.VAE(encoder, decoder, 2, seed=0, objective="free_bits:nats=0.3")
    vae.compile(
        keras.optimizers.Adam(
            1e-3, global_clipnorm=1.0, use_ema=True, ema_momentum=0.9, gradient_accumulation_steps=2
        )
    )
    return vae, data, None


def holes():
    """Labelled series with missing values, and a scale that starts at theirs."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(EVENTS, 6, 2)).astype("float32")
    x[rng.random(x.shape) < 0.2] = np.nan
    data = batches(x, images()[1])
    vae = tfvae.VAE.for_events(
        (6, 2),
        latent_dim=2,
        network="dense:hidden=16",
        likelihood="normal:scale=learned",
        posterior="full_normal",
        prior="class_normal",
        objective="iwae:num_samples=5",
        missing=True,
        num_classes=3,
        seed=0,
    )
    vae.compile(slow())
    return vae, data, None


def labelled():
    """Labels, and a gradient that each draw's weight changes."""
    data = batches(*images()[:2])
    return model(num_classes=3, objective="dreg:num_samples=5"), data, data


CASES = {
    "labelled": labelled,
    "digits": digits,
    "codes": codes,
    "whole batch": whole_batch,
    "holes": holes,
}
# The quick suite's.
QUICK = ("labelled",)

REFUSED = {
    "beta_tc": lambda: model(objective="beta_tc:dataset_size=13"),
    "factor": lambda: model(objective="factor"),
    "info": lambda: model(objective="info"),
    "optimal scale": lambda: model(likelihood="normal:scale=optimal"),
    "metrics": lambda: model(metrics=["mse"]),
}


def job(directory, names, *asked):
    """Train cases on one device and on two; write what comes of it into a directory.

    So also what functions of the strategy that are asked for tell.
    """
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
    )
    one, two = tf.distribute.get_strategy(), tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    for name in names:
        for devices, strategy in ((1, one), (2, two)):
            keras.utils.set_random_seed(0)
            with strategy.scope():
                vae, data, validation = CASES[name]()
            assert vae.distribute_strategy.num_replicas_in_sync == devices
            history = train(vae, data, epochs=2, validation_data=validation, progress=False)
            variables = [*vae.variables, *vae.optimizer.variables]
            result = {f"{i} {v.name}": np.asarray(v.value) for i, v in enumerate(variables)}
            result |= {f"history {key}": np.array(of) for key, of in history.history.items()}
            np.savez(directory / f"{name} {devices}.npz", **result)
    for function in asked:
        (directory / f"{function.__name__}.json").write_text(json.dumps(function(two)))


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
