"""Who is told of SIGTERM, by which Prefect cancels a run and users end a command."""

import contextlib
import signal
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def sigterm_kept() -> Iterator[None]:
    """Give the signal back to whom it belongs once Ray, which takes it, is connected.

    Ray would end the process where it stands, with a report of a crash and what it started left behind.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # where Ray takes no signals, nor could they be given back
        return
    told = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, told)
