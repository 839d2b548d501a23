"""The command line on series, tables and volumes, with values missing, and on a user's own events.

Each kind goes from the look at its data to the exported model that is loaded again.
"""

import contextlib
import json
import shutil
import tomllib

import keras
import numpy as np
import pandas as pd
import pytest
from command_line import QUICK, bare_trainings, refused, within
from PIL import Image

import tfvae
from tfvae.cli.drawing import Units
from tfvae.saving.config import DataOptions, TrainConfig
from tfvae.saving.run import TrainedModel

OPTIONS = {
    "series": ["--missing", "--conditional"],
    "table": ["--missing", "--label", "sort", "--drop", "note", "--column", "visits=number"],
    "volume": ["--network", "conv:filters=4"],
}


def write_data(folder, kind):
    """Write a small data set of a kind, and return its file."""
    rng = np.random.default_rng(0)
    if kind == "series":
        x = np.sin(np.linspace(0, 6, 20)[:, None] + rng.normal(size=(120, 1, 3))).astype("float32")
        x[:60, 15:] = np.nan
        np.savez(folder / "series.npz", x_train=x, y_train=np.arange(120) % 3)
        return folder / "series.npz"
    if kind == "volume":
        np.save(folder / "volume.npy", rng.random((120, 4, 6, 5, 1)).astype("float32") - 2)
        return folder / "volume.npy"
    table = pd.DataFrame({f"c{column}": rng.normal(100, 20, 120) for column in range(4)})
    table = table.round(2).mask(rng.random((120, 4)) < 0.3)
    table["visits"] = rng.integers(0, 40, 120)
    table["sort"] = np.where(rng.random(120) < 0.5, "round", "square")
    table["note"] = "seen"
    table.to_csv(folder / "table.csv", index=False)
    return folder / "table.csv"


@pytest.fixture(
    scope="module",
    params=["series", "table", pytest.param("volume", marks=pytest.mark.exhaustive)],
)
def run(request, tmp_path_factory):
    """A run directory of each kind of event, its data, and what the training said."""
    folder = tmp_path_factory.mktemp(request.param)
    data = write_data(folder, request.param)
    precision = keras.config.dtype_policy()
    # A card, which only exports have, tells the names of a table's labels.
    is_table = request.param == "table"
    with contextlib.nullcontext() if is_table else bare_trainings(pictures=True):
        out, err = within(
            "train", "--dataset", data, "--run-dir", folder / "run", *QUICK[:2], "--latent-dim", 3,
            *(() if request.param == "volume" else ("--network", "dense")),
            "--precision", "mixed_bfloat16", *OPTIONS[request.param], "--json",
        )  # fmt: skip
    assert keras.config.dtype_policy() == precision
    return request.param, folder, data, json.loads(out), err


# What training takes where none is given.
LIKELIHOODS = {
    "series": "normal:scale=learned",
    "table": "columns",
    "volume": "normal:scale=learned",
}


@pytest.mark.exhaustive
def test_from_training_to_the_loaded_export(run, tmp_path):
    kind, folder, data, score, err = run
    assert np.isfinite(score["elbo"])
    plural = {"series": "series", "table": "rows", "volume": "volumes"}[kind]
    assert f"{data}: 120 {plural} of " in err
    assert f"likelihood {LIKELIHOODS[kind]}" in err
    for name in ("samples", "reconstructions", "latent", "curves"):
        with Image.open(folder / "run" / f"{name}.png") as image:
            assert min(image.size) > 100
            assert len(image.convert("L").getcolors(256)) > 10
    out, _ = within("evaluate", folder / "run", "--num-samples", 3, "--json")
    assert json.loads(out)["kl"] == pytest.approx(score["kl"], rel=1e-3)
    within("export", folder / "run", "--out", tmp_path / "served")
    vae = tfvae.load(tmp_path / "served")
    x, labels = TrainedModel.open(folder / "run").arrays(DataOptions())
    assert vae.event_shape == x.shape[1:]
    trained = tfvae.load(folder / "run")
    np.testing.assert_allclose(vae.code(x, labels), trained.code(x, labels), atol=1e-5)


@pytest.mark.exhaustive
def test_options_of_a_run_come_back(run):
    kind, folder, data, *_ = run
    config = TrainConfig.read(folder / "run" / "config.toml")
    assert config.dataset == str(data.resolve())
    assert tomllib.loads(config.to_toml())["likelihood"] == LIKELIHOODS[kind]
    assert config.missing == (kind != "volume")
    if kind == "table":
        assert (config.column, config.drop, config.label) == (("visits=number",), ("note",), "sort")
        assert TrainedModel.open(folder / "run").class_names == ("round", "square")


