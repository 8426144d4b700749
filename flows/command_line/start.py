"""What ``advfeat`` runs first: nothing of the user's folders may stand in for what it imports."""

from advfeat.cluster.search_path import put_users_folders_last


def main() -> None:
    """Run the command line."""
    put_users_folders_last()
    from advfeat.flows.command_line.cli import main as command_line

    command_line()
