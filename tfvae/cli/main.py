"""The command line. It loads TensorFlow only when a command runs."""

import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import cyclopts
from cyclopts import App, Parameter, validators
from cyclopts.config import Toml

from tfvae import __version__
from tfvae.errors import DivergenceError, InputError, WorkerError
from tfvae.finite import without_nan
from tfvae.saving.config import DataOptions, TrainConfig, whole

if TYPE_CHECKING:
    from tfvae.saving.run import TrainedModel

app = App(
    name="tfvae",
    help="Variational autoencoders: train on images, look at the model, export it.",
    version=__version__,
    # Markdown would take as long to load as all the rest.
    help_format="plaintext",
)

Model = Annotated[
    Path, Parameter(help="A run directory of tfvae train, a model.keras file or a SavedModel.")
]
Out = Annotated[Path, Parameter(help="Picture to write.")]
Overwrite = Annotated[bool, Parameter(help="Replace what is at --out.", negative=())]
AsJson = Annotated[bool, Parameter(name="--json", help="Print JSON.", negative=())]
Seed = Annotated[int, whole("Seed of the draws.", least=0)]


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line; a mistake in what was given ends with one line and status 2."""
    tokens = list(sys.argv[1:] if argv is None else argv)
    try:
        command, bound, *_ = app.parse_args(tokens, exit_on_error=False, print_error=False)
        config = bound.arguments.get("config")
        if config is not None:
            app.config = (Toml(config, must_exist=True, use_commands_as_keys=False),)
            command, bound, *_ = app.parse_args(tokens, exit_on_error=False, print_error=False)
        command(*bound.args, **bound.kwargs)
    except cyclopts.CycloptsError as error:
        _fail(f"{error} (see tfvae {' '.join(tokens[:1])} --help)")
    except InputError as error:
        _fail(error)
    except (DivergenceError, WorkerError) as error:
        _fail(error, status=1)
    except OSError as error:
        place = f" {error.filename}" if error.filename else ""
        _fail(f"cannot use{place}: {error.strerror or error}: choose another place")
    except KeyboardInterrupt:
        sys.exit(130)


def _fail(message: Any, status: int = 2) -> None:
    print(f"tfvae: error: {' '.join(str(message).split())}", file=sys.stderr)
    sys.exit(status)


def _load_tensorflow(start_devices: bool = True) -> None:
    """Load TensorFlow without its start-up messages, unless the user has set a log level.

    The first of them come before any level is read, straight to the file descriptor: it points
    elsewhere for that long. Should the import fail, they are shown after all.

    Args:
        start_devices: whether to start the devices here as well, which have messages of their own.
    """
    if "TF_CPP_MIN_LOG_LEVEL" in os.environ:
        return
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as messages:
        os.dup2(messages.fileno(), 2)
        try:
            import tensorflow as tf

            tf.config.list_physical_devices()
            if start_devices:
                tf.zeros(())  # the devices start with the first operation
        except BaseException:
            messages.seek(0)
            os.write(stderr, messages.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)


def _open(model: Path) -> "TrainedModel":
    from tfvae.saving.files import find_model

    find_model(model)  # a wrong path shows at once, not when TensorFlow has loaded
    _load_tensorflow()
    from tfvae.saving.run import TrainedModel

    return TrainedModel.open(model)


def _write_picture(figure: Any, out: Path, overwrite: bool, as_json: bool, **facts: Any) -> None:
    _save_picture(figure, out, overwrite)
    _print({"out": str(out), **facts}, as_json, f"wrote {out}")


def _save_picture(figure: Any, out: Path, overwrite: bool, option: str = "--out") -> None:
    from tfvae import plotting

    _check_picture(out, overwrite, option)  # again: the work may have taken hours
    plotting.save(figure, out)


def _check_picture(out: Path, overwrite: bool, option: str = "--out") -> None:
    """Refuse before the work, not after it, what cannot be written."""
    if out.suffix.lower() not in (".png", ".pdf", ".svg", ".jpg"):
        raise InputError(f"{option} is a .png, .jpg, .pdf or .svg file; received {out}")
    if not overwrite:
        from tfvae.saving.files import refuse_existing

        refuse_existing(out, f"choose another {option} or give --overwrite")


def _print(facts: dict[str, Any], as_json: bool, text: str) -> None:
    print(json.dumps(without_nan(facts)) if as_json else text)


@app.command
def train(
    *,
    config: Annotated[
        Path | None, Parameter(help="TOML file with any of the options below.")
    ] = None,
    resume: Annotated[
        Path | None,
        Parameter(
            help="Go on with the training of this run directory, which was stopped or has crashed; "
            "its own options hold."
        ),
    ] = None,
    options: TrainConfig = TrainConfig(),  # noqa: B008 - frozen
    as_json: AsJson = False,
) -> None:
    """Train a VAE on images, and fill a run directory.

    It holds config.toml, metrics.csv, model.keras, saved_model/, test.json,
    checkpoints/, tensorboard/ and pictures: samples.png, reconstructions.png,
    latent.png, curves.png.

    Ctrl-C ends the training and keeps the model as it is; SIGTERM only writes a
    checkpoint. Either can be gone on from with --resume, as can a crash.

    Where TF_CONFIG names several workers, run the same command in each.
    """
    from tfvae.saving.files import refuse_existing

    if resume is not None and (config is not None or options != TrainConfig()):
        raise InputError("--resume goes on with the options of the run: leave the others out")
    if options.run_dir is not None and "TF_CONFIG" not in os.environ:
        refuse_existing(options.run_dir, "choose another --run-dir or remove it first")
    # Workers have to find each other before a device starts.
    _load_tensorflow(start_devices="TF_CONFIG" not in os.environ)
    import dataclasses

    from tfvae.cli import job

    done = job.start(options) if resume is None else job.resume(resume)
    run_dir, score = done.run_dir, done.score
    if score is not None:
        facts = {"run_dir": str(run_dir), **dataclasses.asdict(score)}
        _print(
            facts,
            as_json,
            f"""
