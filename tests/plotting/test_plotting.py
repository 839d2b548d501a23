import io
import subprocess
import sys

import matplotlib as mpl
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


def test_the_grid_of_a_style_is_not_drawn_over_pictures():
    with mpl.rc_context({"axes.grid": True}):
        figure = plotting.image_rows(np.zeros((2, 3, 4, 4, 1)), ["a", "b"])
    lines = [*figure.axes[0].get_xgridlines(), *figure.axes[0].get_ygridlines()]
    assert not any(line.get_visible() for line in lines)


def test_rows_are_labelled():
    figure = plotting.image_rows(np.zeros((2, 5, 4, 4, 1)), ["z[3]", "z[1]"])
    assert picture(figure).shape == (9, 24)
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == ["z[3]", "z[1]"]


@pytest.mark.few(6)
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


def test_the_legend_of_a_map_hides_no_point(rng):
    figure = plotting.latent_map(rng.normal(size=(300, 2)), rng.integers(0, 10, 300))
    figure.savefig(io.BytesIO())  # lays it out
    (axes,) = figure.axes
    legend = axes.get_legend().get_window_extent()
    assert legend.x0 >= axes.get_window_extent().x1
    assert legend.x1 <= figure.bbox.x1


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


@pytest.mark.parametrize("channels", [1, 3, 12])
def test_series_are_lines(rng, channels):
    x = rng.normal(size=(20, 30, channels))
    x[0, 20:] = np.nan
    figure = plotting.event_grid(x)
    assert len(figure.axes) == 16
    assert [len(axes.lines) for axes in figure.axes] == [channels] * 16
    np.testing.assert_array_equal(figure.axes[1].lines[0].get_ydata(), x[1, :, 0])
    assert figure.get_suptitle() == "the first 16 of 20 series"
    figure = plotting.reconstructions(x[:3], x[:3] + 1)
    drawn = [axes for axes in figure.axes if axes.lines]
    assert len(drawn) == 3 * min(channels, 8)
    np.testing.assert_allclose(*[line.get_ydata() for line in drawn[1].lines[::-1]], atol=1.1)
    figure = plotting.event_rows(x.reshape(4, 5, 30, channels), ["a", "b", "c", "d"])
    assert len(figure.axes) == 4 * min(channels, 8)
    assert all(len(axes.lines) == 5 for axes in figure.axes)


def test_vectors_are_drawn_by_their_columns(rng):
    x = rng.normal(size=(100, 5))
    x[:, 2] = rng.integers(0, 3, 100)
    x[0, 0] = np.nan
    figure = plotting.event_grid(x, list("abcde"))
    assert [axes.get_title() for axes in figure.axes[:5]] == list("abcde")
    heights = [[bar.get_height() for bar in axes.patches] for axes in figure.axes[:5]]
    assert all(sum(one) == pytest.approx(1) for one in heights)
    assert [height for height in heights[2] if height] == pytest.approx(
        np.bincount(x[:, 2].astype(int)) / 100
    )
    figure = plotting.reconstructions(x, x + 1)
    points = figure.axes[0].lines[1]
    assert len(points.get_xdata()) == 99
    np.testing.assert_allclose(points.get_ydata(), points.get_xdata() + 1)
    assert len(plotting.event_rows(x.reshape(4, 25, 5)).axes[0].lines) == 25


def test_volumes_are_drawn_by_their_middle_slices(rng):
    x = rng.random((2, 4, 6, 5, 1))
    shown = picture(plotting.event_grid(x))
    np.testing.assert_allclose(shown[:6, :5], x[0, 2, :, :, 0], atol=1e-6)
    np.testing.assert_allclose(shown[8:12, :5], x[0, :, 3, :, 0], atol=1e-6)
    np.testing.assert_allclose(shown[15:19, :6], x[0, :, :, 2, 0], atol=1e-6)


def test_values_beyond_grey_are_scaled_and_it_is_said(rng):
    x = rng.uniform(-3, 3, (4, 6, 6, 2))
    figure = plotting.event_grid(x)
    shown = picture(figure)
    assert shown.min() == pytest.approx((x[..., 0].min() - x.min()) / (x.max() - x.min()))
    note = figure.get_supxlabel()
    assert "the first of 2 channels" in note
    assert f"black is {x.min():.3g}" in note
    # A decoder that goes a little beyond [0, 1] changes nothing.
    assert plotting.event_grid(np.full((1, 2, 2, 1), 1.1)).get_supxlabel() == ""


def test_what_is_missing_in_an_image_is_red():
    image = np.zeros((1, 2, 2, 3))
    image[0, 0, 0, 1] = np.nan
    shown = picture(plotting.image_grid(image))
    assert shown[0, 0].tolist() == pytest.approx([0.91, 0.63, 0.63])
    assert shown[1, 1].tolist() == [0, 0, 0]


@pytest.mark.parametrize("shape", [(7,), (20, 3), (6, 6, 1), (4, 5, 6, 1)])
def test_a_look_at_data(rng, shape):
    x = rng.normal(size=(30, *shape))
    figure = plotting.data_figure(x, np.arange(30) % 3, ("cat", "dog", "cow"))
    titles = [axes.get_title() for axes in figure.axes]
    assert titles[:3] == (["x[0]", "x[1]", "x[2]"] if len(shape) == 1 else ["cat", "dog", "cow"])


@pytest.mark.parametrize("shape", [(3,), (3, 4, 4, 4, 4, 4)])
def test_what_is_no_event_is_refused(shape):
    with pytest.raises(InputError, match="received events of shape"):
        plotting.event_grid(np.zeros(shape))
