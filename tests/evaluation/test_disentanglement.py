"""Scores of codes that are made so that their scores are known."""

import dataclasses
import itertools
import json
import warnings

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import mutual_info_score

import tfvae
from tfvae.evaluation.disentanglement import (
    DCI,
    Disentanglement,
    dci,
    disentanglement_scores,
    factor_vae_score,
)
from tfvae.evaluation.disentanglement import mutual_information_gap as mig
from tfvae.evaluation.disentanglement import separated_attribute_predictability as sap

EVERY = (mig, sap, dci, factor_vae_score, disentanglement_scores)
SIZES = (2, 3, 4)


def grid(sizes=SIZES, repeats=100):
    """Every combination of the factors' values as often as every other: exactly independent."""
    rows = np.array(list(itertools.product(*map(range, sizes))))
    return np.tile(rows, (repeats, 1))


def shuffled(rng, factors):
    return factors[rng.permutation(len(factors))]


def noisy(rng, factors, sigma):
    return factors + sigma * rng.normal(size=factors.shape)


def uneven_split(count):
    """How far 1 − entropy may be from that of two equal shares: 100 trees each go one way."""
    s = 0.5 + 4 * 0.5 / 100**0.5
    return (np.log(2) + s * np.log(s) + (1 - s) * np.log(1 - s)) / np.log(count)


def binary_entropy(p):
    return -p * np.log(p) - (1 - p) * np.log(1 - p)


def flipped(values, every):
    """The values 0 and 1, of which every so-manieth is the other: exact frequencies."""
    return np.where(np.arange(len(values)) % every == 0, 1 - values, values)


def test_codes_that_are_the_factors_are_perfect(rng):
    factors = shuffled(rng, grid())
    codes = factors[:, [2, 0, 1]] * [0.1, -3, 1000] + [5, 0, -2]
    assert mig(codes, factors) == pytest.approx(1, abs=1e-12)
    assert dci(codes, factors) == DCI(1.0, 1.0, 1.0)
    # The scales are far apart, so none may be left out.
    assert factor_vae_score(codes, factors, prune=0) == 1
    # The second dimension is right by chance alone: 4 standard errors of 600 rows and two values.
    assert 1 - 4 * 2 * 0.5 / 600**0.5 < sap(codes, factors) <= 1


def test_one_factor_and_dead_dimensions_are_perfect():
    factors = grid((5,), 40)
    codes = np.concatenate([np.full((200, 3), 7.0), -factors / 3], axis=1)
    assert disentanglement_scores(codes, factors) == Disentanglement(1, 1, 1, 1, 1, 1)


def test_constant_codes_know_nothing():
    factors = grid()
    found = disentanglement_scores(np.full((len(factors), 4), -0.1), factors)
    # Every value of a factor is as frequent as its others, in the rows kept back too.
    informativeness = pytest.approx(np.mean([1 / size for size in SIZES]))
    assert found == Disentanglement(0.0, 0.0, 0.0, 0.0, informativeness, 0.0)


def test_factors_coded_twice_leave_no_gap(rng):
    factors = shuffled(rng, grid())
    codes = np.concatenate([factors, 2.0 * factors], axis=1)
    assert mig(codes, factors) == 0
    assert sap(codes, factors) == 0
    assert factor_vae_score(codes, factors) == 1
    found = dci(codes, factors)
    assert found == DCI(1.0, found.completeness, 1.0)
    expected = 1 - np.log(2) / np.log(6)
    assert expected - 1e-9 < found.completeness < expected + uneven_split(6)


def test_a_dimension_that_codes_two_factors(rng):
    factors = shuffled(rng, grid((2, 2), 600))
    codes = np.stack([2.0 * factors[:, 0] + factors[:, 1], np.zeros(len(factors))], axis=1)
    # The gap is between dimensions, and does not see that a dimension is shared.
    assert mig(codes, factors) == pytest.approx(1, abs=1e-12)
    assert sap(codes, factors) == 1
    assert dci(codes, factors) == DCI(pytest.approx(0, abs=1e-12), 1, 1)
    # One dimension takes every vote, whichever factor it is for: right half of the time.
    assert abs(factor_vae_score(codes, factors) - 0.5) < 4 * 0.5 / 800**0.5
    # A dimension weighs by how much it is used: twice what one does that has a third factor alone.
    factors = shuffled(rng, grid((2, 2, 2), 100))
    codes = np.stack([2.0 * factors[:, 0] + factors[:, 1], factors[:, 2]], axis=1)
    expected = (2 * (1 - np.log(2) / np.log(3)) + 1) / 3
    assert dci(codes, factors).disentanglement == pytest.approx(expected, abs=0.01)


