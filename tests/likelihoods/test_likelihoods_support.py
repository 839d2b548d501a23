"""Which values likelihoods take, and what they say of others."""

import numpy as np
import pytest
import tensorflow as tf

from tfvae import VAE, InputError, likelihoods
from tfvae.likelihoods import Bernoulli, Count, Normal, Poisson, Support

any_kind = pytest.mark.parametrize(
    "kind", likelihoods.BY_NAME.values(), ids=likelihoods.BY_NAME.keys()
)


@pytest.mark.few(19)
@pytest.mark.parametrize(
    ("support", "values", "admitted"),
    [
        (Support(0, 1), [0.0, 0.5, 1.0], True),
        (Support(0, 1), [-1e-6, 1.000004], True),
        (Support(0, 1), [-2e-5, 0.5], False),
        (Support(0, 1), [0.5, np.nan], False),
        (Support(0, 1), [np.inf, 0.5], False),
        (Support(), [-1e30, 1e30], True),
        (Support(), [0.0, np.nan], False),
        (Support(), [0.0, np.inf], False),
        (Support(), [0.0, -np.inf], False),
        (Support(low=0), [0.0, 1e30], True),
        (Support(low=0), [-1e-6, 1e30], False),
        (Support(0, 1, 1 / 255), np.arange(256) / 255, True),
        (Support(0, 1, 1 / 255), [0.5], False),
        (Support(0, 1, 1 / 255), [1.01 / 255], False),
        (Support(0, 1, 1 / 255), [-1 / 255], False),
        (Support(0, 1, 1 / 255), [256 / 255], False),
        (Support(0, 1, 1 / 255), [0.0, np.nan], False),
        (Support(0, 1, 1 / 255), [np.inf], False),
        (Support(0, 1, 1 / 65535), np.arange(65536) / 65535, True),
        (Support(0, 1, 1 / 65535), [1000.4 / 65535], False),
        (Support(0, np.inf, 1.0), [0.0, 3.0, 1e6], True),
        (Support(0, np.inf, 1.0), [0.0, 0.5], False),
        (Support(0, np.inf, 1.0), [-1.0], False),
        (Support(0, np.inf, 1.0), [np.inf], False),
        (Support(1, 3, 0.5), [1.0, 2.5, 3.0], True),
        (Support(1, 3, 0.5), [1.25], False),
    ],
)
def test_support_admits(support, values, admitted):
    values = np.array(values, np.float32)
    for function in (support.admits, tf.function(support.admits)):
        answer = function(tf.constant(values))
        assert answer.shape == () and answer.dtype == tf.bool
        assert bool(answer) is admitted


@pytest.mark.parametrize(
    ("support", "values", "clipped"),
    [
        # What antialiased resizing leaves, but nothing that is further off.
        (Support(0, 1), [-4e-6, 0.5, 1.000004], [0, 0.5, 1]),
        (Support(0, 1), [-2e-5, 1.00002, 255, np.nan, np.inf], None),
        (Support(0, 255), [-2e-3, 255.002, 256], [0, 255, 256]),
        (Support(0, 1, 1 / 255), [-4e-6, 1 / 255, 1.000004, 256 / 255], [0, 1 / 255, 1, 256 / 255]),
        # A part of an infinite range is none.
        (Support(low=0), [-1e-6, 1], None),
        (Support(), [-1e30, np.inf, np.nan], None),
    ],
)
def test_support_clips_what_it_admits_outside(support, values, clipped):
    values = np.array(values, np.float32)
    expected = values if clipped is None else np.array(clipped, np.float32)
    for function in (support.clip, tf.function(support.clip)):
        np.testing.assert_array_equal(function(tf.constant(values)), expected)
    for value, end in zip(values, expected, strict=True):
        # What is moved is admitted, and what is left is so where it lies inside.
        inside = support.low <= value <= support.high and np.isfinite(value)
        is_moved = value != end and not np.isnan(value)
        assert bool(support.admits(value)) is bool(is_moved or inside)


def test_support_clips_whole_numbers_to_floats():
    clipped = Support(0, 1).clip(np.array([0, 1, 255], np.uint8))
    assert clipped.dtype == tf.float32
    np.testing.assert_array_equal(clipped, [0, 1, 255])
    assert Support(0, 1).clip(np.zeros(3)).dtype == tf.float64


