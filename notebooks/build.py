"""Make the notebooks of their scripts.

    python notebooks/build.py [NAME ...]
    python notebooks/build.py [NAME ...] --execute [--mnist FOLDER] [--fashion-mnist FOLDER]
    python notebooks/build.py [NAME ...] --compare

NAME.py is the source, in the percent format, and NAME.ipynb is the script with its outputs, below a
badge that opens it on Colab and a cell that installs the library where it is missing and sets how
figures look. The first line writes text anew and keeps all outputs; where code has changed it
refuses, since outputs would no longer be those of the code. The second runs the notebooks and keeps
what they put out. The third runs them and keeps nothing: it lists what came out otherwise than it
is committed, by more than `outputs.py` tolerates.

Without folders the notebooks take images that come with the library or with scikit-learn. A cell's
metadata may hold `capped="epochs = 1"`: with --capped those lines are added to the cell, so that
the whole runs in seconds; nothing is kept then. Solutions of exercises are folded away in the text,
`<details> ... </details>`; their code runs too, after the text.
"""

import base64
import io
import os
import re
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Annotated

import cyclopts
import jupytext
import nbformat
import outputs
from cyclopts import Parameter
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode
from PIL import Image, ImageChops, ImageStat
from tqdm import tqdm
from traitlets.config import Config

FOLDER = Path(__file__).parent
SOLUTION = re.compile(r"<details>.*?```python\n(.*?)```.*?</details>", re.DOTALL)
SECONDS = 1800  # a cell that takes longer hangs
MOST_LOST = 0.25  # of 256 levels, on average: what a palette may change in a picture
# What a notebook needs besides the library, as an extra of it, and a module that it brings.
EXTRAS = {"08_serving": ("onnx", "onnxruntime"), "14_weigh_your_elbo": ("compress", "constriction")}
BADGE = "https://colab.research.google.com/assets/colab-badge.svg"
SETUP = """\
# Installs the library where it is missing, as on Colab, and sets how figures look.
import importlib.util
import subprocess
import sys

import matplotlib.pyplot as plt
from matplotlib_inline.backend_inline import set_matplotlib_formats

if importlib.util.find_spec("{module}") is None:
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "{package}"], check=True)
plt.close(plt.figure())  # Jupyter learns to show figures, those of the library too, with the first
set_matplotlib_formats("retina")  # 144 dots an inch
plt.rcParams.update({{"figure.dpi": 72, "font.size": 10, "axes.grid": True, "grid.alpha": 0.3}})
plt.rcParams.update({{"axes.spines.top": False, "axes.spines.right": False}})
plt.rcParams.update({{"image.cmap": "gray", "legend.frameon": False}})"""


def scripts() -> list[Path]:
    """List the notebooks' scripts, in their order."""
    return sorted(FOLDER.glob("[0-9][0-9]_*.py"))


def solutions(markdown: str) -> list[str]:
    """Find the code of the solutions that are folded away in a text."""
    return SOLUTION.findall(markdown)


def head(stem: str) -> tuple[NotebookNode, NotebookNode]:
    """Make the cells that every notebook starts with: the badge, and what sets it up.

    The badge leads to the notebook where pyproject.toml names a repository on GitHub, which is
    where Colab can read it from, and to Colab's own page else.
    """
    with (FOLDER.parent / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)["project"]
    repository = project["urls"].get("Repository", "").rstrip("/").removesuffix(".git")
    colab = "https://colab.research.google.com/"
    note = ""
    if repository.startswith("https://github.com/"):
        path = repository.removeprefix("https://github.com/")
        colab += f"github/{path}/blob/main/notebooks/{stem}.ipynb"
    else:
        note = f" (there: *Upload*, and this file, `{stem}.ipynb`)"
    extra, module = EXTRAS.get(stem, ("", project["name"]))
    package = f"{project['name']}[{extra}]" if extra else project["name"]
    badge = nbformat.v4.new_markdown_cell(f"[![Open in Colab]({BADGE})]({colab}){note}", id="badge")
    setup = nbformat.v4.new_code_cell(SETUP.format(module=module, package=package), id="setup")
    return badge, setup


def read(script: Path, capped: bool = False) -> NotebookNode:
    """Read a script as a notebook that has not run, below its head.

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
    badge, setup = head(script.stem)
    first = next(n for n, cell in enumerate(notebook.cells) if cell.cell_type == "code")
    notebook.cells.insert(first, setup)
    notebook.cells.insert(0, badge)
    notebook.metadata = {
        "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
        "language_info": {"name": "python"},
    }
    return notebook


@contextmanager
def kernel() -> Iterator[NotebookClient]:
    """Give what runs notebooks in one process, which starts with the first."""
    config = Config()
    config.KernelManager.transport = "ipc"  # over TCP it would speak in the clear, and warn
    with tempfile.TemporaryDirectory() as sockets:
        config.KernelManager.ip = str(Path(sockets) / "kernel")
        client = NotebookClient(
            nbformat.v4.new_notebook(),
            config=config,
            timeout=SECONDS,
            kernel_name="python3",
            resources={"metadata": {"path": str(FOLDER)}},
            record_timing=False,
            # What TensorFlow writes below Python as it starts is no output of a cell.
            extra_arguments=["--IPKernelApp.capture_fd_output=False"],
        )
        try:
            yield client
        finally:
            if client.km is not None:
                client._cleanup_kernel()


def run(notebook: NotebookNode, title: str, client: NotebookClient | None = None) -> None:
    """Run a notebook's cells and its hidden solutions, and put the cells' outputs into it.

    Args:
        notebook: gets the outputs.
        title: stands beside the bar of progress.
        client: what runs it, one of `kernel`; by default of a process of its own.

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
    with (
        kernel() if client is None else nullcontext(client) as running,
        tqdm(total=len(cells), desc=title, unit="cell", disable=None) as bar,
    ):
        running.nb = notebook
        running.on_cell_complete = lambda **_: bar.update()
        running.execute(cleanup_kc=False)
    notebook.cells = [cell for cell in cells if cell.id not in hidden]
    number(notebook)
    # What the kernel says of itself differs from one Python to the next.
    notebook.metadata["language_info"] = {"name": "python"}


