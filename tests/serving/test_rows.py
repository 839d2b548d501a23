"""Signatures that take a table's columns by name: the numbers are those that the schema makes."""

import re

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from model_server import model_server

import tfvae
from tfvae.datasets import Schema
from tfvae.datasets.column import level_key
from tfvae.saving import card
from tfvae.saving.card import Card
from tfvae.serving.client import Client
from tfvae.serving.export import export_saved_model
from tfvae.serving.rows import column_groups, row_signatures
from tfvae.serving.signatures import signatures


def people(n=200, holes=True):
    """Rows of which each kind of column has one."""
    rng = np.random.default_rng(0)
    seconds = rng.integers(-2_000_000_000, 2_000_000_000, n)
    frame = pd.DataFrame(
        {
            "size <cm>": rng.normal(170, 8, n).round(1),
            "income": np.exp(rng.normal(8, 2, n)),
            "share": rng.random(n).round(3),
            "visits": rng.poisson(3, n),
            "class": np.array(["a", "b", 'ü,"c'])[rng.integers(0, 3, n)],
            "grade": rng.integers(1, 4, n),
            "member": rng.random(n) < 0.3,
            "born": pd.to_datetime(seconds // 86_400 * 86_400, unit="s"),
            "seen": pd.to_datetime(seconds, unit="s"),
            "kind": np.array(["x", "y"])[rng.integers(0, 2, n)],
        }
    )
    if holes:
        for place, name in enumerate(frame.columns[:-1]):
            frame[name] = frame[name].mask(np.arange(n) % 11 == place)
    return frame


KINDS = {"share": "fraction", "visits": "count", "grade": "ordered"}


def as_text(values, is_day):
    text = values.dt.strftime("%Y-%m-%d" if is_day else "%Y-%m-%dT%H:%M:%S")
    return text.where(values.notna(), "").tolist()


def text_of(levels):
    text = ["" if pd.isna(one) else level_key(one) for one in levels]
    return tf.constant(text, tf.string)


def requested(frame):
    """What a client sends for rows."""
    names = ["size__cm_", "income", "share", "visits", "column_class", "grade", "member"]
    found = {}
    for name, column in zip(names, frame.columns, strict=False):
        values = frame[column]
        if column in ("class", "grade", "member"):
            found[name] = text_of(values)
        else:
            found[name] = tf.constant(values.to_numpy(float, na_value=np.nan), tf.float64)
    found["born"] = tf.constant(as_text(frame["born"], True), tf.string)
    found["seen"] = tf.constant(as_text(frame["seen"], False), tf.string)
    return found | {"kind": text_of(frame["kind"])}


@pytest.fixture(scope="module")
def table():
    frame = people()
    schema = Schema.from_frame(frame, columns=KINDS, label="kind")
    kinds = [column.kind for column in schema.columns]
    assert kinds == [
        "number", "number", "fraction", "count", "category", "ordered", "boolean", "date", "date",
    ]  # fmt: skip
    assert schema.columns[1].log
    vae = tfvae.VAE.for_events(
        (9,),
        likelihood=schema.likelihood(),
        latent_dim=2,
        network="dense:hidden=8",
        num_classes=2,
        missing=True,
        seed=0,
    )
    return frame, schema, vae


@pytest.fixture(scope="module")
def served(table, tmp_path_factory):
    _, schema, vae = table
    path = tmp_path_factory.mktemp("rows") / "model"
    names = export_saved_model(vae, path, card=Card(schema=schema), num_samples=20)
    model = tf.saved_model.load(str(path))
    assert set(names) < set(model.signatures)
    return model.signatures, path


def test_the_names_of_inputs_are_those_of_the_columns(served):
    signatures, path = served
    text = (path / "README.md").read_text("utf-8")
    for name in ("reconstruct", "encode", "elbo", "log_prob", "anomaly_score", "impute", "sample"):
        assert f"{name}_rows" in signatures
        assert f"`{name}_rows`" in text
    inputs = signatures["encode_rows"].structured_input_signature[1]
    assert {name: spec.dtype.name for name, spec in inputs.items()} == {
        "size__cm_": "float64",
        "income": "float64",
        "share": "float64",
        "visits": "float64",
        "column_class": "string",
        "grade": "string",
        "member": "string",
        "born": "string",
        "seen": "string",
        "kind": "string",
    }


def test_the_readme_of_a_wide_table_names_the_first_columns_alone():
    spec = {"shape": [None], "dtype": "float64"}
    assert card.in_words({f"c{n}": spec for n in range(16)}).count("float64") == 16
    text = card.in_words({f"c{n}": spec for n in range(200)})
    assert text.count("float64") == 8
    assert text.endswith("c7 `[B]` float64, 192 more, in card.json")


def test_rows_become_the_events_that_the_schema_makes(table, served):
    frame, schema, _ = table
    events, labels = schema.to_events(frame), schema.to_labels(frame)
    assert np.isnan(events).any(axis=0).all()
    found = served[0]["encode_rows"](**requested(frame))
    expected = served[0]["encode"](x=tf.constant(events), label=tf.constant(labels))
    for name in ("loc", "scale"):
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-5, atol=1e-6)
    # The numbers themselves, to float32.
    given = requested(frame)
    values = [one.numpy() for one in given.values()]
    for group in column_groups(schema.columns, missing=True):
        mine = group.events(tf.stack([values[place] for place in group.places], axis=1))
        theirs = events[:, group.places]
        np.testing.assert_allclose(mine.numpy().astype(np.float32), theirs, rtol=2e-7)


