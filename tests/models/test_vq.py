"""`VQVAE`: its codes, its bound against enumeration, both stages, saving and going on."""

import itertools
import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfvae import VAE, VQVAE, InputError, evaluation, plotting
from tfvae.training import train

SMALL_PRIOR = "transformer:width=8,layers=1,heads=2"
# A vector, a series, an image and a volume, and the places of their maps.
SHAPES = {(3,): (8,), (4, 2): (2,), (6, 4, 1): (3, 2), (4, 4, 2, 1): (2, 2, 2)}
LIKELIHOODS = {
    "bernoulli": "bits",
    "normal:scale=learned": "real",
    "categorical:levels=3": "levels",
}


def model(shape=(4, 2), quantizer="vq:codes=5", network=None, seed=0, **options):
    if network is None:
        network = "dense:hidden=6,places=8" if len(shape) == 1 else "conv:filters=4"
    options = {"code_prior": SMALL_PRIOR} | options
    return VQVAE.for_events(
        shape, quantizer=quantizer, network=network, code_dim=_dim(quantizer), seed=seed, **options
    )


def _dim(quantizer):
    return None if quantizer.startswith("fsq") else 3


def events(shape, n=6, kind="bits", seed=1):
    rng = np.random.default_rng(seed)
    drawn = {
        "bits": rng.integers(0, 2, (n, *shape)),
        "real": rng.normal(size=(n, *shape)),
        "levels": rng.integers(0, 3, (n, *shape)) / 2,
    }
    return drawn[kind].astype("float32")


def spread(vq, seed=2):
    """Give a model whose codes differ, and a prior that is not uniform."""
    rng = np.random.default_rng(seed)
    vq.to_vectors.kernel.assign(rng.normal(size=vq.to_vectors.kernel.shape) * 2)
    for weight in (vq.code_prior.head, vq.code_prior.bias):
        weight.assign(rng.normal(size=weight.shape))
    return vq


def all_codes(vq):
    count = int(np.prod(vq.code_shape))
    found = np.array(list(itertools.product(range(vq.num_codes), repeat=count)), np.int32)
    return found.reshape(-1, *vq.code_shape)


def log_probs(vq, x, label=None):
    """log p(x) of each event, by a sum over all codes."""
    codes = all_codes(vq)
    given = None if label is None else np.repeat(label[:1], len(codes))
    log_prior = vq.log_prior(codes, given)
    p = vq.decode_codes(codes, given)
    return np.array([tf.reduce_logsumexp(log_prior + p.log_prob(one)) for one in x])


# --- codes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "quantizer", "likelihood"),
    [
        ((3,), "vq:codes=5", "bernoulli"),
        ((4, 2), "fsq:levels=3x2", "normal:scale=learned"),
        ((6, 4, 1), "residual:depth=2,codes=4", "categorical:levels=3"),
        pytest.param((4, 4, 2, 1), "vq:codes=5", "bernoulli", marks=pytest.mark.exhaustive),
    ],
)
def test_codes_there_and_back_for_any_event(shape, quantizer, likelihood):
    vq = spread(model(shape, quantizer, likelihood=likelihood))
    x = events(shape, kind=LIKELIHOODS[likelihood])
    codes = vq.codes(x)
    depth = (2,) if quantizer.startswith("residual") else ()
    assert codes.shape == (6, *SHAPES[shape], *depth)
    assert vq.code_shape == codes.shape[1:]
    assert codes.dtype == tf.int32
    assert 0 <= codes.numpy().min() <= codes.numpy().max() < vq.num_codes
    if not quantizer.startswith("fsq"):  # whose few levels may all be at an end
        assert len(np.unique(codes)) > 1
    z = vq.code(x)
    assert z.shape == (6, vq.latent_dim)
    assert vq.latent_dim == np.prod(SHAPES[shape]) * vq.code_dim
    np.testing.assert_array_equal(vq.code_vectors(codes), z)
    mean = vq.likelihood_family.mean(vq.decode_codes(codes))
    np.testing.assert_array_equal(mean, vq.reconstruct(x))
    np.testing.assert_allclose(vq.keras_encoder()(x), z, atol=1e-6)
    np.testing.assert_allclose(vq.keras_decoder()(z), mean, atol=1e-5)
    sample = vq.sample(3, seed=1, mean=False)
    assert sample.shape == (3, *shape)
    assert bool(vq.event_spec.admits(sample))


