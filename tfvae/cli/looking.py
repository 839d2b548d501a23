"""Commands that show what a model has learnt: samples, reconstructions, walks, the page."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from tfvae.cli.options import AsJson, Model, Out, Overwrite, Seed
from tfvae.cli.outputs import (
    NUMBERS,
    PICTURES,
    check_out,
    check_vectors,
    save_events,
    save_picture,
    save_table,
    show,
)
from tfvae.cli.start import open_model
from tfvae.errors import InputError
from tfvae.saving.config import DataOptions, real, whole

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from matplotlib.figure import Figure

    from tfvae.datasets import Schema
    from tfvae.saving.run import TrainedModel

# A picture of more events could not be read.
_MOST_IN_A_PICTURE = 50
# All of them are in memory at once.
_MOST_DRAWN = 10**6


def sample(
    model: Model,
    /,
    *,
    n: Annotated[
        int | None,
        whole(
            "How many; by default 64 images, 16 series or volumes, 1000 vectors.",
            least=1,
            most=_MOST_DRAWN,
        ),
    ] = None,
    label: Annotated[
        str | None,
        Parameter(
            help="Label of the samples of a conditional model, its number or its name; by default "
            "some of each."
        ),
    ] = None,
    where: Annotated[
        tuple[str, ...],
        Parameter(
            help="COLUMN=VALUE of the rows of a table, as in 'sex=F'. Repeatable. The column of "
            "labels of a conditional model is given to it; others are by importance sampling.",
            negative=(),
        ),
    ] = (),
    mean: Annotated[
        bool | None,
        Parameter(
            help="Take the mean of p(x|z), or draw from it; by default means, but draws of vectors."
        ),
    ] = None,
    temperature: Annotated[
        str | None,
        Parameter(
            help="Of a hierarchy: multiply the spread of p(z) by this, such as 0.7; or by a number "
            "for each group of latents, the topmost first: 0.7x1. Of a VQVAE: below 1 the more "
            "probable codes are drawn more often than its prior has them."
        ),
    ] = None,
    ex_post: Annotated[
        str | None,
        Parameter(
            help="Sample not from the prior, but from a density fitted to the codes of the "
            "training data: gaussian_mixture, realnvp or maf, with options: "
            "gaussian_mixture:components=20."
        ),
    ] = None,
    out: Out = Path("samples.png"),
    data: DataOptions = DataOptions(),  # noqa: B008 - frozen
    seed: Seed = 0,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Draw events from the prior.

    A .csv file of a table's model holds made-up rows of the table's columns.
    """
    check_out(out, overwrite, endings=(*PICTURES, *NUMBERS))
    scales = None if temperature is None else _temperatures(temperature)
    if scales is not None and where:
        raise InputError("--where weighs draws from the prior itself: leave out --temperature")
    trained = _open(model, out, codes=True)
    _check_options(trained, ex_post, where)
    import numpy as np

    from tfvae import datasets, plotting
    from tfvae.cli.drawing import draw_samples, made_up_rows
    from tfvae.evaluation import expost
    from tfvae.plotting.events import grid_labels

    vae = trained.vae
    number = None if label is None else _label_of(trained, label)
    given, number, said = _given(trained, where, number)
    if ex_post is not None:
        with datasets.input_errors():
            batches = trained.data(data).train.batches(256, epoch=0)
            vae = vae.with_prior(expost.fit_prior(vae, batches, ex_post, seed=seed))
    if given is not None:
        if mean:
            raise InputError("--where draws rows, and no means: leave out --mean")
        from tfvae.cli.drawing import DEFAULT_SAMPLES
        from tfvae.evaluation import sample_given

        found = sample_given(vae, given, n or DEFAULT_SAMPLES[1], label=number, seed=seed)
        x = found.x
        said.append(
            f"{', '.join(where)} by importance sampling from 10,000 draws, of which "
            f"{found.effective_draws:,.0f} count"
        )
    else:
        x = draw_samples(vae, n=n, label=number, seed=seed, mean=mean, temperature=scales)
    labels = None
    if vae.num_classes is not None:
        labels = grid_labels(vae.num_classes, len(x)) if number is None else np.full(len(x), number)
        if number is None:
            said.append("as many of each label")
    elif trained.schema is not None and trained.schema.label is not None:
        said.append(f"without {trained.schema.label.name}, which the model was not given")
    schema = trained.schema
    rows = None if schema is None else made_up_rows(vae, schema, x, labels)
    if rows is not None and out.suffix.lower() == ".csv":
        save_table(out, overwrite, rows)
    elif rows is not None and schema is not None and out.suffix.lower() in PICTURES:
        save_picture(_beside_the_table(trained, data, schema, rows), out, overwrite)
    else:
        save_events(
            out,
            overwrite,
            {"x": x},
            lambda: plotting.event_grid(x),
            schema,
            len(vae.event_shape),
        )
    facts = {"out": str(out), "n": len(x), "seed": seed, "how": said}
    show(facts, as_json, "; ".join([f"wrote {out}", *said]))


