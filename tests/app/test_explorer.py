"""The page to explore a latent space, in a browser."""

import base64
import io
import re
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pages
import pytest
import scripts
from PIL import Image

import tfvae
from tfvae import datasets
from tfvae.app import explorer
from tfvae.app import server as web
from tfvae.app.explorable import ELBO_DRAWS, CompiledVAE, Examples
from tfvae.saving import run as runs
from tfvae.saving.config import TrainConfig

pytest.importorskip("gradio", reason="the page needs gradio: pip install 'tfvae[app]'")
# In a browser; test_explorer_server.py asks the page's server itself.
pytestmark = pytest.mark.exhaustive


def png(image):
    file = io.BytesIO()
    Image.fromarray(np.asarray(image, np.uint8)).save(file, "PNG")
    return file.getvalue()


PHOTO = png(np.arange(900).reshape(30, 30) ** 2 % 256)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run directory: a model of binarized digits, and the options it was trained with."""
    keras.utils.set_random_seed(0)
    folder = tmp_path_factory.mktemp("run")
    options = TrainConfig(dataset="digits", binarize="dynamic", latent_dim=3)
    data = runs.load_data(options)
    vae = tfvae.VAE.for_images(data.image_shape, latent_dim=3, network="dense", seed=0)
    vae.compile(keras.optimizers.Adam(3e-3))
    vae.fit(data.train.batches(128, shuffle=True), epochs=5, verbose=0)
    vae.save(folder / "model.keras")
    (folder / "config.toml").write_text(options.to_toml())
    return runs.TrainedModel.open(folder)


@pytest.fixture(scope="module")
def browser():
    with pages.chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def model(trained):
    return CompiledVAE(trained.vae)


@pytest.fixture(scope="module")
def examples(trained, model):
    return Examples.of_run(trained, model)


@pytest.fixture(scope="module")
def url(model, examples):
    with web.serving(lambda: explorer.page(model, examples, title="digits <b>")) as url:
        yield url


@pytest.fixture
def page(browser, url):
    page = opened(browser, url)
    yield page
    assert page.errors == []
    page.close()


def opened(browser, url):
    page = pages.opened(browser, url)
    for part in ("decoded", "map", "samples", "reconstruction", "interpolation"):
        page.wait_for_selector(f"#{part} :is(img, svg)")
    # They come by themselves, on a busy machine after the pictures.
    page.wait_for_selector("#slider-0 input[type=range]")
    page.locator("[id^=slider-] label").last.wait_for()
    return page


def shown(page, part):
    """The picture that a part of the page shows, as bytes of a PNG file."""
    return base64.b64decode(page.get_attribute(f"#{part} img", "src").partition(",")[2])


def changed(page, part, before):
    """Wait until a part shows another picture, and give it."""
    old = f"data:image/png;base64,{base64.b64encode(before).decode()}"
    page.wait_for_function(
        "([part, old]) => { const image = document.querySelector(`#${part} img`);"
        " return image && image.src !== old; }",
        arg=[part, old],
    )
    return shown(page, part)


def pixels(png):
    with Image.open(io.BytesIO(png)) as image:
        return np.asarray(image)


def as_bytes(image):
    return np.round(255 * np.clip(image, 0, 1)).astype(np.uint8)


def move(page, position, key="ArrowRight"):
    page.locator(f"#slider-{position} input[type=range]").press(key)


def fill(page, name, value):
    number = page.locator(f"#{name} input")
    number.fill(str(value))
    number.press("Tab")


def upload(page, name, data, filename="digit.png"):
    with page.expect_file_chooser() as chooser:
        page.click(f"#upload-{name}")
    chooser.value.set_files(
        {"name": filename, "mimeType": "application/octet-stream", "buffer": data}
    )


def test_moving_a_slider_shows_what_that_z_decodes_to(page, trained, examples):
    before = shown(page, "decoded")
    move(page, 0, "End")
    after = changed(page, "decoded", before)
    codes = examples.codes
    z = np.clip(codes[0], -3, 3).round(2)
    z[np.argsort(-codes.var(axis=0))[0]] = 3
    expected = as_bytes(trained.vae.decode(z[None]).mean()[0, ..., 0])
    np.testing.assert_allclose(pixels(after).astype(int), expected, atol=1)


def test_the_sliders_are_those_of_the_most_active_dimensions(page, examples):
    names = page.locator("[id^=slider-] label").all_inner_texts()
    order = np.argsort(-examples.codes.var(axis=0))
    assert [name.split()[0] for name in names if name.strip()] == [f"z[{d}]" for d in order]


def test_the_origin_and_draws_move_picture_and_sliders(page, trained):
    before = shown(page, "decoded")
    page.click("#origin")
    origin = changed(page, "decoded", before)
    expected = as_bytes(trained.vae.decode(np.zeros((1, 3))).mean()[0, ..., 0])
    np.testing.assert_allclose(pixels(origin).astype(int), expected, atol=1)
    slider = page.locator("#slider-0 input[type=range]")
    pages.until(page, lambda: float(slider.input_value()) == 0)
    page.click("#draw-z")
    changed(page, "decoded", origin)
    pages.until(page, lambda: float(slider.input_value()) != 0)


def test_a_new_seed_changes_the_samples_and_the_same_gives_the_same(page, trained):
    first = shown(page, "samples")
    page.click("#new-seed")
    second = changed(page, "samples", first)
    pages.until(page, lambda: page.locator("#seed input").input_value() == "1")
    fill(page, "seed", 0)
    assert changed(page, "samples", second) == first
    # The same as `tfvae sample` draws.
    sample = np.asarray(trained.vae.sample(64, seed=0))[0, ..., 0]
    np.testing.assert_allclose(pixels(first)[:8, :8].astype(int), as_bytes(sample), atol=1)
    fill(page, "seed", -1)
    page.wait_for_selector("#samples .problem")
    assert "a seed is a whole number from 0" in page.inner_text("#samples")


def test_an_uploaded_digit_shows_the_elbo_of_the_model(page, trained):
    digit = np.round(datasets.load("digits").test.arrays(limit=5)[0][4, ..., 0] * 255)
    before = shown(page, "reconstruction")
    # What its name says does not matter.
    upload(page, "image", png(digit.astype(np.uint8)), "digit.txt")
    image = pixels(changed(page, "reconstruction", before))
    x = (digit > 127.5).astype(np.float32)
    np.testing.assert_array_equal(image, 255 * x)
    terms = trained.vae.elbo(x[None, ..., None], num_samples=ELBO_DRAWS, seed=0)
    for name, value in zip(("elbo", "log-likelihood", "kl"), terms, strict=True):
        text = page.inner_text(f"#reconstruction [data-term={name}]")
        assert float(text) == pytest.approx(float(value[0]), abs=0.0051)  # two decimals
    each = [float(text) for text in page.locator("#reconstruction [data-kl]").all_inner_texts()]
    assert len(each) == 3
    assert sum(each) == pytest.approx(float(terms.kl[0]), abs=0.02)
    assert "cut at one half" in page.inner_text("body")

    before = shown(page, "reconstruction")
    page.get_by_label("invert the upload").check()
    inverted = pixels(changed(page, "reconstruction", before))
    np.testing.assert_array_equal(inverted, 255 - image)


def test_uploads_that_are_no_images_give_a_message_and_the_page_lives_on(page):
    for data, complaint in (
        (b"GIF89a" + bytes(50), "expected a PNG or JPEG file"),
        (PHOTO[:-60], "not a readable image"),
        (b"", "received one that begins with nothing"),
    ):
        upload(page, "image", data)
        page.wait_for_selector("#reconstruction .problem")
        pages.until(page, lambda said=complaint: said in page.inner_text("#reconstruction"))
    before = shown(page, "decoded")
    move(page, 1, "Home")
    changed(page, "decoded", before)
    upload(page, "image", png(np.full((8, 8), 200, np.uint8)))
    page.wait_for_selector("#reconstruction img")


def test_a_validation_image_is_reconstructed_by_its_number(page, trained):
    image, label = trained.data(runs.DataOptions()).validation.arrays()
    assert label is not None
    before = shown(page, "reconstruction")
    fill(page, "number-image", 7)
    np.testing.assert_array_equal(
        pixels(changed(page, "reconstruction", before)), 255 * image[7, ..., 0]
    )
    fill(page, "number-image", 100_000)
    page.wait_for_selector("#reconstruction .problem")
    assert re.search(r"numbers from 0 to \d+; received 100000", page.inner_text("#reconstruction"))


def test_two_images_are_interpolated(page, trained, examples):
    first = shown(page, "interpolation")
    fill(page, "number-second", 5)
    second = changed(page, "interpolation", first)
    line = np.asarray(trained.vae.interpolate(examples.images[0], examples.images[5], 12))
    row = pixels(second)
    np.testing.assert_array_equal(row[:, :8], as_bytes(examples.images[0, ..., 0]))
    np.testing.assert_array_equal(row[:, -8:], as_bytes(examples.images[5, ..., 0]))
    for step in (0, 6, 11):
        left = 8 + 2 + 9 * step
        expected = as_bytes(line[step, ..., 0]).astype(int)
        np.testing.assert_allclose(row[:, left : left + 8].astype(int), expected, atol=1)
    upload(page, "first", png(np.full((8, 8), 255, np.uint8)))
    third = changed(page, "interpolation", second)
    assert (pixels(third)[:, :8] == 255).all()
    np.testing.assert_array_equal(pixels(third)[:, -8:], row[:, -8:])
    upload(page, "first", b"no image")
    page.wait_for_selector("#interpolation .problem")


def test_the_map_shows_images_on_hovering_and_walks_from_a_click(page, trained, examples):
    points = page.locator("#map circle")
    assert points.count() == len(examples.images)
    outermost = int(np.argmax(examples.codes.var(axis=1)))
    point = points.nth(outermost)
    assert not page.is_visible("#map .hover")
    point.hover()
    page.wait_for_selector("#map .hover", state="visible")
    number = int(re.search(r"no\. (\d+)", page.inner_text("#map .hover"))[1])
    label = examples.labels[number]
    assert page.inner_text("#map .hover").endswith(f"no. {number}, label {label}")
    # Two pictures side by side, of that image and of its reconstruction.
    back = trained.vae.reconstruct(examples.images)
    columns = int(page.get_attribute("#map .map", "data-columns"))
    for place, images in enumerate((examples.images, np.asarray(back))):
        style = page.locator("#map .hover b").nth(place).get_attribute("style")
        sheet = pixels(base64.b64decode(re.search(r"base64,([^\"')&]+)", style)[1]))
        left, top = 8 * (number % columns), 8 * (number // columns)
        thumbnail = sheet[top : top + 8, left : left + 8].astype(int)
        np.testing.assert_allclose(thumbnail, as_bytes(images[number, ..., 0]), atol=1)
        offset = re.search(r"background-position: (-?\d+)px (-?\d+)px", style)
        assert [int(value) for value in offset.groups()] == [
            -84 * (number % columns),
            -84 * (number // columns),
        ]
    before = shown(page, "decoded")
    page.mouse.down()
    page.mouse.up()
    after = changed(page, "decoded", before)
    z = np.clip(examples.codes[number], -3, 3).round(2)
    expected = as_bytes(trained.vae.decode(z[None]).mean()[0, ..., 0])
    np.testing.assert_allclose(pixels(after).astype(int), expected, atol=1)


def test_nothing_is_asked_of_other_hosts(page, url):
    move(page, 0)
    page.wait_for_timeout(300)
    assert len(page.requested) > 10
    others = [one for one in page.requested if not one.startswith((url, "data:", "blob:"))]
    assert others == []
    # Nothing that links elsewhere, and a title that stays text.
    assert page.locator("footer a:visible").count() == 0
    assert page.inner_text("h2") == "digits <b>"


def test_two_visitors_do_not_meet(page, browser, url):
    other = opened(browser, url)
    before = shown(other, "decoded")
    move(page, 0, "Home")
    changed(page, "decoded", before)
    assert shown(other, "decoded") == before
    other.close()


def test_a_conditional_model_without_a_run_is_explored_by_label(browser):
    vae = tfvae.VAE.for_images((8, 8, 1), latent_dim=2, network="dense", num_classes=3, seed=0)
    model = CompiledVAE(vae)
    with web.serving(lambda: explorer.page(model)) as url:
        page = opened(browser, url)
        assert "samples of the model" in page.inner_text("body")
        z = Examples.drawn(model).codes[0].clip(-3, 3).round(2)
        for label in (0, 2):
            if label:
                before = shown(page, "decoded")
                page.click("#label-walk input")
                page.click(f"#label-walk [role=option][aria-label='{label}']")
                changed(page, "decoded", before)
            expected = as_bytes(vae.decode(z[None], [label]).mean()[0, ..., 0])
            np.testing.assert_allclose(pixels(shown(page, "decoded")).astype(int), expected, atol=1)
        before = shown(page, "samples")
        page.click("#label-samples input")
        page.click("#label-samples [role=option][aria-label='1']")
        found = pixels(changed(page, "samples", before))
        sample = np.asarray(vae.sample(64, label=1, seed=0))[0, ..., 0]
        np.testing.assert_allclose(found[:8, :8].astype(int), as_bytes(sample), atol=1)
        assert page.errors == []
        page.close()


def test_the_benchmark_times_moves(url):
    file = scripts.ROOT / "benchmarks" / "explorer.py"
    benchmark = scripts.loaded(file)
    # In a thread of its own: in this one a browser is being driven already.
    with ThreadPoolExecutor(1) as pool:
        taken = pool.submit(benchmark.moves, url, 4, 1).result(timeout=pages.TIMEOUT_S)
    assert len(taken) == 4
    assert all(0 < picture <= frame for picture, frame in taken)
    figures = {"p50": 1.25, "p95": 20.0}
    table = benchmark.table({"server": figures, "picture": figures, "frame": figures})
    assert table.count("| 1.2 | 20.0 |") == 3
