"""Variational autoencoders as estimators of scikit-learn, for tables of numbers.

- `VAETransformer`: rows to their codes and back; log p(x) and new rows
- `VAEDetector`: which rows are unlike the others
- `VAEImputer`: rows with missing values to rows without

They take arrays and frames of numbers, NaN where a value is missing, standardise them, and choose
network, latent dimension and number of steps by the size of the table. They follow scikit-learn's
conventions: `clone`, `pickle`, pipelines, `GridSearchCV`, `set_output`.
"""

import math
from typing import Any, Self

import numpy as np
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    OneToOneFeatureMixin,
    OutlierMixin,
    TransformerMixin,
)
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from tfvae.checks import checked_count, is_number
from tfvae.errors import InputError
from tfvae.models import VAE
from tfvae.training.vectors import VectorConfig, VectorModel, vector_model
from tfvae.typing import ArrayLike

__all__ = ["VAEDetector", "VAEImputer", "VAETransformer"]


# The interquartile range of the standard normal distribution.
_NORMAL_IQR = 1.3489795
# Beside the largest value, equal ones differ by their rounding.
_NEGLIGIBLE = 1e-6


class _Estimator(BaseEstimator):
    """What the three share: options, `fit` and the model."""

    # Fills holes, so that the model has to take them whether or not there are some in training.
    _always_missing = False
    _hidden_share = 0.0
    _steps_a_row = 4
    _least_steps, _most_steps = 300, 3000

    def __init__(
        self,
        latent_dim: int | None = None,
        *,
        network: str | None = None,
        likelihood: str = "normal:scale=learned,min_scale=0.05",
        objective: str = "elbo",
        steps: int | None = None,
        batch_size: int | None = None,
        learning_rate: float = 3e-3,
        num_samples: int = 64,
        random_state: Any = None,
    ):
        self.latent_dim = latent_dim
        self.network = network
        self.likelihood = likelihood
        self.objective = objective
        self.steps = steps
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.num_samples = num_samples
        self.random_state = random_state

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags

    def fit(self, X: ArrayLike, y: Any = None) -> Self:  # noqa: N803
        """Train a `VAE` on the rows of a table.

        Args:
            X: numbers `[N, D]`, NaN where a value is missing.
            y: left aside.

        Raises:
            InputError: if an option does not fit. (A table that does not fit raises the ValueError
                of scikit-learn.)
        """
        x = self._checked(X, reset=True)
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        self._fit(x, seed)
        return self

    def _checked(self, X: ArrayLike, *, reset: bool) -> np.ndarray:  # noqa: N803
        """Return a table as scikit-learn checks it, float64 or float32 `[N, D]`.

        Raises:
            InputError: if values are missing where the model takes none.
        """
        x: np.ndarray = validate_data(
            self,
            X,
            reset=reset,
            dtype=[np.float64, np.float32],
            ensure_all_finite="allow-nan",
            ensure_min_samples=2 if reset else 1,
        )
        if not reset and not self._config.missing and np.isnan(x).any():
            raise InputError(
                f"{type(self).__name__} was fitted to a table without missing values, and this one "
                "has some: fit it to rows of which some have holes, or fill them by VAEImputer"
            )
        return x

    def _fit(self, x: np.ndarray, seed: int) -> None:
        if not (is_number(self.learning_rate) and 0 < self.learning_rate < math.inf):
            raise InputError(f"learning_rate is a positive number; received {self.learning_rate!r}")
        rows, features = x.shape
        observed = ~np.isnan(x)
        x = self._transformed(x, reset=True)
        count = np.maximum(observed.sum(axis=0), 1)
        exact = np.where(observed, x, 0.0).astype(np.float64)
        # In units of the largest, whose squares do not overflow.
        unit = np.maximum(np.abs(exact).max(axis=0), np.finfo(np.float64).tiny)
        exact /= unit
        mean = exact.sum(axis=0) / count
        spread = np.sqrt((np.where(observed, exact - mean, 0.0) ** 2).sum(axis=0) / count)
        self.mean_, spread = unit * mean, unit * spread
        # Beside large numbers, equal values differ by their rounding.
        negligible = 10 * np.finfo(x.dtype).eps * np.abs(self.mean_)
        self.scale_ = np.where(spread > negligible, spread, 1.0)
        self.n_steps_ = (
            int(np.clip(self._steps_a_row * rows, self._least_steps, self._most_steps))
            if self.steps is None
            else checked_count("steps", self.steps)
        )
        self.latent_dim_ = (
            max(1, min(16, math.ceil(features / 2)))
            if self.latent_dim is None
            else checked_count("latent_dim", self.latent_dim)
        )
        width = 64 if features <= 64 else 256
        self._config = VectorConfig(
            features,
            self.latent_dim_,
            self.network or f"dense:hidden={width}x{width}",
            self.likelihood,
            self.objective,
            self._always_missing or not bool(observed.all()),
            min(128, 8 * math.ceil(rows / 8))
            if self.batch_size is None
            else checked_count("batch_size", self.batch_size),
            checked_count("num_samples", self.num_samples),
            self._hidden_share,
        )
        self._weights = self._model.train(
            self._scaled(x),
            steps=self.n_steps_,
            learning_rate=float(self.learning_rate),
            seed=seed,
        )

    @property
    def _model(self) -> VectorModel:
        return vector_model(self._config)

    def _transformed(self, x: np.ndarray, *, reset: bool = False) -> np.ndarray:
        """Return a table as it is before it is standardised."""
        return x

    def _log_abs_det_jacobian(self, x: np.ndarray) -> np.ndarray:
        """Compute log |∂(model's value)/∂(table's value)|, `[N, D]`."""
        return np.broadcast_to(-np.log(self.scale_), x.shape)

    def _scaled(self, x: np.ndarray) -> np.ndarray:
        # The model takes no infinity, which float32 has for numbers above 3e38.
        return np.clip((x - self.mean_) / self.scale_, -1e30, 1e30).astype(np.float32)

    def _standardised(self, x: np.ndarray) -> np.ndarray:
        return self._scaled(self._transformed(x))

    def _log_probs(self, x: np.ndarray) -> np.ndarray:
        """Return log p(x) `[N]` of rows in their own units, over what was observed of them."""
        found = self._model.log_probs(self._weights, self._standardised(x)).astype(np.float64)
        return found + np.where(np.isnan(x), 0.0, self._log_abs_det_jacobian(x)).sum(axis=1)

    @property
    def vae_(self) -> VAE:
        """The trained model, of rows that are standardised: ``(x − mean_) / scale_``.

        It is built anew each time it is asked for.
        """
        check_is_fitted(self)
        vae = self._config.build()
        vae.set_weights(self._weights)
        return vae

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_weights")


