"""The benchmarks run, and the pages show what they wrote."""

import json

import numpy as np
import pytest
from scripts import ROOT, benchmark

PAGES = "\n".join(
    (ROOT / "docs" / name).read_text("utf-8")
    for name in ("results.md", "benchmarks.md", "evaluate.md", "serve.md", "tables.md")
)


@pytest.fixture
def combinations():
    return benchmark("combinations")


@pytest.fixture
def log_prob():
    return benchmark("log_prob")


def test_the_pages_have_the_table_of_the_results(combinations):
    kept = json.loads(combinations.RESULTS.read_text())
    rows = [combinations.key_of(name, row) for name, of in combinations.ROWS.items() for row in of]
    assert sorted(kept["results"]) == sorted(rows)
    assert combinations.table(kept["results"]).strip() in PAGES


def test_the_pages_have_the_table_of_starts():
    kept = json.loads((ROOT / "benchmarks" / "starts.json").read_text())
    assert benchmark("starts").table(kept["rows"]) in PAGES


def test_the_pages_have_what_was_measured_on_tables():
    pages = benchmark("table_pages")
    found = pages.tables(json.loads(pages.RESULTS.read_text()))
    assert {"anomalies", "holes"} <= set(found)
    for table in found.values():
        assert table in PAGES


@pytest.mark.exhaustive
def test_starts_are_measured(monkeypatch, capsys, tmp_path):
    starts = benchmark("starts")
    monkeypatch.setattr(starts, "EVERY", 2)
    np.save(tmp_path / "x.npy", 20 * np.random.default_rng(0).normal(size=(40, 8, 2)))
    monkeypatch.setattr(
        starts, "cases", lambda given: [starts.Case("x", given.series, "normal:scale=learned")]
    )
    out = tmp_path / "starts.json"
    words = ["starts", "--series", tmp_path / "x.npy", "--steps", 2, 4, "--out", out]
    monkeypatch.setattr("sys.argv", [str(word) for word in words])
    starts.main()
    before, after = json.loads(out.read_text())["rows"]
    assert after["elbo"]["2"] > before["elbo"]["2"]
    assert starts.table([before, after]) in capsys.readouterr().out


def test_the_pages_have_the_tables_of_published_numbers():
    reproduce = benchmark("reproduce")
    assert reproduce.table().strip() in PAGES
    assert reproduce.samples_table() in PAGES


@pytest.mark.parametrize("name", ["explorer", "log_prob", "runtimes"])
def test_the_pages_have_the_tables_of_speed(name):
    module = benchmark(name)
    assert module.table(json.loads(module.RESULTS.read_text())) in PAGES


def test_memory_stays_flat_whatever_the_draws(log_prob):
    kept = json.loads(log_prob.RESULTS.read_text())
    assert sorted(kept["networks"]) == sorted(log_prob.NETWORKS)
    assert kept["pythae"] in PAGES
    memory = [kept["memory"][str(draws)] for draws in log_prob.DRAWS]
    assert max(memory) < 1.05 * memory[0]


@pytest.mark.exhaustive
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


@pytest.mark.exhaustive
def test_the_speed_of_log_prob_is_measured(log_prob, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(log_prob, "BATCH_SIZES", (2, 4))
    monkeypatch.setattr(log_prob, "SECONDS", 0.05)
    monkeypatch.setattr(log_prob, "DRAWS", (3,))
    monkeypatch.setattr(log_prob, "DECODES", 9)
    out = tmp_path / "results.json"
    log_prob.main(num_samples=5, images=3, rounds=2, out=out)
    found = json.loads(out.read_text())
    assert found["pythae"] is None
    for one in found["networks"].values():
        assert one["batch_size"] in (2, 4)
        assert one["decoder"] > one["log_prob"] > 0  # with so few, tracing is nearly all
    assert 100 < found["memory"]["3"] < 10_000
    printed = capsys.readouterr().out
    assert "| default |" in printed and "| 3 | " in printed
    log_prob.main(show=True, out=out)
    assert capsys.readouterr().out == printed
