"""Whether the interval of log p(x) holds log p(x), where both Gaussians are known.

    python benchmarks/intervals.py

draws importance weights of a Gaussian q for a Gaussian p(z|x) with variances in a ratio, in several
dimensions, for 100 events at a time; log p(x) is 0. It counts in how many of 20 trials the interval
of `tfvae.evaluation.LogProbEstimate` holds it, and for comparison two errors about the estimate
with the bias ½(1/ESS − 1/K) taken off. It prints a table, and writes benchmarks/intervals.json.
"""

import json
import math
from pathlib import Path

import numpy as np

from tfvae.evaluation.estimates import log_mean_and_effective
from tfvae.evaluation.importance import LogProbEstimate
from tfvae.evaluation.pareto import fitted_tail, tail_correction, tail_length
from tfvae.saving.finite import without_nan

TRIALS, EVENTS = 20, 100
CASES = [
    (dimensions, ratio)
    for dimensions, ratios in (
        (1, (0.9, 0.5, 0.3, 0.2, 0.1)),
        (8, (0.9, 0.7, 0.5, 0.3, 1.5)),
        (16, (0.8, 0.6, 0.4, 2.0)),
        (32, (0.8, 0.6)),
    )
    for ratio in ratios
]


def estimate(
    rng: np.random.Generator, dimensions: int, ratio: float, draws: int
) -> LogProbEstimate:
    """Return the estimate of log p(x) = 0 with q of `ratio` times the posterior's variance."""
    square = rng.chisquare(dimensions, (draws, EVENTS))
    log_weights = 0.5 * square * (1 - ratio) + 0.5 * dimensions * math.log(ratio)
    log_sum = np.logaddexp.reduce(log_weights, axis=0)
    count = tail_length(draws)
    tail = fitted_tail(np.sort(log_weights, axis=0)[-count - 1 :])
    zeros = np.zeros(EVENTS)
    return LogProbEstimate(
        *log_mean_and_effective(log_sum, np.logaddexp.reduce(2 * log_weights, axis=0), draws),
        draws,
        zeros,
        zeros,
        (1,),
        zeros,
        "density",
        pareto_ks=tail.shape,
        tail_corrections=tail_correction(tail, log_sum, count),
    )


def main() -> None:
    """Print and write the table."""
    rng, rows = np.random.default_rng(0), []
    print("dimensions  q/p   K     k     ESS   log p   interval          holds  two errors hold")
    for dimensions, ratio in CASES:
        for draws in (100, 1000):
            found = [estimate(rng, dimensions, ratio, draws) for _ in range(TRIALS)]
            held = sum(low <= 0 <= high for low, high in (one.interval for one in found))
            plain = 0
            for one in found:
                bias = np.mean(0.5 * (1 / one.effective_sample_sizes - 1 / draws))
                plain += abs(one.log_prob + bias) <= 2 * one.monte_carlo_error
            first = found[0]
            row = {
                "dimensions": dimensions, "ratio": ratio, "draws": draws,
                "pareto_k": first.pareto_k, "effective": first.effective_sample_size,
                "log_prob": first.log_prob, "interval": list(first.interval),
                "held": held, "two_errors_held": int(plain), "trials": TRIALS,
            }  # fmt: skip
            rows.append(row)
            low, high = first.interval
            print(
                f"{dimensions:10} {ratio:4} {draws:5} {first.pareto_k:5.2f} "
                f"{first.effective_sample_size:7.1f} {first.log_prob:7.3f} "
                f"{low:7.3f} to {high:6.3f} {held:5}/{TRIALS} {plain:5}/{TRIALS}"
            )
    text = json.dumps(without_nan(rows), indent=1)
    Path(__file__).with_suffix(".json").write_text(f"{text}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
