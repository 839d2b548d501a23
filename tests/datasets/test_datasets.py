import gc
import itertools
import re
import struct
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tfvae import VAE
from tfvae.datasets import Batches, input_errors, load
from tfvae.errors import InputError
from tfvae.share import share
from tfvae.training import train

SPLITS = ("train", "validation", "test")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Files of the same 100 images, which differ, all grey values alike; row r has label r."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (100, 5, 4, 1), np.uint8)
    images[:, 0, 0, 0] = np.arange(100)
    np.save(folder / "images.npy", images)
    np.savez(folder / "images.npz", images=images, labels=np.arange(100))
    (folder / "png").mkdir()
    for row, image in enumerate(images[..., 0]):
        Image.fromarray(image).save(folder / "png" / f"{row:03}.png")
    return folder


@pytest.fixture(scope="module")
def sixty_thousand(tmp_path_factory):
    """As many training images as MNIST has, of one pixel each, and 30 test images."""
    file = tmp_path_factory.mktemp("many") / "images.npz"
    rng = np.random.default_rng(0)
    images = {split: rng.random((n, 1, 1)) for split, n in (("train", 60_000), ("test", 30))}
    np.savez(file, **images)
    return file


def rows_of(images):
    """The rows of the images above, written in their first pixels."""
    return np.rint(np.asarray(images)[:, 0, 0, 0] * 255).astype(int)


def epoch_of(dataset):
    """All images of one iteration, without labels."""
    batches = [batch[0] if isinstance(batch, tuple) else batch for batch in dataset]
    return np.concatenate([batch.numpy() for batch in batches])


class TestSplits:
    def test_disjoint_and_complete(self, folder):
        data = load(folder / "images.npy")
        rows = [getattr(data, split).rows for split in SPLITS]
        assert [len(r) for r in rows] == [80, 10, 10]
        assert sorted(np.concatenate(rows).tolist()) == list(range(100))
        for split, expected in zip(SPLITS, rows, strict=True):
            assert len(getattr(data, split)) == len(expected)
            assert (np.diff(expected) > 0).all()
            np.testing.assert_array_equal(rows_of(getattr(data, split).arrays()[0]), expected)

    def test_seeded(self, folder):
        one, same, other = (load(folder / "images.npy", seed=seed) for seed in (1, 1, 2))
        for split in SPLITS:
            np.testing.assert_array_equal(getattr(one, split).rows, getattr(same, split).rows)
            assert getattr(one, split).rows.tolist() != getattr(other, split).rows.tolist()

    @pytest.mark.exhaustive
    def test_the_same_in_another_process(self, folder):
        # It ends with an iterator that is still reading, which must not keep it from ending.
        code = (
            "import sys; from tfvae.datasets import load; "
            "data = load(sys.argv[1], binarize='dynamic', seed=5, memory_limit=0); "
            "noisy = load(sys.argv[1], dequantize=True, seed=5).test.arrays()[0]; "
            "iterator = iter(data.train.batches(16, shuffle=True, epoch=3)); x = next(iterator); "
            "print(data.test.rows.tolist(), x.numpy().ravel().astype(int).tolist(), "
            "noisy.ravel().tolist())"
        )
        command = [sys.executable, "-c", code, str(folder / "images.npy")]
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300)
        data = load(folder / "images.npy", binarize="dynamic", seed=5)
        x = next(iter(data.train.batches(16, shuffle=True, epoch=3)))
        noisy = load(folder / "images.npy", dequantize=True, seed=5).test.arrays()[0]
        expected = [
            data.test.rows.tolist(),
            x.numpy().ravel().astype(int).tolist(),
            noisy.ravel().tolist(),
        ]
        assert done.stdout.strip() == " ".join(map(str, expected))

    @pytest.mark.parametrize(
        ("keys", "expected"),
        [
            (("train", "valid", "test"), (range(100), range(100, 110), range(110, 130))),
            (("train", "test"), (None, None, range(100, 120))),
            (("train", "valid"), (None, range(100, 110), None)),
        ],
    )
    def test_official(self, tmp_path, rng, keys, expected):
        sizes = {"train": 100, "valid": 10, "test": 20}
        np.savez(tmp_path / "x.npz", **{key: rng.random((sizes[key], 3, 3)) for key in keys})
        data = load(tmp_path / "x.npz", validation=0.2, test=0.3)
        rows = {split: getattr(data, split).rows.tolist() for split in SPLITS}
        for split, official in zip(SPLITS, expected, strict=True):
            if official:
                assert rows[split] == list(official)
        total = sum(sizes[key] for key in keys)
        assert sorted(itertools.chain(*rows.values())) == list(range(total))
        if "valid" not in keys:
            assert len(rows["validation"]) == 20
        if "test" not in keys:
            assert len(rows["test"]) == 30

    def test_few_images(self, tmp_path, rng):
        np.save(tmp_path / "x.npy", rng.random((3, 4, 4)))
        data = load(tmp_path / "x.npy")
        assert [len(getattr(data, split)) for split in SPLITS] == [1, 1, 1]
        np.save(tmp_path / "x.npy", rng.random((2, 4, 4)))
        with pytest.raises(InputError, match="2 images to split, too few to take 1 for valid"):
            load(tmp_path / "x.npy")

    @pytest.mark.parametrize("name", ["validation", "test"])
    @pytest.mark.parametrize("size", [0, -0.1, -1, 1.5, float("nan"), float("inf")])
    def test_sizes_that_are_none(self, folder, name, size):
        message = (
            rf"(the {name} images are a fraction between 0 and 1|{name} is a fraction below 1)"
        )
        with pytest.raises(InputError, match=message):
            load(folder / "images.npy", **{name: size})

    @pytest.mark.parametrize(
        ("validation", "count"), [(400, 400), (400.0, 400), (1, 1), (0.5, 3e4)]
    )
    def test_numbers_of_images(self, sixty_thousand, validation, count):
        data = load(sixty_thousand, validation=validation)
        assert [len(getattr(data, split)) for split in SPLITS] == [60_000 - count, count, 30]
        rows = np.concatenate([data.train.rows, data.validation.rows])
        assert np.unique(rows).tolist() == list(range(60_000))

    def test_fractions_that_leave_nothing(self, folder):
        with pytest.raises(InputError, match="too few to take 50 for validation and 50 for test"):
            load(folder / "images.npy", validation=0.5, test=0.5)

    @pytest.mark.parametrize("seed", [-1, 2**63])
    def test_seeds(self, folder, seed):
        with pytest.raises(InputError, match="seed is a whole number"):
            load(folder / "images.npy", seed=seed)


