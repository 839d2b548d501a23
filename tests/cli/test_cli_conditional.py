"""Commands with labels, and with other families than the default ones."""

import json
import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from command_line import DIGITS, QUICK, refused, within

import tfvae
from tfvae import datasets, plotting, posteriors, priors
from tfvae.cli import job, looking
from tfvae.saving.config import TrainConfig

PICTURES = ("samples.png", "reconstructions.png", "latent.png", "curves.png")


@pytest.fixture(scope="module")
def conditional(tmp_path_factory):
    """A run of a conditional model with other families than the default ones."""
    folder = tmp_path_factory.mktemp("conditional") / "run"
    out, err = within(
        "train", *DIGITS[:2], "--run-dir", folder, *QUICK,
        "--conditional", "--likelihood", "normal:scale=0.3",
        "--posterior", "full_normal", "--prior", "class_normal",
        "--objective", "elbo:beta=linear(steps=10)", "--json",
    )  # fmt: skip
    return folder, json.loads(out), err


@pytest.mark.exhaustive
def test_a_run_keeps_the_families_it_was_given(conditional):
    folder, score, err = conditional
    assert np.isfinite(score["elbo"])
    assert "KL in closed form" in err
    for name in PICTURES:
        assert (folder / name).exists()
    options = TrainConfig.read(folder / "config.toml")
    assert options.conditional
    assert options.objective == "elbo:beta=linear(steps=10)"
    vae = keras.models.load_model(folder / "model.keras")
    assert vae.num_classes == 10
    assert type(vae.posterior_family) is posteriors.FullNormal
    assert type(vae.prior_family) is priors.ClassNormal
    assert vae.likelihood_family.scale == 0.3
    assert type(vae.objective.beta).__name__ == "Linear"
    signatures = tf.saved_model.load(str(folder / "saved_model" / "1")).signatures
    assert "label" in signatures["sample"].structured_input_signature[1]


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], np.repeat(np.arange(10), 2)),
        (["--label", "3"], np.full(20, 3)),
        (["--ex-post", "gaussian_mixture:components=3"], np.repeat(np.arange(10), 2)),
        (["--ex-post", "gaussian_mixture:components=3", "--label", "0"], np.zeros(20)),
    ],
    ids=["each", "label", "ex-post", "ex-post-label"],
)
def test_sample_takes_labels(conditional, tmp_path, monkeypatch, arguments, expected):
    seen = []
    sample = tfvae.VAE.sample

    def spy(vae, n, *, label, seed, mean):
        seen.append((np.broadcast_to(label, n), type(vae.prior_family)))
        return sample(vae, n, label=label, seed=seed, mean=mean)

    monkeypatch.setattr(tfvae.VAE, "sample", spy)
    within("sample", conditional[0], "--n", 20, "--out", tmp_path / "x.png", *arguments)
    ((labels, prior),) = seen
    np.testing.assert_array_equal(labels, expected)
    assert prior is (priors.Fixed if "--ex-post" in arguments else priors.ClassNormal)
    assert (tmp_path / "x.png").exists()


@pytest.mark.parametrize("n", [1, 3, 10, 64])
def test_a_grid_has_about_as_many_of_each_label(n):
    labels = plotting.grid_labels(10, n)
    assert labels.shape == (n,)
    assert np.all(np.diff(labels) >= 0)
    assert labels.max() < 10
    counts = np.bincount(labels, minlength=10)
    assert counts.max() - counts.min() <= 1


@pytest.mark.exhaustive
def test_the_other_commands_take_a_conditional_model(conditional, tmp_path, monkeypatch):
    folder, *_ = conditional
    data = datasets.load("digits")
    images, labels = data.test.arrays()
    seen = {}
    for name in ("reconstruct", "interpolate", "traverse"):
        method = getattr(tfvae.VAE, name)

        def spy(vae, *args, name=name, method=method):
            seen.setdefault(name, args)
            return method(vae, *args)

        monkeypatch.setattr(tfvae.VAE, name, spy)

    within("reconstruct", folder, "--n", 4, "--out", tmp_path / "r.png")
    np.testing.assert_array_equal(seen["reconstruct"][1], labels[:4])
    out, _ = within("interpolate", folder, "--pairs", 12, "--steps", 3, "--json",
                    "--out", tmp_path / "i.png")  # fmt: skip
    assert json.loads(out)["pairs"] == 12
    first, second, steps, given = seen["interpolate"]
    assert steps == 3
    np.testing.assert_array_equal(given, [*range(10), 0, 1])
    for ends in (first, second):
        for image, label in zip(ends, given, strict=True):
            (row,) = np.flatnonzero((images == image).all(axis=(1, 2, 3)))
            assert labels[row] == label
    assert np.all((first != second).any(axis=(1, 2, 3)))
    within("traverse", folder, "--image", 5, "--steps", 3, "--out", tmp_path / "t.png")
    assert seen["traverse"][3] == labels[5]
    for name in "rit":
        assert (tmp_path / f"{name}.png").exists()

    # The encoder is given the label: that its codes tell it would be no finding.
    out, _ = within("evaluate", folder, "--latent", "--num-samples", 2)
    assert "labels       not probed" in out


