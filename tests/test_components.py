"""What must hold of every likelihood, posterior, prior, objective and network, at every rank.

One model is made of a part of each kind, and all is asked of it: configuration, seed, precision,
gradient, saving, export and going on after a stop.
"""

import json

import components
import keras
import numpy as np
import pytest
import tensorflow as tf
from components import CASES, LIKELIHOODS, SLOW_CASES, batch, model
from likelihood_cases import CASES as LIKELIHOOD_CASES
from tensorflow_probability import distributions as tfd

from tfvae import VAE, InputError, codes, likelihoods, networks, objectives, posteriors, priors
from tfvae.training import train


def names(texts):
    return {text.partition(":")[0] for text in texts}


def test_every_family_is_here():
    assert names(LIKELIHOODS) == set(likelihoods.BY_NAME)
    of_classes = {"relaxed_categorical"}
    assert names(components.POSTERIORS) | of_classes == set(posteriors.BY_NAME)
    assert names(components.PRIORS) | of_classes == set(priors.BY_NAME) | {"fixed"}
    assert {c.posterior.partition(":")[0] for c in SLOW_CASES} == set(posteriors.BY_NAME)
    assert names(components.NETWORKS) == set(networks.BY_NAME)
    assert {c.objective.partition(":")[0] for c in CASES} == set(objectives.BY_NAME)
    assert names(components.QUANTIZERS) == set(codes.quantizers.BY_NAME)
    assert names(components.CODE_PRIORS) == set(codes.priors.BY_NAME)


def test_every_pair_meets():
    met = components.met(CASES)
    kinds = (None, components.POSTERIORS, components.PRIORS, None, None, components.SHAPES)
    for one, two in ((1, 2), (1, 5), (2, 5)):
        wanted = {((one, a), (two, b)) for a in kinds[one] for b in kinds[two]}
        assert wanted <= met
    of_rank = {(4, name) for name in components.NETWORKS}
    for shape in components.SHAPES[1:]:
        assert {(network, (5, shape)) for network in of_rank} <= met


# --- configurations -------------------------------------------------------------------------------

DISTRIBUTION = tfd.MultivariateNormalDiag([0.5, -1.0], [1.0, 2.0])
FAMILIES = [
    *((likelihoods.get, lambda c=c: c.kind(**c.options)) for c in LIKELIHOOD_CASES),
    (likelihoods.get, lambda: likelihoods.Normal(scale="optimal", min_scale=0.1)),
    (likelihoods.get, lambda: likelihoods.Bernoulli(decoder_output="mean")),
    (
        likelihoods.get,
        lambda: likelihoods.Normal(scale="learned", decoder_output="features", name="noise"),
    ),
    *((likelihoods.get, lambda c=c: likelihoods.get(c)) for c in LIKELIHOODS),
    *((posteriors.get, lambda c=c: posteriors.get(c)) for c in components.POSTERIORS),
    (posteriors.get, lambda: posteriors.get("relaxed_categorical:temperature=linear(steps=9)")),
    (
        posteriors.get,
        lambda: posteriors.RelaxedCategorical(
            4, keras.optimizers.schedules.ExponentialDecay(1.0, 9, 0.5)
        ),
    ),
    (priors.get, lambda: priors.get(f"{components.CLASSES_PRIOR},temperature=0.3")),
    *((priors.get, lambda c=c: priors.get(c)) for c in components.PRIORS if c != "fixed"),
    (priors.get, lambda: priors.get(DISTRIBUTION)),
    *((objectives.get, lambda c=c: objectives.get(c)) for c in components.OBJECTIVES),
    (objectives.get, lambda: objectives.get(components.FREE_BITS)),
    (objectives.get, lambda: objectives.get(components.BETA_TC)),
    *((codes.quantizers.get, lambda c=c: codes.quantizers.get(c)) for c in components.QUANTIZERS),
    *((codes.priors.get, lambda c=c: codes.priors.get(c)) for c in components.CODE_PRIORS),
]


def through_json(part):
    # As a saved model carries it.
    return json.loads(json.dumps(keras.saving.serialize_keras_object(part)))


@pytest.mark.parametrize(("get", "make"), FAMILIES)
def test_configurations_come_back(get, make):
    family = make()
    config = through_json(family)
    for restored in (keras.saving.deserialize_keras_object(config), get(config)):
        assert type(restored) is type(family)
        assert restored is not family
        assert restored.get_config() == family.get_config()
    assert get(family) is family


