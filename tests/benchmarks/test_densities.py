"""Densities of tables by the protocol of a paper: its folds, its normal distribution, its table."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal
from scripts import ROOT, benchmark

densities = benchmark("densities")


@pytest.fixture
def x(test_data):
    return densities.read("ionosphere", test_data / "adbench" / "18_Ionosphere.npz")


def test_each_row_is_tested_once_and_never_trained_on(rng):
    x = rng.normal(size=(53, 3))
    x[:, 0] = np.arange(53)
    tested = []
    for fold in range(densities.FOLDS):
        seen, held, test = densities.folds(x, fold)
        np.testing.assert_allclose(seen.mean(axis=0), 0, atol=1e-6)
        np.testing.assert_allclose(seen.std(axis=0), 1, rtol=1e-5)
        # Unstandardized by what the rows that are trained on have: each is in one part alone.
        rows = np.concatenate([seen, held, test])[:, 0]
        order = np.argsort(np.argsort(rows))
        assert sorted(order) == list(range(53))
        tested += list(order[len(seen) + len(held) :])
    assert sorted(tested) == list(range(53))


def test_the_normal_distribution_has_the_papers_density(x):
    folds = [densities.normal_log_prob(x, fold) for fold in range(densities.FOLDS)]
    means = np.array([one.mean() for one in folds])
    published = densities.TABLES["ionosphere"].published[densities.NORMAL]
    # Their folds are others.
    assert means.mean() == pytest.approx(published, abs=2 * means.std(ddof=1) / len(means) ** 0.5)
    seen, held, test = densities.folds(x, 0)
    both = np.concatenate([seen, held])
    expected = multivariate_normal(both.mean(axis=0), np.cov(both.T)).logpdf(test)
    np.testing.assert_allclose(folds[0], expected)


def test_another_table_is_refused_in_one_line(tmp_path):
    (tmp_path / "wine.dat").write_text("1.0,2.0,red\n3.0,1.0,red\n2.0,4.0,white\n")
    with pytest.raises(SystemExit, match=r"expected \(1599, 11\), received \(3, 2\)"):
        densities.read("red-wine", tmp_path / "wine.dat")


def test_the_pages_have_the_table_of_the_results():
    if densities.results():
        assert densities.table() in (ROOT / "docs" / "results.md").read_text("utf-8")


@pytest.mark.exhaustive
def test_a_fold_is_trained_and_scored(x):
    found = densities.measure("ionosphere", x, 0, epochs=2, draws=20)
    assert found["rows"] == 36
    assert found["elbo"] <= found["log_prob"]
    assert 1 <= found["best_epoch"] <= 2
    assert found[densities.NORMAL] == pytest.approx(densities.normal_log_prob(x, 0).mean())
