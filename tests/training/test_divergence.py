"""A loss or gradient that is not finite ends a training before it reaches the weights."""

import keras
import numpy as np
import processes
import pytest
import tensorflow as tf

import tfvae
from tfvae.training import train
from tfvae.training.checkpoints import Checkpoints

SHAPE = (8, 8, 1)
STEPS = 6
# This batch, from 0, has an image that models choke on: it is all ones.
BAD = 3
SCALE = 16.0

# Where it is, and whether XLA compiles the step.
SEEN = [("loss", False), pytest.param("gradient", True, marks=pytest.mark.exhaustive)]


def choking(kind, what, value=np.nan):
    """Give a kind of model in whose training something is not finite for the image of all ones.

    That is a term, the loss alone, or the gradient alone.
    """

    class Choking(kind):
        def batch_losses(self, batch, seed, training, share=None):
            x = batch.x
            step = super().batch_losses(batch, seed, training, share)
            if not training:
                return step
            bad = tf.reduce_mean(x, axis=(1, 2, 3)) == 1
            if what == "gradient":
                return step._replace(loss=_with_gradient(step.loss, bad, value))
            loss = tf.where(bad, value, step.loss)
            terms = dict(step.terms)
            if what != "loss":
                terms[what] = tf.where(bad, value, terms[what])
            return step._replace(loss=loss, terms=terms)

    model = Choking(*tfvae.networks.pair("dense", SHAPE, 2, seed=0), 2, seed=0)
    model.likelihood_family.decoder_output = "features"
    return model


def _with_gradient(loss, bad, value):
    """Give the loss; its gradient is a value where an image is bad."""

    @tf.custom_gradient
    def identity(loss):
        return loss, lambda upstream: tf.where(bad, value, upstream)

    return identity(loss)


def images(value=1.0):
    x = (np.random.default_rng(0).random((4 * STEPS, *SHAPE)) < 0.3).astype("float32")
    x[4 * BAD + 2] = value
    return x


def batches(x):
    return tf.data.Dataset.from_tensor_slices(x).batch(4)


def weights_of(model):
    """Weights and the optimiser's variables, without the seeds, which go on."""
    variables = [*model.trainable_variables, *model.optimizer.variables]
    return [keras.ops.convert_to_numpy(variable) for variable in variables]


class Snapshot(keras.callbacks.Callback):
    """Keeps the weights after each batch."""

    def on_train_batch_end(self, batch, logs=None):
        self.weights = weights_of(self.model)


def scaled_adam():
    """The optimiser of mixed_float16, at a scale that its gradients do not overflow at."""
    return keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(), initial_scale=SCALE)


def assert_same(values, expected):
    for value, other in zip(values, expected, strict=True):
        np.testing.assert_array_equal(value, other)
        assert np.isfinite(value).all()


@pytest.mark.few(1)
@pytest.mark.parametrize(
    ("what", "name", "value"),
    [
        ("log_likelihood", "log-likelihood", np.nan),
        ("loss", "loss", np.inf),
        ("gradient", "gradient", np.nan),
    ],
)
def test_step_and_term_are_named_and_the_weights_those_before(what, name, value, tmp_path):
    model, snapshot = choking(tfvae.VAE, what, value), Snapshot()
    model.compile("adam")
    with pytest.raises(tfvae.DivergenceError) as info:
        train(
            model,
            batches(images()),
            callbacks=[snapshot],
            steps_per_call=1,
            checkpoint_dir=tmp_path,
            checkpoint_seconds=0,
            progress=False,
        )
    message = str(info.value)
    assert message.startswith(f"the {name} is not finite at step {BAD + 1} of epoch 1")
    (newest, _) = Checkpoints(tmp_path).files()
    assert f"the last checkpoint is {newest}" in message
    assert "\n" not in message
    assert model.optimizer.iterations == BAD
    assert_same(weights_of(model), snapshot.weights)


def test_steps_before_it_in_the_same_call_are_taken():
    model = choking(tfvae.VAE, "gradient")
    model.compile("adam")
    with pytest.raises(tfvae.DivergenceError, match=f"at step {BAD + 1} of epoch 1"):
        train(model, batches(images()), steps_per_call=100, progress=False)
    assert model.optimizer.iterations == BAD
    assert all(np.isfinite(weight).all() for weight in weights_of(model))


