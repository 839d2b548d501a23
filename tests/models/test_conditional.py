"""Models of p(x|y): labels through training, generation, saving and export."""

import conditional_vae
import keras
import linear_vae
import numpy as np
import pytest
import tensorflow as tf
from analytic import gaussian_kl
from conditional_vae import (
    CLASSES,
    LATENT,
    SHAPE,
    compiled,
    largest_difference,
    make,
    slices,
)

import tfvae
from tfvae.training import train

FLOAT32 = float(np.finfo(np.float32).eps)
EAGER = {"run_eagerly": True}


@pytest.fixture
def data(rng):
    return conditional_vae.images_and_labels(rng)


def sources(x, y):
    """Every kind of input that `fit` takes, all in the same batches of 20."""
    column, weights = y[:, None], np.linspace(0, 2, len(x)).astype("float32")

    class Sequence(keras.utils.PyDataset):
        def __len__(self):
            return 3

        def __getitem__(self, index):
            rows = slice(20 * index, 20 * (index + 1))
            return x[rows], y[rows]

    arrays = {"batch_size": 20, "shuffle": False}
    batches = ((x[i : i + 20], y[i : i + 20]) for i in (0, 20, 40))
    one_hot = np.eye(CLASSES, dtype="float32")[y]
    return {
        "arrays": (x, {"y": y, **arrays}),
        "bytes": (x, {"y": y.astype("uint8"), **arrays}),
        "column": (x, {"y": column, **arrays}),
        "floats": (x, {"y": y.astype("float32"), **arrays}),
        "one-hot": (x, {"y": one_hot, **arrays}),
        "list": ([x, y], arrays),
        "dictionary": ({"image": x, "label": y}, arrays),
        "data set of bytes": (slices(x, y.astype("uint8")), {}),
        "data set of columns": (slices(x, column), {}),
        "data set of one-hots": (slices(x, one_hot), {}),
        "data set of pairs": (slices((x, y)), {}),  # a batch's x is itself the pair
        "data set of dictionaries": (slices({"image": x, "label": y}), {}),
        "PyDataset": (Sequence(), {"shuffle": False}),
        "generator": (batches, {"steps_per_epoch": 3}),
        "weighted arrays": (x, {"y": y, "sample_weight": weights, **arrays}),
        "weighted data set": (slices(x, y, weights), {}),
    }


@pytest.fixture(scope="module")
def expected():
    """The weights after an epoch on arrays, and on weighted ones."""
    x, y = conditional_vae.images_and_labels(np.random.default_rng(0))
    models = {}
    for kind in ("arrays", "weighted arrays"):
        keras.utils.set_random_seed(0)
        source, options = sources(x, y)[kind]
        models[kind] = compiled(compile_options=EAGER)
        models[kind].fit(source, verbose=0, **options)
    return {kind: model.get_weights() for kind, model in models.items()}


@pytest.mark.exhaustive
@pytest.mark.parametrize("kind", list(sources(np.zeros((60, *SHAPE)), np.zeros(60, int)))[1:])
def test_fit_takes_every_kind_of_input_with_labels(data, expected, kind):
    source, options = sources(*data)[kind]
    model = compiled(compile_options=EAGER)
    history = model.fit(source, verbose=0, **options).history
    assert set(history) == {"loss", "elbo", "log_likelihood", "kl"}
    reference = "weighted arrays" if "weighted" in kind else "arrays"
    # Adam's steps of 1e-3 magnify rounding; a label mistaken shows as whole steps.
    assert largest_difference(model.get_weights(), expected[reference]) < 2e-5


@pytest.mark.exhaustive
def test_a_model_takes_vectors_of_labels_and_columns_by_turns(data):
    x, y = data
    by_turns, by_vectors = compiled(), compiled(compile_options=EAGER)
    for labels in (y, y[:, None], y):
        by_turns.fit(x, labels, shuffle=False, verbose=0)
    by_vectors.fit(x, y, epochs=3, shuffle=False, verbose=0)
    assert largest_difference(by_turns.get_weights(), by_vectors.get_weights()) < 2e-5


def test_labels_and_weights_decide_where_training_goes(data, expected):
    x, y = data
    assert largest_difference(expected["arrays"], expected["weighted arrays"]) > 1e-4
    model = compiled(compile_options=EAGER)
    model.fit(x, (y + 1) % CLASSES, batch_size=20, shuffle=False, verbose=0)
    assert largest_difference(model.get_weights(), expected["arrays"]) > 1e-3