class VAETransformer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, _Estimator):
    """Rows to the means of q(z|x), and back.

    Args:
        latent_dim: d; by default half of the columns, at most 16.
        network: of `tfvae.networks`, such as ``"dense:hidden=64x64"``.
        likelihood: of each column of the standardised table, a name of `tfvae.likelihoods`.
        objective: of `tfvae.objectives`.
        steps: of training; by default four for each row, between 300 and 3,000.
        batch_size: rows in a step, by default 128, or all of a small table.
        learning_rate: the highest step size of Adam.
        num_samples: draws of z for log p(x).
        random_state: seed, or a `numpy.random.RandomState`.

    Attributes:
        mean_: of each column.
        scale_: its standard deviation.
        latent_dim_: d.
        n_steps_: the steps that were taken.
        vae_: the `tfvae.VAE` of standardised rows.
        n_features_in_: D.
        feature_names_in_: the names of a frame's columns.

    Example:
        >>> codes = VAETransformer(latent_dim=2, random_state=0).fit_transform(X)
    """

    @property
    def _n_features_out(self) -> int:
        return self.latent_dim_

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def transform(self, X: ArrayLike) -> np.ndarray:  # noqa: N803
        """Return the codes `[N, d]` of rows `[N, D]`, the means of q(z|x)."""
        check_is_fitted(self)
        x = self._checked(X, reset=False)
        return self._model.codes(self._weights, self._standardised(x)).astype(x.dtype)

    def inverse_transform(self, X: ArrayLike) -> np.ndarray:  # noqa: N803
        """Return rows `[N, D]`, the means of p(x|z), of codes `[N, d]`.

        Raises:
            InputError: if they have another dimension.
        """
        check_is_fitted(self)
        codes = np.asarray(X, np.float32)
        if codes.ndim != 2 or codes.shape[1] != self.latent_dim_:
            raise InputError(
                f"expected codes [N, {self.latent_dim_}]; received shape {list(codes.shape)}"
            )
        return self.mean_ + self.scale_ * self._model.decoded(self._weights, codes)

    def score_samples(self, X: ArrayLike) -> np.ndarray:  # noqa: N803
        """Return log p(x) `[N]` of rows, nats, in the table's own units, by importance sampling."""
        check_is_fitted(self)
        return self._log_probs(self._checked(X, reset=False))

    def score(self, X: ArrayLike, y: Any = None) -> float:  # noqa: N803
        """Return the mean of log p(x) of rows, nats."""
        return float(self.score_samples(X).mean())

    def sample(self, n_samples: int = 1, random_state: Any = None) -> np.ndarray:
        """Return rows `[n_samples, D]` drawn from the model.

        Args:
            n_samples: how many.
            random_state: seed, or a `numpy.random.RandomState`.
        """
        check_is_fitted(self)
        checked_count("n_samples", n_samples)
        seed = int(check_random_state(random_state).randint(2**31 - 1))
        return self.mean_ + self.scale_ * self._model.drawn(self._weights, n_samples, seed)


