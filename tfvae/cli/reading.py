"""``tfvae data``: what would be read, without training on it."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from tfvae.checks import MOST_SEED
from tfvae.cli.options import AsJson
from tfvae.cli.outputs import check_out, save_picture, show
from tfvae.cli.wording import as_options
from tfvae.quiet import load_for_command
from tfvae.saving.config import ReadingOptions, TrainConfig, whole

if TYPE_CHECKING:
    from tfvae import datasets

# Events of each split that are looked at for what is suspicious.
_LIMIT = 20_000


def data(
    dataset: Annotated[
        str, Parameter(help="A path, a pattern or the name of a data set, as train takes it.")
    ],
    /,
    *,
    out: Annotated[
        Path,
        Parameter(
            help="Picture to write (.png, .jpg, .pdf, .svg): some events with their labels, and "
            "how the values are distributed."
        ),
    ] = Path("data.png"),
    limit: Annotated[
        int,
        whole("Events of each split to look at for what is suspicious, the first.", least=1),
    ] = _LIMIT,
    seed: Annotated[int, whole("Seed of splits and binarization.", least=0, most=MOST_SEED)] = 0,
    options: ReadingOptions = ReadingOptions(),  # noqa: B008 - frozen
    overwrite: Annotated[bool, Parameter(help="Replace what is at --out.", negative=())] = False,
    as_json: AsJson = False,
) -> None:
    """Show what tfvae train would read, without training.

    It prints how many events there are of which shape, their values and classes, and what
    is suspicious: events that are the same in two splits, constant events, NaN.
    """
    check_out(out, overwrite)
    config = TrainConfig(dataset=dataset, seed=seed, **vars(options))
    found, lines, facts = _look(config, limit)
    from tfvae import datasets, plotting

    # Files are often sorted: rows from all over show what the first would hide.
    few = found.train.batches(min(2000, len(found.train)), shuffle=True, epoch=0)
    with datasets.input_errors():
        batch = next(few.as_numpy_iterator())
    x, labels = batch if found.has_labels else (batch, None)
    if found.schema is not None:
        figure = plotting.table_figure(found.schema.to_frame(x, labels), found.schema)
    else:
        figure = plotting.data_figure(x, labels, found.class_names)
    save_picture(figure, out, overwrite)
    lines.append(f"wrote {out}")
    show({**facts, "out": str(out)}, as_json, "\n".join(lines))


def read_only(config: TrainConfig, as_json: bool) -> None:
    """Print what a training would read.

    Raises:
        InputError: if it cannot be read.
    """
    _, lines, facts = _look(config, _LIMIT)
    show(facts, as_json, "\n".join([*lines, f"a picture: tfvae data {config.dataset}"]))


def _look(config: TrainConfig, limit: int) -> "tuple[datasets.Dataset, list[str], dict[str, Any]]":
    """Return data, what is to say of them in lines, and the same as facts."""
    load_for_command()
    from tfvae.cli.suspicions import inspect
    from tfvae.saving.run import load_data

    # To look at what is missing, no decision on it is needed.
    found = load_data(dataclasses.replace(config, missing=True))
    seen = inspect(found, limit)
    lines = [as_options(found.summary())]
    if found.schema is not None:
        lines.append(str(found.schema))
    holes = seen.pop("holes")
    if holes and not config.missing:
        lines.append(f"suspicious: {holes}: train with --missing, or fill them")
    lines += [f"suspicious: {text}" for text in seen.values() if text]
    if not (any(seen.values()) or (holes and not config.missing)):
        lines.append("nothing suspicious")
    facts = {
        "name": found.name,
        "kind": found.kind,
        "event_shape": list(found.event_shape),
        "num_classes": found.num_classes,
        "class_names": found.class_names,
        "splits": {name: len(getattr(found, name)) for name in ("train", "validation", "test")},
        "summary": found.summary(),
        "suspicious": [text for text in (holes, *seen.values()) if text],
    }
    return found, lines, facts
