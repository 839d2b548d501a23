"""Runs the quick tests that `seeded_faults.py` names, each without its fault and with it.

One run of pytest does so for all: loading TensorFlow and collecting the tests takes longer than
they do. A fault takes the place of the code of functions that are loaded. Its test has to pass
right before, so that nothing which an earlier fault may have left behind counts as noticing it.
"""

import contextlib
import gc
import importlib
import io
import json
import tempfile
import types
from pathlib import Path

import pytest
from _pytest.runner import runtestprotocol
from scripts import ROOT
from seeded_faults import FAULTS

OPTIONS = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-o", "addopts=-m 'not exhaustive'"]


def functions_of(code):
    """Yield the code of all functions in that of a module, by name and first line."""
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield (constant.co_qualname, constant.co_firstlineno), constant
            yield from functions_of(constant)


@contextlib.contextmanager
def inserted(fault):
    """Let the functions that a fault is in have it."""
    name = fault.file.removesuffix(".py").replace("/", ".")
    path = importlib.import_module(f"tfvae.{name}").__file__
    text = Path(path).read_text("utf-8")
    faulty = text.replace(fault.old, fault.new)
    with tempfile.NamedTemporaryFile("w", suffix=".py") as file:
        # AutoGraph reads the lines of a function in the file that its code names.
        file.write(faulty)
        file.flush()
        before = dict(functions_of(compile(text, path, "exec")))
        after = dict(functions_of(compile(faulty, file.name, "exec")))
        new = {key: code for key, code in after.items() if code != before[key]}
        held = []
        for one in gc.get_objects():
            if isinstance(one, types.FunctionType) and one.__code__.co_filename == path:
                key = (one.__code__.co_qualname, one.__code__.co_firstlineno)
                if key in new:
                    held.append((one, one.__code__))
                    one.__code__ = new[key]
        assert held, f"no function has it: {fault.what}"
        try:
            yield
        finally:
            for one, code in held:
                one.__code__ = code


def failure(item):
    """Run a test, with the fixtures made anew; return how it failed, "" if it passed."""
    reports = runtestprotocol(item, nextitem=None, log=False)
    return "\n".join(str(report.longrepr) for report in reports if not report.passed)


class Inserting:
    """A plugin of pytest: runs a test with each of its faults, until a case of it has failed.

    Attributes:
        found: for each fault "noticed", or what is wrong.
    """

    def __init__(self):
        self.found = {fault.what: "not noticed" for fault in FAULTS}

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item):
        gc.unfreeze()  # functions are looked for among all objects
        for fault in FAULTS:
            is_of_it = item.nodeid.partition("[")[0] == f"tests/{fault.test}"
            if is_of_it and self.found[fault.what] == "not noticed":
                if wrong := failure(item):
                    self.found[fault.what] = f"{item.nodeid} fails without it: {wrong[-1500:]}"
                    continue
                with inserted(fault):
                    if failure(item):
                        self.found[fault.what] = "noticed"
        return True


def run(out):
    """Write what was found of each fault into a JSON file."""
    tests = dict.fromkeys(str(ROOT / "tests" / fault.test) for fault in FAULTS)
    where = ["-c", str(ROOT / "pyproject.toml"), "--rootdir", str(ROOT)]
    inserting = Inserting()
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        code = pytest.main([*tests, *OPTIONS, *where], plugins=[inserting])
    assert code == 0, said.getvalue()[-3000:]
    Path(out).write_text(json.dumps(inserting.found))
