"""Each likelihood with each kind of option, and its float64 reference, for the tests to walk."""

import dataclasses
from collections.abc import Callable

import analytic
import keras
import numpy as np
import pytest
from scipy import special

from tfvae.likelihoods import (
    Bernoulli,
    Beta,
    Categorical,
    ContinuousBernoulli,
    DiscretizedLogistic,
    DiscretizedLogisticMixture,
    Laplace,
    Logistic,
    NegativeBinomial,
    Normal,
    Poisson,
    StudentT,
)

EPS = float(np.finfo(np.float32).eps)


@dataclasses.dataclass(frozen=True)
class Case:
    """A likelihood and what it should compute.

    Attributes:
        kind: the class.
        options: the arguments of its constructor.
        arguments: from the raw parameters, `[parameters_per_value, ...]` in float64, and the
            learned raw scalars by name to the arguments of the reference.
        values: which values an image may have: "real", "unit" or an array of them.
    """

    kind: type
    options: dict
    arguments: Callable
    values: object

    def __str__(self):
        return "-".join([self.kind.__name__, *(f"{k}={v}" for k, v in self.options.items())])

    def make(self, image_shape):
        return built(self.kind(**self.options), image_shape)

    def images(self, rng, batch, shape):
        shape = (batch, *shape)
        if isinstance(self.values, str):
            x = rng.normal(size=shape) if self.values == "real" else rng.random(shape)
            if self.values == "unit":
                # Black and white are among the values of real images.
                x = np.where(rng.random(shape) < 0.2, np.round(x), x)
        else:
            x = rng.choice(self.values, shape)
        return x.astype(np.float32)

    def elements(self, x, raw, learned):
        """Log-probabilities in float64, of the shape of x, for `raw` `[..., n · C]`."""
        channels = x.shape[-1]
        maps = np.stack(np.split(np.asarray(raw, np.float64), raw.shape[-1] // channels, axis=-1))
        arguments = self.arguments(maps, learned)
        return analytic.LOG_PROBS[self.kind.__name__](np.asarray(x, np.float64), *arguments)


def bound(likelihood, image_shape):
    """A likelihood as a model binds it, for a decoder whose last layer has no activation."""
    likelihood.bind(image_shape, seed=0)
    likelihood.last_activation = keras.activations.linear
    return likelihood


def built(likelihood, image_shape):
    """A bound likelihood that has made its weights."""
    *sides, channels = image_shape
    outputs = likelihood.parameters_per_value * channels
    bound(likelihood, image_shape)(np.zeros((1, *sides, outputs)))
    return likelihood


def learned(likelihood):
    """The scalars that a likelihood learns, by name."""
    return {v.name: float(v.numpy()) for v in likelihood.trainable_variables if v.shape == ()}


def scale_arguments(option, floor=1e-3, unit=1.0):
    """The reference arguments (loc, scale) of a location and scale family."""

    def arguments(maps, learned):
        if option == "per_value":
            return maps[0], floor + unit * special.softplus(maps[1])
        if option == "learned":
            return maps[0], floor + (unit - floor) * np.exp(5 * learned["raw_scale"])
        return maps[0], option

    return arguments


def level_values(levels, high=1.0):
    return np.arange(levels) * high / (levels - 1)


def _location_scales():
    for kind in (Normal, Laplace, Logistic):
        for scale in (0.3, "learned", "per_value"):
            yield Case(kind, {"scale": scale}, scale_arguments(scale), "real")
    yield Case(Normal, {}, scale_arguments(1.0), "real")
    options = {"scale": "per_value", "min_scale": 0.2}
    yield Case(Normal, options, scale_arguments("per_value", 0.2), "real")
    yield Case(StudentT, {}, lambda m, _: (m[0], 1.0, 5.0), "real")
    yield Case(
        StudentT,
        {"df": 3, "scale": "per_value"},
        lambda m, _: (m[0], 1e-3 + special.softplus(m[1]), 3.0),
        "real",
    )
    yield Case(
        StudentT,
        {"df": "learned", "scale": "learned"},
        lambda m, raw: (
            *scale_arguments("learned")(m, raw),
            2.001 + special.softplus(raw["raw_df"]),
        ),
        "real",
    )


def _beta_arguments(margin, most):
    def arguments(maps, _):
        free = 2 * special.softplus(maps[1]) / np.log(2)
        concentration = 1 / (1 / free + 1 / most)
        mean = special.expit(maps[0])
        return 0.01 + concentration * mean, 0.01 + concentration * (1 - mean), margin

    return arguments


def _levels_of_logistics():
    for scale, levels, high in (("learned", 256, 1.0), ("per_value", 5, 4.0), (0.05, 16, 1.0)):
        options = {"scale": scale, "levels": levels, "high": high}
        units = scale_arguments(scale, floor=5e-4, unit=0.1)

        def arguments(maps, raw, units=units, levels=levels, high=high):
            loc, scale = units(maps, raw)
            return high * loc, high * scale, levels, high

        default = (scale, levels, high) == ("learned", 256, 1.0)
        values = level_values(levels, high)
        yield Case(DiscretizedLogistic, {} if default else options, arguments, values)
    for components, levels, high in ((5, 256, 1.0), (2, 8, 7)):
        options = {"components": components, "levels": levels, "high": high}

        def arguments(maps, _, components=components, levels=levels, high=high):
            loc, logits, raw_scale = np.split(maps, 3)
            centres = (np.arange(components) + 0.5) / components
            loc = loc + centres.reshape((-1, *[1] * (loc.ndim - 1)))
            scale = 5e-4 + 0.1 * special.softplus(raw_scale)
            return high * loc, high * scale, logits, levels, high

        values = level_values(levels, high)
        options = {} if components == 5 else options
        yield Case(DiscretizedLogisticMixture, options, arguments, values)


def _counts():
    counts = np.array([0, 0, 1, 2, 3, 7, 30])
    for given, step in ((1.0, 1.0), (1 / 255, 1 / 255), (0.0039216, 1 / 255)):
        options = {} if step == 1 else {"step": given}
        yield Case(Poisson, options, lambda m, _, s=step: (np.exp(m[0]) / s, s), step * counts)
    for options, step, dispersion in (
        ({}, 1.0, lambda m, raw: 1e-4 + special.softplus(raw["raw_dispersion"])),
        ({"dispersion": 0.5}, 1.0, lambda m, raw: 0.5),
        ({"dispersion": "per_value"}, 1.0, lambda m, raw: 1e-4 + special.softplus(m[1])),
        ({"dispersion": 0.5, "step": 1 / 255}, 1 / 255, lambda m, raw: 0.5),
    ):
        yield Case(
            NegativeBinomial,
            options,
            lambda m, raw, s=step, d=dispersion: (np.exp(m[0]) / s, d(m, raw), s),
            step * counts,
        )


CASES = [
    Case(Bernoulli, {}, lambda m, _: (m[0],), np.array([0.0, 1.0])),
    Case(ContinuousBernoulli, {}, lambda m, _: (m[0],), "unit"),
    *_location_scales(),
    Case(Beta, {}, _beta_arguments(1 / 512, 1e4), "unit"),
    Case(Beta, {"margin": 0.1, "max_concentration": 5.0}, _beta_arguments(0.1, 5.0), "unit"),
    *_levels_of_logistics(),
    Case(Categorical, {}, lambda m, _: (m,), level_values(256)),
    Case(Categorical, {"levels": 4, "high": 255}, lambda m, _: (m, 255), level_values(4, 255)),
    *_counts(),
]
case = pytest.mark.parametrize("case", CASES, ids=str)
# One of each kind, with most options.
EACH = list({case.kind: case for case in CASES}.values())
each = pytest.mark.parametrize("case", EACH, ids=str)
