"""What a server can ask of a model: each function of a SavedModel, with its inputs and outputs.

Every input and output has the batch `[B]` as its first axis, so that a server may join requests
into one batch; and what comes out for an image depends on nothing else in the batch.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from tfvae.checks import checked_count
from tfvae.datasets.preprocessing import Preprocessing, to_png
from tfvae.evaluation.batches import check_vae, compiled, default_chunk
from tfvae.evaluation.importance import weight_sums
from tfvae.serving.functions import decode, encode, reconstruct

if TYPE_CHECKING:
    from tfvae.models.vae import VAE

# The draws of z in an anomaly score: the same noise for every image, so that equal images have
# equal scores. More cost as many decodes each.
SCORE_DRAWS = 8
_IMAGES = ("images", "start", "end")  # inputs of values that the likelihood has to admit
_SCORE_SEED = (0, 7)


@dataclasses.dataclass(frozen=True)
class Signature:
    """One function of a SavedModel.

    Attributes:
        name: what a request calls it.
        function: a `tf.function` of the inputs, by position, that gives a dictionary of outputs.
        inputs: their names, shapes and types.
        says: what it gives, in a line.
    """

    name: str
    function: Any
    inputs: tuple[tf.TensorSpec, ...]
    says: str

    @classmethod
    def of(
        cls,
        name: str,
        function: Callable[..., dict[str, Any]],
        inputs: Iterable[tf.TensorSpec],
        says: str,
    ) -> "Signature":
        """Make a graph of a function of inputs by position."""
        inputs = tuple(inputs)
        # AutoGraph reads the source of all that is called, which takes longer than to trace it.
        graph = tf.function(function, input_signature=inputs, autograph=False)
        return cls(name, graph, inputs, says)

    def outputs(self) -> dict[str, tf.TensorSpec]:
        """Give the names, shapes and types of the outputs."""
        return dict(self.function.get_concrete_function().structured_outputs)


def signatures(
    vae: "VAE",
    *,
    preprocessing: Preprocessing | None = None,
    num_samples: int = 100,
    threshold: float | None = None,
) -> list[Signature]:
    """Give the functions of a model, the default of a server first.

    ================= ========================= =================================================
    name              inputs                    outputs
    ================= ========================= =================================================
    ``reconstruct``   images `[B, H, W, C]`     images `[B, H, W, C]`, the mean of p(x|z)
    ``encode``        images                    loc (the code) `[B, d]`; and scale `[B, d]` of
                                                q(z|x), where that has a closed form
    ``decode``        z `[B, d]`                images, the mean of p(x|z)
    ``sample``        seed `[B, 2]`             images, the mean of p(x|z) at a z from p(z)
    ``interpolate``   start, end (images),      images, decoded so far on the line from the code
                      weight `[B]`              of start (weight 0) to that of end (weight 1)
    ``elbo``          images, seed `[B, 2]`     elbo, log_likelihood, kl, each `[B]`, nats
    ``log_prob``      images, seed `[B, 2]`     log_prob `[B]`, nats, by importance sampling, and
                                                effective_sample_size `[B]`
    ``anomaly_score`` images                    score `[B]`, −ELBO in nats; threshold `[B]`; and
                                                is_anomaly `[B]`, whether the score is above it
    ================= ========================= =================================================

    Equal seeds give equal draws. Each signature of a conditional model has one input more,
    ``label [B]`` of int32.

    With `preprocessing`, those that take ``images`` come twice more: ``NAME_uint8`` for images of
    bytes, and ``NAME_png`` for PNG and JPEG files of any size, strings ``image_bytes [B]``; and
    ``reconstruct_png`` and ``sample_png`` give PNG files.

    Args:
        vae: a built `VAE`.
        preprocessing: how bytes become the model's values; None where no bytes do.
        num_samples: K, draws of ``log_prob``.
        threshold: of ``anomaly_score``; without one it is NaN, and nothing is an anomaly.

    Raises:
        InputError: if a number does not fit, or q(z|x) has no density.
    """
    check_vae(vae)
    checked_count("num_samples", num_samples)
    if preprocessing is not None:
        preprocessing = dataclasses.replace(preprocessing, step=vae.likelihood_family.support.step)
    return _Functions(vae, preprocessing, num_samples, threshold).all()


@dataclasses.dataclass(frozen=True, eq=False)
class _Functions:
    """The functions, each of float32 images."""

    vae: "VAE"
    preprocessing: Preprocessing | None
    num_samples: int
    threshold: float | None

    def all(self) -> list[Signature]:
        """Give the signatures."""
        vae = self.vae
        image = tf.TensorSpec((None, *vae.event_shape), tf.float32, name="images")
        z = tf.TensorSpec((None, vae.latent_dim), tf.float32, name="z")
        seed = tf.TensorSpec((None, 2), tf.int32, name="seed")
        weight = tf.TensorSpec((None,), tf.float32, name="weight")
        ends = [tf.TensorSpec(image.shape, tf.float32, name=name) for name in ("start", "end")]
        found: list[tuple[str, Callable[..., dict[str, Any]], list[Any], str]] = [
            (
                "reconstruct",
                functools.partial(reconstruct, vae),
                [image],
                "the mean of p(x|z) at the image's code",
            ),
            (
                "encode",
                functools.partial(encode, vae),
                [image],
                "the code (loc), and the scale of q(z|x)",
            ),
            ("decode", functools.partial(decode, vae), [z], "the mean of p(x|z)"),
            ("sample", self.sample, [seed], "the mean of p(x|z) at a draw of z from p(z)"),
            (
                "interpolate",
                self.interpolate,
                [*ends, weight],
                "a point on the line between two codes, decoded",
            ),
            ("elbo", self.elbo, [image, seed], "the ELBO and its two terms, nats"),
            (
                "log_prob",
                self.log_prob,
                [image, seed],
                f"log p(x) by importance sampling with {self.num_samples} draws, nats",
            ),
            (
                "anomaly_score",
                self.anomaly_score,
                [image],
                f"the negative ELBO of {SCORE_DRAWS} draws, nats, and whether it is unusual",
            ),
        ]
        return [
            signature
            for name, function, inputs, says in found
            for signature in self._forms(name, function, inputs, says)
        ]

    # --- what each gives --------------------------------------------------------------------------

    def sample(self, seed: Any, label: Any = None) -> dict[str, Any]:
        return decode(self.vae, self.vae.draw_latent(seed, label), label)

    def interpolate(self, start: Any, end: Any, weight: Any, label: Any = None) -> dict[str, Any]:
        codes = [self.vae.code(images, label) for images in (start, end)]
        weight = weight[:, None]
        return decode(self.vae, (1 - weight) * codes[0] + weight * codes[1], label)

    def elbo(self, images: Any, seed: Any, label: Any = None) -> dict[str, Any]:
        return self.vae.elbo(images, label, seed=seed)._asdict()

    def log_prob(self, images: Any, seed: Any, label: Any = None) -> dict[str, Any]:
        vae, draws = self.vae, self.num_samples
        encoded = vae.posterior_parameters(images, label)
        z, log_posterior = vae.posterior_family.sample_each(encoded, draws, seed)
        # A loop of Python's is one of the graph's.
        loop = compiled(functools.partial(weight_sums, vae, chunk=default_chunk(vae)))
        sums = loop(images, label, z, log_posterior)
        return {
            "log_prob": sums[0] - tf.math.log(float(draws)),
            "effective_sample_size": tf.exp(2 * sums[0] - sums[1]),
        }

    def anomaly_score(self, images: Any, label: Any = None) -> dict[str, Any]:
        seeds = tf.tile(tf.constant([_SCORE_SEED], tf.int32), [tf.shape(images)[0], 1])
        score = -self.vae.elbo(images, label, num_samples=SCORE_DRAWS, seed=seeds).elbo
        threshold = tf.fill(tf.shape(score), np.nan if self.threshold is None else self.threshold)
        return {"score": score, "threshold": threshold, "is_anomaly": score > threshold}

    # --- the forms that images come in ------------------------------------------------------------

    def _forms(
        self,
        name: str,
        function: Callable[..., dict[str, Any]],
        inputs: list[tf.TensorSpec],
        says: str,
    ) -> list[Signature]:
        """Give a function's signature, and those of it that take and give bytes."""
        vae, preprocessing = self.vae, self.preprocessing
        if vae.num_classes is not None:
            inputs = [*inputs, tf.TensorSpec((None,), tf.int32, name="label")]
        checks = {"label": self._checked_label} | dict.fromkeys(_IMAGES, self._checked)

        def checked(*given: Any) -> list[Any]:
            return [
                checks[spec.name](value) if spec.name in checks else value
                for value, spec in zip(given, inputs, strict=True)
            ]

        plain = Signature.of(name, lambda *given: function(*checked(*given)), inputs, says)
        # All forms call the one graph.
        graph, found = plain.function, [plain]
        if preprocessing is None:
            return found
        has_files = vae.event_shape[2] in (1, 3)
        if name == "sample" and has_files:
            found.append(
                Signature.of(
                    "sample_png",
                    lambda *given: {"image_bytes": to_png(graph(*given)["images"])},
                    inputs,
                    f"{says}, as PNG files",
                )
            )
        if inputs[0].name != "images":
            return found
        others = inputs[1:]
        found.append(
            Signature.of(
                f"{name}_uint8",
                lambda images, *given: graph(preprocessing.of_bytes(images), *given),
                [tf.TensorSpec(inputs[0].shape, tf.uint8, name="images"), *others],
                f"{says}; of images of bytes",
            )
        )
        if has_files:

            def of_files(files: Any, *given: Any) -> dict[str, Any]:
                outputs = graph(self._read_files(files), *given)
                if "images" in outputs:
                    return {"image_bytes": to_png(outputs["images"])}
                return outputs

            files = tf.TensorSpec((None,), tf.string, name="image_bytes")
            found.append(
                Signature.of(
                    f"{name}_png", of_files, [files, *others], f"{says}; of PNG and JPEG files"
                )
            )
        return found

    @functools.cached_property
    def _read_files(self) -> Any:
        """The graph that all forms for files share."""
        spec = tf.TensorSpec((None,), tf.string)
        preprocessing: Any = self.preprocessing
        read = functools.partial(preprocessing.of_files, image_shape=self.vae.event_shape)
        return tf.function(read, input_signature=[spec], autograph=False)

    def _checked(self, images: Any) -> tf.Tensor:
        """Refuse images with values that have no density, as the model does outside of a graph."""
        family = self.vae.likelihood_family
        expected = f"{type(family).__name__} expects {family.support}; received values between"
        return _admitted(images, family.support.admits(images), expected)

    def _checked_label(self, label: Any) -> tf.Tensor:
        """Refuse labels of no class, which would be taken for none of all."""
        count: Any = self.vae.num_classes
        expected = f"expected labels from 0 to {count - 1}; received labels between"
        return _admitted(label, tf.reduce_all((label >= 0) & (label < count)), expected)


def _admitted(value: Any, fits: Any, expected: str) -> tf.Tensor:
    """Give a value, or end the call with what was expected and the range of what came."""
    words = [expected, tf.reduce_min(value), "and", tf.reduce_max(value)]
    with tf.control_dependencies([tf.debugging.Assert(fits, words)]):
        return tf.identity(value)