class TestBatches:
    def test_bytes_are_scaled(self, folder):
        expected = np.load(folder / "images.npy")
        data = load(folder / "images.npy").train
        images = epoch_of(data.batches(7))
        assert images.dtype == np.float32
        np.testing.assert_array_equal(images, expected[data.rows] / np.float32(255))

    def test_floats_are_left(self, tmp_path, rng):
        images = rng.normal(size=(30, 3, 3, 2)).astype(np.float32)
        np.save(tmp_path / "x.npy", images)
        data = load(tmp_path / "x.npy").train
        np.testing.assert_array_equal(epoch_of(data.batches(7)), images[data.rows])

    def test_bits(self, tmp_path, rng):
        images = rng.random((30, 3, 3)) < 0.5
        np.save(tmp_path / "x.npy", images)
        data = load(tmp_path / "x.npy").train
        np.testing.assert_array_equal(epoch_of(data.batches(7))[..., 0], images[data.rows])

    @pytest.mark.parametrize("memory_limit", [0, 2**20])
    def test_labels_go_with_their_images(self, folder, memory_limit):
        data = load(folder / "images.npz", memory_limit=memory_limit)
        assert data.has_labels
        assert data.train.has_labels
        # The labels of this file are its rows.
        assert data.num_classes == 1 + max(
            data.train.rows.max(), data.validation.rows.max(), data.test.rows.max()
        )
        assert load(folder / "images.npy", memory_limit=memory_limit).num_classes is None
        dataset = data.train.batches(16, shuffle=True)
        assert dataset.element_spec == (
            tf.TensorSpec((None, 5, 4, 1), tf.float32),
            tf.TensorSpec((None,), tf.int32),
        )
        for images, labels in dataset:
            np.testing.assert_array_equal(rows_of(images), labels)
        images, labels = data.test.arrays()
        assert labels.dtype == np.int32
        np.testing.assert_array_equal(labels, data.test.rows)
        np.testing.assert_array_equal(rows_of(images), labels)

    @pytest.mark.parametrize("memory_limit", [0, 2**20])
    def test_last_batch(self, folder, memory_limit):
        train = load(folder / "images.npy", memory_limit=memory_limit).train
        dataset = train.batches(32)
        assert dataset.element_spec == tf.TensorSpec((None, 5, 4, 1), tf.float32)
        assert dataset.cardinality() == train.steps(32) == 3
        assert [len(batch) for batch in dataset] == [32, 32, 16]
        dataset = train.batches(32, drop_remainder=True)
        assert dataset.element_spec == tf.TensorSpec((32, 5, 4, 1), tf.float32)
        assert dataset.cardinality() == train.steps(32, drop_remainder=True) == 2
        assert [len(batch) for batch in dataset] == [32, 32]
        assert [len(batch) for batch in train.batches(1000)] == [80]

    @pytest.mark.parametrize(
        "arguments", [{"batch_size": 0}, {"batch_size": 81, "drop_remainder": True}]
    )
    def test_impossible_batches(self, folder, arguments):
        train = load(folder / "images.npy").train
        with pytest.raises(InputError, match="cannot be made of 80 images"):
            train.batches(**arguments)

    @pytest.mark.parametrize("memory_limit", [0, 2**20])
    def test_shuffles(self, folder, memory_limit):
        train = load(folder / "images.npy", memory_limit=memory_limit).train
        order = [
            rows_of(epoch_of(train.batches(batch_size, shuffle=True, epoch=epoch))).tolist()
            for batch_size, epoch in ((16, 0), (16, 1), (16, 0), (7, 0))
        ]
        assert sorted(order[0]) == sorted(order[1]) == train.rows.tolist()
        assert order[0] != order[1]
        assert order[0] == order[2] == order[3]
        other = load(folder / "images.npy", seed=1, memory_limit=memory_limit).train
        assert rows_of(epoch_of(other.batches(16, shuffle=True, epoch=0))).tolist() != order[0]

    def test_shuffles_mix(self, tmp_path):
        """In order of class, as folders are, 10 classes come in every batch about alike."""
        count = 5000
        np.savez(
            tmp_path / "x.npz",
            images=np.zeros((count, 1, 1), np.uint8),
            labels=np.arange(count) * 10 // count,
        )
        train = load(tmp_path / "x.npz").train
        batches = train.batches(100, shuffle=True, epoch=0, drop_remainder=True)
        counts = np.stack([np.bincount(labels, minlength=10) for _, labels in batches])
        chi_squared = ((counts - 10) ** 2 / 10).sum(axis=1)
        assert 6 < chi_squared.mean() < 12

    @pytest.mark.few(1)
    @pytest.mark.parametrize("memory_limit", [0, 2**20])
    def test_each_iteration_is_an_epoch(self, folder, memory_limit):
        train = load(folder / "images.npy", binarize="dynamic", memory_limit=memory_limit).train
        dataset = train.batches(16, shuffle=True)
        expected = [epoch_of(train.batches(16, shuffle=True, epoch=e)) for e in range(4)]
        # The pipeline holds what it needs.
        del train
        gc.collect()
        assert dataset.cardinality() == 5
        for images in expected[:3]:
            np.testing.assert_array_equal(epoch_of(dataset), images)
        next(iter(dataset))
        with pytest.raises(AssertionError):
            np.testing.assert_array_equal(epoch_of(dataset), expected[3])

    def test_each_epoch_of_fit(self, folder):
        train = load(folder / "images.npy").train
        seen = []

        class Recorder(keras.Model):
            def train_step(self, data):
                tf.py_function(lambda x: seen.append(rows_of(x).tolist()), [data], [])
                return {"loss": 0.0}

        model = Recorder()
        model.compile(jit_compile=False)
        model.fit(train.batches(80, shuffle=True), epochs=3, shuffle=False, verbose=0)
        assert len(seen) == 3
        assert len({tuple(rows) for rows in seen}) == 3
        assert {tuple(sorted(rows)) for rows in seen} == {tuple(train.rows)}


