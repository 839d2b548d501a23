"""What a simple classifier reads from the codes: how far they keep what labels say.

Only NumPy and scikit-learn are needed: importing this does not load TensorFlow.
"""

import dataclasses
from typing import Any

import numpy as np

from tfvae.checks import checked_count, checked_seed
from tfvae.errors import InputError
from tfvae.typing import ArrayLike

# The linear probe takes no more codes than these to learn from: more would take longer, and
# change a classifier of so few weights little.
MOST_CODES = 60_000
# Squares of larger codes, summed, would leave the range of float64.
LARGEST_CODE = 1e100


@dataclasses.dataclass(frozen=True)
class Accuracy:
    """How often a classifier is right.

    Attributes:
        accuracy: the part p of the test events whose label it tells, from 0 to 1.
        standard_error: of p as an estimate from n events, √(p(1 − p)/n). It is 0 where all
            are right or all are wrong, which does not mean that other events would be too.
        events: how many test events, n.
        chance: the part that telling every event the commonest training label gets; of labels
            equally common, the smallest.
    """

    accuracy: float
    standard_error: float
    events: int
    chance: float


def linear_probe(
    train_codes: ArrayLike,
    train_labels: ArrayLike,
    test_codes: ArrayLike,
    test_labels: ArrayLike,
    *,
    seed: int = 0,
) -> Accuracy:
    """Tell the labels by multinomial logistic regression.

    The probe of Alain & Bengio (2017), arXiv:1610.01644, fitted to convergence: the codes are
    standardised, with the mean and the standard deviation of the training codes, and the weights
    w minimise the summed cross-entropy + ½|w|² (scikit-learn's, by L-BFGS). The penalty keeps them
    finite where the labels are separable, and counts for little elsewhere.

    Args:
        train_codes: `[N, d]`, finite numbers. Of more than 60 000, so many drawn at random are
            used.
        train_labels: `[N]`, whole numbers, two or more.
        test_codes: `[M, d]`, finite numbers.
        test_labels: `[M]`, whole numbers. One that is not a training label is never told.
        seed: of that draw.

    Raises:
        InputError: if the codes, the labels or the seed do not fit.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x, y, test_x, test_y = _checked(train_codes, train_labels, test_codes, test_labels)
    rng = np.random.default_rng(checked_seed("seed", seed))
    commonest = _commonest(y)
    if len(x) > MOST_CODES:
        rows = rng.choice(len(x), MOST_CODES, replace=False)
        # One label would leave nothing to fit.
        if len(np.unique(y[rows])) > 1:
            x, y = x[rows], y[rows]
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=10_000)).fit(x, y)
    return _accuracy(classifier.predict(test_x), test_y, commonest)


def nearest_neighbours(
    train_codes: ArrayLike,
    train_labels: ArrayLike,
    test_codes: ArrayLike,
    test_labels: ArrayLike,
    *,
    neighbours: int = 10,
) -> Accuracy:
    """Tell each label by a majority of the nearest training codes, Cover & Hart (1967).

    Distances are Euclidean on the codes as they are: a dimension counts by its scale. Of labels
    with as many neighbours, the smallest is told. All distances are computed, a part of them at a
    time.

    Args:
        train_codes: `[N, d]`, finite numbers.
        train_labels: `[N]`, whole numbers, two or more.
        test_codes: `[M, d]`, finite numbers.
        test_labels: `[M]`, whole numbers.
        neighbours: how many decide, from 1 to N.

    Raises:
        InputError: if the codes, the labels or the number of neighbours do not fit.
    """
    from sklearn.neighbors import KNeighborsClassifier

    x, y, test_x, test_y = _checked(train_codes, train_labels, test_codes, test_labels)
    checked_count("neighbours", neighbours)
    if neighbours > len(x):
        raise InputError(
            f"expected as many training codes as neighbours, {neighbours}; received {len(x)}"
        )
    # |a − b|² is computed as |a|² − 2ab + |b|², which rounds badly far from the origin.
    centre = x.mean(axis=0)
    classifier = KNeighborsClassifier(int(neighbours), algorithm="brute").fit(x - centre, y)
    return _accuracy(classifier.predict(test_x - centre), test_y, _commonest(y))


def checked_codes(name: str, codes: ArrayLike) -> np.ndarray:
    """Return codes as float64 `[N, d]`, N and d at least 1.

    Raises:
        InputError: if they are not finite numbers of that rank.
    """
    found = _array(name, codes)
    if found.dtype.kind not in "iuf":
        raise InputError(f"expected {name} [N, d] of numbers; received {found.dtype}")
    if found.ndim != 2 or not found.size:
        raise InputError(f"expected {name} [N, d], not empty; received shape {found.shape}")
    found = found.astype("float64")
    # NaN compares as false.
    wrong = ~(np.abs(found) <= LARGEST_CODE)
    if wrong.any():
        row, dimension = np.argwhere(wrong)[0]
        raise InputError(
            f"expected finite {name}, up to {LARGEST_CODE:g} in size; "
            f"received {found[row, dimension]} in row {row}, dimension {dimension}"
        )
    return found


def checked_labels(name: str, labels: ArrayLike, axes: str) -> np.ndarray:
    """Return whole numbers with the axes that are named, such as ``"[N]"`` or ``"[N, F]"``.

    Raises:
        InputError: if they are none, or have other axes.
    """
    found = _array(name, labels)
    if found.dtype.kind not in "biuf":
        raise InputError(f"expected {name} {axes} of whole numbers; received {found.dtype}")
    if found.ndim != axes.count(",") + 1 or not found.size:
        raise InputError(f"expected {name} {axes}, not empty; received shape {found.shape}")
    if found.dtype.kind == "f":
        wrong = found[~np.isfinite(found) | (found != np.floor(found))]
        if wrong.size:
            raise InputError(f"expected {name} {axes} of whole numbers; received {wrong[0]}")
    return found


def _array(name: str, given: ArrayLike) -> np.ndarray:
    try:
        return np.asarray(given)
    except (TypeError, ValueError):
        raise InputError(
            f"expected {name} as an array; received {type(given).__name__} that gives none"
        ) from None


def _checked(
    train_codes: ArrayLike, train_labels: ArrayLike, test_codes: ArrayLike, test_labels: ArrayLike
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    found = []
    for split, codes, labels in (
        ("train", train_codes, train_labels),
        ("test", test_codes, test_labels),
    ):
        x = checked_codes(f"{split}_codes", codes)
        y = checked_labels(f"{split}_labels", labels, "[N]")
        if len(x) != len(y):
            raise InputError(
                f"expected one of {split}_labels for each of {split}_codes; "
                f"received {len(y)} for {len(x)}"
            )
        found += [x, y]
    x, y, test_x, test_y = found
    if x.shape[1] != test_x.shape[1]:
        raise InputError(
            f"expected test_codes of {x.shape[1]} dimensions, as train_codes have; "
            f"received {test_x.shape[1]}"
        )
    if len(np.unique(y)) < 2:
        raise InputError(f"expected two labels or more in train_labels; received {y[0]} alone")
    return x, y, test_x, test_y


def _commonest(labels: np.ndarray) -> Any:
    names, counts = np.unique(labels, return_counts=True)
    return names[counts.argmax()]


def _accuracy(told: np.ndarray, labels: np.ndarray, commonest: Any) -> Accuracy:
    accuracy = float(np.mean(told == labels))
    return Accuracy(
        accuracy=accuracy,
        standard_error=float(np.sqrt(accuracy * (1 - accuracy) / len(labels))),
        events=len(labels),
        chance=float(np.mean(labels == commonest)),
    )