@pytest.mark.exhaustive
def test_fit_and_the_loop_give_the_same_weights(data):
    by_fit, by_loop = (compiled(prior="class_normal") for _ in range(2))
    batches = slices(*data, size=16)
    expected = by_fit.fit(batches, epochs=3, validation_data=batches, verbose=0).history
    history = train(
        by_loop, batches, epochs=3, validation_data=batches, steps_per_call=3, progress=False
    ).history
    assert by_fit.optimizer.iterations == by_loop.optimizer.iterations == 12
    assert largest_difference(by_fit.get_weights(), by_loop.get_weights()) < 2e-5
    assert history.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(history[name], values, rtol=1e-5)
    assert np.ptp(by_loop.prior_family.loc, axis=0).min() > 1e-4


@pytest.mark.exhaustive
def test_validation_and_evaluation_use_the_labels(data):
    x, y = data
    vae = compiled(optimizer=keras.optimizers.SGD(0.0), prior="class_normal", compile_options=EAGER)
    vae.prior_family.loc.assign(np.arange(CLASSES * LATENT).reshape(CLASSES, LATENT))
    pair = x[45:], y[45:]
    weights = np.linspace(0, 2, 15).astype("float32")
    kl = np.asarray(vae.elbo(*pair).kl)
    weighted = np.average(kl, weights=weights)
    for options, expected in (
        ({"validation_data": pair}, kl.mean()),
        ({"validation_data": (*pair, weights)}, weighted),
        ({"validation_split": 0.25}, kl.mean()),
    ):
        history = vae.fit(x, y, verbose=0, **options).history
        np.testing.assert_allclose(history["val_kl"][0], expected, rtol=1e-5)
    report = vae.evaluate(*pair, verbose=0, return_dict=True)
    np.testing.assert_allclose(report["kl"], kl.mean(), rtol=1e-5)


def test_predict_takes_pairs(data):
    x, y = data
    vae = make()
    expected = vae.reconstruct(x, y)
    wrong = vae.reconstruct(x, (y + 1) % CLASSES)
    assert np.abs(expected - wrong).max() > 1e-3
    column = y[:, None]
    for given in (slices(x, y), slices(x, column), [x, y], [x, column], (x, y), slices((x, y))):
        np.testing.assert_allclose(vae.predict(given, verbose=0), expected, atol=1e-6)
    for other in (vae(x, y), vae([x, y]), vae(x, label=y)):
        np.testing.assert_array_equal(other, expected)


@pytest.mark.few(1)
@pytest.mark.parametrize("cls", [tfvae.VAE, tfvae.Autoencoder])
def test_every_method_heeds_the_label(data, cls):
    x, y = data
    model = make(cls)
    code = model.code(x, y)
    one_hot = np.eye(CLASSES, dtype="float32")[y]
    head = model.posterior_family if cls is tfvae.VAE else model.bottleneck
    features = head(model.encoder([x, one_hot]))
    np.testing.assert_allclose(code, features["loc"] if cls is tfvae.VAE else features, atol=1e-6)
    features = model.decoder([code, tf.constant(one_hot)])
    image = model.likelihood_family.mean(
        model.likelihood_family.distribution(model.likelihood_family(features))
    )
    np.testing.assert_allclose(model.reconstruct(x, y), image, atol=1e-6)
    np.testing.assert_allclose(model.decode(code, y).mean(), image, atol=1e-6)

    walk = model.traverse(x, 1, [-2.0, 2.0], y)
    moved = np.array(code)
    moved[:, 1] = 2.0
    assert walk.shape == (60, 2, *SHAPE)
    np.testing.assert_allclose(walk[:, 1], model.decode(moved, y).mean(), atol=1e-6)
    np.testing.assert_allclose(model.traverse(x[7], 1, [-2.0, 2.0], y[7]), walk[7], atol=1e-6)

    # The two ends of a line have one label.
    line = model.interpolate(x[:30], x[30:], 3, y[:30])
    middle = (code[:30] + model.code(x[30:], y[:30])) / 2
    assert line.shape == (30, 3, *SHAPE)
    np.testing.assert_allclose(line[:, 1], model.decode(middle, y[:30]).mean(), atol=1e-6)
    np.testing.assert_allclose(model.interpolate(x[4], x[34], 3, int(y[4])), line[4], atol=1e-6)

    # One label for all, in every form of one.
    all_ones = model.reconstruct(x, np.ones(60, int))
    for label in (1, np.int64(1), [1], np.array([1]), tf.constant(1), np.uint8(1)):
        np.testing.assert_allclose(model.reconstruct(x, label), all_ones, atol=1e-6)
        np.testing.assert_allclose(
            model.decode(model.code(x, label), label).mean(), all_ones, atol=1e-6
        )


