import gzip
import importlib.util
import struct
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from PIL import Image

from tfvae.datasets.open import open_source
from tfvae.errors import InputError


def everything(source):
    return source.read(np.arange(source.count))


def idx_bytes(array, kind=8):
    return struct.pack(f">4B{array.ndim}I", 0, 0, kind, array.ndim, *array.shape) + array.tobytes()


def write_idx(path, array, kind=8):
    content = idx_bytes(array, kind)
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def write_images(folder, images, names=None):
    for index, image in enumerate(images):
        path = folder / (names[index] if names else f"{index:03}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)


def message(*args, **kwargs):
    """The one line of the InputError that opening and reading raises."""
    with pytest.raises(InputError) as caught:
        everything(open_source(*args, **kwargs))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def images(rng):
    return rng.integers(0, 256, (12, 6, 5), np.uint8)


def test_importing_is_light():
    heavy = "{'tensorflow', 'tensorflow_datasets', 'sklearn', 'PIL'}"
    code = f"import sys, tfvae.datasets.open; assert not {heavy} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_digits():
    source = open_source("digits")
    images, labels = everything(source)
    assert source.image_shape == (8, 8, 1)
    assert images.shape == (1797, 8, 8, 1)
    assert images.dtype == np.float32
    assert (images.min(), images.max()) == (0, 1)
    assert np.bincount(labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert labels.dtype == np.int32
    assert source.num_classes == 10
    assert list(source.official) == ["train"]
    np.testing.assert_array_equal(source.official["train"], np.arange(1797))


@pytest.mark.parametrize(
    ("size", "shape"),
    [(4, (4, 4)), ("4", (4, 4)), ("4x6", (4, 6)), ("4X6", (4, 6)), ((4, 6), (4, 6))],
)
def test_image_sizes(size, shape):
    assert open_source("digits", image_size=size).image_shape == (*shape, 1)


@pytest.mark.parametrize("size", ["", "0", "-3", "4x", "4x5x6", "big", (), (1, 2, 3), 0, 2.5])
def test_wrong_image_sizes(size):
    assert "like 28 or 28x20" in message("digits", image_size=size)


class TestIdx:
    @pytest.mark.parametrize(
        ("train", "test", "middle"),
        [
            ("train", "t10k", "-idx"),
            ("train", "t10k", ".idx"),
            ("train", "test", "-idx"),
            ("emnist-letters-train", "emnist-letters-test", "-idx"),
        ],
    )
    @pytest.mark.parametrize("suffix", ["", ".gz"])
    @pytest.mark.parametrize("memory_limit", [0, 2**20])
    def test_reading(self, tmp_path, images, train, test, middle, suffix, memory_limit):
        labels = np.arange(12, dtype=np.uint8)
        write_idx(tmp_path / f"{train}-images{middle}3-ubyte{suffix}", images[:8])
        write_idx(tmp_path / f"{train}-labels{middle}1-ubyte{suffix}", labels[:8])
        write_idx(tmp_path / f"{test}-images{middle}3-ubyte{suffix}", images[8:])
        write_idx(tmp_path / f"{test}-labels{middle}1-ubyte{suffix}", labels[8:])
        source = open_source(tmp_path, memory_limit=memory_limit)
        assert source.in_memory == bool(memory_limit)
        assert source.official["train"].tolist() == sorted(source.official["train"].tolist())
        for split, rows in (("train", np.arange(8)), ("test", np.arange(8, 12))):
            read, read_labels = source.read(source.official[split])
            np.testing.assert_array_equal(read[..., 0], images[rows])
            np.testing.assert_array_equal(read_labels, labels[rows])
        mixed = np.array([11, 0, 9, 0, 7])
        read, _ = source.read(mixed)
        both = np.concatenate([source.read(rows)[0] for rows in source.official.values()])
        np.testing.assert_array_equal(read, both[mixed])

    def test_labels_are_for_every_split_or_none(self, tmp_path, images):
        write_idx(tmp_path / "train-images-idx3-ubyte", images)
        write_idx(tmp_path / "train-labels-idx1-ubyte", np.zeros(12, np.uint8))
        assert open_source(tmp_path).has_labels
        write_idx(tmp_path / "t10k-images-idx3-ubyte", images)
        source = open_source(tmp_path)
        assert source.num_classes is None
        assert everything(source)[1] is None

    @pytest.mark.parametrize(
        ("content", "complaint"),
        [
            (b"", "begins with nothing"),
            (b"hello", "expected it to begin with 00 00 08, it begins with 68 65 6c"),
            (idx_bytes(np.zeros((2, 3, 3), np.float32), 13), "it begins with 00 00 0d"),
            (b"\0\0\x08\x03\0\0", "not a readable IDX file"),
            (
                idx_bytes(np.zeros((2, 3, 3), np.uint8))[:-1],
                "expected 18 bytes of data for 2 x 3 x 3, received 17",
            ),
            (idx_bytes(np.zeros((2, 3, 3), np.uint8)) + b"!", "received 19"),
            (idx_bytes(np.zeros((0, 3, 3), np.uint8)), "at least one; received shape [0, 3, 3]"),
            (idx_bytes(np.zeros(9, np.uint8)), "expected images [N, H, W]"),
        ],
    )
    @pytest.mark.parametrize("suffix", ["", ".gz"])
    def test_damage(self, tmp_path, content, complaint, suffix):
        path = tmp_path / f"train-images-idx3-ubyte{suffix}"
        path.write_bytes(gzip.compress(content) if suffix else content)
        text = message(tmp_path)
        assert complaint in text
        assert str(tmp_path) in text

    @pytest.mark.parametrize("keep", [5, 30, -1])
    def test_truncated_gzip(self, tmp_path, images, keep):
        path = tmp_path / "train-images-idx3-ubyte.gz"
        path.write_bytes(gzip.compress(idx_bytes(images))[:keep])
        text = message(tmp_path)
        assert f"{path} is not a readable IDX file" in text

    def test_altered_gzip(self, tmp_path, images):
        path = tmp_path / "train-images-idx3-ubyte.gz"
        content = bytearray(gzip.compress(idx_bytes(images)))
        content[100] ^= 255
        path.write_bytes(content)
        assert f"{path} is not a readable IDX file" in message(tmp_path)

    def test_several_data_sets(self, tmp_path, images):
        write_idx(tmp_path / "a-train-images-idx3-ubyte", images)
        write_idx(tmp_path / "b-train-images-idx3-ubyte", images)
        assert "several data sets (a, b)" in message(tmp_path)

    def test_no_training_images(self, tmp_path, images):
        write_idx(tmp_path / "t10k-images-idx3-ubyte", images)
        assert "no training images" in message(tmp_path)

    def test_wrong_number_of_labels(self, tmp_path, images):
        write_idx(tmp_path / "train-images-idx3-ubyte", images)
        write_idx(tmp_path / "train-labels-idx1-ubyte", np.zeros(11, np.uint8))
        assert "expected 12 labels, one integer for each image" in message(tmp_path)

    def test_real_mnist(self, test_data):
        source = open_source(test_data / "mnist", memory_limit=0)
        assert source.image_shape == (28, 28, 1)
        assert {split: len(rows) for split, rows in source.official.items()} == {
            "train": 60000,
            "test": 10000,
        }
        counts = np.bincount(source.read(source.official["train"])[1])
        assert counts.tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
        counts = np.bincount(source.read(source.official["test"])[1])
        assert counts.tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


class TestArrays:
    @pytest.mark.parametrize("dtype", [np.uint8, bool, np.float16, np.float32, np.float64, ">f4"])
    @pytest.mark.parametrize("memory_limit", [0, 2**20])
    def test_npy(self, tmp_path, images, dtype, memory_limit):
        np.save(tmp_path / "x.npy", images.astype(dtype)[..., np.newaxis])
        source = open_source(tmp_path / "x.npy", memory_limit=memory_limit)
        read, labels = everything(source)
        assert labels is None
        assert not source.has_labels
        kept = images.astype(dtype).dtype in (np.uint8, bool)
        assert read.dtype == source.dtype == (dtype if kept else np.float32)
        np.testing.assert_array_equal(read[..., 0], images.astype(dtype))

    def test_channels(self, tmp_path, rng):
        colour = rng.random((4, 6, 5, 3))
        np.save(tmp_path / "x.npy", np.asfortranarray(colour))
        source = open_source(str(tmp_path / "x.npy"))
        assert source.image_shape == (6, 5, 3)
        np.testing.assert_array_equal(everything(source)[0], colour.astype(np.float32))

    @pytest.mark.parametrize("dtype", [np.int64, np.int16, np.complex64, "S3", "datetime64[s]"])
    def test_wrong_types(self, tmp_path, dtype):
        np.save(tmp_path / "x.npy", np.zeros((2, 3, 3), dtype))
        text = message(tmp_path / "x.npy")
        assert "expected images of type uint8, uint16, bool or float" in text
        assert "convert them" in text

    @pytest.mark.parametrize(
        "shape", [(), (9,), (2, 9), (2, 3, 3, 3, 1, 1), (0, 3, 3), (2, 0, 3, 1)]
    )
    def test_wrong_shapes(self, tmp_path, shape):
        np.save(tmp_path / "x.npy", np.zeros(shape, np.uint8))
        text = message(tmp_path / "x.npy")
        assert "x.npy" in text
        if shape != ():
            assert f"received shape {list(shape)}" in text

    @pytest.mark.parametrize("name", ["x.npy", "x.npz"])
    def test_damage(self, tmp_path, images, name):
        path = tmp_path / name
        np.save(path, images) if path.suffix == ".npy" else np.savez_compressed(path, images)
        content = path.read_bytes()
        for damaged in (b"", b"hello", content[:20], content[: len(content) // 2], content[:-1]):
            path.write_bytes(damaged)
            assert f"{path} is not a readable" in message(path)

    def test_altered_npz(self, tmp_path, images):
        path = tmp_path / "x.npz"
        np.savez(path, images)
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 255
        path.write_bytes(content)
        assert f"{path} is not a readable" in message(path)

    def test_pickles_are_not_loaded(self, tmp_path):
        objects = np.array([[[{}]]], object)
        np.save(tmp_path / "x.npy", objects)
        assert "is not a readable array" in message(tmp_path / "x.npy")
        np.savez(tmp_path / "x.npz", objects)
        assert "is not a readable array" in message(tmp_path / "x.npz")

    @pytest.mark.parametrize(
        ("keys", "splits", "has_labels"),
        [
            (["anything"], ["train"], False),
            (["images", "labels"], ["train"], True),
            (["x_train", "y_train", "x_test", "y_test"], ["train", "test"], True),
            (["x_train", "x_test", "y_test"], ["train", "test"], False),
            (["train", "valid", "test"], ["train", "validation", "test"], False),
            (["test", "validation", "train"], ["train", "validation", "test"], False),
            (["train_images", "val_images", "train_labels", "val_labels"],
             ["train", "validation"], True),
            (["train", "comment"], ["train"], False),
        ],
    )  # fmt: skip
    @pytest.mark.parametrize("memory_limit", [0, 2**20])
    def test_npz(self, tmp_path, rng, keys, splits, has_labels, memory_limit):
        arrays = {
            key: rng.integers(0, 9, (4, 1), np.int64)
            if "y" in key.split("_") or "labels" in key
            else rng.integers(0, 256, (4, 3, 2), np.uint8)
            for key in keys
        }
        np.savez_compressed(tmp_path / "x.npz", **arrays)
        source = open_source(tmp_path / "x.npz", memory_limit=memory_limit)
        assert set(source.official) == set(splits)
        assert source.has_labels == has_labels
        assert source.count == 4 * len(splits)
        names = {"train": ("train", "images", "anything"), "test": ("test",),
                 "validation": ("valid", "validation", "val")}  # fmt: skip
        for split, rows in source.official.items():
            read, labels = source.read(rows)
            key = next(
                key for key in keys
                if set(names[split]) & set(key.split("_")) and arrays[key].ndim == 3
            )  # fmt: skip
            np.testing.assert_array_equal(read[..., 0], arrays[key])
            if has_labels:
                assert source.num_classes > labels.max()
                key = key.replace("x_", "y_").replace("images", "labels")
                np.testing.assert_array_equal(labels, arrays[key][:, 0])

    @pytest.mark.parametrize(
        "keys", [[], ["a", "b"], ["x_test", "y_test"], ["images", "train"], ["labels", "a"]]
    )
    def test_unclear_keys(self, tmp_path, images, keys):
        np.savez(tmp_path / "x.npz", **dict.fromkeys(keys, images))
        text = message(tmp_path / "x.npz")
        assert "arrays named like x_train, y_train, x_test" in text
        assert text.endswith(f"received {keys}")

    def test_splits_must_match(self, tmp_path, images):
        np.savez(tmp_path / "x.npz", train=images, test=images[:, :4])
        assert "train images are 6 x 5 x 1 uint8, but the test images are 4 x 5 x 1 uint8" in (
            message(tmp_path / "x.npz")
        )
        assert open_source(tmp_path / "x.npz", image_size=4).image_shape == (4, 4, 1)
        np.savez(tmp_path / "x.npz", train=images, test=images / 255)
        assert "6 x 5 x 1 float32" in message(tmp_path / "x.npz")

    @pytest.mark.parametrize(
        "labels", [np.zeros(11, int), np.zeros((12, 3), int), np.zeros(11), np.full(11, "cat")]
    )
    def test_wrong_labels(self, tmp_path, images, labels):
        np.savez(tmp_path / "x.npz", images=images, labels=labels)
        assert "expected 12 labels, one integer for each image" in message(tmp_path / "x.npz")

    def test_an_archive_member_cannot_leave_its_folder(self, tmp_path, images):
        path = tmp_path / "inner" / "x.npz"
        path.parent.mkdir()
        np.save(tmp_path / "x.npy", images)
        content = (tmp_path / "x.npy").read_bytes()
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("../../escaped.npy", content)
        assert open_source(path).count == 12
        assert not list(tmp_path.rglob("escaped*"))


class TestResizing:
    @pytest.mark.parametrize("dtype", [np.uint8, np.float32])
    def test_shrinking_averages(self, tmp_path, rng, dtype):
        images = (rng.integers(0, 64, (3, 6, 8, 3)) * 4).astype(dtype)
        np.save(tmp_path / "x.npy", images)
        source = open_source(tmp_path / "x.npy", image_size=(3, 4))
        assert source.dtype == dtype
        means = images.reshape(3, 3, 2, 4, 2, 3).mean(axis=(2, 4))
        np.testing.assert_allclose(everything(source)[0], means, atol=0.501)

    @pytest.mark.parametrize("size", [(3, 4), (13, 17), (3, 17)])
    def test_values_stay_in_range(self, tmp_path, rng, size):
        np.save(tmp_path / "x.npy", rng.integers(0, 2, (5, 6, 8)) == 1)
        source = open_source(tmp_path / "x.npy", image_size=size)
        images, _ = everything(source)
        assert images.shape == (5, *size, 1)
        assert images.dtype == source.dtype == np.float32
        assert images.min() >= 0
        assert images.max() <= 1
        assert 0.3 < images.mean() < 0.7

    def test_held_and_streamed_are_equal(self, tmp_path, rng):
        write_images(tmp_path, rng.integers(0, 256, (9, 6, 8), np.uint8))
        held, streamed = (
            open_source(tmp_path, image_size=5, memory_limit=limit) for limit in (2**20, 0)
        )
        np.testing.assert_array_equal(everything(held)[0], everything(streamed)[0])


class TestNames:
    def test_unknown(self):
        text = message("mnits")
        assert text.startswith(
            "unknown data set 'mnits': expected mnist-small, digits, shapes, the name of "
        )

    @pytest.mark.parametrize("name", ["no/such/folder", "./mnist", "missing.npy", "a/missing.npz"])
    def test_no_such_path(self, tmp_path, monkeypatch, name):
        monkeypatch.chdir(tmp_path)
        assert message(name).startswith("no such file")

    def test_other_files(self, tmp_path):
        path = tmp_path / "x.txt"
        path.write_text("1,2")
        assert "(.csv, .tsv, .parquet, .feather), or a folder of images" in message(path)

    def test_a_path_wins_over_a_name(self, tmp_path, images, monkeypatch):
        monkeypatch.chdir(tmp_path)
        write_images(tmp_path / "digits", images)
        assert open_source("digits").image_shape == (6, 5, 1)

    def test_no_such_manual_dir(self, tmp_path):
        assert "no such folder" in message("mnist", manual_dir=tmp_path / "missing")


class TestTfds:
    """With builders of our own, which TFDS registers by their class's name."""

    @pytest.fixture(scope="module")
    @classmethod
    def tfds(cls):
        import tensorflow_datasets as tfds

        class Registered(tfds.core.GeneratorBasedBuilder):
            VERSION = tfds.core.Version("1.0.0")
            SIZE = (None, None)
            IMAGE = "image"
            # One more than the rows have.
            LABEL = tfds.features.ClassLabel(num_classes=4)

            def _info(self):
                features = {
                    self.IMAGE: tfds.features.Image(shape=(*self.SIZE, 3)),
                    "label": self.LABEL,
                    "caption": tfds.features.Text(),
                }
                return tfds.core.DatasetInfo(
                    builder=self, features=tfds.features.FeaturesDict(features)
                )

            def _split_generators(self, dl_manager):
                return {"train": self._rows(0, 7), "test": self._rows(7, 10)}

            def _generate_examples(self):
                raise NotImplementedError

            def _rows(self, start, stop):
                for row in range(start, stop):
                    height, width = (side or 4 + row for side in self.SIZE)
                    image = np.full((height, width, 3), row, np.uint8)
                    yield row, {self.IMAGE: image, "label": row % 3, "caption": "a square"}

        class FixedSquares(Registered):
            SIZE = (4, 5)

        class LooseSquares(Registered):
            pass

        class NamelessSquares(Registered):
            IMAGE = "picture"

        class FarSquares(Registered):
            def _split_generators(self, dl_manager):
                raise OSError("host not found\nat length")

        class CountedSquares(FixedSquares):
            LABEL = np.int64

        del FixedSquares, LooseSquares, NamelessSquares, FarSquares, CountedSquares
        return tfds

    @pytest.fixture(autouse=True)
    def _data_dir(self, tfds, tmp_path, monkeypatch):
        monkeypatch.setattr(tfds.core.constants, "DATA_DIR", str(tmp_path))
        monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))

    def test_splits(self, capsys):
        held, streamed = (open_source("fixed_squares", memory_limit=m) for m in (2**20, 0))
        assert capsys.readouterr().out == ""
        assert held.in_memory
        assert not streamed.in_memory
        assert held.image_shape == (4, 5, 3)
        # What the builder declares, not what the rows have.
        assert held.num_classes == streamed.num_classes == 4
        assert {split: len(rows) for split, rows in held.official.items()} == {
            "train": 7,
            "test": 3,
        }
        images, labels = held.read(held.official["test"])
        assert sorted(images[:, 0, 0, 0].tolist()) == [7, 8, 9]
        np.testing.assert_array_equal(labels, images[:, 0, 0, 0] % 3)
        rows = np.array([8, 1, 1, 9, 0])
        for one, other in zip(held.read(rows), streamed.read(rows), strict=True):
            np.testing.assert_array_equal(one, other)

    def test_without_array_record(self, monkeypatch):
        found = importlib.util.find_spec

        def find_spec(name):
            return None if name == "array_record" else found(name)

        monkeypatch.setattr(importlib.util, "find_spec", find_spec)
        source = open_source("fixed_squares", memory_limit=0)
        images, labels = source.read(source.official["test"][::-1])
        assert sorted(images[:, 0, 0, 0].tolist()) == [7, 8, 9]
        np.testing.assert_array_equal(labels, images[:, 0, 0, 0] % 3)

    def test_without_tfds(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
        text = message("mnits")
        assert "no such file or folder: mnits" in text
        assert "needs tensorflow-datasets: pip install 'tfvae[tfds]'" in text

    def test_sizes_that_differ(self):
        text = message("loose_squares")
        assert "differ in size" in text
        assert "give image_size=64, or another" in text
        images, _ = everything(open_source("loose_squares", image_size=3))
        assert sorted(images[:, 0, 0, 0].tolist()) == list(range(10))

    def test_no_labels(self):
        source = open_source("counted_squares")
        assert source.num_classes is None
        assert everything(source)[1] is None

    def test_no_images(self):
        assert "has no feature 'image'" in message("nameless_squares")

    def test_download_fails(self):
        text = message("far_squares")
        assert "TFDS could not prepare far_squares: host not found" in text
        assert "give manual_dir=FOLDER" in text

    def test_prepared_in_another_format(self, tfds):
        tfds.builder("fixed_squares").download_and_prepare()
        text = message("fixed_squares")
        assert "TFDS could not prepare fixed_squares" in text
        assert "TFDS_DATA_DIR" in text

    def test_real_mnist(self, test_data, monkeypatch):
        # The first images of each file: to prepare all of them takes half a minute.
        builder = importlib.import_module("tensorflow_datasets.image_classification.mnist")
        monkeypatch.setattr(builder, "_TRAIN_EXAMPLES", 300)
        monkeypatch.setattr(builder, "_TEST_EXAMPLES", 200)
        source = open_source("mnist", manual_dir=test_data / "mnist", memory_limit=0)
        files = open_source(test_data / "mnist")
        assert source.image_shape == files.image_shape
        rows = source.official["test"]
        assert (source.count, len(rows)) == (500, 200)
        images, labels = source.read(rows)
        expected, expected_labels = files.read(files.official["test"][:200])
        assert np.bincount(labels).tolist() == np.bincount(expected_labels).tolist()
        # TFDS shuffles; the sums of their pixels tell the images apart well enough.
        sums, expected_sums = (np.sort(x.sum(axis=(1, 2, 3))) for x in (images, expected))
        np.testing.assert_array_equal(sums, expected_sums)
