"""How well the dimensions of the codes separate known factors of variation.

Every function takes codes `[N, d]`, of an encoder or of anything else, and the factors `[N, F]`
of the same N events, whole numbers that name each factor's value. Every score lies in [0, 1],
higher is better, and a seed decides it. The scores are those that Locatello et al. (2019),
arXiv:1811.12359, compare; where one here differs from the paper it is named after, it says so.

Only NumPy and scikit-learn are needed: importing this does not load TensorFlow.
"""

import dataclasses
from typing import Any

import numpy as np

from tfvae.checks import checked_count, checked_seed, is_number
from tfvae.errors import InputError
from tfvae.evaluation.probes import checked_codes, checked_labels
from tfvae.typing import ArrayLike

# Of the rows with each value, the part that is scored and not fitted.
TEST_FRACTION = 0.25


@dataclasses.dataclass(frozen=True)
class DCI:
    """What `dci` returns.

    Attributes:
        disentanglement: how far each dimension serves one factor only.
        completeness: how far each factor is served by one dimension only.
        informativeness: how often the factors' values are predicted rightly from all dimensions.
    """

    disentanglement: float
    completeness: float
    informativeness: float


@dataclasses.dataclass(frozen=True)
class Disentanglement:
    """Every score of one set of codes, as `disentanglement_scores` returns it.

    Attributes:
        mig: `mutual_information_gap`.
        sap: `separated_attribute_predictability`.
        disentanglement: that of `dci`.
        completeness: that of `dci`.
        informativeness: that of `dci`.
        factor_vae_score: `factor_vae_score`.
    """

    mig: float
    sap: float
    disentanglement: float
    completeness: float
    informativeness: float
    factor_vae_score: float


def disentanglement_scores(
    codes: ArrayLike, factors: ArrayLike, *, seed: int = 0
) -> Disentanglement:
    """Compute every score of the codes, each with its default options.

    Args:
        codes: `[N, d]`, finite numbers.
        factors: `[N, F]`, whole numbers.
        seed: of all that is drawn.

    Raises:
        InputError: if the codes, the factors or the seed do not fit.
    """
    importance = dci(codes, factors, seed=seed)
    return Disentanglement(
        mig=mutual_information_gap(codes, factors),
        sap=separated_attribute_predictability(codes, factors, seed=seed),
        **dataclasses.asdict(importance),
        factor_vae_score=factor_vae_score(codes, factors, seed=seed),
    )


def mutual_information_gap(codes: ArrayLike, factors: ArrayLike, *, bins: int = 20) -> float:
    """Compute the mutual information gap, MIG, of Chen et al. (2018), arXiv:1802.04942, equation 6.

    The mean over factors of (I(z_j; v) − I(z_j'; v)) / H(v), where z_j and z_j' are the two
    dimensions that share the most information with the factor v. Each dimension is put into bins
    of equal width over its range, as in Locatello et al. (2019), arXiv:1811.12359, and I and H are
    those of the counts. So estimated, I is too large by about (b − 1)(k − 1) / 2N nats for b
    occupied bins and k values of the factor: codes that know nothing do not score exactly 0.

    Args:
        codes: `[N, d]`, finite numbers. A constant dimension shares no information. Where d is 1
            the second I is 0.
        factors: `[N, F]`, whole numbers, two values or more of each factor.
        bins: how many of them a dimension has.

    Raises:
        InputError: if the codes, the factors or the number of bins do not fit.
    """
    found, columns = _checked(codes, factors, shared=False)
    bins = checked_count("bins", bins, least=2)
    low = found.min(axis=0)
    width = found.max(axis=0) - low
    place = np.floor((found - low) / np.where(width > 0, width, 1) * bins)
    # The largest code belongs to the last bin.
    place = np.minimum(place, bins - 1)
    occupied = [np.unique(column, return_inverse=True)[1] for column in place.T]
    gaps = []
    for values in columns:
        entropy = _entropy_of(values)
        # Of a joint histogram that may be large, only the cells that occur are held.
        shared = [
            entropy + _entropy_of(bin_) - _entropy_of(bin_ * (values.max() + 1) + values)
            for bin_ in occupied
        ]
        first, second = sorted([*shared, 0.0], reverse=True)[:2]
        gaps.append((first - second) / entropy)
    return _score(np.mean(gaps))


