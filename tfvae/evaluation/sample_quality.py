"""How samples compare with real events, in a space of features.

Precision and recall (Kynkäänniemi et al. 2019, arXiv:1904.06991), density and coverage (Naeem et
al. 2020, arXiv:2002.09797) and the Fréchet distance (Heusel et al. 2017, arXiv:1706.08500), none
of them random. Figures compare only where the features, the number of events and the number of
neighbours are the same.
"""

import contextlib
import dataclasses
import math
import os
import sys
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from tqdm import tqdm

from tfvae.checks import checked_count
from tfvae.errors import InputError
from tfvae.typing import ArrayLike, Shape, Tensor

_Moments = tuple[np.ndarray, np.ndarray]  # a mean, and a factor of a covariance
_BLOCK = 2**21  # distances held at a time, 16 MiB
_INCEPTION_BATCH = 32  # images at a time, whose activations are large
_WEIGHTS_FILE = "inception_v3_weights_tf_dim_ordering_tf_kernels_notop.h5"
_WEIGHTS_FOLDER = "https://storage.googleapis.com/tensorflow/keras-applications/inception_v3"
_WEIGHTS_MD5 = "bcbd6486424b2319ff4ef7d526e38f63"


@dataclasses.dataclass(frozen=True)
class SampleQuality:
    """What `compare_samples` finds.

    Attributes:
        precision: share of the samples that lie among the real events.
        recall: share of the real events that lie among the samples.
        density: mean number of neighbourhoods that a sample lies in, over k; it may exceed 1.
        coverage: share of the real events with a sample in their neighbourhood.
        frechet_distance: squared, between Gaussians fitted to the features, in their units squared.
        real: how many real events.
        generated: how many samples.
        features: name of the features.
    """

    precision: float
    recall: float
    density: float
    coverage: float
    frechet_distance: float
    real: int
    generated: int
    features: str


def compare_samples(
    real: ArrayLike,
    generated: ArrayLike,
    features: Callable[[np.ndarray], ArrayLike] | str | None = None,
    *,
    neighbours: int | None = None,
    batch_size: int = 256,
    progress: bool | None = None,
) -> SampleQuality:
    """Compare samples with real events.

    Args:
        real: events `[N, *event_shape]`, best ones that the model has not been trained on.
        generated: events `[M, *event_shape]` with values on the same scale.
        features: a function or `keras.Model` from events `[B, *event_shape]`, float32, to features
            `[B, D]` or `[B, ...]`, which are flattened; "inception", of images alone, for those of
            `inception_features`; None for the values themselves, flattened.
        neighbours: k; by default the papers', 3 for precision and recall and 5 for density and
            coverage.
        batch_size: events that `features` takes at a time.
        progress: show a progress bar of the features on standard error; by default where that is a
            terminal.

    Raises:
        InputError: if the events or their features do not fit, are too few, or a feature is not
            finite; if Inception's are asked for and the events are no images.
    """
    batch_size = checked_count("batch_size", batch_size)
    given = {} if neighbours is None else {"neighbours": checked_count("neighbours", neighbours)}
    real, generated = np.asarray(real), np.asarray(generated)
    if real.ndim < 2 or 0 in real.shape[1:] or real.shape[1:] != generated.shape[1:]:
        received = f"received shapes {real.shape} and {generated.shape}"
        raise InputError(f"expected events [N, *event_shape] of one shape; {received}")
    for name, events in (("real", real), ("generated", generated)):
        if events.dtype.kind == "f" and np.isnan(events).any():
            raise InputError(
                f"features need whole events; received {name} ones with missing values (NaN): fill "
                "them, as vae.impute(x) does"
            )
    # Features may take long; what cannot be compared is refused before.
    _check_counts(real, generated, (neighbours or 5) + 1, (neighbours or 3) + 1)
    function, name = _feature_function(features, real.shape[1:])
    shown = sys.stderr.isatty() if progress is None else progress
    with tqdm(None, "features", len(real) + len(generated), False, disable=not shown) as bar:
        sets = [_features(function, events, batch_size, bar) for events in (real, generated)]
    scores = (*precision_recall(*sets, **given), *density_coverage(*sets, **given))
    return SampleQuality(*scores, frechet_distance(*sets), len(real), len(generated), name)


# --- neighbourhoods -------------------------------------------------------------------------------


