"""Scripts that answer by lines, as processes that find TensorFlow imported (see `processes`)."""

import os
import runpy
import sys
from multiprocessing.connection import Connection, Pipe
from pathlib import Path

import processes


def _main(path, arguments, *ends):
    """Run a script with its standard streams at these ends of pipes and files."""
    for number, end in enumerate(ends):
        os.dup2(end.fileno(), number)
        end.close()
    sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w")  # noqa: SIM115
    sys.argv = [path, *arguments]
    sys.path.insert(0, str(Path(path).parent))
    runpy.run_path(path, run_name="__main__")
    sys.stdout.flush()


class Script:
    """A script that has begun, as `subprocess.Popen` gives one with pipes."""

    def __init__(self, command, *, stderr, **_):
        _, path, *arguments = command
        asked, asking = Pipe(duplex=False)
        answering, answered = Pipe(duplex=False)
        said = Connection(os.dup(stderr.fileno()), readable=False)
        self._process = processes.start(_main, path, arguments, asked, answered, said)
        for end in (asked, answered, said):
            end.close()
        self.stdin = os.fdopen(os.dup(asking.fileno()), "w")
        self.stdout = os.fdopen(os.dup(answering.fileno()))

    def terminate(self):
        """Send it SIGTERM."""
        self._process.terminate()

    def wait(self):
        """Wait for its end; return its exit status."""
        processes.finish(self._process)
        return self._process.exitcode
