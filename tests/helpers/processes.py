"""Processes that a test starts and kills: they are forked where TensorFlow has been imported.

A server process imports it once, and forks each of them before TensorFlow has run anything.
"""

import multiprocessing
import signal

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    [
        "tensorflow_probability.python.distributions",
        "tfvae.training",
        "tfvae.models.vae",
        "sklearn.datasets",
    ]
)


def start(function, *args, **kwargs):
    """Run a function of a module, by its own process."""
    process = _CONTEXT.Process(target=function, args=args, kwargs=kwargs, daemon=True)
    process.start()
    return process


def event():
    """Give an event that a process may set."""
    return _CONTEXT.Event()


def finish(*processes, timeout=300):
    """Wait for processes; give how each ended, ``"done"``, ``"killed"`` or its exit code."""
    for process in processes:
        process.join(timeout)
        if process.is_alive():
            process.kill()
            raise TimeoutError(f"{process} did not end within {timeout} s")
    names = {0: "done", -signal.SIGKILL: "killed"}
    ends = [names.get(process.exitcode, process.exitcode) for process in processes]
    return ends if len(ends) > 1 else ends[0]


def run(function, *args, **kwargs):
    """Run a function in a process of its own; say how that ended."""
    return finish(start(function, *args, **kwargs))
