"""The card of a model: what it was trained on, what it is, how good it is and how to call it."""

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tfvae.datasets.preprocessing import Preprocessing
from tfvae.datasets.schema import Schema
from tfvae.datasets.source import KINDS
from tfvae.errors import InputError
from tfvae.models.vae import VAE
from tfvae.models.vq import VQVAE
from tfvae.saving.finite import without_nan
from tfvae.saving.validation import from_json

# As their publishers state them.
LICENCES = {
    "digits": "CC BY 4.0 (UCI Machine Learning Repository, Optical Recognition of Handwritten "
    "Digits, in scikit-learn)",
    "shapes": "none: the images are drawn by this package",
    "mnist": "CC BY-SA 3.0 (Yann LeCun, Corinna Cortes)",
    "mnist-small": "CC BY-SA 3.0 (Yann LeCun, Corinna Cortes, Christopher J. C. Burges)",
    "fashion_mnist": "MIT (Zalando SE)",
    "kmnist": "CC BY-SA 4.0 (ROIS-DS Center for Open Data in the Humanities)",
    "diamonds": "MIT (ggplot2)",
    "japanese_vowels": "CC BY 4.0 (UCI Machine Learning Repository, Japanese Vowels)",
}
# The same in the words of model hubs.
_HUB_LICENCES = {
    "CC BY 4.0": "cc-by-4.0",
    "CC BY-SA 3.0": "cc-by-sa-3.0",
    "CC BY-SA 4.0": "cc-by-sa-4.0",
    "MIT": "mit",
    "none": "cc0-1.0",
}
# What hubs call the task of a model, where they have a word for it.
_TASKS = {"image": "unconditional-image-generation"}
# Inputs and outputs that a signature's line in the README names.
_MOST_TENSORS = 16
UNKNOWN_LICENCE = "not known: see where the data come from"


@dataclasses.dataclass(frozen=True)
class Anomaly:
    """From which score on an event is unusual.

    Attributes:
        threshold: of the score, the negative ELBO in nats.
        rate: the share of the validation events whose score is above it.
        events: how many there were.
    """

    threshold: float
    rate: float
    events: int


@dataclasses.dataclass(frozen=True)
class Card:
    """What is known of a model beside its weights; any of it may be missing.

    Attributes:
        data: the data set's name, licence, and size of each split.
        preprocessing: how bytes become the model's values; for images alone.
        training: the options of its training.
        metrics: the ELBO of the test events with its error, nats.
        anomaly: what is unusual.
        class_names: the name of each label, where labels have names.
        schema: what the columns of a table are, and how its rows become events.
    """

    data: dict[str, Any] = dataclasses.field(default_factory=dict)
    preprocessing: Preprocessing | None = None
    training: dict[str, Any] = dataclasses.field(default_factory=dict)
    metrics: dict[str, Any] = dataclasses.field(default_factory=dict)
    anomaly: Anomaly | None = None
    class_names: tuple[str, ...] | None = None
    schema: Schema | None = None

    @classmethod
    def read(cls, path: Path) -> "Card":
        """Read what `write` wrote.

        Raises:
            InputError: if the file holds no card.
        """
        try:
            facts = json.loads(path.read_text(encoding="utf-8"))
            known = {field.name: facts.get(field.name) for field in dataclasses.fields(cls)}
            found = {name: value for name, value in known.items() if value is not None}
            for name, kind in _KINDS.items():
                if name in found:
                    found[name] = from_json(kind, found[name], name)
            return cls(**found)
        except (OSError, ValueError, TypeError, AttributeError, KeyError) as error:
            reason = " ".join(str(error).split())
            raise InputError(f"{path} is no model card: {reason}") from error

    def with_licence(self, licence: str) -> "Card":
        """Return the same card with another licence of the data."""
        return dataclasses.replace(self, data={**self.data, "licence": licence})

    def write(
        self, folder: Path, vae: VAE | VQVAE, signatures: Mapping[str, dict[str, Any]]
    ) -> None:
        """Write card.json and README.md.

        Args:
            folder: of the model.
            vae: the model.
            signatures: what each gives, and the shapes and types of its inputs and outputs; see
                `tfvae.serving.signatures.Signature.described`. None where there is no SavedModel.
        """
        facts = {
            **dataclasses.asdict(self),
            "model": _model(vae),
            "signatures": dict(signatures),
        }
        text = json.dumps(without_nan(facts), indent=1, ensure_ascii=False, allow_nan=False)
        (folder / "card.json").write_text(f"{text}\n", encoding="utf-8")
        (folder / "README.md").write_text(_readme(facts, vae.event_spec.noun), encoding="utf-8")


