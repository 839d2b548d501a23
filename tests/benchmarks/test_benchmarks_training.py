"""The parts of the training benchmark run at tiny sizes, and its table is that of its JSON."""

import dataclasses
import functools
import importlib
import json
import sys
import time
from pathlib import Path

import forked_scripts
import numpy as np
import pytest
from scripts import ROOT

import tfvae

PAGE = (ROOT / "docs" / "benchmarks.md").read_text("utf-8")

OURS = ["tfvae bfloat16", "tfvae fit bfloat16"]


@pytest.fixture
def training(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    before = set(sys.modules)
    module = importlib.import_module("training")
    monkeypatch.setattr(sys.modules["turns"].Process, "start", forked_scripts.Script)
    yield module
    for name in set(sys.modules) - before:
        if str(ROOT / "benchmarks") in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.fixture
def options(training, tmp_path, rng):
    file = tmp_path / "images.npy"
    np.save(file, (rng.random((400, 28, 28)) < 0.2).astype(np.uint8) * np.uint8(255))
    return training.Options(
        mnist=str(file),
        images=256,
        rounds=1,
        train_images=256,
        epochs=1,
        steps=2,
        seeds=1,
        seconds=0.0,
        timed_steps=1,
    )


def run(training, options, tmp_path, *only):
    out = tmp_path / "training.json"
    training.main(options, only=list(only), out=out, picture=tmp_path / "scaling.png")
    return json.loads(out.read_text())


def test_the_table_is_that_of_the_results(training, capsys):
    training.main(show=True)
    results = json.loads(training.RESULTS.read_text())
    assert capsys.readouterr().out.strip() == training.table(results)
    assert training.table(results) in PAGE
    assert set(results) <= set(training.PARTS)


@pytest.mark.exhaustive
def test_recipes_take_turns(training, options, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(training.comparison, "IN_TENSORFLOW", ("Keras example",))
    monkeypatch.setattr(training.comparison, "OURS", ("tfvae bfloat16",))
    monkeypatch.setattr(training.comparison, "FIT", ("tfvae fit bfloat16",))
    monkeypatch.setattr(training.comparison, "FLOORS", {"tfvae bfloat16": 0.0})
    found = run(training, options, tmp_path, "recipes")["recipes"]["found"]
    assert list(found["rates"]) == ["Keras example", *OURS]
    assert all(low <= middle <= high for low, middle, high in found["of_keras"].values())
    monkeypatch.setattr(training.comparison, "FLOORS", {"tfvae bfloat16": 1e9})
    assert "tfvae bfloat16 is" in training.comparison.below_floor(found)[0]
    assert found["of_fastest"][found["fastest"]] == 1
    assert "| tfvae bfloat16 |" in capsys.readouterr().out


@pytest.mark.exhaustive
def test_seconds_to_an_elbo(training, options, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(training.comparison, "IN_TENSORFLOW", ("TensorFlow tutorial",))
    monkeypatch.setattr(training.comparison, "PRECISIONS", ("mixed_bfloat16",))
    found = run(training, options, tmp_path, "elbo")["elbo"]["found"]
    for curve in found["curves"].values():
        seconds = [point[0] for point in curve]
        assert seconds == sorted(seconds) and len(seconds) == 2
        assert all(elbo < 0 for _, elbo in curve)
    assert "| TensorFlow tutorial |" in capsys.readouterr().out
    assert training.comparison.seconds_to([[1.0, -9.0], [2.0, -7.0]], -8.0) == 2.0
    assert training.comparison.seconds_to([[1.0, -9.0]], -8.0) is None


@pytest.mark.exhaustive
def test_precisions(training, options, tmp_path):
    found = run(training, options, tmp_path, "precision")["precision"]["found"]
    assert found["float32"][0] == pytest.approx(found["mixed_bfloat16"][0], rel=0.05)


@pytest.mark.exhaustive
def test_layers_and_the_roofline(training, options, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "PRECISIONS", ("mixed_bfloat16",))
    found = run(training, options, tmp_path, "roofline")["roofline"]["found"]["mixed_bfloat16"]
    # 128 images, 14 x 14 pixels, 3 x 3 weights, one channel to sixteen.
    products, weights = 2 * 128 * 14 * 14 * 9 * 16, 4 * (9 * 16 + 16)
    taken, given = 2 * 128 * 28 * 28, 2 * 128 * 14 * 14 * 16
    forward, backward = (
        found["rows"][f"encoder, Conv2D 1 to 16, {way}"] for way in ("forward", "backward")
    )
    assert forward["operations"] == backward["operations"] == products
    assert forward["bytes"] == taken + given + weights
    assert backward["bytes"] == taken + given + 2 * weights
    assert all(row["seconds"] >= 0 and row["least"] > 0 for row in found["rows"].values())
    assert found["step"] > 0


@pytest.mark.exhaustive
def test_slopes(training, options, tmp_path, monkeypatch):
    axes = {"data set": (128, 256)}
    monkeypatch.setattr(training.scaling, "AXES", axes)
    found = run(training, options, tmp_path, "scaling")["scaling"]["found"]
    assert {axis: tuple(map(int, points)) for axis, points in found.items()} == axes
    assert (tmp_path / "scaling.png").stat().st_size > 0
    assert training.scaling.fit({"1": 3.0, "10": 300.0}) == pytest.approx((2, 3))


@pytest.mark.exhaustive
def test_startup(training, options, tmp_path, monkeypatch):
    monkeypatch.setattr(training.startup, "IN_TENSORFLOW", ())
    monkeypatch.setattr(training.startup, "OURS", ("tfvae float32",))
    monkeypatch.setattr(training.startup, "COMMANDS", {"tfvae --help": ["--help"]})
    found = run(training, options, tmp_path, "startup")["startup"]["found"]
    assert not found["loads_tfp"]
    assert found["tfvae"] > 0 and found["import"] > 0
    assert all(seconds > 0 for seconds in found["first_step"].values())
    assert found["commands"]["tfvae --help"] > 0


@pytest.mark.exhaustive
def test_workers(training, options, tmp_path):
    found = run(training, options, tmp_path, "workers")["workers"]["found"]
    assert found["one"] > 0 and found["two"] > 0


@pytest.mark.exhaustive
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
def test_large_inputs(training, options, tmp_path, capsys, monkeypatch):
    module = training.inputs
    assert {name.split(",")[0] for name in module.INPUTS} == {
        "PNG", "JPEG", "npy", "npz", "CSV", "Parquet",
    }  # fmt: skip
    name = "CSV, 10 columns"
    monkeypatch.setattr(module, "INPUTS", {name: module.INPUTS[name]})
    # Of 12,500 rows and four times as many.
    options = dataclasses.replace(options, inputs_size=0.05, array_images=1500)
    found = run(training, options, tmp_path, "inputs")["inputs"]["found"]
    (row,) = found["inputs"].values()
    small, large = map(int, row["pass"])
    assert large == pytest.approx(4 * small, rel=0.2)
    assert row["alone"] == pytest.approx(large / row["pass"][str(large)])
    assert list(row["epoch"]) == ["8192", "32768"]
    assert 0 < row["waiting"] < 1
    assert all(seconds > 0 for seconds in (*row["open"].values(), *row["epoch"].values()))
    assert 0 < row["peak"][str(small)] <= row["peak"][str(large)]
    assert found["fit"]["tfvae"]["MiB"] == found["fit"]["Keras"]["MiB"] > 0
    assert all(fit["peak"] > 0 for fit in found["fit"].values())
    assert f"| {name} |" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["png", "jpeg", "npy", "npz", "csv", "parquet"])
def test_large_inputs_are_the_same_each_time(training, kind, tmp_path):
    module = training.inputs
    write = {
        "npy": functools.partial(module.write_images, 8),
        "npz": functools.partial(module.write_series, 40),
        "csv": functools.partial(module.write_table, 3, "csv"),
        "parquet": functools.partial(module.write_table, 3, "parquet"),
    }.get(kind, functools.partial(module.write_files, 8, kind))
    read = []
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        data = tfvae.datasets.load(str(write(tmp_path / name, 70)), memory_limit=0)
        assert sum(data.train.source.counts.values()) == 70
        read.append(data.train.source.read(np.arange(70))[0])
    np.testing.assert_array_equal(*read)
    shapes = {"npz": (40, 2), "csv": (3,), "parquet": (3,)}
    assert read[0].shape[1:] == shapes.get(kind, (8, 8, 3))
    assert len(np.unique(read[0], axis=0)) == (64 if len(read[0].shape) == 4 else 70)


def test_waiting_is_the_time_until_the_next_batch(training):
    def batches():
        for number in range(3):
            time.sleep(0.02)
            yield number

    taken = []
    step = lambda batch: taken.append(batch) or {"loss": time.sleep(0.01) or 0.0}  # noqa: E731
    seconds, waited = training.inputs.training(step, batches())
    assert taken == [0, 1, 2]
    # What sleeps may sleep longer, and never less.
    assert waited >= 0.06 and seconds - waited >= 0.03


def test_the_table_of_large_inputs(training):
    row = {
        "open": {"400": 0.5, "1600": 2.0},
        "pass": {"400": 0.1, "1600": 0.2},
        "epoch": {"32": 1.0, "128": 4.0},
        "peak": {"400": 300.0, "1600": 310.0},
        "MiB": 75.0,
        "alone": 8000.0,
        "training": 32.0,
        "waiting": 0.125,
    }
    fit = {"Keras": {"MiB": 180.0, "peak": 200.0}, "tfvae": {"MiB": 180.0, "peak": 250.0}}
    shown = training.inputs.table({"inputs": {"npy": row}, "fit": fit})
    assert "| npy | 1,600 | 75 | 2.0 | 8,000 | 32 | 12.5% | 300 | +10 | 1.00, 0.50, 1.00 |" in shown
    assert "| most memory beyond it, MiB | 200 | 250 | 1.25 |" in shown


def test_unknown_parts_are_refused(training, options, tmp_path):
    with pytest.raises(SystemExit, match="no part 'speed'"):
        run(training, options, tmp_path, "speed")


@pytest.mark.exhaustive
def test_latency(training, options, tmp_path, monkeypatch):
    monkeypatch.setattr(training.latency, "LEAST", 0.0)
    options = dataclasses.replace(options, calls=5)
    found = run(training, options, tmp_path, "latency")["latency"]["found"]
    assert {"encode", "elbo", "sample"} <= set(found)
    assert all(row["graph"] > 0 and row["eager"] > 0 for row in found.values())
    monkeypatch.setattr(training.latency, "LEAST", 1e9)
    assert len(training.latency.below_floor(found)) == len(found)
