"""`VAE` and `Autoencoder` as Keras models: what a user of `fit` expects to work."""

import json

import keras
import numpy as np
import processes
import pytest
import tensorflow as tf

import tfvae

SHAPE = (8, 8, 1)


@pytest.fixture
def x(rng):
    """Binary images with something to learn: a bright half, and noise."""
    bright = rng.integers(0, 2, (60, 1, 1, 1))
    return (rng.random((60, *SHAPE)) < 0.1 + 0.8 * bright).astype("float32")


def make(cls=tfvae.VAE, **kwargs):
    options = {"latent_dim": 2, "network": "dense:hidden=32", "seed": 0}
    return cls.for_images(SHAPE, **{**options, **kwargs})


def compiled(cls=tfvae.VAE, optimizer="adam", metrics=None, **kwargs):
    compile_options = {
        key: kwargs.pop(key)
        for key in ("run_eagerly", "jit_compile", "steps_per_execution", "weighted_metrics")
        if key in kwargs
    }
    model = make(cls, **kwargs)
    model.compile(optimizer, metrics=metrics, **compile_options)
    return model


def sources(x):
    """Every kind of input that `fit` takes."""
    labels = np.arange(len(x)) % 3
    weights = np.ones(len(x), "float32")
    from_slices = tf.data.Dataset.from_tensor_slices

    class Sequence(keras.utils.PyDataset):
        def __len__(self):
            return 3

        def __getitem__(self, index):
            return x[20 * index : 20 * (index + 1)], labels[20 * index : 20 * (index + 1)]

    return {
        "array": (x, {}),
        "array and itself": (x, {"y": x}),
        "array, labels, weights": (x, {"y": labels, "sample_weight": weights}),
        "tensor": (tf.constant(x), {}),
        "data set of x": (from_slices(x).batch(25), {}),
        "data set of (x, x)": (from_slices((x, x)).batch(25), {}),
        "data set of (x, label)": (from_slices((x, labels)).batch(25), {}),
        "data set of (x, label, weight)": (from_slices((x, labels, weights)).batch(25), {}),
        "PyDataset": (Sequence(), {}),
        "generator": (((x[i : i + 20],) for i in (0, 20, 40)), {"steps_per_epoch": 3}),
    }


def test_fit_takes_every_kind_of_input(x):
    model = compiled(run_eagerly=True)
    for kind, (source, options) in sources(x).items():
        before = int(model.optimizer.iterations)
        history = model.fit(source, verbose=0, **options).history
        assert np.isfinite(history["loss"]).all(), kind
        # Arrays come in Keras' batches of 32, the last one partial; the others as they are batched.
        steps = 2 if kind[:5] in ("array", "tenso") else 3
        assert model.optimizer.iterations - before == steps, kind
        assert set(history) == {"loss", *model.term_names}, kind


def test_validation_reports_the_negative_elbo_at_beta_one(x):
    vae = compiled(objective="elbo:beta=0.25", run_eagerly=True)
    held_out = x[:25]
    data = tf.data.Dataset.from_tensor_slices((held_out, np.zeros(25))).batch(10)
    for given in (None, held_out, (held_out, held_out), data):
        option = {"validation_split": 0.25} if given is None else {"validation_data": given}
        history = vae.fit(x, verbose=0, **option).history
        history = {name: value for name, (value,) in history.items()}
        np.testing.assert_allclose(history["val_loss"], -history["val_elbo"], rtol=1e-6)
        np.testing.assert_allclose(
            history["val_elbo"], history["val_log_likelihood"] - history["val_kl"], rtol=1e-6
        )
        expected = -(history["log_likelihood"] - 0.25 * history["kl"])
        np.testing.assert_allclose(history["loss"], expected, rtol=1e-5)


@pytest.mark.exhaustive
def test_evaluation_is_repeatable_and_leaves_training_alone(x):
    alone, watched = (compiled(run_eagerly=True) for _ in range(2))
    alone.fit(x, epochs=2, verbose=0, shuffle=False)
    watched.fit(x, epochs=2, verbose=0, shuffle=False, validation_data=(x,))
    for one, other in zip(alone.trainable_variables, watched.trainable_variables, strict=True):
        np.testing.assert_array_equal(one, other)
    first, second = (watched.evaluate(x, verbose=0, return_dict=True) for _ in range(2))
    assert first == second


