"""What of a model is pushed on the stack: q(z|x) and p(z), as distributions of cells.

Latents come in groups, of which a `VAE` has one. Of a hierarchy the posterior of a group may look
at x and at the groups before it, and its prior at the groups before it: that is all that the coder
asks. The codes of a `VQVAE` are groups of one number, whose posterior has one value.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfvae.compression.grid import (
    ClassCells,
    DiagonalCells,
    KnownCells,
    MixtureCells,
    Part,
    TriangularCells,
)
from tfvae.errors import InputError
from tfvae.lazy import tfd
from tfvae.models.hierarchical import HierarchicalVAE
from tfvae.models.vae import VAE
from tfvae.models.vq import VQVAE
from tfvae.posteriors import (
    DiagonalNormal,
    FlowPosterior,
    FullNormal,
    Posterior,
    RelaxedCategorical,
)
from tfvae.priors import FlowPrior, Prior
from tfvae.typing import Distribution

# Arrays by their names, batch first.
Arrays = dict[str, np.ndarray]
# Codes of events and of groups so far out mean a model that was not made for these events.
_FARTHEST = 2.0**30


class VAELatents:
    """The one group of latents of a `VAE`.

    Args:
        vae: a built model.
        bits: cells are 2^-bits wide.

    Attributes:
        groups: how many groups there are.

    Raises:
        InputError: if there is no way to push its posterior or its prior.
    """

    groups = 1

    def __init__(self, vae: VAE, bits: int):
        self._bits = bits
        self._top = _TopCells(
            vae.posterior_family.of_top(),
            vae.prior_family.of_top(),
            vae.group_sizes[0] if isinstance(vae, HierarchicalVAE) else vae.latent_dim,
            vae.num_classes,
            bits,
        )
        self._labels = [] if vae.num_classes is None else [tf.TensorSpec((None,), tf.int32)]
        shape = (None, *vae.event_shape)
        self._encode = tf.function(
            vae.posterior_parameters,
            input_signature=[tf.TensorSpec(shape, tf.float32), *self._labels],
            autograph=False,
        )
        self._decode = tf.function(
            vae.likelihood_parameters,
            input_signature=[tf.TensorSpec((None, vae.latent_dim), tf.float32), *self._labels],
            autograph=False,
        )

    def encoded(self, x: np.ndarray, label: np.ndarray | None) -> Arrays:
        """Compute the parameters of q(z|x).

        Raises:
            InputError: if they are not finite, or codes are too far out.
        """
        found = self._encode(tf.constant(x, tf.float32), *_given(label))
        arrays = {name: np.asarray(value) for name, value in found.items()}
        _check_finite("encoder", arrays.values())
        _check_near(arrays.get("loc"))
        return arrays

    def log_vars(self, encoded: Arrays) -> np.ndarray | None:
        """Return log σ² of the latents of some events, by which cells are made fine enough."""
        return encoded.get("log_var")

    def posterior(self, encoded: Arrays, before: Sequence[np.ndarray]) -> Part:
        """Return q(z|x)."""
        return self._top.posterior(encoded)

    def prior(self, rows: int, label: np.ndarray | None, before: Sequence[np.ndarray]) -> Part:
        """Return p(z), or p(z|y)."""
        return self._top.prior(rows, label)

    def decoded(self, cells: Sequence[np.ndarray], label: np.ndarray | None) -> dict[str, Any]:
        """Compute the parameters of p(x|z), tensors `[B, ...]`."""
        return self._decode(self._latent(cells), *_given(label))

    def _latent(self, cells: Sequence[np.ndarray]) -> tf.Tensor:
        """Return z of the cells of some groups, float32 `[B, ...]`."""
        top, *below = cells
        parts = [self._top.latent(top), *(one * 2.0**-self._bits for one in below)]
        return tf.constant(np.concatenate(parts, axis=-1), tf.float32)


class HierarchyLatents(VAELatents):
    """The groups of latents of a `HierarchicalVAE`: bits-back coding group by group.

    z_1 is popped from q(z_1|x), z_2 from q(z_2|z_1, x) and so on, and all are pushed under
    p(z_l|z_<l) (Kingma et al. 2019, arXiv:1905.06845; Townsend et al. 2020, arXiv:1912.09953).

    Args:
        vae: a built model of several groups.
        bits: cells are 2^-bits wide.

    Raises:
        InputError: if there is no way to push q(z_1|x) or p(z_1).
    """

    def __init__(self, vae: HierarchicalVAE, bits: int):
        super().__init__(vae, bits)
        self.groups = len(vae.groups)
        # One graph for all sizes of batches, or events would come back from other roundings.
        encoded = {
            name: tf.TensorSpec((None, *value.shape[1:]), value.dtype)
            for name, value in self._encode.get_concrete_function().structured_outputs.items()
        }
        self._posteriors: list[Any] = []
        self._priors: list[Any] = []
        for number in range(1, self.groups):
            before = tf.TensorSpec((None, sum(vae.group_sizes[:number])), tf.float32)
            for graphs, family, given in (
                (self._posteriors, vae.posterior_family, [encoded]),
                (self._priors, vae.prior_family, self._labels),
            ):
                compute = _group_of(family, number)
                graphs.append(
                    tf.function(compute, input_signature=[before, *given], autograph=False)
                )

    def log_vars(self, encoded: Arrays) -> np.ndarray | None:
        """Return log σ² of all groups, each at the means of those above it."""
        if "log_var" not in encoded:
            return None
        z, found = tf.constant(encoded["loc"]), [encoded["log_var"]]
        for posterior in self._posteriors:
            loc, log_var = posterior(z, encoded)
            z = tf.concat([z, loc], axis=-1)
            found.append(np.asarray(log_var))
        return np.concatenate(found, axis=-1)

    def posterior(self, encoded: Arrays, before: Sequence[np.ndarray]) -> Part:
        """Return q(z_l|z_<l, x)."""
        if not before:
            return super().posterior(encoded, before)
        found = self._posteriors[len(before) - 1](self._latent(before), encoded)
        return self._cells(found, bounded=True)

    def prior(self, rows: int, label: np.ndarray | None, before: Sequence[np.ndarray]) -> Part:
        """Return p(z_l|z_<l)."""
        if not before:
            return super().prior(rows, label, before)
        found = self._priors[len(before) - 1](self._latent(before), *_given(label))
        return self._cells(found)

    def _cells(self, found: tuple[tf.Tensor, tf.Tensor], bounded: bool = False) -> Part:
        loc, log_var = (np.asarray(value) for value in found)
        _check_finite("decoder", (loc, log_var))
        _check_near(loc)
        scale = np.exp(0.5 * log_var.astype(np.float64))
        return DiagonalCells(loc, scale, self._bits, bounded=bounded)


class CodeLatents:
    """The codes of a `VQVAE`, one after another: c_t is pushed under p(c_t|c_<t).

    Nothing is popped for them, since q(c|x) has one value: the stack grows by
    −log₂ p(x|c) − log₂ p(c) bits, the negative bound.

    Args:
        vq: a built model.

    Attributes:
        groups: how many codes there are.
    """

    def __init__(self, vq: VQVAE):
        self.groups = vq.code_prior.length
        self._shape = vq.code_shape
        labels = [] if vq.num_classes is None else [tf.TensorSpec((None,), tf.int32)]
        events = tf.TensorSpec((None, *vq.event_shape), tf.float32)
        codes = tf.TensorSpec((None, self.groups), tf.int32)

        def prior(codes: tf.Tensor, number: tf.Tensor, *label: tf.Tensor) -> tf.Tensor:
            # The codes behind `number` are looked at by none before them.
            given = [tf.one_hot(one, vq.num_classes) for one in label]
            return vq.code_prior.call(codes, *given)[:, number]

        def decode(codes: tf.Tensor, *label: tf.Tensor) -> dict[str, Any]:
            vectors = vq.code_vectors(tf.reshape(codes, (-1, *self._shape)))
            return vq.likelihood_parameters(vectors, *label)

        self._codes = tf.function(vq.codes, input_signature=[events, *labels], autograph=False)
        self._prior = tf.function(
            prior, input_signature=[codes, tf.TensorSpec((), tf.int32), *labels], autograph=False
        )
        self._decode = tf.function(decode, input_signature=[codes, *labels], autograph=False)

    def encoded(self, x: np.ndarray, label: np.ndarray | None) -> Arrays:
        """Compute c(x)."""
        codes = self._codes(tf.constant(x, tf.float32), *_given(label))
        return {"codes": np.asarray(codes, np.int64).reshape(len(x), self.groups)}

    def log_vars(self, encoded: Arrays) -> None:
        """Return nothing: codes have no cells that could be too wide."""

    def posterior(self, encoded: Arrays, before: Sequence[np.ndarray]) -> Part:
        """Return the one value of q(c_t|x)."""
        number = len(before)
        return KnownCells(encoded["codes"][:, number : number + 1])

    def prior(self, rows: int, label: np.ndarray | None, before: Sequence[np.ndarray]) -> Part:
        """Return p(c_t|c_<t), or p(c_t|c_<t, y)."""
        codes = np.zeros((rows, self.groups), np.int32)
        if before:
            codes[:, : len(before)] = np.concatenate(before, axis=1)
        logits = np.asarray(self._prior(codes, len(before), *_given(label)))
        _check_finite("prior", [logits])
        return ClassCells(logits[:, None])

    def decoded(self, cells: Sequence[np.ndarray], label: np.ndarray | None) -> dict[str, Any]:
        """Compute the parameters of p(x|c), tensors `[B, ...]`."""
        codes = tf.constant(np.concatenate(cells, axis=1), tf.int32)
        return self._decode(codes, *_given(label))


def latents_of(vae: VAE | VQVAE, bits: int) -> VAELatents | CodeLatents:
    """Return the latents of a model, in cells of width 2^-bits.

    Raises:
        InputError: if there is no way to push its posterior or its prior.
    """
    if isinstance(vae, VQVAE):
        return CodeLatents(vae)
    if isinstance(vae, HierarchicalVAE) and vae.has_groups:
        return HierarchyLatents(vae, bits)
    return VAELatents(vae, bits)


def families_of(vae: VAE | VQVAE) -> tuple[Any, ...]:
    """Return the objects that say, beside the weights, what a model computes."""
    if isinstance(vae, VQVAE):
        return (vae.quantizer, vae.code_prior, vae.likelihood_family)
    # Of a hierarchy q(z_1|x) and p(z_1); the other groups are told by their weights.
    return (vae.posterior_family.of_top(), vae.prior_family.of_top(), vae.likelihood_family)


class _TopCells:
    """q(z|x) and p(z) of one vector, by their families.

    Args:
        posterior: the family of q(z|x).
        prior: the family of p(z).
        size: d.
        num_classes: labels of a conditional model.
        bits: cells are 2^-bits wide.

    Raises:
        InputError: if there is no way to push them.
    """

    def __init__(
        self, posterior: Posterior, prior: Prior, size: int, num_classes: int | None, bits: int
    ):
        self._posterior, self._prior = posterior, prior
        self._size, self._num_classes, self._bits = size, num_classes, bits
        known = (DiagonalNormal, FullNormal, FlowPosterior, RelaxedCategorical)
        if not isinstance(posterior, known):
            raise InputError(
                "compression codes normal posteriors, flows and classes; the model has the "
                f"posterior {type(posterior).__name__}"
            )
        self._prior_parts: Any = None
        self.prior(1, None if num_classes is None else np.zeros(1, np.int32))

    def posterior(self, encoded: Arrays) -> Part:
        """Return q(z|x)."""
        if "logits" in encoded:
            return ClassCells(encoded["logits"])
        loc, scale = encoded["loc"], np.exp(0.5 * encoded["log_var"].astype(np.float64))
        family = self._posterior
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

    def prior(self, rows: int, label: np.ndarray | None) -> Part:
        """Return p(z), or p(z|y), for so many events."""
        family = self._prior
        if isinstance(family, FlowPrior):
            from tfvae.compression.lattice import FlowCells

            zeros = np.zeros((rows, self._size))
            base = DiagonalCells(zeros, zeros + 1, self._bits)
            return FlowCells(base, family.flow, self._bits, inverse=True)
        if family.takes_classes:
            logits = np.asarray(family.distribution().logits)
            return ClassCells(np.broadcast_to(logits, (rows, *logits.shape)))
        if self._prior_parts is None:
            labels = None if label is None else tf.range(self._num_classes)
            # Of each class, or once for all.
            self._prior_parts = _normals(family.distribution(labels), type(family).__name__)
        log_weights, loc, factor = self._prior_parts
        chosen = np.zeros(rows, int) if label is None or len(loc) == 1 else label
        return MixtureCells(log_weights[chosen], loc[chosen], factor[chosen], self._bits)

    def latent(self, cells: np.ndarray) -> np.ndarray:
        """Return z `[B, d]` of its cells."""
        classes = self._posterior.classes
        if classes is None:
            return cells * 2.0**-self._bits
        return np.eye(classes)[cells].reshape(len(cells), -1)


def _group_of(family: Any, number: int) -> Callable[..., Any]:
    return lambda before, *given: family.group(before, number, *given)


def _check_finite(network: str, arrays: Iterable[np.ndarray]) -> None:
    if not all(np.isfinite(array).all() for array in arrays):
        raise InputError(f"the model's {network} puts out NaN or infinite values for these events")


def _check_near(loc: np.ndarray | None) -> None:
    if loc is not None and np.abs(loc).max(initial=0) > _FARTHEST:
        raise InputError(
            "the model's codes of these events are too far out to be coded: train it on such events"
        )


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
