"""The lines of a plan, and what it costs: stages that differ by seed or shard alone share one."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.filesize import decimal

from advfeat.cluster.cores import usable_cores
from advfeat.planning.titles import NUMBER, unnumbered

if TYPE_CHECKING:
    from advfeat.planning import Outlook

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
        title = unnumbered(entry.stage.title)
        found.setdefault((title, entry.stage.kind, entry.state, entry.loss or ""), []).append(entry)
    return [_line(group) for group in found.values()]


def cost_line(entries: Iterable["Outlook"]) -> str:
    """Say how many stages there are, and about what those cost on this machine that are to be computed."""
    from advfeat.planning.cost import run_seconds

    entries = list(entries)
    missing = [entry.stage for entry in entries if entry.state == "compute"]
    counts = f"{len(entries)} stages: {len(entries) - len(missing)} cached, {len(missing)} to compute"
    if not missing:
        return counts
    cores, gpus = usable_cores(), len(list(Path("/dev").glob("nvidia[0-9]*")))
    seconds = run_seconds(sum(stage.flop for stage in missing), len(missing), cores=cores, gpus=gpus)
    machine = _count(gpus, "GPU") if gpus else _count(cores, "core")
    size = decimal(sum(stage.stored_bytes for stage in missing))
    return f"{counts}, about {_duration(seconds)} on {machine}, {size} to store"


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'s' if number > 1 else ''}"


def _duration(seconds: float) -> str:
    """Write an estimate in the unit of which it is a few."""
    for unit, length in (("day", 86_400), ("hour", 3_600), ("minute", 60)):
        if seconds >= 1.5 * length:
            return _count(round(seconds / length), unit)
    return _count(10 * max(1, round(seconds / 10)), "second")


def _line(group: Sequence["Outlook"]) -> PlanLine:
    first, *others = group
    digest = first.stage.digest[:12] + (f" +{len(others)}" if others else "")
    of_one_size = first.state != "cached" or len({entry.why for entry in group}) == 1
    return PlanLine(digest, first.state, _title(group), first.why if of_one_size else "in the store")


def _title(group: Sequence["Outlook"]) -> str:
    """Return the title of the first one, with the numbers of all."""
    numbers: dict[str, dict[int, None]] = {"seed": {}, "shard": {}}
    for entry in group:
        for word, number in NUMBER.findall(entry.stage.title):
            numbers[word][int(number)] = None

    def of_all(found: re.Match[str]) -> str:
        several = list(numbers[found[1]])
        return found[0] if len(several) == 1 else f"{found[1]}s {_listed(several)}"

    return NUMBER.sub(of_all, group[0].stage.title)


def _listed(numbers: Sequence[int]) -> str:
    if list(numbers) == list(range(numbers[0], numbers[0] + len(numbers))):
        return f"{numbers[0]} to {numbers[-1]}"
    if len(numbers) <= _MOST_LISTED:
        return ", ".join(map(str, numbers))
    return f"{numbers[0]} … {numbers[-1]} ({len(numbers)})"
