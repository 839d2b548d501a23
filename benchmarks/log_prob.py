"""How fast log p(x) is estimated: beside the bare decoder, and beside pythae's `get_nll`.

    python benchmarks/log_prob.py [--pythae PYTHON]

counts latent vectors decoded in a second, of the same networks in the same run, taking turns, and
the memory that is taken with few and with many draws. The bare decoder runs in the fastest of some
batch sizes, traced and warm; of `log_prob` whole calls count, with all that they trace. `PYTHON` is
the interpreter of an environment with pythae and torch; without it that column is left out. The
tables of docs/evaluate.md are what it prints at its end and writes to benchmarks/log_prob.json, or
at once with --table.
"""

import json
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import cyclopts
from cyclopts import Parameter

HERE = Path(__file__).parent
RESULTS = Path(__file__).with_suffix(".json")
IMAGE_SHAPE = (28, 28, 1)
BATCH_SIZES = (64, 128, 256, 512, 1024, 2048)
SECONDS = 5.0  # of a turn of the decoder
DRAWS = (100, 1000, 5000)
DECODES = 100_000  # for each of these, so that nothing but the draws differs


def default_networks() -> Any:
    """Give the default model for 28 x 28 images, 16 latent dimensions."""
    import tfvae

    return tfvae.VAE.for_images(IMAGE_SHAPE, latent_dim=16, seed=0)


def small_networks() -> Any:
    """Give the small convolutional model that pythae_log_prob.py has in PyTorch."""
    import keras
    from keras import layers

    import tfvae

    image, z = keras.Input(IMAGE_SHAPE), keras.Input((2,))
    x = layers.Conv2D(32, 3, strides=2, padding="same", activation="relu")(image)
    x = layers.Conv2D(64, 3, strides=2, padding="same", activation="relu")(x)
    encoder = keras.Model(image, layers.Dense(16, activation="relu")(layers.Flatten()(x)))
    y = layers.Reshape((7, 7, 64))(layers.Dense(7 * 7 * 64, activation="relu")(z))
    y = layers.Conv2DTranspose(64, 3, strides=2, padding="same", activation="relu")(y)
    y = layers.Conv2DTranspose(32, 3, strides=2, padding="same", activation="relu")(y)
    decoder = keras.Model(z, layers.Conv2DTranspose(1, 3, padding="same")(y))
    return tfvae.VAE(encoder, decoder, 2, seed=0)


NETWORKS = {"default": default_networks, "small": small_networks}


def bare_decoder(vae: Any) -> Any:
    """Give a function from a batch size to decodes a second, of network and last layer alone."""
    import tensorflow as tf

    @tf.function(reduce_retracing=True)
    def decode(z):  # no annotation: AutoGraph would look for tf outside
        return vae.likelihood_family(vae.decoder(z))

    def rate(batch_size: int, seconds: float) -> float:
        z = tf.random.stateless_normal((batch_size, vae.latent_dim), (1, 2))
        decode(z)
        count, begun = 0, time.perf_counter()
        while time.perf_counter() - begun < seconds:
            decode(z)
            count += batch_size
        return count / (time.perf_counter() - begun)

    return rate


def estimator(vae: Any, num_samples: int, images: int) -> Any:
    """Give a function to decodes a second of a whole call of `log_prob`."""
    import tensorflow as tf

    import tfvae

    x = tf.random.stateless_uniform((images, *IMAGE_SHAPE), (3, 4)) < 0.2
    data = tf.data.Dataset.from_tensor_slices(tf.cast(x, tf.float32)).batch(128)

    def rate() -> float:
        begun = time.perf_counter()
        tfvae.evaluation.log_prob(vae, data, num_samples=num_samples)
        return images * num_samples / (time.perf_counter() - begun)

    return rate


