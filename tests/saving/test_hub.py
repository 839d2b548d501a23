"""Models of a hub: pushed, loaded, and refused, over a stand-in on this machine."""

import json
import logging

import numpy as np
import pytest
import yaml
from command_line import refused, within
from model_hub import TOKEN, model_hub

import tfvae
from tfvae.errors import InputError
from tfvae.saving import hub as hubs
from tfvae.saving.card import Card
from tfvae.saving.publish import push

huggingface_hub = pytest.importorskip("huggingface_hub")
constants = pytest.importorskip("huggingface_hub.constants")


@pytest.fixture
def hub(tmp_path, monkeypatch):
    with model_hub() as served:
        monkeypatch.setenv("HF_ENDPOINT", served.address)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
        yield served


@pytest.fixture(scope="module")
def vae():
    model = tfvae.VAE.for_events((4,), latent_dim=2, network="dense:hidden=8", seed=0)
    model.compile("adam")
    return model


@pytest.fixture
def run(vae, tmp_path):
    """A run directory, as far as it matters."""
    folder = tmp_path / "run"
    folder.mkdir()
    vae.save(folder / "model.keras")
    (folder / "config.toml").write_text('dataset = "/home/somebody/mine.npy"\n')
    (folder / "metrics.csv").write_text("epoch,elbo\n0,-1.0\n")
    (folder / "samples.png").write_bytes(b"\x89PNG")
    saved = folder / "saved_model" / "1"
    saved.mkdir(parents=True)
    (saved / "saved_model.pb").write_bytes(b"a graph, which is not read")
    card = Card(
        data={"name": "mnist-small", "licence": "CC BY-SA 3.0 (Yann LeCun, Corinna Cortes)"},
        metrics={"elbo": -2.5, "log_likelihood": -1.5, "kl": 1.0, "events": 10},
    )
    encode = {"inputs": {"x": {"shape": [None, 4], "dtype": "float32"}}, "outputs": {}}
    card.write(saved, vae, {"encode": {**encode, "gives": "q(z|x)"}})
    return folder


def head_of(text):
    _, head, rest = text.split("---\n", 2)
    return yaml.safe_load(head), rest


def test_a_card_has_what_hubs_read(run):
    text = (run / "saved_model" / "1" / "README.md").read_text("utf-8")
    head, rest = head_of(text)
    assert head["library_name"] == "tfvae"
    assert head["license"] == "cc-by-sa-3.0"
    assert {"tfvae", "vae", "keras"} <= set(head["tags"])
    assert head["metrics"] == ["elbo", "log_likelihood", "kl"]
    (results,) = head["model-index"][0]["results"]
    assert results["dataset"]["name"] == "mnist-small"
    assert {one["type"]: one["value"] for one in results["metrics"]}["elbo"] == -2.5
    assert rest.lstrip().startswith("# A variational autoencoder of vectors")
    # The hub's own reader takes it.
    card = huggingface_hub.ModelCard(text.replace('"model"', '"me/model"'))
    assert card.data.license == "cc-by-sa-3.0"
    assert card.data.eval_results[0].metric_value == -2.5


def test_a_run_is_pushed_and_loaded(hub, run, vae, caplog):
    caplog.set_level(logging.DEBUG)
    out, err = within("push", run, "hf://me/digits")
    assert f"{hub.address}/me/digits" in out
    files = hub.files["me/digits"]
    assert {"model.keras", "README.md", "card.json", "metrics.csv", "samples.png"} <= set(files)
    assert not any("config.toml" in name or "checkpoint" in name for name in files)
    assert not any(b"/home/somebody" in body for body in files.values())
    head, rest = head_of(files["README.md"].decode())
    assert head["model-index"][0]["name"] == "me/digits"
    assert 'tfvae.load("hf://me/digits")' in rest and "![samples](samples.png)" in rest

    hub.files["me/digits"].update({"evil.pkl": b"cos\nsystem\n", "model.safetensors": b"x"})
    hub.asked.clear()
    model = tfvae.load("hf://me/digits")
    x = np.random.default_rng(0).random((3, 4)).round().astype("float32")
    np.testing.assert_array_equal(model.encode(x).mean(), vae.encode(x).mean())
    fetched = {line.rsplit("/", 1)[1] for line in hub.asked if line.startswith("GET /me")}
    assert fetched == {"model.keras", "README.md", "card.json"}
    revision = hub.commit("me/digits")
    assert tfvae.load(f"hf://me/digits@{revision}").latent_dim == 2
    assert TOKEN not in out + err + caplog.text


