"""What is printed fits the terminal and is in characters that it has; what cannot be written is told."""

import io
import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console
from typer.core import TyperGroup
from typer.main import get_command
from typer.testing import CliRunner

from advfeat import __version__
from advfeat.flows.command_line import output
from advfeat.flows.command_line.cli import app
from advfeat.flows.command_line.fitting import Column, print_table
from advfeat.flows.command_line.plan_lines import cost_line, plan_lines
from advfeat.flows.command_line.table import print_grid, print_reproduction, print_rows
from advfeat.planning import build_plan, load_experiment, outlook, preset_names
from advfeat.recipes import RECIPES
from advfeat.report.rows import Row
from advfeat.storage import Store
from tests.command import unconfigured
from tests.inline import compute, compute_all
from tests.test_verdict import row_of

ROWS = [row_of(name, [0.981, 0.99], [0.011, 0.02]) for name in RECIPES if name != "two_dimensional"]
GRID = [
    row_of("non_robust_features", [0.981], [0.011]).model_copy(update={"axes": {"eps": eps, "seed": seed}})
    for eps in (0.5, 1.0)
    for seed in (0, 1)
]


def print_a_grid(rows: list[Row]) -> None:
    del rows
    print_grid("a grid of a recipe over two values of an axis, a title that is longer than a line", GRID)


