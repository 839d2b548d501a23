import gc
import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf
from components import shaken
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

from tfvae.distributions import flows
from tfvae.distributions.flows import MADE, Autoregressive, Conditioner, Coupling, Flow

STEPS = [Autoregressive, Coupling]
every_step = pytest.mark.parametrize("step", STEPS)
gated_or_not = pytest.mark.parametrize("gated", [False, True])


def normal(*shape, seed=0):
    return tf.constant(np.random.default_rng(seed).normal(size=shape), tf.float32)


def flow(step=Autoregressive, size=5, flows=3, context=0, gated=False, seed=0, hidden=16):
    options = {"flows": flows, "hidden": hidden, "context": context, "gated": gated}
    return Flow(step, size, **options, seed=seed)


def jacobian(function, z):
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(z)
        y = function(z)
    return tape.jacobian(y, z, experimental_use_pfor=False).numpy()


# --- MADE -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("hidden", [3, 16])
@pytest.mark.parametrize("reverse", [False, True])
def test_made_is_autoregressive(hidden, reverse):
    d = 6
    # With a seed: where the tanh that bounds a log-scale is 1 in float32, nothing is used.
    made = shaken(MADE(d, hidden=hidden, context=2, reverse=reverse, seed=0), size=1.0)
    context, z = normal(2, seed=1), normal(d)
    for output in range(2):
        matrix = jacobian(lambda z, i=output: made(z, context)[i], z)
        matrix = matrix[::-1, ::-1] if reverse else matrix
        np.testing.assert_array_equal(np.triu(matrix), 0)
        if hidden >= d:
            # Every earlier dimension is used.
            assert np.all(matrix[np.tril_indices(d, -1)] != 0)
        assert np.all(matrix[-1, :2] != 0)
        # And the context in every output, the first included.
        by_context = jacobian(lambda c, i=output: made(z, c)[i], context)
        assert np.all(by_context != 0)


def test_a_conditioner_without_masks_uses_everything():
    conditioner = shaken(Conditioner(3, 4, hidden=8, context=2, seed=0))
    shift, log_scale = conditioner(normal(3), normal(2))
    assert shift.shape == log_scale.shape == (4,)
    assert np.all(jacobian(lambda z: conditioner(z, normal(2))[0], normal(3)) != 0)


def test_context_broadcasts_against_leading_axes():
    made = shaken(MADE(3, hidden=4, context=2, seed=0))
    z, context = normal(7, 5, 3), normal(5, 2, seed=1)
    shift, log_scale = made(z, context)
    assert shift.shape == log_scale.shape == (7, 5, 3)
    for k, b in ((0, 0), (6, 4), (3, 2)):
        for whole, one in zip((shift, log_scale), made(z[k, b], context[b]), strict=True):
            assert one.shape == (3,)
            np.testing.assert_allclose(whole[k, b], one, atol=1e-6)


@gated_or_not
def test_log_scales_are_bounded(gated):
    made = shaken(MADE(4, hidden=8, gated=gated, seed=0), size=50.0)
    log_scale = made(normal(1000, 4) * 100)[1].numpy()
    low, high = np.log([0.31, 0.9946]) if gated else (-2, 2)
    assert np.all((log_scale >= low) & (log_scale <= high))
    assert np.min(log_scale) < low + 0.01 and np.max(log_scale) > high - 0.01