@pytest.mark.parametrize(
    ("quantizer", "likelihood"),
    [
        ("vq:codes=3", "bernoulli"),
        ("fsq:levels=2x2", "categorical:levels=3"),
        ("residual:depth=2,codes=3", "normal:scale=learned"),
    ],
)
def test_the_bound_lies_below_log_p_by_enumeration(quantizer, likelihood):
    vq = spread(model((4, 2), quantizer, likelihood=likelihood))
    x = events((4, 2), kind=LIKELIHOODS[likelihood])
    bound, log_likelihood, log_prior = vq.bound(x)
    exact = log_probs(vq, x)
    assert (exact >= bound.numpy() - 1e-5).all()
    # It is one of the terms of the sum, and the terms sum to a probability.
    np.testing.assert_allclose(bound, log_likelihood + log_prior, rtol=1e-6)
    np.testing.assert_allclose(log_prior, vq.log_prior(vq.codes(x)), rtol=1e-5)
    np.testing.assert_allclose(log_likelihood, vq.log_likelihood(x, vq.code(x)), rtol=1e-5)
    np.testing.assert_allclose(np.exp(vq.log_prior(all_codes(vq))).sum(), 1, rtol=1e-5)
    elbo, of_x, kl = vq.elbo(x)
    np.testing.assert_array_equal(elbo, bound)
    np.testing.assert_allclose(elbo, of_x - kl, rtol=1e-6)


def test_probabilities_of_all_events_sum_to_one():
    vq = spread(model((2, 1), "vq:codes=3"))
    x = np.array(list(itertools.product([0, 1], repeat=2)), "float32").reshape(-1, 2, 1)
    np.testing.assert_allclose(np.exp(log_probs(vq, x)).sum(), 1, rtol=1e-5)
    assert np.exp(vq.bound(x).bound).sum() < 1


def test_the_bound_is_log_p_where_one_code_has_all_the_mass():
    vq = spread(model((4, 2), "vq:codes=3"))
    # The encoder takes any event to code 1, and so does the prior.
    vq.to_vectors.kernel.assign(tf.zeros_like(vq.to_vectors.kernel))
    vq.to_vectors.bias.assign(vq.quantizer.codebooks[0, 1])
    vq.code_prior.head.assign(tf.zeros_like(vq.code_prior.head))
    vq.code_prior.bias.assign([[-100.0, 100.0, -100.0]])
    x = events((4, 2))
    assert (vq.codes(x).numpy() == 1).all()
    np.testing.assert_allclose(vq.bound(x).bound, log_probs(vq, x), rtol=1e-6)


def test_before_the_second_stage_the_prior_is_uniform():
    vq = model((4, 2), "vq:codes=5")
    assert not vq.prior_is_trained
    np.testing.assert_allclose(vq.bound(events((4, 2))).log_prior, -2 * np.log(5), rtol=1e-6)
    assert spread(vq).prior_is_trained


# --- training -------------------------------------------------------------------------------------


def test_the_gradient_is_that_of_likelihood_and_commitment():
    vq = spread(model((4, 2), "vq:codes=5,commitment=0.7"))
    vq.compile("sgd", run_eagerly=True)
    x = events((4, 2))
    batch = vq.tensors(x, guard=True)
    variables = vq.trainable_variables
    with tf.GradientTape() as tape:
        losses = vq.batch_losses(batch, tf.constant([0, 1]), True)
        loss = tf.reduce_sum(losses.loss)
    found = tape.gradient(loss, variables)
    with tf.GradientTape() as tape:
        features = vq.encoder(x)
        z_e = vq.to_vectors(features)
        e = tf.stop_gradient(vq.quantizer.lookup(vq.codes(x)[..., None]))
        z = z_e + tf.stop_gradient(e - z_e)
        p = vq.decode(tf.reshape(z, (6, -1)))
        commitment = 0.7 * tf.reduce_sum(tf.square(z_e - e))
        by_hand = commitment - tf.reduce_sum(p.log_prob(x))
    np.testing.assert_allclose(loss, by_hand, rtol=1e-5)
    for one, other in zip(found, tape.gradient(by_hand, variables), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5)
    ids = {id(variable) for variable in variables}
    assert not ids & {id(one) for one in vq.code_prior.variables}
    np.testing.assert_allclose(losses.terms["kl"], 2 * np.log(5), rtol=1e-6)
    assert {len(term) for term in losses.terms.values()} == {6}


