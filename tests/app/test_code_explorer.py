"""The page of a model with codes: what it shows, and in a browser."""

import re

import keras
import numpy as np
import pages
import pytest

import tfvae
from tfvae.app import codes
from tfvae.app.codes import CodeModel
from tfvae.app.explorable import Examples
from tfvae.saving import run as runs


def made(quantizer="vq:codes=8", classes=None, network="conv:filters=8x8", trained=True):
    rng = np.random.default_rng(0)
    x = (rng.random((300, 8, 8, 1)) < rng.random((300, 1, 1, 1))).astype("float32")
    label = None if classes is None else np.arange(300) % classes
    keras.utils.set_random_seed(0)
    vq = tfvae.VQVAE.for_images(
        (8, 8, 1),
        quantizer=quantizer,
        network=network,
        code_prior="transformer:width=8,layers=1,heads=2",
        num_classes=classes,
        seed=0,
    )
    if trained:
        vq.compile(keras.optimizers.Adam(0.01))
        vq.fit(x if label is None else (x, label), epochs=2, verbose=0)
        vq.fit_prior(x, label, epochs=1, verbose=0)
    model = CodeModel(vq)
    own = model.code(x[:20], None if label is None else label[:20])
    return vq, model, Examples("images", x[:20], None if label is None else label[:20], own)


@pytest.fixture(scope="module")
def small():
    return made()


def terms(text):
    return {
        name: float(value)
        for name, value in re.findall(r'data-term="([^"]*)">(-?[\d.]+)</td>', text)
    }


def test_an_image_is_shown_with_its_bound_and_with_what_changed_codes_decode_to(small):
    vq, model, examples = small
    image, own = examples.images[3], examples.codes[3]
    text = codes.reconstruction(model, image, own, None)
    bound = vq.bound(image[None])
    assert terms(text) == pytest.approx(
        {
            "bound": float(bound.bound[0]),
            "log p(x|c)": float(bound.log_likelihood[0]),
            "log p(c)": float(bound.log_prior[0]),
        },
        abs=0.0051,
    )
    assert text.count("<img") == 2
    assert "uniform" not in text
    changed = own.copy()
    changed[:2] = (changed[:2] + 1) % 8
    text = codes.reconstruction(model, image, changed, None)
    assert text.count("<img") == 3
    assert "2 codes changed" in text
    sources = re.findall(r'src="([^"]*)"', text)
    assert sources[1] != sources[2]


def test_the_map_has_each_code_at_its_place(small):
    vq, model, examples = small
    assert model.places == (2, 2)
    own = examples.codes[0]
    np.testing.assert_array_equal(own, vq.codes(examples.images[:1]).numpy().reshape(-1))
    text = codes.code_map(model, own, 0, 1)
    named = re.findall(r'cx="([\d.]+)" cy="([\d.]+)".*?data-name="place (\d+): code (\d+)"', text)
    assert [(float(x), float(y)) for x, y, _, _ in named] == [
        (90, 90), (270, 90), (90, 270), (270, 270),
    ]  # fmt: skip
    assert [int(code) for *_, code in named] == own.tolist()
    assert text.count('class="chosen"') == 1


def test_the_use_of_the_codebook_is_counted(small):
    _, model, examples = small
    text = codes.use(model, examples)
    counts = np.bincount(examples.codes.reshape(-1), minlength=8)
    share = counts[counts > 0] / counts.sum()
    found = terms(text)
    assert found["perplexity"] == pytest.approx(np.exp(-(share * np.log(share)).sum()), abs=0.051)
    assert found["of 8 codes in use"] == (counts > 0).sum()
    shown = [float(one) for one in re.findall(r"<td>([\d.]+)%</td>", text)]
    np.testing.assert_allclose(shown, 100 * np.sort(counts / counts.sum())[::-1], atol=0.0051)


