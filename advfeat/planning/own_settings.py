"""Settings of one recipe alone: fields put in place of others, and complaints about them."""

from typing import Any

from pydantic import ValidationError
from pydantic_core import InitErrorDetails

from advfeat.spec import REFUSED, refusal

Place = tuple[int | str, ...]


def merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of ``base`` with those of ``changes`` in their places, inner fields one by one."""
    result = dict(base)
    for name, value in changes.items():
        inner = result.get(name)
        if isinstance(inner, dict) and isinstance(value, dict):
            result[name] = merged(inner, value)
        else:
            result[name] = value
    return result


def refused(place: Place, value: object, problem: str, remedy: str) -> ValidationError:
    """Return the complaint about one field at ``place``."""
    return ValidationError.from_exception_data(
        "Experiment", [InitErrorDetails(type=refusal(problem, remedy), loc=place, input=value)]
    )


def further_in(place: Place, error: ValidationError) -> ValidationError:
    """Return the same complaints about fields that stand at ``place``."""
    return ValidationError.from_exception_data(
        error.title,
        [
            InitErrorDetails(
                type=refusal(**each["ctx"]) if each["type"] == REFUSED else each["type"],
                loc=(*place, *each["loc"]),
                input=each["input"],
                ctx=each.get("ctx", {}),
            )
            for each in error.errors()
        ],
    )
