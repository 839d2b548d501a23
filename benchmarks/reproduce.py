"""Published numbers reproduced: each row of a table trained and scored by one command.

    python benchmarks/reproduce.py mnist-vae --data.mnist FOLDER

trains as benchmarks/reproduce/mnist-vae.toml says, into runs/reproduce/mnist-vae, which is a run
directory of `tfvae train`; estimates log p(x) of the test images with as many draws as the paper
took; and writes benchmarks/reproduce/mnist-vae.json, and samples beside it as a picture. Stopped in
whatever way, the same command goes on where it was. The tables of docs/results.md are what --table
prints, and its curves are what --curves draws.
"""

import dataclasses
import json
import math
import os
import sys
import threading
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import cyclopts
from cyclopts import Parameter
from machine import machine

from tfvae.errors import DivergenceError, InputError
from tfvae.saving.config import TrainConfig, whole
from tfvae.saving.files import new_file
from tfvae.saving.finite import without_nan

FOLDER = Path(__file__).with_suffix("")
# Pixels an inch: a page is not a poster.
_DPI = 80
# Seconds between two notes of how long a training has taken.
_EVERY = 5.0


@dataclasses.dataclass(frozen=True)
class Published:
    """The figure that a row is to meet.

    Attributes:
        value: −log p(x) of the test images in nats, or bits per dimension.
        source: paper and table.
        num_samples: K of its estimate, None where it is exact.
        note: what of it differs from the row, in words.
        checked: what the figure was compared with: where else than in the paper it can be read.
            Without it the figure is from memory, and the table says so.
    """

    value: float
    source: str
    num_samples: int | None = None
    note: str = ""
    checked: str = ""


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """How the test images are scored.

    Attributes:
        num_samples: K of importance sampling.
        binarization: "fixed" for the one draw of the test images that all rows with the same seed
            share; "redrawn" for a draw of the evaluation's own, as where each pass over them has
            its own; None where the images are not drawn.
        images: score so many test images, drawn at random; by default all.
        annealed_images: images, and samples from the model, for annealed importance sampling.
        annealing_steps: its temperatures.
        seed: of draws of z and, if redrawn, of the images.
    """

    num_samples: int
    binarization: Literal["fixed", "redrawn"] | None = None
    images: int | None = None
    annealed_images: int = 20
    annealing_steps: int = 200
    seed: int = 1


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of the table, as its TOML file says.

    Attributes:
        path: that of the file; the row's name is its stem.
        order: its place in the table.
        table: the heading that it stands under.
        model: in words.
        unit: "nats" or "bits/dim".
        train: options of `tfvae train`.
        evaluation: how the test images are scored.
        published: the figure to meet, None where none is known.
    """

    path: Path
    order: int
    table: str
    model: str
    train: TrainConfig
    evaluation: Evaluation
    unit: Literal["nats", "bits/dim"] = "nats"
    published: Published | None = None

    @classmethod
    def read(cls, path: Path) -> "Row":
        """Read a row's file.

        Raises:
            InputError: if there is none, or it holds something unknown.
        """
        if not path.is_file():
            known = ", ".join(row.name for row in rows())
            raise InputError(f"no row {path.stem!r}: expected one of {known}")
        try:
            content = tomllib.loads(path.read_text("utf-8"))
            for name, kind in _PARTS.items():
                if name in content:
                    content[name] = kind(**content[name])
            return cls(path, **content)
        except (tomllib.TOMLDecodeError, TypeError) as error:
            raise InputError(f"{path} describes no row: {error}") from error

    @property
    def name(self) -> str:
        """What to call it by."""
        return self.path.stem

    @property
    def result_path(self) -> Path:
        """The file of its result."""
        return self.path.with_suffix(".json")

    @property
    def picture_path(self) -> Path:
        """The file of samples of its model."""
        return self.path.with_suffix(".png")

    @property
    def result(self) -> dict[str, Any] | None:
        """What came of it, None before it has been scored."""
        return json.loads(self.result_path.read_text()) if self.result_path.exists() else None


_PARTS = {"train": TrainConfig, "evaluation": Evaluation, "published": Published}


def rows() -> list[Row]:
    """Give all rows in the order of the table."""
    found = [Row.read(path) for path in FOLDER.glob("*.toml")]
    return sorted(found, key=lambda row: (row.order, row.name))


# --- training -------------------------------------------------------------------------------------


def train(row: Row, run_dir: Path, data: dict[str, Path], until: int | None) -> int | None:
    """Train a row, or go on with it, to its end or for so many epochs.

    Returns:
        The signal that stopped it, None if none did.

    Raises:
        InputError: if the run directory is that of another training.
    """
    from tfvae.cli import job

    if row.train.dataset == "static_mnist" and "static_mnist" not in data:
        raise InputError(
            "static MNIST comes as a file: make it with benchmarks/static_mnist.py, and give "
            "--data.static_mnist FILE"
        )
    path = str(data.get(row.train.dataset, row.train.dataset))
    with clock(run_dir):
        wanted = dataclasses.replace(row.train, dataset=path, run_dir=run_dir)
        return job.start_or_resume(wanted, until).stopped


def clock_file(run_dir: Path) -> Path:
    """Give the file that has the seconds of a training."""
    return run_dir.with_name(f"{run_dir.name}.clock.json")


def seconds_of(run_dir: Path) -> dict[str, float]:
    """Give the seconds that a training has taken, "elapsed" and "processor"."""
    file = clock_file(run_dir)
    return json.loads(file.read_text()) if file.exists() else {"elapsed": 0.0, "processor": 0.0}


@contextmanager
def clock(run_dir: Path) -> Iterator[None]:
    """Add up the seconds of a training, every few of them, so that no kill loses more."""
    before = seconds_of(run_dir)
    clocks = {"elapsed": time.monotonic, "processor": time.process_time}
    begun = {name: now() for name, now in clocks.items()}
    over = threading.Event()

    def note() -> None:
        taken = {name: before[name] + now() - begun[name] for name, now in clocks.items()}
        with new_file(clock_file(run_dir)) as partial:
            partial.write_text(json.dumps(taken))

    def keep_noting() -> None:
        while not over.wait(_EVERY):
            note()

    thread = threading.Thread(target=keep_noting, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        note()


# --- scoring --------------------------------------------------------------------------------------


def score(row: Row, trained: Any, run_dir: Path, limit: int | None) -> dict[str, Any]:
    """Score a model as the row says, and tell how it came about.

    Args:
        row: the row.
        trained: the `TrainedModel` of the run directory.
        run_dir: where it was trained.
        limit: take so many test images in place of the row's.

    Raises:
        KeyboardInterrupt: by Ctrl-C.
    """
    from tfvae.evaluation import report
    from tfvae.saving.run import read_metrics

    vae, config, asked = trained.vae, trained.config, row.evaluation
    found = report.evaluate(
        vae,
        images(config, asked),
        num_samples=asked.num_samples,
        limit=asked.images if limit is None else limit,
        annealed_events=asked.annealed_images,
        annealing_steps=asked.annealing_steps,
        seed=asked.seed,
        progress=sys.stderr.isatty(),
    )
    if not found.complete:
        raise KeyboardInterrupt
    print(found, file=sys.stderr)
    facts = without_nan(found.as_dict())
    diagnosis = facts.pop("diagnosis")
    curve = read_metrics(run_dir)["val_elbo"]
    seconds = seconds_of(run_dir)
    return {
        "epochs": len(curve),
        "epochs_planned": config.epochs,
        "parameters": vae.count_params(),
        "dimensions": math.prod(vae.event_shape),
        "seconds": round(seconds["elapsed"]),
        "processor_seconds": round(seconds["processor"]),
        "hardware": machine(),
        "precision": config.precision,
        "train": {**dataclasses.asdict(row.train), "manual_dir": None, "run_dir": None},
        "evaluation": facts,
        "active_units": diagnosis["active_units"],
        "validation_elbo": [round(value, 3) for value in curve],
    }


def draw_samples(row: Row, vae: Any) -> None:
    """Draw samples of a row's model, as a picture beside its result."""
    import reproduce_pictures

    from tfvae import plotting

    figure = reproduce_pictures.samples(vae, row.evaluation.seed)
    plotting.save(figure, row.picture_path, dpi=_DPI)


