"""PyYAML's reader, kept to plain values; the only file of planning that needs PyYAML."""

import re
from collections.abc import Iterable
from itertools import chain, islice
from typing import Any

import yaml

from advfeat.planning.plain_text import check_text

_MOST_VALUES = 100_000
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


def load(text: str) -> Any:
    """Read YAML; raises ``ValueError``, also for a key given twice, and too many values or too deep."""
    try:
        loader = _Loader(text)
        root = loader.get_single_node()
        if root is None:
            return None
        _check(root)
        return loader.construct_document(root)
    except (yaml.YAMLError, RecursionError, OverflowError, LookupError, TypeError, AttributeError) as error:
        raise ValueError(str(error)) from error


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
