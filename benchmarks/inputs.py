"""How large inputs reach a training: images in files, long series, long and wide tables.

    python benchmarks/inputs.py NAME SMALLER LARGER ROUNDS

is run by training.py, which writes both data sets, the larger with four times the events, and a
process for each input, which opens one after the other as if neither fitted into memory. It
measures

* the events a second of a pass over the batches alone, and of a training with the default network;
* the share of an epoch that the training waits for its batches: the time that passes until the next
  one is there, from the opening of the iterator on, over that of the whole epoch. Batches are made
  while a step runs. What this takes from processors that train is no waiting: it is at most the
  ratio of the two rates;
* the most anonymous memory of the process, beyond what it had before it opened the smaller. Pages
  of mapped files do not count: the system takes them back when it needs them. It is sampled, under
  Linux alone. What is held of a table grows until the rows that are read at a time and the sample
  that tells its columns are full, of some hundred MiB;
* the slopes of opening, of a pass and of an epoch: the exponent of seconds ~ events^slope.

    python benchmarks/inputs.py --fit WHOSE IMAGES

measures the memory of `fit` on an array, this package's or Keras' with the networks of recipes.py,
beyond what the process had with the array and the model.
"""

import functools
import math
import re
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import scaling
from turns import Process, say

LONGER = 4
# Different pictures; a folder of more has them several times.
PICTURES = 64
# Whose `fit` on an array, and how many steps of it.
FIT = ("Keras", "tfvae")
STEPS = 10


@dataclass(frozen=True)
class Input:
    """One kind of data.

    Attributes:
        write: makes so many events in a folder, and says what to open.
        events: how many the smaller data set has.
        batch_size: events of a batch.
        steps: how many of them the shorter training has; the longer has four times as many.
        in_memory: whether the events are to be held in memory.
    """

    write: Callable[[Path, int], Path]
    events: int
    batch_size: int
    steps: int = 2
    in_memory: bool = False


# --- the data -------------------------------------------------------------------------------------


def pictures(side: int, count: int) -> np.ndarray:
    """Draw waves of three colours and some noise, bytes `[count, side, side, 3]`."""
    random = np.random.default_rng(0)
    y, x = np.mgrid[:side, :side][..., np.newaxis] / side
    down, right, phase = random.uniform(0, 2 * np.pi, (3, count, 1, 1, 3))
    waves = 0.5 + 0.4 * np.sin(down * y + right * x + phase)
    noisy = waves + random.normal(0, 0.03, waves.shape)
    return np.clip(255 * noisy, 0, 255).astype(np.uint8)


def write_files(side: int, suffix: str, folder: Path, count: int) -> Path:
    """Write picture files."""
    from PIL import Image

    encoded = []
    for picture in pictures(side, min(PICTURES, count)):
        file = BytesIO()
        Image.fromarray(picture).save(file, suffix)
        encoded.append(file.getvalue())
    for number in range(count):
        (folder / f"{number}.{suffix}").write_bytes(encoded[number % len(encoded)])
    return folder


def write_images(side: int, folder: Path, count: int) -> Path:
    """Write images into one .npy file."""
    file = folder / "images.npy"
    distinct = pictures(side, min(PICTURES, count))
    images = np.lib.format.open_memmap(file, "w+", np.uint8, (count, side, side, 3))
    for start in range(0, count, len(distinct)):
        images[start : start + len(distinct)] = distinct[: count - start]
    return file


def write_series(steps: int, folder: Path, count: int) -> Path:
    """Write random walks of two channels into an .npz file."""
    moves = np.random.default_rng(0).normal(size=(count, steps, 2)).astype(np.float32)
    file = folder / "series.npz"
    np.savez(file, x_train=np.cumsum(moves, axis=1) / np.sqrt(np.float32(steps)))
    return file


def write_table(columns: int, suffix: str, folder: Path, count: int) -> Path:
    """Write numbers of four places, and in the last column one of five words."""
    import pyarrow as pa
    from pyarrow import csv, parquet

    random = np.random.default_rng(0)
    numbers = random.normal(size=(columns - 1, count)).round(4)
    words = np.array(["red", "green", "blue", "white", "black"])[random.integers(0, 5, count)]
    table = pa.table({f"x{place}": of for place, of in enumerate(numbers)} | {"colour": words})
    file = folder / f"table.{suffix}"
    (csv.write_csv if suffix == "csv" else parquet.write_table)(table, file)
    return file


