"""Weights that change from step to step: their values, and the steps they are read at."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from linear_vae import LATENT, D, as_images, linear_gaussian, linear_vae

from tfvae import InputError, objectives
from tfvae.objectives import schedules
from tfvae.objectives.schedules import Constant, Cyclical, Linear
from tfvae.training import train

# --- values ---------------------------------------------------------------------------------------


def test_a_constant_stays():
    schedule = Constant(0.25)
    assert [float(schedule(step)) for step in (0, 1, 10**6)] == [0.25] * 3


@pytest.mark.parametrize(
    ("step", "weight"), [(0, 0.0), (1, 0.4), (5, 2.0), (9, 3.6), (10, 4.0), (11, 4.0), (10**6, 4.0)]
)
def test_a_line_rises_and_stays(step, weight):
    schedule = Linear(10, end=4)
    np.testing.assert_allclose(schedule(step), weight, rtol=1e-6)
    np.testing.assert_allclose(schedule(tf.constant(step, tf.int64)), weight, rtol=1e-6)


def test_a_line_may_fall():
    schedule = Linear(4, start=3, end=1)
    values = [float(schedule(step)) for step in range(6)]
    np.testing.assert_allclose(values, [3, 2.5, 2, 1.5, 1, 1], rtol=1e-6)


def test_a_cycle_rises_rests_and_begins_anew():
    schedule = Cyclical(10, ratio=0.5, end=4)
    cycle = [0, 0.8, 1.6, 2.4, 3.2, 4, 4, 4, 4, 4]
    values = [float(schedule(step)) for step in range(25)]
    np.testing.assert_allclose(values, (cycle * 3)[:25], rtol=1e-6)


def test_a_cycle_may_rise_to_its_end():
    schedule = Cyclical(4, ratio=1, start=1, end=2)
    values = [float(schedule(step)) for step in range(6)]
    np.testing.assert_allclose(values, [1, 1.25, 1.5, 1.75, 1, 1.25], rtol=1e-6)


@pytest.mark.parametrize("offset", [0, 1, 3, 5, 9])
def test_cycles_go_on_beyond_what_float32_counts(offset):
    # 2^24 + 1 is no float32, and 2^40 no int32: the remainder is taken of the whole number.
    schedule = Cyclical(10, ratio=0.5)
    for large in (10 * 2**24, 10 * 2**37):
        step = tf.constant(large + offset, tf.int64)
        np.testing.assert_allclose(schedule(step), min(offset / 5, 1), rtol=1e-6)


def test_a_long_line_is_right_beyond_what_float32_counts():
    # Relative to the length, not in steps: one step of 2^30 is beyond the precision of a weight.
    schedule = Linear(2**30)
    for step in (2**24 + 1, 2**29, 2**30 - 1, 2**30, 2**40):
        at = schedule(tf.constant(step, tf.int64))
        np.testing.assert_allclose(at, min(step / 2**30, 1), rtol=1e-6)


def test_the_counter_of_an_optimiser_is_a_step():
    optimizer = keras.optimizers.SGD()
    optimizer.build([keras.Variable(0.0)])
    optimizer.iterations.assign(5)
    for schedule in (Linear(10), Cyclical(10, ratio=1)):
        assert float(schedule(optimizer.iterations)) == 0.5
        assert schedule(optimizer.iterations).dtype == tf.float32


def test_steps_left_to_the_last_weight():
    assert Linear(7).warm_up_steps == 7
    assert Cyclical(10, ratio=0.25).warm_up_steps == 3


# --- what stands for a schedule -------------------------------------------------------------------


def test_a_number_is_a_constant():
    assert float(schedules.get(2)(7)) == 2.0
    assert float(schedules.get(np.float32(0.5))(7)) == 0.5


def test_text_in_an_objective():
    beta = objectives.get("elbo:beta=linear(steps=1000,end=4)").beta
    assert (type(beta), beta.get_config()) == (Linear, {"steps": 1000, "start": 0.0, "end": 4.0})
    assert objectives.get("elbo:beta=linear(steps=1000)").beta.end == 1.0
    objective = objectives.get("elbo:beta=cyclical(period=10,ratio=0.5,end=4),num_samples=3")
    assert isinstance(objective.beta, Cyclical)
    assert objective.beta.get_config() == {"period": 10, "ratio": 0.5, "start": 0.0, "end": 4.0}
    assert objective.num_samples == 3
    assert objectives.get("elbo:beta=constant(value=2)").beta.value == 2.0
    assert objectives.get("elbo: beta = linear ( steps = 5 )").beta.steps == 5
    assert objectives.get("elbo(beta=linear(steps=5))").beta.steps == 5
    assert objectives.get("capacity:capacity=linear(steps=9,end=3),gamma=7").capacity.end == 3.0


@pytest.mark.parametrize("needed", ["linear", "cyclical"])
def test_the_advice_on_a_missing_option_is_right(needed):
    with pytest.raises(InputError) as caught:
        objectives.get(f"elbo:beta={needed}")
    advised = str(caught.value).partition("write ")[2].replace("VALUE", "5")
    assert isinstance(objectives.get(f"elbo:beta={advised}").beta, schedules.BY_NAME[needed])


def test_a_schedule_of_keras_will_do():
    decay = keras.optimizers.schedules.PolynomialDecay(4.0, 10, end_learning_rate=1.0)
    objective = objectives.ELBO(beta=decay)
    assert objective.beta is decay
    assert objective.schedules == (decay,)
    np.testing.assert_allclose(objective.beta(5), 2.5, rtol=1e-6)
    again = objectives.ELBO.from_config(objective.get_config())
    assert again.beta.get_config() == decay.get_config()


@pytest.mark.parametrize(
    "schedule",
    [Constant(0.5), Linear(10, 0.1, 4), Cyclical(10, 0.3, 0.1, 4)],
    ids=lambda s: type(s).__name__,
)
def test_configurations_make_the_same_again(schedule):
    config = keras.saving.serialize_keras_object(schedule)
    again = keras.saving.deserialize_keras_object(config)
    assert type(again) is type(schedule)
    assert again.get_config() == schedule.get_config()
    assert schedules.get(config).get_config() == schedule.get_config()
    made = schedules.get(schedules.serialize(schedule))
    assert made.get_config() == schedule.get_config()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Linear(0), "steps is a whole number from 1; received 0"),
        (lambda: Linear(-5), "steps is a whole number from 1; received -5"),
        (lambda: Linear(2.5), "steps is a whole number from 1; received 2.5"),
        (lambda: Linear(True), "steps is a whole number from 1; received True"),
        (lambda: Linear(5, end=-1), "end is a number of at least 0; received -1"),
        (lambda: Linear(5, start=np.nan), "start is a number of at least 0; received nan"),
        (lambda: Constant(np.inf), "a weight is a number of at least 0; received inf"),
        (lambda: Cyclical(0), "period is a whole number from 1; received 0"),
        (lambda: Cyclical(5, ratio=0), "ratio lies above 0 and is at most 1; received 0"),
        (lambda: Cyclical(5, ratio=1.5), "ratio lies above 0 and is at most 1; received 1.5"),
        (lambda: Cyclical(5, ratio="a"), "ratio lies above 0 and is at most 1; received 'a'"),
        (lambda: schedules.get(-1, "beta"), "beta is a number of at least 0; received -1"),
        (
            lambda: objectives.get("elbo:beta=cosine(steps=5)"),
            "one of constant, linear, cyclical with options, as in 'linear(steps=1000)'; "
            r"received 'cosine\(steps=5\)'",
        ),
        (
            lambda: objectives.get("elbo:beta=linear(length=5)"),
            "unknown option 'length' of schedule 'linear': expected steps or start or end",
        ),
        (
            lambda: objectives.get("elbo:beta=linear(steps=0)"),
            "steps is a whole number from 1; received 0",
        ),
        (lambda: objectives.ELBO(beta=True), "beta is a number of at least 0.*received True"),
        (lambda: objectives.ELBO(beta=[1]), r"beta is a number of at least 0.*received \[1\]"),
        (
            lambda: objectives.get("capacity:capacity=cosine"),
            "capacity is a number of at least 0.*constant, linear, cyclical.*received 'cosine'",
        ),
    ],
)
def test_bad_schedules_are_refused_in_one_line(make, message):
    with pytest.raises(InputError, match=message.replace("(steps=1000)", r"\(steps=1000\)")) as e:
        make()
    assert "\n" not in str(e.value)


# --- in training ----------------------------------------------------------------------------------


def images(count=4):
    return as_images(np.random.default_rng(0).standard_normal((count, D)))


def made(objective, **kwargs):
    rng = np.random.default_rng(0)
    model = linear_gaussian(rng, orthogonal=False)
    # A posterior far from the prior: a KL of the size of the likelihood, to read beta from.
    slope, offset = np.full((LATENT, D), 0.1), np.array([3.0, -3.0])
    vae = linear_vae(model, slope, offset, np.array([0.2, 0.2]), objective=objective)
    vae.compile(keras.optimizers.SGD(1e-5), **kwargs)
    return vae


def train_by_fit(vae, x, epochs):
    return vae.fit(x, batch_size=len(x), epochs=epochs, verbose=0).history


def train_by_loop(vae, x, epochs):
    data = tf.data.Dataset.from_tensor_slices(x).batch(len(x))
    return train(vae, data, epochs=epochs, progress=False).history


TRAININGS = [train_by_fit, train_by_loop]


def betas(history):
    """What the KL was weighed by in each step, of epochs of one step each."""
    loss, log_likelihood, kl = (
        np.array(history[name]) for name in ("loss", "log_likelihood", "kl")
    )
    assert np.all(kl > 5)
    return (loss + log_likelihood) / kl


@pytest.mark.exhaustive
@pytest.mark.parametrize("training", TRAININGS)
def test_beta_follows_the_steps(training):
    history = training(made("elbo:beta=linear(steps=4,end=2)"), images(), epochs=6)
    # The first step is step 0. The loss is good to a rounding, so is the KL.
    np.testing.assert_allclose(betas(history), [0, 0.5, 1, 1.5, 2, 2], atol=1e-5)


def test_beta_follows_a_schedule_of_keras():
    decay = keras.optimizers.schedules.PolynomialDecay(4.0, 3, end_learning_rate=1.0)
    history = train_by_loop(made(objectives.ELBO(beta=decay)), images(), epochs=5)
    np.testing.assert_allclose(betas(history), [4, 3, 2, 1, 1], atol=1e-5)


def test_steps_count_batches_not_epochs():
    vae = made("elbo:beta=linear(steps=8,end=2)")
    x = images()
    # Batches of one: epochs of four steps. Metrics are means over the epoch.
    data = tf.data.Dataset.from_tensor_slices(x).batch(1)
    found = []

    class EachStep(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            found.append((batch + 1, dict(logs)))

    train(vae, data, epochs=2, callbacks=[EachStep()], steps_per_call=1, progress=False)

    def of_each_step(name):
        sums = np.array([steps * logs[name] for steps, logs in found]).reshape(2, 4)
        return np.diff(sums, axis=1, prepend=0).ravel()

    history = {name: of_each_step(name) for name in found[0][1]}
    np.testing.assert_allclose(betas(history), np.arange(8) / 4, atol=1e-5)


@pytest.mark.exhaustive
@pytest.mark.parametrize("training", TRAININGS)
def test_a_loaded_model_goes_on_where_it_was(training, tmp_path):
    vae = made("elbo:beta=cyclical(period=4,ratio=1,end=4)")
    first = training(vae, images(), epochs=3)
    np.testing.assert_allclose(betas(first), [0, 1, 2], atol=1e-5)
    vae.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.objective.beta.get_config() == vae.objective.beta.get_config()
    second = training(loaded, images(), epochs=3)
    np.testing.assert_allclose(betas(second), [3, 0, 1], atol=1e-5)


def test_a_saved_model_keeps_a_schedule_of_keras(tmp_path):
    decay = keras.optimizers.schedules.PolynomialDecay(4.0, 10, end_learning_rate=1.0)
    made(objectives.ELBO(beta=decay)).save(tmp_path / "model.keras")
    beta = keras.saving.load_model(tmp_path / "model.keras").objective.beta
    assert type(beta) is type(decay)
    assert beta.get_config() == decay.get_config()


def test_loss_scaling_counts_the_same_steps():
    keras.config.set_dtype_policy("mixed_float16")
    vae = made("elbo:beta=linear(steps=4,end=2)")
    assert isinstance(vae.optimizer, keras.optimizers.LossScaleOptimizer)
    # A scale that does not overflow: a step that is skipped would not count.
    vae.optimizer.dynamic_scale.assign(8.0)
    history = train_by_fit(vae, images(), epochs=4)
    np.testing.assert_allclose(betas(history), [0, 0.5, 1, 1.5], atol=1e-5)


def test_outside_training_the_first_weight_holds():
    vae = made("elbo:beta=linear(steps=4,start=1,end=2)")
    terms = vae.terms(images(), seed=1)
    np.testing.assert_allclose(vae.objective(terms), -terms.elbo, rtol=1e-6)


# --- the warning ----------------------------------------------------------------------------------


@pytest.mark.parametrize("training", TRAININGS)
def test_a_warm_up_that_outlasts_training_is_told_of(training):
    vae = made("elbo:beta=linear(steps=3)", run_eagerly=True)
    with pytest.warns(UserWarning, match="the warm-up of 3 steps outlasts .* ends at step 2: "):
        training(vae, images(), epochs=2)
    with warnings.catch_warnings():
        # The last step is the third, with those before.
        warnings.filterwarnings("error", "the warm-up")
        training(vae, images(), epochs=1)


def told_at_the_start(objective, steps, epochs, optimizer="sgd", **kwargs):
    """The warnings of a training of so many steps and epochs, as it begins."""
    vae = made(objective)
    vae.compile(optimizer, **kwargs)
    (watch,) = vae.own_callbacks()
    watch.set_model(vae)
    watch.set_params({"steps": steps, "epochs": epochs})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        watch.on_train_begin()
    return [str(w.message) for w in caught if issubclass(w.category, UserWarning)]


def test_each_step_of_each_epoch_counts():
    cycle = "elbo:beta=cyclical(period=12)"
    assert not told_at_the_start(cycle, steps=2, epochs=3)
    (message,) = told_at_the_start(cycle, steps=5, epochs=1)
    assert "the warm-up of 6 steps outlasts the training, which ends at step 5" in message
    # The capacity of Burgess et al. rises for 25,000 steps, unless told otherwise.
    (message,) = told_at_the_start("capacity", steps=10, epochs=100)
    assert "of 25000 steps outlasts the training, which ends at step 1000" in message


def test_where_nothing_warms_up_or_nothing_is_known_there_is_nothing_to_tell():
    decay = keras.optimizers.schedules.PolynomialDecay(4.0, 10)
    for objective in ("elbo", "elbo:beta=4", objectives.ELBO(beta=decay)):
        assert not told_at_the_start(objective, steps=1, epochs=1)
    # A data set of unknown length.
    assert not told_at_the_start("elbo:beta=linear(steps=5)", steps=None, epochs=1)


def test_batches_whose_gradients_are_only_gathered_are_no_steps():
    line = "elbo:beta=linear(steps=3)"
    for wrap in (lambda o: o, keras.optimizers.LossScaleOptimizer):
        optimizer = wrap(keras.optimizers.SGD(gradient_accumulation_steps=2))
        (message,) = told_at_the_start(line, 4, 1, optimizer)
        assert "ends at step 2" in message
        optimizer = wrap(keras.optimizers.SGD(gradient_accumulation_steps=2))
        assert not told_at_the_start(line, 3, 2, optimizer)
