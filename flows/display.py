"""What a run shows on standard error while it works."""

import time
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from advfeat.progress import StageProgress

_SECONDS_BETWEEN_LINES = 15.0


class Display:
    """One line for each finished stage; below them, in a terminal, what is running and time left."""

    def __init__(self, total: int) -> None:
        self.console = Console(stderr=True, highlight=False)
        self._total = total
        self._finished = 0
        self._computed = 0
        self._began = self._last_line = time.monotonic()
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(compact=True),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )
        self._overall = self._progress.add_task("stages", total=total, rate="")
        self._bars: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def say(self, text: str) -> None:
        """Print a line of its own."""
        self.console.print(text, markup=False, soft_wrap=True)

    def finished(self, title: str, state: str) -> None:
        """Count a stage as finished and say so."""
        self._finished += 1
        self._computed += state != "cached"
        if (bar := self._bars.pop(title, None)) is not None:
            self._progress.remove_task(bar)
        self._progress.update(self._overall, advance=1, rate=self._rate())
        self.say(f"[{self._finished:>{len(str(self._total))}}/{self._total}] {title}: {state}{self._left()}")

    def running(self, stages: Mapping[str, StageProgress]) -> None:
        """Show how far the running stages are; where there is no terminal, a line now and then."""
        active = {title: stage for title, stage in stages.items() if stage.done < stage.total}
        for title, stage in active.items():
            if title not in self._bars:
                self._bars[title] = self._progress.add_task(title, total=stage.total, rate="")
            self._progress.update(
                self._bars[title], completed=stage.done, rate=f"{stage.rate:,.0f} images/s"
            )
        for title in self._bars.keys() - active.keys():
            self._progress.remove_task(self._bars.pop(title))
        now = time.monotonic()
        if not self.console.is_terminal and now - self._last_line > _SECONDS_BETWEEN_LINES:
            self._last_line = now
            for title, stage in active.items():
                left = "" if stage.seconds_left is None else f", {stage.seconds_left:.0f} s left"
                self.say(
                    f"    {title}: {stage.done:,} of {stage.total:,} images, "
                    f"{stage.rate:,.0f} images/s{left}"
                )

    def _rate(self) -> str:
        return f"{self._computed / max(time.monotonic() - self._began, 1e-9):.1f} stages/s"

    def _left(self) -> str:
        elapsed, remaining = time.monotonic() - self._began, self._total - self._finished
        if not self._computed or not remaining:
            return ""
        return f" ({self._rate()}, about {remaining * elapsed / self._computed:.0f} s left)"
