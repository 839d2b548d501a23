import json
import re
import types
import warnings

import components
import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import special, stats
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

from tfvae import VAE, InputError, posteriors, priors
from tfvae.likelihoods import Support
from tfvae.priors import ClassNormal, Fixed, MaskedAutoregressive, Mixture, RealNVP, VampPrior

FLOWS = ["realnvp:flows=3,hidden=8", "maf:flows=3,hidden=8"]
PLAIN = ["standard_normal", "mixture:components=3", *FLOWS]
SHAPE = (3, 2, 1)


class Model:
    """What a prior takes from the model it is attached to."""

    def __init__(
        self, posterior="normal", d=4, support=(0.0, 1.0), num_classes=None, missing=False
    ):
        self.event_shape = SHAPE
        self.missing = missing
        self.likelihood_family = types.SimpleNamespace(support=Support(*support))
        self.num_classes = num_classes
        self.posterior = posteriors.get(posterior)
        self.posterior.bind((d,), 0)

    def encode_unchecked(self, x):
        return self.posterior.distribution(self.posterior(x))


def normal(*shape, seed=0):
    return tf.constant(np.random.default_rng(seed).normal(size=shape), tf.float32)


def built(name, d=4, seed=0, shaken=0.0, model=None):
    family = priors.get(name)
    family.bind((d,), seed)
    family.attach(model or Model(d=d, num_classes=3 if name == "class_normal" else None))
    family.build((d,))
    return components.shaken(family, seed=1, size=shaken)


def test_names_and_defaults():
    assert {
        "standard_normal": priors.StandardNormal,
        "mixture": Mixture,
        "vamp": VampPrior,
        "realnvp": RealNVP,
        "maf": MaskedAutoregressive,
        "class_normal": ClassNormal,
        "relaxed_categorical": priors.RelaxedCategoricalPrior,
    } == priors.BY_NAME
    assert not priors.get("relaxed_categorical").learned
    assert priors.get("mixture").components == 10
    assert priors.get("vamp").pseudo_inputs == 50
    assert priors.get("vamp:pseudo_inputs=7").pseudo_inputs == 7
    for name in ("realnvp", "maf"):
        family = priors.get(name)
        assert (family.flows, family.hidden) == (4, 64)


@pytest.mark.few(7)
@pytest.mark.parametrize("name", [*PLAIN, "vamp:pseudo_inputs=3", "class_normal"])
@pytest.mark.parametrize("d", [1, 5])
def test_shapes_and_seeds(name, d):
    if d == 1 and name.startswith("realnvp"):
        with pytest.raises(InputError, match="needs a latent dimension from 2; received 1"):
            built(name, d)
        return
    family = built(name, d)
    assert {weight.dtype for weight in family.weights} <= {"float32"}
    p = family.distribution()
    assert p.batch_shape == () and p.event_shape == (d,) and p.dtype == tf.float32
    z = p.sample(5, seed=(1, 2))
    assert z.shape == (5, d)
    assert p.log_prob(normal(3, 2, d)).shape == (3, 2)
    np.testing.assert_array_equal(z, family.distribution().sample(5, seed=(1, 2)))
    assert np.any(z != family.distribution().sample(5, seed=(1, 3)))
    if name != "class_normal":
        # A label means nothing here.
        np.testing.assert_array_equal(z, family.distribution([0, 1]).sample(5, seed=(1, 2)))
    for weights in zip(
        family.weights, built(name, d).weights, built(name, d, seed=1).weights, strict=True
    ):
        a, b, c = (weight.numpy() for weight in weights)
        np.testing.assert_array_equal(a, b)
        assert len(np.unique(a)) == 1 or np.all(a != c)


@pytest.mark.parametrize("name", [*PLAIN[1:], "vamp:pseudo_inputs=3", "class_normal"])
def test_every_weight_has_a_gradient(name):
    family = built(name, shaken=0.05)
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(family.distribution().log_prob(normal(20, 4)))
    gradients = tape.gradient(loss, [weight.value for weight in family.trainable_weights])
    assert gradients
    for gradient in gradients:
        assert gradient is not None and np.any(gradient != 0) and np.all(np.isfinite(gradient))


@pytest.mark.parametrize("name", PLAIN)
def test_float32_under_half_precision(name):
    keras.config.set_dtype_policy("bfloat16")
    family = built(name)
    assert {weight.dtype for weight in family.weights} <= {"float32"}
    assert family.distribution().sample(seed=(1, 2)).dtype == tf.float32


