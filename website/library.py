"""The pages of the modules: what mkdocstrings makes of their docstrings, and a list of them all."""

import ast
from pathlib import Path

PACKAGES = ("advfeat", "tasks", "flows")


def modules(repository: Path) -> list[Path]:
    """List the files of the public modules, relative to the repository."""
    return sorted(
        file.relative_to(repository)
        for package in PACKAGES
        for file in repository.joinpath(package).rglob("*.py")
        if file.name == "__init__.py" or not file.name.startswith("_")
    )


def module_name(file: Path) -> str:
    """Return the dotted name of the module in a file."""
    inside = file if file.parts[0] == "advfeat" else Path("advfeat") / file
    return ".".join(inside.with_suffix("").parts).removesuffix(".__init__")


def module_page(file: Path) -> str:
    """Return the page of one module."""
    name = module_name(file)
    return f"[Library]({'../' * (len(file.parts) - 1)}advfeat/README.md)\n\n# {name}\n\n::: {name}\n"


def library_page(repository: Path) -> str:
    """Return the list of all modules, each with the first sentence of its docstring."""
    text = (
        "# Library\n\nEvery module, by package. Who may import whom: [Contributing]"
        "(../CONTRIBUTING.md#who-may-import-whom).\n"
    )
    folder = None
    for file in sorted(modules(repository), key=lambda file: (_order(file), file)):
        if file.parent != folder:
            folder = file.parent
            text += f"\n## {'.'.join(folder.parts)}\n\n| module | what it holds |\n|---|---|\n"
        docstring = ast.get_docstring(ast.parse((repository / file).read_text(encoding="utf-8"))) or ""
        first = " ".join(docstring.split("\n\n")[0].split())
        text += f"| [`{module_name(file)}`](../{file.with_suffix('.md')}) | {first} |\n"
    return text


def _order(file: Path) -> tuple[int, str]:
    return PACKAGES.index(file.parts[0]), str(file.parent)
