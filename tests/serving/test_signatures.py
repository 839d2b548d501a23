"""Each signature of a SavedModel gives what the model gives, whatever else is in the batch."""

import concurrent.futures
import functools

import numpy as np
import pytest
import tensorflow as tf
from exported_model import DRAWS, SHAPE, export, inputs_for, png, seeds, shared
from linear_vae import as_images, exact_vae, linear_gaussian, linear_vae, points

import tfvae
from tfvae.datasets.preprocessing import Preprocessing
from tfvae.saving.card import Card
from tfvae.serving.calibration import calibrate
from tfvae.serving.signatures import SCORE_DRAWS

FORMS = ("reconstruct", "encode", "elbo", "log_prob", "anomaly_score")
ALL = {
    *FORMS, "decode", "sample", "sample_png", "interpolate", "serving_default", "log_joint",
    "log_posterior", "posterior_parameters", "sample_posterior", "sample_latent",
    *(f"{name}_{form}" for name in FORMS for form in ("uint8", "png")),
}  # fmt: skip


@pytest.fixture(scope="module")
def exported():
    return shared()


@pytest.fixture(scope="module")
def signatures(exported):
    return tf.saved_model.load(str(exported[1])).signatures


def call(signature, inputs):
    found = signature(**{name: tf.constant(value) for name, value in inputs.items()})
    return {name: value.numpy() for name, value in found.items()}


@pytest.mark.exhaustive
@pytest.mark.parametrize("batch", [1, 3, 257])
def test_each_equals_keras(exported, signatures, batch):
    vae, _ = exported
    assert set(signatures) == ALL
    given = {name: inputs_for(name, batch) for name in ALL - {"serving_default"}}
    found = {name: call(signatures[name], inputs) for name, inputs in given.items()}
    x = given["encode"]["images"]

    np.testing.assert_allclose(found["reconstruct"]["images"], vae(x), atol=1e-5)
    default = call(signatures["serving_default"], {"images": x})["images"]
    np.testing.assert_array_equal(default, found["reconstruct"]["images"])
    q = vae.encode(x)
    np.testing.assert_allclose(found["encode"]["loc"], q.mean(), atol=1e-5)
    np.testing.assert_allclose(found["encode"]["scale"], q.stddev(), rtol=1e-5)
    z = given["decode"]["z"]
    np.testing.assert_allclose(found["decode"]["images"], vae.decode(z).mean(), atol=1e-5)
    one_seed = np.tile([[0, 7]], (batch, 1)).astype("int32")
    # Outside of a graph a loop over many seeds takes seconds.
    drawing = functools.partial(draws, vae, x, seeds(batch), one_seed)
    drawn, elbo, log_weights, score = (tf.function(drawing) if batch > 3 else drawing)()
    np.testing.assert_allclose(found["sample"]["images"], drawn, atol=1e-5)
    ends = given["interpolate"]
    weight = ends["weight"][:, None]
    line = (1 - weight) * vae.code(ends["start"]) + weight * vae.code(ends["end"])
    middle = vae.decode(line).mean()
    np.testing.assert_allclose(found["interpolate"]["images"], middle, atol=1e-5)
    for name, expected in elbo.items():
        np.testing.assert_allclose(found["elbo"][name], expected, rtol=1e-5, atol=1e-4)
    expected = tf.reduce_logsumexp(log_weights, axis=0) - np.log(DRAWS)
    np.testing.assert_allclose(found["log_prob"]["log_prob"], expected, rtol=1e-5, atol=1e-4)
    weights = tf.nn.softmax(log_weights, axis=0)
    effective = 1 / tf.reduce_sum(weights**2, axis=0)
    np.testing.assert_allclose(
        found["log_prob"]["effective_sample_size"], effective, rtol=1e-3, atol=1e-3
    )
    np.testing.assert_allclose(found["anomaly_score"]["score"], score, rtol=1e-5, atol=1e-4)
    np.testing.assert_array_equal(found["anomaly_score"]["threshold"], np.float32(30))
    np.testing.assert_array_equal(
        found["anomaly_score"]["is_anomaly"], found["anomaly_score"]["score"] > 30
    )


