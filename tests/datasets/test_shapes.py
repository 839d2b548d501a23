"""The images of "shapes" and their factors."""

import subprocess
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import tfvae
from tfvae.datasets import load, shapes
from tfvae.datasets.open import open_source
from tfvae.errors import InputError

X, Y = 7, 21
ANGLES = 9 * np.arange(40)
SCALES = np.array([0.5, 0.6, 0.7, 0.8, 0.9, 1.0])


def grid(x=X, y=Y, scales=range(6)):
    """The factors of every kind, scale and rotation at one place, rotation fastest."""
    return np.array([(k, s, r, x, y) for k in range(3) for s in scales for r in range(40)])


@pytest.fixture(scope="module")
def grey():
    """The images of `grid()`, on [0, 1]: [kind, scale, rotation, H, W]."""
    return shapes.render(grid()).reshape(3, 6, 40, 64, 64) / 255


def centres(images):
    """Columns and rows of the centres of mass of images [..., H, W]."""
    mass = images.sum(axis=(-1, -2))
    along = np.arange(images.shape[-1])
    return images.sum(axis=-2) @ along / mass, images.sum(axis=-1) @ along / mass


def test_importing_is_light():
    heavy = "{'tensorflow', 'keras', 'PIL'}"
    code = f"import sys, tfvae; assert not {heavy} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert tfvae.datasets.shapes is shapes


class TestFactors:
    def test_numbers(self):
        assert shapes.FACTORS == {"kind": 3, "scale": 6, "rotation": 40, "x": 32, "y": 32}
        assert shapes.COUNT == 737_280
        assert shapes.IMAGE_SHAPE == (64, 64, 1)

    def test_rows_and_factors_are_each_others_inverse(self):
        rows = np.arange(shapes.COUNT)
        factors = shapes.factors(rows)
        assert factors.dtype == np.int32
        assert factors.shape == (shapes.COUNT, 5)
        # Read as digits, the factors of the rows count up.
        assert factors[0].tolist() == [0, 0, 0, 0, 0]
        assert factors[-1].tolist() == [2, 5, 39, 31, 31]
        place = [6 * 40 * 32 * 32, 40 * 32 * 32, 32 * 32, 32, 1]
        np.testing.assert_array_equal(factors @ place, rows)
        back = shapes.row_of(factors)
        assert back.dtype == np.int64
        np.testing.assert_array_equal(back, rows)

    def test_any_order_and_type(self, rng):
        rows = rng.integers(0, shapes.COUNT, 1000)
        for dtype in (np.int32, np.int64, np.uint32, np.uint64):
            factors = shapes.factors(rows.astype(dtype))
            assert factors.dtype == np.int32
            np.testing.assert_array_equal(shapes.row_of(factors.astype(dtype)), rows)
        np.testing.assert_array_equal(shapes.row_of(factors.astype(np.int8)), rows)
        assert shapes.row_of(shapes.factors([5, 3]).tolist()).tolist() == [5, 3]

    def test_none(self):
        assert shapes.factors([]).shape == (0, 5)
        assert shapes.row_of(np.empty((0, 5), int)).shape == (0,)
        assert shapes.render(np.empty((0, 5), int)).shape == (0, 64, 64, 1)

    @pytest.mark.parametrize(
        ("rows", "complaint"),
        [
            ([0, -1], "from 0 to 737279; received some from -1 to 0"),
            ([shapes.COUNT], "from 0 to 737279; received some from 737280 to 737280"),
            ([2**63], "received some from 9223372036854775808"),
            ([0.0], r"received shape \[1\] of type float64"),
            ([True], "of type bool"),
            (3, r"expected rows \[n\], whole numbers; received shape \[\]"),
            ([[3]], r"received shape \[1, 1\]"),
            (["3"], "of type <U1"),
        ],
    )
    def test_wrong_rows(self, rows, complaint):
        with pytest.raises(InputError, match=complaint) as caught:
            shapes.factors(rows)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("call", [shapes.row_of, shapes.render])
    @pytest.mark.parametrize(
        ("factors", "complaint"),
        [
            ([[3, 0, 0, 0, 0]], "the factor kind goes from 0 to 2; received some from 3 to 3"),
            ([[0, 6, 0, 0, 0]], "scale goes from 0 to 5"),
            ([[0, 0, 40, 0, 0]], "rotation goes from 0 to 39"),
            ([[0, 0, 0, 32, 0]], "x goes from 0 to 31"),
            ([[0, 0, 0, 0, 4], [0, 0, 0, 0, -1]], "y goes from 0 to 31; .* from -1 to 4"),
            ([0, 0, 0, 0, 0], r"expected factors \[n, 5\], .*; received shape \[5\]"),
            ([[0, 0, 0, 0]], r"kind, scale, rotation, x, y; received shape \[1, 4\]"),
            ([[0.5, 0, 0, 0, 0]], "of type float64"),
            ([], r"received shape \[0\]"),
        ],
    )
    def test_wrong_factors(self, call, factors, complaint):
        with pytest.raises(InputError, match=complaint) as caught:
            call(factors)
        assert "\n" not in str(caught.value)


