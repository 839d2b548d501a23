"""Ways to run the command line: as a process, the way a user meets it, and within this one."""

import contextlib
import io
import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tfvae.cli import main as cli

TFVAE = str(Path(sys.executable).parent / "tfvae")
# Small, and grey values that a Bernoulli describes by their cross-entropy.
DIGITS = ["--dataset", "digits", "--likelihood", "bernoulli"]
QUICK = ["--epochs", "2", "--network", "dense", "--latent-dim", "2"]


def tfvae_command(*args, cwd, status=0):
    done = subprocess.run(
        [TFVAE, *map(str, args)], capture_output=True, text=True, check=False, cwd=cwd
    )
    assert done.returncode == status, f"{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr
    return done


def within(*args, status=0):
    """Run a command in this process; give what it wrote to standard output and error."""
    out, err = io.StringIO(), io.StringIO()
    code = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            cli.main([str(argument) for argument in args])
        except SystemExit as end:
            code = end.code or 0
    assert code == status, err.getvalue()
    return out.getvalue(), err.getvalue()


def refused(*args):
    """Run a command that ends in an error, and give its one line."""
    _, err = within(*args, status=2)
    (line,) = [line for line in err.splitlines() if line.startswith("tfvae: error: ")]
    assert err.endswith(f"{line}\n")
    return line


@contextlib.contextmanager
def bare_trainings(pictures=False):
    """Let trainings in this process export nothing, and draw nothing at the ends of epochs.

    Both take longer than a small training itself, as do the pictures of the run directory, which
    are drawn where they are asked for.
    """
    import keras

    from tfvae.cli import job

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(job, "export_saved_model", lambda *_, **__: [])
        patched.setattr(job, "calibrate", lambda *_, **__: None)
        patched.setattr(job, "Pictures", lambda *_, **__: keras.callbacks.Callback())
        if not pictures:
            patched.setattr(job._Job, "_pictures", lambda *_: {})
        yield


def cluster(workers):
    """Give each of so many workers on this machine the environment that launchers give it."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(workers)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        addresses = [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]
    return [
        {
            "TF_CONFIG": json.dumps(
                {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
            )
        }
        for index in range(workers)
    ]