@pytest.mark.exhaustive
def test_a_model_file_is_explored_with_its_own_samples(small, tmp_path, monkeypatch):
    pytest.importorskip("gradio", reason="the page needs gradio: pip install 'tfvae[app]'")
    from tfvae.app import explorer

    vq, model, _ = small
    vq.save(tmp_path / "model.keras")
    built = []
    monkeypatch.setattr(explorer, "_serve", lambda make, title, **_: built.append((make(), title)))
    explorer.explore(runs.TrainedModel.open(tmp_path / "model.keras"))
    ((page, title),) = built
    assert "tfvae explore" in title
    assert "samples of the model" in str(page.config)
    drawn = Examples.drawn(model)
    np.testing.assert_array_equal(drawn.images, model.decode(drawn.codes, None))


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("quantizer", "network", "places", "depth"),
    [
        ("residual:codes=4,depth=2", "conv:filters=8x8", (2, 2), 2),
        ("fsq:levels=3x2", "dense:hidden=8,places=5", (2, 3), 1),
    ],
)
def test_levels_and_rows_of_places(quantizer, network, places, depth):
    _, model, examples = made(quantizer, network=network, trained=False)
    assert (model.places, model.depth) == (places, depth)
    own = examples.codes[0]
    for level in range(depth):
        text = codes.code_map(model, own, level, None)
        found = re.findall(r"code (\d+)\"", text)
        assert [int(code) for code in found] == own.reshape(-1, depth)[:, level].tolist()
    assert terms(codes.use(model, examples))["perplexity"] >= 1


@pytest.mark.exhaustive
def test_the_page_in_a_browser():
    pytest.importorskip("gradio", reason="the page needs gradio: pip install 'tfvae[app]'")
    from tfvae.app import server
    from tfvae.app.code_explorer import code_page

    _, model, examples = made(classes=3)
    with (
        server.serving(lambda: code_page(model, examples, title="codes <b>")) as url,
        pages.chromium() as browser,
    ):
        page = pages.opened(browser, url)
        for part in ("#codes circle", "#reconstruction img", "#samples img", "#use tr"):
            page.wait_for_selector(part)
        assert page.inner_text("h2") == "codes <b>"

        def source(part, number=0):
            return page.locator(f"#{part} img").nth(number).get_attribute("src")

        # Another image.
        before = source("reconstruction")
        page.locator("#number-image input").fill("5")
        page.locator("#number-image input").press("Tab")
        page.wait_for_function(
            "old => document.querySelector('#reconstruction img').src !== old", arg=before
        )
        names = page.locator("#codes circle").evaluate_all(
            "all => all.map(one => one.dataset.name)"
        )
        own = examples.codes[5].tolist()
        assert names == [f"place {place}: code {code}" for place, code in enumerate(own)]
        # A click chooses a code, whose number the slider then has and changes.
        page.locator("#codes circle").nth(2).click()
        page.wait_for_selector("#codes circle.chosen")
        slider = page.locator("#code input[type=range]")
        pages.until(page, lambda: int(slider.input_value()) == own[2])
        key, other = ("Home", 0) if own[2] else ("End", 7)
        slider.press(key)
        page.wait_for_selector("#reconstruction figure:nth-child(3)")
        changed = page.locator("#codes circle").nth(2)
        named = f"place 2: code {other}"
        pages.until(page, lambda: changed.get_attribute("data-name") == named)
        pages.until(page, lambda: "1 code changed" in page.inner_text("#reconstruction"))
        page.click("#own-codes")
        page.wait_for_function(
            "() => document.querySelectorAll('#reconstruction figure').length === 2"
        )
        before = source("samples")
        page.click("#new-seed")
        page.wait_for_function(
            "old => document.querySelector('#samples img').src !== old", arg=before
        )
        page.locator("#seed input").fill("-1")
        page.locator("#seed input").press("Tab")
        page.wait_for_selector("#samples .problem")
        page.locator("#number-image input").fill("99")
        page.locator("#number-image input").press("Tab")
        page.wait_for_selector("#reconstruction .problem")
        assert page.errors == []
        assert {one.split("/")[2] for one in page.requested} == {url.split("/")[2]}