def test_gate_is_kingmas():
    made, plain = MADE(4, hidden=8, gated=True, seed=3), MADE(4, hidden=8, seed=3)
    for layer in (made, plain):
        shaken(layer, seed=1)
    z = normal(10, 4)
    (shift, log_scale), (m, s) = made(z), plain(z)
    raw = flows.BOUND * np.arctanh(s / flows.BOUND)
    bounded = flows.GATE_BOUND * np.tanh(raw / flows.GATE_BOUND)
    g = 1 / (1 + np.exp(-(bounded + flows.GATE)))
    np.testing.assert_allclose(
        z * tf.exp(log_scale) + shift, g * z.numpy() + (1 - g) * m.numpy(), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16", "bfloat16", "float16"])
def test_float32_under_every_policy(policy):
    keras.config.set_dtype_policy(policy)
    layer = flow(context=2)
    assert {weight.dtype for weight in layer.weights} == {"float32"}
    with keras.src.backend.AutocastScope("float16"):
        bijector = layer.bijector(normal(2))
        assert bijector.forward(normal(5)).dtype == tf.float32
        assert bijector.inverse(normal(5)).dtype == tf.float32


# --- the bijectors --------------------------------------------------------------------------------


@pytest.mark.few(2)
@every_step
@gated_or_not
@pytest.mark.parametrize("size", [2, 5])
def test_inverse_undoes_forward(step, gated, size):
    bijector = shaken(flow(step, size, context=2, gated=gated)).bijector(normal(4, 2, seed=1))
    z = normal(3, 4, size, seed=2)
    np.testing.assert_allclose(bijector.inverse(tf.identity(bijector.forward(z))), z, atol=1e-5)
    np.testing.assert_allclose(bijector.forward(tf.identity(bijector.inverse(z))), z, atol=1e-5)
    for way in (bijector, tfb.Invert(bijector)):
        np.testing.assert_allclose(
            way.forward_log_det_jacobian(z),
            -way.inverse_log_det_jacobian(tf.identity(way.forward(z))),
            atol=1e-5,
        )


@pytest.mark.few(3)
@every_step
@gated_or_not
@pytest.mark.parametrize("size", [2, 5])
def test_log_determinant_is_that_of_the_jacobian(step, gated, size):
    bijector = shaken(flow(step, size, context=2, gated=gated)).bijector(normal(2, seed=1))
    for seed in range(3):
        z = normal(size, seed=seed)
        expected = np.linalg.slogdet(jacobian(bijector.forward, z).astype(np.float64))[1]
        actual = bijector.forward_log_det_jacobian(z)
        assert actual.shape == ()
        np.testing.assert_allclose(actual, expected, atol=1e-5)


def test_one_step_is_triangular():
    for number, triangle in enumerate((np.tril, np.triu)):
        layer = shaken(flow(size=4, flows=2))
        bijector = Autoregressive(layer.conditioners[number])
        matrix = jacobian(bijector.forward, normal(4))
        np.testing.assert_array_equal(matrix, triangle(matrix))
        assert np.all(np.diag(matrix) > 0)


@every_step
@pytest.mark.parametrize("size", [2, 3, 6])
def test_two_steps_move_every_dimension(step, size):
    layer = shaken(flow(step, size, flows=2))
    assert np.all(layer.bijector().forward(normal(size)) != normal(size))


@every_step
@gated_or_not
def test_starts_near_the_identity(step, gated):
    z = normal(1000, 8)
    y = flow(step, 8, flows=1, hidden=64, gated=gated).bijector().forward(z)
    scale = 0.90 if gated else 1.0
    change = (y - scale * z).numpy()
    if step is Coupling:
        np.testing.assert_array_equal(y[:, :4], z[:, :4])
        change = change[:, 4:]
    assert np.sqrt(np.mean(np.square(change))) < 0.06
    assert np.std(change) > 0


@every_step
def test_context_changes_the_map(step):
    layer = flow(step, context=3)
    z = normal(5)
    images = [layer.bijector(normal(3, seed=seed)).forward(z) for seed in (1, 2)]
    assert np.max(np.abs(images[0] - images[1])) > 1e-4


def test_one_dimension():
    layer = shaken(flow(size=1, context=2, gated=True))
    context = normal(4, 2)
    bijector = layer.bijector(context)
    z = normal(6, 4, 1)
    y = bijector.forward(z)
    np.testing.assert_allclose(bijector.inverse(tf.identity(y)), z, atol=1e-5)
    # The map of one dimension is affine, and its slope the determinant.
    slope = (bijector.forward(z + 1) - y)[..., 0]
    np.testing.assert_allclose(np.log(slope), bijector.forward_log_det_jacobian(z), atol=1e-5)


@every_step
def test_one_pass_of_each_network_forward(step, monkeypatch):
    passes = []
    call = Conditioner.call
    monkeypatch.setattr(
        Conditioner, "call", lambda self, *args: passes.append(self) or call(self, *args)
    )
    layer = flow(step, 5, flows=3, context=2)
    base = tfd.Independent(tfd.Normal(tf.zeros((4, 5)), 1.0), 1)

    def count(act):
        passes.clear()
        result = act(tfd.TransformedDistribution(base, layer.bijector(normal(4, 2))))
        return len(passes), result

    def draw_then_evaluate(q):
        return q.log_prob(q.sample(2, seed=(1, 2)))

    assert count(lambda q: q.sample(2, seed=(1, 2)))[0] == 3
    number, (z, log_prob) = count(lambda q: q.experimental_sample_and_log_prob(2, seed=(1, 2)))
    assert number == 3
    number, same = count(draw_then_evaluate)
    assert number == 3
    np.testing.assert_array_equal(same, log_prob)
    # Another tensor of the same values has to be inverted.
    number, inverted = count(lambda q: q.log_prob(tf.identity(z)))
    assert number == 3 * (5 + 1 if step is Autoregressive else 2)
    np.testing.assert_allclose(inverted, log_prob, atol=1e-5)


@every_step
def test_a_new_bijector_sees_new_weights(step):
    layer, z = flow(step), normal(4, 5)
    before = layer.bijector().forward(z)
    shaken(layer)
    assert np.max(np.abs(layer.bijector().forward(z) - before)) > 0.1


@pytest.mark.exhaustive
@every_step
def test_nothing_outlives_its_tensors(step):
    layer, memory = flow(step, context=2), tfb.Bijector._cache.storage

    def use():
        bijector = layer.bijector(normal(4, 2))
        z = bijector.forward(normal(3, 4, 5))
        bijector.inverse_log_det_jacobian(z)
        bijector.inverse(tf.identity(z))
        return weakref.ref(bijector)

    gc.collect()
    entries = len(memory)
    references = [use() for _ in range(3)]
    gc.collect()
    assert len(memory) == entries
    assert all(reference() is None for reference in references)


@pytest.mark.few(1)
@every_step
def test_slices_and_mixtures(step):
    """Context `[B, c]` is a parameter of the distribution: it is sliced and broadcast with it."""
    layer = shaken(flow(step, context=2))
    base = tfd.Independent(tfd.Normal(normal(4, 5), 1.0), 1)
    q = tfd.TransformedDistribution(base, layer.bijector(normal(4, 2, seed=1)))
    assert q.batch_shape == (4,) and q.event_shape == (5,)
    z = normal(3, 4, 5, seed=2)
    log_prob = q.log_prob(z)
    for index in (2, slice(1, 3)):
        np.testing.assert_allclose(
            q[index].log_prob(z[:, index]), log_prob[:, index], rtol=1e-5, atol=1e-5
        )
    # Events `[3, 1, d]` against components `[4]`.
    z = normal(3, 1, 5, seed=3)
    expected = np.stack([q[k].log_prob(z[:, 0]) for k in range(4)], axis=-1)
    np.testing.assert_allclose(q.log_prob(z), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.exhaustive
@every_step
def test_in_a_graph_with_unknown_shapes(step):
    layer = shaken(flow(step, context=2))

    @tf.function(input_signature=[tf.TensorSpec((None, None, 5)), tf.TensorSpec((None, 2))])
    def inverse(y, context):
        bijector = layer.bijector(context)
        x = bijector.inverse(y)
        return x, bijector.inverse_log_det_jacobian(y)

    y, context = normal(3, 4, 5), normal(4, 2)
    bijector = layer.bijector(context)
    x, log_det = inverse(y, context)
    np.testing.assert_allclose(x, bijector.inverse(y), atol=1e-5)
    np.testing.assert_allclose(log_det, bijector.inverse_log_det_jacobian(y), atol=1e-5)


@every_step
@pytest.mark.parametrize("way", ["forward", "inverse"])
def test_every_weight_has_a_gradient(step, way):
    # The shaking keeps a gradient from vanishing by the symmetry of the start.
    layer = shaken(flow(step, context=2, gated=True), size=0.1)
    with tf.GradientTape() as tape:
        bijector = layer.bijector(normal(4, 2))
        z = getattr(bijector, way)(normal(4, 5))
        loss = tf.reduce_sum(tf.square(z)) + tf.reduce_sum(
            getattr(bijector, f"{way}_log_det_jacobian")(normal(4, 5))
        )
    gradients = tape.gradient(loss, [weight.value for weight in layer.trainable_weights])
    # Three kernels, three biases and the context's kernel each.
    assert len(gradients) == 3 * 7
    assert all(gradient is not None and np.any(gradient != 0) for gradient in gradients)


@every_step
def test_gradients_of_the_inverse(step):
    layer = shaken(flow(step, 3))
    y = normal(3)
    forward = jacobian(layer.bijector().forward, layer.bijector().inverse(y))
    np.testing.assert_allclose(
        jacobian(layer.bijector().inverse, y), np.linalg.inv(forward), rtol=1e-4, atol=1e-4
    )


# --- seeds and saving -----------------------------------------------------------------------------


@every_step
def test_seeds(step):
    one, same, other = (flow(step, 4, context=16, seed=seed) for seed in (1, 1, 2))
    kernels = [weight.numpy() for weight in one.weights if np.any(weight.numpy())]
    for weights in zip(one.weights, same.weights, other.weights, strict=True):
        a, b, c = (weight.numpy() for weight in weights)
        np.testing.assert_array_equal(a, b)
        assert not np.any(a) or np.all(a != c)
    for i, a in enumerate(kernels):
        for b in kernels[:i]:
            assert a.shape != b.shape or np.all(a != b)
    a, b = (flow(seed=None).weights[0].numpy() for _ in range(2))
    assert np.all(a != b)


def test_large_seeds():
    flow(seed=2**40)


@every_step
def test_weights_come_back(step, tmp_path):
    def model(seed):
        inputs = keras.Input((5,))
        model = keras.Model(inputs, inputs)
        model.flow = flow(step, seed=seed)
        return model

    one, other = model(1), model(2)
    one.save_weights(tmp_path / "flow.weights.h5")
    other.load_weights(tmp_path / "flow.weights.h5")
    np.testing.assert_array_equal(
        one.flow.bijector().forward(normal(5)), other.flow.bijector().forward(normal(5))
    )
