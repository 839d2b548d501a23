"""Maps of the latent space."""

from statistics import NormalDist
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from tfvae.plotting.figure import Shown, some
from tfvae.plotting.images import draw, tiled


def latent_map(codes: Any, labels: Any = None, manifold: Any = None) -> Figure:
    """Draw where events lie in the latent space.

    Args:
        codes: `[N, d]`; beyond two dimensions their first two principal components are shown.
        labels: `[N]` whole numbers for the colours, or None.
        manifold: `[V, V, H, W, C]` decoded on `quantile_grid(V)`, drawn beside the map, or None.

    Raises:
        InputError: if there are no codes.
    """
    codes = some("codes", codes, rank=2)
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
    figure = Shown(figsize=(5.5 * panels, 5), layout="constrained")
    axes = figure.add_subplot(1, panels, 1)
    axes.set(xlabel=names[0], ylabel=names[1], title="codes of the test set")
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
            # Beside the axes, where it hides no point; its marks have one size.
            axes.legend(
                markerscale=float(np.sqrt(30 / area)),
                fontsize=8,
                loc="upper left",
                bbox_to_anchor=(1, 1),
                frameon=False,
                title="label",
            )
    if manifold is not None:
        manifold = np.asarray(manifold)
        axes = figure.add_subplot(1, panels, 2)
        # Row 0 is the lowest z[1]: draw it at the bottom, as on the map.
        flipped = manifold[::-1]
        draw(axes, tiled(flipped.reshape((-1, *manifold.shape[2:])), manifold.shape[1]))
        axes.set_title("images decoded over the prior's quantiles")
    return figure


def quantile_grid(size: int = 16) -> np.ndarray:
    """Return points of the plane at equal steps of the standard normal's quantiles.

    Returns:
        `[size, size, 2]`; z[1] grows along the first axis, z[0] along the second.
    """
    quantiles = [NormalDist().inv_cdf((i + 0.5) / size) for i in range(size)]
    vertical, horizontal = np.meshgrid(quantiles, quantiles, indexing="ij")
    return np.stack([horizontal, vertical], axis=-1).astype("float32")
