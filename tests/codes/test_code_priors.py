"""Priors of codes against enumeration: they sum to one, look back alone, and draw what they say."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfvae import InputError
from tfvae.codes import priors
from tfvae.share import Share


def prior(places=2, depth=1, size=3, classes=None, options="width=8,layers=2,heads=2", seed=0):
    found = priors.get(f"transformer:{options}")
    found.describe(places, depth, size, classes, seed)
    return found


def moved(found, scale=1.0):
    """Give a prior other weights than those that it starts with."""
    rng = np.random.default_rng(1)
    for weight in found.trainable_weights:
        weight.assign(np.asarray(weight) + scale * rng.normal(size=weight.shape))
    return found


def everything(found):
    """All codes of a prior, `[K^T, T]`."""
    return np.array(list(itertools.product(range(found.num_codes), repeat=found.length)), np.int32)


@pytest.mark.parametrize(("places", "depth"), [(3, 1), (2, 2)])
def test_probabilities_of_all_codes_sum_to_one(places, depth):
    found = moved(prior(places, depth))
    probabilities = np.exp(found.log_prob(everything(found)).numpy().astype(np.float64))
    assert probabilities.std() > 1e-3
    np.testing.assert_allclose(probabilities.sum(), 1, rtol=1e-5)


def test_each_label_has_probabilities_of_its_own():
    found = moved(prior(2, classes=3))
    codes = everything(found)
    of_label = []
    for label in range(3):
        one_hot = tf.one_hot([label] * len(codes), 3)
        of_label.append(np.exp(found.log_prob(codes, one_hot)))
        np.testing.assert_allclose(of_label[-1].sum(), 1, rtol=1e-5)
    assert np.abs(of_label[0] - of_label[1]).max() > 1e-3


def test_an_untrained_prior_is_uniform():
    found = prior(3, 2, 5)
    codes = np.random.default_rng(0).integers(0, 5, (4, 6)).astype("int32")
    np.testing.assert_allclose(found.log_prob(codes), -6 * np.log(5), rtol=1e-6)


def test_no_code_is_told_by_those_after_it(rng):
    found = moved(prior(3, 2, 4))
    codes = rng.integers(0, 4, (8, 6)).astype("int32")
    logits = found(codes).numpy()
    for place in range(6):
        other = codes.copy()
        other[:, place:] = (other[:, place:] + 1) % 4
        changed = found(other).numpy()
        np.testing.assert_array_equal(changed[:, : place + 1], logits[:, : place + 1])
        if place < 5:
            assert np.abs(changed[:, place + 1] - logits[:, place + 1]).max() > 1e-3


def test_draws_are_those_of_the_logits_one_after_another(rng):
    found = moved(prior(3, 2, 4))
    uniforms = rng.random((20, 6)).astype("float32")
    for temperature in (1.0, 0.5):
        drawn = found.draw(tf.constant(uniforms), temperature=temperature).numpy()
        # The whole network anew for each code, where drawing keeps keys and values.
        expected = np.zeros((20, 6), np.int32)
        for place in range(6):
            logits = found(expected)[:, place].numpy().astype(np.float64) / temperature
            share = np.exp(logits - logits.max(-1, keepdims=True))
            passed = np.cumsum(share / share.sum(-1, keepdims=True), axis=-1)
            expected[:, place] = (passed <= uniforms[:, place, None]).sum(-1)
        np.testing.assert_array_equal(drawn, expected)


def test_draws_have_the_probabilities_that_the_prior_says(rng):
    found = moved(prior(2, size=3), 0.5)
    codes = everything(found)
    n = 8000
    drawn = found.draw(tf.constant(rng.random((n, 2)), tf.float32)).numpy()
    counts = (drawn[:, None] == codes).all(-1).sum(0)
    expected = n * np.exp(found.log_prob(codes))
    chi_square = (np.square(counts - expected) / expected).sum()
    assert counts.sum() == n
    # Of eight degrees of freedom: above it once in 10,000 times.
    assert chi_square < 32


def test_the_last_number_below_one_still_draws_a_code():
    found = moved(prior(3, size=4))
    ends = tf.constant([[0.0] * 3, [np.nextafter(np.float32(1), np.float32(0))] * 3])
    drawn = found.draw(ends).numpy()
    assert drawn.min() >= 0
    assert drawn.max() <= 3


def test_gradients_are_those_of_differences(rng):
    found = moved(prior(2, size=3, options="width=4,layers=1,heads=2"), 0.5)
    codes = rng.integers(0, 3, (5, 2)).astype("int32")
    for weight in (found.tokens, found.head, found.blocks[0].projections.kernel):
        value = np.asarray(weight)
        direction = rng.normal(size=value.shape).astype("float32")
        with tf.GradientTape() as tape:
            total = tf.reduce_sum(found.log_prob(codes))
        gradient = tf.convert_to_tensor(tape.gradient(total, weight.value)).numpy()
        ends = []
        for step in (1e-2, -1e-2):
            weight.assign(value + step * direction)
            ends.append(float(tf.reduce_sum(found.log_prob(codes))))
        weight.assign(value)
        slope = (ends[0] - ends[1]) / 2e-2
        np.testing.assert_allclose((gradient * direction).sum(), slope, rtol=2e-2, atol=1e-2)


def test_dropout_is_of_the_seed_and_of_the_rows_of_the_whole_batch(rng):
    found = moved(prior(3, size=4, options="width=8,layers=2,heads=2,dropout=0.5"))
    codes = rng.integers(0, 4, (5, 3)).astype("int32")
    seed = tf.constant([3, 4])
    whole = found.log_prob(codes, seed=seed).numpy()
    np.testing.assert_array_equal(found.log_prob(codes, seed=seed), whole)
    assert np.abs(found.log_prob(codes) - whole).max() > 1e-3
    assert np.abs(found.log_prob(codes, seed=seed + 1) - whole).max() > 1e-3
    part = found.log_prob(codes[2:4], seed=seed, share=Share(2, 4, 5, 1.0))
    np.testing.assert_allclose(part, whole[2:4], rtol=1e-5)


def test_weights_start_by_the_seed():
    one, same, other = (prior(seed=seed).get_weights() for seed in (0, 0, 1))
    for a, b, c in zip(one, same, other, strict=True):
        np.testing.assert_array_equal(a, b)
        assert len(np.unique(a)) <= 1 or np.any(a != c)


def test_it_belongs_to_codes_of_one_kind():
    found = prior(2, size=3)
    found.describe(2, 1, 3, None, 0)
    with pytest.raises(InputError, match="already describes 2 places of 1 codes below 3"):
        found.describe(4, 1, 3, None, 0)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(found))
    assert again.get_config() == found.get_config()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("transformer:width=10,heads=4", "width is a multiple of heads"),
        ("transformer:layers=0", "layers is a whole number from 1"),
        ("transformer:dropout=1", "dropout is a number from 0 and below 1"),
        ("pixelcnn", "unknown prior of codes 'pixelcnn': expected one of transformer"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(name, message):
    with pytest.raises(InputError, match=message) as caught:
        priors.get(name)
    assert "\n" not in str(caught.value)
