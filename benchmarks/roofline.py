"""The share of the machine's own rates that a training step reaches, layer by layer.

    python benchmarks/roofline.py MODEL PRECISION SECONDS

is run by training.py, a process each, with MODEL "default" or "recipes", whose networks all recipes
share. A layer can take no less time than its multiplications at the rate of a large matrix product,
or its reads and writes at the rate of memory, whichever is longer; its share is that time over the
one it took. Each product is counted once, as the layer's formula has it, whatever its kernel
computes. What a cache holds may arrive sooner than from memory.
"""

import functools
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import keras
import tensorflow as tf
from recipes import small_vae
from turns import say

import tfvae

BATCH_SIZE = 128
IMAGE_SHAPE = (28, 28, 1)
TURNS = 3
MODELS: dict[str, Callable[[], tfvae.VAE]] = {
    "default": lambda: tfvae.VAE.for_images(IMAGE_SHAPE, latent_dim=16, seed=0),
    "recipes": small_vae,
}


def seconds_of(calls: dict[str, Callable[[], Any]], least: float) -> dict[str, float]:
    """Give the seconds of each of some calls.

    They take turns, each repeated for at least so long; of the medians of a few turns the lowest
    counts, when others who use the machine were the quietest.
    """
    sync = tf.test.experimental.sync_devices  # a GPU answers before it has finished
    for call in calls.values():
        call()
    medians: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(TURNS):
        for name, call in calls.items():
            begun, taken = time.perf_counter(), []
            while len(taken) < 3 or time.perf_counter() - begun < least:
                sync()
                start = time.perf_counter()
                call()
                sync()
                taken.append(time.perf_counter() - start)
            medians[name].append(statistics.median(taken))
    return {name: min(of) for name, of in medians.items()}


def matrix_product(dtype: str) -> tuple[Callable[[], Any], int]:
    """Give a large matrix product, and its floating-point operations."""
    size = 8192 if tf.config.list_physical_devices("GPU") else 2048
    a, b = (tf.cast(tf.random.normal((size, size)), dtype) for _ in range(2))
    return functools.partial(tf.function(tf.matmul), a, b), 2 * size**3


def stream() -> tuple[Callable[[], Any], int]:
    """Give an addition to an array that no cache holds, in place, and the bytes that it moves."""
    size = 2**28 if tf.config.list_physical_devices("GPU") else 2**26
    variable, addend = tf.Variable(tf.zeros(size)), tf.ones(size)

    @tf.function
    def add():
        variable.assign_add(addend)

    return add, 3 * 4 * size


def layers_of(vae: tfvae.VAE) -> Iterator[tuple[str, Any, tuple[int, ...], tuple[int, ...]]]:
    """Give name, layer, and the shapes that it takes and puts out, of all that have weights."""
    shapes = {}
    for role, network in (("encoder", vae.encoder), ("decoder", vae.decoder)):
        for layer in network.layers:
            if layer.weights:
                shapes[layer] = (BATCH_SIZE, *layer.input.shape[1:])
                yield (
                    f"{role}, {_words(layer)}",
                    layer,
                    shapes[layer],
                    tuple(layer.output.shape[1:]),
                )
        features = (BATCH_SIZE, *network.output.shape[1:])
        family = vae.posterior_family if role == "encoder" else vae.likelihood_family
        for layer in family._flatten_layers(include_self=False, recursive=False):
            if layer.weights:
                out = layer.compute_output_shape(features)[1:]
                yield f"{type(family).__name__}, {_words(layer)}", layer, features, tuple(out)


def _words(layer: Any) -> str:
    kernel = layer.kernel.shape
    maps = (kernel[-1], kernel[-2]) if "Transpose" in type(layer).__name__ else kernel[-2:]
    return f"{type(layer).__name__} {maps[0]} to {maps[1]}"


def counts(
    layer: Any, taken: tuple[int, ...], given: tuple[int, ...], first: bool, width: int
) -> dict[str, tuple[int, int]]:
    """Give floating-point operations and bytes, forward and backward.

    Args:
        layer: dense or convolutional.
        taken: shape of the batch that it takes.
        given: shape of one image of what it gives.
        first: whether it takes the image itself, which needs no gradient.
        width: bytes of a number that the networks compute with.
    """
    batch, *inner = taken
    # A kernel is applied at each pixel of the smaller image.
    pixels = min(_pixels(inner), _pixels(given))
    product = 2 * batch * pixels * int(tf.size(layer.kernel))
    inputs, outputs = batch * _size(inner), batch * _size(given)
    weights = 4 * layer.count_params()  # variables stay in float32
    forward = width * (inputs + outputs) + weights
    # Reads inputs, weights and the outputs' gradient; writes those of inputs and weights.
    backward = width * (inputs * (1 if first else 2) + outputs) + 2 * weights
    return {"forward": (product, forward), "backward": ((1 if first else 2) * product, backward)}


