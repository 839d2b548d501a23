"""Commands that put figures on a model and on events: ``tfvae evaluate`` and ``tfvae score``."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from tfvae.cli.options import AsJson, BatchSize, Model, Overwrite, Seed
from tfvae.cli.outputs import check_out, save_events, save_picture, save_table, show, tell
from tfvae.cli.start import open_model
from tfvae.errors import InputError
from tfvae.saving.config import DataOptions, real, whole

if TYPE_CHECKING:
    import numpy as np

    from tfvae.models.vae import VAE
    from tfvae.saving.run import TrainedModel

Method = Literal["elbo", "log_prob"]

# Columns that are named for a row, and what they have to add, in nats.
_MOST_COLUMNS, _LEAST_SHARE = 3, 0.5
# Rows that tell what is usual of a column.
_MOST_USUAL = 2000


def evaluate(
    model: Model,
    /,
    *,
    split: Annotated[
        Literal["train", "validation", "test"], Parameter(help="Which events.")
    ] = "test",
    num_samples: Annotated[
        int, whole("Draws of z for each event. For a paper 5000 is usual.", least=1)
    ] = 100,
    limit: Annotated[
        int | None, whole("Take so many events, drawn at random; by default all.", least=1)
    ] = None,
    ais: Annotated[
        bool,
        Parameter(
            help="Also run annealed importance sampling on some of the events, and bounds from "
            "both sides on samples from the model.",
            negative=(),
        ),
    ] = False,
    ais_images: Annotated[
        int, whole("Events of --ais.", least=1, name=("--ais-events", "--ais-images"))
    ] = 50,
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
    batch_size: BatchSize = 256,
    seed: Seed = 0,
    data: DataOptions = DataOptions(),  # noqa: B008 - frozen
    as_json: AsJson = False,
) -> None:
    """Print ELBO and log p(x) of a model with their errors, and what its latent space does.

    Ctrl-C ends it with the figures of the events so far.
    """
    if picture is not None:
        check_out(picture, overwrite, "--picture")
    trained = open_model(model, codes=True)
    from tfvae import datasets, plotting
    from tfvae.evaluation import report

    with datasets.input_errors():
        found = report.evaluate(
            trained.vae,
            trained.data(data),
            split,
            num_samples=num_samples,
            limit=limit,
            annealed_events=ais_images if ais else 0,
            annealing_steps=ais_steps,
            latent=latent,
            batch_size=batch_size,
            seed=seed,
            progress=sys.stderr.isatty(),
        )
    if picture is not None and isinstance(found, report.CodeReport):
        save_picture(plotting.code_use(found.bound.usage), picture, overwrite, "--picture")
    elif picture is not None and isinstance(found, report.Report) and found.diagnosis is not None:
        save_picture(plotting.diagnosis(found.diagnosis), picture, overwrite, "--picture")
    show(found.as_dict(), as_json, str(found))
    if not found.complete:
        print("tfvae: interrupted: these are the figures of the events so far", file=sys.stderr)
        sys.exit(130)


def score(
    model: Model,
    /,
    *,
    data: Annotated[
        str | None,
        Parameter(
            help="Events to score: a file, a folder, a data set; by default the run's test events."
        ),
    ] = None,
    out: Annotated[Path, Parameter(help=".csv file to write, a line for each event.")] = Path(
        "scores.csv"
    ),
    method: Annotated[
        Method,
        Parameter(
            help="elbo: the negative ELBO, the score of the signature anomaly_score. log_prob: "
            "-log p(x) by importance sampling."
        ),
    ] = "elbo",
    num_samples: Annotated[
        int, whole("Draws of z for each event, of --method log_prob.", least=1)
    ] = 100,
    by_value: Annotated[
        Path | None,
        Parameter(
            help="Also write what each value adds to the score, nats: an .npy or .npz file with a "
            "number for each column, time step and channel, pixel and channel, or voxel."
        ),
    ] = None,
    rate: Annotated[
        float | None,
        real(
            "Share of ordinary events that may be taken for anomalies, which the validation "
            "events tell the threshold of; by default that of the run, 0.01.",
            gt=0,
            lt=1,
        ),
    ] = None,
    seed: Seed = 0,
    reading: DataOptions = DataOptions(),  # noqa: B008 - frozen
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Score events by how unusual they are for a model, in nats: the higher the stranger.

    Columns: row, file where each event is a file, score, and is_anomaly where a
    threshold is known: the score that so many of the run's validation events are above.
    Of a table also columns: those that add most to the score, in nats above what is usual
    of them, the median of the run's validation rows.
    """
    check_out(out, overwrite, endings=(".csv",))
    if by_value is not None:
        check_out(by_value, overwrite, "--by-value", endings=(".npy", ".npz"))
    reading = named_by(data, reading)
    trained = open_model(model, codes=True)
    if method == "log_prob" and trained.has_codes:
        raise InputError("a VQVAE has a bound of log p(x): leave out --method, or take elbo")
    if by_value is not None and trained.has_codes:
        raise InputError(
            "--by-value draws z from q(z|x), which a VQVAE does not have: leave it out"
        )
    import pandas as pd

    found = trained.events(reading)
    tell(found.notes)
    labels = None if trained.vae.num_classes is None else found.labels
    scores = _scores(trained.vae, found.x, labels, method, num_samples, seed)
    threshold, why = _threshold(trained, method, num_samples, rate, seed)
    columns: dict[str, Any] = {"row": range(len(scores))}
    if found.names is not None:
        columns["name"] = found.names
    columns["score"] = scores
    if threshold is not None:
        columns["is_anomaly"] = scores > threshold
    is_table = trained.schema is not None and not trained.has_codes
    if by_value is not None or (is_table and trained.vae.likelihood_family.takes_missing):
        from tfvae.evaluation import score_by_value

        shares = score_by_value(trained.vae, found.x, labels, seed=seed)
        if by_value is not None:
            save_events(by_value, overwrite, {"score": shares}, _no_picture)
        if is_table:
            columns["columns"] = _weightiest(trained, shares, seed)
    save_table(out, overwrite, pd.DataFrame(columns))
    facts = {"out": str(out), "events": len(scores), "method": method, "threshold": threshold}
    if found.notes:
        facts["notes"] = list(found.notes)
    if threshold is None:
        text = f"wrote {out}: {len(scores):,} scores, nats; no threshold: {why}"
    else:
        facts["anomalies"] = int((scores > threshold).sum())
        text = (
            f"wrote {out}: {len(scores):,} scores, nats; {facts['anomalies']:,} above the "
            f"threshold {threshold:.6g}, {why}"
        )
    show(facts, as_json, text)


