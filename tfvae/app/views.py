"""What each control of the page shows: from a model and numbers to HTML with pictures in it.

Pictures are small PNG files inside the HTML, one a picture's pixel: the browser enlarges them, and
asks for nothing more.
"""

import base64
import html
import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from tfvae.app.explorable import ELBO_DRAWS, Examples, ImageModel, LatentModel, Score

EXTENT = 3.0
_STEPS = 12
_THUMBNAIL = 32
# Matplotlib's ten colours, as on the pictures of a run.
COLOURS = (
    *("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd"),
    *("#8c564b", "#e377c2", "#7f7f7f", "#bcbd22", "#17becf"),
)

STYLE = """
.tfvae-card { border: 1px solid var(--border-color-primary); border-radius: 8px; padding: 16px;
  background: var(--background-fill-primary); height: fit-content; }
.tfvae-controls { align-items: flex-end !important; }
.block.tfvae, .tfvae > .html-container { padding: 0 !important; }
.tfvae {
  h2, h3 { font-weight: 600; margin: 0; }
  h2 { font-size: 1.5rem; }
  h3 { font-size: 1.1rem; }
  figure { margin: 0; }
  table, tr, td { border: 0 !important; border-collapse: collapse; }
  td { padding: 1px 10px 1px 0 !important; white-space: nowrap; }
  td:last-child { text-align: right; padding-right: 0 !important;
    font-variant-numeric: tabular-nums; }
  .pixels { image-rendering: pixelated; display: block; width: 100%; border-radius: 4px; }
  .one { max-width: 260px; }
  .hint, figcaption { opacity: 0.7; font-size: var(--text-sm); margin: 2px 0 0; }
  figcaption { text-align: center; }
  .problem { border-left: 3px solid #d62728; padding: 6px 10px; margin: 0;
    background: rgba(214, 39, 40, 0.08); }
  .scored { display: grid; grid-template-columns: minmax(200px, 3fr) minmax(200px, 2fr);
    gap: 24px; }
  @media (max-width: 640px) { .scored { grid-template-columns: 1fr; } }
  .triple { display: grid; grid-template-columns: 1fr 1fr 1fr; gap: 10px; max-width: 480px; }
  .codes { max-width: 360px; }
  .map circle.chosen { stroke: var(--body-text-color); stroke-width: 4px; }
  .map text.code { fill: #000; opacity: 0.75; pointer-events: none; }
  .pair { display: grid; grid-template-columns: 1fr 1fr; gap: 10px; align-self: start; }
  .bars { width: 100%; font-size: var(--text-sm); margin-top: 4px; }
  .bars td:nth-child(2) { width: 100%; }
  .bars i { display: block; height: 10px; border-radius: 2px; background: #1f77b4;
    min-width: 1px; }
  .terms { margin-bottom: 2px; }
  .terms + .hint { margin-bottom: 10px; }
  .map { position: relative; }
  .map svg { display: block; width: 100%; height: auto; cursor: crosshair; border-radius: 4px;
    background: var(--background-fill-secondary); }
  .map circle { fill-opacity: 0.75; }
  .map circle.near { fill-opacity: 1; stroke: var(--body-text-color); stroke-width: 2px; }
  .map text { fill: var(--body-text-color); opacity: 0.7; font-size: 13px; }
  .legend { display: flex; flex-wrap: wrap; gap: 4px 14px; font-size: var(--text-sm);
    margin-top: 6px; }
  .legend i { display: inline-block; width: 10px; height: 10px; border-radius: 5px;
    margin-right: 4px; }
  .hover { display: none; position: absolute; z-index: 9; pointer-events: none; padding: 8px;
    background: var(--background-fill-primary); border: 1px solid var(--border-color-primary);
    border-radius: 6px; box-shadow: 0 2px 10px rgba(0, 0, 0, 0.25);
    font-size: var(--text-sm); }
  .hover div { display: flex; gap: 8px; }
  .hover span { white-space: pre; }
  .scroll { overflow-x: auto; }
  .rows { width: 100%; font-size: var(--text-sm); }
  .rows th { border: 0 !important; text-align: left; font-weight: 600;
    padding: 1px 10px 1px 0; white-space: nowrap; }
  .rows th:last-child { text-align: right; padding-right: 0; }
  .rows .given td:nth-child(2) { font-weight: 600; }
  .hover b { display: block; image-rendering: pixelated; background-repeat: no-repeat; }
}
"""