class TestBatchesByStep:
    """Each batch on its own, from `Batches.at`, is that of a whole epoch."""

    DRAWS = ({}, {"binarize": "dynamic"}, {"binarize": "static"}, {"dequantize": True})

    @staticmethod
    def flat(batch):
        return [np.asarray(part) for part in tf.nest.flatten(batch)]

    def assert_same(self, one, other):
        for part, same in zip(self.flat(one), self.flat(other), strict=True):
            assert part.dtype == same.dtype
            np.testing.assert_array_equal(part, same)

    @pytest.mark.few(1)
    @pytest.mark.parametrize(
        ("draws", "memory_limit", "drop_remainder"),
        [
            ({"binarize": "dynamic"}, 0, False),
            ({}, 2**30, True),
            ({"binarize": "static"}, 2**30, False),
            ({"dequantize": True}, 0, True),
        ],
    )
    def test_of_any_epoch_and_step(self, folder, draws, memory_limit, drop_remainder):
        # 80 images: 13 batches of 6, and one of 2.
        split = load(folder / "images.npz", memory_limit=memory_limit, **draws).train
        options = {"shuffle": True, "drop_remainder": drop_remainder}
        batches = Batches(split, 6, **options)
        assert len(batches) == (13 if drop_remainder else 14)
        assert batches.images == (78 if drop_remainder else 80)
        for epoch in (0, 3):
            whole = list(split.batches(6, epoch=epoch, **options))
            assert len(whole) == len(batches)
            for step, batch in enumerate(whole):
                self.assert_same(batches.at(epoch, step), batch)
                assert int(batches.total(step)) == len(batch[0])
            rest = list(batches.dataset(epoch, start=9))
            for batch, same in zip(rest, whole[9:], strict=True):
                self.assert_same(batch, same)
        again = [rows_of(batches.at(epoch, 0)[0]).tolist() for epoch in (0, 3)]
        assert draws or again[0] != again[1]

    @pytest.mark.exhaustive
    @pytest.mark.parametrize(
        ("draws", "memory_limit"), [({"binarize": "dynamic"}, 0), ({"dequantize": True}, 2**30)]
    )
    def test_the_rows_of_workers_are_those_of_the_whole(self, folder, draws, memory_limit):
        split = load(folder / "images.npz", memory_limit=memory_limit, **draws).train
        batches = Batches(split, 6, shuffle=True)
        for workers in (2, 4):
            epochs = [
                list(batches.dataset(1, worker=worker, workers=workers))
                for worker in range(workers)
            ]
            # The last one has two rows, fewer than workers: some have none that counts.
            for step in (0, 5, 13):
                whole = self.flat(batches.at(1, step))
                parts = []
                for worker in range(workers):
                    own = batches.at(1, step, worker, workers)
                    self.assert_same(epochs[worker][step], own)
                    rows = share(len(whole[0]), worker, workers)
                    assert len(self.flat(own)[0]) == rows.stop - rows.start
                    if float(rows.counts):
                        parts.append(self.flat(own))
                self.assert_same([np.concatenate(part) for part in zip(*parts, strict=True)], whole)

    @pytest.mark.parametrize("draws", DRAWS)
    def test_of_files_and_of_memory_are_the_same(self, folder, draws):
        in_memory, read = (
            Batches(load(folder / "images.npz", memory_limit=limit, **draws).train, 6, shuffle=True)
            for limit in (2**30, 0)
        )
        assert in_memory.split.in_memory
        assert not read.split.in_memory
        for epoch, step in ((0, 0), (0, 13), (2, 7)):
            self.assert_same(in_memory.at(epoch, step), read.at(epoch, step))

    def test_within_a_graph(self, folder):
        batches = Batches(load(folder / "images.npz", binarize="dynamic").train, 6, shuffle=True)
        at = tf.function(batches.at)
        for step in (0, 13):
            self.assert_same(at(tf.constant(2), tf.constant(step)), batches.at(2, step))

    def test_a_batch_that_cannot_be_made_is_refused(self, folder):
        split = load(folder / "images.npz").train
        with pytest.raises(InputError, match="a batch of 81 cannot be made of 80 images"):
            Batches(split, 81, drop_remainder=True)

    @pytest.mark.exhaustive
    def test_training_on_them_is_training_on_data_sets(self):
        data = load("digits", binarize="dynamic", memory_limit=0)
        train_split, validation = data.train.subset(40), data.validation.subset(20)
        results = []
        for fit in (False, True, None):
            vae = VAE.for_images(data.image_shape, latent_dim=2, network="dense", seed=0)
            vae.compile(keras.optimizers.SGD(1e-3, momentum=0.9))
            batches = train_split.batches(16, shuffle=True)
            held_out = validation.batches(8)
            if fit:
                history = vae.fit(batches, epochs=2, validation_data=held_out, verbose=0)
            else:
                if fit is None:
                    batches = Batches(train_split, 16, shuffle=True)
                    held_out = Batches(validation, 8)
                history = train(vae, batches, epochs=2, validation_data=held_out, progress=False)
            results.append((vae.get_weights(), history.history))
        expected_weights, expected = results.pop()
        for weights, history in results:
            for weight, other in zip(weights, expected_weights, strict=True):
                # Six updates, their sums in any order of threads.
                np.testing.assert_allclose(weight, other, rtol=1e-5, atol=1e-6)
            assert history.keys() == expected.keys()
            for name, values in expected.items():
                np.testing.assert_allclose(history[name], values, rtol=1e-5)


