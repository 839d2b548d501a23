"""Figures that a benchmark of tables keeps in a file, each measured once."""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from machine import machine


class Kept:
    """The figures of one part of a file.

    Attributes:
        figures: by their keys.
    """

    def __init__(self, path: Path, part: str):
        self._path, self._part = path, part
        results = json.loads(path.read_text()) if path.exists() else {}
        self.figures: dict[str, dict[str, float]] = results.get(part, {})

    def add(self, key: str, measure: Callable[[], dict[str, float]]) -> None:
        """Measure what is not there, and write the file."""
        if key not in self.figures:
            self.figures[key] = measure()
            # Others may have measured meanwhile.
            results = json.loads(self._path.read_text()) if self._path.exists() else {}
            results["machine"] = machine()
            self.figures = results.setdefault(self._part, {}) | self.figures
            results[self._part] = self.figures
            self._path.write_text(json.dumps(results, indent=1) + "\n")
            print(key, self.figures[key], flush=True)


class Peer:
    """Other packages, in a process of an interpreter that has them.

    Args:
        python: the interpreter, None where nothing will be asked.
    """

    def __init__(self, python: str | None):
        self._python = python
        self._process: subprocess.Popen[str] | None = None

    def ask(self, *request: Any) -> float:
        """Have `table_peers` do something, and return the processor time in seconds."""
        if self._process is None:
            assert self._python is not None
            script = Path(__file__).with_name("table_peers.py")
            self._process = subprocess.Popen(
                [self._python, str(script)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": ""},
                text=True,
            )
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps(request, default=str) + "\n")
        self._process.stdin.flush()
        return float(json.loads(self._process.stdout.readline()))
