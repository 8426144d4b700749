"""Names of runs: one that somebody typed stays, one that was made up gives way to what the run is."""

import re
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, cast

from coolname.data import config
from prefect.runtime import flow_run

_BY_THE_PAGES = re.compile(
    r"(?:Awesome|Rustic|Small|Gorgeous|Fantastic|Sleek|Intelligent|Unbranded|Refined|Licensed|Generic"
    r"|Practical|Ergonomic|Handcrafted|Tasty|Handmade|Incredible)-[A-Z][\w' -]{0,5}"
)
"""What the form of a run is filled in with: an adjective, and an animal of at most six letters."""


def named(title: Callable[[dict[str, Any]], str | None]) -> Callable[[], str]:
    """Return what Prefect asks for the name of a run: its title, told from its parameters.

    A name that somebody typed stays, and so does any where the parameters have no title.
    """

    def name_of_run() -> str:
        given = str(flow_run.get_name())
        return (title(flow_run.get_parameters()) or given) if is_made_up(given) else given

    return name_of_run


def is_made_up(name: str) -> bool:
    """Tell whether a name is one that a Prefect server or its pages give a run that has none."""
    if _BY_THE_PAGES.fullmatch(name):
        return True
    first, _, second = name.partition("-")
    return first in _words("adj_any") and second in _words("subj")


@cache
def _words(kind: str) -> frozenset[str]:
    """Return the words of a kind that servers make names of."""
    return frozenset(_listed(kind))


def _listed(kind: str) -> Iterator[str]:
    entry = cast("dict[str, Any]", config[kind])
    yield from entry.get("words", ())
    for inner in entry.get("lists", ()):
        yield from _listed(inner)
