"""The README's examples run as they stand."""

import re

import keras
import numpy as np
import pytest
from command_line import within
from model_server import model_server
from scripts import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
OWN_DATA = (ROOT / "docs" / "own_data.md").read_text(encoding="utf-8")


def blocks(language, page=README):
    return re.findall(rf"^```{language}\n(.*?)^```$", page, flags=re.DOTALL | re.MULTILINE)


@pytest.mark.exhaustive
def test_the_python_examples_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    example, _, _, extension, serving, client, runtimes = blocks("python")
    quick = example.replace("epochs=50", "epochs=1")
    assert quick != example
    assert len([line for line in example.splitlines() if line and "import" not in line]) <= 15
    exec(compile(quick, "README.md", "exec"), {})
    for name in ("samples.png", "reconstructions.png", "model.keras", "saved_model"):
        assert (tmp_path / name).exists()
    own = {}
    exec(compile(extension, "README.md", "exec"), own)
    assert len([line for line in extension.splitlines() if line and "import" not in line]) <= 10
    images = np.random.default_rng(0).normal(size=(4, 8, 8, 1)).astype("float32")
    own["vae"].compile("adam")
    own["vae"].fit(images, verbose=0)
    own["vae"].save(tmp_path / "own.keras")
    again = keras.models.load_model(tmp_path / "own.keras")
    np.testing.assert_array_equal(
        again.elbo(images, seed=1).elbo, own["vae"].elbo(images, seed=1).elbo
    )
    names = {}
    exec(compile(serving.replace("my_model/1", "saved_model"), "README.md", "exec"), names)
    assert names["images"].shape == (2, 8, 8, 1)
    with model_server(tmp_path / "saved_model") as (_, address):
        served = client.replace("grpc://localhost:8500", address)
        assert served != client
        exec(compile(served, "README.md", "exec"), own)
    np.testing.assert_allclose(own["images"], names["images"], atol=1e-6)

    for line in re.findall(
        r"^tfvae export runs/mnist --out \w+ --format .*$", README, re.MULTILINE
    ):
        within(*line.replace("runs/mnist", "model.keras").split()[1:])
    names = {}
    exec(compile(runtimes.replace("(9, 16)", "(9, 8)"), "README.md", "exec"), names)
    expected = keras.models.load_model("model.keras").decode(names["noise"]).mean()
    np.testing.assert_allclose(names["images"], expected, atol=1e-4)
    np.testing.assert_allclose(names["nearly"], expected, atol=0.1)


def test_networks_of_ones_own_and_missing_values(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _, networks, missing, *_ = blocks("python")
    names = {}
    exec(compile(networks, "README.md", "exec"), names)
    series = np.random.default_rng(0).normal(size=(4, 24, 1)).astype("float32")
    assert names["vae"].reconstruct(series).shape == series.shape
    exec(compile(missing.replace("epochs=5", "epochs=1"), "README.md", "exec"), names)
    x, filled = names["x"], names["filled"].numpy()
    np.testing.assert_array_equal(filled[~np.isnan(x)], x[~np.isnan(x)])
    assert np.isfinite(filled).all()
    assert names["completions"].shape == (10, 500, 6)


def test_the_examples_of_own_data_run_and_print_what_is_shown(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    arrays, table, target = blocks("python", OWN_DATA)
    shown = blocks("text", OWN_DATA)
    names = {}
    exec(compile(arrays, "own_data.md", "exec"), names)
    assert capsys.readouterr().out == shown[0]
    exec(compile(table, "own_data.md", "exec"), names)
    assert capsys.readouterr().out.startswith(shown[1])
    assert list(names["new"]) == list(names["people"])
    exec(compile(target, "own_data.md", "exec"), names)
    assert names["denoised"].shape == names["clean"].shape


def links(page):
    prose = re.sub(r"^```.*?^```$", "", page, flags=re.DOTALL | re.MULTILINE)
    return re.findall(r"\]\(([^)#]+)\)", prose)


@pytest.mark.parametrize("target", links(README))
def test_links_lead_somewhere(target):
    assert (ROOT / target).exists()


def test_the_commands_shown_exist():
    from tfvae.cli.main import app

    script = "\n".join(blocks("sh") + blocks("sh", OWN_DATA)).replace("\\\n", " ")
    shown = re.findall(r"^tfvae .*$", script, flags=re.MULTILINE)
    assert len(shown) >= 7
    for line in shown:
        command, _, ignored = app.parse_args(
            line.split()[1:], exit_on_error=False, print_error=False
        )[:3]
        assert command.__name__ == line.split()[1]
        assert not ignored