def separated_attribute_predictability(
    codes: ArrayLike, factors: ArrayLike, *, seed: int = 0, test_fraction: float = TEST_FRACTION
) -> float:
    """Compute the SAP score of Kumar et al. (2018), arXiv:1711.00848, section 3.

    The mean over factors of the difference between the two dimensions that, each alone, predict
    the factor best. A dimension predicts by thresholds on it, fitted for balanced accuracy as in
    the paper: a decision tree with at most twice as many intervals as the factor has values, each
    value weighing the same. A linear SVM, which others use, could not tell the middle values of an
    ordered factor from one dimension.

    Two things differ from the paper. The accuracy is that of rows that the thresholds were not
    fitted to. And it is counted from chance: (accuracy − 1/k) / (1 − 1/k) for k values, or 0 where
    that is negative. So a constant dimension scores 0, as in the paper, but so does one of noise,
    which there scores 1/k.

    Only the order of a dimension's codes counts.

    Args:
        codes: `[N, d]`, finite numbers. Where d is 1 the second accuracy is 0.
        factors: `[N, F]`, whole numbers; of each factor two values that two rows or more share.
            A value that one row has is fitted and not scored.
        seed: of the split.
        test_fraction: of the rows with each value, the part that is scored, between 0 and 1 and
            at least one row.

    Raises:
        InputError: if the codes, the factors or an option do not fit.
    """
    from sklearn.tree import DecisionTreeClassifier

    found, columns = _checked(codes, factors)
    rng = np.random.default_rng(checked_seed("seed", seed))
    if not is_number(test_fraction) or not 0 < test_fraction < 1:
        raise InputError(f"test_fraction lies between 0 and 1; received {test_fraction!r}")
    ranks = _ranks(found)
    gaps = []
    for values in columns:
        train, test = _split(values, float(test_fraction), rng)
        counts = np.bincount(values[test])
        scored = counts > 0
        chance = 1 / np.sum(scored)
        scores = [0.0, 0.0]
        for column in ranks.T:
            tree = DecisionTreeClassifier(
                max_leaf_nodes=2 * (values.max() + 1), class_weight="balanced", random_state=0
            ).fit(column[train, None], values[train])
            right = tree.predict(column[test, None]) == values[test]
            recalls = np.bincount(values[test], weights=right)[scored] / counts[scored]
            scores.append((recalls.mean() - chance) / (1 - chance))
        first, second = sorted(scores, reverse=True)[:2]
        gaps.append(first - second)
    return _score(np.mean(gaps))


