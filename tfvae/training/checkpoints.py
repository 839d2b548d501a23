"""Checkpoints of a training, each in one file that is whole or not there.

A checkpoint holds all that decides how the training goes on. It is an ``.npz`` file whose name
holds the number of steps taken and the digest of its content. It is written beside its place,
forced to the disk and renamed: whenever the process or the machine stops, the newest file of that
name is complete, and one that was damaged later is known by its digest.
"""

import contextlib
import hashlib
import io
import json
import os
import re
import secrets
import sys
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tfvae.errors import InputError
from tfvae.saving.files import force_to_disk
from tfvae.saving.locks import locked

_NAME = re.compile(r"step-(\d{9,})-([0-9a-f]{32})\.npz")
_META = "meta"
_PARTIAL = ".partial"


class Checkpoints:
    """The checkpoints of one training, in a directory of their own.

    Args:
        directory: made when the first one is written.
        keep: how many to keep, from 2: the newest, and those to fall back to.
    """

    def __init__(self, directory: str | Path, keep: int = 2):
        self.directory = Path(directory)
        self._keep = max(2, keep)
        # Once made it is not made again: a directory that is gone was removed by somebody.
        self._made = False

    def write(self, step: int, state: bytes) -> Path:
        """Write a checkpoint, and remove those that are too old.

        Args:
            step: how many steps have been taken.
            state: what `pack` gave.

        Returns:
            The new file.

        Raises:
            OSError: if it cannot be written; those that were there stay.
        """
        if not self._made:
            self.directory.mkdir(parents=True, exist_ok=True)
            self._made = True
        name = f"step-{step:09d}-{_digest(state)}.npz"
        # A name of its own, that is not there yet: nobody else's file, nor one that a link at this
        # name points to.
        partial = self.directory / f"{_PARTIAL}-{os.getpid()}-{secrets.token_hex(4)}"
        try:
            with partial.open("xb") as file:
                file.write(state)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(self.directory / name)
        except OSError as error:
            partial.unlink(missing_ok=True)
            if error.filename is None:
                error.filename = str(partial)
            raise
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        force_to_disk(self.directory)
        for old in self.files()[self._keep :]:
            old.unlink(missing_ok=True)
        # What a crash left.
        for left in self.directory.glob(f"{_PARTIAL}*"):
            left.unlink(missing_ok=True)
        return self.directory / name

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Keep other trainings out of the directory while the block runs.

        Raises:
            InputError: if another one is in it, which the message names.
        """
        with locked(self.directory):
            self._made = True
            yield

    def files(self) -> list[Path]:
        """Return the files of checkpoints, whole or damaged, those with most steps first."""
        found = [path for path in self.directory.glob("step-*.npz") if _NAME.fullmatch(path.name)]
        # Of one step the last written: after a fall-back it is taken anew.
        return sorted(found, key=lambda path: (_steps(path), path.stat().st_mtime_ns), reverse=True)

    def read(self) -> bytes | None:
        """Return the newest whole checkpoint, None where there is no file of one.

        It says on standard error which files it had to pass over, and puts them aside.

        Raises:
            InputError: if there are files and all of them are damaged.
        """
        files = self.files()
        damaged: list[Path] = []
        for file in files:
            try:
                state = file.read_bytes()
            except OSError as error:
                reason = error.strerror
            else:
                if _digest(state) == _NAME.fullmatch(file.name)[2]:  # type: ignore[index]
                    # A directory that cannot be written will say so at the next checkpoint.
                    with contextlib.suppress(OSError):
                        for other in damaged:
                            other.replace(other.with_suffix(".damaged"))
                    return state
                reason = "its content is not what was written"
            print(
                f"tfvae: the checkpoint {file} is damaged ({reason}): trying the one before",
                file=sys.stderr,
            )
            damaged.append(file)
        if files:
            raise InputError(
                f"all checkpoints in {self.directory} are damaged: train anew, in another directory"
            )
        return None


def pack(meta: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> bytes:
    """Put facts that JSON can hold, and arrays by name, into the content of one file."""
    buffer = io.BytesIO()
    text = np.frombuffer(json.dumps(meta, default=_plain).encode(), np.uint8)
    np.savez(buffer, **{_META: text}, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def unpack(state: bytes) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Restore what `pack` took.

    Raises:
        InputError: if it is no checkpoint.
    """
    try:
        with np.load(io.BytesIO(state), allow_pickle=False) as content:
            arrays = dict(content)
        return json.loads(arrays.pop(_META).tobytes()), arrays
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"a checkpoint cannot be read: {error}") from error


def _plain(value: Any) -> Any:
    """Return numbers and arrays of NumPy as JSON can hold them."""
    if not hasattr(value, "tolist"):
        raise TypeError(f"expected what JSON can hold; received {type(value).__name__}")
    return value.tolist()


def _steps(path: Path) -> int:
    return int(_NAME.fullmatch(path.name)[1])  # type: ignore[index]


def _digest(state: bytes) -> str:
    return hashlib.sha256(state).hexdigest()[:32]
