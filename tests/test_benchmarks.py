"""The benchmarks run, and the README shows what they wrote."""

import importlib.util
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def combinations():
    path = ROOT / "benchmarks" / "combinations.py"
    spec = importlib.util.spec_from_file_location("combinations", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_readme_has_the_table_of_the_results(combinations):
    kept = json.loads(combinations.RESULTS.read_text())
    rows = [combinations.key_of(name, row) for name, of in combinations.ROWS.items() for row in of]
    assert sorted(kept["results"]) == sorted(rows)
    assert combinations.table(kept["results"]).strip() in (ROOT / "README.md").read_text("utf-8")


def test_rows_are_measured_once_and_kept(combinations, monkeypatch, tmp_path, capsys):
    rows = [{"likelihood": "poisson:step=0.0625"}, {"prior": "vamp:pseudo_inputs=4"}]
    monkeypatch.setattr(combinations, "ROWS", {"digits": rows[:1]})
    out = tmp_path / "results.json"
    budget = {"steps": 3, "limit": 8, "num_samples": 3, "out": out}
    combinations.main(**budget)
    (first,) = json.loads(out.read_text())["results"].values()
    assert first["is_discrete"]
    assert first["bits_per_dimension"] == pytest.approx(-first["log_prob"] / (64 * 0.693147), 1e-5)

    monkeypatch.setattr(combinations, "ROWS", {"digits": rows})
    combinations.main(**budget)
    again, second = json.loads(out.read_text())["results"].values()
    assert again == first  # seconds included
    assert not second["kl_is_exact"]
    assert "| `vamp:pseudo_inputs=4` |" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="was made with"):
        combinations.main(**budget | {"steps": 4})
