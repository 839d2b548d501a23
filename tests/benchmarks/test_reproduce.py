"""Rows of published numbers: their protocols, and a small one trained, stopped and scored."""

import dataclasses
import json
import math
import signal
import struct
import sys
import time

import forked_scripts
import numpy as np
import pytest
from PIL import Image
from scripts import ROOT, benchmark

import tfvae
from tfvae import datasets
from tfvae.cli.job import learning_rate
from tfvae.errors import InputError
from tfvae.saving.config import TrainConfig

reproduce = benchmark("reproduce")
ROWS = reproduce.rows()
named = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)

TINY = """
order = 1
table = "Digits"
model = "tiny"

[published]
value = 30.0
source = "nobody"
num_samples = 3

[train]
dataset = "digits"
binarize = "threshold"
latent_dim = 2
network = "dense:hidden=8"
epochs = 3
precision = "float32"

[evaluation]
num_samples = 3
annealed_images = 2
annealing_steps = 2
"""


# --- rows -----------------------------------------------------------------------------------------


def test_the_published_figures_are_there():
    tables = {}
    for row in ROWS:
        tables.setdefault(row.table.split(",")[0], []).append(row.published)
    assert list(tables) == ["MNIST", "Fashion-MNIST", "Digits"]
    values = [published.value for published in tables["MNIST"] if published]
    assert values == [86.76, 85.54, 81.08, 79.77, 78.49, 78.01, 82.95, 79.99]
    assert [published.value for published in tables["Fashion-MNIST"]] == [225.38, 224.67, 2.958]


def test_the_table_says_where_a_figure_was_read():
    lines = reproduce.table().splitlines()
    for row in ROWS:
        (line,) = [one for one in lines if one.startswith(f"| `{row.name}` ")]
        if row.published is None:
            assert "| none |" in line
        else:
            said = f"as in {row.published.checked}" if row.published.checked else "from memory"
            assert f"; {said}) |" in line


@pytest.mark.few(3)
@named
def test_a_row_can_be_trained(row):
    config = row.train
    shape = (8, 8, 1) if config.dataset == "digits" else (28, 28, 1)
    groups = {} if config.groups is None else {"groups": config.groups}
    vae = tfvae.models.BY_NAME[config.model].for_images(
        shape,
        latent_dim=config.latent_dim,
        network=config.network,
        **groups,
        likelihood=config.likelihood,
        posterior=config.posterior,
        prior=config.prior,
        objective=config.objective,
    )
    assert vae.count_params() > 10_000
    assert config.epochs is not None
    # Nats of binary images; bits of levels.
    assert (row.unit == "nats") == (config.likelihood == "bernoulli")


@named
def test_a_row_takes_as_many_draws_as_the_paper(row):
    if row.published is not None and row.published.num_samples is not None:
        assert row.evaluation.num_samples == row.published.num_samples


def test_a_row_that_is_none_is_refused(tmp_path):
    with pytest.raises(InputError, match="no row 'vae': expected one of mnist-vae, mnist-iwae"):
        reproduce.Row.read(tmp_path / "vae.toml")
    (tmp_path / "row.toml").write_text(TINY.replace("latent_dim", "latents"))
    with pytest.raises(InputError, match=r"describes no row: .*'latents'"):
        reproduce.Row.read(tmp_path / "row.toml")


# --- protocols ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sixty_thousand(tmp_path_factory):
    """A folder of IDX files with as many images as MNIST has, of four grey pixels each."""
    folder = tmp_path_factory.mktemp("mnist")
    rng = np.random.default_rng(0)
    for name, count in (("train", 60_000), ("t10k", 10_000)):
        images = rng.integers(0, 256, (count, 2, 2), np.uint8)
        header = struct.pack(">4B3I", 0, 0, 8, 3, *images.shape)
        (folder / f"{name}-images-idx3-ubyte").write_bytes(header + images.tobytes())
    return folder


def loaded(row, folder, **evaluation):
    config = dataclasses.replace(row.train, dataset=str(folder))
    return reproduce.images(config, dataclasses.replace(row.evaluation, **evaluation))


