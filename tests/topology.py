"""Services of ``docker/compose.yaml`` as processes of this machine, on free loopback ports."""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from tests.command import unconfigured
from tests.servers import free_ports

ROOT = Path(__file__).parents[1]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker/compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
PORTS = ("4200", "5432", "6379", "8333")
_PATIENCE_SECONDS = 60.0


class Topology:
    """Starts services as the compose file says, with names, ports and folders of one machine."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ports = dict(zip(PORTS, map(str, free_ports(len(PORTS))), strict=True))
        inner = [f"{part}.port{kind}" for part in ("master", "volume", "filer") for kind in ("", ".grpc")]
        inner.append("s3.port.grpc")
        self._inner_ports = [
            f"-{name}={port}" for name, port in zip(inner, free_ports(len(inner)), strict=True)
        ]
        self._stack = ExitStack()
        (folder / "docker").mkdir()
        script = shutil.copy(ROOT / "docker/make-secrets", folder / "docker")
        subprocess.run([script], check=True)
        self.secrets = folder / "docker/secrets"
        for secret in self.secrets.iterdir():
            text = self.local(secret.read_text())
            secret.chmod(0o600)
            secret.write_text(text)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()

    def local(self, text: str) -> str:
        """Translate names of hosts, ports and folders."""
        text = text.replace("/run/secrets", f"{self._folder}/docker/secrets")
        text = re.sub(rf"(?<![\w/-])({'|'.join(SERVICES)})(?=:\d|$)", "127.0.0.1", text)
        text = re.sub(rf"(?<=/)({'|'.join(SERVICES)})(?=:\d)", "127.0.0.1", text)
        text = text.replace("@redis:", "@127.0.0.1:").replace("0.0.0.0", "127.0.0.1").replace("$$", "$")
        return re.sub(rf"(?<!\d)({'|'.join(PORTS)})(?!\d)", lambda found: self._ports[found[0]], text)

    def environment(self, service: str) -> dict[str, str]:
        """Return the environment that a service gets, on top of this machine's."""
        home = self._folder / service
        home.mkdir(exist_ok=True)
        path = f"{ROOT / 'docker'}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        given = {name: self.local(value) for name, value in SERVICES[service].get("environment", {}).items()}
        return {**unconfigured(), "PATH": path, "PREFECT_HOME": str(home), **given}

    def command(self, service: str) -> list[str]:
        """Return a service's command line."""
        definition = SERVICES[service]
        image_entrypoint = ["with-secrets"] if definition["image"].startswith("advfeat:") else []
        words = [*definition.get("entrypoint", image_entrypoint), *definition["command"]]
        if service == "seaweedfs":
            words += self._inner_ports  # a container has its own; here they are the machine's
        return [self.local(word).replace("-dir=/data", f"-dir={self._folder / service}") for word in words]

    def start(self, service: str, extra: Mapping[str, str] | None = None) -> None:
        """Start a service in the background."""
        environment = {**self.environment(service), **(extra or {})}
        log = self._stack.enter_context((self._folder / f"{service}.log").open("wb"))
        process = subprocess.Popen(
            self.command(service), cwd=self._folder / service, env=environment, stdout=log, stderr=log
        )
        # Asked to end, SeaweedFS would take ten seconds.
        self._stack.callback(_kill if service == "seaweedfs" else _end, process)

    def keep(self, end: Callable[[], object]) -> None:
        """Do this at the end, before the services that were started earlier end."""
        self._stack.callback(end)

    def run(self, service: str) -> None:
        """Run a one-shot service to its end."""
        done = subprocess.run(
            self.command(service), env=self.environment(service), capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, f"{service}: {done.stdout}{done.stderr}"

    def healthy(self, service: str) -> bool:
        """Run a service's health check once."""
        kind, *words = map(self.local, SERVICES[service]["healthcheck"]["test"])
        done = subprocess.run(
            words if kind == "CMD" else ["sh", "-c", *words],
            env=self.environment(service),
            capture_output=True,
            check=False,
        )
        return done.returncode == 0

    def wait_until_healthy(self, service: str) -> None:
        """Wait for a service as compose does."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while not self.healthy(service):
            log = (self._folder / f"{service}.log").read_text()
            assert time.monotonic() < deadline, f"{service} is not healthy:\n{log}"
            time.sleep(0.5)


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        _kill(process)


def _kill(process: "subprocess.Popen[bytes]") -> None:
    process.kill()
    process.wait()
