"""``docker/compose.yaml`` on an engine of this machine, from a copy of the repository with own secrets."""

import json
import os
import shutil
import subprocess
import time
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
DOCKER = os.environ.get("DOCKER", "docker")
PROJECT = "advfeat-test"
SERVERS = ("postgres", "redis", "prefect-server", "prefect-services", "seaweedfs")
"""What a run outlives."""
_COPIED = ("pyproject.toml", "constraints.txt", "README.md", "LICENSE", "advfeat", "tasks", "flows", "docker")
_ENDED = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")


def missing_engine() -> str | None:
    """Say why no container can run here; None if one can."""
    if shutil.which(DOCKER) is None:
        return f"there is no {DOCKER}; DOCKER names another program"
    asked = subprocess.run([DOCKER, "info"], capture_output=True, text=True)
    if asked.returncode:
        return f"{DOCKER} info: {asked.stderr.strip().splitlines()[-1]}"
    return None


class Containers:
    """The services of the Compose file."""

    def __init__(self, folder: Path) -> None:
        for name in (*_COPIED, "deployments"):
            source = ROOT / name
            if source.is_dir():
                ignored = shutil.ignore_patterns("__pycache__", "secrets")
                shutil.copytree(source, folder / name, ignore=ignored)
            else:
                shutil.copy(source, folder / name)
        self.folder, self.secrets = folder, folder / "docker" / "secrets"
        run([folder / "docker" / "make-secrets"])
        self._compose = [DOCKER, "compose"]
        if subprocess.run([*self._compose, "version"], capture_output=True).returncode:
            # The first Compose knows no names of projects; all else is the file as it is.
            self._compose = ["docker-compose"]
            file = folder / "docker" / "compose.yaml"
            file.write_text(file.read_text().replace("\nname: advfeat\n", "\n"))

    def build(self, revision: str) -> None:
        """Build the image; ``BUILD_OPTIONS`` says what this machine needs besides."""
        options = os.environ.get("BUILD_OPTIONS", "").split()
        image = [
            "--file",
            "docker/Dockerfile",
            "--tag",
            "advfeat:0.1.0-cpu",
            "--build-arg",
            f"REVISION={revision}",
        ]
        run([DOCKER, "build", *options, *image, "."], cwd=self.folder, DOCKER_BUILDKIT="1")

    def compose(self, *arguments: str) -> str:
        """Run a command of Compose on the file."""
        file = ["--project-name", PROJECT, "--file", "docker/compose.yaml"]
        return run([*self._compose, *file, *arguments], cwd=self.folder)

    def up(self) -> None:
        """Start what is not running, or not of the newest image, and wait until all of it is healthy."""
        self.compose("up", "--detach", "--no-build")
        wait_until(lambda: all(self.health(name) in ("healthy", "done") for name in self.containers()), 300)

    def containers(self, service: str | None = None) -> list[str]:
        """Return the names of the containers, or of those of a service."""
        of_service = [] if service is None else ["--filter", f"label=com.docker.compose.service={service}"]
        return run([DOCKER, "ps", "--all", *of_project(), *of_service, "--format", "{{.Names}}"]).split()

    def health(self, container: str) -> str:
        """Return the health of a container, or ``done`` of one that has done its work."""
        (state,) = json.loads(run([DOCKER, "inspect", "--format", "[{{json .State}}]", container]))
        if state["Status"] == "exited" and state["ExitCode"] == 0:
            return "done"
        health: str = state.get("Health", {}).get("Status", state["Status"])
        return health

    def starts(self, service: str) -> int:
        """Return how often the engine has started containers of a service again by itself."""
        found = [
            run([DOCKER, "inspect", "--format", "{{.RestartCount}}", c]) for c in self.containers(service)
        ]
        return sum(map(int, found))

    def restart(self, service: str) -> None:
        """Restart all containers of a service; who needs them healthy waits for it."""
        for container in self.containers(service):
            run([DOCKER, "restart", container])

    def kill(self, container: str) -> None:
        """Kill a container, as a machine that loses its power; nobody starts it again."""
        run([DOCKER, "kill", "--signal", "KILL", container])

    def api(self, path: str, content: object = None) -> Any:
        """Ask the Prefect server, as somebody on this machine does."""
        login = b64encode((self.secrets / "prefect_auth").read_bytes().strip()).decode()
        request = urllib.request.Request(
            f"http://127.0.0.1:4200/api/{path}",
            data=None if content is None else json.dumps(content).encode(),
            headers={"Authorization": f"Basic {login}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read() or b"null")

    def start(self, deployment: str, parameters: object) -> str:
        """Start a run of a deployment; return its id."""
        flow, _, name = deployment.partition("/")
        found = self.api(f"deployments/name/{flow}/{name}")
        started: str = self.api(f"deployments/{found['id']}/create_flow_run", {"parameters": parameters})[
            "id"
        ]
        return started

    def state(self, run_id: str) -> str:
        """Return the type of a run's state."""
        state: str = self.api(f"flow_runs/{run_id}")["state_type"]
        return state

    def end_of(self, run_id: str) -> str:
        """Wait until a run has ended, and return the type of its state."""
        wait_until(lambda: self.state(run_id) in _ENDED, 600)
        return self.state(run_id)

    def ended_at(self, run_id: str) -> datetime:
        """Return when a run ended."""
        return datetime.fromisoformat(self.api(f"flow_runs/{run_id}")["end_time"])

    def logs(self, run_id: str) -> str:
        """Return the last lines that a run logged."""
        wanted = {"logs": {"flow_run_id": {"any_": [run_id]}}, "sort": "TIMESTAMP_DESC", "limit": 60}
        return "\n".join(entry["message"] for entry in reversed(self.api("logs/filter", wanted)))

    def down(self) -> list[str]:
        """End everything; return what is left of it."""
        self.compose("down", "--volumes", "--timeout", "30")
        listings = (["ps", "--all"], ["volume", "ls"], ["network", "ls"])
        return [
            line for words in listings for line in run([DOCKER, *words, *of_project(), "--quiet"]).split()
        ]


def of_project() -> list[str]:
    """Return the options that choose what belongs to this project."""
    return ["--filter", f"label=com.docker.compose.project={PROJECT}"]


def run(command: Sequence[str | Path], cwd: Path | None = None, **variables: str) -> str:
    """Run a command that must succeed; return what it printed."""
    done = subprocess.run(
        command, cwd=cwd, env={**os.environ, **variables}, capture_output=True, text=True, timeout=1800
    )
    assert done.returncode == 0, f"{command}:\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
    return done.stdout


def wait_until(condition: Callable[[], bool], seconds: float) -> None:
    """Wait until a condition holds; a server that is away at the moment holds none."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            if condition():
                return
        except OSError:
            pass
        assert time.monotonic() < deadline, "it lasts too long"
        time.sleep(1)
