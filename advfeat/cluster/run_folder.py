"""The temporary folder of one run, which is gone when the run is."""

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from advfeat.cluster.sockets import socket_place

_PREFIX = "advfeat."
"""As long as ``advfeat-``: paths of sockets below it are measured by that."""
_SECONDS_UNTIL_LOCKED = 60.0
_TRIES, _SECONDS_BETWEEN_TRIES = 20, 0.1


@contextlib.contextmanager
def folder_of_run() -> Iterator[Path]:
    """Give a new folder that its owner alone may look into, and delete it at the end.

    Folders of runs that were killed are deleted too. Not below ``.advfeat``: paths of sockets must be short.
    """
    place = socket_place()
    _delete_those_of_killed_runs(place)
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=place))
    try:
        with FileLock(folder / "lock"):
            yield folder
    finally:
        _delete(folder)


def _delete_those_of_killed_runs(place: Path) -> None:
    for folder in place.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError, Timeout):
            # A run takes its lock at once, but not in the same moment as its folder.
            is_old = time.time() - folder.stat().st_mtime > _SECONDS_UNTIL_LOCKED
            if is_old and folder.stat().st_uid == os.getuid():
                with FileLock(folder / "lock", blocking=False):
                    _delete(folder)


def _delete(folder: Path) -> None:
    """Delete a folder into which processes that end may still write."""
    for _ in range(_TRIES):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(_SECONDS_BETWEEN_TRIES)