@pytest.mark.parametrize(
    ("support", "fill"),
    [
        (Support(), 0),
        (Support(0, 1), 0),
        (Support(2, 5), 2),
        (Support(high=-3), -3),
        (Support(0, np.inf, 1 / 255), 0),
        (Support(1, 3, 0.5), 1),
        (Support(-1.25, 3.25, 0.5), -0.25),
        (Support(-6, -1, 2.5), -1),
    ],
)
def test_the_fill_is_the_supported_value_nearest_to_zero(support, fill):
    assert support.fill == fill
    assert bool(support.admits(support.fill))


@any_kind
def test_every_likelihood_takes_its_fill(kind):
    assert np.isfinite(kind().support.fill)
    kind().check(np.full((2, 3), kind().support.fill))


def test_support_in_words():
    assert str(Support(0, 1)) == "values in [0, 1]"
    assert str(Support()) == "finite values"
    assert str(Support(low=-1)) == "values in [-1, inf]"
    assert str(Support(0, 1, 1 / 255)) == "values 0, 1/255, ..., 1"
    assert str(Support(0, 255, 1)) == "values 0, 1, ..., 255"
    assert str(Support(0, 1, 1)) == "values 0, 1"
    assert str(Support(0, 1, 0.5)) == "values 0, 0.5, 1"
    assert str(Support(0, np.inf, 1)) == "values 0, 1, 2, ..."
    assert str(Support(0, np.inf, 1 / 255)) == "values 0, 1/255, 2/255, ..."


@pytest.mark.parametrize(
    ("support", "low", "high", "message"),
    [
        (Support(0, 1), 0, 255, "from 0 to 255: scale the values, for bytes x / 255.0"),
        (Support(0, 1), -1, 1, "from -1 to 1: shift the values, for values in [-1, 1] (x + 1) / 2"),
        (
            Support(0, 1),
            -3.5,
            4,
            "from -3.5 to 4: shift and scale the values into [0, 1], "
            "or take a likelihood of all finite values, such as normal",
        ),
        # What little is outside is to be seen.
        (Support(0, 1), 0, 1.00002, "from 0 to 1.00002: clip the values, np.clip(x, 0, 1)"),
        (Support(0, 1), -0.03, 1.04, "from -0.03 to 1.04: clip the values, np.clip(x, 0, 1)"),
        (Support(0, 1), -2e-5, 1, "from -2e-05 to 1: clip the values, np.clip(x, 0, 1)"),
        (
            Support(100, 101),
            100.5,
            101.0000213,
            "from 100.5 to 101.00002: clip the values, np.clip(x, 100, 101)",
        ),
        (Support(0, 1, 1 / 255), 0, 1.001, "from 0 to 1.001: clip the values, np.clip(x, 0, 1)"),
        (Support(0, 1, 1 / 255), -1, 1, "shift the values, for values in [-1, 1] (x + 1) / 2"),
        # Within the slack it is not the ends.
        (Support(0, 1, 1 / 255), -1e-6, 1, "received values between the levels, from -1e-06 to 1"),
        (Support(0, 255, 1), -128, 127, "shift and scale the values into [0, 255]"),
        (Support(low=0), -0.5, 7, "from -0.5 to 7: shift the values, so that they start at 0"),
    ],
)
def test_complaints_say_how_to_bring_the_values_in(support, low, high, message):
    complaint = support.complaint("It", low, high)
    assert complaint.startswith(f"It expects {support}; received values ")
    assert message in complaint