def trained(x, label=None, **options):
    vq = model(x.shape[1:], **options)
    vq.compile(keras.optimizers.Adam(0.01), run_eagerly=True)
    vq.fit(x, label, batch_size=6, verbose=0)
    with vq.training_prior(keras.optimizers.Adam(0.01), run_eagerly=True):
        vq.fit(x, label, batch_size=6, verbose=0)
    return vq


@pytest.mark.parametrize("ways", [{"run_eagerly": True}, {"steps_per_execution": 3}])
def test_steps_of_the_second_stage_run_as_those_of_the_first(ways):
    vq = model((4, 2))
    vq.compile("adam", **ways)
    vq.build((None, 4, 2))
    name, value = next(iter(ways.items()))
    with vq.training_prior():
        assert getattr(vq, name) == value
    with vq.training_prior(run_eagerly=False, steps_per_execution=1):
        assert getattr(vq, name) != value
    assert getattr(vq, name) == value


def test_two_stages_each_train_their_own_and_the_bound_rises():
    x = events((4, 2), 12)
    vq = model((4, 2))
    vq.compile(keras.optimizers.Adam(0.03), run_eagerly=True)
    books = vq.quantizer.codebooks.numpy()
    prior = vq.code_prior.get_weights()
    history = vq.fit(x, epochs=4, batch_size=12, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]
    assert np.abs(vq.quantizer.codebooks.numpy() - books).max() > 1e-3
    for a, b in zip(vq.code_prior.get_weights(), prior, strict=True):
        np.testing.assert_array_equal(a, b)
    assert 1 <= history["perplexity"][-1] <= 5
    assert 0 < history["codes_used"][-1] <= 1
    before, optimizer = vq.get_weights(), vq.optimizer
    bound = vq.bound(x).bound.numpy().mean()
    found = vq.fit_prior(
        x, epochs=10, batch_size=12, verbose=0, optimizer=keras.optimizers.Adam(0.03)
    ).history
    assert found["loss"][-1] < found["loss"][0]
    np.testing.assert_allclose(found["loss"], found["kl"], rtol=1e-5)
    assert vq.bound(x).bound.numpy().mean() > bound + 0.1
    of_prior = {id(weight) for weight in vq.code_prior.weights}
    for weight, value in zip(vq.weights, before, strict=True):
        if id(weight) not in of_prior:
            np.testing.assert_array_equal(weight, value)
    # It goes on with the codes as before.
    assert vq.stage == "codes"
    assert vq.optimizer is optimizer
    np.testing.assert_allclose(
        vq.evaluate(x, verbose=0, return_dict=True)["elbo"], vq.bound(x).bound.numpy().mean(),
        rtol=1e-5,
    )  # fmt: skip


