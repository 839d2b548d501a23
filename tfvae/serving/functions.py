"""The functions of a model without random operations, for runtimes that have none.

What draws takes its noise as an input instead: standard normal numbers `[B, d]`, from which a draw
of z is a map. Every input and output has the batch as its first axis.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from tfvae.distributions.kl import exact_kl
from tfvae.errors import InputError
from tfvae.lazy import tfd
from tfvae.models.event_spec import EventSpec
from tfvae.models.keras_internals import all_layers
from tfvae.models.vae import VAE
from tfvae.models.vq import VQVAE
from tfvae.serving.graph_function import Function
from tfvae.typing import Distribution, Tensor

# Rows of the batch in `Function.example`, two or more: one would hide a fixed batch.
_EXAMPLES = 4


class NoNoiseError(NotImplementedError):
    """A distribution whose draws are no map of standard normal noise that is known here."""


def event_name(spec: EventSpec) -> str:
    """Return what functions call their events: ``images`` where they are, ``x`` elsewhere."""
    return "images" if spec.rank == 3 else "x"


def in_float32(vae: VAE) -> VAE:
    """Return the model, or one in float32 of the same weights if it computes in half precision.

    Raises:
        InputError: if the model has not been built, or a layer computes in half precision whatever
            the model is told.
    """

    def is_half(model: VAE) -> bool:
        return any(layer.compute_dtype in ("float16", "bfloat16") for layer in all_layers(model))

    spec = vae.event_spec
    if not is_half(vae):
        return vae
    plain = type(vae).from_config(_with_float32(vae.get_config()))
    if not plain.built:
        plain.build((None, *spec.shape))
    if is_half(plain):
        raise InputError(
            "this export is in float32, and the model has layers that set half precision "
            "themselves: leave the precision to keras.config.set_dtype_policy"
        )
    plain.set_weights(vae.get_weights())
    return plain


def _with_float32(config: Any) -> Any:
    """Return a Keras configuration with each policy of half precision replaced."""
    if isinstance(config, dict):
        if config.get("class_name") == "DTypePolicy":
            return {**config, "config": {**config["config"], "name": "float32"}}
        return {key: _with_float32(value) for key, value in config.items()}
    if isinstance(config, (list, tuple)):
        return type(config)(_with_float32(value) for value in config)
    return config


def functions_of(vae: VAE) -> tuple[list[Function], dict[str, str]]:
    """Return the functions of a model that need no random operation.

    - ``reconstruct``: of x `[B, *event_shape]`; returns x `[B, *event_shape]`, the mean of p(x|z)
    - ``encode``: of x; returns loc (the code) `[B, d]`; and scale `[B, d]` of q(z|x), where that
      has a closed form
    - ``decode``: of z `[B, d]`; returns x, the mean of p(x|z)
    - ``sample``: of noise `[B, d]`; returns x, the mean of p(x|z) at the z of p(z) that the noise
      makes
    - ``elbo``: of x, noise; returns elbo, log_likelihood, kl, each `[B]`, in nats; NaN for events
      that have no density

    The events are called ``images`` where they are images, and ``x`` elsewhere. Where values may be
    missing, NaN in them means that a value was not observed. Each function of a conditional model
    has one input more, ``label [B]`` of int32.

    Args:
        vae: a built `VAE`.

    Returns:
        The functions; and for each that the model cannot give its name and the reason.

    Raises:
        InputError: if the model has not been built.
    """
    if isinstance(vae, VQVAE):
        raise InputError(
            "these formats take a VAE; received a VQVAE, which draws its codes one after another: "
            "export it as a SavedModel"
        )
    spec = vae.event_spec
    x = event_name(spec)
    examples, found, left_out = _examples(vae), [], {}
    label = None if vae.num_classes is None else tf.zeros((1,), tf.int32)
    some = tf.constant(examples[x][:1])
    # What does without noise, and what the noise of the others is pushed through.
    wanted: list[tuple[str, Callable[..., Any], list[str], Callable[[], Distribution] | None]] = [
        ("reconstruct", reconstruct, [x], None),
        ("encode", encode, [x], None),
        ("decode", decode, ["z"], None),
        ("sample", _sample, ["noise"], lambda: vae.prior_of(label)),
        ("elbo", _elbo, [x, "noise"], lambda: vae.encode(some, label)),
    ]
    for name, function, inputs, drawn_from in wanted:
        if drawn_from is not None:
            try:
                push(drawn_from(), tf.zeros((1, vae.latent_dim)))
            except NoNoiseError as error:
                left_out[name] = str(error)
                continue
        taken = inputs if vae.num_classes is None else [*inputs, "label"]
        specs = tuple(
            tf.TensorSpec((None, *examples[one].shape[1:]), examples[one].dtype, name=one)
            for one in taken
        )
        found.append(
            Function(
                name=name,
                graph=_graph(vae, function, specs),
                inputs=specs,
                example={one: examples[one] for one in taken},
            )
        )
    return found, left_out


def push(distribution: Distribution, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Compute a draw of a distribution from standard normal noise.

    Args:
        distribution: with event shape `[d]`: normal, a normal that is pushed through a bijector, or
            a product of such.
        noise: ε ~ N(0, I), `[B, d]`.

    Returns:
        z `[B, d]`, and its log-density `[B]`, nats.

    Raises:
        NoNoiseError: if the distribution is another one.
    """
    from tfvae.distributions.joint import GroupedDistribution
    from tfvae.distributions.normal import FullCovarianceNormal, LogVarianceNormal

    if isinstance(distribution, GroupedDistribution):
        # The group at the top, and then the others.
        size = distribution.sizes[0]
        top, log_prob = push(distribution.top, noise[:, :size])
        top += tf.zeros_like(noise[:, :size])
        z, log_prob_below = distribution.below(top, noise[:, size:])
        return z, log_prob + log_prob_below
    if isinstance(distribution, FullCovarianceNormal):
        # The density at z needs no system solved: the noise is what z would be whitened to.
        log_det = 0.5 * tf.reduce_sum(distribution.log_var, axis=-1)
        mixed = tf.linalg.matvec(distribution.lower, noise) + noise
        z = distribution.loc + tf.exp(0.5 * distribution.log_var) * mixed
        return z, tf.reduce_sum(_log_density(noise), axis=-1) - log_det
    if isinstance(distribution, tfd.Normal):
        is_in_log = isinstance(distribution, LogVarianceNormal)
        log_scale = 0.5 * distribution.log_var if is_in_log else tf.math.log(distribution.scale)
        return distribution.loc + distribution.scale * noise, _log_density(noise) - log_scale
    if isinstance(distribution, tfd.MultivariateNormalLinearOperator):
        z = distribution.scale.matvec(noise) + distribution.loc
        log_density = tf.reduce_sum(_log_density(noise), axis=-1)
        return z, log_density - distribution.scale.log_abs_determinant()
    if _is_a(distribution, "Independent"):
        one = distribution.distribution
        z, log_prob = push(one, noise)
        joined = distribution.event_shape.rank - one.event_shape.rank
        return z, tf.reduce_sum(log_prob, axis=list(range(-joined, 0)))
    if _is_a(distribution, "TransformedDistribution"):
        base, bijector = distribution.distribution, distribution.bijector
        start, log_prob = push(base, noise)
        z = bijector.forward(start)
        return z, log_prob - bijector.forward_log_det_jacobian(start, base.event_shape.rank)
    kind = type(distribution).__name__.lstrip("_")
    raise NoNoiseError(f"a draw of a {kind} is no map of normal noise")


