"""Quantizers against brute force, their formulas and their recursions by hand."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from tfvae import InputError
from tfvae.codes import quantizers
from tfvae.codes.quantizers import FiniteScalarQuantizer, Quantized, nearest, straight_through
from tfvae.share import Share


def made(name, width):
    quantizer = quantizers.get(name)
    quantizer.build((None, quantizer.code_dim(width)))
    return quantizer


def test_the_nearest_code_is_that_of_brute_force(rng):
    z, book = rng.normal(size=(3, 5, 4)).astype("float32"), rng.normal(size=(9, 4))
    distances = np.square(z[..., None, :] - book).sum(-1)
    found = nearest(tf.constant(z), tf.constant(book, tf.float32)).numpy()
    np.testing.assert_array_equal(found, distances.argmin(-1))
    assert found.dtype == np.int32
    # Of two that are as near, the first.
    twins = tf.constant([[1.0], [1.0], [5.0]])
    assert nearest(tf.constant([[1.2]]), twins).numpy() == [0]


def test_a_vector_becomes_the_code_and_codes_are_looked_up(rng):
    quantizer = made("vq:codes=6,commitment=0.5", 3)
    z = rng.normal(size=(4, 2, 3)).astype("float32")
    found = quantizer.quantized(tf.constant(z))
    assert found.codes.shape == (4, 2, 1)
    np.testing.assert_array_equal(found.vectors, quantizer.lookup(found.codes))
    np.testing.assert_array_equal(found.vectors, quantizer(tf.constant(z)))
    expected = 0.5 * np.square(z - found.vectors.numpy()).sum(-1)
    np.testing.assert_allclose(found.commitment, expected, rtol=1e-6)


@pytest.mark.parametrize("name", ["vq:codes=5", "residual:depth=3,codes=5"])
def test_the_gradient_passes_as_if_nothing_were_there(name, rng):
    quantizer = made(name, 3)
    z, weight = (tf.constant(rng.normal(size=(7, 3)).astype("float32")) for _ in range(2))
    with tf.GradientTape() as tape:
        tape.watch(z)
        loss = tf.reduce_sum(weight * quantizer(z) ** 2)
    # Exactly that which reaches the quantised vector.
    quantized = quantizer(z)
    np.testing.assert_array_equal(tape.gradient(loss, z), 2 * weight * quantized)
    if quantizer.depth == 1:
        with tf.GradientTape() as tape:
            tape.watch(z)
            committed = tf.reduce_sum(quantizer.quantized(z).commitment)
        # Of β ‖z − e‖² with e held.
        expected = 2 * 0.25 * (z - quantized)
        np.testing.assert_allclose(tape.gradient(committed, z), expected, rtol=1e-5, atol=1e-7)


def test_straight_through_returns_what_was_quantised_bit_for_bit():
    z, quantized = tf.constant([1e8, 0.3]), tf.constant([0.1, 1e-7])
    np.testing.assert_array_equal(straight_through(z, quantized), quantized)


# --- the codebook ---------------------------------------------------------------------------------


def batch_statistics(quantizer, z, weight=None, seed=(1, 2), share=None):
    found = quantizer.quantized(tf.constant(z))
    weight = None if weight is None else tf.constant(weight)
    return quantizer.statistics(found, weight, tf.constant(seed), share)


@pytest.mark.parametrize("weighted", [False, True])
def test_the_codebook_follows_its_recursion(weighted, rng):
    decay, epsilon, size, width = 0.9, 1e-3, 4, 3
    quantizer = made(f"vq:codes={size},decay={decay},epsilon={epsilon},restart=0", width)
    counts, sums = np.ones(size), np.array(quantizer.codebooks[0], np.float64)
    book = sums.copy()
    for _ in range(5):
        z = rng.normal(size=(6, 2, width)).astype("float32")
        weight = rng.random(6).astype("float32") if weighted else np.ones(6, "float32")
        codes = np.square(z[..., None, :] - book).sum(-1).argmin(-1)
        chosen = np.eye(size)[codes] * weight[:, None, None]
        counts = decay * counts + (1 - decay) * chosen.sum((0, 1))
        sums = decay * sums + (1 - decay) * np.einsum("bpk,bpc->kc", chosen, z)
        whole = counts.sum()
        book = sums / ((counts + epsilon) / (whole + size * epsilon) * whole)[:, None]
        quantizer.follow(batch_statistics(quantizer, z, weight if weighted else None))
        np.testing.assert_allclose(quantizer.codebooks[0], book, rtol=2e-5, atol=1e-6)
        np.testing.assert_allclose(quantizer.counts[0], counts, rtol=1e-5)


def test_a_dead_code_is_restarted_at_a_vector_of_the_batch_and_others_stay(rng):
    quantizer = made("vq:codes=3,decay=0.5,restart=0.2,epsilon=1e-8", 2)
    near = rng.normal(size=(40, 1, 2)).astype("float32") * 0.1
    z = np.concatenate([near - 1, near + 1])
    quantizer.start(np.array([[-1, -1], [1, 1], [90, 90]], "float32"), seed=0)
    far = int(np.argmax(quantizer.codebooks[0, :, 0]))
    for step in range(6):
        quantizer.follow(batch_statistics(quantizer, z, seed=(step, 0)))
    book = quantizer.codebooks.numpy()[0]
    assert book.max() < 2
    assert np.abs(z[:, 0] - book[far]).sum(-1).min() < 0.5
    used = quantizer.quantized(tf.constant(z)).codes.numpy()
    assert set(np.unique(used)) == {0, 1, 2}
    # Never without the option, and never onto an event that does not count.
    for options, weight in (("restart=0", np.ones(80)), ("restart=0.2", np.zeros(80))):
        kept = made(f"vq:codes=3,decay=0.5,{options}", 2)
        kept.start(np.array([[-1, -1], [1, 1], [90, 90]], "float32"), seed=0)
        for step in range(6):
            weights = weight.astype("float32")
            kept.follow(batch_statistics(kept, z, weights, seed=(step, 0)))
        assert np.max(kept.codebooks) > 50


def test_shares_of_a_batch_sum_to_the_whole(rng):
    quantizer = made("residual:depth=2,codes=4", 3)
    z = rng.normal(size=(5, 2, 3)).astype("float32")
    weight = rng.random(5).astype("float32")
    whole = batch_statistics(quantizer, z, weight)
    parts = [
        batch_statistics(quantizer, z[a:b], weight[a:b], share=Share(a, b, 5, 1.0))
        for a, b in ((0, 2), (2, 5))
    ]
    # One of a row of somebody else's does not count.
    parts.append(batch_statistics(quantizer, z[4:], weight[4:], share=Share(4, 5, 5, 0.0)))
    for level, expected in enumerate(whole):
        total = sum(part[level].numpy() for part in parts)
        np.testing.assert_allclose(total, expected, rtol=1e-6, atol=1e-6)
    assert all((matrix[:, 4].numpy() == 1).all() for matrix in whole)


def test_a_frozen_codebook_stays(rng):
    quantizer = made("vq:codes=4", 2)
    before = quantizer.codebooks.numpy()
    quantizer.trainable = False
    quantizer.follow(batch_statistics(quantizer, rng.normal(size=(5, 1, 2)).astype("float32")))
    np.testing.assert_array_equal(quantizer.codebooks, before)


def test_a_codebook_starts_at_vectors_of_the_data(rng):
    quantizer = made("vq:codes=8", 3)
    vectors = rng.normal(size=(50, 3)).astype("float32")
    quantizer.start(vectors, seed=1)
    book = quantizer.codebooks.numpy()[0]
    assert {tuple(row) for row in book} <= {tuple(row) for row in vectors}
    assert len(np.unique(book, axis=0)) == 8
    again = made("vq:codes=8", 3)
    again.start(vectors, seed=1)
    np.testing.assert_array_equal(again.codebooks, quantizer.codebooks)
    # Fewer vectors than codes still make codes that differ.
    quantizer.start(vectors[:3], seed=1)
    assert len(np.unique(quantizer.codebooks.numpy()[0], axis=0)) == 8


# --- residual quantisation ------------------------------------------------------------------------


def test_each_level_takes_what_is_left_and_never_makes_the_error_larger(rng):
    quantizer = made("residual:depth=5,codes=7", 4)
    z = rng.normal(size=(60, 4)).astype("float32") * rng.lognormal(size=(60, 1)).astype("float32")
    quantizer.start(z[:40], seed=0)
    books = quantizer.codebooks.numpy()
    rest, errors = z.astype(np.float64), []
    found = quantizer.quantized(tf.constant(z))
    for level, book in enumerate(books):
        codes = np.square(rest[:, None] - book).sum(-1).argmin(-1)
        np.testing.assert_array_equal(found.codes[:, level], codes)
        rest = rest - book[codes]
        errors.append(np.square(rest).sum(-1))
    for before, after in itertools.pairwise(errors):
        assert (after <= before * (1 + 1e-5)).all()
    assert errors[-1].mean() < 0.7 * errors[0].mean()
    np.testing.assert_allclose(found.vectors, z - rest, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.commitment, 0.25 * sum(errors), rtol=1e-4)
    # It stays so: the code that adds nothing is still there.
    quantizer.follow(batch_statistics(quantizer, z[:, None]))
    assert not quantizer.codebooks.numpy()[1:, 0].any()
    assert quantizer.codebooks.numpy()[0, 0].any()


# --- finite scalar quantisation -------------------------------------------------------------------


@pytest.mark.parametrize("levels", [(8, 6, 5), (2, 3), (4,), (7, 5, 5, 5)])
def test_scalars_are_rounded_as_the_formula_says(levels, rng):
    quantizer = made("fsq:levels=" + "x".join(map(str, levels)), None)
    z = rng.normal(size=(50, len(levels))).astype("float32") * 3
    sizes = np.array(levels)
    half = (sizes - 1) * 1.001 / 2
    offset = np.where(sizes % 2, 0.0, 0.5)
    bounded = np.tanh(z + np.arctanh(offset / half)) * half - offset
    rounded = np.round(bounded)
    assert (rounded >= -(sizes // 2)).all()
    assert (rounded <= (sizes - 1) // 2).all()
    found = quantizer.quantized(tf.constant(z))
    np.testing.assert_allclose(found.vectors, rounded / (sizes // 2), atol=1e-6)
    digits = rounded + sizes // 2
    basis = np.concatenate([[1], np.cumprod(sizes[:-1])])
    np.testing.assert_array_equal(found.codes[..., 0], (digits * basis).sum(-1))
    assert not found.commitment.numpy().any()
    # What is 0 stays so.
    assert not quantizer(tf.zeros((1, len(levels)))).numpy().any()
    with tf.GradientTape() as tape:
        values = tf.constant(z)
        tape.watch(values)
        loss = tf.reduce_sum(quantizer(values))
    slope = (1 - np.tanh(z + np.arctanh(offset / half)) ** 2) * half / (sizes // 2)
    np.testing.assert_allclose(tape.gradient(loss, values), slope, rtol=1e-3, atol=1e-6)


def test_every_scalar_code_is_within_reach_and_comes_back():
    quantizer = FiniteScalarQuantizer("8x6x5")
    assert quantizer.num_codes == 240
    assert quantizer.code_dim(None) == 3
    codes = tf.range(240)[:, None]
    vectors = quantizer.lookup(codes)
    assert len(np.unique(vectors, axis=0)) == 240
    # From values that round to it, each code comes back.
    bounded = vectors.numpy() * np.array([4, 3, 2])
    half, offset = np.array([7, 5, 4]) * 1.001 / 2, np.array([0.5, 0.5, 0])
    z = np.arctanh((bounded + offset) / half) - np.arctanh(offset / half)
    found = quantizer.quantized(tf.constant(z, tf.float32))
    np.testing.assert_array_equal(found.codes, codes)
    np.testing.assert_array_equal(found.vectors, vectors)
    assert quantizer.statistics(Quantized(*found), None, tf.constant([0, 0]), None) == ()


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("vq:codes=1", "codes is a whole number from 2"),
        ("vq:decay=1", "decay is a number from 0 and below 1"),
        ("vq:restart=-1", "restart is a number of at least 0"),
        ("vq:epsilon=0", "epsilon is a number above 0"),
        ("residual:depth=0", "depth is a whole number from 1"),
        ("fsq:levels=8x1", "levels are whole numbers from 2, as in 8x6x5"),
        ("fsq:levels=100x100x100", "levels make 1000000 codes"),
        ("fsq:codes=3", "unknown option 'codes'"),
        ("rvq", "unknown quantizer 'rvq': expected one of vq, fsq, residual"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(name, message):
    with pytest.raises(InputError, match=message) as caught:
        quantizers.get(name)
    assert "\n" not in str(caught.value)


def test_scalars_have_the_width_of_their_levels():
    with pytest.raises(InputError, match="has vectors of as many values; received code_dim=8"):
        quantizers.get("fsq").code_dim(8)
