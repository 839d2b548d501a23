"""Options and cards of wrong types and values: one line, from a file as from Python."""

import dataclasses
import datetime
import json
import math

import pytest

import tfvae
from tfvae.saving.card import Anomaly, Card
from tfvae.saving.config import DataOptions, TrainConfig

WRONG = {
    "batch_size": ["128", 3.5, True, 0, 2**31, [1], math.inf],
    "dataset": [1, [1], None, datetime.date(1979, 5, 27)],
    "seed": [datetime.date(1979, 5, 27), -1, 2**53, 10**30, 1e3, "0"],
    "decay": ["foo", 1, ""],
    "weight_decay": [-0.1, 0, math.inf, True],
    "clip_norm": [-1.0, 0, math.inf, math.nan, "5", True],
    "checkpoint_seconds": [math.inf, -1, math.nan, "60"],
    "learning_rate": [0, -1e-3, math.inf, math.nan, "fast"],
    "average": [0, 1, 1.5, math.nan],
    "latent_dim": [0, 2**16 + 1, 2.0],
    "missing": [1, "yes"],
    "column": [["a=count", 1], "a=count", {"a": 1}],
    "run_dir": [1, ["x"]],
    "precision": ["float64"],
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_option_is_one_line_from_python_and_from_a_file(tmp_path, name):
    import tomli_w

    for value in WRONG[name]:
        if not (name == "column" and isinstance(value, list)):
            with pytest.raises(tfvae.InputError, match=f"option {name}") as info:
                TrainConfig(**{name: value})
            assert "\n" not in str(info.value)
            with pytest.raises(tfvae.InputError, match=f"option {name}"):
                dataclasses.replace(TrainConfig(), **{name: value})
        if value is None:  # which TOML has not
            continue
        file = tmp_path / "config.toml"
        file.write_text(tomli_w.dumps({name: value}))
        with pytest.raises(tfvae.InputError, match=rf"config\.toml: option {name}") as info:
            TrainConfig.read(file)
        assert "\n" not in str(info.value)


def test_what_fits_comes_back(tmp_path):
    config = TrainConfig(
        dataset="digits",
        learning_rate=1,  # a whole number is a number
        clip_norm=5.0,
        column=("age=count",),
        run_dir=tmp_path,
        seed=2**53 - 1,
        epochs=None,
    )
    (tmp_path / "config.toml").write_text(config.to_toml())
    assert TrainConfig.read(tmp_path / "config.toml") == config
    with pytest.raises(tfvae.InputError, match="option skip_damaged: expected a valid boolean"):
        DataOptions(skip_damaged="no")


WRONG_CARDS = [
    ([1], "no model card"),
    ({"data": [1]}, "option data: expected an object"),
    ({"training": "fast"}, "option training"),
    ({"class_names": "abc"}, "option class_names"),
    ({"class_names": [1, 2]}, "option class_names"),
    ({"anomaly": {"threshold": "1", "rate": 0.1, "events": 3}}, r"option anomaly\.threshold"),
    ({"anomaly": {"threshold": 1}}, r"option anomaly"),
    ({"anomaly": 3}, "option anomaly"),
    ({"preprocessing": {"max_pixels": "many"}}, r"option preprocessing\.max_pixels"),
    ({"preprocessing": {"value_range": [0]}}, r"option preprocessing\.value_range"),
    ({"preprocessing": {"colour": 3}}, "preprocessing has an unknown entry 'colour'"),
    ({"schema": {"columns": 3}}, "option schema"),
    ({"metrics": 0}, "option metrics"),
]


@pytest.mark.parametrize(("facts", "said"), WRONG_CARDS, ids=lambda one: str(one)[:30])
def test_a_wrong_card_is_one_line(tmp_path, facts, said):
    file = tmp_path / "card.json"
    file.write_text(json.dumps(facts))
    with pytest.raises(tfvae.InputError, match=said) as info:
        Card.read(file)
    assert str(info.value).startswith(f"{file} is no model card: ")
    assert "\n" not in str(info.value)


def test_a_card_of_figures_that_are_none_is_written(tmp_path):
    vae = tfvae.VAE.for_events((3,), latent_dim=2, network="dense:hidden=4", seed=0)
    vae.build((None, 3))
    card = Card(
        training={"clip_norm": math.inf},
        metrics={"elbo": math.nan, "of": (math.nan, 1.0)},
        anomaly=Anomaly(math.nan, 0.01, 100),
    )
    encode = {"inputs": {"x": {"shape": [None, 3], "dtype": "float32"}}, "outputs": {}, "gives": ""}
    card.write(tmp_path, vae, {"encode": encode})
    facts = json.loads((tmp_path / "card.json").read_text())
    assert facts["metrics"] == {"elbo": None, "of": [None, 1.0]}
    assert facts["training"] == {"clip_norm": None}
