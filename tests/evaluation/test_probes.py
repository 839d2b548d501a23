"""Classifiers of codes whose best accuracy is known."""

import dataclasses
import json
import subprocess
import sys
import warnings

import numpy as np
import pytest
from scipy import stats

import tfvae
from tfvae.evaluation import probes
from tfvae.evaluation.probes import Accuracy, linear_probe, nearest_neighbours


@pytest.fixture(autouse=True)
def _no_warnings():
    """A fit that has not converged says so by a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def gaussians(rng, count, distance, d=3):
    """Two unit Gaussians, `distance` apart along a diagonal; half of the codes from each."""
    labels = np.repeat([0, 1], count // 2)
    codes = rng.normal(size=(count, d)) + labels[:, None] * distance / d**0.5
    return codes, labels


def exclusive_or(rng, count=400):
    """Four heaps in the corners of a square, whose label is that of the opposite one."""
    corners = np.tile([[0, 0], [0, 1], [1, 0], [1, 1]], (count // 4, 1))
    return corners + 0.05 * rng.normal(size=(count, 2)), corners[:, 0] ^ corners[:, 1]


# --- the linear probe -----------------------------------------------------------------------------


@pytest.mark.parametrize("distance", [0.5, 1, 2, 4])
def test_gaussians_are_told_as_well_as_can_be(rng, distance):
    found = linear_probe(*gaussians(rng, 20_000, distance), *gaussians(rng, 10_000, distance))
    best = stats.norm.cdf(distance / 2)
    assert abs(found.accuracy - best) < 4 * np.sqrt(best * (1 - best) / 10_000)
    assert found.standard_error == pytest.approx(
        np.sqrt(found.accuracy * (1 - found.accuracy) / 10_000)
    )
    assert found.events == 10_000
    assert found.chance == 0.5


def test_many_labels_that_a_plane_separates(rng):
    # Corners of a simplex, far apart: the fit must converge where weights would grow for ever.
    labels = rng.integers(10, size=3000)
    codes = 50 * np.eye(10)[labels] + rng.normal(size=(3000, 10))
    found = linear_probe(codes[:2000], labels[:2000], codes[2000:], labels[2000:])
    assert found.accuracy == 1
    assert found.standard_error == 0


@pytest.mark.parametrize("probe", [linear_probe, nearest_neighbours])
def test_codes_that_do_not_know_the_labels(rng, probe):
    labels = rng.choice(4, size=6000, p=[0.7, 0.1, 0.1, 0.1])
    codes = rng.normal(size=(6000, 8))
    found = probe(codes[:3000], labels[:3000], codes[3000:], labels[3000:])
    assert found.chance == np.mean(labels[3000:] == 0)
    assert found.chance == pytest.approx(0.7, abs=4 * (0.21 / 3000) ** 0.5)
    assert found.chance - 0.05 < found.accuracy < found.chance + 0.01


def test_scale_does_not_matter_to_the_linear_probe(rng):
    x, y = gaussians(rng, 2000, 1)
    test_x, test_y = gaussians(rng, 2000, 1)
    expected = linear_probe(x, y, test_x, test_y)
    for scale, shift in (([1e-6, 1, 1e6], 0), ([1e-6] * 3, 1), ([-3] * 3, [5, 0, 7])):
        found = linear_probe(x * scale + shift, y, test_x * scale + shift, test_y)
        # Where rounding turns one image.
        assert found.accuracy == pytest.approx(expected.accuracy, abs=1 / 2000)


def test_dependent_and_dead_dimensions_do_no_harm(rng):
    x, y = gaussians(rng, 4000, 2)
    wide = np.concatenate([x, 2 * x, x[:, :1] + 1e-5 * x[:, 1:2], np.full((4000, 1), 0.1)], axis=1)
    expected = linear_probe(x[::2], y[::2], x[1::2], y[1::2])
    found = linear_probe(wide[::2], y[::2], wide[1::2], y[1::2])
    assert found.accuracy == pytest.approx(expected.accuracy, abs=0.005)


def test_more_codes_than_are_used_are_drawn_by_the_seed(rng, monkeypatch):
    x, y = gaussians(rng, 1000, 1)
    test = gaussians(rng, 4000, 1)
    everything = linear_probe(x, y, *test)
    assert linear_probe(x, y, *test, seed=5) == everything
    monkeypatch.setattr(probes, "MOST_CODES", 50)
    np.random.seed(3)  # noqa: NPY002 - nothing may come from NumPy's global seed
    drawn = [linear_probe(x, y, *test, seed=seed).accuracy for seed in (0, 0, 1, 2)]
    assert drawn[0] == drawn[1]
    assert len({everything.accuracy, *drawn}) == 4
    # One label among those drawn could not be fitted; all are used then.
    monkeypatch.setattr(probes, "MOST_CODES", 1)
    assert linear_probe(x, y, *test) == everything


# --- nearest neighbours ---------------------------------------------------------------------------


def test_neighbours_by_hand():
    train, labels = [[0.0], [1.0], [2.5], [6.0], [7.0]], [5, 5, 8, 8, 8]
    test, truth = [[0.4], [2.2], [4.0], [-9.0]], [5, 5, 8, 8]
    # Nearest: 0 → 5, 2.5 → 8, 2.5 → 8, 0 → 5.
    assert nearest_neighbours(train, labels, test, truth, neighbours=1) == Accuracy(
        accuracy=0.5, standard_error=0.25, events=4, chance=0.5
    )
    # Three nearest: {0, 1, 2.5} → 5, {2.5, 1, 0} → 5, {2.5, 6, 1 or 7} → 8, {0, 1, 2.5} → 5.
    found = nearest_neighbours(train, labels, test, truth, neighbours=3)
    assert found.accuracy == 0.75
    assert found.standard_error == pytest.approx((0.75 * 0.25 / 4) ** 0.5)
    # All five: 8 everywhere.
    assert nearest_neighbours(train, labels, test, truth, neighbours=5).accuracy == 0.5
    # Two of two labels: the smaller is told.
    assert nearest_neighbours(train, labels, [[1.8]], [5], neighbours=2).accuracy == 1


def test_neighbours_are_near_in_every_dimension(rng):
    x, y = rng.normal(size=(300, 5)), rng.integers(3, size=300)
    test_x, test_y = rng.normal(size=(200, 5)), rng.integers(3, size=200)
    distances = np.linalg.norm(test_x[:, None] - x[None], axis=-1)
    near = y[np.argsort(distances, axis=1)[:, :10]]
    told = np.stack([np.sum(near == label, axis=1) for label in range(3)], axis=1).argmax(axis=1)
    found = nearest_neighbours(x, y, test_x, test_y)
    assert found.accuracy == np.mean(told == test_y)
    # Far from the origin as well.
    assert nearest_neighbours(x + 1e6, y, test_x + 1e6, test_y) == found


def test_scale_matters_to_neighbours(rng):
    x, y = gaussians(rng, 2000, 8, d=1)
    codes = np.concatenate([x, rng.normal(size=(2000, 1))], axis=1)
    assert nearest_neighbours(codes[::2], y[::2], codes[1::2], y[1::2]).accuracy > 0.99
    drowned = codes * [1, 1e4]
    assert nearest_neighbours(drowned[::2], y[::2], drowned[1::2], y[1::2]).accuracy < 0.6


def test_what_is_not_linear_is_for_neighbours(rng):
    train, test = exclusive_or(rng), exclusive_or(rng)
    assert nearest_neighbours(*train, *test) == Accuracy(1.0, 0.0, 400, 0.5)
    # One line has at most three of four corners on the right sides.
    assert linear_probe(*train, *test).accuracy <= 0.8


# --- both -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("probe", [linear_probe, nearest_neighbours])
def test_labels_of_any_name_and_type(rng, probe):
    x, y = gaussians(rng, 400, 6)
    test_x, test_y = gaussians(rng, 200, 6)
    expected = probe(x, y, test_x, test_y)
    assert probe(x.astype("float32"), y == 1, test_x.tolist(), (test_y == 1).tolist()) == expected
    names = np.array([2**40, -3])
    assert probe(x, names[y], test_x, names[test_y].astype("float64")) == expected
    # A label that was never seen is never told.
    found = probe(x, y, test_x, np.full(200, 7))
    assert found == Accuracy(0.0, 0.0, 200, 0.0)
    assert json.loads(json.dumps(dataclasses.asdict(expected)))["events"] == 200


def test_importing_loads_neither_tensorflow_nor_scikit_learn():
    program = (
        "import sys, tfvae.evaluation.disentanglement, tfvae.evaluation.probes; "
        "print({'tensorflow', 'keras', 'sklearn'} & set(sys.modules))"
    )
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert found.stdout == "set()\n"


CODES = np.arange(24.0).reshape(12, 2)
LABELS = np.arange(12) % 3


@pytest.mark.parametrize("probe", [linear_probe, nearest_neighbours])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({0: CODES[0]}, r"expected train_codes \[N, d\], not empty; received shape \(2,\)"),
        ({0: CODES[:0]}, r"expected train_codes \[N, d\], not empty; received shape \(0, 2\)"),
        ({2: CODES[:0], 3: LABELS[:0]}, r"expected test_codes \[N, d\], not empty; received shape"),
        ({2: CODES * np.nan}, r"expected finite test_codes, .*received nan in row 0, dimension 0"),
        ({0: CODES * [1e101, 1]}, r"up to 1e\+100 in size; received 2e\+101 in row 1, dimension 0"),
        ({0: [[1, 2], [3]]}, "expected train_codes as an array; received list that gives none"),
        ({0: CODES > 3}, r"expected train_codes \[N, d\] of numbers; received bool"),
        ({0: CODES.astype(str)}, r"expected train_codes \[N, d\] of numbers; received <U32"),
        ({1: LABELS[:, None]}, r"expected train_labels \[N\], not empty; received shape \(12, 1\)"),
        ({3: LABELS * np.nan}, r"expected test_labels \[N\] of whole numbers; received nan"),
        ({3: LABELS.astype(str)}, r"expected test_labels \[N\] of whole numbers; received <U"),
        ({3: LABELS / 2}, r"expected test_labels \[N\] of whole numbers; received 0.5"),
        (
            {1: LABELS[:5]},
            "expected one of train_labels for each of train_codes; received 5 for 12",
        ),
        ({3: LABELS[:5]}, "expected one of test_labels for each of test_codes; received 5 for 12"),
        (
            {2: CODES[:, :1]},
            "expected test_codes of 2 dimensions, as train_codes have; received 1",
        ),
        ({1: LABELS * 0 + 4}, "expected two labels or more in train_labels; received 4 alone"),
    ],
)
def test_what_does_not_fit_is_refused(probe, change, message):
    given = [CODES, LABELS, CODES, LABELS]
    for place, value in change.items():
        given[place] = value
    with pytest.raises(tfvae.InputError, match=message) as caught:
        probe(*given)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("probe", "options", "message"),
    [
        (linear_probe, {"seed": -1}, "seed is a whole number from 0; received -1"),
        (nearest_neighbours, {"neighbours": 0}, "neighbours is a whole number from 1; received 0"),
        (nearest_neighbours, {"neighbours": 2.0}, "is a whole number from 1; received 2.0"),
        (
            nearest_neighbours,
            {"neighbours": 13},
            "expected as many training codes as neighbours, 13; received 12",
        ),
    ],
)
def test_options_that_do_not_fit_are_refused(probe, options, message):
    with pytest.raises(tfvae.InputError, match=message):
        probe(CODES, LABELS, CODES, LABELS, **options)
