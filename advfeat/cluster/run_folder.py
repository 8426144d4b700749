"""The temporary folder of one run, which is gone when the run is."""

import contextlib
import os
import re
import shutil
import stat
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
            is_old = time.time() - folder.lstat().st_mtime > _SECONDS_UNTIL_LOCKED
            if is_old and _is_of_a_run(folder):
                with FileLock(folder / "lock", blocking=False):
                    _delete(folder)


def _is_of_a_run(folder: Path) -> bool:
    """Tell whether a run made a folder, and not a user, who may call one ``advfeat.git``."""
    found = folder.lstat()
    is_private = stat.S_ISDIR(found.st_mode) and stat.S_IMODE(found.st_mode) == 0o700
    is_named_by_us = re.fullmatch(r"[a-z0-9_]{8}", folder.name.removeprefix(_PREFIX)) is not None
    return is_private and is_named_by_us and found.st_uid == os.getuid() and (folder / "lock").is_file()


def _delete(folder: Path) -> None:
    """Delete a folder into which processes that end may still write."""
    for _ in range(_TRIES):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(_SECONDS_BETWEEN_TRIES)
