"""The parts of a long work that are done: files beside its result, until that is whole.

Each part is a file whose name holds the digest of its content. It is written beside its place and
then renamed: whenever the process stops, what has the name of a part is one, and what was damaged
later is known by its digest.
"""

import hashlib
import json
import re
import shutil
from pathlib import Path
from typing import Any

from tfvae.errors import InputError
from tfvae.saving.files import new_file
from tfvae.saving.locks import LOCK_FILE

_NAME = re.compile(r"(.+)-([0-9a-f]{32})\.part")
_JOB = "job.json"


class Parts:
    """The parts of one work, in a hidden directory beside the file that they will become.

    Parts of other work are never mixed with these, and never removed unasked: they may be hours of
    computation that somebody wants to finish. Hold `place(out)` (`tfvae.saving.locks.locked`) while
    there is one: the parts of two at once would be mixed.

    Args:
        out: the file that they will become.
        job: all that decides what is in the parts, as JSON can hold it.
        restart: whether parts of another job are removed.

    Raises:
        InputError: if there are parts of another job, and `restart` is not set.
    """

    def __init__(self, out: Path, job: dict[str, Any], *, restart: bool = False):
        self.directory = self.place(out)
        job = json.loads(json.dumps(job))
        found = self._job()
        if found is not None and found != job and not restart:
            differing = [name for name in job if found.get(name) != job[name]] or ["format"]
            raise InputError(
                f"{self.directory} holds parts of other work, which was not finished; what differs "
                f"is: {', '.join(differing)}: finish it as it was begun, choose another output, or "
                "begin anew with overwrite"
            )
        if found != job:
            if self.directory.exists():
                self._clear()
            with new_file(self.directory / _JOB) as partial:
                partial.write_text(json.dumps(job), encoding="utf-8")
        self._files: dict[str, list[Path]] = {}
        for path in self.directory.iterdir():
            if match := _NAME.fullmatch(path.name):
                self._files.setdefault(match[1], []).append(path)
            elif path.name not in (_JOB, LOCK_FILE):
                path.unlink()  # what was being written when the process was killed

    @staticmethod
    def place(out: Path) -> Path:
        """Return the directory of the parts of a file."""
        return out.parent / f".{out.name}.parts"

    def _clear(self) -> None:
        for path in self.directory.iterdir():
            if path.name == LOCK_FILE:
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()

    def _job(self) -> Any:
        """Return the job that the parts are of, None where that cannot be told."""
        try:
            return json.loads((self.directory / _JOB).read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return None

    def read(self, name: str) -> bytes | None:
        """Return the content of a part; None where there is none, or it is damaged."""
        for path in self._files.get(name, []):
            content = path.read_bytes()
            if path.name == _file_name(name, content):
                return content
        return None

    def write(self, name: str, content: Any) -> None:
        """Write a part, and remove damaged ones of its name.

        Args:
            name: of the part.
            content: bytes, or anything that has some.
        """
        path = self.directory / _file_name(name, content)
        # What a power cut leaves of it has another digest, and is made again.
        with new_file(path, sync=False) as partial:
            partial.write_bytes(content)
        for old in self._files.get(name, []):
            if old != path:
                old.unlink(missing_ok=True)
        self._files[name] = [path]

    def remove(self) -> None:
        """Remove all of them, when they have become the result."""
        shutil.rmtree(self.directory, ignore_errors=True)


def _file_name(name: str, content: Any) -> str:
    return f"{name}-{hashlib.sha256(content).hexdigest()[:32]}.part"
