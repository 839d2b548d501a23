import subprocess
import sys

import numpy as np
import pytest

from tfvae import plotting
from tfvae.errors import InputError


def picture(figure, axes=0):
    """The array that a figure shows."""
    return np.asarray(figure.axes[axes].images[0].get_array())


def test_a_grid_shows_each_image_in_its_place():
    images = np.stack([np.full((2, 3, 1), value) for value in (0.1, 0.2, 0.3)])
    shown = picture(plotting.image_grid(images, columns=2))
    assert shown.shape == (5, 7)
    assert np.allclose(shown[:2, :3], 0.1)
    assert np.allclose(shown[:2, 4:], 0.2)
    assert np.allclose(shown[3:, :3], 0.3)
    assert np.all(shown[2] == 1)


def test_colours_are_kept_and_values_clipped():
    images = np.zeros((1, 2, 2, 3))
    images[..., 0] = 2.0
    images[..., 2] = -1.0
    shown = picture(plotting.image_grid(images))
    assert np.allclose(shown, [1.0, 0.0, 0.0])


def test_originals_stand_above_their_reconstructions():
    originals = np.stack([np.full((2, 2, 1), value) for value in (0.1, 0.2)])
    shown = picture(plotting.reconstructions(originals, originals + 0.5))
    assert np.allclose(shown[0, [0, 3]], [0.1, 0.2])
    assert np.allclose(shown[3, [0, 3]], [0.6, 0.7])


def test_rows_are_labelled():
    figure = plotting.image_rows(np.zeros((2, 5, 4, 4, 1)), ["z[3]", "z[1]"])
    assert picture(figure).shape == (9, 24)
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == ["z[3]", "z[1]"]


@pytest.mark.parametrize("dimensions", [1, 2, 3, 10])
@pytest.mark.parametrize("labelled", [True, False])
def test_the_latent_map_takes_any_dimension(rng, tmp_path, dimensions, labelled):
    codes = rng.normal(size=(30, dimensions))
    labels = rng.integers(0, 4, 30) if labelled else None
    figure = plotting.latent_map(codes, labels)
    points = sum(len(one.get_offsets()) for one in figure.axes[0].collections)
    assert points == 30
    assert len(figure.axes[0].collections) == (len(np.unique(labels)) if labelled else 1)
    figure.savefig(tmp_path / "latent.png")
    assert (tmp_path / "latent.png").stat().st_size > 1000


def test_a_map_of_a_single_image_is_no_error(rng):
    assert plotting.latent_map(rng.normal(size=(1, 5))).axes


def test_the_manifold_is_drawn_with_z1_upwards():
    grid = plotting.quantile_grid(4)
    assert grid.shape == (4, 4, 2)
    assert np.all(np.diff(grid[0, :, 0]) > 0)
    assert np.all(grid[0, :, 1] == grid[0, 0, 1])
    # The cells of the grid have equal mass under the standard normal.
    assert grid[0, 0, 0] == pytest.approx(-1.1503494)  # the quantile of 1/8
    manifold = np.zeros((4, 4, 2, 2, 1))
    manifold[3] = 1.0  # the highest z[1]
    shown = picture(plotting.latent_map(grid.reshape(-1, 2), None, manifold), axes=1)
    assert np.all(shown[:2] == 1)
    assert np.all(shown[-2:, 0] == 0)


def test_curves_show_training_and_validation():
    history = {"elbo": [-3.0, -2.0], "val_elbo": [-3.5, -2.5], "kl": [1.0, 2.0]}
    figure = plotting.curves(history)
    assert [axes.get_title() for axes in figure.axes] == ["ELBO", "KL"]
    lines = figure.axes[0].lines
    assert [line.get_label() for line in lines] == ["training", "validation"]
    assert lines[1].get_ydata().tolist() == [-3.5, -2.5]
    assert lines[0].get_xdata().tolist() == [1, 2]


@pytest.mark.parametrize(("name", "start"), [("a.png", b"\x89PNG"), ("b.PDF", b"%PDF")])
def test_a_figure_is_saved_as_its_name_says(tmp_path, name, start):
    plotting.save(plotting.image_grid(np.zeros((1, 2, 2, 1))), tmp_path / name)
    assert (tmp_path / name).read_bytes().startswith(start)


@pytest.mark.parametrize("name", ["a.txt", "a"])
def test_a_format_that_is_none_loses_nothing(tmp_path, name):
    file = tmp_path / name
    file.write_text("kept")
    with pytest.raises(InputError, match=r"picture named .*\.pdf, .*\.png, .*; received .*a"):
        plotting.save(plotting.image_grid(np.zeros((1, 2, 2, 1))), str(file))
    assert file.read_text() == "kept"


def test_notebooks_show_figures_before_pyplot_is_used():
    code = (
        "import sys, numpy as np, tfvae\n"
        "from IPython.core.formatters import DisplayFormatter\n"
        "figure = tfvae.plotting.image_grid(np.zeros((4, 8, 8, 1)))\n"
        "shown, _ = DisplayFormatter().format(figure)\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
        "assert shown['image/png'].startswith(b'\\x89PNG')\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
