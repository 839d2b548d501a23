"""Compression: what goes in comes out, in as many bits as the ELBO says, or one line of error."""

import dataclasses
import math

import components
import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import special
from tensorflow_probability import distributions as tfd

import tfvae
from tfvae import VAE, VQVAE, HierarchicalVAE, InputError
from tfvae.compression import (
    compress,
    compress_events,
    container,
    decompress,
    decompress_events,
    stack,
)
from tfvae.compression.grid import DiagonalCells, MixtureCells, TriangularCells
from tfvae.compression.lattice import FlowCells

NETWORK = "dense:hidden=8"


def made(likelihood="bernoulli", shape=(4, 3, 1), **options):
    options = {"latent_dim": 2, "network": NETWORK, "seed": 0, **options}
    return VAE.for_events(shape, likelihood=likelihood, **options)


@pytest.fixture(scope="module")
def bits():
    """A model of bits whose weights are those of no start, and events."""
    rng = np.random.default_rng(0)
    corner = rng.random((1000, 1, 1, 1)) < rng.random((1000, 6, 6, 1))
    return components.shaken(made(shape=(6, 6, 1), latent_dim=3)), corner.astype(np.float32)


def same(one, other):
    assert one.dtype == other.dtype
    assert one.shape == other.shape
    np.testing.assert_array_equal(one, other)


def of_three_causes(count, classes):
    """Images of bits that three numbers make, and labels that say nothing of them, or None."""
    rng = np.random.default_rng(0)
    logits = 3 * rng.normal(size=(count, 3)) @ rng.normal(size=(3, 64))
    x = (rng.random((count, 64)) < special.expit(logits)).astype(np.float32).reshape(-1, 8, 8, 1)
    return x, None if classes is None else rng.integers(0, classes, count).astype(np.int32)


def bits_of(vae, x, label=None):
    elbo = np.mean([vae.elbo(x, label, seed=seed).elbo.numpy().sum() for seed in range(4)])
    return -elbo / math.log(2)


# --- there and back -------------------------------------------------------------------------------


def test_events_come_back_in_as_many_bits_as_the_elbo_says(bits):
    vae, x = bits
    done = compress_events(vae, x)
    same(decompress(vae, done.data), x)
    assert done.bits == 8 * len(done.data)
    assert done.events == 1000
    assert done.values == x.size
    assert done.bits_per_dimension == pytest.approx(done.bits / x.size)
    carried = done.bits - done.start_up_bits - done.header_bits
    expected = bits_of(vae, x)
    assert carried == pytest.approx(expected, rel=0.01)
    # Two bytes an event are what a few hundred bits of its own add.
    assert done.start_up_bits < 500
    assert done.header_bits < 700
    assert done.bits < 1.03 * expected


def test_events_unlike_any_that_the_model_knows_come_back(bits):
    vae, _ = bits
    rng = np.random.default_rng(1)
    shape = (200, 6, 6, 1)
    strange = np.concatenate(
        [
            np.zeros(shape),
            np.ones(shape),
            np.indices(shape[1:3]).sum(axis=0)[None, ..., None] % 2 + np.zeros(shape),
            rng.integers(0, 2, shape),
            rng.random(shape) < 0.01,
        ]
    ).astype(np.float32)
    same(decompress(vae, compress(vae, strange)), strange)


@pytest.mark.parametrize("count", [0, 1, 2, 9])
def test_few_events_come_back(bits, count):
    vae, x = bits
    same(decompress(vae, compress(vae, x[:count])), x[:count])


@pytest.mark.few(1)
@pytest.mark.parametrize(
    ("likelihood", "levels", "dtype"),
    [
        ("discretized_logistic:levels=4,high=3,scale=per_value", 4, np.float32),
        ("discretized_logistic_mixture:levels=5,components=2,high=4", 5, np.float32),
        ("categorical:levels=3,high=2", 3, np.int64),
        ("categorical:levels=17", 17, np.float64),
    ],
)
def test_each_likelihood_of_finitely_many_values(likelihood, levels, dtype):
    vae = made(likelihood, shape=(3, 4))
    numbers = np.random.default_rng(0).integers(0, levels, (200, 3, 4))
    x = (numbers * vae.likelihood_family.support.step).astype(dtype)
    same(decompress(vae, compress(vae, x)), x)
    done = compress_events(vae, x.astype(np.float32))
    carried = done.bits - done.start_up_bits - done.header_bits
    assert carried == pytest.approx(bits_of(vae, x), rel=0.03)


