"""Standard output and error as they are: what a terminal cannot show is replaced, what is lost is told."""

import codecs
import contextlib
import io
import json
import os
import re
import shutil
import sys
import textwrap
import unicodedata
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from pydantic import BaseModel

_PLAIN = {"–": "-", "—": "-", "−": "-", "→": ">", "…": "~", "·": "|", "×": "x", "≥": ">", "≤": "<", "’": "'"}
"""What stands for a character in an encoding without it; one for one, so that columns stay columns."""

_PLAIN_ERRORS = "advfeat-plain"
_NARROWEST = 40


class Output(io.RawIOBase):
    """What is printed, to a file that may be full or that nobody reads any more.

    The first time that something cannot be written the error is raised, if it matters, and kept; from then on
    all is dropped.
    """

    def __init__(self, file: int, *, matters: bool) -> None:
        self._file, self.matters = file, matters
        self.error: OSError | None = None

    def writable(self) -> bool:
        """Tell that it can be written to."""
        return True

    def fileno(self) -> int:
        """Return the number of the file."""
        return self._file

    def isatty(self) -> bool:
        """Tell whether it is a terminal."""
        return os.isatty(self._file)

    def write(self, content: Any) -> int:
        """Write bytes; return how many were taken."""
        if self.error is None:
            try:
                return os.write(self._file, content)
            except BlockingIOError:
                raise
            except OSError as error:
                self.error = error
                if self.matters:
                    raise
        return memoryview(content).nbytes


_SIZES = ("COLUMNS", "LINES", "TERMINAL_WIDTH")
"""Variables that rich and Typer read, and end at what is not a number."""

_SIZE = re.compile(r"[1-9][0-9]{0,4}")


def prepare_output() -> Output | None:
    """Make both streams show all that they can; return standard output, if there is one.

    Nothing that is told on standard error, such as how far a run is, ends what computes.
    """
    for name in _SIZES:
        if not _SIZE.fullmatch(os.environ.get(name, "")):
            os.environ.pop(name, None)
    codecs.register_error(_PLAIN_ERRORS, _plain)
    output, told = Output(1, matters=True), Output(2, matters=False)
    if isinstance(sys.stderr, io.TextIOWrapper) and sys.stderr is sys.__stderr__:
        sys.stderr = _text(told, sys.stderr.encoding, line_buffering=True)
    if (
        isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout is sys.__stdout__
    ):  # and no other that a test has put there
        sys.stdout = _text(output, sys.stdout.encoding, line_buffering=output.isatty())
    return None if sys.stdout is None else output


def folded(text: str, stream: TextIO, indent: int = 0) -> str:
    """Return lines that end at words where the terminal ends, and go on after an indent; elsewhere the text.

    What has no spaces, such as a path, stays whole, to be copied.
    """
    if not stream.isatty():
        return text
    wide = shutil.get_terminal_size().columns
    return textwrap.fill(
        text,
        max(wide, _NARROWEST),
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
        drop_whitespace=True,
    )


def _text(output: Output, encoding: str, *, line_buffering: bool) -> io.TextIOWrapper:
    buffer = io.BufferedWriter(output)
    return io.TextIOWrapper(buffer, encoding, _PLAIN_ERRORS, line_buffering=line_buffering)


def _plain(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    found = error.object[error.start : error.end]
    return "".join(map(_without_marks, found)), error.end


def _without_marks(character: str) -> str:
    """Return what stands for a character in ASCII, such as its letter without the accent."""
    letter = unicodedata.normalize("NFKD", character)[:1]
    return _PLAIN.get(character) or (letter if letter.isascii() and letter.isprintable() else "?")


def print_model(model: "BaseModel") -> None:
    """Print a model as a line of JSON, in ASCII, which every terminal has."""
    print(json.dumps(json.loads(model.model_dump_json())))


@contextlib.contextmanager
def standard_output_kept_for_result() -> Iterator[None]:
    """Send what libraries and child processes print to standard error."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)