def test_two_factors_turned_by_45_degrees(rng):
    signs = shuffled(rng, 2 * grid((2, 2), 1000) - 1)
    codes = np.stack([signs.sum(axis=1), signs[:, 0] - signs[:, 1]], axis=1)
    # What one dimension knows of a factor, the other knows too: half a bit, and 3/4 accuracy.
    assert mig(codes, signs) == pytest.approx(0, abs=1e-12)
    assert mig(codes[:, :1], signs) == pytest.approx(0.5)
    assert sap(codes, signs) < 4 * (2 * 0.75 * 0.25 * 4 / 1000) ** 0.5
    assert abs(sap(codes[:, :1], signs) - 0.5) < 4 * 2 * (0.75 * 0.25 / 1000) ** 0.5
    found = dci(codes, signs)
    assert found.informativeness == 1
    assert max(found.disentanglement, found.completeness) < uneven_split(2)
    # Both variances halve, and a vote is a throw of a coin.
    assert abs(factor_vae_score(codes, signs) - 0.5) < 4 * 0.5 / 800**0.5


def test_random_rotations_entangle(rng):
    factors = shuffled(rng, grid((4, 4, 4, 4), 12))
    found = disentanglement_scores(factors @ stats.ortho_group(4, seed=0).rvs(), factors)
    # All are 1 without the rotation, but for what SAP loses by chance.
    assert max(found.mig, found.sap, found.disentanglement, found.completeness) < 0.4
    assert found.factor_vae_score < 0.9
    assert found.informativeness > 0.9


def test_noise_knows_nothing(rng):
    factors = shuffled(rng, grid(SIZES, 200))
    codes = rng.normal(size=(len(factors), 5))
    found = disentanglement_scores(codes, factors)
    # 2 N I is χ² with (bins − 1)(values − 1) degrees, and the gap is no more than the largest I.
    bounds = [stats.chi2.isf(1e-4 / 15, 19 * (k - 1)) / np.log(k) for k in SIZES]
    assert found.mig < np.mean(bounds) / (2 * len(factors))
    # As for perfect codes, with the larger of two errors.
    assert found.sap < 4 * 2 * 0.5 / 1200**0.5
    assert max(found.disentanglement, found.completeness) < 0.02
    error = np.sqrt(np.sum([(1 - 1 / k) / k for k in SIZES]) / 1200) / 3
    assert abs(found.informativeness - np.mean([1 / k for k in SIZES])) < 4 * error
    # A dimension's variance differs by some per cent from one value to another, which the
    # majorities may use.
    assert abs(found.factor_vae_score - 1 / 3) < 0.1


@pytest.mark.exhaustive
def test_noise_lowers_every_score(rng):
    factors = shuffled(rng, grid(SIZES, 150))
    levels = [
        disentanglement_scores(noisy(rng, factors, sigma), factors) for sigma in (0, 0.4, 1, 3)
    ]
    for name in ("mig", "sap", "disentanglement", "completeness", "informativeness"):
        scores = [getattr(level, name) for level in levels]
        assert np.all(np.diff(scores) < 0), name
    assert levels[0].factor_vae_score == 1
    assert levels[-1].factor_vae_score < 1