# What is popped by q(z|x) is pushed by p(z), each of which knows nothing of the other: but for the
# prior "vamp", which is made of posteriors.
@pytest.mark.parametrize(
    ("posterior", "prior"),
    [
        ("iaf:flows=2,hidden=8", "realnvp:flows=2,hidden=8"),
        ("coupling:flows=2,hidden=8", "maf:flows=2,hidden=8"),
        ("full_normal", "mixture:components=2"),
        ("full_normal", "vamp:pseudo_inputs=2"),
        ("iaf:flows=2,hidden=8", "vamp:pseudo_inputs=2"),
        ("normal", "class_normal"),
        ("normal", "fixed"),
    ],
)
@pytest.mark.few(1)
def test_each_posterior_and_each_prior(posterior, prior):
    case = components.Case("bernoulli", posterior, prior, shape=(40,))
    vae = components.model(case)
    x, label = components.batch(vae, case)
    x, label = (None if one is None else np.concatenate([one] * 10) for one in (x, label))
    if prior.startswith("vamp") and posterior.startswith("iaf"):
        with pytest.raises(InputError, match="codes normal priors, mixtures of them and flows"):
            compress(vae, x)
        return
    done = compress_events(vae, x, label)
    found = decompress_events(vae, done.data)
    same(found.x, x)
    if label is not None:
        np.testing.assert_array_equal(found.label, label)
    labels = 0 if label is None else len(label) * math.log2(vae.num_classes)
    carried = done.bits - done.start_up_bits - done.header_bits - labels
    assert carried == pytest.approx(bits_of(vae, x, label), rel=0.03)


@pytest.mark.parametrize("levels", [2, 3, 256])
def test_all_levels_at_once_have_the_probabilities_of_each(levels):
    from tfvae.distributions.discrete import LogisticLevels

    rng = np.random.default_rng(0)
    loc, scale = rng.normal(0.5, 1, 50) * levels, np.exp(rng.normal(0, 2, 50))
    values = LogisticLevels(loc.astype(np.float32), scale.astype(np.float32), levels)
    each = np.exp(values.log_prob(np.arange(levels, dtype=np.float32)[:, None]))
    np.testing.assert_allclose(values.level_probs(), each.T, atol=3e-7)
    np.testing.assert_allclose(np.sum(values.level_probs(), axis=-1), 1, rtol=1e-6)


def test_the_columns_of_a_table():
    parts = {
        "sex": "categorical:levels=2",
        "size": "discretized_logistic:levels=5,high=4",
        "yes": "bernoulli",
    }
    vae = made(tfvae.likelihoods.Columns(parts), shape=(3,))
    rng = np.random.default_rng(0)
    x = np.stack([rng.integers(0, count, 400) for count in (2, 5, 2)], axis=1).astype(np.float32)
    done = compress_events(vae, x)
    same(decompress(vae, done.data), x)
    carried = done.bits - done.start_up_bits - done.header_bits
    assert carried == pytest.approx(bits_of(vae, x), rel=0.05)
    x[:, 2] = x[:, 2] / 2
    with pytest.raises(InputError, match="0 and 1 alone"):
        compress(vae, x)


def test_bytes_come_back_as_bytes():
    vae = made("discretized_logistic")
    original = np.random.default_rng(0).integers(0, 256, (5, 4, 3), dtype=np.uint8)
    x = (original[..., None] / 255).astype(np.float32)
    done = compress_events(vae, x, original=original, names=tuple("abcde"))
    found = decompress_events(vae, done.data)
    same(found.x, original)
    assert found.names == tuple("abcde")
    # Values that the model knows under other numbers come back by a table.
    strange = np.array([7, -3], np.int16)[np.random.default_rng(0).integers(0, 2, (5, 4, 3, 1))]
    vae = made()
    done = compress_events(vae, (strange == 7).astype(np.float32), original=strange)
    same(decompress(vae, done.data), strange)


def test_a_saved_model_reads_what_the_model_wrote(bits, tmp_path):
    vae, x = bits
    path = tmp_path / "model.keras"
    vae.save(path)
    same(decompress(tfvae.load(path), compress(vae, x[:50])), x[:50])