def draws(vae, x, seed, one_seed):
    """Give in Keras what depends on seeds: samples, ELBO, weights of log p(x), scores."""
    terms = vae.terms(x, num_samples=DRAWS, seed=seed)
    return (
        vae.sample(len(seed), seed=seed),
        vae.elbo(x, seed=seed)._asdict(),
        terms.log_likelihood + terms.log_prior - terms.log_posterior,
        -vae.elbo(x, num_samples=SCORE_DRAWS, seed=one_seed).elbo,
    )


@pytest.mark.exhaustive
@pytest.mark.parametrize("batch", [1, 3, 257])
def test_bytes_and_files_give_what_their_images_give(signatures, batch):
    for name in FORMS:
        inputs = inputs_for(name, batch)
        plain = call(signatures[name], inputs)
        for form in ("uint8", "png"):
            found = call(signatures[f"{name}_{form}"], inputs_for(f"{name}_{form}", batch))
            if (name, form) == ("reconstruct", "png"):
                assert pixels_of(found["image_bytes"]) == pytest.approx(
                    np.clip(plain["images"], 0, 1), abs=0.5 / 255 + 1e-5
                )
                continue
            for key, value in plain.items():
                np.testing.assert_allclose(found[key], value, rtol=1e-5, atol=1e-4)
    drawn = call(signatures["sample"], {"seed": seeds(batch)})["images"]
    files = call(signatures["sample_png"], {"seed": seeds(batch)})["image_bytes"]
    assert pixels_of(files) == pytest.approx(np.clip(drawn, 0, 1), abs=0.5 / 255 + 1e-5)


def pixels_of(files):
    return np.stack([tf.io.decode_png(one).numpy() for one in files]) / 255


@pytest.mark.exhaustive
def test_an_images_score_depends_on_nothing_else_in_the_batch(signatures):
    for name in ("anomaly_score", "elbo", "log_prob", "encode"):
        inputs = inputs_for(name, 7)
        whole = call(signatures[name], inputs)
        part = call(signatures[name], {key: value[4:6] for key, value in inputs.items()})
        for key, value in part.items():
            np.testing.assert_allclose(value, whole[key][4:6], rtol=1e-5, atol=1e-4)


@pytest.mark.exhaustive
def test_equal_images_have_equal_scores(signatures):
    x = np.repeat(inputs_for("encode", 1)["images"], 5, axis=0)
    scores = call(signatures["anomaly_score"], {"images": x})["score"]
    np.testing.assert_allclose(scores, scores[0], rtol=1e-6)