class TestImages:
    def test_bytes(self):
        images = shapes.render(grid())
        assert images.dtype == np.uint8
        assert images.shape == (720, 64, 64, 1)
        # Every image has black, white, and greys between them on the outline.
        np.testing.assert_array_equal(images.min(axis=(1, 2, 3)), 0)
        np.testing.assert_array_equal(images.max(axis=(1, 2, 3)), 255)
        assert ((images > 0) & (images < 255)).any(axis=(1, 2, 3)).all()

    def test_the_upright_triangle(self):
        """A row's share of it is known exactly: the width at the row's middle."""
        base = 14 * np.sqrt(3 / 2)
        height = base * 4 / 3
        image = shapes.render([[1, 5, 0, X, Y]])[0, ..., 0] / 255
        top = Y + 16 + 0.5 - height * 2 / 3
        middle = np.arange(64) + 0.5 - top
        width = np.where((middle > 0) & (middle < height), base * middle / height, 0)
        whole = (middle > 0.5) & (middle < height - 0.5)
        # Subpixels that the outline meets, 1/16 of a pixel wide, are drawn whole, at both ends.
        np.testing.assert_allclose(image.sum(axis=1)[whole], width[whole], atol=2 / 16)
        assert image.sum(axis=1)[whole].sum() > 0.9 * 14**2
        assert not image[(middle < -0.5) | (middle > height + 0.5)].any()

    def test_all_differ(self, grey):
        """All 737,280 images do, grey and cut at one half.

        The 720 of one place do. Of two places they do because the place is where the centre of mass
        is, which is less than half a pixel from the middle of a place.
        """
        images = grey.reshape(720, 64 * 64)
        for cut in (images, images > 0.5):
            assert len(np.unique(cut, axis=0)) == 720
            column, row = centres(cut.reshape(720, 64, 64).astype(float))
            assert abs(column - (16 + X)).max() < 0.5
            assert abs(row - (16 + Y)).max() < 0.5

    def test_neighbours_are_told_apart(self, grey):
        """One step of rotation or scale changes pixels that are cut at one half, and not just one.

        Between the smallest shapes 4 pixels are the fewest, and this takes half of them.
        """
        cut = grey > 0.5
        assert (cut != np.roll(cut, 1, axis=2)).sum(axis=(-1, -2)).min() >= 2
        assert (cut[:, 1:] != cut[:, :-1]).sum(axis=(-1, -2)).min() >= 2

    def test_the_place_is_the_centre_of_mass(self, grey):
        """Within 1/16 of a pixel, the side of the subpixels that shapes are drawn with."""
        column, row = centres(grey)
        np.testing.assert_allclose(column, 16 + X, atol=1 / 16)
        np.testing.assert_allclose(row, 16 + Y, atol=1 / 16)

    def test_places_shift(self, rng):
        origin = shapes.render(grid(0, 0))
        for x, y in [(1, 0), (0, 1), (31, 0), (0, 31), (31, 31), *rng.integers(0, 32, (5, 2))]:
            shifted = shapes.render(grid(x, y))
            np.testing.assert_array_equal(shifted, np.roll(origin, (y, x), axis=(1, 2)))
            for moved, still, step in zip(
                centres(shifted[..., 0].astype(float)),
                centres(origin[..., 0].astype(float)),
                (x, y),
                strict=True,
            ):
                np.testing.assert_allclose(moved - still, step, rtol=0, atol=1e-9)

    @pytest.mark.parametrize("x", [0, 31])
    @pytest.mark.parametrize("y", [0, 31])
    def test_shapes_lie_within_the_frame(self, grey, x, y):
        images = shapes.render(grid(x, y))[..., 0]
        ring = np.ones((64, 64), bool)
        ring[1:-1, 1:-1] = False
        assert not images[:, ring].any()

    def test_area(self, grey):
        """That of a square of 14 times the scale a side, for every kind, rotation and place.

        An outline is at most 5 sides of that square long, and the subpixels that it meets, 1/16 of
        a pixel wide, are drawn whole.
        """
        side = 14 * SCALES[np.newaxis, :, np.newaxis]
        area = grey.sum(axis=(-1, -2))
        assert (abs(area - side**2) < 5 * side / 16).all()
        assert (np.diff(area.mean(axis=2), axis=1) > 10).all()
        # Cut at one half, the smallest shapes gain or lose a few of their 49 pixels.
        cut = (grey > 0.5).sum(axis=(-1, -2))
        assert (abs(cut / side**2 - 1) < 0.1).all()

    def test_rotation_steps(self, grey):
        """The axis of the second moments turns by 9 degrees a step, counterclockwise.

        Within one degree, a ninth of a step; that axis is upright for the triangle and the
        crescent, and level for the heart.
        """
        column, row = centres(grey)
        along = np.arange(64)
        right = along - column[..., np.newaxis]
        up = row[..., np.newaxis] - along
        xx = np.einsum("...yx,...x->...", grey, right**2)
        yy = np.einsum("...yx,...y->...", grey, up**2)
        xy = np.einsum("...yx,...x,...y->...", grey, right, up)
        axis = np.rad2deg(np.arctan2(2 * xy, xx - yy)) / 2
        start = np.array([0, 90, 90])[:, np.newaxis, np.newaxis]
        # A direction and its opposite are one axis.
        error = (axis - start - ANGLES + 90) % 180 - 90
        assert abs(error).max() < 1

    def test_turns_are_full(self, grey):
        """After half a turn each shape points the other way: no two rotations look alike."""
        upright, turned = grey[:, :, 0], grey[:, :, 20]
        assert (abs(upright - turned).sum(axis=(-1, -2)) > 10).all()
        # The heart and the triangle point down and up, the crescent opens to the right.
        column, row = centres(grey[:, -1, 0])
        ink = grey[:, -1, 0] > 0
        rows, columns = ink.any(axis=-1), ink.any(axis=-2)
        above = row - rows.argmax(axis=-1)
        below = 63 - rows[:, ::-1].argmax(axis=-1) - row
        assert above[0] < below[0]
        assert above[1] > 1.5 * below[1]
        left = column - columns.argmax(axis=-1)
        assert left[2] < 63 - columns[2, ::-1].argmax() - column[2]

    def test_threads_and_processes_agree(self):
        # Twenty threads that all begin with nothing drawn.
        code = (
            "import sys, zlib; from concurrent.futures import ThreadPoolExecutor as Pool;"
            "from tfvae.datasets import shapes;"
            "rows = range(0, shapes.COUNT, 1013);"
            "draw = lambda _: zlib.crc32(shapes.render(shapes.factors(rows)).tobytes());"
            "print(*set(Pool(20).map(draw, range(40))))"
        )
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300)
        images = shapes.render(shapes.factors(range(0, shapes.COUNT, 1013)))
        assert done.stdout.split() == [str(zlib.crc32(images.tobytes()))]


