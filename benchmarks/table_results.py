"""Figures that a benchmark of tables keeps in a file, each measured once."""

import contextlib
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from machine import machine


class Kept:
    """The figures of one part of a file.

    Attributes:
        figures: by their keys.
    """

    def __init__(self, path: Path, results: dict[str, Any], part: str):
        self._path, self._results = path, results
        self.figures: dict[str, dict[str, float]] = results.setdefault(part, {})

    def add(self, key: str, measure: Callable[[], dict[str, float]]) -> None:
        """Measure what is not there, and write the file."""
        if key not in self.figures:
            self.figures[key] = measure()
            self._path.write_text(json.dumps(self._results, indent=1) + "\n")
            print(key, self.figures[key], flush=True)


@contextlib.contextmanager
def kept(path: Path, part: str) -> Iterator[Kept]:
    """Open the figures of a part of a file."""
    results = json.loads(path.read_text()) if path.exists() else {}
    results["machine"] = machine()
    yield Kept(path, results, part)


def run_peer(python: str, *arguments: Any) -> None:
    """Run `table_peers` by another interpreter."""
    script = Path(__file__).with_name("table_peers.py")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": ""}
    subprocess.run(
        [python, str(script), *map(str, arguments)],
        check=True,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