def _temperatures(text: str) -> list[float]:
    """Return the numbers of --temperature.

    Raises:
        InputError: if it is none.
    """
    try:
        return [float(one) for one in text.split("x")]
    except ValueError:
        raise InputError(
            f"--temperature is a number such as 0.7, or several as in 0.7x1; received {text}"
        ) from None


def _check_options(trained: "TrainedModel", ex_post: str | None, where: tuple[str, ...]) -> None:
    """Refuse options of samples that are for a model of another kind.

    Raises:
        InputError: if there is one.
    """
    if not trained.has_codes:
        return
    if ex_post is not None:
        raise InputError(
            "--ex-post is for a VAE, and a VQVAE has a prior of its codes: leave it out"
        )
    if where:
        raise InputError("--where draws z from p(z), which a VQVAE does not have: leave it out")


def _beside_the_table(
    trained: "TrainedModel", options: DataOptions, schema: "Schema", rows: "pd.DataFrame"
) -> "Figure":
    """Draw made-up rows beside the run's test rows, or by themselves if these are gone."""
    from tfvae import plotting

    try:
        x, labels = trained.data(options).test.arrays(limit=5000)
    except InputError:
        return plotting.table_figure(rows, schema)
    return plotting.table_figure(schema.to_frame(x, labels), schema, rows)


def _given(
    trained: "TrainedModel", where: tuple[str, ...], number: int | None
) -> "tuple[np.ndarray | None, int | None, list[str]]":
    """Return the values that --where gives: an event or None, a label, and what to say of it."""
    values = {}
    said = []
    for entry in where:
        name, equals, value = entry.partition("=")
        if not (equals and name and value):
            raise InputError(f"--where is COLUMN=VALUE, such as sex=F; received {entry}")
        values[name.strip()] = value.strip()
    schema = trained.schema
    if values and schema is None:
        raise InputError("--where is for the columns of a table, which the model was not made for")
    if schema is not None and schema.label is not None and schema.label.name in values:
        name = schema.label.name
        if trained.vae.num_classes is None:
            raise InputError(
                f"the model does not know the column of labels {name!r}: train it with "
                "--conditional, or without --label"
            )
        number = _label_of(trained, values.pop(name))
        said.append(f"{name} is the label that the model is conditional on")
    if trained.vae.num_classes is not None and values and number is None:
        raise InputError("the model is conditional: give its --label too")
    given = None if schema is None or not values else schema.event_given(values)
    return given, number, said


