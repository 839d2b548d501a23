"""How fast models train: beside the recipes that people copy, and beside what the machine allows.

    python benchmarks/training.py --mnist FOLDER [--torch PYTHON] [--only PART ...]

measures a part at a time and keeps it in benchmarks/training.json: stopped, it goes on where it
was, and --only measures parts anew. What is compared takes turns in one run, and ratios are medians
over the turns; figures of different runs do not compare. `PYTHON` is the interpreter of an
environment with torch and pythae; without it their rows are left out. The tables of
docs/benchmarks.md are what it prints at its end, or at once with --table.
"""

import json
import os
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import comparison
import cyclopts
import inputs
import latency
import roofline
import scaling
import startup
import workers
from comparison import PRECISIONS
from cyclopts import Parameter
from machine import machine
from turns import Process

HERE = Path(__file__).parent
RESULTS = Path(__file__).with_suffix(".json")
PICTURE = HERE.parent / "docs" / "pictures" / "scaling.png"
ALL_IMAGES = 1_000_000  # or as many as there are


@Parameter(name="*")
@dataclass(frozen=True)
class Options:
    """What is measured, and how long."""

    mnist: Annotated[
        str, Parameter(help="Folder of MNIST's IDX files, or mnist for TensorFlow Datasets.")
    ] = "mnist"
    torch: Annotated[
        str | None, Parameter(help="Python of an environment with torch and pythae.")
    ] = None
    images: Annotated[int, Parameter(help="Images of each turn.")] = 12_800
    rounds: Annotated[int, Parameter(help="Turns of each.")] = 5
    train_images: Annotated[int, Parameter(help="Images of an epoch, for the ELBO.")] = ALL_IMAGES
    epochs: Annotated[int, Parameter(help="Epochs of the recipes, for the ELBO.")] = 5
    steps: Annotated[int, Parameter(help="Least steps of this package, for the ELBO.")] = 1500
    seeds: Annotated[int, Parameter(help="Trainings in each precision.")] = 3
    seconds: Annotated[float, Parameter(help="How long to repeat a layer.")] = 0.5
    calls: Annotated[int, Parameter(help="Calls of each turn, for the latency.")] = 100
    timed_steps: Annotated[int, Parameter(help="Steps of each size, for the slopes.")] = 12
    inputs_size: Annotated[float, Parameter(help="Times the events of each large input.")] = 1.0
    array_images: Annotated[int, Parameter(help="Images of the array in memory.")] = 60_000


def measure_roofline(model: str, options: Options) -> dict[str, Any]:
    """Measure a model of roofline.py in both precisions."""
    return {
        precision: _ask("roofline.py", model, precision, str(options.seconds))
        for precision in PRECISIONS
    }


def measure_scaling(options: Options) -> dict[str, Any]:
    """Measure along each axis."""
    steps = str(options.timed_steps)
    return {
        axis: _ask("scaling.py", axis, steps, *map(str, sizes))
        for axis, sizes in scaling.AXES.items()
    }


def _ask(script: str, *arguments: str) -> Any:
    with closing(Process([sys.executable, str(HERE / script), *arguments])) as process:
        found = process.answer()
    print(script, *arguments, found, file=sys.stderr)
    return found


@dataclass(frozen=True)
class Part:
    """One of the questions: how it is answered, and shown."""

    title: str
    measure: Callable[[Options], dict[str, Any]]
    table: Callable[[dict[str, Any]], str]


PARTS = {
    "recipes": Part(
        "Images a second, on one small architecture",
        lambda o: comparison.speed(o.mnist, o.torch, o.images, o.rounds),
        comparison.speed_table,
    ),
    "elbo": Part(
        "Seconds to a recipe's ELBO, with this package's defaults",
        lambda o: comparison.reach(o.mnist, o.torch, o.train_images, o.epochs, o.steps),
        comparison.reach_table,
    ),
    "precision": Part(
        "Test ELBO of the default training in both precisions",
        lambda o: comparison.precision(o.mnist, o.train_images, o.steps, o.seeds),
        comparison.precision_table,
    ),
    "roofline": Part(
        "Share of the roofline, default model",
        lambda o: measure_roofline("default", o),
        roofline.table,
    ),
    "recipes_roofline": Part(
        "Share of the roofline, the recipes' networks",
        lambda o: measure_roofline("recipes", o),
        roofline.table,
    ),
    "scaling": Part("How the cost of a step grows", measure_scaling, scaling.table),
    "startup": Part("Start-up", lambda o: startup.measure(o.rounds), startup.table),
    "latency": Part(
        "One event at a time",
        lambda o: _ask("latency.py", str(o.calls), str(o.rounds)),
        latency.table,
    ),
    "workers": Part(
        "Two workers",
        lambda o: workers.measure(o.mnist, o.images, o.rounds),
        workers.table,
    ),
    "inputs": Part(
        "Large inputs",
        lambda o: inputs.measure(o.inputs_size, o.rounds, o.array_images),
        inputs.table,
    ),
}


def table(results: dict[str, Any]) -> str:
    """Give the results as Markdown."""
    lines = []
    for machine_, names in _by_machine(results).items():
        lines += [f"On {machine_}:", ""]
        for name in names:
            lines += [f"**{PARTS[name].title}**", "", PARTS[name].table(results[name]["found"]), ""]
    return "\n".join(lines).rstrip()


def _by_machine(results: dict[str, Any]) -> dict[str, list[str]]:
    grouped: dict[str, list[str]] = {}
    for name in PARTS:
        if name in results:
            grouped.setdefault(results[name]["machine"], []).append(name)
    return grouped


def main(
    options: Options = Options(),
    *,
    only: Annotated[
        list[str] | None,
        Parameter(help=f"Measure these anew: {', '.join(PARTS)}.", consume_multiple=True),
    ] = None,
    out: Annotated[Path, Parameter(help="JSON file to write, and to go on with.")] = RESULTS,
    picture: Annotated[Path, Parameter(help="Picture of the slopes to write.")] = PICTURE,
    show: Annotated[
        bool, Parameter(name="--table", help="Only print the tables.", negative=())
    ] = False,
) -> None:
    """Measure how fast models train."""
    # Several processes share a GPU here; each would take all of its memory.
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    results = json.loads(out.read_text()) if out.exists() else {}
    for name in only or PARTS:
        if name not in PARTS:
            sys.exit(f"no part {name!r}: there are {', '.join(PARTS)}")
        if show or (only is None and name in results):
            continue
        print(name, file=sys.stderr)
        results[name] = {"machine": machine(), "found": PARTS[name].measure(options)}
        out.write_text(json.dumps(results, indent=1) + "\n")
        if name == "scaling":
            scaling.picture(results[name]["found"], picture)
    print(table(results))
    if not show:
        _check_floors(results)


def _check_floors(results: dict[str, Any]) -> None:
    """End with an error where a ratio is below its floor."""
    low = []
    for name, module in (("recipes", comparison), ("latency", latency)):
        if name in results:
            low += module.below_floor(results[name]["found"])
    if low:
        sys.exit("\n".join(low))


if __name__ == "__main__":
    cyclopts.run(main)
