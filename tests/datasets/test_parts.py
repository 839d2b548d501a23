"""Many files under one pattern: as one file that has their rows, also where workers share them."""

import itertools

import numpy as np
import pandas as pd
import pytest
from picture_files import encoded
from reading_together import seen_by, together

from tfvae.datasets import PictureOptions, load, open_source
from tfvae.datasets.parts import exists, is_pattern
from tfvae.datasets.workers import Workers
from tfvae.errors import InputError

SIZES = (10, 13, 7, 20, 9)


def an_array(folder, ending, rng):
    """Write parts of images with labels, and one file with all of them."""
    x = rng.integers(0, 256, (sum(SIZES), 6, 5), np.uint8)
    y = rng.integers(0, 4, len(x))
    ends = np.cumsum([0, *SIZES])
    for part, (start, end) in enumerate(itertools.pairwise(ends)):
        rows = slice(start, end)
        if ending == "npy":
            np.save(folder / f"p-{part}.npy", x[rows])
        elif ending == "npz":
            np.savez(folder / f"p-{part}.npz", x=x[rows], y=y[rows])
        else:
            for name, array in (("images-idx3", x[rows]), ("labels-idx1", y[rows])):
                head = np.array([0x800 + array.ndim, *array.shape], ">u4").tobytes()
                path = folder / f"p{part}-train-{name}-ubyte"
                path.write_bytes(head + array.astype(np.uint8).tobytes())
    whole = folder.parent / "whole.npz"
    np.savez(whole, x=x, **({} if ending == "npy" else {"y": y}))
    return whole


def a_table(folder, ending, rng):
    n = sum(SIZES)
    frame = pd.DataFrame(
        {
            "height": rng.normal(170, 10, n).round(1),
            "visits": rng.poisson(3, n),
            "colour": rng.choice(["red", "green", "blue"], n),
            "member": np.where(rng.random(n) < 0.2, None, rng.choice(["yes", "no"], n)),
        }
    )
    # Rare, and in the last part alone.
    frame.loc[n - 1, ["colour", "height"]] = ["violet", 250.5]
    ends = np.cumsum([0, *SIZES])
    for part, (start, end) in enumerate(itertools.pairwise(ends)):
        write(frame[start:end], folder / f"p-{part}.{ending}")
    whole = folder.parent / f"whole.{ending}"
    write(frame, whole)
    return whole


def write(frame, path):
    if path.suffix == ".parquet":
        frame.reset_index(drop=True).to_parquet(path)
    else:
        frame.to_csv(path, index=False)


def pictures(folder, ending, rng):
    """Grey pictures, and in the last part one of colours."""
    tf = pytest.importorskip("tensorflow")
    files = [encoded(rng.integers(0, 256, (6, 5), np.uint8)) for _ in range(sum(SIZES) - 1)]
    files.append(encoded(rng.integers(0, 256, (6, 5, 3), np.uint8)))
    labels = rng.integers(0, 3, len(files))
    # One class is in the first part alone.
    labels[0] = 3
    ends = np.cumsum([0, *SIZES])
    whole = folder.parent / f"whole.{ending}"
    paths = [folder / f"p-{part}.{ending}" for part in range(len(SIZES))]
    for path, (start, end) in [
        (whole, (0, ends[-1])),
        *zip(paths, itertools.pairwise(ends), strict=True),
    ]:
        if ending == "parquet":
            rows = {"image": files[start:end], "label": labels[start:end]}
            pd.DataFrame(rows).to_parquet(path)
            continue
        with tf.io.TFRecordWriter(str(path)) as writer:
            for file, label in zip(files[start:end], labels[start:end], strict=True):
                features = {
                    "image": tf.train.Feature(bytes_list=tf.train.BytesList(value=[file])),
                    "label": tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
                }
                example = tf.train.Example(features=tf.train.Features(feature=features))
                writer.write(example.SerializeToString())
    return whole