def number(notebook: NotebookNode) -> None:
    """Number the code cells in their order."""
    for count, cell in enumerate((c for c in notebook.cells if c.cell_type == "code"), start=1):
        cell.execution_count = count
        for output in cell.outputs:
            if "execution_count" in output:
                output.execution_count = count


def is_grey(image: Image.Image) -> bool:
    """Whether red, green and blue are the same everywhere."""
    red, *others = image.split()
    return all(ImageChops.difference(red, other).getbbox() is None for other in others)


def with_palette(image: Image.Image) -> Image.Image:
    """Reduce a picture in RGB to a palette of 256 colours, unless that changes it visibly."""
    plain = {"method": Image.Quantize.MEDIANCUT, "dither": Image.Dither.NONE}
    packed = image.quantize(256, **plain)
    lost = ImageStat.Stat(ImageChops.difference(image, packed.convert("RGB"))).mean
    return packed if max(lost) < MOST_LOST else image


def pack_pictures(notebook: NotebookNode) -> None:
    """Pack the pictures of a notebook closer.

    Grey ones keep their pixels. Others get a palette of 256 colours, which is all that most have;
    where smooth edges have more, the nearest ones stand for them, and nobody sees it. Photographs
    and colour images, where one would see it, keep all their colours.
    """
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            picture = output.get("data", {}).get("image/png")
            if picture is None:
                continue
            image = Image.open(io.BytesIO(base64.b64decode(picture)))
            if image.mode == "RGBA" and image.getextrema()[3] == (255, 255):
                image = image.convert("RGB")  # nothing shines through
            if image.mode == "RGB":
                image = image.convert("L") if is_grey(image) else with_palette(image)
            place = io.BytesIO()
            image.save(place, "PNG", optimize=True)
            packed = base64.b64encode(place.getvalue()).decode()
            if len(packed) < len(picture):
                output["data"]["image/png"] = packed


def keep_outputs(notebook: NotebookNode, place: Path) -> int:
    """Take the outputs of a notebook that has run over to one with the same code.

    Args:
        notebook: one that has not run; gets the outputs.
        place: the file of the one that has.

    Returns:
        How many code cells, the setup aside, are not as they were. Then no output is taken over.
    """
    cells = [c for c in notebook.cells if c.cell_type == "code" and c.id != "setup"]
    if not place.exists():
        return len(cells)
    before = nbformat.read(place, as_version=4).cells
    ran = [c for c in before if c.cell_type == "code" and c.id != "setup"]
    changed = abs(len(cells) - len(ran))
    changed += sum(a.source != b.source for a, b in zip(cells, ran, strict=False))
    if not changed:
        for cell, old in zip(cells, ran, strict=True):
            cell.outputs = old.outputs
        number(notebook)
    return changed


def write(notebook: NotebookNode, place: Path) -> None:
    """Write a notebook, whole or not at all."""
    partial = place.with_suffix(".ipynb.partial")
    nbformat.write(notebook, partial)
    partial.replace(place)


def main(
    names: Annotated[list[str] | None, Parameter(help="Notebooks, by default all.")] = None,
    *,
    mnist: Annotated[str, Parameter(help="Folder of MNIST's IDX files.")] = "",
    fashion_mnist: Annotated[str, Parameter(help="Folder of Fashion-MNIST's IDX files.")] = "",
    execute: Annotated[bool, Parameter(help="Run, and keep the outputs.")] = False,
    compare: Annotated[bool, Parameter(help="Run, and compare with the outputs kept.")] = False,
    capped: Annotated[bool, Parameter(help="Run with short loops; keep no outputs.")] = False,
) -> None:
    """Make notebooks of their scripts; run them where that is asked for."""
    if execute + compare + capped > 1:
        sys.exit("error: --execute, --compare and --capped exclude each other")
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
        notebook, place = read(known[stem], capped), known[stem].with_suffix(".ipynb")
        if not (execute or compare or capped):
            if changed := keep_outputs(notebook, place):
                sys.exit(
                    f"error: the code of {stem} is not that of the outputs in {place.name} (cells "
                    f"that differ: {changed}); --execute runs it and replaces them"
                )
            write(notebook, place)
            continue
        start = time.monotonic()
        try:
            run(notebook, stem)
        except CellExecutionError as error:
            sys.exit(f"error: {stem} failed, nothing was kept:\n{error}")
        print(f"{stem}: {time.monotonic() - start:.0f} seconds")
        if execute:
            pack_pictures(notebook)
            write(notebook, place)
        elif compare:
            found = outputs.differences(nbformat.read(place, as_version=4), notebook)
            print("\n".join(found) or "as committed")


if __name__ == "__main__":
    cyclopts.run(main)
