"""The functions of a model without random operations, for runtimes that have none.

What draws takes its noise as an input instead: standard normal numbers `[B, d]`, from which a draw
of z is a map. Every input and output has the batch as its first axis.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from tfvae.distributions.kl import exact_kl
from tfvae.errors import InputError
from tfvae.lazy import tfd

if TYPE_CHECKING:
    from tfvae.models.vae import VAE

# Rows of the batch that `Function.example` gives, two or more: one would hide a fixed batch.
_EXAMPLES = 4


class NoNoiseError(NotImplementedError):
    """A distribution whose draws are no map of standard normal noise that is known here."""


@dataclasses.dataclass(frozen=True)
class Function:
    """One function of a model, as a graph.

    Attributes:
        name: what the file is called.
        graph: a `tf.function` of the inputs, by position, that gives a dictionary of outputs.
        inputs: their names, shapes and types.
        example: a batch of each input, by name, to compare runtimes at.
    """

    name: str
    graph: Any
    inputs: tuple[tf.TensorSpec, ...]
    example: dict[str, np.ndarray]

    def __call__(self, **inputs: np.ndarray) -> dict[str, np.ndarray]:
        """Give the outputs in TensorFlow."""
        tensors = [tf.constant(inputs[spec.name], spec.dtype) for spec in self.inputs]
        return {name: value.numpy() for name, value in self.graph(*tensors).items()}


def in_float32(vae: "VAE") -> "VAE":
    """Give the model, or one in float32 of the same weights if it computes in half precision.

    Raises:
        InputError: if a layer computes in half precision whatever the model is told.
    """

    def is_half(model: Any) -> bool:
        return any(
            layer.compute_dtype in ("float16", "bfloat16") for layer in model._flatten_layers()
        )

    if not vae.built or not is_half(vae):
        return vae
    plain = type(vae).from_config(_with_float32(vae.get_config()))
    if not plain.built:
        plain.build((None, *vae.event_shape))
    if is_half(plain):
        raise InputError(
            "this export is in float32, and the model has layers that set half precision "
            "themselves: leave the precision to keras.config.set_dtype_policy"
        )
    plain.set_weights(vae.get_weights())
    return plain


def _with_float32(config: Any) -> Any:
    """Give a Keras configuration with each policy of half precision replaced."""
    if isinstance(config, dict):
        if config.get("class_name") == "DTypePolicy":
            return {**config, "config": {**config["config"], "name": "float32"}}
        return {key: _with_float32(value) for key, value in config.items()}
    if isinstance(config, (list, tuple)):
        return type(config)(_with_float32(value) for value in config)
    return config


def functions_of(vae: "VAE") -> tuple[list[Function], dict[str, str]]:
    """Give the functions of a model that need no random operation.

    =============== ==================================== =========================================
    name            inputs                               outputs
    =============== ==================================== =========================================
    ``reconstruct`` images `[B, H, W, C]`                images `[B, H, W, C]`, the mean of p(x|z)
    ``encode``      images                               loc (the code) `[B, d]`; and scale
                                                         `[B, d]` of q(z|x), where that has a
                                                         closed form
    ``decode``      z `[B, d]`                           images, the mean of p(x|z)
    ``sample``      noise `[B, d]`                       images, the mean of p(x|z) at the z of
                                                         p(z) that the noise makes
    ``elbo``        images, noise                        elbo, log_likelihood, kl, each `[B]`, in
                                                         nats; NaN for images that have no density
    =============== ==================================== =========================================

    Each function of a conditional model has one input more, ``label [B]`` of int32.

    Args:
        vae: a built `VAE`.

    Returns:
        The functions; and for each that the model cannot give its name and the reason.

    Raises:
        InputError: if the model has not been built.
    """
    if not vae.built:
        raise InputError("the model does not know its image shape yet: call it on images first")
    label = None if vae.num_classes is None else tf.zeros((1,), tf.int32)
    blank = tf.zeros((1, *vae.event_shape))
    # What does without noise, and what the noise of the others is pushed through.
    wanted: list[tuple[str, Callable[..., Any], list[str], Callable[[], Any] | None]] = [
        ("reconstruct", reconstruct, ["images"], None),
        ("encode", encode, ["images"], None),
        ("decode", decode, ["z"], None),
        ("sample", _sample, ["noise"], lambda: vae.prior_of(label)),
        ("elbo", _elbo, ["images", "noise"], lambda: vae.encode(blank, label)),
    ]
    examples, found, left_out = _examples(vae), [], {}
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


def push(distribution: Any, noise: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Make a draw of a distribution from standard normal noise.

    Args:
        distribution: with event shape `[d]`: normal, a normal that is pushed through a bijector, or
            a product of such.
        noise: ε ~ N(0, I), `[B, d]`.

    Returns:
        z `[B, d]`, and its log-density `[B]`, nats.

    Raises:
        NoNoiseError: if the distribution is another one.
    """
    from tfvae.distributions.normal import FullCovarianceNormal, LogVarianceNormal

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


