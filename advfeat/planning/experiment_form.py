"""The form of the main job: an experiment's fields, those that a person fills in first.

Every field keeps the place that it has in an experiment, so that parameters written before mean what they
meant. The form only shows the rare ones elsewhere: folded away at its end, under ``rare``.
"""

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Annotated, Any

from pydantic import GetJsonSchemaHandler
from pydantic_core import CoreSchema

from advfeat.errors import InputError
from advfeat.planning.experiment import Experiment, SharedFields
from advfeat.planning.experiment_file import check_experiment
from advfeat.planning.own_settings import merged

RARE = "rare"
"""Where a form has its rare fields, in groups like those of the experiment that they are put into."""

_ALL: tuple[str, ...] = ()
_FIRST: dict[str, tuple[str, ...]] = {
    "name": _ALL,
    "data": ("source", "train_size", "test_size", "image_size"),
    "recipes": _ALL,
    "seeds": _ALL,
    "attack": ("norm", "eps", "steps", "step_size", "restarts"),
    "source": ("model", "width", "epochs", "batch_size", "learning_rate", "weights"),
    "target": ("model", "width", "epochs", "batch_size", "learning_rate"),
    "other_data": ("source",),
    "cross_domain": ("normalized", "balanced"),
}
"""Fields of an experiment in the order in which they are filled in, and which of the fields they hold."""

_TITLES = {
    "attack.eps": "Radius (eps)",
    "data.source": "Images",
    "data.train_size": "Training images",
    "data.test_size": "Test images",
    "data.image_size": "Pixels a side",
    "source": "Source model",
    "weak_source": "Weak source model",
    "robust_source": "Robust source model",
    "target": "Target model",
    "model": "Network",
    "eps": "Radius (eps)",
    "leakage_eps": "Leakage: radius (eps)",
    "other_data": "Other domain",
    "other_data.source": "Images of another domain",
    "imported": "Imported data set",
    "only": "Settings of one recipe alone",
    "ema_decay": "Decay of the weights' average",
    "l2": "L2",
}
"""By dotted names, or by a field's own wherever it stands; the others are called as they are."""


class _AsForm:
    """Shows the form in place of an experiment's own schema."""

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> Any:
        return form()


ExperimentForm = Annotated[Experiment, _AsForm()]
"""An experiment whose JSON schema is that of its form."""


def read_form(given: object) -> Experiment:
    """Return the experiment that a form was filled in with; raises ``InputError`` for the first mistake.

    What it holds may be an experiment itself, or the plain fields of one.
    """
    if isinstance(given, SharedFields):
        return given
    if not isinstance(given, Mapping):
        raise InputError("experiment", given, "holds no fields", "give those of an experiment, by name")
    fields = dict(given)
    rare = fields.pop(RARE, None)
    return check_experiment(merged(fields, _filled_in(rare) if isinstance(rare, Mapping) else {}))


def _filled_in(rare: Mapping[str, Any]) -> dict[str, Any]:
    """Return what was filled in of rare fields: what was left empty stays as it is."""
    inner = {
        name: _filled_in(value) if isinstance(value, Mapping) else value
        for name, value in rare.items()
        if value is not None
    }
    return {name: value for name, value in inner.items() if value != {}}


@cache
def form() -> dict[str, Any]:
    """Return the JSON schema of the form."""
    whole = Experiment.model_json_schema(ref_template="{model}")
    fields = _inlined(whole["properties"], whole.get("$defs", {}))
    own = [name for name in fields if name not in SharedFields.model_fields and name not in _FIRST]
    single = [name for name in own if "properties" not in _plain(fields[name])]
    first = _FIRST | dict.fromkeys(single, _ALL)
    # Whatever stands among the first fields is at its place; the rest is accepted there, and shown below.
    shown = {name: _part(name, fields[name], first[name]) for name in first if name in fields}
    rare = {
        name: _rare(name, fields[name], first.get(name, _ALL))
        for name in (*first, *(each for each in fields if each not in first))
        if name in fields and (name not in first or first[name])
    }
    rare = {name: field for name, field in rare.items() if field.get("properties") != {}}
    folded = {
        "title": "Rare settings",
        "description": "All other fields of an experiment. An empty field keeps its value.",
        "default": None,
        "anyOf": [
            {"type": "null", "title": "Folded away"},
            {
                "type": "object",
                "title": "Shown",
                "properties": _in_order(rare),
                "additionalProperties": False,
            },
        ],
    }
    return {
        "type": "object",
        "title": "Experiment",
        "properties": _in_order({**shown, RARE: folded}),
        "patternProperties": _accepted(fields, shown),
        "additionalProperties": False,
        "required": [name for name in whole.get("required", ()) if name in shown],
    }


def _part(name: str, field: dict[str, Any], first: Iterable[str]) -> dict[str, Any]:
    """Return a field as the form shows it, with the first of the fields that it holds."""
    plain = _plain(field)
    if not (inner := plain.get("properties")):
        return {**plain, "title": _title(name)}
    shown = {one: {**_plain(inner[one]), "title": _title(one, name)} for one in first if one in inner}
    return {
        **plain,
        "title": _title(name),
        "properties": _in_order(shown),
        "patternProperties": _accepted(inner, shown),
        "required": [one for one in plain.get("required", ()) if one in shown],
    }


def _rare(name: str, field: dict[str, Any], first: Iterable[str], group: str = "") -> dict[str, Any]:
    """Return a field with those that it holds but the first ones; none has a value by itself."""
    plain = {key: value for key, value in _plain(field).items() if key not in ("default", "required")}
    plain["title"] = _title(name, group)
    if inner := plain.get("properties"):
        wanted = [one for one in inner if one not in set(first) and "const" not in inner[one]]
        left = {one: _rare(one, inner[one], (), name) for one in wanted}
        plain["properties"] = _in_order(left)
        if group:  # a group in a group is seldom wanted
            folded: Any = {"type": "null", "title": "Left as it is"}
            shown = {**plain, "title": "Set", "description": ""}
            return {
                "title": plain["title"],
                "description": plain.get("description", ""),
                "anyOf": [folded, shown],
            }
    return plain


def _plain(field: dict[str, Any]) -> dict[str, Any]:
    """Return a field that may be unset as one that is left empty then."""
    choices = field.get("anyOf", ())
    given = [choice for choice in choices if choice.get("type") != "null"]
    if len(given) != 1 or len(choices) == 1:
        return field
    rest = {key: value for key, value in field.items() if key not in ("anyOf", "default")}
    return {**given[0], **rest}


def _accepted(fields: Mapping[str, Any], shown: Iterable[str]) -> dict[str, Any]:
    """Return the fields that a form does not show where they are, which may be given there all the same."""
    return {f"^{name}$": field for name, field in fields.items() if name not in set(shown)}


def _in_order(fields: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {name: {**field, "position": place} for place, (name, field) in enumerate(fields.items())}


def _title(name: str, group: str = "") -> str:
    words = name.replace("_", " ")
    return _TITLES.get(f"{group}.{name}") or _TITLES.get(name) or words[:1].upper() + words[1:]


def _inlined(node: Any, definitions: Mapping[str, Any]) -> Any:
    """Return a schema with what it refers to in its place, as pages show no names of classes then."""
    if isinstance(node, list):
        return [_inlined(each, definitions) for each in node]
    if not isinstance(node, dict):
        return node
    inner = {key: _inlined(value, definitions) for key, value in node.items() if key != "$ref"}
    reference = node.get("$ref")
    if not isinstance(reference, str):
        return inner
    return _inlined(definitions[reference], definitions) | inner
