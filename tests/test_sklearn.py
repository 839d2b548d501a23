"""The estimators of scikit-learn: its conventions, its checks, and what they compute."""

import pickle

import numpy as np
import pandas as pd
import processes
import pytest
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import estimator_checks_generator

from tfvae import InputError
from tfvae.evaluation import log_prob
from tfvae.sklearn import VAEDetector, VAEImputer, VAETransformer

ESTIMATORS = [VAETransformer, VAEDetector, VAEImputer]
every = pytest.mark.parametrize("kind", ESTIMATORS, ids=lambda kind: kind.__name__)


@pytest.fixture(scope="module")
def iris():
    return load_iris().data


def with_holes(x, share, seed=0):
    return np.where(np.random.default_rng(seed).random(x.shape) < share, np.nan, x)


# --- scikit-learn's own checks --------------------------------------------------------------------


def checks():
    # They ask how an estimator behaves, not how well it has learned. The three share one class:
    # each check takes one of those that it is for, in turn.
    found = {}
    for kind in ESTIMATORS:
        for estimator, check in estimator_checks_generator(kind(steps=20)):
            name = getattr(check, "func", check).__name__
            found.setdefault(name, {}).setdefault(kind.__name__, []).append((estimator, check))
    for place, (name, kinds) in enumerate(found.items()):
        kind = list(kinds)[place % len(kinds)]
        for estimator, check in kinds[kind]:
            yield pytest.param(estimator, check, id=f"{kind}-{name}")


@pytest.mark.exhaustive
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("estimator", "check"), list(checks()))
def test_the_checks_of_scikit_learn(estimator, check):
    check(estimator)


# --- what all three do ----------------------------------------------------------------------------


# Which values it hides, to learn to fill them, is drawn too.
def test_equal_seeds_give_equal_models_and_others_others(iris):
    x = with_holes(iris, 0.1)
    first, again, other = (
        VAEImputer(steps=50, random_state=seed).fit(x).vae_.get_weights() for seed in (0, 0, 1)
    )
    for one, two in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, two)
    assert any((one != two).any() for one, two in zip(first, other, strict=True))


def test_fits_of_one_shape_do_not_disturb_each_other(iris):
    one = VAETransformer(steps=50, random_state=0).fit(iris)
    before = one.transform(iris)
    VAETransformer(steps=50, random_state=1).fit(iris[:, ::-1])
    np.testing.assert_array_equal(one.transform(iris), before)


def test_pickling(iris):
    estimator = VAETransformer(steps=50, random_state=0).fit(with_holes(iris, 0.1))
    again = pickle.loads(pickle.dumps(estimator))
    np.testing.assert_array_equal(again.transform(iris), estimator.transform(iris))
    assert not hasattr(clone(estimator), "mean_")


def read_pickle(folder):
    estimator = pickle.loads((folder / "model.pkl").read_bytes())
    np.save(folder / "z.npy", estimator.transform(np.load(folder / "x.npy")))


@pytest.mark.exhaustive
def test_a_pickle_is_read_in_another_process(iris, tmp_path):
    estimator = VAETransformer(steps=50, random_state=0).fit(iris)
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(estimator))
    np.save(tmp_path / "x.npy", iris)
    assert processes.run(read_pickle, tmp_path) == "done"
    np.testing.assert_allclose(np.load(tmp_path / "z.npy"), estimator.transform(iris), atol=1e-6)


@pytest.mark.parametrize("kind", [VAETransformer, VAEImputer])
def test_frames(kind, iris):
    frame = pd.DataFrame(iris, columns=["a", "b", "c", "d"])
    estimator = kind(latent_dim=2, steps=50, random_state=0).fit(frame)
    assert list(estimator.feature_names_in_) == ["a", "b", "c", "d"]
    assert estimator.n_features_in_ == 4
    with pytest.raises(ValueError, match="feature names"):
        estimator.transform(frame[["b", "a", "c", "d"]])
    estimator.set_output(transform="pandas")
    made = estimator.transform(frame)
    named = ["vaetransformer0", "vaetransformer1"]
    assert list(made) == (named if kind is VAETransformer else list(frame))


@every
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"latent_dim": 0}, "latent_dim"),
        ({"steps": 1.5}, "steps"),
        ({"learning_rate": 0}, "learning_rate"),
        ({"num_samples": 0}, "num_samples"),
        ({"likelihood": "normla"}, "unknown likelihood"),
    ],
)
def test_options_that_do_not_fit(kind, options, message, iris):
    with pytest.raises(InputError, match=message):
        kind(**options).fit(iris)


@pytest.mark.exhaustive
def test_constant_huge_and_empty_columns(rng):
    x = rng.normal(size=(60, 4))
    x[:, 1] = 7.0
    x[:, 2] = 1e200 * x[:, 2]
    x[:, 3] = np.nan
    found = VAEImputer(steps=50, random_state=0).fit(x).transform(x)
    assert np.isfinite(found).all()


# --- the transformer ------------------------------------------------------------------------------


def test_log_p_is_that_of_the_model_in_the_tables_own_units(iris):
    estimator = VAETransformer(random_state=0).fit(iris)
    standardised = ((iris - estimator.mean_) / estimator.scale_).astype(np.float32)
    found = log_prob(estimator.vae_, [standardised], num_samples=2000, seed=0)
    expected = found.log_probs - np.log(estimator.scale_).sum()
    difference = estimator.score_samples(iris) - expected
    assert abs(difference.mean()) < 0.1 and difference.std() < 0.5
    # In other units the density is another by their ratio.
    scaled = VAETransformer(random_state=0).fit(10 * iris)
    np.testing.assert_allclose(
        scaled.score_samples(10 * iris),
        estimator.score_samples(iris) - 4 * np.log(10),
        atol=1e-3,
    )