KINDS = {
    "npy": (an_array, "*.npy"),
    "npz": (an_array, "*"),
    "idx": (an_array, "*images*"),
    "csv": (a_table, "*.csv"),
    "parquet": (a_table, "p-?.parquet"),
    "pictures.parquet": (pictures, "*.parquet"),
    "tfrecord": (pictures, "*"),
}


def parts(tmp_path, kind):
    """Give a folder of parts, the pattern in it, and the one file."""
    folder = tmp_path / "parts"
    folder.mkdir()
    make, pattern = KINDS[kind]
    return folder, pattern, make(folder, kind.split(".")[-1], np.random.default_rng(0))


def assert_same_events(one, other):
    for split in ("train", "validation", "test"):
        for a, b in zip(*(getattr(data, split).arrays() for data in (one, other)), strict=True):
            np.testing.assert_array_equal(a, b)
    assert (one.num_classes, one.schema, one.missing) == (
        other.num_classes,
        other.schema,
        other.missing,
    )


@pytest.mark.each_once
@pytest.mark.parametrize("memory_limit", [2**30, 0])
@pytest.mark.parametrize("kind", KINDS)
def test_parts_are_read_as_one_file_is(tmp_path, kind, memory_limit):
    folder, pattern, whole = parts(tmp_path, kind)
    found = load(str(folder / pattern), memory_limit=memory_limit)
    assert found.train.in_memory == (memory_limit > 0)
    assert_same_events(found, load(whole))


@pytest.mark.few(4)
@pytest.mark.parametrize("kind", KINDS)
def test_workers_that_see_their_own_files_alone_agree_with_one(tmp_path, kind):
    folder, pattern, whole = parts(tmp_path, kind)
    count = 2
    if kind == "idx":  # of images and labels every second file would be one or the other
        seen = dict.fromkeys(range(count), folder)
    else:
        seen = {index: seen_by(Workers(index, count), folder, count) for index in range(count)}
    whole = load(whole)
    for data in together(count, lambda w: load(str(seen[w.index] / pattern), workers=w)):
        assert_same_events(data, whole)
        assert "each of 2 workers reads its own of 5 files" in data.summary()
        assert len(data.train) == len(whole.train)
        assert data.train.digest() == whole.train.digest()


def test_files_come_in_the_order_of_their_numbers_and_from_any_folder(tmp_path):
    for part in (10, 2, 1):
        (tmp_path / f"{part}").mkdir()
        np.save(tmp_path / f"{part}" / "x.npy", np.full((2, 3), part, float))
    source = open_source(str(tmp_path / "**" / "*.npy"))
    events, _ = source.read(np.arange(6))
    assert events[:, 0].tolist() == [1, 1, 2, 2, 10, 10]


def test_a_pattern_is_no_path_that_exists(tmp_path):
    assert is_pattern(str(tmp_path / "*.npy"))
    assert not exists(str(tmp_path / "*.npy"))
    np.save(tmp_path / "a[1].npy", np.zeros((30, 3)))
    assert not is_pattern(tmp_path / "a[1].npy")
    assert open_source(tmp_path / "a[1].npy").count == 30
    assert exists(str(tmp_path / "*.npy"))
    assert not is_pattern("mnist-small")
    assert not is_pattern(pd.DataFrame({"a": [1]}))


def test_files_are_dealt_out_in_turn():
    assert [Workers(index, 3).deal("abcdefgh") for index in range(3)] == [
        ["a", "d", "g"],
        ["b", "e", "h"],
        ["c", "f"],
    ]


def test_with_fewer_files_than_workers_each_reads_all(tmp_path):
    np.save(tmp_path / "1.npy", np.arange(60.0).reshape(20, 3))
    for data in together(2, lambda w: load(str(tmp_path / "*.npy"), workers=w)):
        assert "1 files for 2 workers: each reads all of them" in data.summary()
        assert len(data.train.rows) == len(data.train) == 16


# --- what is told from all files together ---------------------------------------------------------


