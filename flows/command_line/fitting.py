"""Tables that fit the terminal: headings fold, then columns that matter least are left out, then texts fold.

No cell of figures is ever folded, as nobody could read it. Where the output is no terminal, and ``COLUMNS``
says nothing, a table is as wide as it is.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

_NARROWEST = 40
"""Columns of a terminal that says less: no digest could be read, and of one that says 0 nothing seen."""

_WIDEST = 1000


@dataclass(frozen=True)
class Column:
    """A heading and a cell a row; columns of the highest ``rank`` are left out first, of rank 0 never."""

    heading: str
    cells: Sequence[str]
    rank: int = 0
    is_text: bool = False
    """Whether it holds words, which stand on the left and may be folded."""
    least: int = 24
    """Characters that a column of words keeps before others are left out."""


def console_of(widest: int, *, stderr: bool = False) -> Console:
    """Return a console as wide as the terminal, and ``widest`` where the output is none."""
    console = Console(markup=False, highlight=False, stderr=stderr)  # brackets in a name are its own
    told = console.is_terminal or "COLUMNS" in os.environ
    console.width = max(console.width, _NARROWEST) if told else widest
    return console


def print_table(
    console: Console, columns: Sequence[Column], title: str | None = None, *, plain: bool = False
) -> None:
    """Print columns that fit the console, and a line that names those that do not.

    ``plain`` is without lines between cells, for awk and the like.
    """
    shown: list[Column] = list(columns)
    left_out: list[Column] = []
    while not _fits(console, shown, plain=plain):
        folded = [replace(column, heading=column.heading.replace(" ", "\n")) for column in shown]
        if not plain and _fits(console, folded, plain=plain):
            shown = folded
            break
        least = max(shown, key=lambda column: column.rank)
        if least.rank == 0:
            break
        shown = [column for column in shown if column is not least]
        left_out.append(least)
    table = _table(shown, plain=plain)
    table.title = title
    _share_out(console, shown, table, plain=plain)
    console.print(table)
    if names := [column.heading for column in columns if column.heading and id(column) in map(id, left_out)]:
        console.print(f"Left out in {console.width} columns: {', '.join(names)}.")


def _share_out(console: Console, columns: Sequence[Column], table: Table, *, plain: bool) -> None:
    """Give columns of words the least that they keep, and in turn of what is left, where that is enough."""
    spare = console.width - _width(console, columns, plain=plain)
    words = [(column, drawn) for column, drawn in zip(columns, table.columns, strict=True) if column.is_text]
    if spare < 0:
        return
    for column, drawn in words:
        heading = max(map(len, column.heading.split("\n")))
        drawn.width = max(heading, *(len(cell[: column.least]) for cell in column.cells), 0)
    longest = [max((len(cell) for cell in column.cells), default=0) for column, _ in words]
    for _ in range(spare):
        wanting = [
            drawn for (_, drawn), most in zip(words, longest, strict=True) if (drawn.width or 0) < most
        ]
        if not wanting:
            return
        narrowest = min(wanting, key=lambda drawn: drawn.width or 0)
        narrowest.width = (narrowest.width or 0) + 1


def _fits(console: Console, columns: Sequence[Column], *, plain: bool) -> bool:
    return _width(console, columns, plain=plain) <= console.width


def _width(console: Console, columns: Sequence[Column], *, plain: bool) -> int:
    """Return how wide a table is whose columns of words have the least that they keep."""
    cut = [
        replace(column, cells=[cell[: column.least] for cell in column.cells]) if column.is_text else column
        for column in columns
    ]
    options = console.options.update(width=_WIDEST)
    return Measurement.get(console, options, _table(cut, plain=plain)).maximum


def _table(columns: Sequence[Column], *, plain: bool) -> Table:
    headings = [column.heading for column in columns]
    table = Table(box=None, pad_edge=False, show_header=any(headings)) if plain else Table()
    for column in columns:
        is_name = column.is_text or column is columns[0]
        table.add_column(
            column.heading,
            justify="left" if is_name else "right",
            no_wrap=not column.is_text,
            overflow="fold",
        )
    for row in zip(*(column.cells for column in columns), strict=True):
        table.add_row(*row)
    return table