# --- mixture --------------------------------------------------------------------------------------


def test_mixture_is_scipys():
    family = built("mixture:components=3", 2, shaken=0.5)
    z = normal(50, 2)
    logits, loc, log_var = (
        weight.numpy().astype(np.float64) for weight in (family.logits, family.loc, family.log_var)
    )
    densities = [stats.norm(loc[k], np.exp(0.5 * log_var[k])).logpdf(z).sum(-1) for k in range(3)]
    expected = special.logsumexp(
        np.add.outer(special.log_softmax(logits), 0)[:, None] + densities, 0
    )
    np.testing.assert_allclose(family.distribution().log_prob(z), expected, rtol=1e-5, atol=1e-5)


def test_mixture_starts_spread_out_around_the_standard_normal():
    family = built("mixture:components=100", 20)
    distances = np.linalg.norm(family.loc.numpy()[:, None] - family.loc.numpy(), axis=-1)
    assert distances[~np.eye(100, dtype=bool)].min() > 1
    variance = family.distribution().variance().numpy()
    np.testing.assert_allclose(variance.mean(), 1, atol=0.1)
    np.testing.assert_array_equal(family.logits.numpy(), 0)


# --- VampPrior ------------------------------------------------------------------------------------

POSTERIORS = ["normal", "full_normal", "iaf:flows=2,hidden=8", "coupling:flows=2,hidden=8"]


@pytest.mark.few(1)
@pytest.mark.parametrize("posterior", POSTERIORS)
def test_vamp_is_the_average_of_posteriors(posterior):
    model = Model(posterior)
    family = built("vamp:pseudo_inputs=5", model=model)
    z = normal(3, 2, 4)
    components = model.encode_unchecked(family.inputs)
    expected = tf.reduce_logsumexp([components[k].log_prob(z) for k in range(5)], axis=0) - np.log(
        5
    )
    p = family.distribution()
    np.testing.assert_allclose(p.log_prob(z), expected, rtol=1e-5, atol=1e-5)
    assert p.sample(6, seed=(1, 2)).shape == (6, 4)

    @tf.function(input_signature=[tf.TensorSpec((None, None, 4))])
    def in_graph(z):
        return family.distribution().log_prob(z)

    np.testing.assert_allclose(in_graph(z), expected, rtol=1e-5, atol=1e-5)
    # The posterior's weights learn from the prior too.
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(family.distribution().log_prob(z))
    weights = [weight.value for weight in (*model.posterior.trainable_weights, family.raw_inputs)]
    assert all(np.any(gradient != 0) for gradient in tape.gradient(loss, weights))


def test_vamp_does_not_hold_the_model_as_a_part():
    class Whole(keras.Model):
        pass

    whole, family = Whole(), priors.get("vamp:pseudo_inputs=2")
    whole.encode_unchecked = Model().encode_unchecked
    whole.prior = family
    whole.event_shape, whole.num_classes, whole.missing = SHAPE, None, False
    whole.likelihood_family = types.SimpleNamespace(support=Support())
    family.bind((4,), 0)
    family.attach(whole)
    family.build((4,))
    assert family._layers == []
    assert [weight.name for weight in whole.trainable_weights] == ["raw_inputs"]


@pytest.mark.parametrize("support", [(0.0, 1.0), (-1.0, 3.0), (-np.inf, np.inf)])
def test_adapt(support):
    family = built("vamp:pseudo_inputs=3", model=Model(support=support))
    low, high = support if np.isfinite(support[0]) else (-5.0, 5.0)
    if np.isfinite(support[0]):
        family.raw_inputs.assign(100 * np.random.default_rng(0).normal(size=(3, *SHAPE)))
        assert low <= np.min(family.inputs) < np.max(family.inputs) <= high
    images = np.linspace(low, high, 5 * 6).reshape(5, *SHAPE).astype(np.float32)
    for given in (images, tf.constant(images)):
        family.adapt(given)
        np.testing.assert_allclose(family.inputs, images[:3], atol=0.0101 * (high - low))
        # Away from the ends they are the events themselves.
        np.testing.assert_allclose(family.inputs[1:], images[1:3], rtol=1e-4, atol=1e-5)