test ELBO   {score.elbo:.2f} ± {score.standard_error:.2f} nats per image ({score.images} images):
            log-likelihood {score.log_likelihood:.2f}, KL {score.kl:.2f}
run         {run_dir}: model.keras, saved_model/, metrics.csv, config.toml, tensorboard/
pictures    samples.png, reconstructions.png, latent.png, curves.png in the same place
try next    tfvae sample {run_dir} --out samples.png
            tfvae traverse {run_dir} --out walk.png
            tfvae evaluate {run_dir}
            tfvae export {run_dir} --out my_model""",
        )
    if done.stopped is not None:
        print(f"stopped: tfvae train --resume {run_dir} goes on from here", file=sys.stderr)
        # As a shell sees a program that a signal ended; a model that was kept is a success.
        sys.exit(0 if score is not None else 128 + done.stopped)


@app.command
def evaluate(
    model: Model,
    /,
    *,
    split: Annotated[
        Literal["train", "validation", "test"], Parameter(help="Which images.")
    ] = "test",
    num_samples: Annotated[
        int, whole("Draws of z for each image. For a paper 5000 is usual.", least=1)
    ] = 100,
    limit: Annotated[
        int | None, whole("Take so many images, drawn at random; by default all.", least=1)
    ] = None,
    ais: Annotated[
        bool,
        Parameter(
            help="Also run annealed importance sampling on some of the images, and bounds from "
            "both sides on samples from the model.",
            negative=(),
        ),
    ] = False,
    ais_images: Annotated[int, whole("Images of --ais.", least=1)] = 50,
    ais_steps: Annotated[int, whole("Temperatures of --ais.", least=1)] = 200,
    latent: Annotated[
        bool,
        Parameter(
            help="Also score the codes: by the labels, with a linear probe and nearest neighbours; "
            "and by the known factors of shapes.",
            negative=(),
        ),
    ] = False,
    picture: Annotated[
        Path | None, Parameter(help="Picture of the latent space's diagnosis to write.")
    ] = None,
    overwrite: Annotated[
        bool, Parameter(help="Replace what is at --picture.", negative=())
    ] = False,
    batch_size: Annotated[int, whole("Images encoded at a time.", least=1)] = 256,
    seed: Seed = 0,
    data: DataOptions = DataOptions(),  # noqa: B008 - frozen
    as_json: AsJson = False,
) -> None:
    """Print ELBO and log p(x) of a model with their errors, and what its latent space does.

    Ctrl-C ends it with the figures of the images so far.
    """
    if picture is not None:
        _check_picture(picture, overwrite, "--picture")
    trained = _open(model)
    from tfvae import datasets
    from tfvae.evaluation import report

    with datasets.input_errors():
        found = report.evaluate(
            trained.vae,
            trained.data(data),
            split,
            num_samples=num_samples,
            limit=limit,
            annealed_images=ais_images if ais else 0,
            annealing_steps=ais_steps,
            latent=latent,
            batch_size=batch_size,
            seed=seed,
            progress=sys.stderr.isatty(),
        )
    if picture is not None and found.diagnosis is not None:
        _save_picture(found.diagnosis.plot(), picture, overwrite, "--picture")
    _print(found.as_dict(), as_json, str(found))
    if not found.complete:
        print("tfvae: interrupted: these are the figures of the images so far", file=sys.stderr)
        sys.exit(130)


@app.command
def sample(
    model: Model,
    /,
    *,
    n: Annotated[int, whole("How many images.", least=1)] = 64,
    label: Annotated[
        int | None,
        whole("Label of the images, for a conditional model; by default some of each.", least=0),
    ] = None,
    ex_post: Annotated[
        str | None,
        Parameter(
            help="Sample not from the prior, but from a density fitted to the codes of the "
            "training images: gaussian_mixture, realnvp or maf, with options: "
            "gaussian_mixture:components=20."
        ),
    ] = None,
    out: Out = Path("samples.png"),
    data: DataOptions = DataOptions(),  # noqa: B008 - frozen
    seed: Seed = 0,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Draw images from the prior."""
    _check_picture(out, overwrite)
    trained = _open(model)
    from tfvae import datasets, plotting
    from tfvae.evaluation import expost

    vae = trained.vae
    if ex_post is not None:
        with datasets.input_errors():
            batches = trained.data(data).train.batches(256, epoch=0)
            vae = vae.with_prior(expost.fit_prior(vae, batches, ex_post, seed=seed))
    labels = plotting.grid_labels(vae.num_classes, n) if label is None else label
    figure = plotting.image_grid(vae.sample(n, label=labels, seed=seed))
    _write_picture(figure, out, overwrite, as_json, n=n, seed=seed)


