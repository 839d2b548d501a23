"""Runs a test of the repository for each of several copies of the package; prints how each ended.

    python faulty_packages.py ROOT '[[FOLDER OF A COPY, TEST], ...]'

What is printed last is a JSON list of pairs: the exit code of pytest, and the end of its output.
"""

import contextlib
import io
import json
import os
import sys
from pathlib import Path

# Everything that takes long to load and is not the package: no copy is loaded twice.
import keras  # noqa: F401
import pandas  # noqa: F401
import pytest
import scipy.stats  # noqa: F401
import sklearn.datasets  # noqa: F401
import tensorflow_probability.python.distributions  # noqa: F401


def run(root, folder, test):
    """Run a test with the package of a folder; return the exit code and the output."""
    sys.path.insert(0, folder)
    import tfvae

    assert Path(tfvae.__file__).is_relative_to(folder)
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        code = pytest.main(
            [test, "-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-o",
             "addopts=-m 'not exhaustive'", "-c", f"{root}/pyproject.toml", "--rootdir", root]
        )  # fmt: skip
    return int(code), output.getvalue()[-1500:]


def forked(*arguments):
    """Do the same in a process of its own, which starts from what is loaded here."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        code = [-1, ""]
        try:
            code = run(*arguments)
        except BaseException as error:
            code = [-1, repr(error)]
        finally:
            with os.fdopen(writing, "w") as out:
                json.dump(code, out)
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as answer:
        result = json.load(answer)
    os.waitpid(child, 0)
    return result


if __name__ == "__main__":
    root, jobs = sys.argv[1], json.loads(sys.argv[2])
    print(json.dumps([forked(root, *job) for job in jobs]))
