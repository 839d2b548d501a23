"""What the page shows: models behind their protocol, and pictures of arrays."""

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

import tfvae
from tfvae.app import views
from tfvae.app.explorable import ELBO_DRAWS, CompiledVAE, Examples
from tfvae.datasets.image_files import decode_image
from tfvae.errors import InputError
from tfvae.saving import run as runs
from tfvae.saving.config import TrainConfig


def pictures(html):
    """Give the arrays of all pictures in some HTML."""
    found = re.findall(r"data:image/png;base64,([\w+/=]+)", html)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))) for data in found]


def small(shape=(8, 8, 1), latent_dim=3, **options):
    return tfvae.VAE.for_images(shape, latent_dim=latent_dim, network="dense", seed=0, **options)


def test_a_compiled_model_gives_what_the_model_gives(rng):
    vae = small()
    model = CompiledVAE(vae)
    x = rng.random((5, 8, 8, 1), np.float32)
    codes = model.code(x, None)
    np.testing.assert_allclose(codes, vae.code(x), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(model.decode(codes, None), vae.reconstruct(x), rtol=1e-5)
    decoded = model.decode(model.draw(4, None, 7), None)
    np.testing.assert_allclose(decoded, vae.sample(4, seed=7), rtol=1e-5)
    score = model.elbo(x[:1], None, 3)
    expected = [float(term[0]) for term in vae.elbo(x[:1], num_samples=ELBO_DRAWS, seed=3)]
    assert [score.elbo, score.log_likelihood, score.kl] == pytest.approx(expected, rel=1e-5)
    assert score.kl_per_dimension.sum() == pytest.approx(score.kl, rel=1e-5)


def test_a_conditional_model_gives_what_the_model_gives(rng):
    vae = small(num_classes=4, prior="class_normal")
    model = CompiledVAE(vae)
    x, label = rng.random((4, 8, 8, 1), np.float32), np.arange(4)
    np.testing.assert_allclose(model.code(x, label), vae.code(x, label), rtol=1e-5, atol=1e-6)
    decoded = model.decode(model.draw(4, label, 7), label)
    np.testing.assert_allclose(decoded, vae.sample(4, label=label, seed=7), rtol=1e-5)
    terms = vae.elbo(x[:1], label[:1], num_samples=ELBO_DRAWS, seed=0)
    assert model.elbo(x[:1], label[:1], 0).elbo == pytest.approx(float(terms.elbo[0]), rel=1e-5)


def test_there_is_no_kl_of_each_dimension_where_the_posterior_is_a_flow(rng):
    model = CompiledVAE(small(posterior="iaf:flows=1,hidden=8"))
    html = views.reconstruction(model, rng.random((8, 8, 1), np.float32), None)
    assert "do not factorise" in html
    assert "data-kl" not in html


def test_values_without_a_density_are_refused():
    model = CompiledVAE(small())
    with pytest.raises(InputError, match="received values from 2 to 2"):
        views.reconstruction(model, np.full((8, 8, 1), 2, np.float32), None)


@pytest.mark.few(1)
@pytest.mark.parametrize("levels", [2, 17, 256])
def test_an_upload_is_rounded_to_the_levels_of_a_discrete_likelihood(rng, levels):
    model = CompiledVAE(small(likelihood=f"discretized_logistic:levels={levels}"))
    file = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (20, 20), np.uint8)).save(file, "PNG")
    image = decode_image(file.getvalue(), model.image_shape)
    admitted = model.admitted(image)
    assert np.abs(admitted - image).max() <= 0.5 / (levels - 1) + 1e-6
    assert "ELBO" in views.reconstruction(model, admitted, None)
    assert "ELBO" in views.reconstruction(model, model.admitted(1 - image), None)


def test_an_upload_lies_amid_the_cells_of_dequantized_bytes():
    vae = small(likelihood="normal:scale=learned")
    image = np.array([0, 1, 254, 255], np.float32) / 255
    admitted = CompiledVAE(vae, dequantized=True).admitted(image)
    np.testing.assert_array_equal(admitted, np.array([0.5, 1.5, 254.5, 255.5]) / 256)
    assert CompiledVAE(vae).admitted(image) is image


def test_the_images_of_a_run_are_its_validation_images(tmp_path):
    options = TrainConfig(dataset="digits", binarize="dynamic", conditional=True)
    vae = small(num_classes=10)
    data = runs.load_data(options)
    trained = runs.TrainedModel(vae, tmp_path / "model.keras", options)
    model = CompiledVAE(vae)
    examples = Examples.of_run(trained, model)
    images, labels = data.validation.arrays()
    np.testing.assert_array_equal(examples.images, images)
    np.testing.assert_array_equal(examples.labels, labels)
    np.testing.assert_allclose(examples.codes, vae.code(images, labels), rtol=1e-4, atol=1e-5)
    assert examples.binarized
    assert examples.name == "validation images of digits"


