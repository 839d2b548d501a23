"""Arrays in, matplotlib figures out. Save one with `save`, or ``figure.savefig("name.png")``."""

import io
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure

from tfvae.errors import InputError
from tfvae.saving.files import new_file

if TYPE_CHECKING:
    from tfvae.evaluation.diagnostics import Diagnosis

_INCHES_PER_IMAGE = 0.8


class _Shown(Figure):
    """A figure that notebooks show; others they show only once pyplot has been used."""

    def _repr_png_(self) -> bytes:
        file = io.BytesIO()
        self.savefig(file, format="png")
        return file.getvalue()


def save(figure: Figure, file: str | Path, *, dpi: float = 120) -> None:
    """Write a figure into a file, whole or not at all.

    Args:
        figure: any matplotlib figure.
        file: its ending says the format, as in .png, .pdf or .svg.
        dpi: pixels an inch.

    Raises:
        InputError: if matplotlib writes no such format.
    """
    known = figure.canvas.get_supported_filetypes()
    if Path(file).suffix[1:].lower() not in known:
        endings = ", ".join(f".{one}" for one in sorted(known))
        raise InputError(f"expected a picture named {endings}; received {file}")
    with new_file(file) as partial:
        figure.savefig(partial, dpi=dpi)


def image_grid(images: Any, columns: int | None = None) -> Figure:
    """Show images in rows.

    Args:
        images: `[N, H, W, C]`, with C 1 (grey) or 3 (RGB), else the first channel is shown;
            values are clipped to [0, 1].
        columns: images in a row; by default as many as make a square.
    """
    images = np.asarray(images)
    columns = columns or int(np.ceil(np.sqrt(len(images))))
    rows = -(-len(images) // columns)
    figure = _Shown(
        figsize=(columns * _INCHES_PER_IMAGE, rows * _INCHES_PER_IMAGE), layout="constrained"
    )
    _draw(figure.add_subplot(), _tiled(images, columns))
    return figure


def reconstructions(originals: Any, reconstructed: Any) -> Figure:
    """Show originals, and below each its reconstruction.

    Args:
        originals: `[N, H, W, C]`.
        reconstructed: `[N, H, W, C]`.
    """
    originals, reconstructed = np.asarray(originals), np.asarray(reconstructed)
    figure = image_grid(np.concatenate([originals, reconstructed]), columns=len(originals))
    figure.suptitle("originals above, reconstructions below", fontsize=9)
    return figure


def image_rows(rows: Any, labels: Sequence[str] = ()) -> Figure:
    """Show several rows of images, such as walks through the latent space.

    Args:
        rows: `[R, V, H, W, C]`.
        labels: what to write before each row.
    """
    rows = np.asarray(rows)
    count, length = rows.shape[:2]
    figure = image_grid(rows.reshape((-1, *rows.shape[2:])), columns=length)
    if labels:
        axes = figure.axes[0]
        side = rows.shape[2] + 1
        axes.set_axis_on()
        axes.set_xticks([])
        axes.set_yticks(np.arange(count) * side + side / 2 - 0.5, labels, fontsize=8)
        axes.tick_params(length=0)
        for spine in axes.spines.values():
            spine.set_visible(False)
    return figure


def latent_map(codes: Any, labels: Any = None, manifold: Any = None) -> Figure:
    """Show where images lie in the latent space.

    Args:
        codes: `[N, d]`; beyond two dimensions their first two principal components are shown.
        labels: `[N]` whole numbers for the colours, or None.
        manifold: `[V, V, H, W, C]` decoded on `quantile_grid(V)`, drawn beside the map, or None.
    """
    codes = np.asarray(codes)
    names = ("z[0]", "z[1]")
    if codes.shape[1] == 1:
        # One dimension: spread the points, so that they do not hide each other.
        jitter = np.random.default_rng(0).uniform(-1, 1, len(codes))
        codes, names = np.stack([codes[:, 0], jitter], axis=1), ("z[0]", "(random height)")
    elif codes.shape[1] > 2:
        from sklearn.decomposition import PCA

        # As many components as points allow: a tiny set must not fail here.
        codes = PCA(n_components=min(2, len(codes))).fit_transform(codes)
        codes = np.pad(codes, ((0, 0), (0, 2 - codes.shape[1])))
        names = ("first principal component", "second principal component")
    # Few points may be large; many must not hide each other.
    area = float(np.clip(4000 / len(codes), 3, 20))
    panels = 1 if manifold is None else 2
    figure = _Shown(figsize=(5.5 * panels, 5), layout="constrained")
    axes = figure.add_subplot(1, panels, 1)
    axes.set(xlabel=names[0], ylabel=names[1], title="codes of test images")
    if labels is None:
        axes.scatter(codes[:, 0], codes[:, 1], s=area, linewidths=0)
    else:
        labels = np.asarray(labels)
        for label in np.unique(labels):
            chosen = codes[labels == label]
            colour = f"C{label}" if label < 10 else None
            axes.scatter(
                chosen[:, 0], chosen[:, 1], color=colour, label=str(label), s=area, linewidths=0
            )
        if len(np.unique(labels)) <= 20:
            axes.legend(markerscale=3, fontsize=8, loc="upper right", title="label")
    if manifold is not None:
        manifold = np.asarray(manifold)
        axes = figure.add_subplot(1, panels, 2)
        # Row 0 is the lowest z[1]: draw it at the bottom, as on the map.
        flipped = manifold[::-1]
        _draw(axes, _tiled(flipped.reshape((-1, *manifold.shape[2:])), manifold.shape[1]))
        axes.set_title("images decoded over the prior's quantiles")
    return figure


def quantile_grid(size: int = 16) -> np.ndarray:
    """Give points of the plane at equal steps of the standard normal's quantiles.

    Returns:
        `[size, size, 2]`; z[1] grows along the first axis, z[0] along the second.
    """
    quantiles = [NormalDist().inv_cdf((i + 0.5) / size) for i in range(size)]
    vertical, horizontal = np.meshgrid(quantiles, quantiles, indexing="ij")
    return np.stack([horizontal, vertical], axis=-1).astype("float32")


def curves(history: Mapping[str, Sequence[float]]) -> Figure:
    """Show ELBO, log-likelihood and KL over the epochs, in training and validation.

    Args:
        history: values by name, one an epoch, such as ``keras.callbacks.History.history``.
    """
    titles = {"elbo": "ELBO", "log_likelihood": "log-likelihood", "kl": "KL"}
    shown = [name for name in titles if name in history]
    figure = _Shown(figsize=(4 * len(shown), 3.2), layout="constrained")
    for position, name in enumerate(shown, start=1):
        axes = figure.add_subplot(1, len(shown), position)
        epochs = np.arange(1, len(history[name]) + 1)
        axes.plot(epochs, history[name], label="training")
        if f"val_{name}" in history:
            axes.plot(epochs, history[f"val_{name}"], label="validation")
        axes.set(title=titles[name], xlabel="epoch", ylabel="nats per image")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    return figure


def diagnosis(found: "Diagnosis") -> Figure:
    """Show what `tfvae.evaluation.diagnose` found, dimension by dimension.

    Above the KL of each latent dimension, the largest first, or its activity where posterior or
    prior do not factorise; below where the codes lie in it, and where the prior does.

    Args:
        found: the diagnosis.
    """
    by_kl = found.kl_per_dimension is not None
    heights = found.activity if found.kl_per_dimension is None else found.kl_per_dimension
    order = np.argsort(-heights)
    positions = np.arange(found.latent_dim)
    figure = _Shown(figsize=(max(7, 0.32 * found.latent_dim), 5.6), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    colours = np.where(found.active[order], "C0", "0.75")
    upper.bar(positions, heights[order], color=colours)
    upper.set_ylabel("KL, nats" if by_kl else "variance of E[z|x]")
    parts = (
        f"I(x; z) at its ceiling, log {found.pair_events}"
        if found.is_saturated
        else f"I(x; z) {found.mutual_information:.2f}, KL(q(z) ‖ p(z)) {found.marginal_kl:.2f}"
    )
    upper.set_title(
        f"{found.active_units} of {found.latent_dim} units active (grey: not)\n"
        f"rate {found.rate:.2f}, distortion {found.distortion:.2f} nats; {parts}",
        fontsize=10,
    )
    for offset, mean, std, colour, name in (
        (-0.15, found.code_mean, found.code_std, "C0", "q(z)"),
        (0.15, found.prior_mean, found.prior_std, "C1", "p(z)"),
    ):
        lower.errorbar(
            positions + offset, mean[order], 2 * std[order], color=colour, fmt="o", ms=3, label=name
        )
    lower.set(xlabel="latent dimension", ylabel="mean ± 2 std")
    lower.set_xticks(positions, order, fontsize=7 if found.latent_dim > 24 else 9)
    lower.legend(fontsize=8, ncols=2)
    if found.warnings:
        figure.supxlabel("\n".join(map(_wrapped, found.warnings)), fontsize=8, color="C3")
    return figure


def _wrapped(line: str) -> str:
    return textwrap.fill(line, 95)


def _draw(axes: Any, picture: np.ndarray) -> None:
    axes.imshow(picture, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.set_axis_off()


def _tiled(images: np.ndarray, columns: int) -> np.ndarray:
    """Lay images out in one array, a pixel of white between them."""
    count, height, width, channels = images.shape
    rows = -(-count // columns)
    kept = 3 if channels == 3 else 1
    canvas = np.ones((rows * (height + 1) - 1, columns * (width + 1) - 1, kept), "float32")
    for index, image in enumerate(images):
        top, left = index // columns * (height + 1), index % columns * (width + 1)
        canvas[top : top + height, left : left + width] = np.clip(image[..., :kept], 0, 1)
    return canvas if kept == 3 else canvas[..., 0]
