"""Loading TensorFlow without what it says of itself, and with all that goes wrong.

TensorFlow's first messages come before it reads any log level, straight to the file descriptor of
standard error. While it loads they are caught there, those that are known to say nothing are
dropped, and the rest is written where it was meant to go.
"""

import contextlib
import importlib
import importlib.abc
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

_LEVEL = "TF_CPP_MIN_LOG_LEVEL"
_LEVEL_HERE = "2"
_UNUSED_BY_COMMANDS = ("sklearn", "matplotlib", "pandas")
# Notes, the line that announces them, and the end of one that has two lines.
_NOTES = re.compile(
    r"WARNING: All log messages before absl::InitializeLog|I\d{4} |\d{4}-\d\d-\d\d [\d:.]+: I |"
    r"To enable the following instructions: "
)
# That there is no GPU, where there is none.
_NO_GPU = re.compile(r"[EW]\d{4} .*(failed call to cuInit|Cannot dlopen some GPU libraries)")


class _Quietly(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds TensorFlow where it is, and loads it without its notes.

    Whoever imports it first, a module here, Keras or the user, does so through this.
    """

    def __init__(self) -> None:
        self._loader: importlib.abc.Loader

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """Find TensorFlow, and nothing else."""
        if name != "tensorflow" or _LEVEL in os.environ:
            return None
        spec = PathFinder.find_spec(name)
        if spec is not None and spec.loader is not None:
            self._loader, spec.loader = spec.loader, self
        return spec

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Make the module as its own loader does."""
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Run the module by its own loader, which stands in it afterwards."""
        assert module.__spec__ is not None
        module.__spec__.loader = module.__loader__ = self._loader
        # Errors are shown, whatever comes later, and warnings are not.
        os.environ[_LEVEL] = _LEVEL_HERE
        with _without_notes():
            self._loader.exec_module(module)
            # Where there is a GPU, the user may still want to say which of them to see.
            if not _has_gpu():
                module.config.list_physical_devices()


def keep_quiet() -> None:
    """Have TensorFlow loaded without its notes, unless the user has set a log level."""
    sys.meta_path.insert(0, _Quietly())


def start_devices() -> None:
    """Load TensorFlow and start its devices, whose notes come as they start.

    Afterwards they can no longer be configured.
    """
    import tensorflow as tf

    with _without_notes() if os.environ.get(_LEVEL) == _LEVEL_HERE else contextlib.nullcontext():
        tf.config.list_physical_devices()
        tf.zeros(())  # the devices start with the first operation


def load_for_command(devices: bool = True) -> None:
    """Load TensorFlow and Keras for a command, without packages that no command has a use of.

    Keras looks for scikit-learn, Matplotlib and pandas as it is loaded, to wrap models for the
    first, to draw with the second and to take the third's frames in `fit`. Where they are installed
    that is seconds. Afterwards they can be loaded as always, but Keras does without.

    Args:
        devices: whether to start the devices, see `start_devices`.
    """
    hidden = []
    if "keras" not in sys.modules:
        hidden = [name for name in _UNUSED_BY_COMMANDS if name not in sys.modules]
    # An entry of None makes `import` raise ImportError, as if there were no such package.
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    try:
        importlib.import_module("keras")
        if devices:
            start_devices()
    finally:
        for name in hidden:
            sys.modules.pop(name, None)


@contextlib.contextmanager
def _without_notes() -> Iterator[None]:
    """Drop notes from what is written to the file descriptor of standard error."""
    try:
        stderr = os.dup(2)
    except OSError:  # closed: there is nothing to keep clean
        yield
        return
    with tempfile.TemporaryFile() as caught:
        os.dup2(caught.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
            caught.seek(0)
            for line in caught.read().decode(errors="replace").splitlines(keepends=True):
                if not is_note(line):
                    sys.stderr.write(line)


def is_note(line: str) -> bool:
    """Whether a line that TensorFlow writes as it loads says nothing that anybody has to know."""
    return bool(_NOTES.match(line) or (_NO_GPU.match(line) and not _has_gpu()))


def _has_gpu() -> bool:
    return any(Path(path).exists() for path in ("/proc/driver/nvidia", "/dev/nvidia0", "/dev/dxg"))