def test_half_precision():
    half = made(dtype="mixed_bfloat16")
    events = np.random.default_rng(0).integers(0, 2, (30, 4, 3, 1)).astype(np.float32)
    same(decompress(half, compress(half, events)), events)


# --- damage, and what does not fit ----------------------------------------------------------------


def test_damage_at_any_byte_is_an_error(bits):
    vae, x = bits
    data = compress(vae, x[:20])
    rng = np.random.default_rng(0)
    for place in range(len(data)):
        broken = bytearray(data)
        broken[place] ^= int(rng.integers(1, 256))
        with pytest.raises(InputError, match=r"damaged|no file") as caught:
            container.read(bytes(broken))
        assert "\n" not in str(caught.value)
    for length in (*range(0, len(data), 7), len(data) - 1):
        with pytest.raises(InputError, match=r"damaged|no file"):
            decompress(vae, data[:length])
    with pytest.raises(InputError, match="damaged"):
        decompress(vae, data + b"\0")


def rewritten(data, **changes):
    header, words = container.read(data)
    if "words" in changes:
        words = changes.pop("words")(words)
    return container.write(dataclasses.replace(header, **changes), words)


@pytest.mark.exhaustive
def test_what_was_changed_on_purpose_is_an_error_too(bits):
    """Where the file's own digest fits, the content's does not."""
    vae, x = bits
    data = compress(vae, x[:100])
    rng = np.random.default_rng(0)
    changes = [
        {"words": lambda w: w ^ (rng.integers(0, len(w)) == np.arange(len(w)))},
        {"words": lambda w: w[:-1]},
        {"words": lambda w: np.append(w, 1).astype(np.uint32)},
        {"low": 5},
        {"growth": 1},
        {"bits": 12},
        {"content": b"12345678"},
        {"shape": (99, 6, 6, 1)},
    ]
    for change in changes:
        with pytest.raises(InputError):
            decompress(vae, rewritten(data, **change))
    with pytest.raises(InputError, match="other roundings"):
        decompress(vae, rewritten(data, probe=b"12345678"))
    with pytest.raises(InputError, match="other levels"):
        decompress(vae, rewritten(data, values=b"t"))


def test_another_model_is_one_line(bits):
    vae, x = bits
    data = compress(vae, x[:20])
    for other, message in (
        (made(shape=(6, 6, 1), latent_dim=3, seed=1), "another model"),
        (made(shape=(6, 6, 2)), r"\(6, 6, 1\).*\(6, 6, 2\)"),
        (made(shape=(36,)), "takes"),
    ):
        with pytest.raises(InputError, match=message) as caught:
            decompress(other, data)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"likelihood": "normal"}, "finitely many values.*Normal"),
        ({"likelihood": "poisson"}, "finitely many values.*Poisson"),
        ({"likelihood": "continuous_bernoulli"}, "finitely many values.*ContinuousBernoulli"),
        ({"prior": tfd.Independent(tfd.Laplace([0.0, 0.0], 1.0), 1)}, "normal priors.*Independent"),
    ],
)
def test_models_that_cannot_be_coded_are_refused_by_name(options, message):
    vae = made(**options)
    x = np.zeros((2, *vae.event_shape), np.float32)
    with pytest.raises(InputError, match=message) as caught:
        compress(vae, x)
    assert "\n" not in str(caught.value)


def test_events_that_do_not_fit_are_refused(bits):
    vae, x = bits
    for events, message in (
        (x[:2] / 2, "0 and 1 alone"),
        (x[:2, :3], "expected images"),
        (255 * x[:2], "values in"),
        ("text", "of numbers"),
    ):
        with pytest.raises(InputError, match=message):
            compress(vae, events)
    with pytest.raises(InputError, match="expected the bytes"):
        decompress(vae, "text")
    with pytest.raises(InputError, match=r"needs a tfvae\.VAE"):
        compress(tfvae.Autoencoder.for_events((3,), latent_dim=2, network=NETWORK), x)
    holes = made(missing=True)
    with pytest.raises(InputError, match="some of these are missing"):
        compress(holes, np.full((2, 4, 3, 1), np.nan))
    whole = np.ones((3, 4, 3, 1), np.float32)
    same(decompress(holes, compress(holes, whole)), whole)
    with pytest.raises(InputError, match="several of the values for one"):
        compress_events(vae, x[:2], original=np.arange(72).reshape(2, 6, 6, 1))
    with pytest.raises(InputError, match="the original has 3 values"):
        compress_events(vae, x[:2], original=np.arange(3))


