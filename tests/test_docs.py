"""The pages' examples run as they stand, and their links lead somewhere."""

import re
import shlex
import subprocess
import sys
import zlib
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
from command_line import within
from model_server import model_server
from scripts import ROOT

import tfvae

PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text("utf-8")
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
}


def blocks(language, page):
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGES[page], flags=re.DOTALL | re.MULTILINE)


def lines_of(example):
    return [line for line in example.splitlines() if line and "import" not in line]


def run(example, page, names=None, **instead):
    """Run an example with some texts replaced, each of which it has; return its names."""
    for text, other in instead.items():
        assert text in example
        example = example.replace(text, other)
    names = {} if names is None else names
    exec(compile(example, page, "exec"), names)
    return names


@pytest.mark.exhaustive
def test_the_first_example_trains_draws_saves_and_is_served(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    example, _ = blocks("python", "README.md")
    assert len(lines_of(example)) <= 15
    assert example in blocks("python", "docs/getting_started.md")
    run(example, "README.md", **{"epochs=20": "epochs=1"})
    for name in ("samples.png", "reconstructions.png", "model.keras", "saved_model"):
        assert (tmp_path / name).exists()

    page = "docs/serve.md"
    serving, client, runtimes = blocks("python", page)
    names = run(serving, page, **{"my_model/1": "saved_model"})
    assert names["images"].shape == (2, 28, 28, 1)
    with model_server(tmp_path / "saved_model") as (_, address):
        served = run(client, page, **{"grpc://localhost:8500": address})
    np.testing.assert_allclose(served["images"], names["images"], atol=1e-6)
    exports = re.findall(
        r"^tfvae export runs/first --out \w+ --format .*$", PAGES[page], re.MULTILINE
    )
    assert len(exports) == 2
    for line in exports:
        within(*line.replace("runs/first", "model.keras").split()[1:])
    names = run(runtimes, page)
    expected = keras.models.load_model("model.keras").decode(names["noise"]).mean()
    np.testing.assert_allclose(names["images"], expected, atol=1e-4)
    np.testing.assert_allclose(names["nearly"], expected, atol=0.1)


@pytest.mark.exhaustive
def test_networks_and_likelihoods_of_ones_own(tmp_path):
    page = "docs/distributions.md"
    networks, extension = blocks("python", page)
    series = np.random.default_rng(0).normal(size=(4, 24, 1)).astype("float32")
    assert run(networks, page)["vae"].reconstruct(series).shape == series.shape
    assert len(lines_of(extension)) <= 10
    own = run(extension, page)["vae"]
    images = np.random.default_rng(0).normal(size=(4, 8, 8, 1)).astype("float32")
    own.compile("adam")
    own.fit(images, verbose=0)
    own.save(tmp_path / "own.keras")
    again = keras.models.load_model(tmp_path / "own.keras")
    np.testing.assert_array_equal(again.elbo(images, seed=1).elbo, own.elbo(images, seed=1).elbo)


@pytest.mark.exhaustive
def test_a_table_has_rows_made_up_holes_filled_and_a_score(tmp_path, monkeypatch, test_data):
    monkeypatch.chdir(tmp_path)
    write_diamonds(test_data, tmp_path)
    _, example = blocks("python", "README.md")
    assert len(lines_of(example)) <= 10
    assert example in blocks("python", "docs/tables.md")
    names = run(example, "README.md", **{"epochs=10": "epochs=1"})
    table = pd.read_csv("diamonds.csv")
    assert list(names["made_up"]) == list(table)
    low, high = table["price"].min(), table["price"].max()
    assert names["made_up"]["price"].between(low, high).all()
    assert set(names["made_up"]["cut"]) <= set(table["cut"])
    assert not names["filled"].isna().any().any()
    assert names["score"].shape == names["x"][:1000].shape[:1]
    run(blocks("python", "docs/tables.md")[1], "docs/tables.md")


def write_diamonds(test_data, folder):
    """Write some rows of the table that the pages name and no package has."""
    table = pd.read_csv(test_data / "tables" / "diamonds.csv", index_col=0)
    table.sample(1500, random_state=0).to_csv(folder / "diamonds.csv", index=False)


@pytest.mark.exhaustive
def test_holes_are_filled(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (missing,) = blocks("python", "docs/missing.md")
    names = run(missing, "docs/missing.md", **{"epochs=5": "epochs=1"})
    x, filled = names["x"], names["filled"].numpy()
    np.testing.assert_array_equal(filled[~np.isnan(x)], x[~np.isnan(x)])
    assert np.isfinite(filled).all()
    assert names["completions"].shape == (10, 500, 6)


@pytest.mark.exhaustive
def test_codes_are_trained_in_two_stages():
    (example,) = blocks("python", "docs/vq.md")
    replaced = example.replace("epochs=20", "epochs=1")
    names = run(replaced, "docs/vq.md", **{'"vq:codes=256"': '"vq:codes=8"'})
    assert names["codes"].shape == (100, 7, 7)
    assert names["samples"].shape == (64, 28, 28, 1)
    assert names["found"].bound > -1000


def test_scores_have_a_threshold_and_shares():
    (score,) = blocks("python", "docs/anomalies.md")
    names = run(score, "docs/anomalies.md")
    assert np.mean(names["score"] > names["threshold"]) == pytest.approx(0.01)
    assert names["share"].shape == names["x"].shape


@pytest.mark.exhaustive
def test_a_file_is_as_long_as_the_elbo_says():
    (example,) = blocks("python", "docs/compression.md")
    names = run(example, "docs/compression.md")
    assert 8 * len(names["data"]) / names["bits"] == pytest.approx(1.0, abs=0.1)


@pytest.mark.exhaustive
def test_a_hierarchy_trains():
    first, _ = blocks("python", "docs/hierarchies.md")
    names = run(first, "docs/hierarchies.md")
    assert names["terms"].kl_by_group.shape == (64, 2)
    assert names["top"].shape == (64, 16)
    assert names["below"].shape == (64, 7, 7, 4)


@pytest.mark.exhaustive
def test_a_hierarchy_on_networks_of_ones_own():
    _, own = blocks("python", "docs/hierarchies.md")
    assert run(own, "docs/hierarchies.md")["vae"].groups == ((2,), (3,))


@pytest.mark.exhaustive
def test_the_loop_trains():
    *_, loop = blocks("python", "docs/train.md")
    assert len(run(loop, "docs/train.md")["history"].history["elbo"]) == 2


@pytest.mark.exhaustive
def test_a_small_set_ends_at_its_best():
    small, *_ = blocks("python", "docs/train.md")
    names = run(small, "docs/train.md", **{"epochs=200": "epochs=2"})
    assert names["best"].best == pytest.approx(max(names["vae"].history.history["val_elbo"]))


@pytest.mark.exhaustive
def test_a_sweep_prunes_and_finds():
    optuna = pytest.importorskip("optuna")
    _, sweep, _ = blocks("python", "docs/train.md")
    fewer = {
        '"mnist-small", binarize="dynamic"': '"digits", binarize="threshold"',
        "n_trials=20": "n_trials=8",
        "epochs=10": "epochs=3",
        "n_startup_trials=4": "n_startup_trials=2",
    }
    study = run(sweep, "docs/train.md", **fewer)["study"]
    states = [trial.state for trial in study.trials]
    assert optuna.trial.TrialState.PRUNED in states
    assert states.count(optuna.trial.TrialState.COMPLETE) >= 2
    assert set(study.best_params) == {"latent_dim", "learning_rate"}


# These pages are about data that no package has, and about a clone of the repository.
OF_A_CLONE = ("README.md", "docs/results.md", "docs/benchmarks.md")


def shortened(line):
    """Return a command's arguments, for a training that is over soon; None for what is left out."""
    words = shlex.split(line, comments=True)
    yours = any(re.fullmatch(r"(hf://)?[A-Z]{4,}(/[A-Z]+)?", word) for word in words)
    if words[0] != "tfvae" or words[1] == "explore" or yours or "--logger" in words:
        return None
    if words[1] == "train" and "--resume" not in words:
        for option, value in (("--epochs", "1"), ("--network", "dense:hidden=8")):
            if option in words:
                words[words.index(option) + 1] = value
            else:
                words += [option, value]
    for option in ("--num-samples", "--limit"):
        if option in words:
            words[words.index(option) + 1] = "20"
    return words[1:]


@pytest.mark.exhaustive
@pytest.mark.parametrize("page", [page for page in PAGES if page not in OF_A_CLONE])
def test_a_page_works_as_written_in_an_empty_folder(page, tmp_path, monkeypatch, request):
    """All of its commands and examples, one after the other, with fewer epochs and draws.

    But for what the reader has to bring, in capitals, and what serves until it is stopped.
    """
    monkeypatch.chdir(tmp_path)
    if "diamonds.csv" in PAGES[page]:
        write_diamonds(request.getfixturevalue("test_data"), tmp_path)
    names = {}
    for language, block in re.findall(
        r"^```(python|sh)\n(.*?)^```$", PAGES[page], flags=re.DOTALL | re.MULTILINE
    ):
        if language == "python":
            if "Client" not in block:
                fewer = re.sub(r"\bepochs=\d+", "epochs=1", block)
                fewer = re.sub(r"\bn_trials=\d+", "n_trials=1", fewer)
                exec(compile(fewer, page, "exec"), names)
            continue
        for line in block.replace("\\\n", " ").splitlines():
            words = shortened(line) if line else None
            if words is not None:
                if "--run-dir" in words and Path(words[words.index("--run-dir") + 1]).exists():
                    continue
                within(*words)
                if "--out" in words:
                    assert Path(words[words.index("--out") + 1]).exists(), line


@pytest.mark.exhaustive
def test_the_examples_of_own_data_run_and_print_what_is_shown(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    page = "docs/own_data.md"
    arrays, table, target = blocks("python", page)
    shown = blocks("text", page)
    names = run(arrays, page)
    assert capsys.readouterr().out == shown[0]
    run(table, page, names)
    assert capsys.readouterr().out.startswith(shown[1])
    assert list(names["new"]) == list(names["people"])
    run(target, page, names)
    assert names["denoised"].shape == names["clean"].shape


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    prose = re.sub(r"^```.*?^```$", "", PAGES[page], flags=re.DOTALL | re.MULTILINE)
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", prose):
        assert (ROOT / page).parent.joinpath(target).exists(), target


def test_the_commands_shown_exist():
    from tfvae.cli.main import app

    script = "\n".join(block for page in PAGES for block in blocks("sh", page))
    shown = re.findall(r"^tfvae .*$", script.replace("\\\n", " "), flags=re.MULTILINE)
    assert len(shown) >= 20
    for line in shown:
        command, _, ignored = app.parse_args(
            shlex.split(line, comments=True)[1:], exit_on_error=False, print_error=False
        )[:3]
        assert command.__name__ == line.split()[1]
        assert not ignored


def test_the_readme_is_short():
    assert len(PAGES["README.md"].encode()) < 8_000


@pytest.mark.exhaustive
def test_the_site_has_every_public_name_and_page(tmp_path):
    """Built strictly: a broken link, a page that no menu has, an unknown name end it."""
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    inventory = zlib.decompress((tmp_path / "objects.inv").read_bytes().split(b"\n", 4)[4])
    documented = {line.split()[0] for line in inventory.decode().splitlines()}
    for room in tfvae.__all__:
        for name in getattr(getattr(tfvae, room), "__all__", ()):
            if callable(getattr(getattr(tfvae, room), name)):
                # A function that is called as its module is documented there.
                paths = {f"tfvae.{room}.{name}", f"tfvae.{room}.{name}.{name}"}
                assert paths & documented, f"{room}.{name}"
    assert "<math" in (tmp_path / "mathematics.html").read_text("utf-8")
