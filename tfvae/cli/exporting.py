"""Commands that write what other programs read: ``tfvae encode`` and ``tfvae export``."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from tfvae.cli.options import AsJson, BatchSize, Model
from tfvae.cli.outputs import show
from tfvae.cli.start import open_model
from tfvae.errors import InputError
from tfvae.saving.config import DataOptions, whole

if TYPE_CHECKING:
    from tfvae.saving.run import TrainedModel


def encode(
    model: Model,
    /,
    *,
    out: Annotated[Path, Parameter(help="Parquet file to write.")] = Path("embeddings.parquet"),
    split: Annotated[
        Literal["train", "validation", "test"] | None,
        Parameter(help="Which events; by default those of all three splits."),
    ] = None,
    limit: Annotated[
        int | None, whole("Take so many events of each split, the first.", least=1)
    ] = None,
    batch_size: BatchSize = 256,
    data: DataOptions = DataOptions(),  # noqa: B008 - frozen
    overwrite: Annotated[
        bool,
        Parameter(help="Replace what is at --out, and begin other work there anew.", negative=()),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Write the codes of a data set into a Parquet file, a row an event.

    Its columns are split, row, file, label, code, scale and kl; file where each event is
    a file.

    Stopped by Ctrl-C, a crash or a kill -9, the same command goes on from there.
    """
    if not overwrite:
        from tfvae.saving.files import refuse_existing

        refuse_existing(out, "choose another --out or give --overwrite")
    trained = open_model(model)
    from tfvae import datasets
    from tfvae.serving import embedding

    with datasets.input_errors():
        found = trained.data(data)
    try:
        done = embedding.encode(
            trained,
            found,
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
    show(done.as_dict(), as_json, str(done))


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
        str | None, Parameter(help="Licence of the data, for a SavedModel's card.")
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
    trained = open_model(model, codes=form == "savedmodel")
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
    show(done.as_dict(), as_json, "\n".join(lines))


def _export_saved_model(
    trained: "TrainedModel", out: Path, num_samples: int, data_licence: str | None, as_json: bool
) -> None:
    from tfvae.serving.export import publish_saved_model

    card = trained.card()
    if data_licence is not None:
        card = card.with_licence(data_licence)
    version, signatures = publish_saved_model(trained.vae, out, card=card, num_samples=num_samples)
    facts = {"out": str(version), "signatures": signatures}
    show(facts, as_json, f"wrote {version}: {', '.join(signatures)}")


def push(
    model: Model,
    address: Annotated[str, Parameter(help="hf://OWNER/NAME; it is made if it is not there.")],
    /,
    *,
    public: Annotated[
        bool, Parameter(help="Let all see a repository that is made.", negative=())
    ] = False,
    license: Annotated[
        str | None,
        Parameter(
            help="The model's licence, in the hub's words (apache-2.0); by default that of the "
            "data, if it is known."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Put a trained model on a model hub, with its card and pictures.

    HF_TOKEN, or hf auth login, says who does it; HF_ENDPOINT names another hub than
    huggingface.co. tfvae.load and the commands take the same address.
    """
    from tfvae.saving.files import find_model

    find_model(model)
    from tfvae.saving import publish

    place = publish.push(model, address, private=not public, licence=license)
    show({"address": address, "page": place}, as_json, f"pushed to {place}")
