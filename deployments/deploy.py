"""``python deployments/deploy.py NAME …``: make or renew what ``prefect.yaml`` names, as ``*-process``.

The file gives a deployment its first schedules. From then on they are its users' to change: what the server
has is left as it is, and what is paused stays paused. ``prefect deploy`` alone would put the file's schedules
in place of the server's, and resume, whenever a cluster starts.
"""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from advfeat.errors import AdvfeatError
from advfeat.flows.deployments import answering_server, paused_on_the_server

PREFECT_FILE = Path(__file__).with_name("prefect.yaml")


def as_switched(deployments: Sequence[Mapping[str, Any]], paused: Mapping[str, bool]) -> list[dict[str, Any]]:
    """Return the deployments without schedules where the server has them, and paused where they are."""
    switched = []
    for each in map(dict, deployments):
        if each["name"] in paused:
            each.pop("schedules", None)  # an empty list would delete the server's
            each["paused"] = paused[each["name"]]
        switched.append(each)
    return switched


def deploy(names: Sequence[str]) -> int:
    """Deploy what the patterns name; return the exit code of ``prefect deploy``.

    Raises ``InputError`` if no server is configured or it does not answer.
    """
    answering_server()  # without one, Prefect would deploy to a server that it starts and ends
    content = yaml.safe_load(PREFECT_FILE.read_text(encoding="utf-8"))
    paused = paused_on_the_server([each["name"] for each in content["deployments"]])
    content["deployments"] = as_switched(content["deployments"], paused)
    with TemporaryDirectory() as folder:
        file = Path(folder) / PREFECT_FILE.name
        file.write_text(yaml.safe_dump(content), encoding="utf-8")
        words = [word for name in names for word in ("--name", name)]
        command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--prefect-file", str(file)]
        return subprocess.run([*command, *words]).returncode


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("deploy.py: name what to deploy, such as '*-process' or regression-process")
    try:
        sys.exit(deploy(sys.argv[1:]))
    except AdvfeatError as error:
        sys.exit(f"deploy.py: {error}")
