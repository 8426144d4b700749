"""Runs ``advfeat`` as a user types it, with nothing configured but what is given."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

_CONFIGURATION = ("ADVFEAT_", "PREFECT_", "RAY_", "AWS_")


def advfeat(arguments: Sequence[str], folder: Path, variables: Mapping[str, str] | None = None) -> str:
    """Run it in a folder and return what it printed; raises ``CalledProcessError`` if it fails."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith(_CONFIGURATION)}
    command = [str(Path(sys.executable).parent / "advfeat"), *arguments]
    environment = {**plain, **(variables or {})}
    return subprocess.run(
        command, cwd=folder, env=environment, check=True, capture_output=True, text=True
    ).stdout


def assigned(settings: Sequence[str]) -> list[str]:
    """Return the words that set some fields."""
    return [word for setting in settings for word in ("--set", setting)]