def by_name(name):
    return next(row for row in ROWS if row.name == name)


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("mnist-vae", (59_600, 400, 10_000)),
        ("mnist-iwae", (59_600, 400, 10_000)),
        ("mnist-resnet", (59_600, 400, 10_000)),
        ("fashion-resnet", (50_000, 10_000, 10_000)),
        ("fashion-resnet-vamp", (50_000, 10_000, 10_000)),
        ("grey-logistic", (50_000, 10_000, 10_000)),
    ],
)
def test_splits(sixty_thousand, name, counts):
    data = loaded(by_name(name), sixty_thousand)
    assert (len(data.train), len(data.validation), len(data.test)) == counts
    assert not set(data.train.rows) & set(data.validation.rows)
    assert data.test.rows.tolist() == list(range(60_000, 70_000))


def test_burdas_test_images_are_drawn_anew_for_each_evaluation(sixty_thousand):
    row = by_name("mnist-vae")
    one, same, other = (
        loaded(row, sixty_thousand, seed=seed).test.arrays()[0] for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one, same)
    # Of pixels whose values are uniform, two draws differ in a third.
    assert abs((one != other).mean() - 1 / 3) < 4 * np.sqrt(2 / 9 / one.size)
    # What training sees is not the evaluation's affair.
    trains = [loaded(row, sixty_thousand, seed=seed).train.arrays(100)[0] for seed in (1, 2)]
    np.testing.assert_array_equal(*trains)


def test_fashion_mnists_test_images_are_drawn_once(sixty_thousand):
    row = by_name("fashion-resnet")
    one, other = (loaded(row, sixty_thousand, seed=seed).test.arrays()[0] for seed in (1, 2))
    np.testing.assert_array_equal(one, other)
    # And the training images each epoch.
    train = loaded(row, sixty_thousand).train.subset(100)
    first, second = (next(iter(train.batches(100, epoch=epoch))) for epoch in (0, 1))
    assert np.any(first != second)


def test_burdas_schedule():
    config = TrainConfig(decay="stages", learning_rate=1e-3)
    schedule = learning_rate(config, 3280)
    for update, stage in ((0, 0), (1, 1), (3, 1), (4, 2), (12, 2), (13, 3), (1093, 7), (3279, 7)):
        assert float(schedule(update)) == pytest.approx(1e-3 * 10 ** (-stage / 7), rel=1e-5)
    with pytest.raises(InputError, match="--decay stages has no --warm-up"):
        learning_rate(dataclasses.replace(config, warm_up=3), 3280)


@pytest.fixture
def static_mnist():
    return benchmark("static_mnist")


@pytest.mark.parametrize("packed", [True, False])
def test_static_mnist(static_mnist, tmp_path, rng, packed, capsys):
    sizes = {"train": 50, "valid": 10, "test": 20}
    bits = {split: rng.random((count, 784)) < 0.2 for split, count in sizes.items()}
    if packed:
        source = tmp_path / "packed.npz"
        np.savez(source, **{split: np.packbits(x, axis=1) for split, x in bits.items()})
    else:
        source = tmp_path
        for split, x in bits.items():
            np.savetxt(tmp_path / f"binarized_mnist_{split}.amat", x, "%d")
    static_mnist.main(source, tmp_path / "static.npz")
    assert "50 train, 10 valid, 20 test" in capsys.readouterr().out
    config = dataclasses.replace(
        by_name("static-resnet").train, dataset=str(tmp_path / "static.npz")
    )
    data = datasets.load(**config.data_options())
    for split, expected in (
        (data.train, bits["train"]),
        (data.validation, bits["valid"]),
        (data.test, bits["test"]),
    ):
        images, _ = split.arrays()
        np.testing.assert_array_equal(images, expected.reshape(-1, 28, 28, 1))


def test_what_is_no_static_mnist_is_refused(static_mnist, tmp_path):
    np.savez(tmp_path / "x.npz", train=np.zeros((3, 784), np.uint8))
    for source in (tmp_path / "x.npz", tmp_path / "missing.npz"):
        with pytest.raises(SystemExit, match=r"expected a folder of \.amat files"):
            static_mnist.main(source, tmp_path / "out.npz")
    with pytest.raises(SystemExit, match=r"binarized_mnist_train\.amat, with a line of 784"):
        static_mnist.main(tmp_path, tmp_path / "out.npz")
    assert not (tmp_path / "out.npz").exists()


