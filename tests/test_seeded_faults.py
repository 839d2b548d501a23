"""The quick suite notices each of the faults of `seeded_faults.py`."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from scripts import ROOT
from seeded_faults import FAULTS

TESTS = Path(__file__).parent
PACKAGE = ROOT / "tfvae"


def test_each_fault_can_be_made_and_has_a_test():
    for fault in FAULTS:
        text = (PACKAGE / fault.file).read_text("utf-8")
        assert text.count(fault.old) == 1, fault.what
        file, _, name = fault.test.partition("::")
        assert f"def {name.rpartition('::')[2]}(" in (TESTS / file).read_text("utf-8"), fault.what
    assert len(FAULTS) >= 20


@pytest.fixture(scope="module")
def ends(tmp_path_factory):
    """How pytest ended for each fault: 1 where a test failed."""
    folder = tmp_path_factory.mktemp("faults")
    jobs = []
    for number, fault in enumerate(FAULTS):
        copy = folder / str(number)
        shutil.copytree(PACKAGE, copy / "tfvae", ignore=shutil.ignore_patterns("__pycache__"))
        file = copy / "tfvae" / fault.file
        file.write_text(file.read_text("utf-8").replace(fault.old, fault.new), "utf-8")
        jobs.append([str(copy), str(TESTS / fault.test)])
    # A process that has loaded TensorFlow forks one for each: loading it takes seconds.
    program = [sys.executable, str(TESTS / "helpers" / "faulty_packages.py"), str(ROOT)]
    done = subprocess.run(
        [*program, json.dumps(jobs)], capture_output=True, text=True, check=True, cwd=folder
    )
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.exhaustive
@pytest.mark.parametrize("number", range(len(FAULTS)), ids=[fault.what for fault in FAULTS])
def test_a_quick_test_fails(ends, number):
    code, output = ends[number]
    assert code == 1, output
