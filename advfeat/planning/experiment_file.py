"""Preset, YAML or JSON file, plus ``--set`` assignments -> a checked ``Experiment``.

Every mistake becomes one ``InputError`` that names the field, the value and the remedy.
"""

import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from difflib import SequenceMatcher
from functools import partial
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from advfeat.errors import InputError, first_line
from advfeat.planning.experiment import OF_ALL_RECIPES, Experiment, model_of
from advfeat.planning.own_settings import merged
from advfeat.planning.packaged import Start, preset, preset_names, reproduction, reproduction_names
from advfeat.planning.plain_text import MOST_CHARACTERS, check_text, read_json, read_yaml
from advfeat.recipes import plain_name
from advfeat.spec import REFUSED, SOURCES

DEFAULT_PRESET = "digits"
_READERS = {".yaml": read_yaml, ".yml": read_yaml, ".json": read_json}
"""By the endings of files, in small letters."""


def load_experiment(source: str, assignments: Sequence[str] = ()) -> Experiment:
    """Read a preset, or a YAML or JSON file, and apply assignments such as ``attack.eps=1.0``.

    A file may hold ``preset: NAME`` and then only what differs from that preset (``digits`` if it
    names none). Of two assignments to one field the last one holds. What a preset says of single recipes
    alone yields to what the file or an assignment says of that field.
    """
    return _assigned(_start(source), assignments)


def _assigned(start: Start, assignments: Sequence[str]) -> Experiment:
    fields = start.fields
    model = _model(fields, assignments)
    parsed = [parse_assignment(assignment, partial(_holds_text, model)) for assignment in assignments]
    for name, value in parsed:
        if name == "recipes":
            _leave_settings_of_others(fields, value)
    for name, value in parsed:
        _assign(fields, name, value)
        start = Start(fields, {}) if name == "only" else start.without([tuple(name.split("."))])
    return check_experiment(_with_settings_of_single_recipes(start))


def _with_settings_of_single_recipes(start: Start) -> dict[str, Any]:
    """Return fields with what their start says of single recipes, below what the user says of them."""
    fields = start.fields
    recipes = fields.get("recipes", Experiment.model_fields["recipes"].default)
    own = fields.get("only", {})
    if not isinstance(recipes, list | tuple) or not isinstance(own, dict):
        return fields  # which is told as a mistake
    of_start = start.of_recipes(name for name in recipes if isinstance(name, str))
    return {**fields, "only": merged(of_start, own)} if of_start else fields


def _model(fields: dict[str, Any], assignments: Sequence[str]) -> type[BaseModel]:
    """Return the model whose fields are assigned to: own settings of recipes that are asked for are there."""
    asked = [each for each in assignments if assigned_field(each) == "recipes"]
    recipes = [value for _, value in (parse_assignment(each, lambda _: False) for each in asked)]
    return model_of({"recipes": recipes[-1]} if recipes else fields)


def _leave_settings_of_others(fields: dict[str, Any], recipes: Any) -> None:
    """Take away what a file says of single recipes that are not asked for: a file can be run in part."""
    of_single = fields.get("only")
    if isinstance(of_single, dict) and isinstance(recipes, list):
        names = {plain_name(recipe) for recipe in recipes if isinstance(recipe, str)}
        fields["only"] = {name: own for name, own in of_single.items() if plain_name(str(name)) in names}


def load_reproduction(name: str, assignments: Sequence[str] = ()) -> Experiment:
    """Read a setting that comes with the package and apply assignments; raises ``InputError``."""
    if name not in reproduction_names():
        raise InputError("setting", name, "is unknown", _choose(name, reproduction_names()))
    return _assigned(reproduction(name), assignments)


def check_experiment(fields: dict[str, Any]) -> Experiment:
    """Validate plain fields; raises ``InputError`` for the first mistake."""
    try:
        return Experiment.model_validate(fields)
    except ValidationError as error:
        raise explained(error, model_of(fields)) from None


