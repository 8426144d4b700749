"""Files of a store on this machine: whole or not there, and none outside of it."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from advfeat.errors import DamagedArtifactError


def check_file(path: Path, folder: Path) -> None:
    """Raise ``DamagedArtifactError`` unless a path is a regular file inside of the folder, or nothing.

    Whoever may write to a store could make us read or write elsewhere on this machine, or wait for ever at
    a pipe. The folder itself may be a link.
    """
    real = _where_it_leads(path, folder)
    if real.exists() and not real.is_file():
        raise DamagedArtifactError(f"{path.name} is no regular file")


def check_folder(path: Path, folder: Path) -> None:
    """Raise ``DamagedArtifactError`` unless a path is a folder inside of the folder, or nothing."""
    real = _where_it_leads(path, folder)
    if real.exists() and not real.is_dir():
        raise DamagedArtifactError(f"{path.name} is no folder")


def _where_it_leads(path: Path, folder: Path) -> Path:
    real = Path(os.path.realpath(path))  # Path.resolve raises where links lead in a circle
    if not real.is_relative_to(os.path.realpath(folder)):
        raise DamagedArtifactError(f"{path.name} is a link that leads out of the store")
    if path.is_symlink() and not real.exists():
        raise DamagedArtifactError(f"{path.name} is a link that leads nowhere")
    return real


@contextmanager
def complete_file(target: Path) -> Iterator[Path]:
    """Give a path beside ``target`` to write to; what was written there replaces it in one step."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.parent / f".{uuid.uuid4().hex}"
    try:
        yield partial
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
