"""Codes of whole data sets in a file, and what kills, damage and mistakes leave of them."""

import dataclasses
import json
import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor

import embedding_job
import numpy as np
import processes
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from embedding_job import SMALL, digits, model

import tfvae
from tfvae.datasets.source import SPLITS
from tfvae.distributions.kl import exact_kl
from tfvae.saving.locks import locked
from tfvae.saving.run import TrainedModel
from tfvae.serving import embedding, parts

MOMENTS = [
    "a part half written",
    "a part renamed",
    "the file half written",
    "the file renamed",
]


@pytest.fixture(scope="module")
def data():
    return digits()


@pytest.fixture(scope="module")
def vae():
    return model()


@pytest.fixture(scope="module")
def whole(vae, data, tmp_path_factory):
    """The file of a run in small parts that nothing has stopped."""
    out = tmp_path_factory.mktemp("whole") / "embeddings.parquet"
    assert embedding.encode(vae, data, out, **SMALL).resumed == 0
    assert [path.name for path in out.parent.iterdir()] == [out.name]
    return out.read_bytes()


def hidden(out):
    return out.parent / f".{out.name}.parts"


def part_files(out):
    return sorted(hidden(out).glob("*.part"))


def rows(out, split):
    table = pq.read_table(out)
    return table.filter(pa.compute.equal(table["split"], split))


def vectors(column):
    return np.stack(column.to_numpy())


def interrupted(vae, data, out, monkeypatch, after=5):
    """Leave the parts of a run that has met an error."""

    def stop(*_):
        raise InterruptedError

    with monkeypatch.context() as patch, pytest.raises(InterruptedError):
        write = embedding_job.counted(parts.Parts.write, after, after=stop)
        patch.setattr(parts.Parts, "write", write)
        embedding.encode(vae, data, out, **SMALL)
    assert len(part_files(out)) == after


# --- what is in the file --------------------------------------------------------------------------


def test_the_file_holds_what_the_model_says_of_each_image(vae, data, tmp_path):
    out = tmp_path / "new" / "embeddings.parquet"
    facts = embedding.encode(vae, data, out)
    assert facts.columns == ("split", "row", "label", "code", "scale", "kl")
    assert facts.events == 1797 == sum(facts.splits.values()) and facts.resumed == 0
    assert json.loads(json.dumps(facts.as_dict()))["out"] == str(out)
    assert pq.read_table(out)["split"].to_pylist() == [
        split for split in SPLITS for _ in range(len(getattr(data, split)))
    ]
    for split in SPLITS:
        # Binarized anew each epoch, the training images are those of epoch 0 and the same batches.
        images, labels = getattr(data, split).arrays()
        q = vae.encode(images)
        found = rows(out, split)
        np.testing.assert_array_equal(found["row"], np.arange(len(images)))
        np.testing.assert_array_equal(found["label"], labels)
        np.testing.assert_allclose(vectors(found["code"]), q.mean(), atol=1e-5)
        np.testing.assert_allclose(vectors(found["scale"]), q.stddev(), rtol=1e-5)
        np.testing.assert_allclose(found["kl"], exact_kl(q, vae.prior), rtol=1e-4)


def test_columns_have_the_types_that_readers_expect(vae, data, tmp_path):
    out = tmp_path / "embeddings.parquet"
    embedding.encode(vae, data, out, splits="test")
    schema = pq.read_schema(out)
    vector = pa.list_(pa.float32(), 3)
    expected = [pa.dictionary(pa.int32(), pa.string()), pa.int64(), pa.int32()]
    assert schema.types == [*expected, vector, vector, pa.float32()]


@pytest.mark.parametrize(
    ("options", "columns"),
    [
        ({"posterior": "full_normal"}, ["code", "scale", "kl"]),
        ({"posterior": "iaf:flows=1,hidden=4"}, ["code"]),
        ({"prior": "vamp:pseudo_inputs=3"}, ["code", "scale"]),
    ],
)
def test_a_column_is_there_only_where_it_has_a_closed_form(options, columns, data, tmp_path):
    out = tmp_path / "embeddings.parquet"
    vae = model(**options)
    embedding.encode(vae, data, out, splits="test")
    assert pq.read_schema(out).names == ["split", "row", "label", *columns]
    codes = vae.code(data.test.arrays()[0])
    np.testing.assert_allclose(vectors(pq.read_table(out)["code"]), codes, atol=1e-5)


