"""Turns: trainings in processes of their own, which take an epoch each when they are told.

A process has its own precision, thread pools and framework; taking turns, all of them meet the same
moods of the machine. This module needs nothing but Python: PyTorch's side imports it too.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any


class Turns:
    """The trained side: waits before each epoch until it is told, and says how long it took."""

    def __init__(self) -> None:
        self._begun = 0.0

    def begin(self, *_: Any) -> None:
        """Wait for a line."""
        if not sys.stdin.readline():
            sys.exit()
        self._begun = time.perf_counter()

    def end(self, *_: Any) -> None:
        """Answer with the seconds since."""
        say(time.perf_counter() - self._begun)


class Straight:
    """The same, for a training that nobody interrupts: its seconds, all in all."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._begun = time.perf_counter()

    def begin(self, *_: Any) -> None:
        """Go on at once."""

    def end(self, *_: Any) -> None:
        """Note the time."""
        self.seconds = time.perf_counter() - self._begun


def say(answer: Any) -> None:
    """Write a line that `Process.ask` reads."""
    print(json.dumps(answer), flush=True)


class Process:
    """The measuring side: a command that answers each line with a line."""

    # What starts it; a test has one that finds TensorFlow loaded.
    start = staticmethod(subprocess.Popen)

    def __init__(self, command: Sequence[str]):
        self._command = command
        # What frameworks say as they start is for a failure only.
        self._said = tempfile.TemporaryFile("w+")  # noqa: SIM115 - open as long as it runs
        self._process = self.start(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._said, text=True
        )

    def ask(self) -> Any:
        """Tell it to go, and give its answer."""
        self.tell()
        return self.answer()

    def tell(self) -> None:
        """Tell it to go."""
        self._process.stdin.write("go\n")
        self._process.stdin.flush()

    def answer(self) -> Any:
        """Give what it says unasked."""
        line = self._process.stdout.readline()
        if not line:
            self._said.seek(0)
            sys.exit(f"{self._said.read()}\nended without an answer: {' '.join(self._command)}")
        return json.loads(line)

    def close(self) -> None:
        """Let it end."""
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()
