"""What bad input, strangers and crafted files cost: the figures of docs/security.md.

    python benchmarks/hardening.py [--lines 1000]

runs the generators of the tests: command lines, and every value of theirs through every call. It
serves the page and tries passwords, holds half requests, posts from another site and uploads more
than there is room for; reads a picture of a million pixels in a row in a model's graph; and
estimates log p(x) of a known model with a q(z|x) that is too narrow. It prints the table, and
writes its figures to benchmarks/hardening.json.
"""

import contextlib
import io
import json
import resource
import socket
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote, urlsplit

import cyclopts
import numpy as np
from cyclopts import Parameter

from tfvae.saving.finite import without_nan

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).with_suffix(".json")
TESTS = ("tests", "tests/helpers", "tests/cli", "tests/app")


def command_lines(count: int) -> dict[str, Any]:
    """Count the generated command lines that end in anything but one line."""
    import pytest
    import test_bad_lines
    from hypothesis import HealthCheck, given, settings

    failed = []

    def tried(words: list[str]) -> None:
        try:
            test_bad_lines.check(words)
        except Exception as error:
            failed.append((words, repr(error)))

    run = settings(
        max_examples=count, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )(given(words=test_bad_lines.lines())(tried))
    with pytest.MonkeyPatch.context() as patched, tempfile.TemporaryDirectory() as folder:
        patched.chdir(test_bad_lines.prepare(Path(folder), patched))
        run()
    return {"lines": count, "tracebacks": len(failed), "which": failed[:5]}


def calls() -> dict[str, Any]:
    """Count the calls that raise something else than `InputError`, or in several lines."""
    import pytest
    import test_bad_calls

    with pytest.MonkeyPatch.context() as patched, tempfile.TemporaryDirectory() as folder:
        doors = test_bad_calls.prepare(Path(folder), patched)
        found = [
            (door, name, problem)
            for door, call in doors.items()
            for name, value in test_bad_calls.JUNK.items()
            if (problem := test_bad_calls.name_of_problem(call, value))
        ]
    tried = len(doors) * len(test_bad_calls.JUNK)
    return {"calls": tried, "others": len(found), "which": found[:5]}


def page() -> dict[str, Any]:
    """Ask the page for what strangers ask for."""
    import test_explorer_server as these

    from tfvae.app import explorer, gate, server
    from tfvae.app.explorable import Examples

    model = these.Waves()
    codes, images = model.draw_images(20, None, 0)
    examples = Examples("waves", images, None, codes)
    found: dict[str, Any] = {}
    with server.serving(lambda: explorer.page(model, examples), password=these.PASSWORD) as url:
        kind = {"Content_Type": "application/x-www-form-urlencoded"}
        begun, answers = time.monotonic(), []
        for number in range(200):
            form = f"username=me&password={quote(f'wrong {number}')}".encode()
            answers.append(these.ask(url, "/login", "POST", form, **kind)[0])
        found["passwords_tried"] = sum(status != 429 for status in answers)
        found["passwords_sent"] = len(answers)
        found["seconds_of_them"] = time.monotonic() - begun
    with server.serving(lambda: explorer.page(model, examples)) as url:
        place = urlsplit(url)
        held = []
        begun = time.monotonic()
        for _ in range(800):
            with contextlib.suppress(OSError):
                connection = socket.create_connection((place.hostname, place.port), timeout=30)
                connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n")
                held.append(connection)
        for connection in held:
            with contextlib.suppress(OSError):
                while connection.recv(100):
                    pass
            connection.close()
        found["half_requests"] = 800
        found["half_requests_end_after_s"] = time.monotonic() - begun
        origin = {"Origin": "https://evil.example"}
        found["post_of_another_site"] = these.send_file(url, b"abc", **origin)[0]
        folder = Path(json.loads(these.send_file(url, b"abc")[2])[0]).parent.parent
        for number in range(40):
            these.send_file(url, np.random.default_rng(number).bytes(9 * 2**20))
        sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
        found["uploaded_mib"] = 40 * 9
        found["kept_mib"] = sum(sizes) / 2**20
    found["most_kept_mib"] = gate.MOST_UPLOADED / 2**20
    return found


def long_picture() -> dict[str, Any]:
    """Read a small file of a million pixels in a row in the graph of a model of small images."""
    import tensorflow as tf
    from PIL import Image

    from tfvae.datasets.preprocessing import Preprocessing

    file = io.BytesIO()
    Image.new("L", (1_000_000, 16)).save(file, "PNG")
    spec = tf.TensorSpec((None,), tf.string)
    reader = tf.function(
        lambda files: Preprocessing().of_files(files, (28, 28, 1)), input_signature=[spec]
    )
    with contextlib.suppress(tf.errors.InvalidArgumentError):
        reader(tf.constant([b"no picture"]))
    before, begun = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    try:
        reader(tf.constant([file.getvalue()]))
        refused = False
    except tf.errors.InvalidArgumentError:
        refused = True
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    seconds = time.perf_counter() - begun
    return {
        "bytes": len(file.getvalue()), "refused": refused, "seconds": seconds, "mib": grown,
    }  # fmt: skip


def narrow_posterior() -> dict[str, Any]:
    """Estimate log p(x) where it is known, with a third of the posterior's variance in q(z|x)."""
    from linear_vae import as_images, linear_gaussian, linear_vae, points

    from tfvae.evaluation import log_prob

    rng = np.random.default_rng(0)
    model = linear_gaussian(rng, orthogonal=True)
    x = points(model, rng, 300)
    weights = model.posterior_weights()
    variance = 0.3 * np.diag(model.posterior_covariance())
    vae = linear_vae(model, weights, -weights @ model.offset, variance)
    found = log_prob(vae, as_images(x), num_samples=1000, seed=1)
    rule = 0.5 * (1 / found.effective_sample_sizes - 1 / found.num_samples)
    return {
        "bias": found.log_prob - model.log_marginal(x).mean(),
        "rule": -float(rule.mean()),
        "stated_error": found.monte_carlo_error,
        "effective_draws": found.effective_sample_size,
        "pareto_k": found.pareto_k,
        "above_threshold": found.high_pareto_k,
        "interval": [end - model.log_marginal(x).mean() for end in found.interval],
        "warns": any("Pareto" in warning for warning in found.warnings),
    }


def main(*, lines: Annotated[int, Parameter(help="Command lines to try.")] = 1000) -> None:
    """Measure all of it."""
    sys.path[:0] = [str(ROOT / folder) for folder in TESTS]
    found = {
        "narrow_posterior": narrow_posterior(),
        "long_picture": long_picture(),
        "calls": calls(),
        "command_lines": command_lines(lines),
        "page": page(),
    }
    text = json.dumps(without_nan(found), indent=1, default=str)
    RESULTS.write_text(f"{text}\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    cyclopts.run(main)
