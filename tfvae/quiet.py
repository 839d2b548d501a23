"""Loading TensorFlow without what it says of itself, and with all that goes wrong.

TensorFlow's first messages come before it reads any log level, straight to the file descriptor of
standard error. While it loads they are caught there, those that are known to say nothing are
dropped, and the rest is written where it was meant to go.
"""

import contextlib
import importlib
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

_LEVEL = "TF_CPP_MIN_LOG_LEVEL"
_UNUSED_BY_COMMANDS = ("sklearn", "matplotlib", "pandas")
# Notes, the line that announces them, and the end of one that has two lines.
_NOTES = re.compile(
    r"WARNING: All log messages before absl::InitializeLog|I\d{4} |\d{4}-\d\d-\d\d [\d:.]+: I |"
    r"To enable the following instructions: "
)
# That there is no GPU, where there is none.
_NO_GPU = re.compile(r"[EW]\d{4} .*(failed call to cuInit|Cannot dlopen some GPU libraries)")


def load_tensorflow(start_devices: bool = False) -> None:
    """Load TensorFlow, if it has not been, without its notes, unless the user has set a log level.

    The level is set to warnings left out and errors shown, for what comes later.

    Args:
        start_devices: whether to start the devices here as well, which have notes of their own.
            Afterwards they can no longer be configured.
    """
    if _LEVEL in os.environ or ("tensorflow" in sys.modules and not start_devices):
        return
    os.environ[_LEVEL] = "2"
    with _without_notes():
        import tensorflow as tf

        # Where there is a GPU, the user may still want to say which of them to see.
        if start_devices or not _has_gpu():
            tf.config.list_physical_devices()
        if start_devices:
            tf.zeros(())  # the devices start with the first operation


def load_for_command(start_devices: bool = True) -> None:
    """Load TensorFlow and Keras for a command, without packages that no command has a use of.

    Keras looks for scikit-learn, Matplotlib and pandas as it is loaded, to wrap models for the
    first, to draw with the second and to take the third's frames in `fit`. Where they are installed
    that is seconds. Afterwards they can be loaded as always, but Keras does without.

    Args:
        start_devices: see `load_tensorflow`.
    """
    hidden = []
    if "keras" not in sys.modules:
        hidden = [name for name in _UNUSED_BY_COMMANDS if name not in sys.modules]
    # An entry of None makes `import` raise ImportError, as if there were no such package.
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    try:
        load_tensorflow(start_devices)
        importlib.import_module("keras")
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
