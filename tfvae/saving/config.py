"""The options of a training run: one declaration for the command line, its file and its help.

This module loads no TensorFlow, so that ``tfvae train --help`` answers at once.
"""

import dataclasses
import math
import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter, Token, validators

from tfvae.checks import MOST, MOST_SEED
from tfvae.errors import InputError
from tfvae.saving.validation import Validated

Binarization = Literal["none", "threshold", "static", "dynamic"]
Kind = Literal["table", "series", "image", "volume"]
Decay = Literal["cosine", "stages", "none"]
# Those of `tfvae.models.BY_NAME`, which loads TensorFlow.
Model = Literal["vae", "hierarchical", "vq"]
Logger = Literal["mlflow", "wandb"]
Precision = Literal["auto", "float32", "mixed_bfloat16", "mixed_float16"]


def _whole_number(type_: Any, tokens: Sequence[Token]) -> int:
    """Read a whole number; the library's own reading would round 3.5."""
    text = tokens[0].value
    if not re.fullmatch(r"[+-]?\d+", text):
        raise ValueError(f"expected a whole number, received {text}")
    return int(text)


def _real_number(type_: Any, tokens: Sequence[Token]) -> float:
    """Read a finite number; Python reads inf, and a training with it ends in NaN."""
    text = tokens[0].value
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"expected a finite number, received {text}")
    return number


def _option(text: str, **kwargs: Any) -> Parameter:
    return Parameter(help=text, **kwargs)


def whole(text: str, *, least: int, most: int = MOST, name: tuple[str, ...] = ()) -> Parameter:
    """Describe an option that takes a whole number, with its help text and names.

    Args:
        text: the help text.
        least: the smallest that it takes.
        most: the largest; by default what TensorFlow counts up to.
        name: its names, where they are not those of the argument.
    """
    return Parameter(
        name=name,
        help=text,
        converter=_whole_number,
        n_tokens=1,
        validator=validators.Number(gte=least, lte=most),
    )


def real(text: str, **limits: float) -> Parameter:
    """Describe an option that takes a finite number.

    Args:
        text: the help text.
        limits: gt, gte, lt and lte, as `cyclopts.validators.Number` takes them.
    """
    return Parameter(
        help=text,
        converter=_real_number,
        n_tokens=1,
        validator=validators.Number(**limits),
    )


@Parameter(name="*")
@dataclasses.dataclass(frozen=True)
class _Named(Validated):
    """The option that names the data; a class of its own, so that it comes first."""

    dataset: Annotated[
        str,
        _option(
            "mnist-small (13,000 images of MNIST, embedded), digits (8 x 8, embedded), shapes "
            "(drawn from known factors), a TFDS image set such as mnist or cifar10, or a path: a "
            "folder, zip or tar of pictures, a folder of IDX files, an .npy or .npz file of "
            "images, series, volumes or vectors, or a table (.csv, .tsv, .parquet, .feather); or "
            "a quoted pattern of many such files, 'parts/*.parquet', which workers share out."
        ),
    ] = "mnist-small"