def _is_a(distribution: Distribution, name: str) -> bool:
    # Where parts are no composite tensors, TFP makes an instance of a twin with an underscore.
    return any(kind.__name__.lstrip("_") == name for kind in type(distribution).__mro__)


def _log_density(noise: Tensor) -> Tensor:
    return -0.5 * (tf.square(noise) + math.log(2 * math.pi))


# --- the functions --------------------------------------------------------------------------------


def _graph(
    vae: VAE, function: Callable[..., dict[str, Tensor]], inputs: tuple[tf.TensorSpec, ...]
) -> Callable[..., dict[str, Tensor]]:
    """Return the `tf.function` of a function whose first argument is the model."""

    @tf.function(input_signature=inputs, autograph=False)
    def graph(*values: Tensor) -> dict[str, Tensor]:
        outputs = function(vae, *values)
        events = outputs.get(event_name(vae.event_spec))
        if events is not None:
            # Of a dynamic batch TFP may lose the other sides.
            events.set_shape((None, *vae.event_shape))
        return outputs

    return graph


def reconstruct(vae: VAE | VQVAE, x: Tensor, label: Tensor | None = None) -> dict[str, Tensor]:
    """Compute the mean of p(x|z) at the code of each event."""
    return {event_name(vae.event_spec): vae.reconstruct(x, label)}