class TestSource:
    @pytest.mark.parametrize("memory_limit", [0, 2**40])
    def test_reading(self, rng, memory_limit):
        source = open_source("shapes", memory_limit=memory_limit)
        assert (source.name, source.image_shape, source.dtype) == ("shapes", (64, 64, 1), np.uint8)
        assert source.counts == {"train": shapes.COUNT}
        assert source.num_classes == 3
        # Drawn when read, whatever the limit.
        assert not source.in_memory
        rows = np.array([5, 5, shapes.COUNT - 1, 0, *rng.integers(0, shapes.COUNT, 100)])
        images, labels = source.read(rows)
        factors = shapes.factors(rows)
        np.testing.assert_array_equal(images, shapes.render(factors))
        assert labels.dtype == np.int32
        np.testing.assert_array_equal(labels, factors[:, 0])

    def test_threads(self, rng):
        source = open_source("shapes")
        parts = rng.integers(0, shapes.COUNT, (64, 100))
        with ThreadPoolExecutor(8) as pool:
            read = list(pool.map(source.read, parts))
        for rows, (images, labels) in zip(parts, read, strict=True):
            expected, expected_labels = source.read(rows)
            np.testing.assert_array_equal(images, expected)
            np.testing.assert_array_equal(labels, expected_labels)

    def test_sizes(self, rng):
        rows = rng.integers(0, shapes.COUNT, 50)
        whole, _ = open_source("shapes").read(rows)
        source = open_source("shapes", image_size=32)
        assert source.image_shape == (32, 32, 1)
        images, labels = source.read(rows)
        assert images.dtype == source.dtype == np.uint8
        means = whole.reshape(50, 32, 2, 32, 2, 1).mean(axis=(2, 4))
        # Pillow rounds to bytes after the columns, and again after the rows.
        np.testing.assert_allclose(images, means, atol=1)
        np.testing.assert_array_equal(labels, shapes.factors(rows)[:, 0])
        source = open_source("shapes", image_size="28x20", memory_limit=2**40)
        assert source.image_shape == source.read(rows)[0].shape[1:] == (28, 20, 1)

    def test_a_path_wins_over_the_name(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "shapes").mkdir()
        with pytest.raises(InputError, match="holds no PNG, JPEG or IDX files"):
            open_source("shapes")


