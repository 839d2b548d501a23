"""Files: where trained models lie, and writing that leaves the old file or the whole new one.

What is written is written beside its place first, forced to the disk, and then renamed. What a
process left that was killed while it wrote is removed by the next that writes there.
"""

import contextlib
import errno
import glob
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tfvae.errors import InputError
from tfvae.saving import hub
from tfvae.saving.locks import try_lock

# What the system says when there is no room, or no right, to write.
_REASONS = tuple(
    os.strerror(code)
    for name in ("ENOSPC", "EDQUOT", "EROFS", "EFBIG", "EACCES", "EPERM", "ENOENT", "EIO", "EMFILE")
    if (code := getattr(errno, name, None)) is not None
)
# Younger leftovers may be of a writer who has not yet locked them.
_LEFTOVER_SECONDS = 60.0
# Of what `tempfile` puts into a name.
_RANDOM = "?" * 8


def find_model(path: str | Path) -> Path:
    """Return the `.keras` file or the SavedModel that a user means.

    Args:
        path: a run directory or another that holds model.keras; a `.keras` file; a SavedModel; a
            directory of its versions, of which the newest is meant; or ``hf://OWNER/NAME`` of a
            model hub, which is fetched.

    Raises:
        InputError: if there is none.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise InputError(f"expected a path; received {path!r}")
    if hub.is_address(path):
        path = hub.download(str(path))
    path = Path(path)
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
    remove_leftovers(path.parent, f".{path.name}-", "")
    with _named(path):
        partial = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
        with kept_open(partial):
            try:
                yield partial
                # A private directory by default; what is published has the rights of any new one.
                partial.chmod(0o777 & ~_umask())
                _force_tree(partial)
                _take_name(partial, path, replace)
                force_to_disk(path.parent)
            finally:
                shutil.rmtree(partial, ignore_errors=True)


def _take_name(partial: Path, path: Path, replace: bool) -> None:
    """Rename a directory, over one of that name where it may be there."""
    if not replace or not (path.exists() or path.is_symlink()):
        if path.exists():
            # An empty directory would be replaced without a word.
            refuse_existing(path, "choose another name or remove it first")
        partial.rename(path)
        return
    # Two directories cannot change places at once: for a moment there is none.
    old = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    path.rename(old / path.name)
    partial.rename(path)
    if (old / path.name).is_symlink():
        (old / path.name).unlink()  # and what it points to stays
    shutil.rmtree(old, ignore_errors=True)


@contextlib.contextmanager
def new_file(path: str | Path, *, sync: bool = True) -> Iterator[Path]:
    """Make a path to write; the file takes its name when the block ends without an error.

    What was at `path` stays until then, and is replaced whole.

    Args:
        path: the name; parents are made. The path given has the same suffix.
        sync: whether a power cut may leave no half of it; else it is known to whoever reads.
    """
    path = Path(path)
    _make_parents(path)
    remove_leftovers(path.parent, f".{path.stem}-", path.suffix)
    with _named(path):
        handle, name = tempfile.mkstemp(
            prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent
        )
        os.close(handle)
        partial = Path(name)
        try:
            with kept_open(partial):
                yield partial
            partial.chmod(0o666 & ~_umask())
            if sync:
                force_to_disk(partial)
            partial.replace(path)
            if sync:
                force_to_disk(path.parent)
        finally:
            partial.unlink(missing_ok=True)


def force_to_disk(path: Path) -> None:
    """Wait until a file's content, or a directory's names, would outlast a power cut."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except PermissionError:  # a directory on Windows
        return
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EROFS):  # of file systems that have none
            raise
    finally:
        os.close(handle)


def refuse_links(folder: Path, names: tuple[str, ...]) -> None:
    """Refuse symbolic links among what is about to be written into.

    A directory of somebody else's may hold one at a name that is written to, and what it points to
    would be overwritten.

    Args:
        folder: itself a link or not.
        names: of files and directories in it, which are looked through.

    Raises:
        InputError: if one of them is a link, or holds one.
    """
    for name in names:
        place = folder / name
        inside = [
            Path(at) / one for at, folders, files in os.walk(place) for one in (*folders, *files)
        ]
        for one in (place, *inside):
            if one.is_symlink():
                raise InputError(
                    f"{one} is a symbolic link, which is not followed to write: put what it points "
                    "to in its place, or remove it"
                )


def unwritable(error: Exception) -> str | None:
    """Return why the system refused to write, None where an error says something else.

    Args:
        error: of Python, or of TensorFlow, which writes SavedModels and TensorBoard's files itself
            and tells the system's reason at the end of its message.
    """
    if isinstance(error, OSError):
        return error.strerror or str(error)
    text = str(getattr(error, "message", ""))
    return next((reason for reason in _REASONS if reason in text), None)


def _force_tree(folder: Path) -> None:
    for at, _, files in os.walk(folder, topdown=False):
        for name in files:
            force_to_disk(Path(at) / name)
        force_to_disk(Path(at))


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """Let errors of the system that name no file name this one."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            error.filename = str(path)
        raise


@contextlib.contextmanager
def kept_open(partial: Path) -> Iterator[None]:
    """Hold what is being written, so that `remove_leftovers` knows that somebody is at it."""
    try:
        handle = os.open(partial, os.O_RDONLY)
    except PermissionError:  # a directory on Windows
        yield
        return
    try:
        try_lock(handle)
        yield
    finally:
        os.close(handle)


def remove_leftovers(folder: Path, prefix: str, suffix: str) -> None:
    """Remove what killed processes left in a folder.

    Args:
        folder: where to look.
        prefix: how its name begins, as `tempfile` was told; what somebody `kept_open` stays.
        suffix: how it ends.
    """
    for path in folder.glob(f"{glob.escape(prefix)}{_RANDOM}{glob.escape(suffix)}"):
        with contextlib.suppress(OSError):
            if path.is_symlink() or time.time() - path.stat().st_mtime < _LEFTOVER_SECONDS:
                continue
            handle = os.open(path, os.O_RDONLY)
            try:
                if not try_lock(handle):
                    continue
                if path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink()
            finally:
                os.close(handle)


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
