"""What ``advfeat`` runs first: nothing of the user's folders may stand in for what it imports."""

import os
import sys

from advfeat.cluster.search_path import put_users_folders_last


def main() -> None:
    """Run the command line."""
    if os.environ.pop("PYTHONINSPECT", None):  # by which Python would not end, and lose the exit code
        os.execv(sys.executable, sys.orig_argv)
    try:
        os.getcwd()  # pathlib may be the user's yet
    except FileNotFoundError:
        print("advfeat: folder: '.' was deleted; change to one that is there", file=sys.stderr)
        sys.exit(2)
    put_users_folders_last()
    from advfeat.cluster.environment import settle

    settle()
    _warn_as_python_does_by_itself()
    from advfeat.flows.command_line.cli import main as command_line

    command_line()


def _warn_as_python_does_by_itself() -> None:
    """Forget PYTHONWARNINGS, by which a warning of a library would end the run."""
    import warnings

    warnings.resetwarnings()
    for category in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
        warnings.simplefilter("ignore", category)