def test_metrics_weigh_images_not_batches(x):
    vae = compiled()
    one_batch = vae.evaluate(x, batch_size=60, verbose=0, return_dict=True)
    partial_last = vae.evaluate(x, batch_size=50, verbose=0, return_dict=True)
    # The KL is closed-form: no noise between the two, only the order of summation.
    np.testing.assert_allclose(one_batch["kl"], partial_last["kl"], rtol=1e-5)
    kl = vae.elbo(x).kl
    np.testing.assert_allclose(one_batch["kl"], np.mean(kl), rtol=1e-5)


def test_with_sample_weights_every_figure_is_a_weighted_mean(x):
    weights = np.linspace(0.0, 2.0, len(x)).astype("float32")
    weights *= 1.5  # of a mean that is not 1
    vae = compiled()
    report = vae.evaluate(x, sample_weight=weights, batch_size=60, verbose=0, return_dict=True)
    vae.reset_metrics()
    seed = [tfvae.models.base._validation_seed(vae.seed), 0]
    elbo, log_likelihood, kl = (np.asarray(term) for term in vae.elbo(x, seed=seed))
    np.testing.assert_allclose(report["loss"], -np.average(elbo, weights=weights), rtol=1e-5)
    np.testing.assert_allclose(report["loss"], -report["elbo"], rtol=1e-6)
    np.testing.assert_allclose(report["kl"], np.average(kl, weights=weights), rtol=1e-5)
    np.testing.assert_allclose(
        report["log_likelihood"], np.average(log_likelihood, weights=weights), rtol=1e-5
    )


def test_images_of_weight_zero_give_no_gradient(x):
    weights = np.zeros(len(x), "float32")
    vae = compiled(optimizer="sgd")
    vae.adapted = True  # a start takes the events, whatever they weigh
    before = [variable.numpy() for variable in vae.trainable_variables]
    vae.fit(x, sample_weight=weights, verbose=0)
    for old, new in zip(before, vae.trainable_variables, strict=True):
        np.testing.assert_array_equal(old, new)


def test_predict_call_and_reconstruct_agree(x):
    vae = make()
    np.testing.assert_allclose(vae.predict(x, verbose=0), vae(x), atol=1e-6)
    np.testing.assert_array_equal(vae.reconstruct(x), vae(x))
    np.testing.assert_allclose(vae(x), vae.decode(vae.encode(x).mean()).mean(), atol=1e-6)


@pytest.mark.exhaustive
def test_ways_of_running_give_the_same_weights(x):
    reference, other = compiled(run_eagerly=True), compiled(steps_per_execution=2)
    for model in (reference, other):
        model.fit(x, epochs=2, batch_size=25, shuffle=False, verbose=0)
    for one, two in zip(reference.trainable_variables, other.trainable_variables, strict=True):
        # Adam divides by the gradient's own size: rounding shows in its steps of 1e-3.
        np.testing.assert_allclose(one, two, atol=2e-4)


@pytest.mark.exhaustive
def test_training_under_xla_is_right_and_repeatable(x):
    """XLA draws other noise from the same seed, so its weights are its own."""
    model = compiled(jit_compile=True)
    loss = model.fit(x, epochs=5, batch_size=30, shuffle=False, verbose=0).history["loss"]
    assert loss[-1] < loss[0]
    one, two = (model.evaluate(x, batch_size=30, verbose=0, return_dict=True) for _ in range(2))
    assert one == two
    # Closed form, so without noise.
    np.testing.assert_allclose(one["kl"], np.mean(model.elbo(x).kl), rtol=1e-5)


@pytest.mark.exhaustive
def test_callbacks_do_their_jobs(x):
    vae = compiled(run_eagerly=True)
    rates = []
    history = vae.fit(
        x,
        epochs=8,
        validation_split=0.2,
        verbose=0,
        callbacks=[
            keras.callbacks.EarlyStopping("val_loss", patience=0, min_delta=1e9),
            keras.callbacks.LearningRateScheduler(lambda epoch: rates.append(epoch) or 1e-4),
        ],
    ).history
    assert len(history["loss"]) == 2
    assert rates == [0, 1]


