"""Each signature of a SavedModel gives what the model gives, whatever else is in the batch."""

import concurrent.futures

import numpy as np
import pytest
import tensorflow as tf
from exported_model import DRAWS, SHAPE, inputs_for, png, seeds, shared
from linear_vae import as_images, exact_vae, linear_gaussian, linear_vae, points

import tfvae
from tfvae.datasets.preprocessing import Preprocessing
from tfvae.serving.calibration import calibrate
from tfvae.serving.signatures import SCORE_DRAWS

FORMS = ("reconstruct", "encode", "elbo", "log_prob", "anomaly_score")
ALL = {
    *FORMS, "decode", "sample", "sample_png", "interpolate", "serving_default", "log_joint",
    "log_posterior", "posterior_parameters", "sample_posterior", "sample_latent",
    *(f"{name}_{form}" for name in FORMS for form in ("uint8", "png")),
}  # fmt: skip

BATCH = 3


@pytest.fixture(scope="module")
def exported():
    return shared()


@pytest.fixture(scope="module")
def vae():
    """A model that has not been exported, which takes seconds."""
    return tfvae.VAE.for_images(
        SHAPE, latent_dim=3, network="dense:hidden=8", likelihood="normal:scale=learned", seed=0
    )


@pytest.fixture(scope="module")
def signatures(exported):
    return tf.saved_model.load(str(exported[1])).signatures


def call(signature, inputs):
    found = signature(**{name: tf.constant(value) for name, value in inputs.items()})
    return {name: value.numpy() for name, value in found.items()}


@pytest.mark.exhaustive
def test_each_equals_keras(exported, signatures):
    vae, _ = exported
    assert set(signatures) == ALL
    given = {name: inputs_for(name, BATCH) for name in ALL - {"serving_default"}}
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
    np.testing.assert_allclose(
        found["sample"]["images"], vae.sample(BATCH, seed=seeds(BATCH)), atol=1e-5
    )
    ends = given["interpolate"]
    weight = ends["weight"][:, None]
    line = (1 - weight) * vae.code(ends["start"]) + weight * vae.code(ends["end"])
    middle = vae.decode(line).mean()
    np.testing.assert_allclose(found["interpolate"]["images"], middle, atol=1e-5)
    for name, expected in vae.elbo(x, seed=seeds(BATCH))._asdict().items():
        np.testing.assert_allclose(found["elbo"][name], expected, rtol=1e-5, atol=1e-4)
    log_weights = vae.terms(x, num_samples=DRAWS, seed=seeds(BATCH)).log_weight
    expected = tf.reduce_logsumexp(log_weights, axis=0) - np.log(DRAWS)
    np.testing.assert_allclose(found["log_prob"]["log_prob"], expected, rtol=1e-5, atol=1e-4)
    weights = tf.nn.softmax(log_weights, axis=0)
    effective = 1 / tf.reduce_sum(weights**2, axis=0)
    np.testing.assert_allclose(
        found["log_prob"]["effective_sample_size"], effective, rtol=1e-3, atol=1e-3
    )
    one_seed = np.tile([[0, 7]], (BATCH, 1)).astype("int32")
    score = -vae.elbo(x, num_samples=SCORE_DRAWS, seed=one_seed).elbo
    np.testing.assert_allclose(found["anomaly_score"]["score"], score, rtol=1e-5, atol=1e-4)
    np.testing.assert_array_equal(found["anomaly_score"]["threshold"], np.float32(30))
    np.testing.assert_array_equal(
        found["anomaly_score"]["is_anomaly"], found["anomaly_score"]["score"] > 30
    )


@pytest.mark.exhaustive
def test_bytes_and_files_give_what_their_images_give(signatures):
    for name in FORMS:
        inputs = inputs_for(name, BATCH)
        plain = call(signatures[name], inputs)
        for form in ("uint8", "png"):
            found = call(signatures[f"{name}_{form}"], inputs_for(f"{name}_{form}", BATCH))
            if (name, form) == ("reconstruct", "png"):
                assert pixels_of(found["image_bytes"]) == pytest.approx(
                    np.clip(plain["images"], 0, 1), abs=0.5 / 255 + 1e-5
                )
                continue
            for key, value in plain.items():
                np.testing.assert_allclose(found[key], value, rtol=1e-5, atol=1e-4)
    drawn = call(signatures["sample"], {"seed": seeds(BATCH)})["images"]
    files = call(signatures["sample_png"], {"seed": seeds(BATCH)})["image_bytes"]
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