def test_information_of_four_rows():
    codes, factors = [[0.0], [1.0], [2.0], [3.0]], np.array([[0], [0], [1], [0]])
    # Two bins hold (0, 0) and (1, 0): I = Σ p log p / (p' p'').
    information = np.log(4 / 3) / 2 + np.log(2 / 3) / 4 + np.log(2) / 4
    assert mig(codes, factors, bins=2) == pytest.approx(information / binary_entropy(0.25))
    # Each code has a bin of its own.
    assert mig(codes, factors, bins=4) == pytest.approx(1)
    # Bins are equal in width and not in what they hold.
    assert mig([[0], [1], [2], [90]], factors, bins=2) == pytest.approx(
        (binary_entropy(0.25) - 0.75 * binary_entropy(1 / 3)) / binary_entropy(0.25)
    )


def test_the_gap_of_two_noisy_channels():
    values = np.repeat([0, 1], 1000)
    codes = np.stack([flipped(values, 5), np.zeros(2000), flipped(values, 10)], axis=1)
    gap = (binary_entropy(0.2) - binary_entropy(0.1)) / np.log(2)
    assert mig(codes, values[:, None]) == pytest.approx(gap)
    alone = 1 - binary_entropy(0.1) / np.log(2)
    assert mig(codes[:, 1:], values[:, None]) == pytest.approx(alone)


def test_information_is_that_of_scikit_learn(rng):
    factors = rng.integers(6, size=(500, 2))
    codes = noisy(rng, factors, 0.7)
    gaps = []
    for values in factors.T:
        information = []
        for column in codes.T:
            edges = np.linspace(column.min(), column.max(), 8)
            information.append(mutual_info_score(np.digitize(column, edges[1:-1]), values))
        gaps.append(np.abs(np.diff(information)) / stats.entropy(np.bincount(values)))
    assert mig(codes, factors, bins=7) == pytest.approx(np.mean(gaps))


def test_counted_information_of_noise_is_too_large_as_said(rng):
    factors = rng.integers(5, size=(4000, 1))
    found = mig(rng.uniform(size=(4000, 1)), factors, bins=10)
    low, high = stats.chi2(9 * 4).ppf([1e-4, 1 - 1e-4]) / (2 * 4000) / np.log(5)
    assert low < found < high


def test_predictability_of_gaussians_is_that_of_the_best_threshold(rng):
    values = np.repeat([0, 1], 20_000)
    distances = np.array([2.0, 1.0, 0.0])
    codes = values[:, None] * distances + rng.normal(size=(40_000, 3))
    found = sap(codes, values[:, None])
    # Accuracy Φ(δ/2) becomes 2 Φ(δ/2) − 1; 10 000 rows are scored.
    best, second = 2 * stats.norm.cdf(distances[:2] / 2) - 1
    error = 2 * np.sqrt(sum((1 - a) * (1 + a) / 4 for a in (best, second)) / 10_000)
    assert abs(found - (best - second)) < 4 * error


def test_predictability_weighs_values_alike(rng):
    # Rare values: telling the commonest always is right for nine tenths of the rows.
    values = np.repeat([0, 1], [18_000, 2000])
    codes = 2.0 * values[:, None] + rng.normal(size=(20_000, 1))
    found = sap(codes, values[:, None], test_fraction=0.5)
    # Of the two recalls, that of 1000 rows has nearly all the error.
    recall = stats.norm.cdf(1)
    assert abs(found - (2 * recall - 1)) < 4 * np.sqrt(recall * (1 - recall) / 1000)


def test_values_that_lie_apart_on_a_dimension_are_predicted(rng):
    place = shuffled(rng, grid((6,), 100))
    # In order along the dimension: 0, 1, 2, 0, 1, 2.
    assert sap(place, place % 3) == 1