def test_regularisation_is_in_the_loss_and_not_in_the_elbo(x):
    encoder = keras.Sequential(
        [
            keras.Input(SHAPE),
            keras.layers.Flatten(),
            keras.layers.Dense(4, kernel_regularizer=keras.regularizers.L2(1.0)),
        ]
    )
    vae = tfvae.VAE(encoder, tfvae.networks.dense_decoder(SHAPE, 2), 2, seed=0)
    vae.compile(keras.optimizers.SGD(0.0))
    report = vae.fit(x, batch_size=60, verbose=0).history
    penalty = float(tf.reduce_sum(encoder.layers[-1].kernel ** 2))
    np.testing.assert_allclose(report["loss"][0], -report["elbo"][0] + penalty, rtol=1e-5)


# --- saving ---------------------------------------------------------------------------------------


def test_save_and_load_keep_everything(x, tmp_path):
    model = compiled(likelihood="laplace:scale=learned", latent_dim=3, run_eagerly=True)
    model.fit(x, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    loaded.run_eagerly = True
    np.testing.assert_array_equal(loaded.code(x), model.code(x))
    np.testing.assert_array_equal(loaded(x), model(x))
    # By way of JSON, which has no tuples.
    assert json.loads(json.dumps(loaded.get_config())) == json.loads(json.dumps(model.get_config()))
    # The optimiser goes on where it was.
    for one in (model, loaded):
        one.fit(x, shuffle=False, batch_size=60, verbose=0)
    assert loaded.optimizer.iterations == model.optimizer.iterations == 3


def test_weights_alone_go_from_model_to_model(x, tmp_path):
    one, other = make(seed=1), make(seed=2)
    assert np.abs(one.code(x) - other.code(x)).max() > 1e-3
    one.save_weights(tmp_path / "vae.weights.h5")
    other.load_weights(tmp_path / "vae.weights.h5")
    np.testing.assert_array_equal(one.code(x), other.code(x))


# --- networks of the user's own -------------------------------------------------------------------


class HandWrittenEncoder(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.flatten = keras.layers.Flatten()
        self.hidden = keras.layers.Dense(8, activation="relu")

    def call(self, x):
        return self.hidden(self.flatten(x))


class HandWrittenDecoder(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.hidden = keras.layers.Dense(64)
        self.reshape = keras.layers.Reshape(SHAPE)

    def call(self, z):
        return self.reshape(self.hidden(z))


class Sampling(keras.layers.Layer):
    def call(self, inputs):
        loc, log_var = inputs
        return loc + keras.ops.exp(0.5 * log_var) * keras.random.normal(keras.ops.shape(loc))


def three_output_encoder():
    """The encoder of many tutorials: mean, log-variance and a sample."""
    inputs = keras.Input(SHAPE)
    h = keras.layers.Conv2D(4, 3, strides=2, padding="same", activation="relu")(inputs)
    h = keras.layers.Flatten()(h)
    loc, log_var = keras.layers.Dense(2)(h), keras.layers.Dense(2)(h)
    return keras.Model(inputs, [loc, log_var, Sampling()([loc, log_var])])


def sigmoid_decoder():
    return keras.Sequential(
        [
            keras.Input((2,)),
            keras.layers.Dense(4 * 4 * 4, activation="relu"),
            keras.layers.Reshape((4, 4, 4)),
            keras.layers.Conv2DTranspose(4, 3, strides=2, padding="same", activation="relu"),
            keras.layers.Conv2DTranspose(1, 3, padding="same", activation="sigmoid"),
        ]
    )


def test_the_tutorial_pair_of_networks_works_as_it_is(x):
    encoder, decoder = three_output_encoder(), sigmoid_decoder()
    vae = tfvae.VAE(encoder, decoder, latent_dim=2, seed=0)
    loc, log_var, _ = encoder(x)
    np.testing.assert_allclose(vae.encode(x).mean(), loc, atol=1e-6)
    np.testing.assert_allclose(vae.encode(x).variance(), np.exp(log_var), rtol=1e-5)
    np.testing.assert_allclose(vae(x), decoder(loc), atol=1e-5)
    vae.compile("adam")
    vae.fit(x, verbose=0)


def test_subclassed_networks_build_at_first_sight_of_images(x):
    vae = tfvae.VAE(
        HandWrittenEncoder(),
        HandWrittenDecoder(),
        latent_dim=2,
        likelihood=tfvae.likelihoods.Bernoulli(decoder_output="parameters"),
        seed=0,
    )
    with pytest.raises(tfvae.InputError, match="does not know its event shape yet"):
        vae.sample(1)
    vae.compile("adam")
    history = vae.fit(x, epochs=2, validation_data=(x,), verbose=0).history
    assert np.isfinite(history["val_loss"]).all()
    assert vae.sample(3).shape == (3, *SHAPE)
    assert vae.optimizer.iterations == 4


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: tfvae.VAE(three_output_encoder(), sigmoid_decoder(), latent_dim=3),
            r"\[loc, log_var\], each \[batch, 3\]; received shapes",
        ),
        (
            lambda: tfvae.VAE(tfvae.networks.conv_encoder(SHAPE), sigmoid_decoder(), latent_dim=5),
            r"the decoder takes \[batch, 2\], but must take \[batch, 5\]",
        ),
        (
            lambda: tfvae.VAE(tfvae.networks.conv_encoder((9, 9, 1)), sigmoid_decoder(), 2),
            r"decoder of events \[9, 9, 1\] must put out .* received shape \(None, 8, 8, 1\)",
        ),
        (lambda: tfvae.VAE("encoder", sigmoid_decoder(), 2), "encoder must be a keras.Model"),
        (lambda: make(latent_dim=0), "latent_dim is a whole number from 1; received 0"),
        (lambda: make(latent_dim=2.5), "latent_dim is a whole number from 1; received 2.5"),
        (lambda: make(seed=-1), "seed is a whole number from 0"),
        (lambda: make(network="transformer"), "unknown network 'transformer': expected one of"),
        (lambda: make(likelihood="gauss"), "unknown likelihood 'gauss': expected one of bernoulli"),
        (lambda: make(posterior="flow"), "unknown posterior 'flow'"),
        (lambda: make(prior=3), "a prior is a name or a tfvae Prior; received 3"),
        (lambda: make(objective="elbo:beta=-1"), "beta is a number of at least 0; received -1"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(build, message):
    with pytest.raises(tfvae.InputError, match=message) as caught:
        build()
    assert "\n" not in str(caught.value)


# --- what comes in --------------------------------------------------------------------------------


@pytest.mark.few(5)
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda x: x * 255, r"Bernoulli expects values in \[0, 1\]; received .* from 0 to 255: "),
        (lambda x: x - 1, r"received values from -1 to 0"),
        (lambda x: np.where(x > 0, np.nan, x), "remove or replace NaN"),
        (lambda x: x[..., 0], r"received shape \[60, 8, 8\]: add the missing axis, x\[..., None\]"),
        (lambda x: np.repeat(x, 3, -1), r"expected images \[batch, 8, 8, 1\]; received .* 8, 3\]"),
        (lambda x: x[:, :7], r"received shape \[60, 7, 8, 1\]"),
        (lambda x: x[:0], "expected at least one image; received an empty array"),
    ],
)
def test_bad_images_are_refused_by_fit_and_evaluate(x, spoil, message):
    vae = compiled()
    before = [variable.numpy() for variable in vae.trainable_variables]
    bad = spoil(x)
    attempts = [lambda: vae.fit(bad, verbose=0), lambda: vae.evaluate(bad, verbose=0)]
    attempts.append(lambda: vae.fit(x, validation_data=(bad,), verbose=0))
    for attempt in attempts:
        with pytest.raises(tfvae.InputError, match=message) as caught:
            attempt()
        assert "\n" not in str(caught.value)
    for old, new in zip(before, vae.trainable_variables, strict=True):
        np.testing.assert_array_equal(old, new)


