"""The page of a table's model: what it shows, and in a browser."""

import re

import numpy as np
import pages
import pandas as pd
import pytest

import tfvae
from tfvae import datasets
from tfvae.app import rows
from tfvae.app.rows import RowModel, Rows
from tfvae.errors import InputError
from tfvae.saving import run as runs
from tfvae.saving.config import TrainConfig


def people(n=120):
    """Rows of which each kind of column has one: a date and a hole with it."""
    rng = np.random.default_rng(0)
    size = rng.normal(170, 8, n).round(1)
    frame = pd.DataFrame(
        {
            "size <cm>": size,
            "weight": (size - 100 + rng.normal(0, 2, n)).round(1),
            "visits": rng.poisson(3, n),
            "smokes": rng.random(n) < 0.3,
            "city": rng.choice(["Ulm", "Köln", "<b>Bonn</b>"], n),
            "since": pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 900, n), "D"),
        }
    )
    frame.loc[3, "weight"] = np.nan
    return frame


@pytest.fixture(scope="module")
def data():
    return datasets.load(people(), seed=0)


@pytest.fixture(scope="module")
def model(data):
    return RowModel(untrained(data), data.schema)


def untrained(data, *, missing=True, **options):
    return tfvae.VAE.for_events(
        data.event_shape,
        latent_dim=2,
        network="dense:hidden=16",
        likelihood=data.schema.likelihood(),
        missing=missing,
        seed=0,
        **options,
    )


def cells(html, name):
    """The cells of the line of a column."""
    line = re.search(rf'<tr class="(\w+)" data-column="{re.escape(name)}">(.*?)</tr>', html)
    return [line[1], *re.findall(r"<td>(.*?)</td>", line[2])]


def test_what_is_given_stays_and_the_rest_is_filled(model):
    html = rows.completed(model, {"size <cm>": "171.5", "city": "Ulm", "weight": " "}, None)
    assert cells(html, "size &lt;cm&gt;") == ["given", "size &lt;cm&gt;", "171.5", "given"]
    assert cells(html, "city")[2:] == ["Ulm", "given"]
    kind, _, middle, spread = cells(html, "weight")
    low, high = map(float, spread.split(" to "))
    assert kind == "filled"
    assert low <= float(middle) <= high
    assert re.fullmatch(r"(True|False) \d+%, (True|False) \d+%", cells(html, "smokes")[3])
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", cells(html, "since")[2])
    assert html == rows.completed(model, {"size <cm>": "171.5", "city": "Ulm"}, None)


def test_completions_are_those_of_the_model(data, model):
    x = data.schema.event_given({"size <cm>": 171.5})
    vae = untrained(data)
    expected = vae.impute(x[None], draws=rows.DRAWS, num_samples=rows.DRAWS, seed=0)[:, 0]
    np.testing.assert_allclose(model.completions(x, None), expected, rtol=1e-4, atol=1e-4)


def test_a_model_that_takes_no_holes_fills_them_by_draws_from_the_prior(data):
    model = RowModel(untrained(data, missing=False), data.schema)
    x = data.schema.event_given({"city": "Ulm"})
    found = model.completions(x, None)
    assert found.shape == (rows.DRAWS, 6)
    assert (found[:, 4] == x[4]).all()
    assert np.isfinite(found).all()
    assert np.isfinite(model.completions(np.full(6, np.nan, np.float32), None)).all()


@pytest.mark.parametrize(
    ("given", "complaint"),
    [({"weight": "heavy"}, "weight"), ({"visits": "-1"}, "count"), ({"since": "soon"}, "since")],
)
def test_a_value_of_another_kind_is_refused_in_a_line(model, given, complaint):
    with pytest.raises(InputError, match=complaint) as refused:
        rows.completed(model, given, None)
    assert "\n" not in str(refused.value)


def test_made_up_rows_are_of_the_table(data, model):
    html = rows.made_up(model, 3, None, n=5)
    assert re.findall("<th>(.*?)</th>", html) == [
        *("size &lt;cm&gt;", "weight", "visits", "smokes", "city", "since")
    ]
    assert html.count("<tr>") == 6
    assert "<b>Bonn" not in html
    assert html == rows.made_up(model, 3, None, n=5)
    assert html != rows.made_up(model, 4, None, n=5)


def test_the_map_is_coloured_by_a_column(data, model):
    x, _ = data.train.arrays()
    some = Rows("rows", x, None, model.codes(x, None))
    by_city, by_weight = (rows.row_map(model, some, name) for name in ("city", "weight"))
    assert by_city.count("<circle") == by_weight.count("<circle") == len(x)
    assert len(set(re.findall(r'fill="(#\w+)"', by_city))) == 3
    assert len(set(re.findall(r'fill="(#\w+)"', by_weight))) > 20
    assert "&lt;b&gt;Bonn&lt;/b&gt;" in by_city
    assert "<b>Bonn" not in by_city
    assert ("missing</span>" in by_weight) == bool(np.isnan(x[:, 1]).any())