def test_the_commands_take_an_address_and_know_the_card(hub, run, tmp_path):
    push(run, "hf://me/digits")
    within("sample", "hf://me/digits", "--n", 4, "--out", tmp_path / "made.npy")
    assert np.load(tmp_path / "made.npy").shape == (4, 4)
    from tfvae.saving.run import TrainedModel

    assert TrainedModel.open("hf://me/digits").card().data["name"] == "mnist-small"


def test_what_was_fetched_is_there_without_the_hub(hub, run):
    push(run, "hf://me/digits")
    tfvae.load("hf://me/digits")
    hub.answer = None
    address, hub.address = hub.address, None
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # where nobody listens
        assert tfvae.load("hf://me/digits").latent_dim == 2
        with pytest.raises(InputError, match="has not been fetched before, and http://127") as info:
            tfvae.load("hf://me/other")
    assert "\n" not in str(info.value) and address


@pytest.mark.exhaustive
def test_an_exported_model_is_pushed_and_loaded(hub, vae, tmp_path):
    vae.export(tmp_path / "saved")
    push(tmp_path / "saved", "hf://me/served", licence="apache-2.0", private=False)
    assert "me/served" not in hub.private
    head, _ = head_of(hub.files["me/served"]["README.md"].decode())
    assert head["license"] == "apache-2.0"
    assert tfvae.load("hf://me/served").latent_dim == 2


@pytest.mark.parametrize(
    ("address", "text"),
    [
        ("hf://me/nothing", "there is no hf://me/nothing that this token may see"),
        ("hf://me/empty", "holds no model of tfvae"),
        ("hf://me/large", r"has 3,000,000,\d+ bytes; at most 2,147,483,648 are fetched"),
        ("hf://me/lying", "1 bytes|size|Consistency|announced"),
        ("hf://me/digits@other", "has no such revision"),
        ("hf://../etc", "expected hf://OWNER/NAME"),
        ("hf://me", "expected hf://OWNER/NAME"),
        ("hf://me/a/b", "expected hf://OWNER/NAME"),
    ],
)
def test_what_cannot_be_loaded_is_one_line(hub, address, text):
    hub.files.update(
        {
            "me/empty": {"README.md": b"", "weights.bin": b"x"},
            "me/large": {"model.keras": b"x"},
            "me/lying": {"model.keras": b"xyz"},
            "me/digits": {"model.keras": b"x"},
        }
    )
    hub.sizes = {"model.keras": 3_000_000_000 if address == "hf://me/large" else 1}
    with pytest.raises(InputError, match=text) as info:
        tfvae.load(address)
    assert len(str(info.value).splitlines()) == 1
    assert TOKEN not in str(info.value)


def test_who_may_not_is_told_how_to_log_in(hub, run, monkeypatch):
    push(run, "hf://me/digits")
    monkeypatch.setenv("HF_TOKEN", "hf_of_nobody_at_all")
    line = refused("push", run, "hf://me/digits")
    assert "log in by hf auth login" in line and "hf_of_nobody" not in line
    with pytest.raises(InputError, match="log in by"):
        tfvae.load("hf://me/digits")  # it is private
    for status in (403, 500):
        hub.answer = status
        with pytest.raises(InputError, match=f"{status}") as info:
            tfvae.load("hf://me/digits")
        assert "hf_of_nobody" not in str(info.value)


def test_without_the_client_it_is_one_line(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    with pytest.raises(InputError, match=r"pip install 'tfvae\[hub\]'"):
        tfvae.load("hf://me/digits")
    assert hubs.is_address("hf:/me/digits") and not hubs.is_address("runs/hf")
    assert json.dumps(hubs.parts_of("hf:/me/digits@v1")) == '["me/digits", "v1"]'