def precision_recall(
    real: ArrayLike, generated: ArrayLike, *, neighbours: int = 3
) -> tuple[float, float]:
    """Compute the improved precision and recall, each from 0 to 1.

    Kynkäänniemi et al. (2019), arXiv:1904.06991, equations 1 and 2: precision is the share of
    generated points inside the ball around at least one real point, which reaches to the k-th
    nearest other real point; recall is the same with the roles exchanged. A point on the edge is
    inside.

    Args:
        real: features `[N, D]`.
        generated: features `[M, D]`.
        neighbours: k.

    Raises:
        InputError: if the features do not fit, are not finite, or fewer than k + 1 of a kind.
    """
    neighbours = checked_count("neighbours", neighbours)
    real, generated = _checked_features(real, generated)
    _check_counts(real, generated, neighbours + 1, neighbours + 1)
    in_real, _ = _membership(generated, real, _squared_radii(real, neighbours))
    in_generated, _ = _membership(real, generated, _squared_radii(generated, neighbours))
    return float(np.mean(in_real > 0)), float(np.mean(in_generated > 0))


def density_coverage(
    real: ArrayLike, generated: ArrayLike, *, neighbours: int = 5
) -> tuple[float, float]:
    """Compute density, from 0, and coverage, from 0 to 1.

    Naeem et al. (2020), arXiv:2002.09797, section 3: with balls around the real points, each
    reaching to its k-th nearest other real point, density is the mean number of balls that a
    generated point lies in, over k, and coverage the share of balls with a generated point inside.
    Samples from the distribution of the real points have an expected density of 1 and an expected
    coverage of ``1 − Π_{i=1..k} (N − i)/(M + N − i)``.

    Args:
        real: features `[N, D]`.
        generated: features `[M, D]`.
        neighbours: k.

    Raises:
        InputError: if the features do not fit, are not finite, or fewer than k + 1 are real.
    """
    neighbours = checked_count("neighbours", neighbours)
    real, generated = _checked_features(real, generated)
    _check_counts(real, generated, neighbours + 1, 1)
    balls, members = _membership(generated, real, _squared_radii(real, neighbours))
    return float(np.mean(balls)) / neighbours, float(np.mean(members > 0))


def _squared_radii(points: np.ndarray, neighbours: int, block: int = _BLOCK) -> np.ndarray:
    """Compute the squared distance `[N]` of each point `[N, D]` to its k-th nearest other."""
    radii = np.empty(len(points))
    for start, squared, slack in _approximate(points, points, block):
        rows = np.arange(len(squared))
        squared[rows, start + rows] = np.inf
        nearest = np.argpartition(squared, neighbours - 1, axis=1)[:, :neighbours]
        exact = _exact(points, points, start + np.repeat(rows, neighbours), nearest.ravel())
        # The radius is no larger than this, and only a point that may be nearer can shrink it.
        # None can shrink 0, where a great many points may coincide.
        bound = exact.reshape(-1, neighbours).max(axis=1, keepdims=True)
        candidates = (squared - slack < bound) & (bound > 0)
        np.put_along_axis(candidates, nearest, True, axis=1)
        row, column = np.nonzero(candidates)
        exact = _exact(points, points, start + row, column)
        ranked = exact[np.lexsort((exact, row))]
        radii[start + rows] = ranked[np.searchsorted(row, rows) + neighbours - 1]
    return radii


def _membership(
    points: np.ndarray, centres: np.ndarray, squared_radii: np.ndarray, block: int = _BLOCK
) -> tuple[np.ndarray, np.ndarray]:
    """Count the balls that each point `[P, D]` lies in, `[P]`, and the points in each, `[C]`."""
    balls = np.empty(len(points), np.int64)
    members = np.zeros(len(centres), np.int64)
    for start, squared, slack in _approximate(points, centres, block):
        margin = squared - squared_radii
        inside = margin <= 0
        row, column = np.nonzero(np.abs(margin) <= slack)
        inside[row, column] = _exact(points, centres, start + row, column) <= squared_radii[column]
        balls[start : start + len(inside)] = inside.sum(axis=1)
        members += inside.sum(axis=0)
    return balls, members


