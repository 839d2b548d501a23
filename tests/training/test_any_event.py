"""Labelled events with holes, of ranks other than images': devices, resuming, estimates."""

import json
import subprocess
import sys

import pytest
from scripts import ROOT


@pytest.mark.exhaustive
@pytest.mark.parametrize("rank", [1, 2, 4])
def test_devices_and_resuming_change_nothing(rank):
    command = [sys.executable, str(ROOT / "tests" / "helpers" / "events_job.py"), str(rank)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    # Sums of float32 in another order, over six steps.
    assert found["devices"] < 1e-6
    assert found["resumed"] == 0
    assert found["log_prob"] > found["elbo"]
    assert found["active_units"] >= 1
    assert 0 <= found["accuracy"] <= 1