def test_labels_broadcast_to_the_leading_axes_of_z(data):
    vae = make()
    z = np.random.default_rng(1).normal(size=(2, 4, CLASSES, LATENT)).astype("float32")
    each = vae.decode(z, np.arange(CLASSES)).mean()
    assert each.shape == (2, 4, CLASSES, *SHAPE)
    for label in range(CLASSES):
        np.testing.assert_allclose(
            each[:, :, label], vae.decode(z[:, :, label], label).mean(), atol=1e-6
        )


def test_an_autoencoder_trains_with_labels(data):
    x, y = data
    optimizer = keras.optimizers.Adam(1e-2)
    model = compiled(tfvae.Autoencoder, optimizer=optimizer, compile_options=EAGER)
    history = model.fit(x, y, epochs=3, verbose=0).history
    assert history["log_likelihood"][-1] > history["log_likelihood"][0]
    report = model.evaluate(x, y, verbose=0, return_dict=True)
    log_likelihood = model.decode(model.encode(x, y), y).log_prob(x)
    np.testing.assert_allclose(report["loss"], -np.mean(log_likelihood), rtol=1e-5)


def test_a_label_decides_what_a_trained_model_draws(data):
    x, y = data
    vae = compiled(optimizer=keras.optimizers.Adam(1e-2))
    train(vae, slices(x, y).repeat(60), progress=False)
    # Rows 2y and 2y + 1 are bright with probability 0.9, the others with 0.1.
    for label in range(CLASSES):
        rows = np.mean(vae.sample(200, label=label, seed=1), axis=(0, 2, 3))
        assert rows.shape == (6,)
        bright = rows[2 * label : 2 * label + 2]
        dark = np.delete(rows, [2 * label, 2 * label + 1])
        assert bright.min() > 0.6
        assert dark.max() < 0.4
    mixed = vae.sample(CLASSES, label=np.arange(CLASSES), seed=1)
    for label in range(CLASSES):
        assert np.argmax(np.mean(mixed[label], axis=(1, 2))) // 2 == label
    # And the label is known to the encoder, so that z need not carry it.
    right, wrong = vae.elbo(x, y, seed=1).elbo, vae.elbo(x, (y + 1) % CLASSES, seed=1).elbo
    assert np.mean(right) > np.mean(wrong) + 5


# --- exact references -----------------------------------------------------------------------------


@pytest.mark.parametrize("prior", ["standard_normal", "class_normal"])
def test_the_elbo_at_the_exact_posterior_is_the_log_probability_given_the_label(rng, prior):
    scale = 0.0 if prior == "standard_normal" else 1.5
    prior_loc = scale * rng.normal(size=(CLASSES, LATENT))
    base, offsets, marginals = conditional_vae.linear_models(rng, prior_loc)
    vae = conditional_vae.exact_conditional_vae(base, offsets, prior_loc, prior)
    y = np.arange(30) % CLASSES
    x = np.stack([linear_vae.points(marginals[label], rng, 1)[0] for label in y])
    pairs = zip(x, y, strict=True)
    expected = np.array([marginals[label].log_marginal(one) for one, label in pairs])
    x = linear_vae.as_images(x)

    # log p(x, z|y) − log q(z|x, y) is log p(x|y) whatever z is.
    terms = vae.terms(x, y, num_samples=3, seed=1)
    size = np.abs(terms.log_likelihood) + np.abs(terms.kl) + 20
    assert np.all(np.abs(terms.log_weight - expected) < 50 * FLOAT32 * size)
    wrong = vae.terms(x, (y + 1) % CLASSES, num_samples=3, seed=1)
    assert np.abs(wrong.log_weight - expected).min(axis=0).mean() > 0.1

    # The ELBO itself estimates E[log p(x|z)]: within the error of its draws.
    count = 4000
    draws = np.asarray(vae.terms(x, y, num_samples=count, seed=2).log_likelihood)
    error = draws.std(axis=0, ddof=1) / count**0.5
    elbo = np.asarray(vae.elbo(x, y, num_samples=count, seed=2).elbo)
    assert np.all(np.abs(elbo - expected) < 4 * error)


