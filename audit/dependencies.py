"""The installed packages that ``pyproject.toml`` leads to."""

import tomllib
from collections.abc import Iterable
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from itertools import chain
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REPOSITORY = Path(__file__).resolve().parent.parent
FOR_USERS = ("local", "cluster", "autoattack", "mlflow", "tensorboard", "wandb")
"""The extras that somebody installs to use advfeat; the others are for those who change it."""


def for_use() -> dict[str, Distribution]:
    """Return what runs with advfeat, by name."""
    base, extras = _declared()
    return _closure([*base, *(line for name in FOR_USERS for line in extras[name])])


def for_development() -> dict[str, Distribution]:
    """Return what besides is installed to test, document and measure it, by name."""
    _, extras = _declared()
    used = for_use()
    found = _closure(line for name in extras if name not in FOR_USERS for line in extras[name])
    return {name: package for name, package in found.items() if name not in used}


def direct() -> set[str]:
    """Return the names of all packages that ``pyproject.toml`` names, installed or not."""
    base, extras = _declared()
    names = {str(canonicalize_name(Requirement(line).name)) for line in chain(base, *extras.values())}
    return names - {"advfeat"}


def _declared() -> tuple[list[str], dict[str, list[str]]]:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return project["dependencies"], project["optional-dependencies"]


def _closure(lines: Iterable[str]) -> dict[str, Distribution]:
    """Follow requirements as far as they hold on this machine; what is not installed is left out."""
    found: dict[str, Distribution] = {}
    followed: set[str] = set()
    waiting = [Requirement(line) for line in lines]
    while waiting:
        wanted = waiting.pop()
        if str(wanted) in followed:
            continue
        followed.add(str(wanted))
        try:
            package = distribution(wanted.name)
        except PackageNotFoundError:
            continue
        if wanted.name != "advfeat":
            found[canonicalize_name(wanted.name)] = package
        for line in package.requires or ():
            needed = Requirement(line)
            if needed.marker is None or any(
                needed.marker.evaluate({"extra": extra}) for extra in wanted.extras or {""}
            ):
                waiting.append(needed)
    return dict(sorted(found.items()))
