import itertools

import keras
import likelihood_cases
import numpy as np
import pytest
import tensorflow as tf
from likelihood_cases import CASES, EACH, EPS, bound, built, case, each, learned
from scipy import stats
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

from tfvae import VAE, InputError, likelihoods, posteriors, priors
from tfvae.likelihoods import (
    Bernoulli,
    Beta,
    Categorical,
    Count,
    DiscretizedLogistic,
    Laplace,
    Likelihood,
    LocationScale,
    NegativeBinomial,
    Normal,
    Poisson,
    StudentT,
)

any_kind = pytest.mark.parametrize(
    "kind", likelihoods.BY_NAME.values(), ids=likelihoods.BY_NAME.keys()
)


def raw_maps(rng, likelihood, batch, shape, spread=1.0):
    shape = (*batch, *shape[:2], likelihood.parameters_per_value * shape[-1])
    return (spread * rng.normal(size=shape)).astype(np.float32)


# --- every likelihood is known and has its cases --------------------------------------------------


def subclasses(base):
    """The subclasses of `base` in the library, at any depth."""
    found = {kind for direct in base.__subclasses__() for kind in {direct, *subclasses(direct)}}
    return {kind for kind in found if kind.__module__.startswith("tfvae.")}


def test_every_likelihood_is_known_and_tested():
    # Of the values of a row; test_columns.py has its cases.
    defined = subclasses(Likelihood) - {LocationScale, Count, likelihoods.Columns}
    assert set(likelihoods.BY_NAME.values()) == defined
    assert {case.kind for case in CASES} == defined, "add the new likelihood to the cases"
    assert set(likelihood_cases.analytic.LOG_PROBS) == {kind.__name__ for kind in defined}


@any_kind
def test_every_option_has_a_case(kind):
    # Of those that change what is computed, and not only bound it; test_zero_inflated.py has the
    # cases of zeros.
    default = kind().get_config()
    changed = {key for c in CASES if c.kind is kind for key in c.options}
    others = {"name", "trainable", "dtype", "decoder_output", "min_scale", "max_concentration"}
    others |= {"zero_inflated"}
    assert set(default) - changed <= others


# --- log p(x|z) -----------------------------------------------------------------------------------


@pytest.mark.few(21)
@case
def test_log_prob_is_the_sum_over_pixels_and_channels(case, rng):
    shape = (4, 3, 3)
    likelihood = case.make(shape)
    raw, x = raw_maps(rng, likelihood, (5,), shape), case.images(rng, 5, shape)
    ours = likelihood.distribution(likelihood(tf.constant(raw))).log_prob(x).numpy()
    assert ours.shape == (5,)
    elements = case.elements(x, raw, learned(likelihood))
    assert elements.shape == x.shape
    # Each element is good to some roundings of its terms, and so is their sum. Counts and bins
    # are sums of larger terms, which cancel.
    terms = np.abs(elements) + (100 if likelihood.is_discrete else 10)
    assert np.all(np.abs(ours - elements.sum((1, 2, 3))) <= 5 * EPS * terms.sum((1, 2, 3)))


@pytest.mark.few(17)
@case
def test_gradients_are_those_of_the_reference(case, rng):
    # By central differences of the float64 reference: by each raw map, and what is learned.
    shape, h = (3, 2, 2), 1e-6
    likelihood = case.make(shape)
    raw, x = raw_maps(rng, likelihood, (2,), shape), case.images(rng, 2, shape)
    weights = [v for v in likelihood.trainable_variables if v.shape == ()]
    tensor = tf.constant(raw)
    with tf.GradientTape() as tape:
        tape.watch(tensor)
        total = tf.reduce_sum(likelihood.distribution(likelihood(tensor)).log_prob(x))
    by_raw, *by_weights = tape.gradient(total, [tensor, *[v.value for v in weights]])

    scalars = learned(likelihood)
    assert set(scalars) == {v.name for v in weights}
    for number in range(min(likelihood.parameters_per_value, 12)):
        moved = np.zeros(raw.shape)
        moved[..., 2 * number : 2 * number + 2] = h
        up, down = (case.elements(x, raw + sign * moved, scalars) for sign in (1, -1))
        expected = (up - down) / (2 * h)
        ours = by_raw.numpy()[..., 2 * number : 2 * number + 2]
        np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-4)
    for weight, ours in zip(weights, by_weights, strict=True):
        up, down = (
            case.elements(x, raw, {**scalars, weight.name: scalars[weight.name] + sign * h})
            for sign in (1, -1)
        )
        np.testing.assert_allclose(ours, (up - down).sum() / (2 * h), rtol=1e-4, atol=1e-3)


