"""The store, asked again while it is away for a moment."""

import time
from collections.abc import Callable
from typing import TypeVar

from advfeat.tasks.stage_task import RETRY_DELAYS_SECONDS, may_pass

Answer = TypeVar("Answer")


def patiently(ask: Callable[[], Answer]) -> Answer:
    """Return what ``ask`` returns; after an error that may pass, ask again for more than a minute."""
    for seconds in RETRY_DELAYS_SECONDS:
        try:
            return ask()
        except Exception as error:  # every fsspec back end raises its own
            if not may_pass(error):
                raise
        time.sleep(seconds)
    return ask()
