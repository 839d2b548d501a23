"""Folders of pictures: read right, or one line says why not."""

import struct
import warnings
import zipfile
import zlib

import numpy as np
import pytest
from picture_files import chunk, encoded, everything, message, write_images
from PIL import Image

from tfvae.datasets import load
from tfvae.datasets.names import empty_splits, natural_order, split_by_name
from tfvae.datasets.open import open_source
from tfvae.datasets.options import PictureOptions
from tfvae.errors import InputError

SPLITS = ("train", "validation", "test")


@pytest.fixture
def images(rng):
    return rng.integers(0, 256, (12, 6, 5), np.uint8)


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
        assert "give image_size=64, or another" in text
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