def test_images_without_labels_have_no_such_column(vae, tmp_path):
    np.save(tmp_path / "images.npy", np.eye(8, dtype="float32")[None].repeat(20, 0))
    data = tfvae.datasets.load(tmp_path / "images.npy")
    embedding.encode(vae, data, tmp_path / "embeddings.parquet")
    assert "label" not in pq.read_schema(tmp_path / "embeddings.parquet").names


def test_a_conditional_model_is_given_the_labels(data, tmp_path):
    vae = model(num_classes=10, prior="class_normal")
    out = tmp_path / "embeddings.parquet"
    embedding.encode(vae, data, out, splits="test")
    images, labels = data.test.arrays()
    q = vae.encode(images, labels)
    found = pq.read_table(out)
    np.testing.assert_allclose(vectors(found["code"]), q.mean(), atol=1e-5)
    np.testing.assert_allclose(found["kl"], exact_kl(q, vae.prior_of(labels)), rtol=1e-4)
    other = vae.encode(images, (labels + 1) % 10).mean()
    assert not np.allclose(vectors(found["code"]), other, atol=1e-3)


@pytest.mark.exhaustive
def test_a_limit_takes_the_first_images_of_each_split(vae, data, whole, tmp_path):
    out = tmp_path / "embeddings.parquet"
    everything = tmp_path / "everything.parquet"
    everything.write_bytes(whole)
    facts = embedding.encode(vae, data, out, splits=["test", "train"], **{**SMALL, "limit": 30})
    assert facts.splits == {"train": 30, "test": 30}
    assert pq.read_table(out)["split"].unique().to_pylist() == ["train", "test"]
    for split in ("train", "test"):
        assert rows(out, split).equals(rows(everything, split).slice(0, 30))


def test_the_metadata_say_how_to_make_the_file_again(vae, data, tmp_path):
    out, file = tmp_path / "embeddings.parquet", tmp_path / "model.keras"
    vae.save(file)
    trained = TrainedModel.open(file)
    embedding.encode(trained, data, out, splits="test", limit=10)
    facts = json.loads(pq.read_schema(out).metadata[b"tfvae"])
    assert facts["tfvae"] == tfvae.__version__
    assert facts["path"] == str(file)
    assert facts["model"]["latent_dim"] == 3
    assert facts["model"]["posterior"] == "DiagonalNormal"
    assert facts["options"] == {"splits": ["test"], "limit": 10, "batch_size": 256}
    again = tfvae.datasets.load(**facts["data"])
    np.testing.assert_array_equal(again.test.arrays(10)[0], data.test.arrays(10)[0])


def test_a_row_group_holds_images_of_one_split(vae, data, monkeypatch, tmp_path):
    monkeypatch.setattr(embedding, "_GROUP_EVENTS", 64)
    out = tmp_path / "embeddings.parquet"
    embedding.encode(vae, data, out, limit=100, batch_size=16, part_events=32)
    file = pq.ParquetFile(out)
    groups = [file.read_row_group(index) for index in range(file.num_row_groups)]
    assert [len(group) for group in groups] == [64, 36] * 3
    assert [group["split"].unique().to_pylist() for group in groups] == [
        [split] for split in SPLITS for _ in range(2)
    ]


