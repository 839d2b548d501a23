"""The pages' examples run as they stand, and their links lead somewhere."""

import contextlib
import io
import re
import shlex
import shutil
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


def write_diamonds(test_data, folder):
    """Write some rows of the table that the pages name and no package has."""
    table = pd.read_csv(test_data / "tables" / "diamonds.csv", index_col=0)
    table.sample(1500, random_state=0).to_csv(folder / "diamonds.csv", index=False)


def test_the_readmes_examples_are_short_and_those_of_the_pages():
    first, table = blocks("python", "README.md")
    assert len(lines_of(first)) <= 15
    assert first in blocks("python", "docs/getting_started.md")
    assert len(lines_of(table)) <= 10
    assert table in blocks("python", "docs/tables.md")


# --- what is asked of an example once it has run --------------------------------------------------

# By page and number of the example in Python: a function of its names, which runs in its folder.
ASKED = {}
# What such an example has in place of some of its text, once its epochs and trials are one.
INSTEAD = {
    ("docs/vq.md", 0): {
        '"mnist-small", binarize="dynamic"': '"digits", binarize="threshold"',
        '"vq:codes=256"': '"vq:codes=8"',
        "data.test)": "data.test.subset(64))",
    },
    ("docs/train.md", 0): {"epochs=1": "epochs=2"},
    ("docs/train.md", 1): {
        '"mnist-small", binarize="dynamic"': '"digits", binarize="threshold"',
        "n_trials=1": "n_trials=4",
        "epochs=1": "epochs=2",
        "n_startup_trials=4": "n_startup_trials=1",
    },
}


def asked_of(page, number=0):
    def keep(function):
        ASKED[page, number] = function
        return function

    return keep


@asked_of("docs/getting_started.md")
def trains_draws_and_saves(names):
    for name in ("samples.png", "reconstructions.png", "model.keras", "saved_model"):
        assert Path(name).exists()


@asked_of("docs/serve.md", 0)
def draws_without_the_package(names):
    assert names["images"].shape == (2, 28, 28, 1)
    names["loaded"] = names["images"]


@asked_of("docs/serve.md", 1)
def draws_the_same_over_the_net(names):
    np.testing.assert_allclose(names["images"], names["loaded"], atol=1e-6)


@asked_of("docs/serve.md", 2)
def draws_the_same_in_other_runtimes(names):
    expected = keras.models.load_model("runs/first/model.keras").decode(names["noise"]).mean()
    np.testing.assert_allclose(names["images"], expected, atol=1e-4)
    np.testing.assert_allclose(names["nearly"], expected, atol=0.1)


@asked_of("docs/distributions.md", 0)
def reconstructs_by_networks_of_ones_own(names):
    series = np.random.default_rng(0).normal(size=(4, 24, 1)).astype("float32")
    assert names["vae"].reconstruct(series).shape == series.shape


@asked_of("docs/distributions.md", 1)
def keeps_a_likelihood_of_ones_own(names):
    assert len(lines_of(blocks("python", "docs/distributions.md")[1])) <= 10
    own = names["vae"]
    images = np.random.default_rng(0).normal(size=(4, 8, 8, 1)).astype("float32")
    own.compile("adam")
    own.fit(images, verbose=0)
    own.save("own.keras")
    again = keras.models.load_model("own.keras")
    np.testing.assert_array_equal(again.elbo(images, seed=1).elbo, own.elbo(images, seed=1).elbo)


@asked_of("docs/tables.md", 1)
def makes_rows_up_fills_holes_and_scores(names):
    table = pd.read_csv("diamonds.csv")
    assert list(names["made_up"]) == list(table)
    low, high = table["price"].min(), table["price"].max()
    assert names["made_up"]["price"].between(low, high).all()
    assert set(names["made_up"]["cut"]) <= set(table["cut"])
    assert not names["filled"].isna().any().any()
    assert names["score"].shape == names["x"][:1000].shape[:1]


@asked_of("docs/own_data.md", 0)
def prints_what_was_read(names):
    assert names["printed"] == blocks("text", "docs/own_data.md")[0]


@asked_of("docs/own_data.md", 1)
def prints_its_columns(names):
    assert names["printed"].startswith(blocks("text", "docs/own_data.md")[1])
    assert list(names["new"]) == list(names["people"])


@asked_of("docs/own_data.md", 2)
def takes_noise_away(names):
    assert names["denoised"].shape == names["clean"].shape


@asked_of("docs/missing.md")
def fills_holes(names):
    x, filled = names["x"], names["filled"].numpy()
    np.testing.assert_array_equal(filled[~np.isnan(x)], x[~np.isnan(x)])
    assert np.isfinite(filled).all()
    assert names["completions"].shape == (10, 500, 6)


@asked_of("docs/vq.md")
def trains_codes_in_two_stages(names):
    assert names["codes"].shape == (100, 4, 4)
    assert names["samples"].shape == (64, 8, 8, 1)
    assert names["found"].bound > -1000


@asked_of("docs/anomalies.md")
def finds_a_threshold_and_shares(names):
    assert np.mean(names["score"] > names["threshold"]) == pytest.approx(0.01)
    assert names["share"].shape == names["x"].shape


@asked_of("docs/compression.md")
def takes_as_many_bits_as_the_elbo_says(names):
    assert 8 * len(names["data"]) / names["bits"] == pytest.approx(1.0, abs=0.1)


