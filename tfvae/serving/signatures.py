"""What a server can ask of a model: each function of a SavedModel, with its inputs and outputs.

Every input and output has the batch `[B]` as its first axis, so that a server may join requests
into one batch; and what comes out for an event depends on nothing else in the batch. An event that
has no density, or a damaged file, ends the call for its batch, with an error that says why.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import tensorflow as tf

from tfvae.checks import checked_count
from tfvae.datasets.preprocessing import Preprocessing, to_png
from tfvae.errors import InputError
from tfvae.evaluation.batches import check_vae
from tfvae.evaluation.codes import check_vq
from tfvae.models.event_spec import EventSpec
from tfvae.models.vae import VAE
from tfvae.models.vq import VQVAE
from tfvae.serving.functions import decode, encode, event_name, reconstruct
from tfvae.serving.weighted_draws import imputed, log_mean_weight
from tfvae.typing import Tensor

# The draws of z in an anomaly score: the same noise for every event, so that equal events have
# equal scores. More cost as many decodes each.
SCORE_DRAWS = 8
_SCORE_SEED = (0, 7)

Outputs = dict[str, Tensor]
# A function's name, the function, its inputs, and what it computes.
_Row = tuple[str, Callable[..., Outputs], list[tf.TensorSpec], str]


@dataclasses.dataclass(frozen=True)
class Signature:
    """One function of a SavedModel.

    Attributes:
        name: what a request calls it.
        function: a `tf.function` of the inputs, by position, that returns a dictionary of outputs.
        inputs: their names, shapes and types.
        says: what it computes, in a line.
        examples: a batch of one for inputs, by their names, where that is no matter of course.
    """

    name: str
    function: Callable[..., Outputs]
    inputs: tuple[tf.TensorSpec, ...]
    says: str
    examples: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(
        cls,
        name: str,
        function: Callable[..., Outputs],
        inputs: Iterable[tf.TensorSpec],
        says: str,
        examples: Mapping[str, Any] | None = None,
    ) -> "Signature":
        """Build the graph of a function of inputs by position."""
        inputs = tuple(inputs)
        # AutoGraph reads the source of all that is called, which takes longer than to trace it.
        graph = tf.function(function, input_signature=inputs, autograph=False)
        return cls(name, graph, inputs, says, examples or {})

    def concrete(self) -> tf.types.experimental.ConcreteFunction:
        """Return the one graph that was traced for the inputs."""
        return self.function.get_concrete_function()  # type: ignore[attr-defined]

    def outputs(self) -> dict[str, tf.TensorSpec]:
        """Return the names, shapes and types of the outputs."""
        return dict(self.concrete().structured_outputs)

    def described(self) -> dict[str, Any]:
        """Return what a model's card says of it, in types that JSON knows."""
        sides = {
            "inputs": {spec.name: spec for spec in self.inputs},
            "outputs": self.outputs(),
        }
        return {"gives": self.says} | {
            side: {
                name: {"shape": [None, *spec.shape[1:]], "dtype": spec.dtype.name}
                for name, spec in specs.items()
            }
            for side, specs in sides.items()
        }


