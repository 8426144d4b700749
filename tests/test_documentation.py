"""Every code block of README and docs, in the order of its page, in a folder of the page's own.

Python blocks are executed. Shell blocks are read by bash, and their programs, options and settings must
exist; ``advfeat`` lays out the plan of what it would run, and runs it where the page itself holds the
experiment. CONTRIBUTING says more.
"""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import chdir, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from markdown_it import MarkdownIt
from typer._click.exceptions import UsageError

from advfeat.errors import InputError
from advfeat.flows.command_line.cli import app
from advfeat.flows.command_line.options import DEFAULT_STORE
from advfeat.planning import (
    GridPlan,
    Plan,
    build_grid_plan,
    build_plan,
    load_experiment,
    load_grid,
    load_reproduction,
    points,
)
from advfeat.recipes import recipe_named
from advfeat.spec import DataSpec, is_own_source
from advfeat.storage import Store
from tests.inline import compute_all
from tests.servers import prefect_settings
from tests.shell_blocks import Words, advfeat_arguments, check_program, check_quotes, check_syntax, commands
from website.pages import written_pages

ROOT = Path(__file__).parent.parent
READERS = {"ls", "show", "verify", "runs", "report", "compare"}
BUNDLED = ("digits", "photo-patches")


@dataclass(frozen=True)
class Block:
    """A fenced block: where it stands, what its fence says and what is in it."""

    line: int
    language: str
    title: str | None
    text: str


def blocks(page: Path) -> list[Block]:
    """Return the code blocks of a page."""
    found = []
    for token in MarkdownIt().parse((ROOT / page).read_text()):
        if token.type in ("fence", "code_block"):
            language, _, rest = token.info.partition(" ")
            title = rest.partition('title="')[2].rstrip('"') or None
            found.append(Block((token.map or [0])[0] + 1, language, title, token.content))
    return found


@dataclass
class Reader:
    """Somebody who types what a page says, in an empty folder."""

    page: Path
    serve: Callable[[], dict[str, str]]
    """Returns the variables that lead to a Prefect server."""
    names: dict[str, Any] = field(default_factory=dict)
    has_run: bool = False

    def python(self, block: Block) -> None:
        """Execute a block, after those before it."""
        code = compile("\n" * block.line + block.text, str(ROOT / self.page), "exec")
        with prefect_settings(self.serve()) if "advfeat.run(" in block.text else nullcontext():
            exec(code, self.names)

    def yaml(self, block: Block) -> None:
        """Take a block as an experiment."""
        assert block.title is not None, "an experiment has the name of its file as title"
        assert isinstance(yaml.safe_load(block.text), dict)
        load_experiment(block.title)

    def sh(self, block: Block) -> None:
        """Check a block's commands, and run those that can be run here."""
        check_syntax(block.text)
        check_quotes(block.text)
        for words, comment in commands(block.text):
            if words[0].endswith("advfeat") and "exit code 2" in comment:
                with pytest.raises(InputError):
                    self.advfeat(words[1:])
            elif words[0].endswith("advfeat"):
                self.advfeat(words[1:])
            else:
                check_program(words)

    def text(self, block: Block) -> None:
        """Output: there is nothing to do."""

    def advfeat(self, words: Words) -> None:
        """Parse a command and lay out its plan; run it if the page holds all that it needs."""
        given = advfeat_arguments(words)
        plan = self.planned(words[0], given)
        here = given.get("store") == DEFAULT_STORE
        if words[0] in ("new", "plan") or (words[0] in READERS and here and self.has_run):
            app(words, standalone_mode=False)
        elif words[0] == "run" and plan is not None and Path(given["source"]).is_file() and here:
            assert isinstance(plan, Plan)
            # Computed without Ray; the command then finds each stage under its digest.
            compute_all(plan, Store(DEFAULT_STORE))
            with prefect_settings(self.serve()):
                app(words, standalone_mode=False)
            self.has_run = True

    def planned(self, command: str, given: dict[str, Any]) -> Plan | GridPlan | None:
        """Read what a command would compute; lay it out where its images are on this machine."""
        assignments = given.get("assignments") or []
        if command in ("run", "plan"):
            experiment = load_experiment(self.file(given["source"]), assignments)
        elif command == "reproduce":
            experiment = load_reproduction(given["setting"], assignments)
        elif command == "grid":
            recipe = recipe_named(given["recipe"]).identity
            wanted = points(recipe, load_grid(recipe, assignments))
            return build_grid_plan(wanted) if all(map(is_here, wanted[0].experiment.data_specs)) else None
        else:
            return None
        return build_plan(experiment) if all(map(is_here, experiment.data_specs)) else None

    def file(self, source: str) -> str:
        """Return the path of a file: one that the page has written, or the repository's."""
        return str(ROOT / source) if (ROOT / source).is_file() and not Path(source).exists() else source


def is_here(spec: DataSpec) -> bool:
    """Tell whether real images need no download."""
    kind, _, location = spec.source.partition(":")
    place = kind if is_own_source(spec.source) else location
    return kind in BUNDLED or (bool(place) and Path(place).exists())


@pytest.fixture
def serve(request: pytest.FixtureRequest) -> Iterator[Callable[[], dict[str, str]]]:
    """A Prefect server for the pages that run something; what a run sets in this process is unset again."""
    before = dict(os.environ)
    yield lambda: dict(request.getfixturevalue("prefect_api"))
    os.environ.clear()
    os.environ.update(before)


# What docs/datasets.md exports, loads and learns is run by tests/test_export.py.
PAGES = [page for page in written_pages(ROOT) if page != Path("docs/datasets.md")]


def marks(page: Path) -> tuple[pytest.MarkDecorator, ...]:
    """Mark a page that runs an experiment, which takes a server."""
    runs = any(re.search(r"advfeat run \S+\.ya?ml|advfeat\.run\(", block.text) for block in blocks(page))
    return (pytest.mark.servers,) if runs else ()


@pytest.mark.parametrize("page", [pytest.param(page, marks=marks(page), id=str(page)) for page in PAGES])
def test_every_block_of_a_page(page: Path, serve: Callable[[], dict[str, str]], tmp_path: Path) -> None:
    found = blocks(page)
    for block in found:
        if block.title is not None:
            (tmp_path / block.title).write_text(block.text)
    reader = Reader(page, serve)
    with chdir(tmp_path):
        for block in found:
            assert block.language in ("python", "yaml", "sh", "text"), f"{page}:{block.line} says no language"
            try:
                getattr(reader, block.language)(block)
            except BaseException as error:
                error.add_note(f"in the block at {page}:{block.line}")
                raise


@pytest.mark.parametrize(
    "line",
    [
        "advfeat run --sett attack.eps=1",
        "advfeat run --set attack.epz=1",
        "advfeat grid d_rand --set 'epochs=[1,2]'",
        "advfeat grid d_rand --set eps=[1,2]",
        "advfeat lst",
        "make tests",
        "pip install 'advfeat[local]'",
        "pip install -e '.[gpu]'",
        "prefect deployment start d_det/d_det-local",
        "prefect flow-run ls --stat Failed",
        "ray start --adress=head:6379",
        "advfeet run",
        "if true; advfeat run",
    ],
)
def test_a_wrong_line_is_found(line: str, serve: Callable[[], dict[str, str]]) -> None:
    with pytest.raises((AssertionError, InputError, UsageError, click.UsageError)):
        Reader(Path("page.md"), serve).sh(Block(1, "sh", None, line))