@Parameter(name="*")
@dataclasses.dataclass(frozen=True)
class ReadingOptions(Validated):
    """How data are read, whatever they are called."""

    manual_dir: Annotated[
        Path | None, _option("Folder of a TFDS set's original files, downloaded before.")
    ] = None
    kind: Annotated[
        Kind | None,
        _option(
            "What the arrays of an .npy or .npz file hold (table: a vector each); by default what "
            "they look like."
        ),
    ] = None
    value_range: Annotated[
        str | None, _option("LOWEST,HIGHEST: the values that become 0 and 1, as in 0,4095.")
    ] = None
    missing: Annotated[
        bool,
        _option(
            "Take NaN and empty cells for values that were not observed; without it they are "
            "refused.",
            negative=(),
        ),
    ] = False
    column: Annotated[
        tuple[str, ...],
        _option(
            "NAME=KIND: what a column of a table is, where it looks like something else: number, "
            "fraction, count, category, ordered, boolean, date, or text to leave it out. "
            "Repeatable.",
            negative=(),
        ),
    ] = ()
    label: Annotated[str | None, _option("Column of a table to take labels from.")] = None
    drop: Annotated[
        tuple[str, ...], _option("Column of a table to leave out. Repeatable.", negative=())
    ] = ()
    image_size: Annotated[
        str | None, _option("Resize images to HEIGHTxWIDTH, or to a square: 28x20, 64.")
    ] = None
    background: Annotated[
        str, _option("Colour under transparent pictures: white, black or #rrggbb.")
    ] = "white"
    skip_damaged: Annotated[
        bool,
        _option("Leave out picture files that cannot be read instead of refusing.", negative=()),
    ] = False
    folder_labels: Annotated[
        bool, _option("Whether folders of pictures are classes; without, pictures have no labels.")
    ] = True
    binarize: Annotated[
        Binarization | None,
        _option(
            "Keep grey values; cut them at one half; or draw each pixel with its value as the "
            "probability, once (static) or anew each epoch (dynamic; validation and test once). By "
            "default none, and for mnist-small dynamic."
        ),
    ] = None
    dequantize: Annotated[
        bool,
        _option(
            "Add uniform noise of one grey level to images of bytes, anew each epoch (validation "
            "and test once): (byte + u) / 256. Not with --binarize.",
            negative=(),
        ),
    ] = False
    validation: Annotated[
        float,
        real(
            "Training events to choose a model by, where the data set has no such split: below 1 a "
            "fraction, from 1 a number.",
            gt=0,
        ),
    ] = 0.1
    test: Annotated[
        float,
        real(
            "Training events to report on, where the data set has no such split; as --validation.",
            gt=0,
        ),
    ] = 0.1