def signatures(
    vae: VAE | VQVAE,
    *,
    preprocessing: Preprocessing | None = None,
    num_samples: int = 100,
    threshold: float | None = None,
) -> list[Signature]:
    """Return the functions of a model, the default of a server first.

    - ``reconstruct``: of x `[B, *event_shape]`; returns x `[B, *event_shape]`, the mean of p(x|z)
    - ``encode``: of x; returns loc (the code) `[B, d]`; and scale `[B, d]` of q(z|x), where that
      has a closed form
    - ``decode``: of z `[B, d]`; returns x, the mean of p(x|z)
    - ``sample``: of seed `[B, 2]`; returns x, the mean of p(x|z) at a z from p(z)
    - ``interpolate``: of start, end (events), weight `[B]`; returns x, decoded so far on the line
      from the code of start (weight 0) to that of end (weight 1)
    - ``elbo``: of x, seed; returns elbo, log_likelihood, kl, each `[B]`, nats
    - ``log_prob``: of x, seed; returns log_prob `[B]`, nats, by importance sampling, and
      effective_sample_size `[B]`
    - ``anomaly_score``: of x; returns score `[B]`, −ELBO in nats; threshold `[B]`; and is_anomaly
      `[B]`, whether the score is above it
    - ``impute``: of x, seed; returns x with its holes filled; of models for missing values alone
    - ``log_joint``: of x, z; returns log_joint, log p(x, z); log_likelihood, log p(x|z); log_prior,
      log p(z), each `[B]`, nats
    - ``log_posterior``: of x, z; returns log_posterior, log q(z|x), `[B]`, nats
    - ``posterior_parameters``: of x; returns what q(z|x) is made from, such as loc and log_var `[B,
      d]`
    - ``sample_posterior``: of x, seed; returns z `[B, d]` from q(z|x); and log_posterior, log
      q(z|x), `[B]`, nats
    - ``sample_latent``: of seed; returns z `[B, d]` from p(z)

    With the last five a client can estimate log p(x) for itself, whatever prior and posterior are:
    it is the mean of ``exp(log_joint − log_posterior)`` over draws of ``sample_posterior``.

    Events are called ``images`` where they are images, `[B, H, W, C]`, and ``x`` where they are
    vectors, series or volumes. If the model takes missing values, NaN in them means that a value
    was not observed, and every density is that of the observed ones.

    A seed is a pair of whole numbers for each row, int32 `[B, 2]`; equal seeds give equal draws.
    Each signature of a conditional model has one input more, ``label [B]`` of int32.

    With `preprocessing`, the signatures above ``impute`` that take ``images`` come twice more:
    ``NAME_uint8`` for images of bytes, and ``NAME_png`` for PNG and JPEG files of any size, strings
    ``image_bytes [B]``; and ``reconstruct_png`` and ``sample_png`` return PNG files.

    A `VQVAE` has others:

    - ``reconstruct``: as above
    - ``encode``: of x; returns codes, int32 `[B, *code_shape]`
    - ``decode``: of codes; returns x, the mean of p(x|c)
    - ``sample``: of seed; returns x, the mean of p(x|c) at codes from p(c)
    - ``bound``: of x; returns bound, log_likelihood, log_prior, each `[B]`, nats
    - ``anomaly_score``: of x; as above, with the negative bound
    - ``log_prior``: of codes; returns log_prior, log p(c), `[B]`, nats
    - ``sample_codes``: of seed; returns codes from p(c)

    Args:
        vae: a built `VAE` or `VQVAE`.
        preprocessing: how bytes become the model's values; None where no bytes do.
        num_samples: K, draws of ``log_prob`` and ``impute``.
        threshold: of ``anomaly_score``; without one it is NaN, and nothing is an anomaly.

    Raises:
        InputError: if a number does not fit, q(z|x) has no density, or there is preprocessing of
            bytes for events that are no images.
    """
    kind = _Functions
    if isinstance(vae, VQVAE):
        check_vq(vae)
        kind = _CodeFunctions
    else:
        check_vae(vae)
    checked_count("num_samples", num_samples)
    if preprocessing is not None:
        spec = vae.event_spec
        if spec.rank != 3:
            raise InputError(
                "bytes and PNG files are for images [batch, height, width, channels], and the "
                f"model takes {spec.noun} {list(spec.shape)}: leave out the preprocessing"
            )
        preprocessing = dataclasses.replace(preprocessing, step=spec.support.step)
    return kind(vae, preprocessing, num_samples, threshold).all()