@pytest.mark.exhaustive
def test_rows_are_made_up_with_values_that_are_given(run, tmp_path):
    kind, folder, *_ = run
    if kind != "table":
        assert "--where is for the columns of a table" in refused(
            "sample", folder / "run", "--where", "c0=1", "--out", tmp_path / "x.png"
        )
        return

    def made_up(*arguments):
        out, _ = within(
            "sample", folder / "run", "--n", 40, "--out", tmp_path / "x.csv", "--overwrite",
            "--json", *arguments,
        )  # fmt: skip
        return pd.read_csv(tmp_path / "x.csv"), json.loads(out)["how"]

    table = pd.read_csv(folder / "table.csv")
    rows, how = made_up()
    assert list(rows) == ["c0", "c1", "c2", "c3", "visits"]
    assert how == ["without sort, which the model was not given"]
    for name in ("c0", "visits"):
        assert table[name].min() <= rows[name].min() <= rows[name].max() <= table[name].max()
    rows, how = made_up("--where", "visits=7")
    assert set(rows["visits"]) == {7}
    assert rows["c0"].nunique() > 10
    assert "visits=7 by importance sampling from 10,000 draws" in how[0]
    for where, text in (
        ("visits", "--where is COLUMN=VALUE"),
        ("height=3", "there is no column 'height' to give a value; the model has 'c0', "),
        ("sort=round", "the model does not know the column of labels 'sort': train it with"),
    ):
        out = ("--out", tmp_path / "y.csv")
        assert text in refused("sample", folder / "run", "--where", where, *out)


# What each command writes of a kind.
ENDINGS = {
    "series": {"sample": "png", "reconstruct": "npy", "interpolate": "npz", "traverse": "png"},
    "table": {"sample": "png", "reconstruct": "csv", "interpolate": "csv", "traverse": "csv"},
    "volume": {"sample": "npz", "reconstruct": "png", "interpolate": "png", "traverse": "npy"},
}


@pytest.mark.exhaustive
def test_pictures_and_numbers_by_the_ending(run, tmp_path):
    kind, folder, *_ = run
    vae = tfvae.load(folder / "run")
    sizes = {"sample": ("--n", 6), "interpolate": ("--pairs", 2, "--steps", 4)}
    for command, ending in ENDINGS[kind].items():
        arguments = (command, folder / "run", *sizes.get(command, ()), "--out")
        out = tmp_path / f"{command}.{ending}"
        within(*arguments, out)
        if ending == "png":
            assert len(Image.open(out).convert("L").getcolors(256)) > 10
        elif ending == "csv":
            found = pd.read_csv(out)
            assert {"c0", "c1", "c2", "c3", "visits"} <= set(found)
            assert {"walk", "step"} <= set(found) or command in ("sample", "reconstruct")
        else:
            arrays = np.load(out)
            x = arrays if ending == "npy" else next(iter(arrays.values()))
            assert x.shape[-len(vae.event_shape) :] == vae.event_shape
    if kind != "table":
        assert "a .csv file takes vectors" in refused(*arguments, tmp_path / "x.csv")


@pytest.mark.exhaustive
def test_scores_and_filled_holes(run, tmp_path):
    kind, folder, data, *_ = run
    arguments = ("impute", folder / "run", "--data", data, "--num-samples", 5)
    if kind == "volume":
        assert "train it with --missing" in refused(*arguments, "--out", tmp_path / "f.npy")
        return
    within(
        "score", folder / "run", "--data", data, "--out", tmp_path / "s.csv", "--rate", 0.1,
        "--by-value", tmp_path / "v.npy",
    )  # fmt: skip
    scores = pd.read_csv(tmp_path / "s.csv")
    more = ["columns"] if kind == "table" else []
    assert list(scores.columns) == ["row", "score", "is_anomaly", *more]
    assert len(scores) == 120
    shares = np.load(tmp_path / "v.npy")
    assert shares.shape == (120, *TrainedModel.open(folder / "run").vae.event_shape)
    assert 0 < scores["is_anomaly"].sum() < 60
    out, _ = within(
        "score", folder / "run", "--out", tmp_path / "p.csv", "--method", "log_prob", "--json",
        "--num-samples", 3,
    )  # fmt: skip
    facts = json.loads(out)
    assert facts["events"] == 12
    assert facts["threshold"] is None  # of 12 events none is one in a hundred
    within(*arguments, "--out", tmp_path / "f.npz")
    within(*arguments, "--out", tmp_path / "d.npy", "--draws", 2)
    filled, observed = np.load(tmp_path / "f.npz").values()
    draws = np.load(tmp_path / "d.npy")
    x, _ = TrainedModel.open(folder / "run").arrays(DataOptions(dataset=str(data)))
    np.testing.assert_array_equal(filled[observed], x[observed])
    assert np.isfinite(filled).all()
    assert draws.shape == (2, *x.shape)
    assert (draws[0] != draws[1])[~observed].all()
    if kind == "table":
        within(*arguments, "--out", tmp_path / "f.csv")
        before, after = pd.read_csv(data), pd.read_csv(tmp_path / "f.csv")
        assert list(after.columns) == list(before.columns)
        assert not after.isna().any().any()
        pd.testing.assert_frame_equal(after.where(before.notna()), before, check_dtype=False)


