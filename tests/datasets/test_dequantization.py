"""Bytes with uniform noise, whose densities bound probabilities."""

import re
import tomllib

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from tfvae import VAE
from tfvae.cli import main as cli
from tfvae.datasets import load
from tfvae.datasets.draws import dequantized
from tfvae.datasets.open import open_source
from tfvae.errors import InputError
from tfvae.saving import run as runs
from tfvae.saving.config import DataOptions, TrainConfig

SPLITS = ("train", "validation", "test")
# A test that the noise fails by chance once in so many; the draws are fixed, so it is now or never.
LEVEL = 1e-3
LIMITS = pytest.mark.parametrize("memory_limit", [0, 2**24], ids=["streamed", "held"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Files of the same 200 images, with every byte; row r has label r."""
    folder = tmp_path_factory.mktemp("bytes")
    rng = np.random.default_rng(0)
    images = rng.permuted(np.arange(200 * 16 * 16) % 256).reshape(200, 16, 16).astype(np.uint8)
    np.save(folder / "images.npy", images)
    np.savez(folder / "images.npz", images=images, labels=np.arange(200))
    return folder


@pytest.fixture(scope="module")
def images(folder):
    return np.load(folder / "images.npy")[..., np.newaxis]


def epoch_of(dataset):
    """All images of one iteration, without labels."""
    batches = [batch[0] if isinstance(batch, tuple) else batch for batch in dataset]
    return np.concatenate([batch.numpy() for batch in batches])


def noise_of(noisy, images):
    """The u of (byte + u) / 256, exact in float64."""
    return 256 * noisy.astype(np.float64) - images


class TestValues:
    def test_nothing_is_rounded(self):
        """Every byte with the least and the greatest draws stays in its own cell."""
        values = np.arange(256, dtype=np.float32)[:, np.newaxis]
        draws = np.array([0, 2**-24, 0.5, 1 - 2**-23, 1 - 2**-24], np.float32)
        assert draws[-1] == np.nextafter(np.float32(1), np.float32(0))
        # What float32 would do with the last of them.
        assert (np.float32(255) + draws[-1]) / np.float32(256) == 1
        x = dequantized(values, draws)
        assert x.dtype == np.float32
        # The noise has 2^15 values, each in the middle of its part of [0, 1).
        part = 2.0**-15
        noise = np.array([part / 2, part / 2, 0.5 + part / 2, 1 - part / 2, 1 - part / 2])
        np.testing.assert_array_equal(x.astype(np.float64), (values + noise) / 256)
        np.testing.assert_array_equal(np.floor(256 * x), np.broadcast_to(values, x.shape))
        assert 0 < x.min() < x.max() < 1
        np.testing.assert_array_equal(dequantized(tf.constant(values), tf.constant(draws)), x)

    @pytest.mark.few(1)
    @LIMITS
    def test_bytes_come_back(self, folder, images, memory_limit):
        data = load(folder / "images.npy", dequantize=True, memory_limit=memory_limit)
        for split in (data.train, data.validation, data.test):
            noisy = epoch_of(split.batches(16))
            assert noisy.dtype == np.float32
            assert noisy.shape == (len(split), 16, 16, 1)
            assert 0 <= noisy.min() < noisy.max() < 1
            np.testing.assert_array_equal(np.floor(256 * noisy), images[split.rows])

    def test_levels(self, folder):
        assert load(folder / "images.npy", dequantize=True).levels == 256
        assert load(folder / "images.npy").levels is None
        assert load(folder / "images.npy", binarize="static").levels is None
        assert load("digits").levels is None

    def test_resized_bytes(self, folder):
        data = load(folder / "images.npy", dequantize=True, image_size=4)
        source = open_source(folder / "images.npy", image_size=4)
        for split in (data.train, data.test):
            np.testing.assert_array_equal(
                np.floor(256 * split.arrays()[0]), source.read(split.rows)[0]
            )

    def test_the_bound(self, folder, images):
        """E_u[log p(x)] - D log 256 <= log P(bytes), for a p whose cells are known exactly."""
        density = stats.beta(2, 3)
        data = load(folder / "images.npy", dequantize=True)
        x, _ = data.test.arrays()
        bytes_ = images[data.test.rows]
        # The mean over u, by quadrature, is below for each byte, and the draws are near that mean.
        u = (np.arange(1000) + 0.5) / 1000
        cells = density.logpdf((np.arange(256)[:, np.newaxis] + u) / 256) - np.log(256)
        exact = np.log(np.diff(density.cdf(np.arange(257) / 256)))
        assert (cells.mean(axis=1) < exact).all()
        drawn = density.logpdf(x) - np.log(256)
        standard_error = np.sqrt(cells.var(axis=1)[bytes_].sum())
        assert abs(drawn.sum() - cells.mean(axis=1)[bytes_].sum()) < 4 * standard_error
        assert drawn.sum() < exact[bytes_].sum() + 4 * standard_error


class TestNoise:
    @LIMITS
    @pytest.mark.parametrize("split", ["train", "test"])
    def test_is_uniform(self, folder, images, memory_limit, split):
        """By the test of Kolmogorov and Smirnov, of all pixels and of those with one byte.

        The 2^15 values that u takes are no further from continuous than 2^-16; so many draws show
        nothing below 1.9 / sqrt(20000) = 0.013.
        """
        data = load(folder / "images.npy", dequantize=True, test=0.5, memory_limit=memory_limit)
        chosen = getattr(data, split)
        bytes_ = images[chosen.rows]
        noise = noise_of(chosen.arrays()[0], bytes_)
        for u in (noise.ravel(), noise[bytes_ < 8], noise[bytes_ >= 248]):
            assert len(u) > 100
            assert stats.kstest(u, "uniform").pvalue > LEVEL

    @LIMITS
    @pytest.mark.parametrize("split", ["train", "test"])
    def test_is_independent_of_place_and_value(self, folder, images, memory_limit, split):
        data = load(folder / "images.npy", dequantize=True, test=0.5, memory_limit=memory_limit)
        chosen = getattr(data, split)
        bytes_ = images[chosen.rows]
        noise = noise_of(chosen.arrays()[0], bytes_)[..., 0]
        pairs = [
            (noise, bytes_[..., 0]),
            (noise[1:], noise[:-1]),
            (noise[:, 1:], noise[:, :-1]),
            (noise[..., 1:], noise[..., :-1]),
        ]
        for one, other in pairs:
            assert stats.pearsonr(one.ravel(), other.ravel()).pvalue > LEVEL

    @pytest.mark.few(1)
    @LIMITS
    def test_is_new_each_epoch_in_training(self, folder, images, memory_limit):
        train = load(folder / "images.npy", dequantize=True, memory_limit=memory_limit).train
        first, again, second = (epoch_of(train.batches(32, epoch=e)) for e in (0, 0, 1))
        np.testing.assert_array_equal(first, again)
        one, other = (noise_of(x, images[train.rows]).ravel() for x in (first, second))
        assert stats.pearsonr(one, other).pvalue > LEVEL
        # As with `fit`: each iteration is the next epoch.
        dataset = train.batches(32)
        for expected in (first, second):
            np.testing.assert_array_equal(epoch_of(dataset), expected)
        # No two steps draw alike.
        steps = noise_of(first, images[train.rows])
        assert stats.pearsonr(steps[:32].ravel(), steps[32:64].ravel()).pvalue > LEVEL

    @pytest.mark.few(1)
    @LIMITS
    @pytest.mark.parametrize("split", ["validation", "test"])
    def test_is_fixed_for_held_out_images(self, folder, memory_limit, split):
        data = load(folder / "images.npz", dequantize=True, memory_limit=memory_limit)
        chosen = getattr(data, split)
        expected, labels = chosen.arrays()
        np.testing.assert_array_equal(labels, chosen.rows)
        for batch_size in (1, 7, 20):
            for epoch in (0, 1):
                found = epoch_of(chosen.batches(batch_size, epoch=epoch))
                np.testing.assert_array_equal(found, expected)
        for x, labels in chosen.batches(8, shuffle=True, epoch=3):
            np.testing.assert_array_equal(x, expected[np.searchsorted(chosen.rows, labels)])

    @LIMITS
    def test_belongs_to_the_row(self, folder, memory_limit):
        """Whichever held-out split it falls into."""
        one, other = (
            load(
                folder / "images.npy", dequantize=True, memory_limit=memory_limit,
                validation=validation, test=test,
            )
            for validation, test in ((0.1, 0.4), (0.4, 0.1))
        )  # fmt: skip
        both, mine, yours = np.intersect1d(
            one.test.rows, other.validation.rows, return_indices=True
        )
        assert len(both) >= 20
        np.testing.assert_array_equal(
            one.test.arrays()[0][mine], other.validation.arrays()[0][yours]
        )

    def test_follows_the_seed(self, folder, images):
        one, other = (
            load(folder / "images.npy", dequantize=True, seed=seed, test=0.6) for seed in (0, 1)
        )
        both, mine, yours = np.intersect1d(one.test.rows, other.test.rows, return_indices=True)
        u, v = (
            noise_of(data.test.arrays()[0][at], images[both]).ravel()
            for data, at in ((one, mine), (other, yours))
        )
        assert stats.pearsonr(u, v).pvalue > LEVEL

    def test_streamed_and_held_are_equal(self, folder):
        held, streamed = (
            load(folder / "images.npz", dequantize=True, memory_limit=limit) for limit in (2**24, 0)
        )
        for split in SPLITS:
            one, other = (
                getattr(data, split).batches(16, shuffle=True, epoch=2) for data in (held, streamed)
            )
            assert one.element_spec == other.element_spec
            np.testing.assert_array_equal(epoch_of(one), epoch_of(other))


class TestRefusals:
    @pytest.mark.parametrize("binarize", ["threshold", "static", "dynamic"])
    def test_binarized(self, folder, binarize):
        complaint = f"dequantized or binarized, not both: .* or binarize='{binarize}'$"
        with pytest.raises(InputError, match=complaint) as caught:
            load(folder / "images.npy", dequantize=True, binarize=binarize)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("dtype", [np.float32, np.float64, bool])
    def test_no_bytes(self, tmp_path, dtype):
        path = tmp_path / "x.npy"
        np.save(path, np.zeros((20, 3, 3), dtype))
        expected = "bool" if dtype is bool else "float32"
        complaint = (
            rf"^dequantizing takes images of bytes \(uint8\); those of {re.escape(str(path))} are "
            f"{expected}: leave out dequantize=True$"
        )
        with pytest.raises(InputError, match=complaint):
            load(path, dequantize=True)

    def test_digits(self):
        with pytest.raises(InputError, match="those of digits are float32"):
            load("digits", dequantize=True)


class TestCommandLine:
    def test_a_run_keeps_the_option(self, folder, tmp_path):
        run = tmp_path / "run"
        run.mkdir()
        text = TrainConfig(dataset=str(folder / "images.npy"), dequantize=True).to_toml()
        (run / "config.toml").write_text(text)
        VAE.for_images((16, 16, 1), network="dense:hidden=8").save(run / "model.keras")
        assert tomllib.loads(text)["dequantize"] is True
        config = TrainConfig.read(run / "config.toml")
        assert config.dequantize is True
        assert config.to_toml() == text
        assert runs.load_data(config).levels == 256
        # The other commands take the run's images as the run did, and others plainly.
        trained = runs.TrainedModel.open(run)
        expected, _ = load(folder / "images.npy", dequantize=True).test.arrays()
        np.testing.assert_array_equal(trained.arrays(DataOptions())[0], expected)
        assert trained.data(DataOptions(dataset=str(folder / "images.npy"))).levels is None
        options = DataOptions(dataset=str(folder / "images.npy"), dequantize=True)
        assert trained.data(options).levels == 256

    def test_it_is_off_by_default(self, tmp_path):
        assert TrainConfig().dequantize is False
        (tmp_path / "config.toml").write_text('dataset = "digits"\n')
        assert TrainConfig.read(tmp_path / "config.toml").dequantize is False
        assert DataOptions().dequantize is None

    @pytest.mark.parametrize(
        ("arguments", "complaint"),
        [
            ([], "those of digits are float32"),
            (["--binarize", "dynamic"], "dequantized or binarized, not both"),
        ],
    )
    def test_refusals(self, tmp_path, capsys, arguments, complaint):
        run = tmp_path / "run"
        with pytest.raises(SystemExit) as ended:
            cli.main(
                ["train", "--dataset", "digits", "--dequantize", *arguments, "--run-dir", str(run)]
            )
        assert ended.value.code == 2
        assert complaint in capsys.readouterr().err
        assert not run.exists()
