"""What people write for numbers: ``8/255`` is one, a truth value is none."""

from typing import Any

from pydantic_core import PydanticCustomError


def fraction(text: str) -> float | None:
    """Return the value of a fraction such as ``8/255``; None if the text is none."""
    numerator, slash, denominator = text.partition("/")
    try:
        return float(numerator) / float(denominator) if slash else None
    except (ValueError, ZeroDivisionError):
        return None


def read_numbers(value: Any, *, whole: bool) -> Any:
    """Return a number, or a list of such, with fractions as what they are worth; raises for truth values.

    Whatever else it is stays for the field's type to judge.
    """
    if isinstance(value, list | tuple):
        return [read_numbers(each, whole=whole) for each in value]
    if isinstance(value, bool):
        kind = "int_type" if whole else "float_type"
        raise PydanticCustomError(kind, "a truth value is not a number")
    if isinstance(value, str):
        worth = fraction(value)
        return value if worth is None else worth
    return value
