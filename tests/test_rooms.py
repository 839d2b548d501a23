"""The package's rooms: imports point down, so that none of them go round in a circle."""

import ast
from pathlib import Path

import pytest

import tfvae

ROOT = Path(tfvae.__file__).parent

# From the bottom up. A room imports from those before it, and from itself.
ROOMS = [
    "errors",
    "quiet",
    "typing",
    "checks",
    "lazy",
    "graph_errors",
    "share",
    "distributions",
    "networks",
    "likelihoods",
    "posteriors",
    "priors",
    "codes",
    "objectives",
    "models",
    "datasets",
    "evaluation",
    "saving",
    "plotting",
    "training",
    "serving",
    "compression",
    "app",
    "sklearn",
    "cli",
]


def modules():
    return sorted(path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py")


def name_of(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


NAMES = {name_of(path) for path in modules()}


def imported(path):
    """Return the modules of the package that a file imports, wherever in it and for whatever."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "tfvae":
            base = node.module.partition(".")[2]
            for alias in node.names:
                whole = f"{base}.{alias.name}".strip(".")
                found.add(whole if whole in NAMES else base)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.startswith("tfvae."):
                    found.add(alias.name.partition(".")[2])
    return found - {""}


def test_there_are_few_rooms_and_each_has_its_place():
    rooms = {name.partition(".")[0] for name in NAMES}
    assert rooms == set(ROOMS)
    assert len(ROOMS) <= 25


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_imports_point_down(path):
    own = ROOMS.index(name_of(path).partition(".")[0])
    upward = {name for name in imported(path) if ROOMS.index(name.partition(".")[0]) > own}
    assert not upward


def test_no_modules_import_each_other_in_a_circle():
    graph = {name_of(path): imported(path) for path in modules()}
    done: set[str] = set()

    def visit(name, way):
        assert name not in way, " → ".join([*way[way.index(name) :], name])
        if name not in done:
            for other in sorted(graph.get(name, ())):
                visit(other, [*way, name])
            done.add(name)

    for name in sorted(graph):
        visit(name, [])


def test_keras_is_loaded_before_each_room_below_the_models():
    # `cli/test_startup.py` loads one of them first.
    below = ROOMS[ROOMS.index("distributions") : ROOMS.index("models")]
    assert set(tfvae._KerasFirst.rooms) == set(below)