def _pixels(shape: Any) -> int:
    return _size(shape[:2]) if len(shape) == 3 else 1


def _size(shape: Any) -> int:
    return int(tf.reduce_prod(shape))


def calls_of(layer: Any, taken: tuple[int, ...], first: bool) -> dict[str, Callable[[], Any]]:
    """Give a layer's call forward, and that forward and backward."""
    x = tf.cast(tf.random.normal(taken), layer.compute_dtype)
    sources = layer.trainable_variables if first else [x, *layer.trainable_variables]
    sources = [getattr(source, "value", source) for source in sources]

    def forward(x):  # no annotations: AutoGraph would look for them outside
        return layer(x)

    def both(x, upstream):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x)
        return y, tape.gradient(y, sources if first else [x, *sources[1:]], upstream)

    return {
        "forward": functools.partial(tf.function(forward), x),
        "both": functools.partial(tf.function(both), x, tf.ones_like(layer(x))),
    }


def measure(model: str, precision: str, least: float) -> dict[str, Any]:
    """Measure machine, layers, optimiser and the whole step of a model."""
    keras.config.set_dtype_policy(precision)
    vae = MODELS[model]()
    vae.compile("adam")
    dtype = keras.config.dtype_policy().compute_dtype
    weights = vae.trainable_variables
    gradients = [tf.zeros(weight.shape) for weight in weights]
    x = tf.cast(tf.random.uniform((BATCH_SIZE, *IMAGE_SHAPE)) < 0.2, tf.float32)
    product, operations = matrix_product(dtype)
    add, moved = stream()
    counted: dict[str, dict[str, tuple[int, int]]] = {}
    calls = {
        "product": product,
        "stream": add,
        "step": functools.partial(tf.function(vae.train_step), x),
        "Adam": tf.function(lambda: vae.optimizer.apply(gradients, weights)),
    }
    for number, (name, layer, taken, given) in enumerate(layers_of(vae)):
        counted[name] = counts(layer, taken, given, number == 0, tf.as_dtype(dtype).size)
        for way, call in calls_of(layer, taken, number == 0).items():
            calls[f"{name}, {way}"] = call
    seconds = seconds_of(calls, least)
    rates = {"matrix": operations / seconds["product"], "memory": moved / seconds["stream"]}

    def row(seconds: float, operations: int, size: int) -> dict[str, float]:
        bound = max(operations / rates["matrix"], size / rates["memory"])
        return {"operations": operations, "bytes": size, "seconds": seconds, "least": bound}

    rows = {}
    for name, ways in counted.items():
        forward, both = seconds[f"{name}, forward"], seconds[f"{name}, both"]
        rows[f"{name}, forward"] = row(forward, *ways["forward"])
        rows[f"{name}, backward"] = row(max(both - forward, 0.0), *ways["backward"])
    # Reads weights, gradients and two moments, writes all but the gradients.
    rows["Adam"] = row(seconds["Adam"], 0, 7 * 4 * vae.count_params())
    return {"rates": rates, "rows": rows, "step": seconds["step"]}


def table(found: dict[str, Any]) -> str:
    """Give the measured shares as Markdown, the precisions side by side."""
    lines = [
        f"- {precision}: matrix products {one['rates']['matrix'] / 1e9:,.0f} GFLOP/s, memory "
        f"{one['rates']['memory'] / 1e9:,.0f} GB/s"
        for precision, one in found.items()
    ]
    heads = [head for precision in found for head in (f"{precision}, ms", "of the roofline")]
    lines += [
        "",
        f"| | MFLOP | {' | '.join(heads)} |",
        f"| --- | ---: |{' ---: |' * len(heads)}",
    ]
    first = next(iter(found.values()))
    for name, row in first["rows"].items():
        cells = [
            cell
            for one in found.values()
            for cell in _cells(one["rows"][name]["least"], one["rows"][name]["seconds"])
        ]
        lines.append(f"| {name} | {row['operations'] / 1e6:,.0f} | {' | '.join(cells)} |")
    whole: dict[str, list[str]] = {"all of these": [], "a whole step": []}
    for one in found.values():
        least, seconds = (
            sum(row[key] for row in one["rows"].values()) for key in ("least", "seconds")
        )
        whole["all of these"] += _cells(least, seconds)
        whole["a whole step"] += _cells(least, one["step"])
    operations = sum(row["operations"] for row in first["rows"].values())
    for name, cells in whole.items():
        lines.append(f"| **{name}** | {operations / 1e6:,.0f} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cells(least: float, seconds: float) -> list[str]:
    return [f"{seconds * 1e3:.2f}", f"{least / seconds:.0%}" if seconds else ""]


if __name__ == "__main__":
    say(measure(sys.argv[1], sys.argv[2], float(sys.argv[3])))