def test_densities_are_those_of_the_tables_own_units(table, served):
    frame, schema, _ = table
    events, labels = schema.to_events(frame), schema.to_labels(frame)
    seed = tf.constant(np.arange(400).reshape(200, 2), tf.int32)
    shift = schema.log_abs_det_jacobian(events)
    assert np.ptp(shift) > 1
    for name, changed in (("log_prob", {"log_prob"}), ("elbo", {"elbo", "log_likelihood"})):
        found = served[0][f"{name}_rows"](**requested(frame), seed=seed)
        plain = served[0][name](x=tf.constant(events), label=tf.constant(labels), seed=seed)
        for key, value in plain.items():
            expected = value + shift if key in changed else value
            np.testing.assert_allclose(found[key], expected, rtol=1e-5, atol=1e-4)
    score = served[0]["anomaly_score_rows"](**requested(frame))
    plain = served[0]["anomaly_score"](x=tf.constant(events), label=tf.constant(labels))
    np.testing.assert_allclose(score["score"], plain["score"], rtol=1e-5)


def test_holes_are_filled_and_the_rest_comes_back_as_it_was(table, served):
    frame, schema, _ = table
    events, labels = schema.to_events(frame), schema.to_labels(frame)
    seed = tf.constant(np.arange(400).reshape(200, 2), tf.int32)
    given = requested(frame)
    filled = served[0]["impute_rows"](**given, seed=seed)
    plain = served[0]["impute"](x=tf.constant(events), label=tf.constant(labels), seed=seed)["x"]
    expected = schema.to_frame(plain.numpy())
    for column, name in zip(schema.columns, given, strict=False):
        value = filled[name].numpy()
        if value.dtype == object:
            value = np.array([one.decode() for one in value])
        holes = frame[column.name].isna().to_numpy()
        assert holes.any()
        mine = given[name].numpy()
        mine = np.array([one.decode() for one in mine]) if mine.dtype == object else mine
        np.testing.assert_array_equal(value[~holes], mine[~holes])
        back = expected[column.name][holes]
        if column.kind == "date":
            back = as_text(back, column.decimals == 0)
        if column.levels:
            assert value[holes].tolist() == [str(one) for one in back]
        elif column.kind == "date":
            # float32 leaves some minutes of a century open.
            near = pd.to_datetime(list(value[holes])) - pd.to_datetime(list(back))
            assert abs(near).max() <= pd.Timedelta(days=1)
        else:
            np.testing.assert_allclose(value[holes], back.to_numpy(float), rtol=1e-4, atol=0.011)


@pytest.mark.exhaustive
def test_a_server_takes_rows_over_both_of_its_interfaces(table, served):
    seed = np.arange(6).reshape(3, 2)
    given = requested(table[0][:3])
    expected = served[0]["impute_rows"](**given, seed=tf.constant(seed, tf.int32))
    # As a client has them: text, and lists of numbers.
    plain = {
        name: [one.decode() for one in value.numpy()] if value.dtype == tf.string else value.numpy()
        for name, value in given.items()
    }
    with model_server(served[1], served[0]) as addresses:
        for address in addresses:
            found = Client(address)("impute_rows", seed=seed, **plain)
            for name, value in expected.items():
                np.testing.assert_array_equal(found[name], value.numpy())