def reconstruct(
    model: Model,
    /,
    *,
    n: Annotated[
        int | None,
        whole(
            "How many; by default all of --dataset (up to 50 in a picture), and of the run 10 test "
            "events (200 vectors), or all of them where numbers are written.",
            least=1,
        ),
    ] = None,
    out: Out = Path("reconstructions.png"),
    data: DataOptions = DataOptions(),  # noqa: B008 - frozen
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Show test events, or your own, beside their reconstructions.

    Your own are all that --dataset holds: a data set, a file with one event, a picture.
    """
    check_out(out, overwrite, endings=(*PICTURES, *NUMBERS))
    trained = _open(model, out, codes=True)
    from tfvae import plotting
    from tfvae.cli.drawing import DEFAULT_RECONSTRUCTIONS, Units

    if n is None and out.suffix.lower() in PICTURES:
        n = DEFAULT_RECONSTRUCTIONS[len(trained.vae.event_shape)]
        n = n if data.dataset is None else max(n, _MOST_IN_A_PICTURE)
    x, labels = trained.arrays(data, limit=n)
    reconstructed = _in_batches(trained, x, labels)
    units = Units(trained.schema)
    save_events(
        out,
        overwrite,
        {"reconstruction": reconstructed, "original": x},
        lambda: plotting.reconstructions(units.of(x), units.of(reconstructed), units.names),
        trained.schema,
        x.ndim - 1,
    )
    show({"out": str(out), "n": len(x)}, as_json, f"wrote {out}")


def interpolate(
    model: Model,
    /,
    *,
    pairs: Annotated[int, whole("Pairs of test events.", least=1, most=1000)] = 6,
    steps: Annotated[int, whole("Events in a row, both ends included.", least=2, most=1000)] = 10,
    out: Out = Path("interpolation.png"),
    data: DataOptions = DataOptions(),  # noqa: B008 - frozen
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Walk in latent space from one test event to another."""
    check_out(out, overwrite, endings=(*PICTURES, *NUMBERS))
    trained = _open(model, out)
    import numpy as np

    if trained.vae.num_classes is None:
        x, labels = trained.arrays(data, limit=2 * pairs)
        first, second = np.split(np.arange(len(x) // 2 * 2), 2)
    else:  # both ends of a line have one label
        x, labels = trained.arrays(data)
        first, second = pairs_of_a_label(np.asarray(labels), pairs)
        labels = np.asarray(labels)[first]
    if not len(first):
        of_a_label = "" if labels is None else " of one label"
        raise InputError(f"expected at least two test {trained.vae.event_spec.noun}{of_a_label}")
    rows = np.asarray(trained.vae.interpolate(x[first], x[second], steps, labels))
    _save_rows(trained, rows, out, overwrite)
    show({"out": str(out), "pairs": len(first), "steps": steps}, as_json, f"wrote {out}")


def pairs_of_a_label(labels: "np.ndarray", pairs: int) -> "tuple[np.ndarray, np.ndarray]":
    """Return the rows of up to so many pairs of events, the label going round."""
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


def traverse(
    model: Model,
    /,
    *,
    event: Annotated[
        int, whole("Which test event to start from.", least=0, name=("--event", "--image"))
    ] = 0,
    dimensions: Annotated[
        list[int] | None,
        Parameter(
            help="Latent dimensions, a row each; by default the ten whose codes vary most.",
            consume_multiple=True,
            negative=(),
        ),
    ] = None,
    steps: Annotated[int, whole("Events in a row.", least=2, most=1000)] = 11,
    extent: Annotated[float, real("Walk from -EXTENT to EXTENT.", gt=0)] = 3.0,
    out: Out = Path("traversal.png"),
    data: DataOptions = DataOptions(),  # noqa: B008 - frozen
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Change one latent dimension at a time, and see what it does to the event."""
    check_out(out, overwrite, endings=(*PICTURES, *NUMBERS))
    trained = _open(model, out)
    import numpy as np

    vae = trained.vae
    x, labels = trained.arrays(data, limit=max(512, event + 1))
    if event >= len(x):
        raise InputError(f"--event is a number from 0 to {len(x) - 1}; received {event}")
    if dimensions is None:
        # The codes of an unused dimension are all the same.
        spread = np.var(vae.code(x[:512], None if labels is None else labels[:512]), axis=0)
        dimensions = [int(dimension) for dimension in np.argsort(-spread)[:10]]
    values = np.linspace(-extent, extent, steps)
    label = None if labels is None else labels[event]
    rows = np.stack([vae.traverse(x[event], one, values, label) for one in dimensions])
    _save_rows(trained, rows, out, overwrite, [f"z[{one}]" for one in dimensions])
    facts = {"out": str(out), "event": event, "dimensions": dimensions}
    show(facts, as_json, f"wrote {out}")


def explore(
    model: Model,
    /,
    *,
    host: Annotated[
        str,
        Parameter(help="Address to listen on; one that other machines reach needs a password."),
    ] = "127.0.0.1",
    port: Annotated[
        int | None,
        whole("Port to listen on; by default the first free one from 7860.", least=1, most=65_535),
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
    """Open a page to explore the latent space of images or of a table.

    Of images sliders, samples, a map and your own images; of a model with codes the codes of an
    image, to change one, and the codebook; of a table a form that is filled in as you type, a map
    by column, and made-up rows. Ctrl-C ends it.
    """
    from tfvae.app import server as web

    password = web.read_password(password_file)
    web.check_access(host, password)
    web.gradio()  # that it is missing shows at once, not when TensorFlow has loaded
    trained = open_model(model, codes=True)
    from tfvae import datasets
    from tfvae.app import explorer

    with datasets.input_errors():
        explorer.explore(
            trained, data, host=host, port=port, password=password, open_browser=open_browser
        )


def _open(model: Path, out: Path, *, codes: bool = False) -> "TrainedModel":
    """Read a model whose events can be written as `out` says."""
    trained = open_model(model, codes=codes)
    if out.suffix.lower() == ".csv":
        check_vectors(len(trained.vae.event_shape))
    return trained


def _label_of(trained: "TrainedModel", label: str) -> int:
    """Return the number of a label that a user named by its number or its name."""
    names = trained.class_names or ()
    if label in names:
        return names.index(label)
    if label.isdecimal():
        return int(label)
    known = f": {', '.join(names)}" if names else ""
    raise InputError(f"--label is the number or the name of a class{known}; received {label}")


def _in_batches(
    trained: "TrainedModel", x: "np.ndarray", labels: "np.ndarray | None"
) -> "np.ndarray":
    """Reconstruct any number of events."""
    import numpy as np

    parts = []
    for start in range(0, len(x), 256):
        rows = slice(start, start + 256)
        parts.append(trained.vae.reconstruct(x[rows], None if labels is None else labels[rows]))
    return np.concatenate(parts)


def _save_rows(
    trained: "TrainedModel",
    rows: "np.ndarray",
    out: Path,
    overwrite: bool,
    names: tuple[str, ...] | list[str] = (),
) -> None:
    from tfvae import plotting
    from tfvae.cli.drawing import Units

    columns = Units(trained.schema).names
    save_events(
        out,
        overwrite,
        {"x": rows},
        # In the model's units, in which columns of any scale share axes.
        lambda: plotting.event_rows(rows, names, columns),
        trained.schema,
        rows.ndim - 2,
    )