class VAEDetector(OutlierMixin, _Estimator):
    """Which rows are unlike the others: those of low log p(x).

    A column may hold values a thousand times as far out as the others, which would leave these
    undistinguished. So the model sees ``u = asinh((x − center_)/unit_)``, standardised: x near the
    median, a logarithm far out. log p(x) is of the table's own numbers, and counts the density that
    this takes from values far out, ``log ∂u/∂x = −½ log(1 + ((x − center_)/unit_)²) − log unit_``.

    Args:
        latent_dim: d; by default half of the columns, at most 16.
        contamination: the share of the training rows that are to be called outliers.
        network: as for `VAETransformer`, and so are the others.
        likelihood: of each column.
        objective: of training.
        steps: of training, by default 3,000.
        batch_size: rows in a step.
        learning_rate: of Adam.
        num_samples: draws of z for log p(x).
        random_state: seed, or a `numpy.random.RandomState`.

    Attributes:
        offset_: log p(x) below which a row is an outlier.
        center_: the median of each column.
        unit_: the interquartile range over that of the standard normal distribution, or the
            standard deviation of a column half of whose values are equal.
        mean_: of each column of u.
        scale_: of each column of u, as of `VAETransformer`, and so are the others.
        latent_dim_: d.
        n_steps_: of training.
        vae_: the model.
        n_features_in_: D.
        feature_names_in_: of a frame.

    Example:
        >>> outlying = VAEDetector(contamination=0.05, random_state=0).fit_predict(X) == -1
    """

    def __init__(
        self,
        latent_dim: int | None = None,
        *,
        contamination: float = 0.1,
        network: str | None = None,
        likelihood: str = "normal:scale=learned,min_scale=0.05",
        objective: str = "elbo",
        steps: int | None = None,
        batch_size: int | None = None,
        learning_rate: float = 3e-3,
        num_samples: int = 64,
        random_state: Any = None,
    ):
        super().__init__(
            latent_dim,
            network=network,
            likelihood=likelihood,
            objective=objective,
            steps=steps,
            batch_size=batch_size,
            learning_rate=learning_rate,
            num_samples=num_samples,
            random_state=random_state,
        )
        self.contamination = contamination

    _least_steps = _most_steps = 3000

    def _transformed(self, x: np.ndarray, *, reset: bool = False) -> np.ndarray:
        """Return u = asinh((x − center)/unit), float64."""
        x = x.astype(np.float64)
        if reset:
            self.center_, self.unit_ = _center_and_unit(x)
        return np.arcsinh((x - self.center_) / self.unit_)

    def _log_abs_det_jacobian(self, x: np.ndarray) -> np.ndarray:
        u = self._transformed(x)
        # log cosh u, which is ½ log(1 + sinh² u).
        log_cosh = np.abs(u) + np.log1p(np.exp(-2 * np.abs(u))) - math.log(2)
        return -np.log(self.scale_) - np.log(self.unit_) - log_cosh

    def _fit(self, x: np.ndarray, seed: int) -> None:
        share = self.contamination
        if not (is_number(share) and 0 < share <= 0.5):
            raise InputError(f"contamination is above 0, and at most 0.5; received {share!r}")
        super()._fit(x, seed)
        self.offset_ = float(np.percentile(self._log_probs(x), 100 * share))

    def score_samples(self, X: ArrayLike) -> np.ndarray:  # noqa: N803
        """Return log p(x) `[N]` of rows, nats, in the table's own units: low for outliers."""
        check_is_fitted(self)
        return self._log_probs(self._checked(X, reset=False))

    def decision_function(self, X: ArrayLike) -> np.ndarray:  # noqa: N803
        """Return ``score_samples(X) − offset_``, `[N]`, which is negative for outliers."""
        return self.score_samples(X) - self.offset_

    def predict(self, X: ArrayLike) -> np.ndarray:  # noqa: N803
        """Return −1 for outliers and 1 for all others, `[N]`."""
        return np.where(self.decision_function(X) < 0, -1, 1)


