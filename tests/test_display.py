"""What a run tells while it goes on: one block in a terminal, lines elsewhere, nothing if so wanted."""

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest
from rich.cells import cell_len

from advfeat.cluster.board import StageProgress
from advfeat.flows.display import lines
from advfeat.flows.display.terminal import Display
from advfeat.planning import Outlook
from advfeat.storage import Stage
from tests.command import unconfigured

PROGRAM = """
import time
from advfeat.cluster.board import StageProgress
from advfeat.flows.display.lines import waiting, waits_for
from advfeat.flows.display.terminal import Display
from tests.test_display import outlooks

entries = outlooks(20)
with waiting("looking at what the store holds …"):
    waits_for("starting a Prefect server …")
    time.sleep(1.2)
    with Display(entries) as display:
        for entry in entries[:5]:
            if entry.stage.kind == "evaluation":
                display.found(entry.stage, 0.875)
            display.finished(entry.stage, "computed")
        display.say("a warning that stays")
        display.running({entry.stage.title: StageProgress(30, 100, 50.0) for entry in entries[5:17]})
        time.sleep(1.5)
print("result")
"""
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def outlooks(number: int) -> list[Outlook]:
    """Return stages that are to be computed, every third one an evaluation."""
    kinds = ("dataset", "target_model", "evaluation")
    titles = [
        f"stage number {count} of a recipe with quite a long name, seed {count}" for count in range(number)
    ]
    return [
        Outlook(
            Stage(kind=kinds[count % 3], title=title, parameters={"count": count}, image_passes=1000),
            "compute",
            "",
        )
        for count, title in enumerate(titles)
    ]


def in_a_terminal(arguments: list[str], columns: int) -> tuple[str, float]:
    """Return what a program writes to a terminal, and the longest time in which it wrote nothing."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    variables = {name: value for name, value in unconfigured().items() if name not in ("COLUMNS", "LINES")}
    process = subprocess.Popen(
        arguments,
        cwd=Path(__file__).parent.parent,
        env={**variables, "TERM": "xterm"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    written, last, longest = b"", 0.0, 0.0
    while True:
        try:
            some = os.read(ours, 65536) if select.select([ours], [], [], 100)[0] else b""
        except OSError:  # the other end is closed
            some = b""
        if not some:
            break
        longest, last = max(longest, time.monotonic() - last if last else 0.0), time.monotonic()
        written += some
    os.close(ours)
    assert process.wait(100) == 0, written.decode()
    return written.decode(), longest


def test_a_terminal_has_one_block_that_moves_fits_and_goes() -> None:
    written, longest = in_a_terminal([sys.executable, "-c", PROGRAM], columns=80)
    assert longest < 3
    shown = [ESCAPES.sub("", line).strip("\r") for line in re.split(r"[\r\n]+", written)]
    assert max(map(cell_len, shown)) <= 80
    blocks = [line for line in shown if "5 of 20 stages: 5 computed" in line]
    assert len(blocks) >= 3, "it moves"
    assert len({line[0] for line in blocks}) >= 2, "even where nothing happens"
    bars = [line for line in shown if "30 %, 117 s left" in line]
    assert len(bars) == 6 * len(blocks)
    assert any("and 6 more" in line for line in shown)
    assert any(line.rstrip().endswith("87.5 % of the test images right") or "…" in line for line in shown)
    assert any("starting a Prefect server …" in line and "1 s" in line for line in shown)
    # What stays: the block was taken away before the result was printed.
    end = written[written.rindex("left") :]
    assert end.count("\x1b[2K") >= len(bars) // len(blocks) + 1
    assert shown[-2:] == ["result", ""]
    assert [line for line in shown if line.startswith("a warning")] == ["a warning that stays"]


def test_elsewhere_each_stage_is_a_line(capfd: pytest.CaptureFixture[str]) -> None:
    entries = outlooks(3)
    with Display(entries) as display:
        display.finished(entries[0].stage, "cached")
        display.found(entries[2].stage, 0.5)
        display.finished(entries[2].stage, "computed")
    assert capfd.readouterr().err.splitlines() == [
        f"[1/3] {entries[0].stage.title}: cached",
        f"[2/3] {entries[2].stage.title}: computed, 50.0 % of the test images right",
    ]


def test_no_time_left_is_told_before_enough_is_known(capfd: pytest.CaptureFixture[str]) -> None:
    entries = outlooks(20)
    for seconds, passed, told in ((2.0, 50, False), (60.0, 0, False), (60.0, 50, True)):
        with Display(entries) as display:
            display.running({entries[1].stage.title: StageProgress(passed, 100, seconds)})
            display.finished(entries[0].stage, "computed" if passed else "cached")
        assert ("left" in capfd.readouterr().err) == told, (seconds, passed)
    with Display(entries) as display:
        display.running({entries[1].stage.title: StageProgress(100, 100, 60.0)})
        for entry in entries[:10]:
            display.finished(entry.stage, "computed")
    assert "(167 image passes/s, about 60 s left)" in capfd.readouterr().err


def test_quiet_keeps_problems(capfd: pytest.CaptureFixture[str]) -> None:
    (entry,) = outlooks(1)
    with lines.quiet(True), lines.waiting("looking …"):
        lines.waits_for("starting …")
        with Display([entry]) as display:
            display.finished(entry.stage, "computed")
            display.say("a line")
            display.warn("failed: [it]")
    assert capfd.readouterr().err == "failed: [it]\n"
    lines.say("told again")
    assert capfd.readouterr().err == "told again\n"


def test_what_lasts_is_told_again(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "_SECONDS_BETWEEN_LINES", 1.0)
    with lines.waiting("looking …"):
        lines.waits_for("starting …")
        time.sleep(2.2)
        lines.waits_no_more()
        time.sleep(1.5)
    first, *again = capfd.readouterr().err.splitlines()
    assert first == "starting …"
    assert 1 <= len(again) <= 2
    assert all(re.fullmatch(r"starting … \d s", line) for line in again)


def test_a_stage_of_a_grid_report_is_told_too(capfd: pytest.CaptureFixture[str]) -> None:
    with Display([], to_come=1) as display:
        display.finished(Stage(kind="grid_report", title="report", parameters={}), "computed")
    assert capfd.readouterr().err == "[1/1] report: computed\n"