# The types of what a card has.
_KINDS: dict[str, Any] = {
    "data": dict[str, Any],
    "preprocessing": Preprocessing,
    "training": dict[str, Any],
    "metrics": dict[str, Any],
    "anomaly": Anomaly,
    "class_names": tuple[str, ...],
    "schema": Schema,
}


def licence_of(dataset: str) -> str:
    """Return the licence of a known data set."""
    return LICENCES.get(dataset.partition(":")[0], UNKNOWN_LICENCE)


def _model(vae: VAE | VQVAE) -> dict[str, Any]:
    families: dict[str, Any] = {"likelihood": vae.likelihood_family}
    codes: dict[str, Any] = {}
    if isinstance(vae, VQVAE):
        families |= {"quantizer": vae.quantizer, "code_prior": vae.code_prior}
        codes = {"code_shape": list(vae.code_shape), "num_codes": vae.num_codes}
    else:
        families |= {
            "posterior": vae.posterior_family,
            "prior": vae.prior_family,
            "objective": vae.objective,
        }
    return {
        "kind": KINDS[vae.event_spec.rank - 1],
        "event_shape": list(vae.event_shape),
        "missing": vae.missing,
        "latent_dim": vae.latent_dim,
        **codes,
        "num_classes": vae.num_classes,
        "parameters": vae.count_params(),
        **{name: type(family).__name__ for name, family in families.items()},
    }


def _head(facts: dict[str, Any]) -> list[str]:
    """Return what model hubs read of a card: YAML, each value as JSON, which YAML contains."""
    model, data, metrics = facts["model"], facts["data"], facts["metrics"]
    licence = str(data.get("licence", ""))
    known = [one for start, one in _HUB_LICENCES.items() if licence.startswith(start)]
    kind = model["kind"]
    task = _TASKS.get(kind)
    head: dict[str, Any] = {
        "library_name": "tfvae",
        "license": known[0] if known else "unknown",
        "tags": ["tfvae", "variational-autoencoder", "vae", "keras", "tensorflow", kind],
    }
    if task is not None:
        head["pipeline_tag"] = task
    figures = [name for name in _FIGURES if isinstance(metrics.get(name), int | float)]
    if figures:
        head["metrics"] = figures
        name = str(data.get("name", "unknown"))
        head["model-index"] = [
            {
                "name": "model",
                "results": [
                    {
                        "task": {"type": task or "other"},
                        "dataset": {"name": name, "type": name, "split": "test"},
                        "metrics": [
                            {"type": one, "name": _FIGURES[one], "value": metrics[one]}
                            for one in figures
                        ],
                    }
                ],
            }
        ]
    rows = [f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in head.items()]
    return ["---", *rows, "---", ""]


# Figures of a test that a hub shows, and what they are.
_FIGURES = {
    "elbo": "test ELBO, nats an event",
    "log_likelihood": "test E[log p(x|z)], nats an event",
    "kl": "test KL(q(z|x) || p(z)), nats an event",
}


def published_readme(
    readme: str, name: str, pictures: Sequence[str] = (), licence: str | None = None
) -> str:
    """Return the card of a SavedModel as that of a repository on a model hub.

    Args:
        readme: of the SavedModel; empty where there is none.
        name: OWNER/NAME.
        pictures: files beside it to show.
        licence: of the model, in the hub's words; by default what the card has.
    """
    if not readme.startswith("---\n"):
        readme = '---\nlibrary_name: "tfvae"\nlicense: "unknown"\n---\n\n' + (
            readme or "# A variational autoencoder\n"
        )
    head, _, text = readme[4:].partition("\n---\n")
    if licence is not None:
        head = re.sub("(?m)^license: .*$", lambda _: f"license: {json.dumps(licence)}", head)
    head = head.replace('{"name": "model", ', f'{{"name": {json.dumps(name)}, ')
    use = ["```python", "import tfvae", "", f'vae = tfvae.load("hf://{name}")', "```", ""]
    shown = [f"![{one.rpartition('.')[0]}]({one})" for one in pictures]
    title, _, rest = text.lstrip("\n").partition("\n")
    parts = ["---", head, "---", "", title, "", *use, *shown, rest]
    return "\n".join(parts)


