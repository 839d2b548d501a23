"""Archives of pictures, and data sets in the files of those who made them."""

import gzip
import json
import pickle
import struct
import sys
import tarfile
import zipfile

import numpy as np
import pytest
from picture_files import encoded, everything, message, write_images

from tfvae.datasets.open import open_source


@pytest.fixture
def images(rng):
    return rng.integers(0, 256, (12, 6, 5), np.uint8)


class TestArchives:
    def pack(self, path, folder):
        names = sorted(
            str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()
        )
        if path.suffix == ".zip":
            with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
                for name in names:
                    archive.write(folder / name, f"pets/{name}")
        else:
            mode = "w" if path.suffix == ".tar" else f"w:{path.suffix[1:].replace('tgz', 'gz')}"
            with tarfile.open(path, mode) as archive:
                for name in names:
                    archive.add(folder / name, f"./pets/{name}")

    @pytest.mark.parametrize("name", ["x.zip", "x.tar", "x.tar.gz", "x.tgz", "x.tar.xz"])
    @pytest.mark.parametrize("memory_limit", [0, 2**20])
    def test_reading(self, tmp_path, images, name, memory_limit):
        folder = tmp_path / "folder"
        names = [f"{split}/{'ab'[n % 2]}/{n}.png" for n in range(6) for split in ("train", "test")]
        write_images(folder, images, names)
        (folder / "__MACOSX").mkdir()
        (folder / "__MACOSX/._1.png").write_bytes(b"x")
        self.pack(tmp_path / name, folder)
        source = open_source(tmp_path / name, memory_limit=memory_limit)
        expected = open_source(folder)
        assert source.counts == {"train": 6, "test": 6}
        assert source.class_names == ("a", "b")
        assert source.skipped == {"hidden": 1}
        for one, other in zip(everything(source), everything(expected), strict=True):
            np.testing.assert_array_equal(one, other)

    def test_names_as_some_programs_write_them(self, tmp_path, images):
        names = ["./a/1.png", "/a/2.png", "b\\3.png"]
        with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
            for name, image in zip(names, images[:3], strict=True):
                archive.writestr(name, encoded(image))
        source = open_source(tmp_path / "x.zip")
        assert source.names == ("a/1.png", "a/2.png", "b/3.png")
        assert source.class_names == ("a", "b")
        np.testing.assert_array_equal(everything(source)[0][..., 0], images[:3])

    @pytest.mark.parametrize("name", ["x.zip", "x.tar", "x.tar.gz"])
    def test_damage(self, tmp_path, images, name):
        path = tmp_path / name
        path.write_bytes(b"not an archive, but long enough to be read as one" * 30)
        assert f"{path} is not a readable archive" in message(path)
        write_images(tmp_path / "folder", images)
        self.pack(path, tmp_path / "folder")
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])
        assert str(path) in message(path)