class Pythae:
    """pythae's `get_nll` in a process of its own, which runs when it is told."""

    def __init__(self, python: str, num_samples: int, images: int):
        command = [python, str(HERE / "pythae_log_prob.py"), str(num_samples), str(images)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.version = self._answer()

    def rate(self) -> float:
        """Measure decodes a second."""
        print("go", file=self._process.stdin, flush=True)
        return float(self._answer())

    def _answer(self) -> str:
        line = self._process.stdout.readline()
        if not line:
            sys.exit("pythae's process ended: does its environment have pythae and torch?")
        return line.strip()


def measure(name: str, options: dict[str, Any], pythae: Pythae | None) -> dict[str, Any]:
    """Measure one model: medians over rounds of what takes turns."""
    vae = NETWORKS[name]()
    bare = bare_decoder(vae)
    by_size = {size: bare(size, SECONDS / 5) for size in BATCH_SIZES}
    best = max(by_size, key=by_size.__getitem__)
    ours = estimator(vae, options["num_samples"], options["images"])
    rounds = []
    for number in range(options["rounds"]):
        rates = {"decoder": bare(best, SECONDS), "log_prob": ours()}
        if pythae is not None:
            rates["pythae"] = pythae.rate()
        print(name, number + 1, rates, file=sys.stderr)
        rounds.append(rates)

    def median(key: str, over: str | None = None) -> float:
        return statistics.median(one[key] / (one[over] if over else 1) for one in rounds)

    found = {
        "batch_size": best,
        "decoder": median("decoder"),
        "log_prob": median("log_prob"),
        "of_decoder": median("log_prob", "decoder"),
    }
    if pythae is not None:
        found |= {"pythae": median("pythae"), "times_pythae": median("log_prob", "pythae")}
    return found


def memory(num_samples: int) -> float:
    """Measure the most memory that a process with one estimate takes, MiB."""
    images = DECODES // num_samples
    command = [sys.executable, __file__, "--peak", str(num_samples), "--images", str(images)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout)


def table(results: dict[str, Any]) -> str:
    """Give the results as Markdown."""
    lines = [
        "| networks | bare decoder | `log_prob` | of the decoder | `get_nll` | times `get_nll` |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, one in results["networks"].items():
        cells = [
            name,
            f"{one['decoder']:,.0f}/s",
            f"{one['log_prob']:,.0f}/s",
            f"{one['of_decoder']:.0%}",
            f"{one['pythae']:,.0f}/s" if "pythae" in one else "",
            f"{one['times_pythae']:.1f}" if "pythae" in one else "",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "| draws an image | most memory |", "| ---: | ---: |"]
    lines += [f"| {draws} | {size:,.0f} MiB |" for draws, size in results["memory"].items()]
    return "\n".join(lines)


def main(
    *,
    pythae: Annotated[
        str | None, Parameter(help="Python of an environment with pythae and torch.")
    ] = None,
    num_samples: Annotated[int, Parameter(help="Draws of z an image.")] = 5000,
    images: Annotated[int, Parameter(help="Images of each call.")] = 60,
    pythae_images: Annotated[int, Parameter(help="Images of each call of pythae.")] = 6,
    rounds: Annotated[int, Parameter(help="Turns of each.")] = 5,
    out: Annotated[Path, Parameter(help="JSON file to write.")] = RESULTS,
    show: Annotated[
        bool, Parameter(name="--table", help="Only print the table.", negative=())
    ] = False,
    peak: Annotated[int | None, Parameter(show=False)] = None,
) -> None:
    """Measure how fast, and in how much memory, log p(x) is estimated."""
    if peak is not None:
        estimator(default_networks(), peak, images)()
        # Not getrusage, whose maximum a process inherits from the one that started it.
        status = Path("/proc/self/status").read_text()
        print(int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024)
        return
    if not show:
        options = {"num_samples": num_samples, "images": images, "rounds": rounds}
        other = None if pythae is None else Pythae(pythae, num_samples, pythae_images)
        results = {
            "options": options,
            "pythae": None if other is None else other.version,
            "networks": {
                "default": measure("default", options, None),
                "small": measure("small", options, other),
            },
            "memory": {draws: memory(draws) for draws in DRAWS},
        }
        out.write_text(json.dumps(results, indent=1) + "\n")
    print(table(json.loads(out.read_text())))


if __name__ == "__main__":
    cyclopts.run(main)
