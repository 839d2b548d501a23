"""What loads on first use: TensorFlow Probability, and the modules of packages."""

import importlib
import pkgutil
import sys
from collections.abc import Callable
from typing import Any

import wrapt

# Importing it takes seconds, and a program may load a model's class without making a distribution.
tfd: Any = wrapt.lazy_import("tensorflow_probability", "distributions")
tfb: Any = wrapt.lazy_import("tensorflow_probability", "bijectors")


def submodules(package: str) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Make ``__getattr__`` and ``__dir__`` of a package whose modules load on first use.

    Args:
        package: the package's own ``__name__``.
    """
    module = sys.modules[package]
    names = frozenset(found.name for found in pkgutil.iter_modules(module.__path__))

    def get(name: str) -> Any:
        if name in names:
            return importlib.import_module(f"{package}.{name}")
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return get, lambda: sorted({*vars(module), *names})
