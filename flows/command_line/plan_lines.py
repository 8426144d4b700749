"""The lines of a plan: stages that differ by their seed or their shard alone share one."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from advfeat.planning import Outlook

_NUMBER = re.compile(r"\b(seed|shard) (\d+)(?: of \d+)?")
_MOST_LISTED = 5


@dataclass(frozen=True)
class PlanLine:
    """What is told of stages that share a line, in words; of several whys the first one's."""

    digest: str
    """The start of the first one's, and how many there are besides."""
    state: str
    title: str
    why: str


def plan_lines(entries: Iterable["Outlook"]) -> list[PlanLine]:
    """Return the lines of a plan, in the order in which their first stages come."""
    found: dict[tuple[str, ...], list[Outlook]] = {}
    for entry in entries:
        title = _NUMBER.sub(r"\1", entry.stage.title)
        found.setdefault((title, entry.stage.kind, entry.state, entry.loss or ""), []).append(entry)
    return [_line(group) for group in found.values()]


def _line(group: Sequence["Outlook"]) -> PlanLine:
    first, *others = group
    digest = first.stage.digest[:12] + (f" +{len(others)}" if others else "")
    of_one_size = first.state != "cached" or len({entry.why for entry in group}) == 1
    return PlanLine(digest, first.state, _title(group), first.why if of_one_size else "in the store")


def _title(group: Sequence["Outlook"]) -> str:
    """Return the title of the first one, with the numbers of all."""
    numbers: dict[str, dict[int, None]] = {"seed": {}, "shard": {}}
    for entry in group:
        for word, number in _NUMBER.findall(entry.stage.title):
            numbers[word][int(number)] = None

    def of_all(found: re.Match[str]) -> str:
        several = list(numbers[found[1]])
        return found[0] if len(several) == 1 else f"{found[1]}s {_listed(several)}"

    return _NUMBER.sub(of_all, group[0].stage.title)


def _listed(numbers: Sequence[int]) -> str:
    if list(numbers) == list(range(numbers[0], numbers[0] + len(numbers))):
        return f"{numbers[0]} to {numbers[-1]}"
    if len(numbers) <= _MOST_LISTED:
        return ", ".join(map(str, numbers))
    return f"{numbers[0]} … {numbers[-1]} ({len(numbers)})"