class TestArrays:
    def test_limits(self, folder):
        train = load(folder / "images.npy").train
        for limit, count in ((1, 1), (79, 79), (80, 80), (1000, 80), (None, 80)):
            images, labels = train.arrays(limit)
            assert labels is None
            assert images.shape == (count, 5, 4, 1)
            np.testing.assert_array_equal(rows_of(images), train.rows[:count])
        with pytest.raises(InputError, match="a whole number from 1"):
            train.arrays(0)

    def test_more_than_one_batch(self, tmp_path, rng):
        images = rng.random((1000, 2, 2)).astype(np.float32)
        np.save(tmp_path / "x.npy", images)
        train = load(tmp_path / "x.npy").train
        np.testing.assert_array_equal(train.arrays()[0][..., 0], images[train.rows])
        np.testing.assert_array_equal(train.arrays(300)[0][..., 0], images[train.rows[:300]])


class TestBinarization:
    @pytest.fixture(params=[0, 2**24], ids=["streamed", "held"])
    def memory_limit(self, request):
        return request.param

    @pytest.fixture(scope="class")
    @classmethod
    def ramp(cls, tmp_path_factory):
        """2000 images whose pixels go from 0 to 1 in tenths: a draw's mean is known."""
        path = tmp_path_factory.mktemp("ramp") / "x.npy"
        np.save(path, np.tile(np.linspace(0, 1, 11, dtype=np.float32), (2000, 1, 1))[..., None])
        return path

    def test_threshold(self, folder, memory_limit):
        data = load(folder / "images.npy", binarize="threshold", memory_limit=memory_limit)
        images = np.load(folder / "images.npy")
        for split in (data.train, data.validation, data.test):
            np.testing.assert_array_equal(split.arrays()[0], images[split.rows] > 127)

    def test_dynamic_draws_each_epoch(self, ramp, memory_limit):
        train = load(ramp, binarize="dynamic", memory_limit=memory_limit).train
        first, again, second = (epoch_of(train.batches(128, epoch=e)) for e in (0, 0, 1))
        np.testing.assert_array_equal(first, again)
        assert set(np.unique(first)) == {0, 1}
        expected = np.linspace(0, 1, 11)
        for images in (first, second):
            # Four standard deviations of the mean of 1600 draws are at most 0.05.
            np.testing.assert_allclose(images.mean(axis=(0, 1, 3)), expected, atol=0.05)
        # Two independent draws of 1/2 differ in half of the pixels.
        assert abs((first != second)[:, 0, 5].mean() - 0.5) < 0.05
        # No two steps draw alike.
        assert not np.array_equal(first[:128], first[128:256])

    def test_dynamic_draws_are_independent_of_place(self, ramp, memory_limit):
        """Neighbouring images and pixels do not share a draw."""
        train = load(ramp, binarize="dynamic", memory_limit=memory_limit).train
        images = epoch_of(train.batches(128, epoch=0))[:, 0, 1:10, 0]
        correlations = np.corrcoef(images.T) - np.eye(9)
        assert abs(correlations).max() < 0.1
        for pixel in images.T:
            assert abs(np.corrcoef(pixel[:-1], pixel[1:])[0, 1]) < 0.1

    def test_dynamic_holds_evaluation_still(self, ramp, memory_limit):
        dynamic, static = (
            load(ramp, binarize=binarize, memory_limit=memory_limit)
            for binarize in ("dynamic", "static")
        )
        for split in ("validation", "test"):
            one, other = (getattr(data, split).batches(64) for data in (dynamic, static))
            first = epoch_of(one)
            np.testing.assert_array_equal(first, epoch_of(one))
            np.testing.assert_array_equal(first, epoch_of(other))
            assert set(np.unique(first)) == {0, 1}

    def test_static_is_one_draw(self, folder, memory_limit):
        path = folder / "images.npz"
        reference = load(path, binarize="static").train
        train = load(path, binarize="static", memory_limit=memory_limit).train
        expected, _ = reference.arrays()
        assert set(np.unique(expected)) == {0, 1}
        for batch_size in (1, 7, 80):
            np.testing.assert_array_equal(epoch_of(train.batches(batch_size)), expected)
        for epoch in (0, 1):
            for images, labels in train.batches(16, shuffle=True, epoch=epoch):
                np.testing.assert_array_equal(images, expected[np.searchsorted(train.rows, labels)])

    def test_static_draws_have_the_right_mean(self, ramp, memory_limit):
        one, other = (
            load(ramp, binarize="static", memory_limit=memory_limit, seed=s).train.arrays()[0]
            for s in (0, 1)
        )
        np.testing.assert_allclose(one.mean(axis=(0, 1, 3)), np.linspace(0, 1, 11), atol=0.05)
        assert abs((one != other)[:, 0, 5].mean() - 0.5) < 0.05
        assert abs(np.corrcoef(one[:-1, 0, 5, 0], one[1:, 0, 5, 0])[0, 1]) < 0.1

    def test_static_is_the_same_in_any_split(self, ramp):
        """A draw belongs to the row, whichever split it falls into."""
        one = load(ramp, binarize="static")
        other = load(ramp, binarize="static", validation=0.4, test=0.4)
        both, mine, yours = np.intersect1d(one.train.rows, other.test.rows, return_indices=True)
        assert len(both) > 100
        np.testing.assert_array_equal(one.train.arrays()[0][mine], other.test.arrays()[0][yours])

    @pytest.mark.few(2)
    @pytest.mark.parametrize("binarize", ["static", "dynamic"])
    def test_another_draw_of_the_same_images(self, ramp, memory_limit, binarize):
        test = load(ramp, binarize=binarize, memory_limit=memory_limit).test
        first, again, other = (test.redrawn(seed).arrays()[0] for seed in (1, 1, 2))
        np.testing.assert_array_equal(first, again)
        np.testing.assert_array_equal(test.redrawn(0).arrays()[0], test.arrays()[0])
        # Pixels of 0 and 1 stay; two draws of 1/2 differ in half of the images.
        np.testing.assert_array_equal(first[:, 0, [0, 10]], other[:, 0, [0, 10]])
        assert abs((first != other)[:, 0, 5].mean() - 0.5) < 4 * 0.5 / np.sqrt(len(test))
        np.testing.assert_array_equal(test.redrawn(1).rows, test.rows)

    def test_unknown(self, folder):
        with pytest.raises(InputError, match="none, threshold, static, dynamic; received 'soft'"):
            load(folder / "images.npy", binarize="soft")

    @pytest.mark.parametrize(
        ("binarize", "value"), [("threshold", 1.5), ("static", -0.1), ("dynamic", np.inf)]
    )
    def test_values_that_are_no_probabilities(self, tmp_path, memory_limit, binarize, value):
        images = np.full((20, 3, 3), 0.5)
        images[:, 1, 1] = value
        np.save(tmp_path / "x.npy", images)
        words = r"x\.npy expects values in \[0, 1\]"
        if np.isinf(value):
            words = r"x\.npy: expected finite values; received some from 0\.5 to inf"
        with pytest.raises(InputError, match=words) as caught:
            load(tmp_path / "x.npy", binarize=binarize, memory_limit=memory_limit).train.arrays()
        assert "\n" not in str(caught.value)
        if np.isfinite(value):
            load(tmp_path / "x.npy", memory_limit=memory_limit).train.arrays()