@pytest.mark.few(3)
@pytest.mark.parametrize(
    ("likelihood", "values", "message"),
    [
        (
            "beta",
            [0, 255],
            "Beta expects values in [0, 1]; received values from 0 to 255: "
            "scale the values, for bytes x / 255.0",
        ),
        (
            "poisson",
            [0, 0.5, 2],
            "Poisson expects values 0, 1, 2, ...; received values between the levels, from 0 to 2:"
            " round the values, or give the likelihood the value of one count, "
            "step=0.0039216 for bytes / 255.0",
        ),
        (
            "negative_binomial:step=0.0039216",
            [-1, 1],
            "NegativeBinomial expects values 0, 1/255, 2/255, ...; received values from -1 to 1: "
            "shift the values, so that they start at 0",
        ),
        (
            "discretized_logistic",
            [0, 0.1234, 1],
            "DiscretizedLogistic expects values 0, 1/255, ..., 1; received values between the "
            "levels, from 0 to 1: round the values, or give the likelihood the values' own levels "
            "and high, such as levels=256,high=255 for bytes",
        ),
        (
            "categorical",
            [0, 17, 255],
            "Categorical expects values 0, 1/255, ..., 1; received values from 0 to 255: "
            "scale the values, for bytes x / 255.0, or give the likelihood the values' own range, "
            "such as high=255",
        ),
        (
            "categorical:high=255",
            [0, np.nan],
            "Categorical expects values 0, 1, ..., 255; received values from nan to nan: "
            "remove or replace NaN and infinite values",
        ),
    ],
)
def test_complaints_of_arrays_and_graphs(likelihood, values, message):
    x = np.resize(np.array(values, np.float32), (4, 4, 4, 1))
    with pytest.raises(InputError) as error:
        likelihoods.get(likelihood).check(x)
    assert str(error.value) == message
    if likelihood not in ("categorical", "poisson"):
        return
    # Inside a graph, as `fit` on a data set finds them; of categories that do not exist,
    # TensorFlow itself must not complain first.
    vae = VAE.for_images((4, 4, 1), latent_dim=2, network="dense", likelihood=likelihood)
    likelihood = vae.likelihood_family
    vae.compile()
    with pytest.raises(InputError) as error:
        vae.fit(tf.data.Dataset.from_tensors(x), verbose=0)
    assert str(error.value) == message


@pytest.mark.parametrize(
    "likelihood",
    ["poisson:step=0.0039216", "negative_binomial:step=0.00392157", "categorical", "beta"],
)
def test_bytes_over_255_are_admitted(likelihood):
    likelihoods.get(likelihood).check((np.arange(256) / 255).astype(np.float32))
    likelihoods.get(likelihood).check(np.arange(256, dtype=np.float32) / 255)


def test_a_step_is_taken_for_the_fraction_it_rounds():
    for step in (0.0039216, 0.00392157, 1 / 255):
        assert Poisson(step=step).support.step == 1 / 255
        assert Poisson(step=step).get_config()["step"] == step
    for step in (1.0, 0.25, 0.3, 2.0, 10, 0.0039):
        assert Poisson(step=step).support.step == pytest.approx(step, rel=1e-9)


def on_quarters(kind):
    """The likelihood of quarters where it needs to be told."""
    if issubclass(kind, Count):
        return kind(step=0.25)
    return kind() if kind().support.step is None else kind(levels=5)


@any_kind
def test_check_takes_what_is_supported(kind):
    x = np.array([[0.0, 0.25], [0.75, 1.0]], np.float32)
    for values in (x, x.astype(np.float64), tf.constant(x), x.tolist()):
        on_quarters(kind).check(values)


@any_kind
@pytest.mark.parametrize("dtype", [np.uint8, np.int64, bool])
def test_check_takes_whole_numbers(kind, dtype):
    kind().check(np.array([[0, 1], [1, 0]], dtype))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8, np.int32])
def test_check_refuses_bytes(dtype):
    with pytest.raises(InputError) as error:
        Bernoulli().check(np.arange(256, dtype=dtype))
    assert str(error.value) == (
        "Bernoulli expects values in [0, 1]; received values from 0 to 255: "
        "scale the values, for bytes x / 255.0"
    )


@any_kind
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_check_refuses_what_is_not_finite(kind, value):
    x = np.ones((3, 4, 4, 1), np.float32)
    x[1, 2, 3, 0] = value
    with pytest.raises(InputError) as error:
        kind().check(x)
    message = str(error.value)
    assert message.startswith(f"{kind.__name__} expects {kind().support}; received values from ")
    assert message.endswith(": remove or replace NaN and infinite values")
    assert "\n" not in message


def test_check_of_bytes_leaves_the_real_line_alone():
    Normal().check(np.arange(256, dtype=np.float32) - 100)
