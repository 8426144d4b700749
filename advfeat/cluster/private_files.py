"""Files and folders that their owner alone can read: where secrets lie."""

import os
import stat
from pathlib import Path

from advfeat.errors import InputError, ServerStartError


def write_private(path: Path, text: str) -> None:
    """Write a file of mode 600, whole or not at all."""
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    draft.replace(path)


def private_folder(path: Path) -> Path:
    """Make a folder of mode 700, or find it.

    Raises ``InputError`` if it cannot be made, ``ServerStartError`` if it is somebody else's.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            "folder",
            str(path),
            f"cannot be made ({error.strerror})",
            "work in a folder that you may write to",
        ) from error
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise ServerStartError(f"{path} is not a folder of yours, so secrets cannot lie there; remove it")
    path.chmod(0o700)
    return path
