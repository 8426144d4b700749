"""What a run has found so far: printed part by part, and saved whole after every line of it."""

import datetime
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from advfeat.spec import Spec
from benchmarks.gpu.clock import Clock
from benchmarks.machine import Machine
from benchmarks.table import Table


class Figures(Protocol):
    """What a part finds."""

    def tables(self) -> list[Table]:
        """Return the figures as tables."""

    def model_dump(self, *, mode: str) -> dict[str, Any]:
        """Return the figures as JSON has them."""


class Outcome(Spec):
    """How a part ended, and after how many seconds; ``said`` says why it did not end as it should."""

    ended: str
    seconds: float
    said: tuple[str, ...] = ()


class Record:
    """The findings of one run, in a JSON and a Markdown file of the machine's name.

    Each file is written anew whenever something is found, whole or not at all.
    """

    def __init__(self, machine: Machine, folder: Path, command: str, *, clock: Clock, quick: bool) -> None:
        self._machine, self._command, self._clock = machine, command, clock
        self._outcomes: dict[str, Outcome] = {}
        self._figures: dict[str, Figures] = {}
        self._date = datetime.datetime.now(datetime.UTC).date().isoformat()
        self.file = folder / f"{machine.slug}-gpu{'-quick' if quick else ''}.json"
        folder.mkdir(parents=True, exist_ok=True)

    def found(self, part: str, figures: Figures) -> None:
        """Take what a part has found so far, in place of what it had before."""
        self._figures[part] = figures
        self._save()

    def ended(self, part: str, outcome: Outcome) -> None:
        """Take how a part ended, and print its figures and a line on each part so far."""
        self._outcomes[part] = outcome
        self._save()
        print()
        if part in self._figures:
            for table in self._figures[part].tables():
                print(table.as_text(), flush=True)
        print(self._overview().as_text(), flush=True)

    def _overview(self) -> Table:
        return Table(
            title=f"After {self._clock.elapsed:.0f} s, {max(0, self._clock.left):.0f} s left",
            columns=("part", "ended", "s"),
            rows=tuple(
                ("; ".join((part, *outcome.said)), outcome.ended, f"{outcome.seconds:.1f}")
                for part, outcome in self._outcomes.items()
            ),
        )

    def _save(self) -> None:
        found = {
            "machine": self._machine.model_dump(mode="json"),
            "date": self._date,
            "command": self._command,
            "seconds": round(self._clock.elapsed, 1),
            "parts": {
                part: {
                    "outcome": outcome.model_dump(mode="json")
                    if (outcome := self._outcomes.get(part))
                    else None,
                    "figures": figures.model_dump(mode="json")
                    if (figures := self._figures.get(part))
                    else None,
                }
                for part in {**self._outcomes, **self._figures}
            },
        }
        _replace(self.file, json.dumps(found, indent=2) + "\n")
        _replace(self.file.with_suffix(".md"), "\n".join(self._lines()))

    def _lines(self) -> Sequence[str]:
        lines = [f"# All that a GPU can show: {self._machine.title}", ""]
        lines += self._machine.table().as_markdown()
        for part, figures in self._figures.items():
            for table in figures.tables():
                lines += table.as_markdown()
            lines += _told(part, self._outcomes.get(part))
        for part, outcome in self._outcomes.items():
            if part not in self._figures:
                lines += _told(part, outcome)
        return [*lines, f"Measured on {self._date} with `{self._command}`.", ""]


def _told(part: str, outcome: Outcome | None) -> list[str]:
    if outcome is None:
        return []
    words = "; ".join((f"Part {part}: {outcome.ended} after {outcome.seconds:.0f} s", *outcome.said))
    return [f"{words}.", ""]


def _replace(file: Path, text: str) -> None:
    partial = file.with_suffix(f"{file.suffix}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(file)
