"""Short trainings that differ in one thing each: their settings, their tables, and a tiny study."""

import json
import math
import struct

import numpy as np
import pytest
from scripts import ROOT, benchmark

screening = benchmark("screening")
STUDIES = screening.studies()
CASES = [(study, name) for study, one in STUDIES.items() for name in one["cases"]]

TINY = """
[tiny]
title = "A tiny study"

[tiny.base]
network = "dense:hidden=8"
latent_dim = 2
epochs = 2
batch_size = 500
learning_rate = 0.01

[tiny.cases."all at once"]
decoder = "dense:hidden=6"
optimizer = "Adamax"
average = 0.9
dropout = 0.1
initial = "glorot_uniform"
start = false
seeds = [1]

[tiny.cases."none such"]
objective = "elbow"
"""


def setting(study, name):
    changes = STUDIES[study]["cases"][name]
    options = {key: value for key, value in changes.items() if key != "seeds"}
    return screening.Setting(**{**STUDIES[study]["base"], **options})


@pytest.mark.parametrize(("study", "name"), CASES)
def test_a_case_differs_from_its_base(study, name):
    assert setting(study, name) != screening.Setting(**STUDIES[study]["base"])


def test_the_base_is_followed_over_time():
    base = [(10.0, -110.0), (20.0, -106.0), (40.0, -104.0)]
    assert screening.at_equal_time(base, 20.0) == -106.0
    assert screening.at_equal_time(base, math.sqrt(200.0)) == pytest.approx(-108.0)
    # Beyond the ends as between the last two.
    assert screening.at_equal_time(base, 80.0) == pytest.approx(-102.0)
    assert screening.at_equal_time(base, 5.0) == pytest.approx(-114.0)
    assert screening.at_equal_time(base[:1], 80.0) == -110.0


def test_the_pages_have_the_table_of_the_results():
    if screening.results():
        assert screening.table() in (ROOT / "docs" / "results.md").read_text("utf-8")


@pytest.mark.exhaustive
def test_a_study_is_run_and_goes_on(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    for name, count in (("train", 3_000), ("t10k", 10)):
        images = rng.integers(0, 256, (count, 4, 4), np.uint8)
        header = struct.pack(">4B3I", 0, 0, 8, 3, *images.shape)
        (tmp_path / f"{name}-images-idx3-ubyte").write_bytes(header + images.tobytes())
    (tmp_path / "studies.toml").write_text(TINY)
    monkeypatch.setattr(screening, "STUDIES", tmp_path / "studies.toml")
    monkeypatch.setattr(screening, "RESULTS", tmp_path / "results.json")
    monkeypatch.setattr(screening, "SCORED", 50)
    monkeypatch.setattr(screening, "DRAWS", 3)
    for _ in range(2):  # the second time there is nothing to do
        screening.run("tiny", tmp_path, tmp_path / "kept", math.inf)
    found = json.loads((tmp_path / "results.json").read_text())
    assert [(one["case"], one["seed"]) for one in found] == [
        ("base", 0),
        ("all at once", 1),
        ("none such", 0),
    ]
    assert found[0]["gain"] == 0
    assert found[1]["gain"] == pytest.approx(found[1]["log_prob"] - found[0]["log_prob"], abs=2e-3)
    assert found[1]["parameters"] != found[0]["parameters"]
    assert "elbow" in found[2]["failed"]
    lines = screening.table().splitlines()
    assert len(lines) == 4 + len(found)
    assert lines[-2].startswith("| all at once, seed 1 | ")
    assert "failed" in lines[-1]
