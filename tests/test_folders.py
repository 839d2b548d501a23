"""Folders and archives of pictures: read right, or one line says why not."""

import gzip
import io
import json
import pickle
import struct
import sys
import tarfile
import warnings
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image

from tfvae.datasets import load
from tfvae.datasets.folders import PictureOptions
from tfvae.datasets.names import empty_splits, natural_order, split_by_name
from tfvae.datasets.open import open_source
from tfvae.errors import InputError

SPLITS = ("train", "validation", "test")


@pytest.fixture(autouse=True)
def _fresh_keras():
    """Nothing here touches Keras: spare each test the clearing of its state."""


@pytest.fixture
def images(rng):
    return rng.integers(0, 256, (12, 6, 5), np.uint8)


def everything(source):
    return source.read(np.arange(source.count))


def write_images(folder, images, names=None):
    for index, image in enumerate(images):
        path = folder / (names[index] if names else f"{index:03}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)


def encoded(pixels, kind="PNG", mode=None, **options):
    image = Image.fromarray(np.asarray(pixels))
    file = io.BytesIO()
    (image if mode is None else image.convert(mode)).save(file, kind, **options)
    return file.getvalue()


def chunk(kind, data):
    crc = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)


def message(*args, **kwargs):
    """The one line of the InputError that opening and reading raises."""
    with pytest.raises(InputError) as caught:
        everything(open_source(*args, **kwargs))
    assert "\n" not in str(caught.value)
    return str(caught.value)


class TestFolders:
    @pytest.mark.parametrize("memory_limit", [0, 2**20])
    def test_nested_with_labels(self, tmp_path, images, memory_limit):
        names = ["b/2.png", "b/deep/1.PNG", "a/3.png", "c/x.JPEG", "c/y.jpg"]
        write_images(tmp_path, images[:5], names)
        (tmp_path / "notes.txt").write_text("not an image")
        source = open_source(tmp_path, memory_limit=memory_limit)
        assert source.in_memory == bool(memory_limit)
        read, labels = everything(source)
        assert source.image_shape == (6, 5, 1)
        assert read.dtype == np.uint8
        assert labels.tolist() == [0, 1, 1, 2, 2]
        assert source.num_classes == 3
        np.testing.assert_array_equal(read[:3, ..., 0], images[[2, 0, 1]])
        again, labels = source.read(np.array([4, 0, 4]))
        np.testing.assert_array_equal(again, read[[4, 0, 4]])
        assert labels.tolist() == [2, 0, 2]

    @pytest.mark.parametrize(
        "names", [["1.png", "2.png"], ["a/1.png", "a/2.png"], ["1.png", "a/2.png", "a/3.png"]]
    )
    def test_no_labels(self, tmp_path, images, names):
        write_images(tmp_path, images[: len(names)], names)
        assert open_source(tmp_path).num_classes is None

    def test_streamed_and_held_are_equal(self, tmp_path, rng):
        write_images(tmp_path, rng.integers(0, 256, (300, 4, 3, 3), np.uint8))
        held, streamed = (open_source(tmp_path, memory_limit=limit) for limit in (2**20, 0))
        rows = rng.permutation(300)
        np.testing.assert_array_equal(held.read(rows)[0], streamed.read(rows)[0])

    def test_one_coloured_image_makes_all_rgb(self, tmp_path, images):
        colour = np.stack([images[0]] * 3, axis=-1)
        colour[..., 1] = 7
        write_images(tmp_path, [images[0], colour])
        read, _ = everything(open_source(tmp_path))
        assert read.shape == (2, 6, 5, 3)
        np.testing.assert_array_equal(read[0], np.stack([images[0]] * 3, axis=-1))
        np.testing.assert_array_equal(read[1], colour)

    def test_modes(self, tmp_path, images):
        grey = Image.fromarray(images[0])
        deep = images[1].astype(np.uint16) * 257
        Image.fromarray(deep).save(tmp_path / "0.png")
        grey.convert("LA").save(tmp_path / "1.png")
        Image.fromarray(images[2] > 99).save(tmp_path / "2.png")
        read, _ = everything(open_source(tmp_path))
        assert read.shape == (3, 6, 5, 1)
        np.testing.assert_array_equal(read[0, ..., 0], images[1])
        np.testing.assert_array_equal(read[1, ..., 0], images[0])
        np.testing.assert_array_equal(read[2, ..., 0], 255 * (images[2] > 99))
        colour = Image.fromarray(np.stack([images[0], images[1], images[2]], axis=-1))
        colour.convert("RGBA").save(tmp_path / "3.png")
        colour.convert("P").save(tmp_path / "4.png")
        colour.convert("CMYK").save(tmp_path / "5.jpg")
        read, _ = everything(open_source(tmp_path))
        assert read.shape == (6, 6, 5, 3)
        np.testing.assert_array_equal(read[3], np.asarray(colour))
        np.testing.assert_array_equal(read[0], np.stack([images[1]] * 3, axis=-1))

    def test_sizes_that_differ(self, tmp_path, images):
        write_images(tmp_path, [images[0], images[1][:4]], ["a/1.png", "b/2.png"])
        text = message(tmp_path)
        assert "a/1.png is 6 x 5 and b/2.png is 4 x 5" in text
        assert "--image-size" in text
        source = open_source(tmp_path, image_size="6x5")
        assert source.image_shape == (6, 5, 1)
        np.testing.assert_array_equal(everything(source)[0][0, ..., 0], images[0])

    @pytest.mark.parametrize("memory_limit", [0, 2**20])
    @pytest.mark.parametrize("format", ["png", "jpeg"])
    def test_truncated(self, tmp_path, rng, memory_limit, format):
        write_images(
            tmp_path, rng.integers(0, 256, (3, 32, 32), np.uint8), [f"{i}.{format}" for i in "012"]
        )
        path = tmp_path / f"1.{format}"
        path.write_bytes(path.read_bytes()[:-200])
        text = message(tmp_path, memory_limit=memory_limit)
        assert f"{path} is not a readable image" in text

    def test_removed_while_streaming(self, tmp_path, images):
        write_images(tmp_path, images)
        source = open_source(tmp_path, memory_limit=0)
        (tmp_path / "003.png").unlink()
        with pytest.raises(InputError, match=r"003\.png is not a readable"):
            everything(source)

    def test_other_formats(self, tmp_path, images):
        write_images(tmp_path, images)
        (tmp_path / "012.png").write_text("not an image")
        assert "012.png is not a readable image" in message(tmp_path)
        # What it is, its first bytes tell.
        Image.fromarray(images[0]).save(tmp_path / "012.png", format="JPEG2000")
        assert "012.png is not a readable image: it begins with" in message(tmp_path)

    def test_own_files_are_no_decompression_bombs(self, tmp_path, images, monkeypatch):
        write_images(tmp_path, images)
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
        assert open_source(tmp_path, image_size=2).count == 12

    def test_empty(self, tmp_path):
        assert "holds no PNG, JPEG or IDX files" in message(tmp_path)