def dci(codes: ArrayLike, factors: ArrayLike, *, seed: int = 0) -> DCI:
    """Compute disentanglement, completeness and informativeness.

    Eastwood & Williams (2018), "A framework for the quantitative evaluation of disentangled
    representations", ICLR. R_jk is how much dimension j counts in predicting factor k.
    Disentanglement is the mean over dimensions of 1 − H_F(R_j· / Σ_k R_jk), entropies to base F
    and weights Σ_k R_jk, and so without the dimensions that no prediction uses. Completeness is
    the mean over factors of 1 − H_d(R_·k / Σ_j R_jk), without those whose prediction uses no
    dimension; the others weigh the same, as Σ_j R_jk is 1. Where no prediction uses any dimension
    both are 0. With one factor disentanglement has nothing to tell apart and is 1, and so is
    completeness with one dimension.

    Informativeness is the mean over factors of the accuracy on a quarter of the rows, kept back;
    the paper gives an error instead. It is not counted from chance, which is about the frequency
    of a factor's commonest value.

    R are the impurity importances of 100 extremely randomised trees (Geurts et al., 2006) with
    all dimensions at each node and ten rows or more in each leaf. They depend on the choice: the
    paper has lasso and random forests, Locatello et al. (2019) boosted trees, which take some
    twenty times as long. All dimensions at each node, because those drawn without the one that
    matters would have to use another; ten rows, because splits below are of noise and would even
    out R. A value that fewer rows have is therefore never told from others. Only the order of a
    dimension's codes counts.

    Args:
        codes: `[N, d]`, finite numbers.
        factors: `[N, F]`, whole numbers; of each factor two values that two rows or more share.
        seed: of the splits and of the trees.

    Raises:
        InputError: if the codes, the factors or the seed do not fit.
    """
    from sklearn.ensemble import ExtraTreesClassifier

    found, columns = _checked(codes, factors)
    rng = np.random.default_rng(checked_seed("seed", seed))
    ranks = _ranks(found)
    importances = np.zeros((found.shape[1], len(columns)))
    accuracies = []
    for k, values in enumerate(columns):
        train, test = _split(values, TEST_FRACTION, rng)
        trees = ExtraTreesClassifier(
            n_estimators=100,
            max_features=None,
            min_samples_leaf=10,
            # A smaller one is rounding, which would count in full where nothing else does.
            min_impurity_decrease=1e-9,
            random_state=int(rng.integers(2**32)),
        ).fit(ranks[train], values[train])
        importances[:, k] = trees.feature_importances_
        accuracies.append(np.mean(trees.predict(ranks[test]) == values[test]))
    return DCI(
        disentanglement=_concentration(importances),
        completeness=_concentration(importances.T),
        informativeness=_score(np.mean(accuracies)),
    )


def factor_vae_score(
    codes: ArrayLike,
    factors: ArrayLike,
    *,
    seed: int = 0,
    votes: int = 800,
    batch_size: int = 64,
    prune: float = 0.05,
) -> float:
    """Compute the metric of Kim & Mnih (2018), arXiv:1802.05983, section 3, "A new metric".

    A vote takes a factor at random, a batch of codes that have the same value of it, and the
    dimension whose variance over the batch, divided by that over all codes, is smallest. Some
    votes say which factor each dimension stands for, by majority. The score is how many of as
    many fresh votes that tells rightly. Codes that know nothing score about 1/F, and one factor
    alone scores 1.

    The codes of a batch are drawn with replacement from those given, where the paper encodes new
    events. The value is that of a random row, so that common values are taken more often.

    Args:
        codes: `[N, d]`, finite numbers.
        factors: `[N, F]`, whole numbers; of each factor two values that two rows or more share.
            A value that one row has is never taken: it has no variance.
        seed: of the votes.
        votes: how many for the majorities, and again for the score.
        batch_size: codes of one vote.
        prune: dimensions whose standard deviation is below this part of the largest one's take no
            part, nor do constant ones. The divided variance of such a dimension would be noise.
            The program of Locatello et al. (2019) demands a standard deviation of 0.05, which is
            the same where the largest is the prior's 1; a part of the largest does not depend on
            the codes' scale. Where no dimension is left the score is 0.

    Raises:
        InputError: if the codes, the factors or an option do not fit.
    """
    found, columns = _checked(codes, factors)
    rng = np.random.default_rng(checked_seed("seed", seed))
    checked_count("votes", votes)
    checked_count("batch_size", batch_size, least=2)
    if not is_number(prune) or not 0 <= prune < 1:
        raise InputError(f"prune is a number from 0 and below 1; received {prune!r}")
    deviations = np.where(np.ptp(found, axis=0) > 0, found.std(axis=0), 0)
    kept = (deviations > 0) & (deviations >= prune * deviations.max())
    if not kept.any():
        return 0.0
    # Divided first, so that the variance of a batch is the divided one.
    scaled = found[:, kept] / deviations[kept]
    grouped = [np.argsort(values, kind="stable") for values in columns]
    sizes = [np.bincount(values) for values in columns]
    starts = [np.cumsum(size) - size for size in sizes]
    usable = [np.flatnonzero(size[values] > 1) for size, values in zip(sizes, columns, strict=True)]

    def vote() -> tuple[int, int]:
        k = int(rng.integers(len(columns)))
        value = columns[k][rng.choice(usable[k])]
        rows = grouped[k][starts[k][value] + rng.integers(sizes[k][value], size=batch_size)]
        return int(np.argmin(scaled[rows].var(axis=0))), k

    counts = np.zeros((scaled.shape[1], len(columns)), dtype=np.int64)
    for _ in range(votes):
        counts[vote()] += 1
    # A dimension that no vote was for stands for no factor.
    majority = np.where(counts.any(axis=1), counts.argmax(axis=1), -1)
    fresh = (vote() for _ in range(votes))
    return _score(np.mean([majority[dimension] == k for dimension, k in fresh]))