def test_a_row_goes_into_the_form_and_comes_back(data, model):
    x, _ = data.train.arrays()
    names = [column.name for column in data.schema.columns]
    for row in x[:20]:
        texts = rows.texts(model, row)
        again = rows.event(model, dict(zip(names, texts, strict=True)))
        np.testing.assert_allclose(again, row, rtol=1e-5, atol=1e-5)


def test_the_rows_of_a_run_are_its_validation_rows(data, tmp_path):
    people().to_csv(tmp_path / "people.csv", index=False)
    options = TrainConfig(
        dataset=str(tmp_path / "people.csv"), label="smokes", conditional=True, missing=True
    )
    found = runs.load_data(options)
    vae = untrained(found, num_classes=2)
    model = RowModel(vae, found.schema)
    path = tmp_path / "model.keras"
    some = Rows.of_run(runs.TrainedModel(vae, path, options, found.schema), model)
    x, labels = found.validation.arrays()
    np.testing.assert_array_equal(some.x, x)
    np.testing.assert_array_equal(some.labels, labels)
    np.testing.assert_allclose(some.codes, vae.code(x, labels), rtol=1e-5, atol=1e-6)
    assert some.name == "validation rows of people.csv"
    assert "smokes" in rows.made_up(model, 0, 1)
    assert rows.completed(model, {}, 0) != rows.completed(model, {}, 1)
    drawn = Rows.of_run(runs.TrainedModel(vae, path, None, found.schema), model)
    assert drawn.name == "samples of the model"
    with pytest.raises(InputError, match="numbers from 0 to"):
        some.row(-1)


# --- in a browser ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    import keras

    keras.utils.set_random_seed(0)
    vae = untrained(data)
    vae.compile(keras.optimizers.Adam(1e-2))
    x, _ = data.train.arrays()
    holes = np.where(np.random.default_rng(0).random(x.shape) < 0.4, np.nan, x)
    vae.fit(holes, x, batch_size=32, epochs=80, verbose=0)
    return RowModel(vae, data.schema)


@pytest.mark.exhaustive
def test_the_page_in_a_browser(trained, data):
    pytest.importorskip("gradio", reason="the page needs gradio: pip install 'tfvae[app]'")
    from tfvae.app import server
    from tfvae.app.row_explorer import row_page

    x, _ = data.validation.arrays()
    some = Rows("validation rows", x, None, trained.codes(x, None))
    with (
        server.serving(lambda: row_page(trained, some, title="people <b>")) as url,
        pages.chromium() as browser,
    ):
        page = pages.opened(browser, url, height=1200)
        page.wait_for_selector("#completed tr")
        page.wait_for_selector("#map circle")
        page.wait_for_selector("#field-5 :is(input, textarea)")

        def weight():
            return page.text_content('#completed tr[data-column="weight"] td:nth-child(2)')

        def typed(text):
            field = page.locator("#field-0 :is(input, textarea)")
            field.press("Control+a")
            field.press_sequentially(text)

        def shown(text):
            """Wait for the answer to the last letter."""
            page.wait_for_function(
                "text => document.querySelector('#completed tr.given td:nth-child(2)')"
                "?.textContent === text",
                arg=text,
            )
            return weight()

        # It fills in while one types, and what it fills in follows from what was given.
        typed("155")
        light = float(shown("155"))
        typed("185")
        assert float(shown("185")) > light + 10
        typed("tall")
        page.wait_for_selector("#completed .problem")

        made_up = page.inner_html("#samples")
        page.click("#new-seed")
        page.wait_for_function(
            "old => document.querySelector('#samples').innerHTML !== old", arg=made_up
        )

        # A point of the map goes into the form.
        page.locator("#map circle").first.scroll_into_view_if_needed()
        box = page.locator("#map circle").first.bounding_box()
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        name = page.locator("#map .hover span").text_content()
        page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        size = re.search(r"size <cm>: (.*)", name)[1]
        page.wait_for_function(
            "size => document.querySelector('#field-0 :is(input, textarea)').value === size",
            arg=size,
        )
        page.wait_for_selector("#completed tr.given")
        page.click("#clear")
        page.wait_for_function(
            "() => document.querySelector('#field-0 :is(input, textarea)').value === ''"
        )
        page.wait_for_function("() => !document.querySelector('#completed tr.given')")
        assert page.errors == []
        assert {one.split("/")[2] for one in page.requested} == {url.split("/")[2]}