class TestSplitsAndClasses:
    @pytest.mark.parametrize("held_out", ["val", "valid", "Validation"])
    def test_official_splits_with_classes(self, tmp_path, images, held_out):
        names = [
            "train/cat/1.png", "train/cat/2.png", "train/dog/1.png",
            f"{held_out}/dog/1.png", "test/bird/1.png", "test/cat/1.png",
        ]  # fmt: skip
        write_images(tmp_path, images[:6], names)
        source = open_source(tmp_path)
        assert source.counts == {"train": 3, "validation": 1, "test": 2}
        assert source.names == tuple(names)
        # The union over splits; that training lacks one is said.
        assert source.class_names == ("bird", "cat", "dog")
        assert source.num_classes == 3
        assert "classes of test that train lacks: bird" in source.notes
        read, labels = everything(source)
        np.testing.assert_array_equal(read[..., 0], images[:6])
        assert labels.tolist() == [1, 1, 2, 2, 0, 1]
        data = load(tmp_path)
        assert [len(getattr(data, split)) for split in SPLITS] == [3, 1, 2]

    def test_official_splits_without_classes(self, tmp_path, images):
        write_images(tmp_path, images[:3], ["train/1.png", "train/2.png", "test/1.png"])
        source = open_source(tmp_path)
        assert source.counts == {"train": 2, "test": 1}
        assert source.num_classes is None

    def test_labels_are_for_every_split_or_none(self, tmp_path, images):
        write_images(tmp_path, images[:3], ["train/a/1.png", "train/b/2.png", "test/1.png"])
        source = open_source(tmp_path)
        assert source.num_classes is None
        assert "no labels: pictures of test lie in no folder of a class" in source.notes

    def test_only_train(self, tmp_path, images):
        write_images(tmp_path, images[:2], ["train/a/1.png", "train/b/2.png"])
        source = open_source(tmp_path)
        assert (source.counts, source.class_names) == ({"train": 2}, ("a", "b"))

    def test_a_folder_around_all(self, tmp_path, images):
        names = ["pets/train/a/1.png", "pets/train/b/2.png", "pets/test/a/1.png"]
        write_images(tmp_path, images[:3], names)
        source = open_source(tmp_path)
        assert (source.counts, source.class_names) == ({"train": 2, "test": 1}, ("a", "b"))
        assert source.names == tuple(names)

    def test_a_class_may_be_called_train(self, tmp_path, images):
        write_images(tmp_path, images[:3], ["bus/1.png", "car/1.png", "train/1.png"])
        assert open_source(tmp_path).class_names == ("bus", "car", "train")

    @pytest.mark.parametrize(
        ("names", "complaint"),
        [
            (["test/a/1.png", "val/a/1.png"], "holds test/, val/ but no train/"),
            (["train/1.png", "test/1.png", "more/1.png"], "and beside them more: move these away"),
            (["train/1.png", "test/1.png", "1.png"], "and beside them 1.png"),
            (["train/1.png", "val/1.png", "valid/1.png"], "several folders of one split"),
            (["a/1.png", "b/1.png", "1.png"], "pictures beside the folders a, b: 1.png: move"),
            (["train/a/1.png", "train/b/1.png", "train/1.png"], "beside the folders a, b"),
        ],
    )
    def test_unclear_folders(self, tmp_path, images, names, complaint):
        write_images(tmp_path, images[: len(names)], names)
        assert complaint in message(tmp_path)

    def test_labels_may_be_left_aside(self, tmp_path, images):
        write_images(tmp_path, images[:3], ["a/1.png", "b/1.png", "1.png"])
        source = open_source(tmp_path, pictures=PictureOptions(folder_labels=False))
        assert (source.count, source.num_classes) == (3, None)
        assert load(tmp_path, folder_labels=False).num_classes is None

    @pytest.mark.parametrize("classes", [range(12), range(1, 13)])
    def test_classes_are_in_natural_order(self, tmp_path, classes):
        for number in classes:
            write_images(tmp_path / str(number), [np.full((3, 3), 20 * number, np.uint8)])
        source = open_source(tmp_path)
        assert source.class_names == tuple(map(str, classes))
        read, labels = everything(source)
        np.testing.assert_array_equal(read[:, 0, 0, 0], 20 * (labels + min(classes)))

    def test_natural_order(self):
        names = ["a/10.png", "a/9.png", "b/1.png", "a1/1.png", "a/2b3.png", "a/2b10.png", "Ä.png"]
        assert sorted(names, key=natural_order) == [
            "a/2b3.png", "a/2b10.png", "a/9.png", "a/10.png", "a1/1.png", "b/1.png", "Ä.png"
        ]  # fmt: skip