def _center_and_unit(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the median of each column, and a scale that outliers hardly move."""
    columns = [column[~np.isnan(column)] for column in x.T]
    centers, units = np.zeros(len(columns)), np.ones(len(columns))
    for place, column in enumerate(columns):
        if not len(column):
            continue
        # In units of the largest, whose squares do not overflow.
        unit = max(float(np.abs(column).max()), float(np.finfo(np.float64).tiny))
        low, center, high = np.quantile(column / unit, [0.25, 0.5, 0.75])
        spread = float(high - low) / _NORMAL_IQR
        spread = spread if spread > _NEGLIGIBLE else float((column / unit).std())
        centers[place] = unit * center
        units[place] = unit * spread if spread > _NEGLIGIBLE else 1.0
    return centers, units


class VAEImputer(OneToOneFeatureMixin, TransformerMixin, _Estimator):
    """Rows with missing values to rows without: a hole becomes its mean given what was observed.

    The mean is estimated by self-normalised importance sampling; see `tfvae.VAE.impute`. Observed
    values stay as they are. A column without any value becomes 0.

    Args:
        latent_dim: d; by default half of the columns, at most 16.
        network: as for `VAETransformer`, and so are the others.
        likelihood: of each column.
        objective: of training.
        steps: of training.
        batch_size: rows in a step.
        learning_rate: of Adam.
        num_samples: draws of z for the mean.
        random_state: seed, or a `numpy.random.RandomState`.

    Attributes:
        mean_: as of `VAETransformer`, and so are the others.
        scale_: of each column.
        latent_dim_: d.
        n_steps_: of training.
        vae_: the model.
        n_features_in_: D.
        feature_names_in_: of a frame.

    Example:
        >>> complete = VAEImputer(random_state=0).fit_transform(X)
    """

    _always_missing = True
    _hidden_share = 0.5

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def transform(self, X: ArrayLike) -> np.ndarray:  # noqa: N803
        """Return rows `[N, D]` with their holes filled."""
        check_is_fitted(self)
        x = self._checked(X, reset=False)
        missing = np.isnan(x)
        if not missing.any():
            return x
        filled = self._model.filled(self._weights, self._standardised(x))
        return np.where(missing, self.mean_ + self.scale_ * filled, x).astype(x.dtype)