def test_a_bar_shows_images_a_second(vae, data, tmp_path, capsys):
    embedding.encode(vae, data, tmp_path / "embeddings.parquet", limit=100, progress=True)
    assert "images/s" in capsys.readouterr().err


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.exhaustive
def test_a_file_that_is_there_stays_unless_it_may_be_replaced(vae, data, whole, tmp_path):
    out = tmp_path / "embeddings.parquet"
    out.write_text("mine")
    with pytest.raises(tfvae.InputError, match=r"embeddings.parquet exists"):
        embedding.encode(vae, data, out, **SMALL)
    assert out.read_text() == "mine"
    assert list(tmp_path.iterdir()) == [out]
    embedding.encode(vae, data, out, overwrite=True, **SMALL)
    assert out.read_bytes() == whole
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"splits": "tests"}, "splits are some of train, validation, test; received 'tests'"),
        ({"splits": []}, "splits are some of"),
        ({"limit": 0}, "limit is a whole number from 1; received 0"),
        ({"batch_size": 0}, "batch_size is a whole number from 1; received 0"),
        ({"part_events": 0.5}, "part_events is a whole number from 1; received 0.5"),
    ],
)
def test_an_option_that_does_not_fit_is_one_line(options, message, vae, data, tmp_path):
    with pytest.raises(tfvae.InputError, match=message):
        embedding.encode(vae, data, tmp_path / "embeddings.parquet", **options)
    assert not list(tmp_path.iterdir())


def test_only_parquet_files_are_written(vae, data, tmp_path):
    with pytest.raises(tfvae.InputError, match=r"a .parquet file; received .*codes.csv"):
        embedding.encode(vae, data, tmp_path / "codes.csv")
    (tmp_path / "folder.parquet").mkdir()
    with pytest.raises(tfvae.InputError, match=r"folder.parquet exists"):
        embedding.encode(vae, data, tmp_path / "folder.parquet", overwrite=True)


def test_a_model_and_images_that_do_not_fit_are_one_line(data, vae, tmp_path):
    out = tmp_path / "embeddings.parquet"
    with pytest.raises(tfvae.InputError, match=r"takes images \(9, 9, 1\); digits has \(8, 8, 1\)"):
        embedding.encode(tfvae.VAE.for_images((9, 9, 1), network="dense"), data, out)
    with pytest.raises(tfvae.InputError, match=r"expected a VAE, .* received Autoencoder"):
        embedding.encode(tfvae.Autoencoder.for_images((8, 8, 1), network="dense"), data, out)
    np.save(tmp_path / "images.npy", np.full((20, 8, 8), 255.0, "float32"))
    other = tfvae.datasets.load(tmp_path / "images.npy")
    with pytest.raises(tfvae.InputError, match=r"conditional, and .*images.npy has no labels"):
        embedding.encode(model(num_classes=10), other, out)
    with pytest.raises(tfvae.InputError, match=r"received values from 255 to 255: scale"):
        embedding.encode(vae, other, out)
    assert not out.exists()


