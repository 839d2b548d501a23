"""A training starts at the mean and the spread of its data, whatever the likelihood and the way."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

import tfvae
from tfvae.lazy import tfd
from tfvae.likelihoods import Columns, Likelihood
from tfvae.training import train

SHAPE = (5, 4, 2)


def model(likelihood, shape=SHAPE, **kwargs):
    kwargs = {"network": "dense:hidden=8", "latent_dim": 2, "seed": 0, **kwargs}
    vae = tfvae.VAE.for_events(shape, likelihood=likelihood, **kwargs)
    # So that nothing is trained: a training begins with the start.
    vae.compile(keras.optimizers.SGD(0.0), run_eagerly=True)
    return vae


def events(likelihood, rng, count=200):
    """Draw events of the likelihood's support, of another distribution at each place."""
    share = rng.uniform(0.1, 0.9, SHAPE)
    if likelihood == "bernoulli":
        return (rng.random((count, *SHAPE)) < share).astype("float32")
    if likelihood.startswith(("poisson", "negative_binomial")):
        return rng.poisson(9 * share, (count, *SHAPE)).astype("float32")
    unit = np.clip(share + rng.normal(0, 0.1, (count, *SHAPE)), 0, 1)
    if "levels" in likelihood:
        return (np.rint(16 * unit) / 16).astype("float32")
    if likelihood in ("beta", "continuous_bernoulli"):
        return unit.astype("float32")
    return (10 * unit - 3).astype("float32")


def start_of(vae):
    """Return p(x|z) at z = 0, which dense layers without biases take to 0."""
    return vae.decode(np.zeros((1, vae.latent_dim)))


STARTS = [
    ("bernoulli", 3e-3),  # half a count of 200
    ("continuous_bernoulli", 1e-5),
    ("beta", 1e-2),
    ("normal", 1e-5),
    ("normal:scale=optimal", 1e-5),
    ("normal:scale=learned", 1e-5),
    ("laplace:scale=per_value", 1e-5),
    ("logistic:scale=learned", 1e-5),
    ("student_t:scale=learned,df=learned", 1e-5),
    ("discretized_logistic:levels=17", 0.03),  # what lies beyond the ends is at the ends
    ("discretized_logistic_mixture:levels=17", 0.02),
    ("categorical:levels=17", 0.03),
    ("poisson", 1e-4),
    ("negative_binomial", 1e-4),
    ("poisson:zero_inflated=true", 1e-4),
    ("negative_binomial:zero_inflated=true,dispersion=per_value", 1e-4),
]


@pytest.mark.few(5)
@pytest.mark.parametrize("place", range(len(STARTS)), ids=lambda place: STARTS[place][0])
def test_the_mean_at_the_start_is_that_of_the_data(place, rng):
    likelihood, off = STARTS[place]
    network = ("dense:hidden=8", "conv:filters=4,hidden=8")[place % 2]
    vae, x = model(likelihood, network=network), events(likelihood, rng)
    vae.adapt(x)
    np.testing.assert_allclose(start_of(vae).mean()[0], x.mean(axis=0), atol=off)
    assert vae.adapted


def test_log_p_at_the_start_is_that_of_the_fitted_distribution(rng):
    z = np.zeros((200, 2))
    for likelihood, frozen in (
        ("normal:scale=learned", stats.norm),
        ("laplace:scale=learned", stats.laplace),
        ("logistic:scale=learned", stats.logistic),
        ("student_t:scale=learned", lambda loc, scale: stats.t(5, loc, scale)),
    ):
        vae, x = model(likelihood), events(likelihood, rng)
        vae.adapt(x)
        loc = x.astype(float).mean(axis=0)
        scale = np.sqrt(np.square(x - loc).mean()) / frozen(0, 1).std()
        expected = frozen(loc, scale).logpdf(x).sum(axis=(1, 2, 3))
        np.testing.assert_allclose(vae.log_likelihood(x, z), expected, rtol=1e-4)

    vae, x = model("normal:scale=per_value"), events("normal", rng)
    vae.adapt(x)
    expected = stats.norm(x.mean(axis=0), x.std(axis=0)).logpdf(x).sum(axis=(1, 2, 3))
    np.testing.assert_allclose(vae.log_likelihood(x, z), expected, rtol=1e-4)

    vae, x = model("bernoulli"), events("bernoulli", rng)
    vae.adapt(x)
    share = (x.sum(axis=0) + 0.5) / (len(x) + 1)
    expected = stats.bernoulli(share).logpmf(x).sum(axis=(1, 2, 3))
    np.testing.assert_allclose(vae.log_likelihood(x, z), expected, rtol=1e-5)


