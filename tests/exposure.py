"""What somebody without credentials gets from our servers, and where secrets show."""

import json
import socket
import sqlite3
import stat
import time
from base64 import b64encode
from collections.abc import Iterable
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.command import Command

# One method of each service that some part of Ray offers.
_RAY_METHODS = (
    "InternalKVGcsService/InternalKVKeys",
    "NodeManagerService/GetNodeStats",
    "ObjectManagerService/Pull",
    "CoreWorkerService/GetCoreWorkerStats",
    "RayletDriver/ClusterInfo",
    "ReporterService/GetTraceback",
)
_UNAUTHENTICATED, _UNIMPLEMENTED = "16", "12"  # as gRPC numbers its answers
_SECONDS = 10.0


@dataclass
class Exposure:
    """What processes show of themselves, gathered while they run."""

    secrets: set[str] = field(default_factory=set)
    ports: dict[int, str] = field(default_factory=dict)
    """What listened, with the command line of one that did."""
    folders: set[Path] = field(default_factory=set)
    """Where servers keep their logs, data and secrets."""

    def look(self, processes: Iterable[psutil.Process]) -> None:
        """Note what some processes show now: ports of the loopback interface alone, and no secret."""
        for process in processes:
            with suppress(psutil.Error):
                self._look_at(process)

    def _look_at(self, process: psutil.Process) -> None:
        line = " ".join(process.cmdline())
        self.secrets |= {
            secret
            for name, secret in process.environ().items()
            if name in ("RAY_AUTH_TOKEN", "AWS_SECRET_ACCESS_KEY")
        }
        assert not [secret for secret in self.secrets if secret in line], process
        self.folders |= {
            Path(word.partition("=")[2])
            for word in process.cmdline()
            if word.startswith(("--session_dir=", "-config_dir="))
        }
        if "prefect server start" in line:
            self.folders.add(Path(process.environ()["PREFECT_HOME"]))
        for connection in process.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN:
                address, port = connection.laddr
                assert address.removeprefix("::ffff:") in ("127.0.0.1", "::1"), (address, line)
                if port not in self.ports and refuses_strangers(port, line):
                    self.ports[port] = line


def run_and_look(
    command: Command, *arguments: str, secrets: set[str], servers: psutil.Process | None = None
) -> tuple[Any, Exposure]:
    """Run ``advfeat run`` to its end and look meanwhile at all that this process and ``servers`` started."""
    exposure = Exposure(set(secrets))
    process = command.start(["run", "--json", *arguments])
    while process.poll() is None:
        for starter in filter(None, (psutil.Process(), servers)):
            exposure.look(starter.children(recursive=True))
        time.sleep(1)
    stdout, stderr = process.communicate()
    assert process.returncode == 0, stderr
    assert not [secret for secret in exposure.secrets if secret in stdout + stderr]
    return json.loads(stdout), exposure


def refuses_strangers(port: int, line: str) -> bool:
    """Ask a port as somebody without credentials: a Prefect server's, one of SeaweedFS's or of Ray's.

    Returns whether it refused, or did not answer: it may still start, or have ended. Raises if it served.
    """
    try:
        if "prefect server start" in line:
            _ask_prefect(f"http://127.0.0.1:{port}/api")
        elif f"-s3.port={port}" in line:
            assert httpx.get(f"http://127.0.0.1:{port}/advfeat", timeout=_SECONDS).status_code == 403
        elif "-config_dir=" in line:
            _ask_without_certificate(port)
        elif "RuntimeEnvAgent" in line:
            assert httpx.get(f"http://127.0.0.1:{port}/", timeout=_SECONDS).status_code == 401
        elif not line.endswith(
            " advfeat.flows.serve"
        ):  # its port is for flows' processes, by tokens of Prefect
            _ask_ray(port)
    except (httpx.TransportError, OSError):
        return False
    return True


def _ask_prefect(api: str) -> None:
    for headers in ({}, {"Authorization": f"Basic {b64encode(b'advfeat:guessed').decode()}"}):
        settings = httpx.get(f"{api}/admin/settings", headers=headers, timeout=_SECONDS)
        runs = httpx.post(f"{api}/flow_runs/filter", json={}, headers=headers, timeout=_SECONDS)
        assert settings.status_code == runs.status_code == 401


def _ask_without_certificate(port: int) -> None:
    """Assert that a port speaks TLS alone, and not with those who show no certificate."""
    with socket.create_connection(("127.0.0.1", port), _SECONDS) as plain:
        plain.sendall(b"GET / HTTP/1.0\r\n\r\n")
        answer = plain.recv(1000)
    assert not answer.startswith(b"HTTP/") or b"to an HTTPS server" in answer
    for scheme, http1 in (("http", False), ("https", True)):
        with (
            httpx.Client(verify=False, http1=http1, http2=True, timeout=_SECONDS) as stranger,
            pytest.raises(httpx.TransportError),
        ):
            stranger.get(f"{scheme}://127.0.0.1:{port}/")


def _ask_ray(port: int) -> None:
    """Call one method of each service with an empty message, over gRPC."""
    headers = {"Content-Type": "application/grpc", "TE": "trailers"}
    with httpx.Client(http1=False, http2=True, verify=False, timeout=_SECONDS, headers=headers) as client:
        answers = {
            method: client.post(f"http://127.0.0.1:{port}/ray.rpc.{method}", content=bytes(5)).headers.get(
                "grpc-status"
            )
            for method in _RAY_METHODS
        }
    assert set(answers.values()) == {_UNAUTHENTICATED, _UNIMPLEMENTED}, answers


def files_with(secrets: Iterable[str], *roots: Path) -> list[Path]:
    """Return the files that hold one of some secrets, as it is or as HTTP sends it; SQLite is read, too."""
    wanted = [form for secret in secrets for form in (secret.encode(), b64encode(secret.encode()))]
    found = []
    for root in roots:
        for file in filter(Path.is_file, root.rglob("*")):
            content = file.read_bytes()
            if content.startswith(b"SQLite format 3"):
                content += "\n".join(_rows(file)).encode()
            if any(form in content for form in wanted):
                found.append(file)
    return found


def assert_private(file: Path) -> None:
    """Assert that nobody but its owner can read a file, or look into its folder."""
    assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700, file.parent


def _rows(database: Path) -> list[str]:
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        return list(connection.iterdump())