def _start(source: str) -> Start:
    if source in preset_names():
        return preset(source)
    path = Path(os.path.expanduser(source))  # noqa: PTH111  # ~NAME of nobody is a name
    read = _READERS.get(path.suffix.lower())
    if read is None:
        remedy = f"{_choose(source, preset_names())} or give a .yaml, .yml or .json file"
        raise InputError("preset", source, "is unknown", remedy)
    try:
        with path.open(encoding="utf-8-sig") as file:
            content = read(file.read(MOST_CHARACTERS + 1))
    except (OSError, ValueError) as error:
        problem = " ".join(str(error).split())
        raise InputError("file", source, f"cannot be read ({problem})", "correct the file") from None
    if not isinstance(content, dict):
        raise InputError("file", source, "holds no fields", "write 'name: value' lines")
    return _with_preset(content)


def _with_preset(content: dict[str, Any]) -> Start:
    name = content.pop("preset", DEFAULT_PRESET)
    if name not in preset_names():
        raise InputError("preset", name, "is unknown", _choose(name, preset_names()))
    return preset(name).with_fields(content)


def assigned_field(assignment: str) -> str:
    """Return the name of the field that ``field=value`` assigns to."""
    return assignment.partition("=")[0].strip()


def parse_assignment(assignment: str, holds_text: Callable[[str], bool]) -> tuple[str, Any]:
    """Split ``field=value``, the value in YAML; raises ``InputError``.

    Of a field that holds a text, such as a place, an unquoted value is that text, with ``#``, ``: `` or
    whatever else YAML would not leave in it.
    """
    name, (_, equals, text) = assigned_field(assignment), assignment.partition("=")
    if not equals or not name:
        raise InputError("--set", assignment, "is not an assignment", "write --set field=value")
    try:
        if holds_text(name) and not _AS_YAML.match(text):
            check_text(text)
            return name, text.lstrip()
        return name, read_yaml(text)
    except ValueError as error:
        problem = f"is not a YAML value ({first_line(error)})"
        raise InputError(name, text, problem, "write --set field=value") from None


_AS_YAML = re.compile(r"""\s*(?:['"[]|(?:null\s*)?\Z)""")
"""Texts and lists as YAML writes them, or nothing."""


def _holds_text(model: type[BaseModel], name: str) -> bool:
    """Tell whether a field of an experiment is a text."""
    *parents, last = _in_experiment(tuple(name.split(".")))
    try:
        return is_text(_fields_at(model, tuple(parents))[last].annotation)
    except (KeyError, StopIteration):
        return False


def is_text(annotation: Any) -> bool:
    """Tell whether a field's type is text, or text or nothing."""
    if get_origin(annotation) in (Union, UnionType):
        return all(choice is NoneType or is_text(choice) for choice in get_args(annotation))
    return (get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation) is str


def _assign(fields: dict[str, Any], name: str, value: Any) -> None:
    *parents, last = name.split(".")
    for parent in parents:
        inner = fields.setdefault(parent, {})
        if not isinstance(inner, dict):
            raise InputError(name, value, f"is not a field, {parent} holds a plain value", "correct the name")
        fields = inner
    fields[last] = value


def explained(error: ValidationError, model: type[BaseModel]) -> InputError:
    """Turn pydantic's first complaint about fields of ``model`` into one line."""
    # Of a field whose name is mistyped, that is told first, and not that the right one is missing.
    first = min(error.errors(), key=lambda each: each["type"] not in _UNKNOWN_FIELD)
    location = tuple(str(part) for part in first["loc"] if not isinstance(part, int) and part != "[key]")
    if not location:  # what fields say together
        return InputError(
            "recipes", first["input"].get("recipes"), str(first["ctx"]["error"]), "set it or leave the recipe"
        )
    field, value, kind = ".".join(location), first["input"], first["type"]
    if kind == "value_error" and location[0] == "only" and len(location) == 2:  # the same of one recipe
        return InputError(field, location[1], str(first["ctx"]["error"]), "set it or leave the recipe")
    if kind == REFUSED:
        return InputError(field, value, first["ctx"]["problem"], first["ctx"]["remedy"])
    of_one_recipe, location = location[0] == "only", _in_experiment(location)
    if kind in _UNKNOWN_FIELD:
        hidden = OF_ALL_RECIPES if of_one_recipe and len(location) == 1 else ()
        names = [name for name in _fields_at(model, location[:-1]) if name not in hidden]
        further_in = _fields_in(model, names) if len(location) == 1 else ()
        remedy = f"{_suggestion(location[-1], [*names, *further_in])}the fields there are {', '.join(names)}"
        return InputError(field, value, "is given to a field that does not exist", remedy)
    if kind == "literal_error":
        choices = re.findall(r"[\w-]+", first["ctx"]["expected"].replace(" or ", " "))
        return InputError(field, value, "is unknown", _choose(value, choices))
    if field == "data.source" and kind == "value_error":
        return InputError(field, value, "is unknown", _choose(value, SOURCES))
    described = _fields_at(model, location[:-1])[location[-1]].description
    if kind == "missing":
        group, _, name = field.rpartition(".")
        if not group:
            return InputError(name, None, "is missing", f"set it: {described}")
        return InputError(group, value, f"has no {name}", f"set {field}: {described}")
    problem = _PROBLEMS.get(kind, "{message}").format(message=_lower(first["msg"]), **first.get("ctx", {}))
    return InputError(field, value, problem, f"expected: {described}")