@pytest.mark.parametrize("columns", [5, 39, 40])
def test_a_narrow_terminal_shows_whole_figures(
    columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    print_rows(ROWS[:1])
    assert "98.6 %" in capsys.readouterr().out


@pytest.mark.parametrize("strange", ["", "0", "-1", "abc", "1e9", "99999999999", "²", "８０"])
def test_strange_sizes_are_none(strange: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("COLUMNS", "LINES", "TERMINAL_WIDTH"):
        monkeypatch.setenv(name, strange)
    output.prepare_output()
    assert not {"COLUMNS", "LINES", "TERMINAL_WIDTH"} & os.environ.keys()


@pytest.mark.parametrize("columns", [60, 80, 100, 200])
@pytest.mark.parametrize("show", [print_rows, print_reproduction, print_a_grid])
def test_tables_fit_with_the_accuracy_first(
    columns: int,
    show: Callable[[list[Row]], None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    show(ROWS)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(cell_len, lines)) <= columns
    figures = [line for line in lines if line.startswith("│")]
    assert len(figures) >= 2
    for line in figures:
        if line.split("│")[1].strip():  # else the verdict goes on
            assert line.split("│")[2].strip().startswith("98.")
    if columns == 200:
        assert not any("Left out" in line for line in lines)


TEXTS = st.text("ab é–→中😀", max_size=30).map(str.strip)


@settings(max_examples=60)
@given(st.data(), st.integers(1, 8), st.integers(0, 4), st.integers(50, 120), st.booleans())
def test_no_line_is_longer_than_the_terminal(
    data: st.DataObject, columns: int, rows: int, width: int, plain: bool
) -> None:
    of_rows = st.lists(TEXTS, min_size=rows, max_size=rows)
    table = [
        Column(
            data.draw(TEXTS),
            data.draw(of_rows),
            rank=min(number, 5),
            is_text=number > 0 and data.draw(st.booleans()),
        )
        for number in range(columns)
    ]
    file = io.StringIO()
    print_table(Console(width=width, file=file, markup=False), table, plain=plain)
    lines = file.getvalue().splitlines()
    assert max(map(cell_len, lines), default=0) <= width
    for cell in table[0].cells:
        assert any(cell in line for line in lines)


def test_words_keep_their_least_and_a_column_that_is_shown_is_not_named_as_left_out() -> None:
    table = [
        Column("run", ["8c5a8306"]),
        Column("recipe", ["clean, d_rand, d_det, mislabeled, shuffled"], is_text=True, least=15),
        Column("changed", ["data.train_size=384, data.test_size=300"], is_text=True, least=20),
        Column("difference", ["+0.1"], rank=1),
        Column("difference", ["+0.1"], rank=2),
    ]
    file = io.StringIO()
    print_table(Console(width=66, file=file, markup=False), table)
    assert "data.train_size=384," in file.getvalue()
    assert file.getvalue().count("difference") == 2, "shown once, left out once"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp437", "utf-8"])
def test_a_table_is_shown_in_what_the_terminal_has(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    output.prepare_output()  # knows how to replace
    content = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(content, encoding, errors="advfeat-plain"))
    print_rows(ROWS)
    print("L∞ → … é 😀")
    sys.stdout.flush()
    shown = content.getvalue().decode(encoding)
    assert all(row.recipe in shown for row in ROWS)
    assert shown.count("98.") >= len(ROWS)
    assert (
        shown.splitlines()[-1]
        == {
            "ascii": "L? > ~ e ?",
            "latin-1": "L? > ~ é ?",
            "cp437": "L∞ > ~ é ?",
            "utf-8": "L∞ → … é 😀",
        }[encoding]
    )
    lengths = {len(line) for line in shown.splitlines() if line.startswith(("|", "│"))}
    assert len(lengths) == 1, "columns stay columns"


def advfeat(command: str, folder: Path, **extra: str) -> "subprocess.CompletedProcess[str]":
    """Run a line of a shell in which ``advfeat`` is the command of this environment."""
    program = Path(sys.executable).parent / "advfeat"
    return subprocess.run(
        ["bash", "-c", f'advfeat() {{ {program} "$@"; }}; {command}'],
        cwd=folder,
        env={**unconfigured(), **extra},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


LOST = "advfeat: standard output cannot be written ("


@pytest.mark.parametrize(
    ("command", "code", "told"),
    [
        ("advfeat recipes > /dev/full", 1, LOST),
        ("advfeat recipes | true; exit ${PIPESTATUS[0]}", 1, ""),
        ("advfeat recipes >&-", 2, "advfeat: standard output is closed"),
        ("mkdir x; cd x; rmdir ../x; advfeat recipes", 2, "advfeat: folder: '.' was deleted"),
        ("PYTHONINSPECT=1 advfeat recipes > /dev/null", 0, ""),
        ("advfeat plan --set attack.eps=0 2> /dev/full", 2, ""),
    ],
)
def test_what_cannot_be_written_is_told_in_a_line(command: str, code: int, told: str, tmp_path: Path) -> None:
    done = advfeat(command, tmp_path)
    assert done.returncode == code, done.stderr
    assert done.stderr.startswith(told)
    assert done.stderr.count("\n") == bool(told)
    assert done.stdout == ""


def test_a_plan_in_ascii_and_files_in_utf8(tmp_path: Path) -> None:
    (tmp_path / "café.json").write_text(json.dumps({"name": "é – 😀"}, ensure_ascii=False), encoding="utf-8")
    extra = {"PYTHONIOENCODING": "ascii", "LC_ALL": "C", "PYTHONWARNDEFAULTENCODING": "1", "COLUMNS": "60"}
    done = advfeat("advfeat plan café.json --set recipes=[clean]", tmp_path, **extra)
    assert done.returncode == 0, done.stderr
    assert max(map(len, done.stdout.splitlines())) <= 60
    assert "digits" in done.stderr
    assert max(map(len, done.stderr.splitlines()[1:])) <= 60
    assert "/advfeat/" not in done.stderr, "no file of ours is read or written in another encoding"


def test_a_terminal_of_eighty_columns(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    import fcntl
    import struct
    import termios

    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    variables = {**unconfigured(), "TERM": "xterm"}
    variables.pop("COLUMNS", None)
    program = str(Path(sys.executable).parent / "advfeat")
    words = [program, "plan", "--set", "recipes=[clean]", "--set", "seeds=[0]"]
    subprocess.run(
        words,
        cwd=tmp_path,
        env=variables,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        check=True,
        timeout=100,
    )
    os.close(theirs)
    lines = os.read(ours, 100_000).decode().splitlines()
    os.close(ours)
    assert len(lines) >= 5
    assert max(map(cell_len, lines)) <= 80


def test_a_plan_has_one_line_for_stages_that_differ_by_seed_or_shard(local_store: Store) -> None:
    small = ["data.test_size=40", "recipes=[clean, d_rand]", "shards=2"]
    made = build_plan(load_experiment("digits", small))
    compute(made.stages[0], local_store)
    compute(made.stages[1], local_store)
    entries = outlook(made, local_store)
    lines = plan_lines(entries)
    assert [(line.state, line.title) for line in lines if "clean" in line.title] == [
        ("cached", "data set clean, seed 0"),
        ("compute", "target model clean, seeds 0 to 2"),
        ("compute", "evaluation clean, seeds 0 to 2"),
        ("compute", "data set clean, seeds 1 to 2"),
    ]
    (shards,) = (line for line in lines if "shard" in line.title)
    assert shards.title == "data set d_rand, seeds 0 to 2, shards 1 to 2"
    assert shards.digest.endswith(" +5")
    counted = sum(1 + int(line.digest.partition("+")[2] or 0) for line in lines)
    assert counted == len(entries) == len(made.stages)


def test_a_plan_says_about_what_it_costs(local_store: Store) -> None:
    costs = {}
    for name, small in (("one", ["seeds=[0]", "recipes=[clean]"]), ("more", ["target.epochs=2000"])):
        entries = outlook(build_plan(load_experiment("digits", small)), local_store)
        costs[name] = cost_line(entries)
    assert re.fullmatch(
        r"5 stages: 0 cached, 5 to compute, about \d+ seconds on \d+ cores?, \d+.*", costs["one"]
    )
    assert re.search(r"about \d+ (minutes|hours?) on", costs["more"])
    made = build_plan(load_experiment("digits", ["recipes=[clean]"]))
    compute(made.stages[0], local_store)
    assert "1 cached" in cost_line(outlook(made, local_store))
    assert cost_line([entry for entry in outlook(made, local_store) if entry.state == "cached"]) == (
        "1 stages: 1 cached, 0 to compute"
    )


def test_a_report_is_opened_in_the_browser_that_is_there(tmp_path: Path, local_store: Store) -> None:
    small = ["data.train_size=64", "data.test_size=40", "recipes=[clean]", "seeds=[0]", "target.epochs=1"]
    made = build_plan(load_experiment("digits", small))
    compute_all(made, local_store)
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > {tmp_path}/opened\n')
    browser.chmod(0o700)
    report = f"advfeat report {made.report.digest[:12]} --store {local_store.uri} --open"
    folder = tmp_path / "a b#c"
    folder.mkdir()
    done = advfeat(report, folder, BROWSER=f"{browser} %s")
    assert done.returncode == 0, done.stderr
    page = Path(done.stdout.strip())
    assert page.is_file()
    assert (tmp_path / "opened").read_text().strip() == page.as_uri()

    nowhere = advfeat(report, folder, BROWSER="no-such-browser-here", PATH="/nowhere:/bin", DISPLAY="")
    assert (nowhere.returncode, nowhere.stdout) == (1, done.stdout)
    assert nowhere.stderr == "advfeat: no browser was found here; open that file in one\n"


def test_version_and_presets_are_told(tmp_path: Path) -> None:
    assert advfeat("advfeat --version", tmp_path).stdout == f"advfeat {__version__}\n"
    told = json.loads(advfeat("advfeat presets --json", tmp_path).stdout)
    assert [each["name"] for each in told] == preset_names()
    assert all(each["summary"] for each in told)


def test_help_fits_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERMINAL_WIDTH", "80")
    commands = get_command(app)
    assert isinstance(commands, TyperGroup)
    for name in commands.commands:
        done = CliRunner().invoke(app, [name, "--help"])
        assert done.exit_code == 0
        assert max(map(cell_len, done.output.splitlines())) <= 80, name


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@given(st.text("ab /│├-", max_size=300), st.integers(0, 10))
def test_messages_end_at_words(text: str, indent: int) -> None:
    assert output.folded(text, io.StringIO()) == text
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", "80")
        lines = output.folded(text, Terminal(), indent).splitlines()
    assert [word for line in lines for word in line.split()] == text.split()
    for line in lines:
        assert len(line) <= 80 or len(line.split()) == 1
