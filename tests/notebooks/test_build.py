"""The script that makes notebooks: what it puts on top, what it keeps, and what it compares."""

import base64
import io
import sys

import nbformat
import numpy as np
import pytest
from PIL import Image
from scripts import ROOT

NOTEBOOKS = ROOT / "notebooks"
sys.path.insert(0, str(NOTEBOOKS))
import build  # noqa: E402
import outputs  # noqa: E402

SCRIPT = "# %% [markdown]\n# # 1. Title\n\n# %%\n{code}\n"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with one notebook that has run."""
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text())
    monkeypatch.setattr(build, "FOLDER", tmp_path / "notebooks")
    script = tmp_path / "notebooks" / "01_one.py"
    script.write_text(SCRIPT.format(code="print(1)"))
    notebook = build.read(script)
    cell = notebook.cells[-1]
    cell.outputs = [nbformat.v4.new_output("stream", name="stdout", text="1\n")]
    build.number(notebook)
    build.write(notebook, script.with_suffix(".ipynb"))
    return script.parent


def kept(folder):
    return nbformat.read(folder / "01_one.ipynb", as_version=4)


def test_a_notebook_starts_with_badge_title_and_setup(folder):
    badge, title, setup, body = kept(folder).cells
    assert "colab-badge.svg" in badge.source
    assert title.source == "# 1. Title"
    assert 'find_spec("tfvae") is None' in setup.source
    assert body.source == "print(1)"


def test_the_badge_leads_to_the_notebook_of_a_repository(folder):
    place = folder.parent / "pyproject.toml"
    text = place.read_text().replace("urls = {", 'urls = { Repository = "https://github.com/o/n",')
    place.write_text(text)
    badge, _ = build.head("01_one")
    assert "/github/o/n/blob/main/notebooks/01_one.ipynb" in badge.source


def test_text_changes_and_outputs_stay(folder):
    script = folder / "01_one.py"
    script.write_text(SCRIPT.format(code="print(1)").replace("Title", "Another"))
    build.main(["01_one"])
    assert kept(folder).cells[1].source == "# 1. Another"
    assert kept(folder).cells[-1].outputs[0].text == "1\n"


def test_outputs_of_other_code_are_not_kept_nor_overwritten(folder):
    (folder / "01_one.py").write_text(SCRIPT.format(code="print(2)"))
    before = (folder / "01_one.ipynb").read_bytes()
    with pytest.raises(SystemExit, match=r"differ: 1\); --execute"):
        build.main(["01_one"])
    assert (folder / "01_one.ipynb").read_bytes() == before


def test_one_way_at_a_time(folder):
    with pytest.raises(SystemExit, match="exclude each other"):
        build.main(["01_one"], execute=True, compare=True)


def notebook(*shown, tags=()):
    cell = nbformat.v4.new_code_cell("x", metadata={"tags": list(tags)}, id="x")
    cell.outputs = list(shown)
    return nbformat.v4.new_notebook(cells=[cell])


def text(words):
    return nbformat.v4.new_output("stream", name="stdout", text=words)


def picture(grey):
    place = io.BytesIO()
    Image.fromarray(np.full((20, 30), grey, "uint8")).save(place, "PNG")
    data = {"image/png": base64.b64encode(place.getvalue()).decode()}
    return nbformat.v4.new_output("display_data", data=data)


@pytest.mark.parametrize(
    ("before", "after", "differs"),
    [
        (text("ELBO -100.0, KL 20.00"), text("ELBO -100.4, KL  20.90"), False),
        (text("ELBO -100.0, KL 20.00"), text("ELBO -100.0, KL 27.00"), True),
        (text("gap 0.01 of 5"), text("gap -0.02 of 5"), False),
        (text("found"), text("lost"), True),
        (picture(100), picture(105), False),
        (picture(100), picture(180), True),
    ],
)
def test_outputs_are_compared_within_tolerance(before, after, differs):
    assert bool(outputs.differences(notebook(before), notebook(after))) == differs


def test_seconds_are_not_compared():
    before, after = (notebook(text(f"{n} seconds"), tags=["timing"]) for n in (3, 30))
    assert outputs.differences(before, after) == []
    assert outputs.differences(notebook(text("a")), notebook()) == ["x: 0 outputs for 1"]


@pytest.mark.parametrize(("channels", "mode"), [(slice(1, 2), "P"), (slice(0, 3), "L")])
def test_pictures_are_packed_and_keep_their_pixels(channels, mode):
    pixels = np.zeros((40, 50, 4), "uint8")
    pixels[..., channels], pixels[..., 3] = np.arange(50)[:, None], 255
    place = io.BytesIO()
    Image.fromarray(pixels).save(place, "PNG", compress_level=0)
    data = {"image/png": base64.b64encode(place.getvalue()).decode()}
    shown = nbformat.v4.new_output("display_data", data=data)
    made = notebook(shown)
    build.pack_pictures(made)
    packed = made.cells[0].outputs[0].data["image/png"]
    assert len(packed) < len(base64.b64encode(place.getvalue()))
    image = Image.open(io.BytesIO(base64.b64decode(packed)))
    assert image.mode == mode
    np.testing.assert_array_equal(np.asarray(image.convert("RGBA")), pixels)


def test_a_picture_of_many_colours_keeps_them():
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), "uint8")
    place = io.BytesIO()
    Image.fromarray(pixels).save(place, "PNG", compress_level=0)
    data = {"image/png": base64.b64encode(place.getvalue()).decode()}
    made = notebook(nbformat.v4.new_output("display_data", data=data))
    build.pack_pictures(made)
    packed = made.cells[0].outputs[0].data["image/png"]
    image = Image.open(io.BytesIO(base64.b64decode(packed)))
    np.testing.assert_array_equal(np.asarray(image.convert("RGB")), pixels)
