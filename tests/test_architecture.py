"""Who may import whom: CONTRIBUTING.md has the order of the wings, and nothing imports against it."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "advfeat"
FORBIDDEN = {
    "advfeat": {"tasks", "flows", "prefect", "prefect_ray", "tests"},
    "tasks": {"tasks", "flows", "prefect_ray", "ray", "torch", "tests"},
    "flows": {"tasks", "flows", "torch", "tests"},
}
PICKLES = {"pickle", "cloudpickle", "joblib", "dill", "shelve"}
MOST_FILES_BESIDE_WINGS = 10


def order() -> list[set[str]]:
    """Return the levels of the house as CONTRIBUTING.md draws them, from the top down."""
    text = (ROOT / "CONTRIBUTING.md").read_text().partition("## Who may import whom")[2]
    (drawing,) = re.findall(r"```text\n(.*?)```", text.partition("\n## ")[0], re.DOTALL)
    return [set(re.split(r"[ ,]+", line.partition("  ")[0].strip())) for line in drawing.splitlines()]


LEVELS = order()


def files() -> Iterator[Path]:
    """Every module of the package, relative to the repository; flows and tasks where they lie."""
    for folder in ("advfeat", "flows", "tasks"):
        yield from (path.relative_to(ROOT) for path in sorted((ROOT / folder).rglob("*.py")))


def wing(parts: tuple[str, ...]) -> str:
    """Name the wing that a module belongs to, by the parts of its path or dotted name behind ``advfeat``."""
    return parts[0] if parts and (PACKAGE / parts[0]).is_dir() else "ground"


def level(name: str) -> int:
    """Return how high a wing stands, the top first."""
    (found,) = (number for number, wings in enumerate(LEVELS) if name in wings)
    return found


def imported(path: Path) -> set[str]:
    """Return the modules that a file imports by their dotted names, inside functions and for types too."""
    names = set()
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def wings_imported(path: Path) -> set[str]:
    """Return the wings that a file imports."""
    names = (tuple(name.split("."))[1:] for name in imported(path) if name.startswith("advfeat."))
    return {wing(parts) for parts in names if parts[0] != "__version__"}


def test_every_wing_has_one_place_in_the_order_and_a_face() -> None:
    there = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    drawn = [name for wings in LEVELS for name in wings]
    assert sorted(drawn) == sorted({*there, "ground"})
    for name in there:
        assert ast.get_docstring(ast.parse((PACKAGE / name / "__init__.py").read_text())), name


def test_nothing_imports_against_the_order() -> None:
    wrong = {
        f"{path}: {other}"
        for path in files()
        if path != Path("advfeat/__init__.py")  # hands out what stands above it
        for other in wings_imported(path)
        if other != (own := wing(path.parts[path.parts[0] == "advfeat" :])) and level(other) <= level(own)
    }
    assert wrong == set()


def test_few_files_stand_beside_the_wings() -> None:
    beside = [path.name for path in PACKAGE.glob("*.py")]
    assert len(beside) <= MOST_FILES_BESIDE_WINGS, beside


@pytest.mark.parametrize("folder", FORBIDDEN)
def test_nothing_imports_upwards_or_reads_pickles(folder: str) -> None:
    found = [path for path in files() if path.parts[0] == folder]
    assert found
    tops = {str(path): {name.partition(".")[0] for name in imported(path)} for path in found}
    wrong = {path: names & (FORBIDDEN[folder] | PICKLES) for path, names in tops.items()}
    assert {path: names for path, names in wrong.items() if names} == {}
