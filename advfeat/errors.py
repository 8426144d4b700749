"""The one exception hierarchy: every error that advfeat raises on purpose."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

_MOST_CHARACTERS = 500
"""Of what somebody else wrote, in a message."""


class AdvfeatError(Exception):
    """Base of all errors raised on purpose; its message is one line, of characters that a terminal shows."""

    def __init__(self, message: str) -> None:
        super().__init__("".join(each if each.isprintable() else " " for each in message))


class InputError(AdvfeatError):
    """Something the user gave cannot be used; nothing was computed.

    The message names the field, the value and the remedy.
    """

    def __init__(self, field: str, value: object, problem: str, remedy: str) -> None:
        super().__init__(f"{field}: {_shortened(repr(value))} {problem}; {remedy}")
        self.field = field
        self.value = value
        self._arguments = (field, value, problem, remedy)

    def further_in(self, place: str) -> "InputError":
        """Return the same refusal of a field that stands at ``place``, such as ``only.d_det``."""
        field, value, problem, remedy = self._arguments
        return InputError(f"{place}.{field}", value, problem, remedy)

    def __reduce__(self) -> tuple[type["InputError"], tuple[str, object, str, str]]:
        return type(self), self._arguments  # a worker's error reaches the run whole


def extra_missing(field: str, value: object, extra: str) -> InputError:
    """Return the refusal of what only an extra of the package installs, with the way to install it."""
    command = f".venv/bin/uv pip install -c constraints.txt -e '.[{extra}]'"
    return InputError(
        field, value, "is not installed", f"install advfeat with the extra {extra}; in a clone: {command}"
    )


class DamagedArtifactError(AdvfeatError):
    """An artifact's bytes are not those that its manifest promises."""


class MissingArtifactError(AdvfeatError):
    """An artifact that a stage needs is not in the store."""


class StageFailedError(AdvfeatError):
    """At least one stage of a run failed; everything finished before it is kept."""


class RunCancelledError(AdvfeatError):
    """Somebody cancelled the run in Prefect; everything finished before it is kept."""

    def __init__(self) -> None:
        super().__init__("the run was cancelled in Prefect; finished stages are kept")


class StoreRefusedError(AdvfeatError):
    """The store does not let a node read or write; asking again does not help."""


class StoreBusyError(AdvfeatError):
    """Somebody else takes garbage away from the store, or has done so meanwhile."""


class DeviceFullError(AdvfeatError):
    """A GPU's memory does not hold what a stage computes at once, however little that was made."""


class FigureOutsideError(AdvfeatError):
    """A result left the interval in which it was expected."""


class TrackingError(AdvfeatError):
    """Another tool could not be told of a run; the run and its results are kept."""


class OutputLostError(AdvfeatError):
    """What a command prints cannot be written; what it computed is kept."""


class ServerStartError(AdvfeatError):
    """A local server did not start or did not answer in time."""


@contextmanager
def explained(refused: Callable[[str], AdvfeatError], problem: str = "cannot be read") -> Iterator[None]:
    """Turn what a file system or a reader of files complains about into the refusal's one line."""
    try:
        yield
    except AdvfeatError:
        raise
    except Exception as error:  # every file system and every format raises its own
        raise refused(f"{problem} ({first_line(error)})") from error


def first_line(error: BaseException) -> str:
    """Return the first line of another library's error, for a message of ours; of an empty one its type.

    A line that only announces the next one has that behind it. Of pydantic's it is the first complaint,
    behind the field that it is about.
    """
    from pydantic import ValidationError  # here, as a command line that only prints its help does without

    if isinstance(error, ValidationError):
        first = error.errors(include_url=False)[0]
        return _shortened(": ".join(filter(None, [".".join(map(str, first["loc"])), first["msg"]])))
    line, *others = (str(error).strip() or type(error).__name__).splitlines()
    return _shortened(f"{line} {others[0].strip()}" if line.endswith(":") and others else line)


def _shortened(text: str) -> str:
    return text if len(text) <= _MOST_CHARACTERS else f"{text[:_MOST_CHARACTERS]}…"
