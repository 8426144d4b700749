"""Files of a store on this machine: whole or not there, and none outside of it."""

import logging
import os
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from advfeat.errors import DamagedArtifactError

logger = logging.getLogger(__name__)


def check_file(path: Path, folder: Path) -> None:
    """Raise ``DamagedArtifactError`` unless a path is a regular file inside of the folder, or nothing.

    Whoever may write to a store could make us read or write elsewhere on this machine, or wait for ever at
    a pipe. The folder itself may be a link.
    """
    real = _where_it_leads(path, folder)
    if real.exists() and not real.is_file():
        raise DamagedArtifactError(f"{path.name} is not a regular file")


def check_folder(path: Path, folder: Path) -> None:
    """Raise ``DamagedArtifactError`` unless a path is a folder inside of the folder, or nothing."""
    real = _where_it_leads(path, folder)
    if real.exists() and not real.is_dir():
        raise DamagedArtifactError(f"{path.name} is not a folder")


def is_plain_folder(path: str) -> bool:
    """Tell whether a folder is there and no link stands for it: then it is inside of the one it lies in."""
    with suppress(OSError):
        return stat.S_ISDIR(os.lstat(path).st_mode)
    return False


def _where_it_leads(path: Path, folder: Path) -> Path:
    if _is_plainly_inside(os.fspath(path), os.fspath(folder)):
        return path
    real = Path(os.path.realpath(path))  # Path.resolve raises where links lead in a circle
    if not real.is_relative_to(os.path.realpath(folder)):
        raise DamagedArtifactError(f"{path.name} is a link that leads out of the store")
    if path.is_symlink() and not real.exists():
        raise DamagedArtifactError(f"{path.name} is a link that leads nowhere")
    return real


def _is_plainly_inside(path: str, folder: str) -> bool:
    """Tell whether a path leads below a folder without links; the folder itself may be one."""
    if not path.startswith(f"{folder}/") or "/../" in f"{path}/":
        return False
    while path != folder:
        if os.path.islink(path):  # noqa: PTH114  # of thousands of paths
            return False
        path = path.rpartition("/")[0]
    return True


@contextmanager
def complete_file(target: Path) -> Iterator[Path]:
    """Give a path beside ``target`` to write to; what was written there replaces it in one step."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.parent / f".{uuid.uuid4().hex}"
    try:
        yield partial
        set_folder_aside(target)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def create_exclusively(target: Path, content: bytes) -> None:
    """Create a local file whole or not at all; ``FileExistsError`` if it is already there."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.parent / f".{uuid.uuid4().hex}"
    partial.write_bytes(content)
    try:
        target.hardlink_to(partial)
    finally:
        partial.unlink()


def set_folder_aside(path: Path) -> None:
    """Make room for a file where a folder lies: an empty one goes, another keeps what it holds elsewhere."""
    if path.is_symlink() or not path.is_dir():
        return
    with suppress(OSError):
        path.rmdir()
    aside = path.with_name(f".{uuid.uuid4().hex}")
    # Path drops the slash, which stands for a folder: a file that somebody has put there meanwhile stays.
    with suppress(FileNotFoundError, NotADirectoryError):
        os.rename(f"{path}/", aside)  # noqa: PTH104
        logger.warning("%s was a folder in a file's place; what it holds is in %s now", path, aside)
