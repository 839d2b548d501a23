"""Arrays of any rank: what they are taken for, how they are scaled, and their labels."""

import numpy as np
import pytest

from tfvae.datasets import load
from tfvae.datasets.open import open_source
from tfvae.errors import InputError


def saved(tmp_path, array):
    np.save(tmp_path / "x.npy", array)
    return tmp_path / "x.npy"


def everything(source):
    return source.read(np.arange(source.count))[0]


def message(call, *args, **kwargs):
    with pytest.raises(InputError) as caught:
        call(*args, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def uniform(*shape):
    return np.random.default_rng(0).random(shape, np.float32)


def normal(*shape):
    return np.random.default_rng(0).normal(size=shape)


class TestKinds:
    @pytest.mark.parametrize(
        ("array", "kind", "event_shape"),
        [
            (normal(9, 7), "table", (7,)),
            (np.arange(18).reshape(9, 2), "table", (2,)),
            (np.zeros((9, 2), bool), "table", (2,)),
            (normal(9, 50, 3), "series", (50, 3)),
            (normal(9, 28, 28), "image", (28, 28, 1)),
            (normal(9, 28, 20), "series", (28, 20)),
            (uniform(9, 8, 8), "image", (8, 8, 1)),
            (uniform(9, 24, 6), "series", (24, 6)),
            (uniform(9, 60, 30), "image", (60, 30, 1)),
            (uniform(9, 100, 20), "series", (100, 20)),
            ((255 * uniform(9, 28, 20)).round(), "image", (28, 20, 1)),
            (255 * uniform(9, 28, 20), "series", (28, 20)),
            (np.full((9, 6, 5), 200, np.uint8), "image", (6, 5, 1)),
            (np.zeros((9, 6, 5), bool), "image", (6, 5, 1)),
            (uniform(9, 6, 5, 3), "image", (6, 5, 3)),
            (uniform(9, 4, 6, 5, 1), "volume", (4, 6, 5, 1)),
        ],
    )
    def test_guessed(self, tmp_path, array, kind, event_shape):
        source = open_source(saved(tmp_path, array))
        assert (source.kind, source.event_shape) == (kind, event_shape)
        np.testing.assert_array_equal(
            everything(source).reshape(array.shape), array.astype(source.dtype)
        )

    def test_a_hole_makes_a_series(self, tmp_path):
        array = uniform(9, 28, 20)
        array[0, 20:] = np.nan
        data = load(saved(tmp_path, array))
        assert data.kind == "series"
        assert data.missing
        assert load(saved(tmp_path, array), kind="image").event_shape == (28, 20, 1)

    @pytest.mark.parametrize(
        ("shape", "kind", "event_shape"),
        [
            ((9, 8), "table", (8,)),
            ((9, 8), "series", (8, 1)),
            ((9, 8, 8), "series", (8, 8)),
            ((9, 8, 5), "image", (8, 5, 1)),
            ((9, 8, 5, 9), "image", (8, 5, 9)),
            ((9, 3, 8, 8), "image", (3, 8, 8)),
            ((9, 8, 5, 9), "volume", (8, 5, 9, 1)),
            ((9, 8, 5, 9, 2), "volume", (8, 5, 9, 2)),
        ],
    )
    def test_given(self, tmp_path, shape, kind, event_shape):
        data = load(saved(tmp_path, uniform(*shape)), kind=kind)
        assert (data.kind, data.event_shape, data.train.event_shape) == (
            kind,
            event_shape,
            event_shape,
        )
        x = data.train.arrays()[0]
        assert x.shape[1:] == event_shape
        np.testing.assert_array_equal(x.ravel(), uniform(*shape)[data.train.rows].ravel())

    @pytest.mark.parametrize(
        ("shape", "options", "complaint"),
        [
            ((9, 8), {"kind": "image"}, "expected images [N, H, W] or [N, H, W, C], at least one"),
            ((9, 8, 8), {"kind": "table"}, "expected rows [N, D], at least one"),
            ((9, 8), {"kind": "picture"}, "table, series, image, volume; received 'picture'"),
            ((9, 8), {"image_size": 4}, "holds rows: leave out the image size"),
            ((9, 8, 3), {"image_size": 4}, "holds series: leave out the image size"),
        ],
    )  # fmt: skip
    def test_mistakes(self, tmp_path, shape, options, complaint):
        assert complaint in message(load, saved(tmp_path, uniform(*shape)), **options)

    def test_kinds_are_for_arrays(self):
        assert "leave it out for digits" in message(load, "digits", kind="series")

    def test_packed_or_flat_bytes_are_no_table(self, tmp_path):
        path = saved(tmp_path, np.full((9, 98), 255, np.uint8))
        text = message(load, path)
        assert "received shape [9, 98] of bytes: if they are images, save x.reshape(-1, " in text
        assert "HEIGHT, WIDTH); if they are rows of numbers, give kind='table'" in text
        x, _ = load(path, kind="table").train.arrays()
        assert (x == 255).all()
        x, _ = load(path, kind="table", value_range=(0, 255)).train.arrays()
        assert (x == 1).all()
        for values, shape in ((784, "28, 28"), (3072, "32, 32, 3")):
            path = saved(tmp_path, np.full((9, values), 255, np.uint8))
            assert f"save x.reshape(-1, {shape})" in message(load, path)

    def test_image_shape(self, tmp_path):
        data = load("digits")
        assert data.image_shape == data.event_shape == data.test.image_shape == (8, 8, 1)
        data = load(saved(tmp_path, normal(9, 50, 3)))
        for owner in (data, data.train):
            with pytest.raises(InputError, match=r"holds series of shape \[50, 3\], no images"):
                _ = owner.image_shape

    @pytest.mark.parametrize(
        ("shape", "order"),
        [
            ((50, 3, 32, 32), "(0, 2, 3, 1)"),
            ((50, 1, 28, 20), "(0, 2, 3, 1)"),
            ((32, 24, 3, 50), "(3, 0, 1, 2)"),
            ((28, 28, 1000), "(2, 0, 1)"),
            ((9, 1, 16, 16, 16), "(0, 2, 3, 4, 1)"),
        ],
    )
    def test_axes_in_another_order(self, tmp_path, shape, order):
        path = saved(tmp_path, np.full(shape, 255, np.uint8))
        text = message(load, path)
        assert f"shape {list(shape)} looks like" in text
        assert f"save x.transpose{order}, or give kind=" in text


class TestValues:
    @pytest.mark.few(13)
    @pytest.mark.parametrize("memory_limit", [0, 2**30])
    @pytest.mark.parametrize(
        ("high", "dtype", "options", "top"),
        [
            (1, np.uint8, {}, 1),
            (255, np.uint8, {}, 1),
            (200, np.uint8, {}, 200 / 255),
            (16, np.uint8, {"value_range": (0, 16)}, 1),
            (16, np.uint8, {"value_range": "0,255"}, 16 / 255),
            (65_535, np.uint16, {}, 1),
            (4_000, np.uint16, {"value_range": (0, 4_095)}, 4_000 / 4_095),
            (1_000, np.int64, {"value_range": (0, 1_000)}, 1),
            (1, np.float64, {"value_range": (-1, 1)}, 1),
            (7.5, np.float64, {}, 7.5),
        ],
    )
    def test_scaling(self, tmp_path, memory_limit, high, dtype, options, top):
        array = np.zeros((30, 4, 5, 1), dtype)
        array[:, 1] = high
        data = load(saved(tmp_path, array), memory_limit=memory_limit, **options)
        x, _ = data.train.arrays()
        assert x.dtype == np.float32
        np.testing.assert_allclose(x[:, 1], top, rtol=1e-7)
        low = 0.5 if options.get("value_range") == (-1, 1) else 0
        np.testing.assert_array_equal(x[:, 0], low)

    @pytest.mark.parametrize(
        ("high", "dtype", "choices"),
        [
            (16, np.uint8, "value_range=(0, 16) to scale these, or value_range=(0, 255)"),
            (4_080, np.uint16, "value_range=(0, 4095) to scale these, or value_range=(0, 65535)"),
        ],
    )
    def test_doubtful_ranges(self, tmp_path, high, dtype, choices):
        array = np.zeros((30, 4, 5), dtype)
        array[-1, 0, 0] = high
        assert choices in message(load, saved(tmp_path, array))

    def test_values_outside_the_range(self, tmp_path):
        path = saved(tmp_path, 3 * uniform(30, 4, 5, 1))
        text = message(load, path, value_range=(0, 1))
        assert "expected values in the range (0, 1); received values from" in text
        np.save(tmp_path / "x.npy", np.full((30, 4, 5, 1), 1.000004))
        assert load(path, value_range=(0, 1)).train.arrays()[0].max() == 1

    @pytest.mark.parametrize("value_range", [(1, 0), "big", (0, np.inf), 3, (0, 1, 2)])
    def test_ranges_that_are_none(self, tmp_path, value_range):
        path = saved(tmp_path, uniform(9, 4, 5, 1))
        assert "a value range is" in message(load, path, value_range=value_range)

    def test_resized_after_scaling(self, tmp_path):
        array = np.zeros((20, 4, 4, 1), np.uint16)
        array[:, :2] = 1_000
        data = load(saved(tmp_path, array), value_range=(0, 1_000), image_size=2)
        np.testing.assert_array_equal(data.train.arrays()[0][0, :, :, 0], [[1, 1], [0, 0]])

    def test_bits_keep_their_size_in_memory(self, tmp_path):
        source = open_source(saved(tmp_path, (uniform(20, 4, 4) > 0.5).astype(np.uint8)))
        assert source.dtype == bool


class TestMissing:
    @pytest.fixture
    def path(self, tmp_path):
        array = uniform(40, 6, 2)
        array[::2, 4:] = np.nan
        return saved(tmp_path, array)

    @pytest.mark.few(6)
    @pytest.mark.parametrize("memory_limit", [0, 2**30])
    @pytest.mark.parametrize("binarize", ["none", "threshold", "static", "dynamic"])
    def test_holes_stay(self, path, memory_limit, binarize):
        data = load(path, binarize=binarize, memory_limit=memory_limit)
        assert data.missing
        raw = np.load(path)
        for split in (data.train, data.test):
            x, _ = split.arrays()
            np.testing.assert_array_equal(np.isnan(x), np.isnan(raw[split.rows]))
            if binarize != "none":
                assert set(np.unique(x[~np.isnan(x)])) == {0, 1}

    def test_said_or_refused(self, path, tmp_path):
        assert "20.00% of the values are missing" not in load("digits").summary()
        assert "of the values are missing (NaN)" in load(path).summary()
        assert "holds NaN: fill or leave out" in message(load, path, missing=False)
        whole = saved(tmp_path, normal(40, 6, 2))
        assert not load(whole).missing
        assert load(whole, missing=True).missing

    def test_nothing_but_holes(self, tmp_path):
        assert "all values are NaN" in message(load, saved(tmp_path, np.full((9, 4), np.nan)))


class TestLabels:
    @pytest.mark.parametrize(
        ("labels", "names"),
        [
            (["dog", "cat", "10", "9"], ("9", "10", "cat", "dog")),
            ([3.0, -1.0, 7.0, 3.0], ("-1", "3", "7")),
        ],
    )
    def test_names(self, tmp_path, labels, names):
        labels = np.array(labels)
        np.savez(
            tmp_path / "x.npz",
            x_train=normal(40, 3),
            y_train=np.tile(labels, 10),
            x_test=normal(2, 3),
            y_test=labels[:2, None],
        )
        data = load(tmp_path / "x.npz")
        assert data.class_names == names
        assert data.num_classes == len(names)
        for split, raw in ((data.train, np.tile(labels, 10)), (data.test, labels)):
            offset = 0 if split is data.train else 40
            found = [names[label] for label in split.arrays()[1]]
            expected = [str(raw[row - offset]).removesuffix(".0") for row in split.rows]
            assert found == expected
        assert data.summary().endswith(f"classes: {len(names)}: {', '.join(names)}")

    @pytest.mark.parametrize("labels", [[0.5, 1], [np.nan, 1], [2**32 + 3, 1]])
    def test_mistakes(self, tmp_path, labels):
        np.savez(tmp_path / "x.npz", x=normal(20, 3), y=np.array(labels * 10))
        assert "expected labels" in message(load, tmp_path / "x.npz")


@pytest.mark.parametrize(
    ("name", "shape", "counts", "classes", "missing"),
    [
        ("BasicMotions", (100, 6), (40, 40), 4, False),
        ("GunPoint", (150, 1), (50, 150), 2, False),
        ("ItalyPowerDemand", (24, 1), (67, 1029), 2, False),
        ("JapaneseVowels", (29, 12), (270, 370), 9, True),
    ],
)
def test_real_series(test_data, name, shape, counts, classes, missing):
    path = test_data / "series" / f"{name}.npz"
    data = load(path)
    assert (data.kind, data.event_shape, data.num_classes) == ("series", shape, classes)
    assert data.missing == missing
    assert len(data.train) + len(data.validation) == counts[0]
    assert len(data.test) == counts[1]
    raw = np.load(path)
    x, y = data.test.arrays()
    np.testing.assert_array_equal(x, raw["x_test"])
    np.testing.assert_array_equal(y, raw["y_test"])


def test_real_table(test_data):
    data = load(test_data / "adbench" / "14_glass.npz")
    assert (data.kind, data.event_shape, data.num_classes) == ("table", (7,), 2)


class TestSummary:
    def test_images(self, tmp_path):
        array = np.zeros((30, 4, 5), np.uint8)
        array[:, 1] = 200
        path = saved(tmp_path, array)
        assert load(path).summary().split("\n") == [
            f"{path}: 30 images of 4 x 5 x 1: train 24, validation 3 (drawn), test 3 (drawn)",
            "values from 0 to 200 → from 0 to 0.7843 (0 becomes 0 and 255 becomes 1)",
        ]

    def test_series(self, test_data):
        first, second, third = load(test_data / "series/JapaneseVowels.npz").summary().split("\n")
        assert first.endswith(
            "640 series of 29 steps of 12 channels: train 243, validation 27 (drawn), test 370"
        )
        assert "left as they are; taken for series; kind='image' says otherwise; " in second
        assert "of the values are missing" in second
        assert third == "classes: 9, by their numbers"

    def test_tables(self, test_data):
        lines = load(test_data / "tables/msleep.csv").summary().split("\n")
        assert lines[0].endswith(
            "83 rows of 9 values: train 67, validation 8 (drawn), test 8 (drawn)"
        )
        assert lines[1].startswith(
            "columns: 6 numbers, 3 categories; left out: (nameless) (row number), name (text: 83 "
        )


@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_infinite_values_are_refused(tmp_path, value):
    x = normal(20, 3)
    x[7, 1] = value
    text = message(load, saved(tmp_path, x))
    assert "expected finite values; received some from" in text
    assert "inf" in text


def test_labels_of_one_split_alone_are_left_aside_and_said(tmp_path):
    np.savez(
        tmp_path / "x.npz",
        x_train=normal(20, 3),
        y_train=np.arange(20) % 2,
        x_test=normal(4, 3),
    )
    data = load(tmp_path / "x.npz")
    assert not data.has_labels
    assert "no labels: the test events have none" in data.summary()


def test_classes_that_hardly_occur_are_warned_of(tmp_path):
    labels = np.where(np.arange(20) < 9, 0, 69_999)
    np.savez(tmp_path / "x.npz", x=normal(20, 3), y=labels)
    with pytest.warns(UserWarning, match="2 distinct labels make 70,000 classes") as caught:
        assert load(tmp_path / "x.npz").num_classes == 70_000
    assert len(caught) == 1
