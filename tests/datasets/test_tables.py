"""Tables: what their columns are taken for, and the way to events and back."""

import gzip
import json

import numpy as np
import pandas as pd
import pytest

from tfvae.datasets import Schema, load
from tfvae.datasets.open import open_source
from tfvae.datasets.tables import read_table
from tfvae.errors import InputError


def write(tmp_path, text, name="x.csv", encoding="utf-8"):
    path = tmp_path / name
    path.write_bytes(text.encode(encoding) if isinstance(text, str) else text)
    return path


def kinds(schema):
    return {column.name: column.kind for column in schema.columns}


def left_out(schema):
    return {column.name: column.reason for column in schema.left_out}


def message(call, *args, **kwargs):
    with pytest.raises(InputError) as caught:
        call(*args, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def rows(source):
    return source.read(np.arange(source.count))


def agree(frame, original):
    """Compare the columns of two frames, exactly but for the last bits of numbers."""
    for name in frame:
        one, other = frame[name], original[name]
        np.testing.assert_array_equal(one.isna(), other.isna())
        pair = one.dropna().tolist(), other.dropna().tolist()
        if pair[0] != pair[1]:
            np.testing.assert_allclose(*(np.array(side, float) for side in pair), rtol=1e-5)


@pytest.fixture
def mixed(rng):
    n = 200
    return pd.DataFrame(
        {
            "height": rng.normal(170, 10, n).round(1),
            "weight": rng.normal(70, 10, n),
            "year": rng.integers(1950, 2020, n),
            "children": rng.poisson(1.5, n),
            "rating": rng.integers(1, 6, n),
            "alive": rng.integers(0, 2, n),
            "member": rng.integers(0, 2, n).astype(bool),
            "smokes": np.where(rng.integers(0, 2, n), "yes", "no"),
            "Größe": rng.choice(["S", "M", "L"], n),
            "born": pd.Timestamp("1970-01-01") + pd.to_timedelta(rng.integers(0, 9000, n), "D"),
            "name": [f"person {i}" for i in range(n)],
            "planet": "earth",
            "nothing": np.full(n, np.nan),
        }
    )


KINDS = {
    "height": "number",
    "weight": "number",
    "year": "number",
    "children": "count",
    "rating": "ordered",
    "alive": "boolean",
    "member": "boolean",
    "smokes": "boolean",
    "Größe": "category",
    "born": "date",
}
LEFT_OUT = {
    "name": "text: 200 different values in 200",
    "planet": "one value: earth",
    "nothing": "no values",
}


class TestKinds:
    @pytest.mark.parametrize("suffix", ["csv", "tsv", "csv.gz", "parquet", "feather"])
    def test_files(self, tmp_path, mixed, suffix):
        path = tmp_path / f"x.{suffix}"
        if suffix == "parquet":
            mixed.to_parquet(path)
        elif suffix == "feather":
            mixed.to_feather(path)
        else:
            mixed.to_csv(path, index=False, sep="\t" if suffix == "tsv" else ",")
        source = open_source(path)
        assert kinds(source.schema) == KINDS
        assert left_out(source.schema) == LEFT_OUT
        events, labels = rows(source)
        assert labels is None
        assert events.dtype == np.float32
        assert events.shape == (200, len(KINDS))
        agree(source.schema.to_frame(events), mixed)

    def test_frames(self, mixed):
        import pyarrow

        expected = Schema.from_frame(mixed)
        arrow = Schema.from_frame(pyarrow.Table.from_pandas(mixed))
        assert kinds(expected) == kinds(arrow) == KINDS
        assert expected.to_config() == arrow.to_config()
        data = load(mixed)
        assert data.kind == "table"
        assert data.event_shape == (10,)
        assert kinds(data.schema) == KINDS
        assert "expected a table of pandas" in message(load, {"a": [1]})

    def test_row_numbers(self, tmp_path, mixed):
        mixed[["height", "year"]].to_csv(tmp_path / "x.csv")
        assert left_out(open_source(tmp_path / "x.csv").schema) == {"": "row number"}
        text = "\n".join(["id,x", *(f"{i + 5},{i * i}" for i in range(30))])
        schema = open_source(write(tmp_path, text)).schema
        assert left_out(schema) == {"id": "row number"}
        # A column of another name may be a time.
        schema = open_source(write(tmp_path, text.replace("id", "t"))).schema
        assert list(kinds(schema)) == ["t", "x"]

    @pytest.mark.parametrize(
        ("values", "kind"),
        [
            (range(100, 130), "number"),
            ([0, 1] * 20, "boolean"),
            ([1, 2] * 20, "category"),
            ([3, 4, 5] * 20, "ordered"),
            ([0, 1, 2] * 20, "ordered"),
            ([0] * 50 + [1] * 40 + [2] * 20 + [3], "count"),
            ([3, 4, 7] * 20, "number"),
            ([-1, 0, 1] * 20, "ordered"),
            ([1.5, 2.5] * 20, "number"),
            (["a", "b"] * 20, "category"),
            (["yes", "no"] * 20, "boolean"),
            (["1", "2", "many"] * 20, "category"),
            ([f"{i:05}" for i in (501, 1234, 90210)] * 20, "category"),
            (["2020-01-05", "2021-12-31T10:00:00Z"] * 20, "date"),
            (["2020/01/05", "2021/12/31"] * 20, "date"),
            (["True", "false"] * 20, "boolean"),
        ],
    )
    def test_cells(self, tmp_path, values, kind):
        path = write(
            tmp_path, "\n".join(["x,y", *(f"{value},{i}" for i, value in enumerate(values))])
        )
        assert kinds(open_source(path).schema)["x"] == kind

    def test_levels_are_in_natural_order(self, tmp_path):
        path = write(tmp_path, "\n".join(["x", *(f"class {i % 12}" for i in range(60))]))
        (column,) = open_source(path).schema.columns
        assert column.levels == tuple(f"class {i}" for i in range(12))
        frame = pd.DataFrame({"x": pd.Categorical(["lo", "hi"] * 9, ["lo", "hi"], ordered=True)})
        (column,) = Schema.from_frame(frame).columns
        assert (column.kind, column.levels) == ("ordered", ("lo", "hi"))

    def test_corrections(self, mixed):
        schema = Schema.from_frame(
            mixed,
            columns={
                "rating": "number",
                "Größe": ["S", "M", "L"],
                "year": "category",
                "name": "category",
                "alive": "text",
            },
            label="smokes",
            drop=["height"],
        )
        found = kinds(schema)
        assert (found["rating"], found["Größe"], found["year"]) == ("number", "ordered", "category")
        assert {"name"} <= set(found)
        assert left_out(schema)["height"] == "dropped"
        assert left_out(schema)["alive"] == "text"
        assert "smokes" not in found
        assert schema.label.levels == ("no", "yes")
        size = next(column for column in schema.columns if column.name == "Größe")
        assert size.levels == ("S", "M", "L")

    @pytest.mark.parametrize(
        ("options", "complaint"),
        [
            ({"columns": {"heigth": "number"}}, "no column 'heigth'; the table has 'height'"),
            ({"drop": ["x"]}, "there is no column 'x'"),
            ({"label": "x"}, "there is no column 'x'"),
            ({"columns": {"height": "numeric"}}, "one of number, fraction, count, category"),
            ({"columns": {"Größe": "number"}}, "holds numbers; received '"),
            ({"columns": {"height": "count"}}, "is no count: expected whole numbers from 0"),
            ({"columns": {"rating": "boolean"}}, "is no boolean: it has 5 different values"),
            ({"columns": {"Größe": ["S", "M"]}}, "holds 'L' beside the levels"),
            ({"columns": {"Größe": "date"}}, "dates that cannot be read"),
            ({"label": "weight"}, "200 different values: expected classes"),
            ({"label": "nothing"}, "lacks 200 of 200"),
        ],
    )  # fmt: skip
    def test_mistakes(self, mixed, options, complaint):
        assert complaint in message(load, mixed, **options)


class TestEvents:
    def test_values(self):
        frame = pd.DataFrame(
            {
                "x": [1.0, 2.0, 3.0, 4.0, np.nan],
                "k": ["b", "a", None, "a", "b"],
                "n": pd.array([0, 5, 30, None, 0], "Int64"),
            }
        )
        schema = Schema.from_frame(frame)
        assert kinds(schema) == {"x": "number", "k": "category", "n": "count"}
        assert [column.holes for column in schema.columns] == [1, 1, 1]
        events = schema.to_events(frame)
        scale = 1.5 / 1.3489795
        expected = [
            [-1.5 / scale, 1, 0],
            [-0.5 / scale, 0, 5],
            [0.5 / scale, np.nan, 30],
            [1.5 / scale, 0, np.nan],
            [np.nan, 1, 0],
        ]
        np.testing.assert_allclose(events, expected, rtol=1e-6)
        agree(schema.to_frame(events), frame)

    def test_an_outlier_hardly_moves_the_scale(self, rng):
        x = rng.normal(size=1000)
        x[0] = 1e6
        (column,) = Schema.from_frame(pd.DataFrame({"x": x})).columns
        assert abs(column.center) < 0.15
        assert abs(column.scale - 1) < 0.15

    def test_round_trip(self, mixed):
        mixed.loc[::7, ["height", "Größe", "smokes", "born", "children", "rating"]] = None
        schema = Schema.from_frame(mixed)
        events = schema.to_events(mixed)
        frame = schema.to_frame(events)
        agree(frame, mixed)
        assert (frame["planet"] == "earth").all()
        # Decimals are those of the table, to the last bit.
        assert frame["height"].dropna().tolist() == mixed["height"].dropna().tolist()
        assert str(frame["year"].dtype) == "int64"
        assert str(frame["children"].dtype) == "Int64"
        np.testing.assert_array_equal(schema.to_events(frame), events)
        same = Schema.from_config(json.loads(json.dumps(schema.to_config())))
        assert same == schema
        np.testing.assert_array_equal(same.to_events(mixed), events)

    def test_made_up_events(self, mixed, rng):
        schema = Schema.from_frame(mixed)
        frame = schema.to_frame(rng.normal(0, 30, (50, len(schema.columns))))
        assert set(frame["Größe"]) <= {"S", "M", "L"}
        assert (frame["children"] >= 0).all()
        assert set(frame["member"]) <= {True, False}

    def test_columns_are_found_by_name(self, mixed):
        schema = Schema.from_frame(mixed)
        expected = schema.to_events(mixed)
        other = mixed[mixed.columns[::-1]].assign(more=1)
        np.testing.assert_array_equal(schema.to_events(other), expected)
        text = message(schema.to_events, mixed.drop(columns=["year", "born"]))
        assert "expected the columns 'year', 'born', which the table lacks" in text

    def test_unseen_categories(self, mixed):
        schema = Schema.from_frame(mixed)
        mixed.loc[3, "Größe"] = "XL"
        text = message(schema.to_events, mixed)
        assert "'Größe' holds values that the schema does not know: 'XL'" in text
        events = schema.to_events(mixed, unseen="missing")
        place = [column.name for column in schema.columns].index("Größe")
        assert np.isnan(events[3, place])
        assert np.isnan(events).sum() == 1

    def test_values_that_do_not_fit(self, mixed):
        schema = Schema.from_frame(mixed)
        assert "'weight' holds infinite values" in message(
            schema.to_events, mixed.assign(weight=np.inf)
        )
        assert "'children' is a count" in message(schema.to_events, mixed.assign(children=-1))
        assert "holds numbers; received 'tall'" in message(
            schema.to_events, mixed.assign(height="tall")
        )
        assert "expected events [N, 10]" in message(schema.to_frame, np.zeros((3, 4)))

    def test_labels(self, tmp_path, mixed):
        mixed.to_csv(tmp_path / "x.csv", index=False)
        data = load(tmp_path / "x.csv", label="Größe")
        assert data.num_classes == 3
        assert data.class_names == ("L", "M", "S")
        events, labels = data.train.arrays()
        names = np.array(data.class_names)[labels]
        assert names.tolist() == mixed["Größe"][data.train.rows].tolist()
        frame = data.schema.to_frame(events, labels)
        agree(frame, mixed.loc[data.train.rows].reset_index(drop=True))
        assert frame["Größe"].tolist() == names.tolist()
        assert data.summary().endswith("classes: 3: L, M, S")


class TestBadFiles:
    @pytest.mark.parametrize(
        ("text", "complaint"),
        [
            ("", "the file is empty"),
            ('""\n""\n', "all lines are empty"),
            ("a,b\n", "has no rows"),
            ("1,2\n3,4\n", "expected column names in the first line; received numbers (1, 2)"),
            ("a,b\n1,2,3\n", "line 2 has 3 cells; expected 2"),
            ("a,b,c\n1,2,3\n1,2\n", "row 2 has 2 cells, fewer than the 3 columns"),
            ("a,a\n1,2\n3,4\n", "'a' occurs 2 times"),
            (
                "\n".join(["a", *map(str, range(9)), "?", "unknown"]),
                "other values beside them ('unk",
            ),
            ('a,b\n"1,5",2\n"2,5",3\n', "holds numbers with commas ('1,5')"),
            ("a,b\n1,2\ninf,3\n2,4\n", "'a' holds infinite values"),
            ("a\n01/02/2020\n03/04/2020\n", "whose day and month may be either"),
            ("a,b\n1,x\n1,x\n1,x\n", "no column is left to model: 'a' (one value: 1)"),
            ("größe\n1\n".encode("latin-1"), "expected text in UTF-8"),
            ("a,b\n1,2\n".encode("utf-16"), "expected text in UTF-8"),
        ],
    )
    def test_refused(self, tmp_path, text, complaint):
        path = write(tmp_path, text)
        said = message(open_source, path)
        assert complaint in said
        assert str(path) in said

    @pytest.mark.parametrize("name", ["x.parquet", "x.feather", "x.csv.gz"])
    @pytest.mark.parametrize(
        "content",
        [b"", b"hello", gzip.compress(b"a,b\n1,2\n" * 99)[:30]],
        ids=["nothing", "words", "half a file"],  # those bytes hold the time
    )
    def test_damage(self, tmp_path, name, content):
        said = message(open_source, write(tmp_path, content, name))
        assert name in said
        assert "not a readable" in said or "empty" in said or "no rows" in said

    def test_missing_file(self, tmp_path):
        assert "no such file" in message(open_source, tmp_path / "x.csv")

    def test_one_row(self, tmp_path):
        assert "no column is left" in message(load, write(tmp_path, "a,b\n1,2\n"))

    @pytest.mark.parametrize(
        "text",
        [
            '\ufeffname,"a ""b""\nc"\n"x, y",1\n"x\nz",2\n"x, y",3\n',
            'name;"a ""b""\nc"\n"x, y";1\n"x\nz";2\n"x, y";3\n',
            'name\t"a ""b""\nc"\n"x, y"\t1\n"x\nz"\t2\n"x, y"\t3\n',
        ],
    )
    def test_quotes_newlines_and_bom(self, tmp_path, text):
        schema = open_source(write(tmp_path, text)).schema
        assert [column.name for column in schema.columns] == ["name", 'a "b"\nc']
        assert schema.columns[0].levels == ("x\nz", "x, y")

    def test_decimal_commas(self, tmp_path):
        table = read_table(write(tmp_path, "a;b\n1,5;2\n-2,25;3\n1.000,5;4\n"))
        assert table["a"].tolist() == [1.5, -2.25, 1000.5]
        assert table["b"].tolist() == [2, 3, 4]

    def test_a_separator_parts_all_rows_alike(self, tmp_path):
        table = read_table(write(tmp_path, "k, l;m\n1;2\n3;4\n"))
        assert list(table) == ["k, l", "m"]
        table = read_table(write(tmp_path, "a,b\n1;2;3,4\n5;6;7,8\n"))
        assert list(table) == ["a", "b"]

    def test_holes(self, tmp_path):
        source = open_source(write(tmp_path, "a,b\n1,x\nNA,\n?,y\n4.5, x \n-,null\n"))
        events, _ = rows(source)
        np.testing.assert_array_equal(np.isnan(events), [[0, 0], [1, 1], [1, 0], [0, 0], [1, 1]])
        assert source.missing
        assert source.schema.columns[1].levels == ("x", "y")

    def test_long_texts_are_said_in_a_line(self, tmp_path):
        values = ["a\nb" * 30, "c\nd"] * 20
        frame = pd.DataFrame({"x\ny": values, "z": ["e\nf"] * 40})
        data = load(frame)
        assert len(data.summary().split("\n")) == 2
        assert "left out: z (one value: e f)" in data.summary()
        assert len(str(data.schema).split("\n")) == 2
        assert len(str(data.schema)) < 200

    def test_empty_lines(self, tmp_path):
        assert len(read_table(write(tmp_path, "\na,b\n1,2\n\n3,4\n\n"))) == 2
        table = read_table(write(tmp_path, "a\n1\n\n3\n\n\n"))
        assert table["a"].tolist()[::2] == [1, 3]
        assert table["a"].isna().tolist() == [False, True, False]

    def test_nameless_columns(self, tmp_path):
        schema = open_source(write(tmp_path, "a,,\n1,2,3\n2,4,5\n3,9,1\n")).schema
        assert list(kinds(schema)) == ["a", "column 2", "column 3"]

    def test_many_categories(self, tmp_path):
        values = [f"c{i % 10_000}" for i in range(30_000)]
        frame = pd.DataFrame({"x": values, "y": np.arange(30_000) % 7})
        assert left_out(Schema.from_frame(frame)) == {
            "x": "text: 10,000 different values, too many to model"
        }
        schema = Schema.from_frame(frame, columns={"x": "category"})
        assert len(schema.columns[0].levels) == 10_000
        assert schema.to_frame(schema.to_events(frame))["x"].tolist() == values

    def test_mixed_types_in_a_frame(self):
        frame = pd.DataFrame({"x": [1, "a", 2.5], "y": [1, 2, 3]})
        assert "'x' holds values of several types (number, text)" in message(load, frame)

    def test_options_for_other_data(self, tmp_path, mixed):
        assert "image_size is for arrays" in message(load, mixed, image_size=8)
        assert "kind is for arrays" in message(load, mixed, kind="table")
        assert "columns, label and drop are for tables" in message(load, "digits", label="x")


@pytest.mark.parametrize(
    ("name", "count", "found", "out"),
    [
        ("diamonds", 53_940, {"carat": "number", "cut": "category", "price": "number"}, {""}),
        ("flchain", 7_874, {"age": "number", "sex": "category", "flc.grp": "ordered",
                            "mgus": "boolean", "creatinine": "number", "chapter": "category"},
         {""}),
        ("msleep", 83, {"vore": "category", "brainwt": "number"}, {"", "name", "genus"}),
        ("airquality", 153, {"Ozone": "number", "Month": "ordered", "Wind": "number"}, {""}),
    ],
)  # fmt: skip
def test_real_tables(test_data, name, count, found, out):
    path = test_data / "tables" / f"{name}.csv"
    source = open_source(path)
    assert source.count == count
    assert found.items() <= kinds(source.schema).items()
    assert set(left_out(source.schema)) == out
    events, _ = rows(source)
    agree(source.schema.to_frame(events), read_table(path))
    holes = sum(column.holes for column in source.schema.columns)
    assert np.isnan(events).sum() == holes
    assert source.missing == (holes > 0)


# --- the way to a model ---------------------------------------------------------------------------


def test_each_kind_has_its_likelihood(mixed):
    schema = Schema.from_frame(
        pd.DataFrame(
            {
                "number": np.linspace(-1, 1, 40),
                "count": np.arange(40) % 7 * 3,
                "category": ["a", "b", "c", "d"] * 10,
                "boolean": [True, False] * 20,
            }
        ),
        columns={"count": "count"},
    )
    assert schema.likelihoods() == {
        "number": "student_t:scale=learned,df=learned",
        "count": "negative_binomial",
        "category": "categorical:levels=4",
        "boolean": "bernoulli",
    }
    columns = schema.likelihood()
    assert columns.names == ("number", "count", "category", "boolean")
    mixed_schema = Schema.from_frame(mixed)
    events = mixed_schema.to_events(mixed)
    support = mixed_schema.likelihood().support
    assert bool(support.admits(np.where(np.isnan(events), support.fill, events)))


def test_skewed_positive_numbers_enter_by_their_logarithms(rng):
    x = np.exp(rng.normal(size=500))
    frame = pd.DataFrame({"skewed": x, "even": rng.normal(size=500) + 9, "both": x - 1})
    schema = Schema.from_frame(frame)
    assert [column.log for column in schema.columns] == [True, False, False]
    assert Schema.from_config(json.loads(json.dumps(schema.to_config()))) == schema
    again = schema.to_frame(schema.to_events(frame))
    np.testing.assert_allclose(again, frame, rtol=1e-5, atol=1e-6)
    assert "expected numbers above 0; received -1" in message(
        schema.to_events, frame.assign(skewed=-1.0)
    )


def test_log_p_of_the_table_adds_the_jacobian(rng):
    """The density of a number by that of its event integrates to one."""
    frame = pd.DataFrame({"a": np.exp(rng.normal(size=300)), "b": 3 + 2 * rng.normal(size=300)})
    schema = Schema.from_frame(frame)
    for place, name in enumerate("ab"):
        grid = np.linspace(-30, 60, 400_001) if name == "b" else np.linspace(1e-6, 300, 4_000_001)
        rows = pd.DataFrame({"a": np.ones_like(grid), "b": np.ones_like(grid)}).assign(
            **{name: grid}
        )
        events = schema.to_events(rows)
        events[:, 1 - place] = np.nan
        log_p = -0.5 * events[:, place] ** 2 - 0.5 * np.log(2 * np.pi)
        density = np.exp(log_p + schema.log_abs_det_jacobian(events))
        assert abs(np.trapezoid(density, grid) - 1) < 1e-3


def test_units_that_changed_by_a_factor_are_pointed_out(rng):
    frame = pd.DataFrame(
        {
            "height": rng.normal(170, 10, 300),
            "income": np.exp(rng.normal(8, 1, 300)),
            "visits": rng.poisson(4, 300),
            "sex": rng.choice(["F", "M"], 300),
            "since": pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 99, 300), "D"),
        }
    )
    schema = Schema.from_frame(frame)
    assert schema.remarks(schema.to_events(frame)) == ()
    other = frame.assign(
        height=frame["height"] / 100,
        income=frame["income"] * 1000,
        since=frame["since"] + pd.Timedelta("999D"),
    )
    height, income, since = schema.remarks(schema.to_events(other))
    assert "100% of 'height' lie outside the range of training" in height
    assert "about 0.01 times as large" in height
    assert "about 1,000 times as large" in income
    assert since.startswith("100% of 'since'")
    # A few rows may lie anywhere.
    assert schema.remarks(schema.to_events(other[:4])) == ()
    assert schema.remarks(schema.to_events(pd.concat([frame, other]))) == ()