def test_it_learns(iris):
    estimator = VAETransformer(latent_dim=2, random_state=0).fit(iris)
    again = estimator.inverse_transform(estimator.transform(iris))
    assert ((again - iris) ** 2).mean() < 0.15 * iris.var(axis=0).mean()
    # A Gaussian of independent columns.
    independent = -0.5 * (1 + np.log(2 * np.pi * iris.var(axis=0))).sum()
    assert estimator.score(iris) > independent + 1.5
    made = estimator.sample(2000, random_state=0)
    assert np.abs(np.corrcoef(made.T) - np.corrcoef(iris.T)).max() < 0.3
    np.testing.assert_allclose(made.mean(0), iris.mean(0), atol=0.5)
    np.testing.assert_array_equal(made, estimator.sample(2000, random_state=0))


def test_a_row_has_its_figures_whatever_else_is_there(iris):
    estimator = VAETransformer(steps=50, random_state=0).fit(with_holes(iris, 0.1))
    x = with_holes(iris, 0.2, seed=1)
    order = np.random.default_rng(0).permutation(len(x))
    for method in (estimator.transform, estimator.score_samples):
        whole = method(x)
        np.testing.assert_allclose(method(x[order]), whole[order], rtol=1e-6)
        np.testing.assert_allclose(method(x[7:8]), whole[7:8], rtol=1e-6)


def test_many_rows_go_in_chunks(rng):
    estimator = VAETransformer(steps=50, random_state=0).fit(rng.normal(size=(100, 3)))
    x = rng.normal(size=(600, 3))
    np.testing.assert_allclose(
        estimator.transform(x)[500:], estimator.transform(x[500:]), rtol=1e-6, atol=1e-7
    )
    assert estimator.sample(600).shape == (600, 3)


def test_holes_where_there_were_none(iris):
    estimator = VAETransformer(steps=50, random_state=0).fit(iris)
    with pytest.raises(InputError, match="without missing values"):
        estimator.transform(with_holes(iris, 0.1))
    with pytest.raises(InputError, match=r"codes \[N, 2\]"):
        estimator.inverse_transform(np.zeros((3, 5)))


def test_within_a_grid_search_and_a_pipeline(iris):
    pipeline = make_pipeline(StandardScaler(), VAETransformer(steps=30, random_state=0))
    search = GridSearchCV(pipeline, {"vaetransformer__latent_dim": [1, 2]}, cv=2)
    search.fit(iris)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.best_estimator_.transform(iris).shape == (
        150,
        search.best_params_["vaetransformer__latent_dim"],
    )


# --- the detector ---------------------------------------------------------------------------------


@pytest.mark.exhaustive
def test_rows_unlike_the_others_are_found(rng):
    x = rng.normal(size=(300, 1)) * [1, -2, 3] + 0.3 * rng.normal(size=(300, 3))
    # Usual by each column, and not together.
    x[:15] = rng.permuted(x[:15], axis=0) * rng.choice([-1, 1], (15, 3))
    x[:5] += 10
    detector = VAEDetector(contamination=0.05, random_state=0)
    outlying = detector.fit_predict(x)
    assert (outlying == -1).sum() == 15
    assert (outlying[:5] == -1).all()
    np.testing.assert_array_equal(
        detector.decision_function(x), detector.score_samples(x) - detector.offset_
    )


def test_the_density_of_the_detector_is_one_of_the_tables_own_numbers(rng):
    x = 1000 + 50 * rng.standard_t(2, size=(300, 1))
    detector = VAEDetector(steps=300, num_samples=512, random_state=0).fit(x)
    far = 50 * np.sinh(np.linspace(-12, 12, 2001))
    grid = (1000 + far)[:, None]
    density = np.exp(detector.score_samples(grid))
    assert np.trapezoid(density, grid[:, 0]) == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("share", [0, 0.6, "auto", None])
def test_contamination_is_a_share(share, iris):
    with pytest.raises(InputError, match="contamination"):
        VAEDetector(contamination=share).fit(iris)


# --- the imputer ----------------------------------------------------------------------------------


def test_filled_values_are_nearer_than_means(iris):
    x = with_holes(iris, 0.2)
    filled = VAEImputer(random_state=0).fit_transform(x)
    missing = np.isnan(x)
    np.testing.assert_array_equal(filled[~missing], iris[~missing])
    error = np.square(filled - iris)[missing].mean()
    of_means = np.square(np.nanmean(x, axis=0) - iris)[missing].mean()
    assert error < 0.35 * of_means


def test_filling_is_learned_from_complete_rows(iris):
    imputer = VAEImputer(random_state=0).fit(iris[::2])
    x = with_holes(iris[1::2], 0.3)
    missing = np.isnan(x)
    error = np.square(imputer.transform(x) - iris[1::2])[missing].mean()
    of_means = np.square(iris[::2].mean(axis=0) - iris[1::2])[missing].mean()
    assert error < 0.5 * of_means


def test_complete_rows_stay_as_they_are(iris):
    imputer = VAEImputer(steps=30, random_state=0).fit(with_holes(iris, 0.2))
    np.testing.assert_array_equal(imputer.transform(iris), iris)
    assert imputer.transform(iris.astype(np.float32)).dtype == np.float32
