"""What data may be: the same figures from a split, arrays and batches of the same events."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfvae
from tfvae import InputError, evaluation
from tfvae.evaluation.batches import event_batches
from tfvae.serving.calibration import calibrate


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    rng = np.random.default_rng(0)
    file = tmp_path_factory.mktemp("data") / "series.npz"
    x = rng.random((90, 6, 2)).astype("float32")
    np.savez(file, x_train=x, y_train=np.arange(90) % 3)
    return tfvae.datasets.load(file, kind="series", test=20)


@pytest.fixture(scope="module")
def vae(data):
    return tfvae.VAE.for_events(data.event_shape, latent_dim=2, network="dense", seed=0)


@pytest.fixture(scope="module")
def conditional(data):
    return tfvae.VAE.for_events(
        data.event_shape, latent_dim=2, network="dense", num_classes=3, seed=0
    )


class PyData(keras.utils.PyDataset):
    def __init__(self, x, y):
        super().__init__()
        self.x, self.y = x, y

    def __len__(self):
        return math.ceil(len(self.x) / 8)

    def __getitem__(self, number):
        rows = slice(8 * number, 8 * number + 8)
        return self.x[rows], self.y[rows]


def forms(split):
    """The same events in every form, with labels."""
    x, y = split.arrays()
    pairs = tf.data.Dataset.from_tensor_slices((x, y)).batch(7)
    return {
        "split": split,
        "batches of a split": tfvae.datasets.Batches(split, 6),
        "arrays": (x, y),
        "tensors": (tf.constant(x), tf.constant(y)),
        "dictionary": {"x": x, "label": y},
        "data set": pairs,
        "list": [(x[:5], y[:5]), (x[5:], y[5:])],
        "generator": ((x[row : row + 4], y[row : row + 4]) for row in range(0, len(x), 4)),
        "PyDataset": PyData(x, y),
        "dictionaries": [{"image": x, "label": y}],
    }


FORMS = list(forms(tfvae.datasets.load("shapes", image_size=4).test.subset(4)))


def joined(model, data):
    """All events of data, and their labels."""
    events, labels = zip(*event_batches(model, data, batch_size=9), strict=True)
    return np.concatenate(events), None if labels[0] is None else np.concatenate(labels)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_events(form, data, vae, conditional):
    x, labels = data.test.arrays()
    found = joined(conditional, forms(data.test)[form])
    np.testing.assert_array_equal(found[0], x)
    np.testing.assert_array_equal(found[1], labels)
    # A model without labels leaves them aside.
    found = joined(vae, forms(data.test)[form])
    np.testing.assert_array_equal(found[0], x)
    assert found[1] is None


def test_an_array_alone_is_events_and_not_rows_to_iterate(data, vae):
    x, _ = data.test.arrays()
    for array in (x, tf.constant(x), [x], (x, None), x.astype("float64")):
        found, labels = joined(vae, array)
        np.testing.assert_array_equal(found, x)
        assert labels is None
    batches = event_batches(vae, x, batch_size=8)
    assert len(batches) == 3
    assert [len(events) for events, _ in batches] == [8, 8, 4]


@pytest.mark.exhaustive
def test_figures_depend_on_no_batches(data, conditional):
    expected = evaluation.log_prob(conditional, data.test, num_samples=3)
    found = evaluation.log_prob(conditional, data.test.arrays(), num_samples=3, batch_size=9)
    np.testing.assert_allclose(found.log_probs, expected.log_probs, rtol=1e-5)


@pytest.mark.parametrize(
    "function",
    [
        evaluation.log_prob,
        evaluation.elbo,
        evaluation.annealed_log_prob,
        evaluation.diagnose,
        evaluation.aggregate_posterior,
        evaluation.fit_prior,
        lambda vae, data: calibrate(vae, data, rate=0.1),
    ],
)
def test_whatever_takes_data_takes_it_in_these_forms(function, data, vae):
    with pytest.raises(InputError, match=r"has three splits; pass one of them: .* or data\.test$"):
        function(vae, data)


def test_an_autoencoder_fits_a_prior_to_a_split(data):
    model = tfvae.Autoencoder.for_events(data.event_shape, latent_dim=2, network="dense", seed=0)
    prior = evaluation.fit_prior(model, data.train, "gaussian_mixture:components=1")
    expected = model.code(data.train.arrays()[0]).numpy().mean(axis=0)
    np.testing.assert_allclose(prior.distribution().mean(), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x[0], r"expected series \[batch, 6, 2\]; received shape \[6, 2\]: add the"),
        (lambda x: x[:0], "expected at least one event; the data set is empty"),
        (lambda x: x[:, :3], r"expected series \[batch, 6, 2\]; received shape \[20, 3, 2\]"),
        (lambda x: (x, x), r"expected a pair \(x, labels\); received two arrays of events"),
        (lambda x: [(x, x)], r"received pairs with a target .*: data\.map\(lambda x, target: x\)"),
        (lambda x: "data.npz", "or batches; received str"),
        (lambda x: 5, "or batches; received int"),
        (
            tf.data.Dataset.from_tensor_slices,
            r"expected batches of series; received a data set of single ones: data\.batch\(256\)",
        ),
        (
            lambda x: tf.data.Dataset.from_tensor_slices(x).batch(5).repeat(),
            r"repeats for ever: data\.take\(STEPS\)",
        ),
    ],
)
def test_other_data_is_refused_in_one_line(change, message, data, vae):
    x, _ = data.test.arrays()
    with pytest.raises(InputError, match=message) as caught:
        evaluation.log_prob(vae, change(x), num_samples=1)
    assert "\n" not in str(caught.value)


def test_labels_must_be_as_many_as_events(data, conditional):
    x, y = data.test.arrays()
    with pytest.raises(InputError, match="one label for each event; received 19 for 20"):
        evaluation.elbo(conditional, (x, y[1:]))
    with pytest.raises(InputError, match="needs labels"):
        evaluation.elbo(conditional, x)
