"""What somebody without credentials gets from our servers, and where secrets show."""

import socket
import sqlite3
import ssl
import stat
from base64 import b64encode
from collections.abc import Iterable
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil

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
        for connection in process.net_connections("inet"):
            if connection.status == psutil.CONN_LISTEN:
                address, port = connection.laddr
                assert address.removeprefix("::ffff:") in ("127.0.0.1", "::1"), (address, line)
                if port not in self.ports:
                    self.ports[port] = line
                    assert_refuses_strangers(port, line)


def assert_refuses_strangers(port: int, line: str) -> None:
    """Ask a port as somebody without credentials: a Prefect server's, one of SeaweedFS's or of Ray's."""
    if "prefect server start" in line:
        api = f"http://127.0.0.1:{port}/api"
        for headers in ({}, {"Authorization": f"Basic {b64encode(b'advfeat:guessed').decode()}"}):
            answers = (
                httpx.get(f"{api}/admin/settings", headers=headers, timeout=_SECONDS),
                httpx.post(f"{api}/flow_runs/filter", json={}, headers=headers, timeout=_SECONDS),
            )
            assert {answer.status_code for answer in answers} == {401}
    elif f"-s3.port={port}" in line:
        assert httpx.get(f"http://127.0.0.1:{port}/advfeat", timeout=_SECONDS).status_code == 403
    elif "-config_dir=" in line:
        assert _refuses_without_certificate(port)
    elif line.endswith(" flows.serve"):
        # Prefect's channel to the processes of its flows, each of which shows a token of its own.
        assert _grpc_status(port, "/") is None
    elif "RuntimeEnvAgent" in line:
        assert httpx.get(f"http://127.0.0.1:{port}/", timeout=_SECONDS).status_code == 401
    else:
        answers_of_ray = {method: _grpc_status(port, f"/ray.rpc.{method}") for method in _RAY_METHODS}
        assert set(answers_of_ray.values()) <= {_UNAUTHENTICATED, _UNIMPLEMENTED}, (answers_of_ray, line)
        assert _UNAUTHENTICATED in answers_of_ray.values(), line


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


def _grpc_status(port: int, method: str) -> str | None:
    """Call a method over gRPC with an empty message; return the number of the error in answer, if any."""
    headers = {"Content-Type": "application/grpc", "TE": "trailers"}
    with httpx.Client(http1=False, http2=True, timeout=_SECONDS) as client, suppress(httpx.TransportError):
        answer = client.post(f"http://127.0.0.1:{port}{method}", content=bytes(5), headers=headers)
        status: str | None = answer.headers.get("grpc-status")
        return status
    return None


def _refuses_without_certificate(port: int) -> bool:
    """Tell whether a port speaks TLS alone, and not with those who show no certificate."""
    with socket.create_connection(("127.0.0.1", port), _SECONDS) as plain:
        plain.sendall(b"GET / HTTP/1.0\r\n\r\n")
        if b" 200 " in plain.recv(100):
            return False
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2", "http/1.1"])
    try:
        with (
            socket.create_connection(("127.0.0.1", port), _SECONDS) as plain,
            context.wrap_socket(plain) as encrypted,
        ):
            encrypted.sendall(b"GET / HTTP/1.0\r\n\r\n")
            encrypted.recv(100)  # in TLS 1.3 it is now that a client hears of its refusal
    except ssl.SSLError as refusal:
        return "CERTIFICATE_REQUIRED" in str(refusal)
    return False