@pytest.mark.few(19)
@case
def test_values_and_gradients_stay_finite(case, rng):
    shape = (3, 2, 2)
    likelihood = case.make(shape)
    x = case.images(rng, 40, shape)
    signs = rng.choice([-60.0, 0.0, 60.0], (40, 3, 2, 2 * likelihood.parameters_per_value))
    raw = tf.constant(signs.astype(np.float32))
    variables = [v.value for v in likelihood.trainable_variables]
    with tf.GradientTape() as tape:
        tape.watch(raw)
        log_prob = likelihood.distribution(likelihood(raw)).log_prob(x)
    assert np.all(np.isfinite(log_prob))
    for gradient in tape.gradient(log_prob, [raw, *variables]):
        assert np.all(np.isfinite(gradient))


@pytest.mark.few(5)
@each
def test_batches_of_draws_broadcast(case, rng):
    shape = (4, 3, 2)
    likelihood = case.make(shape)
    parameters = likelihood(tf.constant(raw_maps(rng, likelihood, (6,), shape)))
    x = case.images(rng, 3, shape)
    several = {
        name: tf.reshape(value, (2, 3, *value.shape[1:])) for name, value in parameters.items()
    }
    distribution = likelihood.distribution(several)
    assert distribution.batch_shape == (2, 3)
    assert distribution.event_shape == shape
    assert distribution.dtype == tf.float32
    flat = likelihood.distribution(parameters).log_prob(np.concatenate([x, x]))
    np.testing.assert_allclose(
        tf.reshape(distribution.log_prob(x), (-1,)), flat, rtol=10 * EPS, atol=1e-4
    )
    assert distribution.mean().shape == distribution.sample(seed=(1, 2)).shape == (2, 3, *shape)


# --- draws and means ------------------------------------------------------------------------------


@pytest.mark.few(5)
@each
def test_draws_have_the_mean_and_the_density(case, rng):
    shape, count = (2, 2, 2), 10_000
    options = case.options
    if case.kind is StudentT and options.get("df") != "learned":
        # The standard error of a mean needs a fourth moment, which is finite for ν > 4.
        options = {**options, "df": 9.0}
    likelihood = built(case.kind(**options), shape)
    raw = raw_maps(rng, likelihood, (1,), shape, spread=0.5)
    if case.kind is Beta:
        # Concentrations near 1 and above: below, single draws round to the ends of the interval.
        raw[..., 2:] += 3
    copies = tf.constant(np.repeat(raw, count, axis=0))
    draws = likelihood.distribution(likelihood(copies)).sample(seed=(1, 2)).numpy()
    one = likelihood.distribution(likelihood(tf.constant(raw)))
    mean = likelihood.mean(one).numpy()[0]
    assert draws.dtype == mean.dtype == np.float32
    if case.kind is not Beta:
        assert bool(likelihood.support.admits(draws))
    # A standard error, and one draw: of rare values there may be none, and no error to see.
    errors = 4.5 * draws.std(0) / np.sqrt(count) + np.abs(draws).max() / count
    assert np.all(np.abs(draws.mean(0) - mean) <= errors)

    # Pixels and channels are drawn independently: two that share their noise must not go unseen.
    flat = (draws - mean).reshape(count, -1) / np.maximum(draws.std(0).reshape(-1), 1e-6)
    correlations = flat.T @ flat / count - np.diag(np.mean(flat**2, axis=0))
    assert np.abs(correlations).max() < 6 / np.sqrt(count)

    # E[∂ log p(x)/∂ raw] = 0 under p, which draws from any other distribution would show.
    with tf.GradientTape() as tape:
        tape.watch(copies)
        log_prob = likelihood.distribution(likelihood(copies)).log_prob(draws)
    score = tape.gradient(log_prob, copies).numpy()[..., :12]
    errors = 4.5 * score.std(0) / np.sqrt(count) + np.abs(score).max() / count
    assert np.all(np.abs(score.mean(0)) <= errors)


