"""Imports between the folders point down only, and no modules import one another in a circle."""

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
GROUND = {"runtime"}
DATA = {"data", *GROUND}
MODELS = {"evaluation", "rollout", "rewards", *DATA}
ALLOWED = {
    "launch": {"cli", *DATA},
    "cli": {"cluster", "monitoring", "demo", "learner", *MODELS},
    "cluster": {"monitoring", "learner", *MODELS},
    "monitoring": {"evaluation", "rewards", *DATA},
    "demo": {"evaluation", "rewards", *DATA},
    "evaluation": {"rollout", "rewards", *DATA},
    "learner": DATA,
    "rollout": DATA,
    "rewards": DATA,
    "data": GROUND,
    "runtime": set(),
}
"""What each folder may import, besides itself."""
MAY_IMPORT_VLLM = {"rollout", "learner"}


def module_name(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


SOURCES = {
    module_name(file): file.read_text()
    for folder in ALLOWED
    for file in [*ROOT.glob(f"{folder}.py"), *sorted((ROOT / folder).rglob("*.py"))]
}


def imported(source: str) -> Iterator[str]:
    """The names of all modules that a module imports, functions' imports included. Of `from a import b` that
    is a.b, too: it may be a module."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute from the root"
            assert node.module is not None
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def forbidden(module: str, source: str) -> list[str]:
    """What a module imports and its folder may not."""
    folder = module.split(".")[0]
    targets = {name.split(".")[0]: name for name in imported(source)}
    allowed = {folder, *ALLOWED[folder]}
    found = [name for top, name in targets.items() if top in ALLOWED and top not in allowed]
    return found + ["vllm" for top in targets if top == "vllm" and folder not in MAY_IMPORT_VLLM]


def circle(sources: dict[str, str]) -> list[str]:
    """Modules that import one another in a circle; empty if there are none."""
    graph = {
        module: {name for name in imported(source) if name in sources and name != module}
        for module, source in sources.items()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_every_folder_of_python_has_its_place() -> None:
    folders = {file.relative_to(ROOT).parts[0] for file in ROOT.glob("[a-z]*/**/*.py")}
    assert folders - {"benchmarks", "runs", "setup", "tests"} == set(ALLOWED) - {"launch"}


def test_imports_point_down_only() -> None:
    found = {module: names for module, source in SOURCES.items() if (names := forbidden(module, source))}
    assert found == {}, "move the code, or pass it values; ALLOWED says what a folder may import"


def test_no_modules_import_one_another() -> None:
    assert circle(SOURCES) == []


def test_the_allowed_imports_have_no_circle() -> None:
    assert next(iter(TopologicalSorter(ALLOWED).static_order())) == "runtime"


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("rollout.worker", "from learner.grpo import grpo_loss"),
        ("rewards.pool", "def late():\n    import rollout.fleet"),
        ("evaluation.scorer", "from cluster import config"),
        ("evaluation.scorer", "import vllm"),
    ],
)
def test_a_wrong_import_is_found(module: str, source: str) -> None:
    assert forbidden(module, source)


def test_a_circle_is_found() -> None:
    sources = {
        "data.a": "from data import b",
        "data.b": "import data.c",
        "data.c": "import data.a",
    }
    assert set(circle(sources)) == set(sources)
    assert circle(sources | {"data.c": "import json"}) == []