def test_log_prob_is_log_prob(rng):
    """On the linear-Gaussian model: exact with the exact posterior, within its error without."""
    model = linear_gaussian(rng, orthogonal=True)
    x = points(model, rng, 64)
    exact = model.log_marginal(x)
    function = function_of(exact_vae(model), "log_prob", num_samples=3)
    found = function(as_images(x), seeds(64))
    np.testing.assert_allclose(found["log_prob"], exact, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(found["effective_sample_size"], 3, rtol=1e-3)

    weights = model.posterior_weights()
    variance = 1.5 * np.diag(model.posterior_covariance())
    rough = linear_vae(model, weights, -weights @ model.offset, variance)
    found = function_of(rough, "log_prob", num_samples=1000)(as_images(x), seeds(64))
    # The variance of log of a mean of weights: that of the weights over K.
    error = np.sqrt(1 / found["effective_sample_size"].numpy() - 1 / 1000)
    scores = (found["log_prob"].numpy() - exact) / error
    assert abs(scores.mean()) < 4 / np.sqrt(64) + error.max() / 2
    assert 0.6 < scores.std() < 1.4


def function_of(vae, name, **options):
    found = tfvae.serving.signatures.signatures(vae, **options)
    return next(one.function for one in found if one.name == name)


def test_the_score_is_the_negative_elbo(rng):
    """With the exact posterior every draw gives log p(x) itself."""
    model = linear_gaussian(rng, orthogonal=True)
    x = points(model, rng, 20)
    found = function_of(exact_vae(model), "anomaly_score")(as_images(x))
    assert np.isnan(found["threshold"]).all()
    assert not found["is_anomaly"].numpy().any()
    # The KL is exact and the log-likelihood a mean of eight draws.
    np.testing.assert_allclose(found["score"], -model.log_marginal(x), atol=8)
    many = function_of(exact_vae(model), "log_prob", num_samples=8)(as_images(x), seeds(20))
    np.testing.assert_allclose(many["log_prob"], model.log_marginal(x), atol=1e-4)


@pytest.mark.exhaustive
def test_a_threshold_has_its_share_of_images_above_it(exported, rng):
    vae, _ = exported
    x = rng.random((500, *SHAPE)).astype("float32")
    found = calibrate(vae, tf.data.Dataset.from_tensor_slices(x).batch(64), rate=0.05)
    assert (found.rate, found.events) == (0.05, 500)
    score = function_of(vae, "anomaly_score", threshold=found.threshold)
    assert np.count_nonzero(score(x)["is_anomaly"]) == 25
    unlike = score(10 * np.ones((1, *SHAPE), np.float32))
    assert unlike["is_anomaly"].numpy().all()


@pytest.mark.parametrize("rate", [0, 1, -0.1, "some", np.nan])
def test_a_rate_lies_between_0_and_1(exported, rate):
    with pytest.raises(tfvae.InputError, match="rate of anomalies lies between 0 and 1; received"):
        calibrate(exported[0], [np.zeros((4, *SHAPE), "float32")], rate=rate)


def test_a_rate_needs_enough_images(exported):
    with pytest.raises(tfvae.InputError, match=r"0\.01 needs at least 100 images .*; received 4"):
        calibrate(exported[0], [np.zeros((4, *SHAPE), "float32")])


@pytest.mark.exhaustive
def test_many_threads_get_their_own_answers(signatures):
    given = [inputs_for("elbo", 1 + index % 3) for index in range(64)]
    for index, one in enumerate(given):
        one["seed"] = one["seed"] + np.int32(index)
    alone = [call(signatures["elbo"], one) for one in given]
    with concurrent.futures.ThreadPoolExecutor(64) as pool:
        together = list(pool.map(lambda one: call(signatures["elbo"], one), given * 4))
    for found, expected in zip(together, alone * 4, strict=True):
        for name, value in expected.items():
            np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-4)
    totals = {float(one["elbo"].sum()) for one in alone}
    assert len(totals) == 64


@pytest.mark.few(1)
@pytest.mark.parametrize(
    ("likelihood", "value", "says"),
    [("bernoulli", 255.0, "Bernoulli expects values in"), ("laplace", np.nan, "finite values")],
)
def test_values_without_a_density_are_refused(tmp_path, likelihood, value, says):
    vae = tfvae.VAE.for_images((4, 4, 1), latent_dim=2, network="dense", likelihood=likelihood)
    x = np.full((2, 4, 4, 1), value, "float32")
    for name in ("encode", "reconstruct", "anomaly_score"):
        with pytest.raises(tf.errors.InvalidArgumentError, match=says):
            function_of(vae, name)(x)


@pytest.mark.exhaustive
def test_labels_go_with_every_request(tmp_path):
    vae, path = export(
        tmp_path, num_classes=3, prior="class_normal", network="dense", likelihood="bernoulli"
    )
    signatures = tf.saved_model.load(str(path)).signatures
    x, label = inputs_for("encode", 6)["images"], np.arange(6, dtype="int32") % 3
    for name in ("reconstruct", "elbo", "sample", "anomaly_score_png", "interpolate"):
        inputs = inputs_for(name, 6, label=True)
        found = call(signatures[name], inputs)
        if name == "sample":
            expected = vae.sample(6, label=label, seed=seeds(6))
            np.testing.assert_allclose(found["images"], expected, atol=1e-5)
        elif name == "reconstruct":
            np.testing.assert_allclose(found["images"], vae.reconstruct(x, label), atol=1e-5)
        assert all(len(value) == 6 for value in found.values())
    with pytest.raises(TypeError):
        signatures["encode"](images=tf.constant(x))
    for unknown in (-1, 3):
        label[4] = unknown
        for name in ("reconstruct", "sample", "elbo_uint8"):
            inputs = inputs_for(name, 6) | {"label": label}
            with pytest.raises(tf.errors.InvalidArgumentError, match="labels from 0 to"):
                call(signatures[name], inputs)