@asked_of("docs/hierarchies.md", 0)
def has_groups(names):
    assert names["terms"].kl_by_group.shape == (64, 2)
    assert names["top"].shape == (64, 16)
    assert names["below"].shape == (64, 7, 7, 4)


@asked_of("docs/hierarchies.md", 1)
def has_groups_of_ones_own(names):
    assert names["vae"].groups == ((2,), (3,))


@asked_of("docs/train.md", 0)
def ends_at_its_best(names):
    assert names["best"].best == pytest.approx(max(names["vae"].history.history["val_elbo"]))


@asked_of("docs/train.md", 1)
def prunes_and_finds(names):
    states = [trial.state.name for trial in names["study"].trials]
    assert "PRUNED" in states
    assert states.count("COMPLETE") >= 2
    assert set(names["study"].best_params) == {"latent_dim", "learning_rate"}


@asked_of("docs/train.md", 2)
def trains_by_the_loop(names):
    assert len(names["history"].history["elbo"]) == 1


def test_what_is_asked_is_asked_of_an_example():
    for page, number in {*ASKED, *INSTEAD}:
        assert number < len(blocks("python", page)), (page, number)


# --- the pages ------------------------------------------------------------------------------------

# These are about data that no package has, and about a clone of the repository.
OF_A_CLONE = ("README.md", "docs/results.md", "docs/benchmarks.md")


# What makes a training short, whatever its page says.
SHORT = {"--epochs": "1", "--network": "dense:hidden=8", "--precision": "float32"}
SHORT_OF_CODES = {**SHORT, "--prior-epochs": "1", "--dataset": "digits"}
# What other options are, where a page has them.
LESS = {"--num-samples": "20", "--limit": "20"}


def shortened(line):
    """Return a command's arguments, for a training that is over soon; None for what is left out.

    A stopped training goes on in `cli/test_cli_resume.py`; here it would have come to its end.
    """
    words = shlex.split(line, comments=True)
    yours = any(re.fullmatch(r"(hf://)?[A-Z]{4,}(/[A-Z]+)?", word) for word in words)
    left_out = {"explore", "--logger", "--resume"} & set(words)
    if words[0] != "tfvae" or yours or left_out:
        return None
    if words[1] == "train":
        for option, value in (SHORT_OF_CODES if "vq" in words else SHORT).items():
            if option in words:
                words[words.index(option) + 1] = value
            else:
                words += [option, value]
        if "--run-dir" not in words:
            # Nobody looks at what comes of it.
            words.append("--dry-run")
    for option, value in LESS.items():
        if option in words:
            words[words.index(option) + 1] = value
    if "--ais" in words:
        words += ["--ais-steps", "5", "--ais-events", "4"]
    return words[1:]


@pytest.fixture(scope="module")
def made():
    """What commands have made, by their words but for the run directory: pages share some."""
    return {}


def run_command(line, made):
    """Run a line of a page, or take what the same line has made for another page.

    A training is left out where its run directory is there.
    """
    words = shortened(line) if line else None
    if words is None:
        return
    place = None
    for option in ("--run-dir", "--out"):
        if option in words:
            at = words.index(option)
            place = Path(words[at + 1])
    key = tuple(words)
    if "--run-dir" in words:
        if place.exists():
            return
        key = (*words[:at], *words[at + 2 :])
    if key not in made:
        within(*words)
        made[key] = None if place is None else place.resolve(strict=True)
    elif place is not None:
        place.parent.mkdir(exist_ok=True)
        (shutil.copytree if made[key].is_dir() else shutil.copy)(made[key], place)


def run_example(example, page, number, names):
    """Run an example for one epoch, or with what `INSTEAD` says, and ask what is asked of it."""
    example = re.sub(r"\bepochs=\d+", "epochs=1", example)
    example = re.sub(r"\bn_trials=\d+", "n_trials=1", example)
    example = re.sub(r"\bdata\.(train|validation)\.b", r"data.\1.subset(256).b", example)
    for text, other in INSTEAD.get((page, number), {}).items():
        assert text in example
        example = example.replace(text, other)
    with contextlib.ExitStack() as held:
        printed = held.enter_context(contextlib.redirect_stdout(io.StringIO()))
        if "Client" in example:
            _, address = held.enter_context(model_server(Path("my_model/1")))
            example = example.replace("grpc://localhost:8500", address)
        exec(compile(example, page, "exec"), names)
    names["printed"] = printed.getvalue()
    if (page, number) in ASKED:
        ASKED[page, number](names)


@pytest.mark.exhaustive
@pytest.mark.parametrize("page", [page for page in PAGES if page not in OF_A_CLONE])
def test_a_page_works_as_written_in_an_empty_folder(page, made, tmp_path, monkeypatch, request):
    """All of its commands and examples, one after the other, with fewer epochs and draws.

    But for what the reader has to bring, in capitals, and what serves until it is stopped.
    """
    monkeypatch.chdir(tmp_path)
    if "diamonds.csv" in PAGES[page]:
        write_diamonds(request.getfixturevalue("test_data"), tmp_path)
    names, number = {}, 0
    for language, block in re.findall(
        r"^```(python|sh)\n(.*?)^```$", PAGES[page], flags=re.DOTALL | re.MULTILINE
    ):
        if language == "python":
            run_example(block, page, number, names)
            number += 1
        else:
            for line in block.replace("\\\n", " ").splitlines():
                run_command(line, made)


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
