"""Images a second, and seconds to an ELBO: the recipes and this package side by side."""

import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from turns import Process

KERAS = "Keras example"
HERE = Path(__file__).parent
OURS = ("tfvae float32", "tfvae bfloat16")
FIT = ("tfvae fit float32", "tfvae fit bfloat16")
# The least of each ratio to the Keras example's rate, a tenth below what has been measured: a
# change that loses more shows.
FLOORS = {
    "tfvae float32": 1.05,
    "tfvae bfloat16": 1.33,
    "tfvae fit float32": 1.03,
    "tfvae fit bfloat16": 1.38,
}
# What these ratios were to be; docs/benchmarks.md says what stands in the way.
AIMS = {
    "tfvae float32": 1.4,
    "tfvae bfloat16": 2.2,
    "tfvae fit float32": 1.3,
    "tfvae fit bfloat16": 2.0,
}
IN_TENSORFLOW = ("Keras example", "TensorFlow tutorial")
IN_TORCH = ("PyTorch", "pythae")
PRECISIONS = ("float32", "mixed_bfloat16")


@contextmanager
def commands(
    mnist: str, torch: str | None, images: int
) -> Iterator[Callable[[str, int], list[str]]]:
    """Give a function from a recipe and epochs to the command that trains it."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "images.npz"
        if torch is not None:
            _write_images(mnist, images, file)

        def command(name: str, epochs: int) -> list[str]:
            if name in IN_TORCH:
                return [str(torch), str(HERE / "torch_recipes.py"), name, str(file), str(epochs)]
            return [sys.executable, str(HERE / "recipes.py"), name, mnist, str(images), str(epochs)]

        yield command


def _write_images(mnist: str, images: int, file: Path) -> None:
    """Write the same binary images for a process that has no tfvae."""
    import numpy as np

    import tfvae

    data = tfvae.datasets.load(mnist, binarize="static")
    arrays = {"train": data.train.arrays(limit=images)[0], "test": data.test.arrays()[0]}
    np.savez(file, **{split: array.astype(np.uint8) for split, array in arrays.items()})


def speed(mnist: str, torch: str | None, images: int, rounds: int) -> dict[str, Any]:
    """Measure images a second, of epochs of so many images in turns."""
    names = [*IN_TENSORFLOW, *(IN_TORCH if torch else ()), *OURS, *FIT]
    processes: dict[str, Process] = {}
    seconds: dict[str, list[float]] = {name: [] for name in names}
    with commands(mnist, torch, images) as command:
        for name in names:
            processes[name] = Process(command(name, rounds + 1))
            processes[name].ask()  # the first epoch builds the graph
        for number in range(rounds):
            for name, process in processes.items():
                seconds[name].append(process.ask())
            rates = {name: round(images / seconds[name][-1]) for name in names}
            print(f"round {number + 1}: images/s {rates}", file=sys.stderr)
        for process in processes.values():
            process.close()
    recipes = {
        name: statistics.median(seconds[name]) for name in names if name not in (*OURS, *FIT)
    }
    fastest = min(recipes, key=recipes.__getitem__)
    return {
        "images": images,
        "rounds": rounds,
        "fastest": fastest,
        "rates": {name: images / statistics.median(seconds[name]) for name in names},
        "of_fastest": {
            name: statistics.median(
                a / b for a, b in zip(seconds[fastest], seconds[name], strict=True)
            )
            for name in names
        },
        "of_keras": {
            name: _spread([a / b for a, b in zip(seconds[KERAS], seconds[name], strict=True)])
            for name in names
        },
    }


def _spread(ratios: list[float]) -> list[float]:
    return [min(ratios), statistics.median(ratios), max(ratios)]


def below_floor(found: dict[str, Any]) -> list[str]:
    """Give a line for each ratio that is below its floor."""
    return [
        f"{name} is {found['of_keras'][name][1]:.2f} times the {KERAS}, expected at least {floor}"
        for name, floor in FLOORS.items()
        if name in found.get("of_keras", {}) and found["of_keras"][name][1] < floor
    ]


def speed_table(found: dict[str, Any]) -> str:
    """Give images a second as Markdown."""
    spreads = found.get("of_keras")
    if spreads is None:  # measured before there were any
        lines = ["| training | images/s | times the fastest recipe |", "| --- | ---: | ---: |"]
        lines += [
            f"| {name} | {rate:,.0f} | {found['of_fastest'][name]:.2f} |"
            for name, rate in found["rates"].items()
        ]
        return "\n".join(lines)
    lines = [
        f"| training | images/s | times the {KERAS} | lowest and highest turn | aimed at |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {name} | {rate:,.0f} | {spreads[name][1]:.2f} | "
        f"{spreads[name][0]:.2f} to {spreads[name][2]:.2f} | {AIMS.get(name, '')} |"
        for name, rate in found["rates"].items()
    ]
    return "\n".join(lines)


def reach(mnist: str, torch: str | None, images: int, epochs: int, steps: int) -> dict[str, Any]:
    """Measure seconds to the ELBO of each recipe: its own, and this package's with its defaults."""
    names = [*IN_TENSORFLOW, *(IN_TORCH if torch else ())]
    found: dict[str, Any] = {"epochs": epochs, "recipes": {}, "curves": {}}
    with commands(mnist, torch, images) as command:
        for name in names:
            with closing(Process([*command(name, epochs), "--straight"])) as process:
                found["recipes"][name] = process.answer()
            print(name, found["recipes"][name], file=sys.stderr)
    for precision in PRECISIONS:
        found["curves"][precision] = _default_run(mnist, images, steps, precision)
        print(precision, found["curves"][precision], file=sys.stderr)
    return found