def test_adapt_refuses():
    family = built("vamp:pseudo_inputs=3")
    with pytest.raises(InputError, match=r"^expected 3 events or more of shape \(3, 2, 1\); "):
        family.adapt(np.zeros((2, *SHAPE)))
    with pytest.raises(InputError, match=r"received shape \(3, 2, 3, 1\)$"):
        family.adapt(np.zeros((3, 2, 3, 1)))
    with pytest.raises(InputError, match=r"expects values in \[0, 1\]; received values from 0 to"):
        family.adapt(np.linspace(0, 255, 18).reshape(3, *SHAPE))
    with pytest.raises(InputError, match="once its model is built"):
        priors.get("vamp").adapt(np.zeros((50, *SHAPE)))


@pytest.mark.parametrize("shape", [(5,), (4, 2), (3, 2, 1), (2, 2, 2, 1)])
def test_vamp_for_every_rank_and_missing_values(shape, rng):
    vae = VAE.for_events(
        shape, latent_dim=2, network="dense", prior="vamp:pseudo_inputs=3", missing=True, seed=0
    )
    family = vae.prior_family
    assert family.inputs.shape == (3, *shape)
    # Whatever the model is told of missing values, its pseudo-inputs have none.
    components = vae.encode(family.inputs)
    z = normal(20, 2)
    expected = tf.reduce_logsumexp(components.log_prob(z[:, None]), axis=-1) - np.log(3)
    np.testing.assert_allclose(vae.prior.log_prob(z), expected, rtol=1e-5, atol=1e-5)
    x = rng.random((9, *shape)).astype("float32")
    x[rng.random(x.shape) < 0.4] = np.nan
    x[:, 0] = np.nan
    family.adapt(x)
    found, clipped = family.inputs.numpy(), np.clip(x[:3], 0.01, 0.99)
    observed = ~np.isnan(x[:3])
    np.testing.assert_allclose(found[observed], clipped[observed], rtol=1e-4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of means of nothing
        means = np.nan_to_num(np.nanmean(x, axis=0))
    means = np.broadcast_to(np.clip(means, 0.01, 0.99), found.shape)
    np.testing.assert_allclose(found[~observed], means[~observed], rtol=1e-4)
    assert np.all(np.isfinite(vae.elbo(x, seed=1).elbo))


def test_pseudo_inputs_need_not_lie_on_the_levels_of_a_discrete_likelihood():
    vae = VAE.for_events(
        (4,), latent_dim=2, likelihood="categorical:levels=3", prior="vamp:pseudo_inputs=2", seed=0
    )
    with pytest.raises(InputError, match="between the levels"):
        vae.encode(vae.prior_family.inputs)
    assert np.all(np.isfinite(vae.prior.log_prob(normal(5, 2))))


def test_vamp_refuses_other_models():
    family = priors.get("vamp")
    with pytest.raises(InputError, match=r'choose the prior "class_normal" or "mixture"$'):
        family.attach(Model(num_classes=10))
    family.bind((4,), 0)
    for act in (lambda: family.build((4,)), family.distribution):
        with pytest.raises(InputError, match=r"give it to a tfvae\.VAE"):
            act()


# --- flows ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "d"), [("maf:hidden=8", 1), *((name, 2) for name in FLOWS)])
def test_flows_integrate_to_one_and_their_draws_fit(name, d):
    p = built(name, d, shaken=0.1).distribution()
    axis = np.linspace(-12, 12, 2401 if d == 1 else 481)
    z = np.stack(np.meshgrid(*d * [axis], indexing="ij"), axis=-1).reshape(-1, d)
    density = np.exp(p.log_prob(z.astype(np.float32)).numpy().astype(np.float64))
    mass = density * (axis[1] - axis[0]) ** d
    np.testing.assert_allclose(mass.sum(), 1, atol=1e-4)
    n = 50_000
    draws = p.sample(n, seed=(1, 2)).numpy().astype(np.float64)
    for power in (1, 2):
        error = np.abs((draws**power).mean(0) - mass @ z**power)
        assert np.all(error <= 4 * (draws**power).std(0) / np.sqrt(n) + 1e-4)


@pytest.mark.parametrize("name", FLOWS)
def test_flows_start_near_the_standard_normal(name):
    standard = built("standard_normal", 8).distribution()
    z = standard.sample(1000, seed=(1, 2))
    difference = built(name, 8).distribution().log_prob(z) - standard.log_prob(z)
    assert np.abs(np.mean(difference)) < 0.1 and np.std(difference) < 0.5


@pytest.mark.parametrize("name", FLOWS)
def test_a_density_follows_the_weights(name):
    """TFP's bijectors remember what they computed: not over a change of weights."""
    family, z = built(name), normal(5, 4)
    before = family.distribution().log_prob(z)
    for weight in family.trainable_weights:
        weight.assign_add(tf.ones(weight.shape) * 0.1)
    p = family.distribution()
    assert np.all(np.abs(p.log_prob(z) - before) > 1e-3)
    np.testing.assert_array_equal(p.log_prob(tf.identity(z)), p.log_prob(z))


def test_realnvp_needs_two_dimensions():
    message = 'needs a latent dimension from 2; received 1: choose the prior "maf"'
    with pytest.raises(InputError, match=re.escape(message)):
        priors.get("realnvp").bind((1,), 0)


# --- classes --------------------------------------------------------------------------------------


def test_class_normal():
    family = built("class_normal", 2, shaken=0.5)
    label = tf.constant([2, 0, 2, 1])
    p = family.distribution(label)
    assert p.batch_shape == (4,) and p.event_shape == (2,)
    z = normal(7, 4, 2)
    loc = family.loc.numpy().astype(np.float64)
    scale = np.exp(0.5 * family.log_var.numpy().astype(np.float64))
    for i, y in enumerate(label):
        expected = stats.norm(loc[y], scale[y]).logpdf(z[:, i]).sum(-1)
        np.testing.assert_allclose(p.log_prob(z)[:, i], expected, rtol=1e-5, atol=1e-5)
    # Without a label, all classes with equal weights.
    each = [family.distribution(tf.constant(y)).log_prob(z) for y in range(3)]
    np.testing.assert_allclose(
        family.distribution().log_prob(z), special.logsumexp(each, 0) - np.log(3), rtol=1e-5
    )


@pytest.mark.parametrize("posterior", ["normal", "full_normal"])
def test_class_normal_has_an_exact_kl(posterior):
    family = built("class_normal", shaken=0.5)
    q = Model(posterior).encode_unchecked(normal(2, *SHAPE))
    p = family.distribution(tf.constant([1, 2]))
    kl = tfd.kl_divergence(q, p)
    assert kl.shape == (2,)
    z = q.sample(20_000, seed=(1, 2))
    difference = (q.log_prob(z) - p.log_prob(z)).numpy()
    assert np.all(np.abs(difference.mean(0) - kl) <= 4 * difference.std(0) / np.sqrt(20_000))


def test_classes_start_at_the_standard_normal():
    p = built("class_normal").distribution(tf.constant([0, 2]))
    np.testing.assert_array_equal(p.mean(), 0)
    np.testing.assert_array_equal(p.variance(), 1)


def test_class_normal_needs_a_conditional_model():
    with pytest.raises(InputError, match="needs a conditional model, with num_classes"):
        priors.get("class_normal").attach(Model())


# --- fixed distributions --------------------------------------------------------------------------


def diagonal(*shape):
    return tfd.MultivariateNormalDiag(normal(*shape), tf.exp(normal(*shape, seed=1)))


FIXED = {
    "diagonal": lambda: diagonal(2),
    "triangular": lambda: tfd.MultivariateNormalTriL([0.0, 1], [[1.0, 0], [0.5, 2]]),
    "python numbers": lambda: tfd.Independent(tfd.Laplace([0.0, 1.0], 2.0), 1),
    "infinities": lambda: tfd.Independent(tfd.TruncatedNormal([0.0, 1], 1.0, -np.inf, [2.0, 3]), 1),
    "numpy": lambda: tfd.Independent(tfd.StudentT(np.float32(3), np.zeros(2, np.float32), 1.0), 1),
    "sample": lambda: tfd.Sample(tfd.Normal(0.0, 1.0), sample_shape=[2]),
    "same family": lambda: tfd.MixtureSameFamily(
        tfd.Categorical(probs=[0.2, 0.3, 0.5]), diagonal(3, 2)
    ),
    "mixture": lambda: tfd.Mixture(
        tfd.Categorical(logits=[0.0, 1.0]),
        [diagonal(2), tfd.Independent(tfd.Laplace([0.0, 1.0], 2.0), 1)],
    ),
    "uniform": lambda: tfd.Independent(tfd.Uniform([-3.0, -3], 3.0, name="box"), 1),
}


@pytest.mark.parametrize("make", FIXED.values(), ids=FIXED)
def test_fixed_comes_back(make):
    given = make()
    family = priors.get(given)
    assert type(family) is Fixed and family.weights == []
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(family)))
    restored = priors.get(config)
    assert restored.get_config() == family.get_config()
    for prior in (family, restored):
        prior.bind((2,), 0)
        prior.build((2,))
        p = prior.distribution()
        assert type(p) is type(given)
        z = given.sample(4, seed=(1, 2))
        np.testing.assert_array_equal(p.sample(4, seed=(1, 2)), z)
        np.testing.assert_array_equal(p.log_prob(z), given.log_prob(z))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: tfd.TransformedDistribution(diagonal(2), tfb.Exp()), "received Exp"),
        (
            lambda: tfd.MultivariateNormalLinearOperator(
                [0.0, 1], tf.linalg.LinearOperatorIdentity(2)
            ),
            "received LinearOperatorIdentity",
        ),
        (lambda: type("Mine", (tfd.MultivariateNormalDiag,), {})([0.0, 1]), "classes of tfd"),
        (lambda: type("Normal", (tfd.MultivariateNormalDiag,), {})([0.0, 1]), "classes of tfd"),
        (lambda: tfd.MultivariateNormalDiag(tf.Variable([0.0, 1])), "no variables to train"),
        (lambda: diagonal(3, 2), r"has batch shape \(\); received float32 and \(3,\)"),
        (lambda: tfd.MultivariateNormalDiag(np.zeros(2)), "in float32 .* received float64"),
    ],
)
def test_fixed_refuses(make, message):
    with pytest.raises(InputError, match=message) as error:
        priors.get(make())
    assert "\n" not in str(error.value)