def test_bad_shape_in_a_data_set_is_refused(x):
    data = tf.data.Dataset.from_tensor_slices(x[:, :5]).batch(20)
    with pytest.raises(tfvae.InputError, match="expected images"):
        compiled().fit(data, verbose=0)


def test_a_loss_is_refused_with_the_place_where_it_goes():
    with pytest.raises(tfvae.InputError, match=r"received 'mse': the objective .* objective="):
        make().compile("adam", loss="mse")
    with pytest.raises(tfvae.InputError, match="compile takes no loss"):
        make().compile("adam", "mse")


# --- images out -----------------------------------------------------------------------------------


def test_equal_seeds_give_equal_draws(x):
    vae = make()
    for draw in (
        lambda seed: vae.sample(4, seed=seed),
        lambda seed: vae.sample(4, seed=seed, mean=False),
        lambda seed: vae.elbo(x, seed=seed).elbo,
    ):
        np.testing.assert_array_equal(draw(3), draw(3))
        np.testing.assert_array_equal(draw([3, 1]), draw(tf.constant([3, 1])))
        assert np.abs(draw(3) - draw(4)).max() > 1e-4
        assert np.abs(draw(None) - draw(None)).max() > 1e-4
    one, other = make(seed=5), make(seed=5)
    np.testing.assert_array_equal(one.sample(2), other.sample(2))
    with pytest.raises(tfvae.InputError, match="a seed is a whole number, a pair"):
        vae.sample(2, seed=[1, 2, 3])


