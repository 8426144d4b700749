"""What ``advfeat`` runs first: nothing of the user's folders may stand in for what it imports."""

import os
import warnings

from advfeat.cluster.environment import asking_loopback_directly, become
from advfeat.cluster.search_path import put_users_folders_last


def main() -> None:
    """Run the command line."""
    put_users_folders_last()
    become(asking_loopback_directly(os.environ) | {"DO_NOT_TRACK": "1"})
    _warn_as_python_does_by_itself()
    from advfeat.flows.command_line.cli import main as command_line

    command_line()


def _warn_as_python_does_by_itself() -> None:
    """Forget PYTHONWARNINGS, by which a warning of a library would end the run."""
    warnings.resetwarnings()
    for category in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
        warnings.simplefilter("ignore", category)