class TestDataset:
    def test_splits_have_factors(self):
        data = load("shapes")
        assert data.num_classes == 3
        assert data.image_shape == (64, 64, 1)
        splits = (data.train, data.validation, data.test)
        assert [len(split) for split in splits] == [589_824, 73_728, 73_728]
        for split in splits:
            images, labels = split.arrays(limit=300)
            factors = shapes.factors(split.rows[:300])
            np.testing.assert_array_equal(images, shapes.render(factors) / np.float32(255))
            np.testing.assert_array_equal(labels, factors[:, 0])

    def test_opening_draws_nothing(self, monkeypatch):
        def refuse(factors):
            raise AssertionError("drawn before it was needed")

        monkeypatch.setattr(shapes, "render", refuse)
        for arguments in ({}, {"binarize": "static"}, {"dequantize": True}, {"image_size": 32}):
            load("shapes", **arguments)

    @pytest.mark.exhaustive
    def test_binarization(self):
        """Where a pixel is black or white, it stays so; on the outlines its value is a chance."""
        grey, threshold, static, dynamic = (
            load("shapes", binarize=binarize, image_size=32)
            for binarize in ("none", "threshold", "static", "dynamic")
        )
        x, _ = grey.train.arrays(limit=512)
        assert x.shape[1:] == (32, 32, 1)
        outline = (x > 0) & (x < 1)
        np.testing.assert_array_equal(threshold.train.arrays(limit=512)[0], x > 0.5)
        draws = [static.train.arrays(limit=512)[0]]
        for epoch in (0, 1):
            batches = dynamic.train.batches(256, epoch=epoch).take(2).as_numpy_iterator()
            draws.append(np.concatenate([images for images, _ in batches]))
        chances = x[outline]
        for draw in draws:
            assert set(np.unique(draw)) == {0, 1}
            np.testing.assert_array_equal(draw[~outline], x[~outline])
            # Five standard errors of a sum of independent draws.
            error = draw[outline].sum() - chances.sum()
            assert abs(error) < 5 * np.sqrt((chances * (1 - chances)).sum())
        assert not np.array_equal(draws[1], draws[2])
        np.testing.assert_array_equal(
            static.test.arrays(limit=300)[0], dynamic.test.arrays(limit=300)[0]
        )

    def test_shuffles_stream(self):
        train = load("shapes").train
        batches = train.batches(128, shuffle=True, epoch=0, drop_remainder=True)
        assert batches.cardinality() == 4608
        seen = list(batches.take(20).as_numpy_iterator())
        labels = np.concatenate([labels for _, labels in seen])
        # 2560 draws of one in three: five standard deviations are 0.047.
        np.testing.assert_allclose(np.bincount(labels) / len(labels), 1 / 3, atol=0.047)
        images = np.concatenate([images for images, _ in seen])
        column, row = centres(images[..., 0].astype(float))
        for place in (column, row):
            # All 32 places, alike: the mean of 2560 has a standard error of 0.18.
            assert set(np.rint(place)) == set(range(16, 48))
            assert abs(place.mean() - 31.5) < 5 * 0.18