def test_the_dispersion_of_counts_is_that_of_the_data(rng):
    x = rng.negative_binomial(2, 2 / (2 + 6), (20_000, 3)).astype("float32")
    vae = model("negative_binomial", shape=(3,))
    vae.adapt(x)
    drawn = start_of(vae).sample(20_000, seed=(0, 1))[:, 0]
    np.testing.assert_allclose(np.var(drawn, axis=0), x.var(axis=0), rtol=0.1)


def test_what_was_not_observed_does_not_count(rng):
    x = rng.normal(3.0, 2.0, (300, 4)).astype("float32")
    x[::3, 1] = np.nan
    x[:, 3] = np.nan
    vae = model("normal:scale=learned", shape=(4,), missing=True)
    vae.adapt(x)
    found = start_of(vae).distribution
    np.testing.assert_allclose(found.loc[0, :3], np.nanmean(x[:, :3], axis=0), rtol=1e-5)
    deviation = x[:, :3] - np.nanmean(x[:, :3], axis=0)
    expected = np.sqrt(np.nanmean(np.square(deviation)))
    np.testing.assert_allclose(found.scale, np.full((1, 4), expected), rtol=1e-4)


def test_each_column_starts_by_itself(rng):
    count = 500
    x = np.stack(
        [
            rng.normal(5.0, 0.1, count),
            rng.integers(0, 3, count),
            rng.poisson(7.0, count),
            rng.normal(-2.0, 3.0, count),
        ],
        axis=1,
    ).astype("float32")
    likelihood = Columns(
        {
            "a": "normal:scale=learned",
            "b": "categorical:levels=3",
            "c": "poisson",
            "d": "normal:scale=learned",
        }
    )
    vae = model(likelihood, shape=(4,))
    vae.adapt(x)
    shares = (np.bincount(x[:, 1].astype(int), minlength=3) + 0.5) / (count + 1.5)
    expected = (
        stats.norm(x[:, 0].mean(), x[:, 0].std()).logpdf(x[:, 0])
        + np.log(shares)[x[:, 1].astype(int)]
        + stats.poisson(x[:, 2].mean()).logpmf(x[:, 2])
        + stats.norm(x[:, 3].mean(), x[:, 3].std()).logpdf(x[:, 3])
    )
    found = vae.log_likelihood(x, np.zeros((count, 2)))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-3)


def own(decoder, likelihood="normal"):
    encoder = keras.Sequential([keras.Input((6, 2)), keras.layers.Flatten()])
    decoder = keras.Sequential([keras.Input((2,)), *decoder])
    return tfvae.VAE(encoder, decoder, 2, likelihood=likelihood)