def test_a_threshold_has_its_share_of_images_above_it(vae, rng):
    x = rng.random((500, *SHAPE)).astype("float32")
    found = calibrate(vae, tf.data.Dataset.from_tensor_slices(x).batch(64), rate=0.05)
    assert (found.rate, found.events) == (0.05, 500)
    score = function_of(vae, "anomaly_score", threshold=found.threshold)
    assert np.count_nonzero(score(x)["is_anomaly"]) == 25
    unlike = score(10 * np.ones((1, *SHAPE), np.float32))
    assert unlike["is_anomaly"].numpy().all()


@pytest.mark.parametrize("rate", [0, 1, -0.1, "some", np.nan])
def test_a_rate_lies_between_0_and_1(vae, rate):
    with pytest.raises(tfvae.InputError, match="rate of anomalies lies between 0 and 1; received"):
        calibrate(vae, [np.zeros((4, *SHAPE), "float32")], rate=rate)


def test_a_rate_needs_enough_images(vae):
    with pytest.raises(tfvae.InputError, match=r"0\.01 needs at least 100 images .*; received 4"):
        calibrate(vae, [np.zeros((4, *SHAPE), "float32")])


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
def test_labels_go_with_requests():
    vae = tfvae.VAE.for_images(
        SHAPE, latent_dim=3, network="dense:hidden=8", num_classes=3, prior="class_normal", seed=0
    )
    found = tfvae.serving.signatures.signatures(vae, preprocessing=Preprocessing())
    found = {one.name: one for one in found}

    def answer(name, **changed):
        inputs = inputs_for(name, 6, label=True) | changed
        return found[name].function(*(inputs[one.name] for one in found[name].inputs))

    label = np.arange(6, dtype="int32") % 3
    expected = vae.sample(6, label=label, seed=seeds(6))
    np.testing.assert_allclose(answer("sample")["images"], expected, atol=1e-5)
    assert answer("anomaly_score_png")["score"].shape == (6,)
    for unknown in (-1, 3):
        label[4] = unknown
        for name in ("sample", "anomaly_score_png"):
            with pytest.raises(tf.errors.InvalidArgumentError, match="labels from 0 to"):
                answer(name, label=label)


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


def test_a_seed_for_each_image_must_be_one_for_each(vae):
    with pytest.raises(tfvae.InputError, match="expected a seed for each of 3 events; received 2"):
        vae.sample(3, seed=seeds(2))
    # Pixels drawn too.
    drawn = vae.sample(3, seed=seeds(3), mean=False)
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


def test_without_preprocessing_there_are_no_bytes(vae):
    names = {one.name for one in tfvae.serving.signatures.signatures(vae)}
    of_bytes = {name for name in ALL if name.endswith(("_png", "_uint8"))}
    assert names == ALL - of_bytes - {"serving_default"}


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


@pytest.mark.exhaustive
def test_a_server_warms_up_with_every_signature(exported, signatures):
    """Each request is played as TensorFlow Serving plays it."""
    from tensorflow_serving.apis import prediction_log_pb2

    _, path = exported
    file = path / "assets.extra" / "tf_serving_warmup_requests"
    played = set()
    for record in tf.data.TFRecordDataset(str(file)):
        log = prediction_log_pb2.PredictionLog.FromString(record.numpy())
        request = log.predict_log.request
        name = request.model_spec.signature_name
        inputs = {key: tf.constant(tf.make_ndarray(one)) for key, one in request.inputs.items()}
        for value in signatures[name](**inputs).values():
            assert value.shape[0] == 1
        played.add(name)
    assert played == set(signatures) - {"serving_default"}
