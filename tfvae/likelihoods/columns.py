"""The likelihood of a row, whose columns are numbers, counts and categories."""

import inspect
import json
import math
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfvae.distributions.family import PACKAGE, resolve
from tfvae.errors import InputError
from tfvae.likelihoods.base import Likelihood, small_uniform
from tfvae.likelihoods.discrete import Categorical, Count
from tfvae.likelihoods.encoding import EncodedColumn, Encoding
from tfvae.likelihoods.names import BY_NAME
from tfvae.likelihoods.support import ColumnsSupport
from tfvae.typing import Config, Distribution, Shape, Tensor


@keras.saving.register_keras_serializable(PACKAGE)
class Columns(Likelihood):
    """p(x|z) = ∏ p_j(x_j|z) over the columns of a row `[D]`, each of a likelihood of its own.

    ::

        Columns(
            {
                "age": "normal:scale=learned",
                "sex": "categorical:levels=2",
                "visits": "negative_binomial",
            }
        )

    A category is the number of its level, 0, 1, ..., k − 1, whatever `high` a `Categorical` has by
    default elsewhere. The encoder sees it one-hot, and counts and numbers on a
    scale that far values do not run off: see `tfvae.likelihoods.Encoding`.

    What a likelihood learns beside the decoder's output, such as ``scale=learned``, each column
    learns for itself. Columns of equal likelihoods are computed together, so that hundreds of them
    take hardly longer than a few.

    With a library size l, a column of counts such as the total of a row, the other counts have
    means ``l · softmax(r)_j`` with r their first parameters: l tells how much is in a row, and
    z of what (Lopez et al. 2018, doi.org/10.1038/s41592-018-0229-2).

    The parameters that a decoder may put out by itself are those of the first column, then those of
    the second, and so on.

    Args:
        columns: the likelihood of each column by its name, in the order of an event's values: a
            `Likelihood`, of which a copy is taken, or its name. It has a distribution of single
            values, and what it learns it adds as those of this library do: one number a channel.
        library: the name of the column of library sizes, if there is one.
        decoder_output: see `Likelihood`.
        **kwargs: those of `keras.layers.Layer`.

    Attributes:
        names: of the columns.
        groups: the likelihoods, each of one or more columns.

    Raises:
        InputError: if there is no column, or a likelihood does not fit.
    """

    def __init__(
        self,
        columns: Mapping[str, Likelihood | Mapping[str, Any] | str],
        *,
        library: str | None = None,
        decoder_output: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(decoder_output=decoder_output, **kwargs)
        if not isinstance(columns, Mapping) or not columns:
            raise InputError(
                "columns is a dictionary from the name of each column to its likelihood; received "
                f"{columns!r}"
            )
        self.names = tuple(columns)
        self.groups: list[Likelihood] = []
        self._columns_of: list[list[int]] = []
        found: dict[str, int] = {}
        for place, (name, identifier) in enumerate(columns.items()):
            part = _part(name, identifier)
            key = json.dumps([_config(part), name == library], sort_keys=True, default=str)
            if key not in found:
                found[key] = len(self.groups)
                self.groups.append(part)
                self._columns_of.append([])
            self._columns_of[found[key]].append(place)
        self._group_of = np.zeros(len(self.names), int)
        for number, places in enumerate(self._columns_of):
            self._group_of[places] = number
        parts = [self.groups[number] for number in self._group_of]
        self.support = ColumnsSupport(self.names, tuple(part.support for part in parts))
        self.encoding = Encoding(tuple(map(_encoded, parts)))
        self.is_discrete = all(part.is_discrete for part in self.groups)
        self.takes_mean = all(part.takes_mean for part in self.groups)
        self.library = library
        if library is not None:
            self._check_library(library, parts)
        # Where the parameters of each column begin.
        sizes = [part.parameters_per_value for part in parts]
        self._starts = np.concatenate([[0], np.cumsum(sizes)])

    def _check_library(self, library: str, parts: list[Likelihood]) -> None:
        """Refuse a library size that is no count, and one of nothing."""
        counts = [
            name for name, part in zip(self.names, parts, strict=True) if isinstance(part, Count)
        ]
        if any(part.support.step != 1 for part in parts if isinstance(part, Count)):
            raise InputError("counts beside a library size are whole numbers: leave out their step")
        if library not in counts or len(counts) < 2:
            raise InputError(
                f"library is a column of counts beside others; {library!r} is "
                + ("the only one" if library in counts else "none")
                + f", the counts are {', '.join(map(repr, counts)) or 'none'}"
            )

    @property
    def _sized(self) -> list[int]:
        """The groups of counts whose means the library size is a factor of."""
        if self.library is None:
            return []
        own = self._group_of[self.names.index(self.library)]
        return [
            number
            for number, part in enumerate(self.groups)
            if isinstance(part, Count) and number != own
        ]

    @property
    def couples_batch(self) -> bool:  # type: ignore[override]
        """Whether a column's likelihood takes something from the whole batch."""
        return any(part.couples_batch for part in self.groups)

    @property
    def parameter_channels(self) -> int:
        """How many parameters all columns have."""
        return int(self._starts[-1])

    def likelihood_of(self, column: str) -> Likelihood:
        """Return the likelihood of a column, which columns of equal ones share.

        Raises:
            InputError: if there is no such column.
        """
        if column not in self.names:
            known = ", ".join(map(repr, self.names))
            raise InputError(f"there is no column {column!r}; the likelihood has {known}")
        return self.groups[self._group_of[self.names.index(column)]]

    def gives_probabilities(self, x: Tensor) -> bool | Tensor:
        """Return whether all columns have probabilities of their values in x `[..., D]`."""
        return tf.reduce_all(
            [
                part.gives_probabilities(tf.gather(x, places, axis=-1))
                for part, places in zip(self.groups, self._columns_of, strict=True)
            ]
        )

    def check_event_shape(self, event_shape: Shape) -> None:
        """Check that events are rows of these columns.

        Raises:
            InputError: if they are not.
        """
        if tuple(event_shape) != (len(self.names),):
            raise InputError(
                f"a likelihood of {len(self.names)} columns describes events "
                f"[{len(self.names)}]; received {list(event_shape)}"
            )

    def bind(self, event_shape: Shape, seed: int | None) -> None:
        """Say which event the likelihood describes; see `Family.bind`.

        Raises:
            InputError: if it is no row of these columns.
        """
        super().bind(event_shape, seed)
        for part, places in zip(self.groups, self._columns_of, strict=True):
            part.bind((len(places),), None)

    def build(self, input_shape: Shape) -> None:
        """Create the head, and what the columns learn beside."""
        super().build(input_shape)
        for part, places in zip(self.groups, self._columns_of, strict=True):
            part.learns_by_channel = True
            part.decoder_output = "mean" if self.meaning == "mean" else "parameters"
            part.build((1, len(places) * part.parameters_per_value))

    def _head_initializer(self) -> Callable[..., Tensor]:
        """Start small, and flat what starts flat in each column."""
        initializer = small_uniform(self._head_seed)
        varies = np.concatenate(
            [
                np.arange(part.parameters_per_value)
                < part.parameters_per_value - part.flat_parameters
                for part in (self.groups[number] for number in self._group_of)
            ]
        )

        def initialize(shape: Shape, dtype: str | None = None) -> Tensor:
            return initializer(shape, dtype) * varies.astype("float32")

        return initialize

    def _from_mean(self, mean: Tensor) -> Tensor:
        # Each column's likelihood takes the mean itself.
        return mean

    def _parameters(self, raw: Tensor) -> dict[str, Tensor]:
        parameters = {}
        for number, part in enumerate(self.groups):
            order = self._order(number)
            for name, value in part(keras.ops.take(raw, order, axis=-1)).items():
                parameters[f"{number}_{name}"] = value
        return self._as_shares(parameters)

    def _as_shares(self, parameters: dict[str, Tensor]) -> dict[str, Tensor]:
        """Let the log-means of counts beside a library size be logarithms of shares."""
        keys = [f"{number}_{self.groups[number].mean_parameter}" for number in self._sized]
        if not keys:
            return parameters
        sizes = [parameters[key].shape[-1] for key in keys]
        shares = tf.nn.log_softmax(tf.concat([parameters[key] for key in keys], axis=-1), axis=-1)
        return {**parameters, **dict(zip(keys, tf.split(shares, sizes, axis=-1), strict=True))}

    def _joined(
        self,
        parameters: dict[str, Tensor],
        make: Callable[[int, Likelihood, dict[str, Tensor]], Distribution],
    ) -> Distribution:
        """Join the distributions of all groups.

        Args:
            parameters: what `call` returns.
            make: returns the distribution of a group, by its number, from its parameters.
        """
        from tfvae.distributions.by_column import ByColumn, OfLibrary

        parts = self._parts(parameters)
        if self.library is None:
            made = [make(number, part, its) for number, (part, its, _) in enumerate(parts)]
            return ByColumn(made, self._columns_of)

        def at(log_size: Tensor) -> list[Distribution]:
            found = []
            for number, (part, its, _) in enumerate(parts):
                if number in self._sized:
                    name = part.mean_parameter
                    its = {**its, name: its[name] + log_size}  # noqa: PLW2901
                found.append(make(number, part, its))
            return found

        place = self.names.index(self.library)
        own = int(self._group_of[place])
        size = tf.maximum(make(own, *parts[own][:2]).mean(), 1e-6)
        return OfLibrary(at(tf.math.log(size)), self._columns_of, place, at)

    def starting_parameters(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """Return what the likelihood of each column tells; of one that tells nothing, zeros."""
        raw = np.zeros((*x.shape[1:-1], self.parameter_channels))
        found = {"raw": raw}
        for number, (part, places) in enumerate(zip(self.groups, self._columns_of, strict=True)):
            of_part = part.starting_parameters(x[..., places])
            for name, value in (of_part or {}).items():
                if name == "raw":
                    raw[..., self._order(number)] = value
                else:
                    found[f"{number}_{name}"] = value
        return found

    def start_at(self, parameters: dict[str, np.ndarray]) -> None:
        """Set what the columns learn beside the head."""
        for part, its, _ in self._parts({k: v for k, v in parameters.items() if k != "raw"}):
            part.start_at(its)

    def _order(self, number: int) -> np.ndarray:
        """Return where the parameters of a group's columns are among those of all columns."""
        # A likelihood takes the first parameter of all its columns, then the second.
        count = np.arange(self.groups[number].parameters_per_value)[:, None]
        return (self._starts[self._columns_of[number]] + count).reshape(-1)

    def _parts(
        self, parameters: dict[str, Tensor]
    ) -> list[tuple[Likelihood, dict[str, Tensor], list[int]]]:
        """Return each likelihood with its parameters and columns."""
        named: list[dict[str, Tensor]] = [{} for _ in self.groups]
        for key, value in parameters.items():
            number, _, name = key.partition("_")
            named[int(number)][name] = value
        return list(zip(self.groups, named, self._columns_of, strict=True))

    def value_distribution(self, parameters: dict[str, Tensor]) -> Distribution:
        """Build the distribution of each column."""
        return self._joined(parameters, lambda _, part, its: part.value_distribution(its))

    def training_distribution(
        self, parameters: dict[str, Tensor], x: Tensor, observed: Tensor | None = None
    ) -> Distribution:
        """Build the p(x|z) that a training step evaluates at `x`."""
        return self._joint(self.training_value_distribution(parameters, x, observed), observed)

    def training_value_distribution(
        self, parameters: dict[str, Tensor], x: Tensor, observed: Tensor | None = None
    ) -> Distribution:
        """Build the distribution of each column; what it takes from the data it takes here."""
        if observed is not None:
            observed = tf.broadcast_to(observed, tf.shape(x))

        def make(number: int, part: Likelihood, its: dict[str, Tensor]) -> Distribution:
            places = self._columns_of[number]
            return part.training_value_distribution(
                its,
                tf.gather(x, places, axis=-1),
                None if observed is None else tf.gather(observed, places, axis=-1),
            )

        return self._joined(parameters, make)

    def mean(self, distribution: Distribution) -> Tensor:
        """Return the mean of p(x|z) `[..., D]`; of a category its most probable level.

        Raises:
            InputError: if a column's distribution knows no mean.
        """
        return self._shown(distribution, lambda values: values)

    def mixture_mean(self, distribution: Distribution, weights: Tensor) -> Tensor:
        """Return the mean of a mixture `[..., D]`, of a category its most probable level."""
        return self._shown(
            distribution,
            lambda values: tf.reduce_sum(_with_axes(weights, values) * values, axis=0),
        )

    def _shown(self, distribution: Distribution, average: Callable[[Tensor], Tensor]) -> Tensor:
        """Average the means of values, and the probabilities of levels, and choose from these."""
        from tfvae.distributions.by_column import ByColumn

        values = distribution
        # Inside of what joins values to rows, and of what masks them.
        while not isinstance(values, ByColumn):
            values = values.distribution
        shown = []
        for part, its in zip(self.groups, values.distributions, strict=True):
            if isinstance(part, Categorical):
                level = tf.argmax(average(its.distribution.probs_parameter()), axis=-1)
                shown.append(tf.cast(level, tf.float32) * (part.high / (part.levels - 1)))
            else:
                shown.append(average(part.mean(its)))
        places = np.argsort(np.concatenate(self._columns_of))
        return tf.gather(tf.concat(shown, axis=-1), places, axis=-1)

    def get_config(self) -> Config:
        """Return the constructor's arguments."""
        serialize = keras.saving.serialize_keras_object
        configs = []
        for part in self.groups:
            config = serialize(part)
            config["config"] = _config(part)
            configs.append(config)
        columns = {
            name: configs[number] for name, number in zip(self.names, self._group_of, strict=True)
        }
        return {**super().get_config(), "columns": columns, "library": self.library}


def _part(name: str, identifier: Likelihood | Mapping[str, Any] | str) -> Likelihood:
    """Return a likelihood of a column's own.

    Raises:
        InputError: if it is none, or has no distribution of single values.
    """
    if not isinstance(name, str):
        raise InputError(f"the name of a column is a text; received {name!r}")
    try:
        given: Likelihood = resolve(identifier, Likelihood, BY_NAME, "likelihood")
    except InputError as error:
        raise InputError(f"the column {name!r}: {error}") from error
    config = _config(given)
    has_levels = {"levels", "high"} <= config.keys()
    if isinstance(identifier, str) and has_levels and "high" not in identifier:
        config["high"] = float(config["levels"] - 1)
    part = type(given).from_config(config)
    is_whole = "distribution" in vars(type(part))
    if is_whole or inspect.isabstract(part) or isinstance(part, Columns):
        raise InputError(
            f"the column {name!r} needs a likelihood of single values; received "
            f"{type(part).__name__}, which overrides distribution"
        )
    return part


def _with_axes(weights: Tensor, values: Tensor) -> Tensor:
    """Return weights with as many axes of one as `values` has more."""
    ones = tf.ones(values.shape.rank - weights.shape.rank, tf.int32)
    return tf.reshape(weights, tf.concat([tf.shape(weights), ones], axis=0))


def _config(part: Likelihood) -> dict[str, Any]:
    """Return the options of a column's likelihood; what the decoder puts out is not its affair."""
    config = {**part.get_config(), "decoder_output": None}
    config.pop("name", None)
    return config


def _encoded(part: Likelihood) -> EncodedColumn:
    """Return what an encoder sees of a column."""
    if isinstance(part, Categorical):
        return "levels", part.levels, part.high / (part.levels - 1)
    if isinstance(part, Count):
        return "count", 1, float(part.support.step or 1.0)
    if math.isinf(part.support.high) and math.isinf(part.support.low):
        return "number", 1, 1.0
    return "value", 1, 1.0