_UNKNOWN_FIELD = ("extra_forbidden", "invalid_key")
_PROBLEMS = {
    "greater_than": "is not greater than {gt}",
    "greater_than_equal": "is less than {ge}",
    "less_than": "is not less than {lt}",
    "less_than_equal": "is more than {le}",
    "finite_number": "is not finite",
    "too_short": "is empty, give at least one value: [A]",
    "tuple_type": "is not a list, write its values in brackets: [A, B]",
    "int_type": "is not a whole number",
    "int_parsing": "is not a whole number",
    "int_from_float": "is not a whole number",
    "float_type": "is not a number",
    "float_parsing": "is not a number",
    "model_type": "holds no fields",
    "dict_type": "holds no fields",
    "string_type": "is not text",
    "string_too_short": "is empty",
    "string_pattern_mismatch": "has none of the forms that are known",
    "value_error": "{error}",
}


def _lower(message: str) -> str:
    return message[:1].lower() + message[1:]


def _choose(value: object, choices: Sequence[str]) -> str:
    return f"{_suggestion(str(value), choices)}choose from {', '.join(choices)}"


def _in_experiment(location: tuple[str, ...]) -> tuple[str, ...]:
    """Return where a field stands that may be a recipe's own: what is under ``only.RECIPE`` is at the top."""
    return (location[2:] or location[:1]) if location[0] == "only" else location


def _fields_at(model: type[BaseModel], location: tuple[int | str, ...]) -> dict[str, Any]:
    for part in location:
        if isinstance(part, str):
            model = next(_models(model.model_fields[part].annotation))
    return dict(model.model_fields)


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield the model of a field that holds fields, or such or nothing."""
    for choice in (annotation, *get_args(annotation)):
        if isinstance(choice, type) and issubclass(choice, BaseModel):
            yield choice


def _fields_in(model: type[BaseModel], names: Iterable[str]) -> Iterator[str]:
    """Yield the fields that these fields of a model hold, by their dotted names."""
    for name in names:
        for inner in _models(model.model_fields[name].annotation):
            yield from (f"{name}.{field}" for field in inner.model_fields)


def _suggestion(word: str, choices: Iterable[str]) -> str:
    """Return a question after the choice that is likest to a word, the first of several; empty if none is."""
    nearest = max(choices, key=lambda choice: _likeness(word, choice), default="")
    if _likeness(word, nearest) < _LEAST_LIKENESS:
        return ""
    *parents, last = nearest.split(".")
    if nearest == word:  # a dotted name, where names stand in each other
        nearest = f"{'.'.join(parents)}: {{{last}: …}}"
    return f"did you mean {nearest}? "


_LEAST_LIKENESS = 0.6


def _likeness(word: str, choice: str) -> float:
    """Tell how like a word is to a choice, or to a dotted one's end: 1 for its start or initials, to 0."""
    if word == choice:
        return 2.0
    word, choice = word.lower().replace("-", "_"), choice.rpartition(".")[2]
    initials = "".join(part[:1] for part in choice.split("_"))
    if word and (word == initials or choice.startswith(word) or (choice and word.startswith(choice))):
        return 1.0
    return SequenceMatcher(None, choice, word).ratio()
