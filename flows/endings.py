"""How a run ends that does not end well: cancelled, or failed for a reason that is told in its line."""

import logging
from collections.abc import Callable

from prefect import State, get_run_logger
from prefect.exceptions import CancelledRun
from prefect.states import Cancelled, Failed

from advfeat.errors import AdvfeatError, RunCancelledError
from advfeat.flows.result import RunResult

INTERRUPTED = "interrupted; finished stages are kept"


def _is_news(record: logging.LogRecord) -> bool:
    """Tell whether a line of a log is none of an ending that has been told."""
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, AdvfeatError | CancelledRun)


# What runs a deployment's flow takes its last state for an error of the flow, and logs where it came from.
logging.getLogger("prefect.flow_runs").addFilter(_is_news)


def ended(work: Callable[[], RunResult]) -> RunResult | State[RunResult]:
    """Return what a run returns, or the state that it ended in; who calls a flow gets the error itself.

    Prefect would log an error with the way through its engine and ours, and its message somewhere in it.
    """
    try:
        return work()
    except (RunCancelledError, CancelledRun) as cancelled:  # this one, or the main job of a regression check
        return Cancelled(message=str(cancelled))
    except KeyboardInterrupt:
        return Cancelled(message=INTERRUPTED)
    except AdvfeatError as error:
        get_run_logger().error("%s", error)
        return Failed(message=str(error), data=error)