def test_a_seed_for_each_image_makes_its_draw_independent_of_the_batch(x):
    vae = make()
    seeds = np.stack([np.full(len(x), 7), np.arange(len(x))], axis=1)
    whole = vae.elbo(x, seed=seeds, num_samples=3).elbo
    part = vae.elbo(x[10:13], seed=seeds[10:13], num_samples=3).elbo
    np.testing.assert_allclose(whole[10:13], part, rtol=1e-5)


def test_samples_from_the_likelihood_are_binary_and_average_to_the_mean():
    vae = make()
    z = tf.zeros((1, 2))
    p = vae.decode(z)
    draws = p.sample(4000, seed=1)
    assert set(np.unique(draws)) == {0.0, 1.0}
    mean = np.asarray(p.mean())
    standard_error = np.sqrt(mean * (1 - mean) / 4000)
    assert np.all(np.abs(np.mean(draws, axis=0) - mean) < 5 * standard_error)
    assert set(np.unique(vae.sample(5, seed=0, mean=False))) == {0.0, 1.0}


def test_shapes_of_the_three_distributions(x):
    vae = make(latent_dim=3)
    q = vae.encode(x)
    assert (q.batch_shape, q.event_shape) == ((60,), (3,))
    assert (vae.prior.batch_shape, vae.prior.event_shape) == ((), (3,))
    for leading in [(), (5,), (4, 5), (2, 4, 5)]:
        p = vae.decode(tf.zeros((*leading, 3)))
        assert (p.batch_shape, p.event_shape) == (leading, SHAPE)
    with pytest.raises(tfvae.InputError, match=r"expected latent vectors \[..., 3\]"):
        vae.decode(tf.zeros((5, 2)))


def test_interpolation_starts_and_ends_at_the_reconstructions(x):
    vae = make()
    single = vae.interpolate(x[0], x[1], steps=5)
    assert single.shape == (5, *SHAPE)
    np.testing.assert_allclose(single[0], vae.reconstruct(x[:1])[0], atol=1e-5)
    np.testing.assert_allclose(single[-1], vae.reconstruct(x[1:2])[0], atol=1e-5)
    middle = (vae.code(x[:1]) + vae.code(x[1:2])) / 2
    np.testing.assert_allclose(single[2], vae.decode(middle).mean()[0], atol=1e-5)
    assert vae.interpolate(x[:3], x[3:6], steps=4).shape == (3, 4, *SHAPE)
    with pytest.raises(tfvae.InputError, match="of one shape"):
        vae.interpolate(x[:3], x[3:5])
    with pytest.raises(tfvae.InputError, match="steps is a whole number from 2"):
        vae.interpolate(x[0], x[1], steps=1)