def test_a_weight_that_is_not_finite_is_seen_in_the_log_likelihood():
    model = tfvae.VAE.for_images(SHAPE, latent_dim=2, network="dense", seed=0)
    model.compile("adam")

    class Spoil(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 1:
                kernel = self.model.decoder.trainable_variables[0]
                kernel.assign(tf.fill(kernel.shape, np.nan))

    with pytest.raises(
        tfvae.DivergenceError, match="the log-likelihood is not finite at step 3 of"
    ):
        train(model, batches(images()), callbacks=[Spoil()], steps_per_call=1, progress=False)
    assert model.optimizer.iterations == 2


@pytest.mark.parametrize(("what", "jit_compile"), SEEN)
def test_a_skipped_batch_is_as_one_that_was_not_there(what, jit_compile):
    # Without noise, which would be that of the next step.
    skipping, without = (choking(tfvae.Autoencoder, what) for _ in range(2))
    x = images()
    for model, data, options in (
        (skipping, x, {"skip_non_finite": True}),
        (without, np.delete(x, range(4 * BAD, 4 * BAD + 4), axis=0), {}),
    ):
        jit = jit_compile and model is skipping
        model.compile(keras.optimizers.SGD(1e-3, momentum=0.9), jit_compile=jit)
        history = train(model, batches(data), progress=False, **options).history
        assert model.optimizer.iterations == STEPS - 1
        assert np.isfinite(history["loss"]).all()
    for one, other in zip(weights_of(skipping), weights_of(without), strict=True):
        # Five updates, their sums in any order of threads.
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("what", "jit_compile"), SEEN)
def test_fit_ends_at_it_and_leaves_the_weights(what, jit_compile):
    """Where XLA compiles the step, later batches may be taken, but never this one."""
    model = choking(tfvae.VAE, what)
    model.compile("adam", jit_compile=jit_compile)
    words = r"the (loss|gradient|loss or its gradient) is not finite"
    with pytest.raises(tfvae.DivergenceError, match=words):
        model.fit(batches(images()), verbose=0)
    assert model.optimizer.iterations == (STEPS - 1 if jit_compile else BAD)
    assert all(np.isfinite(weight).all() for weight in weights_of(model))


def test_gradients_that_overflow_in_float16_lower_the_loss_scale_instead():
    keras.config.set_dtype_policy("mixed_float16")
    model = choking(tfvae.VAE, "gradient", np.inf)
    model.compile(scaled_adam())
    train(model, batches(images()), progress=False)
    assert float(model.optimizer.dynamic_scale) == SCALE / 2
    assert model.optimizer.inner_optimizer.iterations == STEPS - 1
    assert all(np.isfinite(weight).all() for weight in weights_of(model))


def test_a_loss_that_is_not_finite_ends_a_training_in_float16_as_well():
    keras.config.set_dtype_policy("mixed_float16")
    model = choking(tfvae.VAE, "kl")
    model.compile(scaled_adam())
    with pytest.raises(tfvae.DivergenceError, match="the kl is not finite at step 4"):
        train(model, batches(images()), progress=False)
    assert model.optimizer.inner_optimizer.iterations == BAD


@pytest.mark.exhaustive
def test_foreign_images_end_a_training_before_they_reach_the_weights():
    model, snapshot = tfvae.VAE.for_images(SHAPE, latent_dim=2, network="dense"), Snapshot()
    model.compile("adam")
    data = batches(images(255.0))
    # They are the data's fault, and no batch to leave out.
    with pytest.raises(tfvae.InputError, match=r"received values from 0(\.0)? to 255") as info:
        train(
            model,
            data,
            callbacks=[snapshot],
            steps_per_call=1,
            skip_non_finite=True,
            progress=False,
        )
    assert "\n" not in str(info.value)
    assert model.optimizer.iterations == BAD
    assert_same(weights_of(model), snapshot.weights)
    with pytest.raises(tfvae.InputError, match=r"validation: .* to 255"):
        train(model, data.take(BAD), validation_data=data, progress=False)


def train_on_two_devices():
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
    )
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    with strategy.scope():
        stopping = choking(tfvae.VAE, "gradient")
        stopping.compile("adam")
    with pytest.raises(tfvae.DivergenceError, match="the gradient is not finite at step 4"):
        train(stopping, batches(images()), progress=False)
    assert stopping.optimizer.iterations == BAD
    keras.config.set_dtype_policy("mixed_float16")
    with strategy.scope():
        overflowing = choking(tfvae.VAE, "gradient", np.inf)
        overflowing.compile(scaled_adam())
    train(overflowing, batches(images()), progress=False)
    assert overflowing.optimizer.dynamic_scale == SCALE / 2
    assert overflowing.optimizer.inner_optimizer.iterations == STEPS - 1
    for variable in (*stopping.variables, *overflowing.variables):
        for copy in strategy.experimental_local_results(variable.value):
            assert np.isfinite(copy).all()


@pytest.mark.exhaustive
def test_one_of_two_devices_that_sees_it_stops_both():
    assert processes.run(train_on_two_devices) == "done"