# --- a likelihood of one's own --------------------------------------------------------------------


def documented_example():
    """The class in the docstring of `Likelihood`, defined."""
    lines = Likelihood.__doc__.split("head puts them\n    out::")[1].splitlines()
    # As far as they are indented.
    example = itertools.takewhile(lambda line: not line or line.startswith(" " * 8), lines)
    code = "\n".join(line[8:] for line in example)
    assert 5 < len(code.strip().splitlines()) <= 10
    names = {"keras": keras, "tf": tf, "tfd": tfd, "Likelihood": Likelihood}
    exec(code, names)
    return names["Gumbel"]


def test_the_documented_example_is_a_likelihood(rng, tmp_path):
    gumbel = documented_example()
    vae = VAE.for_images((4, 3, 2), latent_dim=2, network="dense", likelihood=gumbel(), seed=0)
    x = rng.normal(size=(3, 4, 3, 2)).astype(np.float32)
    p = vae.decode(np.zeros((3, 2)))
    parameters = vae.likelihood_family(vae.decoder(np.zeros((3, 2))))
    loc, raw_scale = np.split(parameters["raw"].numpy().astype(float), 2, axis=-1)
    scale = 1e-3 + np.log1p(np.exp(raw_scale))
    expected = stats.gumbel_r.logpdf(x, loc, scale).sum((1, 2, 3))
    np.testing.assert_allclose(p.log_prob(x), expected, rtol=1e-5)
    vae.compile()
    history = vae.fit(x, epochs=8, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]
    assert vae.reconstruct(x).shape == x.shape
    vae.save(tmp_path / "vae.keras")
    again = keras.models.load_model(tmp_path / "vae.keras", custom_objects={"Gumbel": gumbel})
    np.testing.assert_array_equal(again.reconstruct(x), vae.reconstruct(x))


def test_a_distribution_without_a_mean_is_explained():
    class Squashed(Likelihood):
        def distribution(self, parameters):
            # The mean of a non-linear function of a variable is one that TFP does not know.
            base = tfd.Normal(parameters["raw"], 1.0)
            return tfd.Independent(tfd.TransformedDistribution(base, tfb.Tanh()), 3)

    likelihood = bound(Squashed(), (4, 3, 1))
    p = likelihood.distribution(likelihood(tf.zeros((1, 4, 3, 1))))
    with pytest.raises(InputError) as error:
        likelihood.mean(p)
    assert str(error.value) == (
        "Squashed needs a picture of p(x|z), and its distribution has no mean: "
        "override mean(distribution) in the likelihood"
    )


def test_training_evaluates_the_distribution_unless_told_otherwise(rng):
    likelihood = bound(Laplace(scale=0.3), (4, 3, 1))
    x = rng.normal(size=(2, 4, 3, 1)).astype(np.float32)
    parameters = likelihood(tf.constant(x + 1))
    ours = likelihood.training_distribution(parameters, x).log_prob(x)
    np.testing.assert_array_equal(ours, likelihood.distribution(parameters).log_prob(x))


# --- as part of a model ---------------------------------------------------------------------------


FLAT = [c for c in EACH if c.kind(**c.options).flat_parameters]


@pytest.mark.few(5)
@pytest.mark.parametrize(
    ("case", "network"),
    [(c, ("conv", "dense")[i % 2]) for i, c in enumerate(FLAT)],
    ids=str,
)
def test_maps_besides_the_first_start_flat(case, network, rng):
    likelihood = case.kind(**case.options)
    vae = VAE.for_images((8, 6, 3), latent_dim=2, network=network, likelihood=likelihood, seed=0)
    likelihood = vae.likelihood_family
    features = vae.decoder(rng.normal(size=(5, 2)) * 10)
    raw = likelihood.head(features).numpy().reshape(5, 8, 6, likelihood.parameters_per_value, 3)
    varying = likelihood.parameters_per_value - likelihood.flat_parameters
    np.testing.assert_array_equal(raw[:, :, :, varying:], 0)
    for number in range(varying):
        assert np.std(raw[:, :, :, number]) > 1e-3


