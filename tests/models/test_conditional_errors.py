"""Labels, and numbers of them, that do not fit: refused in one line, wherever they come in."""

import re

import conditional_vae
import numpy as np
import pytest
import tensorflow as tf
from conditional_vae import CLASSES, LATENT, SHAPE, compiled, largest_difference, make, slices

import tfvae
from tfvae.training import train


@pytest.fixture
def data(rng):
    return conditional_vae.images_and_labels(rng)


def refusal(attempt):
    with pytest.raises(tfvae.InputError) as caught:
        attempt()
    assert "\n" not in str(caught.value)
    return str(caught.value)


NO_LABELS = {
    "none": (lambda y: None, "needs labels, whole numbers from 0 to 2; received none"),
    "halves": (lambda y: y + 0.5, "labels are whole numbers; received 0.5 to 2.5"),
    "too wide": (lambda y: np.eye(5, dtype=int)[y], r"one label.*; received shape \(\w+, 5\)"),
    "wrapped": (lambda y: y + np.int64(2**32), "below 3, from 0; received labels from 4294967296"),
    "above": (lambda y: np.where(np.arange(60) == 55, 7, y), "below 3, from 0; .* from 0 to 7"),
    "below": (lambda y: -y, "below 3, from 0; received labels from -2 to 0"),
}


@pytest.mark.few(4)
@pytest.mark.parametrize("kind", NO_LABELS)
def test_what_is_no_label_is_refused_outside_of_graphs(data, kind):
    x, y = data
    spoil, message = NO_LABELS[kind]
    bad = spoil(y)
    vae, autoencoder = make(), make(tfvae.Autoencoder)
    z = tf.zeros((60, LATENT))
    for attempt in (
        lambda: vae.encode(x, bad),
        lambda: vae.decode(z, bad),
        lambda: vae.elbo(x, bad),
        lambda: vae.terms(x, bad),
        lambda: vae(x, label=bad),
        lambda: vae.code(x, bad),
        lambda: vae.reconstruct(x, bad),
        lambda: vae.sample(60, label=bad),
        lambda: vae.traverse(x, 0, [0.0], bad),
        lambda: vae.interpolate(x, x, 2, bad),
        lambda: vae.predict([x, bad] if bad is not None else x, verbose=0),
        lambda: autoencoder.encode(x, bad),
        lambda: autoencoder.reconstruct(x, bad),
    ):
        assert re.search(message, refusal(attempt))


EAGER = {"run_eagerly": True}


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("kind", "compile_options"),
    [("none", {}), ("too wide", {}), ("above", {}), ("above", EAGER)],
    ids=str,
)
def test_what_is_no_label_is_refused_by_training(data, kind, compile_options):
    x, y = data
    spoil, message = NO_LABELS[kind]
    bad = spoil(y)
    batches = slices(x, bad) if bad is not None else tf.data.Dataset.from_tensor_slices(x).batch(20)
    vae = compiled(compile_options=compile_options)
    before = vae.get_weights()
    for attempt in (
        lambda: vae.fit(x, bad, verbose=0, shuffle=False, batch_size=60),
        lambda: vae.evaluate(x, bad, batch_size=60, verbose=0),
    ):
        assert re.search(message, refusal(attempt))
    assert largest_difference(vae.get_weights(), before) == 0
    for attempt in (
        lambda: vae.fit(batches, verbose=0),
        lambda: train(vae, batches, progress=False),
        lambda: vae.predict(batches, verbose=0),
    ):
        assert re.search(message, refusal(attempt))


def test_training_says_which_labels_are_missing(data):
    x, y = data
    vae = compiled()
    for attempt in (
        lambda: vae.fit(x, sample_weight=np.ones(60), verbose=0),
        lambda: vae.evaluate(x, sample_weight=np.ones(60), verbose=0),
        lambda: vae.fit(x, y, validation_data=x, verbose=0),
        lambda: vae.fit(x, y, validation_data=(x,), verbose=0),
        lambda: vae.fit(x, y, validation_data=(x, None, np.ones(60)), verbose=0),
    ):
        assert "a conditional model needs labels" in refusal(attempt)
    assert "from 0 to 7" in refusal(lambda: vae.fit(x, y, validation_data=(x, 7 * (y > 0))))


def test_numbers_of_labels_that_do_not_fit(data):
    x, y = data
    vae = make()
    for attempt in (
        lambda: vae.elbo(x, y[:59]),
        lambda: vae.reconstruct(x[:1], y),
        lambda: vae.decode(tf.zeros((4, 5, LATENT)), y[:4]),
    ):
        assert "expected one label, or labels of shape" in refusal(attempt)
    assert "one for each of 5 events" in refusal(lambda: vae.sample(5, label=y[:4]))


def test_a_model_without_labels_refuses_them(data):
    x, y = data
    vae = compiled(num_classes=None, compile_options=EAGER)
    for attempt in (
        lambda: vae.encode(x, y),
        lambda: vae.decode(tf.zeros((60, LATENT)), y),
        lambda: vae.elbo(x, y),
        lambda: vae.reconstruct(x, y),
        lambda: vae.sample(60, label=y),
        lambda: vae.prior_of(y),
        lambda: make(tfvae.Autoencoder, num_classes=None).code(x, y),
    ):
        assert "takes no labels; received some: make it with num_classes" in refusal(attempt)
    # But it trains and predicts on data that have them beside.
    vae.fit(x, y, verbose=0)
    vae.predict(slices(x, y), verbose=0)


def plain_pair(num_classes=None):
    options = {"hidden": (4,), "num_classes": num_classes}
    encoder = tfvae.networks.dense_encoder(SHAPE, **options)
    return encoder, tfvae.networks.dense_decoder(SHAPE, LATENT, **options)


@pytest.mark.parametrize("cls", [tfvae.VAE, tfvae.Autoencoder])
@pytest.mark.parametrize("count", [0, -1, 2.5, True, "3"])
def test_a_number_of_classes_is_a_whole_number_from_one(cls, count):
    message = f"num_classes is a whole number from 1, or None; received {count!r}"
    assert refusal(lambda: cls(*plain_pair(), LATENT, num_classes=count)) == message
    assert refusal(lambda: cls.for_images(SHAPE, num_classes=count)) == message


def test_networks_must_take_the_labels_that_there_are():
    image, label = r"\[batch, 6, 4, 1\]", r"\[batch, 3\]"
    encoder, _ = plain_pair(CLASSES)
    _, decoder = plain_pair()
    for build, message in (
        (
            lambda: tfvae.VAE(*plain_pair(), LATENT, num_classes=CLASSES),
            f"encoder takes {image}, but must take {image} and {label}",
        ),
        (
            lambda: tfvae.VAE(encoder, decoder, LATENT, num_classes=CLASSES),
            r"decoder takes \[batch, 2\], but must take \[batch, 2\] and \[batch, 3\]",
        ),
        (
            lambda: tfvae.VAE(*plain_pair(4), LATENT, num_classes=CLASSES),
            f"encoder takes .* 4\\], but must take {image} and {label}",
        ),
        (
            lambda: tfvae.VAE(*plain_pair(CLASSES), LATENT),
            f"encoder takes {image} and {label}, but must take {image}",
        ),
        (
            lambda: tfvae.VAE(*plain_pair(), LATENT, prior="class_normal"),
            "class_normal.* needs a conditional model",
        ),
    ):
        assert re.search(message, refusal(build))
