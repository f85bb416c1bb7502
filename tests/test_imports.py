"""The layout, checked from the source itself: imports run one way, files and folders stay small."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "vaevar"
# From the ground floor up. A room is a set of names; its modules may import each other and lower floors.
# Rooms on the same floor must not import each other.
FLOORS: list[list[set[str]]] = [
    [
        {
            "constants",
            "content",
            "errors",
            "files",
            "loggers",
            "mistakes",
            "provenance",
            "progress",
            "runs",
            "scripts",
            "shipped",
            "short_names",
            "batch_random",
        }
    ],
    [{"sphere"}],
    [{"state", "forecast", "moments", "plausible"}],
    [{"data"}, {"models"}],
    [{"assim"}],
    [{"verification"}],
    [{"cli", "commands", "library"}],  # the comparison runs it
    [{"experiments"}, {"standins"}],
]
LONGEST_FILE = 330
LARGEST_FOLDER = 13
FILES = {
    ".".join(("vaevar", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}


def imported(path: Path, module: str) -> Iterator[str]:
    """Everything that a file imports, also inside functions and for type checkers alone."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parents, *([base] if base else [])])
            # A name imported from a package may be a module of its own.
            for alias in node.names:
                name = f"{base}.{alias.name}"
                yield name if name in FILES or base not in FILES else base


IMPORTS = {module: sorted(set(imported(path, module))) for module, path in FILES.items()}
INSIDE = {module: [name for name in names if name in FILES] for module, names in IMPORTS.items()}


def place(room: str) -> tuple[int, int]:
    """Floor of a room, and its set there."""
    for height, floor in enumerate(FLOORS):
        for number, rooms in enumerate(floor):
            if room in rooms:
                return height, number
    raise AssertionError(f"vaevar.{room} has no floor: add it to FLOORS")


def test_every_import_of_the_package_is_understood() -> None:
    unknown = [
        f"{module} imports {name}"
        for module, names in IMPORTS.items()
        for name in names
        if name.partition(".")[0] == "vaevar" and name not in FILES
    ]
    assert not unknown, unknown
    assert "vaevar.sphere.grid" in INSIDE["vaevar.state.spec"]
    assert sum(map(len, INSIDE.values())) > 200


def test_imports_run_one_way() -> None:
    wrong = []
    for module, names in INSIDE.items():
        if module == "vaevar":
            continue
        height, number = place(module.split(".")[1])
        for name in names:
            if name == "vaevar":
                continue
            other, other_number = place(name.split(".")[1])
            if other > height or (other == height and other_number != number):
                wrong.append(f"{module} imports {name}")
    assert not wrong, "\n".join(wrong)


def test_no_import_circle() -> None:
    try:
        TopologicalSorter(INSIDE).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_files_are_short() -> None:
    lengths = {module: len(path.read_text(encoding="utf-8").splitlines()) for module, path in FILES.items()}
    assert not {module: length for module, length in lengths.items() if length > LONGEST_FILE}


def test_folders_are_small() -> None:
    sizes = {
        str(folder.relative_to(PACKAGE.parent)): sum(p.name != "__init__.py" for p in folder.glob("*.py"))
        for folder in {path.parent for path in FILES.values()}
    }
    assert not {folder: size for folder, size in sizes.items() if size > LARGEST_FOLDER}


def test_nothing_chooses_a_backend_of_matplotlib() -> None:
    """Importing the package leaves a notebook's backend alone."""
    wrong = [
        module
        for module, path in FILES.items()
        if "matplotlib.pyplot" in IMPORTS[module] or "matplotlib.use(" in path.read_text(encoding="utf-8")
    ]
    assert not wrong, wrong
