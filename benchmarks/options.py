"""Command-line options made from the fields of settings: a field is described and checked in one place."""

import argparse
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, TypeVar

from pydantic import BeforeValidator

from advfeat.spec import Spec

AnySettings = TypeVar("AnySettings", bound=Spec)


def _split(value: Any) -> Any:
    return value.split(",") if isinstance(value, str) else value


Listed = BeforeValidator(_split)
"""Lets a tuple be given as text with commas."""

Numbers = Annotated[tuple[int, ...], Listed]


def add_options(parser: argparse.ArgumentParser, settings: Iterable[Spec]) -> None:
    """Add one option a field; a field that several settings share is one option for all of them."""
    taken: set[str] = set()
    for one in settings:
        part = type(one).__module__.rpartition(".")[2]
        group = parser.add_argument_group(f"options of {part} (those of the same name above apply too)")
        for name, field in type(one).model_fields.items():
            if name not in taken:
                help_text = f"{field.description} [{_as_text(getattr(one, name))}]"
                group.add_argument(f"--{name.replace('_', '-')}", help=help_text.replace("%", "%%"))
        taken |= set(type(one).model_fields)


def chosen(settings: AnySettings, given: argparse.Namespace) -> AnySettings:
    """Return the settings with what was given on the command line put in; raises ``ValidationError``."""
    fields = {name: value for name, value in vars(given).items() if name in type(settings).model_fields}
    changes = {name: value for name, value in fields.items() if value is not None}
    return type(settings).model_validate({**settings.model_dump(), **changes})


def _as_text(value: object) -> str:
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return "by itself" if value is None else str(value)


def command_line(words: Sequence[str]) -> str:
    """Return the command line without the places where data and reports lie."""
    shown: list[str] = []
    hidden = False
    for word in words:
        option, equals, value = word.partition("=")
        if hidden or (equals and option in ("--data", "--data-root", "--output")):
            source, colon, _ = (word if hidden else value).partition(":")
            place = f"{source}:PLACE" if colon else (source if source.replace("-", "").isalnum() else "PLACE")
            shown.append(place if hidden else f"{option}={place}")
        else:
            shown.append(word)
        hidden = word in ("--data", "--data-root", "--output")
    return " ".join(("python -m benchmarks", *shown))
