"""The notebooks run, show what they say, and use nothing but what users have."""

import ast
import os
import re
import sys

import nbformat
import pytest
from scripts import ROOT

import tfvae

NOTEBOOKS = ROOT / "notebooks"
sys.path.insert(0, str(NOTEBOOKS))
import build  # noqa: E402
import outputs  # noqa: E402

SCRIPTS = build.scripts()
every_notebook = pytest.mark.parametrize("script", SCRIPTS, ids=[s.stem for s in SCRIPTS])
# A rerun of all takes half an hour: TFVAE_NOTEBOOKS=all asks for it. This one is quick.
RERUN = [s for s in SCRIPTS if s.stem == "10_series" or os.environ.get("TFVAE_NOTEBOOKS") == "all"]
LINK = re.compile(r"\]\(([^)\s]+)\)")
# Mathematics, code, links and numbers of equations are no findings.
NO_PROSE = re.compile(
    r"```.*?```|\$\$.*?\$\$|\$[^$]*\$|`[^`]*`|\]\([^)]*\)|\(\d+\.\d+\)", re.DOTALL
)
DECIMAL = re.compile(r"(?<![\w.])\d+\.\d+(?![\w.]*\d)")


def texts(notebook):
    return [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]


def code(notebook):
    cells = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    return cells + [one for text in texts(notebook) for one in build.solutions(text)]


def body(notebook):
    """The cells of its script, without the badge and the setup that `build.py` puts on top."""
    return [
        (cell.cell_type, cell.source)
        for cell in notebook.cells
        if cell.id not in ("badge", "setup")
    ]


def committed(script):
    return nbformat.read(script.with_suffix(".ipynb"), as_version=4)


# Those that run whole below need no short run, and a model of a few steps shows nothing there.
SHORT = [s for s in SCRIPTS if s not in RERUN]


@pytest.fixture(scope="module")
def kernel():
    """One process for all of them: loading TensorFlow takes longer than some run."""
    with build.kernel() as client:
        yield client


# Nothing of the notebook before is left but what it has loaded.
AFRESH = """
%reset -f
import gc, sys
import matplotlib.pyplot as plt
plt.close("all")
if "keras" in sys.modules:
    sys.modules["keras"].config.set_dtype_policy("float32")
    sys.modules["keras"].utils.clear_session()
del plt
gc.collect()
"""


def run(notebook, script, kernel, monkeypatch):
    for variable in ("TFVAE_MNIST", "TFVAE_FASHION_MNIST"):
        monkeypatch.delenv(variable, raising=False)
    build.run(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(AFRESH)]), "", kernel)
    build.run(notebook, script.stem, kernel)


@pytest.mark.exhaustive
@pytest.mark.parametrize("script", SHORT, ids=[s.stem for s in SHORT])
def test_it_runs_with_short_loops(script, kernel, monkeypatch):
    notebook = build.read(script, capped=True)
    run(notebook, script, kernel, monkeypatch)
    assert all(cell.execution_count for cell in notebook.cells if cell.cell_type == "code")


@pytest.mark.exhaustive
@pytest.mark.parametrize("script", RERUN, ids=[s.stem for s in RERUN])
def test_a_rerun_puts_out_what_is_committed(script, kernel, monkeypatch):
    notebook = build.read(script)
    run(notebook, script, kernel, monkeypatch)
    assert outputs.differences(committed(script), notebook) == []


def test_a_wrong_solution_fails(tmp_path):
    script = tmp_path / "01_wrong.py"
    script.write_text(
        "# %%\none = 1\n\n# %% [markdown]\n# <details><summary>Solution</summary>\n#\n"
        "# ```python\n# assert one == 2, 'not two'\n# ```\n# </details>\n"
    )
    with pytest.raises(build.CellExecutionError, match="not two"):
        build.run(build.read(script), "wrong")


@every_notebook
def test_the_committed_outputs_are_the_scripts(script):
    notebook, source = committed(script), build.read(script)
    assert body(notebook) == body(source)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    outputs = [output for cell in cells for output in cell.outputs]
    assert all(cell.execution_count for cell in cells)
    assert {output.output_type for output in outputs} <= {
        "display_data",
        "execute_result",
        "stream",
    }
    assert not [output.text for output in outputs if output.get("name") == "stderr"]
    assert any("image/png" in output.get("data", {}) for output in outputs)


@every_notebook
def test_figures_quoted_in_the_text_are_computed_there(script):
    notebook = committed(script)
    shown = " ".join(
        output.get("text", "") + output.get("data", {}).get("text/plain", "")
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
    )
    prose = " ".join(NO_PROSE.sub(" ", text.split("## References")[0]) for text in texts(notebook))
    assert [figure for figure in DECIMAL.findall(prose) if figure not in shown] == []


@every_notebook
def test_it_has_goals_exercises_with_checked_solutions_and_references(script):
    notebook = build.read(script)
    prose = "\n".join(texts(notebook))
    for heading in ("## Learning goals", "## Exercises", "## References"):
        assert heading in prose
    solved = [one for text in texts(notebook) for one in build.solutions(text)]
    assert len(solved) >= 2
    assert all("assert" in one for one in solved)
    assert prose.count("<details>") == len(solved)


@every_notebook
def test_it_uses_the_public_interface_only(script):
    for source in code(build.read(script)):
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.ImportFrom):
                assert not (node.module or "").startswith("tfvae"), ast.unparse(node)
            elif isinstance(node, ast.Import):
                assert all(
                    name.name == "tfvae" for name in node.names if name.name.startswith("tfvae")
                ), ast.unparse(node)
            elif isinstance(node, ast.Attribute):
                assert not re.match("_[^_]", node.attr), ast.unparse(node)
                if isinstance(node.value, ast.Name) and node.value.id == "tfvae":
                    assert node.attr in [*tfvae.__all__, "__version__"], ast.unparse(node)


@every_notebook
def test_its_links_into_the_repository_lead_somewhere(script):
    links = [link for text in texts(build.read(script)) for link in LINK.findall(text)]
    for link in links:
        if not link.startswith(("https://", "#")):
            assert (NOTEBOOKS / link.partition("#")[0]).exists(), link


def test_a_line_of_their_page_leads_to_each():
    lines = (NOTEBOOKS.parent / "docs" / "notebooks.md").read_text().splitlines()
    for script in SCRIPTS:
        assert [line for line in lines if f"](../notebooks/{script.stem}.ipynb)" in line], (
            script.stem
        )
