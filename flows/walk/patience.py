"""The store, asked again while it is away for a moment."""

import time
from collections.abc import Callable
from typing import TypeVar

Answer = TypeVar("Answer")


def patiently(ask: Callable[[], Answer]) -> Answer:
    """Return what ``ask`` returns; after an error that may pass, ask again for more than a minute."""
    try:
        return ask()
    except Exception as error:  # every fsspec back end raises its own
        return _asked_again(ask, error)


def _asked_again(ask: Callable[[], Answer], error: Exception) -> Answer:
    from advfeat.tasks.stage_task import RETRY_DELAYS_SECONDS, may_pass

    for seconds in RETRY_DELAYS_SECONDS:
        if not may_pass(error):
            raise error
        time.sleep(seconds)
        try:
            return ask()
        except Exception as again:
            error = again
    raise error