def test_lines_run_between_images_of_one_label():
    labels = np.array([1, 0, 1, 1, 0, 1, 2, 1])
    first, second = looking.pairs_of_a_label(labels, 10)
    assert first.tolist() == [1, 0, 3]
    assert second.tolist() == [4, 2, 5]
    assert looking.pairs_of_a_label(labels, 2)[0].tolist() == [1, 0]
    assert [len(rows) for rows in looking.pairs_of_a_label(np.arange(5), 2)] == [0, 0]


@pytest.mark.exhaustive
def test_labels_that_do_not_fit_end_in_one_line(conditional, tmp_path):
    folder, unconditional = conditional[0], tmp_path / "plain.keras"
    tfvae.VAE.for_images((8, 8, 1), latent_dim=2, network="dense").save(unconditional)
    out = ("--out", tmp_path / "x.png")
    assert "expected labels below 10, from 0; received labels from 10 to 10" in refused(
        "sample", folder, "--label", 10, *out
    )
    assert "the model takes no labels" in refused("sample", unconditional, "--label", 3, *out)
    assert "unknown density 'kde': expected one of gaussian_mixture, realnvp, maf" in refused(
        "sample", folder, "--ex-post", "kde", *out
    )
    assert "components is a whole number from 1" in refused(
        "sample",
        unconditional,
        "--dataset",
        "digits",
        "--ex-post",
        "gaussian_mixture:components=0",
        *out,
    )
    images = np.random.default_rng(0).random((10, 8, 8)).astype("float32")
    np.save(tmp_path / "bare.npy", images)
    np.savez(tmp_path / "few.npz", images=images, labels=np.arange(10))
    np.savez(tmp_path / "many.npz", images=images, labels=np.arange(10, 20))
    for command in ("reconstruct", "interpolate", "traverse"):
        line = refused(command, folder, "--dataset", tmp_path / "bare.npy", *out)
        assert re.search(r"the model is conditional, and .*bare\.npy has no labels", line)
    assert "expected labels below 10" in refused(
        "reconstruct", folder, "--dataset", tmp_path / "many.npz", *out
    )
    assert "expected at least two test images of one label" in refused(
        "interpolate", folder, "--dataset", tmp_path / "few.npz", *out
    )
    assert "bare.npy has no labels for a conditional model" in refused(
        "train", "--conditional", "--dataset", tmp_path / "bare.npy", "--run-dir", tmp_path / "run"
    )
    assert not (tmp_path / "x.png").exists()
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--posterior", "gauss"], "unknown posterior 'gauss': expected one of normal, full_"),
        (["--prior", "gauss"], "unknown prior 'gauss': expected one of standard_normal, mixture"),
        (["--objective", "gauss"], "unknown objective 'gauss': expected one of elbo, stl, free_"),
        (["--objective", "elbo:beta=ramp(steps=3)"], "or one of constant, linear, cyclical"),
        (["--objective", "elbo:gamma=3"], "unknown option 'gamma' of objective 'elbo'"),
        (["--posterior", "iaf:flows=0"], "flows is a whole number from 1; received 0"),
        (["--prior", "class_normal"], "needs a conditional model"),
        (["--prior", "vamp", "--conditional"], "choose the prior"),
        (["--prior", "vamp:pseudo_inputs=1438"], "expected 1438 events or more"),
        (["--prior", "realnvp", "--latent-dim", "1"], "needs a latent dimension from 2"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else "",
)
def test_families_that_do_not_fit_end_in_one_line(tmp_path, arguments, message):
    line = refused(
        "train", *DIGITS, "--run-dir", tmp_path / "run", "--network", "dense", *arguments
    )
    assert message in line
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def untrained(monkeypatch, tmp_path):
    """Give the model that a command would train, just before it does."""

    def start(*arguments):
        seen = []

        def stop(vae, *_, **__):
            seen.append(vae)
            raise tfvae.InputError("stopped")

        monkeypatch.setattr(job, "train", stop)
        assert "stopped" in refused(
            "train", *DIGITS, "--run-dir", tmp_path / "run", "--network", "dense", *arguments
        )
        return seen[0]

    return start


def test_an_objective_learns_the_size_of_the_data_set(untrained):
    vae = untrained("--objective", "beta_tc:beta=2")
    assert vae.objective.dataset_size == len(datasets.load("digits").train) == 1437
    assert untrained("--objective", "beta_tc:dataset_size=9").objective.dataset_size == 9


def test_pseudo_inputs_start_as_training_images(untrained):
    vae = untrained("--prior", "vamp:pseudo_inputs=7", "--binarize", "threshold", "--seed", "3")
    images, _ = datasets.load("digits", binarize="threshold", seed=3).train.arrays(limit=7)
    np.testing.assert_allclose(vae.prior_family.inputs, np.clip(images, 0.01, 0.99), atol=1e-5)
