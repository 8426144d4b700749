"""What is told on standard error besides a run's stages: lines, and in a terminal one that moves."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial

from rich.console import Console
from rich.progress import Progress, ProgressColumn, SpinnerColumn, Task, TextColumn
from rich.text import Text

_SECONDS_BETWEEN_LINES = 10.0
_QUIET: ContextVar[bool] = ContextVar("quiet", default=False)


@contextmanager
def quiet(wanted: bool) -> Iterator[None]:
    """Tell nothing but problems meanwhile, where that is wanted."""
    token = _QUIET.set(wanted)
    try:
        yield
    finally:
        _QUIET.reset(token)


def console_of_lines(*, problems: bool = False) -> Console:
    """Return standard error, to which lines are told; only ``problems`` are where the user wants quiet.

    A notebook gets lines alone: what moves there needs a package that Jupyter does not bring.
    """
    lines = partial(Console, stderr=True, highlight=False, markup=False, quiet=_QUIET.get() and not problems)
    console = lines()
    return lines(force_jupyter=False, force_terminal=False) if console.is_jupyter else console


def can_move(console: Console) -> bool:
    """Tell whether lines can be written over: in a terminal, where the user does not want quiet."""
    return console.is_terminal and not console.is_dumb_terminal and not console.quiet


class Waiting:
    """What is waited for, where nothing can be counted; in a terminal it moves."""

    def __init__(self) -> None:
        self._console = console_of_lines()
        self._moves = can_move(self._console)
        self._text, self._began, self._last_line = "", time.monotonic(), time.monotonic()
        self._ended, self._paused = threading.Event(), False
        self._progress = self._line()

    def start(self) -> None:
        """Begin to tell."""
        if not self._moves:
            threading.Thread(target=self._tell_again, daemon=True, name="waiting").start()

    def end(self) -> None:
        """Tell no more; what moved is gone."""
        self._ended.set()
        self._progress.stop()

    def say(self, text: str) -> None:
        """Print a line of its own, which stays."""
        self._last_line = time.monotonic()
        self._console.print(text, soft_wrap=not self._console.is_terminal)

    def waits_for(self, text: str, *, told: bool) -> None:
        """Wait for something; where no line moves it is ``told`` at once, else only if it lasts."""
        self._text, self._began, self._paused = text, time.monotonic(), False
        if self._moves:
            self._progress.stop()
            self._progress = self._line()
            self._progress.add_task(text)
            self._progress.start()
        elif told:
            self.say(text)

    def pause(self) -> None:
        """Leave the terminal to something else."""
        self._paused = True
        self._progress.stop()

    def _line(self) -> Progress:
        columns = (SpinnerColumn("line"), TextColumn("{task.description}", markup=False), _Seconds())
        return Progress(*columns, console=self._console, transient=True, disable=not self._moves)

    def _tell_again(self) -> None:
        while not self._ended.wait(1.0):
            now = time.monotonic()
            since = max(self._last_line, self._began)
            if self._text and not self._paused and now - since >= _SECONDS_BETWEEN_LINES:
                self.say(f"{self._text} {now - self._began:.0f} s")


class _Seconds(ProgressColumn):
    """How long it has lasted."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.elapsed or 0:.0f} s", style="progress.elapsed")


_CURRENT: ContextVar[Waiting | None] = ContextVar("waiting", default=None)


@contextmanager
def waiting(text: str) -> Iterator[None]:
    """Tell meanwhile what is waited for, if it lasts."""
    current = Waiting()
    token = _CURRENT.set(current)
    current.start()
    current.waits_for(text, told=False)
    try:
        yield
    finally:
        current.end()
        _CURRENT.reset(token)


def waits_for(text: str, *, told: bool = True) -> None:
    """Tell what is waited for from now on; what is not ``told`` at once is told if it lasts."""
    if (current := _CURRENT.get()) is not None:
        current.waits_for(text, told=told)
    elif told:
        say(text)


def waits_no_more() -> None:
    """Leave the terminal to something else that moves."""
    if (current := _CURRENT.get()) is not None:
        current.pause()


def now_and_then(what: str) -> Callable[[int, int], None]:
    """Return what is told how much of long work is done, and prints that every ten seconds."""
    last = time.monotonic()

    def tell(done: int, total: int) -> None:
        nonlocal last
        if time.monotonic() - last >= _SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            say(f"{what}: {done:,} of {total:,}")

    return tell


def say(text: str) -> None:
    """Print a line of its own."""
    if (current := _CURRENT.get()) is not None:
        current.say(text)
    else:
        console = console_of_lines()
        console.print(text, soft_wrap=not console.is_terminal)