def test_weights_that_are_no_numbers_are_refused():
    vae = made()
    vae.encoder.set_weights([np.full_like(weight, np.nan) for weight in vae.encoder.get_weights()])
    with pytest.raises(InputError, match="NaN"):
        compress(vae, np.zeros((3, 4, 3, 1)))


def test_without_the_package_the_line_says_how_to_get_it(bits, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "constriction", None)
    with pytest.raises(InputError, match=r"pip install 'tfvae\[compress\]'"):
        compress(bits[0], bits[1][:1])


# --- the parts ------------------------------------------------------------------------------------


def flow(step, context=0):
    from tfvae.distributions import flows

    made = flows.Flow(getattr(flows, step), 4, flows=3, hidden=8, context=context, seed=0)
    rng = np.random.default_rng(0)
    made.set_weights([w + rng.normal(0, 0.3, w.shape) for w in made.get_weights()])
    return made


def parts():
    rng = np.random.default_rng(0)
    rows, size = 300, 4
    loc, scale = rng.normal(size=(rows, size)), np.exp(rng.normal(-1, 1, (rows, size)))
    factor = np.tril(rng.normal(size=(rows, size, size)), -1) + scale[..., None] * np.eye(size)
    zeros = np.zeros((rows, size))
    context = rng.normal(size=(rows, 3)).astype(np.float32)

    def normal(bounded=True):
        return DiagonalCells(loc, scale, 12, bounded=bounded)

    def independent(loc, scale):
        loc, scale = (tf.constant(one, tf.float32) for one in (loc, scale))
        return tfd.Independent(tfd.Normal(loc, scale), 1)

    log_weights = np.log(rng.dirichlet(np.ones(3), rows))
    means, scales = rng.normal(size=(rows, 3, size)), np.exp(rng.normal(-1, 0.5, (rows, 3, size)))
    mixture = tfd.MixtureSameFamily(
        tfd.Categorical(logits=log_weights.astype(np.float32)), independent(means, scales)
    )
    from tensorflow_probability import bijectors as tfb

    coupling, made = flow("Coupling"), flow("Autoregressive", 3)
    base = independent(zeros, zeros + 1)
    unit = DiagonalCells(zeros, zeros + 1, 14)
    return {
        "diagonal": (12, normal(), independent(loc, scale)),
        "unbounded": (12, normal(False), independent(loc, scale)),
        "fine": (20, DiagonalCells(loc, scale, 20, bounded=True), independent(loc, scale)),
        "triangular": (
            12,
            TriangularCells(loc, factor, 12),
            tfd.MultivariateNormalTriL(*(tf.constant(a, tf.float32) for a in (loc, factor))),
        ),
        "mixture": (12, MixtureCells(log_weights, means, scales, 12), mixture),
        "flow prior": (
            14,
            FlowCells(unit, coupling, 14, inverse=True),
            tfd.TransformedDistribution(base, tfb.Invert(coupling.bijector())),
        ),
        "autoregressive posterior": (
            14,
            FlowCells(unit, made, 14, context=context),
            tfd.TransformedDistribution(base, made.bijector(tf.constant(context))),
        ),
        "autoregressive prior": (
            14,
            FlowCells(unit, flow("Autoregressive"), 14, inverse=True),
            tfd.TransformedDistribution(base, tfb.Invert(flow("Autoregressive").bijector())),
        ),
    }


@pytest.mark.few(3)
@pytest.mark.parametrize("name", parts())
def test_a_pop_is_a_draw_and_a_push_undoes_it(name):
    width, part, distribution = parts()[name]
    words = stack.known_words(20_000)
    coder = stack.Stack(words)
    cells = part.pop(coder)
    taken = 32 * len(words) - coder.bits()
    log_prob = distribution.log_prob(tf.constant(cells * 2.0**-width, tf.float32))
    # Of what was popped, the density times the cells' volume is the probability.
    expected = -(np.sum(log_prob) / math.log(2) - width * cells.size)
    assert taken == pytest.approx(expected, rel=2e-3)
    # The mean of −log p under p is the entropy: they are draws of it.
    drawn = distribution.sample(40, seed=1)
    entropy = -np.mean(distribution.log_prob(drawn)) * len(cells)
    spread = 4 * np.std(np.sum(distribution.log_prob(drawn), axis=1))
    assert abs(-np.sum(log_prob) - entropy) < spread + 0.01 * abs(entropy) + 5
    part.push(coder, cells)
    np.testing.assert_array_equal(coder.words(), words)


