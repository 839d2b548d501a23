"""Who writes into a directory: one process at a time.

The system lets go of a lock when the process ends that holds it, in whatever way.
"""

import contextlib
import datetime
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

from tfvae.errors import InputError

LOCK_FILE = ".lock"
# Windows has no such flag.
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)
# What threads of this process hold, by directory.
_HELD: dict[Path, int] = {}


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold a directory while the block runs, by a file in it that names this process.

    A thread that holds it already goes on.

    Args:
        directory: made if there is none.

    Raises:
        InputError: if another process or thread holds it.
    """
    directory.mkdir(parents=True, exist_ok=True)
    place, me = directory.resolve(), threading.get_ident()
    if _HELD.get(place) == me:
        yield
        return
    file = directory / LOCK_FILE
    try:
        handle = _opened_and_locked(file)
    except PermissionError:
        # Nothing can be written here, and so nothing be damaged.
        yield
        return
    try:
        now = datetime.datetime.now().isoformat(" ", "seconds")
        os.ftruncate(handle, 0)
        os.write(handle, f"process {os.getpid()} on {socket.gethostname()} since {now}\n".encode())
        _HELD[place] = me
        try:
            yield
        finally:
            del _HELD[place]
            file.unlink(missing_ok=True)
    finally:
        os.close(handle)


@contextlib.contextmanager
def one_after_another(directory: Path) -> Iterator[None]:
    """Wait for others at a directory, and keep them waiting while the block runs.

    Nothing is written into it, as a server may watch it.

    Args:
        directory: made if there is none.
    """
    directory.mkdir(parents=True, exist_ok=True)
    try:
        handle = os.open(directory, os.O_RDONLY)
    except PermissionError:  # a directory on Windows
        yield
        return
    try:
        try_lock(handle, wait=True)
        yield
    finally:
        os.close(handle)


def _opened_and_locked(file: Path) -> int:
    """Return the descriptor of a lock file, made if there is none, and locked.

    Raises:
        InputError: if another holds it.
    """
    while True:
        handle = os.open(file, os.O_RDWR | os.O_CREAT | _NO_LINK, 0o666)
        if not try_lock(handle):
            with os.fdopen(handle, errors="replace") as held:
                holder = held.read(200).strip() or "another process"
            raise InputError(
                f"{file.parent} is in use by {holder}: wait for its end, or end it, and go on then"
            )
        # The one who held it before may have removed it after it was opened here.
        if file.exists() and os.path.samestat(os.fstat(handle), file.stat()):
            return handle
        os.close(handle)


def try_lock(handle: int, *, wait: bool = False) -> bool:
    """Lock an open file or directory until it is closed; say whether that is done.

    Args:
        handle: its file descriptor.
        wait: whether to wait for another to let go of it.
    """
    try:
        import fcntl
    except ImportError:  # Windows keeps two from renaming what is open
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return True
    return True
