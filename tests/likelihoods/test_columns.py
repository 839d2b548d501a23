"""The likelihood of rows, whose columns have likelihoods of their own."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from likelihood_cases import EACH, EPS, each
from scipy import special

import tfvae
from tfvae import VAE, Autoencoder, InputError, likelihoods
from tfvae.evaluation import log_prob
from tfvae.likelihoods import Columns, Likelihood, Normal
from tfvae.models import EventSpec

MIXED = {
    "age": "normal:scale=learned",
    "sex": "categorical:levels=3",
    "visits": "negative_binomial",
    "weight": "normal:scale=learned",
    "smokes": "bernoulli",
    "share": "beta",
}


def rows(rng, n, holes=0.0):
    """Rows of the columns MIXED that depend on each other."""
    z = rng.normal(size=n)
    x = np.stack(
        [
            z + 0.3 * rng.normal(size=n),
            np.digitize(z + 0.3 * rng.normal(size=n), [-0.5, 0.5]),
            rng.poisson(np.exp(0.5 * z + 1)),
            -z + 0.5 * rng.normal(size=n),
            rng.random(n) < special.expit(3 * z),
            special.expit(z + 0.3 * rng.normal(size=n)),
        ],
        axis=1,
    ).astype(np.float32)
    x[rng.random(x.shape) < holes] = np.nan
    return x


def model(columns=MIXED, **options):
    options = {"latent_dim": 2, "network": "dense:hidden=16", "seed": 0} | options
    return VAE.for_events((len(columns),), likelihood=Columns(columns), **options)


# --- log p(x|z) -----------------------------------------------------------------------------------


@pytest.mark.few(8)
@each
def test_each_column_has_the_log_probability_of_its_likelihood(case, rng):
    """Two columns of a kind with one of another between them, against the kind by itself."""
    config = case.kind(**case.options).get_config()
    part = case.kind.from_config(config)
    columns = Columns({"a": part, "b": "normal:scale=0.7", "c": part})
    columns.bind((3,), seed=0)
    columns.last_activation = keras.activations.linear
    count = part.parameters_per_value
    raw = rng.normal(size=(5, 2 * count + 1)).astype(np.float32)
    parameters = columns(raw)
    assert len(columns.groups) == 2

    x = np.zeros((5, 3), np.float32)
    x[:, [0, 2]] = case.images(rng, 5, (2,))
    x[:, 1] = rng.normal(size=5)
    learned = {v.name: v.numpy()[0] for v in columns.groups[0].trainable_variables}
    # Parameter by parameter, then column by column.
    own = np.stack([raw[:, :count], raw[:, count + 1 :]], axis=-1).reshape(5, -1)
    expected = case.elements(x[:, [0, 2]], own, learned)
    found = columns.log_prob_by_value(parameters, x).numpy()
    tolerance = 5 * EPS * (np.abs(expected) + 100)
    assert np.all(np.abs(found[:, [0, 2]] - expected) <= tolerance)
    middle = Normal(scale=0.7)
    middle.bind((1,), 0)
    middle.last_activation = keras.activations.linear
    np.testing.assert_allclose(
        found[:, 1],
        middle.distribution(middle(raw[:, count : count + 1])).log_prob(x[:, 1:2]),
        rtol=1e-6,
    )
    whole = columns.distribution(parameters)
    assert whole.batch_shape == (5,) and whole.event_shape == (3,)
    np.testing.assert_allclose(whole.log_prob(x), found.sum(1), rtol=1e-5, atol=1e-4)


def test_shares_of_columns_sum_to_the_whole_with_and_without_holes(rng):
    vae = model(missing=True)
    x, z = rows(rng, 20, holes=0.3), rng.normal(size=(4, 20, 2)).astype(np.float32)
    shares = vae.log_likelihood_by_value(x, z)
    assert shares.shape == (4, 20, 6)
    np.testing.assert_allclose(tf.reduce_sum(shares, -1), vae.log_likelihood(x, z), rtol=1e-5)
    np.testing.assert_array_equal(shares.numpy()[:, np.isnan(x)], 0)
    # What was observed has the share that it has in a complete row.
    full = np.where(np.isnan(x), 0, x)
    np.testing.assert_array_equal(
        shares.numpy()[:, ~np.isnan(x)],
        vae.log_likelihood_by_value(full, z).numpy()[:, ~np.isnan(x)],
    )


def test_shares_of_pixels_sum_to_the_whole(rng):
    vae = VAE.for_events((4, 3, 2), latent_dim=2, likelihood="laplace", network="dense", seed=0)
    x, z = rng.normal(size=(5, 4, 3, 2)), rng.normal(size=(5, 2))
    shares = vae.log_likelihood_by_value(x, z)
    assert shares.shape == (5, 4, 3, 2)
    np.testing.assert_allclose(
        tf.reduce_sum(shares, (1, 2, 3)), vae.log_likelihood(x, z), rtol=1e-5
    )


# --- against quadrature ---------------------------------------------------------------------------

WEIGHTS = np.array([[0.8, 0.4, -0.9, 0.2]])  # from one z to a mean and three logits
OFFSET = np.array([0.3, 0.1, -0.2, 0.5])
SCALE = 0.7


def linear_model(missing=False):
    """One Gaussian column and one category on a line z ~ N(0, 1)."""
    z = keras.Input((1,))
    linear = keras.layers.Dense(4)
    decoder = keras.Model(z, linear(z))
    linear.set_weights([WEIGHTS, OFFSET])
    encoder = keras.Sequential(
        [keras.Input((6 if missing else 4,)), keras.layers.Dense(8, activation="tanh")]
    )
    columns = Columns({"x": f"normal:scale={SCALE}", "c": "categorical:levels=3"})
    return VAE(encoder, decoder, 1, likelihood=columns, missing=missing, seed=0)


def by_quadrature(x, weights=WEIGHTS, offset=OFFSET):
    """log p(x) of rows with holes, by Gauss-Hermite quadrature over z."""
    z, mass = np.polynomial.hermite_e.hermegauss(80)
    raw = z[:, None] * weights + offset
    total = np.log(mass / mass.sum())[:, None] + np.zeros(len(x))
    number, level = x.T
    gauss = -0.5 * ((number - raw[:, :1]) / SCALE) ** 2 - np.log(SCALE * np.sqrt(2 * np.pi))
    logs = special.log_softmax(raw[:, 1:], axis=1)
    chosen = logs[:, np.nan_to_num(level).astype(int)]
    total = total + np.where(np.isnan(number), 0, gauss) + np.where(np.isnan(level), 0, chosen)
    return special.logsumexp(total, axis=0)


ROWS = np.array([[0.2, 0], [-1.5, 2], [2.0, 1]], np.float32)


def test_log_p_is_that_of_quadrature():
    found = log_prob(linear_model(), [ROWS], num_samples=20_000, seed=0)
    np.testing.assert_allclose(found.log_probs, by_quadrature(ROWS), atol=0.02)


def test_the_gradient_of_log_p_is_that_of_quadrature():
    vae = linear_model()
    weight = vae.decoder.trainable_variables[0]
    draws = tf.random.stateless_normal((200_000, 1, 1), (1, 2))
    with tf.GradientTape() as tape:
        log_likelihood = vae.log_likelihood(ROWS, tf.tile(draws, (1, len(ROWS), 1)))
        total = tf.reduce_sum(tf.reduce_logsumexp(log_likelihood, axis=0))
    gradient = tape.gradient(total, weight.value)
    step, expected = 1e-4, np.zeros(4)
    for place in range(4):
        moved = [WEIGHTS.copy(), WEIGHTS.copy()]
        moved[0][0, place] -= step
        moved[1][0, place] += step
        lower, upper = (by_quadrature(ROWS, weights).sum() for weights in moved)
        expected[place] = (upper - lower) / (2 * step)
    np.testing.assert_allclose(gradient.numpy()[0], expected, atol=0.02)


def test_holes_give_the_marginals():
    x = np.array([[0.2, np.nan], [np.nan, 2], [np.nan, np.nan], [0.2, 0]], np.float32)
    vae = linear_model(missing=True)
    terms = vae.terms(x, num_samples=50_000, seed=1)
    found = tf.reduce_logsumexp(terms.log_weight, axis=0) - np.log(50_000)
    expected = by_quadrature(x)
    np.testing.assert_allclose(found, expected, atol=0.03)
    assert expected[2] == pytest.approx(0)


def test_a_filled_category_is_the_most_probable_and_a_filled_number_the_mean():
    x = np.array([[-2.5, np.nan], [2.5, np.nan], [np.nan, 1]], np.float32)
    filled = linear_model(missing=True).impute(x, num_samples=50_000, seed=0).numpy()
    probable = [
        np.argmax([by_quadrature(np.array([[number, level]]))[0] for level in range(3)])
        for number in (-2.5, 2.5)
    ]
    np.testing.assert_array_equal(filled[:2], [[-2.5, probable[0]], [2.5, probable[1]]])
    grid = np.linspace(-8, 8, 4001)
    density = np.exp(by_quadrature(np.stack([grid, np.ones_like(grid)], axis=1)))
    assert filled[2, 0] == pytest.approx((grid * density).sum() / density.sum(), abs=0.02)


# --- what the encoder sees ------------------------------------------------------------------------


def test_a_value_far_off_leaves_the_elbo_finite(rng):
    vae = model({"a": "student_t", "b": "negative_binomial"}, missing=True)
    elbo = vae.elbo(np.array([[1e6, 0], [0, 1e6]], np.float32)).elbo
    assert np.isfinite(elbo).all()


def test_the_encoder_sees_levels_one_hot_and_logarithms_of_counts():
    vae = model()
    seen = vae.event_spec.encoder_input(tf.constant([[0.5, 2, 3, -1, 1, 0.25]]), None)
    expected = [np.arcsinh(0.5), 0, 0, 1, np.log(4), np.arcsinh(-1), 1, 0.25]
    np.testing.assert_allclose(seen, [expected], rtol=1e-6)
    assert vae.event_spec.encoder_shape == vae.encoder.input_shape[1:] == (8,)


def test_the_mask_stands_behind_what_the_encoder_sees():
    vae = model(missing=True)
    spec = vae.event_spec
    x = tf.constant([[np.nan, 2, 3, -1, np.nan, 0.25]])
    seen = spec.encoder_input(*spec.observed(x))
    np.testing.assert_array_equal(seen[0, 8:], [0, 1, 1, 1, 0, 1])
    assert vae.encoder.input_shape[1:] == spec.encoder_shape == (14,)


def test_values_between_levels_have_a_gradient():
    x = tf.constant([[0.25]])
    encoding = Columns({"a": "categorical:levels=3"}).encoding
    with tf.GradientTape() as tape:
        tape.watch(x)
        seen = encoding(x)
    np.testing.assert_allclose(seen, [[0.75, 0.25, 0]])
    np.testing.assert_allclose(tape.jacobian(seen, x)[0, :, 0, 0], [-1, 1, 0])


def test_other_likelihoods_show_the_encoder_the_event_itself():
    assert likelihoods.get("categorical").encoding is None
    assert EventSpec((3,)).encoder_shape == (3,)


def test_an_encoder_of_another_width_is_refused():
    encoder = keras.Sequential([keras.Input((6,)), keras.layers.Dense(4)])
    decoder = keras.Sequential([keras.Input((2,)), keras.layers.Dense(16, activation="silu")])
    with pytest.raises(InputError, match="must take"):
        VAE(encoder, decoder, 2, likelihood=Columns(MIXED))


# --- options --------------------------------------------------------------------------------------


@pytest.mark.exhaustive
def test_equal_likelihoods_learn_scales_of_their_own(rng):
    scales = np.array([0.1, 1.0, 4.0] * 2, np.float32)
    x = scales * rng.normal(size=(4000, 6)).astype(np.float32)
    columns = dict.fromkeys("abc", "normal:scale=learned")
    columns |= dict.fromkeys("def", "normal:scale=optimal")
    # A KL of such weight leaves all variance to the scales.
    vae = model(columns, latent_dim=1, objective="elbo:beta=1000")
    vae.compile(keras.optimizers.Adam(0.1))
    vae.fit(x, epochs=20, batch_size=200, verbose=0)
    spread = vae.decode(np.zeros((1, 1))).distribution.stddev().numpy()[0]
    np.testing.assert_allclose(spread, scales, rtol=0.4)


def test_optimal_scales_leave_out_what_is_missing(rng):
    columns = Columns(dict.fromkeys("ab", "normal:scale=optimal"))
    columns.bind((2,), 0)
    columns.last_activation = keras.activations.linear
    parameters = columns(np.zeros((3, 2), np.float32))
    x = np.array([[1, 9], [3, 9], [9, 2]], np.float32)
    observed = np.array([[1, 0], [1, 0], [0, 1]], bool)
    p = columns.training_distribution(parameters, x, tf.constant(observed))
    expected = [np.sqrt(5), 2]
    np.testing.assert_allclose(p.distribution.stddev()[0], expected, rtol=1e-6)


def test_probabilities_are_those_of_discrete_columns_alone():
    assert not Columns(MIXED).is_discrete
    discrete = Columns({"a": "categorical:levels=3", "b": "poisson", "c": "bernoulli"})
    assert discrete.is_discrete
    assert bool(discrete.gives_probabilities(tf.constant([[1.0, 4.0, 1.0]])))
    assert not bool(discrete.gives_probabilities(tf.constant([[1.0, 4.0, 0.5]])))


def test_levels_are_whole_numbers_unless_high_says_otherwise():
    columns = Columns(
        {"a": "categorical:levels=5", "b": "categorical:levels=5,high=1", "c": "bernoulli"}
    )
    np.testing.assert_array_equal(columns.support.high, [4, 1, 1])


def test_config_round_trip():
    columns = Columns({**MIXED, "ü ,:": Normal(scale="per_value")}, decoder_output="features")
    config = columns.get_config()
    again = Columns.from_config(config)
    assert again.get_config() == config
    assert again.names == columns.names
    assert again.likelihood_of("ü ,:").scale == "per_value"
    assert again.likelihood_of("age") is again.likelihood_of("weight")


class Whole(Likelihood):
    def distribution(self, parameters):
        raise AssertionError


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({}, "dictionary"),
        (["normal"], "dictionary"),
        ({1: "normal"}, "name of a column"),
        ({"a": "unknown"}, "column 'a': unknown likelihood"),
        ({"a": Whole()}, "single values"),
        ({"a": Columns({"b": "normal"})}, "single values"),
    ],
)
def test_columns_that_are_none(columns, message):
    with pytest.raises(InputError, match=message):
        Columns(columns)


def test_another_number_of_columns_is_refused():
    with pytest.raises(InputError, match=r"6 columns describes events \[6\]; received \[3\]"):
        VAE.for_events((3,), likelihood=Columns(MIXED))
    with pytest.raises(InputError, match=r"6 columns describes events \[6\]; received \[3\]"):
        Columns(MIXED).bind((3,), 0)


@pytest.fixture(scope="module")
def whole():
    return model()


@pytest.fixture(scope="module")
def with_holes():
    vae = model(missing=True)
    vae.compile("adam", run_eagerly=True)
    return vae


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        (0, np.inf, "'age', expects finite values"),
        (1, 3, "'sex', expects values 0, 1, 2; received values from 0 to 3"),
        (1, 0.5, "'sex', expects .* between the levels"),
        (2, -1, "'visits', expects"),
        (5, 1.5, r"'share', expects values in \[0, 1\]"),
        (0, np.nan, "'age', expects finite values"),
    ],
)
def test_a_complaint_names_the_column_and_its_range(column, value, message, whole, with_holes, rng):
    x = rows(rng, 5)
    x[:, 1] = 0
    x[3, column] = value
    with pytest.raises(InputError, match=message):
        whole.elbo(x)
    if not np.isnan(value):
        x[0, 4] = np.nan
        with pytest.raises(InputError, match=message):
            with_holes.elbo(x)
        with pytest.raises(InputError, match=message):
            with_holes.fit(tf.data.Dataset.from_tensor_slices(x).batch(5), verbose=0)


def test_values_a_hair_outside_are_brought_back():
    support = Columns(MIXED).support
    x = np.array([[1e7, 0, 4, 0, 1 + 5e-6, -5e-6]], np.float32)
    assert bool(support.admits(x))
    np.testing.assert_array_equal(support.clip(x), [[1e7, 0, 4, 0, 1, 0]])


# --- within a model -------------------------------------------------------------------------------


def test_training_and_saving(rng, tmp_path):
    x = rows(rng, 400, holes=0.1)
    vae = model(missing=True)
    vae.compile(keras.optimizers.Adam(0.03), run_eagerly=True)
    losses = vae.fit(x, epochs=5, batch_size=100, verbose=0).history["loss"]
    assert losses[-1] < losses[0] - 1
    rows_made = vae.sample(500, seed=1, mean=False).numpy()
    support = vae.likelihood_family.support
    # Draws of the stretched Beta may lie a little outside.
    assert bool(support.admits(rows_made.clip(support.low, support.high)))
    np.testing.assert_array_equal(rows_made, vae.sample(500, seed=1, mean=False))
    means = vae.sample(50, seed=1).numpy()
    assert set(means[:, 1]) <= {0, 1, 2}

    vae.save(tmp_path / "model.keras")
    again = tfvae.load(tmp_path / "model.keras")
    np.testing.assert_array_equal(again.sample(500, seed=1, mean=False), rows_made)
    np.testing.assert_array_equal(again.code(x), vae.code(x))

    vae.keras_encoder().save(tmp_path / "encoder.keras")
    np.testing.assert_allclose(
        keras.models.load_model(tmp_path / "encoder.keras")(x), vae.code(x), atol=1e-5
    )


@pytest.mark.exhaustive
def test_an_autoencoder_of_rows_in_half_precision(rng):
    keras.config.set_dtype_policy("mixed_bfloat16")
    autoencoder = Autoencoder.for_events((6,), latent_dim=2, likelihood=Columns(MIXED), seed=0)
    autoencoder.compile("adam", run_eagerly=True)
    x = rows(rng, 50)
    assert np.isfinite(autoencoder.fit(x, verbose=0).history["loss"]).all()
    reconstructed = autoencoder.reconstruct(x)
    assert reconstructed.shape == (50, 6) and reconstructed.dtype == tf.float32


def test_every_kind_may_be_a_column():
    names = {case.kind for case in EACH}
    assert names == set(likelihoods.BY_NAME.values())


def test_pseudo_inputs_of_vamp_are_rows_with_categories(rng):
    """They are learned, and lie between levels while they are; draws are rows all the same."""
    x = np.stack([rng.normal(size=256), rng.integers(0, 5, 256), rng.poisson(3, 256)], axis=1)
    x = x.astype("float32")
    columns = {"x": "normal:scale=learned", "level": "categorical:levels=5", "n": "poisson"}
    vae = tfvae.VAE.for_events(
        (3,), latent_dim=2, likelihood=Columns(columns), prior="vamp:pseudo_inputs=8",
        network="dense:hidden=16", missing=True, seed=0,
    )  # fmt: skip
    vae.prior_family.adapt(x[:8])
    before = vae.get_weights()
    vae.compile("adam", run_eagerly=True)
    holes = np.where(rng.random(x.shape) < 0.2, np.nan, x).astype("float32")
    history = vae.fit(holes, batch_size=64, verbose=0).history
    assert np.isfinite(history["elbo"]).all()
    assert any((one != two).any() for one, two in zip(before, vae.get_weights(), strict=True))
    drawn = vae.sample(200, mean=False, seed=1).numpy()
    assert bool(vae.event_spec.admits(drawn))
    assert set(np.unique(drawn[:, 1])) <= set(range(5))
    assert np.isfinite(vae.prior.log_prob(vae.encode(x).mean())).all()