def test_made_up_rows_stay_within_the_range(mixed):
    schema = Schema.from_frame(mixed)
    events = schema.to_events(mixed)
    far = np.where(np.arange(len(events))[:, None] % 2, 50.0, -50.0) + 0 * events
    made = schema.to_frame(np.where(np.isnan(far), 0, far), within_range=True)
    for column in schema.columns:
        if column.kind in ("number", "count"):
            assert made[column.name].between(column.low - 1e-9, column.high + 1e-9).all()


class TestFractions:
    def test_numbers_that_fill_the_range_are_told(self, tmp_path, rng):
        share = rng.beta(0.5, 0.5, 300).round(3)
        frame = pd.DataFrame({"share": share, "small": 0.3 * share, "percent": (100 * share)})
        schema = Schema.from_frame(frame, columns={"percent": "fraction"})
        assert kinds(schema) == {"share": "fraction", "small": "number", "percent": "fraction"}
        assert schema.likelihoods()["share"] == "beta"
        events = schema.to_events(frame)
        np.testing.assert_allclose(events[:, 0], share, atol=1e-6)
        np.testing.assert_allclose(events[:, 2], share, atol=1e-6)
        np.testing.assert_allclose(schema.to_frame(events)["percent"], 100 * share, atol=1e-4)
        # What Beta draws a hair outside comes back inside.
        back = schema.to_frame(np.array([[-0.001, 0.1, 1.001]]))
        assert back.iloc[0][["share", "percent"]].tolist() == [0, 100]
        jacobian = Schema((schema.columns[2],)).log_abs_det_jacobian(events[:, 2:])
        np.testing.assert_allclose(jacobian, -np.log(100))

    def test_others_are_refused(self, rng):
        frame = pd.DataFrame({"x": rng.normal(size=50)})
        assert "'x' is no fraction: expected numbers from 0 to 1 or from 0 to 100" in message(
            Schema.from_frame, frame, columns={"x": "fraction"}
        )
        schema = Schema.from_frame(pd.DataFrame({"x": np.linspace(0, 1, 50)}))
        assert "'x' is a fraction: expected numbers from 0 to 1; received some from" in message(
            schema.to_events, pd.DataFrame({"x": [0.5, 50.0]})
        )
