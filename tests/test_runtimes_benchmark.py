"""The benchmark of the runtimes runs, and prints what it wrote."""

import importlib.util
import json
from pathlib import Path

import pytest

for package in ("onnxruntime", "tf2onnx", "ai_edge_litert"):
    pytest.importorskip(package)

FILE = Path(__file__).parents[1] / "benchmarks" / "runtimes.py"


def test_the_speed_of_each_runtime_is_measured(monkeypatch, tmp_path, capsys):
    spec = importlib.util.spec_from_file_location("runtimes_benchmark", FILE)
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    monkeypatch.setattr(benchmark, "IMAGE_SHAPE", (8, 8, 1))
    monkeypatch.setattr(benchmark, "BATCH_SIZES", (1, 4))
    out = tmp_path / "results.json"
    benchmark.main(rounds=2, seconds=0.01, out=out)
    found = json.loads(out.read_text())
    assert set(found["decode"]) == {*found["encode"], benchmark.BARE}
    assert len(found["encode"]) == 6
    for function in ("encode", "decode"):
        for one in found[function].values():
            assert 0 < one["p50"] <= one["p99"]
            assert one["images_per_second"] > 0
    assert found["overhead"].keys() == {"1", "4"}
    printed = capsys.readouterr().out
    assert "| ONNX Runtime |" in printed and "| 4 | " in printed
    benchmark.main(show=True, out=out)
    assert capsys.readouterr().out == printed
