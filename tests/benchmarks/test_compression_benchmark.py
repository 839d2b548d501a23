"""The benchmark of compression runs, and prints what it wrote."""

import json

import pytest
from scripts import benchmark

pytest.importorskip("constriction")


@pytest.mark.exhaustive
def test_files_are_weighed_beside_those_of_other_programs(tmp_path, capsys):
    module = benchmark("compression")
    out = tmp_path / "results.json"
    module.main(limit=40, out=out)
    found = json.loads(out.read_text())["default images"]
    assert found["events"] == 40
    assert found["is_binary"]
    assert found["bytes"] < found["gzip"] < found["png, each"]
    assert found["bytes"] == pytest.approx(found["negative_elbo"], rel=0.4)
    printed = capsys.readouterr().out
    assert "**tfvae compress**" in printed
    module.main(show=True, out=out)
    assert capsys.readouterr().out == printed