@dataclasses.dataclass(frozen=True, eq=False)
class _Functions:
    """The functions, each of float32 events."""

    vae: Any
    preprocessing: Preprocessing | None
    num_samples: int
    threshold: float | None

    @property
    def _x(self) -> str:
        return event_name(self.vae.event_spec)

    def all(self) -> list[Signature]:
        """Return the signatures."""
        vae, draws = self.vae, self.num_samples

        def spec(name: str, *shape: int, dtype: tf.DType = tf.float32) -> tf.TensorSpec:
            return tf.TensorSpec((None, *shape), dtype, name=name)

        x, start, end = (spec(name, *vae.event_shape) for name in (self._x, "start", "end"))
        z, weight = spec("z", vae.latent_dim), spec("weight")
        seed = spec("seed", 2, dtype=tf.int32)
        bound = functools.partial
        # Those that come in forms for bytes too.
        first: list[_Row] = [
            ("reconstruct", bound(reconstruct, vae), [x], "the mean of p(x|z) at the code of x"),
            ("encode", bound(encode, vae), [x], "the code (loc), and the scale of q(z|x)"),
            ("decode", bound(decode, vae), [z], "the mean of p(x|z)"),
            ("sample", self.sample, [seed], "the mean of p(x|z) at a draw of z from p(z)"),
            (
                "interpolate",
                self.interpolate,
                [start, end, weight],
                "a point on the line between two codes, decoded",
            ),
            ("elbo", self.elbo, [x, seed], "the ELBO and its two terms, nats"),
            (
                "log_prob",
                self.log_prob,
                [x, seed],
                f"log p(x) by importance sampling with {draws} draws, nats",
            ),
            (
                "anomaly_score",
                self.anomaly_score,
                [x],
                f"the negative ELBO of {SCORE_DRAWS} draws, nats, and whether it is unusual",
            ),
        ]
        others: list[_Row] = [
            (
                "impute",
                self.impute,
                [x, seed],
                f"x with what is missing filled, by importance sampling with {draws} draws",
            ),
            ("log_joint", self.log_joint, [x, z], "log p(x, z) and its two terms, nats"),
            ("log_posterior", self.log_posterior, [x, z], "log q(z|x), nats"),
            ("posterior_parameters", self.posterior_parameters, [x], "what q(z|x) is made from"),
            (
                "sample_posterior",
                self.sample_posterior,
                [x, seed],
                "a draw of z from q(z|x), and log q(z|x), nats",
            ),
            ("sample_latent", self.sample_latent, [seed], "a draw of z from p(z)"),
        ]
        if not vae.missing:
            del others[0]
        found = [signature for row in first for signature in self._forms(*row)]
        return found + [self._plain(*row) for row in others]

    # --- what each computes -----------------------------------------------------------------------

    def sample(self, seed: Tensor, label: Tensor | None = None) -> Outputs:
        return decode(self.vae, self._draw_latent(seed, label), label)

    def interpolate(
        self, start: Tensor, end: Tensor, weight: Tensor, label: Tensor | None = None
    ) -> Outputs:
        codes = [self.vae.code(x, label) for x in (start, end)]
        weight = weight[:, None]
        return decode(self.vae, (1 - weight) * codes[0] + weight * codes[1], label)

    def elbo(self, x: Tensor, seed: Tensor, label: Tensor | None = None) -> Outputs:
        return self.vae.elbo(x, label, seed=seed)._asdict()

    def log_prob(self, x: Tensor, seed: Tensor, label: Tensor | None = None) -> Outputs:
        z, log_posterior = self._posterior_draws(x, seed, label)
        found = log_mean_weight(
            self.vae, lambda z: self._log_joint(x, z, label)["log_joint"], z, log_posterior
        )
        return dict(zip(("log_prob", "effective_sample_size"), found, strict=True))

    def anomaly_score(self, x: Tensor, label: Tensor | None = None) -> Outputs:
        seeds = tf.tile(tf.constant([_SCORE_SEED], tf.int32), [tf.shape(x)[0], 1])
        score = -self.vae.elbo(x, label, num_samples=SCORE_DRAWS, seed=seeds).elbo
        limit = float("nan") if self.threshold is None else self.threshold
        threshold = tf.fill(tf.shape(score), limit)
        return {"score": score, "threshold": threshold, "is_anomaly": score > threshold}

    def impute(self, x: Tensor, seed: Tensor, label: Tensor | None = None) -> Outputs:
        return {self._x: imputed(self.vae, x, label, *self._posterior_draws(x, seed, label))}

    def _posterior_draws(
        self, x: Tensor, seed: Tensor, label: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        encoded = self._encode(x, label)
        return self.vae.posterior_family.sample_each(encoded, self.num_samples, seed)

    def log_joint(self, x: Tensor, z: Tensor, label: Tensor | None = None) -> Outputs:
        return {name: value[0] for name, value in self._log_joint(x, z[None], label).items()}

    def log_posterior(self, x: Tensor, z: Tensor, label: Tensor | None = None) -> Outputs:
        posterior = self.vae.posterior_family.distribution(self._encode(x, label))
        return {"log_posterior": posterior.log_prob(z)}

    def posterior_parameters(self, x: Tensor, label: Tensor | None = None) -> Outputs:
        return self._encode(x, label)

    def sample_posterior(self, x: Tensor, seed: Tensor, label: Tensor | None = None) -> Outputs:
        encoded = self._encode(x, label)
        z, log_posterior = self.vae.posterior_family.sample_each(encoded, 1, seed)
        return {"z": z[0], "log_posterior": log_posterior[0]}

    def sample_latent(self, seed: Tensor, label: Tensor | None = None) -> Outputs:
        return {"z": self._draw_latent(seed, label)}

    # --- graphs that several of them call, which makes files smaller ------------------------------

    @functools.cached_property
    def _encode(self) -> Callable[..., Outputs]:
        return tf.function(self.vae.posterior_parameters, autograph=False)

    @functools.cached_property
    def _log_joint(self) -> Callable[..., Outputs]:
        # Of z [n, B, d], whatever n is.
        function = functools.partial(_log_joint, self.vae)
        return tf.function(function, autograph=False, reduce_retracing=True)

    @functools.cached_property
    def _draw_latent(self) -> Callable[..., Tensor]:
        return tf.function(self.vae.draw_latent, autograph=False)

    @functools.cached_property
    def _read_files(self) -> Callable[[Tensor], Tensor]:
        spec = tf.TensorSpec((None,), tf.string)
        preprocessing: Any = self.preprocessing
        read = functools.partial(preprocessing.of_files, image_shape=self.vae.event_shape)
        return tf.function(read, input_signature=[spec], autograph=False)

    @functools.cached_property
    def _checked(self) -> Callable[[Tensor], Tensor]:
        return tf.function(functools.partial(_checked, self.vae.event_spec), autograph=False)

    # --- the forms that events come in ------------------------------------------------------------

    def _plain(
        self,
        name: str,
        function: Callable[..., Outputs],
        inputs: list[tf.TensorSpec],
        says: str,
    ) -> Signature:
        """Build a function's signature of float32 events, which are checked."""
        if self.vae.num_classes is not None:
            inputs = [*inputs, tf.TensorSpec((None,), tf.int32, name="label")]
        checks: dict[str, Callable[[Tensor], Tensor]] = {"label": self._checked_label}
        checks |= dict.fromkeys((self._x, "start", "end"), self._checked)

        events = (self._x, "start", "end")

        def guarded(*given: Tensor) -> Outputs:
            count = tf.shape(given[0])[0]
            values = []
            for value, spec in zip(given, inputs, strict=True):
                checked = checks[spec.name](value) if spec.name in checks else value
                blank = self.vae.event_spec.blank(1) if spec.name in events else None
                values.append(_one_at_least(checked, count, blank))
            return {name: value[:count] for name, value in function(*values).items()}

        return Signature.of(name, guarded, inputs, says)

    def _forms(
        self,
        name: str,
        function: Callable[..., Outputs],
        inputs: list[tf.TensorSpec],
        says: str,
    ) -> list[Signature]:
        """Build a function's signature, and those of it that take and return bytes."""
        vae, preprocessing = self.vae, self.preprocessing
        plain = self._plain(name, function, inputs, says)
        # All forms call the one graph.
        graph, inputs, found = plain.function, list(plain.inputs), [plain]
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

            def of_files(files: Tensor, *given: Tensor) -> Outputs:
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

    def _checked_label(self, label: Tensor) -> Tensor:
        """Refuse labels of no class, which would be taken for none of all."""
        count: Any = self.vae.num_classes
        expected = f"expected labels from 0 to {count - 1}; received labels between"
        fits = tf.reduce_all((label >= 0) & (label < count))
        return _admitted(label, fits, expected, label)


class _CodeFunctions(_Functions):
    """The functions of a model with codes."""

    def all(self) -> list[Signature]:
        """Return the signatures."""
        vae: VQVAE = self.vae
        x = tf.TensorSpec((None, *vae.event_shape), tf.float32, name=self._x)
        codes = tf.TensorSpec((None, *vae.code_shape), tf.int32, name="codes")
        seed = tf.TensorSpec((None, 2), tf.int32, name="seed")
        first: list[_Row] = [
            (
                "reconstruct",
                functools.partial(reconstruct, vae),
                [x],
                "the mean of p(x|c) at the codes of x",
            ),
            ("encode", self.codes_of, [x], "the codes, whole numbers"),
            ("decode", self.decode_codes, [codes], "the mean of p(x|c)"),
            ("sample", self.sample, [seed], "the mean of p(x|c) at a draw of c from p(c)"),
            (
                "bound",
                self.bound,
                [x],
                "log p(x|c) + log p(c) at the codes of x, which log p(x) is not below, nats",
            ),
            (
                "anomaly_score",
                self.anomaly_score,
                [x],
                "the negative bound, nats, and whether it is unusual",
            ),
        ]
        others: list[_Row] = [
            ("log_prior", self.log_prior, [codes], "log p(c), nats"),
            ("sample_codes", self.sample_codes, [seed], "a draw of c from p(c)"),
        ]
        found = [signature for row in first for signature in self._forms(*row)]
        return found + [self._plain(*row) for row in others]

    def codes_of(self, x: Tensor, label: Tensor | None = None) -> Outputs:
        return {"codes": self.vae.codes(x, label)}

    def decode_codes(self, codes: Tensor, label: Tensor | None = None) -> Outputs:
        return decode(self.vae, self.vae.code_vectors(self._checked_codes(codes)), label)

    def sample(self, seed: Tensor, label: Tensor | None = None) -> Outputs:
        return self.decode_codes(self._draw_codes(seed, label), label)

    def bound(self, x: Tensor, label: Tensor | None = None) -> Outputs:
        return self.vae.bound(x, label)._asdict()

    def anomaly_score(self, x: Tensor, label: Tensor | None = None) -> Outputs:
        score = -self.vae.bound(x, label).bound
        limit = float("nan") if self.threshold is None else self.threshold
        threshold = tf.fill(tf.shape(score), limit)
        return {"score": score, "threshold": threshold, "is_anomaly": score > threshold}

    def log_prior(self, codes: Tensor, label: Tensor | None = None) -> Outputs:
        return {"log_prior": self.vae.log_prior(self._checked_codes(codes), label)}

    def sample_codes(self, seed: Tensor, label: Tensor | None = None) -> Outputs:
        return {"codes": self._draw_codes(seed, label)}

    def _checked_codes(self, codes: Tensor) -> Tensor:
        expected = f"codes are from 0 to {self.vae.num_codes - 1}; received codes between"
        return _admitted(codes, self.vae.admits_codes(codes), expected, codes)

    @functools.cached_property
    def _draw_codes(self) -> Callable[..., Tensor]:
        return tf.function(self.vae.draw_codes, autograph=False)


def _log_joint(vae: VAE, x: Tensor, z: Tensor, label: Tensor | None) -> Outputs:
    """Compute log p(x, z) and its two terms, each `[n, B]`, nats, of z `[n, B, d]`."""
    log_likelihood = vae.log_likelihood(x, z, label)
    log_prior = vae.prior_of(label).log_prob(z)
    return {
        "log_joint": log_likelihood + log_prior,
        "log_likelihood": log_likelihood,
        "log_prior": log_prior,
    }


def _one_at_least(value: Tensor, count: Tensor, blank: Tensor | None) -> Tensor:
    """Return a batch, or one row for a batch of none, which reshapes in networks cannot take."""
    row = tf.zeros((1, *value.shape[1:]), value.dtype) if blank is None else blank
    found = tf.cond(tf.equal(count, 0), lambda: row, lambda: value)
    return tf.ensure_shape(found, (None, *value.shape[1:]))


def _checked(spec: EventSpec, x: Tensor) -> Tensor:
    """Refuse events with values that have no density, as the model does outside of a graph."""
    expected = f"{spec.owner} expects {spec.support}; received values between"
    present = tf.boolean_mask(x, ~tf.math.is_nan(x)) if spec.missing else x
    return _admitted(x, spec.admits(x), expected, present)


def _admitted(value: Tensor, fits: Tensor, expected: str, received: Tensor) -> Tensor:
    """Return a value, or end the call with what was expected and the range of what came.

    By TensorFlow's own assertion: a served graph has no Python to raise an error in.
    """
    words = [expected, tf.reduce_min(received), "and", tf.reduce_max(received)]
    with tf.control_dependencies([tf.debugging.Assert(fits, words)]):
        return tf.identity(value)