def _weightiest(trained: "TrainedModel", shares: "np.ndarray", seed: int) -> list[str]:
    """Return for each row the columns that add most to its score, and how much, as words.

    Args:
        trained: the model of a table.
        shares: of the scores of rows, `[N, D]`.
        seed: of the draws of z.
    """
    import numpy as np

    from tfvae.evaluation import score_by_value

    assert trained.schema is not None
    names = [column.name for column in trained.schema.columns]
    usual = shares
    if trained.config is not None:
        try:
            x, labels = trained.data(DataOptions()).validation.arrays(limit=_MOST_USUAL)
        except InputError:
            pass  # the run's data are gone: the rows themselves tell what is usual
        else:
            given = None if trained.vae.num_classes is None else labels
            usual = score_by_value(trained.vae, x, given, seed=seed) if len(x) else shares
    above = shares - np.median(usual, axis=0)
    return [
        ", ".join(
            f"{names[place]} +{row[place]:.1f}"
            for place in np.argsort(-row)[:_MOST_COLUMNS]
            if row[place] >= _LEAST_SHARE
        )
        for row in above
    ]


def _no_picture() -> Any:
    raise InputError("scores by value are written as numbers")


def named_by(data: str | None, reading: DataOptions) -> DataOptions:
    """Return options of reading with the data that --data names.

    Raises:
        InputError: if --dataset names some too.
    """
    import dataclasses

    if data is None:
        return reading
    if reading.dataset is not None:
        raise InputError("--data and --dataset name the same thing: give one of them")
    return dataclasses.replace(reading, dataset=data)


def _threshold(
    trained: "TrainedModel", method: Method, num_samples: int, rate: float | None, seed: int
) -> tuple[float | None, str]:
    """Return the threshold of anomalies, and what it rests on, or why there is none."""
    known = trained.card().anomaly
    if method == "elbo" and known is not None and rate in (None, known.rate):
        return known.threshold, f"above which {known.rate:g} of the run's validation events are"
    if trained.config is None:
        return None, "the model has no run beside it to calibrate on"
    import numpy as np

    rate = 0.01 if rate is None else rate
    try:
        x, labels = trained.data(DataOptions()).validation.arrays()
    except InputError as error:
        return None, str(error)
    if rate * len(x) < 1:
        return None, f"{len(x)} validation events are too few for a rate of {rate:g}"
    given = None if trained.vae.num_classes is None else labels
    scores = _scores(trained.vae, x, given, method, num_samples, seed)
    threshold = float(np.quantile(scores, 1 - rate))
    return threshold, f"above which {rate:g} of the run's validation events are"


def _scores(
    vae: "VAE",
    x: "np.ndarray",
    labels: "np.ndarray | None",
    method: Method,
    num_samples: int,
    seed: int,
) -> "np.ndarray":
    """Return the score of each event, `[N]`."""
    import numpy as np
    import tensorflow as tf

    from tfvae.evaluation import log_prob
    from tfvae.serving.signatures import signatures

    vae.event_spec.check_array(x, labels)
    rows = (x,) if labels is None else (x, labels.astype(np.int32))
    if method == "log_prob":
        batches = tf.data.Dataset.from_tensor_slices(rows if labels is not None else x).batch(256)
        return -np.asarray(log_prob(vae, batches, num_samples=num_samples, seed=seed).log_probs)
    (scorer,) = (one for one in signatures(vae) if one.name == "anomaly_score")
    found = [
        scorer.function(*(tf.constant(array[start : start + 256]) for array in rows))["score"]
        for start in range(0, len(x), 256)
    ]
    return np.concatenate(found)
