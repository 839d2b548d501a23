"""Tables that are read in chunks: the same events, in memory that does not grow with them."""

import tracemalloc

import numpy as np
import pandas as pd
import pytest

from tfvae.datasets import large_tables, load, table_files
from tfvae.datasets.tables import table_source
from tfvae.errors import InputError


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch):
    monkeypatch.setattr(table_files, "_CHUNK_BYTES", 2**12)
    monkeypatch.setattr(table_files, "_BATCH_ROWS", 300)
    monkeypatch.setattr(table_files, "_BATCH_VALUES", 2500)  # 250 rows of ten columns


def a_table(n=2000):
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "id": np.arange(n),
            "height": rng.normal(170, 10, n).round(1),
            "income": np.where(rng.random(n) < 0.1, np.nan, np.exp(rng.normal(8, 1, n)).round(2)),
            "visits": rng.poisson(3, n),
            "colour": rng.choice(["red", "green", "blue"], n),
            "member": rng.choice(["yes", "no"], n),
            "grade": rng.integers(1, 6, n),
            "born": pd.Timestamp("1980-01-01") + pd.to_timedelta(rng.integers(0, 9000, n), "D"),
            "note": [f"text {row}" for row in range(n)],
            "kind": np.where(np.arange(n) == n - 1, "rare", rng.choice(["a", "b"], n)),
        }
    )


def read(path, **arguments):
    """Read a file at once, and in chunks."""
    whole = table_source(path, **arguments)
    parts = table_source(path, memory_limit=0, **arguments)
    assert whole.in_memory
    assert not parts.in_memory
    return whole, parts


@pytest.mark.parametrize("ending", ["csv", "tsv", "csv.gz", "parquet", "feather"])
def test_chunks_are_read_as_the_whole_is(tmp_path, ending):
    frame, path = a_table(), tmp_path / f"x.{ending}"
    if ending in ("parquet", "feather"):
        getattr(frame, f"to_{ending}")(path)
    else:
        frame.to_csv(path, index=False, sep="\t" if ending == "tsv" else ",")
    whole, parts = read(path, label="kind")
    assert parts.schema == whole.schema
    assert whole.class_names == ("a", "b", "rare")
    assert [column.kind for column in whole.schema.columns] == [
        "number", "number", "count", "category", "boolean", "ordered", "date",
    ]  # fmt: skip
    rows = np.random.default_rng(1).permutation(whole.count)
    for one, other in zip(whole.read(rows), parts.read(rows), strict=True):
        np.testing.assert_array_equal(one, other)
    assert (parts.notes, parts.missing) == (whole.notes, True)


@pytest.mark.parametrize(("limit", "count"), [("_SAMPLE", 500), ("_SAMPLE_CELLS", 5000)])
def test_a_sample_and_all_that_is_rare_tell_the_columns(tmp_path, monkeypatch, limit, count):
    monkeypatch.setattr(large_tables, limit, count)
    frame = a_table(6000)
    frame.loc[5990, "height"] = 250.5
    frame.to_csv(tmp_path / "x.csv", index=False)
    whole, parts = read(tmp_path / "x.csv")
    for one, other in zip(whole.schema.columns, parts.schema.columns, strict=True):
        assert (one.name, one.kind, one.levels) == (other.name, other.kind, other.levels)
        assert (one.holes, one.log, one.decimals) == (other.holes, other.log, other.decimals)
        if one.kind != "date":
            assert (one.low, one.high) == (other.low, other.high)
        assert other.center == pytest.approx(one.center, abs=0.2 * one.scale)
        assert other.scale == pytest.approx(one.scale, rel=0.2)
    assert {one.name for one in parts.schema.left_out} == {"id", "note"}


def test_what_is_wrong_far_down_is_refused(tmp_path):
    frame = a_table().astype({"visits": object})
    frame.loc[1900, "visits"] = "many"
    frame.to_csv(tmp_path / "x.csv", index=False)
    with pytest.raises(InputError, match=r"'visits' holds numbers, and other values .*'many'"):
        table_source(tmp_path / "x.csv", memory_limit=0)
    (tmp_path / "y.csv").write_text("a,b\n" + "1,2\n" * 3000 + "1,2,3\n")
    with pytest.raises(InputError, match="line 3002 has 3 cells; expected 2"):
        table_source(tmp_path / "y.csv", memory_limit=0)
    (tmp_path / "z.csv").write_text("a,b\n" + "1,2\n" * 3000 + "1\n")
    with pytest.raises(InputError, match=r"z\.csv: row 3001 has 1 cells"):
        table_source(tmp_path / "z.csv", memory_limit=0)


@pytest.mark.exhaustive
def test_memory_does_not_grow_with_the_table(tmp_path, monkeypatch):
    monkeypatch.setattr(large_tables, "_SAMPLE", 2000)
    monkeypatch.setattr(table_files, "_CHUNK_BYTES", 2**16)
    peaks = []
    for rows in (10_000, 40_000):
        path = tmp_path / f"{rows}.csv"
        a_table(rows).drop(columns=["born", "note"]).to_csv(path, index=False)
        tracemalloc.start()
        source = table_source(path, memory_limit=0)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert source.count == rows
    assert peaks[1] < 1.2 * peaks[0]


def test_splits_and_batches_of_what_is_on_the_disk(tmp_path):
    a_table().to_csv(tmp_path / "x.csv", index=False)
    whole, parts = (load(tmp_path / "x.csv", memory_limit=limit) for limit in (2**30, 0))
    assert whole.summary() == parts.summary()
    for split in ("train", "validation", "test"):
        one, other = (getattr(data, split).arrays()[0] for data in (whole, parts))
        np.testing.assert_array_equal(one, other)