def test_the_prior_of_a_class_has_its_closed_form(rng, data):
    x, y = data
    vae = make(prior="class_normal")
    loc = rng.normal(size=(CLASSES, LATENT)).astype("float32")
    log_var = rng.normal(size=(CLASSES, LATENT)).astype("float32")
    vae.prior_family.loc.assign(loc)
    vae.prior_family.log_var.assign(log_var)
    assert vae.kl_is_exact
    q = vae.encode(x, y)
    expected = gaussian_kl(q.mean(), np.log(q.variance()), loc[y], log_var[y]).sum(-1)
    np.testing.assert_allclose(vae.elbo(x, y).kl, expected, rtol=1e-5)

    p = vae.prior_of(y)
    assert (p.batch_shape, p.event_shape) == ((60,), (LATENT,))
    np.testing.assert_array_equal(p.mean(), loc[y])
    # Without a label it is the mixture of all with equal weights.
    mixture = vae.prior
    assert (mixture.batch_shape, mixture.event_shape) == ((), (LATENT,))
    z = rng.normal(size=(50, LATENT)).astype("float32")
    each = np.stack([vae.prior_of(label).log_prob(z) for label in range(CLASSES)])
    expected = np.log(np.mean(np.exp(each.astype("float64")), axis=0))
    np.testing.assert_allclose(mixture.log_prob(z), expected, rtol=1e-5)


def test_a_sample_comes_from_the_prior_of_its_label():
    vae = make(prior="class_normal")
    loc = np.array([[-9.0, 0.0], [0.0, 9.0], [9.0, 0.0]], "float32")
    vae.prior_family.loc.assign(loc)
    seen = []
    decode, vae.decode = vae.decode, lambda z, label: seen.append(z.numpy()) or decode(z, label)
    vae.sample(400, label=2, seed=1)
    vae.sample(3, label=[1, 0, 2], seed=1)
    # Of 400 draws from N(μ, 1) the mean is within 4/√400 of μ.
    assert np.abs(seen[0].mean(axis=0) - loc[2]).max() < 0.2
    assert np.abs(seen[0].std(axis=0) - 1).max() < 4 / 800**0.5
    assert np.abs(seen[1] - loc[[1, 0, 2]]).max() < 5


# --- saving and export ----------------------------------------------------------------------------


