"""``FILE.py:FUNCTION`` and ``package.module:function`` -> functions, here and on workers."""

import ast
import contextlib
import hashlib
import importlib
import importlib.util
import inspect
import linecache
import os
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from pydantic import BaseModel, ConfigDict

from advfeat.errors import InputError, first_line
from advfeat.spec import OWN_FUNCTION

_MOST_BYTES = 1 << 20
_DIGITS = 16
"""Of the SHA-256 of a file, in the name of what it holds."""

Refused = Callable[[str, str], InputError]
"""Makes the error for a problem and its remedy."""


class OwnFunction(BaseModel):
    """A function, or a recipe, and the text of the file that it stands in.

    ``name`` is ``net.py:make@0123456789abcdef``: the file without its folder, what is meant in it, and the
    first digits of the SHA-256 of the file; it means the same everywhere.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    text: str


def read_function(field: str, named: str) -> OwnFunction:
    """Read and run the file that a function stands in; raises ``InputError`` about ``field``.

    ``named`` is a path or a module, and a function in it; with ``@`` and digits behind it another file of
    that name is refused.
    """
    own = read_code(named, refused := _refusal(field, named))
    _function(own.name, refused)
    return own


def read_code(named: str, refused: Refused) -> OwnFunction:
    """Read the file that a function or a recipe is said to stand in, without running it."""
    found = OWN_FUNCTION.fullmatch(named)
    if found is None:
        raise refused("names no function", "write FILE.py:FUNCTION or package.module:function")
    place, function, version = found["place"], found["function"], found["version"]
    path = _file(place, refused)
    try:
        content = path.read_bytes()
        text = importlib.util.decode_source(content)
    except (OSError, SyntaxError, UnicodeError) as error:
        raise refused(f"cannot be read ({first_line(error)})", "give a file of Python") from None
    if len(content) > _MOST_BYTES:
        raise refused(f"has {len(content):,} bytes", f"give a file of at most {_MOST_BYTES:,}")
    digits = hashlib.sha256(content).hexdigest()[:_DIGITS]
    if version is not None and version != digits:
        raise refused(f"has other content now, {digits}", "restore the one that you mean, or omit the @")
    own = OwnFunction(name=f"{path.name if _is_file(place) else place}:{function}@{digits}", text=text)
    provide([own])
    return own


def _refusal(field: str, named: str) -> Refused:
    return lambda problem, remedy: InputError(field, named, problem, remedy)


def provide(functions: Iterable[OwnFunction]) -> None:
    """Let this process find functions by their names; what came with a run, never what lay in a store."""
    for function in functions:
        _PROVIDED.setdefault(function.name, function)


def is_provided(name: str) -> bool:
    """Tell whether this process knows a function of that name and content."""
    return name in _PROVIDED


def provided(names: Iterable[str]) -> list[OwnFunction]:
    """Return those of some functions that this process knows."""
    return [_PROVIDED[name] for name in sorted(names) if name in _PROVIDED]


def uninstalled_imports(text: str) -> list[str]:
    """Name what a file imports that belongs to no distribution: no digest holds it, and no worker has it."""
    tree = list(ast.walk(ast.parse(text)))
    names = {alias.name for node in tree if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in tree if isinstance(node, ast.ImportFrom) and node.module}
    packages = {name.partition(".")[0] for name in names} - sys.stdlib_module_names - {"advfeat"}
    installed = tuple({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")})
    found = {name: spec.origin for name in packages if (spec := importlib.util.find_spec(name)) is not None}
    elsewhere = [name for name, origin in found.items() if origin and not origin.startswith(installed)]
    return sorted(set(elsewhere) - packages_distributions().keys()) if elsewhere else []


def function_of(name: str) -> Callable[..., Any]:
    """Return a function by the name that ``read_function`` gave; raises ``InputError`` if there is none."""
    refused = _refusal("function", name)
    if name not in _PROVIDED:
        raise refused("is not available here", "name the file that contains it, as the run did that used it")
    return _function(name, refused)


def called(function: Callable[..., Any], refused: Refused, given: Mapping[str, Any]) -> Any:
    """Call a function with those arguments that it takes; raises ``InputError`` that says where it failed."""
    try:
        parameters = inspect.signature(function).parameters.values()
        takes_all = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
        names = {parameter.name for parameter in parameters}
        return function(**{name: value for name, value in given.items() if takes_all or name in names})
    except InputError:
        raise
    except (Exception, SystemExit) as error:
        raise refused(f"fails: {told_of(error)}", "correct it") from error


_PROVIDED: dict[str, OwnFunction] = {}


def _is_file(place: str) -> bool:
    return place.endswith(".py")


def _file(place: str, refused: Refused) -> Path:
    if _is_file(place):
        return Path(os.path.expanduser(place))  # noqa: PTH111  # ~NAME of nobody is a name
    try:
        found = importlib.util.find_spec(place)
    except (ImportError, ValueError) as error:
        raise refused(f"cannot be imported ({first_line(error)})", "install it, or name a file") from None
    if found is None or found.origin is None or not _is_file(found.origin):
        raise refused("is not an installed module of Python", "install it, or name a file")
    return Path(found.origin)


def _function(name: str, refused: Refused) -> Callable[..., Any]:
    module = module_of(name, refused)
    function = member_of(name)
    found: Any = getattr(module, function, None)
    if not callable(found):
        others = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        there = f"there are {', '.join(others[:8])}" if others else "it has none"
        raise refused(f"has no function {function}", there)
    return cast("Callable[..., Any]", found)


def member_of(name: str) -> str:
    """Return what is meant in a file, by a name that has its content."""
    return name.rpartition(":")[2].partition("@")[0]


def module_of(name: str, refused: Refused) -> ModuleType:
    """Run a file that this process was provided with, once; raises what ``refused`` makes."""
    try:
        return _module(name.rpartition(":")[0], name, _PROVIDED[name].text)
    except (Exception, SystemExit) as error:
        remedy = "correct it; what it imports must be installed"
        raise refused(f"cannot be run: {told_of(error)}", remedy) from error


@cache
def _module(place: str, name: str, text: str) -> ModuleType:
    digits = name.rpartition("@")[2]
    if not _is_file(place):
        module = importlib.import_module(place)
        assert module.__file__ is not None
        here = hashlib.sha256(Path(module.__file__).read_bytes()).hexdigest()[:_DIGITS]
        if here != digits:
            raise ImportError(f"{place} is another file here, {here}: install the same version everywhere")
        return module
    module = ModuleType(f"advfeat_own_{digits}")
    module.__file__ = place
    linecache.cache[place] = (len(text), None, text.splitlines(keepends=True), place)  # for tracebacks
    code = compile(text, place, "exec")
    sys.modules[module.__name__] = module  # dataclasses and the like look for it there
    try:
        with contextlib.redirect_stdout(sys.stderr):  # results alone stand there
            exec(code, module.__dict__)
    except BaseException:
        del sys.modules[module.__name__]
        raise
    return module


def told_of(error: BaseException) -> str:
    """Return an error in a line, with the line of the user's file that it comes from."""
    line = f"{type(error).__name__}: {first_line(error)}" if str(error) else type(error).__name__
    if isinstance(error, SyntaxError):
        return line  # which says where
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename.endswith(".py")]
    theirs = [frame for frame in own if frame.filename in {_code_file(name) for name in _PROVIDED}]
    return f"{line} ({theirs[-1].filename}, line {theirs[-1].lineno})" if theirs else line


def _code_file(name: str) -> str:
    """Return how tracebacks name the file of a function."""
    place = name.rpartition(":")[0]
    return place if _is_file(place) else str(getattr(sys.modules.get(place), "__file__", place))
