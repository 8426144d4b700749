"""Shell blocks of the documentation: their commands, and whether programs and options of these exist.

Nothing here is executed but ``bash -n``, which reads the syntax.
"""

import re
import shlex
import subprocess
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from prefect.cli._app import _app as prefect_app
from ray.scripts.scripts import start as ray_start
from typer.core import TyperGroup
from typer.main import get_command

from advfeat.flows.command_line.cli import app

ROOT = Path(__file__).parent.parent
_SEPARATORS = {"&&", "||", ";", "|", "&"}
Words = list[str]


def check_syntax(text: str) -> None:
    """Raise ``AssertionError`` if bash could not read a block."""
    done = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def check_quotes(text: str) -> None:
    """Raise ``AssertionError`` where zsh would take brackets for a pattern of file names and refuse it."""
    for line in text.splitlines():
        code = re.sub(r"'[^']*'|\"[^\"]*\"|(^| )#.*", "", line)
        assert not re.search(r"\S\[", code), f"quote what holds brackets: {line}"


def commands(text: str) -> Iterator[tuple[Words, str]]:
    """Return the commands of a block, word by word, each with the comment at the end of its line."""
    for line in re.sub(r"\\\n\s*", " ", text).splitlines():
        code, _, comment = line.partition(" #") if not line.startswith("#") else ("", "", line)
        lexer = shlex.shlex(code, posix=True, punctuation_chars=";&|")
        lexer.whitespace_split, lexer.commenters = True, ""
        words: Words = []
        for word in [*lexer, ";"]:
            if word in _SEPARATORS:
                while words and re.match(r"\w+=", words[0]):
                    words.pop(0)
                if words:
                    yield words, comment.strip()
                words = []
            else:
                words.append(word)


def check_program(words: Words) -> None:
    """Raise ``AssertionError`` or a usage error if the command could not be what its program takes."""
    program = words[0].removeprefix(".venv/bin/")
    assert program in _CHECKS, f"{words[0]} is no program that the documentation may call"
    _CHECKS[program](words[1:])


def advfeat_arguments(words: Words) -> dict[str, Any]:
    """Parse the arguments of ``advfeat`` as the program would, by name; raises a usage error."""
    group = get_command(app)
    assert isinstance(group, TyperGroup)
    name, *arguments = words
    assert name in group.commands, f"advfeat has no command {name}"
    command, path = group.commands[name], f"advfeat {name}"
    if isinstance(command, TyperGroup):
        name, *arguments = arguments
        assert name in command.commands, f"{path} has no command {name}"
        command, path = command.commands[name], f"{path} {name}"
    return dict(command.make_context(path, list(arguments)).params)


def _check_make(words: Words) -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([\w-]+):", makefile, re.MULTILINE))
    variables = set(re.findall(r"\$\((\w+)\)", makefile))
    for word in words:
        name, assigns, _ = word.partition("=")
        assert name in (variables if assigns else targets), f"the Makefile has no {name}"


def _check_extras(words: Words) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for named in re.findall(r"(?:advfeat|\.)\[([\w,]+)\]", " ".join(words)):
        assert set(named.split(",")) <= set(extras), f"there is no extra {named}"
    assert not any(word.startswith("advfeat") for word in words), "no package index has advfeat"


def _check_prefect(words: Words) -> None:
    words = [word for word in words if word != "--no-prompt"]
    command = prefect_app
    shown = " ".join(words)
    while words and words[0] in command:
        command = command[words.pop(0)]
    assert command.default_command is not None, f"prefect {shown}"
    known = {name for argument in command.assemble_argument_collection() for name in argument.names}
    assert {word.split("=")[0] for word in words if word.startswith("-")} <= known, shown


def _check_ray(words: Words) -> None:
    if words[0] == "start":
        with ray_start.make_context("ray start", words[1:]):
            pass


def _check_files(words: Words) -> None:
    for word in words:
        assert not word.endswith(".py") or (ROOT / word).is_file() or Path(word).is_file(), word


def _anything(words: Words) -> None:
    """Programs that are not here, and whose arguments nobody can check."""


_CHECKS: Mapping[str, Callable[[Words], object]] = {
    "advfeat": advfeat_arguments,
    "make": _check_make,
    "pip": _check_extras,
    "uv": _check_extras,
    "prefect": _check_prefect,
    "ray": _check_ray,
    "pytest": _check_files,
    **dict.fromkeys(("python", "python3", "ruff", "mypy", "source", "export", "jq"), _anything),
    **dict.fromkeys(
        (
            "docker",
            "docker/make-secrets",
            "deployments/kubernetes/make-secrets",
            "kubectl",
            "helm",
            "aws",
            "base64",
            "mv",
            "rm",
        ),
        _anything,
    ),
}