@app.command
def reconstruct(
    model: Model,
    /,
    *,
    n: Annotated[int, whole("How many test images.", least=1)] = 10,
    out: Out = Path("reconstructions.png"),
    data: DataOptions = DataOptions(),  # noqa: B008 - frozen
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Show test images above their reconstructions."""
    _check_picture(out, overwrite)
    trained = _open(model)
    from tfvae import plotting

    images, labels = trained.arrays(data, limit=n)
    figure = plotting.reconstructions(images, trained.vae.reconstruct(images, labels))
    _write_picture(figure, out, overwrite, as_json, n=len(images))


@app.command
def interpolate(
    model: Model,
    /,
    *,
    pairs: Annotated[int, whole("Pairs of test images.", least=1)] = 6,
    steps: Annotated[int, whole("Images in a row, both ends included.", least=2)] = 10,
    out: Out = Path("interpolation.png"),
    data: DataOptions = DataOptions(),  # noqa: B008 - frozen
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Walk in latent space from one test image to another."""
    _check_picture(out, overwrite)
    trained = _open(model)
    import numpy as np

    from tfvae import plotting

    if trained.vae.num_classes is None:
        images, labels = trained.arrays(data, limit=2 * pairs)
        first, second = np.split(np.arange(len(images) // 2 * 2), 2)
    else:  # both ends of a line have one label
        images, labels = trained.arrays(data)
        first, second = _pairs_of_a_label(labels, pairs)
        labels = np.asarray(labels)[first]
    if not len(first):
        of_a_label = "" if labels is None else " of one label"
        raise InputError(f"expected at least two test images{of_a_label}")
    pairs = len(first)
    rows = trained.vae.interpolate(images[first], images[second], steps, labels)
    _write_picture(plotting.image_rows(rows), out, overwrite, as_json, pairs=pairs, steps=steps)


def _pairs_of_a_label(labels: Any, pairs: int) -> tuple[Any, Any]:
    """Give the rows of up to so many pairs of images, the label going round."""
    import numpy as np

    rows = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    found = [
        (of_label[2 * round_], of_label[2 * round_ + 1])
        for round_ in range(pairs)
        for of_label in rows
        if len(of_label) > 2 * round_ + 1
    ]
    first, second = np.array(found[:pairs], int).reshape(-1, 2).T
    return first, second


@app.command
def traverse(
    model: Model,
    /,
    *,
    image: Annotated[int, whole("Which test image to start from.", least=0)] = 0,
    dimensions: Annotated[
        list[int] | None,
        Parameter(
            help="Latent dimensions, a row each; by default the ten whose codes vary most.",
            consume_multiple=True,
            negative=(),
        ),
    ] = None,
    steps: Annotated[int, whole("Images in a row.", least=2)] = 11,
    extent: Annotated[
        float, Parameter(help="Walk from -EXTENT to EXTENT.", validator=validators.Number(gt=0))
    ] = 3.0,
    out: Out = Path("traversal.png"),
    data: DataOptions = DataOptions(),  # noqa: B008 - frozen
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Change one latent dimension at a time, and see what it does to the picture."""
    _check_picture(out, overwrite)
    trained = _open(model)
    import numpy as np

    from tfvae import plotting

    vae = trained.vae
    images, labels = trained.arrays(data, limit=max(512, image + 1))
    if image >= len(images):
        raise InputError(f"--image is a number from 0 to {len(images) - 1}; received {image}")
    if dimensions is None:
        # The codes of an unused dimension are all the same.
        spread = np.var(vae.code(images[:512], None if labels is None else labels[:512]), axis=0)
        dimensions = [int(dimension) for dimension in np.argsort(-spread)[:10]]
    values = np.linspace(-extent, extent, steps)
    label = None if labels is None else labels[image]
    rows = np.stack([vae.traverse(images[image], one, values, label) for one in dimensions])
    figure = plotting.image_rows(rows, [f"z[{one}]" for one in dimensions])
    _write_picture(figure, out, overwrite, as_json, image=image, dimensions=dimensions)


@app.command
def encode(
    model: Model,
    /,
    *,
    out: Annotated[Path, Parameter(help="Parquet file to write.")] = Path("embeddings.parquet"),
    split: Annotated[
        Literal["train", "validation", "test"] | None,
        Parameter(help="Which images; by default those of all three splits."),
    ] = None,
    limit: Annotated[
        int | None, whole("Take so many images of each split, the first.", least=1)
    ] = None,
    batch_size: Annotated[int, whole("Images encoded at a time.", least=1)] = 256,
    data: DataOptions = DataOptions(),  # noqa: B008 - frozen
    overwrite: Annotated[
        bool,
        Parameter(help="Replace what is at --out, and begin other work there anew.", negative=()),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Write the codes of a data set into a Parquet file, a row an image.

    Its columns are split, row, label, code, scale and kl.

    Stopped by Ctrl-C, a crash or a kill -9, the same command goes on from there.
    """
    if not overwrite:
        from tfvae.saving.files import refuse_existing

        refuse_existing(out, "choose another --out or give --overwrite")
    trained = _open(model)
    from tfvae import datasets
    from tfvae.serving import embedding

    with datasets.input_errors():
        images = trained.data(data)
    try:
        done = embedding.encode(
            trained,
            images,
            out,
            splits=embedding.SPLITS if split is None else split,
            batch_size=batch_size,
            limit=limit,
            overwrite=overwrite,
            progress=sys.stderr.isatty(),
        )
    except KeyboardInterrupt:
        print("tfvae: interrupted: the same command goes on from here", file=sys.stderr)
        raise
    _print(done.as_dict(), as_json, str(done))


@app.command
def export(
    model: Model,
    /,
    *,
    out: Annotated[
        Path,
        Parameter(
            help="For a SavedModel the directory of the versions OUT/1, OUT/2 and so on, of which "
            "it makes the next; else the directory to make."
        ),
    ],
    form: Annotated[
        Literal["savedmodel", "onnx", "litert"], Parameter(name="--format", help="What to write.")
    ] = "savedmodel",
    num_samples: Annotated[
        int, whole("Draws of a SavedModel's signature log_prob.", least=1)
    ] = 100,
    data_licence: Annotated[
        str | None, Parameter(help="Licence of the images, for a SavedModel's card.")
    ] = None,
    quantize: Annotated[
        bool, Parameter(help="Keep the weights of LiteRT files in 8 bits.", negative=())
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Write a SavedModel for servers, or ONNX or LiteRT files for other runtimes.

    A SavedModel is the next version of a model; its README.md says how to call each
    signature. Of the other formats each function is a file, and takes its noise as an
    input.
    """
    if quantize and form != "litert":
        raise InputError(f"--quantize goes with --format litert; received --format {form}")
    if form != "savedmodel":
        from tfvae.saving.files import refuse_existing

        refuse_existing(out, "choose another --out or remove it first")
    trained = _open(model)
    if form == "savedmodel":
        _export_saved_model(trained, out, num_samples, data_licence, as_json)
        return
    from tfvae.serving import runtimes

    try:
        if form == "onnx":
            done = runtimes.export_onnx(trained.vae, out)
        else:
            done = runtimes.export_litert(trained.vae, out, quantize=quantize)
    except RuntimeError as error:
        raise InputError(str(error)) from error
    lines = [f"wrote {out}: {', '.join(done.functions)}; {done.bytes / 1e6:.1f} MB"]
    lines += [f"without {name}: {reason}" for name, reason in done.left_out.items()]
    _print(done.as_dict(), as_json, "\n".join(lines))


def _export_saved_model(
    trained: "TrainedModel", out: Path, num_samples: int, data_licence: str | None, as_json: bool
) -> None:
    from tfvae.serving.export import publish_saved_model

    card = trained.card()
    if data_licence is not None:
        card = card.with_licence(data_licence)
    version, signatures = publish_saved_model(trained.vae, out, card=card, num_samples=num_samples)
    facts = {"out": str(version), "signatures": signatures}
    _print(facts, as_json, f"wrote {version}: {', '.join(signatures)}")


@app.command
def explore(
    model: Model,
    /,
    *,
    host: Annotated[
        str,
        Parameter(help="Address to listen on; one that other machines reach needs a password."),
    ] = "127.0.0.1",
    port: Annotated[
        int | None, whole("Port to listen on; by default the first free one from 7860.", least=1)
    ] = None,
    password_file: Annotated[
        Path | None,
        Parameter(
            help="File with the password of the page; by default TFVAE_PASSWORD holds it, if any."
        ),
    ] = None,
    open_browser: Annotated[
        bool, Parameter(name="--open", help="Open the page in a browser.", negative=())
    ] = False,
    data: DataOptions = DataOptions(),  # noqa: B008 - frozen
) -> None:
    """Open a page to explore the latent space: sliders, samples, a map, your own images.

    Ctrl-C ends it.
    """
    from tfvae.app import server as web

    password = web.read_password(password_file)
    web.check_access(host, password)
    web.gradio()  # that it is missing shows at once, not when TensorFlow has loaded
    trained = _open(model)
    from tfvae import datasets
    from tfvae.app import explorer

    with datasets.input_errors():
        explorer.explore(
            trained, data, host=host, port=port, password=password, open_browser=open_browser
        )


if __name__ == "__main__":
    main()