class TestSplitsByName:
    NAMES = tuple(f"class {n % 3}/{n}.png" for n in range(3000))

    def split(self, names, seed=0, **sizes):
        found = split_by_name(names, seed, sizes or {"validation": 0.1, "test": 0.2})
        rows = np.concatenate(list(found.values()))
        assert sorted(rows) == list(range(len(names)))
        return {split: {names[row] for row in part} for split, part in found.items()}

    def test_shares(self):
        counts = np.array(
            [[len(self.split(self.NAMES, s)[split]) for split in SPLITS] for s in range(10)]
        )
        expected = 3000 * np.array([0.7, 0.1, 0.2])
        deviation = np.sqrt(expected * (1 - expected / 3000) / 10)
        assert (np.abs(counts.mean(axis=0) - expected) < 4 * deviation).all()
        assert len({tuple(row) for row in counts}) > 1

    def test_no_file_moves_when_others_come_and_go(self, rng):
        whole = self.split(self.NAMES)
        kept = [name for name in self.NAMES if rng.random() < 0.5]
        new = [f"new/{n}.png" for n in range(500)]
        changed = self.split(sorted([*kept, *new]))
        for split in SPLITS:
            assert changed[split] - set(new) == whole[split] & set(kept)

    def test_the_shares_of_one_split_do_not_move_the_other(self):
        one = self.split(self.NAMES, validation=0.1, test=0.2)
        other = self.split(self.NAMES, validation=0.3, test=0.2)
        assert one["test"] == other["test"]
        assert one["validation"] < other["validation"]

    def test_whole_numbers_are_exact(self):
        whole = self.split(self.NAMES, validation=7, test=100)
        assert (len(whole["validation"]), len(whole["test"])) == (7, 100)
        # A removed file brings at most one from training into a split, an added one none.
        gone = sorted(whole["test"])[0]
        less = self.split([name for name in self.NAMES if name != gone], validation=7, test=100)
        assert len(less["test"] & whole["train"]) == 1
        more = self.split([*self.NAMES, "new.png"], validation=7, test=100)
        assert not more["test"] & whole["train"]

    @pytest.mark.parametrize("count", range(3, 12))
    @pytest.mark.parametrize("seed", range(5))
    def test_few_files_have_one_for_each_split(self, count, seed):
        split = self.split(self.NAMES[:count], seed, validation=0.4, test=0.4)
        assert all(split[name] for name in SPLITS)

    def test_a_split_that_no_name_falls_into_is_said(self, tmp_path, images):
        write_images(tmp_path, images[:3])
        data = load(tmp_path)
        assert [len(getattr(data, split)) for split in SPLITS] == [1, 1, 1]
        assert "has one file, which may change with the others" in data.summary()
        names = [f"{n}.png" for n in range(200)]
        assert empty_splits(names, 0, {"test": 0.1, "validation": 2}) == []
        assert empty_splits(names, 0, {"test": 1e-9}) == ["test"]

    def test_seeds_and_forms_of_names(self):
        assert self.split(self.NAMES, 1) != self.split(self.NAMES, 2)
        # The same ü, as Linux and as macOS write it.
        composed, parts = ([f"u\u0308{n}.png" for n in range(99)], [f"ü{n}.png" for n in range(99)])
        for split in SPLITS:
            rows = [split_by_name(names, 0, {"test": 0.5, "validation": 0.2})[split]
                    for names in (composed, parts)]  # fmt: skip
            np.testing.assert_array_equal(*rows)

    @pytest.mark.parametrize("memory_limit", [0, 2**20])
    def test_of_a_folder(self, tmp_path, rng, memory_limit):
        pictures = rng.integers(0, 256, (60, 3, 3), np.uint8)
        write_images(tmp_path, pictures)
        before = load(tmp_path, memory_limit=memory_limit)
        kept = {
            split: {x.tobytes() for x in getattr(before, split).arrays()[0]} for split in SPLITS
        }
        write_images(
            tmp_path, rng.integers(0, 256, (5, 3, 3), np.uint8), [f"{n}b.png" for n in "01234"]
        )
        (tmp_path / "007.png").unlink()
        after = load(tmp_path, memory_limit=memory_limit)
        for split in SPLITS:
            now = {x.tobytes() for x in getattr(after, split).arrays()[0]}
            for other in set(SPLITS) - {split}:
                assert not now & kept[other]

    def test_an_unpacked_archive_is_split_as_the_archive(self, tmp_path, images):
        write_images(tmp_path / "x", images)
        with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
            for path in (tmp_path / "x").iterdir():
                archive.write(path, path.name)
        one, other = load(tmp_path / "x"), load(tmp_path / "x.zip")
        for split in SPLITS:
            np.testing.assert_array_equal(getattr(one, split).rows, getattr(other, split).rows)