def test_fixed_checks_its_event():
    message = (
        "the prior must have event shape (3,), that of z; received a MultivariateNormalDiag with "
        "event shape (2,)"
    )
    with pytest.raises(InputError, match=re.escape(message)):
        priors.get(diagonal(2)).bind((3,), 0)
    with pytest.raises(InputError, match=r"received a Normal with event shape \(\)"):
        priors.get(tfd.Normal(0.0, 1.0)).bind((1,), 0)


@pytest.mark.parametrize(
    "name", ["kl_divergence", "os", "__name__", "Mine", "ReparameterizationType", 3]
)
def test_loading_looks_up_distributions_alone(name):
    config = keras.saving.serialize_keras_object(Fixed(diagonal(2)))
    config["config"]["distribution"]["class"] = name
    with pytest.raises(InputError, match="made of classes of tfd"):
        priors.get(config)


# --- a prior of one's own, and errors -------------------------------------------------------------


def test_the_docstring_shows_a_prior_that_works():
    lines = priors.Prior.__doc__.splitlines()
    start = next(i for i, line in enumerate(lines) if "@keras" in line)
    code = [line[8:] for line in lines[start : start + 9]]
    names = {"keras": keras, "Prior": priors.Prior, "tf": tf, "tfd": tfd}
    exec("\n".join(code), names)
    family = names["ShiftedNormal"]()
    family.bind((3,), 0)
    family.build((3,))
    z = normal(5, 3)
    np.testing.assert_allclose(
        family.distribution().log_prob(z), stats.norm.logpdf(z).sum(-1), rtol=1e-5
    )
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(family.distribution().log_prob(z))
    (gradient,) = tape.gradient(loss, [weight.value for weight in family.trainable_weights])
    np.testing.assert_allclose(gradient, tf.reduce_mean(z, axis=0), rtol=1e-5)


@pytest.mark.parametrize(
    ("kind", "option"),
    [
        (Mixture, "components"),
        (VampPrior, "pseudo_inputs"),
        (RealNVP, "flows"),
        (RealNVP, "hidden"),
        (MaskedAutoregressive, "flows"),
        (MaskedAutoregressive, "hidden"),
    ],
)
@pytest.mark.parametrize("value", [0, -1, 1.5, True, "many", None])
def test_bad_options(kind, option, value):
    with pytest.raises(InputError, match=f"^{option} is a whole number from 1; received "):
        kind(**{option: value})


def test_what_is_no_prior_is_refused():
    for identifier in (None, 3, tfb.Exp(), tfd.Normal):
        with pytest.raises(InputError, match=r"^a prior is a name or a tfvae Prior"):
            priors.get(identifier)
    with pytest.raises(InputError, match=r"^a fixed prior is a tfd\.Distribution; received"):
        Fixed("normal")
