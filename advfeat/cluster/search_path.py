"""Where Python looks for modules: in what is installed first, in the user's own folders last.

A ``secrets.py`` or ``tasks.py`` of the user's would else stand in for the standard library's, or another
package's, in servers and workers that never asked for it. Nothing is imported here but what Python itself
has loaded at its start: until this has run, the user's folders come first.
"""

import os
import sys

_INSTALLED = {"site-packages", "dist-packages"}
"""Folders of installed packages; clusters name theirs in PYTHONPATH too."""


def put_users_folders_last() -> None:
    """Look into the user's folders last, here; what this process starts does not look into them."""
    users = {os.path.realpath(entry) for entry in _entries() if not _is_installed(entry)}
    theirs = [entry for entry in sys.path if os.path.realpath(entry) in users]
    sys.path[:] = [entry for entry in sys.path if entry not in theirs] + theirs
    ours = without_users_folders()
    os.environ.pop("PYTHONPATH", None)
    os.environ |= ours


def without_users_folders() -> dict[str, str]:
    """Return the variables by which a Python that is started does not look into the user's folders.

    PYTHONPATH is one of them only if something is left of it: Ray adds to an empty one, and what then stands
    behind the last colon is the working folder.
    """
    installed = os.pathsep.join(filter(_is_installed, _entries()))
    return {"PYTHONSAFEPATH": "1"} | ({"PYTHONPATH": installed} if installed else {})


def _entries() -> list[str]:
    """Return the entries of PYTHONPATH; an empty one among others is the working folder, as Python has it."""
    given = os.environ.get("PYTHONPATH")
    return given.split(os.pathsep) if given else []


def _is_installed(entry: str) -> bool:
    return os.path.basename(os.path.normpath(entry)) in _INSTALLED  # noqa: PTH119