@Parameter(name="*")
@dataclasses.dataclass(frozen=True)
class TrainConfig(ReadingOptions, _Named):
    """Everything that a training run depends on; `config.toml` of a run directory holds it.

    The metadata of each field is its help text.
    """

    model: Annotated[
        Model,
        _option(
            "What to train: vae; hierarchical, whose latents are groups, each given those above; "
            "or vq, whose z are codes, with a prior over them."
        ),
    ] = "vae"
    latent_dim: Annotated[
        int | None,
        whole(
            "Dimensions of the latent space; by default 16, or half of the values of a smaller "
            "event. Of a hierarchy those of each group that is a vector; of vq those of each "
            "code's vector, by default 32.",
            least=1,
            most=2**16,
        ),
    ] = None
    groups: Annotated[
        str | None,
        _option(
            "Groups of latents of a hierarchy: how many vectors, by default 2; or the shape of "
            "each, the topmost first: 16,16,7x7x4."
        ),
    ] = None
    network: Annotated[
        str | None,
        _option(
            "Encoder and decoder: conv, residual or dense, with options: "
            "residual:filters=32x64,blocks=2, dense:hidden=200x200,activation=tanh. By default "
            "dense for vectors, conv for all others."
        ),
    ] = None
    likelihood: Annotated[
        str | None,
        _option(
            "p(x|z): bernoulli, continuous_bernoulli, normal, laplace, logistic, student_t, beta, "
            "discretized_logistic, discretized_logistic_mixture, categorical, poisson or "
            "negative_binomial, with options: normal:scale=0.1, normal:scale=learned. By default "
            "what the values ask for: bernoulli for 0 and 1, discretized_logistic for few levels "
            "and for bytes, normal:scale=learned for real numbers, and for a table a likelihood "
            "for each column."
        ),
    ] = None
    posterior: Annotated[
        str,
        _option(
            "q(z|x): normal, full_normal, iaf, coupling or relaxed_categorical, with options: "
            "iaf:flows=4."
        ),
    ] = "normal"
    prior: Annotated[
        str,
        _option(
            "p(z): standard_normal, mixture, vamp, realnvp, maf, class_normal or "
            "relaxed_categorical, with options: mixture:components=20."
        ),
    ] = "standard_normal"
    objective: Annotated[
        str | None,
        _option(
            "elbo, stl, free_bits, capacity, iwae, dreg, miwae, piwae, ciwae, beta_tc, factor or "
            "info, with options: elbo:beta=4, elbo:beta=linear(steps=1000), iwae:num_samples=5. "
            "By default elbo; of a hierarchy its beta rises over a quarter of the steps."
        ),
    ] = None
    quantizer: Annotated[
        str | None,
        _option(
            "Codes of --model vq: vq, fsq or residual, with options: vq:codes=256 (the default), "
            "fsq:levels=8x6x5, residual:depth=4."
        ),
    ] = None
    code_prior: Annotated[
        str | None,
        _option(
            "Prior of the codes of --model vq: transformer, with options: "
            "transformer:width=64,layers=3."
        ),
    ] = None
    prior_epochs: Annotated[
        int | None,
        whole(
            "Passes over the training data for the prior of --model vq, when its codes have been "
            "trained; by default as many as for these.",
            least=1,
        ),
    ] = None
    conditional: Annotated[
        bool, _option("Give the labels to encoder and decoder.", negative=())
    ] = False
    epochs: Annotated[
        int | None,
        whole(
            "Passes over the training data; by default as many as make 600 to 2000 steps, four "
            "for each event.",
            least=1,
        ),
    ] = None
    batch_size: Annotated[
        int | None,
        whole("Events in a step; by default 128, or about an eighth of a small data set.", least=1),
    ] = None
    learning_rate: Annotated[float, real("Adam's highest step size.", gt=0)] = 2e-3
    warm_up: Annotated[
        int, whole("Steps in which the step size rises from 0 to the highest.", least=0)
    ] = 0
    decay: Annotated[
        Decay,
        _option(
            "After that it falls to 0 along a cosine; or to a tenth in eight stages, each three "
            "times as long as the one before (Burda et al. 2016); or stays as it is."
        ),
    ] = "cosine"
    weight_decay: Annotated[
        float | None,
        real(
            "Shorten the kernels of all layers in each step by this times the step size, against "
            "learning by heart (0.1); biases, scales, mixtures and flows stay (AdamW).",
            gt=0,
        ),
    ] = None
    clip_norm: Annotated[
        float | None,
        real(
            "Shorten the gradient of all weights to this length where it is longer; of a hierarchy "
            "by default to 200.",
            gt=0,
        ),
    ] = None
    skip_norm: Annotated[
        float | None,
        real("Leave out a batch whose gradient of all weights is longer than this.", gt=0),
    ] = None
    accumulate: Annotated[int, whole("Batches whose gradients make one update.", least=1)] = 1
    average: Annotated[
        float | None,
        real(
            "Keep an exponential average of the weights, with this momentum (0.999), and validate "
            "and end with it.",
            gt=0,
            lt=1,
        ),
    ] = None
    patience: Annotated[
        int | None,
        whole(
            "Stop when the validation ELBO has not risen for so many epochs, and keep the best; by "
            "default, where --epochs is left open too, a quarter of them.",
            least=1,
        ),
    ] = None
    precision: Annotated[
        Precision,
        _option(
            "What the networks compute in; auto takes bfloat16 or float16 where the device is "
            "faster with it."
        ),
    ] = "auto"
    deterministic: Annotated[
        bool,
        _option(
            "Let the same run end in the same weights, bit for bit; slower on a GPU.", negative=()
        ),
    ] = False
    skip_non_finite: Annotated[
        bool,
        _option(
            "Leave out a batch whose loss or gradient is not finite, instead of stopping.",
            negative=(),
        ),
    ] = False
    checkpoint_seconds: Annotated[
        float,
        real("Write a checkpoint when so much time has passed since the last.", gte=0),
    ] = 60.0
    logger: Annotated[
        Logger | None,
        _option(
            "Log the run to MLflow or Weights & Biases as well: options, metrics of each epoch, "
            "scores and pictures. Needs the extra of that name."
        ),
    ] = None
    profile: Annotated[bool, _option("Profile some steps for TensorBoard.", negative=())] = False
    seed: Annotated[
        int,
        whole("Seed of splits, binarization, order, weights and noise.", least=0, most=MOST_SEED),
    ] = 0
    run_dir: Annotated[
        Path | None, _option("Directory to make; by default runs/DATASET-DATE-TIME.")
    ] = None

    def data_options(self) -> dict[str, Any]:
        """Return the arguments of `tfvae.datasets.load`.

        Raises:
            InputError: if a column has no kind.
        """
        return {**reading_arguments(self), "name": self.dataset, "seed": self.seed}

    def to_toml(self) -> str:
        """Return the options as TOML, those that are not set left out."""
        import tomli_w

        options = {
            field.name: str(value) if isinstance(value, Path) else value
            for field in dataclasses.fields(self)
            if (value := getattr(self, field.name)) not in (None, ())
        }
        return tomli_w.dumps(options)

    @classmethod
    def read(cls, path: Path) -> "TrainConfig":
        """Read what `to_toml` wrote.

        Raises:
            InputError: if the file is no TOML, or holds an unknown option or one that does not fit.
        """
        try:
            options = tomllib.loads(path.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise InputError(f"{path} is no TOML file: {error}") from None
        known = {field.name for field in dataclasses.fields(cls)}
        for name in options:
            if name not in known:
                raise InputError(f"unknown option {name!r} in {path}")
        # TOML has neither paths nor tuples.
        for name in ("manual_dir", "run_dir"):
            if isinstance(options.get(name), str):
                options[name] = Path(options[name])
        for name in ("column", "drop"):
            if isinstance(options.get(name), list):
                options[name] = tuple(options[name])
        try:
            return cls(**options)
        except InputError as error:
            raise InputError(f"{path}: {error}") from None


def reading_arguments(options: ReadingOptions) -> dict[str, Any]:
    """Return the arguments of `tfvae.datasets.load` that say how data are read.

    Raises:
        InputError: if a column has no kind.
    """
    found = {
        field.name: getattr(options, field.name) for field in dataclasses.fields(ReadingOptions)
    }
    columns = {}
    for entry in found.pop("column"):
        name, equals, kind = entry.rpartition("=")
        if not (equals and name and kind):
            raise InputError(f"--column is NAME=KIND, such as age=count; received {entry}")
        columns[name] = kind
    return {**found, "columns": columns or None}


@Parameter(name="*")
@dataclasses.dataclass(frozen=True)
class DataOptions(Validated):
    """Data for a trained model, where they are not those of its run."""

    dataset: Annotated[
        str | None, _option("Data to use; by default those that the run was trained on.")
    ] = None
    manual_dir: Annotated[
        Path | None, _option("Folder of a TFDS set's original files, downloaded before.")
    ] = None
    value_range: Annotated[str | None, _option("As for train; by default that of the run.")] = None
    image_size: Annotated[
        str | None, _option("Resize images to HEIGHTxWIDTH; by default as the run's were.")
    ] = None
    background: Annotated[str | None, _option("As for train; by default that of the run.")] = None
    skip_damaged: Annotated[bool | None, _option("As for train.", negative=())] = None
    folder_labels: Annotated[bool | None, _option("As for train.")] = None
    unseen: Annotated[
        Literal["refuse", "missing"] | None,
        _option(
            "What becomes of a table's categories that the model was not trained on: refuse them, "
            "the default, or count them as missing."
        ),
    ] = None
    binarize: Annotated[Binarization | None, _option("As for train.")] = None
    dequantize: Annotated[bool | None, _option("As for train.")] = None