INPUTS = {
    "PNG, 128x128x3": Input(functools.partial(write_files, 128, "png"), 500, 16),
    "PNG, 256x256x3": Input(functools.partial(write_files, 256, "png"), 250, 8),
    "JPEG, 128x128x3": Input(functools.partial(write_files, 128, "jpeg"), 500, 16),
    "JPEG, 256x256x3": Input(functools.partial(write_files, 256, "jpeg"), 250, 8),
    "npy, 128x128x3": Input(functools.partial(write_images, 128), 500, 16),
    "npz, 10,000x2": Input(functools.partial(write_series, 10_000), 250, 8),
    "CSV, 10 columns": Input(functools.partial(write_table, 10, "csv"), 250_000, 1024, 8),
    "Parquet, 10 columns": Input(functools.partial(write_table, 10, "parquet"), 250_000, 1024, 8),
    "Parquet, 10 columns, in memory": Input(
        functools.partial(write_table, 10, "parquet"), 250_000, 1024, 8, in_memory=True
    ),
    "CSV, 1,000 columns": Input(functools.partial(write_table, 1000, "csv"), 2_500, 256),
    "Parquet, 1,000 columns": Input(functools.partial(write_table, 1000, "parquet"), 2_500, 256),
}


# --- what is measured -----------------------------------------------------------------------------