def test_values_of_all_parts_tell_what_they_are(tmp_path):
    # Bytes that stay below 32 would be refused alone; series have values that are no pixels.
    np.save(tmp_path / "a1.npy", np.full((5, 8, 8), 7, np.uint8))
    np.save(tmp_path / "a2.npy", np.full((5, 8, 8), 200, np.uint8))
    np.save(tmp_path / "b1.npy", np.full((5, 20, 30), 0.5))
    np.save(tmp_path / "b2.npy", np.full((5, 20, 30), [[np.nan] + [-2.0] * 29]))
    for source in together(2, lambda w: open_source(str(tmp_path / "a*.npy"), workers=w)):
        assert (source.values, source.value_range) == ((7, 200), (0, 255))
        assert source.event_shape == (8, 8, 1)
    for source in together(2, lambda w: open_source(str(tmp_path / "b*.npy"), workers=w)):
        assert (source.kind, source.missing, source.values) == ("series", True, (-2, 0.5))
        assert "1.67% of the values are missing (NaN)" in source.notes


def test_labels_of_all_parts_are_numbered_together(tmp_path):
    for part, names in enumerate((["b", "b"], ["a", "c"])):
        np.savez(tmp_path / f"{part}.npz", x=np.zeros((2, 3)), y=np.array(names))
        np.savez(tmp_path / f"n{part}.npz", x=np.zeros((2, 3)), y=np.array([0, 1 + part]))
    found = together(2, lambda w: open_source(str(tmp_path / "?.npz"), workers=w))
    assert [source.class_names for source in found] == [("a", "b", "c")] * 2
    assert found[0].read(np.array([0, 1]))[1].tolist() == [1, 1]
    assert found[1].read(np.array([2, 3]))[1].tolist() == [0, 2]
    found = together(2, lambda w: open_source(str(tmp_path / "n?.npz"), workers=w))
    assert [source.num_classes for source in found] == [3, 3]


def test_labels_that_some_parts_lack_are_left_aside(tmp_path):
    np.savez(tmp_path / "0.npz", x=np.zeros((2, 3)), y=np.array([0, 1]))
    np.savez(tmp_path / "1.npz", x=np.zeros((2, 3)))
    alone = open_source(str(tmp_path / "*.npz"))
    for source in (alone, *together(2, lambda w: open_source(str(tmp_path / "*.npz"), workers=w))):
        assert source.num_classes is None
        assert "no labels: 1 of 2 files have none" in source.notes


def test_a_sample_of_large_parts_tells_the_columns(tmp_path, monkeypatch):
    monkeypatch.setattr("tfvae.datasets.large_tables._SAMPLE", 500)
    rng = np.random.default_rng(0)
    # Sorted, so that the parts differ, and of different lengths.
    frame = pd.DataFrame({"a": np.sort(rng.normal(size=4000)), "b": rng.integers(0, 50, 4000)})
    for part, rows in enumerate((slice(0, 300), slice(300, 1000), slice(1000, 4000))):
        write(frame[rows], tmp_path / f"{part}.csv")
    whole = load(frame).schema.columns
    for data in together(3, lambda w: load(str(tmp_path / "*.csv"), workers=w)):
        for one, other in zip(whole, data.schema.columns, strict=True):
            assert (one.name, one.kind, one.low, one.high) == (
                other.name, other.kind, other.low, other.high,
            )  # fmt: skip
            assert other.center == pytest.approx(one.center, abs=0.2 * one.scale)
            assert other.scale == pytest.approx(one.scale, rel=0.2)


