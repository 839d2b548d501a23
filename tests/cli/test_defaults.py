"""What is chosen where nobody has said: by the values, the size and the shape of the data."""

import numpy as np
import pandas as pd
import pytest

from tfvae import datasets, quiet
from tfvae.cli.collapse import collapse_warnings
from tfvae.cli.defaults import completed
from tfvae.likelihoods import for_values
from tfvae.saving.config import TrainConfig


@pytest.mark.parametrize(
    ("values", "likelihood", "reason"),
    [
        ([0, 1], "bernoulli", "all values are 0 or 1"),
        (np.arange(17) / 16, "discretized_logistic:levels=17", "17 levels from 0 to 1"),
        (np.arange(5), "discretized_logistic:levels=5,high=4", "5 levels from 0 to 4"),
        (np.arange(256) / 255, "discretized_logistic", "bytes / 255"),
        (np.arange(0, 256, 2), "discretized_logistic:high=255", "256 levels from 0 to 255"),
        ([0.1, 0.25, 0.7], "normal:scale=learned", "real numbers"),
        ([-1, 0, 1], "normal:scale=learned", "real numbers"),
        (np.linspace(0, 1, 1000) ** 2, "normal:scale=learned", "real numbers"),
    ],
)
def test_values_say_which_likelihood(values, likelihood, reason, rng):
    x = np.repeat(np.asarray(values, np.float32), 50)
    x[::7] = np.nan
    found = for_values(rng.permutation(x).reshape(-1, 2))
    assert found.likelihood == likelihood
    assert reason in found.reason


def test_a_few_different_numbers_are_no_levels(rng):
    assert for_values(rng.integers(0, 4, 30) / 3).likelihood == "normal:scale=learned"


def test_what_is_left_open_depends_on_the_data(rng, tmp_path):
    def chosen(name, given=None, **options):
        data = datasets.load(name, **options)
        return completed(given or TrainConfig(dataset=str(name)), data)

    config, choice = chosen("mnist-small")
    assert (config.binarize, config.likelihood, config.latent_dim) == ("dynamic", "bernoulli", 16)
    assert (config.batch_size, config.epochs, config.patience) == (128, 24, 10)
    assert choice.reason == "all values are 0 or 1"
    assert chosen("mnist-small", binarize="none")[0].likelihood == "discretized_logistic"
    assert chosen("digits")[0].likelihood == "discretized_logistic:levels=17"

    frame = pd.DataFrame({"a": rng.normal(size=60), "b": rng.choice(["x", "y"], 60)})
    frame.to_csv(tmp_path / "table.csv", index=False)
    config, choice = chosen(tmp_path / "table.csv")
    assert (config.likelihood, config.latent_dim) == ("columns", 1)
    assert "a distribution for each column" in choice.reason

    np.save(tmp_path / "few.npy", rng.normal(size=(40, 30, 2)))
    config, _ = chosen(tmp_path / "few.npy")
    # 32 events are left for training: four steps of eight an epoch.
    assert (config.likelihood, config.batch_size) == ("normal:scale=learned", 8)
    assert config.epochs * 4 == 600

    # What the user says stays, and no end before that of the epochs that he asks for.
    given = TrainConfig(likelihood="laplace", latent_dim=3, epochs=7, batch_size=10)
    config, choice = chosen(tmp_path / "few.npy", given)
    assert choice is None
    assert config == TrainConfig(**{**vars(given), "binarize": "none", "objective": "elbo"})

    # 32 events in four steps an epoch: beta rises over a quarter of all of them.
    for options, objective in (
        ({"model": "hierarchical", "epochs": 7}, "elbo:beta=linear(steps=7)"),
        ({"model": "hierarchical", "epochs": 7, "accumulate": 2}, "elbo:beta=linear(steps=3)"),
        ({"model": "hierarchical", "objective": "elbo"}, "elbo"),
        ({"model": "vq"}, None),
    ):
        config, _ = chosen(tmp_path / "few.npy", TrainConfig(**options))
        assert config.objective == objective


def test_a_hierarchys_gradients_are_clipped_where_nothing_is_said_of_them():
    digits = datasets.load("digits")
    for options, norm in (
        ({"model": "hierarchical"}, 200.0),
        ({"model": "hierarchical", "clip_norm": 5.0}, 5.0),
        ({"model": "hierarchical", "skip_norm": 1e4}, None),
        ({}, None),
    ):
        assert completed(TrainConfig(dataset="digits", **options), digits)[0].clip_norm == norm


def test_the_highest_level_may_be_rare(rng, tmp_path):
    x = rng.integers(0, 4, (9000, 4)).astype("float32")
    x[123, 0] = 4
    np.save(tmp_path / "x.npy", x)
    config, _ = completed(TrainConfig(), datasets.load(tmp_path / "x.npy"))
    assert config.likelihood == "discretized_logistic:levels=5,high=4"


@pytest.mark.parametrize(
    ("options", "cure"),
    [
        ({"likelihood": "normal"}, "--likelihood normal:scale=learned, as a scale of 1 "),
        ({"likelihood": "laplace:scale=0.5"}, "--likelihood laplace:scale=learned"),
        ({"likelihood": "bernoulli", "objective": "elbo:beta=20"}, "--objective elbo, as beta=20"),
        ({"likelihood": "bernoulli"}, "--objective free_bits:nats=0.5"),
        ({"objective": "elbo:beta=linear(steps=9)"}, "--objective free_bits:nats=0.5"),
        ({"objective": "iwae"}, "--objective elbo and more --epochs"),
    ],
)
def test_a_collapse_is_named_with_its_cure(options, cure):
    (line,) = collapse_warnings(0.02, 0, 8, TrainConfig(**options))
    assert "the posterior has collapsed" in line
    assert "KL 0.02 nats, 0 of 8 latent dimensions in use" in line
    assert cure in line
    assert collapse_warnings(5.0, 3, 8, TrainConfig(**options)) == ()


def test_the_images_in_the_package_are_those_of_mnist(test_data):
    mine = datasets.load("mnist-small", binarize="none")
    theirs = datasets.load(test_data / "mnist")
    whole, labels = theirs.train.source.read(np.arange(12_000))
    part, part_labels = mine.train.source.read(np.arange(12_000))
    np.testing.assert_array_equal(part, whole)
    np.testing.assert_array_equal(part_labels, labels)
    np.testing.assert_array_equal(mine.test.arrays()[0], theirs.test.arrays(limit=1000)[0])
    assert "drawn as 0 or 1" in datasets.load("mnist-small").summary()


def test_notes_of_tensorflow_are_dropped_and_errors_are_not():
    for line in (
        "WARNING: All log messages before absl::InitializeLog() is called are written to STDERR\n",
        "I0000 00:00:1795981140.052072    3842 port.cc:153] oneDNN custom operations are on.\n",
        "To enable the following instructions: AVX2 FMA, in other operations, rebuild\n",
    ):
        assert quiet.is_note(line)
    for line in (
        "E0000 00:00:1795981146.088176    3842 something.cc:52] failed: INTERNAL\n",
        "Traceback (most recent call last):\n",
        "ImportError: libsomething.so: cannot open shared object file\n",
    ):
        assert not quiet.is_note(line)
