"""How long one event takes through each public method, beside the same method called eagerly.

    python benchmarks/latency.py CALLS ROUNDS

is run by training.py. Both take turns in one process; what counts is processor time.
"""

import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
from turns import say

import tfvae

# Calls before the first that is timed: the first ones are eager, and one traces the graph.
WARM_UP = 5
# How many times faster than eagerly each must be.
LEAST = 3.0


def methods() -> dict[str, Callable[[], Any]]:
    """Give calls of the default model of small images, with one event each."""
    vae = tfvae.VAE.for_images((28, 28, 1), seed=0)
    x = np.random.default_rng(0).random((1, 28, 28, 1)).astype("float32")
    z = np.zeros((1, vae.latent_dim), "float32")
    return {
        "encode": lambda: vae.encode(x),
        "code": lambda: vae.code(x),
        "elbo": lambda: vae.elbo(x, seed=0),
        "sample": lambda: vae.sample(1, seed=0),
        "reconstruct": lambda: vae.reconstruct(x),
        "decode": lambda: vae.decode(z),
        "log_likelihood": lambda: vae.log_likelihood(x, z),
    }


def _milliseconds(call: Callable[[], Any], calls: int) -> float:
    begun = time.process_time()
    for _ in range(calls):
        call()
    return (time.process_time() - begun) / calls * 1e3


def measure(calls: int, rounds: int) -> dict[str, Any]:
    """Measure each method both ways, in turns."""
    found: dict[str, Any] = {}
    for name, call in methods().items():
        for _ in range(WARM_UP):
            call()
        pairs = []
        for _ in range(rounds):
            graph = _milliseconds(call, calls)
            tf.config.run_functions_eagerly(True)
            eager = _milliseconds(call, max(1, calls // 5))
            tf.config.run_functions_eagerly(False)
            pairs.append((graph, eager))
        ratios = [eager / graph for graph, eager in pairs]
        found[name] = {
            "graph": statistics.median(graph for graph, _ in pairs),
            "eager": statistics.median(eager for _, eager in pairs),
            "ratio": [min(ratios), statistics.median(ratios), max(ratios)],
        }
    return found


def below_floor(found: dict[str, Any]) -> list[str]:
    """Give a line for each method that is not as fast as it must be."""
    return [
        f"{name} is {row['ratio'][1]:.1f} times faster than eagerly, expected at least {LEAST:g}"
        for name, row in found.items()
        if row["ratio"][1] < LEAST
    ]


def table(found: dict[str, Any]) -> str:
    """Give the milliseconds as Markdown."""
    lines = [
        "| one event through | ms | eagerly, ms | times faster |",
        "| --- | ---: | ---: | ---: |",
    ]
    lines += [
        f"| `{name}` | {row['graph']:.2f} | {row['eager']:.1f} | {row['ratio'][1]:.1f} "
        f"({row['ratio'][0]:.1f} to {row['ratio'][2]:.1f}) |"
        for name, row in found.items()
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    say(measure(int(sys.argv[1]), int(sys.argv[2])))
