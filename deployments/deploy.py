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
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterName, DeploymentFilterTags

PREFECT_FILE = Path(__file__).with_name("prefect.yaml")


def paused_on_the_server(names: Sequence[str]) -> dict[str, bool]:
    """Return which of the deployments the server has, and of each whether it is paused."""
    ours = DeploymentFilter(
        name=DeploymentFilterName(any_=list(names)), tags=DeploymentFilterTags(all_=["advfeat"])
    )
    with get_client(sync_client=True) as client:
        return {found.name: found.paused for found in client.read_deployments(deployment_filter=ours)}


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
    """Deploy what the patterns name; return the exit code of ``prefect deploy``."""
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
    sys.exit(deploy(sys.argv[1:]))