def test_decoders_of_ones_own_start_at_the_data_if_their_last_layer_can_be_told(rng):
    layers = keras.layers
    x = rng.normal([3.0, -1.0], 0.5, (100, 6, 2)).astype("float32")
    x[:, 0] += 7
    dense = own([layers.Dense(12), layers.Reshape((6, 2))], likelihood="normal:scale=learned")
    kernel = dense.decoder.layers[0].kernel.numpy()
    dense.adapt(x)
    np.testing.assert_allclose(start_of(dense).mean()[0], x.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(dense.decoder.layers[0].kernel, 0.3 * kernel, rtol=1e-6)
    dense.adapt(x)
    np.testing.assert_allclose(dense.decoder.layers[0].kernel, 0.3 * kernel, rtol=1e-6)

    # One bias for each channel.
    conv = own([layers.RepeatVector(6), layers.Conv1D(2, 3, padding="same")])
    conv.adapt(x)
    expected = np.broadcast_to(x.mean(axis=(0, 1)), (6, 2))
    np.testing.assert_allclose(start_of(conv).mean()[0], expected, rtol=1e-5)

    bits = (x > 3).astype("float32")
    sigmoid = own([layers.Dense(12, "sigmoid"), layers.Reshape((6, 2))], likelihood="bernoulli")
    sigmoid.adapt(bits)
    np.testing.assert_allclose(start_of(sigmoid).mean()[0], bits.mean(axis=0), atol=1e-2)

    # What cannot be told stays as it is.
    for last in (layers.Dense(12, use_bias=False), layers.Dense(12, bias_initializer="ones")):
        vae = own([last, layers.Reshape((6, 2))])
        before = [weight.numpy() for weight in vae.weights]
        vae.adapt_once(x)
        for weight, was in zip(vae.weights, before, strict=True):
            np.testing.assert_array_equal(weight, was)


@keras.saving.register_keras_serializable("test_starting")
class Gumbel(Likelihood):
    """Says nothing of where it starts."""

    parameters_per_value = 2

    def value_distribution(self, parameters):
        loc, scale = tf.split(parameters["raw"], 2, axis=-1)
        return tfd.Gumbel(loc, tf.nn.softplus(scale) + 1e-3)


@keras.saving.register_keras_serializable("test_starting")
class StartingGumbel(Gumbel):
    """Says it."""

    def starting_parameters(self, x):
        scale = x.std(axis=0) * np.sqrt(6) / np.pi
        loc = x.mean(axis=0) - np.euler_gamma * scale
        return {"raw": np.concatenate([loc, np.log(np.expm1(scale - 1e-3))], axis=-1)}


def test_likelihoods_of_ones_own_take_part_or_start_as_they_are(rng):
    x = rng.gumbel(4.0, 0.5, (500, *SHAPE)).astype("float32")
    silent, telling = model(Gumbel()), model(StartingGumbel())
    silent.fit(x[:16], verbose=0)
    telling.adapt(x)
    np.testing.assert_allclose(start_of(telling).mean()[0], x.mean(axis=0), rtol=1e-4)
    np.testing.assert_allclose(start_of(telling).stddev()[0], x.std(axis=0), rtol=1e-4)


def biases(vae):
    return vae.likelihood_family.head.bias.numpy()


def test_fit_and_the_loop_start_alike_once_and_never_what_is_trained(rng, tmp_path):
    x = events("normal", rng, 64)
    data = tf.data.Dataset.from_tensor_slices(x).batch(64)
    adapted = model("normal:scale=learned")
    adapted.adapt(x)

    by_array, by_data, by_loop, by_generator = (model("normal:scale=learned") for _ in range(4))
    by_array.fit(x, verbose=0)
    by_data.fit(data, verbose=0)
    train(by_loop, data, progress=False)
    seen = (batch for batch in [(x,)])
    by_generator.fit(seen, steps_per_epoch=1, verbose=0)
    for vae in (by_array, by_data, by_loop, by_generator):
        for weight, expected in zip(vae.weights, adapted.weights, strict=False):
            if weight.dtype == "float32":
                np.testing.assert_allclose(weight, expected, atol=1e-6)

    # What was started, told to start as it is, or trained stays.
    before = biases(by_array)
    by_array.fit(x + 1, verbose=0)
    np.testing.assert_array_equal(biases(by_array), before)
    left = model("normal")
    left.adapted = True
    left.fit(x, verbose=0)
    assert not biases(left).any()
    trained = model("normal:scale=learned")
    trained.set_weights(adapted.get_weights())
    trained.adapt_once(x + 1)
    np.testing.assert_array_equal(biases(trained), biases(adapted))

    # It is saved with the model.
    for vae, is_adapted in ((adapted, True), (model("normal"), False)):
        vae.save(tmp_path / "model.keras")
        assert keras.models.load_model(tmp_path / "model.keras").adapted is is_adapted


def test_splits_start_from_all_over_and_keep_their_order():
    data = tfvae.datasets.load("digits", binarize="dynamic")
    batches = data.train.batches(128, shuffle=True)
    vae, other = model("bernoulli", (8, 8, 1)), model("bernoulli", (8, 8, 1))
    vae.adapt_once(batches)
    other.adapt_once(tfvae.datasets.Batches(data.train, 128))
    np.testing.assert_array_equal(biases(vae), biases(other))
    x, _ = data.train.arrays()
    np.testing.assert_allclose(start_of(vae).mean()[0], x.mean(axis=0), atol=0.05)
    # No pass over the batches has been taken for it.
    first = next(iter(data.train.batches(128, shuffle=True)))[0]
    np.testing.assert_array_equal(next(iter(batches))[0], first)


def test_a_target_is_what_the_likelihood_starts_at(rng):
    clean = events("normal", rng, 64)
    noisy = clean + rng.normal(5, 1, clean.shape).astype("float32")
    vae = model("normal")
    vae.fit(noisy, clean, verbose=0)
    np.testing.assert_allclose(biases(vae).reshape(SHAPE), clean.mean(axis=0), atol=1e-5)


def test_pseudo_inputs_start_at_events(rng):
    x = events("normal", rng, 64)
    vae = model("normal", prior="vamp:pseudo_inputs=4")
    vae.adapt(x)
    np.testing.assert_allclose(vae.prior_family.inputs, x[:4], rtol=1e-6)
    # Those that the user has set stay.
    other = model("normal", prior="vamp:pseudo_inputs=4")
    other.prior_family.adapt(x[10:14])
    other.adapt(x)
    np.testing.assert_allclose(other.prior_family.inputs, x[10:14], rtol=1e-6)


def test_what_cannot_be_adapted_to_is_refused(rng):
    vae = model("bernoulli")
    with pytest.raises(tfvae.InputError, match="Bernoulli expects"):
        vae.adapt(events("normal", rng))
    with pytest.raises(tfvae.InputError, match="expected images"):
        vae.adapt(np.zeros((3, 2, 2, 1)))
    with pytest.raises(tfvae.InputError, match="adapt takes"):
        vae.adapt(None)
    assert not vae.adapted


def test_a_learned_scale_follows_the_error_in_some_hundred_steps():
    family = tfvae.likelihoods.Normal(scale="learned", decoder_output="parameters")
    family.bind((2,), None)
    family.build((None, 2))
    zeros, x = tf.zeros((1, 2)), tf.constant([[-0.02, 0.02]])
    optimizer = keras.optimizers.Adam(2e-3)
    optimizer.build([family.raw_scale])

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            loss = -family.distribution({"loc": zeros}).log_prob(x)[0]
        optimizer.apply([tape.gradient(loss, family.raw_scale.value)], [family.raw_scale])

    for _ in range(500):
        step()
    scale = family.distribution({"loc": zeros}).stddev().numpy()
    np.testing.assert_allclose(scale, 0.02, rtol=0.1)


@pytest.mark.parametrize(
    ("network", "options"),
    [
        ("dense:hidden=8", {"missing": True}),
        ("dense:hidden=8", {"num_classes": 3}),
        pytest.param("conv:filters=4,hidden=8", {}, marks=pytest.mark.exhaustive),
    ],
)
def test_values_of_any_size_start_as_those_of_unit_size(network, options, rng):
    unit = rng.normal(size=(64, 9, 2)).astype("float32")
    unit = (unit - unit.mean((0, 1))) / unit.std((0, 1))
    size, middle = np.array([30.0, 500.0], "float32"), np.array([-7.0, 900.0], "float32")
    label = [np.zeros(64, np.int32)] if "num_classes" in options else []
    codes, means = {}, {}
    for name, x in (("unit", unit), ("large", unit * size + middle)):
        vae = model("normal:scale=learned", (9, 2), network=network, **options)
        vae.adapt(x, *label)
        p = vae.decode(np.ones((1, 2), "float32"), *[one[:1] for one in label])
        centre, scale = (x.mean(0), x.std((0, 1))) if name == "large" else (unit.mean(0), 1.0)
        codes[name] = vae.encode(x, *label).mean().numpy()
        means[name] = (p.mean().numpy() - centre) / scale
        # Not twice, where data of other sizes come after them.
        kernel = vae.likelihood_family.head.kernel.numpy()
        vae.adapt(1000 * x, *label)
        np.testing.assert_array_equal(vae.likelihood_family.head.kernel, kernel)
    assert np.abs(codes["large"]).max() < 10
    if network.startswith("dense"):  # without a border, which is 0 as the mean is not
        np.testing.assert_allclose(codes["large"], codes["unit"], atol=1e-3)
    # 64 events spread a little less about the mean of their place than about that of all.
    np.testing.assert_allclose(means["large"], means["unit"], rtol=0.03, atol=1e-3)


def test_networks_of_ones_own_take_values_of_any_size(rng):
    """Their first layer does, if it can be told, and others are left as they are."""
    x = 100 * rng.normal(size=(64, 4)).astype("float32")
    told = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    normalised = keras.Sequential(
        [keras.Input((4,)), keras.layers.LayerNormalization(), keras.layers.Dense(3)]
    )
    for encoder, is_told in ((told, True), (normalised, False)):
        before = encoder.layers[-1].kernel.numpy()
        decoder = keras.Sequential([keras.Input((2,)), keras.layers.Dense(4)])
        vae = tfvae.VAE(encoder, decoder, latent_dim=2, likelihood="normal")
        vae.adapt(x)
        after = before / x.std(0)[:, None] if is_told else before
        np.testing.assert_allclose(encoder.layers[-1].kernel, after, rtol=1e-4)