def anonymous_memory() -> float:
    """Give the memory of the process that no file backs, MiB."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(re.search(r"RssAnon:\s+(\d+) kB", status)[1]) / 1024


@contextmanager
def peak() -> Iterator[list[float]]:
    """Give a list that ends with the most memory there was so far, MiB."""
    highest = [anonymous_memory()]
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.005):
            highest.append(max(highest.pop(), anonymous_memory()))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield highest
    finally:
        over.set()
        watcher.join()


def passing(batches: Any) -> float:
    """Give the seconds of a pass over batches."""
    begun = time.perf_counter()
    for _ in batches:
        pass
    return time.perf_counter() - begun


def training(step: Callable[[Any], Any], batches: Any) -> tuple[float, float]:
    """Give the seconds of an epoch, and those of them in which the next batch was waited for."""
    waited, begun = 0.0, time.perf_counter()
    iterator = None
    while True:
        asked = time.perf_counter()
        iterator = iterator or iter(batches)
        batch = next(iterator, None)
        waited += time.perf_counter() - asked
        if batch is None:
            return time.perf_counter() - begun, waited
        float(step(batch)["loss"])  # waits for the step, on a GPU too


def measure_one(given: Input, files: list[Path], rounds: int) -> dict[str, Any]:
    """Open, pass over and train on the smaller data, then the larger."""
    import tensorflow as tf

    import tfvae

    found: dict[str, Any] = {name: {} for name in ("open", "pass", "epoch", "peak")}
    step: Any = None
    before = anonymous_memory()
    with peak() as highest:
        for file, longer in zip(files, (1, LONGER), strict=True):
            begun = time.perf_counter()
            data = tfvae.datasets.load(str(file), memory_limit=2**30 if given.in_memory else 0)
            opening = time.perf_counter() - begun

            def batches(split: Any) -> Any:
                # Full ones alone, which one graph serves.
                size = given.batch_size
                return split.batches(size, shuffle=True, drop_remainder=True)

            whole = batches(data.train)
            part = batches(data.train.subset(longer * given.steps * given.batch_size))
            if step is None:
                schema = data.train.source.schema
                likelihood = "normal" if schema is None else schema.likelihood()
                vae = tfvae.VAE.for_events(data.event_shape, likelihood=likelihood, seed=0)
                vae.compile("adam")
                vae.adapt_once(part)
                step = tf.function(vae.train_step)
                step(next(iter(part)))  # builds the graph
            passes = [passing(whole) for _ in range(rounds)]
            epochs = [training(step, part) for _ in range(rounds)]
            events, trained = (len(of.split) for of in (whole, part))
            found["open"][events] = opening
            found["pass"][events] = statistics.median(passes)
            found["epoch"][trained] = statistics.median(seconds for seconds, _ in epochs)
            found["peak"][events] = highest[0] - before
    return found | {
        "MiB": data.train.source.dtype.itemsize * events * math.prod(data.event_shape) / 2**20,
        "alone": events / found["pass"][events],
        "training": trained / found["epoch"][trained],
        "waiting": statistics.median(waited / seconds for seconds, waited in epochs),
    }


def memory_of_fit(whose: str, images: int) -> dict[str, float]:
    """Give the memory that some steps of `fit` take beyond an array and a model."""
    import keras
    from recipes import BATCH_SIZE, IMAGE_SHAPE, KerasExample, small_vae

    x = np.random.default_rng(0).random((images, *IMAGE_SHAPE), np.float32)
    model = small_vae() if whose == "tfvae" else KerasExample()
    model.compile(keras.optimizers.Adam(1e-3))
    before = anonymous_memory()
    with peak() as highest:
        model.fit(x, batch_size=BATCH_SIZE, steps_per_epoch=STEPS, verbose=0)
    return {"MiB": x.nbytes / 2**20, "peak": highest[0] - before}


def measure(size: float, rounds: int, images: int) -> dict[str, Any]:
    """Measure all inputs.

    Args:
        size: times the events that `INPUTS` names.
        rounds: passes and epochs of each.
        images: of the array in memory.
    """
    inputs = {}
    for name, given in INPUTS.items():
        with tempfile.TemporaryDirectory() as folder:
            paths = []
            for times in (1, LONGER):
                place = Path(folder) / str(times)
                place.mkdir()
                paths.append(given.write(place, round(times * size * given.events)))
            inputs[name] = _ask(name, *map(str, paths), str(rounds))
    return {"inputs": inputs, "fit": {whose: _ask("--fit", whose, str(images)) for whose in FIT}}


def _ask(*arguments: str) -> Any:
    with closing(Process([sys.executable, __file__, *arguments])) as process:
        found = process.answer()
    print(arguments, found, file=sys.stderr)
    return found


# --- what is shown --------------------------------------------------------------------------------


def table(found: dict[str, Any]) -> str:
    """Give the figures as Markdown."""
    lines = [
        "| | events | MiB | opening, s | events/s alone | in training | waiting | memory, MiB "
        f"| {LONGER} times longer | slopes of opening, pass, epoch |",
        "| --- |" + " ---: |" * 9,
    ]
    for name, row in found["inputs"].items():
        events, opening = list(row["open"].items())[-1]
        smaller, larger = row["peak"].values()
        slopes = ", ".join(f"{scaling.fit(row[key])[0]:.2f}" for key in ("open", "pass", "epoch"))
        lines.append(
            f"| {name} | {int(events):,} | {row['MiB']:,.0f} | {opening:.1f} | "
            f"{row['alone']:,.0f} | {row['training']:,.0f} | {row['waiting']:.1%} | "
            f"{smaller:,.0f} | {larger - smaller:+,.0f} | {slopes} |"
        )
    theirs, ours = (found["fit"][whose]["peak"] for whose in FIT)
    return "\n".join(
        [
            *lines,
            "",
            f"| `fit` on an array of {found['fit']['tfvae']['MiB']:,.0f} MiB | Keras | tfvae "
            "| times Keras |",
            "| --- | ---: | ---: | ---: |",
            f"| most memory beyond it, MiB | {theirs:,.0f} | {ours:,.0f} | {ours / theirs:.2f} |",
        ]
    )


def main() -> None:
    """Measure one input, or `fit`."""
    if sys.argv[1] == "--fit":
        say(memory_of_fit(sys.argv[2], int(sys.argv[3])))
        return
    name, smaller, larger, rounds = sys.argv[1:]
    say(measure_one(INPUTS[name], [Path(smaller), Path(larger)], int(rounds)))


if __name__ == "__main__":
    main()
