"""What a run shows on standard error while it works."""

import time
from collections import Counter
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Self

from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from advfeat.cluster.board import StageProgress
from advfeat.flows.display.lines import can_move, console_of_lines, waits_for, waits_no_more
from advfeat.planning import Outlook
from advfeat.report.numbers import percent
from advfeat.storage import Stage

_SECONDS_BETWEEN_LINES = 15.0
_MOST_BARS = 6
_MOST_RESULTS = 3
_BAR_WIDTH = 16
_WITHOUT_COUNT = "workers start, or read and write"
"""What goes on while no stage tells how far it is."""

# Time left is told once these are behind: the first images of a run pass while its workers still start.
_LEAST_SECONDS = 10.0
_LEAST_SHARE = 0.05
_LEAST_SECONDS_OF_STAGE = 4.0


class Display:
    """In a terminal one block that moves; elsewhere a line for each finished stage.

    Time left is told from the image passes (an image through a network once) that are done and to do.
    """

    def __init__(self, outlooks: Iterable[Outlook], *, to_come: int = 0) -> None:
        """Show a walk over these stages, and over so many more that are not known yet."""
        outlooks = list(outlooks)
        self.console = console_of_lines()
        self._problems = console_of_lines(problems=True)
        self._is_live = can_move(self.console)
        self._total = len(outlooks) + to_come
        self._counts: Counter[str] = Counter()
        to_compute = [entry.stage for entry in outlooks if entry.state == "compute"]
        self._passes = sum(stage.image_passes for stage in to_compute)
        self._passes_of = {stage.title: stage.image_passes for stage in to_compute}
        self._passes_done = 0
        self._began: float | None = None
        self._last_line = time.monotonic()
        self._active: dict[str, StageProgress] = {}
        self._found: dict[str, str] = {}
        self._last: list[str] = []
        self._spinner = Spinner("line")
        self._live = Live(
            console=self.console, get_renderable=self._block, refresh_per_second=4, transient=True
        )

    def __enter__(self) -> Self:
        waits_no_more()
        if self._is_live:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._live.stop()
        waits_for("ending the run …", told=False)

    def say(self, text: str) -> None:
        """Print a line of its own."""
        self._last_line = time.monotonic()
        self.console.print(text, soft_wrap=not self.console.is_terminal)

    def warn(self, text: str) -> None:
        """Print a line of its own that a user who wants quiet gets too."""
        self._last_line = time.monotonic()
        self._problems.print(text, soft_wrap=not self._problems.is_terminal)

    def found(self, stage: Stage, test_accuracy: float) -> None:
        """Know how many test images a network gets right, in [0, 1]: told when the stage is finished."""
        self._found[stage.title] = f", {percent(test_accuracy)} of the test images right"

    def finished(self, stage: Stage, how: str) -> None:
        """Count a stage as finished and say so."""
        self._counts[how] += 1
        if how != "cached":
            self._passes_done += stage.image_passes
        self._active.pop(stage.title, None)
        found = self._found.pop(stage.title, "")
        if self._is_live:
            if found:
                self._last = [*self._last, f"{stage.title}: {how}{found}"][-_MOST_RESULTS:]
            return
        number = f"[{self._counts.total():>{len(str(self._total))}}/{self._total}]"
        pace = self._pace()
        self.say(f"{number} {stage.title}: {how}{found}{pace and f' ({pace})'}")

    def passed_over(self, count: int) -> None:
        """Count stages that were in the store already, and say so in one line."""
        self._counts["cached"] += count
        self.say(f"{count:,} stages are in the store; those are not listed")

    def running(self, stages: Mapping[str, StageProgress]) -> None:
        """Show how far the running stages are; where there is no terminal, a line now and then."""
        if stages and self._began is None:
            # Workers take seconds to start; they are no measure of how fast images pass.
            self._began = time.monotonic() - max(stage.seconds for stage in stages.values())
        longest = sorted(stages.items(), key=lambda entry: -entry[1].seconds)
        self._active = {title: stage for title, stage in longest if stage.done < stage.total}
        if self._is_live or time.monotonic() - self._last_line <= _SECONDS_BETWEEN_LINES:
            return
        for title, stage in [*self._active.items()][:_MOST_BARS]:
            self.say(f"    {title}: {stage.done:,} of {stage.total:,} images{_left(stage)}")
        if not self._active:
            self.say(f"    {self._counted()}; {_WITHOUT_COUNT}")

    def _block(self) -> RenderableType:
        """Return what is shown now: the whole, its stages that run, and what came of the last ones."""
        whole = Table.grid(padding=(0, 1), expand=True)
        whole.add_column(width=1)
        whole.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
        whole.add_column(justify="right", no_wrap=True)
        whole.add_row(self._spinner, self._counted(), self._pace())
        stages = Table.grid(padding=(0, 1), expand=True)
        stages.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
        stages.add_column(width=_BAR_WIDTH)
        stages.add_column(justify="right", no_wrap=True)
        shown = [*self._active.items()][: max(1, min(_MOST_BARS, self.console.height - 6))]
        for title, stage in shown:
            bar = ProgressBar(total=stage.total, completed=stage.done, width=_BAR_WIDTH)
            stages.add_row(f"  {title}", bar, f"{100 * stage.done / stage.total:.0f} %{_left(stage)}")
        below = [f"  and {more} more" for more in [len(self._active) - len(shown)] if more]
        if not self._active and self._counts.total() < self._total:
            below.append(f"  {_WITHOUT_COUNT} …")
        texts = [
            Text(text, no_wrap=True, overflow="ellipsis") for text in [*below, *map(_indented, self._last)]
        ]
        return Group(whole, stages, *texts)

    def _counted(self) -> str:
        done = ", ".join(f"{number} {how}" for how, number in self._counts.items())
        return f"{self._counts.total()} of {self._total} stages{done and f': {done}'}"

    def _pace(self) -> str:
        """Say how fast images pass and how long it lasts yet; nothing while little is known of it."""
        if self._began is None or not self._passes:
            return ""
        seconds = time.monotonic() - self._began
        running = ((self._passes_of.get(title, 0), stage) for title, stage in self._active.items())
        done = self._passes_done + sum(passes * stage.done / stage.total for passes, stage in running)
        if seconds < _LEAST_SECONDS or done < _LEAST_SHARE * self._passes:
            return ""
        rate = done / seconds
        return f"{rate:,.0f} image passes/s, about {_duration((self._passes - done) / rate)} left"


def _indented(text: str) -> str:
    return f"  {text}"


def _left(stage: StageProgress) -> str:
    if stage.seconds_left is None or stage.seconds < _LEAST_SECONDS_OF_STAGE:
        return ""
    return f", {_duration(stage.seconds_left)} left"


def _duration(seconds: float) -> str:
    """Write an estimate of a time in the unit of which it is a few."""
    for unit, length in (("days", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
