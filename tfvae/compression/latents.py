"""What of a model is pushed on the stack: q(z|x) and p(z), as distributions of cells.

Latents come in groups, of which a `VAE` has one. Of a hierarchy the posterior of a group may look
at x and at the groups before it, and its prior at the groups before it: that is all that the coder
asks, so that a model of several groups needs a `Latents` of its own and nothing else.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import tensorflow as tf

from tfvae.compression.grid import ClassCells, DiagonalCells, MixtureCells, Part, TriangularCells
from tfvae.errors import InputError
from tfvae.lazy import tfd
from tfvae.posteriors import DiagonalNormal, FlowPosterior, FullNormal, RelaxedCategorical
from tfvae.priors import FlowPrior
from tfvae.typing import Distribution

if TYPE_CHECKING:
    from tfvae.models.vae import VAE

# Arrays by their names, batch first.
Arrays = dict[str, np.ndarray]
# Codes of events and of groups so far out mean a model that was not made for these events.
_FARTHEST = 2.0**30


class Latents(Protocol):
    """The latents of a model.

    Attributes:
        groups: how many groups there are.
    """

    groups: int

    def encoded(self, x: np.ndarray, label: np.ndarray | None) -> Arrays:
        """Compute what the posteriors need of events `[B, *event_shape]`."""

    def posterior(self, encoded: Arrays, before: Sequence[np.ndarray]) -> Part:
        """Return q of a group, given the cells of those before it."""

    def prior(self, rows: int, label: np.ndarray | None, before: Sequence[np.ndarray]) -> Part:
        """Return p of a group for so many events, given the cells of those before it."""

    def decoded(self, cells: Sequence[np.ndarray], label: np.ndarray | None) -> dict[str, Any]:
        """Compute the parameters of p(x|z) at the cells of all groups."""


class VAELatents:
    """The one group of latents of a `VAE`.

    Args:
        vae: a built model.
        bits: cells are 2^-bits wide.

    Raises:
        InputError: if there is no way to push its posterior or its prior.
    """

    groups = 1

    def __init__(self, vae: "VAE", bits: int):
        self._vae = vae
        self._bits = bits
        known = (DiagonalNormal, FullNormal, FlowPosterior, RelaxedCategorical)
        if not isinstance(vae.posterior_family, known):
            raise InputError(
                f"compression codes normal posteriors, flows and classes; the model has the "
                f"posterior "
                f"{type(vae.posterior_family).__name__}"
            )
        self._prior_parts: Any = None
        shape = (None, *vae.event_shape)
        labels = [] if vae.num_classes is None else [tf.TensorSpec((None,), tf.int32)]
        self._encode = tf.function(
            vae.posterior_parameters,
            input_signature=[tf.TensorSpec(shape, tf.float32), *labels],
            autograph=False,
        )
        self._decode = tf.function(
            vae.likelihood_parameters,
            input_signature=[tf.TensorSpec((None, vae.latent_dim), tf.float32), *labels],
            autograph=False,
        )
        self._prior(1, None if vae.num_classes is None else np.zeros(1, np.int32))

    def encoded(self, x: np.ndarray, label: np.ndarray | None) -> Arrays:
        """Compute the parameters of q(z|x).

        Raises:
            InputError: if they are not finite, or codes are too far out.
        """
        found = self._encode(tf.constant(x, tf.float32), *_given(label))
        arrays = {name: np.asarray(value) for name, value in found.items()}
        if not all(np.isfinite(array).all() for array in arrays.values()):
            raise InputError("the model's encoder puts out NaN or infinite values for these events")
        if "loc" in arrays and np.abs(arrays["loc"]).max(initial=0) > _FARTHEST:
            raise InputError(
                "the model's codes of these events are too far out to be coded: train it on such "
                "events"
            )
        return arrays

    def posterior(self, encoded: Arrays, before: Sequence[np.ndarray]) -> Part:
        """Return q(z|x)."""
        if "logits" in encoded:
            return ClassCells(encoded["logits"])
        loc, scale = encoded["loc"], np.exp(0.5 * encoded["log_var"].astype(np.float64))
        family = self._vae.posterior_family
        if isinstance(family, FullNormal):
            size = loc.shape[1]
            factor = np.zeros((*loc.shape, size))
            # The entries below the diagonal come row by row.
            factor[(slice(None), *np.tril_indices(size, -1))] = encoded["lower"]
            factor += np.eye(size)
            return TriangularCells(loc, scale[..., None] * factor, self._bits, bounded=True)
        normal = DiagonalCells(loc, scale, self._bits, bounded=True)
        if isinstance(family, FlowPosterior):
            from tfvae.compression.lattice import FlowCells

            return FlowCells(normal, family.flow, self._bits, context=encoded["context"])
        return normal

    def prior(self, rows: int, label: np.ndarray | None, before: Sequence[np.ndarray]) -> Part:
        """Return p(z), or p(z|y)."""
        return self._prior(rows, label)

    def _prior(self, rows: int, label: np.ndarray | None) -> Part:
        family = self._vae.prior_family
        if isinstance(family, FlowPrior):
            from tfvae.compression.lattice import FlowCells

            zeros = np.zeros((rows, self._vae.latent_dim))
            base = DiagonalCells(zeros, zeros + 1, self._bits)
            return FlowCells(base, family.flow, self._bits, inverse=True)
        if family.takes_classes:
            logits = np.asarray(family.distribution().logits)
            return ClassCells(np.broadcast_to(logits, (rows, *logits.shape)))
        if self._prior_parts is None:
            labels = None if label is None else tf.range(self._vae.num_classes)
            # Of each class, or once for all.
            self._prior_parts = _normals(self._vae.prior_of(labels), type(family).__name__)
        log_weights, loc, factor = self._prior_parts
        chosen = np.zeros(rows, int) if label is None or len(loc) == 1 else label
        return MixtureCells(log_weights[chosen], loc[chosen], factor[chosen], self._bits)

    def decoded(self, cells: Sequence[np.ndarray], label: np.ndarray | None) -> dict[str, Any]:
        """Compute the parameters of p(x|z), tensors `[B, ...]`."""
        (own,) = cells
        classes = self._vae.posterior_family.classes
        if classes is None:
            z = own * 2.0**-self._bits
        else:
            z = np.eye(classes)[own].reshape(len(own), -1)
        return self._decode(tf.constant(z, tf.float32), *_given(label))


def _given(label: np.ndarray | None) -> list[tf.Tensor]:
    return [] if label is None else [tf.constant(label, tf.int32)]


def _normals(prior: Distribution, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return log-weights `[C, K]`, means `[C, K, d]` and scales of a prior that is made of normals.

    C is the number of classes, or 1, and K that of the components of a mixture, or 1. The scales
    are `[C, K, d]`, or Cholesky factors `[C, K, d, d]`.

    Raises:
        InputError: if it is made of others.
    """
    mixes = isinstance(prior, tfd.MixtureSameFamily) and isinstance(
        prior.mixture_distribution, tfd.Categorical
    )
    parts = prior.components_distribution if mixes else prior
    is_diagonal = isinstance(parts, tfd.Independent) and isinstance(parts.distribution, tfd.Normal)
    if is_diagonal:
        loc, scale = parts.distribution.loc, parts.distribution.scale
    elif isinstance(parts, tfd.MultivariateNormalLinearOperator):
        loc, scale = parts.mean(), parts.scale.to_dense()
    else:
        raise InputError(
            "compression codes normal priors, mixtures of them and flows; the model has the prior "
            f"{name} of a {type(parts).__name__}"
        )
    loc, scale = np.asarray(loc, np.float64), np.asarray(scale, np.float64)
    if not is_diagonal:
        diagonal = np.diagonal(scale, axis1=-2, axis2=-1)
        if (scale == diagonal[..., None] * np.eye(scale.shape[-1])).all():
            is_diagonal, scale = True, diagonal
        elif (np.triu(scale, 1) != 0).any():
            raise InputError(
                "compression codes normal priors that have a scale which is triangular; the model "
                f"has the prior {name} with another"
            )
    if mixes:
        logits = prior.mixture_distribution.logits_parameter()
        log_weights = np.asarray(tf.math.log_softmax(logits, axis=-1), np.float64)[None]
        batch: tuple[int, ...] = (1, *log_weights.shape[1:])
    else:
        batch = (int(np.prod(parts.batch_shape, dtype=int)), 1)
        log_weights = np.zeros(batch)
        # The batch axis, if there is one, is that of classes.
        loc, scale = (one[:, None] if parts.batch_shape.rank else one for one in (loc, scale))
    size = tuple(parts.event_shape)
    own = size if is_diagonal else size * 2
    return log_weights, np.broadcast_to(loc, batch + size), np.broadcast_to(scale, batch + own)