class TestKnownSets:
    @staticmethod
    def write_idx(path, array):
        path.parent.mkdir(parents=True, exist_ok=True)
        head = struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
        content = head + array.tobytes()
        path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)

    @pytest.mark.parametrize("given", ["", "MNIST", "MNIST/raw"])
    def test_torchvision(self, tmp_path, images, given):
        for suffix in ("", ".gz"):
            self.write_idx(tmp_path / f"MNIST/raw/train-images-idx3-ubyte{suffix}", images[:8])
            self.write_idx(tmp_path / f"MNIST/raw/t10k-images-idx3-ubyte{suffix}", images[8:])
        source = open_source(tmp_path / given)
        assert source.counts == {"train": 8, "test": 4}
        np.testing.assert_array_equal(everything(source)[0][..., 0], images)
        self.write_idx(tmp_path / "FashionMNIST/raw/train-images-idx3-ubyte", images)
        if not given:
            assert "several data sets (FashionMNIST, MNIST)" in message(tmp_path)

    @pytest.mark.parametrize("both", [False, True])
    def test_kaggle(self, tmp_path, images, both):
        for split, part in (("train", images[:8]), ("t10k", images[8:])):
            self.write_idx(tmp_path / f"{split}-images-idx3-ubyte/{split}-images-idx3-ubyte", part)
            if both:
                self.write_idx(tmp_path / f"{split}-images.idx3-ubyte", part)
        source = open_source(tmp_path)
        assert source.counts == {"train": 8, "test": 4}
        np.testing.assert_array_equal(everything(source)[0][..., 0], images)

    @pytest.fixture
    def cifar(self, rng):
        images = rng.integers(0, 256, (30, 32, 32, 3), np.uint8)
        rows = images.transpose(0, 3, 1, 2).reshape(30, 3072)
        return images, np.ascontiguousarray(rows), (np.arange(30) % 7).tolist()

    @pytest.mark.parametrize("protocol", [2, 4])
    @pytest.mark.parametrize("keys", [str, str.encode])
    @pytest.mark.parametrize("inner", ["", "cifar-10-batches-py"])
    def test_cifar_10_for_python(self, tmp_path, cifar, protocol, keys, inner):
        images, rows, labels = cifar
        folder = tmp_path / inner
        folder.mkdir(exist_ok=True)
        for name, part in (
            ("data_batch_1", slice(0, 10)), ("data_batch_2", slice(10, 20)),
            ("test_batch", slice(20, 30)),
        ):  # fmt: skip
            batch = {"data": rows[part], "labels": labels[part], "filenames": ["x.png"] * 10}
            content = {keys(key): value for key, value in batch.items()}
            (folder / name).write_bytes(pickle.dumps(content, protocol))
        names = [keys(f"class {n}") for n in range(10)]
        meta = {keys("label_names"): names, keys("num_cases_per_batch"): 10}
        (folder / "batches.meta").write_bytes(pickle.dumps(meta, protocol))
        source = open_source(tmp_path)
        assert source.counts == {"train": 20, "test": 10}
        assert (source.num_classes, source.class_names[9]) == (10, "class 9")
        read, found = everything(source)
        np.testing.assert_array_equal(read, images)
        assert found.tolist() == labels

    @pytest.mark.parametrize("hundred", [False, True])
    def test_cifar_binary(self, tmp_path, cifar, hundred):
        images, rows, labels = cifar
        coarse = np.zeros((30, 1), np.uint8)
        fine = np.array(labels, np.uint8)[:, None]
        content = np.concatenate([*([coarse] if hundred else []), fine, rows], axis=1)
        names = ("train.bin", "test.bin") if hundred else ("data_batch_1.bin", "test_batch.bin")
        meta = "fine_label_names.txt" if hundred else "batches.meta.txt"
        content[:20].tofile(tmp_path / names[0])
        content[20:].tofile(tmp_path / names[1])
        (tmp_path / meta).write_text("\n".join("abcdefg"))
        source = open_source(tmp_path)
        assert source.class_names == tuple("abcdefg")
        read, found = everything(source)
        np.testing.assert_array_equal(read, images)
        assert found.tolist() == labels
        (tmp_path / names[0]).write_bytes(b"x" * 5000)
        assert "is damaged: expected a multiple of" in message(tmp_path)

    def test_pickles_run_nothing(self, tmp_path, cifar):
        marker = tmp_path / "ran"

        class Evil:
            def __reduce__(self):
                return open, (str(marker), "w")

        _, rows, labels = cifar
        for data in (Evil(), np.array([Evil()], object), {"a": Evil()}):
            batch = {"data": data, "labels": labels, "more": rows}
            (tmp_path / "data_batch_1").write_bytes(pickle.dumps(batch))
            (tmp_path / "test_batch").write_bytes(pickle.dumps(batch))
            assert "data_batch_1 is not a readable file of CIFAR" in message(tmp_path)
        assert not marker.exists()

    def test_svhn(self, tmp_path, rng, monkeypatch):
        io = pytest.importorskip("scipy.io")
        images = rng.integers(0, 256, (6, 32, 32, 3), np.uint8)
        labels = np.array([1, 2, 10, 9, 10, 5], np.uint8)[:, None]
        x = np.ascontiguousarray(images.transpose(1, 2, 3, 0))
        io.savemat(tmp_path / "train_32x32.mat", {"X": x, "y": labels})
        io.savemat(tmp_path / "test_32x32.mat", {"X": x[..., :2], "y": labels[:2]})
        source = open_source(tmp_path)
        assert (source.counts, source.num_classes) == ({"train": 6, "test": 2}, 10)
        read, found = everything(source)
        np.testing.assert_array_equal(read[:6], images)
        assert found.tolist() == [1, 2, 0, 9, 0, 5, 1, 2]
        assert open_source(tmp_path / "train_32x32.mat").counts == {"train": 6}
        (tmp_path / "train_32x32.mat").write_bytes(b"x" * 500)
        assert "is not a readable .mat file" in message(tmp_path)
        monkeypatch.setitem(sys.modules, "scipy.io", None)
        assert "SciPy, which is not installed: pip install scipy" in message(tmp_path)

    def test_hdf5(self, tmp_path, images, monkeypatch):
        h5py = pytest.importorskip("h5py")
        with h5py.File(tmp_path / "x.h5", "w") as file:
            file["x_train"], file["y_train"] = images[:9], np.arange(9)
            file["x_test"], file["y_test"] = images[9:], np.arange(3)
        source = open_source(tmp_path / "x.h5")
        assert source.counts == {"train": 9, "test": 3}
        np.testing.assert_array_equal(everything(source)[0][..., 0], images)
        (tmp_path / "x.h5").write_bytes(b"x" * 500)
        assert "is not a readable HDF5 file" in message(tmp_path / "x.h5")
        monkeypatch.setitem(sys.modules, "h5py", None)
        assert "h5py, which is not installed" in message(tmp_path / "x.h5")

    @pytest.mark.parametrize("memory_limit", [0, 2**20])
    def test_parquet_of_hugging_face(self, tmp_path, images, memory_limit):
        pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        features = {
            "image": {"_type": "Image"},
            "label": {"_type": "ClassLabel", "names": ["cat", "dog", "bird"]},
        }
        metadata = {"huggingface": json.dumps({"info": {"features": features}})}

        def write(path, part, labels):
            rows = [{"bytes": encoded(image), "path": None} for image in part]
            table = pa.table({"image": rows, "label": labels})
            path.parent.mkdir(exist_ok=True)
            pq.write_table(table.replace_schema_metadata(metadata), path)

        write(tmp_path / "data/train-00000-of-00002.parquet", images[:5], [0, 1, 0, 1, 0])
        write(tmp_path / "data/train-00001-of-00002.parquet", images[5:8], [1, 1, 1])
        write(tmp_path / "data/test-00000-of-00001.parquet", images[8:], [0, 0, 1, 1])
        for path in (tmp_path, tmp_path / "data"):
            source = open_source(path, memory_limit=memory_limit)
            assert source.counts == {"train": 8, "test": 4}
            assert source.class_names == ("cat", "dog", "bird")
            read, labels = everything(source)
            np.testing.assert_array_equal(read[..., 0], images)
            assert labels.tolist() == [0, 1, 0, 1, 0, 1, 1, 1, 0, 0, 1, 1]
        assert open_source(tmp_path / "data/test-00000-of-00001.parquet").counts == {"train": 4}

    def test_tfrecord(self, tmp_path, images):
        import tensorflow as tf

        path = tmp_path / "x.tfrecord"
        with tf.io.TFRecordWriter(str(path)) as writer:
            for row, image in enumerate(images):
                feature = {
                    "image": tf.train.Feature(
                        bytes_list=tf.train.BytesList(value=[encoded(image)])
                    ),
                    "label": tf.train.Feature(int64_list=tf.train.Int64List(value=[row % 3])),
                    "text": tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"a cat"])),
                }
                example = tf.train.Example(features=tf.train.Features(feature=feature))
                writer.write(example.SerializeToString())
        source = open_source(path)
        read, labels = everything(source)
        np.testing.assert_array_equal(read[..., 0], images)
        assert labels.tolist() == [row % 3 for row in range(12)]
        path.write_bytes(path.read_bytes()[:-7])
        assert "is not a readable TFRecord file" in message(path)
        path.write_bytes(gzip.compress(b"x" * 50))
        assert "compressed has to be unpacked" in message(path)