def test_save_and_load_keep_the_labels_part(data, tmp_path):
    x, y = data
    model = compiled(
        likelihood="normal:scale=learned",
        num_classes=np.int64(CLASSES),
        prior="class_normal",
        compile_options=EAGER,
    )
    model.fit(x, y, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.num_classes == CLASSES
    np.testing.assert_array_equal(loaded.code(x, y), model.code(x, y))
    np.testing.assert_array_equal(loaded.reconstruct(x, y), model.reconstruct(x, y))
    reports = [one.evaluate(x, y, verbose=0, return_dict=True) for one in (model, loaded)]
    assert reports[0] == reports[1]
    np.testing.assert_array_equal(
        loaded.sample(4, label=1, seed=1), model.sample(4, label=1, seed=1)
    )


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    keras.utils.set_random_seed(0)
    vae = make(prior="class_normal")
    vae.prior_family.loc.assign(np.array([[-9.0, 0.0], [0.0, 9.0], [9.0, 0.0]]))
    path = tmp_path_factory.mktemp("conditional") / "saved_model"
    vae.export(path)
    return vae, tf.saved_model.load(str(path)).signatures


def seeds(count):
    return np.stack([np.full(count, 5), np.arange(count)], axis=1).astype("int32")


@pytest.mark.exhaustive
def test_every_signature_takes_labels(exported, rng):
    vae, signatures = exported
    batch = 7
    x = tf.constant(rng.integers(0, 2, (batch, *SHAPE)), tf.float32)
    z = tf.constant(rng.normal(size=(batch, LATENT)), tf.float32)
    label = tf.constant((1 + np.arange(batch)) % CLASSES, tf.int32)
    seed = tf.constant(seeds(batch))
    for name, signature in signatures.items():
        spec = signature.structured_input_signature[1]["label"]
        assert (spec.shape.as_list(), spec.dtype) == ([None], tf.int32), name

    for name in ("reconstruct", "serving_default"):
        images = signatures[name](images=x, label=label)["images"]
        np.testing.assert_allclose(images, vae.reconstruct(x, label), atol=1e-6)
    q, encoded = vae.encode(x, label), signatures["encode"](images=x, label=label)
    np.testing.assert_allclose(encoded["loc"], q.mean(), atol=1e-6)
    np.testing.assert_allclose(encoded["scale"], q.stddev(), rtol=1e-5)
    decoded = signatures["decode"](z=z, label=label)["images"]
    np.testing.assert_allclose(decoded, vae.decode(z, label).mean(), atol=1e-6)
    scored = signatures["elbo"](images=x, seed=seed, label=label)
    for name, expected in vae.elbo(x, label, seed=seed)._asdict().items():
        np.testing.assert_allclose(scored[name], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.exhaustive
def test_a_seed_and_a_label_decide_a_served_sample_and_nothing_else_does(exported):
    vae, signatures = exported
    sample = signatures["sample"]
    label = np.array([0, 1, 2, 2, 1, 0], "int32")
    whole = sample(seed=tf.constant(seeds(6)), label=tf.constant(label))["images"]
    part = sample(seed=tf.constant(seeds(6)[3:5]), label=tf.constant(label[3:5]))["images"]
    np.testing.assert_allclose(part, whole[3:5], atol=1e-6)
    # Each image is decoded from a z near the mean of its own label's prior, with its own label.
    for index, one in enumerate(label):
        seed = tf.constant(seeds(6)[index])
        z = vae.prior_of([one]).sample(seed=seed)
        np.testing.assert_allclose(whole[index], vae.decode(z, [one]).mean()[0], atol=1e-6)
    other = sample(seed=tf.constant(seeds(6)), label=tf.constant((label + 1) % CLASSES))["images"]
    assert np.abs(whole - other).max(axis=(1, 2, 3)).min() > 1e-3


# --- networks of the user's own -------------------------------------------------------------------


def functional_encoder():
    """With the mean and the log-variance as its outputs, and the label beside the features."""
    image, label = keras.Input(SHAPE), keras.Input((CLASSES,))
    x = keras.layers.Conv2D(4, 3, strides=2, padding="same", activation="relu")(image)
    x = keras.layers.Concatenate()([keras.layers.Flatten()(x), label])
    return keras.Model([image, label], [keras.layers.Dense(LATENT)(x) for _ in range(2)])


class OwnEncoder(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.flatten = keras.layers.Flatten()
        self.hidden = keras.layers.Dense(8, activation="relu")

    def call(self, inputs):
        image, label = inputs
        return self.hidden(keras.ops.concatenate([self.flatten(image), label], axis=-1))


class OwnDecoder(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.hidden = keras.layers.Dense(8, activation="relu")

    def call(self, inputs):
        z, label = inputs
        return self.hidden(keras.ops.concatenate([z, label], axis=-1))


@pytest.mark.exhaustive
@pytest.mark.parametrize("kind", ["functional", "subclassed"])
def test_networks_of_ones_own_take_a_list_of_image_and_label(data, kind, tmp_path):
    x, y = data
    if kind == "functional":
        decoder = tfvae.networks.dense_decoder(SHAPE, LATENT, hidden=(8,), num_classes=CLASSES)
        pair = functional_encoder(), decoder
    else:
        pair = OwnEncoder(), OwnDecoder()
    vae = tfvae.VAE(*pair, LATENT, num_classes=CLASSES, seed=0)
    vae.compile("adam", run_eagerly=True)
    history = vae.fit(x, y, validation_data=(x, y), verbose=0).history
    assert np.isfinite(list(history.values())).all()
    if kind == "functional":
        loc, log_var = pair[0]([x, np.eye(CLASSES)[y]])
        np.testing.assert_allclose(vae.encode(x, y).mean(), loc, atol=1e-6)
        np.testing.assert_allclose(vae.encode(x, y).variance(), np.exp(log_var), rtol=1e-5)
    assert vae.sample(4, label=0).shape == (4, *SHAPE)
    assert np.abs(vae.code(x, 0) - vae.code(x, 1)).max() > 1e-4
    if kind == "functional":
        return
    vae.export(tmp_path / "own")
    served = tf.saved_model.load(str(tmp_path / "own")).signatures["encode"]
    label = tf.constant(y, tf.int32)
    np.testing.assert_allclose(
        served(images=tf.constant(x), label=label)["loc"], vae.code(x, y), atol=1e-6
    )
