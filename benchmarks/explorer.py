"""How long the page of `tfvae explore` takes from a slider's move to the picture.

    python benchmarks/explorer.py [MODEL]

opens the page in Chromium, moves a slider to one place after another, and measures in the browser's
own clock: from the slider's event to the new picture in the document, and to the end of the frame
that shows it. MODEL is a run directory or a model.keras; without it, the default networks for 28 x
28 images, 16 latent dimensions, which take as long untrained. It is written for two cores, which
server and browser share. The table of docs/serve.md is what it prints at its end and writes to
benchmarks/explorer.json, or at once with --table.
"""

import json
import os
import shutil
import time
from pathlib import Path
from typing import Annotated, Any

import cyclopts
import numpy as np
from cyclopts import Parameter

RESULTS = Path(__file__).with_suffix(".json")
ARGUMENTS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync"
)
# A move as a hand makes it: the slider's value is set, and its event sent. The picture is new when
# its source is; it has been shown in the frame after the next.
MOVE = """
value => new Promise(done => {
  const slider = document.querySelector("#slider-0 input[type=range]");
  const part = document.querySelector("#decoded"), before = part.querySelector("img").src;
  const watch = new MutationObserver(() => {
    const image = part.querySelector("img");
    if (!image || image.src === before) return;
    const changed = performance.now() - begun;
    watch.disconnect();
    requestAnimationFrame(() => requestAnimationFrame(
      () => done([changed, performance.now() - begun])));
  });
  watch.observe(part, {subtree: true, childList: true, attributes: true});
  const set = Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, "value").set;
  const begun = performance.now();
  set.call(slider, value);
  slider.dispatchEvent(new Event("input", {bubbles: true}));
})
"""


def subject(path: Path | None) -> Any:
    """Give the model to explore, and images or None."""
    from tfvae.app.explorable import CompiledVAE, Examples

    if path is None:
        import tfvae

        return CompiledVAE(tfvae.VAE.for_images((28, 28, 1), latent_dim=16, seed=0)), None
    from tfvae.saving.run import TrainedModel

    trained = TrainedModel.open(path)
    model = CompiledVAE(trained.vae)
    return model, Examples.of_run(trained, model)


def decoding(model: Any, calls: int) -> list[float]:
    """Give the milliseconds of what the server does for a move: to decode, and to write HTML."""
    from tfvae.app import views

    label = None if model.num_classes is None else 0
    taken = []
    for value in np.linspace(-3, 3, calls):
        begun = time.perf_counter()
        views.decoded(model, np.full(model.latent_dim, value), label)
        taken.append(1e3 * (time.perf_counter() - begun))
    return taken


def moves(url: str, count: int, warm_up: int) -> list[list[float]]:
    """Give the milliseconds of each move: to the picture in the document, and to its frame."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as running:
        browser = running.chromium.launch(
            executable_path=shutil.which("chromium"), args=ARGUMENTS.split()
        )
        page = browser.new_page(viewport={"width": 1280, "height": 1000})
        page.set_default_timeout(240_000)  # a machine may have other work
        page.goto(url)
        for part in ("#decoded img", "#slider-0 input[type=range]"):
            page.wait_for_selector(part)
        # Neighbours differ, and so do their pictures.
        values = np.random.default_rng(0).permutation(np.linspace(-3, 3, count + warm_up))
        taken = [page.evaluate(MOVE, f"{value:.2f}") for value in values]
        browser.close()
    return taken[warm_up:]


def spread(milliseconds: Any) -> dict[str, float]:
    """Give the median and the 95th percentile."""
    return {f"p{q}": float(np.percentile(milliseconds, q)) for q in (50, 95)}


def table(results: dict[str, Any]) -> str:
    """Give the results as Markdown."""
    names = {
        "server": "decoding and HTML alone, on the server",
        "picture": "from the slider's event to the new picture in the document",
        "frame": "and to the end of the frame that shows it",
    }
    lines = ["| milliseconds | median | 95th percentile |", "| --- | ---: | ---: |"]
    for key, name in names.items():
        lines.append(f"| {name} | {results[key]['p50']:.1f} | {results[key]['p95']:.1f} |")
    return "\n".join(lines)


def main(
    model: Annotated[Path | None, Parameter(help="A run directory or a model.keras.")] = None,
    /,
    *,
    count: Annotated[int, Parameter(name="--moves", help="Moves of the slider.")] = 200,
    warm_up: Annotated[int, Parameter(help="Moves before those that count.")] = 10,
    out: Annotated[Path, Parameter(help="JSON file to write.")] = RESULTS,
    show: Annotated[
        bool, Parameter(name="--table", help="Only print the table.", negative=())
    ] = False,
) -> None:
    """Measure how long a move of a slider takes."""
    if not show:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        from tfvae.app import explorer
        from tfvae.app import server as web

        explored, examples = subject(model)
        with web.serving(lambda: explorer.page(explored, examples)) as url:
            picture, frame = np.transpose(moves(url, count, warm_up))
            server = decoding(explored, count)
        results = {
            "moves": count,
            "image_shape": explored.image_shape,
            "cores": len(os.sched_getaffinity(0)),
            "load": os.getloadavg()[0],
            "server": spread(server),
            "picture": spread(picture),
            "frame": spread(frame),
        }
        out.write_text(json.dumps(results, indent=1) + "\n")
    print(table(json.loads(out.read_text())))


if __name__ == "__main__":
    cyclopts.run(main)