def test_made_up_rows_are_draws_that_depend_on_their_seed_alone(table, served):
    _, schema, _ = table
    seed = tf.constant(np.arange(100).reshape(50, 2), tf.int32)
    kind = tf.constant(["y"] * 50)
    rows = served[0]["sample_rows"](seed=seed, kind=kind)
    again = served[0]["sample_rows"](seed=seed[7:9], kind=kind[7:9])
    for name, values in rows.items():
        if values.dtype == tf.string:
            np.testing.assert_array_equal(values[7:9], again[name])
        else:
            np.testing.assert_allclose(values[7:9], again[name], rtol=1e-5)
    assert {one.decode() for one in rows["column_class"].numpy()} == {"a", "b", 'ü,"c'}
    assert {one.decode() for one in rows["member"].numpy()} == {"True", "False"}
    assert len(np.unique(rows["visits"])) > 2
    low, high = schema.columns[0].low, schema.columns[0].high
    assert ((rows["size__cm_"] >= low) & (rows["size__cm_"] <= high)).numpy().all()
    # As a frame they are rows of the table.
    frame = pd.DataFrame({"born": [one.decode() for one in rows["born"].numpy()]})
    assert pd.to_datetime(frame["born"]).notna().all()


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("column_class", "d", "column class: expected one of a, b"),
        ("grade", "4", "column grade: expected one of 1, 2, 3"),
        ("visits", 1.5, "column visits: expected whole numbers from 0"),
        ("share", 1.5, "column share: expected numbers from 0 to 1"),
        ("income", 0.0, "column income: expected numbers above 0"),
        ("size__cm_", np.inf, "column size <cm>: expected finite numbers"),
        ("born", "31.12.2020", "column born: expected dates such as 2020-12-31"),
        ("born", "2021-02-29", "column born: expected dates such as 2020-12-31"),
        ("seen", "2021-02-28T24:00", "column seen: expected dates such as 2020-12-31"),
        ("kind", "", "column kind: expected a value in each row"),
        ("kind", "z", "column kind: expected one of x, y"),
    ],
)
def test_values_that_do_not_belong_to_their_column_are_refused(table, name, value, says):
    frame, schema, _ = table
    given = requested(frame[:3])
    values = given[name].numpy()
    values[1] = value
    given[name] = tf.constant(values)
    *columns, label = given.values()
    # One by one: an error within a graph takes a second.
    with pytest.raises(tf.errors.InvalidArgumentError, match=re.escape(says)):
        for group in column_groups(schema.columns, missing=True):
            group.events(tf.stack([columns[place] for place in group.places], axis=1))
        (group,) = column_groups([schema.label], missing=False)
        group.events(label[:, None])


def test_a_value_that_does_not_belong_to_its_column_ends_the_call(table, served):
    given = requested(table[0][:3]) | {"grade": tf.constant(["1", "4", "1"])}
    with pytest.raises(tf.errors.InvalidArgumentError, match="column grade: expected one of 1, 2"):
        served[0]["encode_rows"](**given)


def test_a_batch_may_be_empty_and_a_model_may_take_no_holes(table, served):
    given = requested(table[0][:0])
    assert served[0]["encode_rows"](**given)["loc"].shape == (0, 2)
    frame = people(holes=False)[["visits", "class"]]
    schema = Schema.from_frame(frame, columns={"visits": "count"})
    vae = tfvae.VAE.for_events(
        (2,), likelihood=schema.likelihood(), latent_dim=2, network="dense:hidden=8", seed=0
    )
    rows = {one.name: one for one in row_signatures(vae, signatures(vae), schema)}
    assert "impute_rows" not in rows
    full = (tf.constant([1.0, 2.0], tf.float64), tf.constant(["a", "b"]))
    assert rows["encode_rows"].function(*full)["loc"].shape == (2, 2)
    with pytest.raises(tf.errors.InvalidArgumentError, match="class: expected a value in each"):
        rows["encode_rows"].function(full[0], tf.constant(["a", ""]))


@pytest.mark.exhaustive
def test_codes_of_rows():
    frame = people(holes=False)[["size <cm>", "class"]]
    schema = Schema.from_frame(frame)
    vq = tfvae.VQVAE.for_events(
        (2,), likelihood=schema.likelihood(), network="dense:hidden=8,places=2", seed=0
    )
    rows = {one.name: one for one in row_signatures(vq, signatures(vq), schema)}
    given = (tf.constant(frame["size <cm>"]), tf.constant(frame["class"].tolist()))
    bound = rows["bound_rows"].function(*given)["bound"]
    x = schema.to_events(frame)
    np.testing.assert_allclose(bound, vq.bound(x).bound + schema.log_abs_det_jacobian(x), rtol=1e-5)
    drawn = rows["sample_rows"].function(tf.zeros((3, 2), tf.int32))
    assert drawn["size__cm_"].shape == (3,)