@pytest.mark.few(1)
def test_ones_own_events_are_all_taken(run, tmp_path):
    kind, folder, data, *_ = run
    trained = TrainedModel.open(folder / "run")
    x, _ = trained.arrays(DataOptions(dataset=str(data)))
    own = tmp_path / ("own.csv" if kind == "table" else "own.npz")
    if kind == "table":
        # As the model's table was, not as these few rows are.
        pd.read_csv(data).head(2).to_csv(own, index=False)
    else:
        np.savez(own, x=x[:2], y=np.arange(2))
    out, _ = within(
        "reconstruct", folder / "run", "--dataset", own, "--out", tmp_path / "x.npz", "--json"
    )
    assert json.loads(out)["n"] == 2
    np.testing.assert_array_equal(np.load(tmp_path / "x.npz")["original"], x[:2])
    if kind == "volume":
        np.save(tmp_path / "one.npy", x[0])
        out, _ = within(
            "reconstruct", folder / "run", "--dataset", tmp_path / "one.npy", "--json",
            "--out", tmp_path / "x.png",
        )  # fmt: skip
        assert json.loads(out)["n"] == 1
        line = refused("explore", folder / "run")
        assert "shows images and tables; this model's events are volumes (4, 6, 5, 1)" in line


@pytest.mark.exhaustive
def test_data_that_have_moved_are_named(run, tmp_path):
    _, folder, there, *_ = run
    shutil.copytree(folder / "run", tmp_path / "run")
    config, data = tmp_path / "run" / "config.toml", folder / f"moved{there.suffix}"
    config.write_text(config.read_text().replace(str(there), str(data)))
    line = refused("evaluate", tmp_path / "run")
    assert f"the run's data are no longer at {data}" in line
    assert "--dataset" in line
    within("evaluate", tmp_path / "run", "--dataset", there, "--num-samples", 2)


def test_one_picture_for_a_model_of_images(tmp_path):
    vae = tfvae.VAE.for_images((8, 8, 1), latent_dim=2, network="dense", seed=0)
    vae.save(tmp_path / "m.keras")
    Image.fromarray(np.full((30, 20), 51, "uint8")).save(tmp_path / "one.png")
    within(
        "reconstruct", tmp_path / "m.keras", "--dataset", tmp_path / "one.png",
        "--out", tmp_path / "x.npz",
    )  # fmt: skip
    np.testing.assert_allclose(np.load(tmp_path / "x.npz")["original"], np.full((1, 8, 8, 1), 0.2))


@pytest.mark.exhaustive
def test_what_would_be_read_is_shown(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (40, 6, 6), np.uint8)
    x[3] = 7
    np.savez(tmp_path / "x.npz", x_train=x, x_test=x[10:15], y_train=np.arange(40) % 4,
             y_test=np.arange(5) % 4)  # fmt: skip
    out, _ = within("data", tmp_path / "x.npz", "--out", tmp_path / "x.png")
    assert "40 images of 6 x 6 x 1" in out.replace("45 images", "40 images")
    assert "training images too" in out
    assert "1 images are constant" in out
    assert len(Image.open(tmp_path / "x.png").convert("L").getcolors(256)) > 20
    table = write_data(tmp_path, "table")
    out, _ = within("data", table, "--label", "sort", "--out", tmp_path / "t.png")
    assert "values are NaN, in" in out
    assert "train with --missing" in out
    assert "left out" in out
    out, _ = within("data", table, "--missing", "--out", tmp_path / "u.png", "--json")
    assert json.loads(out)["event_shape"] == [6]
    line = refused("train", "--dataset", table, "--run-dir", tmp_path / "run")
    assert "holds NaN" in line
    assert "--missing" in line


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--column", "visits"], "--column is NAME=KIND"),
        (["--column", "visits=numbers"], "numbers"),
        (["--label", "kind"], "'kind'"),
        (["--kind", "series"], "kind is for arrays"),
    ],
)
def test_mistakes_about_a_table_end_in_one_line(tmp_path, arguments, said):
    table = write_data(tmp_path, "table")
    line = refused("train", "--dataset", table, "--run-dir", tmp_path / "run", *arguments)
    assert said in line
    assert not (tmp_path / "run").exists()


def test_tables_are_drawn_in_their_own_units():
    """Logarithms of the events included, which skewed columns enter by."""
    frame = pd.DataFrame(
        {"skewed": np.exp(np.random.default_rng(0).normal(size=200) * 2), "plain": np.arange(200.0)}
    )
    schema = tfvae.datasets.Schema.from_frame(frame)
    assert [column.log for column in schema.columns] == [True, False]
    drawn = Units(schema).of(schema.to_events(frame))
    np.testing.assert_allclose(drawn, frame.to_numpy(), rtol=1e-4, atol=1e-4)
