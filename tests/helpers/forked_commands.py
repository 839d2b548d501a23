"""Commands as processes that find TensorFlow imported.

A process of its own has its directory, streams, signals and exit status, as from a shell. These are
forked where TensorFlow has been imported (see `processes`), which takes most of a command's time;
`command_line.tfvae_command` starts the program itself.
"""

import contextlib
import os
import sys
import tempfile
from pathlib import Path

import processes
from command_line import bare_trainings

from tfvae.cli import main as cli


def signalled(number, step):
    """Make a `Checkpoints.write` after which a signal reaches the process, once at a step."""
    from tfvae.training.checkpoints import Checkpoints

    write, sent = Checkpoints.write, []

    def patched(checkpoints, taken, state):
        written = write(checkpoints, taken, state)
        if taken >= step and not sent:
            sent.append(taken)
            os.kill(os.getpid(), number)
        return written

    return patched


def _main(arguments, cwd, environment, streams, signal_at, bare):
    os.chdir(cwd)
    os.environ.update(environment)
    for number, path in enumerate(streams, start=1):
        opened = os.open(path, os.O_WRONLY | os.O_CREAT)
        os.dup2(opened, number)
        os.close(opened)
    if signal_at is not None:
        from tfvae.training.checkpoints import Checkpoints

        Checkpoints.write = signalled(*signal_at)
    sys.argv = ["tfvae", *arguments]
    with bare_trainings() if bare else contextlib.nullcontext():
        cli.main(arguments)


class Command:
    """A command that has begun, as `subprocess.Popen` gives one.

    Args:
        arguments: of the command.
        cwd: its directory.
        env: what its environment has more than this process's.
        signal_at: a signal that reaches it, and how many steps have been saved by then.
        bare: whether a training leaves out what `bare_trainings` does.
    """

    def __init__(self, *arguments, cwd, env=None, signal_at=None, bare=False):
        self._folder = tempfile.TemporaryDirectory()
        self._streams = [Path(self._folder.name) / name for name in ("out", "err")]
        self._process = processes.start(
            _main,
            [str(one) for one in arguments],
            str(cwd),
            env or {},
            self._streams,
            signal_at,
            bare,
        )

    def communicate(self, timeout=300):
        """Wait for its end; give what it wrote to standard output and error."""
        processes.finish(self._process, timeout=timeout)
        found = [path.read_text() for path in self._streams]
        self._folder.cleanup()
        return found

    @property
    def returncode(self):
        return self._process.exitcode
