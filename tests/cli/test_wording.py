"""What the library advises, in the words of the place where its reader is."""

import ast
import dataclasses
import re
from pathlib import Path

import pytest

import tfvae
from tfvae.cli.main import app
from tfvae.cli.wording import as_options

ROOT = Path(tfvae.__file__).parent


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("give value_range=(0, 4095) to scale", "give --value-range 0,4095 to scale"),
        ("give value_range=(LOWEST, HIGHEST)", "give --value-range LOWEST,HIGHEST"),
        ("or give kind='image'", "or give --kind image"),
        ("give folder_labels=False to read", "give --no-folder-labels to read"),
        ("give missing=True", "give --missing"),
        ("give image_size=64, or another", "give --image-size 64, or another"),
        ("give manual_dir=FOLDER, where", "give --manual-dir FOLDER, where"),
        ("give columns={'zip': 'text'} to", "give --column zip=text to"),
        ("give columns={'zip code': 'text'}", "give --column 'zip code=text'"),
        ("dequantize=True or binarize='static'", "--dequantize or --binarize static"),
        ("give unseen='missing' to", "give --unseen missing to"),
        (
            "scale the values, for bytes x / 255.0",
            "scale the values, bytes by --value-range 0,255",
        ),
    ],
)  # fmt: skip
def test_arguments_become_options(message, said):
    assert as_options(message) == said


def refusals(folder):
    """Yield the texts that are raised in the modules of a folder."""
    for path in sorted((ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "InputError":
                yield path.name, ast.unparse(node.args[0])


def test_every_option_that_the_command_line_is_told_of_exists():
    known = set()
    for name in ("train", "data", "score"):
        command = app[name]
        for argument in command.assemble_argument_collection():
            known |= set(argument.names)
    found = set()
    for folder in ("datasets", "saving"):
        for _, text in refusals(folder):
            found |= set(re.findall(r"--[a-z][a-z-]+", as_options(text)))
    assert len(found) >= 5
    assert found <= known


def test_the_library_speaks_of_arguments_alone():
    said = [
        (name, text) for folder in ("datasets", "models", "likelihoods", "evaluation", "training")
        for name, text in refusals(folder)
        if re.search(r"--[a-z]", text)
    ]  # fmt: skip
    assert not said


def test_every_way_to_read_has_an_option():
    from tfvae.datasets import load
    from tfvae.saving.config import ReadingOptions

    options = {field.name for field in dataclasses.fields(ReadingOptions)}
    arguments = set(load.__annotations__) - {"return", "name", "seed", "schema", "unseen"}
    assert arguments - {"columns", "memory_limit", "workers"} <= options