# Hovering and choosing a point asks the server for nothing: thumbnails of all are on the page.
MAP_SCRIPT = """
const side = 84;
let chosen = -1;
function nearest(event) {
  const svg = element.querySelector(".map svg");
  if (!svg) return -1;
  const box = svg.getBoundingClientRect(), scale = svg.viewBox.baseVal.width / box.width;
  const x = (event.clientX - box.left) * scale, y = (event.clientY - box.top) * scale;
  let best = -1, least = 24 * 24;
  svg.querySelectorAll("circle").forEach((circle, index) => {
    const dx = circle.cx.baseVal.value - x, dy = circle.cy.baseVal.value - y;
    if (dx * dx + dy * dy < least) { least = dx * dx + dy * dy; best = index; }
  });
  return best;
}
function show(event) {
  const map = element.querySelector(".map");
  if (!map) return;
  const hover = map.querySelector(".hover"), circles = map.querySelectorAll("circle");
  const index = nearest(event);
  if (index !== chosen) {
    circles.forEach(circle => circle.classList.remove("near"));
    chosen = index;
    if (index >= 0) {
      circles[index].classList.add("near");
      const columns = +map.dataset.columns, rows = +map.dataset.rows;
      hover.querySelectorAll("b").forEach(thumbnail => {
        thumbnail.style.width = thumbnail.style.height = side + "px";
        thumbnail.style.backgroundSize = columns * side + "px " + rows * side + "px";
        thumbnail.style.backgroundPosition =
          -(index % columns) * side + "px " + -Math.floor(index / columns) * side + "px";
      });
      hover.querySelector("span").textContent = circles[index].dataset.name;
    }
  }
  hover.style.display = index < 0 ? "none" : "block";
  if (index < 0) return;
  const box = map.getBoundingClientRect();
  const x = event.clientX - box.left, y = event.clientY - box.top;
  hover.style.left = (x > box.width / 2 ? x - hover.offsetWidth - 14 : x + 14) + "px";
  hover.style.top = Math.max(0, Math.min(y - 40, box.height - hover.offsetHeight)) + "px";
}
element.addEventListener("mousemove", show);
element.addEventListener("mouseleave", () => {
  chosen = -1;
  element.querySelectorAll(".near").forEach(circle => circle.classList.remove("near"));
  element.querySelectorAll(".hover").forEach(hover => { hover.style.display = "none"; });
});
element.addEventListener("click", event => {
  const index = nearest(event);
  if (index >= 0) trigger("select", {index: index});
});
"""


def escaped(text: str) -> str:
    """Return text as HTML."""
    return html.escape(text)


def problem(message: Any) -> str:
    """Say what went wrong."""
    return f'<p class="problem">{html.escape(str(message))}</p>'


def hint(text: str) -> str:
    """Say something in small letters."""
    return f'<p class="hint">{html.escape(text)}</p>'


def one_image(image: np.ndarray) -> str:
    """Show one image `[H, W, C]`, large."""
    return f'<div class="one">{_picture(image, "decoded image")}</div>'


def captioned(images: Sequence[np.ndarray], names: Sequence[str]) -> str:
    """Show images `[H, W, C]` with what each is below it."""
    return "".join(
        f"<figure>{_picture(image, name)}<figcaption>{html.escape(name)}</figcaption></figure>"
        for image, name in zip(images, names, strict=True)
    )


def figures(rows: Sequence[tuple[str, float]], digits: int = 2) -> str:
    """Show numbers with their names."""
    cells = "".join(
        f'<tr><td>{html.escape(name)}</td><td data-term="{html.escape(name)}">'
        f"{value:.{digits}f}</td></tr>"
        for name, value in rows
    )
    return f'<table class="terms">{cells}</table>'


def grid(images: np.ndarray, name: str) -> str:
    """Show images `[N, H, W, C]` in a square."""
    return _picture(_tiled(images, int(np.ceil(np.sqrt(len(images))))), name)


def samples(model: LatentModel, seed: int, label: int | None, n: int = 64) -> str:
    """Show the mean images of draws from the prior.

    Args:
        model: what to draw from.
        seed: of the draws.
        label: of a conditional model, that of all; by default some of each.
        n: how many.
    """
    labels = labels_of_grid(model, label, n)
    return grid(model.decode(model.draw(n, labels, seed), labels), f"samples, seed {seed}")


