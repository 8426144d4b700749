"""Who may import whom: flows -> tasks -> advfeat, never upwards."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FORBIDDEN = {
    "advfeat": {"tasks", "flows", "prefect", "prefect_ray", "tests"},
    "tasks": {"flows", "prefect_ray", "ray", "torch", "tests"},
    "flows": {"torch", "tests"},
}
PICKLES = {"pickle", "cloudpickle", "joblib", "dill", "shelve"}


def imported(path: Path) -> set[str]:
    """Return the top-level names that a file imports, inside functions too."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            names.add(node.module.partition(".")[0])
    return names


@pytest.mark.parametrize("package", FORBIDDEN)
def test_nothing_imports_upwards_or_reads_pickles(package: str) -> None:
    files = sorted((ROOT / package).rglob("*.py"))
    assert files
    wrong = {
        str(path.relative_to(ROOT)): imported(path) & (FORBIDDEN[package] | PICKLES)
        for path in files
        if imported(path) & (FORBIDDEN[package] | PICKLES)
    }
    assert wrong == {}
