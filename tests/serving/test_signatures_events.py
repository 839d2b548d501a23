"""Signatures of vectors, series and volumes, of missing values, and of every density."""

import json
import re

import numpy as np
import pytest
import tensorflow as tf
from exported_model import DRAWS, export, inputs_for
from linear_vae import as_images, exact_vae, linear_gaussian, points
from tensorflow.core.protobuf import saved_model_pb2

import tfvae
from tfvae.datasets.preprocessing import Preprocessing
from tfvae.saving.card import Card
from tfvae.serving.signatures import SCORE_DRAWS, signatures

D = 3
CASES = {
    "vectors": (
        (5,),
        {
            "missing": True,
            "network": "dense:hidden=16",
            "posterior": "iaf:flows=1,hidden=8",
            "prior": "realnvp:flows=2,hidden=8",
        },
    ),
    "series": (
        (12, 2),
        {"num_classes": 3, "prior": "class_normal", "posterior": "full_normal"},
    ),
}
CLOSE = {"rtol": 1e-4, "atol": 1e-4}


@pytest.fixture(
    scope="module", params=["vectors", pytest.param("series", marks=pytest.mark.exhaustive)]
)
def exported(request, tmp_path_factory):
    shape, options = CASES[request.param]
    vae, path = export(tmp_path_factory.mktemp(request.param), shape, **options)
    # At their start flows are near the identity.
    return vae, path, tf.saved_model.load(str(path)).signatures


def request_for(vae, name, batch=7):
    """Make inputs; of a model for missing values with holes, and one event of nothing else."""
    inputs = inputs_for(
        name, batch, label=vae.num_classes is not None, shape=vae.event_shape, latent_dim=D
    )
    if vae.missing and "x" in inputs:
        holes = np.random.default_rng(3).random(inputs["x"].shape) < 0.3
        holes[0], holes[-1] = False, True
        inputs["x"][holes] = np.nan
    return inputs


def call(signature, inputs):
    found = signature(**{name: tf.constant(value) for name, value in inputs.items()})
    return {name: value.numpy() for name, value in found.items()}


@pytest.mark.exhaustive
def test_each_equals_keras_whatever_else_is_in_the_batch(exported):
    vae, _, served = exported
    assert set(served) == set(IN_KERAS) - (set() if vae.missing else {"impute"})
    for name, signature in served.items():
        inputs = request_for(vae, name)
        found = call(signature, inputs)
        part = call(signature, {key: value[4:6] for key, value in inputs.items()})
        for key, value in found.items():
            assert len(value) == 7
            np.testing.assert_allclose(part[key], value[4:6], **CLOSE)
        for key, value in IN_KERAS[name](vae, **inputs).items():
            np.testing.assert_allclose(found[key], value, err_msg=f"{name} {key}", **CLOSE)


def line(vae, start, end, weight, label=None):
    weight = weight[:, None]
    return (1 - weight) * vae.code(start, label) + weight * vae.code(end, label)


def log_joint(vae, x, z, label=None):
    log_likelihood, log_prior = vae.log_likelihood(x, z, label), vae.prior_of(label).log_prob(z)
    return {
        "log_joint": log_likelihood + log_prior,
        "log_likelihood": log_likelihood,
        "log_prior": log_prior,
    }


def estimated(vae, x, seed, label=None):
    log_weight = vae.terms(x, label, num_samples=DRAWS, seed=seed).log_weight
    return {"log_prob": tf.reduce_logsumexp(log_weight, axis=0) - np.log(DRAWS)}


def drawn_from_posterior(vae, x, seed, label=None):
    terms = vae.terms(x, label, seed=seed)
    return {"z": terms.z[0], "log_posterior": terms.log_posterior[0]}


def score(vae, x, label=None):
    same = np.tile([[0, 7]], (len(x), 1)).astype("int32")
    return {"score": -vae.elbo(x, label, num_samples=SCORE_DRAWS, seed=same).elbo}


# What each signature has to give.
IN_KERAS = {
    "serving_default": lambda vae, x, label=None: {"x": vae.reconstruct(x, label)},
    "reconstruct": lambda vae, x, label=None: {"x": vae.reconstruct(x, label)},
    "encode": lambda vae, x, label=None: {"loc": vae.code(x, label)},
    "decode": lambda vae, z, label=None: {"x": vae.decode(z, label).mean()},
    "sample": lambda vae, seed, label=None: {"x": vae.sample(len(seed), seed=seed, label=label)},
    "interpolate": lambda vae, label=None, **ends: {
        "x": vae.decode(line(vae, label=label, **ends), label).mean()
    },
    "elbo": lambda vae, x, seed, label=None: vae.elbo(x, label, seed=seed)._asdict(),
    "log_prob": estimated,
    "anomaly_score": score,
    "impute": lambda vae, x, seed: {"x": vae.impute(x, num_samples=DRAWS, seed=seed)},
    "log_joint": log_joint,
    "log_posterior": lambda vae, x, z, label=None: {
        "log_posterior": vae.encode(x, label).log_prob(z)
    },
    "posterior_parameters": lambda vae, x, label=None: vae.posterior_parameters(x, label),
    "sample_posterior": drawn_from_posterior,
    "sample_latent": lambda vae, seed, label=None: {"z": vae.draw_latent(tf.constant(seed), label)},
}