# --- seeds ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", SLOW_CASES[:4], ids=str)
def test_keras_seed_decides_what_has_none_of_its_own(case):
    def weights_and_draws():
        keras.utils.set_random_seed(1)
        vae = model(case, seed=None)
        label = batch(vae, case)[1]
        drawn = vae.sample(2, label=None if label is None else label[:2], mean=False)
        return [*vae.get_weights(), drawn]

    for a, b in zip(weights_and_draws(), weights_and_draws(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("case", SLOW_CASES[::3], ids=str)
def test_seeds_decide_weights_and_draws(case):
    one, same, other = (model(case, seed) for seed in (0, 0, 1))
    x, label = batch(one, case)
    for a, b, c in zip(one.get_weights(), same.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
        # What starts at a constant knows no seed.
        assert len(np.unique(a)) <= 1 or np.any(a != c)
    same_values(one, same, x, label)
    few = None if label is None else label[:2]
    draws = [one.sample(2, label=few, seed=seed, mean=False).numpy() for seed in (1, 1, 2)]
    np.testing.assert_array_equal(draws[0], draws[1])
    codes = [one.terms(x, label, seed=seed).z for seed in (3, 3, 4)]
    # Threads may sum in another order.
    np.testing.assert_allclose(codes[0], codes[1], rtol=1e-6, atol=1e-6)
    # Of classes some are drawn again.
    differ = np.any if case.posterior == components.CLASSES_POSTERIOR else np.all
    assert differ(codes[0] != codes[2])


# --- gradients, saving ----------------------------------------------------------------------------


def same_values(vae, other, x, label):
    """Compare the ELBO, with the same draws, the code and samples of two models."""
    for one, two in zip(vae.elbo(x, label, seed=3), other.elbo(x, label, seed=3), strict=True):
        np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(vae.code(x, label), other.code(x, label))
    few = None if label is None else label[:2]
    np.testing.assert_array_equal(
        vae.sample(2, label=few, seed=1), other.sample(2, label=few, seed=1)
    )


@pytest.mark.each_once
@pytest.mark.parametrize(components.Case._fields, CASES)
def test_trains_and_saves(likelihood, posterior, prior, objective, network, shape, tmp_path):
    case = components.Case(likelihood, posterior, prior, objective, network, shape)
    vae = model(case)
    x, label = batch(vae, case)
    optimizer = keras.optimizers.Adam(0.01)
    variables = vae.trainable_variables
    losses, reached = [], np.zeros(len(variables), bool)
    for _ in range(3):
        with tf.GradientTape() as tape:
            # The same draws at each step: what falls is a function of the weights alone.
            draws = vae.objective.num_samples
            terms = vae.terms(x, label, num_samples=draws, seed=5, training=True)
            loss = tf.reduce_mean(vae.objective(terms))
        gradients = tape.gradient(loss, variables)
        values = [np.zeros(()) if g is None else tf.convert_to_tensor(g).numpy() for g in gradients]
        reached |= [bool(np.any(value)) for value in values]
        assert all(np.all(np.isfinite(value)) for value in values)
        optimizer.apply_gradients(zip(gradients, variables, strict=True))
        losses.append(float(loss))
    assert losses[-1] < losses[0]
    assert all(reached), [v.path for v, r in zip(variables, reached, strict=True) if not r]

    terms = vae.terms(x, label, seed=5)
    log_p, log_q = terms.prior.log_prob(terms.z), terms.posterior.log_prob(terms.z)
    np.testing.assert_allclose(terms.log_prior, log_p, rtol=1e-5, atol=1e-5)
    # The one comes with the draw, the other from it.
    np.testing.assert_allclose(terms.log_posterior, log_q, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(terms.elbo, terms.log_likelihood[0] - terms.kl, rtol=1e-5)
    if not vae.kl_is_exact:
        estimate = terms.log_posterior[0] - terms.log_prior[0]
        np.testing.assert_allclose(terms.kl, estimate, rtol=1e-5, atol=1e-5)

    vae.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for part in ("likelihood", "posterior", "prior", "objective", "num_classes"):
        assert loaded.get_config()[part] == vae.get_config()[part]
    same_values(vae, loaded, x, label)


# --- precision ------------------------------------------------------------------------------------

POLICIES = ["mixed_bfloat16", "mixed_float16"]


@pytest.mark.few(4)
@pytest.mark.parametrize(
    ("case", "policy"),
    [(case, POLICIES[place % 2]) for place, case in enumerate(SLOW_CASES)],
    ids=str,
)
def test_half_precision_is_finite(case, policy):
    keras.config.set_dtype_policy(policy)
    vae = model(case)
    x, label = batch(vae, case)
    # A graph computes the same, and takes seconds to trace; test_model.py has one.
    vae.compile(keras.optimizers.Adam(0.01), run_eagerly=True)
    logs = vae.train_on_batch(x, label, return_dict=True)
    assert all(np.isfinite(value) for value in logs.values())
    for term in vae.elbo(x, label, seed=1):
        assert term.dtype == tf.float32
        assert np.all(np.isfinite(term))
    assert all(np.all(np.isfinite(variable)) for variable in vae.variables)


# --- training in a graph, going on, export --------------------------------------------------------


def compiled(case):
    vae = model(case)
    vae.compile(keras.optimizers.Adam(0.01))
    return vae


@pytest.mark.few(1)
@pytest.mark.parametrize("case", [SLOW_CASES[0], SLOW_CASES[-1]], ids=str)
def test_a_training_that_was_stopped_goes_on(case, tmp_path):
    whole, stopped, resumed = (compiled(case) for _ in range(3))
    x, label = batch(whole, case)
    data = tf.data.Dataset.from_tensor_slices((x,) if label is None else (x, label)).batch(3)
    train(whole, data, epochs=2, progress=False)
    options = {"checkpoint_dir": tmp_path, "progress": False}
    train(stopped, data, epochs=1, **options)
    train(resumed, data, epochs=2, **options)
    for a, b in zip(whole.variables, resumed.variables, strict=True):
        # Sums in another order of threads; Adam's first steps are as long as its rate.
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


# Others are exported in tests/serving: "normal", "full_normal", "iaf", "class_normal", "realnvp".
@pytest.mark.few(1)
@pytest.mark.parametrize("case", [SLOW_CASES[-1], SLOW_CASES[9], SLOW_CASES[11]], ids=str)
def test_loop_and_export(case, tmp_path):
    vae = compiled(case)
    x, label = batch(vae, case)
    data = tf.data.Dataset.from_tensor_slices((x,) if label is None else (x, label)).batch(3)
    history = train(vae, data, epochs=3, progress=False).history
    assert np.all(np.isfinite(history["loss"]))

    vae.export(tmp_path / "exported")
    signatures = tf.saved_model.load(tmp_path / "exported").signatures
    given = {} if label is None else {"label": tf.constant(label, tf.int32)}
    seeds = tf.stack([tf.range(len(x)), tf.ones(len(x), tf.int32)], axis=1)
    close = {"rtol": 1e-4, "atol": 1e-4}  # another order of the same sums
    of_rank = {1: "x", 2: "x", 3: "images", 4: "x"}[len(case.shape)]
    for name, value in vae.elbo(x, label, seed=seeds)._asdict().items():
        served = signatures["elbo"](**{of_rank: tf.constant(x)}, seed=seeds, **given)[name]
        np.testing.assert_allclose(served, value, **close)
    encoded = signatures["encode"](**{of_rank: tf.constant(x)}, **given)
    np.testing.assert_allclose(encoded["loc"], vae.code(x, label), **close)
    assert ("scale" in encoded) == (
        case.posterior in ("normal", "full_normal", components.CLASSES_POSTERIOR)
    )
    reconstructed = signatures["reconstruct"](**{of_rank: tf.constant(x)}, **given)[of_rank]
    np.testing.assert_allclose(reconstructed, vae.reconstruct(x, label), **close)
    one, two = (signatures["sample"](seed=seeds, **given)[of_rank] for _ in range(2))
    np.testing.assert_array_equal(one, two)
    assert one.shape == x.shape
    assert np.all(np.isfinite(one))


# --- what does not go together --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prior": "class_normal"}, "class_normal.*needs a conditional model"),
        ({"prior": "vamp", "num_classes": 3}, "vamp.*conditional"),
        ({"posterior": "coupling", "latent_dim": 1}, "coupling.*2"),
        ({"prior": "realnvp", "latent_dim": 1}, "coupling flow.*2"),
        ({"prior": "mixture", "objective": "free_bits"}, "FreeBits needs a prior that factorises"),
        (
            {"posterior": "iaf", "objective": "beta_tc:dataset_size=9"},
            "BetaTC needs a posterior that factorises",
        ),
        ({"prior": tfd.MultivariateNormalDiag([0.0] * 3)}, "event.*3"),
        ({"prior": "relaxed_categorical"}, 'posterior "relaxed_categorical".*DiagonalNormal'),
        (
            {"posterior": "relaxed_categorical:classes=2"},
            'prior "relaxed_categorical".*StandardNormal',
        ),
        (
            {"posterior": "relaxed_categorical", "prior": "relaxed_categorical"},
            "multiple of 10; received 2",
        ),
        (
            {
                "posterior": "relaxed_categorical:classes=2",
                "prior": "relaxed_categorical",
                "objective": "beta_tc:dataset_size=9",
            },
            "BetaTC needs a posterior that factorises",
        ),
    ],
)
def test_pairs_that_cannot_work_are_refused_by_name(options, message):
    with pytest.raises(InputError, match=message) as caught:
        VAE.for_images((4, 4, 1), **{"network": "dense", "latent_dim": 2, **options})
    assert "\n" not in str(caught.value)
