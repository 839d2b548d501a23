"""The quick suite notices each of the faults of `seeded_faults.py`."""

import json
from pathlib import Path

import inserting_faults
import processes
import pytest
from scripts import ROOT
from seeded_faults import FAULTS

TESTS = Path(__file__).parent


def test_each_fault_can_be_made_and_has_a_test():
    for fault in FAULTS:
        text = (ROOT / "tfvae" / fault.file).read_text("utf-8")
        assert text.count(fault.old) == 1, fault.what
        assert fault.old.count("\n") == fault.new.count("\n"), fault.what
        file, _, name = fault.test.partition("::")
        assert f"def {name.rpartition('::')[2]}(" in (TESTS / file).read_text("utf-8"), fault.what
    assert len(FAULTS) >= 20


@pytest.mark.exhaustive
def test_a_quick_test_fails_for_each(tmp_path):
    out = tmp_path / "found.json"
    assert processes.run(inserting_faults.run, str(out)) == "done"
    assert json.loads(out.read_text()) == {fault.what: "noticed" for fault in FAULTS}