@pytest.mark.few(5)
@pytest.mark.parametrize(
    "case", [c for c in EACH if isinstance(c.values, str) or np.max(c.values) <= 1], ids=str
)
def test_training_starts_at_a_moderate_loss(case, rng):
    # On images of about unit size, as networks want their input.
    likelihood = case.kind(**case.options)
    vae = VAE.for_images((8, 8, 1), latent_dim=2, network="dense", likelihood=likelihood, seed=0)
    likelihood = vae.likelihood_family
    log_likelihood = vae.elbo(case.images(rng, 8, (8, 8, 1)), seed=0).log_likelihood
    # A Poisson of mean 1 and step 1/255 gives a black pixel log p = -255, and is the dearest.
    assert np.all(log_likelihood >= -256 * 64)


@pytest.mark.few(6)
@each
def test_parameters_and_densities_are_float32_under_mixed_precision(case, rng):
    keras.config.set_dtype_policy("mixed_bfloat16")
    likelihood = case.kind(**case.options)
    vae = VAE.for_images((4, 3, 3), latent_dim=2, network="dense", likelihood=likelihood)
    likelihood = vae.likelihood_family
    assert all(variable.dtype == "float32" for variable in likelihood.variables)
    x = case.images(rng, 2, (4, 3, 3))
    features = vae.decoder(np.ones((2, 2)))
    assert features.dtype == tf.bfloat16
    parameters = likelihood(features)
    assert {value.dtype for value in parameters.values()} == {tf.float32}
    # The images have not been through half precision, nor what is learned: an error of 1e-3.
    raw = tf.reshape(tf.cast(likelihood.head(features), tf.float32), (2, 4, 3, -1)).numpy()
    scalars = learned(likelihood)
    for variable in likelihood.trainable_variables:
        if variable.shape == ():
            variable.assign(scalars[variable.name] + 0.1234567)
    elements = case.elements(x, raw, learned(likelihood))
    log_likelihood = likelihood.distribution(parameters).log_prob(x)
    terms = np.abs(elements) + (100 if likelihood.is_discrete else 10)
    assert log_likelihood.dtype == tf.float32
    assert np.all(
        np.abs(log_likelihood - elements.sum((1, 2, 3))) <= 5 * EPS * terms.sum((1, 2, 3))
    )