def _approximate(
    points: np.ndarray, centres: np.ndarray, block: int
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Compute squared distances `[rows, C]` block by block, and how far off each may be.

    ``‖p‖² + ‖c‖² − 2 p·c`` is a matrix product, many times faster than differences, but rounded:
    on the edge of a ball, where the nearest points themselves lie, it cannot tell. `_exact` settles
    what the bound leaves open, and nothing depends on the size of the blocks.
    """
    # The error grows with the distance from the origin, so that goes where the points are.
    origin = centres.mean(axis=0, dtype="float64")
    right = centres - origin
    right_norms = np.square(right).sum(axis=1)
    # Sums of D products are off by up to D roundings, of norms that are rounded themselves.
    relative = 4 * (points.shape[1] + 8) * np.finfo("float64").eps
    rows = max(1, block // len(centres))
    for start in range(0, len(points), rows):
        left = points[start : start + rows] - origin
        norms = np.square(left).sum(axis=1)[:, None] + right_norms
        squared = left @ right.T
        squared *= -2
        squared += norms
        norms *= relative
        yield start, squared, norms


def _exact(
    points: np.ndarray, centres: np.ndarray, rows: np.ndarray, columns: np.ndarray
) -> np.ndarray:
    """Compute the squared distances `[n]` of pairs from their differences."""
    squared = np.empty(len(rows))
    size = max(1, _BLOCK // points.shape[1])
    for start in range(0, len(rows), size):
        pairs = slice(start, start + size)
        difference = np.subtract(points[rows[pairs]], centres[columns[pairs]], dtype="float64")
        squared[pairs] = np.square(difference, out=difference).sum(axis=1)
    return squared


# --- Fréchet distance -----------------------------------------------------------------------------


def frechet_distance(real: ArrayLike, generated: ArrayLike) -> float:
    """Compute the squared Fréchet distance between Gaussians fitted to features.

    ``‖μ1 − μ2‖² + tr(Σ1 + Σ2 − 2 (Σ1 Σ2)^½)``, Heusel et al. (2017), arXiv:1706.08500, equation 6,
    with covariances over N − 1. From few features it comes out too large, the more so the more
    dimensions there are: compare figures of equally many.

    Args:
        real: features `[N, D]`.
        generated: features `[M, D]`.

    Raises:
        InputError: if the features do not fit, are not finite, or fewer than 2 of a kind.
    """
    real, generated = _checked_features(real, generated)
    _check_counts(real, generated, 2, 2)
    return _frechet(_moments(real), _moments(generated))


def _moments(points: np.ndarray) -> _Moments:
    """Return the mean `[D]` of points `[N, D]`, and a factor F `[min(N, D), D]`: Σ = Fᵀ F."""
    mean = points.mean(axis=0, dtype="float64")
    factor = (points - mean) / math.sqrt(len(points) - 1)
    if len(factor) <= len(mean):
        return mean, factor
    variances, axes = np.linalg.eigh(factor.T @ factor)
    return mean, np.sqrt(np.maximum(variances, 0))[:, None] * axes.T


def _frechet(real: _Moments, generated: _Moments) -> float:
    """Compute the distance from means `[D]` and factors `[r, D]` of the covariances, Σ = Fᵀ F.

    The eigenvalues of Σ1 Σ2 are the squared singular values of F1 F2ᵀ, whose sum is the trace.
    """
    (mean_1, factor_1), (mean_2, factor_2) = real, generated
    root_trace = np.linalg.svd(factor_1 @ factor_2.T, compute_uv=False).sum()
    spread = np.square(factor_1).sum() + np.square(factor_2).sum() - 2 * root_trace
    return float(np.square(mean_1 - mean_2).sum() + max(spread, 0.0))


# --- features -------------------------------------------------------------------------------------


def inception_features(image_shape: Sequence[int]) -> Callable[[ArrayLike], np.ndarray]:
    """Return the function from images to the features of Inception v3, trained on ImageNet.

    Images are resized to 299 x 299, bilinearly with antialiasing, grey ones repeated to three
    channels, and scaled to [−1, 1]; the features are the 2048 means of the last feature maps.

    This is the network of `keras.applications`. It is not the one of the original FID code, whose
    weights and resizing are others: Fréchet distances found with it do not compare with published
    FIDs.

    Args:
        image_shape: (H, W, C), C being 1 or 3.

    Returns:
        A function from images `[B, H, W, C]` in [0, 1] to features `[B, 2048]`, float32.

    Raises:
        InputError: if the images have another number of channels, or Keras has no weights and
            cannot download them. The function raises it where images do not fit.
    """
    shape = tuple(image_shape)
    if len(shape) != 3 or shape[2] not in (1, 3):
        raise InputError(
            f"Inception takes images (H, W, 1) or (H, W, 3); received events of shape {shape}"
        )
    return _inception(shape, _inception_weights())


def _inception_weights() -> str:
    """Return the path of the weights, downloaded if they are not there yet."""
    from keras.utils import get_file

    address = f"{_WEIGHTS_FOLDER}/{_WEIGHTS_FILE}"
    try:
        # Keras reports the download on standard output, where a program writes its result.
        with contextlib.redirect_stdout(sys.stderr):
            return get_file(_WEIGHTS_FILE, address, cache_subdir="models", file_hash=_WEIGHTS_MD5)
    except Exception as error:  # Keras raises this very class
        reason = str(error).rpartition(" -- ")[2].partition("\n")[0]
        place = f"{os.environ.get('KERAS_HOME', '~/.keras')}/models/{_WEIGHTS_FILE}"
        raise InputError(
            f"the Inception weights could not be downloaded from {address} ({reason}): "
            f"pass a feature function instead, or put the file at {place}"
        ) from error


def _inception(image_shape: Shape, weights: str | None) -> Callable[[ArrayLike], np.ndarray]:
    import keras
    import tensorflow as tf

    # In the half precision that a model trains in the features would be others.
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")
    try:
        network = keras.applications.InceptionV3(
            include_top=False, pooling="avg", weights=weights, input_shape=(299, 299, 3)
        )
    finally:
        keras.config.set_dtype_policy(policy)

    @tf.function(input_signature=[tf.TensorSpec((None, *image_shape), tf.float32)])
    def forward(images: Tensor) -> Tensor:
        images = tf.image.resize(images, (299, 299), antialias=True)
        images = tf.repeat(images, 3 // image_shape[2], axis=3)
        return network(2 * images - 1, training=False)

    def inception(images: ArrayLike) -> np.ndarray:
        images = np.asarray(images, "float32")
        if images.shape[1:] != image_shape or not images.size:
            raise InputError(f"expected images (B, *{image_shape}); received {images.shape}")
        if not (images.min() >= 0 and images.max() <= 1):
            received = f"received {images.min():.4g} to {images.max():.4g}: scale or clip them"
            raise InputError(f"Inception takes images with values in [0, 1]; {received}")
        parts = range(0, len(images), _INCEPTION_BATCH)
        return np.concatenate([forward(images[at : at + _INCEPTION_BATCH]) for at in parts])

    return inception


def _feature_function(
    features: Callable[[np.ndarray], ArrayLike] | str | None, event_shape: Shape
) -> tuple[Callable[[np.ndarray], ArrayLike], str]:
    """Return a function from events to features, and its name."""
    if features is None:
        return (lambda events: events), "pixels" if len(event_shape) == 3 else "values"
    if isinstance(features, str) and features == "inception":
        return inception_features(event_shape), features
    if not callable(features):
        raise InputError(f"features are None, 'inception' or a function; received {features!r}")
    return features, str(getattr(features, "__name__", getattr(features, "name", "features")))


def _features(
    function: Callable[[np.ndarray], ArrayLike], events: np.ndarray, batch_size: int, bar: tqdm
) -> np.ndarray:
    """Compute the features `[N, D]` of events."""
    found: list[np.ndarray] = []
    for start in range(0, len(events), batch_size):
        batch = events[start : start + batch_size].astype("float32")
        values = np.asarray(function(batch))
        expected = (len(batch), *(found[0] if found else values).shape[1:])
        if values.shape != expected:
            raise InputError(f"expected features of shape {expected}; received {values.shape}")
        found.append(_as_floats(values))
        bar.update(len(batch))
    return np.concatenate(found).reshape(len(events), -1)


def _check_counts(real: np.ndarray, generated: np.ndarray, *least: int) -> None:
    for name, points, count in zip(("real", "generated"), (real, generated), least, strict=True):
        if len(points) < count:
            raise InputError(f"expected {count} {name} events or more; received {len(points)}")


def _checked_features(real: ArrayLike, generated: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    real, generated = _as_floats(real), _as_floats(generated)
    if real.ndim != 2 or not real.shape[1] or real.shape[1:] != generated.shape[1:]:
        received = f"received shapes {real.shape} and {generated.shape}"
        raise InputError(f"expected features [N, D] of one width D; {received}")
    for name, points in (("real", real), ("generated", generated)):
        if not np.isfinite(points).all():
            raise InputError(f"features must be finite; received {name} ones that are not")
    return real, generated


def _as_floats(values: ArrayLike) -> np.ndarray:
    values = np.asarray(values)
    return values if values.dtype in (np.float32, np.float64) else values.astype("float64")