def _default_run(mnist: str, images: int, steps: int, precision: str, *more: str) -> Any:
    given = [mnist, str(images), str(steps), precision, *more]
    with closing(Process([sys.executable, str(HERE / "default_run.py"), *given])) as process:
        return process.answer()


def seconds_to(curve: list[list[float]], elbo: float) -> float | None:
    """Give when a training first had an ELBO, None if it never had."""
    return next((seconds for seconds, value in curve if value >= elbo), None)


def reach_table(found: dict[str, Any]) -> str:
    """Give seconds to an ELBO as Markdown."""
    heads = [f"tfvae, {precision.removeprefix('mixed_')}" for precision in found["curves"]]
    lines = [
        f"| recipe | test ELBO after {found['epochs']} epochs | seconds | "
        + " | ".join(f"{head} | of the recipe's" for head in heads)
        + " |",
        "| --- | ---: | ---: |" + " ---: | ---: |" * len(heads),
    ]
    for name, recipe in found["recipes"].items():
        cells = [name, f"{recipe['elbo']:.2f}", f"{recipe['seconds']:.0f}"]
        for curve in found["curves"].values():
            seconds = seconds_to(curve, recipe["elbo"])
            if seconds is None:
                cells += ["not reached", ""]
            else:
                cells += [f"{seconds:.1f}", f"{seconds / recipe['seconds']:.2f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def precision(mnist: str, images: int, steps: int, seeds: int) -> dict[str, Any]:
    """Train the default model once a seed in each precision, and score it on the test images."""
    found: dict[str, list[float]] = {name: [] for name in PRECISIONS}
    for seed in range(seeds):
        for name, elbos in found.items():
            elbos.append(_default_run(mnist, images, steps, name, "--seed", str(seed)))
        print(
            f"seed {seed}: { ({name: elbos[-1] for name, elbos in found.items()}) }",
            file=sys.stderr,
        )
    return found


def precision_table(found: dict[str, Any]) -> str:
    """Give the difference that half precision makes as Markdown."""
    exact, half = found["float32"], found["mixed_bfloat16"]
    differences = [b - a for a, b in zip(exact, half, strict=True)]
    error = "" if len(exact) < 2 else f" ± {statistics.stdev(differences) / len(exact) ** 0.5:.2f}"
    return "\n".join(
        [
            "| seeds | float32 | bfloat16 | difference |",
            "| ---: | ---: | ---: | ---: |",
            f"| {len(exact)} | {statistics.mean(exact):.2f} | {statistics.mean(half):.2f} | "
            f"{statistics.mean(differences):+.2f}{error} |",
        ]
    )