class TestStreaming:
    @pytest.mark.few(2)
    @pytest.mark.parametrize(
        ("name", "binarize"),
        [
            ("images.npy", "dynamic"),
            ("images.npz", "threshold"),
            ("png", "none"),
            ("png", "static"),
        ],
    )
    def test_equals_memory(self, folder, name, binarize):
        held, streamed = (
            load(folder / name, binarize=binarize, memory_limit=limit) for limit in (2**20, 0)
        )
        for split in SPLITS:
            one, other = (
                getattr(data, split).batches(16, shuffle=True, epoch=2) for data in (held, streamed)
            )
            np.testing.assert_array_equal(epoch_of(one), epoch_of(other))

    def test_damage_comes_as_one_line(self, tmp_path, rng):
        for row in range(20):
            image = Image.fromarray(rng.integers(0, 256, (32, 32), np.uint8))
            image.save(tmp_path / f"{row:02}.png")
        train = load(tmp_path, memory_limit=0).train
        path = tmp_path / f"{train.rows[5]:02}.png"
        path.write_bytes(path.read_bytes()[:-300])
        complaint = f"^{re.escape(str(path))} is not a readable image: .*$"
        with pytest.raises(InputError, match=complaint) as caught:
            train.arrays()
        assert "\n" not in str(caught.value)
        with pytest.raises(InputError, match=complaint), input_errors():
            for _ in train.batches(4, shuffle=True):
                pass

    def test_other_errors_stay(self):
        with pytest.raises(tf.errors.InvalidArgumentError), input_errors():
            tf.debugging.assert_equal(1, 2)

    @pytest.mark.exhaustive
    @pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
    def test_constant_memory(self, tmp_path):
        """Reading through a file of 400 MB makes the process larger by a small part of that."""
        np.save(tmp_path / "small.npy", np.zeros((2000, 64, 64), np.uint8))
        warm_up = load(tmp_path / "small.npy", memory_limit=0).train.batches(256, shuffle=True)
        assert sum(len(batch) for batch in warm_up) == 1600
        before = anonymous_memory()
        path = tmp_path / "big.npy"
        # Sparse: no such space is taken on the disk.
        np.lib.format.open_memmap(path, "w+", np.uint8, (100_000, 64, 64))
        assert path.stat().st_size > 400e6
        train = load(path, memory_limit=2**28).train
        peak = count = 0
        for step, batch in enumerate(train.batches(256, shuffle=True)):
            count += len(batch)
            if step % 50 == 0:
                peak = max(peak, anonymous_memory())
        assert count == len(train) == 80_000
        assert peak - before < 100e6