# --- names, options, configurations ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "kind", "options"),
    [
        ("bernoulli", Bernoulli, {"decoder_output": None}),
        ("bernoulli:decoder_output=mean", Bernoulli, {"decoder_output": "mean"}),
        ("normal", Normal, {"scale": 1.0, "min_scale": 1e-3}),
        ("normal:scale=0.1", Normal, {"scale": 0.1}),
        ("normal:scale=2", Normal, {"scale": 2}),
        ("normal:scale=1e-1", Normal, {"scale": 0.1}),
        ("normal:scale=learned,min_scale=0.05", Normal, {"scale": "learned", "min_scale": 0.05}),
        ("normal: scale = per_value , min_scale = 0.05", Normal, {"scale": "per_value"}),
        ("normal:decoder_output=parameters", Normal, {"decoder_output": "parameters"}),
        ("normal:scale=optimal", Normal, {"scale": "optimal"}),
        ("student_t:df=learned,scale=learned", StudentT, {"df": "learned", "scale": "learned"}),
        ("student_t:df=3.5", StudentT, {"df": 3.5, "scale": 1.0}),
        ("beta:margin=0.1", Beta, {"margin": 0.1, "max_concentration": 1e4}),
        ("discretized_logistic", DiscretizedLogistic, {"levels": 256, "scale": "learned"}),
        ("discretized_logistic:high=255,scale=0.1", DiscretizedLogistic, {"high": 255}),
        (
            "categorical:levels=4,high=3",
            Categorical,
            {"levels": 4, "parameters_per_value": 4, "high": 3},
        ),
        ("poisson:step=0.0039216", Poisson, {"step": 0.0039216}),
        ("negative_binomial:dispersion=per_value", NegativeBinomial, {"dispersion": "per_value"}),
        (
            "laplace:scale=per_value,decoder_output=features",
            Laplace,
            {"scale": "per_value", "decoder_output": "features"},
        ),
    ],
)
def test_likelihoods_from_text(text, kind, options):
    likelihood = likelihoods.get(text)
    assert type(likelihood) is kind
    for name, value in options.items():
        assert getattr(likelihood, name) == value
        assert type(getattr(likelihood, name)) is type(value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gaussian", "unknown likelihood 'gaussian': expected one of bernoulli, "),
        ("Normal", "unknown likelihood 'Normal': expected one of bernoulli, "),
        ("", "unknown likelihood '': expected one of"),
        ("normal:sigma=1", "unknown option 'sigma' of likelihood 'normal'"),
        ("normal:self=1", "unknown option 'self' of likelihood 'normal'"),
        ("normal:scale", "'scale' is no option=value"),
        ("normal:scale=", "'scale=' is no option=value"),
        ("normal:0.1", "'0.1' is no option=value"),
        ("normal:scale=-1", "scale is a positive number"),
        ("normal:scale=true", "scale is a positive number"),
        ("normal:scale=nan", "scale is a positive number"),
        ("normal:scale=wide", "scale is a positive number"),
        ("normal:scale=learned,min_scale=2", "min_scale lies between 0 and 1"),
        ("normal:scale=learned,min_scale=small", "min_scale lies between"),
        ("bernoulli:decoder_output=logits", "decoder_output is 'features'"),
        ("laplace:scale=optimal", "scale is a positive number, 'learned' or 'per_value'; received"),
        (
            "normal:scale=best",
            "is a positive number, 'learned', 'per_value' or 'optimal'; received",
        ),
        ("student_t:df=2", "df is a number above 2 or 'learned'; received 2"),
        ("student_t:df=per_value", "df is a number above 2 or 'learned'"),
        ("student_t:df=true", "df is a number above 2 or 'learned'"),
        ("student_t:df=inf", "df is a number above 2 or 'learned'"),
        ("beta:margin=0", "margin is a positive number; received 0"),
        ("beta:margin=true", "margin is a positive number; received True"),
        ("beta:max_concentration=2", "max_concentration is a number above 2; received 2"),
        ("discretized_logistic:min_scale=0.2", "min_scale lies between 0 and 0.1"),
        ("discretized_logistic:scale=optimal", "'learned' or 'per_value'; received 'optimal'"),
        ("discretized_logistic:levels=1", "levels is a whole number from 2; received 1"),
        ("discretized_logistic_mixture:levels=2.5", "levels is a whole number from 2"),
        ("discretized_logistic_mixture:components=0", "components is a whole number from 1"),
        ("discretized_logistic_mixture:components=true", "components is a whole number from 1"),
        ("discretized_logistic_mixture:min_scale=0", "min_scale lies between 0 and 0.1"),
        ("categorical:levels=true", "levels is a whole number from 2; received True"),
        ("categorical:high=0", "high is a positive number; received 0"),
        ("categorical:high=byte", "high is a positive number; received 'byte'"),
        ("poisson:step=0", "step is a positive number; received 0"),
        ("poisson:step=-1", "step is a positive number; received -1"),
        ("poisson:step=byte", "step is a positive number; received 'byte'"),
        ("negative_binomial:step=nan", "step is a positive number; received nan"),
        (
            "negative_binomial:dispersion=0",
            "dispersion is a positive number, 'learned' or 'per_value'; received 0",
        ),
        ("negative_binomial:dispersion=optimal", "'learned' or 'per_value'; received 'optimal'"),
    ],
)
def test_bad_texts_are_refused_in_one_line(text, message):
    with pytest.raises(InputError) as error:
        likelihoods.get(text)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("get", [likelihoods.get, posteriors.get, priors.get])
def test_what_is_no_family_is_refused(get):
    for identifier in (None, 3, ["normal"], Bernoulli, keras.layers.Flatten()):
        with pytest.raises(InputError, match="is a name or a tfvae"):
            get(identifier)


def test_a_configuration_of_another_kind_is_refused():
    with pytest.raises(InputError, match="likelihood"):
        likelihoods.get(keras.saving.serialize_keras_object(priors.StandardNormal()))


def test_configurations_hold_every_argument():
    config = Normal(
        scale="learned", min_scale=0.1, decoder_output="features", name="n"
    ).get_config()
    given = {"scale": "learned", "min_scale": 0.1, "decoder_output": "features", "name": "n"}
    assert given.items() <= config.items()
