"""What fills a store and what can go, as tables for the terminal."""

from collections import defaultdict
from collections.abc import Iterable

from rich.console import Console
from rich.filesize import decimal
from rich.table import Table

from advfeat.upkeep.garbage import Garbage
from advfeat.upkeep.usage import Usage


def print_usage(found: Usage) -> None:
    """Print one line a kind and one a run on standard output."""
    console = Console(highlight=False, markup=False)
    kinds = Table("kind", title="what fills the store")
    runs = Table("run", "state", title="what its runs use", min_width=40)
    for table, headings in ((kinds, ("number", "size", "no run uses")), (runs, ("size", "only this run"))):
        for heading in headings:
            table.add_column(heading, justify="right")
    for kind in found.kinds:
        unused = decimal(kind.unused_bytes) if kind.unused_bytes else ""
        kinds.add_row(kind.kind.replace("_", " "), f"{kind.count:,}", decimal(kind.bytes), unused)
    runs.add_column("what")
    for run in found.runs:
        sizes = ("?" if size is None else decimal(size) for size in (run.bytes, run.own_bytes))
        runs.add_row(run.run[:8], run.state, *sizes, run.title)
    console.print(kinds)
    if found.runs:
        console.print(runs)
    console.print(f"{decimal(found.bytes)} in all")


def print_garbage(garbage: Iterable[Garbage], *, deleted: bool) -> None:
    """Print one line for each kind of thing that can go, and why, on standard output."""
    groups = defaultdict(list)
    for entry in garbage:
        groups[entry.what, entry.why].append(entry.bytes)
    console = Console(highlight=False, markup=False)
    table = Table("what", title="deleted" if deleted else "what can go")
    for heading in ("number", "size"):
        table.add_column(heading, justify="right")
    table.add_column("why")
    for (what, why), sizes in groups.items():
        table.add_row(what.replace("_", " "), f"{len(sizes):,}", decimal(sum(sizes)), why)
    if groups:
        console.print(table)
    total = decimal(sum(map(sum, groups.values())))
    console.print(f"{total} deleted" if deleted else f"{total} can go; nothing was deleted: add --delete")
    console.print("What is younger than an hour, and what a writer did not finish for a day, stays.")
