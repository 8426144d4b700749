"""Hypothesis strategies that damage valid files: their bytes, their JSON, the sizes they tell."""

import json
import struct
from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

_NUMBERS = (0, 1, 2, 127, 128, 255, 2**15, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1)

# JSON that Python's own writer does not write, each in place of a value.
_ODD_TEXTS = (
    *("1e999", "-1e999", "NaN", "Infinity", "-0", "1e400", "1" * 30, "9" * 5000, "0.1e-400"),
    *('"\\ud800"', '"\\u0000"', '"\\u001b[31m"', '"\\n"', '""', '"../../etc/passwd"', '"' + "a" * 5000 + '"'),
    *(
        "[" * 50_000 + "]" * 50_000,
        '{"a":' * 3000 + "1" + "}" * 3000,
        "[" * 300 + "]" * 300,
        "[" + "[]," * 999 + "[]]",
    ),
    *('{"a":1,"a":2}', "[]", "{}", "null", "true", "-1", "1000000000", "[1000000000,1000000000,1000000000]"),
)


@st.composite
def damaged_bytes(draw: st.DrawFn, originals: Sequence[bytes]) -> bytes:
    """Change one of the originals in a few places."""
    content = bytearray(draw(st.sampled_from(originals)))
    for _ in range(draw(st.integers(1, 3))):
        kind = draw(st.sampled_from(["flip", "number", "cut", "drop", "repeat", "insert", "zeros"]))
        # Headers and footers lie at the ends: places near them are as likely as all others.
        place = draw(st.integers(0, max(0, len(content) - 1)) | st.integers(0, 64) | st.integers(-400, -1))
        place = place % max(1, len(content))
        length = draw(st.integers(1, 64))
        if kind == "flip" and content:
            content[place] ^= 1 << draw(st.integers(0, 7))
        elif kind == "number":
            form = draw(st.sampled_from(["<Q", ">Q", "<I", ">I", "<H", "B"]))
            size = struct.calcsize(form)
            number = draw(st.sampled_from(_NUMBERS)) % 256**size
            content[place : place + size] = struct.pack(form, number)
        elif kind == "cut":
            del content[place:]
        elif kind == "drop":
            del content[place : place + length]
        elif kind == "repeat":
            content[place:place] = content[place : place + length]
        elif kind == "insert":
            content[place:place] = draw(st.binary(min_size=1, max_size=16))
        else:
            content[place : place + length] = bytes(length)
    return bytes(content)


@st.composite
def damaged_json(draw: st.DrawFn, originals: Sequence[Any]) -> str:
    """Change one of the originals, which are JSON values, in a few places; return it as text."""
    holder = [json.loads(json.dumps(draw(st.sampled_from(originals))))]
    odd: dict[str, str] = {}
    for number in range(draw(st.integers(1, 3))):
        places = _places(holder)
        parent, key = places[draw(st.integers(0, len(places) - 1))]
        kind = draw(st.sampled_from(["odd", "odd", "plain", "drop", "copy", "add"]))
        if kind == "odd":
            mark = f"@{number}@"
            odd[mark] = draw(st.sampled_from(_ODD_TEXTS))
            parent[key] = mark
        elif kind == "plain":
            parent[key] = draw(_plain_values)
        elif kind == "copy":
            other_parent, other_key = places[draw(st.integers(0, len(places) - 1))]
            parent[key] = json.loads(json.dumps(other_parent[other_key]))
        elif kind == "add" and isinstance(parent, dict):
            parent[draw(st.text(max_size=8))] = draw(_plain_values)
        elif kind == "drop" and parent is not holder:
            del parent[key]
    text = json.dumps(holder[0])
    for mark, replacement in odd.items():
        text = text.replace(json.dumps(mark), replacement)
    return text


_plain_values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(_NUMBERS),
    st.lists(st.integers(-1, 4), max_size=5),
    st.dictionaries(st.text(max_size=5), st.integers(), max_size=3),
)


def _places(holder: list[Any]) -> list[tuple[Any, Any]]:
    """Return every value's container and its key or number in it."""
    found: list[tuple[Any, Any]] = []
    waiting: list[tuple[Any, Any]] = [(holder, 0)]
    while waiting:
        parent, key = waiting.pop()
        found.append((parent, key))
        value = parent[key]
        if isinstance(value, dict):
            waiting += [(value, inner) for inner in value]
        elif isinstance(value, list):
            waiting += [(value, inner) for inner in range(len(value))]
    return found
