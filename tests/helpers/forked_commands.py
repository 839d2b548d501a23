"""Commands as processes that find TensorFlow imported.

A process of its own has its directory, streams, signals and exit status, as from a shell. These are
forked where TensorFlow has been imported (see `processes`), which takes most of a command's time;
`command_line.tfvae_command` starts the program itself.
"""

import os
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import processes

from tfvae.cli import main as cli


def _main(arguments, cwd, environment, streams):
    os.chdir(cwd)
    os.environ.update(environment)
    for number, path in enumerate(streams, start=1):
        opened = os.open(path, os.O_WRONLY | os.O_CREAT)
        os.dup2(opened, number)
        os.close(opened)
    sys.argv = ["tfvae", *arguments]
    cli.main(arguments)


class Command:
    """A command that has begun, as `subprocess.Popen` gives one."""

    def __init__(self, *arguments, cwd, env=None):
        self._folder = tempfile.TemporaryDirectory()
        self._streams = [Path(self._folder.name) / name for name in ("out", "err")]
        self._process = processes.start(
            _main, [str(one) for one in arguments], str(cwd), env or {}, self._streams
        )

    def send_signal(self, number):
        os.kill(self._process.pid, number)

    def communicate(self, timeout=300):
        """Wait for its end; give what it wrote to standard output and error."""
        processes.finish(self._process, timeout=timeout)
        found = [path.read_text() for path in self._streams]
        self._folder.cleanup()
        return found

    @property
    def returncode(self):
        return self._process.exitcode


def forked_command(*arguments, cwd, status=0):
    """Run a command to its end, as `command_line.tfvae_command` does."""
    command = Command(*arguments, cwd=cwd)
    out, err = command.communicate()
    assert command.returncode == status, f"{out}\n{err}"
    assert "Traceback" not in err
    return SimpleNamespace(stdout=out, stderr=err)
