"""Where the repository lies, and its scripts, which are no part of a package, as modules."""

import importlib.util
import sys
from pathlib import Path

# Where the README and the folders beside the package lie.
ROOT = Path(__file__).parents[2]


def loaded(path):
    """Give a new module of a script."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def benchmark(name):
    """Return a new module of a benchmark."""
    if str(ROOT / "benchmarks") not in sys.path:
        # As when they run as scripts: they share modules.
        sys.path.insert(0, str(ROOT / "benchmarks"))
    return loaded(ROOT / "benchmarks" / f"{name}.py")
