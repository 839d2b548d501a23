"""The benchmark of the runtimes runs, and prints what it wrote."""

import json

import pytest
from scripts import benchmark

for package in ("onnxruntime", "tf2onnx", "ai_edge_litert"):
    pytest.importorskip(package)


@pytest.mark.exhaustive
def test_the_speed_of_each_runtime_is_measured(monkeypatch, tmp_path, capsys):
    module = benchmark("runtimes")
    monkeypatch.setattr(module, "IMAGE_SHAPE", (8, 8, 1))
    monkeypatch.setattr(module, "NETWORK", "dense:hidden=8")
    monkeypatch.setattr(module, "BATCH_SIZES", (1, 4))
    out = tmp_path / "results.json"
    module.main(rounds=2, seconds=0.01, out=out)
    found = json.loads(out.read_text())
    assert set(found["decode"]) == {*found["encode"], module.BARE}
    assert len(found["encode"]) == 6
    for function in ("encode", "decode"):
        for one in found[function].values():
            assert 0 < one["p50"] <= one["p99"]
            assert one["images_per_second"] > 0
    assert found["overhead"].keys() == {"1", "4"}
    printed = capsys.readouterr().out
    assert "| ONNX Runtime |" in printed and "| 4 | " in printed
    module.main(show=True, out=out)
    assert capsys.readouterr().out == printed
