"""What a run shows on standard error while it works."""

import time
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from advfeat.cluster.board import StageProgress
from advfeat.planning import Outlook
from advfeat.storage import Stage

_SECONDS_BETWEEN_LINES = 15.0


class Display:
    """One line for each finished stage; below them, in a terminal, what is running and time left.

    A notebook gets lines alone: bars there need a package that Jupyter does not bring.
    Time left is told from the image passes (an image through a network once) that are done and to do.
    """

    def __init__(self, outlooks: Iterable[Outlook], *, to_come: int = 0) -> None:
        """Show a walk over these stages, and over so many more that are not known yet."""
        outlooks = list(outlooks)
        self.console = Console(stderr=True, highlight=False)
        if self.console.is_jupyter:
            self.console = Console(stderr=True, highlight=False, force_jupyter=False, force_terminal=False)
        self._is_live = self.console.is_terminal
        self._total = len(outlooks) + to_come
        self._finished = 0
        self._passes = sum(entry.stage.image_passes for entry in outlooks if entry.state == "compute")
        self._passes_done = 0
        self._began: float | None = None
        self._last_line = time.monotonic()
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[pace]}"),
            console=self.console,
            transient=True,
            disable=not self._is_live,
        )
        self._overall = self._progress.add_task("stages", total=self._total, pace="")
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

    def finished(self, stage: Stage, state: str) -> None:
        """Count a stage as finished and say so."""
        self._finished += 1
        if state != "cached":
            self._passes_done += stage.image_passes
        if (bar := self._bars.pop(stage.title, None)) is not None:
            self._progress.remove_task(bar)
        pace = self._pace()
        self._progress.update(self._overall, advance=1, pace=pace)
        number = f"[{self._finished:>{len(str(self._total))}}/{self._total}]"
        self.say(f"{number} {stage.title}: {state}{pace and f' ({pace})'}")

    def running(self, stages: Mapping[str, StageProgress]) -> None:
        """Show how far the running stages are; where there is no terminal, a line now and then."""
        if stages and self._began is None:
            # Workers take seconds to start; they are no measure of how fast images pass.
            self._began = time.monotonic() - max(stage.seconds for stage in stages.values())
        active = {title: stage for title, stage in stages.items() if stage.done < stage.total}
        for title, stage in active.items():
            if title not in self._bars:
                self._bars[title] = self._progress.add_task(title, total=stage.total, pace="")
            self._progress.update(self._bars[title], completed=stage.done, pace=_pace(stage))
        for title in self._bars.keys() - active.keys():
            self._progress.remove_task(self._bars.pop(title))
        now = time.monotonic()
        if not self._is_live and now - self._last_line > _SECONDS_BETWEEN_LINES:
            self._last_line = now
            for title, stage in active.items():
                self.say(f"    {title}: {stage.done:,} of {stage.total:,} images, {_pace(stage)}")

    def _pace(self) -> str:
        if not self._passes_done or self._began is None:
            return ""
        rate = self._passes_done / (time.monotonic() - self._began)
        left = (self._passes - self._passes_done) / rate
        return f"{rate:,.0f} image passes/s, about {left:.0f} s left"


def _pace(stage: StageProgress) -> str:
    left = "" if stage.seconds_left is None else f", {stage.seconds_left:.0f} s left"
    return f"{stage.rate:,.0f} images/s{left}"
