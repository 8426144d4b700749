"""What ``advfeat`` runs first: nothing of the user's folders may stand in for what it imports."""

import warnings

from advfeat.cluster.environment import settle
from advfeat.cluster.search_path import put_users_folders_last


def main() -> None:
    """Run the command line."""
    put_users_folders_last()
    settle()
    _warn_as_python_does_by_itself()
    from advfeat.flows.command_line.cli import main as command_line

    command_line()


def _warn_as_python_does_by_itself() -> None:
    """Forget PYTHONWARNINGS, by which a warning of a library would end the run."""
    warnings.resetwarnings()
    for category in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
        warnings.simplefilter("ignore", category)