def test_a_lone_model_is_explored_with_its_own_samples(tmp_path):
    model = CompiledVAE(small(num_classes=4))
    trained = runs.TrainedModel(small(num_classes=4), tmp_path / "model.keras", None)
    examples = Examples.of_run(trained, model)
    assert examples.name == "samples of the model"
    assert len(examples.images) == len(examples.codes) == 1000
    np.testing.assert_array_equal(np.bincount(examples.labels), [250] * 4)
    assert set(np.unique(examples.images)) == {0, 1}  # draws from p(x|z), which the model takes
    np.testing.assert_array_equal(examples.codes, model.draw(1000, examples.labels, 0))


def test_the_most_active_dimensions_are_those_whose_codes_vary():
    class Fixed:
        image_shape, latent_dim, num_classes = (2, 5, 1), 5, None

        def code(self, x, label):
            return x[:, 0, :, 0] * np.array([1, 5, 0, 3, 2])

    images = np.random.default_rng(0).normal(size=(200, 2, 5, 1))
    examples = Examples("images", images, None, np.zeros((200, 5)))
    assert examples.most_active(Fixed(), 3) == [1, 3, 4]


def test_images_have_numbers():
    examples = Examples("images", np.zeros((3, 2, 2, 1)), None, np.zeros((3, 2)))
    assert [examples.row(0), examples.row(2.0)] == [0, 2]
    for wrong in (-1, 3, 0.5, None, "1", float("nan"), True, [1]):
        with pytest.raises(InputError, match="the images have numbers from 0 to 2"):
            examples.row(wrong)


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_a_grid_shows_images_in_their_places(rng, channels):
    images = rng.random((5, 4, 3, channels), np.float32)
    (picture,) = pictures(views.grid(images, "images"))
    picture = picture.reshape(*picture.shape[:2], -1)
    assert picture.shape == (2 * 4 + 1, 3 * 3 + 2, 3 if channels == 3 else 1)
    kept = images if channels == 3 else images[..., :1]
    for number, image in enumerate(kept):
        top, left = number // 3 * 5, number % 3 * 4
        shown = picture[top : top + 4, left : left + 3]
        np.testing.assert_array_equal(shown, np.round(255 * image))
    assert (picture[4] == 255).all()  # between the rows
    assert (picture[5:, 8:] == 255).all()  # where there is no image


def test_values_out_of_range_are_clipped():
    image = np.array([[-1, 2, np.nan, np.inf]], np.float32)[..., None]
    (picture,) = pictures(views.one_image(image))
    np.testing.assert_array_equal(picture, [[0, 255, 0, 255]])


def test_the_map_of_two_dimensions_is_z_itself(rng):
    codes = rng.normal(size=(30, 2)).astype(np.float32)
    assert views.plane(codes)[0] is codes
    model = CompiledVAE(small(latent_dim=2))
    examples = Examples("images", model.decode(codes, None), np.arange(30) % 3, codes)
    html = views.latent_map(model, examples)
    x, y = (
        np.array(re.findall(rf'<circle [^>]*{axis}="([\d.]+)"', html), float)
        for axis in ("cx", "cy")
    )
    assert len(x) == 30
    # One scale for both axes, and z[1] upwards.
    scale = np.ptp(x) / np.ptp(codes[:, 0])
    np.testing.assert_allclose(x - x.min(), scale * (codes[:, 0] - codes[:, 0].min()), atol=0.11)
    np.testing.assert_allclose(y.max() - y, scale * (codes[:, 1] - codes[:, 1].min()), atol=0.11)
    colours = re.findall(r'fill="(#\w+)"', html)
    assert len(set(colours)) == 3
    assert colours[0] == colours[3]
    assert [sheet.shape for sheet in pictures(html)] == [(5 * 8, 6 * 8)] * 2


def test_the_map_of_more_dimensions_shows_principal_components(rng):
    codes = rng.normal(size=(50, 4)) * [0.1, 5, 0.2, 2]
    points, names = views.plane(codes)
    centred = codes - codes.mean(axis=0)
    _, _, axes = np.linalg.svd(centred)
    np.testing.assert_allclose(np.abs(points), np.abs(centred @ axes[:2].T), rtol=1e-6, atol=1e-9)
    assert names == ("first principal component", "second principal component")


@pytest.mark.few(2)
@pytest.mark.parametrize(("count", "latent_dim"), [(1, 1), (1, 2), (1, 5), (3, 1), (2, 5)])
def test_a_map_of_few_points_is_drawn(count, latent_dim):
    model = CompiledVAE(small(latent_dim=latent_dim))
    codes = model.draw(count, None, 0)
    examples = Examples("images", model.decode(codes, None), None, codes)
    html = views.latent_map(model, examples)
    assert html.count("<circle") == count
    assert "nan" not in html


def test_messages_are_text():
    assert views.problem("<script>") == '<p class="problem">&lt;script&gt;</p>'
    assert "&lt;b&gt;" in views.hint("<b>")