def test_without_pyarrow_the_extra_is_named(vae, data, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(tfvae.InputError, match=r"pip install 'tfvae\[parquet\]'"):
        embedding.encode(vae, data, tmp_path / "embeddings.parquet")
    assert not list(tmp_path.iterdir())


# --- what is gone on from -------------------------------------------------------------------------


@pytest.mark.exhaustive
def test_finished_parts_are_not_made_again(vae, data, whole, monkeypatch, tmp_path):
    out = tmp_path / "embeddings.parquet"
    interrupted(vae, data, out, monkeypatch, after=12)
    facts = embedding.encode(vae, data, out, **SMALL)
    assert facts.resumed == 48
    assert out.read_bytes() == whole
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.exhaustive
def test_a_damaged_part_is_made_again(vae, data, whole, monkeypatch, tmp_path):
    out = tmp_path / "embeddings.parquet"
    interrupted(vae, data, out, monkeypatch, after=12)
    _, shortened, empty, changed, *_ = part_files(out)
    shortened.write_bytes(shortened.read_bytes()[:-7])
    empty.write_bytes(b"")
    content = bytearray(changed.read_bytes())
    content[len(content) // 2] ^= 1
    changed.write_bytes(content)
    assert embedding.encode(vae, data, out, **SMALL).resumed == 4 * 9
    assert out.read_bytes() == whole


def crafted(out, change):
    """Exchange the first part for one with other rows, whose digest is right."""
    path = part_files(out)[0]
    with pa.ipc.open_stream(path.read_bytes()) as stream:
        rows = stream.read_all()
    sink = pa.BufferOutputStream()
    changed = change(rows)
    with pa.ipc.new_stream(sink, changed.schema) as stream:
        stream.write_table(changed)
    content = sink.getvalue()
    name = path.name.rpartition("-")[0]
    path.unlink()
    (path.parent / parts._file_name(name, content)).write_bytes(content)


def with_row(table, number):
    place = table.schema.get_field_index("row")
    return table.set_column(place, table.schema.field("row"), pa.array([number] * len(table)))


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    "change",
    [
        lambda table: table.slice(1),
        lambda table: table.slice(0, 0),
        lambda table: pa.concat_tables([table, table]),
        lambda table: with_row(table, 10**6),
        lambda table: table.drop_columns(["code"]),
    ],
    ids=["a row less", "no row", "twice", "other rows", "no codes"],
)
def test_a_crafted_part_is_made_again(vae, data, whole, monkeypatch, tmp_path, change):
    out = tmp_path / "embeddings.parquet"
    interrupted(vae, data, out, monkeypatch)
    crafted(out, change)
    assert embedding.encode(vae, data, out, **SMALL).resumed == 4 * 4
    assert out.read_bytes() == whole


def test_two_at_once_do_not_mix_their_parts(vae, data, tmp_path):
    out = tmp_path / "embeddings.parquet"
    with locked(hidden(out)), ThreadPoolExecutor(1) as other:
        found = other.submit(embedding.encode, vae, data, out, **SMALL)
        with pytest.raises(tfvae.InputError, match="is in use by process"):
            found.result()


def test_parts_whose_job_cannot_be_read_are_begun_anew(vae, data, whole, monkeypatch, tmp_path):
    out = tmp_path / "embeddings.parquet"
    interrupted(vae, data, out, monkeypatch)
    (hidden(out) / "job.json").write_text("{")
    assert embedding.encode(vae, data, out, **SMALL).resumed == 0
    assert out.read_bytes() == whole


@pytest.mark.exhaustive
def test_parts_of_other_work_are_refused_and_kept(vae, data, monkeypatch, tmp_path):
    out = tmp_path / "embeddings.parquet"
    interrupted(vae, data, out, monkeypatch)
    before = part_files(out)
    for change, differing in [
        ({"data": {"seed": 4}}, "data, events"),
        ({"data": {"binarize": "none"}}, "data, events"),
        ({"options": {"limit": 50}}, "options"),
        ({"options": {"splits": "train"}}, "options, events"),
        ({"options": {"batch_size": 2}}, "options"),
        ({"options": {"part_events": 8}}, "part_events"),
        ({"model": {"seed": 1}}, "model"),
    ]:
        load = {"binarize": "dynamic", "seed": 3, **change.get("data", {})}
        arguments = (model(**change.get("model", {})), tfvae.datasets.load("digits", **load))
        options = {**SMALL, **change.get("options", {})}
        with pytest.raises(tfvae.InputError, match=f"what differs is: {differing}:"):
            embedding.encode(*arguments, out, **options)
        assert part_files(out) == before and not out.exists()
    assert embedding.encode(*arguments, out, overwrite=True, **options).resumed == 0
    clean = tmp_path / "clean.parquet"
    embedding.encode(*arguments, clean, **options)
    assert out.read_bytes() == clean.read_bytes()


def test_other_images_in_the_same_file_are_other_work(vae, monkeypatch, tmp_path):
    images = digits().test.arrays()[0]
    file, out = tmp_path / "images.npy", tmp_path / "embeddings.parquet"
    np.save(file, images)
    interrupted(vae, tfvae.datasets.load(file), out, monkeypatch)
    np.save(file, 1 - images)
    with pytest.raises(tfvae.InputError, match="what differs is: events:"):
        embedding.encode(vae, tfvae.datasets.load(file), out, **SMALL)


@pytest.mark.exhaustive
@pytest.mark.parametrize("how", ["rebuilt", "read"])
def test_a_model_is_known_again_whatever_names_keras_gives(how, vae, data, monkeypatch, tmp_path):
    out = tmp_path / "embeddings.parquet"
    interrupted(vae, data, out, monkeypatch)
    if how == "rebuilt":
        _, again = model(), model()
        assert again.posterior_family.name != vae.posterior_family.name
        again.sample(1)  # draws change its own seeds, and no code
    else:
        vae.save(tmp_path / "model.keras")
        again = TrainedModel.open(tmp_path / "model.keras")
    assert embedding.encode(again, data, out, **SMALL).resumed == 20


@pytest.mark.exhaustive
def test_ctrl_c_leaves_parts_to_go_on_from(vae, data, whole, monkeypatch, tmp_path):
    out = tmp_path / "embeddings.parquet"
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop = embedding_job.counted(
            embedding.Encoder.__call__, 13, before=lambda *_: os.kill(os.getpid(), signal.SIGINT)
        )
        patch.setattr(embedding.Encoder, "__call__", stop)
        embedding.encode(vae, data, out, **SMALL)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert not out.exists()
    assert embedding.encode(vae, data, out, **SMALL).resumed == 48
    assert out.read_bytes() == whole


@pytest.mark.exhaustive
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_kill_at_the_worst_moment_changes_nothing(moment, vae, data, whole, tmp_path):
    out = tmp_path / "embeddings.parquet"
    assert processes.run(embedding_job.job, out, moment) == "killed"
    assert out.exists() == (moment == "the file renamed")
    assert embedding.encode(vae, data, out, overwrite=out.exists(), **SMALL).resumed > 0
    assert out.read_bytes() == whole
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.exhaustive
def test_memory_does_not_grow_with_the_images(tmp_path):
    assert processes.run(embedding_job.stay_small, tmp_path) == "done"
    assert [pq.read_metadata(tmp_path / f"{i}.parquet").num_rows for i in (0, 3)] == [1024, 10240]


# --- events of any kind ---------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(5,), (4, 5, 3, 1)])
def test_events_of_any_rank_with_holes(shape, tmp_path):
    x = np.random.default_rng(0).normal(size=(40, *shape)).astype("float32")
    x[::3, 0] = np.nan
    np.savez(tmp_path / "data.npz", x=x) if len(shape) == 4 else np.save(tmp_path / "data.npy", x)
    data = tfvae.datasets.load(next(tmp_path.iterdir()))
    assert (data.event_shape, data.missing) == (shape, True)
    options = {"latent_dim": 3, "network": "dense", "likelihood": "normal", "seed": 0}
    vae = tfvae.VAE.for_events(shape, missing=True, **options)
    out = tmp_path / "embeddings.parquet"
    assert embedding.encode(vae, data, out).events == 40
    codes = vae.code(data.test.arrays()[0])
    np.testing.assert_allclose(vectors(rows(out, "test")["code"]), codes, atol=1e-5)
    facts = json.loads(pq.read_schema(out).metadata[b"tfvae"])
    again = tfvae.datasets.load(**facts["data"])
    np.testing.assert_array_equal(again.test.arrays()[0], data.test.arrays()[0])
    with pytest.raises(tfvae.InputError, match=r"has missing values, and the model takes none"):
        embedding.encode(tfvae.VAE.for_events(shape, **options), data, tmp_path / "o.parquet")


def test_a_model_and_data_of_another_kind_are_one_line(data, tmp_path):
    vae = tfvae.VAE.for_events((24, 1), network="dense", seed=0)
    with pytest.raises(tfvae.InputError, match=r"takes series \(24, 1\); digits has images \(8, 8"):
        embedding.encode(vae, data, tmp_path / "embeddings.parquet")


def test_the_names_of_files_are_a_column(vae, data, tmp_path, monkeypatch):
    named = tuple(f"{row}.png" for row in range(1797))
    for split in SPLITS:
        source = getattr(data, split).source
        monkeypatch.setattr(
            getattr(data, split), "_source", dataclasses.replace(source, names=named)
        )
    out = tmp_path / "embeddings.parquet"
    embedding.encode(vae, data, out, splits="test", batch_size=64, part_events=64)
    found = rows(out, "test")["name"].to_pylist()
    assert found == [f"{row}.png" for row in data.test.rows]