@pytest.mark.few(1)
@pytest.mark.parametrize("posterior", ["iaf:flows=1,hidden=8", "full_normal"])
def test_flows_and_levels(posterior):
    vae = tfvae.VAE.for_images(
        (4, 4, 1),
        latent_dim=2,
        network="dense",
        posterior=posterior,
        prior="realnvp:flows=2,hidden=8",
        likelihood="discretized_logistic:levels=17",
        seed=0,
    )
    found = {
        one.name: one
        for one in tfvae.serving.signatures.signatures(vae, preprocessing=Preprocessing())
    }
    assert ("scale" in found["encode"].outputs()) == (posterior == "full_normal")
    # Bytes are rounded to the levels that have a probability.
    pixels = np.arange(32, dtype=np.uint8).reshape(2, 4, 4, 1) * 8
    levels = (np.round(pixels / 255 * 16) / 16).astype("float32")
    seed = seeds(2)
    np.testing.assert_allclose(
        found["elbo_uint8"].function(pixels, seed)["elbo"],
        vae.elbo(levels, seed=seed).elbo,
        rtol=1e-5,
    )
    np.testing.assert_allclose(
        found["sample"].function(seed)["images"], vae.sample(2, seed=seed), atol=1e-5
    )


def test_a_seed_for_each_image_must_be_one_for_each(exported):
    with pytest.raises(tfvae.InputError, match="expected a seed for each of 3 events; received 2"):
        exported[0].sample(3, seed=seeds(2))
    # Pixels drawn too.
    drawn = exported[0].sample(3, seed=seeds(3), mean=False)
    assert drawn.shape == (3, *SHAPE)


def test_colour_and_more_channels():
    vae = tfvae.VAE.for_images((6, 5, 3), latent_dim=3, network="dense", seed=0)
    bytes_in = {"preprocessing": Preprocessing()}
    pixels = np.random.default_rng(0).integers(0, 256, (2, 6, 5, 3)).astype("uint8")
    files = np.array([png(one) for one in pixels], object)
    found = function_of(vae, "encode_png", **bytes_in)(files)["loc"]
    np.testing.assert_allclose(found, vae.code(pixels / np.float32(255)), atol=1e-5)
    vae = tfvae.VAE.for_images((4, 4, 2), latent_dim=3, network="dense")
    names = {one.name for one in tfvae.serving.signatures.signatures(vae, **bytes_in)}
    assert "encode_uint8" in names
    assert not {name for name in names if name.endswith("_png")}


@pytest.mark.exhaustive
def test_without_preprocessing_there_are_no_bytes(tmp_path):
    vae = tfvae.VAE.for_images((4, 4, 1), latent_dim=2, network="dense")
    vae.export(tmp_path / "plain", card=Card())
    names = set(tf.saved_model.load(str(tmp_path / "plain")).signatures)
    assert names == {name for name in ALL if not name.endswith(("_png", "_uint8"))}


@pytest.mark.exhaustive
def test_a_batch_of_none_gives_none(signatures):
    """As a server may ask that has filtered all of its requests away."""
    for name in sorted(ALL):
        given = inputs_for("reconstruct" if name == "serving_default" else name, 1)
        found = call(signatures[name], {key: value[:0] for key, value in given.items()})
        known = signatures[name].structured_outputs
        assert found.keys() == known.keys()
        for key, value in found.items():
            assert value.shape == (0, *known[key].shape[1:]), (name, key)
