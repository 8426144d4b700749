"""What a source holds, in lines for the terminal."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from rich.cells import cell_len
from rich.padding import Padding
from rich.text import Text

from advfeat.data.found import Found
from advfeat.data.refusal import listed
from advfeat.flows.command_line.fitting import console_of

_CLASSES_COUNTED = 12
"""More are told by the fewest and the most images of one."""


def print_found(found: Found, source: str) -> None:
    """Tell on standard error what a source holds, in lines that fold where the terminal ends."""
    heading, *lines = found_lines(found, source)
    console = console_of(max(map(cell_len, lines)), stderr=True)
    console.print(heading, soft_wrap=True)  # a place to copy
    for line in lines:
        console.print(Padding.indent(Text(line.strip(), overflow="fold"), 2))


def found_lines(found: Found, source: str) -> list[str]:
    """Tell what a source holds: a line with its name, and below it one on each matter."""
    lines = [f"data {source}", *(f"  {line}" for line in _lines(found))]
    return ["".join(each if each.isprintable() else " " for each in line) for line in lines]


def _lines(found: Found) -> Iterator[str]:
    yield f"{len(found.classes):,} classes: {listed(found.classes, _CLASSES_COUNTED)}"
    for name, used in found.used.items():
        there = found.there[name]
        drawn = "" if used == there else f" of {there:,}"
        yield f"{name}: {used:,}{drawn} images{_each_class(found.classes, found.of_class.get(name))}"
        if (counts := found.of_class.get(name)) is not None and (empty := np.flatnonzero(counts == 0)).size:
            yield f"{name}: no image of {listed([found.classes[label] for label in empty])} ({empty.size:,})"
    yield from _forms(found)
    for what, paths in found.left_out.items():
        if paths:
            yield f"left out, {what} ({len(paths):,}): {listed(paths)}"
    yield from _duplicates(found)


def _each_class(classes: tuple[str, ...], counts: NDArray[np.int64] | None) -> str:
    if counts is None:
        return ""
    if len(classes) <= _CLASSES_COUNTED:
        return ": " + ", ".join(f"{name} {count:,}" for name, count in zip(classes, counts, strict=True))
    fewest, most = (f"{classes[label]} {counts[label]:,}" for label in (counts.argmin(), counts.argmax()))
    return f", of each class {counts.min():,} to {counts.max():,} (fewest {fewest}, most {most})"


def _forms(found: Found) -> Iterator[str]:
    looked_at, used = sum(found.forms.values()), sum(found.used.values())
    part = "" if looked_at == used else f" (of {looked_at:,} looked at)"
    told = [f"{form} ({count:,})" for form, count in found.forms.items()]
    yield f"pictures: {listed(told)}{part}"


def _duplicates(found: Found) -> Iterator[str]:
    if not found.of_class:
        return  # nothing of it was read
    if found.duplicates is None:
        yield "duplicates between train and test: not looked for, there are too many bytes or images"
    elif not found.duplicates:
        yield "duplicates between train and test: none"
    else:
        test, train = found.duplicates[0]
        count, of = len(found.duplicates), found.used["test"]
        yield f"duplicates: {count:,} of {of:,} test images are also in train, as {test} is {train}"
