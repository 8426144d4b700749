"""Why work on Ray failed, in one line: what lies under the errors in which Ray wraps it."""

from ray.exceptions import (
    OutOfMemoryError,
    RayActorError,
    RayError,
    RaySystemError,
    RayTaskError,
    RuntimeEnvSetupError,
    WorkerCrashedError,
)

from advfeat.errors import AdvfeatError, first_line

_UNFIT = (ImportError, SyntaxError)
"""What a node cannot read, as other things, or another Python, are installed there."""

_LASTING = (*_UNFIT, AttributeError, NameError)
"""What is wrong with code, and will be the next time."""


def cause(error: BaseException) -> str:
    """Return what went wrong, by the name of the error that says it."""
    found = innermost(error)
    if isinstance(found, AdvfeatError):
        return str(found)
    if isinstance(found, RayError):
        told = _of_ray(found)
    else:
        told = ": ".join(filter(None, [type(found).__name__, str(found) and first_line(found)]))
    if found is not error and isinstance(found, _UNFIT):
        return f"its worker cannot run it ({told}); install there what is installed here"
    return told


def is_lasting(error: BaseException) -> bool:
    """Tell whether the same would happen on the same nodes again."""
    return isinstance(innermost(error), (*_LASTING, RuntimeEnvSetupError))


def innermost(error: BaseException) -> BaseException:
    """Return the error in an error of Ray, or one that says nothing's own cause; else itself."""
    inner: object = error.__cause__ if not str(error) else None
    if isinstance(error, RayTaskError):
        inner = error.cause
    elif isinstance(error, RaySystemError):
        inner = error.client_exc
    if not isinstance(inner, BaseException) or inner is error:
        return error
    return innermost(inner)


def _of_ray(error: RayError) -> str:
    if isinstance(error, WorkerCrashedError):
        return (
            "its worker was killed or crashed, most often because memory ran out (see dmesg); "
            "use fewer workers or smaller batches"
        )
    if isinstance(error, OutOfMemoryError):
        return f"its node ran out of memory ({first_line(error)})"
    if isinstance(error, RuntimeEnvSetupError):
        return f"its worker cannot be set up ({_last_line(error.error_message)})"
    if isinstance(error, RayActorError):
        return next((line for line in str(error).splitlines() if "because" in line), first_line(error))
    if isinstance(error, RayTaskError):  # of a worker that could not send its own error
        return _last_line(str(error))
    return first_line(error)


def _last_line(text: str | None) -> str:
    return (text or "").strip().rpartition("\n")[2]