def _is_a(distribution: Any, name: str) -> bool:
    # Where parts are no composite tensors, TFP makes an instance of a twin with an underscore.
    return any(kind.__name__.lstrip("_") == name for kind in type(distribution).__mro__)


def _log_density(noise: tf.Tensor) -> tf.Tensor:
    return -0.5 * (tf.square(noise) + math.log(2 * math.pi))


# --- the functions --------------------------------------------------------------------------------


def _graph(vae: "VAE", function: Callable[..., Any], inputs: tuple[tf.TensorSpec, ...]) -> Any:
    """Give the `tf.function` of a function whose first argument is the model."""

    @tf.function(input_signature=inputs, autograph=False)
    def graph(*values: Any) -> dict[str, Any]:
        outputs = function(vae, *values)
        if "images" in outputs:
            # Of a dynamic batch TFP may lose the other sides.
            outputs["images"].set_shape((None, *vae.event_shape))
        return outputs

    return graph


def reconstruct(vae: "VAE", images: Any, label: Any = None) -> dict[str, Any]:
    """Give the mean of p(x|z) at the code of each image."""
    return {"images": vae.reconstruct(images, label)}


def encode(vae: "VAE", images: Any, label: Any = None) -> dict[str, Any]:
    """Give the code of each image, and the scale of q(z|x) where that has a closed form."""
    q = vae.encode(images, label)
    code = {"loc": vae.posterior_family.code(q)}
    try:
        return {**code, "scale": _scale(q)}
    except NotImplementedError:  # a flow has none in closed form
        return code


def _scale(q: Any) -> tf.Tensor:
    """Give the standard deviation of each latent dimension, `[B, d]`."""
    from tfvae.distributions.normal import FullCovarianceNormal

    if isinstance(q, FullCovarianceNormal):
        # TFP's takes a diagonal, for which LiteRT has no operator.
        correlated = 1 + tf.reduce_sum(tf.square(q.lower), axis=-1)
        return tf.exp(0.5 * q.log_var) * tf.sqrt(correlated)
    return q.stddev()


def decode(vae: "VAE", z: Any, label: Any = None) -> dict[str, Any]:
    """Give the mean of p(x|z)."""
    return {"images": vae.likelihood_family.mean(vae.decode(z, label))}


def _sample(vae: "VAE", noise: Any, label: Any = None) -> dict[str, Any]:
    z, _ = push(vae.prior_of(label), noise)
    return decode(vae, z, label)


def _elbo(vae: "VAE", images: Any, noise: Any, label: Any = None) -> dict[str, Any]:
    q, p = vae.encode(images, label), vae.prior_of(label)
    z, log_posterior = push(q, noise)
    log_likelihood = vae.decode(z, label).log_prob(images)
    # These runtimes have no assertion that could refuse an image as the model does.
    supported = tf.vectorized_map(vae.likelihood_family.support.admits, images)
    log_likelihood = tf.where(supported, log_likelihood, math.nan)
    kl = exact_kl(q, p)
    if kl is None:
        kl = log_posterior - p.log_prob(z)
    return {"elbo": log_likelihood - kl, "log_likelihood": log_likelihood, "kl": kl}


# --- a batch to compare at ------------------------------------------------------------------------


def _examples(vae: "VAE") -> dict[str, np.ndarray]:
    """Give a batch of each input, and the labels.

    Half of the images are drawn from the model. The others are these with their pixels in disorder,
    which have densities that no image of the model has.
    """
    rng = np.random.default_rng(0)
    label = np.arange(_EXAMPLES, dtype=np.int32) % (vae.num_classes or 1)
    few = _EXAMPLES // 2
    drawn = vae.sample(
        few, label=None if vae.num_classes is None else label[:few], seed=0, mean=False
    ).numpy()
    disordered = rng.permuted(drawn.reshape(few, -1), axis=1).reshape(drawn.shape)
    images, support = np.concatenate([drawn, disordered]), vae.likelihood_family.support
    shape = (_EXAMPLES, vae.latent_dim)
    return {
        "images": np.clip(images, support.low, support.high).astype(np.float32),
        "z": rng.normal(size=shape).astype(np.float32),
        "noise": rng.normal(size=shape).astype(np.float32),
        "label": label,
    }
