"""How fast encoder and decoder run in each runtime: Keras, TensorFlow, ONNX Runtime and LiteRT.

    python benchmarks/runtimes.py

takes the default model for 28 x 28 images with 16 latent dimensions, untrained, and calls each
runtime in turns in one process, with two threads each, from NumPy arrays to NumPy arrays: batches
of one for the latency, batches of 256 for the throughput. The bare decoder is network and last
layer in a `tf.function`, which the SavedModel's signature is compared with. The tables of
docs/serve.md are what it prints at its end and writes to benchmarks/runtimes.json, or at once with
--table.
"""

import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import cyclopts
import numpy as np
from cyclopts import Parameter
from machine import machine

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

RESULTS = Path(__file__).with_suffix(".json")
IMAGE_SHAPE = (28, 28, 1)
LATENT_DIM = 16
NETWORK = "conv"  # the default for images
THREADS = 2
BATCH_SIZES = (1, 256)  # for latency, for throughput
SAVED_MODEL, BARE = "SavedModel signature", "bare decoder"
PACKAGES = ("tensorflow", "keras", "onnxruntime", "ai-edge-litert")

Call = Callable[[np.ndarray], np.ndarray]


def callers(vae: Any, folder: Path) -> dict[str, dict[str, Call]]:
    """Give for each function and runtime a call from an array to an array."""
    import tensorflow as tf

    from tfvae.serving import runtimes

    vae.export(folder / "saved_model")
    runtimes.export_onnx(vae, folder / "onnx")
    runtimes.export_litert(vae, folder / "litert")
    runtimes.export_litert(vae, folder / "int8", quantize=True)
    signatures = tf.saved_model.load(str(folder / "saved_model")).signatures

    def eager_encode(x: Any) -> Any:
        return vae.encode(x).mean()

    def eager_decode(z: Any) -> Any:
        return vae.decode(z).mean()

    def bare(z: Any) -> Any:
        return vae.likelihood_family(vae.decoder(z))["logits"]

    def in_tensorflow(function: Callable[..., Any]) -> Call:
        return lambda array: function(tf.constant(array)).numpy()

    def in_saved_model(name: str, taken: str, given: str) -> Call:
        signature = signatures[name]
        return lambda array: signature(**{taken: tf.constant(array)})[given].numpy()

    found = {}
    for name, taken, given, eager in (
        ("encode", "images", "loc", eager_encode),
        ("decode", "z", "images", eager_decode),
    ):
        found[name] = {
            "Keras, eager": in_tensorflow(eager),
            "tf.function": in_tensorflow(tf.function(eager, autograph=False)),
            SAVED_MODEL: in_saved_model(name, taken, given),
            "ONNX Runtime": in_onnx(folder / "onnx" / f"{name}.onnx", taken, given),
            "LiteRT": in_litert(folder / "litert" / f"{name}.tflite", taken, given),
            "LiteRT, 8-bit weights": in_litert(folder / "int8" / f"{name}.tflite", taken, given),
        }
    found["decode"][BARE] = in_tensorflow(tf.function(bare, autograph=False))
    return found