def test_static_mnist_has_to_be_given(tmp_path):
    with pytest.raises(SystemExit, match=r"make it with benchmarks/static_mnist\.py, and give"):
        reproduce.main("static-resnet", runs=tmp_path)


# --- a row from its beginning to its result -------------------------------------------------------


@pytest.fixture
def tiny(tmp_path):
    file = tmp_path / "tiny.toml"
    file.write_text(TINY)
    return file


@pytest.mark.exhaustive
def test_a_row_is_stopped_goes_on_and_is_scored(tiny, tmp_path, monkeypatch, capsys):
    runs = tmp_path / "runs"
    long = TINY.replace("epochs = 3", "epochs = 40\ncheckpoint_seconds = 0")
    tiny.write_text(long)
    command = [sys.executable, str(ROOT / "benchmarks" / "reproduce.py"), str(tiny)]
    with (tmp_path / "said.txt").open("w+") as said:
        process = forked_scripts.Script([*command, "--runs", str(runs)], stderr=said)
        checkpoints = runs / "tiny" / "checkpoints"
        deadline = time.monotonic() + 240
        while len(list(checkpoints.glob("step-*.npz"))) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        process.terminate()
        assert process.wait() == 128 + signal.SIGTERM
        said.seek(0)
        assert said.read().endswith("stopped: the same command goes on from here\n")
    assert not tiny.with_suffix(".json").exists()

    reproduce.main(str(tiny), runs=runs, epochs=39, limit=5)
    first = json.loads(tiny.with_suffix(".json").read_text())
    assert (first["epochs"], first["epochs_planned"]) == (39, 40)
    assert (
        first["parameters"]
        == tfvae.VAE.for_images((8, 8, 1), network="dense:hidden=8", latent_dim=2).count_params()
    )
    found = first["evaluation"]["importance_sampling"]
    assert (found["num_samples"], found["events"]) == (3, 5)
    bounds = first["evaluation"]["annealing"]["sandwich"]
    assert bounds["lower"]["events"] == 2
    assert bounds["upper"]["monte_carlo_error"] is None  # which JSON has, unlike NaN

    reproduce.main(str(tiny), runs=runs, limit=5)
    second = json.loads(tiny.with_suffix(".json").read_text())
    assert second["epochs"] == second["epochs_planned"] == 40
    assert second["validation_elbo"][:39] == first["validation_elbo"]
    assert second["seconds"] >= first["seconds"] and second["processor_seconds"] > 0
    for folder in ("model.keras", "metrics.csv", "test.json"):
        assert (runs / "tiny" / folder).exists()
    # 3 rows of 12 samples.
    width, height = Image.open(tiny.with_suffix(".png")).size
    assert width == pytest.approx(4 * height, rel=0.2)

    monkeypatch.setattr(reproduce, "FOLDER", tmp_path)
    capsys.readouterr()
    reproduce.main(show=True, curves=tmp_path / "curves.png")
    assert np.asarray(Image.open(tmp_path / "curves.png").convert("L")).std() > 10
    line, shown = [x for x in capsys.readouterr().out.splitlines() if x.startswith("| `tiny`")]
    assert shown.endswith("tiny.png) |")
    marginal = second["evaluation"]["importance_sampling"]
    assert "| 30.00 (nobody; K = 3; from memory) |" in line
    nats = -marginal["log_prob"]
    figures = f"{nats:.2f} ± {marginal['standard_error']:.2f} | {nats - 30:.2f} | 3, 5"
    assert f"| {figures} |" in line

    tiny.write_text(long.replace("epochs = 40", "epochs = 4"))
    with pytest.raises(SystemExit, match="was begun with epochs 40, and is to go on with 4: rem"):
        reproduce.main(str(tiny), runs=runs)