def _readme(facts: dict[str, Any], noun: str) -> str:
    model = facts["model"]
    lines = [*_head(facts), f"# A variational autoencoder of {noun}", ""]
    lines += _section("Model", {name: value for name, value in model.items() if value is not None})
    lines += _section("Data", facts["data"])
    if facts["class_names"]:
        numbers = map(str, range(len(facts["class_names"])))
        lines += _section("Labels", dict(zip(numbers, facts["class_names"], strict=True)))
    if facts["schema"]:
        columns = {column["name"]: column["kind"] for column in facts["schema"]["columns"]}
        lines += _section("Columns, in the order of an event's values", columns)
    lines += _section("Preprocessing of bytes", facts["preprocessing"] or {})
    lines += _section("Training", facts["training"])
    lines += _section("Test data (nats for each event)", facts["metrics"])
    lines += _section("Anomalies (nats)", facts["anomaly"] or {})
    lines += _signatures_section(facts, noun)
    return "\n".join(lines) + "\n"


def _signatures_section(facts: dict[str, Any], noun: str) -> list[str]:
    """Return how to call a SavedModel; nothing for a card that lies beside a `.keras` file."""
    if not facts["signatures"]:
        return []
    model = facts["model"]
    lines = ["## Signatures", "", f"An event is one of the {noun}. The batch B is any."]
    if model["missing"]:
        lines[-1] += (
            " NaN in an event means that the value was not observed; densities are those of the "
            "observed values."
        )
    lines += ["", "| signature | inputs | outputs | gives |", "| --- | --- | --- | --- |"]
    for name, one in facts["signatures"].items():
        cells = [in_words(one[side]) for side in ("inputs", "outputs")]
        lines.append(f"| `{name}` | {cells[0]} | {cells[1]} | {_cell(one['gives'])} |")
    size = f"[1, {', '.join(map(str, model['event_shape']))}]"
    label = "" if model["num_classes"] is None else ", label=tf.zeros(1, tf.int32)"
    x = next(iter(facts["signatures"]["encode"]["inputs"]))
    lines += [
        "",
        "`reconstruct` is the default. TensorFlow alone calls them:",
        "",
        "```python",
        "import tensorflow as tf",
        "",
        'model = tf.saved_model.load("PATH")  # this directory',
        f'model.signatures["encode"]({x}=tf.zeros({size}){label})',
        f'model.signatures["sample"](seed=tf.constant([[1, 0]]){label})',
        "```",
        "",
        "and `tfvae.load` gives the model back, all of its methods.",
    ]
    return lines


def _section(title: str, facts: dict[str, Any]) -> list[str]:
    if not facts:
        return []
    rows = [f"| {_cell(name)} | {_cell(value)} |" for name, value in facts.items()]
    return [f"## {title}", "", "| | |", "| --- | --- |", *rows, ""]


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        value = ", ".join(f"{name} {_cell(one)}" for name, one in value.items())
    elif isinstance(value, list | tuple):
        are_sides = all(isinstance(one, int) for one in value)
        value = (" x " if are_sides else ", ").join(map(str, value))
    elif isinstance(value, float):
        value = f"{value:.6g}"
    return " ".join(str(value).split()).replace("|", "\\|")


def in_words(specs: dict[str, Any]) -> str:
    """Name tensors; of a wide table's columns the first."""
    shown = list(map(_tensor, specs.items()))
    if len(shown) > _MOST_TENSORS:
        more = len(shown) - _MOST_TENSORS // 2
        shown = [*shown[: _MOST_TENSORS // 2], f"{more} more, in card.json"]
    return ", ".join(shown)


def _tensor(item: tuple[str, dict[str, Any]]) -> str:
    name, spec = item
    shape = ", ".join("B" if side is None else str(side) for side in spec["shape"])
    return f"{name} `[{shape}]` {spec['dtype']}"