def _checked(
    codes: ArrayLike, factors: ArrayLike, shared: bool = True
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return the codes, and each factor's values `[N]` numbered from 0.

    Args:
        codes: as the user gave them.
        factors: as the user gave them.
        shared: whether each factor needs two values that two rows or more share.
    """
    found = checked_codes("codes", codes)
    named = checked_labels("factors", factors, "[N, F]")
    if len(found) != len(named):
        raise InputError(
            f"expected one row of factors for each code; received {len(named)} for {len(found)}"
        )
    if len(found) < 2:
        raise InputError("expected two codes or more; received 1")
    columns = []
    for k, column in enumerate(named.T):
        names, values, counts = np.unique(column, return_inverse=True, return_counts=True)
        if len(names) < 2:
            raise InputError(
                f"expected two values or more of each factor; received {names[0]} alone of "
                f"factor {k}: leave it out"
            )
        if shared and np.sum(counts > 1) < 2:
            raise InputError(
                "expected two values of each factor that two rows or more share; received "
                f"{np.sum(counts > 1)} of factor {k}: give more codes, or merge its values"
            )
        columns.append(values)
    return found, columns


def _ranks(codes: np.ndarray) -> np.ndarray:
    """Replace each dimension's codes by their ranks, equal ones by the same.

    Trees compare in float32, and take values that differ by less than 1e-7 for equal: codes of a
    small scale or a large offset would lose their order.
    """
    return np.stack([np.unique(column, return_inverse=True)[1] for column in codes.T], axis=1)


def _split(
    values: np.ndarray, fraction: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows to fit and those to score: of values that rows share, some in each."""
    order = rng.permutation(len(values))
    order = order[np.argsort(values[order], kind="stable")]
    counts = np.bincount(values)
    place = np.arange(len(values)) - np.repeat(np.cumsum(counts) - counts, counts)
    scored = np.minimum(np.maximum(np.rint(fraction * counts), 1), counts - 1)
    is_scored = place < np.repeat(scored, counts)
    return np.sort(order[~is_scored]), np.sort(order[is_scored])


def _concentration(weights: np.ndarray) -> float:
    """Average 1 − entropy, to the base of the columns, over rows, weighted by their sums."""
    totals = weights.sum(axis=1)
    alive = totals > 0
    if not alive.any():
        return 0.0
    if weights.shape[1] == 1:
        return 1.0
    shares = weights[alive] / totals[alive, None]
    entropies = -np.sum(shares * np.log(np.where(shares > 0, shares, 1)), axis=1)
    return _score(np.average(1 - entropies / np.log(weights.shape[1]), weights=totals[alive]))


def _entropy_of(values: np.ndarray) -> float:
    """Return the entropy in nats of the values' frequencies."""
    counts = np.unique(values, return_counts=True)[1]
    shares = counts / len(values)
    return float(-np.sum(shares * np.log(shares)))


def _score(value: Any) -> float:
    """Return a score as a plain number; rounding may have put it past 0 or 1."""
    return float(np.clip(value, 0, 1))
