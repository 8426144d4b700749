"""Figures to a terminal, to JSON and to Markdown.

One file a machine. A part that is measured again replaces its older figures; the other parts stay,
unless the machine or a version in its description has changed: then the file begins anew. Neither
paths nor names of machines are saved.
"""

import datetime
import sys
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from pydantic import ValidationError
from rich.console import Console
from rich.table import Table as RichTable

from advfeat.spec import Spec
from benchmarks.attacks import Figures as AttackFigures
from benchmarks.full_store import Figures as FullStoreFigures
from benchmarks.grids import Figures as GridFigures
from benchmarks.growth import Figures as GrowthFigures
from benchmarks.job import Figures as JobFigures
from benchmarks.machine import Machine, Peaks
from benchmarks.nodes import Figures as NodeFigures
from benchmarks.scale import Figures as ScaleFigures
from benchmarks.storage import Figures as StorageFigures
from benchmarks.table import Table
from benchmarks.thousands import Figures as ThousandsFigures
from benchmarks.training import Figures as TrainingFigures

FOLDER = Path(__file__).parent / "results"


class Figures(Protocol):
    """What a benchmark returns."""

    def tables(self) -> list[Table]:
        """Return the figures as tables."""


AnyFigures = TypeVar("AnyFigures", bound=Spec)


class Part(Spec, Generic[AnyFigures]):
    """One benchmark's figures, and when and how they were measured."""

    date: str
    command: str
    figures: AnyFigures


class Report(Spec):
    """All that is known of one machine."""

    machine: Machine
    peaks: Part[Peaks] | None = None
    attacks: Part[AttackFigures] | None = None
    growth: Part[GrowthFigures] | None = None
    training: Part[TrainingFigures] | None = None
    scale: Part[ScaleFigures] | None = None
    nodes: Part[NodeFigures] | None = None
    grids: Part[GridFigures] | None = None
    thousands: Part[ThousandsFigures] | None = None
    storage: Part[StorageFigures] | None = None
    store: Part[FullStoreFigures] | None = None
    job: Part[JobFigures] | None = None

    def markdown(self) -> str:
        """Return the report as Markdown."""
        lines = [f"# Benchmarks: {self.machine.title}", "", *self.machine.table().as_markdown()]
        orchestrated = (
            *(self.scale, self.nodes, self.grids, self.thousands),
            *(self.storage, self.store, self.job),
        )
        parts = (self.peaks, self.attacks, self.growth, self.training, *orchestrated)
        for part in parts:
            if part is not None:
                for table in part.figures.tables():
                    lines += table.as_markdown()
                lines += [f"Measured on {part.date} with `{part.command}`.", ""]
        return "\n".join(lines)


class Book:
    """The report of one machine, written again after every part."""

    def __init__(self, machine: Machine, folder: Path, command: str, *, quick: bool) -> None:
        self.machine = machine
        self.command = command
        self.file = folder / f"{machine.slug}{'-quick' if quick else ''}.json"

    def keep(self, field: str, figures: Figures) -> None:
        """Print a part's figures and save them beside the other parts."""
        for table in figures.tables():
            show(table)
        today = datetime.datetime.now(datetime.UTC).date().isoformat()
        part = Part[Any](date=today, command=self.command, figures=figures)
        report = Report.model_validate({**dict(self._earlier()), field: part.model_dump()})
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self.file.write_text(report.model_dump_json(indent=2) + "\n", encoding="utf-8")
        self.file.with_suffix(".md").write_text(report.markdown(), encoding="utf-8")

    def _earlier(self) -> Report:
        """Return what was saved of the same machine with the same versions, or an empty report."""
        try:
            saved = Report.model_validate_json(self.file.read_bytes())
        except (OSError, ValidationError):
            return Report(machine=self.machine)
        return saved if saved.machine == self.machine else Report(machine=self.machine)


def show(table: Table) -> None:
    """Print one table to the terminal."""
    printed = RichTable(title=table.title, title_justify="left")
    for number, column in enumerate(table.columns):
        printed.add_column(column, justify="left" if number == 0 else "right")
    for row in table.rows:
        printed.add_row(*row)
    console = Console(width=None if sys.stdout.isatty() else 140)
    console.print(printed)
    if table.note:
        console.print(table.note, style="italic", highlight=False)
    console.print()


def say(text: str) -> None:
    """Print one line of progress beside the results."""
    Console(stderr=True).print(text, style="dim", highlight=False, markup=False)