def test_damaged_pictures_are_left_out_of_their_own_files(tmp_path):
    folder, pattern, _ = parts(tmp_path, "pictures.parquet")
    frame = pd.read_parquet(folder / "p-1.parquet")
    frame.loc[3, "image"] = b"damaged"
    frame.to_parquet(folder / "p-1.parquet")
    options = PictureOptions(skip_damaged=True)
    pattern = str(folder / pattern)
    alone = open_source(pattern, pictures=options)
    assert alone.count == sum(SIZES) - 1
    for source in together(2, lambda w: open_source(pattern, pictures=options, workers=w)):
        assert np.diff(source.shares.starts).tolist() == [10, 12, 7, 20, 9]
        rows = np.arange(source.count)
        own = rows[source.shares.owner(rows) == source.shares.workers.index]
        for one, other in zip(source.read(own), alone.read(own), strict=True):
            np.testing.assert_array_equal(one, other)
        assert any("damaged and left out: " in note and "row 3" in note for note in source.notes)


# --- refusals -------------------------------------------------------------------------------------


def refused(tmp_path, pattern, match):
    """Refused in one line by one process, and by two workers alike."""
    arguments = str(tmp_path / pattern)
    with pytest.raises(InputError, match=match) as info:
        open_source(arguments)
    assert "\n" not in str(info.value)
    for error in together(2, lambda w: open_source(arguments, workers=w)):
        assert isinstance(error, InputError)
        assert "\n" not in str(error)


def test_what_does_not_fit_together_is_refused(tmp_path):
    np.save(tmp_path / "a1.npy", np.zeros((4, 3)))
    np.save(tmp_path / "a2.npy", np.zeros((4, 2)))
    refused(tmp_path, "a*", "a1.npy rows are 3 float32, but the .*a2.npy rows are 2 float32")
    (tmp_path / "a3.csv").write_text("a,b\n1,2\n")
    refused(tmp_path, "a*", "expected files of one kind; received .csv, .npy")
    (tmp_path / "b1.csv").write_text("a,b\n1,2\n3,4\n")
    (tmp_path / "b2.csv").write_text("a,c\n1,2\n")
    refused(tmp_path, "b*", "b2.csv: expected the columns of .*b1.csv; it lacks 'b' and has 'c'")
    np.savez(tmp_path / "c1.npz", x_train=np.zeros((4, 3)), x_test=np.zeros((4, 3)))
    refused(tmp_path, "c*", "expected events of one split in each .*; received train, test")
    (tmp_path / "d1.xlsx").write_bytes(b"")
    refused(tmp_path, "d*", "Excel files are read one at a time")
    (tmp_path / "e1.xyz").write_bytes(b"")
    refused(tmp_path, "e*", "expected files of a pattern to be IDX")
    refused(tmp_path, "f*", "no such file: nothing matches")


def test_a_folder_of_parts_is_refused_with_the_pattern_that_reads_it(tmp_path):
    a_table(tmp_path, "csv", np.random.default_rng(0))
    with pytest.raises(
        InputError, match=r"it holds others: 5 \.csv: the pattern '.*' reads these"
    ) as info:
        load(tmp_path)
    assert f"'{tmp_path}/*.csv'" in str(info.value)
    assert len(load(f"{tmp_path}/*.csv").train) == 47


def test_what_one_worker_cannot_read_all_refuse(tmp_path):
    np.save(tmp_path / "0.npy", np.zeros((4, 3)))
    (tmp_path / "1.npy").write_bytes(b"damaged")
    errors = together(2, lambda w: open_source(str(tmp_path / "*.npy"), workers=w))
    assert all(isinstance(error, InputError) for error in errors)
    assert str(errors[0]) == str(errors[1])
    assert "1.npy is not a readable array" in str(errors[0])


def test_workers_that_see_other_names_are_refused(tmp_path):
    for index in range(2):
        (tmp_path / f"{index}").mkdir()
        for part in range(2):
            np.save(tmp_path / f"{index}" / f"{part + index}.npy", np.zeros((4, 3)))
    for error in together(
        2, lambda w: open_source(str(tmp_path / f"{w.index}" / "*.npy"), workers=w)
    ):
        assert isinstance(error, InputError)
        assert "sees other files than worker" in str(error)
        assert "such as 0.npy: let all see the same names" in str(error)