def in_onnx(file: Path, taken: str, given: str) -> Call:
    """Give a call of an ONNX file."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    session = onnxruntime.InferenceSession(file, options)
    return lambda array: session.run([given], {taken: array})[0]


def in_litert(file: Path, taken: str, given: str) -> Call:
    """Give a call of a LiteRT file."""
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(str(file), num_threads=THREADS).get_signature_runner()
    return lambda array: runner(**{taken: array})[given]


def turn(call: Call, array: np.ndarray, seconds: float) -> list[float]:
    """Call for so long, at least twice; give the seconds of each call."""
    call(array)  # another batch size than before: traced, or laid out anew
    times: list[float] = []
    while sum(times) < seconds or len(times) < 2:
        begun = time.perf_counter()
        call(array)
        times.append(time.perf_counter() - begun)
    return times


def measure(calls: dict[str, Call], array: np.ndarray, rounds: int, seconds: float) -> Any:
    """Give for each runtime the seconds of its calls, round by round.

    The order turns round each time, so that none always comes after the same one.
    """
    found: dict[str, list[list[float]]] = {name: [] for name in calls}
    for number in range(rounds):
        for name in list(calls)[:: -1 if number % 2 else 1]:
            found[name].append(turn(calls[name], array, seconds))
        print(len(array), number + 1, "of", rounds, file=sys.stderr)
    return found


def summary(name: str, times: dict[int, dict[str, list[list[float]]]]) -> dict[str, float]:
    """Give latency in milliseconds and images a second of one runtime."""
    one, many = BATCH_SIZES
    latencies = 1000 * np.concatenate(times[one][name])
    return {
        "p50": float(np.percentile(latencies, 50)),
        "p99": float(np.percentile(latencies, 99)),
        "images_per_second": statistics.median(
            many * len(calls) / sum(calls) for calls in times[many][name]
        ),
    }


def overhead(times: dict[str, list[list[float]]]) -> float:
    """Give how much longer than the bare decoder the signature takes: a median over rounds."""
    pairs: Iterable[Any] = zip(times[SAVED_MODEL], times[BARE], strict=True)
    return statistics.median(
        statistics.median(signature) / statistics.median(bare) - 1 for signature, bare in pairs
    )


def table(results: dict[str, Any]) -> str:
    """Give the results as Markdown."""
    lines = [
        "| | encode, p50 | p99 | images/s | decode, p50 | p99 | images/s |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name in results["decode"]:
        cells = [name]
        for function in ("encode", "decode"):
            one = results[function].get(name)
            cells += (
                ["", "", ""]
                if one is None
                else [
                    f"{one['p50']:.2f} ms",
                    f"{one['p99']:.2f} ms",
                    f"{one['images_per_second']:,.0f}",
                ]
            )
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "| batch | signature over the bare decoder |", "| ---: | ---: |"]
    lines += [f"| {size} | {share:+.1%} |" for size, share in results["overhead"].items()]
    return "\n".join(lines)


def main(
    *,
    rounds: Annotated[int, Parameter(help="Turns of each.")] = 7,
    seconds: Annotated[float, Parameter(help="How long a turn takes.")] = 1.0,
    out: Annotated[Path, Parameter(help="JSON file to write.")] = RESULTS,
    show: Annotated[
        bool, Parameter(name="--table", help="Only print the table.", negative=())
    ] = False,
) -> None:
    """Measure how fast encoder and decoder run in each runtime."""
    if not show:
        import tfvae

        vae = tfvae.VAE.for_images(IMAGE_SHAPE, latent_dim=LATENT_DIM, network=NETWORK, seed=0)
        rng = np.random.default_rng(0)
        results: dict[str, Any] = {
            "options": {"rounds": rounds, "seconds": seconds, "threads": THREADS},
            "versions": {name: version(name) for name in PACKAGES},
            "machine": machine(),
        }
        with tempfile.TemporaryDirectory() as folder:
            for function, calls in callers(vae, Path(folder)).items():
                shape = IMAGE_SHAPE if function == "encode" else (LATENT_DIM,)
                times = {
                    size: measure(calls, rng.random((size, *shape), np.float32), rounds, seconds)
                    for size in BATCH_SIZES
                }
                results[function] = {name: summary(name, times) for name in calls}
                if function == "decode":
                    results["overhead"] = {size: overhead(times[size]) for size in BATCH_SIZES}
        out.write_text(json.dumps(results, indent=1) + "\n")
    print(table(json.loads(out.read_text())))


if __name__ == "__main__":
    import tensorflow as tf

    # Before TensorFlow makes its threads.
    tf.config.threading.set_intra_op_parallelism_threads(THREADS)
    tf.config.threading.set_inter_op_parallelism_threads(THREADS)
    cyclopts.run(main)