class TestFiles:
    def test_hidden_files_are_left_out(self, tmp_path, images):
        hidden = [
            ".ipynb_checkpoints/1.png", "a/.ipynb_checkpoints/1.png", "__MACOSX/a/1.png",
            "a/._1.png", ".hidden.png",
        ]  # fmt: skip
        write_images(tmp_path, images[:8], ["a/1.png", "b/1.png", "b/2.png", *hidden])
        for name in (".DS_Store", "a/.DS_Store", "b/Thumbs.db", "b/desktop.ini"):
            (tmp_path / name).write_bytes(b"x")
        (tmp_path / "readme.TXT").write_text("x")
        (tmp_path / "a/LICENSE").write_text("x")
        (tmp_path / "a/new.heic").write_text("x")
        source = open_source(tmp_path)
        assert source.names == ("a/1.png", "b/1.png", "b/2.png")
        assert source.num_classes == 2
        assert source.skipped == {"hidden": 9, ".txt": 1, "no suffix": 1, ".heic": 1}
        summary = load(tmp_path).summary()
        assert "1 .heic" in summary
        assert "9 hidden" in summary

    def test_links_are_followed_but_no_circles(self, tmp_path, images):
        write_images(tmp_path / "elsewhere", images[:2])
        write_images(tmp_path / "set/dog", images[2:4])
        (tmp_path / "set/cat").symlink_to(tmp_path / "elsewhere")
        (tmp_path / "set/cat/back").symlink_to(tmp_path / "set")
        (tmp_path / "set/dog/self").symlink_to(tmp_path / "set/dog")
        (tmp_path / "set/dog/lost.png").symlink_to(tmp_path / "nowhere.png")
        assert "lost.png is not a readable image" in message(tmp_path / "set")
        (tmp_path / "set/dog/lost.png").unlink()
        source = open_source(tmp_path / "set")
        assert (source.count, source.class_names) == (4, ("cat", "dog"))

    @pytest.mark.parametrize(
        ("suffix", "kind"),
        [(".tif", "TIFF"), (".TIFF", "TIFF"), (".bmp", "BMP"), (".webp", "WEBP"), (".gif", "GIF"),
         (".pgm", "PPM"), (".jfif", "JPEG")],
    )  # fmt: skip
    def test_other_formats_are_read(self, tmp_path, images, suffix, kind):
        write_images(tmp_path, images)
        options = {"lossless": True} if kind == "WEBP" else {}
        (tmp_path / f"x{suffix}").write_bytes(encoded(images[3], kind, **options))
        read, _ = everything(open_source(tmp_path))
        assert len(read) == 13
        tolerance = 60 if kind == "JPEG" else 0
        np.testing.assert_allclose(read[-1][..., 0].astype(int), images[3], atol=tolerance)

    @pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
    def test_animations_are_refused(self, tmp_path, rng, kind):
        frames = [Image.fromarray(x) for x in rng.integers(0, 256, (3, 8, 8, 3), np.uint8)]
        frames[0].save(tmp_path / f"x.{kind.lower()}", save_all=True, append_images=frames[1:])
        assert f"x.{kind.lower()} holds 3 pictures" in message(tmp_path)

    def test_two_pictures_of_a_phone_are_one(self, tmp_path, rng):
        first, second = (Image.fromarray(x) for x in rng.integers(0, 256, (2, 8, 8, 3), np.uint8))
        first.save(tmp_path / "x.jpg", "MPO", save_all=True, append_images=[second])
        first.save(tmp_path / "y.jpg", "JPEG")
        read, _ = everything(open_source(tmp_path))
        np.testing.assert_array_equal(read[0], read[1])

    @pytest.mark.parametrize("memory_limit", [0, 2**20])
    def test_damaged_files_can_be_skipped(self, tmp_path, images, memory_limit):
        names = [f"{'ab'[n % 2]}/{n:02}.png" for n in range(12)]
        write_images(tmp_path, images, names)
        (tmp_path / names[3]).write_bytes((tmp_path / names[3]).read_bytes()[:-30])
        (tmp_path / names[4]).write_bytes(b"")
        options = {"memory_limit": memory_limit}
        assert names[4] in message(tmp_path, **options)
        source = open_source(tmp_path, pictures=PictureOptions(skip_damaged=True), **options)
        assert source.skipped == {"damaged": 2}
        assert f"damaged and left out: {names[4]}, {names[3]}" in source.notes
        read, labels = everything(source)
        kept = [2 * n for n in (0, 1, 3, 4, 5)] + [1, 5, 7, 9, 11]
        np.testing.assert_array_equal(read[..., 0], images[kept])
        assert labels.tolist() == [0] * 5 + [1] * 5
        assert names[3] in load(tmp_path, skip_damaged=True, **options).summary()
        for name in names:
            (tmp_path / name).write_bytes(b"")
        text = message(tmp_path, pictures=PictureOptions(skip_damaged=True))
        assert "every picture to train on is damaged" in text

    def test_a_large_own_file(self, tmp_path):
        """Header and size of 182 megapixels, its rows all zero: a small file."""

        rows = zlib.compress(bytes(14_000 * (13_000 // 8 + 1)), 1)
        head = struct.pack(">IIBBBBB", 13_000, 14_000, 1, 0, 0, 0, 0)
        body = chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
        (tmp_path / "x.png").write_bytes(b"\x89PNG\r\n\x1a\n" + body)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            read, _ = everything(open_source(tmp_path, image_size=8))
        assert read.shape == (1, 8, 8, 1)
        assert not read.any()

    def test_what_was_found_instead(self, tmp_path):
        (tmp_path / "x.heic").write_bytes(b"x")
        (tmp_path / "y.heic").write_bytes(b"x")
        assert "it holds others: 2 .heic" in message(tmp_path)


class TestPixels:
    @pytest.mark.parametrize("orientation", range(1, 9))
    @pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
    def test_orientation(self, tmp_path, orientation, kind):
        """Stored so that the viewer's turn, the inverse of each, brings the picture back."""
        upright = np.zeros((16, 24), np.uint8)
        upright[:8, :8], upright[8:, :8], upright[:8, 8:] = 250, 160, 80
        stored = {
            1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1],
            5: upright.T, 6: np.rot90(upright), 7: upright[::-1, ::-1].T,
            8: np.rot90(upright, -1),
        }[orientation]  # fmt: skip
        exif = Image.Exif()
        exif[274] = orientation
        options = {"lossless": True} if kind == "WEBP" else {}
        path = tmp_path / f"x.{kind.lower()}"
        Image.fromarray(np.ascontiguousarray(stored)).save(path, kind, exif=exif, **options)
        source = open_source(tmp_path)
        assert source.image_shape[:2] == (16, 24)
        read, _ = everything(source)
        np.testing.assert_allclose(read[0, ..., 0].astype(int), upright, atol=3)

    @pytest.mark.parametrize("background", ["white", "black", "#10a0f0"])
    @pytest.mark.parametrize("mode", ["LA", "RGBA", "P"])
    def test_transparency_shows_the_background(self, tmp_path, rng, background, mode):
        under = {"white": [255] * 3, "black": [0] * 3}.get(background, [16, 160, 240])
        colours = rng.integers(0, 256, (6, 5, 1 if mode == "LA" else 3), np.uint8)
        alpha = rng.integers(0, 256, (6, 5, 1), np.uint8)
        alpha[0] = 0
        if mode == "P":
            image = Image.fromarray(colours).quantize(16)
            table = rng.integers(0, 256, 16).astype(np.uint8)
            image.save(tmp_path / "x.png", transparency=bytes(table))
            colours = np.asarray(image.convert("RGB"))
            alpha = table[np.asarray(image)][..., None]
        else:
            image = Image.fromarray(np.concatenate([colours, alpha], axis=-1))
            assert image.mode == mode
            image.save(tmp_path / "x.png")
        weight = alpha / 255
        expected = weight * colours + (1 - weight) * np.array(under)
        source = open_source(tmp_path, pictures=PictureOptions(background=background))
        grey = mode == "LA" and background[0] != "#"
        assert source.image_shape == (6, 5, 1 if grey else 3)
        expected = expected[..., :1] if grey else expected
        np.testing.assert_allclose(everything(source)[0][0], expected, atol=0.51)
        assert source.pictures.background == background

    @pytest.mark.parametrize("mode", ["L", "RGB"])
    def test_a_transparent_colour(self, tmp_path, mode):
        pixels = np.full((4, 4) if mode == "L" else (4, 4, 3), 90, np.uint8)
        pixels[:2] = 7
        key = 7 if mode == "L" else (7, 7, 7)
        Image.fromarray(pixels).save(tmp_path / "x.png", transparency=key)
        read, _ = everything(open_source(tmp_path))
        assert read[0, ..., 0].tolist() == [[255] * 4] * 2 + [[90] * 4] * 2

    def test_black_on_transparent_is_seen(self, tmp_path, images):
        for row, alpha in enumerate(images):
            shape = np.stack([np.zeros_like(alpha)] * 3 + [alpha], axis=-1)
            Image.fromarray(shape).save(tmp_path / f"{row}.png")
        read, _ = everything(open_source(tmp_path))
        np.testing.assert_array_equal(read[0, ..., 0], 255 - images[0])
        text = message(tmp_path, pictures=PictureOptions(background="black"))
        assert "0.png is of the colour of its background, #000000" in text

    @pytest.mark.parametrize("background", ["blue", "#12", "", "#gggggg"])
    def test_no_such_background(self, tmp_path, images, background):
        write_images(tmp_path, images)
        text = message(tmp_path, pictures=PictureOptions(background=background))
        assert "a background is white, black or a colour like #80c0ff" in text

    def test_twelve_bits_in_sixteen(self, tmp_path, rng):
        deep = rng.integers(0, 4096, (9, 6, 5)).astype(np.uint16)
        deep[0, 0, :2] = 0, 4095
        write_images(tmp_path, deep)
        text = message(tmp_path)
        assert "the largest is 4095: give value_range=(0, 4095)" in text
        assert "(0, 65535)" in text
        source = open_source(tmp_path, value_range=(0, 4095))
        np.testing.assert_allclose(everything(source)[0][..., 0], deep / 4095 * 255, atol=0.51)
        assert source.pictures.value_range == (0, 4095)
        dark = everything(open_source(tmp_path, value_range=(0, 65535)))[0][..., 0]
        np.testing.assert_allclose(dark, deep / 257, atol=0.51)

    def test_sixteen_bits(self, tmp_path, rng):
        deep = rng.integers(0, 65_536, (9, 6, 5)).astype(np.uint16)
        write_images(tmp_path, deep)
        read, _ = everything(open_source(tmp_path))
        np.testing.assert_allclose(read[..., 0], deep / 257, atol=0.51)

    @pytest.mark.parametrize("top", [4095, 65_535])
    def test_colours_of_sixteen_bits(self, tmp_path, rng, top):
        deep = rng.integers(0, top + 1, (6, 5, 3)).astype(np.uint16)
        deep[0, 0] = top
        rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in deep)
        head = struct.pack(">IIBBBBB", 5, 6, 16, 2, 0, 0, 0)
        body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
        (tmp_path / "x.png").write_bytes(b"\x89PNG\r\n\x1a\n" + body)
        if top == 4095:
            assert "none reaches a quarter of 65535: save them with 8 bits" in message(tmp_path)
        read, _ = everything(open_source(tmp_path, value_range=(0, 65_535)))
        np.testing.assert_array_equal(read[0], deep // 256)
        assert "a value range is for pictures of 8 bits" in message(tmp_path, value_range=(0, 4095))

    def test_masks_of_zero_and_one(self, tmp_path, rng):
        masks = rng.integers(0, 2, (9, 6, 5), np.uint8)
        write_images(tmp_path, masks)
        source = open_source(tmp_path)
        np.testing.assert_array_equal(everything(source)[0][..., 0], 255 * masks)
        assert "values 0 and 1 of the files became 0 and 255" in source.notes

    def test_few_levels_are_in_doubt(self, tmp_path, rng):
        write_images(tmp_path, np.minimum(16, rng.integers(0, 40, (9, 6, 5))).astype(np.uint8))
        assert "give value_range=(0, 16) to scale these, or (0, 255)" in message(tmp_path)
        read, _ = everything(open_source(tmp_path, value_range="0,16"))
        assert read.max() == 255

    def test_floating_point(self, tmp_path, rng):
        values = rng.normal(size=(6, 5)).astype(np.float32)
        Image.fromarray(values).save(tmp_path / "x.tif")
        assert "holds numbers from -" in message(tmp_path)
        read, _ = everything(open_source(tmp_path, value_range=(-3, 3)))
        np.testing.assert_allclose(read[0, ..., 0], (values + 3) / 6 * 255, atol=0.51)

    def test_a_range_for_pictures_that_have_none(self, tmp_path, rng):
        Image.fromarray(rng.random((6, 5)) < 0.5).save(tmp_path / "x.png")
        assert "a value range is for pictures of 8 bits" in message(tmp_path, value_range=(0, 9))

    def test_grey_palettes_and_inks(self, tmp_path, rng):
        colours = np.kron(rng.integers(0, 256, (2, 2, 3), np.uint8), np.ones((8, 8, 1), np.uint8))
        (tmp_path / "1.png").write_bytes(encoded(colours, mode="P"))
        (tmp_path / "2.jpg").write_bytes(encoded(colours, "JPEG", "CMYK", quality=100))
        (tmp_path / "3.gif").write_bytes(encoded(colours, "GIF", "P"))
        (tmp_path / "4.png").write_bytes(encoded(colours[..., 0] > 99))
        read, _ = everything(open_source(tmp_path))
        expected = np.asarray(Image.fromarray(colours).convert("P").convert("RGB"))
        np.testing.assert_array_equal(read[0], expected)
        np.testing.assert_allclose(read[1].astype(int), colours, atol=4)
        np.testing.assert_array_equal(read[2], expected)
        np.testing.assert_array_equal(read[3][..., 1], 255 * (colours[..., 0] > 99))


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
