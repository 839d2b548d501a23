"""Files: where trained models lie, and writing that leaves the old file or the whole new one.

What is written is written beside its place first, and then renamed.
"""

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tfvae.errors import InputError


def find_model(path: Path) -> Path:
    """Return the `.keras` file or the SavedModel that a user means.

    Args:
        path: a run directory or another that holds model.keras; a `.keras` file; a SavedModel; or a
            directory of its versions, of which the newest is meant.

    Raises:
        InputError: if there is none.
    """
    expected = "expected a run directory of tfvae train, a model.keras file or a SavedModel"
    if not path.exists():
        raise InputError(f"{expected}; there is nothing at {path}")
    if path.is_file():
        if path.suffix != ".keras":
            raise InputError(f"{expected}; received {path}")
        return path
    for found in (path / "model.keras", path / "saved_model.pb"):
        if found.is_file():
            return path if found.suffix == ".pb" else found
    versions = version_directories(path)
    if not versions:
        raise InputError(f"{expected}; {path} is a directory that holds none")
    return versions[-1]


def version_directories(path: Path) -> list[Path]:
    """Return the SavedModels in a directory whose names are whole numbers, in their order."""
    found = [one for one in path.glob("*/saved_model.pb") if one.parent.name.isdecimal()]
    return sorted((one.parent for one in found), key=lambda one: int(one.name))


def refuse_existing(path: Path, advice: str) -> None:
    """Raise `InputError` if something is at `path`, a dangling link included."""
    if path.exists() or path.is_symlink():
        raise InputError(f"expected a path where nothing is yet; {path} exists: {advice}")


@contextlib.contextmanager
def new_directory(path: str | Path, *, replace: bool = False) -> Iterator[Path]:
    """Make a directory to fill; it takes its name when the block ends without an error.

    Args:
        path: the name; parents are made.
        replace: whether a directory of that name may be there, which is then removed.

    Raises:
        InputError: if something is at `path` that may not be.
    """
    path = Path(path)
    if not replace:
        refuse_existing(path, "choose another name or remove it first")
    _make_parents(path)
    partial = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    try:
        yield partial
        # A private directory by default; what is published has the rights any new one would.
        partial.chmod(0o777 & ~_umask())
        if replace and path.exists():
            # Two directories cannot change places at once: for a moment there is none.
            old = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
            path.rename(old / path.name)
            partial.rename(path)
            shutil.rmtree(old, ignore_errors=True)
        else:
            partial.rename(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextlib.contextmanager
def new_file(path: str | Path) -> Iterator[Path]:
    """Make a path to write; the file takes its name when the block ends without an error.

    What was at `path` stays until then, and is replaced whole.

    Args:
        path: the name; parents are made. The path given has the same suffix.
    """
    path = Path(path)
    _make_parents(path)
    handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    partial = Path(name)
    try:
        yield partial
        partial.chmod(0o666 & ~_umask())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _make_parents(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path)) from None


def _umask() -> int:
    # Reading it means setting it.
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