def test_values_that_one_row_has_are_not_scored():
    values = np.concatenate([np.repeat([0, 1], 30), np.arange(2, 42)])
    factors = np.stack([values, np.arange(100) % 2], axis=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert sap(factors[:, :1], factors[:, :1]) == 1
        # The other factor is in the first dimension, which takes votes between equals.
        assert factor_vae_score(factors[:, ::-1], factors, prune=0) == 1


def test_trees_tell_values_that_enough_rows_have():
    values = np.repeat([0, 1, 2], [400, 400, 10])[:, None]
    # Eight rows of the last value are fitted, and two scored, of 202 in all.
    assert dci(values, values) == DCI(1, 1, 200 / 202)


def test_trees_that_find_nothing_to_split():
    # Now and then the rows fitted have exactly as many of each code for each value.
    factors, codes = grid((2, 2), 10)[:, :1], grid((2, 2), 10)[:, 1:]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = [dci(codes, factors, seed=seed) for seed in range(10)]
    assert {each.completeness for each in found} <= {0, 1}


def test_collapsed_dimensions_take_no_part_in_votes(rng):
    factors = shuffled(rng, grid((3, 3), 100))
    codes = factors * [1, 0.01]
    # What is left takes every vote.
    assert abs(factor_vae_score(codes, factors) - 0.5) < 4 * 0.5 / 800**0.5
    assert factor_vae_score(codes, factors, prune=0.009) == 1
    assert factor_vae_score(1e-6 * codes, factors, prune=0) == 1
    # Of a constant dimension the divided variance is none, with prune=0 too.
    dead = np.concatenate([np.full((len(codes), 1), 0.1), factors], axis=1)
    assert factor_vae_score(dead, factors, prune=0) == 1


def test_votes_and_batches_count():
    factors = grid((2, 2), 100)
    codes = noisy(np.random.default_rng(1), factors, 0.5)
    few = factor_vae_score(codes, factors, votes=7)
    assert few * 7 == pytest.approx(round(few * 7))
    # A dimension that got no vote stands for nothing: one vote is right where two agree.
    single = [factor_vae_score(factors, factors, votes=1, seed=seed) for seed in range(200)]
    assert abs(np.mean(single) - 0.5) < 4 * 0.5 / 200**0.5
    # Variances of pairs are far apart by chance.
    assert factor_vae_score(codes, factors, batch_size=2) < 0.9
    assert factor_vae_score(codes, factors, batch_size=200) == 1


@pytest.fixture(scope="module")
def case():
    """Codes, numbers that float32 holds, and factors."""
    rng = np.random.default_rng(0)
    factors = shuffled(rng, grid(SIZES, 60))
    mixed = factors @ [[1, 0.2, 0, 0], [0, 1, 0.3, 0], [0.3, 0, 1, 0]]
    codes = mixed + 0.3 * rng.normal(size=mixed.shape)
    return codes.astype("float32").astype("float64"), factors


@pytest.fixture(scope="module")
def scored(case):
    """The scores of that case."""
    return disentanglement_scores(*case)


# How far trees may be apart that draw other thresholds; a threshold may fall on a code that is
# scored, and values equally common in a leaf are told by their order.
OTHER_TREES = {"disentanglement": 0.03, "completeness": 0.03, "informativeness": 0.03}
OTHER_SIDE = {**OTHER_TREES, "sap": 0.01}


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("change", "tolerances"),
    [
        (lambda codes, factors: (codes[:, [3, 1, 0, 2]], factors), OTHER_TREES),
        (lambda codes, factors: (codes * [0.5, 3, 1.7, 2] + [9, -4, 0, 1], factors), {}),
        # Trees of float32 could not tell these from constants.
        (lambda codes, factors: (1e-6 * codes + 3, factors), {}),
        (lambda codes, factors: (-codes, factors), OTHER_SIDE),
        (lambda codes, factors: (codes, np.array([7, -100, 2**40, 3])[factors]), OTHER_SIDE),
    ],
    ids=["order", "scale", "offset", "sign", "names"],
)
def test_what_scores_do_not_depend_on(case, scored, change, tolerances):
    found = disentanglement_scores(*change(*case))
    for name, value in dataclasses.asdict(scored).items():
        tolerance = tolerances.get(name, 1e-9)
        assert getattr(found, name) == pytest.approx(value, abs=tolerance), name


def test_only_the_order_of_codes_matters_to_trees(case):
    codes, factors = case
    bent = np.exp(codes)
    assert dci(bent, factors) == dci(codes, factors)
    expected = sap(codes, factors)
    assert sap(bent, factors) == expected


def test_types_do_not_matter(case, scored):
    codes, factors = case
    assert disentanglement_scores(codes.tolist(), factors.astype("float16")) == scored
    binary = factors[:, :1]
    assert mig(codes, binary == 1) == mig(codes, binary)


