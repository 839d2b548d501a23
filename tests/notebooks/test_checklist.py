"""What every notebook of the course owes its reader, looked up in its file; nothing is run."""

import itertools
import re
import shutil
import subprocess
import sys

import nbformat
import pytest
from scripts import ROOT

NOTEBOOKS = ROOT / "notebooks"
sys.path.insert(0, str(NOTEBOOKS))
import build  # noqa: E402

CHECKED = build.scripts()
every_notebook = pytest.mark.parametrize("script", CHECKED, ids=[s.stem for s in CHECKED])
TAG = re.compile(r"\\tag\{(\d+\.\d+\w*)\}")
COMMENT = re.compile(r"#[^\n]*")
CHECK = re.compile(r"^\s*assert\b|np\.testing\.assert_|\btf\.debugging\.assert_", re.MULTILINE)
EXERCISE = re.compile(r"^### Exercise (\d+)", re.MULTILINE)
# A cell that does no more than this prepares a demonstration, and ends none.
PREPARES = re.compile(
    r"\s*(import|from|def|class|@|#|\"\"\"|[\w, .]+ = |keras\.utils\.set_random|tf\.get_logger)"
)
LARGEST = 600_000  # bytes


def committed(script):
    return nbformat.read(script.with_suffix(".ipynb"), as_version=4)


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def prepares(source):
    """Whether all that stands at the margin of a cell is an import, a definition or a name."""
    lines = [line for line in source.splitlines() if line and line[0] not in " )]}"]
    return all(PREPARES.match(line) for line in lines)


def test_the_list_is_not_empty():
    assert CHECKED


@every_notebook
def test_every_equation_has_a_cell_that_asserts_it(script):
    notebook = committed(script)
    prose = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    tags = TAG.findall(prose)
    assert len(tags) == len(set(tags)), "two equations have one number"
    assert all(int(tag.split(".")[0]) == int(script.stem[:2]) for tag in tags)
    asserted = "\n".join(
        comment
        for cell in code(notebook)
        if CHECK.search(cell.source)
        for comment in COMMENT.findall(cell.source)
    )
    assert [tag for tag in tags if f"({tag})" not in asserted] == []


@every_notebook
def test_a_demonstration_ends_with_something_to_see(script):
    cells = [*committed(script).cells, None]
    silent = [
        cell.source[:60]
        for cell, then in itertools.pairwise(cells)
        if cell.cell_type == "code"
        and (then is None or then.cell_type == "markdown")
        and not cell.outputs
        and not prepares(cell.source)
    ]
    assert silent == []


@every_notebook
def test_an_exercise_has_an_empty_cell_a_check_and_an_answer(script):
    cells = committed(script).cells
    starts = [(n, found) for n, cell in enumerate(cells) for found in EXERCISE.findall(cell.source)]
    assert [int(found) for _, found in starts] == list(range(1, len(starts) + 1))
    assert len(starts) >= 2
    for (start, found), (_end, _) in zip(starts, [*starts[1:], (len(cells), "")], strict=True):
        parts = []
        for cell in cells[start + 1 :]:
            parts.append(cell)
            if "<details>" in cell.source:
                break
        empty, *_, answer = parts
        assert "Your answer" in empty.source, f"exercise {found} has no cell to write into"
        assert "= None" in empty.source, f"the cell of exercise {found} is not empty"
        said = [
            out.get("text", "") for cell in parts if cell.get("outputs") for out in cell.outputs
        ]
        assert any("no answer yet" in text for text in said), f"exercise {found} has no check"
        solution = answer.source.split("<details>")[1].split("</details>")[0]
        words = re.sub(r"```.*?```", "", solution, flags=re.DOTALL).split()
        assert len(words) > 20, f"exercise {found} is not answered in words"
        assert "assert" in "".join(build.solutions(answer.source)), f"exercise {found}: no check"


@every_notebook
def test_figures_are_sharp_and_the_file_is_small(script):
    place = script.with_suffix(".ipynb")
    assert place.stat().st_size < LARGEST
    pictures = [
        output.metadata["image/png"]
        for cell in code(committed(script))
        for output in cell.outputs
        if "image/png" in output.get("data", {})
    ]
    # A picture with twice as many dots as its place on the page has: 144 an inch.
    assert pictures
    assert all("width" in picture for picture in pictures)


@every_notebook
def test_it_opens_with_a_badge_and_a_guarded_setup(script):
    notebook = committed(script)
    assert notebook.cells[0].source.startswith("[![Open in Colab](")
    setup = code(notebook)[0].source
    assert "find_spec" in setup
    assert "pip" in setup


def test_nothing_is_misspelt():
    if shutil.which("codespell") is None:
        pytest.fail("codespell is part of the extra dev")
    words = "Teh,Theis"  # names of authors
    found = subprocess.run(
        ["codespell", "-L", words, *map(str, CHECKED)], capture_output=True, text=True, check=False
    )
    assert found.stdout == ""


def test_every_diagram_is_drawn_by_the_script():
    sys.path.insert(0, str(NOTEBOOKS / "figures"))
    import draw

    names = {path.stem for path in (NOTEBOOKS / "figures").glob("*.svg")}
    assert names == set(draw.DIAGRAMS)