def test_a_training_starts_the_codes_at_the_data():
    x = events((4, 2), 40)
    vq = model((4, 2), "vq:codes=4")
    vq.adapt(x)
    vectors = vq.to_vectors(vq.encoder(x)).numpy().reshape(-1, 3)
    np.testing.assert_allclose(vectors.mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(np.square(vectors).sum(-1).mean(), 1, rtol=1e-2)
    book = vq.quantizer.codebooks.numpy()[0]
    for code in book:
        assert np.abs(vectors - code).sum(-1).min() < 1e-5


def test_events_of_weight_zero_change_nothing():
    x = events((4, 2), 6)
    weight = np.array([1, 1, 0, 1, 0, 1], "float32")
    books = []
    for fill in (0.0, 1.0):
        vq = spread(model((4, 2)))
        vq.adapted = True
        vq.compile("sgd", run_eagerly=True)
        other = np.where(weight[:, None, None] == 0, fill, x).astype("float32")
        vq.train_on_batch(other, sample_weight=weight)
        books.append(vq.quantizer.codebooks.numpy())
    np.testing.assert_allclose(books[0], books[1], rtol=1e-6)


@pytest.mark.exhaustive
def test_fit_and_the_loop_take_the_same_steps():
    x = events((4, 2), 8)
    data = tf.data.Dataset.from_tensor_slices(x).batch(4)
    one, two = (model((4, 2)) for _ in range(2))
    for vq in (one, two):
        vq.compile(keras.optimizers.SGD(0.01))
    one.fit(data, epochs=2, verbose=0)
    train(two, data, epochs=2, progress=False)
    for a, b in zip(one.weights, two.weights, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.exhaustive
def test_a_step_in_xla_is_that_without():
    x = events((4, 2), 8)
    logs, books = [], []
    for how in ({"run_eagerly": True}, {"jit_compile": True}):
        vq = model((4, 2))
        vq.adapted = True
        vq.compile("sgd", **how)
        logs.append(vq.fit(x, batch_size=8, verbose=0).history)
        books.append(vq.quantizer.sums.numpy())
    np.testing.assert_allclose(logs[0]["log_likelihood"], logs[1]["log_likelihood"], rtol=1e-4)
    np.testing.assert_allclose(books[0], books[1], rtol=1e-4, atol=1e-4)


def test_a_loss_that_is_not_finite_leaves_the_codebook():
    x = events((4, 2), 8)
    vq = model((4, 2), likelihood="normal")
    vq.adapted = True
    vq.compile("sgd", run_eagerly=True)
    vq.to_vectors.kernel.assign(vq.to_vectors.kernel * np.nan)
    books = vq.quantizer.codebooks.numpy()
    with pytest.raises(Exception, match="not finite"):
        vq.fit(x, batch_size=8, verbose=0)
    np.testing.assert_array_equal(vq.quantizer.codebooks, books)


@pytest.mark.exhaustive
def test_labels_and_holes():
    x = events((4, 2), 6, "real")
    x[0, 1] = np.nan
    label = np.arange(6) % 3
    vq = trained(x, label, num_classes=3, missing=True, likelihood="normal:scale=learned")
    bound, log_likelihood, _ = vq.bound(x, label)
    assert np.isfinite(bound).all()
    # Over the observed values alone.
    by_value = vq.log_likelihood_by_value(x, vq.code(x, label), label)
    np.testing.assert_allclose(log_likelihood, tf.reduce_sum(by_value, [1, 2]), rtol=1e-5)
    assert not by_value[0, 1].numpy().any()
    codes = vq.codes(x, label)
    assert np.abs(vq.log_prior(codes, label) - vq.log_prior(codes, (label + 1) % 3)).max() > 0
    assert vq.sample(3, label=1, seed=0).shape == (3, 4, 2)
    assert (log_probs(vq, x[1:2], label[1:2]) >= bound.numpy()[1:2] - 1e-5).all()
    with pytest.raises(InputError, match="label"):
        vq.sample(3, seed=0)


# --- seeds, saving, going on ----------------------------------------------------------------------


def test_seeds_decide_weights_and_draws():
    one, same, other = (model((4, 2), seed=seed) for seed in (0, 0, 1))
    for a, b in zip(one.get_weights(), same.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert np.any(one.to_vectors.kernel != other.to_vectors.kernel)
    spread(one)
    draws = [one.sample_codes(20, seed=seed).numpy() for seed in (1, 1, 2)]
    np.testing.assert_array_equal(draws[0], draws[1])
    assert np.any(draws[0] != draws[2])
    # An event's draw is of its own seed, whatever else is drawn.
    np.testing.assert_array_equal(one.sample_codes(5, seed=1), draws[0][:5])
    cold = one.log_prior(one.sample_codes(200, seed=1, temperature=0.2)).numpy().mean()
    assert cold > one.log_prior(one.sample_codes(200, seed=1)).numpy().mean()
    drawn = [one.sample(5, seed=3, mean=False).numpy() for _ in range(2)]
    np.testing.assert_array_equal(drawn[0], drawn[1])


def test_a_model_comes_back_bit_for_bit(tmp_path):
    x = events((4, 2), 6)
    vq = spread(model((4, 2), "residual:depth=2,codes=4"))
    vq.compile(keras.optimizers.Adam(0.01), run_eagerly=True)
    vq.train_on_batch(x)
    vq.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert isinstance(again, VQVAE)
    for part in ("quantizer", "code_prior", "code_dim", "likelihood"):
        one, two = (json.loads(json.dumps(each.get_config()[part])) for each in (vq, again))
        assert one == two
    for a, b in zip(vq.weights, again.weights, strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(again.bound(x).bound, vq.bound(x).bound)
    np.testing.assert_array_equal(again.sample(4, seed=1), vq.sample(4, seed=1))
    # It goes on as the one that was not saved would have.
    for one in (vq, again):
        one.run_eagerly = True
        one.train_on_batch(x)
    for a, b in zip(
        vq.weights + vq.optimizer.variables, again.weights + again.optimizer.variables, strict=True
    ):
        np.testing.assert_array_equal(a, b)


@pytest.mark.exhaustive
def test_a_training_that_was_stopped_goes_on_bit_for_bit(tmp_path):
    x = events((4, 2), 8)
    data = tf.data.Dataset.from_tensor_slices(x).batch(4)

    def compiled():
        vq = model((4, 2), "residual:depth=2,codes=4,restart=0.5")
        vq.compile(keras.optimizers.Adam(0.01), run_eagerly=True)
        return vq

    whole, stopped, resumed = (compiled() for _ in range(3))
    train(whole, data, epochs=2, progress=False)
    train(stopped, data, epochs=1, checkpoint_dir=tmp_path, progress=False)
    train(resumed, data, epochs=2, checkpoint_dir=tmp_path, progress=False)
    for a, b in zip(whole.variables, resumed.variables, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.exhaustive
def test_the_second_stage_goes_on_too(tmp_path):
    x = events((4, 2), 8)
    data = tf.data.Dataset.from_tensor_slices(x).batch(4)
    found = []
    for directory, epochs in ((tmp_path / "whole", (2,)), (tmp_path / "parts", (1, 2))):
        for until in epochs:
            vq = spread(model((4, 2), code_prior=f"{SMALL_PRIOR},dropout=0.3"))
            with vq.training_prior(keras.optimizers.Adam(0.01), run_eagerly=True):
                train(vq, data, epochs=until, checkpoint_dir=directory, progress=False)
        found.append(vq)
    for a, b in zip(found[0].weights, found[1].weights, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.exhaustive
def test_half_precision_is_finite_and_codes_are_told_in_float32():
    keras.config.set_dtype_policy("mixed_float16")
    x = events((4, 2), 6)
    vq = trained(x)
    for term in vq.bound(x):
        assert term.dtype == tf.float32
        assert np.isfinite(term).all()
    assert vq.code(x).dtype == tf.float32


# --- export ---------------------------------------------------------------------------------------


@pytest.mark.exhaustive
def test_what_is_served_is_what_the_model_says(tmp_path):
    vq = spread(model((4, 2), "residual:depth=2,codes=4", num_classes=3))
    x, label = events((4, 2), 5), np.arange(5) % 3
    given = {"label": tf.constant(label, tf.int32)}
    vq.export(tmp_path / "exported")
    served = tf.saved_model.load(tmp_path / "exported").signatures
    assert set(served) == {
        "serving_default", "reconstruct", "encode", "decode", "sample", "bound", "anomaly_score",
        "log_prior", "sample_codes",
    }  # fmt: skip
    close = {"rtol": 1e-4, "atol": 1e-5}
    codes = served["encode"](x=tf.constant(x), **given)["codes"]
    np.testing.assert_array_equal(codes, vq.codes(x, label))
    mean = served["decode"](codes=codes, **given)["x"]
    np.testing.assert_allclose(mean, vq.reconstruct(x, label), **close)
    np.testing.assert_allclose(served["reconstruct"](x=tf.constant(x), **given)["x"], mean, **close)
    found = served["bound"](x=tf.constant(x), **given)
    for name, value in vq.bound(x, label)._asdict().items():
        np.testing.assert_allclose(found[name], value, **close)
    score = served["anomaly_score"](x=tf.constant(x), **given)["score"]
    np.testing.assert_allclose(score, -found["bound"], **close)
    log_prior = served["log_prior"](codes=codes, **given)["log_prior"]
    np.testing.assert_allclose(log_prior, found["log_prior"], **close)
    seeds = tf.constant([[1, number] for number in range(5)])
    drawn = served["sample_codes"](seed=seeds, **given)["codes"]
    np.testing.assert_array_equal(drawn, vq.sample_codes(5, label=label, seed=seeds))
    np.testing.assert_allclose(
        served["sample"](seed=seeds, **given)["x"], vq.sample(5, label=label, seed=seeds), **close
    )
    # A draw is of its seed alone.
    few = {name: value[3:] for name, value in given.items()}
    alone = served["sample_codes"](seed=seeds[3:], **few)["codes"]
    np.testing.assert_array_equal(alone, drawn[3:])
    with pytest.raises(tf.errors.InvalidArgumentError, match="codes are from 0 to"):
        served["decode"](codes=codes + 5, **given)


# --- measures and pictures ------------------------------------------------------------------------


@pytest.mark.exhaustive
def test_the_bound_of_a_data_set_and_the_use_of_codes():
    vq = spread(model((4, 2), "residual:depth=2,codes=4"))
    x = events((4, 2), 30)
    found = evaluation.bound(vq, x, batch_size=7)
    bounds = vq.bound(x).bound.numpy()
    np.testing.assert_allclose(found.bounds, bounds, rtol=1e-5)
    assert found.standard_error == pytest.approx(bounds.std(ddof=1) / np.sqrt(30), rel=1e-4)
    assert found.measure == "probability"
    assert found.bits_per_dimension == pytest.approx(-bounds.mean() / 8 / np.log(2), rel=1e-5)
    assert found.warnings == ()
    elbo = evaluation.elbo(vq, x)
    assert elbo.elbo == pytest.approx(found.bound, rel=1e-6)
    assert elbo.kl == pytest.approx(-found.log_priors.mean(), rel=1e-6)
    assert "bound" in found.as_dict()
    codes = vq.codes(x).numpy()
    usage = evaluation.code_usage(vq, x, batch_size=11)
    for level in range(2):
        counts = np.bincount(codes[..., level].ravel(), minlength=4)
        np.testing.assert_array_equal(usage.counts[level], counts)
        share = counts[counts > 0] / counts.sum()
        assert usage.perplexities[level] == pytest.approx(np.exp(-(share * np.log(share)).sum()))
    np.testing.assert_array_equal(found.usage.counts, usage.counts)
    assert usage.used == np.mean(usage.counts > 0)
    figure = plotting.code_use(usage, codes)
    assert "codes in use" in figure.subfigs[0].axes[0].get_title()
    assert len(figure.subfigs[1].axes) == 20
    assert len(plotting.code_use(usage).axes) == 1
    untrained = evaluation.bound(model((4, 2)), x)
    assert "has not been trained" in untrained.warnings[0]


# --- what is refused ------------------------------------------------------------------------------


def flat_encoder():
    return keras.Sequential([keras.Input((4, 2)), keras.layers.Flatten(), keras.layers.Dense(6)])


@pytest.fixture(scope="module")
def vq():
    return model()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda vq: model(quantizer="nothing"), "unknown quantizer 'nothing'"),
        (
            lambda vq: VQVAE.for_events((4, 2), quantizer="fsq", code_dim=9),
            "vectors of as many values",
        ),
        (
            lambda vq: VQVAE(flat_encoder(), vq.decoder, 3),
            r"puts out a map of features.*Reshape\(\(PLACES, F\)\)",
        ),
        (lambda vq: VQVAE(vq.encoder, vq.decoder, 5), "the decoder takes"),
        (lambda vq: vq.codes(np.zeros((2, 5, 2))), "expected"),
        (lambda vq: vq.code_vectors(np.zeros((2, 3), int)), r"codes are whole.*received shape"),
        (lambda vq: vq.code_vectors(np.full((2, 2), 5)), "from 0 to 4; received 5 to 5"),
        (lambda vq: vq.code_vectors(np.zeros((2, 2))), "received float64"),
        (lambda vq: vq.sample(2, seed=0, temperature=0), "temperature is a number above 0"),
        (lambda vq: vq.sample(2, seed=np.zeros((3, 2), int)), "a seed for each of 2 events"),
        (lambda vq: evaluation.log_prob(vq, events((4, 2))), "tfvae.evaluation.bound"),
        (lambda vq: evaluation.bound(VAE.for_events((4, 2)), events((4, 2))), "expected a VQVAE"),
        (lambda vq: vq.export("nowhere", format="onnx"), "export it as a SavedModel"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(vq, call, message):
    with pytest.raises(InputError, match=message) as caught:
        call(vq)
    assert "\n" not in str(caught.value)


def test_networks_of_ones_own():
    layers = keras.layers
    encoder = keras.Sequential(
        [keras.Input((6, 6, 1)), layers.Conv2D(4, 3, strides=2, padding="same", activation="relu")]
    )
    decoder = keras.Sequential(
        [keras.Input((3, 3, 2)), layers.Conv2DTranspose(1, 3, strides=2, padding="same")]
    )
    vq = VQVAE(encoder, decoder, 2, quantizer="vq:codes=4", code_prior=SMALL_PRIOR)
    x = events((6, 6, 1))
    assert vq.codes(x).shape == (6, 3, 3)
    assert vq.bound(x).bound.shape == (6,)
    assert vq.reconstruct(x).shape == x.shape