def test_seeds_decide_the_scores(case, scored):
    codes, factors = case
    np.random.seed(7)  # noqa: NPY002 - what scikit-learn would fall back to
    assert disentanglement_scores(codes, factors) == scored
    other = disentanglement_scores(codes, factors, seed=2**40)
    assert other.mig == scored.mig
    for name in ("sap", "disentanglement", "completeness", "informativeness"):
        assert getattr(other, name) != getattr(scored, name)
        assert getattr(other, name) == pytest.approx(getattr(scored, name), abs=0.1)
    few = [factor_vae_score(codes, factors, seed=seed, batch_size=4) for seed in (1, 1, 2)]
    assert few[0] == few[1] != few[2]


def test_all_scores_are_those_of_their_functions(case, scored):
    codes, factors = case
    expected = {
        "mig": mig(codes, factors),
        "sap": sap(codes, factors),
        **dataclasses.asdict(dci(codes, factors)),
        "factor_vae_score": factor_vae_score(codes, factors),
    }
    assert json.loads(json.dumps(dataclasses.asdict(scored))) == expected


CODES = np.arange(12.0).reshape(6, 2)
FACTORS = np.array([[0, 1], [0, 0], [0, 1], [1, 0], [1, 1], [1, 0]])


@pytest.mark.parametrize("score", EVERY)
@pytest.mark.parametrize(
    ("codes", "factors", "message"),
    [
        (CODES[0], FACTORS, r"expected codes \[N, d\], not empty; received shape \(2,\)"),
        (CODES * [1, np.nan], FACTORS, "expected finite codes, .* received nan in row 0, dimens"),
        (CODES, FACTORS[:, 0], r"expected factors \[N, F\], not empty; received shape \(6,\)"),
        (CODES, FACTORS + 0.5, r"expected factors \[N, F\] of whole numbers; received 0.5"),
        (CODES, FACTORS[:4], "expected one row of factors for each code; received 4 for 6"),
        (CODES[:1], FACTORS[:1], "expected two codes or more; received 1"),
        (CODES, FACTORS * [1, 0] + 5, "two values or more of each factor; received 5 alone of fac"),
    ],
)
def test_codes_and_factors_that_do_not_fit_are_refused(score, codes, factors, message):
    with pytest.raises(tfvae.InputError, match=message) as caught:
        score(codes, factors)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("score", EVERY[1:])
def test_values_that_no_two_rows_share_are_refused(score):
    factors = np.stack([FACTORS[:, 0], [0, 0, 0, 0, 1, 2]], axis=1)
    message = "two values of each factor that two rows or more share; received 1 of factor 1: give"
    with pytest.raises(tfvae.InputError, match=message):
        score(CODES, factors)
    assert 0 <= mig(CODES, factors) <= 1


@pytest.mark.parametrize(
    ("score", "options", "message"),
    [
        (mig, {"bins": 1}, "bins is a whole number from 2; received 1"),
        (mig, {"bins": 2.5}, "bins is a whole number from 2; received 2.5"),
        (sap, {"test_fraction": 1}, "test_fraction lies between 0 and 1; received 1"),
        (sap, {"test_fraction": "half"}, "lies between 0 and 1; received 'half'"),
        (sap, {"seed": -1}, "seed is a whole number from 0; received -1"),
        (dci, {"seed": None}, "seed is a whole number from 0; received None"),
        (factor_vae_score, {"seed": True}, "seed is a whole number from 0; received True"),
        (factor_vae_score, {"votes": 0}, "votes is a whole number from 1; received 0"),
        (factor_vae_score, {"batch_size": 1}, "batch_size is a whole number from 2; received 1"),
        (factor_vae_score, {"prune": -0.1}, "prune is a number from 0 and below 1; received -0.1"),
        (factor_vae_score, {"prune": np.nan}, "prune is a number from 0 and below 1; received nan"),
        (disentanglement_scores, {"seed": 0.5}, "seed is a whole number from 0; received 0.5"),
    ],
)
def test_options_that_do_not_fit_are_refused(score, options, message):
    with pytest.raises(tfvae.InputError, match=message):
        score(CODES, FACTORS, **options)