def anonymous_memory():
    """Bytes of memory that no file backs."""
    with open("/proc/self/status") as status:  # noqa: PTH123
        return next(1024 * int(line.split()[1]) for line in status if line.startswith("RssAnon"))


def test_idx_folders_keep_their_test_split(tmp_path, rng):
    for name, count in (("train", 50), ("t10k", 20)):
        images = rng.integers(0, 256, (count, 4, 4), np.uint8)
        header = struct.pack(">4B3I", 0, 0, 8, 3, *images.shape)
        (tmp_path / f"{name}-images-idx3-ubyte").write_bytes(header + images.tobytes())
    data = load(tmp_path)
    assert [len(getattr(data, split)) for split in SPLITS] == [45, 5, 20]
    assert data.test.rows.tolist() == list(range(50, 70))


def test_real_mnist(test_data):
    data = load(test_data / "mnist", binarize="dynamic")
    assert data.image_shape == (28, 28, 1)
    assert [len(getattr(data, split)) for split in SPLITS] == [54000, 6000, 10000]
    assert data.test.rows.tolist() == list(range(60000, 70000))
    labels = np.concatenate([labels for _, labels in data.train.batches(1000, shuffle=True)])
    labels = np.concatenate([labels, data.validation.arrays()[1]])
    counts = np.bincount(labels).tolist()
    assert counts == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    # The intensities x of the training images have mean 0.1307 and standard deviation 0.3081, so
    # that two draws differ in 2 E[x (1 - x)] = 0.0374 of the pixels.
    first, second = (epoch_of(data.train.batches(1000, epoch=epoch)) for epoch in (0, 1))
    assert abs(first.mean() - 0.1307) < 0.001
    assert abs((first != second).mean() - 0.0374) < 0.0005


def test_a_subset_holds_some_of_the_same_images(rng, tmp_path):
    np.save(tmp_path / "images.npy", rng.integers(0, 256, (200, 4, 4), np.uint8))
    split = load(tmp_path / "images.npy", binarize="dynamic").test
    part = split.subset(7, seed=3)
    assert len(part) == 7
    assert set(part.rows) <= set(split.rows)
    assert (np.diff(part.rows) > 0).all()
    # Held-out images keep their draw, whichever others there are.
    images, _ = split.arrays()
    np.testing.assert_array_equal(part.arrays()[0], images[np.isin(split.rows, part.rows)])
    np.testing.assert_array_equal(part.rows, split.subset(7, seed=3).rows)
    assert (part.rows != split.subset(7, seed=4).rows).any()
    np.testing.assert_array_equal(split.subset(10**6).rows, split.rows)
    with pytest.raises(InputError, match="a whole number from 1; received 0"):
        split.subset(0)
