"""Run the notebooks, and keep what they put out beside their sources.

    python notebooks/build.py [NAME ...] [--mnist FOLDER] [--fashion-mnist FOLDER]

makes NAME.ipynb of every script NAME.py: the script is the source, in the percent format, and the
notebook is the script with its outputs. Without folders the notebooks take the digits that come
with scikit-learn. A cell's metadata may hold `capped="epochs = 1"`: with --capped those lines are
added to the cell, so that the whole runs in seconds; nothing is kept then. Solutions of exercises
are folded away in the text, `<details> ... </details>`; their code runs too, after the text.
"""

import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import cyclopts
import jupytext
import nbformat
from cyclopts import Parameter
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode
from tqdm import tqdm
from traitlets.config import Config

FOLDER = Path(__file__).parent
SOLUTION = re.compile(r"<details>.*?```python\n(.*?)```.*?</details>", re.DOTALL)
SECONDS = 1800  # a cell that takes longer hangs


def scripts() -> list[Path]:
    """List the notebooks' scripts, in their order."""
    return sorted(FOLDER.glob("[0-9][0-9]_*.py"))


def solutions(markdown: str) -> list[str]:
    """Find the code of the solutions that are folded away in a text."""
    return SOLUTION.findall(markdown)


def read(script: Path, capped: bool = False) -> NotebookNode:
    """Read a script as a notebook that has not run.

    Args:
        script: a file in the percent format.
        capped: whether to add each cell's `capped` lines to it.

    Returns:
        The notebook. Its cells are numbered, so that equal scripts give equal notebooks.
    """
    notebook = jupytext.read(script)
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"
        if capped and "capped" in cell.metadata:
            cell.source += "\n" + cell.metadata["capped"]
    notebook.metadata = {
        "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
        "language_info": {"name": "python"},
    }
    return notebook


def run(notebook: NotebookNode, title: str) -> None:
    """Run a notebook's cells and its hidden solutions, and put the cells' outputs into it.

    Raises:
        CellExecutionError: a cell or a solution failed.
    """
    hidden = []
    cells = []
    for cell in notebook.cells:
        cells.append(cell)
        if cell.cell_type == "markdown":
            found = [nbformat.v4.new_code_cell(source) for source in solutions(cell.source)]
            hidden += [one.id for one in found]
            cells += found
    notebook.cells = cells
    config = Config()
    config.KernelManager.transport = "ipc"  # over TCP it would speak in the clear, and warn
    with (
        tempfile.TemporaryDirectory() as sockets,
        tqdm(total=len(cells), desc=title, unit="cell", disable=None) as bar,
    ):
        config.KernelManager.ip = str(Path(sockets) / "kernel")
        client = NotebookClient(
            notebook,
            config=config,
            timeout=SECONDS,
            kernel_name="python3",
            resources={"metadata": {"path": str(FOLDER)}},
            record_timing=False,
            # What TensorFlow writes below Python as it starts is no output of a cell.
            extra_arguments=["--IPKernelApp.capture_fd_output=False"],
        )
        client.on_cell_complete = lambda **_: bar.update()
        client.execute()
    notebook.cells = [cell for cell in cells if cell.id not in hidden]
    for count, cell in enumerate((c for c in notebook.cells if c.cell_type == "code"), start=1):
        cell.execution_count = count
        for output in cell.outputs:
            if "execution_count" in output:
                output.execution_count = count
    # What the kernel says of itself differs from one Python to the next.
    notebook.metadata["language_info"] = {"name": "python"}


def main(
    names: Annotated[list[str] | None, Parameter(help="Notebooks, by default all.")] = None,
    *,
    mnist: Annotated[str, Parameter(help="Folder of MNIST's IDX files.")] = "",
    fashion_mnist: Annotated[str, Parameter(help="Folder of Fashion-MNIST's IDX files.")] = "",
    capped: Annotated[bool, Parameter(help="Short loops; keep no outputs.")] = False,
) -> None:
    """Run notebooks and write their outputs beside the scripts."""
    known = {script.stem: script for script in scripts()}
    unknown = [name for name in names or () if Path(name).stem not in known]
    if unknown:
        sys.exit(f"error: no notebook {unknown[0]!r}; there are {', '.join(known)}")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    for variable, folder in (("TFVAE_MNIST", mnist), ("TFVAE_FASHION_MNIST", fashion_mnist)):
        if folder:
            if not Path(folder).is_dir():
                sys.exit(f"error: {folder} is no folder; it should hold the four IDX files")
            os.environ[variable] = str(Path(folder).resolve())
    for stem in dict.fromkeys(Path(name).stem for name in names or known):
        notebook = read(known[stem], capped)
        try:
            run(notebook, stem)
        except CellExecutionError as error:
            sys.exit(f"error: {stem} failed, nothing was kept:\n{error}")
        if not capped:
            place = known[stem].with_suffix(".ipynb")
            partial = place.with_suffix(".ipynb.partial")
            nbformat.write(notebook, partial)
            partial.replace(place)


if __name__ == "__main__":
    cyclopts.run(main)