def test_seconds_are_noted_while_they_pass(tmp_path, monkeypatch):
    monkeypatch.setattr(reproduce, "_EVERY", 0.01)
    run_dir = tmp_path / "run"
    for before in (0.0, 0.4):
        with reproduce.clock(run_dir):
            time.sleep(0.4)
            # A kill now would lose the time since the last note alone.
            assert reproduce.seconds_of(run_dir)["elapsed"] > before + 0.2
        assert reproduce.seconds_of(run_dir)["elapsed"] >= before + 0.4


# --- pictures -------------------------------------------------------------------------------------


def test_curves_have_a_panel_a_row():
    pictures = benchmark("reproduce_pictures")
    curve = [-200.0, *np.linspace(-100, -90, 19)]
    found = dict.fromkeys(("one", "two", "three", "four", "five"), curve)
    figure = pictures.curves(found)
    panels = [axes for axes in figure.axes if axes.axison]
    assert [axes.get_title() for axes in panels] == list(found)
    (line,) = panels[0].lines
    assert list(line.get_xdata()) == list(range(1, 21))
    # The first quarter may leave the panel; the rest is in it.
    bottom, top = panels[0].get_ylim()
    assert -99 < bottom < -97.8 and top > -90
    assert panels[0].texts[0].get_text() == "-90.00\nlast tenth +1.11"


@pytest.mark.parametrize(
    ("curve", "gain"), [([-5.0], 0.0), ([-5.0, -3.0], 2.0), ([0.0] * 90 + [1.0] * 10, 1.0)]
)
def test_gain_of_the_last_tenth(curve, gain):
    assert benchmark("reproduce_pictures").gain(curve) == gain


def test_without_a_result_there_are_no_curves(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(reproduce, "FOLDER", tmp_path)
    with pytest.raises(SystemExit, match="no row has been scored yet"):
        reproduce.main(curves=tmp_path / "curves.png")
    assert not (tmp_path / "curves.png").exists()


# --- the table ------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", [row for row in ROWS if row.result], ids=lambda row: row.name)
def test_results_are_those_of_the_rows_as_they_stand(row):
    result = row.result
    # Options that there were not yet when it was trained are as they were of themselves.
    defaults, options = (
        json.loads(json.dumps(dataclasses.asdict(config))) for config in (TrainConfig(), row.train)
    )
    assert defaults | result["train"] == options
    assert result["epochs"] == len(result["validation_elbo"]) <= row.train.epochs
    found = result["evaluation"]["importance_sampling"]
    assert found["num_samples"] == row.evaluation.num_samples
    assert found["complete"] and found["standard_error"] > 0


def test_rows_without_a_result_stay_in_the_table(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(reproduce, "FOLDER", tmp_path)
    (line,) = [line for line in reproduce.table().splitlines() if line.startswith("| `tiny`")]
    assert line.split(" | ")[3] == "not run yet"
    assert line.count("|") == reproduce.table().splitlines()[2].count("|")
    assert "tiny" not in reproduce.samples_table()


BOUNDS = {"annealed": -88.5, "importance_sampling": -90.0}


def test_a_partial_row_in_bits_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(reproduce, "FOLDER", tmp_path)
    (tmp_path / "grey.toml").write_text('unit = "bits/dim"\n' + TINY)
    marginal = {"log_prob": -90.0, "standard_error": 0.64 * math.log(2), "num_samples": 1000}
    marginal |= {"events": 2000, "bits_per_dimension": 2.25}
    annealing = {name: {"log_prob": value} for name, value in BOUNDS.items()}
    annealing["sandwich"] = {"gap": -0.001}
    found = {"importance_sampling": marginal, "elbo": -95.5, "annealing": annealing}
    result = {"evaluation": found, "dimensions": 64}
    result |= {"epochs": 7, "epochs_planned": 1200, "parameters": 12345, "seconds": 5400}
    result |= {"hardware": "2 cores of a processor; TensorFlow 2", "precision": "float32"}
    (tmp_path / "grey.json").write_text(json.dumps(result))
    line = reproduce.table().splitlines()[-1]
    assert line.endswith(
        "| 2.2500 ± 0.0100 | -27.75 | 1,000, 2,000 | 95.50 | -1.50 (0.00) | 7 of 1,200 | 12,345 "
        "| 1.50 | 2 cores of a processor, float32 |"
    )
