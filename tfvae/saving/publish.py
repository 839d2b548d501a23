"""Models put on a hub: the model and what it says of itself, not where its data lie here."""

import shutil
import tempfile
from pathlib import Path

from tfvae.errors import InputError
from tfvae.saving import hub
from tfvae.saving.card import published_readme
from tfvae.saving.files import find_model, version_directories
from tfvae.saving.load import load

# What is pushed of a run directory.
_OF_RUN = (
    "model.keras",
    "schema.json",
    "metrics.csv",
    "test.json",
    "samples.png",
    "reconstructions.png",
    "latent.png",
    "curves.png",
)


def push(
    path: str | Path, address: str, *, private: bool = True, licence: str | None = None
) -> str:
    """Put a trained model on a hub, with its card, and return its address for browsers.

    Who does so is known by the variable HF_TOKEN, or by ``hf auth login``.

    Args:
        path: what `tfvae.load` takes: a run directory, a `.keras` file or a SavedModel.
        address: ``hf://OWNER/NAME``; the repository is made if it is not there.
        private: whether one that is made is for its owner's eyes alone.
        licence: of the model, in the hub's words, such as "apache-2.0"; by default that of the
            data, if it is known.

    Raises:
        InputError: if there is no model, or the hub does not take it.
    """
    name, revision = hub.parts_of(address)
    if revision is not None:
        raise InputError(f"push makes a new revision: leave out @{revision}")
    library = hub.library()
    found = find_model(path)
    load(found)  # what cannot be read is not pushed
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        if found.is_dir():
            saved = found
            shutil.copytree(found, place, dirs_exist_ok=True)
        else:
            versions = version_directories(found.parent / "saved_model")
            saved = versions[-1] if versions else found.parent
            for one in _OF_RUN if (found.parent / "config.toml").is_file() else ():
                if (found.parent / one).is_file():
                    shutil.copy(found.parent / one, place / one)
            shutil.copy(found, place / "model.keras")
            if (saved / "card.json").is_file():
                shutil.copy(saved / "card.json", place / "card.json")
            if versions:
                shutil.copytree(saved, place / "saved_model" / "1")
        readme = saved / "README.md"
        text = readme.read_text("utf-8") if readme.is_file() else ""
        pictures = [one for one in _OF_RUN if one.endswith(".png") and (place / one).is_file()]
        (place / "README.md").write_text(
            published_readme(text, name, pictures, licence), encoding="utf-8"
        )
        with hub.one_line_errors(name, library):
            api = library.HfApi(endpoint=hub.endpoint_of(library))
            if not api.repo_exists(name):
                api.create_repo(name, private=private)
            api.upload_folder(repo_id=name, folder_path=place, commit_message="Model of tfvae")
    return f"{hub.endpoint_of(library)}/{name}"