def draw_curves(file: Path) -> None:
    """Draw the validation ELBO of all rows that have a result.

    Raises:
        InputError: if none has.
    """
    import reproduce_pictures

    from tfvae import plotting

    results = {row.name: row.result for row in rows()}
    found = {name: one["validation_elbo"] for name, one in results.items() if one is not None}
    if not found:
        raise InputError("no row has been scored yet: there are no curves to draw")
    plotting.save(reproduce_pictures.curves(found), file, dpi=_DPI)


def images(config: TrainConfig, asked: Evaluation) -> Any:
    """Load a row's images, the test images drawn as its protocol says."""
    from tfvae.saving.run import load_data

    data = load_data(config)
    if asked.binarization != "redrawn":
        return data
    return dataclasses.replace(data, test=data.test.redrawn(asked.seed))


# --- the table ------------------------------------------------------------------------------------


def table() -> str:
    """Give all rows as Markdown, one table a heading; those without a result as well."""
    lines: list[str] = []
    heading = None
    for row in rows():
        if row.table != heading:
            heading = row.table
            lines += [
                *([""] if lines else []),
                f"**{heading}**",
                "",
                f"| row | model | published | {'−log p(x)' if row.unit == 'nats' else row.unit} | "
                "above it | K, images | −ELBO | AIS less IS (gap) | epochs | parameters | hours | "
                "on |",
                f"| --- | --- |{' ---: |' * 9} --- |",
            ]
        published = row.published
        cells = [
            f"`{row.name}`",
            row.model,
            "none" if published is None else _cited(published),
            *_cells(row, row.result),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def samples_table() -> str:
    """Give the samples of all rows that have them as Markdown, for a page of the repository."""
    lines = ["| row | samples |", "| --- | --- |"]
    for row in rows():
        if row.picture_path.exists():
            link = f"../benchmarks/{FOLDER.name}/{row.picture_path.name}"
            lines.append(f"| `{row.name}` | ![samples of {row.name}]({link}) |")
    return "\n".join(lines)


def _cited(published: Published) -> str:
    words = [
        published.source,
        "" if published.num_samples is None else f"K = {published.num_samples:,}",
        published.note,
        f"as in {published.checked}" if published.checked else "from memory",
    ]
    return f"{published.value:.2f} ({'; '.join(filter(None, words))})"


def _cells(row: Row, result: dict[str, Any] | None) -> list[str]:
    if result is None:
        return ["not run yet", *[""] * 8]
    found = result["evaluation"]
    marginal = found["importance_sampling"]
    error = marginal["standard_error"]
    if row.unit == "bits/dim":
        error /= result["dimensions"] * math.log(2)
        value = marginal["bits_per_dimension"]
        figure = f"{value:.4f} ± {error:.4f}"
    else:
        value = -marginal["log_prob"]
        figure = f"{value:.2f} ± {error:.2f}"
    annealing = found.get("annealing")
    difference = ""
    if annealing is not None:
        gain = annealing["annealed"]["log_prob"] - annealing["importance_sampling"]["log_prob"]
        gap = annealing["sandwich"]["gap"]
        difference = f"{-gain:+z.2f} ({gap:z.2f})"  # z: no minus before a zero
    epochs, planned = result["epochs"], result["epochs_planned"]
    return [
        figure,
        "" if row.published is None else f"{value - row.published.value:+.2f}",
        f"{marginal['num_samples']:,}, {marginal['events']:,}",
        f"{-found['elbo']:.2f}",
        difference,
        f"{epochs:,}" if epochs == planned else f"{epochs:,} of {planned:,}",
        f"{result['parameters']:,}",
        f"{result['seconds'] / 3600:.2f}",
        f"{result['hardware'].partition(';')[0]}, {result['precision']}",
    ]


# --- the command ----------------------------------------------------------------------------------


def main(
    *names: Annotated[
        str,
        Parameter(help="Rows by name, or TOML files of rows, beside which the results go."),
    ],
    data: Annotated[
        dict[str, Path] | None,
        Parameter(
            help="Where images are: --data.mnist FOLDER and --data.fashion_mnist FOLDER of IDX "
            "files, which TensorFlow Datasets downloads otherwise; --data.static_mnist FILE, of "
            "benchmarks/static_mnist.py."
        ),
    ] = None,
    runs: Annotated[Path, Parameter(help="Where run directories go.")] = Path("runs/reproduce"),
    epochs: Annotated[
        int | None,
        whole(
            "Stop after so many epochs, the schedule being that of the whole row, and score the "
            "model as it is then. Without it the same command goes on.",
            least=1,
        ),
    ] = None,
    limit: Annotated[
        int | None,
        whole("Score so many test images, in place of as many as the row says.", least=1),
    ] = None,
    show: Annotated[
        bool,
        Parameter(
            name="--table",
            help="Print the tables, trained rows or not, and that of the samples.",
            negative=(),
        ),
    ] = False,
    curves: Annotated[
        Path | None,
        Parameter(help="Draw the validation ELBO of the rows trained so far, into this PNG file."),
    ] = None,
) -> None:
    """Train rows of the table of published numbers, score them, and write their results."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        if not names and not show and curves is None:
            known = ", ".join(row.name for row in rows())
            raise InputError(f"expected a row, --table or --curves; the rows are {known}")
        for row in [Row.read(_path(name)) for name in names]:
            run_dir = runs / row.name
            stopped = train(row, run_dir, data or {}, epochs)
            if stopped is not None:
                print("stopped: the same command goes on from here", file=sys.stderr)
                sys.exit(128 + stopped)
            # Not at the top, as --help is to come at once.
            from tfvae.saving.run import TrainedModel

            trained = TrainedModel.open(run_dir)
            result = score(row, trained, run_dir, limit)
            with new_file(row.result_path) as partial:
                partial.write_text(json.dumps(result, indent=1, allow_nan=False) + "\n")
            draw_samples(row, trained.vae)
        if show:
            print(f"{table()}\n\n{samples_table()}")
        if curves is not None:
            draw_curves(curves)
    except (InputError, DivergenceError) as error:
        sys.exit(f"reproduce: error: {error}")
    except KeyboardInterrupt:
        sys.exit("interrupted: the same command scores the row anew")


def _path(name: str) -> Path:
    return Path(name) if name.endswith(".toml") else FOLDER / f"{name}.toml"


if __name__ == "__main__":
    cyclopts.run(main)