def encode(vae: VAE, x: Tensor, label: Tensor | None = None) -> dict[str, Tensor]:
    """Compute the code of each event, and the scale of q(z|x) where that has a closed form."""
    q = vae.encode(x, label)
    code = {"loc": vae.posterior_family.code(q)}
    try:
        return {**code, "scale": _scale(q)}
    except NotImplementedError:  # a flow has none in closed form
        return code


def _scale(q: Distribution) -> Tensor:
    """Compute the standard deviation of each latent dimension, `[B, d]`."""
    from tfvae.distributions.normal import FullCovarianceNormal

    if isinstance(q, FullCovarianceNormal):
        # TFP's takes a diagonal, for which LiteRT has no operator.
        correlated = 1 + tf.reduce_sum(tf.square(q.lower), axis=-1)
        return tf.exp(0.5 * q.log_var) * tf.sqrt(correlated)
    return q.stddev()


def decode(vae: VAE | VQVAE, z: Tensor, label: Tensor | None = None) -> dict[str, Tensor]:
    """Compute the mean of p(x|z)."""
    return {event_name(vae.event_spec): vae.likelihood_family.mean(vae.decode(z, label))}


def _sample(vae: VAE, noise: Tensor, label: Tensor | None = None) -> dict[str, Tensor]:
    z, _ = push(vae.prior_of(label), noise)
    return decode(vae, z, label)


def _elbo(vae: VAE, x: Tensor, noise: Tensor, label: Tensor | None = None) -> dict[str, Tensor]:
    q, p = vae.encode(x, label), vae.prior_of(label)
    z, log_posterior = push(q, noise)
    log_likelihood = vae.log_likelihood(x, z, label)
    # These runtimes have no assertion that could refuse an event as the model does.
    supported = tf.vectorized_map(vae.event_spec.admits, x)
    log_likelihood = tf.where(supported, log_likelihood, math.nan)
    kl = exact_kl(q, p)
    if kl is None:
        kl = log_posterior - p.log_prob(z)
    return {"elbo": log_likelihood - kl, "log_likelihood": log_likelihood, "kl": kl}


# --- a batch to compare at ------------------------------------------------------------------------


def _examples(vae: VAE) -> dict[str, np.ndarray]:
    """Return a batch of each input, and the labels.

    Half of the events are drawn from the model. The others are these with their values in disorder,
    which have densities that no event of the model has. Where values may be missing, some are.
    """
    rng = np.random.default_rng(0)
    spec = vae.event_spec
    label = np.arange(_EXAMPLES, dtype=np.int32) % (vae.num_classes or 1)
    few = _EXAMPLES // 2
    x = likely_events(vae, few, None if vae.num_classes is None else label[:few])
    disordered = rng.permuted(x.reshape(few, -1), axis=1).reshape(x.shape)
    # A value need not be one that another column of a table has.
    x = np.concatenate([x, disordered if bool(spec.admits(disordered)) else x])
    if spec.missing:
        # One event without holes, and one with nothing else.
        holes = rng.random(x.shape) < 0.3
        holes[0], holes[1] = False, True
        x[holes] = np.nan
    shape = (_EXAMPLES, vae.latent_dim)
    return {
        event_name(spec): x,
        "z": rng.normal(size=shape).astype(np.float32),
        "noise": rng.normal(size=shape).astype(np.float32),
        "label": label,
    }


def likely_events(vae: VAE | VQVAE, n: int, label: np.ndarray | int | None) -> np.ndarray:
    """Draw events from the model, float32 `[n, *event_shape]`, all in the support."""
    support = vae.event_spec.support
    drawn = vae.sample(n, label=label, seed=0, mean=False).numpy()
    # Draws of a stretched density may lie a little outside.
    return np.clip(drawn, support.low, support.high).astype(np.float32)