def labels_of_grid(model: ImageModel, label: int | None, n: int) -> np.ndarray | None:
    """Return the labels of n samples: one for all, or for None and −1 some of each."""
    if model.num_classes is None:
        return None
    if label in (None, -1):
        return np.arange(n) * model.num_classes // n
    return np.full(n, label)


def decoded(model: LatentModel, z: Any, label: int | None) -> str:
    """Show what one latent vector `[d]` decodes to."""
    z = np.asarray(z, np.float32)[None]
    return one_image(model.decode(z, one_label(model, label))[0])


def reconstruction(model: LatentModel, image: np.ndarray, label: int | None, seed: int = 0) -> str:
    """Show an image `[H, W, C]`, its reconstruction, its ELBO and the KL of each dimension.

    Raises:
        InputError: if the model has no density for its values.
    """
    x, condition = image[None], one_label(model, label)
    score = model.elbo(x, condition, seed)
    back = model.decode(model.code(x, condition), condition)[0]
    figures = captioned((image, back), ("image", "reconstruction"))
    return (
        f'<div class="scored"><div class="pair">{figures}</div>'
        f"<div>{_terms(score)}{_bars(score)}</div></div>"
    )


def interpolation(
    model: LatentModel,
    ends: Sequence[np.ndarray],
    labels: Sequence[int | None],
    label: int | None,
) -> str:
    """Show the images on the straight line between the codes of two.

    Args:
        model: a model.
        ends: two images `[H, W, C]`.
        labels: of a conditional model, theirs.
        label: of a conditional model, that which the line is decoded with.
    """
    start, end = (
        model.code(x[None], one_label(model, own)) for x, own in zip(ends, labels, strict=True)
    )
    weights = np.linspace(0, 1, _STEPS, dtype=np.float32)[:, None]
    z = (1 - weights) * start + weights * end
    line = model.decode(z, None if label is None else np.full(_STEPS, label))
    gap = np.ones((len(ends[0]), max(2, ends[0].shape[1] // 7), ends[0].shape[2]), np.float32)
    row = np.concatenate([ends[0], gap, _tiled(line, _STEPS), gap, ends[1]], axis=1)
    return _picture(row, "interpolation")


def latent_map(model: LatentModel, examples: Examples, size: int = 640) -> str:
    """Show where images lie in latent space, with thumbnails of all to show on hovering."""
    labels = [None] * len(examples.codes) if examples.labels is None else examples.labels.tolist()
    names = [
        f"no. {row}" if label is None else f"no. {row}, label {int(label)}"
        for row, label in enumerate(labels)
    ]
    points = scattered(examples.codes, [_colour(label) for label in labels], names, size)
    condition = examples.condition(model, slice(None))
    back = model.decode(examples.codes, condition)
    columns = int(np.ceil(np.sqrt(len(names))))
    sheets = (_tiled(_thumbnails(images), columns, gap=0) for images in (examples.images, back))
    thumbnails = "".join(
        f"<b style=\"background-image: url('{_url(sheet)}')\"></b>" for sheet in sheets
    )
    return (
        f'<div class="map" data-columns="{columns}" data-rows="{-(-len(names) // columns)}">'
        f"{points}{_legend(examples.labels)}"
        f'<div class="hover"><div>{thumbnails}</div><span></span></div></div>'
    )


def scattered(
    codes: np.ndarray, colours: Sequence[str], names: Sequence[str], size: int = 640
) -> str:
    """Show where latent vectors `[N, d]` lie, each a circle with its colour and name.

    Args:
        codes: the vectors.
        colours: of CSS.
        names: what to show on hovering.
        size: the width of the drawing.
    """
    points, axes = plane(codes)
    points = points - (points.min(axis=0) + points.max(axis=0)) / 2
    margin = 28
    # One scale for both axes: distances are what a map is for.
    scale = (size - 2 * margin) / max(float(np.ptp(points, axis=0).max()), 1e-6)
    height = int(np.ptp(points[:, 1]) * scale) + 2 * margin
    places = points * scale * (1, -1) + (size / 2, height / 2)
    radius = float(np.clip(120 / np.sqrt(len(points)), 3.5, 8))
    circles = "".join(
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" fill="{colour}" '
        f'data-name="{html.escape(name)}"/>'
        for (x, y), colour, name in zip(places, colours, names, strict=True)
    )
    return (
        f'<svg viewBox="0 0 {size} {height}" role="img" aria-label="latent map">{circles}'
        f'<text x="{size - 8}" y="{height - 8}" text-anchor="end">{axes[0]}</text>'
        f'<text x="8" y="16">{axes[1]}</text></svg>'
    )


def plane(codes: np.ndarray) -> tuple[np.ndarray, tuple[str, str]]:
    """Return places in the plane `[N, 2]` of latent vectors `[N, d]`, and the names of its axes.

    Of two dimensions they are z itself, of more the first two principal components; one is spread
    at random heights, so that points do not hide each other.
    """
    if codes.shape[1] == 1:
        heights = np.random.default_rng(0).uniform(-1, 1, len(codes))
        return np.stack([codes[:, 0], heights], axis=1), ("z[0]", "(random height)")
    if codes.shape[1] == 2:
        return codes, ("z[0]", "z[1]")
    from sklearn.decomposition import PCA

    # As many components as points allow.
    found = PCA(n_components=min(2, len(codes)), svd_solver="full").fit_transform(codes)
    found = np.pad(found, ((0, 0), (0, 2 - found.shape[1])))
    return found, ("first principal component", "second principal component")


def one_label(model: ImageModel, label: int | None) -> np.ndarray | None:
    """Return the label of one image as the model takes it."""
    return None if model.num_classes is None else np.array([label or 0])


def _colour(label: int | None) -> str:
    return COLOURS[int(label or 0) % len(COLOURS)]


def _legend(labels: np.ndarray | None) -> str:
    if labels is None or len(np.unique(labels)) > 2 * len(COLOURS):
        return ""
    return legend([(_colour(label), str(label)) for label in map(int, np.unique(labels))])


def legend(entries: Sequence[tuple[str, str]]) -> str:
    """Say what colours of CSS mean."""
    words = "".join(
        f'<span><i style="background: {colour}"></i>{html.escape(name)}</span>'
        for colour, name in entries
    )
    return f'<div class="legend">{words}</div>'


def _terms(score: Score) -> str:
    rows = (("elbo", score.elbo), ("log-likelihood", score.log_likelihood), ("kl", score.kl))
    return figures(rows) + hint(
        f"nats; mean of {ELBO_DRAWS} draws of z; ELBO = log-likelihood − KL ≤ log p(x)"
    )


def _bars(score: Score) -> str:
    each = score.kl_per_dimension
    if each is None:
        return hint("posterior or prior do not factorise: there is no KL of each dimension")
    longest = max(float(each.max()), 1e-6)
    order = np.argsort(-each)[:16]
    rows = "".join(
        f'<tr><td>z[{d}]</td><td><i style="width: {max(0, 100 * each[d] / longest):.1f}%"></i>'
        f'</td><td data-kl="{d}">{each[d]:.2f}</td></tr>'
        for d in order
    )
    rest = len(each) - len(order)
    more = (
        hint(f"{rest} more dimensions: {each.sum() - each[order].sum():.2f} nats") if rest else ""
    )
    return f'<p class="hint">KL of each dimension</p><table class="bars">{rows}</table>{more}'


def _thumbnails(images: np.ndarray) -> np.ndarray:
    """Make images `[N, H, W, C]` small by leaving out rows and columns."""
    step = -(-max(images.shape[1:3]) // _THUMBNAIL)
    return images[:, ::step, ::step]


def _tiled(images: np.ndarray, columns: int, gap: int = 1) -> np.ndarray:
    """Lay images `[N, H, W, C]` out in rows, white between and after them."""
    count, height, width, channels = images.shape
    rows = -(-count // columns)
    canvas = np.ones((rows * columns, height + gap, width + gap, channels), np.float32)
    canvas[:count, :height, :width] = images
    canvas = canvas.reshape(rows, columns, height + gap, width + gap, channels).swapaxes(1, 2)
    canvas = canvas.reshape(rows * (height + gap), columns * (width + gap), channels)
    return canvas[: len(canvas) - gap, : canvas.shape[1] - gap]


def _picture(image: np.ndarray, name: str) -> str:
    return f'<img class="pixels" alt="{html.escape(name)}" src="{_url(image)}">'


def _url(image: np.ndarray) -> str:
    """Return an image `[H, W, C]` of values in [0, 1] as a data URL of a PNG file.

    Of channels other than three the first is shown; other values are clipped.
    """
    from PIL import Image

    pixels = np.round(255 * np.clip(np.nan_to_num(image), 0, 1)).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels if pixels.shape[2] == 3 else pixels[..., 0]).save(
        file, "PNG", compress_level=1
    )
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
