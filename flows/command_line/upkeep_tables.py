"""What fills a store and what can go, as tables for the terminal."""

from collections import defaultdict
from collections.abc import Iterable

from rich.filesize import decimal

from advfeat.flows.command_line.fitting import Column, console_of, print_table
from advfeat.upkeep.garbage import Garbage
from advfeat.upkeep.usage import Usage

_WIDE = 140
"""Where the output is no terminal."""


def print_usage(found: Usage) -> None:
    """Print one line a kind and one a run on standard output."""
    console = console_of(_WIDE)
    kinds = [
        Column("kind", [kind.kind.replace("_", " ") for kind in found.kinds]),
        Column("number", [f"{kind.count:,}" for kind in found.kinds], 2),
        Column("size", [decimal(kind.bytes) for kind in found.kinds]),
        Column(
            "no run uses",
            [decimal(kind.unused_bytes) if kind.unused_bytes else "" for kind in found.kinds],
            1,
        ),
    ]
    runs = [
        Column("run", [run.run[:8] for run in found.runs]),
        Column("state", [run.state for run in found.runs], 2),
        Column("size", [_size(run.bytes) for run in found.runs]),
        Column("only this run", [_size(run.own_bytes) for run in found.runs], 1),
        Column("what", [run.title for run in found.runs], 3, is_text=True),
    ]
    print_table(console, kinds, "what fills the store")
    if found.runs:
        print_table(console, runs, "what its runs use")
    console.print(f"{decimal(found.bytes)} in all")


def _size(size: int | None) -> str:
    return "?" if size is None else decimal(size)


def print_garbage(garbage: Iterable[Garbage], *, deleted: bool) -> None:
    """Print one line for each kind of thing that can go, and why, on standard output."""
    groups = defaultdict(list)
    for entry in garbage:
        groups[entry.what, entry.why].append(entry.bytes)
    console = console_of(_WIDE)
    columns = [
        Column("what", [what.replace("_", " ") for what, _ in groups]),
        Column("number", [f"{len(sizes):,}" for sizes in groups.values()], 1),
        Column("size", [decimal(sum(sizes)) for sizes in groups.values()]),
        Column("why", [why for _, why in groups], is_text=True),
    ]
    if groups:
        print_table(console, columns, "deleted" if deleted else "what can go")
    total = decimal(sum(map(sum, groups.values())))
    console.print(f"{total} deleted" if deleted else f"{total} can go; nothing was deleted: add --delete")
    console.print("Files younger than an hour stay, and unfinished ones for a day.")
