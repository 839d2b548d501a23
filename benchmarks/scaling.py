"""How the seconds of a step grow with batch, image, latent dimension, K and the data set.

    python benchmarks/scaling.py AXIS STEPS

is run by training.py, a process for each axis; images are random bits.
"""

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from turns import say

# What varies along each axis; the rest is as in BASE.
AXES: dict[str, tuple[int, ...]] = {
    "batch size": (16, 32, 64, 128, 256, 512),
    "image side": (16, 28, 32, 64, 128),
    "latent dimension": (2, 8, 32, 128, 512),
    "draws K": (1, 2, 4, 8, 16),
    "data set": (1_000, 4_000, 16_000, 64_000),
}
BASE = {"batch size": 128, "image side": 28, "latent dimension": 16, "draws K": 1, "data set": 0}


def seconds_a_step(setting: dict[str, int], steps: int) -> float:
    """Train a default model for a while, and give a step's seconds in the quickest epoch."""
    import keras
    import numpy as np

    import tfvae

    batch_size, side, count = (setting[name] for name in ("batch size", "image side", "data set"))
    # Without a size of its own, the data set is as many batches as are timed.
    images = count or steps * batch_size
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "images.npy"
        # Of them come the validation and test images as well, a tenth each.
        bits = np.random.default_rng(0).random((-(-images * 5 // 4), side, side, 1)) < 0.2
        np.save(file, bits.astype(np.uint8) * np.uint8(255))
        data = tfvae.datasets.load(str(file))
    train = data.train.subset(images)
    vae = tfvae.VAE.for_images(
        data.image_shape,
        latent_dim=setting["latent dimension"],
        objective=f"iwae:num_samples={setting['draws K']}",
        seed=0,
    )
    vae.compile(keras.optimizers.Adam(1e-3))
    taken: list[float] = []
    begun = [0.0]
    batches = tfvae.datasets.Batches(train, batch_size, shuffle=True)

    class Clock(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            begun[0] = time.perf_counter()

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            taken.append((time.perf_counter() - begun[0]) / len(batches))

    # The first epoch builds the graph.
    epochs = 2 if count > steps * batch_size else 4
    tfvae.training.train(vae, batches, epochs=epochs, callbacks=[Clock()], progress=False)
    return min(taken[1:])


def fit(points: dict[str, float]) -> tuple[float, float]:
    """Fit seconds = factor * size ** exponent; give the exponent, to two places, and the factor."""
    import numpy as np

    sizes = [float(size) for size in points]
    exponent, log_factor = np.polyfit(np.log(sizes), np.log(list(points.values())), 1)
    return round(float(exponent), 2) + 0.0, float(np.exp(log_factor))  # + 0.0: not "-0.00"


def table(found: dict[str, dict[str, float]]) -> str:
    """Give the slopes as Markdown."""
    lines = ["| | from | to | ms a step | slope |", "| --- | ---: | ---: | ---: | ---: |"]
    for axis, points in found.items():
        first, *_, last = points
        lines.append(
            f"| {axis} | {int(first):,} | {int(last):,} | "
            f"{points[first] * 1e3:.1f} to {points[last] * 1e3:.1f} | {fit(points)[0]:.2f} |"
        )
    return "\n".join(lines)


def picture(found: dict[str, dict[str, float]], file: Path) -> None:
    """Draw one panel an axis, with the line that the slope is of."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2.6 * len(found), 2.4), layout="constrained")
    panels = figure.subplots(1, len(found), sharey=True, squeeze=False)[0]
    for panel, (axis, points) in zip(panels, found.items(), strict=True):
        sizes = [float(size) for size in points]
        milliseconds = [1e3 * seconds for seconds in points.values()]
        exponent, factor = fit(points)
        line = [1e3 * factor * size**exponent for size in sizes]
        panel.loglog(sizes, line, color="0.75")
        panel.loglog(sizes, milliseconds, "o", color="C0")
        labels = [f"{size / 1000:g}k" if size >= 1000 else f"{size:g}" for size in sizes]
        for place in range(1, len(sizes)):
            if sizes[place] < 1.5 * sizes[place - 1]:
                labels[place] = ""  # no room
        panel.set_xticks(sizes, labels, fontsize="small")
        panel.minorticks_off()
        panel.set_xlabel(axis)
        panel.set_title(f"slope {exponent:.2f}", fontsize="medium")
        panel.grid(which="major", color="0.92")
    panels[0].set_ylabel("ms a step")
    panels[0].set_yticks([10, 30, 100, 300], ["10", "30", "100", "300"])
    figure.savefig(file, dpi=120)


def main() -> None:
    """Measure along one axis."""
    axis, steps = sys.argv[1], int(sys.argv[2])
    points = {}
    for size in map(int, sys.argv[3:]):
        points[size] = seconds_a_step(BASE | {axis: size}, steps)
        print(axis, size, f"{points[size] * 1e3:.2f} ms a step", file=sys.stderr)
    say(points)


if __name__ == "__main__":
    main()