@pytest.mark.exhaustive
def test_a_density_at_any_z_is_that_of_the_draws(exported):
    """log q(z|x) of a z that comes back from a client, not out of the graph that drew it."""
    vae, _, served = exported
    inputs = request_for(vae, "sample_posterior")
    drawn = call(served["sample_posterior"], inputs)
    del inputs["seed"]
    found = call(served["log_posterior"], inputs | {"z": drawn["z"]})["log_posterior"]
    np.testing.assert_allclose(found, drawn["log_posterior"], rtol=1e-3, atol=1e-3)


def test_joint_less_posterior_is_log_p_of_x_where_the_posterior_is_exact(rng):
    model = linear_gaussian(rng, orthogonal=True)
    found = {one.name: one.function for one in signatures(exact_vae(model))}
    x, z = points(model, rng, 16), rng.normal(size=(16, 2)).astype("float32")
    log_weight = found["log_joint"](as_images(x), z)["log_joint"]
    log_weight -= found["log_posterior"](as_images(x), z)["log_posterior"]
    np.testing.assert_allclose(log_weight, model.log_marginal(x), rtol=1e-4, atol=1e-4)


def test_the_parameters_of_a_normal_posterior_say_all_of_it(rng):
    vae = exact_vae(linear_gaussian(rng, orthogonal=True))
    found = {one.name: one.function for one in signatures(vae)}
    x, z = rng.normal(size=(4, 2, 2, 1)).astype("f"), rng.normal(size=(4, 2)).astype("f")
    loc, log_var = (found["posterior_parameters"](x)[name] for name in ("loc", "log_var"))
    by_hand = -0.5 * np.sum(log_var + np.log(2 * np.pi) + (z - loc) ** 2 / np.exp(log_var), axis=1)
    np.testing.assert_allclose(found["log_posterior"](x, z)["log_posterior"], by_hand, rtol=1e-5)


def test_nothing_in_the_graphs_needs_python(exported):
    saved = saved_model_pb2.SavedModel.FromString((exported[1] / "saved_model.pb").read_bytes())
    graph = saved.meta_graphs[0].graph_def
    nodes = [*graph.node, *(node for one in graph.library.function for node in one.node_def)]
    assert len(nodes) > 100
    assert not {node.op for node in nodes if "PyFunc" in node.op}


def test_values_without_a_density_are_refused(exported):
    vae, _, served = exported
    for value, name in ((np.inf, "encode"), (np.nan, "elbo"), (-np.inf, "interpolate")):
        inputs = request_for(vae, name)
        inputs["start" if name == "interpolate" else "x"][1, ..., 0] = value
        if np.isnan(value) and vae.missing:
            assert all(np.isfinite(one).all() for one in call(served[name], inputs).values())
            continue
        says = f"{type(vae.likelihood_family).__name__} expects .*received values between"
        with pytest.raises(tf.errors.InvalidArgumentError, match=says):
            call(served[name], inputs)


def test_the_card_and_the_readme_speak_of_the_event(exported):
    vae, path, served = exported
    card = json.loads((path / "card.json").read_text())
    rank = len(vae.event_shape)
    assert card["model"]["event_shape"] == list(vae.event_shape)
    assert card["model"]["kind"] == {1: "table", 2: "series", 4: "volume"}[rank]
    assert card["model"]["missing"] == vae.missing
    assert set(card["signatures"]) == set(served) - {"serving_default"}
    readme = (path / "README.md").read_text()
    assert f"of {vae.event_spec.noun}\n" in readme
    assert "image" not in readme
    assert ("NaN in an event" in readme) == vae.missing
    (example,) = re.findall(r"```python\n(.*?)```", readme, flags=re.DOTALL)
    exec(example.replace("PATH", str(path)), {})


@pytest.mark.exhaustive
def test_a_server_warms_up_with_every_signature(exported):
    from tensorflow_serving.apis import prediction_log_pb2

    _, path, served = exported
    file = path / "assets.extra" / "tf_serving_warmup_requests"
    played = set()
    for record in tf.data.TFRecordDataset(str(file)):
        log = prediction_log_pb2.PredictionLog.FromString(record.numpy())
        name = log.predict_log.request.model_spec.signature_name
        inputs = log.predict_log.request.inputs.items()
        call(served[name], {key: tf.make_ndarray(one) for key, one in inputs})
        played.add(name)
    assert played == set(served) - {"serving_default"}


def test_the_model_comes_back(exported):
    vae, path, _ = exported
    again = tfvae.load(path)
    assert (again.event_shape, again.missing) == (vae.event_shape, vae.missing)
    inputs = request_for(vae, "encode")
    arguments = [inputs["x"], *([inputs["label"]] if "label" in inputs else [])]
    np.testing.assert_array_equal(again.code(*arguments), vae.code(*arguments))


def test_bytes_are_for_images_alone(tmp_path):
    vae = tfvae.VAE.for_events((6, 2), latent_dim=2, network="dense", seed=0)
    with pytest.raises(tfvae.InputError, match=r"for images .* takes series \[6, 2\]: leave out"):
        vae.export(tmp_path / "model", card=Card(preprocessing=Preprocessing()))
    assert list(tmp_path.iterdir()) == []