def test_traversal_changes_one_dimension_alone(x):
    vae = make(latent_dim=3)
    walk = vae.traverse(x[0], 1, [-2.0, 0.0, 2.0])
    assert walk.shape == (3, *SHAPE)
    code = np.array(vae.code(x[:1]))
    code[0, 1] = 2.0
    np.testing.assert_allclose(walk[2], vae.decode(code).mean()[0], atol=1e-5)
    assert vae.traverse(x[:4], 0, [0.0, 1.0]).shape == (4, 2, *SHAPE)
    with pytest.raises(tfvae.InputError, match="dimension is a whole number from 0 to 2"):
        vae.traverse(x[0], 3, [0.0])


def test_an_autoencoder_reconstructs_and_cannot_sample(x):
    optimizer = keras.optimizers.Adam(3e-2)
    model = compiled(tfvae.Autoencoder, optimizer=optimizer, network="dense:hidden=64")
    model.fit(tf.data.Dataset.from_tensors(x).repeat(100), verbose=0)
    log_likelihood = np.asarray(model.decode(model.code(x)).log_prob(x))
    model.run_eagerly = True
    report = model.evaluate(x, verbose=0, return_dict=True)
    np.testing.assert_allclose(report["loss"], -np.mean(log_likelihood), rtol=1e-5)
    # Without a KL to pay it beats the entropy rate of the noise, 64 H(0.1) = 20.8 nats.
    assert np.mean(log_likelihood) > -20
    np.testing.assert_array_equal(model.encode(x), model.code(x))
    with pytest.raises(tfvae.InputError, match=r"cannot sample: it has no distribution p\(z\)"):
        model.sample(4)


@pytest.mark.exhaustive
def test_half_precision_keeps_losses_in_float32_and_trains(x):
    keras.config.set_dtype_policy("mixed_float16")
    vae = compiled(network="conv:filters=4,hidden=8", likelihood="normal:scale=per_value")
    assert vae.encoder(x).dtype == "float16"
    terms = vae.elbo(x)
    assert {term.dtype for term in terms} == {tf.float32}
    assert vae.encode(x).mean().dtype == vae(x).dtype == tf.float32
    loss = vae.fit(x, batch_size=30, epochs=10, verbose=0).history["loss"]
    assert np.isfinite(loss).all()
    assert loss[-1] < loss[0]
    assert "LossScale" in type(vae.optimizer).__name__


def test_images_reach_the_likelihood_in_full_precision():
    keras.config.set_dtype_policy("mixed_bfloat16")
    vae = make(likelihood="normal:scale=0.01")
    x = np.full((1, *SHAPE), 0.123456, "float32")
    z = tf.zeros((1, 2))
    loc = np.asarray(vae.decode(z).mean(), "float64")
    expected = np.sum(
        -0.5 * ((np.float64(x) - loc) / 0.01) ** 2 - np.log(0.01) - 0.5 * np.log(2 * np.pi)
    )
    np.testing.assert_allclose(vae.decode(z).log_prob(x)[0], expected, rtol=1e-5)


def fit_on_one_device_and_on_two():
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    x = np.random.default_rng(0).integers(0, 2, (40, *SHAPE)).astype("float32")
    data = tf.data.Dataset.from_tensor_slices(x).batch(20)

    def kl_gradient_step():
        # beta = 1 and a likelihood of huge scale: what is left is the KL, which has no noise.
        return compiled(optimizer=keras.optimizers.SGD(1e-4), likelihood="normal:scale=1e6")

    one = kl_gradient_step()
    one.fit(data, epochs=1, verbose=0)
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    with strategy.scope():
        two = kl_gradient_step()
    two.fit(data, epochs=1, verbose=0)
    for a, b in zip(one.encoder.trainable_variables, two.encoder.trainable_variables, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


@pytest.mark.exhaustive
def test_fit_under_a_mirrored_strategy_is_fit_on_one_device():
    """In a process of its own: logical devices must be made before TensorFlow starts."""
    assert processes.run(fit_on_one_device_and_on_two) == "done"
