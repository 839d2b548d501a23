"""Likelihoods, posteriors, priors and objectives side by side, at equal budget, on real data.

    python benchmarks/combinations.py --mnist FOLDER

trains the same dense networks once a row, with the same steps, batches and seed, and
writes what the test images say to benchmarks/combinations.json, a row at a time: stopped, it goes
on where it was. The table of docs/results.md is what it prints at its end, or at once with --table.
"""

import json
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import cyclopts
from cyclopts import Parameter

RESULTS = Path(__file__).with_suffix(".json")

# What every row has, but for what it says itself.
DEFAULTS = {
    "likelihood": "bernoulli",
    "posterior": "normal",
    "prior": "standard_normal",
    "objective": "elbo",
}
ROWS = {
    "mnist, binarized": [
        {},
        {"posterior": "full_normal"},
        {"posterior": "coupling"},
        {"posterior": "iaf"},
        {"prior": "mixture:components=20"},
        {"prior": "vamp:pseudo_inputs=100"},
        {"prior": "realnvp"},
        {"prior": "maf"},
        {"posterior": "iaf", "prior": "maf"},
        {"objective": "stl"},
        {"objective": "free_bits:nats=0.25"},
        {"objective": "iwae:num_samples=5"},
        {"objective": "dreg:num_samples=5"},
    ],
    "mnist, grey": [
        {"likelihood": "discretized_logistic"},
        {"likelihood": "discretized_logistic_mixture"},
        {"likelihood": "normal"},
        {"likelihood": "normal:scale=learned"},
        {"likelihood": "normal:scale=optimal"},
        {"likelihood": "laplace:scale=learned"},
        {"likelihood": "logistic:scale=learned"},
        {"likelihood": "student_t:scale=learned"},
        {"likelihood": "continuous_bernoulli"},
        {"likelihood": "beta"},
    ],
    "digits": [
        {"likelihood": "discretized_logistic:levels=17"},
        {"likelihood": "discretized_logistic_mixture:levels=17"},
        {"likelihood": "categorical:levels=17"},
        {"likelihood": "poisson:step=0.0625"},
        {"likelihood": "negative_binomial:step=0.0625"},
    ],
}
NETWORK = "dense"
LATENT_DIM = 16
BATCH_SIZE = 128
MOST_EPOCHS = 50


def load(name: str, mnist: str) -> Any:
    """Load a data set of `ROWS`."""
    from tfvae import datasets

    if name == "digits":
        return datasets.load("digits")
    return datasets.load(mnist, binarize="dynamic" if name.endswith("binarized") else "none")


def measure(data: Any, families: dict[str, str], options: dict[str, Any]) -> dict[str, Any]:
    """Train one combination, and score it on test images."""
    import keras

    import tfvae

    keras.utils.set_random_seed(0)
    limit = options["limit"]
    # A small data set would be learnt by heart.
    steps = min(options["steps"], MOST_EPOCHS * data.train.steps(BATCH_SIZE))
    epochs = -(-steps // data.train.steps(BATCH_SIZE))
    vae = tfvae.VAE.for_images(
        data.image_shape, network=NETWORK, latent_dim=LATENT_DIM, seed=0, **families
    )
    vae.compile(keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(2e-3, steps)))
    if isinstance(vae.prior_family, tfvae.priors.VampPrior):
        vae.prior_family.adapt(data.train.arrays(limit=vae.prior_family.pseudo_inputs)[0])
    # The same number of steps everywhere, whatever an epoch has.
    batches = data.train.batches(BATCH_SIZE, shuffle=True).repeat(epochs).take(steps)
    begun = time.process_time()
    tfvae.training.train(vae, batches, progress=sys.stderr.isatty())
    seconds = time.process_time() - begun  # of all cores; a busy machine adds none

    images, _ = data.test.arrays(limit=limit)
    test = [images[start : start + 128] for start in range(0, len(images), 128)]
    bound = tfvae.evaluation.elbo(vae, test, num_samples=16)
    marginal = tfvae.evaluation.log_prob(vae, test, num_samples=options["num_samples"])
    return {
        "elbo": bound.elbo,
        "kl": bound.kl,
        "kl_is_exact": vae.kl_is_exact,
        "log_prob": marginal.log_prob,
        "standard_error": marginal.standard_error,
        "bits_per_dimension": marginal.bits_per_dimension,
        "is_discrete": vae.likelihood_family.is_discrete,
        "parameters": vae.count_params(),
        "seconds": seconds,
    }


def table(results: dict[str, Any]) -> str:
    """Give the results as Markdown tables, one a data set."""
    lines = []
    for name, rows in ROWS.items():
        found = [(row, results[key]) for row in rows if (key := key_of(name, row)) in results]
        if not found:
            continue
        bits = name != "mnist, binarized"
        lines += [
            f"**{name}**",
            "",
            f"| combination | ELBO | log p(x) |{' bits/dim |' if bits else ''} CPU seconds |",
            f"| --- | ---: | ---: |{' ---: |' if bits else ''} ---: |",
        ]
        for row, result in found:
            cells = [
                ", ".join(f"`{value}`" for value in row.values()) or "`bernoulli`",
                f"{result['elbo']:.2f}",
                f"{result['log_prob']:.2f} ± {result['standard_error']:.2f}",
            ]
            if bits:
                found_bits = result["bits_per_dimension"]
                if not result["is_discrete"]:
                    cells.append("density")
                else:  # a Bernoulli of grey values has none
                    cells.append("cross-entropy" if found_bits is None else f"{found_bits:.3f}")
            cells.append(f"{result['seconds']:.0f}")
            lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def key_of(name: str, row: dict[str, str]) -> str:
    """Give the name of a row in the results."""
    return " ".join([name, *row.values()])


def main(
    *,
    mnist: Annotated[
        str, Parameter(help="Folder of MNIST's IDX files, or mnist for TensorFlow Datasets.")
    ] = "mnist",
    steps: Annotated[int, Parameter(help="Optimiser steps of each row.")] = 3000,
    limit: Annotated[int, Parameter(help="Test images to score.")] = 1000,
    num_samples: Annotated[int, Parameter(help="Draws of z an image for log p(x).")] = 200,
    only: Annotated[str | None, Parameter(help="One data set: digits, ...")] = None,
    out: Annotated[Path, Parameter(help="JSON file to write, and to go on with.")] = RESULTS,
    show: Annotated[
        bool, Parameter(name="--table", help="Only print the table.", negative=())
    ] = False,
) -> None:
    """Compare likelihoods, posteriors, priors and objectives at equal budget."""
    options = {"steps": steps, "limit": limit, "num_samples": num_samples}
    kept = json.loads(out.read_text()) if out.exists() else {"options": options, "results": {}}
    results = kept["results"]
    if not show:
        if kept["options"] != options:
            sys.exit(f"{out} was made with {kept['options']}: give these, or another --out")
        for name, rows in ROWS.items():
            missing = [row for row in rows if key_of(name, row) not in results]
            if not missing or only not in (None, name):
                continue
            data = load(name, mnist)
            for row in missing:
                print(key_of(name, row), file=sys.stderr)
                results[key_of(name, row)] = measure(data, DEFAULTS | row, options)
                out.write_text(json.dumps(kept, indent=1) + "\n")
    print(table(results))


if __name__ == "__main__":
    cyclopts.run(main)
