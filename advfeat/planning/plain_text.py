"""YAML and JSON of plain values, as settings are written: what could be read in two ways is not guessed.

Of YAML 1.1's numbers only decimal ones are read: ``12:30`` is a text and not 750, ``0400`` not 256, and
``1e-3`` is a number. A key is a text, also ``on`` or ``1``; one that is given twice is an error.
"""

import json
import re
from copy import deepcopy
from functools import lru_cache
from typing import Any

MOST_CHARACTERS = 100_000
_MOST_IN_ONE = 3500
"""Characters of one value: Python refuses to print whole numbers of more than 4,300 digits."""


def read_yaml(text: str) -> Any:
    """Read YAML of plain values; raises ``ValueError``.

    No value may be larger, or nested deeper, than any experiment is: a few lines of references to
    references can stand for more values than memory holds.
    """
    check_length(text)
    # The points of a grid say the same of most fields; who gets a value may change it.
    return deepcopy(_remembered(text)) if len(text) <= _MOST_REMEMBERED else _read(text)


def _read(text: str) -> Any:
    from advfeat.planning.yaml_values import load  # plans are made without PyYAML too

    return load(text)


_remembered = lru_cache(maxsize=1024)(_read)
_MOST_REMEMBERED = 4000
"""Characters of a text whose value is kept: those of a preset are fewer."""


def read_json(text: str) -> Any:
    """Read JSON of plain values; raises ``ValueError``, also for what ``read_yaml`` would refuse."""
    check_length(text)
    try:
        content = json.loads(text)
    except RecursionError as error:
        raise ValueError(str(error)) from error
    # YAML's reader knows lines. JSON is YAML, but for tabs between values, and characters in two halves.
    read_yaml(_ESCAPES.sub(_without_halves, text.replace("\t", " ")))
    return content


_ESCAPES = re.compile(r"\\(?:u[dD][89abAB]\w\w\\u[dD][c-fC-F]\w\w|.)")


def _without_halves(escape: re.Match[str]) -> str:
    return escape[0] if len(escape[0]) == 2 else "?"


def check_length(text: str) -> None:
    """Raise ``ValueError`` if a text is longer than settings are."""
    if len(text) > MOST_CHARACTERS:
        raise ValueError(f"more than {MOST_CHARACTERS:,} characters")


def check_text(text: str) -> None:
    """Raise ``ValueError`` if a value is longer than any, or holds half a character."""
    if len(text) > _MOST_IN_ONE:
        raise ValueError(f"a value of more than {_MOST_IN_ONE:,} characters")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError("half a character")
