"""YAML and JSON of plain values, as settings are written: what could be read in two ways is not guessed.

Of YAML 1.1's numbers only decimal ones are read: ``12:30`` is a text and not 750, ``0400`` not 256, and
``1e-3`` is a number. A key is a text, also ``on`` or ``1``; one that is given twice is an error.
"""

import json
import re
from collections.abc import Iterable
from copy import deepcopy
from functools import lru_cache
from itertools import chain, islice
from typing import Any

import yaml

MOST_CHARACTERS = 100_000
_MOST_VALUES = 100_000
_MOST_IN_ONE = 3500
"""Characters of one value: Python refuses to print whole numbers of more than 4,300 digits."""

_MOST_NESTING = 32


_TEXT, _MERGE, _INT, _FLOAT = (f"tag:yaml.org,2002:{name}" for name in ("str", "merge", "int", "float"))


class _Loader(yaml.SafeLoader):
    """PyYAML's, with other numbers, without dates, and with texts for keys."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """Compose a mapping whose keys are what is written."""
        mapping = super().compose_mapping_node(anchor)
        for key, _ in mapping.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != _MERGE:
                key.tag = _TEXT
        return mapping

    def whole_number(self, node: Any) -> int:
        """Return the number of a node that says that it is a whole one."""
        return int(self.construct_scalar(node))

    def number(self, node: Any) -> float:
        """Return the number of a node that says that it is one."""
        return float(self.construct_scalar(node).lower().replace(".inf", "inf").replace(".nan", "nan"))


_Loader.yaml_implicit_resolvers = {}
_Loader.add_constructor(_INT, _Loader.whole_number)
_Loader.add_constructor(_FLOAT, _Loader.number)

for _tag, _pattern, _first in (
    ("bool", "yes|Yes|YES|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF", "yYnNtTfFoO"),
    ("null", "~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("merge", "<<", "<"),
    ("int", "[-+]?(?:0|[1-9][0-9]*)", "-+0123456789"),
    ("float", r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?", "-+0123456789."),
    ("float", r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)", "-+."),
):
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_pattern})\Z"), list(_first)
    )


def read_yaml(text: str) -> Any:
    """Read YAML of plain values; raises ``ValueError``.

    No value may be larger, or nested deeper, than any experiment is: a few lines of references to
    references can stand for more values than memory holds.
    """
    check_length(text)
    # The points of a grid say the same of most fields; who gets a value may change it.
    return deepcopy(_remembered(text)) if len(text) <= _MOST_REMEMBERED else _read(text)


def _read(text: str) -> Any:
    try:
        loader = _Loader(text)
        root = loader.get_single_node()
        if root is None:
            return None
        _check(root)
        return loader.construct_document(root)
    except (yaml.YAMLError, RecursionError, OverflowError, LookupError, TypeError, AttributeError) as error:
        raise ValueError(str(error)) from error


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


def _check(root: yaml.Node) -> None:
    """Raise ``ValueError`` for a key given twice, or too many values, counted as often as referred to."""
    level, count = [root], 0
    for _ in range(_MOST_NESTING):
        count += len(level)
        if count > _MOST_VALUES:
            raise ValueError(f"more than {_MOST_VALUES:,} values")
        for node in level:
            if isinstance(node, yaml.ScalarNode):
                check_text(node.value)
            elif isinstance(node, yaml.MappingNode):
                _check_keys(node)
        inner = chain.from_iterable(map(_inner, level))
        level = list(islice(inner, _MOST_VALUES - count + 1))
        if not level:
            return
    raise ValueError(f"values nested more than {_MOST_NESTING} deep")


def _check_keys(mapping: yaml.MappingNode) -> None:
    lines: dict[str, int] = {}
    for key, _ in mapping.value:
        if isinstance(key, yaml.ScalarNode):
            line = key.start_mark.line + 1
            if key.value in lines:
                raise ValueError(f"{key.value} is given twice, in line {lines[key.value]} and in line {line}")
            lines[key.value] = line


def _inner(node: yaml.Node) -> Iterable[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return chain.from_iterable(node.value)
    return node.value if isinstance(node, yaml.SequenceNode) else ()