def test_far_cells_of_a_prior_come_back():
    cells = np.array([[0, 2**40, -(2**40), 17, 2**12, -(2**13)]])
    part = DiagonalCells(np.zeros((1, 6)), np.ones((1, 6)), 8)
    words = stack.known_words(50)
    coder = stack.Stack(words)
    part.push(coder, cells)
    np.testing.assert_array_equal(part.pop(coder), cells)
    np.testing.assert_array_equal(coder.words(), words)
    with pytest.raises(InputError, match="so far from its prior"):
        part.push(coder, cells * 2**10)


@pytest.mark.exhaustive
def test_the_groups_of_a_hierarchy_are_coded_one_given_the_others():
    x, label = of_three_causes(600, classes=3)
    vae = HierarchicalVAE.for_events(
        (8, 8, 1), groups="3,2,2x2x2", network="conv:filters=8x8,hidden=16", num_classes=3, seed=0
    )
    vae.compile(keras.optimizers.Adam(0.01))
    keras.utils.set_random_seed(0)
    vae.fit((x, label), epochs=8, batch_size=50, verbose=0)
    done = compress_events(vae, x, label)
    same(decompress(vae, done.data), x)
    # More than is forgiven below.
    assert np.mean(vae.elbo(x, label, seed=0).kl) > 1
    of_labels = len(x) * math.log2(3)
    carried = done.bits - done.start_up_bits - done.header_bits
    assert carried == pytest.approx(bits_of(vae, x, label) + of_labels, rel=0.01)
    for weight in vae.decoder.posterior_heads[0].weights:
        weight.assign(weight + 0.01)
    with pytest.raises(InputError, match="another model"):
        decompress(vae, done.data)


@pytest.mark.parametrize(
    ("quantizer", "classes"),
    [
        ("vq:codes=8", None),
        pytest.param("residual:codes=4,depth=2", 3, marks=pytest.mark.exhaustive),
        pytest.param("fsq:levels=3x2", None, marks=pytest.mark.exhaustive),
    ],
)
def test_codes_and_what_they_leave_are_coded_in_as_many_bits_as_the_bound_says(quantizer, classes):
    x, label = of_three_causes(400, classes)
    vq = VQVAE.for_events(
        (8, 8, 1),
        quantizer=quantizer,
        code_prior="transformer:width=8,layers=1,heads=2",
        network="conv:filters=8x8,hidden=16",
        num_classes=classes,
        seed=0,
    )
    components.shaken(vq)
    done = compress_events(vq, x, label)
    same(decompress(vq, done.data), x)
    bound, _, log_prior = vq.bound(x, label)
    # Neither the prior nor what tells it from a uniform one is as little as is forgiven below.
    uniform, of_codes = vq.code_prior.length * math.log(vq.num_codes), np.mean(-log_prior)
    assert min(of_codes, abs(of_codes - uniform)) > 2 * 2e-3 * np.mean(-bound)
    of_labels = 0 if classes is None else len(x) * math.log2(classes)
    carried = done.bits - done.start_up_bits - done.header_bits
    assert carried == pytest.approx(-bound.numpy().sum() / math.log(2) + of_labels, rel=2e-3)
    # Two words of what both sides know at first.
    assert done.start_up_bits == 64
    # Events that no codes stand for.
    noise = np.random.default_rng(1).integers(0, 2, (5, 8, 8, 1)).astype(np.float32)
    some = None if label is None else label[:5]
    for odd in (noise, noise[:1], noise[:0]):
        given = None if some is None else some[: len(odd)]
        same(decompress(vq, compress(vq, odd, given)), odd)
    for weight in vq.quantizer.weights or vq.code_prior.weights[:1]:
        weight.assign(weight + 0.01)
    with pytest.raises(InputError, match="another model"):
        decompress(vq, done.data)
